/*
 * Streams: what the queue takes, back-pressure, half close, broken peers, freeing inside a
 * callback. Listeners and addresses.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/buf.h"
#include "base/limits.h"
#include "io/file.h"
#include "io/stream.h"
#include "loop_guard.h"
#include "tcp_pair.h"
#include "test.h"

/* --- two ends --- */

struct end {
    struct io_stream *stream;
    struct io_loop *loop;
    struct buf got;
    unsigned reads, ends, drains, queued;
    int error;
    size_t stop_after; /* stops the loop when that much came */
    bool stops_at_end, stops_at_drain, frees_at_read, frees_at_end;
};

static void on_read(void *context, struct slice bytes) {
    struct end *end = context;
    CHECK_INT(end->ends, 0);
    CHECK(bytes.len > 0);
    end->reads++;
    CHECK_INT(buf_append(&end->got, bytes), 0);
    if (end->frees_at_read)
        end->stream = io_stream_free(end->stream);
    if (end->stop_after != 0 && buf_len(&end->got) >= end->stop_after)
        io_loop_stop(end->loop);
}

static void on_end(void *context, int error) {
    struct end *end = context;
    end->ends++;
    end->error = error;
    if (end->frees_at_end)
        end->stream = io_stream_free(end->stream);
    if (end->stops_at_end)
        io_loop_stop(end->loop);
}

static void on_queued(void *context) {
    struct end *end = context;
    end->queued++;
    CHECK(io_stream_queued(end->stream) > 0);
}

static void on_drain(void *context) {
    struct end *end = context;
    end->drains++;
    CHECK_INT(io_stream_queued(end->stream), 0);
    if (end->stops_at_drain)
        io_loop_stop(end->loop);
}

static const struct io_stream_events events = {
    .on_read = on_read,
    .on_end = on_end,
    .on_queued = on_queued,
    .on_drain = on_drain,
};

struct pair {
    struct guarded guarded;
    struct end ends[2];
};

static void pair_open(struct pair *pair, enum io_stream_kind kind) {
    int fds[2];
    *pair = (struct pair){.ends = {{.got = BUF_INIT(MIB(8))}, {.got = BUF_INIT(MIB(8))}}};
    guarded_new(&pair->guarded);
    bool made = kind == IO_STREAM_TCP ? tcp_pair(fds, SMALL_SEND_BUFFER)
                                      : socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0;
    for (size_t i = 0; i < 2; i++) {
        struct end *end = &pair->ends[i];
        end->loop = pair->guarded.loop;
        if (!made || io_stream_new(end->loop, kind, fds[i], &events, end, &end->stream) != 0)
            CANNOT_GO_ON();
    }
}

static void pair_close(struct pair *pair) {
    for (size_t i = 0; i < 2; i++) {
        io_stream_free(pair->ends[i].stream);
        buf_deinit(&pair->ends[i].got);
    }
    guarded_free(&pair->guarded);
}

static void stop(void *loop) {
    io_loop_stop(loop);
}

/* Turns the loop until nothing more can be under way. */
static void settle(struct pair *pair) {
    struct later later = {.loop = pair->guarded.loop, .n = 50, .fn = stop};
    later.context = pair->guarded.loop;
    later_start(&later);
    do { /* an end may stop the loop as well, and sooner */
        guarded_run(&pair->guarded);
    } while (list_is_linked(&later.message.link));
}

static const enum io_stream_kind kinds[] = {IO_STREAM_TCP, IO_STREAM_PIPE};

/* --- writing --- */

static void test_small_write(void) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct pair pair;
        pair_open(&pair, kinds[i]);
        pair.ends[1].stop_after = 5;
        CHECK_INT(io_stream_write(pair.ends[0].stream, SLICE(""), 0), 0);
        CHECK_INT(io_stream_write(pair.ends[0].stream, SLICE("hello"), 5), 0);
        CHECK_INT(io_stream_queued(pair.ends[0].stream), 0);
        CHECK_INT(io_stream_write(pair.ends[0].stream, SLICE("hello"), 4), -ENOBUFS);
        io_stream_read(pair.ends[1].stream, true);
        CHECK_INT(pair.ends[1].reads, 0);
        guarded_run(&pair.guarded);
        CHECK_STR(buf_slice(&pair.ends[1].got), "hello");
        CHECK_INT(pair.ends[0].drains, 0); /* nothing was ever queued */
        CHECK_INT(pair.ends[0].ends + pair.ends[1].ends, 0);
        pair_close(&pair);
    }
}

enum { BLOCK = 512 * 1024, MAX_QUEUED = 1024 * 1024 };

/* Bytes that tell their place. */
static char pattern_at(size_t i) {
    return (char)(i * 31 + i / 251);
}

static bool has_pattern(struct slice bytes, size_t from) {
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.ptr[i] != pattern_at(from + i))
            return false;
    }
    return true;
}

/* Writes blocks until one is refused; how many bytes went in. */
static size_t fill_queue(struct io_stream *stream) {
    static char block[BLOCK];
    size_t written = 0;
    for (int r = 0; r == 0 && written < 64 * (size_t)BLOCK; written += r == 0 ? BLOCK : 0) {
        for (size_t i = 0; i < BLOCK; i++)
            block[i] = pattern_at(written + i);
        size_t before = io_stream_queued(stream);
        r = io_stream_write(stream, slice_make(block, BLOCK), MAX_QUEUED);
        CHECK(r == 0 || r == -ENOBUFS);
        if (r != 0)
            CHECK_INT(io_stream_queued(stream), before);
        CHECK(io_stream_queued(stream) <= MAX_QUEUED);
    }
    return written;
}

static void test_queue(void) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct pair pair;
        pair_open(&pair, kinds[i]);
        struct io_stream *stream = pair.ends[0].stream;
        size_t written = fill_queue(stream);
        size_t queued = io_stream_queued(stream);
        CHECK(written > 0 && queued > 0);
        /* At the limit, and one byte past it. */
        char next[2] = {pattern_at(written), pattern_at(written + 1)};
        CHECK_INT(io_stream_write(stream, slice_make(next, 2), queued + 1), -ENOBUFS);
        CHECK_INT(io_stream_queued(stream), queued);
        CHECK_INT(io_stream_write(stream, slice_make(next, 2), queued + 2), 0);
        CHECK_INT(io_stream_queued(stream), queued + 2);
        CHECK_INT(io_stream_write(stream, slice_make(next, 1), queued), -ENOBUFS);
        CHECK_INT(io_stream_write(stream, slice_make(next, 1), 0), -ENOBUFS);
        settle(&pair);
        CHECK_INT(pair.ends[1].reads, 0); /* reading is off */
        CHECK_INT(pair.ends[0].drains, 0);
        written += 2;
        pair.ends[1].stop_after = written;
        io_stream_read(pair.ends[1].stream, true);
        guarded_run(&pair.guarded);
        CHECK_INT(buf_len(&pair.ends[1].got), written);
        CHECK(has_pattern(buf_slice(&pair.ends[1].got), 0));
        settle(&pair);
        CHECK_INT(pair.ends[0].drains, 1);
        CHECK_INT(io_stream_queued(stream), 0);
        pair_close(&pair);
    }
}

/* --- the end of a turn --- */

static void test_turn(void) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct pair pair;
        pair_open(&pair, kinds[i]);
        struct end *near = &pair.ends[0], *far = &pair.ends[1];
        CHECK_INT(io_stream_write(near->stream, SLICE("one "), 100), 0);
        CHECK_INT(io_stream_write(near->stream, SLICE("two "), 100), 0);
        CHECK_INT(io_stream_write(near->stream, SLICE("three"), 100), 0);
        CHECK(!io_stream_has_input(far->stream));
        CHECK_INT(io_stream_queued(near->stream), 0);
        CHECK(io_stream_undelivered(near->stream) >= 13);
        io_stream_read(far->stream, true);
        settle(&pair);
        CHECK_STR(buf_slice(&far->got), "one two three");
        CHECK_INT(far->reads, 1);
        CHECK_INT(near->queued + near->drains, 0);
        /* Who wants, has it at once; and it is written once. */
        CHECK_INT(io_stream_write(near->stream, SLICE("!"), 100), 0);
        io_stream_flush(near->stream);
        CHECK(io_stream_has_input(far->stream));
        settle(&pair);
        CHECK_STR(buf_slice(&far->got), "one two three!");
        pair_close(&pair);
    }
}

/* At the most that waits for the end of a turn, and one byte past it. */
static void test_turn_bytes(void) {
    static char bytes[IO_STREAM_TURN + 1];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = pattern_at(i);
    for (size_t len = IO_STREAM_TURN; len <= sizeof bytes; len++) {
        struct pair pair;
        pair_open(&pair, IO_STREAM_PIPE);
        struct end *near = &pair.ends[0], *far = &pair.ends[1];
        CHECK_INT(io_stream_write(near->stream, slice_make(bytes, 7), MIB(1)), 0);
        CHECK_INT(io_stream_write(near->stream, slice_make(bytes + 7, len - 7), MIB(1)), 0);
        CHECK(io_stream_has_input(far->stream) == (len > IO_STREAM_TURN));
        io_stream_read(far->stream, true);
        settle(&pair);
        CHECK_INT(buf_len(&far->got), len);
        CHECK(has_pattern(buf_slice(&far->got), 0));
        pair_close(&pair);
    }
}

/* Many who write in one long turn do not let the first one wait for the last. */
static void test_long_turn(void) {
    enum { WRITES = 32 };
    struct pair pair;
    pair_open(&pair, IO_STREAM_TCP);
    for (int i = 1; i <= WRITES; i++) {
        struct io_stream *stream = pair.ends[i == 1 ? 0 : 1].stream;
        CHECK(!io_stream_has_input(pair.ends[1].stream));
        CHECK_INT(io_stream_write(stream, SLICE("x"), 100), 0);
    }
    CHECK(io_stream_has_input(pair.ends[1].stream));
    CHECK(io_stream_has_input(pair.ends[0].stream));
    pair_close(&pair);
}

/* Where turns have little to write nothing waits for their end, and the other way round. */
static void test_quiet_and_busy(void) {
    struct pair pair;
    pair_open(&pair, IO_STREAM_TCP);
    struct end *near = &pair.ends[0], *far = &pair.ends[1];
    for (int busy = 0; busy <= 1; busy++) {
        io_stream_read(far->stream, true);
        for (int turn = 0; turn < 40; turn++) {
            for (int i = 0; i < (busy ? 8 : 1); i++)
                CHECK_INT(io_stream_write(near->stream, SLICE("x"), 100), 0);
            settle(&pair);
        }
        io_stream_read(far->stream, false);
        CHECK_INT(io_stream_write(near->stream, SLICE("y"), 100), 0);
        CHECK(io_stream_has_input(far->stream) == !busy);
        settle(&pair);
    }
    io_stream_read(far->stream, true);
    settle(&pair);
    CHECK_INT(buf_len(&far->got), 40 + 1 + 40 * 8 + 1);
    pair_close(&pair);
}

/* The kernel takes a part of what leaves at the end of a turn: told, and the rest follows. */
static void test_queued_at_end(void) {
    static char bytes[IO_STREAM_TURN];
    struct pair pair;
    int fds[2];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = pattern_at(i);
    pair_open(&pair, IO_STREAM_PIPE);
    struct end *near = &pair.ends[0], *far = &pair.ends[1];
    io_stream_free(near->stream);
    io_stream_free(far->stream);
    if (io_pipe(&fds[0], &fds[1]) != 0 || fcntl(fds[1], F_SETPIPE_SZ, 4096) != 4096 ||
        io_stream_new(near->loop, IO_STREAM_PIPE, fds[1], &events, near, &near->stream) != 0 ||
        io_stream_new(far->loop, IO_STREAM_PIPE, fds[0], &events, far, &far->stream) != 0)
        CANNOT_GO_ON();
    CHECK_INT(io_stream_write(near->stream, slice_make(bytes, sizeof bytes), MIB(1)), 0);
    CHECK_INT(io_stream_queued(near->stream), 0);
    settle(&pair);
    CHECK_INT(near->queued, 1);
    CHECK_INT(io_stream_queued(near->stream), sizeof bytes - 4096);
    io_stream_read(far->stream, true);
    settle(&pair);
    CHECK_INT(buf_len(&far->got), sizeof bytes);
    CHECK(has_pattern(buf_slice(&far->got), 0));
    CHECK_INT(near->drains, 1);
    pair_close(&pair);
}

/* Copies of secrets do not move; all arrives as it would otherwise. */
static void test_secrets(void) {
    static char bytes[IO_STREAM_TURN];
    struct pair pair;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = pattern_at(i);
    pair_open(&pair, IO_STREAM_TCP);
    struct end *near = &pair.ends[0], *far = &pair.ends[1];
    io_stream_has_secrets(near->stream);
    CHECK_INT(io_stream_write(near->stream, slice_make(bytes, 7), MIB(8)), 0);
    CHECK(!io_stream_has_input(far->stream));
    size_t len = 7;
    CHECK_INT(io_stream_write(near->stream, slice_make(bytes + len, 1000), MIB(8)), 0);
    CHECK(io_stream_has_input(far->stream)); /* both, one behind the other */
    io_stream_flush(near->stream);
    for (len += 1000; io_stream_queued(near->stream) == 0; len += sizeof bytes) {
        char *next = mem_xalloc(sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++)
            next[i] = pattern_at(len + i);
        CHECK_INT(io_stream_write(near->stream, slice_make(next, sizeof bytes), MIB(8)), 0);
        io_stream_flush(near->stream);
        mem_free(next);
    }
    io_stream_read(far->stream, true);
    settle(&pair);
    CHECK_INT(buf_len(&far->got), len);
    CHECK(has_pattern(buf_slice(&far->got), 0));
    pair_close(&pair);
}

/* Nobody reads any more: that is met when the turn ends, and told once. */
static void test_broken_at_end(void) {
    struct pair pair;
    pair_open(&pair, IO_STREAM_PIPE);
    struct end *near = &pair.ends[0], *far = &pair.ends[1];
    far->stream = io_stream_free(far->stream);
    settle(&pair);
    CHECK_INT(io_stream_write(near->stream, SLICE("for nobody"), 100), 0);
    CHECK_INT(io_stream_accepted(near->stream), 10);
    CHECK_INT(near->ends, 0);
    settle(&pair);
    CHECK_INT(io_stream_accepted(near->stream), 0);
    CHECK(io_stream_withdraw(near->stream, 0));
    CHECK_INT(near->ends, 1);
    CHECK_INT(near->error, -EPIPE);
    CHECK_INT(io_stream_write(near->stream, SLICE("again"), 100), -EPIPE);
    settle(&pair);
    CHECK_INT(near->ends, 1);
    pair_close(&pair);
}

/* There is no memory for what the kernel does not take at the end of a turn: told, not forgotten.
 */
static void test_no_memory_at_end(void) {
    static char bytes[IO_STREAM_TURN];
    struct pair pair;
    int fds[2];
    pair_open(&pair, IO_STREAM_PIPE);
    struct end *near = &pair.ends[0];
    io_stream_free(near->stream);
    if (io_pipe(&fds[0], &fds[1]) != 0 || fcntl(fds[1], F_SETPIPE_SZ, 4096) != 4096 ||
        io_stream_new(near->loop, IO_STREAM_PIPE, fds[1], &events, near, &near->stream) != 0)
        CANNOT_GO_ON();
    CHECK_INT(io_stream_write(near->stream, slice_make(bytes, sizeof bytes), MIB(1)), 0);
    mem_fail_after(1);
    io_stream_flush(near->stream);
    mem_fail_after(0);
    CHECK_INT(near->ends, 0);
    settle(&pair);
    CHECK_INT(near->ends, 1);
    CHECK_INT(near->error, -ENOMEM);
    CHECK_INT(io_stream_undelivered(near->stream), 0);
    CHECK_INT(io_stream_delivered(near->stream), 4096);
    io_fd_close(&fds[0]);
    pair_close(&pair);
}

/* --- ends --- */

/* A FIN goes behind what is queued; the other direction stays open. */
static void test_half_close(void) {
    struct pair pair;
    pair_open(&pair, IO_STREAM_TCP);
    struct end *near = &pair.ends[0], *far = &pair.ends[1];
    size_t written = fill_queue(near->stream);
    io_stream_shutdown(near->stream);
    far->stops_at_end = true;
    io_stream_read(far->stream, true);
    io_stream_read(near->stream, true);
    guarded_run(&pair.guarded);
    CHECK_INT(buf_len(&far->got), written);
    CHECK(has_pattern(buf_slice(&far->got), 0));
    CHECK_INT(far->ends, 1);
    CHECK_INT(far->error, 0);
    far->stops_at_end = false;
    CHECK_INT(near->ends, 0);
    near->stop_after = 5;
    CHECK_INT(io_stream_write(far->stream, SLICE("reply"), 5), 0);
    io_stream_shutdown(near->stream); /* again: nothing */
    settle(&pair);
    CHECK_STR(buf_slice(&near->got), "reply");
    CHECK(io_stream_write(near->stream, SLICE("x"), 10) < 0);
    CHECK_INT(io_stream_write(near->stream, SLICE("x"), 10), -EPIPE);
    near->stops_at_end = true;
    io_stream_shutdown(far->stream);
    settle(&pair);
    CHECK_INT(near->ends, 1);
    CHECK_INT(near->error, 0);
    io_stream_read(near->stream, true); /* behind the end: nothing */
    settle(&pair);
    CHECK_INT(near->ends, 1);
    CHECK_INT(far->ends, 1);
    pair_close(&pair);
}

/* --- reading --- */

static void test_pause(void) {
    struct pair pair;
    pair_open(&pair, IO_STREAM_TCP);
    struct end *far = &pair.ends[1];
    io_stream_read(far->stream, true);
    io_stream_read(far->stream, true); /* twice is once */
    CHECK_INT(io_stream_write(pair.ends[0].stream, SLICE("one"), 10), 0);
    settle(&pair);
    CHECK_STR(buf_slice(&far->got), "one");
    io_stream_read(far->stream, false);
    CHECK_INT(io_stream_write(pair.ends[0].stream, SLICE("two"), 10), 0);
    pair.ends[0].stream = io_stream_free(pair.ends[0].stream);
    settle(&pair);
    CHECK_STR(buf_slice(&far->got), "one");
    CHECK_INT(far->ends, 0);
    io_stream_read(far->stream, true);
    settle(&pair);
    CHECK_STR(buf_slice(&far->got), "onetwo");
    CHECK_INT(far->ends, 1);
    CHECK_INT(far->error, 0);
    pair_close(&pair);
}

static void test_free_inside(void) {
    for (unsigned mask = 0; mask < 4; mask++) {
        struct pair pair;
        pair_open(&pair, kinds[mask % 2]);
        struct end *far = &pair.ends[1];
        far->frees_at_read = (mask & 1) != 0;
        far->frees_at_end = true;
        io_stream_read(far->stream, true);
        CHECK_INT(io_stream_write(pair.ends[0].stream, SLICE("bytes"), 10), 0);
        pair.ends[0].stream = io_stream_free(pair.ends[0].stream);
        settle(&pair);
        CHECK(far->stream == NULL);
        CHECK_INT(far->reads, 1);
        CHECK_INT(far->ends, far->frees_at_read ? 0 : 1);
        pair_close(&pair);
    }
}

/* What is queued goes with the stream; no callback comes behind. */
static void test_free_with_queue(void) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct pair pair;
        pair_open(&pair, kinds[i]);
        CHECK(fill_queue(pair.ends[0].stream) > 0);
        io_stream_read(pair.ends[0].stream, true);
        pair.ends[0].stream = io_stream_free(pair.ends[0].stream);
        settle(&pair);
        CHECK_INT(pair.ends[0].ends + pair.ends[0].drains + pair.ends[0].reads, 0);
        pair_close(&pair);
    }
    CHECK(io_stream_free(NULL) == NULL);
}

/* --- broken peers --- */

/* The peer is gone while bytes are queued: told once, and writing says so. */
static void test_broken_while_queued(void) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (int reading = 0; reading <= 1; reading++) {
            struct pair pair;
            pair_open(&pair, kinds[i]);
            struct end *near = &pair.ends[0];
            CHECK(fill_queue(near->stream) > 0);
            io_stream_read(near->stream, reading != 0);
            pair.ends[1].stream = io_stream_free(pair.ends[1].stream);
            near->stops_at_end = true;
            guarded_run(&pair.guarded);
            near->stops_at_end = false;
            settle(&pair);
            CHECK_INT(near->ends, 1);
            CHECK(reading != 0 || near->error < 0);
            CHECK_INT(near->drains, 0);
            CHECK(io_stream_write(near->stream, SLICE("x"), SIZE_MAX) < 0);
            io_stream_shutdown(near->stream);
            pair_close(&pair);
        }
    }
}

static void test_reset(void) {
    struct pair pair;
    pair_open(&pair, IO_STREAM_TCP);
    int fds[2];
    REQUIRE(tcp_pair(fds, SMALL_SEND_BUFFER));
    struct end end = {.loop = pair.guarded.loop, .got = BUF_INIT(100), .stops_at_end = true};
    REQUIRE(io_stream_new(end.loop, IO_STREAM_TCP, fds[0], &events, &end, &end.stream) == 0);
    io_stream_read(end.stream, true);
    struct linger linger = {.l_onoff = 1};
    CHECK_INT(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    io_fd_close(&fds[1]);
    guarded_run(&pair.guarded);
    CHECK_INT(end.ends, 1);
    CHECK_INT(end.error, -ECONNRESET);
    end.stream = io_stream_free(end.stream);
    buf_deinit(&end.got);
    pair_close(&pair);
}

static void test_bad_descriptor(void) {
    struct guarded guarded;
    struct end end = {.loop = guarded_new(&guarded)};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        CHECK(io_stream_new(end.loop, kinds[i], -1, &events, &end, &end.stream) < 0);
        CHECK(end.stream == NULL);
    }
    guarded_free(&guarded);
}

static void prepare(void) {
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR); /* as main() does */
}

/*
 * Writing with the n-th allocation failing: what was refused is refused with a reason, the stream
 * is not used any more, and nothing is lost or freed twice. The pair is made before, because its
 * small objects end the process instead.
 */
static void write_without_memory(void *arg) {
    struct pair *pair = arg;
    static char block[KIB(256)];
    int error = 0;
    for (int i = 0; i < 8 && error == 0; i++)
        error = io_stream_write(pair->ends[0].stream, slice_make(block, sizeof block), MIB(16));
    CHECK(error == 0 || error == -ENOMEM || error == -EPIPE);
    if (error != 0)
        CHECK_INT(io_stream_write(pair->ends[0].stream, SLICE("more"), MIB(16)), -EPIPE);
}

static void test_write_out_of_memory(void) {
    uint64_t asked = 1;
    for (uint64_t n = 1; asked >= n; n++) {
        struct pair pair;
        pair_open(&pair, IO_STREAM_TCP);
        mem_fail_after(n);
        write_without_memory(&pair);
        asked = mem_alloc_count();
        mem_fail_after(0);
        pair_close(&pair);
        REQUIRE(n < 1000);
    }
}

/* --- too much is held --- */

/* What becomes of bytes that a peer sends while so much of 1,000 is held. */
struct held_row {
    const char *name;
    size_t held;
    bool drains, never_starves, hangs_up;
    bool is_read; /* by itself; else only when all was given back */
};

static const struct held_row held_rows[] = {
    {.name = "room", .held = 1000, .is_read = true},
    {.name = "one may finish", .held = 1250, .is_read = true},
    {.name = "none may", .held = 1251},
    {.name = "an answer, a quarter above", .held = 1250, .drains = true, .is_read = true},
    {.name = "one answer may finish", .held = 1251, .drains = true, .is_read = true},
    {.name = "no answer may", .held = 1251 + LIMIT_UPSTREAM_MESSAGE, .drains = true},
    {.name = "not held", .held = MIB(100), .never_starves = true, .is_read = true},
    {.name = "gone", .held = MIB(100), .hangs_up = true},
};

static void held_row_run(const struct held_row *row) {
    struct pair pair;
    struct budget budget = {.max = 1000};
    pair_open(&pair, IO_STREAM_TCP);
    struct end *from = &pair.ends[0], *to = &pair.ends[1];
    io_loop_set_budget(pair.guarded.loop, &budget);
    if (row->drains)
        io_stream_drains(to->stream);
    if (row->never_starves)
        io_stream_never_starves(to->stream);
    to->stop_after = 5;
    to->stops_at_end = true;
    budget_add(&budget, row->held);
    io_stream_read(to->stream, true);
    CHECK_INT(io_stream_write(from->stream, SLICE("bytes"), KIB(1)), 0);
    if (row->hangs_up)
        from->stream = io_stream_free(from->stream);
    if (!row->is_read && !row->hangs_up) {
        settle(&pair);
        CHECK_INT(to->reads, 0);
        budget_give_back(&budget, row->held);
    }
    guarded_run(&pair.guarded);
    CHECK_INT(to->reads, row->hangs_up ? 0 : 1);
    CHECK_INT(to->ends, row->hangs_up ? 1 : 0);
    CHECK_INT(to->error, row->hangs_up ? -ECONNRESET : 0);
    io_loop_set_budget(pair.guarded.loop, NULL);
    pair_close(&pair);
}

static void test_held(void) {
    for (size_t i = 0; i < ARRAY_LEN(held_rows); i++) {
        test_row(held_rows[i].name);
        held_row_run(&held_rows[i]);
    }
}

/* --- one that floods, and another --- */

struct flood {
    struct io_stream *stream;
    struct flood *other;
    size_t got, ahead; /* at the most, of the other one */
    struct io_loop *loop;
};

enum { FLOOD = 1024 * 1024, TURN_MAX = 4 * 64 * 1024 };

static void on_flood(void *context, struct slice bytes) {
    struct flood *flood = context;
    flood->got += bytes.len;
    size_t other = flood->other->got;
    if (flood->got > other && flood->got - other > flood->ahead)
        flood->ahead = flood->got - other;
    if (flood->got == FLOOD && other == FLOOD)
        io_loop_stop(flood->loop);
}

static void on_flood_end(void *context, int error) {
    (void)context;
    CHECK_INT(error, 0);
}

/* Both have a MiB to read; neither is read for long while the other one waits. */
static void test_turns(void) {
    static const struct io_stream_events flood_events = {.on_read = on_flood,
                                                         .on_end = on_flood_end};
    static const char bytes[FLOOD];
    struct guarded guarded;
    struct flood floods[2] = {{.other = &floods[1]}, {.other = &floods[0]}};
    int from[2];
    guarded_new(&guarded);
    for (size_t i = 0; i < 2; i++) {
        int to;
        floods[i].loop = guarded.loop;
        if (io_pipe(&to, &from[i]) != 0 || fcntl(from[i], F_SETPIPE_SZ, FLOOD) < FLOOD ||
            write(from[i], bytes, FLOOD) != FLOOD ||
            io_stream_new(guarded.loop, IO_STREAM_PIPE, to, &flood_events, &floods[i],
                          &floods[i].stream) != 0)
            CANNOT_GO_ON();
        io_stream_read(floods[i].stream, true);
    }
    guarded_run(&guarded);
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(floods[i].got, FLOOD);
        CHECK(floods[i].ahead <= TURN_MAX);
        io_stream_free(floods[i].stream);
        io_fd_close(&from[i]);
    }
    guarded_free(&guarded);
}

TEST_MAIN(TEST(prepare), TEST(test_small_write), TEST(test_queue), TEST(test_turn),
          TEST(test_turn_bytes), TEST(test_long_turn), TEST(test_quiet_and_busy),
          TEST(test_queued_at_end), TEST(test_secrets), TEST(test_broken_at_end),
          TEST(test_no_memory_at_end), TEST(test_half_close), TEST(test_pause),
          TEST(test_free_inside), TEST(test_free_with_queue), TEST(test_broken_while_queued),
          TEST(test_reset), TEST(test_bad_descriptor), TEST(test_write_out_of_memory),
          TEST(test_held), TEST(test_turns))
