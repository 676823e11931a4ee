/*
 * auth.type = "forward": a caller's access token goes to the one server that it names, in every request of its owner
 * and in no other's, and to nobody else.
 */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import {
    HttpFixture,
    legacyOnly,
    modernOnly,
    startHttp,
    type HttpOptions,
    type Received,
} from "./fixtures/http-server.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { startGateway, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import { openSession, served, type Session } from "./lib/http.ts";
import { startIssuer } from "./lib/issuer.ts";
import { ModernClient } from "./lib/modern.ts";
import { startProtected } from "./lib/oauth.ts";
import { as, jwt, oauth, Tokens } from "./lib/principals.ts";
import { reload } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { call, refusal, said, status } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;
const GATEWAY = oauth.protected_resource.resource;
const speaking = (era: "legacy" | "modern") => (era === "legacy" ? legacyOnly() : modernOnly);

interface Here {
    fixture: HttpFixture;
    gateway: Gateway;
    /** a token for the gateway and this server, of that user */
    token(user: string, claims?: object): string;
}

async function start(
    t: TestContext,
    options: HttpOptions = {},
    server: { [key: string]: Value } = {},
    more: { servers?: { [name: string]: ServerConfig }; server?: { [key: string]: Value } } = {},
): Promise<Here> {
    const fixture = await startHttp(options, t);
    const { auth, ...rest } = server;
    const gateway = await startGateway(
        {
            config: {
                server: { oauth: { ...oauth, leeway: "0s" }, ...more.server },
                servers: {
                    http: { url: fixture.url, auth: { type: "forward", ...(auth as object) }, ...rest },
                    ...more.servers,
                },
            },
        },
        t,
    );
    const token: Here["token"] = (sub, claims) =>
        jwt({ sub, aud: [GATEWAY, fixture.url], jti: Math.random(), ...claims });
    return { fixture, gateway, token };
}

const bearer = (request: Received): string => {
    const values = request.fields.filter(([name]) => name.toLowerCase() === "authorization").map(([, value]) => value);
    assert.equal(values.length, 1, `one credential: ${JSON.stringify(request.fields)}`);
    return values[0]!.replace(/^Bearer /, "");
};

const subject = (token: string): string =>
    (JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as { sub: string }).sub;

/** Nobody else has seen any of them. */
function isUntold(gateway: Gateway, tokens: string[]): void {
    const log = JSON.stringify(gateway.log.items) + gateway.tail();
    for (const token of tokens) {
        assert.ok(!log.includes(token), "the log has no token");
        assert.ok(!log.includes(token.split(".")[2]!), "nor its signature");
    }
}

/** Names the tool as it is listed at the endpoint of its server. */
async function request(gateway: Gateway, era: "legacy" | "modern", token: string, path = "/mcp/http") {
    if (era === "modern") {
        const modern = new ModernClient(as(gateway, token), path);
        return (method: string, params?: { [key: string]: unknown }) => modern.request(method, params);
    }
    const session = await openSession(as(gateway, token), path);
    return (method: string, params?: { [key: string]: unknown }) => session.request(method, params);
}

for (const era of ERAS) {
    describe(`a ${era} server`, { concurrency: 2 }, () => {
        test("gets of each user its own token, in everything, on its own connections", async (t) => {
            const plain = await startHttp(speaking(era), t);
            const servers = { plain: { url: plain.url } };
            const here = await start(t, { ...speaking(era), get: "stream" }, {}, { servers });
            const { fixture, gateway } = here;
            const users = ["alice", "bob", "carol"];
            const tokens = new Map(users.map((user) => [user, here.token(user)]));
            // What the gateway does by itself at its start is done.
            await until(async () => (await status(gateway)).get("plain")?.state === "ready", "plain is ready");
            await served(gateway, "plain__echo");
            assert.equal(fixture.requests.items.length, 0, "nothing is sent without a token");

            await Promise.all(
                users.flatMap((user) =>
                    ERAS.map(async (mine) => {
                        const ask = await request(gateway, mine, tokens.get(user)!, "/mcp");
                        const { result } = await ask("tools/list");
                        const names = (result!.tools as { name: string }[]).map(({ name }) => name);
                        assert.ok(names.includes("http__echo"), `${user} sees ${names}`);
                        for (let n = 0; n < 10; n++)
                            assert.equal(await said(call(ask, "http__echo", { text: `${user} ${n}` })), `${user} ${n}`);
                        await said(call(ask, "plain__echo", { text: user }));
                    }),
                ),
            );
            const owners = new Map<number, string>(), sessions = new Map<string, string>();
            for (const each of fixture.requests.items) {
                const token = bearer(each), user = subject(token);
                assert.equal(token, tokens.get(user));
                const text = (each.message?.params?.arguments as { text?: string } | undefined)?.text;
                if (text !== undefined) assert.equal(text.split(" ")[0], user, "a call has its caller's");
                assert.equal(owners.get(each.connection) ?? user, user, "a connection serves one user");
                owners.set(each.connection, user);
                const session = each.field("mcp-session-id");
                if (session !== undefined) {
                    assert.equal(sessions.get(session) ?? user, user, "a session serves one user");
                    sessions.set(session, user);
                }
            }
            assert.deepEqual([...new Set(owners.values())].sort(), users);
            if (era === "legacy") assert.equal(new Set(sessions.values()).size, users.length);
            for (const each of plain.requests.items)
                assert.equal(each.field("authorization"), undefined, "no other server gets one");

            // The end of a session, and its stream, too.
            await gateway.stop();
            const ends = fixture.received("DELETE");
            if (era === "legacy") assert.equal(ends.length, users.length);
            for (const each of [...ends, ...fixture.received("GET")])
                assert.equal(bearer(each), tokens.get(sessions.get(each.field("mcp-session-id")!)!));
            assert.deepEqual(fixture.complaints, []);
            isUntold(gateway, [...tokens.values()]);
        });

        test("gets the new token as soon as its caller has one, in the same session", async (t) => {
            const here = await start(t, { ...speaking(era), get: "stream" });
            const { fixture, gateway } = here;
            const later = Math.floor(Date.now() / 1000) + 7200;
            const [first, second] = [here.token("alice"), here.token("alice", { exp: later })];
            const session = await openSession(as(gateway, first), "/mcp/http");
            const ask = async (token: string, id: number) => {
                const params = { name: "echo", arguments: { text: `${id}` } };
                const body = { jsonrpc: "2.0", id, method: "tools/call", params };
                assert.equal(await said((await session.send({ token, body })).messages.at(-1)!), `${id}`);
                return fixture.received("tools/call").at(-1)!;
            };
            await session.request("tools/list");
            assert.equal(bearer(await ask(first, 100)), first);
            const seen = fixture.requests.items.length;
            const call = await ask(second, 101);
            assert.equal(bearer(call), second);
            assert.equal(call.field("mcp-session-id"), fixture.received("tools/call")[0]!.field("mcp-session-id"));
            // A call has the one that came with it, also when that is the older one.
            assert.equal(bearer(await ask(first, 102)), first);
            // What is done by itself has the newer one.
            if (era === "legacy") {
                fixture.brain.tools.pop();
                fixture.announce("notifications/tools/list_changed");
                assert.equal(bearer(await fixture.receives("tools/list", seen)), second);
            }
            await gateway.stop();
            for (const each of fixture.received("DELETE")) assert.equal(bearer(each), second);
            isUntold(gateway, [first, second]);
        });

        test("hears of no redirect, and neither does where it points", async (t) => {
            const other = await startHttp(speaking(era), t);
            const here = await start(t, speaking(era));
            const token = here.token("alice");
            const ask = await request(here.gateway, era, token);
            await said(call(ask, "echo", { text: "hi" }));
            for (const code of [301, 302, 307, 308]) {
                const act = here.fixture.act((exchange) => exchange.empty(code, { Location: other.url }));
                assert.match(await refusal(call(ask, "echo", act)), new RegExp(`${code}`));
                assert.equal(here.fixture.calls(act).length, 1);
            }
            assert.equal(other.requests.items.length, 0);
        });
    });
}

describe("who is refused", { concurrency: 2 }, () => {
    /** Calls it by name, with and without a catalog, and asks for a prompt. */
    async function isRefused(here: Here, token: string | undefined, says: RegExp): Promise<void> {
        const before = here.fixture.requests.items.length;
        for (const era of ERAS) {
            const ask = await request(here.gateway, era, token ?? here.gateway.token, "/mcp");
            assert.match(await refusal(call(ask, "http__echo", { text: "hi" })), says);
            const { error } = await ask("prompts/get", { name: "http__review" });
            assert.match(error!.message, says);
            assert.ok(error!.code > -32000 || error!.code < -32768, `${error!.code}`);
        }
        const single = await request(here.gateway, "modern", token ?? here.gateway.token);
        assert.match(await refusal(call(single, "echo", { text: "hi" })), says);
        assert.equal(here.fixture.requests.items.length, before, "nothing was sent");
    }

    test("another audience", async (t) => {
        const here = await start(t);
        const says = /\(aud\) does not name its URL \(mcp\.servers\.http\.auth\.audience\)/;
        await isRefused(here, jwt({ sub: "alice" }), says);
        await isRefused(here, jwt({ sub: "alice", aud: [GATEWAY, `${here.fixture.url}/more`] }), says);
        await isRefused(here, jwt({ sub: "alice", aud: [GATEWAY, here.fixture.url.replace("/mcp", "")] }), says);
        // Another token of the same user opens nothing for this one, though there is a session now.
        const good = await request(here.gateway, "legacy", here.token("alice"), "/mcp");
        await said(call(good, "http__echo", { text: "hi" }));
        await isRefused(here, jwt({ sub: "alice" }), says);
        await said(call(good, "http__echo", { text: "again" }));
    });

    test("an audience of one's own", async (t) => {
        const here = await start(t, {}, { auth: { audience: "internal" } });
        await isRefused(here, here.token("alice"), /"internal"/);
        const ask = await request(here.gateway, "modern", jwt({ sub: "alice", aud: ["internal", GATEWAY] }));
        await said(call(ask, "echo", { text: "hi" }));
    });

    test("a scope that is missing", async (t) => {
        const here = await start(t, {}, { auth: { scopes: ["files:read", "files:write"] } });
        await isRefused(here, here.token("alice"), /lacks the scope "files:read"/);
        await isRefused(here, here.token("alice", { scope: "files:read" }), /lacks the scope "files:write"/);
        const ask = await request(here.gateway, "modern", here.token("alice", { scope: "x files:write files:read" }));
        await said(call(ask, "echo", { text: "hi" }));
    });

    test("other credentials", async (t) => {
        const tokens = new Tokens({ robot: undefined });
        const here = await start(t, {}, {}, { server: { auth: { tokens: tokens.table } } });
        const says = /you have shown another credential.*OAuth/;
        await isRefused(here, undefined, says);
        await isRefused(here, tokens.value.robot, says);
        const run = await cardea(["call", "http__echo", "{}", "--data-dir", here.gateway.dataDir]);
        assert.notEqual(run.code, 0);
        assert.equal(here.fixture.requests.items.length, 0);
        isUntold(here.gateway, []);
    });

    test("a server whose users have no token does not keep others waiting", async (t) => {
        const plain = await startHttp({}, t);
        const here = await start(t, {}, {}, { servers: { plain: { url: plain.url } } });
        await served(here.gateway, "plain__echo");
        const session = await openSession(here.gateway);
        const began = Date.now();
        for (let n = 0; n < 5; n++) await session.request("tools/list");
        assert.ok(Date.now() - began < 1500, "no list waits for it");
        assert.equal((await status(here.gateway)).get("http")!.state, "idle");
    });

    test("a token that the server does not take is its owner's matter alone", async (t) => {
        const here = await start(
            t,
            {
                on: (exchange) => {
                    if (subject(bearer(exchange.request)) !== "mallory") return false;
                    exchange.empty(401, { "WWW-Authenticate": "Bearer" });
                    return true;
                },
            },
            { failure_threshold: 2 },
        );
        const bad = await request(here.gateway, "modern", here.token("mallory"));
        for (let n = 0; n < 6; n++) await refusal(call(bad, "echo", { text: "hi" }));
        const good = await request(here.gateway, "modern", here.token("alice"));
        await said(call(good, "echo", { text: "hi" }));
        assert.equal((await status(here.gateway)).get("http")!.breaker, "closed");
    });
});

describe("the end of a token", () => {
    const soon = () => Math.floor(Date.now() / 1000) + 3;

    test("nothing is sent with it afterwards; a new one goes on in the same session", async (t) => {
        const here = await start(t, { ...legacyOnly(), get: "stream" });
        const { fixture, gateway } = here;
        const exp = soon();
        const token = here.token("alice", { exp });
        const session = await openSession(as(gateway, token), "/mcp/http");
        const say = async (token: string, id: number) => {
            const params = { name: "echo", arguments: { text: "hi" } };
            const body = { jsonrpc: "2.0", id, method: "tools/call", params };
            return session.send({ token, body });
        };
        await said((await say(token, 1)).messages.at(-1)!);
        const stream = await fixture.receives("GET");
        await within(stream.closed, "the stream is closed when its token ends");
        assert.ok(Date.now() >= exp * 1000 - 50, "and not before");
        assert.equal((await say(token, 2)).status, 401);
        const before = fixture.requests.items.length;

        const next = here.token("alice");
        await said((await say(next, 3)).messages.at(-1)!);
        const after = fixture.requests.items.slice(before);
        for (const each of after) assert.equal(bearer(each), next);
        assert.equal(fixture.received("initialize").length, 1, "the session goes on");
        const again = await fixture.receives("GET", before);
        assert.equal(bearer(again), next);
    });

    test("a session that ends without one is not told", async (t) => {
        const here = await start(t, { ...legacyOnly(), get: "stream" });
        const session = await openSession(as(here.gateway, here.token("alice", { exp: soon() })), "/mcp/http");
        await session.request("tools/list");
        await within((await here.fixture.receives("GET")).closed, "the token ends");
        const before = here.fixture.requests.items.length;
        await here.gateway.stop();
        assert.equal(here.fixture.requests.items.length, before);
    });

    test("an upstream that is gone is not tried again without one", async (t) => {
        const here = await start(t, modernOnly, { failure_threshold: 0 });
        const ask = await request(here.gateway, "modern", here.token("alice", { exp: soon() }));
        await said(call(ask, "echo", { text: "hi" }));
        const { port } = here.fixture;
        await here.fixture.close();
        await refusal(call(ask, "echo", { text: "hi" }));
        await here.gateway.log.waitFor(
            (entry) => entry.message === "state" && entry.state === "idle" && /alice/.test(String(entry.owner)),
        );
        const back = new HttpFixture({ ...modernOnly });
        await back.listen(port);
        t.after(() => back.close());
        const next = here.token("alice");
        const again = await request(here.gateway, "modern", next);
        await said(call(again, "echo", { text: "hi" }));
        for (const each of back.requests.items) assert.equal(bearer(each), next);
    });
});

test("a real authorization server's token for both", async (t) => {
    const fixture = await startHttp({}, t);
    const issuer = await startIssuer(t);
    const { gateway, resource } = await startProtected(t, {
        oauth: { issuer: issuer.url },
        servers: { http: { url: fixture.url, auth: { type: "forward", scopes: ["mcp:use"] } } },
    });
    const token = await issuer.token(resource, { claims: { aud: [resource, fixture.url] } });
    const ask = await request(gateway, "legacy", token, "/mcp");
    await said(call(ask, "http__echo", { text: "hi" }));
    for (const each of fixture.requests.items) assert.equal(bearer(each), token);
    const single = await issuer.token(resource);
    const other = await request(gateway, "legacy", single, "/mcp");
    assert.match(await refusal(call(other, "http__echo", { text: "hi" })), /audience/);
    isUntold(gateway, [token, single]);
});

test("a reload that changes the audience changes who may", async (t) => {
    const here = await start(t);
    const ask = await request(here.gateway, "modern", here.token("alice"));
    await said(call(ask, "echo", { text: "hi" }));
    await reload(here.gateway, {
        server: { oauth: { ...oauth, leeway: "0s" } },
        servers: { http: { url: here.fixture.url, auth: { type: "forward", audience: "other" } } },
    });
    assert.match(await refusal(call(ask, "echo", { text: "hi" })), /"other"/);
});

test("cardea check tells of the rule that is relaxed, and refuses what cannot be", async (t) => {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const check = (server: ServerConfig, top?: { [key: string]: Value }) =>
        cardea(["check", ...prepared(folder, { server: { oauth, ...top }, servers: { a: server } }).slice(0, 2)]);
    const url = "https://A.Example:443/mcp?key=1";
    const fine = await check({ url, auth: { type: "forward" } });
    assert.equal(fine.code, 0, fine.stderr);
    const told = /warning: .*MCP specification forbids.*auth\.audience, or the URL/;
    assert.match(fine.stdout + fine.stderr, told);
    const wrong: [ServerConfig, RegExp][] = [
        [{ url, share: "all", auth: { type: "forward" } }, /share must not be "all"/],
        [{ url, auth: { type: "forward", token: "x" } }, /keep one of them/],
        [
            { url, auth: { type: "forward" }, headers: [{ rule: "insert", name: "Authorization", value: "x" }] },
            /keep one of them/,
        ],
        [{ url: "http://a.example/mcp", auth: { type: "forward" } }, /needs an https URL/],
        [{ url, auth: { type: "pass" } }, /auth\.type must be "token", "forward", "exchange" or "client_credentials"/],
        [{ url, auth: { token: "x", audience: "y" } }, /audience is for type = "forward"/],
        [{ url, auth: { token: "x", scopes: ["y"] } }, /scopes is for type = "forward"/],
    ];
    for (const [server, says] of wrong) {
        const run = await check(server);
        assert.equal(run.code, 78, JSON.stringify(server));
        assert.match(run.stdout + run.stderr, says);
    }
});
