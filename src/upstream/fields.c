#include "fields.h"

#include "base/limits.h"
#include "base/secret.h"
#include "http/message.h"

enum { MAX_FIELDS = 2 * LIMIT_HEADER_RULES * 2 + 2 };

struct field {
    struct slice name, value;
};

struct fields {
    struct field items[MAX_FIELDS];
    size_t n;
};

static void remove_field(struct fields *fields, struct slice name) {
    for (size_t i = 0; i < fields->n; i++) {
        if (!slice_eq_nocase(fields->items[i].name, name))
            continue;
        for (size_t k = i + 1; k < fields->n; k++)
            fields->items[k - 1] = fields->items[k];
        fields->n--;
        return;
    }
}

static void set_field(struct fields *fields, struct slice name, struct slice value) {
    remove_field(fields, name);
    if (fields->n < MAX_FIELDS)
        fields->items[fields->n++] = (struct field){.name = name, .value = value};
}

/* The caller's value, else the rule's default; a NULL ptr: neither. */
static struct slice value_of(const struct config_header_rule *rule, upstream_caller_field *caller,
                             void *context) {
    struct slice value = caller != NULL ? caller(context, rule->name) : SLICE_EMPTY;
    if (value.ptr != NULL && value.len != 0)
        return value;
    return rule->value.len != 0 ? rule->value : (struct slice){0};
}

static void apply(struct fields *fields, const struct config_header_rule *rules, size_t n,
                  upstream_caller_field *caller, void *context) {
    for (size_t i = 0; i < n; i++) {
        const struct config_header_rule *rule = &rules[i];
        struct slice value;
        switch (rule->kind) {
        case CONFIG_HEADER_INSERT:
            set_field(fields, rule->name, rule->value);
            break;
        case CONFIG_HEADER_REMOVE:
            remove_field(fields, rule->name);
            break;
        case CONFIG_HEADER_FORWARD:
        case CONFIG_HEADER_RENAME_DUPLICATE:
            value = value_of(rule, caller, context);
            if (value.len == 0)
                break;
            if (rule->kind == CONFIG_HEADER_RENAME_DUPLICATE)
                set_field(fields, rule->name, value);
            set_field(fields, rule->rename, value);
            break;
        }
    }
}

/* Rules for all servers are for those of the file: they may have credentials in them. */
static size_t count_common(const struct config *config, const struct config_server *server) {
    return server->is_stored ? 0 : config->n_headers;
}

bool fields_want_caller(const struct config *config, const struct config_server *server) {
    size_t n_common = count_common(config, server);
    for (size_t i = 0; i < n_common + server->n_headers; i++) {
        enum config_header_rule_kind kind =
            i < n_common ? config->headers[i].kind : server->headers[i - n_common].kind;
        if (kind == CONFIG_HEADER_FORWARD || kind == CONFIG_HEADER_RENAME_DUPLICATE)
            return true;
    }
    return false;
}

int fields_write(struct buf *out, const struct config *config, const struct config_server *server,
                 struct slice agent, upstream_caller_field *caller, void *context) {
    struct fields fields = {.n = 0};
    struct buf token = BUF_INIT(KIB(16));
    set_field(&fields, SLICE("User-Agent"), agent);
    if (server->auth_token.len != 0) {
        buf_append_cstr(&token, "Bearer ");
        buf_append(&token, server->auth_token);
        set_field(&fields, SLICE("Authorization"), buf_slice(&token));
    }
    apply(&fields, config->headers, count_common(config, server), caller, context);
    apply(&fields, server->headers, server->n_headers, caller, context);
    int error = buf_error(&token);
    for (size_t i = 0; i < fields.n && error == 0; i++)
        error = http_write_field(out, fields.items[i].name, fields.items[i].value);
    if (token.data != NULL)
        secret_wipe(token.data, token.cap);
    buf_deinit(&token);
    return error;
}
