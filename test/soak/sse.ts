/* A client of HTTP+SSE (2024-11-05): everything that it is told comes on one stream, which is its session. */
import type { RpcMessage } from "../integration/lib/control.ts";
import { initialize, VERSIONS } from "../integration/lib/http.ts";
import { answerQuestion } from "./asks.ts";
import { summary, type Call } from "./books.ts";
import type { Visitor } from "./clients.ts";
import { inSession } from "./listens.ts";
import { Hearing } from "./news.ts";
import { pause } from "./random.ts";
import type { Wire } from "./wire.ts";
import { late, type Speaker, type Upstream } from "./world.ts";

type Waiting = (message: RpcMessage | undefined) => void;

class StreamClient {
    readonly visitor: Visitor;
    readonly wire: Wire;
    readonly hearing: Hearing;
    readonly #waiting = new Map<string | number, Waiting>();
    readonly #calls = new Map<string, Call>();
    #posts: Wire | undefined;
    #speaker: Speaker | undefined;
    #isLeaving = false;

    constructor(visitor: Visitor) {
        this.visitor = visitor;
        this.wire = visitor.wire("stream");
        this.hearing = new Hearing(visitor.world.books, this.wire.trace);
    }

    /** Where its messages go; undefined: that is a violation. */
    async open(path: string): Promise<string | undefined> {
        const { visitor, wire } = this;
        let found: (path: string) => void;
        const endpoint = new Promise<string>((resolve) => (found = resolve));
        const fields = { ...visitor.fields, Accept: "text/event-stream" };
        const onMessage = (message: RpcMessage) => this.#take(message);
        const request = { method: "GET", path: `${path}/sse`, fields, onMessage, onEndpoint: (at: string) => found(at) };
        void wire.request(request).then((response) => {
            if (!this.#isLeaving)
                visitor.world.books.violation(`a stream ends: ${JSON.stringify(response)}`, wire.trace);
            this.#end("the stream ended");
        });
        const at = await late(endpoint, visitor.world.limitMs);
        if (at !== "late" && /^\/[^/]/.test(at)) return at;
        visitor.world.books.violation(`the endpoint is ${at}`, wire.trace);
        return undefined;
    }

    speaks(speaker: Speaker): void {
        this.#speaker = speaker;
    }

    #take(message: RpcMessage): void {
        const { books } = this.visitor.world;
        if (this.#isLeaving) return;
        if (message.method === undefined) {
            const call = [...this.#calls.values()].find(({ id }) => id === message.id);
            const waiting = this.#waiting.get(message.id!);
            if (call !== undefined) books.answer(call, message);
            else if (waiting === undefined)
                return books.violation(`an answer to nothing: ${summary(message)}`, this.wire.trace);
            this.#waiting.delete(message.id!);
            return waiting?.(message);
        }
        const { message: nonce, progressToken } = (message.params ?? {}) as { [key: string]: string | undefined };
        const call = this.#calls.get(nonce ?? String(progressToken).slice(2));
        if (message.method === "elicitation/create" && message.id !== undefined) {
            if (call === undefined) books.violation(`the question of another: ${summary(message)}`, this.wire.trace);
            else if (books.asked(call, message, { message: nonce! })) void this.#answer(call, message.id!);
        } else if (message.method === "notifications/progress") {
            if (call === undefined) books.violation(`progress of another: ${summary(message)}`, this.wire.trace);
            else books.notified(call, message);
        } else if (message.method !== "notifications/cancelled") this.hearing.take(message);
        return undefined;
    }

    async #answer(call: Call, id: string | number): Promise<void> {
        const result = await answerQuestion(this.visitor.random, call);
        if (result === undefined || this.#isLeaving) return;
        const status = await this.post(this.#speaker!.reply(id, result));
        if (status.status !== 202 && call.state === "open")
            this.visitor.world.books.violation(`an answer is not taken: ${JSON.stringify(status)}`, this.wire.trace);
    }

    async post(request: ReturnType<Speaker["reply"]>): Promise<{ status: number; text: string }> {
        const posts = this.#posts === undefined || this.#posts.isClosed ? this.visitor.wire("posts") : this.#posts;
        this.#posts = posts;
        const taken = await late(posts.request(request), this.visitor.world.limitMs);
        return taken === "late" ? { status: 0, text: "too late" } : { status: taken.status, text: taken.broken ?? taken.text };
    }

    /** One request that is no call, as Visitor.ask(). */
    async ask(method: string, params: object, isSure: boolean, body?: RpcMessage): Promise<RpcMessage | undefined> {
        const { books, limitMs } = this.visitor.world;
        const id = body?.id ?? this.#speaker!.nextId();
        const answering = new Promise<RpcMessage | undefined>((resolve) => this.#waiting.set(id!, resolve));
        const request = this.#speaker!.request(method, params as { [key: string]: unknown }, id!);
        const taken = await this.post(body === undefined ? request : { ...request, body: JSON.stringify(body) });
        if (taken.status !== 202) this.#waiting.delete(id!);
        const answer = taken.status === 202 ? await late(answering, limitMs) : undefined;
        if (answer !== "late" && answer?.result !== undefined) return answer;
        const said = `${method}: ${taken.status} ${taken.text} ${typeof answer === "object" ? summary(answer) : answer}`;
        if (isSure || taken.status !== 202 || answer === "late") books.violation(said, this.wire.trace);
        else books.count(said);
        return undefined;
    }

    async call(): Promise<void> {
        const { random, world } = this.visitor;
        const { books, limitMs } = world;
        const { call, request } = this.visitor.begin(this.#speaker!, this.wire.trace, { mayAsk: true });
        this.#calls.set(call.wish.nonce, call);
        const answering = new Promise<RpcMessage | undefined>((resolve) => this.#waiting.set(call.id, resolve));
        const taken = await this.post(request);
        if (taken.status !== 202) {
            this.#waiting.delete(call.id);
            if (!this.#isLeaving) books.refused(call, taken.status, taken.text);
            return;
        }
        if (random.chance(0.07)) {
            await late(answering, random.int(0, 300));
            if (call.state === "open") {
                books.drop(call, "cancelled");
                const params = { requestId: call.id, reason: "no more" };
                await this.post(this.#speaker!.request("notifications/cancelled", params, undefined));
                return;
            }
        }
        if ((await late(answering, limitMs)) === "late") books.ended(call, "too late");
    }

    /** Everything that it had under way is cancelled. */
    hangUp(isReset: boolean): void {
        this.#isLeaving = true;
        for (const call of this.#calls.values()) this.visitor.world.books.drop(call, "the stream was closed");
        this.wire.close(isReset);
        this.#posts?.close();
        this.#end("we hung up");
    }

    #end(how: string): void {
        for (const call of this.#calls.values()) if (call.state === "open") this.visitor.world.books.ended(call, how);
        for (const done of this.#waiting.values()) done(undefined);
        this.#waiting.clear();
    }

    get isOver(): boolean {
        return this.#isLeaving || this.wire.isClosed;
    }
}

async function open(client: StreamClient, path: string, upstream: Upstream | undefined): Promise<boolean> {
    const { visitor } = client;
    const { random, world } = visitor;
    const version = random.pick(["2024-11-05", "2024-11-05", ...VERSIONS]);
    const canAsk = version >= "2025-06-18" && random.chance(0.7);
    const endpoint = await client.open(path);
    if (endpoint === undefined) return false;
    client.speaks(visitor.legacySpeaker(endpoint, version, undefined, { upstream, canAsk }));
    const hello = initialize(version, canAsk ? { elicitation: {} } : {});
    const opened = await client.ask("initialize", {}, true, hello);
    if (opened === undefined) return false;
    const said = await client.post(
        visitor.legacySpeaker(endpoint, version, undefined).request("notifications/initialized", {}, undefined),
    );
    if (said.status !== 202) world.books.violation(`initialized: ${JSON.stringify(said)}`, client.wire.trace);
    return true;
}

/** A visit over HTTP+SSE; many are over before their calls are. */
export async function throughStream(visitor: Visitor): Promise<void> {
    const { random, world } = visitor;
    const { path, upstream } = visitor.place();
    const client = new StreamClient(visitor);
    if (await open(client, path, upstream)) {
        const ask = (method: string, params: object, isSure: boolean) => client.ask(method, params, isSure);
        const hears = await inSession(visitor, client.hearing, ask, upstream);
        if (random.chance(0.3)) await client.ask("ping", {}, true);
        const lanes = Array.from({ length: random.int(1, 4) }, async () => {
            for (let left = random.int(1, 15); left > 0 && !world.isOver() && !client.isOver; left--) await client.call();
        });
        if (random.chance(0.3)) {
            await late(Promise.all(lanes), random.int(0, 1000));
            client.hangUp(random.chance(0.5));
        }
        await Promise.all(lanes);
        if (!client.isOver && random.chance(0.5)) await client.hearing.catchUp(world.limitMs);
        if (!client.isOver) await hears?.end();
        await pause(0);
    }
    client.hangUp(random.chance(0.5));
}
