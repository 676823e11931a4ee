/*
 * What clients subscribe to, in the way of their own era, whatever that of the server is: resources/subscribe and the
 * GET stream (or the stream of HTTP+SSE), subscriptions/listen. The server is watched before the client is told so.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { MODERN, SUBSCRIPTION_KEY, type ListName } from "./fixtures/brain.ts";
import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, served, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { Tokens } from "./lib/principals.ts";
import { openSse } from "./lib/sse.ts";
import { Recording, until, within } from "./lib/wait.ts";

const LEGACY = ["2025-03-26", "2025-06-18", "2025-11-25"];
const UPDATED = "notifications/resources/updated";
const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";

/** Somebody who hears of one resource and of the lists. */
interface Listener {
    /** what it is told unasked */
    news: Recording<RpcMessage>;
    /** what the id of its listen is; none in a session */
    id?: string | number;
    stop(): Promise<void>;
}

type Listen = (gateway: Gateway, path: string, uri: string) => Promise<Listener>;

async function inSession(version: string, gateway: Gateway, path: string, uri: string): Promise<Listener> {
    const session = await openSession(gateway, path, version);
    const stream = await session.stream();
    const answer = await session.request("resources/subscribe", { uri });
    assert.deepEqual(answer.result, {}, JSON.stringify(answer));
    return {
        news: stream.messages,
        stop: async () => {
            assert.deepEqual((await session.request("resources/unsubscribe", { uri })).result, {});
            stream.close();
            await session.end();
        },
    };
}

async function overSse(gateway: Gateway, path: string, uri: string): Promise<Listener> {
    const session = await openSse(gateway, `${path}/sse`);
    await session.initialize();
    const answer = await session.request("resources/subscribe", { uri });
    assert.deepEqual(answer.result, {}, JSON.stringify(answer));
    return {
        news: session.messages,
        stop: async () => {
            assert.deepEqual((await session.request("resources/unsubscribe", { uri })).result, {});
            session.close();
        },
    };
}

let ids = 0;

const ALL_LISTS = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true };

async function listen(
    gateway: Gateway,
    path: string,
    notifications: object,
    id: string | number = ++ids,
): Promise<{ stream: Stream; acknowledged: RpcMessage }> {
    const stream = await new ModernClient(gateway, path).stream("subscriptions/listen", { notifications }, { id });
    const acknowledged = await stream.messages.waitFor(() => true);
    return { stream, acknowledged };
}

async function listening(gateway: Gateway, path: string, uri: string): Promise<Listener> {
    const id = `listen-${++ids}`;
    const asked = { ...ALL_LISTS, resourceSubscriptions: [uri] };
    const { stream, acknowledged } = await listen(gateway, path, asked, id);
    assert.equal(acknowledged.method, ACKNOWLEDGED, JSON.stringify(acknowledged));
    assert.deepEqual(acknowledged.params, { notifications: asked, _meta: { [SUBSCRIPTION_KEY]: id } });
    return {
        news: stream.messages,
        id,
        stop: async () => {
            stream.close();
            await within(stream.ended, "the stream is closed");
        },
    };
}

const CLIENTS: { [name: string]: Listen } = {
    ...Object.fromEntries(
        LEGACY.map((version) => [version, (gateway, path, uri) => inSession(version, gateway, path, uri)] as [string, Listen]),
    ),
    "2024-11-05": overSse,
    [MODERN]: listening,
};

describe("of one server", { concurrency: 1 }, () => {
    const fixtures = new Map<string, HttpFixture>();
    let gateway: Gateway;
    before(async () => {
        for (const [name, revisions, transport] of [
            ["http-2025-03-26", ["2025-03-26"], "http"],
            ["http-2025-11-25", ["2025-11-25"], "http"],
            ["sse-2024-11-05", ["2024-11-05"], "sse"],
            ["http-modern", [MODERN], "http"],
        ] as const) {
            const more = transport === "sse" ? { transport } : {};
            fixtures.set(name, await startHttp({ name, revisions: [...revisions], subscribe: true, ...more }));
        }
        const servers = Object.fromEntries([...fixtures].map(([name, { url }]) => [name, { url }]));
        gateway = await startGateway({ config: { servers } });
        await served(gateway, ...[...fixtures.keys()].map((name) => `${name}__echo`));
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of fixtures.values()) await fixture.close();
    });

    for (const server of ["http-2025-03-26", "http-2025-11-25", "sse-2024-11-05", "http-modern"]) {
        for (const [client, open] of Object.entries(CLIENTS)) {
            test(`${client} -> ${server}`, async () => {
                const { brain } = fixtures.get(server)!;
                const uri = `test://thing/${client}`;
                const listener = await open(gateway, `/mcp/${server}`, uri);
                assert.deepEqual(brain.subscribed, [uri], "before the client is told");
                const meta = listener.id === undefined ? {} : { _meta: { [SUBSCRIPTION_KEY]: listener.id } };

                brain.touch(uri);
                const updated = await listener.news.waitFor((message) => message.method === UPDATED);
                assert.deepEqual(updated.params, { uri, ...meta });
                for (const list of ["tools", "prompts", "resources"] as ListName[]) {
                    const from = listener.news.items.length;
                    brain.change(list);
                    const changed = await listener.news.waitFor(
                        (message) => message.method === `notifications/${list}/list_changed`,
                        from,
                    );
                    assert.deepEqual(changed.params ?? {}, meta);
                }
                await listener.stop();
                await until(() => brain.subscribed.length === 0, "the server is told that nobody listens");
            });
        }
    }

    test("one server is asked once for two clients, and again for the other's", async () => {
        const { brain } = fixtures.get("http-2025-11-25")!;
        const uri = "test://thing/shared";
        const one = await openSession(gateway, "/mcp/http-2025-11-25");
        const two = await openSession(gateway, "/mcp/http-2025-11-25");
        const streams = [await one.stream(), await two.stream()];
        await one.request("resources/subscribe", { uri });
        await one.request("resources/subscribe", { uri });
        await two.request("resources/subscribe", { uri });
        assert.deepEqual(brain.subscribed, [uri]);
        brain.touch(uri);
        for (const stream of streams) await stream.messages.waitFor((message) => message.method === UPDATED);
        await one.request("resources/unsubscribe", { uri });
        assert.deepEqual((await one.request("resources/unsubscribe", { uri })).result, {}, "twice does no harm");
        assert.deepEqual(brain.subscribed, [uri], "two is still there");
        brain.touch(uri);
        await streams[1]!.messages.waitFor((message) => message.method === UPDATED, 1);
        brain.change("tools");
        await streams[0]!.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        assert.equal(streams[0]!.messages.items.filter(({ method }) => method === UPDATED).length, 1);
        await two.end();
        await until(() => brain.subscribed.length === 0, "the end of a session is the end of what it hears");
        await one.end();
    });

    test("what is updated while there is no stream is told once when there is one", async () => {
        const { brain } = fixtures.get("http-2025-11-25")!;
        const uris = ["test://thing/a", "test://thing/b"];
        const session = await openSession(gateway, "/mcp/http-2025-11-25");
        for (const uri of uris) await session.request("resources/subscribe", { uri });
        for (let i = 0; i < 5; i++) for (const uri of uris) brain.touch(uri);
        /* What was said before the answer to this has arrived before it. */
        await session.call("echo", { text: "a" });
        await until(async () => {
            const stream = await session.stream();
            await stream.messages.waitFor((message) => message.method === UPDATED);
            await until(() => stream.messages.items.length >= 2, "both are told");
            assert.deepEqual(stream.messages.items.map(({ params }) => params!.uri).sort(), uris);
            stream.close();
            await stream.ended;
            return true;
        }, "both are told");
        await session.end();
    });

    test("a resource that there is not: an error for who subscribes, left out for who listens", async () => {
        for (const server of ["http-2025-11-25", "http-modern"]) {
            const { brain } = fixtures.get(server)!;
            const session = await openSession(gateway, `/mcp/${server}`);
            const { error } = await session.request("resources/subscribe", { uri: "nothing://here" });
            assert.ok(error !== undefined, server);
            assert.equal((await session.request("resources/subscribe", { uri: 7 })).error!.code, -32602);
            await session.end();
            const { stream, acknowledged } = await listen(gateway, `/mcp/${server}`, {
                resourceSubscriptions: ["nothing://here", "test://one"],
            });
            assert.deepEqual(acknowledged.params!.notifications, { resourceSubscriptions: ["test://one"] }, server);
            assert.deepEqual(brain.subscribed, ["test://one"]);
            stream.close();
            await until(() => brain.subscribed.length === 0, "hanging up ends it");
        }
    });

    test("only what was asked for is told, under the id of each listen", async () => {
        const { brain } = fixtures.get("http-modern")!;
        const tools = await listen(gateway, "/mcp/http-modern", { toolsListChanged: true }, 0);
        const prompts = await listen(gateway, "/mcp/http-modern", { promptsListChanged: true, toolsListChanged: false }, "");
        assert.deepEqual(tools.acknowledged.params, {
            notifications: { toolsListChanged: true },
            _meta: { [SUBSCRIPTION_KEY]: 0 },
        });
        assert.deepEqual(prompts.acknowledged.params!._meta, { [SUBSCRIPTION_KEY]: "" });
        brain.change("tools");
        brain.change("prompts");
        await prompts.stream.messages.waitFor(() => true, 1);
        await tools.stream.messages.waitFor(() => true, 1);
        assert.deepEqual(tools.stream.messages.items.slice(1), [
            {
                jsonrpc: "2.0",
                method: "notifications/tools/list_changed",
                params: { _meta: { [SUBSCRIPTION_KEY]: 0 } },
            },
        ]);
        assert.deepEqual(
            prompts.stream.messages.items.slice(1).map(({ method }) => method),
            ["notifications/prompts/list_changed"],
        );
        tools.stream.close();
        prompts.stream.close();
    });

    test("what is no filter is refused", async () => {
        const client = new ModernClient(gateway, "/mcp/http-modern");
        const many = Array.from({ length: 257 }, (_, index) => `test://thing/${index}`);
        for (const notifications of [
            undefined,
            [],
            { toolsListChanged: 1 },
            { resourceSubscriptions: "test://one" },
            { resourceSubscriptions: [1] },
            { resourceSubscriptions: many },
            { resourceSubscriptions: [`test://thing/${"x".repeat(8192)}`] },
        ]) {
            const { error } = await client.request("subscriptions/listen", { notifications });
            assert.equal(error?.code, -32602, JSON.stringify(notifications)?.slice(0, 100));
        }
        const { stream, acknowledged } = await listen(gateway, "/mcp/http-modern", {
            resourceSubscriptions: many.slice(1),
        });
        const honoured = acknowledged.params!.notifications as { resourceSubscriptions: string[] };
        assert.equal(honoured.resourceSubscriptions.length, 256);
        stream.close();
        await until(() => fixtures.get("http-modern")!.brain.subscribed.length === 0, "hanging up ends it");
    });

    test("256 resources in a session, and no more", async () => {
        const session = await openSession(gateway, "/mcp/http-2025-11-25");
        for (let i = 0; i < 256; i++) {
            const { error } = await session.request("resources/subscribe", { uri: `test://thing/${i}` });
            assert.equal(error, undefined, `${i}: ${JSON.stringify(error)}`);
        }
        const { error } = await session.request("resources/subscribe", { uri: "test://thing/256" });
        assert.match(error!.message, /256 resources/);
        await session.request("resources/unsubscribe", { uri: "test://thing/0" });
        assert.equal((await session.request("resources/subscribe", { uri: "test://thing/256" })).error, undefined);
        await session.end();
        await until(() => fixtures.get("http-2025-11-25")!.brain.subscribed.length === 0, "all are ended");
    });

    test("the merged endpoint: each from the server that has it", async () => {
        const { stream, acknowledged } = await listen(gateway, "/mcp", {
            ...ALL_LISTS,
            resourceSubscriptions: ["test://one"],
        });
        assert.deepEqual(acknowledged.params!.notifications, { ...ALL_LISTS, resourceSubscriptions: ["test://one"] });
        const owners = [...fixtures].filter(([, { brain }]) => brain.subscribed.length !== 0);
        assert.equal(owners.length, 1, "one of those that have it");
        for (const { brain } of fixtures.values()) {
            const from = stream.messages.items.length;
            brain.change("tools");
            await stream.messages.waitFor((message) => message.method === "notifications/tools/list_changed", from);
        }
        stream.close();
    });

    test("both methods stay in their era", async () => {
        const session = await openSession(gateway, "/mcp/http-modern");
        assert.equal((await session.request("subscriptions/listen", { notifications: {} })).error!.code, -32601);
        await session.end();
        const client = new ModernClient(gateway, "/mcp/http-modern");
        for (const method of ["resources/subscribe", "resources/unsubscribe"]) {
            const answer = await client.ask(method, { uri: "test://one" });
            assert.equal(answer.status, 404);
            assert.equal(answer.messages[0]!.error!.code, -32601);
        }
    });

    test("a listen that starts a slow server is acknowledged when that is watched", async (t) => {
        const fixture = await startHttp({ name: "late", revisions: [MODERN], subscribe: true });
        t.after(() => fixture.close());
        const other = await startGateway({ config: { servers: { late: { url: fixture.url } } } }, t);
        const { stream, acknowledged } = await listen(other, "/mcp/late", { resourceSubscriptions: ["test://one"] });
        assert.deepEqual(acknowledged.params!.notifications, { resourceSubscriptions: ["test://one"] });
        assert.deepEqual(fixture.brain.subscribed, ["test://one"]);
        const stopping = other.stop();
        const result = await stream.messages.waitFor((message) => message.result !== undefined);
        assert.equal(result.id, ids);
        assert.deepEqual(result.result, { resultType: "complete", _meta: { [SUBSCRIPTION_KEY]: ids } });
        await within(stream.ended, "the stream is closed");
        await stopping;
    });
});

describe("who may", { concurrency: 1 }, () => {
    test("two principals: each hears of its own instance alone, and of nothing that it may not know of", async (t) => {
        const fixture = await startHttp({ name: "one", revisions: ["2025-11-25"], subscribe: true });
        const hidden = await startHttp({
            name: "hidden",
            revisions: [MODERN],
            subscribe: true,
            resources: [{ uri: "secret://it", name: "it" }],
        });
        t.after(() => fixture.close());
        t.after(() => hidden.close());
        const tokens = new Tokens({ ann: undefined, bob: undefined });
        const auth = { tokens: { ...tokens.table, bob: { ...(tokens.table.bob as object), servers: ["one"] } } };
        const servers = { one: { url: fixture.url }, hidden: { url: hidden.url } };
        const gateway = await startGateway({ config: { server: { auth }, servers } }, t);
        const filter = { notifications: { toolsListChanged: true, resourceSubscriptions: ["secret://it", "test://one"] } };
        const ann = await new ModernClient(tokens.as(gateway, "ann")).stream("subscriptions/listen", filter, { id: 1 });
        const bob = await new ModernClient(tokens.as(gateway, "bob")).stream("subscriptions/listen", filter, { id: 1 });
        const [forAnn, forBob] = [await ann.messages.waitFor(() => true), await bob.messages.waitFor(() => true)];
        assert.deepEqual(forAnn.params!.notifications, filter.notifications);
        assert.deepEqual(forBob.params!.notifications, { toolsListChanged: true, resourceSubscriptions: ["test://one"] });
        hidden.brain.touch("secret://it");
        hidden.brain.change("tools");
        await ann.messages.waitFor((message) => message.method === UPDATED);
        await ann.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        fixture.brain.touch("test://one");
        await bob.messages.waitFor((message) => message.method === UPDATED);
        assert.equal(bob.messages.items.length, 2, JSON.stringify(bob.messages.items));
        ann.close();
        bob.close();
    });
});
