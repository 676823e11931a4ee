/* Clients that mean harm, or are slow, or fall silent: nothing that they do may hurt the gateway or another client. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { exchange, initialize, openSession, parseResponses, send, served, stream, text } from "./lib/http.ts";
import { allDescriptors, descriptors, unlessRoot } from "./lib/proc.ts";
import { until, within } from "./lib/wait.ts";

const HOSTILE = fileURLToPath(new URL("./fixtures/hostile.ts", import.meta.url));

/** Resident memory in KiB. */
const resident = (gateway: Gateway) =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${gateway.pid}/status`, "utf8"))![1]);

/** Everything until the other side closes. */
function collect(socket: net.Socket): Promise<Buffer> {
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", () => {});
    return new Promise((resolve) => socket.once("close", () => resolve(Buffer.concat(chunks))));
}

const connected = (port: number, options: Partial<net.TcpNetConnectOpts> = {}) =>
    within(
        new Promise<net.Socket>((resolve, reject) => {
            const socket = net.connect({ host: "127.0.0.1", port, ...options }, () => resolve(socket));
            socket.once("error", reject);
        }),
        "a connection",
    );

describe("hostile clients", () => {
    let control: Control;
    let gateway: Gateway;
    let dripping: Promise<number[]>;

    /** A head that never ends, a byte a second; the statuses that it gets. Takes half a minute: starts first, ends last. */
    const drip = async () => {
        const socket = await connected(gateway.port);
        const closed = collect(socket);
        socket.write("POST /mcp HTTP/1.1\r\nX: ");
        const timer = setInterval(() => socket.write("x"), 1000);
        try {
            return parseResponses(await within(closed, "the end of patience", 45_000)).map((answer) => answer.status);
        } finally {
            clearInterval(timer);
        }
    };

    /** The living process of that name; two gateways' children may have the same pid in their namespaces. */
    const fixtureOf = async (name: string) => {
        const found = control.starts.items.findLast((process) => process.name === name)!;
        await found.sync();
        return found;
    };

    before(async () => {
        control = await startControl();
        const servers = {
            one: { cmd: control.command({ name: "one" }) },
            big: { cmd: [process.execPath, HOSTILE, "big"] },
        };
        gateway = await startGateway({ config: { servers } });
        await served(gateway, "one__echo", "big__big");
        dripping = drip();
        dripping.catch(() => {}); // it is looked at last
    });
    after(async () => {
        await gateway.stop();
        await control.close();
    });

    const request = (body: unknown, headers: Record<string, string>, method = "POST") => {
        const content = typeof body === "string" ? body : JSON.stringify(body);
        const fields = {
            Host: `127.0.0.1:${gateway.port}`,
            Authorization: `Bearer ${gateway.token}`,
            Accept: "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": String(Buffer.byteLength(content)),
            ...headers,
        };
        const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
        return `${method} /mcp/one HTTP/1.1\r\n${lines.join("")}\r\n${content}`;
    };

    const echo = (id: unknown, value = "x", more: object = {}) => ({
        jsonrpc: "2.0",
        id,
        method: "tools/call",
        params: { name: "echo", arguments: { text: value }, ...more },
    });

    test("a client that hangs up, or ends its side, at any byte of a request", { skip: unlessRoot }, async (t) => {
        const session = await openSession(gateway, "/mcp/one");
        const bytes = request(echo(1), { ...session.headers, Connection: "close" });
        const before = descriptors(gateway);
        for (let at = 0; at < bytes.length; at += 20) {
            await Promise.all(
                Array.from({ length: Math.min(20, bytes.length - at) }, async (_, i) => {
                    const socket = await connected(gateway.port);
                    const closed = collect(socket);
                    socket.write(bytes.slice(0, at + i));
                    if (i % 2 === 0) socket.end();
                    else socket.resetAndDestroy();
                    await within(closed, `the gateway closes what was cut at ${at + i}`);
                }),
            );
        }
        await until(
            () => descriptors(gateway) <= before + 8,
            () => `${descriptors(gateway)} descriptors are open, ${before} before`,
        );
        assert.equal(text(await session.call("echo", { text: "whole" })), "whole");
        t.diagnostic(`${bytes.length} cuts`);
    });

    test("Expect: 100-continue is refused at once, before the body", async () => {
        for (const [status, headers] of [
            [401, { Authorization: "Bearer wrong" }],
            [415, { "Content-Type": "text/plain" }],
            [403, { Origin: "http://evil.example" }],
        ] as const) {
            const socket = await connected(gateway.port);
            const closed = collect(socket);
            const whole = request("x".repeat(1000), { ...headers, Expect: "100-continue" });
            socket.write(whole.slice(0, whole.indexOf("\r\n\r\n") + 4));
            const answers = parseResponses(await within(closed, `the refusal with ${status}`));
            assert.deepEqual(
                answers.map((answer) => answer.status),
                [status],
            );
            assert.equal(answers[0]!.headers.get("connection"), "close");
        }
    });

    test("a long answer arrives whole at a slow reader, also as the last one of its connection", async () => {
        const bytes = 8 * 1024 * 1024;
        const session = await openSession(gateway, "/mcp/big");
        const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "big", arguments: { bytes } } };
        const socket = await connected(gateway.port);
        let got = 0;
        let last = "";
        socket.on("data", (chunk) => {
            got += chunk.length;
            last = chunk.subarray(-2).toString("latin1");
            socket.pause();
            setTimeout(() => socket.resume(), 40); // 64 KiB each: five seconds in all
        });
        const closed = new Promise<void>((resolve) => {
            socket.on("error", () => {});
            socket.once("close", () => resolve());
        });
        socket.write(request(body, { ...session.headers, Connection: "close" }).replace("/mcp/one", "/mcp/big"));
        await within(closed, () => `the end of the answer; ${got} bytes came`, 60_000);
        assert.ok(got > bytes, `${got} of more than ${bytes} bytes came`);
        assert.equal(last, "}}");
    });

    test("clients that read no answers cost themselves only", async (t) => {
        const session = await openSession(gateway, "/mcp/big");
        const body = {
            jsonrpc: "2.0",
            id: 1,
            method: "tools/call",
            params: { name: "big", arguments: { bytes: 9 * 1024 * 1024 } },
        };
        const sockets = await Promise.all(Array.from({ length: 8 }, () => connected(gateway.port)));
        for (const [n, socket] of sockets.entries()) {
            socket.pause();
            for (let k = 0; k < 4; k++) {
                const bytes = request({ ...body, id: `${n}.${k}` }, session.headers);
                socket.write(bytes.replace("/mcp/one", "/mcp/big"));
            }
        }
        const other = await openSession(gateway, "/mcp/one");
        for (let n = 0; n < 20; n++) assert.equal(text(await other.call("echo", { text: `${n}` })), `${n}`);
        t.diagnostic(`${resident(gateway)} KiB are resident with 32 answers of 9 MiB ordered`);
        for (const socket of sockets) socket.destroy();
        const again = await openSession(gateway, "/mcp/big");
        assert.equal(text(await again.call("big", { bytes: 2 })), "xx");
    });

    test("thousands of sessions and hundreds of streams", { skip: unlessRoot }, async (t) => {
        const rss = resident(gateway);
        const before = descriptors(gateway);
        const sessions: Awaited<ReturnType<typeof openSession>>[] = [];
        for (let n = 0; n < 20; n++) {
            sessions.push(...(await Promise.all(Array.from({ length: 50 }, () => openSession(gateway, "/mcp/one")))));
        }
        const streams = await Promise.all(sessions.slice(0, 300).map((session) => session.stream()));
        assert.ok(streams.every((opened) => opened.status === 200));
        assert.equal(text(await sessions.at(-1)!.call("echo", { text: "last" })), "last");
        const fixture = await fixtureOf("one");
        fixture.notify("notifications/tools/list_changed");
        await Promise.all(
            streams.map((opened) =>
                opened.messages.waitFor((message) => message.method === "notifications/tools/list_changed"),
            ),
        );
        for (const opened of streams.slice(0, 150)) opened.close();
        for (let n = 0; n < sessions.length; n += 50) {
            await Promise.all(sessions.slice(n, n + 50).map((session) => session.end()));
        }
        await Promise.all(streams.map((opened) => within(opened.ended, "the stream ends with its session")));
        await until(
            () => descriptors(gateway) <= before + 20,
            () => `${descriptors(gateway)} descriptors are open, ${before} before`,
        );
        t.diagnostic(`memory: ${rss} KiB before, ${resident(gateway)} KiB after`);
    });

    test("max_sessions: the session in use is not the one that makes room", async (t) => {
        const servers = { one: { cmd: control.command({ name: "few" }) } };
        const few = await startGateway({ config: { server: { max_sessions: 4 }, servers } }, t);
        const mine = await openSession(few, "/mcp/one");
        await mine.request("ping");
        for (let n = 0; n < 20; n++) {
            await openSession(few, "/mcp/one");
            assert.deepEqual((await mine.request("ping")).result, {}, `after ${n + 1} more sessions`);
        }
    });

    test("batches: a hundred, one more, duplicate ids, nothing but notifications, answers to nobody", async () => {
        const session = await openSession(gateway, "/mcp/one", "2025-03-26");
        const ping = (id: number) => ({ jsonrpc: "2.0", id, method: "ping" });
        const hundred = await session.send({ body: Array.from({ length: 100 }, (_, n) => ping(n)) });
        assert.equal(hundred.status, 200);
        assert.deepEqual(
            hundred.messages.map((message) => message.id).sort((a, b) => Number(a) - Number(b)),
            Array.from({ length: 100 }, (_, n) => n),
        );
        const more = await session.send({ body: Array.from({ length: 101 }, (_, n) => ping(n)) });
        assert.equal(more.status, 400);
        const twice = await session.send({ body: [echo(7, "a"), echo(7, "b"), echo(8, "c")] });
        assert.equal(twice.status, 200);
        assert.equal(twice.messages.length, 3);
        assert.equal(twice.messages.filter((message) => message.error !== undefined).length, 1);
        const note = { jsonrpc: "2.0", method: "notifications/initialized" };
        const cancel = { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 1 } };
        const answer = { jsonrpc: "2.0", id: 99, result: {} };
        const silent = await session.send({ body: [note, cancel, answer, note] });
        assert.deepEqual([silent.status, silent.text], [202, ""]);
        const mixed = await session.send({ body: [answer, ping(1), cancel, echo(2, "mixed"), note] });
        assert.equal(mixed.status, 200);
        assert.deepEqual(mixed.messages.map((message) => message.id).sort(), [1, 2]);
        for (const bad of [[], [1], [[ping(1)]], [ping(1), {}], [ping(1), initialize("2025-03-26")]]) {
            assert.equal((await session.send({ body: bad })).status, 400, JSON.stringify(bad));
        }
    });

    test("cancelling: a storm, what is finished, what never was, and what is another's", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const other = await openSession(gateway, "/mcp/one");
        const fixture = await fixtureOf("one");
        const from = fixture.events.items.length;
        const mine = session.send({ body: { ...echo("same"), params: { name: "hold" } } });
        const theirs = other.call("hold", {}, "same");
        await fixture.events.waitFor((event) => event.event === "held", from);
        await until(async () => {
            await fixture.sync();
            return fixture.events.items.slice(from).filter((event) => event.event === "held").length === 2;
        }, "both are held");
        const reasons = [undefined, "", "\u00e9".repeat(300), "\u0000\n\r\u001b", 7, {}, ["x"]];
        const ids = ["same", "never", 0, -1, 1e308, null, {}, [], true, "x".repeat(2000), "init"];
        await Promise.all(
            ids.flatMap((requestId) =>
                reasons.map(async (reason) => {
                    const answer = await session.notify("notifications/cancelled", { requestId, reason });
                    assert.ok(answer.status === 202 || answer.status === 400, `${answer.status}`);
                }),
            ),
        );
        const cancelled = await mine;
        assert.deepEqual([cancelled.status, cancelled.messages], [200, []]);
        assert.equal(text(await session.call("echo", { text: "on" }, "same")), "on");
        await fixture.sync();
        const seen = fixture.received("notifications/cancelled");
        assert.equal(seen.length, 1, JSON.stringify(seen));
        fixture.do({ do: "release" });
        assert.equal(text(await theirs), "released");
    });

    test("an id in use is refused, the call that has it goes on", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const fixture = await fixtureOf("one");
        const from = fixture.events.items.length;
        const held = session.call("hold", {}, 5);
        await fixture.events.waitFor((event) => event.event === "held", from);
        const second = await session.call("echo", {}, 5);
        assert.equal(second.error!.code, -32600);
        assert.equal(text(await session.call("echo", { text: "string" }, "5")), "string");
        fixture.do({ do: "release" });
        assert.equal(text(await held), "released");
        assert.equal(text(await session.call("echo", { text: "free again" }, 5)), "free again");
    });

    test("DELETE ends every call of its session, and nothing of another's", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const other = await openSession(gateway, "/mcp/one");
        const fixture = await fixtureOf("one");
        const from = fixture.events.items.length;
        const mine = Array.from({ length: 20 }, (_, id) =>
            session.send({ body: { ...echo(id), params: { name: "hold" } } }),
        );
        const theirs = other.call("hold");
        await until(async () => {
            await fixture.sync();
            return fixture.events.items.slice(from).filter((event) => event.event === "held").length === 21;
        }, "all are held");
        assert.equal((await session.end()).status, 200);
        for (const answer of await Promise.all(mine)) assert.deepEqual(answer.messages, []);
        fixture.do({ do: "release" });
        assert.equal(text(await theirs), "released");
        assert.equal((await session.send({ body: echo(1) })).status, 404);
    });

    test("sessions that end while their calls begin leave no process behind", async (t) => {
        const servers = { one: { cmd: control.command({ name: "short" }), share: "session", max_instances: 100 } };
        const short = await startGateway({ config: { server: { workers: 4 }, servers } }, t);
        for (let n = 0; n < 8; n++) {
            await Promise.all(
                Array.from({ length: 5 }, async () => {
                    const session = await openSession(short, "/mcp/one");
                    const early = Array.from({ length: 4 }, () => session.send({ body: echo(1) }));
                    const end = session.end();
                    const late = Array.from({ length: 8 }, (_, id) => session.send({ body: echo(id + 2) }));
                    for (const answer of await Promise.all([...early, end, ...late])) {
                        assert.ok(answer.status === 200 || answer.status === 404, `${answer.status}`);
                    }
                }),
            );
        }
        const last = await openSession(short, "/mcp/one");
        const { pid } = JSON.parse(text(await last.call("whoami"))) as { pid: number };
        const others = control.starts.items.filter((process) => process.name === "short" && process.start.pid !== pid);
        for (const other of others) await other.isGone();
    });

    test("progress tokens of every shape reach nobody else and break nothing", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const tokens = [{}, { a: [1, { b: "\n" }] }, [], null, true, "x".repeat(3 * 1024 * 1024), "", 1e308, "\u0000"];
        for (const progressToken of tokens) {
            const answer = await session.send({
                body: {
                    jsonrpc: "2.0",
                    id: 1,
                    method: "tools/call",
                    params: { name: "progress", arguments: { steps: 2 }, _meta: { progressToken } },
                },
            });
            assert.equal(answer.status, 200);
            assert.equal(text(answer.messages.at(-1)!), "done 2", JSON.stringify(progressToken)?.slice(0, 60));
            for (const message of answer.messages.slice(0, -1)) {
                assert.deepEqual(message.params!.progressToken, progressToken);
            }
        }
    });

    test("line ends between tokens do not end a message", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const pretty = JSON.stringify(echo("pretty", "a\nb"), null, "\r\n\t");
        const answer = await session.send({ body: `\r\n${pretty}\n\n` });
        assert.equal(text(answer.messages.at(-1)!), "a\nb");
        const smuggled = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x"},\n"a":\n{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"crash"}}\n}}`;
        assert.equal(text((await session.send({ body: smuggled })).messages.at(-1)!), "x");
    });

    test("depth, cursors, names and sizes past every limit are refused and nothing more", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const deep = (n: number) => `${"[".repeat(n)}${"]".repeat(n)}`;
        const cases: [string, number][] = [
            [`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":${deep(10_000)}}}`, 400],
            [deep(1_000_000), 400],
            [`{"jsonrpc":"2.0","id":1,"method":"${"x".repeat(100_000)}"}`, 400],
            [`{"jsonrpc":"2.0","id":"${"x".repeat(100_000)}","method":"ping"}`, 400],
            [JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list", params: { cursor: "A".repeat(3e6) } }), 200],
            [JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list", params: { cursor: { a: 1 } } }), 200],
            [JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "x".repeat(3e6) } }), 200],
            [JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "\u0000\u202e\n" } }), 200],
            [
                JSON.stringify({
                    jsonrpc: "2.0",
                    id: 1,
                    method: "resources/read",
                    params: { uri: "x:" + "y".repeat(3e6) },
                }),
                200,
            ],
            [JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call" }), 200],
            [JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: [] }), 400],
        ];
        for (const [body, status] of cases) {
            const answer = await session.send({ body });
            assert.equal(answer.status, status, `${body.slice(0, 80)}: ${answer.text.slice(0, 200)}`);
            assert.ok(
                answer.messages.at(-1)?.error !== undefined,
                `${body.slice(0, 80)}: ${answer.text.slice(0, 200)}`,
            );
            assert.ok(answer.text.length < 2000, `${body.slice(0, 80)}: an answer of ${answer.text.length}`);
        }
    });

    test("methods, versions and forms that nobody should send", async () => {
        const head = (line: string, more = "") =>
            `${line}\r\nHost: 127.0.0.1:${gateway.port}\r\nAuthorization: Bearer ${gateway.token}\r\nConnection: close\r\n${more}\r\n`;
        for (const [line, status] of [
            ["HEAD /mcp HTTP/1.1", 405],
            ["OPTIONS /mcp HTTP/1.1", 405],
            ["OPTIONS * HTTP/1.1", 404],
            ["PUT /mcp HTTP/1.1", 405],
            ["TRACE /mcp HTTP/1.1", 405],
            ["CONNECT 127.0.0.1:80 HTTP/1.1", 400],
            ["GET /mcp/../health HTTP/1.1", 400],
            ["GET //mcp HTTP/1.1", 400],
            ["GET /mcp/one/two HTTP/1.1", 404],
            ["GET /mcp%2fone HTTP/1.1", 400],
            [`GET http://127.0.0.1:${gateway.port}/nothing HTTP/1.1`, 404],
            ["GET http://evil.example/mcp HTTP/1.1", 400],
            ["GET /health HTTP/1.0", 200],
            ["HEAD /health HTTP/1.1", 200],
        ] as const) {
            const socket = await connected(gateway.port);
            const closed = collect(socket);
            socket.write(head(line));
            const answer = (await within(closed, `an answer to ${line}`)).toString("latin1");
            assert.match(answer, /^HTTP\/1\.1 \d{3} /, line);
            assert.equal(Number(answer.slice(9, 12)), status, `${line}: ${answer.slice(0, 300)}`);
            if (line.startsWith("HEAD")) assert.ok(answer.endsWith("\r\n\r\n"), `${line} has a body`);
        }
    });

    test("HTTP/1.0: a call, and one that streams, end with their connection", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const body = { ...echo(1), params: { name: "progress", arguments: { steps: 3 }, _meta: { progressToken: 1 } } };
        const socket = await connected(gateway.port);
        const closed = collect(socket);
        socket.write(request(body, session.headers).replace("HTTP/1.1", "HTTP/1.0"));
        const answer = (await within(closed, "the end of the stream")).toString("utf8");
        assert.doesNotMatch(answer, /transfer-encoding/i);
        assert.match(answer, /done 3/);
        assert.equal(answer.split("notifications/progress").length - 1, 3);
    });

    test("a pipeline of a thousand, with a hang-up behind it", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const last = request(echo("last"), { ...session.headers, Connection: "close" });
        const pings = Array.from({ length: 1000 }, (_, id) =>
            request({ jsonrpc: "2.0", id, method: "ping" }, session.headers),
        );
        const answers = await exchange(gateway.port, pings.join("") + last);
        assert.equal(answers.length, 1001);
        assert.deepEqual(
            answers.slice(0, 1000).map((answer) => (JSON.parse(answer.body) as RpcMessage).id),
            Array.from({ length: 1000 }, (_, id) => id),
        );
        const socket = await connected(gateway.port);
        const closed = collect(socket);
        socket.write(Array.from({ length: 1000 }, (_, id) => request(echo(`p${id}`), session.headers)).join(""), () =>
            socket.resetAndDestroy(),
        );
        await closed;
        assert.equal(text(await session.call("echo", { text: "after" })), "after");
    });

    test("more connections than descriptors: who was in stays in, who waits is served later", { skip: unlessRoot }, async (t) => {
        const servers = { one: { cmd: control.command({ name: "narrow" }) } };
        const narrow = await startGateway({ config: { servers } }, t);
        await served(narrow, "one__echo");
        const limit = spawnSync("prlimit", ["--pid", `${narrow.pid}`, "--nofile=64:64"]);
        if (limit.error !== undefined) return t.skip("there is no prlimit");
        assert.equal(limit.status, 0, String(limit.stderr));
        const session = await openSession(narrow, "/mcp/one");
        const opened = await session.stream();
        const crowd = await Promise.all(Array.from({ length: 150 }, () => connected(narrow.port)));
        await until(
            () => allDescriptors(narrow) >= 62,
            () => `${allDescriptors(narrow)} descriptors are open`,
        );
        const fixture = await fixtureOf("narrow");
        fixture.notify("notifications/tools/list_changed");
        await opened.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        const late = session.call("echo", { text: "late" });
        for (const socket of crowd) socket.destroy();
        assert.equal(text(await late), "late");
        opened.close();
    });

    for (const [name, signals] of [
        ["twice", ["SIGTERM", "SIGTERM"]],
        ["many times", ["SIGTERM", "SIGINT", "SIGTERM", "SIGTERM", "SIGHUP", "SIGTERM"]],
    ] as const) {
        test(`stopped ${name} in the middle of calls and streams it ends at once, with 0`, async (t) => {
            const servers = { one: { cmd: control.command({ name: `stopped ${name}` }) } };
            const stopped = await startGateway({ config: { servers } }, t);
            await served(stopped, "one__echo");
            const session = await openSession(stopped, "/mcp/one");
            const fixture = await fixtureOf(`stopped ${name}`);
            const calls = Array.from({ length: 10 }, (_, id) =>
                stream(session.target, {
                    path: "/mcp/one",
                    headers: session.headers,
                    body: { ...echo(id), params: { name: "hold" } },
                }).catch(() => undefined),
            );
            const opened = await session.stream();
            await until(async () => {
                await fixture.sync();
                return fixture.events.items.filter((event) => event.event === "held").length === 10;
            }, "all are held");
            for (const signal of signals) {
                const from = stopped.log.items.length;
                stopped.process.kill(signal);
                if (signals.length > 2) continue;
                await stopped.waitForLog((entry) => /^(draining|stops at once)$/.test(entry.message ?? ""), from);
            }
            await within(opened.ended, "the GET stream ends");
            const { code, signal } = await within(stopped.exited, "the gateway ends");
            assert.deepEqual([code, signal], [0, null]);
            await Promise.all(calls);
        });
    }

    test("without a token nothing is stored, started or told", async () => {
        const before = resident(gateway);
        const rest = request("x".repeat(4_000_000), { Authorization: "Bearer no" });
        const answers = await Promise.all(
            Array.from({ length: 20 }, () =>
                exchange(gateway.port, rest.replace("Accept:", "Connection: close\r\nAccept:")),
            ),
        );
        for (const [answer] of answers) assert.equal(answer!.status, 401);
        assert.ok(resident(gateway) - before < 200_000, `${before} KiB, then ${resident(gateway)} KiB`);
        assert.equal((await send(gateway, { token: "no", body: initialize("2025-11-25") })).status, 401);
    });

    test("a head that drips in is given up after 30 s, however lively it is", { timeout: 60_000 }, async () => {
        assert.deepEqual(await dripping, [408]);
    });
});
