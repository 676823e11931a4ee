/*
 * How often: units of the rate limits, taken by requests before anybody knows who calls, and by
 * calls when all else about them is decided. Counters in memory answer at once; for those in Redis
 * the request or call waits, and goes on by a callback on its worker's loop.
 */
#include "base/mem.h"
#include "private.h"

/* What waits keeps the rules alive that it waits for. */
static struct gw_units *keep(struct gw_worker *worker, const struct gw_units *now) {
    struct gw_units *units = mem_xalloc(sizeof *units);
    *units = *now;
    units->policy = gw_policy_ref(worker->policy);
    return units;
}

static void note_answer(struct gw_units *units, const struct limits_answer *answer) {
    units->check = NULL;
    units->answer = *answer;
    units->is_answered = true;
}

struct gw_units *gw_units_free(struct gw_units *units) {
    if (units == NULL)
        return NULL;
    limits_check_cancel(units->check);
    gw_policy_unref(units->policy);
    mem_free(units);
    return NULL;
}

uint64_t gw_units_seconds(uint64_t ms) {
    return ms / 1000 + (ms % 1000 != 0 ? 1 : 0);
}

/* Requests. */

static void on_request_answer(void *context, const struct limits_answer *answer) {
    struct gw_exchange *exchange = context;
    note_answer(exchange->units, answer);
    gw_exchange_go_on(exchange);
}

enum limits_verdict gw_exchange_take_units(struct gw_exchange *exchange, struct gw_units *ret) {
    struct gw_worker *worker = exchange->worker;
    if (exchange->units != NULL) { /* what it waited for is there */
        *ret = *exchange->units;
        return ret->answer.verdict;
    }
    ret->check = NULL;
    ret->is_answered = false;
    ret->n = policy_request_charges(worker->policy->policy, &exchange->client, ret->charges);
    if (ret->n == 0)
        return LIMITS_PASS;
    enum limits_verdict verdict =
        limits_take(worker->limits, ret->charges, ret->n, on_request_answer, exchange, &ret->answer,
                    &ret->check);
    if (verdict == LIMITS_WAITS)
        exchange->units = keep(worker, ret);
    return verdict;
}

/* Calls. */

static void refuse_call(struct gw_call *call, const struct gw_units *units) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    const struct limits_answer *answer = &units->answer;
    if (answer->verdict == LIMITS_UNAVAILABLE) {
        gw_call_refuse(call, MCP_E_UNAVAILABLE,
                       SLICE("how often this may be called cannot be counted now "
                             "(server.rate_limits.storage); try again later"));
        return;
    }
    const struct limits_charge *charge = &units->charges[answer->charge];
    policy_write_limited(&text, charge, answer->wait_ms);
    struct slice rule = buf_slice(&text);
    gw_record_deny(call, slice_sub(rule, 0, slice_find(rule, SLICE(" allows "))), rule);
    log_write(call->worker->gateway->log, LOG_INFO, "policy", "a call was over its limit",
              LOG_TEXT("rule", charge->rule->id), LOG_TEXT("principal", call->principal->id));
    gw_call_refuse(call, MCP_E_BUSY, buf_slice(&text));
}

static void on_call_answer(void *context, const struct limits_answer *answer) {
    struct gw_call *call = context;
    note_answer(call->units, answer);
    if (answer->verdict == LIMITS_PASS)
        gw_route_go_on(call);
    else
        refuse_call(call, call->units);
}

bool gw_call_take_units(struct gw_call *call, const struct mcp_message *message,
                        const struct policy_server *server, const struct policy_item *item) {
    struct gw_worker *worker = call->worker;
    struct gw_units now UNCLEARED;
    if (worker->limits == NULL || (call->units != NULL && call->units->is_answered))
        return true; /* taken before it waited, perhaps again, for its server */
    struct policy_caller caller = gw_policy_caller(call->exchange->caller->identity);
    now.check = NULL;
    now.is_answered = false;
    now.n = policy_charges(server, &caller, item, call->principal->subject, now.charges);
    if (now.n == 0)
        return true;
    enum limits_verdict verdict = limits_take(worker->limits, now.charges, now.n, on_call_answer,
                                              call, &now.answer, &now.check);
    if (verdict == LIMITS_PASS)
        return true;
    if (verdict != LIMITS_WAITS) {
        now.answer.verdict = verdict;
        refuse_call(call, &now);
        return false;
    }
    call->units = keep(worker, &now);
    if (gw_call_keep(call, message)) {
        gw_call_rest(call);
        gw_exchange_wait(call->exchange);
    }
    return false;
}
