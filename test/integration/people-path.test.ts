/* Users of the store on the way of a call: their tokens, what their roles give, windows of edit mode, what is taken back. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { ModernClient } from "./lib/modern.ts";

const TOOLS = ["look", "change"].map((name) => ({ name, inputSchema: { type: "object" as const } }));

describe("users of the store", () => {
    let control: Control;
    let gateway: Gateway;
    const command = async (...args: string[]): Promise<Run> => {
        const run = await cardea([...args, "-c", join(gateway.folder, "cardea.toml"), "--data-dir", gateway.dataDir]);
        assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
        return run;
    };
    /** A token of a user that is made for it. */
    const tokenOf = async (name: string, roles: string[], ...more: string[]): Promise<string> => {
        await command("user", "add", name, "--no-password", ...roles.flatMap((role) => ["--role", role]));
        const file = join(gateway.folder, `${name}.token`);
        await command("token", "add", name, "test", "--out", file, ...more);
        return readFileSync(file, "utf8").trim();
    };
    /** One modern call; the tool's text, or what was said against it, or the HTTP status. */
    const call = async (token: string, tool: string, path = "/mcp"): Promise<string> => {
        const client = new ModernClient({ port: gateway.port, token }, path);
        const answer = await client.ask("tools/call", { name: path === "/mcp" ? `one__${tool}` : tool, arguments: {} });
        const message = answer.messages[0] as { result?: { isError?: boolean; content: { text: string }[] }; error?: { message: string } } | undefined;
        if (answer.status === 401 || message === undefined) return String(answer.status);
        if (message.error !== undefined) return `error: ${message.error.message}`;
        return `${message.result!.isError === true ? "refused: " : ""}${message.result!.content[0]!.text}`;
    };
    before(async () => {
        control = await startControl();
        const servers = Object.fromEntries(["one", "two"].map((name) => [name, {
            cmd: control.command({ name, tools: TOOLS }), share: "all", tools: { look: { access: "read" }, change: { access: "write" } },
        }]));
        gateway = await startGateway({ config: { servers, security: {} } });
        for (const name of ["one", "two"]) await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
    });
    after(async () => {
        await gateway.stop();
        await control.close();
    });

    test("a viewer reads, and is told why not to write, also in edit mode", async () => {
        const token = await tokenOf("vera", ["viewer"]);
        assert.doesNotMatch(await call(token, "look"), /^(refused|error|\d)/);
        assert.match(await call(token, "change"), /roles let you only read/);
        await command("edit", "on", "--reason", "test");
        assert.match(await call(token, "change"), /roles let you only read/);
        await command("edit", "off");
    });

    test("an operator writes while edit mode is open, and not one call longer", async () => {
        const token = await tokenOf("otto", ["operator"]);
        assert.match(await call(token, "change"), /edit mode is off/);
        for (let i = 0; i < 5; i++) {
            await command("edit", "on", "--reason", "test");
            assert.doesNotMatch(await call(token, "change"), /^(refused|error|\d)/);
            await command("edit", "off");
            assert.match(await call(token, "change"), /edit mode is off/);
        }
    });

    test("a window for a role is for it alone, one for an upstream for that alone", async () => {
        const token = await tokenOf("rita", ["operator"]);
        await command("role", "add", "night", "--operation", "*/*=write");
        const other = await tokenOf("nils", ["night"]);
        await command("edit", "on", "--role", "night", "--reason", "test");
        assert.match(await call(token, "change"), /edit mode is off/);
        assert.doesNotMatch(await call(other, "change"), /^(refused|error|\d)/);
        await command("edit", "off", "--role", "night");
        assert.match(await call(other, "change"), /edit mode is off/);
        await command("edit", "on", "--upstream", "two", "--reason", "test");
        assert.match(await call(token, "change", "/mcp/one"), /edit mode is off/);
        assert.doesNotMatch(await call(token, "change", "/mcp/two"), /^(refused|error|\d)/);
        await command("edit", "off", "--upstream", "two");
        assert.match(await call(token, "change", "/mcp/two"), /edit mode is off/);
    });

    test("a role for some operations of one upstream shows nothing else", async () => {
        await command("role", "add", "narrow", "--operation", "one/look=read");
        const token = await tokenOf("nina", ["narrow"]);
        assert.doesNotMatch(await call(token, "look"), /^(refused|error|\d)/);
        assert.match(await call(token, "change"), /^error: .*change/);
        assert.match(await call(token, "look", "/mcp/two"), /nothing at this path/);
    });

    test("a token for less than its owner may", async () => {
        const token = await tokenOf("tom", ["operator"], "--operation", "one/look=read");
        assert.doesNotMatch(await call(token, "look"), /^(refused|error|\d)/);
        assert.match(await call(token, "look", "/mcp/two"), /nothing at this path/);
    });

    test("what is taken back holds for the next call of the same connection", async () => {
        const token = await tokenOf("kim", ["viewer"]);
        assert.doesNotMatch(await call(token, "look"), /^(refused|error|\d)/);
        await command("user", "disable", "kim");
        assert.equal(await call(token, "look"), "401");
        await command("user", "enable", "kim");
        assert.doesNotMatch(await call(token, "look"), /^(refused|error|\d)/);
        const listed = JSON.parse((await command("token", "list", "--json")).stdout) as { tokens: { id: string; user: string }[] };
        await command("token", "revoke", listed.tokens.find((one) => one.user === "kim")!.id);
        assert.equal(await call(token, "look"), "401");
        await command("user", "delete", "vera");
        assert.equal(await call(token, "look"), "401");
    });

    test("a password that is reset takes the user's tokens with it, unless that is declined", async () => {
        const token = await tokenOf("rose", ["viewer"]);
        const other = await tokenOf("iris", ["viewer"]);
        const kept = await command("user", "password", "rose", "--no-password", "--keep-tokens");
        assert.match(kept.stdout, /tokens stay/);
        assert.doesNotMatch(await call(token, "look"), /^(refused|error|\d)/);
        assert.match((await command("user", "password", "rose", "--no-password")).stdout, /Sessions have ended; the user's tokens are revoked/);
        assert.equal(await call(token, "look"), "401");
        // All of one user's at once, and nobody else's.
        for (const name of ["a", "b"]) await command("token", "add", "rose", name);
        assert.doesNotMatch(await call(other, "look"), /^(refused|error|\d)/);
        assert.match((await command("token", "revoke", "--user", "ROSE")).stdout, /revoked: 2\./);
        assert.doesNotMatch(await call(other, "look"), /^(refused|error|\d)/);
        await command("token", "revoke", "--user", "iris");
        assert.equal(await call(other, "look"), "401");
        const at = ["-c", join(gateway.folder, "cardea.toml"), "--data-dir", gateway.dataDir];
        for (const args of [[], ["--user", ""], ["x", "--user", "iris"]]) assert.equal((await cardea(["token", "revoke", ...args, ...at])).code, 2);
        assert.equal((await cardea(["token", "revoke", "--user", "nobody", ...at])).code, 1);
    });

    test("nobody's token is a 401, however it looks", async () => {
        for (const token of ["cardea_", `cardea_abcdefgh_${"Zq7".repeat(14)}x`, "x"]) assert.equal(await call(token, "look"), "401");
    });
});
