/*
 * auth.type = "exchange" with a real authorization server: every caller reaches the server as itself, with a token
 * that is for that server, was made of the very token that the caller has shown, and is nobody else's.
 */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp } from "./fixtures/http-server.ts";
import { cardea, prepared } from "./lib/cli.ts";
import type { Config, Gateway, ServerConfig, Value } from "./lib/gateway.ts";
import {
    ACCESS_TOKEN,
    CLIENTS,
    credentials,
    EXCHANGE,
    type Grantor,
    type GrantorOptions,
    type Guarded,
    type GuardedOptions,
    keyFile,
    SECRET,
    startGrantor,
    startGuarded,
    type Visit,
} from "./lib/grants.ts";
import { openSession, served } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { claims, startProtected } from "./lib/oauth.ts";
import { as, Tokens } from "./lib/principals.ts";
import { random } from "./lib/random.ts";
import { reload } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { call, refusal, said, status, type Request } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

/** What a caller is told for whom there is none, in a call and before the first one. */
const NO_TOKEN = /gets no token|no token for|the upstream srv is down/;

const ERAS = ["legacy", "modern"] as const;
type Era = (typeof ERAS)[number];
const speaking = (era: Era) => (era === "legacy" ? legacyOnly() : modernOnly);

interface Here {
    grantor: Grantor;
    guarded: Guarded;
    gateway: Gateway;
    config: Config;
    /** of the gateway */
    resource: string;
    /** an access token of that user for the gateway */
    token(user: string, claims?: { [name: string]: unknown }): string;
}

interface Options extends Omit<GuardedOptions, "grantor"> {
    as?: GrantorOptions;
    auth?: { [key: string]: Value };
    /** of [mcp.servers.srv] */
    own?: { [key: string]: Value };
    /** of [server] */
    server?: { [key: string]: Value };
    servers?: { [name: string]: ServerConfig };
}

async function start(t: TestContext, options: Options = {}): Promise<Here> {
    const { as: grantorOptions, auth, own, server, servers, ...rest } = options;
    const grantor = await startGrantor(t, grantorOptions);
    const guarded = await startGuarded(t, { ...rest, grantor });
    const { gateway, resource, config } = await startProtected(t, {
        oauth: { issuer: grantor.url, leeway: "0s" },
        ...(server === undefined ? {} : { server }),
        servers: {
            srv: { url: guarded.url, auth: { ...credentials(undefined), type: "exchange", ...auth }, ...own },
            ...servers,
        },
    });
    grantor.gateways.push(resource);
    return { grantor, guarded, gateway, config, resource, token: (user, more) => grantor.token(user, resource, more) };
}

/** A client of that era, with this token. */
async function caller(gateway: Gateway, era: Era, token: string, path = "/mcp/srv"): Promise<Request> {
    if (era === "modern") {
        const modern = new ModernClient(as(gateway, token), path);
        return (method, params) => modern.request(method, params);
    }
    const session = await openSession(as(gateway, token), path);
    return (method, params) => session.request(method, params);
}

const textOf = ({ request }: Visit): string | undefined =>
    (request.message?.params?.arguments as { text?: string } | undefined)?.text;

/** The server has seen good tokens only, of these callers, none of which was a caller's own. */
function isProper(here: Here, own: string[], except: (visit: Visit) => boolean = () => false): void {
    for (const visit of here.guarded.visits.items) {
        assert.ok(visit.status === 200 || except(visit), `${visit.request.body} ${visit.why}`);
        assert.ok(visit.token !== undefined && !own.includes(visit.token), "no caller's own token");
        assert.equal(claims(visit.token).aud, here.guarded.url);
    }
    assert.deepEqual(here.guarded.fixture.complaints, []);
}

async function isUntold({ gateway, grantor }: Here, own: string[]): Promise<void> {
    const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
    const all = JSON.stringify(gateway.log.items) + gateway.tail(10_000) + run.stdout + run.stderr;
    const given = grantor.given.map(({ body }) => body.access_token!);
    for (const token of [...own, ...given]) assert.ok(!all.includes(token.split(".")[2]!), "no token is anywhere");
    assert.ok(!all.includes(SECRET) && !all.includes(encodeURIComponent(SECRET)));
}

for (const era of ERAS) {
    describe(`a ${era} server`, { concurrency: 2 }, () => {
        test("knows each caller by a token of its own", async (t) => {
            const here = await start(t, {
                ...speaking(era),
                get: "stream",
                auth: { audience: "the server", scopes: ["mcp:use", "files:read"] },
            });
            const { gateway, guarded, grantor } = here;
            const users = ["alice", "bob"];
            const tokens = new Map(users.map((user) => [user, here.token(user)]));
            assert.equal(guarded.visits.items.length, 0, "nothing is sent before somebody calls");
            await Promise.all(
                users.flatMap((user) =>
                    ERAS.map(async (mine) => {
                        const ask = await caller(gateway, mine, tokens.get(user)!, "/mcp");
                        const { result } = await ask("tools/list");
                        const names = (result!.tools as { name: string }[]).map(({ name }) => name);
                        assert.ok(names.includes("srv__echo"), `${user} sees ${names}`);
                        for (let n = 0; n < 10; n++)
                            assert.equal(await said(call(ask, "srv__echo", { text: `${user} ${n}` })), `${user} ${n}`);
                    }),
                ),
            );
            isProper(here, [...tokens.values()]);
            const connections = new Map<number, string>(),
                sessions = new Map<string, string>();
            for (const visit of guarded.visits.items) {
                const { sub, aud, scope, act } = visit.claims!,
                    user = String(sub);
                assert.ok(users.includes(user));
                assert.equal(aud, guarded.url);
                assert.equal(scope, "mcp:use files:read");
                assert.deepEqual(act, { sub: CLIENTS.basic });
                const text = textOf(visit);
                if (text !== undefined) assert.equal(text.split(" ")[0], user, "a call has its caller's");
                const { connection } = visit.request,
                    session = visit.request.field("mcp-session-id");
                assert.equal(connections.get(connection) ?? user, user, "a connection serves one user");
                connections.set(connection, user);
                if (session === undefined) continue;
                assert.equal(sessions.get(session) ?? user, user, "a session serves one user");
                sessions.set(session, user);
            }
            if (era === "legacy") assert.equal(sessions.size, 2);
            assert.equal(grantor.grants.items.length, 2, "one exchange for each");
            for (const { form, authorization } of grantor.grants.items) {
                assert.match(authorization!, /^Basic /);
                const { subject_token, ...rest } = Object.fromEntries(form);
                assert.ok([...tokens.values()].includes(subject_token!));
                assert.deepEqual(rest, {
                    grant_type: EXCHANGE,
                    subject_token_type: ACCESS_TOKEN,
                    requested_token_type: ACCESS_TOKEN,
                    resource: guarded.url,
                    audience: "the server",
                    scope: "mcp:use files:read",
                });
            }
            await gateway.stop();
            isProper(here, [...tokens.values()]);
            if (era === "legacy") assert.equal(guarded.visitsOf("DELETE").length, 2);
        });

        test("never gets for a narrow token what a wide one of the same user got", async (t) => {
            const here = await start(t, speaking(era));
            const { gateway, guarded, grantor } = here;
            guarded.wants.set("seen", "files:write");
            const wide = here.token("alice", { scope: "mcp:use files:write" });
            const narrow = here.token("alice", { scope: "mcp:use" });
            const asks = [await caller(gateway, "modern", wide), await caller(gateway, "modern", narrow)] as const;
            const session = await openSession(as(gateway, wide), "/mcp/srv");
            const inSession = async (token: string, id: number, name: string, text: string) => {
                const body = { jsonrpc: "2.0", id, method: "tools/call", params: { name, arguments: { text } } };
                return (await session.send({ token, body })).messages.at(-1)!;
            };
            for (let n = 0; n < 5; n++) {
                await said(call(asks[0], "seen"));
                await said(call(asks[0], "echo", { text: "wide" }));
                await said(call(asks[1], "echo", { text: "narrow" }));
                await refusal(call(asks[1], "seen"));
                // The same session, with one token or the other.
                await said(inSession(narrow, 100 + 4 * n, "echo", "narrow"));
                await said(inSession(wide, 101 + 4 * n, "echo", "wide"));
                await refusal(inSession(narrow, 102 + 4 * n, "seen", "x"));
                await said(inSession(wide, 103 + 4 * n, "seen", "x"));
            }
            for (const visit of guarded.visits.items) {
                const text = textOf(visit);
                if (text !== "wide" && text !== "narrow") continue;
                assert.equal(String(visit.claims!.scope).includes("files:write"), text === "wide");
            }
            isProper(here, [wide, narrow], (visit) => visit.status === 403);
            assert.ok(grantor.grants.items.length <= 8, `${grantor.grants.items.length} exchanges`);
            for (const { form, body } of grantor.given) {
                const isWide = form.get("subject_token") === wide;
                assert.equal(String(claims(body.access_token!).scope).includes("files:write"), isWide);
            }
        });

        test("gets a new token as soon as its caller has one, in the same session", async (t) => {
            const here = await start(t, { ...speaking(era), get: "stream" });
            const { gateway, guarded } = here;
            const [first, second] = [
                here.token("alice", { client_id: "one" }),
                here.token("alice", { client_id: "two" }),
            ];
            const session = await openSession(as(gateway, first), "/mcp/srv");
            const ask = async (token: string, id: number) => {
                const params = { name: "echo", arguments: { text: `${id}` } };
                const body = { jsonrpc: "2.0", id, method: "tools/call", params };
                assert.equal(await said((await session.send({ token, body })).messages.at(-1)!), `${id}`);
                return guarded.visitsOf("tools/call").at(-1)!;
            };
            assert.equal((await ask(first, 100)).claims!.azp, "one");
            assert.equal((await ask(second, 101)).claims!.azp, "two");
            assert.equal((await ask(first, 102)).claims!.azp, "one");
            assert.equal(here.grantor.grants.items.length, 2);
            isProper(here, [first, second]);
        });
    });
}

describe("who is refused", { concurrency: 2 }, () => {
    test("other credentials than an access token", async (t) => {
        const tokens = new Tokens({ robot: undefined });
        const here = await start(t, { server: { auth: { tokens: tokens.table } } });
        const says = /you have shown another credential.*OAuth/;
        for (const token of [here.gateway.token, tokens.value.robot!]) {
            for (const era of ERAS) {
                const ask = await caller(here.gateway, era, token, "/mcp");
                assert.match(await refusal(call(ask, "srv__echo", { text: "hi" })), says);
                assert.match((await ask("prompts/get", { name: "srv__review" })).error!.message, says);
            }
        }
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const run = await cardea(["call", "srv__echo", "{}", ...prepared(folder, here.config)]);
        assert.notEqual(run.code, 0);
        assert.match(run.stdout + run.stderr, /there is no tool srv__echo/);
        assert.equal(here.guarded.visits.items.length, 0);
        assert.equal(here.grantor.grants.items.length, 0);
    });

    test("one user by the authorization server: that user alone", async (t) => {
        const here = await start(t, { own: { failure_threshold: 2 } });
        here.grantor.denied.add("mallory");
        const [mallory, alice] = [here.token("mallory"), here.token("alice")];
        const bad = await caller(here.gateway, "modern", mallory),
            good = await caller(here.gateway, "modern", alice);
        for (let n = 0; n < 8; n++) {
            assert.match(await refusal(call(bad, "echo", { text: "hi" })), NO_TOKEN);
            await said(call(good, "echo", { text: "hi" }));
        }
        const lists = await caller(here.gateway, "legacy", mallory, "/mcp");
        const { result } = await lists("tools/list");
        assert.deepEqual(result!.tools, []);
        await said(call(good, "echo", { text: "hi" }));
        assert.equal((await status(here.gateway)).get("srv")!.breaker, "closed");
        isProper(here, [mallory, alice]);
        for (const visit of here.guarded.visits.items) assert.equal(visit.claims!.sub, "alice");
        const asked = here.grantor.grants.items.filter(({ form }) => form.get("subject_token") === mallory).length;
        assert.ok(asked <= 6, `asked ${asked} times for mallory`);
        await here.gateway.waitForLog((entry) => /access_denied/.test(JSON.stringify(entry)));
        // The decision is the authorization server's, and may change.
        here.grantor.denied.clear();
        await until(
            async () => (await call(bad, "echo", { text: "hi" })).result?.isError !== true,
            "mallory is let in",
        );
        await isUntold(here, [mallory, alice]);
    });

    test("scopes that the caller does not have", async (t) => {
        const here = await start(t, {
            auth: { scopes: ["files:write"] },
            own: { restart: { initial: "1h", max: "1h" } },
        });
        const narrow = here.token("alice", { scope: "mcp:use" });
        await refusal(call(await caller(here.gateway, "modern", narrow), "echo", { text: "hi" }));
        await here.gateway.waitForLog((entry) => /invalid_scope/.test(JSON.stringify(entry)));
        // Her own matter; and another token of hers does not wait for the end of a pause.
        await said(call(await caller(here.gateway, "modern", here.token("bob")), "echo", { text: "hi" }));
        const wide = await caller(here.gateway, "modern", here.token("alice"));
        await until(async () => (await call(wide, "echo", { text: "hi" })).result?.isError !== true, "she is let in");
        isProper(here, [narrow]);
    });

    test("a gateway that the authorization server does not know", async (t) => {
        const here = await start(t, { auth: { client_secret: "another secret, which is wrong" } });
        const token = here.token("alice");
        assert.match(await refusal(call(await caller(here.gateway, "modern", token), "echo", { text: "x" })), NO_TOKEN);
        await here.gateway.waitForLog((entry) => /invalid_client/.test(JSON.stringify(entry)));
        assert.equal(here.guarded.visits.items.length, 0);
        await isUntold(here, [token]);
    });
});

describe("the ends of tokens", { concurrency: 2 }, () => {
    const soon = (seconds: number) => Math.floor(Date.now() / 1000) + seconds;

    test("the caller's: nothing is sent for it afterwards, in no way", async (t) => {
        const here = await start(t, { ...legacyOnly(), get: "stream" });
        const { gateway, guarded } = here;
        const exp = soon(4),
            token = here.token("alice", { exp });
        const session = await openSession(as(gateway, token), "/mcp/srv");
        await said(await session.call("echo", { text: "hi" }));
        const stream = await guarded.fixture.receives("GET");
        await within(stream.closed, "the stream is closed when the token ends");
        const answer = await session.send({ body: { jsonrpc: "2.0", id: 9, method: "tools/list" } });
        assert.equal(answer.status, 401);
        await until(() => Date.now() > exp * 1000 + 500, "it has ended");
        const before = guarded.visits.items.length,
            grants = here.grantor.grants.items.length;
        // Its next token goes on in the same session.
        const next = here.token("alice");
        const body = {
            jsonrpc: "2.0",
            id: 10,
            method: "tools/call",
            params: { name: "echo", arguments: { text: "on" } },
        };
        assert.equal(await said((await session.send({ token: next, body })).messages.at(-1)!), "on");
        assert.equal(here.grantor.grants.items.length, grants + 1);
        assert.equal(here.grantor.grants.items.at(-1)!.form.get("subject_token"), next);
        assert.ok(guarded.visits.items.length > before);
        assert.equal(guarded.visitsOf("initialize").length, 1, "the session goes on");
        // What left just before the end may arrive just behind it.
        const onTheWay = exp * 1000 + 250;
        isProper(here, [token, next], (visit) => visit.why === "it has ended" && visit.at < onTheWay);
        for (const visit of guarded.visits.items)
            if (visit.at >= onTheWay) assert.ok((visit.claims!.exp as number) > exp, "with the next one's");
    });

    test("the exchanged one: no call notices", async (t) => {
        const here = await start(t, { ...modernOnly, as: { lifetime: 3 } });
        const users = ["alice", "bob"];
        const tokens = users.map((user) => here.token(user));
        const end = Date.now() + 9000;
        await Promise.all(
            tokens.map(async (token, k) => {
                const ask = await caller(here.gateway, ERAS[k]!, token);
                const text = `${users[k]} calls`;
                await until(async () => {
                    assert.equal(await said(call(ask, "echo", { text })), text);
                    return Date.now() >= end;
                }, "nine seconds of calls");
            }),
        );
        isProper(here, tokens);
        for (const visit of here.guarded.visitsOf("tools/call"))
            assert.equal(textOf(visit)!.split(" ")[0], visit.claims!.sub);
        const n = here.grantor.grants.items.length;
        assert.ok(n >= 4 && n <= 24, `${n} exchanges in 9 s for two users`);
    });

    test("one that the server refuses: another one, for that user", async (t) => {
        const here = await start(t);
        const [alice, bob] = [here.token("alice"), here.token("bob")];
        const asks = [await caller(here.gateway, "modern", alice), await caller(here.gateway, "modern", bob)] as const;
        for (const ask of asks) await said(call(ask, "echo", { text: "x" }));
        here.guarded.revoked.add(here.guarded.served.findLast((visit) => visit.claims!.sub === "alice")!.token!);
        for (const ask of asks) await said(call(ask, "echo", { text: "x" }));
        const users = here.grantor.given.map(({ body }) => claims(body.access_token!).sub);
        assert.deepEqual(users.sort(), ["alice", "alice", "bob"]);
        isProper(here, [alice, bob], (visit) => visit.why === "it is revoked");
    });

    test("a reload that takes the issuer away: nobody of its users is served any more", async (t) => {
        const here = await start(t, { ...legacyOnly(), get: "stream", auth: {} });
        const other = await startGrantor(t);
        const token = here.token("alice");
        const session = await openSession(as(here.gateway, token), "/mcp/srv");
        await said(await session.call("echo", { text: "hi" }));
        const stream = await here.guarded.fixture.receives("GET");
        const oauth = { ...(here.config.server!.oauth as { [key: string]: Value }), issuer: other.url };
        const config = { ...here.config, server: { ...here.config.server, oauth } };
        await reload(here.gateway, config);
        const body = {
            jsonrpc: "2.0",
            id: 10,
            method: "tools/call",
            params: { name: "echo", arguments: { text: "x" } },
        };
        assert.equal((await session.send({ body })).status, 401);
        await within(stream.closed, "what was open for it is closed");
        const calls = here.guarded.visitsOf("tools/call").length;
        assert.equal((await session.send({ body })).status, 401);
        assert.equal(here.guarded.visitsOf("tools/call").length, calls);
        assert.ok(!other.requests.items.includes("POST /token"), "the other one is not shown it");
    });
});

describe("what is whose", { concurrency: 2 }, () => {
    test("lists", async (t) => {
        for (const era of ERAS) {
            let guarded: Guarded | undefined = undefined;
            const here: Here = await start(t, {
                ...speaking(era),
                on: (exchange) => {
                    if (exchange.message.method !== "tools/list") return false;
                    const visit = guarded!.visits.items.findLast(({ request }) => request === exchange.request)!;
                    const tools = ["echo", `only-${String(visit.claims!.sub)}`].map((name) => ({
                        name,
                        inputSchema: { type: "object" },
                    }));
                    const modern = { resultType: "complete", ttlMs: 60_000, cacheScope: "private" };
                    exchange.result({ tools, ...(era === "modern" ? modern : {}) });
                    return true;
                },
            });
            guarded = here.guarded;
            await Promise.all(
                ["alice", "bob", "carol"].flatMap((user) =>
                    ERAS.map(async (mine) => {
                        const ask = await caller(here.gateway, mine, here.token(user), "/mcp");
                        for (let n = 0; n < 3; n++) {
                            const { result } = await ask("tools/list");
                            const names = (result!.tools as { name: string }[]).map(({ name }) => name);
                            assert.deepEqual(names.sort(), ["srv__echo", `srv__only-${user}`]);
                        }
                    }),
                ),
            );
        }
    });

    test('sessions, with share = "session"', async (t) => {
        const here = await start(t, { ...legacyOnly(), get: "stream", own: { share: "session" } });
        const tokens = [here.token("alice"), here.token("alice"), here.token("bob")];
        const sessions = await Promise.all(tokens.map((token) => openSession(as(here.gateway, token), "/mcp/srv")));
        await Promise.all(
            sessions.map(async (session, k) => {
                for (let n = 0; n < 5; n++) assert.equal(await said(session.call("echo", { text: `${k}` })), `${k}`);
            }),
        );
        const owners = new Map<string, string>();
        for (const visit of here.guarded.visitsOf("tools/call")) {
            const id = visit.request.field("mcp-session-id")!,
                jti = textOf(visit)!;
            assert.equal(owners.get(id) ?? jti, jti, "a session behind is one in front");
            owners.set(id, jti);
            assert.equal(visit.claims!.sub, jti === "2" ? "bob" : "alice");
        }
        assert.equal(owners.size, 3);
        isProper(here, tokens);
    });

    test("servers: each gets a token for itself, and one without has none", async (t) => {
        const plain = await startHttp({}, t);
        const grantor = await startGrantor(t);
        const [one, two] = [await startGuarded(t, { grantor }), await startGuarded(t, { grantor, ...modernOnly })];
        const id = CLIENTS.EdDSA;
        const { gateway, resource } = await startProtected(t, {
            oauth: { issuer: grantor.url },
            servers: {
                one: { url: one.url, auth: { ...credentials(undefined), type: "exchange" } },
                two: { url: two.url, auth: { type: "exchange", client_id: id, client_key_path: keyFile(t, id) } },
                three: { url: two.url, auth: credentials(grantor.url) },
                plain: { url: plain.url },
            },
        });
        grantor.gateways.push(resource);
        await served(gateway, "plain__echo");
        const token = grantor.token("alice", resource);
        const ask = await caller(gateway, "legacy", token, "/mcp");
        for (const name of ["one", "two", "three", "plain"]) await said(call(ask, `${name}__echo`, { text: name }));
        for (const visit of one.visits.items) assert.equal(visit.claims!.sub, "alice");
        for (const visit of two.visitsOf("tools/call"))
            assert.equal(visit.claims!.sub, textOf(visit) === "two" ? "alice" : CLIENTS.basic);
        const seen = [...one.visits.items, ...two.visits.items].map((visit) => visit.token);
        assert.ok(!seen.includes(token));
        for (const request of plain.requests.items) assert.equal(request.field("authorization"), undefined);
    });
});

test("50 users at random: each call as the model says", async (t) => {
    const seed = Number(process.env.CARDEA_TEST_SEED ?? Date.now() % 1_000_000),
        die = random(seed);
    t.diagnostic(`CARDEA_TEST_SEED=${seed}`);
    const here = await start(t, { revisions: ["2025-11-25", "2026-07-28"], own: { max_instances: 64 } });
    const { gateway, guarded } = here;
    const needs: { [tool: string]: string } = { seen: "files:read", count: "files:write", echo: "mcp:use" };
    for (const [tool, scope] of Object.entries(needs)) guarded.wants.set(tool, scope);
    const scopes = ["files:read", "files:write"];
    const own: string[] = [];
    const make = (user: string) => {
        const scope = ["mcp:use", ...scopes.filter(() => die(2) === 0)].join(" ");
        const label = `client ${own.length}`;
        const token = here.token(user, { scope, client_id: label });
        own.push(token);
        return { token, scope, label, modern: new ModernClient(as(gateway, token), "/mcp/srv") };
    };
    const users = await Promise.all(
        Array.from({ length: 50 }, async (_, n) => {
            const name = `user-${n}`,
                mine = [make(name), make(name)];
            const session = n % 3 === 0 ? await openSession(as(gateway, mine[0]!.token), "/mcp/srv") : undefined;
            return { name, mine, session };
        }),
    );
    let id = 1000,
        revoked = 0;
    const one = async () => {
        const user = users[die(users.length)]!,
            n = die(user.mine.length);
        if (die(40) === 0) user.mine[n] = make(user.name);
        const { token, scope, label, modern } = user.mine[n]!;
        const tool = Object.keys(needs)[die(3)]!,
            text = `${user.name}/${label}/${id}`;
        const body = { jsonrpc: "2.0", id: id++, method: "tools/call", params: { name: tool, arguments: { text } } };
        if (die(60) === 0) {
            const last = guarded.served.findLast((visit) => visit.claims!.sub === user.name);
            if (last !== undefined && guarded.revoked.size < 30) {
                guarded.revoked.add(last.token!);
                revoked++;
            }
        }
        const answer =
            user.session !== undefined && die(2) === 0
                ? (await user.session.send({ token, body })).messages.at(-1)!
                : await modern.call(tool, { text });
        const may = scope.split(" ").includes(needs[tool]!);
        assert.equal(answer.error, undefined, JSON.stringify(answer));
        assert.equal(answer.result!.isError !== true, may, `${text} ${tool} ${scope}: ${JSON.stringify(answer)}`);
    };
    const work = async () => {
        for (let n = 0; n < 50; n++) await one();
    };
    await Promise.all(Array.from({ length: 12 }, work));
    for (const visit of guarded.visitsOf("tools/call")) {
        const [name, label] = textOf(visit)!.split("/");
        const { sub, azp } = claims(visit.token!);
        assert.deepEqual([sub, azp], [name, label], "made of the caller's very token");
    }
    const owners = new Map<string, unknown>();
    for (const visit of guarded.visits.items) {
        const { sub } = claims(visit.token!);
        for (const key of [`connection ${visit.request.connection}`, visit.request.field("mcp-session-id")]) {
            if (key === undefined) continue;
            assert.equal(owners.get(key) ?? sub, sub, `${key} is one user's`);
            owners.set(key, sub);
        }
    }
    isProper(here, own, (visit) => visit.status === 403 || visit.why === "it is revoked");
    const n = here.grantor.grants.items.length;
    t.diagnostic(
        `${guarded.visits.items.length} requests, ${own.length} tokens of callers, ${revoked} revoked, ${n} exchanges`,
    );
});
