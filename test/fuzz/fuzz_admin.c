/*
 * What must hold for what strangers send to the console's API, read by the row of its route: an
 * object of a path is what it is in one spelling alone; what the schema of a query or a body has
 * let through is there, of its type, and within its bounds; what is refused is refused with a
 * sentence that is text. The input is a method, a space, a path with a query, and behind a line end
 * the body. A rule that breaks ends the process.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "handlers.h"
#include "http/uri.h"
#include "private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static enum http_method method_of(struct slice name) {
    for (unsigned i = 0; i < HTTP_METHOD_OTHER; i++) {
        if (slice_eq(name, slice_from_cstr(api_method_name((enum http_method)i))))
            return (enum http_method)i;
    }
    return HTTP_METHOD_OTHER;
}

static void must_be_said(const struct buf *reason) {
    MUST(buf_len(reason) != 0 && utf8_is_valid(buf_slice(reason)));
}

static void must_be_text(struct slice text) {
    MUST(utf8_is_valid(text) && slice_find_byte(text, '\0') == SIZE_MAX);
}

/* --- the path --- */

static void must_be_object(struct slice text) {
    must_be_text(text);
    MUST(text.len != 0 && slice_find_byte(text, '/') == SIZE_MAX &&
         slice_find_byte(text, '\\') == SIZE_MAX && !slice_eq(text, SLICE(".")) &&
         !slice_eq(text, SLICE("..")));
}

/* The path that has these objects in their place leads to the same row, and them. */
static void must_be_found_again(const struct api_route *route, const struct slice *objects) {
    CLEANUP(buf_deinit) struct buf path = BUF_INIT(KIB(16));
    CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(KIB(64));
    struct slice again[GUARD_PARAMETERS], rest = route->pattern, part;
    const struct api_route *found = NULL;
    unsigned allowed = 0;
    size_t n = 0;
    for (bool more = true; more;) {
        more = slice_cut(rest, '/', &part, &rest);
        if (part.len != 0 && part.ptr[0] == '{')
            MUST(uri_percent_encode(&path, objects[n++]) == 0);
        else
            buf_append(&path, part);
        if (more)
            buf_append_byte(&path, '/');
    }
    MUST(api_route_find(route->method, buf_slice(&path), &arena, &found, again, &allowed) == 0);
    MUST(found == route);
    for (size_t i = 0; i < n; i++)
        MUST(slice_eq(objects[i], again[i]));
}

static const struct api_route *read_path(enum http_method method, struct slice path,
                                         struct arena *arena) {
    const struct api_route *route = NULL;
    struct slice objects[GUARD_PARAMETERS] = {{0}};
    unsigned allowed = 0;
    int error = api_route_find(method, path, arena, &route, objects, &allowed);
    MUST(error == 0 || error == API_E_PATH || error == API_E_METHOD);
    MUST((error == API_E_METHOD) == (allowed != 0));
    if (error != 0)
        return NULL;
    for (size_t i = 0; i < GUARD_PARAMETERS && objects[i].ptr != NULL; i++)
        must_be_object(objects[i]);
    must_be_found_again(route, objects);
    return route;
}

/* --- the query --- */

static void must_be_in_bounds(const struct schema_field *field, struct slice text) {
    uint64_t number = 0;
    if (field->type == SCHEMA_NUMBER)
        MUST(slice_to_u64(text, &number) == 0 && number >= field->least &&
             (field->most == 0 || number <= field->most));
    else
        MUST(text.len >= field->least && text.len <= (field->most != 0 ? field->most : KIB(4)));
}

static void read_value(const struct schema_field *field, struct slice value) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4)), place = BUF_INIT(KIB(1));
    struct accounts_place found = {.created_ms = 0};
    int error = schema_check_text(field, value, &reason);
    if (error != 0)
        must_be_said(&reason);
    else
        must_be_in_bounds(field, value);
    if (guard_read_cursor(value, &place) == 0)
        must_be_text(buf_slice(&place));
    if (guard_read_place(value, &found) == 0)
        MUST(strlen(found.id) == ACCOUNTS_ID && found.created_ms <= INT64_MAX);
}

static void read_query(const struct api_route *route, struct slice query, struct arena *arena) {
    struct slice name = SLICE_EMPTY, value = SLICE_EMPTY;
    int error = 0;
    while (error == 0 && guard_next_query(&query, arena, &name, &value, &error)) {
        MUST(error == 0 || error == GUARD_E_QUERY);
        if (error != 0)
            return;
        must_be_text(name);
        must_be_text(value);
        for (const struct schema_field *field = route->query; field != NULL && field->name != NULL;
             field++) {
            if (slice_eq(name, slice_from_cstr(field->name)))
                read_value(field, value);
        }
    }
}

/* --- the body --- */

static void read_rights(struct slice json) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    struct json_reader *reader = NULL;
    struct policy_rights *rights = NULL;
    MUST(json_reader_new(&reader) == 0);
    int error = policy_rights_read(reader, json, &rights, &reason);
    MUST(error == 0 || error == RIGHTS_E_WRONG);
    if (error != 0)
        must_be_said(&reason);
    policy_rights_unref(rights);
    json_reader_free(reader);
}

static void must_be_as_said(const struct schema_field *field, const struct json_reader *reader,
                            struct arena *arena) {
    struct slice text = SLICE_EMPTY, raw = schema_raw(reader, field->name);
    struct slice *texts = NULL;
    uint64_t number = 0;
    size_t n = 0;
    if (raw.len == 0) {
        MUST(!field->is_required || field->may_be_null);
        return;
    }
    if (field->type == SCHEMA_TEXT || field->type == SCHEMA_SECRET) {
        MUST(schema_text(reader, field->name, arena, &text) == 0 && text.ptr != NULL);
        must_be_text(text);
        must_be_in_bounds(field, text);
    } else if (field->type == SCHEMA_NUMBER) {
        MUST(schema_number(reader, field->name, &number) && number >= field->least &&
             (field->most == 0 || number <= field->most));
    } else if (field->type == SCHEMA_BOOL) {
        MUST(schema_bool(reader, field->name) >= 0);
    } else if (field->type == SCHEMA_TEXTS) {
        MUST(schema_texts(reader, field->name, arena, &texts, &n) == 0);
        MUST(n <= (field->most != 0 ? field->most : 1000));
    } else if (slice_eq(slice_from_cstr(field->name), SLICE("rights"))) {
        read_rights(raw);
    }
}

static void read_body(const struct api_route *route, struct slice body, struct arena *arena) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    const struct json_limits limits = {.max_depth = 16, .max_keys = 1000, .max_nodes = 20000};
    struct json_reader *reader = NULL;
    MUST(json_reader_new(&reader) == 0);
    if (json_read(reader, body, &api_schema_want, &limits, NULL) == 0) {
        int error = schema_check(route->request, reader, &reason);
        MUST(error == 0 || error == SCHEMA_E_WRONG);
        if (error != 0)
            must_be_said(&reason);
        for (const struct schema_field *field = route->request->fields;
             error == 0 && field != NULL && field->name != NULL; field++)
            must_be_as_said(field, reader, arena);
    }
    json_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_deinit) struct arena arena = ARENA_INIT(MIB(16));
    struct slice line, body, method, target, path, query;
    (void)slice_cut(slice_make(data, size), '\n', &line, &body);
    (void)slice_cut(line, ' ', &method, &target);
    (void)slice_cut(target, '?', &path, &query);
    if (target.len > KIB(16))
        return 0;
    const struct api_route *route = read_path(method_of(method), path, &arena);
    if (route == NULL)
        return 0;
    read_query(route, query, &arena);
    if (route->request != NULL)
        read_body(route, body, &arena);
    return 0;
}
