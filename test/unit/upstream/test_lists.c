/*
 * The upstreams of one configuration and of the next: which ones go on, which are made anew, and
 * what becomes of those that nobody has configured any more.
 */
#include <errno.h>

#include "base/limits.h"
#include "private.h"
#include "test.h"

struct fixture {
    struct io_loop *loop;
    struct log *log;
    struct upstream_set *set;
    struct config *config;
};

static struct config *load(const char *text) {
    struct config *config = NULL;
    struct config_problems problems;
    config_problems_init(&problems);
    int error =
        config_load_text(SLICE("f.toml"), slice_from_cstr(text), NULL, NULL, &problems, &config);
    for (size_t i = 0; i < problems.n; i++)
        printf("# %.*s\n", SLICE_ARGS(problems.items[i].message));
    config_problems_deinit(&problems);
    if (error != 0)
        CANNOT_GO_ON();
    return config;
}

static void set_up(struct fixture *f, const char *text) {
    *f = (struct fixture){.config = load(text), .log = log_new(2, LOG_OFF, LOG_STYLE_TEXT)};
    if (io_loop_new(&f->loop) != 0)
        CANNOT_GO_ON();
    struct upstream_set_options options = {
        .config = f->config, .log = f->log, .loops = &f->loop, .n_loops = 1, .version = SLICE("0")};
    if (upstream_set_new(&options, &f->set) != 0)
        CANNOT_GO_ON();
}

static void on_stopped(void *context) {
    io_loop_stop(context);
}

static void tear_down(struct fixture *f) {
    upstream_set_stop(f->set, on_stopped, f->loop);
    io_loop_run(f->loop);
    upstream_set_free(f->set);
    io_loop_free(f->loop);
    config_unref(f->config);
    log_free(f->log);
}

static struct upstream_list *prepare(struct fixture *f, const char *text) {
    struct config *config = load(text);
    struct upstream_list *list = NULL;
    struct slice name = SLICE_EMPTY;
    const char *reason = "";
    if (upstream_set_prepare(f->set, config, &list, &name, &reason) != 0)
        CANNOT_GO_ON();
    config_unref(config); /* the list has what it needs */
    return list;
}

#define A   "[mcp.servers.a]\nurl = \"http://127.0.0.1:1/\"\n"
#define B   "[mcp.servers.b]\nurl = \"http://127.0.0.1:2/\"\n"
#define B2  "[mcp.servers.b]\nurl = \"http://127.0.0.1:3/\"\n"
#define C   "[mcp.servers.c]\ncmd = [\"x\"]\n"
#define OWN "[mcp.servers.o]\ncmd = [\"x\"]\nshare = \"session\"\n"
#define SCOPED                                                                                     \
    "[server.auth.tokens.t]\nscopes = [\"s\"]\nhash = \"sha256:"                                   \
    "1000000000000000000000000000000000000000000000000000000000000000\"\n" A "scopes = [\"s\"]\n"
#define RULE "[mcp]\nheaders = [{ rule = \"insert\", name = \"X-A\", value = \"1\" }]\n"

/* From one configuration to the other: what of a, b and c is the same as before. */
static void test_same(void) {
    enum what { GONE, SAME, OTHER };
    static const struct {
        const char *name, *from, *to;
        enum what a, b, c;
    } rows[] = {
        {"as before", A B C, A B C, SAME, SAME, SAME},
        {"in another order, with comments", A B C, "# x\n" C "\n" B A, SAME, SAME, SAME},
        {"one is gone", A B, A, SAME, GONE, GONE},
        {"all are gone", A B C, "", GONE, GONE, GONE},
        {"one has come", A, A B, SAME, OTHER, GONE},
        {"one is another", A B, A B2, SAME, OTHER, GONE},
        {"rules for all HTTP servers", A B C, RULE A B C, OTHER, OTHER, SAME},
        {"who may call it", A B, SCOPED B, SAME, SAME, GONE},
        {"something else", A B, "[server]\nworkers = 3\n" A B, SAME, SAME, GONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f;
        test_row(rows[i].name);
        set_up(&f, rows[i].from);
        struct upstream_list *old = upstream_set_list(f.set), *list = prepare(&f, rows[i].to);
        const enum what wanted[] = {rows[i].a, rows[i].b, rows[i].c};
        size_t n = 0;
        for (size_t k = 0; k < ARRAY_LEN(wanted); k++) {
            char name = (char)('a' + k);
            size_t at = SIZE_MAX;
            struct upstream *before = upstream_list_find(old, slice_make(&name, 1), NULL);
            struct upstream *after = upstream_list_find(list, slice_make(&name, 1), &at);
            enum what what = after == NULL ? GONE : after == before ? SAME : OTHER;
            CHECK_INT(what, wanted[k]);
            CHECK(after == NULL || upstream_list_at(list, at) == after);
            n += after != NULL ? 1 : 0;
        }
        CHECK_INT(upstream_list_count(list), n);
        upstream_list_unref(old);
        upstream_list_unref(list);
        tear_down(&f);
    }
}

/* What is given up leaves no trace, and what cannot be made is named. */
static void test_refused(void) {
    struct fixture f;
    set_up(&f, A);
    uint64_t generation = upstream_set_generation(f.set);
    struct upstream_list *before = upstream_set_list(f.set);
    upstream_list_unref(prepare(&f, B));
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf value CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    for (size_t i = 0; i < 1000; i++)
        buf_append_byte(&value, 'v');
    buf_printf(&text, "%s%sheaders = [\n", A, B);
    for (size_t i = 0; i < 40; i++)
        buf_printf(&text, "{ rule = \"insert\", name = \"X-%zu\", value = \"%.*s\" },\n", i,
                   SLICE_ARGS(buf_slice(&value)));
    buf_append_cstr(&text, "]\n");
    buf_append_byte(&text, '\0');
    struct config *config = load(buf_slice(&text).ptr);
    struct upstream_list *list = NULL;
    struct slice name = SLICE_EMPTY;
    const char *reason = "";
    CHECK_INT(upstream_set_prepare(f.set, config, &list, &name, &reason), -EINVAL);
    CHECK(list == NULL);
    CHECK_SLICE(name, SLICE("b"));
    CHECK(slice_find(slice_from_cstr(reason), SLICE("32 KiB")) != SIZE_MAX);
    config_unref(config);
    struct upstream_list *after = upstream_set_list(f.set);
    CHECK(before == after);
    CHECK(generation == upstream_set_generation(f.set));
    upstream_list_unref(before);
    upstream_list_unref(after);
    tear_down(&f);
}

static struct upstream_instance *get(struct upstream *upstream, const char *principal,
                                     struct upstream_worker *worker) {
    struct upstream_instance *instance = NULL;
    if (upstream_get(upstream, &(struct upstream_owner){.principal = slice_from_cstr(principal)},
                     worker, &instance) != 0)
        CANNOT_GO_ON();
    return instance;
}

/* No instance any more, and those that nobody uses close; the name belongs to another one. */
static void test_retired(void) {
    struct fixture f;
    set_up(&f, A B OWN);
    struct upstream_worker *worker = upstream_set_worker(f.set, 0);
    struct upstream_list *old = upstream_set_list(f.set);
    struct upstream *a = upstream_list_at(old, 0), *b = upstream_list_at(old, 1);
    struct upstream_instance *of_a = get(a, "p", worker);
    struct upstream_instance *of_b = get(b, "p", worker);
    struct upstream_instance *busy = get(b, "q", worker);
    CHECK(upstream_list_has_sessions(old));
    atomic_fetch_add(&busy->n_under_way, 1); /* as a call does */
    struct upstream_list *list = prepare(&f, A B2);
    CHECK(!upstream_list_has_sessions(list));
    uint64_t generation = upstream_set_generation(f.set);
    upstream_set_adopt(f.set, list);
    CHECK(generation != upstream_set_generation(f.set));
    upstream_list_retire(old, list);
    CHECK(!atomic_load(&of_a->close_posted));
    CHECK(atomic_load(&of_b->close_posted));
    CHECK(!atomic_load(&busy->close_posted));
    struct upstream_instance *none = NULL;
    CHECK_INT(upstream_get(b, &(struct upstream_owner){.principal = SLICE("p2")}, worker, &none),
              -ECANCELED);
    CHECK(none == NULL);
    struct upstream_instance *known = get(a, "p", worker);
    CHECK(known == of_a);
    instance_call_over(busy);
    CHECK(atomic_load(&busy->close_posted));
    struct upstream *kept = upstream_ref(b); /* by somebody who came before */
    upstream_list_unref(old);
    upstream_list_unref(list);
    CHECK_SLICE(upstream_name(kept), SLICE("b"));
    upstream_instance_unref(known);
    upstream_instance_unref(of_a);
    upstream_instance_unref(of_b);
    upstream_instance_unref(busy);
    upstream_unref(kept);
    tear_down(&f);
}

/* A server that is to run without isolation, when no spawner does that. */
static void test_waits(void) {
    static const char plain[] = "[mcp.servers.c]\ncmd = [\"x\"]\nisolation = \"none\"\n";
    struct fixture f;
    set_up(&f, C);
    struct upstream_list *old = upstream_set_list(f.set), *list = prepare(&f, plain);
    CHECK(upstream_list_waits(list, 0) && !upstream_list_waits(old, 0));
    CHECK(upstream_list_at(list, 0) == upstream_list_at(old, 0)); /* as it ran */
    upstream_list_unref(old);
    upstream_list_unref(list);
    tear_down(&f);
}

struct attempt {
    struct fixture f;
    struct config *config;
};

static void try_prepare(void *context) {
    struct attempt *attempt = context;
    struct upstream_list *list = NULL;
    struct slice name = SLICE_EMPTY;
    const char *reason = "";
    int error = upstream_set_prepare(attempt->f.set, attempt->config, &list, &name, &reason);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK((error == 0) == (list != NULL));
    upstream_list_unref(list);
}

static void test_no_memory(void) {
    struct attempt attempt;
    set_up(&attempt.f, A);
    attempt.config = load(RULE A B C OWN);
    test_torture(try_prepare, &attempt);
    config_unref(attempt.config);
    tear_down(&attempt.f);
}

TEST_MAIN(TEST(test_same), TEST(test_refused), TEST(test_retired), TEST(test_waits),
          TEST(test_no_memory))
