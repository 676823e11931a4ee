/* The watch: what changes on the disk arrives on the loop, what is half written does not. */
#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/file.h"
#include "io/loop.h"
#include "support.h"

struct watched {
    struct place place;
    struct io_loop *loop;
    struct io_timer *patience;
    struct pki_watch *watch;
    struct pki_pair loaded, got;
    unsigned n_got;
    bool is_late, frees_itself;
    char certificate[128], key[128], log_path[128];
    int log_fd;
};

enum { PATIENCE_MS = 20000 };

static void on_late(void *context) {
    struct watched *w = context;
    w->is_late = true;
    io_loop_stop(w->loop);
}

static void copy(struct buf *to, const struct buf *from) {
    buf_reset(to, SIZE_MAX);
    if (buf_append(to, buf_slice(from)) != 0)
        CANNOT_GO_ON();
}

static void on_changed(void *context, const struct pki_pair *pair) {
    struct watched *w = context;
    copy(&w->got.chain, &pair->chain);
    copy(&w->got.key, &pair->key);
    copy(&w->got.client_ca, &pair->client_ca);
    w->n_got++;
    if (w->frees_itself)
        w->watch = pki_watch_free(w->watch);
    io_loop_stop(w->loop);
}

/* The operator's files are the own ones of another place. */
static void put_pair(struct watched *w, bool with_certificate, bool with_key) {
    struct place other;
    place_make(&other);
    X509_free(load_at(&other, clock_wall_ms()));
    if (with_certificate && rename(path_in(&other, "tls/server.pem"), w->certificate) != 0)
        CANNOT_GO_ON();
    if (with_key && rename(path_in(&other, "tls/server.key"), w->key) != 0)
        CANNOT_GO_ON();
    place_remove(&other);
}

static void watched_start(struct watched *w, bool is_own) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    *w = (struct watched){.log_fd = -1};
    place_make(&w->place);
    (void)snprintf(w->certificate, sizeof w->certificate, "%s", path_in(&w->place, "cert.pem"));
    (void)snprintf(w->key, sizeof w->key, "%s", path_in(&w->place, "key.pem"));
    (void)snprintf(w->log_path, sizeof w->log_path, "%s", path_in(&w->place, "log"));
    if (!is_own) {
        put_pair(w, true, true);
        w->place.tls.certificate = slice_from_cstr(w->certificate);
        w->place.tls.key = slice_from_cstr(w->key);
    }
    pki_pair_init(&w->loaded);
    pki_pair_init(&w->got);
    if (io_file_open_append(w->log_path, &w->log_fd) != 0 || io_loop_new(&w->loop) != 0)
        CANNOT_GO_ON();
    w->place.options.log = log_new(w->log_fd, LOG_INFO, LOG_STYLE_TEXT);
    w->patience = io_timer_new(w->loop, on_late, w);
    CHECK_INT(pki_load(&w->place.options, clock_wall_ms(), &w->loaded, &reason), 0);
    CHECK_INT(pki_watch_new(w->loop, &w->place.options, &w->loaded, on_changed, w, &w->watch), 0);
}

static void watched_end(struct watched *w) {
    w->watch = pki_watch_free(w->watch);
    io_timer_free(w->patience);
    io_loop_free(w->loop);
    w->place.options.log = log_free(w->place.options.log);
    io_fd_close(&w->log_fd);
    pki_pair_deinit(&w->loaded);
    pki_pair_deinit(&w->got);
    place_remove(&w->place);
}

/* Runs the loop until something arrives. */
static void expect_change(struct watched *w, unsigned n_before) {
    w->is_late = false;
    io_timer_start(w->patience, PATIENCE_MS);
    while (w->n_got == n_before && !w->is_late)
        io_loop_run(w->loop);
    io_timer_stop(w->patience);
    CHECK(!w->is_late);
    CHECK_INT(w->n_got, n_before + 1);
}

/* Looks until the log has it; the thread of the watch writes it. */
static bool expect_log(struct watched *w, const char *part) {
    uint64_t end = clock_monotonic_ms() + PATIENCE_MS;
    bool is_there = false;
    while (!is_there && clock_monotonic_ms() < end) {
        pki_watch_check(w->watch);
        struct slice text = read_whole_file(w->log_path);
        is_there = slice_find(text, slice_from_cstr(part)) != SIZE_MAX;
        slice_drop(&text);
        (void)sched_yield();
    }
    return is_there;
}

static size_t count_in_log(const struct watched *w, const char *part) {
    struct slice text = read_whole_file(w->log_path), rest = text;
    size_t n = 0, at;
    while ((at = slice_find(rest, slice_from_cstr(part))) != SIZE_MAX) {
        rest = slice_from(rest, at + 1);
        n++;
    }
    slice_drop(&text);
    return n;
}

static void test_replaced(void) {
    struct watched w;
    watched_start(&w, false);
    put_pair(&w, true, true);
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    struct slice now = read_whole_file(w.certificate);
    CHECK_SLICE(buf_slice(&w.got.chain), now);
    CHECK(!slice_eq(now, buf_slice(&w.loaded.chain)));
    slice_drop(&now);
    /* By itself, after a while. */
    put_pair(&w, true, true);
    expect_change(&w, 1);
    watched_end(&w);
}

/* As certbot and Kubernetes do: a link that is pointed elsewhere. */
static void test_link(void) {
    struct watched w;
    watched_start(&w, false);
    put_pair(&w, true, true);
    const char *a = path_in(&w.place, "a.pem"), *b = path_in(&w.place, "b.pem");
    const char *ka = path_in(&w.place, "a.key"), *kb = path_in(&w.place, "b.key");
    CHECK_INT(rename(w.certificate, a), 0);
    CHECK_INT(rename(w.key, ka), 0);
    put_pair(&w, true, true);
    CHECK_INT(rename(w.certificate, b), 0);
    CHECK_INT(rename(w.key, kb), 0);
    CHECK_INT(symlink(a, w.certificate), 0);
    CHECK_INT(symlink(ka, w.key), 0);
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    const char *swap = path_in(&w.place, "swap");
    CHECK_INT(symlink(b, swap), 0);
    CHECK_INT(rename(swap, w.certificate), 0);
    CHECK_INT(symlink(kb, swap), 0);
    CHECK_INT(rename(swap, w.key), 0);
    pki_watch_check(w.watch);
    expect_change(&w, 1);
    struct slice now = read_whole_file(b);
    CHECK_SLICE(buf_slice(&w.got.chain), now);
    slice_drop(&now);
    watched_end(&w);
}

static void test_half_written(void) {
    struct watched w;
    watched_start(&w, false);
    struct place other;
    place_make(&other);
    X509_free(load_at(&other, clock_wall_ms()));
    CHECK_INT(rename(path_in(&other, "tls/server.pem"), w.certificate), 0);
    CHECK(expect_log(&w, "does not belong to the certificate"));
    CHECK_INT(w.n_got, 0);
    for (int i = 0; i < 20; i++)
        pki_watch_check(w.watch);
    CHECK_INT(rename(path_in(&other, "tls/server.key"), w.key), 0);
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    CHECK_INT(count_in_log(&w, "cannot be used"), 1);
    place_remove(&other);
    watched_end(&w);
}

static void test_removed_and_back(void) {
    struct watched w;
    watched_start(&w, false);
    const char *aside = path_in(&w.place, "aside");
    CHECK_INT(rename(w.certificate, aside), 0);
    CHECK(expect_log(&w, "No such file"));
    CHECK_INT(rename(aside, w.certificate), 0);
    /* The same again is no change; the next one is. */
    put_pair(&w, true, true);
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    watched_end(&w);
}

static void test_touched(void) {
    struct watched w;
    watched_start(&w, false);
    CHECK_INT(chmod(w.certificate, 0644), 0);
    CHECK_INT(utimensat(AT_FDCWD, w.key, NULL, 0), 0);
    for (int i = 0; i < 20; i++)
        pki_watch_check(w.watch);
    put_pair(&w, true, true);
    pki_watch_check(w.watch);
    expect_change(&w, 0); /* one, not two */
    watched_end(&w);
}

static void test_own_renewed(void) {
    struct watched w;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    watched_start(&w, true);
    CHECK_INT(pki_renew(&w.place.options, clock_wall_ms(), &reason), 0);
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    X509 *server = pki_pem_certificate(buf_slice(&w.got.chain), 0);
    X509 *authority = certificate_in(&w.place, "tls/ca.pem");
    CHECK_INT(verify(server, authority, "localhost", clock_wall_ms()), X509_V_OK);
    X509_free(server);
    X509_free(authority);
    watched_end(&w);
}

/* Names were added while it ran, as by a reload, and the files stayed as they are. */
static void test_own_names(void) {
    struct watched w;
    watched_start(&w, true);
    place_name(&w.place, "late.example");
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    X509 *server = pki_pem_certificate(buf_slice(&w.got.chain), 0);
    CHECK_INT(X509_check_host(server, "late.example", 0, 0, NULL), 1);
    X509_free(server);
    watched_end(&w);
}

/* It was loaded long ago: due as soon as the watch looks. */
static void test_own_due(void) {
    struct watched w;
    struct place *place = &w.place;
    watched_start(&w, true);
    w.watch = pki_watch_free(w.watch);
    CHECK_INT(unlink(path_in(place, "tls/ca.key")), 0);
    CHECK_INT(unlink(path_in(place, "tls/ca.pem")), 0);
    CHECK_INT(unlink(path_in(place, "tls/server.key")), 0);
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    CHECK_INT(pki_load(&place->options, clock_wall_ms() - 70 * DAY, &w.loaded, &reason), 0);
    CHECK_INT(pki_watch_new(w.loop, &place->options, &w.loaded, on_changed, &w, &w.watch), 0);
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    X509 *server = pki_pem_certificate(buf_slice(&w.got.chain), 0);
    struct pki_term term = {0};
    CHECK(pki_term_of(server, &term) && term.until_ms > clock_wall_ms() + 89 * DAY);
    X509_free(server);
    watched_end(&w);
}

static void test_freed_inside(void) {
    struct watched w;
    watched_start(&w, false);
    w.frees_itself = true;
    put_pair(&w, true, true);
    pki_watch_check(w.watch);
    expect_change(&w, 0);
    CHECK(w.watch == NULL);
    watched_end(&w);
}

/* A message is in the mailbox and the loop never runs again. */
static void test_freed_before_delivery(void) {
    struct watched w;
    watched_start(&w, false);
    CHECK_INT(chmod(w.key, 0644), 0);
    put_pair(&w, true, true);
    CHECK_INT(chmod(w.key, 0644), 0);
    CHECK(expect_log(&w, "chmod 600")); /* said just before it is posted */
    w.watch = pki_watch_free(w.watch);
    CHECK_INT(w.n_got, 0);
    watched_end(&w);
    CHECK_INT(w.n_got, 0);
}

static void test_freed_at_once(void) {
    for (int i = 0; i < 50; i++) {
        struct watched w;
        watched_start(&w, false);
        if (i % 2 == 0)
            pki_watch_check(w.watch);
        watched_end(&w);
    }
}

TEST_MAIN(TEST(test_replaced), TEST(test_link), TEST(test_half_written),
          TEST(test_removed_and_back), TEST(test_touched), TEST(test_own_renewed),
          TEST(test_own_names), TEST(test_own_due), TEST(test_freed_inside),
          TEST(test_freed_before_delivery), TEST(test_freed_at_once))
