/*
 * What the machine runs out of: descriptors, memory, room for logs, a steady clock. Each time the gateway says so,
 * goes on for those who are inside, and is as before when there is enough again.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startBare } from "./lib/bare.ts";
import { Clocks } from "./lib/clocks.ts";
import { startControl, type Control } from "./lib/control.ts";
import { binary, startGateway, type Gateway } from "./lib/gateway.ts";
import { initialize, openSession, parseResponses, send, served, text, type RawAnswer } from "./lib/http.ts";
import { allDescriptors, unlessRoot } from "./lib/proc.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../build-asan", import.meta.url));
const TINY = join(BUILD, "test", "hostile", "tiny_server");

const MIB = 1024 * 1024;
const isSanitized = fs.readFileSync(binary()).includes("__asan_init");

/** A limit of the running gateway; soft alone, so that it can be raised again. */
function limit(pid: number, resource: "nofile" | "as" | "data", value: number | "unlimited"): void {
    execFileSync("prlimit", [`--pid=${pid}`, `--${resource}=${value}:`]);
}

/** A connection of which the test reads what comes. */
class Raw {
    readonly socket: net.Socket;
    #chunks: Buffer[] = [];
    #isOver = false;
    #changed = () => {};

    constructor(port: number) {
        this.socket = net.connect({ host: "127.0.0.1", port });
        this.socket.on("data", (chunk) => {
            this.#chunks.push(chunk);
            this.#changed();
        });
        this.socket.on("error", () => {});
        for (const event of ["end", "close"]) {
            this.socket.on(event, () => {
                this.#isOver = true;
                this.#changed();
            });
        }
    }

    /** The next whole answer, which has a Content-Length; undefined: the connection ended without. */
    async answer(what: string): Promise<RawAnswer | undefined> {
        const whole = () => {
            const bytes = Buffer.concat(this.#chunks);
            const end = bytes.indexOf("\r\n\r\n");
            if (end < 0) return undefined;
            const length = /\r\ncontent-length: (\d+)/i.exec(bytes.subarray(0, end).toString("latin1"))?.[1];
            const size = length === undefined ? undefined : end + 4 + Number(length);
            if (size === undefined ? !this.#isOver : bytes.length < size) return undefined;
            this.#chunks = [bytes.subarray(size ?? bytes.length)];
            return parseResponses(bytes.subarray(0, size))[0];
        };
        return within(
            new Promise<RawAnswer | undefined>((resolve) => {
                this.#changed = () => {
                    const found = whole();
                    if (found !== undefined || this.#isOver) resolve(found);
                };
                this.#changed();
            }),
            what,
        );
    }
}

const request = (gateway: Gateway, method: string, path: string, fields: Record<string, string>, body = ""): string =>
    [
        `${method} ${path} HTTP/1.1`,
        `Host: ${gateway.host}`,
        ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`),
        ...(body === "" ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
        "",
        body,
    ].join("\r\n");

describe("out of descriptors", { skip: unlessRoot }, () => {
    let control: Control;
    before(async () => void (control = await startControl()));
    after(async () => control.close());

    test("newcomers get 503, those inside are served, and all is as before when there are some", async (t) => {
        const servers = {
            it: { cmd: control.command({ name: "inside" }) },
            own: { cmd: control.command({ name: "mortal" }) },
        };
        const gateway = await startGateway({ config: { servers } }, t);
        await served(gateway, "it__echo", "own__echo");
        const session = await openSession(gateway);
        const inside = new Raw(gateway.port);
        const ask = async (name: string, id: string): Promise<string> => {
            const body = JSON.stringify({
                jsonrpc: "2.0",
                id,
                method: "tools/call",
                params: { name, arguments: { text: `still here ${id}` } },
            });
            const fields = {
                ...session.headers,
                Authorization: `Bearer ${gateway.token}`,
                "Content-Type": "application/json",
                Accept: "application/json, text/event-stream",
            };
            inside.socket.write(request(gateway, "POST", "/mcp", fields, body));
            return (await inside.answer(`${name} answers ${id}`))!.body;
        };
        assert.match(await ask("it__echo", "a"), /still here a/);

        const soft = allDescriptors(gateway) + 10; // the trail may open some more
        limit(gateway.pid, "nofile", soft);
        const taken: Raw[] = [];
        let refusal: RawAnswer | undefined;
        for (let n = 0; n < 64 && refusal === undefined; n++) {
            const raw = new Raw(gateway.port);
            raw.socket.write(request(gateway, "GET", "/health", {}));
            const answer = await raw.answer("200 or 503");
            if (answer?.status === 503) refusal = answer;
            else {
                assert.equal(answer?.status, 200);
                taken.push(raw);
            }
        }
        assert.ok(refusal !== undefined, "there were descriptors for all of them");
        assert.match(refusal.body, /"code":503,"message":"the gateway is out of file descriptors; try again later"/);
        assert.equal(refusal.headers.get("connection"), "close");
        const told = await gateway.waitForLog((entry) => String(entry.message).startsWith("out of file descriptors"));
        assert.equal(told.level, "warn");
        assert.equal(told.descriptors, soft);
        assert.match(String(told.message), /ulimit -n, LimitNOFILE/);

        // Those inside.
        assert.match(await ask("it__echo", "b"), /still here b/);
        taken[0]!.socket.write(request(gateway, "GET", "/health", {}));
        assert.equal((await taken[0]!.answer("an old connection"))?.status, 200);
        // The control socket says what is the matter.
        const socket = net.connect(join(gateway.dataDir, "control.sock"));
        let said = "";
        socket.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
        socket.on("error", () => {});
        await within(new Promise((resolve) => socket.on("close", resolve)), "the control socket answers");
        assert.match(said, /"ok":false,"error":"the gateway is out of file descriptors/);
        // Newcomers are many: each is answered, none is waited for.
        const crowd = Array.from({ length: 40 }, () => {
            const raw = new Raw(gateway.port);
            raw.socket.write(request(gateway, "GET", "/health", {}));
            return raw.answer("503 for one of a crowd");
        });
        // What one worker gives up for a moment may be another one's connection: a few are served.
        const statuses = (await Promise.all(crowd)).map((answer) => answer?.status ?? 503);
        assert.ok(
            statuses.filter((status) => status === 503).length >= 32 && statuses.every((s) => s === 503 || s === 200),
            statuses.join(" "),
        );

        // A child cannot be started; whoever wants it is told.
        limit(gateway.pid, "nofile", 3);
        const from = gateway.log.items.length;
        (await control.started("mortal")).do({ do: "exit", code: 3 });
        const down = await gateway.waitForLog(
            (entry) => entry.message === "is down" && /Too many open files/.test(String(entry.reason)),
            from,
        );
        assert.equal(down.upstream, "own");
        assert.match(await ask("own__echo", "c"), /did not start|is down/);
        assert.match(await ask("it__echo", "d"), /still here d/);

        // Enough again: without a restart, and by itself.
        limit(gateway.pid, "nofile", soft);
        for (const raw of taken) raw.socket.destroy();
        await gateway.waitForLog((entry) => entry.message === "has room again for all who come");
        const health = await send({ port: gateway.port, token: gateway.token }, { method: "GET", path: "/health" });
        assert.equal(health.status, 200);
        limit(gateway.pid, "nofile", 1024);
        await until(
            async () => /still here/.test(await ask("own__echo", `e${Date.now()}`)),
            "the child is started again",
        );
        inside.socket.destroy();
    });

    test("a connection to an HTTP server cannot be opened: that call is told so, others have theirs", async (t) => {
        const server = http.createServer((incoming, response) => {
            let body = "";
            incoming.on("data", (chunk) => (body += chunk));
            incoming.on("end", () => {
                if (incoming.method !== "POST") {
                    response.writeHead(405).end();
                    return;
                }
                const { id, method } = JSON.parse(body) as { id?: number; method: string };
                if (id === undefined) {
                    response.writeHead(202).end();
                    return;
                }
                const results: { [name: string]: unknown } = {
                    initialize: {
                        protocolVersion: "2025-11-25",
                        capabilities: { tools: {} },
                        serverInfo: { name: "s", version: "1" },
                    },
                    "tools/list": { tools: [{ name: "t", inputSchema: { type: "object" } }] },
                    "tools/call": { content: [{ type: "text", text: "done" }] },
                };
                const result = results[method];
                // No connection is kept: each call needs a new one.
                response.writeHead(result === undefined ? 400 : 200, {
                    "Content-Type": "application/json",
                    Connection: "close",
                });
                const rest = result === undefined ? { error: { code: -32601, message: "no" } } : { result };
                response.end(JSON.stringify({ jsonrpc: "2.0", id, ...rest }));
            });
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        t.after(() => server.close());
        const { port } = server.address() as net.AddressInfo;
        const servers = {
            web: { url: `http://127.0.0.1:${port}/mcp` },
            it: { cmd: control.command({ name: "beside" }) },
        };
        const gateway = await startGateway({ config: { servers } }, t);
        await served(gateway, "web__t", "it__echo");
        const session = await openSession(gateway);
        const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
        t.after(() => agent.destroy());
        const call = (
            name: string,
            id: number,
        ): Promise<{ result?: { isError?: boolean; content: { text: string }[] } }> =>
            within(
                new Promise((resolve, reject) => {
                    const body = JSON.stringify({
                        jsonrpc: "2.0",
                        id,
                        method: "tools/call",
                        params: { name, arguments: { text: "inside" } },
                    });
                    const outgoing = http.request(
                        {
                            agent,
                            port: gateway.port,
                            host: "127.0.0.1",
                            path: "/mcp",
                            method: "POST",
                            headers: {
                                ...session.headers,
                                ...gateway.headers,
                                "Content-Type": "application/json",
                                Accept: "application/json, text/event-stream",
                            },
                        },
                        (incoming) => {
                            let answer = "";
                            incoming.setEncoding("utf8").on("data", (chunk: string) => (answer += chunk));
                            incoming.on("end", () => resolve(JSON.parse(answer)));
                        },
                    );
                    outgoing.on("error", reject);
                    outgoing.end(body);
                }),
                `an answer to ${name}`,
            );
        assert.equal((await call("web__t", 1)).result?.content[0]?.text, "done");
        limit(gateway.pid, "nofile", 3);
        const { result } = await call("web__t", 2);
        assert.equal(result?.isError, true);
        assert.match(result!.content[0]!.text, /out of memory or file descriptors, and did not send the call/);
        assert.equal((await call("it__echo", 3)).result?.content[0]?.text, "inside");
        limit(gateway.pid, "nofile", 1024);
        // It was not the server's fault: nothing has to be waited for.
        assert.equal((await call("web__t", 4)).result?.content[0]?.text, "done");
    });
});

describe("at the memory limit", { skip: isSanitized && "a sanitizer takes more addresses than any limit" }, () => {
    let control: Control;
    before(async () => void (control = await startControl()));
    after(async () => control.close());

    const size = (pid: number, name: string) =>
        1024 *
        Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
    const addresses = (pid: number) => size(pid, "VmSize");

    test("what does not fit is refused, the rest lives, and it is as before when there is memory", async (t) => {
        const server = { max_held: "1GiB" };
        const servers = { it: { cmd: control.command({ name: "small" }) } };
        const gateway = await startGateway({ config: { server, servers } }, t);
        await served(gateway, "it__echo");
        const session = await openSession(gateway);
        for (let round = 0; round < 3; round++) {
            limit(gateway.pid, "as", addresses(gateway.pid) + 24 * MIB);
            // Bodies that are held until they are whole, which they never are.
            const filler = "x".repeat(MIB);
            const answers: Promise<RawAnswer | undefined>[] = [];
            const raws = Array.from({ length: 200 }, () => {
                const raw = new Raw(gateway.port);
                const fields = {
                    ...session.headers,
                    Authorization: `Bearer ${gateway.token}`,
                    "Content-Type": "application/json",
                    Accept: "application/json, text/event-stream",
                    "Content-Length": String(4 * MIB),
                };
                raw.socket.write(request(gateway, "POST", "/mcp", fields));
                for (let n = 0; n < 3; n++) raw.socket.write(filler);
                answers.push(raw.answer("a refusal").catch(() => undefined));
                return raw;
            });
            // Nobody of those who fit is answered; of the others each is.
            const first = await within(Promise.any(answers), "somebody is refused");
            if (first !== undefined) {
                assert.equal(first.status, 503);
                assert.match(first.body, /out of memory/);
            }
            await gateway.waitForLog((entry) => String(entry.message).startsWith("out of memory"));
            for (const raw of raws) raw.socket.destroy();
            await Promise.all(answers);
            // Those who come now are served again, in the same process and under the same limit.
            await until(async () => {
                try {
                    return text(await session.call("it__echo", { text: `round ${round}` })) === `round ${round}`;
                } catch {
                    return false;
                }
            }, "calls are answered again");
            assert.equal(gateway.process.exitCode, null);
            limit(gateway.pid, "as", "unlimited");
        }
        assert.equal(text(await session.call("it__echo", { text: "at the end" })), "at the end");
    });

    test("an answer of a server that does not fit is that call's error", async (t) => {
        const servers = { tiny: { cmd: [TINY, "sizes"] }, it: { cmd: control.command({ name: "long" }) } };
        const gateway = await startGateway({ config: { servers: { it: servers.it } } }, t);
        await served(gateway, "it__hold");
        const child = await control.started("long");
        const session = await openSession(gateway);
        const held = session.call("it__hold", {}, 1);
        await child.events.waitFor((event) => event.event === "held");
        limit(gateway.pid, "as", addresses(gateway.pid) + 4 * MIB);
        // A line of 9 MiB, which is allowed and for which there is no room.
        child.do({
            do: "line",
            line: `{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"${"y".repeat(9 * MIB)}"}}`,
        });
        const answer = await held;
        assert.equal(answer.result?.isError, true);
        assert.match(text(answer), /upstream stopped/);
        const down = await gateway.waitForLog((entry) => entry.message === "is down" && entry.upstream === "it");
        assert.match(String(down.reason), /there is no memory for a message that it wrote/);
        limit(gateway.pid, "as", "unlimited");
        await until(async () => {
            const { result } = await session.call("it__echo", { text: "again" });
            return result?.isError !== true;
        }, "the server is started again");
    });

    test("thousands of sessions do not end it", async (t) => {
        const gateway = await startGateway(
            { config: { server: { max_sessions: 100000 }, servers: {} }, args: ["--log", "info"] },
            t,
        );
        const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
        t.after(() => agent.destroy());
        // What is small comes out of addresses that the allocator has reserved already: this limit counts pages.
        limit(gateway.pid, "data", size(gateway.pid, "VmData") + 3 * MIB);
        const body = JSON.stringify(initialize("2025-11-25"));
        const open = (): Promise<number> =>
            new Promise((resolve) => {
                const outgoing = http.request(
                    {
                        agent,
                        port: gateway.port,
                        host: "127.0.0.1",
                        path: "/mcp",
                        method: "POST",
                        headers: {
                            ...gateway.headers,
                            "Content-Type": "application/json",
                            Accept: "application/json, text/event-stream",
                        },
                    },
                    (incoming) => {
                        incoming.resume();
                        incoming.on("end", () => resolve(incoming.statusCode!));
                    },
                );
                outgoing.on("error", () => resolve(0));
                outgoing.end(body);
            });
        const seen = new Map<number, number>();
        for (let n = 0; n < 40000 && !seen.has(503); n += 8) {
            for (const status of await Promise.all(Array.from({ length: 8 }, open)))
                seen.set(status, (seen.get(status) ?? 0) + 1);
        }
        assert.equal(gateway.process.exitCode, null, JSON.stringify([...seen]));
        assert.ok(seen.get(200)! > 100 && seen.has(503), `opened, then refused: ${JSON.stringify([...seen])}`);
        const health = await send({ port: gateway.port, token: gateway.token }, { method: "GET", path: "/health" });
        assert.ok(health.status === 200 || health.status === 503);
        limit(gateway.pid, "data", "unlimited");
        await until(async () => (await open()) === 200, "sessions are opened again");
    });

    test("whatever comes while there is none: requests of every kind are answered or refused", async (t) => {
        const servers = {
            it: { cmd: control.command({ name: "any" }) },
            own: { cmd: [TINY], share: "session", max_instances: 1000 },
        };
        const gateway = await startGateway({ config: { servers }, args: ["--log", "info"] }, t);
        await served(gateway, "it__echo");
        const target = { port: gateway.port, token: gateway.token };
        const session = await openSession(gateway);
        const old = await openSession(gateway, "/mcp", "2025-03-26");
        const call = (id: string, length: number) => ({
            jsonrpc: "2.0",
            id,
            method: "tools/call",
            params: { name: "it__echo", arguments: { text: "t".repeat(length) } },
        });
        const kinds: ((id: string) => Promise<unknown>)[] = [
            (id) => session.send({ body: call(id, 10) }),
            (id) => session.send({ body: call(id, 300_000) }),
            (id) => session.send({ body: { jsonrpc: "2.0", id, method: "tools/list", params: {} } }),
            (id) => old.send({ body: Array.from({ length: 50 }, (_, n) => call(`${id}-${n}`, 2000)) }),
            () => openSession(gateway),
            async () => void (await (await openSession(gateway)).end()),
            () => send(target, { method: "GET", path: "/ready" }),
            async () => (await session.stream()).close(),
            async (id) => (await openSession(gateway)).call("own__t", {}, id),
        ];
        for (let round = 0; round < 24; round++) {
            // From nothing at all to something.
            limit(gateway.pid, "data", size(gateway.pid, "VmData") + (round % 6) * 256 * 1024);
            const all = Array.from({ length: 54 }, (_, n) =>
                kinds[n % kinds.length]!(`${round}-${n}`).catch(() => undefined),
            );
            await Promise.all(all);
            assert.equal(gateway.process.exitCode ?? gateway.process.signalCode, null, `it lives after round ${round}`);
            limit(gateway.pid, "data", "unlimited");
        }
        await until(async () => {
            try {
                return text(await session.call("it__echo", { text: "at the end" })) === "at the end";
            } catch {
                return false;
            }
        }, "calls are answered again");
    });
});

describe("a log that cannot be written", () => {
    const config = { servers: {} };
    const traced = ["--log", "trace"];

    test("a full disk stops nothing", async (t) => {
        const full = fs.openSync("/dev/full", "w");
        const gateway = await startBare(config, full, t, traced);
        fs.closeSync(full);
        for (let n = 0; n < 20; n++) assert.equal((await gateway.health()).status, 200);
        assert.deepEqual(await gateway.stop(), { code: 0, signal: null });
    });

    test("a reader that is gone stops nothing", async (t) => {
        const folder = temporaryFolder();
        const fifo = join(folder, "log");
        execFileSync("mkfifo", [fifo]);
        const reader = fs.openSync(fifo, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
        const writer = fs.openSync(fifo, "w");
        const gateway = await startBare(config, writer, t, traced);
        fs.closeSync(writer);
        fs.closeSync(reader);
        for (let n = 0; n < 20; n++) assert.equal((await gateway.health()).status, 200);
        assert.deepEqual(await gateway.stop(), { code: 0, signal: null });
        removeFolder(folder);
    });

    test("a reader that has stopped reading stops nothing; later it hears how many lines are lost", async (t) => {
        const folder = temporaryFolder();
        const fifo = join(folder, "log");
        execFileSync("mkfifo", [fifo]);
        const reader = fs.openSync(fifo, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
        const writer = fs.openSync(fifo, "w");
        const gateway = await startBare(config, writer, t, traced);
        fs.closeSync(writer);
        const target = { port: gateway.port, token: "wrong" };
        const long = `/${"x".repeat(4000)}`;
        // More than any pipe holds: a pipe has 64 KiB.
        for (let n = 0; n < 60; n++) assert.equal((await send(target, { method: "GET", path: long })).status, 401);
        let log = "";
        const drain = () => {
            const chunk = Buffer.alloc(65536);
            for (;;) {
                let size = 0;
                try {
                    size = fs.readSync(reader, chunk);
                } catch {
                    return; // EAGAIN: it is empty
                }
                if (size === 0) return;
                log += chunk.subarray(0, size).toString("utf8");
            }
        };
        const lost = await until(async () => {
            drain();
            assert.equal((await gateway.health()).status, 200);
            drain();
            return log
                .split("\n")
                .filter((line) => line.endsWith("}"))
                .map((line) => JSON.parse(line) as { message: string; lines?: number; reason?: string })
                .find((entry) => entry.message.startsWith("lines of this log were lost"));
        }, "the log says what is missing");
        assert.ok(lost.lines! > 0);
        assert.match(lost.reason!, /temporarily unavailable/);
        assert.deepEqual(await gateway.stop(), { code: 0, signal: null });
        fs.closeSync(reader);
        removeFolder(folder);
    });

    const canMount = process.getuid!() === 0 && spawnSync("mount", ["--version"]).status === 0;
    test("a disk that is full for a while", { skip: !canMount && "only root mounts a small disk" }, async (t) => {
        const folder = temporaryFolder();
        const disk = join(folder, "disk");
        fs.mkdirSync(disk);
        const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=256k,nr_inodes=4", "tmpfs", disk]);
        if (mounted.status !== 0) {
            removeFolder(folder);
            t.skip(`no small disk: ${mounted.stderr}`);
            return;
        }
        try {
            const path = join(disk, "log");
            const filler = join(disk, "filler");
            fs.writeFileSync(filler, Buffer.alloc(128 * 1024));
            fs.writeFileSync(join(disk, "last"), "");
            const log = fs.openSync(path, "a", 0o600);
            // No inode is left: a child's own log cannot be made.
            const servers = { tiny: { cmd: [TINY], stderr: { file: join(disk, "child.log") } } };
            const gateway = await startBare({ servers }, log, t, traced);
            fs.closeSync(log);
            await until(
                () => fs.readFileSync(path, "utf8").includes("its stderr is lost: the disk is full"),
                "it says that the child's log is lost",
            );
            const all = { port: gateway.port, token: gateway.token };
            await until(async () => {
                const answer = await send(all, { method: "GET", path: "/ready" });
                return /"name":"tiny","state":"ready"/.test(answer.text);
            }, "the child serves without its log");
            const target = { port: gateway.port, token: "wrong" };
            const long = `/${"x".repeat(4000)}`;
            for (let n = 0; n < 400; n++) assert.equal((await send(target, { method: "GET", path: long })).status, 401);
            fs.rmSync(filler);
            const lost = await until(async () => {
                assert.equal((await gateway.health()).status, 200);
                const line = fs
                    .readFileSync(path, "utf8")
                    .split("\n")
                    .find((one) => one.includes("lines of this log were lost"));
                return line === undefined ? undefined : (JSON.parse(line) as { lines: number; reason: string });
            }, "the log says what is missing");
            assert.ok(lost.lines > 0);
            assert.equal(lost.reason, "No space left on device");
            // Every line is whole.
            for (const line of fs.readFileSync(path, "utf8").trimEnd().split("\n")) JSON.parse(line);
            assert.deepEqual(await gateway.stop(), { code: 0, signal: null });
        } finally {
            spawnSync("umount", ["-l", disk]);
            removeFolder(folder);
        }
    });
});

describe("clocks that jump", () => {
    const DAY = 86400n * 1000000000n;
    const HOUR = 3600n * 1000000000n;

    const dateOf = async (gateway: Gateway): Promise<number> => {
        const { headers } = await send({ port: gateway.port, token: "" }, { method: "GET", path: "/nothing" });
        return Date.parse(headers.date!);
    };

    test("the time of day: calls, timeouts and sessions do not notice", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const clocks = new Clocks(control.folder);
        t.after(() => clocks.close());
        const servers = {
            it: { cmd: control.command({ name: "timed" }), timeout: "2s" },
            slow: { cmd: control.command({ name: "patient" }) },
        };
        const gateway = await startGateway({ config: { servers }, env: clocks.env }, t);
        await served(gateway, "it__hold", "slow__hold");
        const session = await openSession(gateway);
        assert.ok(Math.abs((await dateOf(gateway)) - Date.now()) < 10_000);
        const patient = await control.started("patient");
        const held = session.call("slow__hold", {}, "patient");
        await patient.events.waitFor((event) => event.event === "held");
        for (const [shift, name] of [
            [DAY, "forward"],
            [-DAY, "back"],
            [0n, "right again"],
        ] as const) {
            const began = performance.now();
            const late = session.call("it__hold", {}, name);
            clocks.set(shift, 0n);
            const expected = Date.now() + Number(shift / 1000000n);
            assert.ok(Math.abs((await dateOf(gateway)) - expected) < 10_000, `the date is ${name}`);
            assert.equal(text(await session.call("slow__echo", { text: name })), name);
            // The timeout comes when it is due by a clock that does not jump.
            assert.match(text(await late), /did not answer within 2000 ms \(timeout\)/);
            const took = performance.now() - began;
            assert.ok(took > 1500, `not before its time: ${took} ms`);
        }
        patient.do({ do: "release" });
        assert.equal((await held).error, undefined);
        assert.equal((await session.request("ping")).error, undefined);
    });

    test("an hour that passes at once, as after a suspend: timeouts fire, and it goes on", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const clocks = new Clocks(control.folder);
        t.after(() => clocks.close());
        const servers = { it: { cmd: control.command({ name: "slept" }) } };
        const gateway = await startGateway({ config: { servers }, env: clocks.env }, t);
        await served(gateway, "it__hold");
        const session = await openSession(gateway);
        const child = await control.started("slept");
        const idle = new Raw(gateway.port);
        idle.socket.write(request(gateway, "GET", "/health", {}));
        assert.equal((await idle.answer("its first answer"))?.status, 200);
        const held = session.call("it__hold");
        await child.events.waitFor((event) => event.event === "held");
        clocks.set(HOUR, HOUR);
        assert.match(text(await held), /did not answer within \d+ ms \((max_)?timeout\)/);
        const again = await openSession(gateway);
        await until(async () => {
            const { result } = await again.call("it__echo", { text: "morning" });
            return result?.isError !== true && text({ result }) === "morning";
        }, "calls are answered");
        assert.equal(await idle.answer("the idle connection is closed"), undefined);
        idle.socket.destroy();
    });
});
