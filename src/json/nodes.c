/* Walking the tape, and what a node holds. */
#include <errno.h>

#include "json/reader.h"
#include "tape.h"
#include "unescape.h"

const struct json_node *json_root(const struct json_reader *reader) {
    return reader->has_document ? &reader->nodes[0] : NULL;
}

const struct json_node *json_first(const struct json_reader *reader,
                                   const struct json_node *container) {
    uint32_t index = (uint32_t)(container - reader->nodes);
    return container->opened && container->next > index + 1 ? &reader->nodes[index + 1] : NULL;
}

const struct json_node *json_next(const struct json_reader *reader, const struct json_node *node) {
    /* Behind the last member comes a sibling of the container, whose parent is another, or nothing.
     */
    if (node->next >= reader->n_nodes || reader->nodes[node->next].parent != node->parent)
        return NULL;
    return &reader->nodes[node->next];
}

const struct json_node *json_member(const struct json_reader *reader,
                                    const struct json_node *object, struct slice key) {
    if (object->type != JSON_OBJECT || !object->opened)
        return NULL;
    const struct json_node *behind = &reader->nodes[object->next];
    for (const struct json_node *node = object + 1; node < behind;
         node = &reader->nodes[node->next]) {
        if (node->key.len == key.len || UNLIKELY(node->key_escaped)) {
            if (json_key_is(node, key))
                return node;
        }
    }
    return NULL;
}

const struct json_node *json_member_typed(const struct json_reader *reader,
                                          const struct json_node *object, struct slice key,
                                          enum json_type type) {
    const struct json_node *node = json_member(reader, object, key);
    return node != NULL && node->type == type ? node : NULL;
}

bool json_key_is(const struct json_node *node, struct slice key) {
    return node->key_escaped ? json_equal_unescaped(node->key, true, key, false)
                             : slice_eq(node->key, key);
}

struct slice json_string_raw(const struct json_node *node) {
    return node->type == JSON_STRING ? slice_make(node->raw.ptr + 1, node->raw.len - 2)
                                     : SLICE_EMPTY;
}

bool json_string_is(const struct json_node *node, struct slice text) {
    return node->type == JSON_STRING &&
           json_equal_unescaped(json_string_raw(node), node->value_escaped, text, false);
}

int json_string_append(struct buf *out, const struct json_node *node) {
    struct slice raw = json_string_raw(node);
    return node->value_escaped ? json_unescape(out, raw) : buf_append(out, raw);
}

int json_to_i64(const struct json_node *node, int64_t *ret_number) {
    struct slice digits = node->raw;
    if (node->type != JSON_NUMBER)
        return -EINVAL;
    bool negative = digits.ptr[0] == '-';
    uint64_t magnitude, max = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    if (slice_to_u64(slice_from(digits, negative ? 1 : 0), &magnitude) != 0 || magnitude > max)
        return -EINVAL;
    if (!negative)
        *ret_number = (int64_t)magnitude;
    else /* one less first: the magnitude of INT64_MIN has no positive int64_t */
        *ret_number = magnitude == 0 ? 0 : -(int64_t)(magnitude - 1) - 1;
    return 0;
}
