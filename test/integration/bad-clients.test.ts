/*
 * Clients that misbehave in ways that hostile-clients, hostile-modern and http-strict leave out: half-closed calls,
 * games with 100-continue, ids of every shape, answers to nobody, thousands of streams. Of each: another client's calls
 * go on meanwhile, and at the end nothing is left of it.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import net from "node:net";
import { after, before, describe, test } from "node:test";

import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { initialize, openSession, parseResponses, served, serving, text, type Session } from "./lib/http.ts";
import { unlessRoot } from "./lib/proc.ts";
import { until, within } from "./lib/wait.ts";
import { holding, isReleased, undisturbed, warm, type Holding } from "./lib/witness.ts";

const BODY_TIMEOUT_MS = 1500;

describe("clients that misbehave", () => {
    let control: Control;
    let gateway: Gateway;
    let session: Session;
    let other: Session;
    let server: FixtureProcess;
    let first: Holding;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                server: { limits: { body_timeout: `${BODY_TIMEOUT_MS}ms` } },
                servers: { one: { cmd: control.command({ name: "one" }) } },
            },
            args: ["--log", "info"],
        });
        await served(gateway, "one__echo");
        await warm(gateway);
        session = await openSession(gateway, "/mcp/one");
        other = await openSession(gateway, "/mcp/one");
        server = await serving(control, session);
        first = await holding(gateway);
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    const head = (line: string, fields: Record<string, string> = {}) => {
        const all: Record<string, string> = {
            Host: `127.0.0.1:${gateway.port}`,
            Authorization: `Bearer ${gateway.token}`,
            Accept: "application/json, text/event-stream",
            ...session.headers,
            ...fields,
        };
        const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
        return `${line}\r\n${lines.join("")}\r\n`;
    };
    const json = { "Content-Type": "application/json" };
    const post = (content: string, fields: Record<string, string> = {}) =>
        head("POST /mcp/one HTTP/1.1", { ...json, "Content-Length": String(Buffer.byteLength(content)), ...fields }) +
        content;
    const ping = (id: unknown = 1) => JSON.stringify({ jsonrpc: "2.0", id, method: "ping" });
    const tool = (name: string, id: unknown = 1, args: object = {}) =>
        JSON.stringify({ jsonrpc: "2.0", id, method: "tools/call", params: { name, arguments: args } });

    const connected = () =>
        within(
            new Promise<net.Socket>((resolve, reject) => {
                const socket = net.connect({ host: "127.0.0.1", port: gateway.port, allowHalfOpen: true }, () =>
                    resolve(socket),
                );
                socket.once("error", reject);
            }),
            "a connection",
        ).then((socket) => socket.on("error", () => {}));

    /** All that comes until the gateway ends the connection. */
    const rest = (socket: net.Socket) => {
        const chunks: Buffer[] = [];
        socket.on("data", (chunk: Buffer) => chunks.push(chunk));
        const ended = new Promise<Buffer>((resolve) => {
            const done = () => {
                socket.destroy();
                resolve(Buffer.concat(chunks));
            };
            socket.once("end", done);
            socket.once("close", done);
        });
        return within(ended, () => `the end; so far ${JSON.stringify(Buffer.concat(chunks).toString("latin1"))}`);
    };

    /** The answers to these bytes, of a client that says no more; 100s are left out. */
    const answers = async (bytes: string, ends = true) => {
        const socket = await connected();
        const coming = rest(socket);
        if (ends) socket.end(bytes);
        else socket.write(bytes);
        return parseResponses(await coming).filter(({ status }) => status !== 100);
    };
    const statuses = async (bytes: string, ends?: boolean) => (await answers(bytes, ends)).map(({ status }) => status);
    const works = () => other.call("echo", { text: "other" }).then((answer) => assert.equal(text(answer), "other"));
    const close = { Connection: "close" };

    describe("half-closed", () => {
        test("behind a request that the gateway itself answers: it is answered", async () => {
            const [answer, ...more] = await answers(post(ping()));
            assert.equal(answer!.status, 200);
            assert.deepEqual(more, []);
        });

        test("behind a pipeline: every whole request in it is answered", async () => {
            const five = Array.from({ length: 5 }, (_, id) => post(ping(id))).join("");
            const got = await answers(five + post(ping(5)).slice(0, -3));
            const whole = got.slice(0, 5);
            assert.deepEqual(
                whole.map(({ body }) => (JSON.parse(body) as RpcMessage).id),
                [0, 1, 2, 3, 4],
            );
            assert.ok(got.length === 5 || got[5]!.status === 400, "what is cut is refused or dropped");
        });

        // Whoever ends its side while a call runs is gone, as for most servers: nobody holds a place for it.
        test("behind a call that waits: the connection ends at once, the id is free, the session goes on", async () => {
            const from = server.events.items.length;
            const socket = await connected();
            const coming = rest(socket);
            socket.write(post(tool("hold", "half"), close));
            await server.events.waitFor((event) => event.event === "held", from);
            socket.end();
            assert.equal((await coming).toString("utf8"), "");
            await undisturbed(Promise.resolve(), "another client's call", works);
            server.do({ do: "release" });
            await until(async () => {
                const answer = await session.call("echo", { text: "free" }, "half");
                return answer.error === undefined && text(answer) === "free";
            }, "its id is free again");
        });

        test("behind a GET stream: the stream ends or goes on, and is gone with its session", async () => {
            const mine = await openSession(gateway, "/mcp/one");
            const socket = await connected();
            const coming = rest(socket);
            socket.end(head("GET /mcp/one HTTP/1.1", { ...mine.headers }));
            await undisturbed(Promise.resolve(), "another client's call", works);
            await mine.end();
            assert.match((await coming).toString("latin1"), /^HTTP\/1\.1 200 /);
        });
    });

    describe("100-continue", () => {
        const expect = { Expect: "100-continue" };
        const body = ping();
        const without = (fields: Record<string, string>) => post("", fields).replace("Content-Length: 0\r\n", "");
        test("without a body: the request is judged as it is", async () => {
            for (const bytes of [post("", { ...expect, ...close }), without({ ...expect, ...close })]) {
                assert.deepEqual(await statuses(bytes, false), [400]);
            }
            const got = await statuses(head("GET /health HTTP/1.1", { ...expect, ...close }), false);
            assert.deepEqual(got, [200]);
        });

        test("the body does not wait for it", async () => {
            assert.deepEqual(await statuses(post(body, { ...expect, ...close }), false), [200]);
            const both = post(body, expect) + post(body, { ...expect, ...close });
            assert.deepEqual(await statuses(both, false), [200, 200]);
        });

        test("the body comes a byte at a time, behind the 100", async () => {
            const socket = await connected();
            const coming = rest(socket);
            const bytes = post(body, { ...expect, ...close });
            const at = bytes.length - body.length;
            const asked = new Promise((resolve) => socket.once("data", resolve));
            socket.write(bytes.slice(0, at));
            assert.match(String(await within(asked, "100 Continue")), /^HTTP\/1\.1 100 Continue\r\n\r\n$/);
            for (const byte of body) await new Promise((resolve) => socket.write(byte, resolve));
            const got = parseResponses(await coming).map(({ status }) => status);
            assert.deepEqual(got, [100, 200]);
        });

        test("twice, in two fields or one: one 100 or a refusal, and one answer", async () => {
            for (const line of ["Expect: 100-continue\r\nExpect: 100-continue", "Expect: 100-continue, 100-continue"]) {
                const bytes = post(body, { ...expect, ...close }).replace("Expect: 100-continue", line);
                const socket = await connected();
                const coming = rest(socket);
                socket.write(bytes);
                const got = parseResponses(await coming).map(({ status }) => status);
                assert.ok(["100,200", "200", "400", "417"].includes(got.join()), `${line}: ${got}`);
            }
        });

        test("something else that is expected: 417", async () => {
            for (const value of ["200-ok", "100-continue-please", "100"]) {
                assert.deepEqual(await statuses(post(body, { Expect: value })), [417], value);
            }
        });

        test("in HTTP/1.0, which has no 100: none is sent, and the request is answered", async () => {
            const bytes = post(body, expect).replace("HTTP/1.1", "HTTP/1.0");
            const socket = await connected();
            const coming = rest(socket);
            socket.write(bytes);
            assert.match((await coming).toString("latin1"), /^HTTP\/1\.1 200 /);
        });

        test("with chunks, the last of which is in no hurry", async () => {
            const start = head("POST /mcp/one HTTP/1.1", {
                ...json,
                ...expect,
                ...close,
                "Transfer-Encoding": "chunked",
            });
            const socket = await connected();
            const coming = rest(socket);
            socket.write(`${start}${body.length.toString(16)}\r\n${body}\r\n`);
            await works();
            socket.write("0\r\n\r\n");
            assert.deepEqual(parseResponses(await coming).at(-1)!.status, 200);
        });

        test("and the body never comes: 408 after body_timeout, others are served meanwhile", async () => {
            const sockets = await Promise.all(Array.from({ length: 20 }, connected));
            const ends = sockets.map((socket) => {
                const coming = rest(socket);
                socket.write(post(body, expect).slice(0, -body.length));
                return coming;
            });
            const all = Promise.all(ends);
            await undisturbed(all, "another client's call", works);
            for (const end of await all) {
                const got = parseResponses(end).map(({ status }) => status);
                assert.deepEqual(got, [100, 408]);
            }
        });
    });

    describe("ids", () => {
        /** As written in the request; the answer has to have the same bytes. */
        const good = [
            ...["0", "-1", "1", "9007199254740991", "-9007199254740991", '"1"', '""', '"0"', '"null"', '"\\u0031"'],
            ...['"\\u0000"', '"\\ud83d\\ude00"', '"\u00e9\u{1f600}"', '" "', '"\\n"', '"\\""', '"\\/"', '"../../x"'],
            ...['"</script>"', '"\\u2028"', `"${"x".repeat(1000)}"`],
        ];
        /** Answered with exactly the same, or refused: a number of many digits is not everywhere the same number. */
        const doubtful = ["1.5", "1e3", "-0", "1E400", "9007199254740993", "123456789012345678901234567890", "0.0"];
        const bad = [
            ...["null", "true", "{}", "[]", '{"a":1}', "[1]", "01", "+1", "1.", ".5", "0x1", "NaN", "Infinity", "'1'"],
            ...['"\\ud800"', '"\\x"', '"\n"', `"${"x".repeat(2000)}"`, "1 2", '"a" "b"', ""],
        ];
        const ask = async (id: string, method = "ping", params = "{}") => {
            const bytes = `{"jsonrpc":"2.0","id":${id},"method":"${method}","params":${params}}`;
            const [answer, ...more] = await answers(post(bytes, close), false);
            assert.deepEqual(more, []);
            return answer!;
        };
        const call = '{"name":"echo","arguments":{"text":"shaped"}}';

        for (const [method, params] of [
            ["ping", "{}"],
            ["tools/call", call],
        ] as const) {
            test(`of every shape: ${method}`, async () => {
                for (const id of good) {
                    const { status, body } = await ask(id, method, params);
                    assert.equal(status, 200, `${id}: ${body}`);
                    assert.ok(body.includes(`"id":${id},`) || body.includes(`"id":${id}}`), `${id}: ${body}`);
                    assert.ok(body.includes('"result"'), `${id}: ${body}`);
                }
                for (const id of doubtful) {
                    const { status, body } = await ask(id, method, params);
                    const isSame = body.includes(`"id":${id},`) || body.includes(`"id":${id}}`);
                    assert.ok(status === 400 || (status === 200 && isSame), `${id}: ${status} ${body}`);
                }
                for (const id of bad) {
                    const { status, body } = await ask(id, method, params);
                    assert.equal(status, 400, `${id}: ${body}`);
                    const { error, result } = JSON.parse(body) as RpcMessage;
                    assert.ok(error !== undefined && result === undefined, `${id}: ${body}`);
                }
                await works();
            });
        }

        test("the same in another spelling is another id, and both are answered with their own", async () => {
            const ids = ["1", '"1"', '"\\u0031"', '"01"', '" 1"'];
            const all = await Promise.all(ids.map((id) => ask(id, "tools/call", call)));
            for (const [n, { status, body }] of all.entries()) {
                // The last two strings of these are equal when unescaped: one of them may be in use just then.
                if (body.includes("-32600")) assert.ok(ids[n]!.includes("1"), body);
                else assert.ok(status === 200 && body.includes(`"id":${ids[n]}`), `${ids[n]}: ${body}`);
            }
        });
    });

    test("answers to nobody, with ids of calls that run, and errors: nothing hears them", async () => {
        const from = server.events.items.length;
        const held = session.call("hold", {}, "held");
        await server.events.waitFor((event) => event.event === "held", from);
        const result = { content: [{ type: "text", text: "forged" }] };
        const ids = ["held", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "1", "init", null, "", -1];
        for (const id of ids) {
            for (const forged of [
                { jsonrpc: "2.0", id, result },
                { jsonrpc: "2.0", id, error: { code: -1, message: "forged" } },
                { jsonrpc: "2.0", id, result, error: { code: -1, message: "forged" } },
                { jsonrpc: "2.0", id, result, method: "ping" },
            ]) {
                const answer = await session.send({ body: forged });
                assert.ok([202, 400].includes(answer.status), `${JSON.stringify(forged)}: ${answer.status}`);
                assert.ok(!answer.text.includes("forged"), answer.text);
            }
        }
        await server.sync();
        const seen = server.events.items.slice(from).filter((event) => JSON.stringify(event).includes("forged"));
        assert.deepEqual(seen, [], "the server heard none of it");
        server.do({ do: "release" });
        assert.equal(text(await held), "released");
        await works();
    });

    test("a batch is refused where the revision has none, whatever is in it", async () => {
        const everything = [
            JSON.parse(ping(1)),
            JSON.parse(tool("echo", 2)),
            { jsonrpc: "2.0", method: "notifications/initialized" },
            { jsonrpc: "2.0", id: 3, result: {} },
            initialize("2025-11-25"),
            7,
            null,
            [],
            {},
        ];
        for (const body of [everything, [JSON.parse(ping())], [], [[]]]) {
            const answer = await session.send({ body });
            assert.equal(answer.status, 400, answer.text);
            assert.equal((JSON.parse(answer.text) as RpcMessage).error!.code, -32600, answer.text);
        }
        await works();
    });

    test("pipelines with errors inside: in order, up to the one that closes", async () => {
        const good = (id: number) => post(ping(id));
        const rows: [string, number][] = [
            [good(0), 200],
            [post("{"), 400],
            [good(1), 200],
            [post(tool("nothing", 2)), 200],
            [head("PUT /mcp/one HTTP/1.1", { "Content-Length": "0" }), 405],
            [head("GET /nothing HTTP/1.1"), 404],
            [post(JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" })), 202],
            [post(ping(3), { "Mcp-Session-Id": "x" }), 404],
            [good(4), 200],
        ];
        const got = await answers(rows.map(([bytes]) => bytes).join("") + post(ping("end"), close), false);
        const expected = [...rows.map(([, status]) => status), 200];
        const seen = got.map(({ status }) => status);
        // A refusal may close the connection; then what follows is not answered, and nothing is out of order.
        assert.deepEqual(seen, expected.slice(0, seen.length));
        if (seen.length < expected.length) assert.equal(got.at(-1)!.headers.get("connection"), "close");
        assert.ok(seen.length >= 2, String(seen));
        await works();
    });

    test("thousands of streams, opened and dropped", { skip: unlessRoot, timeout: 120_000 }, async (t) => {
        const open = Number(execFileSync("sh", ["-c", "ulimit -Hn"]).toString().replace("unlimited", "1000000"));
        const wanted = Math.min(5000, Math.floor(open / 2) - 500);
        assert.ok(wanted > 100, `only ${open} descriptors may be open`);
        /** Opens a session and its stream on one connection, and keeps it. */
        const listen = async () => {
            const socket = await connected();
            const content = JSON.stringify(initialize("2025-11-25"));
            const bytes = post(content).replace(/Mcp-Session-Id: .*\r\n/, "");
            let got = "";
            let isAsked = false;
            const isOpen = new Promise<void>((resolve) => {
                socket.on("data", (chunk) => {
                    got += chunk;
                    const id = /\r\nMcp-Session-Id: (\S+)\r\n/i.exec(got)?.[1];
                    if (!isAsked && id !== undefined && got.includes('"result"')) {
                        isAsked = true;
                        got = "";
                        socket.write(head("GET /mcp/one HTTP/1.1", { "Mcp-Session-Id": id }));
                    } else if (isAsked && /^HTTP\/1\.1 200 [^]*text\/event-stream/.test(got)) resolve();
                });
            });
            socket.write(bytes);
            await within(isOpen, () => `a stream: ${JSON.stringify(got)}`, 60_000);
            return socket;
        };
        const sockets: net.Socket[] = [];
        const opening = (async () => {
            while (sockets.length < wanted) {
                const length = Math.min(250, wanted - sockets.length);
                sockets.push(...(await Promise.all(Array.from({ length }, listen))));
            }
        })();
        await undisturbed(opening, "another client's call", works);
        await opening;
        const most = await holding(gateway);
        assert.ok(most.descriptors >= first.descriptors + wanted, JSON.stringify(most));
        for (const socket of sockets) socket.resetAndDestroy();
        await isReleased(gateway, { ...first, sessions: most.sessions }, 60_000);
        // And a thousand that do not wait for what they asked for.
        for (let n = 0; n < 10; n++) {
            await Promise.all(
                Array.from({ length: 100 }, async (_, k) => {
                    const socket = await connected();
                    socket.write(head("GET /mcp/one HTTP/1.1"), () =>
                        k % 2 === 0 ? socket.resetAndDestroy() : socket.destroy(),
                    );
                }),
            );
        }
        await works();
        await isReleased(gateway, { ...first, sessions: most.sessions }, 60_000);
        t.diagnostic(`${wanted} streams: ${JSON.stringify(most)}`);
    });

    test("of all these nothing is left but the sessions that nobody ended", async () => {
        await isReleased(gateway, { ...first, sessions: 1_000_000 });
        await works();
    });
});
