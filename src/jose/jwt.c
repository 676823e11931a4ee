/*
 * Reading a token and proving its signature.
 *
 * `decoded` is made large enough before anything is put into it, and never grows then: what points
 * into it stays. It holds the three decoded parts, and behind them those strings of header and
 * claims that had to be unescaped. All of that fits in LIMIT_JWT, or the token is refused: the
 * decoded parts are three quarters of a token, and who escapes a string of kilobytes is nobody's
 * issuer.
 */
#include "jose/jwt.h"

#include <errno.h>
#include <stdint.h>

#include "base/base64.h"
#include "base/checked.h"
#include "base/limits.h"
#include "private.h"

enum { HEADER, PAYLOAD, SIGNATURE, PARTS };

/* One token on its way in. */
struct reading {
    struct json_reader *reader;
    struct buf *decoded;
    struct slice text[PARTS]; /* in base64url */
    struct slice part[PARTS]; /* decoded */
    struct jwt jwt;
    const char *reason;
};

static int refuse(struct reading *in, const char *reason) {
    in->reason = reason;
    return JWT_E_REFUSED;
}

/* --- form (RFC 7515 section 3.1) --- */

static int split(struct reading *in, struct slice token) {
    size_t dots = 0;
    if (token.len > LIMIT_JWT)
        return refuse(in, "the token is too long");
    if (token.len > 0 && token.ptr[0] == '{')
        return refuse(in, "the token is not in compact form");
    for (size_t i = 0; i < token.len; i++)
        dots += token.ptr[i] == '.';
    if (dots == 4)
        return refuse(in, "the token is encrypted");
    if (dots != 2)
        return refuse(in, "the token does not have three parts");
    struct slice rest;
    (void)slice_cut(token, '.', &in->text[HEADER], &rest);
    (void)slice_cut(rest, '.', &in->text[PAYLOAD], &in->text[SIGNATURE]);
    in->jwt.token = token;
    in->jwt.signed_part = slice_sub(token, 0, in->text[HEADER].len + 1 + in->text[PAYLOAD].len);
    return 0;
}

static int decode(struct reading *in) {
    static const char *const empty[PARTS] = {"the token has no header", "the token has no claims",
                                             "the token is not signed"};
    for (int i = 0; i < PARTS; i++) {
        size_t from = buf_len(in->decoded);
        if (in->text[i].len == 0)
            return refuse(in, empty[i]);
        int r = base64url_decode(in->decoded, in->text[i]);
        if (r == -EINVAL)
            return refuse(in, "the token is not strict base64url");
        if (r != 0)
            return r;
        in->part[i] = slice_from(buf_slice(in->decoded), from);
    }
    return 0;
}

/* Room for the parts, and for header and claims once more, as far as LIMIT_JWT goes. */
static int make_room(struct reading *in) {
    size_t wanted = in->jwt.token.len + in->text[HEADER].len + in->text[PAYLOAD].len;
    buf_reset(in->decoded, SIZE_MAX);
    return buf_reserve(in->decoded, size_min(wanted, LIMIT_JWT)) != NULL ? 0
                                                                         : buf_error(in->decoded);
}

/* --- values --- */

static int read_object(struct reading *in, struct slice document, const char *reason) {
    int r = json_read(in->reader, document, &json_want_root, NULL, NULL);
    if (r < 0)
        return r;
    return r == 0 && json_root(in->reader)->type == JSON_OBJECT ? 0 : refuse(in, reason);
}

static const struct json_node *member(struct reading *in, struct slice name) {
    return json_member(in->reader, json_root(in->reader), name);
}

/* A string, unescaped; `node` is one. */
static int take_string(struct reading *in, const struct json_node *node, struct slice *ret_text) {
    struct slice raw = json_string_raw(node);
    if (!node->value_escaped) {
        *ret_text = raw;
        return 0;
    }
    size_t from = buf_len(in->decoded);
    if (raw.len > LIMIT_JWT - from)
        return refuse(in, "the token holds an escaped string that is too long");
    int r = json_string_append(in->decoded, node);
    if (r == 0)
        *ret_text = slice_from(buf_slice(in->decoded), from);
    return r;
}

/* A string that may be missing. */
static int take_optional(struct reading *in, struct slice name, const char *reason, bool *ret_has,
                         struct slice *ret_text) {
    const struct json_node *node = member(in, name);
    *ret_has = node != NULL;
    if (node == NULL)
        return 0;
    return node->type == JSON_STRING ? take_string(in, node, ret_text) : refuse(in, reason);
}

/* --- the header (RFC 7515 section 4.1) --- */

/* What a token may not bring along, and why not. Other parameters that are not known here are
 * ignored (RFC 7515 section 4). */
static const struct {
    struct slice name;
    const char *reason;
} refused_parameters[] = {
    {SLICE_INIT("crit"), "its header demands extensions (crit)"},
    {SLICE_INIT("b64"), "its header demands an extension (b64)"},
    {SLICE_INIT("zip"), "it is compressed (zip)"},
    {SLICE_INIT("enc"), "it is encrypted (enc)"},
    {SLICE_INIT("jwk"), "it brings its own key (jwk)"},
    {SLICE_INIT("jku"), "it says where its keys are (jku)"},
    {SLICE_INIT("x5c"), "it brings its own certificate (x5c)"},
    {SLICE_INIT("x5u"), "it says where its certificate is (x5u)"},
};

/* RFC 7515 section 4.1.9: media types, compared without case; "application/" may be left out. */
static bool is_media_type(struct slice text, struct slice name) {
    if (slice_starts_with_nocase(text, SLICE("application/")))
        text = slice_from(text, sizeof "application/" - 1);
    return slice_eq_nocase(text, name);
}

/* RFC 8725 section 3.11: other kinds of tokens are not taken for access tokens. */
static int read_types(struct reading *in) {
    static const char strange[] = "it is another kind of token (typ)";
    struct slice text = SLICE_EMPTY;
    bool has;
    int r = take_optional(in, SLICE("typ"), strange, &has, &text);
    if (r == 0 && has) {
        in->jwt.is_at_jwt = is_media_type(text, SLICE("at+jwt"));
        if (!in->jwt.is_at_jwt && !is_media_type(text, SLICE("JWT")))
            return refuse(in, strange);
    }
    if (r == 0)
        r = take_optional(in, SLICE("cty"), "its content type (cty) is no string", &has, &text);
    if (r == 0 && has && is_media_type(text, SLICE("JWT")))
        return refuse(in, "it holds another token (cty)");
    return r;
}

static int read_header(struct reading *in) {
    static const char unknown[] = "its algorithm (alg) is none that is accepted";
    int r = read_object(in, in->part[HEADER], "its header is not a strict JSON object");
    if (r != 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(refused_parameters); i++) {
        if (member(in, refused_parameters[i].name) != NULL)
            return refuse(in, refused_parameters[i].reason);
    }
    struct slice name = SLICE_EMPTY;
    bool has;
    r = take_optional(in, SLICE("alg"), unknown, &has, &name);
    if (r == 0 && !(has && jose_algorithm_parse(name, &in->jwt.algorithm)))
        return refuse(in, unknown);
    if (r == 0)
        r = read_types(in);
    if (r == 0)
        r = take_optional(in, SLICE("kid"), "its key's name (kid) is no string", &in->jwt.has_kid,
                          &in->jwt.kid);
    return r;
}

/* --- the claims (RFC 7519 section 4.1) --- */

static bool has_control(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return true;
    }
    return false;
}

/* An empty name names nobody, and would make all who have it one. One with a NUL or a line end is
 * meant for whoever reads it less carefully. */
static int read_name(struct reading *in, struct slice name, const char *reason, bool *ret_has,
                     struct slice *ret_text) {
    int r = take_optional(in, name, reason, ret_has, ret_text);
    bool is_bad = r == 0 && *ret_has && (ret_text->len == 0 || has_control(*ret_text));
    return is_bad ? refuse(in, reason) : r;
}

static int read_claims(struct reading *in) {
    const struct {
        struct slice name;
        uint64_t *seconds;
        const char *reason;
    } dates[] = {
        {SLICE("exp"), &in->jwt.expires_s, "its end (exp) is no time"},
        {SLICE("nbf"), &in->jwt.not_before_s, "its beginning (nbf) is no time"},
        {SLICE("iat"), &in->jwt.issued_s, "its time of issue (iat) is no time"},
    };
    int r = read_object(in, in->part[PAYLOAD], "its claims are not a strict JSON object");
    if (r == 0)
        r = read_name(in, SLICE("iss"), "its issuer (iss) is no proper string", &in->jwt.has_issuer,
                      &in->jwt.issuer);
    if (r == 0)
        r = read_name(in, SLICE("sub"), "its subject (sub) is no proper string",
                      &in->jwt.has_subject, &in->jwt.subject);
    for (size_t i = 0; i < ARRAY_LEN(dates) && r == 0; i++) {
        r = jose_read_date(in->reader, json_root(in->reader), dates[i].name, dates[i].seconds);
        if (r != 0)
            return refuse(in, dates[i].reason);
    }
    return r;
}

int jwt_read(struct json_reader *reader, struct slice token, struct buf *decoded,
             struct jwt *ret_jwt, const char **ret_reason) {
    struct reading in = {.reader = reader, .decoded = decoded};
    int r = split(&in, token);
    if (r == 0)
        r = make_room(&in);
    if (r == 0)
        r = decode(&in);
    if (r == 0)
        r = read_header(&in);
    if (r == 0)
        r = read_claims(&in);
    if (r == 0) {
        in.jwt.claims = in.part[PAYLOAD];
        in.jwt.signature = in.part[SIGNATURE];
        *ret_jwt = in.jwt;
    } else if (r == JWT_E_REFUSED) {
        *ret_reason = in.reason;
    }
    return r;
}

/* --- the signature --- */

static int refuse_signature(int error, const char *reason, const char **ret_reason) {
    *ret_reason = reason;
    return error;
}

static int verify_with_secret(const struct jwt *jwt, const struct jose_keys *keys,
                              const char **ret_reason) {
    int r = jose_mac_verify(keys->secret, jwt->algorithm, jwt->signed_part, jwt->signature);
    return r > 0 ? refuse_signature(JWT_E_REFUSED, "its signature is wrong", ret_reason) : r;
}

/* By its own kid only; without one, every key of its kind. Each signature that could be one costs
 * work, so only so many are tried. */
static int verify_with_keys(const struct jwt *jwt, const struct jose_keys *keys,
                            const char **ret_reason) {
    size_t n_named = 0, n_fit = 0, n_tried = 0;
    for (size_t i = 0; i < keys->n && n_tried < LIMIT_JWT_TRIES; i++) {
        const struct jose_key *key = &keys->keys[i];
        if (jwt->has_kid && !(key->has_kid && slice_eq(key->kid, jwt->kid)))
            continue;
        n_named++;
        if ((key->algorithms & (1u << jwt->algorithm)) == 0)
            continue;
        n_fit++;
        if (key->signature_len != jwt->signature.len)
            continue;
        n_tried++;
        int r = jose_signature_verify(key, jwt->algorithm, jwt->signed_part, jwt->signature);
        if (r <= 0)
            return r;
    }
    if (jwt->has_kid && n_named == 0)
        return refuse_signature(JWT_E_UNKNOWN_KEY, "its key (kid) is not known", ret_reason);
    if (!jwt->has_kid && n_fit == 0)
        return refuse_signature(JWT_E_UNKNOWN_KEY, "no key is known for its algorithm (alg)",
                                ret_reason);
    return refuse_signature(JWT_E_REFUSED,
                            n_fit == 0 ? "its key (kid) is for another algorithm (alg)"
                                       : "its signature is wrong",
                            ret_reason);
}

int jwt_verify(const struct jwt *jwt, const struct jose_keys *keys, unsigned algorithms,
               const char **ret_reason) {
    bool is_symmetric = jose_is_symmetric(jwt->algorithm);
    if ((algorithms & (1u << jwt->algorithm)) == 0)
        return refuse_signature(JWT_E_REFUSED, "its algorithm (alg) is not allowed", ret_reason);
    /* No newer keys would change this. */
    if (is_symmetric != (keys->secret != NULL))
        return refuse_signature(JWT_E_REFUSED, "its algorithm (alg) does not fit the issuer's keys",
                                ret_reason);
    return is_symmetric ? verify_with_secret(jwt, keys, ret_reason)
                        : verify_with_keys(jwt, keys, ret_reason);
}
