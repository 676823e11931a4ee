/*
 * Those who wait, from any thread. A waiter is in a list that a mutex guards from its entry until
 * it is told, or gives up; who of the two comes first is decided by one atomic exchange of its
 * state, because the waiter's memory may go right after it was told, and what it waits for right
 * after it has told everybody:
 *
 *   WAITING -> TOLD       by the one who tells, with the mutex held, who unlinks and posts it
 *   WAITING -> CANCELLED  by the waiter, who then takes the mutex and unlinks it. It stays in the
 *                         list meanwhile; whoever frees the mutex waits until it has left
 */
#pragma once

#include <stdbool.h>

#include "oauth/waiter.h"

/* With the mutex held. All of one list have the same patience: so they are in the order of their
 * deadlines. */
void oauth_waiter_enter(struct oauth_waiter *waiter, struct list *list, struct io_loop *loop,
                        struct io_message *message, uint64_t deadline_ms);
/* With the mutex held. True: it is the caller's, out of the list, and to be posted. */
bool oauth_waiter_take(struct oauth_waiter *waiter);
/* With the mutex held. False: it has given up. */
bool oauth_waiter_is_waiting(const struct oauth_waiter *waiter);
/* Afterwards it is not to be touched. */
void oauth_waiter_post(struct oauth_waiter *waiter);
/* By the waiter, without the mutex. True: it will not be posted, and has to leave the list
 * (list_remove() of its link, with the mutex held). */
bool oauth_waiter_give_up(struct oauth_waiter *waiter);
/* UINT64_MAX: nobody waits. */
uint64_t oauth_waiters_deadline(const struct list *list);
