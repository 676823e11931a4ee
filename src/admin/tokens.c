/* Tokens: one's own, and with tokens.all those of everybody. What belongs to somebody else looks to
 * others as if it were not there. */
#include <errno.h>

#include "base/secret.h"
#include "handlers.h"
#include "private.h"

enum { DAY_MS = 24 * 60 * 60 * 1000 };

struct listing {
    struct api_page page;
    struct accounts_place last;
};

static void write_token(struct json_writer *writer, const struct accounts_token *token) {
    json_object_begin(writer);
    api_write_text(writer, "id", token->id);
    api_write_text(writer, "name", token->name);
    api_write_text(writer, "prefix", token->prefix);
    json_key(writer, SLICE("user"));
    json_object_begin(writer);
    api_write_text(writer, "id", token->user);
    api_write_text(writer, "name", token->user_name);
    json_object_end(writer);
    json_key(writer, SLICE("rights"));
    if (token->rights.len != 0)
        json_raw(writer, token->rights);
    else
        json_null(writer);
    api_write_time(writer, "created", token->created_ms);
    api_write_time(writer, "expires", token->expires_ms);
    api_write_time(writer, "last_used", token->used_ms);
    json_object_end(writer);
}

static bool list_token(void *context, const struct accounts_token *token) {
    struct listing *listing = context;
    if (!api_page_takes(&listing->page))
        return false;
    write_token(&listing->page.writer, token);
    listing->last.created_ms = token->created_ms;
    (void)!slice_to_cstr(token->id, listing->last.id, sizeof listing->last.id);
    return true;
}

/* By id or name. */
static NO_INLINE bool is_of(const struct api_who *who, struct slice user) {
    return slice_eq(user, slice_from_cstr(who->user)) ||
           slice_eq_nocase(user, slice_from_cstr(who->name));
}

/* Whose: "*" is everybody's. */
static int find_user(struct api_request *request, struct slice *ret_user) {
    struct slice user = api_query(request, "user");
    if (user.ptr == NULL || is_of(&request->who, user)) {
        *ret_user = slice_from_cstr(request->who.user);
        return 0;
    }
    if (!api_may(request, PERMISSION_TOKENS_ALL))
        return api_refuse_kind(request, 403, "permission",
                               "tokens of others need the permission tokens.all", NULL);
    *ret_user = slice_eq(user, SLICE("*")) ? SLICE_EMPTY : user;
    return 0;
}

int api_list_tokens(struct store_tx *tx, struct api_request *request) {
    struct listing listing = {.last = {.created_ms = 0}};
    struct accounts_place after = {.created_ms = 0};
    struct slice user = SLICE_EMPTY;
    bool goes_on = false;
    int error = find_user(request, &user);
    if (error == 0)
        error = api_read_place(request, &after, &goes_on);
    if (error != 0)
        return error;
    api_page_begin(&listing.page, request);
    error = accounts_list_tokens(tx, user, goes_on ? &after : NULL, listing.page.most + 1,
                                 list_token, &listing);
    api_page_end_at(&listing.page, &listing.last);
    return error;
}

/* --- a new one --- */

/* Without rights of its own it has its user's, as they will be; a token that has fewer must not
 * make one that has more. */
static int check_new(const struct accounts_token_new *options, struct api_request *request) {
    bool is_own = is_of(&request->who, options->user);
    if (!is_own && !api_may(request, PERMISSION_TOKENS_ALL))
        return api_refuse_kind(request, 403, "permission",
                               "tokens for others need the permission tokens.all", NULL);
    if (request->who.is_token && options->rights.len == 0)
        return api_refuse(request, 403, "a token that makes a token says which rights it has",
                          "send rights");
    return 0;
}

static void write_new(struct api_request *request, const struct accounts_token_new *options,
                      const char *id, const char *token) {
    struct json_writer writer;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    api_write_text(&writer, "id", slice_from_cstr(id));
    api_write_text(&writer, "name", options->name);
    api_write_text(&writer, "token", slice_from_cstr(token));
    json_object_end(&writer);
}

int api_add_token(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct accounts_token_new options = {.rights = schema_raw(request->reader, "rights")};
    char id[ACCOUNTS_ID + 1], token[ACCOUNTS_TOKEN + 1];
    uint64_t days = 0;
    int error = api_text(request, "name", &options.name);
    if (error == 0)
        error = api_text(request, "user", &options.user);
    if (error != 0)
        return error;
    if (options.user.ptr == NULL)
        options.user = slice_from_cstr(request->who.user);
    if (schema_number(request->reader, "days", &days))
        options.lifetime_ms = days * DAY_MS;
    error = check_new(&options, request);
    if (error == 0)
        error = accounts_add_token(tx, &actor, &options, id, token, &request->answer.reason);
    if (error == 0)
        write_new(request, &options, id, token);
    secret_wipe(token, sizeof token);
    return error;
}

/* --- taking one away --- */

int api_delete_token(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    return accounts_delete_token(tx, &actor, request->parameters[0], &request->answer.reason);
}

int api_delete_tokens(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct json_writer writer;
    uint64_t n = 0;
    int error =
        accounts_delete_tokens(tx, &actor, request->parameters[0], &n, &request->answer.reason);
    if (error != 0)
        return error;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_kv_u64(&writer, SLICE("revoked"), n);
    json_object_end(&writer);
    return 0;
}
