#include "base/log.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "log_sink.h"

enum { MAX_FIELD = 1024, MAX_LINE = 16 * 1024 };

struct log {
    struct log_sink sink;
    enum log_level level;
    enum log_style style;
};

struct level_name {
    struct slice name;
    const char *label, *color;
};

static const struct level_name levels[] = {
    [LOG_OFF] = {SLICE_INIT("off"), "", ""},
    [LOG_ERROR] = {SLICE_INIT("error"), "ERROR", "\033[31m"},
    [LOG_WARN] = {SLICE_INIT("warn"), "WARN ", "\033[33m"},
    [LOG_INFO] = {SLICE_INIT("info"), "INFO ", "\033[32m"},
    [LOG_DEBUG] = {SLICE_INIT("debug"), "DEBUG", "\033[36m"},
    [LOG_TRACE] = {SLICE_INIT("trace"), "TRACE", "\033[35m"},
};

static const struct slice styles[] = {
    [LOG_STYLE_TEXT] = SLICE_INIT("text"),
    [LOG_STYLE_COLOR] = SLICE_INIT("color"),
    [LOG_STYLE_JSON] = SLICE_INIT("json"),
};

struct log *log_new(int fd, enum log_level level, enum log_style style) {
    struct log *log = mem_xalloc(sizeof *log);
    log->level = level;
    log->style = style;
    log_sink_init(&log->sink, fd);
    return log;
}

struct log *log_free(struct log *log) {
    if (log != NULL)
        log_sink_deinit(&log->sink);
    mem_free(log);
    return NULL;
}

bool log_is_on(const struct log *log, enum log_level level) {
    return log != NULL && level <= log->level;
}

int log_level_parse(struct slice text, enum log_level *ret_level) {
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (slice_eq(text, levels[i].name)) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

int log_style_parse(struct slice text, enum log_style *ret_style) {
    for (size_t i = 0; i < ARRAY_LEN(styles); i++) {
        if (slice_eq(text, styles[i])) {
            *ret_style = (enum log_style)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* C0, DEL and C1 controls, and what turns the direction of text around: a terminal would act on
 * them. */
static bool is_unsafe(uint32_t code_point) {
    return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0) ||
           (code_point >= 0x202a && code_point <= 0x202e) ||
           (code_point >= 0x2066 && code_point <= 0x2069) || code_point == 0x2028 ||
           code_point == 0x2029;
}

int log_escape(struct buf *out, struct slice bytes, size_t max) {
    bool cut = bytes.len > max;
    bytes = utf8_truncate(bytes, max);
    while (bytes.len != 0) {
        uint32_t code_point = 0;
        size_t len = utf8_decode(bytes, &code_point);
        if (len != 0 && !is_unsafe(code_point)) {
            buf_append(out, slice_make(bytes.ptr, len));
        } else {
            len = len != 0 ? len : 1;
            for (size_t i = 0; i < len; i++)
                buf_printf(out, "\\x%02x", (unsigned)(unsigned char)bytes.ptr[i]);
        }
        bytes = slice_from(bytes, len);
    }
    return cut ? buf_append_cstr(out, "\u2026") : buf_error(out);
}

/* What log_escape() leaves is printable; in JSON only the quote and the backslash are still to be
 * escaped. */
static void append_json_string(struct buf *out, struct slice text) {
    struct buf safe = BUF_INIT(MAX_LINE);
    int error = log_escape(&safe, text, MAX_FIELD);
    /* A value that could not be written is not to look like an empty one. */
    struct slice rest = error == 0 ? buf_slice(&safe) : SLICE("(no memory)");
    buf_append_byte(out, '"');
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.ptr[i] == '"' || rest.ptr[i] == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, rest.ptr[i]);
    }
    buf_append_byte(out, '"');
    buf_deinit(&safe);
}

static void format_json(struct buf *out, const char *time, enum log_level level, const char *module,
                        const char *message, const struct log_field *fields) {
    buf_printf(out, "{\"time\":\"%s\",\"level\":\"%s\",\"module\":\"%s\",\"message\":", time,
               levels[level].name.ptr, module);
    append_json_string(out, slice_from_cstr(message));
    for (; fields->key != NULL; fields++) {
        buf_printf(out, ",\"%s\":", fields->key);
        if (fields->text.ptr != NULL)
            append_json_string(out, fields->text);
        else
            buf_printf(out, "%lld", (long long)fields->number);
    }
    buf_append_cstr(out, "}\n");
}

/* A value with a space or a quote stands between quotes, so that fields can be told apart. */
static void append_text_value(struct buf *out, struct slice value) {
    bool quote = value.len == 0 || slice_find_byte(value, ' ') != SIZE_MAX ||
                 slice_find_byte(value, '"') != SIZE_MAX || slice_find_byte(value, '=') != SIZE_MAX;
    if (quote)
        append_json_string(out, value);
    else
        log_escape(out, value, MAX_FIELD);
}

static void format_text(struct buf *out, bool color, const char *time, enum log_level level,
                        const char *module, const char *message, const struct log_field *fields) {
    buf_printf(out, "%s %s%s%s %s: ", time, color ? levels[level].color : "", levels[level].label,
               color ? "\033[0m" : "", module);
    log_escape(out, slice_from_cstr(message), MAX_FIELD);
    for (; fields->key != NULL; fields++) {
        buf_printf(out, color ? " \033[2m%s=\033[0m" : " %s=", fields->key);
        if (fields->text.ptr != NULL)
            append_text_value(out, fields->text);
        else
            buf_printf(out, "%lld", (long long)fields->number);
    }
    buf_append_byte(out, '\n');
}

static int format(struct log *log, struct buf *line, enum log_level level, const char *module,
                  const char *message, const struct log_field *fields) {
    char time[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(clock_wall_ms(), time);
    if (log->style == LOG_STYLE_JSON)
        format_json(line, time, level, module, message, fields);
    else
        format_text(line, log->style == LOG_STYLE_COLOR, time, level, module, message, fields);
    return buf_error(line);
}

/* Lines that could not be written are not kept, but nobody shall believe that there were none. */
static void tell_lost(struct log *log) {
    int reason = 0;
    uint64_t n_lost = log_sink_take_lost(&log->sink, &reason);
    if (LIKELY(n_lost == 0))
        return;
    const struct log_field fields[] = {LOG_NUM("lines", n_lost),
                                       LOG_CSTR("reason", strerror(reason)), LOG_END_FIELD_};
    struct buf line = BUF_INIT(MAX_LINE);
    int error = format(log, &line, LOG_WARN, "log",
                       "lines of this log were lost: they could not be written", fields);
    if (error != 0 || !log_sink_write(&log->sink, buf_slice(&line)))
        log_sink_lose(&log->sink, n_lost, -error);
    buf_deinit(&line);
}

void log_event(struct log *log, enum log_level level, const char *module, const char *message,
               const struct log_field *fields) {
    if (!log_is_on(log, level))
        return;
    struct buf line = BUF_INIT(4 * MAX_LINE);
    tell_lost(log);
    int error = format(log, &line, level, module, message, fields);
    if (error != 0 || !log_sink_write(&log->sink, buf_slice(&line)))
        log_sink_lose(&log->sink, 1, -error);
    buf_deinit(&line);
}
