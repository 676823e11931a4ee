/* Which records of a block have which value, as postings of the database (index_db.h). */
#pragma once

#include "bitmap.h"
#include "values.h"

/* Of a block that is complete, from its records. */
MUST_CHECK int postings_write(struct values *values, uint64_t block);
/* One more record has the value. */
MUST_CHECK int postings_add(struct index_db *db, uint64_t block, int64_t value, unsigned low);

/* Values that may have no record any more: checked in steps, because each may have to be looked for
 * in all blocks. */
struct postings_unused {
    uint32_t *values; /* mem_free */
    size_t n, cap;
};
/* Deletes the blocks below, with their records; their values may be unused then. */
MUST_CHECK int postings_drop(struct index_db *db, uint64_t below_block,
                             struct postings_unused *unused, uint64_t *ret_n_records);
/* Deletes some of them, if they are unused indeed. `tail`: the block that has no postings. */
MUST_CHECK int postings_sweep(struct values *values, uint64_t tail, struct postings_unused *unused);
