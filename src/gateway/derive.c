/*
 * What we give to clients and take back from them (cursors) is signed, so that nobody makes one up.
 * Clients may bring it to another gateway, or to this one after a restart: so its keys come from
 * the cluster's, each for one purpose, by HMAC-SHA-256 of the purpose's name.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/random.h"
#include "private.h"

int gw_hash_key_derive(const struct secret *cluster_key, struct slice purpose,
                       struct hash_key *ret_key) {
    enum { DIGEST = 32, HALF = 8 };
    unsigned char digest[DIGEST];
    unsigned len = sizeof digest;
    struct hash_key key = {0};
    if (cluster_key == NULL) {
        random_bytes(ret_key, sizeof *ret_key);
        return 0;
    }
    struct slice secret = secret_reveal(cluster_key); /* for what is derived from it */
    if (HMAC(EVP_sha256(), secret.ptr, (int)secret.len, (const unsigned char *)purpose.ptr,
             purpose.len, digest, &len) == NULL)
        return -ENOMEM;
    /* The same on every machine. */
    for (unsigned i = 0; i < HALF; i++) {
        key.k0 = key.k0 << 8 | digest[i];
        key.k1 = key.k1 << 8 | digest[HALF + i];
    }
    secret_wipe(digest, sizeof digest);
    *ret_key = key;
    return 0;
}
