/* The command line: what it says, and the code it ends with (0 fine, 1 failed, 2 bad usage, 78 bad configuration). */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";

import { cardea, prepared, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { launchGateway, startGateway, toml, writeConfig } from "./lib/gateway.ts";
import { openSession, send } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { within } from "./lib/wait.ts";

const said = (run: Run) => run.stdout + run.stderr;

function ended(run: Run, code: number): void {
    assert.equal(run.signal, null);
    assert.equal(run.code, code, said(run));
}

const SERVER = '[mcp.servers.one]\ncmd = ["true"]\n';

describe("the command line", () => {
    let control: Control;
    let folder: string;
    before(async () => {
        control = await startControl();
        folder = temporaryFolder();
    });
    after(async () => {
        await control.close();
        removeFolder(folder);
    });

    const own = (name: string) => {
        const path = join(folder, name);
        mkdirSync(path);
        return path;
    };
    const fixture = (name: string) => ({
        servers: { one: { cmd: control.command({ name, resources: [{ uri: "x://y", name: "y" }] }) } },
    });

    test("--version and --help", async () => {
        const version = await cardea(["--version"]);
        ended(version, 0);
        assert.match(version.stdout, /^cardea \d+\.\d+\.\d+/);
        const help = await cardea(["--help"]);
        ended(help, 0);
        for (const word of [
            "serve",
            "check",
            "tools",
            "call",
            "token new",
            "--config",
            "--listen-address",
            "--admin-listen",
            "--data-dir",
            "--log",
            "--log-style",
        ]) {
            assert.ok(help.stdout.includes(word), word);
        }
        for (const command of ["serve", "check", "tools", "call", "token"]) ended(await cardea([command, "--help"]), 0);
    });

    test("bad usage is 2 and says what was wrong, on stderr", async () => {
        for (const args of [
            ["nonsense"],
            ["serve", "--nonsense"],
            ["serve", "-c"],
            ["serve", "--log", "loud"],
            ["serve", "--log-style", "baroque"],
            ["serve", "-l", "not an address", ...prepared(own("usage-address"), SERVER)],
            ["serve", "-l", "127.0.0.1:99999", ...prepared(own("usage-port"), SERVER)],
            ["check", "a", "b"],
            ["call"],
            ["call", "one__echo", "{", ...prepared(own("usage-json"), SERVER)],
            ["call", "one__echo", "[1]", ...prepared(own("usage-array"), SERVER)],
        ]) {
            const run = await cardea(args);
            assert.equal(run.code, 2, `${args.join(" ")}: ${said(run)}`);
            assert.ok(run.stderr.length > 0 && run.stdout === "", args.join(" "));
        }
    });

    test("check: a good file is 0", async () => {
        const file = writeConfig(own("check-good"), toml(fixture("check")));
        ended(await cardea(["check", file]), 0);
        assert.equal(control.count("check"), 0, "check starts nothing");
    });

    test("check: everything that is wrong at once, with file, line, column and suggestion", async () => {
        const text = [
            "[server]",
            "wrokers = 2",
            "listen_address = 7",
            "",
            "[mcp.servers.one]",
            'cmd = "true"',
            'idle_timeout = "soon"',
            "",
            "[nothing]",
            "x = 1",
        ].join("\n");
        const file = writeConfig(own("check-bad"), text);
        const run = await cardea(["check", file]);
        ended(run, 78);
        for (const place of ["2:1", "3:", "6:", "7:", "9:"])
            assert.ok(said(run).includes(`${file}:${place}`), `${place} in\n${said(run)}`);
        assert.match(said(run), /workers/, "the nearest known name");
        assert.match(said(run), /wrokers/);
    });

    const wrong: { name: string; text: string; says: RegExp }[] = [
        { name: "no TOML", text: "[server\n", says: /:1:\d+/ },
        { name: "a key twice", text: "[server]\nworkers = 1\nworkers = 2\n", says: /:3:1/ },
        { name: "not UTF-8", text: "[server]\n# \u0000\n", says: /:2:/ },
        {
            name: "a missing variable",
            text: '[mcp.servers.one]\ncmd = ["{{ env.CARDEA_TEST_NOT_SET }}"]\n',
            says: /CARDEA_TEST_NOT_SET/,
        },
        { name: "an open placeholder", text: '[mcp.servers.one]\ncmd = ["{{ env.X "]\n', says: /:2:/ },
        { name: "an empty command", text: "[mcp.servers.one]\ncmd = []\n", says: /cmd/ },
        { name: "a server name with a space", text: '[mcp.servers."a b"]\ncmd = ["true"]\n', says: /a b/ },
        { name: "a server name with two underscores", text: '[mcp.servers.a__b]\ncmd = ["true"]\n', says: /a__b/ },
        { name: "a server name that ends in an underscore", text: '[mcp.servers.a_]\ncmd = ["true"]\n', says: /a_/ },
        { name: "a server name of 33 bytes", text: `[mcp.servers.${"a".repeat(33)}]\ncmd = ["true"]\n`, says: /32/ },
        { name: "a server named sse", text: '[mcp.servers.sse]\ncmd = ["true"]\n', says: /sse/ },
        { name: "a server named message", text: '[mcp.servers.message]\ncmd = ["true"]\n', says: /message/ },
        {
            name: "a server named server-card",
            text: '[mcp.servers.server-card]\ncmd = ["true"]\n',
            says: /server-card/,
        },
        { name: "a number out of bounds", text: `[server]\nworkers = -1\n${SERVER}`, says: /workers/ },
        { name: "an unknown share", text: `${SERVER}share = "everybody"\n`, says: /share/ },
        { name: "an unknown isolation", text: `${SERVER}isolation = "some"\n`, says: /isolation/ },
        {
            name: "anonymous beyond loopback",
            text: `[server]\nlisten_address = "0.0.0.0:0"\nauth.anonymous = true\n${SERVER}`,
            says: /anonymous|loopback/i,
        },
        {
            name: "beyond loopback without authentication",
            text: `[server]\nlisten_address = "0.0.0.0:0"\n${SERVER}`,
            says: /nobody there can prove who they are/,
        },
        // start-rules.test.ts and test/unit/config have the other rules of who is calling
        {
            name: "oauth without a resource",
            text: `[server.oauth]\nurl = "https://example.com/jwks"\npoll_interval = "5m"\nexpected_issuer = "x"\n${SERVER}`,
            says: /oauth needs protected_resource\.resource/,
        },
        { name: "a certificate without a key", text: `[server.tls]\ncertificate = "a"\n${SERVER}`, says: /tls\.key/ },
        // what restricts and is not understood
        { name: "edit_mode is no boolean", text: `[security]\nedit_mode = "off"\n${SERVER}`, says: /edit_mode/ },
        { name: "a whitelist of no server", text: `[security]\nwhitelist = ["two__t"]\n${SERVER}`, says: /whitelist/ },
        { name: "a limit without an interval", text: `${SERVER}rate_limits = { limit = 1 }\n`, says: /interval/ },
        { name: "an interval without a limit", text: `[server.rate_limits.global]\ninterval = "1s"\n${SERVER}`, says: /limit/ },
        { name: "allow is no list", text: `${SERVER}allow = "admins"\n`, says: /allow/ },
        { name: "deny with what is no group", text: `${SERVER}deny = [1]\n`, says: /deny/ },
        { name: "access is another word", text: `${SERVER}access = "readonly"\n`, says: /access.*read/ },
        { name: "a pattern that is none", text: `${SERVER}tools.t.arguments.x.pattern = "("\n`, says: /pattern/ },
    ];
    for (const [index, { name, text, says }] of wrong.entries()) {
        test(`check and serve refuse: ${name}`, async () => {
            const path = own(`wrong-${index}`);
            const file = writeConfig(path, text);
            const run = await cardea(["check", file]);
            ended(run, 78);
            assert.match(said(run), says);
            assert.ok(said(run).includes(file), "it names the file");
            const serve = await cardea(["serve", "-c", file, "--data-dir", join(path, "data")]);
            ended(serve, 78);
            assert.match(serve.stderr, says);
        });
    }

    test("what has no effect on security is a warning only", async () => {
        const file = writeConfig(own("warning"), `[llm]\nenabled = true\n\n${SERVER}[mcp.servers.two]\nenv = {}\n`);
        const run = await cardea(["check", file]);
        ended(run, 0);
        assert.match(said(run), /llm/);
        assert.match(said(run), /mcp\.servers\.two has neither cmd nor url/);
    });

    test("a missing file is an error that names it", async () => {
        const file = join(folder, "absent.toml");
        for (const args of [
            ["check", file],
            ["serve", "-c", file, "--data-dir", join(folder, "absent-data")],
        ]) {
            const run = await cardea(args);
            assert.ok(run.code === 78 || run.code === 1, said(run));
            assert.ok(run.stderr.includes(file));
        }
    });

    test("tools: what a configuration serves", async () => {
        const args = prepared(own("tools"), fixture("tools"));
        const plain = await cardea(["tools", ...args]);
        ended(plain, 0);
        assert.match(plain.stdout, /one__echo/);
        const json = await cardea(["tools", ...args, "--json"]);
        ended(json, 0);
        const { tools } = JSON.parse(json.stdout) as { tools: { name: string }[] };
        const names = tools.map((tool) => tool.name);
        assert.ok(names.includes("one__echo") && names.includes("one__crash"), String(names));
        for (const process of control.starts.items) await process.isGone();
    });

    test("call: the result, and 1 where it failed", async () => {
        const args = prepared(own("call"), fixture("call"));
        const plain = await cardea(["call", "one__echo", '{"text":"from the shell"}', ...args]);
        ended(plain, 0);
        assert.match(plain.stdout, /from the shell/);
        const json = await cardea(["call", "one__echo", '{"text":"zählt"}', ...args, "--json"]);
        ended(json, 0);
        const value = JSON.parse(json.stdout) as { content?: unknown; result?: { content: unknown } };
        assert.deepEqual(value.content ?? value.result?.content, [{ type: "text", text: "zählt" }]);
        for (const name of ["one__fail", "one__refuse", "one__none", "nobody__echo"]) {
            const run = await cardea(["call", name, "{}", ...args]);
            ended(run, 1);
            assert.ok(said(run).length > 0, name);
        }
        const crash = await cardea(["call", "one__crash", "{}", ...args]);
        ended(crash, 1);
        for (const process of control.starts.items) await process.isGone();
    });

    test("CARDEA_CONFIG_PATH, CARDEA_LISTEN_ADDRESS, CARDEA_LOG, and the command line wins", async (t) => {
        const path = own("environment");
        const file = writeConfig(path, toml(fixture("environment")));
        const env = { ...process.env, CARDEA_CONFIG_PATH: file, CARDEA_LOG: "debug" };
        const run = await cardea(["tools", "--data-dir", join(path, "data")], { env });
        ended(run, 0);
        assert.match(run.stdout, /one__echo/);
        const bad = await cardea(["serve", "--data-dir", join(path, "data")], {
            env: { ...env, CARDEA_LISTEN_ADDRESS: "nowhere" },
        });
        assert.ok(bad.code === 2 || bad.code === 78, said(bad));
        const gateway = await startGateway(
            {
                config: fixture("environment-serve"),
                env: { ...process.env, CARDEA_LISTEN_ADDRESS: "127.0.0.1:1", CARDEA_CONFIG_PATH: "/nonexistent.toml" },
            },
            t,
        );
        assert.notEqual(gateway.port, 1);
        await gateway.stop();
    });

    test("the token: made once, 0600, never in the log, in no argument and no variable", async (t) => {
        const path = own("token");
        const dataDir = join(path, "data");
        const first = await startGateway({ config: fixture("token"), dataDir }, t);
        const { token } = first;
        assert.equal(statSync(join(dataDir, "token")).mode & 0o777, 0o600);
        assert.equal(statSync(dataDir).mode & 0o077, 0, "the data directory is the owner's alone");
        assert.ok(token.length >= 32 && !token.includes("\n"), "long enough");
        await (await openSession(first)).call("one__echo", { text: "x" });
        assert.ok(!JSON.stringify(first.log.items).includes(token));
        assert.ok(!readFileSync(`/proc/${first.pid}/cmdline`, "utf8").includes(token));
        const environ = () => readFileSync(`/proc/${first.pid}/environ`, "utf8");
        if (process.getuid!() === 0) assert.ok(!environ().includes(token));
        else assert.throws(environ, { code: "EACCES" }, "not dumpable: only root sees its variables");
        await first.stop();
        const second = await startGateway({ config: fixture("token"), dataDir }, t);
        assert.equal(second.token, token);
        await second.stop();
    });

    test("nobody else can put a token into the data directory", async (t) => {
        const path = own("shared");
        const dataDir = join(path, "data");
        mkdirSync(dataDir);
        chmodSync(dataDir, 0o777);
        const gateway = await startGateway({ config: fixture("shared"), dataDir }, t);
        assert.equal(statSync(dataDir).mode & 0o022, 0);
        await gateway.stop();
        chmodSync(dataDir, 0o1777);
        const refused = launchGateway({ config: fixture("shared"), dataDir });
        t.after(() => refused.abandon());
        const { code } = await within(refused.exited, "it gives up");
        assert.equal(code, 1, refused.tail());
        assert.match(refused.tail(), /other accounts can write to .*data.*--data-dir .*data\/cardea/);
        assert.equal(statSync(dataDir).mode & 0o7777, 0o1777, "it is others' too, and stays as it is");
    });

    test("a data directory is one instance's", async (t) => {
        const path = own("locked");
        const dataDir = join(path, "data");
        const first = await startGateway({ config: fixture("locked"), dataDir }, t);
        const second = launchGateway({ config: fixture("locked-too"), dataDir });
        t.after(() => second.abandon());
        const { code } = await within(second.exited, "the second instance gives up");
        assert.equal(code, 1, second.tail());
        assert.equal((await send(first, { method: "GET", path: "/health", token: false })).status, 200);
        await first.stop();
        const third = await startGateway({ config: fixture("locked-again"), dataDir }, t);
        await third.stop();
    });

    test("an address in use is 1 and named", async (t) => {
        const first = await startGateway({ config: fixture("bound") }, t);
        const second = launchGateway({ config: fixture("bound-too"), args: ["-l", first.host] });
        t.after(() => second.abandon());
        const { code } = await within(second.exited, "the second gives up");
        assert.equal(code, 1, second.tail());
        assert.ok(second.tail().includes(String(first.port)), second.tail());
        await first.stop();
    });

    test("a file past the limit of 4 MiB is refused", async () => {
        const file = writeConfig(own("large"), SERVER);
        writeFileSync(file, `${SERVER}# ${"x".repeat(5 * 1024 * 1024)}\n`);
        ended(await cardea(["check", file]), 78);
    });
});
