/* The command line's way to the upstreams: what they serve, and one call. It speaks as a client of
 * the newest revision with sessions. */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "private.h"

static void write_tool(struct json_writer *writer, const struct catalog *catalog,
                       const struct catalog_item *item) {
    struct buf definition = BUF_INIT(item->json.len + item->other_json.len + KIB(4));
    if (catalog_item_write(&definition, catalog, item, true, MCP_LEGACY_LATEST) == 0)
        json_raw(writer, buf_slice(&definition));
    buf_deinit(&definition);
}

int gateway_write_tools(struct gateway *gateway, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_key(&writer, SLICE("tools"));
    json_array_begin(&writer);
    const struct upstream_list *list = gateway->workers[0].list;
    for (size_t i = 0; i < upstream_list_count(list); i++) {
        struct upstream_instance *instance =
            gw_own_instance(&gateway->workers[0], upstream_list_at(list, i));
        if (instance == NULL)
            continue;
        struct upstream_status status;
        upstream_instance_status(instance, &status);
        for (size_t k = 0; status.is_listed && k < status.catalog->lists[MCP_LIST_TOOLS]->n_items;
             k++)
            write_tool(&writer, status.catalog, &status.catalog->lists[MCP_LIST_TOOLS]->items[k]);
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    json_array_end(&writer);
    json_object_end(&writer);
    return buf_error(out);
}

struct local_call {
    struct gateway *gateway;
    enum mcp_revision revision; /* of the upstream */
    gateway_called_fn *done;
    void *context;
};

static void on_notification(void *context, enum mcp_method method, struct slice params) {
    (void)context; /* the command line waits for the end */
    (void)method;
    (void)params;
}

/* The result in the words of the revision that we speak here. */
static void on_result(struct local_call *call, struct slice bytes) {
    if (!mcp_bridge_result_needed(call->revision, MCP_LEGACY_LATEST)) {
        call->done(call->context, bytes, SLICE_EMPTY);
        return;
    }
    struct buf result = BUF_INIT(LIMIT_UPSTREAM_MESSAGE + MIB(1));
    struct mcp_implementation self = gw_implementation(call->gateway);
    const char *reason = NULL;
    int error = mcp_bridge_result(&result, call->gateway->workers[0].second_reader, MCP_TOOLS_CALL,
                                  bytes, call->revision, MCP_LEGACY_LATEST, &self, &reason);
    if (error == 0)
        call->done(call->context, buf_slice(&result), SLICE_EMPTY);
    else
        call->done(call->context, SLICE_EMPTY,
                   reason != NULL ? slice_from_cstr(reason)
                                  : SLICE("the answer is too long for the gateway"));
    buf_deinit(&result);
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct local_call *call = context;
    if (outcome == UPSTREAM_RESULT)
        on_result(call, bytes);
    else
        call->done(call->context, SLICE_EMPTY, bytes);
    mem_free(call);
}

/* The params of the call, as a client would send them and then as the upstream wants them. */
static int write_params(struct gateway *gateway, struct buf *out, const struct catalog *catalog,
                        const struct catalog_item *item, struct slice arguments) {
    struct json_reader *reader = gateway->workers[0].reader;
    struct buf params = BUF_INIT(LIMIT_REQUEST_BODY), document = BUF_INIT(LIMIT_REQUEST_BODY * 2);
    struct mcp_implementation self = gw_implementation(gateway);
    struct mcp_params_edit edit = {
        .from = MCP_LEGACY_LATEST,
        .to = catalog->revision,
        .log_level = -1,
        .declare_nothing = true,
        .gateway = &self,
    };
    struct mcp_message message;
    struct mcp_refusal refusal;
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("name"), item->key);
    json_kv_raw(&writer, SLICE("arguments"), arguments);
    json_object_end(&writer);
    mcp_write_request(&document, SLICE("0"), MCP_TOOLS_CALL, buf_slice(&params));
    int error = buf_error(&params) != 0 ? buf_error(&params) : buf_error(&document);
    if (error == 0)
        error = mcp_message_read(reader, buf_slice(&document), &message, &refusal);
    if (error == 0)
        error = mcp_bridge_params(out, reader, &message, &edit);
    buf_deinit(&params);
    buf_deinit(&document);
    return error;
}

static int write_line(struct gateway *gateway, struct buf *line, uint64_t id,
                      const struct catalog *catalog, const struct catalog_item *item,
                      struct slice arguments) {
    struct buf params = BUF_INIT(LIMIT_REQUEST_BODY + KIB(16));
    char id_text[24];
    int len = snprintf(id_text, sizeof id_text, "%llu", (unsigned long long)id);
    int error = write_params(gateway, &params, catalog, item, arguments);
    if (error == 0) {
        mcp_write_request(line, slice_make(id_text, (size_t)len), MCP_TOOLS_CALL,
                          buf_slice(&params));
        mcp_make_one_line(line, 0);
        buf_append_byte(line, '\n');
        error = buf_error(line);
    }
    buf_deinit(&params);
    return error;
}

/* Nobody called over HTTP whose fields could be passed on. */
static struct slice no_field(void *context, struct slice name) {
    (void)context;
    (void)name;
    return (struct slice){0};
}

static int write_fields(struct gateway *gateway, struct buf *out, const struct upstream *upstream,
                        const struct catalog_item *item, struct slice arguments) {
    int error = upstream_wants_caller_fields(upstream)
                    ? upstream_write_fields(upstream, out, no_field, NULL)
                    : 0;
    return error != 0 ? error
                      : mcp_mirrors_write(out, &item->mirrors, gateway->workers[0].second_reader,
                                          arguments);
}

static int start(struct gateway *gateway, const struct upstream *upstream,
                 struct upstream_instance *instance, const struct catalog *catalog,
                 const struct catalog_item *item, struct slice arguments, gateway_called_fn *done,
                 void *context) {
    static const struct upstream_call_events events = {
        .on_notification = on_notification,
        .on_done = on_done,
    };
    struct gw_worker *worker = &gateway->workers[0];
    struct buf line = BUF_INIT(LIMIT_REQUEST_BODY + KIB(32)),
               fields = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    struct upstream_request request = {
        .id = upstream_next_id(gateway->upstreams),
        .method = MCP_TOOLS_CALL,
        .revision = catalog->revision,
        .name = item->key,
    };
    int error = write_line(gateway, &line, request.id, catalog, item, arguments);
    if (error == 0)
        error = write_fields(gateway, &fields, upstream, item, arguments);
    if (error == 0) {
        request.line = buf_slice(&line);
        request.fields = buf_slice(&fields);
        struct local_call *call = mem_xalloc(sizeof *call);
        *call = (struct local_call){gateway, catalog->revision, done, context};
        if (upstream_call_start(instance, worker->upstreams, &request, &events, call) == NULL) {
            mem_free(call);
            error = -ENOMEM;
        }
    }
    buf_deinit(&line);
    buf_deinit(&fields);
    return error;
}

int gateway_call_tool(struct gateway *gateway, struct slice tool, struct slice arguments,
                      gateway_called_fn *done, void *context) {
    struct json_reader *reader = gateway->workers[0].reader;
    if (json_read(reader, arguments, NULL, NULL, NULL) != 0 ||
        json_root(reader)->type != JSON_OBJECT)
        return -EINVAL;
    int error = -ENOENT;
    const struct upstream_list *list = gateway->workers[0].list;
    for (size_t i = 0; i < upstream_list_count(list) && error == -ENOENT; i++) {
        struct upstream *upstream = upstream_list_at(list, i);
        struct upstream_instance *instance = gw_own_instance(&gateway->workers[0], upstream);
        if (instance == NULL)
            continue;
        struct upstream_status status;
        upstream_instance_status(instance, &status);
        const struct catalog_item *item =
            status.is_listed ? catalog_find(status.catalog, MCP_LIST_TOOLS, tool, true) : NULL;
        if (item != NULL)
            error =
                start(gateway, upstream, instance, status.catalog, item, arguments, done, context);
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    return error;
}
