/*
 * Definitions of tools/list. Up to 2025-11-25 the root of an outputSchema is an object, and so is
 * structuredContent; bridge_result.c wraps other values as {"result": ...}, looking at the value
 * alone. So there are three cases:
 *   - the root says type "object": nothing to do;
 *   - it says other types only: no value is an object, all are wrapped, and so is the schema;
 *   - it leaves it open (no type, several types, a schema that is true): an object goes on as it is
 *     and must fit the schema, and anything else is wrapped: one or the other.
 *
 * A schema that is moved below another takes its dialect and its own references along: $schema
 * moves to the new root, and a $ref or $dynamicRef by JSON pointer from the old root ("#", "#/...")
 * gets the way to the new place in front. Not below an $id, which is a root of its own
 * (JSON Schema 2020-12 core, sections 8.1.1, 8.2.1 and 8.2.3).
 */
#include "bridge_private.h"
#include "edits.h"
#include "schema_walk.h"

enum root_kind { ROOT_OBJECT, ROOT_OTHER, ROOT_OPEN };

static bool is_object_type(const struct json_node *type) {
    return json_string_is(type, SLICE("object"));
}

/* Reads its types, when there are some, from their own text. */
static int read_root_kind(struct json_reader *reader, struct slice schema,
                          enum root_kind *ret_kind) {
    static const struct json_want want_nothing[] = {{0}};
    static const struct json_want members[] = {{"type", want_nothing}, {0}};
    static const struct json_want want = {.children = members};
    int error = json_read(reader, schema, &want, NULL, NULL);
    if (error != 0)
        return error < 0 ? error : MCP_E_REFUSED;
    const struct json_node *type = json_member(reader, json_root(reader), SLICE("type"));
    enum root_kind kind = ROOT_OPEN;
    if (type != NULL && type->type == JSON_STRING)
        kind = is_object_type(type) ? ROOT_OBJECT : ROOT_OTHER;
    if (type != NULL && type->type == JSON_ARRAY) {
        kind = ROOT_OTHER;
        for (const struct json_node *one = json_first(reader, type); one != NULL;
             one = json_next(reader, one)) {
            if (is_object_type(one))
                kind = ROOT_OPEN;
        }
    }
    *ret_kind = kind;
    return 0;
}

/* Draft 7 has anchors that are written as $id "#name": they are no base for references. */
static bool has_own_base(const struct json_reader *reader, const struct json_node *schema) {
    const struct json_node *id =
        schema->type == JSON_OBJECT ? json_member(reader, schema, SLICE("$id")) : NULL;
    return id != NULL && id->type == JSON_STRING &&
           !slice_starts_with(json_string_raw(id), SLICE("#"));
}

/* Length of the "#" of a reference by pointer from the root, as written; 0 for other values. */
static size_t pointer_mark(const struct json_node *node) {
    if (!json_key_is(node, SLICE("$ref")) && !json_key_is(node, SLICE("$dynamicRef")))
        return 0;
    struct slice raw = json_string_raw(node);
    size_t mark = slice_starts_with(raw, SLICE("#"))         ? 1
                  : slice_starts_with(raw, SLICE("\\u0023")) ? 6
                                                             : 0;
    if (mark == 0)
        return 0;
    struct slice rest = slice_from(raw, mark);
    bool is_pointer =
        rest.len == 0 || rest.ptr[0] == '/' || slice_starts_with(rest, SLICE("\\/")) ||
        slice_starts_with(rest, SLICE("\\u002f")) || slice_starts_with(rest, SLICE("\\u002F"));
    return is_pointer ? mark : 0;
}

/* The schema that the reader holds, as it reads below a new root, from which `way` leads to it. */
static void append_moved(struct buf *out, const struct json_reader *reader, struct slice way) {
    const struct json_node *root = json_root(reader);
    const char *at = root->raw.ptr;
    struct schema_walk walk;
    schema_walk_init(&walk, reader);
    for (const struct json_node *node = schema_walk_next(&walk); node != NULL;
         node = schema_walk_next(&walk)) {
        const struct schema_level *around = schema_walk_top(&walk);
        bool is_first = node == around->node + 1;
        size_t mark = 0;
        if (is_first && around->inside == SCHEMA_KEYWORDS && has_own_base(reader, around->node))
            schema_walk_leave(&walk);
        else if (around->inside == SCHEMA_KEYWORDS)
            mark = pointer_mark(node);
        if (mark == 0)
            continue;
        const char *behind = node->raw.ptr + 1 + mark;
        buf_append(out, slice_make(at, (size_t)(behind - at)));
        buf_append(out, way);
        at = behind;
    }
    buf_append(out, slice_make(at, (size_t)(root->raw.ptr + root->raw.len - at)));
}

/* Puts the schema's $schema in front of the new root's members, and the rest into `rest`. */
static int move_dialect(struct buf *out, struct buf *rest, struct json_reader *reader,
                        struct slice schema) {
    static const struct slice key[] = {SLICE_INIT("$schema")};
    static const struct edits_keys dialect = {key, ARRAY_LEN(key), false};
    struct edits edits = {.n = 0};
    struct buf none = BUF_INIT(1);
    int error = json_read(reader, schema, &json_want_root, NULL, NULL);
    if (error != 0)
        return error < 0 ? error : MCP_E_REFUSED;
    const struct json_node *root = json_root(reader);
    const struct json_node *value = json_member(reader, root, key[0]);
    if (value != NULL) {
        buf_append(out, SLICE("\"$schema\":"));
        buf_append(out, value->raw);
        buf_append_byte(out, ',');
    }
    if (value != NULL && !has_own_base(reader, root))
        edits_members(&edits, reader, root, &dialect, &none);
    return mcp_splice(rest, schema, edits.items, edits.n);
}

static int append_wrapped(struct buf *out, struct json_reader *reader, struct slice schema,
                          enum root_kind kind) {
    struct buf rest CLEANUP(buf_deinit) = BUF_INIT(schema.len);
    buf_append_byte(out, '{');
    int error = move_dialect(out, &rest, reader, schema);
    if (error != 0)
        return error;
    error = json_read(reader, buf_slice(&rest), &schema_want, NULL, NULL);
    if (error != 0)
        return error < 0 ? error : MCP_E_REFUSED;
    buf_append(out, SLICE("\"type\":\"object\","));
    if (kind == ROOT_OTHER) {
        buf_append(out, SLICE("\"properties\":{\"result\":"));
        append_moved(out, reader, SLICE("/properties/result"));
        return buf_append(out, SLICE("},\"required\":[\"result\"]}"));
    }
    buf_append(out, SLICE("\"anyOf\":["));
    append_moved(out, reader, SLICE("/anyOf/0"));
    return buf_append(out, SLICE(",{\"properties\":{\"result\":{\"$ref\":\"#/anyOf/0\"}},"
                                 "\"required\":[\"result\"]}]}"));
}

/* The tool without the members of that key. */
static int append_without(struct buf *out, const struct json_reader *reader, struct slice tool,
                          const struct slice *key) {
    const struct edits_keys gone = {key, 1, false};
    struct edits edits = {.n = 0};
    struct buf none = BUF_INIT(1);
    edits_members(&edits, reader, json_root(reader), &gone, &none);
    return mcp_splice(out, tool, edits.items, edits.n);
}

static int bridge_schema(struct buf *out, struct json_reader *reader, struct slice tool,
                         struct slice schema, bool *ret_changed) {
    /* A reference of seven bytes gets at most eighteen more. */
    struct buf wrapped CLEANUP(buf_deinit) = BUF_INIT(5 * schema.len + 256);
    enum root_kind kind;
    int error = read_root_kind(reader, schema, &kind);
    if (error != 0)
        return error;
    if (kind == ROOT_OBJECT) {
        *ret_changed = false;
        return 0;
    }
    error = append_wrapped(&wrapped, reader, schema, kind);
    if (error == 0)
        error = buf_error(&wrapped);
    const struct mcp_edit edit = {.span = schema, .replacement = buf_slice(&wrapped)};
    if (error == 0)
        error = mcp_splice(out, tool, &edit, 1);
    if (error == 0)
        *ret_changed = true;
    return error;
}

struct slice mcp_bridge_tool_member(enum mcp_revision from) {
    return mcp_revision_is_modern(from) ? SLICE("outputSchema") : SLICE("execution");
}

int mcp_bridge_tool(struct buf *out, struct json_reader *reader, struct slice tool,
                    enum mcp_revision from, enum mcp_revision to, bool *ret_changed) {
    bool from_modern = mcp_revision_is_modern(from);
    if (from_modern == mcp_revision_is_modern(to)) {
        *ret_changed = false;
        return 0;
    }
    int error = json_read(reader, tool, &json_want_root, NULL, NULL);
    if (error != 0)
        return error < 0 ? error : MCP_E_REFUSED;
    struct slice key = mcp_bridge_tool_member(from);
    const struct json_node *member = json_member(reader, json_root(reader), key);
    if (member == NULL) {
        *ret_changed = false;
        return 0;
    }
    /* A schema is an object, true or false; what is none (null, say) is no schema. */
    if (from_modern &&
        (member->type == JSON_OBJECT || member->type == JSON_TRUE || member->type == JSON_FALSE))
        return bridge_schema(out, reader, tool, member->raw, ret_changed);
    error = append_without(out, reader, tool, &key);
    if (error == 0)
        *ret_changed = true;
    return error;
}
