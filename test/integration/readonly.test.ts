/*
 * Read-only until opened: what is a read and what is a write, what a locked tool looks like, and the switch that opens it,
 * on a gateway with two workers and real servers.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { edit, shorten } from "./lib/edit.ts";
import { launchGateway, startGateway, type Config, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, text, type Session, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { reload } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { refusal, said } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

const tool = (name: string, annotations?: { [hint: string]: boolean }, more: object = {}) => ({
    name,
    description: `The tool ${name}`,
    inputSchema: { type: "object" },
    ...(annotations === undefined ? {} : { annotations }),
    ...more,
});

const TOOLS = [
    tool("plain"),
    tool("look", { readOnlyHint: true }),
    tool("change", { readOnlyHint: false }),
    tool("soft", { destructiveHint: false, idempotentHint: true }),
    tool("both", { readOnlyHint: true, destructiveHint: true }),
];
const ALL = TOOLS.map(({ name }) => name);

type Table = { [key: string]: Value };
const read = { access: "read" };
const write = { access: "write" };

const listOf = async (ask: (method: string) => Promise<RpcMessage>): Promise<{ name: string; [key: string]: unknown }[]> =>
    (await ask("tools/list")).result!.tools as { name: string }[];

describe("read-only", () => {
    let control: Control;
    let n = 0;
    before(async () => void (control = await startControl()));
    after(() => control.close());

    interface World {
        gateway: Gateway;
        fixture: FixtureProcess;
        config: Config;
    }

    const configOf = (security: Table, server: Table = {}, tools: unknown[] = TOOLS): { name: string; config: Config } => {
        const name = `readonly${++n}`;
        const prompts = [{ name: "review" }];
        const resources = [{ uri: "test://one", name: "one" }];
        const cmd = control.command({ name, tools, prompts, resources });
        return { name, config: { security, servers: { it: { cmd, share: "all", ...server } } } };
    };

    async function start(t: TestContext, security: Table, server: Table = {}, more: { tools?: unknown[]; dataDir?: string } = {}): Promise<World> {
        const { name, config } = configOf(security, server, more.tools);
        const gateway = await startGateway({ config, dataDir: more.dataDir }, t);
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
        return { gateway, config, fixture: await control.started(name) };
    }

    /** The tools that are listed, the same to every era and endpoint. */
    async function listed(gateway: Gateway): Promise<string[]> {
        const seen: string[] = [];
        for (const path of ["/mcp", "/mcp/it"]) {
            const session = await openSession(gateway, path);
            const modern = new ModernClient(gateway, path);
            for (const ask of [(method: string) => session.request(method), (method: string) => modern.request(method)]) {
                seen.push((await listOf(ask)).map(({ name }) => name.replace(/^it__/, "")).join());
            }
            await session.end();
        }
        assert.equal(new Set(seen).size, 1, `eras and endpoints agree: ${seen.join(" | ")}`);
        return seen[0] === "" ? [] : seen[0]!.split(",");
    }

    /** What each tool answers, the same to every era and endpoint: that it is called, or that it is locked. */
    async function callable(gateway: Gateway, names = ALL): Promise<string[]> {
        const open: string[] = [];
        for (const name of names) {
            const outcomes = new Set<string>();
            for (const path of ["/mcp", "/mcp/it"]) {
                const called = path === "/mcp" ? `it__${name}` : name;
                const session = await openSession(gateway, path);
                for (const answer of [await session.call(called), await new ModernClient(gateway, path).call(called)]) {
                    assert.equal(answer.error, undefined, `${called}: ${JSON.stringify(answer)}`);
                    const isRefused = answer.result!.isError === true;
                    outcomes.add(isRefused ? text(answer) : "called");
                    if (!isRefused) assert.equal((JSON.parse(text(answer)) as { tool: string }).tool, name);
                }
                await session.end();
            }
            assert.equal(outcomes.size, 1, `eras and endpoints agree about ${name}: ${[...outcomes].join(" | ")}`);
            const [outcome] = [...outcomes];
            if (outcome === "called") open.push(name);
            else assert.match(outcome!, /locked/);
        }
        return open;
    }

    /** Not listed if and only if not callable. */
    async function isOpen(gateway: Gateway, ...names: string[]): Promise<void> {
        assert.deepEqual((await listed(gateway)).sort(), [...names].sort(), "listed");
        assert.deepEqual((await callable(gateway)).sort(), [...names].sort(), "callable");
    }

    test("without a word in the configuration nothing is called that has tools", async (t) => {
        const { gateway, fixture } = await start(t, {});
        await isOpen(gateway);
        await fixture.sync();
        assert.deepEqual(fixture.received("tools/call"), [], "nothing left the gateway");
        const why = await refusal(new ModernClient(gateway).call("it__plain"));
        assert.match(why, /edit mode is off/);
        assert.match(why, /cardea edit on/, "it says what opens it");
        assert.match(why, /mcp\.servers\.it\.tools\.plain\.access = "read"/, "and what says that it only reads");
        // What does not exist is another matter.
        const { error } = await new ModernClient(gateway).call("it__nothing");
        assert.equal(error!.code, -32602);
    });

    test("prompts, resources and completion are reads", async (t) => {
        const { gateway } = await start(t, {});
        const session = await openSession(gateway);
        const modern = new ModernClient(gateway);
        for (const ask of [
            (method: string, params?: object) => session.request(method, params),
            (method: string, params?: object) => modern.request(method, params as { [key: string]: unknown }),
        ]) {
            assert.equal(((await ask("prompts/list")).result!.prompts as unknown[]).length, 1);
            assert.equal(((await ask("resources/list")).result!.resources as unknown[]).length, 1);
            assert.equal((await ask("prompts/get", { name: "it__review" })).error, undefined);
            assert.equal((await ask("resources/read", { uri: "test://one" })).error, undefined);
            const ref = { type: "ref/prompt", name: "it__review" };
            assert.equal((await ask("completion/complete", { ref, argument: { name: "a", value: "b" } })).error, undefined);
        }
    });

    test("a tool's own access line, else the server's, else it is a write", async (t) => {
        const { gateway } = await start(t, {}, { tools: { plain: read, look: write } });
        await isOpen(gateway, "plain");
        const other = await start(t, {}, { ...read, tools: { change: write, look: { scopes: [] } } });
        await isOpen(other.gateway, "plain", "look", "soft", "both");
        const third = await start(t, {}, write);
        await isOpen(third.gateway);
    });

    test("annotations count only where they are trusted, and only readOnlyHint", async (t) => {
        await isOpen((await start(t, { trust_annotations: false })).gateway);
        await isOpen((await start(t, { trust_annotations: true })).gateway, "look", "both");
        // What the operator says is more.
        const { gateway } = await start(t, { trust_annotations: true }, { tools: { look: write, change: read } });
        await isOpen(gateway, "both", "change");
        await isOpen((await start(t, { trust_annotations: true }, write)).gateway);
    });

    test("what is no boolean true is no readOnlyHint", async (t) => {
        const odd = ["true", 1, null, [true], { a: true }].map((hint, i) => tool(`odd${i}`, { readOnlyHint: hint as unknown as boolean }));
        const tools = [...odd, tool("elsewhere", undefined, { readOnlyHint: true }), { ...tool("list"), annotations: [{ readOnlyHint: true }] }];
        const { gateway } = await start(t, { trust_annotations: true }, {}, { tools });
        assert.deepEqual(await listed(gateway), []);
        for (const { name } of tools) {
            const { result, error } = await new ModernClient(gateway).call(`it__${name}`);
            assert.ok(error !== undefined || result!.isError === true, name);
        }
    });

    test("a definition that changes later is a write again, also after a restart", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const security = { trust_annotations: true };
        const change = async (fixture: FixtureProcess, tools: unknown[]) => {
            await fixture.set({ tools });
            fixture.notify("notifications/tools/list_changed");
        };
        const names = (gateway: Gateway) => async () => (await listed(gateway)).join();
        const changed = [
            tool("look", { readOnlyHint: true }, { description: "Looks, and takes what it finds" }),
            tool("plain", { readOnlyHint: true }),
            tool("both", { readOnlyHint: true, destructiveHint: true }),
            tool("new", { readOnlyHint: true }),
        ];
        const open = async (gateway: Gateway, wanted: string) => {
            let seen = "";
            // While it changes, four lists that are asked for one after the other need not agree.
            const ask = () => names(gateway)().catch((error: Error) => error.message);
            await until(async () => (seen = await ask()) === wanted, () => `[${wanted}] are listed, not [${seen}]`);
            assert.deepEqual((await callable(gateway, ["look", "plain", "both", "new"])).join(), wanted);
        };
        {
            const { gateway, fixture } = await start(t, security, {}, { dataDir: folder });
            await isOpen(gateway, "look", "both");
            // look has another description, plain an annotation that it had not; new was never seen before.
            await change(fixture, changed);
            await open(gateway, "both,new");
            await gateway.stop();
        }
        const again = await start(t, security, {}, { dataDir: folder, tools: changed });
        await open(again.gateway, "both,new");
        // As they were first: the same definitions are the same.
        await change(again.fixture, [...TOOLS, tool("new", { readOnlyHint: true })]);
        await open(again.gateway, "look,both,new");
        await again.gateway.stop();
        // kill -9 loses nothing either.
        const third = await start(t, security, {}, { dataDir: folder, tools: changed });
        await open(third.gateway, "both,new");
        await third.gateway.kill();
        const last = await start(t, security, {}, { dataDir: folder, tools: changed });
        await open(last.gateway, "both,new");
    });

    test("hide_denied = false lists what is locked, and says so; calling it is refused all the same", async (t) => {
        const { gateway, fixture } = await start(t, { hide_denied: false }, { tools: { look: read } });
        assert.deepEqual(await listed(gateway), ALL);
        assert.deepEqual(await callable(gateway), ["look"]);
        const session = await openSession(gateway);
        const modern = new ModernClient(gateway);
        for (const ask of [(method: string) => session.request(method), (method: string) => modern.request(method)]) {
            for (const each of await listOf(ask)) {
                const isLocked = each.name !== "it__look";
                const own = TOOLS.find(({ name }) => `it__${name}` === each.name)!;
                assert.equal(JSON.stringify(each).includes("[locked]"), isLocked, JSON.stringify(each));
                assert.ok(String(each.description).includes(own.description), "the description is still there");
                assert.deepEqual(each.inputSchema, own.inputSchema);
                assert.deepEqual(each.annotations, own.annotations);
            }
        }
        await fixture.sync();
        assert.ok(fixture.received("tools/call").every(({ params }) => params!.name === "look"));
    });

    test("what is locked and shown keeps its definition: quotes, no description, other members", async (t) => {
        const tools = [
            { name: "bare", inputSchema: { type: "object" } },
            { name: "quoted", title: 'a "title"', description: 'says "hi"\n\\ \u0001', inputSchema: { type: "object" }, other: [1, { a: 1.5 }] },
        ];
        const { gateway } = await start(t, { hide_denied: false }, {}, { tools });
        for (const each of await listOf((method) => new ModernClient(gateway, "/mcp/it").request(method))) {
            assert.ok(JSON.stringify(each).includes("[locked]"), JSON.stringify(each));
            if (each.name !== "quoted") continue;
            assert.ok(String(each.description).includes('says "hi"\n\\ \u0001'), JSON.stringify(each));
            assert.deepEqual(each.other, [1, { a: 1.5 }]);
        }
    });

    test("the whitelist: edit mode lets these through and no others", async (t) => {
        const whitelist = ["it__change", "it__nothing"];
        const { gateway, config } = await start(t, { edit_mode: true, whitelist }, { tools: { look: read } });
        await isOpen(gateway, "look", "change");
        const why = await refusal(new ModernClient(gateway).call("it__plain"));
        assert.match(why, /security\.whitelist/);
        assert.match(why, /"it__plain"/, "it says what to add");
        // Closed it means nothing; opened by the command it does.
        await reload(gateway, { ...config, security: { edit_mode: false, whitelist } });
        await isOpen(gateway, "look");
        await edit(gateway, "on", "--minutes", "5", "--reason", "a test");
        await isOpen(gateway, "look", "change");
        await edit(gateway, "off");
        await isOpen(gateway, "look");
    });

    /** A session and what it is told. */
    async function listening(gateway: Gateway): Promise<{ session: Session; stream: Stream; changes(): number }> {
        const session = await openSession(gateway);
        const stream = await session.stream();
        const changes = () =>
            stream.messages.items.filter(({ method }) => method === "notifications/tools/list_changed").length;
        return { session, stream, changes };
    }

    test("edit on and off: at once, on all workers, and sessions are told", async (t) => {
        const { gateway } = await start(t, {}, { tools: { look: read } });
        // Connections are spread over the workers.
        const clients = await Promise.all(Array.from({ length: 6 }, () => listening(gateway)));
        for (let round = 1; round <= 3; round++) {
            await edit(gateway, "on", "--minutes", "5", "--reason", `round ${round}`);
            const opened = await Promise.all(Array.from({ length: 24 }, () => new ModernClient(gateway).call("it__change")));
            for (const answer of opened) assert.notEqual(answer.result!.isError, true, "the next call on every worker goes through");
            for (const { session, changes } of clients) {
                await until(() => changes() >= 2 * round - 1, "the session is told that the list is another one");
                assert.equal((await listOf((method) => session.request(method))).length, ALL.length);
            }
            await edit(gateway, "off");
            const closed = await Promise.all(Array.from({ length: 24 }, () => new ModernClient(gateway).call("it__change")));
            for (const answer of closed) assert.equal(answer.result!.isError, true, "the next call on every worker is refused");
            for (const { session, changes } of clients) {
                assert.deepEqual((await listOf((method) => session.request(method))).map(({ name }) => name), ["it__look"]);
                await until(() => changes() >= 2 * round, "the session is told again");
            }
        }
        for (const { stream } of clients) stream.close();
    });

    test("edit says how it is: by whom, why, how long", async (t) => {
        const { gateway } = await start(t, {});
        assert.match((await edit(gateway)).stdout, /off/);
        await edit(gateway, "on", "--minutes", "15", "--reason", "a maintenance window");
        const run = await edit(gateway);
        assert.match(run.stdout, /on/);
        assert.match(run.stdout, /a maintenance window/);
        const log = () => gateway.log.items.map((entry) => JSON.stringify(entry)).join("\n");
        await until(() => log().includes("a maintenance window"), "the log says why");
        await edit(gateway, "off");
        assert.match((await edit(gateway)).stdout, /off/);
    });

    test("the end of the minutes: it closes by itself, and sessions are told", async (t) => {
        const { gateway } = await start(t, {}, { tools: { look: read } });
        const { session, stream, changes } = await listening(gateway);
        await edit(gateway, "on", "--reason", "a short time");
        assert.equal((await session.call("it__change")).result!.isError, undefined);
        shorten(gateway, 1500);
        await until(() => changes() >= 1, "the session is told that it is open");
        await until(async () => (await session.call("it__change")).result!.isError === true, "it closes by itself");
        await until(() => changes() >= 2, "and the session is told");
        await refusal(session.call("it__change"));
        assert.deepEqual((await listOf((method) => session.request(method))).map(({ name }) => name), ["it__look"]);
        assert.match((await edit(gateway)).stdout, /off/);
        stream.close();
    });

    test("another `edit on` is another end; `edit off` ends the minutes for good", async (t) => {
        const { gateway } = await start(t, {});
        const client = new ModernClient(gateway);
        await edit(gateway, "on", "--reason", "short");
        shorten(gateway, 400);
        await edit(gateway, "on", "--minutes", "10", "--reason", "long");
        await edit(gateway, "off");
        await refusal(client.call("it__change"));
        await edit(gateway, "on", "--minutes", "10", "--reason", "long");
        // The first one's end is over by now, whatever the machine does: until() asks for it.
        const began = performance.now();
        await until(async () => {
            await said(client.call("it__change"));
            return performance.now() - began > 500;
        }, "it stays open past the end of the first one");
    });

    test("a window outlives reloads and a restart; while the file opens it, a command cannot close it, and says so", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const { gateway, config } = await start(t, { edit_mode: false }, {}, { dataDir: folder });
        const client = new ModernClient(gateway);
        await edit(gateway, "on", "--minutes", "5", "--reason", "a test");
        await reload(gateway, { ...config, server: { max_request_body: "1MiB" } });
        await said(client.call("it__change"));
        await reload(gateway, { ...config, security: { edit_mode: true } });
        await said(client.call("it__change"));
        const off = await cardea(["edit", "off", "--data-dir", folder]);
        assert.equal(off.code, 1, off.stdout);
        assert.match(off.stderr, /security\.edit_mode/);
        await said(client.call("it__change"));
        await reload(gateway, { ...config, security: { edit_mode: false } });
        await refusal(client.call("it__change"));
        await edit(gateway, "on", "--minutes", "5", "--reason", "a test");
        await said(client.call("it__change"));
        await gateway.stop();
        const again = await start(t, { edit_mode: false }, {}, { dataDir: folder });
        await said(new ModernClient(again.gateway).call("it__change"));
        await edit(again.gateway, "off");
        await refusal(new ModernClient(again.gateway).call("it__change"));
    });

    test("a reload opens and closes single tools, and sessions are told", async (t) => {
        const { gateway, config } = await start(t, {});
        const { session, stream, changes } = await listening(gateway);
        const { cmd } = config.servers.it!;
        const withTools = (tools: Table): Config => ({ ...config, servers: { it: { cmd, share: "all", tools } as never } });
        await reload(gateway, withTools({ change: read }));
        await until(() => changes() === 1, "the session is told");
        await said(session.call("it__change"));
        await reload(gateway, withTools({ change: read, plain: { allow: [] } }));
        await said(session.call("it__change"));
        await reload(gateway, withTools({}));
        await refusal(session.call("it__change"));
        assert.deepEqual(await listOf((method) => session.request(method)), []);
        assert.equal(control.starts.items.filter(({ start }) => start.name === `readonly${n}`).length, 1, "the server was left alone");
        stream.close();
    });

    test("`cardea call` is bound by it as everybody is", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const args = prepared(folder, configOf({}, { tools: { look: read } }).config);
        const open = await cardea(["call", "it__look", "{}", ...args]);
        assert.equal(open.code, 0, open.stdout + open.stderr);
        const locked = await cardea(["call", "it__change", "{}", ...args]);
        assert.equal(locked.code, 1, locked.stdout + locked.stderr);
        assert.match(locked.stdout + locked.stderr, /locked/);
    });

    test("the start says how much is locked, and what to do", async (t) => {
        const gateway = launchGateway({ config: configOf({}, { tools: { look: read } }).config });
        t.after(() => gateway.stop());
        let printed = "";
        gateway.process.stdout!.setEncoding("utf8").on("data", (chunk: string) => (printed += chunk));
        await gateway.ready();
        await until(() => printed.includes("Stop with"), () => `the start has said everything: ${printed}`);
        assert.match(printed, /4 of 5 tools are locked \(edit mode is off\): cardea classify -c \S+\n/);
        assert.match(printed, /cardea edit on/);
    });
});
