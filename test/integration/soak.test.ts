/*
 * A short soak (test/soak), so that it cannot rot; `make soak` is the long one. And that its books would notice: each kind
 * of thing that must not happen, done to them.
 */
import assert from "node:assert/strict";
import net from "node:net";
import { describe, test } from "node:test";

import { Books, Trace, type Call } from "../soak/books.ts";
import { Hearing, NUMBER_KEY } from "../soak/news.ts";
import { Random } from "../soak/random.ts";
import { soak } from "../soak/soak.ts";
import { Wire } from "../soak/wire.ts";
import { SUBSCRIPTION_KEY } from "./fixtures/brain.ts";
import type { RpcMessage } from "./lib/control.ts";

const result = (call: Call, text = call.wish.nonce): RpcMessage => ({
    id: call.id,
    result: { content: [{ type: "text", text }] },
});
const refusal = (call: Call, text: string): RpcMessage => ({
    id: call.id,
    result: { content: [{ type: "text", text }], isError: true },
});
const progress = (call: Call, value: number, nonce = call.wish.nonce): RpcMessage => ({
    method: "notifications/progress",
    params: { progressToken: `t-${nonce}`, progress: value, message: nonce },
});

const question = (call: Call, nonce = call.wish.nonce): RpcMessage => ({
    id: "q",
    method: "elicitation/create",
    params: { message: nonce },
});

interface Case {
    what?: string;
    n?: number;
    isCalm?: boolean;
    run: (books: Books, call: Call, other: Call) => void;
    /** of the violation; undefined: there is none */
    finds?: RegExp;
}

const CASES: { [name: string]: Case } = {
    "its answer": { run: (books, call) => books.answer(call, result(call)) },
    "two answers": {
        run: (books, call) => {
            books.answer(call, result(call));
            books.answer(call, result(call));
        },
        finds: /^two answers/,
    },
    "a refusal": { run: (books, call) => books.answer(call, refusal(call, "the upstream stopped")) },
    "a refusal that speaks of another": {
        run: (books, call, other) => books.answer(call, refusal(call, `no ${other.wish.nonce}`)),
        finds: /^the answer of another/,
    },
    "a refusal where nothing happened": {
        isCalm: true,
        run: (books, call) => books.answer(call, refusal(call, "the upstream stopped")),
        finds: /^nothing disturbed/,
    },
    "another's answer": {
        run: (books, call, other) => books.answer(call, result(call, other.wish.nonce)),
        finds: /^the answer of another/,
    },
    "another's id": {
        run: (books, call) => books.answer(call, { ...result(call), id: 4711 }),
        finds: /^an answer with the id 4711/,
    },
    "a long answer": {
        what: "big",
        n: 1000,
        run: (books, call) => books.answer(call, result(call, `${call.wish.nonce},`.repeat(1000).slice(0, 1000))),
    },
    "a long answer that lacks a byte": {
        what: "big",
        n: 1000,
        run: (books, call) => books.answer(call, result(call, `${call.wish.nonce},`.repeat(1000).slice(1, 1000))),
        finds: /^the answer of another/,
    },
    "no answer": { run: (books, call) => books.ended(call, "the response was over"), finds: /^no answer/ },
    "no answer to a cancelled call": {
        run: (books, call) => {
            books.drop(call, "cancelled");
            books.ended(call, "the response was over");
        },
    },
    "an answer to a cancelled call": {
        run: (books, call) => {
            books.drop(call, "cancelled");
            books.answer(call, result(call));
        },
    },
    "two answers to a cancelled call": {
        run: (books, call) => {
            books.drop(call, "cancelled");
            books.answer(call, result(call));
            books.answer(call, result(call));
        },
        finds: /^two answers/,
    },
    "a status with a reason": { run: (books, call) => books.refused(call, 503, "full") },
    "a status without a reason": {
        run: (books, call) => books.refused(call, 503, ""),
        finds: /^neither answer nor reason/,
    },
    "a status after the answer": {
        run: (books, call) => {
            books.answer(call, result(call));
            books.refused(call, 503, "full");
        },
        finds: /^a status 503/,
    },
    progress: {
        n: 2,
        run: (books, call) => {
            books.notified(call, progress(call, 1));
            books.notified(call, progress(call, 2));
            books.answer(call, result(call));
        },
    },
    "progress backwards": {
        n: 2,
        run: (books, call) => {
            books.notified(call, progress(call, 2));
            books.notified(call, progress(call, 1));
        },
        finds: /^progress 1 after 2/,
    },
    "another's progress": {
        n: 2,
        run: (books, call, other) => books.notified(call, progress(call, 1, other.wish.nonce)),
        finds: /^progress of another/,
    },
    "progress after the answer": {
        n: 2,
        run: (books, call) => {
            books.answer(call, result(call));
            books.notified(call, progress(call, 1));
        },
        finds: /^progress after the answer/,
    },
    "asked, and what was said": {
        what: "ask",
        isCalm: true,
        run: (books, call) => {
            books.asked(call, question(call), { message: call.wish.nonce });
            call.said = "decline";
            books.answer(call, result(call, `decline ${call.wish.nonce}`));
        },
    },
    "asked, and what was not said": {
        what: "ask",
        run: (books, call) => {
            call.said = "decline";
            books.answer(call, result(call));
        },
        finds: /^the answer of another/,
    },
    "not asked, and declined": {
        what: "ask",
        run: (books, call) => books.answer(call, result(call, `decline ${call.wish.nonce}`)),
        finds: /^the answer of another/,
    },
    "not asked, and declined for a server that may mean another": {
        what: "ask",
        isCalm: true,
        run: (books, call) => {
            call.mayBeDeclined = true;
            books.answer(call, result(call, `decline ${call.wish.nonce}`));
        },
    },
    "asked twice": {
        what: "ask",
        run: (books, call) => {
            call.said = "accept";
            books.asked(call, question(call), { message: call.wish.nonce });
        },
        finds: /^asked again/,
    },
    "declined, and the question read after that": {
        what: "ask",
        run: (books, call) => {
            call.mayBeDeclined = true;
            books.answer(call, result(call, `decline ${call.wish.nonce}`));
            books.asked(call, question(call), { message: call.wish.nonce });
        },
    },
    "another's question": {
        what: "ask",
        run: (books, call, other) => books.asked(call, question(other), { message: other.wish.nonce }),
        finds: /^the question of another/,
    },
    "run once": { run: (books, call, other) => [call, other].forEach(({ wish }) => books.ran(wish.nonce)) },
    "run twice": {
        run: (books, call) => [call, call].forEach(({ wish }) => books.ran(wish.nonce)),
        finds: /was run 2 times/,
    },
};

describe("the soak's books", () => {
    for (const [name, { what = "ok", n = 0, isCalm = false, run, finds }] of Object.entries(CASES)) {
        test(`${name}: ${finds === undefined ? "fine" : "noticed"}`, () => {
            const books = new Books(1);
            const trace = new Trace("a connection");
            const call = books.begin(trace, "one", isCalm, 1, { do: what, n, ms: 0 });
            run(books, call, books.begin(trace, "one", isCalm, 2, { do: what, n, ms: 0 }));
            if (finds === undefined) assert.deepEqual(books.violations, []);
            else {
                assert.equal(books.violations.length, 1, books.violations.join("\n"));
                assert.match(books.violations[0]!, finds);
            }
        });
    }
});

const URI = "soak://calm/1";
const updated = (number?: number, uri = URI, id?: string): RpcMessage => ({
    method: "notifications/resources/updated",
    params: {
        uri,
        _meta: {
            ...(number === undefined ? {} : { [NUMBER_KEY]: number }),
            ...(id === undefined ? {} : { [SUBSCRIPTION_KEY]: id }),
        },
    },
});
const listChanged = (id?: string): RpcMessage => ({
    method: "notifications/tools/list_changed",
    params: id === undefined ? {} : { _meta: { [SUBSCRIPTION_KEY]: id } },
});

const NEWS: { [name: string]: { id?: string; told: RpcMessage[]; number?: number; finds?: RegExp } } = {
    "each update": { told: [updated(1), updated(2)], number: 2 },
    "the last of several": { told: [updated(2)], number: 2 },
    "none of several": { told: [], number: 2, finds: /^update 2 of .* did not come; the last was 0/ },
    "not the last": { told: [updated(1)], number: 2, finds: /^update 2 of .* did not come; the last was 1/ },
    "what was missed is not known": { told: [updated()], number: 2 },
    "an update twice": { told: [updated(1), updated(1)], number: 1, finds: /^told after number 1/ },
    "an update of something else": { told: [updated(1, "soak://calm/2")], finds: /not asked for/ },
    "a list in a session": { told: [listChanged()] },
    "a listen's list in a session": { told: [listChanged("one")], finds: /^told with another id/ },
    "an update with its id": { id: "one", told: [updated(1, URI, "one")], number: 1 },
    "an update without its id": { id: "one", told: [updated(1)], finds: /^told with another id/ },
    "another's update": { id: "one", told: [updated(1, URI, "two")], finds: /^told with another id/ },
    "a list that was not listened to": { id: "one", told: [listChanged("one")], finds: /^told what was not asked for/ },
    "a question among the news": { told: [{ ...listChanged(), id: 1 }], finds: /^a request where none belongs/ },
};

describe("what the soak hears unasked", () => {
    for (const [name, { id, told, number = 0, finds }] of Object.entries(NEWS)) {
        test(`${name}: ${finds === undefined ? "fine" : "noticed"}`, async () => {
            const books = new Books(1);
            const hearing = new Hearing(books, new Trace("a connection"), id);
            let count = 0;
            hearing.expect(URI, { told: () => count });
            hearing.owe(URI);
            count = number;
            for (const message of told) hearing.take(message);
            await hearing.catchUp(0);
            if (finds === undefined) assert.deepEqual(books.violations, []);
            else assert.match(books.violations[0]!, finds);
        });
    }
});

/** What a connection makes of these bytes, in pieces of that size, as the answer to so many requests. */
async function read(bytes: string, size: number, requests: number) {
    const server = net.createServer((socket) => {
        socket.on("error", () => {});
        socket.setNoDelay(true).once("data", () => {
            const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
                bytes.slice(i * size, (i + 1) * size),
            );
            const next = () =>
                pieces.length === 0 ? socket.end() : void socket.write(pieces.shift()!, () => setImmediate(next));
            next();
        });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const wire = new Wire((server.address() as net.AddressInfo).port, "a test");
    const messages: RpcMessage[] = [];
    const excess: string[] = [];
    wire.onExcess = (text) => excess.push(text);
    const request = { path: "/", fields: {}, body: "{}", onMessage: (message: RpcMessage) => messages.push(message) };
    const responses = await Promise.all(Array.from({ length: requests }, () => wire.request(request)));
    await wire.closed;
    await new Promise((resolve) => server.close(resolve));
    return {
        messages: messages.map(({ id }) => id),
        broken: responses.filter((each) => each.broken !== undefined).length,
        excess: excess.length,
    };
}

const json = (id: number) =>
    `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"id":${id}}`;
const events = (...ids: number[]) =>
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" +
    ids.map((id) => `15\r\n: hello\n\ndata: {"id":\r\n4\r\n${id}}\n\n\r\n`).join("") +
    "0\r\n\r\n";

describe("the soak's connections", () => {
    for (const size of [1, 3, 1_000_000]) {
        for (const [name, bytes, requests, expected] of [
            ["an answer", json(1), 1, { messages: [1], broken: 0, excess: 0 }],
            ["one that nobody asked for", json(1) + json(2), 1, { messages: [1], broken: 0, excess: 1 }],
            [
                "pipelined answers",
                json(1) + events(2, 3) + json(4),
                3,
                { messages: [1, 2, 3, 4], broken: 0, excess: 0 },
            ],
            ["half an answer", json(1).slice(0, -1), 1, { messages: [], broken: 1, excess: 0 }],
            ["events without an end", events(1).slice(0, -5), 1, { messages: [1], broken: 1, excess: 0 }],
        ] as const) {
            test(`${name}, ${size} bytes at a time`, async () => {
                const found = await read(bytes, size, requests);
                assert.deepEqual({ ...found, excess: Math.min(found.excess, 1) }, expected);
            });
        }
    }
});

test("chance is the same for the same seed and name, and another otherwise", () => {
    const draw = (seed: number, name: string) => {
        const random = new Random(seed, name);
        return Array.from({ length: 20 }, () => random.int(1, 1000));
    };
    assert.deepEqual(draw(1, "a"), draw(1, "a"));
    assert.notDeepEqual(draw(1, "a"), draw(2, "a"));
    assert.notDeepEqual(draw(1, "a"), draw(1, "b"));
    assert.ok(draw(1, "a").every((each) => each >= 1 && each <= 1000));
});

test("a short soak", { timeout: 200_000 }, async (t) => {
    const seed = Number(process.env.CARDEA_TEST_SEED ?? 1);
    const { violations, summary, tail } = await soak({
        seconds: 20,
        seed,
        clients: 12,
        keepAlive: [200, 2000],
        say: (line) => t.diagnostic(line),
    });
    for (const line of summary) t.diagnostic(line);
    assert.ok(violations.length === 0, `${violations.join("\n\n")}\n\n${tail}`);
});
