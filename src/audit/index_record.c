/* What of a line the index goes by (index_record.h). */
#include "index_record.h"

#include <errno.h>

static const struct json_want want_groups[] = {{"groups", NULL}, {NULL, NULL}};
static const struct json_want want = {NULL, want_groups};

/* Members that are texts. */
static const struct text_member {
    struct slice key;
    size_t offset;
} text_members[] = {
    {SLICE_INIT("id"), offsetof(struct index_record, id)},
    {SLICE_INIT("user"), offsetof(struct index_record, user)},
    {SLICE_INIT("operation"), offsetof(struct index_record, operation)},
    {SLICE_INIT("upstream_operation"), offsetof(struct index_record, upstream_operation)},
    {SLICE_INIT("upstream"), offsetof(struct index_record, upstream)},
    {SLICE_INIT("status"), offsetof(struct index_record, status)},
    {SLICE_INIT("decision"), offsetof(struct index_record, decision)},
    {SLICE_INIT("address"), offsetof(struct index_record, address)},
    /* A block of addresses, of those who are counted only. */
    {SLICE_INIT("from"), offsetof(struct index_record, address)},
};

/* `scratch` has room for the whole line: what it gives out does not move. */
static struct slice text_of(const struct json_node *node, struct buf *scratch) {
    if (node->type != JSON_STRING)
        return SLICE_EMPTY;
    if (!node->value_escaped)
        return json_string_raw(node);
    size_t before = buf_len(scratch);
    if (json_string_append(scratch, node) != 0)
        return SLICE_EMPTY;
    return slice_from(buf_slice(scratch), before);
}

static void read_groups(const struct json_reader *reader, const struct json_node *array,
                        struct buf *scratch, struct index_record *record) {
    if (array->type != JSON_ARRAY)
        return;
    record->groups_json = array->raw;
    for (const struct json_node *node = json_first(reader, array);
         node != NULL && record->n_groups < INDEX_RECORD_GROUPS; node = json_next(reader, node))
        record->groups[record->n_groups++] = text_of(node, scratch);
}

static void read_member(const struct json_reader *reader, const struct json_node *member,
                        struct buf *scratch, struct index_record *record) {
    if (member->type == JSON_ARRAY && slice_eq(member->key, SLICE("groups"))) {
        read_groups(reader, member, scratch, record);
        return;
    }
    if (member->type != JSON_STRING)
        return;
    for (size_t i = 0; i < ARRAY_LEN(text_members); i++)
        if (slice_eq(member->key, text_members[i].key)) {
            struct slice text = text_of(member, scratch);
            memcpy((char *)record + text_members[i].offset, &text, sizeof text);
            return;
        }
}

static enum index_record_kind kind_of(struct slice event) {
    if (slice_eq(event, SLICE("segment")) || slice_eq(event, SLICE("checkpoint")))
        return INDEX_RECORD_OWN;
    if (slice_eq(event, SLICE("intent")))
        return INDEX_RECORD_INTENT;
    return slice_eq(event, SLICE("outcome")) ? INDEX_RECORD_OUTCOME : INDEX_RECORD_OTHER;
}

int index_record_read(struct json_reader *reader, const struct audit_line *line, struct slice text,
                      struct buf *scratch, struct index_record *ret_record) {
    ret_record->kind = kind_of(line->event);
    ret_record->event = line->event;
    ret_record->id = ret_record->user = ret_record->operation = ret_record->upstream_operation =
        SLICE_EMPTY;
    ret_record->upstream = ret_record->status = ret_record->decision = ret_record->address =
        SLICE_EMPTY;
    ret_record->groups_json = SLICE_EMPTY;
    ret_record->n_groups = 0;
    if (ret_record->kind == INDEX_RECORD_OWN)
        return 0;
    buf_reset(scratch, KIB(256));
    if (buf_reserve(scratch, text.len) == NULL)
        return buf_error(scratch);
    int error = json_read(reader, text, &want, NULL, NULL);
    if (error != 0)
        return error < 0 ? error : 0;
    for (const struct json_node *member = json_first(reader, json_root(reader)); member != NULL;
         member = json_next(reader, member))
        read_member(reader, member, scratch, ret_record);
    return 0;
}
