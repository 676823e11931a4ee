/* `cardea edit`: its usage, what it prints, and what it does to a gateway that runs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { cardea } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { edit } from "./lib/edit.ts";
import { launchGateway, startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { refusal, said } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

describe("cardea edit", () => {
    let control: Control;
    let gateway: Gateway;
    before(async () => {
        control = await startControl();
        const cmd = control.command({ name: "edit", tools: [{ name: "plain", inputSchema: { type: "object" } }] });
        gateway = await startGateway({ config: { servers: { it: { cmd, share: "all" } }, security: {} } });
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
    });
    after(async () => {
        await gateway.stop();
        await control.close();
    });

    const wrong: { args: string[]; says: RegExp }[] = [
        { args: ["on"], says: /--reason/ },
        { args: ["on", "--reason", ""], says: /--reason/ },
        { args: ["on", "--reason", "   "], says: /--reason/ },
        { args: ["on", "--reason", "x".repeat(1001)], says: /1000/ },
        { args: ["on", "--reason", "a", "--minutes", "0"], says: /1 to 1440/ },
        { args: ["on", "--reason", "a", "--minutes", "1441"], says: /1 to 1440/ },
        { args: ["on", "--reason", "a", "--minutes", "-5"], says: /1 to 1440/ },
        { args: ["on", "--reason", "a", "--minutes", "1.5"], says: /1 to 1440/ },
        { args: ["on", "--reason", "a", "--minutes", "99999999999999999999"], says: /1 to 1440/ },
        { args: ["on", "--reason", "a", "--minutes", ""], says: /1 to 1440/ },
        { args: ["off", "--minutes", "5"], says: /--minutes/ },
        { args: ["--minutes", "5"], says: /--minutes/ },
        { args: ["--reason", "a"], says: /--reason/ },
        { args: ["maybe"], says: /on or off/ },
        { args: ["ON", "--reason", "a"], says: /on or off/ },
        { args: ["on", "off", "--reason", "a"], says: /too many/ },
        { args: ["on", "--reason", "a", "--role", "viewer", "--upstream", "it"], says: /one --role or one --upstream/ },
        { args: ["on", "--reason", "a", "--role", "viewer", "--role", "operator"], says: /one --role or one --upstream/ },
        { args: ["on", "--reason", "a", "--role", ""], says: /have names/ },
        { args: ["on", "--reason", "a", "--upstream", ""], says: /have names/ },
        { args: ["--role", "viewer"], says: /go with: cardea edit on/ },
        { args: ["list", "--reason", "a"], says: /--reason/ },
    ];
    for (const { args, says } of wrong) {
        test(`bad usage: edit ${args.join(" ").slice(0, 60)}`, async () => {
            const run = await cardea(["edit", ...args, "--data-dir", gateway.dataDir]);
            assert.equal(run.code, 2, run.stdout + run.stderr);
            assert.match(run.stderr, says);
            assert.equal(run.stdout, "");
            assert.match((await edit(gateway)).stdout, /^edit mode is off/);
        });
    }

    test("on, how it stands, and off, at once", async () => {
        const session = await openSession(gateway, "/mcp/it");
        assert.match(await refusal(session.call("plain")), /edit mode is off.*cardea edit on/);
        const on = await edit(gateway, "on", "--minutes", "5", "--reason", "  to mend the index  ");
        const state = /^edit mode is on until \d{4}-\d\d-\d\dT[\d:.]+Z, by command: to mend the index\n$/;
        assert.match(on.stdout, state);
        await said(session.call("plain"));
        assert.match((await edit(gateway)).stdout, state);
        const logged = await gateway.waitForLog((entry) => entry.message === "edit mode is on");
        assert.equal(logged.reason, "to mend the index");
        const off = await edit(gateway, "off", "--reason", "done");
        assert.match(off.stdout, /^edit mode is off, by command: done\n$/);
        assert.match(await refusal(session.call("plain")), /edit mode is off/);
        await session.end();
    });

    test("without --minutes it is open for fifteen", async () => {
        const run = await edit(gateway, "on", "--reason", "a", "--json");
        const { ok, edit: state } = JSON.parse(run.stdout) as { ok: boolean; edit: { edit_mode: boolean; left_ms: number; until: string } };
        assert.ok(ok && state.edit_mode);
        assert.ok(state.left_ms > 14 * 60_000 && state.left_ms <= 15 * 60_000, String(state.left_ms));
        const left = Date.parse(state.until) - Date.now();
        assert.ok(Math.abs(left - state.left_ms) < 30_000, `${left} ${state.left_ms}`);
        await edit(gateway, "off");
    });

    test("a reason goes into the log and onto the screen without its controls", async () => {
        const reason = 'a "b" \\ \u001b[2J\n{"x":1}\u202e';
        const run = await edit(gateway, "on", "--reason", reason);
        // eslint-disable-next-line no-control-regex
        assert.doesNotMatch(run.stdout.trimEnd(), /[\u0000-\u001f]/);
        const logged = await gateway.waitForLog((entry) => entry.message === "edit mode is on" && String(entry.reason).startsWith("a "));
        assert.match(String(logged.reason), /^a "b" \\ /);
        await edit(gateway, "off");
    });

    test("windows of a role and of a server stand beside the general one, and `off` closes all", async () => {
        type Answer = { ok: boolean; edit: { edit_mode: boolean; windows: { scope: string; name?: string; left_ms: number }[] } };
        const session = await openSession(gateway, "/mcp/it");
        const role = await edit(gateway, "on", "--role", "VIEWER", "--reason", "a");
        assert.match(role.stdout, /^edit mode is off\nedit mode is on for the role viewer until \S+Z, by command: a\n$/);
        assert.match(await refusal(session.call("plain")), /edit mode is off/);
        await edit(gateway, "on", "--upstream", "other", "--reason", "b");
        assert.match(await refusal(session.call("plain")), /edit mode is off/);
        await edit(gateway, "on", "--upstream", "it", "--minutes", "2", "--reason", "c");
        await said(session.call("plain"));
        const { ok, edit: state } = JSON.parse((await edit(gateway, "list", "--json")).stdout) as Answer;
        assert.ok(ok && !state.edit_mode);
        assert.deepEqual(state.windows.map(({ scope, name }) => `${scope} ${name}`), ["role viewer", "upstream other", "upstream it"]);
        assert.ok(state.windows[2]!.left_ms <= 120_000 && state.windows[2]!.left_ms > 60_000);
        await edit(gateway, "off", "--upstream", "it");
        assert.match(await refusal(session.call("plain")), /edit mode is off/);
        assert.match((await edit(gateway)).stdout, /role viewer .*\n.*upstream other /);
        assert.equal((await edit(gateway, "off")).stdout, "edit mode is off, by command\n");
        await session.end();
    });

    test("a role that is none is said", async () => {
        const run = await cardea(["edit", "on", "--role", "none", "--reason", "a", "--data-dir", gateway.dataDir]);
        assert.equal(run.code, 1, run.stdout);
        assert.match(run.stderr, /cannot open edit mode: there is no such role/);
    });

    test("`off` that the configuration overrides is an error", async (t) => {
        const cmd = control.command({ name: "always", tools: [{ name: "plain", inputSchema: { type: "object" } }] });
        const always = await startGateway({ config: { servers: { always: { cmd, share: "all" } }, security: { edit_mode: true } } }, t);
        assert.equal((await edit(always)).stdout, "edit mode is on and does not end by itself, by configuration\n");
        const run = await cardea(["edit", "off", "--data-dir", always.dataDir]);
        assert.equal(run.code, 1, run.stdout);
        assert.match(run.stderr, /stays open: security\.edit_mode/);
    });

    test("every window that is open is told at the start, and in the status", async (t) => {
        const dataDir = join(temporaryFolder(), "data");
        for (const where of [[], ["--role", "viewer"], ["--upstream", "it"]]) {
            const run = await cardea(["edit", "on", ...where, "--reason", `for "${where.join(" ")}"`, "--data-dir", dataDir]);
            assert.equal(run.code, 0, run.stderr);
        }
        const cmd = control.command({ name: "told", tools: [{ name: "plain", inputSchema: { type: "object" } }] });
        const started = launchGateway({ config: { servers: { it: { cmd, share: "all" } }, security: {} }, dataDir });
        let printed = "";
        started.process.stdout!.setEncoding("utf8").on("data", (chunk: string) => (printed += chunk));
        t.after(() => started.stop());
        await until(() => printed.includes("Stop with"), () => `the start has said everything: ${printed}`);
        for (const [where, why] of [["", ""], [" for the role viewer", "--role viewer"], [" for the upstream it", "--upstream it"]]) {
            assert.match(printed, new RegExp(`^Edit mode is on${where} until \\S+Z, by command: for "${why}"$`, "m"));
        }
        const status = JSON.parse((await cardea(["status", "--json", "--data-dir", dataDir])).stdout) as {
            status: { edit: { windows: { scope: string; name?: string; left_ms: number }[] } };
        };
        const { windows } = status.status.edit;
        assert.deepEqual(windows.map(({ scope, name }) => [scope, name]), [["all", undefined], ["role", "viewer"], ["upstream", "it"]]);
        for (const { left_ms } of windows) assert.ok(left_ms > 0 && left_ms <= 15 * 60_000);
    });

    test("without a gateway it is kept for the next one", async (t) => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        for (const [args, says] of [[["on", "--reason", "a"], /^edit mode is on/], [[], /^edit mode is on/], [["off"], /^edit mode is off/], [[], /^edit mode is off/]] as const) {
            const run = await cardea(["edit", ...args, "--data-dir", join(folder, "data")]);
            assert.equal(run.code, 0, run.stderr);
            assert.match(run.stdout, says);
        }
    });
});
