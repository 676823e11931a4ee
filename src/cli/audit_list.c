/* `cardea audit list`: pages of records, by the index; and `reindex`, which makes that anew. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "base/limits.h"
#include "base/mem.h"

#define BEGIN_JSON "{\"records\":["

enum { USUAL = 50 };

struct listing {
    const struct cli_options *options;
    struct audit_row row;
    size_t n;
};

static void print_found(void *context, struct slice line, struct slice outcome) {
    struct listing *listing = context;
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(1));
    if (listing->options->json) {
        fputs(listing->n == 0 ? BEGIN_JSON : ",\n", stdout);
        fputs("{\"record\":", stdout);
        cli_audit_print_json(line);
        if (outcome.len != 0) {
            fputs(",\"outcome\":", stdout);
            cli_audit_print_json(outcome);
        }
        putchar('}');
    } else {
        if (listing->n == 0 && audit_row_header(&text) == 0)
            buf_append_byte(&text, '\n');
        audit_row_read(&listing->row, line, outcome);
        if (audit_row_format(&listing->row, &text) == 0 && buf_append_byte(&text, '\n') == 0)
            fwrite(buf_slice(&text).ptr, 1, buf_len(&text), stdout);
    }
    listing->n++;
}

/* A page that took too long has fewer: then on. */
static int find(struct listing *listing, const char *dir, struct audit_query *query, size_t limit,
                struct audit_page *ret_page) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    struct audit_page page = {.n = 0};
    do {
        query->limit = limit - listing->n;
        int error = audit_find(dir, query, print_found, listing, &page, &reason);
        if (error < 0)
            return cli_audit_failed("cannot look for records", error);
        if (error != 0) {
            fprintf(stderr,
                    "cardea: cannot look for records: %.*s; cardea audit reindex makes the index "
                    "anew\n",
                    SLICE_ARGS(buf_slice(&reason)));
            return CLI_FAILED;
        }
        query->cursor = page.next;
    } while (page.next != 0 && listing->n < limit);
    *ret_page = page;
    return CLI_OK;
}

static void print_end(const struct listing *listing, const struct audit_page *page) {
    if (listing->options->json) {
        printf("%s],\"next\":", listing->n == 0 ? BEGIN_JSON : "");
        printf(page->next != 0 ? "\"%llu\"" : "null", (unsigned long long)page->next);
        printf(",\"lag\":%llu}\n", (unsigned long long)page->lag);
        return;
    }
    fflush(stdout);
    if (listing->n == 0)
        fputs("no record is like that\n", stderr);
    if (page->next != 0)
        fprintf(stderr, "there is more: the same command with --cursor %llu\n",
                (unsigned long long)page->next);
    if (page->lag != 0)
        fprintf(stderr,
                "the index is %llu lines behind the trail: the newest may be missing here; without "
                "a gateway, cardea audit reindex brings it up to date\n",
                (unsigned long long)page->lag);
}

int cli_audit_list(const struct cli_options *options) {
    CLEANUP(mem_freep) char *dir = NULL;
    struct listing listing = {.options = options};
    struct audit_query query;
    struct audit_page page = {.n = 0};
    uint64_t limit = 0;
    int result = cli_audit_query(options, &query);
    if (result == CLI_OK)
        result =
            cli_audit_number("--limit", options->audit.limit, 1, LIMIT_AUDIT_PAGE, USUAL, &limit);
    if (result == CLI_OK)
        result =
            cli_audit_number("--cursor", options->audit.cursor, 1, UINT64_MAX, 0, &query.cursor);
    if (result == CLI_OK)
        result = cli_audit_dir(options, &dir);
    if (result != CLI_OK)
        return result;
    if (audit_row_init(&listing.row) != 0)
        return CLI_FAILED;
    result = find(&listing, dir, &query, (size_t)limit, &page);
    if (result == CLI_OK)
        print_end(&listing, &page);
    audit_row_deinit(&listing.row);
    if (fflush(stdout) != 0 && result == CLI_OK)
        result = CLI_FAILED;
    return result;
}

/* --- reindex --- */

static void print_progress(void *context, uint64_t n_records) {
    (void)context;
    fprintf(stderr, "\r%llu records", (unsigned long long)n_records);
}

int cli_audit_reindex(const struct cli_options *options) {
    CLEANUP(mem_freep) char *dir = NULL;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    bool is_terminal = isatty(STDERR_FILENO);
    int result = cli_audit_dir(options, &dir);
    if (result != CLI_OK)
        return result;
    int error = audit_index_update(dir, true, is_terminal ? print_progress : NULL, NULL, &reason);
    if (is_terminal)
        fputs("\r\033[K", stderr);
    if (error < 0)
        return cli_audit_failed("cannot make the index", error);
    if (error != 0) {
        fprintf(stderr, "cardea: cannot make the index: %.*s\n", SLICE_ARGS(buf_slice(&reason)));
        return CLI_FAILED;
    }
    puts(options->json ? "{\"reindexed\":true}" : "the index was made anew");
    return CLI_OK;
}
