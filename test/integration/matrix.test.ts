/*
 * Every kind of client against every kind of server: tables of pairs x checks (lib/matrix.ts). The first has a row for
 * each revision on each transport, toward clients and toward servers; the second the official SDKs and servers.
 *
 * CARDEA_TEST_DIRECT=1 runs the pairs of the second that need no bridge without a gateway, which proves the checks.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import net from "node:net";
import { after, before, describe, test } from "node:test";

import { MODERN } from "./fixtures/brain.ts";
import { startHttp } from "./fixtures/http-server.ts";
import { startSdkServer, startSdkSseServer } from "./fixtures/sdk-server.ts";
import { CALLERS } from "./lib/callers.ts";
import { startControl } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { served } from "./lib/http.ts";
import {
    askChecks,
    brainChecks,
    call,
    content,
    everythingChecks,
    isDirect,
    list,
    NEEDS_GATEWAY,
    ok,
    overHttp,
    overStdio,
    subscribeChecks,
    wireChecks,
    type Pair,
    type Upstream,
} from "./lib/matrix.ts";
import { packaged } from "./lib/parity.ts";
import { openRaw, RAW_CLIENTS, type Transport } from "./lib/raw-callers.ts";
import { until, within } from "./lib/wait.ts";

async function freePort(): Promise<number> {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return port;
}

async function everythingOverHttp(kind: "streamableHttp" | "sse"): Promise<{ child: ChildProcess; url: string }> {
    const port = await freePort();
    const [command, ...args] = packaged("server-everything", kind);
    const child = spawn(command!, args, { env: { ...process.env, PORT: String(port) }, stdio: "ignore" });
    process.once("exit", () => child.kill()); // also where the runner ends this file early
    await until(
        () =>
            new Promise<boolean>((resolve) => {
                const socket = net.connect(port, "127.0.0.1", () => (socket.destroy(), resolve(true)));
                socket.once("error", () => resolve(false));
            }),
        "server-everything listens",
    );
    return { child, url: `http://127.0.0.1:${port}/${kind === "sse" ? "sse" : "mcp"}` };
}

const STDIO = ["2025-03-26", "2025-06-18", "2025-11-25"];

const NAMES = [
    "stdio-legacy",
    "stdio-modern",
    "http-2025-03-26",
    "http-2025-06-18",
    "http-2025-11-25",
    "http-2025-11-25-sse",
    "http-modern",
    "http-modern-sse",
    "http-dual",
    "sse-2024-11-05",
    "sse-2025-11-25",
    "sdk-2",
    "sdk-1-sse",
    "everything-stdio",
    "everything-http",
    "everything-sse",
];

/** Every revision on every transport that it can be spoken on. */
const SERVERS: { name: string; revision: string; transport: Transport }[] = [
    ...["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", MODERN].flatMap((revision) => [
        { revision, transport: "http" as const },
        { revision, transport: "stdio" as const },
    ]),
    ...["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"].map((revision) => ({ revision, transport: "sse" as const })),
].map((server) => ({ name: `${server.transport}-${server.revision}`, ...server }));

/** What does not hold of clients that can be asked, and needs no row twice. */
const { "input that nobody can give yet is refused": _, ...forAsked } = brainChecks;

const rows = { ...forAsked, ...askChecks, ...subscribeChecks, ...wireChecks };

describe("each revision and transport with each", { concurrency: 4, skip: isDirect && "needs the gateway" }, () => {
    let gateway: Gateway | undefined;
    const upstreams = new Map<string, Upstream>();
    const closing: (() => Promise<unknown>)[] = [];

    before(async () => {
        const control = await startControl();
        closing.push(() => control.close());
        for (const { name, revision, transport } of SERVERS) {
            if (transport === "stdio") {
                upstreams.set(name, overStdio(control, name, [revision], true));
                continue;
            }
            const kind = transport === "sse" ? "sse" : "streamable";
            const fixture = await startHttp({ name, revisions: [revision], transport: kind, subscribe: true });
            closing.push(() => fixture.close());
            upstreams.set(name, overHttp(fixture));
        }
        const servers = Object.fromEntries([...upstreams.values()].map(({ name, config }) => [name, config]));
        gateway = await startGateway({ config: { servers } });
        await served(gateway, ...SERVERS.map(({ name }) => `${name}__echo`));
    });
    after(async () => {
        await gateway?.stop();
        for (const close of closing.reverse()) await close();
    });

    for (const { name } of SERVERS) {
        describe(name, { concurrency: 1 }, () => {
            for (const client of RAW_CLIENTS) {
                test(`${client.name} -> ${name}`, async (t) => {
                    const upstream = upstreams.get(name)!;
                    const place = { url: `${gateway!.url}/${name}`, headers: gateway!.headers };
                    const caller = await openRaw(place, client.version, client.transport);
                    assert.equal(caller.version, client.version);
                    try {
                        for (const [what, check] of Object.entries(rows))
                            await t.test(what, async () => check({ caller, upstream }));
                    } finally {
                        await within(caller.close(), `${client.name} is closed`);
                    }
                });
            }
        });
    }
});

describe("SDKs and their servers", { concurrency: 4 }, () => {
    let gateway: Gateway | undefined;
    const upstreams = new Map<string, Upstream>();
    const closing: (() => Promise<unknown>)[] = [];

    before(async () => {
        const control = await startControl();
        closing.push(() => control.close());
        const add = (upstream: Upstream) => upstreams.set(upstream.name, upstream);
        add(overStdio(control, "stdio-legacy", STDIO));
        add(overStdio(control, "stdio-modern", [MODERN]));
        for (const [name, revisions, style] of [
            ["http-2025-03-26", ["2025-03-26"], "json"],
            ["http-2025-06-18", ["2025-06-18"], "json"],
            ["http-2025-11-25", ["2025-11-25"], "json"],
            ["http-2025-11-25-sse", ["2025-11-25"], "sse"],
            ["http-modern", [MODERN], "json"],
            ["http-modern-sse", [MODERN], "sse"],
            ["http-dual", [...STDIO, MODERN], "json"],
        ] as const) {
            const fixture = await startHttp({ name, revisions: [...revisions], style });
            closing.push(() => fixture.close());
            add(overHttp(fixture));
        }
        for (const revision of ["2024-11-05", "2025-11-25"]) {
            const name = `sse-${revision}`;
            const fixture = await startHttp({ name, revisions: [revision], transport: "sse" });
            closing.push(() => fixture.close());
            add(overHttp(fixture));
        }
        const sdk = await startSdkServer("sdk-2");
        closing.push(() => sdk.close());
        const dual = { revisions: [...STDIO, MODERN], isModern: true };
        add({ name: "sdk-2", config: { url: sdk.url }, url: sdk.url, ...dual, isBrain: true });
        const oldSdk = await startSdkSseServer("sdk-1-sse");
        closing.push(() => oldSdk.close());
        const oldRevisions = { revisions: ["2024-11-05", ...STDIO], isModern: false };
        add({ name: "sdk-1-sse", config: { url: oldSdk.url }, ...oldRevisions, isBrain: true });
        const everything = await everythingOverHttp("streamableHttp");
        closing.push(async () => everything.child.kill());
        const everythingSse = await everythingOverHttp("sse");
        closing.push(async () => everythingSse.child.kill());
        const old = { revisions: STDIO, isModern: false, isBrain: false };
        add({ name: "everything-stdio", config: { cmd: packaged("server-everything") }, ...old });
        add({ name: "everything-http", config: { url: everything.url }, url: everything.url, ...old });
        add({ name: "everything-sse", config: { url: everythingSse.url }, ...old });
        assert.deepEqual([...upstreams.keys()], NAMES);
        if (isDirect) return;
        const servers = Object.fromEntries([...upstreams.values()].map(({ name, config }) => [name, config]));
        gateway = await startGateway({ config: { servers } });
        await served(gateway, ...NAMES.map((name) => `${name}__echo`));
    });
    after(async () => {
        await gateway?.stop();
        for (const close of closing.reverse()) await close();
    });

    for (const name of NAMES) {
        describe(name, { concurrency: 1 }, () => {
            for (const [client, open] of Object.entries(CALLERS)) {
                if (client.startsWith("raw") && /^(stdio|http|sse)-/.test(name) && name !== "http-dual") continue;
                test(`${client} -> ${name}`, async (t) => {
                    const upstream = upstreams.get(name)!;
                    const isOld = /legacy|SDK 1|2025/.test(client);
                    const asked = /\d{4}-\d\d-\d\d$/.exec(client)?.[0];
                    const speaks = upstream.revisions.some((revision) =>
                        asked === undefined ? (revision !== MODERN) === isOld : revision === asked,
                    );
                    if (isDirect && (upstream.url === undefined || !(speaks || client.includes("auto")))) {
                        return t.skip("needs the gateway");
                    }
                    const place = isDirect
                        ? { url: upstream.url!, headers: {} }
                        : { url: `${gateway!.url}/${name}`, headers: gateway!.headers };
                    const caller = await open(place);
                    if (asked !== undefined) assert.equal(caller.version, asked);
                    try {
                        const checks = { ...(upstream.isBrain ? brainChecks : everythingChecks), ...wireChecks };
                        for (const [what, check] of Object.entries(checks)) {
                            if (isDirect && NEEDS_GATEWAY[what]?.test(name) === true) continue;
                            await t.test(what, async () => check({ caller, upstream }));
                        }
                    } finally {
                        await within(caller.close(), `${client} is closed`);
                    }
                });
            }
        });
    }

    describe("all at once, by their prefixes", { concurrency: 1, skip: isDirect && "needs the gateway" }, () => {
        for (const [client, open] of Object.entries(CALLERS)) {
            test(`${client} -> all`, async () => {
                const caller = await open({ url: gateway!.url, headers: gateway!.headers });
                try {
                    const all: Pair = { caller, upstream: upstreams.get("http-dual")! };
                    const tools = (await list(all, "tools/list", "tools")).map((tool) => tool.name);
                    const prompts = (await list(all, "prompts/list", "prompts")).map((prompt) => prompt.name);
                    for (const name of NAMES) {
                        assert.ok(tools.includes(`${name}__echo`), `${name}__echo is listed`);
                        const said = name.startsWith("everything") ? "Echo: hi" : "hi";
                        const args = { text: "hi", message: "hi" };
                        assert.equal(content(await call(all, `${name}__echo`, args))[0]!.text, said, name);
                        if (name.startsWith("everything")) continue;
                        assert.ok(prompts.includes(`${name}__review`), `${name}__review is listed`);
                        const params = { name: `${name}__review`, arguments: { what: "it" } };
                        const { messages } = ok(await caller.request("prompts/get", params));
                        assert.match(JSON.stringify(messages), /\\"name\\":\\"review\\"/, "under its own name there");
                        const ref = { type: "ref/prompt", name: `${name}__review` };
                        const { completion } = ok(
                            await caller.request("completion/complete", { ref, argument: { name: "what", value: "" } }),
                        ) as { completion: { values: string[] } };
                        assert.equal(
                            (JSON.parse(completion.values[0]!) as { ref: { name: string } }).ref.name,
                            "review",
                        );
                    }
                    for (const [what, check] of Object.entries(wireChecks)) {
                        for (const upstream of upstreams.values()) {
                            await check({ caller, upstream }).catch((error: Error) => {
                                throw new Error(`${what}: ${upstream.name}: ${error.message}`);
                            });
                        }
                    }
                } finally {
                    await within(caller.close(), `${client} is closed`);
                }
            });
        }
    });
});
