/*
 * The heads of requests: what the user said, the session (up to 2025-11-25), and what repeats a
 * part of the body (2026-07-28, basic/transports/streamable-http). Of the latter, arguments of
 * tools that are annotated with x-mcp-header are known from the lists that went by.
 */
#include "base/arena.h"
#include "base/mem.h"
#include "http/message.h"
#include "private.h"

enum { MOST_MIRRORED_TOOLS = 10000 };

struct bridge_mirrors {
    struct arena arena;
    struct mcp_mirrors mirrors;
};

struct bridge_mirrors *bridge_mirrors_free(struct bridge_mirrors *mirrors) {
    if (mirrors != NULL)
        arena_deinit(&mirrors->arena);
    mem_free(mirrors);
    return NULL;
}

static void keep_mirrors(struct bridge *bridge, struct slice tool, struct slice schema) {
    struct bridge_mirrors *known = map_remove(&bridge->mirrors, tool);
    const char *reason = "";
    bridge_mirrors_free(known);
    if (!mcp_mirrors_possible(schema) || bridge->mirrors.count >= MOST_MIRRORED_TOOLS)
        return;
    struct bridge_mirrors *mirrors = mem_xalloc(sizeof *mirrors);
    arena_init(&mirrors->arena, MIB(1));
    int error = mcp_mirrors_read(&mirrors->mirrors, &mirrors->arena, bridge->second_reader, schema,
                                 &reason);
    if (error != 0 || mirrors->mirrors.n == 0 || map_set(&bridge->mirrors, tool, mirrors) != 0)
        bridge_mirrors_free(mirrors);
}

void bridge_learn_mirrors(struct bridge *bridge, struct slice result) {
    static const struct json_want items[] = {{"*", NULL}, {NULL, NULL}};
    static const struct json_want root[] = {{"tools", items}, {NULL, NULL}};
    static const struct json_want want = {"", root};
    struct json_reader *reader = bridge->reader;
    if (json_read(reader, result, &want, NULL, NULL) != 0)
        return;
    const struct json_node *tools =
        json_member_typed(reader, json_root(reader), SLICE("tools"), JSON_ARRAY);
    for (const struct json_node *tool = tools != NULL ? json_first(reader, tools) : NULL;
         tool != NULL; tool = json_next(reader, tool)) {
        struct buf name CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        if (tool->type != JSON_OBJECT)
            continue;
        const struct json_node *key = json_member_typed(reader, tool, SLICE("name"), JSON_STRING);
        const struct json_node *schema =
            json_member_typed(reader, tool, SLICE("inputSchema"), JSON_OBJECT);
        if (key != NULL && schema != NULL && json_string_append(&name, key) == 0)
            keep_mirrors(bridge, buf_slice(&name), schema->raw);
    }
}

static int write_mirrored(struct bridge *bridge, const struct mcp_message *message,
                          struct slice tool, struct buf *out) {
    const struct bridge_mirrors *known = map_get(&bridge->mirrors, tool);
    const struct json_node *arguments =
        mcp_param(bridge->reader, message, SLICE("arguments"), JSON_OBJECT);
    if (known == NULL || message->method != MCP_TOOLS_CALL)
        return 0;
    return mcp_mirrors_write(out, &known->mirrors, bridge->second_reader,
                             arguments != NULL ? arguments->raw : SLICE_EMPTY);
}

static int write_named(struct bridge *bridge, const struct mcp_message *message, struct buf *out) {
    struct slice key = mcp_named_by(message->method);
    const struct json_node *node =
        key.len != 0 ? mcp_param(bridge->reader, message, key, JSON_STRING) : NULL;
    if (node == NULL)
        return 0;
    struct buf name CLEANUP(buf_deinit) = BUF_INIT(LIMIT_HTTP_FIELD_LINE);
    struct buf value CLEANUP(buf_deinit) = BUF_INIT(LIMIT_HTTP_FIELD_LINE * 2);
    int error = json_string_append(&name, node);
    if (error == 0)
        error = mcp_field_encode(&value, buf_slice(&name));
    if (error == 0)
        error = http_write_field(out, SLICE("Mcp-Name"), buf_slice(&value));
    return error != 0 ? error : write_mirrored(bridge, message, buf_slice(&name), out);
}

static void note_version(struct bridge *bridge, const struct mcp_message *message) {
    const struct json_node *claim =
        message->meta != NULL
            ? json_member_typed(bridge->reader, message->meta, MCP_META_VERSION, JSON_STRING)
            : NULL;
    if (claim == NULL)
        return;
    buf_reset(&bridge->modern_version, 64);
    buf_append(&bridge->modern_version, json_string_raw(claim));
}

static int write_modern(struct bridge *bridge, const struct mcp_message *message, struct buf *out) {
    note_version(bridge, message);
    int error =
        http_write_field(out, SLICE("MCP-Protocol-Version"), buf_slice(&bridge->modern_version));
    if (error == 0)
        error = http_write_field(out, SLICE("Mcp-Method"), message->method_text);
    return error != 0 ? error : write_named(bridge, message, out);
}

int bridge_write_session_fields(const struct bridge *bridge, struct buf *out) {
    int error = buf_append(out, buf_slice(&bridge->fields));
    if (bridge->transport == BRIDGE_SSE || bridge->transport == BRIDGE_OPENING_SSE)
        return error;
    if (error == 0 && bridge->session != NULL)
        error = http_write_field(out, SLICE("Mcp-Session-Id"), slice_from_cstr(bridge->session));
    if (error == 0 && bridge->revision >= MCP_2025_06_18)
        error = http_write_field(out, SLICE("MCP-Protocol-Version"),
                                 mcp_revision_name(bridge->revision));
    return error;
}

int bridge_write_fields(struct bridge *bridge, const struct bridge_post *post, struct buf *out) {
    struct mcp_message message;
    struct mcp_refusal refusal;
    buf_append_cstr(out, "Content-Type: application/json\r\n"
                         "Accept: application/json, text/event-stream\r\n");
    if (!post->is_modern)
        return post->method == MCP_INITIALIZE && post->kind == MCP_REQUEST
                   ? buf_append(out, buf_slice(&bridge->fields))
                   : bridge_write_session_fields(bridge, out);
    int error = buf_append(out, buf_slice(&bridge->fields));
    if (error == 0)
        error =
            mcp_message_read(bridge->reader, slice_make(post->line, post->len), &message, &refusal);
    return error != 0 ? error : write_modern(bridge, &message, out);
}
