/*
 * What is decided by the head of a request, before its body: a table of phases, each of which looks
 * at the head and goes on, answers, or waits and goes on later. The order is part of the security:
 * nothing that costs much, and nothing that tells of what is inside, stands before authentication.
 */
#include "private.h"

/* What /ready says of all upstreams. */
#define READY_BYTES MIB(8)

enum phase_verdict {
    PHASE_CONTINUE,
    PHASE_ANSWERED,
    PHASE_WAITS, /* gw_exchange_go_on() is called later */
};

/* Decides now, answers when the body was read and forgotten: so the connection stays usable. */
static enum phase_verdict answer_early(struct gw_exchange *exchange, uint16_t status,
                                       struct slice extra_fields, enum mcp_error_code code,
                                       const char *text) {
    struct buf body = BUF_INIT(KIB(2));
    mcp_write_error(&body, SLICE_EMPTY, code, slice_from_cstr(text), SLICE_EMPTY);
    gw_exchange_write_early(exchange, status, extra_fields, buf_slice(&body));
    buf_deinit(&body);
    log_write(exchange->worker->gateway->log, LOG_INFO, "http", "refused a request",
              LOG_NUM("status", status), LOG_CSTR("reason", text));
    return PHASE_ANSWERED;
}

static enum phase_verdict answer_status(struct gw_exchange *exchange, bool is_fine,
                                        struct slice body) {
    gw_exchange_write_early(exchange, is_fine ? 200 : 503, SLICE("Cache-Control: no-store\r\n"),
                            body);
    return PHASE_ANSWERED;
}

/*
 * Who proves to be a caller, from a page of ours if from any, is told of the upstreams. All others,
 * those with a wrong token too, get what a balancer needs to know.
 */
static enum phase_verdict answer_ready(struct gw_exchange *exchange, const struct http_head *head) {
    struct gateway *gateway = exchange->worker->gateway;
    struct gw_principal *principal = NULL;
    bool is_known = gw_host_is_ours(gateway, head) && gw_origin_is_ours(gateway, head) &&
                    gw_authenticate(gateway, head, &principal) == GW_AUTHN_OK;
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(READY_BYTES);
    bool is_ready = gw_write_ready(exchange->worker, is_known, &body);
    if (buf_error(&body) != 0) {
        buf_reset(&body, KIB(1));
        is_ready = gw_write_ready(exchange->worker, false, &body);
    }
    exchange->early.max = READY_BYTES + KIB(8);
    return answer_status(exchange, is_ready, buf_slice(&body));
}

/* Exempt from everything that follows, and to strangers saying nothing but alive and ready. */
static enum phase_verdict phase_health(struct gw_exchange *exchange, const struct http_head *head) {
    const struct config *config = exchange->worker->gateway->config;
    bool is_health = slice_eq(head->path, config->health_path);
    if (!config->health_enabled || (!is_health && !slice_eq(head->path, SLICE("/ready"))))
        return PHASE_CONTINUE;
    if (head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_HEAD)
        return answer_early(exchange, 405, SLICE("Allow: GET, HEAD\r\n"), MCP_E_INVALID_REQUEST,
                            "this path takes GET and HEAD");
    if (is_health)
        return answer_status(exchange, true, SLICE("{\"status\":\"healthy\"}"));
    return answer_ready(exchange, head);
}

static enum phase_verdict phase_origin(struct gw_exchange *exchange, const struct http_head *head) {
    const struct gateway *gateway = exchange->worker->gateway;
    if (!gw_host_is_ours(gateway, head))
        return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN,
                            "the Host field names another host; allow it in server.hosts");
    if (!gw_origin_is_ours(gateway, head))
        return answer_early(exchange, 403, SLICE_EMPTY, MCP_E_FORBIDDEN,
                            "requests of this Origin are refused; allow its host in server.hosts");
    return PHASE_CONTINUE;
}

/* What is begun now could not be answered. */
static enum phase_verdict phase_memory(struct gw_exchange *exchange, const struct http_head *head) {
    (void)head;
    if (!gw_shortage_of_memory(exchange->worker))
        return PHASE_CONTINUE;
    return answer_early(exchange, 503, SLICE("Retry-After: 5\r\n"), MCP_E_UNAVAILABLE,
                        "the gateway is out of memory; try again later");
}

static enum phase_verdict phase_authenticate(struct gw_exchange *exchange,
                                             const struct http_head *head) {
    switch (gw_authenticate(exchange->worker->gateway, head, &exchange->principal)) {
    case GW_AUTHN_OK:
        return PHASE_CONTINUE;
    case GW_AUTHN_MISSING:
        return answer_early(exchange, 401, SLICE("WWW-Authenticate: Bearer realm=\"cardea\"\r\n"),
                            MCP_E_UNAUTHENTICATED,
                            "a bearer token is required: Authorization: Bearer TOKEN");
    case GW_AUTHN_INVALID:
        break;
    }
    return answer_early(
        exchange, 401,
        SLICE("WWW-Authenticate: Bearer realm=\"cardea\", error=\"invalid_token\"\r\n"),
        MCP_E_UNAUTHENTICATED, "the bearer token is not valid");
}

static enum phase_verdict phase_endpoint(struct gw_exchange *exchange,
                                         const struct http_head *head) {
    struct gateway *gateway = exchange->worker->gateway;
    struct slice path = head->path, base = gateway->config->mcp_path;
    bool is_endpoint = gateway->config->mcp_enabled && slice_starts_with(path, base);
    path = slice_from(path, base.len);
    if (is_endpoint && path.len > 1 && path.ptr[0] == '/') {
        exchange->only = upstream_set_find(gateway->upstreams, slice_from(path, 1));
        is_endpoint = exchange->only != NULL;
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
    return http_head_count(head, SLICE("mcp-protocol-version")) == 1 &&
           gw_version_is_modern(http_head_get(head, SLICE("mcp-protocol-version")));
}

static bool accepts(const struct http_head *head, struct slice type) {
    /* As nearly all clients write it. */
    static const struct slice both = SLICE_INIT("application/json, text/event-stream");
    return (slice_eq(http_head_get(head, SLICE("accept")), both) &&
            http_head_count(head, SLICE("accept")) == 1) ||
           http_accepts(head, type);
}

static enum phase_verdict phase_method(struct gw_exchange *exchange, const struct http_head *head) {
    bool is_post = head->method == HTTP_METHOD_POST;
    if (!is_post && head->method != HTTP_METHOD_GET && head->method != HTTP_METHOD_DELETE)
        return answer_early(exchange, 405, SLICE("Allow: GET, POST, DELETE\r\n"),
                            MCP_E_INVALID_REQUEST, "this endpoint takes POST, GET and DELETE");
    if (!is_post && claims_modern(head))
        return answer_early(exchange, 405, SLICE("Allow: POST\r\n"), MCP_E_INVALID_REQUEST,
                            "from 2026-07-28 on this endpoint takes POST only");
    if (is_post && !slice_eq_nocase(http_content_type(head), SLICE("application/json")))
        return answer_early(exchange, 415, SLICE_EMPTY, MCP_E_UNSUPPORTED,
                            "Content-Type must be application/json");
    bool takes_events = accepts(head, SLICE("text/event-stream"));
    bool takes_json = accepts(head, SLICE("application/json"));
    if ((is_post && (!takes_events || !takes_json)) ||
        (head->method == HTTP_METHOD_GET && !takes_events))
        return answer_early(exchange, 406, SLICE_EMPTY, MCP_E_INVALID_REQUEST,
                            is_post ? "Accept must allow application/json and text/event-stream"
                                    : "Accept must allow text/event-stream");
    return PHASE_CONTINUE;
}

/* Notes the MCP header fields; they mean something only together with the body. */
static enum phase_verdict phase_mcp_fields(struct gw_exchange *exchange,
                                           const struct http_head *head) {
    struct slice session = http_head_get(head, SLICE("mcp-session-id"));
    if (session.ptr != NULL) {
        exchange->session_id_sent = true;
        exchange->session_id_malformed =
            http_head_count(head, SLICE("mcp-session-id")) != 1 ||
            slice_to_cstr(session, exchange->session_id, sizeof exchange->session_id) != 0;
    }
    struct slice version = http_head_get(head, SLICE("mcp-protocol-version"));
    if (version.ptr != NULL) {
        exchange->has_version_header = true;
        exchange->version_header = mcp_revision_parse(version);
        exchange->version_header_known = exchange->version_header != MCP_REVISION_NONE &&
                                         http_head_count(head, SLICE("mcp-protocol-version")) == 1;
        exchange->version_header_is_modern = claims_modern(head);
    }
    return PHASE_CONTINUE;
}

struct head_phase {
    const char *name;
    enum phase_verdict (*run)(struct gw_exchange *exchange, const struct http_head *head);
};

static const struct head_phase head_phases[] = {
    {"health", phase_health},         {"origin", phase_origin},
    {"memory", phase_memory},         {"authenticate", phase_authenticate},
    {"endpoint", phase_endpoint},     {"method", phase_method},
    {"mcp fields", phase_mcp_fields},
};

/* A client that waits for "100 Continue" gets the refusal in its place, at once. */
static void answer_expectation(struct gw_exchange *exchange) {
    struct gw_connection *connection = exchange->connection;
    exchange->is_answered = true;
    struct slice early = buf_slice(&exchange->early);
    if (gw_connection_write(connection, &early, 1))
        gw_connection_close(connection);
}

/* The head is fine. */
static void welcome_body(struct gw_exchange *exchange, const struct http_head *head) {
    static const struct slice go_on = SLICE_INIT("HTTP/1.1 100 Continue\r\n\r\n");
    exchange->keep_alive = head->keep_alive;
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

void gw_exchange_head(struct gw_exchange *exchange, const struct http_head *head) {
    exchange->method = head->method;
    exchange->is_http10 = head->minor_version == 0;
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
    if (exchange->is_whole && !connection->closes)
        gw_exchange_run(exchange);
}
