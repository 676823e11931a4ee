/* The thread of a sink (sink_private.h). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/file.h"
#include "sink_private.h"

enum {
    SAVE_MS = 1000,
    HEAD_ROOM = 1024,    /* what a kind puts around a line */
    BATCH_MOST = MIB(1), /* one line, at most doubled, and what is around it */
    PLACE_CHARS = 3 * 21,
};

void sink_tell(struct audit_sink *sink, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(sink->reason, sizeof sink->reason, format, args);
    va_end(args);
}

/* --- time and stopping --- */

bool sink_is_stopping(const struct audit_sink *sink) {
    return atomic_load(&sink->deadline) != 0;
}

static bool is_too_late(const struct audit_sink *sink) {
    uint64_t deadline = atomic_load(&sink->deadline);
    return deadline != 0 && clock_monotonic_ms() >= deadline;
}

int sink_poll(struct audit_sink *sink, int fd, short events, uint64_t until_ms, bool until_stop) {
    for (;;) {
        uint64_t deadline = atomic_load(&sink->deadline), now = clock_monotonic_ms();
        if (deadline != 0 && until_stop)
            return 0;
        uint64_t until = deadline != 0 && deadline < until_ms ? deadline : until_ms;
        uint64_t wait = until > now ? until - now : 0;
        struct pollfd fds[] = {{.fd = fd, .events = events},
                               {.fd = deadline == 0 ? sink->stop_fd : -1, .events = POLLIN}};
        int n = poll(fds, ARRAY_LEN(fds), wait > INT32_MAX ? INT32_MAX : (int)wait);
        if (n > 0 && fds[0].revents != 0)
            return 1;
        if (n == 0 && clock_monotonic_ms() >= until)
            return 0;
    }
}

/* --- what others see --- */

static void set_state(struct audit_sink *sink, const char *reason) {
    pthread_mutex_lock(&sink->lock);
    sink->state.seq = sink->sent.seq;
    sink->state.n_missed += audit_follow_missed(sink->follow);
    if (reason != NULL)
        snprintf(sink->state.error, sizeof sink->state.error, "%s", reason);
    pthread_mutex_unlock(&sink->lock);
}

void audit_sink_get_state(struct audit_sink *sink, struct audit_sink_state *ret_state) {
    pthread_mutex_lock(&sink->lock);
    *ret_state = sink->state;
    pthread_mutex_unlock(&sink->lock);
}

/* One warning for each reason, not for each attempt. */
static void tell_failure(struct audit_sink *sink) {
    set_state(sink, sink->reason);
    if (strcmp(sink->reason, sink->told) == 0)
        return;
    memcpy(sink->told, sink->reason, sizeof sink->told);
    log_write(sink->log, LOG_WARN, "audit",
              "the copy of the audit trail cannot go on; it is tried again and nothing is lost as "
              "long as the trail keeps it",
              LOG_CSTR("sink", sink->kind->name), LOG_CSTR("reason", sink->reason));
}

static void tell_success(struct audit_sink *sink) {
    sink->pause_ms = 0;
    if (sink->told[0] == '\0')
        return;
    sink->told[0] = '\0';
    set_state(sink, "");
    log_write(sink->log, LOG_INFO, "audit", "the copy of the audit trail goes on",
              LOG_CSTR("sink", sink->kind->name));
}

/* --- the place --- */

static bool read_numbers(struct slice text, uint64_t *numbers, size_t n) {
    struct slice word;
    for (size_t i = 0; i < n; i++) {
        slice_cut(text, i + 1 < n ? ' ' : '\n', &word, &text);
        if (slice_to_u64(word, &numbers[i]) != 0)
            return false;
    }
    return text.len == 0;
}

/* What cannot be read counts as nothing: then all lines come (again). */
static void read_place(const char *path, struct audit_place *ret_place) {
    uint64_t numbers[3];
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(PLACE_CHARS + 1);
    *ret_place = (struct audit_place){.seq = 0};
    if (io_file_read(path, &text) == 0 && read_numbers(buf_slice(&text), numbers, 3))
        *ret_place = (struct audit_place){numbers[0], numbers[1], numbers[2]};
}

/*
 * From there on. A place that is gone in a file that is there means that a power failure took lines
 * and others were written since: all of that file is read again. Of a file that is gone, retention
 * has deleted it: on with the oldest line behind the place. Else it is another trail.
 */
static int seek(struct audit_sink *sink, const struct audit_place *place) {
    const struct audit_place tries[] = {
        *place,
        {.segment = place->segment},
        {.seq = place->seq},
        {.seq = 0},
    };
    int error = AUDIT_E_PLACE;
    for (size_t i = 0; i < ARRAY_LEN(tries) && error == AUDIT_E_PLACE; i++)
        error = audit_follow_seek(sink->follow, &tries[i]);
    return error > 0 ? -ESTALE : error;
}

static bool is_same_place(const struct audit_place *a, const struct audit_place *b) {
    return a->segment == b->segment && a->offset == b->offset && a->seq == b->seq;
}

static int write_place(struct audit_sink *sink) {
    char text[PLACE_CHARS + 1];
    int n = snprintf(text, sizeof text, "%llu %llu %llu\n", (unsigned long long)sink->safe.segment,
                     (unsigned long long)sink->safe.offset, (unsigned long long)sink->safe.seq);
    CLEANUP(io_fd_close)
    int fd =
        open(sink->place_new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (write(fd, text, (size_t)n) != n || fdatasync(fd) != 0 ||
        rename(sink->place_new_path, sink->place_path) != 0)
        return errno != 0 ? -errno : -EIO;
    return 0;
}

static void save_place(struct audit_sink *sink) {
    sink->saved_at = clock_monotonic_ms();
    struct audit_place safe = sink->safe;
    if (is_same_place(&safe, &sink->saved))
        return;
    if (sink->kind->sync != NULL && sink->kind->sync(sink) != 0)
        return; /* then lines come again, at worst */
    int error = write_place(sink);
    if (error == 0)
        sink->saved = safe;
    if (error != 0 && !sink->place_failed)
        log_write(sink->log, LOG_WARN, "audit",
                  "the place of a copy cannot be remembered: after a restart lines come again",
                  LOG_CSTR("sink", sink->kind->name), LOG_CSTR("path", sink->place_path),
                  LOG_CSTR("reason", strerror(-error)));
    sink->place_failed = error != 0;
}

/* --- handing over --- */

/* The trail is read again from the last line on that is safe, after a pause. */
static void fail(struct audit_sink *sink) {
    buf_reset(&sink->batch, KIB(64));
    sink->kind->close(sink);
    sink->has_candidate = false;
    sink->sent = sink->safe;
    int error = seek(sink, &sink->safe);
    if (error != 0)
        sink_tell(sink, "the trail cannot be read: %s", strerror(-error));
    tell_failure(sink);
    if (sink_is_stopping(sink)) {
        sink->is_over = true;
        return;
    }
    uint64_t pause = sink->pause_ms * 2;
    if (pause < sink->kind->pause_first_ms)
        pause = sink->kind->pause_first_ms;
    sink->pause_ms = pause < sink->kind->pause_most_ms ? pause : sink->kind->pause_most_ms;
    sink_poll(sink, -1, 0, clock_monotonic_ms() + sink->pause_ms, true);
}

static void make_safe(struct audit_sink *sink, const struct audit_place *place) {
    sink->safe = *place;
    tell_success(sink);
}

/* Whether the candidate is safe by now: acknowledged, and a moment ago, so that whoever is behind
 * the peer's TCP has read it, too. */
static bool is_settled(struct audit_sink *sink, uint64_t acknowledged) {
    if (!sink->has_candidate || acknowledged < sink->candidate_sent)
        return false;
    uint64_t now = clock_monotonic_ms();
    if (sink->candidate_at == 0)
        sink->candidate_at = now;
    return sink_is_stopping(sink) || now - sink->candidate_at >= SINK_SETTLE_MS;
}

/* What has become safe. One candidate at a time: each look costs a system call or two. */
static int settle(struct audit_sink *sink) {
    uint64_t sent = 0, acknowledged = 0;
    if (is_same_place(&sink->safe, &sink->sent))
        return 0;
    if (sink->kind->look == NULL) {
        make_safe(sink, &sink->sent);
        return 0;
    }
    int error = sink->kind->look(sink, &sent, &acknowledged);
    if (error != 0)
        return error;
    if (is_settled(sink, acknowledged)) {
        sink->has_candidate = false;
        make_safe(sink, &sink->candidate);
    }
    if (sink_is_stopping(sink) && sent == acknowledged)
        make_safe(sink, &sink->sent);
    if (!sink->has_candidate && !is_same_place(&sink->safe, &sink->sent)) {
        sink->has_candidate = true;
        sink->candidate = sink->sent;
        sink->candidate_sent = sent;
        sink->candidate_at = 0;
        (void)is_settled(sink, acknowledged);
    }
    return 0;
}

static int flush(struct audit_sink *sink) {
    if (buf_len(&sink->batch) != 0) {
        int error = sink->kind->flush(sink);
        if (error != 0)
            return error;
        buf_reset(&sink->batch, KIB(64));
        sink->sent = sink->behind_batch;
    }
    int error = settle(sink);
    set_state(sink, NULL);
    return error;
}

static int add(struct audit_sink *sink, struct slice line) {
    struct audit_place behind = audit_follow_place(sink->follow);
    size_t len = buf_len(&sink->batch);
    int error = 0;
    if (len != 0 && len + line.len + HEAD_ROOM > sink->kind->batch)
        error = flush(sink);
    if (error == 0) {
        error = sink->kind->encode(sink, line);
        if (error != 0)
            sink_tell(sink, "a record cannot be made ready: %s", strerror(-error));
    }
    sink->behind_batch = behind;
    return error == 0 && sink->kind->batch == 0 ? flush(sink) : error;
}

/* Until there is something to do beside handing lines over. */
static uint64_t wait_ms(const struct audit_sink *sink) {
    if (buf_len(&sink->batch) != 0 || sink_is_stopping(sink))
        return 0;
    if (is_same_place(&sink->sent, &sink->saved))
        return UINT64_MAX;
    uint64_t now = clock_monotonic_ms(), due = sink->saved_at + SAVE_MS;
    return due > now ? due - now : 1;
}

/* False: it is done. */
static bool step(struct audit_sink *sink) {
    struct slice line;
    int error = 0;
    uint64_t wait = wait_ms(sink);
    switch (audit_follow_next(sink->follow, wait, &line, &error)) {
    case AUDIT_FOLLOWED_LINE:
        error = add(sink, line);
        break;
    case AUDIT_FOLLOWED_END:
        error = flush(sink);
        if (error == 0 && sink_is_stopping(sink))
            return false;
        break;
    case AUDIT_FOLLOWED_STOP:
        return true;
    case AUDIT_FOLLOWED_ERROR:
        sink_tell(sink, "the trail cannot be read: %s", strerror(error));
        break;
    }
    if (error != 0)
        fail(sink);
    if (clock_monotonic_ms() - sink->saved_at >= SAVE_MS)
        save_place(sink);
    return !sink->is_over && !is_too_late(sink);
}

static void *run(void *arg) {
    struct audit_sink *sink = arg;
    while (step(sink))
        ;
    if (!sink->is_over && sink->kind->finish != NULL) {
        sink->kind->finish(sink);
        if (settle(sink) != 0)
            tell_failure(sink);
    }
    save_place(sink);
    sink->kind->close(sink);
    set_state(sink, NULL);
    return NULL;
}

/* --- start and stop --- */

static struct audit_sink *free_sink(struct audit_sink *sink) {
    sink->kind->free(sink);
    audit_follow_free(sink->follow);
    io_fd_close(&sink->stop_fd);
    buf_deinit(&sink->batch);
    pthread_mutex_destroy(&sink->lock);
    mem_free(sink->place_path);
    mem_free(sink->place_new_path);
    mem_free(sink);
    return NULL;
}

static char *path_of(const char *dir, const char *name, const char *ending) {
    size_t size = strlen(dir) + strlen(name) + strlen(ending) + 2;
    char *path = mem_xalloc(size);
    snprintf(path, size, "%s/%s%s", dir, name, ending);
    return path;
}

/* Signals are for the threads that wait for them; SIGPIPE, which OpenSSL's writes may raise, for
 * nobody. */
static int start_thread(struct audit_sink *sink) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&sink->thread, NULL, run, sink);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -error;
}

int sink_start(const struct sink_kind *kind, void *of_kind, const char *dir, struct log *log,
               struct audit_sink **ret_sink) {
    struct audit_sink *sink = mem_xalloc(sizeof *sink);
    sink->kind = kind;
    sink->of_kind = of_kind;
    sink->log = log;
    sink->batch = BUF_INIT(BATCH_MOST);
    sink->place_path = path_of(dir, kind->name, ".place");
    sink->place_new_path = path_of(dir, kind->name, ".place.new");
    sink->state.name = kind->name;
    sink->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = -pthread_mutex_init(&sink->lock, NULL);
    if (sink->stop_fd < 0)
        error = -errno;
    if (error == 0)
        error = audit_follow_new(dir, sink->stop_fd, &sink->follow);
    if (error == 0) {
        read_place(sink->place_path, &sink->saved);
        sink->sent = sink->safe = sink->saved;
        sink->state.seq = sink->saved.seq;
        error = seek(sink, &sink->saved);
    }
    if (error == 0)
        error = start_thread(sink);
    if (error != 0) {
        free_sink(sink);
        return error;
    }
    *ret_sink = sink;
    return 0;
}

struct audit_sink *audit_sink_stop(struct audit_sink *sink, uint64_t most_ms) {
    if (sink == NULL)
        return NULL;
    uint64_t one = 1;
    atomic_store(&sink->deadline, clock_monotonic_ms() + most_ms);
    if (write(sink->stop_fd, &one, sizeof one) < 0)
        (void)one; /* it is readable already */
    pthread_join(sink->thread, NULL);
    return free_sink(sink);
}
