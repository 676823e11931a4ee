/*
 * A server of 2026-07-28 answers that it wants input: what it would ask of its client, by keys, and
 * a text that it wants back. A client with a session is asked by requests on the stream of its
 * call; when all have been answered the call is routed once more, with all checks but the limits,
 * as a request of its own. So long, LIMIT_INPUT_ROUNDS times at most.
 *
 * What the client says to one of them with an error cannot be said to the server: an elicitation
 * counts as cancelled, all else ends the call.
 */
#include "base/mem.h"
#include "mcp/capabilities.h"
#include "private.h"

struct gw_input {
    unsigned n_rounds;
    size_t n_left; /* asked, not answered */
    struct io_timer *pace;
    struct buf state;     /* JSON, as the server wrote it; empty: it gave none */
    struct buf responses; /* JSON: the object, when all have answered */
    size_t n;
    struct input_item {
        enum mcp_method method;
        char *key, *answer; /* owned: JSON, as written */
        size_t key_len, answer_len;
    } items[LIMIT_ASKS];
};

bool gw_call_may_want_input(const struct gw_call *call) {
    bool can_have = call->method == MCP_TOOLS_CALL || call->method == MCP_PROMPTS_GET ||
                    call->method == MCP_RESOURCES_READ;
    return can_have && call->session != NULL && mcp_revision_is_modern(call->upstream_revision);
}

struct slice gw_call_input_responses(const struct gw_call *call) {
    return call->input != NULL ? buf_slice(&call->input->responses) : SLICE_EMPTY;
}

struct slice gw_call_request_state(const struct gw_call *call) {
    return call->input != NULL ? buf_slice(&call->input->state) : SLICE_EMPTY;
}

static void forget_items(struct gw_input *input) {
    for (size_t i = 0; i < input->n; i++) {
        mem_free(input->items[i].key);
        mem_free(input->items[i].answer);
    }
    input->n = input->n_left = 0;
}

void gw_call_free_input(struct gw_call *call) {
    struct gw_input *input = call->input;
    if (input == NULL)
        return;
    forget_items(input);
    io_timer_free(input->pace);
    buf_deinit(&input->state);
    buf_deinit(&input->responses);
    mem_free(input);
    call->input = NULL;
}

/* --- once more --- */

static void go_on(struct gw_call *call) {
    struct gw_input *input = call->input;
    struct buf *out = &input->responses;
    buf_reset(out, 0);
    for (size_t i = 0; i < input->n; i++) {
        const struct input_item *item = &input->items[i];
        buf_append(out, i == 0 ? SLICE("{\"") : SLICE(",\""));
        buf_append(out, slice_make(item->key, item->key_len));
        buf_append(out, SLICE("\":"));
        buf_append(out, slice_make(item->answer, item->answer_len));
    }
    if (input->n != 0)
        buf_append_byte(out, '}');
    bool is_task = gw_run_is_task(call->run);
    int error = 0;
    for (size_t i = 0; is_task && i < input->n && error == 0; i++)
        error =
            gw_run_note_key(call->run, slice_make(input->items[i].key, input->items[i].key_len));
    forget_items(input);
    if (buf_error(out) != 0 || error != 0)
        gw_call_refuse(call, MCP_E_INTERNAL, SLICE("the client's answers are too long"));
    else if (is_task)
        gw_run_update(call);
    else
        gw_route_go_on(call);
}

static void on_pace(void *context) {
    go_on(context);
}

/* --- answers --- */

static bool copy(char **ret_copy, size_t *ret_len, struct slice text) {
    *ret_copy = mem_alloc(text.len + 1);
    if (*ret_copy == NULL)
        return false;
    if (text.len != 0)
        memcpy(*ret_copy, text.ptr, text.len);
    *ret_len = text.len;
    return true;
}

void gw_call_input_answered(struct gw_call *call, size_t item, bool is_error, struct slice bytes) {
    struct gw_input *input = call->input;
    struct input_item *at = &input->items[item];
    if (is_error && at->method != MCP_ELICITATION_CREATE) {
        gw_call_refuse(call, MCP_E_UNAVAILABLE,
                       SLICE("the client refused what the server needs to go on"));
        return;
    }
    if (!copy(&at->answer, &at->answer_len, is_error ? SLICE("{\"action\":\"cancel\"}") : bytes)) {
        gw_call_refuse(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"));
        return;
    }
    if (--input->n_left == 0)
        go_on(call);
}

void gw_call_input_late(struct gw_call *call) {
    gw_call_refuse(call, MCP_E_TIMEOUT,
                   SLICE("the client did not give what the server needs within 10 minutes"));
}

/* --- what is wanted --- */

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_request[] = {{"params", want_nothing}, {0}};
static const struct json_want want_requests[] = {{"*", want_request}, {0}};
static const struct json_want want_members[] = {{"inputRequests", want_requests}, {0}};
static const struct json_want want_result = {.children = want_members};

/* Reads one of inputRequests. False: it cannot be asked, *ret_reason says why. */
static bool add_item(struct gw_call *call, const struct json_node *request,
                     struct slice *ret_params, const char **ret_reason) {
    const struct json_reader *reader = call->worker->second_reader;
    struct gw_input *input = call->input;
    const struct json_node *method =
        json_member_typed(reader, request, SLICE("method"), JSON_STRING);
    const struct json_node *params =
        json_member_typed(reader, request, SLICE("params"), JSON_OBJECT);
    enum mcp_method known =
        method != NULL ? mcp_method_parse(json_string_raw(method)) : MCP_METHOD_UNKNOWN;
    unsigned needed = mcp_capabilities_needed(reader, known, params);
    *ret_reason = "the server needs input of a kind that this client, or its protocol revision, "
                  "cannot give";
    bool can_give = needed != 0 && (call->capabilities & needed) == needed;
    if (can_give)
        *ret_reason = "the server wants more input at once than the gateway asks for";
    if (!can_give || input->n == LIMIT_ASKS) {
        asked_add(&call->record.asked, known, ASKED_REFUSED);
        return false;
    }
    struct input_item *item = &input->items[input->n];
    *item = (struct input_item){.method = known};
    *ret_reason = "the gateway is out of memory";
    if (!copy(&item->key, &item->key_len, request->key))
        return false;
    input->n++;
    *ret_params = params != NULL ? params->raw : SLICE_EMPTY;
    return true;
}

/* False: the call has been refused. */
static bool ask_for_all(struct gw_call *call, const struct json_node *requests) {
    const struct json_reader *reader = call->worker->second_reader;
    struct gw_input *input = call->input;
    struct slice params[LIMIT_ASKS] = {{0}};
    const char *reason = NULL;
    const struct json_node *request = requests != NULL ? json_first(reader, requests) : NULL;
    for (; request != NULL; request = json_next(reader, request)) {
        if (gw_run_knows_key(call->run, request->key))
            continue; /* it has the answer, and has not looked at it yet */
        if (!add_item(call, request, &params[input->n], &reason)) {
            gw_call_refuse(call, MCP_E_UNAVAILABLE, slice_from_cstr(reason));
            return false;
        }
    }
    input->n_left = input->n;
    for (size_t i = 0; i < input->n; i++) { /* the reader's tape is used by others now */
        if (!gw_call_ask(call, input->items[i].method, params[i], i))
            return false;
    }
    return true;
}

static bool begin_round(struct gw_call *call, const struct json_node *state) {
    struct gw_input *input = call->input;
    if (input == NULL) {
        input = call->input = mem_xalloc(sizeof *input);
        size_t most = call->worker->gateway->max_message;
        buf_init(&input->state, most);
        buf_init(&input->responses, most + KIB(64));
    }
    buf_reset(&input->state, 0);
    if (state != NULL)
        buf_append(&input->state, state->raw);
    if (++input->n_rounds > LIMIT_INPUT_ROUNDS)
        gw_call_refuse(call, MCP_E_UNAVAILABLE, SLICE("the server wants input again and again"));
    else if (buf_error(&input->state) != 0)
        gw_call_refuse(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"));
    else
        return true;
    return false;
}

bool gw_call_ask_for_task(struct gw_call *call, const struct json_node *requests) {
    const struct json_reader *reader = call->worker->second_reader;
    const struct json_node *request = json_first(reader, requests);
    while (request != NULL && gw_run_knows_key(call->run, request->key))
        request = json_next(reader, request);
    if (request == NULL)
        return false;
    if (begin_round(call, NULL))
        (void)ask_for_all(call, requests);
    return true;
}

bool gw_call_take_input(struct gw_call *call, struct slice result) {
    struct json_reader *reader = call->worker->second_reader;
    /* Most results are no such thing, and long: one search tells. */
    if (slice_find(result, SLICE("input_required")) == SIZE_MAX ||
        json_read(reader, result, &want_result, NULL, NULL) != 0)
        return false;
    const struct json_node *root = json_root(reader);
    const struct json_node *type = json_member(reader, root, SLICE("resultType"));
    const struct json_node *state =
        json_member_typed(reader, root, SLICE("requestState"), JSON_STRING);
    const struct json_node *requests =
        json_member_typed(reader, root, SLICE("inputRequests"), JSON_OBJECT);
    if (type == NULL || !json_string_is(type, SLICE("input_required")) ||
        (state == NULL && requests == NULL))
        return false; /* what it is then is for the translation to say */
    if (!begin_round(call, state) || !ask_for_all(call, requests) || call->input->n != 0)
        return true;
    struct gw_input *input = call->input;
    if (input->pace == NULL)
        input->pace = io_timer_new(call->worker->loop, on_pace, call);
    io_timer_start(input->pace, LIMIT_INPUT_PACE_MS);
    return true;
}
