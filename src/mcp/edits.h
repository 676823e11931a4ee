/* A list of edits for mcp_splice(), kept in order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/slice.h"
#include "json/reader.h"
#include "mcp/message.h"

/* More than any list of this module: each key that is taken out or kept is named in a table. */
#define EDITS_MAX 32u

struct edits {
    struct mcp_edit items[EDITS_MAX];
    size_t n;
};

/* An empty span inserts in front of its first byte, also of what another edit replaces there. */
void edits_add(struct edits *edits, struct slice span, struct slice replacement);
void edits_insert(struct edits *edits, const char *at, struct slice text);

/* Keys of members: those that go, or (`is_kept`) all others. */
struct edits_keys {
    const struct slice *keys;
    size_t n;
    bool is_kept;
};

/*
 * Takes members out of an opened object, commas with them, and puts `members` ("a":1,"b":2, without
 * a comma at the end) in front of what stays. The buffer gets its comma, if it needs one, and must
 * live until the splice.
 */
void edits_members(struct edits *edits, const struct json_reader *reader,
                   const struct json_node *object, const struct edits_keys *gone,
                   struct buf *members);
