/*
 * What streams of sessions have said: in which order it is handed out, to whom, and what is
 * forgotten, at each bound and past it.
 */
#include "base/limits.h"
#include "base/mem.h"
#include "config/config.h"
#include "private.h"
#include "test.h"

static struct gateway *gateway;
static struct config *config;
static struct log *no_log;

static void begin(void) {
    struct config_problems problems;
    config_problems_init(&problems);
    if (config_load_text(SLICE("test.toml"),
                         SLICE("[server]\nworkers = 1\nauth.anonymous = true\n"), NULL, NULL,
                         &problems, &config) != 0)
        CANNOT_GO_ON();
    config_problems_deinit(&problems);
    no_log = log_new(2, LOG_OFF, LOG_STYLE_TEXT);
    struct gateway_options options = {.config = config, .log = no_log, .version = SLICE("0")};
    if (gateway_new(&options, &gateway) != 0 || gateway_make_upstreams(gateway, NULL) != 0)
        CANNOT_GO_ON();
}

static void end(void) {
    CHECK_INT(atomic_load(&gateway->replay_held), 0);
    CHECK_INT(atomic_load(&gateway->n_replays), 0);
    CHECK_INT(budget_held(&gateway->budget), 0);
    gateway_stop(gateway);
    CHECK_INT(gateway_run(gateway), 0);
    gateway_free(gateway);
    config_unref(config);
    log_free(no_log);
}

static struct gw_session *new_session(const char *principal) {
    struct gw_principal *owner = gw_principal_get(&gateway->principals, slice_from_cstr(principal));
    struct gw_session *session =
        owner != NULL ? gw_session_new(gateway, owner, NULL, GW_SESSION_HTTP, MCP_2025_11_25, 0, 1)
                      : NULL;
    if (session == NULL)
        CANNOT_GO_ON();
    gw_principal_unref(owner);
    return session;
}

static void end_session(struct gw_session *session) {
    size_t held = atomic_load(&session->principal->replay_held) - session->replays.n_bytes;
    gw_session_close(session);
    CHECK_INT(atomic_load(&session->principal->replay_held), held);
    gw_session_unref(session);
}

static struct gw_exchange of(struct gw_session *session) {
    return (struct gw_exchange){.worker = &gateway->workers[0], .session = session};
}

/* True: the exchange has to write it itself. */
static bool say(struct gw_exchange *exchange, struct slice text) {
    uint64_t number = 0;
    return gw_replay_add(exchange, &text, 1, &number);
}

/* An event that costs so much. */
static void say_bytes(struct gw_exchange *exchange, size_t cost) {
    static char zeroes[MIB(17)];
    say(exchange, slice_make(zeroes, cost - sizeof(struct gw_event)));
}

static enum gw_replay_verdict resume_at(const struct gw_exchange *stream, uint64_t number,
                                        struct gw_exchange *exchange) {
    char text[GW_EVENT_ID_CHARS];
    return gw_replay_resume(exchange, gw_replay_id(stream, number, text));
}

/* Whether the stream can be taken up behind this event; nobody listens then. */
static enum gw_replay_verdict judge(const struct gw_exchange *stream, uint64_t number) {
    struct gw_exchange exchange = of(stream->session);
    enum gw_replay_verdict verdict = resume_at(stream, number, &exchange);
    gw_replay_leave(&exchange);
    return verdict;
}

static void expect_next(struct gw_exchange *exchange, const char *text, uint64_t number) {
    enum gw_replay_state state;
    struct gw_event *event = gw_replay_next(exchange, &state);
    CHECK(event != NULL);
    if (event == NULL)
        return;
    CHECK_SLICE(slice_make(event->bytes, event->len), slice_from_cstr(text));
    CHECK_INT(event->number, number);
    gw_event_unref(exchange->session, event);
}

static void expect_none(struct gw_exchange *exchange, enum gw_replay_state expected) {
    enum gw_replay_state state;
    CHECK(gw_replay_next(exchange, &state) == NULL);
    CHECK_INT(state, expected);
}

static void test_order(void) {
    begin();
    struct gw_session *session = new_session("ann");
    struct gw_exchange source = of(session), back = of(session), newer = of(session);
    gw_replay_begin(&source);
    CHECK(say(&source, SLICE("one")));
    CHECK(say(&source, SLICE("two")));
    CHECK_INT(judge(&source, 3), GW_REPLAY_LOST); /* never given */
    gw_replay_unhear(&source);
    CHECK(!say(&source, SLICE("three")));
    CHECK_INT(resume_at(&source, 1, &back), GW_REPLAY_RESUMED);
    CHECK_INT(back.resumed_at, 1);
    expect_next(&back, "two", 2);
    expect_next(&back, "three", 3);
    expect_none(&back, GW_REPLAY_GOES_ON);
    CHECK(!say(&source, SLICE("four")));
    expect_next(&back, "four", 4);
    CHECK_INT(resume_at(&source, 4, &newer), GW_REPLAY_RESUMED);
    CHECK(!say(&source, SLICE("five")));
    expect_none(&back, GW_REPLAY_GOES_ON);
    gw_replay_leave(&back);
    CHECK(gw_replay_is_heard(&source));
    gw_replay_leave(&source);
    expect_next(&newer, "five", 5);
    expect_none(&newer, GW_REPLAY_ENDS);
    struct gw_exchange late = of(session);
    CHECK_INT(resume_at(&newer, 5, &late), GW_REPLAY_DONE);
    CHECK(late.replay == NULL);
    CHECK_INT(judge(&newer, 0), GW_REPLAY_RESUMED);
    gw_replay_leave(&newer);
    end_session(session);
    end();
}

static void test_ids(void) {
    begin();
    struct gw_session *mine = new_session("ann"), *other = new_session("ann");
    struct gw_exchange source = of(mine), theirs = of(other), back = of(mine);
    char text[GW_EVENT_ID_CHARS], their_text[GW_EVENT_ID_CHARS];
    gw_replay_begin(&source);
    gw_replay_begin(&theirs);
    struct slice id = gw_replay_id(&source, 0, text);
    CHECK(!slice_eq(id, gw_replay_id(&theirs, 0, their_text)));
    CHECK_INT(gw_replay_resume(&back, slice_make(their_text, GW_EVENT_ID_CHARS)),
              GW_REPLAY_UNKNOWN);
    CHECK_INT(gw_replay_resume(&back, slice_sub(id, 0, id.len - 1)), GW_REPLAY_UNKNOWN);
    CHECK_INT(gw_replay_resume(&back, SLICE("================================")),
              GW_REPLAY_UNKNOWN);
    gw_replay_leave(&source);
    gw_replay_leave(&theirs);
    end_session(mine);
    end_session(other);
    end();
}

static void test_events(void) {
    begin();
    struct gw_session *session = new_session("ann");
    struct gw_exchange source = of(session);
    gw_replay_begin(&source);
    gw_replay_unhear(&source);
    for (size_t i = 0; i < LIMIT_REPLAY_EVENTS; i++)
        say(&source, SLICE("x"));
    CHECK_INT(judge(&source, 0), GW_REPLAY_RESUMED);
    say(&source, SLICE("x"));
    CHECK_INT(judge(&source, 0), GW_REPLAY_LOST);
    CHECK_INT(judge(&source, 1), GW_REPLAY_RESUMED);
    gw_replay_leave(&source);
    end_session(session);
    end();
}

static void test_bytes(void) {
    begin();
    struct gw_session *session = new_session("ann");
    struct gw_exchange source = of(session), other = of(session), back = of(session);
    gw_replay_begin(&source);
    gw_replay_unhear(&source);
    say_bytes(&source, LIMIT_REPLAY_BYTES / 2);
    say_bytes(&source, LIMIT_REPLAY_BYTES / 2);
    CHECK_INT(judge(&source, 0), GW_REPLAY_RESUMED);
    /* What was written to somebody goes first. */
    gw_replay_begin(&other);
    say_bytes(&other, KIB(1));
    CHECK_INT(judge(&other, 0), GW_REPLAY_LOST);
    CHECK_INT(judge(&source, 0), GW_REPLAY_RESUMED);
    gw_replay_unhear(&other);
    say_bytes(&other, KIB(1));
    CHECK_INT(judge(&source, 0), GW_REPLAY_LOST);
    CHECK_INT(judge(&source, 1), GW_REPLAY_RESUMED);
    CHECK_INT(judge(&other, 1), GW_REPLAY_RESUMED);
    /* Alone it may have all there is, and not a byte more, but for who listens. */
    say_bytes(&source, LIMIT_REPLAY_BYTES);
    CHECK_INT(judge(&source, 2), GW_REPLAY_RESUMED);
    CHECK_INT(judge(&other, 1), GW_REPLAY_LOST);
    say_bytes(&source, LIMIT_REPLAY_BYTES + 1);
    CHECK_INT(judge(&source, 3), GW_REPLAY_LOST);
    CHECK_INT(resume_at(&source, 4, &back), GW_REPLAY_RESUMED);
    say_bytes(&source, LIMIT_REPLAY_BYTES + 1);
    enum gw_replay_state state;
    struct gw_event *event = gw_replay_next(&back, &state);
    CHECK(event != NULL);
    CHECK_INT(session->replays.n_bytes, 0);
    gw_event_unref(session, event);
    gw_replay_leave(&back);
    gw_replay_leave(&other);
    gw_replay_leave(&source);
    end_session(session);
    end();
}

static void test_streams(void) {
    begin();
    struct gw_session *session = new_session("ann");
    static struct gw_exchange sources[LIMIT_REPLAY_STREAMS + 2];
    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        sources[i] = of(session);
    for (size_t i = 0; i < LIMIT_REPLAY_STREAMS; i++)
        gw_replay_begin(&sources[i]);
    CHECK(sources[LIMIT_REPLAY_STREAMS - 1].replay != NULL);
    gw_replay_begin(&sources[LIMIT_REPLAY_STREAMS]);
    CHECK(sources[LIMIT_REPLAY_STREAMS].replay == NULL); /* all of them go on */
    char text[GW_EVENT_ID_CHARS];
    struct slice id = gw_replay_id(&sources[7], 0, text);
    say(&sources[7], SLICE("x"));
    gw_replay_leave(&sources[7]);
    struct gw_exchange back = of(session);
    CHECK_INT(gw_replay_resume(&back, id), GW_REPLAY_RESUMED);
    gw_replay_leave(&back);
    gw_replay_begin(&sources[LIMIT_REPLAY_STREAMS + 1]);
    CHECK(sources[LIMIT_REPLAY_STREAMS + 1].replay != NULL);
    CHECK_INT(gw_replay_resume(&back, id), GW_REPLAY_LOST);
    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        gw_replay_leave(&sources[i]);
    end_session(session);
    end();
}

static void test_all_together(void) {
    begin();
    enum { PRINCIPALS = LIMIT_REPLAY_HELD / LIMIT_REPLAY_PRINCIPAL };
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    _Static_assert(ARRAY_LEN(names) == PRINCIPALS + 1, "one more than there is room for");
    struct gw_session *sessions[PRINCIPALS + 1];
    struct gw_exchange sources[PRINCIPALS + 1];
    atomic_store(&gateway->resume_buffer, MIB(16));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        sessions[i] = new_session(names[i]);
        sources[i] = of(sessions[i]);
        gw_replay_begin(&sources[i]);
        gw_replay_unhear(&sources[i]);
        say_bytes(&sources[i], LIMIT_REPLAY_PRINCIPAL);
        CHECK_INT(judge(&sources[i], 0), i < PRINCIPALS ? GW_REPLAY_RESUMED : GW_REPLAY_LOST);
    }
    CHECK_INT(atomic_load(&gateway->replay_held), LIMIT_REPLAY_HELD);
    CHECK_INT(budget_held(&gateway->budget), LIMIT_REPLAY_HELD);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        gw_replay_leave(&sources[i]);
        end_session(sessions[i]);
    }
    /* One principal cannot have more, in however many sessions. */
    struct gw_session *one = new_session("a"), *two = new_session("a");
    struct gw_exchange source = of(one), other = of(two);
    gw_replay_begin(&source);
    gw_replay_begin(&other);
    say_bytes(&source, LIMIT_REPLAY_PRINCIPAL - KIB(1));
    say_bytes(&other, KIB(1));
    CHECK_INT(judge(&other, 0), GW_REPLAY_RESUMED);
    say_bytes(&other, KIB(1));
    CHECK_INT(judge(&other, 0), GW_REPLAY_LOST);
    CHECK_INT(judge(&other, 1), GW_REPLAY_RESUMED);
    CHECK_INT(judge(&source, 0), GW_REPLAY_RESUMED);
    gw_replay_leave(&source);
    gw_replay_leave(&other);
    end_session(one);
    end_session(two);
    atomic_store(&gateway->resume_buffer, LIMIT_REPLAY_BYTES);
    end();
}

static void test_time(void) {
    begin();
    struct gw_session *session = new_session("ann");
    struct gw_exchange source = of(session), runs = of(session), back = of(session);
    uint64_t now_ms = io_loop_now(gateway->workers[0].loop);
    char text[GW_EVENT_ID_CHARS];
    gw_replay_begin(&runs);
    gw_replay_begin(&source);
    say(&source, SLICE("x"));
    struct slice id = gw_replay_id(&source, 0, text);
    gw_replay_leave(&source);
    gw_replays_expire(session, now_ms + LIMIT_REPLAY_MS - 1);
    CHECK_INT(gw_replay_resume(&back, id), GW_REPLAY_RESUMED);
    gw_replay_leave(&back);
    gw_replays_expire(session, now_ms + LIMIT_REPLAY_MS);
    CHECK_INT(gw_replay_resume(&back, id), GW_REPLAY_LOST);
    CHECK_INT(judge(&runs, 0), GW_REPLAY_RESUMED); /* what goes on is kept */
    gw_replay_leave(&runs);
    end_session(session);
    end();
}

static void test_standalone(void) {
    begin();
    struct gw_session *session = new_session("ann");
    struct gw_exchange first = of(session), again = of(session), second = of(session);
    char text[GW_EVENT_ID_CHARS];
    first.is_get_stream = second.is_get_stream = true;
    gw_replay_keep(session, SLICE("for nobody"));
    gw_replay_begin(&first);
    struct slice id = gw_replay_id(&first, 0, text);
    gw_replay_leave(&first);
    gw_replay_keep(session, SLICE("meanwhile"));
    CHECK_INT(gw_replay_resume(&again, id), GW_REPLAY_RESUMED);
    CHECK(gw_replay_is_standalone(&again));
    /* Behind what was said meanwhile, although it listens. */
    CHECK(!say(&again, SLICE("live")));
    expect_next(&again, "meanwhile", 1);
    expect_next(&again, "live", 2);
    CHECK(say(&again, SLICE("direct")));
    gw_replay_leave(&again);
    gw_replay_begin(&second);
    gw_replay_keep(session, SLICE("for the second"));
    CHECK_INT(gw_replay_resume(&again, id), GW_REPLAY_RESUMED);
    CHECK(!gw_replay_is_standalone(&again));
    expect_next(&again, "meanwhile", 1);
    expect_next(&again, "live", 2);
    expect_next(&again, "direct", 3);
    expect_none(&again, GW_REPLAY_ENDS);
    expect_next(&second, "for the second", 1);
    gw_replay_leave(&again);
    gw_replay_leave(&second);
    end_session(session);
    end();
}

TEST_MAIN(TEST(test_order), TEST(test_ids), TEST(test_events), TEST(test_bytes), TEST(test_streams),
          TEST(test_all_together), TEST(test_time), TEST(test_standalone))
