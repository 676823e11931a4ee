/*
 * Error objects (MCP 2026-07-28, basic/index, "Error codes"): -32020 to -32099 are the
 * specification's own, so what a legacy server means by one of them must not reach a modern client
 * as such; -32002 is not sent any more.
 */
#include <limits.h>

#include "bridge_private.h"
#include "edits.h"

enum { RESERVED_FIRST = -32099, RESERVED_LAST = -32020 };

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_error[] = {{"data", want_nothing}, {0}};
static const struct json_want want = {.children = want_error};

struct error_object {
    const struct json_node *code, *data;
    int64_t number;
    bool has_uri; /* data.uri is a string */
};

static int64_t code_for_modern(const struct error_object *error) {
    if (error->number == MCP_E_RESOURCE_NOT_FOUND)
        return MCP_E_INVALID_PARAMS;
    if (error->number >= RESERVED_FIRST && error->number <= RESERVED_LAST)
        return MCP_E_INTERNAL;
    return error->number;
}

static int64_t code_for_legacy(const struct error_object *error, enum mcp_method method) {
    switch (error->number) {
    case MCP_E_INVALID_PARAMS:
        return method == MCP_RESOURCES_READ && error->has_uri ? MCP_E_RESOURCE_NOT_FOUND
                                                              : MCP_E_INVALID_PARAMS;
    case MCP_E_HEADER_MISMATCH:
    case MCP_E_MISSING_CAPABILITY:
    case MCP_E_UNSUPPORTED_VERSION:
    case MCP_E_URL_ELICITATION_REQUIRED:
        return MCP_E_INTERNAL;
    default:
        return error->number;
    }
}

/* data.uri, where data leaves room for it. */
static void add_uri(struct edits *edits, const struct json_reader *reader,
                    const struct error_object *error, struct slice uri, struct buf *members,
                    struct buf *in_data) {
    bridge_append_key(in_data, SLICE("uri"));
    buf_append(in_data, uri);
    if (error->data != NULL && error->data->type == JSON_OBJECT) {
        static const struct slice uri_key[] = {SLICE_INIT("uri")};
        static const struct edits_keys gone = {uri_key, ARRAY_LEN(uri_key), false};
        edits_members(edits, reader, error->data, &gone, in_data);
        return;
    }
    if (error->data != NULL && error->data->type != JSON_NULL)
        return;
    if (error->data == NULL)
        bridge_append_key(members, SLICE("data"));
    buf_append_byte(members, '{');
    buf_append(members, buf_slice(in_data));
    buf_append_byte(members, '}');
    if (error->data != NULL)
        edits_add(edits, error->data->raw, buf_slice(members));
}

static int clamp(int64_t code) {
    return code > INT_MAX ? INT_MAX : code < INT_MIN ? INT_MIN : (int)code;
}

static int read_error(struct json_reader *reader, struct slice text,
                      struct error_object *ret_error) {
    int error = json_read(reader, text, &want, NULL, NULL);
    if (error != 0)
        return error < 0 ? error : MCP_E_REFUSED;
    const struct json_node *root = json_root(reader);
    struct error_object object = {
        .code = json_member_typed(reader, root, SLICE("code"), JSON_NUMBER),
        .data = json_member(reader, root, SLICE("data")),
    };
    if (object.code == NULL || json_to_i64(object.code, &object.number) != 0)
        return MCP_E_REFUSED;
    object.has_uri = object.data != NULL &&
                     json_member_typed(reader, object.data, SLICE("uri"), JSON_STRING) != NULL;
    *ret_error = object;
    return 0;
}

int mcp_bridge_error(struct buf *out, struct json_reader *reader, enum mcp_method method,
                     struct slice error, struct slice uri, enum mcp_revision from,
                     enum mcp_revision to, int *ret_code) {
    static const struct edits_keys nothing = {0};
    bool to_modern = mcp_revision_is_modern(to);
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(uri.len + 64);
    struct buf in_data CLEANUP(buf_deinit) = BUF_INIT(uri.len + 64);
    struct buf digits CLEANUP(buf_deinit) = BUF_INIT(32);
    struct edits edits = {.n = 0};
    struct error_object object;
    int result = read_error(reader, error, &object);
    if (result != 0)
        return result;
    int64_t code = object.number;
    if (mcp_revision_is_modern(from) != to_modern)
        code = to_modern ? code_for_modern(&object) : code_for_legacy(&object, method);
    if (code != object.number) {
        buf_printf(&digits, "%lld", (long long)code);
        edits_add(&edits, object.code->raw, buf_slice(&digits));
        if (to_modern && object.number == MCP_E_RESOURCE_NOT_FOUND && !object.has_uri &&
            uri.len != 0)
            add_uri(&edits, reader, &object, uri, &members, &in_data);
        /* What became data's value is an edit already. */
        if (object.data == NULL)
            edits_members(&edits, reader, json_root(reader), &nothing, &members);
    }
    result = buf_error(&members);
    if (result == 0)
        result = buf_error(&in_data);
    if (result == 0)
        result = buf_error(&digits);
    if (result == 0)
        result = mcp_splice(out, error, edits.items, edits.n);
    if (result == 0)
        *ret_code = clamp(code);
    return result;
}
