/*
 * Logging in, changing one's password, and the first administrator.
 *
 * A password takes as long to look at whether or not there is somebody of that name, and the answer
 * is the same. What it needs is asked in one transaction, looked at on a thread of its own, and
 * what follows from it is another transaction: none is open while Argon2 runs.
 */
#include <errno.h>

#include "accounts/password.h"
#include "base/mem.h"
#include "base/secret.h"
#include "handlers.h"
#include "private.h"

struct attempt {
    struct buf hash, new_hash;
    struct slice name, password, new_password;
    uint64_t wait_ms;
    bool is_right;
    int error; /* of the hashing */
    void (*when_right)(struct api_request *request);
};

static void wipe(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
}

static void free_attempt(struct api_request *request) {
    struct attempt *attempt = request->own;
    wipe(&attempt->hash);
    wipe(&attempt->new_hash);
    mem_free(attempt);
}

static struct attempt *new_attempt(struct api_request *request) {
    struct attempt *attempt = mem_xalloc(sizeof *attempt);
    buf_init(&attempt->hash, KIB(4));
    buf_init(&attempt->new_hash, KIB(4));
    request->own = attempt;
    request->free_own = free_attempt;
    return attempt;
}

static void done(struct api_request *request) {
    api_request_done(request, request->job.result);
}

/* --- a password is looked at --- */

static int begin_work(struct store_tx *tx, struct api_request *request) {
    struct attempt *attempt = request->own;
    buf_reset(&attempt->hash, KIB(4));
    attempt->wait_ms = 0;
    return accounts_begin_login(tx, attempt->name, slice_from_cstr(request->client_text),
                                &attempt->hash, &attempt->wait_ms);
}

static int fail_work(struct store_tx *tx, struct api_request *request) {
    const struct attempt *attempt = request->own;
    return accounts_fail_login(tx, attempt->name, slice_from_cstr(request->client_text));
}

/* 401 would be for the session of whoever changes a password: it is good. */
static void on_failed(struct api_request *request) {
    int error = request->job.result != 0 ? request->job.result : ACCOUNTS_E_LOGIN;
    if (error == ACCOUNTS_E_LOGIN && request->route->need == API_NEED_SELF)
        error = api_refuse_kind(request, 403, "login", "password: is not the present one", NULL);
    api_request_done(request, error);
}

static void look_at_password(struct api_request *request) {
    struct attempt *attempt = request->own;
    bool is_old = false;
    if (buf_len(&attempt->hash) == 0)
        password_pretend(attempt->password);
    else
        attempt->is_right = password_is(attempt->password, buf_slice(&attempt->hash), &is_old);
    if (attempt->is_right && attempt->new_password.ptr != NULL)
        attempt->error = password_hash(attempt->new_password, &attempt->new_hash);
    else if (attempt->is_right && is_old)
        attempt->error = password_hash(attempt->password, &attempt->new_hash);
}

static void on_looked(struct api_request *request) {
    const struct attempt *attempt = request->own;
    if (!attempt->is_right)
        api_in_store(request, STORE_NOTE, fail_work, on_failed);
    else if (attempt->error != 0)
        api_request_done(request, attempt->error);
    else
        attempt->when_right(request);
}

static void on_begun(struct api_request *request) {
    const struct attempt *attempt = request->own;
    if (request->job.result == ACCOUNTS_E_WAIT)
        request->answer.wait_ms = attempt->wait_ms;
    if (request->job.result != 0)
        api_request_done(request, request->job.result);
    else
        (void)!api_in_crew(request, request->api->hashers, look_at_password, on_looked);
}

/* --- the session, as it is told --- */

static void write_permissions(const struct api_request *request, struct json_writer *writer) {
    json_key(writer, SLICE("permissions"));
    json_array_begin(writer);
    for (unsigned i = 0; i < PERMISSION_COUNT; i++) {
        if (api_may(request, (enum permission)i))
            json_string(writer, permission_name((enum permission)i));
    }
    json_array_end(writer);
}

static int write_session(struct api_request *request) {
    CLEANUP(buf_deinit) struct buf rights = BUF_INIT(MIB(1));
    const struct api_who *who = &request->who;
    struct json_writer writer;
    int error = policy_rights_write(who->rights, &rights);
    if (error != 0)
        return error;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_key(&writer, SLICE("user"));
    json_object_begin(&writer);
    api_write_text(&writer, "id", slice_from_cstr(who->user));
    api_write_text(&writer, "name", slice_from_cstr(who->name));
    json_object_end(&writer);
    if (who->is_token) {
        api_write_text(&writer, "token", slice_from_cstr(who->token));
    } else {
        api_write_text(&writer, "session", slice_from_cstr(who->session));
        api_write_text(&writer, "csrf_token", slice_from_cstr(who->csrf));
        json_kv_bool(&writer, SLICE("must_change"), who->must_change);
    }
    api_write_time(&writer, "created", who->created_ms);
    api_write_time(&writer, "ends", who->ends_ms);
    write_permissions(request, &writer);
    json_kv_raw(&writer, SLICE("rights"), buf_slice(&rights));
    json_object_end(&writer);
    return 0;
}

int api_get_session(struct store_tx *tx, struct api_request *request) {
    (void)tx;
    return write_session(request);
}

int api_logout(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    int error = accounts_end_session(tx, &actor, actor.session, &request->answer.reason);
    return error == 0 ? api_write_no_cookie(&request->answer.fields) : error;
}

/* --- login --- */

static int open_session(struct store_tx *tx, struct api_request *request, struct slice user,
                        struct slice hash, struct slice new_hash) {
    const struct api_options *options = &request->api->options;
    struct accounts_cookie cookie;
    const struct accounts_session_new session = {
        .user = user,
        .address = slice_from_cstr(request->client_text),
        .agent = request->agent,
        .idle_ms = options->session_idle_ms,
        .max_ms = options->session_max_ms,
        .hash = hash,
        .new_hash = new_hash,
    };
    int error = accounts_open_session(tx, &session, &cookie);
    if (error == 0)
        error = api_become(tx, request, &cookie);
    secret_wipe(&cookie, sizeof cookie);
    return error;
}

/* A cookie that came along ends: whoever planted one in the browser has nothing of it. */
static int login_work(struct store_tx *tx, struct api_request *request) {
    const struct attempt *attempt = request->own;
    int error = api_end_presented(tx, request);
    if (error == 0)
        error = open_session(tx, request, attempt->name, buf_slice(&attempt->hash),
                             buf_slice(&attempt->new_hash));
    return error == 0 ? write_session(request) : error;
}

static void let_in(struct api_request *request) {
    api_in_store(request, STORE_NOTE, login_work, done);
}

void api_login(struct api_request *request) {
    struct attempt *attempt = new_attempt(request);
    attempt->when_right = let_in;
    int error = api_text(request, "name", &attempt->name);
    if (error == 0)
        error = api_text(request, "password", &attempt->password);
    if (error != 0)
        api_request_done(request, error);
    else
        api_in_store(request, STORE_NOTE, begin_work, on_begun);
}

/* --- another password --- */

static int change_work(struct store_tx *tx, struct api_request *request) {
    const struct attempt *attempt = request->own;
    /* Whoever knows the old one may, whatever else they may. */
    struct accounts_actor actor = {.is_owner = true};
    const struct accounts_user_change change = {
        .password_hash = buf_slice(&attempt->new_hash),
        .is_disabled = -1,
        .must_change = 0,
        .revokes_tokens = schema_bool(request->reader, "revoke_tokens") > 0};
    char user[ACCOUNTS_ID + 1];
    memcpy(user, request->who.user, sizeof user);
    /* First a session for the password that was looked at: it may have been reset meanwhile. */
    int error =
        open_session(tx, request, slice_from_cstr(user), buf_slice(&attempt->hash), SLICE_EMPTY);
    actor.session = slice_from_cstr(request->who.session);
    if (error == 0)
        error = accounts_change_user(tx, &actor, slice_from_cstr(user), &change,
                                     &request->answer.reason);
    request->who.must_change = false;
    return error == 0 ? write_session(request) : error;
}

static void change_it(struct api_request *request) {
    api_in_store(request, STORE_WRITE, change_work, done);
}

void api_change_password(struct api_request *request) {
    struct attempt *attempt = new_attempt(request);
    attempt->when_right = change_it;
    attempt->name = slice_from_cstr(request->who.name);
    int error = api_text(request, "password", &attempt->password);
    if (error == 0)
        error = api_text(request, "new_password", &attempt->new_password);
    const char *refusal =
        error == 0 ? password_refusal(attempt->new_password, attempt->name) : NULL;
    if (error == 0 && slice_eq(attempt->password, attempt->new_password))
        refusal = "it is the old one";
    if (refusal != NULL) {
        error = api_refuse_kind(request, 422, "password", "new_password: ", NULL);
        buf_append_cstr(&request->answer.reason, refusal);
    }
    if (error != 0)
        api_request_done(request, error);
    else
        api_in_store(request, STORE_NOTE, begin_work, on_begun);
}

/* --- the first administrator --- */

int api_get_setup(struct store_tx *tx, struct api_request *request) {
    struct json_writer writer;
    bool has = true;
    int error = accounts_has_users(tx, &has);
    if (error != 0)
        return error;
    json_writer_init(&writer, &request->answer.body);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("is_needed"), !has);
    json_object_end(&writer);
    return 0;
}

static int check_setup_work(struct store_tx *tx, struct api_request *request) {
    bool has = true;
    int error = accounts_has_users(tx, &has);
    if (error == 0 && has)
        return api_refuse_kind(request, 409, "set-up", "this gateway is set up", "log in");
    return error;
}

static int set_up_work(struct store_tx *tx, struct api_request *request) {
    struct attempt *attempt = request->own;
    struct accounts_user_change user = {.password_hash = buf_slice(&attempt->new_hash),
                                        .is_disabled = 0,
                                        .must_change = 0,
                                        .name = attempt->name};
    struct slice code = {0};
    char id[ACCOUNTS_ID + 1];
    int error = api_text(request, "code", &code);
    if (error == 0)
        error = api_text(request, "display_name", &user.display_name);
    if (error == 0)
        error = api_text(request, "email", &user.email);
    if (error == 0)
        error = accounts_use_setup(tx, code, &user, id, &request->answer.reason);
    if (error == ACCOUNTS_E_LOGIN)
        return api_refuse_kind(request, 401, "set-up", "the code is none, or is over",
                               "start the gateway again for another one, or: cardea user add "
                               "NAME --admin");
    if (error == 0)
        error = open_session(tx, request, slice_from_cstr(id), SLICE_EMPTY, SLICE_EMPTY);
    return error == 0 ? write_session(request) : error;
}

static void hash_first(struct api_request *request) {
    struct attempt *attempt = request->own;
    attempt->error = password_hash(attempt->password, &attempt->new_hash);
}

static void on_first_hashed(struct api_request *request) {
    const struct attempt *attempt = request->own;
    if (attempt->error != 0)
        api_request_done(request, attempt->error);
    else
        api_in_store(request, STORE_WRITE, set_up_work, done);
}

static void on_setup_checked(struct api_request *request) {
    if (request->job.result != 0)
        api_request_done(request, request->job.result);
    else
        (void)!api_in_crew(request, request->api->hashers, hash_first, on_first_hashed);
}

void api_set_up(struct api_request *request) {
    struct attempt *attempt = new_attempt(request);
    int error = api_text(request, "name", &attempt->name);
    if (error == 0)
        error = api_text(request, "password", &attempt->password);
    const char *refusal = error == 0 ? password_refusal(attempt->password, attempt->name) : NULL;
    if (refusal != NULL) {
        error = api_refuse_kind(request, 422, "password", "password: ", NULL);
        buf_append_cstr(&request->answer.reason, refusal);
    }
    if (error != 0)
        api_request_done(request, error);
    else
        api_in_store(request, STORE_READ, check_setup_work, on_setup_checked);
}
