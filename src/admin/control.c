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
#include "json/writer.h"

enum { PEER_TIMEOUT_MS = 10000 };
#define ANSWER_BYTES MIB(16)

struct control {
    struct gateway *gateway;
    struct log *log;
    const struct control_command *commands;
    size_t n_commands;
    void *context; /* of theirs */
    struct io_listener *listener;
    struct json_reader *reader;
    struct list peers;
    struct list refreshes; /* struct refreshing */
    size_t n_peers;
    char *path;
};

struct peer {
    struct list_link link;
    struct control *control;
    struct io_stream *stream;
    struct io_timer *timer;
    struct control_request *request; /* that is being carried out; nothing is read meanwhile */
    bool is_looking;                 /* at the lines that have come */
    struct buf line;                 /* what has come and was not looked at */
};

struct control_request {
    struct peer *peer; /* NULL: it has gone */
};

static void free_peer(struct peer *peer) {
    if (peer->request != NULL)
        peer->request->peer = NULL; /* it is answered in vain */
    list_remove(&peer->link);
    peer->control->n_peers--;
    io_stream_free(peer->stream);
    io_timer_free(peer->timer);
    buf_deinit(&peer->line);
    mem_free(peer);
}

/* Commands: a row each, of our own and of whoever made us. */

static void command_status(void *context, struct control_request *request,
                           const struct json_reader *arguments) {
    const struct control *control = context;
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(ANSWER_BYTES),
                       status = BUF_INIT(ANSWER_BYTES);
    (void)arguments;
    int error = gateway_write_status(control->gateway, &status);
    buf_append_cstr(&members, "\"status\":");
    buf_append(&members, buf_slice(&status));
    buf_deinit(&status);
    bool is_whole = error == 0 && buf_error(&members) == 0;
    control_answer(request, is_whole ? NULL : "the answer is too long",
                   is_whole ? buf_slice(&members) : SLICE_EMPTY);
}

/* {"command":"refresh"}: something in the store was changed; answered when every worker goes by
 * it, with edit mode as it is then. */
struct refreshing {
    struct gateway_refresh refresh;
    struct list_link link; /* in control->refreshes */
    struct control *control;
    struct control_request *request;
};

static void deliver_refreshed(struct io_message *message) {
    struct gateway_refresh *refresh = CONTAINER_OF(message, struct gateway_refresh, message);
    struct refreshing *refreshing = CONTAINER_OF(refresh, struct refreshing, refresh);
    struct buf members CLEANUP(buf_deinit) = BUF_INIT(ANSWER_BYTES);
    if (refreshing->control == NULL) {
        mem_free(refreshing);
        return;
    }
    buf_append_cstr(&members, "\"edit\":");
    int error = gateway_write_edit(refreshing->control->gateway, &members);
    control_answer(refreshing->request, error == 0 ? NULL : "the answer is too long",
                   error == 0 ? buf_slice(&members) : SLICE_EMPTY);
    list_remove(&refreshing->link);
    mem_free(refreshing);
}

static void command_refresh(void *context, struct control_request *request,
                            const struct json_reader *arguments) {
    struct control *control = context;
    struct refreshing *refreshing = mem_xalloc(sizeof *refreshing);
    (void)arguments;
    refreshing->control = control;
    refreshing->request = request;
    refreshing->refresh.loop = gateway_loop(control->gateway);
    refreshing->refresh.done = deliver_refreshed;
    list_push_back(&control->refreshes, &refreshing->link);
    gateway_refresh(control->gateway, &refreshing->refresh);
}

static const struct control_command own_commands[] = {
    {SLICE_INIT("status"), command_status},
    {SLICE_INIT("refresh"), command_refresh},
};

static const struct control_command *find_in(const struct control_command *commands, size_t n,
                                             const struct json_node *name) {
    for (size_t i = 0; i < n; i++) {
        if (json_string_is(name, commands[i].name))
            return &commands[i];
    }
    return NULL;
}

static void append_names(struct buf *out, const struct control_command *commands, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_printf(out, " %.*s", SLICE_ARGS(commands[i].name));
}

static void answer_unknown(struct control *control, struct control_request *request) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    buf_append_cstr(&text, "unknown command; known:");
    append_names(&text, own_commands, ARRAY_LEN(own_commands));
    append_names(&text, control->commands, control->n_commands);
    buf_append_byte(&text, '\0');
    control_answer(request, buf_error(&text) == 0 ? buf_slice(&text).ptr : "unknown command",
                   SLICE_EMPTY);
}

static void run(struct peer *peer, struct slice line) {
    struct control *control = peer->control;
    const struct control_command *command = NULL;
    void *context = control;
    struct control_request *request = mem_xalloc(sizeof *request);
    request->peer = peer;
    peer->request = request;
    io_timer_stop(peer->timer);
    io_stream_read(peer->stream, false);
    const struct json_node *name =
        json_read(control->reader, line, &json_want_root, NULL, NULL) == 0
            ? json_member_typed(control->reader, json_root(control->reader), SLICE("command"),
                                JSON_STRING)
            : NULL;
    if (name != NULL)
        command = find_in(own_commands, ARRAY_LEN(own_commands), name);
    if (name != NULL && command == NULL) {
        command = find_in(control->commands, control->n_commands, name);
        context = control->context;
    }
    if (command != NULL)
        command->run(context, request, control->reader);
    else
        answer_unknown(control, request);
}

/* Runs the lines that are whole, unless one is being run. False: one is too long. */
static bool look_at_lines(struct peer *peer) {
    size_t at = 0;
    if (peer->is_looking)
        return true; /* answered at once: the loop goes on */
    peer->is_looking = true;
    while (peer->request == NULL &&
           (at = slice_find_byte(buf_slice(&peer->line), '\n')) <= LIMIT_CONTROL_COMMAND) {
        struct buf line CLEANUP(buf_deinit) = BUF_INIT(LIMIT_CONTROL_COMMAND);
        buf_append(&line, slice_sub(buf_slice(&peer->line), 0, at));
        buf_consume(&peer->line, at + 1);
        run(peer, buf_slice(&line));
    }
    peer->is_looking = false;
    return peer->request != NULL ||
           (at == SIZE_MAX && buf_len(&peer->line) <= LIMIT_CONTROL_COMMAND);
}

void control_answer(struct control_request *request, const char *error, struct slice members) {
    struct peer *peer = request->peer;
    mem_free(request);
    if (peer == NULL)
        return;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(ANSWER_BYTES + KIB(4));
    struct json_writer writer;
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("ok"), error == NULL);
    if (error != NULL)
        json_kv_string(&writer, SLICE("error"), slice_from_cstr(error));
    json_object_end(&writer);
    if (members.len != 0) { /* in place of the closing brace */
        buf_truncate(&out, buf_len(&out) - 1);
        buf_append_byte(&out, ',');
        buf_append(&out, members);
        buf_append_byte(&out, '}');
    }
    buf_append_byte(&out, '\n');
    if (buf_error(&out) != 0 ||
        io_stream_write(peer->stream, buf_slice(&out), ANSWER_BYTES * 2) != 0)
        log_write(peer->control->log, LOG_WARN, "control", "an answer could not be sent");
    peer->request = NULL;
    io_timer_start(peer->timer, PEER_TIMEOUT_MS);
    io_stream_read(peer->stream, true);
    if (!look_at_lines(peer))
        free_peer(peer);
}

static void on_read(void *context, struct slice bytes) {
    struct peer *peer = context;
    if (buf_append(&peer->line, bytes) != 0 || !look_at_lines(peer))
        free_peer(peer);
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
    buf_init(&peer->line, LIMIT_CONTROL_COMMAND + KIB(256)); /* and what is read at once */
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

int control_new(const struct control_options *options, struct control **ret_control) {
    struct gateway *gateway = options->gateway;
    int fd = -1;
    int error = io_listen_unix(options->path, &fd);
    if (error != 0)
        return error;
    struct control *control = mem_xalloc(sizeof *control);
    control->gateway = gateway;
    control->log = options->log;
    control->commands = options->commands;
    control->n_commands = options->n_commands;
    control->context = options->context;
    control->path = mem_xstrdup(options->path);
    list_init(&control->peers);
    list_init(&control->refreshes);
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
    struct list_link *left;
    if (control == NULL)
        return NULL;
    LIST_FOREACH_SAFE (&control->peers, link, tmp)
        free_peer(CONTAINER_OF(link, struct peer, link));
    /* The loop has ended; its mailbox delivers what is in it when it is freed. */
    while ((left = list_pop_front(&control->refreshes)) != NULL) {
        struct refreshing *refreshing = CONTAINER_OF(left, struct refreshing, link);
        mem_free(refreshing->request);
        refreshing->control = NULL;
        refreshing->refresh.loop = NULL;
    }
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
