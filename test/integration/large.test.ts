/*
 * Large catalogs: 200 upstreams with 20,000 tools in lists of both eras, and what one server may not do to the others.
 * The servers are ports of test/hostile/catalog_server.c.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { before, describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { startGateway, type Gateway, type LogEntry, type ServerConfig, type Value } from "./lib/gateway.ts";
import { openSession, text } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import type { Request } from "./lib/upstreams.ts";
import { until, within } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const CATALOG_SERVER = join(BUILD, "test", "hostile", "catalog_server");

type After = Pick<TestContext, "after">;

/** The ports of so many servers. */
async function servers(t: After, n: number, ...args: string[]): Promise<number[]> {
    const child = spawn(CATALOG_SERVER, ["--ports", String(n), "--until-eof", ...args], {
        stdio: ["pipe", "pipe", "inherit"],
    });
    t.after(() => child.stdin.end());
    const ports: number[] = [];
    await within(
        new Promise<void>((resolve, reject) => {
            child.once("error", reject);
            child.once("exit", (code) => reject(new Error(`catalog_server ended with ${code}`)));
            createInterface(child.stdout).on("line", (line) => ports.push(Number(line)) === n && resolve());
        }),
        "catalog_server listens",
    );
    return ports;
}

const at = (port: number, more: { [key: string]: Value } = {}): ServerConfig => ({
    url: `http://127.0.0.1:${port}/mcp`,
    ...more,
});

/** The server changes its first tool, and says so. */
async function change(port: number): Promise<void> {
    const answer = await fetch(`http://127.0.0.1:${port}/mcp`, {
        method: "POST",
        body: '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tool-00000","text":"change"}}',
    });
    assert.equal(answer.status, 200);
    await answer.text();
}

interface Item {
    name: string;
    uri?: string;
    description?: string;
}

interface Pages {
    items: Item[];
    sizes: number[];
}

async function pages(request: Request, method: string, key: string): Promise<Pages> {
    const found: Pages = { items: [], sizes: [] };
    let cursor: unknown;
    do {
        const { result } = await request(method, cursor === undefined ? {} : { cursor });
        const items = result![key] as Item[];
        found.items.push(...items);
        found.sizes.push(items.length);
        cursor = result!.nextCursor;
    } while (cursor !== undefined);
    return found;
}

const tools = (request: Request): Promise<Pages> => pages(request, "tools/list", "tools");
const number = (i: number, digits: number): string => String(i).padStart(digits, "0");

describe("200 upstreams with 100 tools each", { timeout: 90_000 }, () => {
    const UPSTREAMS = 200;
    const TOOLS = 100;
    const upstream = (i: number): string => `up-${number(i, 3)}`;
    const wanted = Array.from(
        { length: UPSTREAMS * TOOLS },
        (_, i) => `${upstream(Math.floor(i / TOOLS))}__tool-${number(i % TOOLS, 5)}`,
    );
    const ends: (() => unknown)[] = [];
    let legacyPorts: number[], gateway: Gateway, legacy: Request, modern: Request;

    before(async () => {
        const t: After = { after: (end?: unknown) => void ends.push(end as () => unknown) };
        const options = ["--tools", String(TOOLS), "--definition-bytes", "350", "--resources", "6"];
        legacyPorts = await servers(t, UPSTREAMS / 2, "--revision", "legacy", ...options);
        const modernPorts = await servers(t, UPSTREAMS / 2, "--revision", "modern", ...options);
        const config = Object.fromEntries(
            Array.from({ length: UPSTREAMS }, (_, i) => [
                upstream(i), // those of one era lie between those of the other
                at((i % 2 === 0 ? legacyPorts : modernPorts)[Math.floor(i / 2)]!),
            ]),
        );
        gateway = await startGateway({ config: { servers: config }, args: ["--log", "info"] });
        ends.unshift(() => gateway.stop());
        const session = await openSession(gateway);
        legacy = (method, params) => session.request(method, params);
        const client = new ModernClient(gateway);
        modern = (method, params) => client.request(method, params);
        await until(async () => (await tools(legacy)).items.length === wanted.length, "all tools are listed", 60_000);
    });
    test.after(async () => {
        for (const end of ends) await end();
    });

    for (const era of ["legacy", "modern"] as const) {
        const client = (): Request => (era === "legacy" ? legacy : modern);

        test(`all pages are complete for a ${era} client`, async () => {
            const { items, sizes } = await tools(client());
            assert.deepEqual(sizes, Array.from({ length: 20 }, () => 1000));
            assert.deepEqual(
                items.map(({ name }) => name),
                wanted,
            );
            assert.ok(items.every((item) => item.description !== undefined && "inputSchema" in item));
        });

        test(`resources are listed once for a ${era} client, and read where they belong`, async () => {
            const { items, sizes } = await pages(client(), "resources/list", "resources");
            const uris = items.map(({ uri }) => uri!);
            assert.equal(new Set(uris).size, uris.length);
            assert.equal(uris.length, 1 + (UPSTREAMS / 2) * 5); // those of one era have what those of the other have
            assert.deepEqual(sizes, [uris.length]);
            assert.equal(items.find(({ uri }) => uri === "shared://one")!.name, "of 0");
            const read = async (uri: string): Promise<string> => {
                const { result } = await client()("resources/read", { uri });
                return (result!.contents as { text: string }[])[0]!.text;
            };
            assert.equal(await read("shared://one"), "of 0");
            assert.equal(await read("res://99/5"), "of 99");
        });

        test(`the first and the last tool are called by a ${era} client`, async () => {
            const call = async (name: string) => text(await client()("tools/call", { name, arguments: {} }));
            assert.equal(await call(wanted[0]!), "tool-00000 of 0");
            assert.equal(await call(wanted.at(-1)!), `tool-${number(TOOLS - 1, 5)} of ${UPSTREAMS / 2 - 1}`);
            const unknown = await client()("tools/call", { name: "up-199__tool-00100", arguments: {} });
            assert.match(unknown.error!.message, /^Unknown tool: up-199__tool-00100$/);
        });
    }

    test("a change of one server is in the next list of both eras, and nothing else is another one", async () => {
        const old = (await tools(legacy)).items;
        const session = await openSession(gateway);
        const stream = await session.stream();
        await change(legacyPorts[70]!);
        await stream.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        stream.close();
        for (const request of [legacy, modern]) {
            const { items } = await tools(request);
            assert.equal(items.length, old.length);
            const changed = items.filter((item, i) => JSON.stringify(item) !== JSON.stringify(old[i]));
            assert.deepEqual(
                changed.map(({ name }) => name),
                [`${upstream(140)}__tool-00000`],
            );
            assert.match(changed[0]!.description!, /^1 /);
        }
    });

    test("a page goes on where the one before it ended, also when a server has changed in between", async () => {
        const first = (await legacy("tools/list", {})).result!;
        const session = await openSession(gateway);
        const stream = await session.stream();
        await change(legacyPorts[3]!);
        await stream.messages.waitFor((message) => message.method === "notifications/tools/list_changed");
        stream.close();
        const second = (await legacy("tools/list", { cursor: first.nextCursor })).result!;
        assert.deepEqual(
            (second.tools as Item[]).map(({ name }) => name),
            wanted.slice(1000, 2000),
        );
    });
});

describe("limits of a catalog", () => {
    const isAbout = (entry: LogEntry, upstream: string): boolean =>
        entry.upstream === upstream && String(entry.message).startsWith("left ");

    async function listed(t: TestContext, args: string[], limits: { [name: string]: { [key: string]: Value } }) {
        const [port] = await servers(t, 1, ...args);
        const config = Object.fromEntries(Object.entries(limits).map(([name, more]) => [name, at(port!, more)]));
        const gateway = await startGateway({ config: { servers: config } }, t);
        await Promise.all(
            Object.keys(limits).map((name) =>
                gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name),
            ),
        );
        const session = await openSession(gateway);
        const { items } = await tools((method, params) => session.request(method, params));
        const counts = Object.fromEntries(
            Object.keys(limits).map((name) => [name, items.filter((item) => item.name.startsWith(`${name}__`)).length]),
        );
        return { gateway, counts };
    }

    test("max_tools: at the limit and one past it", async (t) => {
        const { gateway, counts } = await listed(t, ["--tools", "50"], {
            enough: { max_tools: 50 },
            short: { max_tools: 49 },
        });
        assert.deepEqual(counts, { enough: 50, short: 49 });
        const told = gateway.log.items.filter((entry) => isAbout(entry, "short"));
        assert.equal(told.length, 1, JSON.stringify(told));
        assert.equal(told[0]!.limit, "mcp.servers.short.max_tools");
        assert.equal(told[0]!.value, 49);
        assert.ok(!gateway.log.items.some((entry) => isAbout(entry, "enough")));
    });

    test("max_tools beyond the default, of many pages", async (t) => {
        const { counts } = await listed(t, ["--tools", "2500", "--page", "100"], {
            usual: {},
            more: { max_tools: 3000 },
        });
        assert.deepEqual(counts, { usual: 1000, more: 2500 });
    });

    test("max_definition: at the limit and one past it", async (t) => {
        const { gateway, counts } = await listed(t, ["--tools", "3", "--definition-bytes", "5000"], {
            enough: { max_definition: 5000 },
            short: { max_definition: 4999 },
        });
        assert.deepEqual(counts, { enough: 3, short: 0 });
        const told = gateway.log.items.filter((entry) => isAbout(entry, "short"));
        assert.equal(told.length, 3);
        assert.equal(
            told[0]!.reason,
            "its definition has 5000 bytes, and mcp.servers.short.max_definition is 4999",
        );
        assert.ok(!gateway.log.items.some((entry) => isAbout(entry, "enough")));
    });
});

test("a server that says all the time that it has changed is heard ten times a second", async (t) => {
    const [stormy] = await servers(t, 1, "--tools", "100", "--storm-ms", "5");
    const [calm] = await servers(t, 1);
    const gateway = await startGateway({ config: { servers: { stormy: at(stormy!), calm: at(calm!) } } }, t);
    const session = await openSession(gateway);
    await until(
        async () => (await tools((method, params) => session.request(method, params))).items.length === 101,
        "both are listed",
    );
    const stream = await session.stream();
    const isChange = (message: { method?: string }) => message.method === "notifications/tools/list_changed";
    const heard = async (n: number): Promise<void> => {
        await until(() => stream.messages.items.filter(isChange).length >= n, `${n} changes are told`);
    };
    await heard(1); // of the start
    const before = stream.messages.items.filter(isChange).length;
    const began = performance.now();
    await heard(before + 6);
    const took = performance.now() - began;
    assert.ok(took >= 450, `six changes within ${took.toFixed(0)} ms`); // five pauses
    assert.equal(text(await session.call("calm__tool-00000")), "tool-00000 of 0");
    stream.close();
});
