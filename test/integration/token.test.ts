/* API tokens: `cardea token new`, [server.auth.tokens], MCP_API_TOKEN and where it is not to be seen. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { startGateway } from "./lib/gateway.ts";
import { initialize, openSession, send, served } from "./lib/http.ts";
import { descendants, unlessRoot } from "./lib/proc.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until } from "./lib/wait.ts";

const SERVER = '[mcp.servers.one]\ncmd = ["true"]\n';
const FORM = /^cardea_[A-Za-z0-9_-]{43}$/;
const sha256 = (token: string) => `sha256:${createHash("sha256").update(token).digest("hex")}`;

function ended(run: Run, code: number): void {
    assert.equal(run.signal, null);
    assert.equal(run.code, code, run.stdout + run.stderr);
}

describe("cardea token new", () => {
    let folder: string;
    before(() => (folder = temporaryFolder()));
    after(() => removeFolder(folder));

    test("prints a token and the lines for it", async () => {
        const run = await cardea(["token", "new", "ci"]);
        ended(run, 0);
        const [token, table, hash, ...rest] = run.stdout.split("\n");
        assert.match(token!, FORM);
        assert.equal(table, "[server.auth.tokens.ci]");
        assert.equal(hash, `hash = "${sha256(token!)}"`);
        assert.deepEqual(rest, [""]);
        assert.equal(run.stderr, "");
    });

    test("--json, wherever it stands", async () => {
        for (const args of [
            ["--json", "token", "new", "a.b"],
            ["token", "--json", "new", "a.b"],
            ["token", "new", "a.b", "--json"],
        ]) {
            const run = await cardea(args);
            ended(run, 0);
            const said = JSON.parse(run.stdout) as { name: string; token: string; hash: string };
            assert.equal(said.name, "a.b");
            assert.match(said.token, FORM);
            assert.equal(said.hash, sha256(said.token));
        }
    });

    test("no two are the same", async () => {
        const tokens = new Set<string>();
        for (let i = 0; i < 8; i++) tokens.add((await cardea(["token", "new", "x"])).stdout.split("\n")[0]!);
        assert.equal(tokens.size, 8);
    });

    test("--out keeps it off the screen: a new file, 0600, which is never overwritten", async () => {
        const file = join(folder, "token");
        const run = await cardea(["token", "new", "ci", "--out", file]);
        ended(run, 0);
        const token = readFileSync(file, "utf8").trim();
        assert.match(token, FORM);
        assert.equal(statSync(file).mode & 0o777, 0o600);
        assert.ok(!run.stdout.includes(token));
        assert.ok(run.stdout.includes(sha256(token)));

        const again = await cardea(["token", "new", "ci", "--out", file]);
        ended(again, 1);
        assert.match(again.stderr, /it is there already, and is not overwritten/);
        assert.equal(again.stdout, "");
        assert.equal(readFileSync(file, "utf8").trim(), token);

        const link = join(folder, "link");
        symlinkSync(join(folder, "elsewhere"), link);
        ended(await cardea(["token", "new", "ci", "--out", link]), 1);
        assert.ok(!existsSync(join(folder, "elsewhere")), "a link is not followed");
        ended(await cardea(["token", "new", "ci", "--out", join(folder, "no", "folder")]), 1);

        const json = await cardea(["token", "new", "ci", "--json", "--out", join(folder, "other")]);
        ended(json, 0);
        assert.deepEqual(Object.keys(JSON.parse(json.stdout) as object), ["name", "hash"]);
    });

    test("bad usage", async () => {
        for (const args of [
            ["token"],
            ["token", "old"],
            ["token", "new"],
            ["token", "new", "a", "b"],
            ["token", "new", "a b"],
            ["token", "new", ""],
            ["token", "new", "a/b"],
            ["token", "new", "--", "-x"],
            ["token", "new", "x".repeat(65)],
            ["token", "new", "a", "--out"],
        ]) {
            const run = await cardea(args);
            ended(run, 2);
            assert.equal(run.stdout, "");
            assert.match(run.stderr, /^cardea: /);
        }
        assert.match((await cardea(["token"])).stderr, /token new/);
    });

    test("what it prints loads", async () => {
        for (const name of ["ci", "night.job", "x".repeat(64), "_", "9"]) {
            const lines = (await cardea(["token", "new", name])).stdout.split("\n").slice(1).join("\n");
            const file = join(folder, "made.toml");
            writeFileSync(file, `${lines}${SERVER}`);
            const run = await cardea(["check", file]);
            ended(run, 0);
            assert.equal(run.stderr, "");
        }
    });
});

describe("tokens of the configuration", () => {
    let control: Control;
    before(async () => (control = await startControl()));
    after(() => control.close());

    const servers = () => ({
        one: { cmd: control.command({ name: "one" }) },
        two: { cmd: control.command({ name: "two" }) },
    });

    test("made, stored, used; others and those that are over are not", async (t) => {
        const make = async (name: string) =>
            JSON.parse((await cardea(["token", "new", name, "--json"])).stdout) as { token: string; hash: string };
        const [all, one, none, over] = [await make("all"), await make("one"), await make("none"), await make("over")];
        const gateway = await startGateway(
            {
                config: {
                    server: {
                        auth: {
                            tokens: {
                                all: { hash: all.hash, expires: "2999-01-01" },
                                one: { hash: one.hash.toUpperCase().replace("SHA256", "sha256"), servers: ["one"] },
                                none: { hash: none.hash, servers: [] },
                                over: { hash: over.hash, expires: "2001-01-01" },
                            },
                        },
                    },
                    servers: servers(),
                },
            },
            t,
        );
        await served(gateway, "one__echo", "two__echo");
        const names = async (token: string) => {
            const session = await openSession({ port: gateway.port, token });
            const list = await session.request("tools/list");
            const names = (list.result as { tools: { name: string }[] }).tools.map((tool) => tool.name);
            return names.filter((name) => name.endsWith("__echo")).sort();
        };
        // Each principal has processes of its own, which may take longer than a list waits.
        const expected: [string, string[]][] = [
            [all.token, ["one__echo", "two__echo"]],
            [one.token, ["one__echo"]],
        ];
        for (const [token, wanted] of expected)
            await until(
                async () => JSON.stringify(await names(token)) === JSON.stringify(wanted),
                () => `${wanted} are listed`,
            );
        assert.deepEqual(await names(one.token), ["one__echo"]);
        assert.deepEqual(await names(none.token), []);
        for (const token of [
            over.token,
            all.token.slice(0, -1),
            `${all.token}x`,
            all.token.toUpperCase(),
            all.hash,
            all.hash.slice(7),
            "",
        ]) {
            const answer = await send({ port: gateway.port, token }, { body: initialize("2025-06-18") });
            assert.ok([400, 401].includes(answer.status), `${token}: ${answer.status}`);
        }
    });

    test("MCP_API_TOKEN is taken, and seen nowhere", { skip: unlessRoot }, async (t) => {
        const token = "0123456789abcdef".repeat(4);
        const cmd = control.command({ name: "one" });
        const gateway = await startGateway(
            {
                config: { servers: { one: { cmd, inherit_env: ["MCP_API_TOKEN", "WITNESS"] } } },
                env: { ...process.env, MCP_API_TOKEN: token, WITNESS: "is inherited" },
            },
            t,
        );
        const session = await openSession({ port: gateway.port, token });
        assert.match(JSON.stringify(await session.call("one__echo", { text: "hello" })), /hello/);
        const children = descendants(gateway.pid);
        assert.ok(children.length > 1, "the spawner and the server");
        let witnessed = 0;
        for (const pid of [gateway.pid, ...children]) {
            const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
            assert.ok(!environment.includes(token), `the environment of ${pid}`);
            assert.ok(!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(token));
            if (environment.includes("WITNESS=is inherited")) witnessed++;
        }
        assert.ok(witnessed > 1, "the rest of the environment is there");
        assert.ok(!gateway.tail(Infinity).includes(token), "the log");
        for (const name of readdirSync(gateway.dataDir)) {
            const path = join(gateway.dataDir, name);
            if (statSync(path).isFile()) assert.ok(!readFileSync(path, "utf8").includes(token), name);
        }
    });

    test("a short MCP_API_TOKEN works, with a warning; one that cannot be sent does not start", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const file = join(folder, "cardea.toml");
        writeFileSync(file, SERVER);
        const check = (token: string) => cardea(["check", file], { env: { ...process.env, MCP_API_TOKEN: token } });
        const short = await check("abc");
        ended(short, 0);
        assert.match(short.stderr, /MCP_API_TOKEN is shorter than 32 characters.*openssl rand -hex 32/);
        assert.equal((await check("x".repeat(31))).stderr === "", false);
        assert.equal((await check("x".repeat(32))).stderr, "");
        assert.equal((await check("")).stderr, "");
        for (const token of ["with a space".repeat(4), `${"x".repeat(40)}\n`, "ä".repeat(40)]) {
            const run = await check(token);
            ended(run, 78);
            assert.match(run.stderr, /can carry/);
            assert.ok(!run.stderr.includes(token.trim()), "it is not repeated");
        }
        const gateway = await startGateway(
            { config: { servers: servers() }, env: { ...process.env, MCP_API_TOKEN: "abc" } },
            t,
        );
        const ask = (token: string) => send({ port: gateway.port, token }, { body: initialize("2025-06-18") });
        assert.equal((await ask("abc")).status, 200);
        assert.equal((await ask("ab")).status, 401);
    });

    test("a template does not find MCP_API_TOKEN", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const file = join(folder, "cardea.toml");
        writeFileSync(file, '[mcp.servers.one]\nurl = "https://a.example.com"\nauth.token = "{{ env.MCP_API_TOKEN }}"\n');
        chmodSync(file, 0o600);
        const run = await cardea(["check", file], { env: { ...process.env, MCP_API_TOKEN: "x".repeat(40) } });
        ended(run, 78);
        assert.match(run.stderr, /needs the environment variable MCP_API_TOKEN, which is not set/);
    });
});
