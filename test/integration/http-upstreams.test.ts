/*
 * Streamable HTTP upstreams: how their revision is found, what they are sent, how their answers are read, and what
 * becomes of their sessions. The server is fixtures/http-server.ts, which can be wrong in any byte.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { BAD_MIRROR, Brain, brainTools, CAPABILITIES_KEY, MIRROR, MODERN, VERSION_KEY } from "./fixtures/brain.ts";
import {
    decodeField,
    legacyOnly,
    modernOnly,
    startHttp,
    HttpFixture,
    type EventStream,
    type Exchange,
    type HttpOptions,
} from "./fixtures/http-server.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, text, type Session } from "./lib/http.ts";
import { encodeField, ModernClient } from "./lib/modern.ts";
import { call, client, downReason, refusal, said, serve, status } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;
const speaking = (era: "legacy" | "modern") => (era === "legacy" ? legacyOnly() : modernOnly);

describe("probing", { concurrency: 4 }, () => {
    interface Probe {
        name: string;
        /** what server/discover gets, the n-th time, from 1; false: the honest answer */
        discover?: (exchange: Exchange, n: number) => boolean | void;
        options?: HttpOptions;
        finds: "legacy" | "modern" | "down";
        /** of `cardea status` */
        says?: RegExp;
        /** how often server/discover may come until it is found */
        probes?: number;
        server?: { [key: string]: string };
    }
    const unsupported = (supported: string[]) => (exchange: Exchange) =>
        exchange.error(-32022, "Unsupported protocol version", 400, { supported, requested: MODERN });
    const html = "<!doctype html><title>It works!</title>";

    const probes: Probe[] = [
        { name: "a DiscoverResult", finds: "modern", probes: 1 },
        {
            name: "-32022 that offers ours, once",
            discover: (exchange, n) => (n === 1 ? unsupported(["2027-01-01", MODERN])(exchange) : false),
            finds: "modern",
            probes: 2,
        },
        { name: "-32022 that offers legacy only", discover: unsupported(["2025-11-25"]), finds: "legacy" },
        {
            name: "-32022 that offers what nobody knows",
            discover: unsupported(["2027-01-01"]),
            finds: "down",
            says: /2027-01-01|revision|version/i,
        },
        {
            name: "a DiscoverResult without a common revision",
            discover: (exchange) =>
                exchange.result({
                    resultType: "complete",
                    supportedVersions: ["2027-01-01"],
                    capabilities: {},
                    ttlMs: 0,
                    cacheScope: "private",
                }),
            finds: "down",
            says: /2027-01-01|revision|version/i,
        },
        { name: "400", discover: (exchange) => exchange.empty(400), finds: "legacy" },
        {
            name: "400 with a reason",
            discover: (exchange) => exchange.error(-32000, "not initialized", 400),
            finds: "legacy",
        },
        { name: "404", discover: (exchange) => exchange.text(404, "text/plain", "not found"), finds: "legacy" },
        { name: "405", discover: (exchange) => exchange.empty(405, { Allow: "GET" }), finds: "legacy" },
        { name: "-32601", discover: (exchange) => exchange.error(-32601, "Method not found"), finds: "legacy" },
        {
            name: "-32601 with 404",
            discover: (exchange) => exchange.error(-32601, "Method not found", 404),
            finds: "legacy",
        },
        { name: "an empty result", discover: (exchange) => exchange.result({}), finds: "legacy" },
        { name: "a web page", discover: (exchange) => exchange.text(200, "text/html", html), finds: "legacy" },
        { name: "a web page for 404", discover: (exchange) => exchange.text(404, "text/html", html), finds: "legacy" },
        { name: "no JSON", discover: (exchange) => exchange.text(200, "application/json", "{"), finds: "legacy" },
        {
            name: "401",
            discover: (exchange) => exchange.empty(401, { "WWW-Authenticate": "Bearer" }),
            finds: "down",
            says: /401/,
        },
        { name: "403", discover: (exchange) => exchange.empty(403), finds: "down", says: /403/ },
        { name: "500", discover: (exchange) => exchange.empty(500), finds: "down", says: /500/ },
        {
            name: "503 with a web page",
            discover: (exchange) => exchange.text(503, "text/html", html),
            finds: "down",
            says: /503/,
        },
        { name: "a reset", discover: (exchange) => exchange.reset(), finds: "down" },
        { name: "silence", discover: () => {}, finds: "down", server: { startup_timeout: "300ms" } },
        {
            name: "502 twice",
            discover: (exchange, n) => (n <= 2 ? exchange.empty(502) : false),
            finds: "modern",
            probes: 3,
        },
    ];
    const id = (probe: Probe) => `p-${probes.indexOf(probe)}`;
    const fixtures = new Map<Probe, HttpFixture>();
    let gateway: Gateway;
    before(async () => {
        for (const probe of probes) {
            let n = 0;
            fixtures.set(
                probe,
                await startHttp({
                    ...probe.options,
                    on: (exchange) => {
                        if (exchange.message.method !== "server/discover" || probe.discover === undefined) return false;
                        return probe.discover(exchange, ++n) ?? true;
                    },
                }),
            );
        }
        const servers = Object.fromEntries(
            probes.map((probe) => [id(probe), { url: fixtures.get(probe)!.url, ...probe.server }]),
        );
        gateway = await startGateway({ config: { servers } });
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of fixtures.values()) await fixture.close();
    });

    for (const probe of probes) {
        test(`${probe.name}: ${probe.finds}`, async () => {
            const fixture = fixtures.get(probe)!;
            if (probe.finds === "down") {
                assert.match(await downReason(gateway, id(probe)), probe.says ?? /./);
                if (probe.says === undefined || /50\d/.test(probe.name)) {
                    await until(() => fixture.received("server/discover").length >= 2, "it is tried again");
                }
                assert.deepEqual(fixture.received("initialize"), [], "no fallback");
                return;
            }
            await until(async () => (await status(gateway)).get(id(probe))?.state === "ready", `${id(probe)} is ready`);
            const isModern = probe.finds === "modern";
            assert.equal(fixture.received("initialize").length, isModern ? 0 : 1);
            assert.equal(
                fixture
                    .received("tools/list")
                    .every((each) => (Brain.envelope(each.message!) !== undefined) === isModern),
                true,
            );
            const discovers = fixture.received("server/discover").length;
            if (probe.probes !== undefined) assert.equal(discovers, probe.probes);
            assert.equal(
                await said(call(await client(gateway, "legacy", id(probe)), "echo", { text: "found" })),
                "found",
            );
            assert.deepEqual(fixture.complaints, []);
        });
    }
});

describe("what is sent", { concurrency: 4 }, () => {
    for (const version of ["2025-03-26", "2025-06-18", "2025-11-25"]) {
        test(`to a server of ${version}`, async (t) => {
            const { fixture, gateway } = await serve(
                t,
                { ...legacyOnly(version), get: "stream" },
                { auth: { token: "of-upstream" } },
            );
            const request = await client(gateway, "modern");
            assert.equal(await said(call(request, "echo", { text: "x" })), "x");
            await fixture.receives("GET");
            await gateway.stop();
            const session = fixture.received("tools/list")[0]!.field("mcp-session-id");
            assert.match(session!, /^[0-9a-f-]{36}$/);
            let isOpen = false;
            for (const each of fixture.requests.items) {
                const about = `${each.method} ${each.message?.method} ${JSON.stringify(each.fields)}`;
                const method = each.message?.method;
                assert.equal(each.field("authorization"), "Bearer of-upstream", about);
                assert.equal(each.field("host"), `127.0.0.1:${fixture.port}`, about);
                assert.equal(each.path, "/mcp", about);
                if (method === "server/discover") {
                    assert.equal(each.field("mcp-protocol-version"), MODERN, about);
                    continue;
                }
                assert.ok(!each.fields.some(([name]) => /^mcp-(method|name|param)/i.test(name)), about);
                if (method === "initialize") {
                    isOpen = true;
                    assert.equal(each.field("mcp-session-id"), undefined, about);
                    assert.equal(each.message!.params!.protocolVersion, "2025-11-25", "the newest with sessions");
                } else if (isOpen) {
                    assert.equal(each.field("mcp-session-id"), session, about);
                    if (version >= "2025-06-18") assert.equal(each.field("mcp-protocol-version"), version, about);
                    else assert.notEqual(each.field("mcp-protocol-version"), MODERN, about);
                }
                if (each.method === "GET") assert.equal(each.field("accept"), "text/event-stream", about);
            }
            assert.equal(fixture.received("notifications/initialized").length, 1);
            assert.equal(fixture.received("DELETE").length, 1, "the session is ended");
            assert.deepEqual(fixture.complaints, []);
        });
    }

    test("to a modern server", async (t) => {
        const { fixture, gateway } = await serve(t, modernOnly, { auth: { token: "of-upstream" } });
        for (const era of ERAS) {
            const request = await client(gateway, era);
            assert.equal(await said(call(request, "echo", { text: era })), era);
        }
        await gateway.stop();
        assert.deepEqual(
            fixture.requests.items.map((each) => each.method).filter((method) => method !== "POST"),
            [],
            "neither GET nor DELETE",
        );
        for (const each of fixture.requests.items) {
            const about = `${each.message?.method} ${JSON.stringify(each.fields)}`;
            const meta = each.message!.params!._meta as { [key: string]: unknown };
            assert.equal(meta[VERSION_KEY], MODERN, about);
            assert.equal(typeof meta[CAPABILITIES_KEY], "object", about);
            assert.equal(each.field("mcp-protocol-version"), MODERN, about);
            assert.equal(each.field("mcp-method"), each.message!.method, about);
            assert.equal(each.field("authorization"), "Bearer of-upstream", about);
            assert.equal(each.field("last-event-id"), undefined, about);
        }
        assert.deepEqual(fixture.complaints, []);
    });

    test("values in header fields are in their codec", async (t) => {
        const tools = [...brainTools([MODERN]), BAD_MIRROR];
        const { fixture, gateway } = await serve(t, { ...modernOnly, tools });
        for (const era of ERAS) {
            const request = await client(gateway, era);
            const listed = (await request("tools/list")).result!.tools as { name: string }[];
            assert.ok(!listed.some((tool) => tool.name === BAD_MIRROR.name), "a wrong annotation hides the tool");
            assert.ok(listed.some((tool) => tool.name === MIRROR.name));
            for (const uri of ["test://thing/plain", "test://thing/ü", "test://thing/ /\t", "test://thing/ "]) {
                const { error } = await request("resources/read", { uri });
                assert.equal(error, undefined, JSON.stringify(error));
                const sent = (await fixture.receives("resources/read")).field("mcp-name");
                assert.ok(sent !== undefined);
            }
        }
        const names = fixture.received("resources/read").map((each) => each.field("mcp-name"));
        assert.ok(names.includes("test://thing/plain"));
        assert.ok(names.includes(encodeField("test://thing/ü")));
        const rows: [object, { [name: string]: string }][] = [
            [{ region: "eu" }, { region: "eu" }],
            [{ region: " lead" }, { region: "=?base64?IGxlYWQ=?=" }],
            [{ region: "" }, { region: "" }],
            [{ region: "=?base64?eA==?=" }, { region: "=?base64?PT9iYXNlNjQ/ZUE9PT89?=" }],
            [{ region: "=?BASE64?eA==?=" }, { region: "=?BASE64?eA==?=" }],
            [{ region: "a\tb" }, { region: "a\tb" }],
            [{ region: "line\nbreak\r\nX-Evil: 1" }, { region: encodeField("line\nbreak\r\nX-Evil: 1") }],
            [{ region: "ü😀" }, { region: encodeField("ü😀") }],
            [{ count: 9007199254740991 }, { count: "9007199254740991" }],
            [
                { count: -1, deep: { flag: false } },
                { count: "-1", flag: "false" },
            ],
            [{ region: null, plain: "x" }, {}],
            [{}, {}],
        ];
        const session = await openSession(gateway, "/mcp/http");
        for (const [args, wanted] of rows) {
            const from = fixture.requests.items.length;
            assert.deepEqual(JSON.parse(await said(session.call("mirror", args as Record<string, unknown>))), args);
            const [sent] = fixture.received("tools/call", from);
            const fields = sent!.fields.filter(([name]) => /^mcp-param-/i.test(name));
            const found = Object.fromEntries(
                fields.map(([name, value]) => [name.slice("mcp-param-".length).toLowerCase(), value]),
            );
            assert.deepEqual(found, wanted, JSON.stringify(args));
            assert.equal(sent!.field("x-evil"), undefined);
        }
        assert.equal(decodeField("=?base64?w7w=?="), "ü");
        assert.deepEqual(fixture.complaints, []);
    });
});

/* A gateway before one server of each era, whose answers are written by hand. */
function scripted(options: HttpOptions = {}, server: { [key: string]: string } = {}) {
    const fixtures = new Map<string, HttpFixture>();
    let gateway: Gateway;
    before(async () => {
        for (const era of ERAS) fixtures.set(era, await startHttp({ ...speaking(era), ...options }));
        const servers = Object.fromEntries(ERAS.map((era) => [era, { url: fixtures.get(era)!.url, ...server }]));
        gateway = await startGateway({ config: { servers } });
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of fixtures.values()) await fixture.close();
    });
    return {
        gateway: () => gateway,
        fixture: (era: string) => fixtures.get(era)!,
        request: (era: string, clients: "legacy" | "modern" = "legacy") => client(gateway, clients, era),
    };
}

describe("answers", { concurrency: 4 }, () => {
    const { gateway, fixture, request } = scripted();
    type Writer = (stream: EventStream, json: string, exchange: Exchange) => void;
    const lines = (end: string) => (json: string) => `event: message${end}data: ${json}${end}${end}`;
    /** JSON over several lines of data, cut where JSON takes a line break */
    const pretty = (json: string) => JSON.stringify(JSON.parse(json), null, 1);
    const writers: { [name: string]: Writer } = {
        LF: (stream, json) => stream.raw(lines("\n")(json)),
        CR: (stream, json) => stream.raw(lines("\r")(json)),
        CRLF: (stream, json) => stream.raw(lines("\r\n")(json)),
        "a byte at a time": (stream, json) => {
            for (const byte of Buffer.from(lines("\r\n")(json))) stream.raw(Buffer.from([byte]));
        },
        "CRLF torn apart": (stream, json) => {
            for (const part of lines("\r\n")(json).split("\n")) stream.raw(`${part}\n`);
        },
        "data over many lines": (stream, json) => stream.raw(`data: ${pretty(json).replaceAll("\n", "\ndata: ")}\n\n`),
        "data over many lines with CR": (stream, json) =>
            stream.raw(`data: ${pretty(json).replaceAll("\n", "\rdata: ")}\r\r`),
        "no name and no space": (stream, json) => stream.raw(`data:${json}\n\n`),
        comments: (stream, json) => stream.raw(`: one\n\n:two\n${lines("\n")(json)}`),
        "a byte order mark": (stream, json) => stream.raw(`\ufeff${lines("\n")(json)}`),
        "unknown events and fields": (stream, json) =>
            stream.raw(`event: ping\ndata: {"not":"ours"}\n\nunknown: 1\ncolonless\nevent: message\ndata: ${json}\n\n`),
        "ids and a pause to retry": (stream, json) =>
            stream.raw(`retry: 10\nid: 7\ndata: \n\nid: 8\ndata: ${json}\n\n`),
        "an id with NUL": (stream, json) => stream.raw(`id: a\0b\ndata: ${json}\n\n`),
        "an event without data": (stream, json) => stream.raw(`event: message\n\ndata: ${json}\n\n`),
        "split inside UTF-8": (stream, json) => {
            const bytes = Buffer.from(lines("\n")(json));
            const at = bytes.indexOf(0xc3) + 1;
            stream.raw(bytes.subarray(0, at));
            stream.raw(bytes.subarray(at));
        },
    };
    for (const era of ERAS) {
        for (const [name, write] of Object.entries(writers)) {
            test(`${era}: events with ${name}`, async () => {
                const args = fixture(era).act((exchange) => {
                    const stream = exchange.sse();
                    write(stream, JSON.stringify(exchange.answer("grüße")), exchange);
                    stream.end();
                });
                assert.equal(await said(call(await request(era), "echo", args)), "grüße");
                assert.equal(fixture(era).calls(args).length, 1);
            });
        }

        const whole: { [name: string]: (exchange: Exchange, json: string) => void } = {
            "with a length": (exchange, json) => exchange.text(200, "application/json", json),
            "with a charset": (exchange, json) => exchange.text(200, "application/json; charset=utf-8", json),
            "in chunks": (exchange, json) => {
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "chunked" });
                for (const byte of Buffer.from(json))
                    exchange.raw(Buffer.from(`1;x="y"\r\n${String.fromCharCode(byte)}\r\n`, "latin1"));
                exchange.raw("0\r\nX-Trailer: 1\r\n\r\n");
            },
            "to the end of the connection": (exchange, json) => {
                exchange.head(200, { "Content-Type": "application/json", Connection: "close" });
                exchange.raw(json);
                exchange.close();
            },
            "after 100 and 103": (exchange, json) => {
                exchange.raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
                exchange.text(200, "application/json", json);
            },
            "in HTTP/1.0": (exchange, json) => {
                exchange.raw(
                    `HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`,
                );
                exchange.close();
            },
            "over many lines": (exchange, json) => exchange.text(200, "application/json", `\n${pretty(json)}\r\n`),
        };
        for (const [name, write] of Object.entries(whole)) {
            test(`${era}: JSON ${name}`, async () => {
                const args = fixture(era).act((exchange) => write(exchange, JSON.stringify(exchange.answer("grüße"))));
                assert.equal(await said(call(await request(era), "echo", args)), "grüße");
                assert.equal(await said(call(await request(era), "echo", { text: "after" })), "after");
            });
        }

        test(`${era}: messages in lines as application/json are refused`, async () => {
            const args = fixture(era).act((exchange) => {
                const notification = {
                    jsonrpc: "2.0",
                    method: "notifications/message",
                    params: { level: "info", data: 1 },
                };
                exchange.text(
                    200,
                    "application/json",
                    `${JSON.stringify(notification)}\n${JSON.stringify(exchange.answer("x"))}\n`,
                );
            });
            assert.match(await refusal(call(await request(era), "echo", args)), /./);
            assert.equal(fixture(era).calls(args).length, 1, "not sent again");
            assert.equal(await said(call(await request(era), "echo", { text: "after" })), "after");
        });

        test(`${era}: an event leaves when it is whole`, async () => {
            let finish = () => {};
            const args = fixture(era).act((exchange) => {
                const stream = exchange.sse();
                const { progressToken } = exchange.message.params!._meta as { progressToken: unknown };
                stream.event({
                    jsonrpc: "2.0",
                    method: "notifications/progress",
                    params: { progressToken, progress: 1 },
                });
                finish = () => {
                    stream.event(exchange.answer("done"));
                    stream.end();
                };
            });
            const modern = new ModernClient(gateway(), `/mcp/${era}`);
            const params = { name: "echo", arguments: args };
            const { messages, headers } = await modern.stream("tools/call", params, {
                meta: { progressToken: "mine" },
            });
            assert.equal(headers["x-accel-buffering"], "no");
            const progress = await messages.waitFor(() => true);
            assert.equal(progress.method, "notifications/progress");
            assert.deepEqual(progress.params, { ...progress.params, progressToken: "mine", progress: 1 });
            finish();
            assert.equal(text(await messages.waitFor((message) => message.result !== undefined)), "done");
        });

        test(`${era}: requests of the server are refused or not heard, and hold nothing up`, async () => {
            const args = fixture(era).act((exchange) => {
                const stream = exchange.sse();
                stream.event({ jsonrpc: "2.0", id: "srv-1", method: "sampling/createMessage", params: {} });
                stream.event({ jsonrpc: "2.0", id: "srv-2", method: "ping" });
                stream.event(exchange.answer("done"));
                stream.end();
            });
            const from = fixture(era).requests.items.length;
            assert.equal(await said(call(await request(era), "echo", args)), "done");
            const answered = () =>
                fixture(era)
                    .requests.items.slice(from)
                    .filter((each) => each.message !== undefined && each.message.method === undefined)
                    .map((each) => each.message!.id)
                    .sort();
            if (era === "modern") assert.deepEqual(answered(), [], "nothing is answered in this era");
            else
                await until(
                    () => answered().join() === "srv-1,srv-2",
                    () => `both are answered, not ${answered()}`,
                );
        });
    }
});

describe("a stream that the server closes", { concurrency: 4 }, () => {
    const answers = new Map<string, (exchange: Exchange) => void>();
    const { fixture, request } = scripted({
        on: (exchange) => {
            const id = exchange.request.method === "GET" ? exchange.request.field("last-event-id") : undefined;
            const answer = answers.get(id ?? "");
            if (answer === undefined) return false;
            answer(exchange);
            return true;
        },
    });

    test("after an id: the rest is fetched there, when the server's pause is over", async () => {
        const times: number[] = [];
        const gets: Exchange[] = [];
        const args = fixture("legacy").act((exchange) => {
            const first = exchange.sse();
            first.raw("id: one\nretry: 150\ndata: \n\n");
            first.end();
            times.push(performance.now());
            answers.set("one", (get) => {
                times.push(performance.now());
                gets.push(get);
                const second = get.sse();
                second.raw("id: two\nretry: 1\ndata: \n\n");
                second.end();
            });
            answers.set("two", (get) => {
                gets.push(get);
                const third = get.sse();
                third.event(exchange.answer("at last"), "three");
                third.end();
            });
        });
        assert.equal(await said(call(await request("legacy"), "echo", args)), "at last");
        assert.ok(times[1]! - times[0]! >= 145, `after ${times[1]! - times[0]!} ms`);
        assert.equal(fixture("legacy").calls(args).length, 1);
        const [sent] = fixture("legacy").calls(args);
        for (const get of gets) {
            assert.equal(get.request.field("mcp-session-id"), sent!.field("mcp-session-id"));
            assert.equal(get.request.field("accept"), "text/event-stream");
        }
        assert.equal(gets.length, 2);
    });

    test("after an id, cut off in the middle of an event", async () => {
        const args = fixture("legacy").act((exchange) => {
            const first = exchange.sse();
            first.raw("id: cut\nretry: 1\ndata: \n\n");
            first.raw(`id: never\ndata: ${JSON.stringify(exchange.answer("half")).slice(0, 20)}`);
            exchange.close();
            answers.set("cut", (get) => {
                const second = get.sse();
                second.event(exchange.answer("whole"));
                second.end();
            });
        });
        assert.equal(await said(call(await request("legacy"), "echo", args)), "whole");
    });

    for (const [name, answer] of [
        ["404", (get: Exchange) => get.empty(404)],
        ["405", (get: Exchange) => get.empty(405)],
        ["a web page", (get: Exchange) => get.text(200, "text/html", "<p>")],
    ] as const) {
        test(`after an id, but then there is only ${name}`, async () => {
            const key = `gone-${name}`;
            const args = fixture("legacy").act((exchange) => {
                const first = exchange.sse();
                first.raw(`id: ${key}\nretry: 1\ndata: \n\n`);
                first.end();
                answers.set(key, answer);
            });
            assert.match(await refusal(call(await request("legacy"), "echo", args)), /./);
            assert.equal(fixture("legacy").calls(args).length, 1, "not sent again");
        });
    }

    for (const era of ERAS) {
        test(`${era}: without an id: an error, and the call is not sent again`, async () => {
            const args = fixture(era).act((exchange) => {
                const stream = exchange.sse();
                stream.comment();
                stream.end();
            });
            assert.match(await refusal(call(await request(era), "echo", args)), /./);
            assert.equal(fixture(era).calls(args).length, 1);
            assert.equal(await said(call(await request(era), "echo", { text: "after" })), "after");
        });
    }

    test("modern: an id is nothing to come back to", async () => {
        const args = fixture("modern").act((exchange) => {
            const stream = exchange.sse();
            stream.raw("id: m\nretry: 1\ndata: \n\n");
            stream.end();
        });
        await refusal(call(await request("modern"), "echo", args));
        assert.deepEqual(fixture("modern").received("GET"), []);
    });
});

describe("sessions of a server", { concurrency: 4 }, () => {
    const legacy = legacyOnly();
    const ready = (session: Session) =>
        until(async () => (await session.call("echo", { text: "up" })).result?.isError !== true, "it serves");

    for (const [name, refuse] of [
        ["404", undefined],
        [
            "400 that names the session",
            (exchange: Exchange) => exchange.error(-32000, "Bad Request: No valid session ID provided", 400),
        ],
    ] as const) {
        test(`expired (${name}): renewed, and the client notices nothing`, async (t) => {
            let old: string | undefined;
            const { fixture, gateway } = await serve(t, {
                ...legacy,
                on: (exchange) => {
                    if (refuse === undefined || exchange.request.field("mcp-session-id") !== old || old === undefined)
                        return false;
                    refuse(exchange);
                    return true;
                },
            });
            const session = await openSession(gateway, "/mcp/http");
            await ready(session);
            const before = fixture.brain.runs.get("count") ?? 0;
            const opened = fixture.received("initialize").length;
            old = [...fixture.sessions.keys()][0];
            fixture.expire();
            assert.equal(await said(session.call("count")), String(before + 1));
            assert.equal(fixture.brain.runs.get("count"), before + 1, "run once");
            assert.equal(fixture.received("initialize").length, opened + 1, "renewed once");
            const calls = fixture.received("tools/call").filter((each) => each.message!.params!.name === "count");
            assert.equal(calls.length, 2, "sent again");
            assert.notEqual(calls[0]!.field("mcp-session-id"), calls[1]!.field("mcp-session-id"));
            assert.deepEqual(fixture.complaints, []);
        });
    }

    test("expired under many calls at once: each is run once, in one new session", async (t) => {
        const { fixture, gateway } = await serve(t, legacy);
        const sessions = await Promise.all(Array.from({ length: 8 }, () => openSession(gateway, "/mcp/http")));
        await ready(sessions[0]!);
        fixture.expire();
        const answers = await Promise.all(sessions.map(async (session) => said(session.call("count"))));
        assert.deepEqual(
            answers.map(Number).sort((a, b) => a - b),
            [1, 2, 3, 4, 5, 6, 7, 8],
        );
        assert.equal(fixture.sessions.size, 1);
        assert.equal(fixture.received("initialize").length, 2);
    });

    test("a server that forgets every session at once ends in an error", async (t) => {
        let isForgetful = false;
        const { fixture, gateway } = await serve(t, {
            ...legacy,
            on: (exchange) => {
                if (!isForgetful || exchange.message.method !== "tools/call") return false;
                exchange.error(-32001, "Session not found", 404);
                return true;
            },
        });
        const session = await openSession(gateway, "/mcp/http");
        await ready(session);
        isForgetful = true;
        const from = fixture.requests.items.length;
        await refusal(session.call("count"));
        assert.ok(fixture.received("tools/call", from).length <= 2, "sent twice at most");
        isForgetful = false;
        await ready(session);
    });

    const owners = async (t: TestContext, share: string) => {
        const { fixture, gateway } = await serve(
            t,
            legacy,
            { share },
            { config: { server: { auth: { anonymous: true } } } },
        );
        const open = (token?: false) => openSession(gateway, "/mcp/http", "2025-11-25", token);
        const of = async (session: Session, token?: false) => {
            const answer = await until(async () => {
                const message = (
                    await session.send({
                        token,
                        body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "seen" } },
                    })
                ).messages.at(-1)!;
                return message.result?.isError === true ? false : message;
            }, "it serves");
            const { seen } = JSON.parse(text(answer)) as { seen: { fields: [string, string][] } };
            return seen.fields.find(([name]) => name.toLowerCase() === "mcp-session-id")![1];
        };
        return { fixture, mine: [await open(), await open()], others: [await open(false), await open(false)], of };
    };
    const ids = async (t: TestContext, share: string) => {
        const { mine, others, of } = await owners(t, share);
        return [await of(mine[0]!), await of(mine[1]!), await of(others[0]!, false), await of(others[1]!, false)];
    };
    test('share = "principal": one for each', async (t) => {
        const [a, b, c, d] = await ids(t, "principal");
        assert.equal(a, b);
        assert.equal(c, d);
        assert.notEqual(a, c);
    });
    test('share = "session": nobody shares', async (t) => {
        assert.equal(new Set(await ids(t, "session")).size, 4);
    });
    test('share = "all": everybody shares', async (t) => {
        assert.equal(new Set(await ids(t, "all")).size, 1);
    });

    test('share = "session": ended with the client\'s', async (t) => {
        const { fixture, mine, of } = await owners(t, "session");
        const id = await of(mine[0]!);
        await mine[0]!.end();
        await fixture.requests.waitFor((each) => each.method === "DELETE" && each.field("mcp-session-id") === id);
    });

    test("unused for idle_timeout: what has changed meanwhile is in the next list", async (t) => {
        const { fixture, gateway } = await serve(t, legacy, { idle_timeout: "300ms" });
        const session = await openSession(gateway, "/mcp/http");
        await ready(session);
        await until(async () => (await status(gateway)).get("http")?.state === "idle", "it is idle");
        fixture.options.tools = [...brainTools([]), { name: "new", inputSchema: { type: "object" } }];
        fixture.brain.options.tools = fixture.options.tools as never;
        const { result } = await session.request("tools/list");
        assert.ok((result!.tools as { name: string }[]).some((tool) => tool.name === "new"));
    });

    test("unused for idle_timeout: ended; the next call opens another", async (t) => {
        const { fixture, gateway } = await serve(t, legacy, { idle_timeout: "300ms" });
        const session = await openSession(gateway, "/mcp/http");
        await ready(session);
        const first = fixture.received("tools/list")[0]!.field("mcp-session-id");
        const ended = await fixture.receives("DELETE");
        assert.equal(ended.field("mcp-session-id"), first);
        await until(() => fixture.sessions.size === 0, "it is gone");
        assert.equal(await said(session.call("echo", { text: "again" })), "again");
        assert.equal(fixture.received("initialize").length, 2);
    });

    test("the gateway's end is the session's", async (t) => {
        const { fixture, gateway } = await serve(t, legacy);
        await ready(await openSession(gateway, "/mcp/http"));
        assert.equal(fixture.sessions.size, 1);
        await gateway.stop();
        assert.equal(fixture.sessions.size, 0);
    });

    test("a server that does not let go of its session does not hold up the end", async (t) => {
        const { gateway } = await serve(
            t,
            { ...legacy, on: (exchange) => exchange.request.method === "DELETE" },
            { shutdown_timeout: "200ms" },
        );
        await ready(await openSession(gateway, "/mcp/http"));
        await gateway.stop();
    });

    test("a change that it tells of on its GET stream reaches the clients", async (t) => {
        const { fixture, gateway } = await serve(t, { ...legacy, get: "stream" });
        const session = await openSession(gateway, "/mcp/http");
        await ready(session);
        const listening = await session.stream();
        const isChange = (message: RpcMessage) => message.method === "notifications/tools/list_changed";
        const hasNew = async () => {
            const { result } = await session.request("tools/list");
            return (result!.tools as { name: string }[]).some((tool) => tool.name === "new");
        };
        await until(() => fixture.streams.size > 0, "the gateway listens");
        fixture.brain.options.tools = [...brainTools(["2025-11-25"]), { name: "new", inputSchema: { type: "object" } }];
        fixture.announce("notifications/tools/list_changed");
        // The first may still tell of the start.
        for (let from = 0; ; from = listening.messages.items.length) {
            await listening.messages.waitFor(isChange, from);
            if (await hasNew()) break;
        }
        listening.close();
    });

    test("a GET stream that ends is opened again", async (t) => {
        const { fixture, gateway } = await serve(t, { ...legacy, get: "stream" });
        await ready(await openSession(gateway, "/mcp/http"));
        await until(() => fixture.streams.size > 0, "the gateway listens");
        const [first] = fixture.streams;
        first!.raw("retry: 10\nid: 5\ndata: \n\n");
        first!.end();
        await until(() => fixture.received("GET").length >= 2, "it is opened again");
    });

    for (const [name, answer] of [
        ["405", (exchange: Exchange) => exchange.empty(405)],
        ["404", (exchange: Exchange) => exchange.empty(404)],
        ["a reset", (exchange: Exchange) => exchange.reset()],
        ["silence", () => {}],
    ] as const) {
        test(`GET gets ${name}: it serves all the same`, async (t) => {
            const { fixture, gateway } = await serve(t, {
                ...legacy,
                on: (exchange) => {
                    if (exchange.request.method !== "GET") return false;
                    answer(exchange);
                    return true;
                },
            });
            const session = await openSession(gateway, "/mcp/http");
            await ready(session);
            await fixture.receives("GET");
            assert.equal(await said(session.call("echo", { text: "served" })), "served");
            assert.equal((await status(gateway)).get("http")!.state, "ready");
        });
    }

    test("a session id that is none is refused", async (t) => {
        const { fixture, gateway } = await serve(t, {
            ...legacy,
            on: (exchange) => {
                if (exchange.message.method !== "initialize") return false;
                const result = {
                    protocolVersion: "2025-11-25",
                    capabilities: { tools: {} },
                    serverInfo: { name: "x", version: "1" },
                };
                exchange.result(result, { "Mcp-Session-Id": "with space\tand tab" });
                return true;
            },
        });
        assert.match(await downReason(gateway, "http"), /session/i);
        assert.deepEqual(fixture.received("tools/list"), []);
    });
});

test("a tool that needs more than a client with sessions can do: told in the tool's result", async (t) => {
    const { gateway } = await serve(t, {
        ...modernOnly,
        on: (exchange) => {
            if (exchange.message.method !== "tools/call") return false;
            exchange.error(-32021, "needs sampling", 400, { requiredCapabilities: { sampling: {} } });
            return true;
        },
    });
    assert.match(await refusal(call(await client(gateway, "legacy"), "echo")), /needs sampling/);
    const { error } = await call(await client(gateway, "modern"), "echo");
    assert.equal(error!.code, -32021);
    assert.deepEqual(error!.data, { requiredCapabilities: { sampling: {} } });
});

describe("a server that changes", { concurrency: 4 }, () => {
    for (const [from, to] of [
        [legacyOnly(), modernOnly],
        [modernOnly, legacyOnly()],
    ] as const) {
        test(`its revisions from ${from.revisions} to ${to.revisions}: found again`, async (t) => {
            const { fixture, gateway } = await serve(t, from);
            const request = await client(gateway, "modern");
            assert.equal(await said(call(request, "echo", { text: "before" })), "before");
            const { port } = fixture;
            await fixture.close();
            const upgraded = new HttpFixture(to);
            await upgraded.listen(port);
            t.after(() => upgraded.close());
            const answer = await until(async () => {
                const message = await call(request, "echo", { text: "after" });
                return message.error === undefined && message.result!.isError !== true ? message : false;
            }, "it serves again");
            assert.equal(text(answer), "after");
            const calls = upgraded.received("tools/call");
            assert.equal(Brain.envelope(calls.at(-1)!.message!) !== undefined, to === modernOnly);
        });
    }

    test("an annotation: the tools are listed again, and later calls carry the field", async (t) => {
        const bare = { name: "mirror", inputSchema: { type: "object" } };
        let isNew = false;
        const { fixture, gateway } = await serve(t, {
            ...modernOnly,
            tools: [bare],
            on: (exchange) => {
                const isCall = exchange.message.method === "tools/call";
                if (!isCall || !isNew || exchange.request.field("mcp-param-region") === "eu") return false;
                exchange.error(-32020, "Header mismatch: Mcp-Param-Region", 400);
                return true;
            },
        });
        const session = await openSession(gateway, "/mcp/http");
        const args = { region: "eu" };
        assert.deepEqual(JSON.parse(await said(session.call("mirror", args))), args);
        isNew = true;
        fixture.brain.options.tools = [MIRROR];
        const answer = await until(async () => {
            const message = await session.call("mirror", args);
            return message.error === undefined && message.result!.isError !== true ? message : false;
        }, "the field is sent");
        assert.deepEqual(JSON.parse(text(answer)), args);
        assert.equal(fixture.brain.runs.get("mirror"), 2);
    });

    for (const code of [401, 403, 429, 500, 503]) {
        test(`its mind: a call gets ${code}; it is told and not sent again`, async (t) => {
            const { fixture, gateway } = await serve(t, modernOnly);
            const request = await client(gateway, "legacy");
            const args = fixture.act((exchange) => exchange.text(code, "text/plain", "hunter2"));
            const why = await refusal(call(request, "echo", args));
            assert.match(why, new RegExp(String(code)));
            assert.ok(!why.includes("hunter2"));
            assert.equal(fixture.calls(args).length, 1);
            assert.equal(await said(call(request, "echo", { text: "after" })), "after");
        });
    }
});

describe("what may have been run is not sent again", { concurrency: 4 }, () => {
    const { fixture, request, gateway } = scripted();

    for (const era of ERAS) {
        const failing: { [name: string]: (exchange: Exchange) => void } = {
            "a reset before the answer": (exchange) => exchange.reset(),
            "an end before the answer": (exchange) => exchange.close(),
            "a reset in the head": (exchange) => {
                exchange.raw("HTTP/1.1 200 OK\r\nContent-Ty");
                setImmediate(() => exchange.reset());
            },
            "an end in the body": (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Content-Length": "1000" });
                exchange.raw('{"jsonrpc":"2.0",');
                exchange.close();
            },
            "an end in an event": (exchange) => {
                exchange.sse().raw('data: {"jsonrpc":"2.0",');
                exchange.close();
            },
        };
        for (const [name, fail] of Object.entries(failing)) {
            test(`${era}: ${name}`, async () => {
                const requests = await request(era);
                assert.equal(
                    await said(call(requests, "echo", { text: "on a kept connection" })),
                    "on a kept connection",
                );
                const args = fixture(era).act(fail);
                assert.match(await refusal(call(requests, "echo", args)), /may have|perhaps|unknown whether/i);
                assert.equal(fixture(era).calls(args).length, 1, "sent once");
                assert.equal(await said(call(requests, "echo", { text: "after" })), "after");
            });
        }

        test(`${era}: kept connections that the server closes: no call is lost or made twice`, async (t) => {
            const { fixture: closing, gateway: alone } = await serve(t, speaking(era));
            const requests = await client(alone, era);
            let answered = 0;
            for (let n = 0; n < 30; n++) {
                let runs = 0;
                const args = closing.act((exchange) => {
                    runs++;
                    exchange.json(exchange.answer(`run ${n}`));
                    exchange.close(); // right after, without a word
                });
                const answer = await call(requests, "echo", args);
                assert.equal(runs, 1);
                if (answer.result?.isError !== true) answered++;
            }
            // The end of a connection that has arrived before the next call begins costs nothing.
            assert.ok(answered >= 28, `${answered} of 30 were answered`);
        });

        test(`${era}: a server that is away and comes back`, async (t) => {
            const first = await startHttp({ ...speaking(era), sessions: false });
            const alone = await startGateway({ config: { servers: { http: { url: first.url } } } }, t);
            const requests = await client(alone, "modern");
            assert.equal(await said(call(requests, "echo", { text: "here" })), "here");
            await first.close();
            assert.match(await refusal(call(requests, "echo", { text: "gone" })), /./);
            const second = await startHttp({ ...speaking(era), sessions: false });
            t.after(() => second.close());
            await second.close();
            await second.listen(first.port);
            const back = await until(async () => {
                const answer = await call(requests, "echo", { text: "back" });
                return answer.result?.isError === true ? false : answer;
            }, "it serves again");
            assert.equal(text(back), "back");
        });
    }

    test("the gateway is well", async () => {
        const states = await status(gateway());
        for (const era of ERAS) assert.equal(states.get(era)!.state, "ready");
    });
});
