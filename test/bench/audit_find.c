/*
 * What the index takes: audit_find DIR [new] [URL]. With "new" it is made anew first; then pages of
 * 50 are looked for, for each filter and for combinations of them, in both directions and deep
 * inside. With a URL the index is in the PostgreSQL of that store (`cardea store migrate` makes
 * it).
 */
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

#include "audit/index.h"
#include "base/clock.h"
#include "base/limits.h"

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void keep_number(void *context, uint64_t n_records) {
    *(uint64_t *)context = n_records;
}

static int fill(const struct audit_index_options *index) {
    struct buf reason = BUF_INIT(KIB(8));
    uint64_t n_records = 0;
    double wall = (double)clock_monotonic_ms(), cpu = cpu_seconds();
    int error = audit_index_update(index, AUDIT_INDEX_ANEW, keep_number, &n_records, &reason);
    if (error != 0) {
        printf("%d %.*s\n", error, SLICE_ARGS(buf_slice(&reason)));
        return 1;
    }
    wall = ((double)clock_monotonic_ms() - wall) / 1000;
    cpu = cpu_seconds() - cpu;
    printf("filled: %llu records, %.1f s (%.0f/s), CPU %.1f s (%.0f/s)\n",
           (unsigned long long)n_records, wall, (double)n_records / wall, cpu,
           (double)n_records / cpu);
    return 0;
}

static void ignore(void *context, const struct audit_hit *hit) {
    (void)context;
    (void)hit;
}

static void look(struct audit_finder *finder, const char *name, struct audit_query query) {
    struct buf reason = BUF_INIT(KIB(8));
    double worst = 0, worst_cpu = 0;
    struct audit_page page = {.n = 0};
    size_t n = 0, n_pages = 0;
    query.limit = 50;
    for (int i = 0; i < 3; i++) {
        double wall = (double)clock_monotonic_ns(), cpu = cpu_seconds();
        if (audit_find(finder, &query, ignore, NULL, &page, &reason) != 0) {
            printf("%s: %.*s\n", name, SLICE_ARGS(buf_slice(&reason)));
            return;
        }
        wall = ((double)clock_monotonic_ns() - wall) / 1e6;
        cpu = (cpu_seconds() - cpu) * 1000;
        worst = wall > worst ? wall : worst;
        worst_cpu = cpu > worst_cpu ? cpu : worst_cpu;
        n += page.n;
        n_pages++;
        query.cursor = slice_from_cstr(page.next);
        if (page.next[0] == '\0')
            break;
    }
    printf("%-44s %4zu records on %zu pages, worst %7.2f ms, CPU %7.2f ms\n", name, n, n_pages,
           worst, worst_cpu);
}

#define USER      .user = SLICE_INIT("user-1990") /* seldom */
#define OPERATION .operation = SLICE_INIT("upstream07__operation_007")
#define SINCE     UINT64_C(1795000000000000)
#define HOUR      UINT64_C(3600000000)

static const struct {
    const char *name;
    struct audit_query query;
} rows[] = {
    {"everything", {.limit = 0}},
    {"everything, oldest first", {.oldest_first = true}},
    {"everything, from the middle", {.until_us = SINCE + 2 * HOUR}},
    {"user", {USER}},
    {"user, oldest first", {USER, .oldest_first = true}},
    {"user that nobody is", {.user = SLICE_INIT("nobody")}},
    {"group", {.group = SLICE_INIT("group-07")}},
    {"operation", {OPERATION}},
    {"upstream", {.upstream = SLICE_INIT("upstream03")}},
    {"status, often", {.status = SLICE_INIT("ok")}},
    {"status, seldom", {.status = SLICE_INIT("refused")}},
    {"decision", {.decision = SLICE_INIT("denied")}},
    {"event", {.event = SLICE_INIT("request")}},
    {"address", {.address = SLICE_INIT("10.3.1.22")}},
    {"block /24", {.address = SLICE_INIT("10.3.1.0/24")}},
    {"block /12", {.address = SLICE_INIT("10.0.0.0/12")}},
    {"block /17 and a user of another one", {USER, .address = SLICE_INIT("10.4.0.0/17")}},
    {"block /9 and a user", {USER, .address = SLICE_INIT("10.0.0.0/9")}},
    {"an hour in the middle",
     {.since_us = SINCE + 1000 * HOUR / 100, .until_us = SINCE + 11 * HOUR}},
    {"user and operation", {USER, OPERATION}},
    {"user, operation, status", {USER, OPERATION, .status = SLICE_INIT("error")}},
    {"user and another one's group", {USER, .group = SLICE_INIT("group-07")}},
    {"often and often, never together",
     {.status = SLICE_INIT("ok"), .decision = SLICE_INIT("denied")}},
    {"never together, oldest first",
     {.status = SLICE_INIT("ok"), .decision = SLICE_INIT("denied"), .oldest_first = true}},
    {"operation of another upstream", {OPERATION, .upstream = SLICE_INIT("upstream03")}},
    {"user in a time", {USER, .since_us = SINCE + 10 * HOUR, .until_us = SINCE + 11 * HOUR}},
    {"text that is often there", {.text = SLICE_INIT("Item 15")}},
    {"text of a user", {USER, .text = SLICE_INIT("\"limit\":77")}},
    {"text that is nowhere", {.text = SLICE_INIT("no such text")}},
};

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: audit_find DIR [new] [URL]\n");
        return 2;
    }
    const char *last = argv[argc - 1];
    struct audit_finder *finder = NULL;
    struct audit_index_options index = {.dir = argv[1]};
    if (strncmp(last, "postgres", 8) == 0)
        index.url = slice_from_cstr(last);
    if ((argc > 2 && strcmp(argv[2], "new") == 0 && fill(&index) != 0) ||
        audit_finder_new(index.dir, index.url, &finder) != 0)
        return 1;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        look(finder, rows[i].name, rows[i].query);
    audit_finder_free(finder);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("most memory: %ld MiB\n", usage.ru_maxrss / 1024);
    return 0;
}
