/* Following the trail into the index: of the thread, and of `cardea audit reindex`. */
#pragma once

#include "base/log.h"
#include "index_write.h"

struct index_filler {
    struct index_where where;
    int stop_fd;         /* -1: none */
    struct buf why;      /* more about the last error of index_filler_open(), or empty */
    uint64_t longest_ms; /* a transaction is not open for longer; 0: for half a second */
    struct audit_follow *follow;
    struct index_writer *writer;
};

/* `anew`: from nothing. Makes anew also what cannot be used, and what is of another trail. Errors
 * as index_db_open(); nothing is open then. */
MUST_CHECK int index_filler_open(struct index_filler *filler, bool anew);
void index_filler_close(struct index_filler *filler);
/* index_filler_close(), and what else it holds. */
void index_filler_deinit(struct index_filler *filler);

/* Lines that are there, some thousands at most, in one transaction. 0: there are more; 1: that was
 * the last one for now; 2: stop_fd is readable. `wait_ms`: for the first line. -ESTALE: the trail
 * was cut off: open again. After an error: close. */
MUST_CHECK int index_filler_run(struct index_filler *filler, uint64_t wait_ms);
/* A step of retention. 1: there is more to do. */
MUST_CHECK int index_filler_retain(struct index_filler *filler);

/* The number of the newest line of a trail; 0: there is none. */
MUST_CHECK int index_newest(const char *dir, uint64_t *ret_seq);
/* Takes the lock that whoever fills it holds; -EWOULDBLOCK. io_fd_close(). */
MUST_CHECK int index_lock(const char *dir, int *ret_fd);
/* Somebody asks for a new one, until it has been begun. */
bool index_is_asked_anew(const char *dir);
void index_anew_begun(const char *dir);
/* What an error means, as the rest of a sentence. */
const char *index_error_text(int error);
