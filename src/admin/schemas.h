/* The bodies and answers that the table names (schemas.c). */
#pragma once

#include "schema.h"

extern const struct schema schema_login, schema_new_password, schema_set_up, schema_setup_state,
    schema_session, schema_sessions, schema_new_user, schema_user_change, schema_user, schema_users,
    schema_password, schema_new_role, schema_role_change, schema_role, schema_roles, schema_access,
    schema_new_token, schema_made_token, schema_tokens, schema_revoked, schema_new_edit,
    schema_edits, schema_closed, schema_value, schema_secrets, schema_audit_page, schema_audit_head,
    schema_upstreams, schema_upstream, schema_new_upstream, schema_upstream_change,
    schema_upstream_trial, schema_trial, schema_tools, schema_health, schema_config, schema_any;
/* Queries. */
extern const struct schema_field query_pages[], query_users[], query_access[], query_tokens[],
    query_sessions[], query_edit[], query_audit[], query_export[], query_tools[];
