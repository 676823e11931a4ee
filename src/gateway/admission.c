#include "admission.h"

#include "base/mem.h"

struct admission_flow {
    struct list_link link; /* in admission->fresh or ->served */
    uint64_t number;
    struct list tickets;
};

void admission_init(struct admission *admission, size_t max) {
    *admission = (struct admission){.max = max};
    pthread_mutex_init(&admission->mutex, NULL);
    map_init(&admission->flows);
    list_init(&admission->fresh);
    list_init(&admission->served);
}

void admission_deinit(struct admission *admission) {
    map_deinit(&admission->flows);
    pthread_mutex_destroy(&admission->mutex);
}

static struct slice key_of(const uint64_t *number) {
    return slice_make(number, sizeof *number);
}

/* The rest with the lock held. */

static struct admission_flow *open_flow(struct admission *admission, uint64_t number) {
    struct admission_flow *flow = map_get(&admission->flows, key_of(&number));
    if (flow != NULL)
        return flow;
    flow = mem_xalloc(sizeof *flow);
    flow->number = number;
    list_init(&flow->tickets);
    list_push_back(&admission->fresh, &flow->link);
    if (map_set(&admission->flows, key_of(&number), flow) != 0)
        mem_exhausted(sizeof *flow);
    return flow;
}

static void take_out(struct admission *admission, struct admission_ticket *ticket) {
    struct admission_flow *flow = TAKE(ticket->flow);
    list_remove(&ticket->link);
    admission->n_waiting--;
    if (!list_is_empty(&flow->tickets))
        return;
    list_remove(&flow->link);
    map_remove(&admission->flows, key_of(&flow->number));
    mem_free(flow);
}

/* The next in turn; somebody waits. */
static struct admission_ticket *choose(struct admission *admission) {
    bool is_fresh = !list_is_empty(&admission->fresh) &&
                    (list_is_empty(&admission->served) || !admission->was_fresh);
    struct list_link *link = list_pop_front(is_fresh ? &admission->fresh : &admission->served);
    struct admission_flow *flow = CONTAINER_OF(link, struct admission_flow, link);
    struct admission_ticket *ticket =
        CONTAINER_OF(list_first(&flow->tickets), struct admission_ticket, link);
    admission->was_fresh = is_fresh;
    list_push_back(&admission->served, &flow->link);
    take_out(admission, ticket);
    return ticket;
}

bool admission_wait(struct admission *admission, struct admission_ticket *ticket, uint64_t flow) {
    pthread_mutex_lock(&admission->mutex);
    /* Somebody left between our entering and now, and found nobody to give its slot to. */
    bool runs = admission->owed > 0; /* nobody waits then */
    if (runs) {
        admission->owed--;
    } else {
        ticket->flow = open_flow(admission, flow);
        list_push_back(&ticket->flow->tickets, &ticket->link);
        admission->n_waiting++;
    }
    pthread_mutex_unlock(&admission->mutex);
    return runs;
}

struct admission_ticket *admission_next(struct admission *admission) {
    struct admission_ticket *ticket = NULL;
    pthread_mutex_lock(&admission->mutex);
    /* What was owed before is either nothing or owed to nobody who is here already. */
    if (admission->owed >= 0 && admission->n_waiting != 0)
        ticket = choose(admission);
    else
        admission->owed++;
    pthread_mutex_unlock(&admission->mutex);
    return ticket;
}

bool admission_give_up(struct admission *admission, struct admission_ticket *ticket) {
    pthread_mutex_lock(&admission->mutex);
    bool waited = ticket->flow != NULL;
    if (waited) {
        take_out(admission, ticket);
        /* Who left counted on it: the slot that it owes goes to nobody. */
        if (atomic_fetch_sub(&admission->count, 1) <= admission->max)
            admission->owed--;
    }
    pthread_mutex_unlock(&admission->mutex);
    return waited;
}
