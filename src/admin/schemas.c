#include "schemas.h"

#include "accounts/accounts.h"
#include "accounts/password.h"
#include "base/limits.h"

enum { NAME = 64, LONG = 256, PAGE = 200 };

#define FIELDS(name_) static const struct schema_field name_##_fields[]
#define SCHEMA(name_, title_)                                                                      \
    const struct schema schema_##name_ = {.name = (title_), .fields = name_##_fields}

#define REQUIRED .is_required = true
#define NULLABLE .may_be_null = true
#define TEXT(n, ...)                                                                               \
    { .name = (n), .type = SCHEMA_TEXT, __VA_ARGS__ }
#define GIVEN(n) /* of answers: always there */                                                    \
    { .name = (n), .type = SCHEMA_TEXT, REQUIRED }
#define GIVEN_BOOL(n)                                                                              \
    { .name = (n), .type = SCHEMA_BOOL, REQUIRED }
#define GIVEN_NUMBER(n)                                                                            \
    { .name = (n), .type = SCHEMA_NUMBER, REQUIRED }
#define GIVEN_TIME(n)                                                                              \
    { .name = (n), .type = SCHEMA_TIME, REQUIRED, NULLABLE }
#define GIVEN_TEXTS(n)                                                                             \
    { .name = (n), .type = SCHEMA_TEXTS, REQUIRED }
#define PASSWORD(n, ...)                                                                           \
    { .name = (n), .type = SCHEMA_SECRET, .most = PASSWORD_MOST, __VA_ARGS__ }

static const char *const access_kinds[] = {"read", "write", NULL};
static const char *const scopes[] = {"all", "role", "upstream", NULL};

/* --- rights --- */

FIELDS(operation) = {
    TEXT("upstream", REQUIRED, .most = LONG, .doc = "Its name; a star stands for any characters."),
    TEXT("operation", REQUIRED, .most = KIB(1),
         .doc = "A tool's name at its upstream, a prompt's, a resource's URI; with stars."),
    TEXT("access", REQUIRED, .choices = access_kinds, .doc = "`write` includes reading."),
    SCHEMA_END,
};
static SCHEMA(operation, "Operation");

FIELDS(rights) = {
    {.name = "permissions", .type = SCHEMA_TEXTS, .doc = "In the console and its API."},
    {.name = "operations", .type = SCHEMA_OBJECTS, .of = &schema_operation},
    SCHEMA_END,
};
static SCHEMA(rights, "Rights");

/* Of what two have in common there is another shape (policy/rights.h). */
static const struct schema schema_shown_rights = {.name = "ShownRights"};

const struct schema schema_any = {.name = "Any"};

/* --- who --- */

FIELDS(person) = {GIVEN("id"), GIVEN("name"), SCHEMA_END};
static SCHEMA(person, "Person");

#define PERSON(n)                                                                                  \
    { .name = (n), .type = SCHEMA_OBJECT, .of = &schema_person, REQUIRED }

FIELDS(login) = {
    TEXT("name", REQUIRED, .least = 1, .most = LONG),
    PASSWORD("password", REQUIRED, .least = 1),
    SCHEMA_END,
};
SCHEMA(login, "Login");

FIELDS(new_password) = {
    PASSWORD("password", REQUIRED, .least = 1, .doc = "The present one."),
    PASSWORD("new_password", REQUIRED, .least = 1),
    {.name = "revoke_tokens",
     .type = SCHEMA_BOOL,
     .doc = "All of one's own; false when it is left out."},
    SCHEMA_END,
};
SCHEMA(new_password, "NewPassword");

FIELDS(set_up) = {
    {.name = "code",
     .type = SCHEMA_SECRET,
     REQUIRED,
     .least = 1,
     .most = LONG,
     .doc = "Of the link that the gateway prints at its first start."},
    TEXT("name", REQUIRED, .least = 1, .most = NAME),
    PASSWORD("password", REQUIRED, .least = 1),
    TEXT("display_name", .most = LONG),
    TEXT("email", .most = LONG),
    SCHEMA_END,
};
SCHEMA(set_up, "SetUp");

FIELDS(setup_state) = {GIVEN_BOOL("is_needed"), SCHEMA_END};
SCHEMA(setup_state, "SetUpState");

FIELDS(session) = {
    PERSON("user"),
    TEXT("session", .doc = "Its id; of a session."),
    TEXT("csrf_token", .doc = "For X-CSRF-Token, with whatever changes something; of a session."),
    {.name = "must_change", .type = SCHEMA_BOOL, .doc = "The password, before anything else."},
    TEXT("token", .doc = "Its id; of a token."),
    GIVEN_TIME("created"),
    GIVEN_TIME("ends"),
    GIVEN_TEXTS("permissions"),
    {.name = "rights", .type = SCHEMA_OBJECT, .of = &schema_shown_rights, REQUIRED},
    SCHEMA_END,
};
SCHEMA(session, "Session");

FIELDS(listed_session) = {
    GIVEN("id"),        PERSON("user"),        GIVEN("address"),
    GIVEN("agent"),     GIVEN_TIME("created"), GIVEN_TIME("last_seen"),
    GIVEN_TIME("ends"), GIVEN_BOOL("is_own"),  SCHEMA_END,
};
static SCHEMA(listed_session, "ListedSession");

#define ITEMS(of_)                                                                                 \
    { .name = "items", .type = SCHEMA_OBJECTS, .of = &schema_##of_, REQUIRED }
#define NEXT                                                                                       \
    {                                                                                              \
        .name = "next", .type = SCHEMA_TEXT, REQUIRED, NULLABLE,                                   \
        .doc = "The cursor of the next page; null: this was the last one."                         \
    }

FIELDS(sessions) = {ITEMS(listed_session), NEXT, SCHEMA_END};
SCHEMA(sessions, "Sessions");

/* --- users --- */

FIELDS(new_user) = {
    TEXT("name", REQUIRED, .least = 1, .most = NAME),
    TEXT("display_name", .most = LONG),
    TEXT("email", .most = LONG),
    PASSWORD("password", .least = 1, .doc = "Without one they cannot log in."),
    {.name = "must_change", .type = SCHEMA_BOOL, .doc = "The password, at the first login: true."},
    {.name = "is_disabled", .type = SCHEMA_BOOL},
    {.name = "roles", .type = SCHEMA_TEXTS, .most = 100},
    SCHEMA_END,
};
SCHEMA(new_user, "NewUser");

FIELDS(user_change) = {
    TEXT("name", .least = 1, .most = NAME),
    TEXT("display_name", .most = LONG),
    TEXT("email", .most = LONG),
    {.name = "must_change", .type = SCHEMA_BOOL},
    {.name = "is_disabled", .type = SCHEMA_BOOL},
    {.name = "roles", .type = SCHEMA_TEXTS, .most = 100, .doc = "All that they have then."},
    SCHEMA_END,
};
SCHEMA(user_change, "UserChange");

FIELDS(user) = {
    GIVEN("id"),
    GIVEN("name"),
    GIVEN("display_name"),
    GIVEN("email"),
    GIVEN_BOOL("is_disabled"),
    GIVEN_BOOL("must_change"),
    GIVEN_BOOL("has_password"),
    GIVEN_TEXTS("roles"),
    GIVEN_TIME("created"),
    GIVEN_TIME("updated"),
    GIVEN_TIME("last_login"),
    GIVEN_NUMBER("version"),
    SCHEMA_END,
};
SCHEMA(user, "User");

FIELDS(users) = {ITEMS(user), NEXT, SCHEMA_END};
SCHEMA(users, "Users");

FIELDS(password) = {
    PASSWORD("password", REQUIRED, .least = 1),
    {.name = "must_change",
     .type = SCHEMA_BOOL,
     .doc = "At the next login; true when it is left out."},
    {.name = "revoke_tokens",
     .type = SCHEMA_BOOL,
     .doc = "All of the user's; true when it is left out."},
    SCHEMA_END,
};
SCHEMA(password, "Password");

/* --- roles --- */

#define ROLE_FIELDS(...)                                                                           \
    TEXT("name", .least = 1, .most = NAME, __VA_ARGS__), TEXT("description", .most = KIB(1)),      \
        {.name = "rights", .type = SCHEMA_OBJECT, .of = &schema_rights, __VA_ARGS__}, {            \
        .name = "groups", .type = SCHEMA_TEXTS, .most = 100,                                       \
        .doc = "Of OAuth: whoever is in one of them has this role."                                \
    }

FIELDS(new_role) = {ROLE_FIELDS(REQUIRED), SCHEMA_END};
SCHEMA(new_role, "NewRole");
FIELDS(role_change) = {ROLE_FIELDS(.is_required = false), SCHEMA_END};
SCHEMA(role_change, "RoleChange");

FIELDS(role) = {
    GIVEN("id"),
    GIVEN("name"),
    GIVEN("description"),
    GIVEN_BOOL("is_system"),
    {.name = "rights", .type = SCHEMA_OBJECT, .of = &schema_rights, REQUIRED},
    GIVEN_TEXTS("groups"),
    GIVEN_NUMBER("n_users"),
    GIVEN_TIME("created"),
    GIVEN_TIME("updated"),
    GIVEN_NUMBER("version"),
    SCHEMA_END,
};
SCHEMA(role, "Role");

FIELDS(roles) = {ITEMS(role), NEXT, SCHEMA_END};
SCHEMA(roles, "Roles");

FIELDS(access_role) = {GIVEN("name"), GIVEN_TEXTS("groups"), GIVEN_NUMBER("n_users"), SCHEMA_END};
static SCHEMA(access_role, "AccessRole");
FIELDS(access_user) = {GIVEN("id"), GIVEN("name"), GIVEN_TEXTS("roles"), SCHEMA_END};
static SCHEMA(access_user, "AccessUser");
FIELDS(access) = {
    GIVEN("upstream"),
    TEXT("operation", .doc = "Without it: whoever may know of the upstream at all."),
    TEXT("access", REQUIRED, .choices = access_kinds),
    {.name = "roles", .type = SCHEMA_OBJECTS, .of = &schema_access_role, REQUIRED},
    {.name = "users", .type = SCHEMA_OBJECTS, .of = &schema_access_user, REQUIRED},
    NEXT,
    SCHEMA_END,
};
SCHEMA(access, "Access");

/* --- tokens --- */

FIELDS(new_token) = {
    TEXT("name", REQUIRED, .least = 1, .most = LONG),
    TEXT("user", .most = NAME, .doc = "Id or name; without it one's own."),
    {.name = "rights",
     .type = SCHEMA_OBJECT,
     .of = &schema_rights,
     .doc = "Fewer than the user has; without it all, as they are at any time."},
    {.name = "days",
     .type = SCHEMA_NUMBER,
     .least = 1,
     .most = 3650,
     .doc = "How long it lives; without it until it is deleted."},
    SCHEMA_END,
};
SCHEMA(new_token, "NewToken");

FIELDS(made_token) = {
    GIVEN("id"),
    GIVEN("name"),
    TEXT("token", REQUIRED, .doc = "This is the only time that it is seen."),
    SCHEMA_END,
};
SCHEMA(made_token, "MadeToken");

FIELDS(token) = {
    GIVEN("id"),
    GIVEN("name"),
    GIVEN("prefix"),
    PERSON("user"),
    {.name = "rights", .type = SCHEMA_OBJECT, REQUIRED, NULLABLE},
    GIVEN_TIME("created"),
    GIVEN_TIME("expires"),
    GIVEN_TIME("last_used"),
    SCHEMA_END,
};
static SCHEMA(token, "Token");
FIELDS(tokens) = {ITEMS(token), NEXT, SCHEMA_END};
SCHEMA(tokens, "Tokens");

FIELDS(revoked) = {GIVEN_NUMBER("revoked"), SCHEMA_END};
SCHEMA(revoked, "Revoked");

/* --- edit mode --- */

FIELDS(new_edit) = {
    TEXT("scope", REQUIRED, .choices = scopes),
    TEXT("name", .most = LONG, .doc = "Of the role, of the upstream."),
    {.name = "minutes", .type = SCHEMA_NUMBER, REQUIRED, .least = 1, .most = 24 * 60},
    TEXT("reason", REQUIRED, .least = 1, .most = KIB(1)),
    SCHEMA_END,
};
SCHEMA(new_edit, "NewEdit");

FIELDS(edit) = {
    GIVEN("id"),         TEXT("scope", REQUIRED, .choices = scopes),
    GIVEN("name"),       GIVEN_TIME("opened"),
    GIVEN_TIME("until"), GIVEN("reason"),
    GIVEN("by"),         SCHEMA_END,
};
static SCHEMA(edit, "Edit");
FIELDS(edits) = {GIVEN_TIME("now"), ITEMS(edit), SCHEMA_END};
SCHEMA(edits, "Edits");
FIELDS(closed) = {GIVEN_NUMBER("closed"), SCHEMA_END};
SCHEMA(closed, "Closed");

/* --- secrets --- */

FIELDS(value) = {
    {.name = "value", .type = SCHEMA_SECRET, REQUIRED, .least = 1, .most = KIB(64)},
    SCHEMA_END,
};
SCHEMA(value, "SecretValue");
FIELDS(secret) = {
    GIVEN("name"), GIVEN_TIME("created"),       GIVEN_TIME("updated"),
    GIVEN("key"),  GIVEN_BOOL("can_be_opened"), SCHEMA_END,
};
static SCHEMA(secret, "Secret");
FIELDS(secrets) = {ITEMS(secret), SCHEMA_END};
SCHEMA(secrets, "Secrets");

/* --- the trail --- */

static const struct schema schema_record = {.name = "AuditRecord"};
FIELDS(audit_item) = {
    {.name = "record", .type = SCHEMA_OBJECT, .of = &schema_record, REQUIRED},
    {.name = "outcome", .type = SCHEMA_OBJECT, NULLABLE, REQUIRED, .doc = "Of an intent."},
    {.name = "log",
     .type = SCHEMA_TEXT,
     .doc = "Where several instances share the index: whose trail the record is in."},
    SCHEMA_END,
};
static SCHEMA(audit_item, "AuditItem");
FIELDS(audit_page) = {
    ITEMS(audit_item),
    NEXT,
    {.name = "lag",
     .type = SCHEMA_NUMBER,
     REQUIRED,
     .doc = "Lines of the trail that are not in the index yet."},
    SCHEMA_END,
};
SCHEMA(audit_page, "AuditPage");
FIELDS(audit_head) = {
    GIVEN("mode"),         GIVEN_BOOL("can_write"),
    GIVEN("head"),         GIVEN("signed_head"),
    GIVEN_NUMBER("seq"),   GIVEN_NUMBER("lost"),
    GIVEN_NUMBER("bytes"), GIVEN_NUMBER("segments"),
    GIVEN("error"),        SCHEMA_END,
};
SCHEMA(audit_head, "AuditHead");

/* --- the gateway --- */

#define UPSTREAM_DEFINITION(...)                                                                   \
    {                                                                                              \
        .name = "definition", .type = SCHEMA_OBJECT,                                               \
        .doc = "With the keys of [mcp.servers.NAME].", __VA_ARGS__                                 \
    }

FIELDS(new_upstream) = {
    TEXT("name", REQUIRED, .least = 1, .most = NAME),
    UPSTREAM_DEFINITION(REQUIRED),
    {.name = "is_disabled", .type = SCHEMA_BOOL},
    SCHEMA_END,
};
SCHEMA(new_upstream, "NewUpstream");
FIELDS(upstream_change) = {
    UPSTREAM_DEFINITION(.is_required = false),
    {.name = "is_disabled", .type = SCHEMA_BOOL},
    SCHEMA_END,
};
SCHEMA(upstream_change, "UpstreamChange");
FIELDS(upstream_trial) = {UPSTREAM_DEFINITION(REQUIRED), SCHEMA_END};
SCHEMA(upstream_trial, "UpstreamTrial");

static const struct schema schema_server = {.name = "UpstreamServer"};
FIELDS(trial) = {
    GIVEN_BOOL("ok"),
    TEXT("reason", .doc = "Why not."),
    TEXT("revision", .doc = "Of MCP."),
    {.name = "server",
     .type = SCHEMA_OBJECT,
     .of = &schema_server,
     .doc = "Name and version, as it calls itself."},
    {.name = "n_tools", .type = SCHEMA_NUMBER},
    GIVEN_NUMBER("duration_ms"),
    SCHEMA_END,
};
SCHEMA(trial, "Trial");

static const char *const origins[] = {"file", "store", NULL};
FIELDS(upstream) = {
    GIVEN("name"),
    TEXT("source", REQUIRED, .choices = origins),
    TEXT("file", .doc = "Where it is configured; of source file."),
    {.name = "line", .type = SCHEMA_NUMBER},
    TEXT("state", REQUIRED,
         .doc = "idle, starting, ready, down, stopping, closed, per session; of the store also "
                "disabled, shadowed, invalid, waiting (for a configuration that can be loaded)."),
    TEXT("error", .doc = "Why it is down or invalid."),
    {.name = "is_disabled", .type = SCHEMA_BOOL, .doc = "Of source store, as what follows."},
    {.name = "version", .type = SCHEMA_NUMBER},
    {.name = "created", .type = SCHEMA_TIME},
    {.name = "updated", .type = SCHEMA_TIME},
    {.name = "definition", .type = SCHEMA_OBJECT, .of = &schema_any},
    {.name = "shadows",
     .type = SCHEMA_OBJECT,
     .of = &schema_any,
     .doc = "Of source file: what the store has under that name, which is not served."},
    SCHEMA_END,
};
SCHEMA(upstream, "Upstream");
FIELDS(upstreams) = {ITEMS(upstream), SCHEMA_END};
SCHEMA(upstreams, "Upstreams");

FIELDS(tool) = {
    GIVEN("name"),
    GIVEN("upstream"),
    TEXT("tool", REQUIRED, .doc = "What its upstream calls it."),
    TEXT("access", REQUIRED, .doc = "read or write."),
    {.name = "locked", .type = SCHEMA_BOOL, REQUIRED, .doc = "Nobody can call it now."},
    {.name = "definition", .type = SCHEMA_OBJECT, REQUIRED},
    SCHEMA_END,
};
static SCHEMA(tool, "Tool");
FIELDS(tools) = {ITEMS(tool), GIVEN_NUMBER("total"), NEXT, SCHEMA_END};
SCHEMA(tools, "Tools");

FIELDS(health) = {
    TEXT("status", REQUIRED, .doc = "ok, or what is not."),
    GIVEN_BOOL("store"),
    GIVEN_BOOL("gateway"),
    GIVEN_BOOL("audit"),
    GIVEN("version"),
    GIVEN_TIME("started"),
    SCHEMA_END,
};
SCHEMA(health, "Health");

FIELDS(config_server) = {
    GIVEN("name"),
    TEXT("source", REQUIRED, .choices = origins),
    {.name = "line", .type = SCHEMA_NUMBER, .doc = "Of its table in the file."},
    SCHEMA_END,
};
static SCHEMA(config_server, "ConfigServer");

static const char *const sources[] = {"default",        "file",         "environment", "secret",
                                      "file reference", "command line", "store",       NULL};
/* `value` is of any type, and has no row. */
FIELDS(config_item) = {
    TEXT("path", REQUIRED, .doc = "The key: mcp.servers.NAME.cmd."),
    TEXT("source", REQUIRED, .choices = sources),
    {.name = "line", .type = SCHEMA_NUMBER, .doc = "Of the key in the file."},
    {.name = "column", .type = SCHEMA_NUMBER},
    {.name = "references", .type = SCHEMA_TEXTS, .doc = "env.NAME, secret.NAME, file.PATH."},
    {.name = "names", .type = SCHEMA_TEXTS, .doc = "Keys of a table whose values are not shown."},
    TEXT("origin", .doc = "Of a URL that is not shown: scheme, host and port."),
    {.name = "is_secret", .type = SCHEMA_BOOL, REQUIRED, .doc = "The value is not shown: null."},
    GIVEN_BOOL("is_set"),
    {.name = "needs_restart", .type = SCHEMA_BOOL, REQUIRED, .doc = "A reload does not take it."},
    {.name = "waits_for_restart",
     .type = SCHEMA_BOOL,
     REQUIRED,
     .doc = "The file says something else than what is served by."},
    SCHEMA_END,
};
static SCHEMA(config_item, "ConfigItem");
FIELDS(config) = {
    TEXT("file", REQUIRED, NULLABLE),
    {.name = "servers", .type = SCHEMA_OBJECTS, .of = &schema_config_server, REQUIRED},
    ITEMS(config_item),
    SCHEMA_END,
};
SCHEMA(config, "Config");

/* --- queries --- */

#define LIMIT_AND_CURSOR                                                                           \
    {.name = "limit", .type = SCHEMA_NUMBER, .least = 1, .most = PAGE, .doc = "Of a page; 50."},   \
        TEXT("cursor", .most = KIB(1), .doc = "`next` of the page before.")

const struct schema_field query_pages[] = {
    LIMIT_AND_CURSOR,
    SCHEMA_END,
};
const struct schema_field query_users[] = {
    TEXT("search", .most = LONG, .doc = "A part of name, display name or email."),
    LIMIT_AND_CURSOR,
    SCHEMA_END,
};
const struct schema_field query_access[] = {
    TEXT("upstream", REQUIRED, .least = 1, .most = LONG),
    TEXT("operation", .least = 1, .most = KIB(1)),
    TEXT("access", .choices = access_kinds, .doc = "read, when it is left out."),
    LIMIT_AND_CURSOR,
    SCHEMA_END,
};
const struct schema_field query_tokens[] = {
    TEXT("user", .least = 1, .most = LONG, .doc = "Id or name, * for all: needs tokens.all."),
    LIMIT_AND_CURSOR,
    SCHEMA_END,
};
const struct schema_field query_sessions[] = {
    TEXT("user", .least = 1, .most = LONG, .doc = "Id or name, * for all: needs sessions.all."),
    LIMIT_AND_CURSOR,
    SCHEMA_END,
};
const struct schema_field query_edit[] = {
    TEXT("scope", REQUIRED, .choices = scopes),
    TEXT("name", .most = LONG, .doc = "Without it: all of the scope."),
    SCHEMA_END,
};

static const char *const decisions[] = {"allowed", "denied", NULL};
static const char *const statuses[] = {"ok",      "tool-error", "error",   "input_required",
                                       "refused", "cancelled",  "timeout", "unavailable",
                                       "lost",    NULL};
static const char *const orders[] = {"newest", "oldest", NULL};
static const char *const formats[] = {"csv", "jsonl", NULL};

#define AUDIT_FILTERS                                                                              \
    TEXT("user", .most = LONG), TEXT("group", .most = LONG), TEXT("operation", .most = KIB(1)),    \
        TEXT("upstream", .most = LONG), TEXT("status", .choices = statuses),                       \
        TEXT("decision", .choices = decisions), TEXT("event", .most = NAME),                       \
        TEXT("address", .most = NAME, .doc = "An address or a block: 192.0.2.0/24."),              \
        TEXT("text", .most = LONG, .doc = "Stands in the record."),                                \
        TEXT("since", .most = NAME, .doc = "RFC 3339, a day, or how long ago: 15m, 2d."),          \
        TEXT("until", .most = NAME)

const struct schema_field query_audit[] = {
    AUDIT_FILTERS,
    TEXT("order", .choices = orders, .doc = "newest, when it is left out."),
    LIMIT_AND_CURSOR,
    SCHEMA_END,
};
const struct schema_field query_export[] = {
    TEXT("format", REQUIRED, .choices = formats),
    AUDIT_FILTERS,
    SCHEMA_END,
};
const struct schema_field query_tools[] = {
    TEXT("upstream", .most = LONG),
    TEXT("search", .most = LONG, .doc = "A part of the name."),
    TEXT("access", .choices = access_kinds),
    LIMIT_AND_CURSOR,
    SCHEMA_END,
};
