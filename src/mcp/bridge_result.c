/* Results; the rules stand in bridge.c. */
#include "bridge_private.h"
#include "edits.h"
#include "spelling.h"

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_blocks[] = {{"*", want_nothing}, {0}};
static const struct json_want want_prompt_message[] = {{"content", want_nothing}, {0}};
static const struct json_want want_prompt_messages[] = {{"*", want_prompt_message}, {0}};

static const struct json_want members_plain[] = {{"_meta", want_nothing}, {0}};
static const struct json_want members_of_call[] = {
    {"_meta", want_nothing}, {"content", want_blocks}, {0}};
static const struct json_want members_of_prompt[] = {
    {"_meta", want_nothing}, {"messages", want_prompt_messages}, {0}};

static const struct json_want want_plain = {.children = members_plain};
static const struct json_want want_call = {.children = members_of_call};
static const struct json_want want_prompt = {.children = members_of_prompt};

struct bridge {
    struct json_reader *reader;
    enum mcp_method method;
    bool from_modern, to_modern;
    enum mcp_revision to;
    const struct mcp_implementation *gateway;
    struct edits edits;
    struct buf members; /* that the result gets */
    struct buf meta;    /* that its _meta gets */
    struct buf value;   /* that takes the place of a member's: content, messages or _meta */
    const char *reason;
};

static void deinit(struct bridge *bridge) {
    buf_deinit(&bridge->members);
    buf_deinit(&bridge->meta);
    buf_deinit(&bridge->value);
}

static int refuse(struct bridge *bridge, const char *reason) {
    bridge->reason = reason;
    return MCP_E_REFUSED;
}

/* An array, opened or not, between whose brackets is nothing. */
static bool is_empty_array(const struct json_node *node) {
    if (node->type != JSON_ARRAY)
        return false;
    for (size_t i = 1; i < node->raw.len - 1; i++) {
        if (slice_find_byte(SLICE(" \t\r\n"), node->raw.ptr[i]) == SIZE_MAX)
            return false;
    }
    return true;
}

/* resource_link came with 2025-06-18, audio with 2025-03-26. */
static bool has_older_content(enum mcp_revision to) {
    return to < MCP_2025_06_18;
}

bool mcp_bridge_result_needed(enum mcp_revision from, enum mcp_revision to) {
    return mcp_revision_is_modern(from) != mcp_revision_is_modern(to) ||
           (has_older_content(to) && to < from);
}

/* --- kind --- */

static int check_kind(struct bridge *bridge, const struct json_node *root) {
    const struct json_node *type = json_member(bridge->reader, root, SLICE("resultType"));
    if (type == NULL || json_string_is(type, SLICE("complete")))
        return 0;
    if (json_string_is(type, SLICE("input_required")))
        return refuse(bridge, "the upstream asks for input in a way that does not exist in the "
                              "protocol revision of this client");
    return refuse(bridge, "the upstream's result is of a kind that the gateway does not know");
}

static int check_keys(struct bridge *bridge, const struct json_node *root,
                      const struct json_node *meta) {
    if (mcp_has_other_spelling(bridge->reader, root, MCP_PLACE_RESULT, false) ||
        (meta != NULL && mcp_has_other_spelling(bridge->reader, meta, MCP_PLACE_META, false)))
        return refuse(bridge,
                      "a key of the upstream's result is another spelling of a protocol key");
    if (meta != NULL && meta->type != JSON_OBJECT && meta->type != JSON_NULL)
        return refuse(bridge, "_meta of the upstream's result must be an object");
    return 0;
}

/* --- between the eras --- */

static const struct slice cache_keys[] = {SLICE_INIT("ttlMs"), SLICE_INIT("cacheScope")};
static const struct slice modern_keys[] = {SLICE_INIT("resultType"), SLICE_INIT("ttlMs"),
                                           SLICE_INIT("cacheScope")};
static const struct slice server_info[] = {SLICE_INIT("io.modelcontextprotocol/serverInfo")};
static const struct edits_keys nothing = {0};

/* Null is what some serialisers write for an absent _meta, and no object: it goes. */
static void add_server_info(struct bridge *bridge, const struct json_node *meta) {
    static const struct edits_keys gone = {server_info, ARRAY_LEN(server_info), false};
    bool is_object = meta != NULL && meta->type == JSON_OBJECT;
    if (is_object && json_member_typed(bridge->reader, meta, server_info[0], JSON_OBJECT) != NULL)
        return;
    if (bridge->gateway != NULL) {
        bridge_append_key(&bridge->meta, server_info[0]);
        bridge_append_implementation(&bridge->meta, bridge->gateway);
    }
    if (is_object) {
        edits_members(&bridge->edits, bridge->reader, meta, &gone, &bridge->meta);
        return;
    }
    if (meta == NULL && buf_len(&bridge->meta) == 0)
        return;
    struct buf *text = meta != NULL ? &bridge->value : &bridge->members;
    if (meta == NULL)
        bridge_append_key(text, SLICE("_meta"));
    buf_append_byte(text, '{');
    buf_append(text, buf_slice(&bridge->meta));
    buf_append_byte(text, '}');
    if (meta != NULL)
        edits_add(&bridge->edits, meta->raw, buf_slice(text));
}

static int to_modern(struct bridge *bridge, const struct json_node *root,
                     const struct json_node *meta) {
    static const struct edits_keys cache = {cache_keys, ARRAY_LEN(cache_keys), false};
    bool cached = mcp_is_cached(bridge->method);
    const struct json_node *contents = json_member(bridge->reader, root, SLICE("contents"));
    if (bridge->method == MCP_RESOURCES_READ && contents != NULL && is_empty_array(contents))
        return refuse(bridge, NULL);
    if (json_member(bridge->reader, root, SLICE("resultType")) == NULL) {
        bridge_append_key(&bridge->members, SLICE("resultType"));
        buf_append(&bridge->members, SLICE("\"complete\""));
    }
    if (cached)
        bridge_append_cache(&bridge->members, (struct mcp_cache){.ttl_ms = 0});
    add_server_info(bridge, meta);
    edits_members(&bridge->edits, bridge->reader, root, cached ? &cache : &nothing,
                  &bridge->members);
    return 0;
}

static void take_out_server_info(struct bridge *bridge, const struct json_node *meta) {
    static const struct edits_keys gone = {server_info, ARRAY_LEN(server_info), false};
    if (meta != NULL && meta->type == JSON_NULL)
        edits_add(&bridge->edits, meta->raw, SLICE("{}"));
    else if (meta != NULL)
        edits_members(&bridge->edits, bridge->reader, meta, &gone, &bridge->meta);
}

/* --- content --- */

/* Members that are strings, as written, without their quotes; empty for others. */
static struct slice text_of(const struct bridge *bridge, const struct json_node *block,
                            struct slice key) {
    const struct json_node *node = json_member_typed(bridge->reader, block, key, JSON_STRING);
    return node != NULL ? json_string_raw(node) : SLICE_EMPTY;
}

static void append_link(struct bridge *bridge, const struct json_node *block) {
    struct buf *out = &bridge->value;
    struct slice title = text_of(bridge, block, SLICE("title"));
    struct slice type = text_of(bridge, block, SLICE("mimeType"));
    struct slice description = text_of(bridge, block, SLICE("description"));
    buf_append(out, SLICE("Resource "));
    buf_append(out, title.len != 0 ? title : text_of(bridge, block, SLICE("name")));
    if (type.len != 0) {
        buf_append(out, SLICE(" ("));
        buf_append(out, type);
        buf_append(out, SLICE(")"));
    }
    buf_append(out, SLICE(": "));
    buf_append(out, text_of(bridge, block, SLICE("uri")));
    if (description.len != 0) {
        buf_append(out, SLICE("\\n"));
        buf_append(out, description);
    }
}

static void append_audio(struct bridge *bridge, const struct json_node *block) {
    struct buf *out = &bridge->value;
    struct slice type = text_of(bridge, block, SLICE("mimeType"));
    buf_append(out, SLICE("[audio"));
    if (type.len != 0) {
        buf_append(out, SLICE(" of type "));
        buf_append(out, type);
    }
    buf_append(out, SLICE(" left out: the protocol revision of this client has none]"));
}

/* Replaces a block that the client does not know. Its annotations are older than it and stay. */
static bool replace_block(struct bridge *bridge, const struct json_node *block, const char **at) {
    const struct json_node *type = json_member(bridge->reader, block, SLICE("type"));
    bool is_link = type != NULL && json_string_is(type, SLICE("resource_link"));
    bool is_audio = type != NULL && json_string_is(type, SLICE("audio"));
    if (!is_link && !(is_audio && bridge->to < MCP_2025_03_26))
        return false;
    buf_append(&bridge->value, slice_make(*at, (size_t)(block->raw.ptr - *at)));
    *at = block->raw.ptr + block->raw.len;
    buf_append(&bridge->value, SLICE("{\"type\":\"text\",\"text\":\""));
    if (is_link)
        append_link(bridge, block);
    else
        append_audio(bridge, block);
    buf_append_byte(&bridge->value, '"');
    const struct json_node *annotations =
        json_member_typed(bridge->reader, block, SLICE("annotations"), JSON_OBJECT);
    if (annotations != NULL) {
        buf_append(&bridge->value, SLICE(",\"annotations\":"));
        buf_append(&bridge->value, annotations->raw);
    }
    buf_append_byte(&bridge->value, '}');
    return true;
}

/* `list` is content, or (`is_prompt`) messages with a content each. */
static void replace_blocks(struct bridge *bridge, const struct json_node *list, bool is_prompt) {
    const char *at = list->raw.ptr;
    bool has_replaced = false;
    for (const struct json_node *item = json_first(bridge->reader, list); item != NULL;
         item = json_next(bridge->reader, item)) {
        const struct json_node *block =
            is_prompt ? json_member(bridge->reader, item, SLICE("content")) : item;
        if (block != NULL && block->type == JSON_OBJECT)
            has_replaced = replace_block(bridge, block, &at) || has_replaced;
    }
    if (!has_replaced)
        return;
    buf_append(&bridge->value, slice_make(at, (size_t)(list->raw.ptr + list->raw.len - at)));
    edits_add(&bridge->edits, list->raw, buf_slice(&bridge->value));
}

/*
 * MCP 2026-07-28, server/tools: any JSON value; an object up to 2025-11-25; unknown before
 * 2025-06-18. Who cannot take it as it is gets it as text, if there is nothing else.
 */
static void bridge_structured(struct bridge *bridge, const struct json_node *root) {
    const struct json_node *value = json_member(bridge->reader, root, SLICE("structuredContent"));
    const struct json_node *content = json_member(bridge->reader, root, SLICE("content"));
    bool is_wrapped = value != NULL && bridge->from_modern && value->type != JSON_OBJECT;
    if (is_wrapped) {
        edits_insert(&bridge->edits, value->raw.ptr, SLICE("{\"result\":"));
        edits_insert(&bridge->edits, value->raw.ptr + value->raw.len, SLICE("}"));
    }
    bool is_empty = content == NULL || content->type == JSON_NULL || is_empty_array(content);
    if (value == NULL || !is_empty || (!is_wrapped && !has_older_content(bridge->to)))
        return;
    struct buf *out = content != NULL ? &bridge->value : &bridge->members;
    if (content == NULL)
        bridge_append_key(out, SLICE("content"));
    buf_append(out, SLICE("[{\"type\":\"text\",\"text\":\""));
    json_escape(out, value->raw);
    buf_append(out, SLICE("\"}]"));
    if (content != NULL)
        edits_add(&bridge->edits, content->raw, buf_slice(out));
}

static int to_legacy(struct bridge *bridge, const struct json_node *root,
                     const struct json_node *meta) {
    static const struct edits_keys modern = {modern_keys, ARRAY_LEN(modern_keys), false};
    const struct json_node *content = json_member(bridge->reader, root, SLICE("content"));
    const struct json_node *messages = json_member(bridge->reader, root, SLICE("messages"));
    if (bridge->from_modern)
        take_out_server_info(bridge, meta);
    if (bridge->method == MCP_TOOLS_CALL)
        bridge_structured(bridge, root);
    if (has_older_content(bridge->to)) {
        if (bridge->method == MCP_TOOLS_CALL && content != NULL)
            replace_blocks(bridge, content, false);
        else if (bridge->method == MCP_PROMPTS_GET && messages != NULL)
            replace_blocks(bridge, messages, true);
    }
    edits_members(&bridge->edits, bridge->reader, root, bridge->from_modern ? &modern : &nothing,
                  &bridge->members);
    return 0;
}

/* --- all of it --- */

static const struct json_want *choose_want(const struct bridge *bridge) {
    if (!has_older_content(bridge->to))
        return &want_plain;
    return bridge->method == MCP_TOOLS_CALL    ? &want_call
           : bridge->method == MCP_PROMPTS_GET ? &want_prompt
                                               : &want_plain;
}

static int make_edits(struct bridge *bridge, struct slice result) {
    int error = json_read(bridge->reader, result, choose_want(bridge), NULL, NULL);
    if (error < 0)
        return error;
    if (error != 0)
        return refuse(bridge, "the upstream's result holds more than the gateway can translate");
    const struct json_node *root = json_root(bridge->reader);
    if (root->type != JSON_OBJECT)
        return refuse(bridge, "the upstream's result is no object");
    const struct json_node *meta = json_member(bridge->reader, root, SLICE("_meta"));
    if (bridge->from_modern != bridge->to_modern) {
        error = check_keys(bridge, root, meta);
        if (error == 0)
            error = check_kind(bridge, root);
    }
    if (error == 0 && bridge->to_modern && !bridge->from_modern)
        error = to_modern(bridge, root, meta);
    else if (error == 0 && !bridge->to_modern)
        error = to_legacy(bridge, root, meta);
    return error;
}

int mcp_bridge_result(struct buf *out, struct json_reader *reader, enum mcp_method method,
                      struct slice result, enum mcp_revision from, enum mcp_revision to,
                      const struct mcp_implementation *gateway, const char **ret_reason) {
    size_t info = gateway != NULL ? 6 * (gateway->name.len + gateway->version.len) : 0;
    struct bridge bridge CLEANUP(deinit) = {
        .reader = reader,
        .method = method,
        .from_modern = mcp_revision_is_modern(from),
        .to_modern = mcp_revision_is_modern(to),
        .to = to,
        .gateway = gateway,
        .members = BUF_INIT(2 * result.len + info + 1024),
        .meta = BUF_INIT(info + 1024),
        .value = BUF_INIT(8 * result.len + info + 1024),
    };
    if (!mcp_bridge_result_needed(from, to))
        return buf_append(out, result);
    int error = make_edits(&bridge, result);
    if (error == MCP_E_REFUSED)
        *ret_reason = bridge.reason;
    if (error == 0)
        error = buf_error(&bridge.members);
    if (error == 0)
        error = buf_error(&bridge.meta);
    if (error == 0)
        error = buf_error(&bridge.value);
    return error != 0 ? error : mcp_splice(out, result, bridge.edits.items, bridge.edits.n);
}
