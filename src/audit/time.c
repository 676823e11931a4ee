/* Times as records have them (RFC 3339, UTC, microseconds). */
#include <stdio.h>
#include <time.h>

#include "audit/line.h"

#define MOST_SECONDS INT64_C(253402300799) /* the end of the year 9999 */

void audit_time_write(uint64_t us_since_1970, char text[AUDIT_TIME_CHARS + 1]) {
    struct tm parts;
    time_t seconds = (time_t)(us_since_1970 / 1000000);
    if (seconds > (time_t)MOST_SECONDS)
        seconds = (time_t)MOST_SECONDS;
    gmtime_r(&seconds, &parts);
    snprintf(text, AUDIT_TIME_CHARS + 1, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ",
             (unsigned)(parts.tm_year + 1900) % 10000, (unsigned)(parts.tm_mon + 1) % 100,
             (unsigned)parts.tm_mday % 100, (unsigned)parts.tm_hour % 100,
             (unsigned)parts.tm_min % 100, (unsigned)parts.tm_sec % 100,
             (unsigned)(us_since_1970 % 1000000));
}
