/*
 * Access tokens of a real authorization server: which are taken, and what becomes of that when its keys change, when
 * it is away, and when there are several.
 */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test, type TestContext } from "node:test";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { openSession, send, text, type Answer, type Session } from "./lib/http.ts";
import { makeKey, startIssuer, type Issuer } from "./lib/issuer.ts";
import { claims, ping, startProtected, type Protected } from "./lib/oauth.ts";
import type { Gateway, Value } from "./lib/gateway.ts";
import { ModernClient } from "./lib/modern.ts";
import { reload } from "./lib/reload.ts";
import { until, within } from "./lib/wait.ts";

function taken(answer: Answer): void {
    assert.equal(answer.status, 200, answer.text);
}

/** RFC 6750 section 3, RFC 9728 section 5.1; and nothing of the inside. */
function refused(answer: Answer, token?: string): void {
    assert.equal(answer.status, 401, answer.text);
    const challenge = String(answer.headers["www-authenticate"]);
    assert.match(challenge, /^Bearer .*error="invalid_token"/);
    assert.match(challenge, /resource_metadata="http:[^"]*\/\.well-known\/oauth-protected-resource\/mcp/);
    if (token !== undefined) assert.ok(!answer.text.includes(token), "the answer does not repeat the token");
}

/** With a session of its own, because only a request in one is more than a look at the door. */
async function session(gateway: Gateway, token: string, path = "/mcp"): Promise<Session> {
    return openSession({ port: gateway.port, token } as Gateway, path);
}

const fetched = (gateway: Gateway) => gateway.log.items.filter((entry) => entry.message === "keys fetched");

describe("tokens of an issuer", () => {
    let fixture: HttpFixture;
    let issuer: Issuer;
    let here: Protected;
    before(async () => {
        fixture = await startHttp({ name: "one" });
        issuer = await startIssuer(undefined);
        here = await startProtected(undefined, {
            oauth: { issuer: issuer.url },
            servers: { one: { url: fixture.url }, two: { url: fixture.url } },
        });
    });
    after(async () => {
        await here?.gateway.stop();
        await issuer?.down();
        await fixture?.close();
    });

    test("one for this resource is taken, by every door", async () => {
        const token = await issuer.token(here.resource);
        assert.equal(claims(token).aud, here.resource);
        taken(await ping(here.gateway, token));
        const mine = await session(here.gateway, token);
        assert.equal(text(await mine.call("one__echo", { text: "hello" })), "hello");
        await mine.end();
        const own = await session(here.gateway, token, "/mcp/one");
        assert.equal(text(await own.call("echo", { text: "hello" })), "hello");
        const modern = new ModernClient({ port: here.gateway.port, token });
        assert.equal(text(await modern.call("one__echo", { text: "hello" })), "hello");
    });

    test("the upstream never sees it", async () => {
        const token = await issuer.token(here.resource);
        const mine = await session(here.gateway, token);
        await mine.call("one__echo", { text: "x" });
        for (const request of fixture.requests.items) {
            assert.ok(!JSON.stringify(request.fields).includes(token.slice(-40)));
            assert.equal(request.field("authorization"), undefined);
        }
        await mine.end();
    });

    test("one for the endpoint of a server is good for that one alone", async () => {
        const token = await issuer.token(`${here.resource}/one`);
        const own = await session(here.gateway, token, "/mcp/one");
        assert.equal(text(await own.call("echo", { text: "hello" })), "hello");
        for (const path of ["/mcp", "/mcp/two", "/mcp/none"]) refused(await ping(here.gateway, token, path), token);
    });

    test("one for anybody else is not taken", async () => {
        const { origin } = new URL(here.resource);
        for (const resource of [
            "https://other.example/mcp",
            origin,
            `${origin}/`,
            `${here.resource}/`,
            `${here.resource}x`,
            `${here.resource}/none/one`,
            `${here.resource}?x`,
            here.resource.replace("127.0.0.1", "localhost"),
            here.resource.replace("http:", "https:"),
        ]) {
            const token = await issuer.token(resource);
            refused(await ping(here.gateway, token), token);
        }
        for (const aud of [["https://other.example"], [here.resource.toUpperCase()], here.resource.slice(0, -1)]) {
            refused(await ping(here.gateway, await issuer.token(here.resource, { claims: { aud } })));
        }
        const both = await issuer.token(here.resource, { claims: { aud: ["https://other.example", here.resource] } });
        taken(await ping(here.gateway, both));
    });

    test("one that has expired, or is not yet valid, is not taken", async () => {
        const now = Math.floor(Date.now() / 1000);
        const rows: [object, boolean][] = [
            [{ exp: now - 61 }, false],
            [{ exp: now - 30 }, true], // the clocks may differ
            [{ exp: 1 }, false],
            [{ exp: undefined }, false],
            [{ exp: String(now + 600) }, false],
            [{ exp: -1 }, false],
            [{ nbf: now + 90 }, false],
            [{ nbf: now + 30 }, true],
            [{ iat: now + 90 }, false],
        ];
        for (const [more, isTaken] of rows) {
            const answer = await ping(here.gateway, await issuer.token(here.resource, { claims: { ...more } }));
            assert.equal(answer.status, isTaken ? 200 : 401, JSON.stringify(more));
        }
    });

    test("one of another issuer, and one that was tampered with, is not taken", async (t) => {
        const other = await startIssuer(t);
        refused(await ping(here.gateway, await other.token(here.resource)));
        const claimed = await other.token(here.resource, { claims: { iss: issuer.url } });
        refused(await ping(here.gateway, claimed), claimed);
        const good = await issuer.token(here.resource);
        const [head, body, signature] = good.split(".") as [string, string, string];
        const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
        const payload = part({ ...claims(good), sub: "admin" });
        const none = part({ alg: "none", typ: "at+jwt" });
        const [jwk] = (await (await fetch(issuer.jwksUrl)).json()).keys as { n: string }[];
        const hs = part({ alg: "HS256", typ: "at+jwt" });
        const confused = createHmac("sha256", JSON.stringify(jwk)).update(`${hs}.${body}`).digest("base64url");
        for (const token of [
            `${head}.${payload}.${signature}`,
            `${none}.${body}.`,
            `${none}.${body}.${signature}`,
            `${hs}.${body}.${confused}`,
            `${head}.${body}.`,
            `${head}.${body}`,
            `${head}.${body}.${signature}.`,
            `${head}.${body}.${signature.slice(0, -4)}AAAA`,
            `${good}=`,
        ]) {
            const answer = await ping(here.gateway, token);
            assert.ok([400, 401].includes(answer.status), `${token.slice(0, 60)}: ${answer.status}`);
        }
        taken(await ping(here.gateway, good));
    });

    test("one in the query is none", async () => {
        const token = await issuer.token(here.resource);
        const answer = await send(here.gateway, {
            token: false,
            path: `/mcp?access_token=${token}`,
            body: { jsonrpc: "2.0", id: 1, method: "ping" },
        });
        assert.ok([400, 401].includes(answer.status), answer.text);
        assert.ok(!here.gateway.tail(1000).includes(token));
    });

    test("two users: sessions, cursors and event ids of one are nothing to the other", async () => {
        const user = (sub: string) => issuer.token(here.resource, { claims: { sub } });
        const [alice, bob] = [await user("alice"), await user("bob")];
        const mine = await session(here.gateway, alice);
        const stranger = { port: here.gateway.port, token: bob };
        for (const outgoing of [
            { body: { jsonrpc: "2.0", id: 1, method: "ping" } },
            { body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "one__echo" } } },
            { body: { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 1 } } },
            { method: "GET" },
            { method: "GET", headers: { "Last-Event-ID": "1" } },
            { method: "DELETE" },
        ]) {
            const answer = await send(stranger, { ...outgoing, headers: { ...mine.headers, ...outgoing.headers } });
            assert.equal(answer.status, 404, `${outgoing.method ?? "POST"} ${answer.text}`);
        }
        assert.deepEqual((await mine.request("ping")).result, {});
        // The same user with another token is the same caller.
        const again = { port: here.gateway.port, token: await user("alice") };
        taken(await send(again, { headers: mine.headers, body: { jsonrpc: "2.0", id: 1, method: "ping" } }));
        await mine.end();
    });

    test("its log names the issuer and no token", async () => {
        assert.equal(fetched(here.gateway)[0]!.issuer, issuer.url);
        const token = await issuer.token(here.resource);
        taken(await ping(here.gateway, token));
        assert.ok(!here.gateway.tail(100_000).includes(token.slice(-40)));
    });
});

test("cursors of one user are nothing to another", async (t) => {
    const tools = Array.from({ length: 600 }, (_, n) => ({ name: `tool-${n}`, inputSchema: { type: "object" } }));
    const [fixture, issuer] = [await startHttp({ name: "many", tools }, t), await startIssuer(t)];
    const { gateway, resource } = await startProtected(t, {
        oauth: { issuer: issuer.url },
        servers: { many: { url: fixture.url }, more: { url: fixture.url } },
    });
    const user = async (sub: string) => session(gateway, await issuer.token(resource, { claims: { sub } }));
    const [alice, bob] = [await user("alice"), await user("bob")];
    const cursor = await until(
        async () => (await alice.request("tools/list")).result!.nextCursor as string | undefined,
        "there is more than one page",
    );
    const stolen = await bob.request("tools/list", { cursor });
    assert.equal(stolen.error?.code, -32602, JSON.stringify(stolen).slice(0, 300));
    const own = await alice.request("tools/list", { cursor });
    assert.ok((own.result!.tools as []).length > 0);
});

describe("an issuer's keys", { concurrency: 4 }, () => {
    async function start(t: TestContext, keys = [makeKey()], oauth: (issuer: Issuer) => object = () => ({})) {
        const issuer = await startIssuer(t, { keys });
        const fixture = await startHttp({ name: "one" }, t);
        const here = await startProtected(t, {
            oauth: { issuer: issuer.url, ...oauth(issuer) },
            servers: { one: { url: fixture.url } },
        });
        return { issuer, ...here };
    }

    test("of every kind", async (t) => {
        const keys = [makeKey("ec"), makeKey("ed25519"), makeKey("rsa")];
        const { issuer, gateway, resource } = await start(t, keys);
        for (const key of keys) {
            issuer.rotate([key, ...keys.filter((other) => other !== key)]);
            taken(await ping(gateway, await issuer.token(resource)));
        }
        assert.equal(fetched(gateway).length, 1, "they were all known from the start");
    });

    test("by their address alone, without discovery", async (t) => {
        const { issuer, gateway, resource } = await start(t, undefined, (issuer) => ({
            url: issuer.jwksUrl,
            expected_issuer: issuer.url,
        }));
        taken(await ping(gateway, await issuer.token(resource)));
        assert.deepEqual([...new Set(issuer.requests.items)].sort(), ["GET /jwks", "POST /token"]);
    });

    test("a new one works at once, without a restart", async (t) => {
        const old = makeKey();
        const { issuer, gateway, resource } = await start(t, [old]);
        const before = await issuer.token(resource);
        taken(await ping(gateway, before));
        issuer.rotate([makeKey(), old]);
        const token = await issuer.token(resource);
        taken(await ping(gateway, token));
        taken(await ping(gateway, before));
        assert.equal(issuer.count("/jwks"), 2);
    });

    test("whoever makes up names of keys does not make us ask each time", async (t) => {
        const key = makeKey();
        const { issuer, gateway, resource } = await start(t, [key]);
        await gateway.waitForLog((entry) => entry.message === "keys fetched");
        const forged = async () => {
            const [head, ...rest] = (await issuer.token(resource)).split(".") as [string, string, string];
            const header = JSON.parse(Buffer.from(head, "base64url").toString()) as object;
            const other = { ...header, kid: Math.random().toString() };
            return [Buffer.from(JSON.stringify(other)).toString("base64url"), ...rest].join(".");
        };
        const tokens = await Promise.all(Array.from({ length: 40 }, forged));
        for (const answer of await Promise.all(tokens.map((token) => ping(gateway, token)))) refused(answer);
        assert.ok(issuer.count("/jwks") <= 2, `asked ${issuer.count("/jwks")} times`);
        taken(await ping(gateway, await issuer.token(resource)));
    });

    test("one that is withdrawn is refused after the next refresh, also for who was let in before", async (t) => {
        const { issuer, gateway, resource } = await start(t, [makeKey()], () => ({ poll_interval: "1s" }));
        const token = await issuer.token(resource);
        const mine = await session(gateway, token);
        assert.deepEqual((await mine.request("ping")).result, {});
        issuer.rotate([makeKey()]);
        await gateway.waitForLog((entry) => entry.message === "keys fetched", gateway.log.items.length);
        refused(await ping(gateway, token));
        assert.equal((await mine.send({ body: { jsonrpc: "2.0", id: 9, method: "ping" } })).status, 401);
        taken(await ping(gateway, await issuer.token(resource)));
    });

    test("a set that has none lets nobody in, until there is one again", async (t) => {
        const key = makeKey();
        const { issuer, gateway, resource } = await start(t, [key], () => ({ poll_interval: "1s" }));
        const token = await issuer.token(resource);
        taken(await ping(gateway, token));
        issuer.hide = true;
        await gateway.waitForLog((entry) => entry.message === "there are no keys");
        refused(await ping(gateway, token));
        issuer.hide = false;
        await until(async () => (await ping(gateway, token)).status === 200, "it is let in again");
    });

    test("serve on while the issuer is away, and it is looked for until it is back", async (t) => {
        const key = makeKey();
        const { issuer, gateway, resource } = await start(t, [key], () => ({ poll_interval: "1s" }));
        const token = await issuer.token(resource);
        const other = await issuer.token(resource, { claims: { sub: "somebody else" } });
        taken(await ping(gateway, token));
        await issuer.down();
        await gateway.waitForLog((entry) => entry.message === "keys cannot be fetched");
        taken(await ping(gateway, token));
        taken(await ping(gateway, other)); // seen for the first time
        await issuer.up();
        await gateway.waitForLog((entry) => entry.message === "keys confirmed" && entry.level === "info");
        taken(await ping(gateway, token));
    });

    test("a reload while the issuer is away locks nobody out", async (t) => {
        const { issuer, gateway, resource, config } = await start(t);
        const token = await issuer.token(resource);
        taken(await ping(gateway, token));
        await issuer.down();
        const servers = { ...config.servers, more: config.servers.one! };
        const report = await reload(gateway, { ...config, servers });
        assert.deepEqual(report.servers.added, ["more"]);
        await gateway.waitForLog((entry) => entry.message === "keys cannot be fetched");
        taken(await ping(gateway, token));
        // An issuer that is not in the file any more is not asked, and not believed.
        const other = await startIssuer(t);
        const oauth = { ...(config.server!.oauth as object), issuer: other.url } as Value;
        await reload(gateway, { ...config, server: { ...config.server, oauth } });
        refused(await ping(gateway, token));
        taken(await ping(gateway, await other.token(resource)));
    });

    test("an issuer that comes later than the gateway", async (t) => {
        const issuer = await startIssuer(t);
        const fixture = await startHttp({ name: "one" }, t);
        await issuer.down();
        const here = await startProtected(t, {
            oauth: { issuer: issuer.url },
            servers: { one: { url: fixture.url } },
        });
        await here.gateway.waitForLog((entry) => entry.message === "keys cannot be fetched");
        await issuer.up();
        const token = await issuer.token(here.resource);
        await until(async () => (await ping(here.gateway, token)).status === 200, "its tokens are taken");
    });

    test("a request waits for them no longer than it has to", async (t) => {
        const { issuer, gateway, resource } = await start(t);
        const token = await issuer.token(resource);
        taken(await ping(gateway, token));
        issuer.silent = true;
        issuer.rotate([makeKey()]);
        const fresh = await issuer.token(resource);
        const waiting = ping(gateway, fresh);
        await issuer.requests.waitFor((item) => item === "GET /jwks", issuer.requests.items.length);
        taken(await ping(gateway, token)); // nobody else waits
        refused(await within(waiting, "it is told that there are none", 15_000));
    });
});

describe("several issuers", { concurrency: 3 }, () => {
    test("each token is proved by the keys of its own issuer, and its users are others", async (t) => {
        const fixture = await startHttp({ name: "one" }, t);
        const [one, two] = [await startIssuer(t), await startIssuer(t, { path: "/tenant/a" })];
        const { gateway, resource } = await startProtected(t, {
            oauth: { issuers: [{ issuer: one.url }, { issuer: two.url, algorithms: ["RS256"] }] },
            servers: { one: { url: fixture.url } },
        });
        const [ofOne, ofTwo] = [await one.token(resource), await two.token(resource)];
        assert.equal(claims(ofTwo).iss, two.url);
        taken(await ping(gateway, ofOne));
        taken(await ping(gateway, ofTwo));
        refused(await ping(gateway, await one.token(resource, { claims: { iss: two.url } })));
        refused(await ping(gateway, await two.token(resource, { claims: { iss: one.url } })));
        refused(await ping(gateway, await one.token(resource, { claims: { iss: `${one.url}/` } })));
        refused(await ping(gateway, await one.token(resource, { claims: { iss: undefined } })));
        // The same name at another issuer is somebody else.
        const mine = await session(gateway, await one.token(resource, { claims: { sub: "alice" } }));
        const theirs = { port: gateway.port, token: await two.token(resource, { claims: { sub: "alice" } }) };
        const answer = await send(theirs, {
            headers: mine.headers,
            body: { jsonrpc: "2.0", id: 1, method: "ping" },
        });
        assert.equal(answer.status, 404, answer.text);
        await mine.end();
        // Both are named to clients, in the order of the file.
        const metadata = await send(gateway, {
            token: false,
            method: "GET",
            path: "/.well-known/oauth-protected-resource/mcp",
            headers: { Accept: "application/json" },
        });
        const { authorization_servers } = JSON.parse(metadata.text) as { authorization_servers: string[] };
        assert.deepEqual(authorization_servers, [one.url, two.url]);
    });

    test("one that is away keeps nobody of the others waiting", async (t) => {
        const fixture = await startHttp({ name: "one" }, t);
        const [one, two] = [await startIssuer(t), await startIssuer(t)];
        two.silent = true;
        const { gateway, resource } = await startProtected(t, {
            oauth: { issuers: [{ issuer: two.url }, { issuer: one.url }] },
            servers: { one: { url: fixture.url } },
        });
        taken(await ping(gateway, await one.token(resource)));
        assert.equal(fetched(gateway).length, 1);
    });

    test("the issuer's algorithms are the ones of the file", async (t) => {
        const fixture = await startHttp({ name: "one" }, t);
        const keys = [makeKey("rsa"), makeKey("ec")];
        const issuer = await startIssuer(t, { keys });
        const { gateway, resource } = await startProtected(t, {
            oauth: { issuer: issuer.url, algorithms: ["ES256"] },
            servers: { one: { url: fixture.url } },
        });
        refused(await ping(gateway, await issuer.token(resource)));
        issuer.rotate([keys[1]!, keys[0]!]);
        taken(await ping(gateway, await issuer.token(resource)));
    });
});
