/*
 * mcp.downstream_cache.max_size: how many instances there are, which one goes, and that no call
 * ever loses the one that it is on.
 */
#include <errno.h>
#include <pthread.h>

#include "private.h"
#include "test.h"

enum { MAX_OWNERS = 64 };
/* Times of the tests are later than that at which an instance was made. */
#define LATER_MS (UINT64_MAX / 2)

struct fixture {
    struct io_loop *loop;
    struct log *log;
    struct upstream_set *set;
    struct config *config;
    struct upstream_list *list;
};

static struct config *load(size_t max_size) {
    struct config *config = NULL;
    struct config_problems problems;
    char text[512];
    int len = snprintf(text, sizeof text,
                       "[mcp.downstream_cache]\nmax_size = %zu\n"
                       "[mcp.servers.a]\nurl = \"http://127.0.0.1:1/\"\n"
                       "[mcp.servers.b]\nurl = \"http://127.0.0.1:1/\"\n"
                       "[mcp.servers.s]\nurl = \"http://127.0.0.1:1/\"\nshare = \"session\"\n",
                       max_size);
    config_problems_init(&problems);
    int error = config_load_text(SLICE("f.toml"), slice_make(text, (size_t)len), NULL, NULL,
                                 &problems, &config);
    for (size_t i = 0; i < problems.n; i++)
        printf("# %.*s\n", SLICE_ARGS(problems.items[i].message));
    config_problems_deinit(&problems);
    if (error != 0)
        CANNOT_GO_ON();
    return config;
}

static void set_up(struct fixture *f, size_t max_size) {
    *f = (struct fixture){.config = load(max_size), .log = log_new(2, LOG_OFF, LOG_STYLE_TEXT)};
    if (io_loop_new(&f->loop) != 0)
        CANNOT_GO_ON();
    struct upstream_set_options options = {
        .config = f->config, .log = f->log, .loops = &f->loop, .n_loops = 1, .version = SLICE("0")};
    if (upstream_set_new(&options, &f->set) != 0)
        CANNOT_GO_ON();
    f->list = upstream_set_list(f->set);
}

static void on_stopped(void *context) {
    io_loop_stop(context);
}

static void tear_down(struct fixture *f) {
    upstream_list_unref(f->list);
    upstream_set_stop(f->set, on_stopped, f->loop);
    io_loop_run(f->loop);
    upstream_set_free(f->set);
    io_loop_free(f->loop);
    config_unref(f->config);
    log_free(f->log);
}

static struct upstream *named(struct fixture *f, const char *name) {
    return upstream_list_find(f->list, slice_from_cstr(name), NULL);
}

static int try_get(struct fixture *f, const char *name, const char *owner,
                   struct upstream_instance **ret_instance) {
    struct upstream_owner whose = {.principal = slice_from_cstr(owner)};
    return upstream_get(named(f, name), &whose, upstream_set_worker(f->set, 0), ret_instance);
}

static struct upstream_instance *get(struct fixture *f, const char *name, const char *owner) {
    struct upstream_instance *instance = NULL;
    if (try_get(f, name, owner, &instance) != 0)
        CANNOT_GO_ON();
    return instance;
}

/* It is there, without being made. */
static bool has(struct fixture *f, const char *name, const char *owner) {
    struct upstream_instance *instance = upstream_find(
        named(f, name), &(struct upstream_owner){.principal = slice_from_cstr(owner)});
    upstream_instance_unref(instance);
    return instance != NULL;
}

static void use(struct fixture *f, const char *name, const char *owner, uint64_t at_ms) {
    struct upstream_instance *instance = get(f, name, owner);
    atomic_store(&instance->last_used_ms, LATER_MS + at_ms);
    upstream_instance_unref(instance);
}

static void test_order(void) {
    struct fixture f;
    set_up(&f, 3);
    use(&f, "a", "p", 20);
    use(&f, "b", "p", 10);
    use(&f, "a", "q", 30);
    uint64_t generation = upstream_set_generation(f.set);
    use(&f, "a", "p", 40); /* known: nothing goes */
    CHECK(upstream_set_generation(f.set) == generation);
    CHECK_INT(atomic_load(&f.set->n_open), 3);
    struct upstream_instance *oldest = get(&f, "b", "p");
    use(&f, "b", "q", 50); /* of the other upstream, and the other principal */
    CHECK(atomic_load(&oldest->close_posted));
    CHECK(upstream_set_generation(f.set) != generation);
    CHECK(!has(&f, "b", "p") && has(&f, "a", "p") && has(&f, "a", "q") && has(&f, "b", "q"));
    use(&f, "b", "p", 60); /* again: another one than that */
    CHECK(!has(&f, "a", "q") && has(&f, "a", "p"));
    struct upstream_instance *again = get(&f, "b", "p");
    CHECK(again != oldest);
    upstream_instance_unref(again);
    upstream_instance_unref(oldest);
    tear_down(&f);
}

/* Who may not go, and for how long. */
static void test_kept(void) {
    static const struct {
        const char *name;
        bool has_call, is_starting, start_posted;
    } rows[] = {
        {"a call is under way", .has_call = true},
        {"it starts", .is_starting = true},
        {"it is to start", .start_posted = true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f;
        struct upstream_instance *none = NULL;
        test_row(rows[i].name);
        set_up(&f, 2);
        use(&f, "a", "p", 10);
        use(&f, "b", "p", 20);
        struct upstream_instance *kept = get(&f, "a", "p"), *other = get(&f, "b", "p");
        atomic_store(&kept->n_under_way, rows[i].has_call ? 1 : 0);
        atomic_store(&kept->is_starting, rows[i].is_starting);
        atomic_store(&kept->start_posted, rows[i].start_posted);
        use(&f, "a", "q", 30);
        CHECK(has(&f, "a", "p") && !has(&f, "b", "p"));
        struct upstream_instance *third = get(&f, "a", "q");
        atomic_store(&third->n_under_way, 1);
        for (int k = 0; k < 3; k++)
            CHECK_INT(try_get(&f, "b", "q", &none), UPSTREAM_E_ROOM);
        CHECK(none == NULL && !has(&f, "b", "q"));
        CHECK(has(&f, "a", "p") && has(&f, "a", "q"));
        CHECK(!atomic_load(&kept->close_posted) && !atomic_load(&third->close_posted));
        /* That has come to an end; and what is known is found without room. */
        atomic_store(&kept->is_starting, false);
        atomic_store(&kept->start_posted, false);
        atomic_store(&kept->n_under_way, 1);
        use(&f, "a", "p", 40);
        CHECK_INT(try_get(&f, "b", "q", &none), UPSTREAM_E_ROOM);
        instance_call_over(kept);
        use(&f, "b", "q", 50);
        CHECK(!has(&f, "a", "p") && has(&f, "a", "q") && has(&f, "b", "q"));
        instance_call_over(third);
        upstream_instance_unref(kept);
        upstream_instance_unref(other);
        upstream_instance_unref(third);
        tear_down(&f);
    }
}

/* A reload: fewer at once, and those that have calls as soon as another one is wanted. */
static void test_resize(void) {
    struct fixture f;
    struct upstream_instance *none = NULL;
    char owner[2] = "0";
    set_up(&f, 8);
    for (uint64_t i = 0; i < 8; i++) {
        owner[0] = (char)('0' + i);
        use(&f, "a", owner, 10 + i);
    }
    struct upstream_instance *first = get(&f, "a", "0"), *second = get(&f, "a", "1");
    atomic_store(&first->n_under_way, 1);
    atomic_store(&second->n_under_way, 1);
    struct config *few = load(3), *one = load(1), *many = load(100);
    upstream_worker_configure(upstream_set_worker(f.set, 0), few);
    CHECK_INT(f.set->room.n, 3);
    CHECK(has(&f, "a", "0") && has(&f, "a", "1") && has(&f, "a", "7"));
    upstream_worker_configure(upstream_set_worker(f.set, 0), one);
    CHECK_INT(f.set->room.n, 2); /* both have a call */
    CHECK_INT(try_get(&f, "b", "p", &none), UPSTREAM_E_ROOM);
    instance_call_over(first);
    CHECK_INT(try_get(&f, "b", "p", &none), UPSTREAM_E_ROOM); /* still one too many */
    CHECK(!has(&f, "a", "0") && has(&f, "a", "1"));
    instance_call_over(second);
    use(&f, "b", "p", 100);
    CHECK_INT(f.set->room.n, 1);
    atomic_store(&get(&f, "b", "p")->n_under_way, 1);
    CHECK_INT(try_get(&f, "b", "q", &none), UPSTREAM_E_ROOM);
    upstream_worker_configure(upstream_set_worker(f.set, 0), many);
    use(&f, "b", "q", 110);
    CHECK_INT(f.set->room.n, 2);
    struct upstream_instance *busy = get(&f, "b", "p");
    instance_call_over(busy);
    upstream_instance_unref(busy); /* and the reference that was taken above */
    upstream_instance_unref(busy);
    upstream_instance_unref(first);
    upstream_instance_unref(second);
    config_unref(few);
    config_unref(one);
    config_unref(many);
    tear_down(&f);
}

/* Those of sessions: what has gone already, and what goes with its session. */
static void test_sessions(void) {
    struct fixture f;
    struct upstream_instance *instance = NULL;
    set_up(&f, 2);
    struct upstream_worker *worker = upstream_set_worker(f.set, 0);
    CHECK_INT(
        upstream_get(named(&f, "s"),
                     &(struct upstream_owner){.principal = SLICE("p"), .session = SLICE("one")},
                     worker, &instance),
        0);
    atomic_store(&instance->last_used_ms, LATER_MS + 1);
    use(&f, "a", "p", 10);
    use(&f, "a", "q", 20);
    CHECK(atomic_load(&instance->close_posted));
    upstream_set_forget_session(f.set, SLICE("one"), 0); /* nothing is there any more */
    upstream_instance_unref(instance);
    CHECK_INT(
        upstream_get(named(&f, "s"),
                     &(struct upstream_owner){.principal = SLICE("p"), .session = SLICE("two")},
                     worker, &instance),
        0);
    upstream_set_forget_session(f.set, SLICE("two"), 0);
    CHECK(atomic_load(&instance->close_posted));
    CHECK(!has(&f, "a", "p") && has(&f, "a", "q"));
    atomic_store(&instance->last_used_ms, LATER_MS + 1);
    use(&f, "a", "r", 30); /* in the place of the one that is closing */
    CHECK(has(&f, "a", "q") && has(&f, "a", "r"));
    upstream_instance_unref(instance);
    tear_down(&f);
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes) {
    (void)outcome;
    (void)bytes;
    (void)context;
}

static struct upstream_call *call(struct fixture *f, struct upstream_instance *instance) {
    static const struct upstream_call_events events = {.on_done = on_done};
    const struct upstream_request request = {
        .id = 1, .method = MCP_TOOLS_CALL, .line = SLICE("{}\n"), .revision = MCP_REVISION_NONE};
    struct upstream_call *started =
        upstream_call_start(instance, upstream_set_worker(f->set, 0), &request, &events, NULL);
    if (started == NULL)
        CANNOT_GO_ON();
    return started;
}

/* Whoever has looked one up that has gone since: its call is one of its owner's new instance. */
static void test_late_call(void) {
    struct fixture f;
    set_up(&f, 1);
    struct upstream_instance *gone = get(&f, "a", "p");
    use(&f, "a", "q", 10);
    CHECK(atomic_load(&gone->close_posted));
    struct upstream_call *late = call(&f, gone);
    CHECK(late->instance != gone);
    CHECK_SLICE(late->instance->owner, SLICE("p"));
    CHECK(late->instance->upstream == gone->upstream);
    CHECK(has(&f, "a", "p") && !has(&f, "a", "q"));
    /* There is no room any more, for the only one has a call. */
    struct upstream_instance *none = NULL;
    CHECK_INT(try_get(&f, "a", "q", &none), UPSTREAM_E_ROOM);
    struct upstream_instance *busy = get(&f, "a", "p");
    CHECK(busy == late->instance);
    struct upstream_call *refused = call(&f, gone);
    CHECK(refused->instance == busy); /* of the same owner: it is there */
    upstream_call_cancel(refused, SLICE_EMPTY);
    upstream_call_cancel(late, SLICE_EMPTY);
    upstream_instance_unref(busy);
    upstream_instance_unref(gone);
    tear_down(&f);
}

struct heard {
    struct io_loop *loop;
    char text[256];
};

static void on_heard(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct heard *heard = context;
    CHECK_INT(outcome, UPSTREAM_FAILED);
    (void)!slice_to_cstr(bytes, heard->text, sizeof heard->text);
    io_loop_stop(heard->loop);
}

static void test_late_call_refused(void) {
    static const struct upstream_call_events events = {.on_done = on_heard};
    struct fixture f;
    set_up(&f, 1);
    struct heard heard = {.loop = f.loop};
    struct upstream_instance *gone = get(&f, "a", "p");
    use(&f, "a", "q", 10);
    struct upstream_instance *busy = get(&f, "a", "q");
    atomic_store(&busy->n_under_way, 1);
    const struct upstream_request request = {
        .id = 1, .method = MCP_TOOLS_CALL, .line = SLICE("{}\n"), .revision = MCP_REVISION_NONE};
    CHECK(upstream_call_start(gone, upstream_set_worker(f.set, 0), &request, &events, &heard) !=
          NULL);
    io_loop_run(f.loop);
    CHECK_SLICE(slice_from_cstr(heard.text), SLICE(UPSTREAM_LACKS_ROOM));
    CHECK(slice_find(slice_from_cstr(heard.text), SLICE("mcp.downstream_cache.max_size")) !=
          SIZE_MAX);
    instance_call_over(busy);
    upstream_instance_unref(busy);
    upstream_instance_unref(gone);
    tear_down(&f);
}

/* Against a list of who was used when, and who has calls. */
struct model {
    struct row {
        bool is_there;
        uint64_t used_ms;
        size_t n_calls;
        struct upstream_instance *called;
    } rows[MAX_OWNERS];
    uint64_t now_ms;
};

static uint32_t roll(uint64_t *state, uint32_t below) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % below;
}

/* The one that has to go; MAX_OWNERS: none can. */
static size_t oldest(const struct model *model) {
    size_t found = MAX_OWNERS;
    for (size_t i = 0; i < MAX_OWNERS; i++) {
        const struct row *row = &model->rows[i];
        if (row->is_there && row->n_calls == 0 &&
            (found == MAX_OWNERS || row->used_ms < model->rows[found].used_ms))
            found = i;
    }
    return found;
}

static size_t count(const struct model *model) {
    size_t n = 0;
    for (size_t i = 0; i < MAX_OWNERS; i++)
        n += model->rows[i].is_there ? 1 : 0;
    return n;
}

static void step(struct fixture *f, struct model *model, uint64_t *state, size_t max) {
    size_t at = roll(state, MAX_OWNERS);
    struct row *row = &model->rows[at];
    char owner[3] = {(char)('a' + at / 8), (char)('a' + at % 8), '\0'};
    const char *name = at % 3 == 0 ? "b" : "a";
    if (row->n_calls != 0 && roll(state, 2) == 0) {
        row->used_ms = ++model->now_ms;
        atomic_store(&row->called->last_used_ms, row->used_ms);
        row->n_calls--;
        instance_call_over(row->called);
        if (row->n_calls == 0)
            row->called = upstream_instance_unref(row->called);
        return;
    }
    size_t victim = !row->is_there && count(model) == max ? oldest(model) : at;
    struct upstream_instance *instance = NULL;
    int error = try_get(f, name, owner, &instance);
    CHECK_INT(error, victim == MAX_OWNERS ? UPSTREAM_E_ROOM : 0);
    if (error != 0)
        return;
    if (victim != at)
        model->rows[victim] = (struct row){0};
    row->is_there = true;
    row->used_ms = ++model->now_ms;
    atomic_store(&instance->last_used_ms, row->used_ms);
    if (roll(state, 3) == 0) {
        atomic_fetch_add(&instance->n_under_way, 1);
        if (row->n_calls++ == 0)
            row->called = upstream_instance_ref(instance);
    }
    upstream_instance_unref(instance);
}

static void test_model(void) {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct fixture f;
        struct model model = {.now_ms = LATER_MS};
        uint64_t state = seed;
        size_t max = 4 * seed;
        set_up(&f, max);
        for (size_t i = 0; i < 3000; i++) {
            step(&f, &model, &state, max);
            if (f.set->room.n != count(&model))
                break;
        }
        CHECK_INT(f.set->room.n, count(&model));
        for (size_t i = 0; i < MAX_OWNERS; i++) {
            char owner[3] = {(char)('a' + i / 8), (char)('a' + i % 8), '\0'};
            CHECK(has(&f, i % 3 == 0 ? "b" : "a", owner) == model.rows[i].is_there);
            for (struct row *row = &model.rows[i]; row->n_calls != 0; row->n_calls--)
                instance_call_over(row->called);
            upstream_instance_unref(model.rows[i].called);
        }
        tear_down(&f);
    }
}

/* Callers on several threads: each one's calls count themselves as upstream_call_start() does. */
struct crowd {
    struct fixture *f;
    size_t index;
    size_t n_calls, n_refused, n_cut;
    struct io_message last;
    struct io_loop *loop;
};

static void *run_crowd(void *context) {
    struct crowd *crowd = context;
    uint64_t state = crowd->index + 1;
    for (size_t i = 0; i < 4000; i++) {
        char owner[2] = {(char)('a' + roll(&state, 6)), '\0'};
        struct upstream_instance *instance = NULL;
        struct upstream_owner whose = {.principal = slice_from_cstr(owner)};
        if (upstream_get(named(crowd->f, i % 2 == 0 ? "a" : "b"), &whose,
                         upstream_set_worker(crowd->f->set, crowd->index), &instance) != 0) {
            crowd->n_refused++;
            continue;
        }
        bool is_counted = (atomic_fetch_add(&instance->n_under_way, 1) & ROOM_CLAIMED) == 0;
        for (size_t k = 0; k < 50 && is_counted; k++)
            crowd->n_cut += atomic_load(&instance->close_posted) ? 1 : 0;
        crowd->n_calls += is_counted ? 1 : 0;
        if (is_counted)
            instance_call_over(instance);
        else
            atomic_fetch_sub(&instance->n_under_way, 1);
        upstream_instance_unref(instance);
    }
    return NULL;
}

static void end_loop(struct io_message *message) {
    io_loop_stop(CONTAINER_OF(message, struct crowd, last)->loop);
}

static void test_threads(void) {
    enum { N = 3 };
    struct fixture f = {.config = load(3), .log = log_new(2, LOG_OFF, LOG_STYLE_TEXT)};
    struct io_loop *loops[N];
    pthread_t threads[N];
    struct crowd crowds[N];
    for (size_t i = 0; i < N; i++) {
        if (io_loop_new(&loops[i]) != 0)
            CANNOT_GO_ON();
    }
    f.loop = loops[0];
    struct upstream_set_options options = {
        .config = f.config, .log = f.log, .loops = loops, .n_loops = N, .version = SLICE("0")};
    if (upstream_set_new(&options, &f.set) != 0)
        CANNOT_GO_ON();
    f.list = upstream_set_list(f.set);
    for (size_t i = 0; i < N; i++) {
        crowds[i] = (struct crowd){.f = &f, .index = i, .loop = loops[i]};
        if (pthread_create(&threads[i], NULL, run_crowd, &crowds[i]) != 0)
            CANNOT_GO_ON();
    }
    for (size_t i = 0; i < N; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT(crowds[i].n_cut, 0);
        CHECK(crowds[i].n_calls > 1000);
    }
    CHECK(f.set->room.n <= 3);
    use(&f, "a", "z", 1); /* all are free again, whatever was refused last */
    upstream_list_unref(f.list);
    upstream_set_stop(f.set, on_stopped, f.loop);
    for (size_t i = 1; i < N; i++) { /* what has been told to close does so before */
        crowds[i].last.deliver = end_loop;
        io_loop_post(loops[i], &crowds[i].last);
        io_loop_run(loops[i]);
    }
    io_loop_run(f.loop);
    upstream_set_free(f.set);
    for (size_t i = 0; i < N; i++)
        io_loop_free(loops[i]);
    config_unref(f.config);
    log_free(f.log);
}

static void try_make(void *context) {
    struct fixture *f = context;
    struct upstream_instance *instance = NULL;
    int error = try_get(f, "a", "p", &instance);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK((error == 0) == (instance != NULL));
    if (instance != NULL)
        instance_close(instance);
    upstream_instance_unref(instance);
}

static void test_no_memory(void) {
    struct fixture f;
    set_up(&f, 3);
    test_torture(try_make, &f);
    tear_down(&f);
}

TEST_MAIN(TEST(test_order), TEST(test_kept), TEST(test_resize), TEST(test_sessions),
          TEST(test_late_call), TEST(test_late_call_refused), TEST(test_model), TEST(test_threads),
          TEST(test_no_memory))
