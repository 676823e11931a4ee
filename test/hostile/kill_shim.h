/* The functions of libc that the shim stands in front of, under names of its own. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/compiler.h"

ssize_t killed_write(int fd, const void *bytes, size_t n) LINKED_AS("write");
ssize_t killed_pwrite64(int fd, const void *bytes, size_t n, off_t at) LINKED_AS("pwrite64");
int killed_fsync(int fd) LINKED_AS("fsync");
int killed_fdatasync(int fd) LINKED_AS("fdatasync");
int killed_ftruncate64(int fd, off_t size) LINKED_AS("ftruncate64");
int killed_rename(const char *from, const char *to) LINKED_AS("rename");
int killed_unlink(const char *path) LINKED_AS("unlink");
