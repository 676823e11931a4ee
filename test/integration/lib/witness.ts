/*
 * What must hold whatever one upstream or client does: others are served at the same time as if nothing were, and
 * afterwards nothing is left of it.
 */
import assert from "node:assert/strict";

import { cardea } from "./cli.ts";
import type { RpcMessage } from "./control.ts";
import type { Gateway } from "./gateway.ts";
import { send } from "./http.ts";
import { descendants, descriptors } from "./proc.ts";
import { refusal, said } from "./upstreams.ts";
import { until } from "./wait.ts";

/** Longer than any honest call takes on a loaded machine with a sanitizer build, shorter than what misbehaves. */
const DISTURBED_MS = 3000;

/** Runs `call` again and again until `done` settles; each has to work, and soon. How often it ran. */
export async function undisturbed(done: Promise<unknown>, what: string, call: () => Promise<unknown>): Promise<number> {
    let isDone = false;
    const ended = () => void (isDone = true);
    void done.then(ended, ended);
    let n = 0;
    do {
        const from = performance.now();
        await call();
        const took = performance.now() - from;
        assert.ok(took < DISTURBED_MS, `${what} took ${Math.round(took)} ms`);
        n++;
    } while (!isDone);
    return n;
}

export interface Holding {
    descriptors: number;
    processes: number;
    sessions: number;
    /** bytes */
    held: number;
}

/** What a worker opens at its first connection, and keeps, is not to be counted: every worker gets one. */
export async function warm(gateway: Gateway): Promise<void> {
    const asks = Array.from({ length: 40 }, () => send(gateway, { method: "GET", path: "/health", token: false }));
    for (const { status } of await Promise.all(asks)) assert.equal(status, 200);
}

export async function holding(gateway: Gateway): Promise<Holding> {
    const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
    assert.equal(run.code, 0, run.stderr);
    const { status } = JSON.parse(run.stdout) as { status: { sessions: number; held: number } };
    return {
        descriptors: process.getuid!() === 0 ? descriptors(gateway) : 0,
        processes: descendants(gateway.pid).length,
        sessions: status.sessions,
        held: status.held,
    };
}

/** Waits until no more is held than before. */
export async function isReleased(gateway: Gateway, before: Holding, ms?: number): Promise<void> {
    let now = before;
    await until(
        async () => {
            now = await holding(gateway);
            return (Object.keys(before) as (keyof Holding)[]).every((key) => now[key] <= before[key]);
        },
        () => `all is released: ${JSON.stringify(now)}, before ${JSON.stringify(before)}`,
        ms,
    );
}

export const TIMEOUT_MS = 800;
export const MAX_TIMEOUT_MS = 1600;
/** For an upstream that misbehaves: each way of it is to be seen, not the breaker that hides it after some. */
export const impatient = {
    timeout: `${TIMEOUT_MS}ms`,
    max_timeout: `${MAX_TIMEOUT_MS}ms`,
    startup_timeout: "1s",
    shutdown_timeout: "200ms",
    failure_threshold: 0,
};
/** How much later than configured an error may come on a loaded machine with a sanitizer build. */
const SLACK_MS = 4000;
/** Nothing that is said to a caller holds any of these. */
const INTERNAL = /0x[0-9a-f]{6}|errno|\/proc|\.c:\d|hostile_server|127\.0\.0\.1|hunter2/;

/** What a call gives: an error, soon and clear; or this text, for some ways to misbehave have an answer in them. */
export async function isSettled(
    calling: Promise<RpcMessage>,
    expected: RegExp | string,
    max = MAX_TIMEOUT_MS,
): Promise<void> {
    const from = performance.now();
    const answer = await calling;
    const took = performance.now() - from;
    assert.ok(took < max + SLACK_MS, `${Math.round(took)} ms`);
    if (typeof expected === "string") {
        assert.equal(await said(answer), expected);
        return;
    }
    // A tool that was never listed is unknown, which is an error of the protocol.
    const why = answer.error?.message ?? (await refusal(answer));
    assert.match(why, expected);
    assert.doesNotMatch(why, INTERNAL);
    assert.ok(why.length < 400, why);
}
