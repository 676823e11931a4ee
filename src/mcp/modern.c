#include "mcp/modern.h"

#include <errno.h>

#include "base/base64.h"

/* The envelope (MCP 2026-07-28, basic/index, "Request metadata"). */

bool mcp_has_envelope(const struct json_reader *reader, const struct mcp_message *message) {
    return message->meta != NULL && json_member(reader, message->meta, MCP_META_VERSION) != NULL;
}

static enum mcp_revision read_revision(const struct json_node *version) {
    for (int i = MCP_REVISION_NONE + 1; i <= MCP_2026_07_28; i++) {
        enum mcp_revision revision = (enum mcp_revision)i;
        if (json_string_is(version, mcp_revision_name(revision)))
            return revision;
    }
    return MCP_REVISION_NONE;
}

static int read_log_level(const struct json_node *level) {
    for (int i = 0; i <= MCP_LOG_LEVEL_LAST; i++) {
        if (json_string_is(level, mcp_log_level_name(i)))
            return i;
    }
    return -1;
}

static int refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return MCP_E_REFUSED;
}

static int read_required(const struct json_node *version, const struct json_node *capabilities,
                         const char **ret_reason) {
    if (version == NULL && capabilities == NULL)
        return refuse(ret_reason, "params._meta lacks io.modelcontextprotocol/protocolVersion and "
                                  "io.modelcontextprotocol/clientCapabilities");
    if (version == NULL)
        return refuse(ret_reason, "params._meta lacks io.modelcontextprotocol/protocolVersion");
    if (capabilities == NULL)
        return refuse(ret_reason, "params._meta lacks io.modelcontextprotocol/clientCapabilities");
    if (version->type != JSON_STRING)
        return refuse(ret_reason, "io.modelcontextprotocol/protocolVersion must be a string");
    if (capabilities->type != JSON_OBJECT)
        return refuse(ret_reason, "io.modelcontextprotocol/clientCapabilities must be an object");
    return 0;
}

int mcp_envelope_read(const struct json_reader *reader, const struct mcp_message *message,
                      struct mcp_envelope *ret_envelope, const char **ret_reason) {
    const struct json_node *version = NULL, *capabilities = NULL, *info = NULL, *level = NULL;
    if (message->meta != NULL) {
        version = json_member(reader, message->meta, MCP_META_VERSION);
        capabilities = json_member(reader, message->meta, MCP_META_CAPABILITIES);
        info = json_member(reader, message->meta, MCP_META_CLIENT_INFO);
        level = json_member(reader, message->meta, MCP_META_LOG_LEVEL);
    }
    int error = read_required(version, capabilities, ret_reason);
    if (error != 0)
        return error;
    if (info != NULL && info->type != JSON_OBJECT)
        return refuse(ret_reason, "io.modelcontextprotocol/clientInfo must be an object");
    int log_level = level != NULL ? read_log_level(level) : -1;
    if (level != NULL && log_level < 0)
        return refuse(ret_reason,
                      "io.modelcontextprotocol/logLevel must be a log level of RFC 5424");
    *ret_envelope = (struct mcp_envelope){
        .revision = read_revision(version),
        .version = version->raw,
        .capabilities = capabilities,
        .client_info = info,
        .log_level = log_level,
    };
    return 0;
}

/*
 * The value codec (MCP 2026-07-28, basic/transports/streamable-http, "Value encoding"). Its markers
 * are compared with their case. "=?base64?=", whose markers overlap, is a sentinel to some readers
 * and plain text to others: it is never written and never taken.
 */

#define SENTINEL_BEGIN SLICE("=?base64?")
#define SENTINEL_END   SLICE("?=")

static bool looks_like_sentinel(struct slice text) {
    return slice_starts_with(text, SENTINEL_BEGIN) && slice_ends_with(text, SENTINEL_END);
}

static bool is_field_text(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c != '\t' && (c < 0x20 || c > 0x7e))
            return false;
    }
    return true;
}

bool mcp_field_is_plain(struct slice text) {
    return is_field_text(text) && slice_trim(text).len == text.len && !looks_like_sentinel(text);
}

int mcp_field_encode(struct buf *out, struct slice text) {
    if (mcp_field_is_plain(text))
        return buf_append(out, text);
    buf_append(out, SENTINEL_BEGIN);
    base64_encode(out, text);
    return buf_append(out, SENTINEL_END);
}

int mcp_field_decode(struct buf *out, struct slice value) {
    if (!is_field_text(value))
        return MCP_E_REFUSED;
    if (!looks_like_sentinel(value))
        return buf_append(out, value);
    if (value.len < SENTINEL_BEGIN.len + SENTINEL_END.len)
        return MCP_E_REFUSED;
    size_t before = buf_len(out);
    int error =
        base64_decode(out, slice_sub(value, SENTINEL_BEGIN.len, value.len - SENTINEL_END.len));
    if (error != -EINVAL)
        return error;
    buf_truncate(out, before);
    return MCP_E_REFUSED;
}

struct slice mcp_named_by(enum mcp_method method) {
    if (method == MCP_TOOLS_CALL || method == MCP_PROMPTS_GET)
        return SLICE("name");
    if (method == MCP_TASKS_GET || method == MCP_TASKS_UPDATE || method == MCP_TASKS_CANCEL)
        return SLICE("taskId");
    return method == MCP_RESOURCES_READ ? SLICE("uri") : SLICE_EMPTY;
}
