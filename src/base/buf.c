#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/mem.h"

enum { FIRST_CAPACITY = 256 };

void buf_init(struct buf *buf, size_t max) {
    *buf = BUF_INIT(max);
}

void buf_init_held(struct buf *buf, size_t max, struct budget *budget) {
    *buf = (struct buf){.max = max, .budget = budget};
}

void buf_deinit(struct buf *buf) {
    if (buf == NULL)
        return;
    mem_free(buf->data);
    budget_give_back(buf->budget, buf->cap);
    buf_init_held(buf, buf->max, buf->budget);
}

void buf_reset(struct buf *buf, size_t keep) {
    if (buf->cap > keep) {
        mem_free(buf->data);
        budget_give_back(buf->budget, buf->cap);
        buf->data = NULL;
        buf->cap = 0;
    }
    buf->start = buf->end = 0;
    buf->error = 0;
}

static int fail(struct buf *buf, int error) {
    buf->error = error;
    return error;
}

/* Twice the old capacity, at least what is needed, at most what the maximum can ever ask for. */
static size_t grown_capacity(const struct buf *buf, size_t needed) {
    size_t doubled = buf->cap <= SIZE_MAX / 2 ? buf->cap * 2 : needed;
    size_t wanted = size_max(size_max(doubled, needed), FIRST_CAPACITY);
    return size_max(size_min(wanted, buf->max), needed);
}

char *buf_reserve(struct buf *buf, size_t n) {
    size_t len = buf_len(buf), needed;
    if (buf->error != 0)
        return NULL;
    if (size_add_overflows(len, n, &needed) || needed > buf->max) {
        fail(buf, -E2BIG);
        return NULL;
    }
    if (buf->cap - buf->end >= n && buf->data != NULL)
        return buf->data + buf->end;
    if (buf->start != 0 && buf->data != NULL) {
        memmove(buf->data, buf->data + buf->start, len);
        buf->start = 0;
        buf->end = len;
    }
    if (buf->cap < needed || buf->data == NULL) {
        size_t cap = grown_capacity(buf, needed);
        char *data = mem_realloc(buf->data, cap);
        if (data == NULL) {
            fail(buf, -ENOMEM);
            return NULL;
        }
        budget_add(buf->budget, cap - buf->cap);
        buf->data = data;
        buf->cap = cap;
    }
    return buf->data + buf->end;
}

void buf_commit(struct buf *buf, size_t n) {
    assert(n <= buf->cap - buf->end);
    buf->end += n;
}

int buf_append_growing(struct buf *buf, struct slice bytes) {
    char *room = buf_reserve(buf, bytes.len);
    if (room == NULL)
        return buf->error;
    if (bytes.len != 0)
        memcpy(room, bytes.ptr, bytes.len);
    buf->end += bytes.len;
    return 0;
}

int buf_append_cstr(struct buf *buf, const char *string) {
    return buf_append(buf, slice_from_cstr(string));
}

int buf_append_u64(struct buf *buf, uint64_t number) {
    char digits[SLICE_U64];
    return buf_append(buf, slice_of_u64(number, digits));
}

int buf_vprintf(struct buf *buf, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    char *room = len >= 0 ? buf_reserve(buf, (size_t)len + 1) : NULL;
    if (room != NULL) {
        vsnprintf(room, (size_t)len + 1, format, again);
        buf->end += (size_t)len;
    } else if (len < 0) {
        fail(buf, -EINVAL);
    }
    va_end(again);
    return buf->error;
}

int buf_printf(struct buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int error = buf_vprintf(buf, format, args);
    va_end(args);
    return error;
}

void buf_consume(struct buf *buf, size_t n) {
    buf->start += size_min(n, buf_len(buf));
    if (buf->start == buf->end)
        buf->start = buf->end = 0;
}

void buf_truncate(struct buf *buf, size_t n) {
    if (n < buf_len(buf))
        buf->end = buf->start + n;
}

char *buf_take(struct buf *buf, size_t *ret_len) {
    size_t len = buf_len(buf), size;
    if (buf->error != 0 || len == 0 || size_add_overflows(len, 1, &size))
        return NULL;
    if (buf->start != 0)
        memmove(buf->data, buf->data + buf->start, len);
    char *data = mem_realloc(buf->data, size);
    if (data == NULL) {
        buf->start = 0;
        buf->end = len;
        return NULL;
    }
    data[len] = '\0';
    *ret_len = len;
    budget_give_back(buf->budget, buf->cap);
    buf_init_held(buf, buf->max, buf->budget);
    return data;
}
