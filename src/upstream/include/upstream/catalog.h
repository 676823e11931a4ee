/*
 * What one instance of an upstream offers: tools, prompts, resources and templates, each item as
 * the upstream wrote it but for the name that clients see. Immutable once built and shared by
 * reference between workers; the four lists are shared one by one, so that a change of one builds
 * only that one again.
 *
 * The text of a list is kept once, as it is sent: all items with the names of the merged endpoint,
 * one behind the other. Pages are cut out of it. Other forms (the upstream's own names, the words
 * of the other era) are put together when somebody asks for them, and only where they differ.
 *
 * One bad item never spoils a list: it is left out and counted.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/log.h"
#include "base/map.h"
#include "base/slice.h"
#include "json/reader.h"
#include "mcp/cache.h"
#include "mcp/modern.h"
#include "mcp/protocol.h"

struct catalog_item {
    struct slice key; /* name, URI or template, unescaped: what the upstream knows */
    struct slice own; /* what clients of the upstream's own endpoint see */
    struct slice
        exposed;       /* what clients of the merged one see; both the key for what has no name */
    struct slice json; /* the definition with the exposed name, in the list's text */
    struct slice name; /* in json: the name's value with its quotes */
    uint32_t name_at;  /* where it is in there */
    struct slice own_token; /* what stands there at the own endpoint; empty: the same */
    /* The definition as clients of the other era want it, with the upstream's name for it, and that
     * name in there; empty: as json. */
    struct slice other_json, other_name;
    struct mcp_mirrors mirrors;  /* tools: arguments that clients repeat in header fields */
    bool may_mirror, may_differ; /* tools, while their page is read: they need a second look */
    bool needs_task;             /* a tool of 2025-11-25 that runs as a task only */
    atomic_uchar seen;           /* for whoever judges definitions, once; 0 at first */
};

/* The items of a list as they are sent, each with a comma before it. */
struct catalog_text {
    const char *bytes;
    const uint32_t *starts; /* n_items + 1: where the comma before each item is, and the end */
};

struct catalog_list {
    atomic_uint refs;
    struct catalog_item *items;
    size_t n_items, cap_items;
    size_t n_dropped;
    bool is_full;
    /* To struct catalog_item. by_exposed is empty where both names are the same. */
    struct map by_own, by_exposed;
    /* What its pages say together. Servers of the era before say nothing, and tell of changes:
     * ttl_ms UINT64_MAX, private. */
    struct mcp_cache cache;
    struct arena arena;
    struct buf bytes;         /* of `text` */
    struct catalog_text text; /* with exposed names, in the era of the upstream */
    bool has_own_names;       /* they differ from the exposed ones */
    bool has_other_form;      /* some item has one for the other era */
    /* Made when they are asked for: [own names][other era]. [0][0] is `text`. */
    _Atomic(struct catalog_text *) forms[2][2];
};

/* What a server says of tasks: of 2025-11-25, or that it has the extension of 2026-07-28. */
enum {
    CATALOG_TASK_CALLS = 1u << 0,
    CATALOG_TASK_LIST = 1u << 1,
    CATALOG_TASK_CANCEL = 1u << 2,
    CATALOG_TASK_EXTENSION = 1u << 3,
    CATALOG_TASK_ALL = (1u << 4) - 1,
};

struct catalog {
    atomic_uint refs;
    struct catalog_list *lists[MCP_LIST_COUNT]; /* each with a reference; never NULL */
    enum mcp_revision revision;
    unsigned declared; /* lists that the server has, a mask: 1u << enum mcp_list */
    unsigned telling;  /* those of them whose changes it tells */
    /* What server/discover says of itself, and until when that is (monotonic); of servers of the
     * era before: private, 0. */
    struct mcp_cache cache;
    uint64_t fresh_until_ms;
    bool has_completions, has_logging;
    bool has_subscriptions; /* its resources can be subscribed to */
    unsigned tasks;         /* CATALOG_TASK_* */
    struct slice server_name, server_version, instructions;
    struct slice capabilities; /* the object as the server wrote it; empty: none, or too long */
    struct arena arena;
};

struct catalog_list *catalog_list_new(void);
struct catalog_list *catalog_list_ref(struct catalog_list *list);
struct catalog_list *catalog_list_unref(struct catalog_list *list);
/* The same items in the same order with the same bytes. */
bool catalog_list_equal(const struct catalog_list *a, const struct catalog_list *b);

/*
 * Adds one page: the result of a list request. CATALOG_E_INVALID: it is no such result (*ret_reason
 * says why), and nothing was added. *next_cursor gets the raw JSON string of nextCursor, or stays
 * empty at the last page.
 */
enum { CATALOG_E_INVALID = 1 };

/* Where a page comes from. */
struct catalog_source {
    enum mcp_list kind;
    enum mcp_revision revision;
    bool is_http;
    struct slice upstream;   /* its name: the prefix of what is exposed */
    struct log *log;         /* hears what was left out; may be NULL */
    uint64_t max_items;      /* of the list; 0: LIMIT_TOOLS_PER_UPSTREAM */
    uint64_t max_definition; /* bytes of an item; 0: LIMIT_DEFINITION */
};

MUST_CHECK int catalog_list_add_page(struct catalog_list *list, const struct catalog_source *source,
                                     struct slice result, struct json_reader *reader,
                                     struct buf *next_cursor, const char **ret_reason);

/* A copy that shares all lists. `from` may be NULL: four empty lists. */
struct catalog *catalog_new(const struct catalog *from);
struct catalog *catalog_ref(struct catalog *catalog);
struct catalog *catalog_unref(struct catalog *catalog);
void catalog_unrefp(struct catalog **catalog);
/* Before the catalog is shared: takes the caller's reference of `list`. */
void catalog_set_list(struct catalog *catalog, enum mcp_list kind, struct catalog_list *list);
/* Before the catalog is shared: reads the result of initialize. CATALOG_E_INVALID when the revision
 * is not ours. */
MUST_CHECK int catalog_read_initialize(struct catalog *catalog, struct slice result,
                                       struct json_reader *reader, unsigned *ret_list_mask,
                                       const char **ret_reason);

/* The same for the result of server/discover: the revision is 2026-07-28. */
MUST_CHECK int catalog_read_discover(struct catalog *catalog, struct slice result,
                                     struct json_reader *reader, unsigned *ret_list_mask,
                                     const char **ret_reason);

/* By what clients of the merged or of the upstream's own endpoint see. NULL: none. */
const struct catalog_item *catalog_find(const struct catalog *catalog, enum mcp_list kind,
                                        struct slice name, bool exposed);
/* The first template that the URI can come from. */
const struct catalog_item *catalog_find_template(const struct catalog *catalog, struct slice uri);

/*
 * The text of a list with the names that the endpoint shows, as clients of revision `to` want it.
 * Lives as long as the list. NULL: no memory for it. Any thread.
 */
MUST_CHECK const struct catalog_text *
catalog_text(const struct catalog *catalog, enum mcp_list kind, bool exposed, enum mcp_revision to);
/* One item of it. */
int catalog_item_write(struct buf *out, const struct catalog *catalog,
                       const struct catalog_item *item, bool exposed, enum mcp_revision to);
