/*
 * HTTP upstreams that mean harm, or have broken in the ugliest way. Nothing that they answer may hurt the gateway,
 * another upstream or another call; what is wrong is refused with a reason, and the next call works.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";

import { legacyOnly, modernOnly, startHttp, type Exchange, type HttpFixture } from "./fixtures/http-server.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { call, client, refusal, said, status, type Request } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;
const LARGEST = 10 * 1024 * 1024;

/** Writes as fast as the connection takes it, until it is gone. */
function flood(exchange: Exchange, make: () => string): void {
    const { socket } = exchange;
    const more = () => {
        while (!socket.destroyed && socket.write(make()));
        if (!socket.destroyed) socket.once("drain", more);
    };
    more();
}

/** An answer that is so many bytes long as a message. */
function sized(exchange: Exchange, bytes: number): string {
    const empty = JSON.stringify(exchange.answer("")).length;
    return JSON.stringify(exchange.answer("x".repeat(bytes - empty)));
}

const chunk = (data: string) => `${data.length.toString(16)}\r\n${data}\r\n`;

interface Row {
    answer: (exchange: Exchange) => void;
    /** the gateway has to close the connection, for the answer has no end */
    isEndless?: boolean;
}

describe("hostile HTTP upstreams", { concurrency: 4 }, () => {
    const fixtures = new Map<string, HttpFixture>();
    let elsewhere: HttpFixture;
    let gateway: Gateway;
    before(async () => {
        for (const era of ERAS) {
            const options = era === "legacy" ? legacyOnly() : modernOnly;
            fixtures.set(era, await startHttp(options));
            fixtures.set(`good-${era}`, await startHttp(options));
        }
        elsewhere = await startHttp();
        const servers = Object.fromEntries([...fixtures].map(([name, { url }]) => [name, { url, timeout: "5s" }]));
        gateway = await startGateway({ config: { servers } });
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of fixtures.values()) await fixture.close();
        await elsewhere?.close();
    });

    /** The other upstreams answer, the bad one too, and nobody thinks that one of them is down. */
    const isWell = async (era: string, request: Request) => {
        const others = await client(gateway, "modern", `good-${era}`);
        assert.equal(await said(call(others, "echo", { text: "well" })), "well");
        assert.equal(await said(call(request, "echo", { text: "after" })), "after");
    };

    const rows: { [name: string]: Row } = {
        "an event without an end": {
            answer: (exchange) => {
                exchange.sse();
                flood(exchange, () => chunk(`data: ${"x".repeat(60_000)}`));
            },
            isEndless: true,
        },
        "an event of endlessly many lines": {
            answer: (exchange) => {
                exchange.sse();
                flood(exchange, () => chunk("data: xxxxxxxx\n".repeat(4000)));
            },
            isEndless: true,
        },
        "a name of an event without an end": {
            answer: (exchange) => {
                exchange.sse().raw("event: ");
                flood(exchange, () => chunk("x".repeat(60_000)));
            },
            isEndless: true,
        },
        "a head without an end": {
            answer: (exchange) => {
                exchange.raw("HTTP/1.1 200 OK\r\n");
                flood(exchange, () => "X-More: and more\r\n".repeat(1000));
            },
            isEndless: true,
        },
        "a field without an end": {
            answer: (exchange) => {
                exchange.raw("HTTP/1.1 200 OK\r\nX-Long: ");
                flood(exchange, () => "x".repeat(60_000));
            },
            isEndless: true,
        },
        "interim answers without an end": {
            answer: (exchange) => flood(exchange, () => "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(500)),
            isEndless: true,
        },
        "JSON without an end": {
            answer: (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "chunked" });
                flood(exchange, () => chunk(" ".repeat(60_000)));
            },
            isEndless: true,
        },
        "chunk extensions without an end": {
            answer: (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "chunked" });
                exchange.raw("1;");
                flood(exchange, () => "x".repeat(60_000));
            },
            isEndless: true,
        },
        "trailers without an end": {
            answer: (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "chunked" });
                exchange.raw("0\r\n");
                flood(exchange, () => "X-More: and more\r\n".repeat(1000));
            },
            isEndless: true,
        },
        "a length of more than a message": {
            answer: (exchange) =>
                exchange.head(200, { "Content-Type": "application/json", "Content-Length": "99999999999" }),
            isEndless: true,
        },
        "an answer for another id": {
            answer: (exchange) => exchange.json({ ...exchange.answer("stolen"), id: 1_000_000_007 }),
        },
        "an answer whose id has another type": {
            answer: (exchange) => exchange.json({ ...exchange.answer("stolen"), id: String(exchange.message.id) }),
        },
        "an answer without an id": {
            answer: (exchange) => exchange.json({ ...exchange.answer("stolen"), id: undefined }),
        },
        "an answer with result and error": {
            answer: (exchange) => exchange.json({ ...exchange.answer("x"), error: { code: 1, message: "x" } }),
        },
        "the same key twice": {
            answer: (exchange) => {
                const json = JSON.stringify(exchange.answer("x"));
                exchange.text(200, "application/json", json.replace("{", `{"id":${exchange.message.id},`));
            },
        },
        "a batch": { answer: (exchange) => exchange.json([exchange.answer("x")]) },
        "a request in place of an answer": {
            answer: (exchange) => exchange.json({ jsonrpc: "2.0", id: exchange.message.id, method: "ping" }),
        },
        "no UTF-8": {
            answer: (exchange) => {
                const json = Buffer.from(JSON.stringify(exchange.answer("ab")));
                json[json.indexOf("ab")] = 0xff;
                exchange.text(200, "application/json", json);
            },
        },
        "nesting without an end": {
            answer: (exchange) => {
                const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
                exchange.text(
                    200,
                    "application/json",
                    `{"jsonrpc":"2.0","id":${exchange.message.id},"result":${deep}}`,
                );
            },
        },
        "compressed, which nobody asked for": {
            answer: (exchange) => {
                const body = gzipSync(JSON.stringify(exchange.answer("x")));
                exchange.text(200, "application/json", body, { "Content-Encoding": "gzip" });
            },
        },
        "compressed as a transfer": {
            answer: (exchange) =>
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "gzip, chunked" }),
        },
        "nothing (202)": { answer: (exchange) => exchange.empty(202) },
        "nothing (204)": { answer: (exchange) => exchange.head(204) },
        "nothing (200)": { answer: (exchange) => exchange.empty(200) },
        "206": { answer: (exchange) => exchange.json(exchange.answer("x"), 206) },
        "a web page": { answer: (exchange) => exchange.text(200, "text/html", "<script>alert(1)</script>") },
        "no type at all": {
            answer: (exchange) => {
                const json = JSON.stringify(exchange.answer("x"));
                exchange.head(200, { "Content-Length": String(json.length) });
                exchange.raw(json);
            },
        },
        "the switch to another protocol": {
            answer: (exchange) => {
                exchange.head(101, { Upgrade: "websocket", Connection: "Upgrade" });
                exchange.raw("\x81\x05hello");
            },
        },
        "a length and chunks": {
            answer: (exchange) => {
                exchange.head(200, {
                    "Content-Type": "application/json",
                    "Content-Length": "5",
                    "Transfer-Encoding": "chunked",
                });
                exchange.raw(chunk(JSON.stringify(exchange.answer("x"))));
                exchange.raw("0\r\n\r\n");
            },
        },
        "two lengths": {
            answer: (exchange) =>
                exchange.raw(
                    `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}`,
                ),
        },
        "a signed length": {
            answer: (exchange) =>
                exchange.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: +2\r\n\r\n{}"),
        },
        "a chunk size that is none": {
            answer: (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "chunked" });
                exchange.raw("zz\r\n{}\r\n0\r\n\r\n");
            },
        },
        "a chunk size that overflows": {
            answer: (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "chunked" });
                exchange.raw("fffffffffffffffff\r\n{}\r\n");
            },
        },
        "a chunk longer than it says": {
            answer: (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Transfer-Encoding": "chunked" });
                exchange.raw(`2\r\n${JSON.stringify(exchange.answer("x"))}\r\n0\r\n\r\n`);
            },
        },
        "a body shorter than it says": {
            answer: (exchange) => {
                exchange.head(200, { "Content-Type": "application/json", "Content-Length": "500" });
                exchange.raw(JSON.stringify(exchange.answer("x")));
                exchange.close();
            },
        },
        "a folded field": {
            answer: (exchange) =>
                exchange.raw(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}",
                ),
        },
        "NUL in a field": {
            answer: (exchange) =>
                exchange.raw(
                    "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
                ),
        },
        "HTTP/2": { answer: (exchange) => exchange.raw("HTTP/2 200\r\nContent-Length: 0\r\n\r\n") },
        noise: { answer: (exchange) => exchange.raw("\x00\x01\x02\x16\x03\x01\r\n\r\n") },
        "500 with a secret": {
            answer: (exchange) => exchange.text(500, "text/plain", "at /srv/app.js:12 password=hunter2"),
        },
        "a stream of nothing but an end": { answer: (exchange) => exchange.sse().end() },
        "an event that is no JSON": {
            answer: (exchange) => {
                const stream = exchange.sse();
                stream.raw("data: {]\n\n");
                stream.end();
            },
        },
    };

    for (const era of ERAS) {
        for (const [name, { answer, isEndless }] of Object.entries(rows)) {
            test(`${era}: ${name}`, async () => {
                const fixture = fixtures.get(era)!;
                const request = await client(gateway, "modern", era);
                const args = fixture.act(answer);
                const why = await refusal(call(request, "echo", args));
                assert.ok(!/hunter2|127\.0\.0\.1|errno|\/srv/.test(why), why);
                const calls = fixture.calls(args);
                assert.equal(calls.length, 1, "sent once");
                if (isEndless) await within(calls[0]!.closed, "the connection is closed");
                await isWell(era, request);
            });
        }

        for (const way of ["JSON", "an event"] as const) {
            const write = (exchange: Exchange, json: string) => {
                if (way === "JSON") return exchange.text(200, "application/json", json);
                const stream = exchange.sse();
                stream.event(json);
                stream.end();
                return undefined;
            };
            test(`${era}: a message of 10 MiB as ${way}, and of one byte more`, async () => {
                const fixture = fixtures.get(era)!;
                const request = await client(gateway, era, era);
                const largest = await said(
                    call(
                        request,
                        "echo",
                        fixture.act((exchange) => write(exchange, sized(exchange, LARGEST))),
                    ),
                );
                assert.ok(largest.length > LARGEST - 200 && largest === "x".repeat(largest.length));
                await refusal(
                    call(
                        request,
                        "echo",
                        fixture.act((exchange) => write(exchange, sized(exchange, LARGEST + 1))),
                    ),
                );
                await isWell(era, request);
            });
        }

        for (const code of [301, 302, 303, 307, 308]) {
            test(`${era}: a redirect (${code}) is not followed`, async () => {
                const fixture = fixtures.get(era)!;
                const request = await client(gateway, "modern", era);
                const args = fixture.act((exchange) => exchange.empty(code, { Location: elsewhere.url }));
                await refusal(call(request, "echo", args));
                assert.deepEqual(elsewhere.requests.items, []);
                await isWell(era, request);
            });
        }

        test(`${era}: what follows an answer on its connection answers nobody`, async () => {
            const fixture = fixtures.get(era)!;
            const request = await client(gateway, "modern", era);
            for (let n = 1; n <= 10; n++) {
                const args = fixture.act((exchange) => {
                    exchange.json(exchange.answer("mine"));
                    const id = Number(exchange.message.id) + n; // the next one's, perhaps
                    exchange.json({ ...exchange.answer("smuggled"), id });
                });
                assert.equal(await said(call(request, "echo", args)), "mine");
                assert.equal(await said(call(request, "echo", { text: "honest" })), "honest");
            }
            await isWell(era, request);
        });

        test(`${era}: a second answer in a stream is not heard`, async () => {
            const fixture = fixtures.get(era)!;
            const request = await client(gateway, "modern", era);
            const args = fixture.act((exchange) => {
                const stream = exchange.sse();
                stream.event(exchange.answer("first"));
                stream.event(exchange.answer("second"));
                stream.end();
            });
            assert.equal(await said(call(request, "echo", args)), "first");
            await isWell(era, request);
        });

        test(`${era}: answers for other calls in one's stream are not theirs`, async () => {
            const fixture = fixtures.get(era)!;
            const request = await client(gateway, "modern", era);
            let victim: Exchange | undefined;
            const held = fixture.act((exchange) => void (victim = exchange));
            const waiting = call(request, "echo", held);
            await until(() => victim !== undefined, "the victim waits");
            const args = fixture.act((exchange) => {
                const stream = exchange.sse();
                stream.event(victim!.answer("stolen"));
                stream.event(exchange.answer("own"));
                stream.end();
            });
            const own = await call(request, "echo", args);
            assert.ok(own.result!.isError === true || JSON.stringify(own).includes("own"));
            victim!.json(victim!.answer("true"));
            assert.equal(await said(waiting), "true");
            await isWell(era, request);
        });

        test(`${era}: progress with foreign tokens reaches nobody`, async () => {
            const fixture = fixtures.get(era)!;
            const request = await client(gateway, "modern", era);
            const args = fixture.act((exchange) => {
                const stream = exchange.sse();
                for (const progressToken of [0, 1, "1", "", null, {}, 2 ** 53, "mine"]) {
                    stream.event({
                        jsonrpc: "2.0",
                        method: "notifications/progress",
                        params: { progressToken, progress: 1 },
                    });
                }
                stream.event({ jsonrpc: "2.0", method: "notifications/progress" });
                stream.event({ jsonrpc: "2.0", method: "notifications/unheard/of", params: { a: 1 } });
                stream.event(exchange.answer("done"));
                stream.end();
            });
            assert.equal(await said(call(request, "echo", args)), "done");
            await isWell(era, request);
        });
    }

    test("and at the end all is well", async () => {
        const states = await status(gateway);
        for (const name of fixtures.keys())
            assert.equal(states.get(name)!.state, "ready", JSON.stringify(states.get(name)));
    });
});
