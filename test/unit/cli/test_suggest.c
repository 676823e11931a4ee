/* What a tool most likely does, by its name and hints. */
#include "suggest.h"
#include "test.h"

#define READ  CONFIG_ACCESS_READ
#define WRITE CONFIG_ACCESS_WRITE
#define TRUE  SUGGEST_TRUE
#define FALSE SUGGEST_FALSE

static const struct {
    const char *name;
    enum config_access access;
    const char *verb;
    enum suggest_hint read_only, destructive;
    bool is_contradiction;
} rows[] = {
    /* by the name alone */
    {.name = "read_file", .access = READ, .verb = "read"},
    {.name = "list-allowed.directories", .access = READ, .verb = "list"},
    {.name = "getUser", .access = READ, .verb = "get"},
    {.name = "HTTPGetAll", .access = READ, .verb = "get"},
    {.name = "getURLList", .access = READ, .verb = "get"},
    {.name = "GET_USER", .access = READ, .verb = "get"},
    {.name = "files/search", .access = READ, .verb = "search"},
    {.name = "show", .access = READ, .verb = "show"},
    {.name = "get2Users", .access = WRITE, .verb = ""}, /* "get2" is no verb */
    {.name = "get_post", .access = READ, .verb = "get"},
    {.name = "list_run_sets", .access = READ, .verb = "list"},
    {.name = "write_file", .access = WRITE, .verb = "write"},
    {.name = "deleteRepository", .access = WRITE, .verb = "delete"},
    {.name = "post_message", .access = WRITE, .verb = "post"},
    {.name = "issue.update", .access = WRITE, .verb = "update"},
    /* both */
    {.name = "get_or_create", .access = WRITE, .verb = "create"},
    {.name = "findAndReplace", .access = WRITE, .verb = "replace"},
    {.name = "read_then_run", .access = WRITE, .verb = "run"},
    {.name = "get_and_get_run", .access = WRITE, .verb = "run"}, /* on the safe side */
    {.name = "read_delete", .access = WRITE, .verb = "delete"},
    {.name = "update_get", .access = WRITE, .verb = "update"},
    {.name = "and_get", .access = READ, .verb = "get"},
    /* nothing */
    {.name = "echo", .access = WRITE, .verb = ""},
    {.name = "query", .access = WRITE, .verb = ""},
    {.name = "", .access = WRITE, .verb = ""},
    {.name = "___", .access = WRITE, .verb = ""},
    {.name = "reading", .access = WRITE, .verb = ""},
    {.name = "get\xD0\xB0", .access = WRITE, .verb = ""}, /* a letter that is joined to it */
    {.name = "\xD1\x80"
             "ead",
     .access = WRITE,
     .verb = ""}, /* a letter that looks like one */
    {.name = "getgetgetgetgetgetgetgetgetget", .access = WRITE, .verb = ""},
    {.name = "x_\"]\n\x1b[2J_get", .access = READ, .verb = "get"},
    /* hints */
    {.name = "echo", .access = READ, .verb = "", .read_only = TRUE},
    {.name = "echo", .access = WRITE, .verb = "", .read_only = FALSE},
    {.name = "echo", .access = WRITE, .verb = "", .destructive = TRUE},
    {.name = "echo", .access = WRITE, .verb = "", .destructive = FALSE},
    {.name = "get_a", .access = READ, .verb = "get", .read_only = TRUE, .destructive = FALSE},
    {.name = "get_a", .access = READ, .verb = "get", .destructive = FALSE},
    {.name = "write_a", .access = WRITE, .verb = "", .read_only = FALSE, .destructive = TRUE},
    /* which contradict */
    {.name = "delete_a",
     .access = WRITE,
     .verb = "delete",
     .read_only = TRUE,
     .is_contradiction = true},
    {.name = "get_a", .access = WRITE, .verb = "get", .read_only = FALSE, .is_contradiction = true},
    {.name = "get_a",
     .access = WRITE,
     .verb = "get",
     .destructive = TRUE,
     .is_contradiction = true},
    {.name = "get_a",
     .access = WRITE,
     .verb = "",
     .read_only = TRUE,
     .destructive = TRUE,
     .is_contradiction = true},
};

static void test_rows(void) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        struct suggest_facts facts = {slice_from_cstr(rows[i].name), rows[i].read_only,
                                      rows[i].destructive};
        struct suggestion suggestion = suggest_access(&facts);
        CHECK_INT(suggestion.access, rows[i].access);
        CHECK_INT(suggestion.is_contradiction, rows[i].is_contradiction);
        CHECK_STR(suggestion.verb, rows[i].verb);
        CHECK(suggestion.why != NULL);
    }
}

/* Whatever is put behind a verb that writes or before it: never a read. */
static void test_writes_stay_writes(void) {
    static const char *const writes[] = {"delete", "create", "Write", "EXECUTE", "drop"};
    static const char *const around[] = {"get", "list_all", "", "x", "and", "read.file", "-"};
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        for (size_t a = 0; a < ARRAY_LEN(around) * ARRAY_LEN(around); a++) {
            char name[64];
            snprintf(name, sizeof name, "%s_%s_%s", around[a / ARRAY_LEN(around)], writes[i],
                     around[a % ARRAY_LEN(around)]);
            test_row(name);
            for (int hint = SUGGEST_NOT_SAID; hint <= SUGGEST_TRUE; hint++) {
                struct suggest_facts facts = {slice_from_cstr(name), (enum suggest_hint)hint,
                                              SUGGEST_NOT_SAID};
                CHECK_INT(suggest_access(&facts).access, WRITE);
            }
            test_row("");
        }
    }
}

TEST_MAIN(TEST(test_rows), TEST(test_writes_stay_writes))
