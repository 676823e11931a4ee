/* Looking into the index: which records of a block may be it, and their lines. Of one query. */
#pragma once

#include "audit/index.h"
#include "bitmap.h"
#include "values.h"

/* --- what is asked for, as numbers of values --- */

struct find_numbers {
    int64_t *values; /* any of them */
    size_t n;
};

struct find_filter {
    struct index_db *db;
    bool is_impossible; /* a value that no record has */
    int64_t event, decision, status, user, group, operation, upstream; /* 0: any */
    bool has_address;
    struct network address;
    struct find_numbers addresses;
};

enum { FIND_E_ADDRESS = 1 }; /* it is none */
MUST_CHECK int find_filter_make(struct index_db *db, const struct audit_query *query,
                                struct find_filter *ret_filter);
void find_filter_deinit(struct find_filter *filter);
/* The records of a block that pass, whatever their time. `has_postings`: it is complete. */
MUST_CHECK int find_filter_block(const struct find_filter *filter, uint64_t block,
                                 bool has_postings, struct bitmap *ret_passed);

/* --- lines of the trail --- */

struct find_place {
    uint64_t segment, offset, length;
};

struct find_file {
    uint64_t segment; /* that is open; 0: none */
    int fd;
    uint64_t at;     /* offset of the first byte of the window */
    uint64_t before; /* the place of the line before */
    struct buf window;
};

struct find_lines {
    const char *dir;
    struct find_file files[2]; /* of lines, and of outcomes */
};

void find_lines_init(struct find_lines *lines, const char *dir);
void find_lines_deinit(struct find_lines *lines);
/* Valid until the next one of the same kind. 1: it is not there (any more). `seq`: its number; 0:
 * any. */
MUST_CHECK int find_lines_get(struct find_lines *lines, bool is_outcome,
                              const struct find_place *place, uint64_t seq, struct slice *ret_line);

/* --- text --- */

/* Horspool's search, without regard to the case of ASCII letters. */
struct find_text {
    struct buf needle; /* in lower case */
    unsigned char skip[256];
};
void find_text_init(struct find_text *text);
void find_text_deinit(struct find_text *text);
/* The buffer's error. */
MUST_CHECK int find_text_set(struct find_text *text, struct slice needle);
bool find_text_is_in(const struct find_text *text, struct slice haystack);

/* A text as it was asked for, and as JSON has it. */
struct find_words {
    struct find_text plain, escaped;
};
void find_words_init(struct find_words *words);
void find_words_deinit(struct find_words *words);
MUST_CHECK int find_words_set(struct find_words *words, struct slice text);
/* In one of the two. */
bool find_words_are_in(const struct find_words *words, struct slice line, struct slice outcome);

/* --- the two kinds of index (finder.c) --- */

struct find_request {
    const struct audit_query *query;
    audit_found *found;
    void *context;
    struct audit_page page;
};
enum { FIND_E_CURSOR = 2 }; /* beside FIND_E_ADDRESS */
/* FIND_E_..., or as index_driver. */
MUST_CHECK int find_in_sqlite(const char *dir, struct find_request *request);
