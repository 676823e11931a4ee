/*
 * What must hold when any text is translated between the revisions, as parameters, a result, an
 * error or the definition of a tool: it is refused, or what comes out is valid JSON that satisfies
 * the other era's rules; what belongs to no era comes through byte for byte, there and back again.
 * Of any text as header field: it comes back from its encoding. Of a schema and arguments (two
 * lines): the fields that are written for the arguments are accepted with them. A rule that breaks
 * ends the process.
 */
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "mcp/bridge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static const struct mcp_implementation gateway = {SLICE_INIT("g\"w"), SLICE_INIT("1")};
static const enum mcp_revision revisions[] = {MCP_2024_11_05, MCP_2025_03_26, MCP_2025_06_18,
                                              MCP_2025_11_25, MCP_2026_07_28};
static const enum mcp_method methods[] = {MCP_TOOLS_CALL, MCP_PROMPTS_GET, MCP_RESOURCES_READ,
                                          MCP_TOOLS_LIST, MCP_COMPLETION_COMPLETE};
enum { GROWTH = 16 }; /* what an output may have more than this many times its input, and ... */
#define GROWTH_ONCE KIB(8)

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_members[] = {
    {"_meta", want_nothing}, {"type", want_nothing}, {"data", want_nothing}, {0}};
static const struct json_want want_root = {.children = want_members};

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    MUST(json_reader_new(&reader) == 0);
    return reader;
}

static const struct json_node *must_be_object(struct json_reader *reader, struct slice text) {
    MUST(json_read(reader, text, &want_root, NULL, NULL) == 0);
    MUST(json_root(reader)->type == JSON_OBJECT);
    return json_root(reader);
}

static struct buf output_for(struct slice input) {
    return BUF_INIT(GROWTH * input.len + GROWTH_ONCE);
}

/* --- results --- */

static void must_fit_modern(const struct json_reader *reader, const struct json_node *root,
                            enum mcp_method method) {
    static const struct slice cache[] = {SLICE_INIT("0"), SLICE_INIT("\"private\"")};
    const struct json_node *type = json_member(reader, root, SLICE("resultType"));
    const struct json_node *ttl = json_member(reader, root, SLICE("ttlMs"));
    const struct json_node *scope = json_member(reader, root, SLICE("cacheScope"));
    const struct json_node *meta = json_member(reader, root, SLICE("_meta"));
    MUST(type != NULL && json_string_is(type, SLICE("complete")));
    if (method == MCP_RESOURCES_READ || method == MCP_TOOLS_LIST)
        MUST(ttl != NULL && slice_eq(ttl->raw, cache[0]) && scope != NULL &&
             slice_eq(scope->raw, cache[1]));
    MUST(meta != NULL && meta->type == JSON_OBJECT);
    MUST(json_member_typed(reader, meta, MCP_META_SERVER_INFO, JSON_OBJECT) != NULL);
}

static void must_fit_legacy(const struct json_reader *reader, const struct json_node *root,
                            enum mcp_method method) {
    const struct json_node *meta = json_member(reader, root, SLICE("_meta"));
    const struct json_node *value = json_member(reader, root, SLICE("structuredContent"));
    MUST(json_member(reader, root, SLICE("resultType")) == NULL);
    MUST(json_member(reader, root, SLICE("ttlMs")) == NULL);
    MUST(json_member(reader, root, SLICE("cacheScope")) == NULL);
    MUST(meta == NULL ||
         (meta->type == JSON_OBJECT && json_member(reader, meta, MCP_META_SERVER_INFO) == NULL));
    MUST(method != MCP_TOOLS_CALL || value == NULL || value->type == JSON_OBJECT);
}

/* Bridges into `out`; true when that was not refused. */
static bool bridge_result(struct buf *out, enum mcp_method method, struct slice result,
                          enum mcp_revision from, enum mcp_revision to) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    const char *reason = "none";
    int r = mcp_bridge_result(out, reader, method, result, from, to, &gateway, &reason);
    MUST(r == 0 || r == MCP_E_REFUSED);
    if (r != 0) {
        MUST(buf_len(out) == 0 && (reason == NULL || strcmp(reason, "none") != 0));
        return false;
    }
    if (!mcp_bridge_result_needed(from, to)) {
        MUST(slice_eq(buf_slice(out), result));
        return false;
    }
    const struct json_node *root = must_be_object(reader, buf_slice(out));
    if (mcp_revision_is_modern(to))
        must_fit_modern(reader, root, method);
    else if (mcp_revision_is_modern(from))
        must_fit_legacy(reader, root, method);
    return true;
}

static bool is_edited(const struct json_node *node) {
    static const struct slice keys[] = {
        SLICE_INIT("resultType"), SLICE_INIT("ttlMs"),   SLICE_INIT("cacheScope"),
        SLICE_INIT("_meta"),      SLICE_INIT("content"), SLICE_INIT("structuredContent"),
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (json_key_is(node, keys[i]))
            return true;
    }
    return false;
}

/* The members that no rule names are the same ones in the same order. */
static void must_keep_members(struct slice before, struct slice after) {
    CLEANUP(json_reader_freep) struct json_reader *left = new_reader();
    CLEANUP(json_reader_freep) struct json_reader *right = new_reader();
    const struct json_node *a = json_first(left, must_be_object(left, before));
    const struct json_node *b = json_first(right, must_be_object(right, after));
    for (;; a = json_next(left, a), b = json_next(right, b)) {
        while (a != NULL && is_edited(a))
            a = json_next(left, a);
        while (b != NULL && is_edited(b))
            b = json_next(right, b);
        if (a == NULL || b == NULL)
            break;
        MUST(slice_eq(a->key, b->key) && slice_eq(a->raw, b->raw));
    }
    MUST(a == NULL && b == NULL);
}

/* Content that says something comes through both ways, and so does an object. */
static void must_keep_content(struct slice before, struct slice after) {
    CLEANUP(json_reader_freep) struct json_reader *left = new_reader();
    CLEANUP(json_reader_freep) struct json_reader *right = new_reader();
    const struct json_node *a = must_be_object(left, before), *b = must_be_object(right, after);
    const struct json_node *content = json_member(left, a, SLICE("content"));
    const struct json_node *value = json_member(left, a, SLICE("structuredContent"));
    if (content != NULL && slice_find_byte(content->raw, '{') != SIZE_MAX)
        MUST(slice_eq(content->raw, json_member(right, b, SLICE("content"))->raw));
    if (value == NULL)
        return;
    struct slice now = json_member(right, b, SLICE("structuredContent"))->raw;
    if (value->type != JSON_OBJECT) {
        MUST(slice_starts_with(now, SLICE("{\"result\":")) && slice_ends_with(now, SLICE("}")));
        now = slice_sub(now, strlen("{\"result\":"), now.len - 1);
    }
    MUST(slice_eq(now, value->raw));
}

static void check_result(struct slice text) {
    for (size_t i = 0; i < ARRAY_LEN(methods) * 25; i++) {
        struct buf once CLEANUP(buf_deinit) = output_for(text);
        enum mcp_method method = methods[i / 25];
        enum mcp_revision from = revisions[i % 5], to = revisions[i / 5 % 5];
        if (!bridge_result(&once, method, text, from, to))
            continue;
        if (mcp_revision_is_modern(from) != mcp_revision_is_modern(to) && to >= MCP_2025_06_18)
            must_keep_members(text, buf_slice(&once));
        struct buf twice CLEANUP(buf_deinit) = output_for(buf_slice(&once));
        if (to != MCP_2025_11_25 || !mcp_revision_is_modern(from) ||
            !bridge_result(&twice, method, buf_slice(&once), to, from))
            continue;
        must_keep_members(text, buf_slice(&twice));
        if (method == MCP_TOOLS_CALL)
            must_keep_content(text, buf_slice(&twice));
    }
}

/* --- errors and tools --- */

static void check_error(struct slice text) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < 25; i++) {
        struct buf out CLEANUP(buf_deinit) = output_for(text);
        enum mcp_revision from = revisions[i % 5], to = revisions[i / 5];
        int code = 0;
        int64_t written;
        int r = mcp_bridge_error(&out, reader, MCP_RESOURCES_READ, text, SLICE("\"u\""), from, to,
                                 &code);
        MUST(r == 0 || r == MCP_E_REFUSED);
        if (r != 0)
            continue;
        const struct json_node *root = must_be_object(reader, buf_slice(&out));
        MUST(json_to_i64(json_member(reader, root, SLICE("code")), &written) == 0);
        MUST(written == code || written > INT_MAX || written < INT_MIN);
        if (mcp_revision_is_modern(to) && !mcp_revision_is_modern(from))
            MUST(code != MCP_E_RESOURCE_NOT_FOUND && (code < -32099 || code > -32020));
        else if (!mcp_revision_is_modern(to) && mcp_revision_is_modern(from))
            MUST(code != MCP_E_HEADER_MISMATCH && code != MCP_E_MISSING_CAPABILITY);
    }
}

static void check_tool(struct slice text) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < 25; i++) {
        struct buf out CLEANUP(buf_deinit) = output_for(text);
        enum mcp_revision from = revisions[i % 5], to = revisions[i / 5];
        bool changed = false;
        int r = mcp_bridge_tool(&out, reader, text, from, to, &changed);
        MUST(r == 0 || r == MCP_E_REFUSED);
        MUST(changed || buf_len(&out) == 0);
        MUST(!changed || (r == 0 && mcp_revision_is_modern(from) != mcp_revision_is_modern(to)));
        if (!changed)
            continue;
        const struct json_node *root = must_be_object(reader, buf_slice(&out));
        const struct json_node *schema = json_member(reader, root, SLICE("outputSchema"));
        if (mcp_revision_is_modern(to)) {
            MUST(json_member(reader, root, SLICE("execution")) == NULL);
        } else if (schema != NULL) {
            root = must_be_object(reader, schema->raw);
            const struct json_node *type = json_member(reader, root, SLICE("type"));
            MUST(type != NULL && json_string_is(type, SLICE("object")));
        }
    }
}

/* --- parameters --- */

static void must_be_taken(struct slice params, enum mcp_revision from, enum mcp_revision to) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(params.len + KIB(1));
    struct mcp_message message;
    struct mcp_refusal refusal;
    struct mcp_envelope envelope;
    const char *reason = NULL;
    MUST(mcp_write_request(&line, SLICE("1"), MCP_TOOLS_CALL, params) == 0);
    MUST(mcp_message_read(reader, buf_slice(&line), &message, &refusal) == 0);
    if (mcp_revision_is_modern(from) == mcp_revision_is_modern(to))
        return;
    MUST(mcp_has_envelope(reader, &message) == mcp_revision_is_modern(to));
    int r = mcp_envelope_read(reader, &message, &envelope, &reason);
    MUST(r == (mcp_revision_is_modern(to) ? 0 : MCP_E_REFUSED));
    MUST(r != 0 || (envelope.revision == to && envelope.log_level == 3));
    MUST(message.params == NULL ||
         json_member(reader, message.params, SLICE("requestState")) == NULL);
}

static void check_params(struct slice text) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct mcp_message message;
    struct mcp_refusal refusal;
    if (mcp_message_read(reader, text, &message, &refusal) != 0 || message.method_text.len == 0)
        return;
    for (size_t i = 0; i < 50; i++) {
        struct buf out CLEANUP(buf_deinit) = output_for(text);
        struct mcp_params_edit edit = {
            .from = revisions[i % 5],
            .to = revisions[i / 5 % 5],
            .token = SLICE("7"),
            .log_level = 3,
            .declare_nothing = i >= 25,
            .gateway = &gateway,
        };
        const struct json_node *name = mcp_param(reader, &message, SLICE("name"), JSON_STRING);
        if (name != NULL) {
            edit.name_span = name->raw;
            edit.name = SLICE("n\"\xff");
        }
        MUST(mcp_bridge_params(&out, reader, &message, &edit) == 0);
        MUST(message.params == NULL || buf_len(&out) != 0);
        must_be_taken(buf_slice(&out), edit.from, edit.to);
    }
}

/* --- header fields --- */

static void check_field(struct slice text) {
    struct buf value CLEANUP(buf_deinit) = output_for(text);
    struct buf back CLEANUP(buf_deinit) = output_for(text);
    MUST(mcp_field_encode(&value, text) == 0);
    MUST(slice_find_byte(buf_slice(&value), '\n') == SIZE_MAX);
    MUST(slice_trim(buf_slice(&value)).len == buf_len(&value));
    MUST(mcp_field_decode(&back, buf_slice(&value)) == 0);
    MUST(slice_eq(buf_slice(&back), text));
    buf_reset(&back, SIZE_MAX);
    int r = mcp_field_decode(&back, text);
    MUST(r == 0 || (r == MCP_E_REFUSED && buf_len(&back) == 0));
}

/* The written lines as fields, each of which must be one. */
static size_t read_fields(struct slice lines, struct mcp_param_field *fields) {
    size_t n = 0;
    while (lines.len != 0) {
        struct slice line, rest;
        MUST(n < LIMIT_MIRRORS);
        MUST(slice_cut(lines, '\n', &line, &rest));
        MUST(slice_starts_with(line, SLICE("Mcp-Param-")) && slice_ends_with(line, SLICE("\r")));
        line = slice_sub(line, strlen("Mcp-Param-"), line.len - 1);
        MUST(slice_find_byte(line, '\r') == SIZE_MAX);
        MUST(slice_cut(line, ':', &fields[n].name, &fields[n].value));
        fields[n].value = slice_trim(fields[n].value);
        n++;
        lines = rest;
    }
    return n;
}

static void check_mirrors(struct slice text) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(MIB(64));
    struct mcp_param_field fields[LIMIT_MIRRORS];
    struct mcp_mirrors mirrors = {.n = 0};
    struct slice schema, arguments, name = SLICE_EMPTY;
    const char *reason = NULL;
    slice_cut(text, '\n', &schema, &arguments);
    int r = mcp_mirrors_read(&mirrors, &arena, reader, schema, &reason);
    MUST(r == 0 || (r == MCP_E_REFUSED && reason != NULL));
    MUST(mirrors.n <= LIMIT_MIRRORS);
    for (size_t i = 0; i < mirrors.n; i++) {
        const struct mcp_mirror *mirror = &mirrors.items[i];
        MUST(mirror->name.len != 0 && mirror->n_path != 0);
        for (size_t k = 0; k < i; k++)
            MUST(!slice_eq_nocase(mirrors.items[k].name, mirror->name));
    }
    struct buf out CLEANUP(buf_deinit) = output_for(text);
    if (json_read(reader, arguments, NULL, NULL, NULL) != 0)
        return;
    MUST(mcp_mirrors_write(&out, &mirrors, reader, arguments) == 0);
    size_t n = read_fields(buf_slice(&out), fields);
    MUST(mcp_mirrors_check(&mirrors, reader, arguments, fields, n, &name, &reason) == 0);
    if (n != 0)
        MUST(mcp_mirrors_check(&mirrors, reader, SLICE("{}"), fields, n, &name, &reason) ==
             MCP_E_REFUSED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = slice_make(data, size);
    check_result(text);
    check_error(text);
    check_tool(text);
    check_params(text);
    check_field(text);
    check_mirrors(text);
    return 0;
}
