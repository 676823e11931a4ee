/* What the routes do, by file. */
#pragma once

#include "route.h"

/* login.c */
api_begin_fn api_login, api_change_password, api_set_up;
api_work_fn api_logout, api_get_session, api_get_setup;
/* users.c */
api_work_fn api_list_users, api_add_user, api_get_user, api_change_user, api_delete_user,
    api_reset_password;
/* roles.c */
api_work_fn api_list_roles, api_add_role, api_get_role, api_change_role, api_delete_role,
    api_list_access;
/* tokens.c */
api_work_fn api_list_tokens, api_add_token, api_delete_token, api_delete_tokens;
/* sessions.c */
api_work_fn api_list_sessions, api_end_session;
/* editing.c */
api_work_fn api_list_edits, api_open_edit, api_close_edit;
/* secrets.c */
api_work_fn api_list_secrets, api_put_secret, api_delete_secret;
/* trail.c */
api_begin_fn api_list_audit, api_export_audit, api_get_audit_head;
/* state.c */
api_begin_fn api_list_tools, api_get_health, api_get_statistics, api_get_config, api_get_openapi;
/* upstreams.c */
api_begin_fn api_list_upstreams, api_get_upstream, api_add_upstream, api_change_upstream;
api_work_fn api_delete_upstream;
/* trials.c */
api_begin_fn api_test_upstream, api_try_upstream;
/* web.c */
api_begin_fn api_get_page;
/* events.c */
api_begin_fn api_open_events;
