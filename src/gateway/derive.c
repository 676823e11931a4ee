/*
 * What we give to clients and take back from them (cursors, requestState) is signed or sealed, so
 * that nobody makes one up. Clients may bring it to another gateway, or to this one after a
 * restart: so its keys come from the cluster's, each for one purpose, by HMAC-SHA-256 of the
 * purpose's name.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/random.h"
#include "private.h"

int gw_key_derive(const struct secret *cluster_key, struct slice purpose,
                  unsigned char ret_key[static GW_DERIVED_KEY]) {
    unsigned len = GW_DERIVED_KEY;
    if (cluster_key == NULL) {
        random_bytes(ret_key, GW_DERIVED_KEY);
        return 0;
    }
    struct slice secret = secret_reveal(cluster_key); /* for what is derived from it */
    return HMAC(EVP_sha256(), secret.ptr, (int)secret.len, (const unsigned char *)purpose.ptr,
                purpose.len, ret_key, &len) != NULL
               ? 0
               : -ENOMEM;
}

int gw_hash_key_derive(const struct secret *cluster_key, struct slice purpose,
                       struct hash_key *ret_key) {
    enum { HALF = 8 };
    unsigned char bytes[GW_DERIVED_KEY];
    int error = gw_key_derive(cluster_key, purpose, bytes);
    *ret_key = (struct hash_key){0};
    /* The same on every machine. */
    for (unsigned i = 0; i < HALF && error == 0; i++) {
        ret_key->k0 = ret_key->k0 << 8 | bytes[i];
        ret_key->k1 = ret_key->k1 << 8 | bytes[HALF + i];
    }
    secret_wipe(bytes, sizeof bytes);
    return error;
}
