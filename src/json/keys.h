/*
 * The keys of the objects that are open, to find duplicates (RFC 7493 section 2.3) while reading.
 *
 * All open objects share one stack of keys: the innermost object's keys are its top part, and go
 * when it closes. A 64-bit set of hash bits in each object answers "new" for most keys without a
 * look at the others. Past it, up to JSON_KEYS_LINEAR keys are compared one by one by their hashes,
 * and larger objects have a hash table with chains, which also lives on a stack.
 *
 * Flooding: the hash of keys up to 48 bytes is multilinear (Carter and Wegman; 32-bit words, 64-bit
 * secrets, the upper half of the sum), so two keys chosen without knowing the secrets collide in
 * any of its bits no more often than by chance; longer keys go through SipHash. With chains that
 * bound is enough for a constant expected cost, which it is not with linear probing. As time could
 * still tell something about the secrets, they are drawn anew after each document that needed a
 * table: no secret meets a large object twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/hash.h"
#include "base/slice.h"
#include "scan.h"

#define JSON_KEYS_LINEAR 32u
#define JSON_KEY_SECRETS 14u
#define JSON_KEY_SHORT   48u         /* longest key of the multilinear hash */
#define JSON_KEY_ESCAPED 0x80000000u /* in json_key_entry.len */

struct json_key_entry {
    uint32_t hash;
    uint32_t chain;  /* 1 + index within the object of the next key with the same head, 0 = none */
    uint32_t offset; /* into the document */
    uint32_t len;    /* with JSON_KEY_ESCAPED */
};

struct json_keys {
    struct json_key_entry *entries;
    uint32_t n, cap;
    uint32_t *heads; /* 1 + index within the object of a chain's first key, 0 = none */
    uint32_t n_heads, cap_heads;
    bool table_used; /* since the secrets were drawn */
    uint64_t secrets[JSON_KEY_SECRETS];
    struct hash_key sip;
    struct buf unescaped; /* one key; its maximum is the document's length */
};

/* The part of one open object. */
struct json_object_keys {
    uint64_t seen;    /* bit (hash >> 26) of each key */
    uint32_t first;   /* its first entry */
    uint32_t heads;   /* its first head */
    uint32_t n_heads; /* a power of two, or 0: no table yet */
};

enum json_keys_result { JSON_KEYS_NEW, JSON_KEYS_DUPLICATE, JSON_KEYS_NO_MEMORY };

void json_keys_init(struct json_keys *keys);
void json_keys_deinit(struct json_keys *keys);
/* After each document: forgets all keys, gives back memory past a bound, draws new secrets when
 * that is due. */
void json_keys_reset(struct json_keys *keys);

static inline uint32_t json_object_n_keys(const struct json_keys *keys,
                                          const struct json_object_keys *object) {
    return keys->n - object->first;
}

static inline void json_object_keys_begin(const struct json_keys *keys,
                                          struct json_object_keys *object) {
    *object = (struct json_object_keys){.first = keys->n, .heads = keys->n_heads};
}

static inline void json_object_keys_end(struct json_keys *keys,
                                        const struct json_object_keys *object) {
    keys->n = object->first;
    keys->n_heads = object->heads;
}

/* The parts of json_keys_add() that are seldom needed. */
uint32_t json_keys_hash_long(const struct json_keys *keys, struct slice text);
enum json_keys_result json_keys_add_escaped(struct json_keys *keys, struct json_object_keys *object,
                                            const char *document, struct slice key);
enum json_keys_result json_keys_add_hashed(struct json_keys *keys, struct json_object_keys *object,
                                           const char *document, struct slice key, bool escaped,
                                           uint32_t hash);

/* The words of a key of up to 48 bytes, cut to its length by a mask; `room` bytes may be read from
 * its start on. */
static inline uint32_t json_keys_hash(const struct json_keys *keys, struct slice key, size_t room) {
    static const unsigned char mask[32] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                           0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const uint64_t *s = keys->secrets;
    char copy[16];
    const char *p = key.ptr;
    if (UNLIKELY(key.len > JSON_KEY_SHORT))
        return json_keys_hash_long(keys, key);
    uint64_t sum = s[0] + s[1] * key.len;
    size_t n = key.len;
    if (UNLIKELY(n > 16)) {
        uint64_t c = json_load64(p + n - 16), d = json_load64(p + n - 8);
        sum += s[6] * (uint32_t)c + s[7] * (c >> 32) + s[8] * (uint32_t)d + s[9] * (d >> 32);
        if (n > 32) {
            uint64_t e = json_load64(p + 16), f = json_load64(p + 24);
            sum +=
                s[10] * (uint32_t)e + s[11] * (e >> 32) + s[12] * (uint32_t)f + s[13] * (f >> 32);
        }
        n = 16;
    } else if (UNLIKELY(room < 16)) {
        memset(copy, 0, sizeof copy);
        if (n > 0)
            memcpy(copy, p, n);
        p = copy;
    }
    const char *cut = (const char *)mask + 16 - n;
    uint64_t a = json_load64(p) & json_load64(cut), b = json_load64(p + 8) & json_load64(cut + 8);
    sum += s[2] * (uint32_t)a + s[3] * (a >> 32) + s[4] * (uint32_t)b + s[5] * (b >> 32);
    return (uint32_t)(sum >> 32);
}

/*
 * Adds a key to the innermost object, `object`. `key` lies in the document, whose end is `room`
 * bytes behind the key's start.
 */
MUST_CHECK static inline enum json_keys_result json_keys_add(struct json_keys *keys,
                                                             struct json_object_keys *object,
                                                             const char *document, struct slice key,
                                                             size_t room, bool escaped) {
    if (UNLIKELY(escaped))
        return json_keys_add_escaped(keys, object, document, key);
    uint32_t hash = json_keys_hash(keys, key, room);
    uint64_t bit = UINT64_C(1) << (hash >> 26);
    if (UNLIKELY((object->seen & bit) != 0 || keys->n == keys->cap ||
                 json_object_n_keys(keys, object) >= JSON_KEYS_LINEAR))
        return json_keys_add_hashed(keys, object, document, key, false, hash);
    object->seen |= bit;
    keys->entries[keys->n++] = (struct json_key_entry){
        .hash = hash, .offset = (uint32_t)(key.ptr - document), .len = (uint32_t)key.len};
    return JSON_KEYS_NEW;
}
