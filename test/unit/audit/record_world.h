/* A writer of records with a configuration of its own, and what a body has to be. */
#pragma once

#include "audit/record.h"
#include "base/limits.h"
#include "json/reader.h"
#include "test.h"

struct record_world {
    struct config_audit config;
    struct audit_redact *redact;
    struct audit_writer *writer;
    struct json_reader *reader;
    struct buf body, document;
};

MAYBE_UNUSED static void record_world_open(struct record_world *world,
                                           const struct config_audit *config,
                                           const struct audit_keys *keys) {
    struct buf reason = BUF_INIT(1000);
    *world = (struct record_world){.config = *config,
                                   .body = BUF_INIT(LIMIT_AUDIT_BODY),
                                   .document = BUF_INIT(LIMIT_AUDIT_BODY + 2)};
    if (audit_redact_new(&world->config, &world->redact, &reason) != 0 ||
        json_reader_new(&world->reader) != 0)
        CANNOT_GO_ON();
    struct audit_writer_options options = {.redact = world->redact, .keys = keys};
    if (audit_writer_new(&options, &world->writer) != 0)
        CANNOT_GO_ON();
    buf_deinit(&reason);
}

MAYBE_UNUSED static void record_world_close(struct record_world *world) {
    audit_writer_free(world->writer);
    audit_redact_free(world->redact);
    json_reader_free(world->reader);
    buf_deinit(&world->body);
    buf_deinit(&world->document);
}

/* The body is the members of an object, each key once, and not too long. */
MAYBE_UNUSED static bool record_is_sound(struct record_world *world) {
    struct json_error error = {.reason = ""};
    buf_reset(&world->document, SIZE_MAX);
    buf_append_byte(&world->document, '{');
    buf_append(&world->document, buf_slice(&world->body));
    buf_append_byte(&world->document, '}');
    int r = json_read(world->reader, buf_slice(&world->document), &json_want_root, NULL, &error);
    bool is_sound = buf_error(&world->body) == 0 && buf_error(&world->document) == 0 && r == 0 &&
                    buf_len(&world->body) <= LIMIT_AUDIT_BODY;
    if (!is_sound)
        printf("# %s at %zu of %zu\n", error.reason, error.offset, buf_len(&world->document));
    return is_sound;
}

MAYBE_UNUSED static struct slice record_member(struct record_world *world, const char *key) {
    if (!record_is_sound(world)) {
        test_fail(__FILE__, __LINE__, "the body is no JSON");
        return SLICE_EMPTY;
    }
    const struct json_node *member =
        json_member(world->reader, json_root(world->reader), slice_from_cstr(key));
    return member != NULL ? member->raw : SLICE_EMPTY;
}

/* "arguments" of a record of these. */
MAYBE_UNUSED static struct slice record_arguments(struct record_world *world,
                                                  struct slice arguments) {
    struct audit_what what = {.method = SLICE("tools/call"), .arguments = arguments};
    buf_reset(&world->body, SIZE_MAX);
    audit_write_begin(&world->body, "call", 0, SLICE_EMPTY);
    audit_write_what(world->writer, &world->body, &what);
    return record_member(world, "arguments");
}
