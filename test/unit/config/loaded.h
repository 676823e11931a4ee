/* Loads a text with a fixed environment; for the tests of the configuration. */
#pragma once

#include "base/limits.h"
#include "config/config.h"
#include "test.h"

struct loaded {
    int result;
    struct config *config; /* NULL unless result is 0 */
    struct config_problems problems;
    struct buf text; /* all problems, a line each */
};

static const char *test_getenv(void *context, const char *name) {
    static const char *const variables[][2] = {
        {"TOKEN", "s3cr3t"},
        {"EMPTY", ""},
        {"TRICK", "{{ env.TOKEN }}"},
        {"QUOTE", "\"\n[server]\n"},
        {"BAD", "\xff"},
        {"DB_HOST", "db.example.com"},
        {"DB_USER", "reader"},
        {"DB_PASSWORD", "pw1"},
        {"SHARE", "all"},
        {"WAIT", "5s"},
        {"GITHUB_TOKEN", "gh0_s3cr3t"},
        {"CLIENT_SECRET", "cl1_s3cr3t"},
        {"WIKI_TOKEN", "wk0_s3cr3t"},
        {"SIGNING", "0123456789abcdef0123456789abcdef"}, /* 32 bytes */
    };
    (void)context;
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        if (strcmp(variables[i][0], name) == 0)
            return variables[i][1];
    }
    return NULL;
}

MAYBE_UNUSED static struct loaded load(struct slice text) {
    struct loaded l = {.config = NULL, .text = BUF_INIT(MIB(1))};
    config_problems_init(&l.problems);
    l.result =
        config_load_text(SLICE("/etc/gw/f.toml"), text, test_getenv, NULL, &l.problems, &l.config);
    for (size_t i = 0; i < l.problems.n; i++)
        config_problem_format(&l.text, &l.problems.items[i]);
    return l;
}

static void unload(struct loaded *l) {
    config_unref(l->config);
    config_problems_deinit(&l->problems);
    buf_deinit(&l->text);
}

/* The problems without "/etc/gw/f.toml:" in front of each. */
MAYBE_UNUSED static struct slice without_file(struct loaded *l, struct buf *out) {
    static const struct slice name = SLICE_INIT("/etc/gw/f.toml:");
    struct slice line, rest = buf_slice(&l->text);
    while (slice_cut(rest, '\n', &line, &rest)) {
        if (slice_starts_with(line, name))
            line = slice_trim(slice_from(line, name.len));
        buf_append(out, line);
        buf_append_byte(out, '\n');
    }
    return buf_slice(out);
}
