#include "mcp/cache.h"

#include "bridge_private.h"
#include "edits.h"
#include "spelling.h"

static const struct slice keys[] = {SLICE_INIT("ttlMs"), SLICE_INIT("cacheScope")};

bool mcp_is_cached(enum mcp_method method) {
    return method == MCP_SERVER_DISCOVER || method == MCP_TOOLS_LIST ||
           method == MCP_PROMPTS_LIST || method == MCP_RESOURCES_LIST ||
           method == MCP_RESOURCES_TEMPLATES_LIST || method == MCP_RESOURCES_READ;
}

struct mcp_cache mcp_cache_read(const struct json_reader *reader, const struct json_node *result) {
    const struct json_node *ttl = json_member(reader, result, keys[0]);
    const struct json_node *scope = json_member(reader, result, keys[1]);
    struct mcp_cache cache = {.is_public = scope != NULL && json_string_is(scope, SLICE("public"))};
    int64_t ms = 0;
    if (ttl != NULL && json_to_i64(ttl, &ms) == 0 && ms > 0)
        cache.ttl_ms = (uint64_t)ms < MCP_FRESH_MAX_MS ? (uint64_t)ms : MCP_FRESH_MAX_MS;
    return cache;
}

struct mcp_cache mcp_cache_merge(struct mcp_cache a, struct mcp_cache b) {
    return (struct mcp_cache){
        .ttl_ms = a.ttl_ms < b.ttl_ms ? a.ttl_ms : b.ttl_ms,
        .is_public = a.is_public && b.is_public,
    };
}

static struct slice scope_name(struct mcp_cache cache) {
    return cache.is_public ? SLICE("public") : SLICE("private");
}

void mcp_cache_write(struct json_writer *writer, struct mcp_cache cache) {
    json_kv_u64(writer, keys[0], cache.ttl_ms);
    json_kv_string(writer, keys[1], scope_name(cache));
}

void bridge_append_cache(struct buf *members, struct mcp_cache cache) {
    bridge_append_key(members, keys[0]);
    buf_printf(members, "%llu", (unsigned long long)cache.ttl_ms);
    bridge_append_key(members, keys[1]);
    buf_append_byte(members, '"');
    buf_append(members, scope_name(cache));
    buf_append_byte(members, '"');
}

/* NULL: it can be edited. */
static const char *find_problem(const struct json_reader *reader, const struct json_node *root) {
    if (root->type != JSON_OBJECT)
        return "the upstream's result is no object";
    if (mcp_has_other_spelling(reader, root, MCP_PLACE_RESULT, false))
        return "a key of the upstream's result is another spelling of a protocol key";
    return NULL;
}

int mcp_cache_limit(struct buf *out, struct json_reader *reader, struct slice result,
                    struct mcp_cache most, const char **ret_reason) {
    static const struct edits_keys gone = {keys, ARRAY_LEN(keys), false};
    struct edits edits = {.n = 0};
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(128);
    int error = json_read(reader, result, &json_want_root, NULL, NULL);
    if (error < 0)
        return error;
    const struct json_node *root = error == 0 ? json_root(reader) : NULL;
    const char *problem = root != NULL ? find_problem(reader, root)
                                       : "the upstream's result holds more than the gateway reads";
    if (problem != NULL) {
        *ret_reason = problem;
        return MCP_E_REFUSED;
    }
    const struct json_node *type = json_member(reader, root, SLICE("resultType"));
    if (type == NULL || json_string_is(type, SLICE("complete")))
        bridge_append_cache(&members, mcp_cache_merge(mcp_cache_read(reader, root), most));
    edits_members(&edits, reader, root, &gone, &members);
    return buf_error(&members) != 0 ? buf_error(&members)
                                    : mcp_splice(out, result, edits.items, edits.n);
}
