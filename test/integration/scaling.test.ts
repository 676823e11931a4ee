/*
 * Two gateways on one PostgreSQL and one Redis behind a proxy act as one: the files of examples/scaling, as they stand
 * but for addresses and places, with a real nginx and a real HAProxy.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import https from "node:https";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { Balancer, BALANCERS, example, fetchVia, NAME, type Kind } from "./lib/balancers.ts";
import { cardea } from "./lib/cli.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { send, stream, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { CLUSTER_KEY, Postgres } from "./lib/postgres.ts";
import { Redis } from "./lib/redis.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const CALLERS = 16;
/** of the secrets in the store: all instances have the same */

let postgres: Postgres;
let redis: Redis;
let fixture: HttpFixture;
let token: string; // of a user who may call everything
let folder: string;
const ends: (() => unknown)[] = [];
/** What lives as long as the suite. */
const suite = { after: (fn: () => unknown) => void ends.unshift(fn) } as unknown as TestContext;
let nPairs = 0;

before(async () => {
    postgres = await Postgres.start(suite);
    redis = await Redis.start(suite);
    fixture = await startHttp({ style: "sse" }, suite);
    folder = temporaryFolder();
});
after(async () => {
    for (const end of ends) await end();
});

interface Pair {
    gateways: [Gateway, Gateway];
    balancer: Balancer;
    /** a server of this pair alone, that may be called ten times */
    few: string;
    /** a command on the machine of one of them */
    command(of: number, ...args: string[]): Promise<void>;
}

async function newToken(pair: Pick<Pair, "command">, of: number, user: string): Promise<{ token: string; id: string }> {
    const file = join(temporaryFolder(), "token");
    await pair.command(of, "token", "add", user, "test", "--out", file);
    const value = readFileSync(file, "utf8").trim();
    const [id] = postgres.ask("postgres", `SELECT t.id FROM cardea.tokens t JOIN cardea.users u ON u.id = t.user_id WHERE u.name = '${user}'`).split("\n");
    return { token: value, id: id! };
}

async function start(t: TestContext, kind: Kind): Promise<Pair> {
    const few = `few${++nPairs}`;
    const config = `${example("cardea.toml", { "https://wiki.example.com/mcp": fixture.url, "10.0.0.5": "127.0.0.1" })}
[mcp.servers.wiki.tools]
echo.access = "read"
hold.access = "read"
count.access = "write"

[mcp.servers.${few}]
url = "${fixture.url}"
access = "read"
rate_limits.per_user = { limit = 10, interval = "1h" }
`;
    const environment = (instance: string) => ({
        ...process.env,
        CARDEA_INSTANCE: instance,
        CARDEA_ENCRYPTION_KEY: CLUSTER_KEY,
        CARDEA_STORE_URL: postgres.urlWithPassword("postgres"),
        CARDEA_REDIS_URL: redis.url,
    });
    const gateways = [] as unknown as [Gateway, Gateway];
    for (const instance of ["a", "b"]) {
        const gateway = await startGateway({ config, env: environment(instance) }, t);
        gateway.tls = { ca: readFileSync(join(gateway.dataDir, "tls", "ca.pem"), "utf8") };
        gateways.push(gateway);
    }
    const command = async (of: number, ...args: string[]): Promise<void> => {
        const { folder: place, dataDir } = gateways[of]!;
        const more = ["-c", join(place, "cardea.toml"), "--data-dir", dataDir];
        const run = await cardea([...args, ...more], { env: environment(of === 0 ? "a" : "b") });
        assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
    };
    if (token === undefined) {
        await command(0, "user", "add", "ann", "--no-password", "--role", "operator");
        token = (await newToken({ command }, 0, "ann")).token;
    }
    const balancer = await Balancer.start(kind, gateways, t);
    balancer.token = token;
    const pair = { gateways, balancer, few, command };
    for (const gateway of gateways) await until(async () => (await says(direct(gateway), "wiki__echo")) === "done", "it serves");
    return pair;
}

const direct = (gateway: Gateway, by = token): ModernClient => {
    const client = new ModernClient({ port: gateway.port, token: by });
    client.target.tls = gateway.tls;
    return client;
};

/** A client of 2026-07-28, each of whose requests is on a connection of its own. */
const modern = (balancer: Balancer, by = balancer.token): ModernClient => {
    const client = new ModernClient({ port: balancer.port, token: by }, "/mcp", { headers: { Host: NAME } });
    client.target.tls = balancer.tls;
    return client;
};

/** "done", or why not. */
async function says(client: ModernClient, tool: string): Promise<string> {
    const answer = await client.ask("tools/call", { name: tool, arguments: { text: "x" } });
    const message = answer.messages.at(-1);
    if (answer.status !== 200 || message === undefined) return String(answer.status);
    if (message.error !== undefined) return message.error.message;
    return message.result!.isError === true ? text(message) : "done";
}

const served = (gateway: Gateway, from = 0): number =>
    gateway.log.items.slice(from).filter((entry) => entry.message === "request" && entry.method === "tools/call").length;

/** The official SDK's client, with a session, on connections that it keeps. */
async function connect(t: TestContext, balancer: Balancer): Promise<{ client: Client; transport: StreamableHTTPClientTransport }> {
    const agent = new https.Agent({ ca: balancer.tls.ca, keepAlive: true, maxSockets: 8 });
    const transport = new StreamableHTTPClientTransport(new URL(`https://${NAME}/mcp`), {
        fetch: fetchVia(balancer, agent),
        requestInit: { headers: { Authorization: `Bearer ${balancer.token}` } },
    });
    const client = new Client({ name: "cardea-tests", version: "1.0.0" });
    client.onerror = () => {}; // its stream ends with its instance
    t.after(async () => {
        await client.close();
        agent.destroy();
    });
    await within(client.connect(transport), "the client is connected");
    return { client, transport };
}

/** Which instance has the session. */
const home = (transport: StreamableHTTPClientTransport): number => {
    const name = /^([ab])\.[A-Za-z0-9_-]{43}$/.exec(transport.sessionId ?? "")?.[1];
    assert.ok(name !== undefined, `the id begins with the instance: ${transport.sessionId}`);
    return name === "a" ? 0 : 1;
};

/** Callers on kept connections, each with one call after the other, until they are told to end. */
class Load {
    done = 0;
    readonly failures: string[] = [];
    #isOver = false;
    #all: Promise<unknown>;
    #agent: https.Agent;

    constructor(balancer: Balancer, tool = "wiki__echo") {
        this.#agent = new https.Agent({ ca: balancer.tls.ca, keepAlive: true });
        const go = fetchVia(balancer, this.#agent);
        const shape = modern(balancer);
        const caller = async (): Promise<void> => {
            while (!this.#isOver) {
                const { headers, body } = shape.outgoing("tools/call", { name: tool, arguments: { text: "x" } });
                const fields = {
                    ...(headers as Record<string, string>),
                    "Content-Type": "application/json",
                    Accept: "application/json, text/event-stream",
                    Authorization: `Bearer ${balancer.token}`,
                };
                try {
                    const answer = await go(`https://${NAME}/mcp`, { method: "POST", headers: fields, body: JSON.stringify(body) });
                    const said = await answer.text();
                    if (answer.status === 200 && said.includes('"result"') && !said.includes('"isError":true')) this.done++;
                    else this.failures.push(`${answer.status} ${said.slice(0, 200)}`);
                } catch (error) {
                    this.failures.push(String(error));
                }
            }
        };
        this.#all = Promise.all(Array.from({ length: CALLERS }, caller));
    }

    async more(n: number): Promise<void> {
        const goal = this.done + n;
        await until(
            () => this.done >= goal,
            () => `${n} more calls are done; failures: ${this.failures.slice(-5).join("; ")}`,
        );
    }

    async end(): Promise<void> {
        this.#isOver = true;
        await within(this.#all, "all callers have ended");
        this.#agent.destroy();
    }
}

for (const kind of BALANCERS) {
    describe(`two instances behind ${kind}`, () => {
        test("the official client's session stays with its instance, calls without one go to both", async (t) => {
            const { gateways, balancer } = await start(t, kind);
            const homes = new Set<number>();
            for (let i = 0; i < 6; i++) {
                const { client, transport } = await connect(t, balancer);
                const own = home(transport);
                homes.add(own);
                const from = gateways.map((gateway) => gateway.log.items.length);
                const { tools } = await client.listTools();
                assert.ok(tools.some((tool) => tool.name === "wiki__echo"));
                for (let n = 0; n < 50; n++) {
                    const result = await client.callTool({ name: "wiki__echo", arguments: { text: `${i} ${n}` } });
                    assert.deepEqual(result.content, [{ type: "text", text: `${i} ${n}` }]);
                }
                assert.deepEqual(gateways.map((gateway, k) => served(gateway, from[k])), own === 0 ? [50, 0] : [0, 50]);
                await transport.terminateSession();
            }
            assert.equal(homes.size, 2, "sessions begin on both");
            const from = gateways.map((gateway) => gateway.log.items.length);
            for (let n = 0; n < 20; n++) assert.equal(await says(modern(balancer), "wiki__echo"), "done");
            const [a, b] = gateways.map((gateway, k) => served(gateway, from[k]));
            assert.equal(a! + b!, 20);
            assert.ok(a! >= 5 && b! >= 5, `both serve: ${a} and ${b}`);
        });

        test("whom one is told of the other knows within a second, and edit mode holds on both", async (t) => {
            const pair = await start(t, kind);
            const { gateways, balancer, command } = pair;
            const other = gateways[1];
            const user = `ben${nPairs}`;
            const inTime = async (what: string, ask: () => Promise<boolean>): Promise<void> => {
                const from = performance.now();
                await until(ask, what);
                assert.ok(performance.now() - from < 1000, `${what}: after ${Math.round(performance.now() - from)} ms`);
            };
            await command(0, "user", "add", user, "--no-password", "--role", "operator");
            const ben = await newToken(pair, 0, user);
            await inTime("a new user is let in by the other", async () => (await says(direct(other, ben.token), "wiki__echo")) === "done");
            assert.match(await says(direct(other, ben.token), "wiki__count"), /edit mode is off/);
            await command(0, "edit", "on", "--reason", "test");
            await inTime("it is open on the other", async () => (await says(direct(other, ben.token), "wiki__count")) === "done");
            for (let i = 0; i < 8; i++) assert.equal(await says(modern(balancer, ben.token), "wiki__count"), "done", "wherever the call lands");
            await command(0, "edit", "off");
            await inTime("it is closed on the other", async () => /edit mode is off/.test(await says(direct(other, ben.token), "wiki__count")));
            for (let i = 0; i < 8; i++) assert.match(await says(modern(balancer, ben.token), "wiki__count"), /edit mode is off/);
            await command(0, "token", "revoke", ben.id);
            await inTime("a revoked token is refused by the other", async () => (await says(direct(other, ben.token), "wiki__echo")) === "401");
            for (let i = 0; i < 8; i++) assert.equal(await says(modern(balancer, ben.token), "wiki__echo"), "401");
        });

        test("limits are counted together, and by the address of the client", async (t) => {
            const { gateways, balancer, few } = await start(t, kind);
            const from = gateways.map((gateway) => gateway.log.items.length);
            const said: string[] = [];
            for (let i = 0; i < 14; i++) said.push(await says(modern(balancer), `${few}__echo`));
            assert.equal(said.filter((item) => item === "done").length, 10, said.join("; "));
            assert.match(said.at(-1)!, /rate_limits/);
            assert.ok(gateways.every((gateway, k) => served(gateway, from[k]) >= 3), "on both");
            // What the client says of its address is not believed; what the proxy says is.
            const client = { port: balancer.port, token: "no token", tls: balancer.tls };
            await send(client, { headers: { Host: NAME, "X-Forwarded-For": "203.0.113.9" }, body: {} });
            const isRefused = (entry: { status?: unknown }) => entry.status === 401;
            const refused = await until(() => gateways.flatMap((gateway) => gateway.log.items).find(isRefused), "a refusal is logged");
            assert.equal(refused.client, "127.0.0.1");
        });

        test("events come when they are sent: of a call, and of a session's stream", async (t) => {
            const { balancer, command } = await start(t, kind);
            const { client } = await connect(t, balancer);
            for (const isModern of [true, false]) {
                let release: Promise<unknown>;
                const seen: unknown[] = [];
                if (isModern) {
                    const shape = modern(balancer);
                    const params = { name: "wiki__hold", arguments: {}, _meta: { progressToken: "p" } };
                    const events = await stream(shape.target, shape.outgoing("tools/call", params));
                    seen.push(await events.messages.waitFor((message: RpcMessage) => message.method === "notifications/progress"));
                    release = events.messages.waitFor((message: RpcMessage) => message.result !== undefined);
                } else {
                    release = client.callTool({ name: "wiki__hold", arguments: {} }, undefined, { onprogress: (progress) => seen.push(progress) });
                    await until(() => seen.length > 0, "progress comes while the call runs");
                }
                assert.equal(fixture.brain.held, 1, "the call still runs");
                fixture.brain.release();
                await within(release, "and ends");
            }
            const changed = new Promise<void>((resolve) => {
                client.fallbackNotificationHandler = async ({ method }) => {
                    if (method === "notifications/tools/list_changed") resolve();
                };
            });
            await command(0, "edit", "on", "--reason", "test");
            await within(changed, "the session is told that it sees more, whichever instance has it");
            await command(0, "edit", "off");
        });

        test("one is killed: calls go on through the other, its sessions are gone and begin anew", async (t) => {
            const { gateways, balancer } = await start(t, kind);
            let mine = await connect(t, balancer);
            while (home(mine.transport) !== 0) mine = await connect(t, balancer);
            let theirs = await connect(t, balancer);
            while (home(theirs.transport) !== 1) theirs = await connect(t, balancer);
            const load = new Load(balancer);
            await load.more(100);
            assert.deepEqual(load.failures, []);
            await gateways[0].kill();
            await load.more(200);
            const failed = load.failures.length;
            assert.ok(failed <= CALLERS, `at most what ran there: ${failed} of ${load.done}; ${load.failures.join("; ")}`);
            await load.more(200);
            assert.equal(load.failures.length, failed, `and nothing more: ${load.failures.slice(failed).join("; ")}`);
            await load.end();
            const call = { name: "wiki__echo", arguments: { text: "x" } };
            await theirs.client.callTool(call);
            await assert.rejects(mine.client.callTool(call), (error: { code?: number }) => error.code === 404);
            const anew = await connect(t, balancer);
            assert.equal(home(anew.transport), 1);
            await anew.client.callTool(call);
        });

        test("one is told to end: no call is lost", async (t) => {
            const { gateways, balancer } = await start(t, kind);
            let mine = await connect(t, balancer);
            while (home(mine.transport) !== 0) mine = await connect(t, balancer);
            const held = mine.client.callTool({ name: "wiki__hold", arguments: {} });
            await fixture.holds(1);
            const load = new Load(balancer);
            await load.more(100);
            gateways[0].process.kill("SIGTERM");
            await load.more(300);
            fixture.brain.release();
            await within(held, "what ran is answered");
            const { code } = await within(gateways[0].exited, "it ends");
            assert.equal(code, 0);
            await load.more(100);
            await load.end();
            assert.deepEqual(load.failures, []);
            await assert.rejects(mine.client.callTool({ name: "wiki__echo", arguments: {} }), (error: { code?: number }) => error.code === 404);
        });
    });
}
