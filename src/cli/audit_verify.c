/* `cardea audit verify`: offline, with the public key alone. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "audit/verify.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "io/file.h"
#include "json/writer.h"

enum { OPEN_TOLD = 1000, PROGRESS_MS = 100, KEY_MOST = KIB(64) };

struct verification {
    const struct cli_options *options;
    char *dir, *key_path;
    struct audit_public_key *key;
    struct audit_chain expect;
    bool is_terminal;
    uint64_t told_at, n_open;
    struct buf findings, open; /* JSON */
    struct json_writer findings_writer, open_writer;
};

/* --- what is told on the way --- */

static void on_progress(void *context, uint64_t done_bytes, uint64_t all_bytes) {
    struct verification *verification = context;
    uint64_t now = clock_monotonic_ms();
    if (now - verification->told_at < PROGRESS_MS || all_bytes == 0)
        return;
    verification->told_at = now;
    fprintf(stderr, "\rverifying: %u %%", (unsigned)((double)done_bytes * 100 / (double)all_bytes));
}

static void end_progress(const struct verification *verification) {
    if (verification->is_terminal)
        fputs("\r\033[K", stderr);
}

static void on_finding(void *context, const struct audit_finding *finding) {
    struct verification *verification = context;
    char name[AUDIT_SEGMENT_CHARS + 1];
    audit_segment_name(finding->segment, name);
    struct slice text = slice_make(finding->text, strnlen(finding->text, sizeof finding->text));
    if (verification->options->json) {
        struct json_writer *writer = &verification->findings_writer;
        json_object_begin(writer);
        json_kv_string(writer, SLICE("file"), slice_from_cstr(name));
        json_kv_u64(writer, SLICE("line"), finding->line);
        json_kv_u64(writer, SLICE("offset"), finding->offset);
        json_kv_u64(writer, SLICE("seq"), finding->seq);
        json_kv_string(writer, SLICE("text"), text);
        json_object_end(writer);
        return;
    }
    end_progress(verification);
    printf("%s:%llu: offset %llu, record %llu: ", name, (unsigned long long)finding->line,
           (unsigned long long)finding->offset, (unsigned long long)finding->seq);
    cli_print_escaped(text, sizeof finding->text);
    putchar('\n');
}

static void on_open_intent(void *context, struct slice id, uint64_t seq) {
    struct verification *verification = context;
    if (verification->n_open++ >= OPEN_TOLD)
        return;
    if (verification->options->json) {
        struct json_writer *writer = &verification->open_writer;
        json_object_begin(writer);
        json_kv_string(writer, SLICE("id"), id);
        json_kv_u64(writer, SLICE("seq"), seq);
        json_object_end(writer);
        return;
    }
    end_progress(verification);
    printf("open: call ");
    cli_print_escaped(id, 100);
    printf(", record %llu: it was let through, and no end of it is recorded\n",
           (unsigned long long)seq);
}

/* --- what is needed --- */

static int read_key(struct verification *verification) {
    CLEANUP(buf_deinit) struct buf pem = BUF_INIT(KEY_MOST);
    const char *reason = NULL;
    const char *wanted = verification->options->audit.key;
    verification->key_path =
        wanted != NULL ? mem_xstrdup(wanted) : cli_path(verification->dir, "public.pem");
    int error = io_file_read(verification->key_path, &pem);
    if (error == 0)
        error = audit_public_key_read(buf_slice(&pem), &verification->key, &reason);
    if (error == 0)
        return CLI_OK;
    fprintf(stderr, "cardea: cannot read the key %s: %s\n", verification->key_path,
            error > 0 && reason != NULL ? reason : strerror(error < 0 ? -error : EINVAL));
    if (wanted == NULL)
        fputs("cardea: name the trail's public key with --key FILE\n", stderr);
    return CLI_FAILED;
}

static int read_expected(struct verification *verification) {
    const char *head = verification->options->audit.expect;
    if (head != NULL && !audit_head_read(slice_from_cstr(head), &verification->expect))
        return cli_audit_usage("a head is NUMBER:HASH, as cardea audit head prints it, not", head);
    return CLI_OK;
}

/* --- what comes of it --- */

static void print_json(struct verification *verification, const struct audit_verified *verified) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(2));
    char head[AUDIT_HEAD_CHARS + 1];
    struct json_writer writer;
    json_array_end(&verification->findings_writer);
    json_array_end(&verification->open_writer);
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    json_kv_bool(&writer, SLICE("fine"), verified->n_findings == 0);
    json_kv_u64(&writer, SLICE("findings_found"), verified->n_findings);
    json_kv_raw(&writer, SLICE("findings"), buf_slice(&verification->findings));
    json_kv_string(&writer, SLICE("log"), slice_from_cstr(verified->log));
    json_kv_string(&writer, SLICE("key"), slice_from_cstr(audit_public_key_id(verification->key)));
    json_kv_bool(&writer, SLICE("key_was_named"), verification->options->audit.key != NULL);
    json_kv_u64(&writer, SLICE("segments"), verified->n_segments);
    json_kv_u64(&writer, SLICE("lines"), verified->n_lines);
    json_kv_u64(&writer, SLICE("first"), verified->first_seq);
    json_kv_u64(&writer, SLICE("last"), verified->head.seq);
    json_kv_u64(&writer, SLICE("checkpoints"), verified->n_checkpoints);
    json_kv_u64(&writer, SLICE("signed_up_to"), verified->signed_seq);
    json_kv_u64(&writer, SLICE("unsigned"), verified->n_unsigned);
    json_kv_u64(&writer, SLICE("open_intents_found"), verified->n_open_intents);
    json_kv_raw(&writer, SLICE("open_intents"), buf_slice(&verification->open));
    json_kv_u64(&writer, SLICE("lost"), verified->n_lost);
    json_kv_u64(&writer, SLICE("starts"), verified->n_starts);
    json_kv_u64(&writer, SLICE("stops"), verified->n_stops);
    json_kv_u64(&writer, SLICE("recoveries"), verified->n_recoveries);
    json_kv_u64(&writer, SLICE("dropped"), verified->n_dropped);
    json_kv_string(&writer, SLICE("head"), audit_head_write(&verified->head, head));
    json_object_end(&writer);
    if (buf_append_byte(&out, '\n') == 0)
        fwrite(buf_slice(&out).ptr, 1, buf_len(&out), stdout);
}

static unsigned long long number(uint64_t n) {
    return n;
}

static void print_text(const struct verification *verification,
                       const struct audit_verified *verified) {
    char head[AUDIT_HEAD_CHARS + 1];
    if (verified->n_findings > LIMIT_AUDIT_FINDINGS)
        printf("and %llu more findings\n", number(verified->n_findings - LIMIT_AUDIT_FINDINGS));
    if (verification->n_open > OPEN_TOLD)
        printf("and %llu more open calls\n", number(verification->n_open - OPEN_TOLD));
    printf("trail         ");
    cli_print_escaped(slice_from_cstr(verified->log), sizeof verified->log);
    printf(" in %s\n", verification->dir);
    printf("key           %s (%s)\n", audit_public_key_id(verification->key),
           verification->key_path);
    printf("lines         %llu in %llu segments, from %llu to %llu\n", number(verified->n_lines),
           number(verified->n_segments), number(verified->first_seq), number(verified->head.seq));
    printf("checkpoints   %llu, signed up to line %llu\n", number(verified->n_checkpoints),
           number(verified->signed_seq));
    printf("unsigned      %llu lines behind that: chained, and signed by the next checkpoint\n",
           number(verified->n_unsigned));
    printf("open calls    %llu\n", number(verified->n_open_intents));
    printf("lost records  %llu, as gaps say\n", number(verified->n_lost));
    printf("runs          %llu starts, %llu stops, %llu recoveries from a crash\n",
           number(verified->n_starts), number(verified->n_stops), number(verified->n_recoveries));
    printf("dropped       %llu lines, by retention\n", number(verified->n_dropped));
    printf("head          %.*s\n", SLICE_ARGS(audit_head_write(&verified->head, head)));
    if (verified->n_findings == 0)
        printf("fine: nothing was changed, removed, added or moved%s\n",
               verification->options->audit.expect != NULL
                   ? ", and the expected head is in it"
                   : "; lines cut off at the end are found with --expect HEAD alone");
    else
        printf("%llu findings: this is not the trail that was written\n",
               number(verified->n_findings));
}

static int verify(struct verification *verification) {
    struct audit_verified verified;
    const struct audit_verify_options options = {
        .dir = verification->dir,
        .key = verification->key,
        .expect = verification->options->audit.expect != NULL ? &verification->expect : NULL,
        .on_progress = verification->is_terminal ? on_progress : NULL,
        .on_finding = on_finding,
        .on_open_intent = on_open_intent,
        .context = verification,
    };
    if (verification->options->audit.key == NULL)
        fprintf(stderr,
                "cardea: verifying with %s: whoever can change the trail can change that file, "
                "too; keep a copy elsewhere and name it with --key FILE\n",
                verification->key_path);
    int error = audit_verify(&options, &verified);
    end_progress(verification);
    if (error != 0)
        return cli_audit_failed("cannot read the trail", error);
    if (verification->options->json)
        print_json(verification, &verified);
    else
        print_text(verification, &verified);
    return verified.n_findings == 0 ? CLI_OK : CLI_FAILED;
}

int cli_audit_verify(const struct cli_options *options) {
    struct verification verification = {.options = options,
                                        .is_terminal = isatty(STDERR_FILENO) != 0,
                                        .findings = BUF_INIT(MIB(1)),
                                        .open = BUF_INIT(MIB(1))};
    json_writer_init(&verification.findings_writer, &verification.findings);
    json_writer_init(&verification.open_writer, &verification.open);
    json_array_begin(&verification.findings_writer);
    json_array_begin(&verification.open_writer);
    int result = read_expected(&verification);
    if (result == CLI_OK)
        result = cli_audit_dir(options, &verification.dir);
    if (result == CLI_OK)
        result = read_key(&verification);
    if (result == CLI_OK)
        result = verify(&verification);
    audit_public_key_free(verification.key);
    mem_free(verification.dir);
    mem_free(verification.key_path);
    buf_deinit(&verification.findings);
    buf_deinit(&verification.open);
    return result;
}
