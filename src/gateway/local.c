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
    else
        json_null(writer);
    buf_deinit(&definition);
}

/* One object for each tool, in the order of the definitions, of what the gateway knows of it. Apart
 * from them: a definition is the server's, and may have any member. */
static void write_origin(struct json_writer *writer, struct gw_worker *worker,
                         const struct gw_view_item *item, const struct catalog_item *tool) {
    const struct policy_server *server =
        policy_find_server(worker->policy->policy, upstream_name(item->upstream));
    struct policy_item facts = gw_policy_item(worker, item, MCP_LIST_TOOLS, tool);
    bool edit_is_open = gw_edit_is_open(worker, NULL, upstream_name(item->upstream));
    json_object_begin(writer);
    json_kv_string(writer, SLICE("server"), upstream_name(item->upstream));
    json_kv_string(writer, SLICE("tool"), tool->key);
    if (server != NULL) {
        bool is_write = policy_is_locked(server, &facts, false);
        json_kv_string(writer, SLICE("access"), is_write ? SLICE("write") : SLICE("read"));
        json_kv_bool(writer, SLICE("locked"), policy_is_locked(server, &facts, edit_is_open));
    }
    json_object_end(writer);
}

enum tool_part { TOOL_DEFINITION, TOOL_ORIGIN };

static void write_tools(struct json_writer *writer, struct gateway *gateway, enum tool_part part) {
    const struct upstream_list *list = gateway->workers[0].list;
    json_array_begin(writer);
    for (size_t i = 0; i < upstream_list_count(list); i++) {
        struct upstream *upstream = upstream_list_at(list, i);
        struct upstream_instance *instance = gw_own_instance(&gateway->workers[0], upstream);
        if (instance == NULL)
            continue;
        struct upstream_status status;
        upstream_instance_status(instance, &status);
        const struct gw_view_item place = {.upstream = upstream, .status = status};
        const struct catalog_list *tools =
            status.is_listed ? status.catalog->lists[MCP_LIST_TOOLS] : NULL;
        for (size_t k = 0; tools != NULL && k < tools->n_items; k++) {
            if (part == TOOL_DEFINITION)
                write_tool(writer, status.catalog, &tools->items[k]);
            else
                write_origin(writer, &gateway->workers[0], &place, &tools->items[k]);
        }
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    json_array_end(writer);
}

int gateway_write_tools(struct gateway *gateway, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_key(&writer, SLICE("tools"));
    write_tools(&writer, gateway, TOOL_DEFINITION);
    json_key(&writer, SLICE("access"));
    write_tools(&writer, gateway, TOOL_ORIGIN);
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

/* By the same rules as for everybody, as the owner of this machine. False: *reason says why not. */
static bool may_call(struct gateway *gateway, const struct gw_view_item *item,
                     const struct catalog_item *tool, struct slice arguments, struct buf *reason) {
    static const struct policy_caller local = {0}; /* who is in no group */
    struct gw_worker *worker = &gateway->workers[0];
    const struct policy_server *server =
        policy_find_server(worker->policy->policy, upstream_name(item->upstream));
    if (server == NULL)
        return false;
    struct policy_item facts = gw_policy_item(worker, item, MCP_LIST_TOOLS, tool);
    struct policy_decision decision = policy_decide(
        server, &local, &facts, gw_edit_is_open(worker, NULL, upstream_name(item->upstream)));
    switch (decision.verdict) {
    case POLICY_UNKNOWN:
        buf_append_cstr(reason, "the owner of this machine, who is in no group, may not call it: ");
        policy_write_rule(reason, &decision, tool->key);
        buf_append_cstr(reason, " (cardea explain --as local says more)");
        return false;
    case POLICY_LOCKED:
        policy_write_locked(reason, &decision, tool->key);
        return false;
    case POLICY_ALLOWED:
        break;
    }
    return !policy_has_argument_rules(&decision) ||
           policy_check_arguments(&decision, tool->key, worker->second_reader, arguments, reason) ==
               0;
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
        const struct gw_view_item place = {.upstream = upstream, .status = status};
        struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        if (item != NULL && !may_call(gateway, &place, item, arguments, &reason)) {
            done(context, SLICE_EMPTY,
                 buf_len(&reason) != 0 ? buf_slice(&reason) : SLICE("it may not be called"));
            error = 0;
        } else if (item != NULL) {
            error =
                start(gateway, upstream, instance, status.catalog, item, arguments, done, context);
        }
        catalog_unref(status.catalog);
        upstream_instance_unref(instance);
    }
    return error;
}
