/*
 * The audit index of two gateways on one PostgreSQL: records of both are found from either; nothing is missing or there
 * twice when records arrive, when PostgreSQL was away, or when a gateway was killed while it filled.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Admin } from "./lib/admin.ts";
import { isVerified, Reader, type Line } from "./lib/audit.ts";
import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { ModernClient } from "./lib/modern.ts";
import { CLUSTER_KEY, Postgres, PASSWORD } from "./lib/postgres.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until } from "./lib/wait.ts";

interface Hit {
    record: Line;
    outcome?: Line;
    log: string;
}
interface Listed {
    records: Hit[];
    next: string | null;
    lag: number;
}

const keyOf = (log: string, seq: number): string => `${log}:${seq}`;
const keysOf = (hits: Hit[]): string[] => hits.map(({ record, log }) => keyOf(log, record.seq));

/** What the index has of a trail: its log, and the records that are no part of others. */
function recordsOf(dataDir: string): { log: string; records: Line[] } {
    const { lines } = new Reader(dataDir);
    const log = String(lines[0]!.log);
    const intents = new Set(lines.filter(({ event }) => event === "intent").map(({ id }) => id));
    const records = lines.filter(({ event, id }) => !["segment", "checkpoint"].includes(event) && !(event === "outcome" && intents.has(id)));
    return { log, records };
}

describe("the audit index of two instances on one PostgreSQL", () => {
    let control: Control;
    let postgres: Postgres;
    let text: string;
    let admin: Admin;
    const gateways: Gateway[] = [];
    const stop: (() => unknown)[] = [];
    const env = { ...process.env, CARDEA_ENCRYPTION_KEY: CLUSTER_KEY, CARDEA_TEST_STORE: "" };
    before(async () => {
        control = await startControl();
        // The server belongs to this suite, whose end comes after its tests'.
        postgres = await Postgres.start({ after: (fn: () => unknown) => void stop.push(fn) } as never);
        env.CARDEA_TEST_STORE = postgres.urlWithPassword("postgres");
        const schema = { type: "object" } as const;
        const tools = [{ name: "look", inputSchema: schema, annotations: { readOnlyHint: true } }, { name: "change", inputSchema: schema }];
        const cmd = control.command({ name: "shared", tools });
        text = `[server]\nworkers = 2\n[store]\nurl = "{{ env.CARDEA_TEST_STORE }}"\n[mcp.servers.it]\ncmd = ${JSON.stringify(cmd)}\nshare = "all"\n[mcp.servers.it.tools]\nlook.access = "read"\n`;
        for (const i of [0, 1]) {
            const config = i === 0 ? text : `${text}[audit]\nmode = "required"\n`;
            gateways.push(await startGateway({ config, env, admin: i === 0 }));
        }
        for (const gateway of gateways) await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
        const listening = await gateways[0]!.waitForLog((item) => item.message === "the console's API listens");
        admin = new Admin(gateways[0]!, String(listening.address));
        const added = await command(gateways[0]!, ["user", "add", "ann", "--no-password", "--role", "administrator"]);
        assert.equal(added.code, 0, added.stderr);
    });
    after(async () => {
        admin.close();
        for (const gateway of gateways) await gateway.stop();
        for (const fn of stop) await fn();
        await control.close();
    });

    const command = async (gateway: Gateway, args: string[]): Promise<Run> =>
        cardea([...args, "-c", join(gateway.folder, "cardea.toml"), "--data-dir", gateway.dataDir], { env });
    const list = async (gateway: Gateway, ...args: string[]): Promise<Listed> => {
        const run = await command(gateway, ["audit", "list", "--json", "--limit", "10000", ...args]);
        assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
        return JSON.parse(run.stdout) as Listed;
    };
    const call = async (gateway: Gateway, tool: string, mark: string): Promise<number> =>
        (await new ModernClient(gateway).ask("tools/call", { name: `it__${tool}`, arguments: { mark } })).status;
    /** Until all that the trails have is in the index: the keys of all of it. */
    const caughtUp = async (from: Gateway, dataDirs: string[]): Promise<Map<string, Line>> => {
        let missing: string[] = [];
        return until(
            async () => {
                const wanted = new Map<string, Line>();
                for (const { log, records } of dataDirs.map(recordsOf)) for (const record of records) wanted.set(keyOf(log, record.seq), record);
                const found = keysOf((await list(from)).records);
                assert.equal(new Set(found).size, found.length, "none is there twice");
                missing = [...wanted.keys()].filter((key) => !found.includes(key));
                return missing.length === 0 ? wanted : undefined;
            },
            () => `all records are found; missing: ${missing.slice(0, 10).join(" ")}`,
        );
    };

    test("records of both are found from either, by every filter and in the order of time", async () => {
        for (let i = 0; i < 12; i++)
            for (const [at, gateway] of gateways.entries()) {
                assert.equal(await call(gateway, "look", `mark-${at}-${i}`), 200);
                if (i % 4 === 0) await call(gateway, "change", `locked-${at}`);
            }
        const all = await caughtUp(gateways[0]!, gateways.map(({ dataDir }) => dataDir));
        const [some] = (await list(gateways[0]!, "--text", "mark-1-3")).records;
        const middle = some!.record.time;
        const cases: [string[], (hit: Hit) => boolean][] = [
            [[], () => true],
            [["--operation", "it__look"], ({ record }) => record.operation === "it__look"],
            [["--upstream", "it"], ({ record }) => record.upstream === "it"],
            [["--user", String(some!.record.user)], ({ record }) => record.user === some!.record.user],
            [["--status", "ok"], ({ record, outcome }) => (outcome ?? record).status === "ok"],
            [["--decision", "denied"], ({ record }) => record.decision === "denied"],
            [["--event", "start"], ({ record }) => record.event === "start"],
            [["--event", "intent", "--status", "ok"], ({ record, outcome }) => record.event === "intent" && outcome?.status === "ok"],
            [["--address", "127.0.0.0/9"], ({ record }) => String(record.address).startsWith("127.0.0.")],
            [["--address", "127.0.0.1", "--operation", "it__look"], ({ record }) => record.address === "127.0.0.1" && record.operation === "it__look"],
            [["--address", "10.0.0.0/8"], () => false],
            [["--since", middle], ({ record }) => record.time >= middle],
            [["--until", middle, "--upstream", "it"], ({ record }) => record.time < middle && record.upstream === "it"],
            [["--text", "MARK-1-", "--since", "1h"], ({ record }) => JSON.stringify(record).includes("mark-1-")],
        ];
        const everything = (await list(gateways[0]!)).records;
        const logs = gateways.map(({ dataDir }) => recordsOf(dataDir).log);
        for (const [filters, holds] of cases) {
            const wanted = keysOf(everything.filter(holds));
            if (filters.length > 0 && !filters.includes("10.0.0.0/8")) assert.ok(wanted.length > 0, filters.join(" "));
            for (const gateway of gateways) {
                const found = (await list(gateway, ...filters)).records;
                assert.deepEqual(keysOf(found).filter((key) => wanted.includes(key)), wanted, filters.join(" "));
                for (const hit of found) assert.ok(holds(hit), `${filters.join(" ")} gave ${JSON.stringify(hit.record)}`);
            }
        }
        assert.deepEqual(new Set(everything.map(({ log }) => log)), new Set(logs));
        const times = everything.map(({ record }) => record.time);
        assert.deepEqual(times, times.toSorted().reverse());
        for (const { log, record } of everything) if (all.has(keyOf(log, record.seq))) assert.deepEqual(record, all.get(keyOf(log, record.seq)));
        for (const gateway of gateways) {
            const backwards = keysOf((await list(gateway, "--oldest-first", "--upstream", "it")).records);
            assert.deepEqual(backwards.toReversed(), keysOf((await list(gateway, "--upstream", "it")).records));
        }
    });

    test("pages stay as they are while records arrive", async () => {
        for (const filter of [["--upstream", "it"], []]) {
            const before = keysOf((await list(gateways[0]!, ...filter)).records);
            const seen: string[] = [];
            let cursor: string | null = null;
            let pages = 0;
            do {
                const more: string[] = cursor === null ? [] : ["--cursor", cursor];
                const page: Listed = await list(gateways[pages % 2]!, "--limit", "7", ...filter, ...more);
                seen.push(...keysOf(page.records));
                cursor = page.next;
                pages++;
                for (const gateway of gateways) await call(gateway, "look", "meanwhile");
            } while (cursor !== null);
            assert.ok(pages > 3, `${pages} pages`);
            assert.deepEqual(seen.filter((key) => before.includes(key)), before);
            assert.equal(new Set(seen).size, seen.length);
        }
        const wrong = await command(gateways[0]!, ["audit", "list", "--cursor", "7"]);
        assert.equal(wrong.code, 2);
        assert.match(wrong.stderr, /--cursor takes/);
    });

    test("exports say whose records they are; all of it is this instance's trail as it is", async () => {
        const filtered = await command(gateways[0]!, ["audit", "export", "--format", "jsonl", "--upstream", "it"]);
        const rows = filtered.stdout.trim().split("\n").map((line) => JSON.parse(line) as Line);
        assert.equal((rows[0] as unknown as { export: { complete: boolean } }).export.complete, false);
        const logs = gateways.map(({ dataDir }) => recordsOf(dataDir).log);
        assert.deepEqual(new Set(rows.slice(1).map(({ log }) => log)), new Set(logs));
        const csv = await command(gateways[1]!, ["audit", "export", "--format", "csv", "--upstream", "it"]);
        // One log in 64 begins with what a spreadsheet takes for a formula.
        for (const log of logs) assert.ok(csv.stdout.includes(log.startsWith("-") ? `"'${log}"` : `"${log}"`), log);
        const whole = await command(gateways[0]!, ["audit", "export", "--format", "jsonl"]);
        const texts = whole.stdout.trim().split("\n");
        const reader = new Reader(gateways[0]!.dataDir);
        reader.more();
        assert.deepEqual(texts, reader.all.slice(0, texts.length).map((placed) => placed.text));
    });

    test("while PostgreSQL is gone looking says so, calls go on, and nothing is missing afterwards", async () => {
        const token = join(gateways[0]!.folder, "ann.token");
        const made = await command(gateways[0]!, ["token", "add", "ann", "test", "--out", token]);
        assert.equal(made.code, 0, made.stderr);
        const bearer = readFileSync(token, "utf8").trim();
        const look = async () => admin.withToken(bearer, "GET", "/api/v1/audit?upstream=it&limit=5");
        const found = await until(async () => {
            const answer = await look();
            return answer.status === 200 ? answer : undefined;
        }, "the API finds records");
        assert.deepEqual(new Set(found.json.items.map(({ log }: Hit) => log).filter((log: string) => log.length === 22)).size > 0, true);
        await postgres.stop();
        for (let i = 0; i < 20; i++) for (const gateway of gateways) assert.equal(await call(gateway, "look", `gone-${i}`), 200);
        const refused = await look();
        assert.equal(refused.status, 503, refused.text);
        const run = await command(gateways[0]!, ["audit", "list"]);
        assert.equal(run.code, 1);
        assert.match(run.stderr, /the index in PostgreSQL cannot be used: PostgreSQL does not answer/);
        for (const said of [run.stderr, refused.text]) assert.ok(!said.includes(PASSWORD) && !said.includes(encodeURIComponent(PASSWORD)), said);
        await Promise.all(gateways.map((gateway) => gateway.waitForLog((entry) => entry.message === "the index is not filled; it is tried again")));
        await postgres.run();
        await caughtUp(gateways[1]!, gateways.map(({ dataDir }) => dataDir));
        await until(async () => (await look()).status === 200, "the API finds records again");
        for (const gateway of gateways) assert.ok(!gateway.tail(1e6).includes(encodeURIComponent(PASSWORD)), "no password in the log");
    });

    test("killed while it fills, again and again: nothing is missing and none is there twice; then it is forgotten", async () => {
        const folder = temporaryFolder();
        const dataDir = join(folder, "data");
        let gateway = await startGateway({ config: text, env, dataDir });
        for (let i = 0; i < 4; i++) {
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
            const calls = Array.from({ length: 60 }, (_, n) => call(gateway, "look", `killed-${i}-${n}`).catch(() => 0));
            await Promise.all(calls.slice(0, 10 + 12 * i));
            await gateway.kill();
            await Promise.all(calls);
            await gateway.stop();
            // Where no gateway does, the command brings the index up to date.
            if (i % 2 !== 0) assert.equal((await list({ folder: gateways[0]!.folder, dataDir } as Gateway)).lag, 0);
            gateway = await startGateway({ config: text, env, dataDir });
        }
        await caughtUp(gateways[0]!, [dataDir, ...gateways.map((other) => other.dataDir)]);
        await isVerified(dataDir);
        const { log } = recordsOf(dataDir);
        await gateway.stop();
        const unknown = await command(gateways[0]!, ["audit", "reindex", "--forget", "nobody"]);
        assert.equal(unknown.code, 1);
        assert.match(unknown.stderr, /no such log/);
        const forgotten = await command(gateways[0]!, ["audit", "reindex", "--forget", log]);
        assert.equal(forgotten.code, 0, forgotten.stderr);
        assert.ok((await list(gateways[1]!)).records.every((hit) => hit.log !== log));
        await caughtUp(gateways[0]!, gateways.map((other) => other.dataDir));
        removeFolder(folder);
    });
});
