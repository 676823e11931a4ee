/*
 * The grammar, with the white space and the empty elements that lists may have (RFC 9110 section
 * 5.6.1.2):
 *
 *     #challenge    challenge = scheme [ 1*SP ( token68 / #parameter ) ]
 *                   parameter = token BWS "=" BWS ( token / quoted-string )
 *
 * A word behind a comma begins a challenge, or is a parameter of the one before: it is a parameter
 * if "=" is what follows. "a=" alone can be a token68 only right behind a scheme.
 */
#include "http/challenge.h"

#include "chars.h"

enum { MAX_WORDS = HTTP_CHALLENGE_PARAMETERS };

struct parameter {
    struct slice name;
    struct slice value; /* as it stands: with its quotes */
};

static void skip(struct slice *rest, size_t n) {
    *rest = slice_from(*rest, n);
}

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static void skip_space(struct slice *rest) {
    size_t n = 0;
    while (n < rest->len && is_space(rest->ptr[n]))
        n++;
    skip(rest, n);
}

static void skip_separators(struct slice *rest) {
    size_t n = 0;
    while (n < rest->len && (is_space(rest->ptr[n]) || rest->ptr[n] == ','))
        n++;
    skip(rest, n);
}

static bool is_at_end_of_element(struct slice rest) {
    skip_space(&rest);
    return rest.len == 0 || rest.ptr[0] == ',';
}

/* The length with both quotes; 0: it has no end, or a byte that it must not have. */
static size_t quoted_length(struct slice text) {
    for (size_t i = 1; i < text.len; i++) {
        if (text.ptr[i] == '"')
            return i + 1;
        if (text.ptr[i] == '\\')
            i++;
        if (i < text.len && !char_is(text.ptr[i], CHAR_FIELD))
            return 0;
    }
    return 0;
}

static bool is_token68_byte(char c) {
    return char_is_letter(c) || char_is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~' ||
           c == '+' || c == '/';
}

static size_t token68_length(struct slice text) {
    size_t n = 0;
    while (n < text.len && is_token68_byte(text.ptr[n]))
        n++;
    while (n > 0 && n < text.len && text.ptr[n] == '=')
        n++;
    return n;
}

/* A parameter at the start of *rest, which is behind it afterwards. */
static bool read_parameter(struct slice *rest, struct parameter *ret_parameter) {
    struct slice at = *rest;
    struct slice name = slice_sub(at, 0, char_span(at, CHAR_TOKEN));
    skip(&at, name.len);
    skip_space(&at);
    if (name.len == 0 || at.len == 0 || at.ptr[0] != '=')
        return false;
    skip(&at, 1);
    skip_space(&at);
    size_t len = at.len != 0 && at.ptr[0] == '"' ? quoted_length(at) : char_span(at, CHAR_TOKEN);
    struct slice value = slice_sub(at, 0, len);
    skip(&at, len);
    if (len == 0 || !is_at_end_of_element(at))
        return false;
    *ret_parameter = (struct parameter){.name = name, .value = value};
    *rest = at;
    return true;
}

struct reading {
    struct http_challenge *challenges;
    size_t n;
    struct slice names[MAX_WORDS]; /* of the parameters of the last one */
    size_t n_names;
};

/* Section 11.2: a name is there once in a challenge. */
static bool add_parameter(struct reading *reading, const struct parameter *parameter) {
    if (reading->n == 0 || reading->n_names == MAX_WORDS)
        return false;
    struct http_challenge *challenge = &reading->challenges[reading->n - 1];
    if (challenge->token68.len != 0)
        return false;
    for (size_t i = 0; i < reading->n_names; i++) {
        if (slice_eq_nocase(reading->names[i], parameter->name))
            return false;
    }
    reading->names[reading->n_names++] = parameter->name;
    if (challenge->parameters.len == 0)
        challenge->parameters.ptr = parameter->name.ptr;
    const char *end = parameter->value.ptr + parameter->value.len;
    challenge->parameters.len = (size_t)(end - challenge->parameters.ptr);
    return true;
}

/* A scheme, and a token68 behind it; parameters are left to the caller. */
static bool read_scheme(struct slice *rest, struct reading *reading) {
    struct slice scheme = slice_sub(*rest, 0, char_span(*rest, CHAR_TOKEN));
    if (scheme.len == 0 || reading->n == HTTP_CHALLENGES)
        return false;
    struct http_challenge *challenge = &reading->challenges[reading->n++];
    *challenge = (struct http_challenge){
        .scheme = scheme, .token68 = SLICE_EMPTY, .parameters = SLICE_EMPTY};
    reading->n_names = 0;
    skip(rest, scheme.len);
    if (is_at_end_of_element(*rest))
        return true;
    if (rest->ptr[0] != ' ')
        return false;
    skip_space(rest);
    struct slice token68 = slice_sub(*rest, 0, token68_length(*rest));
    if (token68.len != 0 && is_at_end_of_element(slice_from(*rest, token68.len))) {
        challenge->token68 = token68;
        skip(rest, token68.len);
        return true;
    }
    struct parameter parameter;
    return read_parameter(rest, &parameter) && add_parameter(reading, &parameter);
}

int http_challenges_read(struct slice value,
                         struct http_challenge ret_challenges[static HTTP_CHALLENGES],
                         size_t *ret_n) {
    struct reading reading = {.challenges = ret_challenges};
    struct parameter parameter;
    for (;;) {
        skip_separators(&value);
        if (value.len == 0)
            break;
        bool is_fit = read_parameter(&value, &parameter) ? add_parameter(&reading, &parameter)
                                                         : read_scheme(&value, &reading);
        if (!is_fit)
            return HTTP_E_CHALLENGE;
    }
    *ret_n = reading.n;
    return 0;
}

int http_challenge_find(const struct http_head *head, struct slice scheme,
                        struct http_challenge *ret_challenge) {
    struct http_challenge challenges[HTTP_CHALLENGES];
    for (size_t i = 0; i < head->n_fields; i++) {
        size_t n = 0;
        if (!slice_eq_nocase(head->fields[i].name, SLICE("WWW-Authenticate")) ||
            http_challenges_read(head->fields[i].value, challenges, &n) != 0)
            continue;
        for (size_t k = 0; k < n; k++) {
            if (slice_eq_nocase(challenges[k].scheme, scheme)) {
                *ret_challenge = challenges[k];
                return 0;
            }
        }
    }
    return HTTP_E_ABSENT;
}

static int append_unquoted(struct slice value, struct buf *out) {
    if (value.len == 0 || value.ptr[0] != '"')
        return buf_append(out, value);
    for (size_t i = 1; i + 1 < value.len; i++) {
        if (value.ptr[i] == '\\')
            i++;
        buf_append_byte(out, value.ptr[i]);
    }
    return buf_error(out);
}

int http_challenge_get(const struct http_challenge *challenge, struct slice name, struct buf *out) {
    struct slice rest = challenge->parameters;
    struct parameter parameter;
    for (;;) {
        skip_separators(&rest);
        if (!read_parameter(&rest, &parameter))
            return HTTP_E_ABSENT;
        if (slice_eq_nocase(parameter.name, name))
            return append_unquoted(parameter.value, out);
    }
}
