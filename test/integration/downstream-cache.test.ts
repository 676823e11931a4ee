/*
 * [mcp.downstream_cache]: how many sessions and processes there are for all callers and servers together, which one goes
 * when another one is needed, and how long an unused one stays.
 */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { startControl, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, text, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, Tokens } from "./lib/principals.ts";
import { random } from "./lib/random.ts";
import { reload } from "./lib/reload.ts";
import { refusal, said, status } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

const LACKS_ROOM = /\(mcp\.downstream_cache\.max_size\), and all of them are in use; try again later/;

const users = (...names: string[]): Tokens => new Tokens(Object.fromEntries(names.map((name) => [name, undefined])));

const configOf = (
    tokens: Tokens,
    cache: { [key: string]: Value },
    servers: Config["servers"],
    server: { [key: string]: Value } = {},
): Config => ({
    server: { ...server, auth: { tokens: tokens.table } },
    mcp: { downstream_cache: cache },
    servers,
});

/** The gateway has a place of its own at each server, which it starts with. */
const isUp = (gateway: Gateway, name: string) =>
    until(async () => (await status(gateway)).get(name)?.state === "ready", `${name} is up`);

/** Calls the tool; the id of the server's session that it came on. */
/**
 * What a call says for which another one has to make room: that is in use until its last call has ended on its own
 * worker, a moment after the client has the answer. Until then callers are told to try again later.
 */
async function roomFor(call: () => Promise<RpcMessage>): Promise<string> {
    let answer: RpcMessage | undefined;
    await until(async () => {
        answer = await call();
        return !JSON.stringify(answer).includes("all of them are in use");
    }, "there is room for it");
    return said(answer!);
}

async function sessionOf(fixture: HttpFixture, gateway: Gateway, token: string, mark: string): Promise<string> {
    const client = new ModernClient(as(gateway, token), "/mcp/http");
    assert.equal(await roomFor(() => client.call("echo", { text: mark })), mark);
    return callOf(fixture, mark).field("mcp-session-id")!;
}

const callOf = (fixture: HttpFixture, mark: string) =>
    fixture.requests.items.findLast(
        ({ message }) => (message?.params?.arguments as { text?: string } | undefined)?.text === mark,
    )!;

const ended = (fixture: HttpFixture) => fixture.received("DELETE").map((request) => request.field("mcp-session-id")!);

const closes = (fixture: HttpFixture, session: string) =>
    until(
        () => ended(fixture).includes(session),
        () => `${session} is closed, not ${ended(fixture)}`,
    );

async function startLegacy(t: TestContext, options: HttpOptions = {}): Promise<HttpFixture> {
    return startHttp({ ...legacyOnly(), ...options }, t);
}

describe("mcp.downstream_cache.max_size", { concurrency: 2 }, () => {
    test("HTTP: the session that was unused longest is closed, and only that", async (t) => {
        const fixture = await startLegacy(t);
        const tokens = users("alice", "bob", "carol", "dave");
        const gateway = await startGateway(
            { config: configOf(tokens, { max_size: 3 }, { http: { url: fixture.url } }) },
            t,
        );
        await isUp(gateway, "http");
        const own = [...fixture.sessions.keys()][0]!;
        const at = (name: string, mark: string) => sessionOf(fixture, gateway, tokens.value[name]!, `${name} ${mark}`);
        const alice = await at("alice", "1");
        const bob = await at("bob", "1");
        assert.notEqual(alice, bob);
        assert.equal(await at("alice", "2"), alice);
        assert.deepEqual(ended(fixture), []);
        const carol = await at("carol", "1");
        await closes(fixture, own);
        const dave = await at("dave", "1");
        await closes(fixture, bob);
        assert.equal(await at("alice", "3"), alice);
        assert.equal(await at("carol", "2"), carol);
        const again = await at("bob", "2");
        assert.notEqual(again, bob);
        await closes(fixture, dave);
        assert.equal(await at("carol", "3"), carol);
        assert.equal(await at("alice", "4"), alice);
        assert.deepEqual([...fixture.sessions.keys()].sort(), [alice, carol, again].sort());
        assert.deepEqual(ended(fixture), [own, bob, dave]);
        assert.deepEqual(fixture.complaints, []);
        assert.equal((await status(gateway)).get("http")!.state, "idle", "whoever asks how it is takes no place");
        assert.deepEqual(ended(fixture), [own, bob, dave]);
    });

    test("children: the process that was unused longest ends", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const tokens = users("alice", "bob", "carol");
        const servers = {
            one: { cmd: control.command({ name: "one" }) },
            two: { cmd: control.command({ name: "two" }) },
        };
        const gateway = await startGateway({ config: configOf(tokens, { max_size: 3 }, servers) }, t);
        await isUp(gateway, "one");
        await isUp(gateway, "two");
        const who = async (name: string, server: string): Promise<number> => {
            const client = new ModernClient(tokens.as(gateway, name), `/mcp/${server}`);
            return (JSON.parse(await roomFor(() => client.call("whoami"))) as { pid: number }).pid;
        };
        const process = (pid: number) => control.starts.items.find(({ start }) => start.pid === pid)!;
        const own = [await control.started("one"), await control.started("two")];
        const first = await who("alice", "one");
        const second = await who("bob", "one");
        assert.notEqual(first, second);
        const third = await who("alice", "two");
        for (const each of own) await each.isGone();
        assert.equal(await who("alice", "one"), first);
        const fourth = await who("carol", "two");
        await process(second).isGone();
        assert.equal(await who("alice", "two"), third);
        assert.equal(await who("carol", "two"), fourth);
        await who("bob", "two");
        await process(first).isGone();
        await until(() => control.count("one") + control.count("two") === 7, "seven have started");
        await process(third).sync();
        assert.ok(process(third).events.items.every(({ event }) => event !== "eof" && event !== "sigterm"));
    });

    for (const era of ["legacy", "modern"] as const) {
        test(`${era}: a call that runs is never cut; when all have one, the next caller is told why`, async (t) => {
            const options = era === "legacy" ? legacyOnly() : modernOnly;
            const fixture = await startHttp(options, t);
            const tokens = users("alice", "bob", "carol");
            const config = configOf(tokens, { max_size: 2 }, { http: { url: fixture.url } });
            const gateway = await startGateway({ config }, t);
            await isUp(gateway, "http");
            const client = (name: string) => new ModernClient(tokens.as(gateway, name), "/mcp/http");
            const calls = [client("alice").call("hold"), client("bob").call("hold")];
            await fixture.holds(2);
            for (let i = 0; i < 3; i++) assert.match(await refusal(await client("carol").call("echo")), LACKS_ROOM);
            const session = await openSession(tokens.as(gateway, "carol"), "/mcp");
            assert.match(await refusal(await session.call("http__echo")), LACKS_ROOM);
            const unread = await session.request("resources/read", { uri: "test://one" });
            assert.match(unread.error!.message, LACKS_ROOM);
            const listed = (await session.request("tools/list")).result!.tools as unknown[];
            assert.deepEqual(listed, []);
            assert.match((await session.call("none__echo")).error!.message, /Unknown tool/);
            assert.equal(await said(await client("alice").call("echo", { text: "mine" })), "mine");
            fixture.brain.release();
            for (const each of calls) assert.equal(await said(await each), "released");
            assert.equal(await roomFor(() => client("carol").call("echo", { text: "at last" })), "at last");
            assert.equal(await roomFor(() => session.call("http__echo", { text: "here too" })), "here too");
            const warned = gateway.log.items.filter((entry) => String(entry.message).includes("max_size allows is in use"));
            assert.equal(warned.length, 1, "the log says it once");
        });
    }

    test("one place: callers take turns, and each gets his answer", async (t) => {
        const fixture = await startLegacy(t);
        const tokens = users("alice", "bob");
        const gateway = await startGateway(
            { config: configOf(tokens, { max_size: 1 }, { http: { url: fixture.url } }) },
            t,
        );
        await isUp(gateway, "http");
        const seen = new Set<string>();
        for (let i = 0; i < 6; i++) {
            for (const name of ["alice", "bob"]) {
                seen.add(await sessionOf(fixture, gateway, tokens.value[name]!, `${name} ${i}`));
            }
        }
        assert.equal(seen.size, 12, "each time another session");
        await until(() => fixture.sessions.size === 1, "one is open");
    });

    test("share = session: a client's session goes on when its session with the server has gone", async (t) => {
        const fixture = await startLegacy(t);
        const tokens = users("alice");
        const servers = { http: { url: fixture.url, share: "session" } };
        const gateway = await startGateway({ config: configOf(tokens, { max_size: 2 }, servers) }, t);
        const sessions: Session[] = [];
        for (let i = 0; i < 3; i++) sessions.push(await openSession(tokens.as(gateway, "alice"), "/mcp/http"));
        const of = async (at: number, mark: string): Promise<string> => {
            assert.equal(await roomFor(() => sessions[at]!.call("echo", { text: mark })), mark);
            return callOf(fixture, mark).field("mcp-session-id")!;
        };
        const first = [await of(0, "a"), await of(1, "b"), await of(2, "c")];
        assert.equal(new Set(first).size, 3);
        await closes(fixture, first[0]!);
        const second = await of(0, "d");
        assert.ok(!first.includes(second));
        await closes(fixture, first[1]!);
        assert.equal(await of(2, "e"), first[2]);
        assert.equal(await of(0, "f"), second);
        await sessions[0]!.end();
        await closes(fixture, second);
        await of(1, "g");
        assert.equal(await of(2, "h"), first[2], "a session that has ended leaves its place to others");
    });

    test("a reload changes it: fewer at once, more as they come", async (t) => {
        const fixture = await startLegacy(t);
        const tokens = users("a", "b", "c", "d");
        const config = (max: number) => configOf(tokens, { max_size: max }, { http: { url: fixture.url } });
        const gateway = await startGateway({ config: config(4) }, t);
        await isUp(gateway, "http");
        const at = (name: string, mark: string) => sessionOf(fixture, gateway, tokens.value[name]!, `${name} ${mark}`);
        const sessions = [await at("a", "1"), await at("b", "1"), await at("c", "1"), await at("d", "1")];
        await until(() => fixture.sessions.size === 4, "four are open");
        assert.equal(await at("a", "2"), sessions[0]);
        await reload(gateway, config(2));
        await until(
            () => fixture.sessions.size === 2,
            () => `two are left of ${fixture.sessions.size}`,
        );
        assert.deepEqual([...fixture.sessions.keys()].sort(), [sessions[0], sessions[3]].sort());
        assert.equal(await at("a", "3"), sessions[0], "those that go on are as they were");
        await reload(gateway, config(5));
        await at("b", "2");
        await at("c", "2");
        assert.equal(await at("d", "2"), sessions[3]);
        assert.equal(await at("a", "4"), sessions[0]);
        assert.equal(fixture.sessions.size, 4);
    });

    test("200 callers at random on several workers: never the session of another one, never more than there may be", async (t) => {
        const MAX = 24;
        const N_USERS = 200;
        const fixture = await startLegacy(t);
        const modern = await startHttp(modernOnly, t);
        const names = Array.from({ length: N_USERS }, (_, i) => `u${i}`);
        const tokens = users(...names);
        const many = { max_instances: 200 };
        const servers = { http: { url: fixture.url, ...many }, modern: { url: modern.url, ...many } };
        const config = (max: number): Config => configOf(tokens, { max_size: max }, servers, { workers: 3 });
        const gateway = await startGateway({ config: config(MAX), args: ["--log", "info"] }, t);
        const die = random(7);
        const owner = new Map<string, string>();
        const clients = new Map<string, ModernClient>();
        let next = 0;
        let told = 0;
        let most = 0;
        const one = async (): Promise<void> => {
            // Some come often, most seldom.
            const name = names[die(2) === 0 ? die(12) : die(N_USERS)]!;
            const server = die(3) === 0 ? "modern" : "http";
            const key = `${name} ${server}`;
            if (!clients.has(key)) clients.set(key, new ModernClient(tokens.as(gateway, name), `/mcp/${server}`));
            const mark = `${name} ${next++}`;
            const answer: RpcMessage = await clients.get(key)!.call("echo", { text: mark });
            assert.equal(answer.error, undefined, JSON.stringify(answer));
            if (answer.result!.isError === true) {
                assert.match(text(answer), LACKS_ROOM);
                told++;
                return;
            }
            assert.equal(text(answer), mark);
            most = Math.max(most, fixture.sessions.size);
            if (server === "modern") return;
            const session = callOf(fixture, mark).field("mcp-session-id")!;
            assert.equal(owner.get(session) ?? name, name, "a session serves one caller");
            owner.set(session, name);
        };
        const crowd = async (n: number) => {
            for (let i = 0; i < n; i++) await one();
        };
        await Promise.all(Array.from({ length: 12 }, () => crowd(50)));
        await reload(gateway, config(MAX / 2));
        await Promise.all(Array.from({ length: 6 }, () => crowd(30)));
        assert.equal(told, 0, "there was always one that could go");
        assert.ok(owner.size > MAX, `${owner.size} sessions`);
        // Those that have been told to close are still open at the server for a moment.
        assert.ok(most <= 2 * MAX, `${most} sessions at once`);
        await until(
            () => fixture.sessions.size <= MAX / 2,
            () => `${fixture.sessions.size} sessions are open`,
        );
        const kept = [...fixture.sessions.keys()].map((session) => owner.get(session));
        assert.equal(new Set(kept).size, kept.length, `one session for each caller: ${kept}`);
        assert.deepEqual(fixture.complaints, []);
        assert.deepEqual(modern.complaints, []);
    });

    test("calls that meet the end of what they were to be made on are made on the next one", async (t) => {
        const fixture = await startLegacy(t);
        const names = Array.from({ length: 8 }, (_, i) => `u${i}`);
        const tokens = users(...names);
        const gateway = await startGateway(
            { config: configOf(tokens, { max_size: 9 }, { http: { url: fixture.url } }, { workers: 3 }) },
            t,
        );
        const clients = names.map((name) => new ModernClient(tokens.as(gateway, name), "/mcp/http"));
        let isOver = false;
        const call = async (client: ModernClient, at: number) => {
            for (let n = 0; !isOver || n === 0; n++) {
                const answer = await client.call("echo", { text: `${at} ${n}` });
                const all = text(answer);
                if (answer.result!.isError === true) assert.match(all, LACKS_ROOM);
                else assert.equal(all, `${at} ${n}`);
            }
        };
        const crowd = Promise.all(clients.map(call));
        try {
            for (const max of [1, 9, 2, 9, 1, 3, 9]) {
                await reload(gateway, configOf(tokens, { max_size: max }, { http: { url: fixture.url } }, { workers: 3 }));
            }
        } finally {
            isOver = true;
        }
        await crowd;
        assert.deepEqual(fixture.complaints, []);
    });
});

describe("mcp.downstream_cache.idle_timeout", { concurrency: 2 }, () => {
    test("is that of the servers that have none of their own", async (t) => {
        const quick = await startLegacy(t);
        const patient = await startLegacy(t);
        const servers = {
            http: { url: quick.url },
            patient: { url: patient.url, idle_timeout: "1h" },
        };
        const tokens = users("alice");
        const gateway = await startGateway({ config: configOf(tokens, { idle_timeout: "1s" }, servers) }, t);
        await isUp(gateway, "patient");
        const session = await sessionOf(quick, gateway, tokens.value.alice!, "a");
        await closes(quick, session);
        await until(() => quick.sessions.size === 0, "nobody uses it, and so it is closed");
        assert.deepEqual(ended(patient), []);
        assert.notEqual(await sessionOf(quick, gateway, tokens.value.alice!, "b"), session, "and starts when it is called");
    });

    test("a server may be quicker than the others", async (t) => {
        const quick = await startLegacy(t);
        const patient = await startLegacy(t);
        const servers = {
            http: { url: quick.url, idle_timeout: "1s" },
            patient: { url: patient.url },
        };
        const gateway = await startGateway({ config: configOf(users(), { idle_timeout: "1h" }, servers) }, t);
        await isUp(gateway, "patient");
        await until(() => ended(quick).length === 1, "it is closed");
        assert.deepEqual(ended(patient), []);
    });
});
