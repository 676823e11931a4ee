/* Clients of 2026-07-28 that mean harm: hang-ups at each byte, floods of fields, claims of every type, eras mixed. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";

import { CAPABILITIES_KEY, CLIENT_KEY, LEVEL_KEY, MODERN, VERSION_KEY } from "./fixtures/brain.ts";
import { legacyOnly, modernOnly, startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { exchange, initialize, openSession, parseResponses, send, served, text, type Outgoing } from "./lib/http.ts";
import type { RpcMessage } from "./lib/control.ts";
import { encodeField, ModernClient } from "./lib/modern.ts";
import { descriptors, unlessRoot } from "./lib/proc.ts";
import { until, within } from "./lib/wait.ts";

const base64 = (value: string) => `=?base64?${Buffer.from(value, "utf8").toString("base64")}?=`;

describe("hostile clients of 2026-07-28", () => {
    let modern: HttpFixture;
    let legacy: HttpFixture;
    let gateway: Gateway;
    before(async () => {
        modern = await startHttp(modernOnly);
        legacy = await startHttp(legacyOnly());
        gateway = await startGateway({
            config: {
                server: { limits: { max_in_flight: 200 } },
                servers: { modern: { url: modern.url }, legacy: { url: legacy.url } },
            },
        });
        await served(gateway, "modern__echo", "legacy__echo");
    });
    after(async () => {
        await gateway?.stop();
        await modern?.close();
        await legacy?.close();
    });

    const client = (path = "/mcp/modern") => new ModernClient(gateway, path);

    /** The request as bytes. */
    function bytesOf(outgoing: Outgoing): string {
        const content = typeof outgoing.body === "string" ? outgoing.body : JSON.stringify(outgoing.body);
        const fields = {
            Host: `127.0.0.1:${gateway.port}`,
            Authorization: `Bearer ${gateway.token}`,
            Accept: "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": String(Buffer.byteLength(content)),
            ...outgoing.headers,
        };
        const lines = Object.entries(fields)
            .filter(([, value]) => value !== undefined)
            .map(([name, value]) => `${name}: ${String(value)}\r\n`);
        return `${outgoing.method ?? "POST"} ${outgoing.path} HTTP/1.1\r\n${lines.join("")}\r\n${content}`;
    }

    const echo = (value: string, id?: number, headers = {}) =>
        client().outgoing("tools/call", { name: "echo", arguments: { text: value } }, { id, headers });

    const connected = () =>
        within(
            new Promise<net.Socket>((resolve, reject) => {
                const socket = net.connect({ host: "127.0.0.1", port: gateway.port }, () => resolve(socket));
                socket.once("error", reject);
            }),
            "a connection",
        ).then((socket) => socket.on("error", () => {}));

    const isWell = async () => {
        for (const path of ["/mcp/modern", "/mcp/legacy"]) {
            assert.equal(text(await client(path).call("echo", { text: "well" })), "well");
            const session = await openSession(gateway, path);
            assert.equal(text(await session.call("echo", { text: "well" })), "well");
        }
    };

    test("hang-ups at each byte of a request", { skip: unlessRoot }, async () => {
        const bytes = bytesOf(echo("cut"));
        const before = descriptors(gateway);
        for (let at = 0; at < bytes.length; at += 40) {
            await Promise.all(
                Array.from({ length: Math.min(40, bytes.length - at) }, async (_, i) => {
                    const socket = await connected();
                    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
                    socket.resume().write(bytes.slice(0, at + i));
                    if (i % 2 === 0) socket.end();
                    else socket.resetAndDestroy();
                    await within(closed, `the end of what was cut at ${at + i}`);
                }),
            );
        }
        assert.equal(modern.brain.runs.get("cut"), undefined);
        await isWell();
        await until(
            () => descriptors(gateway) <= before + 12,
            () => `${descriptors(gateway)} descriptors are open, ${before} before`,
        );
    });

    for (const path of ["/mcp/modern", "/mcp/legacy"]) {
        test(`${path}: hang-ups at each byte of an answer, of one that streams, and while it is awaited`, async () => {
            const fixture = path === "/mcp/modern" ? modern : legacy;
            const outgoing = client(path).outgoing("tools/call", {
                name: "progress",
                arguments: { steps: 3 },
                _meta: { progressToken: "t" },
            });
            const whole = await exchange(
                gateway.port,
                bytesOf({ ...outgoing, headers: { ...outgoing.headers, Connection: "close" } }),
            );
            assert.match(whole[0]!.body, /done 3/);
            for (let at = 0; at < 900; at += 60) {
                await Promise.all(
                    Array.from({ length: 60 }, async (_, i) => {
                        const socket = await connected();
                        let got = 0;
                        const ended = new Promise<void>((resolve) => {
                            socket.once("close", () => resolve());
                            socket.on("data", (chunk: Buffer) => {
                                got += chunk.length;
                                if (got >= at + i || chunk.includes("done 3")) socket.resetAndDestroy();
                            });
                        });
                        socket.write(bytesOf(outgoing));
                        if (at + i === 0) socket.resetAndDestroy();
                        await within(ended, `the end at ${at + i}`);
                    }),
                );
            }
            const sockets = await Promise.all(Array.from({ length: 100 }, () => connected()));
            for (const socket of sockets) socket.write(bytesOf(client(path).outgoing("tools/call", { name: "hold" })));
            await until(() => fixture.brain.held === 100, "all are held");
            for (const [n, socket] of sockets.entries()) {
                if (n % 2 === 0) socket.end();
                else socket.resetAndDestroy();
            }
            await until(
                () => fixture.brain.held === 0,
                () => `each is cancelled; ${fixture.brain.held} are not`,
            );
            await isWell();
        });
    }

    test("three thousand requests in one go, of every kind, and a hang-up behind as many", async () => {
        // In one write, for Nagle's sake.
        const args = modern.act((exchange) => {
            const body = JSON.stringify(exchange.answer(`id ${String(exchange.message.params!.n)}`));
            const head = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
            exchange.raw(head + body);
        });
        const kinds = [
            (id: number) => client().outgoing("tools/call", { name: "echo", arguments: args, n: id }, { id }),
            (id: number) => client().outgoing("server/discover", {}, { id }),
            (id: number) => client().outgoing("no/such", {}, { id }),
            (id: number) => echo("x", id, { "Mcp-Name": "other" }),
            (id: number) => client("/mcp").outgoing("tools/list", {}, { id }),
        ];
        const all = Array.from({ length: 3000 }, (_, id) => bytesOf(kinds[id % kinds.length]!(id)));
        const last = echo("last", 3000, { Connection: "close" });
        const answers = await exchange(gateway.port, all.join("") + bytesOf(last));
        assert.equal(answers.length, 3001);
        for (const [id, answer] of answers.entries()) {
            const message = JSON.parse(answer.body) as RpcMessage;
            assert.equal(message.id, id);
            assert.equal(answer.status, id === 3000 ? 200 : [200, 200, 404, 400, 200][id % 5], answer.body);
            if (id % 5 === 0 && id < 3000) assert.equal(text(message), `id ${id}`);
        }
        const socket = await connected();
        const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
        socket.write(all.join(""), () => socket.resetAndDestroy());
        await within(closed, "the end");
        await isWell();
    });

    test("fields as long as they may be, and a byte longer", async () => {
        const LINE = 16 * 1024;
        for (const [room, status] of [
            [0, 400], // it is not the name in the body
            [1, 431],
            [LINE, 431],
        ] as const) {
            const value = base64("x".repeat(3));
            const fill = "A".repeat(4 * LINE);
            const length = LINE - "Mcp-Name: ".length + room;
            const long = `=?base64?${fill.slice(0, length - value.length + 4)}?=`;
            assert.equal(long.length, length);
            const [answer] = await exchange(
                gateway.port,
                bytesOf(echo("x", 1, { "Mcp-Name": long, Connection: "close" })),
            );
            assert.equal(answer!.status, status, `${room}: ${answer!.body.slice(0, 200)}`);
        }
        const region = "é".repeat(5900); // 15,740 bytes in base64
        const { headers } = client().outgoing("tools/call", { name: "mirror" });
        const answer = await client().ask(
            "tools/call",
            { name: "mirror", arguments: { region } },
            { headers: { ...headers, "Mcp-Param-Region": encodeField(region) } },
        );
        assert.equal(answer.status, 200, answer.text.slice(0, 300));
        assert.equal((JSON.parse(text(answer.messages.at(-1)!)) as { region: string }).region, region);
        await isWell();
    });

    test("a hundred fields, and one more; repeated ones, and those that only look alike", async () => {
        const flood = (n: number) =>
            Object.fromEntries(Array.from({ length: n }, (_, i) => [`Mcp-Param-X${i}`, base64(`value ${i}`)]));
        const own = 8; // of bytesOf() and of the envelope, and Connection
        for (const [n, status] of [
            [100 - own - 1, 200],
            [100 - own, 200],
            [100 - own + 1, 431],
            [2000, 431],
        ] as const) {
            const outgoing = client().outgoing(
                "tools/call",
                { name: "seen" },
                { headers: { ...flood(n), Connection: "close" } },
            );
            const count = bytesOf(outgoing).split("\r\n\r\n")[0]!.split("\r\n").length - 1;
            const [answer] = await exchange(gateway.port, bytesOf(outgoing));
            assert.equal(
                answer!.status,
                count <= 100 ? 200 : 431,
                `${n}, ${count} fields: ${answer!.body.slice(0, 200)}`,
            );
            assert.ok(status !== 431 || count > 100);
        }
        const region = { name: "mirror", arguments: { region: "eu" } };
        for (const [name, headers, ok] of [
            ["right", { "Mcp-Param-Region": "eu" }, true],
            ["missing", {}, false],
            ["wrong", { "Mcp-Param-Region": "us" }, false],
            ["twice", { "Mcp-Param-Region": ["eu", "eu"] }, false],
            ["twice, the other one wrong", { "Mcp-Param-Region": ["eu", "us"] }, false],
            ["in two spellings", { "Mcp-Param-Region": "eu", "MCP-PARAM-REGION": "us" }, false],
            ["with a prefix", { "Mcp-Param-Region": "eu", "Mcp-Param-": "us", "Mcp-Param-Regio": "us" }, true],
            ["for an argument that is not there", { "Mcp-Param-Region": "eu", "Mcp-Param-Count": "1" }, false],
            ["joined", { "Mcp-Param-Region": "eu, eu" }, false],
            ["base64 in base64", { "Mcp-Param-Region": base64(base64("eu")) }, false],
        ] as const) {
            const calls = modern.received("tools/call").length;
            const answer = await client().ask("tools/call", region, { headers: headers as Outgoing["headers"] });
            assert.equal(answer.status, ok ? 200 : 400, `${name}: ${answer.text.slice(0, 300)}`);
            if (!ok) assert.equal(answer.messages[0]!.error!.code, -32020, name);
            assert.equal(modern.received("tools/call").length - calls, ok ? 1 : 0, name);
        }
        assert.deepEqual(modern.complaints, []);
        await isWell();
    });

    test("names that are escaped, in Unicode, and nearly the same", async () => {
        const name = 'test://ünï-\u0001"\\';
        const escaped = [...name].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
        const rows: [string, string, string, boolean][] = [
            ["as it is", JSON.stringify(name), encodeField(name), true],
            ["escaped in the body", `"${escaped}"`, encodeField(name), true],
            ["escaped in the field", JSON.stringify(name), base64(escaped), false],
            ["decomposed in the field", JSON.stringify(name), encodeField(name.normalize("NFD")), false],
            ["decomposed in the body", JSON.stringify(name.normalize("NFD")), encodeField(name), false],
            ["a NUL behind it", JSON.stringify(name), base64(`${name}\0`), false],
            ["a blank behind it", JSON.stringify(name), base64(`${name} `), false],
            ["raw bytes", JSON.stringify("test://ünï"), Buffer.from("test://ünï", "utf8").toString("latin1"), false],
            ["no UTF-8 in base64", JSON.stringify(name), "=?base64?/////w==?=", false],
            ["half of a pair in the body", '"\\ud83d"', base64("\ufffd"), false],
            ["a marker as the name", '"=?base64?ZWNobw==?="', base64("=?base64?ZWNobw==?="), true],
            ["a marker that is taken for a name", '"echo"', base64(base64("echo")), false],
        ];
        for (const [what, inBody, field, ok] of rows) {
            const outgoing = client().outgoing(
                "resources/read",
                { uri: "NAME" },
                { headers: { "Mcp-Name": field, Connection: "close" } },
            );
            const body = JSON.stringify(outgoing.body).replace('"NAME"', () => inBody);
            const runs = modern.received("resources/read").length;
            const raw = Buffer.from(bytesOf({ ...outgoing, body }).split("\r\n\r\n")[0]!, "latin1");
            const [answer] = await exchange(gateway.port, Buffer.concat([raw, Buffer.from(`\r\n\r\n${body}`)]));
            const message = JSON.parse(answer!.body) as RpcMessage;
            if (ok) {
                assert.notEqual(answer!.status, 400, `${what}: ${answer!.body}`);
                assert.equal(modern.received("resources/read").length, runs + 1, what);
            } else {
                assert.notEqual(message.error, undefined, `${what}: ${answer!.body}`);
                assert.equal(modern.received("resources/read").length, runs, `${what}: it was passed on`);
            }
        }
        assert.deepEqual(modern.complaints, []);
        await isWell();
    });

    test("claims of every type in every place", async () => {
        const values = [
            null,
            true,
            false,
            0,
            -1,
            1e308,
            "",
            "x",
            MODERN,
            "\0",
            "2026-07-28\0",
            [],
            [MODERN],
            [[]],
            {},
            { a: 1 },
            { [VERSION_KEY]: MODERN },
            "debug",
            "x".repeat(100_000),
        ];
        const places: [string, (value: unknown) => object][] = [
            ...[VERSION_KEY, CAPABILITIES_KEY, CLIENT_KEY, LEVEL_KEY, "progressToken"].map(
                (key): [string, (value: unknown) => object] => [
                    key,
                    (value) => ({ _meta: { ...envelope, [key]: value } }),
                ],
            ),
            ["_meta", (value) => ({ _meta: value })],
            ["name", (value) => ({ name: value })],
            ["arguments", (value) => ({ arguments: value })],
            ["clientInfo.name", (value) => ({ _meta: { ...envelope, [CLIENT_KEY]: { name: value, version: value } } })],
            ["capabilities", (value) => ({ _meta: { ...envelope, [CAPABILITIES_KEY]: { roots: value, x: value } } })],
            ["requestState", (value) => ({ requestState: value, inputResponses: value })],
        ];
        const outgoing = echo("typed");
        const envelope = (outgoing.body as { params: { _meta: object } }).params._meta;
        const rows = places.flatMap(([place, make]) => values.map((value) => [place, value, make(value)] as const));
        for (let from = 0; from < rows.length; from += 20) {
            await Promise.all(
                rows.slice(from, from + 20).map(async ([place, value, change], n) => {
                    const id = from + n;
                    const params = { name: "echo", arguments: { text: "typed" }, _meta: envelope, ...change };
                    const body = { jsonrpc: "2.0", id, method: "tools/call", params };
                    const answer = await send(gateway, { ...outgoing, body });
                    const what = `${place} = ${JSON.stringify(value).slice(0, 40)}: ${answer.status} ${answer.text.slice(0, 300)}`;
                    const last = answer.messages.at(-1);
                    assert.ok(answer.status === 200 || answer.status === 400, what);
                    assert.equal(last?.id, id, what);
                    assert.equal(answer.headers["mcp-session-id"], undefined, what);
                    assert.equal(answer.messages.filter((message) => message.method === undefined).length, 1, what);
                    if (answer.status === 400) assert.notEqual(last!.error, undefined, what);
                    assert.ok(answer.text.length < 2000, `${what.slice(0, 200)}: an answer of ${answer.text.length}`);
                }),
            );
        }
        for (const params of [null, true, 0, "x", [], [envelope]]) {
            const answer = await send(gateway, {
                ...outgoing,
                body: { jsonrpc: "2.0", id: 1, method: "tools/call", params },
            });
            assert.equal(answer.status, 400, `${JSON.stringify(params)}: ${answer.text.slice(0, 200)}`);
        }
        await isWell();
    });

    test("both eras on one connection, in turn and in one go", async () => {
        const session = await openSession(gateway, "/mcp/modern");
        const other = await openSession(gateway, "/mcp/legacy");
        const inSession = (id: number, method: string, params: object = {}, headers = session.headers): Outgoing => ({
            path: "/mcp/modern",
            headers,
            body: { jsonrpc: "2.0", id, method, params },
        });
        const call = (value: string) => ({ name: "echo", arguments: { text: value } });
        const modernBody = (id: number, value: string) => echo(value, id).body;
        const rows: [Outgoing, number, RegExp][] = [
            [inSession(0, "tools/call", call("a")), 200, /"a"/],
            [echo("b", 1), 200, /"b"/],
            [echo("c", 2, session.headers), 400, /-32020/], // the fields name the session's revision
            [echo("d", 3, { "Mcp-Session-Id": session.id }), 200, /"d"/],
            [{ ...inSession(4, "x"), body: modernBody(4, "e") }, 400, /-32020/],
            [{ ...echo("f"), body: { jsonrpc: "2.0", id: 5, method: "tools/call", params: call("f") } }, 400, /-32602/],
            [inSession(6, "ping"), 200, /"result"/],
            [client().outgoing("ping", {}, { id: 7 }), 404, /-32601/],
            [inSession(8, "tools/call", call("g"), other.headers), 404, /no such session/],
            [{ path: "/mcp/modern", headers: {}, body: { ...initialize("2025-11-25"), id: 9 } }, 200, /"result"/],
            [client().outgoing("initialize", initialize("2025-11-25").params, { id: 10 }), 404, /-32601/],
            [
                { path: "/mcp/modern", headers: { "MCP-Protocol-Version": MODERN }, body: initialize("2025-11-25") },
                400,
                /-32020/,
            ],
            [inSession(12, "server/discover"), 200, /-32601/],
            [{ path: "/mcp/modern", headers: session.headers, body: [modernBody(1, "h")] }, 400, /batch/],
            [{ ...echo("i"), method: "GET", body: "" }, 405, /POST only/],
            [inSession(15, "tools/call", call("last")), 200, /"last"/],
        ];
        const check = (answers: { status: number; body: string }[]) => {
            assert.equal(answers.length, rows.length);
            for (const [n, [, status, says]] of rows.entries()) {
                const what = `${n}: ${answers[n]!.status} ${answers[n]!.body.slice(0, 300)}`;
                assert.equal(answers[n]!.status, status, what);
                assert.match(answers[n]!.body, says, what);
            }
        };
        const bytes = rows.map(([outgoing]) => bytesOf(outgoing));
        const final = bytes.at(-1)!.replace("\r\n", "\r\nConnection: close\r\n");
        check(await exchange(gateway.port, [...bytes.slice(0, -1), final].join("")));

        const socket = await connected();
        const chunks: Buffer[] = [];
        socket.on("data", (chunk) => chunks.push(chunk));
        for (const [n, each] of bytes.entries()) {
            socket.write(each);
            await until(() => {
                try {
                    return parseResponses(Buffer.concat(chunks)).length > n;
                } catch {
                    return false;
                }
            }, `answer ${n}`);
        }
        socket.destroy();
        check(parseResponses(Buffer.concat(chunks)));
        assert.deepEqual(modern.complaints, []);
        await isWell();
    });
});
