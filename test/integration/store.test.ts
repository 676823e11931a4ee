/*
 * The store from outside: backups while others write, moves from SQLite to PostgreSQL, and what is said when it cannot
 * be used. What the databases themselves do (restarts, hung servers, kill -9) is in test/unit/store.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test, type TestContext } from "node:test";

import { cardea, type Run } from "./lib/cli.ts";
import { binary } from "./lib/gateway.ts";
import { PASSWORD, Postgres } from "./lib/postgres.ts";
import { Disk, ENOSPC, EROFS } from "./lib/power.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

/** A folder with a data directory in it, and a configuration that names a store where one is wanted. */
class Place {
    readonly folder = temporaryFolder();
    readonly data = join(this.folder, "data");
    readonly args: string[];
    env: NodeJS.ProcessEnv = process.env;

    constructor(t: TestContext, url?: string) {
        t.after(() => removeFolder(this.folder));
        const config = join(this.folder, "cardea.toml");
        writeFileSync(config, url === undefined ? "" : '[store]\nurl = "{{ env.STORE_URL }}"\n');
        if (url !== undefined) this.env = { ...process.env, STORE_URL: url };
        this.args = ["-c", config, "--data-dir", this.data];
    }

    get store(): string {
        return join(this.data, "store.sqlite");
    }

    run(args: string[], env: NodeJS.ProcessEnv = this.env): Promise<Run> {
        return cardea([...args, ...this.args], { env, cwd: this.folder });
    }

    async fine(args: string[], env = this.env): Promise<string> {
        const run = await this.run(args, env);
        assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
        return run.stdout;
    }

    /** What it says when it does not do it. */
    async refused(args: string[], env = this.env): Promise<string> {
        const run = await this.run(args, env);
        assert.equal(run.code, 1, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
        assert.equal(run.stdout, "");
        return run.stderr;
    }

    setSecret(name: string, value: string): Promise<number | null> {
        const child = spawn(binary(), ["secret", "set", name, ...this.args], {
            env: this.env,
            stdio: ["pipe", "ignore", "ignore"],
        });
        child.stdin.on("error", () => {}); // it may have ended before it read
        child.stdin.end(value);
        return within(new Promise((resolve) => child.once("close", resolve)), `secret set ${name} ends`);
    }
}

/** Every row of every table, by the schema that the file itself has. */
function rowsOf(path: string): { [table: string]: string[] } {
    const db = new DatabaseSync(path, { readOnly: true });
    const names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all();
    const rows: { [table: string]: string[] } = {};
    for (const { name } of names as { name: string }[]) {
        if (name === "changes") continue; // of the store, not of what is in it
        const statement = db.prepare(`SELECT * FROM "${name}"`);
        statement.setReadBigInts(true);
        rows[name] = statement.all().map((row) => JSON.stringify(row, (_, value) => (typeof value === "bigint" ? `${value}n` : value)));
        rows[name].sort();
    }
    db.close();
    return rows;
}

/** Rows in all tables, by hand: there are more kinds of them than there are commands. */
function fill(path: string): void {
    const db = new DatabaseSync(path);
    db.exec(`
        INSERT INTO users VALUES ('u1', 'Änn', 'änn', 'A "quoted" ''name''', 'a@b', '$argon2id$x', 0, 1, 9223372036854775807, 1, 2, 3);
        INSERT INTO roles VALUES ('r1', 'Night', 'night', 'line' || char(10) || 'line \u{1f511}', 0, '{"operations":[]}', 1, 2, 3);
        INSERT INTO role_groups VALUES ('r1', 'ops');
        INSERT INTO user_roles VALUES ('u1', 'r1'), ('u1', 'administrator000000000');
        INSERT INTO tokens VALUES ('t1', 'u1', 'ci', 'abcdefgh', 'digest', '', 1, 0, 0);
        INSERT INTO sessions VALUES ('s1', 'u1', 'd', '::1', 'agent', 1, 2, 3, 4);
        INSERT INTO login_failures VALUES ('k', 5, 6);
        INSERT INTO setup VALUES (1, 'd', 7);
        INSERT INTO edit_windows VALUES ('e1', 'all', '', 1, 2, 'why', 'Änn');
        INSERT INTO upstreams VALUES ('x', '{"url":"http://x"}', 0, 1, 2, 3);`);
    const user = db.prepare("INSERT INTO users VALUES (?, ?, ?, '', '', '', 0, 0, 0, 1, 2, 3)");
    for (let i = 0; i < 500; i++) user.run(`many${i}`, `many${i}`, `many${i}`);
    db.close();
}

describe("the store", { concurrency: false }, () => {
    test("backups that are made under load are whole, and restore", async (t) => {
        const place = new Place(t), other = new Place(t);
        await place.fine(["store", "migrate"]);
        fill(place.store);
        let writes = 0, isOver = false;
        const load = Promise.all(
            [0, 1].map(async (writer) => {
                for (let i = 0; !isOver; i++) {
                    assert.equal(await place.setSecret(`s${writer}-${i}`, "value"), 0);
                    writes++;
                }
            }),
        );
        const seen: number[] = [];
        for (let i = 0; i < 4; i++) {
            const before = writes;
            await until(() => writes > before + 1, "somebody writes");
            const file = join(place.folder, `backup-${i}`);
            await place.fine(["store", "backup", file]);
            assert.equal(statSync(file).mode & 0o777, 0o600);
            const rows = rowsOf(file);
            assert.equal(rows.users!.length, 501);
            seen.push(rows.sealed!.length);
        }
        isOver = true;
        await load;
        assert.ok(seen[3]! > seen[0]!, `each one has more: ${seen.join(" ")}`);
        assert.deepEqual(
            readdirSync(place.folder).filter((name) => name.startsWith("backup")),
            ["backup-0", "backup-1", "backup-2", "backup-3"],
            "one file each, and nothing beside it",
        );
        const last = join(place.folder, "backup-3");
        await other.fine(["store", "restore", last]);
        const passing = ["sessions", "edit_windows", "login_failures", "setup"];
        const [wanted, got] = [rowsOf(last), rowsOf(other.store)];
        assert.ok(wanted.admin_notes!.length > 0, "no gateway has recorded what was done");
        for (const name of [...passing, "admin_notes"]) {
            if (name !== "admin_notes") assert.equal(wanted[name]!.length, 1);
            assert.deepEqual(got[name], [], `${name}: what was ended since does not come back`);
            delete wanted[name];
            delete got[name];
        }
        assert.deepEqual(got, wanted);
    });

    test("nothing is written over that was not meant", async (t) => {
        const place = new Place(t), other = new Place(t);
        await place.fine(["store", "migrate"]);
        fill(place.store);
        const backup = join(place.folder, "backup");
        await place.fine(["store", "backup", backup]);
        assert.match(await place.refused(["store", "backup", backup]), /cannot make .*backup: File exists/);
        writeFileSync(join(place.folder, "second.part"), "");
        assert.match(await place.refused(["store", "backup", join(place.folder, "second")]), /another backup is being made/);
        await other.fine(["store", "migrate"]);
        const db = new DatabaseSync(other.store);
        db.exec("INSERT INTO users VALUES ('mine', 'mine', 'mine', '', '', '', 0, 0, 0, 1, 2, 3)");
        db.close();
        assert.match(await other.refused(["store", "restore", backup]), /it is not empty: there are 1 rows in its table users; --force/);
        assert.equal(rowsOf(other.store).users!.length, 1);
        const said = JSON.parse(await other.fine(["store", "restore", backup, "--force", "--json"])) as { rows: number };
        assert.equal(rowsOf(other.store).users!.length, 501);
        assert.equal(said.rows, 501 + 4 + 1 + 2 + 1 + 1);
        assert.match(await other.refused(["store", "restore", join(place.folder, "nowhere")]), /there is no such file/);
        assert.equal(rowsOf(other.store).users!.length, 501);
    });

    test("a copy into PostgreSQL keeps everything, and so does the way back", async (t) => {
        const postgres = await Postgres.start(t);
        const place = new Place(t), back = new Place(t, postgres.urlWithPassword("postgres"));
        await place.fine(["store", "migrate"]);
        fill(place.store);
        assert.equal(await place.setSecret("github", "value"), 0);
        const env = { ...process.env, PGPASSWORD: PASSWORD };
        const withPassword = await place.run(["store", "copy", "--to", postgres.urlWithPassword("postgres")]);
        assert.equal(withPassword.code, 2);
        assert.match(withPassword.stderr, /list of processes/);
        await place.fine(["store", "copy", "--to", postgres.url("postgres")], env);
        assert.match(
            await place.refused(["store", "copy", "--to", postgres.url("postgres")], env),
            /PostgreSQL [\d.]+ at 127\.0\.0\.1:\d+\/postgres: it is not empty/,
        );
        await place.fine(["store", "copy", "--force", "--to", postgres.url("postgres")], env);
        const backup = join(back.folder, "backup");
        await back.fine(["store", "backup", backup]);
        assert.deepEqual(rowsOf(backup), rowsOf(place.store));
        assert.equal(postgres.ask("postgres", "SELECT count(*) FROM cardea.users"), "501");
        assert.equal(postgres.ask("postgres", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    });

    test("PostgreSQL goes away and comes back", async (t) => {
        const postgres = await Postgres.start(t);
        const place = new Place(t, postgres.urlWithPassword("postgres"));
        assert.equal(await place.setSecret("one", "value"), 0);
        await postgres.stop();
        const said = await place.refused(["secret", "list"]);
        assert.match(said, /cannot use the store: PostgreSQL: connection to server at "127.0.0.1", port \d+ failed: Connection refused/);
        for (const part of [PASSWORD, encodeURIComponent(PASSWORD), "a b", "tester:"]) {
            assert.ok(!said.includes(part), `no part of the password: ${said}`);
        }
        assert.notEqual(await place.setSecret("two", "value"), 0);
        await postgres.run();
        assert.equal(await place.setSecret("two", "value"), 0);
        assert.equal(postgres.ask("postgres", "SELECT string_agg(name, ' ' ORDER BY name) FROM cardea.sealed WHERE kind = 'secret'"), "one two");
    });

    for (const kind of ["SQLite", "PostgreSQL"]) {
        test(`a schema that is newer is refused: ${kind}`, async (t) => {
            const postgres = kind === "PostgreSQL" ? await Postgres.start(t) : undefined;
            const place = new Place(t, postgres?.urlWithPassword("postgres"));
            await place.fine(["store", "migrate"]);
            const sql = "UPDATE store_version SET version = version + 1";
            if (postgres === undefined) {
                const db = new DatabaseSync(place.store);
                db.exec(sql);
                db.close();
            } else {
                postgres.ask("postgres", `SET search_path = cardea; ${sql}`);
            }
            for (const args of [["store", "migrate"], ["secret", "list"], ["store", "backup", join(place.folder, "b")]]) {
                assert.match(await place.refused(args), /its schema has version \d+, and this program knows \d+: a newer Cardea/);
            }
            assert.ok(!existsSync(join(place.folder, "b")));
            assert.ok(!existsSync(join(place.folder, "b.part")));
        });
    }

    test("the disk is full, or read-only: said, and nothing is half done", async (t) => {
        const place = new Place(t);
        await place.fine(["store", "migrate"]);
        fill(place.store);
        const target = join(place.folder, "target");
        mkdirSync(target);
        const disk = new Disk(target, join(place.folder, "disk"));
        const backup = join(target, "backup");
        disk.set({ write_errno: ENOSPC, write_left: 50_000 });
        assert.match(await place.refused(["store", "backup", backup], disk.env()), /cannot make the backup: .*: the disk is full/);
        assert.deepEqual(readdirSync(target), []);
        disk.set({ write_errno: EROFS, open_errno: EROFS, write_left: 0 });
        assert.match(await place.refused(["store", "backup", backup], disk.env()), /Read-only file system/);
        disk.mend();
        await place.fine(["store", "backup", backup], disk.env());
        assert.deepEqual(rowsOf(backup), rowsOf(place.store));
    });

    test("what is not ours is left alone", async (t) => {
        const place = new Place(t);
        mkdirSync(place.data);
        const db = new DatabaseSync(place.store);
        db.exec("CREATE TABLE users (id TEXT)");
        db.close();
        assert.match(await place.refused(["secret", "list"]), /there are tables in it that are not Cardea's/);
        writeFileSync(place.store, "a text\n".repeat(1000));
        assert.match(await place.refused(["secret", "list"]), /it is damaged, or no database of SQLite/);
        rmSync(place.store);
        symlinkSync("/etc/passwd", place.store);
        assert.match(await place.refused(["secret", "list"]), /it is a symbolic link/);
        rmSync(place.store);
        await place.fine(["store", "migrate"]);
        chmodSync(place.store, 0o644);
        await place.fine(["secret", "list"]);
        assert.equal(statSync(place.store).mode & 0o777, 0o600);
    });
});
