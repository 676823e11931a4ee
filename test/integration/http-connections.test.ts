/*
 * How HTTP upstreams are reached: credentials and header rules, proxies, TLS, time limits. What fails says why in
 * `cardea status`, and is not tried in another, weaker way.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { startProxy } from "./fixtures/connect-proxy.ts";
import { legacyOnly, modernOnly, startHttp, type HttpFixture, type Received } from "./fixtures/http-server.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, served, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority, type Certificate } from "./lib/tls.ts";
import { call, client, downReason, refusal, said, serve, status } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;
const only = (era: "legacy" | "modern") => (era === "legacy" ? legacyOnly() : modernOnly);

describe("header rules and tokens", { concurrency: 4 }, () => {
    /** name: the server's own rules; what arrives of a call whose client sends X-Trace: t1 and X-Other: o1 */
    const rows: {
        [name: string]: { server: { [key: string]: Value }; arrives: { [field: string]: string | undefined } };
    } = {
        plain: {
            server: {},
            arrives: { "x-global": "everywhere", "x-trace": undefined, "x-other": undefined, authorization: undefined },
        },
        token: { server: { auth: { token: "s3cret" } }, arrives: { authorization: "Bearer s3cret" } },
        insert: {
            server: { headers: [{ rule: "insert", name: "X-Key", value: "of this server" }] },
            arrives: { "x-key": "of this server", "x-global": "everywhere" },
        },
        replace: {
            server: { headers: [{ rule: "insert", name: "x-GLOBAL", value: "mine" }] },
            arrives: { "x-global": "mine" },
        },
        remove: { server: { headers: [{ rule: "remove", name: "X-Global" }] }, arrives: { "x-global": undefined } },
        authorization: {
            server: { headers: [{ rule: "insert", name: "Authorization", value: "Basic eDp5" }] },
            arrives: { authorization: "Basic eDp5" },
        },
        forward: {
            server: { headers: [{ rule: "forward", name: "X-Trace" }] },
            arrives: { "x-trace": "t1", "x-other": undefined },
        },
        renamed: {
            server: { headers: [{ rule: "forward", name: "x-trace", rename: "X-Renamed" }] },
            arrives: { "x-renamed": "t1", "x-trace": undefined },
        },
        fallback: {
            server: { headers: [{ rule: "forward", name: "X-Absent", default: "none given" }] },
            arrives: { "x-absent": "none given" },
        },
        absent: { server: { headers: [{ rule: "forward", name: "X-Absent" }] }, arrives: { "x-absent": undefined } },
        duplicate: {
            server: { headers: [{ rule: "rename_duplicate", name: "X-Trace", rename: "X-Copy" }] },
            arrives: { "x-trace": "t1", "x-copy": "t1" },
        },
        "duplicate-default": {
            server: { headers: [{ rule: "rename_duplicate", name: "X-Absent", rename: "X-Copy", default: "d" }] },
            arrives: { "x-absent": "d", "x-copy": "d" },
        },
        order: {
            server: {
                headers: [
                    { rule: "forward", name: "X-Trace" },
                    { rule: "insert", name: "X-Trace", value: "later" },
                    { rule: "insert", name: "X-Gone", value: "1" },
                    { rule: "remove", name: "X-Gone" },
                ],
            },
            arrives: { "x-trace": "later", "x-gone": undefined },
        },
    };
    const fixtures = new Map<string, HttpFixture>();
    let gateway: Gateway;
    before(async () => {
        const servers: { [name: string]: { url: string; [key: string]: Value } } = {};
        for (const era of ERAS) {
            fixtures.set(era, await startHttp(only(era)));
            for (const [name, row] of Object.entries(rows)) {
                servers[`${era}-${name}`] = { url: `${fixtures.get(era)!.url}/${name}`, ...row.server };
            }
        }
        const mcp = { headers: [{ rule: "insert", name: "X-Global", value: "everywhere" }] };
        gateway = await startGateway({ config: { mcp, servers } });
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of fixtures.values()) await fixture.close();
    });

    for (const era of ERAS) {
        for (const [name, { arrives }] of Object.entries(rows)) {
            test(`${era}: ${name}`, async () => {
                const fixture = fixtures.get(era)!;
                const modern = new ModernClient(gateway, `/mcp/${era}-${name}`);
                const headers = { "X-Trace": "t1", "X-Other": "o1" };
                assert.equal(await said(modern.call("echo", { text: "x" }, { headers })), "x");
                const sent = fixture.requests.items.findLast(
                    (each) => each.path.endsWith(`/${name}`) && each.message?.method === "tools/call",
                )!;
                for (const [field, value] of Object.entries(arrives)) {
                    assert.equal(sent.field(field), value, `${field} in ${JSON.stringify(sent.fields)}`);
                }
                // Nobody's request is behind the first ones.
                const first = fixture.requests.items.find((each) => each.path.endsWith(`/${name}`))!;
                if (arrives["x-trace"] === "t1") assert.equal(first.field("x-trace"), undefined);
                for (const each of fixture.requests.items) {
                    assert.ok(
                        !each.fields.some(([, value]) => value.includes(gateway.token)),
                        "the client's own token",
                    );
                }
                assert.deepEqual(fixture.complaints, []);
            });
        }
    }

    test("a value forwarded in a session is that of its request, not of another", async () => {
        const session = await openSession(gateway, "/mcp/legacy-forward");
        const one = async (value: string) => {
            const body = { jsonrpc: "2.0", id: value, method: "tools/call", params: { name: "seen" } };
            const answer = await session.send({ headers: { "X-Trace": value }, body });
            const { seen } = JSON.parse(text(answer.messages.at(-1)!)) as { seen: { fields: [string, string][] } };
            assert.deepEqual(
                seen.fields.filter(([name]) => name.toLowerCase() === "x-trace").map(([, said]) => said),
                [value],
            );
        };
        await Promise.all(Array.from({ length: 20 }, (_, n) => one(`trace-${n}`)));
    });

    for (const name of [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Mcp-Session-Id",
        "Mcp-Param-X",
        "Bad Name",
        "X\r\nY",
    ]) {
        test(`no rule sets ${JSON.stringify(name)}`, async () => {
            const folder = temporaryFolder();
            const servers = {
                http: { url: "http://127.0.0.1:1/mcp", headers: [{ rule: "insert", name, value: "x" }] },
            };
            const [, file] = prepared(folder, { servers });
            const run = await cardea(["check", file!]);
            assert.equal(run.code, 78, run.stdout + run.stderr);
            removeFolder(folder);
        });
    }
    test("the caller's credentials are forwarded to nobody", async () => {
        const folder = temporaryFolder();
        const rules: { [key: string]: Value }[] = [
            { rule: "forward", name: "Authorization" },
            { rule: "forward", name: "X-A", rename: "Authorization" },
            { rule: "rename_duplicate", name: "authorization", rename: "X-A" },
        ];
        for (const rule of rules) {
            const servers = { http: { url: "http://127.0.0.1:1/mcp", headers: [rule] } };
            const [, file] = prepared(folder, { servers });
            assert.equal((await cardea(["check", file!])).code, 78, JSON.stringify(rule));
        }
        removeFolder(folder);
    });
    test("a value with a line break is no value", async () => {
        const folder = temporaryFolder();
        const servers = {
            http: { url: "http://127.0.0.1:1/mcp", headers: [{ rule: "insert", name: "X-A", value: "a\r\nX-B: c" }] },
        };
        const [, file] = prepared(folder, { servers });
        assert.equal((await cardea(["check", file!])).code, 78);
        removeFolder(folder);
    });
});

describe("proxies", { concurrency: 4 }, () => {
    const without = (more: NodeJS.ProcessEnv): NodeJS.ProcessEnv => {
        const env = { ...process.env };
        for (const name of ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]) {
            delete env[name];
            delete env[name.toUpperCase()];
        }
        return { ...env, ...more };
    };
    /** The fixture under a name that only the proxy knows. */
    const named = (fixture: HttpFixture) => `http://upstream.test:${fixture.port}/mcp`;
    const behind = async (t: TestContext, server: { [key: string]: Value }, env: NodeJS.ProcessEnv, direct = false) => {
        const fixture = await startHttp({}, t);
        const url = direct ? fixture.url : named(fixture);
        const gateway = await startGateway({ config: { servers: { http: { url, ...server } } }, env: without(env) }, t);
        return { fixture, gateway };
    };
    const works = async (gateway: Gateway) => {
        assert.equal(await said(call(await client(gateway, "modern"), "echo", { text: "through" })), "through");
    };

    test("the key proxy, with a password", async (t) => {
        const proxy = await startProxy(t);
        const { fixture, gateway } = await behind(t, { proxy: `http://me:p%40ss@127.0.0.1:${proxy.port}` }, {});
        await works(gateway);
        for (const asked of proxy.asked.items) {
            assert.equal(asked.method, "CONNECT");
            assert.equal(asked.authority, `upstream.test:${fixture.port}`);
            assert.equal(asked.fields.get("host"), asked.authority);
            assert.equal(asked.fields.get("proxy-authorization"), `Basic ${Buffer.from("me:p@ss").toString("base64")}`);
            assert.equal(asked.fields.get("authorization"), undefined);
        }
        for (const each of fixture.requests.items) {
            assert.equal(each.field("proxy-authorization"), undefined);
            assert.equal(each.field("host"), `upstream.test:${fixture.port}`);
        }
        assert.ok(
            !gateway.tail(10_000).includes("p@ss") && !gateway.tail(10_000).includes("p%40ss"),
            "no password in the log",
        );
    });

    for (const name of ["http_proxy", "all_proxy", "ALL_PROXY"]) {
        test(`the variable ${name}`, async (t) => {
            const proxy = await startProxy(t);
            const { gateway } = await behind(t, {}, { [name]: `http://127.0.0.1:${proxy.port}` });
            await works(gateway);
            assert.ok(proxy.asked.items.length > 0);
        });
    }

    for (const name of ["https_proxy", "HTTPS_PROXY"]) {
        test(`the variable ${name}, for https: the tunnel is opened, and TLS checks the server's name`, async (t) => {
            const authority = new Authority();
            const proxy = await startProxy(t);
            const fixture = await startHttp({ tls: authority.sign("DNS:upstream.test") }, t);
            const gateway = await startGateway(
                {
                    config: { servers: { http: { url: `https://upstream.test:${fixture.port}/mcp` } } },
                    env: without({ [name]: `http://127.0.0.1:${proxy.port}`, SSL_CERT_FILE: authority.file }),
                },
                t,
            );
            await works(gateway);
            assert.equal(proxy.asked.items[0]!.authority, `upstream.test:${fixture.port}`);
            removeFolder(authority.folder);
        });
    }

    for (const [what, env] of [
        ["HTTP_PROXY, which a CGI program gets from a stranger", { HTTP_PROXY: "" }],
        ["https_proxy for http", { https_proxy: "" }],
        ["no_proxy with the name", { http_proxy: "", no_proxy: "other.test,upstream.test" }],
        ["no_proxy with the domain", { http_proxy: "", no_proxy: ".test" }],
        ["NO_PROXY with everything", { http_proxy: "", NO_PROXY: "*" }],
    ] as [string, { [name: string]: string }][]) {
        test(`${what}: no proxy, and the name is nobody's`, async (t) => {
            const proxy = await startProxy(t);
            const set = Object.entries(env).map(([name, value]) => [
                name,
                value === "" ? `http://127.0.0.1:${proxy.port}` : value,
            ]);
            const { fixture, gateway } = await behind(t, {}, Object.fromEntries(set));
            assert.match(await downReason(gateway, "http"), /upstream\.test/);
            assert.deepEqual(proxy.asked.items, []);
            assert.deepEqual(fixture.requests.items, []);
        });
    }

    test('proxy = "none" wins over the environment', async (t) => {
        const proxy = await startProxy(t);
        const { gateway } = await behind(t, { proxy: "none" }, { http_proxy: `http://127.0.0.1:${proxy.port}` });
        await downReason(gateway, "http");
        assert.deepEqual(proxy.asked.items, []);
    });

    test("loopback goes directly", async (t) => {
        const proxy = await startProxy(t);
        const address = `http://127.0.0.1:${proxy.port}`;
        const { gateway } = await behind(t, {}, { http_proxy: address, all_proxy: address }, true);
        await works(gateway);
        assert.deepEqual(proxy.asked.items, []);
    });

    for (const [what, answer, says] of [
        ["refuses (403)", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", /403|refused/],
        [
            "wants a password (407)",
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            /407|auth/i,
        ],
        ["speaks something else", "SSH-2.0-OpenSSH_9.2\r\n\r\n", /proxy/i],
        [
            "has a body before the tunnel",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            /proxy|reset|closed|broke|answer/i,
        ],
        ["hangs", "hang", /proxy|time|answer/i],
    ] as const) {
        test(`a proxy that ${what}`, async (t) => {
            const proxy = await startProxy(t, answer);
            const server = { proxy: `http://me:hidden@127.0.0.1:${proxy.port}`, connect_timeout: "300ms" };
            const { fixture, gateway } = await behind(t, server, {});
            const reason = await downReason(gateway, "http");
            assert.match(reason, says);
            assert.ok(!reason.includes("hidden"));
            assert.deepEqual(fixture.requests.items, [], "never without the proxy");
        });
    }
});

describe("TLS", { concurrency: 4 }, () => {
    const authority = new Authority();
    after(() => removeFolder(authority.folder));
    const secured = async (t: TestContext, certificate: Certificate, env: NodeJS.ProcessEnv) => {
        const fixture = await startHttp({ tls: certificate }, t);
        const config = { servers: { http: { url: fixture.url } } };
        const gateway = await startGateway({ config, env: { ...process.env, ...env } }, t);
        return { fixture, gateway };
    };

    for (const [variable, value] of [
        ["SSL_CERT_FILE", () => ({ SSL_CERT_FILE: authority.file })],
        ["SSL_CERT_DIR", () => ({ SSL_CERT_DIR: authority.directory() })],
    ] as const) {
        test(`an authority that the system knows (${variable})`, async (t) => {
            const { fixture, gateway } = await secured(t, authority.sign("IP:127.0.0.1"), value());
            for (const era of ERAS) {
                const request = await client(gateway, era);
                assert.equal(await said(call(request, "echo", { text: "secret" })), "secret");
            }
            assert.deepEqual(fixture.complaints, []);
        });
    }

    for (const [what, make, says] of [
        [
            "an authority that nobody knows",
            () => new Authority().sign("IP:127.0.0.1"),
            /certif|issuer|trust|authority/i,
        ],
        ["another name", () => authority.sign("DNS:other.test"), /name|host|address|match/i],
        ["another address", () => authority.sign("IP:127.0.0.2"), /name|host|address|match/i],
        ["a name where the address is wanted", () => authority.sign("DNS:127.0.0.1"), /name|host|address|match/i],
        ["an expired certificate", () => authority.sign("IP:127.0.0.1", true), /expired/i],
    ] as [string, () => Certificate, RegExp][]) {
        test(`${what}: down, and says so`, async (t) => {
            const { fixture, gateway } = await secured(t, make(), { SSL_CERT_FILE: authority.file });
            assert.match(await downReason(gateway, "http"), says);
            const request = await client(gateway, "modern");
            await refusal(call(request, "echo", { text: "secret" })).catch(async () => {
                assert.notEqual((await call(request, "echo")).error, undefined);
            });
            assert.deepEqual(fixture.requests.items, [], "not a byte of a request");
        });
    }

    test("a server that speaks no TLS", async (t) => {
        const fixture = await startHttp({}, t);
        const url = fixture.url.replace("http:", "https:");
        const gateway = await startGateway({ config: { servers: { http: { url } } } }, t);
        assert.match(await downReason(gateway, "http"), /TLS|handshake|ssl|protocol/i);
        assert.deepEqual(fixture.requests.items, []);
    });

    test("the system's roots never delay listening, nor those who need none", async (t) => {
        const folder = temporaryFolder();
        const pipe = join(folder, "roots.pem");
        execFileSync("mkfifo", [pipe]); // whoever opens it waits for a writer, who never comes
        const gateway = await startGateway(
            {
                env: { ...process.env, SSL_CERT_FILE: pipe },
                config: { servers: { far: { url: "https://127.0.0.1:1/mcp" } } },
            },
            t,
        );
        const session = await openSession(gateway);
        assert.deepEqual((await session.request("ping")).result, {});
        await session.end();
        const end = () => {
            try {
                closeSync(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK));
                return true;
            } catch {
                return false; // nobody reads it yet
            }
        };
        await until(end, "the roots are being read"); // and now they end, so that the gateway can
    });

    test("roots that cannot be read: everything else serves, and the reason is told", async (t) => {
        const plain = await startHttp({}, t);
        const fixture = await startHttp({ tls: authority.sign("IP:127.0.0.1") }, t);
        const env = { ...process.env, SSL_CERT_FILE: "/nonexistent", SSL_CERT_DIR: "/nonexistent" };
        const servers = { http: { url: fixture.url }, plain: { url: plain.url } };
        const gateway = await startGateway({ config: { servers }, env }, t);
        assert.match(await downReason(gateway, "http"), /./);
        assert.equal(await said(call(await client(gateway, "modern", "plain"), "echo", { text: "x" })), "x");
        assert.deepEqual(fixture.requests.items, []);
    });
});

describe("time limits", { concurrency: 4 }, () => {
    /** Runs every few milliseconds until the connection is gone. */
    const ticking = (request: Received, ms: number, tick: () => void) => {
        const timer = setInterval(tick, ms);
        void request.closed.then(() => clearInterval(timer));
        return () => clearInterval(timer);
    };

    for (const era of ERAS) {
        test(`${era}: timeout: a call without a byte is given up, and the server is told`, async (t) => {
            const { fixture, gateway } = await serve(t, only(era), { timeout: "300ms" });
            const request = await client(gateway, "modern");
            const began = performance.now();
            await refusal(call(request, "hold"));
            const took = performance.now() - began;
            assert.ok(took >= 290 && took < 10_000, `${took} ms`);
            const [held] = fixture.received("tools/call");
            if (era === "modern") await held!.closed;
            else {
                const cancelled = await fixture.receives("notifications/cancelled");
                assert.equal(cancelled.message!.params!.requestId, held!.message!.id);
            }
            assert.equal(await said(call(request, "echo", { text: "after" })), "after");
        });

        for (const [what, say] of [
            ["comments", (stream: { comment: () => void }) => stream.comment()],
            [
                "progress",
                (stream: { event: (message: object) => void }, token: unknown, n: number) =>
                    stream.event({
                        jsonrpc: "2.0",
                        method: "notifications/progress",
                        params: { progressToken: token, progress: n },
                    }),
            ],
        ] as const) {
            test(`${era}: ${what} keep a call alive`, async (t) => {
                const { fixture, gateway } = await serve(t, only(era), { timeout: "400ms" });
                const args = fixture.act((exchange) => {
                    const stream = exchange.sse();
                    const { progressToken } = (exchange.message.params!._meta ?? {}) as { progressToken?: unknown };
                    let n = 0;
                    const stop = ticking(exchange.request, 100, () => {
                        say(stream, progressToken, ++n);
                        if (n < 9) return;
                        stop();
                        stream.event(exchange.answer("late"));
                        stream.end();
                    });
                });
                const modern = new ModernClient(gateway, "/mcp/http");
                assert.equal(await said(modern.call("echo", args, { meta: { progressToken: 1 } })), "late");
            });

            test(`${era}: ${what} do not keep it alive for ever`, async (t) => {
                const { fixture, gateway } = await serve(t, only(era), { timeout: "400ms", max_timeout: "900ms" });
                const args = fixture.act((exchange) => {
                    const stream = exchange.sse();
                    const { progressToken } = (exchange.message.params!._meta ?? {}) as { progressToken?: unknown };
                    let n = 0;
                    ticking(exchange.request, 100, () => say(stream, progressToken, ++n));
                });
                const modern = new ModernClient(gateway, "/mcp/http");
                const began = performance.now();
                await refusal(modern.call("echo", args, { meta: { progressToken: 1 } }));
                assert.ok(performance.now() - began >= 890);
            });
        }
    }

    test("connect_timeout: a server that answers no handshake", async (t) => {
        const sockets = new Set<net.Socket>();
        const server = net.createServer((socket) => {
            sockets.add(socket);
            socket.on("error", () => {});
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        t.after(() => {
            for (const socket of sockets) socket.destroy();
            server.close();
        });
        const { port } = server.address() as net.AddressInfo;
        const url = `https://127.0.0.1:${port}/mcp`;
        const gateway = await startGateway({ config: { servers: { http: { url, connect_timeout: "200ms" } } } }, t);
        assert.match(await downReason(gateway, "http"), /time|TLS|handshake/i);
    });

    test("startup_timeout: a server that answers nothing, and one that answers no list", async (t) => {
        const good = await startHttp({}, t);
        const silent = await startHttp({ on: () => true }, t);
        const listless = await startHttp({ on: ({ message }) => message.method === "tools/list" }, t);
        const servers = {
            silent: { url: silent.url, startup_timeout: "300ms" },
            listless: { url: listless.url, startup_timeout: "300ms" },
            good: { url: good.url },
        };
        const gateway = await startGateway({ config: { servers } }, t);
        await served(gateway, "good__echo");
        assert.match(await downReason(gateway, "silent"), /time|answer/i);
        await until(() => silent.received("server/discover").length >= 2, "it is tried again");
        assert.deepEqual(silent.received("initialize"), []);
        const states = await status(gateway);
        assert.equal(states.get("good")!.state, "ready");
        assert.deepEqual(states.get("listless")!.tools, []);
    });

    test("a client's open stream hears something every 15 seconds", async (t) => {
        const { fixture, gateway } = await serve(t, legacyOnly());
        const session = await openSession(gateway, "/mcp/http");
        const modern = new ModernClient(gateway, "/mcp/http");
        const get = await session.stream();
        const post = await modern.stream(
            "tools/call",
            { name: "hold", arguments: {} },
            { meta: { progressToken: "t" } },
        );
        await fixture.holds();
        for (const stream of [get, post]) {
            assert.equal(stream.headers["x-accel-buffering"], "no");
            await until(() => stream.comments.length > 0, "a comment");
        }
        fixture.brain.release();
        assert.equal(text(await post.messages.waitFor((message) => message.result !== undefined)), "released");
        get.close();
    });
});
