/* How the gateway is: tools, health, numbers, its configuration. What the first worker
 * has to say is asked of it, and put into shape on a thread of the readers, for it may be long. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "handlers.h"
#include "private.h"

enum { USUAL_PAGE = 50 };

static int write_status(void *context, struct buf *out) {
    return gateway_write_status(context, out);
}

static int write_tools(void *context, struct buf *out) {
    return gateway_write_tools(context, out);
}

/* --- a document of the gateway, read --- */

struct document {
    struct buf text;
    struct json_reader *reader;
    int error;
};

static void free_document(struct api_request *request) {
    struct document *document = request->own;
    json_reader_free(document->reader);
    buf_deinit(&document->text);
    mem_free(document);
}

/* Takes what came as the answer's body. */
static struct document *take_document(struct api_request *request) {
    struct document *document = mem_xalloc(sizeof *document);
    document->text = request->answer.body;
    buf_init(&request->answer.body, API_ANSWER);
    request->own = document;
    request->free_own = free_document;
    return document;
}

static const struct json_want nothing[] = {{0}};
static const struct json_want each_item[] = {{"*", nothing}, {0}};
static const struct json_want all_items[] = {{"*", each_item}, {0}};
static const struct json_want want_items = {.children = all_items};

static int read_document(struct document *document) {
    int error = json_reader_new(&document->reader);
    return error == 0
               ? json_read(document->reader, buf_slice(&document->text), &want_items, NULL, NULL)
               : error;
}

static void on_shaped(struct api_request *request) {
    const struct document *document = request->own;
    api_request_done(request, document->error);
}

static void shape_later(struct api_request *request, int error,
                        void (*shape)(struct api_request *request)) {
    if (error != 0) {
        api_request_done(request, error);
        return;
    }
    (void)take_document(request);
    (void)!api_in_crew(request, request->api->readers, shape, on_shaped);
}

/* --- tools --- */

/* The two lists of gateway_write_tools(), in the same order. */
struct pair {
    const struct json_node *tool, *access;
};

static struct slice raw_text(const struct json_reader *reader, const struct json_node *object,
                             struct slice key) {
    const struct json_node *node = json_member_typed(reader, object, key, JSON_STRING);
    return node != NULL ? json_string_raw(node) : SLICE_EMPTY;
}

static bool contains_nocase(struct slice text, struct slice part) {
    for (size_t i = 0; part.len <= text.len && i <= text.len - part.len; i++) {
        if (slice_eq_nocase(slice_sub(text, i, i + part.len), part))
            return true;
    }
    return false;
}

static bool is_asked_for(const struct api_request *request, const struct json_reader *reader,
                         const struct pair *pair) {
    struct slice upstream = api_query(request, "upstream"), search = api_query(request, "search"),
                 access = api_query(request, "access");
    return (upstream.ptr == NULL ||
            slice_eq(raw_text(reader, pair->access, SLICE("server")), upstream)) &&
           (access.ptr == NULL ||
            slice_eq(raw_text(reader, pair->access, SLICE("access")), access)) &&
           (search.ptr == NULL ||
            contains_nocase(raw_text(reader, pair->tool, SLICE("name")), search));
}

static void copy_member(struct json_writer *writer, const char *key,
                        const struct json_reader *reader, const struct json_node *object,
                        struct slice name, struct slice without) {
    const struct json_node *node = json_member(reader, object, name);
    json_kv_raw(writer, slice_from_cstr(key), node != NULL ? node->raw : without);
}

static void write_tool(struct json_writer *writer, const struct json_reader *reader,
                       const struct pair *pair) {
    static const struct slice none = SLICE_INIT("\"\"");
    json_object_begin(writer);
    copy_member(writer, "name", reader, pair->tool, SLICE("name"), none);
    copy_member(writer, "upstream", reader, pair->access, SLICE("server"), none);
    copy_member(writer, "tool", reader, pair->access, SLICE("tool"), none);
    copy_member(writer, "access", reader, pair->access, SLICE("access"), none);
    copy_member(writer, "locked", reader, pair->access, SLICE("locked"), SLICE("false"));
    json_kv_raw(writer, SLICE("definition"), pair->tool->raw);
    json_object_end(writer);
}

/* The cursor is a number of tools: a list that changed meanwhile may tell one twice, or not. */
static void write_tool_page(struct api_request *request, const struct json_reader *reader,
                            uint64_t from) {
    const struct json_node *tools = json_member(reader, json_root(reader), SLICE("tools"));
    const struct json_node *access = json_member(reader, json_root(reader), SLICE("access"));
    struct pair pair = {tools != NULL ? json_first(reader, tools) : NULL,
                        access != NULL ? json_first(reader, access) : NULL};
    uint64_t n = 0, most = api_query_number(request, "limit", USUAL_PAGE);
    struct json_writer writer;
    char next[24];
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_key(&writer, SLICE("items"));
    json_array_begin(&writer);
    for (; pair.tool != NULL && pair.access != NULL;
         pair.tool = json_next(reader, pair.tool), pair.access = json_next(reader, pair.access)) {
        if (!is_asked_for(request, reader, &pair))
            continue;
        if (n >= from && n < from + most)
            write_tool(&writer, reader, &pair);
        n++;
    }
    json_array_end(&writer);
    json_kv_u64(&writer, SLICE("total"), n);
    json_key(&writer, SLICE("next"));
    snprintf(next, sizeof next, "%llu", (unsigned long long)(from + most));
    if (n > from + most)
        json_string(&writer, slice_from_cstr(next));
    else
        json_null(&writer);
    json_object_end(&writer);
}

static void shape_tools(struct api_request *request) {
    struct document *document = request->own;
    struct slice cursor = api_query(request, "cursor");
    uint64_t from = 0;
    if (cursor.ptr != NULL && (slice_to_u64(cursor, &from) != 0 || from > INT32_MAX)) {
        document->error = api_refuse(request, 400, "cursor: is none of this list", NULL);
        return;
    }
    document->error = read_document(document);
    if (document->error == 0)
        write_tool_page(request, document->reader, from);
}

static void on_tools(struct api_request *request, int error) {
    shape_later(request, error, shape_tools);
}

void api_list_tools(struct api_request *request) {
    api_ask(request, write_tools, request->api->options.gateway, on_tools);
}

/* --- numbers --- */

static void shape_statistics(struct api_request *request) {
    struct document *document = request->own;
    document->error = read_document(document);
    if (document->error != 0)
        return;
    const struct json_reader *reader = document->reader;
    struct json_writer writer;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    for (const struct json_node *node = json_first(reader, json_root(reader)); node != NULL;
         node = json_next(reader, node)) {
        if (!json_key_is(node, SLICE("upstreams")))
            json_kv_raw(&writer, node->key, node->raw);
    }
    api_write_time(&writer, "started", request->api->started_ms);
    api_write_text(&writer, "version", request->api->options.version);
    json_object_end(&writer);
}

static void on_statistics(struct api_request *request, int error) {
    shape_later(request, error, shape_statistics);
}

void api_get_statistics(struct api_request *request) {
    api_ask(request, write_status, request->api->options.gateway, on_statistics);
}

/* --- health --- */

/* The store has answered: this request's session was found in it just now. */
static void write_health(struct api_request *request, bool has_gateway) {
    const struct api_options *options = &request->api->options;
    bool can_record = options->audit == NULL || audit_can_write(options->audit);
    struct json_writer writer;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    api_write_text(&writer, "status",
                   !can_record    ? SLICE("the audit trail cannot be written")
                   : !has_gateway ? SLICE("the gateway does not tell how it is")
                                  : SLICE("ok"));
    json_kv_bool(&writer, SLICE("store"), true);
    json_kv_bool(&writer, SLICE("gateway"), has_gateway);
    json_kv_bool(&writer, SLICE("audit"), can_record);
    api_write_text(&writer, "version", options->version);
    api_write_time(&writer, "started", request->api->started_ms);
    json_object_end(&writer);
    api_request_done(request, 0);
}

static int say_nothing(void *context, struct buf *out) {
    (void)context;
    return buf_error(out);
}

static void on_alive(struct api_request *request, int error) {
    api_answer_reset(&request->answer);
    buf_deinit(&request->answer.body);
    buf_init(&request->answer.body, API_ANSWER);
    write_health(request, error == 0);
}

void api_get_health(struct api_request *request) {
    if (request->api->options.gateway == NULL)
        write_health(request, false);
    else
        api_ask(request, say_nothing, NULL, on_alive);
}

/* --- the configuration --- */

static void free_config(struct api_request *request) {
    config_unref(request->own);
}

/* On worker 0, which waits for nothing: a reference, and what it says is written elsewhere. */
static int take_config(void *context, struct buf *out) {
    struct api_request *request = context;
    request->own = gateway_config(request->api->options.gateway);
    request->free_own = free_config;
    return buf_error(out);
}

static void write_config(struct api_request *request) {
    (void)!config_write_live(request->own, &request->answer.body); /* the buffer keeps the error */
}

static void on_written(struct api_request *request) {
    api_request_done(request, buf_error(&request->answer.body));
}

static void on_config(struct api_request *request, int error) {
    if (error != 0)
        api_request_done(request, error);
    else
        (void)!api_in_crew(request, request->api->readers, write_config, on_written);
}

void api_get_config(struct api_request *request) {
    api_ask(request, take_config, request, on_config);
}

/* --- this document --- */

void api_get_openapi(struct api_request *request) {
    buf_append(&request->answer.body, buf_slice(&request->api->openapi));
    api_request_done(request, 0);
}
