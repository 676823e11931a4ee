/* check-toml: is a file TOML 1.0, within the limits? */
#include "base/arena.h"
#include "check.h"
#include "toml.h"

static bool check(struct slice document, struct buf *reason) {
    struct arena arena = ARENA_INIT(MIB(512));
    struct toml_node *root;
    struct toml_error error;
    int r = toml_parse(&arena, document, &root, &error);
    if (r == TOML_E_SYNTAX)
        buf_printf(reason, "%u:%u: %s", error.at.line, error.at.column, error.message);
    else if (r != 0)
        buf_append_cstr(reason, strerror(-r));
    arena_deinit(&arena);
    return r == 0;
}

int main(int argc, char **argv) {
    return check_main(argc, argv, check);
}
