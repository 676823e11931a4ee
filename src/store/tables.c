#include "tables.h"

#include "base/compiler.h"

#define PLACES_2  "$1, $2"
#define PLACES_3  PLACES_2 ", $3"
#define PLACES_4  PLACES_3 ", $4"
#define PLACES_5  PLACES_4 ", $5"
#define PLACES_6  PLACES_5 ", $6"
#define PLACES_7  PLACES_6 ", $7"
#define PLACES_8  PLACES_7 ", $8"
#define PLACES_9  PLACES_8 ", $9"
#define PLACES_10 PLACES_9 ", $10"
#define PLACES_11 PLACES_10 ", $11"
#define PLACES_12 PLACES_11 ", $12"

#define TABLE(table, n, columns)                                                                   \
    .name = table, .n_columns = (n), .select = "SELECT " columns " FROM " table,                   \
    .insert = "INSERT INTO " table " (" columns ") VALUES (" PLACES_##n ")",                       \
    .delete = "DELETE FROM " table, .count = "SELECT count(*) FROM " table

/* A test compares this with the schema. */
const struct store_table store_all_tables[] = {
    {TABLE("sealed", 5, "kind, name, token, created_ms, updated_ms")},
    {TABLE("roles", 9,
           "id, name, key, description, is_system, rights, created_ms, updated_ms, version"),
     .n_fresh = 3},
    {TABLE("role_groups", 2, "role_id, group_name")},
    {TABLE("users", 12,
           "id, name, key, display_name, email, password, is_disabled, must_change, login_ms,"
           " created_ms, updated_ms, version")},
    {TABLE("user_roles", 2, "user_id, role_id")},
    {TABLE("tokens", 9,
           "id, user_id, name, prefix, digest, rights, created_ms, expires_ms, used_ms")},
    {TABLE("sessions", 9,
           "id, user_id, digest, address, agent, created_ms, seen_ms, idle_ms, ends_ms"),
     .is_passing = true},
    {TABLE("login_failures", 3, "key, count, last_ms"), .is_passing = true},
    {TABLE("setup", 3, "id, digest, expires_ms"), .is_passing = true},
    {TABLE("edit_windows", 7, "id, scope, name, opened_ms, until_ms, why, by"), .is_passing = true},
    {TABLE("admin_notes", 9, "id, at_ms, event, who, action, object, reason, taker, taken_ms"),
     .is_passing = true},
    {TABLE("upstreams", 6, "name, definition, is_disabled, created_ms, updated_ms, version")},
};
const size_t n_store_all_tables = ARRAY_LEN(store_all_tables);
