/*
 * Limits in a Redis that several gateways share: over all of them not one call too many, and what holds while it cannot
 * be asked. Which servers are taken, and how the connection fails, is for the unit tests (test/unit/limits).
 */
import assert from "node:assert/strict";
import http from "node:http";
import { describe, test, type TestContext } from "node:test";

import { startHttp } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { send, served, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { Redis } from "./lib/redis.ts";
import { until, within } from "./lib/wait.ts";

type Table = { [key: string]: Value };

const CALLS = 20_000;
const AT_ONCE = 32; // on each gateway

async function start(t: TestContext, redis: Redis, limits: Table, storage: Table = {}, url?: string): Promise<Gateway> {
    const fixture = url === undefined ? (await startHttp({}, t)).url : url;
    const rate_limits = { storage: { type: "redis", url: redis.url, ...storage } };
    const gateway = await startGateway(
        {
            config: {
                server: { rate_limits, limits: { max_in_flight: 4 * AT_ONCE } },
                servers: { http: { url: fixture, rate_limits: limits } },
            },
        },
        t,
    );
    await served(gateway, "http__echo");
    return gateway;
}

/** Calls on connections that are kept. */
class Line {
    #agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });
    #gateway: Gateway;
    #client: ModernClient;

    constructor(gateway: Gateway, t: TestContext) {
        this.#gateway = gateway;
        this.#client = new ModernClient(gateway);
        t.after(() => this.#agent.destroy());
    }

    /** The text of the result, and whether it is an error. */
    async call(): Promise<{ isError: boolean; said: string }> {
        const { headers, body } = this.#client.outgoing("tools/call", {
            name: "http__echo",
            arguments: { text: "x" },
        });
        const fields = {
            ...(headers as Record<string, string>),
            Authorization: `Bearer ${this.#gateway.token}`,
            "Content-Type": "application/json",
            Accept: "application/json, text/event-stream",
        };
        const answer = new Promise<string>((resolve, reject) => {
            const options = { host: "127.0.0.1", port: this.#gateway.port, path: "/mcp", method: "POST" };
            const request = http.request({ ...options, headers: fields, agent: this.#agent }, (response) => {
                let got = "";
                response.setEncoding("utf8");
                response.on("data", (chunk: string) => (got += chunk));
                response.once("end", () => resolve(got));
                response.once("error", reject);
            });
            request.once("error", reject);
            request.end(JSON.stringify(body));
        });
        const message = JSON.parse(await within(answer, "an answer to a call")) as RpcMessage;
        assert.ok(message.result !== undefined, JSON.stringify(message));
        return { isError: message.result.isError === true, said: text(message) };
    }
}

const status = async (gateway: Gateway): Promise<{ rate_limits?: string }> =>
    JSON.parse((await send(gateway, { method: "GET", path: "/ready", token: false })).text) as { rate_limits?: string };

const isSaid = (gateway: Gateway, what: string | undefined) =>
    until(
        async () => (await status(gateway)).rate_limits === what,
        `/ready says that limits are in: ${what}`,
    );

const saidInLog = (gateway: Gateway, message: string): number =>
    gateway.log.items.filter((entry) => entry.message === message).length;

const LOCAL = "redis cannot be asked: counted in memory";
const DENY = "redis cannot be asked: what is limited is refused";

describe("limits in Redis", () => {
    for (const limit of [700, 1500]) {
        test(`two gateways, ${CALLS} calls, a limit of ${limit}: not one too many`, { timeout: 240_000 }, async (t) => {
            const redis = await Redis.start(t);
            const { url } = await startHttp({}, t);
            const limits = { limit, interval: "1h" };
            // A busy machine is no Redis that is gone: nobody passes uncounted, and nobody is refused for it.
            const storage = { on_failure: "deny", response_timeout: "1m" };
            const gateways = await Promise.all([1, 2].map(() => start(t, redis, limits, storage, url)));
            const lines = gateways.map((gateway) => new Line(gateway, t));
            let left = CALLS;
            let passed = 0;
            const caller = async (line: Line): Promise<void> => {
                while (left-- > 0) {
                    const { isError, said } = await line.call();
                    if (!isError) passed++;
                    else assert.match(said, /rate_limits/);
                    if (isError) assert.doesNotMatch(said, /cannot be counted/);
                }
            };
            await Promise.all(lines.flatMap((line) => Array.from({ length: AT_ONCE }, () => caller(line))));
            assert.equal(passed, limit);
        });
    }

    test("on_failure = local: each gateway counts by itself from where it was, and says so; and it comes back", async (t) => {
        const redis = await Redis.start(t);
        const gateway = await start(t, redis, { limit: 5, interval: "1h" });
        const line = new Line(gateway, t);
        await isSaid(gateway, "redis");
        for (let i = 0; i < 3; i++) assert.equal((await line.call()).isError, false);
        await redis.kill();
        for (let i = 0; i < 2; i++) assert.equal((await line.call()).isError, false);
        const refused = await line.call();
        assert.ok(refused.isError && refused.said.includes("5 calls"), refused.said);
        await isSaid(gateway, LOCAL);
        assert.equal(saidInLog(gateway, "Redis cannot be asked"), 1);
        await redis.run();
        await isSaid(gateway, "redis");
        for (let i = 0; i < 5; i++) assert.equal((await line.call()).isError, false, "it has forgotten what it counted");
        assert.equal((await line.call()).isError, true);
        assert.equal(saidInLog(gateway, "Redis cannot be asked"), 1);
        const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
        assert.equal((JSON.parse(run.stdout) as { status: { rate_limits: string } }).status.rate_limits, "redis");
    });

    test("on_failure = deny: what has a limit is refused, and says why; what has none is not", async (t) => {
        const redis = await Redis.start(t);
        const gateway = await start(t, redis, { limit: 5, interval: "1h" }, { on_failure: "deny" });
        const line = new Line(gateway, t);
        assert.equal((await line.call()).isError, false);
        await redis.kill();
        await isSaid(gateway, DENY);
        const { isError, said } = await line.call();
        assert.ok(isError && said.includes("cannot be counted now"), said);
        await new ModernClient(gateway).ask("tools/list");
        await redis.run();
        await isSaid(gateway, "redis");
        assert.equal((await line.call()).isError, false);
    });

    test("calls that wait when it breaks are decided at once; and one that is slow is not waited for", async (t) => {
        const redis = await Redis.start(t);
        const gateway = await start(t, redis, { limit: 4, interval: "1h" }, { response_timeout: "1m" });
        const line = new Line(gateway, t);
        assert.equal((await line.call()).isError, false);
        redis.pause();
        const waiting = Array.from({ length: 10 }, () => line.call());
        await redis.kill();
        const answers = await Promise.all(waiting);
        assert.equal(answers.filter(({ isError }) => !isError).length, 3);
        await redis.run();
        await isSaid(gateway, "redis");

        const slow = await start(t, redis, { limit: 4, interval: "2h" }, { response_timeout: "100ms" });
        await isSaid(slow, "redis");
        redis.pause();
        assert.equal((await new Line(slow, t).call()).isError, false);
        await isSaid(slow, LOCAL);
        redis.goOn();
        await isSaid(slow, "redis");
    });

    test("a wrong password is told of, never what it was", async (t) => {
        const redis = await Redis.start(t, ["--requirepass", "correct horse"]);
        const url = redis.url.replace("redis://", "redis://:battery-staple@");
        const gateway = await start(t, redis, { limit: 1, interval: "1h" }, { url });
        await isSaid(gateway, LOCAL);
        const entry = await gateway.waitForLog((item) => item.message === "Redis cannot be asked");
        assert.match(String(entry.reason), /the user or password is wrong/);
        assert.ok(!gateway.tail(10_000).includes("staple"));
    });
});
