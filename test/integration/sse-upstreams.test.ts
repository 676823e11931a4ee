/*
 * Upstreams over HTTP+SSE, the transport of 2024-11-05: how they are found, where their messages go, whose session it
 * is, and what becomes of calls when streams end. That clients of all kinds can use them is shown by matrix.test.ts;
 * what servers may do wrong by bad-sse-upstreams.test.ts.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { startProxy } from "./fixtures/connect-proxy.ts";
import { legacyOnly, startHttp, type Exchange, type HttpFixture } from "./fixtures/http-server.ts";
import { startSdkSseServer } from "./fixtures/sdk-server.ts";
import { Clocks } from "./lib/clocks.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { credentials, startGrantor, startGuarded } from "./lib/grants.ts";
import { openSession, served, stream, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, jwt, oauth } from "./lib/principals.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
import { call, client, downReason, refusal, said, serve, status } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;
const sse = Object.freeze({ transport: "sse", ...legacyOnly("2024-11-05") } as const);
const SECOND = 1_000_000_000n;

/** What came, as "POST /path method". */
const requested = (fixture: HttpFixture, n: number) =>
    fixture.requests.items.slice(0, n).map(({ method, path, message }) => {
        const where = path.replace(/\?.*/, "");
        return [method, where, ...(message === undefined ? [] : [message.method ?? "answer"])].join(" ");
    });

const isReady = (gateway: Gateway, name = "http") =>
    until(async () => (await status(gateway)).get(name)?.state === "ready", `${name} is ready`);

/** The same as the call's, but what becomes of it is not awaited here. */
const held = async (fixture: HttpFixture, n = 1) =>
    until(() => fixture.brain.held === n, `${n} calls wait at the server, not ${fixture.brain.held}`);

describe("which transport it is", { concurrency: 4 }, () => {
    const begins = ["GET /sse", "POST /message initialize", "POST /message notifications/initialized"];
    const probes = ["POST /sse server/discover", "POST /sse initialize"];

    test("configured: the stream is opened at once", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse" });
        assert.equal(await said(call(await client(gateway, "modern"), "echo", { text: "x" })), "x");
        assert.deepEqual(requested(fixture, 3), begins);
        assert.deepEqual(fixture.complaints, []);
    });

    for (const code of [400, 404, 405]) {
        test(`${code} to both questions of Streamable HTTP: it is tried`, async (t) => {
            const on = (exchange: Exchange) => {
                if (exchange.request.method !== "POST" || exchange.request.path !== "/sse") return false;
                exchange.text(code, "text/html", "<p>no");
                return true;
            };
            const { fixture, gateway } = await serve(t, { ...sse, on });
            assert.equal(await said(call(await client(gateway, "legacy"), "echo", { text: "x" })), "x");
            assert.deepEqual(requested(fixture, 5), [...probes, ...begins]);
        });
    }

    for (const code of [401, 403, 410, 429, 500]) {
        test(`${code}: it is not`, async (t) => {
            const { fixture, gateway } = await serve(t, {
                ...sse,
                on: (exchange) => exchange.request.method === "POST" && (exchange.empty(code), true),
            });
            assert.match(await downReason(gateway, "http"), new RegExp(`${code}`));
            assert.deepEqual(fixture.received("GET"), []);
        });
    }

    test("configured as Streamable HTTP: it is not", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "streamable-http" });
        assert.match(await downReason(gateway, "http"), /^it answered with HTTP 404/);
        assert.deepEqual(fixture.received("GET"), []);
    });

    test("neither: both are told, and the next attempt begins anew", async (t) => {
        const on = (exchange: Exchange) => (exchange.empty(exchange.request.method === "GET" ? 405 : 404), true);
        const { fixture, gateway } = await serve(t, { ...sse, on }, { restart: { initial: "50ms" } });
        assert.match(await downReason(gateway, "http"), /^it answered with HTTP 404 .*; as HTTP\+SSE: .*HTTP 405/);
        await until(() => fixture.requests.items.length >= 6, "it is tried again");
        assert.deepEqual(requested(fixture, 6), [...probes, "GET /sse", ...probes, "GET /sse"]);
    });

    test("a server of Streamable HTTP is asked nothing more than before", async (t) => {
        const { fixture, gateway } = await serve(t, { ...legacyOnly(), get: "stream" });
        await isReady(gateway);
        assert.deepEqual(requested(fixture, 3), [
            "POST /mcp server/discover",
            "POST /mcp initialize",
            "POST /mcp notifications/initialized",
        ]);
    });

    test("a server that becomes one of Streamable HTTP is found again", async (t) => {
        const fixture = await startHttp(sse, t);
        const servers = { http: { url: fixture.url, restart: { initial: "50ms", max: "100ms" } } };
        const gateway = await startGateway({ config: { servers } }, t);
        await isReady(gateway);
        await fixture.close();
        const next = await startHttp({ ...legacyOnly(), on: (exchange) => (next.serve(exchange), true) });
        t.after(() => next.close());
        await next.close();
        await next.listen(fixture.port);
        assert.equal(await until(async () => {
            const answer = await call(await client(gateway, "modern"), "echo", { text: "x" });
            return answer.result?.isError !== true && answer.error === undefined && text(answer);
        }, "it serves again"), "x");
        assert.ok(next.received("initialize").length > 0);
    });
});

describe("where messages go", { concurrency: 4 }, () => {
    for (const [name, endpoint] of [
        ["an absolute URL", (f: () => HttpFixture) => (s: string) => `http://127.0.0.1:${f().port}/message?session=${s}`],
        ["a path", () => (s: string) => `/message?session=${s}`],
        ["a relative path", () => (s: string) => `message?session=${s}`],
        ["without a scheme", (f: () => HttpFixture) => (s: string) => `//127.0.0.1:${f().port}/message?session=${s}`],
    ] as const) {
        test(name, async (t) => {
            let fixture: HttpFixture | undefined;
            const served = await serve(t, { ...sse, endpoint: (id) => endpoint(() => fixture!)(id) }, { protocol: "sse", restart: { initial: "20ms" } });
            fixture = served.fixture;
            assert.equal(
                await until(async () => {
                    const answer = await call(await client(served.gateway, "modern"), "echo", { text: "x" });
                    return answer.error === undefined && answer.result!.isError !== true && text(answer);
                }, "it serves"),
                "x",
            );
            assert.deepEqual(fixture.complaints, []);
        });
    }

    test("message_url, another origin: there alone, whatever the stream says", async (t) => {
        const streams = await startHttp({ ...sse, endpoint: () => "http://203.0.113.1/elsewhere" }, t);
        const messages: HttpFixture = await startHttp(
            {
                ...sse,
                on: (exchange) => {
                    // The session has one stream, whose messages come here without a name.
                    const [session] = streams.bySession.values();
                    exchange.text(202, "text/plain", "");
                    if (exchange.message.id === undefined) return true;
                    void messages.brain.answer(exchange.message, {
                        signal: new AbortController().signal,
                        notify: () => {},
                        ask: async () => ({}),
                        reply: (body) => session!.event({ jsonrpc: "2.0", id: exchange.message.id, ...body }),
                    });
                    return true;
                },
            },
            t,
        );
        const auth = { token: "t0ken" };
        const server = { url: streams.url, message_url: `http://127.0.0.1:${messages.port}/in?x=1`, auth };
        const gateway = await startGateway({ config: { servers: { http: server } } }, t);
        assert.equal(await said(call(await client(gateway, "modern"), "echo", { text: "x" })), "x");
        assert.deepEqual(requested(streams, 9), ["GET /sse"]);
        assert.ok(messages.received("tools/call").every(({ path }) => path === "/in?x=1"));
        for (const each of [...streams.requests.items, ...messages.requests.items])
            assert.equal(each.field("authorization"), "Bearer t0ken");
    });
});

describe("a session", { concurrency: 4 }, () => {
    test("belongs to one caller, and messages of others are not in it", async (t) => {
        const fixture = await startHttp(sse, t);
        const config = { server: { oauth }, servers: { http: { url: fixture.url, protocol: "sse" } } };
        const gateway = await startGateway({ config }, t);
        const users = ["alice", "bob", "carol"];
        await Promise.all(
            users.map(async (sub) => {
                const modern = new ModernClient(as(gateway, jwt({ sub, aud: oauth.protected_resource.resource })), "/mcp/http");
                const mine = (method: string, params?: object) => modern.request(method, params as never);
                for (let n = 0; n < 10; n++) assert.equal(await said(call(mine, "echo", { text: `${sub} ${n}` })), `${sub} ${n}`);
            }),
        );
        const owners = new Map<string, Set<string>>();
        for (const { path, message } of fixture.received("tools/call")) {
            const user = (message!.params!.arguments as { text: string }).text.split(" ")[0]!;
            owners.set(path, (owners.get(path) ?? new Set()).add(user));
        }
        assert.deepEqual([...owners.values()].map((set) => [...set]).flat().sort(), users);
        assert.equal(owners.size, users.length);
    });

    test("is shared by everybody with share = \"all\"", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", share: "all" });
        await Promise.all(
            ERAS.map(async (era) => assert.equal(await said(call(await client(gateway, era), "echo", { text: era })), era)),
        );
        assert.equal(fixture.received("GET").length, 1);
    });

    test("200 calls at once, each with its own answer", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse" }, { config: { server: { limits: { max_in_flight: 200 } } } as never });
        const requests = await Promise.all(ERAS.map((era) => client(gateway, era)));
        const answers = Array.from({ length: 200 }, (_, n) =>
            said(call(requests[n % 2]!, "echo", { text: `number ${n}` })).then((got) => assert.equal(got, `number ${n}`)),
        );
        await Promise.all(answers);
        assert.equal(new Set(fixture.received("tools/call").map(({ message }) => message!.id)).size, 200);
        assert.deepEqual(fixture.complaints, []);
    });

    test("answers in any order, while their POSTs are not answered", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse" });
        const late: Exchange[] = [];
        const args = fixture.act((exchange) => {
            late.push(exchange);
            if (late.length < 3) return;
            for (const each of late.reverse()) each.stream!.event(each.answer(`${each.message.id}`));
        });
        const request = await client(gateway, "modern");
        const answers = await Promise.all([1, 2, 3].map(() => said(call(request, "echo", args))));
        assert.equal(new Set(answers).size, 3);
        // Nobody waits for the answers of these.
        await Promise.all(late.map((each) => within(each.request.closed, "its connection is closed")));
    });

    test("large answers", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse" });
        const big = "x".repeat(6 << 20);
        const args = fixture.act((exchange) => {
            exchange.empty(202);
            exchange.stream!.event(exchange.answer(big));
        });
        assert.equal((await said(call(await client(gateway, "modern"), "echo", args))).length, big.length);
    });

    test("a message past max_message is refused, by name; the next session serves", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", max_message: "64KiB", restart: { initial: "20ms" } });
        const args = (size: number) =>
            fixture.act((exchange) => {
                exchange.empty(202);
                const frame = JSON.stringify(exchange.answer("")).length;
                exchange.stream!.event(exchange.answer("x".repeat(size - frame)));
            });
        const request = await client(gateway, "modern");
        assert.ok((await said(call(request, "echo", args(65536)))).length > 65_000);
        assert.match(await refusal(call(request, "echo", args(65537))), /ended before it answered: .*max_message, 65536/);
        assert.equal(await said(call(request, "echo", { text: "again" })), "again");
        assert.equal(fixture.received("GET").length, 2);
    });

    test("the server's ping is answered, its other questions are declined", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse" });
        await isReady(gateway);
        const answered = (id: string) => fixture.requests.waitFor(({ message }) => message?.id === id);
        for (const each of fixture.streams) {
            each.event({ jsonrpc: "2.0", id: "are-you-there", method: "ping" });
            each.event({ jsonrpc: "2.0", id: "who", method: "roots/list" });
        }
        assert.deepEqual((await answered("are-you-there")).message!.result, {});
        assert.equal((await answered("who")).message!.error!.code, -32601);
    });

    test("a list that changed is read again, and clients are told", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse" });
        const session = await openSession(gateway, "/mcp/http");
        const listening = await session.stream();
        t.after(() => listening.close());
        const names = async () => ((await session.request("tools/list")).result!.tools as { name: string }[]).map((tool) => tool.name);
        assert.ok(!(await names()).includes("fresh"));
        fixture.brain.options.tools = [...fixture.brain.tools, { name: "fresh", inputSchema: { type: "object" } }];
        fixture.announce("notifications/tools/list_changed");
        for (let seen = 0; !(await names()).includes("fresh"); seen = listening.messages.items.length)
            await listening.messages.waitFor((message) => message.method === "notifications/tools/list_changed", seen);
    });

    test("is closed when nobody uses it, and opened for the next call; the list stays", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", idle_timeout: "300ms" });
        const request = await client(gateway, "modern");
        for (let n = 1; n <= 2; n++) {
            assert.equal(await said(call(request, "echo", { text: "x" })), "x");
            assert.equal(fixture.received("GET").length, n);
            await within(fixture.received("GET").at(-1)!.closed, "the stream is closed");
            const { tools } = (await request("tools/list")).result as { tools: object[] };
            assert.ok(tools.length > 5);
        }
    });

    test("one more than max_in_flight is refused, and counts those of all workers", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", max_in_flight: 3 });
        const request = await client(gateway, "modern");
        const calls = [1, 2, 3].map(() => call(request, "hold"));
        await held(fixture, 3);
        assert.match(await refusal(call(request, "echo", { text: "x" })), /max_in_flight/);
        fixture.brain.release();
        for (const each of calls) assert.equal(await said(each), "released");
    });

    test("a call that is cancelled is so at the server, and its slot is free", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", max_in_flight: 1 });
        const session = await openSession(gateway, "/mcp/http");
        const calling = session.stream({
            method: "POST",
            body: { jsonrpc: "2.0", id: "c", method: "tools/call", params: { name: "hold" } },
        });
        await held(fixture);
        await session.notify("notifications/cancelled", { requestId: "c", reason: "enough" });
        const told = await fixture.receives("notifications/cancelled");
        assert.equal(told.message!.params!.requestId, fixture.received("tools/call")[0]!.message!.id);
        assert.match(told.path, /^\/message/);
        await held(fixture, 0);
        assert.equal(await said(session.call("echo", { text: "x" })), "x");
        (await calling).close();
    });

    test("a timeout is told to the server", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", timeout: "300ms" });
        assert.match(await refusal(call(await client(gateway, "modern"), "hold")), /300 ms \(timeout\)/);
        await fixture.receives("notifications/cancelled");
        // The server is asked whether it lives, and it does: the session stays.
        await fixture.receives("ping");
        assert.equal(await said(call(await client(gateway, "modern"), "echo", { text: "x" })), "x");
        assert.equal(fixture.received("GET").length, 1);
    });
});

describe("what it is sent", { concurrency: 4 }, () => {
    test("rules, with what each caller sent", async (t) => {
        const headers = [
            { rule: "forward", name: "X-Who", default: "nobody" },
            { rule: "insert", name: "X-Key", value: "k" },
        ];
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", headers });
        const names = Array.from({ length: 20 }, (_, n) => `w${n}`);
        await Promise.all(
            names.map(async (name) => {
                const modern = new ModernClient(gateway, "/mcp/http");
                assert.equal(await said(modern.call("echo", { text: name }, { headers: { "X-Who": name } })), name);
            }),
        );
        for (const { method, message, field } of fixture.requests.items) {
            const isCall = message?.method === "tools/call";
            const sent = isCall ? (message.params!.arguments as { text: string }).text : "nobody";
            assert.equal(field("x-who"), sent, `${method} ${message?.method}`);
            assert.equal(field("x-key"), "k");
            assert.ok(!JSON.stringify(message ?? {}).includes(gateway.token) && field("authorization") === undefined);
        }
    });

    test("the caller's token, where it is to be forwarded, in all that is its own", async (t) => {
        const fixture = await startHttp(sse, t);
        const servers = { http: { url: fixture.url, protocol: "sse", auth: { type: "forward" } } };
        const gateway = await startGateway({ config: { server: { oauth: { ...oauth, leeway: "0s" } }, servers } }, t);
        const users = ["alice", "bob"];
        const aud = [oauth.protected_resource.resource, fixture.url];
        const tokens = new Map(users.map((sub) => [sub, jwt({ sub, aud, jti: Math.random() })]));
        await Promise.all(
            users.map(async (user) => {
                const modern = new ModernClient(as(gateway, tokens.get(user)!), "/mcp/http");
                const mine = (method: string, params?: object) => modern.request(method, params as never);
                await until(async () => {
                    const { result } = await mine("tools/list");
                    return (result!.tools as object[]).length > 0;
                }, `${user} has tools`);
                for (let n = 0; n < 5; n++) assert.equal(await said(call(mine, "echo", { text: user })), user);
            }),
        );
        const owners = new Map<string, string>();
        for (const { path, message, field } of fixture.received("tools/call")) {
            const user = (message!.params!.arguments as { text: string }).text;
            assert.equal(field("authorization"), `Bearer ${tokens.get(user)}`);
            assert.equal(owners.get(path) ?? user, user, "a session is one user's");
            owners.set(path, user);
        }
        for (const { path, field } of fixture.received("POST").filter((each) => owners.has(each.path)))
            assert.equal(field("authorization"), `Bearer ${tokens.get(owners.get(path)!)}`);
        const opened = fixture.received("GET").map(({ field }) => field("authorization")!.replace("Bearer ", ""));
        assert.deepEqual(opened.sort(), [...tokens.values()].sort());
    });

    test("a stream is not read for longer than its owner's token lasts; with the next one it goes on", async (t) => {
        const fixture = await startHttp(sse, t);
        const servers = { http: { url: fixture.url, protocol: "sse", auth: { type: "forward" } } };
        const gateway = await startGateway({ config: { server: { oauth: { ...oauth, leeway: "0s" } }, servers } }, t);
        const aud = [oauth.protected_resource.resource, fixture.url];
        const ask = (exp: number) => {
            const modern = new ModernClient(as(gateway, jwt({ sub: "alice", aud, exp, jti: Math.random() })), "/mcp/http");
            return (method: string, params?: object) => modern.request(method, params as never);
        };
        const now = Math.floor(Date.now() / 1000);
        const short = ask(now + 3);
        await until(async () => ((await short("tools/list")).result!.tools as object[]).length > 0, "there are tools");
        await within(fixture.received("GET")[0]!.closed, "the stream is closed");
        assert.ok(Date.now() >= (now + 3) * 1000);
        const long = ask(now + 3600);
        assert.ok(((await long("tools/list")).result!.tools as object[]).length > 5, "the list has stayed");
        assert.equal(await said(call(long, "echo", { text: "x" })), "x");
        assert.equal(fixture.received("GET").length, 2);
    });

    test("the gateway's own token, which it finds by the challenge to its first GET", async (t) => {
        const grantor = await startGrantor(t);
        const guarded = await startGuarded(t, { ...sse, grantor, documents: ["/about"] });
        guarded.challenge = `resource_metadata="${guarded.origin}/about"`;
        const { issuer: _issuer, ...auth } = credentials(grantor.url) as { [key: string]: Value };
        const servers = { srv: { url: guarded.url, protocol: "sse", auth } };
        const gateway = await startGateway({ config: { servers, security: { edit_mode: true, allow_networks: ["127.0.0.0/8"] } } as never }, t);
        assert.equal(await said(call(await client(gateway, "modern", "srv"), "echo", { text: "x" })), "x");
        assert.equal(guarded.visits.items[0]!.request.method, "GET");
        const refused = guarded.visits.items.filter((visit) => visit.status !== 200);
        assert.equal(refused.length, 1, "but for the first, all had a token");
        assert.deepEqual(guarded.fixture.complaints, []);
    });

    test("through a proxy and TLS with an authority of its own", async (t) => {
        const authority = new Authority();
        const fixture = await startHttp({ ...sse, tls: authority.sign("DNS:far.test") }, t);
        const proxy = await startProxy(t);
        const url = fixture.url.replace("127.0.0.1", "far.test");
        const server = { url, protocol: "sse", proxy: `http://127.0.0.1:${proxy.port}`, tls: { ca_bundle: authority.file } };
        const gateway = await startGateway({ config: { servers: { http: server } } }, t);
        assert.equal(await said(call(await client(gateway, "modern"), "echo", { text: "x" })), "x");
        assert.ok(proxy.asked.items.length >= 2);
        assert.ok(proxy.asked.items.every(({ authority: to }) => to === `far.test:${fixture.port}`));
        assert.equal(fixture.connections, proxy.asked.items.length, "and nothing else");
    });
});

describe("when the stream ends", { concurrency: 4 }, () => {
    const lost = /the connection to the upstream ended before it answered; the call may have been carried out/;

    test("calls in flight are told; the next ones find another session", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", restart: { initial: "20ms" } });
        const request = await client(gateway, "modern");
        const calls = [1, 2, 3].map(() => call(request, "hold"));
        await held(fixture, 3);
        for (const each of fixture.streams) each.end();
        for (const each of calls) assert.match(await refusal(each), lost);
        assert.equal(await said(call(request, "echo", { text: "x" })), "x");
        assert.equal(fixture.received("initialize").length, 2);
        assert.equal(fixture.brain.runs.get("hold"), 3, "they were not made again");
    });

    test("what can be asked twice is", async (t) => {
        let n = 0;
        const on = (exchange: Exchange) => {
            if (exchange.message.method !== "resources/read" || ++n > 1) return false;
            exchange.empty(202);
            exchange.stream!.socket.destroy();
            return true;
        };
        const { fixture, gateway } = await serve(t, { ...sse, on }, { protocol: "sse", restart: { initial: "20ms" } });
        const answer = await (await client(gateway, "modern"))("resources/read", { uri: "test://one" });
        assert.match(JSON.stringify(answer.result), /read test:\/\/one/);
        assert.equal(fixture.received("resources/read").length, 2);
    });

    test("a session that the server has forgotten: what it refused for that is sent again", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", restart: { initial: "20ms" } });
        const request = await client(gateway, "modern");
        await isReady(gateway);
        for (const code of [404, 400]) {
            const args = fixture.act((exchange) => {
                if (fixture.calls(args).length === 1) exchange.text(code, "text/plain", "No transport found for sessionId");
                else fixture.serve(exchange);
            });
            assert.equal(await said(call(request, "echo", args)), args.text);
            assert.equal(fixture.calls(args).length, 2);
        }
        assert.equal(fixture.received("GET").length, 3);
    });

    test("the real server is started again: in the same session of the client", async (t) => {
        const first = await startSdkSseServer("sdk");
        const port = Number(new URL(first.url).port);
        const servers = { sdk: { url: first.url, restart: { initial: "20ms", max: "200ms" } } };
        const gateway = await startGateway({ config: { servers } }, t);
        const session = await openSession(gateway, "/mcp/sdk");
        await served(gateway, "sdk__echo");
        const waiting = session.call("hold");
        await until(() => first.brain.held === 1, "a call waits");
        await first.close();
        assert.match(await refusal(waiting), lost);
        const second = await startSdkSseServer("sdk", port);
        t.after(() => second.close());
        await until(
            async () => (await session.call("echo", { text: "back" })).result?.isError !== true,
            "it serves again",
        );
        assert.equal(second.transports.size, 1);
    });

    test("after a while of service it is opened again at once, and nobody hears of it", async (t) => {
        const folder = temporaryFolder();
        const clocks = new Clocks(folder);
        t.after(() => (clocks.close(), removeFolder(folder)));
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse", restart: { initial: "1m" } }, { env: clocks.env });
        // Who comes when all lists are known is told of none of them.
        const first = await openSession(gateway, "/mcp/http");
        for (const list of ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]) await first.request(list);
        const session = await openSession(gateway, "/mcp/http");
        assert.equal(await said(session.call("echo", { text: "x" })), "x");
        const listening = await session.stream();
        t.after(() => listening.close());
        clocks.set(0n, 11n * SECOND);
        for (const each of fixture.streams) each.socket.destroy();
        await until(() => fixture.received("GET").length === 2, "another stream is opened");
        assert.equal(await said(session.call("echo", { text: "y" })), "y");
        assert.deepEqual(listening.messages.items, []);
        assert.ok(!gateway.log.items.some(({ message }) => message === "is down"));
    });

    test("a stream that is dead without an end is noticed after a timeout", async (t) => {
        const { fixture, gateway } = await serve(t, { ...sse }, { protocol: "sse", timeout: "300ms", restart: { initial: "20ms" } });
        const request = await client(gateway, "modern");
        await isReady(gateway);
        fixture.options.on = (exchange) => {
            if (fixture.received("GET").length > 1) return false;
            exchange.empty(202); // and nothing comes on the stream, as behind a firewall that forgot it
            return true;
        };
        assert.match(await refusal(call(request, "echo", { text: "x" })), /300 ms \(timeout\)/);
        await fixture.receives("ping");
        await until(() => fixture.received("GET").length === 2, "another stream is opened");
        assert.equal(await said(call(request, "echo", { text: "x" })), "x");
    });

    test("failures in a row open the breaker, which tries the server by one call", async (t) => {
        const { fixture, gateway } = await serve(t, { ...sse }, { protocol: "sse", failure_threshold: 3, cooldown: "100ms" });
        const request = await client(gateway, "modern");
        await isReady(gateway);
        let isIll = true;
        fixture.options.on = (exchange) =>
            isIll && exchange.message.method === "tools/call" && (exchange.empty(503), true);
        for (let n = 0; n < 3; n++) assert.match(await refusal(call(request, "echo", { text: "x" })), /HTTP 503/);
        assert.match(await refusal(call(request, "echo", { text: "x" })), /fail/);
        assert.equal(fixture.received("tools/call").length, 3);
        isIll = false;
        await until(async () => (await call(request, "echo", { text: "x" })).result?.isError !== true, "it serves again");
        assert.equal((await status(gateway)).get("http")!.breaker, "closed");
        assert.equal(fixture.received("GET").length, 1, "the session has stayed");
    });

    test("progress and logs go to the call that they belong to", async (t) => {
        const { fixture, gateway } = await serve(t, sse, { protocol: "sse" });
        const session = await openSession(gateway, "/mcp/http");
        await session.request("logging/setLevel", { level: "error" });
        const params = (token: string) => ({ name: "progress", arguments: { steps: 5 }, _meta: { progressToken: token } });
        const all = await Promise.all(
            ["a", "b", "c"].map((token) =>
                session.send({ body: { jsonrpc: "2.0", id: token, method: "tools/call", params: params(token) } }),
            ),
        );
        for (const [i, { messages }] of all.entries()) {
            const progress = messages.filter(({ method }) => method === "notifications/progress");
            assert.deepEqual(progress.map(({ params: each }) => each!.progressToken), Array(5).fill("abc"[i]));
        }
        const { messages } = await session.send({
            body: { jsonrpc: "2.0", id: 9, method: "tools/call", params: { name: "log", arguments: { text: "m" } } },
        });
        const levels = messages.filter(({ method }) => method === "notifications/message").map(({ params: each }) => each!.level);
        assert.deepEqual(levels, ["error", "critical", "alert", "emergency"]);
        assert.deepEqual(fixture.complaints, []);
    });
});
