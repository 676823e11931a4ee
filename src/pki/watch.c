/*
 * Looks after the files.
 *
 * Everything that can take time (a file on a network, fsync) happens on a thread of its own, which
 * sleeps between two looks. Its first one reads the files in any case: they may have changed since
 * the caller loaded them. What it has found goes to the loop as a message, one at a time: while
 * one is on its way the thread waits. The watch may be freed while a message is in the mailbox; so
 * the message does not point to the watch for certain: it is told to forget it.
 *
 * A look costs a stat(2) for each file. When one of them is another one than at the last load, or
 * was changed so shortly before that load that a second change could have the same time, all of
 * them are read. What cannot be loaded may be half written (the certificate is new, the key still
 * old), so it is tried again soon, and only the second failure is told; the same reason once.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

enum {
    LOOK_MS = 5000,
    RETRY_MS = 1000,
    RACY_S = 2,        /* file systems know the time of a change that well */
    SETTLE_MS = 60000, /* between two certificates because of changed addresses */
    EXPIRY_DAYS = 14,  /* of the operator's certificate: warned once a day */
    WATCHED_FILES = 3,
    REASON_MAX = 8192,
};

#define DAY_MS UINT64_C(86400000)

/* What stat(2) says of one file. All zero: it cannot be looked at. */
struct stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

struct delivery {
    struct io_message message;
    struct pki_watch *watch; /* NULL: it was freed meanwhile; on the loop's thread only */
    struct pki_pair pair;
};

struct pki_watch {
    struct io_loop *loop;
    struct pki_options options;
    char *data_dir;
    char *paths[WATCHED_FILES]; /* NULL: none */
    pki_changed_fn *fn;
    void *context;
    pthread_t thread;

    pthread_mutex_t mutex; /* of the next three */
    pthread_cond_t condition;
    bool is_ending, is_asked;
    struct delivery *pending; /* posted and not delivered yet */

    /* The thread's own. */
    struct stamp stamps[WATCHED_FILES];
    bool is_racy, has_failed;
    struct pki_pair known;        /* what was delivered last, or found at the beginning */
    X509 *server;                 /* of `known` */
    char told[REASON_MAX];        /* the last failure or warning */
    uint64_t tried_at, warned_at; /* monotonic, wall */
};

static void deliver(struct io_message *message) {
    struct delivery *delivery = CONTAINER_OF(message, struct delivery, message);
    struct pki_watch *watch = delivery->watch;
    if (watch != NULL) {
        pthread_mutex_lock(&watch->mutex);
        watch->pending = NULL;
        pthread_cond_signal(&watch->condition);
        pthread_mutex_unlock(&watch->mutex);
        watch->fn(watch->context, &delivery->pair); /* may free the watch */
    }
    pki_pair_deinit(&delivery->pair);
    mem_free(delivery);
}

/* --- looking --- */

static struct stamp stamp_of(const char *path) {
    struct stat info;
    if (path == NULL || stat(path, &info) != 0)
        return (struct stamp){.size = 0};
    return (struct stamp){info.st_dev, info.st_ino, info.st_size, info.st_mtim, info.st_ctim};
}

static bool time_eq(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool stamp_eq(const struct stamp *a, const struct stamp *b) {
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           time_eq(a->modified, b->modified) && time_eq(a->changed, b->changed);
}

/* True: some file is another one, or may be. */
static bool take_stamps(struct pki_watch *watch) {
    time_t now = (time_t)(clock_wall_ms() / 1000);
    bool has_changed = watch->is_racy;
    watch->is_racy = false;
    for (size_t i = 0; i < WATCHED_FILES; i++) {
        struct stamp stamp = stamp_of(watch->paths[i]);
        has_changed = has_changed || !stamp_eq(&stamp, &watch->stamps[i]);
        if (stamp.changed.tv_sec + RACY_S >= now)
            watch->is_racy = true;
        watch->stamps[i] = stamp;
    }
    return has_changed;
}

static bool pair_eq(const struct pki_pair *a, const struct pki_pair *b) {
    /* Not a comparison with what a peer sent: no time to be learnt by anybody. */
    return slice_eq(buf_slice(&a->chain), buf_slice(&b->chain)) &&
           slice_eq(buf_slice(&a->key), buf_slice(&b->key)) &&
           slice_eq(buf_slice(&a->client_ca), buf_slice(&b->client_ca));
}

/* --- telling --- */

/* False: that is what was told last. */
static bool is_news(struct pki_watch *watch, const struct buf *text) {
    struct slice told = slice_from_cstr(watch->told);
    struct slice news = slice_sub(buf_slice(text), 0, sizeof watch->told - 1);
    if (slice_eq(told, news))
        return false;
    if (slice_to_cstr(news, watch->told, sizeof watch->told) != 0)
        watch->told[0] = '\0';
    return true;
}

static void tell_failure(struct pki_watch *watch, const struct buf *reason) {
    bool is_second = watch->has_failed;
    watch->has_failed = true;
    if (is_second && is_news(watch, reason))
        log_write(watch->options.log, LOG_ERROR, "tls",
                  "the changed certificate cannot be used; the old one is served on",
                  LOG_TEXT("reason", buf_slice(reason)));
}

static void warn_of_end(struct pki_watch *watch, uint64_t now_ms) {
    struct pki_term term;
    if (watch->server == NULL || pki_is_own(&watch->options) ||
        (watch->warned_at != 0 && now_ms - watch->warned_at < DAY_MS) ||
        !pki_term_of(watch->server, &term) || now_ms + EXPIRY_DAYS * DAY_MS < term.until_ms)
        return;
    watch->warned_at = now_ms;
    if (now_ms < term.until_ms)
        log_write(watch->options.log, LOG_WARN, "tls", "the certificate expires soon; renew it",
                  LOG_TEXT("path", watch->options.tls->certificate),
                  LOG_NUM("days", (term.until_ms - now_ms) / DAY_MS));
    else
        log_write(watch->options.log, LOG_ERROR, "tls",
                  "the certificate has expired; clients refuse it",
                  LOG_TEXT("path", watch->options.tls->certificate));
}

/* --- loading --- */

static void keep(struct pki_watch *watch, struct pki_pair *pair) {
    pki_pair_deinit(&watch->known);
    watch->known = *pair;
    pki_pair_init(pair);
    X509_free(watch->server);
    watch->server = pki_pem_certificate(buf_slice(&watch->known.chain), 0);
    watch->warned_at = 0;
}

static void post(struct pki_watch *watch, struct pki_pair *pair) {
    struct delivery *delivery = mem_xalloc(sizeof *delivery);
    pki_pair_init(&delivery->pair);
    if (pki_pair_copy(pair, &delivery->pair) != 0) {
        pki_pair_deinit(&delivery->pair);
        mem_free(delivery);
        watch->has_failed = true; /* another time */
        return;
    }
    delivery->message.deliver = deliver;
    delivery->watch = watch;
    keep(watch, pair);
    pthread_mutex_lock(&watch->mutex);
    watch->pending = delivery;
    io_loop_post(watch->loop, &delivery->message);
    pthread_mutex_unlock(&watch->mutex);
}

static void load(struct pki_watch *watch) {
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(REASON_MAX);
    uint64_t now_ms = clock_wall_ms();
    pki_pair_init(&pair);
    watch->tried_at = clock_monotonic_ms();
    if (pki_load_quietly(&watch->options, now_ms, &pair, &reason) != 0) {
        tell_failure(watch, &reason);
        return;
    }
    watch->has_failed = false;
    bool is_same = pair_eq(&pair, &watch->known);
    if (is_news(watch, &pair.warning) && buf_len(&pair.warning) != 0)
        pki_warn(&watch->options, &pair);
    if (!is_same && !pki_is_own(&watch->options))
        pki_files_warn(&watch->options, now_ms, &pair);
    if (!is_same)
        post(watch, &pair);
}

/* Interfaces come and go (containers, VPNs): not a certificate for each of them. */
static bool is_own_due(const struct pki_watch *watch, bool is_asked) {
    if (!pki_is_own(&watch->options) || watch->server == NULL)
        return false;
    bool is_settled =
        is_asked || watch->tried_at == 0 || clock_monotonic_ms() - watch->tried_at >= SETTLE_MS;
    return is_settled && pki_own_is_due(&watch->options, watch->server, clock_wall_ms());
}

static void look(struct pki_watch *watch, bool is_asked) {
    bool has_changed = take_stamps(watch);
    if (has_changed || watch->has_failed || is_own_due(watch, is_asked))
        load(watch);
    warn_of_end(watch, clock_wall_ms());
}

/* --- the thread --- */

static void wait_until(struct pki_watch *watch, uint64_t ms) {
    struct timespec end;
    end.tv_sec = (time_t)(ms / 1000);
    end.tv_nsec = (long)(ms % 1000) * 1000000;
    (void)pthread_cond_timedwait(&watch->condition, &watch->mutex, &end);
}

/* False: the watch ends. */
static bool wait_for_turn(struct pki_watch *watch, bool *ret_is_asked) {
    pthread_mutex_lock(&watch->mutex);
    uint64_t next = clock_monotonic_ms() + (watch->has_failed ? RETRY_MS : LOOK_MS);
    while (!watch->is_ending &&
           (watch->pending != NULL || (!watch->is_asked && clock_monotonic_ms() < next)))
        wait_until(watch, watch->pending != NULL ? clock_monotonic_ms() + LOOK_MS : next);
    *ret_is_asked = watch->is_asked;
    watch->is_asked = false;
    bool is_ending = watch->is_ending;
    pthread_mutex_unlock(&watch->mutex);
    return !is_ending;
}

static void *run(void *arg) {
    struct pki_watch *watch = arg;
    bool is_asked = false;
    while (wait_for_turn(watch, &is_asked))
        look(watch, is_asked);
    return NULL;
}

/* --- */

static char *dup_path(struct slice path) {
    char *copy = NULL;
    if (path.len != 0 && slice_dup_cstr(path, &copy) != 0)
        return NULL;
    return copy;
}

static void choose_paths(struct pki_watch *watch) {
    const struct config_tls *tls = watch->options.tls;
    if (!pki_is_own(&watch->options)) {
        watch->paths[0] = dup_path(tls->certificate);
        watch->paths[1] = dup_path(tls->key);
    } else {
        static const char *const names[] = {"ca.key", "server.key"};
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            struct buf path = BUF_INIT(KIB(8));
            size_t len;
            buf_printf(&path, "%s/tls/%s", watch->data_dir, names[i]);
            watch->paths[i] = buf_take(&path, &len);
            buf_deinit(&path);
        }
    }
    watch->paths[2] = dup_path(tls->client_ca);
}

/* Signals are for the threads that wait for them. */
MUST_CHECK static int start_thread(struct pki_watch *watch) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&watch->thread, NULL, run, watch);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -error;
}

static void free_watch(struct pki_watch *watch) {
    pthread_cond_destroy(&watch->condition);
    pthread_mutex_destroy(&watch->mutex);
    pki_pair_deinit(&watch->known);
    X509_free(watch->server);
    for (size_t i = 0; i < WATCHED_FILES; i++)
        mem_free(watch->paths[i]);
    mem_free(watch->data_dir);
    mem_free(watch);
}

int pki_watch_new(struct io_loop *loop, const struct pki_options *options,
                  const struct pki_pair *loaded, pki_changed_fn *fn, void *context,
                  struct pki_watch **ret_watch) {
    struct pki_watch *watch = mem_xalloc(sizeof *watch);
    pthread_condattr_t attributes;
    watch->loop = loop;
    watch->options = *options;
    watch->data_dir = mem_xstrdup(options->data_dir);
    watch->options.data_dir = watch->data_dir;
    watch->fn = fn;
    watch->context = context;
    pki_pair_init(&watch->known);
    pthread_mutex_init(&watch->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    choose_paths(watch);
    int error = pki_pair_copy(loaded, &watch->known);
    if (error == 0) {
        watch->server = pki_pem_certificate(buf_slice(&watch->known.chain), 0);
        (void)is_news(watch, &loaded->warning);
        error = start_thread(watch);
    }
    if (error != 0) {
        free_watch(watch);
        return error;
    }
    *ret_watch = watch;
    return 0;
}

void pki_watch_check(struct pki_watch *watch) {
    pthread_mutex_lock(&watch->mutex);
    watch->is_asked = true;
    pthread_cond_signal(&watch->condition);
    pthread_mutex_unlock(&watch->mutex);
}

struct pki_watch *pki_watch_free(struct pki_watch *watch) {
    if (watch == NULL)
        return NULL;
    pthread_mutex_lock(&watch->mutex);
    watch->is_ending = true;
    pthread_cond_signal(&watch->condition);
    pthread_mutex_unlock(&watch->mutex);
    pthread_join(watch->thread, NULL);
    if (watch->pending != NULL)
        watch->pending->watch = NULL;
    free_watch(watch);
    return NULL;
}
