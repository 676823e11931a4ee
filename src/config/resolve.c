/*
 * What references in strings stand for. Variables and files are looked up here, secrets by whoever
 * loads the configuration, which knows the store. Each use is noted by name, for the audit trail;
 * what a name stands for is in the configuration's memory alone, and what it was on the way there
 * is wiped.
 *
 * A secret may stand only where its value is not shown: rows that are `secret` or `holds_secrets`.
 * Anywhere else (a command line, which everybody on the machine can read; a name, which is logged)
 * it is refused.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "expand.h"
#include "io/file.h"
#include "load.h"

#define HIDDEN "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

struct resolving {
    struct loader *loader;
    const struct place *place;
    const struct option *row;
    const struct toml_node *node;
    struct buf unset; /* the sentence about what is not there */
};

/* Names alone. What does not fit is not noted, for want of a reason to refuse the file for it. */
static void note(struct loader *l, const struct place *place, const char *scope,
                 struct slice name) {
    struct config *config = l->config;
    struct buf path CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    append_place(&path, place);
    if (config->variables == NULL)
        config->variables =
            arena_alloc_array(&config->arena, LIMIT_CONFIG_VARIABLES, sizeof *config->variables);
    if (config->variables == NULL || config->n_variables >= LIMIT_CONFIG_VARIABLES)
        return;
    struct config_pair *variable = &config->variables[config->n_variables++];
    variable->key = arena_dup(&config->arena, buf_slice(&path));
    const char *text = arena_printf(&config->arena, "%s%.*s", scope, SLICE_ARGS(name));
    variable->value = slice_from_cstr(text);
}

static int refuse(struct resolving *resolving, const char *format, ...) PRINTF_LIKE(2, 3);
static int refuse(struct resolving *resolving, const char *format, ...) {
    struct buf message CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    va_list args;
    va_start(args, format);
    buf_vprintf(&message, format, args);
    va_end(args);
    problem_of(resolving->loader, CONFIG_ERROR, resolving->node->at, resolving->place, "%.*s",
               SLICE_ARGS(buf_slice(&message)));
    return EXPAND_E_TOLD;
}

/* --- variables --- */

static int resolve_variable(struct resolving *resolving, struct slice name, struct buf *out) {
    enum { LONGEST = 256 };
    struct loader *l = resolving->loader;
    const struct config_resolvers *resolvers = l->resolvers;
    char text[LONGEST];
    if (slice_to_cstr(name, text, sizeof text) != 0)
        return refuse(resolving, "has a broken template: the name of a variable is too long");
    note(l, resolving->place, "", name);
    mark_reference(l, "env.", name);
    const char *value = resolvers->getenv_fn(resolvers->context, text);
    if (value == NULL) {
        buf_printf(&resolving->unset,
                   "needs the environment variable %s, which is not set (a default is written "
                   "{{ env.%s | default(\"...\") }})",
                   text, text);
        return EXPAND_E_UNSET;
    }
    if (!utf8_is_valid(slice_from_cstr(value)))
        return refuse(resolving, "uses the environment variable %s, which is not valid UTF-8",
                      text);
    return buf_append(out, slice_from_cstr(value));
}

/* --- secrets --- */

static int resolve_secret(struct resolving *resolving, struct slice name, struct buf *out) {
    struct loader *l = resolving->loader;
    const struct config_resolvers *resolvers = l->resolvers;
    const struct option *row = resolving->row;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    struct slice value = SLICE_EMPTY;
    if (row->opens_store)
        return refuse(resolving,
                      "must not hold {{ secret.%.*s }}: the store that secrets are in is opened "
                      "with it; use {{ env.NAME }} or {{ file.PATH }}",
                      SLICE_ARGS(name));
    if (!row->secret && !row->holds_secrets)
        return refuse(resolving,
                      "must not hold {{ secret.%.*s }}: what stands here is shown to others, in "
                      "lists, logs or command lines (docs/SECRETS.md has the keys for secrets)",
                      SLICE_ARGS(name));
    if (l->store_is_broken)
        return EXPAND_E_TOLD;
    note(l, resolving->place, "secret.", name);
    mark_reference(l, "secret.", name);
    int r = resolvers->secret_fn == NULL
                ? CONFIG_SECRET_NONE
                : resolvers->secret_fn(resolvers->context, l->config, name, &value, &reason);
    switch (r) {
    case 0:
        break;
    case CONFIG_SECRET_HIDDEN:
        l->is_hidden = true;
        return buf_append(out, SLICE(HIDDEN));
    case CONFIG_SECRET_NONE:
        buf_printf(&resolving->unset,
                   "needs the secret %.*s, which is not there; give it its value with: cardea "
                   "secret set %.*s",
                   SLICE_ARGS(name), SLICE_ARGS(name));
        return EXPAND_E_UNSET;
    case CONFIG_SECRET_REFUSED:
        return refuse(resolving, "needs the secret %.*s: %.*s", SLICE_ARGS(name),
                      SLICE_ARGS(buf_slice(&reason)));
    default:
        return r < 0 ? r : -EINVAL;
    }
    if (!utf8_is_valid(value))
        return refuse(resolving, "uses the secret %.*s, which is not valid UTF-8",
                      SLICE_ARGS(name));
    return buf_append(out, value);
}

/* --- files --- */

/* One line end is the editor's, not the secret's. */
static struct slice without_line_end(struct slice text) {
    if (slice_ends_with(text, SLICE("\n")))
        text.len--;
    else
        return text;
    if (slice_ends_with(text, SLICE("\r")))
        text.len--;
    return text;
}

/* 0, EXPAND_E_UNSET, EXPAND_E_TOLD, -ENOMEM. */
static int read_file(struct resolving *resolving, struct slice name, struct buf *out) {
    struct loader *l = resolving->loader;
    char path[PATH_MAX];
    struct buf text CLEANUP(secret_buf_deinit) = BUF_INIT(LIMIT_SECRET);
    bool is_absolute = slice_starts_with(name, SLICE("/"));
    int len = snprintf(path, sizeof path, "%.*s%s%.*s", is_absolute ? 0 : (int)l->folder.len,
                       l->folder.ptr, is_absolute ? "" : "/", SLICE_ARGS(name));
    if (l->resolvers->no_files)
        return refuse(resolving, "must not name a file: only the configuration file may");
    if (len < 0 || (size_t)len >= sizeof path || name.len >= PATH_MAX)
        return refuse(resolving, "names a file by a path that is too long");
    note(l, resolving->place, "file.", name);
    mark_reference(l, "file.", name);
    int r = io_file_read_regular(path, &text, NULL);
    if (r == -ENOMEM)
        return r;
    if (r == -ENOENT) {
        buf_printf(&resolving->unset, "needs the file %s, which is not there", path);
        return EXPAND_E_UNSET;
    }
    if (r == -EFBIG)
        return refuse(resolving, "needs the file %s, which is longer than %zu KiB", path,
                      LIMIT_SECRET / KIB(1));
    if (r != 0)
        return refuse(resolving, "needs the file %s: %s", path,
                      r == -EINVAL ? "it is no regular file" : strerror(-r));
    if (!utf8_is_valid(buf_slice(&text)))
        return refuse(resolving, "needs the file %s, which is not valid UTF-8", path);
    return buf_append(out, without_line_end(buf_slice(&text)));
}

static int resolve(void *context, enum expand_scope scope, struct slice name, struct buf *out) {
    struct resolving *resolving = context;
    if (resolving->loader->is_stored && scope != EXPAND_SECRET)
        return refuse(resolving,
                      "must not hold {{ %s... }}: only the configuration file may name variables "
                      "and files; {{ secret.NAME }} may stand in keys for secrets",
                      scope == EXPAND_ENV ? "env." : "file.");
    switch (scope) {
    case EXPAND_ENV:
        return resolve_variable(resolving, name, out);
    case EXPAND_SECRET:
        return resolve_secret(resolving, name, out);
    case EXPAND_FILE:
        return read_file(resolving, name, out);
    }
    return -EINVAL;
}

/* --- strings --- */

static void tell(struct resolving *resolving, int code, struct slice detail) {
    switch (code) {
    case EXPAND_E_UNSET:
        (void)refuse(resolving, "%.*s", SLICE_ARGS(buf_slice(&resolving->unset)));
        break;
    case EXPAND_E_UNKNOWN:
        (void)refuse(resolving,
                     "has a template with %.*s, which is not known; only {{ env.NAME }}, "
                     "{{ secret.NAME }}, {{ file.PATH }} and these with | default(\"...\") are",
                     SLICE_ARGS(detail));
        break;
    case EXPAND_E_SYNTAX:
        (void)refuse(resolving, "has a broken template: %.*s", SLICE_ARGS(detail));
        break;
    case EXPAND_E_TOLD:
        break;
    case -E2BIG:
        (void)refuse(resolving, "is longer than %zu bytes", LIMIT_CONFIG_STRING);
        break;
    default:
        resolving->loader->error = code;
    }
}

/* Into the configuration's memory. */
static bool keep(struct resolving *resolving, struct slice text, struct slice *ret_string) {
    struct loader *l = resolving->loader;
    if (slice_find_byte(text, '\0') != SIZE_MAX) {
        (void)refuse(resolving, "must not hold the character U+0000");
        return false;
    }
    l->stored_text += l->is_stored ? text.len : 0;
    if (l->stored_text > LIMIT_STORED_TEXT) {
        (void)refuse(resolving, "is past the %zu KiB that all texts of one upstream may have",
                     LIMIT_STORED_TEXT / KIB(1));
        return false;
    }
    struct slice copy = arena_dup(&l->config->arena, text);
    if (copy.ptr == NULL) {
        l->error = -ENOMEM;
        return false;
    }
    *ret_string = copy;
    return true;
}

bool expand_string(struct loader *l, const struct place *place, const struct option *row,
                   const struct toml_node *node, struct slice *ret_string) {
    struct buf out CLEANUP(secret_buf_deinit) = BUF_INIT(LIMIT_CONFIG_STRING);
    struct slice detail = SLICE_EMPTY;
    struct resolving resolving = {
        .loader = l, .place = place, .row = row, .node = node, .unset = BUF_INIT(KIB(8))};
    l->is_hidden = false;
    int r = 0;
    /* All the room at once: what a buffer leaves behind when it grows is not wiped. */
    if (slice_find(node->string, SLICE("{{")) != SIZE_MAX &&
        buf_reserve(&out, LIMIT_CONFIG_STRING) == NULL)
        r = buf_error(&out);
    if (r == 0)
        r = expand_text(&out, node->string, resolve, &resolving, &detail);
    if (r != 0)
        tell(&resolving, r, detail);
    bool is_fine = r == 0 && keep(&resolving, buf_slice(&out), ret_string);
    buf_deinit(&resolving.unset);
    return is_fine;
}

bool read_twin(struct loader *l, const struct place *place, const struct toml_node *node,
               struct slice *ret_string) {
    static const struct option path_row = {.path = "", .type = OPTION_PATH};
    struct buf out CLEANUP(secret_buf_deinit) = BUF_INIT(LIMIT_SECRET);
    struct resolving resolving = {
        .loader = l, .place = place, .row = &path_row, .node = node, .unset = BUF_INIT(KIB(8))};
    struct slice path;
    if (!expand_string(l, place, &path_row, node, &path))
        return false;
    int r = buf_reserve(&out, LIMIT_SECRET) == NULL ? buf_error(&out) : 0;
    if (r == 0)
        r = read_file(&resolving, path, &out);
    if (r != 0)
        tell(&resolving, r, SLICE_EMPTY);
    bool is_fine = r == 0 && keep(&resolving, buf_slice(&out), ret_string);
    buf_deinit(&resolving.unset);
    return is_fine;
}
