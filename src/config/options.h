/*
 * The option table: one row for each key that may stand in the file. The loader, its messages and
 * docs/CONFIGURATION.md are made of these rows; a key without a row is an error.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

enum option_type {
    OPTION_TABLE,
    OPTION_BOOL,
    OPTION_INTEGER,
    OPTION_NUMBER,
    OPTION_DURATION, /* milliseconds in the struct, "1h 30m" in the file */
    OPTION_SIZE,     /* bytes in the struct, 4096 or "4MiB" in the file */
    OPTION_STRING,
    OPTION_PATH, /* relative to the folder of the file */
    OPTION_LIST, /* of strings */
    OPTION_MAP,  /* of strings */
    OPTION_ENUM,
    OPTION_STDERR, /* an enum, or { file = PATH } */
    OPTION_ANY,
};

enum option_status {
    OPTION_BUILT,
    /* Restricts or protects and is not built yet: refuses to start, unless switched off. */
    OPTION_RESTRICTS,
    OPTION_IGNORED, /* without effect on security: a warning */
    OPTION_HTTP,    /* belongs to upstreams over HTTP, which are not built yet */
};

/* Which struct `offset` is into. */
enum option_owner { OPTION_OF_NOTHING, OPTION_OF_CONFIG, OPTION_OF_SERVER };

/* What is wrong, as the end of a sentence that begins with the key; NULL when nothing is. */
typedef const char *option_check(struct slice value);

struct option {
    const char *path; /* "mcp.servers.*.cwd"; a star stands for one key of any name */
    enum option_type type;
    enum option_status status;
    enum option_owner owner;
    size_t offset, count_offset; /* of the value; of the number of entries (LIST, MAP) */
    uint64_t fallback, min, max; /* BOOL, INTEGER, DURATION, SIZE, ENUM */
    const char *text;            /* the default of a STRING */
    const char *const *choices;  /* ENUM: in the order of the enum, NULL at the end */
    option_check *check;         /* of a STRING, of each entry of a LIST, each key of a MAP */
    bool lower;                  /* entries are kept in lower case */
    const char *doc;             /* of a built key: Markdown, full sentences */
    const char *why; /* what a key restricts ("restricts who may call") or why it is ignored */
};

extern const struct option option_rows[];
extern const size_t option_count;

/* The row of `key` in the table with the row path `parent` ("" at the top), or NULL. */
const struct option *option_find(const char *parent, struct slice key);
/* True when `row` is a direct child of `parent`; *ret_name is its last part. */
bool option_is_child(const struct option *row, const char *parent, struct slice *ret_name);

/* "a string", "true or false": what a message says of a row's type. */
const char *option_type_name(enum option_type type);

/* Durations and sizes (value.c). 0, or positive: *ret_reason as for option_check. */
enum { OPTION_E_INVALID = 1 };
MUST_CHECK int option_parse_duration(struct slice text, uint64_t *ret_ms, const char **ret_reason);
MUST_CHECK int option_parse_size(struct slice text, uint64_t *ret_bytes, const char **ret_reason);
/* As they are written in the file: "1h 30m", "4MiB". */
int option_write_duration(struct buf *out, uint64_t ms);
int option_write_size(struct buf *out, uint64_t bytes);
/* A number in the row's own unit. */
int option_write_number(struct buf *out, const struct option *row, uint64_t number);

/* Checks (check.c). */
option_check check_filled, check_listen_address, check_url_path, check_host, check_env_name,
    check_user, check_server_name;
