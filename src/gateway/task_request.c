/* Requests about a task that the gateway sends by itself. */
#include <errno.h>

#include "json/writer.h"
#include "mcp/capabilities.h"
#include "private.h"

/* {"taskId":...} as a request of the client's, to be translated as one. */
static int write_document(const struct gw_task_request *request, struct buf *out) {
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_ID * 6 + 64);
    struct json_writer writer;
    json_writer_init(&writer, &params);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("taskId"), request->id);
    json_object_end(&writer);
    return buf_error(&params) != 0
               ? buf_error(&params)
               : mcp_write_request(out, SLICE("1"), request->method, buf_slice(&params));
}

static int write_line(const struct gw_task_request *request, uint64_t id, struct buf *line) {
    struct json_reader *reader = request->worker->second_reader;
    struct slice responses = request->responses;
    struct buf document CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_ID * 6 + KIB(1));
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_ID * 6 + KIB(16) + responses.len);
    struct mcp_implementation self = gw_implementation(request->worker->gateway);
    struct mcp_message message;
    struct mcp_refusal refusal;
    bool is_modern = mcp_revision_is_modern(request->revision);
    struct mcp_params_edit edit = {
        .from = is_modern ? request->client : request->revision,
        .to = request->revision,
        .log_level = -1,
        .capabilities = request->capabilities | MCP_CAN_TASKS,
        .input_responses = responses,
        .gateway = &self,
    };
    char digits[SLICE_U64];
    int error = write_document(request, &document);
    if (error == 0)
        error =
            mcp_message_read(reader, buf_slice(&document), &message, &refusal) == 0 ? 0 : -ENOMEM;
    if (error == 0)
        error = mcp_bridge_params(&params, reader, &message, &edit);
    if (error == 0)
        error =
            mcp_write_request(line, slice_of_u64(id, digits), request->method, buf_slice(&params));
    mcp_make_one_line(line, 0);
    return error != 0 ? error : buf_append_byte(line, '\n');
}

struct upstream_call *gw_task_request(const struct gw_task_request *request,
                                      const struct upstream_call_events *events, void *context) {
    struct buf line CLEANUP(buf_deinit) =
        BUF_INIT(LIMIT_TASK_ID * 6 + KIB(20) + request->responses.len);
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    const struct upstream *upstream = request->upstream;
    bool is_http = upstream_config(upstream)->url.len != 0;
    struct upstream_request out = {
        .id = upstream_next_id(request->worker->gateway->upstreams),
        .method = request->method,
        .revision = request->revision,
        .name = request->id,
        .token = request->token,
        .asker = request->asker,
        .is_patient = request->method == MCP_TASKS_RESULT,
        .progress = request->method == MCP_TASKS_RESULT ? request->first_id : 0,
    };
    if (write_line(request, out.id, &line) != 0 ||
        (is_http && upstream_wants_caller_fields(upstream) &&
         upstream_write_fields(upstream, &fields, NULL, NULL) != 0))
        return NULL;
    out.line = buf_slice(&line);
    out.fields = buf_slice(&fields);
    return upstream_call_start(request->instance, request->worker->upstreams, &out, events,
                               context);
}
