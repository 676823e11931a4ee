/*
 * Upstreams: those of the file, which are looked at, and those of the store, which are changed. An
 * answer is made of a row of the store and of what the gateway says that it serves; of a change
 * when every worker goes by it (api_refresh()).
 */
#include <errno.h>

#include "defining.h"
#include "handlers.h"

static int write_status(void *context, struct buf *out) {
    return gateway_write_status(context, out);
}

/* --- as JSON --- */

static const struct json_want nothing[] = {{0}};
static const struct json_want each_item[] = {{"*", nothing}, {0}};
static const struct json_want all_items[] = {{"*", each_item}, {0}};
static const struct json_want want_items = {.children = all_items};

static bool is_json(struct slice text) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    return json_reader_new(&reader) == 0 && json_read(reader, text, NULL, NULL, NULL) == 0;
}

static void write_row(struct json_writer *writer, const struct defined_row *row,
                      bool has_definition) {
    json_kv_bool(writer, SLICE("is_disabled"), row->is_disabled);
    json_kv_u64(writer, SLICE("version"), row->version);
    api_write_time(writer, "created", row->created_ms);
    api_write_time(writer, "updated", row->updated_ms);
    if (has_definition && is_json(row->definition))
        json_kv_raw(writer, SLICE("definition"), row->definition);
    else if (has_definition)
        json_kv_string(writer, SLICE("definition"), row->definition);
}

static void write_members(struct json_writer *writer, const struct json_reader *reader,
                          const struct json_node *object) {
    for (const struct json_node *node = json_first(reader, object); node != NULL;
         node = json_next(reader, node))
        json_kv_raw(writer, node->key, node->raw);
}

/* `status`: what the gateway says of it, or NULL; `row`: what the store has, or NULL. */
static void write_item(struct json_writer *writer, const struct json_reader *reader,
                       const struct json_node *status, const struct defined_row *row,
                       bool has_definition) {
    const struct json_node *source =
        status != NULL ? json_member(reader, status, SLICE("source")) : NULL;
    bool is_of_file = source != NULL && json_string_is(source, SLICE("file"));
    json_object_begin(writer);
    if (status != NULL) {
        write_members(writer, reader, status);
    } else {
        api_write_text(writer, "name", row->name);
        api_write_text(writer, "source", SLICE("store"));
        api_write_text(writer, "state", SLICE("waiting"));
    }
    if (row != NULL && is_of_file) {
        json_key(writer, SLICE("shadows"));
        json_object_begin(writer);
        write_row(writer, row, has_definition);
        json_object_end(writer);
    } else if (row != NULL) {
        write_row(writer, row, has_definition);
    }
    json_object_end(writer);
}

static const struct json_node *find_item(const struct json_reader *reader, const char *list,
                                         struct slice name) {
    const struct json_node *items = json_member(reader, json_root(reader), slice_from_cstr(list));
    for (const struct json_node *node = items != NULL ? json_first(reader, items) : NULL;
         node != NULL; node = json_next(reader, node)) {
        const struct json_node *said = json_member(reader, node, SLICE("name"));
        if (said != NULL && json_string_is(said, name))
            return node;
    }
    return NULL;
}

static bool is_name_of(const struct json_reader *reader, const struct json_node *item,
                       struct slice name) {
    const struct json_node *said = json_member(reader, item, SLICE("name"));
    return said != NULL && json_string_is(said, name);
}

static const struct defined_row *find_row(const struct defining *defining,
                                          const struct json_reader *reader,
                                          const struct json_node *item) {
    for (size_t i = 0; i < defining->n_rows; i++) {
        if (is_name_of(reader, item, defining->rows[i].name))
            return &defining->rows[i];
    }
    return NULL;
}

/* --- looking --- */

static int read_status(struct defining *defining) {
    int error = json_reader_new(&defining->reader);
    return error == 0
               ? json_read(defining->reader, buf_slice(&defining->text), &want_items, NULL, NULL)
               : error;
}

static void write_all(struct api_request *request) {
    static const char *const lists[] = {"upstreams", "left_out"};
    const struct defining *defining = request->own;
    const struct json_reader *reader = defining->reader;
    struct json_writer writer;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_key(&writer, SLICE("items"));
    json_array_begin(&writer);
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        const struct json_node *items =
            json_member(reader, json_root(reader), slice_from_cstr(lists[k]));
        for (const struct json_node *node = items != NULL ? json_first(reader, items) : NULL;
             node != NULL; node = json_next(reader, node)) {
            const struct defined_row *row = find_row(defining, reader, node);
            const struct json_node *source = json_member(reader, node, SLICE("source"));
            if (source != NULL && json_string_is(source, SLICE("file")))
                row = NULL; /* that is another item */
            write_item(&writer, reader, node, row, false);
        }
    }
    for (size_t i = 0; i < defining->n_rows; i++) {
        struct slice name = defining->rows[i].name;
        const struct json_node *served = find_item(reader, "upstreams", name);
        const struct json_node *source =
            served != NULL ? json_member(reader, served, SLICE("source")) : NULL;
        bool is_of_file = source != NULL && json_string_is(source, SLICE("file"));
        if ((served == NULL || is_of_file) && find_item(reader, "left_out", name) == NULL)
            write_item(&writer, reader, NULL, &defining->rows[i], false);
    }
    json_array_end(&writer);
    json_object_end(&writer);
}

static void write_one(struct api_request *request) {
    struct defining *defining = request->own;
    const struct json_reader *reader = defining->reader;
    const struct defined_row *row = defining->n_rows != 0 ? &defining->rows[0] : NULL;
    const struct json_node *status = find_item(reader, "upstreams", defining->name);
    struct json_writer writer;
    if (status == NULL)
        status = find_item(reader, "left_out", defining->name);
    if (status == NULL && row == NULL) {
        defining->error = api_refuse(request, 404, "there is no such upstream", NULL);
        return;
    }
    json_writer_init(&writer, &request->answer.body);
    write_item(&writer, reader, status, row, true);
    request->answer.etag = row != NULL ? row->version : 0;
    if (request->method == HTTP_METHOD_POST)
        buf_printf(&request->answer.fields, "Location: /api/v1/upstreams/%.*s\r\n",
                   SLICE_ARGS(defining->name));
}

/* On a thread of the readers: it may be long. */
static void shape(struct api_request *request) {
    struct defining *defining = request->own;
    defining->error = read_status(defining);
    if (defining->error == 0 && defining->name.ptr == NULL)
        write_all(request);
    else if (defining->error == 0)
        write_one(request);
}

static void on_shaped(struct api_request *request) {
    const struct defining *defining = request->own;
    api_request_done(request, defining->error);
}

static void on_status(struct api_request *request, int error) {
    struct defining *defining = request->own;
    if (error != 0) {
        api_request_done(request, error);
        return;
    }
    buf_deinit(&defining->text);
    defining->text = request->answer.body;
    buf_init(&request->answer.body, API_ANSWER);
    (void)!api_in_crew(request, request->api->readers, shape, on_shaped);
}

static void show(struct api_request *request) {
    if (request->job.result != 0)
        api_request_done(request, request->job.result);
    else
        api_ask(request, write_status, request->api->options.gateway, on_status);
}

static int find_rows(struct store_tx *tx, struct api_request *request) {
    struct defining *defining = request->own;
    struct defining_rows rows = {.request = request};
    defining->n_rows = 0;
    return accounts_list_upstreams(tx, defining_take_row, &rows);
}

/* One of the file alone has no row. */
static int get_row(struct store_tx *tx, struct api_request *request) {
    struct defining *defining = request->own;
    struct defining_rows rows = {.request = request, .with_definitions = true};
    defining->n_rows = 0;
    int error = accounts_get_upstream(tx, defining->name, defining_take_row, &rows);
    return error == ACCOUNTS_E_NONE ? 0 : error;
}

void api_list_upstreams(struct api_request *request) {
    (void)defining_of(request);
    api_in_store(request, STORE_READ, find_rows, show);
}

void api_get_upstream(struct api_request *request) {
    defining_of(request)->name = request->parameters[0];
    api_in_store(request, STORE_READ, get_row, show);
}

/* --- changing --- */

static int take_body(struct api_request *request, struct accounts_upstream_change *change) {
    const struct defining *defining = request->own;
    const struct config_stored_upstream *found = defining_found(defining);
    *change = (struct accounts_upstream_change){
        .definition = defining->definition,
        .needs = found != NULL ? found->needs : 0,
        .is_disabled = schema_bool(request->reader, "is_disabled"),
        .version = request->match == GUARD_MATCH_ONE ? request->version : 0,
    };
    return 0;
}

static int add_it(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    const struct defining *defining = request->own;
    struct accounts_upstream_change change;
    int error = take_body(request, &change);
    change.version = 0;
    if (error == 0)
        error = defining_check(tx, request);
    if (error == 0)
        error = accounts_add_upstream(tx, &actor, defining->name, &change, &request->answer.reason);
    return error == 0 ? get_row(tx, request) : error;
}

void api_add_upstream(struct api_request *request) {
    struct defining *defining = defining_of(request);
    int error = api_text(request, "name", &defining->name);
    request->parameters[0] = defining->name; /* for the trail: what was made */
    defining->definition = schema_raw(request->reader, "definition");
    if (error != 0)
        api_request_done(request, error);
    else
        defining_load(request, add_it, show);
}

static int change_it(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    const struct defining *defining = request->own;
    struct accounts_upstream_change change;
    int error = take_body(request, &change);
    if (error == 0 && change.definition.ptr != NULL)
        error = defining_check(tx, request);
    if (error == 0)
        error =
            accounts_change_upstream(tx, &actor, defining->name, &change, &request->answer.reason);
    return error == 0 ? get_row(tx, request) : error;
}

void api_change_upstream(struct api_request *request) {
    struct defining *defining = defining_of(request);
    struct slice definition = schema_raw(request->reader, "definition");
    defining->name = request->parameters[0];
    if (definition.len != 0)
        defining->definition = definition;
    if (definition.len != 0)
        defining_load(request, change_it, show);
    else
        api_in_store(request, STORE_WRITE, change_it, show);
}

int api_delete_upstream(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    return accounts_delete_upstream(tx, &actor, request->parameters[0],
                                    request->match == GUARD_MATCH_ONE ? request->version : 0,
                                    &request->answer.reason);
}
