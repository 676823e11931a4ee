/*
 * What clients may make the gateway hold, and for how long: each limit of [server.limits] at the limit and one past it,
 * each refusal with the limit's name and value; and clients that are slow.
 */
import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { binary, startGateway, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import { openSession, parseResponses, served, type RawAnswer } from "./lib/http.ts";
import { descriptors, unlessRoot } from "./lib/proc.ts";
import { modernPost, post, Raw } from "./lib/raw.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const HOSTILE = fileURLToPath(new URL("./fixtures/hostile.ts", import.meta.url));
const KIB = 1024;
const MIB = 1024 * KIB;

type Limits = { [key: string]: Value };

const started = (
    t: TestContext,
    limits: Limits,
    servers: { [name: string]: ServerConfig } = {},
    server: { [key: string]: Value } = {},
) => startGateway({ config: { server: { ...server, limits }, servers }, args: ["--log", "info"] }, t);

/** That many connections that are served. */
async function crowd(gateway: Gateway, n: number, localAddress?: string): Promise<Raw[]> {
    const all = Array.from({ length: n }, () => new Raw(gateway.port, localAddress));
    for (const each of all) assert.equal(await each.health(), 200);
    return all;
}

function refusedWith(answers: RawAnswer[], status: number, ...words: string[]): string {
    assert.equal(answers.length, 1);
    const [answer] = answers;
    assert.equal(answer!.status, status, answer!.body);
    assert.equal(answer!.headers.get("connection"), "close");
    const body = JSON.parse(answer!.body) as { error: { code: number; message: string } };
    for (const word of words) assert.ok(body.error.message.includes(word), `${word} in: ${body.error.message}`);
    return body.error.message;
}

/** Writes a byte again and again until the connection is closed. */
function drip(raw: Raw, ms: number, byte = "x"): void {
    const timer = setInterval(() => raw.socket.write(byte), ms);
    void raw.closed.then(() => clearInterval(timer));
}

const elapsed = async (run: Promise<unknown>): Promise<number> => {
    const began = performance.now();
    await run;
    return performance.now() - began;
};

describe("connections", { concurrency: 3 }, () => {
    test("in all: as many as configured, over both workers; the next one gets 503, the others live on", async (t) => {
        const gateway = await started(t, { max_connections: 16 });
        const inside = await crowd(gateway, 16);
        for (let i = 0; i < 3; i++) {
            const answers = await new Raw(gateway.port).answers();
            refusedWith(answers, 503, "16", "server.limits.max_connections");
            assert.match(answers[0]!.headers.get("retry-after")!, /^\d+$/);
        }
        for (const each of inside) assert.equal(await each.health(), 200);
        inside[7]!.end();
        const next = await until(async () => {
            const raw = new Raw(gateway.port);
            return (await raw.health()) === 200 && raw;
        }, "there is room again");
        refusedWith(await new Raw(gateway.port).answers(), 503);
        for (const each of [...inside, next]) each.end();
    });

    test("a client that sends its request at once reads the refusal all the same", async (t) => {
        const gateway = await started(t, { max_connections: 16 });
        const inside = await crowd(gateway, 16);
        for (let i = 0; i < 20; i++) {
            const raw = new Raw(gateway.port);
            raw.socket.write(post(gateway, "x".repeat(8 * KIB)));
            refusedWith(await raw.answers(), 503, "max_connections");
        }
        for (const each of inside) each.end();
    });

    test("of one address; another one is let in, and a trusted proxy is not counted", async (t) => {
        const limits = { max_connections_per_address: 5 };
        const gateway = await started(t, limits, {}, { trusted_proxies: ["127.0.0.8/30"] });
        const inside = await crowd(gateway, 5);
        const refused = await new Raw(gateway.port).answers();
        refusedWith(refused, 503, "5", "server.limits.max_connections_per_address");
        const others = await crowd(gateway, 5, "127.0.0.2");
        refusedWith(await new Raw(gateway.port, "127.0.0.2").answers(), 503);
        const proxy = await crowd(gateway, 20, "127.0.0.9");
        for (const each of [...inside, ...others, ...proxy]) each.end();
        await until(async () => (await new Raw(gateway.port).health()) === 200, "there is room again");
    });

    test("a crowd at the door fills neither the log nor the table of descriptors", { skip: unlessRoot }, async (t) => {
        const gateway = await started(t, { max_connections: 16 });
        const inside = await crowd(gateway, 16);
        const before = descriptors(gateway);
        const from = gateway.log.items.length;
        /* They neither read nor go. */
        const outside = Array.from({ length: 600 }, () => {
            const socket = net.connect({ host: "127.0.0.1", port: gateway.port, allowHalfOpen: true });
            socket.on("error", () => {}).pause();
            return socket;
        });
        let most = 0;
        const told = () => {
            most = Math.max(most, descriptors(gateway));
            const entries = gateway.log.items.slice(from).filter(({ message }) => message === "refused connections");
            return entries.reduce((sum, entry) => sum + Number(entry.max_connections), 0) === 600 && entries;
        };
        const entries = await until(told, "all are told of");
        assert.ok(entries.length <= 10, `${entries.length} lines`);
        assert.ok(most - before <= 2 * 64 + 4, `${most - before} descriptors more`);
        for (const each of inside) assert.equal(await each.health(), 200);
        await until(() => descriptors(gateway) <= before, "the refused ones are closed, whatever they do");
        for (const each of [...outside, ...inside.map(({ socket }) => socket)]) each.destroy();
    });

    test("fewer where the process may not open as many, and the log says so", async (t) => {
        const folder = temporaryFolder();
        const wrapper = join(folder, "few-descriptors");
        writeFileSync(wrapper, `#!/bin/sh\nulimit -n 400\nexec '${binary()}' "$@"\n`);
        chmodSync(wrapper, 0o755);
        const real = process.env.CARDEA_BIN;
        process.env.CARDEA_BIN = wrapper;
        const starting = started(t, {}, {}, { workers: 1 });
        if (real === undefined) delete process.env.CARDEA_BIN;
        else process.env.CARDEA_BIN = real;
        const gateway = await starting;
        const said = gateway.log.items.find(({ message }) => message?.startsWith("fewer connections than"))!;
        assert.equal(said.descriptors, 400);
        const most = Number(said.connections);
        assert.ok(most >= 16 && most <= 250, String(most));
        const inside = await crowd(gateway, most);
        refusedWith(await new Raw(gateway.port).answers(), 503, String(most));
        for (const each of inside) each.end();
    });
});

describe("slow clients", { concurrency: 4 }, () => {
    test("a head has its time as a whole, however it drips in", async (t) => {
        const gateway = await started(t, { header_timeout: "800ms", idle_timeout: "20s" });
        const slow = new Raw(gateway.port);
        slow.socket.write("GET /health HTTP/1.1\r\nX: ");
        drip(slow, 50);
        const took = await elapsed(slow.closed);
        refusedWith(await slow.answers(), 408, "server.limits.header_timeout", "800");
        assert.ok(took >= 700 && took < 6000, `${took} ms`);
        /* The second request of a connection has as much. */
        const second = new Raw(gateway.port);
        assert.equal(await second.health(), 200);
        second.socket.write("GET /hea");
        drip(second, 50);
        const answers = await second.answers();
        assert.deepEqual(
            answers.map(({ status }) => status),
            [200, 408],
        );
    });

    test("who says nothing has a head's time at first and idle_timeout later", async (t) => {
        const gateway = await started(t, { header_timeout: "400ms", idle_timeout: "1500ms" });
        const silent = new Raw(gateway.port);
        assert.ok((await elapsed(within(silent.closed, "it is closed"))) < 1400);
        assert.equal(silent.bytes.length, 0);
        const idle = new Raw(gateway.port);
        assert.equal(await idle.health(), 200);
        const took = await elapsed(within(idle.closed, "it is closed"));
        assert.ok(took >= 1400, `${took} ms`);
        assert.equal(parseResponses(idle.bytes).length, 1);
    });

    test("a body may not fall silent", async (t) => {
        const gateway = await started(t, { body_timeout: "600ms" });
        const slow = new Raw(gateway.port);
        slow.socket.write(post(gateway, "x".repeat(100), { "Content-Length": "200" }));
        refusedWith(await slow.answers(), 408, "server.limits.body_timeout", "600");
    });

    test("a body may not drip, but it may be slow", { timeout: 60_000 }, async (t) => {
        const gateway = await started(t, { body_timeout: "600ms" });
        const dripping = new Raw(gateway.port);
        dripping.socket.write(post(gateway, "", { "Content-Length": "100000" }));
        drip(dripping, 100);
        const took = await elapsed(dripping.closed);
        refusedWith(await dripping.answers(), 408, "server.limits.body_timeout", "600");
        assert.ok(took < 6000, `${took} ms`);

        const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping", params: { pad: "x".repeat(40 * KIB) } });
        const steady = new Raw(gateway.port);
        steady.socket.write(post(gateway, "", { "Content-Length": String(body.length), Connection: "close" }));
        let at = 0;
        const timer = setInterval(() => {
            if (at < body.length) steady.socket.write(body.slice(at, (at += 2 * KIB)));
            else clearInterval(timer);
        }, 150);
        const [answer] = await steady.answers();
        assert.equal(answer!.status, 400); /* there is no session; but it was heard out */
        assert.match(answer!.body, /Mcp-Session-Id/);
    });

    test("an answer that nobody reads is dropped after write_timeout", async (t) => {
        const limits = { write_timeout: "1s", idle_timeout: "60s" };
        const gateway = await started(t, limits, { big: { cmd: [process.execPath, HOSTILE, "big"] } });
        await served(gateway, "big__big");
        const from = gateway.log.items.length;
        const raw = new Raw(gateway.port);
        raw.socket.pause().write(modernPost(gateway, "/mcp/big", { name: "big", arguments: { bytes: 9 * MIB } }));
        const entry = await gateway.waitForLog(({ message }) => message!.includes("write_timeout"), from);
        assert.equal(entry.write_timeout_ms, 1000);
        raw.socket.resume();
        await within(raw.closed, "it is closed");
        assert.ok(raw.bytes.length < 9 * MIB);
    });

    test("who reads an answer slowly, but steadily, gets all of it", { timeout: 60_000 }, async (t) => {
        const limits = { write_timeout: "1s", idle_timeout: "60s" };
        const gateway = await started(t, limits, { big: { cmd: [process.execPath, HOSTILE, "big"] } });
        await served(gateway, "big__big");
        for (const connection of ["keep-alive", "close"]) {
            const socket = net.connect({ host: "127.0.0.1", port: gateway.port });
            socket.on("error", () => {});
            const request = modernPost(gateway, "/mcp/big", { name: "big", arguments: { bytes: 9 * MIB } });
            socket.write(request.replace("Content-Type:", `Connection: ${connection}\r\nContent-Type:`));
            let got = 0;
            const whole = new Promise<void>((resolve, reject) => {
                socket.on("readable", () => {});
                const timer = setInterval(() => {
                    const chunk = socket.read() as Buffer | null;
                    got += chunk?.length ?? 0;
                    if (got <= 9 * MIB) return;
                    clearInterval(timer);
                    resolve();
                }, 40);
                socket.once("close", () => {
                    clearInterval(timer);
                    if (got <= 9 * MIB) reject(new Error(`${connection}: closed after ${got} bytes`));
                });
            });
            const took = await elapsed(within(whole, () => `${got} bytes came`, 40_000));
            t.diagnostic(`${connection}: ${Math.round(took)} ms`);
            assert.ok(took > 2500, `${took} ms: too fast to show anything`);
            socket.destroy();
        }
    });

    test("a stream that is silent gets a comment every `keepalive`", async (t) => {
        const gateway = await started(t, { keepalive: "1s" });
        const session = await openSession(gateway);
        const listening = await session.stream();
        const took = await elapsed(until(() => listening.comments.length >= 2, "two comments"));
        assert.ok(took >= 1000, `${took} ms`);
        listening.close();
    });
});

describe("how much a request may be", () => {
    test("max_header: at the limit and one byte past it", async (t) => {
        const gateway = await started(t, { max_header: "2KiB" });
        for (const [size, status] of [
            [2048, 200],
            [2049, 431],
        ] as const) {
            const begin = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: ";
            const raw = new Raw(gateway.port);
            raw.socket.write(`${begin}${"x".repeat(size - begin.length - 4)}\r\n\r\n`);
            const answers = await raw.answers();
            assert.equal(answers[0]!.status, status);
            if (status === 431) refusedWith(answers, 431, "2048", "server.limits.max_header");
        }
    });

    test("a longer max_header lets longer heads in", async (t) => {
        const gateway = await started(t, { max_header: "64KiB" });
        const fields = Array.from({ length: 6 }, (_, i) => `X-${i}: ${"x".repeat(9 * KIB)}\r\n`).join("");
        const raw = new Raw(gateway.port);
        raw.socket.write(`GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${fields}\r\n`);
        assert.equal((await raw.answers())[0]!.status, 200);
    });

    test("what is fixed is named with its value, too", async (t) => {
        const gateway = await started(t, {});
        const rows: [number, string, string][] = [
            [414, "8192", `GET /${"x".repeat(9 * KIB)} HTTP/1.1\r\n`],
            [431, "16384", `GET / HTTP/1.1\r\nX: ${"x".repeat(17 * KIB)}\r\n`],
            [431, "100", `GET / HTTP/1.1\r\n${"X: y\r\n".repeat(101)}\r\n`],
        ];
        for (const [status, value, bytes] of rows) {
            const raw = new Raw(gateway.port);
            raw.socket.write(bytes);
            refusedWith(await raw.answers(), status, value);
        }
    });

    test("max_request_body: at the limit and one byte past it, announced or in chunks", async (t) => {
        const gateway = await started(t, {}, {}, { max_request_body: "8KiB" });
        for (const [size, status] of [
            [8192, 400],
            [8193, 413],
        ] as const) {
            const message = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping", params: { pad: "" } });
            const body = message.replace('""', JSON.stringify("x".repeat(size - message.length)));
            assert.equal(body.length, size);
            const chunks = `${size.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
            const chunked = post(gateway, chunks, { "Transfer-Encoding": "chunked", Connection: "close" });
            for (const bytes of [
                post(gateway, body, { Connection: "close" }),
                chunked.replace(/Content-Length.*\r\n/, ""),
            ]) {
                const raw = new Raw(gateway.port);
                raw.socket.write(bytes);
                const answers = await raw.answers();
                assert.equal(answers[0]!.status, status, answers[0]!.body);
                if (status === 413) refusedWith(answers, 413, "8192", "server.max_request_body");
            }
        }
    });
});
