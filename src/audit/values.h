/*
 * The values that records are looked for by, as numbers: a table of the database, and before it a
 * bounded memory of those that came last. Of one thread.
 */
#pragma once

#include "base/limits.h"
#include "base/map.h"
#include "base/network.h"
#include "index_db.h"

struct values {
    struct index_db *db;
    struct map numbers; /* dimension and text: the number, as a pointer */
    size_t bytes;       /* of the keys, about */
    struct map wider;   /* a number: struct values_wider */
    struct buf key;
};

void values_init(struct values *values, struct index_db *db);
void values_deinit(struct values *values);
/* When the database was rolled back, or values were deleted. */
void values_forget(struct values *values);

/* Finds or makes. An empty text is 0. */
MUST_CHECK int values_number(struct values *values, enum index_dim dim, struct slice text,
                             int64_t *ret_number);
/* 0: it is none of an address. A block of addresses is taken when its prefix has a dimension. */
MUST_CHECK int values_address(struct values *values, struct slice text, int64_t *ret_number);
/* A set of groups; `json`: how it is written, as the key of the memory. */
MUST_CHECK int values_groups(struct values *values, struct slice json, const struct slice *groups,
                             size_t n, int64_t *ret_number);

/* What else a record has that has this value: the groups of a set, the blocks of an address. */
struct values_wider {
    size_t n;
    uint32_t numbers[];
};
MUST_CHECK int values_wider(struct values *values, int64_t number,
                            const struct values_wider **ret_wider);
/* Deletes it, and what says that it belongs to others. */
MUST_CHECK int values_drop(struct values *values, int64_t number);

/* Without making: 1: there is none. */
MUST_CHECK int values_find(struct index_db *db, enum index_dim dim, struct slice text,
                           int64_t *ret_number);

/* The dimensions of a family of addresses, from the widest block to the address. */
struct values_level {
    enum index_dim dim;
    unsigned bits;
};
enum { VALUES_LEVELS = 4, VALUES_ADDRESS = 16 };
const struct values_level *values_levels(const struct network *network);
/* The first and the last address of its first `bits` bits. */
void values_address_range(const struct network *network, unsigned bits,
                          unsigned char first[VALUES_ADDRESS], unsigned char last[VALUES_ADDRESS]);
