/*
 * Clocks that jump, for one process: loaded with LD_PRELOAD in front of libc. How far is said by
 * two numbers of 64 bits in the file that CLOCK_SHIM names, in nanoseconds: what is added to the
 * time of day, and what is added to the monotonic clocks. A test changes them while the process
 * runs. The machine's clocks are not touched.
 */
#include "clock_shim.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WALL, MONOTONIC, N_OFFSETS };

static const volatile int64_t *offsets;
static bool is_opened;

/* Threads that do it at the same time do it alike. */
static void open_offsets(void) {
    if (is_opened)
        return;
    const char *path = getenv("CLOCK_SHIM");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, N_OFFSETS * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0)
                        : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    if (map != MAP_FAILED)
        offsets = map;
    is_opened = true;
}

static int64_t offset_of(clockid_t clock) {
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        return offsets[WALL];
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_BOOTTIME:
        return offsets[MONOTONIC];
    default:
        return 0;
    }
}

/* All else is built to be hidden. */
#pragma GCC visibility push(default)

int shifted_clock_gettime(clockid_t clock, struct timespec *ret) {
    open_offsets();
    int result = (int)syscall(SYS_clock_gettime, clock, ret);
    if (result != 0 || offsets == NULL)
        return result;
    int64_t ns = (int64_t)ret->tv_sec * 1000000000 + ret->tv_nsec + offset_of(clock);
    ret->tv_sec = ns / 1000000000;
    ret->tv_nsec = ns % 1000000000;
    return 0;
}

time_t shifted_time(time_t *ret) {
    struct timespec now = {0};
    (void)shifted_clock_gettime(CLOCK_REALTIME, &now);
    if (ret != NULL)
        *ret = now.tv_sec;
    return now.tv_sec;
}

int shifted_gettimeofday(struct timeval *restrict ret, void *restrict zone) {
    struct timespec now = {0};
    (void)zone;
    (void)shifted_clock_gettime(CLOCK_REALTIME, &now);
    ret->tv_sec = now.tv_sec;
    ret->tv_usec = now.tv_nsec / 1000;
    return 0;
}

#pragma GCC visibility pop
