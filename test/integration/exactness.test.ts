/*
 * What the gateway does not know passes through it as it was written: members, `_meta` keys, types of content, capabilities
 * and extensions, in both directions and between the eras; and ids and tokens keep their type. What is left out on
 * purpose is said here, and in docs/PROTOCOL.md.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { CAPABILITIES_KEY, CLIENT_KEY, MODERN, SERVER_KEY, VERSION_KEY } from "./fixtures/brain.ts";
import { startHttp, type Exchange, type HttpFixture, type HttpOptions } from "./fixtures/http-server.ts";
import { startControl, type Control, type FixtureProcess, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { initialize, send, served, Session, stream, type Answer, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { until, within } from "./lib/wait.ts";

type Era = "legacy" | "modern";
type Json = { [key: string]: unknown };
const ERAS: Era[] = ["legacy", "modern"];
const REVISION = { legacy: "2025-11-25", modern: MODERN };
const ENVELOPE = [VERSION_KEY, CAPABILITIES_KEY, CLIENT_KEY];

const TRACE = {
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
    tracestate: "acme=1,other=t61rcWkgMzE",
    baggage: "user=ann%20b,day=mon",
};
/** What nobody here has a name for; some numbers have no place in JavaScript's. */
const ODD = `"acme":{"a":[null,true,{"":""}],"ü 😀":"\\u0000\\/"},"x-exact":[1.50,1E+2,-0,123456789012345678901234567890]`;
const META = `"_meta":${JSON.stringify({ ...TRACE, "acme.example/key": { deep: [1] }, plain: "" })}`;

interface Peer {
    era: Era;
    /** the whole answer to a request; params and id as JSON, where they are strings */
    ask(method: string, params?: Json | string, id?: string): Promise<Answer>;
    /** the same, as it comes */
    open(method: string, params: Json | string, id?: string, signal?: AbortSignal): Promise<Stream>;
    respond(id: RpcMessage["id"], result: object): Promise<void>;
    notify(method: string, params: string): Promise<void>;
    /** what it was told at its begin: the result of initialize or server/discover, and the answer as it was written */
    begun: Json;
    begunText: string;
}

const json = (value: Json | string) => (typeof value === "string" ? value : JSON.stringify(value));

async function connect(gateway: Gateway, era: Era, path: string, capabilities: object = {}): Promise<Peer> {
    const target = { port: gateway.port, token: gateway.token };
    const document = (method: string, params: Json | string, id: string) =>
        `{"jsonrpc":"2.0","id":${id},"method":${JSON.stringify(method)},"params":${json(params)}}`;
    if (era === "legacy") {
        const opened = await send(target, { path, body: initialize("2025-11-25", capabilities as Json) });
        const session = new Session(target, path, String(opened.headers["mcp-session-id"]), "2025-11-25", opened.messages.at(-1)!);
        await session.notify("notifications/initialized");
        return {
            era,
            begun: opened.messages.at(-1)!.result!,
            begunText: opened.text,
            ask: (method, params = {}, id = "1") => session.send({ body: document(method, params, id) }),
            open: (method, params, id = "1", signal) =>
                session.stream({ method: "POST", body: document(method, params, id), signal }),
            respond: async (id, result) => void (await session.send({ body: { jsonrpc: "2.0", id, result } })),
            notify: async (method, params) =>
                void (await session.send({ body: `{"jsonrpc":"2.0","method":"${method}","params":${params}}` })),
        };
    }
    const modern = new ModernClient(target, path, { capabilities });
    const outgoing = (method: string, params: Json | string, id: string, signal?: AbortSignal) => {
        const text = json(params);
        const parsed = JSON.parse(text) as Json;
        const made = modern.outgoing(method, parsed, { signal });
        const { _meta } = (made.body as RpcMessage).params as { _meta: Json };
        const keys = ENVELOPE.map((key) => `${JSON.stringify(key)}:${JSON.stringify(_meta[key])}`).join();
        const comma = (members: object | undefined) => (Object.keys(members ?? {}).length === 0 ? "" : ",");
        const whole =
            "_meta" in parsed
                ? text.replace('"_meta":{', `"_meta":{${keys}${comma(parsed._meta as object)}`)
                : `{"_meta":{${keys}}${comma(parsed)}${text.slice(1)}`;
        return { ...made, body: document(method, whole, id) };
    };
    const peer: Peer = {
        era,
        begun: {},
        begunText: "",
        ask: (method, params = {}, id = "1") => send(target, outgoing(method, params, id)),
        open: (method, params, id = "1", signal) => stream(target, outgoing(method, params, id, signal)),
        respond: async () => assert.fail("a modern client answers by calling again"),
        notify: async () => {},
    };
    const discovered = await peer.ask("server/discover");
    peer.begun = discovered.messages.at(-1)!.result!;
    peer.begunText = discovered.text;
    return peer;
}

const result = (answer: Answer): Json => {
    const last = answer.messages.at(-1)!;
    assert.equal(last.error, undefined, answer.text.slice(0, 1000));
    return last.result!;
};

/** Without what one era has and the other has not. */
function plain(value: Json): Json {
    const { resultType: _1, ttlMs: _2, cacheScope: _3, ...rest } = value;
    const { [SERVER_KEY]: _4, ...meta } = (rest._meta ?? {}) as Json;
    return Object.keys(meta).length === 0 && !("_meta" in value && Object.keys(value._meta as Json).length === 0)
        ? Object.fromEntries(Object.entries(rest).filter(([key]) => key !== "_meta"))
        : { ...rest, _meta: meta };
}

const BLOCKS = `[{"type":"text","text":"t","annotations":{"audience":["user"],"acme":1},${ODD},${META}},
    {"type":"resource","resource":{"uri":"test://one","mimeType":"x/y","text":"","_meta":{"a/b":1},"acme":[]}},
    {"type":"resource_link","uri":"test://one","name":"one","icons":[{"src":"https://e.example/i.png","acme":1}]},
    {"type":"hologram","data":"AA==","acme":{}}]`.replace(/\n\s*/g, "");
const RESULTS: { [method: string]: { params: Json; body: string } } = {
    "tools/call": {
        params: { name: "echo", arguments: { text: "x" } },
        body: `"content":${BLOCKS},"structuredContent":{"n":1.50,${ODD}},"isError":false,${ODD},${META}`,
    },
    "prompts/get": {
        params: { name: "review", arguments: { what: "x" } },
        body: `"description":"","messages":[{"role":"user","content":{"type":"text","text":"t",${ODD}},"acme":1}],${ODD},${META}`,
    },
    "resources/read": {
        params: { uri: "test://one" },
        body: `"contents":[{"uri":"test://one","text":"t","mimeType":"x/y",${ODD},${META}}],${ODD},${META}`,
    },
    "completion/complete": {
        params: { ref: { type: "ref/prompt", name: "review" }, argument: { name: "what", value: "" } },
        body: `"completion":{"values":["a"],"total":1,${ODD}},${ODD},${META}`,
    },
};

const object = { type: "object" };
const DEFINITIONS = {
    tools: [
        {
            name: "odd",
            title: "Odd",
            description: "",
            inputSchema: {
                $schema: "https://json-schema.org/draft/2020-12/schema",
                $defs: { a: { $anchor: "a", type: "string" } },
                type: "object",
                properties: { a: { $ref: "#a", "x-acme": 1 } },
                if: { required: ["a"] },
                "x-acme": [null],
            },
            annotations: { readOnlyHint: true, acme: { a: 1 } },
            icons: [{ src: "https://e.example/i.png", sizes: ["any"], acme: 1 }],
            acme: { a: [1] },
            _meta: { "acme.example/k": [1], ...TRACE },
        },
        { name: "echo", inputSchema: object },
    ],
    prompts: [{ name: "review", title: "R", arguments: [{ name: "what", acme: 1 }], acme: 1, _meta: { "a/b": 1 } }],
    resources: [{ uri: "test://one", name: "one", size: 3, annotations: { acme: 1 }, acme: 1, _meta: { "a/b": 1 } }],
    resourceTemplates: [{ uriTemplate: "test://thing/{id}", name: "thing", acme: 1, _meta: { "a/b": 1 } }],
};
const LISTS = {
    tools: "tools/list",
    prompts: "prompts/list",
    resources: "resources/list",
    resourceTemplates: "resources/templates/list",
} as const;

/** Answers with what is told of its method, as it is written. */
function rich(exchange: Exchange): boolean {
    const { method, id, params } = exchange.message;
    const isModern = (params?._meta as Json | undefined)?.[VERSION_KEY] !== undefined;
    const told = method === undefined ? undefined : RESULTS[method];
    if (told === undefined || (params?.arguments as Json | undefined)?.own !== undefined) return false;
    const type = isModern ? `"resultType":"complete",${method === "resources/read" ? `"ttlMs":0,"cacheScope":"private",` : ""}` : "";
    exchange.text(200, "application/json", `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":{${type}${told.body}}}`);
    return true;
}

async function start(t: TestContext | undefined, servers: { [name: string]: HttpOptions }) {
    const fixtures = new Map<string, HttpFixture>();
    for (const [name, options] of Object.entries(servers)) fixtures.set(name, await startHttp({ name, ...options }, t));
    const gateway = await startGateway(
        { config: { servers: Object.fromEntries([...fixtures].map(([name, fixture]) => [name, { url: fixture.url }])) } },
        t,
    );
    await served(gateway, ...Object.entries(servers).map(([name, { tools }]) => `${name}__${tools?.[0]?.name ?? "echo"}`));
    return { gateway, fixtures, fixture: (name: string) => fixtures.get(name)! };
}

describe("what has no name here", () => {
    let here: Awaited<ReturnType<typeof start>>;
    before(async () => {
        const both = { ...DEFINITIONS, on: rich };
        here = await start(undefined, {
            legacy: { ...both, revisions: [REVISION.legacy] },
            modern: { ...both, revisions: [MODERN] },
        });
    });
    after(async () => {
        await here.gateway.stop();
        for (const fixture of here.fixtures.values()) await fixture.close();
    });

    for (const client of ERAS) {
        for (const server of ERAS) {
            describe(`a ${client} client, a ${server} server`, () => {
                for (const [method, { params, body }] of Object.entries(RESULTS)) {
                    test(`the result of ${method}`, async () => {
                        const peer = await connect(here.gateway, client, `/mcp/${server}`);
                        const answer = await peer.ask(method, params);
                        assert.deepEqual(plain(result(answer)), JSON.parse(`{${body}}`));
                        assert.ok(answer.text.includes(ODD), `numbers and escapes are as they were: ${answer.text}`);
                    });

                    test(`the params of ${method}`, async () => {
                        const peer = await connect(here.gateway, client, `/mcp/${server}`);
                        const from = here.fixture(server).requests.items.length;
                        const inside = JSON.stringify(params).slice(1, -1);
                        const written = `{${inside},${ODD},${META.replace("{", '{"progressToken":"p",')}}`;
                        result(await peer.ask(method, written));
                        const { message, body } = here
                            .fixture(server)
                            .requests.items.slice(from)
                            .find((item) => item.message?.method === method)!;
                        const { _meta, ...rest } = message!.params as { _meta: Json };
                        const { _meta: sent, ...others } = JSON.parse(written) as { _meta: Json };
                        assert.deepEqual(rest, others);
                        assert.ok(body.includes(ODD), body);
                        for (const key of ENVELOPE) {
                            assert.equal(key in _meta, server === "modern", key);
                            delete _meta[key];
                        }
                        assert.deepEqual(_meta, { ...sent, progressToken: _meta.progressToken });
                        assert.notEqual(_meta.progressToken, "p", "tokens of several clients meet there");
                    });
                }

                for (const [key, method] of Object.entries(LISTS)) {
                    test(`the definitions of ${method}, of one server and of all`, async () => {
                        const wanted = DEFINITIONS[key as keyof typeof LISTS] as Json[];
                        const one = await connect(here.gateway, client, `/mcp/${server}`);
                        assert.deepEqual(result(await one.ask(method))[key], wanted);
                        const all = result(await (await connect(here.gateway, client, "/mcp")).ask(method))[key] as Json[];
                        for (const item of wanted) {
                            const prefixed = "name" in item && !("uri" in item) && !("uriTemplate" in item);
                            const name = prefixed ? `${server}__${item.name}` : item.name;
                            assert.ok(
                                all.some((each) => JSON.stringify(each) === JSON.stringify({ ...item, name })),
                                `${JSON.stringify({ ...item, name })} in ${JSON.stringify(all)}`,
                            );
                        }
                    });
                }

                test("an error", async () => {
                    const peer = await connect(here.gateway, client, `/mcp/${server}`);
                    const act = here.fixture(server).act((exchange) =>
                        exchange.text(
                            200,
                            "application/json",
                            `{"jsonrpc":"2.0","id":${JSON.stringify(exchange.message.id)},"error":{"code":-7,"message":"m","data":{${ODD}},"acme":1}}`,
                        ),
                    );
                    const answer = await peer.ask("tools/call", { name: "echo", arguments: act });
                    assert.deepEqual(answer.messages.at(-1)!.error, JSON.parse(`{"code":-7,"message":"m","data":{${ODD}},"acme":1}`));
                });

                test("progress and log messages", async () => {
                    const peer = await connect(here.gateway, client, `/mcp/${server}`);
                    const act = here.fixture(server).act((exchange) => {
                        const { progressToken } = exchange.message.params!._meta as Json;
                        const out = exchange.sse();
                        out.event(
                            `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":${JSON.stringify(progressToken)},"progress":0.50,${ODD},${META}}}`,
                        );
                        out.event(
                            `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":{${ODD}},${ODD},${META}}}`,
                        );
                        out.event(exchange.answer("done"));
                        out.end();
                    });
                    const meta = { progressToken: "p", ...(client === "modern" ? { "io.modelcontextprotocol/logLevel": "debug" } : {}) };
                    const answer = await peer.ask("tools/call", { _meta: meta, name: "echo", arguments: act });
                    const told = new Map(answer.messages.map((message) => [message.method, message.params]));
                    const odd = JSON.parse(`{${ODD},${META}}`) as Json;
                    assert.deepEqual(told.get("notifications/progress"), { progressToken: "p", progress: 0.5, ...odd });
                    assert.deepEqual(told.get("notifications/message"), { level: "error", data: JSON.parse(`{${ODD}}`), ...odd });
                    assert.equal(answer.text.split(ODD).length, 4, "as they were written");
                });
            });
        }
    }
});

describe("what a server asks, and what a client answers", () => {
    const ASKED: Json = { message: "m", requestedSchema: { ...object, properties: {}, "x-acme": 1 }, acme: [1], _meta: { "a/b": 1, ...TRACE } };
    const ANSWER: Json = { action: "accept", content: { a: 1 }, acme: { b: 1 }, _meta: { "a/b": 2 } };
    const URL_ASKED = { mode: "url", url: "https://e.example/", message: "m" };
    const can = { elicitation: { form: {}, url: {} } };

    /** The first thing that it is asked, and the call's end. */
    async function asked(peer: Peer, params: Json): Promise<{ params: Json; done: RpcMessage }> {
        const opened = await peer.open("tools/call", params, '"c"');
        const ends = (message: RpcMessage) => message.id === "c" && message.method === undefined;
        const first = await opened.messages.waitFor((message) => ends(message) || message.method === "elicitation/create");
        if (peer.era === "legacy") {
            await peer.respond(first.id, ANSWER);
            return { params: first.params!, done: await opened.messages.waitFor(ends) };
        }
        const wanted = first.result as { inputRequests: { [key: string]: { params: Json } }; requestState: string };
        assert.ok(wanted.inputRequests !== undefined, JSON.stringify(first));
        const [[key, request]] = Object.entries(wanted.inputRequests) as [[string, { params: Json }]];
        const more = { inputResponses: { [key]: ANSWER }, requestState: wanted.requestState };
        const answer = await peer.ask("tools/call", { ...params, ...more }, '"d"');
        return { params: request.params, done: answer.messages.at(-1)! };
    }

    /** A tool that asks once, in the way of its era, and says what it was answered. */
    const asking = (fixture: HttpFixture, server: Era, params: Json) =>
        fixture.act(async (exchange) => {
            const method = "elicitation/create";
            if (server === "modern") {
                const { inputResponses } = exchange.message.params as { inputResponses?: { k: Json } };
                if (inputResponses !== undefined) exchange.json(exchange.answer(JSON.stringify(inputResponses.k)));
                else exchange.result({ resultType: "input_required", inputRequests: { k: { method, params } }, requestState: "s" });
                return;
            }
            const out = exchange.sse();
            const id = `ask ${fixture.requests.items.length}`;
            out.event({ jsonrpc: "2.0", id, method, params });
            const { message } = await fixture.requests.waitFor((request) => request.message?.id === id);
            out.event(exchange.answer(JSON.stringify(message!.result)));
            out.end();
        });

    let here: Awaited<ReturnType<typeof start>>;
    before(async () => {
        here = await start(undefined, { legacy: { revisions: [REVISION.legacy] }, modern: { revisions: [MODERN] } });
    });
    after(async () => {
        await here.gateway.stop();
        for (const fixture of here.fixtures.values()) await fixture.close();
    });

    for (const client of ERAS) {
        for (const server of ERAS) {
            const run = async (params: Json) => {
                const peer = await connect(here.gateway, client, `/mcp/${server}`, can);
                const act = asking(here.fixture(server), server, params);
                const { params: told, done } = await asked(peer, { name: "echo", arguments: act });
                const [{ text }] = done.result!.content as [{ text: string }];
                assert.deepEqual(JSON.parse(text), ANSWER, "the answer arrives as it was given");
                return told;
            };

            test(`a ${client} client, a ${server} server`, async () => {
                assert.deepEqual(await run(ASKED), ASKED);
            });

            test(`a ${client} client, a ${server} server, by URL`, async () => {
                if (server === "modern") {
                    const { elicitationId, ...told } = await run(URL_ASKED);
                    assert.deepEqual(told, URL_ASKED);
                    if (client === "modern") assert.equal(elicitationId, undefined);
                    else assert.match(String(elicitationId), /^[A-Za-z0-9_-]{22}$/, "2025-11-25 needs one");
                    return;
                }
                const told = await run({ ...URL_ASKED, elicitationId: "e", _meta: { "a/b": 1, progressToken: 0 } });
                if (client === "modern") {
                    assert.deepEqual(told, { ...URL_ASKED, _meta: { "a/b": 1 } }, "without what belongs to the request");
                    return;
                }
                const { progressToken } = told._meta as Json;
                assert.notEqual(progressToken, 0, "two servers may have chosen one token");
                assert.deepEqual(told, { ...URL_ASKED, elicitationId: "e", _meta: { "a/b": 1, progressToken } });
            });
        }
    }
});

describe("capabilities", () => {
    const DECLARED: Json = {
        tools: { listChanged: true },
        resources: {},
        tasks: { list: {} },
        experimental: { "acme/x": { deep: [1.5] } },
        extensions: {
            "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] },
            "io.modelcontextprotocol/tasks": {},
            "acme.example/ext": { version: 2 },
        },
        "acme.example": { on: true },
    };
    const APPS = { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } };
    const ACME = { "acme.example/ext": { version: 2 } };
    /** Not the server's own: ids of tasks are the gateway's. */
    const TASKS = { "io.modelcontextprotocol/tasks": {} };
    const OTHER = { "acme.example/ext": { version: 1 }, "other.example/ext": {} };
    let here: Awaited<ReturnType<typeof start>>;
    before(async () => {
        here = await start(undefined, {
            legacy: { revisions: [REVISION.legacy], capabilities: DECLARED },
            modern: { revisions: [MODERN], capabilities: DECLARED },
            other: { revisions: [MODERN], capabilities: { tools: {}, extensions: OTHER } },
            bare: { revisions: [MODERN], capabilities: { tools: {} } },
        });
    });
    after(async () => {
        await here.gateway.stop();
        for (const fixture of here.fixtures.values()) await fixture.close();
    });

    for (const client of ERAS) {
        for (const server of ERAS) {
            test(`of a ${server} server, told to a ${client} client`, async () => {
                const { begun, begunText } = await connect(here.gateway, client, `/mcp/${server}`);
                const { tools, resources, tasks, logging, ...rest } = begun.capabilities as Json;
                assert.equal(begunText.split('"extensions":').length, 2, "one key, once");
                assert.ok(tools !== undefined && resources !== undefined && logging === undefined);
                assert.equal(tasks, undefined);
                assert.deepEqual(
                    rest,
                    client === server
                        ? {
                              experimental: DECLARED.experimental,
                              extensions: { ...(client === "modern" ? TASKS : {}), ...APPS, ...ACME },
                              "acme.example": { on: true },
                          }
                        : { experimental: DECLARED.experimental, extensions: APPS },
                );
            });
        }

        test(`of all servers, told to a ${client} client: extensions, each once`, async () => {
            const { begun, begunText } = await connect(here.gateway, client, "/mcp");
            const { extensions, experimental } = begun.capabilities as Json;
            assert.equal(begunText.split('"extensions":').length, 2, "one key, once");
            assert.equal(experimental, undefined);
            const others = { ...TASKS, "other.example/ext": {} };
            assert.deepEqual(extensions, { ...APPS, ...ACME, ...(client === "modern" ? others : {}) });
        });

        test(`of a server that has none of it, told to a ${client} client`, async () => {
            const { begun } = await connect(here.gateway, client, "/mcp/bare");
            assert.deepEqual(Object.keys(begun.capabilities as Json), ["tools"]);
        });
    }

    test("initialize at the endpoint of one server waits for its first start, and not for ever", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const late = (name: string) => ({
            cmd: control.command({ name, initialize: "hold", capabilities: { prompts: {}, experimental: { acme: 1 } } }),
        });
        const slow = await startGateway({ config: { mcp: { list_timeout: "20s" }, servers: { slow: late("slow") } } }, t);
        const opening = connect(slow, "legacy", "/mcp/slow");
        const child = await control.started("slow");
        await child.receives((message) => message.method === "initialize");
        const all = await connect(slow, "legacy", "/mcp");
        assert.ok("tools" in (all.begun.capabilities as Json), "that of all waits for nobody");
        child.do({ do: "release" });
        const { prompts, ...rest } = (await opening).begun.capabilities as Json;
        assert.ok(prompts !== undefined);
        assert.deepEqual(rest, { experimental: { acme: 1 } });
        const hangs = await startGateway({ config: { mcp: { list_timeout: "300ms" }, servers: { hangs: late("hangs") } } }, t);
        const { begun } = await connect(hangs, "legacy", "/mcp/hangs");
        assert.ok("tools" in (begun.capabilities as Json), "what a server may have that nobody has heard of yet");
    });

    const CLIENTS: Json = {
        sampling: { tools: {} },
        roots: { listChanged: true, acme: 1 },
        experimental: { "acme/y": 1 },
        extensions: { ...APPS, ...ACME, "io.modelcontextprotocol/tasks": {} },
        "acme.example": [],
        tasks: {},
    };
    const told = (server: string, from: number, method: string) =>
        here
            .fixture(server)
            .requests.items.slice(from)
            .findLast(({ message }) => message?.method === method)!.message!.params as { capabilities: Json; _meta: Json };

    test("of a modern client, told to a modern server: all but tasks of its own, as written", async () => {
        const from = here.fixture("modern").requests.items.length;
        const peer = await connect(here.gateway, "modern", "/mcp/modern", CLIENTS);
        result(await peer.ask("tools/call", { name: "echo", arguments: {} }));
        const { tasks: _, ...rest } = CLIENTS;
        assert.deepEqual(told("modern", from, "tools/call")._meta[CAPABILITIES_KEY], rest);
        // The gateway's own requests say what such clients can do, as far as the gateway knows of it.
        const probed = told("modern", from, "server/discover")._meta[CAPABILITIES_KEY];
        assert.deepEqual(probed, { sampling: { tools: {} }, roots: {}, extensions: APPS });
    });

    test("of a modern client, told to a legacy server: what the gateway knows of", async () => {
        const from = here.fixture("legacy").requests.items.length;
        const peer = await connect(here.gateway, "modern", "/mcp/legacy", CLIENTS);
        result(await peer.ask("tools/call", { name: "echo", arguments: {} }));
        const { capabilities } = told("legacy", from, "initialize");
        assert.deepEqual(capabilities, { sampling: { tools: {} }, roots: {}, extensions: APPS });
        assert.deepEqual(told("legacy", from, "tools/call")._meta ?? {}, {});
    });

    test("of a legacy client, told to a modern server: with its extensions and experiments", async () => {
        const from = here.fixture("modern").requests.items.length;
        const peer = await connect(here.gateway, "legacy", "/mcp/modern", CLIENTS);
        result(await peer.ask("tools/call", { name: "echo", arguments: {} }));
        assert.deepEqual(told("modern", from, "tools/call")._meta[CAPABILITIES_KEY], {
            sampling: { tools: {} },
            roots: {},
            experimental: { "acme/y": 1 },
            extensions: { ...APPS, ...ACME, ...TASKS }, // which the gateway runs for it
        });
    });

    test("of a legacy client, told to a legacy server: what the gateway knows of", async () => {
        const { extensions: _, ...others } = CLIENTS;
        const from = here.fixture("legacy").requests.items.length;
        const peer = await connect(here.gateway, "legacy", "/mcp/legacy", others);
        result(await peer.ask("tools/call", { name: "echo", arguments: {} }));
        assert.deepEqual(told("legacy", from, "initialize").capabilities, { sampling: { tools: {} }, roots: {} });
    });

    for (const [what, size, isTold] of [
        ["as long as they may be", 8192, true],
        ["a byte longer", 8193, false],
    ] as const) {
        test(`extensions of a legacy client, ${what}`, async () => {
            const extensions = { "a/b": "" };
            extensions["a/b"] = "x".repeat(size - JSON.stringify(extensions).length);
            const from = here.fixture("modern").requests.items.length;
            const peer = await connect(here.gateway, "legacy", "/mcp/modern", { extensions, experimental: { a: {} } });
            result(await peer.ask("tools/call", { name: "echo", arguments: {} }));
            const wanted = isTold
                ? { extensions: { ...extensions, ...TASKS }, experimental: { a: {} } }
                : { extensions: TASKS };
            assert.deepEqual(told("modern", from, "tools/call")._meta[CAPABILITIES_KEY], wanted);
        });
    }

    for (const [what, size, isTold] of [
        ["as long as they may be", 16384, true],
        ["a byte longer", 16385, false],
    ] as const) {
        test(`capabilities of a server, ${what}`, async (t) => {
            const capabilities: Json = { tools: {}, acme: "" };
            capabilities.acme = "x".repeat(size - JSON.stringify(capabilities).length);
            const { gateway } = await start(t, { s: { revisions: [MODERN], capabilities } });
            const { begun } = await connect(gateway, "modern", "/mcp/s");
            const { tools, ...rest } = begun.capabilities as Json;
            assert.ok(tools !== undefined, "what the gateway has itself is there");
            assert.deepEqual(rest, isTold ? { acme: capabilities.acme } : {});
        });
    }

    test("servers that declare more than may be told: what fits, and each whole", async (t) => {
        const names = Array.from({ length: 8 }, (_, i) => `s${i}`);
        const extension = (name: string) => ({ [`${name}.example/e`]: { long: "x".repeat(15_000) } });
        const { gateway } = await start(
            t,
            Object.fromEntries(names.map((name) => [name, { revisions: [MODERN], capabilities: { tools: {}, extensions: extension(name) } }])),
        );
        const { begun } = await connect(gateway, "modern", "/mcp");
        const { extensions } = begun.capabilities as { extensions: Json };
        assert.deepEqual(extensions, Object.assign({}, ...names.slice(0, 4).map(extension)));
    });
});

describe("MCP Apps", () => {
    const URI = "ui://weather/view.html";
    const TYPE = "text/html;profile=mcp-app";
    const TOOL = {
        name: "weather",
        inputSchema: object,
        _meta: { ui: { resourceUri: URI, visibility: ["model", "app"] }, "ui/resourceUri": URI },
    };
    const RESOURCE = { uri: URI, name: "view", mimeType: TYPE, _meta: { ui: { csp: { connectDomains: ["https://e.example"] } } } };
    const CONTENTS = [{ uri: URI, mimeType: TYPE, text: "<!doctype html><p>ä</p>", _meta: { ui: { prefersBorder: true } } }];
    const APPS = { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: [TYPE] } } };

    for (const client of ERAS) {
        for (const server of ERAS) {
            test(`a ${client} client, a ${server} server: by the server's own endpoint and by that of all`, async (t) => {
                const { gateway, fixture } = await start(t, {
                    s: {
                        revisions: [REVISION[server]],
                        tools: [TOOL],
                        resources: [RESOURCE],
                        on: (exchange) => {
                            if (exchange.message.method !== "resources/read") return false;
                            exchange.result({
                                ...(server === "modern" ? { resultType: "complete", ttlMs: 0, cacheScope: "private" } : {}),
                                contents: CONTENTS,
                            });
                            return true;
                        },
                    },
                });
                for (const path of ["/mcp/s", "/mcp"]) {
                    const peer = await connect(gateway, client, path, APPS);
                    const [tool] = result(await peer.ask("tools/list")).tools as Json[];
                    // An app calls tools by the names that stand in its page: those of the server's own endpoint.
                    assert.deepEqual(tool, { ...TOOL, name: path === "/mcp/s" ? "weather" : "s__weather" });
                    assert.deepEqual(result(await peer.ask("resources/list")).resources, [RESOURCE]);
                    assert.deepEqual(plain(result(await peer.ask("resources/read", { uri: URI }))), { contents: CONTENTS });
                    result(await peer.ask("completion/complete", { ref: { type: "ref/resource", uri: URI }, argument: { name: "a", value: "" } }));
                }
                // Servers offer what has a user interface to those who say that they show it.
                const begins = fixture("s").requests.items.flatMap(({ message }) =>
                    ["initialize", "server/discover"].includes(message?.method ?? "") ? [message!.params as Json] : [],
                );
                const told = begins.map((params) => params.capabilities ?? (params._meta as Json)[CAPABILITIES_KEY]);
                assert.ok(told.some((each) => JSON.stringify(each) === JSON.stringify(APPS)), JSON.stringify(told));
                assert.ok(told.some((each) => JSON.stringify(each) === "{}"), "and nothing of those who do not");
            });
        }
    }
});

/** Each with its JSON text. */
const IDS = ["0", '""', '"0"', "-1", "9007199254740991", "-9223372036854775808", '"1e3"', '"ü 😀 \\u0000 \\""', '"\\u0061"'];
const NO_IDS = ["1e3", "1.0", "1.5", "-0.0", "1E400", "null", "true", "[]", "{}"];

describe("ids and tokens keep their type", () => {
    let control: Control;
    let gateway: Gateway;
    let http: HttpFixture;
    const SERVERS = ["stdio-legacy", "stdio-modern", "http-legacy", "http-modern"];
    let modern: HttpFixture;
    before(async () => {
        control = await startControl();
        http = await startHttp({ name: "http-legacy", revisions: ["2025-11-25"] });
        modern = await startHttp({ name: "http-modern", revisions: [MODERN] });
        gateway = await startGateway({
            config: {
                servers: {
                    "stdio-legacy": { cmd: control.brain({ name: "stdio-legacy", revisions: ["2025-11-25"] }) },
                    "stdio-modern": { cmd: control.brain({ name: "stdio-modern", revisions: [MODERN] }) },
                    "http-legacy": { url: http.url },
                    "http-modern": { url: modern.url },
                },
            },
        });
        await served(gateway, ...SERVERS.map((name) => `${name}__echo`));
    });
    after(async () => {
        await gateway.stop();
        await http.close();
        await modern.close();
        await control.close();
    });

    for (const client of ERAS) {
        for (const server of SERVERS) {
            test(`a ${client} client, ${server}`, async () => {
                const peer = await connect(gateway, client, `/mcp/${server}`);
                for (const id of IDS) {
                    const params = `{"_meta":{"progressToken":${id}},"name":"progress","arguments":{"steps":2}}`;
                    const { messages, text } = await peer.ask("tools/call", params, id);
                    assert.equal(messages.at(-1)!.id, JSON.parse(id), text);
                    assert.ok(text.includes(`"id":${id},`), `as it was written: ${text}`);
                    const told = messages.filter(({ method }) => method === "notifications/progress");
                    assert.deepEqual(
                        told.map(({ params: each }) => each!.progressToken),
                        [JSON.parse(id), JSON.parse(id)],
                    );
                }
            });
        }

        test(`what is no id is refused, of a ${client} client`, async () => {
            const peer = await connect(gateway, client, "/mcp/http-legacy");
            const n = http.requests.items.length;
            for (const id of NO_IDS) {
                const { status, messages } = await peer.ask("tools/call", { name: "echo", arguments: {} }, id);
                assert.equal(status, 400, id);
                assert.equal(messages[0]!.error!.code, -32600, id);
                assert.ok(!("id" in messages[0]!), `no id is made up for ${id}`);
            }
            assert.equal(http.requests.items.length, n, "nothing of it arrives");
        });
    }

    /** Four clients at once on one server, with one id and one token; one of them cancels. */
    for (const server of SERVERS) {
        for (const id of ["0", '""']) {
            test(`four clients with the id and the token ${id}, ${server}`, async () => {
                const peers = await Promise.all(
                    [...ERAS, ...ERAS].map(async (era) => connect(gateway, era, `/mcp/${server}`)),
                );
                const hangUp = peers.map(() => new AbortController());
                const opening = peers.map((peer, i) => {
                    const params = `{"_meta":{"progressToken":${id}},"name":"hold","arguments":{"n":${i}}}`;
                    return peer.open("tools/call", params, id, hangUp[i]!.signal);
                });
                const streams = await Promise.all(opening);
                await Promise.all(
                    streams.map(async ({ messages }) => {
                        const first = await messages.waitFor(({ method }) => method === "notifications/progress");
                        assert.equal(first.params!.progressToken, JSON.parse(id));
                    }),
                );
                const fixture = { "http-legacy": http, "http-modern": modern }[server];
                const child: FixtureProcess | undefined = control.starts.items.findLast(({ name }) => name === server);
                const received = async (): Promise<RpcMessage[]> => {
                    if (fixture !== undefined) return fixture.requests.items.flatMap(({ message }) => (message ? [message as RpcMessage] : []));
                    await child!.sync();
                    return child!.received();
                };
                const held = (n: number) => (message: RpcMessage) =>
                    message.params?.name === "hold" && (message.params.arguments as { n?: number }).n === n;
                const theirs = await Promise.all(peers.map(async (_, i) => (await received()).findLast(held(i))!.id));
                assert.equal(new Set(theirs).size, 4, "ids of the gateway's own");

                const cancels = server.endsWith("legacy") ? 0 : 1;
                if (peers[cancels]!.era === "legacy") await peers[cancels]!.notify("notifications/cancelled", `{"requestId":${id}}`);
                else hangUp[cancels]!.abort();
                if (server === "http-modern") {
                    const sent = modern.requests.items.findLast(({ message }) => held(cancels)(message as RpcMessage))!;
                    await within(sent.closed, "its stream is closed");
                } else {
                    const told = await until(async () => {
                        const all = await received();
                        const some = all.filter(
                            ({ method, params }) =>
                                method === "notifications/cancelled" && theirs.includes(params!.requestId as number),
                        );
                        return some.length > 0 && some;
                    }, "it is told");
                    assert.deepEqual(
                        told.map(({ params }) => params!.requestId),
                        [theirs[cancels]],
                    );
                }
                if (fixture !== undefined) fixture.brain.release();
                else child!.do({ do: "release" });
                for (const [i, { messages }] of streams.entries()) {
                    if (i === cancels) continue;
                    const answer = await messages.waitFor((message) => "id" in message && message.method === undefined);
                    assert.equal(answer.id, JSON.parse(id));
                    assert.deepEqual((answer.result!.content as unknown[])[0], { type: "text", text: "released" });
                }
            });
        }
    }
});
