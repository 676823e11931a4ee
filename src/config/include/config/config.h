/*
 * The configuration: a TOML file into a typed, checked, immutable struct. Each key is a row of the
 * option table (options_*.c) with type, unit, default, bounds and doc; loader, error messages and
 * docs/CONFIGURATION.md come from the same rows. Everything that is wrong is reported at once, with
 * file, line and column.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/slice.h"

/* All strings are NUL-terminated slices owned by the struct config; empty lists have n == 0. */

enum config_stderr {
    CONFIG_STDERR_NULL,
    CONFIG_STDERR_INHERIT,
    CONFIG_STDERR_PIPE,
    CONFIG_STDERR_FILE
};
enum config_share { CONFIG_SHARE_PRINCIPAL, CONFIG_SHARE_SESSION, CONFIG_SHARE_ALL };
enum config_isolation { CONFIG_ISOLATION_AUTO, CONFIG_ISOLATION_NONE };

struct config_pair {
    struct slice key, value;
};

/* What is sent to HTTP upstreams beside what the protocol needs. Global rules go first, each
 * server's own then; a later rule sees what the earlier ones did. */
enum config_header_rule_kind {
    CONFIG_HEADER_INSERT,  /* name, value: takes the place of what was there */
    CONFIG_HEADER_REMOVE,  /* name */
    CONFIG_HEADER_FORWARD, /* the caller's `name`, else value (may be empty), as `rename` */
    CONFIG_HEADER_RENAME_DUPLICATE, /* the caller's `name`, else value, as `name` and as `rename` */
};

struct config_header_rule {
    enum config_header_rule_kind kind;
    struct slice name;   /* a token; never one that belongs to HTTP or MCP itself */
    struct slice value;  /* INSERT; the others: the default, empty when there is none */
    struct slice rename; /* a token; FORWARD: equals name when it is not renamed */
};

enum config_protocol {
    CONFIG_PROTOCOL_AUTO,
    CONFIG_PROTOCOL_STREAMABLE_HTTP,
    CONFIG_PROTOCOL_SSE,
};

/* [server.limits]; defaults and bounds are in base/limits.h. Times in milliseconds. */
struct config_limits {
    uint64_t max_connections, max_connections_per_address;
    uint64_t max_header; /* bytes of a request's start line and fields */
    uint64_t header_timeout_ms, body_timeout_ms, write_timeout_ms, idle_timeout_ms;
    uint64_t max_in_flight; /* calls of one principal that run at once */
    uint64_t max_wait_ms;   /* of a request beyond that, unread or unanswered */
    uint64_t keepalive_ms;  /* between comments on an open stream */
    uint64_t max_json_depth, max_json_keys;
};

/* [server.tls] */
enum config_client_identity { /* which part of a client's certificate names it */
                              CONFIG_IDENTITY_SUBJECT, /* the whole subject as RFC 4514 writes it */
                              CONFIG_IDENTITY_COMMON_NAME,
                              CONFIG_IDENTITY_SAN_DNS, /* the first of its subject alternative names
                                                          that is a DNS name ... */
                              CONFIG_IDENTITY_SAN_EMAIL,
                              CONFIG_IDENTITY_SAN_URI,
};
enum config_tls_version { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };

struct config_tls {
    bool is_set;                   /* there is a table */
    struct slice certificate, key; /* files in PEM; both or none */
    bool is_auto;                  /* from the gateway's own authority in the data directory */
    struct slice *names;           /* of the gateway: DNS names and addresses */
    size_t n_names;
    struct slice client_ca; /* a file in PEM; empty: clients show no certificate */
    enum config_client_identity client_identity;
    bool require_client_certificate;
    enum config_tls_version min_version;
    uint64_t hsts_ms; /* 0: the field is not sent */
};

/* One authorization server: [server.oauth] itself, or one of [[server.oauth.issuers]]. */
enum config_token_type { CONFIG_TOKEN_ANY, CONFIG_TOKEN_AT_JWT };

struct config_issuer {
    struct slice url;    /* of its JWKS; empty: found by discovery */
    struct slice issuer; /* for discovery; empty: none. One of the two, or both, or a secret */
    struct slice expected_issuer;   /* `issuer` when not set; empty: of any issuer */
    struct slice expected_audience; /* empty: the resource's URL */
    uint64_t poll_interval_ms;      /* 0: as the answer's Cache-Control says */
    struct slice secret;      /* for HS256 to HS512; empty: these are refused. Never printed */
    struct slice *algorithms; /* RFC 7518 names; none: all that are known */
    size_t n_algorithms;
    enum config_token_type token_type; /* the `typ` that tokens must have (RFC 9068) */
    uint64_t leeway_ms;                /* of exp, nbf and iat */
};

struct config_oauth {
    bool is_set;
    struct config_issuer *issuers; /* the table's own first, when it names one */
    size_t n_issuers;
    struct slice resource; /* server.oauth.protected_resource.resource: the URL that clients use */
    struct slice *authorization_servers; /* the issuers when not set */
    size_t n_authorization_servers;
    struct slice *scopes; /* that every request needs */
    size_t n_scopes;
    struct config_issuer own; /* of the loader: what the table itself says of one */
    bool has_own;             /* which is the first of the issuers */
};

/* [server.auth.tokens.NAME] */
struct config_token {
    struct slice name;
    uint32_t line;        /* of its table in the file */
    struct slice hash;    /* "sha256:" and 64 hexadecimal digits in lower case */
    struct slice *groups; /* that whoever has it belongs to */
    size_t n_groups;
    bool has_servers;
    struct slice *servers; /* with has_servers: those that it is for, perhaps none */
    size_t n_servers;
    struct slice *scopes; /* that it carries */
    size_t n_scopes;
    struct slice expires; /* as written; empty: never */
    uint64_t expires_ms;  /* since 1970; 0: never */
};

/* [server.client_identification] */
struct config_identification {
    bool enabled;
    struct slice client_claim, client_header; /* one of them */
    struct slice group_claim, group_header;   /* one of them, or none */
    struct slice *group_values;               /* none: any group */
    size_t n_group_values;
};

/* [server.client_ip] */
struct config_client_ip {
    bool x_real_ip;
    bool x_forwarded_for; /* the last address that is no trusted proxy */
    uint64_t hops; /* x_forwarded_for_trusted_hops, from the right, 0-based; UINT64_MAX: not set */
};

/* [server.cors]; "*" stands for all. Lists are empty when not set. */
struct config_cors {
    bool is_set;
    bool allow_credentials, allow_private_network;
    struct slice *allow_origins, *allow_methods, *allow_headers, *expose_headers;
    size_t n_allow_origins, n_allow_methods, n_allow_headers, n_expose_headers;
    uint64_t max_age_ms; /* UINT64_MAX: not set */
};

/* [server.csrf] */
struct config_csrf {
    bool enabled;
    struct slice header_name;
};

/* At most `limit` in any window of `interval`. */
struct config_limit {
    uint64_t limit;
    uint64_t interval_ms; /* 0: not set */
};

struct config_named_limit {
    struct slice name;
    struct config_limit limit;
};

/* [mcp.servers.NAME.rate_limits]: how often the server is called */
struct config_rate_limits {
    struct config_limit all;          /* over everything of the server, by everybody */
    struct config_named_limit *tools; /* one tool, by everybody */
    size_t n_tools;
    struct config_limit user;              /* everything of the server, by each user */
    struct config_named_limit *user_tools; /* one tool, by each user */
    size_t n_user_tools;
    struct config_named_limit *groups; /* in place of `user` for the members of a group */
    size_t n_groups;
};

/* [server.rate_limits.storage] */
enum config_storage_type { CONFIG_STORAGE_MEMORY, CONFIG_STORAGE_REDIS };
enum config_on_failure { CONFIG_FAILURE_LOCAL, CONFIG_FAILURE_DENY };

struct config_storage {
    enum config_storage_type type;
    enum config_on_failure on_failure; /* while Redis cannot be asked */
    struct slice url;                  /* redis:// or rediss://; a secret: it may have a password */
    struct slice key_prefix;
    uint64_t response_timeout_ms, connection_timeout_ms;
    uint64_t pool_max_size, pool_min_idle; /* connections of the whole gateway */
    uint64_t pool_timeout_create_ms, pool_timeout_wait_ms, pool_timeout_recycle_ms;
    bool tls_enabled; /* is so with rediss:// anyway */
    bool tls_insecure;
    struct slice tls_ca, tls_cert, tls_key; /* files in PEM; empty: none */
};

/* [server.rate_limits] */
struct config_server_limits {
    bool enabled; /* false: nothing is limited, the limits of servers neither */
    struct config_limit global, per_ip;
    struct config_storage storage;
};

/* A scalar of TOML that a JSON value is compared with. */
enum config_value_type { CONFIG_VALUE_STRING, CONFIG_VALUE_NUMBER, CONFIG_VALUE_BOOL };

struct config_value {
    enum config_value_type type;
    struct slice text; /* a string's own; "12", "2.5", "true" */
    double number;
};

/* [mcp.servers.NAME.tools.TOOL.arguments.ARGUMENT] */
struct config_argument {
    struct slice name;
    bool has_allow; /* it has to be one of `allow`, perhaps of none */
    struct config_value *allow, *deny;
    size_t n_allow, n_deny;
    struct slice pattern; /* a PCRE2 that the whole text matches; empty: any */
    bool has_max;
    double max;    /* of a number; characters of a text; entries of a list */
    bool optional; /* with allow or pattern: it may be left out */
};

/* What a tool does to the world. */
enum config_access { CONFIG_ACCESS_UNSET, CONFIG_ACCESS_READ, CONFIG_ACCESS_WRITE };

/* [mcp.servers.NAME.tools.TOOL] */
struct config_tool {
    struct slice name; /* as the server calls it */
    struct slice *scopes;
    size_t n_scopes;
    bool has_allow; /* only these groups, perhaps none; in place of the server's */
    struct slice *allow, *deny;
    size_t n_allow, n_deny;
    enum config_access access; /* UNSET: the server's */
    struct config_argument *arguments;
    size_t n_arguments;
};

/* Whose credentials an HTTP server is sent. */
enum config_upstream_auth {
    CONFIG_UPSTREAM_AUTH_TOKEN,    /* the gateway's: auth_token, or none */
    CONFIG_UPSTREAM_AUTH_FORWARD,  /* the access token of each caller */
    CONFIG_UPSTREAM_AUTH_EXCHANGE, /* one for which the caller's was exchanged (RFC 8693) */
    CONFIG_UPSTREAM_AUTH_CLIENT,   /* "client_credentials": one that was got for the gateway */
};

/* How the gateway proves itself to an authorization server. */
enum config_client_auth {
    CONFIG_CLIENT_AUTH_AUTO, /* the key when there is one; else what the metadata allows, Basic
                                before POST */
    CONFIG_CLIENT_AUTH_BASIC,
    CONFIG_CLIENT_AUTH_POST,
    CONFIG_CLIENT_AUTH_KEY, /* private_key_jwt */
};

/* EXCHANGE and CLIENT: the gateway as a client of an authorization server. */
struct config_oauth_client {
    /* Byte for byte what its metadata name, and the audience of assertions. Empty: whom the server
     * names in its own metadata (CLIENT), the first one for good. */
    struct slice issuer;
    struct slice token_endpoint; /* empty: that of the metadata */
    struct slice client_id;
    struct slice client_secret; /* a secret; either this or a key */
    struct slice key_path;      /* PEM; empty: none */
    struct slice key_id;        /* `kid` of assertions; empty: none */
    enum config_client_auth method;
    struct slice resource; /* RFC 8707; never empty: that of the URL where not set */
};

struct config_upstream_tls { /* [mcp.servers.NAME.tls] */
    bool is_set;
    bool verify_certs;
    bool accept_invalid_hostnames;
    struct slice ca_bundle;               /* roots beside those of the system; empty: none */
    struct slice root_ca_cert_path;       /* the same; after loading both are equal */
    struct slice client_cert, client_key; /* files; both or none */
};

struct config_server { /* one [mcp.servers.NAME] */
    struct slice name;
    uint32_t line;  /* of its table in the file */
    bool is_stored; /* of the store, not of the file: then it has no line, and less is trusted */
    bool enabled;
    bool has_own_audience; /* auth_audience is not that of the URL, which may hold a secret */
    /* HTTP: url is set; stdio: cmd is */
    struct slice url;         /* http or https, checked; no userinfo, no fragment */
    struct slice message_url; /* SSE; as `url`; empty: the server says where its messages go */
    enum config_protocol protocol;
    enum config_upstream_auth auth_type;
    struct slice auth_token; /* a secret; empty: none. Sent as Authorization: Bearer */
    /* FORWARD: what the caller's token must have in `aud`; never empty then. EXCHANGE: the
     * `audience` that is asked for; may be empty. */
    struct slice auth_audience;
    /* FORWARD: ... and in its scopes. EXCHANGE, CLIENT: those that are asked for; none: as the
     * server says. */
    struct slice *auth_scopes;
    size_t n_auth_scopes;
    struct config_oauth_client auth_client;
    struct config_upstream_tls tls;
    struct slice proxy; /* empty: by the environment; "none"; or a URL with perhaps a password */
    struct config_header_rule *headers;
    size_t n_headers;
    uint64_t connect_timeout_ms; /* name, connection, proxy and TLS together */
    /* stdio */
    struct slice *cmd;
    size_t n_cmd;
    struct config_pair *env;
    size_t n_env;
    struct slice *inherit_env;
    size_t n_inherit_env;
    struct slice cwd;  /* empty: the gateway's */
    struct slice user; /* empty: the gateway's */
    enum config_stderr stderr_kind;
    struct slice stderr_file;
    enum config_share share;
    enum config_isolation isolation;
    uint64_t max_instances;
    uint64_t idle_timeout_ms; /* 0: never */
    uint64_t startup_timeout_ms;
    uint64_t shutdown_timeout_ms;                /* between each of: stdin closed, TERM, KILL */
    uint64_t restart_initial_ms, restart_max_ms; /* backoff; with jitter */
    uint64_t call_idle_timeout_ms;               /* `timeout`: without a byte or progress */
    uint64_t call_total_timeout_ms;              /* `max_timeout` */
    uint64_t max_message;                        /* bytes of one JSON-RPC message */
    uint64_t max_tools;                          /* items of each of its lists */
    uint64_t max_definition;                     /* bytes of one item */
    uint64_t max_in_flight;                      /* calls that run at once */
    uint64_t failure_threshold;                  /* in a row, then no call is let through */
    uint64_t cooldown_ms;                        /* ... for this long */
    struct slice *scopes;                        /* that a call to it needs */
    size_t n_scopes;
    bool has_allow; /* only these groups, perhaps none */
    struct slice *allow, *deny;
    size_t n_allow, n_deny;
    enum config_access access; /* of tools that say nothing of their own; UNSET: they are writes */
    struct config_rate_limits rate_limits;
    struct config_tool *tools;
    size_t n_tools;
};

/* [store] */
struct config_store {
    struct slice url; /* "postgres://..."; empty: SQLite in the data directory. Never printed */
};

/* [admin]: the API of the console */
struct config_admin {
    bool enabled;
    struct slice listen; /* an address and a port; TLS always */
    struct slice *hosts; /* names that it is asked by, beside the certificate's */
    size_t n_hosts;
    struct slice *trusted_proxies; /* that say whose address it is, as client_ip has it */
    size_t n_trusted_proxies;
    uint64_t session_idle_ms, session_max_ms;
    bool allow_commands; /* upstreams of the store may have cmd */
};

/* [audit] */
enum config_audit_mode { CONFIG_AUDIT_BEST_EFFORT, CONFIG_AUDIT_REQUIRED };
enum config_syslog_facility {
    CONFIG_SYSLOG_AUTH,
    CONFIG_SYSLOG_AUTHPRIV,
    CONFIG_SYSLOG_DAEMON,
    CONFIG_SYSLOG_USER,
    CONFIG_SYSLOG_LOCAL0, /* and so on, to 7 */
};

struct config_audit {
    bool enabled;
    enum config_audit_mode mode;
    uint64_t max_bytes, max_age_ms;
    uint64_t max_arguments; /* bytes of JSON that a record shows */
    struct slice *redact_paths, *redact_patterns;
    size_t n_redact_paths, n_redact_patterns;
    bool redact_shapes;
    struct slice jsonl_path; /* empty: no copy */
    uint64_t jsonl_max_bytes, jsonl_files;
    struct slice syslog_url;       /* empty: no copy */
    struct slice syslog_ca_bundle; /* empty: the system's roots */
    enum config_syslog_facility syslog_facility;
};

enum { CONFIG_INSTANCE_MAX = 16 }; /* characters of server.instance */
/* Where a key stands in the file, and what its value was made of. */
struct config_reference {
    struct config_reference *next;
    struct slice name; /* "env.NAME", "secret.NAME", "file.PATH" */
};

struct config_mark {
    struct slice path;     /* "mcp.servers.github.cmd", of a twin (KEY_file) that of the secret */
    uint32_t line, column; /* of the key */
    struct config_reference *references; /* the last one first */
};

/* A key of which the file says something else than what is served by: config_keep(). */
struct config_kept {
    struct config_kept *next;
    const char *path; /* of its row */
    bool is_default;  /* what is served by was in no file */
    struct config_reference *references;
};

/* What became of an upstream of the store. */
enum config_stored_kind {
    CONFIG_STORED_SERVED,   /* it is one of `servers` */
    CONFIG_STORED_DISABLED, /* not looked at */
    CONFIG_STORED_SHADOWED, /* the file has one of that name, which is served */
    CONFIG_STORED_INVALID,  /* left out: `reason` */
};
/* What only some may put into the store. */
enum {
    CONFIG_NEEDS_SECRETS = 1,  /* it names secrets of the vault */
    CONFIG_NEEDS_COMMANDS = 2, /* it starts a program */
    CONFIG_NEEDS_CALLERS = 4,  /* it is sent what callers have sent: tokens, header fields */
};
struct config_stored_upstream {
    struct slice name;
    enum config_stored_kind kind;
    struct slice reason; /* sentences that begin with the key: "auth.token must ..." */
    unsigned needs;      /* CONFIG_NEEDS_*; of DISABLED and SHADOWED nothing is known */
};

struct config {
    struct slice path; /* of the file; empty when there was none */
    /* [server] */
    struct slice listen_address; /* "127.0.0.1:8000" */
    uint64_t workers;            /* 0: one per core */
    struct slice *hosts;         /* server.hosts: allowed Host values beside the defaults */
    size_t n_hosts;
    bool auth_anonymous;
    struct slice auth_none; /* "I know" or empty: whether authentication may be missing */
    bool plaintext;         /* no TLS beyond loopback */
    bool proxy_protocol;    /* connections of trusted proxies begin with it */
    struct config_tls tls;
    struct config_oauth oauth;
    struct config_token *tokens; /* server.auth.tokens */
    size_t n_tokens;
    struct config_identification identification;
    struct config_client_ip client_ip;
    struct config_cors cors;
    struct config_csrf csrf;
    bool health_enabled;
    struct slice health_path;
    struct slice health_listen; /* empty: on the main listener */
    uint64_t shutdown_timeout_ms;
    uint64_t max_request_body;
    uint64_t max_held; /* messages in all */
    uint64_t max_sessions;
    struct slice instance; /* what ids of sessions begin with; empty: nothing */
    uint64_t session_idle_timeout_ms;
    uint64_t session_lifetime_ms;  /* 0: none */
    uint64_t resume_buffer;        /* bytes of events, of each session; 0: none */
    struct slice *trusted_proxies; /* addresses and CIDR blocks, checked */
    size_t n_trusted_proxies;
    struct config_limits limits;
    struct config_server_limits rate_limits;
    /* [mcp] */
    bool mcp_enabled;
    struct slice mcp_path;    /* "/mcp" */
    uint64_t list_timeout_ms; /* how long a list waits for upstreams in their first start */
    struct config_header_rule *headers; /* of all HTTP servers, before their own */
    size_t n_headers;
    uint64_t cache_max_size;        /* mcp.downstream_cache: instances of all servers together */
    uint64_t cache_idle_timeout_ms; /* of servers that have no idle_timeout of their own */
    struct config_server *servers;  /* in the order of the file, disabled ones left out */
    size_t n_servers;
    /* [security] */
    bool edit_mode;          /* writes are let through */
    bool trust_annotations;  /* readOnlyHint makes a tool a read */
    bool hide_denied;        /* what is locked is not listed; else it is, and says so */
    struct slice *whitelist; /* "server__tool"; with some, edit mode lets only these through */
    size_t n_whitelist;
    struct slice *allow_networks; /* CIDR blocks that found addresses may be in, checked */
    size_t n_allow_networks;
    struct config_audit audit;
    struct config_store store;
    struct config_admin admin;
    /* What was used by name: the key, and "NAME" of the environment, "secret.NAME", "file.PATH". */
    struct config_pair *variables;
    size_t n_variables;
    struct config_mark *marks; /* of the keys that the file sets, by path */
    size_t n_marks;
    struct config_kept *kept;
    bool has_given_listen,
        has_given_admin; /* server.listen_address, [admin]: by the command line */
    struct slice text;   /* of the file, as it was read: it has secrets in it */
    /* Upstreams of the store, by name, and which state of it that was. */
    struct config_stored_upstream *stored;
    size_t n_stored;
    struct slice stored_mark;

    atomic_uint refs;   /* config_ref() */
    struct arena arena; /* owns all of it */
};

enum config_severity { CONFIG_WARNING, CONFIG_ERROR };

struct config_problem {
    enum config_severity severity;
    struct slice path;     /* file; may be empty */
    uint32_t line, column; /* 1-based; 0 when there is none */
    struct slice message;  /* one sentence that says what to do */
};

struct config_problems {
    struct config_problem *items;
    size_t n, cap;
    size_t n_errors;
    struct arena arena;
};

void config_problems_init(struct config_problems *problems);
void config_problems_deinit(struct config_problems *problems);

/* Where {{ env.X }} looks; NULL: the process's environment. Returns NULL for an unset name. */
typedef const char *config_getenv(void *context, const char *name);

/*
 * Where {{ secret.X }} looks: 0, with a value that stays valid until the load is over, or one of
 * these. `config` is not whole yet, but its `store` is.
 */
enum {
    CONFIG_SECRET_NONE = 1,    /* there is none of that name; a default may stand for it */
    CONFIG_SECRET_HIDDEN = 2,  /* there is, but not what it holds: checks of it are left out */
    CONFIG_SECRET_REFUSED = 3, /* `reason` says why, as a part of a sentence */
};
typedef int config_get_secret(void *context, const struct config *config, struct slice name,
                              struct slice *ret_value, struct buf *reason);

/*
 * Upstreams of the store: further servers, which `definition` describes in JSON with the keys of
 * [mcp.servers.NAME]. Not all that the file may say may stand there (docs/SERVERS.md). One that is
 * not valid is left out, with a problem, and nothing else is changed by it.
 */
struct config_stored {
    struct slice name, definition;
    bool is_disabled;
};
struct config_stored_list {
    const struct config_stored *items;
    size_t n;
    struct slice mark; /* differs where anything of them does */
};
enum {
    CONFIG_STORED_REFUSED = 1, /* `reason` says why they cannot be read: an error of the load */
    CONFIG_STORED_HIDDEN = 2,  /* the same, but only a warning: it is loaded without them */
};
/* 0, with what stays valid until the load is over, one of these, -ENOMEM. `config` as above. */
typedef int config_get_stored(void *context, const struct config *config,
                              struct config_stored_list *ret_list, struct buf *reason);

/* Where references in strings look. */
struct config_resolvers {
    config_getenv *getenv_fn;     /* NULL: the process's environment */
    config_get_secret *secret_fn; /* NULL: there are no secrets */
    config_get_stored *stored_fn; /* NULL: there are no upstreams beside those of the file */
    bool no_files; /* {{ file.PATH }} and KEY_file are refused: who wrote this may not read files */
    void *context; /* of all */
};

/*
 * Reads and checks. 0: *ret_config is whole (there may be warnings). CONFIG_E_INVALID: problems say
 * why. -errno: the file could not be read (a problem says so too), -ENOMEM. Problems are appended,
 * in the order of the file, at most LIMIT_CONFIG_PROBLEMS and a note how many there are beyond.
 * Relative paths in the file start in its folder, that of path_for_messages.
 */
enum { CONFIG_E_INVALID = 1 };
MUST_CHECK int config_load_file(const char *path, config_getenv *getenv_fn, void *context,
                                struct config_problems *problems, struct config **ret_config);
MUST_CHECK int config_load_text(struct slice path_for_messages, struct slice text,
                                config_getenv *getenv_fn, void *context,
                                struct config_problems *problems, struct config **ret_config);
MUST_CHECK int config_load_file_with(const char *path, const struct config_resolvers *resolvers,
                                     struct config_problems *problems, struct config **ret_config);
MUST_CHECK int config_load_text_with(struct slice path_for_messages, struct slice text,
                                     const struct config_resolvers *resolvers,
                                     struct config_problems *problems, struct config **ret_config);
/* Of [store] alone: for what works on the store, whatever else is wrong, or missing here. */
MUST_CHECK int config_load_store(const char *path, const struct config_resolvers *resolvers,
                                 struct config_problems *problems, struct config **ret_config);
/* What became of the one of that name; NULL: there is none. */
const struct config_stored_upstream *config_find_stored(const struct config *config,
                                                        struct slice name);
/* Of `path`, without folders. */
struct slice config_file_name(const struct config *config);
/* The server of that name, or NULL. */
const struct config_server *config_find_server(const struct config *config, struct slice name);
/* Drops all servers but that one. Before anybody else has the configuration. */
void config_keep_server(struct config *config, struct slice name);
/* Without a file. -ENOMEM. */
MUST_CHECK int config_load_nothing(struct config **ret_config);
/*
 * What has to be so before the gateway listens on config->listen_address, which may have been set
 * by the command line since; `has_api_token`: MCP_API_TOKEN is set. Beyond loopback: TLS, by itself
 * (tls.is_auto is set) where there is no certificate and no `plaintext`, and authentication. 0;
 * CONFIG_E_INVALID: problems say why; -ENOMEM.
 */
MUST_CHECK int config_check_start(struct config *config, bool has_api_token,
                                  struct config_problems *problems);
/* Somebody on another machine can prove who they are. The local token does not count. */
bool config_has_authentication(const struct config *config, bool has_api_token);
/* Nobody has to prove who they are: server.auth.anonymous, or server.auth.none. */
bool config_lets_everybody_in(const struct config *config);
/* The main listener speaks TLS. After config_check_start(). */
bool config_has_tls(const struct config *config);
/* Any thread. Each owner has a reference: the one that loaded it, and who works by it longer. */
struct config *config_ref(struct config *config);
/* The last one wipes the secrets. Accepts NULL. */
struct config *config_unref(struct config *config);
void config_unrefp(struct config **config);

/*
 * Appends one line: "gw.toml:14:9: error: unknown key server.workrs (did you mean workers?)". Bytes
 * of the file are escaped; values, which may be secrets, are never in it, and so neither is the
 * line of the file.
 */
int config_problem_format(struct buf *out, const struct config_problem *problem);

/* What is wrong with a name for server.auth.tokens, as the end of a sentence; NULL: nothing. */
const char *config_check_token_name(struct slice value);

/* what a reload changes */

/* Nothing but the line of the table is different. */
bool config_server_equal(const struct config_server *a, const struct config_server *b);
/* Nor but who may call it and how often, which is not the server's: scopes, allow, deny, access,
 * rate_limits, tools. */
bool config_server_runs_alike(const struct config_server *a, const struct config_server *b);
/* Calls `fn` for each key of these that has another value, as it stands in the server's table. */
void config_server_compare(const struct config_server *a, const struct config_server *b,
                           void (*fn)(void *context, const char *key), void *context);
bool config_headers_equal(const struct config_header_rule *a, size_t n,
                          const struct config_header_rule *b, size_t m);
/* Calls `fn` for each key outside of mcp.servers that has another value; a table of which the parts
 * belong together (server.oauth) counts as one. */
typedef void config_difference_fn(void *context, const char *key, bool needs_restart);
void config_compare(const struct config *old, const struct config *config, config_difference_fn *fn,
                    void *context);
/* Puts the old value back wherever a new one needs a restart. -ENOMEM. */
MUST_CHECK int config_keep(struct config *config, const struct config *old);

/* Calls `fn` for each URL that the configuration tells the gateway to connect to: of servers, of
 * authorization servers and their keys, of token endpoints. Not its own, and none of the store. */
void config_each_url(const struct config *config, void (*fn)(void *context, struct slice url),
                     void *context);

/* endpoints and their URLs */

/* mcp.path, or mcp.path/NAME with any name that a server could have, there or not: *ret_name, empty
 * for the merged endpoint. */
bool config_is_endpoint(const struct config *config, struct slice path, struct slice *ret_name);
/*
 * The doors of an endpoint: its own path takes Streamable HTTP; below it are the two of HTTP+SSE
 * (MCP 2024-11-05, basic/transports), which no server's name can be.
 */
enum config_door { CONFIG_DOOR_HTTP, CONFIG_DOOR_SSE, CONFIG_DOOR_MESSAGE };
/* The path of the endpoint that this door belongs to; any other path as it is. */
struct slice config_endpoint_of(const struct config *config, struct slice path,
                                enum config_door *ret_door);
/* Appends the path of CONFIG_DOOR_MESSAGE by which clients know it: with the prefix that the
 * configured resource has in front. The buffer's error. */
MUST_CHECK int config_message_path(const struct config *config, struct slice endpoint,
                                   struct buf *out);
/*
 * Appends the URL by which clients know the endpoint at `path` (as config_is_endpoint() takes it):
 * its RFC 8707 resource, the audience of tokens for it. An empty path: the configured resource
 * itself. -ENOENT: server.oauth.protected_resource.resource is not set; else the buffer's error.
 */
MUST_CHECK int config_endpoint_url(const struct config *config, struct slice path, struct buf *out);
/* Where its metadata are, for WWW-Authenticate: RFC 9728 section 3.1. Likewise. */
MUST_CHECK int config_metadata_url(const struct config *config, struct slice path, struct buf *out);
/* The other way round: *ret_endpoint is empty for the metadata of the configured resource. */
bool config_is_metadata(const struct config *config, struct slice path, struct slice *ret_endpoint);

/* what is served by (live.c) */

/*
 * Every key that can be set, with its value and where that comes from, without secrets: of a key
 * that may hold one, of what came by a reference and of arguments of commands there is no value,
 * of URLs no user name, password and query.
 * {"file","servers":[{"name","source","line"}],"items":[{"path","value","source","line","column",
 *   "references":["env.NAME"],"is_secret","is_set","origin","needs_restart","waits_for_restart"}]}
 * `source`: "default", "file", "environment", "secret", "file reference", "command line", "store".
 */
int config_write_live(const struct config *config, struct buf *out);
/* The same for people, a line each. */
int config_print_live(const struct config *config, struct buf *out);

/* The reference in Markdown, from the option table. */
int config_write_reference(struct buf *out);
