/* Roles, and who can call what by them. */
#include <errno.h>

#include "base/limits.h"
#include "handlers.h"
#include "private.h"

enum { USUAL_PAGE = 50, MOST_ROLES = LIMIT_ROLES };

/* --- as JSON --- */

static void write_texts(struct json_writer *writer, const char *key, const struct slice *texts,
                        size_t n) {
    json_key(writer, slice_from_cstr(key));
    json_array_begin(writer);
    for (size_t i = 0; i < n; i++)
        json_string(writer, texts[i]);
    json_array_end(writer);
}

static void write_role(struct json_writer *writer, const struct accounts_role *role) {
    json_object_begin(writer);
    api_write_text(writer, "id", role->id);
    api_write_text(writer, "name", role->name);
    api_write_text(writer, "description", role->description);
    json_kv_bool(writer, SLICE("is_system"), role->is_system);
    json_kv_raw(writer, SLICE("rights"), role->rights);
    write_texts(writer, "groups", role->groups, role->n_groups);
    json_kv_u64(writer, SLICE("n_users"), role->n_users);
    api_write_time(writer, "created", role->created_ms);
    api_write_time(writer, "updated", role->updated_ms);
    json_kv_u64(writer, SLICE("version"), role->version);
    json_object_end(writer);
}

struct listing {
    struct api_page page;
    struct buf last; /* its kind and name */
};

static bool list_role(void *context, const struct accounts_role *role) {
    struct listing *listing = context;
    if (!api_page_takes(&listing->page))
        return false;
    write_role(&listing->page.writer, role);
    buf_reset(&listing->last, KIB(1));
    buf_append_byte(&listing->last, role->is_system ? 's' : 'o');
    buf_append(&listing->last, role->name);
    return true;
}

int api_list_roles(struct store_tx *tx, struct api_request *request) {
    CLEANUP(buf_deinit) struct buf after = BUF_INIT(KIB(1));
    struct listing listing = {.last = BUF_INIT(KIB(1))};
    struct accounts_role place = {.is_system = false};
    int error = api_read_cursor(request, &after);
    if (error != 0)
        return error;
    place.is_system = slice_starts_with(buf_slice(&after), SLICE("s"));
    place.name = slice_from(buf_slice(&after), buf_len(&after) != 0 ? 1 : 0);
    api_page_begin(&listing.page, request);
    error = accounts_list_roles(tx, place.name.len != 0 ? &place : NULL, listing.page.most + 1,
                                list_role, &listing);
    api_page_end(&listing.page, buf_slice(&listing.last));
    buf_deinit(&listing.last);
    return error;
}

static bool take_role(void *context, const struct accounts_role *role) {
    struct api_request *request = context;
    struct json_writer writer;
    json_writer_init(&writer, &request->answer.body);
    write_role(&writer, role);
    request->answer.etag = role->version;
    return true;
}

int api_get_role(struct store_tx *tx, struct api_request *request) {
    return accounts_get_role(tx, request->parameters[0], take_role, request);
}

/* --- changing --- */

static int read_change(struct api_request *request, struct accounts_role_change *change) {
    struct slice *groups = NULL, rights = schema_raw(request->reader, "rights");
    int error = api_text(request, "name", &change->name);
    if (error == 0)
        error = api_text(request, "description", &change->description);
    if (error == 0)
        error =
            schema_texts(request->reader, "groups", &request->arena, &groups, &change->n_groups);
    if (error != 0)
        return error;
    change->groups = groups;
    if (rights.len != 0)
        change->rights = rights;
    change->version = request->match == GUARD_MATCH_ONE ? request->version : 0;
    return 0;
}

int api_add_role(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct accounts_role_change change = {.version = 0};
    char id[ACCOUNTS_ID + 1];
    int error = read_change(request, &change);
    change.version = 0;
    if (error == 0)
        error = accounts_add_role(tx, &actor, &change, id, &request->answer.reason);
    if (error == 0)
        error = accounts_get_role(tx, slice_from_cstr(id), take_role, request);
    if (error == 0)
        buf_printf(&request->answer.fields, "Location: /api/v1/roles/%s\r\n", id);
    return error;
}

static bool take_id(void *context, const struct accounts_role *role) {
    char *id = context;
    memcpy(id, role->id.ptr, role->id.len < ACCOUNTS_ID ? role->id.len : ACCOUNTS_ID);
    return true;
}

int api_change_role(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    struct accounts_role_change change = {.version = 0};
    char id[ACCOUNTS_ID + 1] = "";
    int error = read_change(request, &change);
    if (error == 0)
        error = accounts_get_role(tx, request->parameters[0], take_id, id);
    if (error == 0)
        error =
            accounts_change_role(tx, &actor, slice_from_cstr(id), &change, &request->answer.reason);
    return error == 0 ? accounts_get_role(tx, slice_from_cstr(id), take_role, request) : error;
}

int api_delete_role(struct store_tx *tx, struct api_request *request) {
    const struct accounts_actor actor = api_actor(request);
    return accounts_delete_role(tx, &actor, request->parameters[0],
                                request->match == GUARD_MATCH_ONE ? request->version : 0,
                                &request->answer.reason);
}

/* --- who can call what --- */

/* What is asked: the roles that give it, then page by page the users who have one of them. */
struct access {
    struct arena arena;
    struct json_reader *reader;
    struct json_writer writer;
    struct slice upstream, operation;
    bool is_write;
    struct slice *roles; /* names of those that give it */
    size_t n_roles;
    size_t n, most;
    struct buf last;
    bool has_more;
    int error;
};

static bool gives(struct access *access, struct slice rights_json) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
    struct policy_rights *rights = NULL;
    int error = policy_rights_read(access->reader, rights_json, &rights, &reason);
    if (error < 0)
        access->error = error;
    if (error != 0)
        return false;
    bool is_given =
        access->operation.ptr != NULL
            ? policy_rights_allow(rights, access->upstream, access->operation, access->is_write)
            : policy_rights_know(rights, access->upstream);
    policy_rights_unref(rights);
    return is_given;
}

static bool look_at_role(void *context, const struct accounts_role *role) {
    struct access *access = context;
    if (!gives(access, role->rights) || access->n_roles == MOST_ROLES)
        return access->error == 0;
    struct slice name = arena_dup(&access->arena, role->name);
    if (name.ptr == NULL) {
        access->error = -ENOMEM;
        return false;
    }
    access->roles[access->n_roles++] = name;
    json_object_begin(&access->writer);
    api_write_text(&access->writer, "name", role->name);
    write_texts(&access->writer, "groups", role->groups, role->n_groups);
    json_kv_u64(&access->writer, SLICE("n_users"), role->n_users);
    json_object_end(&access->writer);
    return true;
}

static bool is_giving(const struct access *access, struct slice role) {
    for (size_t i = 0; i < access->n_roles; i++) {
        if (slice_eq(access->roles[i], role))
            return true;
    }
    return false;
}

static bool look_at_user(void *context, const struct accounts_user *user) {
    struct access *access = context;
    bool is_first = true;
    for (size_t i = 0; i < user->n_roles && !user->is_disabled; i++) {
        if (!is_giving(access, user->roles[i]))
            continue;
        if (is_first && access->n == access->most) {
            access->has_more = true;
            return false;
        }
        if (is_first) {
            json_object_begin(&access->writer);
            api_write_text(&access->writer, "id", user->id);
            api_write_text(&access->writer, "name", user->name);
            json_key(&access->writer, SLICE("roles"));
            json_array_begin(&access->writer);
        }
        json_string(&access->writer, user->roles[i]);
        is_first = false;
    }
    if (!is_first) {
        json_array_end(&access->writer);
        json_object_end(&access->writer);
        access->n++;
    }
    buf_reset(&access->last, KIB(1));
    buf_append(&access->last, user->name);
    return true;
}

static int write_roles(struct store_tx *tx, struct access *access) {
    json_key(&access->writer, SLICE("roles"));
    json_array_begin(&access->writer);
    int error = accounts_list_roles(tx, NULL, LIMIT_ROLES, look_at_role, access);
    json_array_end(&access->writer);
    return error != 0 ? error : access->error;
}

/* Everybody is looked at, some at a time: who may not is no line of the page. */
static int write_users(struct store_tx *tx, struct access *access, struct slice after) {
    enum { AT_ONCE = 500 };
    int error = 0;
    buf_append(&access->last, after);
    json_key(&access->writer, SLICE("users"));
    json_array_begin(&access->writer);
    for (bool goes_on = true; goes_on && error == 0 && !access->has_more;) {
        CLEANUP(buf_deinit) struct buf from = BUF_INIT(KIB(1));
        buf_append(&from, buf_slice(&access->last));
        error =
            accounts_list_users(tx, SLICE_EMPTY, buf_slice(&from), AT_ONCE, look_at_user, access);
        goes_on = !slice_eq(buf_slice(&from), buf_slice(&access->last));
    }
    json_array_end(&access->writer);
    return error;
}

static void write_next(struct access *access) {
    CLEANUP(buf_deinit) struct buf cursor = BUF_INIT(KIB(1));
    json_key(&access->writer, SLICE("next"));
    if (!access->has_more) {
        json_null(&access->writer);
        return;
    }
    guard_write_cursor(&cursor, buf_slice(&access->last));
    json_string(&access->writer, buf_slice(&cursor));
}

static int write_access(struct store_tx *tx, struct api_request *request, struct access *access,
                        struct slice after) {
    struct json_writer *writer = &access->writer;
    json_writer_init(writer, &request->answer.body);
    json_object_begin(writer);
    api_write_text(writer, "upstream", access->upstream);
    if (access->operation.ptr != NULL)
        api_write_text(writer, "operation", access->operation);
    api_write_text(writer, "access", access->is_write ? SLICE("write") : SLICE("read"));
    int error = write_roles(tx, access);
    if (error == 0)
        error = write_users(tx, access, after);
    write_next(access);
    json_object_end(writer);
    return error;
}

int api_list_access(struct store_tx *tx, struct api_request *request) {
    CLEANUP(buf_deinit) struct buf after = BUF_INIT(KIB(1));
    struct slice cursor = api_query(request, "cursor"), kind = api_query(request, "access");
    struct access access = {
        .arena = ARENA_INIT(MIB(1)),
        .upstream = api_query(request, "upstream"),
        .operation = api_query(request, "operation"),
        .is_write = kind.ptr != NULL && slice_eq(kind, SLICE("write")),
        .most = api_query_number(request, "limit", USUAL_PAGE),
        .last = BUF_INIT(KIB(1)),
    };
    int error = cursor.ptr != NULL ? guard_read_cursor(cursor, &after) : 0;
    if (error > 0)
        return api_refuse(request, 400, "cursor: is none of this list", NULL);
    if (error == 0)
        error = json_reader_new(&access.reader);
    access.roles = arena_alloc_array(&access.arena, MOST_ROLES, sizeof *access.roles);
    if (error == 0)
        error =
            access.roles != NULL ? write_access(tx, request, &access, buf_slice(&after)) : -ENOMEM;
    json_reader_free(access.reader);
    arena_deinit(&access.arena);
    buf_deinit(&access.last);
    return error;
}
