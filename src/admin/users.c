/* Users. Who may do what to whom is accounts/'s to decide, in the same transaction. */
#include <errno.h>

#include "base/secret.h"
#include "handlers.h"
#include "private.h"

/* --- as JSON --- */

static void write_user(struct json_writer *writer, const struct accounts_user *user) {
    json_object_begin(writer);
    api_write_text(writer, "id", user->id);
    api_write_text(writer, "name", user->name);
    api_write_text(writer, "display_name", user->display_name);
    api_write_text(writer, "email", user->email);
    json_kv_bool(writer, SLICE("is_disabled"), user->is_disabled);
    json_kv_bool(writer, SLICE("must_change"), user->must_change);
    json_kv_bool(writer, SLICE("has_password"), user->has_password);
    json_key(writer, SLICE("roles"));
    json_array_begin(writer);
    for (size_t i = 0; i < user->n_roles; i++)
        json_string(writer, user->roles[i]);
    json_array_end(writer);
    api_write_time(writer, "created", user->created_ms);
    api_write_time(writer, "updated", user->updated_ms);
    api_write_time(writer, "last_login", user->login_ms);
    json_kv_u64(writer, SLICE("version"), user->version);
    json_object_end(writer);
}

struct listing {
    struct api_page page;
    struct buf last; /* the name of the last one that is told */
};

static bool list_user(void *context, const struct accounts_user *user) {
    struct listing *listing = context;
    if (!api_page_takes(&listing->page))
        return false;
    write_user(&listing->page.writer, user);
    buf_reset(&listing->last, KIB(1));
    buf_append(&listing->last, user->name);
    return true;
}

int api_list_users(struct store_tx *tx, struct api_request *request) {
    CLEANUP(buf_deinit) struct buf after = BUF_INIT(KIB(1));
    struct listing listing = {.last = BUF_INIT(KIB(1))};
    struct slice search = api_query(request, "search");
    int error = api_read_cursor(request, &after);
    if (error != 0)
        return error;
    api_page_begin(&listing.page, request);
    error = accounts_list_users(tx, search.ptr != NULL ? search : SLICE_EMPTY, buf_slice(&after),
                                listing.page.most + 1, list_user, &listing);
    api_page_end(&listing.page, buf_slice(&listing.last));
    buf_deinit(&listing.last);
    return error;
}

static bool take_user(void *context, const struct accounts_user *user) {
    struct api_request *request = context;
    struct json_writer writer;
    json_writer_init(&writer, &request->answer.body);
    write_user(&writer, user);
    request->answer.etag = user->version;
    return true;
}

static int answer_user(struct store_tx *tx, struct api_request *request, struct slice user) {
    return accounts_get_user(tx, user, take_user, request);
}

int api_get_user(struct store_tx *tx, struct api_request *request) {
    return answer_user(tx, request, request->parameters[0]);
}

/* --- changing --- */

static int read_change(struct api_request *request, struct accounts_user_change *change) {
    struct slice *roles = NULL;
    int error = api_text(request, "name", &change->name);
    if (error == 0)
        error = api_text(request, "display_name", &change->display_name);
    if (error == 0)
        error = api_text(request, "email", &change->email);
    if (error == 0)
        error = schema_texts(request->reader, "roles", &request->arena, &roles, &change->n_roles);
    if (error != 0)
        return error;
    change->roles = roles;
    change->is_disabled = schema_bool(request->reader, "is_disabled");
    change->must_change = schema_bool(request->reader, "must_change");
    if (buf_len(&request->password_hash) != 0)
        change->password_hash = buf_slice(&request->password_hash);
    change->version = request->match == GUARD_MATCH_ONE ? request->version : 0;
    return 0;
}

int api_add_user(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct accounts_user_change change = {.is_disabled = -1};
    char id[ACCOUNTS_ID + 1];
    int error = read_change(request, &change);
    change.version = 0;
    /* Somebody else has chosen it. */
    if (change.must_change < 0)
        change.must_change = change.password_hash.len != 0;
    if (error == 0)
        error = accounts_add_user(tx, &actor, &change, id, &request->answer.reason);
    if (error == 0)
        error = answer_user(tx, request, slice_from_cstr(id));
    if (error == 0)
        buf_printf(&request->answer.fields, "Location: /api/v1/users/%s\r\n", id);
    return error;
}

static bool take_id(void *context, const struct accounts_user *user) {
    char *id = context;
    memcpy(id, user->id.ptr, user->id.len < ACCOUNTS_ID ? user->id.len : ACCOUNTS_ID);
    return true;
}

/* By id, so that a new name finds it, too. */
static int find_id(struct store_tx *tx, struct slice user, char id[ACCOUNTS_ID + 1]) {
    memset(id, 0, ACCOUNTS_ID + 1);
    return accounts_get_user(tx, user, take_id, id);
}

/* Other rights, another session: who had the old one, has nothing of the new rights. */
static int renew_own(struct store_tx *tx, struct api_request *request) {
    struct accounts_cookie cookie;
    int error = accounts_renew_session(tx, slice_from_cstr(request->who.session), &cookie);
    if (error == 0)
        error = api_write_cookie(&request->answer.fields, &cookie);
    if (error == 0)
        buf_printf(&request->answer.fields, "X-CSRF-Token: %s\r\n", cookie.csrf);
    secret_wipe(&cookie, sizeof cookie);
    return error == ACCOUNTS_E_NONE ? 0 : error; /* they have just disabled themselves */
}

int api_change_user(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct accounts_user_change change = {.is_disabled = -1};
    char id[ACCOUNTS_ID + 1];
    int error = read_change(request, &change);
    if (error == 0)
        error = find_id(tx, request->parameters[0], id);
    if (error == 0)
        error =
            accounts_change_user(tx, &actor, slice_from_cstr(id), &change, &request->answer.reason);
    if (error == 0)
        error = answer_user(tx, request, slice_from_cstr(id));
    bool is_own = slice_eq(slice_from_cstr(id), actor.user) && actor.session.len != 0;
    return error == 0 && is_own && change.roles != NULL ? renew_own(tx, request) : error;
}

int api_delete_user(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    return accounts_delete_user(tx, &actor, request->parameters[0],
                                request->match == GUARD_MATCH_ONE ? request->version : 0,
                                &request->answer.reason);
}

int api_reset_password(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct accounts_user_change change = {
        .is_disabled = -1,
        .must_change = schema_bool(request->reader, "must_change") != 0,
        .revokes_tokens = schema_bool(request->reader, "revoke_tokens") != 0,
        .password_hash = buf_slice(&request->password_hash)};
    int error =
        accounts_change_user(tx, &actor, request->parameters[0], &change, &request->answer.reason);
    return error == 0 ? answer_user(tx, request, request->parameters[0]) : error;
}
