/*
 * What the gateway asks servers for when somebody wants to hear of their changes, and what it makes of servers that
 * end, forget, fall silent or do what no server should.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { MODERN, SUBSCRIPTION_KEY, type Brain } from "./fixtures/brain.ts";
import { startHttp, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, served, text, type Session } from "./lib/http.ts";
import { until, type Recording } from "./lib/wait.ts";

const UPDATED = "notifications/resources/updated";
const LISTEN = "subscriptions/listen";
const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";
const LEGACY = "2025-11-25";
const URI = "test://one";

const isUpdated = (message: RpcMessage) => message.method === UPDATED;
const updates = (news: Recording<RpcMessage>) => news.items.filter(isUpdated).length;

/** A session that is subscribed to the resource, and what it hears. */
async function subscribe(gateway: Gateway, path: string, uri = URI): Promise<{ session: Session; news: Recording<RpcMessage> }> {
    const session = await openSession(gateway, path);
    const { messages } = await session.stream();
    const answer = await session.request("resources/subscribe", { uri });
    assert.deepEqual(answer.result, {}, JSON.stringify(answer));
    return { session, news: messages };
}

const filterOf = (message: RpcMessage) => message.params!.notifications as { [key: string]: unknown };

describe("children", { concurrency: 1 }, () => {
    let control: Control;
    let gateway: Gateway;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                servers: {
                    legacy: { cmd: control.brain({ name: "legacy", revisions: [LEGACY], subscribe: true }) },
                    modern: { cmd: control.brain({ name: "modern", revisions: [MODERN], subscribe: true }) },
                },
            },
        });
        await served(gateway, "legacy__echo", "modern__echo");
    });
    after(async () => {
        await gateway?.stop();
        await control?.close();
    });

    /** The process that serves now. */
    const latest = (name: string): FixtureProcess =>
        control.starts.items.filter((process) => process.name === name).at(-1)!;

    for (const name of ["legacy", "modern"]) {
        test(`${name}: asked for, told, and again after a crash`, async () => {
            const { session, news } = await subscribe(gateway, `/mcp/${name}`);
            const first = latest(name);
            first.do({ do: "touch", uri: URI });
            await news.waitFor(isUpdated);
            const count = control.count(name);
            first.do({ do: "exit" });
            await news.waitFor(isUpdated, news.items.findIndex(isUpdated) + 1);
            assert.equal(updates(news), 2, "once for the crash");
            assert.ok(control.count(name) > count);
            const second = latest(name);
            const method = name === "legacy" ? "resources/subscribe" : LISTEN;
            await second.receives((message) => message.method === method && JSON.stringify(message).includes(URI));
            const from = news.items.length;
            second.do({ do: "touch", uri: URI });
            await news.waitFor(isUpdated, from);
            const before = news.items.length;
            second.do({ do: "change", list: "tools" });
            await news.waitFor((message) => message.method === "notifications/tools/list_changed", before);
            await session.end();
            if (name === "legacy") await second.receives((message) => message.method === "resources/unsubscribe");
            else
                await second.receives(
                    (message) => message.method === LISTEN && filterOf(message).resourceSubscriptions === undefined,
                );
        });
    }

    test("modern: another listen is acknowledged before the one before is cancelled", async () => {
        const child = latest("modern");
        const { session, news } = await subscribe(gateway, "/mcp/modern", "test://thing/1");
        assert.deepEqual((await session.request("resources/subscribe", { uri: "test://thing/2" })).result, {});
        const asking = (uris: string[]) => (message: RpcMessage) =>
            message.method === LISTEN && JSON.stringify(filterOf(message).resourceSubscriptions) === JSON.stringify(uris);
        const first = await child.receives(asking(["test://thing/1"]));
        const second = await child.receives(asking(["test://thing/1", "test://thing/2"]));
        const cancelled = await child.receives(
            ({ method, params }) => method === "notifications/cancelled" && params!.requestId === first.id,
        );
        const said = child.received();
        assert.ok(said.indexOf(second) < said.indexOf(cancelled));
        for (const uri of ["test://thing/1", "test://thing/2"]) child.do({ do: "touch", uri });
        await until(() => updates(news) === 2, "both are told");
        assert.deepEqual(news.items.filter(isUpdated).map(({ params }) => params), [
            { uri: "test://thing/1" },
            { uri: "test://thing/2" },
        ]);
        await session.end();
    });

    test("modern: it ends the listen in good order, and is asked again", async () => {
        const { session, news } = await subscribe(gateway, "/mcp/modern");
        latest("modern").do({ do: "end-listening" });
        await news.waitFor(isUpdated);
        assert.equal(updates(news), 1, "nobody knows what was missed");
        latest("modern").do({ do: "touch", uri: URI });
        await until(() => updates(news) === 2, "it is told again");
        await session.end();
    });
});

async function serve(
    t: TestContext,
    options: HttpOptions,
    config: Partial<ServerConfig> = {},
): Promise<{ fixture: HttpFixture; gateway: Gateway; brain: Brain }> {
    const fixture = await startHttp({ name: "srv", subscribe: true, ...options }, t);
    const gateway = await startGateway(
        { config: { server: { workers: 1 }, servers: { srv: { url: fixture.url, ...config } as ServerConfig } } },
        t,
    );
    return { fixture, gateway, brain: fixture.brain };
}

const modern = { revisions: [MODERN] };
const legacy = { revisions: [LEGACY] };

/** A request for subscriptions/listen that the test answers. */
interface Listen {
    acknowledge(): void;
    tell(uri: string, number: number): void;
    cut(): void;
}

/** A session that is subscribed to URI of a server that tells what the test says; `next` is asked for by the gateway. */
async function script(t: TestContext): Promise<{
    session: Session;
    news: Recording<RpcMessage>;
    listens: Listen[];
    next(): Promise<Listen>;
}> {
    const listens: Listen[] = [];
    let n = 0;
    const next = async () => {
        await until(() => listens.length > n, "it is asked to tell of changes");
        return listens[n++]!;
    };
    const on: HttpOptions["on"] = (exchange) => {
        const { method, id, params } = exchange.message;
        if (method !== LISTEN) return false;
        const stream = exchange.sse();
        const event = (method: string, params: object, meta: object = {}) =>
            stream.event({ jsonrpc: "2.0", method, params: { ...params, _meta: { ...meta, [SUBSCRIPTION_KEY]: id } } });
        listens.push({
            acknowledge: () => event(ACKNOWLEDGED, { notifications: params!.notifications }),
            tell: (uri, number) => event(UPDATED, { uri }, { "x/number": number }),
            cut: () => exchange.reset(),
        });
        return true;
    };
    const { gateway } = await serve(t, { ...modern, on });
    const first = next().then((listen) => listen.acknowledge()); // for lists
    const second = first.then(next).then((listen) => listen.acknowledge());
    const { session, news } = await subscribe(gateway, "/mcp/srv");
    await second;
    return { session, news, listens, next };
}

/** What is told of the resource; undefined: the gateway's own word. */
const numbers = (news: Recording<RpcMessage>, uri: string) =>
    news.items
        .filter((message) => isUpdated(message) && message.params!.uri === uri)
        .map(({ params }) => (params!._meta as { "x/number"?: number } | undefined)?.["x/number"]);

describe("HTTP servers of 2026-07-28", { concurrency: 2 }, () => {
    test("the catalog is read again when the server says so, though nobody listens", async (t) => {
        const { fixture, gateway, brain } = await serve(t, modern);
        const session = await openSession(gateway, "/mcp/srv");
        await until(() => brain.listening === 1, "the gateway listens");
        brain.change("tools");
        await until(async () => {
            const { result } = await session.request("tools/list");
            return (result!.tools as { name: string }[]).some(({ name }) => name === "extra-tool-1");
        }, "the list has what is new");
        assert.equal(fixture.received(LISTEN).length, 1);
        assert.deepEqual(fixture.complaints, []);
    });

    for (const how of ["cut", "ended in good order"]) {
        test(`the stream is ${how}: asked again, and everything may have changed`, async (t) => {
            const { fixture, gateway, brain } = await serve(t, {
                ...modern,
                on: (exchange) => {
                    if (exchange.message.method === LISTEN) sockets.push(() => exchange.reset());
                    return false;
                },
            });
            const sockets: (() => void)[] = [];
            const { news } = await subscribe(gateway, "/mcp/srv");
            await until(() => brain.listening === 1, "the one before has ended");
            const lists = fixture.received("tools/list").length;
            if (how === "cut") sockets.at(-1)!();
            else brain.endListening();
            await news.waitFor(isUpdated);
            await until(() => fixture.received("tools/list").length > lists, "lists are read again");
            assert.equal(updates(news), 1);
            assert.deepEqual(brain.subscribed, [URI]);
            brain.touch(URI);
            await until(() => updates(news) === 2, "it is told again");
        });
    }

    test("what both streams tell while one takes over is told once", async (t) => {
        const { gateway, brain } = await serve(t, modern);
        const { session, news } = await subscribe(gateway, "/mcp/srv", "test://thing/0");
        const told = (uri: string) => news.items.filter(({ params }) => params?.uri === uri).length;
        for (let i = 1; i <= 5; i++) {
            assert.deepEqual((await session.request("resources/subscribe", { uri: `test://thing/${i}` })).result, {});
            brain.touch("test://thing/0");
            await until(() => told("test://thing/0") === i, `update ${i} is told`);
        }
        await until(() => brain.listening === 1, "those before have ended");
        brain.touch("test://thing/5");
        await until(() => told("test://thing/5") === 1, "what comes after all others");
        assert.equal(told("test://thing/0"), 5);
    });

    test("told before the one that takes over is acknowledged, and by that again: told once", async (t) => {
        const { session, news, listens, next } = await script(t);
        for (let i = 1; i <= 20; i++) {
            const asked = session.request("resources/subscribe", { uri: `test://thing/${i}` });
            const [before, after] = [listens.at(-1)!, await next()];
            before.tell(URI, i);
            after.acknowledge();
            after.tell(URI, i);
            assert.deepEqual((await asked).result, {});
            after.tell(`test://thing/${i}`, i);
            await until(() => numbers(news, `test://thing/${i}`).length === 1, "what comes after it is told");
        }
        const told = numbers(news, URI).filter((number) => number !== undefined);
        assert.deepEqual(told, [...new Set(told)]);
        assert.equal(told.at(-1), 20);
    });

    test("told by the one before alone, and the next update by both: nothing is lost", async (t) => {
        const { session, news, listens, next } = await script(t);
        const asked = session.request("resources/subscribe", { uri: "test://thing/1" });
        const [before, after] = [listens.at(-1)!, await next()];
        before.tell(URI, 1);
        await until(() => numbers(news, URI).includes(1), "the first is told");
        after.acknowledge();
        assert.deepEqual((await asked).result, {});
        after.tell(URI, 2);
        before.tell(URI, 2);
        await until(() => numbers(news, URI).length === 2, "the second is told, or that there may be one");
        assert.notEqual(numbers(news, URI)[1], 1);
        after.tell(URI, 3);
        await until(() => numbers(news, URI).includes(3), "the third is told");
        assert.equal(numbers(news, URI).length, 3);
    });

    test("told by the one before alone, and the next update by the other one, before the one before is cut: nothing is lost", async (t) => {
        const { session, news, listens, next } = await script(t);
        const asked = session.request("resources/subscribe", { uri: "test://thing/1" });
        const [before, after] = [listens.at(-1)!, await next()];
        before.tell(URI, 1);
        await until(() => numbers(news, URI).includes(1), "the first is told");
        after.acknowledge();
        after.tell(URI, 2);
        after.tell("test://thing/1", 2);
        assert.deepEqual((await asked).result, {});
        await until(() => numbers(news, "test://thing/1").includes(2), "what comes after it is told");
        before.cut();
        await until(() => numbers(news, URI).some((number) => number !== 1), "the second is told, or that something was");
        assert.equal(numbers(news, URI).length, 2);
    });

    const refusals: { [what: string]: NonNullable<HttpOptions["on"]> } = {
        "HTTP 404": (exchange) => (exchange.empty(404), true),
        "-32601 with HTTP 404": (exchange) => (exchange.error(-32601, "Method not found", 404), true),
        "a result at once": (exchange) => (exchange.result({ resultType: "complete" }), true),
        "messages that are no JSON together": (exchange) => {
            const ack = { jsonrpc: "2.0", method: ACKNOWLEDGED, params: { notifications: {} } };
            exchange.text(200, "application/json", `${JSON.stringify(ack)}\n${JSON.stringify({ jsonrpc: "2.0" })}\n`);
            return true;
        },
        "a stream that ends at once": (exchange) => (exchange.sse().end(), true),
        "an acknowledgement of nothing, and the end": (exchange) => {
            const stream = exchange.sse();
            const _meta = { [SUBSCRIPTION_KEY]: exchange.message.id };
            stream.event({ jsonrpc: "2.0", method: ACKNOWLEDGED, params: { notifications: {}, _meta } });
            stream.end();
            return true;
        },
        "a reset": (exchange) => (exchange.reset(), true),
        "a page": (exchange) => (exchange.text(200, "text/html", "<p>hello</p>"), true),
    };
    for (const [what, refuse] of Object.entries(refusals)) {
        test(`asked for changes it answers with ${what}: all else goes on`, async (t) => {
            const on: HttpOptions["on"] = (exchange) => exchange.message.method === LISTEN && refuse(exchange);
            const { fixture, gateway } = await serve(t, { ...modern, on });
            const session = await openSession(gateway, "/mcp/srv");
            const { error } = await session.request("resources/subscribe", { uri: URI });
            assert.ok(error !== undefined && error.message.length > 0, JSON.stringify(error));
            for (let i = 0; i < 5; i++) assert.equal(text(await session.call("echo", { text: `${i}` })), `${i}`);
            assert.ok(fixture.received(LISTEN).length <= 4, `${fixture.received(LISTEN).length} requests`);
            assert.deepEqual(fixture.complaints, []);
        });
    }

    test("it never acknowledges: an error after the timeout", async (t) => {
        const on: HttpOptions["on"] = (exchange) => exchange.message.method === LISTEN && (exchange.sse(), true);
        const { gateway } = await serve(t, { ...modern, on }, { timeout: "300ms" });
        const session = await openSession(gateway, "/mcp/srv");
        const { error } = await session.request("resources/subscribe", { uri: URI });
        assert.match(error!.message, /in time/);
        assert.equal(text(await session.call("echo", { text: "a" })), "a");
    });

    test("to listen is no call: max_in_flight is for calls", async (t) => {
        const { gateway } = await serve(t, modern, { max_in_flight: 1 });
        const { session } = await subscribe(gateway, "/mcp/srv");
        assert.equal(text(await session.call("echo", { text: "a" })), "a");
    });
});

describe("HTTP servers with sessions", { concurrency: 2 }, () => {
    test("the stream is cut: opened again, and what may have been missed is told", async (t) => {
        const { fixture, gateway, brain } = await serve(t, legacy);
        const { news } = await subscribe(gateway, "/mcp/srv");
        for (const stream of fixture.streams) stream.socket.destroy();
        await news.waitFor(isUpdated);
        assert.equal(fixture.received("resources/subscribe").length, 1, "the session still is");
        brain.touch(URI);
        await until(() => updates(news) === 2, "it is told again");
    });

    test("the session is lost: asked again in the next one", async (t) => {
        const { fixture, gateway, brain } = await serve(t, legacy);
        const { session, news } = await subscribe(gateway, "/mcp/srv");
        fixture.expire();
        assert.equal(text(await session.call("echo", { text: "a" })), "a");
        await news.waitFor(isUpdated);
        assert.deepEqual(brain.subscribed, [URI]);
        brain.touch(URI);
        await until(() => updates(news) === 2, "it is told again");
    });

    test("there is no stream: what comes with the answers of calls is told", async (t) => {
        const { fixture, gateway } = await serve(t, { ...legacy, get: 405 });
        const { session, news } = await subscribe(gateway, "/mcp/srv");
        const act = fixture.act((exchange) => {
            const stream = exchange.sse();
            stream.event({ jsonrpc: "2.0", method: UPDATED, params: { uri: URI, "x/y": 1 } });
            stream.event(exchange.answer("told"));
            stream.end();
        });
        assert.equal(text(await session.call("echo", act)), "told");
        assert.deepEqual((await news.waitFor(isUpdated)).params, { uri: URI, "x/y": 1 });
    });

    test("it refuses, or never answers", async (t) => {
        const on: HttpOptions["on"] = (exchange) => {
            const { method, params } = exchange.message;
            return method === "resources/subscribe" && params!.uri === "test://thing/silent";
        };
        const { gateway } = await serve(t, { ...legacy, on }, { timeout: "300ms", startup_timeout: "1s" });
        const session = await openSession(gateway, "/mcp/srv");
        const answer = await session.request("resources/subscribe", { uri: "test://thing/silent" });
        assert.match(answer.error!.message, /in time/);
        assert.deepEqual((await session.request("resources/subscribe", { uri: "test://thing/loud" })).result, {});
    });

    test("it has no subscriptions", async (t) => {
        for (const [name, revisions] of [["old", [LEGACY]], ["new", [MODERN]]] as const) {
            const { gateway } = await serve(t, { name, revisions: [...revisions], subscribe: false });
            const session = await openSession(gateway, "/mcp/srv");
            const { error } = await session.request("resources/subscribe", { uri: URI });
            assert.equal(error!.code, -32601, JSON.stringify(error));
        }
    });
});

test("an instance that is watched is not idle; one that only listens by itself is", async (t) => {
    const fixtures = {
        watched: await startHttp({ name: "watched", ...modern, subscribe: true }, t),
        alone: await startHttp({ name: "alone", ...modern, subscribe: true }, t),
    };
    const servers = Object.fromEntries(
        Object.entries(fixtures).map(([name, { url }]) => [name, { url, idle_timeout: "1s" } as ServerConfig]),
    );
    const gateway = await startGateway({ config: { servers } }, t);
    await served(gateway, "watched__echo", "alone__echo");
    const { news } = await subscribe(gateway, "/mcp/watched");
    await until(() => fixtures.alone.brain.listening === 0, "it stops");
    assert.deepEqual(fixtures.watched.brain.subscribed, [URI]);
    fixtures.watched.brain.touch(URI);
    await news.waitFor(isUpdated);
});
