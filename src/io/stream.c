#include "io/stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "io/file.h"
#include "stream_private.h"
#include "tls_private.h"

void stream_report_end(struct io_stream *stream, int error) {
    if (stream->has_ended || stream->is_closed)
        return;
    if (stream->tls != NULL && tls_stream_break(stream->tls, error))
        return;
    stream->has_ended = true;
    stream_read_wire(stream, false);
    stream->events.on_end(stream->context, error);
}

/* A reset that comes together with data is an end to libuv; the socket knows better. */
static int pending_error(struct io_stream *stream) {
    int fd = -1, error = 0;
    socklen_t size = sizeof error;
    if (uv_fileno(&stream->uv.handle, &fd) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return 0; /* a pipe has no such thing */
    return -error;
}

/*
 * Too much is held. Streams of clients are not read then, and those of upstreams a little later.
 * Were all of them stopped in the midst of their messages, none would ever be whole and nothing
 * given back: so one of each kind, the favourite, is read on until its message is whole, or until
 * another one's turn has come. There is none while still more is held: then whole messages wait for
 * somebody.
 */
enum { STARVED_MS = 20, FAVOURITE_MS = 5000 };

static bool is_starved(const struct io_stream *stream) {
    const struct budget *budget = stream->loop->budget;
    if (LIKELY(!budget_is_exceeded(budget)) || stream->never_starves)
        return false;
    return stream->loop->favourites[stream->drains].stream != stream &&
           (!stream->drains || budget_held(budget) > budget->max + budget->max / 4);
}

/*
 * libuv reads up to 32 times before it looks at anything else, as long as each read fills its
 * buffer. A peer that floods would be all that there is: after some chunks it is the turn of
 * others.
 */
enum { CHUNKS_A_TURN = 2 };

/* Nothing is read where too much is held, or where the turn is over: on_read() gets UV_ENOBUFS. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct io_stream *stream = handle->data;
    (void)suggested;
    *buf = UNLIKELY(stream->n_full_chunks == CHUNKS_A_TURN || is_starved(stream))
               ? uv_buf_init(NULL, 0)
               : uv_buf_init(stream->loop->read_chunk, sizeof stream->loop->read_chunk);
}

static void on_starved_timer(uv_timer_t *timer) {
    streams_feed(timer->data);
}

static void starve(struct io_stream *stream) {
    struct io_loop *loop = stream->loop;
    uv_read_stop(&stream->uv.stream);
    if (!list_is_linked(&stream->starved_link))
        list_push_back(&loop->starved, &stream->starved_link);
    if (!uv_is_active((const uv_handle_t *)&loop->starved_timer))
        uv_timer_start(&loop->starved_timer, on_starved_timer, STARVED_MS, 0);
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf);

void io_stream_yield(struct io_stream *stream) {
    struct io_favourite *favourite = &stream->loop->favourites[stream->drains];
    if (favourite->stream == stream)
        favourite->stream = NULL;
}

static bool is_there(const struct io_stream *stream, short event) {
    struct pollfd pollfd = {.fd = -1, .events = event};
    return uv_fileno(&stream->uv.handle, &pollfd.fd) == 0 && poll(&pollfd, 1, 0) == 1;
}

bool io_stream_has_input(const struct io_stream *stream) {
    return is_there(stream, POLLIN) || (stream->tls != NULL && tls_stream_has_input(stream->tls));
}

static void choose_favourite(struct io_stream *stream) {
    struct io_favourite *favourite = &stream->loop->favourites[stream->drains];
    const struct budget *budget = stream->loop->budget;
    size_t most = budget->max + budget->max / 4 + (stream->drains ? LIMIT_UPSTREAM_MESSAGE : 0);
    if (favourite->stream != NULL || budget_held(budget) > most || !is_there(stream, POLLIN))
        return;
    favourite->stream = stream;
    favourite->since_ms = uv_now(&stream->loop->uv);
}

static void end_turns(struct io_loop *loop) {
    for (size_t i = 0; i < ARRAY_LEN(loop->favourites); i++) {
        if (uv_now(&loop->uv) - loop->favourites[i].since_ms >= FAVOURITE_MS)
            loop->favourites[i].stream = NULL;
    }
}

void streams_feed(struct io_loop *loop) {
    struct list waiting;
    struct list_link *link;
    bool has_room = budget_has_room(loop->budget);
    end_turns(loop);
    list_init(&waiting);
    list_splice_back(&waiting, &loop->starved);
    while ((link = list_pop_front(&waiting)) != NULL) { /* ends may free others */
        struct io_stream *stream = CONTAINER_OF(link, struct io_stream, starved_link);
        bool waits = is_starved(stream) || (!has_room && !stream->drains);
        if (waits)
            choose_favourite(stream);
        if (waits && loop->favourites[stream->drains].stream != stream) {
            list_push_back(&loop->starved, link);
            /* What a client that is gone has sent is of no use to anybody. */
            if (!stream->drains && is_there(stream, POLLRDHUP))
                stream_report_end(stream, UV_ECONNRESET);
            continue;
        }
        uv_read_start(&stream->uv.stream, on_alloc, on_read);
    }
    if (!list_is_empty(&loop->starved))
        uv_timer_start(&loop->starved_timer, on_starved_timer, STARVED_MS, 0);
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf) {
    struct io_stream *stream = uv->data;
    bool is_full = n > 0 && (size_t)n == buf->len;
    stream->n_full_chunks = UNLIKELY(is_full) ? stream->n_full_chunks + 1 : 0;
    if (UNLIKELY(n == UV_ENOBUFS && !is_starved(stream)))
        return; /* the turn is over; reading is on */
    if (UNLIKELY(n == UV_ENOBUFS))
        starve(stream);
    else if (UNLIKELY(stream->tls != NULL))
        tls_stream_input(stream->tls, buf->base, n);
    else if (n > 0)
        stream->events.on_read(stream->context, slice_make(buf->base, (size_t)n));
    else if (n < 0)
        stream_report_end(stream, n == UV_EOF ? pending_error(stream) : (int)n);
}

static int open_handle(struct io_stream *stream, enum io_stream_kind kind, int fd) {
    uv_loop_t *loop = &stream->loop->uv;
    int error;
    if (kind == IO_STREAM_TCP) {
        uv_tcp_init(loop, &stream->uv.tcp);
        error = uv_tcp_open(&stream->uv.tcp, fd);
        if (error == 0)
            uv_tcp_nodelay(&stream->uv.tcp, 1);
    } else {
        uv_pipe_init(loop, &stream->uv.pipe, 0);
        error = uv_pipe_open(&stream->uv.pipe, fd);
    }
    stream->uv.handle.data = stream;
    return error;
}

/* What is in the queue has left, or never will. */
static void empty_queue(struct io_stream *stream) {
    if (UNLIKELY(stream->has_secrets) && stream->queue.data != NULL)
        secret_wipe(stream->queue.data, stream->queue.cap);
    buf_reset(&stream->queue, 0);
}

static void free_sending(struct io_stream *stream) {
    if (UNLIKELY(stream->has_secrets) && stream->sending != NULL)
        secret_wipe(stream->sending, stream->sending_len);
    mem_free(TAKE(stream->sending));
    budget_give_back(stream->loop->budget, stream->sending_len);
    stream->sending_len = 0;
}

void io_stream_has_secrets(struct io_stream *stream) {
    stream->has_secrets = true;
}

static void on_closed(uv_handle_t *handle) {
    struct io_stream *stream = handle->data;
    empty_queue(stream);
    free_sending(stream);
    if (stream->tls != NULL)
        tls_stream_free(stream->tls);
    mem_free(stream);
}

int io_stream_new(struct io_loop *loop, enum io_stream_kind kind, int fd,
                  const struct io_stream_events *events, void *context,
                  struct io_stream **ret_stream) {
    struct io_stream *stream = mem_xalloc(sizeof *stream);
    stream->loop = loop;
    stream->events = *events;
    stream->context = context;
    buf_init_held(&stream->queue, SIZE_MAX, loop->budget);
    int error = open_handle(stream, kind, fd);
    if (error != 0) {
        io_fd_close(&fd);
        io_stream_free(stream);
        return error;
    }
    *ret_stream = stream;
    return 0;
}

struct io_stream *io_stream_free(struct io_stream *stream) {
    if (stream != NULL && !stream->is_closed) {
        io_stream_flush(stream);
        stream->is_closed = true;
        list_remove(&stream->unsent_link);
        list_remove(&stream->starved_link);
        io_stream_yield(stream);
        if (stream->tls != NULL)
            tls_stream_stop(stream->tls);
        uv_close(&stream->uv.handle, on_closed);
    }
    return NULL;
}

void stream_read_wire(struct io_stream *stream, bool on) {
    stream->wants_read = on;
    list_remove(&stream->starved_link);
    io_stream_yield(stream);
    if (!on)
        uv_read_stop(&stream->uv.stream);
    else if (UNLIKELY(is_starved(stream)))
        starve(stream);
    else
        uv_read_start(&stream->uv.stream, on_alloc, on_read);
}

void io_stream_drains(struct io_stream *stream) {
    stream->drains = true;
}

bool io_stream_is_starved(const struct io_stream *stream) {
    return list_is_linked(&stream->starved_link);
}

void io_stream_never_starves(struct io_stream *stream) {
    stream->never_starves = true;
}

void io_stream_read(struct io_stream *stream, bool on) {
    if (stream->has_ended || stream->is_closed)
        return;
    if (stream->tls != NULL)
        tls_stream_read(stream->tls, on);
    else
        stream_read_wire(stream, on);
}

static void send_queue(struct io_stream *stream);

static void finish_shutdown(struct io_stream *stream) {
    if (stream->shutdown_wanted && stream->sending == NULL && buf_len(&stream->queue) == 0) {
        stream->shutdown_wanted = false;
        uv_shutdown(&stream->shutdown, &stream->uv.stream, NULL);
    }
}

static void on_written(uv_write_t *write, int status) {
    struct io_stream *stream = write->data;
    free_sending(stream);
    if (stream->is_closed)
        return;
    if (status != 0) {
        stream->is_broken = true;
        empty_queue(stream);
        stream_report_end(stream, status);
        return;
    }
    if (buf_len(&stream->queue) != 0) {
        send_queue(stream);
        return;
    }
    finish_shutdown(stream);
    if (stream->events.on_drain != NULL && (stream->tls == NULL || tls_stream_is_open(stream->tls)))
        stream->events.on_drain(stream->context);
}

/* Memory that shrinks may move, and what it leaves behind is not reached: secrets are copied. */
static char *take_queue(struct io_stream *stream, size_t *ret_len) {
    if (LIKELY(!stream->has_secrets))
        return buf_take(&stream->queue, ret_len);
    struct slice all = buf_slice(&stream->queue);
    char *bytes = mem_alloc(all.len);
    if (bytes == NULL)
        return NULL;
    memcpy(bytes, all.ptr, all.len);
    *ret_len = all.len;
    empty_queue(stream);
    return bytes;
}

/* Hands the queue to the kernel's care. What cannot be started shows as a broken stream when it is
 * read. */
static void send_queue(struct io_stream *stream) {
    size_t len = 0;
    char *bytes = take_queue(stream, &len);
    if (bytes == NULL) {
        stream->is_broken = true;
        return;
    }
    uv_buf_t buf = uv_buf_init(bytes, (unsigned)len);
    stream->sending = bytes;
    stream->sending_len = len;
    budget_add(stream->loop->budget, len);
    stream->write.data = stream;
    if (uv_write(&stream->write, &stream->uv.stream, &buf, 1, on_written) != 0) {
        free_sending(stream);
        stream->is_broken = true;
    }
}

/* How many bytes went out at once; -errno. */
static ssize_t try_write(struct io_stream *stream, const struct slice *pieces, size_t n_pieces) {
    uv_buf_t bufs[IO_STREAM_PIECES] UNCLEARED;
    unsigned n_bufs = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].len == 0)
            continue;
        /* uv_try_write takes pointers to non-const, but does not write through them. */
        union {
            const char *in;
            char *out;
        } base = {.in = pieces[i].ptr};
        bufs[n_bufs++] = uv_buf_init(base.out, (unsigned)pieces[i].len);
    }
    int n = n_bufs != 0 ? uv_try_write(&stream->uv.stream, bufs, n_bufs) : 0;
    return n == UV_EAGAIN ? 0 : n;
}

/* --- the end of a turn --- */

/*
 * To wait for the end of a turn pays where a turn has much to write. Where it has little, peers had
 * better begin while we go on: which it is, the turns before tell.
 */
enum {
    TURN_WRITES = 32, /* after so many the first ones have waited long enough */
    BUSY_FROM = 6,    /* writes in a turn, on average */
    BUSY_TO = 3,
    FRACTION = 16, /* averages count sixteenths */
    INERTIA = 8    /* turns */
};

void streams_init(struct io_loop *loop) {
    list_init(&loop->starved);
    list_init(&loop->unsent);
    loop->is_busy = true; /* until it is known */
    loop->usual_writes = 2 * BUSY_FROM * FRACTION;
}

static void note_turn(struct io_loop *loop, size_t n_writes) {
    loop->usual_writes += n_writes * FRACTION / INERTIA - loop->usual_writes / INERTIA;
    size_t least = loop->is_busy ? BUSY_TO : BUSY_FROM;
    loop->is_busy = loop->usual_writes >= least * FRACTION;
}

/* What waits will not leave: then it was never accepted. */
static void give_up(struct io_stream *stream) {
    stream->is_broken = true;
    stream->n_accepted -= buf_len(&stream->queue);
    empty_queue(stream);
}

static void give_up_by(struct io_stream *stream, int error) {
    stream->write_error = error;
    give_up(stream);
}

/* Never calls back: what has to be told is told at the end of the turn. */
void io_stream_flush(struct io_stream *stream) {
    struct slice all = buf_slice(&stream->queue);
    if (stream->sending != NULL || all.len == 0 || stream->is_closed)
        return;
    ssize_t n = try_write(stream, &all, 1);
    if (n < 0) {
        give_up_by(stream, (int)n);
    } else if ((size_t)n == all.len) {
        empty_queue(stream);
    } else {
        buf_consume(&stream->queue, (size_t)n);
        send_queue(stream);
        if (stream->sending == NULL)
            give_up_by(stream, -ENOMEM);
    }
}

uint64_t io_stream_accepted(const struct io_stream *stream) {
    return stream->n_accepted;
}

bool io_stream_withdraw(struct io_stream *stream, uint64_t accepted) {
    size_t unsent = stream->sending == NULL ? buf_len(&stream->queue) : 0;
    if (stream->n_accepted - unsent > accepted)
        return false;
    if (stream->sending == NULL)
        give_up(stream);
    return true;
}

static void flush_all(struct io_loop *loop) {
    loop->n_unsent = 0;
    LIST_FOREACH_SAFE (&loop->unsent, link, next) {
        io_stream_flush(CONTAINER_OF(link, struct io_stream, unsent_link));
    }
}

static void tell(struct io_stream *stream) {
    if (stream->write_error != 0)
        stream_report_end(stream, stream->write_error);
    else if (stream->sending != NULL && stream->events.on_queued != NULL &&
             (stream->tls == NULL || tls_stream_is_open(stream->tls)))
        stream->events.on_queued(stream->context);
}

void streams_end_turn(struct io_loop *loop) {
    struct list_link *link;
    if (loop->n_writes != 0)
        note_turn(loop, loop->n_writes);
    loop->n_writes = loop->n_unsent = 0;
    while ((link = list_pop_front(&loop->unsent)) != NULL) { /* who is told may write */
        struct io_stream *stream = CONTAINER_OF(link, struct io_stream, unsent_link);
        io_stream_flush(stream);
        tell(stream);
    }
}

/* --- writing --- */

/* False: there is no memory for that; or a secret would have to move. */
static bool collect(struct io_stream *stream, const struct slice *pieces, size_t n_pieces,
                    size_t len) {
    if (UNLIKELY(stream->has_secrets) && stream->tls == NULL && buf_len(&stream->queue) != 0)
        return false;
    if (buf_reserve(&stream->queue, len) == NULL) {
        stream->queue.error = 0; /* what is in it is whole */
        return false;
    }
    for (size_t i = 0; i < n_pieces; i++)
        (void)!buf_append(&stream->queue, pieces[i]);
    stream->n_accepted += len;
    if (!list_is_linked(&stream->unsent_link))
        list_push_back(&stream->loop->unsent, &stream->unsent_link);
    if (++stream->loop->n_unsent == TURN_WRITES)
        flush_all(stream->loop);
    return true;
}

static int send_now(struct io_stream *stream, const struct slice *pieces, size_t n_pieces) {
    size_t sent = 0;
    io_stream_flush(stream);
    if (stream->is_broken)
        return stream->write_error != 0 ? stream->write_error : -EPIPE;
    if (stream->sending == NULL) {
        ssize_t n = try_write(stream, pieces, n_pieces);
        if (n < 0) {
            stream->is_broken = true;
            return (int)n;
        }
        sent = (size_t)n;
    }
    for (size_t i = 0; i < n_pieces; i++) {
        struct slice rest = slice_from(pieces[i], sent);
        stream->n_accepted += pieces[i].len;
        sent -= pieces[i].len - rest.len;
        if (rest.len == 0)
            continue;
        int error = buf_append(&stream->queue, rest);
        if (error != 0) {
            stream->is_broken = true;
            return error;
        }
    }
    if (stream->sending == NULL && buf_len(&stream->queue) != 0)
        send_queue(stream);
    return stream->is_broken ? -ENOMEM : 0;
}

int stream_send(struct io_stream *stream, const struct slice *pieces, size_t n_pieces) {
    size_t len = 0;
    for (size_t i = 0; i < n_pieces; i++)
        len += pieces[i].len;
    if (len == 0)
        return 0;
    if (stream->is_broken) /* by a part of the same write */
        return stream->write_error != 0 ? stream->write_error : -EPIPE;
    stream->loop->n_writes++;
    bool is_much = stream->sending != NULL || len > IO_STREAM_TURN - buf_len(&stream->queue);
    return stream->loop->is_busy && !is_much && collect(stream, pieces, n_pieces, len)
               ? 0
               : send_now(stream, pieces, n_pieces);
}

int io_stream_writev(struct io_stream *stream, const struct slice *pieces, size_t n_pieces,
                     size_t max_queued) {
    if (stream->is_broken || stream->is_closed || stream->is_shut)
        return -EPIPE;
    size_t room = io_stream_queued(stream);
    room = room > max_queued ? 0 : max_queued - room;
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].len > room)
            return -ENOBUFS;
        room -= pieces[i].len;
    }
    if (LIKELY(stream->tls == NULL))
        return stream_send(stream, pieces, n_pieces);
    return tls_stream_write(stream->tls, pieces, n_pieces);
}

int io_stream_write(struct io_stream *stream, struct slice bytes, size_t max_queued) {
    return io_stream_writev(stream, &bytes, 1, max_queued);
}

size_t io_stream_queued(const struct io_stream *stream) {
    return stream->sending != NULL ? stream->sending_len + buf_len(&stream->queue) : 0;
}

size_t io_stream_undelivered(const struct io_stream *stream) {
    size_t waits = buf_len(&stream->queue);
    int fd = -1, in_kernel = 0;
    if (stream->sending != NULL)
        waits += uv_stream_get_write_queue_size(&stream->uv.stream);
    if (uv_fileno(&stream->uv.handle, &fd) == 0 && ioctl(fd, SIOCOUTQ, &in_kernel) == 0 &&
        in_kernel > 0)
        waits += (size_t)in_kernel;
    return waits;
}

uint64_t io_stream_delivered(const struct io_stream *stream) {
    size_t waits = io_stream_undelivered(stream);
    return waits < stream->n_accepted ? stream->n_accepted - waits : 0;
}

bool io_stream_has_hung_up(const struct io_stream *stream) {
    return stream->is_closed || is_there(stream, POLLRDHUP);
}

void io_stream_shutdown(struct io_stream *stream) {
    if (stream->is_broken || stream->is_closed)
        return;
    if (stream->tls != NULL)
        tls_stream_shutdown(stream->tls);
    io_stream_flush(stream);
    stream->shutdown_wanted = stream->is_shut = true;
    finish_shutdown(stream);
}
