/*
 * One connection to Redis: name, TCP, TLS, who we are, the database, what kind of server it is, the
 * script, and a first check that counts for nobody. All of it has one deadline. The first check
 * proves what no question about the server tells: that it may write (a replica, a full memory, a
 * disk that does not take what it saves), that this user may do all of it, and that the script
 * runs. A server that fails there was never up, instead of being up and down again with each check.
 *
 * Then checks go out as they come, and the replies come in their order. A check that is too late
 * breaks the connection: what is behind it would be late, too, and nobody waits for it.
 *
 * Nothing of a server's text is repeated that has the password in it: one that does not know AUTH
 * quotes what it was asked.
 */
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "redis_private.h"

enum { OUT_MAX = MIB(64), OUT_KEPT = KIB(64), REASON_MAX = 300, TRIES = 3 };

enum greeting { GREET_AUTH, GREET_SELECT, GREET_INFO, GREET_LOAD, GREET_CHECK };

static const struct limits_rule probes[] = {
    {.id = SLICE_INIT("connect"), .limit = {.limit = LIMIT_RATE_EXACT, .interval_ms = 1000}},
    {.id = SLICE_INIT("connect"), .limit = {.limit = LIMIT_RATE, .interval_ms = 1000}},
};

static void on_read(void *context, struct slice bytes);
static void on_end(void *context, int error);

static const struct io_stream_events stream_events = {.on_read = on_read, .on_end = on_end};

static struct io_loop *loop_of(const struct redis_connection *connection) {
    return connection->pool->redis->worker->loop;
}

static const struct redis_target *target_of(const struct redis_connection *connection) {
    return &connection->pool->target;
}

/* --- the end --- */

static void release(struct redis_connection *connection) {
    resp_reader_free(connection->reader);
    buf_deinit(&connection->out);
    mem_free(connection);
}

struct redis_connection *redis_connection_free(struct redis_connection *connection) {
    list_remove(&connection->link);
    connection->dial = io_dial_free(connection->dial);
    connection->stream = io_stream_free(connection->stream);
    connection->timer = io_timer_free(connection->timer);
    if (connection->is_reading)
        connection->is_freed = true;
    else
        release(connection);
    return NULL;
}

static void fail(struct redis_connection *connection, const char *reason) {
    redis_pool_broken(connection->pool, connection, REDIS_BROKEN, slice_from_cstr(reason));
}

/* Of a login that fails no more is told than what Redis calls it. */
static struct slice login_failure(struct slice text) {
    static const struct {
        struct slice begins, reason;
    } known[] = {
        {SLICE_INIT("WRONGPASS"), SLICE_INIT("the user or password is wrong (WRONGPASS)")},
        {SLICE_INIT("NOPERM"), SLICE_INIT("the user may not log in (NOPERM)")},
        {SLICE_INIT("ERR invalid password"), SLICE_INIT("the password is wrong")},
        {SLICE_INIT("ERR AUTH <password> called without any password"),
         SLICE_INIT("a password is given, and the server has none")},
        {SLICE_INIT("ERR Client sent AUTH, but no password is set"),
         SLICE_INIT("a password is given, and the server has none")},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (slice_starts_with(text, known[i].begins))
            return known[i].reason;
    }
    return SLICE("it refused the user and password");
}

static void fail_by_error(struct redis_connection *connection, struct slice text) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(2));
    const struct secret *password = target_of(connection)->password;
    bool is_cluster = slice_starts_with(text, SLICE("MOVED ")) ||
                      slice_starts_with(text, SLICE("ASK ")) ||
                      slice_starts_with(text, SLICE("CROSSSLOT")) ||
                      slice_starts_with(text, SLICE("CLUSTERDOWN"));
    if (connection->state == REDIS_GREETING && connection->greeting == GREET_AUTH)
        buf_append(&reason, login_failure(text));
    else if (password != NULL && slice_find(text, secret_reveal(password)) != SIZE_MAX)
        buf_append(&reason, SLICE("it refused, in words that are not repeated here"));
    else
        log_escape(&reason, text, REASON_MAX);
    redis_pool_broken(connection->pool, connection, is_cluster ? REDIS_IS_CLUSTER : REDIS_BROKEN,
                      buf_slice(&reason));
}

/* --- timers --- */

static void start_timer(struct redis_connection *connection, uint64_t at) {
    uint64_t now = io_loop_now(loop_of(connection));
    connection->timer_at = at;
    io_timer_start(connection->timer, at > now ? at - now : 0);
}

/* Not in the order of the list: a check may have been sent again. */
static uint64_t first_deadline(const struct redis_connection *connection) {
    uint64_t first = UINT64_MAX;
    LIST_FOREACH_SAFE (&connection->sent, link, next) {
        const struct limits_check *check = CONTAINER_OF(link, struct limits_check, link);
        first = check->deadline < first ? check->deadline : first;
    }
    return first;
}

static void on_timer(void *context) {
    struct redis_connection *connection = context;
    if (connection->state != REDIS_READY) {
        fail(connection, connection->state == REDIS_GREETING
                             ? "it did not answer in time when the connection was made"
                             : "no connection was made in time");
        return;
    }
    uint64_t now = io_loop_now(loop_of(connection));
    uint64_t at = connection->n_sent > 0 ? first_deadline(connection)
                                         : connection->used_at + target_of(connection)->recycle_ms;
    if (at > now)
        start_timer(connection, at);
    else if (connection->n_sent > 0)
        fail(connection, "it did not answer within storage.response_timeout");
    else
        redis_pool_recycle(connection->pool, connection);
}

/* --- greeting --- */

static int write_greeting(struct redis_connection *connection) {
    const struct redis_target *target = target_of(connection);
    const struct slice select[] = {SLICE("SELECT"), target->database};
    const struct slice info[] = {SLICE("INFO"), SLICE("cluster")};
    const struct slice load[] = {SLICE("SCRIPT"), SLICE("LOAD"), redis_script()};
    int error = 0;
    if (target->auth != NULL)
        error = io_stream_write(connection->stream, secret_reveal(target->auth), OUT_MAX);
    if (target->database.len != 0)
        resp_write_command(&connection->out, select, ARRAY_LEN(select));
    resp_write_command(&connection->out, info, ARRAY_LEN(info));
    resp_write_command(&connection->out, load, ARRAY_LEN(load));
    if (error == 0)
        error = redis_connection_flush(connection);
    return error;
}

static void greet(struct redis_connection *connection) {
    const struct redis_target *target = target_of(connection);
    connection->state = REDIS_GREETING;
    connection->greeting = target->auth != NULL        ? GREET_AUTH
                           : target->database.len != 0 ? GREET_SELECT
                                                       : GREET_INFO;
    io_stream_never_starves(connection->stream);
    if (target->auth != NULL)
        io_stream_has_secrets(connection->stream);
    if (write_greeting(connection) != 0)
        fail(connection, "the connection broke");
    else
        io_stream_read(connection->stream, true);
}

static bool is_sha(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return text.len == REDIS_SHA_LEN;
}

static void read_sha(struct redis_connection *connection, const struct resp_reply *reply) {
    struct limits_charge charges[ARRAY_LEN(probes)];
    struct slice sha = resp_text(reply);
    if (!is_sha(sha)) {
        fail(connection, "it is no Redis: it did not take a script");
        return;
    }
    memcpy(connection->sha, sha.ptr, sizeof connection->sha);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++)
        charges[i] = (struct limits_charge){.rule = &probes[i]};
    connection->greeting = GREET_CHECK;
    if (redis_script_write(&connection->out, sha, target_of(connection)->key_prefix, charges,
                           ARRAY_LEN(charges), 0) != 0 ||
        redis_connection_flush(connection) != 0)
        fail(connection, "the connection broke");
}

static void read_first_answer(struct redis_connection *connection, const struct resp_reply *reply) {
    struct limits_answer answer;
    if (!redis_script_read(reply, ARRAY_LEN(probes), &answer)) {
        fail(connection, "it is no Redis: its answer to a script is none");
        return;
    }
    connection->state = REDIS_READY;
    connection->ready_at = connection->used_at = io_loop_now(loop_of(connection));
    start_timer(connection, connection->used_at + target_of(connection)->recycle_ms);
    redis_pool_ready(connection->pool, connection);
}

static void read_info(struct redis_connection *connection, const struct resp_reply *reply) {
    if (slice_find(resp_text(reply), SLICE("cluster_enabled:1")) != SIZE_MAX)
        redis_pool_broken(connection->pool, connection, REDIS_IS_CLUSTER,
                          SLICE("cluster_enabled:1"));
    else
        connection->greeting = GREET_LOAD;
}

/* Who may not ask what kind of server it is may be let count all the same. */
static bool may_fail(const struct redis_connection *connection, struct slice text) {
    return connection->greeting == GREET_INFO && slice_starts_with(text, SLICE("NOPERM"));
}

static void read_greeting(struct redis_connection *connection, const struct resp_reply *reply) {
    if (resp_type(reply) == RESP_ERROR && !may_fail(connection, resp_text(reply))) {
        fail_by_error(connection, resp_text(reply));
        return;
    }
    switch ((enum greeting)connection->greeting) {
    case GREET_AUTH:
        connection->greeting = target_of(connection)->database.len != 0 ? GREET_SELECT : GREET_INFO;
        return;
    case GREET_SELECT:
        connection->greeting = GREET_INFO;
        return;
    case GREET_INFO:
        read_info(connection, reply);
        return;
    case GREET_LOAD:
        read_sha(connection, reply);
        return;
    case GREET_CHECK:
        read_first_answer(connection, reply);
        return;
    }
}

/* --- checks --- */

/* Where the server has forgotten the script, one check brings it, and those behind find it. */
int redis_connection_ask(struct redis_connection *connection, struct limits_check *check) {
    bool brings_script = check->n_sent > 0 && !connection->is_loading;
    struct slice sha = slice_make(connection->sha, sizeof connection->sha);
    uint64_t now = io_loop_now(loop_of(connection));
    int error = redis_script_write(&connection->out, brings_script ? SLICE_EMPTY : sha,
                                   target_of(connection)->key_prefix, check->charges, check->n, 0);
    if (error != 0)
        return error;
    if (check->n_sent++ == 0)
        check->deadline = now + target_of(connection)->response_ms;
    check->brings_script = brings_script;
    connection->is_loading |= brings_script;
    connection->used_at = now;
    connection->n_sent++;
    list_push_back(&connection->sent, &check->link);
    if (connection->timer_at > check->deadline)
        start_timer(connection, check->deadline);
    io_timer_start(connection->pool->flush, 0);
    return 0;
}

int redis_connection_flush(struct redis_connection *connection) {
    int error = buf_error(&connection->out);
    if (error == 0 && buf_len(&connection->out) != 0)
        error = io_stream_write(connection->stream, buf_slice(&connection->out), OUT_MAX);
    buf_reset(&connection->out, OUT_KEPT);
    return error;
}

/* The check is no more in the list. */
static void read_error(struct redis_connection *connection, struct limits_check *check,
                       struct slice text) {
    struct list checks = LIST_INIT(checks);
    bool is_forgotten = slice_starts_with(text, SLICE("NOSCRIPT")) && check->n_sent < TRIES;
    if (is_forgotten && check->done != NULL && redis_connection_ask(connection, check) == 0)
        return;
    bool was_cancelled = check->done == NULL;
    list_push_back(&checks, &check->link);
    redis_give_up(connection->pool->redis, &checks);
    if (!is_forgotten || !was_cancelled)
        fail_by_error(connection, text);
}

static void read_answer(struct redis_connection *connection, const struct resp_reply *reply) {
    struct list_link *link = list_pop_front(&connection->sent);
    struct limits_answer answer;
    if (link == NULL) {
        fail(connection, "it sent what nobody asked for");
        return;
    }
    struct limits_check *check = CONTAINER_OF(link, struct limits_check, link);
    connection->n_sent--;
    connection->used_at = io_loop_now(loop_of(connection));
    if (check->brings_script)
        connection->is_loading = false;
    if (resp_type(reply) == RESP_ERROR) {
        read_error(connection, check, resp_text(reply));
    } else if (redis_script_read(reply, check->n, &answer)) {
        connection->pool->n_failures = 0;
        redis_answer(check, &answer);
    } else {
        list_push_front(&connection->sent, link);
        fail(connection, "its answer to a script is none");
    }
}

/* --- what the loop says --- */

static void read_replies(struct redis_connection *connection) {
    while (!connection->is_freed) {
        struct resp_reply *reply = NULL;
        int error = resp_next(connection->reader, &reply);
        if (error != 0)
            fail(connection, error == -ENOMEM ? "there is no memory for its answer"
                                              : "it does not speak the protocol of Redis");
        if (error != 0 || reply == NULL)
            return;
        if (connection->state == REDIS_READY)
            read_answer(connection, reply);
        else
            read_greeting(connection, reply);
        resp_reply_free(reply);
    }
}

static void on_read(void *context, struct slice bytes) {
    struct redis_connection *connection = context;
    connection->is_reading = true;
    if (resp_feed(connection->reader, bytes) == 0)
        read_replies(connection);
    else
        fail(connection, "its answer could not be read");
    connection->is_reading = false;
    if (connection->is_freed)
        release(connection);
    else if (connection->state == REDIS_READY && connection->n_sent == 0)
        redis_pool_idle(connection->pool, connection);
}

static void on_end(void *context, int error) {
    struct redis_connection *connection = context;
    const char *reason = io_stream_tls_reason(connection->stream);
    bool is_idle = connection->state == REDIS_READY && connection->n_sent == 0;
    if (reason[0] == '\0')
        reason = error == 0 ? "it closed the connection" : "the connection broke";
    redis_pool_broken(connection->pool, connection, is_idle ? REDIS_CLOSED_IDLE : REDIS_BROKEN,
                      slice_from_cstr(reason));
}

/* --- dialling --- */

static void on_secured(void *context, int error) {
    struct redis_connection *connection = context;
    if (error == 0)
        greet(connection);
    else
        fail(connection, io_stream_tls_reason(connection->stream));
}

static void secure(struct redis_connection *connection) {
    const struct redis_target *target = target_of(connection);
    if (target->tls == NULL) {
        greet(connection);
        return;
    }
    connection->state = REDIS_SECURING;
    if (io_stream_start_tls(connection->stream, target->tls, target->host, on_secured,
                            connection) != 0)
        fail(connection, "TLS could not be started");
}

static void on_dialled(void *context, const struct io_dial_result *result) {
    struct redis_connection *connection = context;
    if (result->fd < 0) {
        fail(connection, result->reason != NULL ? result->reason : "no connection");
        return;
    }
    connection->dial = io_dial_free(connection->dial);
    if (io_stream_new(loop_of(connection), IO_STREAM_TCP, result->fd, &stream_events, connection,
                      &connection->stream) != 0)
        fail(connection, "the socket cannot be used");
    else
        secure(connection);
}

int redis_connection_new(struct redis_pool *pool, struct redis_connection **ret_connection) {
    struct redis_connection *connection = mem_alloc(sizeof *connection);
    if (connection == NULL)
        return -ENOMEM;
    connection->pool = pool;
    connection->state = REDIS_DIALLING;
    connection->out = BUF_INIT(OUT_MAX);
    list_init(&connection->sent);
    int error = resp_reader_new(&connection->reader);
    if (error == 0)
        error =
            io_dial_start(pool->redis->resolver, pool->target.host, pool->target.port,
                          pool->target.create_ms, NULL, on_dialled, connection, &connection->dial);
    if (error != 0) {
        release(connection);
        return error;
    }
    connection->timer = io_timer_new(loop_of(connection), on_timer, connection);
    start_timer(connection, io_loop_now(loop_of(connection)) + pool->target.create_ms);
    *ret_connection = connection;
    return 0;
}
