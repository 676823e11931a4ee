/*
 * Requests of strangers, counted by block and reason. A stranger chooses the address (of IPv6 he
 * may have more than there are atoms in a disk) and the number of requests, so neither may make
 * anything grow: a table has LIMIT_AUDIT_ROWS rows, all that do not get one share one, and no count
 * is ever dropped. The table is hashed with a key that nobody outside knows.
 */
#include <stdio.h>

#include "base/mem.h"
#include "base/random.h"
#include "json/writer.h"
#include "trail_private.h"

enum { V4_BLOCK = 24, V6_BLOCK = 48 };

void denied_init(struct denied *denied) {
    *denied = (struct denied){.rows = NULL};
    random_bytes(&denied->key, sizeof denied->key);
}

void denied_deinit(struct denied *denied) {
    mem_free(TAKE(denied->rows));
    denied->n_rows = 0;
}

bool denied_is_empty(const struct denied *denied) {
    return denied->n_rows == 0 && denied->rest.count == 0;
}

static struct network block_of(const struct network *address) {
    struct network block = {.family_bits = address->family_bits};
    block.bits = address->family_bits == NETWORK_V4_BITS ? V4_BLOCK : V6_BLOCK;
    memcpy(block.bytes, address->bytes, block.bits / 8);
    return block;
}

/* Reasons are a few fixed texts; the same text may have two places. */
static bool is_same(const struct denied_row *row, const struct network *block, const char *reason) {
    return row->block.family_bits == block->family_bits &&
           memcmp(row->block.bytes, block->bytes, sizeof block->bytes) == 0 &&
           (row->reason == reason || strcmp(row->reason, reason) == 0);
}

/* Where it stands, or would; NULL: there is no room for it. */
static struct denied_row *find_row(struct denied *denied, const struct network *block,
                                   const char *reason) {
    unsigned char key[1 + sizeof block->bytes];
    if (denied->rows == NULL)
        denied->rows = mem_alloc(DENIED_SLOTS * sizeof *denied->rows);
    if (denied->rows == NULL)
        return NULL;
    key[0] = (unsigned char)block->family_bits;
    memcpy(key + 1, block->bytes, sizeof block->bytes);
    uint64_t hash = hash_siphash(&denied->key, slice_make(key, sizeof key)) ^
                    hash_siphash(&denied->key, slice_from_cstr(reason));
    for (size_t i = 0; i < DENIED_SLOTS; i++) {
        struct denied_row *row = &denied->rows[(hash + i) % DENIED_SLOTS];
        if (row->reason == NULL)
            return denied->n_rows < LIMIT_AUDIT_ROWS ? row : NULL;
        if (is_same(row, block, reason))
            return row;
    }
    return NULL;
}

static void add(struct denied_row *row, uint64_t count, uint64_t first_us) {
    if (row->count == 0 || first_us < row->first_us)
        row->first_us = first_us;
    row->count += count;
}

static void add_row(struct denied *denied, const struct denied_row *what) {
    struct denied_row *row = find_row(denied, &what->block, what->reason);
    if (row == NULL) {
        add(&denied->rest, what->count, what->first_us);
        return;
    }
    if (row->reason == NULL) {
        row->block = what->block;
        row->reason = what->reason;
        denied->n_rows++;
    }
    add(row, what->count, what->first_us);
}

void denied_count(struct denied *denied, const struct network *address, const char *reason,
                  uint64_t now_us) {
    add_row(denied,
            &(struct denied_row){
                .block = block_of(address), .reason = reason, .count = 1, .first_us = now_us});
}

static void clear_rows(struct denied *denied) {
    if (denied->rows != NULL)
        memset(denied->rows, 0, DENIED_SLOTS * sizeof *denied->rows);
    denied->n_rows = 0;
}

void denied_merge(struct denied *to, struct denied *from) {
    for (size_t i = 0; from->rows != NULL && i < DENIED_SLOTS; i++) {
        if (from->rows[i].reason != NULL)
            add_row(to, &from->rows[i]);
    }
    if (from->rest.count != 0)
        add(&to->rest, from->rest.count, from->rest.first_us);
    from->rest = (struct denied_row){.count = 0};
    clear_rows(from);
}

/* --- writing --- */

static void write_from(struct json_writer *writer, const struct network *block) {
    char address[NETWORK_TEXT];
    char text[NETWORK_TEXT + 8];
    struct slice from = network_write_address(block, address);
    snprintf(text, sizeof text, "%.*s/%u", SLICE_ARGS(from), block->bits);
    json_kv_string(writer, SLICE("from"), slice_from_cstr(text));
}

/* A body is an object without its braces. */
static bool write_row(const struct denied_row *row, uint64_t now_us, struct buf *out,
                      bool (*take)(void *context, struct slice body), void *context) {
    char now[AUDIT_TIME_CHARS + 1], first[AUDIT_TIME_CHARS + 1];
    struct json_writer writer;
    audit_time_write(now_us, now);
    audit_time_write(row->first_us, first);
    buf_reset(out, KIB(4));
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("time"), slice_from_cstr(now));
    json_kv_string(&writer, SLICE("event"), SLICE("denied"));
    if (row->reason != NULL) {
        write_from(&writer, &row->block);
        json_kv_string(&writer, SLICE("reason"), slice_from_cstr(row->reason));
    }
    json_kv_u64(&writer, SLICE("count"), row->count);
    json_kv_string(&writer, SLICE("first"), slice_from_cstr(first));
    json_object_end(&writer);
    struct slice object = buf_slice(out);
    return buf_error(out) == 0 && take(context, slice_sub(object, 1, object.len - 1));
}

void denied_write(struct denied *denied, uint64_t now_us,
                  bool (*take)(void *context, struct slice body), void *context) {
    struct buf out = BUF_INIT(KIB(4));
    bool goes_on = true;
    for (size_t i = 0; denied->rows != NULL && i < DENIED_SLOTS; i++) {
        struct denied_row *row = &denied->rows[i];
        if (row->reason == NULL)
            continue;
        goes_on = goes_on && write_row(row, now_us, &out, take, context);
        if (!goes_on) /* the next lines count it without its block */
            add(&denied->rest, row->count, row->first_us);
    }
    clear_rows(denied);
    if (goes_on && denied->rest.count != 0 && write_row(&denied->rest, now_us, &out, take, context))
        denied->rest = (struct denied_row){.count = 0};
    buf_deinit(&out);
}
