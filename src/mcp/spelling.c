/*
 * Keys that another parser could take for those of the protocol: one that ignores case, and so
 * folds it (utf8_ascii_folding()), or one that ends a text at its first NUL.
 */
#include "spelling.h"

#include "base/buf.h"
#include "base/compiler.h"
#include "base/utf8.h"

/* Keys that the gateway, a client or an upstream acts on, in any revision. */
static const struct slice envelope_keys[] = {
    SLICE_INIT("jsonrpc"), SLICE_INIT("id"),     SLICE_INIT("method"),
    SLICE_INIT("params"),  SLICE_INIT("result"), SLICE_INIT("error"),
};
static const struct slice param_keys[] = {
    SLICE_INIT("_meta"),
    /* requests of clients */
    SLICE_INIT("name"),
    SLICE_INIT("arguments"),
    SLICE_INIT("uri"),
    SLICE_INIT("cursor"),
    SLICE_INIT("ref"),
    SLICE_INIT("argument"),
    SLICE_INIT("context"),
    SLICE_INIT("level"),
    SLICE_INIT("protocolVersion"),
    SLICE_INIT("capabilities"),
    SLICE_INIT("clientInfo"),
    SLICE_INIT("inputResponses"),
    SLICE_INIT("requestState"),
    SLICE_INIT("notifications"),
    /* tasks */
    SLICE_INIT("task"),
    SLICE_INIT("taskId"),
    SLICE_INIT("status"),
    SLICE_INIT("statusMessage"),
    SLICE_INIT("createdAt"),
    SLICE_INIT("lastUpdatedAt"),
    SLICE_INIT("ttl"),
    SLICE_INIT("ttlMs"),
    SLICE_INIT("pollInterval"),
    SLICE_INIT("pollIntervalMs"),
    SLICE_INIT("inputRequests"),
    SLICE_INIT("resultType"),
    /* notifications */
    SLICE_INIT("requestId"),
    SLICE_INIT("reason"),
    SLICE_INIT("progressToken"),
    SLICE_INIT("progress"),
    SLICE_INIT("total"),
    SLICE_INIT("message"),
    SLICE_INIT("logger"),
    SLICE_INIT("data"),
    /* requests of servers */
    SLICE_INIT("messages"),
    SLICE_INIT("modelPreferences"),
    SLICE_INIT("systemPrompt"),
    SLICE_INIT("includeContext"),
    SLICE_INIT("temperature"),
    SLICE_INIT("maxTokens"),
    SLICE_INIT("stopSequences"),
    SLICE_INIT("metadata"),
    SLICE_INIT("tools"),
    SLICE_INIT("toolChoice"),
    SLICE_INIT("mode"),
    SLICE_INIT("url"),
    SLICE_INIT("requestedSchema"),
    SLICE_INIT("elicitationId"),
};
static const struct slice meta_keys[] = {
    SLICE_INIT("progressToken"),
    SLICE_INIT("traceparent"),
    SLICE_INIT("tracestate"),
    SLICE_INIT("baggage"),
    SLICE_INIT("io.modelcontextprotocol/protocolVersion"),
    SLICE_INIT("io.modelcontextprotocol/clientCapabilities"),
    SLICE_INIT("io.modelcontextprotocol/clientInfo"),
    SLICE_INIT("io.modelcontextprotocol/logLevel"),
    SLICE_INIT("io.modelcontextprotocol/serverInfo"),
    SLICE_INIT("io.modelcontextprotocol/subscriptionId"),
    SLICE_INIT("io.modelcontextprotocol/related-task"),
    SLICE_INIT("io.modelcontextprotocol/model-immediate-response"),
};
static const struct slice ref_keys[] = {
    SLICE_INIT("type"),
    SLICE_INIT("name"),
    SLICE_INIT("uri"),
    SLICE_INIT("title"),
};
static const struct slice capability_keys[] = {
    SLICE_INIT("elicitation"), SLICE_INIT("sampling"),     SLICE_INIT("roots"),
    SLICE_INIT("extensions"),  SLICE_INIT("experimental"), SLICE_INIT("tasks"),
};
static const struct slice result_keys[] = {
    SLICE_INIT("_meta"),      SLICE_INIT("resultType"),        SLICE_INIT("ttlMs"),
    SLICE_INIT("cacheScope"), SLICE_INIT("inputRequests"),     SLICE_INIT("requestState"),
    SLICE_INIT("content"),    SLICE_INIT("structuredContent"), SLICE_INIT("isError"),
    SLICE_INIT("contents"),   SLICE_INIT("messages"),          SLICE_INIT("completion"),
};

static const struct {
    const struct slice *keys;
    size_t n;
} places[MCP_PLACE_COUNT] = {
    [MCP_PLACE_ENVELOPE] = {envelope_keys, ARRAY_LEN(envelope_keys)},
    [MCP_PLACE_PARAMS] = {param_keys, ARRAY_LEN(param_keys)},
    [MCP_PLACE_META] = {meta_keys, ARRAY_LEN(meta_keys)},
    [MCP_PLACE_REF] = {ref_keys, ARRAY_LEN(ref_keys)},
    [MCP_PLACE_CAPABILITIES] = {capability_keys, ARRAY_LEN(capability_keys)},
    [MCP_PLACE_RESULT] = {result_keys, ARRAY_LEN(result_keys)},
};

enum { LONGEST_KEY = 64 };

static bool is_ascii(struct slice key) {
    uint64_t all = 0, word;
    size_t i = 0;
    for (; i + sizeof word <= key.len; i += sizeof word) {
        memcpy(&word, key.ptr + i, sizeof word);
        all |= word;
    }
    for (; i < key.len; i++)
        all |= (unsigned char)key.ptr[i];
    return (all & UINT64_C(0x8080808080808080)) == 0;
}

/* All of folding but that of A to Z, which slice_eq_nocase() does. Writes at most `cap` bytes;
 * SIZE_MAX when the key is longer than any protocol key. */
static size_t fold(struct slice key, char *out, size_t cap) {
    size_t len = 0;
    while (key.len != 0) {
        uint32_t c = 0;
        char same[4];
        size_t n = utf8_decode(key, &c);
        if (n == 0)
            return SIZE_MAX;
        struct slice text = slice_make(same, utf8_encode(c, same));
        struct slice folded = utf8_ascii_folding(c);
        if (folded.len != 0)
            text = folded;
        if (text.len > cap - len)
            return SIZE_MAX;
        memcpy(out + len, text.ptr, text.len);
        len += text.len;
        key = slice_from(key, n);
    }
    return len;
}

/* As nearly all keys are that have a meaning. */
static bool is_protocol_key(struct slice key, enum mcp_place place) {
    for (size_t i = 0; i < places[place].n; i++) {
        if (slice_eq(key, places[place].keys[i]))
            return true;
    }
    return false;
}

static NO_INLINE bool is_other_spelling(const struct json_node *node, enum mcp_place place,
                                        bool refuse_escapes) {
    char plain[LONGEST_KEY * 6] UNCLEARED, text[LONGEST_KEY] UNCLEARED;
    struct slice key = node->key;
    if (key.len > sizeof plain)
        return false;
    if (node->key_escaped) {
        struct buf unescaped = BUF_INIT(sizeof plain);
        bool fits = json_unescape(&unescaped, key) == 0;
        if (fits)
            memcpy(plain, buf_slice(&unescaped).ptr, buf_len(&unescaped));
        key = slice_make(plain, buf_len(&unescaped));
        buf_deinit(&unescaped);
        if (!fits)
            return true; /* no memory to tell: closed */
    }
    struct slice folded, rest; /* C ends a text at its first NUL */
    (void)slice_cut(key, '\0', &folded, &rest);
    if (UNLIKELY(!is_ascii(key))) {
        size_t len = fold(folded, text, sizeof text);
        if (len == SIZE_MAX)
            return false;
        folded = slice_make(text, len);
    }
    for (size_t i = 0; i < places[place].n; i++) {
        struct slice known = places[place].keys[i];
        if (known.len == folded.len && slice_eq_nocase(folded, known))
            return !slice_eq(key, known) || (refuse_escapes && node->key_escaped);
    }
    return false;
}

bool mcp_has_other_spelling(const struct json_reader *reader, const struct json_node *object,
                            enum mcp_place place, bool refuse_escapes) {
    for (const struct json_node *node = json_first(reader, object); node != NULL;
         node = json_next(reader, node)) {
        if (!node->key_escaped && is_protocol_key(node->key, place))
            continue;
        if (is_other_spelling(node, place, refuse_escapes))
            return true;
    }
    return false;
}
