/*
 * What a new configuration changes: for a reload, which keeps what is configured as it was. Servers
 * are compared member by member, all of them but the line of the table: a comment more in the file
 * restarts nothing. Keys outside of the servers go by the option table.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "load.h"

static const void *at(const void *object, size_t offset) {
    return (const char *)object + offset;
}

static uint64_t number_at(const void *object, size_t offset) {
    return *(const uint64_t *)at(object, offset);
}

static struct slice string_at(const void *object, size_t offset) {
    return *(const struct slice *)at(object, offset);
}

static bool same_strings(const struct slice *a, size_t n, const struct slice *b, size_t m) {
    bool is_same = n == m;
    for (size_t i = 0; i < n && is_same; i++)
        is_same = slice_eq(a[i], b[i]);
    return is_same;
}

static bool same_pairs(const struct config_pair *a, size_t n, const struct config_pair *b,
                       size_t m) {
    bool is_same = n == m;
    for (size_t i = 0; i < n && is_same; i++)
        is_same = slice_eq(a[i].key, b[i].key) && slice_eq(a[i].value, b[i].value);
    return is_same;
}

bool config_headers_equal(const struct config_header_rule *a, size_t n,
                          const struct config_header_rule *b, size_t m) {
    bool is_same = n == m;
    for (size_t i = 0; i < n && is_same; i++)
        is_same = a[i].kind == b[i].kind && slice_eq(a[i].name, b[i].name) &&
                  slice_eq(a[i].value, b[i].value) && slice_eq(a[i].rename, b[i].rename);
    return is_same;
}

/* Who may call it, and how often. */

static bool same_values(const struct config_value *a, size_t n, const struct config_value *b,
                        size_t m) {
    bool is_same = n == m;
    for (size_t i = 0; i < n && is_same; i++) /* a number has one text */
        is_same = a[i].type == b[i].type && slice_eq(a[i].text, b[i].text);
    return is_same;
}

static bool same_argument(const struct config_argument *a, const struct config_argument *b) {
    bool has_same_max =
        a->has_max == b->has_max && !(a->max < b->max) && !(a->max > b->max); /* both finite */
    return slice_eq(a->name, b->name) && a->has_allow == b->has_allow &&
           same_values(a->allow, a->n_allow, b->allow, b->n_allow) &&
           same_values(a->deny, a->n_deny, b->deny, b->n_deny) &&
           slice_eq(a->pattern, b->pattern) && has_same_max && a->optional == b->optional;
}

static bool same_tool(const struct config_tool *a, const struct config_tool *b) {
    bool is_same = slice_eq(a->name, b->name) && a->access == b->access &&
                   a->has_allow == b->has_allow && a->n_arguments == b->n_arguments &&
                   same_strings(a->scopes, a->n_scopes, b->scopes, b->n_scopes) &&
                   same_strings(a->allow, a->n_allow, b->allow, b->n_allow) &&
                   same_strings(a->deny, a->n_deny, b->deny, b->n_deny);
    for (size_t i = 0; i < a->n_arguments && is_same; i++)
        is_same = same_argument(&a->arguments[i], &b->arguments[i]);
    return is_same;
}

static bool same_limit(const struct config_limit *a, const struct config_limit *b) {
    return a->limit == b->limit && a->interval_ms == b->interval_ms;
}

static bool same_named_limits(const struct config_named_limit *a, size_t n,
                              const struct config_named_limit *b, size_t m) {
    bool is_same = n == m;
    for (size_t i = 0; i < n && is_same; i++)
        is_same = slice_eq(a[i].name, b[i].name) && same_limit(&a[i].limit, &b[i].limit);
    return is_same;
}

static bool same_rate_limits(const struct config_rate_limits *a,
                             const struct config_rate_limits *b) {
    return same_limit(&a->all, &b->all) && same_limit(&a->user, &b->user) &&
           same_named_limits(a->tools, a->n_tools, b->tools, b->n_tools) &&
           same_named_limits(a->user_tools, a->n_user_tools, b->user_tools, b->n_user_tools) &&
           same_named_limits(a->groups, a->n_groups, b->groups, b->n_groups);
}

static bool same_tools(const struct config_server *a, const struct config_server *b) {
    bool is_same = a->n_tools == b->n_tools;
    for (size_t i = 0; i < a->n_tools && is_same; i++)
        is_same = same_tool(&a->tools[i], &b->tools[i]);
    return is_same;
}

void config_server_compare(const struct config_server *a, const struct config_server *b,
                           void (*fn)(void *context, const char *key), void *context) {
    if (!same_strings(a->scopes, a->n_scopes, b->scopes, b->n_scopes))
        fn(context, "scopes");
    if (a->has_allow != b->has_allow || !same_strings(a->allow, a->n_allow, b->allow, b->n_allow))
        fn(context, "allow");
    if (!same_strings(a->deny, a->n_deny, b->deny, b->n_deny))
        fn(context, "deny");
    if (a->access != b->access)
        fn(context, "access");
    if (!same_tools(a, b))
        fn(context, "tools");
    if (!same_rate_limits(&a->rate_limits, &b->rate_limits))
        fn(context, "rate_limits");
}

static void note_difference(void *context, const char *key) {
    bool *is_same = context;
    (void)key;
    *is_same = false;
}

/* Servers. */

#define NUMBER(member) offsetof(struct config_server, member)

static const size_t server_numbers[] = {
    NUMBER(connect_timeout_ms),
    NUMBER(max_instances),
    NUMBER(idle_timeout_ms),
    NUMBER(startup_timeout_ms),
    NUMBER(shutdown_timeout_ms),
    NUMBER(restart_initial_ms),
    NUMBER(restart_max_ms),
    NUMBER(call_idle_timeout_ms),
    NUMBER(call_total_timeout_ms),
    NUMBER(max_message),
    NUMBER(max_tools),
    NUMBER(max_definition),
    NUMBER(max_in_flight),
    NUMBER(failure_threshold),
    NUMBER(cooldown_ms),
};

static const size_t server_strings[] = {
    NUMBER(name),
    NUMBER(url),
    NUMBER(message_url),
    NUMBER(auth_token),
    NUMBER(proxy),
    NUMBER(cwd),
    NUMBER(user),
    NUMBER(stderr_file),
    NUMBER(auth_audience),
    NUMBER(auth_client.issuer),
    NUMBER(auth_client.token_endpoint),
    NUMBER(auth_client.client_id),
    NUMBER(auth_client.client_secret),
    NUMBER(auth_client.key_path),
    NUMBER(auth_client.key_id),
    NUMBER(auth_client.resource),
    NUMBER(tls.ca_bundle),
    NUMBER(tls.client_cert),
    NUMBER(tls.client_key),
};

bool config_server_runs_alike(const struct config_server *a, const struct config_server *b) {
    bool is_same = a->is_stored == b->is_stored && a->enabled == b->enabled &&
                   a->protocol == b->protocol && a->stderr_kind == b->stderr_kind &&
                   a->share == b->share && a->isolation == b->isolation &&
                   a->auth_type == b->auth_type && a->auth_client.method == b->auth_client.method &&
                   a->tls.is_set == b->tls.is_set && a->tls.verify_certs == b->tls.verify_certs &&
                   a->tls.accept_invalid_hostnames == b->tls.accept_invalid_hostnames;
    for (size_t i = 0; i < ARRAY_LEN(server_numbers) && is_same; i++)
        is_same = number_at(a, server_numbers[i]) == number_at(b, server_numbers[i]);
    for (size_t i = 0; i < ARRAY_LEN(server_strings) && is_same; i++)
        is_same = slice_eq(string_at(a, server_strings[i]), string_at(b, server_strings[i]));
    return is_same && same_strings(a->cmd, a->n_cmd, b->cmd, b->n_cmd) &&
           same_strings(a->inherit_env, a->n_inherit_env, b->inherit_env, b->n_inherit_env) &&
           same_strings(a->auth_scopes, a->n_auth_scopes, b->auth_scopes, b->n_auth_scopes) &&
           same_pairs(a->env, a->n_env, b->env, b->n_env) &&
           config_headers_equal(a->headers, a->n_headers, b->headers, b->n_headers);
}

bool config_server_equal(const struct config_server *a, const struct config_server *b) {
    bool is_same = config_server_runs_alike(a, b);
    if (is_same)
        config_server_compare(a, b, note_difference, &is_same);
    return is_same;
}

/* What has no row of its own in struct config. */

static bool same_issuer(const struct config_issuer *a, const struct config_issuer *b) {
    return slice_eq(a->url, b->url) && slice_eq(a->issuer, b->issuer) &&
           slice_eq(a->expected_issuer, b->expected_issuer) &&
           slice_eq(a->expected_audience, b->expected_audience) &&
           a->poll_interval_ms == b->poll_interval_ms && slice_eq(a->secret, b->secret) &&
           same_strings(a->algorithms, a->n_algorithms, b->algorithms, b->n_algorithms) &&
           a->token_type == b->token_type && a->leeway_ms == b->leeway_ms;
}

static bool same_oauth(const struct config *a, const struct config *b) {
    const struct config_oauth *x = &a->oauth, *y = &b->oauth;
    bool is_same = x->is_set == y->is_set && x->n_issuers == y->n_issuers &&
                   slice_eq(x->resource, y->resource) &&
                   same_strings(x->authorization_servers, x->n_authorization_servers,
                                y->authorization_servers, y->n_authorization_servers) &&
                   same_strings(x->scopes, x->n_scopes, y->scopes, y->n_scopes);
    for (size_t i = 0; is_same && i < x->n_issuers; i++)
        is_same = same_issuer(&x->issuers[i], &y->issuers[i]);
    return is_same;
}

static bool same_token(const struct config_token *a, const struct config_token *b) {
    return slice_eq(a->name, b->name) && slice_eq(a->hash, b->hash) &&
           same_strings(a->groups, a->n_groups, b->groups, b->n_groups) &&
           a->has_servers == b->has_servers &&
           same_strings(a->servers, a->n_servers, b->servers, b->n_servers) &&
           same_strings(a->scopes, a->n_scopes, b->scopes, b->n_scopes) &&
           slice_eq(a->expires, b->expires) && a->expires_ms == b->expires_ms;
}

static bool same_tokens(const struct config *a, const struct config *b) {
    bool is_same = a->n_tokens == b->n_tokens;
    for (size_t i = 0; is_same && i < a->n_tokens; i++)
        is_same = same_token(&a->tokens[i], &b->tokens[i]);
    return is_same;
}

static bool same_headers(const struct config *a, const struct config *b) {
    return config_headers_equal(a->headers, a->n_headers, b->headers, b->n_headers);
}

/* A row in place of all keys that begin so. */
static const struct group {
    const char *key;
    bool (*is_same)(const struct config *a, const struct config *b);
} groups[] = {
    {"server.oauth", same_oauth},
    {"server.auth.tokens", same_tokens},
    {"mcp.headers", same_headers},
};

/* What is decided once, at the start. */
static const char *const restart_keys[] = {
    "server.listen_address",
    "server.workers",
    "server.health.listen",
    "server.instance",
    "server.proxy_protocol",
    "server.plaintext",
    "server.max_held",
    "server.limits.max_connections",
    "server.limits.max_connections_per_address",
    "server.limits.max_in_flight",
    "audit.enabled",
    "audit.mode",
    "audit.jsonl.path",
    "audit.jsonl.max_bytes",
    "audit.jsonl.files",
    "audit.syslog.url",
    "audit.syslog.ca_bundle",
    "audit.syslog.facility",
    "store.url",
    "admin.enabled",
    "admin.listen",
    "admin.session_idle",
    "admin.session_max",
};

static bool starts_with_key(const char *path, const char *key) {
    struct slice whole = slice_from_cstr(path), begin = slice_from_cstr(key);
    return slice_starts_with(whole, begin) &&
           (whole.len == begin.len || whole.ptr[begin.len] == '.');
}

static bool is_in_group(const char *path) {
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        if (starts_with_key(path, groups[i].key))
            return true;
    }
    return false;
}

bool option_needs_restart(const char *path) {
    for (size_t i = 0; i < ARRAY_LEN(restart_keys); i++) {
        if (slice_eq(slice_from_cstr(path), slice_from_cstr(restart_keys[i])))
            return true;
    }
    return false;
}

static bool same_value(const struct option *row, const struct config *a, const struct config *b) {
    size_t offset = row->offset;
    switch (row->type) {
    case OPTION_TABLE: /* there is one */
    case OPTION_BOOL:
        return *(const bool *)at(a, offset) == *(const bool *)at(b, offset);
    case OPTION_INTEGER:
    case OPTION_DURATION:
    case OPTION_SIZE:
        return number_at(a, offset) == number_at(b, offset);
    case OPTION_STRING:
    case OPTION_PATH:
        return slice_eq(string_at(a, offset), string_at(b, offset));
    case OPTION_ENUM:
    case OPTION_STDERR:
        return *(const unsigned *)at(a, offset) == *(const unsigned *)at(b, offset);
    case OPTION_LIST:
        return same_strings(
            *(struct slice *const *)at(a, offset), *(const size_t *)at(a, row->count_offset),
            *(struct slice *const *)at(b, offset), *(const size_t *)at(b, row->count_offset));
    case OPTION_VALUES:
    case OPTION_MAP:
    case OPTION_TABLES:
    case OPTION_NAMED:
    case OPTION_TIME:
    case OPTION_NUMBER:
    case OPTION_ANY:
        break; /* groups */
    }
    return true;
}

static bool has_other_transport(const struct config *old, const struct config *config) {
    return config_has_tls(old) != config_has_tls(config);
}

void config_compare(const struct config *old, const struct config *config, config_difference_fn *fn,
                    void *context) {
    bool is_fixed = has_other_transport(old, config);
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        if (row->owner == OPTION_OF_CONFIG && row->status == OPTION_BUILT &&
            !is_in_group(row->path) && !same_value(row, old, config))
            fn(context, row->path,
               option_needs_restart(row->path) ||
                   (is_fixed && starts_with_key(row->path, "server.tls")));
    }
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        if (!groups[i].is_same(old, config))
            fn(context, groups[i].key, false);
    }
}

static bool keep_string(struct config *config, const struct slice *old, struct slice *place) {
    struct slice copy = arena_dup(&config->arena, *old);
    if (copy.ptr != NULL)
        *place = copy;
    return copy.ptr != NULL;
}

static bool keep_strings(struct config *config, const struct slice *old, size_t n,
                         struct slice **place) {
    struct slice *copies = arena_alloc_array(&config->arena, n + 1, sizeof *copies);
    bool is_whole = copies != NULL;
    for (size_t i = 0; is_whole && i < n; i++)
        is_whole = keep_string(config, &old[i], &copies[i]);
    if (is_whole)
        *place = copies;
    return is_whole;
}

/* References of the old one: what was hidden stays so. */
static bool keep_references(struct config *config, const struct config_mark *old,
                            struct config_reference **ret_first) {
    for (const struct config_reference *r = old != NULL ? old->references : NULL; r != NULL;
         r = r->next) {
        struct config_reference *copy = arena_alloc(&config->arena, sizeof *copy);
        struct slice name = arena_dup(&config->arena, r->name);
        if (copy == NULL || name.ptr == NULL)
            return false;
        *copy = (struct config_reference){.next = *ret_first, .name = name};
        *ret_first = copy;
    }
    return true;
}

/* For whoever asks what is served by: the file says something else. */
static bool note_kept(struct config *config, const struct config *old, const struct option *row) {
    if (same_value(row, old, config))
        return true;
    struct config_kept *kept = arena_alloc(&config->arena, sizeof *kept);
    const struct config_mark *mark = mark_find(old, slice_from_cstr(row->path));
    const struct config_kept *before = kept_find(old, row->path);
    if (kept == NULL)
        return false;
    *kept = (struct config_kept){
        .next = config->kept,
        .path = row->path,
        .is_default = before != NULL ? before->is_default : mark == NULL,
    };
    const struct config_mark was = {.references = before != NULL ? before->references : NULL};
    config->kept = kept;
    return keep_references(config, before != NULL ? &was : mark, &kept->references);
}

static bool note_kept_tls(struct config *config, const struct config *old) {
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        if (row->owner == OPTION_OF_CONFIG && starts_with_key(row->path, "server.tls") &&
            !note_kept(config, old, row))
            return false;
    }
    return true;
}

/* The whole table: its parts belong together. */
static int keep_tls(struct config *config, const struct config *old) {
    struct config_tls *tls = &config->tls;
    *tls = old->tls;
    bool is_whole = keep_strings(config, old->tls.names, old->tls.n_names, &tls->names) &&
                    keep_string(config, &old->tls.certificate, &tls->certificate) &&
                    keep_string(config, &old->tls.key, &tls->key) &&
                    keep_string(config, &old->tls.client_ca, &tls->client_ca);
    for (size_t i = 0; is_whole && i < old->tls.n_names; i++)
        is_whole = keep_string(config, &old->tls.names[i], &tls->names[i]);
    return is_whole ? 0 : -ENOMEM;
}

int config_keep(struct config *config, const struct config *old) {
    if (has_other_transport(old, config) &&
        (!note_kept_tls(config, old) || keep_tls(config, old) != 0))
        return -ENOMEM;
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        if (row->owner != OPTION_OF_CONFIG || !option_needs_restart(row->path))
            continue;
        if (!note_kept(config, old, row))
            return -ENOMEM;
        void *place = (char *)config + row->offset;
        if (row->type == OPTION_STRING || row->type == OPTION_PATH) {
            if (!keep_string(config, at(old, row->offset), place))
                return -ENOMEM;
        } else if (row->type == OPTION_BOOL) {
            *(bool *)place = *(const bool *)at(old, row->offset);
        } else if (row->type == OPTION_ENUM) {
            *(unsigned *)place = *(const unsigned *)at(old, row->offset);
        } else {
            *(uint64_t *)place = number_at(old, row->offset);
        }
    }
    return 0;
}
