/*
 * Messages of 2026-07-28 (MCP 2026-07-28, basic/index and basic/transports/streamable-http). There
 * is no session: every request says in _meta what it claims to be, and its header fields repeat a
 * part of that for whoever routes by them.
 *
 * The body is the source of truth. A claim in it makes a request modern, whatever its method and
 * its fields; the fields are held against the body and mean nothing alone, so that nobody in front
 * of us can have decided on something else than what runs. They make the era only of what cannot
 * carry a claim, and of requests that forgot theirs, which are told so.
 */
#include "mcp/capabilities.h"
#include "mcp/tasks.h"
#include "private.h"

struct modern_request {
    struct gw_exchange *exchange;
    const struct mcp_message *message;
    const struct http_head *head;
    struct mcp_envelope envelope;
    unsigned declared; /* that its client can do */
};

bool gw_version_is_modern(struct slice version) {
    static const char shape[] = "dddd-dd-dd";
    if (version.len != sizeof shape - 1)
        return false;
    for (size_t i = 0; i < version.len; i++) {
        bool is_digit = version.ptr[i] >= '0' && version.ptr[i] <= '9';
        if (shape[i] == 'd' ? !is_digit : version.ptr[i] != shape[i])
            return false;
    }
    /* Dates, in the order of their text. */
    return slice_cmp(version, mcp_revision_name(MCP_2026_07_28)) >= 0;
}

/* Always false: the checks end with it. */
static bool refuse(const struct modern_request *request, uint16_t status, enum mcp_error_code code,
                   const char *reason) {
    gw_message_refuse(request->exchange, status, request->message->id, code, reason, SLICE_EMPTY);
    return false;
}

static bool refuse_field(const struct modern_request *request, const char *reason) {
    return refuse(request, 400, MCP_E_HEADER_MISMATCH, reason);
}

static const struct json_node *claim(const struct modern_request *request) {
    return json_member(request->exchange->worker->reader, request->message->meta, MCP_META_VERSION);
}

static bool check_envelope(struct modern_request *request) {
    const struct json_reader *reader = request->exchange->worker->reader;
    const char *reason = "";
    if (request->message->method == MCP_INITIALIZE && !mcp_has_envelope(reader, request->message))
        return refuse_field(request, "MCP-Protocol-Version names a revision without initialize");
    if (mcp_envelope_read(reader, request->message, &request->envelope, &reason) != 0)
        return refuse(request, 400, MCP_E_INVALID_PARAMS, reason);
    request->declared =
        mcp_capabilities_read(request->exchange->worker->second_reader,
                              request->envelope.capabilities->raw, request->envelope.revision);
    return true;
}

static bool check_version_field(struct modern_request *request) {
    struct slice version;
    size_t count = http_head_find(request->head, SLICE("mcp-protocol-version"), &version);
    if (count == 0)
        return refuse_field(request, "the header field MCP-Protocol-Version is missing");
    if (count > 1)
        return refuse_field(request, "the header field MCP-Protocol-Version is there twice");
    if (!json_string_is(claim(request), version))
        return refuse_field(request,
                            "MCP-Protocol-Version and the protocolVersion in _meta are different");
    return true;
}

static bool check_version(struct modern_request *request) {
    if (mcp_revision_is_modern(request->envelope.revision))
        return true;
    struct buf data = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK * 6 + KIB(1));
    struct json_writer writer;
    json_writer_init(&writer, &data);
    json_object_begin(&writer);
    json_key(&writer, SLICE("supported"));
    json_array_begin(&writer);
    json_string(&writer, mcp_revision_name(MCP_2026_07_28));
    json_array_end(&writer);
    json_kv_raw(&writer, SLICE("requested"), request->envelope.version);
    json_object_end(&writer);
    gw_message_refuse(request->exchange, 400, request->message->id, MCP_E_UNSUPPORTED_VERSION,
                      "Unsupported protocol version", buf_slice(&data));
    buf_deinit(&data);
    return false;
}

static bool check_method_field(struct modern_request *request) {
    struct slice method;
    size_t count = http_head_find(request->head, SLICE("mcp-method"), &method);
    if (count == 0)
        return refuse_field(request, "the header field Mcp-Method is missing");
    if (count > 1)
        return refuse_field(request, "the header field Mcp-Method is there twice");
    if (!slice_eq(method, request->message->method_text))
        return refuse_field(request, "Mcp-Method and the method of the message are different");
    return true;
}

/* A name that the message lacks, or that is no string, is for the method's handler to refuse. */
static bool check_name_field(struct modern_request *request) {
    struct slice key = mcp_named_by(request->message->method);
    if (key.len == 0)
        return true;
    const struct json_node *name =
        mcp_param(request->exchange->worker->reader, request->message, key, JSON_STRING);
    struct slice field;
    size_t count = http_head_find(request->head, SLICE("mcp-name"), &field);
    if (count == 0 && name != NULL)
        return refuse_field(request, "the header field Mcp-Name is missing");
    if (count > 1)
        return refuse_field(request, "the header field Mcp-Name is there twice");
    if (count == 0)
        return true;
    if (name != NULL && mcp_field_is_plain(field) && json_string_is(name, field))
        return true;
    struct buf decoded = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    int error = mcp_field_decode(&decoded, field);
    bool is_same = error == 0 && (name == NULL || json_string_is(name, buf_slice(&decoded)));
    buf_deinit(&decoded);
    if (error != 0)
        return refuse_field(request, "the base64 of Mcp-Name is not valid");
    if (!is_same)
        return refuse_field(request, "Mcp-Name and what params name are different");
    return true;
}

static bool check_method(struct modern_request *request) {
    const struct gw_exchange *exchange = request->exchange;
    enum mcp_method method = request->message->method;
    bool is_there = gw_method_is_served(method, request->envelope.revision);
    bool is_of_tasks = mcp_method_is_of_tasks(method);
    if (is_there && (exchange->only != NULL || is_of_tasks)) {
        struct gw_view *view = gw_view_open(exchange->worker, exchange->caller, NULL,
                                            request->declared & MCP_CAN_ALL, exchange->only);
        is_there = is_of_tasks ? gw_has_tasks(view, request->envelope.revision)
                               : !gw_method_is_absent(method, view);
        gw_view_close(view);
    }
    return is_there || refuse(request, 404, MCP_E_METHOD_NOT_FOUND, "Method not found");
}

/* The order decides which error is told of a request that has several; it is that of the official
 * server, which its clients and the conformance tests rely on. Mcp-Param-* fields are looked at
 * when the tool is known (route.c). */
static bool (*const checks[])(struct modern_request *request) = {
    check_envelope,     check_version_field, check_version,
    check_method_field, check_name_field,    check_method,
};

static void run_request(struct modern_request *request) {
    struct gw_exchange *exchange = request->exchange;
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        if (!checks[i](request))
            return;
    }
    exchange->n_calls = exchange->n_asked = 1;
    struct gw_call *call = gw_call_new(exchange, request->message, request->envelope.revision);
    if (call == NULL)
        return;
    call->log_level = request->envelope.log_level;
    call->capabilities = request->declared & MCP_CAN_ALL;
    call->takes_task = (request->declared & MCP_CAN_TASKS) != 0;
    exchange->serial = call->serial;
    gw_method_run(call, request->message);
}

/* None of them means anything here: cancelling is hanging up. Only a claim that contradicts itself
 * is refused; other fields need not be there (the specification asks them of requests). */
static void run_notification(struct modern_request *request) {
    const struct json_reader *reader = request->exchange->worker->reader;
    if (mcp_has_envelope(reader, request->message)) {
        if (claim(request)->type != JSON_STRING) {
            (void)refuse(request, 400, MCP_E_INVALID_PARAMS, "protocolVersion must be a string");
            return;
        }
        if (request->exchange->has_version_header && !check_version_field(request))
            return;
    }
    gw_exchange_accepted(request->exchange);
}

bool gw_modern_run(struct gw_exchange *exchange, const struct mcp_message *message) {
    if (exchange->carrier != NULL) {
        if (!mcp_has_envelope(exchange->worker->reader, message))
            return false;
        gw_message_refuse(exchange, 400, message->id, MCP_E_INVALID_REQUEST,
                          "HTTP+SSE is older than 2026-07-28: send it to the address without "
                          "/message",
                          SLICE_EMPTY);
        return true;
    }
    struct modern_request request = {
        .exchange = exchange,
        .message = message,
        .head = http_parser_head(exchange->connection->parser),
    };
    if (!exchange->version_header_is_modern && !mcp_has_envelope(exchange->worker->reader, message))
        return false;
    exchange->is_modern = true;
    switch (message->kind) {
    case MCP_REQUEST:
        run_request(&request);
        break;
    case MCP_NOTIFICATION:
        run_notification(&request);
        break;
    case MCP_RESULT:
    case MCP_ERROR:
        gw_message_refuse(exchange, 400, SLICE_EMPTY, MCP_E_INVALID_REQUEST,
                          "clients send no answers in 2026-07-28: there is nothing to answer",
                          SLICE_EMPTY);
        break;
    }
    return true;
}
