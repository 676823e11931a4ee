/*
 * The log: one event is a level, a module, a sentence, and fields (key, value). Style text or color
 * for people, json for programs: one line an event, on stderr. Bytes of peers are escaped here
 * (control characters, invalid UTF-8), long values are cut, and secrets never come here at all
 * (secret.h).
 *
 * A struct log is made once by main() and handed down; it may be used by any thread. Nobody waits
 * for it: a line that cannot be written now (full disk, full or closed pipe) is lost and counted,
 * and the next line that can be written says how many were. Functions accept a NULL log and then
 * write nothing, which is what unit tests pass.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };
enum log_style { LOG_STYLE_TEXT, LOG_STYLE_COLOR, LOG_STYLE_JSON };

struct log; /* opaque */

/* `fd` stays the caller's. */
struct log *log_new(int fd, enum log_level level, enum log_style style);
struct log *log_free(struct log *log);
bool log_is_on(const struct log *log, enum log_level level);

struct log_field {
    const char *key;   /* not time, level, module or message: a JSON line has those already */
    struct slice text; /* used when ptr is not NULL, else number */
    int64_t number;
};

/* An empty slice may have a NULL ptr, which in a field means a number. */
static inline struct slice log_text(struct slice text) {
    return slice_make(text.ptr != NULL ? text.ptr : "", text.len);
}

#define LOG_TEXT(k, s) ((struct log_field){.key = (k), .text = log_text(s)})
#define LOG_CSTR(k, s) ((struct log_field){.key = (k), .text = slice_from_cstr(s)})
#define LOG_NUM(k, n)  ((struct log_field){.key = (k), .number = (int64_t)(n)})

/* `fields` ends with an entry whose key is NULL. Use the macro. */
void log_event(struct log *log, enum log_level level, const char *module, const char *message,
               const struct log_field *fields);

/* log_write(log, LOG_WARN, "upstream", "restarting", LOG_TEXT("name", name), LOG_NUM("delay_ms",
 * 100)); */
#define log_write(log, level, module, ...)                                                         \
    do {                                                                                           \
        if (log_is_on((log), (level)))                                                             \
            LOG_EVENT_((log), (level), (module), __VA_ARGS__, LOG_END_FIELD_);                     \
    } while (0)

#define LOG_END_FIELD_ ((struct log_field){.key = NULL})
#define LOG_EVENT_(log, level, module, message, ...)                                               \
    log_event((log), (level), (module), (message), (const struct log_field[]){__VA_ARGS__})

/* "off", "error", "warn", "info", "debug", "trace". 0 or -EINVAL. */
MUST_CHECK int log_level_parse(struct slice text, enum log_level *ret_level);
/* "text", "color", "json". 0 or -EINVAL. */
MUST_CHECK int log_style_parse(struct slice text, enum log_style *ret_style);

/* Appends `bytes` made safe for a terminal: controls, DEL and invalid UTF-8 as \xNN, cut with "…"
 * at `max`. */
struct buf;
int log_escape(struct buf *out, struct slice bytes, size_t max);
