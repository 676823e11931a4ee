/*
 * audit.mode = "required" and a power failure at any moment: kill -9 under load, then the disk loses what was not synced
 * (lib/power.ts), and the gateway starts again on what is left. Every call that reached its server has its intent, every
 * call that was answered has its outcome, and the trail verifies.
 *
 * CARDEA_TEST_KILLS says how many kills there are in all (40; the measured number is 300), CARDEA_TEST_SEED where they are.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { startHttp } from "./fixtures/http-server.ts";
import { auditDir, isVerified, markOf, Reader, type Placed } from "./lib/audit.ts";
import { launchGateway, startGateway, type Config, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { served } from "./lib/http.ts";
import { Marks } from "./lib/marks.ts";
import { Disk } from "./lib/power.ts";
import { random } from "./lib/random.ts";
import { temporaryFolder } from "./lib/temp.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const NOTING = join(BUILD, "test", "hostile", "noting_server");
const KILLS = Number(process.env.CARDEA_TEST_KILLS ?? 40);
const SEED = Number(process.env.CARDEA_TEST_SEED ?? 1);
const AT_ONCE = 8;
const TOOL = "it__echo";
/** Segments of 1 MiB, and all of them are kept. */
const MAX_BYTES = "16MiB";

/** A server, and the marks that reached it, each given once. */
interface Server {
    config: ServerConfig;
    received(): string[];
}

const marksIn = (text: string): string[] => text.match(/mark-[0-9a-z-]+/g) ?? [];

async function httpServer(t: TestContext): Promise<Server> {
    const fixture = await startHttp({}, t);
    return {
        config: { url: fixture.url },
        received: () => fixture.requests.items.splice(0).flatMap(({ body }) => marksIn(body)),
    };
}

async function stdioServer(t: TestContext): Promise<Server> {
    const folder = temporaryFolder(), notes = join(folder, "notes");
    let seen = 0;
    return {
        config: { cmd: [NOTING, notes], share: "all" },
        received: () => {
            if (!existsSync(notes)) return [];
            const text = readFileSync(notes, "latin1");
            const whole = text.slice(seen, text.lastIndexOf("\n") + 1);
            seen += whole.length;
            return marksIn(whole);
        },
    };
}

/** Intents by mark, and outcomes by id. */
class Trail {
    readonly intents = new Map<string, Placed>();
    readonly outcomes = new Map<string, Placed>();
    constructor(dataDir: string) {
        for (const placed of new Reader(dataDir).more()) {
            const { line } = placed, mark = line.event === "intent" ? markOf(line) : undefined;
            if (mark !== undefined) this.intents.set(mark, placed);
            if (line.event === "outcome") this.outcomes.set(String(line.id), placed);
        }
    }
    outcomeOf(mark: string): Placed | undefined {
        return this.outcomes.get(String(this.intents.get(mark)?.line.id));
    }
}

/** kill -9 in so many milliseconds; resolves when it is gone. */
const killIn = (gateway: Gateway, ms: number): Promise<void> =>
    new Promise((resolve, reject) => void setTimeout(() => void gateway.kill().then(resolve, reject), ms));

const configOf = (server: Server, workers: number): Config => ({
    server: { workers },
    // So small that segments end under load, too.
    audit: { mode: "required", ...(workers === 2 ? { max_bytes: MAX_BYTES } : {}) },
    servers: { it: server.config },
});

describe("a power failure in required mode", () => {
    for (const [kind, start] of [["HTTP", httpServer], ["stdio", stdioServer]] as const) {
        for (const workers of [1, 2]) {
            const kills = Math.ceil(KILLS / 4);
            test(`${kills} times, ${workers} workers, a server over ${kind}`, { timeout: 60_000 + kills * 4_000 }, async (t) => {
                const folder = temporaryFolder(), dataDir = join(folder, "data");
                        const server = await start(t);
                const disk = new Disk(auditDir(dataDir), join(folder, "disk"), { is_fake: 1 });
                const die = random(SEED * 1000 + workers * 100 + kind.length);
                const reached = new Set<string>(), answered = new Set<string>();
                const launch = (): Gateway =>
                    // Not written down by the canary: of what it says a test of its own asks, and there are hundreds.
                    launchGateway({ config: configOf(server, workers), dataDir, env: disk.env(), canary: false, args: ["--log", "info"] });
                let lost: string[] = [];
                let n = { reached: 0, answered: 0, open: 0, starts: 0, changed: 0 };

                const isAllThere = async (gateway: Gateway, round: string) => {
                    const trail = new Trail(dataDir);
                    const why = `${round}; the disk: ${lost.join("; ") || "as it was"}\n${gateway.tail(10)}`;
                    const unrecorded = [...reached].filter((mark) => !trail.intents.has(mark));
                    assert.deepEqual(unrecorded.slice(0, 5), [], `${unrecorded.length} of ${reached.size} calls reached the server without an intent, ${why}`);
                    const open = [...answered].filter((mark) => trail.outcomeOf(mark) === undefined);
                    assert.deepEqual(open.slice(0, 5), [], `${open.length} of ${answered.size} calls were answered without an outcome, ${why}`);
                    n = { ...n, reached: reached.size, answered: answered.size };
                    n.open = [...reached].filter((mark) => trail.outcomeOf(mark) === undefined).length;
                };

                for (let round = 0; round < kills; round++) {
                    disk.set({ sync_delay_us: die(5) * 1000 });
                    const gateway = launch();
                    // Some never get up.
                    const isEarly = die(6) === 0;
                    try {
                        if (isEarly) {
                            n.starts++;
                            await killIn(gateway, die(200));
                        } else {
                            await gateway.ready();
                            await isAllThere(gateway, `before the kill ${round}`);
                            if (round % 5 === 1) await isVerified(dataDir);
                            await served(gateway, TOOL);
                            const load = await new Marks(gateway, TOOL, `${round}`, AT_ONCE).withSession();
                            const done = load.run(AT_ONCE);
                            await killIn(gateway, die(150));
                            await done;
                            load.end();
                            for (const mark of load.answered) answered.add(mark);
                        }
                    } finally {
                        await gateway.kill();
                        await gateway.stop();
                    }
                    for (const mark of server.received()) reached.add(mark);
                    lost = disk.fail(die, die(3) === 0);
                    n.changed += lost.length > 0 ? 1 : 0;
                }
                const gateway = launch();
                t.after(() => gateway.stop());
                await gateway.ready();
                await isAllThere(gateway, "at the end");
                await gateway.stop();
                await isVerified(dataDir);
                t.diagnostic(
                    `${n.reached} calls reached the server, ${n.answered} were answered, ${n.open} have no outcome; ` +
                        `${n.starts} kills while it started; ${n.changed} times the disk lost something`,
                );
                assert.ok(n.answered > kills, `${n.answered} calls were answered: the load was none`);
                assert.ok(n.changed > 0, "nothing was ever lost: the test proves nothing");
            });
        }
    }
});

describe("the order of things in required mode", () => {
    for (const [kind, start] of [["HTTP", httpServer], ["stdio", stdioServer]] as const) {
        test(`to a server over ${kind}: the intent is synced before the first byte, the outcome before the answer`, async (t) => {
            const folder = temporaryFolder(), dataDir = join(folder, "data");
                const server = await start(t);
            const disk = new Disk(auditDir(dataDir), join(folder, "disk"), { sync_delay_us: 3000, is_traced: 1 });
            const gateway = await startGateway({ config: configOf(server, 2), dataDir, env: disk.env() }, t);
            await served(gateway, TOOL);
            const load = await new Marks(gateway, TOOL, "t", 16).withSession();
            await load.run(16, 400);
            load.end();
            assert.equal(load.answered.size, 400, JSON.stringify([...load.refused].slice(0, 3)));
            await gateway.stop();

            const trail = new Trail(dataDir);
            const inodes = new Map<string, string>();
            const inodeOf = (file: string) => {
                if (!inodes.has(file)) inodes.set(file, String(statSync(join(auditDir(dataDir), file), { bigint: true }).ino));
                return inodes.get(file)!;
            };
            /** How much of each file is synced, as the trace is read. */
            const synced = new Map<string, number>();
            const isSynced = (placed: Placed) => (synced.get(inodeOf(placed.file)) ?? 0) >= placed.end;
            const seen = { synced: 0, upstream: new Set<string>(), client: new Set<string>() };
            for (const event of disk.trace()) {
                if (event.kind === "synced") {
                    seen.synced++;
                    synced.set(String(event.inode), Math.max(synced.get(String(event.inode)) ?? 0, event.size));
                } else if (event.kind === "upstream") {
                    const intent = trail.intents.get(event.mark);
                    assert.ok(intent !== undefined, `${event.mark} went to the server and has no intent`);
                    assert.ok(isSynced(intent), `${event.mark} went to the server before its intent was synced`);
                    seen.upstream.add(event.mark);
                } else if (event.kind === "client") {
                    const outcome = trail.outcomeOf(event.mark);
                    assert.ok(outcome !== undefined, `${event.mark} was answered and has no outcome`);
                    assert.ok(isSynced(outcome), `${event.mark} was answered before its outcome was synced`);
                    seen.client.add(event.mark);
                }
            }
            assert.deepEqual([seen.upstream.size, seen.client.size], [400, 400], "each was seen to leave");
            t.diagnostic(`${seen.synced} syncs for 400 calls, 16 at once`);
            assert.ok(seen.synced < 700, `${seen.synced} syncs for 800 records: they are not committed in groups`);
        });
    }
});
