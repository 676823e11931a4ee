/* Rights as documents: strict, because what is read too widely gives too much. A member that
 * nobody knows, a permission that there is none, a pattern that is no text: all is refused. */
#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "json/writer.h"
#include "private.h"
#include "rights_private.h"

static const struct slice permission_names[PERMISSION_COUNT] = {
    [PERMISSION_STATUS_READ] = SLICE_INIT("status.read"),
    [PERMISSION_CONFIG_READ] = SLICE_INIT("config.read"),
    [PERMISSION_UPSTREAMS_READ] = SLICE_INIT("upstreams.read"),
    [PERMISSION_UPSTREAMS_WRITE] = SLICE_INIT("upstreams.write"),
    [PERMISSION_UPSTREAMS_TEST] = SLICE_INIT("upstreams.test"),
    [PERMISSION_AUDIT_READ] = SLICE_INIT("audit.read"),
    [PERMISSION_AUDIT_EXPORT] = SLICE_INIT("audit.export"),
    [PERMISSION_EDIT_OPEN] = SLICE_INIT("edit.open"),
    [PERMISSION_USERS_READ] = SLICE_INIT("users.read"),
    [PERMISSION_USERS_WRITE] = SLICE_INIT("users.write"),
    [PERMISSION_ROLES_READ] = SLICE_INIT("roles.read"),
    [PERMISSION_ROLES_WRITE] = SLICE_INIT("roles.write"),
    [PERMISSION_TOKENS_OWN] = SLICE_INIT("tokens.own"),
    [PERMISSION_TOKENS_ALL] = SLICE_INIT("tokens.all"),
    [PERMISSION_SESSIONS_ALL] = SLICE_INIT("sessions.all"),
    [PERMISSION_SECRETS_READ] = SLICE_INIT("secrets.read"),
    [PERMISSION_SECRETS_WRITE] = SLICE_INIT("secrets.write"),
};
_Static_assert(PERMISSION_COUNT <= 32, "a permission is a bit");

struct slice permission_name(enum permission permission) {
    return permission < PERMISSION_COUNT ? permission_names[permission] : SLICE_EMPTY;
}

bool permission_find(struct slice name, enum permission *ret_permission) {
    for (unsigned i = 0; i < PERMISSION_COUNT; i++) {
        if (slice_eq(permission_names[i], name)) {
            *ret_permission = (enum permission)i;
            return true;
        }
    }
    return false;
}

/* --- reading --- */

static const struct json_want want_nothing[] = {{.key = NULL}};
static const struct json_want want_elements[] = {{"*", want_nothing}, {.key = NULL}};
static const struct json_want want_members[] = {
    {"permissions", want_nothing}, {"operations", want_elements}, {.key = NULL}};
static const struct json_want want_rights = {.key = NULL, .children = want_members};

struct reading {
    struct json_reader *reader;
    struct buf *reason;
    struct policy_rights *rights; /* NULL in the first round, which counts and says what is wrong */
    size_t n_grants, text;
    char *at;           /* for the next pattern */
    struct buf scratch; /* one unescaped text */
};

static int refuse(struct reading *reading, const char *format, ...) PRINTF_LIKE(2, 3);
static int refuse(struct reading *reading, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)buf_vprintf(reading->reason, format, args);
    va_end(args);
    return RIGHTS_E_WRONG;
}

/* Unescapes into the scratch buffer. */
static int read_text(struct reading *reading, const struct json_node *node,
                     struct slice *ret_text) {
    buf_reset(&reading->scratch, LIMIT_RIGHTS_PATTERN);
    int r = json_string_append(&reading->scratch, node);
    if (r == 0)
        *ret_text = buf_slice(&reading->scratch);
    return r;
}

static int read_permissions(struct reading *reading, const struct json_node *array,
                            uint32_t *ret_permissions) {
    uint32_t permissions = 0;
    size_t i = 0;
    if (array->type != JSON_ARRAY)
        return refuse(reading, "permissions has to be an array of texts");
    for (const struct json_node *node = json_first(reading->reader, array); node != NULL;
         node = json_next(reading->reader, node), i++) {
        enum permission permission;
        struct slice name = SLICE_EMPTY;
        if (node->type != JSON_STRING)
            return refuse(reading, "permissions[%zu] has to be a text", i);
        int r = read_text(reading, node, &name);
        if (r < 0 && r != -E2BIG)
            return r;
        if (r != 0 || !permission_find(name, &permission)) {
            (void)refuse(reading, "permissions[%zu]: there is no permission ", i);
            (void)policy_write_toml_string(reading->reason, utf8_truncate(name, 64));
            return RIGHTS_E_WRONG;
        }
        permissions |= 1u << permission;
    }
    *ret_permissions = permissions;
    return 0;
}

/* Into `out`, which has room for all of it, if there is one; a row of stars is one. */
static size_t write_pattern(char *out, struct slice text) {
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '*' && i != 0 && text.ptr[i - 1] == '*')
            continue;
        if (out != NULL)
            out[len] = text.ptr[i];
        len++;
    }
    return len;
}

static int read_pattern(struct reading *reading, size_t i, const struct json_node *entry,
                        struct slice key, struct slice *ret_pattern) {
    const struct json_node *node = json_member_typed(reading->reader, entry, key, JSON_STRING);
    struct slice text = SLICE_EMPTY;
    if (node == NULL)
        return refuse(reading, "operations[%zu].%.*s has to be there, a text", i, SLICE_ARGS(key));
    int r = read_text(reading, node, &text);
    if (r < 0 && r != -E2BIG)
        return r;
    if (r != 0 || text.len == 0)
        return refuse(reading, "operations[%zu].%.*s has to have 1 to %u bytes", i, SLICE_ARGS(key),
                      LIMIT_RIGHTS_PATTERN);
    for (size_t j = 0; j < text.len; j++) {
        if ((unsigned char)text.ptr[j] < 0x20 || text.ptr[j] == 0x7f)
            return refuse(reading, "operations[%zu].%.*s has a control character", i,
                          SLICE_ARGS(key));
    }
    size_t len = write_pattern(reading->at, text);
    *ret_pattern = slice_make(reading->at != NULL ? reading->at : "", len);
    if (reading->at != NULL)
        reading->at += len;
    reading->text += len;
    return 0;
}

static int read_access(struct reading *reading, size_t i, const struct json_node *entry,
                       bool *ret_can_write) {
    const struct json_node *node =
        json_member_typed(reading->reader, entry, SLICE("access"), JSON_STRING);
    bool can_write = node != NULL && json_string_is(node, SLICE("write"));
    if (!can_write && (node == NULL || !json_string_is(node, SLICE("read"))))
        return refuse(reading, "operations[%zu].access has to be \"read\" or \"write\"", i);
    *ret_can_write = can_write;
    return 0;
}

static int read_grant(struct reading *reading, size_t i, const struct json_node *entry) {
    struct rights_grant grant;
    if (entry->type != JSON_OBJECT)
        return refuse(reading, "operations[%zu] has to be an object", i);
    for (const struct json_node *node = json_first(reading->reader, entry); node != NULL;
         node = json_next(reading->reader, node)) {
        if (!json_key_is(node, SLICE("upstream")) && !json_key_is(node, SLICE("operation")) &&
            !json_key_is(node, SLICE("access")))
            return refuse(reading,
                          "operations[%zu] may have upstream, operation and access, nothing else",
                          i);
    }
    int r = read_pattern(reading, i, entry, SLICE("upstream"), &grant.upstream);
    if (r == 0)
        r = read_pattern(reading, i, entry, SLICE("operation"), &grant.operation);
    if (r == 0)
        r = read_access(reading, i, entry, &grant.can_write);
    if (r == 0 && reading->rights != NULL)
        reading->rights->grants[reading->rights->n_grants++] = grant;
    return r;
}

static int read_grants(struct reading *reading, const struct json_node *array) {
    size_t i = 0;
    if (array->type != JSON_ARRAY)
        return refuse(reading, "operations has to be an array of objects");
    for (const struct json_node *node = json_first(reading->reader, array); node != NULL;
         node = json_next(reading->reader, node), i++) {
        if (i == LIMIT_RIGHTS_GRANTS)
            return refuse(reading, "operations may have %u entries", LIMIT_RIGHTS_GRANTS);
        int r = read_grant(reading, i, node);
        if (r != 0)
            return r;
    }
    reading->n_grants = i;
    return 0;
}

static int read_members(struct reading *reading, uint32_t *ret_permissions) {
    const struct json_node *root = json_root(reading->reader);
    uint32_t permissions = 0;
    if (root->type != JSON_OBJECT)
        return refuse(reading, "rights are an object with permissions and operations");
    for (const struct json_node *node = json_first(reading->reader, root); node != NULL;
         node = json_next(reading->reader, node)) {
        int r = 0;
        if (json_key_is(node, SLICE("permissions")))
            r = read_permissions(reading, node, &permissions);
        else if (json_key_is(node, SLICE("operations")))
            r = read_grants(reading, node);
        else
            r = refuse(reading, "rights may have permissions and operations, nothing else");
        if (r != 0)
            return r;
    }
    *ret_permissions = permissions;
    return 0;
}

static int read_document(struct reading *reading, struct slice json) {
    struct json_error error = {.reason = ""};
    if (json.len > LIMIT_RIGHTS)
        return refuse(reading, "rights may have %zu KiB", LIMIT_RIGHTS / 1024);
    int r = json_read(reading->reader, json, &want_rights, NULL, &error);
    if (r > 0)
        return refuse(reading, "rights have to be strict JSON: %s (at byte %zu)", error.reason,
                      error.offset);
    return r;
}

int policy_rights_read(struct json_reader *reader, struct slice json,
                       struct policy_rights **ret_rights, struct buf *reason) {
    CLEANUP(rights_unrefp) struct policy_rights *rights = NULL;
    struct reading reading = {
        .reader = reader, .reason = reason, .scratch = BUF_INIT(LIMIT_RIGHTS_PATTERN)};
    uint32_t permissions = 0;
    int r = read_document(&reading, json);
    if (r == 0)
        r = read_members(&reading, &permissions);
    if (r == 0) {
        rights = rights_make(RIGHTS_LIST, reading.n_grants, 0, reading.text);
        r = rights == NULL ? -ENOMEM : 0;
    }
    if (r == 0) {
        reading.rights = rights;
        reading.at = rights->text;
        r = read_members(&reading, &rights->permissions);
    }
    buf_deinit(&reading.scratch);
    if (r != 0)
        return r;
    rights_sort(rights);
    *ret_rights = TAKE(rights);
    return 0;
}

/* --- writing --- */

static void write_operations(struct json_writer *writer, const struct policy_rights *rights) {
    if (rights->kind == RIGHTS_LIST) {
        json_key(writer, SLICE("operations"));
        json_array_begin(writer);
        for (size_t i = 0; i < rights->n_grants; i++) {
            const struct rights_grant *grant = &rights->grants[i];
            json_object_begin(writer);
            json_kv_string(writer, SLICE("upstream"), grant->upstream);
            json_kv_string(writer, SLICE("operation"), grant->operation);
            json_kv_string(writer, SLICE("access"),
                           grant->can_write ? SLICE("write") : SLICE("read"));
            json_object_end(writer);
        }
        json_array_end(writer);
        return;
    }
    json_key(writer, rights->kind == RIGHTS_ANY_OF ? SLICE("any_of") : SLICE("all_of"));
    json_array_begin(writer);
    for (size_t i = 0; i < rights->n_parts; i++) {
        json_object_begin(writer);
        write_operations(writer, rights->parts[i]);
        json_object_end(writer);
    }
    json_array_end(writer);
}

int policy_rights_write(const struct policy_rights *rights, struct buf *out) {
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_key(&writer, SLICE("permissions"));
    json_array_begin(&writer);
    for (unsigned i = 0; i < PERMISSION_COUNT; i++) {
        if (policy_rights_have(rights, (enum permission)i))
            json_string(&writer, permission_name((enum permission)i));
    }
    json_array_end(&writer);
    write_operations(&writer, rights);
    json_object_end(&writer);
    return buf_error(out);
}
