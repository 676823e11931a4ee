/* Sessions of the console: one's own, and with sessions.all those of everybody. */
#include <errno.h>

#include "handlers.h"
#include "private.h"

struct listing {
    struct api_page page;
    struct slice own;
    struct accounts_place last;
};

static bool list_session(void *context, const struct accounts_session *session) {
    struct listing *listing = context;
    struct json_writer *writer = &listing->page.writer;
    if (!api_page_takes(&listing->page))
        return false;
    json_object_begin(writer);
    api_write_text(writer, "id", session->id);
    json_key(writer, SLICE("user"));
    json_object_begin(writer);
    api_write_text(writer, "id", session->user);
    api_write_text(writer, "name", session->user_name);
    json_object_end(writer);
    api_write_text(writer, "address", session->address);
    api_write_text(writer, "agent", session->agent);
    api_write_time(writer, "created", session->created_ms);
    api_write_time(writer, "last_seen", session->seen_ms);
    api_write_time(writer, "ends", session->ends_ms);
    json_kv_bool(writer, SLICE("is_own"), slice_eq(session->id, listing->own));
    json_object_end(writer);
    listing->last.created_ms = session->created_ms;
    (void)!slice_to_cstr(session->id, listing->last.id, sizeof listing->last.id);
    return true;
}

/* A token, which may have fewer rights than its user, is not its user's browser. */
static bool sees_own(const struct api_request *request) {
    return !request->who.is_token || api_may(request, PERMISSION_SESSIONS_ALL);
}

static int find_user(struct api_request *request, struct slice *ret_user) {
    struct slice user = api_query(request, "user");
    bool is_own = user.ptr == NULL || slice_eq(user, slice_from_cstr(request->who.user)) ||
                  slice_eq_nocase(user, slice_from_cstr(request->who.name));
    if (!sees_own(request) || (!is_own && !api_may(request, PERMISSION_SESSIONS_ALL)))
        return api_refuse_kind(request, 403, "permission",
                               "sessions of others need the permission sessions.all", NULL);
    *ret_user = slice_from_cstr(request->who.user);
    if (!is_own)
        *ret_user = slice_eq(user, SLICE("*")) ? SLICE_EMPTY : user;
    return 0;
}

int api_list_sessions(struct store_tx *tx, struct api_request *request) {
    struct listing listing = {.own = slice_from_cstr(request->who.session)};
    struct accounts_place after = {.created_ms = 0};
    struct slice user = SLICE_EMPTY;
    bool goes_on = false;
    int error = find_user(request, &user);
    if (error == 0)
        error = api_read_place(request, &after, &goes_on);
    if (error != 0)
        return error;
    api_page_begin(&listing.page, request);
    error = accounts_list_sessions(tx, user, goes_on ? &after : NULL, listing.page.most + 1,
                                   list_session, &listing);
    api_page_end_at(&listing.page, &listing.last);
    return error;
}

int api_end_session(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    int error = accounts_end_session(tx, &actor, request->parameters[0], &request->answer.reason);
    bool is_own = slice_eq(request->parameters[0], actor.session);
    return error == 0 && is_own ? api_write_no_cookie(&request->answer.fields) : error;
}
