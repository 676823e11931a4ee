/*
 * What must hold for any configuration file: the scan and the parser stay inside their limits; a
 * load ends with a configuration or with an error, never both and never neither; positions lie in
 * the file; problems are in order; messages are one printable line and hold no value of an
 * environment variable; loading twice says the same. A rule that breaks ends the process.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "config/config.h"
#include "http/message.h"
#include "toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

#define SECRET "}}s3cr3t{{ env.B }}"

static const char *fuzz_getenv(void *context, const char *name) {
    (void)context;
    MUST(name[0] != '\0' && strlen(name) < 256);
    return strcmp(name, "A") == 0 ? SECRET : NULL;
}

static size_t check_tree(const struct toml_node *node, size_t depth) {
    MUST(depth <= (LIMIT_TOML_DEPTH + 1) * (LIMIT_TOML_KEY_PARTS + 1));
    MUST(node->at.line > 0 && node->at.column > 0 && node->key_at.line > 0);
    size_t n = 1;
    for (size_t i = 0; i < node->n_children; i++) {
        const struct toml_node *child = &node->children[i];
        MUST(utf8_is_valid(child->key) && utf8_is_valid(child->string));
        for (size_t k = 0; k < i && i < 50 && node->type == TOML_TABLE; k++)
            MUST(!slice_eq(node->children[k].key, child->key));
        n += check_tree(child, depth + 1);
    }
    return n;
}

static void check_problems(const struct config_problems *problems, struct slice text,
                           struct buf *out) {
    size_t lines = 1, errors = 0;
    for (size_t i = 0; i < text.len; i++)
        lines += text.ptr[i] == '\n';
    for (size_t i = 0; i < problems->n; i++) {
        const struct config_problem *problem = &problems->items[i];
        MUST(problem->line <= lines && problem->column <= text.len + 1);
        MUST(i == 0 || problem->line == 0 || problems->items[i - 1].line <= problem->line);
        errors += problem->severity == CONFIG_ERROR;
        size_t before = buf_len(out);
        MUST(config_problem_format(out, problem) == 0);
        struct slice line = slice_from(buf_slice(out), before);
        MUST(slice_find_byte(line, '\n') == line.len - 1 && utf8_is_valid(line));
    }
    MUST(errors <= problems->n_errors);
    /* The value can get into a message only when the file itself spells it. */
    if (slice_find(text, SLICE("s3cr3t")) == SIZE_MAX)
        MUST(slice_find(buf_slice(out), SLICE("s3cr3t")) == SIZE_MAX);
}

/* Exactly one kind of server, and rules that can be written into a request as they are. */
static void check_rules(const struct config_header_rule *rules, size_t n) {
    MUST(n <= LIMIT_HEADER_RULES);
    for (size_t i = 0; i < n; i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(1));
        bool renames = rules[i].kind == CONFIG_HEADER_FORWARD ||
                       rules[i].kind == CONFIG_HEADER_RENAME_DUPLICATE;
        MUST(http_write_field(&out, rules[i].name, rules[i].value) == 0);
        MUST(http_is_token(rules[i].rename) == renames);
    }
}

/* Half a limit is none. */
static void check_limit(const struct config_limit *limit, bool must) {
    MUST(limit->limit <= LIMIT_RATE && limit->interval_ms <= LIMIT_RATE_INTERVAL_MS);
    MUST(limit->interval_ms != 0 || (limit->limit == 0 && !must));
}

static void check_limits(const struct config_named_limit *limits, size_t n) {
    for (size_t i = 0; i < n; i++) {
        MUST(limits[i].name.len > 0);
        check_limit(&limits[i].limit, true);
    }
}

static void check_values(const struct config_value *values, size_t n) {
    MUST(n <= LIMIT_ARGUMENT_VALUES);
    for (size_t i = 0; i < n; i++) {
        MUST(values[i].text.ptr != NULL && isfinite(values[i].number));
        MUST(values[i].type != CONFIG_VALUE_NUMBER || values[i].text.len > 0);
    }
}

static void check_tool(const struct config_tool *tool) {
    MUST(tool->has_allow || tool->n_allow == 0);
    MUST(tool->n_arguments <= LIMIT_ARGUMENT_RULES);
    for (size_t i = 0; i < tool->n_arguments; i++) {
        const struct config_argument *rule = &tool->arguments[i];
        MUST(rule->has_allow || rule->has_max || rule->n_deny != 0 || rule->pattern.len != 0);
        MUST(rule->has_allow || rule->n_allow == 0);
        MUST(isfinite(rule->max) && rule->pattern.len <= LIMIT_PATTERN);
        check_values(rule->allow, rule->n_allow);
        check_values(rule->deny, rule->n_deny);
    }
}

static void check_access(const struct config_server *server) {
    MUST(server->has_allow || server->n_allow == 0);
    for (size_t i = 0; i < server->n_tools; i++)
        check_tool(&server->tools[i]);
    check_limit(&server->rate_limits.all, false);
    check_limit(&server->rate_limits.user, false);
    check_limits(server->rate_limits.tools, server->rate_limits.n_tools);
    check_limits(server->rate_limits.user_tools, server->rate_limits.n_user_tools);
    check_limits(server->rate_limits.groups, server->rate_limits.n_groups);
}

static void check_storage(const struct config_storage *storage) {
    MUST(storage->type == CONFIG_STORAGE_MEMORY || storage->url.len > 0);
    MUST((storage->tls_cert.len > 0) == (storage->tls_key.len > 0));
    MUST(storage->pool_max_size >= storage->pool_min_idle && storage->pool_max_size > 0);
}

static void check_loaded(const struct config *config) {
    check_rules(config->headers, config->n_headers);
    check_limit(&config->rate_limits.global, false);
    check_limit(&config->rate_limits.per_ip, false);
    check_storage(&config->rate_limits.storage);
    for (size_t i = 0; i < config->n_whitelist; i++)
        MUST(slice_find(config->whitelist[i], SLICE("__")) != SIZE_MAX);
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        MUST((server->url.len > 0) == (server->n_cmd == 0));
        MUST(server->n_cmd == 0 || server->cmd[0].len > 0);
        MUST(server->url.len > 0 || server->n_headers + server->auth_token.len == 0);
        check_rules(server->headers, server->n_headers);
        check_access(server);
    }
}

static void load_once(struct slice text, struct buf *out) {
    struct config_problems problems;
    struct config *config = NULL;
    config_problems_init(&problems);
    static const struct config_resolvers resolvers = {.getenv_fn = fuzz_getenv, .no_files = true};
    int r = config_load_text_with(SLICE("f"), text, &resolvers, &problems, &config);
    MUST(r == 0 || r == CONFIG_E_INVALID);
    MUST((r == 0) == (config != NULL) && (r == 0) == (problems.n_errors == 0));
    check_problems(&problems, text, out);
    if (config != NULL)
        check_loaded(config);
    config_unref(config);
    config_problems_deinit(&problems);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = slice_make(data, size);
    struct arena arena = ARENA_INIT(LIMIT_CONFIG_MEMORY);
    struct toml_node *root;
    struct toml_error error;
    int r = toml_parse(&arena, text, &root, &error);
    if (r == 0)
        MUST(check_tree(root, 0) > 0);
    arena_deinit(&arena);

    struct buf first = BUF_INIT(MIB(64)), second = BUF_INIT(MIB(64));
    load_once(text, &first);
    load_once(text, &second);
    MUST(slice_eq(buf_slice(&first), buf_slice(&second)));
    buf_deinit(&first);
    buf_deinit(&second);
    return 0;
}
