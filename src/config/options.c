#include "options.h"

#include "base/limits.h"
#include "config/config.h"

#define SECONDS(n) ((uint64_t)(n)*1000u)
#define MINUTES(n) SECONDS((n)*60u)
#define HOURS(n)   MINUTES((n)*60u)
#define DAYS(n)    HOURS((n)*24u)

#define OF_CONFIG(member) .owner = OPTION_OF_CONFIG, .offset = offsetof(struct config, member)
#define OF_SERVER(member)                                                                          \
    .owner = OPTION_OF_SERVER, .offset = offsetof(struct config_server, member)
#define SERVER "mcp.servers.*"

#define LIMIT_ROW(name, kind, member, normal, least, most, words)                                  \
    {                                                                                              \
        .path = "server.limits." name, .type = OPTION_##kind, OF_CONFIG(limits.member),            \
        .fallback = (normal), .min = (least), .max = (most), .doc = (words)                        \
    }
#define SERVER_ROW(name, kind, member, normal, least, most, words)                                 \
    {                                                                                              \
        .path = SERVER "." name, .type = OPTION_##kind, OF_SERVER(member), .fallback = (normal),   \
        .min = (least), .max = (most), .doc = (words)                                              \
    }

/* A key inside a table that is not built, or ignored: it only has to be known. */
#define INNER(name, kind)                                                                          \
    { .path = (name), .type = OPTION_##kind, .status = OPTION_IGNORED }
#define OTLP(name)                                                                                 \
    INNER(name, TABLE), INNER(name ".enabled", BOOL), INNER(name ".endpoint", STRING),             \
        INNER(name ".protocol", STRING), INNER(name ".timeout", STRING),                           \
        INNER(name ".grpc", TABLE), INNER(name ".grpc.headers", ANY),                              \
        INNER(name ".grpc.tls", TABLE), INNER(name ".grpc.tls.domain_name", STRING),               \
        INNER(name ".grpc.tls.key", STRING), INNER(name ".grpc.tls.cert", STRING),                 \
        INNER(name ".grpc.tls.ca", STRING), INNER(name ".http", TABLE),                            \
        INNER(name ".http.headers", ANY), INNER(name ".batch_export", TABLE),                      \
        INNER(name ".batch_export.scheduled_delay", STRING),                                       \
        INNER(name ".batch_export.max_queue_size", INTEGER),                                       \
        INNER(name ".batch_export.max_export_batch_size", INTEGER),                                \
        INNER(name ".batch_export.max_concurrent_exports", INTEGER)
#define LIMIT_PAIR(name) INNER(name ".limit", INTEGER), INNER(name ".interval", STRING)
#define EXPORTERS(name)  INNER(name, TABLE), OTLP(name ".otlp")

static const char *const share_choices[] = {
    [CONFIG_SHARE_PRINCIPAL] = "principal",
    [CONFIG_SHARE_SESSION] = "session",
    [CONFIG_SHARE_ALL] = "all",
    NULL,
};
static const char *const isolation_choices[] = {
    [CONFIG_ISOLATION_AUTO] = "auto",
    [CONFIG_ISOLATION_NONE] = "none",
    NULL,
};
static const char *const protocol_choices[] = {
    [CONFIG_PROTOCOL_AUTO] = "auto",
    [CONFIG_PROTOCOL_STREAMABLE_HTTP] = "streamable-http",
    NULL,
};
static const char *const rule_choices[] = {
    [CONFIG_HEADER_INSERT] = "insert",
    [CONFIG_HEADER_REMOVE] = "remove",
    [CONFIG_HEADER_FORWARD] = "forward",
    [CONFIG_HEADER_RENAME_DUPLICATE] = "rename_duplicate",
    NULL,
};
static const char *const stderr_choices[] = {
    [CONFIG_STDERR_NULL] = "null",
    [CONFIG_STDERR_INHERIT] = "inherit",
    [CONFIG_STDERR_PIPE] = "pipe",
    NULL,
};

static const struct option_entry header_rule = {
    .owner = OPTION_OF_HEADER_RULE,
    .size = sizeof(struct config_header_rule),
    .finish = finish_header_rule,
};

#define OF_RULE(member)                                                                            \
    .owner = OPTION_OF_HEADER_RULE, .offset = offsetof(struct config_header_rule, member)
#define RULE_DOC                                                                                   \
    "`insert` sends `name` with `value`, in place of what an earlier rule set. `remove` sends no " \
    "`name`. `forward` sends what the caller sent as `name`. `rename_duplicate` sends that under " \
    "both names."
#define NAME_DOC                                                                                   \
    "The header; upper and lower case are the same. Those that belong to HTTP or MCP itself can "  \
    "not be named."
#define VALUE_DOC "`insert`: what is sent. Never printed."
#define DEFAULT_DOC                                                                                \
    "`forward`, `rename_duplicate`: what is sent when the caller sends no such header; nothing "   \
    "when not set."
#define RENAME_DOC                                                                                 \
    "`forward`: the name under which it is sent, when it is another one. `rename_duplicate`: the " \
    "second name."
#define PATTERN_WHY "is not known: list the headers by name, each in a rule of its own"
/* A key of a header rule; value and default are one field. */
#define RULE_KEY(of, member, checked, must, words)                                                 \
    {                                                                                              \
        .path = (of), .type = OPTION_STRING, OF_RULE(member), .check = (checked),                  \
        .required = (must), .doc = (words)                                                         \
    }
#define HEADER_RULE(of)                                                                            \
    {.path = of ".rule",                                                                           \
     .type = OPTION_ENUM,                                                                          \
     OF_RULE(kind),                                                                                \
     .choices = rule_choices,                                                                      \
     .required = true,                                                                             \
     .doc = RULE_DOC},                                                                             \
        RULE_KEY(of ".name", name, check_header_name, true, NAME_DOC),                             \
        RULE_KEY(of ".value", value, check_header_value, false, VALUE_DOC),                        \
        RULE_KEY(of ".default", value, check_header_value, false, DEFAULT_DOC),                    \
        RULE_KEY(of ".rename", rename, check_header_name, false, RENAME_DOC), {                    \
        .path = of ".pattern", .type = OPTION_ANY, .status = OPTION_REFUSED, .why = PATTERN_WHY    \
    }

const struct option option_rows[] = {
    {.path = "server", .type = OPTION_TABLE, .doc = "The listener and its sessions."},
    {.path = "server.listen_address",
     .type = OPTION_STRING,
     OF_CONFIG(listen_address),
     .text = "127.0.0.1:8000",
     .check = check_listen_address,
     .doc = "IP address and port. This version listens on loopback only: an address of "
            "127.0.0.0/8, or `[::1]`. Port 0 takes any free one."},
    {.path = "server.workers",
     .type = OPTION_INTEGER,
     OF_CONFIG(workers),
     .max = 256,
     .doc = "Worker threads, each with its own event loop. 0: one for each core."},
    {.path = "server.hosts",
     .type = OPTION_LIST,
     OF_CONFIG(hosts),
     .count_offset = offsetof(struct config, n_hosts),
     .check = check_host,
     .lower = true,
     .doc = "Further values that the `Host` header may have, `name` or `name:port`, beside the "
            "listen address and `localhost`. Other hosts are refused, which is what stops DNS "
            "rebinding."},
    {.path = "server.shutdown_timeout",
     .type = OPTION_DURATION,
     OF_CONFIG(shutdown_timeout_ms),
     .fallback = SECONDS(30),
     .max = HOURS(1),
     .doc = "How long running calls may take to end after a signal to stop."},
    {.path = "server.max_request_body",
     .type = OPTION_SIZE,
     OF_CONFIG(max_request_body),
     .fallback = LIMIT_REQUEST_BODY,
     .min = KIB(1),
     .max = MIB(64),
     .doc = "The longest body that a client may send; a longer one is answered with 413."},
    {.path = "server.max_held",
     .type = OPTION_SIZE,
     OF_CONFIG(max_held),
     .fallback = LIMIT_HELD,
     .min = MIB(16),
     .max = MIB(65536),
     .doc = "What is held for clients and servers in all: messages that came and are not gone yet. "
            "Beyond it, connections of clients are not read until others have finished."},
    {.path = "server.max_sessions",
     .type = OPTION_INTEGER,
     OF_CONFIG(max_sessions),
     .fallback = 10000,
     .min = 1,
     .max = 1000000,
     .doc = "Sessions that one principal may have open; the longest unused one makes room."},
    {.path = "server.session_idle_timeout",
     .type = OPTION_DURATION,
     OF_CONFIG(session_idle_timeout_ms),
     .fallback = MINUTES(30),
     .min = SECONDS(1),
     .max = DAYS(30),
     .doc = "A session without a request or an open stream for this long is ended."},
    {.path = "server.trusted_proxies",
     .type = OPTION_LIST,
     OF_CONFIG(trusted_proxies),
     .count_offset = offsetof(struct config, n_trusted_proxies),
     .check = check_network,
     .doc = "Addresses and CIDR blocks of the proxies in front of the gateway. They may open any "
            "number of connections up to `server.limits.max_connections`."},
    {.path = "server.limits",
     .type = OPTION_TABLE,
     .doc = "What clients may make the gateway hold, and for how long."},
    LIMIT_ROW("max_connections", INTEGER, max_connections, LIMIT_CONNECTIONS, 16, 1000000,
              "Connections of clients that are open at once. Beyond it a new one is answered with "
              "503. Fewer are let in where the process may not open enough descriptors "
              "(`ulimit -n`): a quarter of them is kept for servers."),
    LIMIT_ROW("max_connections_per_address", INTEGER, max_connections_per_address,
              LIMIT_CONNECTIONS_PER_ADDRESS, 1, 1000000,
              "The same of one address (of IPv6: of one /64); `server.trusted_proxies` are not "
              "counted."),
    LIMIT_ROW("max_header", SIZE, max_header, LIMIT_HTTP_HEADER_BLOCK, KIB(1), KIB(256),
              "The longest head of a request, start line and fields together; a longer one is "
              "answered with 431."),
    LIMIT_ROW("header_timeout", DURATION, header_timeout_ms, LIMIT_HEADER_MS, 100, MINUTES(10),
              "How long the head of a request may take, however it drips in; then 408."),
    LIMIT_ROW("body_timeout", DURATION, body_timeout_ms, LIMIT_BODY_MS, 100, MINUTES(10),
              "How long a body may go without a byte, and how long it may take as a whole beside a "
              "second for each KiB; then 408."),
    LIMIT_ROW("write_timeout", DURATION, write_timeout_ms, LIMIT_WRITE_MS, 100, HOURS(1),
              "How long a client may read nothing of an answer that waits for it; then its "
              "connection is closed."),
    LIMIT_ROW("idle_timeout", DURATION, idle_timeout_ms, LIMIT_CLIENT_IDLE_MS, 100, HOURS(24),
              "How long a connection may be without a request."),
    LIMIT_ROW(
        "max_in_flight", INTEGER, max_in_flight, LIMIT_IN_FLIGHT, 1, 100000,
        "Calls of one principal that run at once, over all its connections. What comes beyond "
        "waits, and its connection is not read."),
    LIMIT_ROW("max_wait", DURATION, max_wait_ms, LIMIT_WAIT_MS, 100, HOURS(1),
              "How long a request waits for that; then it is refused."),
    LIMIT_ROW("keepalive", DURATION, keepalive_ms, LIMIT_KEEPALIVE_MS, SECONDS(1), HOURS(1),
              "A comment is sent on a stream that was silent for this long."),
    LIMIT_ROW("max_json_depth", INTEGER, max_json_depth, LIMIT_JSON_DEPTH, 8, LIMIT_JSON_DEPTH,
              "How deep the JSON of a message may be nested, that of servers too."),
    LIMIT_ROW("max_json_keys", INTEGER, max_json_keys, LIMIT_JSON_KEYS, 64, 1000000,
              "Keys that one object may have."),
    {.path = "server.auth", .type = OPTION_TABLE, .doc = "How callers prove who they are."},
    {.path = "server.auth.anonymous",
     .type = OPTION_BOOL,
     OF_CONFIG(auth_anonymous),
     .doc = "Lets callers in without a token. Only on a loopback address."},
    {.path = "server.health", .type = OPTION_TABLE, .doc = "The answer to a load balancer."},
    {.path = "server.health.enabled",
     .type = OPTION_BOOL,
     OF_CONFIG(health_enabled),
     .fallback = true,
     .doc = "Answers on `server.health.path`."},
    {.path = "server.health.path",
     .type = OPTION_STRING,
     OF_CONFIG(health_path),
     .text = "/health",
     .check = check_url_path,
     .doc = "Where. Not inside `mcp.path`."},
    {.path = "server.health.listen",
     .type = OPTION_STRING,
     .status = OPTION_RESTRICTS,
     .why = "moves the health check to a listener of its own"},

    {.path = "server.tls",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .why = "encrypts the connections of clients"},
    INNER("server.tls.certificate", STRING),
    INNER("server.tls.key", STRING),

    {.path = "server.cors",
     .type = OPTION_TABLE,
     .status = OPTION_IGNORED,
     .why = "no CORS header is sent, so pages of other origins can not read any answer"},
    INNER("server.cors.allow_credentials", BOOL),
    INNER("server.cors.allow_origins", ANY),
    INNER("server.cors.allow_methods", ANY),
    INNER("server.cors.allow_headers", ANY),
    INNER("server.cors.expose_headers", ANY),
    INNER("server.cors.max_age", STRING),
    INNER("server.cors.allow_private_network", BOOL),

    {.path = "server.csrf",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .why = "refuses requests without a header"},
    INNER("server.csrf.enabled", BOOL),
    INNER("server.csrf.header_name", STRING),

    {.path = "server.oauth",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .why = "restricts who may call"},
    INNER("server.oauth.url", STRING),
    INNER("server.oauth.poll_interval", STRING),
    INNER("server.oauth.expected_issuer", STRING),
    INNER("server.oauth.expected_audience", STRING),
    INNER("server.oauth.protected_resource", TABLE),
    INNER("server.oauth.protected_resource.resource", STRING),
    INNER("server.oauth.protected_resource.authorization_servers", LIST),

    {.path = "server.client_identification",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .why = "refuses callers without an identity or with an unknown group"},
    INNER("server.client_identification.enabled", BOOL),
    INNER("server.client_identification.client_id", TABLE),
    INNER("server.client_identification.client_id.jwt_claim", STRING),
    INNER("server.client_identification.client_id.http_header", STRING),
    INNER("server.client_identification.group_id", TABLE),
    INNER("server.client_identification.group_id.jwt_claim", STRING),
    INNER("server.client_identification.group_id.http_header", STRING),
    INNER("server.client_identification.validation", TABLE),
    INNER("server.client_identification.validation.group_values", LIST),

    {.path = "server.client_ip",
     .type = OPTION_TABLE,
     .status = OPTION_IGNORED,
     .why = "nothing is decided by the address of a client yet"},
    INNER("server.client_ip.x_real_ip", BOOL),
    INNER("server.client_ip.x_forwarded_for_trusted_hops", INTEGER),

    {.path = "server.rate_limits",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .why = "limits how often callers may call"},
    INNER("server.rate_limits.enabled", BOOL),
    INNER("server.rate_limits.global", TABLE),
    LIMIT_PAIR("server.rate_limits.global"),
    INNER("server.rate_limits.per_ip", TABLE),
    LIMIT_PAIR("server.rate_limits.per_ip"),
    INNER("server.rate_limits.storage", TABLE),
    INNER("server.rate_limits.storage.type", STRING),
    INNER("server.rate_limits.storage.url", STRING),
    INNER("server.rate_limits.storage.key_prefix", STRING),
    INNER("server.rate_limits.storage.response_timeout", STRING),
    INNER("server.rate_limits.storage.connection_timeout", STRING),
    INNER("server.rate_limits.storage.pool", TABLE),
    INNER("server.rate_limits.storage.pool.max_size", INTEGER),
    INNER("server.rate_limits.storage.pool.min_idle", INTEGER),
    INNER("server.rate_limits.storage.pool.timeout_create", STRING),
    INNER("server.rate_limits.storage.pool.timeout_wait", STRING),
    INNER("server.rate_limits.storage.pool.timeout_recycle", STRING),
    INNER("server.rate_limits.storage.tls", TABLE),
    INNER("server.rate_limits.storage.tls.enabled", BOOL),
    INNER("server.rate_limits.storage.tls.insecure", BOOL),
    INNER("server.rate_limits.storage.tls.ca_cert_path", STRING),
    INNER("server.rate_limits.storage.tls.client_cert_path", STRING),
    INNER("server.rate_limits.storage.tls.client_key_path", STRING),

    {.path = "mcp", .type = OPTION_TABLE, .doc = "The MCP endpoint."},
    {.path = "mcp.enabled",
     .type = OPTION_BOOL,
     OF_CONFIG(mcp_enabled),
     .fallback = true,
     .doc = "Serves MCP at all."},
    {.path = "mcp.path",
     .type = OPTION_STRING,
     OF_CONFIG(mcp_path),
     .text = "/mcp",
     .check = check_url_path,
     .doc = "Where. Everything below it belongs to MCP too."},
    {.path = "mcp.list_timeout",
     .type = OPTION_DURATION,
     OF_CONFIG(list_timeout_ms),
     .fallback = 1500,
     .max = MINUTES(10),
     .doc = "How long a list of tools waits for servers that are in their first start. The list "
            "is sent without those that take longer."},
    {.path = "mcp.enable_structured_content",
     .type = OPTION_BOOL,
     .status = OPTION_IGNORED,
     .why = "tools answer in the form that their server chose"},
    {.path = "mcp.headers",
     .type = OPTION_TABLES,
     OF_CONFIG(headers),
     .count_offset = offsetof(struct config, n_headers),
     .max = LIMIT_HEADER_RULES,
     .entry = &header_rule,
     .doc = "Rules for the headers that every HTTP server is sent, one after the other, before "
            "those of the server itself. [SERVERS.md](SERVERS.md#headers) has examples."},
    HEADER_RULE("mcp.headers"),
    {.path = "mcp.downstream_cache",
     .type = OPTION_TABLE,
     .status = OPTION_IGNORED,
     .why = "what is kept is set for each server, with share, max_instances and idle_timeout"},
    INNER("mcp.downstream_cache.max_size", INTEGER),
    INNER("mcp.downstream_cache.idle_timeout", STRING),

    {.path = "mcp.servers",
     .type = OPTION_TABLE,
     .doc = "The MCP servers, by name. A name has at most 32 letters, digits and `-`, with single "
            "`_` between them; `sse`, `message` and `server-card` are taken."},
    {.path = SERVER,
     .type = OPTION_TABLE,
     .doc = "One server: a command that speaks MCP on stdio (`cmd`), or the address of one that "
            "speaks it over HTTP (`url`). Exactly one of the two."},
    {.path = SERVER ".enabled",
     .type = OPTION_BOOL,
     OF_SERVER(enabled),
     .fallback = true,
     .doc = "`false` leaves the server out; of its other keys only the names are checked then."},
    {.path = SERVER ".url",
     .type = OPTION_STRING,
     OF_SERVER(url),
     .check = check_upstream_url,
     .before = "is no URL to use: ",
     .doc = "The address of the endpoint, `http` or `https`, without user name, password and "
            "fragment."},
    {.path = SERVER ".protocol",
     .type = OPTION_ENUM,
     OF_SERVER(protocol),
     .only = OPTION_FOR_HTTP,
     .choices = protocol_choices,
     .check = check_protocol,
     .doc = "The transport. HTTP+SSE (`\"sse\"`) is not built yet, so both mean Streamable HTTP; "
            "the revision is found by asking the server."},
    {.path = SERVER ".proxy",
     .type = OPTION_STRING,
     OF_SERVER(proxy),
     .only = OPTION_FOR_HTTP,
     .check = check_proxy,
     .before = "must be \"none\" or a URL such as \"http://proxy.example.com:3128\": ",
     .doc = "The HTTP proxy on the way there, `http://host:port`, with `user:password@` before the "
            "host where it wants them; `\"none\"` for none. When not set, the variables "
            "`https_proxy`, `http_proxy`, `all_proxy` and `no_proxy` say so."},
    {.path = SERVER ".connect_timeout",
     .type = OPTION_DURATION,
     OF_SERVER(connect_timeout_ms),
     .only = OPTION_FOR_HTTP,
     .fallback = LIMIT_CONNECT_MS,
     .min = 100,
     .max = MINUTES(5),
     .doc = "How long a connection may take: looking up the name, connecting, the proxy and TLS "
            "together."},
    {.path = SERVER ".message_url",
     .type = OPTION_STRING,
     .status = OPTION_RESTRICTS,
     .only = OPTION_FOR_HTTP,
     .why = "is the second address of an HTTP+SSE server"},
    {.path = SERVER ".auth",
     .type = OPTION_TABLE,
     .only = OPTION_FOR_HTTP,
     .doc = "How the gateway proves to an HTTP server who it is."},
    {.path = SERVER ".auth.token",
     .type = OPTION_STRING,
     OF_SERVER(auth_token),
     .check = check_token,
     .doc = "Sent as `Authorization: Bearer`. Best written `{{ env.NAME }}`; never printed."},
    {.path = SERVER ".auth.type",
     .type = OPTION_STRING,
     .status = OPTION_RESTRICTS,
     .why = "chooses which credentials the server is sent"},
    {.path = SERVER ".headers",
     .type = OPTION_TABLES,
     OF_SERVER(headers),
     .only = OPTION_FOR_HTTP,
     .count_offset = offsetof(struct config_server, n_headers),
     .max = LIMIT_HEADER_RULES,
     .entry = &header_rule,
     .doc = "Rules for the headers that this server is sent, after those of `[[mcp.headers]]`."},
    HEADER_RULE(SERVER ".headers"),
    {.path = SERVER ".tls",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .only = OPTION_FOR_HTTP,
     .why = "decides which certificates are trusted and which one is shown"},
    INNER(SERVER ".tls.verify_certs", BOOL),
    INNER(SERVER ".tls.accept_invalid_hostnames", BOOL),
    INNER(SERVER ".tls.root_ca_cert_path", STRING),
    INNER(SERVER ".tls.ca_bundle", STRING),
    INNER(SERVER ".tls.client_cert_path", STRING),
    INNER(SERVER ".tls.client_key_path", STRING),
    {.path = SERVER ".cmd",
     .type = OPTION_LIST,
     OF_SERVER(cmd),
     .count_offset = offsetof(struct config_server, n_cmd),
     .doc = "The command and its arguments, one string each. No shell is involved."},
    {.path = SERVER ".env",
     .type = OPTION_MAP,
     OF_SERVER(env),
     .only = OPTION_FOR_CHILDREN,
     .count_offset = offsetof(struct config_server, n_env),
     .check = check_env_name,
     .doc = "Variables for the server. It gets these, the gateway's `PATH`, `HOME`, `LANG`, `TZ`, "
            "`USER` and `TMPDIR`, and `inherit_env`; nothing else of the gateway's environment."},
    {.path = SERVER ".inherit_env",
     .type = OPTION_LIST,
     OF_SERVER(inherit_env),
     .only = OPTION_FOR_CHILDREN,
     .count_offset = offsetof(struct config_server, n_inherit_env),
     .check = check_env_name,
     .doc = "Names of the gateway's own variables that the server gets too."},
    {.path = SERVER ".cwd",
     .type = OPTION_PATH,
     OF_SERVER(cwd),
     .only = OPTION_FOR_CHILDREN,
     .check = check_filled,
     .doc = "The folder in which it runs; the gateway's when not set."},
    {.path = SERVER ".user",
     .type = OPTION_STRING,
     OF_SERVER(user),
     .only = OPTION_FOR_CHILDREN,
     .check = check_user,
     .doc = "The user that it runs as; the gateway's when not set. Needs a gateway that runs as "
            "root."},
    {.path = SERVER ".stderr",
     .type = OPTION_STDERR,
     OF_SERVER(stderr_kind),
     .only = OPTION_FOR_CHILDREN,
     .choices = stderr_choices,
     .check = check_filled,
     .doc = "What becomes of its error output: dropped, the gateway's own, lines in the gateway's "
            "log, or `{ file = PATH }`, to which it is appended."},
    {.path = SERVER ".stderr.file", .type = OPTION_PATH, .doc = "See `stderr`."},
    {.path = SERVER ".share",
     .type = OPTION_ENUM,
     OF_SERVER(share),
     .choices = share_choices,
     .doc = "Who shares one process, or what is open to an HTTP server: the sessions of one "
            "principal, nobody (one for each session), or everybody. `all` is for servers that "
            "keep no state between calls."},
    {.path = SERVER ".max_instances",
     .type = OPTION_INTEGER,
     OF_SERVER(max_instances),
     .fallback = 16,
     .min = 1,
     .max = 10000,
     .doc = "Processes of this server, or sessions with it, that may be there at once."},
    {.path = SERVER ".idle_timeout",
     .type = OPTION_DURATION,
     OF_SERVER(idle_timeout_ms),
     .fallback = MINUTES(10),
     .max = DAYS(30),
     .doc = "A process without a call for this long is stopped, a session with an HTTP server "
            "ended. `\"0s\"`: never."},
    {.path = SERVER ".startup_timeout",
     .type = OPTION_DURATION,
     OF_SERVER(startup_timeout_ms),
     .fallback = SECONDS(30),
     .min = 100,
     .max = MINUTES(10),
     .doc = "How long it may take from its start, or the first request to it, to the end of its "
            "initialization."},
    {.path = SERVER ".shutdown_timeout",
     .type = OPTION_DURATION,
     OF_SERVER(shutdown_timeout_ms),
     .fallback = SECONDS(5),
     .min = 10,
     .max = MINUTES(1),
     .doc = "How long is waited after closing its input, and again after SIGTERM, before SIGKILL; "
            "of an HTTP server, for the answer to the end of its session."},
    {.path = SERVER ".restart",
     .type = OPTION_TABLE,
     .doc = "The pause before a server that died is started again, and an HTTP server that could "
            "not be reached is tried again: it doubles from `initial` to `max`, with some chance "
            "in it."},
    {.path = SERVER ".restart.initial",
     .type = OPTION_DURATION,
     OF_SERVER(restart_initial_ms),
     .fallback = 500,
     .min = 10,
     .max = HOURS(1),
     .doc = "The first pause."},
    {.path = SERVER ".restart.max",
     .type = OPTION_DURATION,
     OF_SERVER(restart_max_ms),
     .fallback = SECONDS(60),
     .min = 10,
     .max = HOURS(24),
     .doc = "The longest."},
    {.path = SERVER ".isolation",
     .type = OPTION_ENUM,
     OF_SERVER(isolation),
     .only = OPTION_FOR_CHILDREN,
     .choices = isolation_choices,
     .doc = "`auto` hides the gateway's data directory from the server by the best means that the "
            "kernel has; when there is none, the server does not start. `none` lets it start."},
    {.path = SERVER ".timeout",
     .type = OPTION_DURATION,
     OF_SERVER(call_idle_timeout_ms),
     .fallback = LIMIT_CALL_IDLE_MS,
     .min = 100,
     .max = HOURS(24),
     .doc = "How long a call may go without a byte or a sign of progress."},
    {.path = SERVER ".max_timeout",
     .type = OPTION_DURATION,
     OF_SERVER(call_total_timeout_ms),
     .fallback = LIMIT_CALL_TOTAL_MS,
     .min = 100,
     .max = HOURS(24),
     .doc = "How long a call may take in all."},
    SERVER_ROW("max_in_flight", INTEGER, max_in_flight, LIMIT_UPSTREAM_IN_FLIGHT, 1, 100000,
               "Calls that run on the server at once, of all principals together. Beyond it calls "
               "are refused."),
    SERVER_ROW("failure_threshold", INTEGER, failure_threshold, LIMIT_FAILURES, 0, 1000,
               "Calls in a row that failed (no answer in time, the connection or the process lost, "
               "HTTP 5xx, no valid answer, a start that failed). Then the server is left alone: "
               "calls are refused at once. 0: never."),
    SERVER_ROW("cooldown", DURATION, cooldown_ms, LIMIT_COOLDOWN_MS, 100, HOURS(24),
               "How long it is left alone. Then one call is let through; when that is answered, "
               "all are. When it fails the pause doubles, up to ten times this."),
    SERVER_ROW("max_message", SIZE, max_message, LIMIT_UPSTREAM_MESSAGE, KIB(64), MIB(64),
               "The longest message that the server may send: a line, a body, an event."),
    SERVER_ROW("max_tools", INTEGER, max_tools, LIMIT_TOOLS_PER_UPSTREAM, 1, 100000,
               "Tools that are taken of it; and prompts, resources, templates, each."),
    SERVER_ROW("max_definition", SIZE, max_definition, LIMIT_DEFINITION, KIB(1), MIB(4),
               "The longest definition of one of these; a longer one is left out."),

    {.path = SERVER ".rate_limits",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .why = "limits how often the server may be called"},
    LIMIT_PAIR(SERVER ".rate_limits"),
    INNER(SERVER ".rate_limits.tools", TABLE),
    INNER(SERVER ".rate_limits.tools.*", TABLE),
    LIMIT_PAIR(SERVER ".rate_limits.tools.*"),
    INNER(SERVER ".rate_limits.per_user", TABLE),
    LIMIT_PAIR(SERVER ".rate_limits.per_user"),
    INNER(SERVER ".rate_limits.per_user.groups", TABLE),
    INNER(SERVER ".rate_limits.per_user.groups.*", TABLE),
    LIMIT_PAIR(SERVER ".rate_limits.per_user.groups.*"),
    {.path = SERVER ".allow",
     .type = OPTION_LIST,
     .status = OPTION_RESTRICTS,
     .why = "restricts which groups may use the server"},
    {.path = SERVER ".deny",
     .type = OPTION_LIST,
     .status = OPTION_RESTRICTS,
     .why = "restricts which groups may use the server"},
    {.path = SERVER ".tools",
     .type = OPTION_TABLE,
     .status = OPTION_RESTRICTS,
     .why = "restricts which groups may use a tool"},
    INNER(SERVER ".tools.*", TABLE),
    INNER(SERVER ".tools.*.allow", LIST),
    INNER(SERVER ".tools.*.deny", LIST),

    {.path = "security", .type = OPTION_TABLE, .doc = "What the gateway lets through."},
    {.path = "security.edit_mode",
     .type = OPTION_BOOL,
     OF_CONFIG(edit_mode),
     .fallback = true,
     .doc = "`true` lets calls through that change something. Read-only mode is not built yet, so "
            "`true` is the only value that is accepted."},

    {.path = "telemetry",
     .type = OPTION_TABLE,
     .status = OPTION_IGNORED,
     .why = "traces, metrics and logs are not exported yet"},
    INNER("telemetry.enabled", BOOL),
    INNER("telemetry.service_name", STRING),
    INNER("telemetry.resource_attributes", MAP),
    EXPORTERS("telemetry.exporters"),
    INNER("telemetry.tracing", TABLE),
    INNER("telemetry.tracing.sampling", NUMBER),
    INNER("telemetry.tracing.parent_based_sampler", BOOL),
    INNER("telemetry.tracing.collect", TABLE),
    INNER("telemetry.tracing.collect.max_events_per_span", INTEGER),
    INNER("telemetry.tracing.collect.max_attributes_per_span", INTEGER),
    INNER("telemetry.tracing.collect.max_links_per_span", INTEGER),
    INNER("telemetry.tracing.collect.max_attributes_per_event", INTEGER),
    INNER("telemetry.tracing.collect.max_attributes_per_link", INTEGER),
    INNER("telemetry.tracing.propagation", TABLE),
    INNER("telemetry.tracing.propagation.trace_context", BOOL),
    INNER("telemetry.tracing.propagation.aws_xray", BOOL),
    EXPORTERS("telemetry.tracing.exporters"),
    INNER("telemetry.metrics", TABLE),
    EXPORTERS("telemetry.metrics.exporters"),
    INNER("telemetry.logs", TABLE),
    EXPORTERS("telemetry.logs.exporters"),

    {.path = "llm",
     .type = OPTION_ANY,
     .status = OPTION_IGNORED,
     .why = "Cardea is a gateway for MCP and does not route models"},
};
const size_t option_count = ARRAY_LEN(option_rows);
