/*
 * What is asked of every pair of a client and a server (matrix.test.ts). A check says nothing of eras where it can: what
 * the client asked for is what it gets. What a revision does not know is neither on the client's wire nor on the
 * server's.
 */
import assert from "node:assert/strict";

import {
    AUDIO,
    Brain,
    brainTools,
    CAPABILITIES_KEY,
    IMAGE,
    LEVELS,
    LINK,
    MODERN,
    SERVER_KEY,
    SUBSCRIPTION_KEY,
    VERSION_KEY,
    WANTED,
    type Message,
} from "../fixtures/brain.ts";
import { decodeField, type HttpFixture } from "../fixtures/http-server.ts";
import type { Caller } from "./callers.ts";
import type { Control, FixtureProcess, RpcMessage } from "./control.ts";
import type { ServerConfig } from "./gateway.ts";
import { ANSWERS } from "./raw-callers.ts";
import { until, within } from "./wait.ts";

export const isDirect = process.env.CARDEA_TEST_DIRECT === "1";

export interface Upstream {
    name: string;
    config: ServerConfig;
    /** where it can be reached without a gateway */
    url?: string;
    /** the revisions that it speaks */
    revisions: string[];
    /** that the gateway has to choose */
    isModern: boolean;
    /** what it received, envelope and all */
    received?: () => Promise<{ message: Message; fields?: [string, string][] }[]>;
    complaints?: () => string[];
    /** a call of "hold" waits there, counted from the start */
    holds?: (n: number) => Promise<void>;
    /** the held call with that number was given up by the gateway */
    cancelled?: (n: number) => Promise<void>;
    /** one of our own, or with the same contents */
    isBrain: boolean;
}

export interface Pair {
    caller: Caller;
    upstream: Upstream;
}

export type Check = (pair: Pair) => Promise<void>;

const meta = (message: Message) => (message.params?._meta ?? {}) as { [key: string]: unknown };
const isProbe = (message: Message) => message.method === "server/discover";

/** All keys anywhere in a value; strings are not looked into. */
function keys(value: unknown, found = new Set<string>()): Set<string> {
    if (typeof value === "object" && value !== null) {
        if (!Array.isArray(value)) for (const key of Object.keys(value)) found.add(key);
        for (const item of Object.values(value)) keys(item, found);
    }
    return found;
}

const MODERN_WORDS = /^(resultType|ttlMs|cacheScope|io\.modelcontextprotocol\/.*)$/;
const modernWords = (value: unknown) => [...keys(value)].filter((key) => MODERN_WORDS.test(key));

export const ok = (answer: RpcMessage): { [key: string]: unknown } => {
    assert.equal(answer.error, undefined, JSON.stringify(answer));
    return answer.result!;
};
export const call = async ({ caller }: Pair, name: string, args: object = {}, options = {}) =>
    caller.request("tools/call", { name, arguments: args }, options);
export const content = (answer: RpcMessage) => ok(answer).content as { type: string; text?: string }[];

export async function list(pair: Pair, method: string, key: string): Promise<{ [key: string]: unknown }[]> {
    const items: { [key: string]: unknown }[] = [];
    let cursor: unknown;
    do {
        const result = ok(await pair.caller.request(method, cursor === undefined ? {} : { cursor }));
        items.push(...(result[key] as { [key: string]: unknown }[]));
        cursor = result.nextCursor;
    } while (cursor !== undefined);
    return items;
}

/** Progress notifications between a point in time and an answer. */
function progress(caller: Caller, from: number, answer: RpcMessage): { [key: string]: unknown }[] {
    const items = caller.wire.items.slice(from);
    const end = items.indexOf(answer);
    const all = items.filter((item) => item.method === "notifications/progress");
    const before = items.slice(0, end).filter((item) => item.method === "notifications/progress");
    assert.equal(before.length, all.length, "no progress after the answer");
    return before.map((item) => item.params!);
}

const logs = (caller: Caller, mark: string) =>
    caller.wire.items
        .filter((item) => item.method === "notifications/message")
        .map((item) => item.params as { level: string; data: { mark: string } })
        .filter((params) => params.data.mark === mark)
        .map((params) => params.level);

let marks = 0;
const holds = new WeakMap<Upstream, number>();

/** What the brain has for those who test subscriptions. */
const SUBSCRIBING = new Set(["touch", "change", "end-listening"]);

/** For servers with the contents of the brain. */
export const brainChecks: { [name: string]: Check } = {
    "tools are listed": async (pair) => {
        const wanted = brainTools(pair.upstream.revisions);
        const tools = (await list(pair, "tools/list", "tools")).filter(({ name }) => !SUBSCRIBING.has(name as string));
        assert.deepEqual(tools.map((tool) => tool.name).sort(), wanted.map((tool) => tool.name).sort());
        for (const tool of tools) {
            const original = wanted.find(({ name }) => name === tool.name)!;
            assert.deepEqual(tool.inputSchema, original.inputSchema, `the schema of ${String(tool.name)}`);
            if (tool.name !== "array" || pair.caller.isModern) {
                assert.deepEqual(tool.outputSchema, original.outputSchema, `the output of ${String(tool.name)}`);
            } else {
                const schema = tool.outputSchema as {
                    type: string;
                    properties: { result: object };
                    required: string[];
                };
                assert.equal(schema.type, "object");
                assert.deepEqual(schema.properties.result, original.outputSchema);
                assert.deepEqual(schema.required, ["result"]);
            }
        }
    },
    "prompts, resources and templates are listed": async (pair) => {
        const prompts = await list(pair, "prompts/list", "prompts");
        assert.deepEqual(prompts, [{ name: "review", arguments: [{ name: "what", required: true }] }]);
        assert.deepEqual(await list(pair, "resources/list", "resources"), [{ uri: "test://one", name: "one" }]);
        const templates = await list(pair, "resources/templates/list", "resourceTemplates");
        assert.deepEqual(templates, [{ uriTemplate: "test://thing/{id}", name: "thing" }]);
    },
    "a call": async (pair) => {
        const text = 'grüße "\\ \u2028 😀 \u0001';
        assert.deepEqual(content(await call(pair, "echo", { text })), [{ type: "text", text }]);
    },
    "structured content": async (pair) => {
        const result = ok(await call(pair, "structured"));
        assert.deepEqual(result.structuredContent, { n: 1.5 });
        assert.deepEqual(result.content, [{ type: "text", text: '{"n":1.5}' }]);
    },
    "structured content that is no object": async (pair) => {
        if (pair.upstream.revisions.some((revision) => revision !== MODERN)) return;
        const result = ok(await call(pair, "array"));
        const wanted = pair.caller.isModern ? [1, 2, 3] : { result: [1, 2, 3] };
        assert.deepEqual(result.structuredContent, wanted);
        if (!pair.caller.isModern) {
            const [said] = result.content as { type: string; text: string }[];
            assert.equal(said?.type, "text", "an old client reads the content");
            assert.match(said.text, /1,\s*2,\s*3/);
        }
    },
    "content that older revisions do not know": async (pair) => {
        const items = content(await call(pair, "content"));
        assert.deepEqual(items[0], { type: "text", text: "first" });
        assert.deepEqual(items.at(-1), { type: "text", text: "last" });
        const kinds = items.map((item) => item.type);
        const server = pair.upstream.revisions.at(-1)!;
        const client = pair.caller.version;
        const has = (revision: string) => server >= revision;
        assert.deepEqual(
            kinds.map((kind, i) => (kind === "text" && i > 0 && i < kinds.length - 1 ? "said" : kind)),
            [
                "text",
                "image",
                ...(has("2025-03-26") ? [client >= "2025-03-26" ? "audio" : "said"] : []),
                ...(has("2025-06-18") ? [client >= "2025-06-18" ? "resource_link" : "said"] : []),
                "text",
            ],
        );
        assert.deepEqual(items[1], IMAGE);
        for (const item of [AUDIO, LINK]) {
            const found = items.find(({ type }) => type === item.type);
            if (found !== undefined) assert.deepEqual(found, item);
        }
        const said = items.slice(1, -1).flatMap(({ type, text }) => (type === "text" ? [text] : []));
        if (has("2025-03-26") && client < "2025-03-26") assert.match(String(said[0]), /^\[audio of type audio\/wav left out/);
        if (has("2025-06-18") && client < "2025-06-18")
            assert.ok(said.at(-1)!.includes(LINK.uri), "the text says where the link goes");
    },
    "a tool that failed": async (pair) => {
        const result = ok(await call(pair, "fail"));
        assert.equal(result.isError, true);
        assert.deepEqual(result.content, [{ type: "text", text: "it failed" }]);
    },
    "an error of the server's own": async (pair) => {
        const { error } = await call(pair, "refuse");
        assert.deepEqual(error, { code: 4242, message: "refused", data: { why: ["a", 1] } });
    },
    "an unknown tool": async (pair) => {
        assert.equal((await call(pair, "nobody-has-it")).error?.code, -32602);
    },
    "an unknown method": async (pair) => {
        const asked = pair.caller.request("acme/unknown");
        // the SDKs do not send it
        const answer = await asked.catch(() => undefined);
        if (answer !== undefined) assert.equal(answer.error?.code, -32601);
    },
    "a prompt": async (pair) => {
        const result = ok(await pair.caller.request("prompts/get", { name: "review", arguments: { what: "it" } }));
        assert.match(JSON.stringify(result.messages), /review.*it/);
    },
    "a resource, and one by a template": async (pair) => {
        for (const uri of ["test://one", "test://thing/ü 1"]) {
            const result = ok(await pair.caller.request("resources/read", { uri }));
            assert.deepEqual(result.contents, [{ uri, mimeType: "text/plain", text: `read ${uri}` }]);
        }
    },
    "a resource that does not exist": async (pair) => {
        const uri = "test://missing";
        const { error } = await pair.caller.request("resources/read", { uri });
        assert.equal(error?.code, pair.caller.isModern ? -32602 : -32002, JSON.stringify(error));
        if (pair.caller.isModern) assert.deepEqual((error!.data as { uri: string }).uri, uri);
    },
    completion: async (pair) => {
        const params = { ref: { type: "ref/prompt", name: "review" }, argument: { name: "what", value: "i" } };
        const { completion } = ok(await pair.caller.request("completion/complete", params)) as {
            completion: { values: string[] };
        };
        assert.deepEqual(JSON.parse(completion.values[0]!), params);
    },
    "progress under the client's token": async (pair) => {
        const from = pair.caller.wire.items.length;
        const answer = await call(pair, "progress", { steps: 3 }, { progress: true });
        const items = progress(pair.caller, from, answer);
        assert.deepEqual(
            items.map(({ progress: value, message }) => [value, message]),
            [
                [1, "step 1"],
                [2, "step 2"],
                [3, "step 3"],
            ],
        );
        assert.equal(new Set(items.map((item) => item.progressToken)).size, 1);
        const token = items[0]!.progressToken;
        assert.ok(token === answer.id || token === `token-${answer.id}`, `the token is the client's, not ${token}`);
    },
    "no progress where none was asked for": async (pair) => {
        const from = pair.caller.wire.items.length;
        const answer = await call(pair, "progress", { steps: 3 });
        assert.deepEqual(progress(pair.caller, from, answer), []);
    },
    "logs at the level that was asked for": async (pair) => {
        if (pair.caller.isModern) {
            const mark = `mark-${++marks}`;
            ok(await call(pair, "log", { text: mark }));
            assert.deepEqual(logs(pair.caller, mark), [], "nothing unless it was asked for");
        }
        for (const level of ["warning", "debug", "emergency"]) {
            const mark = `mark-${++marks}`;
            await pair.caller.setLevel(level);
            ok(await call(pair, "log", { text: mark }));
            const wanted = LEVELS.slice(LEVELS.indexOf(level));
            await until(() => logs(pair.caller, mark).includes("emergency"), `the log of ${level}`);
            assert.deepEqual(logs(pair.caller, mark), wanted, level);
        }
    },
    "a call that is cancelled": async (pair) => {
        const { upstream, caller } = pair;
        if (upstream.cancelled === undefined) return;
        const n = (holds.get(upstream) ?? 0) + 1;
        holds.set(upstream, n);
        const abort = new AbortController();
        const answer = caller.request("tools/call", { name: "hold", arguments: {} }, { signal: abort.signal });
        const ended = answer.then(
            (message) => message.error ?? assert.fail(`answered: ${JSON.stringify(message)}`),
            (error: unknown) => error,
        );
        await upstream.holds!(n);
        abort.abort("no more");
        await upstream.cancelled(n);
        await ended;
        assert.deepEqual(content(await call(pair, "echo", { text: "and on" })), [{ type: "text", text: "and on" }]);
    },
    "arguments that are repeated in header fields": async (pair) => {
        const args = { region: "Zürich ", count: 42, deep: { flag: true }, plain: "x" };
        assert.deepEqual(JSON.parse(content(await call(pair, "mirror", args))[0]!.text!), args);
        const received = await pair.upstream.received?.();
        const last = received?.findLast(({ message }) => message.params?.name === "mirror");
        if (last?.fields === undefined) return;
        const fields = last.fields
            .filter(([name]) => name.toLowerCase().startsWith("mcp-param-"))
            .map(([name, value]) => [name.toLowerCase(), decodeField(value)])
            .sort();
        const wanted = [
            ["mcp-param-count", "42"],
            ["mcp-param-flag", "true"],
            ["mcp-param-region", "Zürich "],
        ];
        assert.deepEqual(fields, pair.upstream.isModern && !(isDirect && !pair.caller.isModern) ? wanted : []);
    },
    "input that nobody can give yet is refused": async (pair) => {
        const from = pair.caller.wire.items.length;
        const answer = await within(
            call(pair, "input").catch((error: Error) => error),
            "an answer to a call that asks",
        );
        for (const item of pair.caller.wire.items.slice(from)) {
            assert.ok(item.method === undefined || item.id === undefined, `asked: ${JSON.stringify(item)}`);
            if (!pair.caller.isModern) assert.notEqual(item.result?.resultType, "input_required");
        }
        if (answer instanceof Error) assert.ok(pair.caller.isModern, String(answer));
        else if (answer.result?.resultType === "input_required") {
            // Between two of the new era it is no request of the server, but a result like any other.
            assert.ok(pair.upstream.isModern);
            // Its state comes back sealed: whoever has it cannot read it, nor use it for anything else.
            if (isDirect) assert.equal(answer.result.requestState, "opaque");
            else assert.match(String(answer.result.requestState), /^[A-Za-z0-9_-]{40,}$/);
        } else if (answer.error === undefined && pair.upstream.isModern) assert.equal(answer.result!.isError, true);
        ok(await call(pair, "echo", { text: "and on" }));
    },
    "nothing of the client's own leaves": async (pair) => {
        const { caller, upstream } = pair;
        ok(await call(pair, "seen", { a: 1 }, { progress: true }));
        const seen = (await upstream.received?.())?.findLast(({ message }) => message.params?.name === "seen");
        if (seen === undefined) return;
        const token = meta(seen.message).progressToken;
        assert.ok(token !== undefined && !String(token).startsWith("token-"), `a token of the gateway's, not ${token}`);
        for (const [name, value] of seen.fields ?? []) assert.notEqual(name.toLowerCase(), "authorization", value);
        assert.deepEqual(seen.message.params!.arguments, { a: 1 });
        if (upstream.isModern) {
            assert.equal(meta(seen.message)[VERSION_KEY], MODERN);
            assert.equal(typeof meta(seen.message)[CAPABILITIES_KEY], "object");
        }
        assert.ok(caller.version !== "");
    },
};

/** Why a cell of the table is empty, or not as the others are; each is said in docs/PROTOCOL.md. */
export function cannotBeAsked({ caller, upstream }: Pair, kind: string): "server" | "client" | undefined {
    if (kind !== "elicit") return undefined;
    if (upstream.revisions.every((revision) => revision < "2025-06-18")) return "server";
    return caller.version < "2025-06-18" ? "client" : undefined;
}

const asks = (kind: string): Check => async (pair) => {
    const { caller, upstream } = pair;
    const method = WANTED[kind]![0];
    const from = caller.wire.items.length;
    const why = cannotBeAsked(pair, kind);
    if (why === "server") return; // its revision has no such request
    const answer = await call(pair, "input", { kind });
    const asked = caller.wire.items.slice(from).filter((item) => item.method === method && item.id !== undefined);
    const wanted = caller.wire.items.slice(from).filter((item) => item.result?.resultType === "input_required");
    if (why === "client") {
        // A client before 2025-06-18 has no elicitation: it is not asked, and its server is told that it cannot be.
        assert.deepEqual([asked, wanted], [[], []]);
        const { text } = content(answer)[0]!;
        if (upstream.isModern) assert.match(text!, /input of a kind that this client, or its protocol revision, cannot give/);
        else assert.equal((JSON.parse(text!) as { error: { code: number } }).error.code, -32601);
        assert.equal(ok(answer).isError === true, upstream.isModern);
        return;
    }
    const said = JSON.parse(content(answer)[0]!.text!) as { result: object };
    assert.deepEqual(said.result, ANSWERS[method]);
    assert.deepEqual([asked.length, wanted.length], caller.isModern ? [0, 1] : [1, 0], "asked once, in its own way");
};

/** For clients that declare all that there is (raw-callers.ts). */
export const askChecks: { [name: string]: Check } = {
    "the server elicits": asks("elicit"),
    "the server samples": asks("sample"),
    "the server wants roots": asks("roots"),
};

/** For servers that can be subscribed to. */
export const subscribeChecks: { [name: string]: Check } = {
    "a resource that is subscribed to": async (pair) => {
        const { caller } = pair;
        const uri = `test://thing/${++marks}`;
        const from = caller.wire.items.length;
        const end = new AbortController();
        const news = (method: string) => caller.wire.waitFor((message) => message.method === method, from);
        let meta: object | undefined;
        if (caller.isModern) {
            const notifications = { resourceSubscriptions: [uri] };
            const listening = caller.request("subscriptions/listen", { notifications }, { signal: end.signal });
            listening.catch(() => {}); // it ends with the signal
            const { params } = await news("notifications/subscriptions/acknowledged");
            assert.deepEqual(params!.notifications, notifications);
            meta = params!._meta as object;
            assert.deepEqual(Object.keys(meta), [SUBSCRIPTION_KEY]);
        } else assert.deepEqual(ok(await caller.request("resources/subscribe", { uri })), {});
        assert.deepEqual(content(await call(pair, "touch", { uri })), [{ type: "text", text: "touched" }]);
        const { params } = await news("notifications/resources/updated");
        assert.deepEqual(params, meta === undefined ? { uri } : { uri, _meta: meta });
        if (caller.isModern) end.abort();
        else assert.deepEqual(ok(await caller.request("resources/unsubscribe", { uri })), {});
        assert.deepEqual(content(await call(pair, "touch", { uri })), [{ type: "text", text: "touched" }]);
        ok(await call(pair, "echo", { text: "and on" }));
        const told = caller.wire.items.slice(from).filter(({ method }) => method === "notifications/resources/updated");
        // A modern client has hung up before, and hears of nothing by that alone.
        assert.equal(told.length, 1, "once, and not when it is over");
    },
};

/** For server-everything, which speaks 2025-11-25. */
export const everythingChecks: { [name: string]: Check } = {
    "tools are listed": async (pair) => {
        const tools = (await list(pair, "tools/list", "tools")).map((tool) => tool.name);
        for (const name of ["echo", "get-sum", "get-structured-content"]) assert.ok(tools.includes(name), `${tools}`);
    },
    "prompts, resources and templates are listed": async (pair) => {
        assert.ok((await list(pair, "prompts/list", "prompts")).some((prompt) => prompt.name === "simple-prompt"));
        assert.ok((await list(pair, "resources/list", "resources")).length > 0);
        assert.equal((await list(pair, "resources/templates/list", "resourceTemplates")).length, 2);
    },
    "a call": async (pair) => {
        const answer = await call(pair, "echo", { message: "grüße" });
        assert.deepEqual(content(answer), [{ type: "text", text: "Echo: grüße" }]);
    },
    "structured content": async (pair) => {
        const { structuredContent } = ok(await call(pair, "get-structured-content", { location: "New York" }));
        assert.deepEqual(Object.keys(structuredContent as object).sort(), ["conditions", "humidity", "temperature"]);
    },
    "content that older revisions do not know": async (pair) => {
        const items = content(await call(pair, "get-resource-links", { count: 2 }));
        const wanted = pair.caller.version >= "2025-06-18" ? "resource_link" : "text";
        assert.deepEqual(
            items.map((item) => item.type),
            ["text", wanted, wanted],
        );
    },
    "a tool that failed": async (pair) => {
        assert.equal(ok(await call(pair, "get-sum", { a: "x" })).isError, true);
    },
    "an unknown tool": async (pair) => {
        assert.equal((await call(pair, "nobody-has-it")).error?.code, -32602);
    },
    "a prompt": async (pair) => {
        const params = { name: "args-prompt", arguments: { city: "Rome" } };
        assert.match(JSON.stringify(ok(await pair.caller.request("prompts/get", params))), /Rome/);
    },
    "a resource": async (pair) => {
        const params = { uri: "demo://resource/dynamic/text/3" };
        assert.match(JSON.stringify(ok(await pair.caller.request("resources/read", params))), /Resource 3/);
    },
    completion: async (pair) => {
        const params = {
            ref: { type: "ref/prompt", name: "completable-prompt" },
            argument: { name: "department", value: "S" },
        };
        const { completion } = ok(await pair.caller.request("completion/complete", params)) as {
            completion: { values: string[] };
        };
        assert.ok(completion.values.includes("Sales"), String(completion.values));
    },
    "progress under the client's token": async (pair) => {
        const from = pair.caller.wire.items.length;
        const args = { duration: 0.15, steps: 3 };
        const answer = await call(pair, "trigger-long-running-operation", args, { progress: true });
        const items = progress(pair.caller, from, answer);
        assert.deepEqual(
            items.slice(0, 2).map((item) => item.progress),
            [1, 2],
        );
    },
};

/** For every pair, at its end: what was on the wires. */
export const wireChecks: { [name: string]: Check } = {
    "the client's wire has the words of its revision": async ({ caller }) => {
        for (const message of caller.wire.items) {
            assert.equal(message.jsonrpc, "2.0");
            if (!caller.isModern) {
                assert.deepEqual(modernWords(message), [], JSON.stringify(message).slice(0, 600));
                continue;
            }
            assert.ok(!("result" in message) || typeof message.result!.resultType === "string", "resultType");
            const result = message.result ?? {};
            if (["tools", "prompts", "resources", "resourceTemplates", "contents"].some((key) => key in result)) {
                assert.ok(
                    Number.isInteger(result.ttlMs) && (result.ttlMs as number) >= 0,
                    JSON.stringify(result.ttlMs),
                );
                assert.ok(["public", "private"].includes(result.cacheScope as string));
            }
            if ("result" in message) {
                const info = (result._meta as { [key: string]: unknown } | undefined)?.[SERVER_KEY];
                assert.equal(typeof info, "object", `serverInfo in ${JSON.stringify(result).slice(0, 300)}`);
            }
            assert.ok(!keys(message).has("execution"), "execution is of 2025-11-25");
            assert.ok(![-32002, -32042].includes(message.error?.code ?? 0), JSON.stringify(message));
        }
    },
    "the server's wire has the words of its revision": async ({ upstream }) => {
        if (isDirect) return;
        const received = (await upstream.received?.()) ?? [];
        for (const { message, fields = [] } of received) {
            if (isProbe(message) || message.method === undefined) continue;
            const names = fields.map(([name]) => name.toLowerCase());
            const said = `${JSON.stringify(message).slice(0, 300)} ${names}`;
            if (upstream.isModern) {
                assert.ok(
                    !/^(initialize|ping|logging\/setLevel|notifications\/initialized)$/.test(message.method),
                    said,
                );
                assert.ok(!names.includes("mcp-session-id"), said);
                if (message.id === undefined) continue;
                assert.equal(meta(message)[VERSION_KEY], MODERN, said);
                assert.equal(typeof meta(message)[CAPABILITIES_KEY], "object", said);
            } else {
                assert.deepEqual(modernWords({ ...message.params, arguments: undefined }), [], said);
                assert.ok(!names.some((name) => /^mcp-(method|name|param-)/.test(name)), said);
            }
        }
        assert.deepEqual(upstream.complaints?.() ?? [], []);
    },
};

export function overStdio(control: Control, name: string, revisions: string[], subscribe = false): Upstream {
    const all = () => control.starts.items.filter((process) => process.name === name);
    const cancelled = (message: RpcMessage) => message.method === "notifications/cancelled";
    const held = () =>
        all().flatMap((process) =>
            process.events.items.filter((item) => item.event === "held").map((event) => ({ process, event })),
        );
    return {
        name,
        config: { cmd: control.brain({ name, revisions, subscribe }) },
        revisions,
        isModern: revisions.includes(MODERN),
        isBrain: true,
        received: async () => {
            await Promise.all(all().map((process: FixtureProcess) => process.sync()));
            return all().flatMap((process) => process.received().map((message) => ({ message: message as Message })));
        },
        holds: async (n) => void (await until(() => held().length >= n, `${name} holds ${n} calls`)),
        cancelled: async (n) => {
            const { process, event } = held()[n - 1]!;
            await process.receives((message) => cancelled(message) && message.params!.requestId === event.id);
        },
    };
}

export function overHttp(fixture: HttpFixture): Upstream {
    const { name } = fixture.brain.options;
    const isModern = fixture.brain.speaks(true);
    const held = () =>
        fixture.requests.items.filter(
            (item) => item.message?.method === "tools/call" && item.message.params?.name === "hold",
        );
    return {
        name,
        config: { url: fixture.url },
        url: fixture.options.transport === "sse" ? undefined : fixture.url,
        revisions: fixture.brain.revisions,
        isModern,
        isBrain: true,
        received: async () =>
            fixture.requests.items.flatMap(({ message, fields }) =>
                message === undefined ? [] : [{ message, fields }],
            ),
        complaints: () => fixture.complaints,
        holds: async (n) =>
            void (await until(() => held().length >= n && fixture.brain.held > 0, `${name} holds ${n} calls`)),
        cancelled: async (n) => {
            const { message, closed } = held()[n - 1]!;
            if (Brain.envelope(message!) !== undefined) return within(closed, "the stream is closed");
            await fixture.requests.waitFor(
                ({ message: each }) =>
                    each?.method === "notifications/cancelled" && each.params!.requestId === message!.id,
            );
        },
    };
}

/** What a server alone does not do. */
export const NEEDS_GATEWAY: { [check: string]: RegExp } = {
    "content that older revisions do not know": /./,
    "input that nobody can give yet is refused": /./,
    "nothing of the client's own leaves": /./,
    "an unknown tool": /^everything/,
    // SDK 2.x serves the legacy era without sessions, and with the new code
    "a resource that does not exist": /^sdk-2/,
    "logs at the level that was asked for": /^sdk-2/,
};

