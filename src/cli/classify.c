/*
 * `cardea classify`: asks the servers for their tools, and says for each one that has no access in
 * the configuration whether it reads or writes, most likely; with --write, it says so in the file.
 *
 * What a server tells is hostile: of a tool only its name goes into a line, as a key in quotation
 * marks, and two hints go into the suggestion. Servers that could not be asked are named, and the
 * command fails then, after what can be done is done.
 */
#include "classify.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "cli.h"
#include "gateway/gateway.h"
#include "json/reader.h"
#include "json/writer.h"
#include "suggest.h"

static const struct json_want want_nothing[] = {{0}};

struct classify {
    struct cli_session *session;
    struct arena arena;
    struct json_reader *list, *definition;
    struct config_access_edit *edits; /* those without an access */
    struct suggestion *suggestions;
    struct slice *names; /* as clients see them */
    size_t n, n_known;
    struct buf missing; /* a JSON list of servers that could not be asked */
    size_t n_missing;
};

/* what the configuration has */

static bool is_known(const struct config *config, struct slice server_name, struct slice tool) {
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        if (!slice_eq(server->name, server_name))
            continue;
        for (size_t k = 0; k < server->n_tools; k++) {
            if (slice_eq(server->tools[k].name, tool) &&
                server->tools[k].access != CONFIG_ACCESS_UNSET)
                return true;
        }
        return server->access != CONFIG_ACCESS_UNSET;
    }
    return false;
}

/* what the servers have */

static enum suggest_hint read_hint(const struct json_reader *reader,
                                   const struct json_node *annotations, struct slice key) {
    if (annotations == NULL)
        return SUGGEST_NOT_SAID;
    if (json_member_typed(reader, annotations, key, JSON_TRUE) != NULL)
        return SUGGEST_TRUE;
    return json_member_typed(reader, annotations, key, JSON_FALSE) != NULL ? SUGGEST_FALSE
                                                                           : SUGGEST_NOT_SAID;
}

static struct slice read_text(struct classify *c, const struct json_node *node) {
    struct slice copy = slice_make(NULL, 0);
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
    if (node != NULL && json_string_append(&text, node) == 0)
        copy = arena_dup(&c->arena, buf_slice(&text));
    return copy;
}

/* One tool: its definition, and what the gateway knows of it. */
MUST_CHECK static int add_tool(struct classify *c, struct slice definition,
                               const struct json_node *origin) {
    static const struct json_want want[] = {{"annotations", want_nothing}, {0}};
    struct json_reader *reader = c->definition;
    struct slice server =
        read_text(c, json_member_typed(c->list, origin, SLICE("server"), JSON_STRING));
    struct slice tool =
        read_text(c, json_member_typed(c->list, origin, SLICE("tool"), JSON_STRING));
    if (server.ptr == NULL || tool.ptr == NULL ||
        json_read(reader, definition, &(struct json_want){.children = want}, NULL, NULL) != 0)
        return CLI_FAILED;
    if (is_known(c->session->config, server, tool)) {
        c->n_known++;
        return CLI_OK;
    }
    const struct json_node *root = json_root(reader);
    const struct json_node *annotations =
        json_member_typed(reader, root, SLICE("annotations"), JSON_OBJECT);
    struct suggest_facts facts = {
        .name = tool,
        .read_only = read_hint(reader, annotations, SLICE("readOnlyHint")),
        .destructive = read_hint(reader, annotations, SLICE("destructiveHint")),
    };
    c->suggestions[c->n] = suggest_access(&facts);
    c->edits[c->n] = (struct config_access_edit){server, tool, c->suggestions[c->n].access};
    c->names[c->n] = read_text(c, json_member_typed(reader, root, SLICE("name"), JSON_STRING));
    return c->names[c->n++].ptr != NULL ? CLI_OK : CLI_FAILED;
}

static size_t count(const struct json_reader *reader, const struct json_node *list) {
    size_t n = 0;
    for (const struct json_node *node = json_first(reader, list); node != NULL;
         node = json_next(reader, node))
        n++;
    return n;
}

MUST_CHECK static int read_tools(struct classify *c, struct slice list) {
    static const struct json_want each[] = {{"*", want_nothing}, {0}};
    static const struct json_want want[] = {{"tools", want_nothing}, {"access", each}, {0}};
    const struct json_limits limits = {.max_nodes = 4000000};
    if (json_read(c->list, list, &(struct json_want){.children = want}, &limits, NULL) != 0)
        return CLI_FAILED;
    const struct json_node *root = json_root(c->list);
    const struct json_node *tools = json_member(c->list, root, SLICE("tools"));
    const struct json_node *origins = json_member(c->list, root, SLICE("access"));
    if (tools == NULL || origins == NULL)
        return CLI_FAILED;
    size_t n = count(c->list, tools) + 1;
    c->edits = arena_alloc_array(&c->arena, n, sizeof *c->edits);
    c->suggestions = arena_alloc_array(&c->arena, n, sizeof *c->suggestions);
    c->names = arena_alloc_array(&c->arena, n, sizeof *c->names);
    if (c->edits == NULL || c->suggestions == NULL || c->names == NULL)
        return CLI_FAILED;
    const struct json_node *origin = json_first(c->list, origins);
    int result = CLI_OK;
    for (const struct json_node *tool = json_first(c->list, tools);
         tool != NULL && origin != NULL && result == CLI_OK; tool = json_next(c->list, tool)) {
        result = add_tool(c, tool->raw, origin);
        origin = json_next(c->list, origin);
    }
    return result;
}

/* Servers that did not come up, or have no list: nothing can be said about their tools. */
static void find_missing(struct classify *c) {
    static const struct json_want each[] = {{"*", want_nothing}, {0}};
    static const struct json_want want[] = {{"upstreams", each}, {0}};
    CLEANUP(buf_deinit) struct buf status = BUF_INIT(MIB(256));
    struct json_reader *reader = c->list;
    struct json_writer writer;
    json_writer_init(&writer, &c->missing);
    json_array_begin(&writer);
    if (gateway_write_status(c->session->gateway, &status) == 0 &&
        json_read(reader, buf_slice(&status), &(struct json_want){.children = want}, NULL, NULL) ==
            0) {
        const struct json_node *upstreams =
            json_member(reader, json_root(reader), SLICE("upstreams"));
        for (const struct json_node *node = json_first(reader, upstreams); node != NULL;
             node = json_next(reader, node)) {
            const struct json_node *name =
                json_member_typed(reader, node, SLICE("name"), JSON_STRING);
            const struct json_node *state = json_member(reader, node, SLICE("state"));
            if (name == NULL || (state != NULL && json_string_is(state, SLICE("ready"))))
                continue;
            json_raw(&writer, name->raw);
            c->n_missing++;
            fprintf(stderr, "cardea: %.*s could not be asked: nothing is said about its tools\n",
                    SLICE_ARGS(json_string_raw(name)));
        }
    }
    json_array_end(&writer);
}

/* telling */

static struct slice access_text(enum config_access access) {
    return access == CONFIG_ACCESS_READ ? SLICE("read") : SLICE("write");
}

static int write_why(struct buf *out, const struct suggestion *suggestion) {
    buf_append_cstr(out, suggestion->why);
    if (suggestion->verb.len != 0)
        buf_append_byte(out, ' ');
    return buf_append(out, suggestion->verb);
}

static void print_padded(struct slice text, size_t width) {
    cli_print_escaped(text, LIMIT_EXPOSED_NAME);
    for (size_t n = text.len; n < width; n++)
        putchar(' ');
}

static void print_table(const struct classify *c) {
    size_t width = 12;
    for (size_t i = 0; i < c->n; i++)
        width = c->names[i].len > width ? c->names[i].len : width;
    print_padded(SLICE("tool"), width + 2);
    puts("suggestion  why");
    for (size_t i = 0; i < c->n; i++) {
        const struct suggestion *suggestion = &c->suggestions[i];
        print_padded(c->names[i], width + 2);
        print_padded(access_text(suggestion->access), 12);
        CLEANUP(buf_deinit) struct buf why = BUF_INIT(KIB(1));
        if (write_why(&why, suggestion) == 0)
            printf("%.*s%s\n", SLICE_ARGS(buf_slice(&why)),
                   suggestion->is_contradiction ? " (a contradiction: look at it)" : "");
    }
}

static int print_json(const struct classify *c, struct slice lines, bool is_written) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(256));
    struct json_writer writer;
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    json_key(&writer, SLICE("tools"));
    json_array_begin(&writer);
    for (size_t i = 0; i < c->n; i++) {
        const struct suggestion *suggestion = &c->suggestions[i];
        json_object_begin(&writer);
        json_kv_string(&writer, SLICE("name"), c->names[i]);
        json_kv_string(&writer, SLICE("server"), c->edits[i].server);
        json_kv_string(&writer, SLICE("tool"), c->edits[i].tool);
        json_kv_string(&writer, SLICE("suggestion"), access_text(suggestion->access));
        CLEANUP(buf_deinit) struct buf why = BUF_INIT(KIB(1));
        if (write_why(&why, suggestion) == 0)
            json_kv_string(&writer, SLICE("why"), buf_slice(&why));
        json_kv_bool(&writer, SLICE("contradiction"), suggestion->is_contradiction);
        json_object_end(&writer);
    }
    json_array_end(&writer);
    json_kv_u64(&writer, SLICE("known"), c->n_known);
    json_kv_raw(&writer, SLICE("not_asked"), buf_slice(&c->missing));
    json_kv_string(&writer, SLICE("lines"), lines);
    json_kv_bool(&writer, SLICE("written"), is_written);
    json_object_end(&writer);
    if (buf_append_byte(&out, '\n') != 0)
        return CLI_FAILED;
    fwrite(buf_slice(&out).ptr, 1, buf_len(&out), stdout);
    return CLI_OK;
}

static void print_text(const struct classify *c, struct slice lines, bool is_written) {
    const struct cli_session *session = c->session;
    if (c->n == 0) {
        printf("nothing to classify: the configuration says of each of %zu tools what it does\n",
               c->n_known);
        return;
    }
    if (is_written) {
        printf("\n%s: %zu lines were added; look at them, then: cardea reload\n",
               session->config->path.ptr, c->n);
    } else if (!session->options->write) {
        printf("\nThese lines say so; cardea classify --write puts them into %s:\n\n",
               session->config->path.ptr);
        fwrite(lines.ptr, 1, lines.len, stdout);
    }
}

static int tell(struct classify *c) {
    const struct cli_options *options = c->session->options;
    CLEANUP(buf_deinit) struct buf lines = BUF_INIT(MIB(64));
    int result = config_write_access(&lines, c->edits, c->n) == 0 ? CLI_OK : CLI_FAILED;
    if (result != CLI_OK)
        return result;
    if (c->n != 0 && !options->json) {
        print_table(c);
        /* A refusal to write refers to them. */
        if (options->write)
            printf("\n%.*s", (int)buf_len(&lines), buf_slice(&lines).ptr);
        fflush(stdout);
    }
    if (options->write && c->n != 0)
        result = classify_write(options, c->session->config, c->edits, c->n);
    bool is_written = options->write && c->n != 0 && result == CLI_OK;
    if (!options->json)
        print_text(c, buf_slice(&lines), is_written);
    else if (print_json(c, buf_slice(&lines), is_written) != CLI_OK)
        result = CLI_FAILED;
    return result == CLI_OK && c->n_missing == 0 ? CLI_OK : CLI_FAILED;
}

static int classify(struct cli_session *session) {
    struct classify c = {
        .session = session, .arena = ARENA_INIT(MIB(256)), .missing = BUF_INIT(MIB(1))};
    struct buf list = BUF_INIT(MIB(256));
    int result = CLI_FAILED;
    if (json_reader_new(&c.list) == 0 && json_reader_new(&c.definition) == 0) {
        find_missing(&c);
        if (gateway_write_tools(session->gateway, &list) == 0)
            result = read_tools(&c, buf_slice(&list));
        if (result == CLI_OK)
            result = tell(&c);
        else
            fputs("cardea: the list of tools cannot be read\n", stderr);
    }
    json_reader_free(c.list);
    json_reader_free(c.definition);
    arena_deinit(&c.arena);
    buf_deinit(&c.missing);
    buf_deinit(&list);
    gateway_stop(session->gateway);
    return result;
}

int cli_classify(const struct cli_options *options) {
    return cli_with_upstreams(options, classify);
}
