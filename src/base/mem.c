#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void *mem_alloc(size_t size) {
    if (allocation_fails())
        return NULL;
    return calloc(1, size != 0 ? size : 1);
}

void *mem_realloc(void *ptr, size_t size) {
    if (allocation_fails())
        return NULL;
    return realloc(ptr, size != 0 ? size : 1);
}

void mem_free(void *ptr) {
    free(ptr);
}

NO_RETURN void mem_exhausted(size_t size) {
    fprintf(stderr, "cardea: out of memory (%zu bytes)\n", size);
    abort();
}

void *mem_xalloc(size_t size) {
    void *ptr = calloc(1, size != 0 ? size : 1);
    if (ptr == NULL)
        mem_exhausted(size);
    return ptr;
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
