/*
 * Input for a server, of a client of 2026-07-28: it gets the server's result with what is wanted,
 * and calls again with the answers. Nothing is kept for that; but the state that travels with it is
 * sealed, so that nobody brings back what was given to somebody else, or for another call.
 */
#include "base/mem.h"
#include "private.h"

/* A result that asks for input is short; a longer one is passed on as it is, and its state, which
 * is then none of ours, is refused when it comes back. */
enum { MOST_RESULT = 1024 * 1024 };

bool gw_state_bind(const struct gw_worker *worker, const struct gw_principal *principal,
                   struct slice upstream, struct slice line, struct buf *name,
                   struct gw_state_binding *ret_binding) {
    struct json_reader *reader = worker->second_reader;
    struct mcp_message message;
    struct mcp_refusal refusal;
    if (mcp_message_read(reader, slice_trim(line), &message, &refusal) != 0 ||
        message.params == NULL)
        return false;
    bool is_uri = message.method == MCP_RESOURCES_READ;
    const struct json_node *arguments =
        mcp_param(reader, &message, SLICE("arguments"), JSON_OBJECT);
    const struct json_node *named =
        mcp_param(reader, &message, is_uri ? SLICE("uri") : SLICE("name"), JSON_STRING);
    if (named == NULL || json_string_append(name, named) != 0)
        return false;
    *ret_binding = (struct gw_state_binding){
        .principal = principal->id,
        .upstream = upstream,
        .name = buf_slice(name),
        .arguments = arguments != NULL ? arguments->raw : SLICE_EMPTY,
        .method = message.method,
    };
    return true;
}

/* The result with another state in the place of `span`. */
static void answer_edited(struct gw_call *call, struct slice result, struct slice span,
                          struct slice state) {
    struct buf quoted CLEANUP(buf_deinit) = BUF_INIT(state.len + 2);
    struct buf edited CLEANUP(buf_deinit) = BUF_INIT(result.len + state.len + 2);
    buf_append_byte(&quoted, '"');
    buf_append(&quoted, state);
    buf_append_byte(&quoted, '"');
    struct mcp_edit edit = {.span = span, .replacement = buf_slice(&quoted)};
    if (buf_error(&quoted) != 0 || mcp_splice(&edited, result, &edit, 1) != 0)
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    else
        gw_call_answer_result(call, buf_slice(&edited), call->upstream_revision);
}

bool gw_call_answer_sealed(struct gw_call *call, const struct upstream_call *sent,
                           struct slice result, unsigned http_status) {
    struct json_reader *reader = call->worker->second_reader;
    struct gw_state_binding binding;
    if (!mcp_revision_is_modern(call->revision) ||
        !mcp_revision_is_modern(call->upstream_revision) || result.len > MOST_RESULT ||
        slice_find(result, SLICE("requestState")) == SIZE_MAX ||
        json_read(reader, result, &json_want_root, NULL, NULL) != 0)
        return false;
    const struct json_node *state = json_member(reader, json_root(reader), SLICE("requestState"));
    if (state == NULL)
        return false;
    struct slice span = state->raw;
    gw_record_answer(call, UPSTREAM_RESULT, result, http_status);
    struct buf name CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH);
    struct buf sealed CLEANUP(buf_deinit) = BUF_INIT(span.len * 2 + KIB(1));
    if (!gw_state_bind(call->worker, call->principal, upstream_call_upstream(sent),
                       upstream_call_line(sent), &name, &binding) ||
        gw_state_seal(call->worker->gateway, &binding, GW_STATE_OF_SERVER, span, &sealed) != 0)
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    else
        answer_edited(call, result, span, buf_slice(&sealed));
    return true;
}

bool gw_call_open_state(struct gw_call *call, const struct json_node *state,
                        const struct gw_state_binding *binding, enum gw_state_kind *ret_kind,
                        struct buf *out) {
    int error = state->type == JSON_STRING ? gw_state_open(call->worker->gateway, binding,
                                                           json_string_raw(state), ret_kind, out)
                                           : GW_E_STATE;
    if (error == 0)
        return true;
    if (error == GW_E_STATE) {
        gw_record_deny(call, SLICE("requestState"), SLICE("it was not given for this request"));
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS,
                             SLICE("requestState is not one that was given for this request, or "
                                   "its time is over: send the request again without it"),
                             SLICE_EMPTY);
    } else {
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    }
    return false;
}
