/* [mcp]: the endpoint and the servers. */
#include "option_rows.h"

#define OF_SERVER(member)                                                                          \
    .owner = OPTION_OF_SERVER, .offset = offsetof(struct config_server, member)
#define SERVER "mcp.servers.*"
#define SERVER_ROW(name, kind, member, normal, least, most, words)                                 \
    {                                                                                              \
        .path = SERVER "." name, .type = OPTION_##kind, OF_SERVER(member), .fallback = (normal),   \
        .min = (least), .max = (most), .doc = (words)                                              \
    }

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
    [CONFIG_PROTOCOL_SSE] = "sse",
    NULL,
};
static const char *const upstream_auth_choices[] = {
    [CONFIG_UPSTREAM_AUTH_TOKEN] = "token",
    [CONFIG_UPSTREAM_AUTH_FORWARD] = "forward",
    [CONFIG_UPSTREAM_AUTH_EXCHANGE] = "exchange",
    [CONFIG_UPSTREAM_AUTH_CLIENT] = "client_credentials",
    NULL,
};
static const char *const client_auth_choices[] = {
    [CONFIG_CLIENT_AUTH_AUTO] = "auto",
    [CONFIG_CLIENT_AUTH_BASIC] = "client_secret_basic",
    [CONFIG_CLIENT_AUTH_POST] = "client_secret_post",
    [CONFIG_CLIENT_AUTH_KEY] = "private_key_jwt",
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
#define RULE_KEY(of, member, checked, is_value, must, words)                                       \
    {                                                                                              \
        .path = (of), .type = OPTION_STRING, OF_RULE(member), .check = (checked),                  \
        .holds_secrets = (is_value), .required = (must), .doc = (words)                            \
    }
#define HEADER_RULE(of)                                                                            \
    {.path = of ".rule",                                                                           \
     .type = OPTION_ENUM,                                                                          \
     OF_RULE(kind),                                                                                \
     .choices = rule_choices,                                                                      \
     .required = true,                                                                             \
     .doc = RULE_DOC},                                                                             \
        RULE_KEY(of ".name", name, check_header_name, false, true, NAME_DOC),                      \
        RULE_KEY(of ".value", value, check_header_value, true, false, VALUE_DOC),                  \
        RULE_KEY(of ".default", value, check_header_value, true, false, DEFAULT_DOC),              \
        RULE_KEY(of ".rename", rename, check_header_name, false, false, RENAME_DOC), {             \
        .path = of ".pattern", .type = OPTION_ANY, .status = OPTION_REFUSED, .why = PATTERN_WHY    \
    }

const struct option option_mcp_rows[] = {
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
     .doc = "What is kept for callers: the sessions with servers and the processes that each "
            "principal has, their lists, and the tokens that were got for them. Never shared by "
            "two principals."},
    {.path = "mcp.downstream_cache.max_size",
     .type = OPTION_INTEGER,
     OF_CONFIG(cache_max_size),
     .fallback = 10000,
     .min = 1,
     .max = 1000000,
     .doc = "Sessions and processes of all servers together, and tokens of each server. When "
            "another one is needed, the one that was not used for longest goes."},
    {.path = "mcp.downstream_cache.idle_timeout",
     .type = OPTION_DURATION,
     OF_CONFIG(cache_idle_timeout_ms),
     .fallback = MINUTES(10),
     .max = DAYS(30),
     .doc = "The `idle_timeout` of servers that have none of their own. `\"0s\"`: never."},

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
     .holds_secrets = true,
     .check = check_upstream_url,
     .before = "is no URL to use: ",
     .doc = "The address of the endpoint, `http` or `https`, without user name, password and "
            "fragment."},
    {.path = SERVER ".protocol",
     .type = OPTION_ENUM,
     OF_SERVER(protocol),
     .only = OPTION_FOR_HTTP,
     .choices = protocol_choices,
     .doc = "The transport. `auto`: Streamable HTTP, and where the server refuses that with 400, "
            "404 or 405, HTTP+SSE, the one of 2024-11-05. The revision is found by asking the "
            "server."},
    {.path = SERVER ".proxy",
     .type = OPTION_STRING,
     OF_SERVER(proxy),
     .secret = true,
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
     OF_SERVER(message_url),
     .holds_secrets = true,
     .only = OPTION_FOR_HTTP,
     .check = check_upstream_url,
     .before = "is no URL to use: ",
     .doc = "HTTP+SSE: where messages go, in place of what the server says on its stream; another "
            "host will do. With it, `protocol` is `\"sse\"`."},
    {.path = SERVER ".auth",
     .type = OPTION_TABLE,
     .only = OPTION_FOR_HTTP,
     .doc = "How the gateway proves to an HTTP server who it is."},
    {.path = SERVER ".auth.token",
     .type = OPTION_STRING,
     OF_SERVER(auth_token),
     .secret = true,
     .check = check_token,
     .doc = "Sent as `Authorization: Bearer`. Best written `{{ secret.NAME }}`; never printed."},
    {.path = SERVER ".auth.type",
     .type = OPTION_ENUM,
     OF_SERVER(auth_type),
     .choices = upstream_auth_choices,
     .doc = "`token`: the gateway's own, `auth.token`. `forward`: the access token that the caller "
            "has shown to the gateway, if it names this server as its audience, too. `exchange`: "
            "one for which the authorization server exchanges the caller's (RFC 8693). "
            "`client_credentials`: one that the gateway gets for itself. See "
            "[AUTHENTICATION.md](AUTHENTICATION.md#toward-servers)."},
    {.path = SERVER ".auth.audience",
     .type = OPTION_STRING,
     OF_SERVER(auth_audience),
     .check = check_filled,
     .doc = "`forward`: what the caller's token must have in `aud`, beside the gateway's own "
            "audience. When not set, `url` without its query. `exchange`: the `audience` that is "
            "asked for, beside `auth.resource`."},
    {.path = SERVER ".auth.scopes",
     .type = OPTION_LIST,
     OF_SERVER(auth_scopes),
     .count_offset = offsetof(struct config_server, n_auth_scopes),
     .max = LIMIT_SCOPES,
     .check = check_scope,
     .doc = "`forward`: scopes that the caller's token must have, all of them. `exchange`, "
            "`client_credentials`: the scopes that are asked for, and no others; when not set, "
            "those that the server asks for."},
    {.path = SERVER ".auth.issuer",
     .type = OPTION_STRING,
     OF_SERVER(auth_client.issuer),
     .check = check_issuer,
     .before = "is no URL to use: ",
     .doc = "`exchange`, `client_credentials`: the authorization server, by the `issuer` that its "
            "metadata name. The credentials below are shown to no other one. When not set, "
            "`exchange` asks the issuer of `[server.oauth]`, and `client_credentials` the one "
            "that the server names, the first one for good."},
    {.path = SERVER ".auth.token_endpoint",
     .type = OPTION_STRING,
     OF_SERVER(auth_client.token_endpoint),
     .check = check_token_endpoint,
     .before = "is no URL to use: ",
     .doc = "Its token endpoint, when no metadata are to be asked for it."},
    {.path = SERVER ".auth.client_id",
     .type = OPTION_STRING,
     OF_SERVER(auth_client.client_id),
     .check = check_client_text,
     .doc = "What the gateway is called there."},
    {.path = SERVER ".auth.client_secret",
     .type = OPTION_STRING,
     OF_SERVER(auth_client.client_secret),
     .secret = true,
     .check = check_client_text,
     .doc = "Its secret there. Best written `{{ secret.NAME }}`; never printed."},
    {.path = SERVER ".auth.client_key_path",
     .type = OPTION_PATH,
     OF_SERVER(auth_client.key_path),
     .check = check_filled,
     .doc = "In place of a secret: a file (PEM, without a passphrase) with the private key that "
            "signs assertions (`private_key_jwt`, RFC 7523): RSA of at least 2048 bits, P-256, "
            "P-384, P-521 or Ed25519."},
    {.path = SERVER ".auth.client_key_id",
     .type = OPTION_STRING,
     OF_SERVER(auth_client.key_id),
     .check = check_client_text,
     .doc = "The `kid` of that key, where the authorization server wants one."},
    {.path = SERVER ".auth.client_auth",
     .type = OPTION_ENUM,
     OF_SERVER(auth_client.method),
     .choices = client_auth_choices,
     .doc = "How the gateway proves itself there. `auto`: with the key, or with the secret in the "
            "way that the metadata name."},
    {.path = SERVER ".auth.resource",
     .type = OPTION_STRING,
     OF_SERVER(auth_client.resource),
     .check = check_resource_name,
     .doc = "`exchange`, `client_credentials`: the `resource` that tokens are asked for (RFC "
            "8707). When not set, `url` without its query."},
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
     OF_SERVER(tls.is_set),
     .only = OPTION_FOR_HTTP,
     .doc = "TLS to a server with an `https` URL. The files are read when the gateway starts, and "
            "when a reload changes the server; [SERVERS.md](SERVERS.md#tls) tells more."},
    {.path = SERVER ".tls.verify_certs",
     .type = OPTION_BOOL,
     OF_SERVER(tls.verify_certs),
     .fallback = true,
     .doc = "`false` takes any certificate, so that anybody on the way can read and change what is "
            "sent. For tests."},
    {.path = SERVER ".tls.accept_invalid_hostnames",
     .type = OPTION_BOOL,
     OF_SERVER(tls.accept_invalid_hostnames),
     .doc = "`true` takes a certificate that is valid, but for another name."},
    {.path = SERVER ".tls.ca_bundle",
     .type = OPTION_PATH,
     OF_SERVER(tls.ca_bundle),
     .check = check_filled,
     .doc = "A file (PEM) with certificate authorities that are trusted for this server, beside "
            "those of the system."},
    {.path = SERVER ".tls.root_ca_cert_path",
     .type = OPTION_PATH,
     OF_SERVER(tls.root_ca_cert_path),
     .check = check_filled,
     .doc = "Another name for `ca_bundle`."},
    {.path = SERVER ".tls.client_cert_path",
     .type = OPTION_PATH,
     OF_SERVER(tls.client_cert),
     .check = check_filled,
     .doc = "A file (PEM) with the certificate that the gateway shows when this server asks for "
            "one, and perhaps those of its issuers behind it. With `client_key_path`."},
    {.path = SERVER ".tls.client_key_path",
     .type = OPTION_PATH,
     OF_SERVER(tls.client_key),
     .check = check_filled,
     .doc = "The file (PEM, without a passphrase) with its key."},
    {.path = SERVER ".cmd",
     .type = OPTION_LIST,
     OF_SERVER(cmd),
     .count_offset = offsetof(struct config_server, n_cmd),
     .hidden = true,
     .doc = "The command and its arguments, one string each. No shell is involved."},
    {.path = SERVER ".env",
     .type = OPTION_MAP,
     OF_SERVER(env),
     .holds_secrets = true,
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
     .fallback = INSTANCES_NOT_SET,
     .min = 1,
     .max = 10000,
     .has_no_default = true,
     .doc = "Processes of this server, or sessions with it, that may be there at once. When not "
            "set, 16 processes or 1000 sessions."},
    {.path = SERVER ".idle_timeout",
     .type = OPTION_DURATION,
     OF_SERVER(idle_timeout_ms),
     .fallback = IDLE_NOT_SET,
     .max = DAYS(30),
     .has_no_default = true,
     .doc = "A process without a call for this long is stopped, a session with an HTTP server "
            "ended. `\"0s\"`: never. When not set, `mcp.downstream_cache.idle_timeout`."},
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
};
const size_t option_mcp_count = ARRAY_LEN(option_mcp_rows);
