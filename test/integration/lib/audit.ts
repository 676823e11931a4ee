/*
 * The trail, read from outside: a second opinion on what it says and whether it holds together, which shares nothing with
 * the gateway's own. Signatures are left to `cardea audit verify`.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { cardea, type Run } from "./cli.ts";
import type { Gateway } from "./gateway.ts";
import { until } from "./wait.ts";

export interface Line {
    seq: number;
    time: string;
    event: string;
    id?: string;
    hash: string;
    [member: string]: unknown;
}

/** Where a line stands. */
export interface Placed {
    line: Line;
    text: string;
    file: string;
    /** of the byte behind it, its line end included */
    end: number;
}

export const auditDir = (dataDir: string): string => join(dataDir, "audit");
export const SEGMENT = /^\d{20}\.jsonl$/;

export const segments = (dir: string): string[] =>
    existsSync(dir) ? readdirSync(dir).filter((name) => SEGMENT.test(name)).sort() : [];

/** Every byte that the trail takes, with its index, without what is kept in reserve; or of the segments alone. */
export const trailBytes = (dataDir: string, of: RegExp = /^(?!reserve$)/): number =>
    (existsSync(auditDir(dataDir)) ? readdirSync(auditDir(dataDir)) : [])
        .filter((name) => of.test(name))
        .reduce((sum, name) => sum + (statSync(join(auditDir(dataDir), name), { throwIfNoEntry: false })?.size ?? 0), 0);

/** Reads on where it stopped; a line is given once it has its end. */
export class Reader {
    readonly dir: string;
    readonly all: Placed[] = [];
    #file = "";
    #offset = 0;

    constructor(dataDir: string) {
        this.dir = auditDir(dataDir);
    }

    /** What is new. */
    more(): Placed[] {
        const found: Placed[] = [];
        for (const file of segments(this.dir)) {
            if (file < this.#file) continue;
            if (file > this.#file) [this.#file, this.#offset] = [file, 0];
            let bytes: Buffer;
            try {
                bytes = readFileSync(join(this.dir, file));
            } catch {
                continue; // retention was faster
            }
            for (let end = bytes.indexOf(10, this.#offset); end >= 0; end = bytes.indexOf(10, this.#offset)) {
                const text = bytes.toString("utf8", this.#offset, end);
                this.#offset = end + 1;
                found.push({ line: JSON.parse(text) as Line, text, file, end: end + 1 });
            }
        }
        this.all.push(...found);
        return found;
    }

    /** All lines until now. */
    get lines(): Line[] {
        this.more();
        return this.all.map(({ line }) => line);
    }

    /** The first line that satisfies the predicate, as soon as there is one. */
    async find(predicate: (line: Line) => boolean, what: string, from = 0): Promise<Line> {
        return until(
            () => this.lines.slice(from).find(predicate),
            () => `${what}; the last of ${this.all.length}:\n${this.all.slice(-8).map(({ text }) => `  ${text.slice(0, 500)}`).join("\n")}`,
        );
    }
}

export const trailOf = (gateway: Gateway): Reader => new Reader(gateway.dataDir);

/** The mark of a call, which its arguments carry. */
export const markOf = (line: Line): string | undefined => /mark-[0-9a-z-]+/.exec(JSON.stringify(line.arguments ?? ""))?.[0];

export async function verify(dataDir: string, ...more: string[]): Promise<Run> {
    return cardea(["audit", "verify", "--data-dir", dataDir, ...more]);
}

export async function isVerified(dataDir: string): Promise<Run> {
    const run = await verify(dataDir);
    assert.equal(run.code, 0, `audit verify said\n${run.stdout}${run.stderr}`);
    return run;
}

/* --- whether it holds together --- */

export interface Checked {
    lines: number;
    bytes: number;
    /** since the last start */
    requests: number | undefined;
    records: number;
    denied: number;
    lost: number;
    problems: string[];
}

const HASH_AT = `,"hash":"`.length + 43 + 2;
const EVENT_OF = /^\{"seq":\d+,"time":"[^"]{27}","event":"([a-z-]+)"/;
/** Each is a request that somebody sent, and that was let come in; an outcome belongs to an intent. */
export const REQUESTS = new Set(["call", "intent", "request", "stream", "session"]);

/** A record that could not be confirmed is written once more, when it can: its id says that it is the same. */
const ID_OF = /^,"id":"([0-9a-f]{16})"/;

function checkSegment(file: string, bytes: Buffer, chain: { hash: Buffer; seq: number }, ids: Set<string>, into: Checked): void {
    const say = (problem: string) => into.problems.push(`${file}: ${problem}`);
    let at = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, at)) {
        const line = bytes.subarray(at, end);
        const begin = line.toString("latin1", 0, 160), found = EVENT_OF.exec(begin), event = found?.[1];
        at = end + 1;
        into.lines++;
        if (event === undefined || line.length < HASH_AT) {
            say(`line ${chain.seq + 1} is none: ${line.toString("utf8", 0, 200)}`);
            return;
        }
        const seq = Number(line.toString("latin1", 7, line.indexOf(44)));
        const said = line.toString("latin1", line.length - 45, line.length - 2);
        if (seq !== chain.seq + 1) say(`${seq} follows ${chain.seq}`);
        const hash = createHash("sha256").update(chain.hash).update(line.subarray(0, line.length - HASH_AT)).digest();
        if (hash.toString("base64url") !== said) {
            say(`the hash of ${seq} is ${said}, not ${hash.toString("base64url")}`);
            return;
        }
        [chain.hash, chain.seq] = [hash, seq];
        // An outcome that says all is of a call that was cancelled before its intent was confirmed: that may be lost.
        if (REQUESTS.has(event) || (event === "outcome" && line.includes(`,"method":`))) {
            const id = ID_OF.exec(begin.slice(found![0].length))?.[1];
            if (id === undefined || !ids.has(id)) into.records++;
            if (id !== undefined) ids.add(id);
        }
        if (event === "denied") into.denied += Number((JSON.parse(line.toString("utf8")) as Line).count);
        else if (event === "gap") into.lost += Number((JSON.parse(line.toString("utf8")) as Line).lost);
        else if (event === "start") [into.records, into.denied, into.lost, into.requests] = [0, 0, 0, undefined];
        else if (event === "stop") into.requests = Number((JSON.parse(line.toString("utf8")) as Line).requests);
    }
    if (at !== bytes.length) say(`the last line has no end: ${bytes.toString("utf8", at, at + 200)}`);
}

/** Hashes, numbers and sums of a trail whose gateway has stopped. */
export function check(dataDir: string): Checked {
    const dir = auditDir(dataDir), files = segments(dir);
    const checked: Checked = { lines: 0, bytes: 0, requests: undefined, records: 0, denied: 0, lost: 0, problems: [] };
    const chain = { hash: Buffer.alloc(32), seq: 0 }, ids = new Set<string>();
    for (const [index, file] of files.entries()) {
        const bytes = readFileSync(join(dir, file));
        checked.bytes += bytes.length;
        if (Number(file.slice(0, 20)) !== chain.seq + 1) {
            if (index > 0) checked.problems.push(`${file} follows the line ${chain.seq}`);
            const first = JSON.parse(bytes.toString("utf8", 0, bytes.indexOf(10))) as Line;
            [chain.hash, chain.seq] = [Buffer.from(String(first.previous), "base64url"), Number(file.slice(0, 20)) - 1];
        }
        checkSegment(file, bytes, chain, ids, checked);
    }
    const { requests, records, denied, lost } = checked;
    const isWhole = files.length === 0 || files[0]!.startsWith("00000000000000000001");
    if (requests !== undefined && isWhole && requests !== records + denied + lost)
        checked.problems.push(`${requests} requests, but ${records} records, ${denied} denied and ${lost} lost`);
    return checked;
}

/* --- of every gateway that a test starts --- */

/** What one test file looked at. */
const total = { trails: 0, lines: 0, bytes: 0, requests: 0, records: 0, denied: 0, lost: 0, verified: 0 };
/** The command takes a process of its own: of one trail in so many. */
const VERIFIED_IN = 8;
const LONG = 64 << 20;

/** When it has stopped as it should: what is wrong with what it wrote. */
export async function examineTrail(dataDir: string): Promise<string[]> {
    const files = segments(auditDir(dataDir));
    if (process.env.CARDEA_TEST_AUDIT === "0" || files.length === 0) return [];
    if (files.reduce((sum, file) => sum + statSync(join(auditDir(dataDir), file)).size, 0) > LONG) return [];
    const checked = check(dataDir);
    const problems = [...checked.problems];
    if (checked.requests === undefined) problems.push("the trail does not end with a stop line that counts requests");
    if (total.trails++ % VERIFIED_IN === 0) {
        total.verified++;
        const run = await verify(dataDir);
        if (run.code !== 0) problems.push(`audit verify ended with ${run.code}: ${run.stdout}${run.stderr}`);
    }
    for (const key of ["lines", "bytes", "requests", "records", "denied", "lost"] as const) total[key] += checked[key] ?? 0;
    return problems;
}

process.on("exit", () => {
    if (total.trails > 0 && process.env.CARDEA_AUDIT_LOG !== undefined)
        appendFileSync(process.env.CARDEA_AUDIT_LOG, `${JSON.stringify(total)}\n`);
});
