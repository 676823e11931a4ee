/* [server]: the listener, what it lets in at once, health. */
#include "option_rows.h"

#define LIMIT_ROW(name, kind, member, normal, least, most, words)                                  \
    {                                                                                              \
        .path = "server.limits." name, .type = OPTION_##kind, OF_CONFIG(limits.member),            \
        .fallback = (normal), .min = (least), .max = (most), .doc = (words)                        \
    }

#define STORAGE            "server.rate_limits.storage."
#define OF_STORAGE(member) OF_CONFIG(rate_limits.storage.member)
#define STORAGE_ROW(name, kind, member, normal, least, most, words)                                \
    {                                                                                              \
        .path = STORAGE name, .type = OPTION_##kind, OF_STORAGE(member), .fallback = (normal),     \
        .min = (least), .max = (most), .doc = (words)                                              \
    }
#define STORAGE_FILE(name, member, words)                                                          \
    {                                                                                              \
        .path = STORAGE name, .type = OPTION_PATH, OF_STORAGE(member), .check = check_filled,      \
        .doc = (words)                                                                             \
    }

static const char *const storage_choices[] = {
    [CONFIG_STORAGE_MEMORY] = "memory",
    [CONFIG_STORAGE_REDIS] = "redis",
    NULL,
};
static const char *const failure_choices[] = {
    [CONFIG_FAILURE_LOCAL] = "local",
    [CONFIG_FAILURE_DENY] = "deny",
    NULL,
};

const struct option option_server_rows[] = {
    {.path = "server", .type = OPTION_TABLE, .doc = "The listener and its sessions."},
    {.path = "server.listen_address",
     .type = OPTION_STRING,
     OF_CONFIG(listen_address),
     .text = "127.0.0.1:8000",
     .check = check_listen_address,
     .doc = "IP address and port; `0.0.0.0` and `[::]` stand for all addresses of the machine. "
            "Beyond loopback (127.0.0.0/8, `[::1]`) callers have to prove who they are and there "
            "is TLS: [AUTHENTICATION.md](AUTHENTICATION.md#beyond-this-machine). Port 0 takes any "
            "free one."},
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
    {.path = "server.instance",
     .type = OPTION_STRING,
     OF_CONFIG(instance),
     .check = check_instance,
     .doc = "The name of this gateway among several that act as one, another one for each. Ids of "
            "its sessions begin with it and a dot, so that a proxy can tell whose they are: "
            "[SCALING.md](SCALING.md)."},
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
    {.path = "server.session_lifetime",
     .type = OPTION_DURATION,
     OF_CONFIG(session_lifetime_ms),
     .fallback = DAYS(7),
     .max = DAYS(365),
     .doc = "A session ends so long after it was opened, however much it is used; its client "
            "opens another one. Calls that run then are answered. 0s: it does not."},
    {.path = "server.resume_buffer",
     .type = OPTION_SIZE,
     OF_CONFIG(resume_buffer),
     .fallback = LIMIT_REPLAY_BYTES,
     .max = MIB(16),
     .doc = "What the streams of one session have said that is kept for its client to come back "
            "for, when its "
            "connection breaks: [PROTOCOL.md](PROTOCOL.md). Beyond it the oldest is forgotten. "
            "`0`: nothing is kept, "
            "and events have no ids."},
    {.path = "server.trusted_proxies",
     .type = OPTION_LIST,
     OF_CONFIG(trusted_proxies),
     .count_offset = offsetof(struct config, n_trusted_proxies),
     .check = check_network,
     .doc = "Addresses and CIDR blocks of the proxies in front of the gateway. They may say who "
            "is calling and from where (`client_identification`, `client_ip`, `proxy_protocol`), "
            "and may open any number of connections up to `server.limits.max_connections`."},
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
     OF_CONFIG(health_listen),
     .check = check_listen_address,
     .doc = "An address and port of its own for it, with the same TLS. On the main listener the "
            "path is not answered then."},

    {.path = "server.rate_limits",
     .type = OPTION_TABLE,
     .doc = "How often callers may call, in all. Each server has limits of its own beside these."},
    {.path = "server.rate_limits.enabled",
     .type = OPTION_BOOL,
     OF_CONFIG(rate_limits.enabled),
     .fallback = true,
     .doc = "`false` switches all limits off, those of servers too."},
    {.path = "server.rate_limits.global",
     .type = OPTION_TABLE,
     .doc = "HTTP requests of everybody together, but for `server.health.path`. They count before "
            "anybody is known and before their body is read; beyond the limit the answer is 429. "
            "Both keys are needed."},
    LIMIT_KEY("server.rate_limits.global", OF_CONFIG(rate_limits.global.limit),
              "Requests that pass in any window."),
    INTERVAL_KEY("server.rate_limits.global", OF_CONFIG(rate_limits.global.interval_ms)),
    {.path = "server.rate_limits.per_ip",
     .type = OPTION_TABLE,
     .doc = "The same for each address, of IPv6 for each /64. Behind a proxy, "
            "`server.client_ip` and `server.trusted_proxies` say whose address it is. Both keys "
            "are needed."},
    LIMIT_KEY("server.rate_limits.per_ip", OF_CONFIG(rate_limits.per_ip.limit),
              "Requests of one address that pass in any window."),
    INTERVAL_KEY("server.rate_limits.per_ip", OF_CONFIG(rate_limits.per_ip.interval_ms)),
    {.path = "server.rate_limits.storage",
     .type = OPTION_TABLE,
     .doc = "Where it is counted: in the gateway, or in a Redis that several gateways share."},
    {.path = STORAGE "type",
     .type = OPTION_ENUM,
     OF_STORAGE(type),
     .choices = storage_choices,
     .doc = "With `\"redis\"`, `url` says which."},
    {.path = STORAGE "url",
     .type = OPTION_STRING,
     OF_STORAGE(url),
     .secret = true,
     .check = check_storage_url,
     .before = "is no address of a Redis to use: ",
     .doc =
         "`redis://user:password@host:6379/0`, or `rediss://` for TLS. One server: Redis "
         "Cluster and Sentinel are not spoken. Best written `{{ secret.NAME }}`; never printed."},
    {.path = STORAGE "key_prefix",
     .type = OPTION_STRING,
     OF_STORAGE(key_prefix),
     .text = "nexus:rate_limit:",
     .check = check_key_prefix,
     .doc = "What keys begin with. Gateways with the same prefix count together."},
    {.path = STORAGE "on_failure",
     .type = OPTION_ENUM,
     OF_STORAGE(on_failure),
     .choices = failure_choices,
     .doc = "While Redis cannot be asked: each gateway goes by its own count, or nobody passes "
            "whom a limit is for."},
    STORAGE_ROW("response_timeout", DURATION, response_timeout_ms, SECONDS(1), 1, MINUTES(1),
                "How long an answer may take."),
    STORAGE_ROW("connection_timeout", DURATION, connection_timeout_ms, SECONDS(5), 1, MINUTES(5),
                "How long a connection may take: name, TCP and TLS together."),
    {.path = "server.rate_limits.storage.pool",
     .type = OPTION_TABLE,
     .doc = "Connections to Redis, of the whole gateway."},
    STORAGE_ROW("pool.max_size", INTEGER, pool_max_size, 16, 1, 1024, "That there are at most."),
    STORAGE_ROW("pool.min_idle", INTEGER, pool_min_idle, 0, 0, 1024,
                "That are kept open without work."),
    STORAGE_ROW("pool.timeout_create", DURATION, pool_timeout_create_ms, SECONDS(5), 1, MINUTES(5),
                "How long a new one may take, until Redis has greeted it."),
    STORAGE_ROW("pool.timeout_wait", DURATION, pool_timeout_wait_ms, SECONDS(5), 1, MINUTES(5),
                "How long a check waits for one."),
    STORAGE_ROW("pool.timeout_recycle", DURATION, pool_timeout_recycle_ms, SECONDS(300), 1,
                HOURS(24), "How long one without work is kept before it is looked at again."),
    {.path = "server.rate_limits.storage.tls", .type = OPTION_TABLE, .doc = "TLS to Redis."},
    {.path = STORAGE "tls.enabled",
     .type = OPTION_BOOL,
     OF_STORAGE(tls_enabled),
     .doc = "TLS with a `redis://` address, too; with `rediss://` there is TLS in any case."},
    {.path = STORAGE "tls.insecure",
     .type = OPTION_BOOL,
     OF_STORAGE(tls_insecure),
     .doc = "`true` takes any certificate: whoever is on the way reads the password and decides "
            "who passes."},
    STORAGE_FILE("tls.ca_cert_path", tls_ca,
                 "The authorities that are trusted, in PEM, in place of the system's."),
    STORAGE_FILE("tls.client_cert_path", tls_cert,
                 "The gateway's certificate for Redis, in PEM, with `client_key_path`."),
    STORAGE_FILE("tls.client_key_path", tls_key, "Its key."),
};
const size_t option_server_count = ARRAY_LEN(option_server_rows);
