/*
 * The circuit breaker of an upstream, max_in_flight, what is sent again, and where that shows: /ready and
 * `cardea status`. What arrives is counted at the server.
 */
import assert from "node:assert/strict";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp, type Exchange } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import { startControl, type Control, type FixtureOptions, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, send, type Outgoing } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { call, client, refusal, said, serve, status, type Request, type UpstreamStatus } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const OPENS = "fails again and again: its calls are refused";
const CLOSES = "is well again: its calls go through";
const PATIENT = { failure_threshold: 3, cooldown: "1h" };

const health = async (gateway: Gateway, name = "http"): Promise<UpstreamStatus> => (await status(gateway)).get(name)!;

const brief = async (gateway: Gateway, name = "http") => {
    const { breaker, failures, in_flight } = await health(gateway, name);
    return { breaker, failures, in_flight };
};

const told = (gateway: Gateway, message: string, from = 0) =>
    gateway.waitForLog((entry) => entry.message === message, from);

const count = (gateway: Gateway, message: string) =>
    gateway.log.items.filter((entry) => entry.message === message).length;

/** It is refused by the breaker, naming upstream, keys and, while the pause lasts, how long still. */
async function isRefused(answer: RpcMessage | Promise<RpcMessage>, name = "http"): Promise<string> {
    const why = await refusal(answer);
    assert.match(why, new RegExp(`^${name} failed \\d+ times in a row: calls are refused`));
    assert.match(why, /failure_threshold = \d+/);
    assert.match(why, /cooldown = \d+ ms/);
    assert.match(why, new RegExp(`mcp.servers.${name}`));
    return why;
}

const failed = (answer: RpcMessage) => answer.error !== undefined || answer.result!.isError === true;

async function isDue(gateway: Gateway, name = "http"): Promise<void> {
    await until(async () => (await health(gateway, name)).breaker === "half-open", `the pause of ${name} is over`);
}

/** The first call that is answered, while the upstream may still be starting. */
const answered = (request: Request, name: string, args: object = {}) =>
    until(async () => {
        const answer = await call(request, name, args);
        return answer.result !== undefined && answer.result.isError !== true ? answer : false;
    }, `${name} is answered`);

const FAILURES: { [what: string]: (exchange: Exchange) => void } = {
    "the connection is reset": (exchange) => exchange.reset(),
    "the connection ends without an answer": (exchange) => exchange.close(),
    "the connection ends in the midst of the answer": (exchange) => {
        exchange.head(200, { "Content-Type": "application/json", "Content-Length": "100" });
        exchange.raw('{"jsonrpc":');
        exchange.close();
    },
    "HTTP 500": (exchange) => exchange.text(500, "text/plain", "sorry"),
    "HTTP 503 with a JSON-RPC error": (exchange) => exchange.error(-32603, "sorry", 503),
    "no JSON": (exchange) => exchange.text(200, "application/json", "{nonsense"),
    "no JSON-RPC": (exchange) => exchange.json({ id: exchange.message.id, hello: true }),
    "neither JSON nor events": (exchange) => exchange.text(200, "text/html", "<p>Welcome</p>"),
    "no HTTP": (exchange) => {
        exchange.raw("SSH-2.0-OpenSSH_9.2\r\n\r\n");
        exchange.close();
    },
    "accepted, and never answered": (exchange) => exchange.empty(202),
    "a redirect": (exchange) => exchange.empty(302, { Location: "http://elsewhere.example.com/" }),
    "an answer to something else": (exchange) => exchange.json({ jsonrpc: "2.0", id: 987654321, result: {} }),
    "a stream that ends without the answer": (exchange) => exchange.sse().end(),
    silence: () => {},
};

describe("each kind of failure opens it at the threshold, and not before", { concurrency: 3 }, () => {
    for (const [what, fail] of Object.entries(FAILURES)) {
        test(what, async (t) => {
            const era = what.length % 2 === 0 ? modernOnly : legacyOnly();
            const slow = { timeout: what === "silence" ? "300ms" : "60s" };
            const { fixture, gateway } = await serve(t, era, { ...PATIENT, ...slow });
            const [legacy, modern] = [await client(gateway, "legacy"), await client(gateway, "modern")];
            const args = fixture.act(fail);
            await said(call(legacy, "echo", { text: "up" }));
            for (const request of [legacy, modern]) assert.ok(failed(await call(request, "echo", args)));
            assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 2, in_flight: 0 });
            await said(call(legacy, "echo", { text: "still" }));
            assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 0, in_flight: 0 });
            assert.equal(count(gateway, OPENS), 0);

            for (const request of [legacy, modern, legacy]) assert.ok(failed(await call(request, "echo", args)));
            assert.deepEqual(await brief(gateway), { breaker: "open", failures: 3, in_flight: 0 });
            const opened = await told(gateway, OPENS);
            assert.deepEqual(
                [opened.level, opened.upstream, opened.failures, opened.pause_ms],
                ["warn", "http", 3, 3600000],
            );
            const n = fixture.received("tools/call").length;
            for (const request of [legacy, modern, await client(gateway, "legacy")]) {
                assert.match(await isRefused(call(request, "echo", { text: "x" })), /for another 3[56]\d{5} ms/);
            }
            const read = await legacy("resources/read", { uri: "test://one" });
            assert.equal(read.error?.code, 503, JSON.stringify(read));
            assert.match(read.error.message, /failure_threshold = 3/);
            assert.equal(fixture.received("tools/call").length, n, "nothing more arrived");
            assert.equal(fixture.received("resources/read").length, 0);
            assert.equal(count(gateway, OPENS), 1);
        });
    }
});

describe("what is no failure does not open it", { concurrency: 3 }, () => {
    const fine: { [what: string]: (exchange: Exchange) => void } = {
        "a JSON-RPC error": (exchange) => exchange.error(-32603, "no"),
        "a result with isError": (exchange) =>
            exchange.result({ resultType: "complete", isError: true, content: [{ type: "text", text: "no" }] }),
        ...Object.fromEntries(
            [400, 401, 403, 404, 409, 429].map((code) => [
                `HTTP ${code}`,
                (exchange: Exchange) => exchange.text(code, "text/plain", "no"),
            ]),
        ),
        "HTTP 400 with a JSON-RPC error": (exchange) => exchange.error(-32602, "no", 400),
    };
    for (const [what, act] of Object.entries(fine)) {
        test(what, async (t) => {
            const { fixture, gateway } = await serve(t, { ...legacyOnly(), sessions: false }, { failure_threshold: 2 });
            const request = await client(gateway, "legacy");
            const bad = fixture.act((exchange) => exchange.reset());
            await said(call(request, "echo", { text: "up" }));
            const args = fixture.act(act);
            for (let n = 1; n <= 4; n++) await call(request, "echo", args);
            assert.equal(fixture.calls(args).length, 4);
            await refusal(call(request, "echo", bad));
            assert.equal((await brief(gateway)).failures, 1);
            await call(request, "echo", args);
            assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 0, in_flight: 0 });
        });
    }

    test("a call that its client cancels, and it ends no row either", async (t) => {
        const { fixture, gateway } = await serve(t, modernOnly, { failure_threshold: 2, cooldown: "1h" });
        const modern = new ModernClient(gateway, "/mcp/http");
        const request = await client(gateway, "modern");
        const bad = fixture.act((exchange) => exchange.reset());
        await said(call(request, "echo", { text: "up" }));
        await refusal(call(request, "echo", bad));
        for (let n = 1; n <= 3; n++) {
            const abort = new AbortController();
            const hung = modern.call("hold", {}, { signal: abort.signal }).catch(() => "gone");
            await fixture.holds(1);
            assert.equal((await brief(gateway)).in_flight, 1);
            abort.abort();
            assert.equal(await hung, "gone");
            await until(() => fixture.brain.held === 0, "the server has heard of it");
        }
        await until(async () => (await brief(gateway)).in_flight === 0, "no call runs");
        assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 1, in_flight: 0 });
        await refusal(call(request, "echo", bad));
        assert.equal((await brief(gateway)).breaker, "open");
    });

    test("an answer that is too long for us", async (t) => {
        const { fixture, gateway } = await serve(t, modernOnly, { failure_threshold: 1, cooldown: "1h" });
        const request = await client(gateway, "modern");
        await said(call(request, "echo", { text: "up" }));
        const long = { jsonrpc: "2.0", id: 1, result: { text: "x".repeat(11 << 20) } };
        for (const act of [
            (exchange: Exchange) => exchange.json(long),
            (exchange: Exchange) => exchange.sse().event(long),
        ]) {
            await refusal(call(request, "echo", fixture.act(act)));
            assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 0, in_flight: 0 });
        }
    });

    test("failure_threshold = 0: never", async (t) => {
        const { fixture, gateway } = await serve(t, modernOnly, { failure_threshold: 0 });
        const request = await client(gateway, "modern");
        const args = fixture.act((exchange) => exchange.reset());
        for (let n = 1; n <= 20; n++) await refusal(call(request, "echo", args));
        assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 20, in_flight: 0 });
        assert.equal(fixture.calls(args).length, 20);
    });
});

test("a session that is lost again after it was renewed is a failure", async (t) => {
    const { fixture, gateway } = await serve(t, legacyOnly(), PATIENT);
    const request = await client(gateway, "legacy");
    await said(call(request, "echo", { text: "up" }));
    const args = fixture.act((exchange) => {
        fixture.expire();
        exchange.empty(404);
    });
    assert.match(await refusal(call(request, "echo", args)), /forgets its sessions/);
    assert.equal(fixture.calls(args).length, 2, "once more, after it was renewed");
    assert.equal((await brief(gateway)).failures, 1);
    await said(call(request, "echo", { text: "again" }));
    assert.equal((await brief(gateway)).failures, 0);
});

describe("the probe", { concurrency: 3 }, () => {
    const QUICK = { failure_threshold: 1, cooldown: "200ms" };

    /** A gateway whose breaker has opened, and whose pause is over. */
    async function opened(t: TestContext, server: { [key: string]: Value } = {}) {
        const { fixture, gateway } = await serve(t, modernOnly, { ...QUICK, ...server });
        const modern = new ModernClient(gateway, "/mcp/http");
        const request = await client(gateway, "modern");
        const bad = fixture.act((exchange) => exchange.reset());
        await said(call(request, "echo", { text: "up" }));
        await refusal(call(request, "echo", bad));
        await told(gateway, OPENS);
        await isDue(gateway);
        return { fixture, gateway, modern, request, bad };
    }

    test("is one call; its answer lets all through", async (t) => {
        const { fixture, gateway, request } = await opened(t);
        const probe = call(request, "hold");
        await fixture.holds(1);
        const n = fixture.received("tools/call").length;
        const others = [request, await client(gateway, "legacy")].map((each) => call(each, "echo", { text: "x" }));
        for (const other of others) assert.match(await isRefused(other), /until the one is answered/);
        assert.deepEqual(await brief(gateway), { breaker: "half-open", failures: 1, in_flight: 1 });
        assert.equal(fixture.received("tools/call").length, n);
        assert.equal(count(gateway, CLOSES), 0);
        fixture.brain.release();
        await said(probe);
        assert.equal((await told(gateway, CLOSES)).level, "info");
        await Promise.all(Array.from({ length: 20 }, (_, i) => said(call(request, "echo", { text: `${i}` }))));
        assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 0, in_flight: 0 });
    });

    test("of many that come at once, one goes through", async (t) => {
        const { fixture, request, gateway } = await opened(t);
        const requests = [request, await client(gateway, "legacy"), await client(gateway, "modern")];
        const calls = Array.from({ length: 30 }, (_, i) => call(requests[i % 3]!, "hold"));
        await fixture.holds(1);
        await until(async () => (await brief(gateway)).in_flight === 1, "29 are refused");
        assert.equal(fixture.brain.held, 1);
        fixture.brain.release();
        const answers = await Promise.all(calls);
        assert.equal(answers.filter((answer) => answer.result!.isError !== true).length, 1);
    });

    test("fails: it opens again, for twice as long; then the pause is the first again", async (t) => {
        const { gateway, request, bad } = await opened(t);
        let from = gateway.log.items.length;
        for (const pause of [400, 800]) {
            await isDue(gateway);
            await refusal(call(request, "echo", bad));
            assert.equal((await told(gateway, OPENS, from)).pause_ms, pause);
            from = gateway.log.items.length;
            await isRefused(call(request, "echo", { text: "x" }));
        }
        await isDue(gateway);
        await said(call(request, "echo", { text: "well" }));
        await told(gateway, CLOSES, from);
        await refusal(call(request, "echo", bad));
        assert.equal((await told(gateway, OPENS, from)).pause_ms, 200);
    });

    test("is cancelled: the next call is the probe", async (t) => {
        const { fixture, gateway, modern, request } = await opened(t);
        const abort = new AbortController();
        const probe = modern.call("hold", {}, { signal: abort.signal }).catch(() => "gone");
        await fixture.holds(1);
        await isRefused(call(request, "echo", { text: "x" }));
        abort.abort();
        assert.equal(await probe, "gone");
        await until(async () => (await brief(gateway)).in_flight === 0, "it is over");
        assert.deepEqual(await brief(gateway), { breaker: "half-open", failures: 1, in_flight: 0 });
        await said(call(request, "echo", { text: "next" }));
        assert.equal((await brief(gateway)).breaker, "closed");
    });

    test("makes progress: the others need not wait for its end", async (t) => {
        const { fixture, gateway, modern, request } = await opened(t);
        const probe = modern.stream("tools/call", { name: "hold", arguments: {} }, { meta: { progressToken: "p" } });
        await told(gateway, CLOSES);
        await said(call(request, "echo", { text: "now" }));
        fixture.brain.release();
        const { messages } = await probe;
        await messages.waitFor((message) => message.result !== undefined);
    });

    test("calls that began before it opened have no say later", async (t) => {
        const { fixture, gateway } = await serve(t, modernOnly, { failure_threshold: 1, cooldown: "200ms" });
        const request = await client(gateway, "modern");
        const waiting: Exchange[] = [];
        const late = fixture.act((exchange) => waiting.push(exchange));
        await said(call(request, "echo", { text: "up" }));
        const calls = [call(request, "echo", late), call(request, "echo", late)];
        await until(() => waiting.length === 2, "both arrived");
        await refusal(call(request, "echo", fixture.act((exchange) => exchange.reset())));
        assert.equal((await brief(gateway)).breaker, "open");
        waiting[0]!.json(waiting[0]!.answer("late"));
        assert.equal(await said(Promise.race(calls)), "late");
        assert.notEqual((await brief(gateway)).breaker, "closed");
        await isDue(gateway);
        await said(call(request, "echo", { text: "well" }));
        waiting[1]!.reset();
        await refusal((await Promise.all(calls)).find((answer) => answer.result!.isError === true)!);
        assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 0, in_flight: 0 });
    });
});

describe("a server that cannot be reached", { concurrency: 2 }, () => {
    test("its starts open it, and the one that succeeds closes it", async (t) => {
        const { fixture, gateway } = await serve(t, legacyOnly(), {
            ...PATIENT,
            restart: { initial: "50ms", max: "200ms" },
        });
        const request = await client(gateway, "legacy");
        await said(call(request, "echo", { text: "up" }));
        const { port } = fixture;
        await fixture.close();
        await refusal(call(request, "echo", { text: "away" }));
        await told(gateway, OPENS);
        await isRefused(call(request, "echo", { text: "away" }));
        await fixture.listen(port);
        await told(gateway, CLOSES);
        assert.equal(await said(call(request, "echo", { text: "back" })), "back");
        assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 0, in_flight: 0 });
    });

    test("the probe does not wait for the next restart: it is one", async (t) => {
        const { fixture, gateway } = await serve(t, legacyOnly(), {
            failure_threshold: 1,
            cooldown: "300ms",
            restart: { initial: "10m", max: "10m" },
        });
        const request = await client(gateway, "legacy");
        await said(call(request, "echo", { text: "up" }));
        const { port } = fixture;
        await fixture.close();
        const first = await refusal(call(request, "echo", { text: "away" }));
        assert.match(first, /down|cannot be reached|did not start|failed 1 times/);
        // The first call has found nobody there; the probe tries to start it, and fails.
        await until(async () => {
            await refusal(call(request, "echo", { text: "away" }));
            return count(gateway, OPENS) >= 2;
        }, "the probe found nobody either");
        await fixture.listen(port);
        await isDue(gateway);
        assert.equal(await said(call(request, "echo", { text: "back" })), "back");
    });
});

describe("stdio", { concurrency: 2 }, () => {
    let control: Control;
    before(async () => void (control = await startControl()));
    after(() => control.close());

    const one = async (t: TestContext, options: Omit<FixtureOptions, "control">, server: { [key: string]: Value }) => {
        const config = { servers: { one: { cmd: control.command(options), ...server } } };
        const gateway = await startGateway({ config }, t);
        const session = await openSession(gateway, "/mcp/one");
        const request: Request = (method, params) => session.request(method, params);
        await answered(request, "echo", { text: "up" });
        return { gateway, session, request, process: await control.started(options.name) };
    };

    test("the end of its process counts once, however many calls it takes along; without calls not at all", async (t) => {
        const { gateway, request, process } = await one(t, { name: "ends" }, PATIENT);
        process.do({ do: "exit", code: 1 });
        await control.started("ends", 2);
        await answered(request, "echo", { text: "again" });
        assert.equal((await brief(gateway, "one")).failures, 0);
        const second = await control.started("ends", 2);
        const held = [call(request, "hold"), call(request, "hold")];
        await second.events.waitFor((event) => event.event === "held");
        await until(async () => (await brief(gateway, "one")).in_flight === 2, "both run");
        const crashed = call(request, "crash");
        for (const each of [...held, crashed]) assert.match(await refusal(each), /may have been carried out/);
        assert.deepEqual(await brief(gateway, "one"), { breaker: "closed", failures: 1, in_flight: 0 });
        await answered(request, "echo", { text: "again" });
        assert.equal((await brief(gateway, "one")).failures, 0);
    });

    test("ends at each call: it opens though every start succeeds", async (t) => {
        const { gateway, request } = await one(t, { name: "crashes" }, PATIENT);
        for (let n = 1; n <= 3; n++) {
            await control.started("crashes", n);
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "one");
            await until(async () => (await health(gateway, "one")).state === "ready", "it is up");
            assert.equal((await brief(gateway, "one")).failures, n - 1, "the start took nothing back");
            await refusal(call(request, "crash"));
        }
        await isRefused(call(request, "echo", { text: "x" }), "one");
        await until(async () => (await health(gateway, "one")).state === "ready", "it is up again");
        assert.equal((await brief(gateway, "one")).breaker, "open");
        await isRefused(call(request, "echo", { text: "x" }), "one");
    });

    test("silence, and an answer that is no message", async (t) => {
        const { gateway, request, process } = await one(t, { name: "bad" }, { ...PATIENT, timeout: "300ms" });
        assert.match(await refusal(call(request, "hold")), /timeout/);
        assert.equal((await brief(gateway, "one")).failures, 1);
        const garbled = call(request, "hold");
        const held = await process.events.waitFor(
            (event) => event.event === "held",
            process.events.items.findIndex((event) => event.event === "held") + 1,
        );
        process.do({ do: "line", line: `{"jsonrpc":"2.0","id":${held.id},"result":` });
        assert.match(await refusal(garbled), /not a valid message/);
        assert.equal((await brief(gateway, "one")).failures, 2);
        await refusal(call(request, "hold"));
        await isRefused(call(request, "echo", { text: "x" }), "one");
    });

    test("does not start any more: it opens; calls that wait are refused, the restart goes on", async (t) => {
        const folder = control.folder;
        const sick = join(folder, "sick");
        const script = `if [ -e "$1" ]; then exit 7; fi; shift; exec "$@"`;
        const cmd = ["/bin/sh", "-c", script, "sh", sick, ...control.command({ name: "sick" })];
        const server = { cmd, ...PATIENT, restart: { initial: "100ms", max: "300ms" } };
        const gateway = await startGateway({ config: { servers: { one: server } } }, t);
        const request = await client(gateway, "legacy", "one");
        await answered(request, "echo", { text: "up" });
        writeFileSync(sick, "");
        await refusal(call(request, "crash"));
        await told(gateway, OPENS);
        await isRefused(call(request, "echo", { text: "x" }), "one");
        assert.ok(existsSync(sick));
        rmSync(sick);
        // Two starts have failed beside one crash: the start takes those two back.
        await told(gateway, CLOSES);
        await answered(request, "echo", { text: "well" });
    });

    test("a call that waits for a start is refused when another owner's calls open it", async (t) => {
        const server = { failure_threshold: 2, cooldown: "1h", restart: { initial: "1900ms", max: "1900ms" } };
        const config = {
            server: { auth: { anonymous: true } },
            servers: { one: { cmd: control.command({ name: "owners" }), ...server } },
        };
        const gateway = await startGateway({ config }, t);
        const ask = (token: string | false): Request => {
            const modern = new ModernClient(gateway, "/mcp/one", { token: token === false ? false : gateway.token });
            return (method, params) => modern.request(method, params);
        };
        const [nobody, local] = [ask(false), ask("local")];
        await answered(nobody, "echo", { text: "up" });
        await answered(local, "echo", { text: "up" });
        await control.started("owners", 2); // a process for each
        await refusal(call(nobody, "crash"));
        await until(async () => (await health(gateway, "one")).state === "down", "it is about to be started again");
        const waiting = call(nobody, "echo", { text: "waits" });
        await until(async () => (await brief(gateway, "one")).in_flight === 1, "it waits");
        assert.equal((await brief(gateway, "one")).failures, 1);
        await refusal(call(local, "crash"));
        await isRefused(waiting, "one");
        assert.equal(control.count("owners"), 2, "before the start that it waited for");
    });

    test("max_in_flight: over all owners and sessions, at the limit and one past it", async (t) => {
        const config = {
            server: { auth: { anonymous: true } },
            servers: { one: { cmd: control.command({ name: "full" }), max_in_flight: 3 } },
        };
        const gateway = await startGateway({ config }, t);
        const anonymous = new ModernClient(gateway, "/mcp/one", { token: false });
        const nobody: Request = (method, params) => anonymous.request(method, params);
        const [local, again] = [await client(gateway, "legacy", "one"), await client(gateway, "legacy", "one")];
        for (const request of [nobody, local]) await answered(request, "echo", { text: "up" });
        const held = [nobody, local, again].map((request) => call(request, "hold"));
        await until(async () => (await brief(gateway, "one")).in_flight === 3, "three run");
        for (const request of [nobody, local, again]) {
            assert.match(await refusal(call(request, "echo")), /one has max_in_flight = 3 calls running/);
        }
        assert.equal((await brief(gateway, "one")).failures, 0, "which is no failure of the server");
        for (const process of control.starts.items.filter((each) => each.name === "full")) process.do({ do: "release" });
        for (const each of held) await said(each);
        await said(call(nobody, "echo"));
        assert.deepEqual(await brief(gateway, "one"), { breaker: "closed", failures: 0, in_flight: 0 });
    });
});

describe("max_in_flight of an HTTP server", { concurrency: 2 }, () => {
    test("over all owners and sessions, at the limit and one past it; who cancels makes room", async (t) => {
        const { fixture, gateway } = await serve(
            t,
            {},
            { max_in_flight: 2 },
            { config: { server: { auth: { anonymous: true } } } },
        );
        const nobody = new ModernClient(gateway, "/mcp/http", { token: false });
        const local = new ModernClient(gateway, "/mcp/http");
        await said(nobody.call("echo", { text: "up" }));
        await said(local.call("echo", { text: "up" }));
        const abort = new AbortController();
        const first = nobody.call("hold", {}, { signal: abort.signal }).catch(() => "gone");
        const second = local.call("hold");
        await fixture.holds(2);
        for (const each of [nobody, local]) {
            assert.match(await refusal(each.call("echo", { text: "x" })), /http has max_in_flight = 2 calls running/);
        }
        abort.abort();
        assert.equal(await first, "gone");
        await until(async () => (await brief(gateway)).in_flight === 1, "there is room");
        await said(nobody.call("echo", { text: "x" }));
        fixture.brain.release();
        await said(second);
        assert.deepEqual(await brief(gateway), { breaker: "closed", failures: 0, in_flight: 0 });
    });

    test("a probe that finds no room is handed on", async (t) => {
        const { fixture, gateway } = await serve(t, modernOnly, {
            max_in_flight: 1,
            failure_threshold: 1,
            cooldown: "200ms",
            timeout: "1s",
        });
        const request = await client(gateway, "modern");
        await said(call(request, "echo", { text: "up" }));
        assert.match(await refusal(call(request, "hold")), /timeout/);
        await isDue(gateway);
        await said(call(request, "echo", { text: "up" }));
        assert.equal((await brief(gateway)).breaker, "closed");
        assert.ok(fixture.received("tools/call").length >= 3);
    });
});

test("one that hangs leaves the calls of another alone, and its own are refused soon", async (t) => {
    const other = await startHttp(modernOnly, t);
    const { fixture, gateway } = await serve(
        t,
        modernOnly,
        { ...PATIENT, timeout: "3s" },
        { servers: { other: { url: other.url } } },
    );
    const [hung, well] = [await client(gateway, "modern"), await client(gateway, "modern", "other")];
    await said(call(hung, "echo", { text: "up" }));
    await said(call(well, "echo", { text: "up" }));
    const calls = Array.from({ length: 25 }, () => refusal(call(hung, "hold")));
    await fixture.holds(25);
    for (let n = 0; n < 20; n++) {
        const answer = await within(call(well, "echo", { text: `${n}` }), "the other one answers");
        assert.equal(await said(answer), `${n}`);
    }
    for (const why of await Promise.all(calls)) assert.match(why, /timeout/);
    await isRefused(call(hung, "echo", { text: "x" }));
    assert.equal((await health(gateway, "other")).breaker, "closed");
    assert.equal((await health(gateway, "other")).failures, 0);
    await said(call(well, "echo", { text: "still" }));
});

describe("/ready", { concurrency: 2 }, () => {
    interface Ready {
        status: string;
        upstreams?: { [key: string]: unknown }[];
    }
    const ask = async (gateway: Gateway, outgoing: Outgoing = {}): Promise<Ready> => {
        const answer = await send(gateway, {
            method: "GET",
            path: "/ready",
            ...outgoing,
            headers: { Accept: undefined, ...outgoing.headers },
        });
        assert.equal(answer.status, 200, answer.text);
        assert.equal(answer.headers["cache-control"], "no-store");
        return JSON.parse(answer.text) as Ready;
    };
    const PLAIN = { status: "ready" };

    test("to strangers, to those with a wrong token, and by another name: ready, no more", async (t) => {
        const { gateway } = await serve(t, modernOnly);
        for (const outgoing of [
            { token: false as const },
            { token: "wrong" },
            { token: `${gateway.token}x` },
            { headers: { Host: "evil.example.com" } },
            { headers: { Origin: "http://evil.example.com" } },
            { headers: { Authorization: [`Bearer ${gateway.token}`, `Bearer ${gateway.token}`] } },
            { headers: { Authorization: `Basic ${gateway.token}` } },
        ]) {
            assert.deepEqual(await ask(gateway, outgoing), PLAIN, JSON.stringify(outgoing));
        }
    });

    test("to callers: each upstream, and never 503 for one of them", async (t) => {
        const { fixture, gateway } = await serve(
            t,
            modernOnly,
            { failure_threshold: 1, cooldown: "1h" },
            { servers: { away: { url: "http://127.0.0.1:9/mcp" }, mine: { url: "http://127.0.0.1:9/mcp", share: "session" } } },
        );
        const request = await client(gateway, "modern");
        await said(call(request, "echo", { text: "up" }));
        const held = call(request, "hold");
        await fixture.holds(1);
        const first = (await ask(gateway)).upstreams!;
        const n_tools = fixture.brain.tools.length;
        assert.deepEqual(first[0], {
            name: "http",
            state: "ready",
            n_tools,
            breaker: "closed",
            failures: 0,
            retry_ms: 0,
            in_flight: 1,
        });
        assert.deepEqual(
            first.map(({ name }) => name),
            ["http", "away", "mine"],
        );
        assert.equal(first[2]!.state, "per session");
        await refusal(call(request, "echo", fixture.act((exchange) => exchange.reset())));
        await until(async () => (await ask(gateway)).upstreams![1]!.breaker === "open", "nobody is there");
        const [http, away] = (await ask(gateway)).upstreams!;
        assert.equal(http!.breaker, "open");
        assert.equal(http!.failures, 1);
        assert.ok(Number(http!.retry_ms) > 3_500_000 && Number(http!.retry_ms) <= 3_600_000, String(http!.retry_ms));
        assert.equal(away!.state, "down");
        const text = JSON.stringify((await ask(gateway)).upstreams);
        assert.doesNotMatch(text, /127\.0\.0\.1|refused|echo/, "no addresses, no texts, no names of tools");
        fixture.brain.release();
        await said(held);

        const printed = await cardea(["status", "--data-dir", gateway.dataDir]);
        assert.match(printed.stdout, /http: ready, \d+ tools, 1 failures in a row, breaker open \(calls are refused for/);
        const head = await send(gateway, { method: "HEAD", path: "/ready" });
        assert.deepEqual([head.status, head.text], [200, ""]);
    });

    test("where nobody needs a token: to all who call us by our name, but not with a wrong one", async (t) => {
        const { gateway } = await serve(t, modernOnly, {}, { config: { server: { auth: { anonymous: true } } } });
        assert.equal((await ask(gateway, { token: false })).upstreams!.length, 1);
        assert.equal((await ask(gateway)).upstreams!.length, 1);
        assert.deepEqual(await ask(gateway, { token: "wrong" }), PLAIN);
        assert.deepEqual(await ask(gateway, { token: false, headers: { Host: "evil.example.com" } }), PLAIN);
        assert.deepEqual(await ask(gateway, { token: false, headers: { Origin: "http://evil.example.com" } }), PLAIN);
    });
});
