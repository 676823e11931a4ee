/* Rows by path and key, and the words for their types. */
#include "options.h"

bool option_is_child(const struct option *row, const char *parent, struct slice *ret_name) {
    struct slice path = slice_from_cstr(row->path);
    struct slice above = slice_from_cstr(parent);
    if (above.len > 0) {
        if (!slice_starts_with(path, above) || path.len <= above.len || path.ptr[above.len] != '.')
            return false;
        path = slice_from(path, above.len + 1);
    }
    if (slice_find_byte(path, '.') != SIZE_MAX)
        return false;
    *ret_name = path;
    return true;
}

const struct option *option_at(size_t i) {
    const struct {
        const struct option *rows;
        size_t n;
    } parts[] = {
        {option_server_rows, option_server_count}, {option_auth_rows, option_auth_count},
        {option_mcp_rows, option_mcp_count},       {option_access_rows, option_access_count},
        {option_audit_rows, option_audit_count},   {option_admin_rows, option_admin_count},
        {option_other_rows, option_other_count},
    };
    for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
        if (i < parts[k].n)
            return &parts[k].rows[i];
        i -= parts[k].n;
    }
    return NULL;
}

const struct option *option_find(const char *parent, struct slice key) {
    const struct option *any = NULL, *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        struct slice name;
        if (!option_is_child(row, parent, &name))
            continue;
        if (slice_eq(name, SLICE("*")))
            any = row;
        else if (slice_eq(name, key))
            return row;
    }
    return any;
}

const struct option *option_find_twin(const char *parent, struct slice key) {
    struct slice end = SLICE(OPTION_TWIN);
    if (!slice_ends_with(key, end))
        return NULL;
    const struct option *row = option_find(parent, slice_sub(key, 0, key.len - end.len));
    return row != NULL && row->secret ? row : NULL;
}

const char *option_type_name(const struct option *row) {
    switch (row->type) {
    case OPTION_TABLE:
        return "a table";
    case OPTION_BOOL:
        return "true or false";
    case OPTION_INTEGER:
        return "an integer";
    case OPTION_NUMBER:
        return "a number";
    case OPTION_DURATION:
        return "a duration, as a string such as \"30s\" or \"1h 30m\"";
    case OPTION_SIZE:
        return "a size: an integer of bytes, or a string such as \"4MiB\"";
    case OPTION_STRING:
    case OPTION_ENUM:
        return "a string";
    case OPTION_PATH:
        return "a path, as a string";
    case OPTION_TIME:
        return "a date or a time, such as \"2027-01-31\" or \"2027-01-31T12:00:00Z\"";
    case OPTION_LIST:
        return row->single ? "a string or a list of strings" : "a list of strings";
    case OPTION_VALUES:
        return "a list of strings, numbers, true and false";
    case OPTION_MAP:
        return "a table of strings";
    case OPTION_STDERR:
        return "a string, or { file = PATH }";
    case OPTION_TABLES:
        return "an array of tables";
    case OPTION_NAMED:
        return "a table of tables";
    case OPTION_ANY:
        return "anything";
    }
    return "";
}
