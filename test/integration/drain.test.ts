/*
 * The end of the gateway: TERM and INT drain. What runs is answered, nothing new comes in, streams end properly, nobody
 * is waited for who is gone; the second signal does not wait for anybody at all. Whatever happens, the status is 0 and
 * no child is left.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { after, before, describe, test, type TestContext } from "node:test";

import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, parseResponses, send, served, text } from "./lib/http.ts";
import { descendants } from "./lib/proc.ts";
import { until, within } from "./lib/wait.ts";

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

async function ends(gateway: Gateway, what: string): Promise<void> {
    const { code, signal } = await within(gateway.exited, what);
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, what);
}

/** Told to end, and at it. */
async function drains(gateway: Gateway, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    gateway.process.kill(signal);
    await gateway.waitForLog((entry) => entry.message === "draining");
}

async function connected(gateway: Gateway): Promise<{ socket: net.Socket; all: Promise<string> }> {
    const socket = net.connect({ host: "127.0.0.1", port: gateway.port });
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", () => {});
    const all = new Promise<string>((resolve) => {
        socket.on("end", () => socket.end());
        socket.on("close", () => resolve(Buffer.concat(chunks).toString("latin1")));
    });
    await within(once(socket, "connect"), "a connection");
    return { socket, all };
}

const refused = (gateway: Gateway): Promise<string> =>
    new Promise((resolve) => {
        const socket = net.connect({ host: "127.0.0.1", port: gateway.port });
        socket.on("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
        socket.on("connect", () => {
            resolve("connected");
            socket.destroy();
        });
    });

/** Every signal has its own gateway; `patience` is server.shutdown_timeout. */
async function start(t: TestContext, servers: { [name: string]: ServerConfig }, patience = "30s"): Promise<Gateway> {
    return startGateway({ config: { server: { shutdown_timeout: patience }, servers } }, t);
}

describe("drain", () => {
    let control: Control;
    before(async () => void (control = await startControl()));
    after(async () => control.close());
    let n = 0;
    /** A fixture that answers `hold` when it is told to. */
    const fixture = () => {
        const name = `drain${++n}`;
        return { name, servers: { it: { cmd: control.command({ name }) } } as { [name: string]: ServerConfig } };
    };

    for (const signal of SIGNALS) {
        test(`${signal}: what runs is answered, nobody new is let in, the child is told to end`, async (t) => {
            const { name, servers } = fixture();
            const gateway = await start(t, servers);
            await served(gateway, "it__hold");
            const session = await openSession(gateway);
            const child = await control.started(name);
            const call = session.send({
                body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "it__hold", arguments: {} } },
            });
            await child.events.waitFor((event) => event.event === "held");
            await drains(gateway, signal);
            await until(async () => (await refused(gateway)) === "ECONNREFUSED", "every worker has closed its door");
            child.do({ do: "release" });
            const answer = await call;
            assert.equal(answer.status, 200);
            assert.equal(answer.messages.at(-1)?.id, 1);
            assert.equal(answer.headers.connection, "close");
            await ends(gateway, "it ends when the call is answered");
            await child.isGone();
            assert.deepEqual(descendants(gateway.pid), []);
        });
    }

    test("a GET stream ends with its last chunk, an idle connection is closed", async (t) => {
        const gateway = await start(t, {});
        const session = await openSession(gateway);
        const idle = await connected(gateway);
        idle.socket.write(`GET /health HTTP/1.1\r\nHost: ${gateway.host}\r\n\r\n`);
        await within(once(idle.socket, "data"), "its first answer");
        const raw = await connected(gateway);
        const fields = [
            `Host: ${gateway.host}`,
            `Authorization: Bearer ${gateway.token}`,
            "Accept: text/event-stream",
            `Mcp-Session-Id: ${session.id}`,
            `MCP-Protocol-Version: ${session.version}`,
        ];
        raw.socket.write(`GET /mcp HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`);
        await within(once(raw.socket, "data"), "the head of the stream");
        gateway.process.kill("SIGTERM");
        assert.match(await within(raw.all, "the stream ends"), /^HTTP\/1\.1 200 [^]*\r\n0\r\n\r\n$/);
        assert.equal(parseResponses(Buffer.from(await within(idle.all, "it is closed"), "latin1")).length, 1);
        await ends(gateway, "it ends");
    });

    test("a request that crosses the signal on a connection in use is answered, as the last one; a connection of before is closed", async (t) => {
        const gateway = await start(t, {});
        const health = `GET /health HTTP/1.1\r\nHost: ${gateway.host}\r\n\r\n`;
        const old = await connected(gateway);
        old.socket.write(health);
        await within(once(old.socket, "data"), "its first answer");
        const fresh = await connected(gateway);
        const answered = performance.now();
        // Until the first one has been idle for more than half a second, the second one is used again and again.
        do {
            fresh.socket.write(health);
            await within(once(fresh.socket, "data"), "an answer");
        } while (performance.now() - answered < 700);
        await drains(gateway);
        await within(old.all, "the one that nobody uses is closed");
        fresh.socket.write(health);
        const last = parseResponses(Buffer.from(await within(fresh.all, "it is answered and closed"), "latin1")).at(-1)!;
        assert.equal(last.status, 200);
        assert.equal(last.headers.get("connection"), "close");
        await ends(gateway, "it ends");
    });

    test("a request that has begun to come is answered, as the last one: /ready with 503, a call with its result", async (t) => {
        const { name, servers } = fixture();
        const gateway = await start(t, servers);
        await served(gateway, "it__hold");
        const session = await openSession(gateway);
        const held = session.call("it__hold");
        const child = await control.started(name);
        await child.events.waitFor((event) => event.event === "held");
        const probe = await connected(gateway);
        const caller = await connected(gateway);
        const body = JSON.stringify({
            jsonrpc: "2.0",
            id: "late",
            method: "tools/call",
            params: { name: "it__echo", arguments: { text: "in time" } },
        });
        const fields = [
            `Host: ${gateway.host}`,
            `Authorization: Bearer ${gateway.token}`,
            "Accept: application/json, text/event-stream",
            "Content-Type: application/json",
            `Mcp-Session-Id: ${session.id}`,
            `MCP-Protocol-Version: ${session.version}`,
            `Content-Length: ${body.length}`,
        ];
        probe.socket.write("GET /ready HTTP/1.1\r\n");
        caller.socket.write(`POST /mcp HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`);
        // The gateway has both halves: it answers a later request of another connection.
        await send({ port: gateway.port, token: gateway.token }, { method: "GET", path: "/health" });
        await drains(gateway);
        probe.socket.write(`Host: ${gateway.host}\r\n\r\n`);
        const [ready] = parseResponses(Buffer.from(await within(probe.all, "/ready is answered"), "latin1"));
        assert.equal(ready!.status, 503);
        assert.equal(JSON.parse(ready!.body).status, "draining");
        assert.equal(ready!.headers.get("connection"), "close");
        caller.socket.write(body);
        const [answer] = parseResponses(Buffer.from(await within(caller.all, "the call is answered"), "latin1"));
        assert.equal(answer!.status, 200);
        assert.match(answer!.body, /in time/);
        assert.equal(answer!.headers.get("connection"), "close");
        child.do({ do: "release" });
        assert.equal((await held).error, undefined);
        await ends(gateway, "it ends");
    });

    test("server.shutdown_timeout ends what is not answered", async (t) => {
        const { name, servers } = fixture();
        const gateway = await start(t, servers, "300ms");
        await served(gateway, "it__hold");
        const session = await openSession(gateway);
        const call = session.call("it__hold").catch((error: unknown) => error);
        await (await control.started(name)).events.waitFor((event) => event.event === "held");
        gateway.process.kill("SIGTERM");
        await ends(gateway, "it ends although the call runs");
        assert.ok((await within(call, "the caller learns it")) instanceof Error);
    });

    test("nobody waits for the answer to a client that is gone, before the signal or after it", async (t) => {
        const { name, servers } = fixture();
        const gateway = await start(t, servers, "1h"); // it would wait for ever
        await served(gateway, "it__hold");
        const session = await openSession(gateway);
        const child = await control.started(name);
        const hold = async (id: number) => {
            const request = http.request({
                host: "127.0.0.1",
                port: gateway.port,
                method: "POST",
                path: "/mcp",
                agent: false,
                headers: {
                    ...session.headers,
                    Authorization: `Bearer ${gateway.token}`,
                    "Content-Type": "application/json",
                    Accept: "application/json, text/event-stream",
                },
            });
            request.on("error", () => {});
            request.end(
                JSON.stringify({
                    jsonrpc: "2.0",
                    id,
                    method: "tools/call",
                    params: { name: "it__hold", arguments: {} },
                }),
            );
            const from = child.events.items.length;
            await child.events.waitFor((event) => event.event === "held", from);
            return request;
        };
        const first = await hold(1);
        const second = await hold(2);
        first.destroy();
        // The gateway has seen the end of the first one: what it reads later is answered.
        await send({ port: gateway.port, token: gateway.token }, { method: "GET", path: "/health" });
        await drains(gateway);
        second.destroy();
        await ends(gateway, "it ends at once");
        assert.equal(child.received("notifications/cancelled").length, 2, "the server hears that nobody wants it");
    });

    for (const signal of SIGNALS) {
        test(`a second ${signal} waits for no call and for no child`, async (t) => {
            const name = `stubborn${++n}`;
            const servers = {
                it: { cmd: control.command({ name, stubborn: true }), shutdown_timeout: "1m" },
            };
            const gateway = await start(t, servers, "1h");
            await served(gateway, "it__hold");
            const child = await control.started(name);
            const session = await openSession(gateway);
            const call = session.call("it__hold").catch((error: unknown) => error);
            await child.events.waitFor((event) => event.event === "held");
            await drains(gateway, signal);
            gateway.process.kill(signal);
            await gateway.waitForLog((entry) => entry.message === "stops at once");
            await ends(gateway, "it ends at once");
            assert.ok((await within(call, "the caller learns it")) instanceof Error);
            await child.isGone();
        });
    }

    test("a second TERM cuts short the stop of a child that has begun", async (t) => {
        const name = `stubborn${++n}`;
        const servers = { it: { cmd: control.command({ name, stubborn: true }), shutdown_timeout: "1s" } };
        const slow = { cmd: control.command({ name: `${name}-slow`, stubborn: true }), shutdown_timeout: "1m" };
        const gateway = await start(t, { ...servers, slow }, "1h");
        await served(gateway, "it__echo", "slow__echo");
        const quick = await control.started(name);
        gateway.process.kill("SIGTERM");
        // Stdin is closed, then TERM comes: the stop is under way; the other one would take a minute.
        await quick.events.waitFor((event) => event.event === "sigterm");
        gateway.process.kill("SIGTERM");
        await ends(gateway, "it ends at once");
        await quick.isGone();
        await (await control.started(`${name}-slow`)).isGone();
    });

    test("a second TERM cuts short the goodbye to an HTTP server, and that of a session that has ended", async (t) => {
        let deleted = () => {};
        const deletes: string[] = [];
        const sockets = new Set<net.Socket>();
        const server = http.createServer((request, response) => {
            if (request.method === "DELETE") {
                deletes.push(String(request.headers["mcp-session-id"]));
                deleted();
                return; // never answered
            }
            if (request.method === "GET") {
                response.writeHead(405).end();
                return;
            }
            let body = "";
            request.on("data", (chunk) => (body += chunk));
            request.on("end", () => {
                const { id, method } = JSON.parse(body) as { id?: number; method: string };
                if (id === undefined) {
                    response.writeHead(202).end();
                    return;
                }
                const results: { [method: string]: unknown } = {
                    initialize: {
                        protocolVersion: "2025-11-25",
                        capabilities: { tools: {} },
                        serverInfo: { name: "clinging", version: "1" },
                    },
                    "tools/list": { tools: [{ name: "t", inputSchema: { type: "object" } }] },
                };
                const result = results[method];
                const answer = result === undefined ? { error: { code: -32601, message: "no" } } : { result };
                response.writeHead(result === undefined && method === "server/discover" ? 400 : 200, {
                    "Content-Type": "application/json",
                    ...(method === "initialize" ? { "Mcp-Session-Id": `s${Math.random()}` } : {}),
                });
                response.end(JSON.stringify({ jsonrpc: "2.0", id, ...answer }));
            });
        });
        server.on("connection", (socket) => {
            sockets.add(socket);
            socket.on("close", () => sockets.delete(socket));
        });
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
        t.after(() => {
            for (const socket of sockets) socket.destroy();
            server.close();
        });
        const { port } = server.address() as net.AddressInfo;
        const url = `http://127.0.0.1:${port}/mcp`;
        const servers = {
            all: { url, shutdown_timeout: "1m" },
            own: { url, shutdown_timeout: "1m", share: "session" },
        };
        const gateway = await start(t, servers, "1h");
        await served(gateway, "all__t");
        const session = await openSession(gateway);
        const seen = (count: number) =>
            within(
                new Promise<void>((resolve) => {
                    deleted = () => deletes.length >= count && resolve();
                    deleted();
                }),
                () => `${count} goodbyes, not ${deletes.length}`,
            );
        // served() ended a session of its own; this one ends too, and its instance says goodbye.
        const { result } = await session.request("tools/list");
        assert.ok((result!.tools as { name: string }[]).some((tool) => tool.name === "own__t"));
        const before = deletes.length;
        await session.end();
        await seen(before + 1);
        gateway.process.kill("SIGTERM");
        await seen(before + 2);
        gateway.process.kill("SIGTERM");
        await ends(gateway, "it ends at once");
    });

    test("a call that waits for its turn, and one that waits for a start, end with the drain", async (t) => {
        const name = `waiting${++n}`;
        const servers = { it: { cmd: control.command({ name }) } };
        const gateway = await startGateway(
            { config: { server: { shutdown_timeout: "30s", limits: { max_in_flight: 1 } }, servers } },
            t,
        );
        await served(gateway, "it__hold");
        const session = await openSession(gateway);
        const child = await control.started(name);
        const first = session.call("it__hold", {}, 1);
        await child.events.waitFor((event) => event.event === "held");
        const second = session.call("it__echo", { text: "second" }, 2);
        await gateway.waitForLog((entry) => entry.message === "a call waits for its turn");
        await drains(gateway);
        child.do({ do: "release" });
        assert.equal((await first).error, undefined);
        assert.equal(text(await second), "second");
        await ends(gateway, "it ends");
    });
});
