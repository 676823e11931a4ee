/* cardea upstream: those of the store are changed, those of the file are shown. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "accounts/upstreams.h"
#include "base/clock.h"
#include "base/limits.h"
#include "gateway/gateway.h"
#include "people.h"
#include "upstreams.h"

struct upstream_command {
    struct people people;
    struct config *config; /* NULL: not looked at */
    struct buf definition;
    struct accounts_upstream_change change;
    bool is_found;
};

static struct upstream_command *command_of(void *context) {
    return CONTAINER_OF((struct people *)context, struct upstream_command, people);
}

static void command_init(struct upstream_command *command, const struct cli_options *options,
                         const char *what) {
    *command = (struct upstream_command){.change = {.is_disabled = -1},
                                         .definition = BUF_INIT(LIMIT_STORED_DEFINITION + 1)};
    people_init(&command->people, options, "admin-upstream", what);
}

static void command_deinit(struct upstream_command *command) {
    people_deinit(&command->people);
    config_unref(command->config);
    buf_deinit(&command->definition);
}

/* --- changing --- */

static int read_definition(struct upstream_command *command) {
    ssize_t n = 1;
    while (n > 0) {
        char piece[4096];
        n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno != EINTR) {
            fprintf(stderr, "cardea: cannot read the definition: %s\n", strerror(errno));
            return CLI_FAILED;
        }
        if (n > 0 && buf_append(&command->definition, slice_make(piece, (size_t)n)) != 0) {
            fprintf(stderr, "cardea: the definition is longer than %zu KiB\n",
                    LIMIT_STORED_DEFINITION / KIB(1));
            return CLI_FAILED;
        }
    }
    return CLI_OK;
}

static struct slice without_space(struct slice text) {
    static const char space[] = " \t\r\n";
    while (text.len != 0 && strchr(space, text.ptr[text.len - 1]) != NULL)
        text.len--;
    while (text.len != 0 && strchr(space, text.ptr[0]) != NULL)
        text = slice_from(text, 1);
    return text;
}

/* Read from standard input, and looked at by the loader of the configuration. */
static int take_definition(struct upstream_command *command) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(16));
    char what[64];
    int result = read_definition(command);
    if (result != CLI_OK)
        return result;
    const struct config_stored stored = {
        .name = command->people.who, .definition = without_space(buf_slice(&command->definition))};
    snprintf(what, sizeof what, "cannot %s", command->people.what);
    if (cli_try_definition(command->people.options, NULL, &stored, &command->config, &reason) != 0)
        return cli_store_failed(what, &reason);
    const struct config_stored_upstream *found = config_find_stored(command->config, stored.name);
    if (found == NULL)
        return CLI_FAILED; /* the loader keeps each that it was given */
    if (found->kind == CONFIG_STORED_SHADOWED)
        buf_append_cstr(&reason, "the configuration file has an upstream of that name");
    else if (found->kind == CONFIG_STORED_INVALID)
        buf_append(&reason, found->reason);
    if (buf_len(&reason) != 0)
        return cli_store_failed(what, &reason);
    command->change.definition = stored.definition;
    command->change.needs = found->needs;
    return CLI_OK;
}

static int add(struct store_tx *tx, void *context) {
    struct upstream_command *command = command_of(context);
    buf_reset(&command->people.reason, KIB(4));
    return accounts_add_upstream(tx, &people_owner, command->people.who, &command->change,
                                 &command->people.reason);
}

int cli_upstream_add(const struct cli_options *options) {
    CLEANUP(command_deinit) struct upstream_command command;
    command_init(&command, options, "add the upstream");
    int result = take_definition(&command);
    if (result == CLI_OK)
        result = people_run(&command.people, STORE_WRITE, add);
    if (result == CLI_OK)
        puts("The upstream is added.");
    return result;
}

static int change(struct store_tx *tx, void *context) {
    struct upstream_command *command = command_of(context);
    buf_reset(&command->people.reason, KIB(4));
    return accounts_change_upstream(tx, &people_owner, command->people.who, &command->change,
                                    &command->people.reason);
}

int cli_upstream_edit(const struct cli_options *options) {
    CLEANUP(command_deinit) struct upstream_command command;
    command_init(&command, options, "change the upstream");
    int result = take_definition(&command);
    if (result == CLI_OK)
        result = people_run(&command.people, STORE_WRITE, change);
    if (result == CLI_OK)
        puts("The upstream is changed.");
    return result;
}

static int switch_it(const struct cli_options *options, bool is_disabled) {
    CLEANUP(command_deinit) struct upstream_command command;
    command_init(&command, options, is_disabled ? "disable the upstream" : "enable the upstream");
    command.change.is_disabled = is_disabled;
    int result = people_run(&command.people, STORE_WRITE, change);
    if (result == CLI_OK)
        puts(is_disabled ? "The upstream is disabled." : "The upstream is enabled.");
    return result;
}

int cli_upstream_disable(const struct cli_options *options) {
    return switch_it(options, true);
}

int cli_upstream_enable(const struct cli_options *options) {
    return switch_it(options, false);
}

static int delete_one(struct store_tx *tx, void *context) {
    struct people *people = context;
    buf_reset(&people->reason, KIB(4));
    return accounts_delete_upstream(tx, &people_owner, people->who, 0, &people->reason);
}

int cli_upstream_delete(const struct cli_options *options) {
    CLEANUP(command_deinit) struct upstream_command command;
    command_init(&command, options, "delete the upstream");
    int result = people_run(&command.people, STORE_WRITE, delete_one);
    if (result == CLI_OK)
        puts("The upstream is deleted.");
    return result;
}

/* --- looking --- */

static struct slice state_of(const struct config *config, struct slice name, bool is_disabled) {
    static const char *const states[] = {"served", "disabled", "shadowed", "invalid"};
    const struct config_stored_upstream *stored = config_find_stored(config, name);
    if (stored != NULL)
        return slice_from_cstr(states[stored->kind]);
    return is_disabled ? SLICE("disabled") : SLICE("unknown");
}

static struct slice reason_of(const struct config *config, struct slice name) {
    const struct config_stored_upstream *stored = config_find_stored(config, name);
    return stored != NULL ? stored->reason : SLICE_EMPTY;
}

static void write_file_one(struct upstream_command *command, const struct config_server *server) {
    struct people *people = &command->people;
    struct json_writer *json = &people->json;
    if (people->options->json) {
        json_object_begin(json);
        json_kv_string(json, SLICE("name"), server->name);
        json_kv_string(json, SLICE("source"), SLICE("file"));
        json_kv_string(json, SLICE("file"), config_file_name(command->config));
        json_kv_u64(json, SLICE("line"), server->line);
        json_kv_string(json, SLICE("state"), SLICE("served"));
        json_object_end(json);
        return;
    }
    people_write_cell(people, server->name, 24);
    people_write_cell(people, SLICE("served"), 9);
    people_write_cell(people, config_file_name(command->config), 0);
    buf_printf(&people->out, ":%u\n", server->line);
}

static void write_json(struct upstream_command *command, const struct accounts_upstream *upstream,
                       bool has_definition) {
    struct people *people = &command->people;
    struct json_writer *json = &people->json;
    struct slice reason = reason_of(command->config, upstream->name);
    json_object_begin(json);
    json_kv_string(json, SLICE("name"), upstream->name);
    json_kv_string(json, SLICE("source"), SLICE("store"));
    json_kv_string(json, SLICE("state"),
                   state_of(command->config, upstream->name, upstream->is_disabled));
    if (reason.len != 0)
        json_kv_string(json, SLICE("error"), reason);
    json_kv_bool(json, SLICE("is_disabled"), upstream->is_disabled);
    json_kv_u64(json, SLICE("version"), upstream->version);
    people_write_time(people, SLICE("created"), upstream->created_ms);
    people_write_time(people, SLICE("updated"), upstream->updated_ms);
    if (has_definition)
        json_kv_string(json, SLICE("definition"), upstream->definition);
    json_object_end(json);
}

static bool list_one(void *context, const struct accounts_upstream *upstream) {
    struct upstream_command *command = command_of(context);
    struct people *people = &command->people;
    if (people->options->json) {
        write_json(command, upstream, false);
        return true;
    }
    people_write_cell(people, upstream->name, 24);
    people_write_cell(people, state_of(command->config, upstream->name, upstream->is_disabled), 9);
    people_write_cell(people, SLICE("store"), 0);
    buf_append_byte(&people->out, '\n');
    return buf_error(&people->out) == 0;
}

static int list(struct store_tx *tx, void *context) {
    struct upstream_command *command = command_of(context);
    people_begin_list(&command->people, SLICE("upstreams"));
    for (size_t i = 0; i < command->config->n_servers; i++) {
        if (!command->config->servers[i].is_stored)
            write_file_one(command, &command->config->servers[i]);
    }
    int error = accounts_list_upstreams(tx, list_one, context);
    people_end_list(&command->people);
    return error != 0 ? error : buf_error(&command->people.out);
}

int cli_upstream_list(const struct cli_options *options) {
    CLEANUP(command_deinit) struct upstream_command command;
    command_init(&command, options, "list the upstreams");
    int result = cli_load_checked_config(options, &command.config);
    return result == CLI_OK ? people_print(&command.people, list) : result;
}

static bool show_one(void *context, const struct accounts_upstream *upstream) {
    struct upstream_command *command = command_of(context);
    struct people *people = &command->people;
    struct slice reason = reason_of(command->config, upstream->name);
    command->is_found = true;
    if (people->options->json) {
        write_json(command, upstream, true);
        buf_append_byte(&people->out, '\n');
        return true;
    }
    buf_append_cstr(&people->out, "state:        ");
    people_write_cell(people, state_of(command->config, upstream->name, upstream->is_disabled), 0);
    if (reason.len != 0) {
        buf_append_cstr(&people->out, ": ");
        people_write_cell(people, reason, 0);
    }
    buf_append_cstr(&people->out, "\nchanged:      ");
    people_write_when(people, upstream->updated_ms);
    buf_append_cstr(&people->out, "\ndefinition:   ");
    log_escape(&people->out, upstream->definition, LIMIT_STORED_DEFINITION);
    buf_append_byte(&people->out, '\n');
    return true;
}

/* What the store has; else what the file has. */
static int show(struct store_tx *tx, void *context) {
    struct upstream_command *command = command_of(context);
    struct people *people = &command->people;
    const struct config_server *server = config_find_server(command->config, people->who);
    buf_reset(&people->out, KIB(256));
    buf_reset(&people->reason, KIB(4));
    json_writer_init(&people->json, &people->out);
    int error = accounts_get_upstream(tx, people->who, show_one, context);
    if (error == ACCOUNTS_E_NONE && server != NULL && !server->is_stored) {
        write_file_one(command, server);
        if (people->options->json)
            buf_append_byte(&people->out, '\n');
        error = 0;
    }
    if (error == ACCOUNTS_E_NONE)
        buf_append_cstr(&people->reason, "there is no such upstream");
    return error != 0 ? error : buf_error(&people->out);
}

int cli_upstream_show(const struct cli_options *options) {
    CLEANUP(command_deinit) struct upstream_command command;
    command_init(&command, options, "show the upstream");
    int result = cli_load_checked_config(options, &command.config);
    return result == CLI_OK ? people_print(&command.people, show) : result;
}

/* --- testing --- */

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_each[] = {{"*", want_nothing}, {0}};
static const struct json_want want_outcome = {.children = want_each};

static void print_text(const struct json_reader *reader, const struct json_node *object,
                       const char *key, const char *before) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(16));
    const struct json_node *node =
        object != NULL ? json_member_typed(reader, object, slice_from_cstr(key), JSON_STRING)
                       : NULL;
    if (node == NULL || json_string_append(&text, node) != 0)
        return;
    fputs(before, stdout);
    cli_print_escaped(buf_slice(&text), KIB(1));
}

static int print_outcome(struct slice outcome) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0 || json_read(reader, outcome, &want_outcome, NULL, NULL) != 0)
        return CLI_FAILED;
    const struct json_node *root = json_root(reader);
    bool is_ok = json_member_typed(reader, root, SLICE("ok"), JSON_TRUE) != NULL;
    const struct json_node *n = json_member(reader, root, SLICE("n_tools"));
    const struct json_node *took = json_member(reader, root, SLICE("duration_ms"));
    const struct json_node *server = json_member(reader, root, SLICE("server"));
    fputs(is_ok ? "ok" : "failed", stdout);
    print_text(reader, root, "reason", ": ");
    print_text(reader, server, "name", ": ");
    print_text(reader, server, "version", " ");
    print_text(reader, root, "revision", ", MCP ");
    if (n != NULL)
        printf(", %.*s tools", SLICE_ARGS(n->raw));
    if (took != NULL)
        printf(" (%.*s ms)", SLICE_ARGS(took->raw));
    putchar('\n');
    return is_ok ? CLI_OK : CLI_FAILED;
}

static int ask(struct cli_session *session) {
    CLEANUP(buf_deinit) struct buf outcome = BUF_INIT(KIB(64));
    struct slice name = slice_from_cstr(session->options->arguments[0]);
    int result = CLI_FAILED;
    int error = gateway_look_at_upstream(session->gateway, name, session->began_ms, true, &outcome);
    if (error == -ENOENT) {
        fputs("cardea: there is no such upstream, or it is disabled or invalid (cardea upstream "
              "list)\n",
              stderr);
    } else if (error == 0 && session->options->json) {
        printf("%.*s\n", SLICE_ARGS(buf_slice(&outcome)));
        result =
            slice_starts_with(buf_slice(&outcome), SLICE("{\"ok\":true")) ? CLI_OK : CLI_FAILED;
    } else if (error == 0) {
        result = print_outcome(buf_slice(&outcome));
    }
    gateway_stop(session->gateway);
    return result;
}

int cli_upstream_test(const struct cli_options *options) {
    struct cli_options one = *options;
    one.only = options->arguments[0];
    return cli_with_upstreams(&one, ask);
}
