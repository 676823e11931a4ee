/*
 * `cardea explain`: what would come of a call of this caller, step by step. The decision is made
 * here, by the same functions, with the configuration of the file; from the gateway that runs comes
 * how edit mode stands, and from the data directory what annotations were when it first saw them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/control.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "io/file.h"
#include "json/reader.h"
#include "json/writer.h"
#include "mcp/name.h"
#include "policy/policy.h"

#define COUNTS "counts for: "

struct explanation {
    const struct cli_options *options;
    const struct config *config;
    struct slice server;
    struct policy_question question;
    struct slice groups[ARRAY_LEN(((struct cli_options *)0)->groups)];
    bool gateway_runs;
    int refused; /* of policy_explain() */
    struct policy_decision decision;
    struct buf steps;
};

static int usage_error(const char *what) {
    fprintf(stderr,
            "cardea: %s\nusage: cardea explain [--as USER] [--group GROUP]... [--kind KIND] "
            "SERVER__TOOL [JSON]\n",
            what);
    return CLI_USAGE;
}

/* What is asked for, out of the command's words. */
static int read_words(struct explanation *explanation, struct json_reader *reader) {
    const struct cli_options *options = explanation->options;
    struct policy_item *item = &explanation->question.item;
    static const char *const kinds[] = {"tool", "prompt", "resource"};
    const char *kind = options->kind != NULL ? options->kind : kinds[0];
    size_t k = 0;
    while (k < ARRAY_LEN(kinds) && strcmp(kind, kinds[k]) != 0)
        k++;
    if (k == ARRAY_LEN(kinds))
        return usage_error("a kind is tool, prompt or resource");
    struct slice name = slice_from_cstr(options->arguments[0]);
    explanation->server = mcp_exposed_upstream(name);
    if (explanation->server.ptr == NULL)
        return usage_error("name it with its server, as clients do: server__tool");
    *item = (struct policy_item){.kind = (enum policy_kind)k,
                                 .name = slice_from(name, explanation->server.len + 2)};
    if (options->n_arguments < 2)
        return CLI_OK;
    explanation->question.arguments = slice_from_cstr(options->arguments[1]);
    if (json_read(reader, explanation->question.arguments, NULL, NULL, NULL) != 0 ||
        json_root(reader)->type != JSON_OBJECT)
        return usage_error("the arguments must be one JSON object");
    return CLI_OK;
}

static bool is_known(const struct config_identification *identification, struct slice group) {
    for (size_t i = 0; i < identification->n_group_values; i++) {
        if (slice_eq(identification->group_values[i], group))
            return true;
    }
    return identification->n_group_values == 0;
}

static int compare(const void *a, const void *b) {
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* As auth/ does with those of a token: one outside of group_values is left out, and noted. */
static void settle_groups(struct explanation *explanation) {
    const struct cli_options *options = explanation->options;
    struct policy_caller *caller = &explanation->question.caller;
    *caller = (struct policy_caller){.groups = explanation->groups,
                                     .groups_are_known = options->n_groups != 0};
    for (int i = 0; i < options->n_groups; i++) {
        struct slice group = slice_from_cstr(options->groups[i]);
        if (is_known(&explanation->config->identification, group)) {
            explanation->groups[caller->n_groups++] = group;
            continue;
        }
        caller->groups_are_known = false;
        buf_printf(&explanation->steps,
                   "group: %s is not in server.client_identification.validation.group_values, and "
                   "so left out%s\n",
                   options->groups[i],
                   options->n_groups == 1 ? "; a token with this group alone is refused" : "");
    }
    qsort(explanation->groups, caller->n_groups, sizeof explanation->groups[0], compare);
}

/* Of the gateway that runs; without one, of the file. */
static void ask_edit_mode(struct explanation *explanation, const char *data_dir,
                          struct json_reader *reader) {
    static const struct json_want nothing[] = {{0}};
    static const struct json_want want[] = {{"edit", nothing}, {0}};
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "control.sock");
    CLEANUP(buf_deinit) struct buf answer = BUF_INIT(MIB(16));
    bool is_open = explanation->config->edit_mode;
    if (control_request(path, SLICE("{\"command\":\"refresh\"}"), &answer) == 0 &&
        json_read(reader, buf_slice(&answer), &(struct json_want){.children = want}, NULL, NULL) ==
            0) {
        const struct json_node *edit =
            json_member_typed(reader, json_root(reader), SLICE("edit"), JSON_OBJECT);
        const struct json_node *mode =
            edit != NULL ? json_member(reader, edit, SLICE("edit_mode")) : NULL;
        explanation->gateway_runs =
            mode != NULL && (mode->type == JSON_TRUE || mode->type == JSON_FALSE);
        if (explanation->gateway_runs)
            is_open = mode->type == JSON_TRUE;
    }
    explanation->question.edit_is_open = is_open;
    buf_printf(&explanation->steps, "gateway: %s, and edit mode is %s%s\n",
               explanation->gateway_runs ? "it runs" : "none answers", is_open ? "on" : "off",
               explanation->gateway_runs ? "" : " in the file");
}

/* As the gateway writes a name into the file of definitions. */
static void append_name(struct buf *out, struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        unsigned char byte = (unsigned char)name.ptr[i];
        if (byte <= ' ' || byte == '%' || byte == 0x7f)
            buf_printf(out, "%%%02x", byte);
        else
            buf_append_byte(out, (char)byte);
    }
}

/* "SHA256 r SERVER TOOL": the first line of a tool counts. */
static void look_up_annotation(struct explanation *explanation, const char *data_dir) {
    enum { DIGEST = 64 };
    struct policy_item *item = &explanation->question.item;
    if (item->kind != POLICY_TOOL || !explanation->config->trust_annotations)
        return;
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "definitions");
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(64)), end = BUF_INIT(KIB(4));
    if (io_file_read(path, &text) != 0)
        return;
    append_name(&end, explanation->server);
    buf_append_byte(&end, ' ');
    append_name(&end, item->name);
    struct slice line, rest = buf_slice(&text);
    while (slice_cut(rest, '\n', &line, &rest)) {
        struct slice kind = slice_sub(line, DIGEST, DIGEST + 3);
        if (slice_eq(slice_from(line, DIGEST + 3), buf_slice(&end))) {
            item->says_read_only = slice_eq(kind, SLICE(" r "));
            return;
        }
    }
}

static const char *verdict_of(const struct explanation *explanation) {
    if (explanation->refused != 0)
        return "refused";
    switch (explanation->decision.verdict) {
    case POLICY_ALLOWED:
        return "allowed";
    case POLICY_UNKNOWN:
        return "unknown";
    case POLICY_LOCKED:
        break;
    }
    return "locked";
}

/* The lines that begin with COUNTS, without it, or the others. */
static void write_lines(struct json_writer *writer, struct slice key, struct slice text,
                        bool are_counts) {
    struct slice line;
    json_key(writer, key);
    json_array_begin(writer);
    while (slice_cut(text, '\n', &line, &text)) {
        if (slice_starts_with(line, SLICE(COUNTS)) == are_counts)
            json_string(writer, slice_from(line, are_counts ? sizeof COUNTS - 1 : 0));
    }
    json_array_end(writer);
}

static int print_json(const struct explanation *explanation) {
    const struct policy_caller *caller = &explanation->question.caller;
    const struct policy_decision *decision = &explanation->decision;
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(4)), rule = BUF_INIT(KIB(64));
    struct json_writer writer;
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("name"), slice_from_cstr(explanation->options->arguments[0]));
    if (explanation->options->user != NULL)
        json_kv_string(&writer, SLICE("user"), slice_from_cstr(explanation->options->user));
    json_key(&writer, SLICE("groups"));
    json_array_begin(&writer);
    for (size_t i = 0; i < caller->n_groups; i++)
        json_string(&writer, caller->groups[i]);
    json_array_end(&writer);
    json_kv_bool(&writer, SLICE("groups_are_known"), caller->groups_are_known);
    json_kv_bool(&writer, SLICE("gateway_runs"), explanation->gateway_runs);
    json_kv_bool(&writer, SLICE("edit_mode"), explanation->question.edit_is_open);
    json_kv_string(&writer, SLICE("verdict"), slice_from_cstr(verdict_of(explanation)));
    if (policy_write_rule(&rule, decision, explanation->question.item.name) == 0 &&
        buf_len(&rule) != 0)
        json_kv_string(&writer, SLICE("rule"), buf_slice(&rule));
    json_kv_string(&writer, SLICE("access"), decision->is_write ? SLICE("write") : SLICE("read"));
    write_lines(&writer, SLICE("limits"), buf_slice(&explanation->steps), true);
    write_lines(&writer, SLICE("steps"), buf_slice(&explanation->steps), false);
    json_object_end(&writer);
    if (buf_append_byte(&out, '\n') != 0)
        return CLI_FAILED;
    fwrite(buf_slice(&out).ptr, 1, buf_len(&out), stdout);
    return CLI_OK;
}

static int explain(struct explanation *explanation, struct json_reader *reader) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    struct policy *policy = NULL;
    int result = cli_open_data_dir(explanation->options, &data_dir);
    if (result != CLI_OK)
        return result;
    settle_groups(explanation);
    ask_edit_mode(explanation, data_dir, reader);
    look_up_annotation(explanation, data_dir);
    if (explanation->options->user != NULL)
        buf_printf(&explanation->steps, "user: %s\n", explanation->options->user);
    int error = policy_new(explanation->config, &policy);
    if (error == 0)
        error = policy_explain(&explanation->steps, policy, explanation->server,
                               &explanation->question, reader, &explanation->decision);
    explanation->refused = error > 0 ? error : 0;
    result = error < 0 ? CLI_FAILED : CLI_OK;
    if (error < 0)
        fprintf(stderr, "cardea: cannot explain it: %s\n", strerror(-error));
    else if (explanation->options->json)
        result = print_json(explanation);
    else
        fwrite(buf_slice(&explanation->steps).ptr, 1, buf_len(&explanation->steps), stdout);
    policy_free(policy);
    bool is_allowed = explanation->refused == 0 && explanation->decision.verdict == POLICY_ALLOWED;
    return result == CLI_OK && is_allowed ? CLI_OK : CLI_FAILED;
}

int cli_explain(const struct cli_options *options) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct explanation explanation = {.options = options, .steps = BUF_INIT(MIB(1))};
    if (json_reader_new(&reader) != 0)
        return CLI_FAILED;
    int result = read_words(&explanation, reader);
    if (result == CLI_OK)
        result = cli_load_config(options, &config);
    if (result == CLI_OK) {
        explanation.config = config;
        result = explain(&explanation, reader);
    }
    buf_deinit(&explanation.steps);
    return result;
}
