/*
 * A byte buffer that grows up to a maximum set at birth (limits.h). Appending past it fails with
 * -E2BIG, lack of memory with -ENOMEM; after a failure the buffer refuses everything until
 * buf_reset(), so a row of appends may be checked once, at its end, by buf_error().
 *
 * Consuming from the front is cheap: bytes are moved only when room is needed.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/budget.h"
#include "base/compiler.h"
#include "base/slice.h"

struct buf {
    char *data;   /* owned, NULL until the first byte */
    size_t start; /* first byte that is not consumed */
    size_t end;   /* one past the last byte */
    size_t cap;
    size_t max;            /* of end - start */
    int error;             /* sticky: 0, -E2BIG or -ENOMEM */
    struct budget *budget; /* counts its memory; NULL: nobody does */
};

#define BUF_INIT(maximum) ((struct buf){.max = (maximum)})

void buf_init(struct buf *buf, size_t max);
/* The memory counts for `budget`, which outlives the buffer, as long as it has any. */
void buf_init_held(struct buf *buf, size_t max, struct budget *budget);
/* Frees the memory; the buffer is empty and usable again afterwards. Accepts NULL. */
void buf_deinit(struct buf *buf);
/* Empties and clears the error; keeps memory up to `keep` bytes, gives more back. */
void buf_reset(struct buf *buf, size_t keep);

static inline size_t buf_len(const struct buf *buf) {
    return buf->end - buf->start;
}

static inline struct slice buf_slice(const struct buf *buf) {
    return slice_make(buf->data != NULL ? buf->data + buf->start : "", buf->end - buf->start);
}

static inline int buf_error(const struct buf *buf) {
    return buf->error;
}

/* Appending: 0 or the sticky error, whose check may be left to buf_error(). */
int buf_append_growing(struct buf *buf, struct slice bytes);
static inline int buf_append(struct buf *buf, struct slice bytes) {
    size_t len = buf->end - buf->start;
    if (UNLIKELY(bytes.len > buf->cap - buf->end || bytes.len > buf->max ||
                 len > buf->max - bytes.len || buf->error != 0 || buf->data == NULL))
        return buf_append_growing(buf, bytes);
    if (bytes.len != 0)
        memcpy(buf->data + buf->end, bytes.ptr, bytes.len);
    buf->end += bytes.len;
    return 0;
}
int buf_append_cstr(struct buf *buf, const char *string);
static inline int buf_append_byte(struct buf *buf, char byte) {
    return buf_append(buf, slice_make(&byte, 1));
}
int buf_append_u64(struct buf *buf, uint64_t number);
int buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
int buf_vprintf(struct buf *buf, const char *format, va_list args) PRINTF_LIKE(2, 0);

/*
 * Room for `n` more bytes behind the end, to be filled by the caller and then declared with
 * buf_commit(). NULL on failure. buf_commit() takes at most what was reserved.
 */
MUST_CHECK char *buf_reserve(struct buf *buf, size_t n);
void buf_commit(struct buf *buf, size_t n);

/* Drops the first n bytes (at most all). */
void buf_consume(struct buf *buf, size_t n);
/* Cuts the content to its first n bytes. */
void buf_truncate(struct buf *buf, size_t n);

/* Hands the memory over as one mem_free()-able block of buf_len() bytes plus a NUL; NULL when empty
 * or failed. */
MUST_CHECK char *buf_take(struct buf *buf, size_t *ret_len);
