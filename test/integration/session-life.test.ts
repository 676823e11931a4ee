/*
 * Sessions of clients up to 2025-11-25: whose they are, what their ids tell, how long they last and how many there
 * are; what happens to them when a server, or the gateway itself, is started anew.
 */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test, type TestContext } from "node:test";

import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { HttpFixture, legacyOnly, startHttp } from "./fixtures/http-server.ts";
import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { initialize, openSession, send, served, serving, Session, text, type Target } from "./lib/http.ts";
import { as, Tokens } from "./lib/principals.ts";
import { reload } from "./lib/reload.ts";
import { askSse, openSse, type SseSession } from "./lib/sse.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const request = (id: string | number, method: string, params?: unknown): RpcMessage =>
    ({ jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) }) as RpcMessage;
const ping = (id: string | number = 1) => request(id, "ping");
const tool = (id: string | number, name: string, args: object = {}) =>
    request(id, "tools/call", { name, arguments: args });
const status = async (session: Session, outgoing: object = { body: ping() }): Promise<number> =>
    (await session.send(outgoing)).status;

let control: Control;
before(async () => {
    control = await startControl();
});
after(async () => {
    await control.close();
});

const start = (t: TestContext, server: { [key: string]: Value } = {}, name = "one"): Promise<Gateway> =>
    startGateway({ config: { server, servers: { one: { cmd: control.command({ name }) } } } }, t);

describe("unguessable", () => {
    const BITS = 256;

    /** Each bit is a coin of its own: how often it is set, and how much an id shares with the one before it. */
    function looksRandom(ids: string[]): void {
        assert.equal(new Set(ids).size, ids.length, "no id comes twice");
        const set = new Array<number>(BITS).fill(0);
        let before: Buffer | undefined;
        let [distances, pairs] = [0, 0];
        for (const id of ids) {
            assert.match(id, /^[A-Za-z0-9_-]{43}$/);
            const bytes = Buffer.from(id, "base64url");
            assert.equal(bytes.length * 8, BITS);
            let distance = 0;
            for (let bit = 0; bit < BITS; bit++) {
                const value = (bytes[bit >> 3]! >> (bit & 7)) & 1;
                set[bit]! += value;
                if (before !== undefined) distance += value ^ ((before[bit >> 3]! >> (bit & 7)) & 1);
            }
            if (before !== undefined) {
                // Eight standard deviations of 8 bits: once in 10^15.
                assert.ok(distance > 64 && distance < 192, `two in a row differ in ${distance} of 256 bits`);
                distances += distance;
                pairs++;
            }
            before = bytes;
        }
        const most = 7 * Math.sqrt(ids.length / 4);
        for (const [bit, n] of set.entries())
            assert.ok(Math.abs(n - ids.length / 2) < most, `bit ${bit} is set in ${n} of ${ids.length}`);
        const mean = distances / pairs;
        assert.ok(Math.abs(mean - 128) < 7 * (8 / Math.sqrt(pairs)), `ids differ in ${mean} bits on average`);
    }

    test("256 bits of randomness in each of 3,000 ids", async (t) => {
        const gateway = await startGateway({ config: { servers: {} } }, t);
        const ids: string[] = [];
        while (ids.length < 3000) {
            const answers = await Promise.all(
                Array.from({ length: 50 }, () => send(gateway, { body: initialize("2025-11-25") })),
            );
            for (const answer of answers) ids.push(answer.headers["mcp-session-id"] as string);
        }
        looksRandom(ids);
    });

    test("HTTP+SSE: likewise", async (t) => {
        const gateway = await startGateway({ config: { servers: {} } }, t);
        const ids: string[] = [];
        for (let n = 0; n < 20; n++) {
            const streams = await Promise.all(Array.from({ length: 10 }, () => openSse(gateway)));
            for (const stream of streams) {
                ids.push(stream.id);
                stream.close();
            }
        }
        looksRandom(ids);
    });
});

describe("bound", () => {
    const tokens = new Tokens({ ann: [], bob: [] });
    let gateway: Gateway;
    before(async () => {
        gateway = await startGateway({
            config: {
                server: { auth: { tokens: tokens.table } },
                servers: {
                    one: { cmd: control.command({ name: "bound-one" }) },
                    two: { cmd: control.command({ name: "bound-two" }) },
                },
            },
        });
        await served(gateway, "one__echo", "two__echo");
    });
    after(() => gateway.stop());

    test("to its principal: to another one it does not exist, whatever is asked of it", async () => {
        for (const path of ["/mcp", "/mcp/one"]) {
            const session = await openSession(tokens.as(gateway, "ann"), path);
            for (const token of [tokens.value.bob!, gateway.token]) {
                for (const outgoing of [
                    { body: ping() },
                    { body: tool(1, path === "/mcp" ? "one__echo" : "echo") },
                    { body: { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 1 } } },
                    { body: { jsonrpc: "2.0", id: 1, result: {} } },
                    { method: "GET" },
                    { method: "DELETE" },
                ]) {
                    const answer = await session.send({ ...outgoing, token });
                    assert.equal(answer.status, 404, JSON.stringify(outgoing));
                    const nobody = await session.send({ ...outgoing, token, headers: { "Mcp-Session-Id": "nobody" } });
                    assert.equal(answer.text, nobody.text, "nothing tells it from one that never was");
                }
            }
            assert.equal(await status(session), 200, "it lives on");
            await session.end();
        }
    });

    test("to its endpoint", async () => {
        const ann = tokens.as(gateway, "ann");
        for (const [path, others] of [
            ["/mcp", ["/mcp/one", "/mcp/two"]],
            ["/mcp/one", ["/mcp", "/mcp/two"]],
        ] as const) {
            const session = await openSession(ann, path);
            for (const other of others) {
                for (const outgoing of [{ body: ping() }, { method: "GET" }, { method: "DELETE" }])
                    assert.equal(await status(session, { ...outgoing, path: other }), 404, `${path} at ${other}`);
            }
            assert.equal(await status(session), 200);
            await session.end();
        }
    });

    test("HTTP+SSE: likewise, and to its transport", async () => {
        const ann = tokens.as(gateway, "ann");
        const session = await openSse(ann);
        await session.initialize();
        assert.equal((await session.post(ping(), { target: tokens.as(gateway, "bob") })).status, 404);
        assert.equal((await session.post(ping(), { path: `/mcp/one/message?sessionId=${session.id}` })).status, 404);
        const streamable = await openSession(ann);
        for (const method of ["POST", "GET", "DELETE"]) {
            const outgoing = { method, headers: { "Mcp-Session-Id": session.id }, body: method === "POST" ? ping() : undefined };
            assert.equal((await send(ann, outgoing)).status, 404, method);
        }
        assert.equal((await session.post(ping(), { path: `/mcp/message?sessionId=${streamable.id}` })).status, 404);
        assert.deepEqual((await session.request("ping")).result, {}, "it lives on");
        session.close();
    });
});

/** An HTTP+SSE stream on which nobody says anything ends when it was idle for so long: a clock to wait for. */
async function idleTime(gateway: Gateway, times: number): Promise<void> {
    for (let n = 0; n < times; n++) {
        const silent = await openSse(gateway);
        await within(silent.ended, "the silent stream ends");
    }
}

describe("idle", () => {
    test("ends it; requests, calls that run and an open stream are use", async (t) => {
        const gateway = await start(t, { session_idle_timeout: "1s" }, "idle");
        await served(gateway, "one__echo");
        const unused = await openSession(gateway), asked = await openSession(gateway);
        const calling = await openSession(gateway), listening = await openSession(gateway);
        const child = await serving(control, calling, "one__");
        const from = child.events.items.length;
        const held = calling.send({ body: tool("held", "one__hold") });
        await child.events.waitFor((event) => event.event === "held", from);
        const stream = await listening.stream();
        assert.equal(stream.status, 200);
        const waiting = idleTime(gateway, 2);
        let isOver = false;
        void waiting.then(() => (isOver = true));
        await until(async () => {
            assert.equal(await status(asked), 200, "it is asked for all the time");
            return isOver;
        }, "its time has passed twice");
        assert.equal(await status(unused), 404);
        assert.equal(await status(listening), 200, "its stream is open");
        child.do({ do: "release" });
        assert.equal(text((await held).messages.at(-1)!), "released");
        assert.equal(await status(calling), 200, "a call was running");
        stream.close();
        await idleTime(gateway, 2);
        for (const session of [asked, calling, listening]) assert.equal(await status(session), 404);
    });
});

describe("absolute lifetime", () => {
    const LIFETIME = 3000;

    test("ends it, however much it is used; calls that run are answered; then it is 404 and a new one is opened", async (t) => {
        const http = await startHttp(legacyOnly(), t);
        const gateway = await startGateway(
            {
                config: {
                    server: { session_lifetime: `${LIFETIME}ms` },
                    servers: { one: { cmd: control.command({ name: "old" }) }, http: { url: http.url } },
                },
            },
            t,
        );
        await served(gateway, "one__echo", "http__input");
        const opened = performance.now();
        const capable = await send(gateway, { body: initialize("2025-11-25", { elicitation: {} }) });
        const target: Target = gateway;
        const session = new Session(target, "/mcp", capable.headers["mcp-session-id"] as string, "2025-11-25", capable.messages[0]!);
        const used = await openSession(gateway);
        const child = await serving(control, session, "one__");
        const from = child.events.items.length;
        const stream = await session.stream(), idleStream = await used.stream();
        assert.deepEqual([stream.status, idleStream.status], [200, 200]);
        // Two calls that wait for their server, and one whose server waits for the client.
        const held = session.send({ body: tool("held", "one__hold") });
        await child.events.waitFor((event) => event.event === "held", from);
        const cancelled = session.stream({ method: "POST", body: tool("cancelled", "one__hold") });
        await until(() => child.events.items.slice(from).filter(({ event }) => event === "held").length === 2, "two are held");
        const asking = await session.stream({ method: "POST", body: tool("asking", "http__input", { kind: "elicit" }) });
        const question = await asking.messages.waitFor((message) => message.method === "elicitation/create");

        await until(async () => (await status(used)) === 404, "it is over while it is used all the time");
        const lasted = performance.now() - opened;
        assert.ok(lasted >= LIFETIME - 50, `it lasted ${lasted} ms`);
        await within(idleStream.ended, "its stream ends");
        await until(async () => (await status(session)) === 404, "the other one takes no requests either");
        assert.equal(await status(session, { body: tool("late", "one__echo") }), 404);
        await within(stream.ended, "its stream ends");
        assert.equal((await session.stream()).status, 404, "and is not opened again");

        // What runs needs more than its answer: the client's, and that it can be cancelled.
        const answer = { jsonrpc: "2.0", id: question.id, result: { action: "accept", content: {} } };
        assert.equal(await status(session, { body: answer }), 202);
        assert.match(text(await asking.messages.waitFor((message) => message.id === "asking")), /accept/);
        const cancel = { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: "cancelled" } };
        assert.equal(await status(session, { body: cancel }), 202);
        await child.events.waitFor((event) => event.message?.method === "notifications/cancelled", from);
        (await cancelled).close();
        child.do({ do: "release" });
        assert.equal(text((await held).messages.at(-1)!), "released");
        for (const outgoing of [{ body: answer }, { body: cancel }, { method: "DELETE" }])
            assert.equal(await status(session, outgoing), 404, "nothing runs any more");

        const next = await openSession(gateway);
        assert.notEqual(next.id, session.id);
        assert.equal(text(await next.call("one__echo", { text: "anew" })), "anew");
    });

    test("HTTP+SSE: what runs is answered on the stream, which ends then", async (t) => {
        const gateway = await start(t, { session_lifetime: "3s" }, "old-sse");
        await served(gateway, "one__echo");
        const [quiet, busy] = await Promise.all([openSse(gateway), openSse(gateway)]);
        await Promise.all([quiet.initialize(), busy.initialize()]);
        const child = await serving(control, busy as unknown as Session, "one__");
        const from = child.events.items.length;
        await busy.post(tool("held", "one__hold"));
        await child.events.waitFor((event) => event.event === "held", from);
        await within(quiet.ended, "the stream without calls ends");
        const late = await busy.post(ping("late"));
        assert.equal(late.status, 404, late.text);
        child.do({ do: "release" });
        assert.equal(text(await busy.messages.waitFor((message) => message.id === "held")), "released");
        await within(busy.ended, "so does the other one");
        assert.equal((await busy.post(ping("later"))).status, 404);
        assert.ok(!busy.messages.items.some(({ id }) => id === "late" || id === "later"));
    });

    test("is that of the configuration in force, also for sessions that are there; 0s: none", async (t) => {
        const servers = { one: { cmd: control.command({ name: "reloaded" }) } };
        const gateway = await startGateway({ config: { server: { session_lifetime: "0s" }, servers } }, t);
        const session = await openSession(gateway);
        const stream = await session.stream();
        assert.equal(await status(session), 200);
        await reload(gateway, { server: { session_lifetime: "1s" }, servers });
        await until(async () => (await status(session)) === 404, "it is over");
        await within(stream.ended, "its stream ends");
        await reload(gateway, { server: { session_lifetime: "0s" }, servers });
        assert.equal(await status(session), 404, "it does not come back");
        assert.equal(await status(await openSession(gateway)), 200);
    });
});

describe("a maximum for each principal", () => {
    const tokens = new Tokens({ ann: [], bob: [] });

    test("at it all live; past it the longest unused one makes room, and none that is in use", async (t) => {
        const gateway = await start(t, { max_sessions: 3, auth: { tokens: tokens.table } }, "few");
        const ann = tokens.as(gateway, "ann");
        const bob = await openSession(tokens.as(gateway, "bob"));
        const sessions: Session[] = [];
        for (let n = 0; n < 3; n++) sessions.push(await openSession(ann));
        for (const session of sessions) assert.equal(await status(session), 200, "three are three");
        await until(async () => (await sessions[0]!.call("one__echo")).result !== undefined, "the server is up");
        assert.equal(await status(sessions[2]!), 200);
        const fourth = await openSession(ann);
        assert.equal(await status(sessions[1]!), 404, "it was unused longest");
        for (const session of [sessions[0]!, sessions[2]!, fourth]) assert.equal(await status(session), 200);

        // All in use: two by their streams, one by a call.
        const child = await serving(control, fourth, "one__");
        const from = child.events.items.length;
        const held = fourth.send({ body: tool("held", "one__hold") });
        await child.events.waitFor((event) => event.event === "held", from);
        const streams = await Promise.all([sessions[0]!.stream(), sessions[2]!.stream()]);
        for (let n = 0; n < 3; n++) {
            const refused = await send(ann, { body: initialize("2025-11-25") });
            assert.match(refused.messages[0]!.error!.message, /max_sessions/);
            assert.equal(refused.headers["mcp-session-id"], undefined);
            assert.equal((await askSse(ann)).status, 429);
        }
        assert.equal(await status(bob), 200, "others are not concerned");
        assert.equal(await status(await openSession(tokens.as(gateway, "bob"))), 200);
        await sessions[0]!.end();
        await within(streams[0]!.ended, "its stream ends");
        assert.equal(await status(await openSession(ann)), 200, "there is room again");
        child.do({ do: "release" });
        assert.equal(text((await held).messages.at(-1)!), "released");
    });
});

describe("a server's restart", () => {
    test("its child is killed: the session goes on, and so does its stream", async (t) => {
        const gateway = await start(t, {}, "killed");
        await served(gateway, "one__echo");
        for (const path of ["/mcp", "/mcp/one"]) {
            const session = await openSession(gateway, path);
            const prefix = path === "/mcp" ? "one__" : "";
            const stream = await session.stream();
            for (let round = 1; round <= 3; round++) {
                const child = await serving(control, session, prefix);
                const starts = control.count("killed");
                child.do({ do: "shell", script: "kill -9 $PPID" });
                await child.isGone();
                await until(async () => {
                    const { result } = await session.call(`${prefix}echo`, { text: `round ${round}` });
                    return result?.isError !== true && text({ result } as RpcMessage) === `round ${round}`;
                }, "it is answered in the same session");
                assert.equal(control.count("killed"), starts + 1, "by another child");
            }
            const now = await serving(control, session, prefix);
            now.notify("notifications/tools/list_changed");
            await stream.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
            await session.end();
            await within(stream.ended, "the stream ends with its session, not before");
        }
    });

    for (const transport of ["streamable", "sse"] as const) {
        test(`an HTTP server that forgets its sessions, and one that is gone for a while: ${transport}`, async (t) => {
            const options = { ...legacyOnly(transport === "sse" ? "2024-11-05" : "2025-11-25"), transport, get: "stream" } as const;
            let fixture = await startHttp(options, t);
            const { port } = fixture;
            const http = { url: fixture.url, ...(transport === "sse" ? { protocol: "sse" } : {}) };
            const gateway = await startGateway({ config: { servers: { http } } }, t);
            await served(gateway, "http__echo");
            const session = await openSession(gateway);
            const sse = await openSse(gateway);
            await sse.initialize();
            const works = (what: string) =>
                until(async () => {
                    const answers = [await session.call("http__echo", { text: what }), await sse.call("http__echo", { text: what })];
                    return answers.every(({ result }) => result !== undefined && result.isError !== true && text({ result } as RpcMessage) === what);
                }, `${what}: both sessions go on`);
            await works("at first");
            if (transport === "streamable") fixture.expire();
            else for (const stream of fixture.streams) stream.socket.destroy();
            await works("forgotten");
            await fixture.close();
            const { result, error } = await session.call("http__echo", { text: "x" });
            assert.ok(result?.isError === true || error !== undefined, "it is told that the server is gone");
            fixture = new HttpFixture(options);
            await fixture.listen(port);
            t.after(() => fixture.close());
            await works("back again");
            sse.close();
        });
    }
});

describe("the gateway's restart", () => {
    test("old ids are 404 in every way, and clients begin anew", async (t) => {
        const dataDir = temporaryFolder();
        t.after(() => removeFolder(dataDir));
        const config = { servers: { one: { cmd: control.command({ name: "restarted" }) } } };
        const first = await startGateway({ config, dataDir }, t);
        // One address for both: what clients know stays what it was.
        let port = first.port;
        const relay = net.createServer((client) => {
            const server = net.connect(port, "127.0.0.1");
            for (const [from, to] of [[client, server], [server, client]] as const) {
                from.on("error", () => to.destroy());
                from.pipe(to);
            }
        });
        await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
        t.after(() => relay.close());
        const url = new URL(`http://127.0.0.1:${(relay.address() as net.AddressInfo).port}/mcp`);
        const connect = async () => {
            const client = new OldClient({ name: "sdk", version: "1" });
            const requestInit = { headers: { Authorization: `Bearer ${first.token}` } };
            const transport = new OldTransport(url, { requestInit });
            await within(client.connect(transport), "the SDK connects");
            return { client, transport };
        };
        await served(first, "one__echo");
        const sdk = await connect();
        const echo = async (client: OldClient) =>
            ((await client.callTool({ name: "one__echo", arguments: { text: "hello" } })).content as { text: string }[])[0]!.text;
        assert.equal(await echo(sdk.client), "hello");
        const session = await openSession(first), own = await openSession(first, "/mcp/one");
        const sse = await openSse(first);
        await sse.initialize();
        const killed = first.kill();
        await Promise.all([killed, within(sse.ended, "its stream ends")]);

        const second = await startGateway({ config, dataDir }, t);
        port = second.port;
        assert.equal(second.token, first.token, "the credential is the same, the sessions are not");
        await served(second, "one__echo");
        for (const [old, path] of [[session, "/mcp"], [own, "/mcp/one"]] as const) {
            const headers = { "Mcp-Session-Id": old.id, "MCP-Protocol-Version": "2025-11-25" };
            for (const outgoing of [{ body: ping() }, { method: "GET" }, { method: "DELETE" }])
                assert.equal((await send(second, { path, headers, ...outgoing })).status, 404);
        }
        assert.equal((await send(second, { path: sse.endpoint, body: ping() })).status, 404);
        await assert.rejects(echo(sdk.client), /404|session/i);
        const again = await connect();
        assert.equal(await echo(again.client), "hello");
        assert.notEqual(again.transport.sessionId, sdk.transport.sessionId);
        const stream: SseSession = await openSse(as(second, second.token));
        await stream.initialize();
        assert.equal(text(await stream.call("one__echo", { text: "over SSE" })), "over SSE");
        stream.close();
        await Promise.all([sdk.client.close(), again.client.close()]);
    });
});
