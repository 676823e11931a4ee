/*
 * audit.mode = "required" with a disk that takes its time: what else happens to a call while it waits for its intent, or
 * while its answer is held until the outcome is durable. A call that has its answer gets no other one and reaches no
 * server; nothing is recorded twice; nothing is touched that is gone (a sanitizer's complaint ends each test).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";

import { startHttp, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { auditDir, isVerified, markOf, trailOf, type Line } from "./lib/audit.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway } from "./lib/gateway.ts";
import { openSession, send, served, VERSIONS, type Answer, type Outgoing, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { Disk, EIO, ENOSPC } from "./lib/power.ts";
import { random } from "./lib/random.ts";
import { Redis } from "./lib/redis.ts";
import { reload } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

interface World {
    gateway: Gateway;
    fixture: HttpFixture;
    disk: Disk;
    client: ModernClient;
    config: Config;
}

async function start(t: TestContext, more: Config = {}, options: HttpOptions = {}): Promise<World> {
    const folder = temporaryFolder(), dataDir = join(folder, "data");
    const fixture = await startHttp(options, t);
    const disk = new Disk(auditDir(dataDir), join(folder, "disk"));
    const config: Config = {
        ...more,
        server: { workers: 1, ...more.server },
        audit: { mode: "required" },
        servers: { it: { url: fixture.url } },
    };
    const gateway = await startGateway({ config, dataDir, env: disk.env() });
    t.after(async () => {
        disk.mend();
        await gateway.stop().finally(() => removeFolder(folder));
    });
    return { gateway, fixture, disk, client: new ModernClient(gateway), config };
}

const isRefused = (message: RpcMessage): boolean => message.error !== undefined || message.result?.isError === true;
const toolOf = (message: { params?: unknown } | undefined): string =>
    String((message?.params as { name?: string } | undefined)?.name);
const callsOf = (fixture: HttpFixture, tool: string): number =>
    fixture.received("tools/call").filter(({ message }) => toolOf(message) === tool).length;
/** The records of what was asked of this operation, by event. */
const recorded = (gateway: Gateway, operation: string): Line[] => {
    const lines = trailOf(gateway).lines;
    const ids = new Set(lines.filter((line) => line.operation === operation).map(({ id }) => id));
    return lines.filter(({ id }) => id !== undefined && ids.has(id));
};
const eventsOf = (gateway: Gateway, operation: string): string[] => recorded(gateway, operation).map(({ event }) => event);

/*
 * Everything at once and at random: calls of both eras, batches, hang-ups, cancellations, sessions that end, lists, a
 * server that goes and comes back by reloads, more calls than there are slots, units that are counted in Redis. The disk
 * is slow, and in the second variant fails now and then.
 */
const ROUNDS = Number(process.env.CARDEA_TEST_ROUNDS ?? 150);
const SEED = Number(process.env.CARDEA_TEST_SEED ?? 1);

class Storm {
    readonly world: World;
    readonly die: (below: number) => number;
    readonly answered = new Set<string>();
    readonly sent = new Set<string>();
    #sessions: Session[] = [];
    #running = new Set<Promise<unknown>>();
    #next = 0;

    constructor(world: World, seed: number) {
        this.world = world;
        this.die = random(seed);
    }

    mark(): string {
        const mark = `mark-storm-${(this.#next++).toString(36)}-`;
        this.sent.add(mark);
        return mark;
    }
    params(): { name: string; arguments: { text: string } } {
        return { name: ["it__echo", "it__echo", "it__echo", "it__echo", "it__hold", "gone__echo", "gone__echo", "it__none"][this.die(8)]!, arguments: { text: this.mark() } };
    }
    note(answer: Answer): void {
        for (const mark of answer.text.match(/mark-storm-[0-9a-z]+-/g) ?? []) this.answered.add(mark);
    }
    run(what: Promise<unknown>): void {
        const all: Promise<unknown> = what.catch(() => undefined).finally(() => this.#running.delete(all));
        this.#running.add(all);
    }
    send(outgoing: Outgoing): void {
        const aborter = new AbortController();
        if (this.die(4) === 0) setTimeout(() => aborter.abort(), this.die(40));
        this.run(send(this.world.gateway, { ...outgoing, signal: aborter.signal }).then((answer) => this.note(answer)));
    }

    act(): void {
        const { gateway, fixture, client, disk } = this.world;
        const session = this.#sessions[this.die(Math.max(1, this.#sessions.length))];
        const id = () => this.die(50);
        switch (this.die(14)) {
            case 0:
                this.run(openSession(gateway, "/mcp", VERSIONS[0]).then((opened) => void this.#sessions.push(opened)));
                return;
            case 1: case 2: case 3:
                return this.send(client.outgoing("tools/call", this.params()));
            case 4: case 5:
                if (session !== undefined)
                    this.send({ headers: session.headers, body: { jsonrpc: "2.0", id: id(), method: "tools/call", params: this.params() } });
                return;
            case 6:
                if (session !== undefined)
                    this.run(session.notify("notifications/cancelled", { requestId: id(), reason: "storm" }));
                return;
            case 7:
                if (session !== undefined) {
                    const body = Array.from({ length: 1 + this.die(this.die(8) === 0 ? 100 : 10) }, (_, i) =>
                        ({ jsonrpc: "2.0", id: 1000 + i, method: "tools/call", params: this.params() }));
                    this.send({ headers: session.headers, body });
                }
                return;
            case 8:
                return this.send(client.outgoing(["tools/list", "resources/list", "server/discover"][this.die(3)]!));
            case 9:
                return this.send(client.outgoing("resources/read", { uri: ["test://one", "test://no"][this.die(2)]! }));
            case 10:
                if (session !== undefined && this.die(3) === 0) {
                    this.#sessions = this.#sessions.filter((other) => other !== session);
                    this.run(session.end());
                }
                return;
            case 11:
                fixture.brain.release();
                return;
            case 12:
                disk.set({ sync_delay_us: [0, 1000, 5000, 40_000][this.die(4)]! });
                return;
            case 13:
                return;
        }
    }

    async end(): Promise<void> {
        const releasing = setInterval(() => this.world.fixture.brain.release(), 20);
        while (this.#running.size > 0) await Promise.all(this.#running);
        clearInterval(releasing);
    }
}

const both = (url: string, other: string, isThere: boolean): Config["servers"] => ({
    it: { url, max_in_flight: 30, rate_limits: { limit: 1_000_000, interval: "1h" } },
    ...(isThere ? { gone: { url: other } } : {}),
});

async function storm(t: TestContext, seed: number, more: Config, isFaulty: boolean): Promise<void> {
    const other = await startHttp({}, t);
    const limits = { max_in_flight: [4, 16, 1][seed % 3]!, max_wait: "100ms" };
    const world = await start(t, { ...more, server: { ...more.server, workers: 2, limits } });
    const { gateway, fixture, disk, config } = world;
    const at = (isThere: boolean) => reload(gateway, { ...config, servers: both(fixture.url, other.url, isThere) });
    await at(true);
    await served(gateway, "it__echo", "gone__echo");
    const running = new Storm(world, seed);
    for (let round = 0; round < ROUNDS; round++) {
        for (let i = 0; i < 12; i++) running.act();
        if (round % 15 === 7) running.run(at(round % 2 === 0));
        if (isFaulty && running.die(10) === 0) disk.set(running.die(2) === 0 ? { sync_errno: EIO } : { write_errno: ENOSPC, write_left: running.die(3000) });
        else if (isFaulty && running.die(2) === 0) disk.mend();
        for (let i = running.die(3); i > 0; i--) await world.client.ask("server/discover");
    }
    disk.mend();
    await running.end();
    // Stopped while it works, twice: what is running is cancelled, and has its record.
    for (let i = 0; i < 100; i++) running.act();
    for (let i = running.die(3); i > 0; i--) await world.client.ask("server/discover");
    gateway.process.kill("SIGTERM");
    const ended = running.end();
    await gateway.waitForLog(({ message }) => message === "draining");
    if (running.die(2) === 0) gateway.process.kill("SIGTERM");
    await within(gateway.exited, "the gateway ends");
    await ended;

    const lines = trailOf(gateway).lines, byId = new Map<string, string[]>();
    for (const { id, event } of lines) if (id !== undefined) byId.set(id, [...(byId.get(id) ?? []), event]);
    const wrong = [...byId].filter(([, events]) => !["call", "intent,outcome"].includes(events.join()));
    if (!isFaulty) assert.deepEqual(wrong, [], "records are missing or doubled");
    const intents = new Map(lines.filter(({ event }) => event === "intent").map((line) => [markOf(line), line.id]));
    const outcomes = new Set(lines.filter(({ event }) => event === "outcome").map(({ id }) => id));
    const reached = [fixture, other].flatMap(({ requests }) => requests.items.flatMap(({ body }) => body.match(/mark-storm-[0-9a-z]+-/g) ?? []));
    assert.deepEqual(reached.filter((mark) => !intents.has(mark)), [], "calls reached a server without an intent");
    assert.equal(new Set(reached).size, reached.length, "calls were sent twice");
    const open = [...running.answered].filter((mark) => intents.has(mark) && !outcomes.has(intents.get(mark)));
    assert.deepEqual(open, [], "calls were answered without an outcome");
    if (!isFaulty) assert.match((await isVerified(gateway.dataDir)).stdout, /open calls +0\n/);
    t.diagnostic(`seed ${seed}: ${running.sent.size} calls, ${reached.length} reached a server, ${running.answered.size} answered, ${lines.length} lines`);
    await gateway.stop();
}

describe("at random, in required mode", () => {
    for (const isFaulty of [false, true])
        test(`a disk that is slow${isFaulty ? ", and fails" : ""}`, { timeout: 60_000 + ROUNDS * 100 }, (t) => storm(t, SEED, {}, isFaulty));
    test("with units that are counted in Redis", { timeout: 60_000 + ROUNDS * 100 }, async (t) => {
        const redis = await Redis.start(t);
        const rate_limits = { storage: { type: "redis", url: redis.url } };
        await storm(t, SEED + 1, { server: { rate_limits } }, false);
    });
});

describe("while a call waits for the trail", () => {
    test("a slot gets free for one that has just waited too long for it", async (t) => {
        const { gateway, fixture, disk, client } = await start(t, { server: { limits: { max_in_flight: 1, max_wait: "400ms" } } });
        await served(gateway, "it__echo", "it__hold");
        const aborter = new AbortController();
        const first = client.call("it__hold", {}, { signal: aborter.signal });
        await fixture.holds();
        disk.set({ sync_delay_us: 1_500_000 });
        const second = client.call("it__echo", { text: "late" });
        await until(() => recorded(gateway, "it__echo").length > 0, "it is refused, and that is being written");
        aborter.abort();
        await assert.rejects(first);
        assert.ok(isRefused(await second));
        disk.mend();
        assert.ok(!isRefused(await client.call("it__count")));
        assert.equal(callsOf(fixture, "echo"), 0, "what was refused reached the server");
        assert.deepEqual(eventsOf(gateway, "it__echo"), ["call"]);
        await isVerified(gateway.dataDir);
    });

    test("its server comes up when it has just been refused for want of it", async (t) => {
        let open: () => void = () => undefined;
        const opened = new Promise<void>((resolve) => (open = resolve));
        const { gateway, fixture, disk, client } = await start(t, { mcp: { list_timeout: "400ms" } }, {
            on: async () => opened.then(() => false),
        });
        disk.set({ sync_delay_us: 1_500_000 });
        const read = client.request("resources/read", { uri: "test://one" });
        const listed = client.request("tools/list");
        const isListed = () => trailOf(gateway).lines.some(({ method }) => method === "tools/list");
        await until(() => recorded(gateway, "test://one").length > 0 && isListed(), "both are answered, and that is being written");
        open();
        assert.ok(isRefused(await read));
        assert.deepEqual((await listed).result?.tools, []);
        disk.mend();
        await served(gateway, "it__echo");
        assert.ok(!isRefused(await client.call("it__echo", { text: "x" })));
        assert.equal(fixture.received("resources/read").length, 0, "what was refused reached the server");
        assert.deepEqual(eventsOf(gateway, "test://one"), ["call"]);
        await isVerified(gateway.dataDir);
    });

    test("it is cancelled before its intent is durable", async (t) => {
        const { gateway, fixture, disk } = await start(t);
        await served(gateway, "it__echo");
        const session = await openSession(gateway);
        disk.set({ sync_delay_us: 800_000 });
        const aborter = new AbortController();
        const modern = send(gateway, new ModernClient(gateway).outgoing("tools/call", { name: "it__count", arguments: {} }, { signal: aborter.signal }));
        const legacy = session.send({ body: { jsonrpc: "2.0", id: "gone", method: "tools/call", params: { name: "it__echo", arguments: {} } } });
        await until(() => trailOf(gateway).lines.filter(({ event }) => event === "intent").length >= 2, "both intents are written");
        aborter.abort();
        await assert.rejects(modern);
        void session.notify("notifications/cancelled", { requestId: "gone" });
        assert.deepEqual((await legacy).messages, []);
        disk.mend();
        for (const operation of ["it__echo", "it__count"]) {
            await until(() => recorded(gateway, operation).length >= 2, `the end of ${operation}`);
            assert.deepEqual(eventsOf(gateway, operation), ["intent", "outcome"]);
            assert.equal(recorded(gateway, operation)[1]?.status, "cancelled");
        }
        assert.equal(fixture.received("tools/call").length, 0);
        assert.match((await isVerified(gateway.dataDir)).stdout, /open calls +0\n/);
    });

    test("it is cancelled while its answer is held, and that cannot be written", async (t) => {
        const { gateway, disk } = await start(t);
        await served(gateway, "it__echo");
        const aborter = new AbortController();
        disk.set({ sync_delay_us: 700_000, sync_errno: EIO });
        const call = send(gateway, new ModernClient(gateway).outgoing("tools/call", { name: "it__none", arguments: {} }, { signal: aborter.signal }));
        await until(() => recorded(gateway, "it__none").length > 0, "its record is written");
        aborter.abort();
        await assert.rejects(call);
        await gateway.waitForLog(({ message }) => message === "the audit trail cannot be written");
        // What was written and not synced may be gone: it has to come once more.
        disk.mend();
        await until(() => recorded(gateway, "it__none").length > 1, "it is written once more");
        assert.deepEqual(eventsOf(gateway, "it__none"), ["call", "call"]);
        await isVerified(gateway.dataDir);
    });

    test("a reload gives what it names to another server", async (t) => {
        const { gateway, fixture, disk, client, config } = await start(t);
        const other = await startHttp({}, t);
        await served(gateway, "it__echo");
        await client.request("resources/read", { uri: "test://one" });
        const from = other.requests.items.length, before = fixture.received("resources/read").length;
        disk.set({ sync_delay_us: 2_500_000 });
        const read = client.request("resources/read", { uri: "test://one" });
        await until(() => trailOf(gateway).lines.filter(({ event }) => event === "intent").length >= 2, "the intent is written");
        await reload(gateway, { ...config, servers: { that: { url: other.url } } });
        await other.receives("resources/list");
        const answer = await read;
        disk.mend();
        assert.ok(isRefused(answer), JSON.stringify(answer));
        assert.equal(other.received("resources/read", from).length, 0, "the call went to a server that its intent does not name");
        assert.equal(fixture.received("resources/read").length, before);
        await isVerified(gateway.dataDir);
    });

    test("its server says a secret where the message is cut", async (t) => {
        const secret = `ghp_${"aB3".repeat(12)}`;
        let n = 0;
        const { gateway, client } = await start(t, {}, {
            on: (exchange) => {
                if (exchange.message.method !== "tools/call") return false;
                exchange.error(-32000, `${"x".repeat(n)} ${secret} ${"y".repeat(2000)}`);
                return true;
            },
        });
        await served(gateway, "it__echo");
        for (n = 150; n <= 210; n += 3) assert.ok(isRefused(await client.call("it__echo", { text: "x" })));
        for (n = 980; n <= 1050; n += 7) assert.ok(isRefused(await client.call("it__echo", { text: "x" })));
        const messages = trailOf(gateway).lines.filter(({ event }) => event === "outcome").map(({ message }) => String(message));
        assert.equal(messages.filter((message) => message.includes("xxx")).length, 32);
        assert.deepEqual(messages.filter((message) => message.includes("ghp_")), []);
    });

    test("the gateway is stopped, twice", async (t) => {
        const { gateway, disk, client } = await start(t);
        await served(gateway, "it__echo", "it__count");
        const session = await openSession(gateway);
        disk.set({ sync_delay_us: 1_500_000 });
        const waiting = [client.call("it__echo", { text: "x" }), client.call("it__none"), session.call("it__count")];
        const ended = Promise.allSettled(waiting);
        await until(() => trailOf(gateway).lines.filter(({ event }) => event === "intent").length >= 2, "the intents are written");
        gateway.process.kill("SIGTERM");
        await gateway.waitForLog((entry) => entry.message === "draining");
        gateway.process.kill("SIGTERM");
        await ended;
        disk.mend(); // what is being synced still takes its time
        await gateway.stop();
    });
});
