-- wrk sends the one request that scripts/bench has written to a file, with an id of its own each time.
local file = assert(io.open(os.getenv("BENCH_REQUEST"), "rb"))
local template = file:read("*a")
file:close()

local requests, next_one = {}, 0
for i = 0, 1999 do
    requests[i] = template:gsub('"id":10000000', string.format('"id":%d', 10000000 + i), 1)
end

function request()
    next_one = (next_one + 1) % 2000
    return requests[next_one]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        'RESULT {"calls": %d, "seconds": %.6f, "bytes": %d, "p50": %.1f, "p99": %.1f, "max": %.1f, "errors": %d}\n',
        summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
        latency.max, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
