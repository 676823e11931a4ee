#include "base/mem.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What the reserve is for is small: structures, timers, an answer that says what is wrong. A
 * request that is in the midst of its way when memory runs out needs a few of these;
 * LIMIT_HTTP_HEADER_BLOCK shows the order of size. libuv's table of descriptors is the biggest
 * thing that must not fail: 8 bytes for each of 32,768.
 */
enum { RESERVE = 1024 * 1024, RESERVED_FOR = 32 * 1024 };

/* Of this thread only: the heap that it goes back to may be the thread's, too. */
static _Thread_local void *reserve;
static _Thread_local bool has_reserve; /* or had: it is to be there */

/* Of this thread only: the tests that set it run a single thread. */
static _Thread_local uint64_t fail_after;
static _Thread_local uint64_t asked;

static bool allocation_fails(void) {
    if (LIKELY(fail_after == 0))
        return false;
    return ++asked >= fail_after;
}

void mem_fail_after(uint64_t n) {
    fail_after = n;
    asked = 0;
}

uint64_t mem_alloc_count(void) {
    return asked;
}

/*
 * Small pieces by malloc(), whose per-thread cache calloc() of glibc does not use; large ones by
 * calloc(), which knows what is zero already.
 */
static void *zeroed(size_t size) {
    enum { SMALL = 1024 };
    if (size > SMALL)
        return calloc(1, size);
    void *ptr = malloc(size != 0 ? size : 1);
    return ptr != NULL ? memset(ptr, 0, size) : NULL;
}

void mem_reserve_open(void) {
    has_reserve = true;
    if (reserve == NULL)
        reserve = malloc(RESERVE); /* not touched: it costs addresses, not pages */
}

void mem_reserve_close(void) {
    has_reserve = false;
    free(reserve);
    reserve = NULL;
}

bool mem_is_short(void) {
    if (LIKELY(reserve != NULL) || !has_reserve)
        return false;
    mem_reserve_open();
    return reserve == NULL;
}

/* True: there may be memory now. */
static bool take_reserve(void) {
    if (reserve == NULL)
        return false;
    free(reserve);
    reserve = NULL;
    return true;
}

void *mem_alloc(size_t size) {
    if (allocation_fails())
        return NULL;
    void *ptr = zeroed(size);
    if (UNLIKELY(ptr == NULL) && size <= RESERVED_FOR && take_reserve())
        ptr = zeroed(size);
    return ptr;
}

void *mem_realloc(void *ptr, size_t size) {
    if (allocation_fails())
        return NULL;
    void *grown = realloc(ptr, size != 0 ? size : 1);
    if (UNLIKELY(grown == NULL) && size <= RESERVED_FOR && take_reserve())
        grown = realloc(ptr, size != 0 ? size : 1);
    return grown;
}

void mem_free(void *ptr) {
    free(ptr);
}

void mem_trim(void) {
#ifdef __GLIBC__
    (void)!malloc_trim(0);
#endif
}

NO_RETURN void mem_exhausted(size_t size) {
    fprintf(stderr, "cardea: out of memory (%zu bytes)\n", size);
    abort();
}

void *mem_xalloc(size_t size) {
    void *ptr = zeroed(size);
    if (UNLIKELY(ptr == NULL) && take_reserve())
        ptr = zeroed(size);
    if (ptr == NULL)
        mem_exhausted(size);
    return ptr;
}

void *mem_xrealloc(void *ptr, size_t size) {
    void *grown = realloc(ptr, size != 0 ? size : 1);
    if (UNLIKELY(grown == NULL) && take_reserve())
        grown = realloc(ptr, size != 0 ? size : 1);
    if (grown == NULL)
        mem_exhausted(size);
    return grown;
}

char *mem_xstrdup(const char *string) {
    size_t size = strlen(string) + 1;
    char *copy = mem_xalloc(size);
    memcpy(copy, string, size);
    return copy;
}

void mem_freep(void *ptr) {
    void *owned = NULL;
    memcpy(&owned, ptr, sizeof owned);
    free(owned);
}
