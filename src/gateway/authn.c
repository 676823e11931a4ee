/*
 * Who is calling: the credentials of a request, taken from its head and its connection, for auth/
 * to judge. A connection remembers whom it was last: the same credential again is compared, not
 * looked up. Where an issuer's keys have to be fetched first the request waits, and so does what
 * its connection sends behind it.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

struct gw_authn_wait {
    struct oauth_wait keys;
    struct list_link link; /* in worker->authn_waits */
    struct gw_exchange *exchange;
    bool is_cancelled; /* the message is under way; its delivery frees this */
};

static size_t find_field(void *context, struct slice name, struct slice *ret_value) {
    const struct http_head *head = context;
    *ret_value = http_head_get(head, name);
    return http_head_count(head, name);
}

static enum io_tls_name name_kind(enum config_client_identity identity) {
    switch (identity) {
    case CONFIG_IDENTITY_SUBJECT:
        return IO_TLS_SUBJECT;
    case CONFIG_IDENTITY_COMMON_NAME:
        return IO_TLS_COMMON_NAME;
    case CONFIG_IDENTITY_SAN_DNS:
        return IO_TLS_SAN_DNS;
    case CONFIG_IDENTITY_SAN_EMAIL:
        return IO_TLS_SAN_EMAIL;
    case CONFIG_IDENTITY_SAN_URI:
        return IO_TLS_SAN_URI;
    }
    return IO_TLS_SUBJECT;
}

/* What its answers travel on. */
static struct gw_connection *connection_of(const struct gw_exchange *exchange) {
    return exchange->carrier != NULL ? exchange->carrier->connection : exchange->connection;
}

/* The doors of an endpoint are one resource. */
static struct slice endpoint_of(const struct gw_worker *worker, const struct http_head *head) {
    enum config_door door;
    return config_endpoint_of(worker->config, head->path, &door);
}

/* The certificate of the connection, when it has shown one. */
static void read_certificate(const struct gw_exchange *exchange, struct buf *name,
                             unsigned char *digest, struct auth_request *request) {
    const struct gw_worker *worker = exchange->worker;
    const struct io_stream *stream = connection_of(exchange)->stream;
    if (!io_stream_tls_has_certificate(stream) || !io_stream_tls_peer_digest(stream, digest))
        return;
    request->certificate_digest = digest;
    request->certificate_ends_wall_ms = io_stream_tls_peer_ends_ms(stream);
    if (io_stream_tls_peer_name(stream, name_kind(worker->config->tls.client_identity), name) == 0)
        request->certificate_name = buf_slice(name);
}

/* While the store is silent it is another one: nothing that was proved with it holds on. */
static uint64_t directory_number(const struct gw_worker *worker) {
    enum { SILENT = 1 };
    return worker->directory == NULL
               ? 0
               : 2 * worker->directory_number +
                     (gw_directory_is_silent(worker->gateway, LIMIT_STORE_SILENCE_MS) ? SILENT : 0);
}

static bool is_who_it_was(const struct gw_exchange *exchange, const struct http_head *head,
                          struct slice authorization, size_t n_authorization) {
    const struct gw_caller *caller = connection_of(exchange)->caller;
    const struct gw_worker *worker = exchange->worker;
    if (caller == NULL || n_authorization > 1)
        return false;
    /* Most callers have nothing to do with the store. */
    uint64_t number = caller->identity->directory != 0 ? directory_number(worker) : 0;
    return auth_still_holds(worker->auth, caller->identity, authorization,
                            endpoint_of(worker, head), number, clock_wall_ms(),
                            io_loop_now(worker->loop));
}

enum auth_verdict gw_authenticate(struct gw_exchange *exchange, const struct http_head *head,
                                  bool is_last, struct auth_answer *ret_answer) {
    struct gw_connection *connection = connection_of(exchange);
    struct gw_worker *worker = exchange->worker;
    struct slice authorization = http_head_get(head, SLICE("authorization"));
    size_t n_authorization =
        authorization.ptr != NULL ? http_head_count(head, SLICE("authorization")) : 0;
    if (LIKELY(is_who_it_was(exchange, head, authorization, n_authorization))) {
        exchange->caller = gw_caller_ref(connection->caller);
        exchange->principal = exchange->caller->principal;
        gw_directory_note_use(worker, connection->caller);
        return AUTH_OK;
    }
    union {
        const struct http_head *in;
        void *out;
    } context = {.in = head};
    unsigned char digest[32];
    struct buf name CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct auth_request request = {
        .authorization = authorization,
        .n_authorization = n_authorization,
        .client = exchange->client,
        .peer = connection->peer,
        .is_from_proxy = exchange->is_from_proxy,
        .endpoint = endpoint_of(worker, head),
        .field = find_field,
        .field_context = context.out,
        .directory = worker->directory,
        .directory_number = directory_number(worker),
        .is_silent = gw_directory_is_silent(worker->gateway, LIMIT_STORE_SILENCE_MS),
    };
    read_certificate(exchange, &name, digest, &request);
    enum auth_verdict verdict =
        auth_check(worker->auth, worker->auth_memory, worker->reader, &request, clock_wall_ms(),
                   io_loop_now(worker->loop), is_last, ret_answer);
    if (verdict != AUTH_OK)
        return verdict;
    struct gw_caller *caller = gw_caller_new(worker, TAKE(ret_answer->identity));
    if (caller == NULL) {
        ret_answer->reason = "the gateway is out of memory";
        return AUTH_NO_MEMORY;
    }
    gw_caller_unref(connection->caller);
    connection->caller = caller;
    gw_directory_note_use(worker, caller);
    exchange->caller = gw_caller_ref(caller);
    exchange->principal = caller->principal;
    if (ret_answer->is_new)
        gw_record_done(exchange, "login");
    return AUTH_OK;
}

bool gw_authn_has_ended(const struct gw_exchange *exchange) {
    return clock_wall_ms() >= exchange->caller->identity->ends_wall_ms;
}

bool gw_authn_still_holds(struct gw_exchange *exchange) {
    const struct http_head *head = gw_exchange_fields(exchange);
    struct gw_caller *caller = TAKE(exchange->caller);
    struct auth_answer answer;
    bool holds = gw_authenticate(exchange, head, true, &answer) == AUTH_OK &&
                 exchange->principal == caller->principal;
    if (!holds) { /* what it was until now, it is until its end */
        gw_caller_unref(exchange->caller);
        exchange->caller = gw_caller_ref(caller);
        exchange->principal = caller->principal;
    }
    gw_caller_unref(caller);
    return holds;
}

/* Waiting for keys. */

static void deliver_keys(struct io_message *message) {
    struct oauth_wait *keys = CONTAINER_OF(message, struct oauth_wait, message);
    struct gw_authn_wait *wait = CONTAINER_OF(keys, struct gw_authn_wait, keys);
    struct gw_exchange *exchange = wait->exchange;
    bool is_cancelled = wait->is_cancelled;
    if (!is_cancelled)
        list_remove(&wait->link);
    mem_free(wait);
    if (is_cancelled)
        return;
    exchange->authn_wait = NULL;
    exchange->has_waited = true;
    gw_exchange_go_on(exchange);
}

bool gw_authn_wait(struct gw_exchange *exchange, const struct auth_answer *answer) {
    struct gw_worker *worker = exchange->worker;
    struct gw_authn_wait *wait = mem_alloc(sizeof *wait);
    if (wait == NULL)
        return false;
    wait->exchange = exchange;
    wait->keys.message.deliver = deliver_keys;
    wait->keys.loop = worker->loop;
    wait->keys.generation = answer->keys_generation;
    if (!oauth_wait_for_keys(answer->issuer, &wait->keys)) {
        mem_free(wait);
        return false;
    }
    list_push_back(&worker->authn_waits, &wait->link);
    exchange->authn_wait = wait;
    return true;
}

/* True: it will not be delivered. */
static bool cancel(struct gw_authn_wait *wait) {
    list_remove(&wait->link);
    wait->exchange->authn_wait = NULL;
    if (oauth_wait_cancel(&wait->keys)) {
        mem_free(wait);
        return true;
    }
    wait->is_cancelled = true;
    return false;
}

void gw_authn_cancel(struct gw_exchange *exchange) {
    if (exchange->authn_wait != NULL)
        (void)cancel(exchange->authn_wait);
}

/* The issuers are others now: whoever waits asks them. */
void gw_authn_restart(struct gw_worker *worker) {
    struct list waits;
    list_init(&waits);
    list_splice_back(&waits, &worker->authn_waits);
    LIST_FOREACH_SAFE (&waits, link, tmp) {
        struct gw_exchange *exchange = CONTAINER_OF(link, struct gw_authn_wait, link)->exchange;
        gw_authn_cancel(exchange);
        gw_exchange_go_on(exchange);
    }
}
