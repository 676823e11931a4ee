/* A loop with a resolver, a name server for it, and dials that tell what became of them. */
#pragma once

#include <dirent.h>
#include <errno.h>

#include "base/clock.h"
#include "io/dial.h"
#include "loop_guard.h"
#include "name_server.h"
#include "resolver.h"

struct dialer {
    struct guarded guarded;
    struct io_loop *loop;
    struct io_resolver *resolver;
    struct name_server server;
    unsigned open; /* dials that are not done; the last one stops the loop */
};

static void dialer_open(struct dialer *dialer, const struct zone_row *zone, size_t zone_len) {
    *dialer = (struct dialer){.open = 0};
    dialer->loop = guarded_new(&dialer->guarded);
    name_server_start(&dialer->server, dialer->loop, zone, zone_len);
    if (io_resolver_new(dialer->loop, &dialer->resolver) != 0)
        CANNOT_GO_ON();
    resolver_set_test_servers(dialer->resolver, dialer->server.address);
}

static void dialer_close(struct dialer *dialer) {
    name_server_stop(&dialer->server);
    io_resolver_free(dialer->resolver);
    guarded_free(&dialer->guarded);
}

/* One dial. */
struct call {
    struct dialer *dialer;
    struct io_dial *dial;
    struct io_dial_result result;
    unsigned calls;
    bool frees_inside;
    uint64_t started, took; /* ms */
    /* What check() was asked, and from which address on it says yes. */
    char seen[32][64];
    bool seen_loopback[32];
    size_t seen_count, allowed_from;
};

static bool call_check(void *context, const struct io_address *address) {
    struct call *call = context;
    if (call->seen_count < ARRAY_LEN(call->seen)) {
        snprintf(call->seen[call->seen_count], sizeof call->seen[0], "%s", address->text);
        call->seen_loopback[call->seen_count] = address->is_loopback;
    }
    return call->seen_count++ >= call->allowed_from;
}

static void call_done(void *context, const struct io_dial_result *result) {
    struct call *call = context;
    call->calls++;
    call->result = *result;
    call->took = clock_monotonic_ms() - call->started;
    if (call->frees_inside)
        call->dial = io_dial_free(call->dial);
    if (--call->dialer->open == 0)
        io_loop_stop(call->dialer->loop);
}

static void call_start(struct call *call, struct dialer *dialer, struct slice host, uint16_t port,
                       uint64_t timeout_ms) {
    call->dialer = dialer;
    call->result.fd = -1;
    call->started = clock_monotonic_ms();
    dialer->open++;
    CHECK_INT(io_dial_start(dialer->resolver, host, port, timeout_ms, call_check, call_done, call,
                            &call->dial),
              0);
    CHECK_INT(call->calls, 0);
}

static void call_close(struct call *call) {
    call->dial = io_dial_free(call->dial);
    io_fd_close(&call->result.fd);
}

/* One dial from beginning to end. */
MAYBE_UNUSED static struct call dial_once(struct dialer *dialer, const char *host, uint16_t port) {
    struct call call = {.allowed_from = 0};
    call_start(&call, dialer, slice_from_cstr(host), port, 5000);
    guarded_run(&dialer->guarded);
    CHECK_INT(call.calls, 1);
    call_close(&call);
    return call;
}

static uint16_t port_of(const struct io_address *address) {
    struct sockaddr_in in; /* the port is at the same place in both kinds */
    memcpy(&in, address->storage, sizeof in);
    return ntohs(in.sin_port);
}

/* A listening socket whose connections nobody accepts; -1: the port is somebody's. */
static int try_listen_at(const char *host, uint16_t *port, int backlog) {
    char text[64];
    struct io_address address;
    int on = 1;
    snprintf(text, sizeof text, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host,
             (unsigned)*port);
    if (io_address_parse(slice_from_cstr(text), &address) != 0)
        CANNOT_GO_ON();
    struct sockaddr *sockaddr = (struct sockaddr *)(void *)address.storage;
    int fd = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof address.storage;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, sockaddr, address.size) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, sockaddr, &size) != 0) {
        io_fd_close(&fd);
        return -1;
    }
    *port = port_of(&address);
    return fd;
}

MAYBE_UNUSED static int listen_at(const char *host, uint16_t *port, int backlog) {
    int fd = try_listen_at(host, port, backlog);
    if (fd < 0) {
        perror(host);
        CANNOT_GO_ON();
    }
    return fd;
}

/* A port on which nobody listens. */
MAYBE_UNUSED static uint16_t dead_port(void) {
    uint16_t port = 0;
    int fd = listen_at("127.0.0.1", &port, 1);
    io_fd_close(&fd);
    return port;
}

MAYBE_UNUSED static size_t count_fds(void) {
    size_t n = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        CANNOT_GO_ON();
    while (readdir(directory) != NULL)
        n++;
    closedir(directory);
    return n;
}
