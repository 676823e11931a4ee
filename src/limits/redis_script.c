/*
 * The one script. It runs alone in the server and by the server's clock, so what it finds and what
 * it takes is one step, whichever gateways ask. First it looks at all counters of the check; only
 * when none of them refuses does it count in each. A key that is there several times takes so many
 * units.
 *
 * A limit up to LIMIT_RATE_EXACT is a list of the times (in us) of the units that count: the one
 * that stands `limit` places from the end has to be as old as the interval. Above, it is a hash:
 * units by bucket ("1234": 56), their total ("t") and the first bucket with some ("o"). A bucket
 * counts until the youngest unit that it can hold is as old as the interval.
 *
 * A limit that a reload changes goes on with what was counted: the key does not name it. What
 * differs in kind or width differs in its key, too. Keys expire by themselves some time after their
 * last unit has.
 *
 * The server's clock may be set back, and another server may take its place. A unit from the future
 * then counts as one of now, as soon as it stands in the way: late rather than early, but not for
 * as long as the clock was set back.
 *
 * One hash tag in all keys: should a proxy spread them, those of a check stay together.
 */
#include <inttypes.h>

#include "redis_private.h"

/* clang-format off */
static const char script[] =
    /* What is global is looked up in the server at a price. */
    "local call, number, keys, args = redis.call, tonumber, KEYS, ARGV\n"
    "local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min\n"
    "local n = #keys\n"
    "local now = number(args[3 * n + 1])\n"
    "if not now then\n"
    "  local time = call('TIME')\n"
    "  now = time[1] * 1000000 + time[2]\n"
    "end\n"
    /* Each of the two says how long `units` have to wait, in us; 0: they may pass. */
    "local function look_exact(key, limit, interval, units)\n"
    "  local last = number(call('LINDEX', key, units - limit - 1) or nil)\n"
    "  if not last or last + interval <= now then return 0 end\n"
    "  if last > now then\n"
    "    local times = call('LRANGE', key, 0, -1)\n"
    "    call('DEL', key)\n"
    "    for _, time in ipairs(times) do\n"
    "      call('RPUSH', key, min(number(time), now))\n"
    "    end\n"
    "    call('PEXPIRE', key, ceil(interval / 1000) + 1000)\n"
    "    last = now\n"
    "  end\n"
    "  return last + interval - now\n"
    "end\n"
    /* No window has more than `limit` units: older ones need not be known. What has expired before
     * that is looked for now and then. */
    "local function take_exact(key, limit, interval)\n"
    "  local count = call('RPUSH', key, now)\n"
    "  if count > limit then call('LTRIM', key, -limit, -1) end\n"
    "  for _ = 1, count % 16 == 0 and 32 or 0 do\n"
    "    local first = call('LINDEX', key, 0)\n"
    "    if not first or first + interval > now then break end\n"
    "    call('LPOP', key)\n"
    "  end\n"
    "  call('PEXPIRE', key, ceil(interval / 1000) + 1000)\n"
    "end\n"
    "local function look_buckets(key, limit, interval, width, units, found)\n"
    "  local bucket = floor(now / width)\n"
    "  local state = call('HMGET', key, 't', 'o', bucket)\n"
    "  local total, first = number(state[1] or 0), number(state[2] or 0)\n"
    "  local gone, was = {}, first\n"
    "  for step = 1, 4096 do\n"
    "    if total <= 0 or (first + 1) * width + interval > now then break end\n"
    "    if step == 4096 then call('DEL', key) total, was = 0, first break end\n"
    "    local some = call('HGET', key, first)\n"
    "    if some then\n"
    "      total = total - some\n"
    "      gone[#gone + 1] = first\n"
    "    end\n"
    "    first = first + 1\n"
    "  end\n"
    "  if first ~= was then\n"
    "    if #gone > 0 then call('HDEL', key, unpack(gone)) end\n"
    "    call('HSET', key, 't', total, 'o', first)\n"
    "  end\n"
    "  if total <= 0 then first, state[3] = bucket, false end\n"
    "  found.total, found.first, found.bucket = total, first, max(bucket, first)\n"
    "  found.here = number(found.bucket == bucket and state[3] or 0)\n"
    "  if found.bucket ~= bucket then\n"
    "    found.here = number(call('HGET', key, found.bucket) or 0)\n"
    "  end\n"
    "  if total + units <= limit then return 0 end\n"
    "  local over, at = total + units - limit, first\n"
    "  while over > 0 and at <= first + 2 * 128 do\n"
    "    over = over - (call('HGET', key, at) or 0)\n"
    "    at = at + 1\n"
    "  end\n"
    "  if over > 0 then\n"
    "    call('DEL', key)\n"
    "    found.total, found.first, found.bucket, found.here = 0, bucket, bucket, 0\n"
    "    return 0\n"
    "  end\n"
    "  if first > bucket then\n"
    "    call('DEL', key)\n"
    "    call('HSET', key, 't', total, 'o', bucket, bucket, total)\n"
    "    call('PEXPIRE', key, ceil((interval + width) / 1000) + 1000)\n"
    "    at = bucket + 1\n"
    "  end\n"
    "  return at * width + interval - now\n"
    "end\n"
    "local function take_buckets(key, interval, width, found)\n"
    "  found.here, found.total = found.here + 1, found.total + 1\n"
    "  call('HSET', key, found.bucket, found.here, 't', found.total, 'o', found.first)\n"
    "  if found.here == 1 then\n"
    "    call('PEXPIRE', key, ceil((interval + width) / 1000) + 1000)\n"
    "  end\n"
    "end\n"
    "local longest, charge, found = 0, 0, {}\n"
    "for i = 1, n do\n"
    "  local key, limit = keys[i], number(args[3 * i - 2])\n"
    "  local interval, width = args[3 * i - 1] * 1000, args[3 * i] * 1000\n"
    "  local wait = interval\n"
    "  found[key] = found[key] or {units = 0}\n"
    "  found[key].units = found[key].units + 1\n"
    "  local units = found[key].units\n"
    "  if units <= limit and width == 0 then\n"
    "    wait = look_exact(key, limit, interval, units)\n"
    "  elseif units <= limit then\n"
    "    wait = look_buckets(key, limit, interval, width, units, found[key])\n"
    "  end\n"
    "  if wait > longest then longest, charge = wait, i end\n"
    "end\n"
    "if charge > 0 then return {charge, ceil(longest / 1000)} end\n"
    "for i = 1, n do\n"
    "  local interval, width = args[3 * i - 1] * 1000, args[3 * i] * 1000\n"
    "  if width == 0 then take_exact(keys[i], number(args[3 * i - 2]), interval)\n"
    "  else take_buckets(keys[i], interval, width, found[keys[i]]) end\n"
    "end\n"
    "return {0, 0}\n";
/* clang-format on */

struct slice redis_script(void) {
    return slice_make(script, sizeof script - 1);
}

/* 0: each unit by itself. */
static uint64_t width_of(const struct limits_rule *rule) {
    return rule->limit.limit <= LIMIT_RATE_EXACT ? 0 : limits_width_ms(&rule->limit);
}

/* "nexus:rate_limit:{cardea}:server:github:60000:00..00", with the width where there are buckets.
 * The same subject has the same name on every gateway. */
static void write_key(struct buf *key, struct slice prefix, const struct limits_charge *charge) {
    const struct limits_rule *rule = charge->rule;
    uint64_t width = width_of(rule);
    buf_append(key, prefix);
    buf_append(key, SLICE("{cardea}:"));
    buf_append(key, rule->id);
    buf_printf(key, ":%" PRIu64, rule->limit.interval_ms);
    if (width != 0)
        buf_printf(key, "/%" PRIu64, width);
    buf_printf(key, ":%016" PRIx64 "%016" PRIx64, charge->subject.high, charge->subject.low);
}

/* Arguments that are put together: their text may move while it grows. */
struct arguments {
    struct buf text;
    struct slice list[4 + 4 * LIMIT_RATE_LEVELS];
    size_t ends[4 + 4 * LIMIT_RATE_LEVELS];
    size_t n;
};

static void end_argument(struct arguments *arguments) {
    arguments->ends[arguments->n++] = buf_len(&arguments->text);
}

static void add_number(struct arguments *arguments, uint64_t number) {
    buf_append_u64(&arguments->text, number);
    end_argument(arguments);
}

static void add_text(struct arguments *arguments, struct slice text) {
    buf_append(&arguments->text, text);
    end_argument(arguments);
}

static int write_arguments(struct buf *out, struct arguments *arguments) {
    struct slice text = buf_slice(&arguments->text);
    size_t start = 0;
    if (buf_error(&arguments->text) != 0)
        return buf_error(&arguments->text);
    for (size_t i = 0; i < arguments->n; i++) {
        arguments->list[i] = slice_sub(text, start, arguments->ends[i]);
        start = arguments->ends[i];
    }
    return resp_write_command(out, arguments->list, arguments->n);
}

int redis_script_write(struct buf *out, struct slice sha, struct slice key_prefix,
                       const struct limits_charge *charges, size_t n, uint64_t at_us) {
    struct arguments arguments = {.text = BUF_INIT(MIB(1))};
    add_text(&arguments, sha.len != 0 ? SLICE("EVALSHA") : SLICE("EVAL"));
    add_text(&arguments, sha.len != 0 ? sha : redis_script());
    add_number(&arguments, n);
    for (size_t i = 0; i < n; i++) {
        write_key(&arguments.text, key_prefix, &charges[i]);
        end_argument(&arguments);
    }
    for (size_t i = 0; i < n; i++) {
        add_number(&arguments, charges[i].rule->limit.limit);
        add_number(&arguments, charges[i].rule->limit.interval_ms);
        add_number(&arguments, width_of(charges[i].rule));
    }
    if (at_us != 0)
        add_number(&arguments, at_us);
    int error = write_arguments(out, &arguments);
    buf_deinit(&arguments.text);
    return error;
}

bool redis_script_read(const struct resp_reply *reply, size_t n, struct limits_answer *ret_answer) {
    if (resp_type(reply) != RESP_ARRAY || resp_count(reply) != 2 ||
        resp_type(resp_at(reply, 0)) != RESP_INTEGER ||
        resp_type(resp_at(reply, 1)) != RESP_INTEGER)
        return false;
    int64_t charge = resp_integer(resp_at(reply, 0)), wait_ms = resp_integer(resp_at(reply, 1));
    if (charge < 0 || (uint64_t)charge > n || wait_ms < 0)
        return false;
    if (charge == 0)
        *ret_answer = (struct limits_answer){.verdict = LIMITS_PASS};
    else
        *ret_answer = (struct limits_answer){.verdict = LIMITS_EXCEEDED,
                                             .charge = (size_t)charge - 1,
                                             .wait_ms = wait_ms > 0 ? (uint64_t)wait_ms : 1};
    return true;
}
