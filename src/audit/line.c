/*
 * Lines of a trail. Both directions meet in one function, read_parts(): what is written is read
 * again before it is given out, so that nothing gets into a trail that a verifier would call
 * foreign, whatever a caller handed over.
 *
 * The end of a line has a fixed length, and is looked for at the end: a body may have `,"hash"` in
 * it as often as it likes. A line has no control character (JSON, RFC 8259 section 7, has to escape
 * them), so it ends where the first line end is.
 */
#include "audit/line.h"

#include <errno.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/base64.h"
#include "base/limits.h"
#include "base/mem.h"
#include "own.h"
#include "sha256.h"
#include "words.h"

static const struct slice seq_key = SLICE_INIT("{\"seq\":");
static const struct slice time_key = SLICE_INIT("\"time\":\"");
static const struct slice event_key = SLICE_INIT("\",\"event\":\"");
static const struct slice hash_key = SLICE_INIT(",\"hash\":\"");

enum { SEQ_CHARS = 20 };

/* --- hashing --- */

struct audit_hasher {
    struct sha256 hash;
};

int audit_hasher_new(struct audit_hasher **ret_hasher) {
    struct audit_hasher *hasher = mem_alloc(sizeof *hasher);
    if (hasher == NULL)
        return -ENOMEM;
    *ret_hasher = hasher;
    return 0;
}

struct audit_hasher *audit_hasher_free(struct audit_hasher *hasher) {
    mem_free(hasher);
    return NULL;
}

void audit_hasher_freep(struct audit_hasher **hasher) {
    *hasher = audit_hasher_free(*hasher);
}

int audit_hash(struct audit_hasher *hasher, const unsigned char previous[AUDIT_HASH],
               struct slice covered, unsigned char ret_hash[AUDIT_HASH]) {
    sha256_init(&hasher->hash);
    sha256_update(&hasher->hash, slice_make(previous, AUDIT_HASH));
    sha256_update(&hasher->hash, covered);
    sha256_final(&hasher->hash, ret_hash);
    return 0;
}

/* --- hashes as text (RFC 4648 section 5, without padding) --- */

void audit_bytes_write(const unsigned char *bytes, size_t n, char *text) {
    base64url_write(text, slice_make(bytes, n));
}

void audit_hash_write(const unsigned char hash[AUDIT_HASH], char text[AUDIT_HASH_CHARS]) {
    audit_bytes_write(hash, AUDIT_HASH, text);
}

/* One more than the value; 0: none. */
static const unsigned char values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64,
};

/* The bits of up to four characters; from bit 24 on they are set when one of them is none. */
static uint32_t bits_of(const unsigned char *text, size_t n) {
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits = (bits << 6) | (values[text[i]] - UINT32_C(1)); /* none: all ones */
    }
    return bits;
}

/* Returns what has to be 0: one spelling only. */
static uint32_t decode(struct slice text, unsigned char *bytes) {
    const unsigned char *from = (const unsigned char *)text.ptr;
    uint32_t wrong = 0;
    size_t left = text.len;
    for (; left >= 4; left -= 4, from += 4) {
        uint32_t bits = bits_of(from, 4);
        wrong |= bits >> 24;
        *bytes++ = (unsigned char)(bits >> 16);
        *bytes++ = (unsigned char)(bits >> 8);
        *bytes++ = (unsigned char)bits;
    }
    uint32_t bits = bits_of(from, left);
    wrong |= bits >> 24;
    if (left == 1)
        return 1;
    if (left == 2) {
        *bytes = (unsigned char)(bits >> 4);
        return wrong | (bits & 15);
    }
    if (left == 3) {
        *bytes++ = (unsigned char)(bits >> 10);
        *bytes = (unsigned char)(bits >> 2);
        return wrong | (bits & 3);
    }
    return wrong;
}

bool audit_bytes_read(struct slice text, unsigned char *ret_bytes, size_t n) {
    unsigned char bytes[AUDIT_SIGNATURE];
    if (n > sizeof bytes || text.len != AUDIT_BYTES_CHARS(n) || decode(text, bytes) != 0)
        return false;
    memcpy(ret_bytes, bytes, n);
    return true;
}

bool audit_hash_read(struct slice text, unsigned char ret_hash[AUDIT_HASH]) {
    return audit_bytes_read(text, ret_hash, AUDIT_HASH);
}

/* --- reading --- */

static bool refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return false;
}

#if defined(__SSE2__)
enum { BLOCK = 16 };

static inline __m128i lesser(__m128i least, const char *ptr) {
    return _mm_min_epu8(least, _mm_loadu_si128((const __m128i *)(const void *)ptr));
}

/* Of a block and more: the least byte at each of its places tells. */
static bool blocks_have_control(struct slice text) {
    const char *last = text.ptr + text.len - BLOCK; /* has bytes of the one before */
    __m128i least = lesser(_mm_set1_epi8(-1), last);
    for (const char *at = text.ptr; at < last; at += BLOCK)
        least = lesser(least, at);
    __m128i is_control =
        _mm_cmpeq_epi8(_mm_subs_epu8(least, _mm_set1_epi8(0x1f)), _mm_setzero_si128());
    return _mm_movemask_epi8(is_control) != 0;
}
#else
enum { WORDS = 8, BLOCK = WORDS * WORD_BYTES };

static bool block_has_control(const char *ptr) {
    uint64_t found = 0;
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t word = word_at(ptr + i * WORD_BYTES);
        found |= word_controls(word) & ~word;
    }
    return (found & UINT64_C(0x8080808080808080)) != 0;
}

static bool blocks_have_control(struct slice text) {
    const char *last = text.ptr + text.len - BLOCK; /* has bytes of the one before */
    bool has = block_has_control(last);
    for (const char *at = text.ptr; at < last && !has; at += BLOCK)
        has = block_has_control(at);
    return has;
}
#endif

static bool has_control(struct slice text) {
    const uint64_t each = UINT64_C(0x8080808080808080);
    size_t i = 0;
    if (text.len >= BLOCK)
        return blocks_have_control(text);
    for (; i + WORD_BYTES <= text.len; i += WORD_BYTES) {
        uint64_t word = word_at(text.ptr + i);
        if ((word_controls(word) & ~word & each) != 0)
            return true;
    }
    for (; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] < 0x20)
            return true;
    }
    return false;
}

/* Decimal as it is written: no zero in front, not 0, and what fits. */
static bool read_seq(struct slice digits, uint64_t *ret_seq) {
    return digits.len != 0 && digits.len <= SEQ_CHARS && digits.ptr[0] != '0' &&
           slice_to_u64(digits, ret_seq) == 0;
}

static bool is_event(struct slice name) {
    if (name.len == 0 || name.len > AUDIT_EVENT_CHARS)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        if ((name.ptr[i] < 'a' || name.ptr[i] > 'z') && name.ptr[i] != '-')
            return false;
    }
    return true;
}

static bool read_body(struct slice body, struct audit_line *line, const char **ret_reason) {
    struct slice rest = body;
    if (!slice_starts_with(rest, time_key))
        return refuse(ret_reason, "has no time where it has to be");
    rest = slice_from(rest, time_key.len);
    if (!audit_time_read(slice_sub(rest, 0, AUDIT_TIME_CHARS), &line->time_us))
        return refuse(ret_reason, "has a time that is none");
    rest = slice_from(rest, AUDIT_TIME_CHARS);
    if (!slice_starts_with(rest, event_key))
        return refuse(ret_reason, "has no event where it has to be");
    rest = slice_from(rest, event_key.len);
    size_t end = slice_find_byte(slice_sub(rest, 0, AUDIT_EVENT_CHARS + 1), '"');
    if (end == SIZE_MAX || !is_event(slice_sub(rest, 0, end)))
        return refuse(ret_reason, "has an event that is none");
    if (end + 1 < rest.len && rest.ptr[end + 1] != ',')
        return refuse(ret_reason, "has no comma behind the event");
    line->body = body;
    line->event = slice_sub(rest, 0, end);
    return true;
}

/* All but the end of the line, with the hash. */
static bool read_covered(struct slice covered, struct audit_line *line, const char **ret_reason) {
    if (!slice_starts_with(covered, seq_key))
        return refuse(ret_reason, "does not begin with its number");
    struct slice rest = slice_from(covered, seq_key.len);
    size_t comma = slice_find_byte(slice_sub(rest, 0, SEQ_CHARS + 1), ',');
    if (comma == SIZE_MAX || !read_seq(slice_sub(rest, 0, comma), &line->seq))
        return refuse(ret_reason, "has a number that is none");
    rest = slice_from(rest, comma + 1);
    if (rest.len > LIMIT_AUDIT_BODY)
        return refuse(ret_reason, "is longer than a line can be");
    if (has_control(rest))
        return refuse(ret_reason, "has a control character in it");
    line->covered = covered;
    return read_body(rest, line, ret_reason);
}

bool audit_line_end(struct slice text, struct slice *ret_covered,
                    unsigned char ret_hash[AUDIT_HASH]) {
    if (text.len < AUDIT_LINE_TAIL)
        return false;
    struct slice covered = slice_sub(text, 0, text.len - AUDIT_LINE_TAIL);
    struct slice tail = slice_from(text, covered.len);
    *ret_covered = covered;
    return slice_starts_with(tail, hash_key) && slice_ends_with(tail, SLICE("\"}")) &&
           audit_hash_read(slice_sub(tail, hash_key.len, hash_key.len + AUDIT_HASH_CHARS),
                           ret_hash);
}

int audit_line_read(struct slice text, struct audit_line *ret_line, const char **ret_reason) {
    struct audit_line line = {.seq = 0};
    const char *reason = "does not end with its hash";
    struct slice covered;
    if (!audit_line_end(text, &covered, line.hash) || !read_covered(covered, &line, &reason)) {
        if (ret_reason != NULL)
            *ret_reason = reason;
        return AUDIT_E_LINE;
    }
    *ret_line = line;
    return 0;
}

bool audit_line_follows(struct audit_hasher *hasher, struct audit_chain *chain,
                        const struct audit_line *line) {
    unsigned char hash[AUDIT_HASH];
    if (chain->seq == UINT64_MAX || line->seq != chain->seq + 1 ||
        audit_hash(hasher, chain->hash, line->covered, hash) != 0 ||
        memcmp(hash, line->hash, AUDIT_HASH) != 0)
        return false;
    *chain = (struct audit_chain){.seq = line->seq};
    memcpy(chain->hash, hash, AUDIT_HASH);
    return true;
}

/* --- writing --- */

static char *put(char *at, struct slice bytes) {
    if (bytes.len != 0)
        memcpy(at, bytes.ptr, bytes.len);
    return at + bytes.len;
}

int audit_line_write(struct audit_hasher *hasher, struct audit_chain *chain,
                     const struct slice *pieces, size_t n_pieces, struct buf *out) {
    struct audit_chain next = {.seq = chain->seq + 1};
    struct audit_line line;
    const char *reason;
    char digits[SLICE_U64];
    size_t body_len = 0;
    if (next.seq == 0)
        return -EOVERFLOW;
    for (size_t i = 0; i < n_pieces; i++) {
        if (pieces[i].len > LIMIT_AUDIT_BODY || (body_len += pieces[i].len) > LIMIT_AUDIT_BODY)
            return -EMSGSIZE;
    }
    struct slice seq = slice_of_u64(next.seq, digits);
    size_t covered_len = seq_key.len + seq.len + 1 + body_len;
    char *text = buf_reserve(out, covered_len + AUDIT_LINE_TAIL + 1);
    if (text == NULL)
        return buf_error(out);
    char *at = put(put(put(text, seq_key), seq), SLICE(","));
    for (size_t i = 0; i < n_pieces; i++)
        at = put(at, pieces[i]);
    struct slice covered = slice_make(text, covered_len);
    if (!read_covered(covered, &line, &reason))
        return -EINVAL;
    int error = audit_hash(hasher, chain->hash, covered, next.hash);
    if (error != 0)
        return error;
    at = put(at, hash_key);
    audit_hash_write(next.hash, at);
    put(at + AUDIT_HASH_CHARS, SLICE("\"}\n"));
    buf_commit(out, covered_len + AUDIT_LINE_TAIL + 1);
    *chain = next;
    return 0;
}

/* --- heads --- */

struct slice audit_head_write(const struct audit_chain *chain, char text[AUDIT_HEAD_CHARS + 1]) {
    char digits[SLICE_U64];
    char *at = put(put(text, slice_of_u64(chain->seq, digits)), SLICE(":"));
    audit_hash_write(chain->hash, at);
    at[AUDIT_HASH_CHARS] = '\0';
    return slice_make(text, (size_t)(at - text) + AUDIT_HASH_CHARS);
}

bool audit_head_read(struct slice text, struct audit_chain *ret_chain) {
    static const unsigned char nothing[AUDIT_HASH];
    struct audit_chain chain = {.seq = 0};
    struct slice seq, hash;
    if (!slice_cut(text, ':', &seq, &hash) || !audit_hash_read(hash, chain.hash))
        return false;
    if (slice_eq(seq, SLICE("0")) ? memcmp(chain.hash, nothing, AUDIT_HASH) != 0
                                  : !read_seq(seq, &chain.seq))
        return false;
    *ret_chain = chain;
    return true;
}
