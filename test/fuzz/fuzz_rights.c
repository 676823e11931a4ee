/*
 * What must hold for any document of rights: what is accepted is written as a document that says
 * the same, has all that it has itself, allows nothing that it does not know, and of two halves of
 * the input each one has what both have in common. The input is one document, or two with an empty
 * line between them. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/limits.h"
#include "policy/rights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static struct policy_rights *read_one(struct json_reader *reader, struct slice json) {
    struct buf reason = BUF_INIT(4096);
    struct policy_rights *rights = NULL;
    int r = policy_rights_read(reader, json, &rights, &reason);
    MUST((r == 0) == (rights != NULL));
    MUST(r == 0 || (r == RIGHTS_E_WRONG && buf_len(&reason) != 0));
    buf_deinit(&reason);
    return rights;
}

static bool covers_both_ways(const struct policy_rights *a, const struct policy_rights *b) {
    return policy_rights_cover(a, b) && policy_rights_cover(b, a);
}

static void check_alone(struct json_reader *reader, const struct policy_rights *rights) {
    static const struct slice names[] = {SLICE_INIT("a"), SLICE_INIT("db-1"), SLICE_INIT("a*b"),
                                         SLICE_INIT("")};
    struct buf out = BUF_INIT(MIB(4)), second = BUF_INIT(MIB(4));
    MUST(policy_rights_write(rights, &out) == 0);
    struct policy_rights *again = read_one(reader, buf_slice(&out));
    MUST(again != NULL);
    MUST(covers_both_ways(rights, again));
    MUST(policy_rights_write(again, &second) == 0 && slice_eq(buf_slice(&out), buf_slice(&second)));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (size_t j = 0; j < sizeof names / sizeof names[0]; j++) {
            bool reads = policy_rights_allow(rights, names[i], names[j], false);
            bool writes = policy_rights_allow(rights, names[i], names[j], true);
            MUST(reads || !writes);
            MUST(!reads || policy_rights_know(rights, names[i]));
            MUST(reads || !policy_rights_allow_all(rights, names[i], false));
        }
    }
    policy_rights_unref(again);
    buf_deinit(&out);
    buf_deinit(&second);
}

static void check_pair(const struct policy_rights *a, const struct policy_rights *b) {
    struct policy_rights *both = NULL, *any = NULL;
    const struct policy_rights *list[] = {a, b};
    MUST(policy_rights_meet(a, b, &both) == 0 && policy_rights_union(list, 2, &any) == 0);
    MUST(policy_rights_cover(a, both) && policy_rights_cover(b, both));
    MUST(policy_rights_cover(any, a) && policy_rights_cover(any, b));
    policy_rights_unref(both);
    policy_rights_unref(any);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice input = slice_make(data, size);
    size_t border = slice_find(input, SLICE("\n\n"));
    struct json_reader *reader = NULL;
    MUST(json_reader_new(&reader) == 0);
    struct policy_rights *a = read_one(reader, slice_sub(input, 0, border)), *b = NULL;
    if (border != SIZE_MAX)
        b = read_one(reader, slice_from(input, border + 2));
    if (a != NULL)
        check_alone(reader, a);
    if (a != NULL && b != NULL)
        check_pair(a, b);
    policy_rights_unref(a);
    policy_rights_unref(b);
    json_reader_free(reader);
    return 0;
}
