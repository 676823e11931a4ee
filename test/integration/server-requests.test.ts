/*
 * What a server asks of a client in the midst of a call: sampling, elicitation, roots. A client is asked in the way of
 * its own era, whatever that of the server is; and by the call that it made, never by that of somebody else.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Client as OldClient } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport as OldTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
    CreateMessageRequestSchema,
    ElicitRequestSchema,
    ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

import { MODERN } from "./fixtures/brain.ts";
import { startHttp } from "./fixtures/http-server.ts";
import { trailOf } from "./lib/audit.ts";
import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { initialize, send, served, Session, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { call, client, refusal, said, serve } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const CAPABILITIES = { sampling: {}, elicitation: { form: {} }, roots: {} };
const ELICITED = { action: "accept" as const, content: { name: "Ann" } };
const SAMPLED = { role: "assistant" as const, model: "none", content: { type: "text" as const, text: "hello" } };
const ROOTS = { roots: [{ uri: "file:///tmp/ann" }] };
const ANSWERS: { [kind: string]: object } = { elicit: ELICITED, sample: SAMPLED, roots: ROOTS };
const BY_METHOD: { [method: string]: object } = {
    "elicitation/create": ELICITED,
    "sampling/createMessage": SAMPLED,
    "roots/list": ROOTS,
};

interface Answering {
    /** the text of the call's result */
    call(server: string, kind: string): Promise<string>;
    close(): Promise<void>;
}

async function oldSdk(transport: OldTransport | SSEClientTransport): Promise<Answering> {
    const peer = new OldClient({ name: "sdk-1", version: "1" }, { capabilities: CAPABILITIES });
    peer.setRequestHandler(ElicitRequestSchema, async () => ELICITED);
    peer.setRequestHandler(CreateMessageRequestSchema, async () => SAMPLED);
    peer.setRequestHandler(ListRootsRequestSchema, async () => ROOTS);
    await within(peer.connect(transport), "SDK 1.x connects");
    return {
        call: async (server, kind) => {
            const answer = await peer.callTool({ name: `${server}__input`, arguments: { kind } });
            return (answer.content as { text: string }[])[0]!.text;
        },
        close: async () => {
            if (transport instanceof OldTransport) await transport.terminateSession().catch(() => {});
            await peer.close();
        },
    };
}

const CLIENTS: { [name: string]: (gateway: Gateway) => Promise<Answering> } = {
    "SDK 1.x": async (gateway) =>
        oldSdk(new OldTransport(new URL(gateway.url), { requestInit: { headers: gateway.headers } })),
    "SDK 1.x over HTTP+SSE": async (gateway) =>
        oldSdk(
            new SSEClientTransport(new URL(`${gateway.url}/sse`), {
                requestInit: { headers: gateway.headers },
                eventSourceInit: {
                    fetch: (url, init) => fetch(url, { ...init, headers: { ...init?.headers, ...gateway.headers } }),
                },
            }),
        ),
    async "SDK 2.x modern"(gateway) {
        const options = { capabilities: CAPABILITIES, versionNegotiation: { mode: { pin: MODERN } } };
        const peer = new Client({ name: "sdk-2", version: "1" }, options);
        peer.setRequestHandler("elicitation/create", async () => ELICITED);
        peer.setRequestHandler("sampling/createMessage", async () => SAMPLED);
        peer.setRequestHandler("roots/list", async () => ROOTS);
        const transport = new StreamableHTTPClientTransport(new URL(gateway.url), {
            requestInit: { headers: gateway.headers },
        });
        await within(peer.connect(transport), "SDK 2.x connects");
        return {
            call: async (server, kind) => {
                const answer = await peer.callTool({ name: `${server}__input`, arguments: { kind } });
                return (answer.content as { text: string }[])[0]!.text;
            },
            close: async () => peer.close(),
        };
    },
};

describe("a client is asked in the way of its era", () => {
    let control: Control;
    let gateway: Gateway;
    const fixtures: { close(): Promise<void> }[] = [];
    const LEGACY = ["2025-06-18", "2025-11-25"];
    before(async () => {
        control = await startControl();
        const http = async (name: string, revisions: string[]) => {
            const fixture = await startHttp({ name, revisions });
            fixtures.push(fixture);
            return { url: fixture.url };
        };
        gateway = await startGateway({
            config: {
                servers: {
                    "http-legacy": await http("http-legacy", LEGACY),
                    "http-modern": await http("http-modern", [MODERN]),
                    "stdio-legacy": { cmd: control.brain({ name: "stdio-legacy", revisions: LEGACY }) },
                    "stdio-modern": { cmd: control.brain({ name: "stdio-modern", revisions: [MODERN] }) },
                },
            },
        });
        await served(gateway, ...["http-legacy", "http-modern", "stdio-legacy", "stdio-modern"].map((n) => `${n}__echo`));
    });
    after(async () => {
        await gateway.stop();
        await Promise.all(fixtures.map((fixture) => fixture.close()));
        await control.close();
    });

    for (const [name, connect] of Object.entries(CLIENTS)) {
        for (const server of ["http-legacy", "http-modern", "stdio-legacy", "stdio-modern"]) {
            test(`${name}, ${server}`, async () => {
                const peer = await connect(gateway);
                for (const kind of ["elicit", "sample", "roots"]) {
                    const { result } = JSON.parse(await peer.call(server, kind)) as { result: object };
                    assert.deepEqual(result, ANSWERS[kind], `${kind}`);
                }
                await peer.close();
            });
        }
    }

    for (const server of ["http-legacy", "http-modern", "stdio-legacy", "stdio-modern"])
        test(`what ${server} asked, and how it was answered, is in the record`, async () => {
            const trail = trailOf(gateway);
            const operation = `${server}__input`;
            // Those of several workers come in any order.
            const nextOf = async (seq: number, status: string) =>
                trail.find((line) => line.event === "call" && line.operation === operation && line.status === status && line.seq > seq, `a record: ${status}`);
            let last = trail.lines.at(-1)!.seq;
            const words = { accept: "accepted", decline: "declined", cancel: "cancelled" };
            for (const [action, word] of Object.entries(words)) {
                const answer = action === "accept" ? ELICITED : { action };
                await bySession(gateway, server, answer);
                const record = await nextOf(last, "ok");
                assert.deepEqual(record.asked, { elicitation: { [word]: 1 } });
                await byRounds(gateway, server, answer);
                const asked = await nextOf(record.seq, "input_required");
                assert.deepEqual(asked.asked, { elicitation: { open: 1 } });
                const answered = await nextOf(record.seq, "ok");
                assert.deepEqual(answered.asked, { elicitation: { [word]: 1 } });
                last = Math.max(asked.seq, answered.seq);
            }
            // Of an error nothing but that it was one.
            const session = await open(gateway);
            const body = { jsonrpc: "2.0", id: "c", method: "tools/call", params: { name: operation, arguments: { kind: "sample" } } };
            const stream = await session.stream({ method: "POST", body });
            const { id } = await stream.messages.waitFor((item) => item.method === "sampling/createMessage");
            await session.send({ body: { jsonrpc: "2.0", id, error: { code: -1, message: "a canary that no record has" } } });
            await stream.messages.waitFor((item) => item.id === "c" && item.method === undefined);
            await until(() => trail.lines.some(({ seq, asked }) => seq > last && JSON.stringify(asked) === '{"sampling":{"failed":1}}'), () => "the record");
            assert.ok(!trail.all.some(({ text }) => text.includes("no record has")));
        });

    test("thirty at once, of both eras, get their own answers", async () => {
        const run = async (index: number) => {
            const isModern = index % 2 === 0;
            const server = ["http-legacy", "http-modern"][index % 4 < 2 ? 0 : 1]!;
            const answer = { action: "accept", content: { name: `caller ${index}` } };
            const got = isModern ? await byRounds(gateway, server, answer) : await bySession(gateway, server, answer);
            assert.deepEqual((JSON.parse(got) as { result: object }).result, answer);
        };
        await Promise.all(Array.from({ length: 30 }, (_, index) => run(index)));
    });
});

/** A legacy session with capabilities. */
async function open(gateway: Gateway, path = "/mcp", token?: string): Promise<Session> {
    const target = { port: gateway.port, token: token ?? gateway.token };
    const opened = await send(target, { path, body: initialize("2025-11-25", CAPABILITIES) });
    const id = opened.headers["mcp-session-id"] as string;
    const session = new Session(target, path, id, "2025-11-25", opened.messages.at(-1)!);
    await session.notify("notifications/initialized");
    return session;
}

/** A call that is asked once; `decide` answers, and the whole wire of the call comes back. */
async function bySession(gateway: Gateway, server: string, answer: object, session?: Session): Promise<string> {
    const mine = session ?? (await open(gateway));
    const body = { jsonrpc: "2.0", id: "c", method: "tools/call", params: { name: `${server}__input`, arguments: {} } };
    const stream = await mine.stream({ method: "POST", body });
    const asked = await stream.messages.waitFor((item) => item.method === "elicitation/create");
    const taken = await mine.send({ body: { jsonrpc: "2.0", id: asked.id, result: answer } });
    assert.equal(taken.status, 202);
    return text(await stream.messages.waitFor((item) => item.id === "c" && item.method === undefined));
}

interface Wanted {
    resultType: string;
    inputRequests: { [key: string]: { method: string; params: object } };
    requestState: string;
}

async function byRounds(gateway: Gateway, server: string, answer: object): Promise<string> {
    const modern = new ModernClient(gateway, "/mcp", { capabilities: CAPABILITIES });
    const params = { name: `${server}__input`, arguments: {} };
    const wanted = (await modern.request("tools/call", params)).result as unknown as Wanted;
    assert.equal(wanted.resultType, "input_required", JSON.stringify(wanted));
    const key = Object.keys(wanted.inputRequests)[0]!;
    const answered = { inputResponses: { [key]: answer }, requestState: wanted.requestState };
    return text(await modern.request("tools/call", { ...params, ...answered }));
}

describe("whose answer it is", () => {
    test("an answer of another session counts for nothing", async (t) => {
        const { gateway } = await serve(t, { revisions: ["2025-11-25"] });
        const [mine, other] = [await open(gateway, "/mcp/http"), await open(gateway, "/mcp/http")];
        const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "input", arguments: {} } };
        const stream = await mine.stream({ method: "POST", body });
        const asked = await stream.messages.waitFor((item) => item.method === "elicitation/create");
        const forged = { action: "accept", content: { name: "Eve" } };
        for (const id of [asked.id, "cardea-0-0-0", "cardea-9-1-1", "cardea--1-1-1", 7, "x"]) {
            await other.send({ body: { jsonrpc: "2.0", id, result: forged } });
        }
        await mine.send({ body: { jsonrpc: "2.0", id: "cardea-0-1", result: forged } });
        await mine.send({ body: { jsonrpc: "2.0", id: asked.id, result: ELICITED } });
        const answer = await stream.messages.waitFor((item) => item.id === 1 && item.method === undefined);
        assert.deepEqual((JSON.parse(text(answer)) as { result: object }).result, ELICITED);
        // What was answered is answered.
        assert.equal((await mine.send({ body: { jsonrpc: "2.0", id: asked.id, result: forged } })).status, 202);
    });

    test("a child that serves two sessions with calls in flight asks nobody", async (t) => {
        const control = await startControl();
        const gateway = await startGateway({ config: { servers: { s: { cmd: control.command({ name: "s" }) } } } }, t);
        t.after(async () => control.close());
        await served(gateway, "s__echo");
        const [one, two] = [await open(gateway, "/mcp/s"), await open(gateway, "/mcp/s")];
        const holding = one.stream({
            method: "POST",
            body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "hold", arguments: {} } },
        });
        const child = await control.started("s", 2); // the one of clients that can do all this
        await child.receives((message) => message.method === "tools/call");
        const ask = (session: Session) =>
            session.request("tools/call", {
                name: "ask",
                arguments: { method: "elicitation/create", params: { message: "who?", requestedSchema: {} } },
            });
        const declined = JSON.parse(text(await ask(two))) as { result: object };
        assert.deepEqual(declined.result, { action: "decline" });
        await Promise.all([one.end(), two.end(), holding]);
    });

    for (const how of ["is answered", "is cancelled"]) {
        test(`a question that is another call's is declined when the one that was taken for it ${how}`, async (t) => {
            const control = await startControl();
            const gateway = await startGateway({ config: { servers: { s: { cmd: control.command({ name: "s" }) } } } }, t);
            t.after(async () => control.close());
            await served(gateway, "s__echo");
            const session = await open(gateway, "/mcp/s");
            const hold = (id: number) =>
                session.stream({
                    method: "POST",
                    body: { jsonrpc: "2.0", id, method: "tools/call", params: { name: "hold", arguments: {} } },
                });
            const first = hold(1);
            const child = await control.started("s", 2);
            await child.receives((message) => message.method === "tools/call");
            const second = hold(2);
            await until(() => child.received("tools/call").length === 2, "both calls are under way");
            const held = child.received("tools/call")[1]!;
            const params = { message: "who?", requestedSchema: {} };
            child.do({ do: "send", message: { jsonrpc: "2.0", id: "a", method: "elicitation/create", params } });
            const newest = await second;
            const asked = await newest.messages.waitFor((item) => item.method === "elicitation/create");
            if (how === "is answered") child.do({ do: "send", message: { jsonrpc: "2.0", id: held.id!, result: { content: [] } } });
            else await session.notify("notifications/cancelled", { requestId: 2 });
            const declined = await child.receives((message) => message.id === "a");
            assert.deepEqual(declined.result, { action: "decline" });
            // Who answers all the same is too late.
            await session.send({ body: { jsonrpc: "2.0", id: asked.id, result: ELICITED } });
            child.do({ do: "send", message: { jsonrpc: "2.0", id: "b", method: "elicitation/create", params } });
            const again = await (await first).messages.waitFor((item) => item.method === "elicitation/create");
            await session.send({ body: { jsonrpc: "2.0", id: again.id, result: ELICITED } });
            assert.deepEqual((await child.receives((message) => message.id === "b")).result, ELICITED);
            assert.equal(child.received().filter((message) => message.id === "a").length, 1);
            await session.end();
        });
    }

    test("a client that declared nothing is not asked, and its server is told of nothing", async (t) => {
        const { gateway, fixture } = await serve(t, { revisions: ["2025-11-25"] });
        const answer = await call(await client(gateway, "legacy"), "input");
        const { error } = JSON.parse(text(answer)) as { error: { code: number } };
        assert.equal(error.code, -32601);
        const told = fixture.requests.items.flatMap(({ message }) =>
            message?.method === "initialize" ? [(message.params as { capabilities: object }).capabilities] : [],
        );
        assert.ok(told.length > 0);
        for (const capabilities of told) assert.deepEqual(capabilities, {});
    });
});

describe("requestState", () => {
    const first = async (gateway: Gateway, args: object = {}, token?: string) => {
        const modern = new ModernClient(gateway, "/mcp/http", { capabilities: CAPABILITIES, token });
        const answer = await modern.request("tools/call", { name: "input", arguments: args });
        const wanted = answer.result as unknown as Wanted;
        assert.equal(wanted.resultType, "input_required", JSON.stringify(answer));
        const inputResponses = Object.fromEntries(
            Object.entries(wanted.inputRequests).map(([key, { method }]) => [key, BY_METHOD[method]]),
        );
        return { modern, wanted, inputResponses };
    };

    for (const [era, revisions] of Object.entries({ legacy: ["2025-11-25"], modern: [MODERN] })) {
        test(`is good for the call that it was given for, and for nothing else (${era} server)`, async (t) => {
            const { gateway } = await serve(t, { revisions });
            const { modern, wanted, inputResponses } = await first(gateway, { kind: "elicit", n: [1, 2] });
            const { requestState } = wanted;
            const params = { name: "input", arguments: { kind: "elicit", n: [1, 2] }, inputResponses, requestState };
            const flipped = (requestState.startsWith("A") ? "B" : "A") + requestState.slice(1);
            const wrong: { [what: string]: object } = {
                "other arguments": { ...params, arguments: { kind: "elicit", n: [1, 3] } },
                "no arguments": { ...params, arguments: undefined },
                "another tool": { ...params, name: "echo" },
                "another state": { ...params, requestState: flipped },
                "a part of it": { ...params, requestState: requestState.slice(0, -4) },
                "the server's own": { ...params, requestState: "opaque" },
                "none": { ...params, requestState: "" },
                "a number": { ...params, requestState: 7 },
            };
            for (const [what, other] of Object.entries(wrong)) {
                const answer = await modern.request("tools/call", other as { [key: string]: unknown });
                assert.equal(answer.error?.code, -32602, `${what}: ${JSON.stringify(answer)}`);
            }
            const answer = await modern.request("tools/call", params);
            assert.deepEqual((JSON.parse(text(answer)) as { result: object }).result, ELICITED);
        });
    }

    test("of a call that has been answered is good for nothing (legacy server)", async (t) => {
        const { gateway } = await serve(t, { revisions: ["2025-11-25"] });
        const { modern, wanted, inputResponses } = await first(gateway);
        const params = { name: "input", arguments: {}, inputResponses, requestState: wanted.requestState };
        await said(modern.request("tools/call", params));
        const again = await modern.request("tools/call", params);
        assert.equal(again.error?.code, -32602);
        assert.match(again.error!.message, /send the request again without it/);
    });

    test("without the answer the client is asked once more (legacy server)", async (t) => {
        const { gateway } = await serve(t, { revisions: ["2025-11-25"] });
        const { modern, wanted, inputResponses } = await first(gateway);
        const params = { name: "input", arguments: {}, requestState: wanted.requestState };
        const again = await modern.request("tools/call", { ...params, inputResponses: { unknown: ELICITED } });
        const asked = again.result as unknown as Wanted;
        assert.equal(asked.resultType, "input_required");
        assert.deepEqual(Object.keys(asked.inputRequests), Object.keys(wanted.inputRequests));
        await said(modern.request("tools/call", { ...params, inputResponses, requestState: asked.requestState }));
    });

    test("a client that hangs up when it has come back cancels the call (legacy server)", async (t) => {
        const control = await startControl();
        const gateway = await startGateway({ config: { servers: { s: { cmd: control.command({ name: "s" }) } } } }, t);
        t.after(async () => control.close());
        await served(gateway, "s__echo");
        const modern = new ModernClient(gateway, "/mcp/s", { capabilities: CAPABILITIES });
        const params = { name: "hold", arguments: {} };
        const first = modern.request("tools/call", params);
        const child = await control.started("s", 2); // the one of clients that can do all this
        const held = await child.receives((message) => message.method === "tools/call");
        child.do({ do: "send", message: { jsonrpc: "2.0", id: "a", method: "roots/list", params: {} } });
        const wanted = (await first).result as unknown as Wanted;
        assert.equal(wanted.resultType, "input_required", JSON.stringify(wanted));
        const inputResponses = Object.fromEntries(Object.keys(wanted.inputRequests).map((key) => [key, ROOTS]));
        const { requestState } = wanted;
        const abort = new AbortController();
        const back = modern
            .stream("tools/call", { ...params, inputResponses, requestState }, { signal: abort.signal })
            .catch(() => undefined);
        assert.deepEqual((await child.receives((message) => message.id === "a")).result, ROOTS);
        assert.equal(child.received("notifications/cancelled").length, 0);
        abort.abort();
        const told = await child.receives((message) => message.method === "notifications/cancelled");
        assert.equal(told.params!.requestId, held.id);
        await back;
    });

    test("a gateway that stops does not wait for clients to come back", async (t) => {
        const { gateway } = await serve(t, { revisions: ["2025-11-25"] });
        await first(gateway);
        const began = Date.now();
        await gateway.stop();
        assert.ok(Date.now() - began < 8000, `${Date.now() - began} ms`);
    });

    test("of one principal so many calls wait, and not more", async (t) => {
        const { gateway } = await serve(t, { revisions: ["2025-11-25"] });
        const calls = await Promise.all(
            Array.from({ length: 40 }, async () => {
                const modern = new ModernClient(gateway, "/mcp/http", { capabilities: CAPABILITIES });
                return modern.request("tools/call", { name: "input", arguments: {} });
            }),
        );
        const parked = calls.filter((answer) => answer.result?.resultType === "input_required");
        assert.equal(parked.length, 32);
        // The server of the others was told that nobody answers, and said so.
        const others = calls.filter((answer) => answer.result?.resultType !== "input_required");
        for (const answer of others) {
            assert.deepEqual((JSON.parse(text(answer)) as { result: object }).result, { action: "cancel" });
        }
    });
});

describe("a server that asks too much", () => {
    test("sixteen requests at once, and the next is refused", async (t) => {
        const control = await startControl();
        const gateway = await startGateway({ config: { servers: { s: { cmd: control.command({ name: "s" }) } } } }, t);
        t.after(async () => control.close());
        await served(gateway, "s__echo");
        const session = await open(gateway, "/mcp/s");
        const opening = session.stream({ // whose head comes with the first event
            method: "POST",
            body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "hold", arguments: {} } },
        });
        const child = await control.started("s", 2);
        await child.receives((message) => message.method === "tools/call");
        const ask = (n: number): RpcMessage => ({ jsonrpc: "2.0", id: `a${n}`, method: "roots/list", params: {} });
        for (let n = 1; n <= 17; n++) child.do({ do: "send", message: ask(n) });
        const stream = await opening;
        const refused = await child.receives((message) => message.id === "a17");
        assert.notEqual(refused.error, undefined);
        const asked = await until(
            () => {
                const items = stream.messages.items.filter((item) => item.method === "roots/list");
                return items.length === 16 && items;
            },
            () => `sixteen requests came, not ${stream.messages.items.length}`,
        );
        await session.send({ body: { jsonrpc: "2.0", id: asked[3]!.id, result: ROOTS } });
        assert.deepEqual((await child.receives((message) => message.id === "a4")).result, ROOTS);
        // Who does not want to know any more says so, and the client hears it.
        child.notify("notifications/cancelled", { requestId: "a1" });
        const told = await stream.messages.waitFor((item) => item.method === "notifications/cancelled");
        assert.equal(told.params!.requestId, asked[0]!.id);
        await Promise.all([session.end(), stream.ended]);
        const record = await trailOf(gateway).find((line) => line.event === "call" && line.operation === "hold", "the record of the call");
        assert.deepEqual(record.asked, { roots: { open: 14, answered: 1, withdrawn: 1 } });
    });

    test("input again and again ends", async (t) => {
        const { gateway } = await serve(t, {
            revisions: [MODERN],
            on: (exchange) => {
                if (exchange.message.method !== "tools/call") return false;
                exchange.result({
                    resultType: "input_required",
                    inputRequests: { who: { method: "roots/list", params: {} } },
                });
                return true;
            },
        });
        const session = await open(gateway, "/mcp/http");
        const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "input", arguments: {} } };
        const stream = await session.stream({ method: "POST", body });
        for (let n = 0; ; n++) {
            const item = await stream.messages.waitFor(() => true, n);
            if (item.method !== "roots/list") {
                assert.match(await refusal(item), /again and again/);
                break;
            }
            assert.ok(n < 8, "eight rounds");
            await session.send({ body: { jsonrpc: "2.0", id: item.id, result: ROOTS } });
        }
    });
});
