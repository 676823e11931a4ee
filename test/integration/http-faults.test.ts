/*
 * HTTP servers that fail in unlucky moments: what becomes of the gateway's own state, of requests that nobody answers,
 * and of what a caller is told then.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { legacyOnly, type Exchange } from "./fixtures/http-server.ts";
import { openSession, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { call, client, downReason, refusal, said, serve, status } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const legacy = legacyOnly();
const LEVEL = "io.modelcontextprotocol/logLevel";

describe("a session", { concurrency: 4 }, () => {
    for (const [what, id] of [
        ["is no text", "with space"],
        ["is too long", "x".repeat(2000)],
    ] as const) {
        test(`whose id ${what}, on an answer that is none either: refused once`, async (t) => {
            const { fixture, gateway } = await serve(t, {
                ...legacy,
                on: (exchange) => {
                    if (exchange.message.method !== "initialize") return false;
                    exchange.text(200, "text/plain", "hello", { "Mcp-Session-Id": id });
                    return true;
                },
            });
            assert.match(await downReason(gateway, "http"), /session/i);
            await until(() => fixture.received("initialize").length >= 2, "it is tried again");
        });
    }

    test("with a server that knows no GET and says 404 for it, late: it stays", async (t) => {
        const gets: Exchange[] = [];
        const { fixture, gateway } = await serve(t, {
            ...legacy,
            on: (exchange) => {
                if (exchange.request.method !== "GET") return false;
                gets.push(exchange);
                return true;
            },
        });
        const request = await client(gateway, "legacy");
        assert.equal(await said(call(request, "echo", { text: "before" })), "before");
        await fixture.receives("GET");
        gets[0]!.text(404, "text/html", "Cannot GET /mcp");
        assert.equal((await status(gateway)).get("http")!.state, "ready");
        for (let i = 0; i < 5; i++) assert.equal(await said(call(request, "echo", { text: `${i}` })), `${i}`);
        assert.equal(fixture.received("initialize").length, 1);
        assert.equal(gets.length, 1);
    });

    test("that never gets ready is ended, not left with the server", async (t) => {
        const { fixture, gateway } = await serve(
            t,
            { ...legacy, on: (exchange) => exchange.message.method === "tools/list" },
            { startup_timeout: "1s" },
        );
        const first = await fixture.requests.waitFor((each) => each.message?.method === "tools/list");
        assert.match(await downReason(gateway, "http"), /startup_timeout/);
        const session = first.field("mcp-session-id");
        assert.ok(session);
        await fixture.requests.waitFor(
            (each) => each.method === "DELETE" && each.field("mcp-session-id") === session,
        );
    });

    test("that was lost while its GET stream ran: opened again by the stream", async (t) => {
        const { fixture, gateway } = await serve(t, { ...legacy, get: "stream" });
        await said(call(await client(gateway, "legacy"), "echo", { text: "" }));
        await until(() => fixture.streams.size > 0, "the gateway listens");
        const [stream] = fixture.streams;
        fixture.expire();
        stream!.end();
        await until(() => fixture.received("initialize").length === 2, "another session");
    });
});

describe("a request of the gateway's own that is never answered", { concurrency: 4 }, () => {
    const silent = (method: string) => ({
        ...legacy,
        on: (exchange: Exchange) => exchange.message.method === method,
    });

    test("logging/setLevel: calls do not wait for it for ever", async (t) => {
        const { fixture, gateway } = await serve(t, silent("logging/setLevel"), {
            startup_timeout: "1s",
            timeout: "5s",
        });
        const modern = new ModernClient(gateway, "/mcp/http");
        const answer = modern.call("echo", { text: "heard" }, { meta: { [LEVEL]: "debug" } });
        assert.equal(await said(answer), "heard");
        assert.equal(fixture.received("logging/setLevel").length, 1);
        assert.equal(await said(modern.call("echo", { text: "again" })), "again");
    });

    test("tools/list: the next change is read", async (t) => {
        let lists = 0;
        const { fixture, gateway } = await serve(
            t,
            {
                ...legacy,
                get: "stream",
                on: (exchange) => exchange.message.method === "tools/list" && ++lists === 2,
            },
            { startup_timeout: "1s" },
        );
        await said(call(await client(gateway, "legacy"), "echo", { text: "" }));
        await until(() => fixture.streams.size > 0, "the gateway listens");
        fixture.announce("notifications/tools/list_changed");
        await until(() => lists === 2, "the change is read");
        const unanswered = fixture.received("tools/list")[1]!;
        await within(unanswered.closed, "the silent one is given up");
        fixture.announce("notifications/tools/list_changed");
        await until(() => lists >= 3, "the next one is read too");
    });

    test("notifications/cancelled: its connection is given up", async (t) => {
        const { fixture, gateway } = await serve(t, silent("notifications/cancelled"), {
            startup_timeout: "1s",
            timeout: "200ms",
        });
        assert.match(await refusal(call(await client(gateway, "legacy"), "hold")), /200 ms/);
        const told = await fixture.receives("notifications/cancelled");
        await within(told.closed, "the silent one is given up");
    });
});

describe("a stream that cannot be taken up again", { concurrency: 4 }, () => {
    test("the server refuses: what it says is not the call's answer", async (t) => {
        const { fixture, gateway } = await serve(t, {
            ...legacy,
            on: (exchange) => {
                if (exchange.request.field("last-event-id") === undefined) return false;
                exchange.json({ jsonrpc: "2.0", id: null, error: { code: -32000, message: "Method not allowed" } }, 405);
                return true;
            },
        });
        const args = fixture.act((exchange) => {
            const stream = exchange.sse();
            stream.raw("id: one\nretry: 1\ndata: \n\n");
            stream.end();
        });
        const text = await refusal(call(await client(gateway, "legacy"), "echo", args));
        assert.match(text, /may have been carried out/);
        assert.equal(fixture.calls(args).length, 1);
    });

    test("the server is gone: the call may have been carried out", async (t) => {
        const { fixture, gateway } = await serve(t, legacy);
        const args = fixture.act((exchange) => {
            const stream = exchange.sse();
            stream.raw("id: one\nretry: 500\ndata: \n\n");
            stream.end();
            setImmediate(() => void fixture.close());
        });
        const text = await refusal(call(await client(gateway, "legacy"), "echo", args));
        assert.match(text, /may have been carried out/);
        assert.equal(fixture.calls(args).length, 1);
    });
});

test("400 for a call's own sake, with a word about a session, is the call's answer", async (t) => {
    const { fixture, gateway } = await serve(t, legacy);
    const args = fixture.act((exchange) => exchange.error(-32602, "no such session: it is a parameter", 400));
    const answer = await call(await client(gateway, "legacy"), "echo", args);
    assert.equal(answer.error?.code, -32602, JSON.stringify(answer));
    assert.equal(fixture.calls(args).length, 1, "it is not sent again");
    assert.equal(fixture.received("initialize").length, 1);
});

for (const [rules, expected] of [
    [[], /^cardea\/[\d.]+$/],
    [[{ rule: "insert", name: "User-Agent", value: "mine" }], /^mine$/],
] as const) {
    test(`User-Agent is there once: ${expected}`, async (t) => {
        const { fixture, gateway } = await serve(t, legacy, { headers: [...rules] });
        await said(call(await client(gateway, "legacy"), "echo", { text: "" }));
        assert.match(fixture.received("tools/call")[0]!.field("user-agent") ?? "", expected);
    });
}

test("a stream that ends again and again is not asked for as fast as the server likes", async (t) => {
    const again = (exchange: Exchange) => {
        const stream = exchange.sse();
        stream.raw("id: one\nretry: 1\ndata: \n\n");
        stream.end();
        return true;
    };
    const { fixture, gateway } = await serve(
        t,
        { ...legacy, on: (exchange) => exchange.request.field("last-event-id") !== undefined && again(exchange) },
        { timeout: "2500ms", max_timeout: "2500ms" },
    );
    assert.match(await refusal(call(await client(gateway, "legacy"), "echo", fixture.act(again))), /2500 ms/);
    const n = fixture.received("GET").filter((get) => get.field("last-event-id") !== undefined).length;
    assert.ok(n >= 10 && n <= 15, `${n} times`);
});

describe("more calls than one server is given", () => {
    test("1,024 run, and those beyond are refused", async (t) => {
        const config = { server: { limits: { max_in_flight: 2000 } } }; // of one caller
        const { fixture, gateway } = await serve(t, legacy, {}, { config });
        const session = await openSession(gateway, "/mcp/http", "2025-03-26");
        await said(session.call("echo", { text: "up" }));
        const streams: Stream[] = [];
        const open = [];
        for (let i = 0; i < 11; i++) {
            const body = Array.from({ length: 100 }, (_, k) => ({
                jsonrpc: "2.0",
                id: `${i}-${k}`,
                method: "tools/call",
                params: { name: "hold", arguments: {} },
            }));
            open.push(session.stream({ body }).then((stream) => streams.push(stream)));
        }
        const answers = () => streams.flatMap((stream) => stream.messages.items);
        await fixture.holds(1024);
        await until(
            () => answers().length >= 76,
            () => `76 are refused, not ${answers().length}`,
        );
        for (const answer of answers()) assert.match(await refusal(answer), /max_in_flight = 1024/);
        assert.equal(fixture.brain.held, 1024);
        fixture.brain.release();
        await Promise.all(open);
        await Promise.all(streams.map((stream) => stream.ended));
        assert.equal(answers().length, 1100);
    });
});

describe("the end with everything in flight", { concurrency: 4 }, () => {
    for (const era of ["legacy", "modern"] as const) {
        test(`${era}: told twice, while calls, streams and the end of the session hang`, async (t) => {
            const { fixture, gateway } = await serve(
                t,
                {
                    ...(era === "legacy" ? legacy : {}),
                    get: "stream",
                    on: (exchange) =>
                        exchange.request.method === "DELETE" ||
                        exchange.message.method === "notifications/cancelled",
                },
                { shutdown_timeout: "300ms" },
            );
            const modern = new ModernClient(gateway, "/mcp/http");
            const session = await openSession(gateway, "/mcp/http");
            const calls = [];
            for (let i = 0; i < 4; i++) {
                calls.push(modern.call("hold").catch(() => undefined), session.call("hold", {}).catch(() => undefined));
            }
            await fixture.holds(8);
            process.kill(gateway.pid, "SIGTERM");
            await gateway.waitForLog(({ message }) => message === "draining");
            await gateway.stop();
            assert.ok(gateway.log.items.some(({ message }) => message === "stops at once"));
            await Promise.all(calls);
        });
    }
});
