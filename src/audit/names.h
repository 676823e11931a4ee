/* Names that secrets have: of members, of variables, of header fields. */
#pragma once

#include "base/slice.h"

enum name_kind {
    NAME_HARMLESS,
    NAME_WORD, /* a secret's name that is a word of the language, too: "token", "cookie" */
    NAME_SECRET
};

/* Without regard to case, to anything that is neither a letter nor a digit, and to digits at the
 * end. */
enum name_kind name_kind_of(struct slice name);
static inline bool name_is_secret(struct slice name) {
    return name_kind_of(name) != NAME_HARMLESS;
}
/* Likewise, of a parameter in a query. */
bool name_is_secret_in_query(struct slice name);
