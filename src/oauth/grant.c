/*
 * A request for a token, and what its answer means: RFC 6749 sections 4.4 and 5 (client
 * credentials), RFC 8693 (exchange), RFC 8707 (resource), RFC 7523 section 2.2 (assertions). No
 * I/O.
 *
 * Answers are hostile. What cannot be a Bearer token is no token; an error is one of the codes that
 * are registered, or "an error that is not known": so no text of the server's gets into a reason.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/random.h"
#include "json/writer.h"
#include "tokens.h"

#define URN_GRANT     "urn:ietf:params:oauth:grant-type:"
#define URN_TYPE      "urn:ietf:params:oauth:token-type:"
#define URN_ASSERTION "urn:ietf:params:oauth:client-assertion-type:"

enum { FORM_MAX = 256 * 1024, ASSERTION_S = 60, JTI_BYTES = 16 };

/* --- the form --- */

static void add(struct buf *form, const char *name, struct slice value) {
    if (buf_len(form) != 0)
        buf_append_byte(form, '&');
    buf_append_cstr(form, name);
    buf_append_byte(form, '=');
    uri_percent_encode(form, value);
}

static void add_given(struct buf *form, const char *name, struct slice value) {
    if (!slice_is_empty(value))
        add(form, name, value);
}

/* Section 2.3.1: each of both in the form's own encoding, before they are put together. */
static int write_basic(const struct config_oauth_client *client, struct buf *authorization) {
    struct buf pair CLEANUP(oauth_wipe) = BUF_INIT(FORM_MAX);
    if (buf_reserve(&pair, 3 * (client->client_id.len + client->client_secret.len) + 1) == NULL)
        return -ENOMEM;
    uri_percent_encode(&pair, client->client_id);
    buf_append_byte(&pair, ':');
    uri_percent_encode(&pair, client->client_secret);
    if (buf_reserve(authorization, 8 + 2 * buf_len(&pair)) == NULL)
        return -ENOMEM;
    buf_append(authorization, SLICE("Basic "));
    return base64_encode(authorization, buf_slice(&pair));
}

/* RFC 7523 section 3. */
static int write_assertion(const struct grant *grant, struct buf *form) {
    const struct config_oauth_client *client = &grant->server->auth_client;
    struct buf claims CLEANUP(oauth_wipe) = BUF_INIT(LIMIT_JWT);
    struct buf jti CLEANUP(buf_deinit) = BUF_INIT(64);
    struct buf assertion CLEANUP(oauth_wipe) = BUF_INIT(LIMIT_JWT);
    unsigned char bytes[JTI_BYTES];
    struct json_writer writer;
    random_bytes(bytes, sizeof bytes);
    base64url_encode(&jti, slice_make(bytes, sizeof bytes));
    json_writer_init(&writer, &claims);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("iss"), client->client_id);
    json_kv_string(&writer, SLICE("sub"), client->client_id);
    json_kv_string(&writer, SLICE("aud"), grant->audience);
    json_kv_string(&writer, SLICE("jti"), buf_slice(&jti));
    json_kv_u64(&writer, SLICE("iat"), grant->wall_ms / 1000);
    json_kv_u64(&writer, SLICE("exp"), grant->wall_ms / 1000 + ASSERTION_S);
    json_object_end(&writer);
    int error = buf_error(&claims);
    if (error == 0)
        error = buf_error(&jti);
    if (error == 0)
        error = jose_sign(grant->signer, client->key_id, buf_slice(&claims), &assertion);
    if (error != 0)
        return error;
    add(form, "client_id", client->client_id);
    add(form, "client_assertion_type", SLICE(URN_ASSERTION "jwt-bearer"));
    add(form, "client_assertion", buf_slice(&assertion));
    return buf_error(form);
}

/* 0: nothing that this client has would do. */
static unsigned choose_method(const struct grant *grant) {
    const struct config_oauth_client *client = &grant->server->auth_client;
    const struct oauth_metadata *metadata = grant->metadata;
    switch (client->method) {
    case CONFIG_CLIENT_AUTH_BASIC:
        return OAUTH_METHOD_BASIC;
    case CONFIG_CLIENT_AUTH_POST:
        return OAUTH_METHOD_POST;
    case CONFIG_CLIENT_AUTH_KEY:
        return OAUTH_METHOD_KEY;
    case CONFIG_CLIENT_AUTH_AUTO:
        break;
    }
    if (grant->signer != NULL)
        return OAUTH_METHOD_KEY;
    if (slice_is_empty(client->client_secret))
        return OAUTH_METHOD_NONE;
    /* RFC 8414 section 2: without the list it is Basic. */
    if (!metadata->has_methods || (metadata->methods & OAUTH_METHOD_BASIC) != 0)
        return OAUTH_METHOD_BASIC;
    return metadata->methods & OAUTH_METHOD_POST;
}

static int add_client(const struct grant *grant, struct buf *form, struct buf *authorization,
                      const char **ret_reason) {
    const struct config_oauth_client *client = &grant->server->auth_client;
    switch (choose_method(grant)) {
    case OAUTH_METHOD_BASIC:
        return write_basic(client, authorization);
    case OAUTH_METHOD_POST:
        add(form, "client_id", client->client_id);
        add(form, "client_secret", client->client_secret);
        return buf_error(form);
    case OAUTH_METHOD_KEY:
        if (grant->signer != NULL)
            return write_assertion(grant, form);
        *ret_reason = "there is no key for auth.client_auth = \"private_key_jwt\"";
        return OAUTH_E_INVALID;
    case OAUTH_METHOD_NONE:
        add(form, "client_id", client->client_id);
        return buf_error(form);
    default:
        *ret_reason = "the authorization server takes no client secret, neither by "
                      "client_secret_basic nor by client_secret_post";
        return OAUTH_E_INVALID;
    }
}

int grant_write(const struct grant *grant, struct buf *form, struct buf *authorization,
                const char **ret_reason) {
    const struct config_server *server = grant->server;
    bool is_exchange = !slice_is_empty(grant->subject);
    /* In one piece, so that no copy stays behind when a buffer grows. */
    size_t size = KIB(8) + LIMIT_JWT + 3 * (grant->subject.len + grant->scopes.len) +
                  3 * (server->auth_client.client_id.len + server->auth_client.client_secret.len +
                       server->auth_client.resource.len + server->auth_audience.len);
    buf_init(form, FORM_MAX);
    buf_init(authorization, FORM_MAX);
    if (buf_reserve(form, size) == NULL)
        return -ENOMEM;
    add(form, "grant_type",
        is_exchange ? SLICE(URN_GRANT "token-exchange") : SLICE("client_credentials"));
    add_given(form, "resource", server->auth_client.resource);
    if (is_exchange) {
        add_given(form, "audience", server->auth_audience);
        add(form, "requested_token_type", SLICE(URN_TYPE "access_token"));
        add(form, "subject_token", grant->subject);
        add(form, "subject_token_type", SLICE(URN_TYPE "access_token"));
    }
    add_given(form, "scope", grant->scopes);
    int error = add_client(grant, form, authorization, ret_reason);
    if (error == 0)
        error = buf_error(form);
    if (error != -E2BIG)
        return error;
    *ret_reason = "the request would be longer than the limit";
    return OAUTH_E_INVALID;
}

/* --- a token --- */

/* "3600", also in quotes, as some write it; a fraction is cut. What is no number at all says as
 * little as no number. False: a time that lies behind. */
static bool read_lifetime(const struct json_node *node, uint64_t *ret_ms) {
    *ret_ms = TOKENS_LIFETIME_MS;
    if (node == NULL || (node->type != JSON_NUMBER && node->type != JSON_STRING))
        return true;
    struct slice text = node->type == JSON_STRING ? json_string_raw(node) : node->raw;
    if (slice_starts_with(text, SLICE("-")))
        return false;
    uint64_t seconds = 0;
    size_t n = 0;
    for (; n < text.len && text.ptr[n] >= '0' && text.ptr[n] <= '9'; n++) {
        if (seconds <= TOKENS_LIFETIME_MAX_MS)
            seconds = seconds * 10 + (uint64_t)(text.ptr[n] - '0');
    }
    if (n == 0 || (n < text.len && text.ptr[n] != '.') || slice_find_byte(text, 'e') != SIZE_MAX ||
        slice_find_byte(text, 'E') != SIZE_MAX)
        return true;
    *ret_ms =
        seconds < TOKENS_LIFETIME_MAX_MS / 1000 ? seconds * 1000 : (uint64_t)TOKENS_LIFETIME_MAX_MS;
    return seconds != 0;
}

/* "Bearer" in any case (RFC 6749 section 5.1): another kind cannot be sent by us. */
static bool is_bearer(const struct json_node *node) {
    return node != NULL && node->type == JSON_STRING &&
           slice_eq_nocase(json_string_raw(node), SLICE("Bearer"));
}

/* RFC 8693 section 2.2.1: it is there, and is something that is used as an access token. */
static bool is_access_token(const struct json_node *node) {
    return node != NULL && (json_string_is(node, SLICE(URN_TYPE "access_token")) ||
                            json_string_is(node, SLICE(URN_TYPE "jwt")));
}

static const char *check_answer(const struct json_reader *reader, const struct json_node *root,
                                bool is_exchange, struct slice issuer) {
    if (root->type != JSON_OBJECT)
        return "its answer is no JSON object";
    if (json_member_typed(reader, root, SLICE("access_token"), JSON_STRING) == NULL)
        return "its answer has no access_token";
    if (!is_bearer(json_member(reader, root, SLICE("token_type"))))
        return "the token_type of its answer is not Bearer";
    if (is_exchange && !is_access_token(json_member(reader, root, SLICE("issued_token_type"))))
        return "the issued_token_type of its answer is that of no access token";
    const struct json_node *iss = json_member(reader, root, SLICE("iss"));
    if (iss != NULL && issuer.len != 0 && !json_string_is(iss, issuer))
        return "its answer is that of another issuer";
    return NULL;
}

int grant_read(struct json_reader *reader, struct slice document, bool is_exchange,
               struct slice issuer, struct buf *token, uint64_t *ret_lifetime_ms,
               const char **ret_reason) {
    uint64_t lifetime_ms = 0;
    int error = json_read(reader, document, &json_want_root, NULL, NULL);
    if (error < 0)
        return error;
    const struct json_node *root = error == 0 ? json_root(reader) : NULL;
    const char *reason =
        root != NULL ? check_answer(reader, root, is_exchange, issuer) : "its answer is no JSON";
    if (reason == NULL &&
        !read_lifetime(json_member(reader, root, SLICE("expires_in")), &lifetime_ms))
        reason = "the token of its answer has ended already";
    if (reason != NULL) {
        *ret_reason = reason;
        return OAUTH_E_INVALID;
    }
    const struct json_node *node = json_member(reader, root, SLICE("access_token"));
    if (buf_reserve(token, node->raw.len) == NULL)
        return -ENOMEM;
    error = json_string_append(token, node);
    if (error != 0)
        return error;
    *ret_lifetime_ms = lifetime_ms;
    return 0;
}

/* --- an error --- */

struct code {
    struct slice name;
    /* In an exchange it may be the fault of the subject's token, or of what it may have. */
    bool is_about_subject;
    bool is_about_scope;
};

/* RFC 6749 section 5.2 and 4.1.2.1, RFC 8693 section 2.2.2 (which has invalid_request for a token
 * that is not taken), RFC 8707 section 2, OpenID Connect Core 1.0 section 3.1.2.6. */
static const struct code codes[] = {
    {SLICE_INIT("invalid_request"), true, false},
    {SLICE_INIT("invalid_client"), false, false},
    {SLICE_INIT("invalid_grant"), true, false},
    {SLICE_INIT("unauthorized_client"), false, false},
    {SLICE_INIT("unsupported_grant_type"), false, false},
    {SLICE_INIT("invalid_scope"), true, true},
    {SLICE_INIT("invalid_target"), true, false},
    {SLICE_INIT("access_denied"), true, true},
    {SLICE_INIT("insufficient_scope"), true, true},
    {SLICE_INIT("login_required"), true, false},
    {SLICE_INIT("interaction_required"), true, false},
    {SLICE_INIT("consent_required"), true, true},
    {SLICE_INIT("account_selection_required"), true, false},
    {SLICE_INIT("server_error"), false, false},
    {SLICE_INIT("temporarily_unavailable"), false, false},
};

static const struct code *find_code(const struct json_reader *reader,
                                    const struct json_node *root) {
    const struct json_node *error =
        root->type == JSON_OBJECT ? json_member(reader, root, SLICE("error")) : NULL;
    for (size_t i = 0; i < ARRAY_LEN(codes) && error != NULL; i++) {
        if (json_string_is(error, codes[i].name))
            return &codes[i];
    }
    return NULL;
}

static void describe(const struct json_reader *reader, const struct json_node *root,
                     struct buf *description) {
    if (root->type != JSON_OBJECT)
        return;
    const struct json_node *node =
        json_member_typed(reader, root, SLICE("error_description"), JSON_STRING);
    if (node != NULL)
        (void)!json_string_append(description, node);
}

static bool is_busy(unsigned status, const struct code *code) {
    return status == 429 || status >= 500 ||
           (code != NULL && (slice_eq(code->name, SLICE("server_error")) ||
                             slice_eq(code->name, SLICE("temporarily_unavailable"))));
}

enum grant_blame grant_read_error(struct json_reader *reader, struct slice document,
                                  unsigned status, bool is_exchange, struct tokens_failure *failure,
                                  bool *ret_is_about_scope, struct buf *ret_description) {
    char reason[OAUTH_LACK_REASON];
    const struct code *code = NULL;
    bool has_error = json_read(reader, document, &json_want_root, NULL, NULL) == 0;
    if (has_error) {
        const struct json_node *root = json_root(reader);
        code = find_code(reader, root);
        describe(reader, root, ret_description);
        has_error = root->type == JSON_OBJECT &&
                    json_member_typed(reader, root, SLICE("error"), JSON_STRING) != NULL;
    }
    *ret_is_about_scope = code != NULL && code->is_about_scope;
    snprintf(reason, sizeof reason, "it answers with status %u%s%.*s", status,
             has_error ? ": " : "",
             SLICE_ARGS(code != NULL ? code->name
                        : has_error  ? SLICE("an error that is not known")
                                     : SLICE_EMPTY));
    if (is_busy(status, code)) {
        tokens_failure_set(failure, OAUTH_LACK_UNREACHABLE, reason);
        return GRANT_BLAME_SOURCE;
    }
    if (is_exchange && has_error && (code == NULL || code->is_about_subject)) {
        tokens_failure_set(failure, OAUTH_LACK_REFUSED, reason);
        return GRANT_BLAME_SUBJECT;
    }
    /* Without an error it is no answer of a token endpoint; with one, it does not take us. */
    bool is_about_us = has_error || status == 401;
    tokens_failure_set(failure, is_about_us ? OAUTH_LACK_CLIENT : OAUTH_LACK_UNREACHABLE, reason);
    return has_error || status != 400 ? GRANT_BLAME_SOURCE : GRANT_BLAME_SUBJECT;
}
