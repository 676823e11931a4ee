#include "migrations.h"

#include "base/compiler.h"

/*
 * Times are milliseconds since 1970, booleans 0 or 1. `key` columns hold names folded to lower
 * case, so that they are unique without case in both databases. `version` grows with each change of
 * a row.
 */
static const char *const first[] = {
    /* One row: grows with each transaction that writes. */
    "CREATE TABLE changes (id BIGINT PRIMARY KEY, number BIGINT NOT NULL)",
    "INSERT INTO changes (id, number) VALUES (1, 1)",

    "CREATE TABLE sealed ("
    " kind TEXT NOT NULL, name TEXT NOT NULL, token TEXT NOT NULL,"
    " created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL,"
    " PRIMARY KEY (kind, name))",

    "CREATE TABLE roles ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL, key TEXT NOT NULL UNIQUE,"
    " description TEXT NOT NULL, is_system BIGINT NOT NULL, rights TEXT NOT NULL,"
    " created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, version BIGINT NOT NULL)",
    "CREATE TABLE role_groups ("
    " role_id TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE, group_name TEXT NOT NULL,"
    " PRIMARY KEY (role_id, group_name))",

    "CREATE TABLE users ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL, key TEXT NOT NULL UNIQUE,"
    " display_name TEXT NOT NULL, email TEXT NOT NULL, password TEXT NOT NULL,"
    " is_disabled BIGINT NOT NULL, must_change BIGINT NOT NULL, login_ms BIGINT NOT NULL,"
    " created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, version BIGINT NOT NULL)",
    "CREATE TABLE user_roles ("
    " user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
    " role_id TEXT NOT NULL REFERENCES roles (id),"
    " PRIMARY KEY (user_id, role_id))",
    "CREATE INDEX user_roles_by_role ON user_roles (role_id)",

    "CREATE TABLE tokens ("
    " id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
    " name TEXT NOT NULL, prefix TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, rights TEXT NOT NULL,"
    " created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, used_ms BIGINT NOT NULL)",
    "CREATE INDEX tokens_by_user ON tokens (user_id)",

    "CREATE TABLE sessions ("
    " id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
    " digest TEXT NOT NULL, address TEXT NOT NULL, agent TEXT NOT NULL,"
    " created_ms BIGINT NOT NULL, seen_ms BIGINT NOT NULL, idle_ms BIGINT NOT NULL,"
    " ends_ms BIGINT NOT NULL)",
    "CREATE INDEX sessions_by_user ON sessions (user_id)",
    "CREATE TABLE login_failures ("
    " key TEXT PRIMARY KEY, count BIGINT NOT NULL, last_ms BIGINT NOT NULL)",
    "CREATE TABLE setup ("
    " id BIGINT PRIMARY KEY, digest TEXT NOT NULL, expires_ms BIGINT NOT NULL)",

    "CREATE TABLE edit_windows ("
    " id TEXT PRIMARY KEY, scope TEXT NOT NULL, name TEXT NOT NULL,"
    " opened_ms BIGINT NOT NULL, until_ms BIGINT NOT NULL, why TEXT NOT NULL, by TEXT NOT NULL,"
    " UNIQUE (scope, name))",

    /* `definition`: the table [mcp.servers.NAME] as JSON; secrets in it are references. */
    "CREATE TABLE upstreams ("
    " name TEXT PRIMARY KEY, definition TEXT NOT NULL, is_disabled BIGINT NOT NULL,"
    " created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, version BIGINT NOT NULL)",

    /* System roles: their ids are fixed, so that stores can be merged and scripts written. */
    "INSERT INTO roles (id, name, key, description, is_system, rights, created_ms, updated_ms,"
    " version) VALUES ('administrator000000000', 'administrator', 'administrator',"
    " 'May do everything.', 1,"
    " '{\"permissions\":[\"status.read\",\"config.read\",\"upstreams.read\",\"upstreams.write\","
    "\"upstreams.test\",\"audit.read\",\"audit.export\",\"edit.open\",\"users.read\","
    "\"users.write\",\"roles.read\",\"roles.write\",\"tokens.own\",\"tokens.all\","
    "\"sessions.all\",\"secrets.read\",\"secrets.write\"],"
    "\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"write\"}]}', 0, 0, 1)",
    "INSERT INTO roles (id, name, key, description, is_system, rights, created_ms, updated_ms,"
    " version) VALUES ('operator00000000000000', 'operator', 'operator',"
    " 'Calls everything, writes while edit mode is open; looks after upstreams, not after users.',"
    " 1,"
    " '{\"permissions\":[\"status.read\",\"config.read\",\"upstreams.read\",\"upstreams.test\","
    "\"audit.read\",\"tokens.own\"],"
    "\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"write\"}]}', 0, 0, 1)",
    "INSERT INTO roles (id, name, key, description, is_system, rights, created_ms, updated_ms,"
    " version) VALUES ('viewer0000000000000000', 'viewer', 'viewer',"
    " 'Looks, calls what only reads, changes nothing.', 1,"
    " '{\"permissions\":[\"status.read\",\"upstreams.read\",\"audit.read\",\"tokens.own\"],"
    "\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"read\"}]}', 0, 0, 1)",
    NULL,
};

/* What commands did, until it is in the trail of a gateway; `taker`: which one is at it. */
static const char *const notes[] = {
    "CREATE TABLE admin_notes ("
    " id TEXT PRIMARY KEY, at_ms BIGINT NOT NULL, event TEXT NOT NULL, who TEXT NOT NULL,"
    " action TEXT NOT NULL, object TEXT NOT NULL, reason TEXT NOT NULL, taker TEXT NOT NULL,"
    " taken_ms BIGINT NOT NULL)",
    "CREATE INDEX admin_notes_by_time ON admin_notes (at_ms, id)",
    NULL,
};

const struct migration migrations[] = {
    {"users, roles, tokens, sessions, edit mode, sealed secrets, upstreams", first},
    {"notes of commands, for the trail", notes},
};
const size_t n_migrations = ARRAY_LEN(migrations);
