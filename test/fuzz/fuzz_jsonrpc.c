/*
 * What must hold for JSON-RPC messages with any input: a refusal has a code that fits and a reason;
 * of an accepted message all spans lie inside the document, its parts agree with its kind, no key
 * of the envelope, params or _meta is another spelling of one that matters (found by a second,
 * plain comparison), and it stays accepted and the same when its id is replaced or it is written
 * anew. The elements of a batch are documents. Whatever text names a tool, clients see a plain
 * name. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "mcp/message.h"
#include "mcp/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { MAX_ELEMENTS = 100 };

static bool is_inside(struct slice outer, struct slice inner) {
    return inner.len == 0 ||
           ((uintptr_t)inner.ptr >= (uintptr_t)outer.ptr && inner.len <= outer.len &&
            (uintptr_t)inner.ptr - (uintptr_t)outer.ptr <= outer.len - inner.len);
}

/* --- keys, compared in another way than the reader does --- */

/* Small letters; what Unicode folds into ASCII beside A-Z is a handful of letters and ligatures. */
static void fold(struct buf *out, struct slice text) {
    static const struct {
        struct slice from;
        const char *to;
    } others[] = {
        {SLICE_INIT("\u00df"), "ss"},  {SLICE_INIT("\u1e9e"), "ss"},  {SLICE_INIT("\u017f"), "s"},
        {SLICE_INIT("\u212a"), "k"},   {SLICE_INIT("\u0130"), "i"},   {SLICE_INIT("\u0131"), "i"},
        {SLICE_INIT("\ufb00"), "ff"},  {SLICE_INIT("\ufb01"), "fi"},  {SLICE_INIT("\ufb02"), "fl"},
        {SLICE_INIT("\ufb03"), "ffi"}, {SLICE_INIT("\ufb04"), "ffl"}, {SLICE_INIT("\ufb05"), "st"},
        {SLICE_INIT("\ufb06"), "st"},
    };
    while (text.len != 0) {
        size_t i = 0, taken = 1;
        char c = text.ptr[0];
        while (i < ARRAY_LEN(others) && !slice_starts_with(text, others[i].from))
            i++;
        if (i < ARRAY_LEN(others)) {
            buf_append_cstr(out, others[i].to);
            taken = others[i].from.len;
        } else {
            buf_append_byte(out, c >= 'A' && c <= 'Z' ? (char)(c + 32) : c);
        }
        text = slice_from(text, taken);
    }
    MUST(buf_error(out) == 0);
}

static void must_be_plain_keys(const struct json_reader *reader, const struct json_node *object,
                               const char *const *known) {
    for (const struct json_node *node = json_first(reader, object); node != NULL;
         node = json_next(reader, node)) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(node->key.len);
        struct buf folded CLEANUP(buf_deinit) = BUF_INIT(node->key.len);
        MUST(json_unescape(&text, node->key) == 0);
        fold(&folded, buf_slice(&text));
        for (const char *const *name = known; *name != NULL; name++) {
            struct slice exact = slice_from_cstr(*name);
            struct buf low CLEANUP(buf_deinit) = BUF_INIT(exact.len);
            fold(&low, exact);
            MUST(!slice_eq(buf_slice(&low), buf_slice(&folded)) || slice_eq(node->key, exact));
        }
    }
}

static void must_have_plain_keys(const struct json_reader *reader,
                                 const struct mcp_message *message) {
    static const char *const envelope[] = {"jsonrpc", "id",    "method", "params",
                                           "result",  "error", NULL};
    static const char *const params[] = {"name", "arguments", "uri",       "_meta", "cursor",
                                         "ref",  "level",     "requestId", NULL};
    static const char *const meta[] = {
        "progressToken", "io.modelcontextprotocol/clientCapabilities", "traceparent", NULL};
    must_be_plain_keys(reader, json_root(reader), envelope);
    if (message->params != NULL)
        must_be_plain_keys(reader, message->params, params);
    if (message->meta != NULL)
        must_be_plain_keys(reader, message->meta, meta);
}

/* --- messages --- */

static void must_fit_kind(const struct mcp_message *message) {
    bool is_call = message->kind == MCP_REQUEST || message->kind == MCP_NOTIFICATION;
    MUST(is_call == (message->method_text.len > 0));
    MUST(message->method_text.len <= LIMIT_RPC_METHOD);
    MUST(slice_find_byte(message->method_text, '\\') == SIZE_MAX);
    MUST(is_call || message->params == NULL);
    MUST(message->params != NULL || message->meta == NULL);
    MUST((message->result.len > 0) == (message->kind == MCP_RESULT));
    MUST((message->error.len > 0) == (message->kind == MCP_ERROR));
    MUST(message->kind != MCP_NOTIFICATION || message->id.len == 0);
    MUST((message->kind != MCP_REQUEST && message->kind != MCP_RESULT) || message->id.len > 0);
    MUST(message->id.len <= LIMIT_RPC_ID);
    if (is_call && message->method != MCP_METHOD_UNKNOWN)
        MUST(slice_eq(mcp_method_name(message->method), message->method_text));
}

static void must_read_as(struct slice document, const struct mcp_message *expected,
                         struct slice id) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct mcp_message message;
    struct mcp_refusal refusal;
    MUST(json_reader_new(&reader) == 0);
    MUST(mcp_message_read(reader, document, &message, &refusal) == 0);
    MUST(message.kind == expected->kind && message.method == expected->method);
    MUST(slice_eq(message.id, id));
    MUST(slice_eq(message.result, expected->result) && slice_eq(message.error, expected->error));
    MUST((message.params == NULL) == (expected->params == NULL));
    if (message.params != NULL)
        MUST(slice_eq(message.params->raw, expected->params->raw));
}

static void must_survive_edits(struct slice document, const struct mcp_message *message) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(document.len + 64);
    MUST(mcp_splice(&out, document, NULL, 0) == 0);
    MUST(slice_eq(buf_slice(&out), document));
    if (message->id.len > 0) {
        struct mcp_edit edit = {.span = message->id, .replacement = SLICE("\"g-1\"")};
        buf_reset(&out, SIZE_MAX);
        MUST(mcp_splice(&out, document, &edit, 1) == 0);
        must_read_as(buf_slice(&out), message, SLICE("\"g-1\""));
    }
    buf_reset(&out, SIZE_MAX);
    struct slice params = message->params != NULL ? message->params->raw : SLICE_EMPTY;
    if (message->kind == MCP_RESULT)
        MUST(mcp_write_result(&out, message->id, message->result) == 0);
    else if (message->kind == MCP_ERROR)
        MUST(mcp_write_error_object(&out, message->id, message->error) == 0);
    else if (message->method != MCP_METHOD_UNKNOWN)
        MUST(mcp_write_request(&out, message->id, message->method, params) == 0);
    else
        return;
    must_read_as(buf_slice(&out), message, message->id);
}

static void must_have_key(struct slice id) {
    struct buf key CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID + 1);
    if (id.len == 0)
        return;
    MUST(mcp_id_key(&key, id) == 0);
    MUST(buf_slice(&key).ptr[0] == (id.ptr[0] == '"' ? 's' : 'i'));
}

static void check_message(struct json_reader *reader, struct slice document) {
    struct mcp_message message = {.kind = MCP_ERROR};
    struct mcp_refusal refusal = {.reason = NULL};
    bool is_json = json_read(reader, document, &json_want_root, NULL, NULL) == 0;
    int r = mcp_message_read(reader, document, &message, &refusal);
    MUST(r == 0 || r == MCP_E_REFUSED);
    if (r != 0) {
        MUST(refusal.code == (is_json ? MCP_E_INVALID_REQUEST : MCP_E_PARSE));
        MUST(refusal.reason != NULL && refusal.reason[0] != '\0');
        MUST(is_inside(document, refusal.id));
        must_have_key(refusal.id);
        return;
    }
    MUST(is_json && !mcp_is_batch(document));
    MUST(is_inside(document, message.id) && is_inside(document, message.method_text) &&
         is_inside(document, message.result) && is_inside(document, message.error));
    must_fit_kind(&message);
    must_have_plain_keys(reader, &message);
    must_have_key(message.id);
    must_survive_edits(document, &message);
}

static void check_batch(struct json_reader *reader, struct slice document) {
    struct slice elements[MAX_ELEMENTS];
    struct mcp_refusal refusal = {.reason = NULL};
    size_t count = 0;
    bool is_json = json_read(reader, document, &json_want_root, NULL, NULL) == 0;
    int r = mcp_batch_split(reader, document, elements, MAX_ELEMENTS, &count, &refusal);
    MUST(r == 0 || r == MCP_E_REFUSED);
    if (r != 0) {
        MUST(refusal.code == (is_json ? MCP_E_INVALID_REQUEST : MCP_E_PARSE));
        MUST(refusal.reason != NULL);
        return;
    }
    MUST(mcp_is_batch(document) && count >= 1 && count <= MAX_ELEMENTS);
    const char *behind = document.ptr;
    for (size_t i = 0; i < count; i++) {
        MUST(is_inside(document, elements[i]) && elements[i].len > 0 && elements[i].ptr > behind);
        behind = elements[i].ptr + elements[i].len;
        MUST(json_read(reader, elements[i], NULL, NULL, NULL) == 0);
        check_message(reader, elements[i]);
    }
}

/* --- names --- */

static void check_name(struct slice text, struct slice upstream) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXPOSED_NAME);
    if (!mcp_item_name_is_valid(text))
        return;
    MUST(mcp_expose_name(&out, upstream, text) == 0);
    struct slice name = buf_slice(&out);
    MUST(name.len > 0);
    for (size_t i = 0; i < name.len; i++)
        MUST(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.",
                    name.ptr[i]) != NULL);
    if (upstream.len > 0)
        MUST(slice_eq(mcp_exposed_upstream(name), upstream));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct slice document = slice_make(data, size), head, rest;
    MUST(json_reader_new(&reader) == 0);
    check_message(reader, document);
    check_batch(reader, document);
    check_name(document, SLICE_EMPTY);
    check_name(document, SLICE("up_1"));
    slice_cut(document, '\n', &head, &rest);
    if (slice_find_byte(head, '{') == SIZE_MAX)
        MUST(mcp_template_matches(head, rest) ==
             (rest.len <= LIMIT_URI_LENGTH && slice_eq(head, rest)));
    else
        (void)mcp_template_matches(head, rest);
    return 0;
}
