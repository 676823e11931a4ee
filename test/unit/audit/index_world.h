/*
 * A trail of made-up records for the tests of the index, and the same records as a plain table: the
 * oracle for what is found. The index is in SQLite, or in a PostgreSQL of the program's own:
 *
 *     static void test_of(enum index_kind kind) {
 *         struct world world = world_begin(kind);
 *         ...
 *     }
 *     INDEX_TEST(test_of) // makes test_of_sqlite() and test_of_postgres()
 */
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/index.h"
#include "base/clock.h"
#include "base/limits.h"
#include "io/file.h"
#include "own.h"
#include "postgres_server.h"
#include "store/store.h"
#include "test.h"

enum { WORLD_RECORDS = 40000, WAIT_MS = 20000 };

struct record {
    uint64_t seq, time_us;
    const char *event, *user, *upstream_operation, *upstream, *status, *decision;
    char operation[40], address[48];
    unsigned groups;            /* bits of group_names */
    struct slice line, outcome; /* of world.texts; ptr NULL: none */
};

/* INDEX_NONE: and segments without a first line of their own. */
enum index_kind { INDEX_NONE, INDEX_IN_SQLITE, INDEX_IN_POSTGRES };

#define INDEX_TEST(function)                                                                       \
    static void function##_sqlite(void) {                                                          \
        function(INDEX_IN_SQLITE);                                                                 \
    }                                                                                              \
    static void function##_postgres(void) {                                                        \
        function(INDEX_IN_POSTGRES);                                                               \
    }

struct world {
    enum index_kind kind;
    char dir[64], url[512], database[32], log[AUDIT_LOG_CHARS + 1];
    struct audit_finder *finder;
    bool is_steady; /* time does not jump back */
    size_t *order;  /* of records, as they are found; PostgreSQL */
    size_t n_ordered;
    struct audit_hasher *hasher;
    struct audit_chain chain;
    int fd; /* of the newest segment */
    uint64_t segment, offset;
    uint64_t random, time_us;
    struct record *records; /* in the order of their numbers */
    size_t n;
    size_t first;     /* that was not deleted with its segment */
    struct buf texts; /* every line; never moved, so that slices stay */
};

static const char *const user_names[] = {"alice", "bob",   "carol", "dave \\\"the\\\" user",
                                         "erin",  "frank", "grace", "heidi"};
static const char *const user_texts[] = {"alice", "bob",   "carol", "dave \"the\" user",
                                         "erin",  "frank", "grace", "heidi"};
static const char *const group_names[] = {"admins", "staff", "guests", "robots"};
static const char *const upstreams[] = {"files", "mail", "db"};
static const char *const statuses[] = {"ok", "ok", "ok", "ok", "error", "timeout"};
static const char *const others[] = {"call", "call", "call", "call", "start", "edit"};

static uint64_t pick(struct world *world, uint64_t n) {
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return (world->random >> 11) % n;
}

static struct slice world_line(struct world *world, const char *event, uint64_t time_us,
                               struct slice members);

static void world_segment(struct world *world) {
    char name[AUDIT_SEGMENT_CHARS + 1], path[128];
    io_fd_close(&world->fd);
    world->segment = world->chain.seq + 1;
    world->offset = 0;
    audit_segment_name(world->segment, name);
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    world->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (world->fd < 0)
        CANNOT_GO_ON();
    if (world->kind == INDEX_NONE)
        return;
    CLEANUP(buf_deinit) struct buf members = BUF_INIT(KIB(1));
    buf_printf(&members,
               ",\"log\":\"%s\",\"number\":1,\"previous\":\"%.43s\",\"key\":\"%.16s\","
               "\"program\":\"cardea test\"",
               world->log, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAA");
    (void)world_line(world, "segment", world->time_us, buf_slice(&members));
}

/* As it stands in the trail, without its end. */
static struct slice world_line(struct world *world, const char *event, uint64_t time_us,
                               struct slice members) {
    char time[AUDIT_TIME_CHARS + 1];
    struct buf line = BUF_INIT(MIB(1)), body = BUF_INIT(KIB(8));
    audit_time_write(time_us, time);
    buf_printf(&body, "\"time\":\"%s\",\"event\":\"%s\"", time, event);
    struct slice pieces[] = {buf_slice(&body), members};
    if (audit_line_write(world->hasher, &world->chain, pieces, 2, &line) != 0 ||
        write(world->fd, buf_slice(&line).ptr, buf_len(&line)) != (ssize_t)buf_len(&line))
        CANNOT_GO_ON();
    size_t before = buf_len(&world->texts), len = buf_len(&line);
    if (buf_append(&world->texts, buf_slice(&line)) != 0)
        CANNOT_GO_ON();
    world->offset += len;
    buf_deinit(&line);
    buf_deinit(&body);
    return slice_sub(buf_slice(&world->texts), before, before + len - 1);
}

static struct audit_index_options world_options(const struct world *world) {
    return (struct audit_index_options){.dir = world->dir, .url = slice_from_cstr(world->url)};
}

/* With a store, without which nothing is filled. */
static void world_make_database(struct world *world) {
    static unsigned n;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct store *store = NULL;
    snprintf(world->database, sizeof world->database, "world_%ld_%u", (long)getpid(), n++);
    postgres_make_database(world->database);
    postgres_url(world->database, world->url, sizeof world->url);
    struct store_options options = {.url = slice_from_cstr(world->url), .migrate = true};
    if (store_open(&options, &store, &reason) != 0)
        CANNOT_GO_ON();
    store_close(store);
}

/* A second one in the index of another; it ends first. */
static struct world world_begin_in(enum index_kind kind, const struct world *other) {
    struct world world = {.kind = kind,
                          .dir = "/tmp/cardea-index-XXXXXX",
                          .fd = -1,
                          .random = 88172645463325252,
                          .time_us = UINT64_C(1795000000000000),
                          .texts = BUF_INIT(MIB(64))};
    world.records = mem_xalloc(WORLD_RECORDS * sizeof *world.records);
    if (mkdtemp(world.dir) == NULL || audit_hasher_new(&world.hasher) != 0 ||
        buf_reserve(&world.texts, MIB(40)) == NULL)
        CANNOT_GO_ON();
    audit_log_new(world.log);
    if (other != NULL)
        memcpy(world.url, other->url, sizeof world.url);
    else if (kind == INDEX_IN_POSTGRES)
        world_make_database(&world);
    if (audit_finder_new(world.dir, slice_from_cstr(world.url), &world.finder) != 0)
        CANNOT_GO_ON();
    world_segment(&world);
    return world;
}

static struct world world_begin(enum index_kind kind) {
    return world_begin_in(kind, NULL);
}

static void world_unlink(struct world *world, const char *name) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    unlink(path);
}

static void world_end(struct world *world) {
    uint64_t *segments = NULL;
    size_t n = 0;
    io_fd_close(&world->fd);
    if (audit_segments(world->dir, &segments, &n) == 0)
        for (size_t i = 0; i < n; i++) {
            char name[AUDIT_SEGMENT_CHARS + 1];
            audit_segment_name(segments[i], name);
            world_unlink(world, name);
        }
    mem_free(segments);
    static const char *const files[] = {"index.sqlite", "index.sqlite-wal", "index.sqlite-shm",
                                        "index.lock", "index.anew"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        world_unlink(world, files[i]);
    CHECK_INT(rmdir(world->dir), 0);
    audit_finder_free(world->finder);
    if (world->database[0] != '\0')
        postgres_drop_database(world->database);
    mem_free(world->order);
    audit_hasher_free(world->hasher);
    buf_deinit(&world->texts);
    mem_free(world->records);
}

/* --- records --- */

static void choose_address(struct world *world, struct record *record, const char **ret_key) {
    *ret_key = "address";
    switch (pick(world, 8)) {
    case 0:
        snprintf(record->address, sizeof record->address, "2001:db8:%x:%x::%x",
                 (unsigned)pick(world, 3), (unsigned)pick(world, 3), (unsigned)pick(world, 9) + 1);
        return;
    case 1:
        record->address[0] = '\0';
        return;
    case 2: /* a block, of strangers */
        *ret_key = "from";
        snprintf(record->address, sizeof record->address, "10.%u.%u.0/24", (unsigned)pick(world, 3),
                 (unsigned)pick(world, 4) * 60);
        return;
    default:
        snprintf(record->address, sizeof record->address, "10.%u.%u.%u", (unsigned)pick(world, 3),
                 (unsigned)pick(world, 4) * 60, (unsigned)pick(world, 40));
    }
}

static void put_member(struct buf *out, const char *key, const char *text) {
    if (text != NULL && text[0] != '\0')
        buf_printf(out, ",\"%s\":\"%s\"", key, text);
}

static void put_groups(struct buf *out, unsigned groups, bool backwards) {
    const char *comma = "";
    if (groups == 0)
        return;
    buf_append_cstr(out, ",\"groups\":[");
    for (unsigned i = 0; i < ARRAY_LEN(group_names); i++) {
        unsigned bit = backwards ? (unsigned)ARRAY_LEN(group_names) - 1 - i : i;
        if ((groups >> bit & 1) == 0)
            continue;
        buf_printf(out, "%s\"%s\"", comma, group_names[bit]);
        comma = ",";
    }
    buf_append_byte(out, ']');
}

static void put_record(struct world *world, struct record *record, struct buf *members) {
    const char *key;
    uint64_t user = pick(world, 12);
    record->groups = (unsigned)pick(world, 1 << ARRAY_LEN(group_names));
    snprintf(record->operation, sizeof record->operation, "op_%u", (unsigned)pick(world, 40));
    choose_address(world, record, &key);
    if (user < ARRAY_LEN(user_names)) {
        record->user = user_texts[user];
        put_member(members, "user", user_names[user]);
    }
    put_groups(members, record->groups, pick(world, 2) == 0);
    put_member(members, key, record->address);
    put_member(members, "operation", record->operation);
    record->upstream = upstreams[pick(world, ARRAY_LEN(upstreams))];
    put_member(members, "upstream", record->upstream);
    if (pick(world, 4) == 0) {
        record->upstream_operation = pick(world, 2) == 0 ? "op_7" : "Read_File";
        put_member(members, "upstream_operation", record->upstream_operation);
    }
    record->decision = pick(world, 9) == 0 ? "denied" : "allowed";
    put_member(members, "decision", record->decision);
}

/* A time that jumps back now and then. */
static uint64_t world_time(struct world *world) {
    world->time_us += pick(world, 2000000);
    if (pick(world, 500) == 0 && !world->is_steady)
        world->time_us -= pick(world, 4000) * 1000000;
    return world->time_us;
}

/* The outcome of an intent that has none yet. */
static void world_outcome(struct world *world, struct record *record) {
    struct buf members = BUF_INIT(KIB(8));
    record->status = statuses[pick(world, ARRAY_LEN(statuses))];
    buf_printf(&members, ",\"id\":\"c%zu\",\"status\":\"%s\",\"note\":\"Outcome %zu\"",
               (size_t)(record - world->records), record->status,
               (size_t)(record - world->records) % 100);
    record->outcome = world_line(world, "outcome", world_time(world), buf_slice(&members));
    buf_deinit(&members);
}

/* `step`: numbers jump by that at most, so that there are many blocks. */
static struct record *world_record(struct world *world, uint64_t step) {
    struct buf members = BUF_INIT(KIB(8));
    if (world->n == WORLD_RECORDS)
        CANNOT_GO_ON();
    struct record *record = &world->records[world->n++];
    bool is_intent = pick(world, 5) == 0;
    world->chain.seq += pick(world, step);
    record->time_us = world_time(world);
    record->event = is_intent ? "intent" : others[pick(world, ARRAY_LEN(others))];
    if (is_intent)
        buf_printf(&members, ",\"id\":\"c%zu\"", (size_t)(record - world->records));
    put_record(world, record, &members);
    if (!is_intent) {
        record->status = statuses[pick(world, ARRAY_LEN(statuses))];
        put_member(&members, "status", record->status);
    }
    record->line = world_line(world, record->event, record->time_us, buf_slice(&members));
    record->seq = world->chain.seq;
    buf_deinit(&members);
    return record;
}

/* Many, with outcomes soon, late, or never, and new segments. */
MAYBE_UNUSED static void world_fill(struct world *world, size_t n, uint64_t step) {
    for (size_t i = 0; i < n; i++) {
        world_record(world, step);
        if (pick(world, 800) == 0) {
            world_line(world, "checkpoint", world_time(world), SLICE_EMPTY);
            world_segment(world);
        }
        uint64_t back = pick(world, 3) == 0 ? pick(world, world->n) : pick(world, 20);
        if (back >= world->n - world->first)
            continue;
        struct record *intent = &world->records[world->n - 1 - back];
        if (strcmp(intent->event, "intent") == 0 && intent->outcome.ptr == NULL)
            world_outcome(world, intent);
    }
}

/* --- the oracle --- */

static bool is_text(const char *text, struct slice asked) {
    return asked.len == 0 || (text != NULL && slice_eq(slice_from_cstr(text), asked));
}

static bool has_group(const struct record *record, struct slice asked) {
    for (unsigned i = 0; i < ARRAY_LEN(group_names); i++)
        if (slice_eq(slice_from_cstr(group_names[i]), asked) && (record->groups >> i & 1) != 0)
            return true;
    return asked.len == 0;
}

static bool has_address(const struct record *record, struct slice asked) {
    struct network block, address;
    if (asked.len == 0)
        return true;
    return network_parse(asked, &block) &&
           network_parse(slice_from_cstr(record->address), &address) &&
           block.family_bits == address.family_bits && block.bits <= address.bits &&
           network_has(&block, &address);
}

static bool text_is_in(struct slice text, struct slice line) {
    for (size_t i = 0; i + text.len <= line.len; i++)
        if (slice_eq_nocase(slice_sub(line, i, i + text.len), text))
            return true;
    return false;
}

/* As it was asked, or as JSON has it. */
static bool has_text(const struct record *record, struct slice asked) {
    if (slice_eq(asked, SLICE("\"the\"")) && has_text(record, SLICE("\\\"the\\\"")))
        return true;
    return asked.len == 0 || text_is_in(asked, record->line) ||
           (record->outcome.ptr != NULL && text_is_in(asked, record->outcome));
}

static bool is_found(const struct record *record, const struct audit_query *query) {
    return is_text(record->user, query->user) && has_group(record, query->group) &&
           (is_text(record->operation, query->operation) ||
            is_text(record->upstream_operation, query->operation)) &&
           is_text(record->upstream, query->upstream) && is_text(record->status, query->status) &&
           is_text(record->decision, query->decision) && is_text(record->event, query->event) &&
           has_address(record, query->address) && record->time_us >= query->since_us &&
           (query->until_us == 0 || record->time_us < query->until_us) &&
           has_text(record, query->text);
}

/* --- what is found --- */

struct found {
    const struct world *world;
    size_t n, n_wrong;
    size_t *indexes; /* in world.records */
};

static void keep_found(void *context, const struct audit_hit *hit) {
    struct found *found = context;
    struct slice line = hit->line, outcome = hit->outcome;
    size_t low = 0, high = found->world->n;
    uint64_t seq = 0;
    struct slice digits = slice_sub(line, 7, 27);
    if (slice_to_u64(slice_sub(digits, 0, slice_find_byte(digits, ',')), &seq) != 0)
        found->n_wrong++;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (found->world->records[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    const struct record *record = &found->world->records[low];
    if (low == found->world->n || found->n == WORLD_RECORDS || !slice_eq(record->line, line) ||
        (record->outcome.ptr != NULL ? !slice_eq(record->outcome, outcome) : outcome.len != 0)) {
        found->n_wrong++;
        return;
    }
    if (!slice_eq(hit->log, slice_from_cstr(
                                found->world->kind == INDEX_IN_POSTGRES ? found->world->log : "")))
        found->n_wrong++;
    found->indexes[found->n++] = low;
}

/* All pages of a query. False: something was wrong. */
static bool find_all(struct world *world, struct audit_query query, struct found *found) {
    struct buf reason = BUF_INIT(KIB(4));
    struct audit_page page = {.n = 0};
    found->world = world;
    found->n = found->n_wrong = 0;
    do {
        size_t before = found->n;
        if (audit_find(world->finder, &query, keep_found, found, &page, &reason) != 0) {
            printf("# %.*s\n", SLICE_ARGS(buf_slice(&reason)));
            buf_deinit(&reason);
            return false;
        }
        if (page.n != found->n - before + found->n_wrong || page.n > query.limit)
            found->n_wrong++;
        query.cursor = slice_from_cstr(page.next);
    } while (page.next[0] != '\0' && found->n_wrong == 0);
    return found->n_wrong == 0;
}

static int compare_times(const void *a, const void *b, void *context) {
    const struct record *records = context;
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    if (records[x].time_us != records[y].time_us)
        return records[x].time_us < records[y].time_us ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* The i-th record, from the oldest on: in SQLite by number, in PostgreSQL by time. */
static size_t world_index(struct world *world, size_t i) {
    if (world->kind != INDEX_IN_POSTGRES)
        return i;
    if (world->order == NULL)
        world->order = mem_xalloc(WORLD_RECORDS * sizeof *world->order);
    if (world->n_ordered != world->n) {
        for (size_t at = 0; at < world->n; at++)
            world->order[at] = at;
        qsort_r(world->order, world->n, sizeof *world->order, compare_times, world->records);
        world->n_ordered = world->n;
    }
    return world->order[i];
}

/* The records from `first` on are those that the oracle finds. */
static bool is_as_oracle(struct world *world, const struct audit_query *query, size_t first,
                         struct found *found) {
    size_t at = 0;
    if (!find_all(world, *query, found))
        return false;
    for (size_t i = 0; i < world->n; i++) {
        size_t index = world_index(world, query->oldest_first ? i : world->n - 1 - i);
        if (index < first || !is_found(&world->records[index], query))
            continue;
        if (at == found->n || found->indexes[at++] != index)
            return false;
    }
    return at == found->n;
}

static struct slice maybe(struct world *world, uint64_t one_in, const char *const *texts,
                          size_t n) {
    return pick(world, one_in) != 0 ? SLICE_EMPTY : slice_from_cstr(texts[pick(world, n)]);
}

static struct audit_query random_query(struct world *world) {
    static const char *const operations[] = {"op_1", "op_7", "Read_File", "op_39", "op_40"};
    static const char *const addresses[] = {
        "10.0.60.7",    "10.1.0.0/16",  "10.0.0.0/15",       "10.2.120.0/21", "0.0.0.0/0",
        "10.1.60.0/24", "10.1.60.0/27", "2001:db8:1::/48",   "2001:db8::/32", "2001:db8:1:2::3",
        "::/0",         "192.0.2.1",    "2001:db8:0:0::/63", "10.0.0.0/8"};
    static const char *const texts[] = {"OP_1", "Outcome 7", "\"the\"", "alice", "nowhere", "e"};
    static const char *const all_statuses[] = {"ok", "error", "timeout", "lost"};
    static const char *const decisions[] = {"allowed", "denied"};
    static const char *const events[] = {"call", "intent", "start", "edit", "outcome"};
    struct audit_query query = {
        .user = maybe(world, 4, user_texts, ARRAY_LEN(user_texts)),
        .group = maybe(world, 4, group_names, ARRAY_LEN(group_names)),
        .operation = maybe(world, 4, operations, ARRAY_LEN(operations)),
        .upstream = maybe(world, 5, upstreams, ARRAY_LEN(upstreams)),
        .status = maybe(world, 4, all_statuses, ARRAY_LEN(all_statuses)),
        .decision = maybe(world, 4, decisions, ARRAY_LEN(decisions)),
        .event = maybe(world, 5, events, ARRAY_LEN(events)),
        .address = maybe(world, 4, addresses, ARRAY_LEN(addresses)),
        .text = maybe(world, 6, texts, ARRAY_LEN(texts)),
        .oldest_first = pick(world, 2) == 0,
        .limit = 300 + pick(world, 3000),
    };
    if (pick(world, 3) == 0)
        query.since_us = world->records[pick(world, world->n)].time_us;
    if (pick(world, 3) == 0)
        query.until_us = world->records[pick(world, world->n)].time_us;
    return query;
}

static void print_query(const struct audit_query *query) {
    printf("# user %.*s group %.*s operation %.*s upstream %.*s status %.*s decision %.*s event "
           "%.*s address %.*s text %.*s since %llu until %llu oldest %d limit %zu\n",
           SLICE_ARGS(query->user), SLICE_ARGS(query->group), SLICE_ARGS(query->operation),
           SLICE_ARGS(query->upstream), SLICE_ARGS(query->status), SLICE_ARGS(query->decision),
           SLICE_ARGS(query->event), SLICE_ARGS(query->address), SLICE_ARGS(query->text),
           (unsigned long long)query->since_us, (unsigned long long)query->until_us,
           query->oldest_first, query->limit);
}

/* As many random queries are answered as the oracle answers them. */
MAYBE_UNUSED static void check_queries(struct world *world, size_t n, size_t first) {
    struct found found = {.indexes = mem_xalloc(WORLD_RECORDS * sizeof *found.indexes)};
    for (size_t i = 0; i < n; i++) {
        struct audit_query query = random_query(world);
        bool is_same = is_as_oracle(world, &query, first, &found);
        CHECK(is_same);
        if (!is_same)
            print_query(&query);
    }
    mem_free(found.indexes);
}

MAYBE_UNUSED static void update(struct world *world, bool anew) {
    struct buf reason = BUF_INIT(KIB(4));
    const struct audit_index_options options = world_options(world);
    int error = audit_index_update(&options, anew ? AUDIT_INDEX_ANEW : AUDIT_INDEX_GO_ON, NULL,
                                   NULL, &reason);
    CHECK_INT(error, 0);
    if (error != 0)
        printf("# %.*s\n", SLICE_ARGS(buf_slice(&reason)));
    buf_deinit(&reason);
}

/* Until it holds, or time is over. */
#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        uint64_t until_ = clock_monotonic_ms() + WAIT_MS;                                          \
        while (!(condition) && clock_monotonic_ms() < until_)                                      \
            poll(NULL, 0, 2);                                                                      \
        CHECK(condition);                                                                          \
    } while (0)
