/* What commands change leaves a record in the trail of a gateway, once: also when none ran at the time. */
import assert from "node:assert/strict";
import { userInfo } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";

import { isVerified, Reader, trailOf, type Line } from "./lib/audit.ts";
import { cardea } from "./lib/cli.ts";
import { startGateway, toml } from "./lib/gateway.ts";
import { CLUSTER_KEY, PASSWORD as POSTGRES_PASSWORD, Postgres } from "./lib/postgres.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { until } from "./lib/wait.ts";

const PASSWORD = "long enough for a password 7";
const CONFIG = { servers: {}, security: {} };

async function does(dataDir: string, args: string[], input?: string): Promise<string> {
    const run = await cardea([...args, "--data-dir", dataDir], input === undefined ? {} : { input });
    assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
    return run.stdout;
}

function notesIn(dataDir: string): number {
    const store = new DatabaseSync(join(dataDir, "store.sqlite"), { readOnly: true });
    try {
        return Number(store.prepare("SELECT COUNT(*) AS n FROM admin_notes").get()!.n);
    } finally {
        store.close();
    }
}

const isOf = (operation: string) => (line: Line) => line.method === "command" && line.operation === operation;

describe("a command that changes something is recorded", () => {
    test("while a gateway runs, each with who, what and why, and no value", async (t) => {
        const gateway = await startGateway({ config: CONFIG }, t);
        const { dataDir } = gateway, trail = trailOf(gateway);
        const secret = "the-value-of-a-secret-77";
        const steps: { args: string[]; input?: string; event: string; operation: string; object: RegExp; reason?: string }[] = [
            { args: ["role", "add", "readers", "--permission", "status.read"], event: "admin-role", operation: "role add", object: /^readers$/ },
            { args: ["role", "edit", "readers", "--description", "x"], event: "admin-role", operation: "role edit", object: /^readers$/ },
            { args: ["user", "add", "ann", "--role", "readers"], input: PASSWORD, event: "admin-user", operation: "user add", object: /^ann$/ },
            { args: ["user", "edit", "ann", "--email", "ann@example.com"], event: "admin-user", operation: "user edit", object: /^ann$/ },
            { args: ["user", "password", "ann"], input: `${PASSWORD} 2`, event: "admin-user", operation: "user password", object: /^ann$/ },
            { args: ["user", "disable", "ann"], event: "admin-user", operation: "user disable", object: /^ann$/ },
            { args: ["user", "enable", "ann"], event: "admin-user", operation: "user enable", object: /^ann$/ },
            { args: ["token", "add", "ann", "laptop"], event: "admin-token", operation: "token add", object: /^ann\/[\w-]{22}$/ },
            { args: ["session", "end", "--user", "ann"], event: "admin-session", operation: "session end", object: /^ann$/ },
            { args: ["secret", "set", "KEY"], input: secret, event: "admin-secret", operation: "secret set", object: /^KEY$/ },
            { args: ["key", "rotate"], event: "admin-key", operation: "key rotate", object: /^undefined$/ },
            { args: ["secret", "delete", "KEY"], event: "admin-secret", operation: "secret delete", object: /^KEY$/ },
            { args: ["edit", "on", "--role", "readers", "--reason", "to mend it"], event: "admin-edit", operation: "edit", object: /^on role readers$/, reason: "to mend it" },
            { args: ["user", "delete", "ann"], event: "admin-user", operation: "user delete", object: /^ann$/ },
        ];
        let token = "";
        for (const { args, input, event, operation, object, reason } of steps) {
            const said = await does(dataDir, args, input);
            if (operation === "token add") token = said.trim();
            const line = await trail.find(isOf(`cardea ${operation}`), `the record of ${operation}`);
            assert.equal(line.event, event);
            assert.match(String(line.object), object);
            assert.equal(line.user, `command:${userInfo().username}`);
            assert.equal(line.authentication, "command");
            assert.deepEqual([line.decision, line.status, line.reason], ["allowed", "ok", reason]);
            assert.ok(Math.abs(Date.parse(String(line.at)) - Date.parse(line.time)) < 60_000, JSON.stringify(line));
        }
        const off = await cardea(["edit", "off", "--reason", "it is mended", "--data-dir", dataDir]);
        assert.equal(off.code, 0, off.stderr);
        const closed = await trail.find((line) => isOf("cardea edit")(line) && line.object === "off", "the record of edit off");
        assert.equal(closed.reason, "it is mended");
        const text = JSON.stringify(trail.lines);
        for (const value of [PASSWORD, secret, token]) assert.ok(!text.includes(value), "no value is recorded");
        const records = trail.lines.filter((line) => line.method === "command");
        assert.equal(records.length, steps.length + 1, "each is recorded once");
        const listed = await cardea(["audit", "list", "--event", "admin-role", "--data-dir", dataDir]);
        assert.match(listed.stdout, /command:/);
        await isVerified(dataDir);
    });

    test("what fails, and what only looks, is not", async (t) => {
        const gateway = await startGateway({ config: CONFIG }, t);
        for (const args of [["user", "delete", "nobody"], ["role", "delete", "viewer"], ["edit", "on", "--role", "none", "--reason", "a"]])
            assert.equal((await cardea([...args, "--data-dir", gateway.dataDir])).code, 1);
        for (const args of [["user", "list"], ["role", "list"], ["edit"], ["token", "list"]]) await does(gateway.dataDir, args);
        await does(gateway.dataDir, ["role", "add", "last"]);
        await trailOf(gateway).find(isOf("cardea role add"), "the record of the last one");
        assert.equal(trailOf(gateway).lines.filter((line) => line.method === "command").length, 1);
    });

    for (const mode of ["best_effort", "required"]) {
        test(`while none runs, by the next one that starts; ${mode}`, async (t) => {
            const dataDir = join(temporaryFolder(), "data");
            await does(dataDir, ["user", "add", "ann", "--admin"], PASSWORD);
            await does(dataDir, ["role", "add", "readers"]);
            const gateway = await startGateway({ config: { ...CONFIG, audit: { mode } }, dataDir }, t);
            const trail = trailOf(gateway);
            await trail.find(isOf("cardea role add"), "the record of the later one");
            const objects = () => trail.lines.filter((line) => line.method === "command").map((line) => line.object);
            assert.deepEqual(objects(), ["ann", "readers"]);
            await does(dataDir, ["role", "add", "others"]);
            await trail.find((line) => line.object === "others", "one of a command while it runs");
            assert.deepEqual(objects(), ["ann", "readers", "others"]);
        });
    }

    test("where nothing is recorded, notes do not pile up", async (t) => {
        const dataDir = join(temporaryFolder(), "data");
        const gateway = await startGateway({ config: { ...CONFIG, audit: { enabled: false } }, dataDir }, t);
        await does(dataDir, ["role", "add", "readers"]);
        await until(() => notesIn(dataDir) === 0, "the note is put away");
        await gateway.stop();
        const again = await startGateway({ config: CONFIG, dataDir }, t);
        await does(dataDir, ["role", "add", "others"]);
        await trailOf(again).find((line) => line.object === "others", "the record of the second one");
        assert.deepEqual(trailOf(again).lines.filter((line) => line.method === "command").map((line) => line.object), ["others"]);
    });

    test("of two instances by one of them", async (t) => {
        const postgres = await Postgres.start(t);
        postgres.ask("postgres", "CREATE DATABASE cardea");
        const env = {
            ...process.env,
            PGPASSWORD: POSTGRES_PASSWORD,
            STORE_URL: postgres.urlWithPassword("cardea"),
            CARDEA_ENCRYPTION_KEY: CLUSTER_KEY,
        };
        const config = `${toml(CONFIG)}[store]\nurl = "{{ env.STORE_URL }}"\n`;
        const gateways = [await startGateway({ config, env }, t), await startGateway({ config, env }, t)];
        const run = async (name: string) => {
            const [first] = gateways as [typeof gateways[0]];
            const done = await cardea(["role", "add", name, "-c", join(first!.folder, "cardea.toml"), "--data-dir", first!.dataDir], { env });
            assert.equal(done.code, 0, done.stderr);
        };
        const trails = gateways.map(({ dataDir }) => new Reader(dataDir));
        const found = () => trails.flatMap((trail) => trail.lines).filter((line) => line.method === "command").map((line) => line.object);
        const names = ["a", "b", "c", "d", "e"];
        for (const name of names) await run(name);
        await Promise.race(trails.map((trail) => trail.find((line) => line.object === "e", "the record of the last one").catch(() => new Promise(() => {}))));
        assert.deepEqual(found().sort(), names);
    });
});
