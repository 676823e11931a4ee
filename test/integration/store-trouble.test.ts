/*
 * The store is gone, stands still, is full, read-only, moved away, replaced or newer, while a gateway serves: what needs
 * no store goes on, what could let more through is closed, people are told what to do, the log says it once each way,
 * and all of it comes back by itself. What the databases themselves do is in test/unit/store.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test, type TestContext } from "node:test";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { Admin, PASSWORD, type Answer, type Browser } from "./lib/admin.ts";
import { cardea } from "./lib/cli.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { Postgres } from "./lib/postgres.ts";
import { Disk, ENOSPC, EROFS } from "./lib/power.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const KEY = `${Buffer.from("0123456789abcdef of the cluster!").toString("base64url")}=`;
const JSON_TYPE = { "content-type": "application/json" };

let fixture: HttpFixture;
let postgres: Postgres;
const ends: (() => unknown)[] = [];
const suite = { after: (fn: () => unknown) => void ends.unshift(fn) } as unknown as TestContext;
before(async () => {
    fixture = await startHttp({}, suite);
    postgres = await Postgres.start(suite);
});
after(async () => {
    for (const end of ends) await end();
});

/** A gateway with an administrator, root, and a user who calls, ann. */
class World {
    readonly gateway: Gateway;
    readonly admin: Admin;
    readonly client: ModernClient;
    readonly #command: (...args: string[]) => Promise<string>;

    private constructor(gateway: Gateway, admin: Admin, token: string, command: (...args: string[]) => Promise<string>) {
        this.gateway = gateway;
        this.admin = admin;
        this.client = new ModernClient({ port: gateway.port, token });
        this.#command = command;
    }

    static async start(t: TestContext, options: { url?: string; dataDir?: string; env?: NodeJS.ProcessEnv } = {}): Promise<World> {
        const folder = temporaryFolder();
        const dataDir = options.dataDir ?? join(folder, "data");
        mkdirSync(dataDir, { recursive: true, mode: 0o700 });
        // Those on one PostgreSQL have the same key.
        const shared = options.url === undefined ? {} : { STORE_URL: options.url, CARDEA_ENCRYPTION_KEY: KEY };
        const env = { ...process.env, ...shared };
        const store = options.url === undefined ? "" : '[store]\nurl = "{{ env.STORE_URL }}"\n';
        // The trail is not what this is about: it has tests of its own, and would need the same disk.
        const config = `[server]\nworkers = 2\n[audit]\nenabled = false\n${store}[mcp.servers.it]\nurl = "${fixture.url}"\ntools.echo.access = "read"\n`;
        const file = join(folder, "cardea.toml");
        writeFileSync(file, config);
        const command = async (...args: string[]): Promise<string> => {
            const run = await cardea([...args, "-c", file, "--data-dir", dataDir], { env, ...(args[1] === "add" && args[0] === "user" ? { input: `${PASSWORD}\n` } : {}) });
            assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
            return run.stdout;
        };
        if (!(await command("user", "list", "--json")).includes('"root"')) {
            await command("user", "add", "root", "--admin");
            await command("user", "add", "ann", "--no-password", "--role", "operator");
        }
        const place = join(folder, "token");
        await command("token", "add", "ann", "test", "--out", place);
        // The store holds CSRF tokens; PostgreSQL is a peer that the canary does not know.
        const watched = options.url === undefined ? {} : { canary: false as const };
        const gateway = await startGateway({ config, admin: true, dataDir, audit: false, env: { ...env, ...options.env }, ...watched }, t);
        t.after(() => removeFolder(folder));
        const entry = await gateway.waitForLog((item) => item.message === "the console's API listens");
        const world = new World(gateway, new Admin(gateway, String(entry.address)), readFileSync(place, "utf8").trim(), command);
        t.after(() => world.admin.close());
        await until(async () => (await world.call("echo")) === "done", "it serves");
        return world;
    }

    command(...args: string[]): Promise<string> {
        return this.#command(...args);
    }

    /** "done", or why not. */
    async call(tool: string): Promise<string> {
        const answer = await this.client.ask("tools/call", { name: `it__${tool}`, arguments: { text: "x" } });
        const message = answer.messages.at(-1);
        if (answer.status !== 200 || message === undefined) return String(answer.status);
        return message.error?.message ?? (message.result!.isError === true ? text(message) : "done");
    }

    login(): Promise<Answer> {
        return this.admin.ask("POST", "/api/v1/login", JSON_TYPE, JSON.stringify({ name: "root", password: PASSWORD }));
    }

    said(message: RegExp): number {
        return this.gateway.log.items.filter((entry) => message.test(entry.message ?? "")).length;
    }
}

/** Calls of one who reads, one after the other, as long as it lasts. */
class Readers {
    done = 0;
    readonly failures: string[] = [];
    #isOver = false;
    readonly #all: Promise<unknown>;
    constructor(world: World) {
        const reader = async (): Promise<void> => {
            while (!this.#isOver) {
                const said = await world.call("echo");
                if (said === "done") this.done++;
                else this.failures.push(said);
            }
        };
        this.#all = Promise.all([1, 2, 3, 4].map(reader));
    }
    async end(): Promise<void> {
        this.#isOver = true;
        await within(this.#all, "the readers have ended");
        assert.deepEqual(this.failures, [], "calls go on all the time");
        assert.ok(this.done > 50, `there were calls: ${this.done}`);
    }
}

/** What nobody gets while the store is not what it should be: with a sentence and a cure, without the machine's inside. */
function isExplained(answer: Answer, statuses = [503]): void {
    assert.ok(statuses.includes(answer.status), `${answer.status} ${answer.text}`);
    const { title, detail, cure } = answer.json as { title?: string; detail?: string; cure?: string };
    const words = `${title} ${detail} ${cure}`;
    assert.match(words, /store/, answer.text);
    assert.ok(typeof cure === "string" && cure.length > 5, answer.text);
    assert.doesNotMatch(answer.text, /sqlite|tester|127\.0\.0\.1|\/tmp|errno/i);
}

interface Trouble {
    name: string;
    /** nobody hears the store; else it can be read and not written */
    isSilent: boolean;
    statuses?: number[];
    world(t: TestContext): Promise<{ world: World; begin(): unknown; end(): unknown }>;
}

let nDatabases = 0;
const onPostgres = async (t: TestContext): Promise<World> => {
    const name = `trouble${++nDatabases}`;
    postgres.ask("postgres", `CREATE DATABASE ${name}`);
    return World.start(t, { url: postgres.urlWithPassword(name) });
};
const onDisk = async (t: TestContext): Promise<{ world: World; disk: Disk }> => {
    const folder = temporaryFolder(), dataDir = join(folder, "data");
    const disk = new Disk(dataDir, join(folder, "disk"));
    t.after(() => removeFolder(folder));
    return { world: await World.start(t, { dataDir, env: disk.env() }), disk };
};

const TROUBLES: Trouble[] = [
    {
        name: "PostgreSQL is gone",
        isSilent: true,
        world: async (t) => ({ world: await onPostgres(t), begin: () => postgres.stop(), end: () => postgres.run() }),
    },
    {
        name: "PostgreSQL stands still",
        isSilent: true,
        world: async (t) => ({ world: await onPostgres(t), begin: () => postgres.pause(), end: () => postgres.goOn() }),
    },
    {
        name: "SQLite's disk is full",
        isSilent: false,
        statuses: [507],
        world: async (t) => {
            const { world, disk } = await onDisk(t);
            return { world, begin: () => disk.set({ write_errno: ENOSPC, open_errno: ENOSPC }), end: () => disk.mend() };
        },
    },
    {
        name: "SQLite's file system is read-only",
        isSilent: false,
        world: async (t) => {
            const { world, disk } = await onDisk(t);
            return { world, begin: () => disk.set({ write_errno: EROFS, open_errno: EROFS }), end: () => disk.mend() };
        },
    },
    {
        name: "SQLite's file is moved away",
        isSilent: true,
        world: async (t) => {
            const world = await World.start(t);
            const file = join(world.gateway.dataDir, "store.sqlite");
            const move = (from: string, to: string) => {
                for (const end of ["", "-wal", "-shm"]) renameSync(`${file}${from}${end}`, `${file}${to}${end}`);
            };
            return { world, begin: () => move("", ".away"), end: () => move(".away", "") };
        },
    },
];

describe("the store is in trouble under load", () => {
    for (const trouble of TROUBLES) {
        test(trouble.name, async (t) => {
            const { world, begin, end } = await trouble.world(t);
            let isOver = false;
            t.after(() => (isOver ? undefined : end()));
            const root: Browser = await world.admin.login("root");
            await world.command("edit", "on", "--reason", "test");
            await until(async () => (await world.call("count")) === "done", "edit mode is open");
            const readers = new Readers(world);

            await begin();
            const from = performance.now();
            if (trouble.isSilent) {
                await until(async () => (await world.call("count")) !== "done", "edit mode counts as off");
                const took = performance.now() - from;
                assert.ok(took < 4000, `after ${Math.round(took)} ms`);
                assert.match(await world.call("count"), /edit mode is off/);
            }
            isExplained(await world.login(), trouble.statuses);
            isExplained(await root.ask("POST", "/api/v1/users", { body: { name: "eve", roles: ["administrator"] } }), trouble.statuses);
            isExplained(await root.ask("POST", "/api/v1/edit", { body: { scope: "all", minutes: 5, reason: "test" } }), trouble.statuses);
            assert.match(await world.call("count"), /edit mode is off/, "which nobody could close");

            await end();
            isOver = true;
            await until(async () => (await world.call("count")) === "done", "it is open again, by itself");
            await until(async () => (await world.login()).status === 200, "people log in again");
            // Another connection to the store than theirs may have to be made anew first.
            const added = await until(async () => {
                const answer = await root.ask("POST", "/api/v1/users", { body: { name: "eve", roles: ["viewer"] } });
                return answer.status !== 503 && answer;
            }, "the store takes a user");
            assert.equal(added.status, 201, `nothing was half done: ${added.text}`);
            await world.command("edit", "off");
            await until(async () => /edit mode is off/.test(await world.call("count")), "and it closes");
            await readers.end();
            const [began, ended] = trouble.isSilent
                ? [/^the store does not answer$/, /^the store answers again$/]
                : [/^the store cannot be written: /, /^the store can be written again$/];
            assert.deepEqual([world.said(began), world.said(ended)], [1, 1], "said once each way");
        });
    }

    test("PostgreSQL restarts again and again", async (t) => {
        const world = await onPostgres(t);
        const root = await world.admin.login("root");
        await world.command("edit", "on", "--reason", "test");
        const readers = new Readers(world);
        for (let i = 0; i < 4; i++) {
            await postgres.stop();
            await postgres.run();
            await until(async () => (await world.call("count")) === "done", "edit mode is heard of again");
            await until(async () => (await root.ask("POST", "/api/v1/users", { body: { name: `eve${i}`, roles: [] } })).status === 201, "a user is added");
        }
        await world.command("user", "disable", "ann");
        await readers.end().catch(() => undefined);
        assert.equal(await world.call("echo"), "401");
        assert.ok(readers.failures.every((said) => said === "401"), readers.failures.filter((said) => said !== "401").join("; "));
    });

    test("a disk that is really full", { skip: process.getuid!() !== 0 && "only root mounts a file system" }, async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        mkdirSync(dataDir);
        try {
            execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", dataDir], { stdio: "pipe" });
        } catch {
            return t.skip("file systems cannot be mounted here");
        }
        t.after(() => {
            execFileSync("umount", ["-l", dataDir]);
            removeFolder(folder);
        });
        const world = await World.start(t, { dataDir });
        const root = await world.admin.login("root");
        const ballast = join(dataDir, "ballast");
        assert.throws(() => writeFileSync(ballast, Buffer.alloc(8 << 20)), /ENOSPC/);
        const readers = new Readers(world);
        let n = 0;
        const add = () => root.ask("POST", "/api/v1/users", { body: { name: `eve${++n}`, display_name: "x".repeat(60), roles: [] } });
        let answer: Answer;
        do answer = await add();
        while (answer.status === 201 && n < 500); // what room its log has left
        isExplained(answer, [507]);
        isExplained(await world.login(), [507]);
        rmSync(ballast);
        await until(async () => (await add()).status === 201, "it works again");
        assert.equal((await world.login()).status, 200);
        await readers.end();
    });

    test("a file that is put in the place of the store is what counts from then on", async (t) => {
        const world = await World.start(t);
        const file = join(world.gateway.dataDir, "store.sqlite"), backup = join(world.gateway.dataDir, "before");
        await world.command("store", "backup", backup);
        await world.command("user", "add", "late", "--no-password", "--role", "viewer");
        await world.command("edit", "on", "--reason", "test");
        await until(async () => (await world.call("count")) === "done", "edit mode is open");
        // As people do: over it with the copy of yesterday. In that one the user of the calls is switched off.
        const db = new DatabaseSync(backup);
        db.exec("UPDATE users SET is_disabled = 1 WHERE name = 'ann'");
        db.close();
        copyFileSync(backup, `${file}.new`);
        renameSync(`${file}.new`, file);
        for (const end of ["-wal", "-shm"]) rmSync(`${file}${end}`);
        await until(async () => (await world.call("echo")) === "401", "who is not let in by it is refused");
        const users = await world.command("user", "list");
        assert.match(users, /ann/);
        assert.doesNotMatch(users, /late/);
        assert.equal((await world.login()).status, 200);
    });

    test("of two instances the one that is older stops using the store, says so, and serves what needs none", async (t) => {
        const name = `trouble${++nDatabases}`;
        postgres.ask("postgres", `CREATE DATABASE ${name}`);
        const url = postgres.urlWithPassword(name);
        const worlds = [await World.start(t, { url }), await World.start(t, { url })];
        const bump = (by: string) => postgres.ask(name, `UPDATE cardea.store_version SET version = version ${by}`);
        await worlds[0]!.command("edit", "on", "--reason", "test");
        for (const world of worlds) await until(async () => (await world.call("count")) === "done", "edit mode is open");
        const readers = worlds.map((world) => new Readers(world));
        bump("+ 1");
        for (const world of worlds) {
            await until(async () => /edit mode is off/.test(await world.call("count")), "edit mode counts as off");
            const login = await world.login();
            assert.equal(login.status, 503, login.text);
            assert.match(login.text, /newer/);
            assert.match(String(login.json.cure), /version/);
            assert.equal(world.said(/^a newer Cardea has changed the schema/), 1);
        }
        for (const each of readers) await each.end();
        bump("- 1");
        for (const world of worlds) {
            await until(async () => (await world.call("count")) === "done", "it is what it was");
            assert.equal((await world.login()).status, 200);
        }
    });
});
