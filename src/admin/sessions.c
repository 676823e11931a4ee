/* Sessions of the console: one's own, and with sessions.all those of everybody. */
#include <errno.h>

#include "handlers.h"
#include "private.h"

enum { MOST = 1000 };

struct listing {
    struct json_writer writer;
    struct slice own;
    size_t n;
};

static bool list_session(void *context, const struct accounts_session *session) {
    struct listing *listing = context;
    struct json_writer *writer = &listing->writer;
    if (listing->n++ == MOST)
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
    return true;
}

/* A token, which may have fewer rights than its user, is not its user's browser. */
static bool sees_own(const struct api_request *request) {
    return !request->who.is_token || api_may(request, PERMISSION_SESSIONS_ALL);
}

static int find_user(struct api_request *request, struct slice *ret_user) {
    struct slice user = api_query(request, "user");
    bool is_own = user.ptr == NULL || slice_eq(user, slice_from_cstr(request->who.user));
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
    struct slice user = SLICE_EMPTY;
    int error = find_user(request, &user);
    if (error != 0)
        return error;
    json_writer_init(&listing.writer, &request->answer.body);
    json_object_begin(&listing.writer);
    json_key(&listing.writer, SLICE("items"));
    json_array_begin(&listing.writer);
    error = accounts_list_sessions(tx, user, list_session, &listing);
    json_array_end(&listing.writer);
    json_object_end(&listing.writer);
    return error;
}

int api_end_session(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    int error = accounts_end_session(tx, &actor, request->parameters[0], &request->answer.reason);
    bool is_own = slice_eq(request->parameters[0], actor.session);
    return error == 0 && is_own ? api_write_no_cookie(&request->answer.fields) : error;
}
