/* Verification, from memory: what is found, where, and how often it is told. */
#include "verified.h"

/* Of the tests below, which only read it. */
struct fixture {
    struct made_log made;
    struct text_log text;
};

static struct fixture *fixture_new(void) {
    struct fixture *fixture = mem_xalloc(sizeof *fixture);
    made_real(&fixture->made, SLICE(MADE_KEY), SLICE(MADE_LOG), "anna");
    text_of(&fixture->made, &fixture->text);
    return fixture;
}

static void fixture_freep(struct fixture **fixture) {
    made_deinit(&(*fixture)->made);
    mem_free(*fixture);
}

static struct text_log *copy_of(const struct fixture *fixture) {
    struct text_log *copy = mem_xalloc(sizeof *copy);
    *copy = fixture->text;
    return copy;
}

static void test_good(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    CHECK_INT(made_bytes(&fixture->made), REAL_BYTES);
    static const size_t steps[] = {0, 1, 7, 1000};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct heard heard;
        CHECK_INT(hear_stepped(&fixture->text, fixture->made.keys, &fixture->made.chain, steps[i],
                               &heard),
                  0);
        CHECK_INT(heard.n, 0);
        explain(&heard);
        CHECK_INT(heard.verified.n_findings, 0);
        CHECK_INT(heard.verified.n_segments, REAL_FILES);
        CHECK_INT(heard.verified.n_checkpoints, REAL_FILES * 3);
        CHECK_INT(heard.verified.n_lines, fixture->made.chain.seq);
        CHECK(memcmp(&heard.verified.head, &fixture->made.chain, sizeof(struct audit_chain)) == 0);
        CHECK_INT(heard.verified.first_seq, 1);
        CHECK_INT(heard.verified.signed_seq, fixture->made.checkpoint_seq);
        CHECK_INT(heard.verified.n_unsigned, 11);
        CHECK_INT(heard.verified.n_lost, REAL_FILES * 3);
        CHECK_INT(heard.verified.n_starts, 1);
        CHECK_INT(heard.verified.n_dropped, 0);
        CHECK_INT(heard.verified.n_open_intents, 0);
        CHECK_STR(slice_from_cstr(heard.verified.log), MADE_LOG);
    }
}

/* --- every bit --- */

struct flips {
    uint64_t n, n_found, n_located;
};

/* From the state before line `at` of the file: with one bit changed, as far as to the first
 * finding. */
static void flip_one(struct audit_verifier *verifier, const struct audit_verifier *before,
                     struct heard *heard, struct buf *bytes_of_file, size_t at, size_t len,
                     size_t bit, struct flips *flips) {
    struct slice file = buf_slice(bytes_of_file);
    char *bytes = bytes_of_file->data;
    bytes[at + bit / 8] = (char)(bytes[at + bit / 8] ^ (1 << bit % 8));
    *verifier = *before;
    heard->n = 0;
    made_must(audit_verifier_feed(verifier, slice_sub(file, at, at + len)));
    if (heard->n == 0)
        made_must(audit_verifier_feed(verifier, slice_from(file, at + len)));
    if (heard->n == 0)
        made_must(audit_verifier_end(verifier));
    bytes[at + bit / 8] = (char)(bytes[at + bit / 8] ^ (1 << bit % 8));
    flips->n++;
    flips->n_found += heard->n != 0;
    const struct audit_finding *first = &heard->findings[0];
    flips->n_located += heard->n != 0 && first->segment == before->segment &&
                        first->line == before->line + 1 && first->offset == at;
}

static void test_every_bit(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    struct heard heard = {.n = 0};
    struct flips flips = {.n = 0};
    const struct audit_verify_options options = options_for(&heard, fixture->made.keys, NULL);
    CLEANUP(audit_verifier_freep) struct audit_verifier *verifier = NULL;
    made_must(audit_verifier_new(&options, &verifier));
    /* So that it does not move: the verifier is put back by copying it. */
    made_must(buf_reserve(&verifier->pending, KIB(16)) != NULL ? 0 : ENOMEM);
    for (size_t i = 0; i < fixture->text.n; i++) {
        struct slice file = buf_slice(&fixture->made.segments[i].bytes);
        size_t at = 0;
        audit_verifier_begin(verifier, fixture->text.files[i].first_seq, i + 1 == fixture->text.n);
        for (size_t j = 0; j < fixture->text.files[i].n; j++) {
            size_t len = fixture->text.files[i].lines[j].len;
            const struct audit_verifier before = *verifier;
            for (size_t bit = 0; bit < len * 8; bit++)
                flip_one(verifier, &before, &heard, &fixture->made.segments[i].bytes, at, len, bit,
                         &flips);
            *verifier = before;
            heard.n = 0;
            made_must(audit_verifier_feed(verifier, slice_sub(file, at, at + len)));
            REQUIRE(heard.n == 0);
            at += len;
        }
        made_must(audit_verifier_end(verifier));
        REQUIRE(heard.n == 0);
    }
    printf("# %llu bits, %llu found, %llu in their line\n", (unsigned long long)flips.n,
           (unsigned long long)flips.n_found, (unsigned long long)flips.n_located);
    CHECK_INT(flips.n, REAL_BYTES * 8);
    CHECK_INT(flips.n_found, flips.n);
    CHECK_INT(flips.n_located, flips.n);
}

/* The whole log with one bit changed: it is told once or twice, and what is behind it is read as
 * before. Every 1021st bit (a prime: so all bits of a byte and all places of a line come), and all
 * that make a line end of something else. */
static void test_findings_of_a_bit(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    size_t at = 0, i = 0, most = 0;
    for (size_t bit = 0; bit < (size_t)REAL_BYTES * 8; bit++) {
        while (bit / 8 - at >= buf_len(&fixture->made.segments[i].bytes))
            at += buf_len(&fixture->made.segments[i++].bytes);
        char *byte = &fixture->made.segments[i].bytes.data[bit / 8 - at];
        bool is_end = ((char)(*byte ^ (1 << bit % 8)) == '\n' && bit / 8 % 3 == 0) ||
                      (*byte == '\n' && bit % 5 == 0);
        if (bit % 1021 != 0 && !is_end)
            continue;
        struct heard heard;
        *byte = (char)(*byte ^ (1 << bit % 8));
        text_of(&fixture->made, text);
        hear(text, fixture->made.keys, NULL, &heard);
        *byte = (char)(*byte ^ (1 << bit % 8));
        /* A hash that is made two lines: both, and the line behind, whose past is gone. */
        size_t limit = is_end ? 3 : 2;
        CHECK(heard.n >= 1 && heard.n <= limit);
        if (heard.n < 1 || heard.n > limit) {
            printf("# bit %zu\n", bit);
            explain(&heard);
        }
        most = heard.n > most ? heard.n : most;
        /* Or it was one of the last two lines. */
        CHECK(heard.verified.head.seq + 2 >= fixture->made.chain.seq);
    }
    CHECK(most == 3);
}

/* --- lines --- */

static bool is_near(const struct audit_finding *finding, uint64_t segment, size_t line) {
    return finding->segment == segment && finding->line == line;
}

static void test_each_line_removed(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    for (size_t i = 0; i < fixture->text.n; i++) {
        for (size_t j = 0; j < fixture->text.files[i].n; j++) {
            CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
            struct heard heard;
            bool is_last_of_file = j + 1 == text->files[i].n;
            take_out(&text->files[i], j);
            hear(text, fixture->made.keys, &fixture->made.chain, &heard);
            CHECK(heard.n >= 1 && heard.n <= 2);
            if (i + 1 == text->n && is_last_of_file)
                CHECK(heard.findings[0].kind == AUDIT_FOUND_HEAD);
            else if (is_last_of_file) /* not signed; and the next file says another one before it */
                CHECK(heard.findings[0].kind == AUDIT_FOUND_UNSIGNED &&
                      is_near(&heard.findings[1], text->files[i + 1].first_seq, 1));
            else
                CHECK(is_near(&heard.findings[0], text->files[i].first_seq, j + 1) &&
                      heard.findings[0].kind == AUDIT_FOUND_SEQUENCE);
        }
    }
}

static void test_each_line_repeated(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    for (size_t i = 0; i < fixture->text.n; i++) {
        for (size_t j = 0; j < fixture->text.files[i].n; j++) {
            CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
            struct heard heard;
            put_in(&text->files[i], j + 1, text->files[i].lines[j]);
            hear(text, fixture->made.keys, &fixture->made.chain, &heard);
            CHECK_INT(heard.n, 1);
            CHECK(is_near(&heard.findings[0], text->files[i].first_seq, j + 2) &&
                  heard.findings[0].kind == AUDIT_FOUND_SEQUENCE);
            CHECK_INT(heard.findings[0].seq, text->files[i].first_seq + j);
            CHECK(memcmp(&heard.verified.head, &fixture->made.chain, sizeof(struct audit_chain)) ==
                  0);
        }
    }
}

static void test_each_line_swapped(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    for (size_t i = 0; i < fixture->text.n; i++) {
        for (size_t j = 0; j + 1 < fixture->text.files[i].n; j++) {
            CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
            struct heard heard;
            struct slice line = text->files[i].lines[j];
            text->files[i].lines[j] = text->files[i].lines[j + 1];
            text->files[i].lines[j + 1] = line;
            hear(text, fixture->made.keys, NULL, &heard);
            CHECK(heard.n >= 1 && heard.n <= 3);
            CHECK(is_near(&heard.findings[0], text->files[i].first_seq, j + 1) &&
                  heard.findings[0].kind == AUDIT_FOUND_SEQUENCE);
        }
    }
}

static void test_each_line_replaced(void) {
    static const struct slice inserted[] = {
        SLICE_INIT("\n"),
        SLICE_INIT("{}\n"),
        SLICE_INIT("{\"seq\":7,\"time\":\"2026-11-21T22:55:01.123456Z\",\"event\":\"call\","
                   "\"hash\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}\n"),
    };
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    for (size_t i = 0; i < fixture->text.n; i++) {
        for (size_t j = 0; j < fixture->text.files[i].n; j++) {
            struct slice stranger = inserted[(i + j) % ARRAY_LEN(inserted)];
            CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
            struct heard heard;
            put_in(&text->files[i], j, stranger);
            hear(text, fixture->made.keys, NULL, &heard);
            /* In front of the first: what was before it is not known any more. */
            CHECK(heard.n >= 1 && heard.n <= (j == 0 ? 2 : 1));
            CHECK(is_near(&heard.findings[0], text->files[i].first_seq, j + 1));
            text->files[i].lines[j] = stranger;
            take_out(&text->files[i], j + 1);
            hear(text, fixture->made.keys, NULL, &heard);
            CHECK(heard.n >= 1 && heard.n <= 2);
            CHECK(is_near(&heard.findings[0], text->files[i].first_seq, j + 1));
        }
    }
}

/* All files but the newest cut behind every line. */
static void test_truncated(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    struct heard heard;
    for (size_t i = 0; i + 1 < fixture->text.n; i++) {
        for (size_t n = 0; n < fixture->text.files[i].n; n++) {
            CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
            text->files[i].n = n;
            hear(text, fixture->made.keys, NULL, &heard);
            CHECK(heard.n >= 1 && heard.n <= 2);
        }
    }
}

/* The newest file cut at every byte. */
static void test_cut(void) {
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    struct made_log log;
    struct heard heard;
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    made_checkpoint(&log);
    made_segment(&log);
    made_calls(&log, 1);
    made_checkpoint(&log);
    made_calls(&log, 1);
    text_of(&log, text);
    struct slice bytes = buf_slice(made_file(&log));
    for (size_t n = 0; n < bytes.len; n++) {
        struct text_file *newest = &text->files[1];
        *newest = split(newest->first_seq, slice_sub(bytes, 0, n));
        bool is_torn = n != 0 && bytes.ptr[n - 1] != '\n';
        hear(text, log.keys, NULL, &heard);
        CHECK_INT(heard.n, is_torn || n == 0 ? 1 : 0);
        if (is_torn)
            CHECK(heard.findings[0].kind == AUDIT_FOUND_TORN &&
                  heard.findings[0].line == newest->n);
        hear(text, log.keys, &log.chain, &heard);
        CHECK_INT(heard.n, is_torn || n == 0 ? 2 : 1);
        CHECK(heard.findings[heard.n - 1].kind == AUDIT_FOUND_HEAD);
    }
    made_deinit(&log);
}

/* --- somebody who can chain, and has no key --- */

/* The log again from line `at` of file `i` on, with another body there and all hashes right. */
static void rechain(struct made_log *out, const struct fixture *fixture, size_t i, size_t at) {
    made_init(out, SLICE(MADE_OTHER_KEY), SLICE(MADE_LOG));
    for (size_t f = 0; f < fixture->text.n; f++) {
        const struct text_file *file = &fixture->text.files[f];
        out->segments[out->n++] =
            (struct made_segment){.first_seq = file->first_seq, .bytes = BUF_INIT(MIB(1))};
        for (size_t l = 0; l < file->n; l++) {
            struct audit_line line;
            struct buf body CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
            struct audit_segment_body segment;
            made_must(
                audit_line_read(slice_sub(file->lines[l], 0, file->lines[l].len - 1), &line, NULL));
            if (audit_segment_body_read(&line, &segment)) {
                memcpy(segment.previous, out->chain.hash, AUDIT_HASH);
                made_must(audit_body_segment(&segment, &body));
            } else {
                made_must(buf_append(&body, line.body));
            }
            if (f == i && l == at)
                made_must(buf_append(&body, SLICE(",\"user\":\"nobody\"")));
            made_body(out, buf_slice(&body));
        }
    }
}

static void test_rechained(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    for (size_t i = 0; i < fixture->text.n; i++) {
        struct made_log forged;
        struct heard heard;
        rechain(&forged, fixture, i, 5);
        text_of(&forged, text);
        hear(text, fixture->made.keys, NULL, &heard);
        CHECK(memcmp(&heard.verified.head, &forged.chain, sizeof forged.chain) == 0);
        /* Each checkpoint behind it. */
        CHECK_INT(heard.n, (REAL_FILES - i) * 3 - 1 + (heard.verified.n_unsigned > 65536));
        for (size_t n = 0; n < heard.n && n < MOST_FOUND; n++)
            CHECK(heard.findings[n].kind == AUDIT_FOUND_SIGNATURE);
        CHECK_INT(heard.findings[0].segment, text->files[i].first_seq);
        CHECK_INT(heard.verified.n_checkpoints, i * 3 + 1);
        made_deinit(&forged);
    }
}

static void test_other_key(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    struct made_log other;
    struct heard heard;
    made_real(&other, SLICE(MADE_OTHER_KEY), SLICE(MADE_LOG), "anna");
    text_of(&other, text);
    hear(text, fixture->made.keys, NULL, &heard);
    CHECK_INT(heard.n, REAL_FILES * 4);
    for (size_t n = 0; n < heard.n && n < MOST_FOUND; n++)
        CHECK(heard.findings[n].kind == AUDIT_FOUND_SIGNATURE);
    CHECK_INT(heard.verified.n_checkpoints, 0);
    CHECK_INT(heard.verified.signed_seq, 0);
    made_deinit(&other);
}

/* A file of another log of the same key, with the same numbers of lines. */
static void test_other_log(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    struct made_log other;
    struct text_log *others = mem_xalloc(sizeof *others);
    made_real(&other, SLICE(MADE_KEY), SLICE(MADE_OTHER_LOG), "berta");
    text_of(&other, others);
    for (size_t i = 0; i < fixture->text.n; i++) {
        CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
        struct heard heard;
        text->files[i] = others->files[i];
        hear(text, fixture->made.keys, NULL, &heard);
        /* Where it begins, and where it ends. */
        CHECK_INT(heard.n, i == 0 || i + 1 == text->n ? 1 : 2);
        CHECK(is_near(&heard.findings[0], text->files[i == 0 ? 1 : i].first_seq, 1) &&
              heard.findings[0].kind == AUDIT_FOUND_SEGMENT);
    }
    made_deinit(&other);
    mem_free(others);
}

/* --- files --- */

static void test_files_moved(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    struct heard heard;
    for (size_t i = 0; i < fixture->text.n; i++) {
        CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
        take_file_out(text, i);
        hear(text, fixture->made.keys, &fixture->made.chain, &heard);
        CHECK_INT(heard.n, 1);
        if (i + 1 == fixture->text.n)
            CHECK(heard.findings[0].kind == AUDIT_FOUND_HEAD);
        else
            CHECK(is_near(&heard.findings[0], fixture->text.files[i + 1].first_seq, 1) &&
                  heard.findings[0].kind ==
                      (i == 0 ? AUDIT_FOUND_BEGINNING : AUDIT_FOUND_SEQUENCE));
    }
    for (size_t i = 0; i + 1 < fixture->text.n; i++) {
        CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
        struct text_file *first = &text->files[i], *second = &text->files[i + 1];
        /* The other name. */
        second->first_seq++;
        hear(text, fixture->made.keys, NULL, &heard);
        CHECK_INT(heard.n, 1);
        CHECK(heard.findings[0].kind == AUDIT_FOUND_SEGMENT);
        second->first_seq--;
        /* One file made of two. */
        const struct text_file whole = *first;
        for (size_t j = 0; j < second->n; j++)
            put_in(first, first->n, second->lines[j]);
        const struct text_file kept = *second;
        take_file_out(text, i + 1);
        hear(text, fixture->made.keys, NULL, &heard);
        CHECK_INT(heard.n, 1);
        CHECK(is_near(&heard.findings[0], whole.first_seq, whole.n + 1) &&
              heard.findings[0].kind == AUDIT_FOUND_SEGMENT);
        /* And the contents exchanged. */
        *text = fixture->text;
        text->files[i] = kept;
        text->files[i + 1] = whole;
        text->files[i].first_seq = whole.first_seq;
        text->files[i + 1].first_seq = kept.first_seq;
        hear(text, fixture->made.keys, NULL, &heard);
        CHECK(heard.n >= 2 && heard.n <= 4);
    }
}

/* Two files made of one, behind each line. */
static void test_files_split(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    const struct text_file whole = fixture->text.files[2];
    for (size_t n = 1; n < whole.n; n++) {
        CLEANUP(mem_freep) struct text_log *text = copy_of(fixture);
        struct heard heard;
        memmove(&text->files[3], &text->files[2], 3 * sizeof whole);
        text->n++;
        text->files[2].n = n;
        text->files[3] = (struct text_file){.first_seq = whole.first_seq + n, .n = whole.n - n};
        memcpy(text->files[3].lines, whole.lines + n, (whole.n - n) * sizeof whole.lines[0]);
        hear(text, fixture->made.keys, NULL, &heard);
        CHECK(heard.n >= 1 && heard.n <= 3);
    }
}

static void test_nothing(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    struct heard heard;
    hear(text, fixture->made.keys, NULL, &heard);
    CHECK_INT(heard.n, 1);
    CHECK(heard.findings[0].kind == AUDIT_FOUND_BEGINNING);
    hear(text, fixture->made.keys, &fixture->made.chain, &heard);
    CHECK_INT(heard.n, 2);
    text->n = 1;
    text->files[0].first_seq = 1;
    hear(text, fixture->made.keys, NULL, &heard);
    CHECK_INT(heard.n, 1);
    CHECK(heard.findings[0].kind == AUDIT_FOUND_SEGMENT);
}

/* --- retention --- */

static void test_retention(void) {
    static const struct {
        const char *name;
        bool is_told, is_signed, is_short, is_good;
    } rows[] = {
        {"told and signed", true, true, false, true},
        {"told, not signed", true, false, false, false},
        {"not enough", true, true, true, false},
        {"not told", false, true, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
        struct made_log log;
        struct heard heard;
        test_row(rows[i].name);
        made_real(&log, SLICE(MADE_KEY), SLICE(MADE_LOG), "anna");
        uint64_t first = log.segments[2].first_seq;
        const struct audit_chain head = log.chain;
        if (rows[i].is_told)
            made_retention(&log, rows[i].is_short ? first - 1 : first);
        if (rows[i].is_signed)
            made_checkpoint(&log);
        text_of(&log, text);
        hear(text, log.keys, NULL, &heard);
        CHECK_INT(heard.n, 0); /* nothing is deleted yet */
        CHECK_INT(heard.verified.n_dropped, 0);
        take_file_out(text, 0);
        take_file_out(text, 0);
        hear(text, log.keys, &head, &heard);
        CHECK_INT(heard.n, rows[i].is_good ? 0 : 1);
        CHECK_INT(heard.verified.n_dropped, rows[i].is_good ? first - 1 : 0);
        CHECK_INT(heard.verified.first_seq, first);
        if (heard.n != 0)
            CHECK(is_near(&heard.findings[0], first, 1) &&
                  heard.findings[0].kind == AUDIT_FOUND_BEGINNING);
        made_deinit(&log);
    }
    test_row("");
}

/* A line that says more than can be was not written by us. */
static void test_bad_own_lines(void) {
    static const char *const rows[] = {
        "\"event\":\"retention\",\"before\":1000000",
        "\"event\":\"retention\",\"before\":\"3\"",
        "\"event\":\"retention\"",
        "\"event\":\"retention\",\"before\":2,\"before\":3",
        "\"event\":\"gap\",\"lost\":-1",
        "\"event\":\"gap\",\"lost\":1e3",
        "\"event\":\"gap\",\"lost\":1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
        struct made_log log;
        struct heard heard;
        test_row(rows[i]);
        made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
        made_segment(&log);
        made_line(&log, "%s", rows[i]);
        made_checkpoint(&log);
        text_of(&log, text);
        hear(text, log.keys, NULL, &heard);
        CHECK_INT(heard.n, 1);
        CHECK(is_near(&heard.findings[0], 1, 2) && heard.findings[0].kind == AUDIT_FOUND_LINE);
        made_deinit(&log);
    }
    test_row("");
}

/* Of lines that are chained right: only who has the key can have written them, or a fault of ours.
 */
static void test_bad_checkpoints(void) {
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    struct made_log log;
    struct heard heard;
    struct buf body CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    made_checkpoint(&log);
    /* The same once more. */
    struct audit_line line;
    struct slice first = split(1, buf_slice(made_file(&log))).lines[1];
    made_must(audit_line_read(slice_sub(first, 0, first.len - 1), &line, NULL));
    made_must(buf_append(&body, line.body));
    made_body(&log, buf_slice(&body));
    /* Another number of lines. */
    buf_reset(&body, 0);
    made_must(audit_body_checkpoint(log.keys, log.time_us, log.log, 7, &log.chain, &body));
    made_body(&log, buf_slice(&body));
    log.checkpoint_seq = log.chain.seq;
    /* Another log. */
    buf_reset(&body, 0);
    made_must(
        audit_body_checkpoint(log.keys, log.time_us, SLICE(MADE_OTHER_LOG), 0, &log.chain, &body));
    made_body(&log, buf_slice(&body));
    text_of(&log, text);
    hear(text, log.keys, NULL, &heard);
    /* Behind the first one, how many there were is not looked at: that was a finding already. */
    CHECK_INT(heard.n, 2);
    CHECK(is_near(&heard.findings[0], 1, 3) && heard.findings[0].kind == AUDIT_FOUND_SIGNATURE);
    CHECK(is_near(&heard.findings[1], 1, 5) && heard.findings[1].kind == AUDIT_FOUND_SIGNATURE);
    take_out(&text->files[0], 2);
    made_deinit(&log);
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    buf_reset(&body, 0);
    made_must(audit_body_checkpoint(log.keys, log.time_us, log.log, 2, &log.chain, &body));
    made_body(&log, buf_slice(&body));
    text_of(&log, text);
    hear(text, log.keys, NULL, &heard);
    CHECK_INT(heard.n, 1);
    CHECK(heard.findings[0].kind == AUDIT_FOUND_SIGNATURE);
    made_deinit(&log);
}

/* --- what is not signed --- */

static void test_unsigned(void) {
    struct made_log log;
    struct heard heard = {.n = 0};
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    made_checkpoint(&log);
    for (unsigned more = 0; more < 2; more++) {
        while (log.chain.seq - log.checkpoint_seq < AUDIT_UNSIGNED_LINES + more)
            made_line(&log, "\"event\":\"call\"");
        heard = (struct heard){.n = 0};
        const struct audit_verify_options options = options_for(&heard, log.keys, NULL);
        CLEANUP(audit_verifier_freep) struct audit_verifier *verifier = NULL;
        made_must(audit_verifier_new(&options, &verifier));
        audit_verifier_begin(verifier, 1, true);
        made_must(audit_verifier_feed(verifier, buf_slice(made_file(&log))));
        made_must(audit_verifier_end(verifier));
        made_must(audit_verifier_finish(verifier, &heard.verified));
        CHECK_INT(heard.verified.n_unsigned, AUDIT_UNSIGNED_LINES + more);
        CHECK_INT(heard.n, more);
    }
    CHECK(heard.findings[0].kind == AUDIT_FOUND_UNSIGNED);
    made_deinit(&log);
}

static void test_heads(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    struct audit_chain chain = {.seq = 0};
    struct heard heard;
    hear(&fixture->text, fixture->made.keys, &chain, &heard);
    CHECK_INT(heard.n, 0);
    for (size_t i = 0; i < fixture->text.n; i++) {
        for (size_t j = i; j < fixture->text.files[i].n; j += 7) {
            struct slice text = fixture->text.files[i].lines[j];
            struct audit_line line;
            made_must(audit_line_read(slice_sub(text, 0, text.len - 1), &line, NULL));
            chain.seq = line.seq;
            memcpy(chain.hash, line.hash, AUDIT_HASH);
            hear(&fixture->text, fixture->made.keys, &chain, &heard);
            CHECK_INT(heard.n, 0);
            chain.hash[j % AUDIT_HASH] ^= 0x10;
            hear(&fixture->text, fixture->made.keys, &chain, &heard);
            CHECK_INT(heard.n, 1);
            CHECK(heard.findings[0].kind == AUDIT_FOUND_HEAD && heard.findings[0].seq == line.seq);
        }
    }
    chain = fixture->made.chain;
    chain.seq++;
    hear(&fixture->text, fixture->made.keys, &chain, &heard);
    CHECK_INT(heard.n, 1);
    CHECK(heard.findings[0].kind == AUDIT_FOUND_HEAD);
}

/* --- calls --- */

static void test_open_intents(void) {
    CLEANUP(mem_freep) struct text_log *text = mem_xalloc(sizeof *text);
    struct made_log log;
    struct heard heard;
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    made_checkpoint(&log);
    made_line(&log, "\"event\":\"start\",\"program\":\"cardea\"");
    made_line(&log, "\"event\":\"intent\",\"id\":\"a\"");
    made_line(&log, "\"event\":\"intent\",\"id\":\"b\",\"user\":\"anna\""); /* 5: a crash */
    made_line(&log, "\"event\":\"intent\",\"id\":\"c\"");
    made_line(&log, "\"event\":\"outcome\",\"id\":\"a\"");
    made_line(&log, "\"event\":\"outcome\",\"id\":\"c\"");
    made_line(&log, "\"event\":\"start\",\"program\":\"cardea\",\"recovered\":17");
    made_line(&log, "\"event\":\"intent\",\"id\":\"b\"");
    made_line(&log, "\"event\":\"outcome\",\"id\":\"b\"");
    made_line(&log, "\"event\":\"outcome\",\"id\":\"z\"");
    made_line(&log, "\"event\":\"intent\",\"id\":\"d\""); /* 13: the same id again */
    made_line(&log, "\"event\":\"intent\",\"id\":\"d\"");
    made_line(&log, "\"event\":\"outcome\",\"id\":\"d\"");
    made_line(&log, "\"event\":\"intent\",\"id\":\"e\""); /* 16 */
    made_line(&log, "\"event\":\"intent\"");
    made_line(&log, "\"event\":\"intent\",\"id\":\"f\""); /* not confirmed, so it came again */
    made_line(&log, "\"event\":\"call\",\"id\":\"f\",\"status\":\"unavailable\"");
    made_line(&log, "\"event\":\"call\",\"id\":\"g\"");
    made_line(&log, "\"event\":\"stop\",\"requests\":5");
    made_checkpoint(&log);
    text_of(&log, text);
    hear(text, log.keys, NULL, &heard);
    CHECK_INT(heard.n, 0);
    CHECK_INT(heard.verified.n_starts, 2);
    CHECK_INT(heard.verified.n_recoveries, 1);
    CHECK_INT(heard.verified.n_stops, 1);
    CHECK_INT(heard.verified.n_open_intents, 3);
    REQUIRE(heard.n_open == 3);
    CHECK_STR(slice_from_cstr(heard.open[0]), "b");
    CHECK_INT(heard.open_seq[0], 5);
    CHECK_STR(slice_from_cstr(heard.open[1]), "d");
    CHECK_INT(heard.open_seq[1], 13);
    CHECK_STR(slice_from_cstr(heard.open[2]), "e");
    CHECK_INT(heard.open_seq[2], 16);
    made_deinit(&log);
}

/* --- hostile text --- */

/* Of a line without an end, no more is kept than a line can have; and the next one is found. */
static void test_endless_line(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    const struct text_file *file = &fixture->text.files[0];
    struct heard heard = {.n = 0};
    const struct audit_verify_options options = options_for(&heard, fixture->made.keys, NULL);
    CLEANUP(audit_verifier_freep) struct audit_verifier *verifier = NULL;
    static char block[KIB(100)];
    memset(block, '{', sizeof block);
    made_must(audit_verifier_new(&options, &verifier));
    audit_verifier_begin(verifier, 1, true);
    for (size_t i = 0; i < 5; i++)
        made_must(audit_verifier_feed(verifier, file->lines[i]));
    for (size_t i = 0; i < 200; i++)
        made_must(audit_verifier_feed(verifier, slice_make(block, sizeof block)));
    CHECK(verifier->pending.cap < MIB(1));
    made_must(audit_verifier_feed(verifier, SLICE("\n")));
    for (size_t i = 5; i < file->n; i++)
        made_must(audit_verifier_feed(verifier, file->lines[i]));
    made_must(audit_verifier_end(verifier));
    made_must(audit_verifier_finish(verifier, &heard.verified));
    CHECK_INT(heard.n, 1);
    CHECK(is_near(&heard.findings[0], 1, 6) && heard.findings[0].kind == AUDIT_FOUND_LINE);
    CHECK_INT(heard.verified.head.seq, file->n);
}

/* All are counted, the first ones are told. */
static void test_many_findings(void) {
    CLEANUP(fixture_freep) struct fixture *fixture = fixture_new();
    struct heard heard = {.n = 0};
    const struct audit_verify_options options = options_for(&heard, fixture->made.keys, NULL);
    CLEANUP(audit_verifier_freep) struct audit_verifier *verifier = NULL;
    made_must(audit_verifier_new(&options, &verifier));
    audit_verifier_begin(verifier, 1, true);
    for (size_t i = 0; i < LIMIT_AUDIT_FINDINGS + 500; i++)
        made_must(audit_verifier_feed(verifier, SLICE("garbage\n")));
    made_must(audit_verifier_end(verifier));
    made_must(audit_verifier_finish(verifier, &heard.verified));
    CHECK_INT(heard.n, LIMIT_AUDIT_FINDINGS);
    CHECK_INT(heard.verified.n_findings, LIMIT_AUDIT_FINDINGS + 500);
}

struct without_memory {
    struct text_log text;
    struct audit_keys *keys;
};

static void verify_without_memory(void *arg) {
    const struct without_memory *what = arg;
    static const size_t steps[] = {0, 50};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct heard heard;
        int error = hear_stepped(&what->text, what->keys, NULL, steps[i], &heard);
        CHECK(error == 0 || error == -ENOMEM);
        CHECK_INT(heard.n, 0);
    }
}

static void test_memory(void) {
    CLEANUP(mem_freep) struct without_memory *what = mem_xalloc(sizeof *what);
    struct made_log log;
    made_init(&log, SLICE(MADE_KEY), SLICE(MADE_LOG));
    made_segment(&log);
    made_checkpoint(&log);
    made_line(&log, "\"event\":\"start\",\"recovered\":1");
    made_line(&log, "\"event\":\"intent\",\"id\":\"a\"");
    made_gap(&log, 2);
    made_retention(&log, 1);
    made_checkpoint(&log);
    text_of(&log, &what->text);
    what->keys = log.keys;
    test_torture(verify_without_memory, what);
    made_deinit(&log);
}

TEST_MAIN(TEST(test_good), TEST(test_every_bit), TEST(test_findings_of_a_bit),
          TEST(test_each_line_removed), TEST(test_each_line_repeated), TEST(test_each_line_swapped),
          TEST(test_each_line_replaced), TEST(test_truncated), TEST(test_cut), TEST(test_rechained),
          TEST(test_other_key), TEST(test_other_log), TEST(test_files_moved),
          TEST(test_files_split), TEST(test_nothing), TEST(test_retention),
          TEST(test_bad_own_lines), TEST(test_bad_checkpoints), TEST(test_unsigned),
          TEST(test_heads), TEST(test_open_intents), TEST(test_endless_line),
          TEST(test_many_findings), TEST(test_memory))
