/*
 * SipHash-2-4 (Aumasson, Bernstein 2012): a keyed hash that a peer who does not know the key cannot
 * flood. With a fixed key it serves as a stable fingerprint, not as protection.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

struct hash_key {
    uint64_t k0, k1;
};

uint64_t hash_siphash(const struct hash_key *key, struct slice bytes);
