/* docs/CONFIGURATION.md, from the option table. */
#include "config/config.h"
#include "options.h"

static const char intro[] =
    "# Configuration\n"
    "\n"
    "<!-- Made by `config-reference` from the option table, src/config/options_*.c. Do not edit. "
    "-->\n"
    "\n"
    "Cardea reads one TOML 1.0 file, `cardea.toml` in the working directory or the one named with "
    "`--config`. `cardea check FILE` reports everything that is wrong with it at once. A file of "
    "Nexus is read too, see [NEXUS.md](NEXUS.md).\n"
    "\n"
    "- A key that is not listed here is an error.\n"
    "- Durations are strings of numbers with units: `\"500ms\"`, `\"30s\"`, `\"5m\"`, "
    "`\"1h 30m\"`, `\"2d\"`.\n"
    "- Sizes are an integer of bytes, or a string with `KiB`, `MiB` or `GiB`: `\"4MiB\"`.\n"
    "- Relative paths start in the folder of the configuration file.\n"
    "- Every string may hold `{{ env.NAME }}`, which becomes the value of an environment variable, "
    "and `{{ file.PATH }}`, which becomes what a file holds, without the line end at its end (a "
    "regular file of at most 64 KiB; `{{ file.\"PATH\" }}` where the path has spaces). Behind the "
    "name, `| default(\"text\")` gives a text for when there is no such variable or file; without "
    "one that is an error. Values are put in after the file was parsed and are not looked at "
    "again, so what they hold can not change its structure. Keys are not expanded. Two opening "
    "braces that are meant as such are written `{{ \"{{\" }}`.\n"
    "- Keys marked S may hold `{{ secret.NAME }}`, a secret of the store that `cardea secret set "
    "NAME` puts there ([SECRETS.md](SECRETS.md)). Of a key that is a secret as a whole there is a "
    "twin, `KEY_file`: the path of a file that holds it.\n"
    "- What is ignored or switched off is not expanded: its variables need not be set.\n";

static void write_choices(struct buf *out, const struct option *row) {
    for (size_t i = 0; row->choices[i] != NULL; i++)
        buf_printf(out, "%s`\"%s\"`", i == 0 ? "" : ", ", row->choices[i]);
    if (row->type == OPTION_STDERR)
        buf_append_cstr(out, ", `{ file = PATH }`");
}

static void write_type(struct buf *out, const struct option *row) {
    static const char *const names[] = {
        [OPTION_TABLE] = "table",
        [OPTION_BOOL] = "boolean",
        [OPTION_INTEGER] = "integer",
        [OPTION_NUMBER] = "number",
        [OPTION_DURATION] = "duration",
        [OPTION_SIZE] = "size",
        [OPTION_STRING] = "string",
        [OPTION_PATH] = "path",
        [OPTION_LIST] = "strings",
        [OPTION_MAP] = "table of strings",
        [OPTION_TABLES] = "tables",
        [OPTION_ANY] = "any",
        [OPTION_TIME] = "date or time",
        [OPTION_NAMED] = "tables",
        [OPTION_VALUES] = "list of strings, numbers, booleans",
    };
    if (row->choices != NULL)
        write_choices(out, row);
    else if (row->single)
        buf_append_cstr(out, "string or strings");
    else
        buf_append_cstr(out, names[row->type]);
    if (row->max > 0 && (row->type == OPTION_LIST || row->type == OPTION_VALUES)) {
        buf_printf(out, ", at most %llu", (unsigned long long)row->max);
    } else if (row->max > 0) {
        buf_append_cstr(out, ", ");
        option_write_number(out, row, row->min);
        buf_append_cstr(out, " to ");
        option_write_number(out, row, row->max);
    }
}

static void write_default(struct buf *out, const struct option *row) {
    if (row->required) {
        buf_append_cstr(out, "required");
    } else if (row->has_no_default) {
        return;
    } else if (row->choices != NULL) {
        buf_printf(out, "`\"%s\"`", row->choices[row->fallback]);
    } else if (row->type == OPTION_BOOL) {
        buf_append_cstr(out, row->fallback != 0 ? "`true`" : "`false`");
    } else if (row->type == OPTION_INTEGER) {
        buf_printf(out, "`%llu`", (unsigned long long)row->fallback);
    } else if (row->type == OPTION_DURATION || row->type == OPTION_SIZE) {
        buf_append_cstr(out, "`\"");
        option_write_number(out, row, row->fallback);
        buf_append_cstr(out, "\"`");
    } else if (row->text != NULL) {
        buf_printf(out, "`\"%s\"`", row->text);
    }
}

static struct slice last_part(const struct option *row) {
    struct slice path = slice_from_cstr(row->path);
    size_t at = path.len;
    while (at > 0 && path.ptr[at - 1] != '.')
        at--;
    return slice_from(path, at);
}

/* "mcp.servers.*" as people write it: the name is named by the table that it is in. */
static void write_path(struct buf *out, const char *path) {
    static const struct {
        struct slice table;
        const char *name;
    } names[] = {
        {SLICE_INIT(".tools."), "TOOL"},
        {SLICE_INIT(".arguments."), "ARGUMENT"},
        {SLICE_INIT(".groups."), "GROUP"},
        {SLICE_INIT("."), "NAME"},
    };
    struct slice rest = slice_from_cstr(path);
    for (size_t i = 0; i < rest.len; i++) {
        size_t k = 0;
        if (rest.ptr[i] != '*') {
            buf_append_byte(out, rest.ptr[i]);
            continue;
        }
        while (!slice_ends_with(slice_sub(rest, 0, i), names[k].table))
            k++;
        buf_append_cstr(out, names[k].name);
    }
}

static bool has_section(const struct option *row) {
    return row->type == OPTION_TABLE || row->type == OPTION_TABLES || row->type == OPTION_NAMED;
}

static const char *kind_name(enum option_kind kind) {
    switch (kind) {
    case OPTION_FOR_CHILDREN:
        return "With `cmd` only. ";
    case OPTION_FOR_HTTP:
        return "With `url` only. ";
    case OPTION_FOR_ALL:
        return "";
    }
    return "";
}

/* Of a secret: the key of the same table that names a file with it. */
static void write_twin(struct buf *out, const struct option *row) {
    struct slice name = last_part(row);
    buf_printf(out,
               "| `%.*s" OPTION_TWIN "` | path | | %sA file that holds `%.*s`, in its place. |\n",
               SLICE_ARGS(name), kind_name(row->only), SLICE_ARGS(name));
}

/* The keys of one table; the tables in it have sections of their own. */
static void write_keys(struct buf *out, const struct option *table) {
    bool any = false;
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        struct slice name;
        if (row->status != OPTION_BUILT || has_section(row) ||
            !option_is_child(row, table->path, &name))
            continue;
        if (!any)
            buf_append_cstr(out, "\n| key | type | default | |\n| --- | --- | --- | --- |\n");
        any = true;
        buf_printf(out, "| `%.*s` | ", SLICE_ARGS(last_part(row)));
        write_type(out, row);
        buf_append_cstr(out, " | ");
        write_default(out, row);
        bool takes_secrets = (row->secret || row->holds_secrets) && !row->opens_store;
        buf_printf(out, " | %s%s%s |\n", takes_secrets ? "S. " : "", kind_name(row->only),
                   row->doc);
        if (row->secret)
            write_twin(out, row);
    }
}

static void write_built(struct buf *out) {
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        if (row->status != OPTION_BUILT || !has_section(row))
            continue;
        bool many = row->type == OPTION_TABLES;
        buf_append_cstr(out, many ? "\n## [[" : "\n## [");
        write_path(out, row->path);
        buf_printf(out, "%s\n\n%s%s", many ? "]]" : "]", kind_name(row->only), row->doc);
        if (many || row->type == OPTION_NAMED)
            buf_printf(out, " At most %llu.", (unsigned long long)row->max);
        buf_append_byte(out, '\n');
        write_keys(out, row);
    }
}

static void write_status(struct buf *out, enum option_status status) {
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        if (row->status != status || row->why == NULL)
            continue;
        buf_append_cstr(out, "- `");
        write_path(out, row->path);
        buf_printf(out, "`: %s\n", row->why);
    }
}

int config_write_reference(struct buf *out) {
    buf_append_cstr(out, intro);
    write_built(out);
    buf_append_cstr(out, "\n## Known, without effect: a warning\n"
                         "\n");
    write_status(out, OPTION_IGNORED);
    return buf_error(out);
}
