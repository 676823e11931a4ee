/* The functions of libc that the shim stands in front of, under names of its own. */
#pragma once

#include <sys/time.h>
#include <time.h>

#include "base/compiler.h"

int shifted_clock_gettime(clockid_t clock, struct timespec *ret) LINKED_AS("clock_gettime");
time_t shifted_time(time_t *ret) LINKED_AS("time");
int shifted_gettimeofday(struct timeval *restrict ret, void *restrict zone)
    LINKED_AS("gettimeofday");
