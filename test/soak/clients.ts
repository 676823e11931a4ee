/*
 * The clients: each kind is a function that comes, does some things, and goes. All of them keep the books.
 */
import net from "node:net";

import type { RpcMessage } from "../integration/lib/control.ts";
import { CALLERS } from "../integration/lib/callers.ts";
import { initialize, VERSIONS } from "../integration/lib/http.ts";
import { ModernClient } from "../integration/lib/modern.ts";
import { answerQuestion, comeBack, comeBackLate, type Left } from "./asks.ts";
import { summary, Trace, type Call, type Wanted } from "./books.ts";
import { inSession, listen } from "./listens.ts";
import { Hearing } from "./news.ts";
import { pause, type Random } from "./random.ts";
import { throughStream } from "./sse.ts";
import { Wire, type Response, type WireRequest } from "./wire.ts";
import { choose, late, MIB, toolOf, wish, type Speaker, type Upstream, type World } from "./world.ts";

/** Calls of clients without a session that may wait for input: with those that hang up, below LIMIT_PARKED. */
const MOST_ASKING = 20;

export class Visitor {
    readonly world: World;
    readonly random: Random;
    readonly name: string;
    #wires = 0;
    /** its calls of servers whose questions say nothing of the call */
    readonly #shared = new Map<string, Call>();

    constructor(world: World, random: Random, name: string) {
        this.world = world;
        this.random = random;
        this.name = name;
    }

    wire(what: string, slow?: { bytes: number; ms: number }): Wire {
        const wire = new Wire(this.world.target.port, `${this.name}, ${what} ${++this.#wires}`, slow);
        wire.onExcess = (text) => this.world.books.violation(`unasked bytes: ${JSON.stringify(text)}`, wire.trace);
        return wire;
    }

    get fields(): { [name: string]: string } {
        return {
            Host: `127.0.0.1:${this.world.target.port}`,
            Authorization: `Bearer ${this.world.target.token}`,
            Accept: "application/json, text/event-stream",
        };
    }

    /** One request that is no call; its answer, undefined when it was refused (which is counted). */
    async ask(
        wire: Wire,
        speaker: Speaker,
        method: string,
        params: object,
        isSure: boolean,
    ): Promise<RpcMessage | undefined> {
        const { books, limitMs } = this.world;
        const id = speaker.nextId();
        const found: RpcMessage[] = [];
        const onMessage = (message: RpcMessage) => void (message.method === undefined && found.push(message));
        const request = speaker.request(method, params as { [key: string]: unknown }, id);
        const response = await late(wire.request({ ...request, onMessage }), limitMs);
        const said = response === "late" ? "too late" : `${response.status} ${response.broken ?? response.text}`;
        const [answer] = found;
        if (found.length > 1) books.violation(`${found.length} answers to ${method}`, wire.trace);
        if (answer?.result !== undefined && answer.id === id) return answer;
        if (isSure || response === "late" || response.broken !== undefined) {
            books.violation(`${method}: ${said} ${answer === undefined ? "" : summary(answer)}`, wire.trace);
        } else books.count(`${method}: ${said}`);
        return undefined;
    }

    /** The messages of a response that belongs to these calls alone. */
    taker(calls: Call[], trace: Trace, speaker: Speaker): (message: RpcMessage) => void {
        const { books } = this.world;
        return (message) => {
            if (message.method !== undefined) {
                const { message: nonce } = (message.params ?? {}) as { message?: string };
                if (message.method === "elicitation/create" && message.id !== undefined && speaker.canAsk) {
                    // A process tells no call by its questions: one of the session's is taken.
                    const isShared = calls[0]!.mayBeDeclined === true;
                    const other = isShared ? this.#shared.get(nonce ?? "") : undefined;
                    const call = calls.find(({ wish }) => wish.nonce === nonce) ?? other ?? calls[0]!;
                    if (books.asked(call, message, { message: nonce })) void this.answer(speaker, call, message.id!);
                } else if (message.id !== undefined || message.method === "notifications/resources/updated")
                    books.violation(`told on the stream of a call: ${summary(message)}`, trace);
                else if (calls.length === 1) books.notified(calls[0]!, message);
                return;
            }
            if (message.id === undefined || message.id === null) return; // a refusal of it all
            const call = calls.find((each) => each.id === message.id) ?? calls[0]!;
            const isQuestion = message.result?.resultType === "input_required" && call.wish.do === "ask";
            if (isQuestion && speaker.isModern && message.id === call.id && call.wanted === undefined)
                call.wanted = message.result as unknown as Wanted;
            else books.answer(call, message);
        };
    }

    /** To a question that came on the stream of a call. */
    async answer(speaker: Speaker, call: Call, id: string | number): Promise<void> {
        const result = await answerQuestion(this.random, call);
        if (result === undefined) return;
        const wire = this.wire("answers");
        const taken = await late(wire.request(speaker.reply(id, result)), this.world.limitMs);
        if ((taken === "late" || taken.status !== 202) && call.state === "open")
            this.world.books.violation(`an answer is not taken: ${JSON.stringify(taken)}`, wire.trace);
        wire.close();
    }

    conclude(call: Call, response: Response | "late"): void {
        const { books } = this.world;
        if (response === "late") {
            if (call.state === "dropped")
                books.violation(`no end of the cancelled ${books.describe(call)}`, call.trace);
            else if (call.state === "answered")
                books.violation(`no end after the answer: ${books.describe(call)}`, call.trace);
            books.ended(call, "too late");
        } else if (call.state === "open" && response.broken !== undefined) books.ended(call, response.broken);
        else if (call.state === "open" && response.status >= 400) {
            books.refused(call, response.status, response.text);
        } else books.ended(call, "the response was over");
    }

    begin(
        speaker: Speaker,
        trace: Trace,
        { isHarmless = false, mayAsk = false }: { isHarmless?: boolean; mayAsk?: boolean } = {},
    ): { call: Call; request: WireRequest; params: { [key: string]: unknown } } {
        const { random, world } = this;
        const upstream = choose(world, random, speaker);
        const id = speaker.nextId();
        const hasRoom = !speaker.isModern || world.asking.size < MOST_ASKING;
        const what = wish(random, upstream.isCalm || isHarmless, speaker.canAsk && mayAsk && hasRoom);
        const call = world.books.begin(trace, upstream.name, upstream.isCalm, id, what);
        call.mayBeDeclined = upstream.isShared === true;
        call.maySayNothing = !upstream.isCalm && upstream.era !== "modern";
        if (call.mayBeDeclined) this.#shared.set(call.wish.nonce, call);
        const wantsProgress = call.wish.do === "progress" || random.chance(0.5);
        const params = {
            name: toolOf(speaker, upstream),
            arguments: call.wish,
            ...(wantsProgress ? { _meta: { progressToken: `t-${call.wish.nonce}` } } : {}),
        };
        return { call, params, request: speaker.request("tools/call", params, id) };
    }

    /** One call on this connection, with what its client may do to it meanwhile. */
    async call(wire: Wire, speaker: Speaker): Promise<void> {
        const { random, world } = this;
        const { call, params, request } = this.begin(speaker, wire.trace, { mayAsk: true });
        // Who hangs up while the gateway answers that it wants input leaves a call of which nobody knows the name; and in a
        // session a question that its server does not wait for.
        const isLasting = call.wish.do === "ask" && (speaker.isModern || call.maySayNothing !== true);
        const isAsking = speaker.isModern && call.wish.do === "ask";
        const fates = { wait: 86, cancel: speaker.isModern ? 0 : 7, hangup: isLasting ? 0 : 7 };
        const fate = random.weighted(fates);
        const pieces = random.chance(0.03) ? random.int(2, 60) : undefined; // fewer than header_timeout can become too short for
        const onMessage = this.taker([call], wire.trace, speaker);
        if (isAsking) world.asking.add(call);
        const pending = wire.request({ ...request, pieces, onMessage });
        if (fate !== "wait") {
            await late(pending, random.int(0, 300));
            if (fate === "hangup") {
                world.books.drop(call, "hung up");
                wire.close(random.chance(0.5));
                return;
            }
            if (call.state === "open") {
                world.books.drop(call, "cancelled");
                const other = this.wire("cancels");
                const params = { requestId: call.id, reason: "no more" };
                await late(other.request(speaker.request("notifications/cancelled", params, undefined)), world.limitMs);
                other.close();
            }
        }
        const response = await late(pending, world.limitMs);
        const isAsked = call.wanted !== undefined && response !== "late" && response.broken === undefined;
        if (!isAsked) this.conclude(call, response);
        else await comeBack(this, wire, speaker, call, params);
        if (!world.left.some((left) => left.call === call)) world.asking.delete(call);
    }

    /** Several calls on as many connections. */
    async calls(speaker: Speaker, what: string): Promise<void> {
        const { random, world } = this;
        const lanes = Array.from({ length: random.int(1, 4) }, async () => {
            let wire = this.wire(what);
            for (let left = random.int(1, 15); left > 0 && !world.isOver(); left--) {
                if (wire.isClosed) wire = this.wire(what);
                await this.call(wire, speaker);
            }
            wire.close();
        });
        await Promise.all(lanes);
    }

    legacySpeaker(
        path: string,
        version: string,
        session: string | undefined,
        { upstream, canAsk = false }: { upstream?: Upstream | undefined; canAsk?: boolean } = {},
    ): Speaker {
        let id = 0;
        const post = (body: object): WireRequest => ({
            path,
            fields: {
                ...this.fields,
                "Content-Type": "application/json",
                ...(session === undefined ? {} : { "Mcp-Session-Id": session, "MCP-Protocol-Version": version }),
            },
            body: JSON.stringify({ jsonrpc: "2.0", ...body }),
        });
        return {
            name: this.name,
            isModern: false,
            canAsk,
            ...(upstream === undefined ? {} : { upstream }),
            nextId: () => ++id,
            request: (method, params, number) => post({ id: number, method, params }),
            reply: (number, result) => post({ id: number, result }),
        };
    }

    modernSpeaker(path: string, upstream?: Upstream, canAsk = false): Speaker {
        const capabilities = canAsk ? { elicitation: {} } : {};
        const client = new ModernClient(this.world.target, path, { capabilities });
        let id = 0;
        return {
            name: this.name,
            isModern: true,
            canAsk,
            ...(upstream === undefined ? {} : { upstream }),
            nextId: () => ++id,
            request: (method, params, number) => {
                const { headers, body } = client.outgoing(method, params, { id: number });
                const fields = {
                    ...this.fields,
                    "Content-Type": "application/json",
                    ...(headers as { [name: string]: string }),
                };
                return { path, fields, body: JSON.stringify(body) };
            },
            reply: () => {
                throw new Error("it comes back with what it says");
            },
        };
    }

    place(): { path: string; upstream?: Upstream } {
        if (this.random.chance(0.6)) return { path: "/mcp" };
        const upstream = this.random.pick(this.world.upstreams);
        return { path: `/mcp/${upstream.name}`, upstream };
    }

    async #lists(wire: Wire, speaker: Speaker): Promise<void> {
        const answer = await this.ask(wire, speaker, "tools/list", {}, speaker.upstream?.isCalm ?? true);
        if (answer === undefined) return;
        const names = new Set((answer.result!.tools as { name: string }[]).map(({ name }) => name));
        for (const upstream of speaker.upstream === undefined ? this.world.upstreams : []) {
            if (upstream.isCalm && !names.has(`${upstream.name}__t`)) {
                this.world.books.violation(`${upstream.name} is not in a list: ${[...names]}`, wire.trace);
            }
        }
    }

    async legacy(): Promise<void> {
        const { random, world } = this;
        const { path, upstream } = this.place();
        const version = random.pick(VERSIONS);
        const wire = this.wire("session");
        const canAsk = version >= "2025-06-18" && random.chance(0.5);
        const unnamed = this.legacySpeaker(path, version, undefined);
        const hello = initialize(version, canAsk ? { elicitation: {} } : {});
        const opening = { ...unnamed.request("initialize", {}, undefined), body: JSON.stringify(hello) };
        const opened = await late(wire.request(opening), world.limitMs);
        const session = opened === "late" ? undefined : opened.fields.get("mcp-session-id");
        if (opened === "late" || opened.status !== 200 || session === undefined) {
            world.books.violation(`initialize at ${path}: ${JSON.stringify(opened)}`, wire.trace);
            return wire.close();
        }
        const speaker = this.legacySpeaker(path, version, session, { upstream, canAsk });
        const said = await late(
            wire.request(speaker.request("notifications/initialized", {}, undefined)),
            world.limitMs,
        );
        if (said === "late" || said.status !== 202)
            world.books.violation(`initialized: ${JSON.stringify(said)}`, wire.trace);
        const hearing = new Hearing(world.books, wire.trace);
        const ask = (method: string, params: object, isSure: boolean) => this.ask(wire, speaker, method, params, isSure);
        const listens = random.chance(0.5);
        const early = random.chance(0.5) ? await inSession(this, hearing, ask, upstream) : undefined;
        const listening = listens ? this.#listen(speaker, hearing) : undefined;
        const hears = early ?? (random.chance(0.5) ? await inSession(this, hearing, ask, upstream) : undefined);
        if (random.chance(0.7)) await this.#lists(wire, speaker);
        if (random.chance(0.3)) await this.ask(wire, speaker, "ping", {}, true);
        if (random.chance(0.3)) await this.ask(wire, speaker, "logging/setLevel", { level: "debug" }, true);
        if (version === "2025-03-26" && random.chance(0.6)) await this.#batch(wire, speaker);
        await this.calls(speaker, "session");
        if (listening !== undefined && random.chance(0.7)) await hearing.catchUp(world.limitMs);
        await hears?.end();
        listening?.leave();
        if (random.chance(0.7)) {
            const rest = wire.isClosed ? this.wire("session ends") : wire;
            const ended = await late(
                rest.request({ ...speaker.request("", {}, undefined), method: "DELETE", body: undefined }),
                world.limitMs,
            );
            if (ended === "late" || ended.status >= 300)
                world.books.violation(`DELETE: ${JSON.stringify(ended)}`, rest.trace);
            rest.close();
        }
        listening?.wire.close(random.chance(0.5));
        wire.close();
    }

    /** Answers have no business on a stream that belongs to no call, and it does not end by itself. */
    #listen(speaker: Speaker, hearing: Hearing): { wire: Wire; leave(): void } {
        const wire = this.wire("listens");
        const request = { ...speaker.request("", {}, undefined), method: "GET", body: undefined };
        let isLeaving = false;
        const onMessage = (message: RpcMessage) => {
            if (message.method === undefined)
                this.world.books.violation(`an answer on GET: ${summary(message)}`, wire.trace);
            else hearing.take(message);
        };
        void wire.request({ ...request, onMessage }).then((response) => {
            if (!isLeaving) this.world.books.violation(`GET ends: ${JSON.stringify(response)}`, wire.trace);
        });
        return { wire, leave: () => (isLeaving = true) };
    }

    async #batch(wire: Wire, speaker: Speaker): Promise<void> {
        const begun = Array.from({ length: this.random.int(2, 4) }, () => this.begin(speaker, wire.trace));
        const calls = begun.map(({ call }) => call);
        const [first] = begun;
        const body = `[${begun.map(({ request }) => request.body).join(",")}]`;
        const response = await late(
            wire.request({ ...first!.request, body, onMessage: this.taker(calls, wire.trace, speaker) }),
            this.world.limitMs,
        );
        for (const call of calls) this.conclude(call, response);
    }

    async modern(): Promise<void> {
        const place = this.place();
        if (place.upstream?.isPerSession) return this.legacy();
        const speaker = this.modernSpeaker(place.path, place.upstream, this.random.chance(0.5));
        const left = this.random.chance(0.3) ? this.world.left.shift() : undefined;
        if (left !== undefined) await comeBackLate(this, left);
        const wire = this.wire("modern");
        if (this.random.chance(0.5)) await this.#lists(wire, speaker);
        if (this.random.chance(0.2))
            await this.ask(wire, speaker, "server/discover", {}, place.upstream?.isCalm ?? true);
        if (this.random.chance(0.3)) await this.#pipeline(wire, speaker);
        wire.close();
        await this.calls(speaker, "modern");
        return undefined;
    }

    /** Requests one behind the other without waiting; their responses come in that order. */
    async #pipeline(wire: Wire, speaker: Speaker): Promise<void> {
        const begun = Array.from({ length: this.random.int(2, 6) }, () => this.begin(speaker, wire.trace, { isHarmless: true }));
        const pending = begun.map(({ call, request }) =>
            wire.request({ ...request, onMessage: this.taker([call], wire.trace, speaker) }),
        );
        const limit = this.world.limitMs * 2;
        for (const [index, { call }] of begun.entries()) this.conclude(call, await late(pending[index]!, limit));
    }

    async slowReader(): Promise<void> {
        const wire = this.wire("slow reader", {
            bytes: this.random.pick([1024, 16_384, 65_536]),
            ms: this.random.int(5, 30),
        });
        const speaker = this.modernSpeaker("/mcp");
        const upstream = this.random.pick(this.world.upstreams.filter((each) => !each.isPerSession));
        const id = speaker.nextId();
        const { books, limitMs } = this.world;
        const call = books.begin(wire.trace, upstream.name, upstream.isCalm, id, {
            do: "big",
            n: this.random.int(MIB / 4, this.random.chance(0.3) ? 5 * MIB : MIB),
            ms: 0,
        });
        const request = speaker.request("tools/call", { name: `${upstream.name}__t`, arguments: call.wish }, id);
        const pending = wire.request({ ...request, onMessage: this.taker([call], wire.trace, speaker) });
        if (this.random.chance(0.4)) {
            await late(pending, this.random.int(100, 3000));
            books.drop(call, "hung up while it reads");
            wire.close(true);
        } else {
            // A thousand bytes at a time may take longer than our patience: then it reads the rest as fast as it can.
            const half = await late(pending, limitMs / 4);
            if (half === "late") wire.hurry();
            this.conclude(call, half === "late" ? await late(pending, limitMs) : half);
        }
        wire.close();
    }

    /** A request of which a part is sent; or garbage; or nothing. */
    async half(): Promise<void> {
        const { random, world } = this;
        const speaker = this.modernSpeaker("/mcp");
        const bytes = Wire.bytes(
            speaker.request(
                "tools/call",
                { name: "calm__t", arguments: { pad: "x".repeat(random.int(0, 50_000)) } },
                1,
            ),
        );
        const part = random.pick([
            bytes.slice(0, random.int(0, bytes.length - 1)),
            bytes.slice(0, random.int(0, 400)),
            "\x16\x03\x01\x02\x00\x01\x00\x01",
            "GET / HTTP/1.1\r\n\r\n",
            "",
        ]);
        await Promise.all(
            Array.from({ length: random.int(1, 20) }, async () => {
                const socket = net.connect({ host: "127.0.0.1", port: world.target.port });
                socket.on("error", () => {});
                socket.resume().write(part);
                const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
                const wait = random.int(0, 2000);
                if ((await late(closed, wait)) !== "late") return;
                if (random.chance(0.3)) {
                    socket.end(); // half-closed: what is not whole will never be
                    if ((await late(closed, world.limitMs)) === "late")
                        world.books.violation(`a half-closed connection lives on after ${part.slice(0, 80)}`);
                }
                if (random.chance(0.5)) socket.resetAndDestroy();
                else socket.destroy();
                await closed;
            }),
        );
    }

    /** HTTP+SSE */
    async sse(): Promise<void> {
        await throughStream(this);
    }

    async listen(): Promise<void> {
        await listen(this);
    }

    /** Many connections that come and go. */
    async crowd(): Promise<void> {
        const { random, world } = this;
        await Promise.all(
            Array.from({ length: random.int(10, 60) }, async (_, index) => {
                const wire = this.wire(`crowd ${index}`);
                if (random.chance(0.6)) {
                    const host = { Host: `127.0.0.1:${world.target.port}` };
                    const got = await late(
                        wire.request({ method: "GET", path: "/health", fields: host }),
                        world.limitMs,
                    );
                    if (got === "late" || got.status !== 200)
                        world.books.violation(`/health: ${JSON.stringify(got)}`, wire.trace);
                } else await pause(random.int(0, 200));
                wire.close(random.chance(0.3));
                await wire.closed;
            }),
        );
    }

    /** A client of the official SDKs, whose own checks stand between us and the wire. */
    async sdk(): Promise<void> {
        const { random, world } = this;
        const kind = random.pick(["SDK 1.x", "SDK 2.x legacy", "SDK 2.x modern"]);
        const { port, token } = world.target;
        const trace = new Trace(`${this.name}, ${kind}`);
        const place = { url: `http://127.0.0.1:${port}/mcp`, headers: { Authorization: `Bearer ${token}` } };
        const caller = await CALLERS[kind]!(place).catch((error: unknown) => String(error));
        if (typeof caller === "string") return world.books.violation(`${kind} does not connect: ${caller}`, trace);
        try {
            await caller.request("tools/list");
            for (let left = random.int(1, 12); left > 0 && !world.isOver(); left--) {
                const upstream = choose(world, random, { isModern: caller.isModern });
                const call = world.books.begin(
                    trace,
                    upstream.name,
                    upstream.isCalm,
                    -1,
                    wish(random, upstream.isCalm),
                );
                const abort = new AbortController();
                const stop = () => {
                    world.books.drop(call, "aborted");
                    abort.abort();
                };
                const timer = random.chance(0.1) ? setTimeout(stop, random.int(0, 300)) : undefined;
                const params = { name: `${upstream.name}__t`, arguments: call.wish as never };
                try {
                    const progress = random.chance(0.3);
                    const answer = await caller.request("tools/call", params, { progress, signal: abort.signal });
                    call.id = answer.id!;
                    world.books.answer(call, answer);
                    const times = caller.wire.items.filter(
                        ({ id, method }) => id === answer.id && method === undefined,
                    );
                    if (times.length !== 1)
                        world.books.violation(`${times.length} answers to ${call.wish.nonce}`, trace);
                } catch (error) {
                    const isRefused = /Error POSTing|HTTP \d\d\d|status/i.test(String(error));
                    if (isRefused) world.books.refused(call, 500, String(error));
                    else world.books.ended(call, String(error));
                } finally {
                    clearTimeout(timer);
                }
            }
        } catch (error) {
            world.books.violation(`${kind}: ${String(error)}`, trace);
        }
        await caller
            .close()
            .catch((error: unknown) => world.books.violation(`${kind} closes: ${String(error)}`, trace));
        return undefined;
    }
}

const KINDS = { legacy: 25, modern: 25, sse: 12, listen: 12, sdk: 10, slowReader: 5, half: 7, crowd: 4 };

/** Comes as one client after the other until the load is over. */
export async function visit(world: World, random: Random, name: string, counts: Map<string, number>): Promise<void> {
    for (let n = 1; !world.isOver(); n++) {
        const kind = random.weighted(KINDS);
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
        const visitor = new Visitor(world, random, `${name}, visit ${n} (${kind})`);
        try {
            await visitor[kind]();
        } catch (error) {
            world.books.violation(`${visitor.name}: ${error instanceof Error ? error.stack : String(error)}`);
        }
        await pause(random.int(0, 50));
    }
}

/** Those who were asked and went away come back: a call that waits for its client waits for minutes. */
export async function comeBackAll(world: World, random: Random): Promise<void> {
    const visitor = new Visitor(world, random, "who comes back in the end");
    for (let left: Left | undefined; (left = world.left.shift()) !== undefined;) await comeBackLate(visitor, left);
}
