/*
 * What must hold for the parser of server-sent events with any input: however the input is cut into
 * feeds, the same is reported; and each event, written again by our writer, is read back as the
 * same. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void must_trace_alike(size_t max_event, struct slice input) {
    struct buf whole CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    size_t step = input.len > 0 ? (unsigned char)input.ptr[input.len - 1] % 31 + 2 : 2;
    const struct trace_cut cuts[] = {{.step = 1}, {.step = step}, {.first = step, .step = 0}};
    MUST(trace_sse(max_event, input, (struct trace_cut){.step = 0}, &whole) == 0);
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
        struct buf other CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
        MUST(trace_sse(max_event, input, cuts[i], &other) == 0);
        MUST(slice_eq(buf_slice(&whole), buf_slice(&other)));
    }
}

static void must_read_back(const struct sse_event *event) {
    struct sse_parser *parser CLEANUP(sse_parser_freep) = NULL;
    struct buf written CLEANUP(buf_deinit) = BUF_INIT(TRACE_MAX);
    struct sse_event again;
    enum sse_result result;
    size_t consumed;
    int r = sse_write_event(&written, event->type, event->id, event->data);
    if (r != 0) {
        MUST(r == -EINVAL && slice_find_byte(event->type, '\0') != SIZE_MAX);
        return;
    }
    MUST(sse_parser_new(TRACE_MAX, &parser) == 0);
    MUST(sse_parser_feed(parser, buf_slice(&written), &consumed, &result, &again) == 0);
    MUST(result == SSE_EVENT && consumed == buf_len(&written));
    MUST(slice_eq(event->type, again.type) && slice_eq(event->data, again.data));
    MUST(slice_eq(event->id, again.id));
}

static void must_survive_writing(struct slice input) {
    struct sse_parser *parser CLEANUP(sse_parser_freep) = NULL;
    enum sse_result result;
    MUST(sse_parser_new(KIB(64), &parser) == 0);
    do {
        struct sse_event event;
        size_t consumed;
        MUST(sse_parser_feed(parser, input, &consumed, &result, &event) == 0);
        input = slice_from(input, consumed);
        if (result == SSE_EVENT) {
            MUST(utf8_is_valid(event.data) && utf8_is_valid(event.type) && utf8_is_valid(event.id));
            MUST(slice_find_byte(event.data, '\r') == SIZE_MAX);
            must_read_back(&event);
        }
    } while (result == SSE_EVENT || result == SSE_COMMENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = slice_make(data, size);
    must_trace_alike(KIB(64), input);
    must_trace_alike(8, input);
    must_survive_writing(input);
    return 0;
}
