/*
 * The index's thread (audit/index.h), and filling it without one.
 *
 * One process at a time fills the index: it holds a lock. Who wants it made anew while another one
 * has the lock leaves a file that asks for it, and waits.
 *
 * While nothing is left to do the thread sleeps until a line comes, and then a moment longer, so
 * that a transaction is worth its while. What goes wrong is told once and tried again: the trail
 * goes on without an index.
 */
#include "audit/index.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "index_db.h"
#include "index_fill.h"
#include "io/file.h"

enum {
    PACE_MS = 100,
    LONGEST_MS = 50, /* between two looks at what else is to be done */
    WAIT_MS = 5000,
    RETRY_MS = 1000,
    LOOK_MS = 100, /* at another one's work */
};

struct audit_index {
    char *dir;
    struct secret *url; /* NULL: SQLite */
    struct audit *audit;
    struct log *log;
    int stop_read, stop_write;
    pthread_t thread;

    pthread_mutex_t mutex; /* of: */
    struct audit_index_state state;

    /* The thread's own. */
    struct index_filler filler;
    bool is_damaged; /* as came out while it was filled */
    struct {
        uint64_t looked_ms, looked_seq; /* when it looked last how many lines there are */
        uint64_t since_ms;              /* it is busy since; 0: it is not */
        bool holds;
    } pressure;
};

/* --- the thread --- */

static void publish(struct audit_index *index) {
    const struct index_writer *writer = index->filler.writer;
    pthread_mutex_lock(&index->mutex);
    index->state.n_records = writer->n_records;
    index->state.seq = writer->at.seq;
    index->state.error[0] = '\0';
    pthread_mutex_unlock(&index->mutex);
    if (index->audit != NULL && index->url == NULL)
        audit_tell_size(index->audit, index_db_size(index->dir));
}

/* Once for each kind of error: `more` may be worded differently each time. */
static void tell(struct audit_index *index, const char *text, struct slice more) {
    pthread_mutex_lock(&index->mutex);
    bool is_news = strcmp(index->state.error, text) != 0;
    if (slice_to_cstr(slice_from_cstr(text), index->state.error, sizeof index->state.error) != 0)
        index->state.error[0] = '\0';
    pthread_mutex_unlock(&index->mutex);
    if (is_news)
        log_write(index->log, LOG_WARN, "audit", "the index is not filled; it is tried again",
                  LOG_TEXT("reason", more.len != 0 ? more : slice_from_cstr(text)));
}

/* True: the thread has to end. */
static bool is_stopped_within(struct audit_index *index, int ms) {
    struct pollfd fd = {.fd = index->stop_read, .events = POLLIN};
    return poll(&fd, 1, ms) > 0;
}

/*
 * A row costs a good part of what a call does. While records come in fast the index lets them lie
 * for a minute at a time, and works them off afterwards, or beside, for a tenth of that: an index
 * that lags costs nobody anything, calls that are slower do. It looks often, so that it is out of
 * the way soon after they begin to come.
 */
static bool is_held_back(struct audit_index *index) {
    enum { LOOK_AGAIN_MS = LONGEST_MS, BUSY_PER_S = 2000, HOLD_MS = 60000, WORK_MS = 6000 };
    uint64_t now = clock_monotonic_ms(), passed = now - index->pressure.looked_ms;
    if (index->audit == NULL || passed < LOOK_AGAIN_MS)
        return index->pressure.holds;
    struct audit_state state;
    audit_get_state(index->audit, &state);
    bool is_busy = (state.head.seq - index->pressure.looked_seq) * 1000 / passed >= BUSY_PER_S;
    index->pressure.looked_ms = now;
    index->pressure.looked_seq = state.head.seq;
    if (!is_busy || index->pressure.since_ms == 0)
        index->pressure.since_ms = is_busy ? now : 0;
    index->pressure.holds =
        is_busy && (now - index->pressure.since_ms) % (HOLD_MS + WORK_MS) < HOLD_MS;
    return index->pressure.holds;
}

/* What is there; then waits for more. 0: go on; 1: the thread has to end; -errno. */
MUST_CHECK static int fill(struct audit_index *index) {
    bool is_idle = false;
    for (;;) {
        if (is_held_back(index)) {
            if (is_stopped_within(index, PACE_MS))
                return 1;
            continue;
        }
        uint64_t seq = index->filler.writer->at.seq;
        int status = index_filler_run(&index->filler, is_idle ? WAIT_MS : 0);
        if (status < 0)
            return status;
        const struct index_writer *writer = index->filler.writer;
        if (is_idle && writer->at.seq == seq && writer->driver->rest != NULL)
            writer->driver->rest(index->filler.writer);
        publish(index);
        int more = index_filler_retain(&index->filler);
        if (more < 0)
            return more;
        is_idle = status == 1 && more == 0;
        if (status == 2 || is_stopped_within(index, is_idle ? PACE_MS : 0))
            return 1;
        if (index_is_asked_anew(index->dir))
            return 0;
    }
}

/* Opens and fills until something has to be opened again. */
MUST_CHECK static int open_and_fill(struct audit_index *index) {
    int error =
        index_filler_open(&index->filler, index->is_damaged || index_is_asked_anew(index->dir));
    if (error != 0)
        return error;
    int status = fill(index);
    index->is_damaged = status == -EBADMSG;
    index_filler_close(&index->filler);
    return status;
}

/* It may lag, and calls must not wait for it: it has the processors when nobody else wants them. No
 * lock of others is held here for longer than it takes to read a number. */
static void give_way(void) {
    const struct sched_param param = {.sched_priority = 0};
    (void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &param);
}

static void *run(void *arg) {
    struct audit_index *index = arg;
    int lock = -1;
    give_way();
    for (;;) {
        int status = lock < 0 ? index_lock(index->dir, &lock) : 0;
        if (status == 0)
            status = open_and_fill(index);
        if (status == 1)
            break;
        if (status == -EWOULDBLOCK && lock < 0)
            tell(index, "another process fills it", SLICE_EMPTY);
        else if (status < 0 && status != -ESTALE)
            tell(index, index_error_text(status), buf_slice(&index->filler.why));
        if (is_stopped_within(index, status == 0 ? 0 : RETRY_MS))
            break;
    }
    io_fd_close(&lock);
    return NULL;
}

/* --- */

/* Signals are for the threads that wait for them. */
MUST_CHECK static int start_thread(struct audit_index *index) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&index->thread, NULL, run, index);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -error;
}

static void free_index(struct audit_index *index) {
    io_fd_close(&index->stop_read);
    io_fd_close(&index->stop_write);
    pthread_mutex_destroy(&index->mutex);
    index_filler_deinit(&index->filler);
    secret_free(index->url);
    mem_free(index->dir);
    mem_free(index);
}

MUST_CHECK static int make_index(const struct audit_index_options *options,
                                 struct audit_index *index) {
    int error = slice_dup_cstr(slice_from_cstr(options->dir), &index->dir);
    if (error == 0 && options->url.len != 0)
        error = secret_new(options->url, &index->url);
    if (error == 0)
        error = io_pipe(&index->stop_read, &index->stop_write);
    index->filler.stop_fd = index->stop_read;
    index->filler.longest_ms = LONGEST_MS;
    index->filler.where = (struct index_where){
        .dir = index->dir,
        .url = index->url != NULL ? secret_reveal(index->url) : SLICE_EMPTY,
        .max_age_ms = options->max_age_ms,
        .log = options->log,
    };
    return error != 0 ? error : start_thread(index);
}

int audit_index_start(const struct audit_index_options *options, struct audit_index **ret_index) {
    struct audit_index *index = mem_alloc(sizeof *index);
    if (index == NULL)
        return -ENOMEM;
    index->audit = options->audit;
    index->log = options->log;
    index->stop_read = index->stop_write = -1;
    buf_init(&index->filler.why, KIB(4));
    pthread_mutex_init(&index->mutex, NULL);
    int error = make_index(options, index);
    if (error != 0) {
        free_index(index);
        return error;
    }
    *ret_index = index;
    return 0;
}

struct audit_index *audit_index_stop(struct audit_index *index) {
    if (index == NULL)
        return NULL;
    io_fd_close(&index->stop_write); /* the other end is readable then: its end */
    pthread_join(index->thread, NULL);
    free_index(index);
    return NULL;
}

void audit_index_get_state(struct audit_index *index, struct audit_index_state *ret_state) {
    pthread_mutex_lock(&index->mutex);
    *ret_state = index->state;
    pthread_mutex_unlock(&index->mutex);
}

/* --- without a thread --- */

struct update {
    struct index_where where;
    struct buf why;
    enum audit_index_how how;
    bool is_asked;
    uint64_t target; /* the newest line when it began */
    void (*on_progress)(void *context, uint64_t n_records);
    void *context;
};

static void tell_progress(const struct update *update, uint64_t n_records) {
    if (update->on_progress != NULL)
        update->on_progress(update->context, n_records);
}

MUST_CHECK static int fill_here(struct update *update, bool anew) {
    struct index_filler filler = {.where = update->where, .stop_fd = -1, .why = BUF_INIT(KIB(4))};
    int status = index_filler_open(&filler, anew || index_is_asked_anew(update->where.dir));
    while (status == 0) {
        status = index_filler_run(&filler, 0);
        if (status >= 0)
            tell_progress(update, filler.writer->n_records);
    }
    int more = 1;
    while (status == 1 && more == 1)
        more = index_filler_retain(&filler);
    buf_reset(&update->why, 0);
    buf_append(&update->why, buf_slice(&filler.why));
    index_filler_deinit(&filler);
    return status < 0 ? status : more < 0 ? more : 0;
}

MUST_CHECK static int ask_for_anew(const char *dir) {
    char path[INDEX_PATH];
    int error = index_path(dir, INDEX_ANEW, path);
    if (error == 0)
        error = io_file_create_private(path, SLICE_EMPTY);
    return error == -EEXIST ? 0 : error;
}

/* The other one has done it. */
static bool is_done(const struct update *update) {
    uint64_t seq = 0, n_records = 0;
    if (update->is_asked && index_is_asked_anew(update->where.dir))
        return false;
    if (index_driver_of(&update->where)->look(&update->where, &seq, &n_records) != 0)
        return false;
    tell_progress(update, n_records);
    return seq >= update->target;
}

MUST_CHECK static int fill_or_wait(struct update *update) {
    if (update->how == AUDIT_INDEX_IF_IDLE && is_done(update))
        return 0;
    for (;;) {
        int lock = -1;
        int error = index_lock(update->where.dir, &lock);
        if (error == 0) {
            error = fill_here(update, update->how == AUDIT_INDEX_ANEW);
            if (error == -EBADMSG) /* as came out while it was filled */
                error = fill_here(update, true);
            io_fd_close(&lock);
            return error;
        }
        if (error != -EWOULDBLOCK)
            return error;
        if (update->how == AUDIT_INDEX_IF_IDLE)
            return AUDIT_E_BUSY;
        if (update->how == AUDIT_INDEX_ANEW && !update->is_asked) {
            error = ask_for_anew(update->where.dir);
            if (error != 0)
                return error;
            update->is_asked = true;
        }
        if (is_done(update))
            return 0;
        (void)poll(NULL, 0, LOOK_MS);
    }
}

int audit_index_update(const struct audit_index_options *options, enum audit_index_how how,
                       void (*on_progress)(void *context, uint64_t n_records), void *context,
                       struct buf *ret_reason) {
    struct update update = {.where = {.dir = options->dir,
                                      .url = options->url,
                                      .max_age_ms = options->max_age_ms,
                                      .log = options->log},
                            .why = BUF_INIT(KIB(4)),
                            .how = how,
                            .on_progress = on_progress,
                            .context = context};
    int error = index_newest(options->dir, &update.target);
    if (error == 0)
        error = fill_or_wait(&update);
    if (error < 0 && error != -ENOMEM) {
        buf_printf(ret_reason, "the index %s%s cannot be filled: ",
                   options->url.len != 0 ? "in PostgreSQL of the trail in " : "in ", options->dir);
        if (buf_len(&update.why) != 0)
            buf_append(ret_reason, buf_slice(&update.why));
        else
            buf_append_cstr(ret_reason, index_error_text(error));
        error = AUDIT_E_INDEX;
    }
    buf_deinit(&update.why);
    return error;
}
