/*
 * What must hold for the body of a record, whatever it is written of: it is the members of an
 * object, no key twice, no longer than it may be; the arguments in it are no longer than
 * configured; redaction ends, and what it writes is bounded by what it read. The first byte chooses
 * the configuration. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "audit/record.h"
#include "base/limits.h"
#include "json/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void must_be_sound(const struct buf *body, size_t max_arguments) {
    struct buf document CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY + 2);
    struct json_reader *reader CLEANUP(json_reader_freep) = NULL;
    MUST(json_reader_new(&reader) == 0);
    buf_append_byte(&document, '{');
    buf_append(&document, buf_slice(body));
    buf_append_byte(&document, '}');
    MUST(buf_error(body) == 0 && buf_error(&document) == 0);
    MUST(json_read(reader, buf_slice(&document), &json_want_root, NULL, NULL) == 0);
    const struct json_node *arguments = json_member(reader, json_root(reader), SLICE("arguments"));
    MUST(arguments == NULL || arguments->raw.len <= max_arguments);
}

static void write_record(struct audit_writer *writer, struct slice input, struct buf *body) {
    struct slice groups[] = {input, SLICE("b"), input};
    struct network address;
    network_from_bytes("\1\2\3\4", NETWORK_V4_BITS, &address);
    struct audit_who who = {.user = input,
                            .groups = groups,
                            .n_groups = ARRAY_LEN(groups),
                            .authentication = SLICE("token"),
                            .client = input,
                            .address = &address};
    struct audit_what what = {.method = input, .operation = input, .arguments = input};
    struct audit_decided decided = {.decision = SLICE("denied"), .rule = input, .reason = input};
    struct audit_result result = {.status = input, .message = input, .http_status = AUDIT_NONE};
    audit_write_begin(body, "call", 0, input);
    audit_write_who(writer, body, &who);
    audit_write_what(writer, body, &what);
    audit_write_decision(writer, body, &decided);
    audit_write_result(writer, body, &result);
    audit_write_text(writer, body, SLICE("note"), input);
}

static void must_write(const struct config_audit *config, struct slice input) {
    struct audit_redact *redact = NULL;
    struct audit_writer *writer = NULL;
    struct regex_work work;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(MIB(4));
    MUST(audit_redact_new(config, &redact, &reason) == 0);
    MUST(audit_writer_new(&(struct audit_writer_options){.redact = redact}, &writer) == 0);
    write_record(writer, input, &body);
    must_be_sound(&body, config->max_arguments);
    regex_work_init(&work);
    MUST(audit_redact_text(redact, &work, input, &text) == 0);
    MUST(buf_len(&text) <= 11 * input.len);
    regex_work_deinit(&work);
    audit_writer_free(writer);
    audit_redact_free(redact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice paths[] = {SLICE("a"), SLICE("b.*.c")};
    struct slice patterns[] = {SLICE("x+y"), SLICE("(a|a)*b")};
    if (size == 0 || size > KIB(64))
        return 0;
    struct config_audit config = {.max_arguments = (size_t)1 << (data[0] & 15),
                                  .redact_shapes = (data[0] & 16) != 0,
                                  .redact_paths = paths,
                                  .n_redact_paths = (data[0] & 32) != 0 ? ARRAY_LEN(paths) : 0,
                                  .redact_patterns = patterns,
                                  .n_redact_patterns =
                                      (data[0] & 64) != 0 ? ARRAY_LEN(patterns) : 0};
    must_write(&config, slice_make(data + 1, size - 1));
    return 0;
}
