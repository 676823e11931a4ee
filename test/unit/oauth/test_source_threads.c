/* Many threads that ask for tokens, have them refused, and change their minds, while tokens end,
 * requests fail, and at last the sources themselves are freed. */
#include <pthread.h>

#include "base/random.h"
#include "source_world.h"

enum { N_THREADS = 4, N_ROUNDS = 300, N_AT_ONCE = 8, N_SUBJECTS = 5 };

struct crowd {
    struct source_world *world;
    struct oauth_token *subjects[N_SUBJECTS];
    atomic_uint_least64_t now;
    atomic_size_t n_waiting; /* of the last round: those who are in */
    atomic_size_t n_done;
};

/* A thread with a loop of its own. */
struct asker {
    struct crowd *crowd;
    struct io_loop *loop;
    pthread_t thread;
    struct asked {
        struct oauth_token_wait wait;
        struct asker *owner;
        size_t subject;
        size_t n_told;
        bool is_in, is_cancelled;
    } asked[N_AT_ONCE];
    size_t n_left;
    size_t n_asked, n_told, n_cancelled, n_tokens;
};

/* Time flies: 50 ms at each look. */
static uint64_t crowd_now(void *context) {
    struct crowd *crowd = context;
    return atomic_fetch_add(&crowd->now, 50);
}

static uint64_t crowd_wall(void *context) {
    struct crowd *crowd = context;
    return START_WALL_MS + atomic_load(&crowd->now);
}

/* The token is for whom it was asked: its text ends with the text of its subject. */
static void take(struct asked *asked) {
    struct asker *asker = asked->owner;
    struct oauth_token *token = TAKE(asked->wait.token);
    struct http_head head = {.status = 401};
    if (token == NULL)
        return;
    asker->n_tokens++;
    if (random_below(8) == 0)
        (void)!oauth_source_refused(asker->crowd->world->source,
                                    asker->crowd->subjects[asked->subject], token, &head);
    oauth_token_unref(token);
}

static void told(struct io_message *message) {
    struct oauth_token_wait *wait = CONTAINER_OF(message, struct oauth_token_wait, message);
    struct asked *asked = CONTAINER_OF(wait, struct asked, wait);
    asked->n_told++;
    asked->owner->n_told++;
    take(asked);
    if (--asked->owner->n_left == 0)
        io_loop_stop(asked->owner->loop);
}

static void enter(struct asker *asker) {
    struct crowd *crowd = asker->crowd;
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        struct asked *asked = &asker->asked[i];
        *asked = (struct asked){.owner = asker, .subject = random_below(N_SUBJECTS)};
        asked->wait.loop = asker->loop;
        asked->wait.message.deliver = told;
        asked->is_in = oauth_source_get(crowd->world->source, crowd->subjects[asked->subject],
                                        &asked->wait) == OAUTH_ANSWER_WAIT;
        if (!asked->is_in)
            take(asked);
        asker->n_left += asked->is_in;
        asker->n_asked += asked->is_in;
    }
}

static void change_minds(struct asker *asker, unsigned share) {
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        struct asked *asked = &asker->asked[i];
        if (!asked->is_in || asked->is_cancelled || random_below(4) >= share)
            continue;
        asked->is_cancelled = oauth_token_wait_cancel(&asked->wait);
        asker->n_left -= asked->is_cancelled;
        asker->n_cancelled += asked->is_cancelled;
    }
}

static void leave(struct asker *asker) {
    if (asker->n_left != 0)
        io_loop_run(asker->loop);
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        struct asked *asked = &asker->asked[i];
        CHECK_INT(asked->n_told, asked->is_in && !asked->is_cancelled);
    }
}

static void *ask(void *arg) {
    struct asker *asker = arg;
    struct crowd *crowd = asker->crowd;
    for (int round = 0; round < N_ROUNDS; round++) {
        enter(asker);
        change_minds(asker, 2);
        leave(asker);
    }
    /* The last time: all is freed in the midst of it. */
    enter(asker);
    if (atomic_fetch_add(&crowd->n_waiting, 1) + 1 == N_THREADS)
        io_loop_stop(crowd->world->guarded.loop);
    while (atomic_load(&crowd->n_done) == 0)
        change_minds(asker, 1);
    leave(asker);
    return NULL;
}

static void test_threads(void) {
    struct source_world world;
    struct crowd crowd = {.world = &world, .now = START_MS};
    static struct asker askers[N_THREADS];
    size_t n_asked = 0, n_told = 0, n_cancelled = 0, n_tokens = 0;
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    world.config.cache_max_size = 3;
    world.config.cache_idle_timeout_ms = 500;
    for (size_t i = 0; i < MAX_REPLIES - 3; i++)
        reply(&world, "200 OK", EXCHANGED("x", ",\"expires_in\":2"));
    reply(&world, "400 X", ERROR("invalid_grant"));
    reply(&world, "503 X", "");
    reply(&world, "200 OK", EXCHANGED("x", ",\"expires_in\":2"));
    world_make(&world);
    world.tokens->now_fn = crowd_now;
    world.tokens->wall_fn = crowd_wall;
    world.tokens->clock_context = &crowd;
    world.source = world_source(&world, 0);
    for (size_t i = 0; i < N_SUBJECTS; i++) {
        char name[8];
        snprintf(name, sizeof name, "s%zu", i);
        crowd.subjects[i] = make_subject(name, UINT64_MAX);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        askers[i] = (struct asker){.crowd = &crowd};
        if (io_loop_new(&askers[i].loop) != 0 ||
            pthread_create(&askers[i].thread, NULL, ask, &askers[i]) != 0)
            CANNOT_GO_ON();
    }
    guarded_run(&world.guarded);
    world.tokens = oauth_tokens_free(world.tokens);
    atomic_store(&crowd.n_done, 1);
    for (size_t i = 0; i < N_THREADS; i++) {
        pthread_join(askers[i].thread, NULL);
        io_loop_free(askers[i].loop);
        n_asked += askers[i].n_asked;
        n_told += askers[i].n_told;
        n_cancelled += askers[i].n_cancelled;
        n_tokens += askers[i].n_tokens;
    }
    CHECK_INT(n_told + n_cancelled, n_asked);
    CHECK(n_told > 100);
    CHECK(n_cancelled > 100);
    CHECK(n_tokens > 100);
    for (size_t i = 0; i < N_SUBJECTS; i++)
        oauth_token_unref(crowd.subjects[i]);
    world_close(&world);
}

/* Sources that come and go on other threads while the loop works for them. */
static void *come_and_go(void *arg) {
    struct crowd *crowd = arg;
    struct io_loop *loop = NULL;
    if (io_loop_new(&loop) != 0)
        CANNOT_GO_ON();
    for (int round = 0; round < N_ROUNDS; round++) {
        struct oauth_source *source = world_source(crowd->world, 0);
        struct asker asker = {.crowd = crowd, .loop = loop};
        struct asked *asked = &asker.asked[0];
        asked->owner = &asker;
        asked->wait.loop = loop;
        asked->wait.message.deliver = told;
        asked->is_in =
            oauth_source_get(source, crowd->subjects[0], &asked->wait) == OAUTH_ANSWER_WAIT;
        source = oauth_source_unref(source);
        if (asked->is_in && (random_below(2) == 0 || !oauth_token_wait_cancel(&asked->wait))) {
            asker.n_left = 1;
            io_loop_run(loop);
        }
        oauth_token_unref(asked->wait.token);
    }
    io_loop_free(loop);
    if (atomic_fetch_add(&crowd->n_waiting, 1) + 1 == N_THREADS)
        io_loop_stop(crowd->world->guarded.loop);
    return NULL;
}

static void test_sources_that_go(void) {
    struct source_world world;
    struct crowd crowd = {.world = &world, .now = START_MS};
    pthread_t threads[N_THREADS];
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    reply(&world, "200 OK", EXCHANGED("x", ",\"expires_in\":2"));
    world_start(&world);
    world.tokens->now_fn = NULL;
    crowd.subjects[0] = make_subject("s", UINT64_MAX);
    for (size_t i = 0; i < N_THREADS; i++) {
        if (pthread_create(&threads[i], NULL, come_and_go, &crowd) != 0)
            CANNOT_GO_ON();
    }
    guarded_run(&world.guarded);
    for (size_t i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    oauth_token_unref(crowd.subjects[0]);
    world_close(&world);
}

TEST_MAIN(TEST(test_threads), TEST(test_sources_that_go))
