/*
 * The own authority and certificate: what clients accept, when something is made anew and when not,
 * and what is left when the process is ended in the middle.
 */
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "support.h"
#include "vault/vault.h"

static bool is_same(X509 *a, X509 *b) {
    return a != NULL && b != NULL && X509_cmp(a, b) == 0;
}

static int mode_of(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 ? (int)(info.st_mode & 07777) : -1;
}

static void test_first_start(void) {
    struct place place;
    place_make(&place);
    place_name(&place, "gw.example");
    mode_t mask = umask(0);
    X509 *server = load_at(&place, NOW);
    umask(mask);
    X509 *authority = certificate_in(&place, "tls/ca.pem");
    REQUIRE(server != NULL && authority != NULL);
    static const char *const names[] = {"gw.example", "localhost", "127.0.0.1", "::1"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        test_row(names[i]);
        CHECK_INT(verify(server, authority, names[i], NOW), X509_V_OK);
    }
    test_row("");
    CHECK_INT(verify(server, authority, "evil.example", NOW), X509_V_ERR_HOSTNAME_MISMATCH);
    /* A client whose clock is behind, and the ends of both. */
    CHECK_INT(verify(server, authority, "gw.example", NOW - 3500000), X509_V_OK);
    CHECK_INT(verify(server, authority, "gw.example", NOW - 3700000),
              X509_V_ERR_CERT_NOT_YET_VALID);
    CHECK_INT(verify(server, authority, "gw.example", NOW + 89 * DAY), X509_V_OK);
    CHECK_INT(verify(server, authority, "gw.example", NOW + 91 * DAY), X509_V_ERR_CERT_HAS_EXPIRED);
    CHECK_INT(mode_of(path_in(&place, "tls")), 0700);
    static const char *const files[] = {"tls/ca.pem", "tls/ca.key", "tls/server.pem",
                                        "tls/server.key"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        test_row(files[i]);
        CHECK_INT(mode_of(path_in(&place, files[i])), 0600);
    }
    X509_free(server);
    X509_free(authority);
    place_remove(&place);
}

static void test_profile(void) {
    struct place place;
    place_make(&place);
    X509 *server = load_at(&place, NOW), *authority = certificate_in(&place, "tls/ca.pem");
    REQUIRE(server != NULL && authority != NULL);
    CHECK_INT(X509_check_ca(authority), 1);
    CHECK_INT(X509_check_ca(server), 0);
    CHECK_INT(X509_get_pathlen(authority), 0);
    CHECK_INT(X509_get_key_usage(authority), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    CHECK_INT(X509_get_key_usage(server), KU_DIGITAL_SIGNATURE);
    CHECK_INT(X509_get_extended_key_usage(authority), XKU_SSL_SERVER);
    CHECK_INT(X509_get_extended_key_usage(server), XKU_SSL_SERVER);
    CHECK(X509_get0_subject_key_id(authority) != NULL && X509_get0_subject_key_id(server) != NULL);
    CHECK(X509_get0_authority_key_id(server) != NULL &&
          ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(server),
                                X509_get0_subject_key_id(authority)) == 0);
    static const int critical[] = {NID_basic_constraints, NID_key_usage};
    for (size_t i = 0; i < ARRAY_LEN(critical); i++) {
        CHECK_INT(X509_EXTENSION_get_critical(
                      X509_get_ext(authority, X509_get_ext_by_NID(authority, critical[i], -1))),
                  1);
        CHECK_INT(X509_EXTENSION_get_critical(
                      X509_get_ext(server, X509_get_ext_by_NID(server, critical[i], -1))),
                  1);
    }
    const ASN1_INTEGER *serial = X509_get0_serialNumber(server);
    CHECK_INT(ASN1_STRING_type(serial), V_ASN1_INTEGER); /* not V_ASN1_NEG_INTEGER */
    CHECK(ASN1_STRING_length(serial) >= 12 && ASN1_STRING_length(serial) <= 16);
    CHECK(ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(authority)) != 0);
    /* It vouches for no client. */
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE *store = X509_STORE_new();
    REQUIRE(ctx != NULL && store != NULL && X509_STORE_add_cert(store, authority) == 1 &&
            X509_STORE_CTX_init(ctx, store, server, NULL) == 1);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT);
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)(NOW / 1000));
    CHECK_INT(X509_verify_cert(ctx), 0);
    CHECK_INT(X509_STORE_CTX_get_error(ctx), X509_V_ERR_INVALID_PURPOSE);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(server);
    X509_free(authority);
    place_remove(&place);
}

/* What happens between two loads, and what has to be another one at the second. */
struct between {
    const char *name;
    uint64_t later; /* milliseconds */
    const char *damaged, *removed, *added_name;
    struct slice content; /* of the damaged one; empty: it is cut to a half */
    bool new_server, new_authority;
    bool same_authority_key; /* with new_authority */
};

static const struct between betweens[] = {
    {.name = "nothing"},
    {.name = "59 days", .later = 59 * DAY},
    {.name = "61 days", .later = 61 * DAY, .new_server = true},
    {.name = "300 days", .later = 300 * DAY, .new_server = true},
    {.name = "a new name", .added_name = "new.example", .new_server = true},
    {.name = "a name that is none", .added_name = "new example"},
    {.name = "the certificate is gone", .removed = "tls/server.pem"},
    {.name = "the certificate is damaged", .damaged = "tls/server.pem"},
    {.name = "the key is gone", .removed = "tls/server.key", .new_server = true},
    {.name = "the key is damaged", .damaged = "tls/server.key", .new_server = true},
    {.name = "the key is empty",
     .damaged = "tls/server.key",
     .content = SLICE_INIT("\n"),
     .new_server = true},
    {.name = "the authority is gone", .removed = "tls/ca.pem"},
    {.name = "the authority is damaged", .damaged = "tls/ca.pem"},
    {.name = "the authority's key is gone", .removed = "tls/ca.key"},
    {.name = "the authority's key is damaged", .damaged = "tls/ca.key"},
    {.name = "the authority's key is gone, and 61 days",
     .removed = "tls/ca.key",
     .later = 61 * DAY,
     .new_server = true,
     .new_authority = true},
    {.name = "the authority's key is damaged, and a new name",
     .damaged = "tls/ca.key",
     .added_name = "new.example",
     .new_server = true,
     .new_authority = true},
    {.name = "half a year before the authority's end",
     .later = UINT64_C(3653) * DAY - 180 * DAY,
     .new_server = true,
     .new_authority = true,
     .same_authority_key = true},
    {.name = "after the authority's end",
     .later = UINT64_C(4000) * DAY,
     .new_server = true,
     .new_authority = true,
     .same_authority_key = true},
};

static void damage(const struct place *place, const struct between *row) {
    const char *path = path_in(place, row->damaged);
    struct slice text = read_whole_file(path);
    write_file(path, row->content.len != 0 ? row->content : slice_sub(text, 0, text.len / 2));
    slice_drop(&text);
}

static void check_between(const struct between *row) {
    struct place place;
    place_make(&place);
    place_name(&place, "gw.example");
    X509 *server = load_at(&place, NOW), *authority = certificate_in(&place, "tls/ca.pem");
    if (row->damaged != NULL)
        damage(&place, row);
    if (row->removed != NULL)
        CHECK_INT(unlink(path_in(&place, row->removed)), 0);
    if (row->added_name != NULL)
        place_name(&place, row->added_name);
    uint64_t now = NOW + row->later;
    X509 *server2 = load_at(&place, now), *authority2 = certificate_in(&place, "tls/ca.pem");
    REQUIRE(server != NULL && authority != NULL && server2 != NULL && authority2 != NULL);
    CHECK(is_same(server, server2) == !row->new_server);
    CHECK(is_same(authority, authority2) == !row->new_authority);
    CHECK_INT(verify(server2, authority2, "gw.example", now), X509_V_OK);
    if (row->new_authority)
        CHECK((EVP_PKEY_eq(X509_get0_pubkey(authority), X509_get0_pubkey(authority2)) == 1) ==
              row->same_authority_key);
    /* Whoever trusts the old one still does, as long as it lasts. */
    if (row->same_authority_key && row->later < UINT64_C(3650) * DAY)
        CHECK_INT(verify(server2, authority, "gw.example", now), X509_V_OK);
    /* And it stays so. */
    X509 *server3 = load_at(&place, now);
    X509 *copy = certificate_in(&place, "tls/server.pem");
    CHECK(is_same(server2, server3) && is_same(server2, copy));
    X509 *all[] = {server, authority, server2, authority2, server3, copy};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        X509_free(all[i]);
    place_remove(&place);
}

static void test_between(void) {
    for (size_t i = 0; i < ARRAY_LEN(betweens); i++) {
        test_row(betweens[i].name);
        check_between(&betweens[i]);
    }
}

static void test_renew(void) {
    struct place place;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    place_make(&place);
    X509 *server = load_at(&place, NOW), *authority = certificate_in(&place, "tls/ca.pem");
    CHECK_INT(pki_renew(&place.options, NOW, &reason), 0);
    X509 *server2 = load_at(&place, NOW), *authority2 = certificate_in(&place, "tls/ca.pem");
    CHECK(!is_same(server, server2) && is_same(authority, authority2));
    CHECK_INT(verify(server2, authority, "localhost", NOW), X509_V_OK);
    place.tls.certificate = SLICE("/etc/some/cert.pem");
    CHECK_INT(pki_renew(&place.options, NOW, &reason), PKI_E_INVALID);
    CHECK(slice_find(buf_slice(&reason), SLICE("/etc/some/cert.pem")) != SIZE_MAX);
    X509 *all[] = {server, authority, server2, authority2};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        X509_free(all[i]);
    place_remove(&place);
}

static void test_authority(void) {
    struct place place;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    CLEANUP(buf_deinit) struct buf pem = BUF_INIT(KIB(64));
    place_make(&place);
    CHECK_INT(pki_authority(&place.options, NOW, &pem, &reason), 0);
    X509 *server = load_at(&place, NOW), *authority = pki_pem_certificate(buf_slice(&pem), 0);
    REQUIRE(authority != NULL);
    CHECK_INT(verify(server, authority, "localhost", NOW), X509_V_OK);
    CHECK(slice_find(buf_slice(&pem), SLICE("PRIVATE")) == SIZE_MAX);
    X509_free(server);
    X509_free(authority);
    place_remove(&place);
}

/* Made while the clock said 2033; now it is right, or was right then. */
static void test_wrong_clock(void) {
    struct place place;
    place_make(&place);
    X509 *server = load_at(&place, NOW);
    X509 *early = load_at(&place, NOW - 20000 * DAY);
    CHECK(is_same(server, early)); /* 1971: it is the clock that is wrong */
    X509 *made_late = load_at(&place, NOW + 1000 * DAY);
    X509 *back = load_at(&place, NOW);
    CHECK(!is_same(server, made_late) && !is_same(made_late, back));
    X509 *authority = certificate_in(&place, "tls/ca.pem");
    CHECK_INT(verify(back, authority, "localhost", NOW), X509_V_OK);
    X509 *all[] = {server, early, made_late, back, authority};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        X509_free(all[i]);
    place_remove(&place);
}

/* --- what cannot be read or written --- */

static int load_error(struct place *place, uint64_t now, const char *says) {
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    pki_pair_init(&pair);
    int error = pki_load(&place->options, now, &pair, &reason);
    CHECK(slice_find(buf_slice(&reason), slice_from_cstr(says)) != SIZE_MAX);
    CHECK(error == 0 || (buf_len(&pair.chain) == 0 && buf_len(&pair.key) == 0));
    return error;
}

static void test_unreadable(void) {
    struct place place;
    place_make(&place);
    write_file(path_in(&place, "tls"), SLICE("a file"));
    CHECK_INT(load_error(&place, NOW, "/tls"), -ENOTDIR);
    CHECK_INT(unlink(path_in(&place, "tls")), 0);
    CHECK_INT(symlink(place.dir, path_in(&place, "tls")), 0);
    CHECK(load_error(&place, NOW, "/tls") < 0); /* a link is not followed to who knows where */
    CHECK_INT(unlink(path_in(&place, "tls")), 0);
    X509_free(load_at(&place, NOW));
    /* A key that is there and cannot be read is not replaced. */
    CHECK_INT(rename(path_in(&place, "tls/ca.key"), path_in(&place, "aside")), 0);
    CHECK_INT(mkdir(path_in(&place, "tls/ca.key"), 0700), 0);
    CHECK_INT(load_error(&place, NOW, "tls/ca.key"), -EISDIR);
    CHECK_INT(rmdir(path_in(&place, "tls/ca.key")), 0);
    CHECK_INT(mkfifo(path_in(&place, "tls/ca.key"), 0600), 0);
    CHECK_INT(load_error(&place, NOW, "no regular file"), -EINVAL);
    CHECK_INT(unlink(path_in(&place, "tls/ca.key")), 0);
    CHECK_INT(rename(path_in(&place, "aside"), path_in(&place, "tls/ca.key")), 0);
    place.options.data_dir = "/nonexistent/place";
    CHECK_INT(load_error(&place, NOW, "/nonexistent/place/tls"), -ENOENT);
    place.options.data_dir = place.dir;
    place_remove(&place);
}

#define A "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUI="
#define B "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkM="

/* Encrypted by the vault: what is locked is not damaged, so nothing takes its place, due or not. */
static void test_sealed(void) {
    struct place place;
    place_make(&place);
    struct secret *one CLEANUP(secret_freep) = NULL;
    struct secret *other CLEANUP(secret_freep) = NULL;
    REQUIRE(secret_new(SLICE(A), &one) == 0 && secret_new(SLICE(B), &other) == 0);
    struct vault_place keys = {.options = {.data_dir = place.dir, .environment = one}};
    struct sealing sealing = vault_sealing(&keys);
    place.options.sealing = &sealing;
    X509 *first = load_at(&place, NOW);
    struct slice key = read_whole_file(path_in(&place, "tls/server.key"));
    struct slice authority = read_whole_file(path_in(&place, "tls/ca.key"));
    CHECK(sealing_is_sealed(key) && sealing_is_sealed(authority));
    X509 *again = load_at(&place, NOW);
    CHECK_INT(X509_cmp(first, again), 0);
    const struct sealing *const given[] = {&sealing, NULL};
    keys.options.environment = other;
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        place.options.sealing = given[i];
        CHECK_INT(load_error(&place, NOW, "tls/ca.key is encrypted"), PKI_E_INVALID);
        CHECK_INT(load_error(&place, NOW + 95 * DAY, "tls/ca.key is encrypted"), PKI_E_INVALID);
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
        CHECK_INT(pki_renew(&place.options, NOW, &reason), PKI_E_INVALID);
    }
    struct slice key_now = read_whole_file(path_in(&place, "tls/server.key"));
    struct slice authority_now = read_whole_file(path_in(&place, "tls/ca.key"));
    CHECK(slice_eq(key, key_now) && slice_eq(authority, authority_now));
    /* A renewal is encrypted, too. */
    keys.options.environment = one;
    place.options.sealing = &sealing;
    X509 *renewed = load_at(&place, NOW + 80 * DAY);
    CHECK(X509_cmp(first, renewed) != 0);
    slice_drop(&key_now);
    key_now = read_whole_file(path_in(&place, "tls/server.key"));
    CHECK(sealing_is_sealed(key_now) && !slice_eq(key, key_now));
    slice_drop(&key);
    slice_drop(&key_now);
    slice_drop(&authority);
    slice_drop(&authority_now);
    X509_free(first);
    X509_free(again);
    X509_free(renewed);
    place_remove(&place);
}

static void test_open_folder_is_closed(void) {
    struct place place;
    place_make(&place);
    CHECK_INT(mkdir(path_in(&place, "tls"), 0777), 0);
    CHECK_INT(chmod(path_in(&place, "tls"), 0777), 0);
    X509_free(load_at(&place, NOW));
    CHECK_INT(mode_of(path_in(&place, "tls")), 0700);
    place_remove(&place);
}

/* Writing fails: what still works is served on, with a word about it. */
static void test_full_disk(void) {
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    struct place place;
    struct rlimit old, none;
    pki_pair_init(&pair);
    place_make(&place);
    X509 *server = load_at(&place, NOW);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    none = (struct rlimit){.rlim_cur = 10, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &none), 0);
    int served = pki_load(&place.options, NOW + 70 * DAY, &pair, &reason);
    int renewed = pki_renew(&place.options, NOW + 70 * DAY, &reason);
    int expired = load_error(&place, NOW + 95 * DAY, "File too large");
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &old), 0);
    CHECK_INT(served, 0);
    CHECK(slice_find(buf_slice(&pair.warning), SLICE("File too large")) != SIZE_MAX);
    CHECK_INT(renewed, -EFBIG);
    CHECK_INT(expired, -EFBIG);
    X509 *again = load_at(&place, NOW);
    CHECK(is_same(server, again));
    X509_free(server);
    X509_free(again);
    place_remove(&place);
}

/* --- two at once --- */

static void *renew_often(void *arg) {
    struct place *place = arg;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    long failures = 0;
    for (int i = 0; i < 25; i++)
        failures += pki_renew(&place->options, NOW, &reason) != 0;
    ERR_clear_error();
    return failures == 0 ? NULL : arg;
}

static void test_two_writers(void) {
    struct place place;
    pthread_t threads[2];
    void *failed = NULL;
    place_make(&place);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        REQUIRE(pthread_create(&threads[i], NULL, renew_often, &place) == 0);
    X509 *first = NULL;
    for (int i = 0; i < 25; i++) {
        X509 *server = load_at(&place, NOW), *authority = certificate_in(&place, "tls/ca.pem");
        CHECK_INT(verify(server, authority, "localhost", NOW), X509_V_OK);
        CHECK(first == NULL || is_same(first, authority));
        X509_free(first);
        X509_free(server);
        first = authority;
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        CHECK_INT(pthread_join(threads[i], &failed), 0);
        CHECK(failed == NULL);
    }
    X509_free(first);
    place_remove(&place);
}

/* --- the end of the process --- */

enum { MOST_STEPS = 1000 };

/* The calls by which files come to be what they are. */
static bool is_step(uint64_t number) {
    static const uint64_t steps[] = {SYS_openat,  SYS_write, SYS_fsync,  SYS_renameat, SYS_unlinkat,
                                     SYS_mkdirat, SYS_flock, SYS_fchmod, SYS_close};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (steps[i] == number)
            return true;
    }
    return false;
}

/* The process stands before a call, or behind one. */
static bool stands_before_step(pid_t child) {
    struct __ptrace_syscall_info info;
    void *size = NULL;
    memcpy(&size, &(size_t){sizeof info}, sizeof size);
    return ptrace(PTRACE_GET_SYSCALL_INFO, child, size, &info) > 0 &&
           info.op == PTRACE_SYSCALL_INFO_ENTRY && is_step(info.entry.nr);
}

static void go_on(pid_t child, int *status) {
    if (ptrace(PTRACE_SYSCALL, child, NULL, NULL) != 0 || waitpid(child, status, 0) != child)
        CANNOT_GO_ON();
}

/* Runs `what` in a process that is killed as by kill -9 before its n-th step. True: it came to its
 * end before that. */
static bool run_until(struct place *place, int (*what)(struct place *place), long n) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        CANNOT_GO_ON();
    if (child == 0) {
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(SIGSTOP);
        _exit(what(place) == 0 ? 0 : 3);
    }
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) != 0)
        CANNOT_GO_ON();
    for (go_on(child, &status); WIFSTOPPED(status); go_on(child, &status)) {
        if (stands_before_step(child) && --n == 0) {
            (void)kill(child, SIGKILL);
            (void)waitpid(child, &status, 0);
            return false;
        }
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return true;
}

static int first_load(struct place *place) {
    struct pki_pair pair;
    struct buf reason = BUF_INIT(KIB(8));
    pki_pair_init(&pair);
    int error = pki_load(&place->options, NOW, &pair, &reason);
    pki_pair_deinit(&pair);
    buf_deinit(&reason);
    return error;
}

static int renew(struct place *place) {
    struct buf reason = BUF_INIT(KIB(8));
    int error = pki_renew(&place->options, NOW, &reason);
    buf_deinit(&reason);
    return error;
}

/* Wherever it is ended: the next start serves, what clients trust is what it was. */
static void test_killed(void) {
    static const struct {
        const char *name;
        int (*what)(struct place *place);
    } cases[] = {{"at the first start", first_load}, {"while renewing", renew}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool is_done = false;
        size_t kills = 0;
        test_row(cases[i].name);
        for (long n = 1; !is_done && n <= MOST_STEPS; n++) {
            struct place place;
            place_make(&place);
            if (cases[i].what == renew)
                X509_free(load_at(&place, NOW));
            X509 *trusted = certificate_in(&place, "tls/ca.pem");
            is_done = run_until(&place, cases[i].what, n);
            kills += !is_done;
            X509 *left = certificate_in(&place, "tls/ca.pem");
            X509 *server = load_at(&place, NOW), *authority = certificate_in(&place, "tls/ca.pem");
            CHECK_INT(verify(server, authority, "localhost", NOW), X509_V_OK);
            CHECK(trusted == NULL || is_same(trusted, authority));
            CHECK(left == NULL || is_same(left, authority));
            X509 *all[] = {trusted, left, server, authority};
            for (size_t k = 0; k < ARRAY_LEN(all); k++)
                X509_free(all[k]);
            place_remove(&place);
        }
        printf("# %s: killed %zu times\n", cases[i].name, kills);
        CHECK(is_done && kills > 20);
    }
}

/* --- without memory --- */

static void load_body(void *arg) {
    struct place *place = arg;
    CLEANUP(pki_pair_deinit) struct pki_pair pair;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(8));
    pki_pair_init(&pair);
    int error = pki_load(&place->options, NOW, &pair, &reason);
    CHECK(error <= 0);
    CHECK(error == 0 || buf_len(&pair.key) == 0);
}

static void test_without_memory(void) {
    struct place place;
    place_make(&place);
    place_name(&place, "gw.example");
    X509 *server = load_at(&place, NOW), *authority = certificate_in(&place, "tls/ca.pem");
    test_torture(load_body, &place);
    X509 *server2 = load_at(&place, NOW), *authority2 = certificate_in(&place, "tls/ca.pem");
    CHECK(is_same(server, server2) && is_same(authority, authority2));
    X509 *all[] = {server, authority, server2, authority2};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        X509_free(all[i]);
    place_remove(&place);
}

TEST_MAIN(TEST(test_first_start), TEST(test_profile), TEST(test_between), TEST(test_renew),
          TEST(test_authority), TEST(test_wrong_clock), TEST(test_unreadable), TEST(test_sealed),
          TEST(test_open_folder_is_closed), TEST(test_full_disk), TEST(test_two_writers),
          TEST(test_killed), TEST(test_without_memory))
