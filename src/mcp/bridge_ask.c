/*
 * Requests of servers. An elicitation by URL has an id of its own in 2025-11-25 alone, where
 * notifications/elicitation/complete names it (client/elicitation); between the eras nobody hears
 * of that. What is asked by a result has no progress (MCP 2026-07-28, basic/patterns/mrtr).
 */
#include "bridge_private.h"
#include "edits.h"

static const struct slice elicitation_id[] = {SLICE_INIT("elicitationId")};
static const struct slice progress_token[] = {SLICE_INIT("progressToken")};

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_members[] = {{"_meta", want_nothing}, {0}};
static const struct json_want want_params = {.children = want_members};

/* The root, or NULL: *ret_error says why, 0: there is nothing to do. */
static const struct json_node *read_params(struct json_reader *reader, struct slice params,
                                           int *ret_error) {
    *ret_error = 0;
    if (params.len == 0)
        return NULL;
    int error = json_read(reader, params, &want_params, NULL, NULL);
    const struct json_node *root = error == 0 ? json_root(reader) : NULL;
    if (error < 0)
        *ret_error = error;
    else if (root == NULL || root->type != JSON_OBJECT)
        *ret_error = MCP_E_REFUSED;
    return *ret_error == 0 ? root : NULL;
}

int mcp_bridge_ask_to_modern(struct buf *out, struct json_reader *reader, enum mcp_method method,
                             struct slice params) {
    static const struct edits_keys gone = {elicitation_id, ARRAY_LEN(elicitation_id), false};
    static const struct edits_keys gone_meta = {progress_token, ARRAY_LEN(progress_token), false};
    struct edits edits = {.n = 0};
    struct buf none = BUF_INIT(1);
    int error = 0;
    const struct json_node *root = read_params(reader, params, &error);
    if (root == NULL)
        return error;
    const struct json_node *meta = json_member_typed(reader, root, SLICE("_meta"), JSON_OBJECT);
    if (method == MCP_ELICITATION_CREATE)
        edits_members(&edits, reader, root, &gone, &none);
    if (meta != NULL)
        edits_members(&edits, reader, meta, &gone_meta, &none);
    return mcp_splice(out, params, edits.items, edits.n);
}

int mcp_bridge_ask_to_legacy(struct buf *out, struct json_reader *reader, enum mcp_method method,
                             struct slice params, struct slice id) {
    static const struct edits_keys nothing = {0};
    struct edits edits = {.n = 0};
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(id.len + 32);
    int error = 0;
    const struct json_node *root = read_params(reader, params, &error);
    if (root == NULL)
        return error;
    const struct json_node *mode = json_member(reader, root, SLICE("mode"));
    if (method != MCP_ELICITATION_CREATE || mode == NULL || !json_string_is(mode, SLICE("url")) ||
        json_member(reader, root, elicitation_id[0]) != NULL)
        return buf_append(out, params);
    bridge_append_key(&members, elicitation_id[0]);
    buf_append_byte(&members, '"');
    buf_append(&members, id);
    buf_append_byte(&members, '"');
    edits_members(&edits, reader, root, &nothing, &members);
    error = buf_error(&members);
    return error != 0 ? error : mcp_splice(out, params, edits.items, edits.n);
}
