#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/control.h"
#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "gateway/gateway.h"
#include "io/file.h"
#include "io/loop.h"
#include "json/reader.h"
#include "json/writer.h"
#include "reloader.h"
#include "serving_admin.h"
#include "serving_audit.h"
#include "serving_keys.h"
#include "serving_stdio.h"
#include "serving_tls.h"
#include "stdio_client.h"

struct serving {
    struct config *config;
    struct gateway *gateway;
    struct log *log;
    const struct cli_options *options;
    struct cli_reloader *reloader;
    struct store *store;
    struct audit *audit; /* NULL: nothing is recorded */
    const struct serving_keys *keys;
    struct audit_finder *finder;
    struct serving_admin *admin;
    struct serving_stdio *stdio; /* NULL: it listens */
    bool tools_told;
};

static void on_signal(void *context, int number) {
    struct serving *serving = context;
    if (number == SIGHUP)
        cli_reloader_start(serving->reloader);
    else if (!serving_stdio_stop(serving->stdio))
        gateway_stop(serving->gateway);
}

/* A member that counts something; 0 when it is missing. */
static uint64_t number_of(const struct json_reader *reader, const struct json_node *object,
                          struct slice key) {
    const struct json_node *node = json_member_typed(reader, object, key, JSON_NUMBER);
    int64_t number = 0;
    return node != NULL && json_to_i64(node, &number) == 0 && number > 0 ? (uint64_t)number : 0;
}

static void print_upstream(struct buf *out, const struct json_reader *reader,
                           const struct json_node *upstream) {
    const struct json_node *name = json_member(reader, upstream, SLICE("name"));
    const struct json_node *state = json_member(reader, upstream, SLICE("state"));
    const struct json_node *tools = json_member(reader, upstream, SLICE("tools"));
    buf_printf(out, "  %.*s (%.*s", SLICE_ARGS(json_string_raw(name)),
               SLICE_ARGS(json_string_raw(state)));
    uint64_t n_locked = number_of(reader, upstream, SLICE("locked"));
    if (n_locked != 0)
        buf_printf(out, ", %" PRIu64 " locked", n_locked);
    buf_printf(out, ")");
    size_t column = 100;
    for (const struct json_node *tool = tools != NULL ? json_first(reader, tools) : NULL;
         tool != NULL; tool = json_next(reader, tool)) {
        struct slice text = json_string_raw(tool);
        if (column + text.len > 90) {
            buf_printf(out, "\n     ");
            column = 5;
        }
        buf_printf(out, " %.*s", SLICE_ARGS(text));
        column += text.len + 1;
    }
    buf_printf(out, "\n");
}

/* How many tools of it the configuration says nothing about. */
static uint64_t count_unsaid(const struct config *config, struct slice name, uint64_t n_tools) {
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        if (!slice_eq(server->name, name))
            continue;
        uint64_t n_said = server->access != CONFIG_ACCESS_UNSET ? n_tools : 0;
        for (size_t k = 0; k < server->n_tools && n_said < n_tools; k++)
            n_said += server->tools[k].access != CONFIG_ACCESS_UNSET;
        return n_tools - n_said;
    }
    return 0;
}

/* The options that a command needs to find this gateway. */
static void print_options(struct buf *out, const char *option, const char *value) {
    if (value != NULL)
        buf_printf(out, " %s %s", option, value);
}

/* What is closed, and the lines that open it. */
static void print_locked(struct buf *out, const struct serving *serving, uint64_t n_tools,
                         uint64_t n_locked, uint64_t n_unsaid) {
    const struct config *config = serving->config;
    const struct cli_options *options = serving->options;
    if (config->edit_mode)
        buf_printf(out, "\nEdit mode is on (security.edit_mode = true): %s.\n",
                   config->n_whitelist != 0
                       ? "of the tools that write, security.whitelist's can be "
                         "called"
                       : "tools that write can be called");
    if (n_locked == 0)
        return;
    buf_printf(out, "\n%" PRIu64 " of %" PRIu64 " tools are locked (%s): ", n_locked, n_tools,
               config->edit_mode ? "security.whitelist does not name them" : "edit mode is off");
    if (n_unsaid != 0) {
        buf_printf(out, "cardea classify");
        print_options(out, "-c", options->config_path);
        buf_printf(out, "\n  finds those that only read.%s",
                   config->edit_mode ? "\n" : " For a while, all: ");
    }
    if (!config->edit_mode) {
        buf_printf(out, "cardea edit on --minutes 15 --reason \"...\"");
        print_options(out, "--data-dir", options->data_dir);
        buf_printf(out, "\n");
    } else if (n_unsaid == 0) {
        buf_printf(out, "they write\n");
    }
}

static void print_text(struct buf *out, const struct json_reader *reader,
                       const struct json_node *object, struct slice key) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
    const struct json_node *node = json_member_typed(reader, object, key, JSON_STRING);
    if (node != NULL && json_string_append(&text, node) == 0)
        log_escape(out, buf_slice(&text), KIB(4));
}

/* What is open for a while, since before this start. */
static void print_windows(struct buf *out, const struct json_reader *reader) {
    const struct json_node *edit = json_member(reader, json_root(reader), SLICE("edit"));
    const struct json_node *windows =
        edit != NULL ? json_member(reader, edit, SLICE("windows")) : NULL;
    for (const struct json_node *node = windows != NULL ? json_first(reader, windows) : NULL;
         node != NULL; node = json_next(reader, node)) {
        buf_append_cstr(out, "\nEdit mode is on");
        if (json_member(reader, node, SLICE("name")) != NULL) {
            buf_append_cstr(out, " for the ");
            print_text(out, reader, node, SLICE("scope"));
            buf_append_byte(out, ' ');
            print_text(out, reader, node, SLICE("name"));
        }
        buf_append_cstr(out, " until ");
        print_text(out, reader, node, SLICE("until"));
        buf_append_cstr(out, ", by ");
        print_text(out, reader, node, SLICE("by"));
        buf_append_cstr(out, ": ");
        print_text(out, reader, node, SLICE("reason"));
        buf_append_byte(out, '\n');
    }
}

static void print_settled(struct buf *out, const struct json_reader *reader,
                          const struct serving *serving) {
    const struct json_node *upstreams = json_member(reader, json_root(reader), SLICE("upstreams"));
    uint64_t n_tools = 0, n_locked = 0, n_unsaid = 0;
    buf_printf(out, "\nTools:\n");
    for (const struct json_node *node = json_first(reader, upstreams); node != NULL;
         node = json_next(reader, node)) {
        struct slice name = json_string_raw(json_member(reader, node, SLICE("name")));
        uint64_t n = number_of(reader, node, SLICE("n_tools"));
        print_upstream(out, reader, node);
        n_tools += n;
        n_locked += number_of(reader, node, SLICE("locked"));
        n_unsaid += count_unsaid(serving->config, name, n);
    }
    print_windows(out, reader);
    print_locked(out, serving, n_tools, n_locked, n_unsaid);
    buf_printf(out, "\nStop with Ctrl-C.\n");
}

/* Once, when every upstream has come up or failed for the first time. */
static void on_change(void *context) {
    struct serving *serving = context;
    serving_admin_notice(serving->admin);
    if (serving->tools_told || !gateway_is_settled(serving->gateway))
        return;
    serving->tools_told = true;
    static const struct json_want nothing[] = {{0}};
    static const struct json_want tools[] = {{"tools", nothing}, {0}};
    static const struct json_want each[] = {{"*", tools}, {0}};
    static const struct json_want window[] = {{"*", nothing}, {0}};
    static const struct json_want edit[] = {{"windows", window}, {0}};
    static const struct json_want want[] = {{"upstreams", each}, {"edit", edit}, {0}};
    struct buf status = BUF_INIT(MIB(16)), out = BUF_INIT(MIB(16));
    struct json_reader *reader = NULL;
    if (gateway_write_status(serving->gateway, &status) == 0 && json_reader_new(&reader) == 0 &&
        json_read(reader, buf_slice(&status), &(struct json_want){.children = want}, NULL, NULL) ==
            0) {
        print_settled(&out, reader, serving);
        io_write_softly(STDOUT_FILENO, buf_slice(&out));
    }
    json_reader_free(reader);
    buf_deinit(&status);
    buf_deinit(&out);
}

static void print_client(const char *whose, const char *url, const char *bearer) {
    printf("\nClaude Code%s:\n  claude mcp add --transport http cardea %s", whose, url);
    if (bearer != NULL)
        printf(" \\\n      --header \"Authorization: Bearer %s\"", bearer);
    printf("\n");
}

/* The lines to paste, for clients at `url` and for those on this machine. */
static void print_clients(const struct serving *serving, const char *data_dir, const char *url,
                          const char *url_here, const struct secret *token) {
    bool is_terminal = isatty(STDOUT_FILENO) != 0;
    struct slice address = slice_from_cstr(gateway_address(serving->gateway)->text);
    bool is_open = !gateway_address(serving->gateway)->is_loopback;
    if (config_lets_everybody_in(serving->config)) {
        print_client("", url, NULL);
        printf("\nOther clients (mcpServers):\n"
               "  {\"mcpServers\":{\"cardea\":{\"type\":\"http\",\"url\":\"%s\"}}}\n",
               url);
        return;
    }
    if (is_open) /* the token of this machine is good on it only */
        print_client(", with a token of the configuration", url, "TOKEN");
    if (is_open && !serving_is_for_all(address))
        return;
    char from_file[4200];
    snprintf(from_file, sizeof from_file, "$(cat '%s/token')", data_dir);
    CLEANUP(buf_deinit) struct buf bearer = BUF_INIT(KIB(8));
    buf_append(&bearer, is_terminal ? secret_reveal(token) : slice_from_cstr(from_file));
    if (buf_append_byte(&bearer, '\0') != 0)
        return;
    print_client(is_open ? " on this machine" : "", url_here, buf_slice(&bearer).ptr);
    if (is_terminal)
        printf("\nOther clients (mcpServers):\n"
               "  {\"mcpServers\":{\"cardea\":{\"type\":\"http\",\"url\":\"%s\",\n"
               "    \"headers\":{\"Authorization\":\"Bearer %s\"}}}}\n",
               url_here, buf_slice(&bearer).ptr);
    secret_wipe(bearer.data, bearer.cap);
}

/* Who is let in, beside the owner of the data directory. */
static void print_callers(const struct serving *serving) {
    const struct config *config = serving->config;
    bool has_api_token = serving->options->api_token != NULL;
    for (size_t i = 0; i < config->oauth.n_issuers; i++) {
        struct slice issuer = config->oauth.issuers[i].expected_issuer;
        if (issuer.len == 0)
            issuer = config->oauth.issuers[i].url;
        printf("  OAuth   %.*s\n", SLICE_ARGS(issuer.len != 0 ? issuer : SLICE("by a secret")));
    }
    if (config->n_tokens != 0)
        printf("  tokens  %zu in server.auth.tokens\n", config->n_tokens);
    if (has_api_token)
        printf("  tokens  MCP_API_TOKEN\n");
    if (config->tls.client_ca.len != 0)
        printf("  mTLS    certificates by %s\n", config->tls.client_ca.ptr);
}

static void on_pair(void *context, const struct pki_pair *pair) {
    const struct serving *serving = context;
    serving_admin_use(serving->admin, pair);
}

/* While there is nobody: how the first one comes in. The code is a secret, and goes to a terminal
 * only. */
static void print_console(const struct serving *serving) {
    CLEANUP(buf_deinit) struct buf origin = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf code = BUF_INIT(KIB(4));
    if (serving->admin == NULL || serving_admin_origin(serving->admin, &origin) != 0)
        return;
    printf("  console %.*s\n", SLICE_ARGS(buf_slice(&origin)));
    if (isatty(STDOUT_FILENO) == 0 || serving_admin_setup_code(serving->admin, &code) != 0 ||
        buf_len(&code) == 0)
        return;
    printf("          nobody can log in yet. This link makes the first administrator, once and "
           "within 30 minutes:\n"
           "          %.*s/setup#%.*s\n"
           "          or, without a browser: cardea user add NAME --admin\n",
           SLICE_ARGS(buf_slice(&origin)), SLICE_ARGS(buf_slice(&code)));
    secret_wipe(code.data, code.cap);
}

/* A token goes to a terminal only; elsewhere its file is named. */
static void print_welcome(const struct serving *serving, const char *data_dir,
                          const struct secret *token) {
    const struct config *config = serving->config;
    struct slice address = slice_from_cstr(gateway_address(serving->gateway)->text);
    CLEANUP(buf_deinit) struct buf url = BUF_INIT(KIB(8));
    CLEANUP(buf_deinit) struct buf url_here = BUF_INIT(KIB(8));
    CLEANUP(buf_deinit) struct buf advice = BUF_INIT(KIB(64));
    serving_tls_origin(config, address, false, &url);
    buf_append(&url, config->mcp_path);
    serving_tls_origin(config, address, true, &url_here);
    buf_append(&url_here, config->mcp_path);
    if (buf_append_byte(&url, '\0') != 0 || buf_append_byte(&url_here, '\0') != 0 ||
        serving_tls_advice(config, data_dir, &advice) != 0)
        return;
    const char *text = buf_slice(&url).ptr;
    printf("Cardea %s\n\n  MCP     %s\n", CARDEA_VERSION, text);
    for (size_t i = 0; i < config->n_servers; i++)
        printf("          %s/%s\n", text, config->servers[i].name.ptr);
    bool is_open = !gateway_address(serving->gateway)->is_loopback;
    printf("  token   %s/token%s\n", data_dir,
           config->auth_none.len != 0 ? " (not required: server.auth.none)"
           : config->auth_anonymous   ? " (not required: server.auth.anonymous)"
           : is_open                  ? " (from this machine alone)"
                                      : "");
    print_callers(serving);
    print_console(serving);
    print_clients(serving, data_dir, text, buf_slice(&url_here).ptr, token);
    if (serving_is_for_all(address) && config->n_hosts == 0 && config->tls.n_names == 0 &&
        config->oauth.resource.len == 0)
        printf("\nOther machines are answered when they use a name of the gateway: give it one, as "
               "in\n"
               "  server.%s = [\"gw.example.com\"]\n",
               config_has_tls(config) ? "tls.names" : "hosts");
    if (buf_len(&advice) != 0)
        printf("\n%.*s", SLICE_ARGS(buf_slice(&advice)));
    fflush(stdout);
}

/* As many descriptors as the system lets us have: each client and each child takes some. */
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)!setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* One more signal must not end us between the last answer and the end of the children. */
static void block_signals(const int *signals, size_t n) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < n; i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void on_reload(void *context, struct control_request *request,
                      const struct json_reader *arguments) {
    const struct serving *serving = context;
    cli_reloader_command(serving->reloader, request, arguments);
}

/* For `cardea connect`: the address by which clients on this machine reach us. */
static void on_where(void *context, struct control_request *request,
                     const struct json_reader *arguments) {
    const struct serving *serving = context;
    struct slice address = slice_from_cstr(gateway_address(serving->gateway)->text);
    CLEANUP(buf_deinit) struct buf url = BUF_INIT(KIB(8));
    CLEANUP(buf_deinit) struct buf members = BUF_INIT(KIB(64));
    struct json_writer writer;
    (void)arguments;
    serving_tls_origin(serving->config, address, true, &url);
    buf_append(&url, serving->config->mcp_path);
    json_writer_init(&writer, &members);
    json_string(&writer, SLICE("url"));
    buf_append_byte(&members, ':');
    json_writer_init(&writer, &members);
    json_string(&writer, buf_slice(&url));
    bool is_fine = address.len != 0 && buf_error(&url) == 0 && buf_error(&members) == 0;
    control_answer(request, is_fine ? NULL : "it serves one client on its standard input alone",
                   is_fine ? buf_slice(&members) : SLICE_EMPTY);
}

static void open_control(struct serving *serving, const char *data_dir,
                         struct control **ret_control) {
    static const struct control_command commands[] = {
        {SLICE_INIT("reload"), on_reload},
        {SLICE_INIT("where"), on_where},
    };
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "control.sock");
    struct control_options options = {
        .gateway = serving->gateway,
        .path = path,
        .log = serving->log,
        .commands = commands,
        .n_commands = ARRAY_LEN(commands),
        .context = serving,
    };
    int error = control_new(&options, ret_control);
    if (error != 0)
        log_write(serving->log, LOG_WARN, "gateway", "there is no control socket",
                  LOG_CSTR("path", path), LOG_CSTR("reason", strerror(-error)));
}

static void on_applied(void *context, struct config *config) {
    struct serving *serving = context;
    serving_admin_reloaded(serving->admin, config);
    serving_admin_notice(serving->admin);
}

/* Users and edit mode, and the console for them. */
static int use_store(struct serving *serving, const char *data_dir) {
    struct serving_admin_options options = {
        .options = serving->options,
        .gateway = serving->gateway,
        .store = serving->store,
        .audit = serving->audit,
        .finder = serving->finder,
        .log = serving->log,
        .data_dir = data_dir,
        .keys = serving->keys,
    };
    if (gateway_use_store(serving->gateway, serving->store) != 0) {
        fputs("cardea: users and edit mode cannot be read from the store\n", stderr);
        return CLI_FAILED;
    }
    return serving_admin_start(&options, serving->config, &serving->admin);
}

/* Where clients come in. */
static int open_door(struct serving *serving, const char *data_dir, struct serving_tls **ret_tls) {
    struct slice address = SLICE_EMPTY;
    struct serving_tls_options options = {.gateway = serving->gateway,
                                          .log = serving->log,
                                          .data_dir = data_dir,
                                          .sealing = &serving->keys->sealing,
                                          .on_pair = on_pair,
                                          .context = serving};
    if (serving->options->stdio) {
        gateway_open_inside(serving->gateway);
        return CLI_OK;
    }
    int error = gateway_listen(serving->gateway, &address);
    if (error == 0)
        return serving_tls_start(&options, serving->config, ret_tls);
    fprintf(stderr, "cardea: cannot listen on %s: %s\n", address.ptr, strerror(-error));
    return CLI_FAILED;
}

static int run(struct serving *serving, const char *data_dir, const struct secret *token) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct io_signal *watches[ARRAY_LEN(signals)] = {NULL};
    struct control *control = NULL;
    struct serving_tls *tls = NULL;
    int error = 0;
    if (open_door(serving, data_dir, &tls) != CLI_OK)
        return CLI_FAILED;
    if (cli_make_upstreams(serving->gateway, serving->config) != CLI_OK) {
        serving_tls_free(tls);
        return CLI_FAILED;
    }
    if (use_store(serving, data_dir) != CLI_OK) {
        serving_tls_free(tls);
        return CLI_FAILED;
    }
    struct cli_reloader_options reloader_options = {
        .options = serving->options,
        .gateway = serving->gateway,
        .log = serving->log,
        .config = serving->config,
        .parts = {serving_admin_part(serving->admin), serving_tls_part(tls)},
        .on_applied = on_applied,
        .context = serving,
    };
    serving->reloader = cli_reloader_new(&reloader_options);
    gateway_on_upstreams(serving->gateway, cli_reloader_take_upstreams, serving->reloader);
    open_control(serving, data_dir, &control);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        if (io_signal_new(gateway_loop(serving->gateway), signals[i], on_signal, serving,
                          &watches[i]) != 0)
            log_write(serving->log, LOG_WARN, "gateway", "a signal cannot be watched",
                      LOG_NUM("signal", signals[i]));
    }
    if (serving->options->stdio) {
        if (serving_stdio_start(serving->gateway, serving->config, serving->log, token,
                                &serving->stdio) != CLI_OK)
            gateway_stop(serving->gateway);
    } else {
        print_welcome(serving, data_dir, token);
        gateway_on_change(serving->gateway, on_change, serving);
        log_write(serving->log, LOG_INFO, "gateway", "listening",
                  LOG_CSTR("address", gateway_address(serving->gateway)->text),
                  LOG_CSTR("data_dir", data_dir));
    }
    gateway_record_configuration(serving->gateway, serving->config, "start", SLICE_EMPTY, NULL);
    error = gateway_run(serving->gateway);
    log_write(serving->log, LOG_INFO, "gateway", "stopped");
    block_signals(signals, ARRAY_LEN(signals));
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        io_signal_free(watches[i]);
    control_free(control); /* first: nobody may ask any more */
    serving->reloader = cli_reloader_free(serving->reloader);
    serving->stdio = serving_stdio_free(serving->stdio);
    serving_tls_free(tls);
    serving->admin = serving_admin_free(serving->admin);
    return error == 0 ? CLI_OK : CLI_FAILED;
}

static int lock_data_dir(const char *data_dir, int *ret_fd) {
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "lock");
    int error = io_lock_file(path, ret_fd);
    if (error == 0)
        return CLI_OK;
    if (error == -EWOULDBLOCK)
        fprintf(stderr,
                "cardea: another gateway uses %s; stop it, or name another place with "
                "--data-dir DIR\n",
                data_dir);
    else
        fprintf(stderr, "cardea: cannot lock %s: %s\n", path, strerror(-error));
    return CLI_FAILED;
}

static int serve(struct config *config, const struct cli_options *options, struct log *log) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    CLEANUP(secret_freep) struct secret *token = NULL;
    CLEANUP(io_fd_close) int lock = -1;
    struct cli_spawners spawners = {0};
    struct serving_audit *audit = NULL;
    struct gateway *gateway = NULL;
    struct store *store = NULL;
    struct serving_keys keys = {.cluster = NULL};
    int result = cli_open_data_dir(options, &data_dir);
    if (result == CLI_OK)
        result = lock_data_dir(data_dir, &lock);
    /* Before the token is in memory and before any thread: the spawner is a copy of this process.
     */
    if (result == CLI_OK)
        result = cli_start_spawners(config, data_dir, true, log, &spawners);
    if (result == CLI_OK)
        result = cli_load_token(data_dir, &token);
    if (result == CLI_OK)
        result = cli_open_serving_store(options, config, log, &store);
    if (result == CLI_OK)
        result = serving_keys_start(options, data_dir, store, log, &keys);
    if (result == CLI_OK)
        result = serving_audit_start(config, data_dir, &keys.sealing, log, &audit);
    CLEANUP(mem_freep)
    char *definitions = result == CLI_OK ? cli_path(data_dir, "definitions") : NULL;
    if (result == CLI_OK) {
        struct gateway_options gateway_options = {
            .config = config,
            .log = log,
            .token = token,
            .api_token = options->api_token,
            .isolated = spawners.isolated,
            .plain = spawners.plain,
            .version = SLICE(CARDEA_VERSION),
            .definitions_path = definitions,
            .audit = serving_audit_trail(audit),
            .cluster_key = keys.cluster,
        };
        int error = gateway_new(&gateway_options, &gateway);
        if (error != 0) {
            fprintf(stderr, "cardea: cannot set the gateway up: %s\n", strerror(-error));
            result = CLI_FAILED;
        }
    }
    if (result == CLI_OK) {
        struct serving serving = {.config = config,
                                  .gateway = gateway,
                                  .log = log,
                                  .options = options,
                                  .store = store,
                                  .audit = serving_audit_trail(audit),
                                  .finder = serving_audit_finder(audit),
                                  .keys = &keys};
        result = run(&serving, data_dir, token);
    }
    serving_audit_free(audit); /* who waits for it is told by the gateway's loops */
    store_close(store);
    gateway_free(gateway);
    serving_keys_end(&keys);
    cli_stop_spawners(&spawners);
    return result;
}

int cli_serve(const struct cli_options *asked) {
    CLEANUP(config_unrefp) struct config *config = NULL;
    struct cli_options named = *asked;
    const struct cli_options *options = &named;
    if (named.stdio) { /* what it would listen on by the file is nobody's business */
        named.listen_address = "127.0.0.1:8000";
        named.admin_listen = named.admin_listen != NULL ? named.admin_listen : "off";
        if (!cli_stdio_take())
            return CLI_FAILED;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* what a limit of file sizes refuses is a failed write */
    raise_descriptor_limit();
    int result = cli_load_serving_config(options, &config);
    if (result == CLI_OK && options->stdio) /* what is said of listening concerns nobody here */
        cli_override(config, options->listen_address, options->admin_listen);
    else if (result == CLI_OK)
        result = cli_check_start(options, config);
    if (result != CLI_OK)
        return result;
    struct log *log = cli_new_log(options);
    result = serve(config, options, log);
    log_free(log);
    return result;
}
