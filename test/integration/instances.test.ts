/* Two gateways on one PostgreSQL: what one is told the other knows, and what both do while the database is gone. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { cardea } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { ModernClient } from "./lib/modern.ts";
import { Postgres } from "./lib/postgres.ts";
import { until } from "./lib/wait.ts";

describe("two instances on one PostgreSQL", () => {
    let control: Control;
    let postgres: Postgres;
    const gateways: Gateway[] = [];
    const stop: (() => unknown)[] = [];
    const env = { ...process.env, CARDEA_TEST_STORE: "" };
    before(async () => {
        control = await startControl();
        // The server belongs to this suite, whose end comes after its tests'.
        postgres = await Postgres.start({ after: (fn: () => unknown) => void stop.push(fn) } as never);
        env.CARDEA_TEST_STORE = postgres.urlWithPassword("postgres");
        const cmd = control.command({ name: "shared", tools: [{ name: "change", inputSchema: { type: "object" } }] });
        const text = `[server]\nworkers = 2\n[store]\nurl = "{{ env.CARDEA_TEST_STORE }}"\n[mcp.servers.it]\ncmd = ${JSON.stringify(cmd)}\nshare = "all"\n`;
        for (const _ of [1, 2]) gateways.push(await startGateway({ config: text, env }));
        for (const gateway of gateways) await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
    });
    after(async () => {
        for (const gateway of gateways) await gateway.stop();
        for (const fn of stop) await fn();
        await control.close();
    });
    /** A command of the first instance's machine. */
    const command = async (...args: string[]): Promise<void> => {
        const gateway = gateways[0]!;
        const run = await cardea([...args, "-c", join(gateway.folder, "cardea.toml"), "--data-dir", gateway.dataDir], { env });
        assert.equal(run.code, 0, `${args.join(" ")}: ${run.stdout}${run.stderr}`);
    };
    let token = "";
    const call = async (gateway: Gateway): Promise<string> => {
        const answer = await new ModernClient({ port: gateway.port, token }).ask("tools/call", { name: "it__change", arguments: {} });
        if (answer.status === 401) return "401";
        const { result, error } = answer.messages[0] as { result?: { isError?: boolean; content: { text: string }[] }; error?: { message: string } };
        return error !== undefined ? `error: ${error.message}` : result!.isError === true ? `refused: ${result!.content[0]!.text}` : "done";
    };

    test("a user made by one command calls both; edit mode opens and closes on both within a second", async () => {
        await command("user", "add", "ann", "--no-password", "--role", "operator");
        const file = join(gateways[0]!.folder, "ann.token");
        await command("token", "add", "ann", "test", "--out", file);
        token = readFileSync(file, "utf8").trim();
        for (const gateway of gateways) {
            await until(async () => (await call(gateway)) !== "401", "the token is known");
            assert.match(await call(gateway), /edit mode is off/);
        }
        for (let i = 0; i < 3; i++) {
            await command("edit", "on", "--reason", "test");
            assert.equal(await call(gateways[0]!), "done");
            await until(async () => (await call(gateways[1]!)) === "done", "the other one has heard of it");
            await command("edit", "off");
            const closed = performance.now();
            assert.match(await call(gateways[0]!), /edit mode is off/);
            await until(async () => /edit mode is off/.test(await call(gateways[1]!)), "the other one has heard of it");
            assert.ok(performance.now() - closed < 1000, `${performance.now() - closed} ms`);
        }
    });

    test("while the database is gone edit mode is off, the rest goes on, and it comes back by itself", async () => {
        await command("edit", "on", "--reason", "test");
        for (const gateway of gateways) await until(async () => (await call(gateway)) === "done", "it is open");
        await postgres.stop();
        const gone = performance.now();
        for (const gateway of gateways) await until(async () => /edit mode is off/.test(await call(gateway)), "it counts as off");
        assert.ok(performance.now() - gone < 6000, `${performance.now() - gone} ms`);
        for (const gateway of gateways) assert.notEqual(await call(gateway), "401", "who may call is known for a while");
        await postgres.run();
        for (const gateway of gateways) await until(async () => (await call(gateway)) === "done", "it is open again");
        await command("user", "disable", "ann");
        for (const gateway of gateways) await until(async () => (await call(gateway)) === "401", "what is taken back is taken back on both");
    });
});
