/*
 * Logins that fail. Three things are counted, each by a rule of its own:
 *
 *   an account from one address   few are free, then waits that double up to a quarter of an hour
 *   an address                    more are free, because many people may share it
 *   an account from everywhere    a hundred are free, and the waits are short
 *
 * So somebody who tries an account does not lock out its owner, who comes from another address.
 * Only who has very many addresses makes the third rule wait, and then those addresses from which
 * the owner has logged in before are let through all the same. One failure is forgiven with each
 * while that passes without another.
 *
 * An attempt counts as a failure from its begin on, and it is taken back when it was right. Else
 * as many could try at once as fit into the time that a password takes. What has to wait does not
 * count: knocking makes no wait longer.
 *
 * The rows are of strangers, so they are bounded. When there are too many, those that count least
 * and are oldest go first: a flood of names or addresses, each with its first failure, pushes out
 * its own kind, and not the count of an account that is being tried. Names stand in the keys as
 * digests, whatever was typed (people type passwords there), and unknown ones are counted like all
 * others, so that waits do not tell who exists.
 */
#include <stdio.h>

#include "base/limits.h"
#include "base/network.h"
#include "doors.h"

#define MINUTE_MS UINT64_C(60000)
#define DAY_MS    (24 * 60 * MINUTE_MS)

/* Nothing is remembered of failures after a day, of good addresses after two months. */
#define FAILURES_KEPT_MS DAY_MS
#define ADDRESS_KEPT_MS  (60 * DAY_MS)

enum { KEY = 160, BLOCK_V6 = 64, SWEPT_AT_ONCE = 100 };

enum what { PAIR, ADDRESS, ACCOUNT, WHAT_COUNT };

static const struct rule {
    const char *prefix;
    uint64_t free;              /* failures without a wait */
    uint64_t first_ms, most_ms; /* of the waits */
    uint64_t forgiven_ms;       /* one failure in this time */
} rules[WHAT_COUNT] = {
    [PAIR] = {"pair", 5, 2000, 15 * MINUTE_MS, 15 * MINUTE_MS},
    [ADDRESS] = {"address", 30, 1000, 15 * MINUTE_MS, MINUTE_MS},
    [ACCOUNT] = {"account", 100, 1000, MINUTE_MS, MINUTE_MS},
};

struct keys {
    char of[WHAT_COUNT][KEY];
    char known[KEY];                          /* "known/ACCOUNT/ADDRESS" */
    char known_first[KEY], known_behind[KEY]; /* around all of the account */
};

/* --- keys --- */

/* The block that counts as one address: whoever has an IPv6 address has its /64. */
static void write_block(struct slice address, char digest[DOORS_DIGEST + 1]) {
    struct network network;
    char text[NETWORK_TEXT];
    if (network_parse_address(address, &network)) {
        if (network.family_bits == NETWORK_V6_BITS)
            memset(network.bytes + BLOCK_V6 / 8, 0, sizeof network.bytes - BLOCK_V6 / 8);
        address = network_write_address(&network, text);
    }
    doors_digest(address, digest);
}

static void make_keys(struct slice name, struct slice address, struct keys *keys) {
    char key[DOORS_NAME + 1], account[DOORS_DIGEST + 1], block[DOORS_DIGEST + 1];
    doors_digest(doors_fold(name, key) ? slice_from_cstr(key) : name, account);
    write_block(address, block);
    snprintf(keys->of[PAIR], KEY, "%s/%s/%s", rules[PAIR].prefix, account, block);
    snprintf(keys->of[ADDRESS], KEY, "%s/%s", rules[ADDRESS].prefix, block);
    snprintf(keys->of[ACCOUNT], KEY, "%s/%s", rules[ACCOUNT].prefix, account);
    snprintf(keys->known, KEY, "known/%s/%s", account, block);
    snprintf(keys->known_first, KEY, "known/%s/", account);
    snprintf(keys->known_behind, KEY, "known/%s0", account); /* 0 is the character behind / */
}

/* --- counting --- */

struct failures {
    uint64_t count, last_ms;
};

static int read_failures(struct store_tx *tx, const char *key, struct failures *ret_failures) {
    struct store_rows *rows = NULL;
    int error = store_query(tx, "SELECT count, last_ms FROM login_failures WHERE key = $1",
                            STORE_VALUES(store_text(slice_from_cstr(key))), &rows);
    if (error != 0)
        return error;
    struct failures failures = {0};
    if (store_rows_next(rows)) {
        failures.count = (uint64_t)store_rows_number(rows, 0);
        failures.last_ms = (uint64_t)store_rows_number(rows, 1);
    }
    error = store_rows_end(rows);
    if (error == 0)
        *ret_failures = failures;
    return error;
}

/* Without what time has forgiven. A clock that was set back forgives nothing. */
static uint64_t left_of(const struct rule *rule, const struct failures *failures, uint64_t now_ms) {
    uint64_t gone = now_ms > failures->last_ms ? now_ms - failures->last_ms : 0;
    uint64_t forgiven = gone / rule->forgiven_ms;
    return gone >= FAILURES_KEPT_MS || forgiven >= failures->count ? 0 : failures->count - forgiven;
}

static uint64_t wait_of(const struct rule *rule, const struct failures *failures, uint64_t now_ms) {
    uint64_t count = left_of(rule, failures, now_ms), wait = rule->first_ms;
    if (count < rule->free)
        return 0;
    for (uint64_t i = rule->free; i < count && wait < rule->most_ms; i++)
        wait *= 2;
    if (wait > rule->most_ms)
        wait = rule->most_ms;
    /* Of a moment that is still to come the wait is from now on: the clock was set. */
    uint64_t from = failures->last_ms < now_ms ? failures->last_ms : now_ms;
    return from + wait > now_ms ? from + wait - now_ms : 0;
}

static int write_failures(struct store_tx *tx, const char *key, uint64_t count, uint64_t last_ms) {
    return store_exec(tx,
                      "INSERT INTO login_failures (key, count, last_ms) VALUES ($1, $2, $3)"
                      " ON CONFLICT (key) DO UPDATE SET count = $2, last_ms = $3",
                      STORE_VALUES(store_text(slice_from_cstr(key)), store_number((int64_t)count),
                                   store_number((int64_t)last_ms)),
                      NULL);
}

/* One key's wait; its failures are for who counts one more. */
static int ask(struct store_tx *tx, const struct keys *keys, enum what what, uint64_t now_ms,
               struct failures *failures, uint64_t *wait_ms) {
    int64_t is_known = 0;
    int error = read_failures(tx, keys->of[what], failures);
    if (error != 0)
        return error;
    uint64_t wait = wait_of(&rules[what], failures, now_ms);
    if (wait != 0 && what == ACCOUNT)
        error = doors_number(tx, "SELECT 1 FROM login_failures WHERE key = $1 AND last_ms > $2",
                             STORE_VALUES(store_text(slice_from_cstr(keys->known)),
                                          store_number((int64_t)now_ms - (int64_t)ADDRESS_KEPT_MS)),
                             0, &is_known);
    if (error == 0 && wait > *wait_ms && is_known == 0)
        *wait_ms = wait;
    return error;
}

/* Some go at once, so that it is not counted anew for each. */
static int bound(struct store_tx *tx) {
    int64_t n = 0;
    int error =
        doors_number(tx, "SELECT COUNT(*) FROM login_failures WHERE count > 0", NULL, 0, 0, &n);
    if (error != 0 || n <= LIMIT_LOGIN_ROWS)
        return error;
    return store_exec(tx,
                      "DELETE FROM login_failures WHERE key IN (SELECT key FROM login_failures"
                      " WHERE count > 0 ORDER BY count, last_ms, key LIMIT $1)",
                      STORE_VALUES(store_number(n - LIMIT_LOGIN_ROWS + SWEPT_AT_ONCE)), NULL);
}

/* ACCOUNTS_E_WAIT, or it counts. */
static int count_attempt(struct store_tx *tx, const struct keys *keys, uint64_t now_ms,
                         uint64_t *ret_wait_ms) {
    struct failures failures[WHAT_COUNT];
    uint64_t wait_ms = 0;
    bool is_new = false;
    int error = 0;
    for (int what = 0; error == 0 && what < WHAT_COUNT; what++)
        error = ask(tx, keys, (enum what)what, now_ms, &failures[what], &wait_ms);
    if (error != 0)
        return error;
    if (wait_ms != 0) {
        *ret_wait_ms = wait_ms;
        return ACCOUNTS_E_WAIT;
    }
    for (int what = 0; error == 0 && what < WHAT_COUNT; what++) {
        is_new = is_new || failures[what].count == 0;
        error = write_failures(tx, keys->of[what],
                               left_of(&rules[what], &failures[what], now_ms) + 1, now_ms);
    }
    return error == 0 && is_new ? bound(tx) : error;
}

/* --- logins --- */

/* Empty for nobody, and for somebody who may not log in. */
static int read_hash(struct store_tx *tx, struct slice name, struct buf *hash) {
    char key[DOORS_NAME + 1];
    struct store_rows *rows = NULL;
    /* A name that nobody can have is looked for, too: it takes as long. */
    struct slice folded = doors_fold(name, key) ? slice_from_cstr(key) : SLICE_EMPTY;
    int error = store_query(tx, "SELECT password FROM users WHERE key = $1 AND is_disabled = 0",
                            STORE_VALUES(store_text(folded)), &rows);
    if (error != 0)
        return error;
    if (store_rows_next(rows))
        error = buf_append(hash, store_rows_text(rows, 0));
    int ended = store_rows_end(rows);
    return error != 0 ? error : ended;
}

int accounts_begin_login(struct store_tx *tx, struct slice name, struct slice address,
                         struct buf *ret_hash, uint64_t *ret_wait_ms) {
    struct keys keys = {.known = ""};
    uint64_t now_ms = 0;
    make_keys(name, address, &keys);
    buf_reset(ret_hash, SIZE_MAX); /* the work may have been run before */
    int error = store_now_ms(tx, &now_ms);
    if (error == 0)
        error = count_attempt(tx, &keys, now_ms, ret_wait_ms);
    return error == 0 ? read_hash(tx, name, ret_hash) : error;
}

int accounts_fail_login(struct store_tx *tx, struct slice name, struct slice address) {
    struct keys keys = {.known = ""};
    uint64_t now_ms = 0;
    make_keys(name, address, &keys);
    int error = store_now_ms(tx, &now_ms);
    for (int what = 0; error == 0 && what < WHAT_COUNT; what++)
        error = store_exec(
            tx, "UPDATE login_failures SET last_ms = $2 WHERE key = $1",
            STORE_VALUES(store_text(slice_from_cstr(keys.of[what])), store_number((int64_t)now_ms)),
            NULL);
    return error;
}

/* The newest addresses of the account stay. */
static int bound_known(struct store_tx *tx, const struct keys *keys) {
    return store_exec(tx,
                      "DELETE FROM login_failures WHERE key >= $1 AND key < $2 AND key NOT IN"
                      " (SELECT key FROM login_failures WHERE key >= $1 AND key < $2"
                      " ORDER BY last_ms DESC, key LIMIT $3)",
                      STORE_VALUES(store_text(slice_from_cstr(keys->known_first)),
                                   store_text(slice_from_cstr(keys->known_behind)),
                                   store_number(LIMIT_KNOWN_ADDRESSES)),
                      NULL);
}

int accounts_pass_login(struct store_tx *tx, struct slice name, struct slice address) {
    struct keys keys = {.known = ""};
    uint64_t now_ms = 0;
    make_keys(name, address, &keys);
    int error = store_now_ms(tx, &now_ms);
    /* Of the address and of the account only this attempt: who has one account that is theirs, or
     * shares an address with its owner, does not clear what others have tried. */
    for (int what = 0; error == 0 && what < WHAT_COUNT; what++)
        error = store_exec(tx,
                           "UPDATE login_failures SET count = count - 1 WHERE key = $1 AND"
                           " count > 0",
                           STORE_VALUES(store_text(slice_from_cstr(keys.of[what]))), NULL);
    if (error == 0)
        error = store_exec(tx,
                           "DELETE FROM login_failures WHERE key = $1 OR (key IN ($2, $3) AND"
                           " count <= 0)",
                           STORE_VALUES(store_text(slice_from_cstr(keys.of[PAIR])),
                                        store_text(slice_from_cstr(keys.of[ADDRESS])),
                                        store_text(slice_from_cstr(keys.of[ACCOUNT]))),
                           NULL);
    if (error == 0)
        error = write_failures(tx, keys.known, 0, now_ms);
    return error == 0 ? bound_known(tx, &keys) : error;
}

int accounts_sweep_failures(struct store_tx *tx, uint64_t now_ms) {
    return store_exec(tx,
                      "DELETE FROM login_failures WHERE (count > 0 AND last_ms <= $1)"
                      " OR (count = 0 AND last_ms <= $2)",
                      STORE_VALUES(store_number((int64_t)now_ms - (int64_t)FAILURES_KEPT_MS),
                                   store_number((int64_t)now_ms - (int64_t)ADDRESS_KEPT_MS)),
                      NULL);
}
