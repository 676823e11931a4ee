/* What rights are made of: rights.c has the algebra, rights_json.c the documents. */
#pragma once

#include <stdatomic.h>

#include "policy/rights.h"

/* Patterns without a star beside a star. */
struct rights_grant {
    struct slice upstream, operation;
    bool can_write;
};

enum rights_kind {
    RIGHTS_LIST,   /* what one of the grants allows */
    RIGHTS_ANY_OF, /* what one of the parts allows */
    RIGHTS_ALL_OF, /* what all parts allow */
};

struct policy_rights {
    atomic_uint refs;
    struct policy_rights *self; /* so that who has it as a constant can keep it, too */
    enum rights_kind kind;
    unsigned depth;       /* of parts within parts; a list has 0 */
    uint32_t permissions; /* bits; those of the parts count no more */
    struct rights_grant *grants;
    size_t n_grants;
    struct policy_rights **parts;
    size_t n_parts;
    char *text; /* of the patterns; in the same block, as grants and parts are */
};

/* With room for so much. NULL: no memory. */
MUST_CHECK struct policy_rights *rights_make(enum rights_kind kind, size_t n_grants, size_t n_parts,
                                             size_t text);
void rights_unrefp(struct policy_rights **rights);
/* Sorted, and of those with the same patterns the one that allows more. */
void rights_sort(struct policy_rights *rights);
