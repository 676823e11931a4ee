/* Time. Effects live above; protocol code gets times as arguments. */
#pragma once

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC: for timeouts and ages; never for people. */
uint64_t clock_monotonic_ms(void);
/* The same on a clock that goes on while the machine is suspended (CLOCK_BOOTTIME): for times that
 * people set. */
uint64_t clock_boot_ms(void);
/* Nanoseconds of CLOCK_MONOTONIC: for measuring. */
uint64_t clock_monotonic_ns(void);
/* Milliseconds since 1970 (CLOCK_REALTIME): for people and records; may jump. */
uint64_t clock_wall_ms(void);
/* The same in microseconds. */
uint64_t clock_wall_us(void);
/* "2026-11-21T04:00:00.123Z" (RFC 3339) with a NUL. */
#define CLOCK_RFC3339_SIZE 25
void clock_format_rfc3339(uint64_t wall_ms, char out[static CLOCK_RFC3339_SIZE]);
