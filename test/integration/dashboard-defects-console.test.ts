/*
 * What is wrong in the Nexus Dashboard MCP server in its console, its store and its trail, each as a test of its own: the
 * numbers are those of the study of its source (lib/defects.ts). On the way of a call: dashboard-defects.test.ts.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { Admin, COOKIE, documentOf, listen, PASSWORD, routesOf, startAdmin, type Answer, type Browser } from "./lib/admin.ts";
import { auditDir, Reader, segments, verify } from "./lib/audit.ts";
import { cardea } from "./lib/cli.ts";
import { defect, LATER, N_DEFECTS } from "./lib/defects.ts";
import { startGateway } from "./lib/gateway.ts";
import { send } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { CLUSTER_KEY, Postgres } from "./lib/postgres.ts";
import { Disk, EIO } from "./lib/power.ts";
import { askReload, configFile } from "./lib/reload.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { downReason, refusal, said } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const JSON_TYPE = { "content-type": "application/json" };

describe("dashboard: the console", () => {
    let fixture: HttpFixture;
    let admin: Admin;
    let root: Browser;
    let vic: Browser;
    before(async () => {
        const tools = ["list_vlans", "create_vlan", "delete_vlan"].map((name) => ({ name, inputSchema: { type: "object" } }));
        fixture = await startHttp({
            tools,
            on: (exchange) => {
                if (exchange.message.method !== "tools/call") return false;
                exchange.json(exchange.answer("did it"));
                return true;
            },
        });
        admin = await startAdmin({
            users: [{ name: "root", roles: ["administrator"] }, { name: "olga", roles: ["operator"] }, { name: "vic", roles: ["viewer"] }],
            config: {
                servers: {
                    dc: { url: fixture.url, share: "all", tools: { list_vlans: { access: "read" } } },
                    gone: { url: "http://127.0.0.1:9/mcp", share: "all" },
                },
            },
        });
        await admin.gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "dc");
        [root, vic] = [await admin.login("root"), await admin.login("vic")];
    });
    after(async () => {
        admin.close();
        await admin.gateway.stop();
        await fixture.close();
    });

    const made = async (path: string, body: object, by = root): Promise<Answer> => {
        const answer = await by.ask("POST", path, { body });
        assert.equal(answer.status, 201, `${path}: ${answer.text}`);
        return answer;
    };
    const clientOf = async (user: string, more: object = {}): Promise<ModernClient> => {
        const { token } = (await made("/api/v1/tokens", { name: "a client", user, ...more })).json as { token: string };
        return new ModernClient({ port: admin.gateway.port, token });
    };
    const tryLogin = (name: string, password: string): Promise<Answer> =>
        admin.ask("POST", "/api/v1/login", JSON_TYPE, JSON.stringify({ name, password }));
    const command = async (...args: string[]) =>
        cardea([...args, "-c", configFile(admin.gateway), "--data-dir", admin.gateway.dataDir]);
    const fine = async (...args: string[]): Promise<string> => {
        const run = await command(...args);
        assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
        return run.stdout;
    };
    const lines = () => new Reader(admin.gateway.dataDir).lines;

    /* --- access --- */

    defect(1, "servers, users, edit mode and the trail need no login", async () => {
        for (const route of routesOf(await documentOf(admin)).filter(({ permission }) => permission !== "public")) {
            const answer = await admin.ask(route.method, route.path.replace(/\{\w+\}/, "dc"), route.body === undefined ? {} : JSON_TYPE,
                route.body === undefined ? "" : JSON.stringify({ scope: "all", minutes: 5, reason: "mine" }));
            assert.equal(answer.status, 401, `${route.name}: ${answer.text}`);
        }
        assert.deepEqual((await root.get("/api/v1/edit")).json.items, []);
    });

    defect(3, "what a role says of edit mode is never asked", async () => {
        const [viewer, operator] = [await clientOf("vic"), await clientOf("olga")];
        assert.match(await refusal(operator.call("dc__create_vlan")), /edit mode is off/);
        assert.equal((await root.ask("POST", "/api/v1/edit", { body: { scope: "role", name: "viewer", minutes: 5, reason: "a test" } })).status, 200);
        assert.match(await refusal(operator.call("dc__create_vlan")), /edit mode is off/, "it is open for another role");
        assert.equal((await root.ask("POST", "/api/v1/edit", { body: { scope: "all", minutes: 5, reason: "a test" } })).status, 200);
        assert.equal(await said(operator.call("dc__create_vlan")), "did it");
        assert.match(await refusal(viewer.call("dc__create_vlan")), /roles let you only read/, "whoever opened it");
        for (const scope of ["all", "role"]) await root.ask("DELETE", `/api/v1/edit?scope=${scope}`);
        assert.match(await refusal(operator.call("dc__create_vlan")), /edit mode is off/);
    });

    defect(4, "any user gives itself access", async () => {
        for (const [name, role] of [["vic", "viewer"], ["olga", "operator"]] as const) {
            const self = name === "vic" ? vic : await admin.login(name);
            for (const [method, path, body] of [
                ["PATCH", `/api/v1/users/${name}`, { roles: ["administrator"] }], ["PATCH", `/api/v1/users/${self.entered.json.user.id}`, { roles: ["administrator"] }],
                ["PATCH", `/api/v1/roles/${role}`, { rights: { permissions: ["users.write"] } }], ["POST", "/api/v1/roles", { name: "mine", rights: {} }],
                ["POST", "/api/v1/tokens", { name: "more", rights: { permissions: ["users.write"] } }], ["POST", "/api/v1/tokens", { name: "theirs", user: "root" }],
                ["POST", "/api/v1/edit", { scope: "all", minutes: 5, reason: "mine" }],
            ] as const) {
                const answer = await self.ask(method, path, { body, headers: { "if-match": "*" } });
                assert.equal(answer.status, 403, `${name}: ${method} ${path}: ${answer.text}`);
            }
            assert.deepEqual((await root.get(`/api/v1/users/${name}`)).json.roles, [role]);
        }
    });

    defect(7, "an event goes to everybody who listens", async () => {
        await made("/api/v1/users", { name: "deaf", roles: [], password: PASSWORD, must_change: false });
        const [all, none] = [await listen(vic), await listen(await admin.login("deaf"))];
        await root.ask("POST", "/api/v1/edit", { body: { scope: "upstream", name: "dc", minutes: 1, reason: "for those who may know" } });
        await until(() => JSON.stringify(all.events).includes("for those who may know"), "whoever may know is told");
        assert.deepEqual(none.events, []);
        await root.ask("DELETE", "/api/v1/edit?scope=upstream");
        all.close();
        none.close();
    });

    defect(8, "until somebody is there everything is open, and whoever comes first is administrator", async (t) => {
        const empty = await startAdmin({ users: [] }, t);
        assert.deepEqual((await empty.ask("GET", "/api/v1/setup")).json, { is_needed: true });
        for (const route of routesOf(await documentOf(empty)).filter(({ permission }) => permission !== "public")) {
            assert.equal((await empty.ask(route.method, route.path.replace(/\{\w+\}/, "x"))).status, 401, route.name);
        }
        const body = (code?: string) => JSON.stringify({ ...(code === undefined ? {} : { code }), name: "thief", password: PASSWORD });
        assert.equal((await empty.ask("POST", "/api/v1/setup", JSON_TYPE, body())).status, 422);
        for (const code of ["x", "A".repeat(43)]) assert.equal((await empty.ask("POST", "/api/v1/setup", JSON_TYPE, body(code))).status, 401);
        const store = new DatabaseSync(join(empty.gateway.dataDir, "store.sqlite"), { readOnly: true });
        assert.deepEqual(store.prepare("SELECT name FROM users").all(), []);
        store.close();
        // Nor is there an account that everybody knows.
        for (const [name, password] of [["admin", "admin"], ["admin", "password"], ["administrator", "administrator"], ["root", "root"]] as const) {
            assert.equal((await empty.ask("POST", "/api/v1/login", JSON_TYPE, JSON.stringify({ name, password }))).status, 401);
        }
    });

    defect(10, "guessing is free; passwords are short, tokens eternal, single and readable", async () => {
        await made("/api/v1/users", { name: "pat", roles: ["viewer"], password: PASSWORD, must_change: false });
        const pat = await admin.login("pat");
        for (const password of ["short", "password1234", "pat-pat-pat-pat", "aaaaaaaaaaaaaa"]) {
            assert.equal((await root.ask("POST", "/api/v1/users/pat/password", { body: { password } })).status, 422, password);
            assert.equal((await root.ask("POST", "/api/v1/users", { body: { name: "pat2", password } })).status, 422, password);
            assert.equal((await pat.ask("POST", "/api/v1/session/password", { body: { password: PASSWORD, new_password: password } })).status, 422, password);
        }
        assert.equal((await pat.ask("POST", "/api/v1/tokens", { body: { name: "no CSRF token" }, noCsrf: true })).status, 403);
        const tokens = await Promise.all([1, 2].map(async (days) => (await made("/api/v1/tokens", { name: `${days} days`, days }, pat)).json as { id: string; token: string }));
        const listed = await pat.get("/api/v1/tokens");
        for (const { token } of tokens) {
            assert.ok(!listed.text.includes(token.slice(-43)) && !(await pat.get("/api/v1/session")).text.includes(token.slice(-43)));
            for (const file of readdirSync(admin.gateway.dataDir).filter((name) => name.startsWith("store"))) {
                assert.ok(!readFileSync(join(admin.gateway.dataDir, file)).includes(token.slice(-43)), file);
            }
        }
        assert.ok(listed.json.items.every(({ expires }: { expires: string }) => Date.parse(expires) > Date.now()));
        assert.equal((await pat.ask("DELETE", `/api/v1/tokens/${tokens[0]!.id}`)).status, 204);
        assert.equal((await admin.withToken(tokens[0]!.token, "GET", "/api/v1/session")).status, 401);
        assert.equal((await admin.withToken(tokens[1]!.token, "GET", "/api/v1/session")).status, 200);
        const statuses: number[] = [];
        for (let i = 0; i < 8; i++) statuses.push((await tryLogin("pat", `${PASSWORD} no. ${i}`)).status);
        assert.ok(statuses.includes(401) && statuses.at(-1) === 429, statuses.join(" "));
    });

    /* --- on the wire --- */

    defect(11, "the same is served in the clear beside TLS", async () => {
        const socket = connect(admin.port, "127.0.0.1");
        let text = "";
        const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
        socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        socket.write(`GET /api/v1/openapi.json HTTP/1.1\r\nHost: ${admin.host}\r\n\r\n`);
        await within(ended, "the connection is closed");
        assert.match(text, /^HTTP\/1\.1 400 [\s\S]*HTTPS/);
        // The one for calls has nothing of the console, and is for this machine alone.
        assert.match(admin.gateway.host, /^127\.0\.0\.1:/);
        for (const path of ["/api/v1/users", "/api/v1/openapi.json", "/api/v1/login", "/api/v1/setup"]) {
            assert.equal((await send(admin.gateway, { method: "GET", path })).status, 404, path);
        }
    });

    defect(12, "a cookie without Secure, for a day, whatever happens", async () => {
        const line = String(vic.entered.headers["set-cookie"]);
        for (const part of ["__Host-", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"]) assert.ok(line.includes(part), line);
        assert.doesNotMatch(line, /Domain|Max-Age|Expires/i);
        const sleepy = await admin.login("vic");
        const store = new DatabaseSync(join(admin.gateway.dataDir, "store.sqlite"));
        store.exec("PRAGMA busy_timeout = 5000");
        const id = sleepy.entered.json.session as string;
        const row = store.prepare("SELECT created_ms, idle_ms, ends_ms FROM sessions WHERE id = ?").get(id) as Record<string, number>;
        assert.deepEqual([row.idle_ms, row.ends_ms! - row.created_ms!], [3_600_000, 12 * 3_600_000]);
        assert.equal((await sleepy.get("/api/v1/session")).status, 200);
        store.prepare("UPDATE sessions SET seen_ms = seen_ms - 3600000 WHERE id = ?").run(id);
        store.close();
        assert.equal((await sleepy.get("/api/v1/session")).status, 401);
    });

    defect(13, "a key that everybody may read, a certificate that nobody can trust", async () => {
        const tls = join(admin.gateway.dataDir, "tls");
        const secret = readdirSync(tls).filter((name) => /key/.test(name));
        assert.ok(secret.length > 0, readdirSync(tls).join(" "));
        for (const name of secret) assert.equal(statSync(join(tls, name)).mode & 0o077, 0, name);
        assert.equal(statSync(admin.gateway.dataDir).mode & 0o077, 0);
        const shake = (ca?: string) => new Promise<string>((resolve) => {
            const socket = connectTls({ host: "127.0.0.1", port: admin.port, ...(ca === undefined ? {} : { ca }) });
            socket.once("error", (error) => resolve(error.message));
            socket.once("secureConnect", () => {
                const { subject, issuer } = socket.getPeerCertificate();
                resolve(JSON.stringify(subject) === JSON.stringify(issuer) ? "signed by itself" : "trusted");
                socket.destroy();
            });
        });
        assert.equal(await shake(admin.ca), "trusted", "by whoever has the authority's certificate, without switching anything off");
        assert.match(await shake(), /certificate/);
    });

    /* --- secrets --- */

    defect(15, "one key for all who install it, another one for each call, none that can be changed", async (t) => {
        const value = "a-secret-of-this-test";
        const places = [1, 2].map(() => {
            const folder = temporaryFolder();
            t.after(() => removeFolder(folder));
            writeFileSync(join(folder, "cardea.toml"), "");
            return folder;
        });
        const run = async (folder: string, args: string[], input?: string) => {
            const { CARDEA_ENCRYPTION_KEY: _, ...env } = process.env;
            return cardea([...args, "-c", join(folder, "cardea.toml"), "--data-dir", join(folder, "data")], { env, ...(input === undefined ? {} : { input }) });
        };
        const keysOf = (folder: string): string[] => readdirSync(join(folder, "data")).filter((name) => /key/.test(name));
        for (const folder of places) {
            const set = await run(folder, ["secret", "set", "one"], `${value}\n`);
            assert.equal(set.code, 0, set.stderr);
            for (const name of keysOf(folder)) assert.equal(statSync(join(folder, "data", name)).mode & 0o077, 0, name);
        }
        const [a, b] = places.map((folder) => keysOf(folder).map((name) => readFileSync(join(folder, "data", name), "utf8")).join("\n"));
        assert.ok(a!.length > 40 && a !== b, "each has a key of its own");
        const opens = async (folder: string) => (JSON.parse((await run(folder, ["secret", "list", "--json"])).stdout) as { opens: boolean }[])[0]!.opens;
        assert.equal(await opens(places[0]!), true);
        const rotated = await run(places[0]!, ["key", "rotate"]);
        assert.equal(rotated.code, 0, rotated.stderr);
        assert.notEqual(keysOf(places[0]!).map((name) => readFileSync(join(places[0]!, "data", name), "utf8")).join("\n"), a);
        assert.equal(await opens(places[0]!), true, "with the new key, too");
        const files = readdirSync(join(places[0]!, "data")).filter((name) => name.startsWith("store"));
        for (const name of files) assert.ok(!readFileSync(join(places[0]!, "data", name)).includes(value), name);
    });

    defect(35, "what is changed reaches a server after a restart", async (t) => {
        const token = async (value: string): Promise<void> => {
            assert.equal((await root.ask("PUT", "/api/v1/secrets/changing", { body: { value } })).status, 204);
        };
        await token("the-token-before-that");
        const text = readFileSync(configFile(admin.gateway), "utf8");
        t.after(async () => {
            writeFileSync(configFile(admin.gateway), text);
            await askReload(admin.gateway);
        });
        writeFileSync(configFile(admin.gateway), `${text}\n[mcp.servers.authenticated]\nurl = ${JSON.stringify(fixture.url)}\nauth.token = "{{ secret.changing }}"\n`);
        const shown = async (): Promise<string> => {
            const from = fixture.requests.items.length;
            const { run } = await askReload(admin.gateway);
            assert.equal(run.code, 0, run.stdout);
            const { field } = await fixture.requests.waitFor((each) => String(each.field("authorization")).startsWith("Bearer the-token"), from);
            return String(field("authorization"));
        };
        assert.equal(await shown(), "Bearer the-token-before-that");
        await token("the-token-after-that");
        assert.equal(await shown(), "Bearer the-token-after-that");
    });

    /* --- the trail --- */

    defect(16, "who called, from where, at which server, how long: all empty", async () => {
        const { id } = (await root.get("/api/v1/users/olga")).json as { id: string };
        const client = await clientOf("olga");
        await said(client.call("dc__list_vlans", { mark: "of-defect-16" }));
        const line = await until(() => lines().find((each) => each.event === "call" && JSON.stringify(each).includes("of-defect-16")), "the record of the call");
        const shown = JSON.stringify(line);
        assert.match(String(line.user), /olga/, `${shown} of ${id}`);
        assert.equal(line.address, "127.0.0.1", shown);
        assert.equal(line.upstream, "dc", shown);
        assert.ok(Number(line.duration_us) > 0, shown);
        assert.ok(typeof line.token === "string" && !shown.includes("cardea_"), shown);
        // A call that fails is told as what it came to.
        await refusal((await clientOf("vic")).call("dc__create_vlan", { mark: "refused-16" }));
        const refused = await until(() => lines().find((each) => JSON.stringify(each).includes("refused-16")), "the record of the refusal");
        assert.equal(refused.decision, "denied", JSON.stringify(refused));
        assert.notEqual(refused.status, "ok");
    });

    defect(17, "denials, logins and what administrators do are not recorded", async () => {
        await tryLogin("vic", "a wrong password of hers");
        await vic.ask("POST", "/api/v1/users", { body: { name: "untold" } });
        const user = (await made("/api/v1/users", { name: "told", roles: ["viewer"] })).json.id as string;
        await root.change("PATCH", `/api/v1/users/${user}`, { roles: ["operator"] });
        await made("/api/v1/roles", { name: "told", rights: {} });
        await root.ask("POST", "/api/v1/edit", { body: { scope: "upstream", name: "dc", minutes: 1, reason: "to be told" } });
        await root.ask("DELETE", "/api/v1/edit?scope=upstream");
        await root.ask("PUT", "/api/v1/secrets/told", { body: { value: "never-written-down" } });
        await root.ask("DELETE", `/api/v1/users/${user}`, { headers: { "if-match": "*" } });
        const wanted: [string, Record<string, unknown>][] = [
            ["a login that failed", { event: "admin-login", decision: "denied", http_status: 401 }], ["a login", { event: "admin-login", http_status: 200 }],
            ["a denial", { event: "admin-user", decision: "denied", user: "user:vic" }], ["a new user", { event: "admin-user", method: "POST", http_status: 201 }],
            ["other roles", { event: "admin-user", method: "PATCH", http_status: 200 }], ["a user deleted", { event: "admin-user", method: "DELETE", object: user }],
            ["a role", { event: "admin-role", method: "POST", http_status: 201 }], ["edit mode", { event: "admin-edit", method: "POST" }],
            ["a secret", { event: "admin-secret", object: "told" }],
        ];
        for (const [what, members] of wanted) {
            await until(() => lines().find((line) => Object.entries(members).every(([key, value]) => line[key] === value)), `${what} is recorded`);
        }
        assert.ok(!JSON.stringify(lines()).includes("never-written-down"));
        assert.ok(!JSON.stringify(lines()).includes("a wrong password of hers"));
    });

    defect(18, "what cannot be recorded happens all the same; what is recorded has the secrets in it, and can be changed", async (t) => {
        const folder = temporaryFolder(), dataDir = join(folder, "data");
        const disk = new Disk(auditDir(dataDir), join(folder, "disk"));
        const config = { servers: { dc: { url: fixture.url, share: "all", tools: { list_vlans: { access: "read" } } } } };
        const gateway = await startGateway({ config, dataDir, env: disk.env() });
        t.after(async () => {
            disk.mend();
            await gateway.stop().finally(() => removeFolder(folder));
        });
        await gateway.waitForLog((entry) => entry.message === "ready");
        const client = new ModernClient(gateway);
        await said(client.call("dc__create_vlan", { password: "hunter2-of-18", mark: "redacted-18" }));
        const line = await until(() => new Reader(dataDir).lines.find((each) => JSON.stringify(each).includes("redacted-18")), "the record");
        assert.ok(!JSON.stringify(line).includes("hunter2-of-18"), JSON.stringify(line));
        disk.set({ write_errno: EIO, open_errno: EIO });
        await until(async () => {
            const answer = await client.call("dc__create_vlan");
            return answer.error !== undefined || answer.result!.isError === true;
        }, "no write without a record");
        disk.mend();
        // A copy in which one name was changed is found out.
        const copy = join(folder, "copy");
        cpSync(auditDir(dataDir), join(copy, "audit"), { recursive: true });
        const file = join(copy, "audit", segments(join(copy, "audit"))[0]!);
        const text = readFileSync(file, "utf8");
        assert.ok(text.includes("dc__create_vlan") || text.includes("create_vlan"));
        writeFileSync(file, text.replace("create_vlan", "delete_vlan"));
        assert.notEqual((await verify(copy)).code, 0);
    });

    defect(19, "filters that nobody knows do nothing", async () => {
        for (const query of ["cluster_name=dc", "status_code=200", "start_date=2026-01-01", "end_date=2026-01-01", "user_id=1", "limit=2000"]) {
            assert.equal((await root.get(`/api/v1/audit?${query}`)).status, 400, query);
        }
        await until(async () => (await root.get("/api/v1/audit?event=admin-login")).json.items.length > 0, "there are logins");
        type Items = { record: Record<string, unknown> }[];
        const find = async (query: string): Promise<Items> => (await root.get(`/api/v1/audit?limit=200&${query}`)).json.items as Items;
        const all = await find("");
        for (const [query, is] of [
            ["user=user:vic", (record: Record<string, unknown>) => record.user === "user:vic"], ["decision=denied", (record) => record.decision === "denied"],
            ["event=admin-login", (record) => record.event === "admin-login"],
        ] as [string, (record: Record<string, unknown>) => boolean][]) {
            const found = await find(query);
            assert.ok(found.length > 0 && found.length < all.length && found.every(({ record }) => is(record)), `${query}: ${found.length} of ${all.length}`);
        }
        assert.deepEqual(await find("until=2020-01-01"), []);
        assert.deepEqual(await find("user=nobody-at-all"), []);
    });

    defect(20, "an export without filters, all at once, with formulas", async () => {
        await tryLogin("=HYPERLINK(1)", "a wrong password");
        const csv = await until(async () => {
            const answer = await root.get("/api/v1/audit/export?format=csv&event=admin-login&decision=denied");
            return answer.text.includes("HYPERLINK") && answer;
        }, "the login is in the export");
        assert.equal(csv.headers["transfer-encoding"], "chunked");
        assert.doesNotMatch(csv.text, /"=HYPERLINK/);
        const rows = csv.text.split("\r\n").slice(1).filter((row) => /^"?\d/.test(row));
        assert.ok(rows.length > 0 && rows.every((row) => row.includes("admin-login") && row.includes("denied")), csv.text.slice(0, 1000));
    });

    /* --- running it --- */

    defect(30, "numbers that are written into the program", async () => {
        const tools = (await root.get("/api/v1/tools?upstream=dc")).json as { total: number; items: { tool: string; access: string }[] };
        assert.equal(tools.total, 3);
        assert.deepEqual(tools.items.map(({ tool, access }) => `${tool} ${access}`).sort(), ["create_vlan write", "delete_vlan write", "list_vlans read"]);
        const { started, version } = (await root.get("/api/v1/statistics")).json as { started: string; version: string };
        assert.ok(Date.parse(started) <= Date.now() && version.length > 0);
    });

    defect(33, "no backup", async () => {
        const file = join(temporaryFolder(), "backup");
        await fine("store", "backup", file);
        const folder = temporaryFolder();
        writeFileSync(join(folder, "cardea.toml"), "");
        const run = async (...args: string[]) => cardea([...args, "-c", join(folder, "cardea.toml"), "--data-dir", join(folder, "data")]);
        const restored = await run("store", "restore", file);
        assert.equal(restored.code, 0, restored.stderr);
        const { users } = JSON.parse((await run("user", "list", "--json")).stdout) as { users: { name: string }[] };
        for (const name of ["root", "olga", "vic"]) assert.ok(users.some((user) => user.name === name), name);
    });

    defect(34, "a server is well when there is a row of it", async () => {
        await downReason(admin.gateway, "gone");
        const items = (await root.get("/api/v1/upstreams")).json.items as { name: string; state: string; error?: string }[];
        const [dc, gone] = ["dc", "gone"].map((name) => items.find((item) => item.name === name)!);
        assert.equal(dc!.state, "ready");
        assert.notEqual(gone!.state, "ready");
        assert.match(String(gone!.error), /.+/);
    });

    test("defect 36: nothing is tested: each of them has a test, or a reason why there is nothing to test yet", () => {
        const tested = new Set<number>([36]);
        for (const file of readdirSync(import.meta.dirname).filter((name) => name.startsWith("dashboard-defects"))) {
            for (const match of readFileSync(join(import.meta.dirname, file), "utf8").matchAll(/^\s*defect\((\d+), "/gm)) tested.add(Number(match[1]));
        }
        for (let number = 1; number <= N_DEFECTS; number++) {
            assert.notEqual(tested.has(number), number in LATER, `defect ${number} ${number in LATER ? "is tested, and to come" : "has neither test nor reason"}`);
        }
        assert.ok(Object.values(LATER).every((reason) => reason.length > 20));
        assert.ok(existsSync(join(import.meta.dirname, "admin-matrix.test.ts")));
    });

    defect(37, "what one process knows the other one does not", { timeout: 120_000 }, async (t) => {
        const postgres = await Postgres.start(t);
        const env = {
            ...process.env,
            CARDEA_TEST_STORE: postgres.urlWithPassword("postgres"),
            CARDEA_ENCRYPTION_KEY: CLUSTER_KEY,
        };
        const text = '[server]\nworkers = 2\n[store]\nurl = "{{ env.CARDEA_TEST_STORE }}"\n';
        const both: Admin[] = [];
        for (const _ of [1, 2]) {
            const gateway = await startGateway({ config: text, env, admin: true }, t);
            const entry = await gateway.waitForLog((item) => item.message === "the console's API listens");
            const one = new Admin(gateway, String(entry.address));
            t.after(() => one.close());
            both.push(one);
        }
        const [here, there] = [both[0]!, both[1]!];
        const run = await cardea(["user", "add", "ann", "--admin", "-c", configFile(here.gateway), "--data-dir", here.gateway.dataDir], { env, input: `${PASSWORD}\n` });
        assert.equal(run.code, 0, run.stderr);
        const ann = await here.login("ann");
        const moved = () => there.ask("GET", "/api/v1/session", { cookie: `${COOKIE}=${ann.cookie}` });
        assert.equal((await moved()).status, 200, "a session is one of all instances");
        assert.equal((await ann.ask("POST", "/api/v1/logout")).status, 204);
        assert.equal((await moved()).status, 401, "and its end, too");
    });

    defect(39, "what has a record cannot be deleted any more", async () => {
        await made("/api/v1/users", { name: "recorded", roles: ["operator"] });
        await said((await clientOf("recorded")).call("dc__list_vlans", { mark: "of-defect-39" }));
        await until(() => lines().some((line) => JSON.stringify(line).includes("of-defect-39")), "it is recorded");
        assert.equal((await root.ask("DELETE", "/api/v1/users/recorded", { headers: { "if-match": "*" } })).status, 204);
        assert.equal((await root.get("/api/v1/users/recorded")).status, 404);
        const line = lines().find((each) => JSON.stringify(each).includes("of-defect-39"))!;
        assert.match(String(line.user), /recorded/, "the trail stays as it was");
        assert.equal((await verify(admin.gateway.dataDir)).code, 0);
    });

    defect(40, "pages of a list of origins may ask", async () => {
        for (const origin of ["http://localhost:3000", "http://localhost:7443", "https://localhost", "http://127.0.0.1:3000", "null"]) {
            for (const [method, path] of [["GET", "/api/v1/openapi.json"], ["GET", "/api/v1/users"], ["OPTIONS", "/api/v1/users"], ["POST", "/api/v1/login"]] as const) {
                const answer = await admin.ask(method, path, { ...root.headers, origin, "access-control-request-method": "GET" });
                assert.ok(answer.status === 403 || answer.status === 405, `${method} ${path} of ${origin}: ${answer.status}`);
                for (const name of Object.keys(answer.headers)) assert.ok(!name.startsWith("access-control-"), `${name} for ${origin}`);
            }
        }
    });
});
