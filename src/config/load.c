#include "load.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "io/file.h"

static const char *process_getenv(void *context, const char *name) {
    (void)context;
    return getenv(name);
}

/* The absolute folder of the file, by its name alone: a symbolic link counts where it lies. */
static int find_folder(struct loader *l) {
    char here[PATH_MAX];
    size_t slash = l->file.len;
    while (slash > 0 && l->file.ptr[slash - 1] != '/')
        slash--;
    struct slice folder = slice_sub(l->file, 0, slash > 1 ? slash - 1 : slash);
    bool absolute = slice_starts_with(folder, SLICE("/"));
    if (!absolute && getcwd(here, sizeof here) == NULL)
        return -errno;
    const char *text = absolute
                           ? arena_printf(&l->config->arena, "%.*s", (int)folder.len, folder.ptr)
                           : arena_printf(&l->config->arena, "%s%s%.*s", here,
                                          folder.len > 0 ? "/" : "", (int)folder.len, folder.ptr);
    l->folder = slice_from_cstr(text);
    return text != NULL ? 0 : -ENOMEM;
}

static void tell_syntax(struct loader *l, const struct toml_error *error) {
    problem_at(l, CONFIG_ERROR, error->at, "not valid TOML: %s", error->message);
}

static void wipe(struct slice value) {
    if (value.len > 0)
        secret_wipe((void *)(uintptr_t)value.ptr, value.len);
}

static void wipe_rules(const struct config_header_rule *rules, size_t n) {
    for (size_t i = 0; i < n; i++)
        wipe(rules[i].value);
}

static void wipe_servers(const struct config_server *servers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < servers[i].n_env; k++)
            wipe(servers[i].env[k].value);
        wipe_rules(servers[i].headers, servers[i].n_headers);
        wipe(servers[i].auth_token);
        wipe(servers[i].auth_client.client_secret);
        wipe(servers[i].auth_client.resource); /* of the URL, like the audience */
        wipe(servers[i].auth_audience);
        wipe(servers[i].proxy);
        wipe(servers[i].url);
    }
}

/* Where the secrets are: variables, tokens, headers, the password of a proxy. */
static void wipe_values(struct config *config) {
    wipe_rules(config->headers, config->n_headers);
    wipe(config->oauth.own.secret);
    for (size_t i = 0; i < config->oauth.n_issuers; i++)
        wipe(config->oauth.issuers[i].secret);
    wipe(config->rate_limits.storage.url);
    wipe(config->store.url);
    wipe(config->text);
    wipe_servers(config->servers, config->n_servers);
}

/* The tree into the configuration. */
static int load_tree(struct loader *l, struct arena *tree, struct slice text) {
    struct toml_node *root;
    struct toml_error error;
    int r = toml_parse(tree, text, &root, &error);
    if (r == TOML_E_SYNTAX) {
        tell_syntax(l, &error);
        return 0;
    }
    if (r != 0)
        return r;
    store_defaults(l, OPTION_OF_CONFIG, l->config);
    l->tree = tree;
    walk_root(l, root);
    if (l->error == 0 && !l->is_store_only)
        check_config(l, root);
    if (l->error == 0)
        marks_finish(l);
    return l->error;
}

static int load(struct loader *l, struct slice text) {
    l->config->path = arena_dup(&l->config->arena, l->file);
    l->config->text = arena_dup(&l->config->arena, text);
    if (l->config->path.ptr == NULL || l->config->text.ptr == NULL)
        return -ENOMEM;
    int r = find_folder(l);
    if (r != 0)
        return r;
    struct arena tree = ARENA_INIT(LIMIT_CONFIG_MEMORY);
    r = load_tree(l, &tree, text);
    mem_free(l->marks); /* the configuration has them */
    arena_deinit(&tree);
    wipe_servers(l->unserved, l->n_unserved);
    if (r != 0)
        return r;
    problems_finish(l);
    if (l->error == 0 && l->n_errors > l->n_stored_errors)
        return CONFIG_E_INVALID;
    if (l->error == 0 && !l->is_store_only)
        stored_finish(l);
    return l->error;
}

/* One pass over all of it. */
MUST_CHECK static int load_once(const struct loader *how, struct slice text,
                                struct config **ret_config) {
    CLEANUP(config_unrefp) struct config *config = mem_alloc(sizeof *config);
    struct loader l = *how;
    if (config == NULL)
        return -ENOMEM;
    atomic_init(&config->refs, 1);
    arena_init(&config->arena, LIMIT_CONFIG_MEMORY);
    l.config = config;
    int r = load(&l, text);
    if (r == 0)
        *ret_config = TAKE(config);
    return r;
}

/* Once more without the upstreams of the store that are not what they have to be: what they have
 * changed by then, such as an array that others share, goes with them. */
static int load_all(const struct loader *how, struct slice text, struct config **ret_config) {
    struct config_problems *problems = how->problems;
    size_t n_errors = problems->n_errors;
    for (;;) {
        CLEANUP(config_unrefp) struct config *config = NULL;
        int r = load_once(how, text, &config);
        if (r != 0 || !stored_needs_pass(how->stored)) {
            if (r == 0)
                *ret_config = TAKE(config);
            return r;
        }
        problems->n = how->first_problem;
        problems->n_errors = n_errors;
    }
}

MUST_CHECK static int load_text(struct slice path_for_messages, struct slice text,
                                const struct config_resolvers *resolvers, bool is_store_only,
                                struct config_problems *problems, struct config **ret_config) {
    struct config_resolvers complete = *resolvers;
    struct stored stored = {.items = NULL};
    if (complete.getenv_fn == NULL)
        complete.getenv_fn = process_getenv;
    struct loader how = {
        .problems = problems,
        .first_problem = problems->n,
        .file = path_for_messages,
        .resolvers = &complete,
        .is_store_only = is_store_only,
        .stored = &stored,
    };
    int r = load_all(&how, text, ret_config);
    stored_deinit(&stored);
    return r;
}

int config_load_text_with(struct slice path_for_messages, struct slice text,
                          const struct config_resolvers *resolvers,
                          struct config_problems *problems, struct config **ret_config) {
    return load_text(path_for_messages, text, resolvers, false, problems, ret_config);
}

int config_load_text(struct slice path_for_messages, struct slice text, config_getenv *getenv_fn,
                     void *context, struct config_problems *problems, struct config **ret_config) {
    struct config_resolvers resolvers = {.getenv_fn = getenv_fn, .context = context};
    return config_load_text_with(path_for_messages, text, &resolvers, problems, ret_config);
}

static int tell_unreadable(struct config_problems *problems, const char *path, int error) {
    CLEANUP(buf_deinit) struct buf message = BUF_INIT(KIB(1));
    if (error == -EFBIG)
        buf_printf(&message, "the file is longer than %zu MiB", LIMIT_CONFIG_FILE / MIB(1));
    else
        buf_printf(&message, "the file can not be read: %s", strerror(-error));
    int r = buf_error(&message);
    if (r == 0)
        r = problem_add(problems, CONFIG_ERROR, slice_from_cstr(path), (struct toml_position){0, 0},
                        buf_slice(&message));
    return r != 0 ? r : error;
}

MUST_CHECK static int load_file(const char *path, const struct config_resolvers *resolvers,
                                bool is_store_only, struct config_problems *problems,
                                struct config **ret_config) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(LIMIT_CONFIG_FILE);
    int r = io_file_read(path, &text);
    if (r == -ENOMEM)
        return r;
    if (r != 0)
        return tell_unreadable(problems, path, r);
    return load_text(slice_from_cstr(path), buf_slice(&text), resolvers, is_store_only, problems,
                     ret_config);
}

int config_load_file_with(const char *path, const struct config_resolvers *resolvers,
                          struct config_problems *problems, struct config **ret_config) {
    return load_file(path, resolvers, false, problems, ret_config);
}

int config_load_store(const char *path, const struct config_resolvers *resolvers,
                      struct config_problems *problems, struct config **ret_config) {
    return load_file(path, resolvers, true, problems, ret_config);
}

int config_load_nothing(struct config **ret_config) {
    struct config_resolvers none = {.no_files = true};
    struct config_problems problems;
    config_problems_init(&problems);
    int r = load_text(SLICE(""), SLICE(""), &none, true, &problems, ret_config);
    config_problems_deinit(&problems);
    return r;
}

int config_load_file(const char *path, config_getenv *getenv_fn, void *context,
                     struct config_problems *problems, struct config **ret_config) {
    struct config_resolvers resolvers = {.getenv_fn = getenv_fn, .context = context};
    return config_load_file_with(path, &resolvers, problems, ret_config);
}

const struct config_stored_upstream *config_find_stored(const struct config *config,
                                                        struct slice name) {
    for (size_t i = 0; i < config->n_stored; i++) {
        if (slice_eq(config->stored[i].name, name))
            return &config->stored[i];
    }
    return NULL;
}

struct slice config_file_name(const struct config *config) {
    struct slice path = config->path;
    size_t slash = path.len;
    while (slash > 0 && path.ptr[slash - 1] != '/')
        slash--;
    return slice_from(path, slash);
}

const struct config_server *config_find_server(const struct config *config, struct slice name) {
    for (size_t i = 0; i < config->n_servers; i++) {
        if (slice_eq(config->servers[i].name, name))
            return &config->servers[i];
    }
    return NULL;
}

void config_keep_server(struct config *config, struct slice name) {
    for (size_t i = 0; i < config->n_servers; i++) {
        struct config_server other = config->servers[i];
        if (!slice_eq(other.name, name))
            continue;
        config->servers[i] = config->servers[0]; /* all of them are wiped in the end */
        config->servers[0] = other;
        break;
    }
    bool is_there = config->n_servers != 0 && slice_eq(config->servers[0].name, name);
    wipe_servers(config->servers + is_there, config->n_servers - is_there);
    config->n_servers = is_there;
}

struct config *config_ref(struct config *config) {
    atomic_fetch_add(&config->refs, 1);
    return config;
}

struct config *config_unref(struct config *config) {
    if (config == NULL || atomic_fetch_sub(&config->refs, 1) != 1)
        return NULL;
    wipe_values(config);
    arena_deinit(&config->arena);
    mem_free(config);
    return NULL;
}

void config_unrefp(struct config **config) {
    *config = config_unref(*config);
}
