/*
 * One hung upstream blocks nobody else. For each place where a server can hang (its name, connect, the TLS handshake, the
 * head of an answer, the middle of a stream, a child that does not read, the authorization server that gives it its
 * tokens): with several such servers, each with calls that wait for it, the calls and lists of another server are as
 * quick as at a gateway that knows no such server. With one worker too, where all share a loop.
 *
 * That such calls come to an end is for bad-http-upstreams, bad-stdio-upstreams and http-connections.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import dgram from "node:dgram";
import { chmodSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp } from "./fixtures/http-server.ts";
import { startControl } from "./lib/control.ts";
import { binary, startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, send, served, text, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { status } from "./lib/upstreams.ts";
import { Recording, until, within } from "./lib/wait.ts";

const N_HUNG = 6;
const LIST_TIMEOUT_MS = 1000;
/** How much later than that a list may come on a loaded machine with a sanitizer build. */
const SLACK_MS = 2500;
/** Of each kind, with and without what hangs. */
const ROUNDS = 40;

/** A port where nothing more is said than the kernel says for it. */
async function mute(t: TestContext, visits = new Recording<net.Socket>("visit")): Promise<number> {
    const sockets = new Set<net.Socket>();
    const server = net.createServer((socket) => {
        sockets.add(socket);
        visits.push(socket);
        socket.on("error", () => {});
        socket.on("close", () => sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
        for (const socket of sockets) socket.destroy();
        server.close();
    });
    return (server.address() as net.AddressInfo).port;
}

/** A port whose queue of connections is full, and stays so. */
async function full(t: TestContext): Promise<number> {
    const script = `require("net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, function () {
        console.log(this.address().port); })`;
    const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    const port = Number(
        await within(new Promise((resolve) => child.stdout.once("data", (chunk) => resolve(String(chunk)))), "a port"),
    );
    child.kill("SIGSTOP");
    let isFull = false;
    await until(async () => {
        const socket = net.connect(port, "127.0.0.1");
        socket.on("error", () => {});
        t.after(() => socket.destroy());
        const isIn = new Promise<boolean>((resolve) => {
            socket.once("connect", () => resolve(true));
            setTimeout(() => resolve(false), 300);
        });
        isFull = !(await isIn);
        return isFull;
    }, "the queue is full");
    return port;
}

const canMount = process.getuid!() === 0 && spawnSync("unshare", ["--mount", "true"]).status === 0;

/** The gateway, where name servers are asked that do not answer; and what they are asked. */
async function withoutNames(t: TestContext): Promise<{ wrapper: string; asked: Recording<string> }> {
    const folder = temporaryFolder();
    t.after(() => removeFolder(folder));
    const asked = new Recording<string>("question to the name server");
    const server = dgram.createSocket("udp4", (message) => asked.push(message.toString("latin1")));
    // One of its own: other tests may do the same.
    const address = `127.${1 + (process.pid % 250)}.${1 + (process.pid >> 8) % 250}.53`;
    await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.bind(53, address, resolve);
    });
    t.after(() => server.close());
    writeFileSync(join(folder, "resolv.conf"), `nameserver ${address}\noptions timeout:5 attempts:2\n`);
    const wrapper = join(folder, "cardea");
    const inside = `mount --bind ${folder}/resolv.conf /etc/resolv.conf && export LD_PRELOAD="$P" && exec ${binary()} "$@"`;
    writeFileSync(wrapper, `#!/bin/sh\nP="$LD_PRELOAD"; unset LD_PRELOAD; export P\nexec unshare --mount sh -c '${inside}' sh "$@"\n`);
    chmodSync(wrapper, 0o755);
    return { wrapper, asked };
}

interface Hung {
    servers: { [name: string]: ServerConfig };
    /** the gateway is to be this one */
    wrapper?: string;
    /** It hangs from now on; before, it serves. */
    hang?: () => Promise<void> | void;
    /** what its calls say */
    args?: { [key: string]: unknown };
    /** Something of the gateway hangs there. */
    isHit: () => Promise<unknown>;
}

/** For those that never come up: all the time that the test takes. */
const patient = {
    startup_timeout: "60s",
    timeout: "60s",
    max_timeout: "120s",
    shutdown_timeout: "100ms",
    failure_threshold: 0,
};

const each = (config: (index: number) => ServerConfig): { [name: string]: ServerConfig } =>
    Object.fromEntries(Array.from({ length: N_HUNG }, (_, i) => [`hung${i}`, { ...patient, ...("url" in config(i) ? { connect_timeout: "60s" } : {}), ...config(i) }]));

const starting = (gateway: () => Gateway) => () =>
    until(async () => (await status(gateway())).get("hung0")?.state === "starting", "it is starting");

const kinds: { [name: string]: { skip?: string | false; make: (t: TestContext, gateway: () => Gateway) => Promise<Hung> } } = {
    "its name": {
        skip: !canMount && "only root has another resolv.conf",
        make: async (t) => {
            const { wrapper, asked } = await withoutNames(t);
            return {
                wrapper,
                servers: each((i) => ({ url: `http://hung${i}.example:8080/mcp` })),
                isHit: () => asked.waitFor((question) => question.includes("hung0")),
            };
        },
    },
    connect: {
        make: async (t, gateway) => {
            const port = await full(t);
            return { servers: each(() => ({ url: `http://127.0.0.1:${port}/mcp` })), isHit: starting(gateway) };
        },
    },
    "the TLS handshake": {
        make: async (t, gateway) => {
            const port = await mute(t);
            return { servers: each(() => ({ url: `https://127.0.0.1:${port}/mcp` })), isHit: starting(gateway) };
        },
    },
    "the first answer": {
        make: async (t) => {
            const fixture = await startHttp({ on: () => true }, t);
            return { servers: each(() => ({ url: fixture.url })), isHit: () => fixture.receives("server/discover") };
        },
    },
    "the head of an answer": {
        make: async (t) => {
            const fixture = await startHttp(modernOnly, t);
            const args = fixture.act((exchange) => exchange.raw("HTTP/1.1 200 OK\r\nContent-Ty"));
            return {
                servers: each(() => ({ url: fixture.url })),
                args,
                isHit: () => until(() => fixture.calls(args).length >= N_HUNG, "it is called"),
            };
        },
    },
    "the middle of a stream": {
        make: async (t) => {
            const fixture = await startHttp({ ...legacyOnly(), get: "stream" }, t);
            const args = fixture.act((exchange) => exchange.sse().raw('event: message\ndata: {"jsonrpc": "2.0", '));
            return {
                servers: each(() => ({ url: fixture.url })),
                args,
                isHit: () => until(() => fixture.calls(args).length >= N_HUNG, "it is called"),
            };
        },
    },
    "a child that does not read": {
        make: async (t) => {
            const control = await startControl();
            t.after(() => control.close());
            return {
                servers: each((i) => ({ cmd: control.command({ name: `hung${i}` }) })),
                // More than a pipe takes.
                args: { text: "x".repeat(300_000) },
                hang: async () => {
                    const children = await Promise.all(
                        Array.from({ length: N_HUNG }, (_, i) => control.started(`hung${i}`)),
                    );
                    for (const child of children) child.do({ do: "shell", script: "kill -STOP $PPID" });
                },
                isHit: async () => {},
            };
        },
    },
    "a child that says nothing": {
        make: async (_t, gateway) => ({
            servers: each(() => ({ cmd: ["/bin/sh", "-c", "while :; do sleep 1000; done"] })),
            isHit: starting(gateway),
        }),
    },
    "the authorization server": {
        make: async (t) => {
            const fixture = await startHttp({}, t);
            const visits = new Recording<net.Socket>("visit to the authorization server");
            const port = await mute(t, visits);
            const auth = {
                type: "client_credentials",
                issuer: "https://granter.example",
                token_endpoint: `http://127.0.0.1:${port}/token`,
                client_id: "gateway",
                client_secret: "a secret",
            };
            return { servers: each(() => ({ url: fixture.url, auth })), isHit: () => visits.waitFor(() => true) };
        },
    },
};

const median = (times: number[]): number => [...times].sort((a, b) => a - b)[times.length >> 1]!;

async function took(run: () => Promise<unknown>): Promise<number> {
    const from = performance.now();
    await run();
    return performance.now() - from;
}

const WHATS = ["call over HTTP", "call to a child", "list"] as const;
type What = (typeof WHATS)[number];

/** What is measured, at one gateway. */
async function measured(gateway: Gateway): Promise<{ [what in What]: () => Promise<void> }> {
    const http = await openSession(gateway, "/mcp/good");
    const child = await openSession(gateway, "/mcp/child");
    const call = async (session: Session) => assert.equal(text(await session.call("echo", { text: "x" })), "x");
    return {
        "call over HTTP": () => call(http),
        "call to a child": () => call(child),
        list: async () => {
            const { result } = await new ModernClient(gateway, "/mcp/good").request("tools/list");
            assert.ok((result!.tools as unknown[]).length > 5);
        },
    };
}

describe("a server that hangs", { concurrency: 1 }, () => {
    for (const workers of [1, 2]) {
        for (const [name, kind] of Object.entries(kinds)) {
            test(`at ${name}, ${workers} worker${workers > 1 ? "s" : ""}`, { skip: kind.skip }, async (t) => {
                let found: Gateway | undefined;
                const hung = await kind.make(t, () => found!);
                const good = await startHttp({}, t);
                const control = await startControl();
                t.after(() => control.close());
                const fine = { good: { url: good.url }, child: { cmd: control.command({ name: "child" }) } };
                const start = async (servers: { [name: string]: ServerConfig }, wrapper?: string): Promise<Gateway> => {
                    const known = process.env.CARDEA_BIN;
                    if (wrapper !== undefined) process.env.CARDEA_BIN = wrapper;
                    try {
                        const config = { server: { workers }, mcp: { list_timeout: `${LIST_TIMEOUT_MS}ms` }, servers };
                        return await startGateway({ config, args: ["--log", "info"] }, t);
                    } finally {
                        if (known === undefined) delete process.env.CARDEA_BIN;
                        else process.env.CARDEA_BIN = known;
                    }
                };
                const calm = await start(fine);
                // Those that hang come first in the file: whoever goes through all of them meets them first.
                const gateway = (found = await start({ ...hung.servers, ...fine }, hung.wrapper));
                for (const one of [calm, gateway]) await served(one, "good__echo", "child__echo");
                await hung.hang?.();

                const stop = new AbortController();
                const session = await openSession(gateway);
                const waiting = Object.keys(hung.servers).flatMap((server) =>
                    Array.from({ length: 3 }, async (_, n) => {
                        const params = { name: `${server}__echo`, arguments: hung.args ?? { text: "x" } };
                        const body = { jsonrpc: "2.0", id: `${server} ${n}`, method: "tools/call", params };
                        await session.send({ body, signal: stop.signal }).catch(() => {});
                    }),
                );
                try {
                    await hung.isHit();
                    const [before, after] = [await measured(calm), await measured(gateway)];
                    for (const what of WHATS) {
                        const times: [number[], number[]] = [[], []];
                        for (let i = 0; i < ROUNDS; i++) {
                            times[0].push(await took(before[what]));
                            times[1].push(await took(after[what]));
                        }
                        const [without, beside] = [median(times[0]), median(times[1])];
                        t.diagnostic(`${what}: ${without.toFixed(1)} ms without, ${beside.toFixed(1)} ms beside it`);
                        assert.ok(beside < 2 * without + 10, `${what}: ${without} ms without, ${beside} ms beside it`);
                        const worst = Math.max(...times[1]);
                        assert.ok(worst < LIST_TIMEOUT_MS, `${what}: none takes ${worst} ms`);
                    }
                    // The list of all: what has never been up is waited for, so long and no longer.
                    for (let i = 0; i < 3; i++) {
                        const listed: string[] = [];
                        const time = await took(async () => {
                            const { result } = await new ModernClient(gateway, "/mcp").request("tools/list");
                            listed.push(...(result!.tools as { name: string }[]).map((tool) => tool.name));
                        });
                        assert.ok(listed.includes("good__echo") && listed.includes("child__echo"), String(listed));
                        assert.ok(time < LIST_TIMEOUT_MS + SLACK_MS, `a list of all takes ${time} ms`);
                    }
                    const health = await took(() => send(gateway, { method: "GET", path: "/health", token: false }));
                    assert.ok(health < LIST_TIMEOUT_MS, `/health takes ${health} ms`);
                } finally {
                    stop.abort();
                    await Promise.all(waiting);
                }
            });
        }
    }
});
