/*
 * The script in a real Redis, over simulated time, against a naive account of what has passed;
 * clocks that are set back, limits that change, what is left in the server.
 */
#include "help.h"
#include "redis_private.h"
#include "redis_server.h"
#include "test.h"

enum { STEPS = 20000, RULES = 6, SUBJECTS = 3, MAX_CHARGES = LIMIT_RATE_LEVELS };

/* Intervals are long: the server's own clock, by which keys expire, must not come into it. */
struct model_rule {
    uint64_t limit, interval_ms, width_ms;
};

struct account {
    uint64_t *times; /* us, in order */
    size_t n, cap;
};

struct asked {
    size_t rule, subject;
};

struct model {
    struct redis_server server;
    char sha[REDIS_SHA_LEN];
    uint64_t state, now;
    struct model_rule rules[RULES];
    struct account accounts[RULES][SUBJECTS];
};

static void load_script(struct redis_server *server, char *sha) {
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    const struct slice load[] = {SLICE("SCRIPT"), SLICE("LOAD"), redis_script()};
    resp_write_command(&bytes, load, ARRAY_LEN(load));
    struct resp_reply *reply = redis_ask_bytes(server, buf_slice(&bytes));
    if (resp_type(reply) != RESP_STRING || resp_text(reply).len != REDIS_SHA_LEN) {
        fprintf(stderr, "SCRIPT LOAD: %.*s\n", SLICE_ARGS(resp_text(reply)));
        CANNOT_GO_ON();
    }
    memcpy(sha, resp_text(reply).ptr, REDIS_SHA_LEN);
    resp_reply_free(reply);
}

/* By hand, so that buckets can have small limits, too. */
static struct limits_answer ask(struct model *model, const struct asked *asked, size_t n) {
    static const char names[] = "abcdefgh";
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    char texts[4 * MAX_CHARGES + 2][32];
    struct slice words[4 * MAX_CHARGES + 4] = {SLICE("EVALSHA"),
                                               slice_make(model->sha, REDIS_SHA_LEN)};
    size_t k = 0;
#define WORD(...)                                                                                  \
    do {                                                                                           \
        snprintf(texts[k], sizeof texts[k], __VA_ARGS__);                                          \
        words[2 + k] = slice_from_cstr(texts[k]);                                                  \
        k++;                                                                                       \
    } while (0)
    WORD("%zu", n);
    for (size_t i = 0; i < n; i++)
        WORD("%c:%zu", names[asked[i].rule], asked[i].subject);
    for (size_t i = 0; i < n; i++) {
        const struct model_rule *rule = &model->rules[asked[i].rule];
        WORD("%llu", (unsigned long long)rule->limit);
        WORD("%llu", (unsigned long long)rule->interval_ms);
        WORD("%llu", (unsigned long long)rule->width_ms);
    }
    WORD("%llu", (unsigned long long)model->now);
#undef WORD
    resp_write_command(&bytes, words, 2 + k);
    struct limits_answer answer = {.verdict = LIMITS_WAITS};
    struct resp_reply *reply = redis_ask_bytes(&model->server, buf_slice(&bytes));
    if (!redis_script_read(reply, n, &answer)) {
        fprintf(stderr, "%.*s\n", SLICE_ARGS(resp_text(reply)));
        CANNOT_GO_ON();
    }
    resp_reply_free(reply);
    return answer;
}

/* --- the account --- */

static uint64_t ends_at(const struct model_rule *rule, uint64_t time) {
    uint64_t width = rule->width_ms * 1000, interval = rule->interval_ms * 1000;
    return width == 0 ? time + interval : (time / width + 1) * width + interval;
}

static uint64_t expected_wait(const struct model *model, const struct asked *asked, size_t i) {
    const struct model_rule *rule = &model->rules[asked[i].rule];
    const struct account *account = &model->accounts[asked[i].rule][asked[i].subject];
    uint64_t units = 0, counted = 0;
    for (size_t k = 0; k <= i; k++)
        units += asked[k].rule == asked[i].rule && asked[k].subject == asked[i].subject;
    if (units > rule->limit)
        return rule->interval_ms * 1000;
    size_t first = account->n;
    while (first > 0 && ends_at(rule, account->times[first - 1]) > model->now)
        first--;
    counted = account->n - first;
    if (counted + units <= rule->limit)
        return 0;
    return ends_at(rule, account->times[first + counted + units - rule->limit - 1]) - model->now;
}

static struct limits_answer expect(struct model *model, const struct asked *asked, size_t n) {
    uint64_t longest = 0;
    struct limits_answer answer = {.verdict = LIMITS_PASS};
    for (size_t i = 0; i < n; i++) {
        uint64_t wait = expected_wait(model, asked, i);
        if (wait > longest) {
            longest = wait;
            answer = (struct limits_answer){
                .verdict = LIMITS_EXCEEDED, .charge = i, .wait_ms = (wait + 999) / 1000};
        }
    }
    for (size_t i = 0; i < n && longest == 0; i++) {
        struct account *account = &model->accounts[asked[i].rule][asked[i].subject];
        if (account->n == account->cap) {
            account->cap = account->cap * 2 + 64;
            account->times = mem_xrealloc(account->times, account->cap * sizeof(uint64_t));
        }
        account->times[account->n++] = model->now;
    }
    return answer;
}

/* In no interval more than the limit, whatever the two agree on. */
static void check_windows(const struct model *model) {
    for (size_t r = 0; r < RULES; r++) {
        for (size_t s = 0; s < SUBJECTS; s++) {
            const struct model_rule *rule = &model->rules[r];
            const struct account *account = &model->accounts[r][s];
            for (size_t i = rule->limit; i < account->n; i++) {
                uint64_t between = account->times[i] - account->times[i - rule->limit];
                if (between < rule->interval_ms * 1000) {
                    CHECK(between >= rule->interval_ms * 1000);
                    return;
                }
            }
        }
    }
}

static uint64_t draw_step(struct model *model) {
    uint64_t interval = model->rules[draw(&model->state, RULES)].interval_ms * 1000;
    switch (draw(&model->state, 12)) {
    case 0:
        return 0;
    case 1:
        return draw(&model->state, interval);
    case 2:
        return draw(&model->state, 20) == 0 ? 3 * interval : 1;
    default:
        return draw(&model->state, interval / 100 + 2);
    }
}

static void open_model(struct model *model) {
    *model = (struct model){.state = 42, .now = UINT64_C(1763740000123456)};
    redis_server_start(&model->server);
    load_script(&model->server, model->sha);
}

static void close_model(struct model *model) {
    for (size_t r = 0; r < RULES; r++) {
        for (size_t s = 0; s < SUBJECTS; s++)
            mem_free(model->accounts[r][s].times);
    }
    redis_server_end(&model->server);
}

static void test_property(void) {
    struct model model;
    size_t n_passed = 0, n_refused = 0;
    open_model(&model);
    static const struct model_rule rules[RULES] = {
        {1, 600000, 0},       {10, 3600000, 0},   {1000, 86400000, 0},
        {20, 1280000, 10000}, {7, 1000000, 7813}, {2000, 2073600000, 16200000},
    };
    memcpy(model.rules, rules, sizeof rules);
    for (size_t step = 0; step < STEPS; step++) {
        struct asked asked[MAX_CHARGES];
        size_t n = 1 + draw(&model.state, draw(&model.state, 4) == 0 ? MAX_CHARGES : 2);
        bool is_batch = draw(&model.state, 6) == 0;
        for (size_t i = 0; i < n; i++) {
            asked[i] = (struct asked){draw(&model.state, RULES), draw(&model.state, SUBJECTS)};
            if (is_batch)
                asked[i] = asked[0];
        }
        model.now += draw_step(&model);
        struct limits_answer expected = expect(&model, asked, n);
        struct limits_answer answer = ask(&model, asked, n);
        n_passed += expected.verdict == LIMITS_PASS;
        n_refused += expected.verdict == LIMITS_EXCEEDED;
        if (answer.verdict != expected.verdict || answer.charge != expected.charge ||
            answer.wait_ms != expected.wait_ms) {
            CHECK_INT(answer.verdict, expected.verdict);
            CHECK_INT(answer.charge, expected.charge);
            CHECK_INT(answer.wait_ms, expected.wait_ms);
            CHECK_INT(step, -1);
            break;
        }
    }
    CHECK(n_passed > STEPS / 10 && n_refused > STEPS / 10);
    check_windows(&model);
    close_model(&model);
}

/* --- one counter --- */

static bool take(struct model *model, size_t rule) {
    struct asked asked = {.rule = rule};
    return ask(model, &asked, 1).verdict == LIMITS_PASS;
}

static size_t take_all_of(struct model *model, size_t rule) {
    size_t n = 0;
    while (take(model, rule))
        n++;
    return n;
}

/* The clock is set back by a day, by a little, and forward again: never early, and not for as long
 * as it was set back. */
static void test_clock_back(void) {
    static const struct model_rule rules[] = {{5, 3600000, 0}, {5, 3600000, 28125}};
    static const uint64_t backs[] = {UINT64_C(86400000000), 1000000, 1};
    struct model model;
    open_model(&model);
    memcpy(model.rules, rules, sizeof rules);
    for (size_t r = 0; r < ARRAY_LEN(rules); r++) {
        for (size_t i = 0; i < ARRAY_LEN(backs); i++) {
            const uint64_t interval = rules[r].interval_ms * 1000, width = rules[r].width_ms * 1000;
            struct asked asked = {.rule = r};
            redis_do(&model.server, "FLUSHALL");
            CHECK_INT(take_all_of(&model, r), 5);
            model.now -= backs[i];
            CHECK(!take(&model, r));
            CHECK(ask(&model, &asked, 1).wait_ms <= (interval + width) / 1000 + 1);
            model.now += interval - (backs[i] < 1000 ? backs[i] + 1 : 1);
            CHECK(!take(&model, r));
            model.now += 1000 + width;
            CHECK_INT(take_all_of(&model, r), 5);
            /* Back while there is still room: what is taken then counts no less. */
            redis_do(&model.server, "FLUSHALL");
            CHECK(take(&model, r));
            model.now -= backs[i];
            CHECK_INT(take_all_of(&model, r), 4);
            model.now += interval - 1 - (backs[i] < 1000 ? backs[i] : 0);
            CHECK(!take(&model, r));
        }
    }
    close_model(&model);
}

/* A limit that is changed goes on with what was counted. */
static void test_limit_changes(void) {
    static const uint64_t widths[] = {0, 10000};
    struct model model;
    open_model(&model);
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
        redis_do(&model.server, "FLUSHALL");
        model.rules[0] = (struct model_rule){100, 1280000, widths[i]};
        CHECK_INT(take_all_of(&model, 0), 100);
        model.now += 1000000;
        model.rules[0].limit = 10;
        CHECK(!take(&model, 0));
        struct asked asked = {.rule = 0};
        uint64_t wait = ask(&model, &asked, 1).wait_ms;
        CHECK(wait <= 1290000 && wait >= 1279000 - 1);
        model.rules[0].limit = 103;
        CHECK_INT(take_all_of(&model, 0), 3);
        model.now += 1280000000 + 10000000;
        CHECK_INT(take_all_of(&model, 0), 103);
        model.rules[0].limit = 0;
        CHECK(!take(&model, 0));
        CHECK_INT(ask(&model, &asked, 1).wait_ms, 1280000);
    }
    close_model(&model);
}

/* Nothing that was refused is written; everything that is written goes by itself; and lists and
 * hashes do not grow for ever. */
static void test_what_is_left(void) {
    static const struct model_rule rules[] = {{3, 5000, 0}, {3, 1280000, 10000}, {1000, 60000, 0}};
    struct model model;
    open_model(&model);
    memcpy(model.rules, rules, sizeof rules);
    const struct asked both[] = {{.rule = 0}, {.rule = 1, .subject = 1}};
    CHECK_INT(take_all_of(&model, 0), 3);
    CHECK_INT(ask(&model, both, 2).verdict, LIMITS_EXCEEDED);
    CHECK_INT(redis_number(&model.server, "EXISTS b:1"), 0);
    CHECK_INT(take_all_of(&model, 1), 3);
    int64_t exact = redis_number(&model.server, "PTTL a:0");
    int64_t buckets = redis_number(&model.server, "PTTL b:0");
    CHECK(exact > 0 && exact <= 6000);
    CHECK(buckets > 0 && buckets <= 1280000 + 10000 + 1000);
    /* Ten a minute for a long time. */
    for (size_t i = 0; i < 1200; i++) {
        model.now += 6000000;
        CHECK(take(&model, 2));
    }
    CHECK(redis_number(&model.server, "LLEN c:0") <= 10 + 16);
    for (size_t i = 0; i < 1200; i++) {
        model.now += 8000000;
        (void)take(&model, 1);
    }
    CHECK(redis_number(&model.server, "HLEN b:0") <= 3 + 2);
    CHECK_INT(redis_number(&model.server, "DBSIZE"), 3);
    close_model(&model);
}

/* What somebody else has done to a key does not hang the server. */
static void test_spoilt(void) {
    struct model model;
    open_model(&model);
    model.rules[0] = (struct model_rule){3, 1280000, 10000};
    redis_do(&model.server, "HSET a:0 t 7 o 5");
    CHECK_INT(take_all_of(&model, 0), 3);
    redis_do(&model.server, "HSET a:1 t 7 o 99999999999999");
    struct asked asked = {.rule = 0, .subject = 1};
    CHECK_INT(ask(&model, &asked, 1).verdict, LIMITS_PASS);
    close_model(&model);
}

/* As the gateway writes it: names, and both kinds of counters. */
static void test_command(void) {
    struct redis_server server = {.port = ""};
    char sha[REDIS_SHA_LEN];
    struct limits_rule exact = rule_of("server:a", LIMIT_RATE_EXACT, 60000);
    struct limits_rule loose = rule_of("user", LIMIT_RATE_EXACT + 1, 60000);
    struct limits_charge charges[] = {{.rule = &exact},
                                      {.rule = &loose, .subject = {.high = 0xab, .low = 1}}};
    redis_server_start(&server);
    load_script(&server, sha);
    for (int with_script = 0; with_script < 2; with_script++) {
        struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
        struct limits_answer answer = {.verdict = LIMITS_WAITS};
        CHECK_INT(redis_script_write(&bytes,
                                     with_script ? SLICE_EMPTY : slice_make(sha, sizeof sha),
                                     SLICE("p:"), charges, 2, 0),
                  0);
        struct resp_reply *reply = redis_ask_bytes(&server, buf_slice(&bytes));
        CHECK(redis_script_read(reply, 2, &answer));
        CHECK_INT(answer.verdict, LIMITS_PASS);
        resp_reply_free(reply);
    }
    CHECK_INT(
        redis_number(&server, "LLEN p:{cardea}:server:a:60000:00000000000000000000000000000000"),
        2);
    CHECK(redis_number(&server,
                       "HLEN p:{cardea}:user:60000/469:00000000000000ab0000000000000001") >= 3);
    redis_server_end(&server);
}

/* Replies that are none of the script's. */
static void test_replies(void) {
    static const char *const replies[] = {
        ":0\r\n",
        "*1\r\n:0\r\n",
        "*3\r\n:0\r\n:0\r\n:0\r\n",
        "*2\r\n:3\r\n:1\r\n",
        "*2\r\n:-1\r\n:1\r\n",
        "*2\r\n:1\r\n:-1\r\n",
        "*2\r\n$1\r\n0\r\n:0\r\n",
        "$-1\r\n",
        "*-1\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        struct resp_reader *reader;
        struct resp_reply *reply = NULL;
        struct limits_answer answer;
        test_row(replies[i]);
        if (resp_reader_new(&reader) != 0)
            CANNOT_GO_ON();
        CHECK_INT(resp_feed(reader, slice_from_cstr(replies[i])), 0);
        CHECK_INT(resp_next(reader, &reply), 0);
        CHECK(reply != NULL && !redis_script_read(reply, 2, &answer));
        resp_reply_free(reply);
        resp_reader_free(reader);
    }
}

TEST_MAIN(TEST(test_property), TEST(test_clock_back), TEST(test_limit_changes),
          TEST(test_what_is_left), TEST(test_spoilt), TEST(test_command), TEST(test_replies))
