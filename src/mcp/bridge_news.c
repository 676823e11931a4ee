/* Notifications of what a client has subscribed to (rules in bridge.c). */
#include "bridge_private.h"
#include "edits.h"

/* Nothing else is in there. */
static bool has_ours_alone(const struct json_reader *reader, const struct json_node *meta) {
    const struct json_node *first = meta != NULL ? json_first(reader, meta) : NULL;
    return first != NULL && json_key_is(first, MCP_META_SUBSCRIPTION) &&
           json_next(reader, first) == NULL;
}

int mcp_bridge_news(struct buf *out, struct json_reader *reader, struct slice params,
                    struct slice subscription) {
    static const struct json_want meta_only[] = {{.key = "_meta"}, {.key = NULL}};
    static const struct json_want want = {.key = NULL, .children = meta_only};
    static const struct slice ours[] = {SLICE_INIT("io.modelcontextprotocol/subscriptionId")};
    static const struct slice metas[] = {SLICE_INIT("_meta")};
    static const struct edits_keys gone = {.keys = ours, .n = ARRAY_LEN(ours)}, nothing = {0},
                                   whole_meta = {.keys = metas, .n = ARRAY_LEN(metas)};
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID + KIB(1));
    struct edits edits = {.n = 0};
    if (json_read(reader, params, &want, NULL, NULL) != 0 || json_root(reader)->type != JSON_OBJECT)
        return MCP_E_REFUSED;
    const struct json_node *root = json_root(reader);
    const struct json_node *meta = json_member_typed(reader, root, SLICE("_meta"), JSON_OBJECT);
    if (subscription.len != 0 && meta == NULL)
        buf_append_cstr(&members, "\"_meta\":{");
    if (subscription.len != 0) {
        buf_append_byte(&members, '"');
        buf_append(&members, MCP_META_SUBSCRIPTION);
        buf_append_cstr(&members, "\":");
        buf_append(&members, subscription);
    }
    if (subscription.len != 0 && meta == NULL)
        buf_append_byte(&members, '}');
    if (subscription.len == 0 && has_ours_alone(reader, meta))
        edits_members(&edits, reader, root, &whole_meta, &members);
    else if (meta != NULL)
        edits_members(&edits, reader, meta, &gone, &members);
    else
        edits_members(&edits, reader, root, &nothing, &members);
    int error = buf_error(&members);
    return error != 0 ? error : mcp_splice(out, params, edits.items, edits.n);
}
