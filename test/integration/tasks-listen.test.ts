/*
 * notifications/tasks of the extension of 2026-07-28: a client listens to its tasks by the ids that the gateway gave
 * it, and hears what its server says of them, no matter by which transport, and of nobody else's.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { CAPABILITIES_KEY, MODERN, SUBSCRIPTION_KEY, TASKS, type BrainTask } from "./fixtures/brain.ts";
import { startHttp, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { startSdkTasks } from "./fixtures/tasks.ts";
import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { prepared } from "./lib/cli.ts";
import { startGateway, type Config, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, served, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, jwt, oauth, Tokens } from "./lib/principals.ts";
import { reload } from "./lib/reload.ts";
import { StdioClient } from "./lib/stdio-client.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const LISTEN = "subscriptions/listen";
const NEWS = "notifications/tasks";
const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";
const DECLARED = { extensions: { [TASKS]: {} } };

const TOKENS = new Tokens({ ann: undefined, bob: undefined });
const AUTH = { tokens: TOKENS.table };

type Params = { [key: string]: unknown };
const isNews = (message: RpcMessage) => message.method === NEWS;
const filterOf = (message: RpcMessage | undefined) => message!.params!.notifications as { taskIds?: string[] };
const hasTasks = (message: RpcMessage) => message.method === LISTEN && filterOf(message).taskIds !== undefined;
const client = (gateway: Gateway, path: string) => new ModernClient(gateway, path, { capabilities: DECLARED });

/** A task that has begun: its id, as the client knows it. */
async function begin(modern: ModernClient, tool = "task"): Promise<string> {
    const { result } = await modern.call(tool);
    assert.equal(result?.resultType, "task", JSON.stringify(result));
    return result!.taskId as string;
}

interface Listening {
    stream: Stream;
    acknowledged: RpcMessage;
    /** what was told of that task */
    news(taskId: string): Params[];
    next(taskId: string, from?: number): Promise<Params>;
}

let ids = 0;

async function listen(modern: ModernClient, taskIds: string[], more: object = {}): Promise<Listening> {
    const stream = await modern.stream(LISTEN, { notifications: { taskIds, ...more } }, { id: `listen-${++ids}` });
    const acknowledged = await stream.messages.waitFor(() => true);
    assert.equal(acknowledged.method, ACKNOWLEDGED, JSON.stringify(acknowledged));
    const isOf = (taskId: string) => (message: RpcMessage) => isNews(message) && message.params!.taskId === taskId;
    return {
        stream,
        acknowledged,
        news: (taskId) => stream.messages.items.filter(isOf(taskId)).map(({ params }) => params!),
        next: async (taskId, from) => (await stream.messages.waitFor(isOf(taskId), from)).params!,
    };
}

/** How the task ends, for whoever is told. */
const done = (text: string) => ({ status: "completed", result: { content: [{ type: "text", text }] } });
const textOf = (params: Params) => (params.result as { content: { text: string }[] }).content[0]!.text;

async function serve(
    t: TestContext,
    options: HttpOptions = {},
    server: Partial<ServerConfig> = {},
    config: Partial<Config> = {},
): Promise<{ fixture: HttpFixture; gateway: Gateway; modern: ModernClient }> {
    const fixture = await startHttp({ name: "srv", revisions: [MODERN], tasks: true, ...options }, t);
    const servers = { srv: { url: fixture.url, ...server } as ServerConfig };
    const gateway = await startGateway({ config: { server: { auth: AUTH }, servers, ...config } }, t);
    gateway.token = TOKENS.value.ann!;
    return { fixture, gateway, modern: client(gateway, "/mcp/srv") };
}

describe("from its beginning to its end", { concurrency: 1 }, () => {
    let control: Control, fixture: HttpFixture, gateway: Gateway;
    before(async () => {
        control = await startControl();
        fixture = await startHttp({ name: "http", revisions: [MODERN], tasks: true, subscribe: true });
        const child = { cmd: control.brain({ name: "child", revisions: [MODERN], tasks: true, subscribe: true }) };
        gateway = await startGateway({
            config: { server: { auth: AUTH }, servers: { http: { url: fixture.url }, child } },
        });
        gateway.token = TOKENS.value.ann!;
        await served(gateway, "http__task", "child__task");
    });
    after(async () => {
        await gateway?.stop();
        await fixture?.close();
        await control?.close();
    });

    /** The requests for changes that the server got, and what it is told to say. */
    const server = (name: string) => {
        const child = () => control.starts.items.find((process) => process.received(LISTEN).some(hasTasks));
        return name === "http"
            ? {
                  listens: () => fixture.received(LISTEN).map(({ message }) => message as RpcMessage),
                  tell: (taskId: string, more: object) => fixture.brain.tell(taskId, more),
              }
            : {
                  listens: () => child()?.received(LISTEN) ?? [],
                  tell: (taskId: string, more: object) => child()!.do({ do: "tell", task: { taskId, ...more } }),
              };
    };

    for (const name of ["http", "child"]) {
        for (const [path, tool] of [
            [`/mcp/${name}`, "task"],
            ["/mcp", `${name}__task`],
        ] as const) {
            test(`${name} at ${path}`, async () => {
                const modern = client(gateway, path);
                const { listens, tell } = server(name);
                const taskId = await begin(modern, tool);
                const before = listens().length;
                const heard = await listen(modern, [taskId], { toolsListChanged: true });
                const _meta = { [SUBSCRIPTION_KEY]: heard.acknowledged.params!._meta![SUBSCRIPTION_KEY] };
                assert.deepEqual(heard.acknowledged.params, {
                    notifications: { toolsListChanged: true, taskIds: [taskId] },
                    _meta,
                });
                const since = () => listens().slice(before).filter(hasTasks);
                await until(() => since().length > 0, "the child has said what it got");
                const asked = since()[0]!;
                const theirs = filterOf(asked).taskIds!;
                assert.equal(theirs.length, 1);
                assert.ok(theirs[0]!.startsWith(`${name}/`), "by the server's own id");
                assert.deepEqual((asked.params!._meta as Params)[CAPABILITIES_KEY], DECLARED);

                tell(theirs[0]!, { statusMessage: "half", "x/y": [1, { taskId: "inner" }] });
                const half = await heard.next(taskId);
                assert.deepEqual([half.status, half.statusMessage, half["x/y"]], ["working", "half", [1, { taskId: "inner" }]]);
                assert.deepEqual(half._meta, _meta);
                const got = (await modern.request("tasks/get", { taskId })).result!;
                const said = (task: Params) => ({ ...task, resultType: undefined, _meta: undefined });
                assert.deepEqual(said(half), said(got), "as tasks/get says it");

                const inputRequests = { who: { method: "elicitation/create", params: { message: "who?" } } };
                let from = heard.stream.messages.items.length;
                tell(theirs[0]!, { status: "input_required", inputRequests });
                assert.deepEqual((await heard.next(taskId, from)).inputRequests, inputRequests);
                from = heard.stream.messages.items.length;
                tell(theirs[0]!, { inputRequests: undefined, ...done("at last") });
                const last = await heard.next(taskId, from);
                assert.deepEqual([last.status, textOf(last)], ["completed", "at last"]);

                assert.ok(!JSON.stringify(heard.stream.messages.items).includes(theirs[0]!), "the server's id stays here");
                await until(() => filterOf(listens().at(-1)).taskIds === undefined, "nobody asks for what is over");
                heard.stream.close();
            });
        }
    }

    test("several, with resources, on two streams: each stream what it asked for", async () => {
        const modern = client(gateway, "/mcp/http");
        const tasks = [await begin(modern), await begin(modern), await begin(modern)];
        const theirs = [...fixture.brain.tasks.keys()].slice(-3);
        const resourceSubscriptions = ["test://one"];
        const first = await listen(modern, [tasks[0]!, tasks[1]!], { resourceSubscriptions });
        const second = await listen(modern, [tasks[1]!, tasks[2]!]);
        assert.deepEqual(first.acknowledged.params!.notifications, { resourceSubscriptions, taskIds: tasks.slice(0, 2) });
        for (const [index, id] of theirs.entries()) fixture.brain.tell(id, done(`${index}`));
        fixture.brain.touch("test://one");
        await Promise.all([
            first.next(tasks[0]!), first.next(tasks[1]!), second.next(tasks[1]!), second.next(tasks[2]!),
            first.stream.messages.waitFor(({ method }) => method === "notifications/resources/updated"),
        ]);
        assert.deepEqual([first.news(tasks[2]!), second.news(tasks[0]!)], [[], []]);
        assert.equal(textOf(second.news(tasks[2]!)[0]!), "2");
        for (const { stream } of [first, second]) stream.close();
        assert.deepEqual(fixture.complaints, []);
    });

    test("a client on stdio", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const cmd = control.brain({ name: "inner", revisions: [MODERN], tasks: true });
        const stdio = new StdioClient(["serve", "--stdio", ...prepared(folder, { servers: { inner: { cmd } } })]);
        const _meta = { [CAPABILITIES_KEY]: DECLARED };
        let taskId: unknown;
        await until(async () => {
            const { result } = await stdio.modern("tools/call", { name: "inner__task", arguments: {}, _meta });
            taskId = result?.taskId;
            return taskId !== undefined;
        }, "the task begins");
        void stdio.modern(LISTEN, { notifications: { taskIds: [taskId] }, _meta }, "l").catch(() => {});
        const acknowledged = await stdio.messages.waitFor(({ method }) => method === ACKNOWLEDGED);
        assert.deepEqual(acknowledged.params!.notifications, { taskIds: [taskId] });
        const child = control.starts.items.filter((process) => process.name === "inner").at(-1)!;
        const [theirs] = filterOf(await child.receives(hasTasks)).taskIds!;
        child.do({ do: "tell", task: { taskId: theirs, ...done("by pipe") } });
        const news = (await stdio.messages.waitFor(isNews)).params!;
        assert.deepEqual([news.taskId, textOf(news), news._meta], [taskId, "by pipe", { [SUBSCRIPTION_KEY]: "l" }]);
        // Nobody waits for the answer to a listen, whose client has closed its side.
        const closing = Date.now();
        assert.equal((await stdio.close()).code, 0);
        assert.ok(Date.now() - closing < 5000);
    });
});

describe("whose it is", { concurrency: 2 }, () => {
    for (const share of ["principal", "session"] as const) {
        test(`share = "${share}": each hears of its own`, async (t) => {
            const { fixture, gateway } = await serve(t, {}, { share });
            const ann = client(gateway, "/mcp/srv"), bob = client(TOKENS.as(gateway, "bob"), "/mcp/srv");
            const ours = [await begin(ann), await begin(bob)];
            const theirs = [...fixture.brain.tasks.keys()];
            const heard = [await listen(ann, ours), await listen(bob, ours)];
            for (const [index, { acknowledged }] of heard.entries())
                assert.deepEqual(acknowledged.params!.notifications, { taskIds: [ours[index]] });
            for (const id of theirs) fixture.brain.tell(id, { statusMessage: "on" });
            for (const id of theirs) fixture.brain.tell(id, done(`of ${theirs.indexOf(id)}`));
            for (const [index, each] of heard.entries()) {
                await each.stream.messages.waitFor(({ params }) => params?.status === "completed");
                const told = each.stream.messages.items.filter(isNews);
                assert.ok(told.every(({ params }) => params!.taskId === ours[index]), JSON.stringify(told));
                assert.equal(textOf(each.news(ours[index]!).at(-1)!), `of ${index}`);
                each.stream.close();
            }
        });
    }

    test("what is nobody's, another's or from elsewhere is left out, and nothing is asked for it", async (t) => {
        const legacy = await startSdkTasks("old");
        t.after(() => legacy.close());
        const other = await startHttp({ name: "other", revisions: [MODERN], tasks: true }, t);
        const fixture = await startHttp({ name: "srv", revisions: [MODERN], tasks: true }, t);
        const servers = { srv: { url: fixture.url }, other: { url: other.url }, old: { url: legacy.url } };
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers } }, t);
        gateway.token = TOKENS.value.ann!;
        await served(gateway, "srv__task", "other__task", "old__may");
        const modern = client(gateway, "/mcp/srv");
        const taskId = await begin(modern);
        const [theirs] = fixture.brain.tasks.keys();
        const merged = await begin(client(gateway, "/mcp"), "srv__task");
        const elsewhere = await begin(client(gateway, "/mcp/other"));
        const bobs = await begin(client(TOKENS.as(gateway, "bob"), "/mcp/srv"));
        const session = await openSession(gateway, "/mcp/old");
        const { result } = await session.request("tools/call", { name: "may", arguments: {}, task: {} });
        const old = (result as unknown as { task: { taskId: string } }).task.taskId;
        const turned = taskId.slice(0, 20) + (taskId[20] === "A" ? "B" : "A") + taskId.slice(21);
        const strange = [
            "", "made-up", theirs!, merged, elsewhere, bobs, old, turned, `${taskId}A`, taskId.slice(0, -1), `${taskId}\u0000`,
            "A".repeat(2048), "A".repeat(2049), "x".repeat(8192), "\u{1f600}",
        ];
        const heard = await listen(modern, [...strange, taskId, taskId, ...strange]);
        assert.deepEqual(heard.acknowledged.params!.notifications, { taskIds: [taskId] }, "once, though asked for twice");
        assert.deepEqual(fixture.brain.followed, [theirs]);
        for (const id of [...fixture.brain.tasks.keys()].reverse()) fixture.brain.tell(id, done("x"));
        await heard.next(taskId);
        assert.equal(heard.stream.messages.items.length, 2);
        // The same says nothing of one server's at the endpoint of another, and of a server without tasks.
        for (const path of ["/mcp/other", "/mcp/old", "/mcp"]) {
            const nothing = await listen(client(gateway, path), [taskId, old]);
            assert.deepEqual(nothing.acknowledged.params!.notifications, {}, path);
            nothing.stream.close();
        }
        // Nor does the client's id say anything as a resource's.
        const resource = await listen(modern, [], { resourceSubscriptions: [taskId] });
        assert.deepEqual(resource.acknowledged.params!.notifications, {});
        for (const { stream } of [heard, resource]) stream.close();
        await session.end();
    });

    test("what is no filter, and who has not declared the extension", async (t) => {
        const { gateway, modern, fixture } = await serve(t, { subscribe: true });
        const taskId = await begin(modern);
        const many = (n: number) => Array.from({ length: n }, () => taskId);
        const uris = Array.from({ length: 200 }, (_, index) => `test://thing/${index}`);
        for (const notifications of [
            { taskIds: taskId },
            { taskIds: [taskId, 7] },
            { taskIds: [[taskId]] },
            { taskIds: { 0: taskId } },
            { taskIds: null },
            { taskIds: many(257) },
            { resourceSubscriptions: uris, taskIds: many(57) },
            { taskIds: ["x".repeat(8193)] },
        ]) {
            const { error } = await modern.request(LISTEN, { notifications });
            assert.equal(error?.code, -32602, JSON.stringify(notifications).slice(0, 100));
        }
        const most = await listen(modern, many(56), { resourceSubscriptions: uris });
        assert.deepEqual(filterOf(most.acknowledged).taskIds, [taskId]);
        most.stream.close();
        const plain = new ModernClient(gateway, "/mcp/srv");
        const before = fixture.received(LISTEN).length;
        const answer = await plain.ask(LISTEN, { notifications: { taskIds: [taskId] } });
        const data = { requiredCapabilities: { extensions: { [TASKS]: {} } } };
        assert.deepEqual([answer.status, answer.messages[0]!.error!.code, answer.messages[0]!.error!.data], [400, -32021, data]);
        const none = await plain.stream(LISTEN, { notifications: { taskIds: [] } });
        assert.deepEqual((await none.messages.waitFor(() => true)).params!.notifications, {});
        none.close();
        assert.ok(fixture.received(LISTEN).length <= before + 1, "nothing but the end of what was wanted");
    });

    test("scopes: asked at the beginning, and for each that is told", async (t) => {
        const fixture = await startHttp({ name: "srv", revisions: [MODERN], tasks: true }, t);
        const config = (scopes: string[]) => ({
            server: { auth: {}, oauth },
            servers: { srv: { url: fixture.url, scopes, share: "principal" } as ServerConfig },
        });
        const gateway = await startGateway({ config: config(["use"]) }, t);
        const full = client(as(gateway, jwt({ sub: "eve", scope: "use more" })), "/mcp/srv");
        const some = client(as(gateway, jwt({ sub: "eve", scope: "use" })), "/mcp/srv");
        const none = client(as(gateway, jwt({ sub: "eve", scope: "read" })), "/mcp/srv");
        const taskId = await begin(full);
        const [theirs] = fixture.brain.tasks.keys();
        const refused = await listen(none, [taskId]);
        assert.deepEqual(refused.acknowledged.params!.notifications, {});
        const heard = [await listen(full, [taskId]), await listen(some, [taskId])];
        for (const { acknowledged } of heard) assert.deepEqual(filterOf(acknowledged).taskIds, [taskId]);
        fixture.brain.tell(theirs!, { statusMessage: "both" });
        for (const each of heard) await each.next(taskId);
        await reload(gateway, config(["use", "more"]));
        await until(() => fixture.brain.followed.length > 0, "it is followed");
        fixture.brain.tell(theirs!, done("one"));
        const isOver = ({ params }: RpcMessage) => params?.status === "completed";
        await heard[0]!.stream.messages.waitFor(isOver);
        await within(heard[1]!.stream.ended, "it lacks a scope now");
        assert.ok(!heard[1]!.stream.messages.items.some(isOver));
        assert.equal((await some.request("tasks/get", { taskId })).error?.code !== undefined, true, "as with tasks/get");
        for (const { stream } of [...heard, refused]) stream.close();
    });

    for (const how of ["silent", "busy"]) {
        test(`a credential that ends, on a stream that is ${how}`, async (t) => {
            const fixture = await startHttp({ name: "srv", revisions: [MODERN], tasks: true }, t);
            const limits = { keepalive: how === "silent" ? "1s" : "1h" };
            const ends = Date.now() + 5000;
            const tokens = { ann: { ...(TOKENS.table.ann as object), expires: new Date(ends).toISOString() } };
            const server = { auth: { tokens }, limits };
            const gateway = await startGateway({ config: { server, servers: { srv: { url: fixture.url } } } }, t);
            const modern = client(TOKENS.as(gateway, "ann"), "/mcp/srv");
            const taskId = await begin(modern);
            const [theirs] = fixture.brain.tasks.keys();
            const heard = await listen(modern, [taskId]);
            let n = 0, last = 0;
            const timer = how === "busy" ? setInterval(() => fixture.brain.tell(theirs!, { n: ++n }), 20) : undefined;
            t.after(() => clearInterval(timer));
            void heard.stream.messages.waitFor(({ result }) => result !== undefined).catch(() => {});
            await within(heard.stream.ended.then(() => (last = Date.now())), "the stream ends");
            assert.ok(last >= ends, "not before its time");
            assert.equal(heard.stream.messages.items.at(-1)!.result?.resultType, "complete");
        });
    }
});

describe("what is missed, and what is too much", { concurrency: 2 }, () => {
    test("long results, which are not kept, are asked for", async (t) => {
        const { fixture, modern } = await serve(t);
        for (const size of [15_000, 17_000, 2_000_000]) {
            const taskId = await begin(modern);
            const theirs = [...fixture.brain.tasks.keys()].at(-1)!;
            const heard = await listen(modern, [taskId]);
            const text = "\u00e4".repeat(size / 2);
            const asked = fixture.received("tasks/get").length;
            fixture.brain.tell(theirs, done(text));
            const last = await heard.next(taskId);
            assert.equal(textOf(last), text);
            assert.deepEqual(Object.keys(last).sort(), [
                "_meta", "createdAt", "lastUpdatedAt", "pollIntervalMs", "result", "status", "taskId", "ttlMs",
            ]);
            assert.deepEqual(last._meta, heard.acknowledged.params!._meta, "nothing of an answer is left");
            assert.equal(fixture.received("tasks/get").length - asked, size > 16_000 ? 1 : 0);
            heard.stream.close();
        }
        assert.deepEqual(fixture.complaints, []);
    });

    test("a stream of the server's that is cut: what became of many tasks meanwhile", async (t) => {
        const sockets: (() => void)[] = [];
        const { fixture, modern } = await serve(t, {
            on: (exchange) => {
                if (exchange.message.method === LISTEN) sockets.push(() => exchange.reset());
                return false;
            },
        });
        const tasks: string[] = [];
        for (let i = 0; i < 20; i++) tasks.push(await begin(modern));
        const theirs = [...fixture.brain.tasks.keys()];
        const heard = await listen(modern, tasks);
        assert.equal(filterOf(heard.acknowledged).taskIds!.length, 20);
        await until(() => fixture.brain.followed.length === 20, "each once");
        for (const cut of sockets) cut();
        await until(() => fixture.brain.followed.length === 0, "it is cut");
        for (const id of theirs.slice(0, 19)) fixture.brain.tell(id, done(id));
        for (const [index, id] of tasks.entries()) {
            const told = await heard.next(id);
            assert.equal(told.status, index < 19 ? "completed" : "working");
            if (index < 19) assert.equal(textOf(told), theirs[index]);
        }
        await until(() => fixture.brain.followed.length === 1, "what is over is not asked for any more");
        const from = heard.stream.messages.items.length;
        fixture.brain.tell(theirs[19]!, done("the last"));
        assert.equal(textOf(await heard.next(tasks[19]!, from)), "the last");
        for (const id of tasks.slice(0, 19)) assert.equal(heard.news(id).length, 1, "once");
        heard.stream.close();
        assert.deepEqual(fixture.complaints, []);
    });

    test("a server that has forgotten the task: the stream ends, and the next one leaves it out", async (t) => {
        const { fixture, modern } = await serve(t);
        const taskId = await begin(modern);
        const heard = await listen(modern, [taskId]);
        fixture.brain.tasks.clear();
        fixture.brain.endListening();
        await within(heard.stream.ended, "the stream ends");
        assert.deepEqual(heard.stream.messages.items.slice(1).map(({ method, result }) => method ?? result!.resultType), ["complete"]);
        const again = await listen(modern, [taskId]);
        assert.deepEqual(again.acknowledged.params!.notifications, {});
        again.stream.close();
    });

    test("a server that does not tell of it any more, but knows how it ended", async (t) => {
        let isDeaf = false;
        const { fixture, modern } = await serve(t, {
            subscribe: true,
            on: (exchange) => {
                if (isDeaf && exchange.message.method === LISTEN) delete filterOf(exchange.message as RpcMessage).taskIds;
                return false;
            },
        });
        const [ended, open] = [await begin(modern), await begin(modern)];
        const [theirs] = fixture.brain.tasks.keys();
        const one = await listen(modern, [ended]), other = await listen(modern, [open]);
        await until(() => fixture.brain.followed.length === 2, "each once");
        isDeaf = true;
        fixture.brain.endListening();
        fixture.brain.tell(theirs!, done("unheard"));
        assert.equal(textOf(await one.next(ended)), "unheard");
        await within(other.stream.ended, "nobody tells of the other one");
        assert.equal(other.news(open)[0]!.status, "working");
        const { result } = await modern.request("tasks/get", { taskId: ended });
        assert.equal(result!.status, "completed");
        assert.equal(one.stream.messages.items.some(({ result: end }) => end !== undefined), false, "that stream goes on");
        one.stream.close();
    });

    test("a child that crashes takes its tasks with it: the stream ends", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const cmd = control.brain({ name: "child", revisions: [MODERN], tasks: true });
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers: { child: { cmd, idle_timeout: "1s" } } } }, t);
        gateway.token = TOKENS.value.ann!;
        await served(gateway, "child__task");
        const modern = client(gateway, "/mcp/child");
        const taskId = await begin(modern);
        const heard = await listen(modern, [taskId]);
        const follows = (process: FixtureProcess) => process.received(LISTEN).some(hasTasks);
        await until(() => control.starts.items.some(follows), "the child has said what it got");
        const first = control.starts.items.find(follows)!;
        const [theirs] = filterOf(first.received(LISTEN).find(hasTasks)).taskIds!;
        first.do({ do: "tell", task: { taskId: theirs, statusMessage: "alive" } });
        await heard.next(taskId);
        const count = control.count("child");
        first.do({ do: "exit" });
        await within(heard.stream.ended, "the stream ends");
        await until(() => control.count("child") > count, "it was started again, and asked");
    });

    test("a child is not idle while somebody listens to its task, and is when that is over", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const server = (name: string) => ({
            cmd: control.brain({ name, revisions: [MODERN], tasks: true }),
            idle_timeout: "1s",
            share: "session" as const, // no other instance but the caller's
        });
        const servers = { followed: server("followed"), alone: server("alone") };
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers } }, t);
        gateway.token = TOKENS.value.ann!;
        const modern = client(gateway, "/mcp/followed");
        const taskId = await begin(modern);
        const heard = await listen(modern, [taskId]);
        const follows = (process: FixtureProcess) => process.received(LISTEN).some(hasTasks);
        await until(() => control.starts.items.some(follows), "the child has said what it got");
        const child = control.starts.items.find(follows)!;
        await begin(client(gateway, "/mcp/alone"));
        const calls = (process: FixtureProcess) => process.name === "alone" && process.received("tools/call").length > 0;
        await until(() => control.starts.items.some(calls), "the other one has said what it got");
        await control.starts.items.find(calls)!.isGone();
        const [theirs] = filterOf(child.received(LISTEN).find(hasTasks)).taskIds!;
        child.do({ do: "tell", task: { taskId: theirs, ...done("still there") } });
        assert.equal(textOf(await heard.next(taskId)), "still there");
        await child.isGone();
        heard.stream.close();
    });

    test("a server that is configured anew: listened to again, with what became meanwhile", async (t) => {
        const fixture = await startHttp({ name: "srv", revisions: [MODERN], tasks: true }, t);
        const config = (timeout: string): Config => ({
            server: { auth: AUTH, session_idle_timeout: "1s" },
            servers: { srv: { url: fixture.url, timeout } as ServerConfig },
        });
        const gateway = await startGateway({ config: config("5s") }, t);
        gateway.token = TOKENS.value.ann!;
        const modern = client(gateway, "/mcp/srv");
        const [taskId, other] = [await begin(modern), await begin(modern)];
        const [theirs, second] = fixture.brain.tasks.keys();
        const heard = await listen(modern, [taskId, other]);
        Object.assign(fixture.brain.tasks.get(theirs!)!, done("between")); // and is told by nobody
        await reload(gateway, config("6s"));
        assert.equal(textOf(await heard.next(taskId)), "between");
        assert.equal((await heard.next(other)).status, "working");
        const from = heard.stream.messages.items.length;
        fixture.brain.tell(second!, done("after"));
        assert.equal(textOf(await heard.next(other, from)), "after");
        // Shared by all from now on: nobody knows whose tasks those are. Or taken out: nobody will tell of them.
        for (const what of ["shared", "gone"]) {
            await reload(gateway, config("7s"));
            const merged = client(gateway, "/mcp");
            const id = await begin(merged, "srv__task");
            const open = await listen(merged, [id]);
            const servers = what === "shared" ? { srv: { url: fixture.url, share: "all" } as ServerConfig } : {};
            await reload(gateway, { ...config("5s"), servers: { ...servers, other: { url: fixture.url } } });
            await within(open.stream.ended, `${what}: the stream of one that goes on ends`);
            const nothing = await listen(merged, [id]);
            assert.deepEqual(nothing.acknowledged.params!.notifications, {});
            nothing.stream.close();
        }
        heard.stream.close();
    });

    test("what a server should not say", async (t) => {
        const { fixture, gateway, modern } = await serve(t);
        const [taskId, other] = [await begin(modern), await begin(modern)];
        const bob = client(TOKENS.as(gateway, "bob"), "/mcp/srv");
        const bobs = await begin(bob);
        const [mine, second, his] = [...fixture.brain.tasks.keys()] as [string, string, string];
        const heard = await listen(modern, [taskId]), hisEar = await listen(bob, [bobs]);
        const { brain } = fixture;
        const task = brain.tasks.get(mine)!;
        for (const params of [
            { ...brain.tasks.get(second)!, status: "completed" },
            { ...task, taskId: `${mine}x` },
            { ...task, taskId: taskId },
            { ...task, taskId: 7 },
            { ...task, taskId: [mine] },
            { ...task, taskId: undefined },
            { task },
            {},
        ])
            brain.say(mine, params);
        // Of one that only another caller listens to.
        brain.say(his, { ...brain.tasks.get(his)!, statusMessage: "his" });
        assert.equal((await hisEar.next(bobs)).statusMessage, "his");
        brain.say(mine, { ...task, taskId: mine, status: "a new status", "x": { [mine]: 1 } });
        assert.equal((await heard.next(taskId)).status, "a new status", "passed on as it is");
        assert.deepEqual(heard.stream.messages.items.length, 2, JSON.stringify(heard.stream.messages.items));
        assert.deepEqual([heard.news(other), hisEar.stream.messages.items.length], [[], 2]);
        // A flood: the last of it is told, and not more than was said.
        for (let i = 0; i < 5000; i++) brain.tell(mine, { status: "working", i });
        for (let i = 0; i < 20; i++) brain.say(mine, { ...task, long: "x".repeat(40_000) });
        brain.tell(mine, done("after the flood"));
        const isOver = ({ params }: RpcMessage) => params?.status === "completed";
        assert.equal(textOf((await heard.stream.messages.waitFor(isOver)).params!), "after the flood");
        const numbers = heard.news(taskId).flatMap(({ i, long }) => (long === undefined && i !== undefined ? [i as number] : []));
        assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b), "in the order in which they were said");
        // After its end nothing comes.
        const from = heard.stream.messages.items.length;
        brain.say(mine, { ...task, status: "working" });
        brain.tell(his, done("x"));
        await hisEar.stream.messages.waitFor(isOver);
        assert.equal(heard.stream.messages.items.length, from);
        for (const { stream } of [heard, hisEar]) stream.close();
    });

    test("an answer that is another task's, or never comes, ends the stream", async (t) => {
        for (const lie of ["another", "no task", "nothing"]) {
            const { fixture, modern } = await serve(
                t,
                {
                    on: (exchange) => {
                        if (exchange.message.method !== "tasks/get") return false;
                        const task = { ...fixture.brain.tasks.values().next().value! } as BrainTask;
                        if (lie === "another") exchange.result({ resultType: "complete", ...task, taskId: "task-x" });
                        else if (lie === "no task") exchange.result({ resultType: "complete" });
                        return true;
                    },
                },
                { timeout: "500ms" },
            );
            const taskId = await begin(modern);
            const heard = await listen(modern, [taskId]);
            fixture.brain.tell([...fixture.brain.tasks.keys()][0]!, done("x".repeat(20_000)));
            await within(heard.stream.ended, `${lie}: the stream ends`);
            assert.equal(heard.news(taskId).length, 0);
        }
    });

    test("hanging up while the gateway asks; and with the gateway", async (t) => {
        let asked = 0;
        const { fixture, gateway, modern } = await serve(t, {
            on: (exchange) => {
                asked += exchange.message.method === "tasks/get" ? 1 : 0;
                return exchange.message.method === "tasks/get";
            },
        });
        for (const how of ["client", "gateway"]) {
            const n = asked;
            const tasks = [await begin(modern), await begin(modern)];
            const heard = await listen(modern, tasks);
            for (const id of [...fixture.brain.tasks.keys()].slice(-2)) fixture.brain.tell(id, done("x".repeat(20_000)));
            await until(() => asked === n + 2, "it is asked");
            if (how === "client") {
                heard.stream.close();
                await until(() => fixture.brain.followed.length === 0, "nobody listens");
            } else {
                await gateway.stop();
            }
        }
    });
});
