#include "io/dial.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"
#include "base/limits.h"
#include "base/mem.h"
#include "fd_poll.h"
#include "io/file.h"
#include "loop_private.h"
#include "resolver.h"

/*
 * Happy eyeballs (RFC 8305). advance() is the one place that decides what comes next; it runs when
 * the dial starts, when the look-up has news, when an attempt failed and when the pause between two
 * attempts is over. Attempts that are under way stay so beside the next ones; the first that
 * connects wins. finish() is the only way out: it stops everything and calls back as its last act,
 * because the callback may free the dial.
 */

enum {
    ATTEMPT_DELAY_MS = 250, /* RFC 8305 section 8 */
    RESOLUTION_DELAY_MS = 50,
    HOST_SIZE = 256,
};

struct attempt {
    struct io_dial *dial;
    int fd;
    struct fd_poll *poll;
    struct io_address address;
};

enum pause { PAUSE_NONE, PAUSE_START, PAUSE_RESOLUTION, PAUSE_ATTEMPT };

struct io_dial {
    struct io_resolver *resolver;
    struct io_loop *loop;
    char host[HOST_SIZE];
    uint16_t port;
    io_dial_check_fn *check;
    io_dial_fn *done;
    void *context;
    struct io_timer *deadline, *timer;
    enum pause pause; /* what `timer` runs for */
    struct lookup *lookup;
    /* The addresses of a literal and of localhost, for which nobody is asked. */
    struct io_address known[2];
    size_t known_count;
    size_t taken[LOOKUP_FAMILIES], taken_known, refused;
    enum lookup_family next_family;
    struct attempt *attempts[LIMIT_DIAL_ADDRESSES];
    size_t attempt_count, running;
    struct io_dial_result result; /* the failure to report, as far as known */
};

/* --- sentences --- */

static const char *reason_of(int error) {
    static const struct {
        int error;
        const char *reason;
    } rows[] = {
        {-ECONNREFUSED, "connection refused"},
        {-ETIMEDOUT, "timed out"},
        {-EHOSTUNREACH, "no route to host"},
        {-ENETUNREACH, "the network is unreachable"},
        {-EHOSTDOWN, "the host is down"},
        {-ECONNRESET, "connection reset"},
        {-EADDRNOTAVAIL, "no local address or port is left"},
        {-EAFNOSUPPORT, "this machine does not have this kind of addresses"},
        {-EMFILE, "too many open files"},
        {-ENFILE, "too many open files in the system"},
        {-EACCES, "the address is not allowed"},
        {-EPERM, "not permitted by this machine's firewall"},
        {-ENOMEM, "out of memory"},
        {-ENOBUFS, "out of memory"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].error == error)
            return rows[i].reason;
    }
    return "the connection failed";
}

/* --- the ways out --- */

static void stop_attempt(struct attempt *attempt, bool keeps_fd) {
    if (attempt->poll != NULL)
        attempt->dial->running--;
    attempt->poll = fd_poll_free(attempt->poll);
    if (!keeps_fd)
        io_fd_close(&attempt->fd);
}

static void stop_all(struct io_dial *dial) {
    for (size_t i = 0; i < dial->attempt_count; i++) {
        stop_attempt(dial->attempts[i], false);
        mem_free(dial->attempts[i]);
    }
    dial->attempt_count = 0;
    dial->lookup = lookup_free(dial->lookup);
    dial->deadline = io_timer_free(dial->deadline);
    dial->timer = io_timer_free(dial->timer);
}

static void finish(struct io_dial *dial) {
    struct io_dial_result result = dial->result;
    stop_all(dial);
    dial->done(dial->context, &result);
}

static void fail(struct io_dial *dial, enum io_dial_step step, int error, const char *reason) {
    dial->result.step = step;
    dial->result.error = error;
    dial->result.reason = reason;
    finish(dial);
}

static void win(struct io_dial *dial, struct attempt *attempt) {
    dial->result = (struct io_dial_result){.fd = attempt->fd, .peer = attempt->address};
    stop_attempt(attempt, true);
    attempt->fd = -1;
    finish(dial);
}

/* That this machine has no way to one kind of addresses says less than what the others answered. */
static bool is_no_way(int error) {
    return error == -ENETUNREACH || error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT;
}

static void note_failure(struct io_dial *dial, const struct io_address *address, int error) {
    if (dial->result.error != 0 && is_no_way(error) && !is_no_way(dial->result.error))
        return;
    dial->result.peer = *address;
    dial->result.error = error;
}

/* --- attempts --- */

static void advance(struct io_dial *dial);

static void on_attempt(void *context, int fd, int events) {
    struct attempt *attempt = context;
    struct io_dial *dial = attempt->dial;
    int error = 0;
    socklen_t size = sizeof error;
    (void)events;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error == 0) {
        win(dial, attempt);
        return;
    }
    stop_attempt(attempt, false);
    note_failure(dial, &attempt->address, -error);
    dial->pause = PAUSE_NONE; /* RFC 8305 section 5: the next one at once */
    advance(dial);
}

/* A new attempt, which is connected, under way, or has failed (-errno). */
enum { CONNECTED = 1 };

static int start_attempt(struct io_dial *dial, const struct io_address *address) {
    struct attempt *attempt = mem_xalloc(sizeof *attempt);
    dial->attempts[dial->attempt_count++] = attempt;
    attempt->dial = dial;
    attempt->address = *address;
    const struct sockaddr *sockaddr = address_sockaddr(&attempt->address);
    attempt->fd = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (attempt->fd < 0)
        return -errno;
    int error = 0;
    if (connect(attempt->fd, sockaddr, address->size) == 0)
        return CONNECTED;
    if (errno != EINPROGRESS) {
        error = -errno;
    } else {
        error = fd_poll_new(dial->loop, attempt->fd, on_attempt, attempt, &attempt->poll);
        if (error == 0) {
            dial->running++;
            error = fd_poll_start(attempt->poll, UV_WRITABLE);
        }
    }
    if (error != 0)
        stop_attempt(attempt, false);
    return error;
}

/* --- what comes next --- */

static bool is_resolving(const struct io_dial *dial, enum lookup_family family) {
    return dial->lookup != NULL && !lookup_is_done(dial->lookup, family);
}

static bool has_address(const struct io_dial *dial, enum lookup_family family) {
    return dial->lookup != NULL && dial->taken[family] < lookup_count(dial->lookup, family);
}

/* IPv6 and IPv4 in turn, IPv6 first. */
static const struct io_address *next_address(struct io_dial *dial) {
    if (dial->attempt_count + dial->refused >= LIMIT_DIAL_ADDRESSES)
        return NULL;
    if (dial->taken_known < dial->known_count)
        return &dial->known[dial->taken_known++];
    enum lookup_family family = dial->next_family;
    if (!has_address(dial, family))
        family = family == LOOKUP_V6 ? LOOKUP_V4 : LOOKUP_V6;
    if (!has_address(dial, family))
        return NULL;
    dial->next_family = family == LOOKUP_V6 ? LOOKUP_V4 : LOOKUP_V6;
    return lookup_address(dial->lookup, family, dial->taken[family]++);
}

static void pause_for(struct io_dial *dial, enum pause pause, uint64_t delay_ms) {
    dial->pause = pause;
    io_timer_start(dial->timer, delay_ms);
}

static void report_failure(struct io_dial *dial) {
    const char *reason = NULL;
    if (dial->result.error != 0) {
        fail(dial, IO_DIAL_CONNECT, dial->result.error, reason_of(dial->result.error));
    } else if (dial->refused != 0) {
        fail(dial, IO_DIAL_CONNECT, -EACCES, reason_of(-EACCES));
    } else {
        int error = lookup_error(dial->lookup, &reason);
        int probe = -1, no_descriptor = io_null_open(&probe);
        io_fd_close(&probe);
        /* c-ares does not tell this from a name server that does not answer. */
        if (error == -EIO && (no_descriptor == -EMFILE || no_descriptor == -ENFILE)) {
            error = no_descriptor;
            reason = reason_of(error);
        }
        fail(dial, IO_DIAL_RESOLVE, error, reason);
    }
}

/* RFC 8305 section 3: IPv4 addresses wait a little for those of IPv6. */
static bool waits_for_v6(const struct io_dial *dial) {
    return dial->attempt_count == 0 && dial->pause != PAUSE_RESOLUTION &&
           is_resolving(dial, LOOKUP_V6) && has_address(dial, LOOKUP_V4) &&
           !has_address(dial, LOOKUP_V6);
}

static void advance(struct io_dial *dial) {
    const struct io_address *address;
    if (waits_for_v6(dial)) {
        pause_for(dial, PAUSE_RESOLUTION, RESOLUTION_DELAY_MS);
        return;
    }
    dial->pause = PAUSE_NONE;
    io_timer_stop(dial->timer);
    while ((address = next_address(dial)) != NULL) {
        if (dial->check != NULL && !dial->check(dial->context, address)) {
            dial->refused++;
            if (dial->result.error == 0)
                dial->result.peer = *address;
            continue;
        }
        int r = start_attempt(dial, address);
        if (r == CONNECTED) {
            win(dial, dial->attempts[dial->attempt_count - 1]);
            return;
        }
        if (r == 0) {
            pause_for(dial, PAUSE_ATTEMPT, ATTEMPT_DELAY_MS);
            return;
        }
        note_failure(dial, address, r);
    }
    if (dial->running == 0 && !is_resolving(dial, LOOKUP_V6) && !is_resolving(dial, LOOKUP_V4))
        report_failure(dial);
}

/* --- events --- */

static void on_lookup(void *context) {
    struct io_dial *dial = context;
    /* While an attempt has its time, the next address waits; but the last news may be that there is
     * nothing more to wait for. */
    if (dial->pause == PAUSE_ATTEMPT)
        return;
    if (dial->pause == PAUSE_RESOLUTION && is_resolving(dial, LOOKUP_V6))
        return;
    advance(dial);
}

static bool is_localhost(struct slice host) {
    if (slice_ends_with(host, SLICE(".")))
        host.len--;
    if (host.len < 9)
        return false;
    struct slice end = slice_from(host, host.len - 9);
    return slice_eq_nocase(end, SLICE("localhost")) &&
           (host.len == 9 || host.ptr[host.len - 10] == '.');
}

static void begin(struct io_dial *dial) {
    struct slice host = slice_from_cstr(dial->host);
    const char *reason = NULL;
    int error = 0;
    if (address_of_literal(host, dial->port, &dial->known[0]) == 0) {
        dial->known_count = 1;
    } else if (lookup_is_name(host) && is_localhost(host)) {
        struct in_addr v4 = {.s_addr = htonl(INADDR_LOOPBACK)};
        struct in6_addr v6 = IN6ADDR_LOOPBACK_INIT;
        address_of_peer_v4(&v4, dial->port, &dial->known[0]);
        address_of_peer_v6(&v6, dial->port, &dial->known[1]);
        dial->known_count = 2;
    } else {
        error =
            lookup_start(dial->resolver, host, dial->port, on_lookup, dial, &dial->lookup, &reason);
    }
    if (error != 0)
        fail(dial, IO_DIAL_RESOLVE, error, reason);
    else
        advance(dial);
}

static void on_timer(void *context) {
    struct io_dial *dial = context;
    if (dial->pause == PAUSE_START)
        begin(dial);
    else
        advance(dial);
}

static void on_deadline(void *context) {
    struct io_dial *dial = context;
    if (dial->attempt_count == 0 && dial->refused == 0) {
        fail(dial, IO_DIAL_RESOLVE, -ETIMEDOUT, "the name server did not answer in time");
    } else if (dial->attempt_count == 0) {
        report_failure(dial); /* all that were found were refused */
    } else {
        dial->result.peer = dial->attempts[dial->attempt_count - 1]->address;
        fail(dial, IO_DIAL_CONNECT, -ETIMEDOUT, reason_of(-ETIMEDOUT));
    }
}

int io_dial_start(struct io_resolver *resolver, struct slice host, uint16_t port,
                  uint64_t timeout_ms, io_dial_check_fn *check, io_dial_fn *done, void *context,
                  struct io_dial **ret_dial) {
    struct io_dial *dial = mem_xalloc(sizeof *dial);
    dial->resolver = resolver;
    dial->loop = resolver_loop(resolver);
    dial->port = port;
    dial->check = check;
    dial->done = done;
    dial->context = context;
    dial->result.fd = -1;
    /* What is no host at all is told as every other failure: by `done`. */
    if (slice_to_cstr(host, dial->host, sizeof dial->host) != 0)
        dial->host[0] = '\0';
    dial->deadline = io_timer_new(dial->loop, on_deadline, dial);
    dial->timer = io_timer_new(dial->loop, on_timer, dial);
    /* The turn may have taken long, or the loop not run yet. */
    uv_update_time(&dial->loop->uv);
    pause_for(dial, PAUSE_START, 0);
    io_timer_start(dial->deadline, timeout_ms);
    *ret_dial = dial;
    return 0;
}

struct io_dial *io_dial_free(struct io_dial *dial) {
    if (dial != NULL) {
        stop_all(dial);
        mem_free(dial);
    }
    return NULL;
}
