/*
 * The one allocator. Two families, by who chose the size:
 *
 * mem_alloc() and mem_realloc() may fail, and floor 0 and the protocol modules use nothing
 * else, and neither does whatever a peer sizes. The tests run all of that with the n-th allocation
 * failing (mem_fail_after).
 *
 * mem_xalloc() is for the small, fixed objects of io/ and the floors above: it does not return
 * without memory but ends the process, because a half-built gateway is worse than a restarted one.
 *
 * That end is kept away by a reserve: a thread that serves keeps some memory back
 * (mem_reserve_open) for what is small, whichever family asks. So what is big fails first, an error
 * can still be told, and what is half done comes to an end. From the moment on in which the reserve
 * was needed, mem_is_short() says so, and whoever lets new work in has to refuse it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* Zeroed memory, or NULL. A size of 0 gives a unique pointer. */
MUST_CHECK void *mem_alloc(size_t size);
/* As realloc(3); the grown part is not zeroed. On failure the old block stays valid and NULL is
 * returned. */
MUST_CHECK void *mem_realloc(void *ptr, size_t size);
void mem_free(void *ptr);
/* What is free goes back to the system, where the allocator can say so. Takes milliseconds. */
void mem_trim(void);

/* Zeroed memory; ends the process when there is none. */
void *mem_xalloc(size_t size);
/* As mem_realloc(), but ends the process when there is no memory. */
void *mem_xrealloc(void *ptr, size_t size);
/* A NUL-terminated copy; ends the process when there is no memory. */
char *mem_xstrdup(const char *string);

/* Ends the process as mem_xalloc() does. */
NO_RETURN void mem_exhausted(size_t size);

/* Of this thread, once; mem_reserve_close() at its end. Without memory for it, it is short already.
 */
void mem_reserve_open(void);
void mem_reserve_close(void);
/* This thread had to take its reserve. Tries to put it back: false as soon as that is possible. */
bool mem_is_short(void);

/* For CLEANUP(): frees what the pointer at *ptr owns. */
void mem_freep(void *ptr);

/*
 * Test support: the n-th allocation from now on in this thread fails, and so does each one after
 * it. 0 switches it off. Compiled in always, so that what is tested is what is shipped; one
 * thread-local load per allocation.
 */
void mem_fail_after(uint64_t n);
/* How many allocations this thread has asked for since mem_fail_after() was last called. */
uint64_t mem_alloc_count(void);
