/*
 * Two users, one upstream: never each other's connection, session, child, lists or credential, whatever happens to the
 * upstream meanwhile.
 *
 * The upstream writes down for every request on which TCP connection, in which session and with which credential it
 * came. Whatever was seen together belongs together; at the end no two owners (users, or sessions of clients where
 * `share` says so) may belong together.
 */
import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp, type Exchange, type HttpFixture, type Received } from "./fixtures/http-server.ts";
import { startControl, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import { openSession } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, jwt, oauth } from "./lib/principals.ts";
import { random } from "./lib/random.ts";
import { reload } from "./lib/reload.ts";
import { until } from "./lib/wait.ts";

const GATEWAY = oauth.protected_resource.resource;
const USERS = ["alice", "bob"];
const SEEDS = (process.env.CARDEA_TEST_SEEDS ?? "1").split(",").map(Number);

type Share = "principal" | "session" | "all";
type Auth = "token" | "forward" | "exchange" | "client_credentials";
type Era = "legacy" | "modern";

/** What belongs together, by name. */
class Ties {
    #parent = new Map<string, string>();
    #find(name: string): string {
        const parent = this.#parent.get(name) ?? name;
        if (parent === name) return name;
        const root = this.#find(parent);
        this.#parent.set(name, root);
        return root;
    }
    tie(names: string[]): void {
        for (const name of names) this.#parent.set(this.#find(name), this.#find(names[0]!));
    }
    areTied(one: string, other: string): boolean {
        return this.#find(one) === this.#find(other);
    }
}

const subject = (token: string): string =>
    (JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as { sub: string }).sub;

/** An authorization server that knows two grants, and nothing of metadata. What it gives names its owner. */
class Granter {
    url = "";
    readonly given = new Map<string, string>();
    /** of requests that were refused, or should not have come */
    readonly complaints: string[] = [];
    #server = http.createServer((request, response) => {
        let body = "";
        request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
        request.on("end", () => {
            const form = new URLSearchParams(body);
            const isExchange = form.get("grant_type") === "urn:ietf:params:oauth:grant-type:token-exchange";
            const owner = isExchange ? subject(form.get("subject_token")!) : "gateway";
            // RFC 6749 section 2.3.1: both are encoded as in a form, where a blank is either of two things.
            const basic = /^Basic (.*)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
            const said = Buffer.from(basic, "base64").toString().replaceAll("+", "%20");
            if (decodeURIComponent(said) !== "gateway:a secret") this.complaints.push(`who: ${said}`);
            const token = `at-${owner}-${this.given.size}`;
            this.given.set(token, owner);
            response.writeHead(200, { "Content-Type": "application/json", "Cache-Control": "no-store" });
            response.end(
                JSON.stringify({
                    access_token: token,
                    token_type: "Bearer",
                    expires_in: 3600,
                    ...(isExchange ? { issued_token_type: "urn:ietf:params:oauth:token-type:access_token" } : {}),
                }),
            );
        });
    });

    async start(t: TestContext): Promise<void> {
        await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
        this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/token`;
        t.after(() => {
            this.#server.closeAllConnections();
            this.#server.close();
        });
    }
}

/** One client of one user. */
interface Client {
    user: string;
    /** whose state it may meet: the user's, or its session's */
    owner: string;
    request(method: string, params?: { [key: string]: unknown }): Promise<RpcMessage>;
}

/** Two users with two legacy sessions each and a client without one. */
async function clientsOf(gateway: Gateway, tokens: Map<string, string>, share: Share): Promise<Client[]> {
    const clients: Client[] = [];
    for (const user of USERS) {
        const target = as(gateway, tokens.get(user)!);
        const owner = (name: string) => (share === "session" ? `${user}/${name}` : share === "all" ? "all" : user);
        for (const name of ["one", "two"]) {
            const session = await openSession(target, "/mcp/up");
            clients.push({ user, owner: owner(name), request: (method, params) => session.request(method, params) });
        }
        const modern = new ModernClient(target, "/mcp/up");
        clients.push({ user, owner: owner("none"), request: (method, params) => modern.request(method, params) });
    }
    return clients;
}

interface Run {
    /** mark to the client whose call it was */
    calls: Map<string, Client>;
    /** number of a list to the clients that were shown it */
    lists: Map<string, Set<Client>>;
    n: number;
    nFailed: number;
}

/** Calls and lists of all clients at random, so many at once, while the disturbances come one after the other. */
async function mix(clients: Client[], seed: number, disturbances: (() => Promise<unknown>)[]): Promise<Run> {
    const run: Run = { calls: new Map(), lists: new Map(), n: 0, nFailed: 0 };
    const die = random(seed);
    let isOver = false;
    const one = async (client: Client): Promise<void> => {
        run.n++;
        if (die(4) === 0) {
            const { result } = await client.request("tools/list");
            for (const { name } of (result?.tools ?? []) as { name: string }[]) {
                const number = /^list-(\w+)$/.exec(name)?.[1];
                if (number === undefined) continue;
                if (!run.lists.has(number)) run.lists.set(number, new Set());
                run.lists.get(number)!.add(client);
            }
            return;
        }
        const mark = `${client.user} ${run.n}`;
        run.calls.set(mark, client);
        const answer = await client.request("tools/call", { name: "echo", arguments: { text: mark } });
        const text = (answer.result?.content as { text: string }[] | undefined)?.[0]?.text;
        if (answer.error !== undefined || answer.result?.isError === true) {
            run.nFailed++;
            for (const user of USERS) assert.ok(!String(text).includes(`${user} `), `an error that names a call: ${text}`);
        } else assert.equal(text, mark, "the answer of another call");
    };
    const crowd = async (): Promise<void> => {
        while (!isOver) await one(clients[die(clients.length)]!);
    };
    const crowds = Promise.all(Array.from({ length: 5 }, crowd));
    try {
        for (const disturb of disturbances) {
            const from: number = run.n;
            await until(() => run.n >= from + 30, "calls go on");
            await disturb();
        }
        const from: number = run.n;
        await until(() => run.n >= from + 30, "and afterwards");
    } finally {
        isOver = true;
        await crowds;
    }
    return run;
}

interface Setting {
    gateway: Gateway;
    tokens: Map<string, string>;
    /** with this header rule: the server is another one then; with room for so many */
    config: (rule?: string, room?: number) => Config;
}

async function startAll(t: TestContext, server: ServerConfig, audience: string[] = []): Promise<Setting> {
    const config = (rule?: string, room = 100): Config => ({
        server: { workers: 3, oauth },
        mcp: { downstream_cache: { max_size: room } },
        servers: {
            up: {
                ...server,
                failure_threshold: 0,
                ...(rule === undefined ? {} : { headers: [{ rule: "insert", name: "X-Rule", value: rule }] }),
            },
        },
    });
    const gateway = await startGateway({ config: config(), args: ["--log", "info"] }, t);
    const tokens = new Map(USERS.map((sub) => [sub, jwt({ sub, aud: [GATEWAY, ...audience] })]));
    return { gateway, tokens, config };
}

describe("two users, one HTTP upstream", { concurrency: 2 }, () => {
    const bearer = (request: Received): string | undefined => request.field("authorization")?.replace(/^Bearer /, "");
    const markOf = ({ message }: Received) => (message?.params?.arguments as { text?: string } | undefined)?.text;

    const authOf = (auth: Auth, granter: Granter): { [key: string]: Value } => {
        const client = { issuer: "https://granter.example", token_endpoint: granter.url, client_id: "gateway", client_secret: "a secret" };
        if (auth === "token") return { token: "the-gateway's-own" };
        return auth === "forward" ? { type: auth } : { type: auth, ...client };
    };

    async function attempt(t: TestContext, auth: Auth, share: Share, era: Era, seed: number): Promise<void> {
        const die = random(seed + 1000);
        const sockets = new Set<Socket>();
        const refused = new Set<string>();
        const listed = new Map<string, Received>();
        const granter = new Granter();
        await granter.start(t);
        const on = (exchange: Exchange): boolean => {
            const { request, message } = exchange;
            sockets.add(exchange.socket);
            const token = bearer(request) ?? "";
            if (refused.delete(token)) {
                exchange.empty(401, { "WWW-Authenticate": 'Bearer error="invalid_token"' });
                return true;
            }
            if (message.method !== "tools/list") return false;
            // Every list is another one, and says which.
            const session = request.field("mcp-session-id");
            if (era === "legacy" && !fixture.sessions.has(session ?? "")) return false;
            const number = `${listed.size}`;
            listed.set(number, request);
            const tools = ["echo", `list-${number}`].map((name) => ({ name, inputSchema: { type: "object" } }));
            exchange.result({ ...(era === "modern" ? { resultType: "complete", ttlMs: 0 } : {}), tools });
            return true;
        };
        const fixture: HttpFixture = await startHttp(
            { ...(era === "legacy" ? legacyOnly() : modernOnly), get: "stream", on },
            t,
        );
        const server = { url: fixture.url, share, auth: authOf(auth, granter) };
        const { gateway, tokens, config } = await startAll(t, server, [fixture.url]);
        const clients = await clientsOf(gateway, tokens, share);
        const port = fixture.port;
        const disturbances: (() => Promise<unknown>)[] = [
            async () => fixture.expire(),
            async () => sockets.forEach((socket) => socket.resetAndDestroy()),
            () => reload(gateway, config(`r${die(1000)}`)),
            () => reload(gateway, config()),
            () => reload(gateway, config(undefined, 2)),
            async () => {
                await fixture.close();
                fixture.expire();
                await fixture.listen(port);
            },
            // Tokens that the server takes no more.
            async () => fixture.requests.items.slice(-20).forEach((request) => refused.add(bearer(request) ?? "")),
        ];
        const order = disturbances.map((run) => ({ run, at: die(1 << 20) })).sort((a, b) => a.at - b.at);
        const run = await mix(clients, seed, order.map((each) => each.run));

        const ties = new Ties();
        const nDone = fixture.requests.items.filter((request) => markOf(request) !== undefined).length;
        assert.ok(nDone > run.n / 3, `${nDone} of ${run.n} calls came`);
        const connectionUser = new Map<number, string>();
        for (const request of fixture.requests.items) {
            const names = [`connection ${request.connection}`];
            const session = request.field("mcp-session-id");
            const token = bearer(request);
            const mark = markOf(request);
            if (session !== undefined) names.push(`session ${session}`);
            if (mark !== undefined) names.push(`owner ${run.calls.get(mark)!.owner}`);
            assert.notEqual(token, undefined, "each request has a credential");
            const caller = mark === undefined ? undefined : run.calls.get(mark)!.user;
            if (auth === "token") assert.equal(token, "the-gateway's-own");
            if (auth === "client_credentials") assert.equal(granter.given.get(token!), "gateway");
            if (auth === "forward" || auth === "exchange") {
                const user = auth === "forward" ? subject(token!) : granter.given.get(token!)!;
                if (auth === "forward") assert.equal(token, tokens.get(user), "as it came");
                assert.ok(USERS.includes(user), `a token of ${user}`);
                assert.equal(caller ?? user, user, "a call has its caller's");
                const known = connectionUser.get(request.connection);
                assert.equal(known ?? user, user, "a connection has the credentials of one user");
                connectionUser.set(request.connection, user);
                if (share === "principal") names.push(`owner ${user}`);
            }
            ties.tie(names);
        }
        const owners = [...new Set(clients.map((client) => client.owner))];
        for (const one of owners)
            for (const other of owners)
                if (one !== other) assert.ok(!ties.areTied(`owner ${one}`, `owner ${other}`), `${one} and ${other} have met`);
        for (const [number, readers] of run.lists) {
            const request = listed.get(number)!;
            for (const { owner } of readers) {
                for (const other of owners) {
                    if (other === owner) continue;
                    assert.ok(
                        !ties.areTied(`connection ${request.connection}`, `owner ${other}`),
                        `${owner} was shown a list that was read for ${other}`,
                    );
                }
            }
        }
        assert.ok(run.lists.size > 0, "lists were shown");
        if (share === "all" && era === "legacy") {
            const sessions = new Map<string, Set<string>>();
            for (const request of fixture.requests.items) {
                const mark = markOf(request);
                if (mark === undefined) continue;
                const session = request.field("mcp-session-id")!;
                sessions.set(session, (sessions.get(session) ?? new Set()).add(run.calls.get(mark)!.user));
            }
            assert.ok(
                [...sessions.values()].some((each) => each.size === USERS.length),
                "one session for everybody",
            );
            for (const request of fixture.received("initialize"))
                assert.deepEqual(request.message!.params!.capabilities, {}, "which is told of nothing that asks a user");
        }
        assert.deepEqual(granter.complaints, []);
        const log = JSON.stringify(gateway.log.items);
        for (const token of [...tokens.values(), ...granter.given.keys(), "the-gateway's-own"])
            assert.ok(!log.includes(token), "the log has no credential");
    }

    for (const auth of ["token", "forward", "exchange", "client_credentials"] as const) {
        for (const share of ["principal", "session", "all"] as const) {
            if (share === "all" && (auth === "forward" || auth === "exchange")) continue; // refused by the configuration
            for (const era of ["legacy", "modern"] as const) {
                for (const seed of SEEDS) {
                    test(`${auth}, share = ${share}, ${era}, seed ${seed}`, (t) => attempt(t, auth, share, era, seed));
                }
            }
        }
    }
});

describe("two users, one command", { concurrency: 2 }, () => {
    for (const share of ["principal", "session", "all"] as const) {
        test(`share = ${share}`, async (t) => {
            const control = await startControl();
            t.after(() => control.close());
            const { gateway, tokens, config } = await startAll(t, { cmd: control.command({ name: "up" }), share });
            const clients = await clientsOf(gateway, tokens, share);
            const running = () => control.starts.items.filter((child) => !gone.has(child));
            const gone = new Set<FixtureProcess>();
            const stop = async (how: string) => {
                const child = running().at(-1)!;
                gone.add(child);
                child.do(how === "exit" ? { do: "exit", code: 1 } : { do: "send", message: "rubble" });
                if (how === "exit") await child.isGone();
            };
            const other = { ...config() };
            other.servers = { up: { ...other.servers.up!, env: { SOME: "thing" } } };
            const steps: (() => Promise<unknown>)[] = [
                () => stop("exit"),
                () => reload(gateway, other),
                () => stop("exit"),
                () => reload(gateway, config()),
                () => stop("exit"),
                () => reload(gateway, config(undefined, 2)),
                () => stop("rubble"),
            ];
            const run = await mix(clients, 3, steps);
            const owners = new Set<string>();
            let n = 0;
            for (const child of control.starts.items) {
                const mine = new Set<string>();
                for (const message of child.received("tools/call")) {
                    const mark = (message.params!.arguments as { text?: string }).text!;
                    mine.add(run.calls.get(mark)!.owner);
                    n++;
                }
                assert.ok(mine.size <= 1, `one process for ${[...mine]}`);
                for (const owner of mine) owners.add(owner);
                if (share !== "all") continue;
                for (const message of child.received("initialize"))
                    assert.deepEqual(message.params!.capabilities, {}, "it is told of nothing that asks a user");
            }
            assert.equal(owners.size, share === "principal" ? 2 : share === "session" ? 6 : 1);
            assert.ok(n > run.n / 3, `${n} of ${run.n} calls came`);
            if (share === "all") assert.ok(control.count("up") < 12, `${control.count("up")} processes for everybody`);
        });
    }

    test("share = all: what it logs and reports goes to no user that did not ask", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const { gateway, tokens } = await startAll(t, { cmd: control.command({ name: "up" }), share: "all" });
        const listeners = [];
        for (const user of USERS) {
            const session = await openSession(as(gateway, tokens.get(user)!), "/mcp/up");
            listeners.push({ session, stream: await session.stream() });
            await session.request("logging/setLevel", { level: "debug" });
        }
        const [alice, bob] = listeners;
        await alice!.session.call("log", { text: "of alice alone" });
        const params = { name: "progress", arguments: {}, _meta: { progressToken: "mine" } };
        const answer = await alice!.session.send({ body: { jsonrpc: "2.0", id: 9, method: "tools/call", params } });
        assert.ok(answer.messages.some(({ method }) => method === "notifications/progress"), "the caller hears of progress");
        await bob!.session.call("echo", { text: "the end" });
        const heard = JSON.stringify([...alice!.stream.messages.items, ...bob!.stream.messages.items]);
        assert.doesNotMatch(heard, /of alice alone|progress/);
        for (const { stream } of listeners) stream.close();
    });
});
