/*
 * The one allocator. Two families, by who chose the size:
 *
 * mem_alloc() and mem_realloc() may fail, and floor 0 and the protocol modules use nothing
 * else, and neither does whatever a peer sizes. The tests run all of that with the n-th allocation
 * failing (mem_fail_after).
 *
 * mem_xalloc() is for the small, fixed objects of io/ and the floors above: it does not return
 * without memory but ends the process, because a half-built gateway is worse than a restarted one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* Zeroed memory, or NULL. A size of 0 gives a unique pointer. */
MUST_CHECK void *mem_alloc(size_t size);
/* As realloc(3); the grown part is not zeroed. On failure the old block stays valid and NULL is
 * returned. */
MUST_CHECK void *mem_realloc(void *ptr, size_t size);
void mem_free(void *ptr);

/* Zeroed memory; ends the process when there is none. */
void *mem_xalloc(size_t size);
/* A NUL-terminated copy; ends the process when there is no memory. */
char *mem_xstrdup(const char *string);

/* Ends the process as mem_xalloc() does. */
NO_RETURN void mem_exhausted(size_t size);

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
