/*
 * Request smuggling needs two parsers that disagree. Whatever our codec accepts, a real nginx has to read alike: the
 * same requests, with the same methods, targets and bodies. nginx may refuse what we accept; it may not see another
 * split. And what nginx forwards, our codec has to read as the one request that nginx thinks it is.
 *
 * The inputs are the corpus of the fuzz target, mutations of it, and requests put together from good and bad pieces,
 * several on a connection, with a last honest one behind them. CARDEA_TEST_SEEDS says how many (3000), CARDEA_TEST_SEED
 * where they begin (1).
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { fingerprint, Nginx, type Reading, type Seen } from "./fixtures/nginx.ts";
import { random } from "./lib/random.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const CORPUS = join(ROOT, "test", "fuzz", "http_request", "corpus");
const SPLIT = join(process.env.CARDEA_BUILD_DIR ?? join(ROOT, "build-asan"), "split-http");
const SEEDS = Number(process.env.CARDEA_TEST_SEEDS ?? 3000);
const FIRST = Number(process.env.CARDEA_TEST_SEED ?? 1);
const AT_ONCE = 64;

type Next = (below: number) => number;
const pick = <T>(next: Next, from: readonly T[]): T => from[next(from.length)]!;
const shown = (bytes: Buffer) => JSON.stringify(bytes.toString("latin1").slice(0, 1500));

/** What our codec makes of bytes that came on a connection. */
interface Split {
    /** "whole", "part", or the status of a refusal */
    end: string;
    requests: Seen[];
}

function split(documents: Buffer[]): Split[] {
    const input = documents.flatMap((document) => {
        const length = Buffer.alloc(4);
        length.writeUInt32BE(document.length);
        return [length, document];
    });
    const run = spawnSync(SPLIT, { input: Buffer.concat(input), maxBuffer: 1 << 28, encoding: "latin1" });
    assert.equal(run.status, 0, `${SPLIT}: ${run.error ?? run.stderr}`);
    const lines = run.stdout.split("\n").slice(0, -1);
    assert.equal(lines.length, documents.length);
    return lines.map((line) => {
        const [end, ...words] = line.split(" ");
        const requests = Array.from({ length: words.length / 4 }, (_, n) => words.slice(4 * n, 4 * n + 4).join(" "));
        return { end: end!, requests };
    });
}

// --- inputs ---

const LAST = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
/** As a body it is nothing; where a parser ends the body too early it is a request. */
const HIDDEN = "POST /hidden HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";

const LINES = [
    ...["POST /a HTTP/1.1", "POST /a HTTP/1.1", "POST /a?b=c%20d HTTP/1.1", "GET /g HTTP/1.1", "DELETE /d HTTP/1.1"],
    ...["HEAD /h HTTP/1.1", "PUT /p HTTP/1.1", "PROPFIND /x HTTP/1.1", "OPTIONS * HTTP/1.1", "POST /a HTTP/1.0"],
    ...["POST http://h/abs HTTP/1.1", "GET //two HTTP/1.1", "GET /a/../b HTTP/1.1", "GET /a/%2e%2e/b HTTP/1.1"],
    ...["GET /a/./b HTTP/1.1", "GET /%00 HTTP/1.1", "GET /a#b HTTP/1.1", "post /a HTTP/1.1", "GET  /a HTTP/1.1"],
    ...["GET /a  HTTP/1.1", "GET /a HTTP/1.1 ", "GET /a", "GET /a HTTP/1.2", "GET /a HTTP/01.1", "GET /a HTTP/2.0"],
    ...["GET /a\tHTTP/1.1", "TRACE /t HTTP/1.1", "CONNECT h:80 HTTP/1.1", "GET /\xe9 HTTP/1.1", "G@T /a HTTP/1.1"],
];
const FIELDS = [
    ...["X-A: b", "Accept: */*", "Connection: keep-alive", "Connection: Keep-Alive, X-A", "Connection: close"],
    ...["X-Empty:", "X-Tabs:\t b \t", "Expect: 100-continue", "Cookie: a=b; c=d", "Upgrade: h2c", "Trailer: X-T"],
    ...["X-A : b", "X-A\t: b", " X-A: b", "X-A: b\r\n c", "X-A: b\r\n\tc", ": b", "X-A", "X_A: b", "X-\xe9: b"],
    ...["X-A: \xe9", "X-A: b\0c", "X-A: b\rc", "X-A: b\nc", "Host: h2", "X A: b", "X-A: \x01", "X-A: \x7f"],
    ...["Expect: 100-continue\r\nExpect: 100-continue", "Keep-Alive: timeout=1", "TE: trailers", "X(A): b"],
    ...["Connection: close, keep-alive", "Connection: xclose", "Connection: close-x", "Proxy-Connection: close"],
];
const LENGTHS = [
    ...[(n: number) => `Content-Length: ${n}`, (n: number) => `content-length:${n}`],
    ...[(n: number) => `Content-Length: \t${n} `, (n: number) => `Content-Length: 0${n}`],
    ...[(n: number) => `Content-Length: 000000000000000000000000${n}`, (n: number) => `Content-Length: +${n}`],
    ...[(n: number) => `Content-Length: ${n}\r\nContent-Length: ${n}`, (n: number) => `Content-Length: ${n}, ${n}`],
    ...[(n: number) => `Content-Length: ${n}\r\nContent-Length: 0`, () => "Content-Length: -1"],
    ...[(n: number) => `Content-Length : ${n}`, (n: number) => `Content-Length: 0x${n.toString(16)}`],
    ...[(n: number) => `Content-Length: ${n}.0`, () => "Content-Length:", () => "Content-Length: 18446744073709551617"],
    ...[(n: number) => `Content_Length: ${n}`, (n: number) => `X-A: b\nContent-Length: ${n}`],
    ...[(n: number) => `Content-Length: ${n}\r\nTransfer-Encoding: chunked`, (n: number) => `Content-Length: ${n};x`],
    ...[(n: number) => `Content-Length: ${n}\r\nTransfer-Encoding: identity`],
    ...[(n: number) => `Content-Length:\r\n ${n}`],
] as ((n: number) => string)[];
const CODINGS = [
    ...["Transfer-Encoding: chunked", "transfer-encoding:chunked", "Transfer-Encoding: Chunked", "TE: chunked"],
    ...["Transfer-Encoding: \tchunked\t ", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked,"],
    ...["Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: gzip, chunked"],
    ...["Transfer-Encoding: identity", 'Transfer-Encoding: "chunked"', "Transfer-Encoding: chunked;q=1"],
    ...["Transfer-Encoding: \x0bchunked", "Transfer-Encoding : chunked", "Transfer_Encoding: chunked"],
    ...["Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked"],
    ...["Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "X: y\nTransfer-Encoding: chunked"],
    ...["Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: chun\0ked", "Transfer-Encoding: cow"],
];
const SIZES = [
    ...[(n: number) => n.toString(16), (n: number) => n.toString(16).toUpperCase()],
    ...[(n: number) => `0${n.toString(16)}`],
    ...[(n: number) => `${n.toString(16)};a=b`, (n: number) => `${n.toString(16)};a="\\"\r"`, (n: number) => `${n}`],
    ...[(n: number) => `${n.toString(16)} `, (n: number) => ` ${n.toString(16)}`, (n: number) => `+${n.toString(16)}`],
    ...[(n: number) => `0x${n.toString(16)}`, (n: number) => `${n.toString(16)} ;a`, (n: number) => `${n + 1}`],
    ...[(n: number) => `${n.toString(16)};${"x".repeat(300)}`, (n: number) => `${n.toString(16)}\t;a=b`],
    ...[(n: number) => `00000000000000000${n.toString(16)}`, (n: number) => `1000000000000000${n.toString(16)}`],
    ...[(n: number) => `${n.toString(16)};a="b\nc"`, (n: number) => `${n.toString(16)};a=b;c="d;e"`, () => ""],
] as ((n: number) => string)[];
const ENDS = ["\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", ""];
const TRAILERS = ["X-T: 1", "Content-Length: 5", "Transfer-Encoding: chunked", "Host: h", "X-T : 1"];

/** Mostly the first of the row, which is good. */
const odd = <T>(next: Next, row: readonly T[]): T => (next(4) > 0 ? row[0]! : pick(next, row));
const end = (next: Next) => (next(40) > 0 ? "\r\n" : pick(next, ENDS));

function chunked(next: Next, body: string): string {
    let out = "";
    for (let at = 0; at < body.length; ) {
        const n = Math.min(body.length - at, 1 + next(60));
        out += `${odd(next, SIZES)(n)}${end(next)}${body.slice(at, at + n)}${end(next)}`;
        at += n;
    }
    const trailer = next(8) > 0 ? "" : `${pick(next, TRAILERS)}\r\n`;
    return `${out}${pick(next, ["0", "0", "0", "00", "0;a=b", "-0", "0x0"])}${end(next)}${trailer}${end(next)}`;
}

/** A request of pieces that are good in most cases. */
function made(next: Next): string {
    const fields = ["Host: h"];
    for (let n = next(4); n > 0; n--) fields.push(next(3) > 0 ? FIELDS[next(5)]! : pick(next, FIELDS));
    let body = pick(next, ["", "x", "hello", "{}", HIDDEN, `0\r\n\r\n${HIDDEN}`, "a\r\n"]);
    switch (next(3)) {
        case 0:
            fields.push(odd(next, LENGTHS)(body.length));
            break;
        case 1:
            fields.push(odd(next, CODINGS));
            body = chunked(next, body);
            break;
        case 2:
            body = next(10) > 0 ? "" : body;
            break;
    }
    if (next(6) === 0) fields.splice(next(fields.length + 1), 0, ...fields.splice(next(fields.length), 1));
    const lead = next(20) > 0 ? "" : pick(next, ["\r\n", "\n", "\r\n\r\n", " "]);
    const line = `${odd(next, LINES)}${end(next)}`;
    const lines = fields.map((field) => field + end(next)).join("");
    return `${lead}${line}${lines}${end(next)}${body}`;
}

const BYTES = "\r\n\0 \t:;,0159afx-+\x0b\x7f\xff\"";

function mutated(next: Next, seeds: Buffer[]): Buffer {
    let out = Buffer.from(pick(next, seeds));
    if (out.length === 0) return out;
    for (let n = 1 + next(2); n > 0; n--) {
        const at = next(out.length);
        const to = at + 1 + next(Math.min(24, out.length - at));
        const byte = Buffer.from(BYTES[next(BYTES.length)]!, "latin1");
        const parts = [
            () => [out.subarray(0, at), byte, out.subarray(at)],
            () => [out.subarray(0, at), byte, out.subarray(at + 1)],
            () => [out.subarray(0, at), out.subarray(to)],
            () => [out.subarray(0, to), out.subarray(at)],
            () => [out.subarray(0, at), Buffer.from(pick(next, FIELDS) + "\r\n", "latin1"), out.subarray(at)],
        ];
        out = Buffer.concat(pick(next, parts)());
        if (out.length === 0) return out;
    }
    return out;
}

function documents(): Buffer[] {
    const seeds = readdirSync(CORPUS).map((name) => readFileSync(join(CORPUS, name)));
    const last = Buffer.from(LAST);
    const all = seeds.map((seed) => Buffer.concat([seed, last]));
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
        const next = random(seed);
        const pieces = Array.from({ length: 1 + next(3) }, () =>
            next(4) === 0 ? mutated(next, seeds) : Buffer.from(made(next), "latin1"),
        );
        all.push(Buffer.concat([...pieces, last]));
    }
    return all;
}

/*
 * --- what may not be ---
 *
 * Two things nginx does in its own way, and neither moves the border between two requests:
 * - A target in absolute form is forwarded in origin form, without scheme and authority (RFC 9112, 3.2.2).
 * - When one Connection field says "close" and a later one does not, nginx goes by the last; we close (RFC 9112, 9.3).
 *   So where a connection ends is compared by nobody, and both read on behind such a request.
 */

const originForm = (own: Seen): Seen =>
    own.replace(/^(\S+) https?:\/\/[^\/? ]*/i, "$1 ").replace(/^(\S+) {2}/, "$1 / ");

/** Why the two readings do not go together; undefined: they do. */
function difference(ours: Split, theirs: Reading[]): string | undefined {
    for (const [n, { seen, status, closes }] of theirs.entries()) {
        const own = ours.requests[n] && originForm(ours.requests[n]);
        if (seen === undefined) {
            // An answer without a head: nginx took an HTTP/0.9 request, which we refuse before anything is read of it.
            if (status === 0 && own === undefined && /^\d/.test(ours.end)) return undefined;
            // nginx itself refused. A refusal that leaves the connection open has to be that of one whole request.
            if (status < 400) return `request ${n + 1}: nginx answers with ${status} itself`;
            if (closes) return undefined;
            if (own === undefined && /^\d/.test(ours.end)) return undefined;
            if (own === undefined) return `request ${n + 1}: nginx goes on after a refusal, we have none`;
        } else if (own === undefined) {
            // We closed the connection with a refusal: what nginx still sees in it can deceive nobody.
            return /^\d/.test(ours.end) ? undefined : `request ${n + 1}: "${seen}" for nginx, none for us`;
        } else if (seen !== own) return `request ${n + 1}: "${seen}" for nginx, "${own}" for us`;
    }
    const last = theirs.at(-1);
    if (theirs.length < ours.requests.length && last?.closes !== true) {
        return `nginx answered ${theirs.length} requests without closing, we see ${ours.requests.length}`;
    }
    return undefined;
}

describe("nginx and our codec", () => {
    const nginx = new Nginx();
    before(() => nginx.start());
    after(() => nginx.stop());

    test("the comparison finds what it is for", async () => {
        const one = (body: string) => `POST /a ${body.length} ${fingerprint(Buffer.from(body))}`;
        const good: Reading = { seen: one("hello"), status: 200, closes: false };
        const ours = { end: "whole", requests: [one("hello"), one("hi")] };
        assert.equal(difference(ours, [good, { seen: one("hi"), status: 200, closes: true }]), undefined);
        assert.equal(difference(ours, [good, { status: 400, closes: true }]), undefined);
        assert.match(difference(ours, [good, { seen: one("hi!"), status: 200, closes: true }])!, /^request 2/);
        assert.match(difference(ours, [good])!, /without closing/);
        assert.match(difference({ end: "part", requests: [] }, [good])!, /none for us/);
        assert.match(difference({ end: "whole", requests: [] }, [good])!, /none for us/);
        assert.equal(difference({ end: "400", requests: [] }, [good]), undefined);
        // And nginx and the fixture say what they see.
        const bytes = `POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n${LAST}`;
        const [first, second, ...more] = await nginx.read(Buffer.from(bytes));
        assert.deepEqual([first, second!.seen, more], [good, `GET /last 0 ${fingerprint(Buffer.alloc(0))}`, []]);
    });

    test("what we accept, nginx reads alike, and what it forwards, we read alike", { timeout: 240_000 }, async (t) => {
        const inputs = documents();
        const ours = split(inputs);
        const theirs: Reading[][] = [];
        const from = nginx.forwarded.length;
        for (let n = 0; n < inputs.length; n += AT_ONCE) {
            theirs.push(...(await Promise.all(inputs.slice(n, n + AT_ONCE).map((bytes) => nginx.read(bytes)))));
        }
        const found: string[] = [];
        let accepted = 0;
        let agreed = 0;
        for (const [n, bytes] of inputs.entries()) {
            const why = difference(ours[n]!, theirs[n]!);
            if (why !== undefined) found.push(`${why}\n  ${shown(bytes)}`);
            accepted += ours[n]!.requests.length;
            agreed += ours[n]!.requests.filter((own, k) => theirs[n]![k]?.seen === originForm(own)).length;
        }
        const forwarded = nginx.forwarded.slice(from);
        for (const [n, { end, requests }] of split(forwarded).entries()) {
            // One request and nothing left over, or a refusal before any: there is no second one in it.
            const isOne = end === "whole" && requests.length === 1;
            const isNone = /^\d/.test(end) && requests.length === 0;
            if (!isOne && !isNone) found.push(`forwarded: ${end}, ${requests.length}\n  ${shown(forwarded[n]!)}`);
        }
        t.diagnostic(
            `${nginx.version}: ${inputs.length} inputs; of ${accepted} requests that we accept nginx reads ${agreed} ` +
                `alike and refuses the others; it forwarded ${forwarded.length}`,
        );
        assert.deepEqual(found.slice(0, 20), [], `${found.length} differences`);
        // Otherwise this would compare refusals with refusals.
        assert.ok(accepted > inputs.length / 3, `only ${accepted} requests were accepted`);
        assert.ok(agreed > 0.8 * accepted, `${agreed} of ${accepted}`);
    });
});
