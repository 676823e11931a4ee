/* Requests: the rules of fuzz_http.h, with the default limits and with tight ones. */
#include "fuzz_http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = slice_make(data, size);
    const struct trace_setup setup = {.role = HTTP_REQUESTS};
    const struct trace_setup tight = {
        .role = HTTP_REQUESTS,
        .limits = {.max_head = 96, .max_line = 40, .max_fields = 3, .max_body = 10}};
    must_trace_alike(&setup, input);
    must_trace_alike(&tight, input);
    must_survive_writing(HTTP_REQUESTS, input);
    return 0;
}
