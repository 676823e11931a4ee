/*
 * Server-sent events, read as they flow: no line is collected. The name of a field is at most five
 * bytes; as soon as its colon is seen, the bytes of the value go where they belong (data, type, id)
 * or nowhere. So each byte is looked at once and copied once, however the stream is cut.
 *
 * UTF-8 is checked by an automaton whose state survives the cut; CR and LF are ASCII, so a line
 * that ends inside a sequence is found by the same automaton.
 */
#include "http/sse.h"

#include <errno.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/mem.h"
#include "utf8_state.h"

enum { KEEP_DATA = 16384, KEEP_TEXT = 256, NAME_MAX_LEN = 5 };

enum sse_state {
    STATE_BOM,   /* nothing but a beginning of U+FEFF was seen */
    STATE_NAME,  /* in the field name, or at the start of a line */
    STATE_SPACE, /* behind the colon: one space goes */
    STATE_VALUE,
    STATE_REFUSED,
};

enum sse_field {
    FIELD_UNKNOWN,
    FIELD_COMMENT,
    FIELD_DATA,
    FIELD_EVENT,
    FIELD_ID,
    FIELD_RETRY,
};

struct sse_parser {
    enum sse_state state;
    size_t max_line;
    size_t line_len; /* of the line so far */
    bool after_cr;   /* an LF now belongs to the CR before it */
    bool reported;   /* the last event was handed out: its buffers are to be emptied */
    uint8_t bom_len;
    struct utf8_state utf8;

    char name[NAME_MAX_LEN];
    size_t name_len; /* may pass NAME_MAX_LEN: an unknown field */
    enum sse_field field;

    struct buf data;
    struct buf type;
    struct buf id;      /* the last id: outlives events */
    struct buf next_id; /* of a line that is not whole yet */
    bool has_data;
    bool has_id;
    bool id_has_nul;
    bool retry_is_bad;
    size_t retry_digits;
    uint64_t retry_value; /* of a line that is not whole yet */
    bool has_retry;
    uint64_t retry_ms;

    const char *reason;
    bool is_too_long;
};

int sse_parser_new(size_t max_event, struct sse_parser **ret_parser) {
    struct sse_parser *parser = mem_alloc(sizeof *parser);
    if (parser == NULL)
        return -ENOMEM;
    if (size_add_overflows(max_event, LIMIT_SSE_LINE_OVERHEAD, &parser->max_line))
        parser->max_line = SIZE_MAX;
    buf_init(&parser->data, max_event);
    buf_init(&parser->type, parser->max_line);
    buf_init(&parser->id, parser->max_line);
    buf_init(&parser->next_id, parser->max_line);
    parser->state = STATE_BOM;
    *ret_parser = parser;
    return 0;
}

void sse_parser_hold(struct sse_parser *parser, struct budget *budget) {
    buf_init_held(&parser->data, parser->data.max, budget);
    buf_init_held(&parser->type, parser->type.max, budget);
    buf_init_held(&parser->id, parser->id.max, budget);
    buf_init_held(&parser->next_id, parser->next_id.max, budget);
}

struct sse_parser *sse_parser_free(struct sse_parser *parser) {
    if (parser == NULL)
        return NULL;
    buf_deinit(&parser->data);
    buf_deinit(&parser->type);
    buf_deinit(&parser->id);
    buf_deinit(&parser->next_id);
    mem_free(parser);
    return NULL;
}

void sse_parser_freep(struct sse_parser **parser) {
    *parser = sse_parser_free(*parser);
}

const char *sse_parser_reason(const struct sse_parser *parser) {
    return parser->reason != NULL ? parser->reason : "";
}

bool sse_parser_is_too_long(const struct sse_parser *parser) {
    return parser->is_too_long;
}

/* What a step of the parser came to. */
enum { STEP_OK = 0, STEP_REFUSED = 1 };

static int refuse(struct sse_parser *parser, const char *reason) {
    parser->state = STATE_REFUSED;
    parser->reason = reason;
    return STEP_REFUSED;
}

static int refuse_length(struct sse_parser *parser, const char *reason) {
    parser->is_too_long = true;
    return refuse(parser, reason);
}

static int append(struct sse_parser *parser, struct buf *buf, struct slice bytes) {
    int r = buf_append(buf, bytes);
    if (r == -E2BIG)
        return refuse_length(parser, "an event is longer than the limit");
    return r;
}

static enum sse_field field_of(struct slice name) {
    static const struct {
        struct slice name;
        enum sse_field field;
    } fields[] = {
        {SLICE_INIT("data"), FIELD_DATA},
        {SLICE_INIT("event"), FIELD_EVENT},
        {SLICE_INIT("id"), FIELD_ID},
        {SLICE_INIT("retry"), FIELD_RETRY},
    };
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (slice_eq(fields[i].name, name))
            return fields[i].field;
    }
    return FIELD_UNKNOWN;
}

/* The name is whole: its colon or the end of the line was seen. */
static int begin_field(struct sse_parser *parser) {
    parser->field = parser->name_len <= NAME_MAX_LEN
                        ? field_of(slice_make(parser->name, parser->name_len))
                        : FIELD_UNKNOWN;
    switch (parser->field) {
    case FIELD_DATA:
        if (parser->has_data)
            return append(parser, &parser->data, SLICE("\n"));
        parser->has_data = true;
        return STEP_OK;
    case FIELD_EVENT:
        buf_reset(&parser->type, KEEP_TEXT);
        return STEP_OK;
    case FIELD_ID:
        buf_reset(&parser->next_id, KEEP_TEXT);
        parser->id_has_nul = false;
        return STEP_OK;
    case FIELD_RETRY:
        parser->retry_is_bad = false;
        parser->retry_digits = 0;
        parser->retry_value = 0;
        return STEP_OK;
    case FIELD_COMMENT:
    case FIELD_UNKNOWN:
        return STEP_OK;
    }
    return STEP_OK;
}

static void add_retry_digits(struct sse_parser *parser, struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c < '0' || c > '9' ||
            u64_mul_overflows(parser->retry_value, 10, &parser->retry_value) ||
            u64_add_overflows(parser->retry_value, (uint64_t)(c - '0'), &parser->retry_value))
            parser->retry_is_bad = true;
    }
    parser->retry_digits += text.len;
}

static int add_value(struct sse_parser *parser, struct slice text) {
    switch (parser->field) {
    case FIELD_DATA:
        return append(parser, &parser->data, text);
    case FIELD_EVENT:
        return append(parser, &parser->type, text);
    case FIELD_ID:
        if (slice_find_byte(text, '\0') != SIZE_MAX)
            parser->id_has_nul = true;
        return append(parser, &parser->next_id, text);
    case FIELD_RETRY:
        add_retry_digits(parser, text);
        return STEP_OK;
    case FIELD_COMMENT:
    case FIELD_UNKNOWN:
        return STEP_OK;
    }
    return STEP_OK;
}

/* Bytes of a line, without its end. */
static int add_text(struct sse_parser *parser, struct slice text) {
    parser->line_len += text.len;
    if (parser->state == STATE_NAME) {
        size_t i = 0;
        for (; i < text.len && text.ptr[i] != ':'; i++) {
            if (parser->name_len < NAME_MAX_LEN)
                parser->name[parser->name_len] = text.ptr[i];
            if (parser->name_len <= NAME_MAX_LEN)
                parser->name_len++;
        }
        if (i == text.len)
            return STEP_OK;
        int r = STEP_OK;
        if (parser->name_len == 0)
            parser->field = FIELD_COMMENT;
        else
            r = begin_field(parser);
        if (r != STEP_OK)
            return r;
        parser->state = STATE_SPACE;
        text = slice_from(text, i + 1);
    }
    if (parser->state == STATE_SPACE && text.len > 0) {
        parser->state = STATE_VALUE;
        if (text.ptr[0] == ' ')
            text = slice_from(text, 1);
    }
    return text.len > 0 ? add_value(parser, text) : STEP_OK;
}

static void finish_value(struct sse_parser *parser) {
    if (parser->field == FIELD_ID && !parser->id_has_nul) {
        struct buf old = parser->id;
        parser->id = parser->next_id;
        parser->next_id = old;
        parser->has_id = true;
    }
    if (parser->field == FIELD_RETRY && !parser->retry_is_bad && parser->retry_digits > 0) {
        parser->has_retry = true;
        parser->retry_ms = parser->retry_value;
    }
}

/* The blank line: what was gathered is an event, or nothing. */
static bool dispatch(struct sse_parser *parser, struct sse_event *ret_event) {
    parser->reported = true;
    if (!parser->has_data && !parser->has_id && !parser->has_retry)
        return false;
    *ret_event = (struct sse_event){
        .type = buf_slice(&parser->type),
        .data = buf_slice(&parser->data),
        .id = buf_slice(&parser->id),
        .has_id = parser->has_id,
        .has_retry = parser->has_retry,
        .retry_ms = parser->has_retry ? parser->retry_ms : 0,
    };
    return true;
}

static void forget_event(struct sse_parser *parser) {
    if (!parser->reported)
        return;
    parser->reported = false;
    buf_reset(&parser->data, KEEP_DATA);
    buf_reset(&parser->type, KEEP_TEXT);
    parser->has_data = parser->has_id = parser->has_retry = false;
}

/* A CR or LF came that ends a line. */
static int end_line(struct sse_parser *parser, enum sse_result *ret_result,
                    struct sse_event *ret_event) {
    int r = STEP_OK;
    bool is_blank = parser->state == STATE_NAME && parser->name_len == 0;
    if (!is_blank && parser->state == STATE_NAME)
        r = begin_field(parser);
    if (r != STEP_OK)
        return r;
    if (is_blank) {
        if (dispatch(parser, ret_event))
            *ret_result = SSE_EVENT;
    } else if (parser->field == FIELD_COMMENT) {
        *ret_result = SSE_COMMENT;
    } else {
        finish_value(parser);
    }
    parser->state = STATE_NAME;
    parser->field = FIELD_UNKNOWN;
    parser->name_len = 0;
    parser->line_len = 0;
    return STEP_OK;
}

/* Up to the next CR or LF, or as far as the line may grow; its UTF-8 is valid. */
static int take_text(struct sse_parser *parser, struct slice input, size_t *ret_len) {
    struct slice room = slice_sub(input, 0, parser->max_line - parser->line_len);
    size_t len = utf8_state_span(&parser->utf8, room);
    if (utf8_state_is_bad(&parser->utf8))
        return refuse(parser, "the stream is not valid UTF-8");
    if (len == room.len && room.len < input.len && input.ptr[len] != '\r' && input.ptr[len] != '\n')
        return refuse_length(parser, "a line is longer than the limit");
    *ret_len = len;
    return add_text(parser, slice_sub(input, 0, len));
}

/* True while the input may still be a byte order mark; *pos is moved over what was looked at. */
static int skip_bom(struct sse_parser *parser, struct slice input, size_t *pos) {
    static const char mark[3] = {'\xef', '\xbb', '\xbf'};
    while (*pos < input.len && parser->bom_len < sizeof mark &&
           input.ptr[*pos] == mark[parser->bom_len]) {
        parser->bom_len++;
        ++*pos;
    }
    if (parser->bom_len < sizeof mark && *pos == input.len)
        return STEP_OK;
    parser->state = STATE_NAME;
    if (parser->bom_len == sizeof mark)
        return STEP_OK;
    /* It only began like one: the bytes belong to the first line. */
    size_t len;
    return take_text(parser, slice_make(mark, parser->bom_len), &len);
}

/* One run of text, or one line end. */
static int step(struct sse_parser *parser, struct slice input, size_t *pos,
                enum sse_result *ret_result, struct sse_event *ret_event) {
    if (parser->state == STATE_BOM)
        return skip_bom(parser, input, pos);
    char c = input.ptr[*pos];
    if (c != '\r' && c != '\n') {
        size_t len;
        parser->after_cr = false;
        int r = take_text(parser, slice_from(input, *pos), &len);
        if (r == STEP_OK)
            *pos += len;
        return r;
    }
    ++*pos;
    bool is_second_half = c == '\n' && parser->after_cr;
    parser->after_cr = c == '\r';
    if (is_second_half)
        return STEP_OK;
    if (utf8_state_is_open(&parser->utf8))
        return refuse(parser, "the stream is not valid UTF-8");
    return end_line(parser, ret_result, ret_event);
}

int sse_parser_feed(struct sse_parser *parser, struct slice input, size_t *ret_consumed,
                    enum sse_result *ret_result, struct sse_event *ret_event) {
    size_t pos = 0;
    enum sse_result result = SSE_NEED_MORE;
    struct sse_event event = {.has_id = false};
    while (parser->state != STATE_REFUSED && pos < input.len && result == SSE_NEED_MORE) {
        forget_event(parser);
        int r = step(parser, input, &pos, &result, &event);
        if (r < 0) {
            (void)refuse(parser, "there is not enough memory");
            return r;
        }
    }
    if (parser->state == STATE_REFUSED)
        result = SSE_REFUSED;
    if (result == SSE_EVENT)
        *ret_event = event;
    *ret_consumed = pos;
    *ret_result = result;
    return 0;
}

/* Writing. */

static bool has_line_end_or_nul(struct slice text) {
    return slice_find_byte(text, '\r') != SIZE_MAX || slice_find_byte(text, '\n') != SIZE_MAX ||
           slice_find_byte(text, '\0') != SIZE_MAX;
}

static void write_line(struct buf *out, struct slice name, struct slice value) {
    buf_append(out, name);
    buf_append(out, value);
    buf_append_byte(out, '\n');
}

int sse_write_event(struct buf *out, struct slice type, struct slice id, struct slice data) {
    if (has_line_end_or_nul(type) || has_line_end_or_nul(id) ||
        slice_find_byte(data, '\r') != SIZE_MAX)
        return -EINVAL;
    if (type.len > 0)
        write_line(out, SLICE("event: "), type);
    if (id.len > 0)
        write_line(out, SLICE("id: "), id);
    bool more;
    do {
        struct slice line;
        more = slice_cut(data, '\n', &line, &data);
        write_line(out, SLICE("data: "), line);
    } while (more);
    return buf_append_byte(out, '\n');
}

int sse_write_comment(struct buf *out, struct slice text) {
    if (has_line_end_or_nul(text))
        return -EINVAL;
    write_line(out, SLICE(": "), text);
    return buf_append_byte(out, '\n');
}
