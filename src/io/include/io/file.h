/* Small files at the border: configuration, token, lock. Blocking: for start-up and the command
 * line only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

/* Closes and sets to -1; accepts -1. */
void io_fd_close(int *fd);

/* Appends the whole file; -EFBIG when it is longer than the buffer may grow. */
MUST_CHECK int io_file_read(const char *path, struct buf *out);
/*
 * The same of a regular file and nothing else, for secrets: no copy is left behind, if the buffer
 * has room for all that it may hold. *ret_info (may be NULL): of the file that was read. -EINVAL:
 * it is no regular file; a pipe would be waited for, a device have no end.
 */
struct stat;
MUST_CHECK int io_file_read_regular(const char *path, struct buf *out, struct stat *ret_info);
/* Creates a new file with mode 0600 and writes it whole; -EEXIST when there is one. Durable when it
 * returns 0. */
MUST_CHECK int io_file_create_private(const char *path, struct slice content);
/*
 * Puts `content` in the place of what a file holds, which is `old`: whole or not at all, whenever
 * the power fails. It is written beside the file, which keeps its mode and owner, and then renamed;
 * of a symbolic link the file behind it is. -ESTALE: it holds something else by now; -EMLINK: it
 * has other names, which would keep the old content; -EINVAL: it is no regular file.
 */
MUST_CHECK int io_file_replace(const char *path, struct slice old, struct slice content);
/* Puts a file of mode 0600 in the place of what PATH names, if anything, whose owner it keeps:
 * written as PATH.new, synced, read back, renamed. Those who do that at the same time take turns
 * (io_lock_file_wait). */
MUST_CHECK int io_file_put_private(const char *path, struct slice content);
/* Makes a directory and its missing parents with mode 0700. */
MUST_CHECK int io_directory_make(const char *path);
/*
 * Opens and locks `path`; -EWOULDBLOCK when another process holds it. The lock is held until the
 * descriptor is closed, so also when the process dies.
 */
MUST_CHECK int io_lock_file(const char *path, int *ret_fd);
/* The same, but waits for its turn: for what is held for a moment only. */
MUST_CHECK int io_lock_file_wait(const char *path, int *ret_fd);
/* As much as can be written without waiting for a reader; for what is good to know, but not worth
 * standing still for. */
void io_write_softly(int fd, struct slice text);
/* pipe2(2) with O_CLOEXEC. */
MUST_CHECK int io_pipe(int *ret_read_fd, int *ret_write_fd);
/* Opens for appending, mode 0600, no symbolic link at the end of the path. */
MUST_CHECK int io_file_open_append(const char *path, int *ret_fd);
int io_null_open(int *ret_fd);
