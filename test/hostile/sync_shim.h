/* The functions of libc that the shim stands in front of, under names of its own. */
#pragma once

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/compiler.h"

int synced_open(const char *path, int flags, mode_t mode) LINKED_AS("open");
int synced_open64(const char *path, int flags, mode_t mode) LINKED_AS("open64");
int synced_open_2(const char *path, int flags) LINKED_AS("__open_2");
int synced_open64_2(const char *path, int flags) LINKED_AS("__open64_2");
int synced_openat(int dir, const char *path, int flags, mode_t mode) LINKED_AS("openat");
int synced_openat64(int dir, const char *path, int flags, mode_t mode) LINKED_AS("openat64");
int synced_openat_2(int dir, const char *path, int flags) LINKED_AS("__openat_2");
int synced_openat64_2(int dir, const char *path, int flags) LINKED_AS("__openat64_2");
int synced_close(int fd) LINKED_AS("close");

ssize_t synced_write(int fd, const void *bytes, size_t n) LINKED_AS("write");
ssize_t synced_writev(int fd, const struct iovec *pieces, int n) LINKED_AS("writev");
ssize_t synced_pwrite(int fd, const void *bytes, size_t n, off_t at) LINKED_AS("pwrite");
ssize_t synced_pwrite64(int fd, const void *bytes, size_t n, off_t at) LINKED_AS("pwrite64");
ssize_t synced_send(int fd, const void *bytes, size_t n, int flags) LINKED_AS("send");
ssize_t synced_sendmsg(int fd, const struct msghdr *message, int flags) LINKED_AS("sendmsg");
int synced_connect(int fd, const struct sockaddr *to, socklen_t size) LINKED_AS("connect");
int synced_accept(int fd, struct sockaddr *from, socklen_t *size) LINKED_AS("accept");
int synced_accept4(int fd, struct sockaddr *from, socklen_t *size, int flags) LINKED_AS("accept4");

int synced_fsync(int fd) LINKED_AS("fsync");
int synced_fdatasync(int fd) LINKED_AS("fdatasync");
int synced_ftruncate(int fd, off_t size) LINKED_AS("ftruncate");
int synced_ftruncate64(int fd, off_t size) LINKED_AS("ftruncate64");
int synced_fallocate(int fd, int mode, off_t at, off_t n) LINKED_AS("fallocate");
int synced_fallocate64(int fd, int mode, off_t at, off_t n) LINKED_AS("fallocate64");
int synced_posix_fallocate(int fd, off_t at, off_t n) LINKED_AS("posix_fallocate");
int synced_posix_fallocate64(int fd, off_t at, off_t n) LINKED_AS("posix_fallocate64");
int synced_unlink(const char *path) LINKED_AS("unlink");
int synced_unlinkat(int dir, const char *path, int flags) LINKED_AS("unlinkat");
int synced_rename(const char *from, const char *to) LINKED_AS("rename");
int synced_renameat(int from_dir, const char *from, int to_dir, const char *to)
    LINKED_AS("renameat");
