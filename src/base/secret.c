#include "base/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/checked.h"
#include "base/mem.h"

struct secret {
    size_t mapped; /* whole mapping, this header included */
    size_t len;
    char bytes[];
};

int secret_new(struct slice bytes, struct secret **ret_secret) {
    size_t size;
    if (size_add_overflows(sizeof(struct secret), bytes.len, &size))
        return -ENOMEM;
    /* A mapping of its own: locked and left out of core dumps without touching anything else's
     * page. */
    struct secret *secret =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (secret == MAP_FAILED)
        return -ENOMEM;
    /* All are best effort: RLIMIT_MEMLOCK may be small. A child that is no program of its own yet,
     * or a spawner, which never is, has no use for secrets: it sees zeros. */
    (void)mlock(secret, size);
    (void)madvise(secret, size, MADV_DONTDUMP);
    (void)madvise(secret, size, MADV_WIPEONFORK);
    secret->mapped = size;
    secret->len = bytes.len;
    if (bytes.len != 0)
        memcpy(secret->bytes, bytes.ptr, bytes.len);
    *ret_secret = secret;
    return 0;
}

struct secret *secret_free(struct secret *secret) {
    if (secret != NULL) {
        size_t mapped = secret->mapped;
        secret_wipe(secret, mapped);
        munmap(secret, mapped);
    }
    return NULL;
}

void secret_freep(struct secret **secret) {
    *secret = secret_free(*secret);
}

bool secret_equals(const struct secret *secret, struct slice bytes) {
    if (secret->len != bytes.len)
        return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < bytes.len; i++)
        difference |= (unsigned char)(secret->bytes[i] ^ bytes.ptr[i]);
    return difference == 0;
}

struct slice secret_reveal(const struct secret *secret) {
    return slice_make(secret->bytes, secret->len);
}

void secret_wipe(void *ptr, size_t len) {
    explicit_bzero(ptr, len);
}

void secret_buf_deinit(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
}
