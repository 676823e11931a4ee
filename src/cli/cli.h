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
#include "store/store.h"

/* Exit codes; 78 is EX_CONFIG of sysexits. */
enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CONFIG = 78 };

/* Of `cardea audit`, as they were typed; NULL: not given. */
struct cli_audit_options {
    const char *user, *operation, *upstream, *status, *decision, *event, *address;
    const char *since, *until, *text;
    const char *lines, *limit, *cursor, *format, *output, *dir, *key, *expect, *forget;
    bool follow, oldest_first;
};

/* An option that may stand there several times. */
struct cli_list {
    const char *items[64];
    int n;
};

/* Of `cardea user`, `role` and `token`. */
struct cli_people_options {
    const char *name, *display_name, *email, *description, *days;
    bool is_admin, no_password, no_roles, no_groups, temporary, final, keep_tokens;
    struct cli_list roles, permissions, operations;
};

struct cli_options {
    const char *config_path;                   /* NULL: the default files */
    const char *listen_address, *admin_listen; /* "off": no console */
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
    struct secret *api_token;      /* MCP_API_TOKEN; NULL: not set */
    struct secret *encryption_key; /* CARDEA_ENCRYPTION_KEY; NULL: not set */
    bool force;                    /* --force */
    const char *to;                /* --to; NULL: not given */
    struct cli_audit_options audit;
    struct cli_people_options people;
    const char *command;              /* its words: "user add" */
    const char *only;                 /* cli_with_upstreams(): this upstream alone; NULL: all */
    struct cli_list headers;          /* --header, each */
    const char *token_file, *ca_file; /* --token-file, --ca; NULL: not given */
    bool stdio, allow_http;           /* --stdio, --allow-http */
    const char *arguments[4];         /* of the command */
    int n_arguments;
};

typedef int cli_command(const struct cli_options *options);
cli_command cli_serve, cli_check, cli_config, cli_tools, cli_call, cli_status, cli_reload;
cli_command cli_classify;                                                           /* classify.c */
cli_command cli_connect;                                                            /* connect.c */
cli_command cli_edit;                                                               /* edit.c */
cli_command cli_explain;                                                            /* explain.c */
cli_command cli_token_new;                                                          /* token.c */
cli_command cli_cert_show, cli_cert_renew, cli_cert_ca;                             /* certs.c */
cli_command cli_key_list, cli_key_new, cli_key_rotate;                              /* key.c */
cli_command cli_secret_set, cli_secret_list, cli_secret_delete;                     /* secret.c */
cli_command cli_store_migrate, cli_store_backup, cli_store_restore, cli_store_copy; /* store.c */
cli_command cli_user_add, cli_user_list, cli_user_show, cli_user_edit;              /* user.c */
cli_command cli_user_password, cli_user_disable, cli_user_enable, cli_user_delete;
cli_command cli_role_add, cli_role_list, cli_role_show, cli_role_edit, cli_role_delete; /* role.c */
cli_command cli_upstream_list, cli_upstream_show, cli_upstream_add,
    cli_upstream_edit; /* upstream.c */
cli_command cli_upstream_disable, cli_upstream_enable, cli_upstream_delete, cli_upstream_test;
cli_command cli_token_add, cli_token_list, cli_token_revoke; /* user_token.c */
cli_command cli_session_list, cli_session_end;               /* session.c */
cli_command cli_audit_tail, cli_audit_head;                  /* audit.c */
cli_command cli_audit_list, cli_audit_reindex;               /* audit_list.c */
cli_command cli_audit_export;                                /* audit_export.c */
cli_command cli_audit_verify;                                /* audit_verify.c */

/*
 * Reads the configuration that the options name, and says on stderr what is wrong with it. CLI_OK,
 * CLI_CONFIG or CLI_FAILED. Without a named file cardea.toml and then nexus.toml are looked for.
 */
MUST_CHECK int cli_load_config(const struct cli_options *options, struct config **ret_config);

/* The file that is meant by the options; it need not be there. */
const char *cli_name_config(const struct cli_options *options);

/* The same to serve by it (the store is brought up to date where it has to be asked for secrets),
 * or to say what is wrong with it, for which nothing is made or changed. */
MUST_CHECK int cli_load_serving_config(const struct cli_options *options,
                                       struct config **ret_config);
MUST_CHECK int cli_load_checked_config(const struct cli_options *options,
                                       struct config **ret_config);
/* Of [store] alone, or defaults where there is no file: for commands that work on the store. */
MUST_CHECK int cli_load_store_config(const struct cli_options *options, struct config **ret_config);

/*
 * Whether the gateway may listen with this configuration and what the command line and the
 * environment add to it: config->listen_address is what it is then. What is wrong is said on
 * stderr. CLI_OK, CLI_CONFIG.
 */
MUST_CHECK int cli_check_start(const struct cli_options *options, struct config *config);

/* What the command line says in place of the file; NULL: nothing. The texts outlive `config`. */
void cli_override(struct config *config, const char *listen_address, const char *admin_listen);

struct log *cli_new_log(const struct cli_options *options);

/* As it was given, or the default; it need not be there. NULL: there is no HOME. */
char *cli_name_data_dir(const struct cli_options *options);
/* Absolute, without symbolic links; made when it is missing. Errors are said on stderr. */
MUST_CHECK int cli_open_data_dir(const struct cli_options *options, char **ret_path);
/* DIR/NAME in memory of its own. */
char *cli_path(const char *directory, const char *name);
/* Reads the token, or makes one at the first start. */
MUST_CHECK int cli_load_token(const char *data_dir, struct secret **ret_token);
/* Appends "cardea_" and 256 bits of chance as base64url. */
int cli_make_token(struct buf *out);
/*
 * MCP_API_TOKEN and CARDEA_ENCRYPTION_KEY out of the environment, into the options: the values in
 * the process's environment block are overwritten, so that /proc/PID/environ and what is started
 * later do not show them, and the variables are unset. Before everything else; {{ env.MCP_API_TOKEN
 * }} is not set then.
 */
MUST_CHECK int cli_take_environment(struct cli_options *options);
/* CARDEA_TOKEN, likewise; NULL: it is not set. CLI_OK, CLI_FAILED. */
MUST_CHECK int cli_take_token(struct secret **ret_token);
/* Says on stderr what is wrong with it. CLI_OK, also for one that could be better; CLI_CONFIG. */
MUST_CHECK int cli_check_api_token(const struct cli_options *options);

/* opening.c. Where the configuration's store is; *ret_path is what ret_store->path points to.
 * CLI_OK, CLI_FAILED. */
MUST_CHECK int cli_store_options(const struct cli_options *options, const struct config *config,
                                 char **ret_path, struct store_options *ret_store);
/* Says on stderr what is wrong: CLI_FAILED. */
int cli_store_failed(const char *what, const struct buf *reason);
/*
 * Opens it for a command: made where there is none yet; an older one is refused, because a gateway
 * may be at work with it. What is wrong is said on stderr. CLI_OK, CLI_FAILED.
 */
MUST_CHECK int cli_open_store(const struct cli_options *options, const struct config *config,
                              struct store **ret_store);
/* For the gateway itself: an older one is brought up to date. */
MUST_CHECK int cli_open_serving_store(const struct cli_options *options,
                                      const struct config *config, struct log *log,
                                      struct store **ret_store);

/* The vault of the data directory, of the environment, or of systemd. `make`: a key file, where
 * there is no key. What is wrong is said on stderr, or in `reason`: CLI_OK, CLI_FAILED; as
 * vault_open(). */
struct vault;
MUST_CHECK int cli_open_vault(const struct cli_options *options, bool make,
                              struct vault **ret_vault);
MUST_CHECK int cli_try_vault(const struct cli_options *options, bool make, struct vault **ret_vault,
                             struct buf *reason);

/* The same for what is written to `store`: a key file is made where there is no key, unless there
 * is something in the store, or a file in the data directory, that was written under one.
 * `forgets`: the cluster's key does not count. */
MUST_CHECK int cli_open_writing_vault(const struct cli_options *options, struct store *store,
                                      bool forgets, struct vault **ret_vault);

/* telling.c. In the transaction of a change: what a gateway records of it. `event`: "admin-user";
 * `object`: a name or an id, never a value; `reason` may be empty. */
struct store_tx;
MUST_CHECK int cli_note(struct store_tx *tx, const struct cli_options *options, const char *event,
                        struct slice object, struct slice reason);
/* The store was changed: a gateway that runs in this data directory goes by that when
 * this returns. */
void cli_tell_gateway(const struct cli_options *options);

/* ask.c. From standard input: of a terminal without echo, twice; else all of it, without one line
 * end at its end. At most `max` bytes. What is wrong is said on stderr. CLI_OK, CLI_FAILED. */
MUST_CHECK int cli_read_secret(const char *what, size_t max, struct secret **ret_secret);

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
    uint64_t began_ms; /* monotonic */
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
