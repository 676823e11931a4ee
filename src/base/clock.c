#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static uint64_t read_ns(clockid_t clock) {
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ms(void) {
    return read_ns(CLOCK_MONOTONIC) / 1000000U;
}

uint64_t clock_boot_ms(void) {
    return read_ns(CLOCK_BOOTTIME) / 1000000U;
}

uint64_t clock_monotonic_ns(void) {
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ms(void) {
    return read_ns(CLOCK_REALTIME) / 1000000U;
}

uint64_t clock_wall_us(void) {
    return read_ns(CLOCK_REALTIME) / 1000U;
}

void clock_format_rfc3339(uint64_t wall_ms, char out[static CLOCK_RFC3339_SIZE]) {
    time_t seconds = (time_t)(wall_ms / 1000U);
    struct tm parts = {0};
    gmtime_r(&seconds, &parts);
    size_t len = strftime(out, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
    if (len != 19) { /* a year past 9999 */
        snprintf(out, CLOCK_RFC3339_SIZE, "invalid");
        return;
    }
    snprintf(out + len, CLOCK_RFC3339_SIZE - len, ".%03uZ", (unsigned)(wall_ms % 1000U));
}
