/* The OpenAPI 3.1 document: every row of the table, with who may and what is recorded of it. */
#include <stdio.h>

#include "private.h"

enum { MOST_SCHEMAS = 64 };

struct schemas {
    const struct schema *items[MOST_SCHEMAS];
    size_t n;
};

static void collect(struct schemas *schemas, const struct schema *schema) {
    if (schema == NULL)
        return;
    for (size_t i = 0; i < schemas->n; i++) {
        if (schemas->items[i] == schema)
            return;
    }
    if (schemas->n == MOST_SCHEMAS)
        return;
    schemas->items[schemas->n++] = schema;
    for (const struct schema_field *field = schema->fields; field != NULL && field->name != NULL;
         field++)
        collect(schemas, field->of);
}

static void write_reference(struct json_writer *writer, const char *media,
                            const struct schema *schema) {
    CLEANUP(buf_deinit) struct buf path = BUF_INIT(256);
    json_key(writer, SLICE("content"));
    json_object_begin(writer);
    json_key(writer, slice_from_cstr(media));
    json_object_begin(writer);
    json_key(writer, SLICE("schema"));
    json_object_begin(writer);
    if (schema != NULL) {
        buf_printf(&path, "#/components/schemas/%s", schema->name);
        json_kv_string(writer, SLICE("$ref"), buf_slice(&path));
    } else {
        json_kv_string(writer, SLICE("type"), SLICE("string"));
    }
    json_object_end(writer);
    json_object_end(writer);
    json_object_end(writer);
}

static void write_parameter(struct json_writer *writer, struct slice name, const char *in,
                            const struct schema_field *field) {
    static const struct schema_field any = {.name = "any", .type = SCHEMA_TEXT};
    json_object_begin(writer);
    json_kv_string(writer, SLICE("name"), name);
    json_kv_string(writer, SLICE("in"), slice_from_cstr(in));
    json_kv_bool(writer, SLICE("required"), field == NULL || field->is_required);
    if (field != NULL && field->doc != NULL)
        json_kv_string(writer, SLICE("description"), slice_from_cstr(field->doc));
    json_key(writer, SLICE("schema"));
    schema_write_field(writer, field != NULL ? field : &any);
    json_object_end(writer);
}

static void write_parameters(struct json_writer *writer, const struct api_route *route) {
    struct slice rest = route->pattern, part;
    json_key(writer, SLICE("parameters"));
    json_array_begin(writer);
    for (bool more = true; more;) {
        more = slice_cut(rest, '/', &part, &rest);
        if (part.len > 2 && part.ptr[0] == '{')
            write_parameter(writer, slice_sub(part, 1, part.len - 1), "path", NULL);
    }
    for (const struct schema_field *field = route->query; field != NULL && field->name != NULL;
         field++)
        write_parameter(writer, slice_from_cstr(field->name), "query", field);
    if (route->needs_match)
        write_parameter(writer, SLICE("If-Match"), "header", NULL);
    json_array_end(writer);
}

static void write_answers(struct json_writer *writer, const struct api_route *route) {
    static const struct schema problem = {.name = "Problem"};
    char status[8];
    snprintf(status, sizeof status, "%u", route->status != 0 ? route->status : 200u);
    json_key(writer, SLICE("responses"));
    json_object_begin(writer);
    json_key(writer, slice_from_cstr(status));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("description"), SLICE("It went well."));
    if (route->status != 204)
        write_reference(writer, route->media != NULL ? route->media : "application/json",
                        route->answer);
    json_object_end(writer);
    json_key(writer, SLICE("default"));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("description"), SLICE("A problem (RFC 9457)."));
    write_reference(writer, "application/problem+json", &problem);
    json_object_end(writer);
    json_object_end(writer);
}

static void write_security(struct json_writer *writer, const struct api_route *route) {
    json_key(writer, SLICE("security"));
    json_array_begin(writer);
    if (route->need != API_NEED_PUBLIC) {
        static const struct slice schemes[] = {SLICE_INIT("session"), SLICE_INIT("token")};
        for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
            json_object_begin(writer);
            json_key(writer, schemes[i]);
            json_array_begin(writer);
            json_array_end(writer);
            json_object_end(writer);
        }
    }
    json_array_end(writer);
    json_kv_string(writer, SLICE("x-permission"), api_need_name(route->need));
    json_kv_string(writer, SLICE("x-audit"), slice_from_cstr(api_audit_name(route->audit)));
}

static void write_route(struct json_writer *writer, const struct api_route *route) {
    static const struct slice methods[] = {
        [HTTP_METHOD_GET] = SLICE_INIT("get"),       [HTTP_METHOD_POST] = SLICE_INIT("post"),
        [HTTP_METHOD_PUT] = SLICE_INIT("put"),       [HTTP_METHOD_PATCH] = SLICE_INIT("patch"),
        [HTTP_METHOD_DELETE] = SLICE_INIT("delete"),
    };
    json_key(writer, methods[route->method]);
    json_object_begin(writer);
    json_kv_string(writer, SLICE("summary"), slice_from_cstr(route->summary));
    write_security(writer, route);
    write_parameters(writer, route);
    if (route->request != NULL) {
        json_key(writer, SLICE("requestBody"));
        json_object_begin(writer);
        json_kv_bool(writer, SLICE("required"), true);
        write_reference(writer, "application/json", route->request);
        json_object_end(writer);
    }
    write_answers(writer, route);
    json_object_end(writer);
}

static bool is_first_of_path(size_t i) {
    for (size_t k = 0; k < i; k++) {
        if (slice_eq(api_routes[k].pattern, api_routes[i].pattern))
            return false;
    }
    return true;
}

static void write_paths(struct json_writer *writer) {
    json_key(writer, SLICE("paths"));
    json_object_begin(writer);
    for (size_t i = 0; i < n_api_routes; i++) {
        if (api_routes[i].page != NULL || !is_first_of_path(i))
            continue;
        json_key(writer, api_routes[i].pattern);
        json_object_begin(writer);
        for (size_t k = i; k < n_api_routes; k++) {
            if (slice_eq(api_routes[k].pattern, api_routes[i].pattern))
                write_route(writer, &api_routes[k]);
        }
        json_object_end(writer);
    }
    json_object_end(writer);
}

static void write_components(struct json_writer *writer) {
    static const struct schema_field problem_fields[] = {
        {.name = "type", .type = SCHEMA_TEXT, .is_required = true},
        {.name = "title", .type = SCHEMA_TEXT, .is_required = true},
        {.name = "status", .type = SCHEMA_NUMBER, .is_required = true},
        {.name = "detail", .type = SCHEMA_TEXT},
        {.name = "cure", .type = SCHEMA_TEXT, .doc = "What to do about it."},
        {.name = "instance", .type = SCHEMA_TEXT, .doc = "The request's id in the audit trail."},
        SCHEMA_END,
    };
    static const struct schema problem = {"Problem", problem_fields};
    static const struct slice schemes = SLICE_INIT(
        "{\"session\":{\"type\":\"apiKey\",\"in\":\"cookie\",\"name\":\"" GUARD_COOKIE "\"},"
        "\"token\":{\"type\":\"http\",\"scheme\":\"bearer\"}}");
    struct schemas schemas = {.n = 0};
    for (size_t i = 0; i < n_api_routes; i++) {
        collect(&schemas, api_routes[i].request);
        collect(&schemas, api_routes[i].answer);
    }
    collect(&schemas, &problem);
    json_key(writer, SLICE("components"));
    json_object_begin(writer);
    json_kv_raw(writer, SLICE("securitySchemes"), schemes);
    json_key(writer, SLICE("schemas"));
    json_object_begin(writer);
    for (size_t i = 0; i < schemas.n; i++) {
        json_key(writer, slice_from_cstr(schemas.items[i]->name));
        schema_write(writer, schemas.items[i]);
    }
    json_object_end(writer);
    json_object_end(writer);
}

int api_write_openapi(struct buf *out, struct slice version) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("openapi"), SLICE("3.1.0"));
    json_key(&writer, SLICE("info"));
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("title"), SLICE("Cardea"));
    json_kv_string(&writer, SLICE("version"), version);
    json_object_end(&writer);
    write_paths(&writer);
    write_components(&writer);
    json_object_end(&writer);
    return buf_error(out);
}
