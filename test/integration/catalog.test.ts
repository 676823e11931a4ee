/* The merged lists: what may enter, how it is named, who owns it, and how it follows upstreams that come and go. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, describe, test, type TestContext } from "node:test";

import { connectGateway } from "./lib/clients.ts";
import { startControl, type Control, type FixtureOptions } from "./lib/control.ts";
import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, send, served, serving, text, type Session } from "./lib/http.ts";
import { until, within } from "./lib/wait.ts";

const object = { type: "object" };
const tool = (name: string, more: Record<string, unknown> = {}) => ({ name, inputSchema: object, ...more });

/** Every page of a list, by our own cursors. */
async function all<T = { name: string }>(session: Session, method: string, key: string): Promise<T[]> {
    const items: T[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < 200; page++) {
        const answer = await session.request(method, cursor === undefined ? undefined : { cursor });
        assert.equal(answer.error, undefined, JSON.stringify(answer.error));
        items.push(...(answer.result![key] as T[]));
        cursor = answer.result!.nextCursor as string | undefined;
        if (cursor === undefined) return items;
    }
    throw new Error(`${method} has no end`);
}

const tools = async (session: Session) => (await all(session, "tools/list", "tools")).map((item) => item.name);

/** The upstream's tools are listed: it has started, or come back. */
const listed = (session: Session, name: string) =>
    until(async () => (await tools(session)).includes(name), `${name} is listed at ${session.path}`);

describe("what enters a list", () => {
    let control: Control;
    let gateway: Gateway;
    const LONG = "a-long-name-".repeat(8); // 96
    const EXACT = "e".repeat(58); // "long__" and this are 64
    const bad: unknown[] = [
        null,
        7,
        "text",
        [],
        {},
        { description: "no name", inputSchema: object },
        { name: "", inputSchema: object },
        { name: 5, inputSchema: object },
        { name: null, inputSchema: object },
        tool("with space"),
        tool("control\u0007"),
        tool("new\nline"),
        tool("emoji😀"),
        tool("x".repeat(300)),
        tool("large", { description: "d".repeat(300 * 1024) }),
        // each of these makes a client that checks the whole list refuse all of it
        { name: "no-schema" },
        { name: "schema-text", inputSchema: "object" },
        { name: "schema-null", inputSchema: null },
        { name: "schema-array", inputSchema: [] },
        tool("schema-type", { inputSchema: { type: "string" } }),
        tool("output-text", { outputSchema: "object" }),
        tool("description-number", { description: 7 }),
        tool("title-object", { title: {} }),
        tool("annotations-text", { annotations: "none" }),
        tool("meta-text", { _meta: "none" }),
    ];
    const servers: Omit<FixtureOptions, "control">[] = [
        {
            name: "bad",
            tools: [
                ...bad,
                tool("good", { title: "first", unknown: { kept: [1.0] } }),
                tool("good", { title: "second" }),
                tool("last"),
            ],
            prompts: [null, 3, {}, { name: 5 }, { name: "p", arguments: "x" }, { name: "fine" }],
            resources: [
                null,
                {},
                { uri: 5, name: "x" },
                { uri: "no scheme", name: "x" },
                { name: "no uri" },
                { uri: "bad://fine", name: "fine" },
            ],
            resourceTemplates: [
                null,
                {},
                { uriTemplate: 5, name: "x" },
                { uriTemplate: "bad://{x", name: "open" },
                { uriTemplate: "bad://t/{x}", name: "fine" },
            ],
        },
        { name: "many", tools: Array.from({ length: 1500 }, (_, index) => tool(`t${String(index).padStart(4, "0")}`)) },
        {
            name: "pages",
            pages: {
                "tools/list": [
                    { items: [tool("a")], next: "second" },
                    { items: [tool("b")], next: "" },
                    { items: [tool("c")] },
                ],
                "resources/list": [
                    { items: [{ uri: "pages://1", name: "1" }], next: "x" },
                    { items: [{ uri: "pages://2", name: "2" }] },
                ],
            },
        },
        {
            name: "loop",
            pages: {
                "tools/list": [
                    { items: [tool("x")], next: "again" },
                    { items: [tool("y")], next: "again" },
                ],
            },
        },
        {
            name: "first",
            resources: [
                { uri: "same://uri", name: "of first" },
                { uri: "first://own", name: "own" },
            ],
            resourceTemplates: [{ uriTemplate: "same://t/{id}", name: "of first" }],
        },
        {
            name: "second",
            resources: [
                { uri: "same://uri", name: "of second" },
                { uri: "second://own", name: "own" },
            ],
            resourceTemplates: [
                { uriTemplate: "same://t/{id}", name: "of second" },
                { uriTemplate: "second://t/{+path}", name: "own" },
            ],
        },
        {
            name: "long",
            tools: [tool(`${LONG}one`), tool(`${LONG}two`), tool(EXACT), tool("b__c"), tool("dots.and-dashes_9")],
            prompts: [{ name: `${LONG}one` }, { name: `${LONG}two` }],
        },
    ];
    const config = () => ({
        servers: Object.fromEntries(
            servers.map((options) => [options.name, { cmd: control.command(options) } as ServerConfig]),
        ),
    });

    before(async () => {
        control = await startControl();
        gateway = await startGateway({ config: config() });
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    test("one bad tool never spoils a list", async () => {
        const session = await openSession(gateway, "/mcp/bad");
        await listed(session, "good");
        const names = await tools(session);
        assert.deepEqual(
            names.filter((name) => name === "good"),
            ["good"],
            "a name is listed once",
        );
        for (const item of bad.slice(0, 15) as { name?: unknown }[]) {
            assert.ok(!names.includes(item?.name as string), String(item?.name).slice(0, 40));
        }
        assert.ok(names.includes("last"));
        const good = (
            await all<{ name: string; title: string; unknown: unknown }>(session, "tools/list", "tools")
        ).find((item) => item.name === "good")!;
        assert.equal(good.title, "first");
        assert.deepEqual(good.unknown, { kept: [1] }, "what we do not know is passed on");
        for (const name of ["large", "with space", "no-schema", "good"]) {
            const answer = await session.call(name);
            assert.equal(answer.error?.code, name === "good" ? undefined : -32602, name);
        }
        await session.end();
    });

    test("a client that checks every entry accepts the list", async () => {
        const { client, close } = await connectGateway(gateway, "bad");
        const names = (await client.listTools()).tools.map((item) => item.name);
        assert.ok(names.includes("good") && names.includes("last"), String(names));
        // What has only an unusual name is spelled in a way that every client takes, or left out.
        assert.ok(
            names.every((name) => /^[A-Za-z0-9_.-]{1,64}$/.test(name)),
            String(names),
        );
        for (const item of bad.slice(15) as { name: string }[]) assert.ok(!names.includes(item.name), item.name);
        for (const name of names.filter((item) => item !== "good" && item !== "last")) {
            const answer = await client.callTool({ name, arguments: {} });
            const { tool: original } = JSON.parse((answer.content as { text: string }[])[0]!.text) as { tool: string };
            assert.ok(
                bad.some((item) => (item as { name?: unknown } | null)?.name === original),
                `${name} reaches ${original}`,
            );
        }
        assert.deepEqual(
            (await client.listPrompts()).prompts.map((item) => item.name),
            ["fine"],
        );
        const resources = (await client.listResources()).resources.map((item) => item.uri);
        assert.ok(resources.includes("bad://fine") && !resources.includes("no scheme"), String(resources));
        const templates = (await client.listResourceTemplates()).resourceTemplates.map((item) => item.uriTemplate);
        assert.ok(templates.includes("bad://t/{x}") && !templates.includes("bad://{x"), String(templates));
        await close();
    });

    test("a thousand tools of an upstream, no more, over pages of ours", async () => {
        const session = await openSession(gateway, "/mcp/many");
        await listed(session, "t0000");
        const names = await tools(session);
        assert.deepEqual(
            names,
            Array.from({ length: 1000 }, (_, index) => `t${String(index).padStart(4, "0")}`),
        );
        assert.equal((await session.call("t1200")).error?.code, -32602);
        assert.equal((await session.call("t0999")).error, undefined);
        await session.end();
    });

    test('an upstream\'s pages are read to the end, the cursor "" too', async () => {
        const session = await openSession(gateway, "/mcp/pages");
        await listed(session, "a");
        assert.deepEqual(await tools(session), ["a", "b", "c"]);
        assert.deepEqual(
            (await all<{ uri: string }>(session, "resources/list", "resources")).map((item) => item.uri),
            ["pages://1", "pages://2"],
        );
        await session.end();
    });

    test("an upstream whose pages have no end is cut", async () => {
        const session = await openSession(gateway, "/mcp/loop");
        await listed(session, "x");
        assert.deepEqual(await tools(session), ["x", "y"]);
        await session.end();
    });

    test("a cursor that is not ours is -32602", async () => {
        const session = await openSession(gateway);
        await listed(session, "many__t0000");
        for (const cursor of ["", "0", "second", "x".repeat(5000), "AAAA", "-1", "99999999999999999999"]) {
            assert.equal((await session.request("tools/list", { cursor })).error?.code, -32602, cursor.slice(0, 30));
        }
        assert.equal((await session.request("tools/list", { cursor: 7 })).error?.code, -32602);
        await session.end();
    });

    test("the merged list stands in the order of the file, each upstream in its own", async () => {
        const session = await openSession(gateway);
        for (const options of servers) {
            await until(
                async () => (await tools(session)).some((name) => name.startsWith(`${options.name}__`)),
                `tools of ${options.name}`,
            );
        }
        const names = await tools(session);
        assert.equal(new Set(names).size, names.length, "no name twice");
        assert.deepEqual(
            [...new Set(names.map((name) => name.split("__")[0]))],
            servers.map((options) => options.name),
        );
        assert.deepEqual(names, await tools(session));
        const other = await openSession(gateway, "/mcp", "2025-03-26");
        assert.deepEqual(names, await tools(other));
        assert.ok(names.every((name) => name.length <= 64 && /^[A-Za-z0-9_.-]+$/.test(name)));
        await session.end();
        await other.end();
    });

    test("the same URI from two upstreams belongs to the first in the file", async () => {
        const session = await openSession(gateway);
        const uris = async () => await all<{ uri: string; name: string }>(session, "resources/list", "resources");
        await until(async () => (await uris()).some((item) => item.uri === "second://own"), "resources of second");
        await until(async () => (await uris()).some((item) => item.uri === "first://own"), "resources of first");
        assert.deepEqual(
            (await uris()).filter((item) => item.uri === "same://uri").map((item) => item.name),
            ["of first"],
        );
        const read = async (from: Session, uri: string) =>
            ((await from.request("resources/read", { uri })).result!.contents as { text: string }[])[0]!.text;
        assert.equal(await read(session, "same://uri"), "read by first");
        assert.equal(await read(session, "second://own"), "read by second");
        assert.equal(await read(session, "same://t/5"), "read by first");
        assert.equal(await read(session, "second://t/a/b"), "read by second");
        const second = await openSession(gateway, "/mcp/second");
        assert.equal(await read(second, "same://uri"), "read by second");
        assert.ok(
            [-32602, -32002].includes((await session.request("resources/read", { uri: "nobody://has" })).error!.code),
        );
        await session.end();
        await second.end();
    });

    test("names over 64 are shortened, stay apart, last over a restart, and reach the original", async (t) => {
        const session = await openSession(gateway);
        await listed(session, "long__b__c");
        const names = (await tools(session)).filter((name) => name.startsWith("long__"));
        assert.equal(names.length, 5);
        const [one, two, ...others] = names as [string, string, ...string[]];
        assert.deepEqual(others, [`long__${EXACT}`, "long__b__c", "long__dots.and-dashes_9"]);
        assert.ok(one.length <= 64 && two.length <= 64 && one !== two, `${one} ${two}`);
        const called = async (name: string) =>
            (JSON.parse(text(await session.call(name, { a: 1 }))) as { tool: string }).tool;
        assert.equal(await called(one), `${LONG}one`);
        assert.equal(await called(two), `${LONG}two`);
        assert.equal(await called("long__b__c"), "b__c");
        assert.equal((await session.call(`long__${LONG}one`)).error?.code, -32602, "the long form is no name");

        const prompts = (await all(session, "prompts/list", "prompts"))
            .map((item) => item.name)
            .filter((name) => name.startsWith("long__"));
        assert.equal(new Set(prompts).size, 2);
        const got = await session.request("prompts/get", { name: prompts[1] });
        assert.ok(JSON.stringify(got.result).includes(`${LONG}two`));
        await session.end();

        const again = await startGateway(
            { config: { servers: { long: { cmd: control.command(servers.at(-1)!) } } } },
            t,
        );
        const later = await openSession(again);
        await listed(later, "long__b__c");
        assert.deepEqual(await tools(later), names);
        await later.end();
        const own = await openSession(gateway, "/mcp/long");
        const short = await tools(own);
        assert.equal(short.length, 5);
        assert.ok(
            short.every((name) => name.length <= 128),
            String(short),
        );
        const reached = JSON.parse(text(await own.call(short[1]!))) as { tool: string };
        assert.equal(reached.tool, `${LONG}two`);
        assert.deepEqual(short.slice(2), [EXACT, "b__c", "dots.and-dashes_9"]);
        await own.end();
    });
});

describe("list_changed", () => {
    let control: Control;
    let gateway: Gateway;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                servers: {
                    one: { cmd: control.command({ name: "one" }) },
                    two: { cmd: control.command({ name: "two" }) },
                },
            },
        });
        await served(gateway, "one__echo", "two__echo");
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    const kinds: {
        kind: string;
        key: string;
        set: (mark: string) => Partial<FixtureOptions>;
        name: (mark: string, prefix: string) => string;
    }[] = [
        {
            kind: "tools",
            key: "tools",
            set: (mark) => ({ tools: [tool(mark), tool("whoami")] }),
            name: (mark, prefix) => prefix + mark,
        },
        {
            kind: "prompts",
            key: "prompts",
            set: (mark) => ({ prompts: [{ name: mark }] }),
            name: (mark, prefix) => prefix + mark,
        },
        {
            kind: "resources",
            key: "resources",
            set: (mark) => ({ resources: [{ uri: `x://${mark}`, name: mark }] }),
            name: (mark) => mark,
        },
    ];
    for (const path of ["/mcp", "/mcp/two"]) {
        for (const { kind, key, set, name } of kinds) {
            test(`${kind} at ${path}: said on the GET stream, and the next list is the new one`, async () => {
                const session = await openSession(gateway, path);
                const prefix = path === "/mcp" ? "two__" : "";
                const events = await session.stream();
                assert.equal(events.status, 200);
                await all(session, `${kind}/list`, key);
                const server = await serving(control, session, prefix);
                const mark = `new-${kind}-${path.length}`;
                await server.set(set(mark));
                server.notify(`notifications/${kind}/list_changed`);
                // Another change may have been said before; after the last word the list is the new one.
                for (let from = 0, found = false; !found;) {
                    await events.messages.waitFor(
                        (message) => message.method === `notifications/${kind}/list_changed`,
                        from,
                    );
                    from = events.messages.items.length;
                    found = (await all(session, `${kind}/list`, key)).some((item) => item.name === name(mark, prefix));
                }
                events.close();
                await session.end();
            });
        }
    }

    test("the SDK's client hears it", async () => {
        const peer = await connectGateway(gateway);
        const session = await openSession(gateway, "/mcp/one");
        const server = await serving(control, session);
        await server.set({ tools: [tool("for-the-sdk"), tool("whoami")] });
        server.notify("notifications/tools/list_changed");
        for (let from = 0, found = false; !found;) {
            await peer.notifications.waitFor((item) => item.method === "notifications/tools/list_changed", from);
            from = peer.notifications.items.length;
            found = (await peer.client.listTools()).tools.some((item) => item.name === "one__for-the-sdk");
        }
        await peer.close();
        await session.end();
    });

    test("a tool that left is called no more", async () => {
        const session = await openSession(gateway);
        const events = await session.stream();
        const server = await serving(control, session, "one__");
        await server.set({ tools: [tool("stays"), tool("leaves")] });
        server.notify("notifications/tools/list_changed");
        await listed(session, "one__leaves");
        const from = events.messages.items.length;
        await server.set({ tools: [tool("stays")] });
        server.notify("notifications/tools/list_changed");
        await events.messages.waitFor((message) => message.method === "notifications/tools/list_changed", from);
        await until(async () => !(await tools(session)).includes("one__leaves"), "the tool has left");
        assert.equal((await session.call("one__leaves")).error?.code, -32602);
        assert.equal((await session.call("one__stays")).error, undefined);
        events.close();
        await session.end();
    });
});

describe("upstreams that come and go", () => {
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    after(async () => {
        await control.close();
    });

    /** Starts a gateway with a good upstream beside the one in question. */
    const beside = async (
        t: TestContext,
        name: string,
        server: ServerConfig,
        run: (gateway: Gateway) => Promise<void>,
    ) => {
        const good = { cmd: control.command({ name: `good-${name}` }) };
        const gateway = await startGateway({ config: { servers: { [name]: server, good } } }, t);
        // Whether upstreams start with the gateway or with the first that asks is its own affair.
        const session = await openSession(gateway);
        const asked = tools(session);
        await run(gateway);
        await asked;
        await session.end();
    };

    /** The good one and the gateway itself are as if nothing was. */
    const undisturbed = async (gateway: Gateway) => {
        const started = performance.now();
        const health = await send(gateway, { method: "GET", path: "/health", token: false });
        assert.equal(health.status, 200);
        const session = await openSession(gateway, "/mcp/good");
        await listed(session, "echo");
        assert.equal(text(await session.call("echo", { text: "fine" })), "fine");
        await session.end();
        assert.ok(performance.now() - started < 4000, "it took too long");
    };

    test("slow: one that does not answer initialize delays nobody, and joins when it does", async (t) => {
        await beside(
            t,
            "slow",
            { cmd: control.command({ name: "slow", initialize: "hold" }), startup_timeout: "60s" },
            async (gateway) => {
                const child = await control.started("slow");
                await undisturbed(gateway);
                const session = await openSession(gateway);
                const events = await session.stream();
                const names = await within(tools(session), "a list that does not wait for ever");
                assert.ok(
                    names.includes("good__echo") && !names.some((name) => name.startsWith("slow__")),
                    String(names),
                );
                await child.receives((message) => message.method === "initialize");
                child.do({ do: "release" });
                await events.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
                await listed(session, "slow__echo");
                assert.equal(text(await session.call("slow__echo", { text: "here" })), "here");
                events.close();
                await session.end();
            },
        );
    });

    test("stuck: one that is not ready within startup_timeout is started again", async (t) => {
        const cmd = control.command({ name: "stuck", initialize: "hold" });
        await beside(t, "stuck", { cmd, startup_timeout: "1s" }, async (gateway) => {
            const first = await control.started("stuck");
            await first.isGone();
            await control.started("stuck", 2);
            await undisturbed(gateway);
        });
    });

    test("dead: one that exits at once delays nobody, is tried again, and joins when it lives", async (t) => {
        const cmd = control.command({ name: "dead", die: 1 });
        await beside(t, "dead", { cmd }, async (gateway) => {
            await control.started("dead", 2);
            await undisturbed(gateway);
            const session = await openSession(gateway);
            const events = await session.stream();
            assert.ok((await tools(session)).every((name) => name.startsWith("good__")));
            const refused = await session.call("dead__echo", { text: "x" });
            assert.ok(refused.error !== undefined || refused.result!.isError === true, JSON.stringify(refused));
            writeFileSync(cmd[2]!, JSON.stringify({ name: "dead", control: control.path }));
            await events.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
            await listed(session, "dead__echo");
            assert.equal(text(await session.call("dead__echo", { text: "alive" })), "alive");
            events.close();
            await session.end();
        });
    });

    test("absent: a command that does not exist delays nobody", async (t) => {
        await beside(t, "absent", { cmd: ["/nonexistent/command", "x"] }, async (gateway) => {
            await undisturbed(gateway);
            await gateway.waitForLog((entry) => JSON.stringify(entry).includes("absent") && entry.level !== "debug");
            const session = await openSession(gateway);
            assert.ok((await tools(session)).every((name) => name.startsWith("good__")));
            await session.end();
        });
    });

    test("crashing: calls in flight end with an error, its tools leave and come back by themselves", async (t) => {
        await beside(t, "crashing", { cmd: control.command({ name: "crashing" }) }, async (gateway) => {
            const session = await openSession(gateway);
            const events = await session.stream();
            await listed(session, "crashing__echo");
            const child = await serving(control, session, "crashing__");
            const from = child.events.items.length;
            const starts = control.count("crashing");
            const waiting = session.call("crashing__hold");
            await child.events.waitFor((event) => event.event === "held", from);
            const crash = await session.call("crashing__crash");
            for (const answer of [crash, await waiting]) {
                assert.ok(answer.error !== undefined || answer.result!.isError === true, JSON.stringify(answer));
            }
            await child.isGone();
            await undisturbed(gateway);
            await events.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
            await control.started("crashing", starts + 1);
            await listed(session, "crashing__echo");
            assert.equal(text(await session.call("crashing__echo", { text: "back" })), "back");
            events.close();
            await session.end();
        });
    });

    test("crashing again and again, it comes back every time", async (t) => {
        await beside(t, "again", { cmd: control.command({ name: "again" }) }, async (gateway) => {
            const session = await openSession(gateway, "/mcp/again");
            for (let round = 0; round < 3; round++) {
                await until(async () => {
                    const answer = await session.call("echo", { text: `round ${round}` });
                    return answer.result !== undefined && answer.result.isError !== true;
                }, `round ${round}`);
                await session.call("crash");
            }
            await until(
                async () => (await session.call("echo", { text: "end" })).result?.isError === undefined,
                "it is back",
            );
            await session.end();
        });
    });
});
