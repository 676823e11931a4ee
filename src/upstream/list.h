/* What catalog.c, list_page.c and list_text.c share: how a list is made. */
#pragma once

#include "base/limits.h"
#include "upstream/catalog.h"

/* All definitions of one list together; the same for what else is kept of them. */
#define LIST_BYTES MIB(64)

/* catalog.c */
/* Unescapes a string into the arena. -E2BIG when it is longer than `max`, -ENOMEM. */
MUST_CHECK int catalog_own_string(struct arena *arena, const struct json_node *node, size_t max,
                                  struct slice *ret_owned);
/* CATALOG_E_INVALID: it is no JSON object that can be read. */
MUST_CHECK int catalog_read_object(struct json_reader *reader, struct slice result,
                                   const struct json_want *children, const char **ret_reason);

/* list_text.c */
/* A name as JSON. */
int list_write_token(struct buf *out, struct slice name);
/* Takes the definitions of the items from `from` on over from their page. -ENOMEM: nothing was. */
MUST_CHECK int list_text_add(struct catalog_list *list, size_t from);
/* The text may have moved: points all items at it. */
void list_text_place(struct catalog_list *list);
void list_text_free(struct catalog_list *list);
