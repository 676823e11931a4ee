#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void random_bytes(void *out, size_t len) {
    unsigned char *at = out;
    while (len != 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            perror("cardea: getrandom");
            abort();
        }
        at += n;
        len -= (size_t)n;
    }
}

uint64_t random_u64(void) {
    uint64_t number;
    random_bytes(&number, sizeof number);
    return number;
}

uint64_t random_below(uint64_t bound) {
    /* Numbers past the last whole multiple of bound would favour the small ones. */
    uint64_t cut = UINT64_MAX - UINT64_MAX % bound;
    uint64_t number;
    do {
        number = random_u64();
    } while (number >= cut);
    return number % bound;
}
