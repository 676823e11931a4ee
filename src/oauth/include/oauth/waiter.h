/* The private part of those who wait for something of oauth/, from any thread (wait.c). */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/list.h"
#include "io/loop.h"

struct oauth_waiter {
    struct io_loop *loop; /* where it hears of it */
    struct io_message *message;
    struct list_link link;
    uint64_t deadline_ms;
    atomic_int state;
};
