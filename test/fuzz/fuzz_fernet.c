/*
 * What must hold for any text as a Fernet token: without the key nothing opens, and the buffer
 * stays as it was; what is sealed opens again, whole, and not under another key. The first byte
 * says whether the rest is a token or a secret. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/limits.h"
#include "vault/vault.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static const unsigned char key[FERNET_KEY] = {1, 2, 3}, other[FERNET_KEY] = {1, 2, 4};

static void open_anything(struct slice token) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    uint64_t time_s = 7;
    MUST(fernet_open(other, token, &time_s, &out) == FERNET_E_TOKEN);
    MUST(buf_len(&out) == 0 && time_s == 7);
    unsigned char read[FERNET_KEY] = {9};
    if (fernet_key_read(token, read) != 0)
        MUST(read[0] == 9);
}

static void seal_anything(struct slice plain) {
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(MIB(64));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(64));
    MUST(fernet_seal(key, plain.len, NULL, plain, &token) == 0);
    MUST(fernet_open(other, buf_slice(&token), NULL, &out) == FERNET_E_TOKEN);
    uint64_t time_s = 0;
    MUST(fernet_open(key, buf_slice(&token), &time_s, &out) == 0);
    MUST(time_s == plain.len && slice_eq(buf_slice(&out), plain));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    struct slice rest = slice_make(data + 1, size - 1);
    if (data[0] == 's')
        seal_anything(rest);
    else
        open_anything(rest);
    return 0;
}
