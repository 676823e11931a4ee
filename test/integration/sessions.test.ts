/* Legacy sessions over Streamable HTTP, seen from the wire: mcp-spec of 2025-03-26, 2025-06-18 and 2025-11-25. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { DEFAULT_TOOLS } from "./fixtures/server.ts";
import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import {
    initialize,
    openSession,
    send,
    served,
    serving,
    text,
    VERSIONS,
    type Answer,
    type Session,
} from "./lib/http.ts";
import { until, within } from "./lib/wait.ts";

const request = (id: string | number, method: string, params?: unknown): RpcMessage =>
    ({ jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) }) as RpcMessage;

/** The JSON-RPC error of an answer, if it carries one, has no id that we did not send. */
function refused(answer: Answer, status: number, code?: number): void {
    assert.equal(answer.status, status, answer.text);
    if (code !== undefined) assert.equal(answer.messages[0]?.error?.code, code, answer.text);
}

describe("sessions", () => {
    let control: Control;
    let gateway: Gateway;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                servers: {
                    one: { cmd: control.command({ name: "one" }) },
                    two: { cmd: control.command({ name: "two" }) },
                },
            },
        });
        await served(gateway, "one__echo", "two__echo");
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    /** One tool more at the upstream of this session. */
    const added: unknown[] = [];
    const change = async (session: Session) => {
        const server = await serving(control, session);
        added.push({ name: `added-${added.length}`, inputSchema: { type: "object" } });
        await server.set({ tools: [...DEFAULT_TOOLS, ...added] });
        server.notify("notifications/tools/list_changed");
    };

    for (const path of ["/mcp", "/mcp/one"]) {
        for (const version of VERSIONS) {
            test(`the life of a session: ${path} ${version}`, async () => {
                const session = await openSession(gateway, path, version);
                assert.match(session.id, /^[\x21-\x7e]{16,}$/, "the id is visible ASCII and not short");
                const result = session.initialized.result!;
                assert.equal(result.protocolVersion, version);
                assert.equal(typeof (result.serverInfo as { name: unknown }).name, "string");
                assert.equal(session.initialized.id, "init");
                assert.deepEqual((await session.request("ping")).result, {});
                const name = path === "/mcp" ? "one__echo" : "echo";
                assert.equal(text(await session.call(name, { text: "hello" })), "hello");
                const ended = await session.end();
                assert.ok(ended.status === 200 || ended.status === 204, `DELETE got ${ended.status}`);
                refused(await session.send({ body: request(9, "ping") }), 404);
                refused(await session.send({ method: "GET" }), 404);
                refused(await session.send({ method: "DELETE" }), 404);
            });
        }
    }

    test("session ids are all different", async () => {
        const sessions = await Promise.all(Array.from({ length: 20 }, () => openSession(gateway)));
        assert.equal(new Set(sessions.map((session) => session.id)).size, 20);
        const prefixes = new Set(sessions.map((session) => session.id.slice(0, 8)));
        assert.ok(prefixes.size > 15, "they do not count up");
        await Promise.all(sessions.map((session) => session.end()));
    });

    test("ids begin with the instance, and are as unguessable behind it; one of another instance is no session here", async (t) => {
        const named = await startGateway({ config: { server: { instance: "Abc4567890123456" }, servers: {} } }, t);
        const ids = await Promise.all(Array.from({ length: 20 }, async () => (await openSession(named)).id));
        for (const id of ids) assert.match(id, /^Abc4567890123456\.[A-Za-z0-9_-]{43}$/);
        assert.ok(new Set(ids.map((id) => id.slice(17, 25))).size > 15);
        const ping = (id: string) => send(named, { body: request(1, "ping"), headers: { "Mcp-Session-Id": id } });
        assert.equal((await ping(ids[0]!)).status, 200);
        const random = ids[0]!.slice(17);
        for (const id of [random, `.${random}`, `other.${random}`, `abc4567890123456.${random}`, `Abc4567890123456.${ids[0]}`]) {
            refused(await ping(id), 404);
        }
        assert.ok(!named.tail(1e6).includes(random), "the log has no id");
        assert.ok(named.log.items.length > 0);
    });

    test("an unknown version is answered with the latest that is served", async () => {
        for (const asked of ["1999-01-01", "2099-01-01", "2026-07-28", ""]) {
            const answer = await send(gateway, { body: initialize(asked) });
            assert.equal(answer.status, 200, `${asked}: ${answer.text}`);
            assert.equal(answer.messages.at(-1)!.result!.protocolVersion, "2025-11-25", asked);
        }
    });

    test("without a session only initialize is served", async () => {
        refused(await send(gateway, { body: request(1, "tools/list") }), 400);
        refused(await send(gateway, { body: request(1, "ping") }), 400);
        refused(await send(gateway, { body: { jsonrpc: "2.0", method: "notifications/initialized" } }), 400);
        refused(await send(gateway, { method: "GET" }), 400);
        refused(await send(gateway, { method: "DELETE" }), 400);
    });

    test("an unknown session is 404, also where its id is strange", async () => {
        for (const id of [
            "nobody",
            "00000000-0000-0000-0000-000000000000",
            "x".repeat(4000),
            "a b",
            "../../etc",
            "%00",
        ]) {
            const answer = await send(gateway, { headers: { "Mcp-Session-Id": id }, body: request(1, "ping") });
            assert.equal(answer.status, 404, id.slice(0, 40));
        }
    });

    test("a session id sent twice or empty names no session", async () => {
        const session = await openSession(gateway);
        const other = await openSession(gateway);
        for (const ids of [
            [session.id, other.id],
            [session.id, session.id],
        ]) {
            const answer = await send(gateway, { headers: { "Mcp-Session-Id": ids }, body: request(1, "ping") });
            assert.ok(answer.status === 400 || answer.status === 404, String(answer.status));
        }
        const empty = await send(gateway, { headers: { "Mcp-Session-Id": "" }, body: request(1, "ping") });
        assert.ok(empty.status === 400 || empty.status === 404, String(empty.status));
        await session.end();
        await other.end();
    });

    test("a session belongs to the endpoint that opened it", async () => {
        const session = await openSession(gateway, "/mcp/one");
        for (const path of ["/mcp", "/mcp/two"]) {
            refused(await session.send({ path, body: request(1, "tools/list") }), 404);
        }
        await session.end();
    });

    test("MCP-Protocol-Version: missing is fine, another served one too or refused, an unknown one is 400", async () => {
        const session = await openSession(gateway);
        const ping = (version: string | undefined) =>
            session.send({ headers: { "MCP-Protocol-Version": version }, body: request(1, "ping") });
        assert.equal((await ping(undefined)).status, 200);
        assert.equal((await ping("2025-11-25")).status, 200);
        for (const version of ["1999-01-01", "2025-11-25x", "latest", "", "2025-11-25, 2025-06-18"]) {
            assert.equal((await ping(version)).status, 400, version);
        }
        assert.equal(
            (await session.send({ method: "GET", headers: { "MCP-Protocol-Version": "1999-01-01" } })).status,
            400,
        );
        assert.equal(
            (await session.send({ method: "DELETE", headers: { "MCP-Protocol-Version": "1999-01-01" } })).status,
            400,
        );
        assert.equal((await ping("2025-11-25")).status, 200, "the session lives on");
        await session.end();
    });

    test("a request of the next era without what makes it one is refused", async () => {
        refused(await send(gateway, { body: request(1, "server/discover") }), 400, -32600);
    });

    test("Content-Type and Accept", async () => {
        const session = await openSession(gateway);
        const ping = (headers: Record<string, string | undefined>) =>
            session.send({ headers, body: request(1, "ping") });
        for (const type of [
            "text/plain",
            undefined,
            "application/x-www-form-urlencoded",
            "application/jsonx",
            "text/json",
        ]) {
            assert.equal((await ping({ "Content-Type": type })).status, 415, String(type));
        }
        for (const type of ["application/json", "application/json; charset=utf-8", "Application/JSON"]) {
            assert.equal((await ping({ "Content-Type": type })).status, 200, type);
        }
        for (const accept of ["text/html", "application/json", "text/event-stream", "image/*"]) {
            assert.equal((await ping({ Accept: accept })).status, 406, accept);
        }
        for (const accept of [
            "application/json, text/event-stream",
            "text/event-stream;q=0.5, application/json",
            "text/event-stream , Application/JSON",
        ]) {
            assert.equal((await ping({ Accept: accept })).status, 200, accept);
        }
        assert.equal((await session.send({ method: "GET", headers: { Accept: "application/json" } })).status, 406);
        await session.end();
    });

    test("what is no JSON-RPC message is 400 with a JSON-RPC error", async () => {
        const session = await openSession(gateway);
        const cases: [body: string, code: number][] = [
            ["", -32700],
            ["{", -32700],
            ["nonsense", -32700],
            ['{"jsonrpc":"2.0","id":1,"method":"ping"} {}', -32700],
            ['{"jsonrpc":"2.0","id":1,"method":"ping",}', -32700],
            ['\ufeff{"jsonrpc":"2.0","id":1,"method":"ping"}', -32700],
            ["1", -32600],
            ['"ping"', -32600],
            ["null", -32600],
            ["{}", -32600],
            ['{"id":1,"method":"ping"}', -32600],
            ['{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600],
            ['{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600],
            ['{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600],
            ['{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600],
            ['{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600],
            ['{"jsonrpc":"2.0","id":1,"method":7}', -32600],
            ['{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}', -32600],
            ['{"jsonrpc":"2.0","id":1}', -32600],
            [`${"[".repeat(100)}${"]".repeat(100)}`, -32700],
        ];
        for (const [body, code] of cases) {
            const answer = await session.send({ body });
            assert.equal(answer.status, 400, `${body.slice(0, 60)}: ${answer.status} ${answer.text}`);
            const error = answer.messages[0]?.error;
            assert.ok(error !== undefined, `${body.slice(0, 60)}: ${answer.text}`);
            // too deep and params of the wrong type: which of the codes is a matter of taste
            assert.ok([code, -32600, -32602].includes(error.code), `${body.slice(0, 60)}: ${error.code}`);
        }
        for (const body of [
            '{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
            '{"jsonrpc":"2.0","id":1,"method":"ping","meth\\u006fd":"tools/call"}',
            '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","name":"two__echo"}}',
        ]) {
            assert.equal((await session.send({ body })).status, 400, body);
        }
        assert.deepEqual((await session.request("ping")).result, {}, "the session lives on");
        await session.end();
    });

    test("notifications and answers to nobody are 202 with an empty body", async () => {
        const session = await openSession(gateway);
        for (const body of [
            { jsonrpc: "2.0", method: "notifications/roots/list_changed" },
            { jsonrpc: "2.0", method: "notifications/never/heard/of", params: { a: 1 } },
            { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 4711 } },
            { jsonrpc: "2.0", method: "notifications/cancelled", params: {} },
            { jsonrpc: "2.0", method: "notifications/progress", params: { progressToken: "x", progress: 1 } },
            { jsonrpc: "2.0", id: 99, result: {} },
            { jsonrpc: "2.0", id: "99", error: { code: 1, message: "no" } },
        ]) {
            const answer = await session.send({ body });
            assert.equal(answer.status, 202, `${JSON.stringify(body)}: ${answer.text}`);
            assert.equal(answer.text, "");
        }
        assert.deepEqual((await session.request("ping")).result, {});
        await session.end();
    });

    test("errors of requests are in-band", async () => {
        const session = await openSession(gateway);
        const code = async (method: string, params?: unknown) => (await session.request(method, params)).error?.code;
        assert.equal(await code("no/such/method"), -32601);
        assert.equal(await code("tools/call", { name: "one__none" }), -32602);
        assert.equal(await code("tools/call", { name: "echo" }), -32602, "on /mcp a name has its prefix");
        assert.equal(await code("tools/call", { name: "nobody__echo" }), -32602);
        assert.equal(await code("tools/call", {}), -32602);
        assert.equal(await code("tools/call"), -32602);
        assert.equal(await code("tools/call", { name: 7 }), -32602);
        assert.equal(await code("prompts/get", { name: "one__none" }), -32602);
        assert.equal(await code("resources/subscribe", { uri: "test://x" }), -32002);
        assert.equal(await code("tasks/list"), -32601);
        await session.end();
    });

    test("a tool that is not listed is not called", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const listed = await session.request("tools/list");
        const names = (listed.result!.tools as { name: string }[]).map((tool) => tool.name);
        assert.ok(names.includes("echo") && !names.includes("unlisted"));
        assert.equal((await session.call("unlisted")).error?.code, -32602);
        await session.end();
    });

    test("calls of one session over many connections", async () => {
        const session = await openSession(gateway);
        const answers = await Promise.all(
            Array.from({ length: 60 }, (_, index) => {
                const tool = index % 2 === 0 ? "one__echo" : "two__echo";
                return session.call(tool, { text: `call ${index}` }, index);
            }),
        );
        assert.deepEqual(
            answers.map(text),
            Array.from({ length: 60 }, (_, index) => `call ${index}`),
        );
        await session.end();
    });

    test("a session opened on one connection is known at once on every other", async () => {
        for (let round = 0; round < 20; round++) {
            const session = await openSession(gateway);
            const pings = await Promise.all(
                Array.from({ length: 4 }, (_, index) => session.send({ body: request(index, "ping") })),
            );
            assert.deepEqual(
                pings.map((answer) => answer.status),
                [200, 200, 200, 200],
            );
            assert.ok((await session.end()).status < 300);
            const late = await Promise.all(
                Array.from({ length: 4 }, (_, index) => session.send({ body: request(index, "ping") })),
            );
            assert.deepEqual(
                late.map((answer) => answer.status),
                [404, 404, 404, 404],
            );
        }
    });

    test("a second call is served while the first waits, and DELETE ends what waits", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const server = await serving(control, session);
        const from = server.events.items.length;
        const waiting = session.send({ body: request(1, "tools/call", { name: "hold", arguments: {} }) });
        const held = await server.events.waitFor((event) => event.event === "held", from);
        assert.equal(text(await session.call("echo", { text: "meanwhile" })), "meanwhile");
        assert.ok((await session.end()).status < 300);
        const cancelled = await server.events.waitFor(
            (event) => event.message?.method === "notifications/cancelled",
            from,
        );
        assert.equal(cancelled.message!.params!.requestId, held.id);
        const answer = await waiting;
        assert.ok(!answer.text.includes("released"), answer.text);
        server.do({ do: "release" });
    });

    test("hanging up is not cancelling: the server's call goes on", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const server = await serving(control, session);
        const from = server.events.items.length;
        const abort = new AbortController();
        const waiting = session.send({
            body: request(1, "tools/call", { name: "hold", arguments: {} }),
            signal: abort.signal,
        });
        await server.events.waitFor((event) => event.event === "held", from);
        abort.abort();
        await assert.rejects(waiting);
        for (let round = 0; round < 10; round++) await session.call("echo", { text: "barrier" });
        server.do({ do: "release" });
        await session.call("echo", { text: "barrier" });
        await server.sync();
        assert.ok(
            !server.events.items.slice(from).some((event) => event.message?.method === "notifications/cancelled"),
        );
        await session.end();
    });

    test("the GET stream: opened before a change, it says so; a second one is 409; DELETE ends it", async () => {
        const session = await openSession(gateway, "/mcp/two");
        const events = await session.stream();
        assert.equal(events.status, 200);
        assert.match(events.headers["content-type"]!, /^text\/event-stream/);
        assert.match(String(events.headers["cache-control"]), /no-(cache|store)/);
        const second = await session.stream();
        assert.equal(second.status, 409);
        second.close();
        await change(session);
        await events.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        await session.end();
        await within(events.ended, "DELETE ends the GET stream");
    });

    test("a GET stream that was hung up can be opened again", async () => {
        const session = await openSession(gateway, "/mcp/two");
        const first = await session.stream();
        assert.equal(first.status, 200);
        first.close();
        const again = await until(async () => {
            const candidate = await session.stream();
            if (candidate.status === 200) return candidate;
            candidate.close();
            return false;
        }, "the second GET stream is accepted after the first is gone");
        await change(session);
        await again.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        again.close();
        await session.end();
    });

    test("progress comes on the stream of its call, before the answer", async () => {
        const session = await openSession(gateway);
        const params = { name: "one__progress", arguments: { steps: 3 }, _meta: { progressToken: "mine" } };
        const { messages, headers } = await session.send({ body: request("p", "tools/call", params) });
        assert.match(String(headers["content-type"]), /^text\/event-stream/);
        const progress = messages.filter((message) => message.method === "notifications/progress");
        assert.deepEqual(
            progress.map(({ params: sent }) => [sent!.progressToken, sent!.progress]),
            [
                ["mine", 1],
                ["mine", 2],
                ["mine", 3],
            ],
        );
        assert.equal(messages.at(-1)!.id, "p");
        await session.end();
    });

    test("two sessions with the same ids and tokens do not mix", async () => {
        const sessions = await Promise.all([
            openSession(gateway),
            openSession(gateway),
            openSession(gateway, "/mcp/one"),
        ]);
        const calls = sessions.flatMap((session, number) =>
            Array.from({ length: 10 }, async (_, id) => {
                const name = session.path === "/mcp" ? "one__progress" : "progress";
                const steps = number * 10 + id + 1;
                const params = { name, arguments: { steps }, _meta: { progressToken: id } };
                const { messages } = await session.send({ body: request(id, "tools/call", params) });
                assert.equal(messages.length, steps + 1);
                assert.ok(messages.slice(0, -1).every((message) => message.params!.progressToken === id));
                assert.equal(text(messages.at(-1)!), `done ${steps}`);
            }),
        );
        await Promise.all(calls);
        await Promise.all(sessions.map((session) => session.end()));
    });

    test("HTTP methods and paths that do not exist", async () => {
        for (const method of ["PUT", "PATCH", "OPTIONS"]) {
            const answer = await send(gateway, { method, body: "" });
            assert.equal(answer.status, 405, method);
            assert.match(String(answer.headers.allow), /POST/);
        }
        for (const path of ["/", "/mcp/", "/mcp/nobody", "/mcp/one/x", "/mcpx", "/mcp/sse/x", "/mcp/%6fne", "/../mcp"]) {
            const answer = await send(gateway, { path, body: initialize("2025-11-25") });
            assert.ok(answer.status === 404 || answer.status === 400, `${path}: ${answer.status}`);
        }
    });

    test("batches are for 2025-03-26 only", async () => {
        const batch = [
            request(1, "ping"),
            { jsonrpc: "2.0", method: "notifications/never/heard/of" },
            request("two", "tools/call", { name: "two__echo", arguments: { text: "b" } }),
            request(3, "no/such/method"),
        ];
        const old = await openSession(gateway, "/mcp", "2025-03-26");
        const answer = await old.send({ body: batch });
        assert.equal(answer.status, 200, answer.text);
        const byId = new Map(answer.messages.map((message) => [message.id, message]));
        assert.equal(answer.messages.length, 3, answer.text);
        assert.deepEqual(byId.get(1)!.result, {});
        assert.equal(text(byId.get("two")!), "b");
        assert.equal(byId.get(3)!.error!.code, -32601);

        const quiet = await old.send({ body: [{ jsonrpc: "2.0", method: "notifications/initialized" }] });
        assert.equal(quiet.status, 202);
        for (const body of [[], [1], [request(1, "ping"), "x"], [[request(1, "ping")]], [initialize("2025-03-26")]]) {
            assert.equal((await old.send({ body })).status, 400, JSON.stringify(body));
        }
        for (const version of ["2025-06-18", "2025-11-25"]) {
            const session = await openSession(gateway, "/mcp", version);
            assert.equal((await session.send({ body: batch })).status, 400, version);
            await session.end();
        }
        assert.equal((await send(gateway, { body: [initialize("2025-03-26")] })).status, 400);
        await old.end();
    });

    test("initialize a second time in a session is refused", async () => {
        const session = await openSession(gateway);
        const answer = await session.send({ body: initialize("2025-11-25") });
        const error = answer.messages[0]?.error;
        assert.ok(answer.status === 400 || error !== undefined, answer.text);
        assert.deepEqual((await session.request("ping")).result, {});
        await session.end();
    });
});

describe("principals", () => {
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    after(async () => {
        await control.close();
    });

    test("a session is nothing without its token", async (t) => {
        const gateway = await startGateway(
            { config: { servers: { one: { cmd: control.command({ name: "p1" }) } } } },
            t,
        );
        const session = await openSession(gateway);
        for (const token of [false, "wrong", `${gateway.token}x`, gateway.token.slice(0, -1)] as const) {
            for (const method of ["POST", "GET", "DELETE"]) {
                const answer = await session.send({
                    method,
                    token,
                    body: method === "POST" ? request(1, "ping") : undefined,
                });
                assert.equal(answer.status, 401, `${method} ${String(token).length}`);
                assert.match(String(answer.headers["www-authenticate"]), /^Bearer/);
            }
        }
        assert.deepEqual((await session.request("ping")).result, {}, "the session lives on");
        await session.end();
    });

    test("with auth.anonymous a token's session does not serve a caller without it, nor the reverse", async (t) => {
        const config = {
            server: { auth: { anonymous: true } },
            servers: { one: { cmd: control.command({ name: "p2" }) } },
        };
        const gateway = await startGateway({ config }, t);
        const known = await openSession(gateway);
        const unknown = await openSession(gateway, "/mcp", "2025-11-25", false);
        refused(await known.send({ token: false, body: request(1, "ping") }), 404);
        refused(await known.send({ token: false, method: "DELETE" }), 404);
        refused(await unknown.send({ body: request(1, "ping") }), 404);
        const stranger = await known.stream({ method: "GET", token: false });
        assert.equal(stranger.status, 404);
        stranger.close();
        assert.equal((await known.send({ body: request(1, "ping") })).status, 200);
        assert.equal((await unknown.send({ token: false, body: request(1, "ping") })).status, 200);
        const wrong = await send(gateway, { token: "wrong", body: initialize("2025-11-25") });
        assert.equal(wrong.status, 401, "a wrong token is not an anonymous caller");
    });

    test("principals do not share a child, sessions of one do", async (t) => {
        const config = {
            server: { auth: { anonymous: true } },
            servers: { one: { cmd: control.command({ name: "p3" }) } },
        };
        const gateway = await startGateway({ config }, t);
        const pid = async (token: string | false | undefined) => {
            const session = await openSession(gateway, "/mcp/one", "2025-11-25", token);
            const answer = await until(async () => {
                const { messages } = await session.send({
                    token,
                    body: request(1, "tools/call", { name: "whoami", arguments: {} }),
                });
                return messages.at(-1)!.result !== undefined && messages.at(-1)!;
            }, "whoami answers");
            return (JSON.parse(text(answer)) as { pid: number }).pid;
        };
        const mine = await pid(undefined);
        assert.equal(await pid(undefined), mine);
        assert.notEqual(await pid(false), mine);
    });
});
