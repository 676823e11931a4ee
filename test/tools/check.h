/*
 * The frame of the check tools: `check-X FILE...` prints for each file one line, `accept FILE` or
 * `refuse FILE: reason`. The content of a file is the whole document. Exit code 0: all files were
 * read; 1: one could not be; 2: bad usage.
 *
 *     static bool check(struct slice document, struct buf *reason) { ... }
 *     int main(int argc, char **argv) { return check_main(argc, argv, check); }
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slice.h"

#define CHECK_FILE_MAX   MIB(64)
#define CHECK_REASON_MAX KIB(4)

/* True: accepted. False: refused, with the reason appended to `reason`. */
typedef bool check_function(struct slice document, struct buf *reason);

struct check_file {
    char *bytes; /* exactly `len`, so that a sanitizer sees reads behind the end */
    size_t len;
};

/* The stream's content in a block that may be too large. 0 or an errno. */
MUST_CHECK static int check_read_stream(FILE *stream, struct check_file *file) {
    size_t cap = 0;
    for (;;) {
        if (file->len == cap) {
            cap = cap == 0 ? KIB(64) : 2 * cap;
            char *grown = mem_realloc(file->bytes, cap);
            if (grown == NULL)
                return ENOMEM;
            file->bytes = grown;
        }
        size_t n = fread(file->bytes + file->len, 1, cap - file->len, stream);
        if (n == 0)
            return ferror(stream) ? EIO : 0;
        file->len += n;
        if (file->len > CHECK_FILE_MAX)
            return EFBIG;
    }
}

/* 0 or an errno; the caller frees file->bytes in both cases. */
MUST_CHECK static int check_read(const char *path, struct check_file *file) {
    FILE *stream = fopen(path, "rb");
    if (stream == NULL)
        return errno;
    int r = check_read_stream(stream, file);
    (void)fclose(stream);
    if (r != 0)
        return r;
    char *exact = mem_alloc(file->len);
    if (exact == NULL)
        return ENOMEM;
    if (file->len > 0)
        memcpy(exact, file->bytes, file->len);
    mem_free(file->bytes);
    file->bytes = exact;
    return 0;
}

/* One file's line on stdout, or why it could not be read on stderr. */
MUST_CHECK static bool check_one(const char *path, check_function *check) {
    struct check_file file = {.bytes = NULL};
    struct buf reason = BUF_INIT(CHECK_REASON_MAX);
    struct buf line = BUF_INIT(KIB(32));
    int r = check_read(path, &file);
    if (r != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(r));
    } else {
        bool accepted = check(slice_make(file.bytes, file.len), &reason);
        buf_append_cstr(&line, accepted ? "accept " : "refuse ");
        log_escape(&line, slice_from_cstr(path), KIB(4));
        if (!accepted) {
            buf_append_cstr(&line, ": ");
            log_escape(&line, buf_slice(&reason), KIB(4));
        }
        printf("%.*s\n", (int)buf_len(&line), buf_slice(&line).ptr);
    }
    buf_deinit(&line);
    buf_deinit(&reason);
    mem_free(file.bytes);
    return r == 0;
}

/* Files whose name ends with `suffix` go to `special`, the others to `check`. */
MUST_CHECK static int check_main_by_name(int argc, char **argv, const char *suffix,
                                         check_function *special, check_function *check) {
    if (argc < 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s FILE...\n", argc > 0 ? argv[0] : "check");
        return 2;
    }
    bool all_read = true;
    for (int i = 1; i < argc; i++) {
        bool is_special = slice_ends_with(slice_from_cstr(argv[i]), slice_from_cstr(suffix));
        all_read = check_one(argv[i], is_special ? special : check) && all_read;
    }
    return all_read && fflush(stdout) == 0 ? 0 : 1;
}

MAYBE_UNUSED MUST_CHECK static int check_main(int argc, char **argv, check_function *check) {
    return check_main_by_name(argc, argv, "", check, check);
}
