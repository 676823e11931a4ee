/*
 * The books: every call has a nonce of its own, which stands in its arguments and in every answer that a server gives
 * to it. A call that was neither cancelled nor hung up gets exactly one answer in its time, and it is its own.
 */
import { isDeepStrictEqual } from "node:util";

import type { RpcMessage } from "../integration/lib/control.ts";

const TRACE = 50;

/** What happened on one connection, the last of it. */
export class Trace {
    readonly name: string;
    #lines: string[] = [];

    constructor(name: string) {
        this.name = name;
    }

    note(what: string): void {
        this.#lines.push(`${(performance.now() / 1000).toFixed(3)}  ${what}`);
        if (this.#lines.length > 2 * TRACE) this.#lines.splice(0, TRACE);
    }

    toString(): string {
        return [this.name, ...this.#lines.slice(-TRACE)].join("\n    ");
    }
}

/** What the arguments of a call ask for; the words are those of soak_child.c and servers.ts. */
export interface Wish {
    nonce: string;
    do: string;
    n: number;
    ms: number;
}

export interface Call {
    wish: Wish;
    id: string | number;
    upstream: string;
    /** nothing disturbs this server, and what is asked for does no harm: only the result is good enough */
    isCalm: boolean;
    trace: Trace;
    started: number;
    /** open: an answer is owed. dropped: cancelled or hung up, nothing is owed any more */
    state: "open" | "answered" | "dropped";
    lastProgress: number;
    /** what its client said when it was asked; not yet (or never): undefined */
    said?: string;
    /** its server may be told that nobody can be asked */
    mayBeDeclined?: boolean;
    /** its server gives up before long; one of 2026-07-28 does not wait for the answer */
    maySayNothing?: boolean;
    /** the result that asks for more, of a client without a session */
    wanted?: Wanted;
}

/** What a client of 2026-07-28 is to come back with. */
export interface Wanted {
    inputRequests: { [key: string]: { method: string; params: { message?: string } } };
    requestState: string;
}

const ALLOWED: { [what: string]: "result" | "isError" | "error" } = { fail: "isError", refuse: "error" };

/** The same for the same reason: without numbers, nonces and addresses. */
const kindOf = (text: string): string =>
    text
        .replace(/[0-9a-z]+-\d+-\d+/g, "NONCE")
        .replace(/\d+(\.\d+)*/g, "#")
        .slice(0, 110);

const textOf = (message: RpcMessage): string | undefined => {
    const content = message.result?.content as { text?: string }[] | undefined;
    return content?.[0]?.text;
};

/**
 * What comes of a question: the nonce when the client has said so, else what was said in place of it. Whose call a shared
 * server's question is is not known, so it may be declined whatever the client says.
 */
function isTrue({ wish: { nonce }, said, mayBeDeclined }: Call, text: string): boolean {
    if (said !== undefined && text === (said === "accept" ? nonce : `${said} ${nonce}`)) return true;
    return mayBeDeclined === true && (text === `decline ${nonce}` || text === `cancel ${nonce}`);
}

/** What put_text() in soak_child.c writes. */
export function textFor(wish: Wish): string {
    if (wish.do !== "big") return wish.nonce;
    return `${wish.nonce},`.repeat(Math.ceil(wish.n / (wish.nonce.length + 1))).slice(0, wish.n);
}

export class Books {
    readonly violations: string[] = [];
    /** answers with an error, and calls without any where none is owed, by kind */
    readonly errors = new Map<string, number>();
    calls = 0;
    results = 0;
    refusals = 0;
    dropped = 0;
    /** clients were asked, and told unasked, so often */
    asks = 0;
    news = 0;
    maxLatency = 0;
    slowest = "";
    readonly #seed: number;
    readonly #open = new Set<Call>();
    readonly #ran = new Map<string, number>();
    #next = 0;

    constructor(seed: number) {
        this.#seed = seed;
    }

    get open(): number {
        return this.#open.size;
    }

    violation(what: string, trace?: Trace): void {
        this.violations.push(trace === undefined ? what : `${what}\n  the last of ${trace}`);
    }

    count(kind: string): void {
        const short = kindOf(kind);
        this.errors.set(short, (this.errors.get(short) ?? 0) + 1);
    }

    begin(trace: Trace, upstream: string, isCalm: boolean, id: string | number, what: Omit<Wish, "nonce">): Call {
        const wish = { nonce: `${this.#seed.toString(36)}-${++this.#next}-${this.#next % 97}`, ...what };
        const call: Call = {
            wish,
            id,
            upstream,
            isCalm,
            trace,
            started: performance.now(),
            state: "open",
            lastProgress: 0,
        };
        this.calls++;
        this.#open.add(call);
        trace.note(`call ${this.describe(call)}`);
        return call;
    }

    describe(call: Call): string {
        const { nonce, do: what, n, ms } = call.wish;
        return `${nonce} (id ${call.id}) of ${call.upstream}: ${what} n=${n} ms=${ms}`;
    }

    #settle(call: Call, state: "answered" | "dropped"): void {
        this.#open.delete(call);
        call.state = state;
    }

    /** It was cancelled or hung up: from now on an answer may come or not. */
    drop(call: Call, why: string): void {
        if (call.state !== "open") return;
        call.trace.note(`${why}: ${call.wish.nonce}`);
        this.dropped++;
        this.#settle(call, "dropped");
    }

    /** What came as the answer of this call. */
    answer(call: Call, message: RpcMessage): void {
        const took = performance.now() - call.started;
        call.trace.note(`answer to ${call.wish.nonce} after ${took.toFixed(0)} ms: ${summary(message)}`);
        if (call.state === "answered") {
            return this.violation(`two answers to ${this.describe(call)}: ${summary(message)}`, call.trace);
        }
        if (call.state === "open" && took > this.maxLatency) {
            this.maxLatency = took;
            this.slowest = `${this.describe(call)}, on the ${call.trace.name}`;
        }
        this.#settle(call, "answered");
        if (message.id !== call.id) {
            this.violation(`an answer with the id ${message.id} to ${this.describe(call)}`, call.trace);
        } else this.#judge(call, message);
    }

    #judge(call: Call, message: RpcMessage): void {
        const { wish } = call;
        const text = message.error === undefined ? textOf(message) : message.error.message;
        const form = message.error !== undefined ? "error" : message.result?.isError === true ? "isError" : "result";
        if (text === undefined) {
            return this.violation(`no text in the answer to ${this.describe(call)}: ${summary(message)}`, call.trace);
        }
        const isRight = wish.do === "ask" ? isTrue(call, text) : text === textFor(wish);
        if (form === (ALLOWED[wish.do] ?? "result") && isRight) {
            this.results++;
            return undefined;
        }
        const foreign = /[0-9a-z]+-\d+-\d+/.exec(text)?.[0];
        if (form === "result" || (foreign !== undefined && foreign !== wish.nonce)) {
            return this.violation(`the answer of another to ${this.describe(call)}: ${summary(message)}`, call.trace);
        }
        if (call.isCalm) {
            return this.violation(`nothing disturbed ${this.describe(call)}, but: ${summary(message)}`, call.trace);
        }
        this.refusals++;
        this.count(text);
        return undefined;
    }

    /** Its server asks, and this is for its client; false: it is not. */
    asked(call: Call, message: RpcMessage, params: { message?: string } | undefined): boolean {
        this.asks++;
        call.trace.note(`asked: ${summary(message)}`);
        const isOurs = call.wish.do === "ask" && params?.message === call.wish.nonce;
        if (!isOurs) this.violation(`the question of another with ${this.describe(call)}: ${summary(message)}`, call.trace);
        else if (call.state === "answered" && call.said === undefined && call.mayBeDeclined === true) {
            return false; // the stream of the call that it was taken for has ended, and this is read after the answer
        } else if (call.state === "answered" || call.said !== undefined) {
            this.violation(`asked again: ${this.describe(call)}: ${summary(message)}`, call.trace);
            return false;
        }
        return isOurs;
    }

    /** The request of this call was refused as a whole, by a status or a message without its id. */
    refused(call: Call, status: number, said: string): void {
        if (call.state === "answered") {
            return this.violation(`a status ${status} for ${this.describe(call)}, which has its answer`, call.trace);
        }
        const isOwed = call.state === "open";
        call.trace.note(`status ${status} for ${call.wish.nonce}: ${said.slice(0, 200)}`);
        this.#settle(call, "answered");
        if (!isOwed) return undefined;
        if (status < 400 || said === "") {
            return this.violation(`neither answer nor reason (${status}) for ${this.describe(call)}`, call.trace);
        }
        if (call.isCalm) {
            return this.violation(`nothing disturbed ${this.describe(call)}, but ${status}: ${said}`, call.trace);
        }
        this.refusals++;
        this.count(`${status} ${said}`);
        return undefined;
    }

    /** Its connection or its stream ended, or its time is over: fine only when nothing is owed. */
    ended(call: Call, how: string): void {
        call.trace.note(`${how}: ${call.wish.nonce}`);
        if (call.state !== "open") return;
        this.#settle(call, "answered");
        this.violation(
            `no answer to ${this.describe(call)} after ${(performance.now() - call.started).toFixed(0)} ms: ${how}`,
            call.trace,
        );
    }

    /** A message without an answer in it, which came where only this call's belong. */
    notified(call: Call, message: RpcMessage): void {
        if (message.method !== "notifications/progress") return;
        const params = message.params as { progressToken?: unknown; progress?: number; message?: string };
        if (!isDeepStrictEqual(params.progressToken, `t-${call.wish.nonce}`) || params.message !== call.wish.nonce) {
            this.violation(`progress of another with ${this.describe(call)}: ${summary(message)}`, call.trace);
        } else if (call.state === "answered") {
            this.violation(`progress after the answer to ${this.describe(call)}`, call.trace);
        } else if (!(params.progress! > call.lastProgress && params.progress! <= call.wish.n)) {
            this.violation(
                `progress ${params.progress} after ${call.lastProgress}: ${this.describe(call)}`,
                call.trace,
            );
        }
        call.lastProgress = params.progress!;
    }

    /** A server of the soak's own process runs the call. The tools do not say that they may run twice. */
    ran(nonce: string): void {
        const times = (this.#ran.get(nonce) ?? 0) + 1;
        this.#ran.set(nonce, times);
        if (times > 1) this.violation(`${nonce} was run ${times} times`);
        if (this.#ran.size > 50_000) for (const old of [...this.#ran.keys()].slice(0, 25_000)) this.#ran.delete(old);
    }
}

export function summary(message: RpcMessage): string {
    const text = JSON.stringify(message);
    return text.length <= 400 ? text : `${text.slice(0, 300)}... (${text.length} characters)`;
}
