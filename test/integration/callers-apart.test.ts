/*
 * Callers with credentials of their own: what one of them has is nothing to another one, whatever it knows of it. Tokens
 * of the configuration, HS256 tokens of an issuer, the variable MCP_API_TOKEN.
 */
import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";

import { startControl, type Control, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, send, served, serving, stream, text, type RawAnswer, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { post, Raw } from "./lib/raw.ts";
import { reload } from "./lib/reload.ts";
import { until } from "./lib/wait.ts";

const SECRET = "a secret that is long enough for HS256";
const ISSUER = "https://id.example";
const RESOURCE = "https://gw.example";

const token = () => `cardea_${randomBytes(32).toString("base64url")}`;
const hash = (value: string) => `sha256:${createHash("sha256").update(value).digest("hex")}`;

function jwt(claims: object): string {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const signed = `${part({ alg: "HS256", typ: "at+jwt" })}.${part({
        iss: ISSUER,
        aud: RESOURCE,
        iat: now,
        exp: now + 600,
        ...claims,
    })}`;
    return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

const request = (id: string | number, method: string, params?: unknown): RpcMessage =>
    ({ jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) }) as RpcMessage;

describe("callers", () => {
    const TOKENS = { alice: token(), bob: token(), narrow: token(), old: token(), env: "your-secure-token-here" };
    let control: Control;
    let gateway: Gateway;
    const as = (value: string) => ({ port: gateway.port, token: value }) as Gateway;

    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            env: { ...process.env, MCP_API_TOKEN: TOKENS.env },
            config: {
                server: {
                    auth: {
                        tokens: {
                            alice: { hash: hash(TOKENS.alice) },
                            bob: { hash: hash(TOKENS.bob) },
                            narrow: { hash: hash(TOKENS.narrow), servers: ["two"] },
                            old: { hash: hash(TOKENS.old), expires: "2020-01-01" },
                        },
                    },
                    oauth: { secret: SECRET, expected_issuer: ISSUER, protected_resource: { resource: RESOURCE } },
                },
                servers: {
                    one: { cmd: control.command({ name: "one" }) },
                    two: { cmd: control.command({ name: "two" }) },
                    guarded: {
                        cmd: control.command({ name: "guarded" }),
                        scopes: ["guarded:use"],
                        tools: { echo: { scopes: ["guarded:echo"] } },
                    },
                },
            },
        });
        await served(gateway, "one__echo", "two__echo", "guarded__echo");
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    test("every kind of credential works, what has expired or is made up does not", async () => {
        for (const value of [TOKENS.alice, TOKENS.bob, TOKENS.narrow, TOKENS.env, jwt({ sub: "carol" }), gateway.token]) {
            const session = await openSession(as(value));
            assert.deepEqual((await session.request("ping")).result, {});
            await session.end();
        }
        const wrong = [TOKENS.old, token(), hash(TOKENS.alice), jwt({ sub: "carol", exp: 1 }), jwt({ sub: "" }), "x.y.z"];
        for (const value of wrong) {
            const answer = await send(as(value), { body: request(1, "ping") });
            assert.equal(answer.status, 401, answer.text);
            assert.match(String(answer.headers["www-authenticate"]), /^Bearer .*error="invalid_token"/);
            assert.match(
                String(answer.headers["www-authenticate"]),
                /resource_metadata="https:\/\/gw\.example\/\.well-known\/oauth-protected-resource\/mcp"/,
            );
            assert.ok(!answer.text.includes(value), "the answer does not repeat the token");
        }
        const none = await send(as(""), { token: false, body: request(1, "ping") });
        assert.equal(none.status, 401);
        assert.doesNotMatch(String(none.headers["www-authenticate"]), /error=/);
        const log = gateway.log.items.map((entry) => JSON.stringify(entry)).join("\n");
        for (const value of [...Object.values(TOKENS), SECRET, ...wrong]) {
            if (value.length > 8) assert.ok(!log.includes(value), "no credential is in the log");
        }
    });

    const pairs: [string, () => string, () => string][] = [
        ["two tokens", () => TOKENS.alice, () => TOKENS.bob],
        ["two users of an issuer", () => jwt({ sub: "carol" }), () => jwt({ sub: "dave" })],
        ["a token and a user of its name", () => TOKENS.alice, () => jwt({ sub: "alice" })],
        ["a user and a client of the same name", () => jwt({ sub: "job" }), () => jwt({ client_id: "job" })],
        ["the local token and a user called local", () => gateway.token, () => jwt({ sub: "local" })],
    ];
    for (const [title, mine, theirs] of pairs) {
        test(`a session of another caller does not exist: ${title}`, async () => {
            const session = await openSession(as(mine()));
            const stranger = as(theirs());
            const headers = session.headers;
            for (const outgoing of [
                { body: request(1, "ping") },
                { body: request(1, "tools/list") },
                { body: request(1, "tools/call", { name: "one__echo", arguments: { text: "x" } }) },
                { body: { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 1 } } },
                { method: "GET" },
                { method: "GET", headers: { "Last-Event-ID": "1" } },
                { method: "DELETE" },
            ]) {
                const answer = await send(stranger, { ...outgoing, headers: { ...headers, ...outgoing.headers } });
                assert.equal(answer.status, 404, `${outgoing.method ?? "POST"} ${answer.text}`);
            }
            assert.deepEqual((await session.request("ping")).result, {}, "and lives on");
            await session.end();
        });

        test(`children are not shared: ${title}`, async () => {
            const mySession = await openSession(as(mine()));
            const theirSession = await openSession(as(theirs()));
            const [one, other] = await Promise.all(
                [mySession, theirSession].map((session) => serving(control, session, "one__")),
            );
            assert.notEqual(one!.start.pid, other!.start.pid);
            await mySession.end();
            await theirSession.end();
        });
    }

    test("the same user is the same caller, whatever token it shows", async () => {
        const session = await openSession(as(jwt({ sub: "carol", jti: "1" })));
        const other = as(jwt({ sub: "carol", jti: "2" }));
        const answer = await send(other, { headers: session.headers, body: request(1, "ping") });
        assert.equal(answer.status, 200, answer.text);
        await session.end();
    });

    test("the id of a request is nothing to another caller who cancels it", async () => {
        const mine = await openSession(as(TOKENS.alice));
        const theirs = await openSession(as(TOKENS.bob));
        const server = await serving(control, mine, "one__");
        const call = mine.call("one__hold", {}, "the same id");
        await server.events.waitFor((event) => event.event === "held");
        await theirs.notify("notifications/cancelled", { requestId: "the same id" });
        assert.deepEqual((await theirs.request("ping")).result, {});
        await server.sync();
        assert.equal(server.received("notifications/cancelled").length, 0);
        server.do({ do: "release" });
        assert.equal((await call).error, undefined);
        await mine.end();
        await theirs.end();
    });

    test("a token for some servers sees no others", async () => {
        const session = await openSession(as(TOKENS.narrow));
        const names = async (method: string, list: string) =>
            ((await session.request(method)).result![list] as { name: string }[]).map((item) => item.name);
        const tools = await names("tools/list", "tools");
        assert.ok(tools.length > 0 && tools.every((name) => name.startsWith("two__")), String(tools));
        const prompts = await names("prompts/list", "prompts");
        assert.ok(prompts.every((name) => name.startsWith("two__")), String(prompts));
        const denied = await session.call("one__echo", { text: "x" });
        const unknown = await session.call("none__echo", { text: "x" });
        assert.equal(denied.error?.code, unknown.error?.code);
        assert.equal(denied.error?.message.replace("one__", ""), unknown.error?.message.replace("none__", ""));
        assert.equal(text(await session.call("two__echo", { text: "x" })), "x");
        const known = await send(as(TOKENS.narrow), { path: "/mcp/one", body: request(1, "ping") });
        const made = await send(as(TOKENS.narrow), { path: "/mcp/none", body: request(1, "ping") });
        assert.equal(known.status, 404);
        assert.equal(known.text, made.text);
        assert.equal((await openSession(as(TOKENS.narrow), "/mcp/two")).path, "/mcp/two");
        await session.end();
    });

    test("a token for some servers is told of no others by /ready", async () => {
        const told = async (value: string): Promise<string[] | undefined> => {
            const answer = await send(as(value), { method: "GET", path: "/ready" });
            assert.equal(answer.status, 200, answer.text);
            const { upstreams } = JSON.parse(answer.text) as { upstreams?: { name: string }[] };
            return upstreams?.map((upstream) => upstream.name);
        };
        assert.deepEqual(await told(TOKENS.narrow), ["two"]);
        assert.deepEqual(await told(TOKENS.alice), ["one", "two", "guarded"]);
        assert.equal(await told(TOKENS.old), undefined);
    });

    const stepUp = async (session: Session, name: string): Promise<string[] | undefined> => {
        const answer = await session.send({ body: request(7, "tools/call", { name, arguments: { text: "x" } }) });
        if (answer.status === 200) return undefined;
        assert.equal(answer.status, 403, answer.text);
        const challenge = String(answer.headers["www-authenticate"]);
        assert.match(challenge, /error="insufficient_scope"/);
        assert.match(challenge, /resource_metadata="/);
        assert.equal(answer.messages[0]!.id, 7);
        return /scope="([^"]*)"/.exec(challenge)![1]!.split(" ").sort();
    };

    test("scopes of a server and of a tool: each is asked for, all are named at once", async () => {
        const needs = ["guarded:echo", "guarded:use"];
        const rows: [string | undefined, string, string[] | undefined][] = [
            [undefined, "guarded__echo", needs],
            ["guarded:use", "guarded__echo", needs],
            ["guarded:echo", "guarded__echo", needs],
            ["guarded:use guarded:echo", "guarded__echo", undefined],
            ["guarded:use", "guarded__whoami", undefined],
            ["guarded:echo", "guarded__whoami", ["guarded:use"]],
            ["GUARDED:USE", "guarded__whoami", ["guarded:use"]],
            [undefined, "one__echo", undefined],
        ];
        for (const [scope, name, wanted] of rows) {
            const session = await openSession(as(jwt({ sub: "carol", ...(scope === undefined ? {} : { scope }) })));
            assert.deepEqual(await stepUp(session, name), wanted, `${scope} ${name}`);
            await session.end();
        }
        const plain = await openSession(as(TOKENS.alice));
        assert.deepEqual(await stepUp(plain, "guarded__echo"), needs, "tokens have the scopes that they were given");
        await plain.end();
        const owner = await openSession(gateway);
        assert.equal(await stepUp(owner, "guarded__echo"), undefined, "the owner of the machine has all");
        await owner.end();
        const modern = new ModernClient(as(jwt({ sub: "carol" })));
        const answer = await modern.ask("tools/call", { name: "guarded__echo", arguments: { text: "x" } });
        assert.equal(answer.status, 403, answer.text);
    });

    test("a connection that changes its token changes its caller", async () => {
        const { Agent, request: ask } = await import("node:http");
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        const mine = await openSession(as(TOKENS.alice));
        const ping = (value: string | undefined): Promise<number> =>
            new Promise((resolve, reject) => {
                const body = JSON.stringify(request(1, "ping"));
                const outgoing = ask({
                    agent,
                    port: gateway.port,
                    host: "127.0.0.1",
                    method: "POST",
                    path: "/mcp",
                    headers: {
                        ...mine.headers,
                        ...(value === undefined ? {} : { Authorization: `Bearer ${value}` }),
                        "Content-Type": "application/json",
                        Accept: "application/json, text/event-stream",
                        "Content-Length": Buffer.byteLength(body),
                    },
                });
                outgoing.once("response", (incoming) => {
                    incoming.resume();
                    incoming.once("end", () => resolve(incoming.statusCode!));
                });
                outgoing.once("error", reject);
                outgoing.end(body);
            });
        const rows: [string | undefined, number][] = [
            [TOKENS.alice, 200],
            [TOKENS.alice, 200],
            [TOKENS.bob, 404],
            [undefined, 401],
            [TOKENS.alice, 200],
            ["", 401],
            [`${TOKENS.alice}x`, 401],
            [TOKENS.alice.slice(0, -1), 401],
            [jwt({ sub: "alice" }), 404],
            [gateway.token, 404],
            [TOKENS.alice, 200],
        ];
        for (const [value, status] of rows) assert.equal(await ping(value), status, String(value));
        agent.destroy();
        await mine.end();
    });

    test("a request whose body drips in outlives neither its token nor the configuration", async () => {
        const victim = token();
        const other = token();
        const config = (names: { [name: string]: string }) => ({
            server: {
                auth: { tokens: Object.fromEntries(Object.entries(names).map(([name, value]) => [name, { hash: hash(value) }])) },
                oauth: { secret: SECRET, expected_issuer: ISSUER, leeway: "0s", protected_resource: { resource: RESOURCE } },
            },
            servers: { one: { cmd: control.command({ name: "one" }) } },
        });
        const own = await startGateway({ config: config({ victim, other }) });
        try {
            const body = JSON.stringify(request(1, "ping"));
            const begin = (value: string, session: Session): Raw => {
                const raw = new Raw(own.port);
                const bytes = post({ port: own.port, token: value } as Gateway, body, { ...session.headers, Connection: "close" });
                raw.socket.write(bytes.slice(0, -1));
                return raw;
            };
            const finish = async (raw: Raw): Promise<RawAnswer> => {
                raw.socket.write(body.slice(-1));
                return (await raw.answers())[0]!;
            };
            const ends = Math.floor(Date.now() / 1000) + 2;
            const short = jwt({ sub: "carol", exp: ends });
            const slow = [];
            for (const value of [short, victim, other]) {
                slow.push(begin(value, await openSession({ port: own.port, token: value } as Gateway)));
            }
            await reload(own, config({ other }));
            await until(() => Date.now() >= ends * 1000 + 500, "the end of the token");
            const answers = [];
            for (const raw of slow) answers.push(await finish(raw));
            assert.deepEqual(
                answers.map((answer) => answer.status),
                [401, 401, 200],
            );
            assert.match(String(answers[1]!.headers.get("www-authenticate")), /^Bearer .*error="invalid_token"/);
        } finally {
            await own.stop();
        }
    });

    test("strangers cannot fill the log", async () => {
        const own = await startGateway({
            config: { server: { workers: 1 }, servers: { one: { cmd: control.command({ name: "one" }) } } },
        });
        try {
            const began = performance.now();
            for (let round = 0; round < 4; round++) {
                await Promise.all(Array.from({ length: 100 }, () => send(own, { token: "nobody", body: request(1, "ping") })));
            }
            const further = await own.log.waitFor((entry) => entry.message === "refused further requests");
            const seconds = Math.ceil((performance.now() - began) / 1000) + 1;
            const told = own.log.items.filter((entry) => entry.message === "refused a request").length;
            assert.ok(told >= 50 && told <= 50 * seconds, `${told} lines in ${seconds} s`);
            assert.ok(Number(further.requests) > 0);
        } finally {
            await own.stop();
        }
    });

    test("a stream ends with the token that opened it", async () => {
        const own = await startGateway({
            config: {
                server: {
                    limits: { keepalive: "1s" },
                    oauth: {
                        secret: SECRET,
                        expected_issuer: ISSUER,
                        leeway: "0s",
                        protected_resource: { resource: RESOURCE },
                    },
                },
                servers: { one: { cmd: control.command({ name: "one" }) } },
            },
        });
        try {
            const short = jwt({ sub: "carol", exp: Math.floor(Date.now() / 1000) + 2 });
            const target = { port: own.port, token: short } as Gateway;
            const session = await openSession(target);
            const open = await stream(target, { method: "GET", headers: session.headers });
            assert.equal(open.status, 200);
            await open.ended;
            const again = await stream(target, { method: "GET", headers: session.headers });
            assert.equal(again.status, 401);
        } finally {
            await own.stop();
        }
    });
});
