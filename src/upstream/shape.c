#include "shape.h"

#include "base/compiler.h"
#include "mcp/name.h"

static const struct json_want nothing[] = {{0}};
static const struct json_want schema[] = {{"required", nothing}, {0}};
static const struct json_want annotations[] = {{"audience", nothing}, {0}};
static const struct json_want icon[] = {{"sizes", nothing}, {0}};
static const struct json_want icons[] = {{"*", icon}, {0}};
static const struct json_want arguments[] = {{"*", nothing}, {0}};

const struct json_want shape_want_item[] = {
    {"inputSchema", schema},
    {"outputSchema", schema},
    {"arguments", arguments},
    {"icons", icons},
    {"execution", nothing},
    {"annotations", annotations},
    {0},
};

enum { OF_TOOL = 1, OF_PROMPT = 2, OF_RESOURCE = 4, OF_TEMPLATE = 8, OF_ALL = 15 };

/* schema.ts of 2025-11-25: Tool, Prompt, Resource, ResourceTemplate. Members that it does not name
 * may be anything. */
struct member {
    const char *key;
    enum json_type type;
    unsigned kinds, required; /* masks of OF_* */
    const char *problem;
};

static const struct member members[] = {
    {"name", JSON_STRING, OF_ALL, OF_ALL, "its name is missing or no string"},
    {"uri", JSON_STRING, OF_RESOURCE, OF_RESOURCE, "its uri is missing or no string"},
    {"uriTemplate", JSON_STRING, OF_TEMPLATE, OF_TEMPLATE,
     "its uriTemplate is missing or no string"},
    {"inputSchema", JSON_OBJECT, OF_TOOL, OF_TOOL, "its inputSchema is missing or no object"},
    {"outputSchema", JSON_OBJECT, OF_TOOL, 0, "its outputSchema is no object"},
    {"title", JSON_STRING, OF_ALL, 0, "its title is no string"},
    {"description", JSON_STRING, OF_ALL, 0, "its description is no string"},
    {"annotations", JSON_OBJECT, OF_TOOL | OF_RESOURCE | OF_TEMPLATE, 0,
     "its annotations are no object"},
    {"arguments", JSON_ARRAY, OF_PROMPT, 0, "its arguments are no array"},
    {"mimeType", JSON_STRING, OF_RESOURCE | OF_TEMPLATE, 0, "its mimeType is no string"},
    {"size", JSON_NUMBER, OF_RESOURCE, 0, "its size is no number"},
    {"icons", JSON_ARRAY, OF_ALL, 0, "its icons are no array"},
    {"execution", JSON_OBJECT, OF_TOOL, 0, "its execution is no object"},
    {"_meta", JSON_OBJECT, OF_ALL, 0, "its _meta is no object"},
};

static const unsigned kind_bits[MCP_LIST_COUNT] = {
    [MCP_LIST_TOOLS] = OF_TOOL,
    [MCP_LIST_PROMPTS] = OF_PROMPT,
    [MCP_LIST_RESOURCES] = OF_RESOURCE,
    [MCP_LIST_TEMPLATES] = OF_TEMPLATE,
};

/* What such a member holds, one level deeper. */
enum inner_type { INNER_STRING, INNER_BOOL, INNER_NUMBER, INNER_OBJECT, INNER_STRINGS };

struct inner {
    const char *parent, *key;
    enum inner_type type;
    bool is_required;
    unsigned kinds;
    const char *problem;
};

#define SCHEMA_OF(parent)                                                                          \
    {parent, "properties", INNER_OBJECT,                                                           \
     false,  OF_TOOL,      "properties of its " parent " are no object"},                          \
    {                                                                                              \
        parent, "required", INNER_STRINGS, false, OF_TOOL,                                         \
            "required of its " parent " is no array of strings"                                    \
    }

static const struct inner inners[] = {
    SCHEMA_OF("inputSchema"),
    SCHEMA_OF("outputSchema"),
    {"annotations", "title", INNER_STRING, false, OF_TOOL, "annotations.title is no string"},
    {"annotations", "readOnlyHint", INNER_BOOL, false, OF_TOOL, "readOnlyHint is no boolean"},
    {"annotations", "destructiveHint", INNER_BOOL, false, OF_TOOL, "destructiveHint is no boolean"},
    {"annotations", "idempotentHint", INNER_BOOL, false, OF_TOOL, "idempotentHint is no boolean"},
    {"annotations", "openWorldHint", INNER_BOOL, false, OF_TOOL, "openWorldHint is no boolean"},
    {"annotations", "audience", INNER_STRINGS, false, OF_RESOURCE | OF_TEMPLATE,
     "annotations.audience is no array of strings"},
    {"annotations", "priority", INNER_NUMBER, false, OF_RESOURCE | OF_TEMPLATE,
     "annotations.priority is no number"},
    {"annotations", "lastModified", INNER_STRING, false, OF_RESOURCE | OF_TEMPLATE,
     "annotations.lastModified is no string"},
    {"execution", "taskSupport", INNER_STRING, false, OF_TOOL, "taskSupport is no string"},
    {"icons", "src", INNER_STRING, true, OF_ALL, "one of its icons has no src"},
    {"icons", "mimeType", INNER_STRING, false, OF_ALL, "mimeType of one of its icons is no string"},
    {"icons", "sizes", INNER_STRINGS, false, OF_ALL, "sizes of one of its icons are no strings"},
    {"icons", "theme", INNER_STRING, false, OF_ALL, "theme of one of its icons is no string"},
    {"arguments", "name", INNER_STRING, true, OF_PROMPT,
     "one of its arguments is no object with a name"},
    {"arguments", "title", INNER_STRING, false, OF_PROMPT,
     "title of one of its arguments is no string"},
    {"arguments", "description", INNER_STRING, false, OF_PROMPT,
     "description of one of its arguments is no string"},
    {"arguments", "required", INNER_BOOL, false, OF_PROMPT,
     "required of one of its arguments is no boolean"},
};

static bool has_type(const struct json_reader *reader, const struct json_node *node,
                     enum inner_type type) {
    switch (type) {
    case INNER_STRING:
        return node->type == JSON_STRING;
    case INNER_BOOL:
        return node->type == JSON_TRUE || node->type == JSON_FALSE;
    case INNER_NUMBER:
        return node->type == JSON_NUMBER;
    case INNER_OBJECT:
        return node->type == JSON_OBJECT;
    case INNER_STRINGS:
        break;
    }
    if (node->type != JSON_ARRAY)
        return false;
    for (const struct json_node *element = json_first(reader, node); element != NULL;
         element = json_next(reader, element)) {
        if (element->type != JSON_STRING)
            return false;
    }
    return true;
}

static bool holds(const struct json_reader *reader, const struct json_node *object,
                  const struct inner *inner) {
    if (object->type != JSON_OBJECT)
        return false;
    const struct json_node *node = json_member(reader, object, slice_from_cstr(inner->key));
    return node == NULL ? !inner->is_required : has_type(reader, node, inner->type);
}

static bool fits(const struct json_reader *reader, const struct json_node *item,
                 const struct inner *inner) {
    const struct json_node *parent = json_member(reader, item, slice_from_cstr(inner->parent));
    if (parent == NULL)
        return true;
    if (parent->type != JSON_ARRAY)
        return holds(reader, parent, inner);
    for (const struct json_node *element = json_first(reader, parent); element != NULL;
         element = json_next(reader, element)) {
        if (!holds(reader, element, inner))
            return false;
    }
    return true;
}

/* Up to 2025-11-25 both schemas of a tool have an object at their root, later the first one. */
static bool is_object_schema(const struct json_reader *reader, const struct json_node *item,
                             struct slice key) {
    const struct json_node *node = json_member(reader, item, key);
    const struct json_node *type = node != NULL ? json_member(reader, node, SLICE("type")) : NULL;
    return node == NULL || (type != NULL && json_string_is(type, SLICE("object")));
}

static const char *check_tool(const struct json_reader *reader, const struct json_node *item,
                              enum mcp_revision revision) {
    if (!is_object_schema(reader, item, SLICE("inputSchema")))
        return "its inputSchema does not have the type \"object\"";
    if (!mcp_revision_is_modern(revision) && !is_object_schema(reader, item, SLICE("outputSchema")))
        return "its outputSchema does not have the type \"object\"";
    const struct json_node *execution = json_member(reader, item, SLICE("execution"));
    const struct json_node *support =
        execution != NULL ? json_member(reader, execution, SLICE("taskSupport")) : NULL;
    if (support != NULL && !json_string_is(support, SLICE("forbidden")) &&
        !json_string_is(support, SLICE("optional")) && !json_string_is(support, SLICE("required")))
        return "its taskSupport is not forbidden, optional or required";
    return NULL;
}

/* RFC 3986 section 3.1, as far as telling a URI from a name takes. */
static const char *check_uri(struct slice uri) {
    size_t colon = slice_find_byte(uri, ':');
    bool is_scheme = colon != SIZE_MAX && colon != 0;
    for (size_t i = 0; is_scheme && i < colon; i++) {
        char c = uri.ptr[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        is_scheme =
            is_letter || (i != 0 && ((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'));
    }
    return is_scheme ? NULL : "its uri has no scheme";
}

static const char *check_template(struct slice text) {
    bool is_open = false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '{' && text.ptr[i] != '}')
            continue;
        if (is_open == (text.ptr[i] == '{'))
            return "the braces of its uriTemplate do not match";
        is_open = !is_open;
    }
    return is_open ? "the braces of its uriTemplate do not match" : NULL;
}

const char *shape_check(const struct json_reader *reader, const struct json_node *item,
                        enum mcp_list kind, enum mcp_revision revision) {
    unsigned bit = kind_bits[kind];
    if (item->type != JSON_OBJECT)
        return "it is no object";
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if ((members[i].kinds & bit) == 0)
            continue;
        const struct json_node *node = json_member(reader, item, slice_from_cstr(members[i].key));
        if (node == NULL ? (members[i].required & bit) != 0 : node->type != members[i].type)
            return members[i].problem;
    }
    for (size_t i = 0; i < ARRAY_LEN(inners); i++) {
        if ((inners[i].kinds & bit) != 0 && !fits(reader, item, &inners[i]))
            return inners[i].problem;
    }
    return kind == MCP_LIST_TOOLS ? check_tool(reader, item, revision) : NULL;
}

const char *shape_check_key(struct slice key, enum mcp_list kind) {
    switch (kind) {
    case MCP_LIST_RESOURCES:
        return check_uri(key);
    case MCP_LIST_TEMPLATES:
        return check_template(key);
    case MCP_LIST_TOOLS:
    case MCP_LIST_PROMPTS:
        return mcp_item_name_is_valid(key)
                   ? NULL
                   : "its name is empty, too long or has control characters";
    case MCP_LIST_COUNT:
        break;
    }
    return NULL;
}
