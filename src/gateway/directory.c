/*
 * What the store says of callers, in memory: each worker has the newest picture of it (struct
 * directory), and a number that grows with each other one. Whatever was decided by an older picture
 * is decided again with the next request (auth_still_holds()).
 *
 * Worker 0 watches the store. When something changed it has the picture made anew on a thread of
 * the store, one at a time, and hands it to all workers; each says when it goes by it. So who asks
 * for a refresh is told when every worker goes by all that was in the store at that moment: an
 * answer to "close edit mode" is given after that.
 *
 * The upstreams of the store are a part of the configuration: where they are others than those that
 * are served, whoever reloads it is asked to, and a refresh waits for that, too.
 *
 * When the store is silent the last picture stays: what roles take away stays taken away. But edit
 * mode is off after two seconds, or when the store cannot be written (edit.c), and users' tokens
 * are refused after half a minute, for somebody may have taken them back meanwhile.
 */
#include <errno.h>

#include "accounts/upstreams.h"
#include "base/clock.h"
#include "base/mem.h"
#include "private.h"

enum { RETRY_MS = 500, USE_EVERY_MS = 60000, MOST_USES = 1024 };

/* The work of one job. */
struct gw_loading {
    struct store_job job;
    struct gateway *gateway;
    struct directory *directory;
    struct gw_windows windows;
    struct buf mark; /* of upstreams */
    uint64_t number; /* of refreshes that were asked for before it began */
    bool has_notes;  /* of commands, for the trail */
    bool is_abandoned;
};

struct gw_noting {
    struct store_job job;
    struct gateway *gateway;
    size_t n;
    struct accounts_use uses[];
};

/* --- edit windows --- */

static struct slice dup_text(struct slice text) {
    char *copy = NULL;
    if (text.len == 0)
        return SLICE_EMPTY;
    return slice_dup_cstr(text, &copy) == 0 ? slice_make(copy, text.len) : SLICE_EMPTY;
}

static void free_text(struct slice text) {
    if (text.len != 0)
        mem_free((void *)(uintptr_t)text.ptr);
}

void gw_windows_deinit(struct gw_windows *windows) {
    for (size_t i = 0; i < windows->n; i++) {
        struct accounts_edit *edit = &windows->items[i];
        free_text(edit->id);
        free_text(edit->name);
        free_text(edit->reason);
        free_text(edit->by);
    }
    mem_free(windows->items);
    *windows = (struct gw_windows){0};
}

static bool keep_window(void *context, const struct accounts_edit *edit) {
    struct gw_windows *windows = context;
    struct accounts_edit *grown =
        mem_realloc(windows->items, (windows->n + 1) * sizeof *windows->items);
    if (grown == NULL)
        return false;
    windows->items = grown;
    grown[windows->n++] = (struct accounts_edit){.id = dup_text(edit->id),
                                                 .scope = edit->scope,
                                                 .name = dup_text(edit->name),
                                                 .opened_ms = edit->opened_ms,
                                                 .until_ms = edit->until_ms,
                                                 .reason = dup_text(edit->reason),
                                                 .by = dup_text(edit->by)};
    return true;
}

/* --- loading --- */

static int load(struct store_tx *tx, void *context) {
    struct gw_loading *loading = context;
    loading->directory = directory_unref(loading->directory); /* it may be run again */
    gw_windows_deinit(&loading->windows);
    buf_reset(&loading->mark, KIB(64));
    int error = directory_load(tx, &loading->directory);
    if (error == 0)
        error = accounts_has_notes(tx, &loading->has_notes);
    if (error == 0)
        error = accounts_list_edits(tx, keep_window, &loading->windows);
    return error != 0 ? error : accounts_mark_upstreams(tx, &loading->mark);
}

static void free_loaded(struct gw_loading *loading) {
    directory_unref(loading->directory);
    gw_windows_deinit(&loading->windows);
    buf_deinit(&loading->mark);
}

static void adopt(struct gw_worker *worker) {
    struct gateway *gateway = worker->gateway;
    struct gw_directories *directories = &gateway->directories;
    pthread_mutex_lock(&directories->mutex);
    struct directory *directory =
        directories->newest != NULL ? directory_ref(directories->newest) : NULL;
    uint64_t number = directories->number;
    pthread_mutex_unlock(&directories->mutex);
    worker->edit_epoch = atomic_load(&gateway->edit.epoch);
    directory_unref(worker->directory);
    worker->directory = directory;
    worker->directory_number = number;
}

static void answer_refresh(struct gateway_refresh *refresh) {
    refresh->message.deliver = refresh->done;
    if (refresh->loop != NULL)
        io_loop_post(refresh->loop, &refresh->message);
    else
        refresh->done(&refresh->message);
}

static void tell_refreshed(struct gateway *gateway) {
    struct gw_directories *directories = &gateway->directories;
    uint64_t seen = UINT64_MAX;
    for (size_t i = 0; i < gateway->n_workers; i++) {
        uint64_t number = atomic_load(&gateway->workers[i].directory_seen);
        seen = number < seen ? number : seen;
    }
    LIST_FOREACH_SAFE (&directories->refreshes, link, tmp) {
        struct gateway_refresh *refresh = CONTAINER_OF(link, struct gateway_refresh, link);
        if (refresh->number == 0 || refresh->number > seen ||
            refresh->reload > gateway->directories.n_reloaded)
            continue;
        list_remove(link);
        answer_refresh(refresh);
    }
}

static void deliver_seen(struct io_message *message) {
    struct gateway *gateway = CONTAINER_OF(message, struct gateway, directories.seen_message);
    atomic_store(&gateway->directories.seen_posted, false);
    tell_refreshed(gateway);
}

static void deliver_directory(struct io_message *message) {
    struct gw_worker *worker = CONTAINER_OF(message, struct gw_worker, directory_message);
    struct gw_directories *directories = &worker->gateway->directories;
    atomic_store(&worker->directory_posted, false);
    adopt(worker);
    gw_end_stale_streams(worker);
    atomic_store(&worker->directory_seen, worker->directory_number);
    if (!atomic_exchange(&directories->seen_posted, true))
        io_loop_post(worker->gateway->loops[0], &directories->seen_message);
}

void gw_directory_spread(struct gateway *gateway) {
    for (size_t i = 0; i < gateway->n_workers; i++) {
        struct gw_worker *worker = &gateway->workers[i];
        worker->directory_message.deliver = deliver_directory;
        if (!gateway->is_running)
            adopt(worker);
        else if (!atomic_exchange(&worker->directory_posted, true))
            io_loop_post(worker->loop, &worker->directory_message);
    }
}

/* --- upstreams --- */

/* One state is tried once: when the file has errors, or the state is gone again, so be it. */
static void look_at_upstreams(struct gateway *gateway) {
    struct gw_directories *directories = &gateway->directories;
    struct slice mark = buf_slice(&directories->mark);
    if (directories->on_upstreams == NULL || gateway->is_stopping ||
        slice_eq(mark, gateway->config->stored_mark) ||
        (directories->n_reloads != 0 && slice_eq(mark, buf_slice(&directories->tried_mark))))
        return;
    buf_reset(&directories->tried_mark, KIB(64));
    buf_append(&directories->tried_mark, mark);
    directories->n_reloads++;
    directories->on_upstreams(directories->upstreams_context);
}

void gateway_on_upstreams(struct gateway *gateway, void (*fn)(void *context), void *context) {
    gateway->directories.on_upstreams = fn;
    gateway->directories.upstreams_context = context;
    look_at_upstreams(gateway);
}

void gateway_upstreams_done(struct gateway *gateway) {
    gateway->directories.n_reloaded++;
    tell_refreshed(gateway);
}

/* --- taking --- */

/* On worker 0, or before the workers run. */
static void take(struct gateway *gateway, struct gw_loading *loading) {
    struct gw_directories *directories = &gateway->directories;
    pthread_mutex_lock(&directories->mutex);
    struct directory *old = directories->newest;
    directories->newest = TAKE(loading->directory);
    directories->number++;
    pthread_mutex_unlock(&directories->mutex);
    directory_unref(old);
    gw_edit_take(gateway, &loading->windows);
    if (loading->has_notes)
        gw_notes_found(gateway);
    buf_deinit(&directories->mark);
    directories->mark = loading->mark;
    loading->mark = BUF_INIT(0);
    look_at_upstreams(gateway);
    LIST_FOREACH_SAFE (&directories->refreshes, link, tmp) {
        struct gateway_refresh *refresh = CONTAINER_OF(link, struct gateway_refresh, link);
        if (refresh->number != 0 || refresh->asked > loading->number)
            continue;
        refresh->number = directories->number;
        refresh->reload = directories->n_reloads;
    }
}

static void begin(struct gateway *gateway);

static void deliver_loaded(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    struct gw_loading *loading = CONTAINER_OF(job, struct gw_loading, job);
    struct gateway *gateway = loading->gateway;
    struct gw_directories *directories = &gateway->directories;
    bool is_fine = job->result == 0;
    directories->loading = NULL;
    if (is_fine && !loading->is_abandoned) {
        take(gateway, loading);
        gw_directory_spread(gateway);
    }
    free_loaded(loading);
    bool is_abandoned = loading->is_abandoned;
    mem_free(loading);
    if (is_abandoned)
        return;
    if (is_fine != directories->is_fine)
        log_write(gateway->log, is_fine ? LOG_INFO : LOG_ERROR, "store",
                  is_fine ? "users and edit mode are read from the store again"
                          : "users and edit mode cannot be read from the store: edit mode is off "
                            "until it answers");
    directories->is_fine = is_fine;
    if (!is_fine)
        io_timer_start(directories->timer, RETRY_MS);
    else if (directories->is_wanted)
        begin(gateway);
}

static void begin(struct gateway *gateway) {
    struct gw_directories *directories = &gateway->directories;
    struct gw_loading *loading = mem_alloc(sizeof *loading);
    directories->is_wanted = false;
    if (loading == NULL) {
        io_timer_start(directories->timer, RETRY_MS);
        return;
    }
    loading->gateway = gateway;
    buf_init(&loading->mark, KIB(64));
    loading->number = directories->n_asked;
    loading->job = (struct store_job){.message.deliver = deliver_loaded,
                                      .loop = gateway->loops[0],
                                      .kind = STORE_READ,
                                      .work = load,
                                      .context = loading};
    directories->loading = loading;
    store_submit(gateway->store, &loading->job);
}

static void want(struct gateway *gateway) {
    gateway->directories.is_wanted = true;
    if (gateway->directories.loading == NULL && !gateway->is_stopping)
        begin(gateway);
}

static void on_timer(void *context) {
    want(context);
}

static void on_changed(void *context, uint64_t number) {
    (void)number;
    want(context);
}

static void deliver_refresh(struct io_message *message) {
    struct gateway_refresh *refresh = CONTAINER_OF(message, struct gateway_refresh, message);
    struct gateway *gateway = refresh->gateway;
    struct gw_directories *directories = &gateway->directories;
    if (gateway->store == NULL || gateway->is_stopping) {
        answer_refresh(refresh);
        return;
    }
    refresh->number = 0;
    refresh->asked = ++directories->n_asked;
    list_push_back(&directories->refreshes, &refresh->link);
    want(gateway);
}

void gateway_refresh(struct gateway *gateway, struct gateway_refresh *refresh) {
    refresh->gateway = gateway;
    refresh->message.deliver = deliver_refresh;
    io_loop_post(gateway->loops[0], &refresh->message);
}

/* --- what was used --- */

static int note(struct store_tx *tx, void *context) {
    struct gw_noting *noting = context;
    return accounts_note_uses(tx, noting->uses, noting->n);
}

static void deliver_noted(struct io_message *message) {
    struct store_job *job = CONTAINER_OF(message, struct store_job, message);
    struct gw_noting *noting = CONTAINER_OF(job, struct gw_noting, job);
    noting->gateway->directories.noting = NULL;
    mem_free(noting);
}

void gw_directory_note_use(struct gw_worker *worker, struct gw_caller *caller) {
    uint64_t now = io_loop_now(worker->loop);
    struct gw_directories *directories = &worker->gateway->directories;
    const struct auth_identity *identity = caller->identity;
    if (identity->kind != AUTH_USER ||
        (caller->used_ms != 0 && now - caller->used_ms < USE_EVERY_MS))
        return;
    caller->used_ms = now;
    pthread_mutex_lock(&directories->mutex);
    size_t i = 0;
    while (i < directories->n_uses &&
           !slice_eq(slice_from_cstr(directories->uses[i].id), identity->token_id))
        i++;
    if (i < MOST_USES && directories->uses != NULL) {
        struct accounts_use *use = &directories->uses[i];
        if (slice_to_cstr(identity->token_id, use->id, sizeof use->id) == 0) {
            use->used_ms = directory_now_ms(worker->directory, clock_boot_ms());
            directories->n_uses += i == directories->n_uses;
        }
    }
    pthread_mutex_unlock(&directories->mutex);
}

void gw_directory_tick(struct gateway *gateway) {
    struct gw_directories *directories = &gateway->directories;
    if (gateway->store == NULL || directories->noting != NULL)
        return;
    pthread_mutex_lock(&directories->mutex);
    size_t n = directories->n_uses;
    struct gw_noting *noting =
        n != 0 ? mem_alloc(sizeof *noting + n * sizeof noting->uses[0]) : NULL;
    if (noting != NULL) {
        memcpy(noting->uses, directories->uses, n * sizeof noting->uses[0]);
        directories->n_uses = 0;
    }
    pthread_mutex_unlock(&directories->mutex);
    if (noting == NULL)
        return;
    noting->n = n;
    noting->gateway = gateway;
    noting->job = (struct store_job){.message.deliver = deliver_noted,
                                     .loop = gateway->loops[0],
                                     .kind = STORE_NOTE,
                                     .work = note,
                                     .context = noting};
    directories->noting = noting;
    store_submit(gateway->store, &noting->job);
}

/* --- for requests --- */

bool gw_directory_is_silent(const struct gateway *gateway, uint64_t for_ms) {
    if (gateway->store == NULL)
        return false;
    uint64_t now = clock_boot_ms(), heard = store_heard_ms(gateway->store);
    return now > heard && now - heard > for_ms;
}

/* --- beginning and end --- */

int gateway_use_store(struct gateway *gateway, struct store *store) {
    struct gw_directories *directories = &gateway->directories;
    struct gw_loading first = {.gateway = gateway, .mark = BUF_INIT(KIB(64))};
    gateway->store = store;
    directories->timer = io_timer_new(gateway->loops[0], on_timer, gateway);
    directories->seen_message.deliver = deliver_seen;
    directories->is_fine = true;
    directories->uses = mem_alloc(MOST_USES * sizeof *directories->uses);
    if (directories->uses == NULL)
        return -ENOMEM;
    int error = store_run(gateway->store, STORE_READ, load, &first);
    if (error == 0) {
        take(gateway, &first);
        gw_directory_spread(gateway);
        error = store_watch(gateway->store, gateway->loops[0], on_changed, gateway);
    }
    free_loaded(&first);
    return error;
}

/* On worker 0, when it is not going to serve any more. */
void gw_directory_stop(struct gateway *gateway) {
    struct gw_directories *directories = &gateway->directories;
    struct list_link *link;
    if (gateway->store == NULL)
        return;
    store_unwatch(gateway->store);
    if (directories->timer != NULL)
        io_timer_stop(directories->timer);
    if (directories->loading != NULL)
        directories->loading->is_abandoned = true;
    while ((link = list_pop_front(&directories->refreshes)) != NULL) {
        answer_refresh(CONTAINER_OF(link, struct gateway_refresh, link));
    }
}

void gw_directory_init(struct gateway *gateway) {
    pthread_mutex_init(&gateway->directories.mutex, NULL);
    list_init(&gateway->directories.refreshes);
    buf_init(&gateway->directories.tried_mark, KIB(64));
}

void gw_directory_free(struct gateway *gateway) {
    struct gw_directories *directories = &gateway->directories;
    for (size_t i = 0; i < gateway->n_workers; i++)
        gateway->workers[i].directory = directory_unref(gateway->workers[i].directory);
    io_timer_free(directories->timer);
    directories->newest = directory_unref(directories->newest);
    /* The store is closed: its last messages lie in the mailbox of worker 0, which delivers them
     * when its loop is freed. */
    if (directories->loading != NULL)
        directories->loading->is_abandoned = true;
    buf_deinit(&directories->mark);
    buf_deinit(&directories->tried_mark);
    mem_free(directories->uses);
    pthread_mutex_destroy(&directories->mutex);
}
