/*
 * What is decided by the head of a request, before its body: a table of phases, each of which looks
 * at the head and goes on, answers, or waits and goes on later. The order is part of the security:
 * nothing that costs much, and nothing that tells of what is inside, stands before authentication.
 *
 * What a browser does on its own comes first, on every path: preflights, which carry neither
 * credentials nor fields of ours, then the field that no page of a stranger can send, then tokens
 * in URLs.
 */
#include <stdio.h>

#include "private.h"

/* What /ready says of all upstreams. */
#define READY_BYTES MIB(8)
/* A refusal; its challenge may name scopes. */
#define EARLY_BYTES KIB(64)
/* All scopes of the configuration. */
#define METADATA_BYTES MIB(8)
/* The fields of a preflight's answer. */
#define CORS_BYTES KIB(256)

enum phase_verdict {
    PHASE_CONTINUE,
    PHASE_ANSWERED,
    PHASE_WAITS, /* gw_exchange_go_on() is called later */
};

static const char *phase_name(const struct gw_exchange *exchange);

/* Decides now, answers when the body was read and forgotten: so the connection stays usable. The
 * record has `reason`. */
static enum phase_verdict refuse_early(struct gw_exchange *exchange, uint16_t status,
                                       struct slice extra_fields, enum mcp_error_code code,
                                       const char *reason, const char *text) {
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(KIB(2));
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(EARLY_BYTES / 2);
    mcp_write_error(&body, SLICE_EMPTY, code, slice_from_cstr(text), SLICE_EMPTY);
    buf_append(&fields, extra_fields);
    if (status == 403 && extra_fields.len == 0) /* as a challenge has it: it depends on who asks */
        buf_append_cstr(&fields, "Cache-Control: no-store\r\n");
    exchange->early.max = EARLY_BYTES;
    gw_exchange_write_early(exchange, status, buf_slice(&fields), buf_slice(&body));
    gw_door_tell_refusal(exchange->worker, status, slice_from_cstr(text), &exchange->client);
    exchange->n_asked = 1;
    gw_record_refused(exchange, status, reason, slice_from_cstr(text));
    return PHASE_ANSWERED;
}

/* By the phase that is at work. */
static enum phase_verdict answer_early(struct gw_exchange *exchange, uint16_t status,
                                       struct slice extra_fields, enum mcp_error_code code,
                                       const char *text) {
    return refuse_early(exchange, status, extra_fields, code, phase_name(exchange), text);
}

static enum phase_verdict answer_status(struct gw_exchange *exchange, bool is_fine,
                                        struct slice body) {
    gw_exchange_write_early(exchange, is_fine ? 200 : 503, SLICE("Cache-Control: no-store\r\n"),
                            body);
    return PHASE_ANSWERED;
}

/* What every request needs of an issuer's token, whatever it asks for. */
static bool has_needed_scopes(const struct gw_exchange *exchange) {
    const struct config_oauth *oauth = &exchange->worker->config->oauth;
    const struct auth_identity *identity = exchange->caller->identity;
    return identity->kind != AUTH_OAUTH ||
           auth_has_scopes(identity, oauth->scopes, oauth->n_scopes);
}

/*
 * Who proves to be a caller, from a page of ours if from any, is told of the upstreams that it may
 * use. All others, those with a wrong token too, get what a balancer needs to know.
 */
static enum phase_verdict answer_ready(struct gw_exchange *exchange, const struct http_head *head) {
    const struct border *border = exchange->worker->border;
    struct auth_answer answer;
    bool is_known = border_host_is_ours(border, head) &&
                    (exchange->is_cors || border_origin_is_ours(border, head)) &&
                    gw_authenticate(exchange, head, true, &answer) == AUTH_OK &&
                    has_needed_scopes(exchange);
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(READY_BYTES);
    bool is_ready =
        gw_write_ready(exchange->worker, is_known ? exchange->caller->identity : NULL, &body);
    if (buf_error(&body) != 0) {
        buf_reset(&body, KIB(1));
        is_ready = gw_write_ready(exchange->worker, NULL, &body);
    }
    exchange->early.max = READY_BYTES + KIB(8);
    return answer_status(exchange, is_ready, buf_slice(&body));
}

/*
 * [server.cors]. A preflight asks for what comes after it, so it is answered whatever that will be;
 * one of an origin that is not allowed gets no fields, and browsers take that for a no.
 */
static enum phase_verdict phase_cors(struct gw_exchange *exchange, const struct http_head *head) {
    const struct border *border = exchange->worker->border;
    if (LIKELY(!border->cors.is_set))
        return PHASE_CONTINUE;
    exchange->is_cors = http_head_count(head, SLICE("origin")) == 1 &&
                        cors_allows(&border->cors, http_head_get(head, SLICE("origin")));
    if (!cors_is_preflight(head))
        return PHASE_CONTINUE;
    if (!exchange->is_cors || !border_host_is_ours(border, head))
        return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN,
                            "requests of this Origin are refused; allow it in "
                            "server.cors.allow_origins");
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(CORS_BYTES);
    cors_write_preflight(&border->cors, head, &fields);
    exchange->early.max = CORS_BYTES + KIB(8);
    gw_exchange_write_early(exchange, 204, buf_slice(&fields), SLICE_EMPTY);
    return PHASE_ANSWERED;
}

/*
 * [server.csrf]. A page can send the field only where a preflight lets it; its value says nothing.
 * What asks the listener for health checks is no browser.
 */
static enum phase_verdict phase_csrf(struct gw_exchange *exchange, const struct http_head *head) {
    const struct config_csrf *csrf = &exchange->worker->config->csrf;
    if (LIKELY(!csrf->enabled) || head->method == HTTP_METHOD_OPTIONS ||
        exchange->connection->is_health_only || http_head_count(head, csrf->header_name) != 0)
        return PHASE_CONTINUE;
    char text[KIB(1)];
    snprintf(text, sizeof text, "the header field %.*s is missing; its value does not matter",
             SLICE_ARGS(csrf->header_name));
    return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN, text);
}

static int hex_digit(char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte = (char)(byte | 0x20);
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The name is this one after percent-decoding, without case. */
static bool is_parameter(struct slice name, struct slice wanted) {
    size_t n = 0;
    for (size_t i = 0; i < name.len; i++, n++) {
        char byte = name.ptr[i];
        if (byte == '%' && name.len - i > 2 && hex_digit(name.ptr[i + 1]) >= 0 &&
            hex_digit(name.ptr[i + 2]) >= 0) {
            byte = (char)(hex_digit(name.ptr[i + 1]) * 16 + hex_digit(name.ptr[i + 2]));
            i += 2;
        }
        if (n == wanted.len || !slice_same_nocase(&byte, wanted.ptr + n, 1))
            return false;
    }
    return n == wanted.len;
}

/* URLs are in logs, histories and Referer fields: MCP (basic/authorization) and OAuth 2.1 section
 * 5.1 forbid tokens there. */
static enum phase_verdict phase_query(struct gw_exchange *exchange, const struct http_head *head) {
    struct slice rest = head->query;
    while (UNLIKELY(rest.len != 0)) {
        struct slice parameter, name, value;
        size_t end = 0;
        while (end < rest.len && rest.ptr[end] != '&' && rest.ptr[end] != ';')
            end++;
        parameter = slice_sub(rest, 0, end);
        rest = slice_from(rest, end + 1);
        slice_cut(parameter, '=', &name, &value);
        if (is_parameter(name, SLICE("access_token")))
            return answer_early(exchange, 400, SLICE_EMPTY, MCP_E_INVALID_REQUEST,
                                "a token in a URL is refused, and known to others now: send it as "
                                "Authorization: Bearer TOKEN");
    }
    return PHASE_CONTINUE;
}

static bool is_health_path(const struct config *config, struct slice path) {
    return slice_eq(path, config->health_path) || slice_eq(path, SLICE("/ready"));
}

/* The listener for health checks serves nothing else. */
static enum phase_verdict phase_listener(struct gw_exchange *exchange,
                                         const struct http_head *head) {
    if (!exchange->connection->is_health_only ||
        is_health_path(exchange->worker->config, head->path))
        return PHASE_CONTINUE;
    return answer_early(exchange, 404, SLICE_EMPTY, MCP_E_NOT_FOUND,
                        "there is nothing at this path");
}

static bool is_health_request(const struct gw_exchange *exchange, const struct http_head *head) {
    const struct config *config = exchange->worker->config;
    bool is_here = config->health_listen.len == 0 || exchange->connection->is_health_only;
    return config->health_enabled && is_here && is_health_path(config, head->path);
}

/* Exempt from everything that follows, and to strangers saying nothing but alive and ready. */
static enum phase_verdict phase_health(struct gw_exchange *exchange, const struct http_head *head) {
    const struct config *config = exchange->worker->config;
    if (!is_health_request(exchange, head))
        return PHASE_CONTINUE;
    bool is_health = slice_eq(head->path, config->health_path);
    if (head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_HEAD)
        return answer_early(exchange, 405, SLICE("Allow: GET, HEAD\r\n"), MCP_E_INVALID_REQUEST,
                            "this path takes GET and HEAD");
    if (is_health)
        return answer_status(exchange, true, SLICE("{\"status\":\"healthy\"}"));
    return answer_ready(exchange, head);
}

static enum phase_verdict phase_origin(struct gw_exchange *exchange, const struct http_head *head) {
    const struct border *border = exchange->worker->border;
    if (!border_host_is_ours(border, head))
        return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN,
                            "the Host field names another host; allow it in server.hosts");
    if (!exchange->is_cors && !border_origin_is_ours(border, head))
        return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN,
                            "requests of this Origin are refused; allow it in "
                            "server.cors.allow_origins");
    return PHASE_CONTINUE;
}

/* For everybody who has found us. Nothing else is at these paths, whoever asks. */
static enum phase_verdict phase_metadata(struct gw_exchange *exchange,
                                         const struct http_head *head) {
    if (LIKELY(!slice_starts_with(head->path, SLICE("/.well-known/"))))
        return PHASE_CONTINUE;
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(METADATA_BYTES);
    if (!gw_write_metadata(exchange->worker, head->path, &body))
        return answer_early(exchange, 404, SLICE_EMPTY, MCP_E_NOT_FOUND,
                            "there is nothing at this path");
    if (head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_HEAD)
        return answer_early(exchange, 405, SLICE("Allow: GET, HEAD\r\n"), MCP_E_INVALID_REQUEST,
                            "this path takes GET and HEAD");
    exchange->early.max = METADATA_BYTES + KIB(8);
    gw_exchange_write_early(exchange, 200, SLICE("Cache-Control: public, max-age=300\r\n"),
                            buf_slice(&body));
    return PHASE_ANSWERED;
}

/*
 * Before anybody knows who calls, and before a byte of the body: so that nobody can make the
 * gateway prove signatures or read bodies as often as they like. What asks for health is exempt: a
 * balancer must not take a busy gateway for a dead one.
 */
static enum phase_verdict phase_limits(struct gw_exchange *exchange, const struct http_head *head) {
    struct gw_units units UNCLEARED;
    char field[48];
    /* With credentials it asks for more than health, and they have to be proved. */
    if (is_health_request(exchange, head) &&
        http_head_get(head, SLICE("authorization")).ptr == NULL)
        return PHASE_CONTINUE;
    exchange->is_hurried = true;
    switch (gw_exchange_take_units(exchange, &units)) {
    case LIMITS_PASS:
        exchange->is_hurried = false;
        return PHASE_CONTINUE;
    case LIMITS_WAITS:
        return PHASE_WAITS;
    case LIMITS_UNAVAILABLE:
        return answer_early(exchange, 503, SLICE("Retry-After: 5\r\n"), MCP_E_UNAVAILABLE,
                            "how often this may be called cannot be counted now "
                            "(server.rate_limits.storage); try again later");
    case LIMITS_EXCEEDED:
        break;
    }
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    policy_write_limited(&text, &units.charges[units.answer.charge], units.answer.wait_ms);
    buf_append_byte(&text, '\0');
    snprintf(field, sizeof field, "Retry-After: %llu\r\n",
             (unsigned long long)gw_units_seconds(units.answer.wait_ms));
    return answer_early(exchange, 429, slice_from_cstr(field), MCP_E_BUSY,
                        buf_error(&text) == 0 ? buf_slice(&text).ptr : "too many requests");
}

/* What is begun now could not be answered. */
static enum phase_verdict phase_memory(struct gw_exchange *exchange, const struct http_head *head) {
    (void)head;
    if (!gw_shortage_of_memory(exchange->worker))
        return PHASE_CONTINUE;
    return answer_early(exchange, 503, SLICE("Retry-After: 5\r\n"), MCP_E_UNAVAILABLE,
                        "the gateway is out of memory; try again later");
}

static enum phase_verdict refuse_caller(struct gw_exchange *exchange, const struct http_head *head,
                                        enum auth_verdict verdict, const char *reason) {
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    switch (verdict) {
    case AUTH_MISSING:
        gw_challenge_write(&fields, exchange->worker, head->path, NULL, NULL, 0);
        return refuse_early(exchange, 401, buf_slice(&fields), MCP_E_UNAUTHENTICATED,
                            "no credential", reason);
    case AUTH_MALFORMED:
        gw_challenge_write(&fields, exchange->worker, head->path, "invalid_request", NULL, 0);
        return refuse_early(exchange, 400, buf_slice(&fields), MCP_E_INVALID_REQUEST,
                            "malformed credential", reason);
    case AUTH_NO_CLIENT:
    case AUTH_BAD_GROUP:
        return refuse_early(exchange, 400, SLICE_EMPTY, MCP_E_FORBIDDEN, "identification", reason);
    case AUTH_NO_MEMORY:
        return refuse_early(exchange, 503, SLICE("Retry-After: 5\r\n"), MCP_E_UNAVAILABLE, "memory",
                            reason);
    case AUTH_OK:
    case AUTH_INVALID:
    case AUTH_NEEDS_KEYS:
        break;
    }
    gw_challenge_write(&fields, exchange->worker, head->path, "invalid_token", NULL, 0);
    return refuse_early(exchange, 401, buf_slice(&fields), MCP_E_UNAUTHENTICATED,
                        "invalid credential", reason);
}

static enum phase_verdict phase_authenticate(struct gw_exchange *exchange,
                                             const struct http_head *head) {
    struct auth_answer answer;
    enum auth_verdict verdict = gw_authenticate(exchange, head, exchange->has_waited, &answer);
    if (verdict == AUTH_NEEDS_KEYS) {
        if (gw_authn_wait(exchange, &answer))
            return PHASE_WAITS;
        verdict = gw_authenticate(exchange, head, true, &answer);
    }
    return verdict == AUTH_OK ? PHASE_CONTINUE
                              : refuse_caller(exchange, head, verdict, answer.reason);
}

static enum phase_verdict phase_scopes(struct gw_exchange *exchange, const struct http_head *head) {
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    if (has_needed_scopes(exchange))
        return PHASE_CONTINUE;
    gw_challenge_write(&fields, exchange->worker, head->path, "insufficient_scope", NULL, 0);
    return answer_early(exchange, 403, buf_slice(&fields), MCP_E_FORBIDDEN,
                        "the token lacks a scope that every request needs (server.oauth.scopes)");
}

static enum phase_verdict phase_endpoint(struct gw_exchange *exchange,
                                         const struct http_head *head) {
    const struct config *config = exchange->worker->config;
    struct slice base = config->mcp_path;
    struct slice path = config_endpoint_of(config, head->path, &exchange->door);
    bool is_endpoint = config->mcp_enabled && slice_starts_with(path, base);
    path = slice_from(path, base.len);
    if (is_endpoint && path.len > 1 && path.ptr[0] == '/') {
        struct upstream *only =
            upstream_list_find(exchange->worker->list, slice_from(path, 1), NULL);
        /* One that the caller may not use does not exist. */
        is_endpoint = only != NULL && gw_policy_server(exchange->worker, slice_from(path, 1),
                                                       exchange->caller->identity) != NULL;
        if (is_endpoint)
            exchange->only = upstream_ref(only);
    } else if (path.len != 0) {
        is_endpoint = false;
    }
    if (is_endpoint)
        return PHASE_CONTINUE;
    return answer_early(exchange, 404, SLICE_EMPTY, MCP_E_NOT_FOUND,
                        "there is nothing at this path");
}

/* One field, and it names a revision without sessions. */
static bool claims_modern(const struct http_head *head) {
    struct slice version;
    return http_head_find(head, SLICE("mcp-protocol-version"), &version) == 1 &&
           gw_version_is_modern(version);
}

/* As nearly all clients write it. */
static bool accepts_as_usual(const struct http_head *head) {
    struct slice accept;
    return http_head_find(head, SLICE("accept"), &accept) == 1 &&
           slice_eq(accept, SLICE("application/json, text/event-stream"));
}

static bool accepts(const struct http_head *head, struct slice type) {
    return accepts_as_usual(head) || http_accepts(head, type);
}

static bool has_json(const struct http_head *head) {
    return slice_eq_nocase(http_content_type(head), SLICE("application/json"));
}

static enum phase_verdict refuse_method(struct gw_exchange *exchange, struct slice allow,
                                        const char *text) {
    return answer_early(exchange, 405, allow, MCP_E_INVALID_REQUEST, text);
}

static enum phase_verdict refuse_type(struct gw_exchange *exchange) {
    return answer_early(exchange, 415, SLICE_EMPTY, MCP_E_UNSUPPORTED,
                        "Content-Type must be application/json");
}

/* HTTP+SSE. A POST to the stream's address is refused with 405, by which clients that try
 * Streamable HTTP first learn to open the stream (MCP 2025-03-26, backwards compatibility). */
static enum phase_verdict check_sse_method(struct gw_exchange *exchange,
                                           const struct http_head *head) {
    if (exchange->door == CONFIG_DOOR_SSE) {
        if (head->method != HTTP_METHOD_GET)
            return refuse_method(exchange, SLICE("Allow: GET\r\n"),
                                 "the stream of HTTP+SSE is opened with GET; Streamable HTTP is at "
                                 "the address without /sse");
        if (!accepts(head, SLICE("text/event-stream")))
            return answer_early(exchange, 406, SLICE_EMPTY, MCP_E_INVALID_REQUEST,
                                "Accept must allow text/event-stream");
        return PHASE_CONTINUE;
    }
    if (head->method != HTTP_METHOD_POST)
        return refuse_method(exchange, SLICE("Allow: POST\r\n"),
                             "messages of HTTP+SSE are sent with POST");
    if (!has_json(head))
        return refuse_type(exchange);
    return PHASE_CONTINUE;
}

static enum phase_verdict phase_method(struct gw_exchange *exchange, const struct http_head *head) {
    bool is_post = head->method == HTTP_METHOD_POST;
    if (exchange->door != CONFIG_DOOR_HTTP)
        return check_sse_method(exchange, head);
    if (!is_post && head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_DELETE)
        return refuse_method(exchange, SLICE("Allow: GET, POST, DELETE\r\n"),
                             "this endpoint takes POST, GET and DELETE");
    if (!is_post && claims_modern(head))
        return refuse_method(exchange, SLICE("Allow: POST\r\n"),
                             "from 2026-07-28 on this endpoint takes POST only");
    if (is_post && !has_json(head))
        return refuse_type(exchange);
    bool is_usual = accepts_as_usual(head);
    bool takes_events = is_usual || http_accepts(head, SLICE("text/event-stream"));
    bool takes_json = is_usual || http_accepts(head, SLICE("application/json"));
    if ((is_post && (!takes_events || !takes_json)) ||
        (head->method == HTTP_METHOD_GET && !takes_events))
        return answer_early(exchange, 406, SLICE_EMPTY, MCP_E_INVALID_REQUEST,
                            is_post ? "Accept must allow application/json and text/event-stream"
                                    : "Accept must allow text/event-stream");
    return PHASE_CONTINUE;
}

/* The session that a URL of an `endpoint` event names, as we wrote it. */
static struct slice session_of_query(struct slice query, size_t *ret_n) {
    struct slice session = SLICE_EMPTY;
    *ret_n = 0;
    while (query.len != 0) {
        struct slice parameter, name, value;
        size_t end = slice_find_byte(query, '&');
        parameter = slice_sub(query, 0, end);
        query = end != SIZE_MAX ? slice_from(query, end + 1) : SLICE_EMPTY;
        if (!slice_cut(parameter, '=', &name, &value) || !slice_eq(name, SLICE("sessionId")))
            continue;
        session = value;
        ++*ret_n;
    }
    return session;
}

/* Notes the MCP header fields; they mean something only together with the body. */
static enum phase_verdict phase_mcp_fields(struct gw_exchange *exchange,
                                           const struct http_head *head) {
    struct slice session, version;
    size_t n_sessions = http_head_find(head, SLICE("mcp-session-id"), &session);
    if (exchange->door != CONFIG_DOOR_HTTP)
        session = session_of_query(head->query, &n_sessions);
    if (n_sessions != 0) {
        exchange->session_id_sent = true;
        exchange->session_id_malformed =
            n_sessions != 1 ||
            slice_to_cstr(session, exchange->session_id, sizeof exchange->session_id) != 0;
    }
    size_t n_versions = http_head_find(head, SLICE("mcp-protocol-version"), &version);
    if (n_versions != 0) {
        exchange->has_version_header = true;
        exchange->version_header = mcp_revision_parse(version);
        exchange->version_header_known =
            exchange->version_header != MCP_REVISION_NONE && n_versions == 1;
        exchange->version_header_is_modern = n_versions == 1 && gw_version_is_modern(version);
    }
    return PHASE_CONTINUE;
}

struct head_phase {
    const char *name;
    enum phase_verdict (*run)(struct gw_exchange *exchange, const struct http_head *head);
};

static const struct head_phase head_phases[] = {
    {"listener", phase_listener}, {"limits", phase_limits},
    {"cors", phase_cors},         {"csrf", phase_csrf},
    {"query", phase_query},       {"health", phase_health},
    {"origin", phase_origin},     {"metadata", phase_metadata},
    {"memory", phase_memory},     {"authenticate", phase_authenticate},
    {"scopes", phase_scopes},     {"endpoint", phase_endpoint},
    {"method", phase_method},     {"mcp fields", phase_mcp_fields},
};

static const char *phase_name(const struct gw_exchange *exchange) {
    return head_phases[exchange->phase].name;
}

/* A client that waits for "100 Continue" gets the refusal in its place, at once. */
static void answer_expectation(struct gw_exchange *exchange) {
    struct gw_connection *connection = exchange->connection;
    exchange->is_answered = true;
    struct slice early = buf_slice(&exchange->early);
    if (gw_connection_write(connection, &early, 1))
        gw_connection_close(connection);
}

/* Its head says that the connection goes on, and says now that it does not. */
void gw_exchange_hurry(struct gw_exchange *exchange) {
    struct gw_connection *connection = exchange->connection;
    struct slice early = buf_slice(&exchange->early);
    size_t line = slice_find_byte(early, '\n') + 1;
    struct slice pieces[] = {slice_sub(early, 0, line), SLICE("Connection: close\r\n"),
                             slice_from(early, line)};
    exchange->is_answered = true;
    if (gw_connection_write(connection, pieces, ARRAY_LEN(pieces)))
        gw_connection_close(connection);
}

/* The head is fine. */
static void welcome_body(struct gw_exchange *exchange, const struct http_head *head) {
    static const struct slice go_on = SLICE_INIT("HTTP/1.1 100 Continue\r\n\r\n");
    exchange->keep_alive = head->keep_alive;
    exchange->judged_ms = io_loop_now(exchange->worker->loop);
    if (head->expect_continue && exchange->connection != NULL)
        (void)!gw_connection_write(exchange->connection, &go_on, 1);
}

/* From the phase `exchange->phase` on. */
static void run_phases(struct gw_exchange *exchange, const struct http_head *head) {
    for (; exchange->phase < ARRAY_LEN(head_phases); exchange->phase++) {
        const struct head_phase *phase = &head_phases[exchange->phase];
        enum phase_verdict verdict = phase->run(exchange, head);
        if (verdict == PHASE_CONTINUE)
            continue;
        exchange->is_waiting = verdict == PHASE_WAITS;
        if (exchange->is_waiting)
            return;
        log_write(exchange->worker->gateway->log, LOG_DEBUG, "http", "answered by phase",
                  LOG_CSTR("phase", phase->name), LOG_TEXT("path", head->path));
        exchange->is_refused = true;
        if (buf_error(&exchange->early) != 0)
            gw_connection_abort(exchange->connection); /* no memory to say why */
        else if (head->expect_continue)
            answer_expectation(exchange);
        return;
    }
    welcome_body(exchange, head);
}

/* Who asks, and whether the one who talks to us speaks for others. */
static void find_client(struct gw_exchange *exchange, const struct http_head *head) {
    const struct border *border = exchange->worker->border;
    /* Whom a PROXY header names is who speaks HTTP: the balancer in between saw no field of it. */
    const struct network *peer = &exchange->connection->client;
    exchange->is_from_proxy = border_trusts(border, peer);
    exchange->client = exchange->is_from_proxy ? border_client(border, head, peer) : *peer;
}

void gw_exchange_head(struct gw_exchange *exchange, const struct http_head *head) {
    exchange->method = head->method;
    exchange->is_http10 = head->minor_version == 0;
    find_client(exchange, head);
    /* Whether a refused body comes nevertheless is not known: the connection ends (RFC 9110 section
     * 10.1.1). */
    exchange->keep_alive = head->keep_alive && !head->expect_continue;
    run_phases(exchange, head);
    if (exchange->is_waiting)
        gw_connection_hold(exchange->connection, true);
}

void gw_exchange_go_on(struct gw_exchange *exchange) {
    struct gw_connection *connection = exchange->connection;
    exchange->is_waiting = false;
    run_phases(exchange, http_parser_head(connection->parser));
    if (exchange->is_waiting)
        return;
    gw_connection_hold(connection, false);
    if (connection->closes)
        return;
    if (exchange->is_whole)
        gw_exchange_run(exchange);
    else if (exchange->is_refused && exchange->is_hurried && !exchange->is_answered)
        gw_exchange_hurry(exchange);
}
