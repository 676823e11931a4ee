/*
 * kill -9 at a step: loaded with LD_PRELOAD in front of libc. KILL_SHIM_AT says before which of the
 * process's calls that change files it is to end, from 1; KILL_SHIM_COUNT names a file that gets
 * the number of those calls when it ends by itself.
 */
#include "kill_shim.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_ulong n_steps;

static void tell(void) {
    const char *path = getenv("KILL_SHIM_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    unsigned long n = atomic_load(&n_steps);
    if (file == NULL)
        return;
    (void)fprintf(file, "%lu", n);
    (void)fclose(file);
}

static void step(void) {
    const char *at = getenv("KILL_SHIM_AT");
    unsigned long n = atomic_fetch_add(&n_steps, 1) + 1;
    if (n == 1)
        (void)atexit(tell);
    if (at != NULL && n == strtoul(at, NULL, 10))
        (void)kill(getpid(), SIGKILL);
}

static int returned(long result) {
    return (int)result; /* syscall(2) has set errno */
}

/* All else is built to be hidden. */
#pragma GCC visibility push(default)

ssize_t killed_write(int fd, const void *bytes, size_t n) {
    step();
    return syscall(SYS_write, fd, bytes, n);
}

ssize_t killed_pwrite64(int fd, const void *bytes, size_t n, off_t at) {
    step();
    return syscall(SYS_pwrite64, fd, bytes, n, at);
}

int killed_fsync(int fd) {
    step();
    return returned(syscall(SYS_fsync, fd));
}

int killed_fdatasync(int fd) {
    step();
    return returned(syscall(SYS_fdatasync, fd));
}

int killed_ftruncate64(int fd, off_t size) {
    step();
    return returned(syscall(SYS_ftruncate, fd, size));
}

int killed_rename(const char *from, const char *to) {
    step();
    return returned(syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}

int killed_unlink(const char *path) {
    step();
    return returned(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

#pragma GCC visibility pop
