/*
 * HTTP upstreams whose answers were broken at random: bytes flipped, cut, doubled, put in; written in pieces; closed or
 * reset in the midst. For each call the client gets one answer or one error, in time; nothing is called twice; nobody
 * else notices. CARDEA_TEST_SEEDS says how many calls of each kind (50), CARDEA_TEST_SEED where they begin (1).
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { legacyOnly, modernOnly, startHttp, type Exchange, type HttpFixture } from "./fixtures/http-server.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { send } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { descriptors, unlessRoot } from "./lib/proc.ts";
import { random } from "./lib/random.ts";
import { call, client, said, status } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;
const STYLES = ["json", "chunked json", "sse", "sse with more"] as const;
type Style = (typeof STYLES)[number];
const SEEDS = Number(process.env.CARDEA_TEST_SEEDS ?? 50);
const FIRST = Number(process.env.CARDEA_TEST_SEED ?? 1);
const AT_ONCE = 40;
/** Not less than such an answer has bytes. */
const LENGTHS: { [style in Style]: number } = { json: 220, "chunked json": 240, sse: 260, "sse with more": 440 };

const chunk = (data: string) => `${Buffer.byteLength(data).toString(16)}\r\n${data}\r\n`;

/** An answer, which is without a fault unless `change` changes its message or its event within an honest frame. */
function good(exchange: Exchange, style: Style, text: string, change = (content: string) => content): Buffer {
    const message = JSON.stringify(exchange.answer(text));
    const json = style.endsWith("json") ? change(message) : message;
    const head = (fields: string) => `HTTP/1.1 200 OK\r\n${fields}\r\n\r\n`;
    const event = change(`event: message\nid: 7\ndata: ${json}\n\n`);
    const progress = { progressToken: exchange.message.id, progress: 1 };
    const note = JSON.stringify({ jsonrpc: "2.0", method: "notifications/progress", params: progress });
    const chunked = "Transfer-Encoding: chunked";
    const events = `Content-Type: text/event-stream\r\n${chunked}`;
    switch (style) {
        case "json":
            return Buffer.from(
                head(`Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(json)}`) + json,
            );
        case "chunked json":
            return Buffer.from(
                `${head(`Content-Type: application/json\r\n${chunked}`)}${chunk(json.slice(0, 9))}${chunk(json.slice(9))}0\r\n\r\n`,
            );
        case "sse":
            return Buffer.from(`${head(events)}${chunk(event)}0\r\n\r\n`);
        case "sse with more":
            return Buffer.from(
                `${head(events)}${chunk(`: hello\n\ndata: ${note}\n\nretry: 10\n`)}${chunk(event.slice(0, 20))}${chunk(event.slice(20))}0\r\nX-T: 1\r\n\r\n`,
            );
    }
}

const TOKENS = [
    "\r\n",
    "\n",
    "\0",
    "\xff",
    '"',
    "}",
    "0\r\n\r\n",
    "ffffffff",
    "data: {}\n\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "\xef\xbb\xbf",
    "\u2028",
    ":",
    "id: x\n",
    "Content-Length: 1\r\n",
];

function mutate(bytes: Buffer, next: (below: number) => number): Buffer {
    let out = bytes;
    for (let n = 1 + next(2); n > 0 && out.length > 0; n--) {
        const at = next(out.length);
        const end = at + 1 + next(Math.min(40, out.length - at));
        const [before, part, rest] = [out.subarray(0, at), out.subarray(at, end), out.subarray(end)];
        switch (next(5)) {
            case 0:
                out = Buffer.from(out);
                out[at]! ^= 1 << next(8);
                break;
            case 1:
                out = Buffer.concat([before, rest]);
                break;
            case 2:
                out = Buffer.concat([before, part, part, rest]);
                break;
            case 3:
                out = Buffer.concat([before, Buffer.from(TOKENS[next(TOKENS.length)]!, "latin1"), part, rest]);
                break;
            case 4:
                out = Buffer.from(out);
                out[at] = next(256);
                break;
        }
    }
    return out;
}

/** Waits until these bytes have left, so that they arrive as a piece of their own. */
const flushed = (exchange: Exchange, bytes: Buffer) =>
    new Promise<void>((resolve) => {
        if (exchange.socket.destroyed || bytes.length === 0) return resolve();
        exchange.socket.write(bytes, () => setImmediate(resolve));
        return undefined;
    });

async function inPieces(exchange: Exchange, bytes: Buffer, next: (below: number) => number): Promise<void> {
    for (let at = 0; at < bytes.length;) {
        const end = at + 1 + next(next(2) === 0 ? 3 : bytes.length);
        await flushed(exchange, bytes.subarray(at, end));
        at = end;
    }
}

describe("answers broken at random", () => {
    const fixtures = new Map<string, HttpFixture>();
    let gateway: Gateway;
    let atFirst: number;
    const seen = new Map<string, number>();

    before(async () => {
        for (const era of ERAS) {
            const options = era === "legacy" ? legacyOnly() : modernOnly;
            fixtures.set(era, await startHttp(options));
            fixtures.set(`good-${era}`, await startHttp(options));
        }
        const servers = Object.fromEntries([...fixtures].map(([name, { url }]) => [name, { url, timeout: "2s", failure_threshold: 0 }]));
        gateway = await startGateway({ config: { servers } });
        for (const name of fixtures.keys()) {
            const request = await client(gateway, "modern", name);
            await said(call(request, "echo", { text: "up" }));
        }
        atFirst = process.getuid!() === 0 ? descriptors(gateway) : 0;
    });
    after(async () => {
        await gateway?.stop();
        for (const fixture of fixtures.values()) await fixture.close();
    });

    /** One call of a client, and its one answer; what it was: "right", "refused", "other". */
    async function once(era: string, answer: (exchange: Exchange) => unknown, mark: string): Promise<string> {
        const fixture = fixtures.get(era)!;
        const args = fixture.act(answer);
        const request = new ModernClient(gateway, `/mcp/${era}`).outgoing("tools/call", {
            name: "echo",
            arguments: args,
            _meta: { progressToken: "mine" },
        });
        const { status: code, messages } = await send(gateway, request);
        assert.equal(code, 200, mark);
        const answers = messages.filter((message) => message.method === undefined);
        assert.equal(answers.length, 1, `${mark}: ${JSON.stringify(messages).slice(0, 500)}`);
        assert.equal(answers[0]!.id, (request.body as { id: number }).id, mark);
        for (const note of messages.slice(0, -1)) assert.equal(note.params!.progressToken, "mine", mark);
        assert.ok(fixture.calls(args).length <= 1, `${mark}: it was called ${fixture.calls(args).length} times`);
        const { result, error } = answers[0]!;
        assert.ok((result === undefined) !== (error === undefined), mark);
        if (result?.isError === true) return "refused";
        return JSON.stringify(result?.content)?.includes(`"${mark}"`) ? "right" : "other";
    }

    const isWell = async () => {
        for (const era of ERAS) {
            const others = await client(gateway, "modern", `good-${era}`);
            assert.equal(await said(call(others, "echo", { text: "well" })), "well");
        }
    };

    /** All at the same time, so many at once. */
    async function crowd(n: number, run: (n: number) => Promise<string>): Promise<void> {
        seen.clear();
        for (let from = 0; from < n; from += AT_ONCE) {
            const outcomes = await Promise.all(
                Array.from({ length: Math.min(AT_ONCE, n - from) }, (_, i) => run(from + i)),
            );
            for (const outcome of outcomes) seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
            await isWell();
        }
    }

    for (const era of ERAS) {
        for (const style of STYLES) {
            test(`${era}, ${style}: mutations`, async (t) => {
                await crowd(SEEDS, (n) => {
                    const seed = FIRST + n;
                    const mark = `seed ${seed}`;
                    return once(
                        era,
                        async (exchange) => {
                            const next = random(seed);
                            const isFramed = next(2) === 0;
                            const change = (content: string) =>
                                mutate(Buffer.from(content, "latin1"), next).toString("latin1");
                            const bytes = isFramed
                                ? good(exchange, style, mark, change)
                                : mutate(good(exchange, style, mark), next);
                            if (next(2) === 0) await flushed(exchange, bytes);
                            else await inPieces(exchange, bytes, next);
                            // Most say that they are done: those who do not cost the call's whole time.
                            if (next(8) === 0) exchange.reset();
                            else if (next(16) !== 0) exchange.close();
                        },
                        mark,
                    );
                });
                t.diagnostic(JSON.stringify(Object.fromEntries(seen)));
            });

            test(`${era}, ${style}: in two pieces, cut at each byte`, async () => {
                await crowd(LENGTHS[style], (at) =>
                    once(
                        era,
                        async (exchange) => {
                            const bytes = good(exchange, style, `cut ${at}`);
                            await flushed(exchange, bytes.subarray(0, at));
                            await flushed(exchange, bytes.subarray(at));
                        },
                        `cut ${at}`,
                    ),
                );
                assert.deepEqual(Object.fromEntries(seen), { right: LENGTHS[style] });
            });

            for (const way of ["closed", "reset"] as const) {
                test(`${era}, ${style}: ${way} at each byte`, async (t) => {
                    await crowd(LENGTHS[style], (at) =>
                        once(
                            era,
                            async (exchange) => {
                                const bytes = good(exchange, style, `end ${at}`);
                                await flushed(exchange, bytes.subarray(0, at));
                                if (way === "closed") exchange.close();
                                else exchange.reset();
                            },
                            `end ${at}`,
                        ),
                    );
                    assert.equal(seen.get("other"), undefined);
                    assert.ok(
                        (seen.get("refused") ?? 0) > 100 && (seen.get("right") ?? 0) > 0,
                        JSON.stringify(Object.fromEntries(seen)),
                    );
                    t.diagnostic(JSON.stringify(Object.fromEntries(seen)));
                });
            }
        }
    }

    test("all in pieces of one byte", async () => {
        for (const era of ERAS) {
            await crowd(STYLES.length, (n) =>
                once(
                    era,
                    (exchange) => inPieces(exchange, good(exchange, STYLES[n]!, `piece ${n}`), () => 0),
                    `piece ${n}`,
                ),
            );
            assert.deepEqual(Object.fromEntries(seen), { right: STYLES.length });
        }
    });

    test("afterwards all are up, and no descriptor is left behind", { skip: unlessRoot }, async () => {
        const states = await status(gateway);
        for (const name of fixtures.keys()) assert.equal(states.get(name)!.state, "ready", name);
        await until(
            () => descriptors(gateway) <= atFirst + 4,
            () => `${descriptors(gateway)} descriptors are open, ${atFirst} before`,
        );
    });
});
