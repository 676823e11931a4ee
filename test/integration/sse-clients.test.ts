/*
 * Clients of HTTP+SSE (MCP 2024-11-05): those that others wrote, and the wire. Toward servers see http-upstreams.test.ts.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ToolListChangedNotificationSchema, type JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";

import { DEFAULT_TOOLS } from "./fixtures/server.ts";
import { progressOf } from "./lib/clients.ts";
import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway } from "./lib/gateway.ts";
import { openSession, send, served, text, VERSIONS, type Answer } from "./lib/http.ts";
import { packaged } from "./lib/parity.ts";
import { as, jwt, oauth, Tokens } from "./lib/principals.ts";
import { Raw } from "./lib/raw.ts";
import { reload } from "./lib/reload.ts";
import { askSse, openSse, type SseSession } from "./lib/sse.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
import { until, within } from "./lib/wait.ts";

const program = (path: string) => fileURLToPath(new URL(`./node_modules/${path}`, import.meta.url));
const HOSTILE = fileURLToPath(new URL("./fixtures/hostile.ts", import.meta.url));

/** The process that serves this session's calls. */
async function serving(control: Control, session: SseSession, prefix = ""): Promise<FixtureProcess> {
    const { pid } = JSON.parse(text(await session.call(`${prefix}whoami`))) as { pid: number };
    const find = () => control.starts.items.findLast((process) => process.start.pid === pid);
    await until(() => find() !== undefined, `the fixture with the pid ${pid} has told of its start`);
    await find()!.sync();
    return find()!;
}

const ping = (id: string | number): RpcMessage => ({ jsonrpc: "2.0", id, method: "ping" }) as RpcMessage;

function refused(answer: Answer, status: number): void {
    assert.equal(answer.status, status, answer.text);
    assert.ok(answer.messages[0]?.error !== undefined, `a JSON-RPC error: ${answer.text}`);
}

describe("clients of HTTP+SSE", () => {
    let control: Control;
    let gateway: Gateway;
    const tokens = new Tokens({ ann: undefined, bob: undefined });
    const started = (t: TestContext, server: Config["server"] = {}) =>
        startGateway({ config: { server, servers: { one: { cmd: control.command({ name: "one" }) } } } }, t);

    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                server: { auth: { tokens: tokens.table } },
                servers: {
                    one: { cmd: control.command({ name: "one" }) },
                    two: { cmd: control.command({ name: "two" }) },
                    big: { cmd: [process.execPath, HOSTILE, "big"] },
                },
            },
        });
        await served(gateway, "one__echo", "two__echo", "big__big");
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    describe("that others wrote", () => {
        test("the SDK's SSEClientTransport: tools, and what changes", async () => {
            const client = new Client({ name: "old", version: "1" });
            const changed = new Promise<void>((resolve) =>
                client.setNotificationHandler(ToolListChangedNotificationSchema, () => resolve()),
            );
            const headers = { Authorization: `Bearer ${gateway.token}` };
            const transport = new SSEClientTransport(new URL(`${gateway.url}/one/sse`), {
                requestInit: { headers },
                eventSourceInit: {
                    fetch: (url, init) => fetch(url, { ...init, headers: { ...init?.headers, ...headers } }),
                },
            });
            await within(client.connect(transport), "the client connects");
            try {
                const { tools } = await client.listTools();
                assert.ok(tools.some((tool) => tool.name === "echo"));
                const answer = await client.callTool({ name: "echo", arguments: { text: "through the stream" } });
                assert.deepEqual(answer.content, [{ type: "text", text: "through the stream" }]);
                const who = await client.callTool({ name: "whoami", arguments: {} });
                const { pid } = JSON.parse((who.content as { text: string }[])[0]!.text) as { pid: number };
                const fixture = await control.starts.waitFor((process) => process.start.pid === pid);
                await fixture.set({ tools: [...DEFAULT_TOOLS, { name: "fresh", inputSchema: { type: "object" } }] });
                fixture.notify("notifications/tools/list_changed");
                await within(changed, "tools/list_changed on the stream");
            } finally {
                await client.close();
            }
        });

        test("mcp-remote as the documents have it: TLS, sse-only, a token in a header", async (t) => {
            const authority = new Authority();
            const folder = temporaryFolder();
            t.after(() => removeFolder(folder));
            const own = authority.sign("DNS:localhost,IP:127.0.0.1");
            writeFileSync(join(folder, "own.pem"), own.cert);
            writeFileSync(join(folder, "own.key"), own.key, { mode: 0o600 });
            const files = { certificate: join(folder, "own.pem"), key: join(folder, "own.key") };
            const secure = await startGateway(
                { config: { server: { tls: files }, servers: { all: { cmd: packaged("server-everything") } } } },
                t,
            );
            secure.tls = { ca: readFileSync(authority.file, "utf8") };
            await served(secure, "all__echo");
            const client = new Client({ name: "behind-mcp-remote", version: "1" });
            const transport = new StdioClientTransport({
                command: process.execPath,
                args: [
                    program("mcp-remote/dist/proxy.js"),
                    `https://localhost:${secure.port}/mcp/sse`,
                    "--transport",
                    "sse-only",
                    "--header",
                    `Authorization: Bearer ${secure.token}`,
                ],
                env: {
                    PATH: process.env.PATH!,
                    HOME: folder,
                    MCP_REMOTE_CONFIG_DIR: folder,
                    NODE_EXTRA_CA_CERTS: authority.file,
                },
                stderr: "ignore",
            });
            await within(client.connect(transport), "mcp-remote connects");
            try {
                const { tools } = await client.listTools();
                assert.ok(tools.some((tool) => tool.name === "all__echo"));
                const answer = await client.callTool({ name: "all__echo", arguments: { message: "both ways" } });
                assert.deepEqual(answer.content, [{ type: "text", text: "Echo: both ways" }]);
                const wire: JSONRPCMessage[] = [];
                const deliver = transport.onmessage!;
                transport.onmessage = (message) => {
                    wire.push(message);
                    deliver(message);
                };
                await client.callTool(
                    { name: "all__trigger-long-running-operation", arguments: { duration: 0.3, steps: 3 } },
                    undefined,
                    { onprogress: () => {} },
                );
                const [steps] = progressOf(wire).values();
                assert.deepEqual(
                    steps!.map((step) => step.progress),
                    [1, 2, 3],
                );
            } finally {
                await client.close();
            }
        });
    });

    describe("on the wire", () => {
        for (const version of ["2024-11-05", ...VERSIONS]) {
            test(`a session of ${version}`, async () => {
                const session = await openSse(gateway);
                assert.match(session.endpoint, /^\/mcp\/message\?sessionId=[\x21-\x7e]{16,}$/);
                const { result } = await session.initialize(version);
                assert.equal(result!.protocolVersion, version);
                assert.equal(text(await session.call("one__echo", { text: "hello" }, "")), "hello");
                assert.equal(text(await session.call("two__echo", { text: "hello" }, 0)), "hello");
                assert.deepEqual((await session.request("ping")).result, {});
                session.close();
            });
        }

        test("a revision that is none of these is answered with the newest one of them", async () => {
            for (const version of ["2024-10-07", "2026-07-28", "1"]) {
                const session = await openSse(gateway);
                assert.equal((await session.initialize(version)).result!.protocolVersion, VERSIONS[2]);
                session.close();
            }
        });

        test("one server by its own names", async () => {
            const session = await openSse(gateway, "/mcp/one/sse");
            assert.match(session.endpoint, /^\/mcp\/one\/message\?sessionId=/);
            await session.initialize();
            assert.equal(text(await session.call("echo", { text: "mine" })), "mine");
            session.close();
        });

        test("two streams of one client are two sessions", async () => {
            const [a, b] = await Promise.all([openSse(gateway), openSse(gateway)]);
            assert.notEqual(a.id, b.id);
            await Promise.all([a.initialize(), b.initialize("2025-06-18")]);
            const calls = Array.from({ length: 20 }, (_, n) =>
                Promise.all([a.call("one__echo", { text: `a${n}` }, n), b.call("one__echo", { text: `b${n}` }, n)]),
            );
            for (const [n, [ofA, ofB]] of (await Promise.all(calls)).entries()) {
                assert.equal(text(ofA), `a${n}`);
                assert.equal(text(ofB), `b${n}`);
            }
            a.close();
            assert.equal(text(await b.call("one__echo", { text: "still" })), "still");
            b.close();
        });

        test("a batch; its notifications first, an answer for each request", async () => {
            const session = await openSse(gateway);
            await session.initialize();
            const accepted = await session.post([
                ping("p"),
                { jsonrpc: "2.0", method: "notifications/progress", params: { progressToken: 1, progress: 1 } },
                { jsonrpc: "2.0", id: 7, method: "tools/call", params: { name: "one__echo", arguments: { text: "7" } } },
            ]);
            assert.equal(accepted.status, 202, accepted.text);
            await session.messages.waitFor((message) => message.id === "p");
            assert.equal(text(await session.messages.waitFor((message) => message.id === 7)), "7");
            refused(await session.post([ping(1), { jsonrpc: "2.0", id: 2, method: "initialize", params: {} }]), 400);
            session.close();
            const newer = await openSse(gateway);
            await newer.initialize("2025-06-18");
            refused(await newer.post([ping(1)]), 400);
            newer.close();
        });

        test("initialize comes once; without it the session is served all the same", async () => {
            const session = await openSse(gateway);
            // an EventSource that has opened its stream again does not initialize
            assert.equal(text(await session.call("one__echo", { text: "again" })), "again");
            await session.initialize();
            const second = await session.request("initialize", { protocolVersion: "2024-11-05", capabilities: {} }, 5);
            assert.match(second.error!.message, /initialized already/);
            session.close();
        });

        test("progress and logs come before the answer, in order", async () => {
            const session = await openSse(gateway);
            await session.initialize();
            const from = session.messages.items.length;
            const params = { name: "one__progress", arguments: { steps: 3 }, _meta: { progressToken: "p" } };
            await session.request("tools/call", params, "steps");
            const came = session.messages.items.slice(from);
            assert.deepEqual(
                came.map((message) => [message.method, (message.params as { progress?: number })?.progress, message.id]),
                [
                    ...[1, 2, 3].map((step) => ["notifications/progress", step, undefined]),
                    [undefined, undefined, "steps"],
                ],
            );
            await session.request("logging/setLevel", { level: "error" });
            await session.call("one__log", { text: "mark" });
            await session.messages.waitFor((message) => message.method === "notifications/message");
            session.close();
        });

        test("cancelling is told to the server, and gets no answer", async () => {
            const session = await openSse(gateway);
            await session.initialize();
            const fixture = await serving(control, session, "one__");
            const from = fixture.events.items.length;
            const body = { jsonrpc: "2.0", id: "long", method: "tools/call", params: { name: "one__hold" } };
            assert.equal((await session.post(body)).status, 202);
            await fixture.events.waitFor((event) => event.event === "held", from);
            refusedAsRunning(await session.request("ping", undefined, "long"));
            await session.post({
                jsonrpc: "2.0",
                method: "notifications/cancelled",
                params: { requestId: "long", reason: "enough" },
            });
            await fixture.events.waitFor((event) => event.message?.method === "notifications/cancelled", from);
            assert.deepEqual((await session.request("ping", undefined, "long")).result, {});
            session.close();
        });

        test("a client that hangs up has ended its session: what it had running is cancelled", async () => {
            const session = await openSse(gateway);
            await session.initialize();
            const fixture = await serving(control, session, "one__");
            const from = fixture.events.items.length;
            await session.post({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "one__hold" } });
            await fixture.events.waitFor((event) => event.event === "held", from);
            session.close();
            await fixture.events.waitFor((event) => event.message?.method === "notifications/cancelled", from);
            await until(async () => (await session.post(ping(2))).status === 404, "the session is gone");
        });

        test("comments keep the stream alive", async (t) => {
            const quick = await started(t, { limits: { keepalive: "1s" } });
            const session = await openSse(quick);
            await until(() => session.comments.length >= 3, "three comments");
            session.close();
        });

        test("a stream on which nobody says anything ends; one that is used does not", async (t) => {
            const short = await started(t, { session_idle_timeout: "1s", limits: { keepalive: "1s" } });
            await served(short, "one__echo");
            const [silent, used] = await Promise.all([openSse(short), openSse(short)]);
            await used.initialize();
            await within(silent.ended, "the silent stream ends");
            refused(await silent.post(ping(1)), 404);
            assert.equal(text(await used.call("one__echo", { text: "here" })), "here");
            used.close();
        });

        test("SIGTERM: what runs is answered, then the stream ends", async (t) => {
            const stopping = await started(t);
            await served(stopping, "one__echo");
            const [busy, idle] = await Promise.all([openSse(stopping), openSse(stopping)]);
            await Promise.all([busy.initialize(), idle.initialize()]);
            const fixture = await serving(control, busy, "one__");
            const from = fixture.events.items.length;
            await busy.post({ jsonrpc: "2.0", id: "last", method: "tools/call", params: { name: "one__hold" } });
            await fixture.events.waitFor((event) => event.event === "held", from);
            stopping.process.kill("SIGTERM");
            await within(idle.ended, "the idle stream ends");
            assert.equal(busy.messages.items.find((message) => message.id === "last"), undefined);
            fixture.do({ do: "release" });
            assert.equal(text(await busy.messages.waitFor((message) => message.id === "last")), "released");
            await within(busy.ended, "the stream ends");
            await within(stopping.exited, "the gateway ends");
        });
    });

    describe("that mean harm", () => {
        test("sessions that are not theirs are none, whatever they are", async () => {
            const ann = tokens.as(gateway, "ann");
            const bob = tokens.as(gateway, "bob");
            const session = await openSse(ann);
            await session.initialize();
            const of = async (answer: Promise<Answer>) => {
                const { status, text: body } = await answer;
                return `${status} ${body}`;
            };
            const http = await openSession(as(gateway, tokens.value.ann!));
            const unknown = await of(session.post(ping(1), { path: `/mcp/message?sessionId=${"x".repeat(43)}` }));
            assert.match(unknown, /^404 /);
            const wrong: [string, Promise<Answer>][] = [
                ["another principal", session.post(ping(1), { target: bob })],
                ["the endpoint of a server", session.post(ping(1), { path: `/mcp/one/message?sessionId=${session.id}` })],
                ["no id", session.post(ping(1), { path: "/mcp/message" })],
                ["an empty one", session.post(ping(1), { path: "/mcp/message?sessionId=" })],
                ["a long one", session.post(ping(1), { path: `/mcp/message?sessionId=${"x".repeat(4000)}` })],
                ["two", session.post(ping(1), { path: `${session.endpoint}&sessionId=${session.id}` })],
                ["in a field", session.post(ping(1), { path: "/mcp/message", headers: { "Mcp-Session-Id": session.id } })],
                ["of Streamable HTTP", session.post(ping(1), { path: `/mcp/message?sessionId=${http.id}` })],
            ];
            for (const [what, answer] of wrong) assert.equal(await of(answer), unknown, what);
            // and the other way round
            refused(await send(ann, { headers: { "Mcp-Session-Id": session.id }, body: ping(1) }), 404);
            refused(await send(ann, { method: "GET", headers: { "Mcp-Session-Id": session.id } }), 404);
            refused(await send(ann, { method: "DELETE", headers: { "Mcp-Session-Id": session.id } }), 404);
            assert.deepEqual((await session.request("ping")).result, {});
            assert.equal(session.messages.items.length, 2, "nothing of all that came out on the stream");
            await http.end();
            session.close();
        });

        test("every request proves who asks, from where, and says what it is", async () => {
            const session = await openSse(gateway);
            const refusal = async (status: number, outgoing: Parameters<typeof send>[1]) =>
                assert.equal((await send(gateway, outgoing)).status, status, JSON.stringify(outgoing));
            const { endpoint: path } = session;
            await refusal(401, { method: "GET", path: "/mcp/sse", token: false });
            await refusal(401, { path, body: ping(1), token: false });
            await refusal(401, { path, body: ping(1), token: "cardea_wrong" });
            await refusal(403, { method: "GET", path: "/mcp/sse", headers: { Origin: "https://evil.example" } });
            await refusal(403, { path, body: ping(1), headers: { Origin: "https://evil.example" } });
            await refusal(403, { path, body: ping(1), headers: { Host: "evil.example" } });
            await refusal(400, { path: `${path}&access_token=x`, body: ping(1) });
            await refusal(405, { path: "/mcp/sse", body: ping(1) });
            await refusal(405, { method: "DELETE", path: "/mcp/sse" });
            await refusal(405, { method: "GET", path });
            await refusal(406, { method: "GET", path: "/mcp/sse", headers: { Accept: "application/json" } });
            await refusal(415, { path, body: ping(1), headers: { "Content-Type": "text/plain" } });
            await refusal(404, { method: "GET", path: "/mcp/sse/sse" });
            await refusal(404, { method: "GET", path: "/mcp/nobody/sse" });
            for (const body of ["{", "[]", "7", '{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","id":null,"method":"ping"}'])
                await refusal(400, { path, body });
            const modern = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };
            await refusal(400, { path, body: { ...ping(1), params: { _meta: modern } } });
            assert.deepEqual(session.messages.items, []);
            session.close();
        });

        test("both doors are the resource of their endpoint, and no other", async (t) => {
            const guarded = await startGateway(
                { config: { server: { oauth }, servers: { one: { cmd: control.command({ name: "one" }) } } } },
                t,
            );
            for (const [path, endpoint] of [
                ["/mcp/sse", "/mcp"],
                ["/mcp/message?sessionId=x", "/mcp"],
                ["/mcp/one/sse", "/mcp/one"],
            ] as const) {
                const method = path.includes("message") ? "POST" : "GET";
                const answer = await send(guarded, { method, path, token: false, body: method === "POST" ? ping(1) : undefined });
                assert.equal(answer.status, 401);
                const challenge = String(answer.headers["www-authenticate"]);
                assert.ok(challenge.includes(`/.well-known/oauth-protected-resource${endpoint}"`), challenge);
            }
            const token = jwt({ sub: "ann", aud: "https://gw.example/mcp/one" });
            const { session, status } = await askSse(as(guarded, token));
            assert.equal(status, 401);
            session.close();
            const mine = await openSse(as(guarded, token), "/mcp/one/sse");
            await mine.initialize();
            await until(async () => ((await mine.request("tools/list")).result!.tools as unknown[]).length > 0, "tools");
            assert.equal(text(await mine.call("echo", { text: "mine" })), "mine");
            mine.close();
        });

        test("a token that is taken away takes the stream and what runs on it away", async (t) => {
            const config = (table: Tokens["table"]): Config => ({
                server: { auth: { tokens: table } },
                servers: { one: { cmd: control.command({ name: "taken" }) } },
            });
            const both = await startGateway({ config: config(tokens.table) }, t);
            await served(both, "one__echo");
            const ann = await openSse(tokens.as(both, "ann"));
            await ann.initialize();
            await until(async () => ((await ann.request("tools/list")).result!.tools as unknown[]).length > 0, "tools");
            const fixture = await serving(control, ann, "one__");
            const from = fixture.events.items.length;
            await ann.post({ jsonrpc: "2.0", id: "held", method: "tools/call", params: { name: "one__hold" } });
            await fixture.events.waitFor((event) => event.event === "held", from);
            await reload(both, config({ bob: tokens.table.bob! }));
            await within(ann.ended, "the stream ends");
            assert.equal((await ann.post(ping(1))).status, 401);
        });

        test("a name of a server cannot stand in the way", async () => {
            for (const name of ["sse", "message"]) {
                await assert.rejects(
                    startGateway({ config: { servers: { [name]: { cmd: ["true"] } } } }),
                    /taken by an address of the gateway itself/,
                );
            }
        });

        test("a stream that sends nothing but a part of its request, and a POST without an end", async () => {
            const session = await openSse(gateway);
            const raw = new Raw(gateway.port);
            raw.socket.write(
                `POST ${session.endpoint} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${gateway.token}\r\n` +
                    "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
            );
            await until(() => raw.socket.bytesWritten > 0, "it is sent");
            session.close();
            raw.end();
        });

        test("streams are limited for each caller, and one that works is not pushed out", async (t) => {
            const few = await startGateway(
                {
                    config: {
                        server: { max_sessions: 3, auth: { tokens: tokens.table } },
                        servers: { one: { cmd: control.command({ name: "one" }) } },
                    },
                },
                t,
            );
            const ann = tokens.as(few, "ann");
            const used: SseSession[] = [];
            for (let n = 0; n < 3; n++) {
                const session = await openSse(ann);
                await session.initialize();
                used.push(session);
            }
            const { status } = await askSse(ann);
            assert.equal(status, 429);
            const other = await openSse(tokens.as(few, "bob"));
            await other.initialize();
            for (const session of used) assert.deepEqual((await session.request("ping")).result, {});
            used[0]!.close();
            await until(async () => {
                const { session, status } = await askSse(ann);
                if (status === 200) used[0] = session;
                return status === 200;
            }, "there is room again");
            // that one has said nothing yet, and makes room
            const next = await openSse(ann);
            await within(used[0]!.ended, "the silent stream makes room");
            await next.initialize();
            for (const session of [...used.slice(1), next, other]) session.close();
        });

        test("a session has 256 messages being answered at most; cancelling goes on", async () => {
            const session = await openSse(gateway);
            await session.initialize();
            const hold = (id: number) => ({
                jsonrpc: "2.0",
                id,
                method: "tools/call",
                params: { name: "one__hold", arguments: {} },
            });
            for (let id = 0; id < 256; id += 16) {
                const answers = await Promise.all(Array.from({ length: 16 }, (_, n) => session.post(hold(id + n))));
                for (const answer of answers) assert.equal(answer.status, 202, answer.text);
            }
            refused(await session.post(hold(256)), 429);
            refused(await session.post([ping(257)]), 429);
            const params = { requestId: 3 };
            const cancel = await session.post({ jsonrpc: "2.0", method: "notifications/cancelled", params });
            assert.equal(cancel.status, 202);
            await until(async () => (await session.post(ping("again"))).status === 202, "there is room again");
            await session.messages.waitFor((message) => message.id === "again");
            session.close();
        });

        test("a client that does not read waits with its next messages; others do not notice", async () => {
            const session = await openSse(gateway, "/mcp/big/sse");
            await session.initialize();
            session.incoming.pause();
            const bytes = 9 * 1024 * 1024;
            const big = (id: number) => ({
                jsonrpc: "2.0",
                id,
                method: "tools/call",
                params: { name: "big", arguments: { bytes } },
            });
            assert.equal((await session.post(big(1))).status, 202);
            const other = await openSse(gateway);
            await other.initialize();
            let n = 0;
            const held = await until(async () => {
                let isAnswered = false;
                const answer = session.post(ping(`p${++n}`)).finally(() => (isAnswered = true));
                for (let k = 0; k < 20; k++) assert.equal(text(await other.call("one__echo", { text: "on" })), "on");
                return isAnswered ? undefined : { answer };
            }, "a message that waits");
            other.close();
            session.incoming.resume();
            const answer = await session.messages.waitFor((message) => message.id === 1);
            assert.equal(text(answer).length, bytes);
            assert.equal((await held.answer).status, 202);
            await session.messages.waitFor((message) => message.id === `p${n}`);
            assert.deepEqual((await session.request("ping")).result, {});
            session.close();
        });

        test("one that never reads is cut off when it holds too much, and costs itself only", async () => {
            const session = await openSse(gateway, "/mcp/big/sse");
            await session.initialize();
            session.incoming.pause();
            for (let n = 0; n < 4; n++) {
                const params = { name: "big", arguments: { bytes: 9 * 1024 * 1024 } };
                void session.post({ jsonrpc: "2.0", id: n, method: "tools/call", params }).catch(() => {});
            }
            const other = await openSse(gateway);
            await other.initialize();
            assert.equal(text(await other.call("one__echo", { text: "here" })), "here");
            other.close();
            session.close();
        });
    });
});

function refusedAsRunning(message: RpcMessage): void {
    assert.match(message.error!.message, /still running/);
}
