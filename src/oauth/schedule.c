/*
 * When to fetch. A successful answer is fetched again before it expires, a failure after a pause
 * that doubles, and somebody who presents an unknown key can bring the next fetch forward, but only
 * once in a while: whoever makes up key ids must not make us flood the issuer.
 *
 * What Cache-Control asks for is bounded on both sides: no server makes us come every second, and
 * none keeps us from noticing for more than a day that it has withdrawn a key.
 */
#include "base/limits.h"
#include "private.h"

enum {
    SECOND = 1000,
    MINUTE = 60 * SECOND,
    HOUR = 60 * MINUTE,
    DAY = 24 * HOUR,
    MIN_LIFETIME = MINUTE,
    DEFAULT_LIFETIME = HOUR,
    MAX_LIFETIME = DAY,
    FIRST_PAUSE = SECOND,
    LONGEST_PAUSE = 5 * MINUTE,
};

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* --- what an answer says --- */

/* RFC 9111 section 1.2.2: a value that is too large stands for the largest; both forms of an
 * argument are read (section 5.2). False: it is no number, which makes the answer stale (section
 * 4.2.1). */
static bool read_seconds(struct slice text, uint64_t *ret_seconds) {
    if (text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"')
        text = slice_sub(text, 1, text.len - 1);
    if (text.len == 0)
        return false;
    uint64_t seconds = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        if (seconds <= DAY)
            seconds = seconds * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret_seconds = seconds;
    return true;
}

struct freshness {
    bool is_told;
    uint64_t seconds; /* the least of all that is said */
};

static void tell(struct freshness *freshness, uint64_t seconds) {
    if (!freshness->is_told || seconds < freshness->seconds)
        freshness->seconds = seconds;
    freshness->is_told = true;
}

static void read_directive(struct slice directive, struct freshness *freshness) {
    struct slice name, argument;
    uint64_t seconds = 0;
    bool has_argument = slice_cut(slice_trim(directive), '=', &name, &argument);
    if (slice_eq_nocase(name, SLICE("no-store")) || slice_eq_nocase(name, SLICE("no-cache")))
        tell(freshness, 0);
    else if (slice_eq_nocase(name, SLICE("max-age")))
        tell(freshness, has_argument && read_seconds(argument, &seconds) ? seconds : 0);
}

/* A comma inside of a quoted argument only makes pieces that are no directives. */
static void read_cache_control(struct slice value, struct freshness *freshness) {
    while (value.len != 0) {
        struct slice directive;
        slice_cut(value, ',', &directive, &value);
        read_directive(directive, freshness);
    }
}

uint64_t oauth_lifetime(const struct http_head *head) {
    struct freshness freshness = {.is_told = false};
    for (size_t i = 0; i < head->n_fields; i++) {
        if (slice_eq_nocase(head->fields[i].name, SLICE("Cache-Control")))
            read_cache_control(head->fields[i].value, &freshness);
    }
    if (!freshness.is_told)
        return DEFAULT_LIFETIME;
    uint64_t age = 0;
    if (!read_seconds(http_head_get(head, SLICE("Age")), &age))
        age = 0;
    uint64_t left = freshness.seconds > age ? freshness.seconds - age : 0;
    if (left < MIN_LIFETIME / SECOND)
        return MIN_LIFETIME;
    return left < MAX_LIFETIME / SECOND ? left * SECOND : MAX_LIFETIME;
}

/* --- the next fetch --- */

/* A tenth at most is taken off. */
static uint64_t with_jitter(uint64_t pause_ms, uint64_t random) {
    return pause_ms - random % (pause_ms / 10 + 1);
}

void oauth_schedule_succeeded(struct oauth_schedule *schedule, uint64_t now_ms,
                              uint64_t lifetime_ms, uint64_t random) {
    /* Eight tenths of the time are gone when it is fetched again: there is room for a failure. A
     * poll_interval is no end of anything, and only may not outlast the keys. */
    uint64_t pause = lifetime_ms / 10 * 8;
    if (schedule->poll_interval_ms != 0)
        pause = min_u64(schedule->poll_interval_ms, MAX_LIFETIME / 10 * 8);
    schedule->is_running = false;
    schedule->n_failures = 0;
    schedule->is_confirmed = true;
    schedule->confirmed_ms = now_ms;
    schedule->next_ms = now_ms + with_jitter(pause, random);
}

static void pause_after_failure(struct oauth_schedule *schedule, uint64_t now_ms, uint64_t random) {
    enum { DOUBLINGS = 9 }; /* beyond the longest */
    unsigned n = schedule->n_failures < DOUBLINGS ? schedule->n_failures : DOUBLINGS;
    uint64_t pause = min_u64((uint64_t)FIRST_PAUSE << n, LONGEST_PAUSE);
    if (schedule->n_failures < DOUBLINGS)
        schedule->n_failures++;
    schedule->is_running = false;
    schedule->next_ms = now_ms + with_jitter(pause, random);
}

void oauth_schedule_emptied(struct oauth_schedule *schedule, uint64_t now_ms, uint64_t random) {
    schedule->is_confirmed = true;
    schedule->confirmed_ms = now_ms;
    pause_after_failure(schedule, now_ms, random);
}

void oauth_schedule_failed(struct oauth_schedule *schedule, uint64_t now_ms, uint64_t random) {
    pause_after_failure(schedule, now_ms, random);
}

bool oauth_schedule_is_due(const struct oauth_schedule *schedule, uint64_t now_ms) {
    return !schedule->is_running && now_ms >= schedule->next_ms;
}

bool oauth_schedule_is_stale(const struct oauth_schedule *schedule, uint64_t now_ms) {
    return schedule->is_confirmed && now_ms >= schedule->confirmed_ms &&
           now_ms - schedule->confirmed_ms >= LIMIT_JWKS_STALE_MS;
}

enum oauth_ask oauth_schedule_ask(struct oauth_schedule *schedule, uint64_t now_ms) {
    if (schedule->is_running)
        return OAUTH_ASK_JOIN;
    if (!schedule->was_asked || now_ms - schedule->asked_ms >= LIMIT_JWKS_PAUSE_MS) {
        schedule->was_asked = true;
        schedule->asked_ms = now_ms;
        schedule->is_running = true;
        return OAUTH_ASK_START;
    }
    /* An issuer that has not answered yet is tried again in a moment anyhow. */
    if (!schedule->is_confirmed && schedule->next_ms <= now_ms + LIMIT_JWKS_WAIT_MS)
        return OAUTH_ASK_JOIN;
    return OAUTH_ASK_REFUSED;
}
