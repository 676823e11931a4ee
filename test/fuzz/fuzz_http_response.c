/* Responses: the rules of fuzz_http.h, as answers to GET and to HEAD, with the default limits and
 * with tight ones. */
#include "fuzz_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = slice_make(data, size);
    const struct trace_setup setup = {.role = HTTP_RESPONSES};
    const struct trace_setup to_head = {.role = HTTP_RESPONSES, .no_body = true};
    const struct trace_setup tight = {
        .role = HTTP_RESPONSES,
        .limits = {.max_head = 96, .max_line = 40, .max_fields = 3, .max_body = 10}};
    must_trace_alike(&setup, input);
    must_trace_alike(&to_head, input);
    must_trace_alike(&tight, input);
    must_survive_writing(HTTP_RESPONSES, input);
    return 0;
}
