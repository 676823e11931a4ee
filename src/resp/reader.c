/*
 * Replies. hiredis takes the bytes apart; what it makes of them is ours: one block a value, from
 * our allocator, so that a reply costs what its bytes allow and no more.
 *
 * What hiredis would let grow is bounded here: the bytes of one reply, whole or not (a bulk string
 * of 2 GiB is announced in twelve bytes), and the entries that an array announces, for which it
 * asks for memory before the first of them is there. Depth it bounds itself (seven arrays within
 * each other). It does not look at the two bytes behind a bulk string; nothing here rests on them.
 */
#include <errno.h>
#include <hiredis/read.h>

#include "base/limits.h"
#include "base/mem.h"
#include "resp/resp.h"

struct resp_reply {
    enum resp_type type;
    int64_t integer;
    size_t n; /* bytes of a text, entries of an array; they follow */
};

struct resp_reader {
    redisReader *reader;
    redisReplyObjectFunctions functions;
    uint64_t fed, taken; /* bytes that came; those of the replies that were handed out */
    bool is_refused;     /* by the functions below, which can only say NULL */
    int error;           /* sticky */
};

/* The smallest reply is "+\r\n". */
enum { MAX_ENTRIES = LIMIT_REDIS_REPLY / 3 };

/* --- values --- */

static char *text_of(struct resp_reply *reply) {
    return (char *)(reply + 1);
}

static struct resp_reply **entries_of(struct resp_reply *reply) {
    return (struct resp_reply **)(void *)(reply + 1);
}

static struct resp_reply *reply_new(enum resp_type type, size_t n, size_t size) {
    struct resp_reply *reply = mem_alloc(sizeof *reply + size);
    if (reply == NULL)
        return NULL;
    reply->type = type;
    reply->n = n;
    return reply;
}

/* Seven levels at most. */
struct resp_reply *resp_reply_free(struct resp_reply *reply) {
    if (reply == NULL)
        return NULL;
    for (size_t i = 0; reply->type == RESP_ARRAY && i < reply->n; i++)
        resp_reply_free(entries_of(reply)[i]);
    mem_free(reply);
    return NULL;
}

/* --- what hiredis calls --- */

static void *refuse(const redisReadTask *task) {
    struct resp_reader *reader = task->privdata;
    reader->is_refused = true;
    return NULL;
}

/* Into the array that it is an entry of. */
static void *place(const redisReadTask *task, struct resp_reply *reply) {
    if (reply != NULL && task->parent != NULL)
        entries_of(task->parent->obj)[task->idx] = reply;
    return reply;
}

static void *create_string(const redisReadTask *task, char *text, size_t len) {
    enum resp_type type;
    switch (task->type) {
    case REDIS_REPLY_STRING:
        type = RESP_STRING;
        break;
    case REDIS_REPLY_STATUS:
        type = RESP_STATUS;
        break;
    case REDIS_REPLY_ERROR:
        type = RESP_ERROR;
        break;
    default:
        return refuse(task); /* of RESP3 */
    }
    struct resp_reply *reply = reply_new(type, len, len);
    if (reply != NULL && len != 0)
        memcpy(text_of(reply), text, len);
    return place(task, reply);
}

static void *create_entries(const redisReadTask *task, size_t n) {
    if (task->type != REDIS_REPLY_ARRAY || n > MAX_ENTRIES)
        return refuse(task);
    return place(task, reply_new(RESP_ARRAY, n, n * sizeof(struct resp_reply *)));
}

static void *create_integer(const redisReadTask *task, long long integer) {
    struct resp_reply *reply = reply_new(RESP_INTEGER, 0, 0);
    if (reply != NULL)
        reply->integer = integer;
    return place(task, reply);
}

static void *create_nil(const redisReadTask *task) {
    return place(task, reply_new(RESP_NIL, 0, 0));
}

static void free_object(void *object) {
    resp_reply_free(object);
}

#if HIREDIS_READS_RESP3
static void *create_array(const redisReadTask *task, size_t n) {
    return create_entries(task, n);
}

/* What is of RESP3 alone nobody asked for. */
static void *create_double(const redisReadTask *task, double number, char *text, size_t len) {
    (void)number;
    (void)text;
    (void)len;
    return refuse(task);
}

static void *create_bool(const redisReadTask *task, int value) {
    (void)value;
    return refuse(task);
}
#else
static void *create_array(const redisReadTask *task, int n) {
    return create_entries(task, n > 0 ? (size_t)n : 0);
}
#endif

/* --- the reader --- */

int resp_reader_new(struct resp_reader **ret_reader) {
    struct resp_reader *reader = mem_alloc(sizeof *reader);
    if (reader == NULL)
        return -ENOMEM;
    reader->functions = (redisReplyObjectFunctions) {
        .createString = create_string, .createArray = create_array, .createInteger = create_integer,
        .createNil = create_nil, .freeObject = free_object,
#if HIREDIS_READS_RESP3
        .createDouble = create_double, .createBool = create_bool,
#endif
    };
    reader->reader = redisReaderCreateWithFunctions(&reader->functions);
    if (reader->reader == NULL) {
        mem_free(reader);
        return -ENOMEM;
    }
    reader->reader->privdata = reader;
    *ret_reader = reader;
    return 0;
}

struct resp_reader *resp_reader_free(struct resp_reader *reader) {
    if (reader != NULL)
        redisReaderFree(reader->reader);
    mem_free(reader);
    return NULL;
}

static int fail(struct resp_reader *reader) {
    bool is_memory = reader->reader->err == REDIS_ERR_OOM && !reader->is_refused;
    reader->error = is_memory ? -ENOMEM : -EPROTO;
    return reader->error;
}

int resp_feed(struct resp_reader *reader, struct slice bytes) {
    if (reader->error != 0)
        return reader->error;
    if (bytes.len == 0)
        return 0;
    if (redisReaderFeed(reader->reader, bytes.ptr, bytes.len) != REDIS_OK)
        return fail(reader);
    reader->fed += bytes.len;
    return 0;
}

int resp_next(struct resp_reader *reader, struct resp_reply **ret_reply) {
    void *reply = NULL;
    if (reader->error != 0)
        return reader->error;
    if (redisReaderGetReply(reader->reader, &reply) != REDIS_OK)
        return fail(reader);
    /* Without a whole reply all that came since the last one is a part of the next. */
    uint64_t end = reader->fed;
    if (reply != NULL)
        end -= reader->reader->len - reader->reader->pos;
    if (end - reader->taken > LIMIT_REDIS_REPLY) {
        resp_reply_free(reply);
        reader->error = -EPROTO;
        return -EPROTO;
    }
    if (reply != NULL)
        reader->taken = end;
    *ret_reply = reply;
    return 0;
}

/* --- looking at a reply --- */

enum resp_type resp_type(const struct resp_reply *reply) {
    return reply->type;
}

struct slice resp_text(const struct resp_reply *reply) {
    bool is_text =
        reply->type == RESP_STRING || reply->type == RESP_STATUS || reply->type == RESP_ERROR;
    return is_text ? slice_make(reply + 1, reply->n) : SLICE_EMPTY;
}

int64_t resp_integer(const struct resp_reply *reply) {
    return reply->integer;
}

size_t resp_count(const struct resp_reply *reply) {
    return reply->type == RESP_ARRAY ? reply->n : 0;
}

const struct resp_reply *resp_at(const struct resp_reply *reply, size_t index) {
    return ((const struct resp_reply *const *)(const void *)(reply + 1))[index];
}
