/*
 * `cardea connect`: the MCP server of a client that knows only stdio, which speaks for it to a
 * gateway, or to any other MCP server over HTTP.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "admin/control.h"
#include "base/limits.h"
#include "base/mem.h"
#include "bridge/bridge.h"
#include "cli.h"
#include "http/message.h"
#include "http/uri.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/tls.h"
#include "json/reader.h"
#include "stdio_client.h"

/* Where to, and with what. */
struct connecting {
    struct buf url, fields;
    bool has_secret; /* among the fields */
    char *ca_file;   /* owned; NULL: the system's authorities alone */
};

static void connecting_deinit(struct connecting *connecting) {
    buf_deinit(&connecting->url);
    secret_buf_deinit(&connecting->fields);
    mem_free(connecting->ca_file);
}

/* What is wrong is said on stderr. */
static int complain(const char *what, const char *which) {
    fprintf(stderr, "cardea: %s%s%s\n", what, which[0] != '\0' ? ": " : "", which);
    return CLI_FAILED;
}

/* --- with what --- */

static int add_token(struct connecting *connecting, struct slice token) {
    struct buf value CLEANUP(secret_buf_deinit) = BUF_INIT(KIB(64));
    while (token.len != 0 && (token.ptr[token.len - 1] == '\n' || token.ptr[token.len - 1] == '\r'))
        token.len--;
    token = slice_trim(token);
    buf_append_cstr(&value, "Bearer ");
    if (token.len == 0 || buf_append(&value, token) != 0 ||
        http_write_field(&connecting->fields, SLICE("Authorization"), buf_slice(&value)) != 0)
        return complain("the token is empty, too long, or holds what no request can carry", "");
    connecting->has_secret = true;
    return CLI_OK;
}

static int add_token_of_file(struct connecting *connecting, const char *path) {
    struct buf token CLEANUP(secret_buf_deinit) = BUF_INIT(KIB(32));
    int error =
        buf_reserve(&token, KIB(32)) != NULL ? io_file_read_regular(path, &token, NULL) : -ENOMEM;
    if (error == 0)
        return add_token(connecting, buf_slice(&token));
    fprintf(stderr, "cardea: cannot read the token in %s: %s\n", path, strerror(-error));
    return CLI_FAILED;
}

static int add_header(struct connecting *connecting, const char *text) {
    static const char *const secrets[] = {"authorization", "proxy-authorization", "cookie"};
    struct slice name, value;
    if (!slice_cut(slice_from_cstr(text), ':', &name, &value))
        return complain("--header takes \"Name: value\", not", text);
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (slice_eq_nocase(name, slice_from_cstr(secrets[i])))
            return complain("everybody on this machine can read command lines: give the token in "
                            "CARDEA_TOKEN or with --token-file FILE, not with --header",
                            "");
    }
    if (http_write_field(&connecting->fields, name, slice_trim(value)) != 0)
        return complain("this cannot be a header field", text);
    return CLI_OK;
}

static int add_fields(struct connecting *connecting, const struct cli_options *options) {
    CLEANUP(secret_freep) struct secret *token = NULL;
    int result = cli_take_token(&token);
    for (int i = 0; i < options->headers.n && result == CLI_OK; i++)
        result = add_header(connecting, options->headers.items[i]);
    if (result == CLI_OK && options->token_file != NULL)
        return add_token_of_file(connecting, options->token_file);
    if (result == CLI_OK && token != NULL)
        return add_token(connecting, secret_reveal(token));
    return result;
}

/* --- where to --- */

static int read_where(struct slice answer, struct buf *url) {
    struct json_reader *reader CLEANUP(json_reader_freep) = NULL;
    if (json_reader_new(&reader) != 0 ||
        json_read(reader, answer, &json_want_root, NULL, NULL) != 0)
        return complain("the gateway that runs here gave no answer that can be read", "");
    const struct json_node *found =
        json_member_typed(reader, json_root(reader), SLICE("url"), JSON_STRING);
    if (found != NULL && json_string_append(url, found) == 0)
        return CLI_OK;
    return complain("the gateway that runs here cannot be reached by others", "");
}

/* The gateway that runs in the data directory, its local token, its own authority. */
static int find_local(struct connecting *connecting, const struct cli_options *options) {
    CLEANUP(mem_freep) char *data_dir = NULL;
    CLEANUP(secret_freep) struct secret *token = NULL;
    struct buf answer CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    if (cli_open_data_dir(options, &data_dir) != CLI_OK)
        return CLI_FAILED;
    CLEANUP(mem_freep) char *socket = cli_path(data_dir, "control.sock");
    int error = control_request(socket, SLICE("{\"command\":\"where\"}"), &answer);
    if (error != 0) {
        fprintf(stderr,
                "cardea: no gateway runs in %s (%s): start one with cardea serve, or say where it "
                "is: cardea connect URL, or --data-dir DIR\n",
                data_dir, strerror(-error));
        return CLI_FAILED;
    }
    if (read_where(buf_slice(&answer), &connecting->url) != CLI_OK)
        return CLI_FAILED;
    CLEANUP(mem_freep) char *authority = cli_path(data_dir, "tls/ca.pem");
    if (options->ca_file == NULL && access(authority, R_OK) == 0)
        connecting->ca_file = mem_xstrdup(authority);
    if (connecting->has_secret)
        return CLI_OK;
    int result = cli_load_token(data_dir, &token);
    return result == CLI_OK ? add_token(connecting, secret_reveal(token)) : result;
}

static bool is_here(const struct uri *uri) {
    return slice_eq_nocase(uri->host, SLICE("localhost")) ||
           slice_ends_with(uri->host, SLICE(".localhost")) ||
           (uri->host_kind == URI_HOST_IPV4 && slice_starts_with(uri->host, SLICE("127."))) ||
           (uri->host_kind == URI_HOST_IPV6 && slice_eq(uri->host, SLICE("::1")));
}

static int check_url(const struct connecting *connecting, bool allow_http) {
    struct uri uri;
    const char *reason = "";
    if (uri_parse(buf_slice(&connecting->url), &uri, &reason) != 0)
        return complain("the URL cannot be used", reason);
    if (slice_eq_nocase(uri.scheme, SLICE("http")) && connecting->has_secret && !is_here(&uri) &&
        !allow_http)
        return complain("http shows the token to everybody on the way: use https, or --allow-http "
                        "where nobody else is on that way",
                        "");
    return CLI_OK;
}

static int prepare(struct connecting *connecting, const struct cli_options *options) {
    int result = add_fields(connecting, options);
    if (result == CLI_OK && options->ca_file != NULL)
        connecting->ca_file = mem_xstrdup(options->ca_file);
    if (result == CLI_OK && options->n_arguments == 0)
        result = find_local(connecting, options);
    else if (result == CLI_OK && buf_append_cstr(&connecting->url, options->arguments[0]) != 0)
        result = complain("the URL is too long", "");
    return result == CLI_OK ? check_url(connecting, options->allow_http) : result;
}

/* --- while it runs --- */

struct running {
    struct io_loop *loop;
    struct bridge *bridge;
    int error;
};

static void on_end(void *context, int error) {
    struct running *running = context;
    running->error = error;
    io_loop_stop(running->loop);
}

static void on_signal(void *context, int number) {
    struct running *running = context;
    (void)number;
    bridge_stop(running->bridge);
}

static int start(const struct connecting *connecting, struct log *log, struct running *running,
                 struct cli_stdio **ret_stdio) {
    struct io_tls *tls = NULL;
    struct io_tls_client_options tls_options = {
        .use_system_roots = true, .ca_file = connecting->ca_file, .is_lazy = true};
    struct bridge_options options = {.loop = running->loop,
                                     .log = log,
                                     .url = buf_slice(&connecting->url),
                                     .fields = buf_slice(&connecting->fields),
                                     .on_end = on_end,
                                     .context = running};
    const char *reason = "";
    int error = io_tls_client_new(&tls_options, &tls);
    if (error == 0)
        error = cli_stdio_open(&options.in_fd, &options.out_fd, ret_stdio);
    options.tls = tls;
    if (error == 0)
        error = bridge_new(&options, &running->bridge, &reason);
    io_tls_unref(tls);
    if (error == 0)
        return CLI_OK;
    return complain("cannot connect", error < 0 ? strerror(-error) : reason);
}

static int run(const struct connecting *connecting, struct log *log) {
    static const int signals[] = {SIGTERM, SIGINT};
    struct io_signal *watches[ARRAY_LEN(signals)] = {NULL};
    struct running running = {.loop = NULL};
    struct cli_stdio *stdio = NULL;
    if (io_loop_new(&running.loop) != 0)
        return complain("cannot start", "");
    int result = start(connecting, log, &running, &stdio);
    for (size_t i = 0; i < ARRAY_LEN(signals) && result == CLI_OK; i++) {
        if (io_signal_new(running.loop, signals[i], on_signal, &running, &watches[i]) != 0)
            result = complain("signals cannot be watched", "");
    }
    if (result == CLI_OK)
        io_loop_run(running.loop);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        io_signal_free(watches[i]);
    bridge_free(running.bridge);
    io_loop_free(running.loop);
    cli_stdio_free(stdio);
    return result == CLI_OK && running.error != 0 ? CLI_FAILED : result;
}

int cli_connect(const struct cli_options *options) {
    struct connecting connecting CLEANUP(connecting_deinit) = {.ca_file = NULL};
    struct cli_options quiet = *options;
    signal(SIGPIPE, SIG_IGN);
    buf_init(&connecting.url, LIMIT_URI);
    buf_init(&connecting.fields, LIMIT_HTTP_HEADER_BLOCK);
    if (!cli_stdio_take() || prepare(&connecting, options) != CLI_OK)
        return CLI_FAILED;
    if (quiet.log_level == LOG_INFO)
        quiet.log_level = LOG_WARN; /* clients show to their users what is on stderr */
    struct log *log = cli_new_log(&quiet);
    int result = run(&connecting, log);
    log_free(log);
    return result;
}
