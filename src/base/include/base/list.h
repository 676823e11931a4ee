/*
 * Intrusive doubly linked list: the link is a member of the object, so linking allocates nothing
 * and cannot fail. An unlinked link has NULL in both directions; list_remove() of such a one does
 * nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

struct list_link {
    struct list_link *prev, *next;
};

/* The head is a link in a ring with its entries. */
struct list {
    struct list_link ring;
};

#define LIST_INIT(list)                                                                            \
    {                                                                                              \
        { &(list).ring, &(list).ring }                                                             \
    }

static inline void list_init(struct list *list) {
    list->ring.prev = list->ring.next = &list->ring;
}

static inline bool list_is_empty(const struct list *list) {
    return list->ring.next == &list->ring;
}

static inline bool list_is_linked(const struct list_link *link) {
    return link->next != NULL;
}

static inline void list_push_back(struct list *list, struct list_link *link) {
    link->prev = list->ring.prev;
    link->next = &list->ring;
    list->ring.prev->next = link;
    list->ring.prev = link;
}

static inline void list_push_front(struct list *list, struct list_link *link) {
    link->next = list->ring.next;
    link->prev = &list->ring;
    list->ring.next->prev = link;
    list->ring.next = link;
}

static inline void list_remove(struct list_link *link) {
    if (link->next == NULL)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

static inline struct list_link *list_first(const struct list *list) {
    return list->ring.next == &list->ring ? NULL : list->ring.next;
}

static inline struct list_link *list_pop_front(struct list *list) {
    struct list_link *link = list_first(list);
    if (link != NULL)
        list_remove(link);
    return link;
}

/* Moves all entries of `from` behind those of `to`. */
static inline void list_splice_back(struct list *to, struct list *from) {
    if (list_is_empty(from))
        return;
    from->ring.next->prev = to->ring.prev;
    to->ring.prev->next = from->ring.next;
    from->ring.prev->next = &to->ring;
    to->ring.prev = from->ring.prev;
    list_init(from);
}

/* Walks the list; the current entry may be removed in the body. */
#define LIST_FOREACH_SAFE(list, link, tmp)                                                         \
    for (struct list_link *link = (list)->ring.next, *tmp = link->next; link != &(list)->ring;     \
         link = tmp, tmp = link->next)
