/*
 * Attacks on what may be called and how often: each test is one way in that was tried, and has to stay shut. What the
 * rules mean is in access.test.ts, arguments.test.ts, readonly.test.ts and rate-limits.test.ts.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, startHttp, type Exchange } from "./fixtures/http-server.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { startControl, type RpcMessage } from "./lib/control.ts";
import { control as command, edit } from "./lib/edit.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, send, served, stream, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, jwt, oauth, Tokens } from "./lib/principals.ts";
import { Redis } from "./lib/redis.ts";
import { reload } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { refusal, status } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

type Table = { [key: string]: Value };
const object = { type: "object" };
const tool = (name: string, more: object = {}) => ({ name, inputSchema: object, ...more });

describe("a decision is of the moment at which the call leaves", () => {
    test("edit mode closes while a write waits for its server to start", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const options = { name: "slow", tools: [tool("write")] };
        const cmd = control.command(options);
        const gateway = await startGateway({ config: { servers: { it: { cmd, share: "all" } }, security: {} } }, t);
        const first = await control.started("slow");
        await until(async () => (await status(gateway)).get("it")?.state === "ready", "it is ready");
        await edit(gateway, "on", "--reason", "a test");
        // The next one does not answer initialize until it is told to.
        writeFileSync(cmd[2]!, JSON.stringify({ ...options, control: control.path, initialize: "hold" }));
        const client = new ModernClient(gateway, "/mcp/it");
        first.do({ do: "exit", code: 0 });
        await first.isGone();
        const second = await control.started("slow", 2);
        const answer = client.call("write", {});
        await until(async () => ((await status(gateway)).get("it")?.in_flight ?? 0) > 0, "the call waits");
        await edit(gateway, "off");
        await until(async () => {
            await second.set({ initialize: "answer" });
            second.do({ do: "release" });
            return (await status(gateway)).get("it")?.state === "ready";
        }, "it is ready again");
        const { result } = await answer;
        assert.equal(result?.isError, true, JSON.stringify(result));
        await second.sync();
        assert.deepEqual(second.received("tools/call"), [], "a write that is locked does not leave");
    });

    test("edit mode closes while the answer of a write is fetched: it comes, for the write was made", async (t) => {
        let close = async (): Promise<void> => {};
        const resumed: Exchange[] = [];
        const fixture = await startHttp(
            {
                ...legacyOnly(),
                tools: [tool("echo")],
                on: (exchange) => {
                    if (exchange.request.method !== "GET" || exchange.request.field("last-event-id") !== "one") return false;
                    resumed.push(exchange);
                    return true;
                },
            },
            t,
        );
        const gateway = await startGateway({ config: { servers: { it: { url: fixture.url } }, security: {} } }, t);
        await edit(gateway, "on", "--reason", "a test");
        const client = new ModernClient(gateway, "/mcp/it");
        const args = fixture.act(async (exchange) => {
            await close();
            const first = exchange.sse();
            first.raw("id: one\nretry: 1\ndata: \n\n");
            first.end();
            await until(() => resumed.length !== 0, "the rest is asked for");
            const second = resumed[0]!.sse();
            second.event(exchange.answer("written"), "two");
            second.end();
        });
        close = async () => void (await edit(gateway, "off"));
        const { result } = await client.call("echo", args);
        assert.match(JSON.stringify(result), /written/);
    });

    test("edit mode closes while a write waits for Redis", async (t) => {
        const redis = await Redis.start(t);
        const fixture = await startHttp({ ...legacyOnly(), tools: [tool("echo")] }, t);
        const rate_limits = { storage: { type: "redis", url: redis.url, response_timeout: "30s" } };
        const gateway = await startGateway(
            { config: { server: { rate_limits }, security: {}, servers: { http: { url: fixture.url, rate_limits: { limit: 100, interval: "1h" } } } } },
            t,
        );
        await edit(gateway, "on", "--reason", "a test");
        await served(gateway, "http__echo");
        const client = new ModernClient(gateway);
        await client.call("http__echo", {});
        const from = fixture.requests.items.length;
        redis.pause();
        const answer = client.call("http__echo", {});
        const asked = (entry: { message?: string; method?: unknown }) => entry.message === "request" && entry.method === "tools/call";
        await until(() => gateway.log.items.filter(asked).length === 2, "it has come");
        await edit(gateway, "off");
        redis.goOn();
        assert.match(await refusal(answer), /edit mode/);
        assert.equal(fixture.received("tools/call", from).length, 0);
    });
});

describe("a call that waits for a slot", () => {
    const after = {
        "its token is gone": { tokens: ["two"], groups: ["g"] },
        "its owner has lost the group": { tokens: ["one", "two"], groups: ["h"] },
    };
    for (const [title, { tokens: left, groups }] of Object.entries(after)) {
        test(`is judged anew when ${title}`, async (t) => {
            const fixture = await startHttp(legacyOnly(), t);
            const tokens = new Tokens({ one: ["g"], two: ["h"] });
            const config = (names: string[], mine: string[]) => {
                const table: Table = {};
                for (const name of names) table[name] = { ...(tokens.table[name] as Table), groups: name === "one" ? mine : ["h"] };
                const http = { url: fixture.url, allow: ["g", "h"], tools: { echo: { allow: ["g"] } } };
                return { server: { limits: { max_in_flight: 1 }, auth: { tokens: table } }, servers: { http } };
            };
            const gateway = await startGateway({ config: config(["one", "two"], ["g"]) }, t);
            const client = new ModernClient(tokens.as(gateway, "one"));
            await served(tokens.as(gateway, "one"), "http__echo");
            const holding = client.ask("tools/call", { name: "http__hold", arguments: {} });
            await fixture.holds(1);
            const from = fixture.requests.items.length;
            const waiting = client.ask("tools/call", { name: "http__echo", arguments: { text: "late" } });
            await gateway.waitForLog((entry) => entry.message === "a call waits for its turn");
            await reload(gateway, config(left, groups));
            fixture.brain.release();
            await holding;
            const answer = await waiting;
            assert.equal(fixture.received("tools/call", from).length, 0, answer.text.slice(0, 300));
        });
    }
});

describe("a reload", () => {
    test("lets nothing pass that neither configuration does", { timeout: 120_000 }, async (t) => {
        const named = ["w", "ok", "slow"].map((name) => tool(name));
        const fixture = await startHttp({ ...legacyOnly(), tools: named }, t);
        // Keeps a worker busy for a while, so that the others go over to the new configuration before it.
        const tools = { slow: { access: "read", arguments: { x: { pattern: "(.*a)*b" } } } };
        const config = (isOpen: boolean) => ({
            server: { workers: 4 },
            security: isOpen ? { edit_mode: true, whitelist: ["http__ok"] } : { edit_mode: false },
            servers: { http: { url: fixture.url, tools } },
        });
        const gateway = await startGateway({ config: config(true), args: ["--log", "info"], keep: 2000 }, t);
        await served(gateway, "http__ok");
        let isOver = false;
        const hammer = async (name: string, args: object): Promise<void> => {
            const client = new ModernClient(gateway);
            while (!isOver) await client.ask("tools/call", { name: `http__${name}`, arguments: args });
        };
        const all = [
            ...Array.from({ length: 12 }, () => hammer("w", {})),
            ...Array.from({ length: 3 }, () => hammer("slow", { x: "a".repeat(900_000) })),
        ];
        try {
            for (let i = 0; i < 20; i++) await reload(gateway, config(i % 2 === 1));
        } finally {
            isOver = true;
            await Promise.all(all);
        }
        const passed = fixture.received("tools/call").filter(({ message }) => message!.params!.name === "w");
        assert.equal(passed.length, 0, "the tool is on no whitelist, and edit mode is off without one");
    });
});

describe("who may no longer know of a server", () => {
    for (const share of ["all", "principal"]) {
        test(`hears nothing more of it on an open stream: share = ${share}`, async (t) => {
            const control = await startControl();
            t.after(() => control.close());
            const tokens = new Tokens({ one: ["g"] });
            const cmd = control.command({ name: "chatty", tools: [tool("a")] });
            const other = control.command({ name: "other", tools: [tool("a")] });
            const config = (allow: string[]) => ({
                server: { auth: { tokens: tokens.table } },
                servers: { it: { cmd, share, allow }, other: { cmd: other, share } },
            });
            const gateway = await startGateway({ config: config(["g"]) }, t);
            const mine = tokens.as(gateway, "one");
            await served(mine, "it__a", "other__a");
            const session = await openSession(mine);
            const listening = await session.stream();
            const processes = control.starts.items.filter((each) => each.name === "chatty");
            const say = (data: string) => {
                for (const each of processes) each.notify("notifications/message", { level: "error", data });
            };
            if (share === "principal") {
                say("before");
                await listening.messages.waitFor((message) => message.params?.data === "before");
            }
            await reload(gateway, config(["nobody"]));
            say("after");
            for (const each of processes) await each.sync();
            for (const each of control.starts.items.filter((one) => one.name === "other"))
                each.notify("notifications/message", { level: "error", data: "end" });
            if (share === "principal") await listening.messages.waitFor((message) => message.params?.data === "end");
            const heard = listening.messages.items.map((message) => message.params?.data);
            assert.ok(!heard.includes("after"), JSON.stringify(heard));
            listening.close();
        });
    }
});

test("who may know of one tool hears of that server's lists of tools, and no more", async (t) => {
    const control = await startControl();
    t.after(() => control.close());
    const tokens = new Tokens({ one: ["g"] });
    const cmd = control.command({ name: "it", tools: [tool("mine"), tool("hidden")] });
    const it = { cmd, share: "all", allow: [], tools: { mine: { allow: ["g"] } } };
    const gateway = await startGateway({ config: { server: { auth: { tokens: tokens.table } }, servers: { it } } }, t);
    const mine = tokens.as(gateway, "one");
    await served(mine, "it__mine");
    const session = await openSession(mine);
    const listening = await session.stream();
    const process = await control.started("it");
    process.notify("notifications/prompts/list_changed");
    process.notify("notifications/resources/list_changed");
    process.notify("notifications/tools/list_changed");
    await listening.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
    const heard = listening.messages.items.map((message) => message.method);
    assert.deepEqual(heard, ["notifications/tools/list_changed"]);
    listening.close();
});

describe("what is not there", () => {
    test("is not told from what may not be known, without credentials either", async (t) => {
        const fixture = await startHttp({}, t);
        const tokens = new Tokens({ one: ["g"] });
        const gateway = await startGateway(
            {
                config: {
                    server: { oauth, auth: { tokens: tokens.table } },
                    servers: { hidden: { url: fixture.url, allow: [] }, public: { url: fixture.url } },
                },
            },
            t,
        );
        await served(tokens.as(gateway, "one"), "public__echo");
        for (const token of [tokens.value.one!, false as const, "wrong"]) {
            for (const [method, path] of [
                ["GET", "/.well-known/oauth-protected-resource/mcp/NAME"],
                ["GET", "/mcp/NAME"],
                ["POST", "/mcp/NAME"],
            ] as const) {
                const trace = async (name: string) => {
                    const body = method === "POST" ? { jsonrpc: "2.0", id: 1, method: "tools/list", params: {} } : undefined;
                    const answer = await send(gateway, { method, path: path.replace("NAME", name), token, body });
                    const { date: _date, ...headers } = answer.headers;
                    return JSON.stringify([answer.status, headers, answer.text]).replaceAll(name, "NAME");
                };
                assert.equal(await trace("hidden"), await trace("nobody"), `${method} ${path} ${token}`);
            }
        }
    });
});

describe("arguments", () => {
    test("names and values that other parsers cut or round", async (t) => {
        const on = (exchange: Exchange) => {
            const { method, params } = exchange.message;
            if (method === "tools/call") exchange.json(exchange.answer(JSON.stringify(params!.arguments ?? null)));
            return method === "tools/call";
        };
        const fixture = await startHttp({ ...legacyOnly(), tools: [tool("t")], on }, t);
        const rules = { cmd: { deny: ["rm"] }, n: { max: 100 }, id: { allow: [5, 9007199254740991], optional: true } };
        const gateway = await startGateway(
            { config: { servers: { http: { url: fixture.url, tools: { t: { arguments: rules } } } } } },
            t,
        );
        await served(gateway, "http__t");
        const session = await openSession(gateway);
        const from = fixture.requests.items.length;
        const passed: string[] = [];
        for (const args of [
            '{"cmd\\u0000":"rm"}',
            '{"cmd\\u0000x":"rm"}',
            '{"CMD\\u0000":"rm"}',
            '{"n":1e400}',
            '{"n":"1e400"}',
            '{"n":"Infinity"}',
            '{"n":"\\u0661\\u0660\\u0661"}',
            '{"id":9007199254740993}',
            '{"id":-5}',
            '{"n":["1",["101"]]}',
            '{"cmd":["rm"]}',
            '{"cmd":[["ls"],{"a":1}]}',
            '{"cmd":"rm\\u0000"}',
        ]) {
            const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"http__t","arguments":${args}}}`;
            const last = (await session.send({ body })).messages.at(-1);
            if (last?.error === undefined && last?.result?.isError !== true) passed.push(args);
        }
        for (const params of [
            '{"name":"http__t","arguments":"{\\"cmd\\":\\"rm\\"}"}',
            '{"name":"http__t","arguments":[{"cmd":"rm"}]}',
            '{"name":"http__t","arguments":[["cmd","rm"]]}',
            '{"name":"http__t","arguments":{"cmd":"ls"},"arguments\\u0000":{"cmd":"rm"}}',
            '{"name":"http__t","arguments\\u0000":{"cmd":"rm"},"arguments":{"cmd":"ls"}}',
            '{"name\\u0000":"other","name":"http__t","arguments":{"cmd":"ls"}}',
            '{"name":"http__t","Arguments":{"cmd":"rm"}}',
            '{"name":"http__t","argument\u017f":{"cmd":"rm"}}',
        ]) {
            const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${params}}`;
            const last = (await session.send({ body })).messages.at(-1);
            if (last?.error === undefined && last?.result?.isError !== true) passed.push(params);
        }
        assert.deepEqual(passed, []);
        assert.equal(fixture.received("tools/call", from).length, 0);
    });
});

describe("definitions that were seen first", () => {
    test("a server that names its tools anew cannot fill the disk", { timeout: 120_000 }, async (t) => {
        const hint = { annotations: { readOnlyHint: true } };
        const named = (prefix: string) => Array.from({ length: 1000 }, (_, i) => tool(`${prefix}-${i}`, hint));
        const control = await startControl();
        t.after(() => control.close());
        const cmd = control.command({ name: "it", tools: named("first") });
        const security = { trust_annotations: true };
        const gateway = await startGateway({ config: { security, servers: { it: { cmd, share: "all" } } }, keep: 1000 }, t);
        const client = new ModernClient(gateway, "/mcp/it");
        const process = await control.started("it");
        await served(gateway, "it__first-0");
        for (let round = 0; round < 12; round++) {
            await process.set({ tools: named(`r${round}`) });
            process.notify("notifications/tools/list_changed");
            await until(async () => (await status(gateway)).get("it")?.tools.includes(`it__r${round}-0`), "the new names");
            await client.request("tools/list");
        }
        const lines = readFileSync(join(gateway.dataDir, "definitions"), "utf8").split("\n").length - 1;
        assert.equal(lines, 10_000);
        // What was seen in time is what it was, and what came too late is a write.
        assert.match(await refusal(client.call("r11-5", {})), /edit mode/);
    });
});

describe("the control socket", () => {
    test("edit mode is not switched past the store", async (t) => {
        const fixture = await startHttp({}, t);
        const gateway = await startGateway({ config: { security: {}, servers: { http: { url: fixture.url } } } }, t);
        for (const wrong of [{ command: "edit", set: "on" }, { command: "edit", set: "on", for_ms: 60_000, reason: "x" }, { command: "refresh ", set: "on" }]) {
            const answer = await command(gateway, wrong);
            assert.equal(answer.ok, false, `${JSON.stringify(wrong)}: ${JSON.stringify(answer)}`);
        }
        // What comes along with a command that there is means nothing.
        const answer = await command(gateway, { command: "refresh", set: "on", edit_mode: true, for_ms: 60_000 });
        assert.equal(answer.ok, true, JSON.stringify(answer));
        assert.equal((answer.edit as { edit_mode: boolean }).edit_mode, false);
    });
});

describe("auth.audience", () => {
    test("a secret of the environment is in no message", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const config = { server: { oauth }, servers: { http: { url: "https://up.example/{{ env.UP_SECRET }}/mcp", auth: { type: "forward" } } } };
        const args = prepared(folder, config as never);
        const run = await cardea(["check", ...args], { env: { ...process.env, UP_SECRET: "very-secret-path" } });
        assert.ok(!(run.stdout + run.stderr).includes("very-secret-path"), run.stdout + run.stderr);
    });
});

/** Answers as Redis does until a connection is made; then each check gets what `answer` says; undefined: nothing. */
async function fakeRedis(t: TestContext, answer: (n: number) => string | Buffer | undefined): Promise<{ url: string; checks: () => number }> {
    let n = 0;
    const sockets = new Set<net.Socket>();
    const server = net.createServer((socket) => {
        let isGreeted = false;
        let held = "";
        sockets.add(socket);
        socket.on("error", () => {});
        socket.setEncoding("latin1").on("data", (chunk: string) => {
            held += chunk;
            for (;;) {
                const count = /^\*(\d+)\r\n/.exec(held);
                if (count === null) return;
                let at = count[0].length;
                const parts: string[] = [];
                for (let i = 0; i < Number(count[1]); i++) {
                    const length = /^\$(\d+)\r\n/.exec(held.slice(at));
                    if (length === null || held.length < at + length[0].length + Number(length[1]) + 2) return;
                    parts.push(held.slice(at + length[0].length, at + length[0].length + Number(length[1])));
                    at += length[0].length + Number(length[1]) + 2;
                }
                held = held.slice(at);
                if (parts[0] === "INFO") socket.write("$17\r\ncluster_enabled:0\r\n");
                else if (parts[0] === "SCRIPT") socket.write(`$40\r\n${"a".repeat(40)}\r\n`);
                else if (!isGreeted) {
                    isGreeted = true;
                    socket.write("*2\r\n:0\r\n:0\r\n");
                } else {
                    const said = answer(n++);
                    if (said !== undefined) socket.write(said);
                }
            }
        });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
        for (const socket of sockets) socket.destroy();
        server.close();
    });
    return { url: `redis://127.0.0.1:${(server.address() as net.AddressInfo).port}`, checks: () => n };
}

const LIES = [
    "*2\r\n:1\r\n:9223372036854775807\r\n",
    "*2\r\n:1\r\n:-5\r\n",
    "*2\r\n:99\r\n:1\r\n",
    "*2\r\n:-1\r\n:1\r\n",
    "*2\r\n:9223372036854775807\r\n:1\r\n",
    "*2\r\n:18446744073709551617\r\n:0\r\n",
    "*3\r\n:0\r\n:0\r\n:0\r\n",
    "*1\r\n:0\r\n",
    "*0\r\n",
    "*-1\r\n",
    "$-1\r\n",
    "+OK\r\n",
    ":0\r\n",
    "*2\r\n$1\r\n0\r\n$1\r\n0\r\n",
    "*2\r\n*2\r\n:0\r\n:0\r\n:0\r\n",
    "*1\r\n".repeat(5000),
    "*2147483647\r\n",
    "$2147483647\r\n",
    "$-2147483648\r\n",
    "-NOSCRIPT none\r\n".repeat(1),
    "-MOVED 1 127.0.0.1:1\r\n",
    "-BUSY \x1b[31mred\r\n",
    `-ERR ${"x".repeat(70_000)}\r\n`,
    "*2\r\n:0\r\n:0\r\n*2\r\n:0\r\n:0\r\n",
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    "%2\r\n+a\r\n:0\r\n+b\r\n:0\r\n",
    "*2\r\n:0\r\n:00000000000000000000000000000000000000000000000000000000\r\n",
    ":\r\n",
    "\0\0\0\0",
];

describe("a Redis that lies", () => {
    for (const on_failure of ["local", "deny"]) {
        test(`does no more harm than one that is gone: on_failure = ${on_failure}`, { timeout: 120_000 }, async (t) => {
            const fixture = await startHttp({ ...legacyOnly(), tools: [tool("echo")] }, t);
            for (const [i, lie] of LIES.entries()) {
                const redis = await fakeRedis(t, () => lie);
                const rate_limits = { global: { limit: 1000, interval: "1h" }, storage: { type: "redis", url: redis.url, on_failure, response_timeout: "300ms" } };
                const gateway = await startGateway(
                    { config: { server: { rate_limits, workers: 1 }, servers: { http: { url: fixture.url } } } },
                );
                try {
                    const client = new ModernClient(gateway);
                    for (let k = 0; k < 4; k++) {
                        const answer = await client.ask("tools/list");
                        assert.ok([200, 429, 503].includes(answer.status), `${i} ${JSON.stringify(lie).slice(0, 60)}: ${answer.status} ${answer.text.slice(0, 200)}`);
                        if (answer.status === 429) assert.match(answer.headers["retry-after"]!, /^[1-9][0-9]{0,18}$/);
                        if (answer.status === 503) assert.equal(on_failure, "deny", JSON.stringify(lie).slice(0, 60));
                    }
                } finally {
                    await gateway.stop();
                }
            }
        });
    }
});

describe("checks that wait", () => {
    const SECONDS = Number(process.env.CARDEA_ATTACK_SECONDS ?? 4);

    test("survive hanging up, cancelling, reloads, edit mode and a Redis that comes and goes", { timeout: 120_000 + 2000 * SECONDS }, async (t) => {
        const redis = await Redis.start(t);
        const fixture = await startHttp({ tools: [tool("echo"), tool("w")] }, t);
        const config = (n: number) => ({
            server: {
                rate_limits: {
                    global: { limit: 100_000 + n, interval: "1m" },
                    per_ip: { limit: 100_000, interval: "1m" },
                    storage: { type: n % 5 === 4 ? "memory" : "redis", url: redis.url, key_prefix: `p${n % 2}`, response_timeout: n % 3 === 0 ? "50ms" : "2s" },
                },
            },
            security: {},
            servers: { http: { url: fixture.url, tools: { echo: { access: "read" }, w: n % 7 === 6 ? { allow: [] } : {} }, rate_limits: { limit: 50_000 + n, interval: "1m", per_user: { limit: 40_000, interval: "1m" } } } },
        });
        const gateway = await startGateway({ config: config(0), args: ["--log", "info"], keep: 2000 }, t);
        await served(gateway, "http__echo");
        const until_ms = Date.now() + SECONDS * 1000;
        const isOver = () => Date.now() >= until_ms;
        let n_asked = 0;
        const caller = async (i: number): Promise<void> => {
            const client = new ModernClient(gateway);
            for (let k = 0; !isOver(); k++) {
                n_asked++;
                const abort = new AbortController();
                const timer = setTimeout(() => abort.abort(), (i * 7 + k * 13) % 40);
                await client.ask("tools/call", { name: k % 3 === 0 ? "http__w" : "http__echo", arguments: {} }, { signal: abort.signal }).catch(() => {});
                clearTimeout(timer);
            }
        };
        const legacy = async (): Promise<void> => {
            while (!isOver()) {
                const session = await openSession(gateway).catch(() => undefined);
                for (let k = 0; session !== undefined && k < 5 && !isOver(); k++) {
                    const asked = session.call("http__echo", {}, k + 1).catch(() => {});
                    if (k % 2 === 0) await session.notify("notifications/cancelled", { requestId: k + 1 }).catch(() => {});
                    if (k === 4) await session.end().catch(() => {});
                    await asked;
                }
            }
        };
        const disturb = async (): Promise<void> => {
            for (let n = 1; !isOver(); n++) {
                const before = n_asked;
                redis.pause();
                await until(() => isOver() || n_asked > before + 30, "there are calls that wait");
                await edit(gateway, ...(n % 2 === 0 ? ["on", "--reason", "x"] : ["off"]));
                await reload(gateway, config(n));
                redis.goOn();
                if (n % 6 === 0) {
                    await redis.kill();
                    await redis.run();
                }
            }
        };
        await Promise.all([
            ...Array.from({ length: 24 }, (_, i) => caller(i)),
            ...Array.from({ length: 6 }, legacy),
            disturb(),
        ]);
        redis.goOn();
        // Nothing is left that waits, and it still answers.
        await reload(gateway, config(5));
        await served(gateway, "http__echo");
        await until(async () => (await status(gateway)).get("http")?.in_flight === 0, "no call is left");
        // And it ends while checks wait.
        redis.pause();
        const client = new ModernClient(gateway);
        const rest = Array.from({ length: 20 }, () => client.ask("tools/list").catch(() => undefined));
        await command(gateway, { command: "status" });
        const stopped = gateway.stop();
        redis.goOn();
        await Promise.all([...rest, stopped]);
    });
});
