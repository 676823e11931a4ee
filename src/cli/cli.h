/* What the commands share: parsed options, the data directory, the spawners. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/secret.h"
#include "config/config.h"
#include "io/spawner.h"
#include "io/tls.h"

/* Exit codes; 78 is EX_CONFIG of sysexits. */
enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CONFIG = 78 };

/* Of `cardea audit`, as they were typed; NULL: not given. */
struct cli_audit_options {
    const char *user, *operation, *upstream, *status, *decision, *event, *address;
    const char *since, *until, *text;
    const char *lines, *limit, *cursor, *format, *output, *dir, *key, *expect;
    bool follow, oldest_first;
};

struct cli_options {
    const char *config_path; /* NULL: the default files */
    const char *listen_address;
    const char *data_dir;
    enum log_level log_level;
    bool has_log_style;
    enum log_style log_style;
    bool json;
    const char *out_path;         /* --out; NULL: none */
    bool write;                   /* --write */
    const char *minutes, *reason; /* --minutes, --reason; NULL: not given */
    const char *user, *kind;      /* --as, --kind; NULL: not given */
    const char *groups[16];       /* --group, each */
    int n_groups;
    struct secret *api_token; /* MCP_API_TOKEN; NULL: not set */
    struct cli_audit_options audit;
    const char *arguments[4]; /* of the command */
    int n_arguments;
};

typedef int cli_command(const struct cli_options *options);
cli_command cli_serve, cli_check, cli_tools, cli_call, cli_status, cli_reload;
cli_command cli_classify;                               /* classify.c */
cli_command cli_edit;                                   /* edit.c */
cli_command cli_explain;                                /* explain.c */
cli_command cli_token_new;                              /* token.c */
cli_command cli_cert_show, cli_cert_renew, cli_cert_ca; /* certs.c */
cli_command cli_audit_tail, cli_audit_head;             /* audit.c */
cli_command cli_audit_list, cli_audit_reindex;          /* audit_list.c */
cli_command cli_audit_export;                           /* audit_export.c */
cli_command cli_audit_verify;                           /* audit_verify.c */

/*
 * Reads the configuration that the options name, and says on stderr what is wrong with it. CLI_OK,
 * CLI_CONFIG or CLI_FAILED. Without a named file cardea.toml and then nexus.toml are looked for.
 */
MUST_CHECK int cli_load_config(const struct cli_options *options, struct config **ret_config);

/*
 * Whether the gateway may listen with this configuration and what the command line and the
 * environment add to it: config->listen_address is what it is then. What is wrong is said on
 * stderr. CLI_OK, CLI_CONFIG.
 */
MUST_CHECK int cli_check_start(const struct cli_options *options, struct config *config);

struct log *cli_new_log(const struct cli_options *options);

/* Absolute, without symbolic links; made when it is missing. Errors are said on stderr. */
MUST_CHECK int cli_open_data_dir(const struct cli_options *options, char **ret_path);
/* DIR/NAME in memory of its own. */
char *cli_path(const char *directory, const char *name);
/* Reads the token, or makes one at the first start. */
MUST_CHECK int cli_load_token(const char *data_dir, struct secret **ret_token);
/* Appends "cardea_" and 256 bits of chance as base64url. */
int cli_make_token(struct buf *out);
/*
 * MCP_API_TOKEN out of the environment, into options->api_token: the value in the process's
 * environment block is overwritten, so that /proc/PID/environ and what is started later do not show
 * it, and the variable is unset. Before everything else; {{ env.MCP_API_TOKEN }} is not set then.
 */
MUST_CHECK int cli_take_environment(struct cli_options *options);
/* Says on stderr what is wrong with it. CLI_OK, also for one that could be better; CLI_CONFIG. */
MUST_CHECK int cli_check_api_token(const struct cli_options *options);

struct cli_spawners {
    struct spawner *isolated, *plain;
};

/* Before any thread. Those that the configuration needs; and `serves`: the isolated one always,
 * because a reload may bring the first server with a command. */
MUST_CHECK int cli_start_spawners(const struct config *config, const char *data_dir, bool serves,
                                  struct log *log, struct cli_spawners *ret_spawners);
void cli_stop_spawners(struct cli_spawners *spawners);

/* Upstreams without a listener, for one question. */
struct cli_session {
    const struct cli_options *options;
    const struct config *config;
    struct gateway *gateway;
    bool is_asked;
    int result; /* of the command, once it is known */
    /* Once all upstreams are up or have failed; gateway_stop() has to be called, then or later. */
    int (*ask)(struct cli_session *session);
};
MUST_CHECK int cli_with_upstreams(const struct cli_options *options,
                                  int (*ask)(struct cli_session *session));

/* Onto standard output, made safe for a terminal and cut at `max` bytes. */
void cli_print_escaped(struct slice text, size_t max);
/* What is wrong, on stderr, a line each. */
void cli_print_problems(const struct config_problems *problems);

struct gateway;
/* Makes its upstreams, with TLS when one of them is reached by https. */
MUST_CHECK int cli_make_upstreams(struct gateway *gateway, const struct config *config);
