/*
 * What stands in the trail: a record for each kind of request and each way it can end, who asked, what secrets it must
 * not show, what the operator did, and the counts of those who are nobody.
 *
 * Each act is followed by a call with a mark; what is recorded between two marks is what the act left. One worker, so
 * that records have the order of what happened.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { modernOnly, startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { isVerified, markOf, REQUESTS, trailOf, type Line, type Reader } from "./lib/audit.ts";
import { cardea } from "./lib/cli.ts";
import { edit } from "./lib/edit.ts";
import { startGateway, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { exchange, openSession, send, served, stream, type Answer, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, jwt, oauth, Tokens } from "./lib/principals.ts";
import { Raw } from "./lib/raw.ts";
import { askReload, reload } from "./lib/reload.ts";
import { Authority } from "./lib/tls.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

type Table = { [key: string]: Value };
type Expected = { [member: string]: unknown };

/** Regular expressions match, functions decide, undefined: it is not there; the rest is equal. */
function isLike(line: Line | undefined, expected: Expected, what: string): void {
    assert.ok(line !== undefined, `${what}: there is no record`);
    const shown = `${what}: ${JSON.stringify(line)}`;
    for (const [key, value] of Object.entries(expected)) {
        const found: unknown = line[key];
        if (value instanceof RegExp) assert.match(String(found), value, `${key} in ${shown}`);
        else if (typeof value === "function") assert.ok((value as (found: unknown) => boolean)(found), `${key} in ${shown}`);
        else assert.deepEqual(found, value, `${key} in ${shown}`);
    }
}

const isNumber = (found: unknown): boolean => typeof found === "number" && found >= 0;
const isPositive = (found: unknown): boolean => typeof found === "number" && found > 0;
const isDigest = /^[A-Za-z0-9_-]{43}$/;

class Watch {
    readonly gateway: Gateway;
    readonly trail: Reader;
    #marks = 0;
    #seen = 0;

    constructor(gateway: Gateway) {
        this.gateway = gateway;
        this.trail = trailOf(gateway);
    }

    async #mark(): Promise<number> {
        const text = `mark-watch-${++this.#marks}`;
        await new ModernClient(this.gateway).call("it__echo", { text });
        await this.trail.find((line) => markOf(line) === text, `${text} is recorded`, this.#seen);
        return this.trail.lines.findIndex((line, i) => i >= this.#seen && markOf(line) === text);
    }

    /** What the act leaves, as soon as there are `n` records of requests; the rest of the lines too. */
    async all(act: () => unknown, n = 1): Promise<Line[]> {
        this.#seen = (await this.#mark()) + 1;
        await act();
        const isRequest = (line: Line) => REQUESTS.has(line.event);
        const from = this.#seen;
        await until(
            () => this.trail.lines.slice(from).filter(isRequest).length >= n,
            () => `${n} records; the trail has\n${this.trail.all.slice(from).map(({ text }) => text).join("\n")}`,
        );
        const end = await this.#mark();
        this.#seen = end + 1;
        return this.trail.lines.slice(from, end);
    }

    async of(act: () => unknown, n = 1): Promise<Line[]> {
        const found = (await this.all(act, n)).filter((line) => REQUESTS.has(line.event));
        assert.equal(found.length, n, `the act left\n${found.map((line) => JSON.stringify(line)).join("\n")}`);
        return found;
    }
}

const LIMIT = { limit: 2, interval: "1h" };

/** One gateway on which nearly everything can happen. */
class World {
    fixture!: HttpFixture;
    gateway!: Gateway;
    watch!: Watch;
    tokens = new Tokens({ alice: ["dev"], bob: ["ops"] });
    config!: Config;

    async start(more: { audit?: Table; security?: Table } = {}): Promise<void> {
        this.fixture = await startHttp({});
        const { url } = this.fixture;
        this.config = {
            server: {
                workers: 1,
                auth: { tokens: this.tokens.table },
                oauth,
                client_identification: { enabled: true, group_id: { jwt_claim: "groups" } },
            },
            audit: more.audit ?? {},
            security: more.security ?? { edit_mode: false },
            servers: {
                it: {
                    url,
                    timeout: "1s",
                    access: "read",
                    tools: {
                        count: { access: "write" },
                        structured: { arguments: { x: { allow: ["a"] } } },
                        log: { scopes: ["files:write"] },
                    },
                },
                ops: { url, access: "read", allow: ["ops"] },
                few: { url, access: "read", rate_limits: LIMIT },
                down: { url: "http://127.0.0.1:9/mcp", access: "read", tools: { it: {} } },
            },
        };
        this.gateway = await startGateway({ config: this.config });
        await served(as(this.gateway, this.tokens.value.bob!) as Gateway, "it__echo", "ops__echo", "few__echo");
        this.watch = new Watch(this.gateway);
    }

    async stop(): Promise<void> {
        await this.gateway.stop();
        await this.fixture.close();
    }

    as(name: string): Gateway {
        return this.tokens.as(this.gateway, name);
    }
    modern(who?: string): ModernClient {
        return new ModernClient(who === undefined ? this.gateway : this.as(who));
    }
}

describe("a record of each request", () => {
    const world = new World();
    let session: Session;
    before(async () => {
        await world.start();
        session = await openSession(world.as("alice"));
    });
    after(() => world.stop());

    interface Case {
        name: string;
        act: () => unknown;
        expected: Expected[];
    }
    const alice = { authentication: "token", groups: ["dev"], user: /alice/ };
    const call = (name: string, args: { [name: string]: unknown } = {}, who = "alice") => world.modern(who).call(name, args);

    const CASES: Case[] = [
        {
            name: "a call that is let through",
            act: () => call("it__echo", { text: "hello" }),
            expected: [
                {
                    event: "call",
                    ...alice,
                    id: /^[0-9a-f]{16}$/,
                    client: "raw-modern 1",
                    address: "127.0.0.1",
                    session: undefined,
                    trace: undefined,
                    method: "tools/call",
                    operation: "it__echo",
                    arguments: { text: "hello" },
                    arguments_cut: undefined,
                    arguments_bytes: '{"text":"hello"}'.length,
                    arguments_hmac: isDigest,
                    upstream: "it",
                    upstream_operation: "echo",
                    instance: "principal",
                    access: "read",
                    decision: "allowed",
                    reason: undefined,
                    status: "ok",
                    http_status: 200,
                    code: undefined,
                    upstream_status: 200,
                    bytes: isPositive,
                    duration_us: isPositive,
                    time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/,
                },
            ],
        },
        {
            name: "the same of the era before, in a session",
            act: () => session.call("it__echo", { text: "hello" }),
            expected: [
                {
                    event: "call",
                    ...alice,
                    client: "raw 1",
                    session: (found: unknown) => typeof found === "string" && found.length >= 4 && found.length < session.id.length && session.id.startsWith(found),
                    operation: "it__echo",
                    status: "ok",
                },
            ],
        },
        { name: "a tool that fails", act: () => call("it__fail"), expected: [{ event: "call", decision: "allowed", status: "tool-error", upstream: "it" }] },
        {
            name: "a server's error",
            act: () => call("it__refuse"),
            expected: [{ event: "call", decision: "allowed", status: "error", code: (found: unknown) => Number(found) === 4242, message: /refused/ }],
        },
        {
            name: "a write while edit mode is off",
            act: () => call("it__count"),
            expected: [{ event: "call", operation: "it__count", upstream: "it", access: "write", decision: "denied", status: "refused", rule: /.+/, reason: /edit/ }],
        },
        {
            name: "a tool that does not exist",
            act: () => call("it__nothing"),
            expected: [{ event: "call", operation: "it__nothing", decision: "denied", status: "refused", rule: /.+/ }],
        },
        {
            name: "a server that does not exist",
            act: () => call("nobody__echo"),
            expected: [{ event: "call", operation: "nobody__echo", decision: "denied", status: "refused" }],
        },
        {
            name: "a tool of another group's server",
            act: () => call("ops__echo"),
            expected: [{ event: "call", operation: "ops__echo", upstream: "ops", decision: "denied", status: "refused", rule: /ops|allow/ }],
        },
        {
            name: "a scope that is missing",
            act: () => new ModernClient(as(world.gateway, jwt({ sub: "carol", scope: "files:read", groups: ["dev"] }))).ask("tools/call", { name: "it__log", arguments: {} }),
            expected: [{ event: "call", user: /carol/, authentication: "oauth", operation: "it__log", decision: "denied", rule: /scope/, http_status: 403 }],
        },
        {
            name: "an argument that a rule refuses",
            act: () => call("it__structured", { x: "b" }),
            expected: [{ event: "call", operation: "it__structured", decision: "denied", status: "refused", rule: /arguments/ }],
        },
        {
            name: "calls beyond a limit",
            act: async () => {
                for (let i = 0; i < 3; i++) await call("few__echo");
            },
            expected: [
                { event: "call", decision: "allowed", status: "ok" },
                { event: "call", decision: "allowed", status: "ok" },
                { event: "call", decision: "denied", status: "refused", upstream: "few", rule: /rate_limits/ },
            ],
        },
        {
            name: "lists",
            act: async () => {
                for (const method of ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]) await world.modern("alice").request(method);
            },
            expected: ["tools/list", "prompts/list", "resources/list", "resources/templates/list"].map((method) => ({
                event: "call",
                ...alice,
                method,
                operation: undefined,
                decision: "allowed",
                status: "ok",
            })),
        },
        { name: "server/discover", act: () => world.modern("alice").request("server/discover"), expected: [{ event: "call", method: "server/discover", status: "ok" }] },
        { name: "ping", act: () => session.request("ping"), expected: [{ event: "call", method: "ping", status: "ok", client: "raw 1" }] },
        {
            name: "initialize, and the end of the session",
            act: async () => {
                const other = await openSession(world.as("bob"));
                await other.end();
            },
            expected: [
                { event: "call", method: "initialize", user: /bob/, client: "raw 1", status: "ok" },
                { event: "session", method: "DELETE", user: /bob/, session: /.{4,}/, decision: "allowed" },
            ],
        },
        {
            name: "a GET stream",
            act: async () => {
                const opened = await session.stream();
                assert.equal(opened.status, 200);
                opened.close();
                await opened.ended;
            },
            expected: [{ event: "stream", method: "GET", ...alice, session: /.{4,}/, decision: "allowed" }],
        },
        {
            name: "a prompt",
            act: () => world.modern("alice").request("prompts/get", { name: "it__review", arguments: { what: "x" } }),
            expected: [{ event: "call", method: "prompts/get", operation: "it__review", upstream: "it", upstream_operation: "review", arguments: { what: "x" }, status: "ok" }],
        },
        {
            name: "a resource",
            act: async () => {
                const { result } = await world.modern("alice").request("resources/list");
                const { uri } = (result!.resources as { uri: string }[])[0]!;
                await world.modern("alice").request("resources/read", { uri });
            },
            expected: [{ method: "resources/list" }, { event: "call", method: "resources/read", operation: /test/, upstream: "it", status: "ok" }],
        },
        {
            name: "a method that nobody knows",
            act: () => session.request("no/such", {}),
            expected: [{ event: "call", method: "no/such", decision: "denied", status: "refused" }],
        },
        {
            name: "a call that is cancelled",
            act: async () => {
                const from = world.fixture.requests.items.length;
                const held = session.stream({ method: "POST", body: { jsonrpc: "2.0", id: "held", method: "tools/call", params: { name: "it__hold", arguments: {} } } });
                await world.fixture.requests.waitFor(({ body }) => body.includes("hold"), from);
                await session.notify("notifications/cancelled", { requestId: "held", reason: "enough" });
                (await held).close();
            },
            expected: [{ event: "call", operation: "it__hold", decision: "allowed", status: "cancelled" }],
        },
        {
            name: "a client of 2026-07-28 that hangs up, which cancels",
            act: async () => {
                const from = world.fixture.requests.items.length;
                const abort = new AbortController();
                const held = world.modern("alice").request("tools/call", { name: "it__hold", arguments: {} }, { signal: abort.signal }).catch(() => {});
                await world.fixture.requests.waitFor(({ body }) => body.includes("hold"), from);
                abort.abort();
                await held;
            },
            expected: [{ event: "call", operation: "it__hold", decision: "allowed", status: "cancelled" }],
        },
        {
            name: "a server that takes too long",
            act: () => call("it__hold"),
            expected: [{ event: "call", operation: "it__hold", decision: "allowed", status: "timeout", message: /.+/ }],
        },
        {
            name: "a batch, of which each request has its own; notifications have none",
            act: async () => {
                const old = await openSession(world.as("alice"), "/mcp", "2025-03-26");
                const body = [
                    { jsonrpc: "2.0", id: 1, method: "ping" },
                    { jsonrpc: "2.0", method: "notifications/roots/list_changed" },
                    { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "it__echo", arguments: { text: "batched" } } },
                ];
                const { messages } = await old.send({ body });
                assert.equal(messages.length, 2);
            },
            expected: [{ method: "initialize" }, { method: "ping", status: "ok" }, { operation: "it__echo", arguments: { text: "batched" }, status: "ok" }],
        },
        {
            name: "what is no JSON, from a caller who is known",
            act: () => send(world.as("alice"), { body: "{" }),
            expected: [{ event: "request", ...alice, method: "POST", operation: "/mcp", decision: "denied", status: "refused", http_status: 400 }],
        },
        {
            name: "a path where there is nothing, from a caller who is known",
            act: () => send(world.as("alice"), { method: "GET", path: "/mcp/nobody" }),
            expected: [{ event: "request", ...alice, method: "GET", decision: "denied", status: "refused", http_status: (found: unknown) => Number(found) >= 400 }],
        },
        {
            name: "arguments that are too long",
            act: () => call("it__echo", { text: "x".repeat(900), more: "y".repeat(900), rest: "z".repeat(900) }),
            expected: [{ event: "call", arguments_cut: true, arguments_bytes: isPositive, arguments_hmac: isDigest, status: "ok" }],
        },
        {
            name: "traceparent",
            act: () =>
                world.modern("alice").call("it__echo", {}, { headers: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } }),
            expected: [{ event: "call", trace: "0af7651916cd43dd8448eb211c80319c" }],
        },
        {
            name: "traceparent in _meta",
            act: () =>
                world.modern("alice").call("it__echo", {}, { meta: { traceparent: "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } }),
            expected: [{ event: "call", trace: "1af7651916cd43dd8448eb211c80319c" }],
        },
        {
            name: "traceparents that are none",
            act: async () => {
                for (const traceparent of ["00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-x", '00-"}{a765191651916cd43dd8448eb211c80-b7ad6b7169203331-01'])
                    await world.modern("alice").call("it__echo", {}, { headers: { traceparent } });
            },
            expected: [{ trace: undefined }, { trace: undefined }, { trace: undefined }],
        },
    ];

    for (const { name, act, expected } of CASES) {
        test(name, async () => {
            const found = await world.watch.of(act, expected.length);
            expected.forEach((each, i) => isLike(found[i], each, name));
        });
    }

    test("a server that is down", async () => {
        const [line] = await world.watch.of(() => world.modern("alice").ask("tools/call", { name: "down__it", arguments: {} }));
        isLike(line, { event: "call", operation: "down__it", status: /^(unavailable|refused)$/ }, "down");
    });

    test("the same arguments have the same HMAC, others another; neither is a plain hash", async () => {
        const { createHash } = await import("node:crypto");
        const found = await world.watch.of(async () => {
            for (const text of ["a", "a", "b"]) await call("it__echo", { text });
        }, 3);
        const [one, same, other] = found.map((line) => line.arguments_hmac);
        assert.equal(one, same);
        assert.notEqual(one, other);
        assert.notEqual(one, createHash("sha256").update('{"text":"a"}').digest("base64url"));
    });

    test("each call has the client that it names itself, whoever called before", async () => {
        const named = (info: { [member: string]: unknown }) => world.modern("alice").call("it__echo", { text: "who" }, { meta: { "io.modelcontextprotocol/clientInfo": info } });
        const found = await world.watch.of(async () => {
            await named({ name: "one", version: "1" });
            await named({ name: "one", version: "2" });
            await named({ name: "two", version: "1" });
            await named({ name: "one", version: "1" });
            await named({ title: "of no name" });
            await named({ name: "x".repeat(9000), version: "1" }); // more than is looked at
            await named({ name: "one", version: "1" });
        }, 7);
        assert.deepEqual(found.map((line) => line.client), ["one 1", "one 2", "two 1", "one 1", undefined, undefined, "one 1"]);
    });

    test("a client that hangs up in the era before: the call goes on, and has its record", async () => {
        const found = await world.watch.of(async () => {
            const from = world.fixture.requests.items.length;
            const held = await session.stream({ method: "POST", body: { jsonrpc: "2.0", id: 77, method: "tools/call", params: { name: "it__progress", arguments: { steps: 1 }, _meta: { progressToken: 1 } } } });
            await world.fixture.requests.waitFor(({ body }) => body.includes("it__progress") || body.includes('"progress"'), from);
            held.close();
        });
        isLike(found[0], { event: "call", operation: "it__progress", decision: "allowed" }, "hung up");
    });

    test("cardea audit verify agrees", async () => {
        await isVerified(world.gateway.dataDir);
    });
});

describe("who", () => {
    const fixtureOf = (t: TestContext) => startHttp(modernOnly, t);
    const servers = (fixture: HttpFixture): Config["servers"] => ({ it: { url: fixture.url, access: "read" } });
    const echo = (gateway: Gateway, path = "/mcp") => new ModernClient(gateway, path).call("it__echo", { text: "mark-who" });

    async function recorded(gateway: Gateway): Promise<Line> {
        return trailOf(gateway).find((line) => markOf(line) === "mark-who", "the call is recorded");
    }

    test("the local token", async (t) => {
        const gateway = await startGateway({ config: { servers: servers(await fixtureOf(t)) } }, t);
        await served(gateway, "it__echo");
        await echo(gateway);
        isLike(await recorded(gateway), { authentication: "local", user: /.+/, address: "127.0.0.1" }, "local");
    });

    test("a token of the configuration; a login once", async (t) => {
        const tokens = new Tokens({ alice: ["dev", "ops"] });
        const config = { server: { auth: { tokens: tokens.table } }, servers: servers(await fixtureOf(t)) };
        const gateway = await startGateway({ config }, t);
        await served(gateway, "it__echo");
        await echo(tokens.as(gateway, "alice"));
        const line = await recorded(gateway);
        isLike(line, { authentication: "token", user: /alice/, groups: ["dev", "ops"], token: /.+/ }, "token");
        assert.ok(!JSON.stringify(line).includes(tokens.value.alice!.slice(7, 20)), "nothing of the token itself");
    });

    test("an access token of an issuer: its id, not itself", async (t) => {
        const config = {
            server: { oauth, client_identification: { enabled: true, group_id: { jwt_claim: "groups" } } },
            servers: servers(await fixtureOf(t)),
        };
        const gateway = await startGateway({ config }, t);
        await served(gateway, "it__echo");
        const token = jwt({ sub: "carol", groups: ["a", "b"], jti: "token-number-7" });
        for (let i = 0; i < 3; i++) await echo(as(gateway, token));
        isLike(await recorded(gateway), { authentication: "oauth", user: /carol/, groups: ["a", "b"], token: /.+/ }, "oauth");
        const trail = trailOf(gateway);
        await trail.find((line) => line.event === "login" && /carol/.test(String(line.user)), "the login is recorded");
        assert.ok(trail.lines.filter((line) => line.event === "login" && /carol/.test(String(line.user))).length <= 2, "once for each worker");
        for (const { text } of trail.all) assert.ok(!text.includes(token.split(".")[2]!.slice(0, 20)), "nothing of the token itself");
    });

    test("a certificate", async (t) => {
        const authority = new Authority();
        t.after(() => removeFolder(authority.folder));
        const own = authority.sign("IP:127.0.0.1,DNS:localhost"), of = authority.sign("DNS:agent.example");
        const file = (name: string, text: string) => {
            const path = join(authority.folder, name);
            writeFileSync(path, text, { mode: 0o600 });
            return path;
        };
        const server = {
            tls: { certificate: file("s.pem", own.cert), key: file("s.key", own.key), client_ca: authority.file, client_identity: "san_dns" },
        };
        const gateway = await startGateway({ config: { server, servers: servers(await fixtureOf(t)) } }, t);
        const ca = readFileSync(authority.file, "utf8");
        const target = { port: gateway.port, token: "", tls: { ca, cert: of.cert, key: of.key } };
        const { headers, body } = new ModernClient(target).outgoing("tools/call", { name: "it__echo", arguments: { text: "mark-who" } });
        await until(async () => (await send(target, { token: false, headers, body })).status === 200, "the call is let in");
        isLike(await recorded(gateway), { authentication: "certificate", user: /agent\.example/ }, "certificate");
    });

    test("nobody, where nobody is asked", async (t) => {
        const config = { server: { auth: { anonymous: true } }, servers: servers(await fixtureOf(t)) };
        const gateway = await startGateway({ config }, t).catch((error: unknown) => String(error));
        if (typeof gateway === "string") return t.skip("there is no such configuration");
        await served(gateway, "it__echo");
        await new ModernClient(gateway, "/mcp", { token: false }).call("it__echo", { text: "mark-who" });
        isLike(await recorded(gateway), { authentication: "none" }, "anonymous");
    });

    test("behind a trusted proxy it is the client's address; from anybody else the headers mean nothing", async (t) => {
        const fixture = await fixtureOf(t);
        for (const [proxies, expected] of [
            [["127.0.0.1"], "203.0.113.7"],
            [["192.0.2.1"], "127.0.0.1"],
        ] as const) {
            const tokens = new Tokens({ alice: undefined });
            const server = { trusted_proxies: [...proxies], client_ip: { x_forwarded_for: true }, auth: { tokens: tokens.table } };
            const gateway = await startGateway({ config: { server, servers: servers(fixture) } }, t);
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
            await new ModernClient(tokens.as(gateway, "alice")).call("it__echo", { text: "mark-who" }, { headers: { "X-Forwarded-For": "10.9.8.7, 203.0.113.7" } });
            isLike(await recorded(gateway), { address: expected }, proxies.join());
        }
    });
});

describe("redaction", () => {
    /** Made here, so that no scanner takes it for a real one. */
    const SECRETS = {
        password: "hunter2-hunter2-hunter2",
        github: ["gh", "p_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"].join(""),
        jwt: jwt({ sub: "somebody else" }),
        card: "4242-4242-4242-4242",
        own: "internal-778899-x",
        url: "s3cr3tInUrl99",
    };

    test("a secret is nowhere in the data directory, whichever way it came", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const fixture = await startHttp({ resourceTemplates: [{ uriTemplate: "test://thing/{id}", name: "thing" }] }, t);
        const audit = {
            max_arguments: "8KiB",
            redact: { paths: ["card.number"], patterns: ["internal-[0-9]+-x"] },
            jsonl: { path: join(folder, "copy.jsonl") },
        };
        const gateway = await startGateway({ config: { audit, servers: { it: { url: fixture.url, access: "read" } } }, dataDir }, t);
        await served(gateway, "it__echo");
        const client = new ModernClient(gateway), session = await openSession(gateway);
        const args = {
            text: `a token ${SECRETS.github} in a text, and ${SECRETS.own}`,
            password: SECRETS.password,
            deep: [{ api_key: SECRETS.password, Authorization: `Bearer ${SECRETS.jwt}` }],
            card: { number: SECRETS.card },
            link: `https://user:${SECRETS.url}@host.example/x`,
            [`key-${SECRETS.github}`]: 1,
        };
        await client.call("it__echo", args);
        await session.call("it__echo", args);
        await session.call(`it__${SECRETS.github}`, { text: "a tool that does not exist" });
        await client.ask("tools/call", { name: SECRETS.github, arguments: {} });
        await client.ask("resources/read", { uri: `test://thing/1?access_token=${SECRETS.github}&x=1` });
        await client.ask("resources/read", { uri: `https://user:${SECRETS.url}@host.example/x` });
        await client.ask(`no/${SECRETS.github}`).catch(() => {});
        await send(gateway, { method: "GET", path: `/mcp/it?token=${SECRETS.github}` });
        await client.call("it__echo", { text: "mark-end" }, { meta: { "io.modelcontextprotocol/clientInfo": { name: `client ${SECRETS.github}`, version: "1" } } });
        const trail = trailOf(gateway);
        await trail.find((line) => markOf(line) === "mark-end", "all is recorded");
        const first = trail.lines.find((line) => line.operation === "it__echo" && line.arguments !== undefined)!;
        assert.match(JSON.stringify(first.arguments), /\[redacted\]/);
        assert.match(JSON.stringify(first.arguments), /a token .* in a text/, "the rest of a text is there");
        await gateway.stop();

        const files = (dir: string): string[] =>
            readdirSync(dir, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? files(join(dir, entry.name)) : entry.isFile() ? [join(dir, entry.name)] : []));
        const all = [...files(dataDir), ...readdirSync(folder).filter((name) => name.startsWith("copy.")).map((name) => join(folder, name))];
        assert.ok(all.length >= 4, all.join());
        assert.ok(all.some((name) => name.endsWith("copy.jsonl") && statSync(name).size > 0), "there is a copy");
        for (const name of all) {
            const bytes = readFileSync(name);
            for (const [kind, secret] of Object.entries(SECRETS)) {
                // A half is too much.
                for (const part of [secret, secret.slice(0, 24), secret.slice(-16)])
                    assert.ok(part.length < 12 || !bytes.includes(part), `${kind} (${part}) is in ${name}`);
            }
        }
    });
});

describe("what the operator does", () => {
    test("start, edit mode, reload and stop are in the trail", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const fixture = await startHttp({}, t);
        const config: Config = { security: {}, servers: { it: { url: fixture.url } } };
        const gateway = await startGateway({ config, dataDir }, t);
        const trail = trailOf(gateway);
        await edit(gateway, "on", "--minutes", "5", "--reason", "a test");
        isLike(await trail.find((line) => line.event === "edit", "edit mode is recorded"), { event: "edit" }, "on");
        await edit(gateway, "off");
        await until(() => trail.lines.filter(({ event }) => event === "edit").length >= 2, "that it is off, too");
        await reload(gateway, { ...config, servers: { it: { url: fixture.url, access: "read" } } });
        const n = () => trail.lines.filter(({ event }) => event === "configuration").length;
        await until(() => n() >= 1, "the reload is recorded");
        const before = n();
        // One that is refused changes nothing, but somebody asked for it.
        writeFileSync(join(gateway.folder, "cardea.toml"), "[server]\nworkers = true\n");
        assert.equal((await askReload(gateway)).answer.ok, false);
        await gateway.stop();
        const events = trail.lines.map(({ event }) => event);
        t.diagnostic(`configuration lines: ${before} before a reload that was refused, ${n()} after`);
        assert.ok(events.includes("start") && events.includes("stop"), events.join());
        assert.ok(events.indexOf("start") < events.indexOf("edit"));
        assert.deepEqual(events.slice(-2).sort(), ["checkpoint", "stop"], "the last lines");
        isLike(trail.lines.find(({ event }) => event === "start"), { program: /^cardea /, mode: "best_effort" }, "start");
        await isVerified(dataDir);
    });

    test("a second run goes on where the first one stopped", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const config: Config = { servers: { it: { url: "http://127.0.0.1:9/mcp" } } };
        for (let i = 0; i < 3; i++) await (await startGateway({ config, dataDir })).stop();
        const run = await isVerified(dataDir);
        const dir = join(dataDir, "audit");
        for (const name of ["signing.pem", "hmac.key"]) assert.equal(statSync(join(dir, name)).mode & 0o777, 0o600, name);
        assert.equal(statSync(dir).mode & 0o777, 0o700);
        assert.ok(run.stdout.length > 0);
        // Somebody changes one byte in the middle.
        const file = join(dir, readdirSync(dir).find((name) => name.endsWith(".jsonl"))!);
        const bytes = readFileSync(file);
        bytes[bytes.indexOf('"start"') + 2] = 0x75;
        writeFileSync(file, bytes);
        const found = await cardea(["audit", "verify", "--data-dir", dataDir]);
        assert.equal(found.code, 1, found.stdout + found.stderr);
    });

    test("off is off: nothing is written", async (t) => {
        const fixture = await startHttp({}, t);
        const gateway = await startGateway({ config: { audit: { enabled: false }, servers: { it: { url: fixture.url } } } }, t);
        await served(gateway, "it__echo");
        await new ModernClient(gateway).call("it__echo", {});
        assert.deepEqual(trailOf(gateway).lines, []);
    });
});

describe("strangers", () => {
    const raw = async (gateway: Gateway, bytes: string): Promise<number[]> => (await exchange(gateway.port, bytes)).map(({ status }) => status);

    test("each request of nobody is counted once, by network and reason, and the sum is exact", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const gateway = await startGateway({ config: { servers: { it: { url: "http://127.0.0.1:9/mcp" } } }, dataDir }, t);
        const client = new ModernClient(gateway);
        const acts: [string, number, () => Promise<Answer | number[]>][] = [
            ["no token", 401, () => client.ask("tools/list", {}, { token: false })],
            ["a wrong token", 401, () => client.ask("tools/list", {}, { token: "cardea_wrong" })],
            ["a JWT of nobody", 401, () => client.ask("tools/list", {}, { token: jwt({ sub: "x" }) })],
            ["another Host", 421, () => send(gateway, { body: {}, headers: { Host: "evil.example" } })],
            ["another Origin", 403, () => send(gateway, { body: {}, headers: { Origin: "https://evil.example" } })],
            ["no HTTP", 400, () => raw(gateway, "HELLO\r\n\r\n")],
            ["two lengths", 400, () => raw(gateway, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}")],
        ];
        let n = 0;
        for (let round = 1; round <= 3; round++) {
            for (const [name, status, act] of acts) {
                const answer = await act();
                const statuses = Array.isArray(answer) ? answer : [answer.status];
                assert.ok(statuses.length === 1 && (statuses[0] === status || (status === 421 && statuses[0]! >= 400)), `${name}: ${statuses}`);
                n++;
            }
        }
        // A connection that says nothing, or not all of it, is no request.
        const silent = new Raw(gateway.port);
        silent.socket.write("GET /mcp HT");
        await until(() => silent.socket.writableLength === 0 && !silent.socket.connecting, "it is connected");
        silent.end();
        for (const path of ["/health", "/ready"]) await send(gateway, { method: "GET", path, token: false });
        await gateway.stop();
        const denied = trailOf({ dataDir } as Gateway).lines.filter(({ event }) => event === "denied");
        const shown = denied.map((line) => JSON.stringify(line)).join("\n");
        assert.equal(denied.reduce((sum, line) => sum + Number(line.count), 0), n, shown);
        for (const line of denied) {
            assert.equal(line.from, "127.0.0.0/24", shown);
            assert.match(String(line.reason), /.+/, shown);
            assert.equal(Number(line.count) % 3, 0, shown);
        }
        assert.equal(new Set(denied.map(({ reason }) => reason)).size, denied.length, "a line for each reason");
        assert.ok(denied.length >= 3, shown);
    });

    test("requests beyond the limit of an address are counted too", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const server = { rate_limits: { per_ip: { limit: 5, interval: "1h" } } };
        const gateway = await startGateway({ config: { server, servers: { it: { url: "http://127.0.0.1:9/mcp" } } }, dataDir }, t);
        const client = new ModernClient(gateway);
        const statuses = new Map<number, number>();
        for (let i = 0; i < 25; i++) {
            const { status } = await client.ask("server/discover");
            statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }
        assert.deepEqual([...statuses], [[200, 5], [429, 20]]);
        await gateway.stop();
        const lines = trailOf({ dataDir } as Gateway).lines;
        const denied = lines.filter(({ event }) => event === "denied").reduce((sum, line) => sum + Number(line.count), 0);
        const refused = lines.filter((line) => REQUESTS.has(line.event) && line.decision === "denied").length;
        assert.equal(denied + refused, 20);
        assert.equal(lines.filter((line) => line.event === "call" && line.decision === "allowed").length, 5);
    });

    test("what a stranger says is in no line", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const gateway = await startGateway({ config: { servers: { it: { url: "http://127.0.0.1:9/mcp" } } }, dataDir }, t);
        const mark = "written-by-a-stranger";
        const client = new ModernClient(gateway, "/mcp", { token: mark });
        await client.ask(`x/${mark}`, { name: mark });
        await send(gateway, { token: false, headers: { "User-Agent": mark, Origin: `https://${mark}`, Host: mark }, body: { method: mark } });
        const socket = net.connect(gateway.port, "127.0.0.1");
        socket.end(`${mark}\r\n\r\n`);
        await within(new Promise((resolve) => socket.on("close", resolve).on("error", () => {}).resume()), "it is closed");
        await gateway.stop();
        for (const { text } of (() => {
            const reader = trailOf({ dataDir } as Gateway);
            reader.more();
            return reader.all;
        })()) assert.ok(!text.includes(mark), text);
    });
});

describe("required mode", () => {
    test("an intent and an outcome for each call that leaves; one record for what does not", async (t) => {
        const fixture = await startHttp({}, t);
        const config: Config = {
            server: { workers: 1 },
            audit: { mode: "required" },
            security: {},
            servers: { it: { url: fixture.url, access: "read", timeout: "1s", tools: { count: { access: "write" } } } },
        };
        const gateway = await startGateway({ config }, t);
        await served(gateway, "it__echo");
        const trail = trailOf(gateway), client = new ModernClient(gateway);
        const from = trail.lines.length;
        await client.call("it__echo", { text: "mark-a" });
        await client.call("it__fail", { text: "mark-b" });
        await client.call("it__count", { text: "mark-c" });
        await client.call("it__hold", { text: "mark-d" });
        const abort = new AbortController();
        const gone = client.request("tools/call", { name: "it__hold", arguments: { text: "mark-e" } }, { signal: abort.signal }).catch(() => {});
        await fixture.requests.waitFor(({ body }) => body.includes("mark-e"));
        abort.abort();
        await gone;
        await client.call("it__echo", { text: "mark-f" });
        const outcomeOf = async (mark: string): Promise<Line> => {
            const intent = await trail.find((line) => line.event === "intent" && markOf(line) === mark, `the intent of ${mark}`, from);
            isLike(intent, { decision: "allowed", upstream: "it", status: undefined, id: /^[0-9a-f]{16}$/ }, mark);
            return trail.find((line) => line.event === "outcome" && line.id === intent.id, `the outcome of ${mark}`, from);
        };
        isLike(await outcomeOf("mark-a"), { status: "ok", duration_us: isNumber, bytes: isPositive, upstream_status: 200, user: undefined }, "a");
        isLike(await outcomeOf("mark-b"), { status: "tool-error" }, "b");
        isLike(await trail.find((line) => markOf(line) === "mark-c", "the refused one", from), { event: "call", decision: "denied", status: "refused" }, "c");
        isLike(await outcomeOf("mark-d"), { status: "timeout" }, "d");
        isLike(await outcomeOf("mark-e"), { status: "cancelled" }, "e");
        isLike(await outcomeOf("mark-f"), { status: "ok" }, "f");
        await isVerified(gateway.dataDir);
    });

    test("an answer of many megabytes, progress before it, and events", async (t) => {
        const fixture = await startHttp({ style: "sse" }, t);
        const gateway = await startGateway({ config: { audit: { mode: "required" }, servers: { it: { url: fixture.url } } } }, t);
        await served(gateway, "it__echo");
        const session = await openSession(gateway);
        const big = "x".repeat(2 << 20);
        const answer = await session.call("it__echo", { text: big });
        assert.equal((answer.result!.content as { text: string }[])[0]!.text.length, big.length);
        const events = await stream(gateway, {
            headers: session.headers,
            method: "POST",
            body: { jsonrpc: "2.0", id: 5, method: "tools/call", params: { name: "it__progress", arguments: { steps: 5 }, _meta: { progressToken: "p" } } },
        });
        await events.ended;
        assert.equal(events.messages.items.length, 6, JSON.stringify(events.messages.items));
        assert.equal(events.messages.items.at(-1)!.id, 5);
    });
});
