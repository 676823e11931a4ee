/*
 * A row for each way in which a stdio upstream misbehaves; test/hostile/hostile_server.c is the program. Of each: the
 * caller gets a clear error soon; another client's calls to the same upstream and calls to another one go on
 * undisturbed meanwhile; and at the end nothing is left: no process, descriptor, session, nothing held.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, type Session } from "./lib/http.ts";
import { said } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";
import { holding, impatient, isReleased, isSettled, undisturbed, warm } from "./lib/witness.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const HOSTILE = join(BUILD, "test", "hostile", "hostile_server");

describe("stdio upstreams that misbehave", () => {
    interface Way {
        /** of the error, or the text of the answer */
        gets: RegExp | string;
        /** misbehaves before there is a session with it: nobody can have one */
        atStart?: boolean;
        more?: { [key: string]: Value };
        /** its process hears nothing any more, and there is a process for each client */
        isLost?: boolean;
        /** of the log, at most */
        lines?: number;
    }
    const ways: { [name: string]: Way } = {
        "hang-start": { gets: /is down|did not start/, atStart: true },
        "exit-start": { gets: /is down|did not start/, atStart: true },
        "list-forever": { gets: /Unknown tool/, atStart: true },
        "list-nonsense": { gets: /Unknown tool/, atStart: true },
        silent: { gets: /800 ms/ },
        twice: { gets: "first" },
        "unknown-id": { gets: /800 ms/ },
        refused: { gets: /refused/ },
        crash: { gets: /stopped before it answered/ },
        "leave-in-answer": { gets: /stopped before it answered/ },
        "stop-in-answer": { gets: /800 ms/ },
        drip: { gets: /\d ms/, isLost: true },
        garbage: { gets: "clear" },
        "garbage-flood": { gets: /stopped before it answered/ },
        "gib-line": { gets: /stopped before it answered/ },
        stderr: { gets: "told", more: { stderr: "pipe", timeout: "20s", max_timeout: "20s" }, lines: 500 },
        "ignore-term": { gets: /800 ms/ },
        "fork-leave": { gets: /stopped before it answered/ },
        "close-stdout": { gets: /stopped before it answered/ },
        "close-stdin": { gets: /800 ms/ },
    };
    let gateway: Gateway;
    before(async () => {
        const server = (name: string, more: object = {}) => [
            name,
            { cmd: [HOSTILE, name], share: "session", ...impatient, ...more },
        ];
        const servers = Object.fromEntries([
            ...Object.entries(ways).map(([name, { more }]) => server(name, more)),
            ["good", { cmd: [HOSTILE, "honest"], share: "session" }],
        ]);
        gateway = await startGateway({ config: { servers }, args: ["--log", "info"] });
        await warm(gateway);
    });
    after(() => gateway?.stop());

    const works = (session: Session, what: string) =>
        until(async () => {
            const { result } = await session.call("echo", { text: "up" });
            return result !== undefined && result.isError !== true;
        }, what);

    for (const [name, { gets, atStart, isLost, lines }] of Object.entries(ways)) {
        test(name, async (t) => {
            const before = await holding(gateway);
            const from = gateway.log.items.length;
            const good = await openSession(gateway, "/mcp/good");
            await works(good, "the good one is up");
            const session = await openSession(gateway, `/mcp/${name}`);
            const other = await openSession(gateway, `/mcp/${name}`);
            if (atStart !== true) {
                await works(session, `${name} is up`);
                await works(other, `${name} is up for another client`);
            }
            const calling = session.call("bad");
            const settled = isSettled(calling, gets);
            const witnesses = [
                undisturbed(calling, "a call to another upstream", () => good.call("echo", { text: "g" }).then(said)),
            ];
            if (atStart !== true) {
                witnesses.push(
                    undisturbed(calling, "another client's call", () => other.call("echo", { text: "o" }).then(said)),
                );
            }
            await settled;
            const [calls] = await Promise.all(witnesses);
            if (isLost === true) await isSettled(session.call("echo"), gets);
            else if (atStart !== true) await works(session, "it serves the same client again");
            for (const each of [session, other, good]) await each.end();
            await isReleased(gateway, before);
            const told = gateway.log.items.slice(from);
            assert.ok(told.length < (lines ?? 60), `${told.length} lines of log: ${JSON.stringify(told.slice(0, 60))}`);
            t.diagnostic(`${calls} calls to the other one meanwhile`);
        });
    }
});
