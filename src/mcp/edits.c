#include "edits.h"

#include <assert.h>

void edits_add(struct edits *edits, struct slice span, struct slice replacement) {
    size_t at = edits->n++;
    assert(at < EDITS_MAX);
    for (; at > 0; at--) {
        struct slice before = edits->items[at - 1].span;
        if (before.ptr < span.ptr || (before.ptr == span.ptr && (before.len == 0 || span.len != 0)))
            break;
        edits->items[at] = edits->items[at - 1];
    }
    edits->items[at] = (struct mcp_edit){.span = span, .replacement = replacement};
}

void edits_insert(struct edits *edits, const char *at, struct slice text) {
    edits_add(edits, slice_make(at, 0), text);
}

static void take_out(struct edits *edits, const char *begin, const char *end) {
    edits_add(edits, slice_make(begin, (size_t)(end - begin)), SLICE_EMPTY);
}

static bool is_gone(const struct json_node *member, const struct edits_keys *gone) {
    for (size_t i = 0; i < gone->n; i++) {
        if (json_key_is(member, gone->keys[i]))
            return !gone->is_kept;
    }
    return gone->is_kept;
}

void edits_members(struct edits *edits, const struct json_reader *reader,
                   const struct json_node *object, const struct edits_keys *gone,
                   struct buf *members) {
    const char *run = NULL;  /* where a row of members that go begins */
    const char *last = NULL; /* the end of the member in front */
    bool has_kept = false;
    for (const struct json_node *node = json_first(reader, object); node != NULL;
         node = json_next(reader, node)) {
        const char *begin = node->key.ptr - 1; /* its quote */
        if (is_gone(node, gone)) {
            /* The comma in front goes too; of the first members, the one behind. */
            if (run == NULL)
                run = has_kept ? last : begin;
        } else {
            if (run != NULL)
                take_out(edits, run, has_kept ? last : begin);
            run = NULL;
            has_kept = true;
        }
        last = node->raw.ptr + node->raw.len;
    }
    if (run != NULL)
        take_out(edits, run, last);
    if (buf_len(members) == 0)
        return;
    if (has_kept)
        buf_append_byte(members, ',');
    edits_insert(edits, object->raw.ptr + 1, buf_slice(members));
}
