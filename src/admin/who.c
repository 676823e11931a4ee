/*
 * Who asks, and whether they may: asked of the store in the transaction that does what they ask
 * for, so that a session that was ended and a role that was taken away count at once.
 */
#include <errno.h>
#include <openssl/crypto.h>

#include "private.h"

static void copy_text(char *out, size_t size, struct slice text) {
    struct slice cut = slice_sub(text, 0, size - 1);
    memcpy(out, cut.ptr, cut.len);
    out[cut.len] = '\0';
}

static bool take_session(void *context, const struct accounts_session *session) {
    struct api_who *who = context;
    copy_text(who->user, sizeof who->user, session->user);
    copy_text(who->session, sizeof who->session, session->id);
    copy_text(who->csrf, sizeof who->csrf, session->csrf);
    copy_text(who->name, sizeof who->name, session->user_name);
    who->must_change = session->must_change;
    who->is_due = session->is_due;
    who->created_ms = session->created_ms;
    who->ends_ms = session->ends_ms;
    return true;
}

static bool take_token(void *context, const struct accounts_token *token) {
    struct api_who *who = context;
    copy_text(who->user, sizeof who->user, token->user);
    copy_text(who->token, sizeof who->token, token->id);
    copy_text(who->name, sizeof who->name, token->user_name);
    who->is_token = true;
    who->used_ms = token->used_ms;
    who->created_ms = token->created_ms;
    who->ends_ms = token->expires_ms;
    return true;
}

static int find(struct store_tx *tx, struct api_request *request,
                enum guard_credentials credentials, const struct guard_who *presented) {
    struct api_who who = {.is_known = false};
    int error = ACCOUNTS_E_NONE;
    if (credentials == GUARD_COOKIE_SENT)
        error = accounts_find_session(tx, presented->session, presented->secret, take_session, &who,
                                      &who.rights);
    else if (credentials == GUARD_BEARER)
        error = accounts_find_token(tx, presented->token, take_token, &who, &who.rights);
    if (error != 0)
        return error;
    who.is_known = true;
    policy_rights_unref(request->who.rights);
    request->who = who;
    return 0;
}

int api_become(struct store_tx *tx, struct api_request *request,
               const struct accounts_cookie *cookie) {
    const struct guard_who presented = {
        .session = slice_from_cstr(cookie->session),
        .secret = slice_from_cstr(cookie->secret),
    };
    int error = find(tx, request, GUARD_COOKIE_SENT, &presented);
    return error == 0 ? api_write_cookie(&request->answer.fields, cookie) : error;
}

static bool note_user(void *context, const struct accounts_session *session) {
    copy_text(context, ACCOUNTS_ID + 1, session->user);
    return true;
}

int api_end_presented(struct store_tx *tx, struct api_request *request) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
    struct policy_rights *rights = NULL;
    char user[ACCOUNTS_ID + 1] = "";
    if (request->credentials != GUARD_COOKIE_SENT)
        return 0;
    int error = accounts_find_session(tx, request->presented.session, request->presented.secret,
                                      note_user, user, &rights);
    const struct accounts_actor actor = {.user = slice_from_cstr(user), .rights = rights};
    if (error == 0)
        error = accounts_end_session(tx, &actor, request->presented.session, &reason);
    policy_rights_unref(rights);
    return error == ACCOUNTS_E_NONE ? 0 : error;
}

static bool is_safe(const struct api_request *request) {
    return request->method == HTTP_METHOD_GET;
}

/* A page of another origin makes the browser send the cookie at most, never this field (OWASP, CSRF
 * prevention, synchroniser token). */
static bool has_csrf_token(const struct api_request *request) {
    size_t len = strlen(request->who.csrf);
    return len == ACCOUNTS_SECRET && request->csrf.len == len &&
           CRYPTO_memcmp(request->csrf.ptr, request->who.csrf, len) == 0;
}

static int may(struct api_request *request) {
    const struct api_route *route = request->route;
    if (!is_safe(request) && !request->who.is_token && !has_csrf_token(request))
        return api_refuse_kind(request, 403, "csrf", "X-CSRF-Token is missing, or another one",
                               "send the csrf_token of GET /api/v1/session");
    if (request->who.must_change && !route->before_change)
        return api_refuse_kind(request, 403, "password-change",
                               "the password has to be changed before anything else",
                               "POST /api/v1/session/password");
    if (route->need == API_NEED_SELF)
        return request->who.is_token && !is_safe(request)
                   ? api_refuse(request, 403, "this is for sessions of the console, not for tokens",
                                NULL)
                   : 0;
    if (api_may(request, (enum permission)route->need))
        return 0;
    (void)api_refuse_kind(request, 403, "permission", "this needs the permission ",
                          "ask an administrator for a role that has it");
    buf_append(&request->answer.reason, api_need_name(route->need));
    return API_E_REFUSED;
}

int api_find_who(struct store_tx *tx, struct api_request *request) {
    int error = find(tx, request, request->credentials, &request->presented);
    if (error == ACCOUNTS_E_NONE) {
        (void)api_refuse(request, 401, "the session or the token is none, or is over",
                         "log in again");
        if (request->credentials == GUARD_COOKIE_SENT)
            (void)api_write_no_cookie(&request->answer.fields);
        return API_E_REFUSED;
    }
    return error != 0 ? error : may(request);
}
