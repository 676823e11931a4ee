/* Threads for what blocks: hashing a password, looking through the trail. */
#include <errno.h>

#include "base/mem.h"
#include "private.h"

enum { MOST_THREADS = 4 };

struct crew {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct list waiting; /* of struct crew_task */
    size_t n_waiting, max_waiting;
    bool is_stopping;
    pthread_t threads[MOST_THREADS];
    size_t n_threads;
};

static void *run(void *context) {
    struct crew *crew = context;
    pthread_mutex_lock(&crew->mutex);
    for (;;) {
        struct list_link *link = list_pop_front(&crew->waiting);
        if (link == NULL && crew->is_stopping)
            break;
        if (link == NULL) {
            pthread_cond_wait(&crew->changed, &crew->mutex);
            continue;
        }
        struct crew_task *task = CONTAINER_OF(link, struct crew_task, link);
        crew->n_waiting--;
        pthread_mutex_unlock(&crew->mutex);
        task->run(task);
        io_loop_post(task->loop, &task->message);
        pthread_mutex_lock(&crew->mutex);
    }
    pthread_mutex_unlock(&crew->mutex);
    return NULL;
}

int crew_new(size_t n_threads, size_t max_waiting, struct crew **ret_crew) {
    struct crew *crew = mem_xalloc(sizeof *crew);
    int error = 0;
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->changed, NULL);
    list_init(&crew->waiting);
    crew->max_waiting = max_waiting;
    while (error == 0 && crew->n_threads < n_threads && crew->n_threads < MOST_THREADS) {
        error = -pthread_create(&crew->threads[crew->n_threads], NULL, run, crew);
        crew->n_threads += error == 0;
    }
    if (error != 0) {
        crew_free(crew);
        return error;
    }
    *ret_crew = crew;
    return 0;
}

bool crew_submit(struct crew *crew, struct crew_task *task) {
    pthread_mutex_lock(&crew->mutex);
    bool is_taken = !crew->is_stopping && crew->n_waiting < crew->max_waiting;
    if (is_taken) {
        list_push_back(&crew->waiting, &task->link);
        crew->n_waiting++;
        pthread_cond_signal(&crew->changed);
    }
    pthread_mutex_unlock(&crew->mutex);
    return is_taken;
}

struct crew *crew_free(struct crew *crew) {
    if (crew == NULL)
        return NULL;
    pthread_mutex_lock(&crew->mutex);
    crew->is_stopping = true;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->mutex);
    for (size_t i = 0; i < crew->n_threads; i++)
        pthread_join(crew->threads[i], NULL);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->mutex);
    mem_free(crew);
    return NULL;
}
