/* The loop: posting from threads and from itself, order, timers, descriptors, signals. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "io/file.h"
#include "io/loop.h"
#include "loop_guard.h"
#include "test.h"

/* What happened, one letter each. */
struct trace {
    char text[64];
    size_t len;
};

static void note(struct trace *trace, char what) {
    if (trace->len + 1 < sizeof trace->text)
        trace->text[trace->len++] = what;
}

struct letter {
    struct io_message message;
    struct io_loop *loop;
    struct trace *trace;
    char name;
    struct letter *next; /* posted when this one comes */
    bool stops;
};

static void letter_delivered(struct io_message *message) {
    struct letter *letter = CONTAINER_OF(message, struct letter, message);
    note(letter->trace, letter->name);
    if (letter->next != NULL)
        io_loop_post(letter->loop, &letter->next->message);
    if (letter->stops)
        io_loop_stop(letter->loop);
    note(letter->trace, '.');
}

static struct letter letter_make(struct io_loop *loop, struct trace *trace, char name) {
    return (struct letter){
        .message = {.deliver = letter_delivered}, .loop = loop, .trace = trace, .name = name};
}

/* --- many senders --- */

enum { SENDERS = 4, EACH = 5000 };

struct numbered {
    struct io_message message;
    struct inbox *inbox;
    unsigned sender, number;
};

struct inbox {
    struct io_loop *loop;
    unsigned next[SENDERS], total;
    bool in_order;
};

struct sender {
    struct inbox *inbox;
    unsigned index;
    pthread_t thread;
};

static void numbered_delivered(struct io_message *message) {
    struct numbered *numbered = CONTAINER_OF(message, struct numbered, message);
    struct inbox *inbox = numbered->inbox;
    if (inbox->next[numbered->sender]++ != numbered->number)
        inbox->in_order = false;
    if (++inbox->total == SENDERS * EACH)
        io_loop_stop(inbox->loop);
    mem_free(numbered);
}

static void *send_all(void *context) {
    struct sender *sender = context;
    for (unsigned i = 0; i < EACH; i++) {
        struct numbered *numbered = mem_xalloc(sizeof *numbered);
        *numbered = (struct numbered){.message = {.deliver = numbered_delivered},
                                      .inbox = sender->inbox,
                                      .sender = sender->index,
                                      .number = i};
        io_loop_post(sender->inbox->loop, &numbered->message);
    }
    return NULL;
}

static void test_many_senders(void) {
    struct guarded guarded;
    struct inbox inbox = {.loop = guarded_new(&guarded), .in_order = true};
    struct sender senders[SENDERS];
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.inbox = &inbox, .index = i};
        REQUIRE(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]) == 0);
    }
    guarded_run(&guarded);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    CHECK_INT(inbox.total, SENDERS * EACH);
    CHECK(inbox.in_order);
    guarded_free(&guarded);
}

/* Two loops in two threads throw one message to and fro. */
struct ball {
    struct io_message message;
    struct io_loop *loops[2];
    unsigned throws;
};

static void ball_delivered(struct io_message *message) {
    struct ball *ball = CONTAINER_OF(message, struct ball, message);
    if (++ball->throws < 2000) {
        io_loop_post(ball->loops[ball->throws % 2], &ball->message);
    } else {
        io_loop_stop(ball->loops[0]);
        io_loop_stop(ball->loops[1]);
    }
}

static void *run_loop(void *loop) {
    io_loop_run(loop);
    return NULL;
}

static void test_two_loops(void) {
    struct guarded here, there;
    pthread_t thread;
    struct ball ball = {.message = {.deliver = ball_delivered},
                        .loops = {guarded_new(&here), guarded_new(&there)}};
    io_loop_post(ball.loops[0], &ball.message);
    REQUIRE(pthread_create(&thread, NULL, run_loop, there.loop) == 0);
    guarded_run(&here);
    pthread_join(thread, NULL);
    CHECK(!there.is_late);
    CHECK_INT(ball.throws, 2000);
    guarded_free(&here);
    guarded_free(&there);
}

/* --- posting to the own loop --- */

struct own {
    struct trace trace;
    struct letter letters[3];
    struct io_loop *loop;
};

static void post_two(void *context) {
    struct own *own = context;
    note(&own->trace, '(');
    io_loop_post(own->loop, &own->letters[0].message);
    io_loop_post(own->loop, &own->letters[1].message);
    note(&own->trace, ')');
}

/* Never from inside the call, in order, and what a message posts comes behind what was there. */
static void test_own_posts(void) {
    struct guarded guarded;
    struct own own = {.loop = guarded_new(&guarded)};
    for (size_t i = 0; i < 3; i++)
        own.letters[i] = letter_make(own.loop, &own.trace, (char)('a' + i));
    own.letters[0].next = &own.letters[2];
    own.letters[2].stops = true;
    struct io_timer *timer = io_timer_new(own.loop, post_two, &own);
    io_timer_start(timer, 0);
    CHECK_STR(slice_make(own.trace.text, own.trace.len), "");
    guarded_run(&guarded);
    CHECK_STR(slice_make(own.trace.text, own.trace.len), "()a.b.c.");
    io_timer_free(timer);
    guarded_free(&guarded);
}

static void post_last(void *context) {
    struct own *own = context;
    io_loop_post(own->loop, &own->letters[1].message);
}

/* What a thread posts before it runs the loop comes before what it posts while it does. */
static void test_order_across_start(void) {
    struct guarded guarded;
    struct own own = {.loop = guarded_new(&guarded)};
    for (size_t i = 0; i < 2; i++)
        own.letters[i] = letter_make(own.loop, &own.trace, (char)('a' + i));
    own.letters[1].stops = true;
    struct io_timer *timer = io_timer_new(own.loop, post_last, &own);
    io_timer_start(timer, 0);
    io_loop_post(own.loop, &own.letters[0].message);
    guarded_run(&guarded);
    CHECK_STR(slice_make(own.trace.text, own.trace.len), "a.b.");
    io_timer_free(timer);
    guarded_free(&guarded);
}

/* A loop that ends delivers what is left: messages own memory. */
static void test_free_delivers(void) {
    struct io_loop *loop = NULL;
    struct trace trace = {.len = 0};
    REQUIRE(io_loop_new(&loop) == 0);
    struct letter letters[4];
    for (size_t i = 0; i < 4; i++)
        letters[i] = letter_make(loop, &trace, (char)('a' + i));
    letters[0].next = &letters[2];
    letters[2].next = &letters[3];
    io_loop_post(loop, &letters[0].message);
    io_loop_post(loop, &letters[1].message);
    loop = io_loop_free(loop);
    CHECK_STR(slice_make(trace.text, trace.len), "a.b.c.d.");
    CHECK(io_loop_free(NULL) == NULL);
}

/* What is posted in the loop's last turn, and then behind it. */
static void test_free_after_run(void) {
    struct guarded guarded;
    struct trace trace = {.len = 0};
    struct letter letters[3];
    guarded_new(&guarded);
    for (size_t i = 0; i < 3; i++)
        letters[i] = letter_make(guarded.loop, &trace, (char)('a' + i));
    letters[0].stops = true;
    letters[0].next = &letters[1];
    io_loop_post(guarded.loop, &letters[0].message);
    guarded_run(&guarded);
    io_loop_post(guarded.loop, &letters[2].message);
    guarded_free(&guarded);
    CHECK_STR(slice_make(trace.text, trace.len), "a.b.c.");
}

static void *stop_loop(void *loop) {
    io_loop_stop(loop);
    return NULL;
}

static void test_stop(void) {
    struct guarded guarded;
    pthread_t thread;
    guarded_new(&guarded);
    REQUIRE(pthread_create(&thread, NULL, stop_loop, guarded.loop) == 0);
    guarded_run(&guarded);
    pthread_join(thread, NULL);
    guarded_free(&guarded);
    guarded_new(&guarded);
    io_loop_stop(guarded.loop); /* before it runs */
    guarded_run(&guarded);
    /* One stop ends one run: the next goes on until its own. */
    struct trace trace = {.len = 0};
    struct letter letters[2] = {letter_make(guarded.loop, &trace, 'a'),
                                letter_make(guarded.loop, &trace, 'b')};
    letters[0].next = &letters[1];
    letters[1].stops = true;
    io_loop_post(guarded.loop, &letters[0].message);
    guarded_run(&guarded);
    CHECK_STR(slice_make(trace.text, trace.len), "a.b.");
    guarded_free(&guarded);
}

/* --- timers --- */

struct ticks {
    struct io_loop *loop;
    struct trace trace;
    struct io_timer *timers[4];
    unsigned restarts;
};

static void tick_a(void *context) {
    struct ticks *ticks = context;
    note(&ticks->trace, 'a');
    CHECK(!io_timer_is_running(ticks->timers[0]));
    if (ticks->restarts++ == 0)
        io_timer_start(ticks->timers[0], 0);
    else
        io_timer_start(ticks->timers[3], 4);
}

static void tick_b(void *context) {
    struct ticks *ticks = context;
    note(&ticks->trace, 'b');
    io_timer_stop(ticks->timers[2]);
}

static void tick_c(void *context) {
    note(&((struct ticks *)context)->trace, 'c');
}

static void tick_d(void *context) {
    struct ticks *ticks = context;
    note(&ticks->trace, 'd');
    for (size_t i = 0; i < 4; i++)
        ticks->timers[i] = io_timer_free(ticks->timers[i]); /* its own too */
    io_loop_stop(ticks->loop);
}

static void test_timers(void) {
    struct guarded guarded;
    struct ticks ticks = {.loop = guarded_new(&guarded)};
    io_timer_fn *const fns[] = {tick_a, tick_b, tick_c, tick_d};
    for (size_t i = 0; i < 4; i++)
        ticks.timers[i] = io_timer_new(ticks.loop, fns[i], &ticks);
    CHECK(!io_timer_is_running(ticks.timers[0]));
    io_timer_start(ticks.timers[2], 3); /* stopped before it fires */
    io_timer_start(ticks.timers[1], 1);
    io_timer_start(ticks.timers[0], 60000);
    io_timer_start(ticks.timers[0], 0); /* the last start counts; fires twice */
    CHECK(io_timer_is_running(ticks.timers[0]));
    uint64_t begin = io_loop_now(ticks.loop);
    guarded_run(&guarded);
    CHECK(io_loop_now(ticks.loop) >= begin + 4);
    /* When the machine is slow, b is due before a was started again. */
    struct slice order = slice_make(ticks.trace.text, ticks.trace.len);
    CHECK(slice_eq(order, SLICE("aabd")) || slice_eq(order, SLICE("abad")));
    CHECK(io_timer_free(NULL) == NULL);
    guarded_free(&guarded);
}

/* --- descriptors and signals --- */

struct watched {
    struct io_loop *loop;
    struct io_watch *watch;
    int read_fd, write_fd;
    unsigned calls;
};

static void on_readable(void *context) {
    struct watched *watched = context;
    char byte;
    watched->calls++;
    /* The third byte stays: what is freed is not called again, readable or not. */
    if (watched->calls < 3) {
        CHECK_INT(read(watched->read_fd, &byte, 1), 1);
    } else {
        watched->watch = io_watch_free(watched->watch);
    }
}

static void stop_context(void *context) {
    io_loop_stop(((struct watched *)context)->loop);
}

static void test_watch(void) {
    struct guarded guarded;
    struct watched watched = {.loop = guarded_new(&guarded)};
    REQUIRE(io_pipe(&watched.read_fd, &watched.write_fd) == 0);
    CHECK_INT(write(watched.write_fd, "abc", 3), 3);
    REQUIRE(io_watch_new(watched.loop, watched.read_fd, on_readable, &watched, &watched.watch) ==
            0);
    CHECK_INT(watched.calls, 0);
    struct later later = {.loop = watched.loop, .n = 50, .fn = stop_context, .context = &watched};
    later_start(&later);
    guarded_run(&guarded);
    CHECK_INT(watched.calls, 3);
    struct io_watch *none = NULL;
    CHECK(io_watch_new(watched.loop, -1, on_readable, &watched, &none) < 0);
    CHECK(none == NULL && io_watch_free(NULL) == NULL);
    guarded_free(&guarded);
    io_fd_close(&watched.read_fd);
    io_fd_close(&watched.write_fd);
}

struct caught {
    struct io_loop *loop;
    int signal;
};

static void on_signal(void *context, int number) {
    struct caught *caught = context;
    caught->signal = number;
    io_loop_stop(caught->loop);
}

static void test_signal(void) {
    struct guarded guarded;
    struct caught caught = {.loop = guarded_new(&guarded)};
    struct io_signal *io_signal = NULL;
    REQUIRE(io_signal_new(caught.loop, SIGUSR1, on_signal, &caught, &io_signal) == 0);
    raise(SIGUSR1);
    CHECK_INT(caught.signal, 0);
    guarded_run(&guarded);
    CHECK_INT(caught.signal, SIGUSR1);
    io_signal_free(io_signal);
    struct io_signal *none = NULL;
    CHECK(io_signal_new(caught.loop, SIGKILL, on_signal, &caught, &none) < 0);
    CHECK(none == NULL && io_signal_free(NULL) == NULL);
    guarded_free(&guarded);
}

TEST_MAIN(TEST(test_many_senders), TEST(test_two_loops), TEST(test_own_posts),
          TEST(test_order_across_start), TEST(test_free_delivers), TEST(test_free_after_run),
          TEST(test_stop), TEST(test_timers), TEST(test_watch), TEST(test_signal))
