/*
 * What the conformance suite does not ask of a gateway, item by item: a reader finds each here by its number, or where
 * it stands. Items 7 to 9, about authorization and about names, are in own-items-auth.test.ts.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { MODERN, type BrainOptions } from "./fixtures/brain.ts";
import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { Clocks } from "./lib/clocks.ts";
import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { initialize, openSession, send, served, Session, text, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, Tokens } from "./lib/principals.ts";
import { until, within } from "./lib/wait.ts";

/** Where more of an item stands than the short test of it here: file, and the title of a test or a row. */
const ELSEWHERE: [item: number, file: string, title: string][] = [
    [1, "exactness.test.ts", "four clients with the id and the token ${id}, ${server}"],
    [1, "exactness.test.ts", "ids and tokens keep their type"],
    [2, "modern.test.ts", "closing one half of it; and nothing more is written"],
    [2, "server-requests.test.ts", "a client that hangs up when it has come back cancels the call (legacy server)"],
    [3, "callers-apart.test.ts", "a session of another caller does not exist: ${title}"],
    [3, "server-requests.test.ts", "is good for the call that it was given for, and for nothing else (${era} server)"],
    [5, "matrix.test.ts", "each revision and transport with each"],
    [6, "server-requests.test.ts", "of a call that has been answered is good for nothing (legacy server)"],
    [10, "bad-http-upstreams.test.ts", "HTTP upstreams that misbehave"],
    [10, "http-upstreams.test.ts", "${era}: messages in lines as application/json are refused"],
    [11, "sessions.test.ts", "batches are for 2025-03-26 only"],
];

test("what is said to stand elsewhere stands there", () => {
    for (const [item, file, title] of ELSEWHERE) {
        const source = readFileSync(fileURLToPath(new URL(file, import.meta.url)), "utf8");
        assert.ok(source.includes(title), `item ${item}: "${title}" in ${file}`);
    }
});

const CAN = { sampling: {}, elicitation: { form: {} }, roots: {} };
const ELICITED = { action: "accept", content: { name: "Ann" } };

interface World {
    control: Control;
    gateway: Gateway;
    fixtures: Map<string, HttpFixture>;
    close(): Promise<void>;
}

/** A legacy and a modern server on stdio, and one of each over HTTP. */
async function world(more: Partial<BrainOptions> = {}, server: object = {}, env?: NodeJS.ProcessEnv): Promise<World> {
    const control = await startControl();
    const fixtures = new Map<string, HttpFixture>();
    const servers: { [name: string]: ServerConfig } = {};
    for (const [era, revision] of Object.entries({ legacy: "2025-11-25", modern: MODERN })) {
        const options = { ...more, revisions: [revision] };
        const fixture = await startHttp({ ...options, name: `http-${era}` });
        fixtures.set(`http-${era}`, fixture);
        servers[`http-${era}`] = { url: fixture.url, max_tools: 2000 };
        servers[`stdio-${era}`] = { cmd: control.brain({ ...options, name: `stdio-${era}` }) };
    }
    const gateway = await startGateway({ config: { server: server as never, servers }, ...(env ? { env } : {}) });
    return {
        control,
        gateway,
        fixtures,
        close: async () => {
            await gateway.stop();
            for (const fixture of fixtures.values()) await fixture.close();
            await control.close();
        },
    };
}

const SERVERS = ["stdio-legacy", "stdio-modern", "http-legacy", "http-modern"];

/** What the server has received, over all its processes. */
async function received({ control, fixtures }: World, server: string): Promise<RpcMessage[]> {
    const fixture = fixtures.get(server);
    if (fixture !== undefined) return fixture.requests.items.flatMap(({ message }) => (message ? [message as RpcMessage] : []));
    const all = control.starts.items.filter(({ name }) => name === server);
    await Promise.all(all.map((process) => process.sync()));
    return all.flatMap((process) => process.received());
}

function release({ control, fixtures }: World, server: string): void {
    fixtures.get(server)?.brain.release();
    for (const process of control.starts.items) if (process.name === server) process.do({ do: "release" });
}

describe("1, 2: calls and their ends", () => {
    let here: World;
    before(async () => {
        here = await world();
        await served(here.gateway, ...SERVERS.map((name) => `${name}__echo`));
    });
    after(async () => here.close());

    const nth = async (server: string, mark: string) =>
        until(
            async () => (await received(here, server)).find(({ params }) => (params?.arguments as { mark?: string } | undefined)?.mark === mark),
            `the call ${mark} is at ${server}`,
        );

    test("1: two clients, one id and one token, one child: each gets its own", async () => {
        const clients = await Promise.all([0, 1].map(() => openSession(here.gateway, "/mcp/stdio-legacy")));
        const params = (n: number) => ({ _meta: { progressToken: "" }, name: "progress", arguments: { steps: n + 1 } });
        const answers = await Promise.all(
            clients.map((client, n) => client.send({ body: { jsonrpc: "2.0", id: 0, method: "tools/call", params: params(n) } })),
        );
        for (const [n, { messages }] of answers.entries()) {
            assert.equal(messages.at(-1)!.id, 0);
            assert.equal(text(messages.at(-1)!), `done ${n + 1}`);
            const told = messages.slice(0, -1).map(({ params: each }) => [each!.progressToken, each!.progress]);
            assert.deepEqual(told, Array.from({ length: n + 1 }, (_, i) => ["", i + 1]));
        }
        assert.equal(here.control.count("stdio-legacy"), 1, "one child for both");
    });

    for (const server of SERVERS) {
        test(`2: a modern client that hangs up has cancelled: ${server} is told`, async () => {
            const abort = new AbortController();
            const mark = `modern ${server}`;
            const modern = new ModernClient(here.gateway, `/mcp/${server}`);
            const waiting = modern.call("hold", { mark }, { signal: abort.signal });
            void assert.rejects(waiting);
            const { id } = await nth(server, mark);
            abort.abort();
            if (server === "http-modern") {
                const sent = here.fixtures.get(server)!.requests.items.find(({ message }) => message?.id === id)!;
                await within(sent.closed, "the stream to it is closed");
                return;
            }
            const cancels = await until(async () => {
                const all = (await received(here, server)).filter(({ method }) => method === "notifications/cancelled");
                return all.some(({ params }) => params!.requestId === id) && all;
            }, "it is told");
            assert.ok(cancels.length === 1, "once, and of nothing else");
        });

        test(`2: a legacy client that hangs up has not: ${server} goes on`, async () => {
            const session = await openSession(here.gateway, `/mcp/${server}`);
            const abort = new AbortController();
            const mark = `legacy ${server}`;
            const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "hold", arguments: { mark } } };
            const waiting = session.send({ body, signal: abort.signal });
            void assert.rejects(waiting);
            const { id } = await nth(server, mark);
            abort.abort();
            for (let n = 0; n < 5; n++) assert.equal(text(await session.call("echo", { text: "on" }, `b${n}`)), "on");
            const told = (await received(here, server)).filter(
                ({ method, params }) => method === "notifications/cancelled" && params!.requestId === id,
            );
            assert.deepEqual(told, []);
            release(here, server);
            await session.end();
        });
    }
});

describe("3: what one caller was given is nothing to another", () => {
    const tokens = new Tokens({ ann: undefined, eve: undefined });
    let here: World;
    before(async () => {
        const tools = Array.from({ length: 1100 }, (_, i) => ({ name: i === 0 ? "input" : `t${i}`, inputSchema: { type: "object" } }));
        here = await world({ tools }, { auth: { tokens: tokens.table } });
        await served(here.gateway, ...SERVERS.map((name) => `${name}__input`));
    });
    after(async () => here.close());
    const [ann, eve] = [() => as(here.gateway, tokens.value.ann!), () => as(here.gateway, tokens.value.eve!)];

    test("session id", async () => {
        const session = await openSession(ann(), "/mcp/http-legacy");
        const stolen = new Session(eve(), "/mcp/http-legacy", session.id, session.version, session.initialized);
        for (const outgoing of [{ method: "GET" }, { method: "DELETE" }, { body: { jsonrpc: "2.0", id: 1, method: "ping" } }])
            assert.equal((await stolen.send(outgoing)).status, 404, JSON.stringify(outgoing));
        assert.deepEqual((await session.request("ping")).result, {}, "it is still there for its owner");
    });

    for (const server of SERVERS) {
        test(`requestState of ${server}`, async () => {
            const params = { name: "input", arguments: {} };
            const mine = new ModernClient(ann(), `/mcp/${server}`, { capabilities: CAN });
            const theirs = new ModernClient(eve(), `/mcp/${server}`, { capabilities: CAN });
            const asked = (await mine.request("tools/call", params)).result as unknown as {
                inputRequests: object;
                requestState: string;
            };
            const [key] = Object.keys(asked.inputRequests);
            const more = { inputResponses: { [key!]: ELICITED }, requestState: asked.requestState };
            const refused = await theirs.request("tools/call", { ...params, ...more });
            assert.equal(refused.error?.code, -32602, JSON.stringify(refused));
            const answer = await mine.request("tools/call", { ...params, ...more });
            assert.deepEqual((JSON.parse(text(answer)) as { result: object }).result, ELICITED);
        });
    }

    test("cursor", async () => {
        for (const path of ["/mcp", "/mcp/http-legacy"]) {
            const mine = new ModernClient(ann(), path);
            const theirs = new ModernClient(eve(), path);
            const { nextCursor } = (await mine.request("tools/list")).result!;
            assert.equal(typeof nextCursor, "string");
            assert.equal((await theirs.request("tools/list", { cursor: nextCursor })).error?.code, -32602);
            assert.equal((await mine.request("prompts/list", { cursor: nextCursor })).error?.code, -32602, "nor for another list");
            assert.equal((await mine.request("tools/list", { cursor: nextCursor })).error, undefined);
        }
    });
});

describe("6: a modern client, and a legacy server that elicits", () => {
    const open = async (gateway: Gateway, args: object = {}) => {
        const modern = new ModernClient(gateway, "/mcp/s", { capabilities: CAN });
        const params = { name: "input", arguments: args as { [key: string]: unknown } };
        const asked = (await modern.request("tools/call", params)).result as unknown as {
            resultType: string;
            inputRequests: { [key: string]: object };
            requestState: string;
        };
        assert.equal(asked.resultType, "input_required", JSON.stringify(asked));
        const [key] = Object.keys(asked.inputRequests);
        return { modern, params, more: { inputResponses: { [key!]: ELICITED }, requestState: asked.requestState } };
    };
    const start = async (t: TestContext) => {
        const control = await startControl();
        t.after(() => control.close());
        const clocks = new Clocks(control.folder);
        t.after(() => clocks.close());
        const servers = { s: { cmd: control.brain({ name: "s", revisions: ["2025-11-25"] }) } };
        const gateway = await startGateway({ config: { servers }, env: clocks.env }, t);
        await served(gateway, "s__input");
        return { control, clocks, gateway };
    };

    test("input_required, and the call that goes on when the client comes back", async (t) => {
        const { gateway, control } = await start(t);
        const { modern, params, more } = await open(gateway);
        assert.deepEqual((JSON.parse(text(await modern.request("tools/call", { ...params, ...more }))) as { result: object }).result, ELICITED);
        const child = await control.started("s", 2); // the one of clients that can do all this
        await child.sync();
        assert.equal(child.received("tools/call").length, 1, "it was one call");
    });

    test("other arguments: -32602, and the call waits on", async (t) => {
        const { gateway } = await start(t);
        const { modern, params, more } = await open(gateway, { kind: "elicit" });
        const wrong = await modern.request("tools/call", { ...params, arguments: { kind: "roots" }, ...more });
        assert.equal(wrong.error?.code, -32602);
        text(await modern.request("tools/call", { ...params, ...more }));
    });

    test("nobody comes back: after ten minutes the server is told, and the call is gone", async (t) => {
        const { gateway, control, clocks } = await start(t);
        const { modern, params, more } = await open(gateway);
        const child = await control.started("s", 2);
        await child.sync();
        const [call] = child.received("tools/call");
        clocks.set(601n * 1_000_000_000n, 601n * 1_000_000_000n);
        await until(async () => {
            await new ModernClient(gateway, "/mcp/s").request("tools/list"); // a loop that sleeps does not see the jump
            await child.sync();
            return child.received("notifications/cancelled").some(({ params: each }) => each!.requestId === call!.id);
        }, "it is told that nobody wants it any more");
        const answered = child.received().find((message) => message.method === undefined && message.id !== undefined);
        assert.deepEqual(answered!.result, { action: "cancel" });
        const late = await modern.request("tools/call", { ...params, ...more });
        assert.equal(late.error?.code, -32602, JSON.stringify(late));
    });
});

describe("10: servers that misbehave", () => {
    test("one that never answers: the call ends, and others are served", async (t) => {
        const fixture = await startHttp({ name: "s", revisions: [MODERN] }, t);
        const gateway = await startGateway({ config: { servers: { s: { url: fixture.url, timeout: "1s" } } } }, t);
        await served(gateway, "s__echo");
        const modern = new ModernClient(gateway, "/mcp/s");
        const hung = modern.call("echo", fixture.act(() => {}));
        assert.equal(text(await modern.call("echo", { text: "on" })), "on");
        assert.match(JSON.stringify(await hung), /within 1 s|in time|did not answer/);
    });

    test("one that exits at server/discover is started again, and spoken to as of the era before", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const servers = { s: { cmd: control.command({ name: "s", discover: "exit" }) } };
        const gateway = await startGateway({ config: { servers } }, t);
        await served(gateway, "s__echo");
        assert.equal(text(await new ModernClient(gateway, "/mcp/s").call("echo", { text: "x" })), "x");
        assert.equal(control.count("s"), 2);
    });

    const rows: { name: string; body: (id: unknown) => string; says: RegExp | string }[] = [
        {
            name: "messages in lines as application/json",
            body: (id) =>
                `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}\n{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":{"resultType":"complete","content":[]}}\n`,
            says: /"isError":true/,
        },
        {
            name: "a result without resultType",
            body: (id) => `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":{"content":[{"type":"text","text":"bare"}]}}`,
            says: /"text":"bare"/,
        },
    ];
    for (const { name, body, says } of rows) {
        for (const era of ["legacy", "modern"] as const) {
            test(`${name}, to a ${era} client`, async (t) => {
                const fixture = await startHttp({ name: "s", revisions: [MODERN] }, t);
                const gateway = await startGateway({ config: { servers: { s: { url: fixture.url } } } }, t);
                await served(gateway, "s__echo");
                const act = fixture.act((exchange) => exchange.text(200, "application/json", body(exchange.message.id)));
                const session = era === "legacy" ? await openSession(gateway, "/mcp/s") : new ModernClient(gateway, "/mcp/s");
                assert.match(JSON.stringify(await session.call("echo", act)), says as RegExp);
                assert.equal(text(await session.call("echo", { text: "on" })), "on");
                assert.equal(fixture.calls(act).length, 1, "and it is not sent again");
            });
        }
    }

    test("a modern one that sends requests on a stream: dropped, and its answer arrives", async (t) => {
        const fixture = await startHttp({ name: "s", revisions: [MODERN] }, t);
        const gateway = await startGateway({ config: { servers: { s: { url: fixture.url } } } }, t);
        await served(gateway, "s__echo");
        const act = fixture.act((exchange) => {
            const out = exchange.sse();
            out.event({ jsonrpc: "2.0", id: "ask", method: "roots/list", params: {} });
            out.event({ jsonrpc: "2.0", id: "ask-2", method: "ping" });
            out.event(exchange.answer("done"));
            out.end();
        });
        for (const capabilities of [{}, CAN]) {
            const answer = await new ModernClient(gateway, "/mcp/s", { capabilities }).ask("tools/call", { name: "echo", arguments: act });
            assert.equal(answer.messages.length, 1, answer.text);
            assert.equal(text(answer.messages[0]!), "done");
        }
        const opened = await send(gateway, { path: "/mcp/s", body: initialize("2025-11-25", CAN) });
        const session = new Session(gateway, "/mcp/s", String(opened.headers["mcp-session-id"]), "2025-11-25", opened.messages.at(-1)!);
        const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "echo", arguments: act } };
        const streamed: Stream = await session.stream({ method: "POST", body });
        await streamed.messages.waitFor(({ id }) => id === 1);
        assert.deepEqual(streamed.messages.items.map(({ method }) => method), [undefined]);
        assert.ok(!fixture.requests.items.some(({ message }) => message?.method === undefined && message?.id !== undefined), "nobody answers");
    });
});

describe("11: batches", () => {
    test("in a session of 2025-03-26 or before; an element of 2026-07-28 makes it all 400", async (t) => {
        const fixture = await startHttp({ name: "s", revisions: ["2025-03-26"] }, t);
        const gateway = await startGateway({ config: { servers: { s: { url: fixture.url } } } }, t);
        await served(gateway, "s__echo");
        const call = (id: number, meta?: object) => ({
            jsonrpc: "2.0",
            id,
            method: "tools/call",
            params: { ...(meta && { _meta: meta }), name: "echo", arguments: { text: `t${id}` } },
        });
        for (const version of ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]) {
            const session = await openSession(gateway, "/mcp/s", version);
            const answer = await session.send({ body: [call(1), call(2)] });
            assert.equal(answer.status, version <= "2025-03-26" ? 200 : 400, version);
            if (answer.status === 200) assert.deepEqual(answer.messages.map(text).sort(), ["t1", "t2"]);
        }
        const session = await openSession(gateway, "/mcp/s", "2025-03-26");
        const { body } = new ModernClient(gateway).outgoing("tools/call", { name: "echo", arguments: {} });
        const n = fixture.brain.runs.get("echo");
        for (const batch of [[call(1), body], [body], [body, call(1)]]) {
            const answer = await session.send({ body: batch });
            assert.equal(answer.status, 400, answer.text);
        }
        assert.equal(fixture.brain.runs.get("echo"), n, "nothing of it has run");
        assert.equal((await send(gateway, { path: "/mcp/s", body: [call(1)] })).status, 400, "nor without a session");
    });
});
