/*
 * What must hold for a set of keys with any input, as a whole set and as what stands in one: it is
 * read twice in the same way; what is used and what is skipped is what there is; a key that is not
 * known changes nothing for the others; and no key makes a signature good that nobody made. A rule
 * that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "jose/jwt.h"
#include "jose/keys.h"
#include "json/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

/* NULL: refused. */
static struct jose_keys *read_set(struct json_reader *reader, struct slice document,
                                  struct jose_keys_report *ret_report) {
    struct jose_keys *keys = NULL;
    struct jose_keys_report report = {.n_used = SIZE_MAX};
    const char *reason = NULL;
    int r = jose_keys_read(reader, document, &keys, &report, &reason);
    MUST(r == 0 || r == JOSE_E_INVALID);
    MUST((r == 0) == (keys != NULL) && (r == 0) == (reason == NULL));
    if (r != 0) {
        MUST(report.n_used == SIZE_MAX);
        return NULL;
    }
    MUST(report.n_used == jose_keys_count(keys));
    MUST(report.n_used + report.n_skipped <= LIMIT_JWKS_KEYS);
    MUST((report.n_skipped > 0) == (report.first_reason != NULL));
    *ret_report = report;
    return keys;
}

/* A token that nobody signed, with a signature of this length. */
static void must_not_verify(struct json_reader *reader, const struct jose_keys *keys,
                            enum jose_algorithm algorithm, size_t len) {
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct buf decoded CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    struct buf header CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    char signature[1024];
    struct jwt jwt;
    const char *reason;
    memset(signature, 1, sizeof signature);
    buf_printf(&header, "{\"alg\":\"%s\"}", jose_algorithm_name(algorithm));
    base64url_encode(&token, buf_slice(&header));
    buf_append_cstr(&token, ".e30.");
    base64url_encode(&token, slice_make(signature, len));
    MUST(jwt_read(reader, buf_slice(&token), &decoded, &jwt, &reason) == 0);
    int r = jwt_verify(&jwt, keys, JOSE_ALL_ALGORITHMS, &reason);
    MUST(r == JWT_E_REFUSED || r == JWT_E_UNKNOWN_KEY);
}

static void must_prove_nothing(struct json_reader *reader, const struct jose_keys *keys) {
    static const struct {
        enum jose_algorithm algorithm;
        size_t len;
    } rows[] = {
        {JOSE_RS256, 256}, {JOSE_RS256, 512}, {JOSE_PS512, 256}, {JOSE_ES256, 64},
        {JOSE_ES384, 96},  {JOSE_ES512, 132}, {JOSE_EDDSA, 64},  {JOSE_HS256, 32},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        must_not_verify(reader, keys, rows[i].algorithm, rows[i].len);
}

static void check_document(struct json_reader *reader, struct slice document) {
    struct jose_keys_report first, second;
    struct jose_keys *keys = read_set(reader, document, &first);
    if (keys == NULL)
        return;
    must_prove_nothing(reader, keys);
    struct jose_keys *again = read_set(reader, document, &second);
    MUST(again != NULL && first.n_used == second.n_used && first.n_skipped == second.n_skipped);
    MUST(first.first_reason == second.first_reason);
    jose_keys_unref(keys);
    jose_keys_unref(again);
}

static void check_jwks(struct json_reader *reader, struct slice jwks) {
    struct buf document CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf more CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct jose_keys_report alone, together;
    buf_append_cstr(&document, "{\"keys\":[");
    buf_append(&document, jwks);
    buf_append(&more, buf_slice(&document));
    buf_append_cstr(&document, "]}");
    buf_append_cstr(&more, ",{\"kty\":\"oct\",\"k\":\"AAAA\"},7]}");
    if (buf_error(&document) != 0 || buf_error(&more) != 0)
        return;
    struct jose_keys *keys = read_set(reader, buf_slice(&document), &alone);
    struct jose_keys *others = read_set(reader, buf_slice(&more), &together);
    if (keys != NULL && others != NULL) {
        MUST(together.n_used == alone.n_used && together.n_skipped == alone.n_skipped + 2);
        must_prove_nothing(reader, others);
    }
    jose_keys_unref(keys);
    jose_keys_unref(others);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    MUST(json_reader_new(&reader) == 0);
    check_document(reader, slice_make(data, size));
    check_jwks(reader, slice_make(data, size));
    return 0;
}
