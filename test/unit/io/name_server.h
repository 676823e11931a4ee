/*
 * A name server on loopback, on the loop of the test: UDP, and TCP on the same port for answers
 * that it cuts off. Its zone is a table; what it does not have does not exist.
 */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/limits.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/stream.h"
#include "test.h"

enum { DNS_A = 1, DNS_CNAME = 5, DNS_AAAA = 28 };

enum zone_action {
    ZONE_ANSWER,
    ZONE_NODATA,
    ZONE_SERVFAIL,
    ZONE_REFUSED,
    ZONE_SILENT,
    ZONE_LATE,     /* 20 ms after the question */
    ZONE_OVER_TCP, /* cut off by UDP, whole by TCP */
    ZONE_CUT,      /* the bytes of the answer up to the number in the name's first label */
    ZONE_FLIPPED,  /* one byte of the answer is another, at that number */
    ZONE_MANY,     /* 40 addresses 127.0.1.x */
    ZONE_IN_TURN,  /* one address for each question, the last one from then on; to be kept 0 s */
    ZONE_ALIAS,    /* those that are no addresses are aliases, each of the one before it */
    ZONE_LONG,     /* the same 2000 bytes without sense, behind the right id */
};

struct zone_row {
    const char *name; /* "*.x" matches every name that ends in ".x" */
    int type;
    enum zone_action action;
    const char *addresses[4];
};

struct name_server {
    const struct zone_row *zone;
    size_t zone_len;
    unsigned turns[64]; /* how often each row was asked for */
    struct io_loop *loop;
    int fd;
    struct io_watch *watch;
    struct io_listener *listener;
    struct io_stream *stream;
    struct buf got;
    struct io_timer *timer;
    unsigned char late[512]; /* one answer at a time */
    size_t late_len;
    struct sockaddr_in late_to;
    char address[64]; /* "127.0.0.1:5353" */
    unsigned queries, tcp_queries;
};

static size_t read_name(const unsigned char *packet, size_t len, char *out, size_t size) {
    size_t at = 12, n = 0;
    while (at < len && packet[at] != 0) {
        size_t label = packet[at++];
        if (label > 63 || at + label > len || n + label + 2 > size)
            return 0;
        if (n != 0)
            out[n++] = '.';
        memcpy(out + n, packet + at, label);
        n += label;
        at += label;
    }
    out[n] = '\0';
    return at + 1;
}

static const struct zone_row *find_zone(const struct name_server *server, const char *name,
                                        int type) {
    for (size_t i = 0; i < server->zone_len; i++) {
        const struct zone_row *row = &server->zone[i];
        size_t n = strlen(name), m = strlen(row->name);
        bool matches = row->name[0] == '*'
                           ? n >= m && strcasecmp(name + n - m + 1, row->name + 1) == 0
                           : strcasecmp(name, row->name) == 0;
        if (matches && (row->type == type || row->type == 0))
            return row;
    }
    return NULL;
}

/* `owner` is where its name stands in the packet. */
static size_t add_record_of(unsigned char *out, size_t at, size_t owner, int type, const void *data,
                            size_t len, unsigned char ttl) {
    unsigned char head[12] = {(unsigned char)(0xc0 | owner >> 8),
                              (unsigned char)owner,
                              0,
                              (unsigned char)type,
                              0,
                              1,
                              0,
                              0,
                              0,
                              ttl,
                              0,
                              (unsigned char)len};
    memcpy(out + at, head, sizeof head);
    memcpy(out + at + sizeof head, data, len);
    return at + sizeof head + len;
}

static size_t add_record(unsigned char *out, size_t at, int type, const void *data, size_t len) {
    return add_record_of(out, at, 12, type, data, len, 60);
}

/* "a.b" as labels. */
static size_t write_labels(const char *name, unsigned char *out) {
    size_t at = 0;
    while (*name != '\0') {
        size_t len = strcspn(name, ".");
        out[at++] = (unsigned char)len;
        memcpy(out + at, name, len);
        at += len;
        name += len + (name[len] == '.');
    }
    out[at] = 0;
    return at + 1;
}

static bool parse_record(int type, const char *text, unsigned char address[16]) {
    return inet_pton(type == DNS_A ? AF_INET : AF_INET6, text, address) == 1;
}

static size_t add_in_turn(struct name_server *server, const struct zone_row *row, int type,
                          unsigned char *out, size_t at, unsigned char *count) {
    unsigned char address[16];
    size_t n = 0, turn = server->turns[row - server->zone]++;
    while (n < ARRAY_LEN(row->addresses) && row->addresses[n] != NULL)
        n++;
    if (!parse_record(type, row->addresses[turn < n ? turn : n - 1], address))
        return at;
    ++*count;
    return add_record_of(out, at, 12, type, address, type == DNS_A ? 4 : 16, 0);
}

static size_t add_aliases(const struct zone_row *row, int type, unsigned char *out, size_t at,
                          unsigned char *count) {
    size_t owner = 12;
    for (size_t i = 0; i < ARRAY_LEN(row->addresses) && row->addresses[i] != NULL; i++) {
        unsigned char data[256];
        if (parse_record(type, row->addresses[i], data)) {
            at = add_record_of(out, at, owner, type, data, type == DNS_A ? 4 : 16, 0);
        } else {
            size_t len = write_labels(row->addresses[i], data);
            at = add_record_of(out, at, owner, DNS_CNAME, data, len, 0);
            owner = at - len;
        }
        ++*count;
    }
    return at;
}

static size_t add_addresses(struct name_server *server, const struct zone_row *row, int type,
                            unsigned char *out, size_t at, unsigned char *count) {
    if (row->action == ZONE_IN_TURN)
        return add_in_turn(server, row, type, out, at, count);
    if (row->action == ZONE_ALIAS)
        return add_aliases(row, type, out, at, count);
    for (size_t i = 0; i < ARRAY_LEN(row->addresses) && row->addresses[i] != NULL; i++) {
        unsigned char address[16];
        if (!parse_record(type, row->addresses[i], address))
            continue; /* a row for both types */
        at = add_record(out, at, type, address, type == DNS_A ? 4 : 16);
        ++*count;
    }
    for (unsigned char i = 0; row->action == ZONE_MANY && type == DNS_A && i < 40; i++) {
        unsigned char address[4] = {127, 0, 1, (unsigned char)(i + 1)};
        at = add_record(out, at, type, address, 4);
        ++*count;
    }
    return at;
}

/* The answer to a question; 0: none. */
static size_t name_server_answer(struct name_server *server, const unsigned char *query, size_t len,
                                 bool is_tcp, unsigned char *out) {
    char name[256];
    size_t end = len < 17 ? 0 : read_name(query, len, name, sizeof name);
    if (end == 0 || end + 4 > len)
        return 0;
    int type = query[end] * 256 + query[end + 1];
    const struct zone_row *row = find_zone(server, name, type);
    size_t at = end + 4;
    memset(out, 0, 12);
    memcpy(out, query, at);
    memcpy(out + 2, "\x81\x80\0\1\0\0\0\0\0\0", 10);
    if (row == NULL) {
        out[3] |=
            find_zone(server, name, DNS_A) == NULL && find_zone(server, name, DNS_AAAA) == NULL ? 3
                                                                                                : 0;
        return at;
    }
    at = add_addresses(server, row, type, out, at, &out[7]);
    size_t number = (size_t)strtoul(name, NULL, 10);
    switch (row->action) {
    case ZONE_ANSWER:
    case ZONE_LATE:
    case ZONE_NODATA:
    case ZONE_MANY:
    case ZONE_IN_TURN:
    case ZONE_ALIAS:
        return at;
    case ZONE_SERVFAIL:
        out[3] |= 2;
        return at;
    case ZONE_REFUSED:
        out[3] |= 5;
        return at;
    case ZONE_OVER_TCP:
        if (is_tcp)
            return at;
        out[2] |= 2;
        out[7] = 0;
        return end + 4;
    case ZONE_CUT:
        return number < at ? number : at;
    case ZONE_FLIPPED:
        out[number % at] ^= 0xff;
        return at;
    case ZONE_LONG:
        memset(out + end + 4, 0xc0, 2000);
        out[7] = 200;
        return end + 4 + 2000;
    case ZONE_SILENT:
        break;
    }
    return 0;
}

static void name_server_on_timer(void *context) {
    struct name_server *server = context;
    CHECK_INT(sendto(server->fd, server->late, server->late_len, 0,
                     (struct sockaddr *)&server->late_to, sizeof server->late_to),
              server->late_len);
}

static bool is_late(const struct name_server *server, const unsigned char *query, size_t len) {
    char name[256];
    size_t end = read_name(query, len, name, sizeof name);
    const struct zone_row *row = find_zone(server, name, query[end] * 256 + query[end + 1]);
    return row != NULL && row->action == ZONE_LATE;
}

static void name_server_on_udp(void *context) {
    struct name_server *server = context;
    unsigned char query[512], answer[4096];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t n = recvfrom(server->fd, query, sizeof query, 0, (struct sockaddr *)&from, &size);
    if (n <= 0)
        return;
    server->queries++;
    size_t len = name_server_answer(server, query, (size_t)n, false, answer);
    if (len != 0 && is_late(server, query, (size_t)n)) {
        memcpy(server->late, answer, len);
        server->late_len = len;
        server->late_to = from;
        io_timer_start(server->timer, 20);
        return;
    }
    struct sockaddr *to = (struct sockaddr *)&from;
    if (len != 0)
        CHECK_INT(sendto(server->fd, answer, len, 0, to, size), len);
}

static void name_server_on_tcp(void *context, struct slice bytes) {
    struct name_server *server = context;
    CHECK_INT(buf_append(&server->got, bytes), 0);
    for (;;) {
        struct slice got = buf_slice(&server->got);
        const unsigned char *head = (const unsigned char *)got.ptr;
        size_t len = got.len < 2 ? 0 : (size_t)head[0] * 256 + head[1];
        if (got.len < 2 || got.len < len + 2)
            return;
        unsigned char answer[4096];
        server->tcp_queries++;
        size_t n = name_server_answer(server, head + 2, len, true, answer + 2);
        answer[0] = (unsigned char)(n >> 8);
        answer[1] = (unsigned char)n;
        CHECK_INT(io_stream_write(server->stream, slice_make(answer, n + 2), MIB(1)), 0);
        buf_consume(&server->got, len + 2);
    }
}

static void name_server_on_end(void *context, int error) {
    struct name_server *server = context;
    (void)error;
    server->stream = io_stream_free(server->stream);
    buf_reset(&server->got, 0);
}

static void name_server_on_accept(void *context, int fd, const struct network *address) {
    (void)address;
    static const struct io_stream_events events = {.on_read = name_server_on_tcp,
                                                   .on_end = name_server_on_end};
    struct name_server *server = context;
    if (server->stream != NULL)
        server->stream = io_stream_free(server->stream);
    if (io_stream_new(server->loop, IO_STREAM_TCP, fd, &events, server, &server->stream) == 0)
        io_stream_read(server->stream, true);
}

/* A port that is free for TCP may be somebody's for UDP: then another one. */
static int name_server_bind(struct name_server *server, struct io_address *address) {
    for (unsigned i = 0; i < 100; i++) {
        int listener = -1;
        if (io_address_parse(SLICE("127.0.0.1:0"), address) != 0 ||
            io_listen_socket(address, false, &listener) != 0)
            CANNOT_GO_ON();
        server->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (bind(server->fd, (struct sockaddr *)(void *)address->storage, address->size) == 0)
            return listener;
        io_fd_close(&server->fd);
        io_fd_close(&listener);
    }
    CANNOT_GO_ON();
}

static void name_server_start(struct name_server *server, struct io_loop *loop,
                              const struct zone_row *zone, size_t zone_len) {
    *server = (struct name_server){
        .zone = zone, .zone_len = zone_len, .loop = loop, .got = BUF_INIT(KIB(64)), .fd = -1};
    struct io_address address;
    int listener = name_server_bind(server, &address);
    if (io_watch_new(loop, server->fd, name_server_on_udp, server, &server->watch) != 0 ||
        io_listener_new(loop, listener, name_server_on_accept, server, &server->listener) != 0)
        CANNOT_GO_ON();
    server->timer = io_timer_new(loop, name_server_on_timer, server);
    snprintf(server->address, sizeof server->address, "%s", address.text);
}

static void name_server_stop(struct name_server *server) {
    io_timer_free(server->timer);
    io_watch_free(server->watch);
    io_listener_free(server->listener);
    io_stream_free(server->stream);
    buf_deinit(&server->got);
    io_fd_close(&server->fd);
}
