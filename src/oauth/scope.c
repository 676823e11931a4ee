/* Sets of scopes, as they are written: words with one space between two of them. Their order is
 * that in which they came, which means nothing. */
#include "base/limits.h"
#include "fetch.h"

/* RFC 6749 section 3.3: %x21 / %x23-5B / %x5D-7E. */
static bool is_scope(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\')
            return false;
    }
    return text.len != 0;
}

static bool next(struct slice *rest, struct slice *ret_word) {
    while (rest->len != 0) {
        slice_cut(*rest, ' ', ret_word, rest);
        if (ret_word->len != 0)
            return true;
    }
    return false;
}

static bool has_word(struct slice set, struct slice word) {
    struct slice at;
    while (next(&set, &at)) {
        if (slice_eq(at, word))
            return true;
    }
    return false;
}

static size_t count(struct slice set) {
    struct slice word;
    size_t n = 0;
    while (next(&set, &word))
        n++;
    return n;
}

int oauth_scopes_add(struct buf *set, struct slice scopes) {
    struct slice word;
    size_t n = count(buf_slice(set));
    while (next(&scopes, &word)) {
        if (has_word(buf_slice(set), word))
            continue;
        if (!is_scope(word) || n == LIMIT_SCOPES)
            return OAUTH_E_INVALID;
        if (n++ != 0)
            buf_append_byte(set, ' ');
        buf_append(set, word);
    }
    return buf_error(set);
}

bool oauth_scopes_has(struct slice set, struct slice scopes) {
    struct slice word;
    while (next(&scopes, &word)) {
        if (!has_word(set, word))
            return false;
    }
    return true;
}
