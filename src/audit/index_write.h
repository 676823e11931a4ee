/*
 * Filling the index: lines of the trail go in, in their order, and become durable in transactions,
 * together with the place behind the last one. After any error the writer is of no use any more and
 * has to be freed; nothing since the last commit is in the index then. Of one thread, one at a
 * time.
 */
#pragma once

#include "audit/follow.h"
#include "index_record.h"
#include "postings.h"

struct index_writer;

/* Errors as index_db_open(). */
MUST_CHECK int index_writer_open(const char *dir, struct index_writer **ret_writer);
struct index_writer *index_writer_free(struct index_writer *writer);
void index_writer_freep(struct index_writer **writer);

/* Behind the last line that is in it. */
struct audit_place index_writer_place(const struct index_writer *writer);
uint64_t index_writer_records(const struct index_writer *writer);
/* 0: that line stands in the trail; 1: its file is not there; 2: something else stands there. */
MUST_CHECK int index_writer_check(const struct index_writer *writer, const char *dir);

/* `behind`: the place behind the line. */
MUST_CHECK int index_writer_add(struct index_writer *writer, struct slice text,
                                const struct audit_place *behind);
MUST_CHECK int index_writer_commit(struct index_writer *writer);
/* Between commits: a step towards having no records below this one, and no free space to speak of.
 * 1: there is more to do. */
MUST_CHECK int index_writer_retain(struct index_writer *writer, uint64_t first_seq);
