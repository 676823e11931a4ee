/*
 * `cardea audit ...` on the trail of a real gateway, while it runs and when it is gone: what the commands print, what
 * they refuse, that nothing recorded does anything to a terminal or a spreadsheet, and that the sinks have every line.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
    appendFileSync, chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync,
    writeFileSync,
} from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { auditDir, segments, trailOf, type Line } from "./lib/audit.ts";
import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { binary, startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, served, type Session } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until } from "./lib/wait.ts";

const FORMULA = '=HYPERLINK("http://x","y")';
const ESCAPE = "\u001b]0;owned\u0007\u009b2J\u202e";

function ended(run: Run, code: number): void {
    assert.equal(run.signal, null);
    assert.equal(run.code, code, run.stdout + run.stderr);
}

/** Cells of CSV as RFC 4180 has it. */
function parseCsv(text: string): string[][] {
    const rows: string[][] = [];
    let row: string[] = [];
    let at = 0;
    while (at < text.length) {
        let cell = "";
        if (text[at] === '"') {
            for (at++; text[at] !== '"' || text[at + 1] === '"'; at++) {
                assert.ok(at < text.length, "a quote is open at the end");
                if (text[at] === '"') at++;
                cell += text[at];
            }
            at++;
        } else {
            while (text[at] !== "," && text[at] !== "\r") cell += text[at++];
        }
        row.push(cell);
        if (text[at] === ",") at++;
        else {
            assert.equal(text.slice(at, at + 2), "\r\n", "a row ends with CR LF");
            at += 2;
            rows.push(row);
            row = [];
        }
    }
    assert.equal(row.length, 0);
    return rows;
}

const isHarmless = (text: string): boolean => !/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/.test(text);
const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");

interface Listed {
    records: { record: Line; outcome?: Line }[];
    next: string | null;
    lag: number;
}

describe("cardea audit", () => {
    let control: Control;
    let folder: string;
    let gateway: Gateway;
    let session: Session;
    let copy: string;
    let syslog: net.Server;
    let received = "";
    /** the options for the commands */
    let here: string[];

    const call = async (name: string, params: { [key: string]: unknown } = {}) =>
        session.call(name, params);
    const audit = (...args: string[]) => cardea(["audit", ...args, ...here]);
    const list = async (...args: string[]) => {
        const run = await audit("list", "--json", ...args);
        ended(run, 0);
        return JSON.parse(run.stdout) as Listed;
    };
    /** the index lags: until all is in it */
    const indexed = async () => {
        let found: Listed | undefined;
        while (found === undefined || found.lag !== 0) found = await list();
    };

    before(async () => {
        control = await startControl();
        folder = temporaryFolder();
        copy = join(folder, "copy.jsonl");
        syslog = net.createServer((socket) => {
            socket.setEncoding("utf8").on("data", (chunk: string) => (received += chunk)).on("error", () => undefined);
        });
        await new Promise<void>((resolve) => syslog.listen(0, "127.0.0.1", resolve));
        const port = (syslog.address() as net.AddressInfo).port;
        gateway = await startGateway({
            dataDir: join(folder, "data"),
            config: {
                servers: { it: { cmd: control.command({ name: "it" }) } },
                audit: { jsonl: { path: copy }, syslog: { url: `tcp://127.0.0.1:${port}` } },
            },
        });
        here = ["--data-dir", gateway.dataDir];
        await served(gateway, "it__echo");
        session = await openSession(gateway);
        for (let i = 0; i < 5; i++) await call("it__echo", { text: `number ${i}` });
        await call(FORMULA, { text: "x" });
        await call(`it__${ESCAPE}`, { text: "x" });
        await trailOf(gateway).find((line) => JSON.stringify(line).includes("HYPERLINK"), "the formula is recorded");
        await trailOf(gateway).find((line) => JSON.stringify(line).includes("owned"), "the escape is recorded");
        await indexed();
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
        syslog.close();
        removeFolder(folder);
    });

    test("tail: the last lines, for people and for programs", async () => {
        const all = trailOf(gateway);
        const json = await audit("tail", "--json", "-n", "3");
        ended(json, 0);
        assert.equal(lines(json.stdout).length, 3);
        for (const text of lines(json.stdout)) {
            all.more();
            assert.ok(all.all.some((placed) => placed.text === text), "a line is as it is in the trail");
        }
        const people = await audit("tail", "-n", "100000");
        ended(people, 0);
        assert.ok(isHarmless(people.stdout), JSON.stringify(people.stdout));
        assert.match(people.stdout, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z segment /);
        assert.match(people.stdout, /owned/);
        assert.equal(lines((await audit("tail")).stdout).length, 10);
        assert.equal((await audit("tail", "-n0")).stdout, "");
    });

    test("tail -f: goes on with what comes", async () => {
        const child = spawn(binary(), ["audit", "tail", "-f", "-n", "0", "--json", ...here], { stdio: ["ignore", "pipe", "inherit"] });
        let said = "";
        child.stdout.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
        try {
            let n = 0;
            await until(async () => {
                await call("it__echo", { text: `followed-${n++}` });
                return /followed-\d/.test(said);
            }, () => `a record comes; ${said}`);
            for (const line of lines(said.slice(0, said.lastIndexOf("\n") + 1))) JSON.parse(line);
        } finally {
            child.kill("SIGTERM");
        }
    });

    test("list: filters, pages, cursors", async () => {
        await indexed();
        const all = await list("--limit", "1000");
        assert.equal(all.next, null);
        const calls = await list("--operation", "it__echo", "--limit", "1000");
        assert.ok(calls.records.length >= 5);
        for (const { record } of calls.records) assert.equal(record.operation, "it__echo");
        const seqs = all.records.map(({ record }) => record.seq);
        assert.deepEqual(seqs, [...seqs].sort((a, b) => b - a), "the newest first");

        const paged: number[] = [];
        let cursor: string | null = null;
        do {
            const page: Listed = await list("--limit", "3", "--operation", "it__echo", ...(cursor === null ? [] : ["--cursor", cursor]));
            paged.push(...page.records.map(({ record }) => record.seq));
            cursor = page.next;
        } while (cursor !== null);
        assert.deepEqual(paged, calls.records.map(({ record }) => record.seq));

        const oldest = await list("--oldest-first", "--limit", "1000", "--operation", "it__echo");
        assert.deepEqual(oldest.records.map(({ record }) => record.seq), [...paged].reverse());
        assert.equal((await list("--text", "number 3")).records.length, 1);
        assert.equal((await list("--text", "no such text")).records.length, 0);
        assert.ok((await list("--address", "127.0.0.0/8")).records.length > 0);
        assert.equal((await list("--address", "192.0.2.1")).records.length, 0);
        assert.ok((await list("--since", "10m")).records.length > 0);
        assert.equal((await list("--until", "10m")).records.length, 0);
        assert.equal((await list("--user", "nobody at all")).records.length, 0);
        assert.ok((await list("--upstream", "it", "--status", "ok")).records.length >= 5);
        assert.ok((await list("--event", "start")).records.length === 1);
    });

    test("list: for people nothing acts upon the terminal", async () => {
        const run = await audit("list", "--limit", "1000");
        ended(run, 0);
        assert.match(run.stdout, /^time \(UTC\) +event +user/);
        assert.ok(isHarmless(run.stdout));
        assert.match(run.stdout, /owned/);
        const short = await audit("list", "--limit", "2");
        assert.match(short.stderr, /there is more: the same command with --cursor \d+/);
    });

    test("words that are wrong", async () => {
        for (const [args, said] of [
            [["list", "--status", "fine"], /a status is ok, tool-error/],
            [["list", "--decision", "maybe"], /a decision is allowed or denied/],
            [["list", "--address", "300.1.2.3"], /an address is one like/],
            [["list", "--since", "yesterday"], /--since takes a time like/],
            [["list", "--since", "1h", "--until", "2h"], /nothing is between/],
            [["list", "--limit", "0"], /--limit takes a number from 1 to/],
            [["list", "--cursor", "x"], /--cursor takes what a page/],
            [["tail", "-n", "many"], /-n takes a number/],
            [["export"], /--format csv or --format jsonl/],
            [["export", "--format", "xml"], /a format is csv or jsonl, not: xml/],
            [["verify", "--expect", "1:2"], /a head is NUMBER:HASH/],
            [["list", "x"], /too many arguments/],
            [["nothing"], /audit tail, audit list/],
        ] as [string[], RegExp][]) {
            const run = await audit(...args);
            ended(run, 2);
            assert.match(run.stderr, said);
        }
        const none = await cardea(["audit", "tail", "--data-dir", join(folder, "none")]);
        ended(none, 1);
        assert.match(none.stderr, /there is no audit trail in .*none\/audit/);
        assert.ok(!existsSync(join(folder, "none")));
    });

    test("export as CSV: every record a row, nothing is a formula", async () => {
        await indexed();
        const file = join(folder, "all.csv");
        const run = await audit("export", "--format", "csv", "--output", file);
        ended(run, 0);
        assert.equal(run.stdout, "");
        assert.equal(statSync(file).mode & 0o777, 0o600);
        const [head, ...rows] = parseCsv(readFileSync(file, "utf8"));
        assert.equal(head![0], "seq");
        for (const row of rows) {
            assert.equal(row.length, head!.length);
            for (const cell of row) assert.doesNotMatch(cell, /^[\s\u3000]*[=+@\uff1d\uff0b\uff20]/);
            assert.equal(row.at(-1), "", "nothing was filtered");
        }
        assert.ok(isHarmless(rows.map((row) => row.join("")).join("")));
        assert.ok(rows.some((row) => row[head!.indexOf("operation")] === `'${FORMULA}`));

        const again = await audit("export", "--format", "csv", "--output", file);
        ended(again, 1);
        assert.match(again.stderr, /it is there already, and is not overwritten/);

        const some = await audit("export", "--format", "csv", "--operation", "it__echo");
        ended(some, 0);
        const [, ...filtered] = parseCsv(some.stdout);
        assert.ok(filtered.length >= 5);
        for (const row of filtered) assert.equal(row.at(-1), '{"operation":"it__echo"}');
    });

    test("an export that fails leaves nothing behind", async () => {
        const before = readdirSync(folder);
        ended(await audit("export", "--format", "jsonl", "--output", join(folder, "none", "x")), 1);
        const full = spawnSync("sh", ["-c", 'ulimit -f 1; exec "$0" "$@"', binary(), "audit", "export", "--format", "jsonl",
            "--output", join(folder, "too-long"), ...here], { encoding: "utf8" });
        assert.notEqual(full.status, 0);
        assert.deepEqual(readdirSync(folder), before);
        if (existsSync("/dev/full")) {
            const run = spawnSync("sh", ["-c", 'exec "$0" "$@" > /dev/full', binary(), "audit", "export", "--format", "jsonl", ...here], { encoding: "utf8" });
            assert.equal(run.status, 1);
            assert.match(run.stderr, /cannot write the output/);
        }
    });

    test("export as JSON Lines: all of it can be verified, a part says that it is one", async () => {
        const out = join(folder, "all.jsonl");
        ended(await audit("export", "--format", "jsonl", "--output", out), 0);
        const split = join(folder, "split");
        mkdirSync(split);
        /* as docs/AUDIT.md says */
        const program = `/^\\{"seq":[0-9]+,"time":"[^"]*","event":"segment"/ { match($0, /[0-9]+/); file = sprintf("%s/%020d.jsonl", dir, substr($0, RSTART, RLENGTH)) } { print > file }`;
        const done = spawnSync("awk", ["-v", `dir=${split}`, program, out], { encoding: "utf8" });
        assert.equal(done.status, 0, done.stderr);
        const run = await cardea(["audit", "verify", "--dir", split, "--key", join(auditDir(gateway.dataDir), "public.pem")]);
        ended(run, 0);

        const some = await audit("export", "--format", "jsonl", "--operation", "it__echo");
        ended(some, 0);
        const [first, ...rest] = lines(some.stdout).map((line) => JSON.parse(line) as { [key: string]: unknown });
        assert.deepEqual(first, { export: { complete: false, filter: { operation: "it__echo" } } });
        assert.ok(rest.length >= 5);
    });

    test("head and verify, beside a gateway that runs", async () => {
        const head = (await audit("head")).stdout.trim();
        assert.match(head, /^\d+:[A-Za-z0-9_-]{43}$/);
        await call("it__echo", { text: "later" });
        const run = await audit("verify", "--expect", head);
        ended(run, 0);
        assert.match(run.stderr, /whoever can change the trail can change that file, too/);
        assert.match(run.stdout, /^fine: nothing was changed.*the expected head is in it$/m);
        const json = JSON.parse((await audit("verify", "--json", "--key", join(auditDir(gateway.dataDir), "public.pem"))).stdout) as {
            fine: boolean; lines: number; key_was_named: boolean; starts: number; findings: unknown[];
        };
        assert.equal(json.fine, true);
        assert.equal(json.key_was_named, true);
        assert.equal(json.starts, 1);
        assert.deepEqual(json.findings, []);
    });

    test("reindex beside a gateway that fills the index", async () => {
        const run = await audit("reindex");
        assert.ok(run.code === 0 || run.stderr.startsWith("cardea: cannot make the index: "), run.stderr);
        await indexed();
    });

    test("the copies have every line, as it is", async () => {
        const trail = trailOf(gateway);
        const last = (await trail.find((line) => line.event === "call" || line.event === "outcome", "a call")).seq;
        await until(() => existsSync(copy) && lines(readFileSync(copy, "utf8")).length >= last, () => "the copy has the lines");
        assert.equal(statSync(copy).mode & 0o777, 0o600);
        trail.more();
        const copied = readFileSync(copy, "utf8");
        assert.ok(trail.all.map(({ text }) => `${text}\n`).join("").startsWith(copied));
        await until(() => received.includes(`{"seq":${last},`), () => `syslog has line ${last}`);
        let rest = Buffer.from(received);
        for (let seq = 1; seq <= last; seq++) {
            const space = rest.indexOf(0x20);
            const length = Number(rest.toString("utf8", 0, space));
            const message = rest.toString("utf8", space + 1, space + 1 + length);
            assert.match(message, /^<8[3-6]>1 \d{4}-\d\d-\d\dT\S+Z \S+ cardea \d+ [a-z]+ - \{"seq":/);
            assert.equal(message.slice(message.indexOf(" - ") + 3), trail.all[seq - 1]!.text);
            rest = rest.subarray(space + 1 + length);
        }
    });

    test("without the gateway: list brings the index up to date, for the owner of the trail", async () => {
        const dir = auditDir(gateway.dataDir);
        await gateway.stop();
        const all = await list("--limit", "10000");
        for (const name of readdirSync(dir)) if (name.startsWith("index.sqlite")) rmSync(join(dir, name));
        chownSync(dir, 65534, 65534); // what root makes there its owner could not write
        const others = await audit("list");
        const lost = await audit("export", "--format", "csv", "--user", "nobody");
        assert.ok(!existsSync(join(dir, "index.sqlite")));
        chownSync(dir, process.getuid!(), process.getgid!());
        for (const run of [others, lost]) {
            ended(run, 1);
            assert.match(run.stderr, /there is no index in .*\n.*run as the owner of .*\/audit \(user 65534\)/);
        }
        const run = await audit("list", "--limit", "10000");
        ended(run, 0);
        assert.equal(run.stderr, "");
        assert.deepEqual((await list("--limit", "10000")).records, all.records);
        // One that is only behind: that of a shorter trail.
        const copied = join(folder, "behind");
        mkdirSync(copied);
        const [name] = segments(dir);
        const text = readFileSync(join(dir, name!), "utf8");
        const half = text.indexOf("\n", text.length / 2) + 1;
        writeFileSync(join(copied, name!), text.slice(0, half));
        ended(await cardea(["audit", "list", "--dir", copied]), 0);
        appendFileSync(join(copied, name!), text.slice(half));
        const late = await cardea(["audit", "list", "--json", "--limit", "10000", "--dir", copied]);
        ended(late, 0);
        assert.equal((JSON.parse(late.stdout) as Listed).lag, 0);
        assert.deepEqual((JSON.parse(late.stdout) as Listed).records, all.records);
    });

    test("without the gateway: what was done to the trail is found", async () => {
        const head = (await audit("head")).stdout.trim();
        ended(await audit("list"), 0);
        ended(await audit("reindex"), 0);
        ended(await audit("verify", "--expect", head), 0);
        const from = auditDir(gateway.dataDir);
        const doctored = (name: string): string => {
            const dir = join(folder, name);
            mkdirSync(dir);
            for (const file of [...segments(from), "public.pem"]) copyFileSync(join(from, file), join(dir, file));
            return dir;
        };
        const verify = (dir: string, ...more: string[]) => cardea(["audit", "verify", "--dir", dir, "--key", join(from, "public.pem"), ...more]);

        const changed = doctored("changed");
        const file = join(changed, segments(changed)[0]!);
        const text = readFileSync(file, "utf8");
        writeFileSync(file, text.replace("number 3", "number 4"));
        const found = await verify(changed);
        ended(found, 1);
        const n = text.slice(0, text.indexOf("number 3")).split("\n").length;
        assert.match(found.stdout, new RegExp(`^${segments(changed)[0]}:${n}: offset \\d+, record \\d+: `, "m"));
        assert.match(found.stdout, /findings: this is not the trail that was written/);
        const json = JSON.parse((await verify(changed, "--json")).stdout) as { fine: boolean; findings: { line: number }[] };
        assert.equal(json.fine, false);
        assert.equal(json.findings[0]!.line, n);

        const cut = doctored("cut");
        const end = Buffer.byteLength(text.slice(0, text.slice(0, text.lastIndexOf("number 3")).lastIndexOf("\n") + 1));
        truncateSync(join(cut, segments(cut)[0]!), end);
        ended(await verify(cut), 0);
        ended(await verify(cut, "--expect", head), 1);

        const torn = doctored("torn");
        appendFileSync(join(torn, segments(torn)[0]!), '{"seq":');
        ended(await verify(torn), 1);
        chmodSync(join(torn, "public.pem"), 0o600);
        writeFileSync(join(torn, "public.pem"), "no key\n");
        const unkeyed = await cardea(["audit", "verify", "--dir", torn]);
        ended(unkeyed, 1);
        assert.match(unkeyed.stderr, /cannot read the key .*public\.pem: /);
    });
});
