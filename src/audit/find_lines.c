/*
 * Lines of the trail by their places, and text in them (find_private.h).
 *
 * Lines that are far from each other are read one by one; where they follow each other, a piece of
 * the file is read at once, in the direction in which they are asked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/limits.h"
#include "find_private.h"
#include "io/file.h"
#include "json/writer.h"

enum {
    WINDOW = KIB(256),
    NEAR = KIB(16), /* that far from the line before: another will follow */
    LINE_MOST = LIMIT_AUDIT_BODY + KIB(8),
};

void find_lines_init(struct find_lines *lines, const char *dir) {
    lines->dir = dir;
    for (size_t i = 0; i < ARRAY_LEN(lines->files); i++)
        lines->files[i] = (struct find_file){.fd = -1, .window = BUF_INIT(WINDOW + LINE_MOST)};
}

void find_lines_deinit(struct find_lines *lines) {
    for (size_t i = 0; i < ARRAY_LEN(lines->files); i++) {
        io_fd_close(&lines->files[i].fd);
        buf_deinit(&lines->files[i].window);
    }
}

/* 1: it is not there. */
MUST_CHECK static int open_file(const char *dir, struct find_file *file, uint64_t segment) {
    char name[AUDIT_SEGMENT_CHARS + 1], path[INDEX_PATH];
    if (file->segment == segment)
        return file->fd >= 0 ? 0 : 1;
    io_fd_close(&file->fd);
    file->segment = segment;
    file->before = UINT64_MAX;
    buf_reset(&file->window, WINDOW);
    audit_segment_name(segment, name);
    int error = index_path(dir, name, path);
    if (error != 0)
        return error;
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    return file->fd >= 0 ? 0 : 1;
}

static bool is_in_window(const struct find_file *file, uint64_t from, uint64_t to) {
    return from >= file->at && to <= file->at + buf_len(&file->window);
}

/* `from` to `to` is in the window then, if it is in the file. */
MUST_CHECK static int read_window(struct find_file *file, uint64_t from, uint64_t to) {
    uint64_t at = from, end = to;
    if (file->before >= to && file->before - to < NEAR) /* going back */
        at = to > WINDOW ? to - WINDOW : 0;
    else if (file->before <= from && from - file->before < NEAR)
        end = from + WINDOW;
    if (at > from)
        at = from;
    if (end < to)
        end = to;
    buf_reset(&file->window, WINDOW);
    char *room = buf_reserve(&file->window, (size_t)(end - at));
    if (room == NULL)
        return buf_error(&file->window);
    ssize_t n = pread(file->fd, room, (size_t)(end - at), (off_t)at);
    if (n < 0)
        return errno == EINTR ? 1 : -errno;
    buf_commit(&file->window, (size_t)n);
    file->at = at;
    return 0;
}

static bool is_line(struct slice line, uint64_t seq) {
    char head[40];
    int n = seq != 0 ? snprintf(head, sizeof head, "{\"seq\":%" PRIu64 ",", seq) : 0;
    return line.len > (size_t)n && line.ptr[line.len - 1] == '\n' &&
           slice_starts_with(line, slice_make(head, (size_t)n));
}

int find_lines_get(struct find_lines *lines, bool is_outcome, const struct find_place *place,
                   uint64_t seq, struct slice *ret_line) {
    struct find_file *file = &lines->files[is_outcome];
    if (place->length >= LINE_MOST || place->offset > INT64_MAX - 2 * WINDOW)
        return 1;
    int status = open_file(lines->dir, file, place->segment);
    uint64_t end = place->offset + place->length + 1;
    if (status == 0 && !is_in_window(file, place->offset, end))
        status = read_window(file, place->offset, end);
    if (status != 0)
        return status;
    file->before = place->offset;
    if (!is_in_window(file, place->offset, end))
        return 1;
    struct slice line = slice_sub(buf_slice(&file->window), (size_t)(place->offset - file->at),
                                  (size_t)(end - file->at));
    if (!is_line(line, seq))
        return 1;
    line.len--;
    *ret_line = line;
    return 0;
}

/* --- text --- */

static unsigned char lower(char byte) {
    unsigned char c = (unsigned char)byte;
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

void find_text_init(struct find_text *text) {
    buf_init(&text->needle, KIB(64));
}

void find_text_deinit(struct find_text *text) {
    buf_deinit(&text->needle);
}

int find_text_set(struct find_text *text, struct slice needle) {
    for (size_t i = 0; i < needle.len; i++)
        buf_append_byte(&text->needle, (char)lower(needle.ptr[i]));
    memset(text->skip, needle.len < 255 ? (int)needle.len : 255, sizeof text->skip);
    for (size_t i = 0; i + 1 < needle.len; i++) {
        size_t rest = needle.len - 1 - i;
        unsigned char c = lower(needle.ptr[i]);
        text->skip[c] = (unsigned char)(rest < 255 ? rest : 255);
        if (c >= 'a' && c <= 'z')
            text->skip[c - 0x20] = text->skip[c];
    }
    return buf_error(&text->needle);
}

bool find_text_is_in(const struct find_text *text, struct slice haystack) {
    struct slice needle = buf_slice(&text->needle);
    if (needle.len == 0)
        return true;
    char last = needle.ptr[needle.len - 1];
    for (size_t at = needle.len - 1; at < haystack.len;) {
        unsigned char c = (unsigned char)haystack.ptr[at];
        if (lower((char)c) == (unsigned char)last) {
            const char *from = haystack.ptr + at + 1 - needle.len;
            size_t i = 0;
            while (i < needle.len && lower(from[i]) == (unsigned char)needle.ptr[i])
                i++;
            if (i == needle.len)
                return true;
        }
        at += text->skip[c];
    }
    return false;
}

/* --- as it was asked for, and as JSON has it --- */

void find_words_init(struct find_words *words) {
    find_text_init(&words->plain);
    find_text_init(&words->escaped);
}

void find_words_deinit(struct find_words *words) {
    find_text_deinit(&words->plain);
    find_text_deinit(&words->escaped);
}

int find_words_set(struct find_words *words, struct slice text) {
    CLEANUP(buf_deinit) struct buf escaped = BUF_INIT(KIB(64));
    int error = find_text_set(&words->plain, text);
    if (error == 0)
        error = json_escape(&escaped, text);
    if (error != 0 || slice_eq(buf_slice(&escaped), text))
        return error;
    return find_text_set(&words->escaped, buf_slice(&escaped));
}

static bool has_words(const struct find_words *words, struct slice line) {
    return find_text_is_in(&words->plain, line) ||
           (buf_len(&words->escaped.needle) != 0 && find_text_is_in(&words->escaped, line));
}

bool find_words_are_in(const struct find_words *words, struct slice line, struct slice outcome) {
    return has_words(words, line) || has_words(words, outcome);
}
