/*
 * MCP 2025-11-25, basic/lifecycle; an empty `elicitation` is one for forms. MCP Apps (ext-apps,
 * 2026-01-26) are declared among the extensions in every revision, with the types that are shown.
 */
#include "mcp/capabilities.h"

#include "edits.h"

#define APPS_TYPE SLICE("text/html;profile=mcp-app")

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_apps[] = {{"mimeTypes", want_nothing}, {0}};
static const struct json_want want_extensions[] = {{MCP_EXTENSION_APPS, want_apps}, {0}};
static const struct json_want want_members[] = {
    {"sampling", want_nothing},
    {"elicitation", want_nothing},
    {"extensions", want_extensions},
    {0},
};
static const struct json_want want_capabilities = {.children = want_members};

/* What a revision knows of it. */
static unsigned known_to(enum mcp_revision revision) {
    unsigned known = MCP_CAN_SAMPLE | MCP_CAN_ROOTS | MCP_CAN_SHOW_APPS;
    if (revision >= MCP_2025_06_18)
        known |= MCP_CAN_ELICIT_FORM;
    if (revision >= MCP_2025_11_25)
        known |= MCP_CAN_SAMPLE_TOOLS | MCP_CAN_SAMPLE_CONTEXT | MCP_CAN_ELICIT_URL;
    if (mcp_revision_is_modern(revision))
        known |= MCP_CAN_TASKS;
    return known;
}

static bool has(const struct json_reader *reader, const struct json_node *object,
                struct slice key) {
    return json_member_typed(reader, object, key, JSON_OBJECT) != NULL;
}

static bool shows_apps(const struct json_reader *reader, const struct json_node *root) {
    const struct json_node *extensions =
        json_member_typed(reader, root, SLICE("extensions"), JSON_OBJECT);
    const struct json_node *apps =
        extensions != NULL
            ? json_member_typed(reader, extensions, SLICE(MCP_EXTENSION_APPS), JSON_OBJECT)
            : NULL;
    const struct json_node *types =
        apps != NULL ? json_member_typed(reader, apps, SLICE("mimeTypes"), JSON_ARRAY) : NULL;
    const struct json_node *type = types != NULL ? json_first(reader, types) : NULL;
    while (type != NULL && !json_string_is(type, APPS_TYPE))
        type = json_next(reader, type);
    return type != NULL;
}

unsigned mcp_capabilities_read(struct json_reader *reader, struct slice capabilities,
                               enum mcp_revision revision) {
    unsigned mask = 0;
    if (capabilities.len <= 2 ||
        json_read(reader, capabilities, &want_capabilities, NULL, NULL) != 0)
        return 0;
    const struct json_node *root = json_root(reader);
    if (root->type != JSON_OBJECT)
        return 0;
    const struct json_node *sampling =
        json_member_typed(reader, root, SLICE("sampling"), JSON_OBJECT);
    const struct json_node *elicitation =
        json_member_typed(reader, root, SLICE("elicitation"), JSON_OBJECT);
    if (sampling != NULL) {
        mask |= MCP_CAN_SAMPLE;
        mask |= has(reader, sampling, SLICE("tools")) ? MCP_CAN_SAMPLE_TOOLS : 0;
        mask |= has(reader, sampling, SLICE("context")) ? MCP_CAN_SAMPLE_CONTEXT : 0;
    }
    if (elicitation != NULL) {
        bool is_url = has(reader, elicitation, SLICE("url"));
        mask |= is_url ? MCP_CAN_ELICIT_URL : 0;
        mask |= !is_url || has(reader, elicitation, SLICE("form")) ? MCP_CAN_ELICIT_FORM : 0;
    }
    const struct json_node *extensions =
        json_member_typed(reader, root, SLICE("extensions"), JSON_OBJECT);
    mask |= has(reader, root, SLICE("roots")) ? MCP_CAN_ROOTS : 0;
    mask |= shows_apps(reader, root) ? MCP_CAN_SHOW_APPS : 0;
    mask |= extensions != NULL && has(reader, extensions, SLICE(MCP_EXTENSION_TASKS))
                ? MCP_CAN_TASKS
                : 0;
    return mask & known_to(revision);
}

int mcp_capabilities_read_more(struct json_reader *reader, struct slice capabilities,
                               struct buf *extensions, struct buf *experimental) {
    static const struct slice tasks[] = {SLICE_INIT(MCP_EXTENSION_TASKS)};
    static const struct edits_keys gone = {tasks, ARRAY_LEN(tasks), false};
    struct edits edits = {.n = 0};
    struct buf none = BUF_INIT(1);
    if (json_read(reader, capabilities, &want_capabilities, NULL, NULL) != 0 ||
        json_root(reader)->type != JSON_OBJECT)
        return 0;
    const struct json_node *some =
        json_member_typed(reader, json_root(reader), SLICE("experimental"), JSON_OBJECT);
    int error = some != NULL ? buf_append(experimental, some->raw) : 0;
    some = json_member_typed(reader, json_root(reader), SLICE("extensions"), JSON_OBJECT);
    if (error != 0 || some == NULL)
        return error;
    edits_members(&edits, reader, some, &gone, &none);
    return mcp_splice(extensions, some->raw, edits.items, edits.n);
}

static void write_flags(struct json_writer *writer, struct slice key, unsigned mask, unsigned first,
                        const char *first_name, unsigned second, const char *second_name) {
    json_key(writer, key);
    json_object_begin(writer);
    if ((mask & first) != 0)
        json_kv_raw(writer, slice_from_cstr(first_name), SLICE("{}"));
    if ((mask & second) != 0)
        json_kv_raw(writer, slice_from_cstr(second_name), SLICE("{}"));
    json_object_end(writer);
}

static void write_apps(struct json_writer *writer) {
    json_key(writer, SLICE(MCP_EXTENSION_APPS));
    json_object_begin(writer);
    json_key(writer, SLICE("mimeTypes"));
    json_array_begin(writer);
    json_string(writer, APPS_TYPE);
    json_array_end(writer);
    json_object_end(writer);
}

/* What it declared itself has no tasks in it (mcp_capabilities_read_more()). */
static void write_extensions(struct json_writer *writer, unsigned mask,
                             const struct mcp_capabilities_more *more) {
    static const char mark[] = "\"" MCP_EXTENSION_TASKS "\":{}";
    bool takes_tasks = (mask & MCP_CAN_TASKS) != 0;
    if (more != NULL && more->extensions.len != 0) {
        struct buf all CLEANUP(buf_deinit) = BUF_INIT(more->extensions.len + sizeof mark + 1);
        struct slice members = slice_trim(slice_from(more->extensions, 1));
        buf_append_byte(&all, '{');
        if (takes_tasks)
            buf_append_cstr(&all, mark);
        if (takes_tasks && !slice_starts_with(members, SLICE("}")))
            buf_append_byte(&all, ',');
        buf_append(&all, members);
        writer->out->error = writer->out->error != 0 ? writer->out->error : buf_error(&all);
        json_kv_raw(writer, SLICE("extensions"), buf_slice(&all));
    } else if ((mask & (MCP_CAN_SHOW_APPS | MCP_CAN_TASKS)) != 0) {
        json_key(writer, SLICE("extensions"));
        json_object_begin(writer);
        if (takes_tasks)
            json_kv_raw(writer, SLICE(MCP_EXTENSION_TASKS), SLICE("{}"));
        if ((mask & MCP_CAN_SHOW_APPS) != 0)
            write_apps(writer);
        json_object_end(writer);
    }
    if (more != NULL && more->experimental.len != 0)
        json_kv_raw(writer, SLICE("experimental"), more->experimental);
}

void mcp_capabilities_write(struct json_writer *writer, unsigned mask,
                            const struct mcp_capabilities_more *more, enum mcp_revision revision) {
    mask &= known_to(revision);
    json_object_begin(writer);
    if ((mask & MCP_CAN_SAMPLE) != 0)
        write_flags(writer, SLICE("sampling"), mask, MCP_CAN_SAMPLE_TOOLS, "tools",
                    MCP_CAN_SAMPLE_CONTEXT, "context");
    /* Before 2025-11-25 there was one kind, and nothing to say of it. */
    if (revision < MCP_2025_11_25 && (mask & MCP_CAN_ELICIT_FORM) != 0)
        json_kv_raw(writer, SLICE("elicitation"), SLICE("{}"));
    else if ((mask & (MCP_CAN_ELICIT_FORM | MCP_CAN_ELICIT_URL)) != 0)
        write_flags(writer, SLICE("elicitation"), mask, MCP_CAN_ELICIT_FORM, "form",
                    MCP_CAN_ELICIT_URL, "url");
    if ((mask & MCP_CAN_ROOTS) != 0)
        json_kv_raw(writer, SLICE("roots"), SLICE("{}"));
    write_extensions(writer, mask, more);
    json_object_end(writer);
}

unsigned mcp_capabilities_needed(const struct json_reader *reader, enum mcp_method method,
                                 const struct json_node *params) {
    const struct json_node *mode =
        params != NULL ? json_member(reader, params, SLICE("mode")) : NULL;
    bool has_tools = params != NULL && (json_member(reader, params, SLICE("tools")) != NULL ||
                                        json_member(reader, params, SLICE("toolChoice")) != NULL);
    switch ((int)method) {
    case MCP_SAMPLING_CREATE_MESSAGE:
        return has_tools ? MCP_CAN_SAMPLE | MCP_CAN_SAMPLE_TOOLS : MCP_CAN_SAMPLE;
    case MCP_ELICITATION_CREATE:
        return mode != NULL && json_string_is(mode, SLICE("url")) ? MCP_CAN_ELICIT_URL
                                                                  : MCP_CAN_ELICIT_FORM;
    case MCP_ROOTS_LIST:
        return MCP_CAN_ROOTS;
    default:
        return 0;
    }
}
