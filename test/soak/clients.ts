/*
 * The clients: each kind is a function that comes, does some things, and goes. All of them keep the books.
 */
import net from "node:net";

import type { RpcMessage } from "../integration/lib/control.ts";
import { CALLERS } from "../integration/lib/callers.ts";
import { initialize, VERSIONS, type Target } from "../integration/lib/http.ts";
import { ModernClient } from "../integration/lib/modern.ts";
import { summary, Trace, type Books, type Call, type Wish } from "./books.ts";
import { pause, type Random } from "./random.ts";
import { Wire, type Response, type WireRequest } from "./wire.ts";

export interface Upstream {
    name: string;
    isCalm: boolean;
    /** a process or a session of its own for each session, so nothing for clients without one */
    isPerSession?: boolean;
}

export interface World {
    target: Target;
    books: Books;
    upstreams: Upstream[];
    /** how long an answer may take */
    limitMs: number;
    isOver: () => boolean;
}

const HARMLESS = { ok: 40, slow: 12, progress: 12, big: 6, flood: 2, log: 3, fail: 3, refuse: 3, changed: 1 };
const HARMFUL = { hang: 3, crash: 2, "crash-half": 2, stderr: 2, garbage: 2, stray: 3, twice: 3, drip: 4 };
const MIB = 1024 * 1024;

function wish(random: Random, isCalm: boolean): Omit<Wish, "nonce"> {
    const what = random.weighted<string>(isCalm ? HARMLESS : { ...HARMLESS, ...HARMFUL });
    switch (what) {
        case "slow":
            return { do: what, n: 0, ms: random.int(1, 400) };
        case "progress":
            return { do: what, n: random.int(1, 10), ms: random.int(1, 40) };
        case "big":
            return { do: what, n: random.chance(0.15) ? random.int(MIB, 5 * MIB) : random.int(1, MIB / 8), ms: 0 };
        case "flood":
        case "stderr":
            return { do: what, n: random.int(100, 3000), ms: 0 };
        case "log":
            return { do: what, n: random.int(1, 200), ms: 0 };
        case "drip":
            return { do: what, n: 0, ms: random.int(1, 10) };
        default:
            return { do: what, n: 0, ms: 0 };
    }
}

/** How a client of its era says things. */
interface Speaker {
    name: string;
    /** of the one upstream at whose path it is, undefined when it sees all */
    upstream?: Upstream;
    nextId(): number;
    request(method: string, params: { [key: string]: unknown }, id: number | undefined): WireRequest;
}

async function late<T>(promise: Promise<T>, ms: number): Promise<T | "late"> {
    let timer: NodeJS.Timeout | undefined;
    try {
        return await Promise.race([
            promise,
            new Promise<"late">((resolve) => (timer = setTimeout(resolve, ms, "late"))),
        ]);
    } finally {
        clearTimeout(timer);
    }
}

function choose(world: World, random: Random, speaker: { upstream?: Upstream; isModern: boolean }): Upstream {
    if (speaker.upstream !== undefined) return speaker.upstream;
    const fit = world.upstreams.filter((each) => !(speaker.isModern && each.isPerSession));
    const isCalm = random.chance(0.4);
    return random.pick(fit.filter((each) => each.isCalm === isCalm));
}

const toolOf = (speaker: { upstream?: Upstream }, upstream: Upstream) =>
    speaker.upstream === undefined ? `${upstream.name}__t` : "t";

export class Visitor {
    readonly world: World;
    readonly random: Random;
    readonly name: string;
    #wires = 0;

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

    get #fields(): { [name: string]: string } {
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
    #taker(calls: Call[], trace: Trace): (message: RpcMessage) => void {
        const { books } = this.world;
        return (message) => {
            if (message.method !== undefined) {
                if (message.id !== undefined) books.violation(`a request to us: ${summary(message)}`, trace);
                if (calls.length === 1) books.notified(calls[0]!, message);
                return;
            }
            if (message.id === undefined || message.id === null) return; // a refusal of it all
            const call = calls.find((each) => each.id === message.id) ?? calls[0]!;
            books.answer(call, message);
        };
    }

    #conclude(call: Call, response: Response | "late"): void {
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

    #begin(speaker: Speaker, isModern: boolean, trace: Trace, harmless = false): { call: Call; request: WireRequest } {
        const { random, world } = this;
        const upstream = choose(world, random, { upstream: speaker.upstream, isModern });
        const id = speaker.nextId();
        const call = world.books.begin(
            trace,
            upstream.name,
            upstream.isCalm,
            id,
            wish(random, upstream.isCalm || harmless),
        );
        const wantsProgress = call.wish.do === "progress" || random.chance(0.5);
        const params = {
            name: toolOf(speaker, upstream),
            arguments: call.wish,
            ...(wantsProgress ? { _meta: { progressToken: `t-${call.wish.nonce}` } } : {}),
        };
        return { call, request: speaker.request("tools/call", params, id) };
    }

    /** One call on this connection, with what its client may do to it meanwhile. */
    async call(wire: Wire, speaker: Speaker, isModern: boolean): Promise<void> {
        const { random, world } = this;
        const { call, request } = this.#begin(speaker, isModern, wire.trace);
        const fate = random.weighted({ wait: 86, cancel: isModern ? 0 : 7, hangup: 7 });
        const pieces = random.chance(0.03) ? random.int(2, 60) : undefined; // fewer than header_timeout can become too short for
        const pending = wire.request({ ...request, pieces, onMessage: this.#taker([call], wire.trace) });
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
        this.#conclude(call, await late(pending, world.limitMs));
    }

    /** Several calls on as many connections. */
    async calls(speaker: Speaker, isModern: boolean, what: string): Promise<void> {
        const { random, world } = this;
        const lanes = Array.from({ length: random.int(1, 4) }, async () => {
            let wire = this.wire(what);
            for (let left = random.int(1, 15); left > 0 && !world.isOver(); left--) {
                if (wire.isClosed) wire = this.wire(what);
                await this.call(wire, speaker, isModern);
            }
            wire.close();
        });
        await Promise.all(lanes);
    }

    legacySpeaker(path: string, version: string, session: string | undefined, upstream?: Upstream): Speaker {
        let id = 0;
        return {
            name: this.name,
            upstream,
            nextId: () => ++id,
            request: (method, params, number) => ({
                path,
                fields: {
                    ...this.#fields,
                    "Content-Type": "application/json",
                    ...(session === undefined ? {} : { "Mcp-Session-Id": session, "MCP-Protocol-Version": version }),
                },
                body: JSON.stringify({ jsonrpc: "2.0", id: number, method, params }),
            }),
        };
    }

    modernSpeaker(path: string, upstream?: Upstream): Speaker {
        const client = new ModernClient(this.world.target, path);
        let id = 0;
        return {
            name: this.name,
            upstream,
            nextId: () => ++id,
            request: (method, params, number) => {
                const { headers, body } = client.outgoing(method, params, { id: number });
                const fields = {
                    ...this.#fields,
                    "Content-Type": "application/json",
                    ...(headers as { [name: string]: string }),
                };
                return { path, fields, body: JSON.stringify(body) };
            },
        };
    }

    #place(): { path: string; upstream?: Upstream } {
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
        const { path, upstream } = this.#place();
        const version = random.pick(VERSIONS);
        const wire = this.wire("session");
        const unnamed = this.legacySpeaker(path, version, undefined, upstream);
        const opening = { ...unnamed.request("initialize", {}, undefined), body: JSON.stringify(initialize(version)) };
        const opened = await late(wire.request(opening), world.limitMs);
        const session = opened === "late" ? undefined : opened.fields.get("mcp-session-id");
        if (opened === "late" || opened.status !== 200 || session === undefined) {
            world.books.violation(`initialize at ${path}: ${JSON.stringify(opened)}`, wire.trace);
            return wire.close();
        }
        const speaker = this.legacySpeaker(path, version, session, upstream);
        const said = await late(
            wire.request(speaker.request("notifications/initialized", {}, undefined)),
            world.limitMs,
        );
        if (said === "late" || said.status !== 202)
            world.books.violation(`initialized: ${JSON.stringify(said)}`, wire.trace);
        const listening = random.chance(0.5) ? this.#listen(speaker) : undefined;
        if (random.chance(0.7)) await this.#lists(wire, speaker);
        if (random.chance(0.3)) await this.ask(wire, speaker, "ping", {}, true);
        if (random.chance(0.3)) await this.ask(wire, speaker, "logging/setLevel", { level: "debug" }, true);
        if (version === "2025-03-26" && random.chance(0.6)) await this.#batch(wire, speaker);
        await this.calls(speaker, false, "session");
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
        listening?.close(random.chance(0.5));
        wire.close();
    }

    /** Answers have no business on a stream that belongs to no call. */
    #listen(speaker: Speaker): Wire {
        const wire = this.wire("listens");
        const request = { ...speaker.request("", {}, undefined), method: "GET", body: undefined };
        const onMessage = (message: RpcMessage) => {
            if (message.method === undefined)
                this.world.books.violation(`an answer on GET: ${summary(message)}`, wire.trace);
        };
        void wire.request({ ...request, onMessage });
        return wire;
    }

    async #batch(wire: Wire, speaker: Speaker): Promise<void> {
        const begun = Array.from({ length: this.random.int(2, 4) }, () => this.#begin(speaker, false, wire.trace));
        const calls = begun.map(({ call }) => call);
        const [first] = begun;
        const body = `[${begun.map(({ request }) => request.body).join(",")}]`;
        const response = await late(
            wire.request({ ...first!.request, body, onMessage: this.#taker(calls, wire.trace) }),
            this.world.limitMs,
        );
        for (const call of calls) this.#conclude(call, response);
    }

    async modern(): Promise<void> {
        const place = this.#place();
        if (place.upstream?.isPerSession) return this.legacy();
        const speaker = this.modernSpeaker(place.path, place.upstream);
        const wire = this.wire("modern");
        if (this.random.chance(0.5)) await this.#lists(wire, speaker);
        if (this.random.chance(0.2))
            await this.ask(wire, speaker, "server/discover", {}, place.upstream?.isCalm ?? true);
        if (this.random.chance(0.3)) await this.#pipeline(wire, speaker);
        wire.close();
        await this.calls(speaker, true, "modern");
        return undefined;
    }

    /** Requests one behind the other without waiting; their responses come in that order. */
    async #pipeline(wire: Wire, speaker: Speaker): Promise<void> {
        const begun = Array.from({ length: this.random.int(2, 6) }, () => this.#begin(speaker, true, wire.trace, true));
        const pending = begun.map(({ call, request }) =>
            wire.request({ ...request, onMessage: this.#taker([call], wire.trace) }),
        );
        const limit = this.world.limitMs * 2;
        for (const [index, { call }] of begun.entries()) this.#conclude(call, await late(pending[index]!, limit));
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
        const pending = wire.request({ ...request, onMessage: this.#taker([call], wire.trace) });
        if (this.random.chance(0.4)) {
            await late(pending, this.random.int(100, 3000));
            books.drop(call, "hung up while it reads");
            wire.close(true);
        } else {
            // A thousand bytes at a time may take longer than our patience: then it reads the rest as fast as it can.
            const half = await late(pending, limitMs / 4);
            if (half === "late") wire.hurry();
            this.#conclude(call, half === "late" ? await late(pending, limitMs) : half);
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

const KINDS = { legacy: 30, modern: 30, sdk: 12, slowReader: 6, half: 8, crowd: 4 };

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
