/* The log's three styles. What the JSON style writes is read back with the strict reader. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "json/reader.h"
#include "test.h"

/* A log that writes into a pipe. */
struct sink {
    int fds[2];
    struct log *log;
    struct buf text;
};

static bool sink_open(struct sink *sink, enum log_level level, enum log_style style) {
    *sink = (struct sink){.text = BUF_INIT(KIB(64))};
    if (pipe2(sink->fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    sink->log = log_new(sink->fds[1], level, style);
    return true;
}

/* What was written since the last call. */
static struct slice sink_read(struct sink *sink) {
    char chunk[4096];
    ssize_t n;
    buf_reset(&sink->text, KIB(64));
    while ((n = read(sink->fds[0], chunk, sizeof chunk)) > 0)
        buf_append(&sink->text, slice_make(chunk, (size_t)n));
    return buf_slice(&sink->text);
}

static void sink_close(struct sink *sink) {
    sink->log = log_free(sink->log);
    buf_deinit(&sink->text);
    close(sink->fds[0]);
    close(sink->fds[1]);
}

static void test_levels(void) {
    static const char *const names[] = {"off", "error", "warn", "info", "debug", "trace"};
    struct sink sink;
    for (int on = LOG_OFF; on <= LOG_TRACE; on++) {
        enum log_level level = LOG_OFF;
        CHECK_INT(log_level_parse(slice_from_cstr(names[on]), &level), 0);
        CHECK_INT(level, on);
        REQUIRE(sink_open(&sink, level, LOG_STYLE_TEXT));
        for (int at = LOG_ERROR; at <= LOG_TRACE; at++) {
            log_write(sink.log, (enum log_level)at, "m", "text");
            CHECK_INT(sink_read(&sink).len != 0, at <= on);
            CHECK_INT(log_is_on(sink.log, (enum log_level)at), at <= on);
        }
        sink_close(&sink);
    }
    enum log_level level = LOG_DEBUG;
    enum log_style style = LOG_STYLE_COLOR;
    CHECK_INT(log_level_parse(SLICE("INFO"), &level), -EINVAL);
    CHECK_INT(log_level_parse(SLICE(""), &level), -EINVAL);
    CHECK_INT(level, LOG_DEBUG);
    CHECK_INT(log_style_parse(SLICE("xml"), &style), -EINVAL);
    CHECK_INT(style, LOG_STYLE_COLOR);
    CHECK_INT(log_style_parse(SLICE("json"), &style), 0);
    CHECK_INT(style, LOG_STYLE_JSON);
    CHECK(!log_is_on(NULL, LOG_ERROR));
    log_write(NULL, LOG_ERROR, "m", "nowhere", LOG_NUM("n", 1));
    CHECK(log_free(NULL) == NULL);
}

static void test_text(void) {
    static const struct {
        struct slice value;
        const char *shown;
    } rows[] = {
        {SLICE_INIT("plain"), "plain"},
        {SLICE_INIT(""), "\"\""},
        {SLICE_INIT("two words"), "\"two words\""},
        {SLICE_INIT("k=v"), "\"k=v\""},
        {SLICE_INIT("a\"b"), "\"a\\\"b\""},
        {SLICE_INIT("a\nERROR forged"), "\"a\\\\x0aERROR forged\""},
        {SLICE_INIT("a\nb"), "a\\x0ab"},
        {SLICE_INIT("\x1b[2J"), "\\x1b[2J"},
        {SLICE_INIT("\0"), "\\x00"},
        {SLICE_INIT("\xc2\x9b"), "\\xc2\\x9b"},
        {SLICE_INIT("\xff\xc3"), "\\xff\\xc3"},
        {SLICE_INIT("\u202e\u2066"), "\\xe2\\x80\\xae\\xe2\\x81\\xa6"},
        {SLICE_INIT("\u00e9\U0001F642"), "\u00e9\U0001F642"},
    };
    struct sink sink;
    REQUIRE(sink_open(&sink, LOG_INFO, LOG_STYLE_TEXT));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char expected[256];
        test_row(rows[i].shown);
        log_write(sink.log, LOG_WARN, "module", "a sentence", LOG_TEXT("key", rows[i].value),
                  LOG_NUM("n", -7), LOG_CSTR("none", NULL));
        snprintf(expected, sizeof expected, " WARN  module: a sentence key=%s n=-7 none=\"\"\n",
                 rows[i].shown);
        struct slice line = sink_read(&sink);
        CHECK_STR(slice_from(line, CLOCK_RFC3339_SIZE - 1), expected);
        CHECK(line.len > 20 && line.ptr[4] == '-' && line.ptr[10] == 'T');
    }
    log_write(sink.log, LOG_INFO, "m", "an empty slice",
              LOG_TEXT("a", ((struct slice){.ptr = NULL, .len = 0})));
    CHECK(slice_ends_with(sink_read(&sink), SLICE(" a=\"\"\n")));
    sink_close(&sink);
}

/* Colours are ours alone: what a peer sends brings none. */
static void test_color(void) {
    struct sink sink;
    REQUIRE(sink_open(&sink, LOG_INFO, LOG_STYLE_COLOR));
    log_write(sink.log, LOG_ERROR, "m", "text", LOG_TEXT("k", SLICE("\033[0m")));
    CHECK_STR(slice_from(sink_read(&sink), CLOCK_RFC3339_SIZE),
              "\033[31mERROR\033[0m m: text \033[2mk=\033[0m\\x1b[0m\n");
    sink_close(&sink);
}

/* The members of a line, in order, as "key=value" with a bar behind each but the time's. */
static void read_line(struct slice line, struct buf *out) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct json_error why = {.reason = ""};
    REQUIRE(json_reader_new(&reader) == 0);
    CHECK_INT(json_read(reader, line, &json_want_root, NULL, &why), 0);
    CHECK_STR(slice_from_cstr(why.reason), "");
    REQUIRE(json_root(reader) != NULL && json_root(reader)->type == JSON_OBJECT);
    for (const struct json_node *node = json_first(reader, json_root(reader)); node != NULL;
         node = json_next(reader, node)) {
        if (json_key_is(node, SLICE("time"))) {
            CHECK_INT(json_string_raw(node).len, CLOCK_RFC3339_SIZE - 1);
            continue;
        }
        buf_append(out, node->key);
        buf_append_byte(out, '=');
        if (node->type == JSON_STRING)
            CHECK_INT(json_string_append(out, node), 0);
        else
            buf_append(out, node->raw);
        buf_append_byte(out, '|');
    }
}

static void check_json_line(struct sink *sink, const char *expected) {
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    struct slice line = sink_read(sink);
    REQUIRE(line.len != 0);
    CHECK_INT(slice_find_byte(line, '\n'), line.len - 1);
    read_line(line, &members);
    CHECK_STR(buf_slice(&members), expected);
}

static void test_json(void) {
    struct sink sink;
    REQUIRE(sink_open(&sink, LOG_TRACE, LOG_STYLE_JSON));
    log_write(sink.log, LOG_DEBUG, "m", "a \"sentence\"", LOG_TEXT("a", SLICE("b\\c\"\n\x7f")),
              LOG_NUM("min", INT64_MIN), LOG_NUM("max", INT64_MAX), LOG_CSTR("empty", ""));
    check_json_line(&sink, "level=debug|module=m|message=a \"sentence\"|a=b\\c\"\\x0a\\x7f|"
                           "min=-9223372036854775808|max=9223372036854775807|empty=|");
    log_write(sink.log, LOG_ERROR, "m", "none");
    check_json_line(&sink, "level=error|module=m|message=none|");
    /* Every byte, valid or not, alone and in a row. */
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        struct buf members CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        log_write(sink.log, LOG_INFO, "m", "byte", LOG_TEXT("b", slice_make(&byte, 1)));
        read_line(sink_read(&sink), &members);
        CHECK(buf_len(&members) > 0);
    }
    sink_close(&sink);
}

/* Long values are cut, in every style, and never in the midst of a character. */
static void test_long_values(void) {
    static const struct {
        const char *name, *unit;
    } rows[] = {
        {"letters", "x"}, {"two bytes", "\u00e9"}, {"three bytes", "\u20ac"},
        {"quotes", "\""}, {"invalid", "\xff"},     {"continuations", "\x80"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int style = LOG_STYLE_TEXT; style <= LOG_STYLE_JSON; style++) {
            struct sink sink;
            struct buf value CLEANUP(buf_deinit) = BUF_INIT(KIB(32));
            struct buf members CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
            test_row(rows[i].name);
            while (buf_len(&value) < 8000)
                buf_append_cstr(&value, rows[i].unit);
            REQUIRE(sink_open(&sink, LOG_INFO, (enum log_style)style));
            log_write(sink.log, LOG_INFO, "m", "long", LOG_TEXT("a", buf_slice(&value)),
                      LOG_TEXT("b", buf_slice(&value)));
            struct slice line = sink_read(&sink);
            CHECK(line.len > 0 && line.len < 16 * KIB(1));
            CHECK(slice_find(line, SLICE("\u2026")) != SIZE_MAX);
            if (style == LOG_STYLE_JSON)
                read_line(line, &members);
            sink_close(&sink);
        }
    }
}

/* A log that cannot be written stops nothing. */
static void test_unwritable(void) {
    struct log *log = log_new(-1, LOG_INFO, LOG_STYLE_JSON);
    log_write(log, LOG_ERROR, "m", "lost");
    log = log_free(log);
    struct sink sink;
    REQUIRE(sink_open(&sink, LOG_INFO, LOG_STYLE_TEXT));
    for (int i = 0; i < 5000; i++) /* the pipe is full, and nobody reads */
        log_write(sink.log, LOG_INFO, "m", "again and again and again");
    CHECK(sink_read(&sink).len > 0);
    sink_close(&sink);
}

/* A pipe that nobody reads, opened so that writing waits: nobody does, and what was lost is told.
 */
static void test_full_pipe(void) {
    int fds[2];
    struct sink sink = {.text = BUF_INIT(MIB(1))};
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    sink.fds[0] = fds[0];
    sink.fds[1] = fds[1];
    REQUIRE(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    sink.log = log_new(fds[1], LOG_INFO, LOG_STYLE_TEXT);
    enum { LINES = 5000 };
    for (int i = 0; i < LINES; i++)
        log_write(sink.log, LOG_INFO, "m", "again and again and again and again", LOG_NUM("i", i));
    buf_deinit(&sink.text);
    sink.text = BUF_INIT(MIB(1));
    struct slice text = sink_read(&sink);
    uint64_t n_lines = 0;
    for (size_t i = 0; i < text.len; i++)
        n_lines += text.ptr[i] == '\n' ? 1 : 0;
    CHECK(n_lines > 100 && n_lines < LINES);
    log_write(sink.log, LOG_INFO, "m", "there is room");
    text = sink_read(&sink);
    /* The rest of the line that was cut comes first. */
    size_t at = slice_find(text, SLICE("WARN  log: lines of this log were lost"));
    REQUIRE(at != SIZE_MAX);
    n_lines += slice_find_byte(slice_sub(text, 0, at), '\n') != SIZE_MAX ? 1 : 0;
    char wanted[64];
    snprintf(wanted, sizeof wanted, " lines=%llu ", (unsigned long long)(LINES - n_lines));
    CHECK(slice_find(text, slice_from_cstr(wanted)) != SIZE_MAX);
    CHECK(slice_ends_with(text, SLICE("there is room\n")));
    log_write(sink.log, LOG_INFO, "m", "once");
    CHECK(slice_find(sink_read(&sink), SLICE("lost")) == SIZE_MAX);
    /* Nobody changed what others share. */
    CHECK_INT(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    sink_close(&sink);
}

/* A disk without room, and a reader that is gone. */
static void test_full_disk(void) {
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    struct log *log = log_new(fd, LOG_INFO, LOG_STYLE_TEXT);
    log_write(log, LOG_INFO, "m", "one");
    log_write(log, LOG_INFO, "m", "two");
    struct sink sink;
    REQUIRE(sink_open(&sink, LOG_INFO, LOG_STYLE_TEXT));
    REQUIRE(dup2(sink.fds[1], fd) == fd); /* somebody made room */
    log_write(log, LOG_INFO, "m", "three");
    struct slice text = sink_read(&sink);
    CHECK(slice_find(text, SLICE("lines=2 reason=\"No space left on device\"")) != SIZE_MAX);
    CHECK(slice_ends_with(text, SLICE("three\n")));
    log_free(log);
    close(fd);
    signal(SIGPIPE, SIG_IGN);
    close(sink.fds[0]);
    log_write(sink.log, LOG_INFO, "m", "to nobody");
    sink.fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sink_close(&sink);
}

static void torture_body(void *arg) {
    struct sink *sink = arg;
    log_write(sink->log, LOG_INFO, "m", "text", LOG_TEXT("a", SLICE("b \n")), LOG_NUM("n", 1));
    mem_fail_after(0);
    struct slice line = sink_read(sink);
    /* No line, or a whole one that hides nothing. */
    CHECK(line.len == 0 || slice_ends_with(line, SLICE("\"a\":\"b \\\\x0a\",\"n\":1}\n")) ||
          slice_ends_with(line, SLICE("\"a\":\"(no memory)\",\"n\":1}\n")));
}

static void test_out_of_memory(void) {
    for (uint64_t n = 1; n < 20; n++) {
        struct sink sink;
        REQUIRE(sink_open(&sink, LOG_INFO, LOG_STYLE_JSON));
        mem_fail_after(n);
        torture_body(&sink);
        sink_close(&sink);
    }
}

TEST_MAIN(TEST(test_levels), TEST(test_text), TEST(test_color), TEST(test_json),
          TEST(test_long_values), TEST(test_unwritable), TEST(test_full_pipe), TEST(test_full_disk),
          TEST(test_out_of_memory))
