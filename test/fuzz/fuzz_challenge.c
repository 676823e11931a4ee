/*
 * What must hold for any value of WWW-Authenticate: the parts lie inside it; a challenge has a
 * token68 or parameters, never both; the challenges that were read, written one after the other,
 * are read as the same ones; a parameter's value is the same in whatever case it is asked for, is
 * no longer than what it was read of, and has no byte that a field must not have. A rule that
 * breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "http/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void must_lie_inside(struct slice text, struct slice part) {
    MUST(part.len == 0 || ((uintptr_t)part.ptr >= (uintptr_t)text.ptr &&
                           (uintptr_t)part.ptr + part.len <= (uintptr_t)text.ptr + text.len));
}

static void must_be_field(struct slice value) {
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        MUST((c >= ' ' && c != 0x7f) || c == '\t');
    }
}

static void must_give(const struct http_challenge *challenge, struct slice name,
                      struct slice other) {
    struct buf value CLEANUP(buf_deinit) = BUF_INIT(SIZE_MAX);
    struct buf same CLEANUP(buf_deinit) = BUF_INIT(SIZE_MAX);
    int error = http_challenge_get(challenge, name, &value);
    MUST(error == 0 || error == HTTP_E_ABSENT);
    MUST(http_challenge_get(challenge, other, &same) == error);
    MUST(slice_eq(buf_slice(&value), buf_slice(&same)));
    MUST(buf_len(&value) <= challenge->parameters.len);
    must_be_field(buf_slice(&value));
}

static void must_be_sound(struct slice text, const struct http_challenge *challenge) {
    must_lie_inside(text, challenge->scheme);
    must_lie_inside(text, challenge->token68);
    must_lie_inside(text, challenge->parameters);
    MUST(challenge->scheme.len != 0);
    MUST(challenge->token68.len == 0 || challenge->parameters.len == 0);
    must_give(challenge, SLICE("scope"), SLICE("SCOPE"));
    must_give(challenge, SLICE("error"), SLICE("Error"));
    must_give(challenge, SLICE("resource_metadata"), SLICE("resource_Metadata"));
    must_give(challenge, SLICE("a"), SLICE("A"));
}

static void must_read_again(const struct http_challenge *challenges, size_t n) {
    struct http_challenge again[HTTP_CHALLENGES];
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(SIZE_MAX);
    size_t n_again = 0;
    for (size_t i = 0; i < n; i++) {
        const struct http_challenge *challenge = &challenges[i];
        buf_append(&text, i != 0 ? SLICE(", ") : SLICE_EMPTY);
        buf_append(&text, challenge->scheme);
        if (challenge->token68.len != 0 || challenge->parameters.len != 0)
            buf_append_byte(&text, ' ');
        buf_append(&text, challenge->token68);
        buf_append(&text, challenge->parameters);
    }
    MUST(buf_error(&text) == 0);
    MUST(http_challenges_read(buf_slice(&text), again, &n_again) == 0 && n_again == n);
    for (size_t i = 0; i < n; i++) {
        MUST(slice_eq(challenges[i].scheme, again[i].scheme));
        MUST(slice_eq(challenges[i].token68, again[i].token68));
        MUST(slice_eq(challenges[i].parameters, again[i].parameters));
    }
}

/* The first one of a scheme, behind a field that is not its own and one that is none. */
static void must_find(struct slice text, const struct http_challenge *challenges, size_t n) {
    struct http_field fields[] = {{SLICE("Authenticate"), SLICE("Bearer scope=other")},
                                  {SLICE("WWW-Authenticate"), SLICE("Bearer scope=\"")},
                                  {SLICE("www-authenticate"), text}};
    struct http_head head = {.fields = fields, .n_fields = ARRAY_LEN(fields)};
    struct http_challenge found;
    size_t first = 0;
    while (first < n && !slice_eq_nocase(challenges[first].scheme, SLICE("bearer")))
        first++;
    int error = http_challenge_find(&head, SLICE("Bearer"), &found);
    MUST(error == (first < n ? 0 : HTTP_E_ABSENT));
    MUST(error != 0 || found.scheme.ptr == challenges[first].scheme.ptr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = slice_make(data, size);
    struct http_challenge challenges[HTTP_CHALLENGES];
    size_t n = 0;
    if (size > KIB(64))
        return 0;
    int error = http_challenges_read(text, challenges, &n);
    MUST(error == 0 || error == HTTP_E_CHALLENGE);
    MUST(n <= HTTP_CHALLENGES && (error == 0 || n == 0));
    for (size_t i = 0; i < n; i++)
        must_be_sound(text, &challenges[i]);
    must_read_again(challenges, n);
    must_find(text, challenges, n);
    return 0;
}
