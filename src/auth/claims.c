/*
 * What a verified token says of its owner: who (sub, RFC 9068 section 2.2), which client and groups
 * by the configured claims, which scopes (RFC 8693 section 4.2), and whether it is bound to a
 * certificate (RFC 8705 section 3.1).
 *
 * A configured claim is a path: "realm_access.roles". Names may hold dots themselves
 * ("https://example.com/plan"), so the whole path is tried as a name first, then each prefix of it,
 * the longest first, as the name of an object in which the rest is looked for.
 */
#include <stdlib.h>

#include "base/base64.h"
#include "private.h"

enum { CLAIM_DEPTH = 8 };

static const struct json_want depth6[] = {{"*", NULL}, {0}};
static const struct json_want depth5[] = {{"*", depth6}, {0}};
static const struct json_want depth4[] = {{"*", depth5}, {0}};
static const struct json_want depth3[] = {{"*", depth4}, {0}};
static const struct json_want depth2[] = {{"*", depth3}, {0}};
static const struct json_want depth1[] = {{"*", depth2}, {0}};
static const struct json_want want_claims = {.children = depth1};

static const struct json_node *find_claim(const struct json_reader *reader,
                                          const struct json_node *object, struct slice path,
                                          unsigned depth) {
    const struct json_node *node = json_member(reader, object, path);
    for (size_t at = path.len; node == NULL && depth < CLAIM_DEPTH && at-- > 0;) {
        if (path.ptr[at] != '.')
            continue;
        const struct json_node *inner =
            json_member_typed(reader, object, slice_sub(path, 0, at), JSON_OBJECT);
        if (inner != NULL)
            node = find_claim(reader, inner, slice_from(path, at + 1), depth + 1);
    }
    return node;
}

/* The text of a string, number or boolean, in the claims' memory. ptr NULL: it is something else,
 * or there is no memory. */
static struct slice text_of(struct auth_claims *claims, const struct json_node *node) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_JWT);
    switch (node->type) {
    case JSON_STRING:
        if (json_string_append(&text, node) != 0) {
            claims->lacks_memory = true; /* a claim is never longer than a token */
            return (struct slice){0};
        }
        return arena_dup(&claims->arena, buf_slice(&text));
    case JSON_NUMBER:
    case JSON_TRUE:
    case JSON_FALSE:
        return arena_dup(&claims->arena, node->raw);
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        break;
    }
    return (struct slice){0};
}

bool client_id_is_fine(struct slice id) {
    if (slice_trim(id).len == 0 || id.len > LIMIT_CLIENT_ID)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        if ((unsigned char)id.ptr[i] < 0x20 || id.ptr[i] == 0x7f)
            return false;
    }
    return true;
}

/* Tokens of a client for itself may come without `sub`; they name the client then. Another prefix,
 * so that no client is taken for a user of its name. Whoever has a `sub` is a user: one with a name
 * that cannot be used is nobody, and not the client that the token came by. */
static bool read_subject(struct json_reader *reader, struct auth_claims *claims) {
    static const struct slice names[] = {SLICE_INIT("sub"), SLICE_INIT("client_id"),
                                         SLICE_INIT("azp")};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct json_node *node =
            json_member_typed(reader, json_root(reader), names[i], JSON_STRING);
        struct slice text = node != NULL ? text_of(claims, node) : SLICE_EMPTY;
        if (node != NULL && i == 0 && !client_id_is_fine(text))
            return false;
        if (!client_id_is_fine(text))
            continue;
        claims->is_client = i != 0;
        claims->subject =
            i == 0 ? text
                   : slice_from_cstr(arena_printf(&claims->arena, "client:%.*s", SLICE_ARGS(text)));
        return true;
    }
    return false;
}

static void read_token_id(struct json_reader *reader, struct auth_claims *claims) {
    const struct json_node *node =
        json_member_typed(reader, json_root(reader), SLICE("jti"), JSON_STRING);
    struct slice text = node != NULL ? text_of(claims, node) : SLICE_EMPTY;
    if (client_id_is_fine(text))
        claims->token_id = text;
}

static bool add(struct slice *list, size_t *n, struct slice text) {
    if (*n == LIMIT_GROUPS || text.ptr == NULL)
        return false;
    list[(*n)++] = text;
    return true;
}

static void read_scopes(struct json_reader *reader, struct auth_claims *claims) {
    const struct json_node *root = json_root(reader);
    const struct json_node *node = json_member_typed(reader, root, SLICE("scope"), JSON_STRING);
    if (node == NULL)
        node = json_member(reader, root, SLICE("scp")); /* as some issuers call it */
    if (node != NULL && node->type == JSON_STRING) {
        struct slice rest = text_of(claims, node), head;
        while (rest.len != 0) {
            slice_cut(rest, ' ', &head, &rest);
            if (head.len != 0 && !add(claims->scopes, &claims->n_scopes, head))
                return;
        }
    } else if (node != NULL && node->type == JSON_ARRAY) {
        for (const struct json_node *item = json_first(reader, node); item != NULL;
             item = json_next(reader, item)) {
            if (item->type == JSON_STRING &&
                !add(claims->scopes, &claims->n_scopes, text_of(claims, item)))
                return;
        }
    }
}

/* Its form has been checked (jose/jwt.h). */
static void read_audiences(struct json_reader *reader, struct auth_claims *claims) {
    const struct json_node *aud = json_member(reader, json_root(reader), SLICE("aud"));
    const struct json_node *node = aud;
    if (aud != NULL && aud->type == JSON_ARRAY)
        node = json_first(reader, aud);
    for (; node != NULL && claims->n_audiences < LIMIT_AUDIENCES;
         node = node != aud ? json_next(reader, node) : NULL) {
        struct slice text = node->type == JSON_STRING ? text_of(claims, node) : SLICE_EMPTY;
        if (text.len != 0)
            claims->audiences[claims->n_audiences++] = text;
    }
}

static int compare(const void *a, const void *b) {
    const struct slice *left = a, *right = b;
    return slice_cmp(*left, *right);
}

static bool is_listed(const struct config_identification *identification, struct slice group) {
    for (size_t i = 0; i < identification->n_group_values; i++) {
        if (slice_eq(identification->group_values[i], group))
            return true;
    }
    return identification->n_group_values == 0;
}

bool groups_settle(const struct config_identification *identification, struct slice *groups,
                   size_t *n_groups, bool *ret_has_unknown) {
    size_t n = 0, n_all = *n_groups;
    if (n_all != 0)
        qsort(groups, n_all, sizeof *groups, compare);
    for (size_t i = 0; i < n_all; i++) {
        if (!is_listed(identification, groups[i]))
            *ret_has_unknown = true;
        else if (n == 0 || !slice_eq(groups[n - 1], groups[i]))
            groups[n++] = groups[i];
    }
    *n_groups = n;
    return n != 0 || n_all == 0;
}

/* One group, or a list of them (OpenID Connect's usual `groups`). What is neither, or too long, is
 * malformed as a whole: half of somebody's groups may be the half that nothing is denied to. */
static void read_groups(struct json_reader *reader, struct slice path, struct auth_claims *claims) {
    const struct json_node *node = find_claim(reader, json_root(reader), path, 0);
    if (node == NULL || node->type == JSON_NULL)
        return;
    claims->groups_state = AUTH_GROUPS_MALFORMED;
    if (node->type == JSON_ARRAY) {
        for (const struct json_node *item = json_first(reader, node); item != NULL;
             item = json_next(reader, item)) {
            if (item->type != JSON_STRING ||
                !add(claims->groups, &claims->n_groups, text_of(claims, item))) {
                claims->n_groups = 0;
                return;
            }
        }
    } else if (!add(claims->groups, &claims->n_groups, text_of(claims, node))) {
        return;
    }
    claims->groups_state = AUTH_GROUPS_FINE;
}

static enum auth_verdict identify(const struct config_identification *identification,
                                  struct json_reader *reader, struct auth_claims *claims,
                                  const char **ret_reason) {
    if (identification->client_claim.len != 0) {
        const struct json_node *node =
            find_claim(reader, json_root(reader), identification->client_claim, 0);
        claims->client_id = node != NULL ? text_of(claims, node) : SLICE_EMPTY;
        if (!client_id_is_fine(claims->client_id)) {
            *ret_reason =
                "client identification is required, and the token does not have the claim "
                "that gives it (server.client_identification.client_id)";
            return AUTH_NO_CLIENT;
        }
    }
    if (identification->group_claim.len != 0)
        read_groups(reader, identification->group_claim, claims);
    if (!groups_settle(identification, claims->groups, &claims->n_groups,
                       &claims->has_unknown_group)) {
        *ret_reason = "the group of the token is none that this gateway knows";
        return AUTH_BAD_GROUP;
    }
    return AUTH_OK;
}

/* RFC 7800: a token that is bound to a key is no bearer token. The one binding that is known here
 * is the certificate of the connection; DPoP (RFC 9449) and others are refused. */
static bool is_bound_elsewhere(const struct json_reader *reader, const unsigned char *digest) {
    const struct json_node *confirmation = json_member(reader, json_root(reader), SLICE("cnf"));
    if (confirmation == NULL)
        return false;
    const struct json_node *thumbprint =
        confirmation->type == JSON_OBJECT
            ? json_member_typed(reader, confirmation, SLICE("x5t#S256"), JSON_STRING)
            : NULL;
    const struct json_node *first = json_first(reader, confirmation);
    if (digest == NULL || thumbprint == NULL || thumbprint != first ||
        json_next(reader, first) != NULL)
        return true;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(64);
    return base64url_encode(&text, slice_make(digest, AUTH_DIGEST)) != 0 ||
           !json_string_is(thumbprint, buf_slice(&text));
}

enum auth_verdict claims_read(const struct config *config, struct json_reader *reader,
                              struct slice document, const unsigned char *certificate_digest,
                              struct auth_claims *claims, const char **ret_reason) {
    int error = json_read(reader, document, &want_claims, NULL, NULL);
    if (error != 0) {
        *ret_reason = "its claims are no JSON";
        return error < 0 ? AUTH_NO_MEMORY : AUTH_INVALID;
    }
    if (is_bound_elsewhere(reader, certificate_digest)) {
        *ret_reason = "it is bound to a key that this connection does not prove";
        return AUTH_INVALID;
    }
    bool has_subject = read_subject(reader, claims);
    enum auth_verdict verdict = has_subject ? AUTH_OK : AUTH_INVALID;
    if (!has_subject)
        *ret_reason =
            "it names nobody: sub, client_id and azp are missing, or longer than 256 bytes";
    read_token_id(reader, claims);
    read_scopes(reader, claims);
    read_audiences(reader, claims);
    claims->client_id = claims->subject;
    if (has_subject && config->identification.enabled)
        verdict = identify(&config->identification, reader, claims, ret_reason);
    return claims->lacks_memory || arena_failed(&claims->arena) ? AUTH_NO_MEMORY : verdict;
}
