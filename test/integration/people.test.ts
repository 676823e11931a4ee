/* cardea user, role and token: on a store alone, beside a gateway that runs, and with what people try. Titles name the defects of the dashboard. */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { initialize, send } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";

const PASSWORD = "two owls read old maps";

interface User {
    id: string;
    name: string;
    roles: string[];
    is_disabled: boolean;
    must_change: boolean;
    has_password: boolean;
    version: number;
}

/** Commands on one data directory. */
class Store {
    readonly more: string[];
    constructor(more: string[]) {
        this.more = more;
    }

    run(args: string[], input?: string | Buffer): Promise<Run> {
        // The command's words first, by which the canary knows what may be printed; but nothing behind "--" is an option.
        const all = args.includes("--") ? [...this.more, ...args] : [...args, ...this.more];
        return cardea(all, input === undefined ? {} : { input });
    }

    async fine(args: string[], input?: string | Buffer): Promise<string> {
        const run = await this.run(args, input);
        assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
        return run.stdout;
    }

    /** It ends with this code and says this, on one line of stderr and nothing on stdout. */
    async refused(args: string[], says: RegExp, code = 1, input?: string | Buffer): Promise<void> {
        const run = await this.run(args, input);
        assert.equal(run.code, code, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
        assert.match(run.stderr, says);
        assert.equal(run.stdout, "");
        assert.doesNotMatch(run.stderr, /[\x00-\x09\x0b-\x1f\x7f]/);
    }

    async users(): Promise<User[]> {
        return (JSON.parse(await this.fine(["user", "list", "--json"])) as { users: User[] }).users;
    }

    async user(name: string): Promise<User & { rights: { permissions: string[] } }> {
        return JSON.parse(await this.fine(["user", "show", name, "--json"])) as User & { rights: { permissions: string[] } };
    }
}

describe("users, roles and tokens by command", () => {
    let folder: string;
    let store: Store;
    before(async () => {
        folder = temporaryFolder();
        writeFileSync(join(folder, "cardea.toml"), "");
        store = new Store(["-c", join(folder, "cardea.toml"), "--data-dir", join(folder, "data")]);
        await store.fine(["user", "add", "root", "--admin"], `${PASSWORD}\n`);
    });
    after(() => removeFolder(folder));

    test("defect 8: the first administrator is made by whoever owns the data directory, nobody else is there", async () => {
        const users = await store.users();
        assert.deepEqual(users.map((user) => user.name), ["root"]);
        assert.deepEqual(users[0]!.roles, ["administrator"]);
        assert.equal(users[0]!.has_password, true);
        assert.equal(statSync(join(folder, "data", "store.sqlite")).mode & 0o777, 0o600);
    });

    test("defect 10: what is no password", async () => {
        const refused: [string, RegExp][] = [
            ["", /no|empty|12 characters/],
            ["short", /12 characters/],
            ["x".repeat(1025), /1024|1,024/],
            ["Password1234!", /tried first/],
            ["kXw9-pq7\0Lm2v-zz", /NUL/],
        ];
        for (const [password, says] of refused) await store.refused(["user", "add", "evelyn"], says, 1, `${password}\n`);
        await store.refused(["user", "add", "evelyn"], /UTF-8/, 1, Buffer.from("kXw9-pq7Lm2v-zz\xff", "latin1"));
        await store.refused(["user", "add", "evelyn"], /name/, 1, "kXw9-3v3lyn-pq7Lm2v\n");
        await store.refused(["user", "add", "evelyn"], /name/, 1, "kXw9-NYLEVE-pq7Lm2v\n");
        assert.ok(!(await store.users()).some((user) => user.name === "evelyn"));
        // The rules hold for a change as well.
        await store.refused(["user", "password", "root"], /12 characters/, 1, "short\n");
        const { id } = await store.user("root");
        await store.refused(["user", "password", id], /12 characters/, 1, "short\n");
    });

    test("a password never shows", async () => {
        const password = "seven kettles hum at night";
        const said = await store.fine(["user", "add", "paula", "--json"], password);
        const all = said + (await store.fine(["user", "show", "paula", "--json"])) + (await store.fine(["user", "list"]));
        assert.doesNotMatch(all, /kettles|argon2/);
        const files = ["store.sqlite", "store.sqlite-wal"].map((name) => join(folder, "data", name));
        for (const file of files) {
            try {
                assert.ok(!readFileSync(file).includes("kettles"));
            } catch (error) {
                if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
            }
        }
    });

    test("names that try something", async () => {
        for (const name of ["x'; DROP TABLE users; --", "../root", "a b", "ro\u043et", "\u212aarl", "-x", "a\u001b[31m", "x".repeat(65), ""]) {
            await store.refused(["user", "add", "--no-password", "--", name], /a name has 1 to 64/);
            await store.refused(["role", "add", "--", name], /a name has 1 to 64/);
            await store.refused(["user", "show", "--", name], /no such user/);
            await store.refused(["user", "delete", "--", name], /no such user/);
        }
        await store.refused(["user", "add", "ROOT", "--no-password"], /already/);
        assert.equal((await store.user("RooT")).name, "root");
        const { id } = await store.user("root");
        if (/^[A-Za-z0-9]/.test(id)) await store.refused(["user", "add", id, "--no-password"], /already/);
        await store.refused(["user", "edit", "root", "--display-name", "Ro\u202eot"], /cannot be seen/);
        await store.refused(["user", "edit", "root", "--email", "a@b.example\nBcc: c@d.example"], /control/);
    });

    test("the last administrator stays, however it is tried", async () => {
        for (const args of [["disable", "root"], ["delete", "root"], ["edit", "root", "--no-roles"], ["edit", "root", "--role", "operator"]])
            await store.refused(["user", ...args], /last administrator/);
        await store.fine(["user", "add", "second", "--admin", "--no-password"]);
        // Two at once, by two processes: one of them is refused.
        for (let round = 0; round < 3; round++) {
            const runs = await Promise.all([
                store.run(["user", "disable", "root"]),
                store.run(round === 1 ? ["user", "edit", "second", "--no-roles"] : ["user", "disable", "second"]),
            ]);
            assert.deepEqual(runs.map((run) => run.code).sort(), [0, 1], runs.map((run) => run.stderr).join());
            await store.fine(["user", "enable", "root"]);
            await store.fine(["user", "enable", "second"]);
            await store.fine(["user", "edit", "second", "--admin"]);
        }
        await store.fine(["user", "delete", "second"]);
    });

    test("users are changed, and passwords reset", async () => {
        await store.fine(["user", "add", "vera", "--role", "viewer"], PASSWORD);
        assert.equal((await store.user("vera")).must_change, false);
        await store.fine(["user", "password", "vera"], "nine quiet ships go north");
        assert.equal((await store.user("vera")).must_change, true);
        await store.fine(["user", "password", "vera", "--final"], "nine quiet ships go south");
        assert.equal((await store.user("vera")).must_change, false);
        await store.fine(["user", "password", "vera", "--no-password"]);
        assert.equal((await store.user("vera")).has_password, false);
        await store.fine(["user", "edit", "vera", "--name", "Veronika", "--display-name", "V\u00e9ra", "--role", "operator", "--role", "viewer"]);
        assert.deepEqual((await store.user("veronika")).roles, ["operator", "viewer"]);
        await store.refused(["user", "edit", "veronika", "--role", "none"], /no role/);
        await store.refused(["user", "edit", "veronika"], /nothing to change/, 2);
        await store.refused(["user", "edit", "veronika", "--no-roles", "--role", "viewer"], /not for one command/, 2);
        await store.fine(["user", "disable", "veronika"]);
        const user = await store.user("veronika");
        assert.equal(user.is_disabled, true);
        assert.deepEqual(user.rights.permissions, []);
        await store.fine(["user", "delete", "veronika"]);
        await store.refused(["user", "show", "veronika"], /no such user/);
    });

    test("roles", async () => {
        await store.fine([
            "role", "add", "night", "--description", "At night", "--permission", "audit.read", "--permission", "tokens.own",
            "--operation", "db-*/get_*=read", "--operation", "files/file:///a=b/*=write", "--group", "staff", "--group", "ops",
        ]);
        const role = JSON.parse(await store.fine(["role", "show", "NIGHT", "--json"])) as { rights: unknown; groups: string[]; version: number };
        assert.deepEqual(role.groups, ["ops", "staff"]);
        assert.deepEqual(role.rights, {
            permissions: ["audit.read", "tokens.own"],
            operations: [
                { upstream: "db-*", operation: "get_*", access: "read" },
                { upstream: "files", operation: "file:///a=b/*", access: "write" },
            ],
        });
        for (const operation of ["db", "db/x", "/x=read", "db/=read", "db/x=Read", "db/x=read,write", "=read"])
            await store.refused(["role", "edit", "night", "--operation", operation], /an operation is/, 2);
        await store.refused(["role", "edit", "night", "--permission", "everything"], /no permission/);
        await store.refused(["role", "edit", "night", "--operation", `db/${"x".repeat(513)}=read`], /1 to 512 bytes/);
        await store.refused(["role", "add", "Night"], /already/);
        await store.fine(["role", "edit", "night", "--operation", "*/*=read", "--no-groups"]);
        const after = JSON.parse(await store.fine(["role", "show", "night", "--json"])) as typeof role;
        assert.deepEqual(after.rights, { permissions: [], operations: [{ upstream: "*", operation: "*", access: "read" }] });
        assert.deepEqual(after.groups, []);
        assert.equal(after.version, role.version + 1);
        await store.fine(["user", "add", "nina", "--no-password", "--role", "night"]);
        await store.refused(["role", "delete", "night"], /users who have this role: 1/);
        await store.fine(["user", "delete", "nina"]);
        await store.fine(["role", "delete", "night"]);
        const listed = JSON.parse(await store.fine(["role", "list", "--json"])) as { roles: { name: string }[] };
        assert.deepEqual(listed.roles.map((each) => each.name), ["administrator", "operator", "viewer"]);
    });

    test("system roles stay what they are, but for their groups", async () => {
        for (const name of ["administrator", "operator", "viewer"]) {
            await store.refused(["role", "delete", name], /system role/);
            await store.refused(["role", "edit", name, "--permission", "users.write"], /system role/);
            await store.refused(["role", "edit", name, "--name", "other"], /system role/);
            await store.fine(["role", "edit", name, "--group", `${name}s`]);
        }
    });

    test("defect 10: tokens have an end, are several, are shown once and hashed, and can be revoked", async () => {
        await store.fine(["user", "add", "tom", "--no-password", "--role", "operator"]);
        const token = (await store.fine(["token", "add", "tom", "laptop", "--days", "30"])).trim();
        assert.match(token, /^cardea_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}$/);
        const file = join(folder, "tom.token");
        const said = await store.fine(["token", "add", "tom", "ci", "--out", file, "--days", "0", "--operation", "db/*=read"]);
        assert.equal(statSync(file).mode & 0o777, 0o600);
        assert.ok(!said.includes(readFileSync(file, "utf8").trim()));
        const list = async () =>
            (JSON.parse(await store.fine(["token", "list", "tom", "--json"])) as { tokens: { id: string; name: string; prefix: string; expires: string | null }[] }).tokens;
        const tokens = await list();
        assert.deepEqual(tokens.map((each) => each.name), ["laptop", "ci"]);
        assert.equal(tokens[0]!.prefix, token.slice(7, 15));
        assert.ok(Math.abs(Date.parse(tokens[0]!.expires!) - Date.now() - 30 * 86400000) < 3600000);
        assert.equal(tokens[1]!.expires, null);
        const database = readFileSync(join(folder, "data", "store.sqlite"));
        assert.ok(!database.includes(token.slice(16)));
        // A file that is there is not overwritten, and no token is left that nobody has.
        await store.refused(["token", "add", "tom", "again", "--out", file], /not overwritten/);
        assert.equal((await list()).length, 2);
        for (const days of ["-1", "1.5", "99999", "x", ""]) await store.refused(["token", "add", "tom", "x", `--days=${days}`], /--days/, 2);
        await store.refused(["token", "add", "tom", "more", "--permission", "users.write"], /does not have/);
        await store.refused(["token", "add", "nobody", "x"], /no such user/);
        await store.refused(["token", "list", "nobody"], /no such user/);
        await store.fine(["token", "revoke", tokens[0]!.id]);
        await store.refused(["token", "revoke", tokens[0]!.id], /no such token/);
        await store.refused(["token", "revoke", "' OR 1=1 --"], /no such token/);
        await store.fine(["user", "disable", "tom"]);
        await store.refused(["token", "add", "tom", "late"], /disabled/);
        await store.fine(["user", "delete", "tom"]);
        const left = JSON.parse(await store.fine(["token", "list", "--json"])) as { tokens: unknown[] };
        assert.deepEqual(left.tokens, []);
    });
});

describe("beside a gateway that runs", () => {
    let control: Control;
    let gateway: Gateway;
    let store: Store;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: { servers: { one: { cmd: control.command({ name: "one", tools: [{ name: "look", inputSchema: { type: "object" } }] }), share: "all" } } },
        });
        store = new Store(["-c", join(gateway.folder, "cardea.toml"), "--data-dir", gateway.dataDir]);
    });
    after(async () => {
        await gateway.stop();
        await control.close();
    });

    const status = async (token: string): Promise<number> => (await send({ port: gateway.port, token }, { method: "POST", body: JSON.stringify(initialize("2025-11-25")) })).status;

    test("what a command does holds for the next request: added, disabled, enabled, revoked, deleted", async () => {
        await store.fine(["user", "add", "kim", "--no-password", "--role", "viewer"]);
        const made = JSON.parse(await store.fine(["token", "add", "kim", "laptop", "--json"])) as { id: string; token: string };
        assert.equal(await status(made.token), 200);
        await store.fine(["user", "disable", "kim"]);
        assert.equal(await status(made.token), 401);
        await store.fine(["user", "enable", "kim"]);
        assert.equal(await status(made.token), 200);
        await store.fine(["token", "revoke", made.id]);
        assert.equal(await status(made.token), 401);
        const other = JSON.parse(await store.fine(["token", "add", "kim", "laptop", "--json"])) as { token: string };
        assert.equal(await status(other.token), 200);
        await store.fine(["user", "delete", "kim"]);
        assert.equal(await status(other.token), 401);
    });

    test("twenty commands at once all do what they say", async () => {
        const names = Array.from({ length: 20 }, (_, i) => `user${i}`);
        await Promise.all(names.map((name) => store.fine(["user", "add", name, "--no-password", "--role", "viewer"])));
        const users = await store.users();
        for (const name of names) assert.ok(users.some((user) => user.name === name), name);
    });
});
