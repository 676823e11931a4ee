/* What of a line the index goes by. */
#pragma once

#include "audit/line.h"
#include "base/limits.h"
#include "json/reader.h"

enum { INDEX_RECORD_GROUPS = 128 }; /* of one record; more are not indexed */

enum index_record_kind {
    INDEX_RECORD_OWN, /* of the trail itself: not looked for */
    INDEX_RECORD_INTENT,
    INDEX_RECORD_OUTCOME,
    INDEX_RECORD_OTHER,
};

struct index_record {
    enum index_record_kind kind;
    struct slice event, id, user, operation, upstream_operation, upstream, status, decision,
        address;
    struct slice groups_json;
    size_t n_groups;
    struct slice groups[INDEX_RECORD_GROUPS];
};

/* Slices of the line or of `scratch`. What is no JSON, or not written as records are, is left out.
 * -ENOMEM. */
MUST_CHECK int index_record_read(struct json_reader *reader, const struct audit_line *line,
                                 struct slice text, struct buf *scratch,
                                 struct index_record *ret_record);
