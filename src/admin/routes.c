#include <errno.h>

#include "base/compiler.h"
#include "handlers.h"
#include "route.h"
#include "schemas.h"

const struct api_route api_routes[] = {
    /* who */
    ROUTE(POST, "/api/v1/login", PUBLIC, LOGIN, .summary = "Begins a session.",
          .request = &schema_login, .answer = &schema_session, .begin = api_login),
    ROUTE(POST, "/api/v1/logout", SELF, LOGOUT, .summary = "Ends the session.", .status = 204,
          .before_change = true, .work = api_logout),
    ROUTE(GET, "/api/v1/session", SELF, NONE_READ,
          .summary = "Who is logged in, and what they may.", .answer = &schema_session,
          .before_change = true, .work = api_get_session),
    ROUTE(POST, "/api/v1/session/password", SELF, PASSWORD,
          .summary = "Changes one's own password; all of one's sessions end, and a new one begins.",
          .request = &schema_new_password, .answer = &schema_session, .before_change = true,
          .begin = api_change_password),
    ROUTE(GET, "/api/v1/setup", PUBLIC, NONE_READ,
          .summary = "Whether the first administrator is still to be made.",
          .answer = &schema_setup_state, .work = api_get_setup),
    ROUTE(POST, "/api/v1/setup", PUBLIC, SETUP,
          .summary = "Makes the first administrator, with the code of the set-up link, and begins "
                     "a session.",
          .request = &schema_set_up, .answer = &schema_session, .begin = api_set_up),
    ROUTE(GET, "/api/v1/sessions", SELF, NONE_READ, .summary = "Sessions of the console.",
          .query = query_sessions, .answer = &schema_sessions, .work = api_list_sessions),
    ROUTE(DELETE, "/api/v1/sessions/{session}", SELF, SESSION,
          .summary = "Ends a session: one's own; those of others need sessions.all.", .status = 204,
          .work = api_end_session),
    /* users */
    ROUTE(GET, "/api/v1/users", USERS_READ, NONE_READ, .summary = "Users, by name.",
          .query = query_users, .answer = &schema_users, .work = api_list_users),
    ROUTE(POST, "/api/v1/users", USERS_WRITE, USER, .summary = "A new user.",
          .request = &schema_new_user, .answer = &schema_user, .status = 201, .has_etag = true,
          .password = "password", .work = api_add_user),
    ROUTE(GET, "/api/v1/users/{user}", USERS_READ, NONE_READ, .summary = "A user, by id or name.",
          .answer = &schema_user, .has_etag = true, .work = api_get_user),
    ROUTE(PATCH, "/api/v1/users/{user}", USERS_WRITE, USER,
          .summary = "Changes what is sent. Other roles end the user's sessions; one's own goes on "
                     "with a new cookie and the CSRF token of the X-CSRF-Token that is answered.",
          .request = &schema_user_change, .answer = &schema_user, .needs_match = true,
          .has_etag = true, .work = api_change_user),
    ROUTE(DELETE, "/api/v1/users/{user}", USERS_WRITE, USER,
          .summary = "Deletes a user, with tokens and sessions.", .status = 204,
          .needs_match = true, .work = api_delete_user),
    ROUTE(POST, "/api/v1/users/{user}/password", USERS_WRITE, PASSWORD,
          .summary = "Gives a user another password, to be changed at the next login. Ends the "
                     "user's sessions, and revokes the user's tokens unless that is declined.",
          .request = &schema_password, .answer = &schema_user, .has_etag = true,
          .password = "password", .work = api_reset_password),
    /* roles */
    ROUTE(GET, "/api/v1/roles", ROLES_READ, NONE_READ, .summary = "Roles, and what they give.",
          .query = query_pages, .answer = &schema_roles, .work = api_list_roles),
    ROUTE(POST, "/api/v1/roles", ROLES_WRITE, ROLE, .summary = "A new role.",
          .request = &schema_new_role, .answer = &schema_role, .status = 201, .has_etag = true,
          .work = api_add_role),
    ROUTE(GET, "/api/v1/roles/{role}", ROLES_READ, NONE_READ, .summary = "A role, by id or name.",
          .answer = &schema_role, .has_etag = true, .work = api_get_role),
    ROUTE(PATCH, "/api/v1/roles/{role}", ROLES_WRITE, ROLE, .summary = "Changes what is sent.",
          .request = &schema_role_change, .answer = &schema_role, .needs_match = true,
          .has_etag = true, .work = api_change_role),
    ROUTE(DELETE, "/api/v1/roles/{role}", ROLES_WRITE, ROLE,
          .summary = "Deletes a role that nobody has.", .status = 204, .needs_match = true,
          .work = api_delete_role),
    ROUTE(GET, "/api/v1/access", ROLES_READ, NONE_READ,
          .summary = "Who can call what: roles that give it, and users who have them.",
          .query = query_access, .answer = &schema_access, .work = api_list_access),
    /* tokens */
    ROUTE(GET, "/api/v1/tokens", TOKENS_OWN, NONE_READ, .summary = "Tokens, by age.",
          .query = query_tokens, .answer = &schema_tokens, .work = api_list_tokens),
    ROUTE(POST, "/api/v1/tokens", TOKENS_OWN, TOKEN, .summary = "A new token, shown this once.",
          .request = &schema_new_token, .answer = &schema_made_token, .status = 201,
          .work = api_add_token),
    ROUTE(DELETE, "/api/v1/tokens/{token}", TOKENS_OWN, TOKEN,
          .summary = "Deletes a token: one's own; those of others need tokens.all.", .status = 204,
          .work = api_delete_token),
    ROUTE(DELETE, "/api/v1/users/{user}/tokens", TOKENS_ALL, TOKEN,
          .summary = "Deletes all tokens of a user.", .answer = &schema_revoked,
          .work = api_delete_tokens),
    /* edit mode */
    ROUTE(GET, "/api/v1/edit", STATUS_READ, NONE_READ, .summary = "Where edit mode is open.",
          .answer = &schema_edits, .work = api_list_edits),
    ROUTE(POST, "/api/v1/edit", EDIT_OPEN, EDIT,
          .summary = "Opens edit mode for a while; in place of an open one of the same scope and "
                     "name.",
          .request = &schema_new_edit, .answer = &schema_edits, .work = api_open_edit),
    ROUTE(DELETE, "/api/v1/edit", EDIT_OPEN, EDIT, .summary = "Closes edit mode.",
          .query = query_edit, .answer = &schema_closed, .work = api_close_edit),
    /* secrets */
    ROUTE(GET, "/api/v1/secrets", SECRETS_READ, NONE_READ, .summary = "Names of secrets.",
          .answer = &schema_secrets, .work = api_list_secrets),
    ROUTE(PUT, "/api/v1/secrets/{secret}", SECRETS_WRITE, SECRET,
          .summary = "Keeps a secret, in place of an old one. No route gives it out.",
          .request = &schema_value, .status = 204, .work = api_put_secret),
    ROUTE(DELETE, "/api/v1/secrets/{secret}", SECRETS_WRITE, SECRET, .summary = "Deletes a secret.",
          .status = 204, .work = api_delete_secret),
    /* the trail */
    ROUTE(GET, "/api/v1/audit", AUDIT_READ, NONE_READ, .summary = "Records of the audit trail.",
          .query = query_audit, .answer = &schema_audit_page, .begin = api_list_audit),
    ROUTE(GET, "/api/v1/audit/head", AUDIT_READ, NONE_READ,
          .summary = "Where the trail ends, to be kept elsewhere, and how it is.",
          .answer = &schema_audit_head, .begin = api_get_audit_head),
    ROUTE(GET, "/api/v1/audit/export", AUDIT_EXPORT, EXPORT,
          .summary = "All records, or those that the filters let through, as CSV or JSON Lines.",
          .query = query_export, .media = "application/octet-stream", .begin = api_export_audit),
    /* the gateway */
    ROUTE(GET, "/api/v1/upstreams", UPSTREAMS_READ, NONE_READ,
          .summary = "Upstreams of the file and of the store, and how they are.",
          .answer = &schema_upstreams, .begin = api_list_upstreams),
    ROUTE(POST, "/api/v1/upstreams", UPSTREAMS_WRITE, UPSTREAM,
          .summary = "A new upstream of the store, which is served when this is answered. Secrets "
                     "in it need secrets.write; cmd, and what is taken from callers, all rights.",
          .request = &schema_new_upstream, .answer = &schema_upstream, .status = 201,
          .has_etag = true, .begin = api_add_upstream),
    ROUTE(GET, "/api/v1/upstreams/{upstream}", UPSTREAMS_READ, NONE_READ,
          .summary = "One of them, with its definition where it is of the store.",
          .answer = &schema_upstream, .has_etag = true, .begin = api_get_upstream),
    ROUTE(PATCH, "/api/v1/upstreams/{upstream}", UPSTREAMS_WRITE, UPSTREAM,
          .summary = "Changes what is sent: the whole definition, or whether it is disabled.",
          .request = &schema_upstream_change, .answer = &schema_upstream, .needs_match = true,
          .has_etag = true, .begin = api_change_upstream),
    ROUTE(DELETE, "/api/v1/upstreams/{upstream}", UPSTREAMS_WRITE, UPSTREAM,
          .summary = "Deletes an upstream of the store.", .status = 204, .needs_match = true,
          .work = api_delete_upstream),
    ROUTE(POST, "/api/v1/upstreams/{upstream}/test", UPSTREAMS_TEST, UPSTREAM,
          .summary = "Connects to an upstream of the file or the store, and says how that went.",
          .answer = &schema_trial, .begin = api_test_upstream),
    ROUTE(POST, "/api/v1/upstream-test", UPSTREAMS_WRITE, UPSTREAM,
          .summary = "Connects by a definition with a url that is not kept; needs "
                     "upstreams.test, too, and for secrets in it secrets.write.",
          .request = &schema_upstream_trial, .answer = &schema_trial, .begin = api_try_upstream),
    ROUTE(GET, "/api/v1/tools", UPSTREAMS_READ, NONE_READ,
          .summary = "Tools of all upstreams, with what the gateway makes of them.",
          .query = query_tools, .answer = &schema_tools, .begin = api_list_tools),
    ROUTE(GET, "/api/v1/health", STATUS_READ, NONE_READ, .summary = "Whether all is well.",
          .answer = &schema_health, .begin = api_get_health),
    ROUTE(GET, "/api/v1/statistics", STATUS_READ, NONE_READ, .summary = "Numbers of the gateway.",
          .answer = &schema_any, .begin = api_get_statistics),
    ROUTE(GET, "/api/v1/config", CONFIG_READ, NONE_READ,
          .summary = "The configuration that is served by, key by key, with where each value comes "
                     "from, without secrets.",
          .answer = &schema_config, .begin = api_get_config),
    ROUTE(GET, "/api/v1/events", SELF, NONE_READ,
          .summary = "A stream of events (SSE) of what the caller may read: edit mode, upstreams, "
                     "the head of the trail.",
          .media = "text/event-stream", .begin = api_open_events),
    /* pages */
    ROUTE(GET, "/setup", PUBLIC, NONE_READ, .summary = "Where the set-up link leads.",
          .page = "setup.html", .media = "text/html; charset=utf-8", .begin = api_get_page),
    ROUTE(GET, "/assets/setup.css", PUBLIC, NONE_READ, .summary = "Its style.", .page = "setup.css",
          .media = "text/css; charset=utf-8", .begin = api_get_page),
    ROUTE(GET, "/assets/setup.js", PUBLIC, NONE_READ, .summary = "Its script.", .page = "setup.js",
          .media = "text/javascript; charset=utf-8", .begin = api_get_page),
    ROUTE(GET, "/api/v1/openapi.json", PUBLIC, NONE_READ, .summary = "This document.",
          .answer = &schema_any, .begin = api_get_openapi),
};
const size_t n_api_routes = ARRAY_LEN(api_routes);

int api_route_find(enum http_method method, struct slice path, struct arena *arena,
                   const struct api_route **ret_route,
                   struct slice ret_parameters[static GUARD_PARAMETERS], unsigned *ret_allowed) {
    unsigned allowed = 0;
    for (size_t i = 0; i < n_api_routes; i++) {
        struct slice parameters[GUARD_PARAMETERS];
        const struct api_route *route = &api_routes[i];
        int error = guard_match_path(route->pattern, path, arena, parameters);
        if (error < 0)
            return error;
        if (error != 0)
            continue;
        allowed |= 1u << route->method;
        if (route->method != method)
            continue;
        *ret_route = route;
        memcpy(ret_parameters, parameters, sizeof parameters);
        return 0;
    }
    *ret_allowed = allowed;
    return allowed != 0 ? API_E_METHOD : API_E_PATH;
}

const char *api_audit_name(enum api_audit audit) {
    switch (audit) {
    case API_AUDIT_NONE_READ:
        return "admin-read";
    case API_AUDIT_LOGIN:
        return "admin-login";
    case API_AUDIT_LOGOUT:
        return "admin-logout";
    case API_AUDIT_SETUP:
        return "admin-setup";
    case API_AUDIT_PASSWORD:
        return "admin-password";
    case API_AUDIT_SESSION:
        return "admin-session";
    case API_AUDIT_USER:
        return "admin-user";
    case API_AUDIT_ROLE:
        return "admin-role";
    case API_AUDIT_TOKEN:
        return "admin-token";
    case API_AUDIT_EDIT:
        return "admin-edit";
    case API_AUDIT_SECRET:
        return "admin-secret";
    case API_AUDIT_UPSTREAM:
        return "admin-upstream";
    case API_AUDIT_EXPORT:
        return "admin-export";
    }
    return "admin-read";
}

struct slice api_need_name(enum api_need need) {
    if (need == API_NEED_PUBLIC)
        return SLICE("public");
    if (need == API_NEED_SELF)
        return SLICE("self");
    return permission_name((enum permission)need);
}

const char *api_method_name(enum http_method method) {
    static const char *const names[] = {
        [HTTP_METHOD_GET] = "GET",         [HTTP_METHOD_HEAD] = "HEAD",
        [HTTP_METHOD_POST] = "POST",       [HTTP_METHOD_PUT] = "PUT",
        [HTTP_METHOD_DELETE] = "DELETE",   [HTTP_METHOD_CONNECT] = "CONNECT",
        [HTTP_METHOD_OPTIONS] = "OPTIONS", [HTTP_METHOD_TRACE] = "TRACE",
        [HTTP_METHOD_PATCH] = "PATCH",     [HTTP_METHOD_OTHER] = "OTHER",
    };
    return names[method];
}
