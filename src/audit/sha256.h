/*
 * SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104) of one line or one call's arguments: no memory
 * of their own, and nothing that can fail. A state may be copied by assignment.
 */
#pragma once

#include <openssl/sha.h>

#include "base/slice.h"

struct sha256 {
    SHA256_CTX context;
};

void sha256_init(struct sha256 *hash);
void sha256_update(struct sha256 *hash, struct slice bytes);
void sha256_final(struct sha256 *hash, unsigned char ret_digest[static SHA256_DIGEST_LENGTH]);

/* What a key makes of both hashes before they see any text: as secret as the key is. */
struct sha256_hmac {
    struct sha256 inner, outer;
};

/* The caller wipes it in the end. */
void sha256_hmac_init(struct sha256_hmac *hmac, struct slice key);
void sha256_hmac(const struct sha256_hmac *hmac, struct slice bytes,
                 unsigned char ret_digest[static SHA256_DIGEST_LENGTH]);
