/*
 * Who comes in. Connections are counted in all and by address (peers.h); when there is no room, the
 * newcomer is told so and those who are inside do not notice. Telling is cheap and bounded: a short
 * answer, then a moment for the client to read it, because closing a socket with unread bytes in it
 * takes the answer back. Few linger so at a time; the others are closed at once. The log says it
 * once a second.
 */
#include <sys/resource.h>

#include "base/mem.h"
#include "io/file.h"
#include "private.h"

enum {
    MAX_LINGERING = 64, /* of one worker */
    LINGER_MS = 1000,
    LINGER_BYTES = 64 * 1024, /* that a refused client may send meanwhile */
    TELL_MS = 1000,
    /* Descriptors that are not connections of clients. */
    OWN_DESCRIPTORS = 64,
    WORKER_DESCRIPTORS = 16,
    SERVER_DESCRIPTORS = 4,
    FEWEST = 16,
};

struct gw_refused {
    struct list_link link; /* in door->lingering */
    struct gw_worker *worker;
    struct io_stream *stream;
    struct io_timer *timer;
    size_t n_read;
};

/* How many. */

/*
 * Beside those of clients there are descriptors of our own, pipes of children, and connections to
 * HTTP servers, one for each call that runs: a quarter is kept for these.
 */
size_t gw_door_size(size_t wanted, size_t descriptors, size_t n_workers, size_t n_servers) {
    size_t own = OWN_DESCRIPTORS + n_workers * (WORKER_DESCRIPTORS + MAX_LINGERING) +
                 n_servers * SERVER_DESCRIPTORS + descriptors / 4;
    size_t most = descriptors > own ? descriptors - own : 0;
    most = most > FEWEST ? most : FEWEST;
    return wanted < most ? wanted : most;
}

void gw_door_open(struct gateway *gateway) {
    const struct config *config = gateway->config;
    size_t wanted = (size_t)config->limits.max_connections, size = wanted;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        size = gw_door_size(wanted, (size_t)limit.rlim_cur, gateway->n_workers, config->n_servers);
    if (size < wanted)
        log_write(gateway->log, LOG_WARN, "gateway",
                  "fewer connections than server.limits.max_connections are let in: the process "
                  "may not open enough descriptors (ulimit -n, LimitNOFILE)",
                  LOG_NUM("connections", size), LOG_NUM("max_connections", wanted),
                  LOG_NUM("descriptors", limit.rlim_cur));
    gateway->peers.max = size;
}

/* The refused. */

static void free_refused(struct gw_refused *refused) {
    list_remove(&refused->link);
    refused->worker->door.n_lingering--;
    io_stream_free(refused->stream);
    io_timer_free(refused->timer);
    mem_free(refused);
}

static void on_read(void *context, struct slice bytes) {
    struct gw_refused *refused = context;
    refused->n_read += bytes.len;
    if (refused->n_read > LINGER_BYTES)
        free_refused(refused);
}

static void on_end(void *context, int error) {
    (void)error;
    free_refused(context);
}

static void on_linger_over(void *context) {
    free_refused(context);
}

static void write_refusal(struct gateway *gateway, enum peers_verdict verdict, struct buf *out) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(KIB(2));
    if (verdict == PEERS_FULL)
        buf_printf(&text,
                   "the gateway has %zu connections open, which is all it takes "
                   "(server.limits.max_connections); try again later",
                   gateway->peers.max);
    else
        buf_printf(&text,
                   "this address has %zu connections open, which is all it may have "
                   "(server.limits.max_connections_per_address); try again later",
                   gateway->peers.max_per_address);
    mcp_write_error(&body, SLICE_EMPTY, MCP_E_UNAVAILABLE, buf_slice(&text), SLICE_EMPTY);
    http_write_status(out, 503);
    buf_append_cstr(out, "Content-Type: application/json\r\nRetry-After: 5\r\n"
                         "Connection: close\r\n");
    http_write_field_u64(out, SLICE("Content-Length"), buf_len(&body));
    buf_append_cstr(out, "\r\n");
    buf_append(out, buf_slice(&body));
}

void gw_door_tell_refusal(struct gw_worker *worker, uint16_t status, struct slice reason,
                          const struct network *client) {
    struct gw_door *door = &worker->door;
    char text[NETWORK_TEXT];
    if (!io_timer_is_running(door->tell_timer))
        io_timer_start(door->tell_timer, TELL_MS);
    if (++door->n_refusals > LIMIT_REFUSAL_LINES)
        return;
    struct slice from = client != NULL ? network_write_address(client, text) : SLICE_EMPTY;
    log_write(worker->gateway->log, LOG_INFO, "http", "refused a request",
              LOG_NUM("status", status), LOG_TEXT("reason", reason), LOG_TEXT("client", from));
}

static void on_tell(void *context) {
    struct gw_worker *worker = context;
    struct gw_door *door = &worker->door;
    struct log *log = worker->gateway->log;
    size_t n_untold =
        door->n_refusals > LIMIT_REFUSAL_LINES ? door->n_refusals - LIMIT_REFUSAL_LINES : 0;
    bool is_quiet = door->n_refusals == 0;
    door->n_refusals = 0;
    if (n_untold != 0)
        log_write(log, LOG_WARN, "http", "refused further requests", LOG_NUM("requests", n_untold));
    if (door->n_full + door->n_full_of_one + door->n_no_proxy_header + door->n_no_tls == 0 &&
        is_quiet)
        return;
    if (door->n_full + door->n_full_of_one != 0)
        log_write(log, LOG_WARN, "http", "refused connections",
                  LOG_NUM("max_connections", door->n_full),
                  LOG_NUM("max_connections_per_address", door->n_full_of_one));
    if (door->n_no_proxy_header != 0)
        log_write(log, LOG_WARN, "http",
                  "closed connections of trusted proxies, because they did not begin with a PROXY "
                  "header of version 2 (server.proxy_protocol)",
                  LOG_NUM("connections", door->n_no_proxy_header));
    if (door->n_no_tls != 0)
        log_write(log, LOG_INFO, "tls", "closed connections whose TLS handshake failed",
                  LOG_NUM("connections", door->n_no_tls));
    door->n_full = door->n_full_of_one = door->n_no_proxy_header = door->n_no_tls = 0;
    io_timer_start(door->tell_timer, TELL_MS);
}

/* The first one is told at once, those of the second that follows together. */
static void tell_soon(struct gw_worker *worker) {
    if (!io_timer_is_running(worker->door.tell_timer))
        on_tell(worker);
}

void gw_door_note_no_proxy_header(struct gw_worker *worker) {
    worker->door.n_no_proxy_header++;
    tell_soon(worker);
}

void gw_door_note_no_tls(struct gw_worker *worker) {
    worker->door.n_no_tls++;
    tell_soon(worker);
}

void gw_door_note_refused(struct gw_worker *worker, enum peers_verdict verdict) {
    worker->door.n_full += verdict == PEERS_FULL ? 1 : 0;
    worker->door.n_full_of_one += verdict == PEERS_FULL_OF_ONE ? 1 : 0;
    tell_soon(worker);
}

static void refuse(struct gw_worker *worker, int fd, const struct network *peer,
                   enum peers_verdict verdict) {
    static const struct io_stream_events events = {.on_read = on_read, .on_end = on_end};
    struct gw_door *door = &worker->door;
    gw_door_note_refused(worker, verdict);
    gw_record_stranger(worker, peer, "connections");
    /* Who speaks TLS would take an answer in the clear for nonsense; a handshake is too dear for
     * somebody who is not let in. */
    if (door->n_lingering >= MAX_LINGERING || worker->tls != NULL) {
        io_fd_close(&fd);
        return;
    }
    struct gw_refused *refused = mem_xalloc(sizeof *refused);
    refused->worker = worker;
    if (io_stream_new(worker->loop, IO_STREAM_TCP, fd, &events, refused, &refused->stream) != 0) {
        mem_free(refused);
        return;
    }
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    write_refusal(worker->gateway, verdict, &out);
    door->n_lingering++;
    list_push_back(&door->lingering, &refused->link);
    refused->timer = io_timer_new(worker->loop, on_linger_over, refused);
    if (buf_error(&out) != 0 ||
        io_stream_write(refused->stream, buf_slice(&out), buf_len(&out)) != 0) {
        free_refused(refused);
        return;
    }
    io_stream_shutdown(refused->stream);
    io_stream_never_starves(refused->stream);
    io_stream_read(refused->stream, true);
    io_timer_start(refused->timer, LINGER_MS);
}

/* Of a worker. */

void gw_door_init(struct gw_worker *worker) {
    list_init(&worker->door.lingering);
    worker->door.tell_timer = io_timer_new(worker->loop, on_tell, worker);
}

void gw_door_deinit(struct gw_worker *worker) {
    if (worker->door.tell_timer == NULL)
        return; /* it was never there */
    LIST_FOREACH_SAFE (&worker->door.lingering, link, tmp)
        free_refused(CONTAINER_OF(link, struct gw_refused, link));
    worker->door.tell_timer = io_timer_free(worker->door.tell_timer);
}

static void enter(struct gw_worker *worker, int fd, const struct network *peer,
                  bool is_health_only) {
    if (UNLIKELY(gw_shortage_of_memory(worker))) {
        gw_shortage_refuse(worker, fd);
        return;
    }
    enum peers_verdict verdict =
        peers_enter(&worker->gateway->peers, peer, border_trusts(worker->border, peer));
    if (verdict == PEERS_WELCOME)
        gw_connection_new(worker, fd, peer, is_health_only);
    else
        refuse(worker, fd, peer, verdict);
}

void gw_door_enter(void *context, int fd, const struct network *peer) {
    enter(context, fd, peer, false);
}

void gw_door_enter_health(void *context, int fd, const struct network *peer) {
    enter(context, fd, peer, true);
}
