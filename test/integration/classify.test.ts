/*
 * `cardea classify`: what it suggests, the lines that it makes, and what it puts into the file, with servers that name
 * their tools as an attacker would.
 */
import assert from "node:assert/strict";
import { chmodSync, linkSync, lstatSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { startGateway } from "./lib/gateway.ts";
import { openSession } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";

const tool = (name: string, annotations?: { [hint: string]: boolean }) => ({
    name,
    description: '"]\n[server]\nplaintext = true\n\u001b[2J access = "read"',
    inputSchema: { type: "object" },
    ...(annotations === undefined ? {} : { annotations }),
});

interface Answer {
    tools: { name: string; server: string; tool: string; suggestion: string; why: string; contradiction: boolean }[];
    known: number;
    not_asked: string[];
    lines: string;
    written: boolean;
}

describe("classify", () => {
    let control: Control;
    let n = 0;
    before(async () => void (control = await startControl()));
    after(() => control.close());

    /** The line `cmd = [...]` of a fixture with these tools. */
    const cmd = (tools: unknown[], more: object = {}) =>
        `cmd = ${JSON.stringify(control.command({ name: `classify${++n}`, tools, ...more }))}`;

    function file(t: TestContext, text: string): { path: string; folder: string } {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const path = join(folder, "gw.toml");
        writeFileSync(path, text);
        return { path, folder };
    }

    const run = (path: string, ...args: string[]): Promise<Run> =>
        cardea(["classify", "-c", path, "--data-dir", join(path, "..", "data"), ...args]);

    async function answer(path: string, ...args: string[]): Promise<Answer> {
        const done = await run(path, "--json", ...args);
        assert.equal(done.code, 0, done.stderr);
        return JSON.parse(done.stdout) as Answer;
    }

    const FIVE = [
        tool("get_user"),
        tool("delete_user"),
        tool("look", { readOnlyHint: true }),
        tool("purge", { readOnlyHint: true }),
        tool("list_all", { destructiveHint: true }),
    ];

    test("suggests, with reasons, and prints the lines", async (t) => {
        const text = `# mine\n[mcp.servers.it]\n${cmd(FIVE)}\n`;
        const { path } = file(t, text);
        const done = await run(path);
        assert.equal(done.code, 0, done.stderr);
        const rows = done.stdout.split("\n").filter((line) => line.startsWith("it__"));
        assert.deepEqual(
            rows.map((line) => line.split(/\s+/).slice(0, 2).join(" ")),
            ["it__get_user read", "it__delete_user write", "it__look read", "it__purge write", "it__list_all write"],
        );
        assert.match(rows[0]!, /get/);
        assert.match(rows[3]!, /purge.*contradiction/);
        assert.match(rows[4]!, /contradiction/);
        const lines = [
            "[mcp.servers.it.tools]",
            'get_user.access = "read"',
            'delete_user.access = "write"',
            'look.access = "read"',
            'purge.access = "write"',
            'list_all.access = "write"',
            "",
        ].join("\n");
        assert.ok(done.stdout.endsWith(`\n\n${lines}`), done.stdout);
        assert.equal(readFileSync(path, "utf8"), text, "nothing is written unasked");

        const json = await answer(path);
        assert.equal(json.lines, lines);
        assert.deepEqual(json.tools.map((each) => each.suggestion), ["read", "write", "read", "write", "write"]);
        assert.deepEqual(json.tools.map((each) => each.contradiction), [false, false, false, true, true]);
        assert.equal(json.written, false);
    });

    test("asks only about tools of which the file says nothing", async (t) => {
        const { path } = file(
            t,
            `[mcp.servers.it]\n${cmd(FIVE)}\ntools.look.access = "write"\n[mcp.servers.all]\naccess = "read"\n${cmd(FIVE)}\n`,
        );
        const json = await answer(path);
        assert.equal(json.known, 6);
        assert.deepEqual(json.tools.map((each) => each.tool), ["get_user", "delete_user", "purge", "list_all"]);
    });

    test("--write: every other byte stays, and the gateway goes by the lines", async (t) => {
        const before = [
            "# The file of Ada\t(tabs, \u00e9)",
            "[server] # listens",
            "workers = 1",
            "",
            "[mcp.servers.it]",
            cmd(FIVE),
            "share = 'all'",
            "# end of it",
            "",
            "# The other one.",
            "[mcp.servers.other]",
            `${cmd([tool("read_it")])}   # odd   spaces`,
            "[mcp.servers.other.tools.read_it] # has a table",
            "arguments.x = { max = 3 }",
        ];
        const { path, folder } = file(t, before.join("\n"));
        chmodSync(path, 0o640);
        const done = await run(path, "--write");
        assert.equal(done.code, 0, done.stderr);
        assert.match(done.stdout, /6 lines were added; .*cardea reload/);
        const expected = [...before];
        expected.splice(
            8,
            0,
            "",
            "[mcp.servers.it.tools]",
            'get_user.access = "read"',
            'delete_user.access = "write"',
            'look.access = "read"',
            'purge.access = "write"',
            'list_all.access = "write"',
        );
        assert.equal(readFileSync(path, "utf8"), [...expected, 'access = "read"', ""].join("\n"));
        assert.equal(statSync(path).mode & 0o7777, 0o640);
        assert.deepEqual(readdirSync(folder).sort(), ["data", "gw.toml"], "nothing is left beside it");

        const again = await run(path, "--write");
        assert.equal(again.code, 0, again.stderr);
        assert.match(again.stdout, /nothing to classify/);

        const gateway = await startGateway({ config: readFileSync(path, "utf8") }, t);
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
        const session = await openSession(gateway, "/mcp/it");
        const listed = (await session.request("tools/list")).result!.tools as { name: string }[];
        assert.deepEqual(listed.map(({ name }) => name), ["get_user", "look"]);
    });

    test("--write through a symbolic link writes the file behind it", async (t) => {
        const { path, folder } = file(t, `[mcp.servers.it]\n${cmd([tool("get_a")])}\n`);
        const other = join(folder, "elsewhere");
        mkdirSync(other);
        const link = join(other, "cardea.toml");
        symlinkSync("../gw.toml", link);
        assert.equal((await answer(link, "--write")).written, true);
        assert.ok(lstatSync(link).isSymbolicLink());
        assert.match(readFileSync(path, "utf8"), /get_a\.access = "read"\n$/);
        assert.deepEqual(readdirSync(other).sort(), ["cardea.toml", "data"]);
    });

    test("names that attack stay names", async (t) => {
        const evil = [
            'get_"]\n[server]\nplaintext = true\n#', // a name with a line end is left out of the list
            'get_"] = 1 # \\',
            "get_'''\"\"\"",
            "get_{{ env.HOME }}",
            "get_\u202edaer\u200b",
            "get_\u009b2J",
            "get.a.b",
            "access",
            "tools",
            "get_" + "x".repeat(500),
            "get_\u{1f600}",
        ];
        const text = `[mcp.servers.it]\n${cmd(evil.map((name) => tool(name)))}\n`;
        const { path } = file(t, text);
        const json = await answer(path, "--write");
        assert.equal(json.written, true);
        assert.deepEqual(json.tools.map((each) => each.tool), evil.slice(1));
        const written = readFileSync(path, "utf8");
        assert.ok(written.startsWith(text));
        assert.equal(written.split("\n").length, text.split("\n").length + 1 + 1 + evil.length - 1);
        // eslint-disable-next-line no-control-regex
        assert.doesNotMatch(written, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f]/);
        assert.doesNotMatch(written, /plaintext/);
        const check = await cardea(["check", path]);
        assert.equal(check.code, 0, check.stderr);
        const after = await answer(path);
        assert.deepEqual([after.known, after.tools.length], [evil.length - 1, 0], "each is found by its name again");
        const printed = await run(file(t, text).path);
        // eslint-disable-next-line no-control-regex
        assert.doesNotMatch(printed.stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b\u202e]/);
    });

    test("what cannot be written is left as it is, with the lines to paste", async (t) => {
        const text = `[mcp.servers.it]\n${cmd([tool("get_a")])}\n`;
        const { path, folder } = file(t, text);
        linkSync(path, join(folder, "second"));
        const done = await run(path, "--write");
        assert.equal(done.code, 1);
        assert.match(done.stderr, /nothing was written: .*hard link/);
        assert.match(done.stdout, /\[mcp\.servers\.it\.tools\]\nget_a\.access = "read"\n/);
        assert.equal(readFileSync(path, "utf8"), text);
        const json = await run(path, "--write", "--json");
        assert.equal(json.code, 1);
        assert.equal((JSON.parse(json.stdout) as Answer).written, false);
    });

    test("inline tables and dotted keys are continued in their own way", async (t) => {
        const command = cmd([tool("get_a"), tool("set_a")]);
        const { path } = file(t, `[mcp]\nservers = { it = { ${command}, tools = { get_a = { scopes = [] } } } } # here\n`);
        assert.equal((await answer(path, "--write")).written, true);
        assert.match(
            readFileSync(path, "utf8"),
            /tools = \{ set_a\.access = "write", get_a = \{ access = "read", scopes = \[\] \} \} \} \} # here\n$/,
        );
        assert.equal((await answer(path)).known, 2);
    });

    test("a server that does not come up is named, and the others are classified", async (t) => {
        const { path } = file(
            t,
            `[mcp.servers.dead]\ncmd = ["/nonexistent"]\n[mcp.servers.it]\n${cmd([tool("get_a")])}\n`,
        );
        const done = await run(path, "--json", "--write");
        assert.equal(done.code, 1);
        assert.match(done.stderr, /dead could not be asked/);
        const json = JSON.parse(done.stdout) as Answer;
        assert.deepEqual(json.not_asked, ["dead"]);
        assert.equal(json.written, true);
        assert.match(readFileSync(path, "utf8"), /\n\[mcp\.servers\.it\.tools\]\nget_a\.access = "read"\n$/);
    });

    test("without a server there is nothing to classify", async (t) => {
        const { path } = file(t, "[server]\nworkers = 1\n");
        for (const args of [[], ["--write"]]) {
            const done = await run(path, ...args);
            assert.equal(done.code, 0, done.stderr);
            assert.match(done.stdout, /nothing to classify/);
        }
    });

    test("a thousand tools; and more than the file may have", async (t) => {
        const many = (count: number) => Array.from({ length: count }, (_, i) => tool(`get_${i}`));
        const { path } = file(t, `[mcp.servers.it]\n${cmd(many(1000))}\n`);
        assert.equal((await answer(path, "--write")).written, true);
        assert.equal((await answer(path)).known, 1000);
        const text = `[mcp.servers.it]\nmax_tools = 100000\n${cmd(many(10000))}\n`;
        const big = file(t, text);
        const done = await run(big.path, "--write");
        assert.equal(done.code, 1, done.stderr);
        assert.match(done.stderr, /at most 1000 entries/);
        assert.match(done.stderr, /nothing was written/);
        assert.equal(readFileSync(big.path, "utf8"), text);
    });

    test("the start says what is locked, and the line that opens it", async (t) => {
        const { path, folder } = file(t, `[mcp.servers.it]\n${cmd(FIVE)}\nshare = "all"\n`);
        const told = async (text: string): Promise<string> => {
            const gateway = await startGateway({ config: text }, t);
            let out = "";
            const whole = new Promise<void>((resolve) => {
                gateway.process.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
                    out += chunk;
                    if (out.includes("Stop with Ctrl-C")) resolve();
                });
            });
            await whole;
            return out;
        };
        const closed = await told(readFileSync(path, "utf8"));
        assert.match(closed, /it \(ready, 5 locked\)/);
        assert.match(closed, /\n5 of 5 tools are locked \(edit mode is off\): cardea classify -c \S+\n/);
        assert.match(closed, /cardea edit on --minutes 15 --reason/);
        await run(path, "--write");
        const classified = await told(readFileSync(path, "utf8"));
        assert.match(classified, /\n3 of 5 tools are locked \(edit mode is off\): cardea edit on /);
        assert.doesNotMatch(classified, /cardea classify/);
        const open = await told(`security.edit_mode = true\n${readFileSync(path, "utf8")}`);
        assert.match(open, /Edit mode is on \(security\.edit_mode = true\)/);
        assert.doesNotMatch(open, /locked/);

        const tools = await cardea(["tools", "-c", path, "--data-dir", join(folder, "data")]);
        assert.match(tools.stdout, /^it__get_user +read +/m);
        assert.match(tools.stdout, /^it__purge +locked +/m);
    });
});
