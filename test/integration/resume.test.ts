/*
 * Streams that are taken up again (MCP 2025-11-25, basic/transports, resumability and redelivery): a client whose
 * connection breaks comes back with Last-Event-ID, on whichever worker, and hears what its stream has said meanwhile,
 * once, in order; and nobody else does.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema } from "@modelcontextprotocol/sdk/types.js";

import { Clocks } from "./lib/clocks.ts";
import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway } from "./lib/gateway.ts";
import { EventParser, initialize, openSession, send, served, Session, stream, text, VERSIONS, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { Tokens } from "./lib/principals.ts";
import { random } from "./lib/random.ts";
import { until, within } from "./lib/wait.ts";

let marks = 0;

/** A call of `hold` that has begun to stream: its first progress has come. */
class Held {
    readonly session: Session;
    readonly child: FixtureProcess;
    readonly token: unknown;
    readonly id: string;
    stream: Stream;
    said = 0;
    #request: string | number;

    constructor(session: Session, child: FixtureProcess, token: unknown, id: string, request: string | number, stream: Stream) {
        this.session = session;
        this.child = child;
        this.token = token;
        this.id = id;
        this.#request = request;
        this.stream = stream;
    }

    static async begin(session: Session, child: FixtureProcess): Promise<Held> {
        const id = `call-${++marks}`;
        const params = { name: "it__hold", arguments: { mark: id }, _meta: { progressToken: id } };
        const opening = session.stream({ method: "POST", body: { jsonrpc: "2.0", id, method: "tools/call", params } });
        const call = await child.receives(
            ({ method, params }) => method === "tools/call" && (params!.arguments as { mark?: string }).mark === id,
        );
        const token = (call.params!._meta as { progressToken: unknown }).progressToken;
        child.notify("notifications/progress", { progressToken: token, progress: 1 });
        const stream = await opening;
        const held = new Held(session, child, token, id, call.id!, stream);
        held.said = 1;
        await stream.messages.waitFor((message) => message.method === "notifications/progress");
        return held;
    }

    /** The server says how far it is, once more. */
    progress(more: object = {}): number {
        this.child.notify("notifications/progress", { progressToken: this.token, progress: ++this.said, ...more });
        return this.said;
    }

    async ask(id: string, method: string, params: object = {}): Promise<void> {
        this.child.do({ do: "send", message: { jsonrpc: "2.0", id, method, params } });
        await this.child.sync();
    }

    answer(content = "released"): void {
        const result = { content: [{ type: "text", text: content }] };
        this.child.do({ do: "send", message: { jsonrpc: "2.0", id: this.#request, result } });
    }

    /** the id of the n-th event of its first stream; 0 says nothing */
    eventId(n: number): string {
        return this.stream.events.items[n]!.id!;
    }

    /** The gateway knows that the client is gone, and has what the server said until now. */
    async away(): Promise<void> {
        this.stream.close();
        await this.stream.ended;
        await this.settle();
    }

    /** What the server has said has arrived: it answers behind that. */
    async settle(): Promise<void> {
        await this.child.sync();
        await this.session.request("tools/call", { name: "it__echo", arguments: {} });
    }

    async resume(after: string, session = this.session): Promise<Stream> {
        return session.stream({ method: "GET", headers: { "Last-Event-ID": after } });
    }
}

const progresses = (messages: RpcMessage[]): number[] =>
    messages.flatMap(({ method, params }) => (method === "notifications/progress" ? [params!.progress as number] : []));
const answers = (messages: RpcMessage[], id: string): RpcMessage[] =>
    messages.filter((message) => message.id === id && message.method === undefined);
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n);

/** All that a resumed stream says until it ends. */
async function whole(stream: Stream): Promise<RpcMessage[]> {
    assert.equal(stream.status, 200);
    await within(stream.ended, "the end of a stream that was taken up again");
    return stream.messages.items;
}

/** The same, which has to be this progress and the answer. */
async function isTail(stream: Stream, held: Held, from: number, to: number): Promise<void> {
    const messages = await whole(stream);
    assert.deepEqual(progresses(messages), from > to ? [] : range(from, to));
    assert.equal(answers(messages, held.id).length, 1);
    assert.equal(text(messages.at(-1)!), "released");
}

const refused = async (session: Session, id: string): Promise<{ status: number; text: string }> =>
    session.send({ method: "GET", headers: { "Last-Event-ID": id } });

async function openWith(gateway: Gateway, capabilities: object): Promise<Session> {
    const target = { port: gateway.port, token: gateway.token };
    const opened = await send(target, { body: initialize("2025-11-25", capabilities as Record<string, unknown>) });
    const id = opened.headers["mcp-session-id"] as string;
    const session = new Session(target, "/mcp", id, "2025-11-25", opened.messages.at(-1)!);
    await session.notify("notifications/initialized");
    return session;
}

describe("streams that are taken up again", () => {
    let control: Control;
    let gateway: Gateway;
    let child: FixtureProcess;
    const tokens = new Tokens({ ann: undefined, bob: undefined });
    let names = 0;
    const config = (server: Config["server"] = {}, share = "all"): { name: string; config: Config } => {
        const name = `resume${++names}`;
        const servers = { it: { cmd: control.command({ name }), share } };
        return { name, config: { server: { workers: 4, ...server }, servers } };
    };
    before(async () => {
        control = await startControl();
        const made = config({ auth: { tokens: tokens.table } });
        gateway = await startGateway({ config: made.config });
        await served(gateway, "it__hold");
        child = await control.started(made.name);
    });
    after(async () => {
        await gateway.stop();
        await control.close();
    });

    for (const version of VERSIONS) {
        test(`a client of ${version}: what was said while it was away, and the answer`, async () => {
            const session = await openSession(gateway, "/mcp", version);
            const held = await Held.begin(session, child);
            const [first] = held.stream.events.items;
            const primes = version === "2025-11-25";
            assert.equal(first!.data === "", primes, "an event that says nothing comes first, where it is known");
            const last = held.stream.events.items.at(-1)!.id!;
            await held.away();
            held.progress();
            held.progress();
            held.answer();
            await held.settle();
            const resumed = await held.resume(last);
            await isTail(resumed, held, 2, 3);
            const ids = resumed.events.items.map(({ id }) => id);
            if (primes) assert.equal(ids[0], last, "it begins with where it goes on");
            assert.equal(new Set(ids).size, ids.length);
            for (const id of ids) assert.match(id!, /^[\w-]{32}$/);
            await session.end();
        });
    }

    test("it goes on live, and ends with the answer", async () => {
        const session = await openSession(gateway);
        const held = await Held.begin(session, child);
        await held.away();
        held.progress();
        await held.settle();
        const resumed = await held.resume(held.eventId(1));
        await resumed.messages.waitFor((message) => message.params?.progress === 2);
        held.progress();
        await resumed.messages.waitFor((message) => message.params?.progress === 3);
        held.answer();
        await isTail(resumed, held, 2, 3);
        await session.end();
    });

    test("200 breaks at random: nothing twice, nothing lost", async () => {
        const draw = random(7);
        let breaks = 0;
        const run = async (): Promise<void> => {
            const session = await openSession(gateway);
            const held = await Held.begin(session, child);
            const heard = [...held.stream.messages.items];
            let [stream, last] = [held.stream, held.eventId(1)];
            const total = 60;
            const talk = (async () => {
                while (held.said < total) {
                    held.progress();
                    if (draw(10) < 3) await held.child.sync();
                }
                held.answer();
            })();
            const note = (from: number): void => {
                for (const event of stream.events.items.slice(from)) {
                    last = event.id!;
                    if (event.data !== "") heard.push(JSON.parse(event.data) as RpcMessage);
                }
            };
            stream.close();
            await stream.ended;
            note(2);
            while (answers(heard, held.id).length === 0) {
                breaks++;
                stream = await held.resume(last);
                assert.equal(stream.status, 200);
                const wanted = 1 + draw(4);
                await stream.events.waitFor(() => stream.events.items.length > wanted).catch(() => {});
                stream.close();
                await stream.ended;
                note(0);
            }
            await talk;
            assert.deepEqual(progresses(heard), range(1, total));
            assert.equal(answers(heard, held.id).length, 1);
            await session.end();
        };
        for (let round = 0; breaks < 200; round++) {
            assert.ok(round < 60, `${breaks} breaks`);
            await Promise.all([run(), run(), run(), run()]);
        }
    });

    test("after its end it can be had again, from each id; behind the last one there is nothing", async () => {
        const session = await openSession(gateway);
        const held = await Held.begin(session, child);
        held.progress();
        held.progress();
        held.answer();
        await within(held.stream.ended, "the stream ends with the answer");
        const ids = held.stream.events.items.map(({ id }) => id!);
        assert.equal(ids.length, 5);
        for (let n = 0; n < 4; n++) await isTail(await held.resume(ids[n]!), held, n + 1, 3);
        assert.equal((await refused(session, ids[4]!)).status, 204);
        await session.end();
    });

    test("a connection that is half open: the newer one wins, the older one is closed", async () => {
        const session = await openSession(gateway);
        const held = await Held.begin(session, child);
        const streams = [held.stream];
        for (let n = 0; n < 8; n++) {
            const older = streams.at(-1)!;
            const newer = await held.resume(held.eventId(1));
            await within(older.ended, "the older connection is closed");
            const said = held.progress();
            await newer.messages.waitFor((message) => message.params?.progress === said);
            assert.ok(!progresses(older.messages.items).includes(said));
            streams.push(newer);
        }
        held.answer();
        await isTail(streams.at(-1)!, held, 2, held.said);
        assert.equal(streams.slice(0, -1).flatMap(({ messages }) => answers(messages.items, held.id)).length, 0);
        await session.end();
    });

    test("it is no second GET stream", async () => {
        const session = await openSession(gateway);
        const standalone = await session.stream();
        assert.equal(standalone.status, 200);
        const held = await Held.begin(session, child);
        await held.away();
        const resumed = await held.resume(held.eventId(0));
        assert.equal(resumed.status, 200);
        assert.equal((await session.send({ method: "GET" })).status, 409);
        held.answer();
        await isTail(resumed, held, 1, 1);
        assert.equal(standalone.messages.items.length, 0);
        standalone.close();
        await session.end();
    });

    test("each stream has its own events", async () => {
        const session = await openSession(gateway);
        const [one, two] = [await Held.begin(session, child), await Held.begin(session, child)];
        await Promise.all([one.away(), two.away()]);
        for (const held of [one, two, one]) held.progress();
        for (const held of [two, one]) held.answer();
        await one.settle();
        for (const [held, to] of [[one, 3], [two, 2]] as const) {
            const messages = await whole(await held.resume(held.eventId(0)));
            assert.deepEqual(progresses(messages), range(1, to));
            assert.deepEqual(messages.map(({ id }) => id).filter((id) => id !== undefined), [held.id]);
            for (const { params } of messages) assert.ok(params === undefined || params.progressToken === held.id);
        }
        await session.end();
    });

    test("ids are of one session, of one principal, and cannot be guessed", async () => {
        const [ann, bob] = [tokens.as(gateway, "ann"), tokens.as(gateway, "bob")];
        const [mine, second, theirs] = [await openSession(ann), await openSession(ann), await openSession(bob)];
        const held = await Held.begin(mine, child);
        const other = await Held.begin(second, child);
        await Promise.all([held.away(), other.away()]);
        const id = held.eventId(1);
        for (const session of [second, theirs]) {
            const { status, text: said } = await refused(session, id);
            assert.equal(status, 400);
            assert.match(said, /no id of an event of this session/);
        }
        // Who has the ids of both is somebody else all the same.
        const stolen = new Session({ port: gateway.port, token: bob.token }, "/mcp", mine.id, "2025-11-25", {});
        assert.equal((await refused(stolen, id)).status, 404);
        const bytes = Buffer.from(id, "base64url");
        const changed = Array.from({ length: 24 }, (_, at) => {
            const copy = Buffer.from(bytes);
            copy[at]! ^= 1;
            return copy.toString("base64url");
        });
        const wrong = [...changed, "x", "1", id.slice(0, -1), `${id}A`, id.toLowerCase(), `${id}=`, "A".repeat(32), "_".repeat(4000)];
        for (const each of wrong) assert.equal((await refused(mine, each)).status, 400, each);
        held.answer();
        other.answer();
        await isTail(await held.resume(id), held, 2, 1);
        await isTail(await other.resume(other.eventId(1)), other, 2, 1);
        await Promise.all([mine.end(), second.end(), theirs.end()]);
        assert.equal((await refused(mine, id)).status, 404);
    });

    test("what a server asks while its client is away is asked when it is back", async (t) => {
        const made = config({}, "principal");
        const own = await startGateway({ config: made.config }, t);
        await served(own, "it__hold");
        const session = await openWith(own, { roots: {} });
        await session.request("tools/list");
        const asking = await control.started(made.name, 2); // the one of clients that have roots
        const held = await Held.begin(session, asking);
        await held.away();
        await held.ask("a", "roots/list");
        await held.settle();
        const resumed = await held.resume(held.eventId(1));
        const asked = await resumed.messages.waitFor((message) => message.method === "roots/list");
        const result = { roots: [{ uri: "file:///tmp/ann" }] };
        assert.equal((await session.send({ body: { jsonrpc: "2.0", id: asked.id, result } })).status, 202);
        assert.deepEqual((await asking.receives((message) => message.id === "a")).result, result);
        held.answer();
        await isTail(resumed, held, 2, 1);
        await session.end();
    });

    test("the GET stream: log messages meanwhile, and it is the session's stream again", async (t) => {
        const made = config({}, "principal");
        const own = await startGateway({ config: made.config }, t);
        await served(own, "it__hold");
        const speaker = await control.started(made.name);
        const session = await openSession(own);
        const say = async (data: string): Promise<void> => {
            speaker.notify("notifications/message", { level: "error", data });
            await speaker.sync();
            await session.request("tools/call", { name: "it__echo", arguments: {} });
        };
        const data = (stream: Stream): unknown[] => stream.messages.items.map(({ params }) => params?.data);
        const first = await session.stream();
        await say("one");
        const one = await first.events.waitFor((event) => event.data.includes('"one"'));
        first.close();
        await first.ended;
        // The gateway learns of the end by itself: a plain GET is let in then.
        await say("two");
        const second = await session.stream({ method: "GET", headers: { "Last-Event-ID": one.id! } });
        await second.messages.waitFor((message) => message.params?.data === "two");
        await say("three");
        await second.messages.waitFor((message) => message.params?.data === "three");
        assert.equal((await session.send({ method: "GET" })).status, 409);
        // Half open: the same stream once more, from another connection.
        const third = await session.stream({ method: "GET", headers: { "Last-Event-ID": one.id! } });
        await within(second.ended, "the older connection is closed");
        await say("four");
        await third.messages.waitFor((message) => message.params?.data === "four");
        assert.deepEqual(data(third), ["two", "three", "four"]);
        assert.equal((await session.send({ method: "GET" })).status, 409);
        third.close();
        await third.ended;
        // Another one takes its place: then it can be read to its end, and no further.
        const fresh = await until(async () => {
            const stream = await session.stream();
            return stream.status === 200 && stream;
        }, "a GET stream anew");
        const old = await session.stream({ method: "GET", headers: { "Last-Event-ID": one.id! } });
        await within(old.ended, "the old stream ends");
        assert.deepEqual(data(old), ["two", "three", "four"]);
        assert.equal((await refused(session, old.events.items.at(-1)!.id!)).status, 204);
        await say("five");
        await fresh.messages.waitFor((message) => message.params?.data === "five");
        fresh.close();
        await session.end();
    });

    test("the end of the session ends a stream that was taken up again", async () => {
        const session = await openSession(gateway);
        const held = await Held.begin(session, child);
        await held.away();
        const resumed = await held.resume(held.eventId(1));
        await session.end();
        await within(resumed.ended, "the stream ends");
        assert.equal(answers(resumed.messages.items, held.id).length, 0);
    });

    test("one that came back and does not read: what comes before the answer is dropped, the answer is not", async () => {
        const session = await openSession(gateway);
        const held = await Held.begin(session, child);
        await held.away();
        const headers = { ...gateway.headers, ...session.headers, Accept: "text/event-stream", "Last-Event-ID": held.eventId(1) };
        const request = http.get({ host: "127.0.0.1", port: gateway.port, path: "/mcp", headers, agent: false });
        const [unread] = (await within(once(request, "response"), "the stream")) as [http.IncomingMessage];
        for (let n = 0; n < 2000; n++) {
            held.progress({ message: "x".repeat(10_000) });
            if (n % 100 === 0) await held.child.sync();
        }
        held.answer();
        await held.settle();
        const heard: RpcMessage[] = [];
        const parser = new EventParser(({ data }) => data !== "" && heard.push(JSON.parse(data) as RpcMessage));
        unread.setEncoding("utf8").on("data", (chunk: string) => parser.feed(chunk));
        await within(once(unread, "end"), "the end of the stream");
        const told = progresses(heard);
        assert.ok(told.length > 0 && told.length < 2000, `${told.length}`);
        assert.deepEqual(told, [...new Set(told)].sort((a, b) => a - b));
        assert.equal(text(heard.at(-1)!), "released");
        await gateway.waitForLog(({ message }) => message!.startsWith("notifications were dropped"));
        await session.end();
    });

    test("five minutes after its end a stream is gone", async (t) => {
        const clocks = new Clocks(control.folder);
        t.after(() => clocks.close());
        const made = config();
        const own = await startGateway({ config: made.config, env: clocks.env }, t);
        await served(own, "it__hold");
        const session = await openSession(own);
        const held = await Held.begin(session, await control.started(made.name));
        held.answer();
        await within(held.stream.ended, "the stream ends with the answer");
        const second = 1_000_000_000n;
        clocks.set(0n, 290n * second);
        await isTail(await held.resume(held.eventId(0)), held, 1, 1);
        clocks.set(0n, 301n * second);
        const { status, text: said } = await refused(session, held.eventId(0));
        assert.equal(status, 400);
        assert.match(said, /not kept any more/);
    });

    test("server.resume_buffer: at it and past it, and an event that is longer than all of it", async (t) => {
        const made = config({ resume_buffer: "16KiB" });
        const own = await startGateway({ config: made.config }, t);
        await served(own, "it__hold");
        const session = await openSession(own);
        const away = async (...lengths: number[]): Promise<Held> => {
            const held = await Held.begin(session, await control.started(made.name));
            await held.away();
            for (const length of lengths) held.progress({ message: "x".repeat(length) });
            held.answer();
            await held.settle();
            return held;
        };
        const kept = await away(5000, 5000, 5000);
        await isTail(await kept.resume(kept.eventId(0)), kept, 1, 4);
        const full = await away(5000, 5000, 6500);
        for (const n of [0, 1]) assert.equal((await refused(session, full.eventId(n))).status, 400);
        const long = await away(5000, 17000);
        for (const n of [0, 1]) assert.equal((await refused(session, long.eventId(n))).status, 400);
        // Who is there to hear it hears it, however long it is.
        const held = await Held.begin(session, await control.started(made.name));
        await held.away();
        const resumed = await held.resume(held.eventId(1));
        await resumed.events.waitFor(() => true);
        held.progress({ message: "x".repeat(300_000) });
        held.answer();
        await isTail(resumed, held, 2, 2);
    });

    test("256 events of a session, and one more", async () => {
        const session = await openSession(gateway);
        const away = async (n: number): Promise<Held> => {
            const held = await Held.begin(session, child);
            await held.away();
            while (held.said < n - 1) held.progress(); // the answer is the last one
            held.answer();
            await held.settle();
            return held;
        };
        const kept = await away(256);
        await isTail(await kept.resume(kept.eventId(0)), kept, 1, 255);
        const full = await away(257);
        const { status, text: said } = await refused(session, full.eventId(0));
        assert.equal(status, 400);
        assert.match(said, /not kept any more/);
        await isTail(await full.resume(full.eventId(1)), full, 2, 256);
        await session.end();
    });

    test("64 streams of a session, and one more", async () => {
        const session = await openSession(gateway);
        const all: Held[] = [];
        const one = async (): Promise<void> => {
            const held = await Held.begin(session, child);
            held.answer();
            await within(held.stream.ended, "the stream ends with the answer");
            all.push(held);
        };
        while (all.length < 64) await one();
        await isTail(await all[0]!.resume(all[0]!.eventId(0)), all[0]!, 1, 1);
        await one();
        assert.equal((await refused(session, all[0]!.eventId(0))).status, 400);
        await isTail(await all[1]!.resume(all[1]!.eventId(0)), all[1]!, 1, 1);
        await isTail(await all[64]!.resume(all[64]!.eventId(0)), all[64]!, 1, 1);
        await session.end();
    });

    test("without server.resume_buffer events have no ids", async (t) => {
        const made = config({ resume_buffer: 0 });
        const own = await startGateway({ config: made.config }, t);
        await served(own, "it__hold");
        const session = await openSession(own);
        const held = await Held.begin(session, await control.started(made.name));
        assert.deepEqual(held.stream.events.items.map(({ id }) => id), [undefined]);
        held.answer();
        await within(held.stream.ended, "the stream ends with the answer");
        assert.equal((await refused(session, "A".repeat(32))).status, 400);
    });

    const endings = {
        "a client that is back gets its answer": { comesBack: true, staysOn: true },
        "nobody waits for one that is not": { comesBack: false, staysOn: false },
        "nor for one that was back and hangs up": { comesBack: true, staysOn: false },
    };
    for (const [what, { comesBack, staysOn }] of Object.entries(endings)) {
        test(`a gateway that stops: ${what}`, async (t) => {
            const made = config();
            const own = await startGateway({ config: made.config }, t);
            await served(own, "it__hold");
            const session = await openSession(own);
            const held = await Held.begin(session, await control.started(made.name));
            await held.away();
            const resumed = comesBack ? await held.resume(held.eventId(1)) : undefined;
            const began = Date.now();
            own.process.kill("SIGTERM");
            await own.waitForLog((entry) => entry.message === "draining");
            if (resumed !== undefined && staysOn) {
                held.answer();
                await isTail(resumed, held, 2, 1);
            }
            resumed?.close();
            const { code } = await within(own.exited, "the gateway ends");
            assert.equal(code, 0);
            assert.ok(Date.now() - began < 15000, `${Date.now() - began} ms`);
        });
    }
});

describe("clients that know no ids", () => {
    let control: Control;
    let gateway: Gateway;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({ config: { servers: { it: { cmd: control.command({ name: "other" }) } } } });
        await served(gateway, "it__progress");
    });
    after(async () => {
        await gateway.stop();
        await control.close();
    });

    test("2026-07-28 has none, and Last-Event-ID means nothing", async () => {
        const modern = new ModernClient(gateway, "/mcp");
        const params = { name: "it__progress", arguments: { steps: 3 }, _meta: { progressToken: "p" } };
        const { headers, body } = modern.outgoing("tools/call", params);
        const told = await stream(gateway, {
            method: "POST",
            headers: { ...(headers as Record<string, string>), "Last-Event-ID": "A".repeat(32) },
            body,
        });
        await within(told.ended, "the end of the stream");
        assert.deepEqual(progresses(told.messages.items), [1, 2, 3]);
        assert.deepEqual(told.events.items.map(({ id }) => id), [undefined, undefined, undefined, undefined]);
    });

    test("HTTP+SSE has none: the stream is the session", async () => {
        const told = await stream(gateway, { method: "GET", path: "/mcp/sse", headers: { "Last-Event-ID": "1" } });
        const first = await told.events.waitFor(() => true);
        assert.equal(first.event, "endpoint");
        assert.equal(first.id, undefined);
        told.close();
    });
});

/** Passes everything on until it is told to break what is open. */
class Breakable {
    readonly server: net.Server;
    #pairs = new Set<net.Socket>();
    constructor(port: number) {
        this.server = net.createServer((socket) => {
            const other = net.connect({ host: "127.0.0.1", port });
            for (const [from, to] of [[socket, other], [other, socket]] as const) {
                this.#pairs.add(from);
                from.pipe(to);
                from.on("error", () => {});
                from.on("close", () => {
                    this.#pairs.delete(from);
                    to.destroy();
                });
            }
        });
    }
    async listen(): Promise<number> {
        await new Promise<void>((resolve) => void this.server.listen(0, "127.0.0.1", resolve));
        return (this.server.address() as net.AddressInfo).port;
    }
    cut(): void {
        for (const socket of this.#pairs) socket.destroy();
    }
    async close(): Promise<void> {
        this.cut();
        await new Promise((resolve) => void this.server.close(resolve));
    }
}

describe("the official SDK (1.x)", () => {
    let control: Control;
    let gateway: Gateway;
    let child: FixtureProcess;
    before(async () => {
        control = await startControl();
        const servers = { it: { cmd: control.command({ name: "sdk" }), share: "all" } };
        gateway = await startGateway({ config: { server: { workers: 4 }, servers } });
        await served(gateway, "it__hold");
        child = await control.started("sdk");
    });
    after(async () => {
        await gateway.stop();
        await control.close();
    });

    const called = async (mark: string): Promise<RpcMessage> =>
        child.receives(
            ({ method, params }) => method === "tools/call" && (params!.arguments as { mark?: string }).mark === mark,
        );
    const progress = (call: RpcMessage, n: number) => {
        const { progressToken } = call.params!._meta as { progressToken: unknown };
        child.notify("notifications/progress", { progressToken, progress: n });
    };
    const answer = (call: RpcMessage) =>
        child.do({ do: "send", message: { jsonrpc: "2.0", id: call.id, result: { content: [{ type: "text", text: "done" }] } } });

    test("comes back by itself when connections break, again and again", async (t) => {
        const proxy = new Breakable(gateway.port);
        t.after(async () => proxy.close());
        const url = new URL(`http://127.0.0.1:${await proxy.listen()}/mcp`);
        const peer = new Client({ name: "sdk-1", version: "1" });
        const transport = new StreamableHTTPClientTransport(url, {
            requestInit: { headers: { ...gateway.headers, Host: `127.0.0.1:${gateway.port}` } },
            reconnectionOptions: { initialReconnectionDelay: 10, maxReconnectionDelay: 100, reconnectionDelayGrowFactor: 1, maxRetries: 20 },
        });
        await within(peer.connect(transport), "it connects");
        const heard: number[] = [];
        const params = { name: "it__hold", arguments: { mark: "again" } };
        const result = peer.callTool(params, undefined, { onprogress: ({ progress: n }) => void heard.push(n) });
        const call = await called("again");
        for (let n = 1; n <= 4; n++) {
            progress(call, n);
            await until(() => heard.includes(n), `progress ${n}`);
            proxy.cut();
        }
        answer(call);
        const { content } = await within(result, "the answer");
        assert.deepEqual(content, [{ type: "text", text: "done" }]);
        assert.deepEqual(heard, [1, 2, 3, 4]);
        await transport.terminateSession();
        await peer.close();
    });

    test("is told by 204 that a stream is over, which it asks for behind an error", async () => {
        const gets: number[] = [];
        const transport = new StreamableHTTPClientTransport(new URL(gateway.url), {
            requestInit: { headers: gateway.headers },
            fetch: async (url, init) => {
                const response = await fetch(url, init);
                if (new Headers(init?.headers).has("last-event-id")) gets.push(response.status);
                return response;
            },
        });
        const peer = new Client({ name: "sdk-1", version: "1" });
        await within(peer.connect(transport), "it connects");
        const params = { name: "it__hold", arguments: { mark: "error" } };
        const result = peer.callTool(params, undefined, { onprogress: () => {} });
        const call = await called("error");
        progress(call, 1);
        child.do({ do: "send", message: { jsonrpc: "2.0", id: call.id, error: { code: -32007, message: "no" } } });
        await assert.rejects(within(result, "the answer"), /no/);
        await until(() => gets.length > 0, "it comes back");
        assert.deepEqual(gets, [204]);
        await transport.terminateSession();
        await peer.close();
    });

    test("with the token of another connection: onresumptiontoken, resumptionToken", async () => {
        const options = { requestInit: { headers: gateway.headers } };
        const first = new StreamableHTTPClientTransport(new URL(gateway.url), options);
        const peer = new Client({ name: "sdk-1", version: "1" });
        await within(peer.connect(first), "it connects");
        const heard: string[] = [];
        let token: string | undefined;
        const request = { method: "tools/call" as const, params: { name: "it__hold", arguments: { mark: "token" }, _meta: { progressToken: "t" } } };
        const lost = peer.request(request, CallToolResultSchema, { onresumptiontoken: (each) => void (token = each) });
        lost.catch(() => {});
        const call = await called("token");
        progress(call, 1);
        await until(() => token !== undefined, "a token");
        const sessionId = first.sessionId!;
        await peer.close();
        progress(call, 2);
        answer(call);
        const second = new StreamableHTTPClientTransport(new URL(gateway.url), { ...options, sessionId });
        second.setProtocolVersion("2025-11-25");
        const back = new Client({ name: "sdk-1", version: "1" });
        await within(back.connect(second), "it connects again");
        back.fallbackNotificationHandler = async ({ params }) => void heard.push(String(params?.progress));
        const result = await within(
            back.request(request, CallToolResultSchema, { resumptionToken: token! }),
            "the answer",
        );
        assert.deepEqual(result.content, [{ type: "text", text: "done" }]);
        await second.terminateSession();
        await back.close();
    });
});
