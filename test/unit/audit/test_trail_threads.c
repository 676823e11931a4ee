/* Four threads that hand over at once, some waiting: each one's records stand in its order, all of
 * them are there, every wait comes once, and the chain is whole. */
#include <pthread.h>

#include "test.h"
#include "trail_world.h"

enum { THREADS = 4, RECORDS = 25000, WINDOW = 16 };

struct sender {
    struct world *world;
    size_t number;
    pthread_t id;
    struct io_loop *loop;
    struct asked {
        struct audit_wait wait;
        struct sender *sender;
    } asked[WINDOW];
    size_t n_next, n_out, n_delivered, n_durable;
};

static void send_more(struct sender *sender);

static void on_answer(struct io_message *message) {
    struct audit_wait *wait = CONTAINER_OF(message, struct audit_wait, message);
    struct sender *sender = CONTAINER_OF(wait, struct asked, wait)->sender;
    sender->n_out--;
    sender->n_delivered++;
    sender->n_durable += wait->is_durable;
    wait->loop = NULL; /* free */
    send_more(sender);
}

static struct audit_wait *free_wait(struct sender *sender) {
    for (size_t i = 0; i < WINDOW; i++) {
        struct asked *asked = &sender->asked[i];
        if (asked->wait.loop != NULL)
            continue;
        *asked = (struct asked){.sender = sender};
        asked->wait.loop = sender->loop;
        asked->wait.message.deliver = on_answer;
        return &asked->wait;
    }
    return NULL;
}

/* Every fifth one is waited for. */
static void send_more(struct sender *sender) {
    while (sender->n_next < RECORDS && sender->n_out < WINDOW) {
        char id[32];
        snprintf(id, sizeof id, "%zu-%zu", sender->number, sender->n_next);
        struct audit_wait *wait = sender->n_next % 5 == 0 ? free_wait(sender) : NULL;
        if (submit(sender->world, sender->number, id, wait) != 0)
            CANNOT_GO_ON();
        sender->n_out += wait != NULL;
        sender->n_next++;
    }
    if (sender->n_out == 0)
        io_loop_stop(sender->loop);
}

static void *run_sender(void *context) {
    struct sender *sender = context;
    send_more(sender);
    io_loop_run(sender->loop);
    return NULL;
}

struct order {
    uint64_t next[THREADS];
    bool is_broken;
};

static void check_order(void *context, const struct audit_line *line) {
    struct order *order = context;
    size_t at = slice_find(line->body, SLICE("\"id\":\""));
    struct slice thread, rest = slice_from(line->body, at + 6);
    uint64_t number = 0, n = 0;
    slice_cut(rest, '"', &rest, &(struct slice){0});
    slice_cut(rest, '-', &thread, &rest);
    if (slice_to_u64(thread, &number) != 0 || slice_to_u64(rest, &n) != 0 || number >= THREADS ||
        order->next[number] != n)
        order->is_broken = true;
    else
        order->next[number]++;
}

static void run(enum audit_mode mode, int sync_ms) {
    static struct sender senders[THREADS];
    struct world world;
    struct order order = {.is_broken = false};
    struct reading reading = {.on_call = check_order, .context = &order};
    world_make(&world, mode);
    world.options.max_bytes = MIB(32);
    atomic_store(&faults.sync_ms, sync_ms);
    world_must_open(&world);
    for (size_t i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){.world = &world, .number = i};
        if (io_loop_new(&senders[i].loop) != 0 ||
            pthread_create(&senders[i].id, NULL, run_sender, &senders[i]) != 0)
            CANNOT_GO_ON();
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(senders[i].id, NULL);
        io_loop_free(senders[i].loop);
        CHECK_INT(senders[i].n_delivered, RECORDS / 5);
        CHECK_INT(senders[i].n_durable, RECORDS / 5);
    }
    world.audit = audit_close(world.audit);
    CHECK(world_read(&world, &reading));
    CHECK_INT(reading.n_calls, THREADS * RECORDS);
    CHECK(!order.is_broken);
    CHECK_INT(world_verify(&world, NULL), 0);
    world_end(&world);
}

static void test_best_effort(void) {
    run(AUDIT_BEST_EFFORT, 0);
}

static void test_required(void) {
    run(AUDIT_REQUIRED, 0);
}

static void test_required_slowly(void) {
    run(AUDIT_REQUIRED, 3);
}

TEST_MAIN(TEST(test_best_effort), TEST(test_required), TEST(test_required_slowly))
