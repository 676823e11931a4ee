/*
 * The disk is full, read-only, broken or slow, the clock goes backwards, strangers write as much as they can: what the
 * gateway does meanwhile in both modes, and that all works again by itself.
 *
 * CARDEA_TEST_STRANGERS says how many requests of strangers there are (200000).
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { auditDir, isVerified, markOf, Reader, SEGMENT, segments, trailBytes, trailOf, verify, type Line } from "./lib/audit.ts";
import type { RpcMessage } from "./lib/control.ts";
import { launchGateway, startGateway, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { send, served } from "./lib/http.ts";
import { Marks } from "./lib/marks.ts";
import { ModernClient } from "./lib/modern.ts";
import { Disk, EIO, ENOSPC, EROFS } from "./lib/power.ts";
import { random } from "./lib/random.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const CLOCK_SHIM = join(BUILD, "test", "hostile", "libclock_shim.so");
const STRANGERS = Number(process.env.CARDEA_TEST_STRANGERS ?? 200_000);
const SECOND = 1_000_000;

type Mode = "best_effort" | "required";

interface World {
    gateway: Gateway;
    fixture: HttpFixture;
    disk: Disk;
    client: ModernClient;
    dataDir: string;
    /** `echo` only reads, `count` writes */
    read(text?: string): Promise<RpcMessage>;
    write(): Promise<RpcMessage>;
    runs(tool: string): number;
}

const configOf = (url: string, mode: Mode, audit: { [key: string]: Value } = {}): Config => ({
    audit: { mode, ...audit },
    servers: { it: { url, tools: { echo: { access: "read" }, count: { access: "write" } } } },
});

function worldOf(gateway: Gateway, fixture: HttpFixture, disk: Disk, dataDir: string): World {
    const client = new ModernClient(gateway);
    return {
        gateway,
        fixture,
        disk,
        client,
        dataDir,
        read: (text = "x") => client.call("it__echo", { text }),
        write: () => client.call("it__count"),
        runs: (tool) => fixture.brain.runs.get(tool) ?? 0,
    };
}

async function start(t: TestContext, mode: Mode, audit: { [key: string]: Value } = {}, env?: NodeJS.ProcessEnv): Promise<World> {
    const folder = temporaryFolder(), dataDir = join(folder, "data");
    const fixture = await startHttp({}, t);
    const disk = new Disk(auditDir(dataDir), join(folder, "disk"));
    const gateway = await startGateway({ config: configOf(fixture.url, mode, audit), dataDir, env: disk.env(env) });
    t.after(async () => {
        disk.mend(); // whatever the test came to
        await gateway.stop().finally(() => removeFolder(folder));
    });
    await served(gateway, "it__echo", "it__count");
    return worldOf(gateway, fixture, disk, dataDir);
}

const isOk = (message: RpcMessage): boolean => message.error === undefined && message.result?.isError !== true;
/** What a refusal says, of whichever form. */
const reasonOf = (message: RpcMessage): string =>
    message.error?.message ?? (message.result?.content as { text: string }[] | undefined)?.[0]?.text ?? JSON.stringify(message);

/** A sentence about the trail, and nothing of the inside of the machine. */
function isExplained(message: RpcMessage): void {
    const reason = reasonOf(message);
    assert.match(reason, /audit|record/i, reason);
    assert.doesNotMatch(reason, /\/|errno|ENOSPC|EIO|EROFS|jsonl/, reason);
}

/** ~28 KB of arguments that no rule shortens. */
const bulky = (mark: string): { [name: string]: string } => ({
    text: mark,
    ...Object.fromEntries(Array.from({ length: 31 }, (_, i) => [`a${i}`, "x".repeat(900)])),
});

const PROBLEMS: { name: string; settings: Parameters<Disk["set"]>[0] }[] = [
    { name: "a full disk", settings: { write_errno: ENOSPC, open_errno: ENOSPC } },
    { name: "a disk that gets full in the middle of a line", settings: { write_errno: ENOSPC, write_left: 777, open_errno: ENOSPC } },
    { name: "a read-only file system", settings: { write_errno: EROFS, open_errno: EROFS, sync_errno: EROFS } },
    { name: "a disk that fails to sync", settings: { sync_errno: EIO } },
    { name: "a disk that fails in all", settings: { sync_errno: EIO, write_errno: EIO, open_errno: EIO } },
];

describe("best effort", { concurrency: 2 }, () => {
    for (const { name, settings } of PROBLEMS) {
        test(`${name}: reads go on, writes are refused, and all works again by itself`, async (t) => {
            const { disk, read, write, runs, gateway, dataDir, client } = await start(t, "best_effort");
            assert.ok(isOk(await write()), "writes work");
            disk.set(settings);
            assert.ok(isOk(await read()), "a read while nobody knows");
            // The first failure is found by the one who writes, a moment later; a sync comes with a checkpoint.
            await until(async () => !isOk(await write()), "writes are refused");
            const before = runs("count");
            for (let i = 0; i < 20; i++) {
                const refused = await write();
                assert.ok(!isOk(refused), JSON.stringify(refused));
                isExplained(refused);
                const began = performance.now();
                assert.ok(isOk(await read()), "reads go on");
                assert.ok(performance.now() - began < 2000, "and do not wait");
            }
            assert.equal(runs("count"), before, "no refused write reached the server");
            const { status, text } = await send(gateway, { method: "GET", path: "/health", token: false });
            assert.equal(status, 200, text);
            disk.mend();
            await until(async () => isOk(await write()), "writes work again");
            assert.ok(isOk(await read()));
            await client.call("it__echo", { text: "mark-last" });
            await trailOf({ dataDir } as Gateway).find((line) => markOf(line) === "mark-last", "what came afterwards is recorded");
            await gateway.stop(); // which adds up what is recorded, denied and lost
            await isVerified(dataDir);
        });
    }

    test("what does not fit meanwhile is lost, counted, and in a gap", async (t) => {
        const { disk, gateway, dataDir, client, write } = await start(t, "best_effort", { max_arguments: "32KiB" });
        disk.set({ write_errno: ENOSPC, open_errno: ENOSPC });
        const N = 600; // 17 MB, for two workers that hold 4 MiB each
        let next = 0;
        await Promise.all(
            Array.from({ length: 8 }, async () => {
                while (next < N) assert.ok(isOk(await client.call("it__echo", bulky(`mark-${next++}`))), "a read goes on");
            }),
        );
        disk.mend();
        await until(async () => isOk(await write()), "writes work again");
        const trail = trailOf({ dataDir } as Gateway);
        const gap = await trail.find((line) => line.event === "gap", "a gap is written");
        assert.ok(Number(gap.lost) > 0, JSON.stringify(gap));
        assert.ok(String(gap.reason).length > 0, JSON.stringify(gap));
        await gateway.stop();
        const lines = trail.lines;
        const recorded = lines.filter((line) => /^mark-/.test(markOf(line) ?? "")).length;
        const lost = lines.filter(({ event }) => event === "gap").reduce((sum, line) => sum + Number(line.lost), 0);
        assert.ok(recorded + lost >= N && recorded < N, `${recorded} recorded, ${lost} lost, of ${N}`);
        const run = await isVerified(dataDir);
        assert.match(run.stdout, new RegExp(`\\b${lost}\\b.*lost|lost.*\\b${lost}\\b`, "i"), run.stdout);
    });

    test("syncs that take 5 s: reads do not notice", async (t) => {
        const { disk, gateway, read } = await start(t, "best_effort");
        disk.set({ sync_delay_us: 5 * SECOND });
        const times: number[] = [];
        const end = performance.now() + 4000; // several checkpoints
        while (performance.now() < end) {
            const began = performance.now();
            assert.ok(isOk(await read()));
            times.push(performance.now() - began);
        }
        times.sort((a, b) => a - b);
        assert.ok(times.at(-1)! < 2000, `the slowest of ${times.length} took ${times.at(-1)} ms`);
        disk.mend();
        await gateway.stop();
    });
});

describe("required", { concurrency: 2 }, () => {
    for (const { name, settings } of PROBLEMS) {
        test(`${name}: every call is refused, none reaches the server, and all works again by itself`, async (t) => {
            const { disk, read, write, runs, gateway, dataDir, client } = await start(t, "required");
            assert.ok(isOk(await read()) && isOk(await write()), "calls work");
            const before = [runs("echo"), runs("count")];
            disk.set(settings);
            if (settings.write_left !== undefined) await until(async () => !isOk(await read()), "calls are refused");
            const reached = settings.write_left === undefined ? before : [runs("echo"), runs("count")];
            for (let i = 0; i < 10; i++) {
                for (const refused of [await read(), await write()]) {
                    assert.ok(!isOk(refused), JSON.stringify(refused));
                    isExplained(refused);
                }
            }
            assert.deepEqual([runs("echo"), runs("count")], reached, "none reached the server");
            disk.mend();
            await until(async () => isOk(await read()), "calls work again");
            assert.ok(isOk(await write()));
            await client.call("it__echo", { text: "mark-last" });
            await trailOf({ dataDir } as Gateway).find((line) => line.event === "intent" && markOf(line) === "mark-last", "it is recorded");
            await gateway.stop();
            await isVerified(dataDir);
        });
    }

    test("a disk that fails while a call runs: its answer is not given before its outcome is recorded", async (t) => {
        const { disk, fixture, gateway, client, dataDir } = await start(t, "required");
        for (const settings of [{ write_errno: ENOSPC }, { sync_errno: EIO }]) {
            let answer = () => {};
            const act = fixture.act((exchange) => {
                answer = () => exchange.json(exchange.answer("the result"));
            });
            const arrived = fixture.requests.waitFor(({ body }) => body.includes(`"${act.text}"`));
            const answered = client.call("it__echo", { text: act.text });
            await arrived;
            await until(() => answer.length === 0 && fixture.calls(act).length === 1, "the call is at the server");
            disk.set(settings);
            answer();
            let early: RpcMessage | undefined;
            void answered.then((message) => (early = message));
            // Time enough to be answered in, many times over.
            for (let i = 0; i < 50; i++) await client.call("it__echo", { text: "meanwhile" });
            if (early !== undefined) {
                assert.ok(!isOk(early), `it was given: ${JSON.stringify(early)}`);
                isExplained(early);
                assert.doesNotMatch(JSON.stringify(early), /the result/);
            }
            disk.mend();
            await within(answered, "it is answered in the end");
            await until(async () => isOk(await client.call("it__echo", { text: "again" })), "calls work again");
        }
        await gateway.stop();
        await isVerified(dataDir);
    });

    /*
     * The kernel gives up what it could not write, and the next sync of the same file succeeds without it. What nobody was
     * told to be safe may be lost then, and the verifier has to say so; what is confirmed afterwards may not.
     */
    test("a sync that failed has lost what it was for: what is confirmed afterwards is there after a power failure", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const fixture = await startHttp({}, t);
        const disk = new Disk(auditDir(dataDir), join(folder, "disk"));
        const config = configOf(fixture.url, "required");
        const gateway = await startGateway({ config, dataDir, env: disk.env(), canary: false }, t);
        await served(gateway, "it__echo");
        const first = new Marks(gateway, "it__echo", "first", 4);
        await first.run(4, 40);
        disk.set({ sync_errno: EIO });
        const second = new Marks(gateway, "it__echo", "second", 4);
        await second.run(4, 20);
        assert.equal(second.answered.size, 0, "nothing is answered while it cannot be synced");
        disk.mend();
        await until(async () => isOk(await new ModernClient(gateway).call("it__echo", { text: "up" })), "calls work again");
        const third = new Marks(gateway, "it__echo", "third", 4);
        await third.run(4, 40);
        assert.equal(third.answered.size, 40);
        for (const each of [first, second, third]) each.end();
        await gateway.kill();
        t.diagnostic(disk.fail(random(1), true).join("; "));
        // Its trail has a hole, which is looked at here.
        const again = await startGateway({ config, dataDir, env: disk.env(), canary: false, audit: false }, t);
        const marks = new Map<string, string>(), done = new Set<string>();
        for (const line of trailOf(again).lines) {
            if (line.event === "intent" && markOf(line) !== undefined) marks.set(markOf(line)!, String(line.id));
            if (line.event === "outcome") done.add(String(line.id));
        }
        for (const mark of [...first.answered, ...third.answered]) {
            assert.ok(marks.has(mark), `${mark} was answered and has no intent`);
            assert.ok(done.has(marks.get(mark)!), `${mark} was answered and has no outcome`);
        }
        const unsynced = trailOf(again).lines.filter((line) => line.event === "gap" && Number(line.unsynced) > 0);
        await again.stop();
        const run = await verify(dataDir);
        t.diagnostic(`gaps: ${JSON.stringify(unsynced)}; audit verify: ${run.code}, ${run.stdout.trim().split("\n").join(" | ")}`);
        assert.ok(run.code === 0 || unsynced.length > 0, "what is missing is explained by a gap");
    });

    test("syncs that take 3 ms: every call is answered; 5 s: each waits, and health does not", async (t) => {
        const { disk, gateway, read } = await start(t, "required");
        disk.set({ sync_delay_us: 3000 });
        const load = new Marks(gateway, "it__echo", "slow", 32);
        await load.run(32, 600);
        load.end();
        assert.equal(load.answered.size, 600, JSON.stringify([...load.refused].slice(0, 2)));
        disk.set({ sync_delay_us: 5 * SECOND });
        const began = performance.now();
        const slow = read();
        const { status } = await send(gateway, { method: "GET", path: "/health", token: false });
        assert.equal(status, 200);
        assert.ok(performance.now() - began < 2000, "health does not wait");
        const message = await slow;
        assert.ok(!isOk(message) || performance.now() - began >= 5000, "it is not answered before a sync could end");
        disk.mend();
        await gateway.stop();
    });
});

describe("a real disk", () => {
    const noRoot = process.getuid!() !== 0 && "only root can mount a file system";

    test("that is full, and has room again", { skip: noRoot }, async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data"), filler = join(dataDir, "filler");
        mkdirSync(dataDir, { mode: 0o700 });
        try {
            execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", dataDir]);
        } catch {
            removeFolder(folder);
            return t.skip("file systems cannot be mounted here");
        }
        t.after(() => {
            execFileSync("umount", ["-l", dataDir]);
            removeFolder(folder);
        });
        const fixture = await startHttp({}, t);
        for (const mode of ["best_effort", "required"] as const) {
            const gateway = await startGateway({ config: configOf(fixture.url, mode, { max_arguments: "32KiB" }), dataDir });
            try {
                const { read, write, client } = worldOf(gateway, fixture, undefined as never, dataDir);
                await served(gateway, "it__echo", "it__count");
                assert.ok(isOk(await write()));
                const { bavail, bsize } = statfsSync(dataDir);
                const fd = openSync(filler, "w");
                const page = Buffer.alloc(bsize, 1);
                try {
                    for (let i = 0; i < bavail; i++) writeSync(fd, page);
                } catch {
                    // it is full
                }
                closeSync(fd);
                // What was kept in reserve is used up first.
                let n = 0;
                await until(async () => {
                    for (let i = 0; i < 20; i++) await client.call("it__echo", bulky(`mark-${n++}`));
                    return !isOk(await write());
                }, () => `writes are refused; ${n} calls were made`);
                if (mode === "best_effort") assert.ok(isOk(await read()), "reads go on");
                else assert.ok(!isOk(await read()), "reads are refused too");
                rmSync(filler);
                await until(async () => isOk(await write()), "writes work again");
                assert.ok(isOk(await read()));
            } finally {
                rmSync(filler, { force: true });
                await gateway.stop();
            }
            await isVerified(dataDir);
        }
    });

    test("one that is read-only from the beginning: it does not start, and says why", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        mkdirSync(dataDir, { mode: 0o700 });
        for (const mode of ["best_effort", "required"] as const) {
            const disk = new Disk(auditDir(dataDir), join(folder, `disk-${mode}`), { write_errno: EROFS, open_errno: EROFS });
            const gateway = launchGateway({ config: configOf("http://127.0.0.1:9/mcp", mode), dataDir, env: disk.env(), canary: false });
            const { code } = await within(gateway.exited, "it gives up");
            assert.equal(code, 1, gateway.tail());
            assert.match(gateway.tail(), /audit/, gateway.tail());
            gateway.abandon();
        }
    });
});

describe("the clock", () => {
    test("goes backwards by an hour, forwards by a day and back: the trail holds together, in both modes", async (t) => {
        for (const mode of ["best_effort", "required"] as const) {
            const folder = temporaryFolder(), file = join(folder, "clocks");
            const jump = (seconds: number) => {
                const bytes = Buffer.alloc(16);
                bytes.writeBigInt64LE(BigInt(seconds) * 1_000_000_000n, 0);
                const fd = openSync(file, "r+");
                writeSync(fd, bytes, 0, 16, 0);
                closeSync(fd);
            };
            writeFileSync(file, Buffer.alloc(16));
            const { gateway, dataDir, client } = await start(t, mode, {}, { ...process.env, LD_PRELOAD: CLOCK_SHIM, CLOCK_SHIM: file });
            const trail = trailOf(gateway);
            const jumps = [0, -3600, 86_400, -7200, 0];
            for (const [i, seconds] of jumps.entries()) {
                jump(seconds);
                for (let k = 0; k < 10; k++) assert.ok(isOk(await client.call("it__echo", { text: `mark-${i}-${k}` })));
                await trail.find((line) => markOf(line) === `mark-${i}-9`, "it is recorded");
            }
            await gateway.stop();
            const marks = new Set(trail.lines.map(markOf).filter((mark) => mark !== undefined));
            assert.equal(marks.size, jumps.length * 10);
            await isVerified(dataDir);
            removeFolder(folder);
        }
    });
});

describe("the size", () => {
    /** A PROXY header (version 2) for a connection of this address. */
    const proxied = (a: number, b: number, c: number): Buffer =>
        Buffer.from([...Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1"), 0x21, 0x11, 0, 12, a, b, c, 9, 127, 0, 0, 1, 4, 1, 1, 187]);

    test(`${STRANGERS} requests of strangers from as many networks as they like take less than 200 KB, and are counted`, { timeout: 240_000 }, async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const server = { proxy_protocol: true, trusted_proxies: ["127.0.0.1"] };
        const config: Config = { ...configOf("http://127.0.0.1:9/mcp", "best_effort"), server };
        // What so many say would be more than the canary keeps, and there is no credential in it.
        const gateway = await startGateway({ config, dataDir, canary: false, args: ["--log", "info"], keep: 100 }, t);
        const before = trailBytes(dataDir);
        const EACH = 50, NETWORKS = Math.ceil(STRANGERS / EACH);
        const request = "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".repeat(EACH);
        let next = 0, answered = 0;
        const one = async (n: number) => {
            const socket = net.connect({ host: "127.0.0.1", port: gateway.port });
            let got = 0, rest = "";
            const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()).on("error", () => {}));
            socket.on("data", (chunk: Buffer) => {
                const parts = (rest + chunk.toString("latin1")).split("HTTP/1.1 401");
                got += parts.length - 1;
                rest = parts.at(-1)!.slice(-11);
                if (got === EACH) socket.end();
            });
            socket.write(Buffer.concat([proxied(11 + (n >> 16), n >> 8, n & 255), Buffer.from(request)]));
            await within(closed, () => `the answers to a stranger; ${got} came`);
            answered += got;
        };
        await Promise.all(
            Array.from({ length: 16 }, async () => {
                while (next < NETWORKS) await one(next++);
            }),
        );
        assert.equal(answered, NETWORKS * EACH);
        await gateway.stop();
        const grown = trailBytes(dataDir) - before;
        assert.ok(grown < 200_000, `the trail grew by ${grown} bytes`);
        const denied = new Reader(dataDir).lines.filter(({ event }) => event === "denied");
        const sum = denied.reduce((all, line) => all + Number(line.count), 0);
        assert.equal(sum, answered, "each is counted");
        if (NETWORKS > 256) assert.ok(denied.some((line) => line.from === undefined), "what does not fit is in one line together");
        await isVerified(dataDir);
        t.diagnostic(`${answered} requests of ${NETWORKS} networks: ${denied.length} lines, ${grown} bytes`);
    });

    test("audit.max_bytes holds under load, and the rest verifies", { timeout: 120_000 }, async (t) => {
        const MAX = 16 << 20;
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const fixture = await startHttp({}, t);
        const config = configOf(fixture.url, "best_effort", { max_bytes: "16MiB", max_arguments: "32KiB" });
        const gateway = await startGateway({ config, dataDir, canary: false, args: ["--log", "info"] }, t);
        await served(gateway, "it__echo");
        const client = new ModernClient(gateway);
        const most = { all: 0, segments: 0 };
        let next = 0;
        const N = 1200; // 38 MB
        await Promise.all(
            Array.from({ length: 4 }, async () => {
                while (next < N) {
                    assert.ok(isOk(await client.call("it__echo", bulky(`mark-${next++}`))));
                    most.all = Math.max(most.all, trailBytes(dataDir));
                    most.segments = Math.max(most.segments, trailBytes(dataDir, SEGMENT));
                }
            }),
        );
        const last = await trailOf(gateway).find((line) => line.event === "retention", "retention is told");
        assert.ok(Number(last.before) > 1, JSON.stringify(last));
        await gateway.stop();
        t.diagnostic(`at most ${most.segments} bytes of segments, ${most.all} with the index`);
        assert.ok(most.segments <= MAX, `there were ${most.segments} bytes of segments at a time`);
        assert.ok(most.all <= MAX, `there were ${most.all} bytes at a time`);
        assert.ok(trailBytes(dataDir) <= MAX, `${trailBytes(dataDir)} bytes are left`);
        assert.ok(!segments(auditDir(dataDir))[0]!.startsWith("00000000000000000001"), "the first segment is gone");
        const lines: Line[] = new Reader(dataDir).lines;
        assert.ok(lines.some((line) => markOf(line) === `mark-${N - 1}`), "the newest are kept");
        await isVerified(dataDir);
    });
});
