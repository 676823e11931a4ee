#include "children.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/map.h"
#include "base/mem.h"

enum { N_SPAWNERS = 2 };

struct children {
    struct spawner *spawners[N_SPAWNERS]; /* plain, isolated */
    struct io_watch *watches[N_SPAWNERS];
    void (*on_lost)(void *context);
    void *context;
    pthread_mutex_t mutex; /* guards what follows: workers spawn, one loop hears of it */
    struct map by_id;      /* to struct child */
    uint64_t last_id;
};

/* Belongs to the registry; found again by its id, never by pointer, so an event may come late. */
struct child {
    struct io_loop *loop;
    child_event_fn *fn;
    void *context;
};

struct child_event {
    struct io_message message;
    struct children *children;
    uint64_t id;
    enum spawner_event_kind kind;
    char reason[96];
};

static struct slice id_key(const uint64_t *id) {
    return slice_make(id, sizeof *id);
}

static void deliver(struct io_message *message) {
    struct child_event *event = CONTAINER_OF(message, struct child_event, message);
    struct children *children = event->children;
    pthread_mutex_lock(&children->mutex);
    struct child *found = map_get(&children->by_id, id_key(&event->id));
    struct child child = found != NULL ? *found : (struct child){0};
    pthread_mutex_unlock(&children->mutex);
    /* Only the child's own loop removes it, and this is that loop: it cannot go in between. */
    if (found != NULL)
        child.fn(child.context, event->kind, slice_from_cstr(event->reason));
    mem_free(event);
}

static void describe(const struct spawner_event *event, char *out, size_t size) {
    out[0] = '\0';
    if (event->kind == SPAWNER_FAILED)
        snprintf(out, size, "cannot %s: %s", event->stage, strerror(event->error));
    else if (event->kind == SPAWNER_EXITED && WIFSIGNALED(event->status))
        snprintf(out, size, "ended by signal %d (%s)", WTERMSIG(event->status),
                 strsignal(WTERMSIG(event->status)));
    else if (event->kind == SPAWNER_EXITED)
        snprintf(out, size, "exited with status %d", WEXITSTATUS(event->status));
}

static void pass_on(struct children *children, const struct spawner_event *event) {
    pthread_mutex_lock(&children->mutex);
    struct child *child = map_get(&children->by_id, id_key(&event->id));
    struct io_loop *loop = child != NULL ? child->loop : NULL;
    pthread_mutex_unlock(&children->mutex);
    if (loop == NULL)
        return;
    struct child_event *copy = mem_xalloc(sizeof *copy);
    copy->message.deliver = deliver;
    copy->children = children;
    copy->id = event->id;
    copy->kind = event->kind;
    describe(event, copy->reason, sizeof copy->reason);
    io_loop_post(loop, &copy->message);
}

static void on_readable(struct children *children, size_t index) {
    struct spawner_event event;
    int error;
    while ((error = spawner_receive(children->spawners[index], &event)) == 0)
        pass_on(children, &event);
    if (error == -EAGAIN)
        return;
    children->watches[index] = io_watch_free(children->watches[index]);
    children->on_lost(children->context);
}

static void on_plain(void *context) {
    on_readable(context, 0);
}

static void on_isolated(void *context) {
    on_readable(context, 1);
}

int children_new(struct io_loop *loop, struct spawner *isolated, struct spawner *plain,
                 void (*on_lost)(void *context), void *context, struct children **ret_children) {
    struct children *children = mem_xalloc(sizeof *children);
    children->spawners[0] = plain;
    children->spawners[1] = isolated;
    children->on_lost = on_lost;
    children->context = context;
    pthread_mutex_init(&children->mutex, NULL);
    map_init(&children->by_id);
    static io_watch_fn *const fns[N_SPAWNERS] = {on_plain, on_isolated};
    int error = 0;
    for (size_t i = 0; i < N_SPAWNERS && error == 0; i++) {
        if (children->spawners[i] != NULL)
            error = io_watch_new(loop, spawner_fd(children->spawners[i]), fns[i], children,
                                 &children->watches[i]);
    }
    if (error != 0) {
        children_free(children);
        return error;
    }
    *ret_children = children;
    return 0;
}

struct children *children_free(struct children *children) {
    if (children == NULL)
        return NULL;
    for (size_t i = 0; i < N_SPAWNERS; i++)
        io_watch_free(children->watches[i]);
    size_t cursor = 0;
    void *child = NULL;
    while (map_next(&children->by_id, &cursor, NULL, &child))
        mem_free(child);
    map_deinit(&children->by_id);
    pthread_mutex_destroy(&children->mutex);
    mem_free(children);
    return NULL;
}

int children_spawn(struct children *children, bool isolated, struct spawner_command *command,
                   struct io_loop *loop, child_event_fn *fn, void *context, uint64_t *ret_id) {
    struct spawner *spawner = children->spawners[isolated ? 1 : 0];
    if (spawner == NULL)
        return -ENOSYS;
    struct child *child = mem_xalloc(sizeof *child);
    *child = (struct child){.loop = loop, .fn = fn, .context = context};
    pthread_mutex_lock(&children->mutex);
    uint64_t id = ++children->last_id;
    int error = map_set(&children->by_id, id_key(&id), child);
    pthread_mutex_unlock(&children->mutex);
    if (error != 0) {
        mem_free(child);
        return error;
    }
    command->id = id;
    error = spawner_spawn(spawner, command);
    if (error != 0) {
        children_forget(children, id);
        return error;
    }
    *ret_id = id;
    return 0;
}

void children_signal(struct children *children, bool isolated, uint64_t id, int signal) {
    struct spawner *spawner = children->spawners[isolated ? 1 : 0];
    /* A spawner that cannot take it any more is gone, and its children with it. */
    if (spawner != NULL && spawner_signal(spawner, id, signal) != 0)
        return;
}

void children_forget(struct children *children, uint64_t id) {
    pthread_mutex_lock(&children->mutex);
    struct child *child = map_remove(&children->by_id, id_key(&id));
    pthread_mutex_unlock(&children->mutex);
    mem_free(child);
}
