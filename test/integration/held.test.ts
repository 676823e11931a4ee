/*
 * server.max_held: what is held for clients and servers in all is bounded, whoever brings it and in whichever way it is
 * left lying; and the bound is no trap: what was held goes, and then everybody is served.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import net from "node:net";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { legacyOnly, modernOnly, startHttp, type Exchange, type HttpFixture } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import type { RpcMessage } from "./lib/control.ts";
import { binary, startGateway, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import { openSession, send, served, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { until, within } from "./lib/wait.ts";

const HOSTILE = fileURLToPath(new URL("./fixtures/hostile.ts", import.meta.url));
const MIB = 1024 * 1024;
const MAX = 16 * MIB;
const ERAS = ["legacy", "modern"] as const;
type Era = (typeof ERAS)[number];

/*
 * What a run may take. Upstreams may exceed the bound by a quarter, and one message of 10 MiB more may be begun, by one
 * of them in each worker. On its way to the client a message is there several times in each worker: as it came, as the
 * answer, as the event, as what is written; and the allocator keeps some of that. A sanitizer keeps 256 MiB of freed
 * memory back and surrounds the rest.
 */
const isSanitized = ["__asan_init", "__tsan_init"].some((name) => readFileSync(binary()).includes(name));
const WORKERS = 2;
const BOUND = MAX * 1.25 + 10 * MIB + WORKERS * 6 * 10 * MIB + (isSanitized ? 400 * MIB : 16 * MIB);

/** In bytes: the most that ever was resident. */
const peak = (gateway: Gateway) =>
    Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${gateway.pid}/status`, "utf8"))![1]) * 1024;

/** What is counted as held, in bytes. The control socket answers whatever is held. */
async function held(gateway: Gateway): Promise<number> {
    const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
    assert.equal(run.code, 0, run.stderr);
    return (JSON.parse(run.stdout) as { status: { held: number } }).status.held;
}

async function holds(gateway: Gateway, predicate: (bytes: number) => boolean, what: string, ms?: number) {
    let last = -1;
    return until(
        async () => predicate((last = await held(gateway))),
        () => `${what}; ${last} bytes are held`,
        ms,
    );
}

async function started(
    t: TestContext,
    servers: { [name: string]: ServerConfig },
    server: { [key: string]: Value } = {},
): Promise<{ gateway: Gateway; isBounded: () => void }> {
    const config = { server: { workers: WORKERS, max_held: "16MiB", ...server }, servers };
    const gateway = await startGateway({ config, args: ["--log", "info"] }, t);
    const first = peak(gateway);
    return {
        gateway,
        isBounded: () => {
            const grown = peak(gateway) - first;
            t.diagnostic(`${Math.round(first / MIB)} MiB at first, ${Math.round(grown / MIB)} MiB more at the most`);
            assert.ok(grown < BOUND, `${grown} bytes more than at first, ${BOUND} are allowed`);
        },
    };
}

/** All is over: nothing is held, and everybody is served. */
async function isOver(gateway: Gateway, ms?: number): Promise<void> {
    await holds(gateway, (bytes) => bytes === 0, "nothing is held any more", ms);
    const other = new ModernClient(gateway);
    assert.equal((await other.ask("tools/list")).status, 200);
    const session = await openSession(gateway);
    assert.deepEqual((await session.request("ping")).result, {});
}

type Call = (name: string, args: { [key: string]: unknown }) => Promise<RpcMessage>;

async function caller(gateway: Gateway, era: Era, name: string): Promise<Call> {
    if (era === "modern") {
        const client = new ModernClient(gateway, `/mcp/${name}`);
        return (tool, args) => client.call(tool, args);
    }
    const session = await openSession(gateway, `/mcp/${name}`);
    return (tool, args) => session.call(tool, args);
}

const httpOptions = (era: Era) => (era === "legacy" ? legacyOnly() : modernOnly);

/** A request of a modern client as bytes. */
function bytesOf(gateway: Gateway, path: string, params: object, method = "tools/call"): string {
    const { headers, body } = new ModernClient(gateway, path).outgoing(method, params as { [key: string]: unknown });
    const content = JSON.stringify(body);
    const fields = {
        Host: `127.0.0.1:${gateway.port}`,
        Authorization: `Bearer ${gateway.token}`,
        Accept: "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Content-Length": String(Buffer.byteLength(content)),
        ...headers,
    };
    const lines = Object.entries(fields).map(([name, value]) => `${name}: ${String(value)}\r\n`);
    return `POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n${content}`;
}

const connected = (port: number) =>
    within(
        new Promise<net.Socket>((resolve, reject) => {
            const socket = net.connect({ host: "127.0.0.1", port }, () => resolve(socket));
            socket.once("error", reject);
        }),
        "a connection",
    ).then((socket) => socket.on("error", () => {}));

/** A whole answer of so many characters. */
const long = (message: RpcMessage, length: number) => {
    const answer = text(message);
    assert.ok(answer.length === length && answer === "x".repeat(length), `${answer.length} of ${length} came`);
};

describe("what is held in all", { concurrency: 3 }, () => {
    test(
        "clients send a part of a long request and fall silent: 30 s later there is room",
        { timeout: 90_000 },
        async (t) => {
            const { gateway, isBounded } = await started(t, { big: { cmd: [process.execPath, HOSTILE, "big"] } });
            await served(gateway, "big__big");
            const request = bytesOf(gateway, "/mcp/big", { name: "big", arguments: { pad: "x".repeat(MIB - 1024) } });
            const sockets = await Promise.all(Array.from({ length: 18 }, () => connected(gateway.port)));
            for (const socket of sockets) socket.resume().write(request.slice(0, -1));
            await holds(gateway, (bytes) => bytes > MAX, "enough is held");
            isBounded();
            await holds(gateway, (bytes) => bytes < MAX / 2, "their patience ends", 45_000);
            assert.equal((await new ModernClient(gateway).ask("tools/list")).status, 200);
            for (const socket of sockets) socket.resetAndDestroy();
            await isOver(gateway);
        },
    );

    test("a client whose request is not read, because too much is held, is not late", async (t) => {
        const { gateway } = await started(
            t,
            { big: { cmd: [process.execPath, HOSTILE, "big"] } },
            { limits: { header_timeout: "300ms" } },
        );
        await served(gateway, "big__big");
        const request = bytesOf(gateway, "/mcp/big", { name: "big", arguments: { pad: "x".repeat(MIB - 1024) } });
        const sockets = await Promise.all(Array.from({ length: 18 }, () => connected(gateway.port)));
        for (const socket of sockets) socket.resume().write(request.slice(0, -1));
        await holds(gateway, (bytes) => bytes > MAX, "enough is held");
        const began = performance.now();
        const session = openSession(gateway);
        session.catch(() => {}); // told below
        await until(() => performance.now() - began > 1200, "four times as long as a head may take");
        for (const socket of sockets) socket.resetAndDestroy();
        assert.deepEqual((await (await session).request("ping")).result, {});
        await isOver(gateway);
    });

    for (const era of ERAS) {
        test(`${era}: clients send long requests to a server that lets them wait`, async (t) => {
            const fixture = await startHttp(httpOptions(era), t);
            const { gateway, isBounded } = await started(t, { http: { url: fixture.url } });
            await served(gateway, "http__echo");
            const call = await caller(gateway, era, "http");
            let isOpen = false;
            const waiting: Exchange[] = [];
            const args = fixture.act((exchange) => {
                if (isOpen) exchange.json(exchange.answer("done"));
                else waiting.push(exchange);
            });
            const calls = Array.from({ length: 60 }, () => call("echo", { ...args, pad: "x".repeat(MIB) }));
            await holds(gateway, (bytes) => bytes > MAX, "enough is held");
            const ping = openSession(gateway);
            assert.ok(waiting.length < 30, `${waiting.length} of 60 came through`);
            isBounded();
            isOpen = true;
            for (const exchange of waiting) exchange.json(exchange.answer("done"));
            await ping;
            for (const answer of await Promise.all(calls)) assert.equal(text(answer), "done");
            assert.equal(fixture.calls(args).length, 60);
            isBounded();
            await isOver(gateway);
        });

        for (const style of ["json", "sse"] as const) {
            test(`${era}: a server answers 9 MiB to many calls at once (${style})`, async (t) => {
                const fixture = await startHttp(httpOptions(era), t);
                const { gateway, isBounded } = await started(t, { http: { url: fixture.url } });
                await served(gateway, "http__echo");
                const call = await caller(gateway, era, "http");
                const answer = "x".repeat(9 * MIB);
                const args = fixture.act((exchange) => {
                    if (style === "json") return exchange.json(exchange.answer(answer));
                    const stream = exchange.sse();
                    stream.event(exchange.answer(answer));
                    stream.end();
                    return undefined;
                });
                const calls = Array.from({ length: 24 }, () => call("echo", args));
                for (const each of calls) long(await within(each, "an answer"), 9 * MIB);
                isBounded();
                await isOver(gateway);
            });
        }
    }

    test("a child answers 9 MiB to many calls at once", async (t) => {
        const { gateway, isBounded } = await started(t, { big: { cmd: [process.execPath, HOSTILE, "big"] } });
        await served(gateway, "big__big");
        const call = await caller(gateway, "modern", "big");
        const calls = Array.from({ length: 24 }, () => call("big", { bytes: 9 * MIB }));
        for (const each of calls) long(await within(each, "an answer"), 9 * MIB);
        isBounded();
        await isOver(gateway);
    });

    test("clients do not read long answers, and then they do", async (t) => {
        const { gateway, isBounded } = await started(t, { big: { cmd: [process.execPath, HOSTILE, "big"] } });
        await served(gateway, "big__big");
        const request = bytesOf(gateway, "/mcp/big", { name: "big", arguments: { bytes: 9 * MIB } });
        const sockets = await Promise.all(Array.from({ length: 16 }, () => connected(gateway.port)));
        for (const socket of sockets) socket.pause().write(request);
        await holds(gateway, (bytes) => bytes > MAX, "enough is held");
        const ping = openSession(gateway);
        isBounded();
        await Promise.all(
            sockets.map(
                (socket) =>
                    new Promise<void>((resolve, reject) => {
                        let got = 0;
                        socket.on("data", (chunk: Buffer) => (got += chunk.length) > 9 * MIB && resolve());
                        socket.once("close", () => reject(new Error(`closed after ${got} bytes`)));
                        socket.resume();
                    }),
            ),
        );
        for (const socket of sockets) socket.destroy();
        await ping;
        isBounded();
        await isOver(gateway);
    });

    /* An end behind bytes that do not fit into the kernel's buffers cannot be seen before they are read. */
    test("clients send a part of a long request and are gone: noticed at once", async (t) => {
        const { gateway, isBounded } = await started(t, { big: { cmd: [process.execPath, HOSTILE, "big"] } });
        await served(gateway, "big__big");
        const request = bytesOf(gateway, "/mcp/big", { name: "big", arguments: { pad: "x".repeat(2 * MIB) } });
        const sockets = await Promise.all(Array.from({ length: 40 }, () => connected(gateway.port)));
        for (const socket of sockets) socket.write(request.slice(0, -1));
        await holds(gateway, (bytes) => bytes > MAX, "enough is held");
        const ping = openSession(gateway);
        for (const socket of sockets) socket.resetAndDestroy();
        await within(ping, "another client is served", 15_000);
        isBounded();
        await isOver(gateway);
    });

    test("a server with many open events that never end: the calls end by their time", async (t) => {
        const bad = await startHttp(legacyOnly(), t);
        const good = await startHttp(modernOnly, t);
        const { gateway, isBounded } = await started(t, {
            bad: { url: bad.url, timeout: "4s" },
            good: { url: good.url },
        });
        await served(gateway, "bad__echo", "good__echo");
        const call = await caller(gateway, "modern", "bad");
        const args = bad.act((exchange) => exchange.sse().raw(`data: ${"x".repeat(9 * MIB)}\n`));
        const calls = Array.from({ length: 24 }, () => call("echo", args));
        await holds(gateway, (bytes) => bytes > MAX, "enough is held");
        const other = await within(
            caller(gateway, "modern", "good").then((good) => good("echo", { text: "well" })),
            "another client is served",
        );
        assert.equal(text(other), "well");
        for (const answer of await Promise.all(calls)) assert.equal(answer.result!.isError, true);
        isBounded();
        await isOver(gateway);
    });

    test("a call is answered although the clients hold all that there is", async (t) => {
        const fixture = await startHttp(modernOnly, t);
        const { gateway, isBounded } = await started(t, { http: { url: fixture.url } });
        await served(gateway, "http__echo");
        const call = await caller(gateway, "modern", "http");
        const waiting: Exchange[] = [];
        const args = fixture.act((exchange) => void waiting.push(exchange));
        const first = call("echo", args);
        await until(() => waiting.length === 1, "the first call waits");
        const request = bytesOf(gateway, "/mcp/http", { name: "echo", arguments: { pad: "x".repeat(2 * MIB) } });
        const sockets = await Promise.all(Array.from({ length: 40 }, () => connected(gateway.port)));
        for (const socket of sockets) socket.write(request.slice(0, -1));
        await holds(gateway, (bytes) => bytes > MAX, "enough is held");
        waiting[0]!.json(waiting[0]!.answer("x".repeat(9 * MIB)));
        long(await within(first, "its answer", 15_000), 9 * MIB);
        isBounded();
        for (const socket of sockets) socket.resetAndDestroy();
        await isOver(gateway);
    });

    test("long requests for a server that is not up yet are held, too", async (t) => {
        const fixture = await startHttp({ ...modernOnly, on: () => new Promise<boolean>(() => {}) }, t);
        const { gateway, isBounded } = await started(t, { slow: { url: fixture.url, startup_timeout: "5s" } });
        const call = await caller(gateway, "modern", "slow");
        const calls = Array.from({ length: 60 }, () => call("echo", { pad: "x".repeat(MIB) }));
        await holds(gateway, (bytes) => bytes > MAX, "enough is held");
        isBounded();
        await Promise.all(calls);
        isBounded();
        await isOver(gateway);
    });

    test("what is pipelined behind a call is held, too", async (t) => {
        const fixture = await startHttp(modernOnly, t);
        const { gateway, isBounded } = await started(t, { http: { url: fixture.url } });
        await served(gateway, "http__echo");
        const waiting: Exchange[] = [];
        const args = fixture.act((exchange) => void waiting.push(exchange));
        const first = bytesOf(gateway, "/mcp/http", { name: "echo", arguments: args });
        const behind = bytesOf(gateway, "/mcp/http", { name: "echo", arguments: { pad: "x".repeat(100 * 1024) } });
        const sockets = await Promise.all(Array.from({ length: 300 }, () => connected(gateway.port)));
        for (const socket of sockets) socket.resume().write(first + behind);
        await holds(gateway, (bytes) => bytes > MAX, "enough is held");
        isBounded();
        for (const exchange of waiting) exchange.json(exchange.answer("done"));
        for (const socket of sockets) socket.resetAndDestroy();
        await isOver(gateway);
    });
});
