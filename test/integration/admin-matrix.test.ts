/*
 * Every route of the console's API, as everybody: what is answered follows from the permission of its row alone, what is
 * refused changes nothing and is in the trail, and no refusal tells what there is. The routes are read from the API's own
 * document, so that none is forgotten; SAMPLES has a request for each that works for whoever may.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";

import { documentOf, PASSWORD, routesOf, startAdmin, type Admin, type Answer, type Browser, type Route } from "./lib/admin.ts";
import { Reader, type Line } from "./lib/audit.ts";
import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";

/** What the roles give, written once more: from the issue, not from the program. */
const VIEWER = ["status.read", "upstreams.read", "audit.read", "tokens.own"];
const OPERATOR = [...VIEWER, "config.read", "upstreams.test"];
const FEW = ["status.read", "users.read", "tokens.own"];
const LOGIN_PASSWORD = `${PASSWORD} for visitors`;
/** What somebody may who has to change the password first. */
const BEFORE_CHANGE = ["POST /api/v1/logout", "GET /api/v1/session", "POST /api/v1/session/password"];

let admin: Admin;
let fixture: HttpFixture;
let root: Browser;
let routes: Route[] = [];
let dataDir = "";
let serial = 0;
const fresh = (what: string): string => `${what}-${++serial}`;

/* --- somebody who asks --- */

interface Caller {
    name: string;
    /** of the store; undefined: nobody */
    user?: string;
    /** what they may; "all": an administrator */
    permissions: string[] | "all";
    /** they are nobody, whatever they send; they have to change the password; they have a token */
    kind: "nobody" | "due" | "token" | "session";
    headers: () => Record<string, string>;
}

const has = (caller: Caller, permission: string): boolean =>
    caller.permissions === "all" || caller.permissions.includes(permission);

/* --- a request for each route that works --- */

interface Sample {
    /** of the path, in order */
    objects?: (caller: Caller) => Promise<string[]>;
    query?: string;
    body?: (caller: Caller) => unknown;
    /** what is answered to whoever may; 2xx when it is left out */
    status?: number;
    /** it ends the session that it comes with: that is another one each time */
    ends?: boolean;
}

const made = async (path: string, body: unknown): Promise<string> => {
    const answer = await root.ask("POST", path, { body });
    assert.equal(answer.status, 201, `${path}: ${answer.text}`);
    return answer.json.id as string;
};
const someUser = async (): Promise<string[]> => [await made("/api/v1/users", { name: fresh("user"), roles: [] })];
const someRole = async (): Promise<string[]> => [await made("/api/v1/roles", { name: fresh("role"), rights: { permissions: [] } })];

/** Nobody listens there. */
const NOBODY = { url: "http://127.0.0.1:9/mcp" };
const someUpstream = async (): Promise<string[]> => {
    const name = fresh("upstream");
    const answer = await root.ask("POST", "/api/v1/upstreams", { body: { name, definition: NOBODY } });
    assert.equal(answer.status, 201, answer.text);
    return [name];
};

const SAMPLES: Record<string, Sample> = {
    "POST /api/v1/login": { body: () => ({ name: "guest", password: LOGIN_PASSWORD }), ends: true },
    "POST /api/v1/logout": { ends: true },
    "GET /api/v1/session": {},
    // With a wrong one, so that everybody keeps theirs: 403, but of the kind "login".
    "POST /api/v1/session/password": { body: () => ({ password: "is not the present one", new_password: `${PASSWORD} anew` }), status: 403 },
    "GET /api/v1/setup": {},
    "POST /api/v1/setup": { body: () => ({ code: "c".repeat(43), name: "earliest", password: PASSWORD }), status: 409 },
    "GET /api/v1/sessions": {},
    "DELETE /api/v1/sessions/{session}": {
        objects: async (caller) => [(await admin.login(caller.user ?? "guest", caller.user === undefined ? LOGIN_PASSWORD : PASSWORD)).entered.json.session],
    },
    "GET /api/v1/users": { query: "limit=5" },
    "POST /api/v1/users": { body: () => ({ name: fresh("made"), roles: ["viewer"] }) },
    "GET /api/v1/users/{user}": { objects: async () => ["guest"] },
    "PATCH /api/v1/users/{user}": { objects: someUser, body: () => ({ display_name: "Changed" }) },
    "DELETE /api/v1/users/{user}": { objects: someUser },
    "POST /api/v1/users/{user}/password": { objects: someUser, body: () => ({ password: `${PASSWORD} of theirs` }) },
    "GET /api/v1/roles": {},
    "POST /api/v1/roles": { body: () => ({ name: fresh("made"), rights: { permissions: ["status.read"] } }) },
    "GET /api/v1/roles/{role}": { objects: async () => ["viewer"] },
    "PATCH /api/v1/roles/{role}": { objects: someRole, body: () => ({ description: "Changed" }) },
    "DELETE /api/v1/roles/{role}": { objects: someRole },
    "GET /api/v1/access": { query: "upstream=it" },
    "GET /api/v1/tokens": {},
    "POST /api/v1/tokens": { body: () => ({ name: fresh("token"), days: 1, rights: { permissions: ["tokens.own"] } }) },
    "DELETE /api/v1/tokens/{token}": { objects: async (caller) => [await made("/api/v1/tokens", { name: fresh("token"), user: caller.user ?? "guest" })] },
    "DELETE /api/v1/users/{user}/tokens": { objects: someUser },
    "GET /api/v1/edit": {},
    "POST /api/v1/edit": { body: () => ({ scope: "upstream", name: fresh("upstream"), minutes: 1, reason: "a test" }) },
    "DELETE /api/v1/edit": { query: "scope=upstream" },
    "GET /api/v1/secrets": {},
    "PUT /api/v1/secrets/{secret}": { objects: async () => [fresh("secret")], body: () => ({ value: "a value of the matrix" }) },
    "DELETE /api/v1/secrets/{secret}": {
        objects: async () => {
            const name = fresh("secret");
            assert.equal((await root.ask("PUT", `/api/v1/secrets/${name}`, { body: { value: "a value of the matrix" } })).status, 204);
            return [name];
        },
    },
    "GET /api/v1/audit": { query: "limit=5" },
    "GET /api/v1/audit/head": {},
    "GET /api/v1/audit/export": { query: "format=csv&event=start" },
    "GET /api/v1/upstreams": {},
    "GET /api/v1/upstreams/{upstream}": { objects: async () => ["it"] },
    "POST /api/v1/upstreams": { body: () => ({ name: fresh("made"), definition: NOBODY }) },
    "PATCH /api/v1/upstreams/{upstream}": { objects: someUpstream, body: () => ({ is_disabled: true }) },
    "DELETE /api/v1/upstreams/{upstream}": { objects: someUpstream },
    "POST /api/v1/upstreams/{upstream}/test": { objects: async () => ["it"] },
    "POST /api/v1/upstream-test": { body: () => ({ definition: NOBODY }) },
    "GET /api/v1/tools": {},
    "GET /api/v1/health": {},
    "GET /api/v1/statistics": {},
    "GET /api/v1/config": {},
    "GET /api/v1/events": {},
    "GET /api/v1/openapi.json": {},
};

/** A route that has no sample yet is refused to whoever may not all the same: with any object, any body. */
async function requestOf(route: Route, caller: Caller): Promise<{ path: string; body: string }> {
    const sample = SAMPLES[route.name] ?? {};
    const objects = (await sample.objects?.(caller)) ?? ["it", "it"];
    let next = 0;
    const path = route.path.replace(/\{\w+\}/g, () => encodeURIComponent(objects[next++] ?? "it"));
    const body = route.body === undefined ? "" : JSON.stringify(sample.body?.(caller) ?? {});
    return { path: sample.query === undefined ? path : `${path}?${sample.query}`, body };
}

async function ask(route: Route, caller: Caller): Promise<Answer> {
    const { path, body } = await requestOf(route, caller);
    const headers: Record<string, string> = { ...caller.headers() };
    if (SAMPLES[route.name]?.ends === true && caller.kind !== "nobody" && caller.kind !== "token") {
        const other = await admin.login(caller.user!, PASSWORD);
        Object.assign(headers, other.headers, { "x-csrf-token": other.csrf });
    }
    if (body !== "") headers["content-type"] = "application/json";
    if (route.needsMatch) headers["if-match"] = "*";
    last = dump();
    return admin.ask(route.method, path, headers, body);
}

/* --- what is in the store --- */

/** What changes by being looked at. */
const PASSING: Record<string, string[]> = { sessions: ["seen_ms"], tokens: ["used_ms"], users: ["login_ms"] };
let last = "";

function dump(): string {
    const store = new DatabaseSync(join(dataDir, "store.sqlite"), { readOnly: true });
    try {
        store.exec("PRAGMA busy_timeout = 5000");
        const tables = store.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").all() as { name: string }[];
        return tables
            .filter(({ name }) => name !== "login_failures" && !name.startsWith("sqlite_"))
            .map(({ name }) => {
                const rows = store.prepare(`SELECT * FROM ${name} ORDER BY 1, 2`).all() as Record<string, unknown>[];
                for (const row of rows) for (const column of PASSING[name] ?? []) delete row[column];
                return `${name}\n${rows.map((row) => JSON.stringify(row)).join("\n")}`;
            })
            .join("\n\n");
    } finally {
        store.close();
    }
}

/* --- what has to be --- */

interface Expected {
    status: number;
    kind?: string;
}

/** Why they may not, from the permission alone; undefined: they may. */
function refusalOf(route: Route, caller: Caller): Expected | undefined {
    if (route.permission === "public") return undefined;
    if (caller.kind === "nobody") return { status: 401 };
    if (caller.kind === "due" && !BEFORE_CHANGE.includes(route.name)) return { status: 403, kind: "password-change" };
    if (route.permission === "self") {
        // Sessions are the browser's of whoever has them.
        if (caller.kind !== "token") return undefined;
        return route.method === "GET" && (route.path !== "/api/v1/sessions" || has(caller, "sessions.all")) ? undefined : { status: 403 };
    }
    return has(caller, route.permission) ? undefined : { status: 403, kind: "permission" };
}

interface Refused {
    what: string;
    id: string;
    status: number;
    isKnown: boolean;
    route: Route;
}
const refused: Refused[] = [];

function isRefused(route: Route, caller: Caller, answer: Answer, expected: Expected): void {
    const what = `${caller.name}: ${route.name} (${route.permission}): ${answer.status} ${answer.text}`;
    assert.equal(answer.status, expected.status, what);
    assert.equal(answer.headers["content-type"], "application/problem+json", what);
    if (expected.kind !== undefined) assert.equal(answer.json.type, `urn:cardea:problem:${expected.kind}`, what);
    assert.equal(dump(), last, `${what}: something has changed`);
    refused.push({ what, id: answer.json.instance as string, status: answer.status, isKnown: caller.kind !== "nobody", route });
}

function isAllowed(route: Route, caller: Caller, answer: Answer): void {
    const { status } = SAMPLES[route.name]!;
    const what = `${caller.name}: ${route.name} (${route.permission}): ${answer.status} ${answer.text}`;
    if (status === undefined) assert.ok(answer.status >= 200 && answer.status < 300, what);
    else assert.equal(answer.status, status, what);
    assert.ok(!["urn:cardea:problem:permission", "urn:cardea:problem:csrf"].includes(answer.json?.type), what);
}

/* --- everybody --- */

const callers: Caller[] = [];

const bySession = (name: string, permissions: Caller["permissions"], browser: Browser, kind: Caller["kind"] = "session"): void => {
    const user = kind === "nobody" ? undefined : name;
    callers.push({ name, ...(user === undefined ? {} : { user }), permissions, kind, headers: () => ({ ...browser.headers, "x-csrf-token": browser.csrf }) });
};
const byToken = (name: string, permissions: Caller["permissions"], token: string, kind: Caller["kind"], user?: string): void => {
    callers.push({ name, ...(user === undefined ? {} : { user }), permissions, kind, headers: () => ({ authorization: `Bearer ${token}` }) });
};
const tokenOf = async (user: string, more: object = {}): Promise<string> => {
    const answer = await root.ask("POST", "/api/v1/tokens", { body: { name: fresh("token"), user, ...more } });
    assert.equal(answer.status, 201, answer.text);
    return answer.json.token as string;
};

/** As if it had been a while. */
function change(sql: string, ...values: string[]): void {
    const store = new DatabaseSync(join(dataDir, "store.sqlite"));
    store.exec("PRAGMA busy_timeout = 5000");
    assert.ok(store.prepare(sql).run(...values).changes > 0, sql);
    store.close();
}

before(async () => {
    fixture = await startHttp({ name: "it" });
    admin = await startAdmin({
        users: [
            { name: "root", roles: ["administrator"] }, { name: "boss", roles: ["administrator"] },
            { name: "olga", roles: ["operator"] }, { name: "vic", roles: ["viewer"] }, { name: "bare", roles: [] },
            { name: "gone", roles: ["administrator"] }, { name: "late", roles: ["administrator"] }, { name: "idle", roles: ["administrator"] },
        ],
        config: { servers: { it: { url: fixture.url, share: "all" } } },
    });
    dataDir = admin.gateway.dataDir;
    root = await admin.login("root");
    routes = routesOf(await documentOf(admin));
    await made("/api/v1/users", { name: "guest", roles: ["viewer"], password: LOGIN_PASSWORD, must_change: false });
    await made("/api/v1/roles", { name: "nothing", rights: { permissions: [], operations: [] } });
    await root.change("PATCH", "/api/v1/users/bare", { roles: ["nothing"] });
    await made("/api/v1/users", { name: "due", roles: ["administrator"], password: PASSWORD });

    callers.push({ name: "nobody", permissions: [], kind: "nobody", headers: () => ({}) });
    bySession("vic", VIEWER, await admin.login("vic"));
    bySession("olga", OPERATOR, await admin.login("olga"));
    bySession("bare", [], await admin.login("bare"));
    bySession("due", "all", await admin.login("due"), "due");
    bySession("boss", "all", await admin.login("boss"));
    byToken("a token with few rights", FEW, await tokenOf("boss", { rights: { permissions: FEW } }), "token", "boss");
    byToken("a token with no rights", [], await tokenOf("boss", { rights: { permissions: [] } }), "token", "boss");
    byToken("a token with all rights", "all", await tokenOf("boss"), "token", "boss");
    byToken("a viewer's token", VIEWER, await tokenOf("vic"), "token", "vic");

    for (const name of ["gone", "late", "idle"]) bySession(name, [], await admin.login(name), "nobody");
    byToken("the token of somebody disabled", [], await tokenOf("gone"), "nobody");
    const expired = await tokenOf("boss", { name: "over" });
    byToken("a token that is over", [], expired, "nobody");
    assert.equal((await root.change("PATCH", "/api/v1/users/gone", { is_disabled: true })).status, 200);
    const of = "WHERE user_id = (SELECT id FROM users WHERE name = ?)";
    change(`UPDATE sessions SET ends_ms = 1 ${of}`, "late");
    change(`UPDATE sessions SET seen_ms = 1 ${of}`, "idle");
    change("UPDATE tokens SET expires_ms = 1 WHERE name = ?", "over");
});
after(async () => {
    admin.close();
    await admin.gateway.stop();
    await fixture.close();
});

describe("every route", () => {
    test("has a sample here, and every sample a route", () => {
        for (const route of routes) assert.ok(route.name in SAMPLES, `route ${route.name} has no sample here: add one to SAMPLES`);
        const names = routes.map(({ name }) => name);
        for (const name of Object.keys(SAMPLES)) assert.ok(names.includes(name), `${name} is no route any more`);
    });

    test("as everybody", async (t) => {
        for (const caller of callers) {
            await t.test(caller.name, async () => {
                for (const route of routes) {
                    const expected = refusalOf(route, caller);
                    if (expected === undefined && SAMPLES[route.name] === undefined) continue;
                    const answer = await ask(route, caller);
                    if (expected !== undefined) isRefused(route, caller, answer, expected);
                    else isAllowed(route, caller, answer);
                }
            });
        }
    });

    test("HEAD is answered as GET, without a body", async () => {
        for (const route of routes.filter(({ method }) => method === "GET")) {
            for (const caller of callers.filter(({ name }) => ["nobody", "bare", "boss"].includes(name))) {
                const { path } = await requestOf(route, caller);
                const got = await admin.ask("GET", path, caller.headers());
                const head = await admin.ask("HEAD", path, caller.headers());
                const what = `${caller.name}: HEAD ${path}`;
                assert.equal(head.status, got.status, what);
                assert.equal(head.text, "", what);
            }
        }
    });
});

describe("what belongs to somebody else", () => {
    /** The same answer as of what is not there, but for the id of the request. */
    async function isLikeNothing(caller: Caller, method: string, path: (object: string) => string, object: string, nothing: string): Promise<void> {
        const headers = { ...caller.headers(), "if-match": "*" };
        const before = dump();
        const [there, not] = [await admin.ask(method, path(object), headers), await admin.ask(method, path(nothing), headers)];
        const what = `${caller.name}: ${method} ${path(object)}: ${there.text} and ${not.text}`;
        assert.equal(there.status, not.status, what);
        const bare = ({ json }: Answer) => ({ ...json, instance: "" }) as unknown;
        assert.deepEqual(bare(there), bare(not), what);
        assert.ok(there.status === 404 || there.status === 403, what);
        assert.equal(dump(), before, what);
    }
    const weak = () => callers.filter((caller) => caller.kind !== "nobody" && caller.permissions !== "all");

    test("sessions and tokens of others are not there", async () => {
        const guest = await admin.login("guest", LOGIN_PASSWORD);
        const token = await made("/api/v1/tokens", { name: "of the guest", user: "guest" });
        for (const caller of weak()) {
            await isLikeNothing(caller, "DELETE", (id) => `/api/v1/sessions/${id}`, guest.entered.json.session, "A".repeat(22));
            await isLikeNothing(caller, "DELETE", (id) => `/api/v1/tokens/${id}`, token, "A".repeat(22));
        }
        assert.equal((await guest.get("/api/v1/session")).status, 200);
    });

    test("who may not look does not learn who there is", async () => {
        const id = (await root.get("/api/v1/users/guest")).json.id as string;
        const secret = fresh("secret");
        await root.ask("PUT", `/api/v1/secrets/${secret}`, { body: { value: "a value of the matrix" } });
        for (const caller of weak().filter(({ permissions }) => permissions !== FEW)) {
            for (const name of ["guest", id]) {
                await isLikeNothing(caller, "GET", (user) => `/api/v1/users/${user}`, name, "nobody-has-this-name");
                await isLikeNothing(caller, "DELETE", (user) => `/api/v1/users/${user}`, name, "nobody-has-this-name");
                await isLikeNothing(caller, "GET", (user) => `/api/v1/tokens?user=${user}`, name, "nobody-has-this-name");
                await isLikeNothing(caller, "GET", (user) => `/api/v1/sessions?user=${user}`, name, "nobody-has-this-name");
            }
            await isLikeNothing(caller, "DELETE", (role) => `/api/v1/roles/${role}`, "nothing", "no-such-role");
            await isLikeNothing(caller, "DELETE", (name) => `/api/v1/secrets/${name}`, secret, "no-such-secret");
        }
        // A new token, too: whether the user is there is told to whoever may make them for others.
        for (const caller of callers.filter(({ name }) => name === "vic")) {
            const tried = await Promise.all(["guest", "nobody-has-this-name"].map((user) =>
                admin.ask("POST", "/api/v1/tokens", { ...caller.headers(), "content-type": "application/json" }, JSON.stringify({ name: "x", user }))));
            assert.deepEqual(tried.map(({ status, json }) => [status, json.detail]), [[403, tried[0]!.json.detail], [403, tried[0]!.json.detail]]);
        }
    });

    test("where a page of tokens ended tells nothing of those of others", async () => {
        const token = await made("/api/v1/tokens", { name: "of the guest", user: "guest" });
        const vic = callers.find(({ name }) => name === "vic")!;
        const ask = (cursor: string) => admin.ask("GET", `/api/v1/tokens?cursor=${Buffer.from(cursor).toString("base64url")}`, vic.headers());
        const [there, not] = [await ask(token), await ask("A".repeat(22))];
        assert.equal(there.status, not.status, `${there.text} and ${not.text}`);
        assert.deepEqual(there.json.items ?? [], not.json.items ?? []);
    });
});

describe("the trail", () => {
    test("has every refusal", async () => {
        assert.ok(refused.length > 200, `${refused.length} were refused`);
        await admin.gateway.stop(); // it writes what it has counted
        const lines = new Map<string, Line>();
        let counted = 0;
        for (const line of new Reader(dataDir).lines) {
            if (line.event === "denied" && /console/.test(String(line.reason))) counted += Number(line.count);
            else if (line.id !== undefined && line.decision === "denied") lines.set(line.id, line);
        }
        for (const { what, id, status, route } of refused.filter(({ isKnown }) => isKnown)) {
            const line = lines.get(id);
            assert.ok(line !== undefined, `not recorded: ${what}`);
            assert.equal(line.operation, route.path, what);
            assert.equal(line.method, route.method, what);
            assert.equal(line.http_status, status, what);
            assert.equal(line.event, route.audit, what);
            assert.equal(line.address, "127.0.0.1", what);
            assert.match(String(line.user), /^user:/, what);
        }
        // Those of strangers are counted, so that nobody fills the trail from outside.
        const strangers = refused.filter(({ isKnown }) => !isKnown);
        assert.ok(counted >= strangers.length, `${counted} of ${strangers.length} are counted`);
        for (const { what, id } of strangers) assert.ok(!lines.has(id), `a line of its own: ${what}`);
    });
});

