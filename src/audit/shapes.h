/*
 * What looks like a secret in a text: one pass, no regular expressions. Which shapes there are is
 * written in docs/AUDIT.md.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

/* Which two bytes a shape may begin with: those that have a bit in common. And the known prefixes
 * by their first byte: chains of their numbers from 1 on. */
enum { SHAPES_TOKENS = 127 };
struct shapes {
    uint64_t first[256], second[256];
    unsigned char chain[256], next[SHAPES_TOKENS + 1];
};

void shapes_init(struct shapes *shapes);

/* A pass over one text. */
struct shape_scan {
    const struct shapes *shapes;
    struct slice text;
    size_t at;
    /* So that no byte is looked at again and again: up to where there is no JWT, and up to where a
     * value that was given to a name reaches. */
    size_t no_jwt_until, given_until;
};

/* The next part that has to be replaced; each begins at or behind the beginning of the one before,
 * and may overlap it. False: there is none. */
bool shapes_next(struct shape_scan *scan, size_t *ret_begin, size_t *ret_end);

/* The text has the id of an AWS key: what looks like the key itself is one then. */
bool shapes_has_aws_id(struct slice text);
/* The next such part at or behind `from`. */
bool shapes_next_aws_secret(struct slice text, size_t from, size_t *ret_begin, size_t *ret_end);

/*
 * What is told by what stands in front of it (assigned.c). `at`: of the equals sign or colon behind
 * a name; of the bracket behind the name of an XML element; of the dash of a flag.
 */
typedef bool given_find(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end);
given_find assigned_find, element_find, flag_find;
/* The password of the URL whose scheme ends at `at`. */
bool url_password_find(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end);
/* The whole text is a flag whose value is a secret: "--password". */
bool flag_is_secret(struct slice text);
