/* Records of what is no call (record.h): requests that were refused, streams, logins; and counts of
 * what strangers were denied. */
#include <stdio.h>

#include "base/clock.h"
#include "private.h"

static bool is_lower_hex(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

/* "00-", 32 digits, "-", 16 digits, "-", 2 digits; later versions may have more behind that (W3C
 * Trace Context, section 3.2). */
struct slice gw_record_trace(struct slice traceparent) {
    enum { FROM = 3, END = 35, LEN = 55 };
    static const char none[] = "00000000000000000000000000000000";
    struct slice version = slice_sub(traceparent, 0, 2);
    struct slice trace = slice_sub(traceparent, FROM, END);
    bool is_first = slice_eq(version, SLICE("00"));
    if (traceparent.len < LEN || (is_first && traceparent.len != LEN) ||
        slice_eq(version, SLICE("ff")) || !is_lower_hex(version) || !is_lower_hex(trace) ||
        traceparent.ptr[2] != '-' || traceparent.ptr[END] != '-' ||
        slice_eq(trace, slice_from_cstr(none)))
        return SLICE_EMPTY;
    return trace;
}

static struct slice kind_name(enum auth_kind kind) {
    switch (kind) {
    case AUTH_ANONYMOUS:
        return SLICE("none");
    case AUTH_LOCAL:
        return SLICE("local");
    case AUTH_TOKEN:
        return SLICE("token");
    case AUTH_USER:
        return SLICE("user");
    case AUTH_OAUTH:
        return SLICE("oauth");
    case AUTH_CERTIFICATE:
        return SLICE("certificate");
    }
    return SLICE_EMPTY;
}

void gw_record_write_who(struct gw_exchange *exchange, struct slice client, struct slice trace,
                         struct buf *out) {
    const struct auth_identity *identity = exchange->caller->identity;
    struct slice session =
        exchange->session != NULL ? slice_from_cstr(exchange->session->id) : SLICE_EMPTY;
    /* Of a user the name without the part of the id: whoever looks for "user:ann" finds it. */
    size_t len = identity->principal.len;
    if (identity->kind == AUTH_USER)
        len = slice_find_byte(identity->principal, '~');
    struct audit_who who = {
        .user = slice_sub(identity->principal, 0, len),
        .groups = identity->groups,
        .n_groups = identity->n_groups,
        .authentication = kind_name(identity->kind),
        .token = identity->token_id,
        .client = client,
        .address = &exchange->client,
        .session = mcp_session_shown(session),
        .trace = trace,
    };
    audit_write_who(exchange->worker->audit_writer, out, &who);
}

/* Everything but the beginning. */
static void submit(struct gw_worker *worker, const char *event, const struct buf *sections) {
    struct buf begin CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    audit_write_begin(&begin, event, clock_wall_us(), SLICE_EMPTY);
    struct slice pieces[] = {buf_slice(&begin), buf_slice(sections)};
    if (buf_error(&begin) == 0 && buf_error(sections) == 0)
        (void)!audit_submit(worker->audit, pieces, ARRAY_LEN(pieces), NULL); /* counted there */
}

void gw_record_stranger(struct gw_worker *worker, const struct network *address,
                        const char *reason) {
    if (worker->audit == NULL)
        return;
    audit_count_requests(worker->audit, 1);
    audit_deny(worker->audit, address, reason);
}

static void write_request(struct gw_exchange *exchange, struct buf *out) {
    static const struct slice names[] = {
        [HTTP_METHOD_GET] = SLICE_INIT("GET"),       [HTTP_METHOD_HEAD] = SLICE_INIT("HEAD"),
        [HTTP_METHOD_POST] = SLICE_INIT("POST"),     [HTTP_METHOD_PUT] = SLICE_INIT("PUT"),
        [HTTP_METHOD_DELETE] = SLICE_INIT("DELETE"), [HTTP_METHOD_OPTIONS] = SLICE_INIT("OPTIONS"),
    };
    const struct http_head *head = gw_exchange_fields(exchange);
    struct audit_what what = {
        .method = exchange->method < ARRAY_LEN(names) && names[exchange->method].len != 0
                      ? names[exchange->method]
                      : SLICE("other"),
        .operation = head != NULL ? head->path : SLICE_EMPTY,
    };
    struct slice trace =
        head != NULL ? gw_record_trace(http_head_get(head, SLICE("traceparent"))) : SLICE_EMPTY;
    struct slice client =
        exchange->session != NULL ? slice_from_cstr(exchange->session->client) : SLICE_EMPTY;
    gw_record_write_who(exchange, client, trace, out);
    audit_write_what(exchange->worker->audit_writer, out, &what);
}

void gw_record_refused(struct gw_exchange *exchange, uint16_t status, const char *reason,
                       struct slice text) {
    struct gw_worker *worker = exchange->worker;
    if (worker->audit == NULL)
        return;
    if (exchange->caller == NULL) {
        audit_deny(worker->audit, &exchange->client, reason);
        return;
    }
    struct buf sections CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    struct audit_decided decided = {
        .decision = SLICE("denied"), .rule = slice_from_cstr(reason), .reason = text};
    struct audit_result result = {.status = SLICE("refused"),
                                  .http_status = status,
                                  .upstream_status = AUDIT_NONE,
                                  .bytes = AUDIT_NONE,
                                  .duration_us = AUDIT_NONE};
    write_request(exchange, &sections);
    audit_write_decision(worker->audit_writer, &sections, &decided);
    audit_write_result(worker->audit_writer, &sections, &result);
    submit(worker, "request", &sections);
}

void gw_record_done(struct gw_exchange *exchange, const char *event) {
    if (exchange->worker->audit == NULL)
        return;
    struct buf sections CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    struct audit_decided decided = {.decision = SLICE("allowed")};
    write_request(exchange, &sections);
    audit_write_decision(exchange->worker->audit_writer, &sections, &decided);
    submit(exchange->worker, event, &sections);
}

void gw_record_login(struct gw_exchange *exchange) {
    gw_record_done(exchange, "login");
}

void gw_record_event(struct gateway *gateway, const char *event,
                     void (*write)(struct audit_writer *writer, struct buf *out,
                                   const void *context),
                     const void *context) {
    struct gw_worker *worker = &gateway->workers[0];
    if (worker->audit == NULL)
        return;
    struct buf sections CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    write(worker->audit_writer, &sections, context);
    submit(worker, event, &sections);
}

struct configuring {
    const struct config *config; /* NULL: it could not be read */
    const char *action, *error;
    struct slice changes;
    const struct config_pair *variable;
};

static void write_configuration(struct audit_writer *writer, struct buf *out, const void *context) {
    const struct configuring *configuring = context;
    audit_write_text(writer, out, SLICE("action"), slice_from_cstr(configuring->action));
    if (configuring->config != NULL)
        audit_write_text(writer, out, SLICE("file"), configuring->config->path);
    audit_write_text(writer, out, SLICE("status"),
                     configuring->error == NULL ? SLICE("ok") : SLICE("refused"));
    if (configuring->error != NULL)
        audit_write_text(writer, out, SLICE("message"), slice_from_cstr(configuring->error));
    if (configuring->changes.len != 0 && configuring->changes.len < LIMIT_AUDIT_BODY / 2)
        audit_write_raw(out, SLICE("changes"), configuring->changes);
}

static void write_variable(struct audit_writer *writer, struct buf *out, const void *context) {
    const struct configuring *configuring = context;
    audit_write_text(writer, out, SLICE("operation"), configuring->variable->value);
    audit_write_text(writer, out, SLICE("option"), configuring->variable->key);
}

void gateway_record_configuration(struct gateway *gateway, const struct config *config,
                                  const char *action, struct slice changes, const char *error) {
    struct configuring configuring = {
        .config = config, .action = action, .error = error, .changes = changes};
    gw_record_event(gateway, "configuration", write_configuration, &configuring);
    for (size_t i = 0; config != NULL && error == NULL && i < config->n_variables; i++) {
        configuring.variable = &config->variables[i];
        gw_record_event(gateway, "secret", write_variable, &configuring);
    }
}

struct getting {
    const struct config_server *server;
    struct slice issuer;
    uint64_t lifetime_ms;
    const char *reason;
};

static void write_getting(struct audit_writer *writer, struct buf *out, const void *context) {
    const struct getting *getting = context;
    bool is_exchange = getting->server->auth_type == CONFIG_UPSTREAM_AUTH_EXCHANGE;
    audit_write_text(writer, out, SLICE("upstream"), getting->server->name);
    audit_write_text(writer, out, SLICE("operation"),
                     is_exchange ? SLICE("exchange") : SLICE("client_credentials"));
    audit_write_text(writer, out, SLICE("issuer"), getting->issuer);
    audit_write_text(writer, out, SLICE("status"),
                     getting->reason == NULL ? SLICE("ok") : SLICE("error"));
    if (getting->reason != NULL)
        audit_write_text(writer, out, SLICE("message"), slice_from_cstr(getting->reason));
    else
        audit_write_number(out, SLICE("expires_in_s"), getting->lifetime_ms / 1000);
}

void gw_record_token(void *context, const struct config_server *server, struct slice issuer,
                     uint64_t lifetime_ms, const char *reason) {
    struct getting getting = {server, issuer, lifetime_ms, reason};
    gw_record_event(context, "token", write_getting, &getting);
}
