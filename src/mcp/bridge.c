/*
 * The rules of translation, and where they come from (MCP 2026-07-28, basic/index,
 * basic/versioning, server/utilities/caching and the changelogs of each revision; "modern" is
 * 2026-07-28, "legacy" what came before).
 *
 * Parameters (here):
 *   - A modern request says its revision, what its client can do and who it is in params._meta. To
 *     a modern upstream a legacy client's request gets these; to a legacy one they are taken out,
 *     and an emptied _meta stays as {}.
 *   - What a client can do is passed on as far as the gateway relays it, which is all but tasks
 *     that it runs itself: what nobody here knows of is between the two. Of legacy clients, what
 *     they said when their session began, with their extensions and experiments. Their own keys of
 *     that name, which mean nothing in their era, are replaced.
 *   - `task` asks for a task of 2025-11-25, and passes within that revision only: a client
 *     of another one would not know the answer.
 *   - inputResponses and requestState belong to the modern way of asking for input alone: those of
 *     a client are taken out between the eras, and the gateway puts in what it asked a legacy
 *     client for.
 *
 * Results (bridge_result.c):
 *   - Modern results have a type. One that is not "complete" has no legacy form: refused. Legacy
 *     results are complete; one that says otherwise is refused too.
 *   - ttlMs 0 and cacheScope "private" are the truth about any legacy result.
 *   - structuredContent is an object up to 2025-11-25, any value later; tools/list (bridge_tool.c)
 *     wraps the schemas as the results are wrapped.
 *   - Content of a type that a client's revision does not know becomes text.
 *
 * Errors (bridge_error.c): codes that mean something else, or nothing, in the other era.
 *
 * Keys are compared after unescaping. In results, a key that equals a protocol key only after case
 * folding is refused as it is in messages; escapes are not, because some servers write every slash
 * with one.
 */
#include "mcp/bridge.h"

#include "bridge_private.h"
#include "edits.h"
#include "mcp/capabilities.h"

static const struct slice envelope_keys[] = {
    SLICE_INIT("io.modelcontextprotocol/protocolVersion"),
    SLICE_INIT("io.modelcontextprotocol/clientCapabilities"),
    SLICE_INIT("io.modelcontextprotocol/clientInfo"),
    SLICE_INIT("io.modelcontextprotocol/logLevel"),
};
static const struct slice input_keys[] = {SLICE_INIT("inputResponses"), SLICE_INIT("requestState")};
/* What the gateway does not relay between a modern client and a modern upstream. */
static const struct slice unrelayed[] = {SLICE_INIT(MCP_CAPABILITY_TASKS)};
static const struct edits_keys nothing = {0};

int bridge_append_implementation(struct buf *out, const struct mcp_implementation *implementation) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("name"), implementation->name);
    json_kv_string(&writer, SLICE("version"), implementation->version);
    json_object_end(&writer);
    return buf_error(out);
}

void bridge_append_key(struct buf *members, struct slice key) {
    if (buf_len(members) != 0)
        buf_append_byte(members, ',');
    buf_append_byte(members, '"');
    buf_append(members, key);
    buf_append(members, SLICE("\":"));
}

static bool lacks(const struct json_reader *reader, const struct json_node *meta,
                  struct slice key) {
    return meta == NULL || json_member(reader, meta, key) == NULL;
}

/* The members of the envelope that the upstream has to get; `meta` NULL: all of them. */
static void append_envelope(struct buf *members, const struct json_reader *reader,
                            const struct json_node *meta, const struct mcp_params_edit *edit) {
    if (lacks(reader, meta, MCP_META_VERSION)) {
        bridge_append_key(members, MCP_META_VERSION);
        buf_append_byte(members, '"');
        buf_append(members, mcp_revision_name(edit->to));
        buf_append_byte(members, '"');
    }
    if (lacks(reader, meta, MCP_META_CAPABILITIES)) {
        struct json_writer writer;
        bridge_append_key(members, MCP_META_CAPABILITIES);
        json_writer_init(&writer, members);
        mcp_capabilities_write(&writer, edit->declare_nothing ? 0 : edit->capabilities,
                               edit->declare_nothing ? NULL : &edit->more, edit->to);
    }
    if (edit->gateway != NULL && lacks(reader, meta, MCP_META_CLIENT_INFO)) {
        bridge_append_key(members, MCP_META_CLIENT_INFO);
        bridge_append_implementation(members, edit->gateway);
    }
    if (edit->log_level >= 0 && lacks(reader, meta, MCP_META_LOG_LEVEL)) {
        bridge_append_key(members, MCP_META_LOG_LEVEL);
        buf_append_byte(members, '"');
        buf_append(members, mcp_log_level_name(edit->log_level));
        buf_append_byte(members, '"');
    }
}

static void edit_capabilities(struct edits *edits, const struct json_reader *reader,
                              const struct json_node *meta, const struct mcp_params_edit *edit) {
    static const struct edits_keys gone = {unrelayed, ARRAY_LEN(unrelayed), false};
    struct buf none = BUF_INIT(1);
    const struct json_node *capabilities =
        json_member_typed(reader, meta, MCP_META_CAPABILITIES, JSON_OBJECT);
    if (capabilities == NULL)
        return;
    if (edit->declare_nothing)
        edits_add(edits, capabilities->raw, SLICE("{}"));
    else
        edits_members(edits, reader, capabilities, &gone, &none);
}

static void edit_meta(struct edits *edits, const struct json_reader *reader,
                      const struct json_node *meta, const struct mcp_params_edit *edit,
                      struct buf *members) {
    static const struct edits_keys envelope = {envelope_keys, ARRAY_LEN(envelope_keys), false};
    bool from_modern = mcp_revision_is_modern(edit->from);
    bool to_modern = mcp_revision_is_modern(edit->to);
    const struct json_node *token = json_member(reader, meta, SLICE("progressToken"));
    if (token != NULL && edit->token.len != 0)
        edits_add(edits, token->raw, edit->token);
    if (to_modern)
        append_envelope(members, reader, from_modern ? meta : NULL, edit);
    if (to_modern && from_modern)
        edit_capabilities(edits, reader, meta, edit);
    edits_members(edits, reader, meta, from_modern == to_modern ? &nothing : &envelope, members);
}

/* Quoted and escaped. */
static void append_string(struct buf *out, struct slice text) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_string(&writer, text);
}

/* "_meta":{...} for params that have none. */
static void append_meta(struct buf *members, const struct json_reader *reader,
                        const struct mcp_params_edit *edit, struct buf *scratch) {
    append_envelope(scratch, reader, NULL, edit);
    buf_append(members, SLICE("\"_meta\":{"));
    buf_append(members, buf_slice(scratch));
    buf_append_byte(members, '}');
}

/* What of the client's params the upstream does not get. */
static struct edits_keys find_gone(const struct mcp_message *message,
                                   const struct mcp_params_edit *edit,
                                   struct slice keys[static 4]) {
    struct edits_keys gone = {.keys = keys};
    bool is_modern = mcp_revision_is_modern(edit->to);
    if (mcp_revision_is_modern(edit->from) != is_modern) {
        keys[gone.n++] = input_keys[0];
        keys[gone.n++] = input_keys[1];
    }
    if (message->method == MCP_TOOLS_CALL && (edit->makes_task || edit->from != edit->to))
        keys[gone.n++] = SLICE("task");
    if (edit->drops_cursor)
        keys[gone.n++] = SLICE("cursor");
    return gone;
}

static void append_task(struct buf *members, const struct mcp_params_edit *edit) {
    if (!edit->makes_task)
        return;
    bridge_append_key(members, SLICE("task"));
    buf_append(members, SLICE("{}"));
}

static void append_input(struct buf *members, const struct mcp_params_edit *edit) {
    if (edit->input_responses.len != 0) {
        bridge_append_key(members, input_keys[0]);
        buf_append(members, edit->input_responses);
    }
    if (edit->request_state.len != 0) {
        bridge_append_key(members, input_keys[1]);
        buf_append(members, edit->request_state);
    }
}

static void edit_state(struct edits *edits, const struct json_reader *reader,
                       const struct mcp_message *message, const struct mcp_params_edit *edit) {
    const struct json_node *state = json_member(reader, message->params, input_keys[1]);
    if (state != NULL)
        edits_add(edits, state->raw, edit->request_state);
}

static size_t envelope_size(const struct mcp_params_edit *edit) {
    size_t info =
        edit->gateway != NULL ? 6 * (edit->gateway->name.len + edit->gateway->version.len) : 0;
    return 1024 + info + edit->more.extensions.len + edit->more.experimental.len +
           edit->input_responses.len + edit->request_state.len;
}

static int write_params(struct buf *out, const struct json_reader *reader,
                        const struct mcp_message *message, const struct mcp_params_edit *edit) {
    struct slice gone_keys[4];
    struct edits_keys gone = find_gone(message, edit, gone_keys);
    struct buf name CLEANUP(buf_deinit) = BUF_INIT(6 * edit->name.len + 2);
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(envelope_size(edit));
    struct buf in_meta CLEANUP(buf_deinit) = BUF_INIT(envelope_size(edit));
    struct edits edits = {.n = 0};
    bool from_modern = mcp_revision_is_modern(edit->from);
    bool to_modern = mcp_revision_is_modern(edit->to);
    if (edit->name_span.len != 0) {
        append_string(&name, edit->name);
        edits_add(&edits, edit->name_span, buf_slice(&name));
    }
    if (message->meta != NULL)
        edit_meta(&edits, reader, message->meta, edit, &in_meta);
    else if (to_modern)
        append_meta(&members, reader, edit, &in_meta);
    if (to_modern && !from_modern)
        append_input(&members, edit);
    if (to_modern && from_modern && edit->request_state.len != 0)
        edit_state(&edits, reader, message, edit);
    append_task(&members, edit);
    edits_members(&edits, reader, message->params, &gone, &members);
    int error = buf_error(&name);
    if (error == 0)
        error = buf_error(&members);
    if (error == 0)
        error = buf_error(&in_meta);
    return error != 0 ? error : mcp_splice(out, message->params->raw, edits.items, edits.n);
}

int mcp_bridge_params(struct buf *out, const struct json_reader *reader,
                      const struct mcp_message *message, const struct mcp_params_edit *edit) {
    if (message->params != NULL)
        return write_params(out, reader, message, edit);
    if (!mcp_revision_is_modern(edit->to))
        return buf_error(out);
    struct buf envelope CLEANUP(buf_deinit) = BUF_INIT(envelope_size(edit));
    append_envelope(&envelope, reader, NULL, edit);
    if (buf_error(&envelope) != 0)
        return buf_error(&envelope);
    buf_append(out, SLICE("{\"_meta\":{"));
    buf_append(out, buf_slice(&envelope));
    return buf_append(out, SLICE("}}"));
}
