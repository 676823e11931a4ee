/* Jobs on the store's threads, their messages, the watch, and the end. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "loop_guard.h"
#include "store_private.h"
#include "store_world.h"

struct scene {
    struct store_world world;
    struct guarded guarded;
    unsigned n_done, n_wanted; /* jobs */
    unsigned n_told;           /* calls of the watch */
    uint64_t told;
    unsigned told_at_done; /* n_told when the last job was done */
};

static void scene_open(struct scene *scene, enum store_world_kind kind, size_t n_threads) {
    *scene = (struct scene){.n_done = 0};
    store_world_make(&scene->world, kind);
    scene->world.options.n_threads = n_threads;
    store_world_start(&scene->world);
    guarded_new(&scene->guarded);
}

static void scene_close(struct scene *scene) {
    store_world_close(&scene->world);
    guarded_free(&scene->guarded);
}

struct task {
    struct store_job job;
    struct scene *scene;
    unsigned n, turn; /* which one it was, and when it was done */
    sem_t *begun, *go;
};

static void task_done(struct io_message *message) {
    struct task *task =
        CONTAINER_OF(CONTAINER_OF(message, struct store_job, message), struct task, job);
    struct scene *scene = task->scene;
    task->turn = ++scene->n_done;
    scene->told_at_done = scene->n_told;
    if (scene->n_done == scene->n_wanted)
        io_loop_stop(scene->guarded.loop);
}

static void submit(struct scene *scene, struct task *task, enum store_kind kind,
                   store_work_fn *work) {
    task->scene = scene;
    task->job = (struct store_job){
        .message.deliver = task_done,
        .loop = scene->guarded.loop,
        .kind = kind,
        .work = work,
        .context = task,
        .result = -EPROTO,
    };
    scene->n_wanted++;
    store_submit(scene->world.store, &task->job);
}

static void run(struct scene *scene) {
    io_timer_start(scene->guarded.guard, GUARD_MS);
    guarded_run(&scene->guarded);
}

/* --- works --- */

static int count_up(struct store_tx *tx, void *context) {
    uint64_t count = 0;
    (void)context;
    int error = store_get_number(tx, "SELECT count FROM login_failures WHERE key = 'n'", &count);
    if (error == 0)
        error = store_exec(tx, "UPDATE login_failures SET count = $1 WHERE key = 'n'",
                           STORE_VALUES(store_number((int64_t)count + 1)), NULL);
    return error;
}

static int begin_counting(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx, "INSERT INTO login_failures (key, count, last_ms) VALUES ('n', 0, 0)",
                      NULL, 0, NULL);
}

static int get_count(struct store_tx *tx, void *context) {
    return store_get_number(tx, "SELECT count FROM login_failures WHERE key = 'n'", context);
}

static int fail(struct store_tx *tx, void *context) {
    (void)tx;
    (void)context;
    return STORE_E_USER + 1;
}

static int append(struct store_tx *tx, void *context) {
    const struct task *task = context;
    return store_exec(
        tx,
        "INSERT INTO login_failures (key, count, last_ms)"
        " SELECT $2, count(*), 0 FROM login_failures WHERE count <> $1",
        STORE_VALUES(store_number(-1), store_text(slice_make(&"abcdefghij"[task->n], 1))), NULL);
}

static int hold(struct store_tx *tx, void *context) {
    struct task *task = context;
    uint64_t n;
    sem_post(task->begun);
    while (sem_wait(task->go) != 0)
        continue;
    return store_get_number(tx, "SELECT count(*) FROM roles", &n);
}

static int hold_nothing(struct store_tx *tx, void *context) {
    uint64_t n;
    (void)context;
    return store_get_number(tx, "SELECT count(*) FROM roles", &n);
}

/* --- tests --- */

static void test_order(enum store_world_kind kind) {
    struct scene scene;
    struct task tasks[10] = {{.n = 0}};
    scene_open(&scene, kind, 3);
    for (unsigned i = 0; i < ARRAY_LEN(tasks); i++) {
        tasks[i].n = i;
        submit(&scene, &tasks[i], STORE_WRITE, i == 5 ? fail : append);
    }
    run(&scene);
    for (unsigned i = 0; i < ARRAY_LEN(tasks); i++) {
        CHECK_INT(tasks[i].job.result, i == 5 ? STORE_E_USER + 1 : 0);
        CHECK_INT(tasks[i].turn, i + 1);
    }
    scene_close(&scene);
}
STORE_TEST(test_order)

/* What one reads and writes no other one changes in between: of this process or another one. */
static void test_writers(enum store_world_kind kind) {
    enum { PROCESSES = 3, TIMES = 40 };
    struct store_world world;
    uint64_t count = 0;
    pid_t children[PROCESSES];
    store_world_open(&world, kind);
    CHECK_INT(store_run(world.store, STORE_WRITE, begin_counting, NULL), 0);
    world.store = store_close(world.store);
    for (size_t i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        int failed = 0;
        store_world_start(&world);
        for (unsigned n = 0; n < TIMES && failed == 0; n++)
            failed = store_run(world.store, STORE_WRITE, count_up, NULL);
        store_close(world.store);
        _exit(failed == 0 ? 0 : 1);
    }
    for (size_t i = 0; i < PROCESSES; i++) {
        int status = -1;
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        CHECK_INT(status, 0);
    }
    store_world_start(&world);
    CHECK_INT(store_run(world.store, STORE_READ, get_count, &count), 0);
    CHECK_INT(count, PROCESSES * TIMES);
    store_world_close(&world);
}
STORE_TEST(test_writers)

/* A reader does not wait for a writer. */
static int hold_written(struct store_tx *tx, void *context) {
    int error = begin_counting(tx, NULL);
    return error != 0 ? error : hold(tx, context);
}

static void test_reader_beside_writer(enum store_world_kind kind) {
    struct scene scene;
    sem_t begun, go;
    uint64_t n = 9;
    struct task writer = {.begun = &begun, .go = &go};
    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
    scene_open(&scene, kind, 2);
    submit(&scene, &writer, STORE_WRITE, hold_written);
    while (sem_wait(&begun) != 0)
        continue;
    CHECK_INT(store_run(scene.world.store, STORE_READ, get_count, &n), 0);
    CHECK_INT(n, 0);
    sem_post(&go);
    run(&scene);
    CHECK_INT(writer.job.result, 0);
    scene_close(&scene);
}
STORE_TEST(test_reader_beside_writer)

/* --- the watch --- */

static void on_changed(void *context, uint64_t number) {
    struct scene *scene = context;
    CHECK(number > scene->told);
    scene->told = number;
    scene->n_told++;
    if (scene->n_wanted == 0)
        io_loop_stop(scene->guarded.loop);
}

static void test_watch(enum store_world_kind kind) {
    struct scene scene;
    struct store *other = NULL;
    struct task task = {.n = 0}, reader = {.n = 1}, failing = {.n = 2};
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    scene_open(&scene, kind, 2);
    REQUIRE(store_open(&scene.world.options, &other, &reason) == 0);
    CHECK_INT(store_watch(scene.world.store, scene.guarded.loop, on_changed, &scene), 0);
    CHECK_INT(store_watch(scene.world.store, scene.guarded.loop, on_changed, &scene), -EBUSY);
    /* Of what only reads or fails nobody is told; of an own write before it is done. */
    submit(&scene, &reader, STORE_WRITE, hold_nothing);
    submit(&scene, &failing, STORE_WRITE, fail);
    run(&scene);
    CHECK_INT(scene.n_told, 0);
    submit(&scene, &task, STORE_WRITE, append);
    run(&scene);
    CHECK_INT(scene.n_told, 1);
    CHECK_INT(scene.told_at_done, 1);
    /* Of those of others, soon. */
    scene.n_wanted = 0;
    uint64_t heard_ms = store_heard_ms(scene.world.store), written_ms = clock_monotonic_ms();
    CHECK_INT(store_run(other, STORE_WRITE, begin_counting, NULL), 0);
    run(&scene);
    CHECK_INT(scene.n_told, 2);
    CHECK(clock_monotonic_ms() - written_ms < 2000); /* 300 ms when the machine has time */
    CHECK(store_heard_ms(scene.world.store) > heard_ms);
    store_close(other);
    scene_close(&scene);
}
STORE_TEST(test_watch)

/* Another file in its place is news, whatever its count says: it may be a copy of yesterday. */
static void on_news(void *context, uint64_t number) {
    struct scene *scene = context;
    (void)number;
    scene->n_told++;
    io_loop_stop(scene->guarded.loop);
}

static void test_replaced(void) {
    struct scene scene;
    struct store *other = NULL;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    uint64_t n = 0;
    char old[128];
    scene_open(&scene, STORE_WORLD_SQLITE, 1);
    snprintf(old, sizeof old, "%s-yesterday", scene.world.path);
    const struct store_options copy = {.path = old, .make = true};
    REQUIRE(store_copy(&scene.world.options, &copy, &n, &reason) == 0);
    CHECK_INT(store_run(scene.world.store, STORE_WRITE, begin_counting, NULL), 0);
    for (int i = 0; i < 10; i++)
        CHECK_INT(store_run(scene.world.store, STORE_WRITE, count_up, NULL), 0);
    CHECK_INT(store_watch(scene.world.store, scene.guarded.loop, on_news, &scene), 0);
    REQUIRE(store_open(&scene.world.options, &other, &reason) == 0);
    CHECK_INT(store_run(other, STORE_WRITE, count_up, NULL), 0);
    other = store_close(other);
    run(&scene); /* it has looked at the old one */
    CHECK_INT(scene.n_told, 1);
    REQUIRE(rename(old, scene.world.path) == 0);
    run(&scene);
    CHECK_INT(scene.n_told, 2);
    scene_close(&scene);
}

/* A call that is on its way does not come any more. */
static void test_unwatch(enum store_world_kind kind) {
    struct scene scene;
    struct task task = {.n = 0}, last = {.n = 1};
    scene_open(&scene, kind, 1);
    CHECK_INT(store_watch(scene.world.store, scene.guarded.loop, on_changed, &scene), 0);
    submit(&scene, &task, STORE_WRITE, append);
    CHECK_INT(store_run(scene.world.store, STORE_WRITE, begin_counting, NULL), 0);
    store_unwatch(scene.world.store);
    store_unwatch(scene.world.store);
    submit(&scene, &last, STORE_WRITE, append);
    run(&scene);
    CHECK_INT(task.job.result, 0);
    CHECK_INT(last.job.result, 0);
    CHECK_INT(scene.n_told, 0);
    /* Again, and the store goes while a message is under way. */
    CHECK_INT(store_watch(scene.world.store, scene.guarded.loop, on_changed, &scene), 0);
    CHECK_INT(store_run(scene.world.store, STORE_WRITE, count_up, NULL), 0);
    scene_close(&scene);
    CHECK_INT(scene.n_told, 0);
}
STORE_TEST(test_unwatch)

/* A newer program migrates the store while this one works with it. */
static int make_newer(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx, "UPDATE store_version SET version = version + 1", NULL, 0, NULL);
}

static void resubmit_until_newer(struct io_message *message) {
    struct task *task =
        CONTAINER_OF(CONTAINER_OF(message, struct store_job, message), struct task, job);
    CHECK(task->job.result == 0 || task->job.result == STORE_E_NEWER);
    if (task->job.result != 0 || task->scene->guarded.is_late)
        io_loop_stop(task->scene->guarded.loop);
    else
        store_submit(task->scene->world.store, &task->job);
}

static void test_newer(enum store_world_kind kind) {
    struct scene scene;
    struct store *other = NULL;
    struct task task = {.n = 0};
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    scene_open(&scene, kind, 1);
    REQUIRE(store_open(&scene.world.options, &other, &reason) == 0);
    CHECK_INT(store_watch(scene.world.store, scene.guarded.loop, on_changed, &scene), 0);
    CHECK_INT(store_run(other, STORE_WRITE, make_newer, NULL), 0);
    scene.n_wanted = 9;
    task.scene = &scene;
    task.job = (struct store_job){
        .message.deliver = resubmit_until_newer,
        .loop = scene.guarded.loop,
        .kind = STORE_READ,
        .work = hold_nothing,
        .context = &task,
    };
    store_submit(scene.world.store, &task.job);
    run(&scene);
    CHECK_INT(task.job.result, STORE_E_NEWER);
    store_close(other);
    scene_close(&scene);
}
STORE_TEST(test_newer)

/* --- the end --- */

static void *close_store(void *arg) {
    return store_close(arg);
}

static void test_close(enum store_world_kind kind) {
    struct scene scene;
    sem_t begun, go;
    pthread_t closer;
    struct task holding = {.begun = &begun, .go = &go}, waiting[2] = {{.n = 1}, {.n = 2}};
    struct task late = {.n = 3};
    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
    scene_open(&scene, kind, 1);
    submit(&scene, &holding, STORE_WRITE, hold_written);
    while (sem_wait(&begun) != 0)
        continue;
    submit(&scene, &waiting[0], STORE_WRITE, append);
    submit(&scene, &waiting[1], STORE_READ, append);
    scene.n_wanted = 2;
    REQUIRE(pthread_create(&closer, NULL, close_store, scene.world.store) == 0);
    run(&scene); /* those that had not begun */
    CHECK_INT(waiting[0].job.result, -ECANCELED);
    CHECK_INT(waiting[1].job.result, -ECANCELED);
    CHECK_INT(holding.turn, 0);
    /* While it closes: it cannot be gone as long as that one has not ended. */
    submit(&scene, &late, STORE_WRITE, append);
    run(&scene);
    CHECK_INT(late.job.result, -ECANCELED);
    sem_post(&go);
    scene.n_wanted = 4;
    run(&scene);
    CHECK_INT(holding.job.result, 0);
    pthread_join(closer, NULL);
    scene.world.store = NULL;
    /* What was begun was finished. */
    store_world_start(&scene.world);
    uint64_t n = 9;
    CHECK_INT(store_run(scene.world.store, STORE_READ, get_count, &n), 0);
    CHECK_INT(n, 0);
    scene_close(&scene);
}
STORE_TEST(test_close)

/* Nobody waits for ever for a thread. */
static void test_waiting(void) {
    struct scene scene;
    sem_t begun, go;
    struct task holding = {.begun = &begun, .go = &go}, waiting = {.n = 1};
    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
    scene_open(&scene, STORE_WORLD_SQLITE, 1);
    submit(&scene, &holding, STORE_READ, hold);
    while (sem_wait(&begun) != 0)
        continue;
    submit(&scene, &waiting, STORE_WRITE, append);
    scene.n_wanted = 1;
    run(&scene);
    CHECK_INT(waiting.job.result, STORE_E_GONE);
    CHECK_INT(holding.turn, 0);
    sem_post(&go);
    scene.n_wanted = 2;
    run(&scene);
    CHECK_INT(holding.job.result, 0);
    scene_close(&scene);
}

/* --- many threads --- */

struct submitter {
    struct scene *scene;
    struct task tasks[50];
};

static void count_done(struct io_message *message) {
    struct task *task =
        CONTAINER_OF(CONTAINER_OF(message, struct store_job, message), struct task, job);
    CHECK_INT(task->job.result, 0);
    if (++task->scene->n_done == task->scene->n_wanted)
        io_loop_stop(task->scene->guarded.loop);
}

static void *submit_all(void *arg) {
    struct submitter *submitter = arg;
    for (size_t i = 0; i < ARRAY_LEN(submitter->tasks); i++) {
        struct task *task = &submitter->tasks[i];
        task->scene = submitter->scene;
        task->job = (struct store_job){
            .message.deliver = count_done,
            .loop = submitter->scene->guarded.loop,
            .kind = i % 3 == 0 ? STORE_WRITE : STORE_READ,
            .work = i % 3 == 0 ? count_up : hold_nothing,
            .context = task,
        };
        store_submit(submitter->scene->world.store, &task->job);
    }
    return NULL;
}

static void test_threads(enum store_world_kind kind) {
    enum { THREADS = 4 };
    struct scene scene;
    struct submitter *submitters = mem_xalloc(THREADS * sizeof *submitters);
    pthread_t threads[THREADS];
    uint64_t n = 0;
    scene_open(&scene, kind, 3);
    CHECK_INT(store_watch(scene.world.store, scene.guarded.loop, on_changed, &scene), 0);
    CHECK_INT(store_run(scene.world.store, STORE_WRITE, begin_counting, NULL), 0);
    scene.n_wanted = THREADS * (unsigned)ARRAY_LEN(submitters->tasks);
    for (size_t i = 0; i < THREADS; i++) {
        submitters[i].scene = &scene;
        REQUIRE(pthread_create(&threads[i], NULL, submit_all, &submitters[i]) == 0);
    }
    run(&scene);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(store_run(scene.world.store, STORE_READ, get_count, &n), 0);
    CHECK_INT(n, THREADS * 17);
    CHECK(scene.n_told > 0);
    scene_close(&scene);
    mem_free(submitters);
}
STORE_TEST(test_threads)

#define BOTH(function) TEST(function##_sqlite), TEST(function##_postgres)

TEST_MAIN(BOTH(test_order), BOTH(test_writers), BOTH(test_reader_beside_writer),
          TEST(test_replaced), BOTH(test_watch), BOTH(test_unwatch), BOTH(test_newer),
          BOTH(test_close), TEST(test_waiting), BOTH(test_threads))
