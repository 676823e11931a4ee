/*
 * The API of the console against people who try: steps that each are allowed and lead up, two things at once, names that
 * are almost another, cookies and fields that say two things, and what fills it up.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { connect, type TLSSocket } from "node:tls";

import { Admin, COOKIE, cookieOf, listen, PASSWORD, startAdmin, type Answer, type Browser } from "./lib/admin.ts";
import { cardea } from "./lib/cli.ts";
import { startGateway } from "./lib/gateway.ts";
import { Postgres } from "./lib/postgres.ts";
import { until, within } from "./lib/wait.ts";

const JSON_TYPE = { "content-type": "application/json" };
let admin: Admin;
let root: Browser;

before(async () => {
    admin = await startAdmin({
        users: [
            { name: "root", roles: ["administrator"] }, { name: "olga", roles: ["operator"] }, { name: "vic", roles: ["viewer"] },
            { name: "val", roles: ["viewer"] },
        ],
    });
    root = await admin.login("root");
});
after(async () => {
    admin.close();
    await admin.gateway.stop();
});

async function made(path: string, body: object, by: Browser = root): Promise<Answer> {
    const answer = await by.ask("POST", path, { body });
    assert.equal(answer.status, 201, `${path} ${JSON.stringify(body).slice(0, 300)}: ${answer.text}`);
    return answer;
}
const userWith = async (name: string, roles: string[]): Promise<Browser> => {
    await made("/api/v1/users", { name, roles, password: PASSWORD, must_change: false });
    return admin.login(name);
};
const tryLogin = (name: string, password: string, headers: Record<string, string> = {}): Promise<Answer> =>
    admin.ask("POST", "/api/v1/login", { ...JSON_TYPE, ...headers }, JSON.stringify({ name, password }));

function store<T>(use: (store: DatabaseSync) => T, of: Admin = admin): T {
    const database = new DatabaseSync(join(of.gateway.dataDir, "store.sqlite"));
    try {
        database.exec("PRAGMA busy_timeout = 5000");
        return use(database);
    } finally {
        database.close();
    }
}

describe("climbing", () => {
    const rights = {
        permissions: ["users.read", "users.write", "roles.read", "roles.write", "tokens.own", "tokens.all", "status.read"],
        operations: [{ upstream: "db-*", operation: "get_*", access: "read" }],
    };

    test("step by step: roles, groups, tokens, puppets", async () => {
        await made("/api/v1/roles", { name: "desk", rights });
        const dan = await userWith("dan", ["desk"]);
        const denied = async (method: string, path: string, body: unknown): Promise<void> => {
            const answer = await dan.ask(method, path, { body, headers: { "if-match": "*" } });
            assert.equal(answer.status, 403, `${method} ${path} ${JSON.stringify(body)}: ${answer.text}`);
        };
        // A role of one's own making is as much as its maker has, however its rights are written.
        await made("/api/v1/roles", { name: "ladder", rights: { permissions: ["status.read"] } }, dan);
        for (const operations of [
            [["*", "*", "read"]], [["db-*", "*", "read"]], [["db-*", "get_*", "write"]], [["db*", "get_*", "read"]], [["d*-*", "get_*", "read"]],
            [["db-*", "get_x", "read"], ["db-*", "*_x", "read"]], [["*db-*", "get_*", "read"]], [["db-*", "get*", "read"]], [["DB-*", "get_*", "read"]],
        ]) {
            const more = { operations: operations.map(([upstream, operation, access]) => ({ upstream, operation, access })) };
            await denied("PATCH", "/api/v1/roles/ladder", { rights: more });
            await denied("POST", "/api/v1/roles", { name: "more", rights: more });
            await denied("POST", "/api/v1/tokens", { name: "more", rights: more });
        }
        // A narrower one is fine.
        const narrow = { operations: [{ upstream: "db-1", operation: "get_*_x", access: "read" }] };
        assert.equal((await dan.ask("PATCH", "/api/v1/roles/ladder", { body: { rights: narrow }, headers: { "if-match": "*" } })).status, 200);
        // Groups of OAuth that would give others, and by them oneself, more.
        await denied("PATCH", "/api/v1/roles/administrator", { groups: ["everybody"] });
        await denied("PATCH", "/api/v1/roles/operator", { groups: ["everybody"] });
        // Somebody who has more is not for him to touch, and their tokens neither.
        for (const name of ["root", "olga"]) {
            await denied("POST", `/api/v1/users/${name}/password`, { password: `${PASSWORD} of mine` });
            await denied("PATCH", `/api/v1/users/${name}`, { name: `${name}2` });
            await denied("PATCH", `/api/v1/users/${name}`, { roles: ["desk"] });
            await denied("POST", "/api/v1/tokens", { name: "theirs", user: name });
            await denied("POST", "/api/v1/tokens", { name: "theirs", user: name, rights: { permissions: ["audit.export"] } });
            await denied("DELETE", `/api/v1/users/${name}`, undefined);
        }
        // A token for somebody who later gets more does not grow with them.
        await made("/api/v1/users", { name: "puppet", roles: ["ladder"], password: PASSWORD });
        const strings = (await made("/api/v1/tokens", { name: "strings", user: "puppet" }, dan)).json.token as string;
        assert.equal((await root.change("PATCH", "/api/v1/users/puppet", { roles: ["administrator"] })).status, 200);
        assert.equal((await admin.withToken(strings, "GET", "/api/v1/secrets")).status, 403);
        await denied("POST", "/api/v1/users/puppet/password", { password: `${PASSWORD} of mine` });
        // What his roles lose his tokens lose, and what he made stays within.
        const own = (await made("/api/v1/tokens", { name: "own" }, dan)).json.token as string;
        assert.equal((await admin.withToken(own, "GET", "/api/v1/users")).status, 200);
        await root.change("PATCH", "/api/v1/roles/desk", { rights: { permissions: ["status.read"] } });
        assert.equal((await admin.withToken(own, "GET", "/api/v1/users")).status, 403);
        assert.equal((await dan.get("/api/v1/session")).status, 401, "with other rights a session is another");
    });

    test("a token that ends makes none that does not", async () => {
        const rest = { rights: { permissions: ["tokens.own"] } };
        const short = (await made("/api/v1/tokens", { name: "short", days: 2, ...rest })).json.token as string;
        for (const days of [undefined, 3, 3650]) {
            const answer = await admin.withToken(short, "POST", "/api/v1/tokens", { name: "longer", ...(days === undefined ? {} : { days }), ...rest });
            assert.equal(answer.status, 403, answer.text);
        }
        assert.equal((await admin.withToken(short, "POST", "/api/v1/tokens", { name: "shorter", days: 1, ...rest })).status, 201);
    });

    test("a role's rights are changed while its token asks: behind the answer nothing is let through", async () => {
        await made("/api/v1/roles", { name: "shift", rights: { permissions: ["users.read"] } });
        await made("/api/v1/users", { name: "sam", roles: ["shift"] });
        const token = (await made("/api/v1/tokens", { name: "sam's", user: "sam" })).json.token as string;
        const ask = () => admin.withToken(token, "GET", "/api/v1/users");
        for (let round = 0; round < 5; round++) {
            assert.equal((await root.change("PATCH", "/api/v1/roles/shift", { rights: { permissions: ["users.read"] } })).status, 200);
            assert.equal((await ask()).status, 200);
            const around = Array.from({ length: 12 }, ask);
            assert.equal((await root.change("PATCH", "/api/v1/roles/shift", { rights: { permissions: [] } })).status, 200);
            const behind = await Promise.all(Array.from({ length: 6 }, ask));
            assert.deepEqual(behind.map(({ status }) => status), Array(6).fill(403));
            for (const { status } of await Promise.all(around)) assert.ok([200, 403].includes(status), String(status));
        }
    });
});

describe("two at once", () => {
    const remaining = async (of: Admin): Promise<number> => {
        const listed = await cardea(["user", "list", "--json", "-c", join(of.gateway.folder, "cardea.toml"), "--data-dir", of.gateway.dataDir], { env });
        const { users } = JSON.parse(listed.stdout) as { users: { roles: string[]; disabled?: boolean; is_disabled?: boolean }[] };
        return users.filter(({ roles, disabled, is_disabled }) => roles.includes("administrator") && disabled !== true && is_disabled !== true).length;
    };
    const env: NodeJS.ProcessEnv = { ...process.env, CARDEA_TEST_STORE: "" };

    /** Each of two administrators takes the other away, in every way, in the same moment. */
    async function fight(of: Admin): Promise<void> {
        const ways: ((by: Browser, whom: string) => Promise<Answer>)[] = [
            (by, whom) => by.ask("DELETE", `/api/v1/users/${whom}`, { headers: { "if-match": "*" } }),
            (by, whom) => by.ask("PATCH", `/api/v1/users/${whom}`, { body: { is_disabled: true }, headers: { "if-match": "*" } }),
            (by, whom) => by.ask("PATCH", `/api/v1/users/${whom}`, { body: { roles: ["viewer"] }, headers: { "if-match": "*" } }),
        ];
        const command = async (...args: string[]): Promise<void> => {
            const run = await cardea([...args, "-c", join(of.gateway.folder, "cardea.toml"), "--data-dir", of.gateway.dataDir], { env, input: `${PASSWORD}\n` });
            assert.equal(run.code, 0, run.stderr);
        };
        let round = 0;
        for (const a of ways) {
            for (const b of ways) {
                const [one, two] = [`one${++round}`, `two${round}`];
                for (const name of [one, two]) await command("user", "add", name, "--admin");
                const [first, second] = [await of.login(one), await of.login(two)];
                for (const name of ["root", `one${round - 1}`, `two${round - 1}`]) {
                    // Those of before are no administrators any more: what is left are these two.
                    await cardea(["user", "delete", name, "-c", join(of.gateway.folder, "cardea.toml"), "--data-dir", of.gateway.dataDir], { env });
                }
                const answers = await Promise.all([a(first, two), b(second, one)]);
                const shown = answers.map(({ status, text }) => `${status} ${text}`).join("\n");
                assert.equal(answers.filter(({ status }) => status < 300).length, 1, shown);
                assert.ok(answers.every(({ status }) => status < 500), shown);
                assert.equal(await remaining(of), 1, shown);
            }
        }
    }

    test("the last two administrators take each other away: one stays", async (t) => {
        await fight(await startAdmin({ users: [{ name: "root", roles: ["administrator"] }] }, t));
    });

    test("the same in PostgreSQL", { timeout: 120_000 }, async (t) => {
        const postgres = await Postgres.start(t);
        env.CARDEA_TEST_STORE = postgres.urlWithPassword("postgres");
        t.after(() => (env.CARDEA_TEST_STORE = ""));
        const config = '[server]\nworkers = 2\n[store]\nurl = "{{ env.CARDEA_TEST_STORE }}"\n';
        const gateway = await startGateway({ config, env, admin: true }, t);
        const entry = await gateway.waitForLog((item) => item.message === "the console's API listens");
        const of = new Admin(gateway, String(entry.address));
        t.after(() => of.close());
        await fight(of);
    });

    test("a password is reset while it is being looked at: whoever has the old one is not in", async () => {
        await made("/api/v1/users", { name: "ron", roles: ["viewer"], password: PASSWORD, must_change: false });
        for (let round = 0; round < 4; round++) {
            const [old, next] = [round === 0 ? PASSWORD : `${PASSWORD} no. ${round - 1}`, `${PASSWORD} no. ${round}`];
            const tried = tryLogin("ron", old);
            const reset = await root.ask("POST", "/api/v1/users/ron/password", { body: { password: next, must_change: false } });
            assert.equal(reset.status, 200, reset.text);
            const answer = await tried;
            if (answer.status !== 200) {
                assert.equal(answer.status, 401, answer.text);
                continue;
            }
            const cookie = `${COOKIE}=${cookieOf(answer)}`;
            assert.equal((await admin.ask("GET", "/api/v1/session", { cookie })).status, 401, "its session ended with the password");
        }
    });

    test("one set-up code, twenty who use it: one administrator", async (t) => {
        const empty = await startAdmin({ users: [] }, t);
        const code = "c".repeat(43);
        const digest = createHash("sha256").update(code).digest("hex");
        store((database) => database.prepare("INSERT INTO setup (id, digest, expires_ms) VALUES (1, ?, ?)").run(digest, Date.now() + 60_000), empty);
        const use = (name: string, by = code): Promise<Answer> =>
            empty.ask("POST", "/api/v1/setup", JSON_TYPE, JSON.stringify({ code: by, name, password: PASSWORD }));
        assert.equal((await use("thief", "d".repeat(43))).status, 401);
        for (const path of ["/api/v1/users", "/api/v1/config", "/api/v1/edit", "/api/v1/secrets"]) assert.equal((await empty.ask("GET", path)).status, 401);
        const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => use(`first${i}`)));
        const shown = answers.map(({ status }) => status).join(" ");
        assert.equal(answers.filter(({ status }) => status === 200).length, 1, shown);
        assert.ok(answers.every(({ status }) => [200, 401, 409, 503].includes(status)), shown);
        const users = store((database) => database.prepare("SELECT name FROM users").all() as { name: string }[], empty);
        assert.equal(users.length, 1);
        assert.equal((await use("later")).status, 409);
    });
});

describe("names that are almost another", () => {
    const wrong = "wrong wrong wrong";

    test("do not get around the throttle", async () => {
        await made("/api/v1/users", { name: "throttled", roles: [], password: PASSWORD, must_change: false });
        const spellings = ["throttled", "THROTTLED", "Throttled", "tHrOtTlEd", "throttleD", "THrottled", "thROttled", "throTTled"];
        const statuses: number[] = [];
        for (const name of spellings) statuses.push((await tryLogin(name, wrong)).status);
        assert.deepEqual(statuses.slice(0, 5), [401, 401, 401, 401, 401]);
        assert.ok(statuses.slice(5).every((status) => status === 429), statuses.join(" "));
    });

    test("are nobody's", async () => {
        // Each with the right password of vic's: none of these names is hers.
        for (const name of ["vic ", " vic", "vic\u00a0", "v\u0456c", "ｖｉｃ", "vic\u200b", "vi\u0301c", "vıc", "vic%00", "vic.", "vic@", "VİC"]) {
            const answer = await tryLogin(name, PASSWORD);
            assert.ok([401, 422, 429].includes(answer.status), `${JSON.stringify(name)}: ${answer.status} ${answer.text}`);
            for (const value of [name, `${name}2`]) {
                const user = await root.ask("POST", "/api/v1/users", { body: { name: value } });
                if (user.status !== 201) assert.ok([409, 422].includes(user.status), user.text);
                else assert.match(value, /^[\w.@-]+$/);
            }
        }
        for (const name of ["VIC", "Vic"]) assert.equal((await root.ask("POST", "/api/v1/users", { body: { name } })).status, 409);
    });
});

describe("what says two things", () => {
    const cookie = (): string => `${COOKIE}=${root.cookie}`;

    test("cookies: another host's, another path's, another case's", async () => {
        const other = `${"A".repeat(22)}.${"s".repeat(43)}`;
        for (const [fields, status] of [
            [`${cookie()}; ${COOKIE}=${other}`, 400], [`${COOKIE}=${other}; ${cookie()}`, 400], [`${cookie()}; ${COOKIE.toUpperCase()}=${other}`, 400],
            [`${COOKIE.toLowerCase()}=${root.cookie}`, 401], [`cardea-session=${root.cookie}`, 401], [`__Secure-cardea-session=${root.cookie}`, 401],
            [`a=b; ${cookie()}; c=d`, 200], [`a="${cookie()}"`, 401], [`a=b, ${cookie()}`, 401], [`${COOKIE}="${root.cookie}"`, 401],
            [`${COOKIE}=${root.cookie}x`, 401], [`${COOKIE}=${root.cookie}%00`, 401], [`$Version=1; ${cookie()}; $Path=/`, 200],
        ] as const) {
            const { status: got, text } = await admin.ask("GET", "/api/v1/session", { cookie: fields });
            assert.equal(got, status, `${fields.replaceAll(root.cookie, "COOKIE")}: ${text}`);
        }
        const twice = await admin.ask("GET", "/api/v1/session", { cookie: [cookie(), `${COOKIE}=${other}`] as string[] });
        assert.equal(twice.status, 400);
    });

    test("a login with somebody else's cookie ends nothing but that very session", async () => {
        const val = await admin.login("val");
        const planted = `${COOKIE}=${root.cookie.slice(0, 22)}.${val.cookie.slice(23)}`;
        assert.equal((await tryLogin("vic", PASSWORD, { cookie: planted })).status, 200);
        assert.equal((await root.get("/api/v1/session")).status, 200);
        assert.equal((await val.get("/api/v1/session")).status, 200);
    });

    test("fields of the head: Host, Origin, where it is said to come from", async () => {
        const { port } = admin;
        const ask = (headers: Record<string, string | string[]>) => root.ask("GET", "/api/v1/session", { headers });
        for (const host of [`evil.example`, `127.0.0.1.evil.example:${port}`, `evil.example#127.0.0.1:${port}`, `localhost.evil.example:${port}`, "127.0.0.1:", "0.0.0.0", "[::]", `127.0.0.1:${port}:${port}`, "127.1", "2130706433", "localhost%00.evil.example"]) {
            const answer = await ask({ host, origin: `https://${host}` }).catch((error: Error) => error);
            if (answer instanceof Error) continue; // no client sends it
            assert.ok([400, 421].includes(answer.status), `${host}: ${answer.status} ${answer.text}`);
        }
        for (const origin of ["null", "", `http://${admin.host}`, `https://${admin.host}/`, `https://${admin.host}.evil.example`, `https://evil.example`, `https://user@${admin.host}`, `https://localhost:${port}`, `${admin.origin} https://evil.example`, `${admin.origin}, https://evil.example`]) {
            assert.equal((await ask({ origin })).status, 403, origin);
        }
        assert.equal((await ask({ origin: [admin.origin, "https://evil.example"] })).status, 403);
        assert.equal((await ask({ origin: `HTTPS://${admin.host}` })).status, 200);
        for (const site of ["cross-site", "same-site", "", "same-origin, cross-site", "SAME-ORIGIN"]) {
            assert.equal((await ask({ "sec-fetch-site": site })).status, 403, site);
        }
        assert.equal((await ask({ "sec-fetch-site": ["same-origin", "cross-site"] })).status, 403);
    });

    test("who it is said to come from changes nothing", async () => {
        const answer = await tryLogin("nobody-at-all", "wrong wrong wrong", { "x-forwarded-for": "192.0.2.77", forwarded: "for=192.0.2.77", "x-real-ip": "192.0.2.77" });
        assert.equal(answer.status, 401);
        const items = (await until(async () => {
            const page = await root.get("/api/v1/audit?event=admin-login&text=nobody-at-all");
            return page.json.items.length > 0 && page;
        }, "the record of the login")).json.items as { record: { address: string } }[];
        assert.ok(items.every(({ record }) => record.address === "127.0.0.1"), JSON.stringify(items));
    });
});

describe("the stream of events", () => {
    test("ends when its token does, and tells no more than that still may", async () => {
        const asked = { permissions: ["status.read", "upstreams.read", "audit.read"] };
        await made("/api/v1/roles", { name: "watcher", rights: asked });
        const wim = await userWith("wim", ["watcher"]);
        const { id, token } = (await made("/api/v1/tokens", { name: "stream", user: "wim", rights: asked })).json as { id: string; token: string };
        const byToken = { admin, headers: { authorization: `Bearer ${token}` } } as unknown as Browser;
        const [mine, program] = [await listen(wim), await listen(byToken)];
        await until(() => ["edit", "audit"].every((name) => program.events.some(({ event }) => event === name)), "events of the token");
        // The role loses one of them: the session is over, the token's stream tells no more of it.
        await root.change("PATCH", "/api/v1/roles/watcher", { rights: { permissions: ["audit.read"] } });
        await within(mine.ended, "the stream of the session ends with its rights");
        const edits = () => program.events.filter(({ event }) => event === "edit").length;
        const before = edits();
        const audits = program.events.filter(({ event }) => event === "audit").length;
        await root.ask("POST", "/api/v1/edit", { body: { scope: "all", minutes: 1, reason: "nobody may see it" } });
        await until(() => program.events.filter(({ event }) => event === "audit").length > audits, "the trail has moved");
        await root.ask("DELETE", "/api/v1/edit?scope=all");
        const again = program.events.filter(({ event }) => event === "audit").length;
        await until(() => program.events.filter(({ event }) => event === "audit").length > again, "and again");
        assert.equal(edits(), before, JSON.stringify(program.events));
        assert.equal((await root.ask("DELETE", `/api/v1/tokens/${id}`)).status, 204);
        await within(program.ended, "the stream ends with its token");
    });

    test("is one of few", async () => {
        const streams = await Promise.all(Array.from({ length: 8 }, () => listen(root)));
        assert.equal((await listen(root)).status, 503);
        for (const stream of streams) stream.close();
        await until(async () => {
            const one = await listen(root);
            one.close();
            return one.status === 200;
        }, "there is room again");
    });
});

describe("what fills it up", () => {
    test("rights of tokens, which all are read at each change", async () => {
        const vic = await admin.login("vic");
        const long = Array.from({ length: 100 }, (_, k) => ({ upstream: `u${k}-${"x".repeat(230)}`, operation: "y".repeat(500), access: "read" }));
        const statuses: number[] = [];
        for (let i = 0; i < 5; i++) {
            const answer = await vic.ask("POST", "/api/v1/tokens", { body: { name: `long ${i}`, rights: { operations: long } } });
            statuses.push(answer.status);
            if (answer.status !== 201) assert.match(answer.json.detail, /rights of all tokens of a user/);
            else assert.ok(i < 4);
        }
        assert.deepEqual(statuses, [201, 201, 201, 422, 422]);
        await made("/api/v1/tokens", { name: "a short one" }, vic);
    });

    test("long rights: a page ends by its length", async () => {
        const operations = Array.from({ length: 256 }, (_, k) => ({ upstream: `u${k}`, operation: "y".repeat(900), access: "read" }));
        const rights = JSON.stringify({ permissions: [], operations });
        // Not through the API, which reads all of them again behind each.
        store((database) => {
            const insert = database.prepare("INSERT INTO roles (id, name, key, description, is_system, rights, created_ms, updated_ms, version) VALUES (?, ?, ?, '', 0, ?, 1, 1, 1)");
            for (let i = 0; i < 45; i++) insert.run(String(i).padStart(22, "L"), `long${i}`, `long${i}`, rights);
        });
        try {
            let n = 0, cursor: string | null = "";
            for (let page = 0; page < 10 && cursor !== null; page++) {
                const answer: Answer = await root.get(`/api/v1/roles?limit=200${cursor === "" ? "" : `&cursor=${cursor}`}`);
                assert.equal(answer.status, 200, answer.text.slice(0, 300));
                assert.ok(answer.text.length < 9 << 20, `${answer.text.length} bytes`);
                n += answer.json.items.filter(({ name }: { name: string }) => name.startsWith("long")).length;
                cursor = answer.json.next as string | null;
            }
            assert.equal(n, 45);
        } finally {
            store((database) => database.exec("DELETE FROM roles WHERE name LIKE 'long%'"));
        }
    });

    test("lists of sessions and roles have pages, too", async () => {
        for (const path of ["/api/v1/sessions?user=*&", "/api/v1/roles?", "/api/v1/users?", "/api/v1/tokens?user=*&"]) {
            const ids: string[] = [];
            let next: string | null = "";
            for (let page = 0; page < 300 && next !== null; page++) {
                const answer: Answer = await root.get(`${path}limit=2${next === "" ? "" : `&cursor=${next}`}`);
                assert.equal(answer.status, 200, answer.text);
                assert.ok(answer.json.items.length <= 2);
                ids.push(...answer.json.items.map(({ id }: { id: string }) => id));
                next = answer.json.next as string | null;
            }
            const whole = (await root.get(`${path}limit=200`)).json.items.map(({ id }: { id: string }) => id) as string[];
            assert.deepEqual(ids.slice(0, whole.length), whole, path);
            assert.equal(new Set(ids).size, ids.length, path);
        }
    });

    test("bodies of strangers, who say that they are somebody", async () => {
        const sockets: TLSSocket[] = [];
        const head = ["POST /api/v1/users HTTP/1.1", `Host: ${admin.host}`, `Cookie: ${COOKIE}=${"A".repeat(22)}.${"s".repeat(43)}`,
            "Content-Type: application/json", `Content-Length: ${1 << 20}`, "", ""].join("\r\n");
        const body = Buffer.alloc((1 << 20) - 1, " ");
        const open = (from: string) => within(new Promise<void>((resolve) => {
            const socket = connect({ host: "127.0.0.1", port: admin.port, ca: admin.ca, localAddress: from } as never);
            sockets.push(socket.on("error", () => resolve()).once("close", () => resolve()));
            socket.resume().write(head);
            socket.write(body, () => resolve());
        }), "a body is sent");
        try {
            for (const from of ["127.0.0.2", "127.0.0.3"]) await Promise.all(Array.from({ length: 50 }, () => open(from)));
            for (let i = 0; i < 5; i++) {
                const answer = await tryLogin("olga", PASSWORD);
                assert.equal(answer.status, 200, `whoever is honest still gets in: ${answer.text}`);
            }
            const changed = await root.ask("POST", "/api/v1/users", { body: { name: "in-spite", display_name: "x".repeat(100) } });
            assert.equal(changed.status, 201, changed.text);
        } finally {
            for (const socket of sockets) socket.destroy();
        }
    });

    test("what a stranger typed is no formula in the export", async () => {
        const names = ["=cmd|'/c calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1".trimStart(), "＝1+1"];
        for (const name of names) await tryLogin(name, "wrong wrong wrong");
        for (const format of ["csv", "csv&event=admin-login"]) {
            const csv = await until(async () => {
                const answer = await root.get(`/api/v1/audit/export?format=${format}`);
                return answer.text.includes("SUM(A1)") && answer.text;
            }, "the logins are in the export");
            const cells = [...csv.matchAll(/(?:^|,)"((?:[^"]|"")*)"/gm)].map((match) => match[1]!);
            assert.ok(cells.length > 20);
            for (const cell of cells) assert.doesNotMatch(cell, /^[\s]*[=+\-@＝＋－＠]/, cell);
        }
    });
});
