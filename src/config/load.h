/*
 * The loader's own types. It walks the tree once, with a row of the option table for each key, and
 * goes on after a problem; only lack of memory (struct loader.error) stops it.
 */
#pragma once

#include "base/buf.h"
#include "base/compiler.h"
#include "config/config.h"
#include "options.h"
#include "stored.h"
#include "toml.h"

struct loader {
    struct config *config;
    struct config_problems *problems;
    size_t first_problem; /* of this load */
    size_t left_out;      /* problems past LIMIT_CONFIG_PROBLEMS */
    size_t n_errors;
    struct slice file;   /* as messages name it */
    struct slice folder; /* absolute; relative paths start here */
    const struct config_resolvers *resolvers;
    bool is_store_only;   /* nothing but [store] is looked at */
    bool store_is_broken; /* [store] has errors: secrets are not looked for */
    struct arena *tree;   /* of the tree that is walked */
    struct stored *stored;
    bool is_stored;     /* what is walked was put into the store: less is let through */
    size_t stored_text; /* bytes of its texts so far */
    size_t n_stored_errors;
    bool is_hidden; /* the value at hand stands for that of a secret, which is not known */
    struct config_server *unserved; /* that have neither cmd nor url: checked, not kept */
    size_t n_unserved;
    enum option_kind kind;     /* of the server at hand; OPTION_FOR_ALL: none, or not known */
    int error;                 /* sticky: 0, -ENOMEM */
    struct config_mark *marks; /* in the order of the file; the last one is of the key at hand */
    size_t n_marks, cap_marks;
};

/* Where in the tree: a chain on the stack, written as mcp.servers.github.cmd[0]. */
struct place {
    const struct place *up;
    struct slice key; /* ptr NULL: the element `index` of a list */
    size_t index;
};

/* "mcp.servers.github.cmd[0]" */
void append_place(struct buf *out, const struct place *place);

/* Where keys stand (marks.c). */
void mark_key(struct loader *l, const struct place *place, struct toml_position at);
/* The value of the key at hand has a reference. */
void mark_reference(struct loader *l, const char *scope, struct slice name);
/* Into the configuration, sorted. */
void marks_finish(struct loader *l);
/* Of that path; NULL: the file does not set it. */
const struct config_mark *mark_find(const struct config *config, struct slice path);
/* That the key of this row waits for a restart; NULL: it does not. */
const struct config_kept *kept_find(const struct config *config, const char *path);

/* How deep to look into what is switched off or ignored: keys and types, no values, no warnings. */
enum walk { WALK_ALL, WALK_NAMES };

/* Every key of `table`, whose row path is `parent`. `object` is the struct that the rows of its
 * owner store into. */
void walk_table(struct loader *l, const struct place *place, const struct toml_node *table,
                const char *parent, void *object, enum walk walk);
/* The whole file. [store] is the first, wherever it stands: secrets that others name are in it. */
void walk_root(struct loader *l, struct toml_node *root);

/* [mcp.servers], those of the file, and one of them. */
void load_servers(struct loader *l, const struct place *place, const struct toml_node *table);
void load_server(struct loader *l, const struct place *place, const struct toml_node *node);
/* Rules over several keys of the whole file. */
void check_config(struct loader *l, const struct toml_node *root);
/* Those about who is calling (auth.c). */
void check_auth(struct loader *l, const struct toml_node *root);
/* Those about what HTTP servers are sent (http.c). */
void check_http(struct loader *l, const struct toml_node *root);
/* Plain HTTP, to another machine. */
bool http_is_sent_unencrypted(const struct config_server *server);
bool http_sets_authorization(const struct config_header_rule *rules, size_t n);
/* Those about their TLS and about tokens for them (upstream.c, grant.c). */
void check_upstreams(struct loader *l, const struct toml_node *root);
/* Those about addresses that others name (outside.c). */
void check_outside(struct loader *l, const struct toml_node *root);
/* Those about who may call what (access.c). */
void check_access(struct loader *l, const struct toml_node *root);
/* Those about how often, and where that is counted (rate.c). */
void check_rates(struct loader *l, const struct toml_node *root);

/* All servers that were read, the unserved ones last; NULL behind the last. */
const struct config_server *loaded_server(const struct loader *l, size_t i);

/* [mcp.servers.NAME] in the tree and in messages. */
struct server_place {
    struct place mcp, servers, server;
    const struct toml_node *node; /* NULL: its name was refused */
};
void find_server(struct server_place *at, const struct toml_node *root, struct slice name);

/* Groups that callers may be in: who is in none is what a rule can not be about. */
bool has_groups(const struct config *config);
/* group_values is empty, or has it. */
bool is_known_group(const struct config *config, struct slice group);

/* The type alone. Says so and returns false when it is wrong. */
bool check_type(struct loader *l, const struct place *place, const struct option *row,
                const struct toml_node *node);
/* Type, content and bounds; then into the struct. */
void store_value(struct loader *l, const struct place *place, const struct option *row,
                 const struct toml_node *node, void *object);
/* A list of scalars, once its type is right (scalars.c). */
void store_values(struct loader *l, const struct place *place, const struct option *row,
                  const struct toml_node *node, void *object);
/* A finite number that a double holds; says so and returns false when it is none. */
bool read_number(struct loader *l, const struct place *place, const struct toml_node *node,
                 double *ret_number);
/* The string as it is meant, in the configuration's memory (resolve.c). */
bool expand_string(struct loader *l, const struct place *place, const struct option *row,
                   const struct toml_node *node, struct slice *ret_string);
/* What is in the file that the node names. */
bool read_twin(struct loader *l, const struct place *place, const struct toml_node *node,
               struct slice *ret_string);
/* The value of the row from such a file: type, content, check; then into the struct. */
void store_twin(struct loader *l, const struct place *place, const struct option *row,
                const struct toml_node *node, void *object);
/* The entry KEY of a table, or KEY_file; NULL: neither. */
const struct toml_node *find_secret(const struct toml_node *table, const char *key);
/* An array of tables, once its type is right (tables.c). */
void store_tables(struct loader *l, const struct place *place, const struct option *row,
                  const struct toml_node *node, void *object);
/* The rows' defaults. */
void store_defaults(struct loader *l, enum option_owner owner, void *object);

/* "SENTENCE" */
void problem_at(struct loader *l, enum config_severity severity, struct toml_position at,
                const char *format, ...) PRINTF_LIKE(4, 5);
/* "NAME SENTENCE" */
void problem_of(struct loader *l, enum config_severity severity, struct toml_position at,
                const struct place *place, const char *format, ...) PRINTF_LIKE(5, 6);
/* "unknown key NAME (did you mean X?)" */
void problem_unknown_key(struct loader *l, const struct place *place, struct toml_position at,
                         const char *parent);
/* In the order of the file; the ones that were left out are counted. */
void problems_finish(struct loader *l);
/* problems->items grows; 0 or -ENOMEM. */
MUST_CHECK int problem_add(struct config_problems *problems, enum config_severity severity,
                           struct slice file, struct toml_position at, struct slice message);

/* The number of edits (insert, delete, replace, swap of neighbours) between two words without
 * case; SIZE_MAX for words that are too long to be a slip. */
size_t edit_distance(struct slice a, struct slice b);
