#include "base/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/mem.h"
#include "base/secret.h"

/* Many hold little: the first block is small, and each is twice the one before. */
enum { FIRST_SIZE = 512 - 64, BLOCK_SIZE = 4096 - 64, ALIGNMENT = 16 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    ALIGNED(16) unsigned char data[];
};

void arena_init(struct arena *arena, size_t max) {
    *arena = ARENA_INIT(max);
}

static void free_blocks(struct arena_block *block) {
    while (block != NULL) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
}

void arena_deinit(struct arena *arena) {
    if (arena == NULL)
        return;
    free_blocks(arena->head);
    *arena = ARENA_INIT(arena->max);
}

void arena_wipe(struct arena *arena) {
    for (struct arena_block *block = arena->head; block != NULL; block = block->next)
        secret_wipe(block->data, block->size);
}

void arena_reset(struct arena *arena) {
    struct arena_block *kept = arena->head;
    if (kept != NULL && kept->size > BLOCK_SIZE) {
        free_blocks(kept);
        kept = NULL;
    } else if (kept != NULL) {
        free_blocks(kept->next);
        kept->next = NULL;
        kept->used = 0;
    }
    *arena = (struct arena){.head = kept, .max = arena->max};
}

static bool add_block(struct arena *arena, size_t at_least) {
    size_t usual = arena->head == NULL ? FIRST_SIZE : size_min(2 * arena->head->size, BLOCK_SIZE);
    size_t size = size_max(at_least, usual), total;
    if (size_add_overflows(sizeof(struct arena_block), size, &total))
        return false;
    struct arena_block *block = mem_alloc(total);
    if (block == NULL)
        return false;
    block->size = size;
    block->next = arena->head;
    arena->head = block;
    return true;
}

void *arena_alloc(struct arena *arena, size_t size) {
    size_t rounded, used;
    if (arena->failed)
        return NULL;
    if (size_add_overflows(size != 0 ? size : 1, ALIGNMENT - 1, &rounded))
        goto failed;
    rounded &= ~(size_t)(ALIGNMENT - 1);
    if (size_add_overflows(arena->used, rounded, &used) || used > arena->max)
        goto failed;
    if (arena->head == NULL || arena->head->size - arena->head->used < rounded) {
        if (!add_block(arena, rounded))
            goto failed;
    }
    void *ptr = arena->head->data + arena->head->used;
    arena->head->used += rounded;
    arena->used = used;
    memset(ptr, 0, rounded);
    return ptr;

failed:
    arena->failed = true;
    return NULL;
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size) {
    size_t total;
    if (size_mul_overflows(count, size, &total)) {
        arena->failed = true;
        return NULL;
    }
    return arena_alloc(arena, total);
}

struct slice arena_dup(struct arena *arena, struct slice bytes) {
    size_t size;
    char *copy = size_add_overflows(bytes.len, 1, &size) ? NULL : arena_alloc(arena, size);
    if (copy == NULL)
        return slice_make(NULL, 0);
    if (bytes.len != 0)
        memcpy(copy, bytes.ptr, bytes.len);
    copy[bytes.len] = '\0';
    return slice_make(copy, bytes.len);
}

char *arena_cstr(struct arena *arena, struct slice bytes) {
    size_t size;
    if (slice_find_byte(bytes, '\0') != SIZE_MAX || size_add_overflows(bytes.len, 1, &size))
        return NULL;
    char *copy = arena_alloc(arena, size);
    if (copy != NULL && bytes.len != 0)
        memcpy(copy, bytes.ptr, bytes.len);
    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0)
        return NULL;
    char *text = arena_alloc(arena, (size_t)len + 1);
    if (text != NULL) {
        va_start(args, format);
        vsnprintf(text, (size_t)len + 1, format, args);
        va_end(args);
    }
    return text;
}
