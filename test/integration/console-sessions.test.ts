/* Sessions of the console as the commands see them, and logins that fail, many at once. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { PASSWORD, startAdmin } from "./lib/admin.ts";
import { cardea } from "./lib/cli.ts";

const USERS = [{ name: "anna", roles: ["administrator"] }, { name: "vera", roles: ["viewer"] }];

describe("sessions of the console", () => {
    test("`cardea session` lists and ends them; the next request knows", async (t) => {
        const admin = await startAdmin({ users: USERS }, t);
        const session = async (...args: string[]) => cardea(["session", ...args, "--data-dir", admin.gateway.dataDir]);
        assert.equal((await session("list")).stdout, "nobody is logged in\n");
        const [anna, vera, again] = [await admin.login("anna"), await admin.login("vera"), await admin.login("vera")];
        const listed = async (...user: string[]) => {
            const run = await session("list", ...user, "--json");
            assert.equal(run.code, 0, run.stderr);
            for (const secret of [anna, vera, again].flatMap(({ cookie, csrf }) => [cookie.split(".")[1]!, csrf]))
                assert.ok(!run.stdout.includes(secret), "no list lets anybody in");
            return (JSON.parse(run.stdout) as { sessions: { id: string; user: string; address: string }[] }).sessions;
        };
        assert.deepEqual((await listed()).map(({ user }) => user).sort(), ["anna", "vera", "vera"]);
        assert.deepEqual((await listed("VERA")).map(({ address }) => address), ["127.0.0.1", "127.0.0.1"]);
        const id = vera.cookie.split(".")[0]!;
        assert.equal((await session("end", id)).code, 0);
        assert.equal((await vera.get("/api/v1/session")).status, 401);
        assert.equal((await again.get("/api/v1/session")).status, 200);
        assert.match((await session("end", id)).stderr, /there is no such session/);
        assert.equal((await session("end", "--user", "vera")).stdout, "Sessions that have ended: 1.\n");
        assert.equal((await again.get("/api/v1/session")).status, 401);
        assert.equal((await anna.get("/api/v1/session")).status, 200);
        for (const wrong of [[], [id, "--user", "vera"], ["--user", ""]]) assert.equal((await session("end", ...wrong)).code, 2);
        assert.equal((await session("end", "--user", "nobody")).code, 1);
        assert.equal((await session("list", "nobody")).code, 1);
    });

    test("wrong passwords, all at once: no more of them are looked at than one by one", async (t) => {
        const admin = await startAdmin({ users: USERS }, t);
        const headers = { "content-type": "application/json" };
        const tries = Array.from({ length: 24 }, (_, i) =>
            admin.ask("POST", "/api/v1/login", headers, JSON.stringify({ name: i % 2 === 0 ? "vera" : "VERA", password: `${PASSWORD}-${i}` })));
        const statuses = (await Promise.all(tries)).map(({ status }) => status);
        assert.ok(statuses.filter((status) => status === 401).length <= 5, statuses.join(" "));
        assert.equal(statuses.filter((status) => ![401, 429, 503].includes(status)).length, 0, statuses.join(" "));
        // Another user of this address gets in.
        await admin.login("anna");
    });
});
