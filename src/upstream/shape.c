#include "shape.h"

#include "base/compiler.h"
#include "mcp/name.h"

static const struct json_want nothing[] = {{0}};
static const struct json_want elements[] = {{"*", nothing}, {0}};

const struct json_want shape_want_item[] = {
    {"inputSchema", nothing},
    {"outputSchema", nothing},
    {"arguments", elements},
    {"icons", nothing},
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

/* Up to 2025-11-25 both schemas of a tool have an object at their root. */
static bool is_object_schema(const struct json_reader *reader, const struct json_node *item,
                             struct slice key) {
    const struct json_node *schema = json_member(reader, item, key);
    const struct json_node *type =
        schema != NULL ? json_member(reader, schema, SLICE("type")) : NULL;
    return schema == NULL || (type != NULL && json_string_is(type, SLICE("object")));
}

static const char *check_tool(const struct json_reader *reader, const struct json_node *item) {
    if (!is_object_schema(reader, item, SLICE("inputSchema")))
        return "its inputSchema does not have the type \"object\"";
    if (!is_object_schema(reader, item, SLICE("outputSchema")))
        return "its outputSchema does not have the type \"object\"";
    return NULL;
}

static const char *check_prompt(const struct json_reader *reader, const struct json_node *item) {
    const struct json_node *arguments = json_member(reader, item, SLICE("arguments"));
    for (const struct json_node *node = arguments != NULL ? json_first(reader, arguments) : NULL;
         node != NULL; node = json_next(reader, node)) {
        if (node->type != JSON_OBJECT ||
            json_member_typed(reader, node, SLICE("name"), JSON_STRING) == NULL)
            return "one of its arguments is no object with a name";
    }
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
                        enum mcp_list kind) {
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
    switch (kind) {
    case MCP_LIST_TOOLS:
        return check_tool(reader, item);
    case MCP_LIST_PROMPTS:
        return check_prompt(reader, item);
    case MCP_LIST_RESOURCES:
    case MCP_LIST_TEMPLATES:
    case MCP_LIST_COUNT:
        break;
    }
    return NULL;
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
