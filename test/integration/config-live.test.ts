/* What a gateway serves by, and where each value comes from: GET /api/v1/config, cardea config. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { startAdmin } from "./lib/admin.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { toml, type Config } from "./lib/gateway.ts";
import { reload } from "./lib/reload.ts";
import { temporaryFolder } from "./lib/temp.ts";

interface Item {
    path: string;
    value: unknown;
    source: string;
    line?: number;
    references?: string[];
    origin?: string;
    is_secret: boolean;
    is_set: boolean;
    waits_for_restart: boolean;
}

interface Live {
    file: string;
    servers: { name: string; line: number }[];
    items: Item[];
}

function itemOf(live: Live, path: string): Item {
    const found = live.items.filter((item) => item.path === path);
    assert.equal(found.length, 1, `${path} is told once`);
    return found[0]!;
}

const SECRETS = ["a-token-for-the-web-server", "value-of-a-variable-1", "argument-with-a-secret",
    "token-in-the-path-of-a-url", "given-by-the-environment", "proxy-password-77"];
const ENV = { ...process.env, LIVE_SECRET: SECRETS[4], LIVE_WAIT: "7s" };
const CONFIG: Config = {
    server: { shutdown_timeout: "{{ env.LIVE_WAIT }}" },
    security: {},
    servers: {
        web: {
            url: `http://127.0.0.1:1/${SECRETS[3]}/mcp`,
            auth: { token: SECRETS[0]! },
            proxy: `http://me:${SECRETS[5]}@127.0.0.1:2`,
        },
        child: {
            cmd: ["/bin/true", `--key=${SECRETS[2]}`],
            env: { API_KEY: SECRETS[1]!, OTHER: "{{ env.LIVE_SECRET }}" },
        },
    },
};

const USERS = [{ name: "vic", roles: ["viewer"] }, { name: "root", roles: ["administrator"] }];

function hidesAll(text: string): void {
    for (const secret of SECRETS) assert.ok(!text.includes(secret), `${secret.slice(0, 8)}... is not told`);
}

describe("the configuration that is served by", () => {
    test("is told by the API, with where each value comes from, and waits for restarts", async (t) => {
        const admin = await startAdmin({ config: CONFIG, env: ENV, users: USERS }, t);
        assert.equal((await (await admin.login("vic")).get("/api/v1/config")).status, 403);
        const browser = await admin.login("root");
        const answer = await browser.get("/api/v1/config");
        assert.equal(answer.status, 200, answer.text);
        hidesAll(answer.text);
        const live = answer.json as Live;
        assert.deepEqual(live.servers.map(({ name }) => name), ["web", "child"]);
        assert.equal(itemOf(live, "admin.listen").source, "command line");
        assert.equal(itemOf(live, "mcp.path").source, "default");
        assert.equal(itemOf(live, "server.workers").source, "file");
        const wait = itemOf(live, "server.shutdown_timeout");
        assert.deepEqual([wait.value, wait.source, wait.references], ["7s", "environment", ["env.LIVE_WAIT"]]);
        const token = itemOf(live, "mcp.servers.web.auth.token");
        assert.deepEqual([token.value, token.is_secret, token.is_set], [null, true, true]);
        assert.equal(itemOf(live, "mcp.servers.web.url").origin, "http://127.0.0.1:1");
        assert.deepEqual(itemOf(live, "mcp.servers.child.cmd").value, ["/bin/true", null]);

        await reload(admin.gateway, { ...CONFIG, server: { workers: 3, max_sessions: 77 } });
        const after = (await browser.get("/api/v1/config")).json as Live;
        const workers = itemOf(after, "server.workers"), sessions = itemOf(after, "server.max_sessions");
        assert.deepEqual([workers.value, workers.waits_for_restart], [2, true]);
        assert.deepEqual([sessions.value, sessions.source, sessions.waits_for_restart], [77, "file", false]);
        assert.equal(itemOf(after, "server.shutdown_timeout").source, "default");
    });

    test("is told by a command, for people and for programs", async () => {
        const args = prepared(temporaryFolder(), CONFIG);
        const text = await cardea(["config", ...args], { env: ENV });
        assert.equal(text.code, 0, text.stderr);
        hidesAll(text.stdout + text.stderr);
        assert.match(text.stdout, /^server\.workers +2 +file, .*cardea\.toml:2$/m);
        assert.match(text.stdout, /^mcp\.servers\.child\.env +\(not shown\) +environment env\.LIVE_SECRET, .*:\d+$/m);
        const json = await cardea(["config", "--json", ...args], { env: ENV });
        hidesAll(json.stdout + json.stderr);
        assert.equal(itemOf(JSON.parse(json.stdout) as Live, "server.workers").line, 2);
    });

    test("is told by a command only when it is right", async () => {
        const args = prepared(temporaryFolder(), { ...CONFIG, server: { wrong: 1 } });
        const run = await cardea(["config", ...args], { env: ENV });
        assert.equal(run.code, 78);
        assert.equal(run.stdout, "");
        assert.match(run.stderr, /unknown key server\.wrong/);
    });
});

describe("the names by which the console is asked", () => {
    test("are those of the newest configuration, its own and those of the certificate", async (t) => {
        const admin = await startAdmin({ config: { servers: {} }, users: [] }, t);
        const ask = async (name: string) =>
            (await admin.ask("GET", "/api/v1/setup", { host: `${name}:${admin.port}` })).status;
        const names = ["old.example", "new.example", "cert.example", "localhost"];
        const answers = async () => Promise.all(names.map(ask));
        assert.deepEqual(await answers(), [421, 421, 421, 200]);
        const config = toml({ security: {}, servers: {} });
        await reload(admin.gateway, `${config}[admin]\nhosts = ["old.example"]\n`);
        assert.deepEqual(await answers(), [200, 421, 421, 200]);
        const report = await reload(admin.gateway,
            `${config}[admin]\nhosts = ["new.example"]\n[server.tls]\nauto = true\nnames = ["cert.example"]\n`);
        assert.ok(report.applied.includes("admin.hosts"), JSON.stringify(report));
        assert.deepEqual(await answers(), [421, 200, 421, 200], "whether there is TLS waits for a restart, with its names");
    });

    test("are those of a certificate that changes", async (t) => {
        const tls = (names: string[]) => ({ server: { tls: { auto: true, names } }, security: {}, servers: {} });
        const admin = await startAdmin({ config: tls(["old.example"]), users: [] }, t);
        const ask = async (name: string) =>
            (await admin.ask("GET", "/api/v1/setup", { host: `${name}:${admin.port}` })).status;
        assert.deepEqual([await ask("old.example"), await ask("new.example")], [200, 421]);
        await reload(admin.gateway, tls(["new.example"]));
        assert.deepEqual([await ask("old.example"), await ask("new.example")], [421, 200]);
    });
});
