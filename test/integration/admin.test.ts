/*
 * The API of the console. Its routes are read from its own OpenAPI document, so that none is forgotten: each is asked
 * without the CSRF token, from other pages, by other names. Who may what is in admin-matrix.test.ts.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
    COOKIE, documentOf, listen, PASSWORD, routesOf, startAdmin, type Admin, type Answer, type Browser, type Route,
} from "./lib/admin.ts";
import { until, within } from "./lib/wait.ts";

let admin: Admin;
const people = new Map<string, Browser>();
let routes: Route[] = [];

const as = (name: string): Browser => people.get(name)!;
const isUnsafe = (route: Route): boolean => route.method !== "GET";

/** A body that is refused, so that nothing changes; what has none names nothing that is there. */
const pathOf = (route: Route): string =>
    route.path.replace(/\{\w+\}/, "nobody-has-this-name") +
    (route.path === "/api/v1/edit" && route.method === "DELETE" ? "?scope=all" : "") +
    (route.path === "/api/v1/audit/export" ? "?format=nothing" : "");
const trying = (route: Route) => (route.body !== undefined ? { body: { nothing: 1 } } : {});

/** Without their own sessions being ended. */
const isHarmless = (route: Route): boolean => route.path !== "/api/v1/logout" && !route.hasStream;

before(async () => {
    admin = await startAdmin({
        users: [
            { name: "root", roles: ["administrator"] },
            { name: "olga", roles: ["operator"] },
            { name: "vic", roles: ["viewer"] },
            { name: "nobody", roles: [] },
        ],
    });
    for (const name of ["root", "olga", "vic", "nobody"]) people.set(name, await admin.login(name));
    routes = routesOf(await documentOf(admin));
});
after(async () => {
    admin.close();
    await admin.gateway.stop();
});

function isProblem(answer: Answer, status: number, kind?: string): void {
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.headers["content-type"], "application/problem+json");
    assert.equal(answer.json.status, status);
    assert.ok(answer.json.detail.length > 0);
    if (kind !== undefined) assert.equal(answer.json.type, `urn:cardea:problem:${kind}`);
}

describe("every route", () => {
    test("is in the document", () => {
        assert.ok(routes.length >= 40, `${routes.length} routes`);
        assert.ok(routes.every((route) => route.permission !== ""));
    });

    test("with a session that is none, and with tokens that are none", async () => {
        const id = "A".repeat(22);
        const wrong: Record<string, string>[] = [
            { cookie: `${COOKIE}=${id}.${"s".repeat(43)}` },
            { cookie: `${COOKIE}=${as("root").cookie.slice(0, 22)}.${"s".repeat(43)}` },
            { cookie: `${COOKIE}=` },
            { cookie: `${COOKIE.toLowerCase()}=${as("root").cookie}` },
            { authorization: `Bearer cardea_abcdefgh_${"t".repeat(43)}` },
            { authorization: "Bearer " },
            { authorization: `Basic ${Buffer.from(`root:${PASSWORD}`).toString("base64")}` },
        ];
        for (const headers of wrong) {
            const answer = await admin.ask("GET", "/api/v1/users", headers);
            assert.equal(answer.status, 401, JSON.stringify(headers) + answer.text);
        }
    });

    test("that changes something, without the CSRF token or with another one", async () => {
        for (const route of routes.filter((item) => isUnsafe(item) && item.permission !== "public")) {
            for (const headers of [{}, { "x-csrf-token": "" }, { "x-csrf-token": as("vic").csrf }] as Record<string, string>[]) {
                const answer = await as("root").ask(route.method, pathOf(route), { ...trying(route), headers, noCsrf: true });
                isProblem(answer, 403, "csrf");
            }
        }
    });

    test("from a page of another origin", async () => {
        for (const route of routes) {
            for (const headers of [
                { origin: "https://evil.example" }, { origin: "null" }, { origin: `http://${admin.host}` },
                { origin: "https://127.0.0.1:1" }, { "sec-fetch-site": "cross-site" }, { "sec-fetch-site": "same-site" },
            ] as Record<string, string>[]) {
                isProblem(await as("root").ask(route.method, pathOf(route), { ...trying(route), headers }), 403, "origin");
            }
        }
    });

    test("by a name that is not ours", async () => {
        for (const route of routes) {
            const answer = await as("root").ask(route.method, pathOf(route), {
                ...trying(route), headers: { host: `evil.example:${admin.port}` },
            });
            isProblem(answer, 421, "host");
        }
    });

    test("with what a form can send", async () => {
        for (const route of routes.filter((item) => item.body !== undefined)) {
            for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]) {
                const answer = await as("root").ask(route.method, pathOf(route), {
                    raw: "{}", headers: { "content-type": type },
                });
                isProblem(answer, 415);
            }
        }
    });

    test("with a version", async () => {
        for (const route of routes.filter((item) => item.needsMatch)) {
            isProblem(await as("root").ask(route.method, pathOf(route), trying(route)), 428);
            for (const [tag, status] of [["7", 400], ['"x"', 412], ['W/"1"', 412], ['"1", "2"', 400]] as const) {
                const headers = { "if-match": tag };
                isProblem(await as("root").ask(route.method, pathOf(route), { ...trying(route), headers }), status);
            }
        }
    });

    test("with a method that it does not know", async () => {
        const paths = new Set(routes.map((route) => route.path));
        for (const path of paths) {
            const known = routes.filter((route) => route.path === path).map((route) => route.method);
            for (const method of ["PUT", "PATCH", "DELETE", "POST", "OPTIONS", "TRACE"]) {
                if (known.includes(method)) continue;
                const answer = await as("root").ask(method, path.replace(/\{\w+\}/, "x"));
                isProblem(answer, 405);
                const allowed = String(answer.headers.allow).split(", ");
                for (const item of known) assert.ok(allowed.includes(item), `${path}: ${answer.headers.allow}`);
            }
        }
    });

    test("answers with what a browser needs to know", async () => {
        for (const route of routes.filter(isHarmless)) {
            const { headers } = await as("root").ask(route.method, pathOf(route), trying(route));
            const what = `${route.method} ${route.path}`;
            assert.match(String(headers["content-security-policy"]), /default-src 'none'.*frame-ancestors 'none'/, what);
            assert.equal(headers["cache-control"], "no-store", what);
            assert.equal(headers["x-content-type-options"], "nosniff", what);
            assert.match(String(headers["strict-transport-security"]), /max-age=\d{7,}/, what);
            assert.equal(headers["access-control-allow-origin"], undefined, what);
        }
    });
});

const JSON_TYPE = { "content-type": "application/json" };

describe("logging in", () => {
    test("sets a cookie that only this host's pages over TLS send", () => {
        const line = String(as("root").entered.headers["set-cookie"]);
        assert.match(line, new RegExp(`^${COOKIE}=[\\w-]{22}\\.[\\w-]{43}; Path=/; Secure; HttpOnly; SameSite=Strict$`));
    });

    test("says the same of a wrong name and a wrong password", async () => {
        const ask = (name: string) =>
            admin.ask("POST", "/api/v1/login", JSON_TYPE, JSON.stringify({ name, password: "wrong wrong wrong" }));
        const [known, unknown] = [await ask("olga"), await ask("never-was-here")];
        for (const answer of [known, unknown]) isProblem(answer, 401, "login");
        assert.equal(known.json.detail, unknown.json.detail);
        assert.equal(known.headers["set-cookie"], undefined);
    });

    test("ends the session that the browser came with, and takes no id from it", async () => {
        const first = await admin.login("vic");
        const second = await admin.ask("POST", "/api/v1/login", { ...JSON_TYPE, cookie: first.headers.cookie! },
            JSON.stringify({ name: "vic", password: PASSWORD }));
        assert.equal(second.status, 200);
        assert.notEqual(second.json.session, first.entered.json.session);
        assert.equal((await first.get("/api/v1/session")).status, 401);
        const planted = `${COOKIE}=${"A".repeat(22)}.${"s".repeat(43)}`;
        const third = await admin.ask("POST", "/api/v1/login", { ...JSON_TYPE, cookie: planted },
            JSON.stringify({ name: "vic", password: PASSWORD }));
        assert.equal(third.status, 200);
        assert.equal((await admin.ask("GET", "/api/v1/session", { cookie: planted })).status, 401);
    });

    test("logging out ends the session and takes the cookie away", async () => {
        const browser = await admin.login("vic");
        const answer = await browser.ask("POST", "/api/v1/logout");
        assert.equal(answer.status, 204);
        assert.match(String(answer.headers["set-cookie"]), /=; .*Max-Age=0/);
        assert.equal((await browser.get("/api/v1/session")).status, 401);
    });

    test("of two cookies of the name none is believed", async () => {
        const cookie = `${COOKIE}=${as("root").cookie}`;
        for (const headers of [
            { cookie: `${cookie}; ${cookie}` }, { cookie: `${COOKIE}=x; ${cookie}` },
            { cookie, authorization: `Bearer cardea_abcdefgh_${"t".repeat(43)}` },
        ] as Record<string, string>[]) isProblem(await admin.ask("GET", "/api/v1/session", headers), 400, "credentials");
    });
});

describe("users", () => {
    test("are made, changed by version, and deleted", async () => {
        const made = await as("root").ask("POST", "/api/v1/users", {
            body: { name: "ann", display_name: "Ann", password: PASSWORD, roles: ["viewer"] },
        });
        assert.equal(made.status, 201, made.text);
        assert.equal(made.headers.location, `/api/v1/users/${made.json.id}`);
        assert.equal(made.json.must_change, true);
        assert.ok(!made.text.includes("argon2") && !made.text.includes(PASSWORD));
        const path = `/api/v1/users/${made.json.id}`;
        const tag = String((await as("root").get(path)).headers.etag);
        const headers = { "if-match": tag };
        const changed = await as("root").ask("PATCH", path, { body: { email: "a@b.example" }, headers });
        assert.equal(changed.status, 200, changed.text);
        assert.equal(changed.json.email, "a@b.example");
        assert.equal(changed.json.display_name, "Ann");
        assert.notEqual(changed.headers.etag, tag);
        isProblem(await as("root").ask("PATCH", path, { body: { email: "" }, headers }), 412);
        isProblem(await as("root").ask("DELETE", path, { headers }), 412);
        const gone = await as("root").ask("DELETE", path, { headers: { "if-match": String(changed.headers.etag) } });
        assert.equal(gone.status, 204, gone.text);
        isProblem(await as("root").get(path), 404);
    });

    test("two who change the same version: one of them does", async () => {
        const { json } = await as("root").ask("POST", "/api/v1/users", { body: { name: "raced" } });
        const headers = { "if-match": `"${json.version}"` };
        const answers = await Promise.all(Array.from({ length: 8 }, (_, i) =>
            as("root").ask("PATCH", `/api/v1/users/${json.id}`, { body: { display_name: `n${i}` }, headers })));
        assert.equal(answers.filter((answer) => answer.status === 200).length, 1);
        assert.equal(answers.filter((answer) => answer.status === 412).length, 7);
    });

    test("come in pages", async () => {
        const first = await as("root").get("/api/v1/users?limit=2");
        assert.equal(first.json.items.length, 2);
        const second = await as("root").get(`/api/v1/users?limit=2&cursor=${first.json.next}`);
        const names = [...first.json.items, ...second.json.items].map((user: { name: string }) => user.name);
        assert.deepEqual(names, [...names].sort());
        assert.equal(new Set(names).size, 4);
        isProblem(await as("root").get("/api/v1/users?cursor=%21"), 400);
        isProblem(await as("root").get("/api/v1/users?limit=0"), 400);
        isProblem(await as("root").get("/api/v1/users?limit=1&limit=2"), 400);
        isProblem(await as("root").get("/api/v1/users?unknown=1"), 400);
    });

    test("the last administrator stays, and nobody gives themselves more", async () => {
        const { headers } = await as("root").get("/api/v1/users/root");
        const tag = { "if-match": String(headers.etag) };
        isProblem(await as("root").ask("PATCH", "/api/v1/users/root", { body: { roles: [] }, headers: tag }), 403);
        isProblem(await as("root").ask("PATCH", "/api/v1/users/root", { body: { is_disabled: true }, headers: tag }), 403);
        isProblem(await as("root").ask("DELETE", "/api/v1/users/root", { headers: tag }), 403);
        isProblem(await as("vic").ask("PATCH", "/api/v1/users/vic", { body: { roles: ["administrator"] },
            headers: tag }), 403, "permission");
    });

    test("somebody with users.write does not become an administrator", async () => {
        const rights = { permissions: ["users.read", "users.write", "roles.read", "roles.write", "tokens.own"] };
        const role = await as("root").ask("POST", "/api/v1/roles", { body: { name: "helpdesk", rights } });
        assert.equal(role.status, 201, role.text);
        await as("root").ask("POST", "/api/v1/users", { body: { name: "hel", password: PASSWORD, roles: ["helpdesk"],
            must_change: false } });
        const hel = await admin.login("hel");
        const self = String((await hel.get("/api/v1/users/hel")).headers.etag);
        const root = String((await hel.get("/api/v1/users/root")).headers.etag);
        const own = String((await hel.get("/api/v1/roles/helpdesk")).headers.etag);
        const attempts: [string, string, unknown, string][] = [
            ["PATCH", "/api/v1/users/hel", { roles: ["administrator"] }, self],
            ["PATCH", "/api/v1/users/hel", { roles: ["helpdesk", "operator"] }, self],
            ["POST", "/api/v1/users", { name: "puppet", password: PASSWORD, roles: ["administrator"] }, "*"],
            ["POST", "/api/v1/users/root/password", { password: `${PASSWORD} of mine` }, "*"],
            ["PATCH", "/api/v1/users/root", { is_disabled: true }, root],
            ["PATCH", "/api/v1/roles/helpdesk", { rights: { permissions: [...rights.permissions, "audit.read"] } }, own],
            ["POST", "/api/v1/roles", { name: "more", rights: { permissions: ["secrets.write"] } }, "*"],
        ];
        for (const [method, path, body, tag] of attempts) {
            const answer = await hel.ask(method, path, { body, headers: { "if-match": tag } });
            assert.equal(answer.status, 403, `${method} ${path} ${JSON.stringify(body)}: ${answer.text}`);
        }
        assert.equal((await hel.get("/api/v1/session")).status, 200);
    });

    test("a role that is taken away counts with the next request, also in an open session", async () => {
        await as("root").ask("POST", "/api/v1/users", { body: { name: "temp", password: PASSWORD, roles: ["operator"],
            must_change: false } });
        const temp = await admin.login("temp");
        assert.notEqual((await temp.get("/api/v1/config")).status, 403);
        await as("root").change("PATCH", "/api/v1/users/temp", { roles: ["viewer"] });
        const status = (await temp.get("/api/v1/config")).status;
        assert.ok(status === 401 || status === 403, String(status));
    });

    test("who changes their own roles goes on with another session", async () => {
        await as("root").ask("POST", "/api/v1/users", { body: { name: "self", password: PASSWORD, must_change: false,
            roles: ["administrator"] } });
        const self = await admin.login("self");
        const before = { cookie: self.headers.cookie!, csrf: self.csrf };
        const changed = await self.change("PATCH", "/api/v1/users/self", { roles: ["administrator", "viewer"] });
        assert.equal(changed.status, 200, changed.text);
        self.take(changed);
        assert.notEqual(self.csrf, before.csrf);
        assert.equal((await admin.ask("GET", "/api/v1/session", { cookie: before.cookie })).status, 401);
        assert.equal((await self.ask("POST", "/api/v1/logout")).status, 204);
    });

    test("a password that was reset is changed before anything else", async () => {
        await as("root").ask("POST", "/api/v1/users", { body: { name: "pat", password: PASSWORD, roles: ["administrator"] } });
        const pat = await admin.login("pat");
        assert.equal(pat.entered.json.must_change, true);
        isProblem(await pat.get("/api/v1/users"), 403, "password-change");
        isProblem(await pat.ask("POST", "/api/v1/tokens", { body: { name: "t" } }), 403, "password-change");
        const change = (body: unknown) => pat.ask("POST", "/api/v1/session/password", { body });
        isProblem(await change({ password: "not the present one", new_password: `${PASSWORD}!` }), 403, "login");
        isProblem(await change({ password: PASSWORD, new_password: "short" }), 422, "password");
        isProblem(await change({ password: PASSWORD, new_password: PASSWORD }), 422, "password");
        const before = pat.cookie;
        const changed = await change({ password: PASSWORD, new_password: `${PASSWORD} anew` });
        assert.equal(changed.status, 200, changed.text);
        pat.take(changed);
        assert.notEqual(pat.cookie.slice(0, 22), before.slice(0, 22));
        assert.equal((await pat.get("/api/v1/users")).status, 200);
        const old = await admin.ask("GET", "/api/v1/session", { cookie: `${COOKIE}=${before}` });
        assert.equal(old.status, 401);
    });
});

describe("passwords and tokens", () => {
    const works = async (token: string): Promise<boolean> => (await admin.withToken(token, "GET", "/api/v1/session")).status === 200;
    const tokenOf = async (user: string): Promise<string> => {
        const made = await as("root").ask("POST", "/api/v1/tokens", { body: { name: "t", user, days: 1 } });
        assert.equal(made.status, 201, made.text);
        return made.json.token as string;
    };

    test("a reset ends sessions in any case, and tokens unless it is declined", async () => {
        await as("root").ask("POST", "/api/v1/users", { body: { name: "rex", password: PASSWORD, roles: ["viewer"], must_change: false } });
        const others = await tokenOf("olga");
        for (const [body, stays] of [[{ revoke_tokens: false }, true], [{ revoke_tokens: true }, false], [{}, false]] as const) {
            const token = await tokenOf("rex");
            const rex = await admin.login("rex", PASSWORD);
            assert.ok(await works(token));
            const reset = await as("root").ask("POST", "/api/v1/users/rex/password", { body: { password: PASSWORD, must_change: false, ...body } });
            assert.equal(reset.status, 200, reset.text);
            assert.equal(await works(token), stays, JSON.stringify(body));
            assert.equal((await rex.get("/api/v1/session")).status, 401, "the session has ended");
        }
        assert.ok(await works(others));
        const refused = await as("root").ask("POST", "/api/v1/users/rex/password", { body: { password: PASSWORD, revoke_tokens: "no" } });
        assert.equal(refused.status, 422, refused.text);
    });

    test("one's own change keeps them, unless it is asked for", async () => {
        await as("root").ask("POST", "/api/v1/users", { body: { name: "own", password: PASSWORD, roles: ["viewer"], must_change: false } });
        const own = await admin.login("own", PASSWORD);
        const token = await tokenOf("own");
        let password = PASSWORD;
        for (const [more, stays] of [[{}, true], [{ revoke_tokens: true }, false]] as const) {
            const body = { password, new_password: `${password} on`, ...more };
            const changed = await own.ask("POST", "/api/v1/session/password", { body });
            assert.equal(changed.status, 200, changed.text);
            own.take(changed);
            password = body.new_password;
            assert.equal(await works(token), stays, JSON.stringify(more));
        }
    });

    test("all tokens of one user at once", async () => {
        const tokens = [await tokenOf("rex"), await tokenOf("rex")];
        const others = await tokenOf("olga");
        isProblem(await as("olga").ask("DELETE", "/api/v1/users/rex/tokens"), 403, "permission");
        isProblem(await as("root").ask("DELETE", "/api/v1/users/whoever/tokens"), 404);
        const answer = await as("root").ask("DELETE", "/api/v1/users/rex/tokens");
        assert.equal(answer.status, 200, answer.text);
        assert.deepEqual(answer.json, { revoked: 2 });
        for (const token of tokens) assert.equal(await works(token), false);
        assert.ok(await works(others));
    });
});

describe("what belongs to others", () => {
    test("tokens", async () => {
        const made = await as("olga").ask("POST", "/api/v1/tokens", { body: { name: "mine", days: 1 } });
        assert.equal(made.status, 201, made.text);
        assert.match(made.json.token, /^cardea_[\w-]{8}_[\w-]{43}$/);
        const path = `/api/v1/tokens/${made.json.id}`;
        isProblem(await as("vic").ask("DELETE", path), 404);
        isProblem(await as("vic").get("/api/v1/tokens?user=olga"), 403);
        isProblem(await as("vic").get("/api/v1/tokens?user=*"), 403);
        isProblem(await as("vic").ask("POST", "/api/v1/tokens", { body: { name: "x", user: "olga" } }), 403);
        assert.deepEqual((await as("vic").get("/api/v1/tokens")).json.items, []);
        const all = await as("root").get("/api/v1/tokens?user=*");
        assert.ok(all.json.items.some((token: { id: string }) => token.id === made.json.id));
        assert.ok(!all.text.includes(made.json.token.slice(-43)));
        assert.equal((await as("olga").ask("DELETE", path)).status, 204);
        assert.equal((await admin.withToken(made.json.token, "GET", "/api/v1/session")).status, 401);
    });

    test("sessions", async () => {
        const olga = await admin.login("olga");
        const path = `/api/v1/sessions/${olga.entered.json.session}`;
        isProblem(await as("vic").ask("DELETE", path), 404);
        isProblem(await as("vic").get("/api/v1/sessions?user=olga"), 403);
        const own = await as("vic").get("/api/v1/sessions");
        assert.ok(own.json.items.every((item: { user: { name: string } }) => item.user.name === "vic"));
        assert.ok(!own.text.includes(as("vic").csrf));
        assert.equal((await as("root").ask("DELETE", path)).status, 204);
        assert.equal((await olga.get("/api/v1/session")).status, 401);
    });
});

describe("tokens in place of a cookie", () => {
    test("have no more rights than they were given", async () => {
        const made = await as("root").ask("POST", "/api/v1/tokens", {
            body: { name: "reader", rights: { permissions: ["users.read", "tokens.own"] } },
        });
        const ask = (method: string, path: string, body?: unknown) =>
            admin.withToken(made.json.token, method, path, body);
        assert.equal((await ask("GET", "/api/v1/users")).status, 200);
        isProblem(await ask("POST", "/api/v1/users", { name: "x" }), 403, "permission");
        isProblem(await ask("GET", "/api/v1/roles"), 403, "permission");
        isProblem(await ask("POST", "/api/v1/tokens", { name: "more" }), 403);
        isProblem(await ask("POST", "/api/v1/tokens", { name: "more", rights: { permissions: ["roles.read"] } }), 403);
        isProblem(await ask("POST", "/api/v1/session/password", { password: PASSWORD, new_password: "x" }), 403);
        isProblem(await ask("POST", "/api/v1/logout"), 403);
        isProblem(await ask("GET", "/api/v1/sessions"), 403);
        isProblem(await ask("DELETE", `/api/v1/sessions/${as("root").entered.json.session}`), 403);
    });
});

describe("edit mode", () => {
    test("opens with minutes and a reason, is told, and closes", async () => {
        const events = await listen(as("root"));
        const body = { scope: "all", minutes: 5, reason: "to mend it" };
        isProblem(await as("root").ask("POST", "/api/v1/edit", { body: { ...body, reason: "" } }), 422);
        isProblem(await as("root").ask("POST", "/api/v1/edit", { body: { ...body, minutes: 1441 } }), 422);
        isProblem(await as("root").ask("POST", "/api/v1/edit", { body: { ...body, name: "x" } }), 422);
        isProblem(await as("root").ask("POST", "/api/v1/edit", { body: { ...body, scope: "role" } }), 422);
        isProblem(await as("olga").ask("POST", "/api/v1/edit", { body }), 403, "permission");
        const opened = await as("root").ask("POST", "/api/v1/edit", { body });
        assert.equal(opened.status, 200, opened.text);
        assert.equal(opened.json.items[0].by, "root");
        await until(() => events.events.some((item) => item.event === "edit" &&
            JSON.stringify(item.data).includes("to mend it")), "the event of edit mode");
        const closed = await as("root").ask("DELETE", "/api/v1/edit?scope=all");
        assert.deepEqual(closed.json, { closed: 1 });
        assert.deepEqual((await as("vic").get("/api/v1/edit")).json.items, []);
        events.close();
    });
});

describe("the event stream", () => {
    test("tells what its caller may read, and nothing else", async () => {
        const [vic, nobody] = [await listen(as("vic")), await listen(as("nobody"))];
        await until(() => ["edit", "upstreams", "audit"].every((name) =>
            vic.events.some((item) => item.event === name)), () => `events of vic: ${JSON.stringify(vic.events)}`);
        assert.deepEqual(nobody.events, []);
        vic.close();
        nobody.close();
    });

    test("ends with its session", async () => {
        const browser = await admin.login("vic");
        const stream = await listen(browser);
        await as("root").ask("DELETE", `/api/v1/sessions/${browser.entered.json.session}`);
        await within(stream.ended, "the stream ends");
    });
});

describe("secrets", () => {
    test("go in and never out", async () => {
        const value = `vault-${Math.random().toString(36)}-value`;
        assert.equal((await as("root").ask("PUT", "/api/v1/secrets/github", { body: { value } })).status, 204);
        const list = await as("root").get("/api/v1/secrets");
        assert.equal(list.json.items[0].name, "github");
        assert.ok(!list.text.includes(value));
        isProblem(await as("root").get("/api/v1/secrets/github"), 405);
        isProblem(await as("root").ask("PUT", "/api/v1/secrets/a%20b", { body: { value } }), 422);
        assert.equal((await as("root").ask("DELETE", "/api/v1/secrets/github")).status, 204);
        isProblem(await as("root").ask("DELETE", "/api/v1/secrets/github"), 404);
    });
});

describe("the trail", () => {
    test("has who changed what, and who was denied", async () => {
        await as("root").ask("POST", "/api/v1/users", { body: { name: "traced", password: PASSWORD } });
        await as("vic").ask("POST", "/api/v1/users", { body: { name: "untraced" } });
        const find = async (query: string) => (await as("root").get(`/api/v1/audit?${query}`)).json.items as
            { record: Record<string, unknown> }[];
        const made = await until(async () => {
            const items = await find("event=admin-user&user=user:root");
            return items.find(({ record }) => record.operation === "/api/v1/users" && record.decision === "allowed" &&
                JSON.stringify(record.members) === '["name","password"]') ?? false;
        }, "the record of the new user");
        assert.ok(!JSON.stringify(made).includes(PASSWORD));
        const denied = await until(async () => (await find("decision=denied&user=user:vic")).at(0) ?? false, "the denial");
        assert.equal(denied.record.address, "127.0.0.1");
    });

    test("filters are known or refused, and pages go on", async () => {
        isProblem(await as("root").get("/api/v1/audit?cluster_name=x"), 400);
        isProblem(await as("root").get("/api/v1/audit?status=fine"), 400);
        isProblem(await as("root").get("/api/v1/audit?since=yesterday"), 400);
        isProblem(await as("root").get("/api/v1/audit?address=here"), 400);
        const page = await as("root").get("/api/v1/audit?limit=1");
        assert.equal(page.json.items.length, 1, page.text);
        const next = await as("root").get(`/api/v1/audit?limit=1&cursor=${page.json.next}`);
        assert.notEqual(next.json.items[0].record.seq, page.json.items[0].record.seq);
    });

    test("is exported, whole and in parts", async () => {
        isProblem(await as("vic").get("/api/v1/audit/export?format=csv"), 403, "permission");
        const lines = await as("root").get("/api/v1/audit/export?format=jsonl");
        assert.equal(lines.status, 200, lines.text);
        const numbers = lines.text.trim().split("\n").map((line) => JSON.parse(line).seq);
        assert.deepEqual(numbers, numbers.map((_, i) => i + 1));
        const csv = await as("root").get("/api/v1/audit/export?format=csv&event=admin-user");
        assert.match(csv.text, /^seq,time,event,/);
        assert.match(String(csv.headers["content-disposition"]), /attachment/);
    });
});

describe("who can call what", () => {
    test("by roles", async () => {
        const read = (await as("root").get("/api/v1/access?upstream=files&operation=list")).json;
        assert.deepEqual(read.roles.map((role: { name: string }) => role.name).sort(),
            ["administrator", "operator", "viewer"]);
        const write = (await as("root").get("/api/v1/access?upstream=files&operation=list&access=write&limit=1")).json;
        assert.deepEqual(write.roles.map((role: { name: string }) => role.name).sort(), ["administrator", "operator"]);
        assert.equal(write.users.length, 1);
        assert.notEqual(write.next, null);
        isProblem(await as("vic").get("/api/v1/access?upstream=files"), 403);
    });
});
