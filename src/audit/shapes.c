/*
 * A text is looked at two bytes at a time: what they may begin is looked up in a table with a bit
 * for each first character that a shape has. Nearly all of a usual text is behind after that.
 *
 * Time is linear whatever the text: each try looks at a bounded number of bytes, or at bytes that
 * no other try of its kind looks at again (shape_scan.no_jwt_until and .given_until), or
 * succeeds, and the scan goes on behind it.
 *
 * What is taken for a secret and is none costs a reader of the trail a few words; what is not taken
 * for one and is may cost an account. So where a shape is in doubt it is one, unless words of
 * prose, hashes, UUIDs or images would be, too.
 */
#include "shapes.h"

#include "chars.h"

enum alphabet {
    ALNUM,
    WORDS,     /* and "_" */
    BASE64URL, /* and "-" */
    DOTTED,    /* and "." */
    PADDED,    /* BASE64URL and "=" */
    UPPER,     /* capital letters and digits */
    HEX
};

/* A known prefix, and how many characters stand behind it at least. */
struct token {
    struct slice prefix;
    enum alphabet alphabet;
    unsigned least;
    unsigned flags;
};

enum {
    INSIDE = 1, /* other letters may stand right in front */
    MIXED = 2   /* there is a digit or a capital letter in it, which words have not */
};

static const struct token tokens[] = {
    {SLICE_INIT("cardea_"), BASE64URL, 20, INSIDE},
    /* AWS: ids of keys. */
    {SLICE_INIT("AKIA"), UPPER, 16, INSIDE},
    {SLICE_INIT("ASIA"), UPPER, 16, INSIDE},
    {SLICE_INIT("ABIA"), UPPER, 16, 0},
    {SLICE_INIT("ACCA"), UPPER, 16, 0},
    /* GitHub. */
    {SLICE_INIT("ghp_"), WORDS, 20, INSIDE},
    {SLICE_INIT("gho_"), WORDS, 20, INSIDE},
    {SLICE_INIT("ghu_"), WORDS, 20, INSIDE},
    {SLICE_INIT("ghs_"), DOTTED, 20, INSIDE},
    {SLICE_INIT("ghr_"), WORDS, 20, INSIDE},
    {SLICE_INIT("github_pat_"), WORDS, 20, INSIDE},
    /* GitLab. */
    {SLICE_INIT("glpat-"), DOTTED, 16, INSIDE},
    {SLICE_INIT("gldt-"), DOTTED, 16, 0},
    {SLICE_INIT("glrt-"), DOTTED, 16, 0},
    {SLICE_INIT("glptt-"), DOTTED, 16, 0},
    {SLICE_INIT("glcbt-"), DOTTED, 16, 0},
    {SLICE_INIT("gloas-"), DOTTED, 16, 0},
    {SLICE_INIT("glsoat-"), DOTTED, 16, 0},
    {SLICE_INIT("glft-"), DOTTED, 16, 0},
    {SLICE_INIT("glimt-"), DOTTED, 16, 0},
    {SLICE_INIT("glagent-"), DOTTED, 16, 0},
    /* Slack. */
    {SLICE_INIT("xoxa-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxb-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxc-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxd-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxe-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxe."), DOTTED, 10, INSIDE},
    {SLICE_INIT("xoxo-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxp-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxr-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xoxs-"), BASE64URL, 10, INSIDE},
    {SLICE_INIT("xapp-"), BASE64URL, 20, 0},
    {SLICE_INIT("xwfp-"), BASE64URL, 20, 0},
    /* Google. */
    {SLICE_INIT("AIza"), BASE64URL, 30, INSIDE},
    {SLICE_INIT("GOCSPX-"), BASE64URL, 20, INSIDE},
    {SLICE_INIT("ya29."), DOTTED, 20, INSIDE},
    {SLICE_INIT("1//0"), BASE64URL, 30, 0},
    /* Stripe. */
    {SLICE_INIT("sk_live_"), ALNUM, 10, INSIDE},
    {SLICE_INIT("sk_test_"), ALNUM, 10, INSIDE},
    {SLICE_INIT("rk_live_"), ALNUM, 10, INSIDE},
    {SLICE_INIT("rk_test_"), ALNUM, 10, INSIDE},
    {SLICE_INIT("whsec_"), BASE64URL, 20, 0},
    /* Language models. */
    {SLICE_INIT("sk-"), BASE64URL, 20, MIXED},
    {SLICE_INIT("gsk_"), ALNUM, 20, 0},
    {SLICE_INIT("xai-"), ALNUM, 40, 0},
    {SLICE_INIT("pplx-"), ALNUM, 30, 0},
    {SLICE_INIT("r8_"), ALNUM, 30, 0},
    {SLICE_INIT("tvly-"), BASE64URL, 20, MIXED},
    {SLICE_INIT("hf_"), ALNUM, 30, 0},
    {SLICE_INIT("api_org_"), ALNUM, 30, 0},
    /* Registries. */
    {SLICE_INIT("npm_"), ALNUM, 30, 0},
    {SLICE_INIT("pypi-Ag"), BASE64URL, 30, INSIDE},
    {SLICE_INIT("rubygems_"), HEX, 30, 0},
    {SLICE_INIT("dckr_pat_"), BASE64URL, 20, 0},
    {SLICE_INIT("dckr_oat_"), BASE64URL, 20, 0},
    /* Others. */
    {SLICE_INIT("SG."), DOTTED, 40, 0},
    {SLICE_INIT("gAAAAA"), PADDED, 60, 0}, /* Fernet */
    {SLICE_INIT("AGE-SECRET-KEY-1"), UPPER, 40, INSIDE},
    {SLICE_INIT("hvs."), BASE64URL, 20, 0},
    {SLICE_INIT("hvb."), BASE64URL, 20, 0},
    {SLICE_INIT("hvr."), BASE64URL, 20, 0},
    {SLICE_INIT("dop_v1_"), HEX, 40, 0},
    {SLICE_INIT("doo_v1_"), HEX, 40, 0},
    {SLICE_INIT("dor_v1_"), HEX, 40, 0},
    {SLICE_INIT("shpat_"), HEX, 32, 0},
    {SLICE_INIT("shpca_"), HEX, 32, 0},
    {SLICE_INIT("shppa_"), HEX, 32, 0},
    {SLICE_INIT("shpss_"), HEX, 32, 0},
    {SLICE_INIT("dapi"), HEX, 32, 0},
    {SLICE_INIT("lin_api_"), ALNUM, 30, 0},
    {SLICE_INIT("ntn_"), ALNUM, 30, 0},
    {SLICE_INIT("PMAK-"), BASE64URL, 40, 0},
    {SLICE_INIT("NRAK-"), UPPER, 20, 0},
    {SLICE_INIT("glsa_"), WORDS, 30, 0},
    {SLICE_INIT("glc_"), PADDED, 30, 0},
    {SLICE_INIT("sntrys_"), PADDED, 30, 0},
    {SLICE_INIT("sntryu_"), HEX, 40, 0},
    {SLICE_INIT("dp.pt."), ALNUM, 30, 0},
    {SLICE_INIT("dp.st."), DOTTED, 30, 0},
    {SLICE_INIT("figd_"), BASE64URL, 30, 0},
    {SLICE_INIT("ATATT3xFf"), PADDED, 30, 0},
    {SLICE_INIT("pscale_tkn_"), DOTTED, 20, 0},
    {SLICE_INIT("pscale_pw_"), DOTTED, 20, 0},
    {SLICE_INIT("sbp_"), HEX, 30, 0},
    {SLICE_INIT("sq0atp-"), BASE64URL, 20, 0},
    {SLICE_INIT("sq0csp-"), BASE64URL, 20, 0},
    {SLICE_INIT("pul-"), HEX, 40, 0},
    {SLICE_INIT("SK"), HEX, 32, 0}, /* Twilio */
    {SLICE_INIT("key-"), HEX, 32, 0},
    {SLICE_INIT("LTAI"), ALNUM, 16, 0},
};

_Static_assert(ARRAY_LEN(tokens) <= SHAPES_TOKENS, "their numbers fit");

/* What else begins a shape: the first character, and what may stand behind it; empty: anything. */
static const struct {
    char first;
    const char *second;
} others[] = {
    {'=', ""}, {':', ""}, {'>', ""}, {'-', "-u"}, {'e', "yw"}, {'b', "eEaA"}, {'B', "eEaA"},
};

void shapes_init(struct shapes *shapes) {
    unsigned n_bits = 0;
    *shapes = (struct shapes){0};
    /* Prefixes that begin alike share a bit: there are fewer than 64 first characters. */
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        const char *prefix = tokens[i].prefix.ptr;
        uint64_t *first = &shapes->first[(unsigned char)prefix[0]];
        if (*first == 0)
            *first = UINT64_C(1) << (n_bits++ % 64);
        shapes->second[(unsigned char)prefix[1]] |= *first;
        unsigned char *chain = &shapes->chain[(unsigned char)prefix[0]];
        shapes->next[i + 1] = *chain;
        *chain = (unsigned char)(i + 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        uint64_t *first = &shapes->first[(unsigned char)others[i].first];
        if (*first == 0)
            *first = UINT64_C(1) << (n_bits++ % 64);
        for (const char *c = others[i].second; *c != '\0'; c++)
            shapes->second[(unsigned char)*c] |= *first;
        for (size_t c = 0; c < 256 && others[i].second[0] == '\0'; c++)
            shapes->second[c] |= *first;
    }
}

static bool is_of(enum alphabet alphabet, char c) {
    switch (alphabet) {
    case ALNUM:
        return is_alnum(c);
    case WORDS:
        return is_alnum(c) || c == '_';
    case BASE64URL:
        return is_base64url(c);
    case DOTTED:
        return is_base64url(c) || c == '.';
    case PADDED:
        return is_base64url(c) || c == '=';
    case UPPER:
        return is_digit(c) || is_upper(c);
    case HEX:
        return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    }
    return false;
}

/* Nothing that belongs to a word stands in front: an escape of a URL (%20) may. */
static bool begins_word(struct slice text, size_t at) {
    if (at == 0 || !is_alnum(text.ptr[at - 1]))
        return true;
    return at >= 3 && text.ptr[at - 3] == '%' && is_of(HEX, text.ptr[at - 1]) &&
           is_of(HEX, text.ptr[at - 2]);
}

/* A dot at the end ends a sentence. */
static size_t without_dots(struct slice text, size_t begin, size_t end) {
    while (end > begin && text.ptr[end - 1] == '.')
        end--;
    return end;
}

static bool is_token(const struct token *token, struct slice text, size_t at, size_t *ret_end) {
    struct slice rest = slice_from(text, at);
    if (!slice_starts_with(rest, token->prefix) ||
        ((token->flags & INSIDE) == 0 && !begins_word(text, at)))
        return false;
    size_t begin = at + token->prefix.len, end = begin, least = begin + token->least;
    bool mixed = (token->flags & MIXED) == 0;
    for (; end < text.len && is_of(token->alphabet, text.ptr[end]); end++) {
        mixed = mixed || is_digit(text.ptr[end]) || is_upper(text.ptr[end]);
        /* Words that go on like this are none: it has to show early. */
        if (!mixed && end - begin > 2 * (size_t)token->least)
            return false;
    }
    end = without_dots(text, begin, end);
    if (end < least || !mixed)
        return false;
    *ret_end = end;
    return true;
}

static bool find_token(const struct shapes *shapes, struct slice text, size_t at, size_t *ret_end) {
    unsigned row = shapes->chain[(unsigned char)text.ptr[at]];
    for (; row != 0; row = shapes->next[row]) {
        const struct token *token = &tokens[row - 1];
        if (token->prefix.ptr[1] == text.ptr[at + 1] && is_token(token, text, at, ret_end))
            return true;
    }
    return false;
}

/* --- JWT --- */

static unsigned base64url_value(char c) {
    if (is_upper(c))
        return (unsigned)(c - 'A');
    if (is_digit(c))
        return (unsigned)(c - '0') + 52;
    return c == '-' ? 62 : c == '_' ? 63 : (unsigned)(c - 'a') + 26;
}

/* The header of a JOSE object (RFC 7515 section 4): an object with at least one member. */
static bool is_header(struct slice encoded) {
    enum { LOOKED_AT = 64 };
    unsigned bits = 0, n_bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < encoded.len && i < LOOKED_AT; i++) {
        if (!is_base64url(encoded.ptr[i]))
            return false;
        bits = (bits << 6 | base64url_value(encoded.ptr[i])) & 0xffff;
        n_bits += 6;
        if (n_bits < 8)
            continue;
        n_bits -= 8;
        char c = (char)(bits >> n_bits & 0xff);
        if (n++ == 0 && c != '{')
            return false;
        if (c == '"')
            return true;
        if (n > 1 && !is_space(c))
            return false;
    }
    return false;
}

static bool find_jwt(struct shape_scan *scan, size_t at, size_t *ret_end) {
    enum { SHORTEST_HEADER = 12 };
    struct slice text = scan->text;
    if (at < scan->no_jwt_until || !is_header(slice_from(text, at)))
        return false;
    size_t end = at;
    while (end < text.len && is_base64url(text.ptr[end]))
        end++;
    if (end == text.len || text.ptr[end] != '.' || end - at < SHORTEST_HEADER) {
        scan->no_jwt_until = end;
        return false;
    }
    size_t rest = end;
    while (end < text.len && (is_base64url(text.ptr[end]) || text.ptr[end] == '.'))
        end++;
    end = without_dots(text, rest, end);
    *ret_end = end;
    return end > rest;
}

/* --- private keys (RFC 7468) --- */

static bool find_private_key(struct slice text, size_t at, size_t *ret_end) {
    enum { LONGEST_LABEL = 40 };
    struct slice rest = slice_from(text, at), label = SLICE_EMPTY;
    if (!slice_starts_with(rest, SLICE("-----BEGIN ")))
        return false;
    rest = slice_from(rest, 11);
    while (label.len < rest.len && label.len < LONGEST_LABEL &&
           (is_upper(rest.ptr[label.len]) || is_digit(rest.ptr[label.len]) ||
            rest.ptr[label.len] == ' '))
        label = slice_make(rest.ptr, label.len + 1);
    if (slice_find(label, SLICE("PRIVATE KEY")) == SIZE_MAX)
        return false;
    /* One whose end was cut off goes to the end. */
    *ret_end = text.len;
    size_t last = slice_find(rest, SLICE("-----END "));
    if (last == SIZE_MAX)
        return true;
    struct slice closing = slice_from(rest, last + 9);
    size_t dashes = slice_find(slice_sub(closing, 0, LONGEST_LABEL + 5), SLICE("-----"));
    if (dashes != SIZE_MAX)
        *ret_end = (size_t)(closing.ptr - text.ptr) + dashes + 5;
    return true;
}

/* --- credentials with their scheme (RFC 7617, RFC 6750) --- */

/* "user:password" in Base64. */
static bool is_basic(struct slice encoded) {
    enum { LOOKED_AT = 256 };
    unsigned bits = 0, n_bits = 0;
    bool has_colon = false;
    for (size_t i = 0; i < encoded.len && i < LOOKED_AT && encoded.ptr[i] != '='; i++) {
        char c = encoded.ptr[i];
        unsigned value = c == '+' ? 62 : c == '/' ? 63 : base64url_value(c);
        bits = (bits << 6 | value) & 0xffff;
        n_bits += 6;
        if (n_bits < 8)
            continue;
        n_bits -= 8;
        unsigned byte = bits >> n_bits & 0xff;
        if (byte < ' ' || byte == 0x7f)
            return false;
        has_colon = has_colon || byte == ':';
    }
    return has_colon;
}

static bool is_bearer(struct slice value, bool is_all) {
    enum { SHORT = 8, LONG = 24 };
    bool has_digit = false, has_letter = false;
    for (size_t i = 0; i < value.len; i++) {
        has_digit = has_digit || is_digit(value.ptr[i]);
        has_letter = has_letter || is_alnum(value.ptr[i]);
    }
    return is_all || value.len >= LONG || (value.len >= SHORT && has_digit && has_letter);
}

static bool find_credentials(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end) {
    enum { LONGEST_START = 20 };
    struct slice rest = slice_from(text, at);
    bool basic = slice_starts_with_nocase(rest, SLICE("basic"));
    if ((!basic && !slice_starts_with_nocase(rest, SLICE("bearer"))) || !begins_word(text, at))
        return false;
    size_t begin = at + (basic ? 5 : 6), least = begin + 1;
    if (slice_starts_with(slice_from(text, begin), SLICE("%20")))
        begin += 3;
    while (begin < text.len && begin - at < LONGEST_START &&
           (is_blank(text.ptr[begin]) || text.ptr[begin] == '+'))
        begin++;
    if (begin < least)
        return false;
    size_t end = begin;
    while (end < text.len && (is_base64url(text.ptr[end]) || is_base64(text.ptr[end]) ||
                              text.ptr[end] == '.' || text.ptr[end] == '~'))
        end++;
    bool is_all = at == 0 && end == text.len;
    end = without_dots(text, begin, end);
    struct slice value = slice_sub(text, begin, end);
    if (value.len == 0 || !(basic ? is_basic(value) : is_bearer(value, is_all)))
        return false;
    *ret_begin = begin;
    *ret_end = end;
    return true;
}

/* --- AWS --- */

enum { AWS_ID = 20, AWS_SECRET = 40 };

static bool has_aws_id(struct slice text, struct slice prefix) {
    for (size_t at = 0; at < text.len;) {
        size_t found = slice_find(slice_from(text, at), prefix);
        if (found == SIZE_MAX)
            return false;
        at += found + prefix.len;
        size_t n = 0;
        while (n < AWS_ID - 4 && at + n < text.len && is_of(UPPER, text.ptr[at + n]))
            n++;
        if (n == AWS_ID - 4)
            return true;
    }
    return false;
}

bool shapes_has_aws_id(struct slice text) {
    return text.len > AWS_ID + AWS_SECRET &&
           (has_aws_id(text, SLICE("AKIA")) || has_aws_id(text, SLICE("ASIA")));
}

static bool is_aws_secret(char c) {
    return is_alnum(c) || c == '/' || c == '+';
}

bool shapes_next_aws_secret(struct slice text, size_t from, size_t *ret_begin, size_t *ret_end) {
    for (size_t at = from; at < text.len;) {
        size_t end = at;
        while (end < text.len && is_aws_secret(text.ptr[end]))
            end++;
        if (end - at == AWS_SECRET) {
            *ret_begin = at;
            *ret_end = end;
            return true;
        }
        at = end + 1;
    }
    return false;
}

/* --- the pass --- */

/* Numbers of Telegram's bots stand before the colon; the secret behind it. */
static bool find_bot_token(struct slice text, size_t at, size_t *ret_begin, size_t *ret_end) {
    enum { DIGITS = 8, LETTERS = 35 };
    size_t digits = 0, letters = 0;
    while (digits < DIGITS && digits < at && is_digit(text.ptr[at - 1 - digits]))
        digits++;
    if (digits < DIGITS)
        return false;
    while (letters <= LETTERS && at + 1 + letters < text.len &&
           is_base64url(text.ptr[at + 1 + letters]))
        letters++;
    *ret_begin = at + 1;
    *ret_end = at + 1 + letters;
    return letters == LETTERS;
}

static bool find_given(struct shape_scan *scan, given_find *find, size_t at, size_t *ret_begin,
                       size_t *ret_end) {
    if (at < scan->given_until || !find(scan->text, at, ret_begin, ret_end))
        return false;
    scan->given_until = *ret_end;
    return true;
}

/* *ret_next: where the pass goes on. A value that was found by its name is looked into once more:
 * what begins in it may reach further. */
static bool find_at(struct shape_scan *scan, size_t at, size_t *ret_begin, size_t *ret_end,
                    size_t *ret_next) {
    struct slice text = scan->text;
    bool found;
    *ret_begin = *ret_end = at;
    switch (text.ptr[at]) {
    case ':':
        if (url_password_find(text, at, ret_begin, ret_end)) {
            /* The user's name in front of it is no name that it is given to. */
            if (scan->given_until < *ret_end)
                scan->given_until = *ret_end;
            *ret_next = at + 1;
            return true;
        }
        if (find_bot_token(text, at, ret_begin, ret_end) ||
            find_given(scan, assigned_find, at, ret_begin, ret_end)) {
            *ret_next = at + 1;
            return true;
        }
        return false;
    case '=':
        *ret_next = at + 1;
        return find_given(scan, assigned_find, at, ret_begin, ret_end);
    case '-':
        if (find_private_key(text, at, ret_end)) {
            *ret_next = *ret_end;
            return true;
        }
        *ret_next = at + 1;
        return find_given(scan, flag_find, at, ret_begin, ret_end);
    case '>':
        *ret_next = at + 1;
        return find_given(scan, element_find, at, ret_begin, ret_end);
    case 'b':
    case 'B':
        found = find_credentials(text, at, ret_begin, ret_end);
        *ret_next = *ret_end;
        return found;
    case 'e':
        if (find_jwt(scan, at, ret_end)) {
            *ret_next = *ret_end;
            return true;
        }
        break;
    default:
        break;
    }
    found = find_token(scan->shapes, text, at, ret_end);
    *ret_next = found ? *ret_end : at + 1;
    return found;
}

bool shapes_next(struct shape_scan *scan, size_t *ret_begin, size_t *ret_end) {
    const uint64_t *first = scan->shapes->first, *second = scan->shapes->second;
    const unsigned char *bytes = (const unsigned char *)scan->text.ptr;
    size_t at = scan->at, len = scan->text.len;
    for (; at + 1 < len; at++) {
        size_t next;
        if (LIKELY((first[bytes[at]] & second[bytes[at + 1]]) == 0) ||
            !find_at(scan, at, ret_begin, ret_end, &next))
            continue;
        scan->at = next;
        return true;
    }
    scan->at = len;
    return false;
}
