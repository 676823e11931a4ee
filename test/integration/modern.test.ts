/* Clients of 2026-07-28 on the endpoint that serves sessions too, before servers that know sessions only. */
import assert from "node:assert/strict";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { after, before, describe, test, type TestContext } from "node:test";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

import { CAPABILITIES_KEY, CLIENT_KEY, LEVEL_KEY, LEVELS, MODERN, SERVER_KEY, VERSION_KEY } from "./fixtures/brain.ts";
import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, send, served, text, type Answer, type Outgoing } from "./lib/http.ts";
import { encodeField, ModernClient } from "./lib/modern.ts";
import { packaged } from "./lib/parity.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

/** A change of one part of a request that is right; undefined takes a member or a field out. */
interface Change {
    path?: string;
    method?: string;
    params?: { [key: string]: unknown };
    meta?: { [key: string]: unknown };
    headers?: Outgoing["headers"];
    /** no `_meta` at all */
    bare?: boolean;
}

interface Row extends Change {
    name: string;
    status: number;
    code?: number;
    data?: unknown;
    says?: RegExp;
}

const envelope = { [VERSION_KEY]: MODERN, [CAPABILITIES_KEY]: {}, [CLIENT_KEY]: { name: "rows", version: "1" } };
const base64 = (value: string) => `=?base64?${Buffer.from(value, "utf8").toString("base64")}?=`;
const IDS = [0, 1, -7, Number.MAX_SAFE_INTEGER, "", "0", "a\"b\\ü", "x".repeat(200)];

function build(change: Change, id: string | number | undefined): Outgoing {
    const method = change.method ?? "tools/call";
    const given = change.params ?? (method === "tools/call" ? { name: "one__echo", arguments: { text: "hi" } } : {});
    const subject = method === "resources/read" ? given.uri : given.name;
    const isNamed = ["tools/call", "prompts/get", "resources/read"].includes(method) && typeof subject === "string";
    return {
        path: change.path,
        headers: {
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
            ...(isNamed ? { "Mcp-Name": encodeField(subject) } : {}),
            ...change.headers,
        },
        body: {
            jsonrpc: "2.0",
            id,
            method,
            params: change.bare ? given : { ...given, _meta: { ...envelope, ...change.meta } },
        },
    };
}

/** Sends the request once with each kind of id; the answer must carry that id, of the same type. */
async function check(gateway: Gateway, row: Row): Promise<void> {
    for (const id of IDS) {
        const answer = await send(gateway, build(row, id));
        const what = `id ${JSON.stringify(id)}: ${answer.status} ${answer.text.slice(0, 400)}`;
        assert.equal(answer.status, row.status, what);
        assert.equal(answer.headers["mcp-session-id"], undefined, what);
        assert.equal(answer.messages.length, 1, what);
        const [message] = answer.messages as [RpcMessage];
        assert.strictEqual(message.id, id, what);
        assert.equal(message.error?.code, row.code, what);
        if (row.code === undefined) assert.equal(message.result?.resultType, "complete", what);
        if (row.data !== undefined) assert.deepEqual(message.error!.data, row.data, what);
        if (row.says !== undefined) assert.match(message.error!.message, row.says, what);
    }
}

describe("2026-07-28", () => {
    let control: Control;
    let gateway: Gateway;
    let one: FixtureProcess;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                servers: {
                    one: {
                        cmd: control.command({
                            name: "one",
                            instructions: "Be kind.",
                            prompts: [{ name: "review" }],
                            resources: [{ uri: "test://one", name: "one" }],
                            resourceTemplates: [{ uriTemplate: "test://ünï/{id}", name: "thing" }],
                        }),
                    },
                    two: { cmd: control.command({ name: "two" }) },
                    bare: { cmd: control.command({ name: "bare", capabilities: { tools: {} } }) },
                },
            },
        });
        await served(gateway, "one__echo", "two__echo", "bare__echo");
        one = await control.started("one");
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    const client = (path?: string) => new ModernClient(gateway, path);

    describe("what a request has to carry, in the order in which it is checked", () => {
        const unknown = (requested: string) => ({
            headers: { "MCP-Protocol-Version": requested },
            meta: { [VERSION_KEY]: requested },
            status: 400,
            code: -32022,
            data: { supported: [MODERN], requested },
        });
        const mismatch = { status: 400, code: -32020 };
        const rows: Row[] = [
            { name: "all of it", status: 200 },
            { name: "clientInfo may be missing", meta: { [CLIENT_KEY]: undefined }, status: 200 },

            ...[
                { name: "no clientCapabilities", meta: { [CAPABILITIES_KEY]: undefined }, says: /clientCapabilities/ },
                { name: "clientCapabilities is no object", meta: { [CAPABILITIES_KEY]: [] } },
                { name: "clientCapabilities is null", meta: { [CAPABILITIES_KEY]: null } },
                { name: "protocolVersion is no string", meta: { [VERSION_KEY]: 20260728 }, says: /protocolVersion/ },
                { name: "protocolVersion is null", meta: { [VERSION_KEY]: null } },
                { name: "clientInfo is no object", meta: { [CLIENT_KEY]: "me" } },
                { name: "a log level that does not exist", meta: { [LEVEL_KEY]: "loud" }, says: /logLevel/ },
                { name: "a log level that is no string", meta: { [LEVEL_KEY]: 3 } },
                { name: "no _meta, but the field names the revision", bare: true, says: /protocolVersion.*clientCap/ },
                { name: "no claim, but the field names the revision", meta: { [VERSION_KEY]: undefined } },
                {
                    name: "no claim, and the field names a revision to come",
                    bare: true,
                    headers: { "MCP-Protocol-Version": "2031-01-01" },
                },
                {
                    name: "the envelope before the fields",
                    meta: { [CAPABILITIES_KEY]: undefined },
                    headers: { "MCP-Protocol-Version": undefined, "Mcp-Method": undefined },
                },
                {
                    name: "the envelope before the revision",
                    meta: { [VERSION_KEY]: "2031-01-01", [CAPABILITIES_KEY]: undefined },
                    headers: { "MCP-Protocol-Version": "2031-01-01" },
                },
                { name: "the envelope before the method", method: "no/such", meta: { [CAPABILITIES_KEY]: undefined } },
            ].map((row) => ({ status: 400, code: -32602, ...row })),

            { name: "initialize without a claim", method: "initialize", bare: true, ...mismatch },
            { name: "no version field", headers: { "MCP-Protocol-Version": undefined }, ...mismatch },
            { name: "another version field", headers: { "MCP-Protocol-Version": "2025-11-25" }, ...mismatch },
            { name: "an empty version field", headers: { "MCP-Protocol-Version": "" }, ...mismatch },
            {
                name: "the version field twice",
                headers: { "MCP-Protocol-Version": [MODERN, MODERN] },
                ...mismatch,
            },
            { name: "a different claim, though nobody knows it", meta: { [VERSION_KEY]: "2031-01-01" }, ...mismatch },
            { name: "white space around a field", headers: { "MCP-Protocol-Version": ` ${MODERN} ` }, status: 200 },
            {
                name: "field names in any case",
                headers: {
                    "MCP-Protocol-Version": undefined,
                    "Mcp-Method": undefined,
                    "Mcp-Name": undefined,
                    "mcp-PROTOCOL-version": MODERN,
                    "MCP-METHOD": "tools/call",
                    "mcp-name": "one__echo",
                },
                status: 200,
            },

            { name: "a revision to come", ...unknown("2031-01-01") },
            { name: "no revision at all", ...unknown("latest") },
            { name: "a revision with sessions, in an envelope", ...unknown("2025-11-25") },
            { name: "the first revision, in an envelope", ...unknown("2024-11-05") },
            {
                name: "the revision before the other fields",
                ...unknown("2031-01-01"),
                headers: { "MCP-Protocol-Version": "2031-01-01", "Mcp-Method": undefined, "Mcp-Name": undefined },
            },

            { name: "no Mcp-Method", headers: { "Mcp-Method": undefined }, ...mismatch },
            { name: "another Mcp-Method", headers: { "Mcp-Method": "tools/list" }, ...mismatch },
            { name: "Mcp-Method in another case", headers: { "Mcp-Method": "Tools/Call" }, ...mismatch },
            { name: "Mcp-Method twice", headers: { "Mcp-Method": ["tools/call", "tools/call"] }, ...mismatch },
            { name: "Mcp-Method with white space", headers: { "Mcp-Method": "\ttools/call " }, status: 200 },
            {
                name: "Mcp-Method before the method",
                method: "no/such",
                headers: { "Mcp-Method": undefined },
                ...mismatch,
            },

            { name: "no Mcp-Name", headers: { "Mcp-Name": undefined }, ...mismatch },
            { name: "another Mcp-Name", headers: { "Mcp-Name": "two__echo" }, ...mismatch },
            { name: "Mcp-Name in another case", headers: { "Mcp-Name": "one__Echo" }, ...mismatch },
            { name: "an empty Mcp-Name", headers: { "Mcp-Name": "" }, ...mismatch },
            { name: "Mcp-Name twice", headers: { "Mcp-Name": ["one__echo", "one__echo"] }, ...mismatch },
            { name: "Mcp-Name twice, one of them wrong", headers: { "Mcp-Name": ["one__echo", "two__echo"] }, ...mismatch },
            { name: "Mcp-Name with white space", headers: { "Mcp-Name": "  one__echo\t" }, status: 200 },
            { name: "Mcp-Name in base64", headers: { "Mcp-Name": base64("one__echo") }, status: 200 },
            { name: "another Mcp-Name in base64", headers: { "Mcp-Name": base64("two__echo") }, ...mismatch },
            { name: "base64 without its padding", headers: { "Mcp-Name": "=?base64?b25lX19lY2hv?" }, ...mismatch },
            { name: "base64 with a wrong byte", headers: { "Mcp-Name": "=?base64?b25lX19lY2h*?=" }, ...mismatch },
            { name: "base64 of a wrong length", headers: { "Mcp-Name": "=?base64?b25lX19lY2h?=" }, ...mismatch },
            { name: "markers are lower case", headers: { "Mcp-Name": "=?BASE64?b25lX19lY2hv?=" }, ...mismatch },
            { name: "Mcp-Name of a prompt", method: "prompts/get", params: { name: "one__review" }, status: 200 },
            {
                name: "no Mcp-Name of a prompt",
                method: "prompts/get",
                params: { name: "one__review" },
                headers: { "Mcp-Name": undefined },
                ...mismatch,
            },
            { name: "Mcp-Name of a resource", method: "resources/read", params: { uri: "test://one" }, status: 200 },
            {
                name: "Mcp-Name of a resource with bytes that no field may have",
                method: "resources/read",
                params: { uri: "test://ünï/5" },
                status: 200,
            },
            {
                name: "another Mcp-Name of a resource",
                method: "resources/read",
                params: { uri: "test://one" },
                headers: { "Mcp-Name": "test://two" },
                ...mismatch,
            },
            {
                name: "Mcp-Name where it says nothing",
                method: "tools/list",
                headers: { "Mcp-Name": "=?base64?*?=" },
                status: 200,
            },
            { name: "a name that is missing is the tool's business", params: {}, status: 200, code: -32602 },
            { name: "a name that is no string, too", params: { name: 7 }, status: 200, code: -32602 },

            ...[
                "no/such",
                "constructor",
                "initialize",
                "ping",
                "logging/setLevel",
                "resources/subscribe",
                "resources/unsubscribe",
                "tasks/get",
                "tasks/list",
                "roots/list",
                "sampling/createMessage",
                "notifications/cancelled",
            ].map((method) => ({ name: `there is no ${method}`, method, status: 404, code: -32601 })),
            ...["prompts/list", "resources/list", "resources/templates/list", "completion/complete"].map((method) => ({
                name: `${method}, which the only server does not have`,
                path: "/mcp/bare",
                method,
                status: 404,
                code: -32601,
            })),
            { name: "tools/list, which it has", path: "/mcp/bare", method: "tools/list", status: 200 },

            { name: "a tool that nobody has", params: { name: "one__none" }, status: 200, code: -32602 },
            { name: "a prompt that nobody has", method: "prompts/get", params: { name: "x" }, status: 200, code: -32602 },
            {
                name: "a resource that nobody has",
                method: "resources/read",
                params: { uri: "other://x" },
                status: 200,
                code: -32602,
                data: { uri: "other://x" },
            },
            { name: "a cursor of nobody", method: "tools/list", params: { cursor: "x" }, status: 200, code: -32602 },

            { name: "a session id is not looked at", headers: { "Mcp-Session-Id": "none" }, status: 200 },
            { name: "nor a malformed one", headers: { "Mcp-Session-Id": ["a b", "x".repeat(500)] }, status: 200 },
            { name: "nor an event's", headers: { "Last-Event-ID": "5" }, status: 200 },
        ];
        for (const row of rows) test(row.name, async () => check(gateway, row));
    });

    test("the phases of HTTP come first", async () => {
        const ask = async (headers: Outgoing["headers"], token?: false) =>
            send(gateway, { ...build({ headers }, 1), ...(token === undefined ? {} : { token }) });
        for (const [answer, status] of [
            [await ask({ Origin: "http://evil.example.com" }), 403],
            [await ask({ Host: "evil.example.com" }), 403],
            [await ask({}, false), 401],
            [await ask({ "Content-Type": "text/plain" }), 415],
            [await ask({ Accept: "application/json" }), 406],
        ] as [Answer, number][]) {
            assert.equal(answer.status, status, answer.text);
            assert.ok(!("id" in answer.messages[0]!), answer.text);
        }
    });

    test("GET and DELETE are 405, and end nothing", async () => {
        const session = await openSession(gateway);
        for (const method of ["GET", "DELETE"]) {
            for (const version of [MODERN, "2031-01-01"]) {
                for (const headers of [{}, { "Mcp-Session-Id": session.id }, { "Last-Event-ID": "1" }]) {
                    const answer = await send(gateway, {
                        method,
                        headers: { Accept: "*/*", ...headers, "MCP-Protocol-Version": version },
                    });
                    assert.equal(answer.status, 405, answer.text);
                    assert.equal(answer.headers.allow, "POST");
                }
            }
        }
        assert.deepEqual((await session.request("ping")).result, {});
        await session.end();
    });

    test("notifications are taken and mean nothing", async () => {
        const from = one.events.items.length;
        const waiting = client("/mcp/one").call("hold", {}, { id: "held" });
        await one.events.waitFor((event) => event.event === "held", from);
        for (const _meta of [undefined, { [VERSION_KEY]: MODERN }, envelope]) {
            for (const method of ["notifications/cancelled", "notifications/initialized", "no/such"]) {
                for (const headers of [{}, { "Mcp-Method": method }]) {
                    const answer = await send(gateway, {
                        path: "/mcp/one",
                        headers: { ...headers, "MCP-Protocol-Version": MODERN },
                        body: { jsonrpc: "2.0", method, params: { requestId: "held", _meta } },
                    });
                    assert.equal(answer.status, 202, answer.text);
                    assert.equal(answer.text, "");
                }
            }
        }
        one.do({ do: "release" });
        assert.equal(text(await waiting), "released");
        const claim = async (version: unknown, header: string | undefined) =>
            send(gateway, {
                headers: { "MCP-Protocol-Version": header },
                body: { jsonrpc: "2.0", method: "notifications/x", params: { _meta: { [VERSION_KEY]: version } } },
            });
        assert.equal((await claim(MODERN, undefined)).status, 202, "the fields are asked of requests");
        for (const [answer, code] of [
            [await claim(7, MODERN), -32602],
            [await claim("2031-01-01", MODERN), -32020],
            [await claim(MODERN, "2025-11-25"), -32020],
        ] as [Answer, number][]) {
            assert.equal(answer.status, 400, answer.text);
            assert.equal(answer.messages[0]!.error!.code, code);
            assert.ok(!("id" in answer.messages[0]!), answer.text);
        }
    });

    test("answers of clients are refused", async () => {
        for (const body of [
            { jsonrpc: "2.0", id: 1, result: {} },
            { jsonrpc: "2.0", id: 1, error: { code: 1, message: "no" } },
        ]) {
            const answer = await send(gateway, { headers: { "MCP-Protocol-Version": MODERN }, body });
            assert.equal(answer.status, 400, answer.text);
            assert.equal(answer.messages[0]!.error!.code, -32600);
            assert.ok(!("id" in answer.messages[0]!), answer.text);
        }
    });

    test("batches: none, and nothing of one with a message of 2026-07-28 runs", async () => {
        const session = await openSession(gateway, "/mcp/one", "2025-03-26");
        const legacy = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "echo", arguments: { text: "batch" } } };
        const modern = { ...legacy, id: 2, params: { ...legacy.params, _meta: envelope } };
        const notification = { jsonrpc: "2.0", method: "notifications/x", params: { _meta: { [VERSION_KEY]: MODERN } } };
        const from = one.events.items.length;
        const elsewhere = [{}, { "Mcp-Session-Id": "none" }, { "MCP-Protocol-Version": MODERN }];
        for (const body of [[legacy, modern], [modern], [notification, legacy], [legacy, notification]]) {
            for (const headers of [session.headers, ...elsewhere]) {
                const answer = await send(gateway, { path: "/mcp/one", headers, body });
                assert.equal(answer.status, 400, answer.text);
                assert.equal(answer.messages.length, 1);
                assert.equal(answer.messages[0]!.error!.code, -32600);
                assert.ok(!answer.text.includes('"id":null'), answer.text);
            }
        }
        await one.sync();
        assert.ok(!one.events.items.slice(from).some((event) => event.message?.method === "tools/call"));
        const fine = await session.send({ body: [legacy] });
        assert.equal(fine.messages.length, 1, "one without is fine");
        await session.end();
    });

    test("without a claim and without the field it is the era before", async () => {
        const answer = await send(gateway, build({ bare: true, headers: { "MCP-Protocol-Version": undefined } }, 1));
        assert.equal(answer.status, 400);
        assert.match(answer.text, /initialize/);
        const session = await openSession(gateway);
        assert.equal((await session.request("server/discover")).error!.code, -32601);
        const modern = await session.send(build({}, 5));
        assert.equal(modern.status, 200, "inside of a session, too, the claim decides");
        assert.equal(modern.messages[0]!.result!.resultType, "complete");
        await session.end();
    });

    describe("server/discover", () => {
        const discover = async (path?: string) => (await client(path).request("server/discover")).result!;

        const listChanged = { listChanged: true };
        const told = { tools: listChanged, prompts: listChanged };

        test("all upstreams", async () => {
            const result = await discover();
            const { _meta, ...rest } = result;
            assert.deepEqual(rest, {
                supportedVersions: [MODERN],
                capabilities: { ...told, resources: { ...listChanged, subscribe: true }, logging: {}, completions: {} },
                instructions: "# one\n\nBe kind.",
                resultType: "complete",
                ttlMs: 0,
                cacheScope: "private",
            });
            const info = (_meta as { [key: string]: { name: string; version: string } })[SERVER_KEY]!;
            assert.equal(info.name, "cardea");
            assert.match(info.version, /^\d+\./);
        });

        test("one upstream has what its server has", async () => {
            const rich = await discover("/mcp/one");
            assert.deepEqual(rich.capabilities, { ...told, resources: listChanged, logging: {}, completions: {} });
            assert.equal(rich.instructions, "Be kind.");
            const bare = await discover("/mcp/bare");
            assert.deepEqual(bare.capabilities, { tools: listChanged });
            assert.equal(bare.instructions, undefined);
        });

        test("it waits for the first start of an upstream, and not for ever", async (t) => {
            const slow = await startGateway(
                {
                    config: {
                        mcp: { list_timeout: "20s" },
                        servers: {
                            slow: {
                                cmd: control.command({
                                    name: "slow",
                                    initialize: "hold",
                                    instructions: "Wait.",
                                    capabilities: { prompts: {} },
                                }),
                            },
                        },
                    },
                },
                t,
            );
            const waiting = new ModernClient(slow, "/mcp/slow").request("server/discover");
            const child = await control.started("slow");
            await child.receives((message) => message.method === "initialize");
            child.do({ do: "release" });
            const { capabilities, instructions } = (await waiting).result!;
            assert.deepEqual({ capabilities, instructions }, { capabilities: { prompts: listChanged }, instructions: "Wait." });
            const hangs = await startGateway(
                {
                    config: {
                        mcp: { list_timeout: "300ms" },
                        servers: { hangs: { cmd: control.command({ name: "hangs", initialize: "hold" }) } },
                    },
                },
                t,
            );
            const late = (await new ModernClient(hangs).request("server/discover")).result!;
            assert.ok("tools" in (late.capabilities as object));
        });
    });

    describe("lists", () => {
        const lists = [
            ["tools/list", "tools"],
            ["prompts/list", "prompts"],
            ["resources/list", "resources"],
            ["resources/templates/list", "resourceTemplates"],
        ] as const;
        for (const [method, key] of lists) {
            test(`${method} has what a session's has, and says that it may not be kept`, async () => {
                const session = await openSession(gateway);
                const legacy = (await session.request(method)).result!;
                await session.end();
                const { _meta, ...modern } = (await client().request(method)).result!;
                assert.deepEqual(modern, { ...legacy, resultType: "complete", ttlMs: 0, cacheScope: "private" });
                assert.ok(SERVER_KEY in (_meta as object));
                assert.ok((legacy[key] as unknown[]).length > 0);
                assert.deepEqual(Object.keys(legacy), [key], "and nothing of it is in a session's");
            });
        }

        test("pages", async (t) => {
            const tools = (n: number) =>
                Array.from({ length: n }, (_, i) => ({ name: `t${i}`, inputSchema: { type: "object" } }));
            const big = await startGateway(
                {
                    config: {
                        servers: {
                            a: { cmd: control.command({ name: "a", tools: tools(600) }) },
                            b: { cmd: control.command({ name: "b", tools: tools(600) }) },
                        },
                    },
                },
                t,
            );
            await served(big, "a__t599", "b__t599");
            const names: string[] = [];
            let cursor: unknown;
            let n = 0;
            do {
                const { result } = await new ModernClient(big).request("tools/list", cursor === undefined ? {} : { cursor });
                names.push(...(result!.tools as { name: string }[]).map((tool) => tool.name));
                assert.equal(result!.ttlMs, 0);
                cursor = result!.nextCursor;
                n++;
            } while (cursor !== undefined);
            assert.equal(n, 2);
            assert.equal(new Set(names).size, 1200);
            assert.deepEqual([names[0], names[600], names[1199]], ["a__t0", "b__t0", "b__t599"]);
        });

        test("a tool's words of the era before are left out", async (t) => {
            const tool = {
                name: "old",
                inputSchema: { type: "object" },
                execution: { taskSupport: "optional" },
                title: "Old",
            };
            const old = await startGateway(
                { config: { servers: { old: { cmd: control.command({ name: "old", tools: [tool] }) } } } },
                t,
            );
            await served(old, "old__old");
            const { execution, ...rest } = tool;
            const modern = (await new ModernClient(old).request("tools/list")).result!.tools;
            assert.deepEqual(modern, [{ ...rest, name: "old__old" }]);
            const session = await openSession(old, "/mcp/old");
            assert.deepEqual((await session.request("tools/list")).result!.tools, [{ ...rest, execution }]);
            await session.end();
        });
    });

    describe("calls", () => {
        test("results of a server with sessions are completed", async () => {
            const { result } = await client().call("one__fail");
            const { _meta, ...rest } = result!;
            assert.deepEqual(rest, {
                content: [{ type: "text", text: "it failed" }],
                isError: true,
                resultType: "complete",
            });
            assert.equal((_meta as { [key: string]: { name: string } })[SERVER_KEY]!.name, "cardea");
            const read = (await client().request("resources/read", { uri: "test://one" })).result!;
            assert.deepEqual([read.resultType, read.ttlMs, read.cacheScope], ["complete", 0, "private"]);
            const prompt = (await client().request("prompts/get", { name: "one__review" })).result!;
            assert.equal(prompt.resultType, "complete");
            assert.ok(!("ttlMs" in prompt));
        });

        test("the server gets nothing of the envelope", async () => {
            const from = one.events.items.length;
            await client().call("one__echo", { text: "x" }, { meta: { [LEVEL_KEY]: "debug", progressToken: 1, traceparent: "t" } });
            await one.sync();
            const call = one.events.items.slice(from).find((event) => event.message?.method === "tools/call")!.message!;
            const meta = call.params!._meta as object;
            assert.deepEqual(Object.keys(meta).sort(), ["progressToken", "traceparent"]);
            assert.deepEqual({ ...call.params, _meta: undefined }, {
                name: "echo",
                arguments: { text: "x" },
                _meta: undefined,
            });
        });

        test("a server's error is in-band, with code, message and data", async () => {
            const answer = await client().ask("tools/call", { name: "one__refuse", arguments: {} });
            assert.equal(answer.status, 200);
            assert.deepEqual(answer.messages[0]!.error, {
                code: -32007,
                message: "refused by the fixture",
                data: { why: ["a", 1] },
            });
        });

        test("a refusal of the gateway's own is a tool's result", async (t) => {
            const down = await startGateway(
                { config: { servers: { down: { cmd: control.command({ name: "down", die: 1 }) } } } },
                t,
            );
            await down.waitForLog((entry) => entry.upstream === "down" && entry.level === "warn");
            const { result } = await new ModernClient(down).call("down__echo");
            assert.equal(result!.isError, true);
            assert.equal(result!.resultType, "complete");
            assert.ok(SERVER_KEY in (result!._meta as object));
            assert.match(text({ result }), /down/);
        });

        test("same ids and tokens of different clients do not mix", async () => {
            const answers = await Promise.all(
                Array.from({ length: 12 }, (_, i) =>
                    client("/mcp/one").ask(
                        "tools/call",
                        { name: "progress", arguments: { steps: i + 1 } },
                        { id: "same", meta: { progressToken: "same" } },
                    ),
                ),
            );
            for (const [i, { status, headers, messages }] of answers.entries()) {
                assert.equal(status, 200);
                assert.match(headers["content-type"]!, /^text\/event-stream/);
                assert.equal(headers["x-accel-buffering"], "no");
                const progress = messages.slice(0, -1).map((message) => message.params!);
                assert.deepEqual(
                    progress.map((params) => [params.progressToken, params.progress, params.message]),
                    Array.from({ length: i + 1 }, (_, step) => ["same", step + 1, `step ${step + 1}`]),
                );
                assert.equal(messages.at(-1)!.id, "same");
                assert.equal(text(messages.at(-1)!), `done ${i + 1}`);
            }
        });

        test("no progress where no token was given", async () => {
            const { messages } = await client("/mcp/one").ask("tools/call", { name: "progress", arguments: {} });
            assert.equal(messages.length, 1);
        });

        for (const level of [undefined, ...LEVELS]) {
            test(`log messages ${level === undefined ? "only when they are asked for" : `from ${level} on`}`, async () => {
                const { messages } = await client("/mcp/one").ask(
                    "tools/call",
                    { name: "log", arguments: { text: "mark" } },
                    { meta: level === undefined ? {} : { [LEVEL_KEY]: level } },
                );
                assert.equal(text(messages.at(-1)!), "logged");
                assert.deepEqual(
                    messages.slice(0, -1).map((message) => [message.method, message.params!.level]),
                    level === undefined
                        ? []
                        : LEVELS.slice(LEVELS.indexOf(level)).map((name) => ["notifications/message", name]),
                );
            });
        }
    });

    describe("hanging up cancels", () => {
        /** Waits for the tool that holds, and then for what the server is told of it. */
        const held = async (start: () => Promise<() => void>) => {
            const from = one.events.items.length;
            const hangUp = await start();
            const { id } = await one.events.waitFor((event) => event.event === "held", from);
            hangUp();
            const { message } = await one.events.waitFor(
                (event) => event.message?.method === "notifications/cancelled",
                from,
            );
            assert.equal(message!.params!.requestId, id);
            one.do({ do: "release" });
            assert.equal(text(await client("/mcp/one").call("echo", { text: "next" })), "next");
        };

        test("closing the connection", async () => {
            const abort = new AbortController();
            await held(async () => {
                const waiting = client("/mcp/one").call("hold", {}, { signal: abort.signal });
                void assert.rejects(waiting);
                return () => abort.abort();
            });
        });

        test("closing a stream that has begun", async () => {
            const from = one.events.items.length;
            const waiting = client("/mcp/one").stream("tools/call", { name: "hold", arguments: {} }, { meta: { progressToken: 9 } });
            const { id } = await one.events.waitFor((event) => event.event === "held", from);
            const call = one.received("tools/call").find((message) => message.id === id)!;
            const { progressToken } = call.params!._meta as { progressToken: number };
            one.notify("notifications/progress", { progressToken, progress: 1 });
            const events = await waiting;
            await events.messages.waitFor((message) => message.params?.progressToken === 9);
            events.close();
            const { message } = await one.events.waitFor(
                (event) => event.message?.method === "notifications/cancelled",
                from,
            );
            assert.equal(message!.params!.requestId, id);
            one.do({ do: "release" });
        });

        test("closing one half of it; and nothing more is written", async () => {
            const chunks: Buffer[] = [];
            let closed: Promise<void> | undefined;
            await held(async () => {
                const { headers, body } = build({ path: "/mcp/one", params: { name: "hold", arguments: {} } }, 1);
                const bytes = JSON.stringify(body);
                const socket = net.connect({ host: "127.0.0.1", port: gateway.port, allowHalfOpen: true });
                socket.on("data", (chunk) => chunks.push(chunk));
                socket.on("error", () => {});
                closed = new Promise((resolve) => {
                    socket.on("end", resolve);
                    socket.on("close", resolve);
                });
                const lines = Object.entries({
                    Host: `127.0.0.1:${gateway.port}`,
                    Authorization: `Bearer ${gateway.token}`,
                    "Content-Type": "application/json",
                    Accept: "application/json, text/event-stream",
                    "Content-Length": String(Buffer.byteLength(bytes)),
                    ...headers,
                }).map(([name, value]) => `${name}: ${String(value)}\r\n`);
                socket.write(`POST /mcp/one HTTP/1.1\r\n${lines.join("")}\r\n${bytes}`);
                return () => socket.end();
            });
            await within(closed!, "the gateway closes its half");
            assert.equal(Buffer.concat(chunks).toString("latin1"), "");
        });

        test("while it waits for an upstream that starts: the call is not made", async (t) => {
            const late = await startGateway(
                { config: { servers: { late: { cmd: control.command({ name: "late", initialize: "hold" }) } } } },
                t,
            );
            const child = await control.started("late");
            await child.receives((message) => message.method === "initialize");
            const abort = new AbortController();
            const from = late.log.items.length;
            const waiting = new ModernClient(late).call("late__echo", {}, { signal: abort.signal });
            await late.log.waitFor((entry) => entry.message === "request" && entry.method === "tools/call", from);
            abort.abort();
            await assert.rejects(waiting);
            await late.log.waitFor((entry) => entry.message === "the client hung up", from);
            const again = late.log.items.length;
            const second = new ModernClient(late, "/mcp/late").call("echo", { text: "second" });
            await late.log.waitFor((entry) => entry.message === "request" && entry.method === "tools/call", again);
            child.do({ do: "release" });
            assert.equal(text(await second), "second");
            await child.sync();
            const calls = child.received("tools/call").map((message) => message.params!.arguments);
            assert.deepEqual(calls, [{ text: "second" }]);
        });
    });
});

describe("lists that a server of 2026-07-28 calls fresh for a while", () => {
    /** Serves tools over HTTP; how fresh, how soon and whether at all says the test. */
    interface Lister {
        url: string;
        tools: string[];
        prompts: string[];
        ttlMs: number;
        answer: "list" | "error" | "hold";
        /** how often it was asked for its tools */
        asked: number;
        release(): void;
    }

    const lister = async (t: TestContext, ttlMs: number): Promise<Lister> => {
        const held: (() => void)[] = [];
        const self: Lister = {
            url: "",
            tools: ["first"],
            prompts: ["first"],
            ttlMs,
            answer: "list",
            asked: 0,
            release: () => held.splice(0).forEach((reply) => reply()),
        };
        const results: { [method: string]: () => object } = {
            "server/discover": () => ({ supportedVersions: [MODERN], capabilities: { tools: {}, prompts: {} } }),
            "prompts/list": () => ({ prompts: self.prompts.map((name) => ({ name })) }),
            "tools/list": () => ({ tools: self.tools.map((name) => ({ name, inputSchema: { type: "object" } })) }),
            "tools/call": () => ({ content: [{ type: "text", text: "called" }] }),
        };
        const server = http.createServer((request, response) => {
            let body = "";
            request.setEncoding("utf8");
            request.on("data", (chunk: string) => (body += chunk));
            request.on("end", () => {
                const { id, method } = JSON.parse(body) as { id: number; method: string };
                const reply = (answer: object) => {
                    response.setHeader("Content-Type", "application/json");
                    response.end(JSON.stringify({ jsonrpc: "2.0", id, ...answer }));
                };
                const result = { resultType: "complete", ttlMs: self.ttlMs, cacheScope: "public", ...results[method]?.() };
                const isList = method === "tools/list";
                if (isList) self.asked++;
                if (isList && self.answer === "hold") held.push(() => reply({ result }));
                else if (isList && self.answer === "error") reply({ error: { code: -32603, message: "no list" } });
                else reply({ result });
            });
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        t.after(() => {
            server.closeAllConnections();
            server.close();
        });
        self.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
        return self;
    };
    const names = (message: RpcMessage) => (message.result!.tools as { name: string }[]).map((tool) => tool.name);
    const begin = async (server: Lister, t: TestContext, list_timeout = "20s") => {
        const gateway = await startGateway({ config: { mcp: { list_timeout }, servers: { up: { url: server.url } } } }, t);
        await served(gateway, "up__first");
        return { modern: new ModernClient(gateway), session: await openSession(gateway) };
    };

    test("0 ms: every list is what the server has now, and so is a name", async (t) => {
        const server = await lister(t, 0);
        const { modern, session } = await begin(server, t);
        server.tools = ["first", "second"];
        assert.deepEqual(names(await modern.request("tools/list")), ["up__first", "up__second"]);
        server.tools = ["first", "second", "third"];
        assert.deepEqual(names(await session.request("tools/list")), ["up__first", "up__second", "up__third"]);
        server.tools = ["fourth"];
        assert.equal(text(await modern.call("up__fourth")), "called", "a name that nobody knew a moment ago");
        assert.deepEqual(names(await modern.request("tools/list")), ["up__fourth"]);
        const asked = server.asked;
        assert.equal((await modern.call("up__fifth")).error!.code, -32602);
        assert.equal(server.asked, asked + 1, "a name that nobody has is looked for once");
    });

    test("an hour: the server is not asked again", async (t) => {
        const server = await lister(t, 3_600_000);
        const { modern } = await begin(server, t);
        const asked = server.asked;
        server.tools = ["second"];
        for (let round = 0; round < 5; round++)
            assert.deepEqual(names(await modern.request("tools/list")), ["up__first"]);
        assert.equal((await modern.call("up__second")).error!.code, -32602);
        assert.equal(server.asked, asked);
    });

    test("a server that takes too long: what was read before is served", async (t) => {
        const server = await lister(t, 0);
        const { modern } = await begin(server, t, "300ms");
        server.answer = "hold";
        server.tools = ["second"];
        assert.deepEqual(names(await modern.request("tools/list")), ["up__first"]);
        server.answer = "list";
        server.release();
        await until(
            async () => names(await modern.request("tools/list"))[0] === "up__second",
            "the new list is served",
        );
    });

    test("a server that fails: what was read before is served, without waiting", async (t) => {
        const server = await lister(t, 0);
        const { modern } = await begin(server, t);
        server.answer = "error";
        server.tools = ["second"];
        assert.deepEqual(names(await within(modern.request("tools/list"), "the list", 10_000)), ["up__first"]);
        server.answer = "list";
        assert.deepEqual(names(await modern.request("tools/list")), ["up__second"]);
    });

    test("a list that could not be read at the start is read when it is asked for", async (t) => {
        const server = await lister(t, 3_600_000);
        server.answer = "error";
        const gateway = await startGateway({ config: { servers: { up: { url: server.url } } } }, t);
        const modern = new ModernClient(gateway);
        assert.deepEqual(names(await modern.request("tools/list")), []);
        server.answer = "list";
        assert.deepEqual(names(await modern.request("tools/list")), ["up__first"]);
    });

    test("each list ages by itself", async (t) => {
        const server = await lister(t, 0);
        const { modern } = await begin(server, t);
        server.prompts = ["second"];
        server.ttlMs = 3_600_000;
        await modern.request("tools/list");
        const { result } = await modern.request("prompts/list");
        assert.deepEqual((result!.prompts as { name: string }[])[0]!.name, "up__second");
    });

    test("many at once: each is answered, the server is not asked for each", async (t) => {
        const server = await lister(t, 0);
        const { modern } = await begin(server, t);
        const asked = server.asked;
        server.tools = ["second"];
        const answers = await Promise.all(Array.from({ length: 40 }, () => modern.request("tools/list")));
        for (const answer of answers) assert.deepEqual(names(answer), ["up__second"]);
        assert.ok(server.asked - asked <= 40, `${server.asked - asked}`);
    });
});

describe("the official SDK 2.x", () => {
    let gateway: Gateway;
    const files = temporaryFolder();
    before(async () => {
        gateway = await startGateway({
            config: {
                servers: {
                    everything: { cmd: packaged("server-everything") },
                    files: { cmd: packaged("server-filesystem", files) },
                    memory: { cmd: packaged("server-memory") },
                },
            },
        });
        await served(gateway, "everything__echo", "files__read_text_file", "memory__read_graph");
    });
    after(async () => {
        await gateway?.stop();
        removeFolder(files);
    });

    const modes = [
        { mode: { pin: MODERN }, version: MODERN, name: "modern" },
        { mode: "auto", version: MODERN, name: "auto" },
        { mode: "legacy", version: "2025-11-25", name: "legacy" },
    ] as const;
    for (const { mode, version, name } of modes) {
        const connected = async (run: (client: Client) => Promise<void>, upstream?: string) => {
            const client = new Client({ name: "sdk2", version: "1" }, { versionNegotiation: { mode } });
            const transport = new StreamableHTTPClientTransport(
                new URL(upstream === undefined ? gateway.url : `${gateway.url}/${upstream}`),
                { requestInit: { headers: gateway.headers } },
            );
            await within(client.connect(transport), "the client is connected");
            try {
                assert.equal(client.getNegotiatedProtocolVersion(), version);
                await run(client);
            } finally {
                await client.close();
            }
        };

        test(`${name}: tools, prompts, resources, completion, progress`, async () => {
            await connected(async (client) => {
                const names = (await client.listTools()).tools.map((tool) => tool.name);
                for (const tool of ["everything__echo", "files__read_text_file", "memory__read_graph"])
                    assert.ok(names.includes(tool), `${tool} in ${names.join(" ")}`);
                const echo = await client.callTool({ name: "everything__echo", arguments: { message: "hi" } });
                assert.deepEqual(echo.content, [{ type: "text", text: "Echo: hi" }]);
                await client.callTool({
                    name: "files__write_file",
                    arguments: { path: `${files}/${name}.txt`, content: "written" },
                });
                const read = await client.callTool({
                    name: "files__read_text_file",
                    arguments: { path: `${files}/${name}.txt` },
                });
                assert.match(JSON.stringify(read.content), /written/);
                const graph = await client.callTool({ name: "memory__read_graph", arguments: {} });
                assert.ok(graph.structuredContent !== undefined);
                const prompt = await client.getPrompt({ name: "everything__args-prompt", arguments: { city: "Rome" } });
                assert.match(JSON.stringify(prompt.messages), /Rome/);
                assert.ok((await client.listPrompts()).prompts.length > 0);
                assert.ok((await client.listResources()).resources.length > 0);
                assert.ok((await client.listResourceTemplates()).resourceTemplates.length > 0);
                const { contents } = await client.readResource({ uri: "demo://resource/dynamic/text/3" });
                assert.match(JSON.stringify(contents), /Resource 3/);
                const { completion } = await client.complete({
                    ref: { type: "ref/prompt", name: "everything__completable-prompt" },
                    argument: { name: "department", value: "E" },
                });
                assert.deepEqual(completion.values, ["Engineering"]);
                const progress: number[] = [];
                await client.callTool(
                    { name: "everything__trigger-long-running-operation", arguments: { duration: 0.3, steps: 3 } },
                    { onprogress: (item) => progress.push(item.progress) },
                );
                assert.deepEqual(progress.slice(0, 2), [1, 2]);
            });
        });

        test(`${name}: one upstream by its own names, and errors`, async () => {
            await connected(async (client) => {
                assert.equal(client.getServerVersion()?.name, "cardea");
                const sum = await client.callTool({ name: "get-sum", arguments: { a: 2, b: 3 } });
                assert.match(JSON.stringify(sum.content), /is 5/);
                await assert.rejects(client.callTool({ name: "none", arguments: {} }), { code: -32602 });
                await assert.rejects(client.getPrompt({ name: "none" }), { code: -32602 });
            }, "everything");
        });
    }
});
