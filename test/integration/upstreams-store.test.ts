/*
 * Upstreams of the store: made, changed, disabled and deleted while clients are connected, by the API and by commands;
 * who may do what; and tests of connections.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { PASSWORD, listen, startAdmin, type Admin, type Answer, type Browser } from "./lib/admin.ts";
import { trailOf } from "./lib/audit.ts";
import { cardea } from "./lib/cli.ts";
import { connectGateway, type Peer } from "./lib/clients.ts";
import { startControl } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { CLUSTER_KEY, Postgres } from "./lib/postgres.ts";
import { status } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const UPSTREAMS = "/api/v1/upstreams";
const TRIAL = "/api/v1/upstream-test";

/** A server made with the SDK, stateless, with these tools. */
async function startSdk(name: string, ...tools: string[]): Promise<{ url: string; close(): Promise<void> }> {
    const server = http.createServer((request, response) => {
        const mcp = new McpServer({ name, version: "7.1" });
        for (const tool of tools) mcp.tool(tool, () => ({ content: [{ type: "text", text: `${name} ${tool}` }] }));
        const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
        response.once("close", () => void mcp.close());
        void mcp.connect(transport).then(() => transport.handleRequest(request, response));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
        url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}/mcp`,
        close: () => {
            server.closeAllConnections();
            return new Promise((resolve) => server.close(() => resolve()));
        },
    };
}

const names = async (peer: Peer): Promise<string[]> =>
    (await within(peer.client.listTools(), "a list of tools")).tools.map((tool) => tool.name).sort();

describe("one gateway", () => {
    let admin: Admin;
    let fixture: HttpFixture;
    let one: Awaited<ReturnType<typeof startSdk>>;
    let two: Awaited<ReturnType<typeof startSdk>>;
    let peer: Peer;
    const people = new Map<string, Browser>();
    const as = (name: string): Browser => people.get(name)!;
    const command = async (args: string[], input?: string) =>
        cardea([...args, "-c", join(admin.gateway.folder, "cardea.toml"), "--data-dir", admin.gateway.dataDir],
            input === undefined ? {} : { input });
    const add = (who: string, name: string, definition: unknown, more = {}): Promise<Answer> =>
        as(who).ask("POST", UPSTREAMS, { body: { name, definition, ...more } });
    const remove = async (name: string): Promise<void> => {
        const answer = await as("root").ask("DELETE", `${UPSTREAMS}/${name}`, { headers: { "if-match": "*" } });
        assert.equal(answer.status, 204, answer.text);
    };

    before(async () => {
        fixture = await startHttp({});
        one = await startSdk("one", "alpha");
        two = await startSdk("two", "beta", "gamma");
        admin = await startAdmin({
            config: { security: { edit_mode: true }, servers: { file: { url: fixture.url } } },
            users: [
                { name: "root", roles: ["administrator"] },
                { name: "olga", roles: ["operator"] },
                { name: "vic", roles: ["viewer"] },
            ],
        });
        const roles = {
            writer: ["upstreams.read", "upstreams.write"],
            tester: ["upstreams.read", "upstreams.write", "upstreams.test"],
            keeper: ["upstreams.read", "upstreams.write", "upstreams.test", "secrets.write"],
        };
        for (const [role, permissions] of Object.entries(roles)) {
            const given = permissions.flatMap((permission) => ["--permission", permission]);
            assert.equal((await command(["role", "add", role, ...given])).code, 0);
            assert.equal((await command(["user", "add", role, "--role", role], `${PASSWORD}\n`)).code, 0);
        }
        assert.equal((await command(["secret", "set", "key"], "k3y-that-nobody-sees")).code, 0);
        for (const name of ["root", "olga", "vic", ...Object.keys(roles)]) people.set(name, await admin.login(name));
        await until(async () => (await status(admin.gateway)).get("file")?.state === "ready", "the file's is ready");
        peer = await connectGateway(admin.gateway);
    });
    after(async () => {
        await peer.client.close();
        admin.close();
        await admin.gateway.stop();
        await Promise.all([fixture.close(), one.close(), two.close()]);
    });

    test("made, changed, disabled, enabled and deleted: each in the very next list", async () => {
        const before = await names(peer);
        const made = await add("root", "one", { url: one.url });
        assert.equal(made.status, 201, made.text);
        assert.equal(made.headers.location, `${UPSTREAMS}/one`);
        assert.equal(made.headers.etag, '"1"');
        assert.equal(made.json.source, "store");
        assert.deepEqual(made.json.definition, { url: one.url });
        assert.deepEqual(await names(peer), [...before, "one__alpha"].sort());
        const called = await peer.client.callTool({ name: "one__alpha", arguments: {} });
        assert.deepEqual(called.content, [{ type: "text", text: "one alpha" }]);

        const changed = await as("root").change("PATCH", `${UPSTREAMS}/one`, { definition: { url: two.url } });
        assert.equal(changed.status, 200, changed.text);
        assert.equal(changed.json.version, 2);
        assert.deepEqual(await names(peer), [...before, "one__beta", "one__gamma"].sort());

        const off = await as("root").change("PATCH", `${UPSTREAMS}/one`, { is_disabled: true });
        assert.deepEqual([off.status, off.json.state, off.json.is_disabled], [200, "disabled", true]);
        assert.deepEqual(await names(peer), before);
        const on = await as("root").change("PATCH", `${UPSTREAMS}/one`, { is_disabled: false });
        assert.equal(on.json.source, "store");
        assert.deepEqual(await names(peer), [...before, "one__beta", "one__gamma"].sort());

        await remove("one");
        assert.deepEqual(await names(peer), before);
        assert.equal((await as("root").get(`${UPSTREAMS}/one`)).status, 404);
    });

    test("the same by commands, which end when it is so", async () => {
        const before = await names(peer);
        const definition = JSON.stringify({ url: one.url });
        const steps: [string[], string | undefined, string[]][] = [
            [["upstream", "add", "cmd"], definition, ["cmd__alpha"]],
            [["upstream", "edit", "cmd"], JSON.stringify({ url: two.url }), ["cmd__beta", "cmd__gamma"]],
            [["upstream", "disable", "cmd"], undefined, []],
            [["upstream", "enable", "cmd"], undefined, ["cmd__beta", "cmd__gamma"]],
        ];
        for (const [args, input, more] of steps) {
            const run = await command(args, input);
            assert.equal(run.code, 0, run.stderr);
            assert.deepEqual(await names(peer), [...before, ...more].sort(), args.join(" "));
        }
        const shown = JSON.parse((await command(["upstream", "show", "cmd", "--json"])).stdout);
        assert.deepEqual(JSON.parse(shown.definition), { url: two.url });
        const list = JSON.parse((await command(["upstream", "list", "--json"])).stdout).upstreams;
        assert.deepEqual(list.map((item: { name: string; source: string; state: string }) =>
            [item.name, item.source, item.state]), [["file", "file", "served"], ["cmd", "store", "served"]]);
        const tried = await command(["upstream", "test", "cmd"]);
        assert.match(tried.stdout, /^ok: two 7\.1, MCP .*, 2 tools/);
        assert.equal((await command(["upstream", "delete", "cmd"])).code, 0);
        assert.deepEqual(await names(peer), before);
        const again = await command(["upstream", "delete", "cmd"]);
        assert.equal(again.code, 1);
        assert.match(again.stderr, /no such upstream/);
        const wrong = await command(["upstream", "add", "cmd"], '{"url":"http://127.0.0.1:1/","tiemout":1}');
        assert.match(wrong.stderr, /unknown key tiemout \(did you mean timeout\?\)/);
    });

    test("a call to another upstream that runs meanwhile is not disturbed, nor is its connection", async () => {
        const running = peer.client.callTool({ name: "file__hold", arguments: {} });
        await fixture.holds(1);
        const sessions = fixture.received("initialize").length + fixture.received("server/discover").length;
        assert.equal((await add("root", "side", { url: one.url })).status, 201);
        assert.equal((await as("root").change("PATCH", `${UPSTREAMS}/side`, { definition: { url: two.url } })).status, 200);
        await remove("side");
        assert.equal(fixture.brain.held, 1);
        assert.equal(fixture.received("initialize").length + fixture.received("server/discover").length, sessions);
        fixture.brain.release();
        const answer = await within(running, "the call ends");
        assert.notEqual(answer.isError, true);
    });

    test("those of the file are shown with their line, and cannot be changed", async () => {
        const text = readFileSync(join(admin.gateway.folder, "cardea.toml"), "utf8");
        const line = text.split("\n").findIndex((each) => each === "[mcp.servers.file]") + 1;
        const { json } = await as("vic").get(`${UPSTREAMS}/file`);
        assert.deepEqual([json.source, json.file, json.line], ["file", "cardea.toml", line]);
        assert.equal(json.definition, undefined);
        assert.equal(json.server.name, "http");
        const list = await as("vic").get(UPSTREAMS);
        assert.deepEqual(list.json.items.map((item: { name: string }) => item.name), ["file"]);
        for (const [method, body] of [["PATCH", { is_disabled: true }], ["DELETE", undefined]] as const) {
            const answer = await as("root").ask(method, `${UPSTREAMS}/file`, { body, headers: { "if-match": "*" } });
            assert.equal(answer.status, 404, answer.text);
        }
        const taken = await add("root", "file", { url: one.url });
        assert.deepEqual([taken.status, taken.json.type], [409, "urn:cardea:problem:file"], taken.text);
    });

    test("versions", async () => {
        assert.equal((await add("root", "versions", { url: one.url })).status, 201);
        assert.equal((await add("root", "versions", { url: one.url })).status, 409);
        const path = `${UPSTREAMS}/versions`;
        const body = { is_disabled: true };
        const change = (headers: Record<string, string>) => as("root").ask("PATCH", path, { body, headers });
        assert.equal((await change({})).status, 428);
        assert.equal((await change({ "if-match": '"7"' })).status, 412);
        assert.equal((await change({ "if-match": '"1"' })).status, 200);
        assert.equal((await change({ "if-match": '"1"' })).status, 412);
        assert.equal((await as("root").ask("DELETE", path, { headers: { "if-match": '"1"' } })).status, 412);
        assert.equal((await as("root").ask("DELETE", path, {})).status, 428);
        assert.equal((await as("root").ask("DELETE", path, { headers: { "if-match": '"2"' } })).status, 204);
    });

    test("what may not stand there is refused with its place, whoever asks", async () => {
        const url = one.url;
        const rows: [unknown, RegExp][] = [
            [{}, /neither cmd nor url/],
            [{ url, tiemout: "1s" }, /unknown key tiemout \(did you mean timeout\?\)/],
            [{ url: "{{ env.PATH }}" }, /^url must not hold \{\{ env/],
            [{ url: "{{ file./etc/passwd }}" }, /^url must not hold \{\{ file/],
            [{ url, auth: { token: "literal" } }, /^auth\.token must not hold a credential/],
            [{ url, auth: { token_file: "/etc/shadow" } }, /^auth\.token_file names a file/],
            [{ url, auth: { token: "{{ secret.none }}" } }, /^auth\.token needs the secret none/],
            [{ url, tls: { ca_bundle: "/etc/passwd" } }, /^tls\.ca_bundle names a file/],
            [{ url, headers: [{ rule: "insert", name: "X-Api-Key", value: "abc" }] }, /^headers\[0\]\.value must not/],
            [{ url: "http://169.254.169.254/latest" }, /^url is an address of the link/],
            [{ url: "http://[fe80::1]/" }, /^url is an address of the link/],
            [{ url: `http://${admin.gateway.host}/mcp` }, /./],
            [{ url: `https://${admin.host}/` }, /./],
            [{ cmd: ["sh"] }, /^cmd starts a program .* admin\.allow_commands/],
            [{ url, enabled: false }, /^enabled is for the configuration file/],
        ];
        for (const [definition, reason] of rows) {
            if (reason.source === ".") continue; // ports of 0 in the file are not known to it
            for (const who of ["root", "keeper"]) {
                const answer = await add(who, "bad", definition);
                if (who === "keeper" && answer.status === 403) continue; // a program
                assert.equal(answer.status, 422, `${JSON.stringify(definition)}: ${answer.text}`);
                assert.match(answer.json.detail, reason);
            }
        }
        for (const name of ["a__b", "", "x".repeat(65), "../etc", "sse", "ä"]) {
            const answer = await add("root", name, { url });
            assert.equal(answer.status, 422, `${name}: ${answer.text}`);
        }
        for (const definition of ["{}", 7, [], null]) {
            assert.equal((await add("root", "bad", definition)).status, 422);
        }
        assert.equal((await as("root").get(`${UPSTREAMS}/bad`)).status, 404);
    });

    test("who may", async () => {
        const plain = { url: one.url };
        const secret = { url: one.url, auth: { token: "{{ secret.key }}" } };
        const unknown = { url: one.url, auth: { token: "{{ secret.nothing }}" } };
        const forwarded = { url: one.url, headers: [{ rule: "forward", name: "X-Caller" }] };
        const callers = { url: "https://127.0.0.1:1/", auth: { type: "forward" } };
        const program = { cmd: ["sh"] };
        const rows: [string, unknown, number][] = [
            ["vic", plain, 403], ["olga", plain, 403], ["writer", plain, 201], ["keeper", plain, 201], ["root", plain, 201],
            ["writer", secret, 403], ["tester", secret, 403], ["keeper", secret, 201], ["root", secret, 201],
            ["writer", unknown, 403], // whether it is there is not told
            ["writer", forwarded, 403], ["keeper", forwarded, 403], ["root", forwarded, 201],
            ["keeper", callers, 403], ["keeper", program, 403], ["root", program, 422],
        ];
        for (const [who, definition, expected] of rows) {
            const answer = await add(who, "mine", definition);
            const what = `${who} ${JSON.stringify(definition)}: ${answer.text}`;
            assert.equal(answer.status, expected, what);
            assert.doesNotMatch(answer.text, /k3y-that-nobody-sees/);
            if (expected === 403) assert.doesNotMatch(answer.text, /is not there/, what);
            if (expected === 201) await remove("mine");
        }
        // Whose definition it is does not matter: who changes the URL says where the secret goes.
        assert.equal((await add("root", "mine", secret)).status, 201);
        const moved = { definition: { ...secret, url: two.url } };
        assert.equal((await as("writer").change("PATCH", `${UPSTREAMS}/mine`, moved)).status, 403);
        assert.equal((await as("writer").change("PATCH", `${UPSTREAMS}/mine`, { is_disabled: true })).status, 200);
        for (const who of ["vic", "olga"]) {
            assert.equal((await as(who).change("PATCH", `${UPSTREAMS}/mine`, { is_disabled: false })).status, 403);
            const gone = await as(who).ask("DELETE", `${UPSTREAMS}/mine`, { headers: { "if-match": "*" } });
            assert.equal(gone.status, 403);
            assert.deepEqual((await as(who).get(`${UPSTREAMS}/mine`)).json.definition, secret);
        }
        await remove("mine");
    });

    describe("tests of connections", () => {
        const attempt = (who: string, definition: unknown): Promise<Answer> =>
            as(who).ask("POST", TRIAL, { body: { definition } });

        test("who may", async () => {
            const secret = { url: one.url, auth: { token: "{{ secret.key }}" } };
            const rows: [string, unknown, number][] = [
                ["vic", { url: one.url }, 403], ["olga", { url: one.url }, 403], ["writer", { url: one.url }, 403],
                ["tester", { url: one.url }, 200], ["tester", secret, 403], ["keeper", secret, 200],
                ["tester", { cmd: ["sh"] }, 403], ["root", { cmd: ["sh"] }, 422],
                ["root", { url: "http://169.254.169.254/" }, 422],
            ];
            for (const [who, definition, expected] of rows) {
                const answer = await attempt(who, definition);
                assert.equal(answer.status, expected, `${who} ${JSON.stringify(definition)}: ${answer.text}`);
                assert.doesNotMatch(answer.text, /k3y-that-nobody-sees/);
            }
            for (const [who, expected] of [["vic", 403], ["writer", 403], ["olga", 200], ["root", 200]] as const)
                assert.equal((await as(who).ask("POST", `${UPSTREAMS}/file/test`)).status, expected);
            assert.equal((await as("root").ask("POST", `${UPSTREAMS}/nothing/test`)).status, 404);
        });

        test("a server that works: what it is, and no session is left behind", async () => {
            const answer = await attempt("tester", { url: two.url });
            const { ok, server, n_tools } = answer.json;
            assert.deepEqual([ok, server, n_tools], [true, { name: "two", version: "7.1" }, 2], answer.text);
            const saved = await as("olga").ask("POST", `${UPSTREAMS}/file/test`);
            assert.equal(saved.json.ok, true, saved.text);
            assert.equal(await until(() => fixture.sessions.size <= 2, "its session has ended"), true);
        });

        test("servers that do not: each with a reason, none with what they sent", async (t) => {
            const body = "b0dy-of-the-server";
            const closed = net.createServer();
            await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
            const { port } = closed.address() as net.AddressInfo;
            await new Promise((resolve) => closed.close(resolve));
            const of = async (on: (exchange: Parameters<NonNullable<Parameters<typeof startHttp>[0]["on"]>>[0]) => boolean) =>
                (await startHttp({ on }, t)).url;
            const rows: [string, string, RegExp][] = [
                ["nobody", `http://127.0.0.1:${port}/`, /refused/],
                ["garbage", await of((exchange) => (exchange.raw(`${body}\r\n\r\n`), exchange.close(), true)), /./],
                ["html", await of((exchange) => (exchange.text(200, "text/html", `<p>${body}`), true)), /./],
                ["redirect", await of((exchange) => (exchange.text(302, "text/plain", body, { Location: one.url }), true)), /302/],
                ["token", await of((exchange) => (exchange.text(401, "text/plain", body,
                    { "WWW-Authenticate": `Bearer realm="${body}"` }), true)), /401/],
                ["broken", await of((exchange) => (exchange.text(500, "text/plain", body), true)), /500/],
            ];
            for (const [what, url, reason] of rows) {
                const { json, text } = await attempt("tester", { url });
                assert.equal(json.ok, false, `${what}: ${text}`);
                assert.match(json.reason, reason, `${what}: ${text}`);
                assert.doesNotMatch(text, new RegExp(body), what);
            }
        });

        test("one that hangs is given up after ten seconds; four at a time, and nobody else waits", async (t) => {
            const silent = await startHttp({ on: () => true }, t);
            const waiting = Array.from({ length: 5 }, () => attempt("tester", { url: silent.url }));
            const first = await Promise.race(waiting);
            assert.equal(first.status, 503, first.text);
            assert.equal((await as("vic").get(UPSTREAMS)).status, 200);
            const answers = await Promise.all(waiting);
            assert.equal(answers.filter((answer) => answer.status === 503).length, 1);
            for (const answer of answers.filter((each) => each.status === 200)) {
                assert.match(answer.json.reason, /did not answer in time/);
                assert.ok(answer.json.duration_ms >= 10_000 && answer.json.duration_ms < 12_000, answer.text);
            }
            const again = await attempt("tester", { url: two.url });
            assert.equal(again.json.ok, true, again.text);
        });
    });

    test("events tell of it, and the trail has who and what", async () => {
        const stream = await listen(as("root"));
        const told = () => JSON.stringify(stream.events.filter((item) => item.event === "upstreams").at(-1)?.data ?? "");
        assert.equal((await add("root", "told", { url: one.url })).status, 201);
        await until(() => told().includes('"told"'), "the stream tells of it");
        await remove("told");
        await until(() => !told().includes('"told"'), "the stream tells that it is gone");
        stream.close();
        const trail = trailOf(admin.gateway);
        const lines = () => trail.lines.filter((line) => line.event === "admin-upstream");
        await until(() => lines().some((line) => JSON.stringify(line).includes("DELETE")), "it is in the trail");
        const text = JSON.stringify(lines());
        assert.match(text, /user:root/);
        assert.match(text, /"members":\["name","definition"\]/);
        assert.match(text, /"told"/);
        assert.doesNotMatch(text, /127\.0\.0\.1:\d+\/mcp/);
    });

    test("where the file gets the name later it wins; what is not valid any more is left out, and both are told", async () => {
        const path = join(admin.gateway.folder, "cardea.toml");
        const text = readFileSync(path, "utf8");
        assert.equal((await add("root", "later", { url: one.url })).status, 201);
        assert.equal((await add("root", "secretive", { url: one.url, auth: { token: "{{ secret.key }}" } })).status, 201);
        assert.ok((await names(peer)).includes("later__alpha"));
        writeFileSync(path, `${text}[mcp.servers.later]\nurl = ${JSON.stringify(two.url)}\n`);
        assert.equal((await command(["secret", "delete", "key"])).code, 0);
        // A change of the store does not read the file again, which somebody may be writing at the moment.
        assert.equal((await add("root", "other", { url: one.url })).status, 201);
        assert.ok((await names(peer)).includes("later__alpha"));
        await remove("other");
        assert.equal((await command(["reload"])).code, 0);
        const now = await names(peer);
        assert.ok(now.includes("later__beta") && !now.includes("later__alpha"), now.join());
        const shown = (await as("root").get(`${UPSTREAMS}/later`)).json;
        assert.equal(shown.source, "file");
        assert.deepEqual(shown.shadows.definition, { url: one.url });
        const items = (await as("vic").get(UPSTREAMS)).json.items as { name: string; source: string; state: string; error?: string }[];
        assert.equal(items.find((item) => item.name === "later" && item.source === "store")?.state, "shadowed");
        const invalid = items.find((item) => item.name === "secretive");
        assert.equal(invalid?.state, "invalid");
        assert.match(invalid?.error ?? "", /^auth\.token needs the secret key/);
        const run = await command(["status"]);
        assert.match(run.stdout, /later: shadowed \(of the store\)/);
        assert.match(run.stdout, /secretive: invalid \(of the store\), auth\.token needs the secret key/);
        assert.ok(admin.gateway.log.items.some((item) => JSON.stringify(item).includes("secretive is left out")));
        // The file's own errors are errors as before.
        writeFileSync(path, `${text}[mcp.servers.bad]\ntiemout = 1\n`);
        assert.equal((await command(["reload"])).code, 78);
        writeFileSync(path, text);
        assert.equal((await command(["reload"])).code, 0);
        assert.ok((await names(peer)).includes("later__alpha"));
        for (const name of ["later", "secretive"]) await remove(name);
        assert.equal((await command(["secret", "set", "key"], "k3y-that-nobody-sees")).code, 0);
    });
});

test("a trial that hangs does not keep the gateway from ending", async (t) => {
    const silent = await startHttp({ on: () => true }, t);
    const admin = await startAdmin({ users: [{ name: "root", roles: ["administrator"] }] }, t);
    const root = await admin.login("root");
    const trial = root.ask("POST", TRIAL, { body: { definition: { url: silent.url } } }).catch(() => undefined);
    await silent.requests.waitFor(() => true);
    const started = performance.now();
    await admin.gateway.stop();
    assert.ok(performance.now() - started < 5000, `${performance.now() - started} ms`);
    await trial;
    admin.close();
});

describe("a file that allows commands", () => {
    test("an administrator may, others may not; the gateway starts and tries it", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const cmd = control.command({ name: "stored", tools: [{ name: "hi", inputSchema: { type: "object" } }] });
        const users = [{ name: "root", roles: ["administrator"] }];
        const admin = await startAdmin({ config: { admin: { allow_commands: true } }, users }, t);
        t.after(() => admin.close());
        const root = await admin.login("root");
        const made = await root.ask("POST", UPSTREAMS, { body: { name: "prog", definition: { cmd } } });
        assert.equal(made.status, 201, made.text);
        const tried = await root.ask("POST", `${UPSTREAMS}/prog/test`);
        assert.deepEqual([tried.json.ok, tried.json.n_tools], [true, 1], tried.text);
        for (const more of [{ isolation: "none" }, { user: "root" }, { inherit_env: ["HOME"] }, { cwd: "/" }]) {
            const answer = await root.change("PATCH", `${UPSTREAMS}/prog`, { definition: { cmd, ...more } });
            assert.equal(answer.status, 422, answer.text);
        }
    });
});

describe("two gateways on one PostgreSQL", () => {
    const gateways: Gateway[] = [];
    const stop: (() => unknown)[] = [];
    let one: Awaited<ReturnType<typeof startSdk>>;
    const env = { ...process.env, CARDEA_TEST_STORE: "", CARDEA_ENCRYPTION_KEY: CLUSTER_KEY };
    before(async () => {
        one = await startSdk("one", "alpha");
        const postgres = await Postgres.start({ after: (fn: () => unknown) => void stop.push(fn) } as never);
        env.CARDEA_TEST_STORE = postgres.urlWithPassword("postgres");
        const config = `[server]\nworkers = 2\n[security]\nedit_mode = true\n[store]\nurl = "{{ env.CARDEA_TEST_STORE }}"\n`;
        for (const _ of [1, 2]) gateways.push(await startGateway({ config, env }));
    });
    after(async () => {
        for (const gateway of gateways) await gateway.stop();
        for (const fn of stop) await fn();
        await one.close();
    });

    test("what one is told the other serves within a second", async () => {
        const peers = await Promise.all(gateways.map((gateway) => connectGateway(gateway)));
        const command = async (args: string[], input?: string): Promise<void> => {
            const first = gateways[0]!;
            const run = await cardea([...args, "-c", join(first.folder, "cardea.toml"), "--data-dir", first.dataDir],
                input === undefined ? { env } : { env, input });
            assert.equal(run.code, 0, run.stderr);
        };
        for (const round of [1, 2, 3]) {
            await command(["upstream", "add", `shared${round}`], JSON.stringify({ url: one.url }));
            const added = performance.now();
            assert.deepEqual(await names(peers[0]!), [`shared${round}__alpha`]);
            await until(async () => (await names(peers[1]!)).includes(`shared${round}__alpha`), "the other one serves it");
            assert.ok(performance.now() - added < 1000, `${performance.now() - added} ms`);
            await command(["upstream", "delete", `shared${round}`]);
            const removed = performance.now();
            assert.deepEqual(await names(peers[0]!), []);
            await until(async () => (await names(peers[1]!)).length === 0, "the other one has heard of it");
            assert.ok(performance.now() - removed < 1000, `${performance.now() - removed} ms`);
        }
        for (const peer of peers) await peer.client.close();
    });
});
