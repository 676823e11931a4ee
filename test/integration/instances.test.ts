/* Two gateways on one PostgreSQL: what one is told the other knows, and what both do while the database is gone. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { startHttp } from "./fixtures/http-server.ts";
import { cardea, type Run } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { ModernClient } from "./lib/modern.ts";
import { CLUSTER_KEY, Postgres } from "./lib/postgres.ts";
import { temporaryFolder } from "./lib/temp.ts";
import { until } from "./lib/wait.ts";

const PAGE = 1000;

describe("two instances on one PostgreSQL", () => {
    let control: Control;
    let postgres: Postgres;
    const gateways: Gateway[] = [];
    const stop: (() => unknown)[] = [];
    let text = "";
    // Sealed once for all, so all have the same keys.
    const env = { ...process.env, CARDEA_TEST_STORE: "", CARDEA_ENCRYPTION_KEY: CLUSTER_KEY };
    before(async () => {
        control = await startControl();
        // The server belongs to this suite, whose end comes after its tests'.
        postgres = await Postgres.start({ after: (fn: () => unknown) => void stop.push(fn) } as never);
        env.CARDEA_TEST_STORE = postgres.urlWithPassword("postgres");
        const cmd = control.command({ name: "shared", tools: [{ name: "change", inputSchema: { type: "object" } }] });
        const tools = Array.from({ length: 600 }, (_, n) => ({ name: `tool-${n}`, inputSchema: { type: "object" } }));
        const many = await startHttp({ name: "many", tools }, { after: (fn: () => unknown) => void stop.push(fn) } as never);
        const table = (name: string): string => `[mcp.servers.${name}]\nurl = "${many.url}"\naccess = "read"\n`;
        text = `[server]\nworkers = 2\n[store]\nurl = "{{ env.CARDEA_TEST_STORE }}"\n[mcp.servers.it]\ncmd = ${JSON.stringify(cmd)}\nshare = "all"\n${table("many")}${table("more")}`;
        for (const _ of [1, 2]) gateways.push(await startGateway({ config: text, env }));
        for (const gateway of gateways) await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
    });
    after(async () => {
        for (const gateway of gateways) await gateway.stop();
        for (const fn of stop) await fn();
        await control.close();
    });
    /** A command of the first instance's machine. */
    const run = (gateway: Gateway, ...args: string[]): Promise<Run> =>
        cardea([...args, "-c", join(gateway.folder, "cardea.toml"), "--data-dir", gateway.dataDir], { env });
    const command = async (...args: string[]): Promise<void> => {
        const { code, stdout, stderr } = await run(gateways[0]!, ...args);
        assert.equal(code, 0, `${args.join(" ")}: ${stdout}${stderr}`);
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

    const tokenOf = async (user: string): Promise<string> => {
        await command("user", "add", user, "--no-password", "--role", "operator");
        const file = join(gateways[0]!.folder, `${user}.token`);
        await command("token", "add", user, "test", "--out", file);
        return readFileSync(file, "utf8").trim();
    };
    const page = async (gateway: Gateway, as: string, cursor?: string) => {
        // Without a result while the token is not known yet.
        const { messages } = await new ModernClient({ port: gateway.port, token: as }).ask("tools/list", cursor === undefined ? {} : { cursor });
        const answer = messages.at(-1) ?? {};
        return { code: answer.error?.code, names: ((answer.result?.tools ?? []) as { name: string }[]).map(({ name }) => name), next: answer.result?.nextCursor as string | undefined };
    };

    test("a list that was begun at one goes on at the other, also after a restart and a rotation, and for its caller alone", async () => {
        const [bea, carl] = [await tokenOf("bea"), await tokenOf("carl")];
        const [first, second] = gateways as [Gateway, Gateway];
        for (const gateway of gateways)
            for (const who of [bea, carl])
                await until(async () => (await page(gateway, who)).names.length === PAGE, "its first page is full");
        const begun = await page(first, bea);
        const goesOn = async (gateway: Gateway): Promise<void> => {
            const rest = await page(gateway, bea, begun.next!);
            assert.equal(rest.names.length, 200, "the rest of 1200");
            assert.equal(new Set([...begun.names, ...rest.names]).size, 1200);
            assert.equal((await page(gateway, carl, begun.next!)).code, -32602, "it is bea's");
            const changed = Buffer.from(begun.next!, "base64url");
            changed[5]! ^= 1;
            assert.equal((await page(gateway, bea, changed.toString("base64url"))).code, -32602, "it is signed");
        };
        await goesOn(second);
        await goesOn(first);
        await command("key", "rotate");
        assert.deepEqual(JSON.parse((await run(first, "secret", "list", "--json")).stdout), [], "the key is none of the secrets");
        const third = await startGateway({ config: text, env });
        try {
            await until(async () => (await page(third, bea)).names.length === PAGE, "its first page is full");
            await goesOn(third);
        } finally {
            await third.stop();
        }
        assert.equal(postgres.ask("postgres", "SELECT count(*) FROM cardea.sealed WHERE kind = 'cluster'"), "1");
    });

    test("one with other keys, or none, does not start, and says why", async () => {
        const folder = temporaryFolder();
        writeFileSync(join(folder, "cardea.toml"), text);
        for (const [name, key, says] of [
            ["another", `${Buffer.alloc(32, "of somebody else").toString("base64url")}=`, /the key of the cluster: it is under the key [0-9a-f]{16}, which is not here/],
            ["none", undefined, /there is no key: [^]*All gateways on one store need the same keys/],
        ] as const) {
            const data = join(folder, name);
            mkdirSync(data, { mode: 0o700 });
            const { CARDEA_ENCRYPTION_KEY: _, ...bare } = env;
            const tried = await cardea(["serve", "-c", join(folder, "cardea.toml"), "--data-dir", data, "-l", "127.0.0.1:0", "--admin-listen", "off"], {
                env: key === undefined ? bare : { ...bare, CARDEA_ENCRYPTION_KEY: key },
            });
            assert.equal(tried.code, 1, tried.stderr);
            assert.match(tried.stderr, says);
            assert.equal(existsSync(join(data, "vault.key")), false);
            assert.equal(existsSync(join(data, "audit")), false, "nothing was begun");
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
