/*
 * auth.type = "client_credentials" with a real authorization server: how the gateway proves itself, what it asks for,
 * how often, and what becomes of calls when tokens end, are refused, or cannot be had.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp } from "./fixtures/http-server.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { startGateway, type Config, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import {
    ASSERTION,
    CLIENTS,
    clientKey,
    credentials,
    type Grant,
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
import { openSession, send } from "./lib/http.ts";
import { makeKey } from "./lib/issuer.ts";
import { claims } from "./lib/oauth.ts";
import { reload } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { call, client, refusal, said, status, type Request } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;
const speaking = (era: (typeof ERAS)[number]) => (era === "legacy" ? legacyOnly() : modernOnly);

/** What callers are told: no more than that it is not their matter. */
const NO_TOKEN = /the gateway gets no token for this upstream|the upstream srv is down/;

interface Here {
    grantor: Grantor;
    guarded: Guarded;
    gateway: Gateway;
    config: Config;
}

interface Options extends Omit<GuardedOptions, "grantor"> {
    as?: GrantorOptions;
    auth?: { [key: string]: Value };
    server?: { [key: string]: Value };
    servers?: { [name: string]: ServerConfig };
    before?: (grantor: Grantor, guarded: Guarded) => unknown;
}

async function start(t: TestContext, options: Options = {}): Promise<Here> {
    const { as, auth, server, servers, before, ...rest } = options;
    const grantor = await startGrantor(t, as);
    const guarded = await startGuarded(t, { ...rest, grantor });
    await before?.(grantor, guarded);
    const config: Config = {
        servers: { srv: { url: guarded.url, auth: credentials(grantor.url, auth), ...server }, ...servers },
    };
    const gateway = await startGateway({ config }, t);
    return { grantor, guarded, gateway, config };
}

const isReady = (gateway: Gateway, name = "srv") =>
    until(async () => (await status(gateway)).get(name)?.state === "ready", `${name} is ready`);

const hello = async (gateway: Gateway, era: (typeof ERAS)[number] = "modern") =>
    assert.equal(await said(call(await client(gateway, era, "srv"), "echo", { text: "hello" })), "hello");

/** Each request carried one token that was good, but for those that this lets pass. */
function isProper(guarded: Guarded, except: (visit: Visit) => boolean = () => false): void {
    const wrong = guarded.visits.items.filter((visit) => visit.status !== 200 && !except(visit));
    assert.deepEqual(
        wrong.map((visit) => `${visit.request.method} ${visit.request.message?.method}: ${visit.why}`),
        [],
    );
    assert.deepEqual(guarded.fixture.complaints, []);
}

/** Nobody is told a secret, or a token. */
async function isUntold(here: Pick<Here, "gateway" | "grantor">, ...more: string[]): Promise<void> {
    const { gateway, grantor } = here;
    const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
    const all = [JSON.stringify(gateway.log.items), gateway.tail(10_000), run.stdout, run.stderr, ...more].join("\n");
    const tokens = grantor.given.map((grant) => grant.body.access_token!.split(".").at(-1)!);
    const encoded = [encodeURIComponent(SECRET), Buffer.from(SECRET).toString("base64").slice(0, -4)];
    const secrets = [SECRET, JSON.stringify(SECRET).slice(1, -1), ...encoded, "of 100%", ...tokens];
    for (const secret of secrets) assert.ok(!all.includes(secret), `${secret} is nowhere`);
}

/** The form fields, sorted. */
const fields = ({ form }: Grant) => Object.fromEntries([...form].sort(([a], [b]) => (a < b ? -1 : 1)));

describe("the gateway proves itself", { concurrency: 2 }, () => {
    /** RFC 6749 section 2.3.1: each of the two is form-urlencoded before. */
    const decoded = (authorization: string | undefined) => {
        const both = Buffer.from(/^Basic (\S+)$/.exec(authorization ?? "")![1]!, "base64").toString();
        assert.match(both, /^[A-Za-z0-9._~*+%-]+:[A-Za-z0-9._~*+%-]+$/);
        return both.split(":").map((text) => new URLSearchParams(`x=${text}`).get("x"));
    };

    for (const method of ["auto", "client_secret_basic"]) {
        test(`with its secret in a header field: ${method}`, async (t) => {
            const here = await start(t, { auth: { client_auth: method, scopes: ["mcp:use", "files:read"] } });
            await hello(here.gateway);
            const [grant, ...more] = here.grantor.grants.items;
            assert.equal(more.length, 0);
            const grant_type = "client_credentials",
                scope = "mcp:use files:read";
            assert.deepEqual(fields(grant!), { grant_type, resource: here.guarded.url, scope });
            assert.deepEqual(decoded(grant!.authorization), [CLIENTS.basic, SECRET]);
            isProper(here.guarded);
            await isUntold(here);
            assert.ok(!here.gateway.tail(10_000).includes(grant!.authorization!.slice(6)));
        });
    }

    test("with its secret in the form", async (t) => {
        const auth = { client_id: CLIENTS.post, client_auth: "client_secret_post" };
        const here = await start(t, { auth });
        await hello(here.gateway, "legacy");
        const [grant, ...more] = here.grantor.grants.items;
        assert.equal(more.length, 0);
        assert.equal(grant!.authorization, undefined);
        assert.deepEqual(fields(grant!), {
            client_id: CLIENTS.post,
            client_secret: SECRET,
            grant_type: "client_credentials",
            resource: here.guarded.url,
        });
        isProper(here.guarded);
        await isUntold(here);
    });

    for (const alg of ["ES256", "RS256", "EdDSA"] as const) {
        test(`with a key: ${alg}`, async (t) => {
            const id = CLIENTS[alg],
                { kid } = clientKey(id);
            const grantor = await startGrantor(t, { path: "/tenant", lifetime: 3 });
            const guarded = await startGuarded(t, { grantor });
            const file = keyFile(t, id);
            const auth = {
                type: "client_credentials",
                issuer: grantor.url,
                client_id: id,
                client_key_path: file,
                client_key_id: kid,
            };
            const gateway = await startGateway({ config: { servers: { srv: { url: guarded.url, auth } } } }, t);
            const ask = await client(gateway, "modern", "srv");
            await until(async () => {
                await said(call(ask, "echo", { text: "hello" }));
                return grantor.given.length >= 3;
            }, "the token is renewed twice");
            const seen = new Set<string>();
            for (const { form, authorization, status } of grantor.grants.items) {
                assert.equal(status, 200);
                assert.equal(authorization, undefined);
                assert.equal(form.get("client_secret"), null);
                assert.equal(form.get("client_assertion_type"), ASSERTION);
                assert.equal(form.get("client_id") ?? id, id);
                const assertion = form.get("client_assertion")!;
                const { iss, sub, aud, jti, iat, exp, ...rest } = claims(assertion) as {
                    [name: string]: unknown;
                    jti: string;
                    iat: number;
                    exp: number;
                };
                assert.deepEqual({ iss, sub, aud, rest }, { iss: id, sub: id, aud: grantor.url, rest: {} });
                assert.ok(exp - iat > 0 && exp - iat <= 60, `${exp} - ${iat}`);
                assert.ok(jti.length >= 16 && !seen.has(jti), "each is used once");
                seen.add(jti);
                const header = JSON.parse(Buffer.from(assertion.split(".")[0]!, "base64url").toString()) as object;
                assert.deepEqual({ ...header, typ: "JWT" }, { alg, kid, typ: "JWT" });
            }
            isProper(guarded);
            const key = readFileSync(file, "utf8").split("\n")[1]!;
            const log = gateway.tail(10_000);
            for (const jti of seen) assert.ok(!log.includes(jti));
            assert.ok(!log.includes(key));
        });
    }

    test("as somebody whom nobody knows: nothing works, and the log says what to do", async (t) => {
        const here = await start(t, { auth: { client_secret: "another secret, which is wrong" } });
        const text = await refusal(call(await client(here.gateway, "modern", "srv"), "echo", { text: "x" }));
        assert.match(text, NO_TOKEN);
        const entry = await here.gateway.waitForLog(
            (item) => /invalid_client/.test(JSON.stringify(item)) && /srv/.test(JSON.stringify(item)),
        );
        assert.ok(!/another secret/.test(JSON.stringify(entry) + text));
        assert.ok(here.grantor.grants.items.length <= 6, `asked ${here.grantor.grants.items.length} times`);
        assert.equal(here.guarded.visits.items.length, 0, "nothing is sent without a token");
    });
});

describe("scopes", { concurrency: 2 }, () => {
    const scopes = (here: Here) => here.grantor.grants.items.map(({ form }) => form.get("scope"));

    test("those of the server's metadata", async (t) => {
        const here = await start(t, { metadata: { scopes_supported: ["files:read", "mcp:use"] } });
        await hello(here.gateway);
        assert.deepEqual(scopes(here), ["files:read mcp:use"]);
    });

    test("those of the configuration, and no others whatever a server wants", async (t) => {
        const here = await start(t, {
            auth: { scopes: ["mcp:use"] },
            metadata: { scopes_supported: ["files:read"] },
            challenge: `scope="files:write"`,
        });
        await hello(here.gateway);
        here.guarded.wants.set("seen", "files:write");
        const ask = await client(here.gateway, "modern", "srv");
        for (let n = 0; n < 3; n++) assert.match(await refusal(call(ask, "seen")), /403/);
        await hello(here.gateway);
        assert.deepEqual([...new Set(scopes(here))], ["mcp:use"]);
        assert.ok(scopes(here).length <= 2, `${scopes(here)}`);
    });

    test("none, when nobody names any", async (t) => {
        const here = await start(t, { metadata: false, documents: [] });
        await hello(here.gateway);
        assert.deepEqual(scopes(here), [null]);
    });

    for (const era of ERAS) {
        test(`more of them for a tool that needs more, once (${era})`, async (t) => {
            const here = await start(t, { ...speaking(era), metadata: { scopes_supported: ["mcp:use"] } });
            here.guarded.wants.set("seen", "files:read");
            here.guarded.wants.set("count", "files:read files:write");
            here.guarded.wants.set("log", "admin:all");
            const ask = await client(here.gateway, "modern", "srv");
            await said(call(ask, "echo", { text: "x" }));
            await said(call(ask, "seen"));
            await said(call(ask, "count"));
            for (const name of ["seen", "count", "seen"]) await said(call(ask, name));
            assert.deepEqual(scopes(here), ["mcp:use", "mcp:use files:read", "mcp:use files:read files:write"]);
            // The authorization server knows no such scope, or gives a token without it.
            for (let n = 0; n < 6; n++) assert.match(await refusal(call(ask, "log")), /403|token/);
            await said(call(ask, "count"));
            assert.ok(scopes(here).length <= 6, `no storm: ${scopes(here)}`);
            isProper(here.guarded, (visit) => visit.status === 403);
        });
    }
});

describe("a token is asked for once", { concurrency: 2 }, () => {
    /** Calls from many clients of both eras, all at once. */
    async function crowd(gateway: Gateway, n: number): Promise<void> {
        const clients = await Promise.all(
            Array.from({ length: 10 }, (_, k) => client(gateway, k % 2 === 0 ? "modern" : "legacy", "srv")),
        );
        await Promise.all(
            Array.from({ length: n }, async (_, k) =>
                assert.equal(await said(call(clients[k % 10]!, "echo", { text: `${k}` })), `${k}`),
            ),
        );
    }

    for (const era of ERAS) {
        test(`for 100 calls (${era})`, async (t) => {
            const here = await start(t, speaking(era));
            await isReady(here.gateway);
            await crowd(here.gateway, 100);
            assert.equal(here.grantor.grants.items.length, 1);
            assert.equal(here.grantor.count("GET /.well-known/oauth-authorization-server"), 1);
            assert.ok(here.guarded.visitsOf("tools/call").length === 100);
            isProper(here.guarded);
        });
    }

    test("at the first moment, too", async (t) => {
        let open = () => {};
        const here = await start(t, { before: (grantor) => void (open = grantor.close()) });
        const calls = crowd(here.gateway, 60);
        await here.grantor.requests.waitFor(() => true);
        // Whoever was to ask twice would have by now: each round goes through both workers.
        for (let n = 0; n < 20; n++) await send(here.gateway, { method: "GET", path: "/health" });
        assert.equal(here.guarded.visits.items.length, 0, "nothing is sent before");
        open();
        await calls;
        assert.equal(here.grantor.grants.items.length, 1);
        isProper(here.guarded);
    });

    test("for every server its own", async (t) => {
        const other = await startGuarded(t);
        const grantor = await startGrantor(t);
        other.check = () => ({});
        const guarded = await startGuarded(t, { grantor });
        const auth = credentials(grantor.url);
        const metadata = { authorization_servers: [grantor.url] };
        other.metadata = metadata;
        const gateway = await startGateway(
            { config: { servers: { srv: { url: guarded.url, auth }, other: { url: other.url, auth } } } },
            t,
        );
        await hello(gateway);
        await said(call(await client(gateway, "modern", "other"), "echo", { text: "x" }));
        const resources = grantor.grants.items.map(({ form }) => form.get("resource")).sort();
        assert.deepEqual(resources, [guarded.url, other.url].sort());
        const tokens = (which: Guarded) => which.visits.items.map((visit) => visit.token);
        const both = tokens(guarded).filter((token) => tokens(other).includes(token));
        assert.deepEqual(both, [], "no token goes to both");
    });
});

describe("a token ends", { concurrency: 2 }, () => {
    for (const era of ERAS) {
        test(`and no call notices (${era})`, async (t) => {
            const here = await start(t, { ...speaking(era), as: { lifetime: 4 } });
            const { gateway, grantor, guarded } = here;
            const end = Date.now() + 10_000;
            const work = async (mine: (typeof ERAS)[number]) => {
                const ask = await client(gateway, mine, "srv");
                await until(async () => {
                    assert.equal(await said(call(ask, "echo", { text: mine })), mine);
                    return Date.now() >= end;
                }, "ten seconds of calls");
            };
            await Promise.all([work("legacy"), work("modern"), work("modern")]);
            isProper(guarded);
            const n = grantor.grants.items.length;
            assert.ok(n >= 3 && n <= 12, `${n} tokens in 10 s`);
            assert.equal(grantor.given.length, n);
            await isUntold(here);
        });
    }

    test("while nobody calls: the next call has a new one, and nothing was asked for meanwhile", async (t) => {
        const here = await start(t, { ...modernOnly, as: { lifetime: 2 } });
        await hello(here.gateway);
        const first = here.guarded.served.at(-1)!.claims!.exp as number;
        // What renews it in the background does so while it is used, which is at most once more here.
        await until(() => Date.now() > first * 1000 + 3000, "the token has ended long ago");
        const idle = here.grantor.grants.items.length;
        assert.ok(idle <= 3, `${idle} tokens for one call`);
        await hello(here.gateway);
        assert.ok(here.grantor.grants.items.length <= idle + 1);
        isProper(here.guarded);
    });

    test("a stream goes on; the next one has the new token", async (t) => {
        const here = await start(t, { ...legacyOnly(), get: "stream", as: { lifetime: 3 } });
        const { guarded, gateway } = here;
        const stream = await guarded.visits.waitFor((visit) => visit.request.method === "GET");
        await until(async () => {
            await hello(gateway);
            return guarded.served.at(-1)!.token !== stream.token;
        }, "the token is renewed");
        const before = guarded.visits.items.length;
        for (const each of [...guarded.fixture.streams]) each.end();
        const again = await guarded.visits.waitFor((visit) => visit.request.method === "GET", before);
        assert.notEqual(again.token, stream.token);
        isProper(guarded);
    });
});

describe("a server refuses a token", { concurrency: 2 }, () => {
    for (const era of ERAS) {
        test(`another one is got, and the call works (${era})`, async (t) => {
            const here = await start(t, speaking(era));
            const { guarded, grantor, gateway } = here;
            const ask = await client(gateway, "modern", "srv");
            await said(call(ask, "echo", { text: "x" }));
            for (let round = 1; round <= 3; round++) {
                guarded.revoked.add(guarded.served.at(-1)!.token!);
                const all = Array.from({ length: 10 }, (_, n) => said(call(ask, "echo", { text: `${n}` })));
                assert.deepEqual(
                    await Promise.all(all),
                    Array.from({ length: 10 }, (_, n) => `${n}`),
                );
                assert.equal(grantor.grants.items.length, 1 + round, "one token for all of them");
            }
            const runs = guarded.fixture.brain.runs.get("echo");
            assert.equal(runs, 31, "no call ran twice");
            isProper(guarded, (visit) => visit.why === "it is revoked");
            assert.equal((await status(gateway)).get("srv")!.breaker, "closed");
        });

        test(`and any other: calls are refused, without a storm (${era})`, async (t) => {
            const here = await start(t, speaking(era));
            const { guarded, grantor, gateway } = here;
            const ask = await client(gateway, "modern", "srv");
            await said(call(ask, "echo", { text: "x" }));
            guarded.isClosed = true;
            for (let n = 0; n < 30; n++)
                assert.match(await refusal(call(ask, "echo", { text: "x" })), /refused the gateway's credentials/);
            const asked = grantor.grants.items.length;
            t.diagnostic(`${asked} tokens for 30 calls, ${guarded.visits.items.length} visits`);
            assert.ok(asked <= 12, `${asked} tokens for 30 calls`);
            guarded.isClosed = false;
            await until(async () => {
                const { result } = await call(ask, "echo", { text: "x" });
                return result?.isError !== true;
            }, "it works again when the server takes tokens again");
            await isUntold(here);
        });
    }

    test("when its authorization server has new keys", async (t) => {
        const here = await start(t);
        await hello(here.gateway);
        here.grantor.rotate([makeKey("ed25519")]);
        await hello(here.gateway);
        here.grantor.rotate([makeKey("ec")]);
        await hello(here.gateway, "legacy");
        assert.equal(here.grantor.given.length, 3);
        isProper(here.guarded, (visit) => /there is no key/.test(visit.why));
    });
});

describe("the authorization server", { concurrency: 2 }, () => {
    test("is not there when the gateway starts", async (t) => {
        const here = await start(t, { before: (grantor) => grantor.down() });
        const ask = await client(here.gateway, "modern", "srv");
        const text = await refusal(call(ask, "echo", { text: "x" }));
        assert.match(text, NO_TOKEN);
        assert.equal(here.guarded.visits.items.length, 0);
        const { state, error } = (await status(here.gateway)).get("srv")!;
        assert.notEqual(state, "ready");
        assert.match(String(error), /token/);
        await here.grantor.up();
        await until(async () => (await call(ask, "echo", { text: "x" })).result?.isError !== true, "it works");
        await isUntold(here, text, String(error));
    });

    test("is away while a token is good, and after that", async (t) => {
        const here = await start(t, { ...modernOnly, as: { lifetime: 6 } });
        const ask = await client(here.gateway, "modern", "srv");
        await said(call(ask, "echo", { text: "x" }));
        await here.grantor.down();
        const { exp } = here.guarded.served.at(-1)!.claims as { exp: number };
        await until(async () => {
            await said(call(ask, "echo", { text: "x" }));
            return Date.now() >= exp * 1000 - 2000;
        }, "most of its life");
        await until(async () => (await call(ask, "echo", { text: "x" })).result?.isError === true, "it has ended");
        assert.match(await refusal(call(ask, "echo", { text: "x" })), NO_TOKEN);
        await here.grantor.up();
        await until(async () => (await call(ask, "echo", { text: "x" })).result?.isError !== true, "it works again");
        // `expires_in` and the token's own `exp` are in whole seconds, and may differ by one.
        isProper(here.guarded, (visit) => visit.why === "it has ended" && visit.at < exp * 1000 + 1000);
    });

    test("does not answer: calls end in time, and other servers' go on", async (t) => {
        const plain = await startHttp({}, t);
        const here = await start(t, {
            before: (grantor) => void grantor.close(),
            servers: { plain: { url: plain.url } },
        });
        const ask = await client(here.gateway, "modern", "srv");
        const began = Date.now();
        const stuck = Promise.all(Array.from({ length: 20 }, () => refusal(call(ask, "echo", { text: "x" }))));
        const other = await client(here.gateway, "modern", "plain");
        for (let n = 0; n < 20; n++) assert.equal(await said(call(other, "echo", { text: `${n}` })), `${n}`);
        const own = Date.now() - began;
        for (const text of await within(stuck, "they end")) assert.match(text, NO_TOKEN);
        const all = Date.now() - began;
        t.diagnostic(`20 calls of another server took ${own} ms, the stuck ones ${all} ms`);
        assert.ok(own < 3000 && all < 16_000, `${own} ${all}`);
        assert.ok(here.grantor.requests.items.length <= 6, `asked ${here.grantor.requests.items.length} times`);
    });
});

test("everything that is sent has a token, also what ends a session", async (t) => {
    const here = await start(t, { ...legacyOnly(), get: "stream" });
    const { guarded, gateway } = here;
    const session = await openSession(gateway, "/mcp/srv");
    await session.request("tools/list");
    await session.request("resources/list");
    const held = session.send({
        body: { jsonrpc: "2.0", id: 77, method: "tools/call", params: { name: "hold", arguments: {} } },
    });
    await guarded.fixture.holds();
    await session.notify("notifications/cancelled", { requestId: 77 });
    await guarded.fixture.receives("notifications/cancelled");
    await held;
    await guarded.fixture.receives("GET");
    await session.end();
    await gateway.stop();
    const methods = new Set(guarded.visits.items.map(({ request }) => request.message?.method ?? request.method));
    const wanted = [
        "initialize",
        "notifications/initialized",
        "tools/list",
        "resources/list",
        "tools/call",
        "notifications/cancelled",
        "GET",
        "DELETE",
    ];
    for (const method of wanted) assert.ok(methods.has(method), `${method} was sent, beside ${[...methods]}`);
    isProper(guarded);
    assert.equal(here.grantor.grants.items.length, 1);
});

test("a reload changes the secret", async (t) => {
    const wrong = "another secret, which is wrong";
    const here = await start(t, { auth: { client_secret: wrong } });
    const ask: Request = await client(here.gateway, "modern", "srv");
    await refusal(call(ask, "echo", { text: "x" }));
    const right: Config = { servers: { srv: { url: here.guarded.url, auth: credentials(here.grantor.url) } } };
    const done = await reload(here.gateway, right);
    assert.deepEqual(done.servers.changed, ["srv"]);
    await until(async () => (await call(ask, "echo", { text: "x" })).result?.isError !== true, "it works");
    // One that is wrong again is not served by what the right one has got.
    await reload(here.gateway, here.config);
    await refusal(call(ask, "echo", { text: "x" }));
    assert.equal(here.grantor.given.length, 1);
    await isUntold(here);
    assert.ok(!here.gateway.tail(10_000).includes(wrong));
});

test("what is not about a server leaves its token alone in a reload", async (t) => {
    const here = await start(t);
    await hello(here.gateway);
    await reload(here.gateway, { ...here.config, security: { edit_mode: true, hide_denied: true } });
    await hello(here.gateway);
    assert.equal(here.grantor.grants.items.length, 1);
});

test("who is told what: tools, call, status, /ready", async (t) => {
    const plain = await startHttp({}, t);
    const here = await start(t, {
        auth: { client_secret: "another secret, which is wrong" },
        servers: { plain: { url: plain.url } },
    });
    const { gateway } = here;
    await isReady(gateway, "plain");
    const error = await until(async () => (await status(gateway)).get("srv")?.error, "its status has a reason");
    assert.match(error, /token/);
    const ready = await send(gateway, { method: "GET", path: "/ready" });
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const args = prepared(folder, here.config);
    const runs = [
        await cardea(["call", "srv__echo", "{}", ...args]),
        await cardea(["tools", ...args]),
        await cardea(["status", "--data-dir", gateway.dataDir]),
    ];
    assert.notEqual(runs[0]!.code, 0);
    assert.match(runs[0]!.stdout + runs[0]!.stderr, /token/);
    assert.match(runs[1]!.stdout, /plain__echo/);
    assert.match(runs[2]!.stdout, /srv.*/);
    const all = [ready.text, error, ...runs.flatMap(({ stdout, stderr }) => [stdout, stderr])].join("\n");
    t.diagnostic(all);
    assert.ok(!all.includes("another secret"));
    await isUntold(here, all);
});

test("the commands get a token by themselves where no gateway runs", async (t) => {
    const grantor = await startGrantor(t),
        guarded = await startGuarded(t, { grantor });
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const good = { servers: { srv: { url: guarded.url, auth: credentials(grantor.url) } } };
    const args = prepared(folder, good);
    const check = await cardea(["check", args[1]!]);
    assert.equal(check.code, 0, check.stderr);
    assert.equal(grantor.requests.items.length, 0, "check asks nobody");
    const tools = await cardea(["tools", ...args]);
    assert.equal(tools.code, 0, tools.stderr);
    assert.match(tools.stdout, /srv__echo/);
    const called = await cardea(["call", "srv__echo", '{"text":"from the shell"}', ...args]);
    assert.equal(called.code, 0, called.stderr);
    assert.match(called.stdout, /from the shell/);
    isProper(guarded);
    const bad = prepared(folder, {
        servers: { srv: { url: guarded.url, auth: credentials(grantor.url, { client_secret: "a wrong secret" }) } },
    });
    const failed = await cardea(["call", "srv__echo", "{}", ...bad]);
    assert.notEqual(failed.code, 0);
    assert.match(failed.stdout + failed.stderr, /token/);
    assert.doesNotMatch(failed.stdout + failed.stderr, /a wrong secret/);
});

test("cardea check refuses what cannot work", async (t) => {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const key = keyFile(t, CLIENTS.ES256);
    const type = "client_credentials",
        issuer = "https://id.example",
        client_id = "x",
        client_secret = "y";
    const url = "https://a.example/mcp";
    const rows: [ServerConfig, RegExp][] = [
        [{ url, auth: { type, issuer, client_secret } }, /client_id/],
        [{ url, auth: { type, issuer, client_id } }, /client_secret|client_key_path/],
        [
            { url, auth: { type, issuer, client_id, client_secret, client_key_path: key } },
            /client_key_path|client_secret/,
        ],
        [{ url, auth: { type, issuer: "http://id.example", client_id, client_secret } }, /https/],
        [{ url, auth: { type, issuer: `${issuer}#x`, client_id, client_secret } }, /fragment/],
        [{ url, auth: { type, issuer, token_endpoint: "ftp://x", client_id, client_secret } }, /https/],
        [{ url, auth: { type, issuer, client_id, client_secret, token: "z" } }, /token/],
        [{ url, auth: { type, issuer, client_id, client_secret, audience: "z" } }, /audience/],
        [{ url, auth: { type, issuer, client_id, client_secret, scopes: ["a b"] } }, /scope/],
        [{ url, auth: { type, issuer, client_id, client_secret, client_auth: "private_key_jwt" } }, /client_key_path/],
        [{ url, auth: { type, issuer, client_id, client_secret, resource: "x y" } }, /resource/],
        [{ url: "http://a.example/mcp", auth: { type, issuer, client_id, client_secret } }, /https/],
        [
            {
                url,
                headers: [{ rule: "insert", name: "Authorization", value: "x" }],
                auth: { type, issuer, client_id, client_secret },
            },
            /Authorization|keep one/,
        ],
    ];
    for (const [server, says] of rows) {
        const run = await cardea(["check", prepared(folder, { servers: { a: server } })[1]!]);
        assert.equal(run.code, 78, `${JSON.stringify(server)} ${run.stdout}${run.stderr}`);
        assert.match(run.stdout + run.stderr, says);
    }
    const open = prepared(folder, { servers: { a: { url, auth: { type, client_id, client_secret } } } });
    const warned = await cardea(["check", open[1]!]);
    assert.equal(warned.code, 0);
    assert.match(warned.stdout + warned.stderr, /warning: .*auth\.issuer/s);
});
