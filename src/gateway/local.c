/* The command line's way to the upstreams: what they serve, and one call. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "json/writer.h"
#include "private.h"

static void write_tool(struct json_writer *writer, const struct catalog_item *item) {
    struct buf definition = BUF_INIT(LIMIT_DEFINITION + KIB(4));
    if (catalog_item_write(&definition, item, true) == 0)
        json_raw(writer, buf_slice(&definition));
    buf_deinit(&definition);
}

int gateway_write_tools(struct gateway *gateway, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_key(&writer, SLICE("tools"));
    json_array_begin(&writer);
    for (size_t i = 0; i < upstream_set_count(gateway->upstreams); i++) {
        struct upstream_instance *instance =
            gw_own_instance(gateway, upstream_set_at(gateway->upstreams, i), gateway_loop(gateway));
        if (instance == NULL)
            continue;
        struct upstream_status status;
        upstream_instance_status(instance, &status);
        for (size_t k = 0; status.is_listed && k < status.catalog->lists[MCP_LIST_TOOLS]->n_items;
             k++)
            write_tool(&writer, &status.catalog->lists[MCP_LIST_TOOLS]->items[k]);
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    json_array_end(&writer);
    json_object_end(&writer);
    return buf_error(out);
}

struct local_call {
    gateway_called_fn *done;
    void *context;
};

static void on_notification(void *context, enum mcp_method method, struct slice params) {
    (void)context; /* the command line waits for the end */
    (void)method;
    (void)params;
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct local_call *call = context;
    bool is_result = outcome == UPSTREAM_RESULT;
    call->done(call->context, is_result ? bytes : SLICE_EMPTY, is_result ? SLICE_EMPTY : bytes);
    mem_free(call);
}

static int start(struct gateway *gateway, struct upstream_instance *instance,
                 const struct catalog_item *item, struct slice arguments, gateway_called_fn *done,
                 void *context) {
    static const struct upstream_call_events events = {
        .on_notification = on_notification,
        .on_done = on_done,
    };
    struct buf params = BUF_INIT(LIMIT_REQUEST_BODY), line = BUF_INIT(LIMIT_REQUEST_BODY + KIB(1));
    struct json_writer writer;
    char id_text[24];
    uint64_t id = upstream_next_id(gateway->upstreams);
    int len = snprintf(id_text, sizeof id_text, "%llu", (unsigned long long)id);
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("name"), item->key);
    json_kv_raw(&writer, SLICE("arguments"), arguments);
    json_object_end(&writer);
    mcp_write_request(&line, slice_make(id_text, (size_t)len), MCP_TOOLS_CALL, buf_slice(&params));
    mcp_make_one_line(&line, 0);
    buf_append_byte(&line, '\n');
    int error = buf_error(&params) != 0 ? buf_error(&params) : buf_error(&line);
    if (error == 0) {
        struct local_call *call = mem_xalloc(sizeof *call);
        *call = (struct local_call){.done = done, .context = context};
        if (upstream_call_start(instance, gateway_loop(gateway), id, buf_slice(&line), &events,
                                call) == NULL) {
            mem_free(call);
            error = -ENOMEM;
        }
    }
    buf_deinit(&params);
    buf_deinit(&line);
    return error;
}

int gateway_call_tool(struct gateway *gateway, struct slice tool, struct slice arguments,
                      gateway_called_fn *done, void *context) {
    struct json_reader *reader = gateway->workers[0].reader;
    if (json_read(reader, arguments, NULL, NULL, NULL) != 0 ||
        json_root(reader)->type != JSON_OBJECT)
        return -EINVAL;
    int error = -ENOENT;
    for (size_t i = 0; i < upstream_set_count(gateway->upstreams) && error == -ENOENT; i++) {
        struct upstream_instance *instance =
            gw_own_instance(gateway, upstream_set_at(gateway->upstreams, i), gateway_loop(gateway));
        if (instance == NULL)
            continue;
        struct upstream_status status;
        upstream_instance_status(instance, &status);
        const struct catalog_item *item =
            status.is_listed ? catalog_find(status.catalog, MCP_LIST_TOOLS, tool, true) : NULL;
        if (item != NULL)
            error = start(gateway, instance, item, arguments, done, context);
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    return error;
}
