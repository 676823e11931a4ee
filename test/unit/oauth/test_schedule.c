/* When to fetch: what answers say of their age, pauses, askers, the end of what nobody confirms. */
#include "base/limits.h"
#include "base/random.h"
#include "private.h"
#include "test.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
#define DAY ((uint64_t)24 * HOUR)

/* --- Cache-Control --- */

static uint64_t lifetime_of(const char *const *fields) {
    struct http_field list[4];
    struct http_head head = {.fields = list};
    for (; fields[head.n_fields] != NULL; head.n_fields++) {
        struct slice name, value;
        slice_cut(slice_from_cstr(fields[head.n_fields]), ':', &name, &value);
        list[head.n_fields] = (struct http_field){name, slice_trim(value)};
    }
    return oauth_lifetime(&head);
}

static void test_lifetime(void) {
    static const struct {
        const char *fields[4];
        uint64_t expect;
    } rows[] = {
        {{NULL}, HOUR},
        {{"Cache-Control:"}, HOUR},
        {{"Cache-Control: public"}, HOUR},
        {{"Age: 100"}, HOUR},
        {{"Expires: 0"}, HOUR},
        {{"Cache-Control: max-age=600"}, 600 * SECOND},
        {{"cache-control: Max-Age=600"}, 600 * SECOND},
        {{"Cache-Control: max-age=\"600\""}, 600 * SECOND},
        {{"Cache-Control: public,max-age=600 ,must-revalidate"}, 600 * SECOND},
        {{"Cache-Control: public, s-maxage=5, max-age=600"}, 600 * SECOND},
        {{"Cache-Control: xmax-age=5, max-age=600"}, 600 * SECOND},
        {{"Cache-Control: x=\"max-age=90\", max-age=600"}, 600 * SECOND},
        {{"Cache-Control: max-age=600", "Age: 100"}, 500 * SECOND},
        {{"Cache-Control: max-age=600", "Age: x"}, 600 * SECOND},
        {{"Cache-Control: max-age=600", "Age: 600"}, MINUTE},
        {{"Cache-Control: max-age=600", "Age: 99999999999999999999999"}, MINUTE},
        /* the least of what is said, wherever */
        {{"Cache-Control: max-age=600, max-age=300"}, 300 * SECOND},
        {{"Cache-Control: max-age=600", "Cache-Control: max-age=300"}, 300 * SECOND},
        {{"Cache-Control: max-age=600", "Cache-Control: no-store"}, MINUTE},
        /* bounds */
        {{"Cache-Control: max-age=0"}, MINUTE},
        {{"Cache-Control: max-age=59"}, MINUTE},
        {{"Cache-Control: max-age=60"}, MINUTE},
        {{"Cache-Control: max-age=61"}, 61 * SECOND},
        {{"Cache-Control: no-cache"}, MINUTE},
        {{"Cache-Control: max-age=86399"}, 86399 * SECOND},
        {{"Cache-Control: max-age=86400"}, DAY},
        {{"Cache-Control: max-age=86401"}, DAY},
        {{"Cache-Control: max-age=4294967297"}, DAY},
        {{"Cache-Control: max-age=18446744073709551617"}, DAY},
        {{"Cache-Control: max-age=99999999999999999999999999999999999999"}, DAY},
        /* what is no number makes it stale: it is never taken for "nothing is said" */
        {{"Cache-Control: max-age"}, MINUTE},
        {{"Cache-Control: max-age="}, MINUTE},
        {{"Cache-Control: max-age=-1"}, MINUTE},
        {{"Cache-Control: max-age=+600"}, MINUTE},
        {{"Cache-Control: max-age=600s"}, MINUTE},
        {{"Cache-Control: max-age= 600"}, MINUTE},
        {{"Cache-Control: max-age=0x600"}, MINUTE},
        {{"Cache-Control: max-age=\"\""}, MINUTE},
        {{"Cache-Control: max-age=\""}, MINUTE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].fields[0] != NULL ? rows[i].fields[0] : "nothing");
        CHECK_INT(lifetime_of(rows[i].fields), rows[i].expect);
    }
}

/* --- after an answer --- */

static void test_refresh(void) {
    static const struct {
        const char *name;
        uint64_t poll_interval, lifetime, latest;
    } rows[] = {
        {"an hour", 0, HOUR, 48 * MINUTE},
        {"a minute", 0, MINUTE, 48 * SECOND},
        {"a day", 0, DAY, DAY / 10 * 8},
        {"polled", 5 * MINUTE, HOUR, 5 * MINUTE},
        {"polled each second", SECOND, DAY, SECOND},
        {"polled less often than keys live", 30 * DAY, HOUR, DAY / 10 * 8},
        {"polled never", UINT64_MAX, HOUR, DAY / 10 * 8},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t least = UINT64_MAX, most = 0;
        test_row(rows[i].name);
        for (int n = 0; n < 1000; n++) {
            struct oauth_schedule schedule = {
                .poll_interval_ms = rows[i].poll_interval, .is_running = true, .n_failures = 3};
            oauth_schedule_succeeded(&schedule, 7, rows[i].lifetime, random_u64());
            uint64_t pause = schedule.next_ms - 7;
            least = pause < least ? pause : least;
            most = pause > most ? pause : most;
            CHECK(!schedule.is_running);
            CHECK(schedule.is_confirmed);
            CHECK_INT(schedule.confirmed_ms, 7);
            CHECK_INT(schedule.n_failures, 0);
        }
        CHECK(most <= rows[i].latest);
        CHECK(least >= rows[i].latest / 10 * 9);
        CHECK(least < most); /* they do spread */
    }
}

static void test_is_due(void) {
    struct oauth_schedule schedule = {.next_ms = 100};
    CHECK(!oauth_schedule_is_due(&schedule, 99));
    CHECK(oauth_schedule_is_due(&schedule, 100));
    schedule.is_running = true;
    CHECK(!oauth_schedule_is_due(&schedule, 100));
}

/* --- after a failure --- */

static void test_pauses_double(void) {
    static const uint64_t expect[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300};
    struct oauth_schedule schedule = {.is_running = true};
    uint64_t now = 0;
    for (size_t i = 0; i < ARRAY_LEN(expect); i++) {
        schedule.is_running = true;
        oauth_schedule_failed(&schedule, now, 0);
        CHECK(!schedule.is_running);
        CHECK(!schedule.is_confirmed);
        CHECK_INT(schedule.next_ms - now, expect[i] * SECOND);
        now = schedule.next_ms;
    }
    for (int i = 0; i < 1000; i++) {
        oauth_schedule_failed(&schedule, now, random_u64());
        CHECK(schedule.next_ms - now >= 270 * SECOND && schedule.next_ms - now <= 300 * SECOND);
    }
    oauth_schedule_succeeded(&schedule, now, HOUR, 0);
    oauth_schedule_failed(&schedule, now, 0);
    CHECK_INT(schedule.next_ms - now, SECOND);
}

static void test_an_empty_answer(void) {
    struct oauth_schedule schedule = {.is_running = true};
    oauth_schedule_emptied(&schedule, 5, 0);
    CHECK(schedule.is_confirmed);
    CHECK_INT(schedule.next_ms, 5 + SECOND);
    oauth_schedule_emptied(&schedule, 1005, 0);
    CHECK_INT(schedule.next_ms, 1005 + 2 * SECOND);
    CHECK_INT(schedule.confirmed_ms, 1005);
}

static void test_stale(void) {
    struct oauth_schedule schedule = {.is_running = false};
    CHECK(!oauth_schedule_is_stale(&schedule, UINT64_MAX));
    oauth_schedule_succeeded(&schedule, 1000, HOUR, 0);
    CHECK(!oauth_schedule_is_stale(&schedule, 0)); /* a caller's clock may be a moment behind */
    CHECK(!oauth_schedule_is_stale(&schedule, 1000));
    oauth_schedule_failed(&schedule, 1000 + DAY / 2, 0);
    CHECK(!oauth_schedule_is_stale(&schedule, 1000 + DAY - 1));
    CHECK(oauth_schedule_is_stale(&schedule, 1000 + DAY));
    oauth_schedule_succeeded(&schedule, 1000 + DAY, HOUR, 0);
    CHECK(!oauth_schedule_is_stale(&schedule, 1000 + DAY));
}

/* --- askers --- */

static void test_ask_joins_what_runs(void) {
    struct oauth_schedule schedule = {.is_running = true};
    for (int i = 0; i < 1000; i++)
        CHECK_INT(oauth_schedule_ask(&schedule, 0), OAUTH_ASK_JOIN);
    CHECK(!schedule.was_asked); /* which is not on their account */
}

static void test_ask_once_in_a_while(void) {
    struct oauth_schedule schedule = {.is_running = false};
    oauth_schedule_succeeded(&schedule, 0, HOUR, 0);
    size_t n_started = 0;
    for (uint64_t now = 0; now < 10 * MINUTE; now += 100) {
        enum oauth_ask ask = oauth_schedule_ask(&schedule, now);
        if (ask != OAUTH_ASK_START) {
            CHECK_INT(ask, OAUTH_ASK_REFUSED);
            continue;
        }
        CHECK(schedule.is_running);
        CHECK_INT(now % LIMIT_JWKS_PAUSE_MS, 0);
        oauth_schedule_succeeded(&schedule, now, HOUR, 0);
        n_started++;
    }
    CHECK_INT(n_started, 10 * MINUTE / LIMIT_JWKS_PAUSE_MS);
}

/* Those who ask while it fails make it no slower, and no faster than that. */
static void test_ask_during_an_outage(void) {
    struct oauth_schedule schedule = {.is_running = false};
    oauth_schedule_succeeded(&schedule, 0, HOUR, 0);
    CHECK_INT(oauth_schedule_ask(&schedule, 0), OAUTH_ASK_START);
    oauth_schedule_failed(&schedule, 0, 0);
    CHECK_INT(oauth_schedule_ask(&schedule, 0), OAUTH_ASK_REFUSED);
    CHECK_INT(oauth_schedule_ask(&schedule, LIMIT_JWKS_PAUSE_MS - 1), OAUTH_ASK_REFUSED);
    CHECK_INT(oauth_schedule_ask(&schedule, LIMIT_JWKS_PAUSE_MS), OAUTH_ASK_START);
}

/* Without any keys, those who ask wait for the next attempt when it comes before their patience
 * ends. */
static void test_ask_before_the_first_answer(void) {
    struct oauth_schedule schedule = {.is_running = false};
    CHECK_INT(oauth_schedule_ask(&schedule, 0), OAUTH_ASK_START);
    oauth_schedule_failed(&schedule, 0, 0);
    CHECK_INT(schedule.next_ms, SECOND);
    CHECK_INT(oauth_schedule_ask(&schedule, 1), OAUTH_ASK_JOIN);
    CHECK(!schedule.is_running); /* the timer starts it */
    for (int i = 0; i < 3; i++)
        oauth_schedule_failed(&schedule, 0, 0);
    CHECK_INT(schedule.next_ms, 8 * SECOND);
    CHECK_INT(oauth_schedule_ask(&schedule, 8 * SECOND - LIMIT_JWKS_WAIT_MS - 1),
              OAUTH_ASK_REFUSED);
    CHECK_INT(oauth_schedule_ask(&schedule, 8 * SECOND - LIMIT_JWKS_WAIT_MS), OAUTH_ASK_JOIN);
    for (int i = 0; i < 10; i++)
        oauth_schedule_failed(&schedule, 0, 0);
    CHECK_INT(oauth_schedule_ask(&schedule, LIMIT_JWKS_PAUSE_MS - 1), OAUTH_ASK_REFUSED);
    CHECK_INT(oauth_schedule_ask(&schedule, LIMIT_JWKS_PAUSE_MS), OAUTH_ASK_START);
}

TEST_MAIN(TEST(test_lifetime), TEST(test_refresh), TEST(test_is_due), TEST(test_pauses_double),
          TEST(test_an_empty_answer), TEST(test_stale), TEST(test_ask_joins_what_runs),
          TEST(test_ask_once_in_a_while), TEST(test_ask_during_an_outage),
          TEST(test_ask_before_the_first_answer))
