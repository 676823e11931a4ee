/*
 * The lines of `cardea classify`, into the file. Three looks before it is touched: the tree of the
 * text is the old one and the lines (config/edit.h); the configuration that it makes is the old one
 * and the accesses; and the file still holds what was read.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "classify.h"
#include "cli.h"
#include "io/file.h"
#include "secrets.h"

static void tell_difference(void *context, const char *key, bool needs_restart) {
    const char **difference = context;
    (void)needs_restart;
    *difference = key;
}

static const struct config_server *find_server(const struct config *config, struct slice name) {
    for (size_t i = 0; i < config->n_servers; i++) {
        if (slice_eq(config->servers[i].name, name))
            return &config->servers[i];
    }
    return NULL;
}

static bool has_access(const struct config *config, const struct config_access_edit *edit) {
    const struct config_server *server = find_server(config, edit->server);
    for (size_t i = 0; server != NULL && i < server->n_tools; i++) {
        if (slice_eq(server->tools[i].name, edit->tool))
            return server->tools[i].access == edit->access;
    }
    return false;
}

/* What is not as it was, or not as it should be; NULL: all is well. */
static const char *find_difference(const struct config *old, const struct config *config,
                                   const struct config_access_edit *edits, size_t n) {
    const char *difference = NULL;
    config_compare(old, config, tell_difference, &difference);
    if (old->n_servers != config->n_servers)
        difference = "mcp.servers";
    for (size_t i = 0; difference == NULL && i < old->n_servers; i++) {
        if (!slice_eq(old->servers[i].name, config->servers[i].name) ||
            !config_server_runs_alike(&old->servers[i], &config->servers[i]))
            difference = "mcp.servers";
    }
    for (size_t i = 0; difference == NULL && i < n; i++) {
        if (!has_access(config, &edits[i]))
            difference = "the access of a tool";
    }
    return difference;
}

MUST_CHECK static int load(const struct cli_options *options, struct slice path, struct slice text,
                           struct config **ret_config) {
    CLEANUP(cli_secrets_freep) struct cli_secrets *secrets = cli_secrets_new(options, CLI_TO_USE);
    struct config_resolvers resolvers = cli_secrets_resolvers(secrets);
    struct config_problems problems;
    config_problems_init(&problems);
    int error = config_load_text_with(path, text, &resolvers, &problems, ret_config);
    if (error != 0)
        cli_print_problems(&problems);
    config_problems_deinit(&problems);
    return error;
}

static int tell(struct slice path, const char *why) {
    fprintf(stderr, "cardea: nothing was written: %s: %s; the lines above can be pasted\n",
            path.ptr, why);
    return CLI_FAILED;
}

/* The configuration that the new text makes, beside that of the text as it is now. */
MUST_CHECK static int check(const struct cli_options *options, struct slice path,
                            struct slice old_text, struct slice text,
                            const struct config_access_edit *edits, size_t n) {
    CLEANUP(config_unrefp) struct config *old = NULL;
    CLEANUP(config_unrefp) struct config *config = NULL;
    if (load(options, path, old_text, &old) != 0)
        return tell(path, "it cannot be loaded any more");
    if (load(options, path, text, &config) != 0)
        return tell(path, "with the lines it would not load");
    const char *difference = find_difference(old, config, edits, n);
    if (difference == NULL)
        return CLI_OK;
    fprintf(stderr, "cardea: with the lines, %s would be something else\n", difference);
    return tell(path, "the lines have no place in it");
}

static const char *file_error(int error) {
    return error == -ESTALE   ? "it was changed meanwhile"
           : error == -EMLINK ? "it has a second name (a hard link), which would keep the old text"
                              : strerror(-error);
}

int classify_write(const struct cli_options *options, const struct config *config,
                   const struct config_access_edit *edits, size_t n) {
    struct slice path = config->path;
    CLEANUP(buf_deinit) struct buf old = BUF_INIT(LIMIT_CONFIG_FILE);
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(LIMIT_CONFIG_FILE);
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    int error = io_file_read(path.ptr, &old);
    if (error != 0)
        return tell(path, file_error(error));
    error = config_edit_access(buf_slice(&old), edits, n, &text, &reason);
    if (error == CONFIG_E_PLACE && buf_append_byte(&reason, '\0') == 0)
        return tell(path, buf_slice(&reason).ptr);
    if (error != 0)
        return tell(path, error == -E2BIG ? "it would be too long" : strerror(ENOMEM));
    int result = check(options, path, buf_slice(&old), buf_slice(&text), edits, n);
    if (result != CLI_OK)
        return result;
    error = io_file_replace(path.ptr, buf_slice(&old), buf_slice(&text));
    return error == 0 ? CLI_OK : tell(path, file_error(error));
}
