/*
 * The limits of messages that can be configured, and those that only the whole gateway shows: each at its limit, where
 * it passes, and one past it, where the refusal names limit and value. What a parser refuses by itself has its table in
 * the unit tests (http/test_limits.c, json/test_reader.c, mcp/test_message.c, upstream/test_catalog.c).
 */
import assert from "node:assert/strict";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { HttpFixture } from "./fixtures/http-server.ts";
import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, send, served, type Answer, type Session } from "./lib/http.ts";
import { until, within } from "./lib/wait.ts";

const DEPTH = 12;
const KEYS = 64;
const MESSAGE = 64 * 1024;

/** Arrays inside each other, so many deep. */
const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)]);
const keys = (count: number): object => Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, n]));
const said = (message: RpcMessage | undefined): string =>
    message?.error?.message ?? (message?.result?.content as { text: string }[] | undefined)?.[0]?.text ?? "";

describe("limits of messages", () => {
    let control: Control;
    let http: HttpFixture;
    let gateway: Gateway;
    let session: Session;
    let child: FixtureProcess;

    before(async () => {
        control = await startControl();
        http = new HttpFixture({ get: 405 });
        await http.listen();
        const server = { limits: { max_json_depth: DEPTH, max_json_keys: KEYS }, max_request_body: "64KiB" };
        const servers = {
            it: { cmd: control.command({ name: "it" }), max_message: "64KiB" },
            web: { url: http.url, max_message: "64KiB" },
        };
        gateway = await startGateway({ config: { server, servers } });
        await served(gateway, "it__hold", "web__echo");
        session = await openSession(gateway);
        child = await control.started("it");
    });
    after(async () => {
        await gateway.stop();
        await http.close();
        await control.close();
    });

    const post = (method: string, params: object, id: unknown = 1): Promise<Answer> =>
        session.send({ body: { jsonrpc: "2.0", id, method, params } });
    const echo = (args: object): Promise<Answer> => post("tools/call", { name: "it__echo", arguments: args });

    describe("of clients", () => {
        test("max_json_depth", async () => {
            // The message, params and arguments are three levels.
            const fits = await echo({ text: "", deep: nested(DEPTH - 3) });
            assert.equal(fits.status, 200, fits.text);
            const past = await echo({ text: "", deep: nested(DEPTH - 2) });
            assert.equal(past.status, 400);
            assert.match(past.text, new RegExp(`nested deeper than max_json_depth, ${DEPTH}`));
        });

        test("max_json_keys", async () => {
            assert.equal((await echo({ text: "", wide: keys(KEYS) })).status, 200);
            const past = await echo({ text: "", wide: keys(KEYS + 1) });
            assert.equal(past.status, 400);
            assert.match(past.text, new RegExp(`an object with more keys than max_json_keys, ${KEYS}`));
        });

        test("the length of an id", async () => {
            // With its quotes it has 1,024 bytes.
            assert.equal((await post("ping", {}, "i".repeat(1022))).status, 200);
            const past = await post("ping", {}, "i".repeat(1023));
            assert.equal(past.status, 400);
            assert.match(past.text, /id/);
        });

        test("the length of a method", async () => {
            const fits = await post("m".repeat(128), {});
            assert.match(fits.text, /-32601/);
            const past = await post("m".repeat(129), {});
            assert.match(past.text, /method must have 1 to 128 bytes/);
        });

        test("the length of what is named", async () => {
            const fits = await post("resources/read", { uri: `x:${"u".repeat(8190)}` });
            assert.doesNotMatch(said(fits.messages.at(-1)), /longer/);
            const past = await post("resources/read", { uri: `x:${"u".repeat(8191)}` });
            assert.match(said(past.messages.at(-1)), /longer than 8,192 bytes/);
        });

        test("messages of a batch", async () => {
            const old = await openSession(gateway, "/mcp", "2025-03-26");
            const pings = (count: number) =>
                old.send({ body: Array.from({ length: count }, (_, id) => ({ jsonrpc: "2.0", id, method: "ping" })) });
            const fits = await pings(100);
            assert.equal(fits.status, 200);
            assert.equal(fits.messages.length, 100);
            const past = await pings(101);
            assert.equal(past.status, 400);
            assert.match(past.text, /the batch has more than 100 messages/);
        });

        test("a command on the control socket", async () => {
            const run = (length: number): Promise<string> => {
                const socket = net.connect(join(gateway.dataDir, "control.sock"));
                const frame = '{"command":"status","x":""}';
                socket.write(`${frame.replace('"x":""', `"x":"${"y".repeat(length - frame.length)}"`)}\n`);
                return within(
                    new Promise((resolve) => {
                        let text = "";
                        socket.setEncoding("utf8").on("data", (chunk: string) => {
                            text += chunk;
                            if (text.endsWith("\n")) socket.destroy();
                        });
                        socket.on("error", () => {});
                        socket.on("close", () => resolve(text));
                    }),
                    "the control socket answers or closes",
                );
            };
            assert.match(await run(64 * 1024), /^\{"ok":true/);
            assert.equal(await run(64 * 1024 + 1), "");
        });
    });

    describe("of a child", () => {
        /** What a call gets whose answer is this line, made for its id. */
        const answered = async (make: (id: unknown) => string): Promise<RpcMessage> => {
            const from = child.events.items.length;
            const call = session.call("it__hold");
            const held = await child.events.waitFor((event) => event.event === "held", from);
            child.do({ do: "line", line: make(held.id) });
            return call;
        };
        const result = (id: unknown, more: object): string =>
            JSON.stringify({ jsonrpc: "2.0", id, result: { content: [], ...more } });

        /** It is started once more; until now so often. */
        const startedAgain = async (starts: number): Promise<void> => {
            child = await control.started("it", starts + 1);
            await until(async () => (await session.call("it__echo")).result?.isError !== true, "it is started again");
        };

        test("max_json_depth", async () => {
            // The message, result and structuredContent are three levels.
            const fits = await answered((id) => result(id, { structuredContent: { deep: nested(DEPTH - 3) } }));
            assert.equal(fits.error, undefined);
            assert.notEqual(fits.result?.isError, true);
            const past = await answered((id) => result(id, { structuredContent: { deep: nested(DEPTH - 2) } }));
            assert.match(said(past), new RegExp(`not a valid message.*nested deeper than max_json_depth, ${DEPTH}`));
        });

        test("max_json_keys", async () => {
            const fits = await answered((id) => result(id, { structuredContent: keys(KEYS) }));
            assert.notEqual(fits.result?.isError, true);
            const past = await answered((id) => result(id, { structuredContent: keys(KEYS + 1) }));
            assert.match(said(past), new RegExp(`more keys than max_json_keys, ${KEYS}`));
        });

        test("max_message", async () => {
            const line = (id: unknown, length: number): string => {
                const short = result(id, { structuredContent: { fill: "" } });
                return short.replace('"fill":""', `"fill":"${"f".repeat(length - short.length)}"`);
            };
            const fits = await answered((id) => line(id, MESSAGE));
            assert.equal((fits.result?.structuredContent as { fill: string }).fill.length > MESSAGE - 200, true);
            const from = gateway.log.items.length;
            const starts = control.count("it");
            const past = await answered((id) => line(id, MESSAGE + 1));
            assert.match(said(past), /stopped before it answered/);
            assert.match(said(past), new RegExp(`longer than max_message, ${MESSAGE}`));
            const down = await gateway.waitForLog(
                (entry) => entry.message === "is down" && entry.upstream === "it",
                from,
            );
            assert.match(String(down.reason), new RegExp(`longer than max_message, ${MESSAGE}`));
            await startedAgain(starts);
        });

        test("lines that are no messages", async () => {
            for (let n = 0; n < 1000; n++) child.do({ do: "line", line: "no message" });
            assert.notEqual((await session.call("it__echo")).result?.isError, true);
            const from = gateway.log.items.length;
            const starts = control.count("it");
            child.do({ do: "line", line: "one more" });
            const down = await gateway.waitForLog(
                (entry) => entry.message === "is down" && entry.upstream === "it",
                from,
            );
            assert.match(String(down.reason), /more than 1,000 lines that are no messages/);
            await startedAgain(starts);
        });
    });

    describe("of an HTTP server", () => {
        const call = (args: object): Promise<RpcMessage> =>
            session.call("web__echo", args as { [key: string]: unknown });
        const filled = (answer: object, length: number): string => {
            const short = JSON.stringify({ ...answer, fill: "" });
            return short.replace('"fill":""', `"fill":"${"f".repeat(length - short.length)}"`);
        };
        const refusal = new RegExp(`longer than mcp\\.servers\\.web\\.max_message, ${MESSAGE}`);

        test("max_message: a body", async () => {
            const fits = http.act((exchange) =>
                exchange.text(200, "application/json", filled(exchange.answer("fits"), MESSAGE)),
            );
            assert.equal(said(await call(fits)), "fits");
            const past = http.act((exchange) =>
                exchange.text(200, "application/json", filled(exchange.answer("past"), MESSAGE + 1)),
            );
            assert.match(said(await call(past)), refusal);
        });

        test("max_message: an event", async () => {
            const fits = http.act((exchange) => {
                const events = exchange.sse();
                events.event(filled(exchange.answer("fits"), MESSAGE));
                events.end();
            });
            assert.equal(said(await call(fits)), "fits");
            const past = http.act((exchange) => {
                const events = exchange.sse();
                events.event(filled(exchange.answer("past"), MESSAGE + 1));
                events.end();
            });
            assert.match(said(await call(past)), refusal);
        });

        test("max_json_depth", async () => {
            const deep = (depth: number) =>
                http.act((exchange) =>
                    exchange.json({
                        jsonrpc: "2.0",
                        id: exchange.message.id,
                        result: { ...exchange.answer("deep").result, structuredContent: { deep: nested(depth) } },
                    }),
                );
            assert.equal(said(await call(deep(DEPTH - 3))), "deep");
            assert.match(said(await call(deep(DEPTH - 2))), new RegExp(`nested deeper than max_json_depth, ${DEPTH}`));
        });

        test("messages in one answer that are none", async () => {
            const some = (count: number) =>
                http.act((exchange) => {
                    const events = exchange.sse();
                    for (let n = 0; n < count; n++) events.event("no message");
                    events.event(exchange.answer("at last"));
                    events.end();
                });
            assert.equal(said(await call(some(10))), "at last");
            assert.match(said(await call(some(11))), /not a valid message/);
        });

        test("the length of a session id", async (t) => {
            let length = 1024;
            const strange = new HttpFixture({
                get: 405,
                sessions: false,
                revisions: ["2025-11-25"],
                on: (exchange) => {
                    if (exchange.message.method !== "initialize") return false;
                    exchange.result(
                        {
                            protocolVersion: "2025-11-25",
                            capabilities: { tools: {} },
                            serverInfo: { name: "s", version: "1" },
                        },
                        { "Mcp-Session-Id": "s".repeat(length) },
                    );
                    return true;
                },
            });
            await strange.listen();
            t.after(() => strange.close());
            const servers = { strange: { url: strange.url } };
            const fits = await startGateway({ config: { servers } }, t);
            await fits.waitForLog((entry) => entry.message === "ready" && entry.upstream === "strange");
            length = 1025;
            const past = await startGateway({ config: { servers } }, t);
            const down = await past.waitForLog((entry) => entry.message === "is down");
            assert.match(String(down.reason), /at most 1,024 bytes/);
        });
    });

    test("it lives", async () => {
        const health = await send({ port: gateway.port, token: "" }, { method: "GET", path: "/health" });
        assert.equal(health.status, 200);
    });
});
