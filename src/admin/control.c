#include "admin/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/file.h"
#include "io/stream.h"
#include "json/reader.h"
#include "json/writer.h"

enum { PEER_TIMEOUT_MS = 10000 };
#define ANSWER_BYTES MIB(16)

struct control {
    struct gateway *gateway;
    struct log *log;
    struct io_listener *listener;
    struct json_reader *reader;
    struct list peers;
    size_t n_peers;
    char *path;
};

struct peer {
    struct list_link link;
    struct control *control;
    struct io_stream *stream;
    struct io_timer *timer;
    struct buf line;
};

static void free_peer(struct peer *peer) {
    list_remove(&peer->link);
    peer->control->n_peers--;
    io_stream_free(peer->stream);
    io_timer_free(peer->timer);
    buf_deinit(&peer->line);
    mem_free(peer);
}

/* Commands: a row each. */

static int command_status(struct control *control, struct json_writer *writer) {
    struct buf status = BUF_INIT(ANSWER_BYTES);
    int error = gateway_write_status(control->gateway, &status);
    if (error == 0)
        json_kv_raw(writer, SLICE("status"), buf_slice(&status));
    buf_deinit(&status);
    return error;
}

struct command {
    struct slice name;
    int (*run)(struct control *control, struct json_writer *writer);
};

static const struct command commands[] = {
    {SLICE_INIT("status"), command_status},
};

static const struct command *find_command(struct control *control, struct slice line) {
    if (json_read(control->reader, line, &json_want_root, NULL, NULL) != 0)
        return NULL;
    const struct json_node *node = json_member_typed(control->reader, json_root(control->reader),
                                                     SLICE("command"), JSON_STRING);
    for (size_t i = 0; node != NULL && i < ARRAY_LEN(commands); i++) {
        if (json_string_is(node, commands[i].name))
            return &commands[i];
    }
    return NULL;
}

static void answer(struct peer *peer, struct slice line) {
    struct buf out = BUF_INIT(ANSWER_BYTES + KIB(4));
    struct json_writer writer;
    const struct command *command = find_command(peer->control, line);
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("ok"), command != NULL);
    if (command == NULL)
        json_kv_string(&writer, SLICE("error"), SLICE("unknown command; known: status"));
    else if (command->run(peer->control, &writer) != 0)
        json_kv_string(&writer, SLICE("error"), SLICE("the answer is too long"));
    json_object_end(&writer);
    buf_append_byte(&out, '\n');
    if (buf_error(&out) != 0 ||
        io_stream_write(peer->stream, buf_slice(&out), ANSWER_BYTES * 2) != 0)
        log_write(peer->control->log, LOG_WARN, "control", "an answer could not be sent");
    buf_deinit(&out);
}

static void on_read(void *context, struct slice bytes) {
    struct peer *peer = context;
    while (bytes.len != 0) {
        size_t at = slice_find_byte(bytes, '\n');
        struct slice part = slice_sub(bytes, 0, at);
        bytes = at != SIZE_MAX ? slice_from(bytes, at + 1) : SLICE_EMPTY;
        if (buf_append(&peer->line, part) != 0) {
            free_peer(peer);
            return;
        }
        if (at == SIZE_MAX)
            continue;
        answer(peer, buf_slice(&peer->line));
        buf_reset(&peer->line, KIB(4));
        io_timer_start(peer->timer, PEER_TIMEOUT_MS);
    }
}

static void on_end(void *context, int error) {
    (void)error;
    free_peer(context);
}

static void on_timeout(void *context) {
    free_peer(context);
}

/* The mode of the socket says it already; this says it again, and to whom it was said. */
static bool is_welcome(int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void on_accept(void *context, int fd, const struct network *address) {
    (void)address;
    static const struct io_stream_events events = {.on_read = on_read, .on_end = on_end};
    struct control *control = context;
    if (!is_welcome(fd) || control->n_peers >= LIMIT_CONTROL_PEERS) {
        log_write(control->log, LOG_WARN, "control", "turned a peer away");
        io_fd_close(&fd);
        return;
    }
    struct peer *peer = mem_xalloc(sizeof *peer);
    peer->control = control;
    buf_init(&peer->line, LIMIT_CONTROL_COMMAND);
    if (io_stream_new(gateway_loop(control->gateway), IO_STREAM_PIPE, fd, &events, peer,
                      &peer->stream) != 0) {
        mem_free(peer);
        return;
    }
    peer->timer = io_timer_new(gateway_loop(control->gateway), on_timeout, peer);
    io_timer_start(peer->timer, PEER_TIMEOUT_MS);
    list_push_back(&control->peers, &peer->link);
    control->n_peers++;
    io_stream_never_starves(peer->stream);
    io_stream_read(peer->stream, true);
}

static void on_full(void *context, int fd, int error) {
    static const struct slice answer =
        SLICE_INIT("{\"ok\":false,\"error\":\"the gateway is out of file descriptors; allow more "
                   "(ulimit -n, LimitNOFILE)\"}\n");
    const struct control *control = context;
    log_write(control->log, LOG_WARN, "control", "turned a peer away",
              LOG_CSTR("reason", strerror(error)));
    if (fd < 0)
        return;
    (void)!send(fd, answer.ptr, answer.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    io_fd_close(&fd);
}

int control_new(struct gateway *gateway, const char *path, struct log *log,
                struct control **ret_control) {
    int fd = -1;
    int error = io_listen_unix(path, &fd);
    if (error != 0)
        return error;
    struct control *control = mem_xalloc(sizeof *control);
    control->gateway = gateway;
    control->log = log;
    control->path = mem_xstrdup(path);
    list_init(&control->peers);
    error = json_reader_new(&control->reader);
    if (error == 0)
        error = io_listener_new(gateway_loop(gateway), fd, on_accept, control, &control->listener);
    else
        io_fd_close(&fd);
    if (error != 0) {
        control_free(control);
        return error;
    }
    io_listener_on_full(control->listener, on_full);
    *ret_control = control;
    return 0;
}

struct control *control_free(struct control *control) {
    if (control == NULL)
        return NULL;
    LIST_FOREACH_SAFE (&control->peers, link, tmp)
        free_peer(CONTAINER_OF(link, struct peer, link));
    io_listener_free(control->listener);
    json_reader_free(control->reader);
    unlink(control->path);
    mem_free(control->path);
    mem_free(control);
    return NULL;
}

static int send_all(int fd, struct slice bytes) {
    while (bytes.len != 0) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = slice_from(bytes, (size_t)n);
    }
    return 0;
}

int control_request(const char *path, struct slice command, struct buf *answer) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int error = slice_to_cstr(slice_from_cstr(path), address.sun_path, sizeof address.sun_path);
    if (error != 0)
        return error;
    CLEANUP(io_fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return -errno;
    error = send_all(fd, command);
    if (error == 0)
        error = send_all(fd, SLICE("\n"));
    if (error == -EPIPE)
        error = 0; /* it does not listen, but may have said why */
    while (error == 0) {
        char chunk[4096];
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        error = buf_append(answer, slice_make(chunk, (size_t)n));
        if (error == 0 && chunk[n - 1] == '\n') {
            buf_truncate(answer, buf_len(answer) - 1);
            return 0;
        }
    }
    return error;
}
