/*
 * Reloads: another configuration for a gateway that runs, by SIGHUP and by `cardea reload`. All of it or nothing; what
 * is configured as before is not touched; what runs goes on to its end on the server where it began.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, statSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { dirname, join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { startHttp } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import { startControl, type Control, type FixtureProcess } from "./lib/control.ts";
import { startGateway, writeConfig, type Config, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, send, served, stream, text, type Session } from "./lib/http.ts";
import { descendants, descriptors, unlessRoot } from "./lib/proc.ts";
import { askReload, configFile, reload } from "./lib/reload.ts";
import { status } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const TINY = join(BUILD, "test", "hostile", "tiny_server");

type Servers = { [name: string]: ServerConfig };
const config = (servers: Servers, server: Config["server"] = {}): Config => ({ server, servers });

const pidOf = async (session: Session, prefix = ""): Promise<number> =>
    (JSON.parse(text(await session.call(`${prefix}whoami`))) as { pid: number }).pid;

const names = async (session: Session): Promise<string[]> =>
    ((await session.request("tools/list")).result!.tools as { name: string }[]).map((tool) => tool.name);

/** The prefixes of what is listed. */
const listed = async (session: Session): Promise<string[]> =>
    [...new Set((await names(session)).map((name) => name.split("__")[0]!))].sort();

const held = (fixture: FixtureProcess) => fixture.events.waitFor((event) => event.event === "held");

describe("reload", () => {
    let control: Control;
    let n = 0;
    before(async () => void (control = await startControl()));
    after(async () => control.close());

    /** A fixture's own name, and its table. */
    const fixture = (more: Record<string, string> = {}) => {
        const name = `reload${++n}`;
        return { name, server: { cmd: control.command({ name }), ...more } as ServerConfig };
    };
    const start = (t: TestContext, servers: Servers, server: Config["server"] = {}) =>
        startGateway({ config: config(servers, server) }, t);

    test("servers come and go, and what is as before keeps its process", async (t) => {
        const [a, b, c] = [fixture(), fixture(), fixture()];
        const gateway = await start(t, { a: a.server, b: b.server });
        await served(gateway, "a__echo", "b__echo");
        const session = await openSession(gateway);
        const pid = await pidOf(session, "a__");
        const gone = (await control.started(b.name)).isGone();
        const report = await reload(gateway, config({ c: c.server, a: a.server }));
        assert.deepEqual(report.servers, { added: ["c"], changed: [], removed: ["b"], unchanged: 1 });
        assert.deepEqual(report.needs_restart, []);
        assert.deepEqual(report.applied, []);
        // The session goes on, sees at once what there is now, in the new order, and nothing else.
        await until(async () => (await listed(session)).join() === "a,c", "a and c are listed");
        assert.ok((await names(session))[0]!.startsWith("c__"), "c is the first in the file");
        assert.equal(await pidOf(session, "a__"), pid);
        assert.equal(text(await session.call("c__echo", { text: "new" })), "new");
        const { error } = await session.call("b__echo", { text: "x" });
        assert.match(error!.message, /Unknown tool: b__echo/);
        await gone;
        assert.equal(control.count(a.name), 1);
        assert.deepEqual([...(await status(gateway)).keys()], ["c", "a"]);
    });

    test("a running call ends where it began, new ones go to the new server", async (t) => {
        const [old, next] = [fixture(), fixture()];
        const gateway = await start(t, { it: old.server });
        await served(gateway, "it__hold");
        for (const path of ["/mcp", "/mcp/it"]) {
            const prefix = path === "/mcp" ? "it__" : "";
            const [from, to] = path === "/mcp" ? [old, next] : [next, old];
            const first = await control.started(from.name);
            const session = await openSession(gateway, path);
            const running = session.call(`${prefix}hold`);
            await held(first);
            const report = await reload(gateway, config({ it: to.server }));
            assert.deepEqual(report.servers.changed, ["it"]);
            const asked = JSON.parse(text(await session.call(`${prefix}whoami`))) as { name: string };
            assert.equal(asked.name, to.name, "the same session, the new server");
            first.do({ do: "release" });
            assert.equal(text(await running), "released");
            await first.isGone();
            assert.equal((await session.end()).status, 200);
        }
    });

    test("a call that waits for its server to start is answered by the new one", async (t) => {
        const name = `reload${++n}`;
        const next = fixture();
        const gateway = await start(t, { it: { cmd: control.command({ name, initialize: "hold" }) } });
        await control.started(name);
        const session = await openSession(gateway);
        const waiting = session.call("it__whoami");
        await until(
            () => gateway.log.items.some((entry) => entry.message === "request" && entry.method === "tools/call"),
            "the call has come",
        );
        await reload(gateway, config({ it: next.server }));
        assert.equal((JSON.parse(text(await waiting)) as { name: string }).name, next.name);
    });

    test("an HTTP server is replaced under a running call, and by its header rules", async (t) => {
        const [one, two] = [await startHttp({ name: "one" }), await startHttp({ name: "two" })];
        t.after(async () => void (await Promise.all([one.close(), two.close()])));
        const both = { same: { url: two.url } };
        const gateway = await start(t, { it: { url: one.url }, ...both });
        await served(gateway, "it__echo", "same__echo");
        const session = await openSession(gateway);
        const report = await reload(gateway, config({ it: { url: two.url }, ...both }));
        assert.deepEqual(report.servers, { added: [], changed: ["it"], removed: [], unchanged: 1 });
        assert.equal(text(await session.call("it__echo", { text: "x" })), "x");
        // Global rules are part of what every HTTP server is.
        const rules = { headers: [{ rule: "insert", name: "X-Rule", value: "1" }] };
        const again = await reload(gateway, { mcp: rules, servers: { it: { url: two.url }, ...both } });
        assert.deepEqual(again.servers.changed, ["it", "same"]);
        assert.deepEqual(again.applied, ["mcp.headers"]);
    });

    test("sessions of an endpoint that is gone end, the others go on", async (t) => {
        const [a, b] = [fixture(), fixture()];
        const gateway = await start(t, { a: a.server, b: b.server });
        await served(gateway, "a__echo", "b__echo");
        const [at, beside, merged] = [
            await openSession(gateway, "/mcp/b"),
            await openSession(gateway, "/mcp/a"),
            await openSession(gateway),
        ];
        const streams = await Promise.all([at.stream(), beside.stream(), merged.stream()]);
        await reload(gateway, config({ a: a.server }));
        await within(streams[0]!.ended, "the stream of the endpoint that is gone ends");
        assert.equal((await at.send({ body: { jsonrpc: "2.0", id: 1, method: "ping" } })).status, 404);
        await streams[2]!.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        assert.equal(text(await beside.call("echo", { text: "x" })), "x");
        assert.equal(text(await merged.call("a__echo", { text: "x" })), "x");
        // It comes back under its name: with sessions of its own.
        await reload(gateway, config({ a: a.server, b: b.server }));
        assert.equal((await at.send({ body: { jsonrpc: "2.0", id: 1, method: "ping" } })).status, 404);
        assert.equal(text(await (await openSession(gateway, "/mcp/b")).call("echo", { text: "x" })), "x");
        for (const each of streams) each.close();
    });

    test("an instance of one session is replaced too", async (t) => {
        const [old, next] = [fixture({ share: "session" }), fixture({ share: "session" })];
        const gateway = await start(t, { it: old.server });
        const sessions = [await openSession(gateway), await openSession(gateway)];
        const pids = [await pidOf(sessions[0]!, "it__"), await pidOf(sessions[1]!, "it__")];
        assert.notEqual(pids[0], pids[1]);
        const first = await control.started(old.name, 1);
        const running = sessions.map((session) => session.call("it__hold"));
        const cancelled = running[0]!.catch((error: Error) => error.message);
        await until(() => control.starts.items.filter((each) => each.name === old.name).length === 2, "both run");
        const both = control.starts.items.filter((each) => each.name === old.name);
        await Promise.all(both.map(held));
        await reload(gateway, config({ it: next.server }));
        assert.equal((JSON.parse(text(await sessions[0]!.call("it__whoami"))) as { name: string }).name, next.name);
        // The end of a session cancels what it has running, on an old server as on a new one.
        const one = both.find((each) => each.start.pid === pids[0])!;
        assert.equal((await sessions[0]!.end()).status, 200);
        await one.receives((message) => message.method === "notifications/cancelled");
        await one.isGone();
        assert.match(String(await cancelled), /got 200/); // the end of the answer, and none in it
        const other = both.find((each) => each !== one)!;
        other.do({ do: "release" });
        assert.equal(text(await running[1]!), "released");
        await other.isGone();
        await first.isGone();
    });

    test("what is wrong changes nothing, and is named with line and column", async (t) => {
        const a = fixture();
        const gateway = await start(t, { a: a.server });
        await served(gateway, "a__echo");
        const session = await openSession(gateway);
        const pid = await pidOf(session, "a__");
        const bad = [
            { line: "[server]\nworkrs = 2\n", at: [2, 1], says: /unknown key server.workrs/ },
            { line: "[server\n", at: [1, 8], says: /not valid TOML/ },
            { line: "[mcp.servers.x]\nurl = \"ftp://a\"\n", at: [2, 7], says: /mcp.servers.x.url/ },
        ];
        for (const { line, at, says } of bad) {
            writeConfig(gateway.folder, line);
            const { run, answer } = await askReload(gateway);
            assert.equal(run.code, 78);
            assert.equal(answer.ok, false);
            assert.equal(answer.invalid, true);
            const problem = answer.problems.find((each) => each.severity === "error")!;
            assert.deepEqual([problem.line, problem.column], at, problem.text);
            assert.match(problem.message, says);
            assert.ok(problem.text.startsWith(`${configFile(gateway)}:${at[0]}:${at[1]}: error: `), problem.text);
            const plain = await cardea(["reload", "--data-dir", gateway.dataDir]);
            assert.equal(plain.code, 78);
            assert.ok(plain.stderr.includes(problem.text), plain.stderr);
            await gateway.waitForLog((entry) => entry.message === "problem" && entry.problem === problem.text);
        }
        // What can only be found by trying: more header lines than a request may have.
        const rules = Array.from({ length: 60 }, (_, i) => ({
            rule: "insert",
            name: `X-${i}`,
            value: "v".repeat(1000),
        }));
        writeConfig(gateway.folder, config({ a: a.server, h: { url: "http://127.0.0.1:1/", headers: rules } }));
        const { run, answer } = await askReload(gateway);
        assert.equal(run.code, 78, run.stdout);
        assert.match(answer.error!, /mcp.servers.h: .*32 KiB/);
        assert.equal(await pidOf(session, "a__"), pid);
        assert.equal(control.count(a.name), 1);
        writeConfig(gateway.folder, config({ a: a.server }));
        const fine = await askReload(gateway);
        assert.equal(fine.run.code, 0);
        assert.deepEqual(fine.answer.reload!.servers, { added: [], changed: [], removed: [], unchanged: 1 });
    });

    test("SIGHUP does the same and tells the log", async (t) => {
        const [a, b] = [fixture(), fixture()];
        const gateway = await start(t, { a: a.server });
        await served(gateway, "a__echo");
        writeConfig(gateway.folder, config({ a: a.server, b: b.server }));
        gateway.process.kill("SIGHUP");
        await gateway.waitForLog((entry) => entry.message === "the configuration is reloaded");
        await served(gateway, "b__echo");
        const from = gateway.log.items.length;
        writeFileSync(configFile(gateway), "[server]\nworkrs = 2\n");
        gateway.process.kill("SIGHUP");
        await gateway.waitForLog((entry) => String(entry.message).startsWith("the configuration was not"), from);
        assert.ok(
            gateway.log.items.some((entry) => entry.message === "problem" && String(entry.problem).includes(":2:1:")),
        );
        await served(gateway, "b__echo");
    });

    test("what needs a restart keeps its value, and is named; the rest is applied", async (t) => {
        const a = fixture();
        const gateway = await start(t, { a: a.server });
        await served(gateway, "a__echo");
        const report = await reload(
            gateway,
            config(
                { a: a.server, b: { cmd: [TINY], isolation: "none" } },
                {
                    workers: 5,
                    max_held: "64MiB",
                    max_request_body: "2KiB",
                    health: { listen: "127.0.0.1:1", path: "/alive" },
                    limits: { max_connections: 99, max_connections_per_address: 9, max_in_flight: 9 },
                },
            ),
        );
        assert.deepEqual([...report.needs_restart].sort(), [
            "mcp.servers.b.isolation",
            "server.health.listen",
            "server.limits.max_connections",
            "server.limits.max_connections_per_address",
            "server.limits.max_in_flight",
            "server.max_held",
            "server.workers",
        ]);
        assert.deepEqual([...report.applied].sort(), ["server.health.path", "server.max_request_body"]);
        assert.equal((await send(gateway, { method: "GET", path: "/alive" })).status, 200);
        assert.equal((await send(gateway, { method: "GET", path: "/health" })).status, 404);
        const session = await openSession(gateway);
        const long = await session.send({
            body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "x".repeat(3000) } },
        });
        assert.equal(long.status, 413);
        // Asked again: still due, because the file still says so.
        const { answer } = await askReload(gateway);
        assert.equal(answer.reload!.needs_restart.length, 7);
        assert.deepEqual(answer.reload!.applied, []);
    });

    test("what would not start is not taken by a reload either", async (t) => {
        const a = fixture();
        const gateway = await start(t, { a: a.server });
        writeConfig(gateway.folder, config({ a: a.server }, { tls: { names: ["a.example"] } }));
        const { run, answer } = await askReload(gateway);
        assert.equal(run.code, 78, run.stdout);
        assert.match(answer.problems[0]!.message, /server.tls needs certificate and key/);
    });

    test("the first server with a command, in a gateway that had none", async (t) => {
        const a = fixture();
        const http = await startHttp({ name: "http" });
        t.after(async () => http.close());
        const gateway = await start(t, { http: { url: http.url } });
        const report = await reload(gateway, config({ http: { url: http.url }, a: a.server }));
        assert.deepEqual(report.servers.added, ["a"]);
        await served(gateway, "a__echo", "http__echo");
    });

    test("a long answer is whole", async (t) => {
        const gateway = await start(t, { a: { cmd: [TINY] } });
        const many: Servers = {};
        for (let i = 0; i < 300; i++) many[`a-name-of-thirty-two-letters-${i}`] = { url: `http://127.0.0.1:1/${i}` };
        const report = await reload(gateway, config(many));
        assert.deepEqual(report.servers.added, Object.keys(many));
        assert.deepEqual(report.servers.removed, ["a"]);
        const gone = await reload(gateway, config({ a: { cmd: [TINY] } }));
        assert.deepEqual(gone.servers.removed, Object.keys(many));
    });

    test("many who ask at once are all answered, one after the other", async (t) => {
        const a = fixture();
        const gateway = await start(t, { a: a.server });
        await served(gateway, "a__echo");
        const runs = await Promise.all(Array.from({ length: 8 }, () => askReload(gateway)));
        for (const { run, answer } of runs) {
            assert.equal(run.code, 0, run.stdout);
            assert.equal(answer.reload!.servers.unchanged, 1);
        }
        assert.equal(control.count(a.name), 1);
    });

    test("while draining it is refused", async (t) => {
        const a = fixture();
        const gateway = await start(t, { a: a.server });
        await served(gateway, "a__hold");
        const session = await openSession(gateway);
        const running = session.call("a__hold");
        const first = await control.started(a.name);
        await held(first);
        gateway.process.kill("SIGTERM");
        await gateway.waitForLog((entry) => entry.message === "draining");
        const { run, answer } = await askReload(gateway);
        assert.equal(run.code, 1);
        assert.match(answer.error!, /stopping/);
        first.do({ do: "release" });
        assert.equal(text(await running), "released");
    });

    test("a stop in the midst of reloads ends well", async (t) => {
        const gateway = await start(t, { a: { cmd: [TINY] } });
        await served(gateway, "a__t");
        const asked = Array.from({ length: 6 }, async (_, i) => {
            writeConfig(gateway.folder, config({ a: { cmd: [TINY, `/nowhere/${i}`] } }));
            await cardea(["reload", "--json", "--data-dir", gateway.dataDir]);
        });
        await gateway.waitForLog((entry) => entry.message === "applies another configuration");
        await gateway.stop();
        await Promise.allSettled(asked);
    });

    test("a peer of the control socket that hangs up is not waited for", async (t) => {
        const gateway = await start(t, { a: { cmd: [TINY] } });
        await served(gateway, "a__t");
        for (let i = 0; i < 20; i++) {
            const socket = net.connect(join(gateway.dataDir, "control.sock"));
            socket.on("error", () => {});
            await new Promise<void>((resolve) => {
                socket.write(`{"command":"reload"}\n{"command":"status"}\n{"command":"reload"}\n`, () => resolve());
            });
            socket.destroy();
        }
        const answers = await new Promise<string>((resolve) => {
            const socket = net.connect(join(gateway.dataDir, "control.sock"));
            let all = "";
            socket.setEncoding("utf8").on("data", (chunk: string) => {
                all += chunk;
                if (all.split("\n").length === 4) socket.end(() => resolve(all));
            });
            socket.write(`{"command":"reload"}\n{"command":"status"}\n{"command":"nothing"}\n`);
        });
        const [first, second, third] = answers.trim().split("\n").map((line) => JSON.parse(line));
        assert.equal(first.reload.servers.unchanged, 1);
        assert.equal(second.status.upstreams[0].name, "a");
        assert.match(third.error, /unknown command; known: status refresh reload/);
    });

    test("a token that is taken back ends at once, and so does what it had open", async (t) => {
        const a = fixture();
        const secret = `cardea_${"t".repeat(43)}`;
        const tokens = {
            gone: { hash: `sha256:${createHash("sha256").update(secret).digest("hex")}` },
            stays: { hash: `sha256:${"0".repeat(64)}` },
        };
        const gateway = await start(t, { a: a.server }, { auth: { tokens } });
        await served(gateway, "a__echo");
        const own = await openSession(gateway);
        const pid = async () => (JSON.parse(text(await own.call("a__whoami"))) as { pid: number }).pid;
        const before = await pid();
        const session = await openSession({ port: gateway.port, token: secret } as Gateway);
        const open = await session.stream();
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        t.after(() => agent.destroy());
        const ping = () =>
            new Promise<number>((resolve, reject) => {
                const headers = {
                    ...session.headers,
                    Authorization: `Bearer ${secret}`,
                    "Content-Type": "application/json",
                    Accept: "application/json, text/event-stream",
                };
                const options = { host: "127.0.0.1", port: gateway.port, path: "/mcp", method: "POST", headers, agent };
                const request = http.request(options, (answer) => {
                    answer.resume().once("end", () => resolve(answer.statusCode!));
                });
                request.once("error", reject);
                request.end('{"jsonrpc":"2.0","id":1,"method":"ping"}');
            });
        assert.equal(await ping(), 200);
        const report = await reload(gateway, config({ a: a.server }, { auth: { tokens: { stays: tokens.stays } } }));
        assert.deepEqual(report.applied, ["server.auth.tokens"]);
        // On the connection that knew it, and on others.
        assert.equal(await ping(), 401);
        assert.equal((await session.send({ body: { jsonrpc: "2.0", id: 1, method: "ping" } })).status, 401);
        await within(open.ended, "its stream ends");
        assert.equal(await pid(), before, "the server of others does not notice");
    });

    test("who may call a server changes without the server", async (t) => {
        const a = fixture();
        const auth = {
            tokens: { t: { hash: `sha256:${createHash("sha256").update("x".repeat(43)).digest("hex")}`, scopes: ["s"] } },
        };
        const gateway = await start(t, { a: { ...a.server, scopes: ["s"] } }, { auth });
        await served(gateway, "a__echo");
        const own = await openSession(gateway);
        const pid = await pidOf(own, "a__");
        const report = await reload(gateway, config({ a: { ...a.server, scopes: ["s", "other"] } }, { auth }));
        assert.deepEqual(report.applied, ["mcp.servers.a.scopes"]);
        assert.equal(report.servers.unchanged, 1);
        const session = await openSession({ port: gateway.port, token: "x".repeat(43) } as Gateway);
        const answer = await session.send({
            body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "a__echo", arguments: {} } },
        });
        assert.equal(answer.status, 403, answer.text);
        assert.equal(await pidOf(own, "a__"), pid);
    });

    test("the control socket is for us alone", { skip: unlessRoot }, async (t) => {
        const gateway = await start(t, { a: { cmd: [TINY] } });
        const path = join(gateway.dataDir, "control.sock");
        assert.equal(statSync(path).mode & 0o777, 0o600);
        const script = `
            const socket = require("net").connect(${JSON.stringify(path)});
            let all = "";
            socket.on("data", (chunk) => (all += chunk)).on("error", (error) => (all = error.code));
            socket.on("close", () => process.stdout.write("got:" + all));
            socket.write('{"command":"reload"}\\n');`;
        const asNobody = () => {
            const ids = { uid: 65534, gid: 65534, env: {}, cwd: "/", encoding: "utf8" as const };
            return spawnSync(process.execPath, ["-e", script], ids).stdout;
        };
        assert.equal(asNobody(), "got:EACCES");
        // Somebody has opened it to all: then who asks is looked at.
        for (let folder = gateway.dataDir; folder !== "/"; folder = dirname(folder)) chmodSync(folder, 0o755);
        chmodSync(path, 0o666);
        assert.ok(["got:", "got:EPIPE", "got:ECONNRESET"].includes(asNobody()));
        await gateway.waitForLog((entry) => entry.message === "turned a peer away");
        assert.ok(!gateway.log.items.some((entry) => String(entry.message).includes("reloaded")));
    });

    test("100 reloads under load lose no call and leave nothing", { skip: unlessRoot, timeout: 240_000 }, async (t) => {
        const variant = (i: number): Config =>
            config({
                steady: { cmd: [TINY] },
                turning: { cmd: [TINY], idle_timeout: `${600 + (i % 2)}s` },
                ...(i % 3 === 0 ? { extra: { cmd: [TINY] } } : {}),
            });
        const gateway = await startGateway({ config: variant(1), args: ["--log", "info"] }, t);
        await served(gateway, "steady__t", "turning__t");
        const processes = descendants(gateway.pid).length;
        const pid = text(await (await openSession(gateway)).call("steady__t"));
        let isOver = false;
        let n_calls = 0;
        const callers = Array.from({ length: 6 }, async (_, i) => {
            const session = await openSession(gateway, i % 3 === 2 ? "/mcp/turning" : "/mcp");
            const name = ["steady__t", "turning__t", "t"][i % 3]!;
            while (!isOver) {
                const answer = await session.call(name);
                assert.match(text(answer), /^pid \d+$/, JSON.stringify(answer));
                if (i % 3 === 0) assert.equal(text(answer), pid, "an unchanged server keeps its process");
                n_calls++;
            }
            assert.equal((await session.end()).status, 200);
        });
        const quiet = await stream(gateway, { method: "GET", path: "/health" });
        quiet.close();
        let before = 0;
        for (let i = 1; i <= 100; i++) {
            await reload(gateway, variant(i));
            if (i === 10) before = descriptors(gateway);
        }
        isOver = true;
        await Promise.all(callers);
        assert.ok(n_calls > 100, `${n_calls} calls`);
        await reload(gateway, variant(1));
        await until(
            () => descendants(gateway.pid).length <= processes,
            () => `${descendants(gateway.pid).length} processes, ${processes} before`,
        );
        await until(
            () => descriptors(gateway) <= before,
            () => `${descriptors(gateway)} descriptors, ${before} before`,
        );
    });
});
