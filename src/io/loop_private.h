/* What the files of io/ share of the loop. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/list.h"
#include "io/loop.h"

enum { IO_READ_CHUNK = 64 * 1024 };

struct io_loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_idle_t idle;
    pthread_mutex_t mutex; /* guards mailbox: other threads post */
    struct list mailbox;
    struct list local; /* posts of the loop to itself */
    pthread_t thread;
    atomic_bool has_thread, stop_wanted;
    char read_chunk[IO_READ_CHUNK]; /* every stream reads into it: bytes are handed on at once */
};
