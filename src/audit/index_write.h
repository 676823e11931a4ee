/*
 * Filling an index: lines of the trail go in, in their order, and become durable in transactions,
 * together with the place behind the last one. After any error the writer is of no use any more and
 * has to be freed; nothing since the last commit is in the index then. Of one thread, one at a
 * time.
 *
 * What differs between the two kinds of index is behind struct index_driver.
 */
#pragma once

#include "audit/follow.h"
#include "base/log.h"

struct index_writer;

/* Which index. */
struct index_where {
    const char *dir;
    struct slice url; /* empty: SQLite in `dir` */
    uint64_t max_age_ms;
    struct log *log;
};

/*
 * Errors: -errno; -EBADMSG: what is there is no use, and has to be made anew; -ESTALE: somebody
 * else was at work with it: open again. `why`: more about it, for people, may be appended.
 */
struct index_driver {
    MUST_CHECK int (*open)(const struct index_where *where, struct index_writer **ret_writer,
                           struct buf *why);
    void (*free)(struct index_writer *writer);
    /* `behind`: the place behind the line. */
    MUST_CHECK int (*add)(struct index_writer *writer, struct slice text,
                          const struct audit_place *behind);
    MUST_CHECK int (*commit)(struct index_writer *writer);
    /* Between commits: a step towards having no records below this one, and no free space to speak
     * of. 1: there is more to do. */
    MUST_CHECK int (*retain)(struct index_writer *writer, uint64_t first_seq);
    /* Nothing has come for a while: memory that can be had again is given back. May be NULL. */
    void (*rest)(struct index_writer *writer);
    /* So that the next one who opens begins with nothing of this trail. */
    MUST_CHECK int (*clear)(const struct index_where *where, struct buf *why);
    /* How far it has come. */
    MUST_CHECK int (*look)(const struct index_where *where, uint64_t *ret_seq,
                           uint64_t *ret_n_records);
};
extern const struct index_driver index_sqlite, index_shared;

static inline const struct index_driver *index_driver_of(const struct index_where *where) {
    return where->url.len != 0 ? &index_shared : &index_sqlite;
}

/* What both have, as of the last line that was added. */
struct index_writer {
    const struct index_driver *driver;
    struct audit_place at; /* behind that line */
    uint64_t length;       /* of it */
    unsigned char hash[AUDIT_HASH];
    uint64_t n_records;
};

/* 0: that line stands in the trail; 1: its file is not there; 2: something else stands there. */
MUST_CHECK int index_writer_check(const struct index_writer *writer, const char *dir);
