/*
 * The directory is built from one transaction and never changed afterwards, so that a look-up needs
 * no lock: whoever holds a reference sees one moment of the store.
 *
 * What many have in common is there once. Users with the same roles share one set of roles with one
 * union of rights; tokens with the same limits of users with the same roles share what both give
 * together. So a hundred thousand tokens cost a hundred thousand small rows, not as many sets of
 * rights.
 *
 * Tokens are found by their SHA-256 in a table with open addressing that takes the digest itself
 * for its hash. It needs no key: who makes a token here cannot choose it, so nobody can pile up
 * entries; who looks up what is not there walks at most to the next free place, and half of the
 * places are free.
 *
 * The comparison takes as long as the digests agree, and may: what is compared is not the secret
 * but its digest. Somebody who measured all of a stored digest this way would know as much as the
 * store does, from which a token of 256 bits of chance cannot be made.
 */
#include "accounts/directory.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"
#include "doors.h"
#include "json/reader.h"

enum { DIGEST = 32, FIRST_ROOM = 64, REASON = 1024 };

/* Sorted by name, so that whatever is picked in their order is sorted, too. */
struct role {
    struct slice id, name;
    struct policy_rights *rights;
};

/* The roles of some users. */
struct role_set {
    struct role_set *next;
    struct slice *names;
    size_t n;
    struct policy_rights *rights;
};

/* What a token may within a set of roles. */
struct limited {
    struct limited *next;
    struct policy_rights *rights;
};

/* One of the roles that a group of OAuth has. */
struct group_role {
    struct group_role *next;
    size_t role; /* index */
};

struct entry {
    unsigned char digest[DIGEST];
    struct directory_token token;
};

struct place {
    uint32_t tag;   /* of the digest, so that most others are told apart here */
    uint32_t entry; /* index + 1; 0: free */
};

struct window {
    enum accounts_scope scope;
    struct slice name;
    uint64_t until_ms;
};

struct directory {
    atomic_uint refs;
    struct arena arena;
    struct policy_rights *nothing;
    struct role *roles;
    size_t n_roles, cap_roles;
    struct role_set *sets;
    struct limited *limited;
    struct map groups; /* of struct group_role */
    struct entry *entries;
    size_t n_entries, cap_entries;
    struct place *places;
    size_t n_places; /* a power of two */
    struct window *windows;
    size_t n_windows, cap_windows;
    bool has_users;
    uint64_t now_ms, boot_ms; /* when it was loaded, by the store's clock and by ours */
};

struct user {
    struct slice id, name;
    const struct role_set *set;
};

/* What is needed only while it is made. */
struct build {
    struct directory *directory;
    struct store_tx *tx;
    struct json_reader *reader;
    struct map users;   /* by id: struct user */
    struct map roles;   /* by id: index + 1 */
    struct map sets;    /* by the indexes of the roles: struct role_set */
    struct map limited; /* by set and text: struct limited */
    const struct role_set *none;
    struct user *user; /* whose roles are being picked */
    size_t *picked;
    size_t n_picked, cap_picked;
};

/* --- memory --- */

static void free_directory(struct directory *directory) {
    for (size_t i = 0; i < directory->n_roles; i++)
        policy_rights_unref(directory->roles[i].rights);
    for (struct role_set *set = directory->sets; set != NULL; set = set->next)
        policy_rights_unref(set->rights);
    for (struct limited *limited = directory->limited; limited != NULL; limited = limited->next)
        policy_rights_unref(limited->rights);
    policy_rights_unref(directory->nothing);
    map_deinit(&directory->groups);
    mem_free(directory->roles);
    mem_free(directory->entries);
    mem_free(directory->places);
    mem_free(directory->windows);
    arena_deinit(&directory->arena);
    mem_free(directory);
}

struct directory *directory_ref(struct directory *directory) {
    atomic_fetch_add_explicit(&directory->refs, 1, memory_order_relaxed);
    return directory;
}

struct directory *directory_unref(struct directory *directory) {
    if (directory != NULL &&
        atomic_fetch_sub_explicit(&directory->refs, 1, memory_order_acq_rel) == 1)
        free_directory(directory);
    return NULL;
}

/* Room for one more of `size` bytes in an array of mem_alloc(). */
static int make_room(void **array, size_t n, size_t *cap, size_t size) {
    size_t bytes, wanted = *cap == 0 ? FIRST_ROOM : *cap * 2;
    if (n < *cap)
        return 0;
    if (size_mul_overflows(wanted, size, &bytes))
        return -ENOMEM;
    void *grown = mem_realloc(*array, bytes);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *cap = wanted;
    return 0;
}

static int keep(struct arena *arena, struct slice text, struct slice *ret_kept) {
    struct slice kept = arena_dup(arena, text);
    if (kept.ptr == NULL)
        return -ENOMEM;
    *ret_kept = kept;
    return 0;
}

/* --- the store's rows --- */

typedef int take_fn(struct build *build, const struct store_rows *rows);

static int take_each(struct build *build, const char *sql, const struct store_value *values,
                     size_t n_values, take_fn *take) {
    struct store_rows *rows = NULL;
    int error = store_query(build->tx, sql, values, n_values, &rows);
    if (error != 0)
        return error;
    while (error == 0 && store_rows_next(rows))
        error = take(build, rows);
    int ended = store_rows_end(rows);
    return error != 0 ? error : ended;
}

/* What cannot be read gives nothing: 0 all the same. */
static int read_rights(struct build *build, struct slice json, struct policy_rights **ret_rights) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(REASON);
    int error = policy_rights_read(build->reader, json, ret_rights, &reason);
    if (error > 0) {
        *ret_rights = policy_rights_ref(build->directory->nothing);
        error = 0;
    }
    return error;
}

static int take_role(struct build *build, const struct store_rows *rows) {
    struct directory *directory = build->directory;
    struct role role = {0};
    void *roles = directory->roles;
    int error = make_room(&roles, directory->n_roles, &directory->cap_roles, sizeof role);
    directory->roles = roles;
    if (error == 0)
        error = keep(&directory->arena, store_rows_text(rows, 0), &role.id);
    if (error == 0)
        error = keep(&directory->arena, store_rows_text(rows, 1), &role.name);
    if (error == 0)
        error = read_rights(build, store_rows_text(rows, 2), &role.rights);
    if (error == 0)
        directory->roles[directory->n_roles++] = role;
    return error;
}

static int compare_roles(const void *a, const void *b) {
    const struct role *one = a, *other = b;
    return slice_cmp(one->name, other->name);
}

static void *as_value(size_t index) {
    return (void *)(uintptr_t)(index + 1);
}

static bool find_role(const struct build *build, struct slice id, size_t *ret_index) {
    uintptr_t found = (uintptr_t)map_get(&build->roles, id);
    *ret_index = found - 1;
    return found != 0;
}

static int load_roles(struct build *build) {
    struct directory *directory = build->directory;
    int error = take_each(build, "SELECT id, name, rights FROM roles", NULL, 0, take_role);
    if (error != 0)
        return error;
    if (directory->n_roles != 0)
        qsort(directory->roles, directory->n_roles, sizeof *directory->roles, compare_roles);
    for (size_t i = 0; error == 0 && i < directory->n_roles; i++)
        error = map_set(&build->roles, directory->roles[i].id, as_value(i));
    return error;
}

static int take_group(struct build *build, const struct store_rows *rows) {
    struct directory *directory = build->directory;
    size_t role;
    if (!find_role(build, store_rows_text(rows, 0), &role))
        return 0;
    struct group_role *node = arena_alloc(&directory->arena, sizeof *node);
    if (node == NULL)
        return -ENOMEM;
    *node = (struct group_role){map_get(&directory->groups, store_rows_text(rows, 1)), role};
    return map_set(&directory->groups, store_rows_text(rows, 1), node);
}

static int load_groups(struct build *build) {
    return take_each(build, "SELECT role_id, group_name FROM role_groups", NULL, 0, take_group);
}

static int take_user(struct build *build, const struct store_rows *rows) {
    struct arena *arena = &build->directory->arena;
    build->directory->has_users = true;
    if (store_rows_number(rows, 2) != 0)
        return 0;
    struct user *user = arena_alloc(arena, sizeof *user);
    if (user == NULL || keep(arena, store_rows_text(rows, 0), &user->id) != 0 ||
        keep(arena, store_rows_text(rows, 1), &user->name) != 0)
        return -ENOMEM;
    user->set = build->none;
    return map_set(&build->users, user->id, user);
}

static int load_users(struct build *build) {
    return take_each(build, "SELECT id, name, is_disabled FROM users", NULL, 0, take_user);
}

/* --- roles of users --- */

static int compare_indexes(const void *a, const void *b) {
    const size_t *one = a, *other = b;
    return (*one > *other) - (*one < *other);
}

/* Of the picked roles; it belongs to the directory as soon as it has rights. */
static int make_set(struct build *build, struct role_set **ret_set) {
    struct directory *directory = build->directory;
    size_t n = build->n_picked;
    struct role_set *set = arena_alloc(&directory->arena, sizeof *set);
    struct slice *names = arena_alloc_array(&directory->arena, n, sizeof *names);
    const struct policy_rights **rights =
        arena_alloc_array(&directory->arena, n, sizeof(const struct policy_rights *));
    if (set == NULL || names == NULL || rights == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        names[i] = directory->roles[build->picked[i]].name;
        rights[i] = directory->roles[build->picked[i]].rights;
    }
    *set = (struct role_set){.next = directory->sets, .names = names, .n = n};
    int error = policy_rights_union(rights, n, &set->rights);
    if (error != 0)
        return error < 0 ? error : -EINVAL;
    directory->sets = set;
    *ret_set = set;
    return 0;
}

static int need_set(struct build *build, struct role_set **ret_set) {
    if (build->n_picked != 0)
        qsort(build->picked, build->n_picked, sizeof *build->picked, compare_indexes);
    struct slice key = slice_make(build->picked, build->n_picked * sizeof *build->picked);
    struct role_set *set = map_get(&build->sets, key);
    int error = 0;
    if (set == NULL)
        error = make_set(build, &set);
    if (error == 0)
        error = map_set(&build->sets, key, set);
    if (error == 0)
        *ret_set = set;
    return error;
}

/* All roles of one user are picked. */
static int finish_user(struct build *build) {
    struct role_set *set = NULL;
    if (build->user == NULL)
        return 0;
    int error = need_set(build, &set);
    if (error == 0)
        build->user->set = set;
    build->user = NULL;
    build->n_picked = 0;
    return error;
}

static int take_user_role(struct build *build, const struct store_rows *rows) {
    struct slice id = store_rows_text(rows, 0);
    size_t role;
    int error = 0;
    if (build->user == NULL || !slice_eq(build->user->id, id)) {
        error = finish_user(build);
        build->user = map_get(&build->users, id);
    }
    if (error != 0 || build->user == NULL || !find_role(build, store_rows_text(rows, 1), &role))
        return error;
    void *picked = build->picked;
    error = make_room(&picked, build->n_picked, &build->cap_picked, sizeof *build->picked);
    build->picked = picked;
    if (error == 0)
        build->picked[build->n_picked++] = role;
    return error;
}

static int load_user_roles(struct build *build) {
    int error = take_each(build, "SELECT user_id, role_id FROM user_roles ORDER BY user_id", NULL,
                          0, take_user_role);
    return error == 0 ? finish_user(build) : error;
}

/* --- tokens --- */

static int hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool read_digest(struct slice text, unsigned char digest[DIGEST]) {
    if (text.len != 2 * DIGEST)
        return false;
    for (size_t i = 0; i < DIGEST; i++) {
        int high = hex_value(text.ptr[2 * i]), low = hex_value(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static int make_limited(struct build *build, const struct role_set *set, struct slice json,
                        struct limited **ret_limited) {
    struct directory *directory = build->directory;
    struct policy_rights *own = NULL;
    struct limited *limited = arena_alloc(&directory->arena, sizeof *limited);
    int error = limited != NULL ? read_rights(build, json, &own) : -ENOMEM;
    if (error != 0)
        return error;
    *limited = (struct limited){.next = directory->limited};
    error = policy_rights_meet(set->rights, own, &limited->rights);
    policy_rights_unref(own);
    if (error != 0)
        return error < 0 ? error : -EINVAL;
    directory->limited = limited;
    *ret_limited = limited;
    return 0;
}

/* What the token says within what its user has; each pair of them is computed once. */
static int limit_rights(struct build *build, const struct role_set *set, struct slice json,
                        struct policy_rights **ret_rights) {
    struct limited *limited = NULL;
    CLEANUP(buf_deinit) struct buf key = BUF_INIT(MIB(16));
    if (json.len == 0) {
        *ret_rights = set->rights;
        return 0;
    }
    buf_append(&key, slice_make(&set, sizeof(const struct role_set *)));
    int error = buf_append(&key, json);
    if (error != 0)
        return error;
    limited = map_get(&build->limited, buf_slice(&key));
    if (limited == NULL)
        error = make_limited(build, set, json, &limited);
    if (error == 0)
        error = map_set(&build->limited, buf_slice(&key), limited);
    if (error == 0)
        *ret_rights = limited->rights;
    return error;
}

static int take_token(struct build *build, const struct store_rows *rows) {
    struct directory *directory = build->directory;
    const struct user *user = map_get(&build->users, store_rows_text(rows, 1));
    struct entry entry = {0};
    struct directory_token *token = &entry.token;
    if (user == NULL || !read_digest(store_rows_text(rows, 4), entry.digest) ||
        slice_to_cstr(store_rows_text(rows, 0), token->id, sizeof token->id) != 0)
        return 0;
    int64_t expires = store_rows_number(rows, 6);
    token->user_id = user->id;
    token->user_name = user->name;
    token->roles = user->set->names;
    token->n_roles = user->set->n;
    token->expires_ms = expires > 0 ? (uint64_t)expires : UINT64_MAX;
    void *entries = directory->entries;
    int error = make_room(&entries, directory->n_entries, &directory->cap_entries, sizeof entry);
    directory->entries = entries;
    if (error == 0)
        error = keep(&directory->arena, store_rows_text(rows, 2), &token->name);
    if (error == 0)
        error = keep(&directory->arena, store_rows_text(rows, 3), &token->prefix);
    if (error == 0)
        error = limit_rights(build, user->set, store_rows_text(rows, 5), &token->rights);
    if (error == 0)
        directory->entries[directory->n_entries++] = entry;
    return error;
}

/* Where the search for a digest begins, and what tells it from others there. */
static size_t first_place(const struct directory *directory, const unsigned char digest[DIGEST],
                          uint32_t *ret_tag) {
    uint64_t head;
    memcpy(&head, digest, sizeof head);
    *ret_tag = (uint32_t)(head >> 32);
    return (size_t)head & (directory->n_places - 1);
}

static void put_entry(struct directory *directory, size_t index) {
    uint32_t tag;
    size_t at = first_place(directory, directory->entries[index].digest, &tag);
    while (directory->places[at].entry != 0)
        at = (at + 1) & (directory->n_places - 1);
    directory->places[at] = (struct place){tag, (uint32_t)(index + 1)};
}

static int load_tokens(struct build *build) {
    struct directory *directory = build->directory;
    int error = take_each(build,
                          "SELECT id, user_id, name, prefix, digest, rights, expires_ms"
                          " FROM tokens",
                          NULL, 0, take_token);
    if (error != 0)
        return error;
    if (directory->n_entries > UINT32_MAX / 4)
        return -ENOMEM;
    directory->n_places = 1;
    while (directory->n_places < 2 * directory->n_entries)
        directory->n_places *= 2;
    directory->places = mem_alloc(directory->n_places * sizeof *directory->places);
    if (directory->places == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < directory->n_entries; i++)
        put_entry(directory, i);
    return 0;
}

/* --- edit mode --- */

static int take_window(struct build *build, const struct store_rows *rows) {
    struct directory *directory = build->directory;
    struct window window = {.until_ms = (uint64_t)store_rows_number(rows, 2)};
    if (!accounts_find_scope(store_rows_text(rows, 0), &window.scope))
        return 0;
    bool is_of_role = window.scope == ACCOUNTS_EDIT_ROLE;
    if (is_of_role && store_rows_is_null(rows, 3))
        return 0; /* which is gone */
    void *windows = directory->windows;
    int error = make_room(&windows, directory->n_windows, &directory->cap_windows, sizeof window);
    directory->windows = windows;
    if (error == 0)
        error = keep(&directory->arena, store_rows_text(rows, is_of_role ? 3 : 1), &window.name);
    if (error == 0)
        directory->windows[directory->n_windows++] = window;
    return error;
}

static int load_windows(struct build *build) {
    return take_each(build,
                     "SELECT w.scope, w.name, w.until_ms, r.name FROM edit_windows w"
                     " LEFT JOIN roles r ON w.scope = 'role' AND r.id = w.name"
                     " WHERE w.until_ms > $1",
                     STORE_VALUES(store_number((int64_t)build->directory->now_ms)), take_window);
}

/* Before it is asked how late it is: the time in between then counts for later, and what closes
 * does not do so too late. */
static int load_clock(struct build *build) {
    build->directory->boot_ms = clock_boot_ms();
    return store_now_ms(build->tx, &build->directory->now_ms);
}

/* --- all of it --- */

static int begin(struct build *build) {
    struct role_set *none = NULL;
    int error = json_reader_new(&build->reader);
    if (error == 0)
        error = policy_rights_union(NULL, 0, &build->directory->nothing);
    if (error == 0)
        error = need_set(build, &none);
    build->none = none;
    return error <= 0 ? error : -EINVAL;
}

static int fill(struct build *build) {
    static int (*const steps[])(struct build *) = {
        begin,      load_clock,      load_roles,  load_groups,
        load_users, load_user_roles, load_tokens, load_windows,
    };
    int error = 0;
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(steps); i++)
        error = steps[i](build);
    return error;
}

int directory_load(struct store_tx *tx, struct directory **ret_directory) {
    struct directory *directory = mem_alloc(sizeof *directory);
    if (directory == NULL)
        return -ENOMEM;
    atomic_init(&directory->refs, 1);
    arena_init(&directory->arena, LIMIT_DIRECTORY);
    map_init(&directory->groups);
    struct build build = {.directory = directory, .tx = tx};
    struct map *const maps[] = {&build.users, &build.roles, &build.sets, &build.limited};
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        map_init(maps[i]);
    int error = fill(&build);
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        map_deinit(maps[i]);
    mem_free(build.picked);
    json_reader_free(build.reader);
    if (error == 0)
        *ret_directory = directory;
    else
        free_directory(directory);
    return error;
}

/* --- look-ups --- */

const struct directory_token *directory_find_token(const struct directory *directory,
                                                   const unsigned char digest[32]) {
    uint32_t tag;
    size_t at = first_place(directory, digest, &tag);
    for (; directory->places[at].entry != 0; at = (at + 1) & (directory->n_places - 1)) {
        const struct entry *entry = &directory->entries[directory->places[at].entry - 1];
        if (directory->places[at].tag == tag && memcmp(entry->digest, digest, DIGEST) == 0)
            return &entry->token;
    }
    return NULL;
}

/* Which roles the groups have: a mark for each. */
static size_t mark_roles(const struct directory *directory, const struct slice *groups,
                         size_t n_groups, bool *marks) {
    size_t n = 0;
    for (size_t i = 0; i < n_groups; i++) {
        const struct group_role *node = map_get(&directory->groups, groups[i]);
        for (; node != NULL; node = node->next) {
            n += !marks[node->role];
            marks[node->role] = true;
        }
    }
    return n;
}

static int unite(const struct directory *directory, const bool *marks, size_t n,
                 struct policy_rights **ret_rights) {
    const struct policy_rights **parts = mem_alloc(n * sizeof(const struct policy_rights *));
    size_t n_parts = 0;
    if (parts == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < directory->n_roles; i++) {
        if (marks[i])
            parts[n_parts++] = directory->roles[i].rights;
    }
    int error = policy_rights_union(parts, n_parts, ret_rights);
    mem_free(parts);
    return error;
}

int directory_group_rights(const struct directory *directory, const struct slice *groups,
                           size_t n_groups, struct policy_rights **ret_rights,
                           struct slice *ret_roles, size_t most, size_t *ret_n_roles) {
    bool *marks = mem_alloc(directory->n_roles * sizeof *marks);
    struct policy_rights *rights = NULL;
    size_t n_roles = 0;
    if (marks == NULL)
        return -ENOMEM;
    size_t n = mark_roles(directory, groups, n_groups, marks);
    int error = n != 0 ? unite(directory, marks, n, &rights) : 0;
    for (size_t i = 0; error == 0 && i < directory->n_roles && n_roles < most; i++) {
        if (marks[i] && ret_roles != NULL)
            ret_roles[n_roles++] = directory->roles[i].name;
    }
    mem_free(marks);
    if (error != 0)
        return error;
    *ret_rights = rights;
    if (ret_n_roles != NULL)
        *ret_n_roles = n_roles;
    return 0;
}

bool directory_has_users(const struct directory *directory) {
    return directory->has_users;
}

static bool is_among(struct slice name, const struct slice *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (slice_eq(names[i], name))
            return true;
    }
    return false;
}

uint64_t directory_edit_until(const struct directory *directory, struct slice upstream,
                              const struct slice *roles, size_t n_roles) {
    uint64_t until = 0;
    for (size_t i = 0; i < directory->n_windows; i++) {
        const struct window *window = &directory->windows[i];
        bool is_for_it = false;
        switch (window->scope) {
        case ACCOUNTS_EDIT_ALL:
            is_for_it = true;
            break;
        case ACCOUNTS_EDIT_ROLE:
            is_for_it = is_among(window->name, roles, n_roles);
            break;
        case ACCOUNTS_EDIT_UPSTREAM:
            is_for_it = slice_eq(window->name, upstream);
            break;
        }
        if (is_for_it && window->until_ms > until)
            until = window->until_ms;
    }
    return until;
}

uint64_t directory_now_ms(const struct directory *directory, uint64_t boot_ms) {
    uint64_t gone = boot_ms > directory->boot_ms ? boot_ms - directory->boot_ms : 0;
    return directory->now_ms + gone;
}

uint64_t directory_next_close_ms(const struct directory *directory) {
    uint64_t next = 0;
    for (size_t i = 0; i < directory->n_windows; i++) {
        if (next == 0 || directory->windows[i].until_ms < next)
            next = directory->windows[i].until_ms;
    }
    return next;
}
