/* The commands that do one thing and end: check, tools, call, status. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "admin/control.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "gateway/gateway.h"
#include "json/reader.h"

int cli_check(const struct cli_options *options) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    struct cli_options named = *options;
    if (options->n_arguments == 1)
        named.config_path = options->arguments[0];
    int result = cli_load_checked_config(&named, &config);
    if (result == CLI_OK)
        result = cli_check_start(&named, config);
    if (result == CLI_OK)
        printf("%s: fine\n", config->path.ptr);
    return result;
}

/* What would be served by, key by key; secrets are not among it. */
int cli_config(const struct cli_options *options) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(64));
    struct cli_options named = *options;
    if (options->n_arguments == 1)
        named.config_path = options->arguments[0];
    int result = cli_load_checked_config(&named, &config);
    if (result == CLI_OK)
        result = cli_check_start(&named, config);
    if (result != CLI_OK)
        return result;
    int error = options->json ? config_write_live(config, &out) : config_print_live(config, &out);
    if (error == 0 && options->json)
        error = buf_append_byte(&out, '\n');
    if (error != 0) {
        fprintf(stderr, "cardea: the configuration cannot be shown: %s\n", strerror(-error));
        return CLI_FAILED;
    }
    fwrite(buf_slice(&out).ptr, 1, buf_len(&out), stdout);
    return CLI_OK;
}

static void on_change(void *context) {
    struct cli_session *session = context;
    if (session->is_asked || !gateway_is_settled(session->gateway))
        return;
    session->is_asked = true;
    session->result = session->ask(session);
}

int cli_with_upstreams(const struct cli_options *options, int (*ask)(struct cli_session *session)) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    CLEANUP(mem_freep) char *data_dir = NULL;
    struct cli_spawners spawners = {0};
    struct cli_session session = {
        .options = options, .ask = ask, .began_ms = clock_monotonic_ms(), .result = CLI_FAILED};
    signal(SIGPIPE, SIG_IGN);
    int result = cli_load_config(options, &config);
    if (result == CLI_OK)
        result = cli_open_data_dir(options, &data_dir);
    if (result != CLI_OK)
        return result;
    if (options->only != NULL)
        config_keep_server(config, slice_from_cstr(options->only));
    /* Warnings about upstreams are what the user wants to see, the chatter of a start is not. */
    struct cli_options quiet = *options;
    if (quiet.log_level == LOG_INFO)
        quiet.log_level = LOG_WARN;
    struct log *log = cli_new_log(&quiet);
    result = cli_start_spawners(config, data_dir, false, log, &spawners);
    CLEANUP(mem_freep) char *definitions = cli_path(data_dir, "definitions");
    if (result == CLI_OK) {
        struct gateway_options gateway_options = {
            .config = config,
            .log = log,
            .isolated = spawners.isolated,
            .plain = spawners.plain,
            .version = SLICE(CARDEA_VERSION),
            .definitions_path = definitions,
            .is_local = true,
        };
        session.config = config;
        int error = gateway_new(&gateway_options, &session.gateway);
        if (error == 0)
            error = cli_make_upstreams(session.gateway, config);
        if (error == 0) {
            gateway_on_change(session.gateway, on_change, &session);
            if (config->n_servers == 0 || !config->mcp_enabled)
                on_change(&session); /* nothing else will change */
            error = gateway_run(session.gateway);
        }
        result = error == 0 ? session.result : CLI_FAILED;
        gateway_free(session.gateway);
    }
    cli_stop_spawners(&spawners);
    log_free(log);
    return result;
}

void cli_print_escaped(struct slice text, size_t max) {
    struct buf safe = BUF_INIT(MIB(16));
    if (log_escape(&safe, text, max) == 0)
        fwrite(buf_slice(&safe).ptr, 1, buf_len(&safe), stdout);
    buf_deinit(&safe);
}

/* The unescaped text, its first line only. */
static void print_string(const struct json_node *node, size_t max) {
    struct buf text = BUF_INIT(MIB(1));
    struct slice first, rest;
    if (node != NULL && json_string_append(&text, node) == 0) {
        (void)slice_cut(buf_slice(&text), '\n', &first, &rest);
        cli_print_escaped(first, max);
    }
    buf_deinit(&text);
}

static const struct json_want want_nothing[] = {{0}};

/* "read", "write" or "locked", of the object that is in the same place as the tool. */
static struct slice access_of(const struct json_reader *reader, const struct json_node *origin) {
    if (origin == NULL)
        return SLICE_EMPTY;
    if (json_member_typed(reader, origin, SLICE("locked"), JSON_TRUE) != NULL)
        return SLICE("locked");
    return json_string_raw(json_member(reader, origin, SLICE("access")));
}

static void print_tool(const struct json_reader *reader, const struct json_node *tool,
                       const struct json_node *origin) {
    const struct json_node *name = json_member(reader, tool, SLICE("name"));
    struct slice access = access_of(reader, origin);
    print_string(name, 100);
    for (size_t width = json_string_raw(name).len; width < 40; width++)
        putchar(' ');
    printf(" %-6.*s ", SLICE_ARGS(access));
    print_string(json_member_typed(reader, tool, SLICE("description"), JSON_STRING), 100);
    putchar('\n');
}

static int print_tools(struct cli_session *session) {
    static const struct json_want each[] = {{"*", want_nothing}, {0}};
    static const struct json_want want[] = {{"tools", each}, {"access", each}, {0}};
    struct buf list = BUF_INIT(MIB(256));
    struct json_reader *reader = NULL;
    int result = CLI_FAILED;
    if (gateway_write_tools(session->gateway, &list) == 0 && session->options->json) {
        fwrite(buf_slice(&list).ptr, 1, buf_len(&list), stdout);
        putchar('\n');
        result = CLI_OK;
    } else if (buf_error(&list) == 0 && json_reader_new(&reader) == 0 &&
               json_read(reader, buf_slice(&list), &(struct json_want){.children = want}, NULL,
                         NULL) == 0) {
        const struct json_node *root = json_root(reader);
        const struct json_node *origin =
            json_first(reader, json_member(reader, root, SLICE("access")));
        for (const struct json_node *node =
                 json_first(reader, json_member(reader, root, SLICE("tools")));
             node != NULL; node = json_next(reader, node)) {
            if (node->type == JSON_OBJECT)
                print_tool(reader, node, origin);
            origin = origin != NULL ? json_next(reader, origin) : NULL;
        }
        result = CLI_OK;
    }
    json_reader_free(reader);
    buf_deinit(&list);
    gateway_stop(session->gateway);
    return result;
}

int cli_tools(const struct cli_options *options) {
    return cli_with_upstreams(options, print_tools);
}

static bool print_result(const struct cli_options *options, struct slice result) {
    static const struct json_want each[] = {{"*", want_nothing}, {0}};
    static const struct json_want want[] = {{"content", each}, {0}};
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0 ||
        json_read(reader, result, &(struct json_want){.children = want}, NULL, NULL) != 0) {
        json_reader_free(reader);
        return false;
    }
    const struct json_node *root = json_root(reader);
    bool is_error = json_member_typed(reader, root, SLICE("isError"), JSON_TRUE) != NULL;
    const struct json_node *content = json_member_typed(reader, root, SLICE("content"), JSON_ARRAY);
    if (options->json || content == NULL) {
        fwrite(result.ptr, 1, result.len, stdout);
        putchar('\n');
    }
    for (const struct json_node *node =
             content != NULL && !options->json ? json_first(reader, content) : NULL;
         node != NULL; node = json_next(reader, node)) {
        const struct json_node *text = json_member_typed(reader, node, SLICE("text"), JSON_STRING);
        struct buf plain = BUF_INIT(MIB(16));
        if (text != NULL && json_string_append(&plain, text) == 0) {
            struct slice rest = buf_slice(&plain), line;
            bool more = true;
            while (more) {
                more = slice_cut(rest, '\n', &line, &rest);
                cli_print_escaped(line, MIB(1));
                putchar('\n');
            }
        } else {
            cli_print_escaped(node->raw, 200);
            putchar('\n');
        }
        buf_deinit(&plain);
    }
    json_reader_free(reader);
    return !is_error;
}

static void on_called(void *context, struct slice result, struct slice error) {
    struct cli_session *session = context;
    session->result = CLI_FAILED;
    if (error.len != 0)
        fprintf(stderr, "cardea: the call failed: %.*s\n", SLICE_ARGS(error));
    else if (print_result(session->options, result))
        session->result = CLI_OK;
    gateway_stop(session->gateway);
}

static int start_call(struct cli_session *session) {
    const struct cli_options *options = session->options;
    const char *arguments = options->n_arguments == 2 ? options->arguments[1] : "{}";
    int error = gateway_call_tool(session->gateway, slice_from_cstr(options->arguments[0]),
                                  slice_from_cstr(arguments), on_called, session);
    if (error == 0) /* it may be answered already: then this is its result */
        return session->result;
    if (error == -ENOENT)
        fprintf(stderr, "cardea: there is no tool %s; cardea tools lists them\n",
                options->arguments[0]);
    else if (error == -EINVAL)
        fprintf(stderr, "cardea: the arguments must be one JSON object, not: %s\n", arguments);
    else
        fprintf(stderr, "cardea: cannot make the call: %s\n", strerror(-error));
    gateway_stop(session->gateway);
    return error == -EINVAL ? CLI_USAGE : CLI_FAILED;
}

int cli_call(const struct cli_options *options) {
    return cli_with_upstreams(options, start_call);
}

/* Only what is not as it should be. */
static void print_health(const struct json_reader *reader, const struct json_node *upstream) {
    const struct json_node *breaker = json_member(reader, upstream, SLICE("breaker"));
    const struct json_node *failures = json_member(reader, upstream, SLICE("failures"));
    const struct json_node *retry = json_member(reader, upstream, SLICE("retry_ms"));
    const struct json_node *in_flight = json_member(reader, upstream, SLICE("in_flight"));
    if (in_flight != NULL && !slice_eq(in_flight->raw, SLICE("0")))
        printf(", %.*s calls running", SLICE_ARGS(in_flight->raw));
    if (failures != NULL && !slice_eq(failures->raw, SLICE("0")))
        printf(", %.*s failures in a row", SLICE_ARGS(failures->raw));
    if (breaker == NULL || retry == NULL || json_string_is(breaker, SLICE("closed")))
        return;
    printf(", breaker ");
    print_string(breaker, 100);
    if (!slice_eq(retry->raw, SLICE("0")))
        printf(" (calls are refused for another %.*s ms)", SLICE_ARGS(retry->raw));
}

/* Of the store, and not served. */
static void print_left_out(const struct json_reader *reader, const struct json_node *status) {
    const struct json_node *list = json_member(reader, status, SLICE("left_out"));
    for (const struct json_node *node = list != NULL ? json_first(reader, list) : NULL;
         node != NULL; node = json_next(reader, node)) {
        const struct json_node *error = json_member(reader, node, SLICE("error"));
        printf("upstream  ");
        print_string(json_member(reader, node, SLICE("name")), 100);
        printf(": ");
        print_string(json_member(reader, node, SLICE("state")), 100);
        printf(" (of the store)");
        if (error != NULL) {
            printf(", ");
            print_string(error, 1000);
        }
        putchar('\n');
    }
}

static void print_status(const struct json_reader *reader) {
    const struct json_node *status = json_member(reader, json_root(reader), SLICE("status"));
    const struct json_node *upstreams = json_member(reader, status, SLICE("upstreams"));
    printf("address   ");
    print_string(json_member(reader, status, SLICE("address")), 100);
    printf("\nsessions  %.*s\n", SLICE_ARGS(json_member(reader, status, SLICE("sessions"))->raw));
    for (const struct json_node *node = json_first(reader, upstreams); node != NULL;
         node = json_next(reader, node)) {
        const struct json_node *tools = json_member(reader, node, SLICE("tools"));
        const struct json_node *error = json_member(reader, node, SLICE("error"));
        size_t n = 0;
        for (const struct json_node *tool = tools != NULL ? json_first(reader, tools) : NULL;
             tool != NULL; tool = json_next(reader, tool))
            n++;
        printf("upstream  ");
        print_string(json_member(reader, node, SLICE("name")), 100);
        printf(": ");
        print_string(json_member(reader, node, SLICE("state")), 100);
        printf(", %zu tools", n);
        print_health(reader, node);
        if (error != NULL) {
            printf(", last error: ");
            print_string(error, 200);
        }
        putchar('\n');
    }
    print_left_out(reader, status);
}

int cli_status(const struct cli_options *options) {
    static const struct json_want upstream[] = {{"tools", want_nothing}, {0}};
    static const struct json_want each[] = {{"*", upstream}, {0}};
    static const struct json_want status[] = {{"upstreams", each}, {"left_out", each}, {0}};
    static const struct json_want want[] = {{"status", status}, {0}};
    CLEANUP(mem_freep) char *data_dir = NULL;
    int result = cli_open_data_dir(options, &data_dir);
    if (result != CLI_OK)
        return result;
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "control.sock");
    struct buf answer = BUF_INIT(MIB(32));
    struct json_reader *reader = NULL;
    int error = control_request(path, SLICE("{\"command\":\"status\"}"), &answer);
    result = CLI_FAILED;
    if (error != 0) {
        fprintf(stderr, "cardea: no gateway answers at %s: %s\n", path, strerror(-error));
    } else if (json_reader_new(&reader) == 0 &&
               json_read(reader, buf_slice(&answer), &(struct json_want){.children = want}, NULL,
                         NULL) == 0 &&
               json_member_typed(reader, json_root(reader), SLICE("status"), JSON_OBJECT) != NULL) {
        result = CLI_OK;
        if (options->json)
            printf("%.*s\n", (int)buf_len(&answer), buf_slice(&answer).ptr);
        else
            print_status(reader);
    }
    json_reader_free(reader);
    buf_deinit(&answer);
    return result;
}
