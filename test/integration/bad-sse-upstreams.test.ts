/*
 * A row for each way in which an upstream over HTTP+SSE misbehaves: at its start, where it must not lead the gateway
 * anywhere else, and in a call. The caller gets a clear error soon; calls to another upstream go on undisturbed
 * meanwhile, and so do others on the same stream, unless that is what breaks; at the end nothing is left.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";

import { legacyOnly, startHttp, type EventStream, type Exchange, type HttpFixture } from "./fixtures/http-server.ts";
import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { ModernClient } from "./lib/modern.ts";
import { call, downReason, said, status, type Request } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";
import { holding, impatient, isReleased, isSettled, undisturbed, warm, type Holding } from "./lib/witness.ts";

const sse = Object.freeze({ transport: "sse", ...legacyOnly("2024-11-05") } as const);
const times = { timeout: "2s", max_timeout: "4s", max_message: "1MiB", restart: { initial: "20ms", max: "100ms" } };

const chunk = (data: string) => `${Buffer.byteLength(data).toString(16)}\r\n${data}\r\n`;
/** As much as the gateway takes, but not all that this process can do. */
const flood = ({ socket }: EventStream, piece: string) => {
    const timer = setInterval(() => socket.writableLength < 200_000 && socket.write(chunk(piece)), 2);
    socket.once("close", () => clearInterval(timer));
};
const drip = (stream: EventStream) => {
    const timer = setInterval(() => stream.raw("x"), 20);
    stream.socket.once("close", () => clearInterval(timer));
};

describe("HTTP+SSE upstreams that do not start", { concurrency: 4 }, () => {
    let elsewhere: HttpFixture;
    interface Start {
        /** the data of the endpoint event */
        endpoint?: string | (() => string);
        /** in place of the stream; false: the honest one follows */
        opens?: (exchange: Exchange) => unknown;
        /** in place of the answer to initialize */
        initialize?: (exchange: Exchange) => unknown;
        /** of `cardea status`; undefined: it starts */
        says: RegExp | undefined;
    }
    const origin = /^its endpoint event points to another origin than url/;
    const starts: { [name: string]: Start } = {
        "an endpoint on another port": { endpoint: () => `http://127.0.0.1:${elsewhere.port}/message`, says: origin },
        "an endpoint on another host": { endpoint: () => `http://localhost:${elsewhere.port}/message`, says: origin },
        "an endpoint without a scheme": { endpoint: () => `//127.0.0.1:${elsewhere.port}/message`, says: origin },
        "an endpoint with TLS": { endpoint: () => `https://127.0.0.1:${elsewhere.port}/message`, says: origin },
        "an endpoint on the network's metadata": { endpoint: "http://169.254.169.254/latest", says: origin },
        "an endpoint that is a file": { endpoint: "file:///etc/passwd", says: origin },
        "an endpoint with a password": { endpoint: "OWN://u:p@HERE/message", says: /user name or password/ },
        "an endpoint whose user looks like us": {
            endpoint: () => `http://127.0.0.1@127.0.0.1:${elsewhere.port}/message`,
            says: origin,
        },
        "an endpoint with a fragment": { endpoint: "/message#x", says: /has a fragment/ },
        "an endpoint that is no URL": { endpoint: "/me ssage", says: /is no URL/ },
        "an endpoint with a backslash": { endpoint: () => `\\\\127.0.0.1:${elsewhere.port}\\message`, says: /is no URL/ },
        "an endpoint of two lines": { endpoint: "/message\ndata: Host: evil", says: /is no URL/ },
        "an endpoint that is too long": { endpoint: `/${"x".repeat(8192)}`, says: /longer than 8192 bytes/ },
        "an endless endpoint": {
            opens: (exchange) => {
                const stream = exchange.sse();
                stream.raw("event: endpoint\ndata: /");
                flood(stream, "x".repeat(50_000));
            },
            says: /max_message, 1048576|within startup_timeout/, // whichever comes first
        },
        "an endpoint that never comes": {
            opens: (exchange) => exchange.sse().comment(),
            says: /^it sent no endpoint event within startup_timeout/,
        },
        "an endpoint that drips": {
            opens: (exchange) => {
                const stream = exchange.sse();
                stream.raw("event: endpoint\ndata: /");
                drip(stream);
            },
            says: /^it sent no endpoint event within startup_timeout/,
        },
        "an endpoint under another name": {
            opens: (exchange) => exchange.sse().raw("event: Endpoint\ndata: /message\n\n"),
            says: /^it sent no endpoint event/,
        },
        "silence": { opens: () => {}, says: /^it sent no endpoint event/ },
        "an end before the endpoint": {
            opens: (exchange) => exchange.sse().end(),
            says: /^its stream ended/,
        },
        "a reset before the endpoint": { opens: (exchange) => exchange.reset(), says: /./ },
        "a redirect": {
            opens: (exchange) => exchange.empty(307, { Location: elsewhere.url }),
            says: /^it redirects \(HTTP 307\), which is not followed/,
        },
        "a page": {
            opens: (exchange) => exchange.text(200, "text/html", "<p>hello"),
            says: /did not answer GET with text\/event-stream/,
        },
        "JSON": {
            opens: (exchange) => exchange.json({ endpoint: "/message" }),
            says: /did not answer GET with text\/event-stream/,
        },
        "an error": { opens: (exchange) => exchange.empty(500), says: /HTTP 500/ },
        "no content": { opens: (exchange) => exchange.empty(204), says: /HTTP 204/ },
        "a compressed stream": {
            opens: (exchange) => exchange.sse({ "Content-Encoding": "gzip" }).raw(gzipSync("event: endpoint\ndata: /m\n\n")),
            says: /./,
        },
        "bytes that are no text": {
            opens: (exchange) => exchange.sse().raw(Buffer.from("data: \xff\xfe\n\n", "latin1")),
            says: /UTF-8/i,
        },
        "garbage, messages and other events before the endpoint": {
            opens: (exchange) => {
                const raw = exchange.raw.bind(exchange);
                exchange.raw = (bytes) => {
                    raw(bytes);
                    exchange.raw = raw;
                };
                const stream = here(exchange).openStream(exchange);
                stream.raw("event: hello\ndata: {}\n\ndata: no json\n\nid: 7\nretry: 1\n\n: comment\n\n");
                stream.event({ jsonrpc: "2.0", id: 1, method: "ping" });
            },
            says: undefined,
        },
        "initialize refused": { initialize: (exchange) => exchange.empty(500), says: /HTTP 500/ },
        "initialize redirected": {
            initialize: (exchange) => exchange.empty(308, { Location: elsewhere.url }),
            says: /^it redirects \(HTTP 308\)/,
        },
        "initialize not answered": { initialize: (exchange) => exchange.empty(202), says: /startup_timeout/ },
        "initialize hangs": { initialize: () => {}, says: /startup_timeout/ },
        "initialize answered with nonsense": {
            initialize: (exchange) => {
                exchange.empty(202);
                exchange.stream!.event({ jsonrpc: "2.0", id: exchange.message.id, result: { protocolVersion: "1999-01-01" } });
            },
            says: /./,
        },
        "initialize answered as 2026-07-28": {
            initialize: (exchange) => {
                exchange.empty(202);
                const result = { protocolVersion: "2026-07-28", capabilities: {}, serverInfo: { name: "x", version: "1" } };
                exchange.stream!.event({ jsonrpc: "2.0", id: exchange.message.id, result });
            },
            says: /protocol version/,
        },
    };
    const id = (name: string) => `s-${Object.keys(starts).indexOf(name)}`;
    const fixtures = new Map<string, HttpFixture>();
    const here = (exchange: Exchange): HttpFixture =>
        [...fixtures.values()].find((fixture) => fixture.requests.items.includes(exchange.request))!;
    let gateway: Gateway;

    before(async () => {
        elsewhere = await startHttp();
        const servers: { [name: string]: ServerConfig } = {};
        for (const [name, start] of Object.entries(starts)) {
            const fixture = await startHttp({
                ...sse,
                ...(start.endpoint === undefined
                    ? {}
                    : {
                          endpoint: () => {
                              const said = typeof start.endpoint === "function" ? start.endpoint() : start.endpoint!;
                              return said.replace("OWN", "http").replace("HERE", `127.0.0.1:${fixtures.get(name)!.port}`);
                          },
                      }),
                on: (exchange) => {
                    const way =
                        exchange.request.method === "GET"
                            ? start.opens
                            : exchange.message.method === "initialize"
                              ? start.initialize
                              : undefined;
                    way?.(exchange);
                    return way !== undefined;
                },
            });
            fixtures.set(name, fixture);
            servers[id(name)] = { url: fixture.url, protocol: "sse", auth: { token: "hunter2" }, ...impatient, max_message: "1MiB" };
        }
        gateway = await startGateway({ config: { servers }, args: ["--log", "info"] });
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of [elsewhere, ...fixtures.values()]) await fixture?.close();
    });

    for (const [name, { says }] of Object.entries(starts)) {
        test(name, async () => {
            if (says === undefined) {
                await until(async () => (await status(gateway)).get(id(name))?.state === "ready", `${name}: it is ready`);
                return;
            }
            assert.match(await downReason(gateway, id(name)), says);
        });
    }

    test("nobody else has heard of any of it", () => {
        assert.deepEqual(elsewhere.requests.items, []);
        assert.equal(elsewhere.connections, 0);
    });
});

describe("HTTP+SSE upstreams that misbehave in a call", () => {
    interface Way {
        answer: (exchange: Exchange, stream: EventStream) => unknown;
        /** of the error, or the text of the answer */
        gets: RegExp | string;
        /** the session ends: others on the same stream notice */
        breaks?: true;
        ms?: number;
    }
    const lost = /^the connection to the upstream ended before it answered; the call may have been carried out$/;
    const ways: { [name: string]: Way } = {
        "takes nothing": { answer: () => {}, gets: /2000 ms/ },
        "takes it, and is silent": { answer: (exchange) => exchange.empty(202), gets: /2000 ms/ },
        "answers without taking it": { answer: (exchange, stream) => stream.event(exchange.answer("x")), gets: "x" },
        "takes it with 200 and a body": {
            answer: (exchange, stream) => {
                exchange.json({ ok: true });
                stream.event(exchange.answer("x"));
            },
            gets: "x",
        },
        "answers in the POST": {
            answer: (exchange) => exchange.json(exchange.answer("forged")),
            gets: /2000 ms/,
        },
        "takes it with a stream that never ends": {
            answer: (exchange, stream) => {
                const endless = exchange.sse();
                flood(endless, `: ${"x".repeat(10_000)}\n`);
                stream.event(exchange.answer("x"));
            },
            gets: "x",
        },
        "refuses it with 500": { answer: (exchange) => exchange.empty(500), gets: /refused the request with HTTP 500/ },
        "refuses it with 400": {
            answer: (exchange) => exchange.text(400, "text/plain", "no such thing"),
            gets: /refused the request with HTTP 400/,
        },
        "refuses it with 401": { answer: (exchange) => exchange.empty(401), gets: /credentials \(HTTP 401\)/ },
        "refuses it with an endless body": {
            answer: (exchange) => {
                exchange.head(500, { "Content-Type": "text/plain", "Transfer-Encoding": "chunked" });
                flood({ socket: exchange.socket } as EventStream, "x".repeat(10_000));
            },
            gets: /2000 ms/,
        },
        "redirects it": { answer: (exchange) => exchange.empty(307, { Location: "/message" }), gets: /HTTP 307/ },
        "resets the POST": { answer: (exchange) => exchange.reset(), gets: /may have been carried out/ },
        "answers twice": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.event(exchange.answer("x"));
                stream.event(exchange.answer("y"));
            },
            gets: "x",
        },
        "answers ids that nobody has": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                const answer = exchange.answer("forged");
                for (const forged of [1e15, -1, String(exchange.message.id), null, 1.5, `${exchange.message.id}0`])
                    stream.event({ ...answer, id: forged });
            },
            gets: /2000 ms/,
        },
        "sends garbage before the answer": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw("data: {\n\ndata: null\n\ndata: []\n\nevent: ping\ndata: x\n\n:\n\n\n\nfoo\nid\n\n");
                stream.event(exchange.answer("x"));
            },
            gets: "x",
        },
        "answers with what is no message": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.event({ jsonrpc: "2.0", id: exchange.message.id, result: {}, error: {} });
            },
            gets: /not a valid message/,
        },
        "names its endpoint again, the same": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw(`event: endpoint\ndata: ${exchange.request.path}\n\n`);
                stream.event(exchange.answer("x"));
            },
            gets: "x",
        },
        "moves its endpoint": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw("event: endpoint\ndata: /message?session=other\n\n");
                stream.event(exchange.answer("x"));
            },
            gets: lost,
            breaks: true,
        },
        "moves its endpoint to another origin": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw("event: endpoint\ndata: http://127.0.0.1:1/message\n\n");
            },
            gets: lost,
            breaks: true,
        },
        "ends the stream": { answer: (_exchange, stream) => stream.end(), gets: lost, breaks: true },
        "resets the stream": { answer: (_exchange, { socket }) => socket.resetAndDestroy(), gets: lost, breaks: true },
        "ends the stream in the midst of the answer": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw(`data: ${JSON.stringify(exchange.answer("x"))}`);
                stream.end();
            },
            gets: lost,
            breaks: true,
        },
        "sends one huge event": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.event(exchange.answer("x".repeat(2 << 20)));
            },
            gets: /max_message, 1048576/,
            breaks: true,
        },
        "sends an event that never ends": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw("data: ");
                flood(stream, "x".repeat(50_000));
            },
            gets: /max_message, 1048576/,
            breaks: true,
        },
        "sends an event of lines that never end": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                flood(stream, `data: ${"x".repeat(1000)}\n`.repeat(50));
            },
            gets: /max_message, 1048576/,
            breaks: true,
        },
        "sends bytes that are no text": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw(Buffer.from("data: \xff\xfe\n\n", "latin1"));
            },
            gets: lost,
            breaks: true,
        },
        "breaks the framing": {
            answer: (exchange, { socket }) => {
                exchange.empty(202);
                socket.write("zz\r\n");
            },
            gets: lost,
            breaks: true,
        },
        "drips an event": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                stream.raw("data: {");
                drip(stream);
            },
            gets: /\d000 ms|ended before/,
            breaks: true,
        },
        "floods with comments": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                flood(stream, `: ${"x".repeat(20_000)}\n`);
            },
            gets: /\d000 ms|ended before/,
            breaks: true,
        },
        "floods with log messages": {
            answer: (exchange, stream) => {
                const note = { jsonrpc: "2.0", method: "notifications/message", params: { level: "info", data: "x" } };
                exchange.empty(202);
                flood(stream, `data: ${JSON.stringify(note)}\n\n`.repeat(50));
            },
            gets: /\d000 ms|ended before/,
            breaks: true,
        },
        "floods with questions": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                const ask = (n: number) => `data: ${JSON.stringify({ jsonrpc: "2.0", id: n, method: "roots/list" })}\n\n`;
                stream.raw(Array.from({ length: 2000 }, (_, n) => ask(n)).join(""));
                stream.event(exchange.answer("x"));
            },
            gets: "x",
        },
        "floods with garbage": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                flood(stream, "data: {\n\n".repeat(100));
            },
            gets: lost,
            breaks: true,
        },
        "says that its lists change, again and again": {
            answer: (exchange, stream) => {
                exchange.empty(202);
                const note = `data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n`;
                stream.raw(note.repeat(2000));
                stream.event(exchange.answer("x"));
            },
            gets: "x",
        },
    };
    let bad: HttpFixture;
    let good: HttpFixture;
    let gateway: Gateway;
    let first: Holding;
    const requester = (path: string): Request => {
        const client = new ModernClient(gateway, path);
        return (method, params) => client.request(method, params);
    };
    const honest = (request: Request, mark: string) => () => call(request, "echo", { text: mark }).then(said);

    before(async () => {
        bad = await startHttp({ ...sse });
        good = await startHttp({ ...sse });
        const servers = {
            bad: { url: bad.url, protocol: "sse", ...impatient, ...times },
            good: { url: good.url, protocol: "sse" },
        };
        gateway = await startGateway({ config: { servers }, args: ["--log", "info"] });
        await warm(gateway);
        await Promise.all(["/mcp/bad", "/mcp/good"].map((path) => honest(requester(path), "up")()));
        first = await holding(gateway);
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of [bad, good]) await fixture?.close();
    });

    for (const [name, { answer, gets, breaks }] of Object.entries(ways)) {
        test(`one that ${name}`, async () => {
            const mine = requester("/mcp/bad");
            const args = bad.act((exchange) => answer(exchange, exchange.stream!));
            const calling = call(mine, "echo", args);
            await Promise.all([
                isSettled(calling, gets, 4000),
                breaks === true || undisturbed(calling, "another call on the stream", honest(requester("/mcp/bad"), "o")),
                undisturbed(calling, "a call to another one", honest(requester("/mcp/good"), "g")),
            ]);
            assert.equal(bad.calls(args).length, 1, "the call was made once");
            const again = () => call(mine, "echo", { text: "again" });
            await until(async () => (await again()).result?.isError !== true, "it serves again");
            assert.equal(await said(again()), "again");
        });
    }

    test("of all these nothing is left", async () => {
        assert.equal(first.sessions, 0);
        assert.ok(first.held <= 16 << 10, `the open streams hold ${first.held}`);
        await isReleased(gateway, { ...first, held: 16 << 10, descriptors: first.descriptors + 8 });
    });
});
