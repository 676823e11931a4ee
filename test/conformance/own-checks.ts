/*
 * Our own checks of what a client sees at an endpoint with the fixture behind it, in few requests: each is a claim
 * about one thing, so that the one that fails names what is wrong. They know nothing of a gateway.
 */
import assert from "node:assert/strict";

import type { OwnCheck } from "./checks/common.ts";
import { legacy } from "./checks/legacy.ts";
import { modern } from "./checks/modern.ts";
import { LegacySession, text } from "./lib/wire.ts";

export const ownChecks: OwnCheck[] = [...legacy, ...modern];

/** Ends what checks may have left behind at a fixture. */
export async function release(port: number): Promise<void> {
    const endpoint = { port, path: "/mcp", signal: AbortSignal.timeout(10_000) };
    const session = await LegacySession.open(endpoint);
    assert.equal(text(await session.call("test_release")), "released");
}

/** Runs a check; an error says why it failed. After so many ms it has failed, too. */
export async function runOwnCheck(check: OwnCheck, port: number, path: string, ms: number): Promise<Error | undefined> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(new Error(`not done after ${ms} ms`)), ms);
    try {
        await check.run({ port, path, signal: abort.signal });
        return undefined;
    } catch (error) {
        return abort.signal.aborted ? (abort.signal.reason as Error) : (error as Error);
    } finally {
        clearTimeout(timer);
        abort.abort(new Error("the check is over"));
    }
}
