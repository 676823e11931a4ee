/*
 * Definitions of tools as they were seen first: what an annotation says counts for these alone, so
 * that a server cannot unlock a tool later (security.trust_annotations). Of each tool of each
 * server the SHA-256 of its definition is kept, in memory and, a line each, in the file
 * `definitions` of the data directory:
 *
 *     SHA-256 in hex, " r " or " w " (readOnlyHint was true, or not), server, " ", tool
 *
 * with blanks, '%' and control characters in names percent-encoded. The first line of a tool
 * counts. Nothing is ever taken out: whoever accepts a new definition says so in the configuration
 * (`access`).
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/stream.h"
#include "private.h"

/* Of a catalog item, once it was looked at. */
enum { SEEN_NOT_LOOKED_AT, SEEN_IS_READ, SEEN_IS_WRITE };
enum { DIGEST_BYTES = 32 };
#define FILE_BYTES MIB(64)

struct definition {
    unsigned char digest[DIGEST_BYTES];
    bool says_read_only;
};

void gw_definitions_init(struct gw_definitions *definitions) {
    pthread_mutex_init(&definitions->mutex, NULL);
    map_init(&definitions->by_name);
    map_init(&definitions->counts);
    definitions->fd = -1;
}

void gw_definitions_deinit(struct gw_definitions *definitions) {
    size_t cursor = 0;
    void *value = NULL;
    while (map_next(&definitions->by_name, &cursor, NULL, &value))
        mem_free(value);
    cursor = 0;
    while (map_next(&definitions->counts, &cursor, NULL, &value))
        mem_free(value);
    map_deinit(&definitions->by_name);
    map_deinit(&definitions->counts);
    io_fd_close(&definitions->fd);
    pthread_mutex_destroy(&definitions->mutex);
}

/* Lines. */

static void append_name(struct buf *out, struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        unsigned char byte = (unsigned char)name.ptr[i];
        if (byte <= ' ' || byte == '%' || byte == 0x7f)
            buf_printf(out, "%%%02x", byte);
        else
            buf_append_byte(out, (char)byte);
    }
}

static int write_key(struct buf *out, struct slice server, struct slice tool) {
    append_name(out, server);
    buf_append_byte(out, ' ');
    append_name(out, tool);
    return buf_error(out);
}

static int write_line(struct buf *out, const struct definition *definition, struct slice key) {
    for (size_t i = 0; i < DIGEST_BYTES; i++)
        buf_printf(out, "%02x", definition->digest[i]);
    buf_printf(out, " %c ", definition->says_read_only ? 'r' : 'w');
    buf_append(out, key);
    return buf_append_byte(out, '\n');
}

static int hex_value(char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool read_line(struct slice line, struct definition *definition, struct slice *ret_key) {
    if (line.len < 2 * DIGEST_BYTES + 4)
        return false;
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        int high = hex_value(line.ptr[2 * i]), low = hex_value(line.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        definition->digest[i] = (unsigned char)(high << 4 | low);
    }
    struct slice rest = slice_from(line, 2 * DIGEST_BYTES);
    definition->says_read_only = slice_starts_with(rest, SLICE(" r "));
    *ret_key = slice_from(rest, 3);
    return definition->says_read_only || slice_starts_with(rest, SLICE(" w "));
}

/* Registry, under its mutex. */

/* The server may have one more. */
static bool count_one(struct gw_definitions *definitions, struct slice server) {
    size_t *count = map_get(&definitions->counts, server);
    if (count == NULL) {
        count = mem_alloc(sizeof *count);
        if (count == NULL || map_set(&definitions->counts, server, count) != 0) {
            mem_free(count);
            return false;
        }
    }
    return (*count)++ < LIMIT_DEFINITIONS;
}

static const struct definition *add(struct gw_definitions *definitions, struct slice key,
                                    const struct definition *definition) {
    struct slice server, tool;
    if (!slice_cut(key, ' ', &server, &tool) || !count_one(definitions, server))
        return NULL;
    struct definition *copy = mem_alloc(sizeof *copy);
    if (copy == NULL)
        return NULL;
    *copy = *definition;
    if (map_set(&definitions->by_name, key, copy) != 0) {
        mem_free(copy);
        return NULL;
    }
    return copy;
}

/* What is not remembered is not written either: a server that gives its tools other names all the
 * time would fill the disk. */
static bool has_room(const struct gw_definitions *definitions, struct slice key) {
    struct slice server, tool;
    (void)slice_cut(key, ' ', &server, &tool);
    const size_t *count = map_get(&definitions->counts, server);
    return count == NULL || *count < LIMIT_DEFINITIONS;
}

/* False: it cannot be kept, and so nothing can be said of it after a restart. */
static bool append_to_file(const struct gw_definitions *definitions, struct slice line) {
    struct stat info;
    if (definitions->fd < 0)
        return true;
    ssize_t n = write(definitions->fd, line.ptr, line.len);
    if (n == (ssize_t)line.len)
        return true;
    /* The disk is full. With half a line before it the next one would be lost, too. */
    if (n > 0 && fstat(definitions->fd, &info) == 0)
        (void)!ftruncate(definitions->fd, info.st_size - n);
    return false;
}

static void load(struct gw_definitions *definitions, struct slice text) {
    struct slice line, key;
    struct definition definition;
    while (slice_cut(text, '\n', &line, &text)) {
        if (read_line(line, &definition, &key) && !map_has(&definitions->by_name, key))
            (void)add(definitions, key, &definition);
    }
}

static int open_file(struct gw_definitions *definitions, const char *path) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(FILE_BYTES);
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    ssize_t n = 1;
    while (n > 0 && buf_error(&text) == 0) {
        char chunk[KIB(16)];
        n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            buf_append(&text, slice_make(chunk, (size_t)n));
    }
    if (n < 0 || buf_error(&text) != 0) {
        int error = n < 0 ? -errno : buf_error(&text);
        io_fd_close(&fd);
        return error;
    }
    load(definitions, buf_slice(&text));
    /* A line that a crash left without its end is one of its own. */
    struct slice whole = buf_slice(&text);
    if (whole.len != 0 && whole.ptr[whole.len - 1] != '\n' && write(fd, "\n", 1) != 1) {
        io_fd_close(&fd);
        return -EIO;
    }
    definitions->fd = fd;
    return 0;
}

int gw_definitions_open(struct gw_definitions *definitions, const char *path) {
    int error = open_file(definitions, path);
    definitions->is_broken = error != 0;
    return error;
}

/* Looking. */

static bool has_hint(struct json_reader *reader, struct slice json) {
    static const struct json_want nothing[] = {{0}};
    static const struct json_want want[] = {{"annotations", nothing}, {0}};
    if (json_read(reader, json, &(struct json_want){.children = want}, NULL, NULL) != 0)
        return false;
    const struct json_node *annotations =
        json_member_typed(reader, json_root(reader), SLICE("annotations"), JSON_OBJECT);
    const struct json_node *hint =
        annotations != NULL ? json_member(reader, annotations, SLICE("readOnlyHint")) : NULL;
    return hint != NULL && hint->type == JSON_TRUE;
}

/* Whether this definition is the one that was seen first, and says that the tool only reads. */
static bool judge(struct gw_worker *worker, struct slice server, const struct catalog_item *item) {
    struct gw_definitions *definitions = &worker->gateway->definitions;
    struct definition now = {.says_read_only = has_hint(worker->second_reader, item->json)};
    struct buf key CLEANUP(buf_deinit) = BUF_INIT(KIB(64)),
                   line CLEANUP(buf_deinit) = BUF_INIT(KIB(128));
    unsigned len = DIGEST_BYTES;
    if (EVP_Digest(item->json.ptr, item->json.len, now.digest, &len, EVP_sha256(), NULL) != 1 ||
        write_key(&key, server, item->key) != 0 || write_line(&line, &now, buf_slice(&key)) != 0)
        return false;
    pthread_mutex_lock(&definitions->mutex);
    const struct definition *first =
        definitions->is_broken ? NULL : map_get(&definitions->by_name, buf_slice(&key));
    bool is_new = first == NULL && !definitions->is_broken;
    if (is_new && has_room(definitions, buf_slice(&key)) &&
        append_to_file(definitions, buf_slice(&line)))
        first = add(definitions, buf_slice(&key), &now);
    bool is_read = first != NULL && first->says_read_only &&
                   memcmp(first->digest, now.digest, DIGEST_BYTES) == 0;
    bool was_read = first != NULL && first->says_read_only;
    pthread_mutex_unlock(&definitions->mutex);
    if (first == NULL || (was_read && !is_read))
        log_write(worker->gateway->log, LOG_WARN, "policy",
                  first == NULL ? "the definition of a tool cannot be remembered: it is a write"
                                : "a tool has another definition than when it was seen first: it "
                                  "is a write until its access is configured",
                  LOG_TEXT("server", server), LOG_TEXT("tool", item->key));
    return is_read;
}

bool gw_definition_says_read_only(struct gw_worker *worker, struct slice server,
                                  struct catalog_list *list, const struct catalog_item *item) {
    atomic_uchar *seen = &list->items[item - list->items].seen;
    unsigned char known = atomic_load_explicit(seen, memory_order_relaxed);
    if (known == SEEN_NOT_LOOKED_AT) {
        known = judge(worker, server, item) ? SEEN_IS_READ : SEEN_IS_WRITE;
        atomic_store_explicit(seen, known, memory_order_relaxed);
    }
    return known == SEEN_IS_READ;
}
