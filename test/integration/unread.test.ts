/*
 * Clients that do not read what they asked for: the servers behind the gateway have to wait, or are not heard; the
 * gateway holds little, and everybody else is served.
 */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp, type EventStream } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import { startControl, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { EventParser, openSession, parseResponses, served } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { modernPost, post, Raw } from "./lib/raw.ts";
import { until, within } from "./lib/wait.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** One whose patience with clients that do not read does not end in a test. */
const started = (t: TestContext, servers: { [name: string]: ServerConfig }) =>
    startGateway({ config: { server: { limits: { write_timeout: "10m" } }, servers }, args: ["--log", "info"] }, t);

/** In bytes, as the control socket says. */
async function held(gateway: Gateway): Promise<number> {
    const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
    assert.equal(run.code, 0, run.stderr);
    return (JSON.parse(run.stdout) as { status: { held: number } }).status.held;
}

/** The answer's messages out of what came on a connection, chunks taken apart. */
function messagesOf(bytes: Buffer): RpcMessage[] {
    const messages: RpcMessage[] = [];
    const parser = new EventParser(({ data }) => data !== "" && messages.push(JSON.parse(data) as RpcMessage));
    for (const { body } of parseResponses(bytes)) parser.feed(body);
    return messages;
}

/*
 * What the kernel takes of an answer that nobody reads: the buffers of both ends of both connections. They grow to
 * some MiB each where the machine has as much.
 */
const KERNEL = 40 * MIB;

describe("clients that do not read", { concurrency: 2 }, () => {
    for (const era of ["legacy", "modern"] as const) {
        test(
            `an HTTP server (${era}) is not read on; then it is, and nothing is missing`,
            { timeout: 90_000 },
            async (t) => {
                const fixture = await startHttp(era === "legacy" ? legacyOnly() : modernOnly, t);
                const gateway = await started(t, { http: { url: fixture.url, timeout: "3s" } });
                await served(gateway, "http__echo");
                let sent = 0;
                let stops = false;
                let isFull: () => void;
                const full = new Promise<void>((resolve) => (isFull = resolve));
                const pad = "x".repeat(4000);
                const args = fixture.act(async (exchange) => {
                    const events: EventStream = exchange.sse();
                    const { progressToken } = exchange.message.params!._meta as { progressToken?: unknown };
                    while (!stops) {
                        const params = { progressToken, progress: ++sent, message: pad };
                        events.event({ jsonrpc: "2.0", method: "notifications/progress", params });
                        if (!exchange.socket.writableNeedDrain) continue;
                        if (exchange.socket.writableLength > MIB) {
                            isFull(); /* the kernel takes no more */
                            await new Promise((resolve) => exchange.socket.once("drain", resolve));
                        } else if (sent * pad.length > 2 * KERNEL) {
                            break;
                        } else await new Promise((resolve) => setImmediate(resolve));
                    }
                    events.event(exchange.answer("done"));
                    events.end();
                });
                const raw = new Raw(gateway.port);
                raw.socket.pause();
                const params = { name: "echo", arguments: args, _meta: { progressToken: "mine" } };
                raw.socket.write(modernPost(gateway, "/mcp/http", params));
                await within(full, () => `the server cannot go on; it sent ${sent}`, 60_000);
                assert.ok(sent * pad.length < KERNEL, `${sent} went`);
                const holds = await held(gateway);
                assert.ok(holds < 2 * MIB, `${holds} bytes are held`);
                /* Longer than the server's timeout, while nothing is read of it. */
                const before = sent;
                const later = fixture.act((exchange) => {
                    const events = exchange.sse();
                    const timer = setInterval(() => events.comment(), 500);
                    setTimeout(() => {
                        clearInterval(timer);
                        events.event(exchange.answer("four seconds later"));
                        events.end();
                    }, 4000);
                });
                assert.ok((await new ModernClient(gateway, "/mcp/http").call("echo", later)).result);
                assert.ok(sent * pad.length < KERNEL, `${sent - before} went meanwhile, ${sent} in all`);
                stops = true;
                raw.socket.resume();
                await until(() => raw.bytes.subarray(-8).toString().endsWith("0\r\n\r\n"), "the end", 60_000);
                const messages = messagesOf(raw.bytes);
                assert.equal(messages.length, sent + 1);
                for (const [i, message] of messages.slice(0, -1).entries())
                    assert.equal((message.params as { progress: number }).progress, i + 1);
                assert.ok(messages.at(-1)!.result !== undefined);
                raw.end();
            },
        );
    }

    test("a child's progress is dropped beyond the mark, its answer is not", { timeout: 90_000 }, async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const gateway = await started(t, { one: { cmd: control.command({ name: "one" }) } });
        await served(gateway, "one__progress");
        const steps = 60_000;
        const raw = new Raw(gateway.port);
        raw.socket.pause();
        const params = {
            name: "progress",
            arguments: { steps },
            _meta: { progressToken: "t".repeat(500) },
        };
        raw.socket.write(modernPost(gateway, "/mcp/one", params));
        const from = gateway.log.items.length;
        const entry = await gateway.log.waitFor(
            ({ message }) => message!.startsWith("notifications were dropped"),
            from,
            60_000,
        );
        assert.ok(Number(entry.count) > 0);
        const holds = await held(gateway);
        assert.ok(holds < 2 * MIB, `${holds} bytes are held`);
        raw.socket.resume();
        await until(() => raw.bytes.subarray(-8).toString().endsWith("0\r\n\r\n"), "the end", 60_000);
        const messages = messagesOf(raw.bytes);
        assert.equal(messages.length - 1, steps - Number(entry.count));
        assert.ok(messages.at(-1)!.result !== undefined);
        raw.end();
    });

    test("requests that are pipelined wait until the answers before them are read", { timeout: 60_000 }, async (t) => {
        const fixture = await startHttp(modernOnly, t);
        const gateway = await started(t, { http: { url: fixture.url } });
        await served(gateway, "http__echo");
        const REQUESTS = 60;
        const args = fixture.act((exchange) => exchange.json(exchange.answer("x".repeat(MIB))));
        const raw = new Raw(gateway.port);
        raw.socket.pause();
        const request = modernPost(gateway, "/mcp/http", { name: "echo", arguments: args });
        raw.socket.write(request.repeat(REQUESTS));
        let last = -1;
        await until(async () => {
            const now = fixture.calls(args).length;
            for (let i = 0; i < 3; i++) await held(gateway); /* time enough for another one */
            const isStill = now > 0 && now === last && now === fixture.calls(args).length;
            last = now;
            return isStill;
        }, "no more are begun");
        assert.ok(last < REQUESTS / 2, `${last} of ${REQUESTS} were begun`);
        const holds = await held(gateway);
        assert.ok(holds < 4 * MIB, `${holds} bytes are held`);
        raw.socket.resume();
        await until(() => fixture.calls(args).length === REQUESTS, "all are begun", 30_000);
        await until(() => raw.bytes.length > REQUESTS * MIB, "all is read", 30_000);
        assert.equal(parseResponses(raw.bytes).length, REQUESTS);
        raw.end();
    });

    test(
        "a GET stream that is not read gets no log any more, but learns what has changed",
        { timeout: 60_000 },
        async (t) => {
            const control = await startControl();
            t.after(() => control.close());
            const gateway = await started(t, { one: { cmd: control.command({ name: "one" }) } });
            await served(gateway, "one__echo");
            const session = await openSession(gateway);
            await session.request("logging/setLevel", { level: "debug" });
            const listening = new Raw(gateway.port);
            listening.socket.pause();
            listening.socket.write(
                post(gateway, "", { ...session.headers })
                    .replace("POST", "GET")
                    .replace(/Content-.*\r\n/g, ""),
            );
            const child = await control.starts.waitFor(({ name }) => name === "one");
            for (let i = 0; i < 3000; i++)
                child.notify("notifications/message", { level: "error", data: { i, pad: "x".repeat(10 * KIB) } });
            await child.set({ tools: [{ name: "another", inputSchema: { type: "object" } }] });
            child.notify("notifications/tools/list_changed");
            await served(gateway, "one__another");
            const holds = await held(gateway);
            assert.ok(holds < 2 * MIB, `${holds} bytes are held`);
            listening.socket.resume();
            await until(
                () => listening.bytes.subarray(-200).includes("notifications/tools/list_changed"),
                "the change is told",
                30_000,
            );
            const came = listening.bytes.toString().match(/"notifications\/message"/g)!.length;
            assert.ok(came > 10 && came < 3000, `${came} of 3,000 came`);
            const from = gateway.log.items.length;
            listening.end();
            const entry = await gateway.waitForLog(
                ({ message }) => message!.startsWith("notifications were dropped"),
                from,
            );
            assert.ok(Number(entry.count) > 0 && Number(entry.count) + came <= 3000, `${came} and ${entry.count}`);
        },
    );
});
