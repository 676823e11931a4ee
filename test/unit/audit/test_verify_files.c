/* Verification of a directory: the same as from memory, and what only files can do. */
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/follow.h"
#include "verified.h"

struct place {
    char dir[64];
};

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void place_remove(struct place *place) {
    (void)nftw(place->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void segment_path(const struct place *place, uint64_t first_seq, char path[160]) {
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(first_seq, name);
    (void)snprintf(path, 160, "%s/%s", place->dir, name);
}

static void write_segment(const struct place *place, uint64_t first_seq, struct slice bytes) {
    char path[160];
    segment_path(place, first_seq, path);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes.ptr, 1, bytes.len, file) != bytes.len || fclose(file) != 0)
        CANNOT_GO_ON();
}

static void place_make(struct place *place, const struct made_log *log) {
    (void)snprintf(place->dir, sizeof place->dir, "%s/cardea-test-XXXXXX", P_tmpdir);
    if (mkdtemp(place->dir) == NULL)
        CANNOT_GO_ON();
    for (size_t i = 0; i < log->n; i++)
        write_segment(place, log->segments[i].first_seq, buf_slice(&log->segments[i].bytes));
}

static int verify_in(const struct place *place, const struct audit_keys *keys,
                     const struct audit_chain *expect, struct heard *heard) {
    *heard = (struct heard){.n = 0};
    struct audit_verify_options options = options_for(heard, keys, expect);
    options.dir = place->dir;
    return audit_verify(&options, &heard->verified);
}

static void test_good(void) {
    struct place place;
    struct made_log log;
    struct heard heard;
    made_real(&log, SLICE(MADE_KEY), SLICE(MADE_LOG), "anna");
    place_make(&place, &log);
    /* What else lies there. */
    static const char *const others[] = {"signing.pem", "torn-7", "index.sqlite", "1.jsonl",
                                         "00000000000000000001.jsonl.old"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        char path[160];
        (void)snprintf(path, sizeof path, "%s/%s", place.dir, others[i]);
        FILE *file = fopen(path, "wb");
        if (file == NULL || fclose(file) != 0)
            CANNOT_GO_ON();
    }
    CHECK_INT(verify_in(&place, log.keys, &log.chain, &heard), 0);
    explain(&heard);
    CHECK_INT(heard.n, 0);
    CHECK_INT(heard.verified.n_segments, REAL_FILES);
    CHECK_INT(heard.verified.n_lines, log.chain.seq);
    CHECK(memcmp(&heard.verified.head, &log.chain, sizeof log.chain) == 0);
    place_remove(&place);
    made_deinit(&log);
}

/* A sample of the flipped bits: the findings are those from memory. */
static void test_flipped(void) {
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    struct place place;
    struct made_log log;
    made_real(&log, SLICE(MADE_KEY), SLICE(MADE_LOG), "anna");
    place_make(&place, &log);
    for (size_t i = 0; i < log.n; i++) {
        struct buf *bytes = &log.segments[i].bytes;
        for (size_t bit = 3 + i; bit < buf_len(bytes) * 8; bit += 4999) {
            struct heard expected, heard;
            bytes->data[bit / 8] = (char)(bytes->data[bit / 8] ^ (1 << bit % 8));
            text_of(&log, text);
            hear(text, log.keys, NULL, &expected);
            write_segment(&place, log.segments[i].first_seq, buf_slice(bytes));
            CHECK_INT(verify_in(&place, log.keys, NULL, &heard), 0);
            bytes->data[bit / 8] = (char)(bytes->data[bit / 8] ^ (1 << bit % 8));
            CHECK(heard.n != 0);
            CHECK_INT(heard.n, expected.n);
            CHECK(memcmp(heard.findings, expected.findings, sizeof heard.findings) == 0);
        }
        write_segment(&place, log.segments[i].first_seq, buf_slice(bytes));
    }
    place_remove(&place);
    made_deinit(&log);
}

/* Longer than a block, so that lines lie across the ends of blocks; and how far it is, is told. */
struct progress {
    uint64_t done, all, n;
};

static void count_progress(void *context, uint64_t done, uint64_t all) {
    struct progress *progress = context;
    CHECK(done >= progress->done && done <= all);
    *progress = (struct progress){.done = done, .all = all, .n = progress->n + 1};
}

static void test_large(void) {
    struct place place;
    struct made_log log;
    struct progress progress = {.n = 0};
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    while (made_bytes(&log) < 5 * 1024 * 1024) {
        made_calls(&log, 500);
        made_checkpoint(&log);
    }
    place_make(&place, &log);
    struct audit_verified verified;
    struct audit_verify_options options = {.dir = place.dir,
                                           .key = audit_keys_public(log.keys),
                                           .expect = &log.chain,
                                           .on_progress = count_progress,
                                           .context = &progress};
    CHECK_INT(audit_verify(&options, &verified), 0);
    CHECK_INT(verified.n_findings, 0);
    CHECK_INT(verified.n_lines, log.chain.seq);
    CHECK(progress.n >= 5);
    CHECK_INT(progress.done, made_bytes(&log));
    CHECK_INT(progress.all, progress.done);
    place_remove(&place);
    made_deinit(&log);
}

/* Retention at work meanwhile: the first time that progress is told, the first files go. */
struct deleting {
    struct heard heard;
    const struct place *place;
    uint64_t files[3];
    size_t n;
};

static void delete_files(void *context, uint64_t done, uint64_t all) {
    struct deleting *deleting = context;
    (void)done, (void)all;
    for (; deleting->n != 0; deleting->n--) {
        char path[160];
        segment_path(deleting->place, deleting->files[deleting->n - 1], path);
        CHECK(unlink(path) == 0);
    }
}

static void hear_of_deleting(void *context, const struct audit_finding *finding) {
    struct deleting *deleting = context;
    hear_finding(&deleting->heard, finding);
}

static void test_deleted_meanwhile(void) {
    static const struct {
        const char *name;
        size_t files[3], n;
        bool is_told;
        enum audit_finding_kind kind;
    } rows[] = {
        {"by retention", {0, 1, 2}, 3, true, 0},
        {"by somebody", {0, 1, 2}, 3, false, AUDIT_FOUND_BEGINNING},
        {"one in the middle", {2}, 1, true, AUDIT_FOUND_SEQUENCE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct place place;
        struct made_log log;
        test_row(rows[i].name);
        made_real(&log, SLICE(MADE_KEY), SLICE(MADE_LOG), "anna");
        if (rows[i].is_told)
            made_retention(&log, log.segments[3].first_seq);
        made_checkpoint(&log);
        place_make(&place, &log);
        struct deleting deleting = {.place = &place, .n = rows[i].n};
        for (size_t j = 0; j < rows[i].n; j++)
            deleting.files[j] = log.segments[rows[i].files[j]].first_seq;
        struct audit_verify_options options = {.dir = place.dir,
                                               .key = audit_keys_public(log.keys),
                                               .expect = &log.chain,
                                               .on_progress = delete_files,
                                               .on_finding = hear_of_deleting,
                                               .context = &deleting};
        CHECK_INT(audit_verify(&options, &deleting.heard.verified), 0);
        bool is_good = rows[i].is_told && rows[i].n == 3;
        CHECK_INT(deleting.heard.n, is_good ? 0 : 1);
        explain(&deleting.heard);
        if (!is_good)
            CHECK_INT(deleting.heard.findings[0].kind, rows[i].kind);
        else
            CHECK_INT(deleting.heard.verified.n_dropped, log.segments[3].first_seq - 1);
        place_remove(&place);
        made_deinit(&log);
    }
    test_row("");
}

static void test_no_file(void) {
    struct place place;
    struct made_log log;
    struct heard heard;
    char path[160];
    made_real(&log, SLICE(MADE_KEY), SLICE(MADE_LOG), "anna");
    place_make(&place, &log);
    /* A pipe in the place of a file does not keep us waiting. */
    segment_path(&place, log.segments[2].first_seq, path);
    CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0);
    CHECK_INT(verify_in(&place, log.keys, NULL, &heard), 0);
    CHECK_INT(heard.n, 2);
    CHECK(heard.findings[0].kind == AUDIT_FOUND_SEGMENT &&
          heard.findings[0].segment == log.segments[2].first_seq);
    CHECK(heard.findings[1].kind == AUDIT_FOUND_SEQUENCE &&
          heard.findings[1].segment == log.segments[3].first_seq);
    place_remove(&place);
    CHECK_INT(verify_in(&place, log.keys, NULL, &heard), -ENOENT);
    made_deinit(&log);
}

struct without_memory {
    const struct place *place;
    const struct audit_keys *keys;
};

static void verify_without_memory(void *arg) {
    const struct without_memory *what = arg;
    struct heard heard;
    int error = verify_in(what->place, what->keys, NULL, &heard);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK_INT(heard.n, 0);
}

static void test_memory(void) {
    struct place place;
    struct made_log log;
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    made_checkpoint(&log);
    made_calls(&log, 2);
    made_checkpoint(&log);
    place_make(&place, &log);
    struct without_memory what = {.place = &place, .keys = log.keys};
    test_torture(verify_without_memory, &what);
    place_remove(&place);
    made_deinit(&log);
}

TEST_MAIN(TEST(test_good), TEST(test_flipped), TEST(test_large), TEST(test_deleted_meanwhile),
          TEST(test_no_file), TEST(test_memory))
