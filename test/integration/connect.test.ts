/* `cardea connect`: a client that knows only stdio, before gateways and before servers themselves. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import { Client as NewClient } from "@modelcontextprotocol/client";
import { StdioClientTransport as NewTransport } from "@modelcontextprotocol/client/stdio";

import { MODERN } from "./fixtures/brain.ts";
import { startHttp } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import { progressOf } from "./lib/clients.ts";
import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { binary, startGateway, type Gateway } from "./lib/gateway.ts";
import { served, text } from "./lib/http.ts";
import { packaged } from "./lib/parity.ts";
import { StdioClient } from "./lib/stdio-client.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
import { until, within } from "./lib/wait.ts";

const withToken = (token: string): NodeJS.ProcessEnv => ({ ...process.env, CARDEA_TOKEN: token });

async function freePort(): Promise<number> {
    const server = net.createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as net.AddressInfo;
    server.close();
    await once(server, "close");
    return port;
}

/** server-everything over HTTP, as it is. */
async function everything(t: TestContext, kind: "streamableHttp" | "sse"): Promise<number> {
    const port = await freePort();
    const [command, script] = packaged("server-everything");
    const child = spawn(command!, [script!, kind], { env: { ...process.env, PORT: String(port) }, stdio: "ignore" });
    t.after(() => child.kill("SIGKILL"));
    await until(async () => {
        const socket = net.connect(port, "127.0.0.1");
        const isOpen = await new Promise((resolve) => {
            socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
        });
        socket.destroy();
        return isOpen;
    }, "server-everything listens");
    return port;
}

/** Answers each request as `answer` says. */
async function startServer(
    t: TestContext,
    answer: (request: http.IncomingMessage, body: string, response: http.ServerResponse) => void,
): Promise<{ url: string; port: number }> {
    const server = http.createServer((request, response) => {
        let body = "";
        request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
        request.on("end", () => answer(request, body, response));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
        server.closeAllConnections();
        server.close();
    });
    const { port } = server.address() as net.AddressInfo;
    return { url: `http://127.0.0.1:${port}/mcp`, port };
}

describe("cardea connect", () => {
    let control: Control;
    let gateway: Gateway;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                servers: {
                    everything: { cmd: packaged("server-everything") },
                    one: { cmd: control.command({ name: "one" }) },
                },
            },
        });
        await served(gateway, "everything__echo", "one__echo");
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    describe("before a gateway", () => {
        test("the SDK's client: list, call, progress, prompt", async () => {
            const client = new Client({ name: "stdio", version: "1" });
            const transport = new StdioClientTransport({
                command: binary(),
                args: ["connect", gateway.url],
                env: { ...(process.env as Record<string, string>), CARDEA_TOKEN: gateway.token },
                stderr: "ignore",
            });
            await within(client.connect(transport), "the client connects");
            try {
                const { tools } = await client.listTools();
                assert.ok(tools.some((tool) => tool.name === "everything__echo"));
                const answer = await client.callTool({ name: "everything__echo", arguments: { message: "ä\n\u2028" } });
                assert.deepEqual(answer.content, [{ type: "text", text: "Echo: ä\n\u2028" }]);
                const wire: JSONRPCMessage[] = [];
                const deliver = transport.onmessage!;
                transport.onmessage = (message) => {
                    wire.push(message);
                    deliver(message);
                };
                await client.callTool(
                    { name: "everything__trigger-long-running-operation", arguments: { duration: 0.3, steps: 3 } },
                    undefined,
                    { onprogress: () => {} },
                );
                const [steps] = progressOf(wire).values();
                assert.deepEqual(
                    steps!.map((step) => step.progress),
                    [1, 2, 3],
                );
                const prompt = await client.getPrompt({ name: "everything__args-prompt", arguments: { city: "Rome" } });
                assert.match(JSON.stringify(prompt), /Rome/);
            } finally {
                await client.close();
            }
        });

        for (const mode of ["legacy", "auto", { pin: MODERN }] as const) {
            test(`the SDK 2.x: ${JSON.stringify(mode)}`, async () => {
                const client = new NewClient({ name: "sdk-2", version: "1" }, { capabilities: {}, versionNegotiation: { mode } });
                const transport = new NewTransport({
                    command: binary(),
                    args: ["connect", gateway.url],
                    env: { ...(process.env as Record<string, string>), CARDEA_TOKEN: gateway.token },
                    stderr: "ignore",
                });
                await within(client.connect(transport), "the client connects");
                try {
                    assert.equal(client.getNegotiatedProtocolVersion(), mode === "legacy" ? "2025-11-25" : MODERN);
                    const answer = await client.callTool({ name: "everything__echo", arguments: { message: "2.x" } });
                    assert.deepEqual(answer.content, [{ type: "text", text: "Echo: 2.x" }]);
                } finally {
                    await client.close();
                }
            });
        }

        test("without a URL: the one that runs here, with its token", async () => {
            const client = new StdioClient(["connect", "--data-dir", gateway.dataDir]);
            await client.initialize();
            assert.equal(text(await client.call("one__echo", { text: "here" })), "here");
            assert.deepEqual(await client.close(), { code: 0, signal: null });
            assert.equal(client.stderr, "");
        });

        test("with TLS, without a URL: its own authority is trusted", async (t) => {
            const secure = await startGateway(
                { config: { server: { tls: { auto: true, names: ["localhost"] } }, servers: { one: { cmd: control.command({ name: "s" }) } } } },
                t,
            );
            const client = new StdioClient(["connect", "--data-dir", secure.dataDir]);
            await client.initialize();
            await until(async () => {
                const { result } = await client.request("tools/list");
                return (result!.tools as unknown[]).length > 0;
            }, "there are tools");
            assert.equal(text(await client.call("one__echo", { text: "safe" })), "safe");
            await client.close();
        });

        test("a client of 2026-07-28: fields from the body, cancelling by hanging up", async () => {
            const client = new StdioClient(["connect", gateway.url], withToken(gateway.token));
            const { result } = await client.modern("server/discover");
            assert.ok((result!.supportedVersions as string[]).includes("2026-07-28"));
            const params = { name: "one__echo", arguments: { text: "no handshake" } };
            assert.equal(text(await client.modern("tools/call", params)), "no handshake");
            const { pid } = JSON.parse(text(await client.modern("tools/call", { name: "one__whoami" }))) as { pid: number };
            const fixture = await control.starts.waitFor((process) => process.start.pid === pid);
            const from = fixture.events.items.length;
            void client.modern("tools/call", { name: "one__hold" }, "held").catch(() => {});
            await fixture.events.waitFor((event) => event.event === "held", from);
            client.write({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: "held" } });
            await fixture.events.waitFor((event) => event.message?.method === "notifications/cancelled", from);
            assert.equal(text(await client.modern("tools/call", params)), "no handshake");
            assert.equal(client.messages.items.find((message) => message.id === "held"), undefined);
            assert.equal((await client.close()).code, 0);
        });

        test("what changes comes on the stream; cancelling is told; many at once", async () => {
            const client = new StdioClient(["connect", `${gateway.url}/one`], withToken(gateway.token));
            await client.initialize("2025-06-18");
            const { pid } = JSON.parse(text(await client.call("whoami"))) as { pid: number };
            const fixture = await control.starts.waitFor((process) => process.start.pid === pid);
            await fixture.sync();
            const from = fixture.events.items.length;
            await until(async () => {
                fixture.notify("notifications/tools/list_changed");
                await client.request("ping");
                return client.messages.items.some((message) => message.method === "notifications/tools/list_changed");
            }, "tools/list_changed");
            void client.call("hold", {}, "held").catch(() => {});
            await fixture.events.waitFor((event) => event.event === "held", from);
            const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => client.call("echo", { text: `${n}` })));
            assert.deepEqual(answers.map(text), Array.from({ length: 50 }, (_, n) => `${n}`));
            client.write({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: "held" } });
            await fixture.events.waitFor((event) => event.message?.method === "notifications/cancelled", from);
            assert.equal((await client.close()).code, 0);
        });

        test("a pipe: what was asked is answered before it ends", async () => {
            const lines = [
                { jsonrpc: "2.0", id: 1, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "p", version: "1" } } },
                { jsonrpc: "2.0", method: "notifications/initialized" },
                { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "one__echo", arguments: { text: "last" } } },
            ];
            const run = await cardea(["connect", gateway.url], {
                env: withToken(gateway.token),
                input: lines.map((line) => JSON.stringify(line)).join("\n"), // the last one without an end
            });
            assert.equal(run.code, 0, run.stderr);
            const messages = run.stdout.trim().split("\n").map((line) => JSON.parse(line) as RpcMessage);
            assert.equal(text(messages.find((message) => message.id === 2)!), "last");
        });

        test("lines that are no messages are answered with what is wrong", async () => {
            const client = new StdioClient(["connect", gateway.url], withToken(gateway.token));
            client.write("{");
            await client.messages.waitFor((message) => message.error?.code === -32700);
            client.write('{"jsonrpc":"2.0","id":7}');
            assert.equal((await client.answer(7)).error!.code, -32600);
            client.write("");
            await client.initialize();
            assert.deepEqual((await client.request("ping")).result, {});
            await client.close();
        });

        test("a gateway that was killed and started again: the session is begun anew", async (t) => {
            const dataDir = temporaryFolder();
            const port = await freePort();
            const config = { servers: { one: { cmd: control.command({ name: "again" }) } } };
            const options = { config, dataDir, args: ["-l", `127.0.0.1:${port}`], audit: false as const };
            const first = await startGateway(options, t);
            await served(first, "one__echo");
            const client = new StdioClient(["connect", `http://127.0.0.1:${port}/mcp`], withToken(first.token));
            await client.initialize();
            assert.equal(text(await client.call("one__echo", { text: "before" })), "before");
            await first.kill();
            const waiting = client.call("one__echo", { text: "between" }); // nobody listens: it waits
            const second = await startGateway(options, t);
            await served(second, "one__echo");
            assert.equal(text(await waiting), "between");
            assert.equal(text(await client.call("one__echo", { text: "after" })), "after");
            assert.equal((await client.close()).code, 0);
        });

        test("wrong and missing tokens are told, with what to do", async () => {
            const client = new StdioClient(["connect", gateway.url], { ...process.env, CARDEA_TOKEN: "wrong" });
            const { error } = await client.initialize();
            assert.ok(error !== undefined);
            await client.close();
            assert.match(client.stderr, /CARDEA_TOKEN/);
            const folder = temporaryFolder();
            writeFileSync(join(folder, "token"), `${gateway.token}\n`);
            const right = new StdioClient(["connect", gateway.url, "--token-file", join(folder, "token")]);
            await right.initialize();
            await right.close();
            removeFolder(folder);
        });

        test("what the command refuses", async () => {
            const refused = async (args: string[], expected: RegExp, env = process.env) => {
                const run = await cardea(["connect", ...args], { env, input: "" });
                assert.notEqual(run.code, 0, args.join(" "));
                assert.equal(run.stdout, "");
                assert.match(run.stderr, expected);
            };
            await refused(["http://127.0.0.1:1/mcp", "--header", "Authorization: Bearer x"], /CARDEA_TOKEN/);
            await refused(["http://127.0.0.1:1/mcp", "--header", "no colon"], /Name: value/);
            await refused(["http://127.0.0.1:1/mcp", "--header", "A: b\r\nC: d"], /header field/);
            await refused(["http://gw.example/mcp"], /https/, withToken("secret"));
            await refused(["ftp://gw.example/mcp"], /http/);
            await refused(["--data-dir", temporaryFolder()], /no gateway runs/);
            await refused([gateway.url, "--token-file", "/nonexistent"], /cannot read the token/);
        });
    });

    describe("before servers themselves", () => {
        for (const [kind, path] of [
            ["streamableHttp", "/mcp"],
            ["sse", "/sse"],
        ] as const) {
            test(`server-everything over ${kind}`, async (t) => {
                const port = await everything(t, kind);
                const client = new StdioClient(["connect", `http://127.0.0.1:${port}${path}`]);
                const { result } = await client.initialize();
                assert.equal(typeof result!.protocolVersion, "string");
                const answer = await client.call("echo", { message: "directly" });
                assert.equal(text(answer), "Echo: directly");
                const params = {
                    name: "trigger-long-running-operation",
                    arguments: { duration: 0.2, steps: 2 },
                    _meta: { progressToken: "p" },
                };
                await client.request("tools/call", params);
                const steps = client.messages.items.filter((message) => message.method === "notifications/progress");
                assert.ok(steps.length >= 2);
                assert.equal((await client.close()).code, 0);
            });
        }

        for (const [kind, path] of [
            ["streamableHttp", "/mcp"],
            ["sse", "/sse"],
        ] as const) {
            test(`a client of both eras finds out that ${kind} is of the older one`, async (t) => {
                const port = await everything(t, kind);
                const client = new NewClient(
                    { name: "sdk-2", version: "1" },
                    { capabilities: {}, versionNegotiation: { mode: "auto" } },
                );
                const args = ["connect", `http://127.0.0.1:${port}${path}`];
                await within(client.connect(new NewTransport({ command: binary(), args, stderr: "ignore" })), "connected");
                try {
                    const answer = await client.callTool({ name: "echo", arguments: { message: "older" } });
                    assert.deepEqual(answer.content, [{ type: "text", text: "Echo: older" }]);
                } finally {
                    await client.close();
                }
            });
        }

        test("the gateway's own HTTP+SSE", async () => {
            const client = new StdioClient(["connect", `${gateway.url}/one/sse`], withToken(gateway.token));
            await client.initialize("2024-11-05");
            assert.equal(text(await client.call("echo", { text: "old" })), "old");
            assert.equal((await client.close()).code, 0);
        });

        test("a server of 2026-07-28 with arguments in fields", async (t) => {
            const fixture = await startHttp({ revisions: ["2026-07-28"] } as Parameters<typeof startHttp>[0], t);
            const client = new StdioClient(["connect", fixture.url]);
            await client.modern("tools/list");
            const args = { region: "Zürich", count: 3 };
            const answer = await client.modern("tools/call", { name: "mirror", arguments: args });
            assert.deepEqual(JSON.parse(text(answer)), args);
            await client.close();
        });

        test("an endpoint of another origin is not shown our token", async (t) => {
            let asked = 0;
            const thief = await startServer(t, (_request, _body, response) => {
                asked++;
                response.writeHead(202).end();
            });
            const server = await startServer(t, (request, _body, response) => {
                if (request.method !== "GET") {
                    response.writeHead(405).end();
                    return;
                }
                response.writeHead(200, { "Content-Type": "text/event-stream" });
                response.write(`event: endpoint\ndata: http://127.0.0.1:${thief.port}/message\n\n`);
            });
            const client = new StdioClient(["connect", server.url], withToken("secret"));
            const { error } = await client.initialize();
            assert.ok(error !== undefined);
            assert.equal((await within(client.exited, "it ends")).code, 1);
            assert.match(client.stderr, /another origin/);
            assert.equal(asked, 0);
        });

        test("what is no MCP is told, and never written to the client", async (t) => {
            const bodies: [number, string, string][] = [
                [200, "text/html", "<p>hello</p>"],
                [200, "application/json", "[1,"],
                [200, "application/json", '{"jsonrpc":"2.0","id":"other","result":{}}'],
                [200, "text/event-stream", "data: not json\n\n"],
                [200, "text/event-stream", "data: \xff\xfe\n\n"],
                [500, "text/html", "<p>oops</p>"],
                [204, "text/html", ""],
            ];
            for (const [status, type, body] of bodies) {
                const server = await startServer(t, (_request, _body, response) => {
                    response.writeHead(status, { "Content-Type": type });
                    response.end(Buffer.from(body, "latin1"));
                });
                const client = new StdioClient(["connect", server.url]);
                const { error } = await client.initialize();
                assert.ok(error !== undefined, `${status} ${type} ${body}`);
                await client.close();
                assert.equal(client.messages.items.length, 1);
            }
        });

        test("a session that is gone with its subscriptions ends the bridge", async (t) => {
            let isGone = false;
            const server = await startServer(t, (request, body, response) => {
                if (request.method !== "POST") {
                    response.writeHead(405).end();
                    return;
                }
                const message = JSON.parse(body) as RpcMessage;
                if (message.id === undefined) {
                    response.writeHead(202).end();
                    return;
                }
                if (isGone) {
                    response.writeHead(404).end();
                    return;
                }
                const result = message.method === "initialize" ? { protocolVersion: "2025-11-25", capabilities: {}, serverInfo: { name: "s", version: "1" } } : {};
                response.writeHead(200, { "Content-Type": "application/json", "Mcp-Session-Id": "one" });
                response.end(JSON.stringify({ jsonrpc: "2.0", id: message.id, result }));
            });
            const client = new StdioClient(["connect", server.url]);
            await client.initialize();
            await client.request("resources/subscribe", { uri: "test://one" });
            isGone = true;
            const { error } = await client.request("ping");
            assert.ok(error !== undefined);
            assert.equal((await within(client.exited, "it ends")).code, 1);
            assert.match(client.stderr, /subscribed/);
        });

        test("a client that does not read any more ends the bridge, which says so", async (t) => {
            const server = await startServer(t, (_request, _body, response) => {
                response.writeHead(200, { "Content-Type": "application/json" });
                response.end(JSON.stringify({ jsonrpc: "2.0", id: 1, result: {} }));
            });
            const client = new StdioClient(["connect", server.url]);
            client.process.stdout!.destroy();
            client.write({ jsonrpc: "2.0", id: 1, method: "ping" });
            assert.equal((await within(client.exited, "it ends")).code, 1);
            assert.match(client.stderr, /does not read any more/);
        });

        test("an answer that breaks off is not asked for twice", async (t) => {
            let calls = 0;
            const server = await startServer(t, (request, body, response) => {
                const message = request.method === "POST" ? (JSON.parse(body) as RpcMessage) : undefined;
                if (message?.method === "tools/call") {
                    calls++;
                    request.socket.destroy();
                } else if (message?.id === undefined) response.writeHead(message === undefined ? 405 : 202).end();
                else {
                    const result = { protocolVersion: "2025-11-25", capabilities: {}, serverInfo: { name: "s", version: "1" } };
                    response.writeHead(200, { "Content-Type": "application/json" });
                    response.end(JSON.stringify({ jsonrpc: "2.0", id: message.id, result }));
                }
            });
            const client = new StdioClient(["connect", server.url]);
            await client.initialize();
            assert.ok((await client.call("pay", {})).error !== undefined);
            assert.equal(calls, 1);
            await client.close();
        });

        test("with its own authority: --ca", async (t) => {
            const authority = new Authority();
            const folder = temporaryFolder();
            t.after(() => removeFolder(folder));
            const own = authority.sign("DNS:localhost,IP:127.0.0.1");
            writeFileSync(join(folder, "own.pem"), own.cert);
            writeFileSync(join(folder, "own.key"), own.key, { mode: 0o600 });
            const files = { certificate: join(folder, "own.pem"), key: join(folder, "own.key") };
            const secure = await startGateway(
                { config: { server: { tls: files }, servers: { one: { cmd: control.command({ name: "ca" }) } } } },
                t,
            );
            secure.tls = { ca: readFileSync(authority.file, "utf8") };
            await served(secure, "one__echo");
            const url = `https://localhost:${secure.port}/mcp`;
            const client = new StdioClient(["connect", url, "--ca", authority.file], withToken(secure.token));
            await client.initialize();
            assert.equal(text(await client.call("one__echo", { text: "trusted" })), "trusted");
            await client.close();
            const stranger = new StdioClient(["connect", url], withToken(secure.token));
            assert.ok((await stranger.initialize()).error !== undefined);
            await stranger.close();
        });
    });
});
