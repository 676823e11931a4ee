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
    OPTION_NUMBER,   /* a double */
    OPTION_DURATION, /* milliseconds in the struct, "1h 30m" in the file */
    OPTION_SIZE,     /* bytes in the struct, 4096 or "4MiB" in the file */
    OPTION_STRING,
    OPTION_PATH,   /* relative to the folder of the file */
    OPTION_TIME,   /* a string or a time of TOML; the text and milliseconds since 1970 */
    OPTION_LIST,   /* of strings */
    OPTION_VALUES, /* a list of strings, numbers and booleans; struct config_value */
    OPTION_MAP,    /* of strings */
    OPTION_TABLES, /* an array of tables: rows below it, an object of its own for each */
    OPTION_NAMED,  /* the same as tables by name: rows below PATH.*, the struct begins with it */
    OPTION_ENUM,
    OPTION_STDERR, /* an enum, or { file = PATH } */
    OPTION_ANY,
};

#define OPTION_TWIN "_file" /* behind the key of a secret: names a file with it */

enum option_status {
    OPTION_BUILT,
    OPTION_IGNORED, /* without effect on security: a warning */
    OPTION_REFUSED, /* known from elsewhere and not for us: `why` says what to write instead */
};

/* Which struct `offset` is into. */
enum option_owner {
    OPTION_OF_NOTHING,
    OPTION_OF_CONFIG,
    OPTION_OF_SERVER,
    OPTION_OF_HEADER_RULE,
    OPTION_OF_TOKEN,
    OPTION_OF_ISSUER,
    OPTION_OF_TOOL,
    OPTION_OF_ARGUMENT,
    OPTION_OF_NAMED_LIMIT,
};

/* Which servers a key is for; in one of the other kind it is a mistake. */
enum option_kind { OPTION_FOR_ALL, OPTION_FOR_CHILDREN, OPTION_FOR_HTTP };

/* What is wrong, as the end of a sentence that begins with the key; NULL when nothing is. */
typedef const char *option_check(struct slice value);

struct loader;
struct place;
struct toml_node;

/* Rules over several keys of one entry, when each of them is fine by itself. */
typedef void option_finish(struct loader *l, const struct place *place,
                           const struct toml_node *node, void *object);

/* The entries of an array of tables, or of tables by name. */
struct option_entry {
    enum option_owner owner; /* that its rows name */
    size_t size;             /* of its struct */
    option_finish *finish;
};

struct option {
    const char *path; /* "mcp.servers.*.cwd"; a star stands for one key of any name */
    enum option_type type;
    enum option_status status;
    enum option_owner owner;
    enum option_kind only;
    bool required;       /* in an entry of TABLES or NAMED */
    bool single;         /* LIST: one string may stand for a list of one */
    bool has_no_default; /* `fallback` stands for "not set", and bounds are not for it */
    /* Of the value, of a TABLE whether there is one; of the number of entries (LIST, VALUES, MAP,
     * TABLES, NAMED), of a TIME the milliseconds. */
    size_t offset, count_offset;
    /* BOOL, INTEGER, DURATION, SIZE, ENUM. max: entries of LIST (0: any number), VALUES, TABLES,
     * NAMED. min of an ENUM: what its first choice stands for. */
    uint64_t fallback, min, max;
    const char *text;           /* the default of a STRING */
    const char *const *choices; /* ENUM: in the order of the enum, NULL at the end */
    /* Of a STRING, ENUM or PATH, of each entry of a LIST, of each key of a MAP or NAMED. */
    option_check *check;
    const char *before;               /* begins the sentence of which `check` gives the end */
    const struct option_entry *entry; /* TABLES, NAMED */
    bool lower;                       /* STRING, LIST: kept in lower case */
    /* STRING: it is a secret. KEY_file is known then, too; {{ secret.NAME }} may be in it. */
    bool secret;
    bool holds_secrets; /* STRING, MAP: ... a part of it may be one */
    bool opens_store;   /* ... but none of the store, which is opened with this */
    bool hidden;        /* not shown, though it is no place for secrets; of a LIST the first is */
    const char *doc;    /* of a built key: Markdown, full sentences */
    const char *why;    /* what a key restricts ("restricts who may call"), why it is ignored, what
                           to write instead */
};

/* The table, in parts (options_*.c). */
extern const struct option option_server_rows[], option_auth_rows[], option_mcp_rows[],
    option_access_rows[], option_audit_rows[], option_admin_rows[], option_other_rows[];
extern const size_t option_server_count, option_auth_count, option_mcp_count, option_access_count,
    option_audit_count, option_admin_count, option_other_count;
/* The rows in the order of the documentation; NULL behind the last one. */
const struct option *option_at(size_t i);

/* The row of `key` in the table with the row path `parent` ("" at the top), or NULL. */
const struct option *option_find(const char *parent, struct slice key);
/* The row of the secret of which `key` is the twin, KEY_file; NULL: it is none. */
const struct option *option_find_twin(const char *parent, struct slice key);
/* True when `row` is a direct child of `parent`; *ret_name is its last part. */
bool option_is_child(const struct option *row, const char *parent, struct slice *ret_name);

/* A reload does not take it (compare.c). */
bool option_needs_restart(const char *path);

/* "a string", "true or false": what a message says of a row's type. */
const char *option_type_name(const struct option *row);

/* Durations and sizes (value.c). 0, or positive: *ret_reason as for option_check. */
enum { OPTION_E_INVALID = 1 };
MUST_CHECK int option_parse_duration(struct slice text, uint64_t *ret_ms, const char **ret_reason);
MUST_CHECK int option_parse_size(struct slice text, uint64_t *ret_bytes, const char **ret_reason);
/* "2027-01-31", whose end is meant, or "2027-01-31T12:00:00Z" (RFC 3339). 0, or 1 with the reason.
 */
MUST_CHECK int option_parse_time(struct slice text, uint64_t *ret_ms, const char **ret_reason);
/* As they are written in the file: "1h 30m", "4MiB". */
int option_write_duration(struct buf *out, uint64_t ms);
int option_write_size(struct buf *out, uint64_t bytes);
/* A number in the row's own unit. */
int option_write_number(struct buf *out, const struct option *row, uint64_t number);

/* Checks (check.c, check_audit.c, check_auth.c, check_http.c). */
option_check check_filled, check_listen_address, check_url_path, check_host, check_env_name,
    check_user, check_server_name, check_upstream_url, check_proxy, check_token, check_header_name,
    check_header_value, check_network, check_none, check_hash, check_scope, check_issuer_url,
    check_resource, check_secret, check_algorithm, check_tls_name, check_field_name, check_origin,
    check_method, check_cors_header, check_whitelisted, check_storage_url, check_key_prefix,
    check_issuer, check_token_endpoint, check_client_text, check_resource_name, check_instance,
    check_redact_path, check_redact_pattern, check_syslog_url, check_store_url;
/* idle_timeout_ms of a server before that of mcp.downstream_cache takes its place. */
#define IDLE_NOT_SET UINT64_MAX
/* max_instances where the file has none: it goes by the kind of server. */
#define INSTANCES_NOT_SET UINT64_MAX
struct uri;
/* Its host is this machine by every reading (http.c). */
bool option_uri_is_loopback(const struct uri *uri);
/* Of an entry of headers (header.c), of tokens and issuers (auth.c), of tools and their arguments
 * (access.c), of limits (rate.c). */
option_finish finish_header_rule, finish_token, finish_issuer, finish_tool, finish_argument,
    finish_named_limit;
