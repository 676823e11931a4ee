/*
 * Straight to libcrypto's hash, which picks the instructions that the processor has. The way
 * through EVP does the same work in the end, but looks up, allocates and clears so much around it
 * that it costs more than hashing a line of the trail, or an HMAC over the arguments of a usual
 * call. OpenSSL 3 calls these functions deprecated; their replacement is what is measured here to
 * be slower. This is the one file that asks for them.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "sha256.h"

#include "base/secret.h"

void sha256_init(struct sha256 *hash) {
    SHA256_Init(&hash->context); /* cannot fail, like the others */
}

void sha256_update(struct sha256 *hash, struct slice bytes) {
    SHA256_Update(&hash->context, bytes.ptr, bytes.len);
}

void sha256_final(struct sha256 *hash, unsigned char ret_digest[static SHA256_DIGEST_LENGTH]) {
    SHA256_Final(ret_digest, &hash->context);
}

/* One of the two hashes, with its padded key in it (RFC 2104 section 2). */
static void begin_keyed(struct sha256 *hash, const unsigned char key[static SHA256_CBLOCK],
                        unsigned char pad) {
    unsigned char block[SHA256_CBLOCK];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key[i] ^ pad;
    sha256_init(hash);
    sha256_update(hash, slice_make(block, sizeof block));
    secret_wipe(block, sizeof block);
}

void sha256_hmac_init(struct sha256_hmac *hmac, struct slice key) {
    unsigned char block[SHA256_CBLOCK] = {0};
    if (key.len > sizeof block) {
        struct sha256 hash;
        sha256_init(&hash);
        sha256_update(&hash, key);
        sha256_final(&hash, block);
    } else if (key.len != 0) {
        memcpy(block, key.ptr, key.len);
    }
    begin_keyed(&hmac->inner, block, 0x36);
    begin_keyed(&hmac->outer, block, 0x5c);
    secret_wipe(block, sizeof block);
}

void sha256_hmac(const struct sha256_hmac *hmac, struct slice bytes,
                 unsigned char ret_digest[static SHA256_DIGEST_LENGTH]) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    struct sha256 hash = hmac->inner;
    sha256_update(&hash, bytes);
    sha256_final(&hash, digest);
    hash = hmac->outer;
    sha256_update(&hash, slice_make(digest, sizeof digest));
    sha256_final(&hash, ret_digest);
}
