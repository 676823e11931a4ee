/* What records of the index in PostgreSQL are looked for by (shared.h). */
#include <errno.h>

#include "base/limits.h"
#include "base/network.h"
#include "sha256.h"
#include "shared.h"

/* In the database, as first bytes of what is hashed; those of texts are enum index_dim. */
enum { KIND_V4 = 64, KIND_V6 };

/* Blocks of addresses that have a term, from the widest on. What is asked for in between goes by
 * the next wider one, and each record is compared. */
static const unsigned char levels_v4[] = {0, 8, 12, 16, 20, 24, 28, 32};
static const unsigned char levels_v6[] = {0, 32, 40, 48, 56, 64, 96, 128};
_Static_assert(sizeof levels_v4 == sizeof levels_v6, "both have as many");

static int64_t hash(struct slice head, struct slice text) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    struct sha256 state;
    uint64_t number = 0;
    sha256_init(&state);
    sha256_update(&state, head);
    sha256_update(&state, text);
    sha256_final(&state, digest);
    for (size_t i = 0; i < sizeof number; i++)
        number = number << 8 | digest[i];
    return (int64_t)number;
}

int64_t shared_term(enum index_dim dim, struct slice text) {
    const char kind = (char)dim;
    return hash(slice_make(&kind, 1), slice_sub(text, 0, INDEX_TEXT_MOST));
}

/* The first `bits` of it. */
static int64_t address_term(const struct network *network, unsigned bits) {
    const char head[] = {(char)(network->family_bits == NETWORK_V4_BITS ? KIND_V4 : KIND_V6),
                         (char)bits};
    unsigned char bytes[sizeof network->bytes];
    memcpy(bytes, network->bytes, sizeof bytes);
    for (unsigned bit = bits; bit < network->family_bits; bit++)
        bytes[bit / 8] &= (unsigned char)~(0x80u >> bit % 8);
    return hash(slice_make(head, sizeof head), slice_make(bytes, network->family_bits / 8));
}

static const unsigned char *levels_of(const struct network *network) {
    return network->family_bits == NETWORK_V4_BITS ? levels_v4 : levels_v6;
}

size_t shared_terms_of(const struct index_record *record, int64_t terms[SHARED_TERMS]) {
    const struct {
        enum index_dim dim;
        struct slice text;
    } texts[] = {
        {INDEX_EVENT, record->event},         {INDEX_DECISION, record->decision},
        {INDEX_STATUS, record->status},       {INDEX_USER, record->user},
        {INDEX_OPERATION, record->operation}, {INDEX_OPERATION, record->upstream_operation},
        {INDEX_UPSTREAM, record->upstream},
    };
    struct network network;
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].text.len != 0)
            terms[n++] = shared_term(texts[i].dim, texts[i].text);
    for (size_t i = 0; i < record->n_groups; i++)
        if (record->groups[i].len != 0)
            terms[n++] = shared_term(INDEX_GROUP, record->groups[i]);
    if (record->address.len == 0 || !network_parse(record->address, &network))
        return n;
    const unsigned char *levels = levels_of(&network);
    for (size_t i = 0; i < sizeof levels_v4 && levels[i] <= network.bits; i++)
        terms[n++] = address_term(&network, levels[i]);
    return n;
}

int shared_terms_asked(const struct audit_query *query, int64_t terms[SHARED_ASKED],
                       size_t *ret_n) {
    const struct {
        enum index_dim dim;
        struct slice text;
    } texts[] = {
        {INDEX_USER, query->user},           {INDEX_GROUP, query->group},
        {INDEX_OPERATION, query->operation}, {INDEX_UPSTREAM, query->upstream},
        {INDEX_STATUS, query->status},       {INDEX_DECISION, query->decision},
        {INDEX_EVENT, query->event},
    };
    struct network network;
    size_t n = 0, level = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].text.len != 0)
            terms[n++] = shared_term(texts[i].dim, texts[i].text);
    if (query->address.len != 0) {
        if (!network_parse(query->address, &network))
            return FIND_E_ADDRESS;
        const unsigned char *levels = levels_of(&network);
        while (level + 1 < sizeof levels_v4 && levels[level + 1] <= network.bits)
            level++;
        terms[n++] = address_term(&network, levels[level]);
    }
    *ret_n = n;
    return 0;
}

/* --- the records themselves --- */

int shared_matcher_init(struct shared_matcher *matcher) {
    buf_init(&matcher->scratch, KIB(256));
    return json_reader_new(&matcher->reader);
}

void shared_matcher_deinit(struct shared_matcher *matcher) {
    json_reader_free(matcher->reader);
    buf_deinit(&matcher->scratch);
}

static bool is_text(struct slice text, struct slice asked) {
    return asked.len == 0 ||
           slice_eq(slice_sub(text, 0, INDEX_TEXT_MOST), slice_sub(asked, 0, INDEX_TEXT_MOST));
}

static bool has_group(const struct index_record *record, struct slice asked) {
    for (size_t i = 0; i < record->n_groups; i++)
        if (is_text(record->groups[i], asked))
            return true;
    return asked.len == 0;
}

static bool is_in_block(struct slice text, struct slice asked) {
    struct network block, address;
    return asked.len == 0 || (network_parse(asked, &block) && network_parse(text, &address) &&
                              block.family_bits == address.family_bits &&
                              block.bits <= address.bits && network_has(&block, &address));
}

static bool is_it(const struct index_record *record, const struct audit_query *query) {
    return is_text(record->user, query->user) && has_group(record, query->group) &&
           (is_text(record->operation, query->operation) ||
            is_text(record->upstream_operation, query->operation)) &&
           is_text(record->upstream, query->upstream) &&
           is_text(record->decision, query->decision) && is_text(record->event, query->event) &&
           is_in_block(record->address, query->address);
}

MUST_CHECK static int read_record(struct shared_matcher *matcher, struct slice text,
                                  bool *ret_is_read) {
    struct audit_line line;
    *ret_is_read = audit_line_read(text, &line, NULL) == 0;
    return *ret_is_read ? index_record_read(matcher->reader, &line, text, &matcher->scratch,
                                            &matcher->record)
                        : 0;
}

int shared_matches(struct shared_matcher *matcher, const struct audit_query *query,
                   struct slice line, struct slice outcome, bool *ret_matches) {
    bool is_read = false;
    int error = read_record(matcher, line, &is_read);
    *ret_matches = error == 0 && is_read && is_it(&matcher->record, query);
    if (error != 0 || !*ret_matches || query->status.len == 0)
        return error;
    if (outcome.len != 0) /* what came of it is in that one */
        error = read_record(matcher, outcome, &is_read);
    *ret_matches = error == 0 && is_read && is_text(matcher->record.status, query->status);
    return error;
}
