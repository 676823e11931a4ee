/* Claims: their times (RFC 7519 section 2, NumericDate) and what is asked of them once the
 * signature is proved (RFC 7519 section 4.1, RFC 8725 sections 3.8 to 3.11). */
#include <errno.h>
#include <stdint.h>

#include "private.h"

static const uint64_t max_date = (uint64_t)1 << 53; /* what a double, JSON's usual number, holds */

enum { MAX_EXPONENT = 1000000 };

struct decimal {
    struct slice digits; /* with the point among them, if there is one */
    int64_t point;       /* how many digits stand in front of the point, the exponent applied */
};

static struct decimal take_apart(struct slice number) {
    struct slice exponent;
    size_t e = slice_find_byte(number, 'e');
    if (e == SIZE_MAX)
        e = slice_find_byte(number, 'E');
    struct decimal decimal = {.digits = slice_sub(number, 0, e)};
    size_t dot = slice_find_byte(decimal.digits, '.');
    decimal.point = (int64_t)(dot == SIZE_MAX ? decimal.digits.len : dot);
    if (e == SIZE_MAX)
        return decimal;
    exponent = slice_from(number, e + 1);
    bool is_negative = exponent.ptr[0] == '-';
    if (is_negative || exponent.ptr[0] == '+')
        exponent = slice_from(exponent, 1);
    int64_t value = 0;
    for (size_t i = 0; i < exponent.len && value < MAX_EXPONENT; i++)
        value = value * 10 + (exponent.ptr[i] - '0');
    decimal.point += is_negative ? -value : value;
    return decimal;
}

/* A JSON number, cut to whole seconds, without the detour over a double: 1.5e9 is a number too.
 * False: negative (-0 as well), or beyond 2^53. */
static bool to_seconds(struct slice number, uint64_t *ret_seconds) {
    if (number.ptr[0] == '-')
        return false;
    struct decimal decimal = take_apart(number);
    uint64_t seconds = 0;
    int64_t left = decimal.point;
    for (size_t i = 0; i < decimal.digits.len && left > 0; i++) {
        if (decimal.digits.ptr[i] == '.')
            continue;
        seconds = seconds * 10 + (uint64_t)(decimal.digits.ptr[i] - '0');
        left--;
        if (seconds > max_date)
            return false;
    }
    for (; left > 0 && seconds != 0; left--) {
        seconds *= 10;
        if (seconds > max_date)
            return false;
    }
    *ret_seconds = seconds;
    return true;
}

int jose_read_date(const struct json_reader *reader, const struct json_node *claims,
                   struct slice name, uint64_t *ret_seconds) {
    const struct json_node *node = json_member(reader, claims, name);
    if (node == NULL) {
        *ret_seconds = UINT64_MAX;
        return 0;
    }
    return node->type == JSON_NUMBER && to_seconds(node->raw, ret_seconds) ? 0 : JWT_E_REFUSED;
}

/* --- checking --- */

static bool is_expected(const struct json_node *audience, const struct jwt_rules *rules) {
    for (size_t i = 0; i < rules->n_audiences; i++) {
        if (rules->audiences[i].len > 0 && json_string_is(audience, rules->audiences[i]))
            return true;
    }
    return false;
}

/* RFC 7519 section 4.1.3: a string, or an array of strings; compared byte for byte. The reason to
 * refuse, or NULL. */
static const char *check_audience(const struct json_reader *reader, const struct json_node *claims,
                                  const struct jwt_rules *rules) {
    static const char malformed[] = "its audience (aud) is neither a string nor a list of strings";
    static const char foreign[] = "it is meant for another audience (aud)";
    const struct json_node *aud = json_member(reader, claims, SLICE("aud"));
    if (aud == NULL)
        return rules->n_audiences == 0 ? NULL : "it has no audience (aud)";
    if (aud->type == JSON_STRING)
        return rules->n_audiences == 0 || is_expected(aud, rules) ? NULL : foreign;
    const struct json_node *node = aud->type == JSON_ARRAY ? json_first(reader, aud) : NULL;
    if (node == NULL)
        return malformed;
    bool is_ours = rules->n_audiences == 0;
    for (; node != NULL; node = json_next(reader, node)) {
        if (node->type != JSON_STRING)
            return malformed;
        is_ours = is_ours || is_expected(node, rules);
    }
    return is_ours ? NULL : foreign;
}

static uint64_t add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* RFC 7519 sections 4.1.4 to 4.1.6. A token that was issued in the future comes from a clock that
 * is wrong, so its end is wrong too. */
static const char *check_times(const struct jwt *jwt, const struct jwt_rules *rules,
                               uint64_t now_s) {
    if (jwt->expires_s == UINT64_MAX)
        return "it has no end (exp)";
    if (now_s >= add(jwt->expires_s, rules->leeway_s))
        return "it has expired (exp)";
    uint64_t latest = add(now_s, rules->leeway_s);
    if (jwt->not_before_s != UINT64_MAX && jwt->not_before_s > latest)
        return "it is not valid yet (nbf)";
    if (jwt->issued_s != UINT64_MAX && jwt->issued_s > latest)
        return "it was issued in the future (iat)";
    return NULL;
}

int jwt_check(struct json_reader *reader, const struct jwt *jwt, const struct jwt_rules *rules,
              uint64_t now_s, const char **ret_reason) {
    static const struct json_want want_nothing[] = {{.key = NULL}};
    static const struct json_want want_members[] = {{"aud", want_nothing}, {.key = NULL}};
    static const struct json_want want = {.key = NULL, .children = want_members};
    const char *reason = NULL;
    if (rules->needs_at_jwt && !jwt->is_at_jwt)
        reason = "it is no access token (typ is not at+jwt)";
    else if (rules->issuer.len > 0 && !(jwt->has_issuer && slice_eq(jwt->issuer, rules->issuer)))
        reason = "it comes from another issuer (iss)";
    else
        reason = check_times(jwt, rules, now_s);
    if (reason == NULL) {
        int r = json_read(reader, jwt->claims, &want, NULL, NULL);
        if (r < 0)
            return r;
        reason = r == 0 ? check_audience(reader, json_root(reader), rules)
                        : "its claims are not strict JSON";
    }
    if (reason == NULL)
        return 0;
    *ret_reason = reason;
    return JWT_E_REFUSED;
}
