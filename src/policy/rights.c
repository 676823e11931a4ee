/*
 * Rights are a tree of lists. What a document says is a list of grants; several roles together are
 * one longer list. What two lists have in common cannot always be written as a list (of "a*" and
 * "*b" it is a*b, but also ab; of longer patterns many more), so it is kept as the pair, and
 * something is allowed when both allow it: that is exact, whatever the patterns are.
 *
 * A pattern is matched part by part between its stars, each part as far to the left as it is found:
 * what is behind it has the most room then, so that no choice has to be taken back, and the time is
 * that of looking once through the text.
 *
 * Whether one pattern covers another is the same question: the other one is the text, and its stars
 * are characters that only a star matches. Whatever they stand for is matched with them, so a yes
 * is always right. Between lists a grant has to be covered by one grant, and something that all of
 * several parts allow by what covers one of them: a no may be wrong there, a yes never.
 */
#include "policy/rights.h"

#include <errno.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "rights_private.h"

enum { MOST_DEPTH = 4 };

/* --- patterns --- */

static bool matches(struct slice pattern, struct slice text) {
    struct slice part, rest;
    if (!slice_cut(pattern, '*', &part, &rest))
        return slice_eq(pattern, text);
    if (!slice_starts_with(text, part))
        return false;
    text = slice_from(text, part.len);
    while (slice_cut(rest, '*', &part, &rest)) {
        size_t at = slice_find(text, part);
        if (at == SIZE_MAX)
            return false;
        text = slice_from(text, at + part.len);
    }
    return slice_ends_with(text, part);
}

static bool is_star(struct slice pattern) {
    return pattern.len == 1 && pattern.ptr[0] == '*';
}

/* --- making and keeping --- */

struct policy_rights *rights_make(enum rights_kind kind, size_t n_grants, size_t n_parts,
                                  size_t text) {
    size_t grants = n_grants * sizeof(struct rights_grant);
    size_t parts = n_parts * sizeof(struct policy_rights *);
    struct policy_rights *rights = mem_alloc(sizeof *rights + grants + parts + text);
    if (rights == NULL)
        return NULL;
    atomic_init(&rights->refs, 1);
    rights->self = rights;
    rights->kind = kind;
    rights->grants = (struct rights_grant *)(void *)(rights + 1);
    rights->parts = (struct policy_rights **)(void *)((char *)rights->grants + grants);
    rights->text = (char *)rights->parts + parts;
    return rights;
}

struct policy_rights *policy_rights_ref(struct policy_rights *rights) {
    atomic_fetch_add_explicit(&rights->refs, 1, memory_order_relaxed);
    return rights;
}

struct policy_rights *policy_rights_unref(struct policy_rights *rights) {
    if (rights == NULL || atomic_fetch_sub_explicit(&rights->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    for (size_t i = 0; i < rights->n_parts; i++)
        policy_rights_unref(rights->parts[i]);
    mem_free(rights);
    return NULL;
}

void rights_unrefp(struct policy_rights **rights) {
    *rights = policy_rights_unref(*rights);
}

static int compare(const void *a, const void *b) {
    const struct rights_grant *left = a, *right = b;
    int order = slice_cmp(left->upstream, right->upstream);
    if (order == 0)
        order = slice_cmp(left->operation, right->operation);
    return order != 0 ? order : (int)right->can_write - (int)left->can_write;
}

void rights_sort(struct policy_rights *rights) {
    size_t kept = 0;
    if (rights->n_grants > 1)
        qsort(rights->grants, rights->n_grants, sizeof rights->grants[0], compare);
    for (size_t i = 0; i < rights->n_grants; i++) {
        const struct rights_grant *grant = &rights->grants[i];
        const struct rights_grant *last = kept != 0 ? &rights->grants[kept - 1] : NULL;
        if (last == NULL || !slice_eq(last->upstream, grant->upstream) ||
            !slice_eq(last->operation, grant->operation))
            rights->grants[kept++] = *grant;
    }
    rights->n_grants = kept;
}

static struct slice copy_text(char **at, struct slice text) {
    struct slice copy = slice_make(*at, text.len);
    if (text.len != 0)
        memcpy(*at, text.ptr, text.len);
    *at += text.len;
    return copy;
}

/* All grants of those that are lists, as one. */
static int merge_lists(const struct policy_rights *const *rights, size_t n,
                       struct policy_rights **ret_list) {
    size_t n_grants = 0, text = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < rights[i]->n_grants; j++)
            text += rights[i]->grants[j].upstream.len + rights[i]->grants[j].operation.len;
        n_grants += rights[i]->n_grants;
    }
    struct policy_rights *list = rights_make(RIGHTS_LIST, n_grants, 0, text);
    if (list == NULL)
        return -ENOMEM;
    char *at = list->text;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < rights[i]->n_grants; j++) {
            const struct rights_grant *grant = &rights[i]->grants[j];
            list->grants[list->n_grants++] = (struct rights_grant){
                .upstream = copy_text(&at, grant->upstream),
                .operation = copy_text(&at, grant->operation),
                .can_write = grant->can_write,
            };
        }
        list->permissions |= rights[i]->permissions;
    }
    rights_sort(list);
    *ret_list = list;
    return 0;
}

static void add_part(struct policy_rights *rights, const struct policy_rights *part) {
    rights->parts[rights->n_parts++] = policy_rights_ref(part->self);
    if (rights->depth < part->depth + 1)
        rights->depth = part->depth + 1;
}

int policy_rights_union(const struct policy_rights *const *rights, size_t n,
                        struct policy_rights **ret_rights) {
    CLEANUP(rights_unrefp) struct policy_rights *list = NULL;
    CLEANUP(rights_unrefp) struct policy_rights *all = NULL;
    size_t n_others = 0;
    uint32_t permissions = 0;
    /* What is no list has no grants. */
    int r = merge_lists(rights, n, &list);
    if (r != 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        n_others += rights[i]->kind != RIGHTS_LIST;
        permissions |= rights[i]->permissions;
    }
    if (n_others == 0) {
        *ret_rights = TAKE(list);
        return 0;
    }
    all = rights_make(RIGHTS_ANY_OF, 0, n_others + 1, 0);
    if (all == NULL)
        return -ENOMEM;
    all->permissions = permissions;
    add_part(all, list);
    for (size_t i = 0; i < n; i++) {
        if (rights[i]->kind != RIGHTS_LIST)
            add_part(all, rights[i]);
    }
    if (all->depth > MOST_DEPTH)
        return -E2BIG;
    *ret_rights = TAKE(all);
    return 0;
}

int policy_rights_meet(const struct policy_rights *a, const struct policy_rights *b,
                       struct policy_rights **ret_rights) {
    CLEANUP(rights_unrefp) struct policy_rights *both = rights_make(RIGHTS_ALL_OF, 0, 2, 0);
    if (both == NULL)
        return -ENOMEM;
    both->permissions = a->permissions & b->permissions;
    add_part(both, a);
    add_part(both, b);
    if (both->depth > MOST_DEPTH)
        return -E2BIG;
    *ret_rights = TAKE(both);
    return 0;
}

/* --- asking --- */

bool policy_rights_have(const struct policy_rights *rights, enum permission permission) {
    return permission < PERMISSION_COUNT && (rights->permissions >> permission & 1u) != 0;
}

/* A question to one grant. */
struct question {
    bool (*grants)(const struct question *question, const struct rights_grant *grant);
    struct slice upstream, operation;
    bool is_write;
};

/* The answer of the tree. */
static bool ask(const struct policy_rights *rights, const struct question *question) {
    bool is_all = rights->kind == RIGHTS_ALL_OF;
    for (size_t i = 0; i < rights->n_grants; i++) {
        if (question->grants(question, &rights->grants[i]))
            return true;
    }
    for (size_t i = 0; i < rights->n_parts; i++) {
        if (ask(rights->parts[i], question) != is_all)
            return !is_all;
    }
    return is_all;
}

static bool grants_operation(const struct question *question, const struct rights_grant *grant) {
    return (grant->can_write || !question->is_write) &&
           matches(grant->upstream, question->upstream) &&
           matches(grant->operation, question->operation);
}

static bool grants_something(const struct question *question, const struct rights_grant *grant) {
    return matches(grant->upstream, question->upstream);
}

static bool grants_all(const struct question *question, const struct rights_grant *grant) {
    return (grant->can_write || !question->is_write) && is_star(grant->operation) &&
           matches(grant->upstream, question->upstream);
}

bool policy_rights_allow(const struct policy_rights *rights, struct slice upstream,
                         struct slice operation, bool is_write) {
    struct question question = {grants_operation, upstream, operation, is_write};
    return ask(rights, &question);
}

bool policy_rights_know(const struct policy_rights *rights, struct slice upstream) {
    struct question question = {grants_something, upstream, SLICE_EMPTY, false};
    return ask(rights, &question);
}

bool policy_rights_allow_all(const struct policy_rights *rights, struct slice upstream,
                             bool is_write) {
    struct question question = {grants_all, upstream, SLICE_EMPTY, is_write};
    return ask(rights, &question);
}

static bool covers(const struct policy_rights *rights, const struct policy_rights *other);

/* Whether all parts cover it, or one does. */
static bool parts_cover(const struct policy_rights *rights, const struct policy_rights *other) {
    bool is_all = rights->kind == RIGHTS_ALL_OF;
    for (size_t i = 0; i < rights->n_parts; i++) {
        if (covers(rights->parts[i], other) != is_all)
            return !is_all;
    }
    return is_all;
}

/* Whether all operations of `other` are operations of `rights`: for a grant it is the question to
 * the patterns as if they were the text. */
static bool covers(const struct policy_rights *rights, const struct policy_rights *other) {
    bool is_one_enough = other->kind == RIGHTS_ALL_OF;
    if (rights == other || parts_cover(rights, other))
        return true;
    if (rights->kind == RIGHTS_ALL_OF)
        return false;
    for (size_t i = 0; i < other->n_grants; i++) {
        const struct rights_grant *grant = &other->grants[i];
        if (!policy_rights_allow(rights, grant->upstream, grant->operation, grant->can_write))
            return false;
    }
    for (size_t i = 0; i < other->n_parts; i++) {
        if (covers(rights, other->parts[i]) == is_one_enough)
            return is_one_enough;
    }
    return !is_one_enough;
}

bool policy_rights_cover(const struct policy_rights *rights, const struct policy_rights *other) {
    return (other->permissions & ~rights->permissions) == 0 && covers(rights, other);
}
