/* What commands need before they can do their work: configuration, log, data directory, token,
 * spawners. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "cli.h"
#include "gateway/gateway.h"
#include "io/file.h"
#include "secrets.h"

struct log *cli_new_log(const struct cli_options *options) {
    enum log_style style =
        isatty(STDERR_FILENO) && getenv("NO_COLOR") == NULL ? LOG_STYLE_COLOR : LOG_STYLE_TEXT;
    return log_new(STDERR_FILENO, options->log_level,
                   options->has_log_style ? options->log_style : style);
}

void cli_print_problems(const struct config_problems *problems) {
    for (size_t i = 0; i < problems->n; i++) {
        struct buf line = BUF_INIT(KIB(16));
        if (config_problem_format(&line, &problems->items[i]) == 0)
            fprintf(stderr, "%.*s", SLICE_ARGS(buf_slice(&line)));
        buf_deinit(&line);
    }
}

const char *cli_name_config(const struct cli_options *options) {
    if (options->config_path != NULL)
        return options->config_path;
    bool is_nexus = access("cardea.toml", F_OK) != 0 && access("nexus.toml", F_OK) == 0;
    return is_nexus ? "nexus.toml" : "cardea.toml";
}

static int load_config(const struct cli_options *options, enum cli_purpose purpose,
                       struct config **ret_config) {
    CLEANUP(cli_secrets_freep) struct cli_secrets *secrets = cli_secrets_new(options, purpose);
    struct config_resolvers resolvers = cli_secrets_resolvers(secrets);
    const char *path = cli_name_config(options);
    struct config_problems problems;
    config_problems_init(&problems);
    int error = config_load_file_with(path, &resolvers, &problems, ret_config);
    cli_print_problems(&problems);
    if (error != 0 && options->config_path == NULL && access(path, F_OK) != 0)
        fprintf(stderr,
                "cardea: name a configuration with --config FILE, or write cardea.toml:\n\n"
                "    [mcp.servers.everything]\n"
                "    cmd = [\"npx\", \"-y\", \"@modelcontextprotocol/server-everything\"]\n\n");
    config_problems_deinit(&problems);
    return error == 0 ? CLI_OK : CLI_CONFIG;
}

int cli_load_config(const struct cli_options *options, struct config **ret_config) {
    return load_config(options, CLI_TO_USE, ret_config);
}

int cli_load_serving_config(const struct cli_options *options, struct config **ret_config) {
    return load_config(options, CLI_TO_SERVE, ret_config);
}

int cli_load_checked_config(const struct cli_options *options, struct config **ret_config) {
    return load_config(options, CLI_TO_CHECK, ret_config);
}

int cli_load_store_config(const struct cli_options *options, struct config **ret_config) {
    const char *path = cli_name_config(options);
    struct config_resolvers resolvers = {.secret_fn = NULL};
    struct config_problems problems;
    if (options->config_path == NULL && access(path, F_OK) != 0)
        return config_load_nothing(ret_config) == 0 ? CLI_OK : CLI_FAILED;
    config_problems_init(&problems);
    int error = config_load_store(path, &resolvers, &problems, ret_config);
    cli_print_problems(&problems);
    config_problems_deinit(&problems);
    return error == 0 ? CLI_OK : CLI_CONFIG;
}

void cli_override(struct config *config, const char *listen_address, const char *admin_listen) {
    if (listen_address != NULL) {
        config->listen_address = slice_from_cstr(listen_address);
        config->has_given_listen = true;
    }
    if (admin_listen != NULL) {
        config->has_given_admin = true;
        config->admin.enabled = strcmp(admin_listen, "off") != 0;
        config->admin.listen = slice_from_cstr(admin_listen);
    }
}

int cli_check_start(const struct cli_options *options, struct config *config) {
    struct config_problems problems;
    cli_override(config, options->listen_address, options->admin_listen);
    int result = cli_check_api_token(options);
    config_problems_init(&problems);
    int error = config_check_start(config, options->api_token != NULL, &problems);
    cli_print_problems(&problems);
    config_problems_deinit(&problems);
    return error == 0 ? result : CLI_CONFIG;
}

static char *default_data_dir(void) {
    const char *state = getenv("STATE_DIRECTORY");
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (state != NULL && state[0] == '/')
        return mem_xstrdup(state);
    if (xdg != NULL && xdg[0] == '/')
        return cli_path(xdg, "cardea");
    if (home != NULL && home[0] == '/')
        return cli_path(home, ".local/state/cardea");
    return NULL;
}

char *cli_path(const char *directory, const char *name) {
    size_t size = strlen(directory) + 1 + strlen(name) + 1;
    char *path = mem_xalloc(size);
    snprintf(path, size, "%s/%s", directory, name);
    return path;
}

/* Whoever else can write there could put a token or a key of their own into it. A folder that is
 * shared on purpose (/tmp) is not changed. */
static int close_to_others(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0)
        return -errno;
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) == 0)
        return 0;
    if (info.st_uid != geteuid() || (info.st_mode & S_ISVTX) != 0)
        return -EPERM;
    return chmod(path, info.st_mode & 0755) == 0 ? 0 : -errno;
}

char *cli_name_data_dir(const struct cli_options *options) {
    return options->data_dir != NULL ? mem_xstrdup(options->data_dir) : default_data_dir();
}

int cli_open_data_dir(const struct cli_options *options, char **ret_path) {
    CLEANUP(mem_freep) char *wanted = cli_name_data_dir(options);
    if (wanted == NULL) {
        fprintf(stderr,
                "cardea: there is no HOME to keep state in; name a place with --data-dir DIR\n");
        return CLI_FAILED;
    }
    int error = io_directory_make(wanted);
    char *real = error == 0 ? realpath(wanted, NULL) : NULL;
    if (real == NULL) {
        fprintf(stderr, "cardea: cannot use the data directory %s: %s\n", wanted,
                strerror(error != 0 ? -error : errno));
        return CLI_FAILED;
    }
    error = close_to_others(real);
    if (error != 0) {
        fprintf(stderr,
                "cardea: other accounts can write to %s, and so decide who is let in, and the mode "
                "cannot be changed (%s); name a folder below it with --data-dir %s/cardea\n",
                real, strerror(-error), real);
        mem_free(real);
        return CLI_FAILED;
    }
    *ret_path = real;
    return CLI_OK;
}

static int make_token(const char *path) {
    struct buf text = BUF_INIT(128);
    int error = cli_make_token(&text);
    if (error == 0)
        error = buf_append_byte(&text, '\n');
    if (error == 0)
        error = io_file_create_private(path, buf_slice(&text));
    if (text.data != NULL)
        secret_wipe(text.data, text.cap);
    buf_deinit(&text);
    return error;
}

int cli_load_token(const char *data_dir, struct secret **ret_token) {
    enum { SHORTEST = 32, LONGEST = 4096 };
    CLEANUP(mem_freep) char *path = cli_path(data_dir, "token");
    struct buf text = BUF_INIT(LONGEST);
    int error = access(path, F_OK) != 0 ? make_token(path) : 0;
    if (error == 0)
        error = io_file_read(path, &text);
    struct slice token = buf_slice(&text);
    while (token.len != 0 && (token.ptr[token.len - 1] == '\n' || token.ptr[token.len - 1] == '\r'))
        token.len--;
    if (error != 0)
        fprintf(stderr, "cardea: cannot read or make %s: %s\n", path, strerror(-error));
    else if (token.len < SHORTEST) {
        fprintf(stderr,
                "cardea: %s holds less than 32 characters; remove it and a new one is made\n",
                path);
        error = -EINVAL;
    } else {
        error = secret_new(token, ret_token);
    }
    if (text.data != NULL)
        secret_wipe(text.data, text.cap);
    buf_deinit(&text);
    return error == 0 ? CLI_OK : CLI_FAILED;
}

static bool any_runs_as_root(const struct config *config) {
    for (size_t i = 0; geteuid() == 0 && i < config->n_servers; i++) {
        if (config->servers[i].n_cmd != 0 && config->servers[i].user.len == 0)
            return true;
    }
    return false;
}

static bool any_server(const struct config *config, enum config_isolation isolation) {
    for (size_t i = 0; i < config->n_servers; i++) {
        if (config->servers[i].n_cmd != 0 && config->servers[i].isolation == isolation)
            return true;
    }
    return false;
}

/* What is weaker than the best is worth a word at the usual level. */
static void log_isolation(const struct spawner *spawner, struct log *log) {
    int error = 0;
    const char *name = spawner_isolation_name(spawner_isolation(spawner));
    const char *step = spawner_isolation_refused(spawner, &error);
    if (step == NULL)
        log_write(log, LOG_DEBUG, "gateway", "children are isolated", LOG_CSTR("by", name));
    else
        log_write(log, LOG_INFO, "gateway", "children are isolated; better was refused",
                  LOG_CSTR("by", name), LOG_CSTR("refused", step),
                  LOG_CSTR("reason", strerror(error)));
}

int cli_start_spawners(const struct config *config, const char *data_dir, bool serves,
                       struct log *log, struct cli_spawners *ret_spawners) {
    struct cli_spawners spawners = {0};
    int error = 0;
    if (any_runs_as_root(config))
        log_write(
            log, LOG_WARN, "gateway",
            "the gateway runs as root, and so do servers without `user` in their table; name an "
            "account there, or run the gateway as one");
    bool is_needed = any_server(config, CONFIG_ISOLATION_AUTO);
    if (is_needed || serves) {
        struct spawner_options options = {
            .hide_path = data_dir,
            .allow_namespaces = true,
            .allow_landlock = true,
        };
        error = spawner_start(&options, &spawners.isolated);
        if (error == 0 && spawner_isolation(spawners.isolated) == SPAWNER_ISOLATION_NONE) {
            log_write(
                log, is_needed ? LOG_ERROR : LOG_DEBUG, "gateway",
                "this kernel allows no isolation of children (namespaces, Landlock): upstreams "
                "with a cmd do not start; isolation = \"none\" in their table opens that");
            spawners.isolated = spawner_free(spawners.isolated);
        }
        if (spawners.isolated != NULL && is_needed)
            log_isolation(spawners.isolated, log);
    }
    if (error == 0 && any_server(config, CONFIG_ISOLATION_NONE)) {
        struct spawner_options options = {0};
        error = spawner_start(&options, &spawners.plain);
    }
    if (error != 0) {
        fprintf(stderr, "cardea: cannot start the spawner: %s\n", strerror(-error));
        cli_stop_spawners(&spawners);
        return CLI_FAILED;
    }
    *ret_spawners = spawners;
    return CLI_OK;
}

void cli_stop_spawners(struct cli_spawners *spawners) {
    spawners->plain = spawner_free(spawners->plain);
    spawners->isolated = spawner_free(spawners->isolated);
}

static bool any_https(const struct config *config) {
    for (size_t i = 0; i < config->n_servers; i++) {
        if (slice_starts_with_nocase(config->servers[i].url, SLICE("https:")))
            return true;
    }
    return false;
}

int cli_make_upstreams(struct gateway *gateway, const struct config *config) {
    struct io_tls *tls = NULL;
    /* Always: a reload, or an issuer, may need it one day. */
    struct io_tls_client_options options = {.use_system_roots = true,
                                            .is_lazy = !any_https(config)};
    int error = io_tls_client_new(&options, &tls);
    if (error == 0)
        error = gateway_make_upstreams(gateway, tls);
    io_tls_unref(tls);
    if (error != 0)
        fprintf(stderr, "cardea: cannot set the upstreams up: %s\n", strerror(-error));
    return error == 0 ? CLI_OK : CLI_FAILED;
}
