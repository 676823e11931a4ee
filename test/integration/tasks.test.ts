/*
 * Tasks: of 2025-11-25 and of the extension of 2026-07-28, each within its era; and what the gateway runs to completion
 * because a client of another era, or one that has not asked for a task, would not know what to do with one.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test, type TestContext } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

import { startHttp, type EventStream, type HttpFixture } from "./fixtures/http-server.ts";
import { EXTENSION, ExtensionTasks, relatedTask, startSdkTasks, type SdkTasks } from "./fixtures/tasks.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { initialize, openSession, send, served, Session, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { packaged } from "./lib/parity.ts";
import { trailOf } from "./lib/audit.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { refusal } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const token = () => `cardea_${randomBytes(32).toString("base64url")}`;
const hash = (value: string) => `sha256:${createHash("sha256").update(value).digest("hex")}`;
const TOKENS = { ann: token(), bob: token() };
const AUTH = { tokens: Object.fromEntries(Object.entries(TOKENS).map(([name, value]) => [name, { hash: hash(value) }])) };

interface Created {
    task: { taskId: string; status: string; ttl: number; pollInterval: number };
}

/** A call of the SDK's client as a task: the messages that it saw, and the text at the end. */
async function runTask(peer: Client, name: string): Promise<{ id: string; said: string }> {
    let id = "", said = "";
    const stream = peer.experimental.tasks.callToolStream({ name, arguments: {} }, CallToolResultSchema, { task: {} });
    for await (const message of stream) {
        if (message.type === "taskCreated") id = message.task.taskId;
        if (message.type === "result") said = (message.result.content as { text: string }[])[0]!.text;
        if (message.type === "error") throw message.error;
    }
    return { id, said };
}

async function connect(gateway: Gateway, path: string, bearer = TOKENS.ann): Promise<Client> {
    const peer = new Client({ name: "sdk-1", version: "1" }, { capabilities: { elicitation: { form: {} } } });
    peer.setRequestHandler(ElicitRequestSchema, async () => ({ action: "accept", content: { name: "Ann" } }));
    const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${gateway.port}${path}`), {
        requestInit: { headers: { Authorization: `Bearer ${bearer}` } },
    });
    await within(peer.connect(transport), "SDK 1.x connects");
    return peer;
}

describe("2025-11-25", () => {
    let tasks: SdkTasks, other: SdkTasks;
    let gateway: Gateway;
    before(async () => {
        tasks = await startSdkTasks("one");
        other = await startSdkTasks("two");
        gateway = await startGateway({
            config: { server: { auth: AUTH }, servers: { one: { url: tasks.url }, two: { url: other.url } } },
        });
        gateway.token = TOKENS.ann;
        await served(gateway, "one__may", "two__may");
    });
    after(async () => {
        await gateway.stop();
        await Promise.all([tasks.close(), other.close()]);
    });
    const begin = async (session: Session, name: string, task: object = { ttl: 60_000 }): Promise<Created["task"]> => {
        const answer = await session.request("tools/call", { name, arguments: {}, task });
        assert.equal(answer.error, undefined, JSON.stringify(answer));
        return (answer.result as unknown as Created).task;
    };

    /** Ends what runs by this name, as soon as it runs. */
    const finish = async (name: string, from: number) => {
        const isRunning = async () => {
            const ids = tasks.ids.slice(from);
            const all = await Promise.all(ids.map((id) => tasks.store.getTask(id)));
            return all.length > 0 && all.every((task) => task?.status === "working");
        };
        await until(isRunning, () => `${name} runs`);
        tasks.gates.release(name);
    };
    const ending = async <T>(name: string, running: Promise<T>): Promise<T> => {
        const from = tasks.ids.length;
        const [ended] = await Promise.allSettled([within(running, `${name} ends`), finish(name, from)]);
        if (ended.status === "rejected") throw ended.reason as Error;
        return ended.value;
    };

    for (const [path, prefix] of [
        ["/mcp/one", ""],
        ["/mcp", "one__"],
    ] as const) {
        test(`the SDK's client runs tasks at ${path}`, async () => {
            const peer = await connect(gateway, path);
            assert.deepEqual(peer.getServerCapabilities()!.tasks, {
                list: {},
                cancel: {},
                requests: { tools: { call: {} } },
            });
            const { tools } = await peer.listTools();
            const support = tools.find((tool) => tool.name === `${prefix}must`)!.execution?.taskSupport;
            assert.equal(support, "required");
            for (const name of ["may", "must"]) {
                const { id, said } = await ending(name, runTask(peer, `${prefix}${name}`));
                assert.equal(said, `${name} is done`);
                assert.ok(!tasks.ids.includes(id), "the client has an id of ours");
                // It stays what it is.
                const got = await peer.experimental.tasks.getTask(id);
                assert.deepEqual([got.taskId, got.status], [id, "completed"]);
                const result = await peer.experimental.tasks.getTaskResult(id, CallToolResultSchema);
                assert.equal(relatedTask(result as never), id);
            }
            const { said } = await within(runTask(peer, `${prefix}asks`), "asks ends");
            assert.equal(said, JSON.stringify({ name: "Ann" }));
            await assert.rejects(ending("fails", runTask(peer, `${prefix}fails`)), /failed/);
            await peer.close();
        });
    }

    test("cancelled, listed, and what cannot be cancelled any more", async () => {
        const session = await openSession(gateway);
        const [mine, theirs] = [await begin(session, "one__may"), await begin(session, "two__may")];
        assert.notEqual(mine.taskId, theirs.taskId);
        const listed: string[] = [];
        let cursor: unknown, pages = 0;
        do {
            const { result } = await session.request("tasks/list", cursor === undefined ? {} : { cursor });
            listed.push(...(result!.tasks as { taskId: string }[]).map((task) => task.taskId));
            cursor = result!.nextCursor;
            assert.ok(++pages < 20);
        } while (cursor !== undefined);
        assert.ok(listed.includes(mine.taskId) && listed.includes(theirs.taskId), JSON.stringify(listed));
        assert.equal(new Set(listed).size, listed.length);
        assert.ok(pages >= 2, "one of each server at least");
        const gone = await session.request("tasks/cancel", { taskId: mine.taskId });
        assert.deepEqual([gone.result!.taskId, gone.result!.status], [mine.taskId, "cancelled"]);
        const again = await session.request("tasks/cancel", { taskId: mine.taskId });
        assert.notEqual(again.error, undefined);
        await session.request("tasks/cancel", { taskId: theirs.taskId });
        assert.equal((await session.request("tasks/list", { cursor: "AAAA" })).error!.code, -32602);
        await session.end();
    });

    test("an id is good for its caller and its endpoint, and as it is", async () => {
        const ann = await openSession(gateway, "/mcp/one");
        const { taskId } = await begin(ann, "may");
        const other = await openSession(gateway, "/mcp", undefined);
        const bob = await openSession({ ...gateway, port: gateway.port, token: TOKENS.bob } as Gateway, "/mcp/one");
        const get = async (session: Session, id: unknown) => session.request("tasks/get", { taskId: id });
        assert.equal((await get(ann, taskId)).result!.status, "working");
        const made = (await get(ann, "made-up")).error!;
        assert.deepEqual(made, { code: -32602, message: "unknown task" });
        const turned = taskId.slice(0, 20) + (taskId[20] === "A" ? "B" : "A") + taskId.slice(21);
        for (const [session, id] of [
            [bob, taskId],
            [other, taskId],
            [ann, turned],
            [ann, taskId.slice(0, -4)],
            [ann, `${taskId}AAAA`],
            [ann, `${taskId}\u0000`],
            [ann, tasks.ids.at(-1)],
            [ann, ""],
            [ann, "A".repeat(2048)],
            [ann, "A".repeat(2049)],
            [ann, "x".repeat(900_000)],
        ] as const) {
            for (const method of ["tasks/get", "tasks/result", "tasks/cancel"]) {
                assert.deepEqual((await session.request(method, { taskId: id })).error, made, `${method} ${String(id).slice(0, 60)}`);
            }
        }
        for (const id of [undefined, null, 7, {}]) assert.equal((await get(ann, id)).error!.code, -32602);
        assert.equal((await get(ann, taskId)).result!.status, "working");
        // Another session of the same caller may ask.
        const second = await openSession(gateway, "/mcp/one");
        assert.equal((await get(second, taskId)).result!.status, "working");
        await ann.request("tasks/cancel", { taskId });
        for (const session of [ann, other, second]) await session.end();
    });

    test("who has not asked for a task gets the result of one", async () => {
        for (const version of ["2025-03-26", "2025-06-18", "2025-11-25"]) {
            const session = await openSession(gateway, "/mcp/one", version);
            const answer = await ending("must", session.request("tools/call", { name: "must", arguments: {} }));
            assert.equal(text(answer), "must is done");
            assert.equal(relatedTask(answer.result as never) === undefined, version !== "2025-11-25");
            // Of another revision `task` means nothing.
            if (version !== "2025-11-25") {
                const params = { name: "may", arguments: {}, task: {} };
                assert.equal(text(await ending("may", session.request("tools/call", params))), "may is done");
                assert.equal((await session.request("tasks/get", { taskId: "x" })).error!.code, -32601);
            }
            await session.end();
        }
    });

    test("a client of 2026-07-28 gets results, and its input asked for", async () => {
        const modern = new ModernClient(gateway, "/mcp", { capabilities: { elicitation: { form: {} } } });
        const listed = (await modern.request("tools/list")).result!.tools as { name: string; execution?: object }[];
        assert.ok(listed.every((tool) => tool.execution === undefined));
        assert.equal(text(await ending("must", modern.call("one__must"))), "must is done");
        const params = { name: "one__asks", arguments: {} };
        const wanted = (await modern.request("tools/call", params)).result as { [key: string]: unknown };
        assert.equal(wanted.resultType, "input_required", JSON.stringify(wanted));
        const keys = Object.keys(wanted.inputRequests as object);
        const said = { action: "accept", content: { name: "Eve" } };
        const inputResponses = Object.fromEntries(keys.map((key) => [key, said]));
        const answer = await modern.request("tools/call", { ...params, inputResponses, requestState: wanted.requestState });
        assert.equal(text(answer), JSON.stringify({ name: "Eve" }));
        assert.equal(relatedTask(answer.result as never), undefined);
    });

    test("progress goes on under the token of the call that began the task", async () => {
        const session = await openSession(gateway, "/mcp/one");
        const other = await openSession(gateway, "/mcp/one");
        const _meta = { progressToken: "mine" };
        const task = async () => {
            const { result } = await session.request("tools/call", { name: "may", arguments: {}, task: {}, _meta });
            return (result as unknown as Created).task.taskId;
        };
        const isProgress = (item: RpcMessage) => item.method === "notifications/progress";
        const wait = async (from: Session, taskId: string) =>
            from.stream({ method: "POST", body: { jsonrpc: "2.0", id: `r ${taskId}`, method: "tasks/result", params: { taskId } } });
        const [first, second] = [await task(), await task()];
        const waiting = wait(session, first), elsewhere = wait(other, second);
        const told = await (await waiting).messages.waitFor(isProgress);
        assert.deepEqual([told.params!.progressToken, relatedTask(told.params as never)], ["mine", first]);
        tasks.gates.release("may");
        const ended = await elsewhere;
        await ended.messages.waitFor((item) => item.id !== undefined);
        assert.equal(ended.messages.items.filter(isProgress).length, 0, "the token is of another session");
        // Of a call that the gateway runs as a task, it is that of any call.
        const running = session.stream({
            method: "POST",
            body: { jsonrpc: "2.0", id: "run", method: "tools/call", params: { name: "must", arguments: {}, _meta } },
        });
        const run = await running;
        const own = await run.messages.waitFor(isProgress);
        assert.equal(own.params!.progressToken, "mine");
        tasks.gates.release("must");
        await run.messages.waitFor((item) => item.id === "run");
        for (const each of [session, other]) await each.end();
    });

    test("hanging up and cancelling end the task that nobody waits for", async () => {
        const n = tasks.ids.length, before = tasks.seen.length;
        const waiting = () => tasks.seen.slice(before).filter((method) => method === "tasks/result").length;
        const abort = new AbortController();
        const modern = new ModernClient(gateway, "/mcp/one");
        const params = { name: "must", arguments: {} };
        const hung = modern.stream("tools/call", params, { signal: abort.signal }).catch(() => {});
        const session = await openSession(gateway, "/mcp/one");
        const cancelled = session.send({ body: { jsonrpc: "2.0", id: "c", method: "tools/call", params } });
        await until(
            () => waiting() === 2,
            () => `both wait, not ${waiting()}`,
        );
        abort.abort();
        await session.notify("notifications/cancelled", { requestId: "c" });
        for (const id of tasks.ids.slice(n)) {
            await until(
                async () => (await tasks.store.getTask(id))!.status === "cancelled",
                () => `${id} is cancelled`,
            );
        }
        await Promise.all([hung, cancelled]);
        await session.end();
    });
});

describe("the extension of 2026-07-28", () => {
    const DECLARED = { extensions: { [EXTENSION]: {} } };
    const start = async (t: TestContext, more: object = {}): Promise<{ tasks: ExtensionTasks; fixture: HttpFixture; gateway: Gateway }> => {
        const tasks = new ExtensionTasks();
        const fixture = await startHttp(tasks.options, t);
        const servers = { http: { url: fixture.url, ...more } };
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers } }, t);
        gateway.token = TOKENS.ann;
        await served(gateway, "http__echo");
        return { tasks, fixture, gateway };
    };
    const begin = async (modern: ModernClient, name: string) => {
        const { result } = await modern.call(name);
        assert.equal(result!.resultType, "task", JSON.stringify(result));
        return result as { taskId: string; pollIntervalMs: number };
    };
    const codeOf = (answer: RpcMessage) => answer.error?.code;

    test("a task from its beginning to its end, with input", async (t) => {
        const { tasks, fixture, gateway } = await start(t);
        for (const [path, prefix] of [
            ["/mcp/http", ""],
            ["/mcp", "http__"],
        ] as const) {
            const modern = new ModernClient(gateway, path, { capabilities: { ...DECLARED, elicitation: { form: {} } } });
            const { result } = await modern.request("server/discover");
            assert.deepEqual((result!.capabilities as { extensions: object }).extensions, { [EXTENSION]: {} });
            const created = await begin(modern, `${prefix}slow`);
            assert.notEqual(created.taskId, tasks.last.taskId);
            assert.equal(created.pollIntervalMs, 300);
            const get = async () => (await modern.request("tasks/get", { taskId: created.taskId })).result!;
            assert.deepEqual([(await get()).taskId, (await get()).status], [created.taskId, "working"]);
            const asked = { who: { method: "elicitation/create", params: { message: "who?" } } };
            Object.assign(tasks.last, { status: "input_required", inputRequests: asked });
            assert.deepEqual((await get()).inputRequests, asked);
            const inputResponses = { who: { action: "accept", content: { name: "Ann" } } };
            const updated = await modern.request("tasks/update", { taskId: created.taskId, inputResponses });
            assert.equal(updated.result!.resultType, "complete");
            assert.deepEqual(tasks.updates.at(-1), inputResponses);
            tasks.complete(tasks.last, "at last");
            assert.equal(text({ result: (await get()).result } as RpcMessage), "at last");
            const ended = await begin(modern, `${prefix}slow`);
            assert.equal((await modern.request("tasks/cancel", { taskId: ended.taskId })).result!.resultType, "complete");
            assert.equal(tasks.cancelled.at(-1), tasks.last.taskId);
        }
        assert.deepEqual(fixture.complaints, []);
    });

    test("what is refused, and how", async (t) => {
        const { tasks, gateway } = await start(t);
        const modern = new ModernClient(gateway, "/mcp/http", { capabilities: DECLARED });
        const plain = new ModernClient(gateway, "/mcp/http");
        const { taskId } = await begin(modern, "slow");
        const made = (await modern.request("tasks/get", { taskId: "made-up" })).error!;
        assert.deepEqual(made, { code: -32602, message: "unknown task" });
        const bob = new ModernClient(gateway, "/mcp/http", { capabilities: DECLARED, token: TOKENS.bob });
        const merged = new ModernClient(gateway, "/mcp", { capabilities: DECLARED });
        for (const [client, id] of [
            [bob, taskId],
            [merged, taskId],
            [modern, tasks.last.taskId],
            [modern, `${taskId}A`],
        ] as const) {
            for (const method of ["tasks/get", "tasks/update", "tasks/cancel"]) {
                assert.deepEqual((await client.request(method, { taskId: id, inputResponses: {} })).error, made, method);
            }
        }
        // Who has not declared it: a server that can answers at once, and all else is an error.
        assert.equal(text(await plain.call("slow")), "at once");
        const data = { requiredCapabilities: { extensions: { [EXTENSION]: {} } } };
        for (const [method, params] of [
            ["tools/call", { name: "only", arguments: {} }],
            ["tasks/get", { taskId }],
            ["tasks/update", { taskId, inputResponses: {} }],
            ["tasks/cancel", { taskId }],
            ["tasks/get", { taskId: "made-up" }],
        ] as const) {
            const answer = await plain.ask(method, params);
            assert.equal(answer.status, 400, method);
            assert.equal(codeOf(answer.messages[0]!), -32021, method);
            assert.deepEqual(answer.messages[0]!.error!.data, data, method);
        }
        for (const method of ["tasks/result", "tasks/list"]) {
            const answer = await modern.ask(method, { taskId });
            assert.deepEqual([answer.status, codeOf(answer.messages[0]!)], [404, -32601], method);
        }
        const wrong = await modern.ask("tasks/get", { taskId }, { headers: { "Mcp-Name": "another" } });
        assert.deepEqual([wrong.status, codeOf(wrong.messages[0]!)], [400, -32020]);
        const missing = await modern.ask("tasks/get", { taskId }, { headers: { "Mcp-Name": undefined } });
        assert.deepEqual([missing.status, codeOf(missing.messages[0]!)], [400, -32020]);
        // In the era before, the extension means nothing.
        const session = await openSession(gateway, "/mcp/http");
        assert.equal(codeOf(await session.request("tasks/get", { taskId })), -32601);
        await session.end();
    });

    test("ids of servers, whatever they are", async (t) => {
        const { tasks, gateway } = await start(t);
        const modern = new ModernClient(gateway, "/mcp/http", { capabilities: DECLARED });
        const ids = ["a/b c", "\u0000", '"\\', "\u00e4\u{1f600}", "=?base64?YQ==?=", "x".repeat(1024)];
        for (const id of ids) {
            tasks.makeId = () => id;
            const { taskId } = await begin(modern, "slow");
            assert.match(taskId, /^[A-Za-z0-9_-]{40,2048}$/);
            assert.equal((await modern.request("tasks/get", { taskId })).result!.taskId, taskId, JSON.stringify(id));
        }
        for (const id of ["", "x".repeat(1025), "x".repeat(1_000_000), 7 as unknown as string]) {
            tasks.makeId = () => id;
            assert.match(await refusal(modern.call("slow")), /cannot be passed on/);
        }
    });

    test("an answer about another task is none", async (t) => {
        const { tasks, gateway } = await start(t);
        const modern = new ModernClient(gateway, "/mcp/http", { capabilities: DECLARED });
        const { taskId } = await begin(modern, "slow");
        for (const lie of [{ taskId: "task-2" }, { taskId: undefined }, { taskId: 1 as unknown as string }]) {
            tasks.lie = lie;
            const answer = await modern.request("tasks/get", { taskId });
            assert.match(answer.error!.message, /another task/, JSON.stringify(answer));
        }
        assert.equal((await modern.request("tasks/get", { taskId })).result!.status, "working");
    });

    test("a legacy client waits for the end, and is asked for input", async (t) => {
        const { tasks, fixture, gateway } = await start(t);
        const target = { port: gateway.port, token: gateway.token };
        for (const version of ["2025-03-26", "2025-06-18", "2025-11-25"]) {
            const capabilities = { elicitation: {} };
            const opened = await send(target, { path: "/mcp/http", body: initialize(version, capabilities) });
            const session = new Session(target, "/mcp/http", String(opened.headers["mcp-session-id"]), version, opened.messages[0]!);
            await session.notify("notifications/initialized");
            const n = tasks.tasks.size;
            const body = { jsonrpc: "2.0", id: "c", method: "tools/call", params: { name: "only", arguments: {}, task: {} } };
            const opening = session.stream({ method: "POST", body });
            await until(
                () => tasks.tasks.size === n + 1,
                () => "a task was made",
            );
            await fixture.receives("tasks/get");
            if (version !== "2025-03-26") {
                const asked = { who: { method: "elicitation/create", params: { message: "who?", requestedSchema: { type: "object", properties: {} } } } };
                Object.assign(tasks.last, { status: "input_required", inputRequests: asked });
                const stream = await opening;
                const request = await stream.messages.waitFor((item) => item.method === "elicitation/create");
                const said = { action: "accept", content: { name: "Ann" } };
                await session.send({ body: { jsonrpc: "2.0", id: request.id, result: said } });
                const k = tasks.updates.length;
                await until(
                    () => tasks.updates.length > k || tasks.last.status === "working",
                    () => "the answer came",
                );
                assert.deepEqual(tasks.updates.at(-1), { who: said });
            }
            tasks.complete(tasks.last, `for ${version}`);
            const stream = await opening;
            const answer = await stream.messages.waitFor((item) => item.id === "c" && item.method === undefined);
            assert.equal(text(answer), `for ${version}`);
            assert.equal(answer.result!.resultType, undefined);
            await session.end();
        }
        assert.deepEqual(fixture.complaints, []);
        assert.deepEqual(tasks.cancelled, []);
    });

    test("failed, cancelled, another's: what a legacy client hears", async (t) => {
        const { tasks, gateway } = await start(t);
        const session = await openSession(gateway, "/mcp/http");
        const run = async (then: () => void) => {
            const n = tasks.tasks.size;
            const running = session.request("tools/call", { name: "only", arguments: {} });
            await until(
                () => tasks.tasks.size === n + 1,
                () => "a task was made",
            );
            then();
            return within(running, "the call ends");
        };
        const failed = await run(() => Object.assign(tasks.last, { status: "failed", error: { code: 4242, message: "no" } }));
        assert.deepEqual(failed.error, { code: 4242, message: "no" });
        assert.match(await refusal(run(() => (tasks.last.status = "cancelled"))), /cancelled the task/);
        assert.match(await refusal(run(() => (tasks.lie = { taskId: "task-1" }))), /another one/);
        await until(
            () => tasks.cancelled.length === 1,
            () => "the task that went wrong was cancelled",
        );
        assert.match(await refusal(run(() => Object.assign(tasks.last, { status: "completed" }))), /no result/);
        await session.end();
    });

    test("a server that polls forever is left at max_timeout, and told", async (t) => {
        const { tasks, gateway } = await start(t, { timeout: "1s", max_timeout: "2s" });
        const session = await openSession(gateway, "/mcp/http");
        assert.match(await refusal(within(session.call("only"), "the call ends")), /max_timeout/);
        await until(
            () => tasks.cancelled.length === 1,
            () => "the server was told",
        );
        await session.end();
    });

    test("who cancels the call has cancelled the task", async (t) => {
        const { tasks, fixture, gateway } = await start(t);
        const session = await openSession(gateway, "/mcp/http");
        const body = { jsonrpc: "2.0", id: "c", method: "tools/call", params: { name: "only", arguments: {} } };
        const sent = session.send({ body });
        await fixture.receives("tasks/get");
        await session.notify("notifications/cancelled", { requestId: "c" });
        await until(
            () => tasks.cancelled.length === 1,
            () => "it was cancelled",
        );
        await sent;
        await session.end();
    });
});

describe("around tasks", () => {
    const DECLARED = { extensions: { [EXTENSION]: {} } };

    test("server-everything's tool, as a task and without", async (t) => {
        const gateway = await startGateway(
            { config: { server: { auth: AUTH }, servers: { all: { cmd: packaged("server-everything") } } } },
            t,
        );
        gateway.token = TOKENS.ann;
        await served(gateway, "all__echo");
        const peer = await connect(gateway, "/mcp/all");
        const name = "simulate-research-query";
        const modern = new ModernClient(gateway, "/mcp", { capabilities: {} });
        const answers = await Promise.all([
            peer.callTool({ name, arguments: { topic: "tea" } }).then((result) => (result.content as { text: string }[])[0]!.text),
            modern.call(`all__${name}`, { topic: "tea" }).then(text),
            (async () => {
                const session = await openSession(gateway, "/mcp/all");
                const created = await session.request("tools/call", { name, arguments: { topic: "tea" }, task: {} });
                const { taskId } = (created.result as unknown as Created).task;
                const said = text(await session.request("tasks/result", { taskId }));
                await session.end();
                return said;
            })(),
        ]);
        for (const answer of answers) assert.match(answer, /Research Report: tea/);
        // The server asks in between, by the request for the result.
        const asked: string[] = [];
        peer.setRequestHandler(ElicitRequestSchema, async (request) => {
            asked.push(String(relatedTask(request.params as never)));
            return { action: "accept", content: { interpretation: "technical" } };
        });
        const stream = peer.experimental.tasks.callToolStream(
            { name, arguments: { topic: "tea", ambiguous: true } },
            CallToolResultSchema,
            { task: {} },
        );
        let id = "", report = "";
        for await (const message of stream) {
            if (message.type === "taskCreated") id = message.task.taskId;
            if (message.type === "result") report = (message.result.content as { text: string }[])[0]!.text;
        }
        assert.match(report, /technical/);
        assert.deepEqual(asked, [id]);
        await peer.close();
    });

    test("ids outlive the gateway, as far as the server does", async (t) => {
        const tasks = new ExtensionTasks();
        const fixture = await startHttp(tasks.options, t);
        const config = { server: { auth: AUTH }, servers: { http: { url: fixture.url } } };
        const dataDir = temporaryFolder();
        const first = await startGateway({ config, dataDir }, t);
        first.token = TOKENS.ann;
        await served(first, "http__echo");
        const options = { capabilities: DECLARED };
        const created = (await new ModernClient(first, "/mcp", options).call("http__slow")).result!;
        await first.stop();
        const second = await startGateway({ config, dataDir }, t);
        second.token = TOKENS.ann;
        // It waits for the server, which has not been up here yet.
        const got = await new ModernClient(second, "/mcp", options).request("tasks/get", { taskId: created.taskId });
        assert.deepEqual([got.result?.taskId, got.result?.status], [created.taskId, "working"], JSON.stringify(got));
        const elsewhere = await startGateway({ config }, t);
        elsewhere.token = TOKENS.ann;
        await served(elsewhere, "http__echo");
        const none = await new ModernClient(elsewhere, "/mcp", options).request("tasks/get", { taskId: created.taskId });
        assert.deepEqual(none.error, { code: -32602, message: "unknown task" });
    });

    test("what a server tells of a task reaches the sessions of its owner, under their ids", async (t) => {
        const now = new Date().toISOString();
        const task = { taskId: "t1", status: "working", ttl: null, createdAt: now, lastUpdatedAt: now };
        const streams = new Map<string | undefined, EventStream>();
        const fixture = await startHttp(
            {
                revisions: ["2025-11-25"],
                get: "stream",
                capabilities: { tools: {}, tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
                on: (exchange) => {
                    const { request, message } = exchange;
                    if (request.method === "GET") streams.set(request.field("mcp-session-id"), exchange.sse());
                    else if (message.method === "tools/call") exchange.result({ task });
                    else return false;
                    return true;
                },
            },
            t,
        );
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers: { http: { url: fixture.url } } } }, t);
        const open = async (bearer: string, path: string) => {
            const session = await openSession({ ...gateway, port: gateway.port, token: bearer } as Gateway, path);
            return { session, stream: await session.stream() };
        };
        gateway.token = TOKENS.ann;
        await served(gateway, "http__echo");
        const mine = await open(TOKENS.ann, "/mcp/http");
        const { result } = await mine.session.request("tools/call", { name: "echo", arguments: {}, task: {} });
        const { taskId } = (result as unknown as Created).task;
        const others = [await open(TOKENS.ann, "/mcp"), await open(TOKENS.bob, "/mcp/http")] as const;
        const session = fixture.received("tools/call")[0]!.field("mcp-session-id");
        const stream = await until(
            () => streams.get(session),
            () => "the gateway listens",
        );
        stream.event({ jsonrpc: "2.0", method: "notifications/tasks/status", params: { ...task, status: "completed" } });
        const isStatus = (item: RpcMessage) => item.method === "notifications/tasks/status";
        const told = await mine.stream.messages.waitFor(isStatus);
        assert.deepEqual([told.params!.taskId, told.params!.status], [taskId, "completed"]);
        const merged = await others[0].stream.messages.waitFor(isStatus);
        assert.notEqual(merged.params!.taskId, taskId);
        const got = await others[0].session.request("tasks/get", { taskId });
        assert.equal(got.error!.code, -32602);
        assert.equal(others[1].stream.messages.items.filter(isStatus).length, 0);
        for (const { session, stream } of [mine, ...others]) {
            await session.end();
            await stream.ended;
        }
    });

    test("each session's own server keeps its tasks", async (t) => {
        const tasks = await startSdkTasks("one");
        t.after(async () => tasks.close());
        const servers = { one: { url: tasks.url, share: "session" } };
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers } }, t);
        gateway.token = TOKENS.ann;
        await served(gateway, "one__may");
        const [mine, other] = [await openSession(gateway, "/mcp/one"), await openSession(gateway, "/mcp/one")];
        const { result } = await mine.request("tools/call", { name: "may", arguments: {}, task: {} });
        const { taskId } = (result as unknown as Created).task;
        assert.equal((await mine.request("tasks/get", { taskId })).result!.status, "working");
        assert.deepEqual((await other.request("tasks/get", { taskId })).error, { code: -32602, message: "unknown task" });
        assert.deepEqual((await other.request("tasks/list", {})).result!.tasks, []);
        tasks.gates.release("may");
        assert.equal(text(await mine.request("tasks/result", { taskId })), "may is done");
        for (const session of [mine, other]) await session.end();
    });

    test("where all share a server, nobody is told of the others' tasks", async (t) => {
        const tasks = await startSdkTasks("one");
        t.after(async () => tasks.close());
        const servers = { one: { url: tasks.url, share: "all" } };
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers } }, t);
        gateway.token = TOKENS.ann;
        await served(gateway, "one__may");
        const ann = await openSession(gateway, "/mcp/one");
        const bob = await openSession({ ...gateway, port: gateway.port, token: TOKENS.bob } as Gateway, "/mcp/one");
        const capabilities = ann.initialized.result!.capabilities as { tasks: object };
        assert.deepEqual(capabilities.tasks, { cancel: {}, requests: { tools: { call: {} } } });
        const { result } = await ann.request("tools/call", { name: "may", arguments: {}, task: {} });
        const { taskId } = (result as unknown as Created).task;
        assert.equal((await bob.request("tasks/list", {})).error!.code, -32601);
        assert.equal((await bob.request("tasks/get", { taskId })).error!.code, -32602);
        assert.equal((await ann.request("tasks/cancel", { taskId })).result!.status, "cancelled");
        for (const session of [ann, bob]) await session.end();
    });

    test("a task is a call: locked, recorded; and whoever asks how it goes is recorded", async (t) => {
        const tasks = await startSdkTasks("one");
        t.after(async () => tasks.close());
        const servers = { one: { url: tasks.url, access: "read" }, safe: { url: tasks.url } };
        const config = { server: { auth: AUTH }, security: { edit_mode: false }, servers };
        const gateway = await startGateway({ config }, t);
        gateway.token = TOKENS.ann;
        await served(gateway, "one__may");
        const session = await openSession(gateway);
        const locked = await session.request("tools/call", { name: "safe__must", arguments: {}, task: {} });
        assert.equal(locked.error !== undefined || locked.result!.isError === true, true, JSON.stringify(locked));
        assert.equal(tasks.ids.length, 0);
        const { result } = await session.request("tools/call", { name: "one__may", arguments: {}, task: {} });
        const { taskId } = (result as unknown as Created).task;
        await session.request("tasks/get", { taskId });
        await session.request("tasks/get", { taskId: "made-up" });
        await session.request("tasks/cancel", { taskId });
        const trail = trailOf(gateway);
        const find = (method: string) => trail.lines.filter((line) => JSON.stringify(line).includes(`"${method}"`));
        await until(
            () => (trail.more(), find("tasks/cancel").length > 0),
            () => "it is recorded",
        );
        const gets = find("tasks/get").map((line) => JSON.stringify(line));
        assert.equal(gets.length, 2);
        assert.ok(gets.some((line) => /allowed/.test(line) && /"one"/.test(line)), gets.join("\n"));
        assert.ok(gets.some((line) => /denied.*unknown task/.test(line)), gets.join("\n"));
        assert.match(JSON.stringify(find("tasks/cancel")[0]), /"one"/);
        await session.end();
    });

    test("who cannot give what the task's client could is not asked", async (t) => {
        const tasks = await startSdkTasks("one");
        t.after(async () => tasks.close());
        const gateway = await startGateway({ config: { server: { auth: AUTH }, servers: { one: { url: tasks.url } } } }, t);
        gateway.token = TOKENS.ann;
        await served(gateway, "one__may");
        const target = { port: gateway.port, token: TOKENS.ann };
        const able = await send(target, { path: "/mcp/one", body: initialize("2025-11-25", { elicitation: {} }) });
        const first = new Session(target, "/mcp/one", String(able.headers["mcp-session-id"]), "2025-11-25", able.messages[0]!);
        await first.notify("notifications/initialized");
        const { result } = await first.request("tools/call", { name: "asks", arguments: {}, task: {} });
        const { taskId } = (result as unknown as Created).task;
        const second = await openSession(gateway, "/mcp/one");
        const body = { jsonrpc: "2.0", id: "r", method: "tasks/result", params: { taskId } };
        const stream = second.stream({ method: "POST", body });
        await until(
            () => tasks.seen.includes("tasks/result"),
            () => "it waits",
        );
        await second.request("tasks/cancel", { taskId });
        const opened = await stream;
        assert.equal(opened.messages.items.filter((item) => item.method === "elicitation/create").length, 0);
        await opened.ended;
        for (const session of [first, second]) await session.end();
    });
});
