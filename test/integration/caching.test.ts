/*
 * How long clients of 2026-07-28 may keep an answer, and for whom (MCP 2026-07-28, server/utilities/caching): what
 * servers say is honoured, merged and said anew; what is private stays with its principal.
 */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";

import { CAPABILITIES_KEY, CLIENT_KEY, MODERN, VERSION_KEY } from "./fixtures/brain.ts";
import { legacyOnly, modernOnly, startHttp, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { startControl, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Config, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import { openSession, send, served, text } from "./lib/http.ts";
import { ModernClient, type ModernOptions } from "./lib/modern.ts";
import { as, jwt, oauth, Tokens } from "./lib/principals.ts";
import { reload } from "./lib/reload.ts";
import { until } from "./lib/wait.ts";

const BOUND = 300_000; // of what the gateway calls fresh itself
const DAY = 86_400_000;

const LISTS = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] as const;
const KEPT = ["server/discover", ...LISTS] as const;
const PUBLIC = { ttlMs: 60_000, cacheScope: "public" };

interface Hints {
    [method: string]: object;
}

/** A server of 2026-07-28 that says of each answer what the test wants it to. */
class Server {
    fixture!: HttpFixture;
    /** by method; `default` for all others */
    hints: Hints = { default: PUBLIC };
    /** the pages of tools/list */
    tools: string[][] = [["echo"]];
    /** what resources/read says beside the hints */
    read: object = { resultType: "complete", contents: [{ uri: "test://one", text: "one" }] };
    /** a further bearer of hints: by page */
    pageHints: object[] = [];
    capabilities: object = { tools: {}, prompts: {}, resources: {} };
    fails = false;
    #holds: (() => void)[] | undefined;

    /** How often it was asked. */
    asked(method: string): number {
        return this.fixture.requests.items.filter(({ message }) => message?.method === method).length;
    }

    hold(): void {
        this.#holds = [];
    }

    release(): void {
        const held = this.#holds ?? [];
        this.#holds = undefined;
        for (const go of held) go();
    }

    get held(): number {
        return this.#holds?.length ?? 0;
    }

    result(method: string, params: { cursor?: string }): object | undefined {
        const hint = this.hints[method] ?? this.hints.default;
        const complete = { resultType: "complete", ...hint };
        switch (method) {
            case "server/discover":
                return { ...complete, supportedVersions: [MODERN], capabilities: this.capabilities };
            case "tools/list": {
                const page = Number(params.cursor ?? 0);
                const tools = this.tools[page]!.map((name) => ({ name, inputSchema: { type: "object" } }));
                const next = page + 1 < this.tools.length ? { nextCursor: String(page + 1) } : {};
                return { ...complete, ...this.pageHints[page], tools, ...next };
            }
            case "prompts/list":
                return { ...complete, prompts: [{ name: "ask" }] };
            case "resources/list":
                return { ...complete, resources: [{ uri: "test://one", name: "one" }] };
            case "resources/templates/list":
                return { ...complete, resourceTemplates: [{ uriTemplate: "test://x/{id}", name: "x" }] };
            case "resources/read":
                return { ...hint, ...this.read };
        }
        return undefined;
    }

    async start(t: TestContext, options: HttpOptions = {}): Promise<this> {
        this.fixture = await startHttp(
            {
                ...modernOnly,
                on: (exchange) => {
                    const { method, params } = exchange.message;
                    const result = this.result(method ?? "", (params ?? {}) as { cursor?: string });
                    if (result === undefined) return false;
                    const reply = () =>
                        this.fails && method === "tools/list"
                            ? exchange.error(-32603, "no list today")
                            : exchange.result(this.result(method!, (params ?? {}) as { cursor?: string })!);
                    if (this.#holds !== undefined && method === "tools/list") this.#holds.push(reply);
                    else reply();
                    return true;
                },
                ...options,
            },
            t,
        );
        return this;
    }

    get config(): ServerConfig {
        return { url: this.fixture.url, share: "all" };
    }
}

const server = (t: TestContext, hints?: Hints): Promise<Server> => {
    const made = new Server();
    if (hints !== undefined) made.hints = hints;
    return made.start(t);
};

/** Everybody may call, without a credential too. */
const open = (
    servers: { [name: string]: ServerConfig },
    more: Partial<Config> = {},
): Config => ({ servers, ...more, server: { auth: { anonymous: true }, ...more.server } });

async function begin(t: TestContext, config: Config, ...tools: string[]): Promise<{ gateway: Gateway; anyone: ModernClient }> {
    const gateway = await startGateway({ config }, t);
    await served(gateway, ...tools);
    return { gateway, anyone: new ModernClient(gateway, "/mcp", { token: false }) };
}

interface Hint {
    ttlMs: number;
    cacheScope: string;
}

const hintOf = (message: RpcMessage): Hint => {
    const { ttlMs, cacheScope } = message.result as unknown as Hint;
    assert.ok(Number.isSafeInteger(ttlMs) && ttlMs >= 0, `ttlMs ${ttlMs}`);
    assert.ok(cacheScope === "public" || cacheScope === "private", `cacheScope ${cacheScope}`);
    return { ttlMs, cacheScope };
};
const hint = async (client: ModernClient, method: string, params?: { [key: string]: unknown }): Promise<Hint> =>
    hintOf(await client.request(method, params));
const names = (message: RpcMessage) => (message.result!.tools as { name: string }[]).map(({ name }) => name);

/** What a server says of itself has a time of its own, which began before its lists were read. */
function within(value: Hint, most: number, scope: string, what: string): void {
    assert.equal(value.cacheScope, scope, what);
    assert.ok(value.ttlMs > 0 && value.ttlMs <= most, `${what}: ${value.ttlMs} of ${most}`);
}

describe("produced", { concurrency: 2 }, () => {
    test("a list is fresh as long as its server says, less the time since it was read; public stays public", async (t) => {
        const up = await server(t);
        const { anyone } = await begin(t, open({ up: up.config }), "up__echo");
        for (const method of KEPT) within(await hint(anyone, method), 60_000, "public", method);
        const first = await hint(anyone, "prompts/list");
        await until(
            async () => (await hint(anyone, "prompts/list")).ttlMs < first.ttlMs,
            "what is left of it gets less",
        );
        assert.equal(up.asked("prompts/list"), 1, "the server was asked once");
        const own = new ModernClient(anyone.target, "/mcp/up", { token: false });
        for (const method of KEPT) within(await hint(own, method), 60_000, "public", `/mcp/up ${method}`);
    });

    test("never longer than five minutes", async (t) => {
        const up = await server(t, { default: { ttlMs: 365 * DAY, cacheScope: "public" } });
        const { anyone } = await begin(t, open({ up: up.config }), "up__echo");
        for (const method of KEPT) assert.deepEqual(await hint(anyone, method), { ttlMs: BOUND, cacheScope: "public" });
    });

    test("what is merged: the shortest, private wins, each list by itself", async (t) => {
        const one = await server(t, { default: PUBLIC, "resources/list": { ttlMs: 100_000, cacheScope: "private" } });
        const two = await server(t, { default: { ttlMs: 40_000, cacheScope: "public" }, "prompts/list": { cacheScope: "public" } });
        const { anyone } = await begin(t, open({ one: one.config, two: two.config }), "one__echo", "two__echo");
        within(await hint(anyone, "tools/list"), 40_000, "public", "tools");
        within(await hint(anyone, "resources/list"), 40_000, "private", "resources");
        within(await hint(anyone, "resources/templates/list"), 40_000, "public", "templates");
        within(await hint(anyone, "server/discover"), 40_000, "public", "discover");
        assert.deepEqual(await hint(anyone, "prompts/list"), { ttlMs: 0, cacheScope: "public" });
    });

    test("a server that does not have the list at all says so once, by what it says of itself", async (t) => {
        const one = await server(t);
        const two = new Server();
        two.capabilities = { tools: {} };
        two.hints = { default: PUBLIC, "server/discover": { ttlMs: 5, cacheScope: "private" } };
        await two.start(t);
        const { anyone } = await begin(t, open({ one: one.config, two: two.config }), "one__echo", "two__echo");
        within(await hint(anyone, "prompts/list"), 60_000, "private", "prompts");
        within(await hint(anyone, "tools/list"), 60_000, "public", "tools");
        await until(async () => (await hint(anyone, "server/discover")).ttlMs === 0, "the time of discover is over");
    });

    test("what servers say otherwise than they should counts as 0 and private", async (t) => {
        const rows: [object, ttl: number, scope: string][] = [
            [{}, 0, "private"],
            [{ ttlMs: 60_000 }, 60_000, "private"],
            [{ cacheScope: "public" }, 0, "public"],
            [{ ttlMs: -1, cacheScope: "public" }, 0, "public"],
            [{ ttlMs: 1.5, cacheScope: "public" }, 0, "public"],
            [{ ttlMs: "60000", cacheScope: "public" }, 0, "public"],
            [{ ttlMs: null, cacheScope: null }, 0, "private"],
            [{ ttlMs: true, cacheScope: ["public"] }, 0, "private"],
            [{ ttlMs: 1e300, cacheScope: "PUBLIC" }, 0, "private"],
            [{ ttlMs: Number.MAX_SAFE_INTEGER, cacheScope: "public " }, BOUND, "private"],
        ];
        const up = await server(t, { default: { cacheScope: "public" } });
        const { anyone } = await begin(t, open({ up: up.config }), "up__echo");
        for (const [said, ttlMs, scope] of rows) {
            // Ages from one row to the next: a list that was fresh is not asked for.
            const fresh = await server(t, { default: said });
            const one = await begin(t, open({ fresh: fresh.config }), "fresh__echo");
            const listed = await hint(one.anyone, "prompts/list");
            assert.equal(listed.cacheScope, scope, JSON.stringify(said));
            assert.ok(ttlMs === 0 ? listed.ttlMs === 0 : listed.ttlMs > 0 && listed.ttlMs <= ttlMs, JSON.stringify(said));
            await one.gateway.stop();

            up.hints = { default: { cacheScope: "public" }, "resources/read": said };
            const read = await hint(anyone, "resources/read", { uri: "test://one" });
            const most = ttlMs === BOUND ? DAY : ttlMs;
            assert.deepEqual(read, { ttlMs: most, cacheScope: scope }, JSON.stringify(said));
        }
    });

    test("nothing is fresh while a server is not up, or is of the era before", async (t) => {
        const up = await server(t);
        const old = await startHttp(legacyOnly(), t);
        const { gateway, anyone } = await begin(t, open({ up: up.config }), "up__echo");
        const none = { ttlMs: 0, cacheScope: "private" };
        for (const servers of [
            { up: up.config, old: { url: old.url, share: "all" } },
            { up: up.config, gone: { cmd: ["/nonexistent/server"], share: "all" } },
        ]) {
            await reload(gateway, open(servers));
            for (const method of KEPT) {
                await until(
                    async () => JSON.stringify(await hint(anyone, method)) === JSON.stringify(none),
                    `${method} of ${Object.keys(servers)}`,
                );
            }
        }
        await reload(gateway, open({}));
        for (const method of KEPT) assert.deepEqual(await hint(anyone, method), none, `${method} without servers`);
    });

    test("legacy clients get none of it", async (t) => {
        const up = await server(t);
        const { gateway } = await begin(t, open({ up: up.config }), "up__echo");
        const session = await openSession(gateway);
        for (const [method, params] of [...LISTS.map((list) => [list, {}]), ["resources/read", { uri: "test://one" }]] as const) {
            const { result } = await session.request(method as string, params);
            for (const key of ["ttlMs", "cacheScope", "resultType"]) assert.ok(!(key in result!), `${method}: ${key}`);
        }
    });
});

describe("4.8.4: a public answer of a server is private where it depends on who asks", { concurrency: 2 }, () => {
    const forward: Value = [{ rule: "forward", name: "X-Tenant" }];
    const rows: [
        title: string,
        change: (config: Config) => void,
        expected: { [method: string]: "public" | "private" | "none" },
        client?: ModernOptions,
    ][] = [
        ["nothing of the kind", () => {}, { default: "public" }],
        ["a credential", () => {}, { default: "private" }, { token: undefined }],
        ['share = "principal"', ({ servers }) => (servers.up!.share = "principal"), { default: "private" }],
        ['share = "session"', ({ servers }) => (servers.up!.share = "session"), { default: "private" }],
        ["a header of the caller is passed on", ({ servers }) => (servers.up!.headers = forward), { default: "private" }],
        ["... to any server", (config) => (config.mcp = { headers: forward }), { default: "private" }],
        [
            "a tool that some may call",
            ({ servers }) => (servers.up!.tools = { secret: { allow: ["staff"] } }),
            { default: "public", "tools/list": "none" },
        ],
        [
            "edit mode is closed, may be opened, and tools may write",
            (config) => (config.security = { edit_mode: false }),
            { default: "public", "tools/list": "none" },
        ],
        [
            "... but these only read",
            (config) => {
                config.security = { edit_mode: false };
                config.servers.up!.access = "read";
            },
            { default: "public" },
        ],
        [
            "another server that some may use",
            ({ servers }) => (servers.staff = { ...servers.other!, allow: ["staff"] }),
            { default: "private", "resources/read": "public" },
        ],
    ];
    for (const [title, change, expected, client = {}] of rows) {
        test(title, async (t) => {
            const up = await server(t), other = await server(t);
            up.tools = [["echo", "secret"]];
            const config = open({ up: up.config, other: other.config });
            change(config);
            if (!("staff" in config.servers)) delete config.servers.other;
            const { gateway } = await begin(t, config);
            const asking = new ModernClient(gateway, "/mcp", { token: false, ...client });
            await until(async () => {
                const { result } = await asking.request("prompts/list");
                return (result!.prompts as { name: string }[]).some(({ name }) => name === "up__ask");
            }, "it is there");
            for (const method of [...KEPT, "resources/read"]) {
                const value = await hint(asking, method, method === "resources/read" ? { uri: "test://one" } : {});
                const scope = expected[method] ?? expected.default;
                if (scope === "none") assert.deepEqual(value, { ttlMs: 0, cacheScope: "private" }, method);
                else within(value, 60_000, scope!, method);
            }
        });
    }

    test("what some may use is not public for those who may", async (t) => {
        const up = await server(t);
        const tokens = new Tokens({ alice: ["staff"], guest: undefined });
        const servers = { up: { ...up.config, allow: ["staff"] } };
        const gateway = await startGateway({ config: { server: { auth: { tokens: tokens.table } }, servers } }, t);
        const staff = new ModernClient(tokens.as(gateway, "alice"));
        await until(async () => names(await staff.request("tools/list")).includes("up__echo"), "it is there");
        for (const method of KEPT) within(await hint(staff, method), 60_000, "private", method);
        within(await hint(staff, "resources/read", { uri: "test://one" }), 60_000, "private", "read");
        const guest = new ModernClient(tokens.as(gateway, "guest"));
        assert.deepEqual(names(await guest.request("tools/list")), []);
        assert.equal((await hint(guest, "tools/list")).cacheScope, "private");
    });
});

describe("pages of one list", () => {
    const many = (n: number, what: string) => Array.from({ length: n }, (_, i) => `${what}${i}`);

    test("of a server: private if one is, fresh as long as the first that is not", async (t) => {
        const up = await server(t);
        up.tools = [["echo"], ["b"], ["c"]];
        up.pageHints = [{}, { ttlMs: 20_000, cacheScope: "private" }, {}];
        const { anyone } = await begin(t, open({ up: up.config }), "up__c");
        within(await hint(anyone, "tools/list"), 20_000, "private", "tools");
        within(await hint(anyone, "prompts/list"), 60_000, "public", "prompts");
    });

    test("of the gateway: all have the scope of the first", async (t) => {
        const one = await server(t), two = await server(t);
        one.tools = [["echo", ...many(700, "a")]];
        two.tools = [["echo", ...many(700, "b")]];
        const { anyone } = await begin(t, open({ one: one.config, two: two.config }), "one__echo", "two__echo");
        const first = await anyone.request("tools/list");
        const cursor = first.result!.nextCursor as string;
        assert.equal(typeof cursor, "string");
        within(hintOf(first), 60_000, "public", "first");
        const second = await anyone.request("tools/list", { cursor });
        within(hintOf(second), 60_000, "public", "second");
        assert.equal(names(first).length + names(second).length, 1402);
    });

    for (const [from, to] of [["public", "private"], ["private", "public"]] as const) {
        test(`of a list that turns from ${from} to ${to} meanwhile`, async (t) => {
            const one = await server(t, { default: { ttlMs: 0, cacheScope: from } });
            const two = await server(t, { default: { ttlMs: 0, cacheScope: "public" } });
            one.tools = [["echo", ...many(700, "a")]];
            two.tools = [["echo", ...many(700, "b")]];
            const { anyone } = await begin(t, open({ one: one.config, two: two.config }), "one__echo", "two__echo");
            const first = await anyone.request("tools/list");
            const cursor = first.result!.nextCursor as string;
            assert.equal(hintOf(first).cacheScope, from);
            one.hints = { default: { ttlMs: 0, cacheScope: to } };
            assert.equal((await hint(anyone, "tools/list")).cacheScope, to, "it is asked for anew");
            const second = await anyone.request("tools/list", { cursor });
            if (to === "private") {
                // Nothing that is private is called public, nor are the pages of one list different.
                assert.equal(second.error?.code, -32602, JSON.stringify(second).slice(0, 300));
                assert.match(second.error!.message, /begin again/);
            } else assert.equal(hintOf(second).cacheScope, "private");
        });
    }
});

describe("resources/read", { concurrency: 2 }, () => {
    const uri = "test://one";

    test("what the server says passes, each read is the server's, and nothing is kept of it", async (t) => {
        const up = await server(t, { default: PUBLIC, "resources/read": { ttlMs: 3_600_000, cacheScope: "public" } });
        const { anyone } = await begin(t, open({ up: up.config }), "up__echo");
        for (let n = 1; n <= 3; n++) {
            up.read = { resultType: "complete", contents: [{ uri, text: `read ${n}` }] };
            const { result } = await anyone.request("resources/read", { uri });
            assert.equal((result!.contents as { text: string }[])[0]!.text, `read ${n}`);
            assert.deepEqual([result!.ttlMs, result!.cacheScope], [3_600_000, "public"]);
            assert.equal(up.asked("resources/read"), n);
        }
    });

    test("of a legacy server: 0 and private, whatever it writes there", async (t) => {
        const old = await startHttp(
            {
                ...legacyOnly(),
                on: (exchange) => {
                    if (exchange.message.method !== "resources/read") return false;
                    exchange.result({ contents: [{ uri, text: "x" }], ttlMs: 60_000, cacheScope: "public" });
                    return true;
                },
            },
            t,
        );
        const { anyone } = await begin(t, open({ old: { url: old.url, share: "all" } }), "old__echo");
        assert.deepEqual(await hint(anyone, "resources/read", { uri }), { ttlMs: 0, cacheScope: "private" });
    });

    test("a key that other parsers take for one of these is refused", async (t) => {
        const up = await server(t, { default: PUBLIC, "resources/read": { cacheScope: "private" } });
        up.read = { resultType: "complete", contents: [], CacheScope: "public" };
        const { anyone } = await begin(t, open({ up: up.config }), "up__echo");
        const { error } = await anyone.request("resources/read", { uri });
        assert.match(error!.message, /another spelling of a protocol key/);
    });

    test("4.8.4: what asks for input is not for keeping, and neither is what comes of the answer", async (t) => {
        const up = await server(t);
        const asked = {
            resultType: "input_required",
            inputRequests: { who: { method: "elicitation/create", params: { mode: "form", message: "who?", requestedSchema: { type: "object", properties: {} } } } },
            requestState: "mine",
        };
        up.read = asked;
        const { gateway } = await begin(t, open({ up: { url: up.fixture.url } }), "up__echo");
        for (const token of [false, undefined] as const) {
            const client = new ModernClient(gateway, "/mcp", { token, capabilities: { elicitation: { form: {} } } });
            up.read = asked;
            const { result } = await client.request("resources/read", { uri });
            assert.equal(result!.resultType, "input_required");
            assert.ok(!("ttlMs" in result!) && !("cacheScope" in result!), JSON.stringify(result));
            up.read = { resultType: "complete", contents: [{ uri, text: "for you" }] };
            const retry = {
                uri,
                inputResponses: { who: { action: "accept", content: {} } },
                requestState: result!.requestState,
            };
            assert.deepEqual(await hint(client, "resources/read", retry), { ttlMs: 0, cacheScope: "private" });
            assert.deepEqual(await hint(client, "resources/read", { uri, inputResponses: {} }), { ttlMs: 0, cacheScope: "private" });
            const before = up.asked("resources/read");
            await client.request("resources/read", retry);
            assert.equal(up.asked("resources/read"), before + 1, "the same retry is asked again");
            within(await hint(client, "resources/read", { uri }), 60_000, "private", "one without input");
        }
    });
});

describe("honoured", { concurrency: 2 }, () => {
    test("a server is not asked again while its list is fresh; then it is, once for all who ask", async (t) => {
        const up = await server(t, { default: { ttlMs: 1500, cacheScope: "public" } });
        const { anyone, gateway } = await begin(t, open({ up: up.config }), "up__echo");
        const session = await openSession(gateway);
        // One that has just been read: all that follows happens while it is fresh, or the test says so.
        const fresh = await until(async () => {
            const answer = await anyone.request("tools/list");
            return hintOf(answer).ttlMs > 1000 && { until: performance.now() + hintOf(answer).ttlMs };
        }, "it has just been read");
        const asked = up.asked("tools/list");
        up.tools = [["echo", "new"]];
        for (const client of [anyone, session, anyone, session]) {
            const answer = await client.request("tools/list");
            if (performance.now() > fresh.until) break; // a machine that is that slow proves nothing
            assert.deepEqual(names(answer), ["up__echo"]);
            assert.equal(up.asked("tools/list"), asked);
        }
        await until(async () => names(await session.request("tools/list")).includes("up__new"), "it is asked again");
    });

    test("0 ms, and many ask at once: they share one reading", async (t) => {
        const up = await server(t, { default: { ttlMs: 0, cacheScope: "public" } });
        const config = open({ up: up.config }, { server: { auth: { anonymous: true }, workers: 1 } });
        const { anyone, gateway } = await begin(t, config, "up__echo");
        up.hold();
        const before = up.asked("tools/list");
        const answers = Array.from({ length: 30 }, () => anyone.request("tools/list"));
        await until(() => up.held === 1, "the first has made the gateway ask");
        // By the only worker, after those that came before: all of them wait now.
        const known = new ModernClient(gateway);
        for (let n = 0; n < 3; n++) assert.equal(text(await known.call("up__echo", { text: `${n}` })), `${n}`);
        assert.equal(up.held, 1);
        up.tools = [["echo", "new"]];
        up.release();
        for (const answer of await Promise.all(answers)) assert.deepEqual(names(answer), ["up__echo", "up__new"]);
        assert.ok(up.asked("tools/list") - before <= 3, `${up.asked("tools/list") - before} readings for 30 clients`);
    });

    test("0 ms: calls of tools that are known do not make it read its lists", async (t) => {
        const up = await server(t, { default: { ttlMs: 0, cacheScope: "public" } });
        const { anyone } = await begin(t, open({ up: up.config }), "up__echo");
        const asked = up.asked("tools/list");
        await Promise.all(
            Array.from({ length: 20 }, async (_, n) => {
                assert.equal(text(await anyone.call("up__echo", { text: `${n}` })), `${n}`);
            }),
        );
        assert.equal(up.asked("tools/list"), asked);
    });

    test("a list that could not be read again is not fresh: it is asked for at the next opportunity", async (t) => {
        const up = await server(t, { default: PUBLIC, "tools/list": { ttlMs: 0, cacheScope: "public" } });
        const { anyone } = await begin(t, open({ up: up.config }), "up__echo");
        up.hints = { default: { ttlMs: 3_600_000, cacheScope: "public" } };
        up.fails = true;
        up.tools = [["new"]];
        const stale = await anyone.request("tools/list");
        assert.deepEqual(names(stale), ["up__echo"], "what was read before is served");
        assert.equal(hintOf(stale).ttlMs, 0, "and nobody keeps it");
        up.fails = false;
        const answer = await anyone.request("tools/list");
        assert.deepEqual(names(answer), ["up__new"]);
        assert.ok(hintOf(answer).ttlMs > 0);
    });

    test("4.8.4: list_changed ends it at once, also when it is told again and again", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const cmd = control.brain({ name: "told", ...modernOnly, subscribe: true });
        const { anyone } = await begin(t, open({ up: { cmd, share: "all" } }), "up__echo");
        const child = await control.started("told");
        const tool = (name: string) => ({ name, inputSchema: { type: "object" } });
        within(await hint(anyone, "tools/list"), 60_000, "public", "before");
        await child.receives((message) => message.method === "subscriptions/listen");
        assert.equal(text(await anyone.call("up__echo", { text: "it is listened to" })), "it is listened to");
        for (let n = 0; n < 5; n++) {
            await child.set({ tools: [tool("echo"), tool(`new${n}`)] });
            child.do({ do: "change", list: "tools" });
            // What the child answers comes behind what it told: the gateway has heard it.
            assert.equal(text(await anyone.call("up__echo", { text: "barrier" })), "barrier");
            const listed = names(await anyone.request("tools/list"));
            assert.deepEqual(listed.slice(0, 2), ["up__echo", `up__new${n}`]);
        }
    });
});

describe("what is private never crosses a principal", { concurrency: 2 }, () => {
    const tool = (name: string) => ({ name, inputSchema: { type: "object" } });
    const whoever = (authorization: string | undefined): string =>
        authorization === undefined
            ? "nobody"
            : (JSON.parse(Buffer.from(authorization.split(".")[1]!, "base64url").toString()) as { sub: string }).sub;

    for (const cacheScope of ["private", "public"]) {
        test(`lists and reads that a server calls ${cacheScope}, by callers' own tokens`, async (t) => {
            const fixture = await startHttp(
                {
                    ...modernOnly,
                    on: (exchange) => {
                        const user = whoever(exchange.request.field("authorization"));
                        const hints = { resultType: "complete", ttlMs: 3_600_000, cacheScope };
                        const { method } = exchange.message;
                        if (method === "tools/list") exchange.result({ ...hints, tools: [tool("echo"), tool(`of-${user}`)] });
                        else if (method === "resources/list")
                            exchange.result({ ...hints, resources: [{ uri: `test://${user}`, name: user }] });
                        else if (method === "resources/read")
                            exchange.result({ ...hints, contents: [{ uri: "test://me", text: user }] });
                        else return false;
                        return true;
                    },
                },
                t,
            );
            const up = { url: fixture.url, auth: { type: "forward" } };
            const gateway = await startGateway({ config: { server: { oauth }, servers: { up } } }, t);
            const users = ["alice", "bob", "carol"];
            const target = (user: string) =>
                as(gateway, jwt({ sub: user, aud: [oauth.protected_resource.resource, fixture.url] }));
            for (let round = 0; round < 3; round++) {
                await Promise.all(
                    users.map(async (user) => {
                        const modern = new ModernClient(target(user));
                        const session = await openSession(target(user));
                        for (const client of [modern, session]) {
                            assert.deepEqual(names(await client.request("tools/list")), ["up__echo", `up__of-${user}`]);
                            const resources = (await client.request("resources/list")).result!.resources as { uri: string }[];
                            assert.deepEqual(resources.map(({ uri }) => uri), [`test://${user}`]);
                            const read = (await client.request("resources/read", { uri: `test://${user}` })).result!;
                            assert.equal((read.contents as { text: string }[])[0]!.text, user);
                        }
                        for (const method of KEPT) assert.equal((await hint(modern, method)).cacheScope, "private", method);
                        const read = await hint(modern, "resources/read", { uri: `test://${user}` });
                        assert.deepEqual(read, { ttlMs: 3_600_000, cacheScope: "private" });
                        for (const other of users.filter((each) => each !== user)) {
                            const { error } = await modern.call(`up__of-${other}`);
                            assert.equal(error?.code, -32602, `${user} knows nothing of what ${other} has`);
                        }
                    }),
                );
                const local = new ModernClient(gateway); // known, without a token that the server could be sent
                assert.deepEqual(names(await local.request("tools/list")), []);
            }
            const lists = fixture.requests.items.filter(({ message }) => message?.method === "tools/list");
            const owners = lists.map((request) => whoever(request.field("authorization")));
            assert.deepEqual([...new Set(owners)].sort(), users, "nobody but its owner asked");
        });
    }

    for (const type of ["forward", "exchange"]) {
        test(`share = "all" with auth.type = "${type}" is no configuration`, async (t) => {
            const auth: { [key: string]: Value } = { type };
            if (type === "exchange") Object.assign(auth, { client_id: "x", client_secret: "y" });
            const up = { url: "https://mcp.example/", share: "all", auth };
            await assert.rejects(
                startGateway({ config: { server: { oauth }, servers: { up } } }, t),
                /share must not be \\?"all\\?"/,
            );
        });
    }

    test('children: with share = "principal" each has a list of its own, however fresh', async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const config = open({ up: { cmd: control.brain({ name: "own", ...modernOnly, subscribe: true }) } });
        const gateway = await startGateway({ config }, t);
        await served(gateway, "up__echo");
        const known = new ModernClient(gateway), anyone = new ModernClient(gateway, "/mcp", { token: false });
        await until(async () => names(await anyone.request("tools/list")).includes("up__echo"), "a second child is up");
        for (const client of [known, anyone]) within(await hint(client, "tools/list"), 60_000, "private", "tools");
        const children = [await control.started("own", 1), await control.started("own", 2)];
        for (const child of children) await child.receives((message) => message.method === "subscriptions/listen");
        await children[0]!.set({ tools: [{ name: "of-one", inputSchema: { type: "object" } }] } as object);
        children[0]!.do({ do: "change", list: "tools" });
        const lists = await until(async () => {
            const both = [names(await known.request("tools/list")), names(await anyone.request("tools/list"))];
            return both.some((list) => list.includes("up__of-one")) && both;
        }, "one of them has another list now");
        assert.equal(lists.filter((list) => list.includes("up__of-one")).length, 1);
    });
});

test("a client's own hints in a request mean nothing", async (t) => {
    const up = await server(t);
    const { anyone } = await begin(t, open({ up: up.config }, {}), "up__echo");
    const _meta = { [VERSION_KEY]: MODERN, [CAPABILITIES_KEY]: {}, [CLIENT_KEY]: { name: "x", version: "1" } };
    const params = { ttlMs: 1e9, cacheScope: "public", _meta };
    const answer = await send(anyone.target, {
        headers: { "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list" },
        body: { jsonrpc: "2.0", id: 1, method: "tools/list", params },
    });
    within(hintOf(answer.messages.at(-1)!), 60_000, "private", "with the token");
});
