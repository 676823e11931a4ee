/*
 * How often: requests by everybody and by an address, calls of a server, of a tool, by a user, by a group. Nothing waits
 * for a window to pass unless that is what it is about; then it asks until it is let in, and looks at when that was.
 */
import assert from "node:assert/strict";
import { before, after, describe, test, type TestContext } from "node:test";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, send, text, type Answer } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, jwt, oauth, Tokens } from "./lib/principals.ts";
import { post, Raw } from "./lib/raw.ts";
import { reload } from "./lib/reload.ts";
import { refusal, said } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

type Table = { [key: string]: Value };

const limit = (n: number, interval = "10m"): Table => ({ limit: n, interval });
const ping = (gateway: Gateway, token?: string | false): Promise<Answer> =>
    new ModernClient(gateway, "/mcp", { token }).ask("server/discover");

/** A refusal for HTTP: which limit, and when to come back. */
function isTooMany(answer: { status: number; text: string; headers: { "retry-after"?: string } }, key: string): number {
    assert.equal(answer.status, 429, answer.text);
    const seconds = Number(answer.headers["retry-after"]);
    assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 600, `Retry-After: ${answer.headers["retry-after"]}`);
    assert.ok(answer.text.includes(key), answer.text);
    return seconds;
}

/** A refusal of a call: which limit, how much of it, and when to come back. */
function names(why: string, key: string, n: number): void {
    assert.ok(why.includes(`${key} `), `${key}: ${why}`);
    assert.match(why, new RegExp(`\\b${n} calls?\\b`), why);
    const seconds = Number(/(\d+) s\b/.exec(why)?.[1]);
    assert.ok(seconds >= 1 && seconds <= 600, why);
}

describe("requests", () => {
    const startLimited = (t: TestContext, rate_limits: Table, server: Table = {}) =>
        startGateway({ config: { server: { rate_limits, ...server }, servers: {} } }, t);

    test("of everybody: so many pass, over all workers, and the next ones get 429 with Retry-After", async (t) => {
        const gateway = await startLimited(t, { enabled: true, global: limit(20) });
        const answers = await Promise.all(Array.from({ length: 60 }, () => ping(gateway)));
        assert.equal(answers.filter(({ status }) => status === 200).length, 20);
        for (const answer of answers) if (answer.status !== 200) isTooMany(answer, "server.rate_limits.global");
    });

    test("whatever is asked counts, and is refused: without a token, with a wrong one, where there is nothing", async (t) => {
        const gateway = await startLimited(t, { global: limit(4) });
        assert.equal((await ping(gateway, false)).status, 401);
        assert.equal((await ping(gateway, "nobody")).status, 401);
        assert.equal((await send(gateway, { method: "GET", path: "/nothing" })).status, 404);
        assert.equal((await ping(gateway)).status, 200);
        const refused: { [title: string]: Promise<Answer> } = {
            "with a token": ping(gateway),
            "without one, before anybody asks for it": ping(gateway, false),
            "with a wrong one": ping(gateway, "nobody"),
            "where there is nothing": send(gateway, { method: "GET", path: "/nothing" }),
            preflight: send(gateway, { method: "OPTIONS", headers: { Origin: "https://a.example" }, token: false }),
            "what is no JSON": send(gateway, { body: "{" }),
        };
        for (const [title, answer] of Object.entries(refused)) {
            const { status, text, headers } = await answer;
            assert.equal(status, 429, `${title}: ${text}`);
            assert.match(String(headers["retry-after"]), /^\d+$/, title);
        }
    });

    test("health is exempt: it neither counts nor is refused", async (t) => {
        const gateway = await startLimited(t, { global: limit(2), per_ip: limit(2) });
        const health = () => send(gateway, { method: "GET", path: "/health", token: false });
        for (let i = 0; i < 5; i++) assert.equal((await health()).status, 200);
        assert.equal((await ping(gateway)).status, 200);
        assert.equal((await ping(gateway)).status, 200);
        isTooMany(await ping(gateway), "server.rate_limits");
        for (let i = 0; i < 5; i++) assert.equal((await health()).status, 200);
    });

    test("whoever asks /ready with a token is no balancer: a check of it is counted", async (t) => {
        const gateway = await startLimited(t, { per_ip: limit(3) });
        const ready = (token: string | false) => send(gateway, { method: "GET", path: "/ready", token });
        for (let i = 0; i < 5; i++) assert.equal((await ready(false)).status, 200);
        const seen: number[] = [];
        for (let i = 0; i < 6; i++) seen.push((await ready(`${jwt({ sub: "a", i })}x`)).status);
        assert.deepEqual(seen.slice(3), [429, 429, 429], String(seen));
    });

    test("a body that never comes takes nothing away: the request was counted by its head", async (t) => {
        const gateway = await startLimited(t, { per_ip: limit(2) });
        const silent = [1, 2].map(() => {
            const raw = new Raw(gateway.port);
            raw.socket.write(post(gateway, "", { "Content-Length": "4000000", Authorization: "Bearer nobody" }));
            return raw;
        });
        await until(async () => (await ping(gateway)).status === 429, "the two heads are counted");
        for (const raw of silent) raw.end();
    });

    test("the refusal does not wait for a body, or read it", async (t) => {
        const gateway = await startLimited(t, { per_ip: limit(1) });
        assert.equal((await ping(gateway)).status, 200);
        for (const token of [gateway.token, "nobody"]) {
            const raw = new Raw(gateway.port);
            raw.socket.write(post(gateway, "", { "Content-Length": "4000000", Authorization: `Bearer ${token}` }));
            await until(() => raw.bytes.includes("HTTP/1.1 "), "an answer before the body", 5000);
            assert.match(raw.bytes.toString(), /^HTTP\/1\.1 429 /);
            raw.end();
        }
        const raw = new Raw(gateway.port);
        raw.socket.write(post(gateway, "", { "Content-Length": "4", Expect: "100-continue" }));
        await until(() => raw.bytes.includes("HTTP/1.1 "), "an answer instead of 100 Continue");
        assert.match(raw.bytes.toString(), /^HTTP\/1\.1 429 /);
        raw.end();
    });

    test("a connection that stays is counted by the request", async (t) => {
        const gateway = await startLimited(t, { per_ip: limit(3) });
        const raw = new Raw(gateway.port);
        const one = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
        raw.socket.write(one.repeat(5));
        await until(() => raw.bytes.toString().split("HTTP/1.1 ").length === 6, "five answers");
        const statuses = [...raw.bytes.toString().matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1]);
        assert.deepEqual(statuses.slice(3), ["429", "429"], String(statuses));
        assert.ok(!statuses.slice(0, 3).includes("429"), String(statuses));
        raw.end();
    });

    test("of an address: another one is let in", async (t) => {
        const gateway = await startLimited(t, { per_ip: limit(2) });
        const from = async (address: string) => {
            const raw = new Raw(gateway.port, address);
            raw.socket.write("GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            const [answer] = await raw.answers();
            return answer!.status;
        };
        const seen: number[] = [];
        for (let i = 0; i < 4; i++) seen.push(await from("127.0.0.2"));
        assert.deepEqual(seen.map((status) => status === 429), [false, false, true, true], String(seen));
        assert.notEqual(await from("127.0.0.3"), 429);
    });

    test("behind a proxy it is the caller's: IPv6 by its /64, IPv4 whole, however it is written", async (t) => {
        const gateway = await startLimited(
            t,
            { per_ip: limit(2) },
            { trusted_proxies: ["127.0.0.1"], client_ip: { x_forwarded_for: true } },
        );
        const from = async (address: string) =>
            (await send(gateway, { method: "GET", path: "/nothing", headers: { "X-Forwarded-For": address } })).status;
        const rows: [string, string, string, string][] = [
            ["2001:db8:1:1::1", "2001:db8:1:1:ffff:ffff:ffff:ffff", "2001:0DB8:0001:0001::5", "2001:db8:1:2::1"],
            ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"],
            ["::ffff:198.51.100.7", "198.51.100.7", "::ffff:c633:6407", "::ffff:198.51.100.8"],
        ];
        for (const [first, second, third, other] of rows) {
            assert.notEqual(await from(first), 429, first);
            assert.notEqual(await from(second), 429, second);
            assert.equal(await from(third), 429, third);
            assert.notEqual(await from(other), 429, other);
        }
    });

    test("from who is no trusted proxy, X-Forwarded-For changes nothing", async (t) => {
        const gateway = await startLimited(
            t,
            { per_ip: limit(2) },
            { trusted_proxies: ["192.0.2.1"], client_ip: { x_forwarded_for: true, x_real_ip: true } },
        );
        const seen: number[] = [];
        for (let i = 0; i < 4; i++) {
            const headers = { "X-Forwarded-For": `198.51.100.${i}`, "X-Real-IP": `198.51.100.${i}` };
            seen.push((await send(gateway, { method: "GET", path: "/nothing", headers })).status);
        }
        assert.deepEqual(seen.map((status) => status === 429), [false, false, true, true], String(seen));
    });

    test("both levels together: what one refuses the other does not count", async (t) => {
        const gateway = await startLimited(
            t,
            { global: limit(4), per_ip: limit(2) },
            { trusted_proxies: ["127.0.0.1"], client_ip: { x_forwarded_for: true } },
        );
        const from = (address: string) =>
            send(gateway, { method: "GET", path: "/nothing", headers: { "X-Forwarded-For": address } });
        for (let i = 0; i < 2; i++) assert.notEqual((await from("192.0.2.1")).status, 429);
        for (let i = 0; i < 9; i++) isTooMany(await from("192.0.2.1"), "server.rate_limits.per_ip");
        for (let i = 0; i < 2; i++) assert.notEqual((await from("192.0.2.2")).status, 429);
        isTooMany(await from("192.0.2.3"), "server.rate_limits.global");
    });

    test("in no window of the interval more than the limit, and soon after it again", async (t) => {
        const gateway = await startLimited(t, { global: limit(2, "700ms") });
        const passed: { sent: number; answered: number }[] = [];
        await until(async () => {
            const sent = performance.now();
            if ((await ping(gateway)).status === 200) passed.push({ sent, answered: performance.now() });
            return passed.length === 7;
        }, () => `seven requests pass, not ${passed.length}`);
        for (let i = 2; i < passed.length; i++) {
            const apart = passed[i]!.answered - passed[i - 2]!.sent;
            assert.ok(apart >= 700, `requests ${i - 2}, ${i - 1} and ${i} passed within ${apart} ms`);
        }
    });

    test("enabled = false: nothing is limited, not even by the limits of servers", async (t) => {
        const fixture = await startHttp({}, t);
        const gateway = await startGateway(
            {
                config: {
                    server: { rate_limits: { enabled: false, global: limit(1), per_ip: limit(1) } },
                    servers: { http: { url: fixture.url, rate_limits: limit(1) } },
                },
            },
            t,
        );
        const client = new ModernClient(gateway);
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "http");
        for (let i = 0; i < 6; i++) assert.equal(await said(client.call("http__echo", { text: "x" })), "x");
    });

    test("a reload keeps what was counted, and takes another limit", async (t) => {
        const config = (n: number, more: Table = {}): Config => ({
            server: { rate_limits: { global: limit(n) }, ...more },
            servers: {},
        });
        const gateway = await startGateway({ config: config(2) }, t);
        for (let i = 0; i < 2; i++) assert.equal((await ping(gateway)).status, 200);
        isTooMany(await ping(gateway), "server.rate_limits.global");
        await reload(gateway, config(2, { max_request_body: "1MiB" }));
        for (let i = 0; i < 4; i++) isTooMany(await ping(gateway), "server.rate_limits.global");
        await reload(gateway, config(1000));
        for (let i = 0; i < 4; i++) assert.equal((await ping(gateway)).status, 200);
    });
});

describe("calls", () => {
    let fixture: HttpFixture;
    let tokens: Tokens;
    before(async () => {
        fixture = await startHttp();
        tokens = new Tokens({ ann: undefined, bob: undefined, gold: ["gold"], both: ["silver", "gold"], tin: ["tin"] });
    });
    after(() => fixture.close());

    /** Two servers, alike but for their limits. */
    const configOf = (one: Table, two: Table = {}, more: Table = {}): Config => ({
        server: { auth: { tokens: tokens.table }, oauth },
        servers: {
            one: { url: fixture.url, share: "all", rate_limits: one, ...more },
            two: { url: fixture.url, share: "all", ...(Object.keys(two).length === 0 ? {} : { rate_limits: two }) },
        },
    });
    async function start(t: TestContext, one: Table, two: Table = {}, more: Table = {}): Promise<Gateway> {
        const gateway = await startGateway({ config: configOf(one, two, more) }, t);
        for (const name of ["one", "two"]) {
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
        }
        return gateway;
    }

    type Ask = (name: string, args?: { [key: string]: unknown }) => Promise<RpcMessage>;
    const asker = (gateway: Gateway, who: string): Ask => {
        const client = new ModernClient(who === "local" ? gateway : tokens.as(gateway, who));
        return (name, args = { text: "x" }) => client.call(name, args);
    };
    /** How many of these pass, one after the other, and why the others do not. */
    async function passing(ask: Ask, name: string, n: number): Promise<{ passed: number; why: string[] }> {
        const why: string[] = [];
        for (let i = 0; i < n; i++) {
            const answer = await ask(name);
            assert.equal(answer.error, undefined, JSON.stringify(answer));
            if (answer.result!.isError !== true) continue;
            assert.match(text(answer), /rate_limits/);
            why.push(text(answer));
        }
        return { passed: n - why.length, why };
    }

    test("of a server: over all its tools and callers, and of no other server", async (t) => {
        const gateway = await start(t, limit(4));
        const [ann, bob] = [asker(gateway, "ann"), asker(gateway, "bob")];
        assert.equal((await passing(ann, "one__echo", 2)).passed, 2);
        assert.equal((await passing(bob, "one__count", 1)).passed, 1);
        const { passed, why } = await passing(bob, "one__echo", 3);
        assert.equal(passed, 1);
        for (const each of why) names(each, "mcp.servers.one.rate_limits", 4);
        assert.equal((await passing(bob, "two__echo", 6)).passed, 6);
    });

    test("of a tool, beside the server's; both together or neither", async (t) => {
        const gateway = await start(t, { ...limit(4), tools: { echo: limit(1) } });
        const ask = asker(gateway, "ann");
        const first = await passing(ask, "one__echo", 6);
        assert.equal(first.passed, 1);
        for (const each of first.why) names(each, "mcp.servers.one.rate_limits.tools.echo", 1);
        // The five that were refused took nothing of the server's four.
        const second = await passing(ask, "one__count", 5);
        assert.equal(second.passed, 3);
        for (const each of second.why) names(each, "mcp.servers.one.rate_limits", 4);
    });

    test("of a user: each has its own, whichever token, connection, era or endpoint it comes with", async (t) => {
        const gateway = await start(t, { per_user: limit(4) });
        const of = (sub: string, jti: string) => new ModernClient(as(gateway, jwt({ sub, jti })));
        await said(of("ann", "1").call("one__echo", { text: "x" }));
        await said(of("ann", "2").call("one__count"));
        const session = await openSession(as(gateway, jwt({ sub: "ann" })), "/mcp/one");
        await said(session.call("echo", { text: "x" }));
        const other = await openSession(as(gateway, jwt({ sub: "ann" })), "/mcp", "2025-03-26");
        await said(other.call("one__echo", { text: "x" }));
        names(await refusal(of("ann", "3").call("one__echo", { text: "x" })), "mcp.servers.one.rate_limits.per_user", 4);
        names(await refusal(session.call("echo", { text: "x" })), "mcp.servers.one.rate_limits.per_user", 4);
        // A token of that name, another user, the owner: others.
        for (const who of ["ann", "bob", "local"]) {
            assert.equal((await passing(asker(gateway, who), "one__echo", 5)).passed, 4, who);
        }
    });

    test("of a user's tool", async (t) => {
        const gateway = await start(t, { per_user: { ...limit(5), tools: { echo: limit(2) } } });
        for (const who of ["ann", "bob"]) {
            const ask = asker(gateway, who);
            const { passed, why } = await passing(ask, "one__echo", 4);
            assert.equal(passed, 2);
            for (const each of why) names(each, "mcp.servers.one.rate_limits.per_user.tools.echo", 2);
            assert.equal((await passing(ask, "one__count", 5)).passed, 3);
        }
    });

    test("a group's row replaces per_user for its members; of several the one that allows most", async (t) => {
        // 3 in 10 minutes are more than 4 in 20.
        const gateway = await start(t, {
            per_user: { ...limit(1), groups: { gold: limit(3), silver: limit(4, "20m") }, tools: { count: limit(2) } },
        });
        const rows: [string, number, string][] = [
            ["ann", 1, "per_user"],
            ["tin", 1, "per_user"],
            ["gold", 3, "per_user.groups.gold"],
            ["both", 3, "per_user.groups.gold"],
        ];
        for (const [who, n, key] of rows) {
            const { passed, why } = await passing(asker(gateway, who), "one__echo", 6);
            assert.equal(passed, n, `${who}: ${why}`);
            for (const each of why) names(each, `mcp.servers.one.rate_limits.${key}`, n);
        }
        // Who is in both has one counter for itself, and per_user.tools holds for members, too.
        const silver = new ModernClient(as(gateway, jwt({ sub: "s" })));
        assert.equal((await passing((name, args) => silver.call(name, args), "one__count", 4)).passed, 1);
    });

    test("a group's row for a server without per_user", async (t) => {
        const gateway = await start(t, { per_user: { groups: { gold: limit(2) } } });
        assert.equal((await passing(asker(gateway, "gold"), "one__echo", 4)).passed, 2);
        assert.equal((await passing(asker(gateway, "ann"), "one__echo", 8)).passed, 8);
    });

    test("all levels together or none", async (t) => {
        const gateway = await start(t, {
            ...limit(100),
            tools: { echo: limit(50) },
            per_user: { ...limit(4), tools: { echo: limit(2) } },
        });
        const ask = asker(gateway, "ann");
        assert.equal((await passing(ask, "one__echo", 30)).passed, 2);
        assert.equal((await passing(ask, "one__count", 30)).passed, 2);
        // 60 calls, of which 4 passed: 96 of the server are left, and 48 of the tool.
        let passed = 0;
        for (let user = 0; user < 24; user++) {
            const client = new ModernClient(as(gateway, jwt({ sub: `u${user}` })));
            passed += (await passing((name, args) => client.call(name, args), "one__echo", 2)).passed;
        }
        assert.equal(passed, 48);
        names(await refusal(asker(gateway, "bob")("one__echo")), "mcp.servers.one.rate_limits.tools.echo", 50);
        assert.equal((await passing(asker(gateway, "bob"), "one__count", 4)).passed, 4);
    });

    test("prompts, resources and completion count for the server and the user, and are refused by an error", async (t) => {
        const gateway = await start(t, { ...limit(100), per_user: limit(4), tools: { review: limit(1) } });
        for (const era of ["legacy", "modern"]) {
            const who = as(gateway, jwt({ sub: era }));
            const session = era === "legacy" ? await openSession(who) : undefined;
            const client = new ModernClient(who);
            const ask = (method: string, params: { [key: string]: unknown }) =>
                session === undefined ? client.request(method, params) : session.request(method, params);
            const all: [string, { [key: string]: unknown }][] = [
                ["prompts/get", { name: "one__review" }],
                ["resources/read", { uri: "test://one" }],
                [
                    "completion/complete",
                    { ref: { type: "ref/prompt", name: "one__review" }, argument: { name: "what", value: "x" } },
                ],
                ["prompts/get", { name: "one__review" }],
            ];
            for (const [method, params] of all) {
                const answer = await ask(method, params);
                assert.equal(answer.error, undefined, `${era} ${method}: ${JSON.stringify(answer)}`);
            }
            for (const [method, params] of all) {
                const { error } = await ask(method, params);
                assert.ok(error !== undefined, `${era} ${method}`);
                assert.ok(error.code < -32768 || error.code > -32000, `${era} ${method}: ${error.code}`);
                names(error.message, "mcp.servers.one.rate_limits.per_user", 4);
            }
            names(await refusal(ask("tools/call", { name: "one__echo" })), "mcp.servers.one.rate_limits.per_user", 4);
            // Lists are not calls.
            for (const method of ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]) {
                assert.equal((await ask(method, {})).error, undefined);
            }
        }
    });

    test("what is refused for another reason takes nothing", async (t) => {
        const gateway = await start(t, limit(2), {}, {
            tools: {
                count: { allow: [] },
                fail: { arguments: { x: { deny: [1] } } },
            },
        });
        const ask = asker(gateway, "ann");
        for (let i = 0; i < 4; i++) {
            assert.equal((await ask("one__count")).error?.code, -32602);
            assert.equal((await ask("one__nothing")).error?.code, -32602);
            assert.match(await refusal(ask("one__fail", { x: 1 })), /arguments/);
        }
        assert.equal((await passing(ask, "one__echo", 4)).passed, 2);
    });

    test("what is locked takes nothing", async (t) => {
        const config: Config = {
            ...configOf(limit(2), {}, { tools: { echo: { access: "read" } } }),
            security: { edit_mode: false },
        };
        const gateway = await startGateway({ config }, t);
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "one");
        const ask = asker(gateway, "ann");
        for (let i = 0; i < 4; i++) assert.doesNotMatch(await refusal(ask("one__count")), /rate_limits/);
        assert.equal((await passing(ask, "one__echo", 4)).passed, 2);
    });

    test("a batch of n takes n", async (t) => {
        const gateway = await start(t, limit(5));
        const session = await openSession(gateway, "/mcp", "2025-03-26");
        const batch = async (n: number) => {
            const body = Array.from({ length: n }, (_, id) => ({
                jsonrpc: "2.0",
                id,
                method: "tools/call",
                params: { name: "one__echo", arguments: { text: "x" } },
            }));
            const { messages } = await session.send({ body });
            assert.equal(messages.length, n);
            return messages.filter((message) => message.result!.isError !== true).length;
        };
        assert.equal(await batch(3), 3);
        assert.equal(await batch(4), 2);
        assert.equal(await batch(3), 0);
    });

    test("workers count together: of a hundred at once exactly as many as allowed", async (t) => {
        const gateway = await start(t, { ...limit(30), per_user: limit(20) });
        const storm = async (who: string) => {
            const ask = asker(gateway, who);
            const answers = await Promise.all(Array.from({ length: 50 }, () => ask("one__echo")));
            return answers.filter(({ result }) => result!.isError !== true).length;
        };
        const [ann, bob] = await Promise.all([storm("ann"), storm("bob")]);
        assert.ok(ann <= 20 && bob <= 20, `${ann} and ${bob}`);
        assert.equal(ann + bob, 30);
    });

    test("a reload keeps what was counted, also when the server is another one now", async (t) => {
        const gateway = await start(t, limit(3), limit(2));
        const ask = asker(gateway, "ann");
        assert.equal((await passing(ask, "one__echo", 3)).passed, 3);
        assert.equal((await passing(ask, "two__echo", 1)).passed, 1);
        await reload(gateway, configOf(limit(3), limit(2), { startup_timeout: "50s" }));
        names(await refusal(ask("one__echo")), "mcp.servers.one.rate_limits", 3);
        assert.equal((await passing(ask, "two__echo", 3)).passed, 1);
    });

    test("in no window more than the limit, and the refusal's seconds are true", async (t) => {
        const gateway = await start(t, { tools: { echo: limit(3, "900ms") } });
        const ask = asker(gateway, "ann");
        const passed: { sent: number; answered: number }[] = [];
        await until(async () => {
            const sent = performance.now();
            const answer = await ask("one__echo");
            if (answer.result!.isError !== true) passed.push({ sent, answered: performance.now() });
            else assert.match(text(answer), /\b1 s\b/, "less than a second is a second");
            return passed.length === 8;
        }, () => `eight calls pass, not ${passed.length}`);
        for (let i = 3; i < passed.length; i++) {
            const apart = passed[i]!.answered - passed[i - 3]!.sent;
            assert.ok(apart >= 900, `calls ${i - 3} to ${i} passed within ${apart} ms`);
        }
    });
});
