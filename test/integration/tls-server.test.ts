/*
 * The gateway's own TLS: who is let in and who is not, clients that are slow or many or speak something else, what
 * travels, the drain, a certificate that changes, the listener for health checks. Certificates and their renewal are
 * in other files; the parts of the handshake are in test/unit/io/test_tls_server.c.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import tls from "node:tls";

import { startControl, type Control } from "./lib/control.ts";
import { launchGateway, startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { initialize, openSession, send, served, text } from "./lib/http.ts";
import { Raw } from "./lib/raw.ts";
import { temporaryFolder, removeFolder } from "./lib/temp.ts";
import { Authority, type Certificate } from "./lib/tls.ts";
import { until, within } from "./lib/wait.ts";

let control: Control;
let authority: Authority;
let folder: string;
let own: Certificate;
let n = 0;

before(async () => {
    control = await startControl();
    authority = new Authority();
    folder = temporaryFolder();
    own = authority.sign("DNS:localhost,IP:127.0.0.1");
});
after(async () => {
    await control.close();
    removeFolder(folder);
});

const ca = () => readFileSync(authority.file, "utf8");

/** In new files, of which the configuration has the names. */
function files(certificate: Certificate): { certificate: string; key: string } {
    const name = join(folder, `own-${++n}`);
    writeFileSync(`${name}.pem`, certificate.cert);
    writeFileSync(`${name}.key`, certificate.key, { mode: 0o600 });
    return { certificate: `${name}.pem`, key: `${name}.key` };
}

interface More {
    name?: string;
    tls?: { [key: string]: Value };
    server?: { [key: string]: Value };
    args?: string[];
}

/** With a fixture named `it`; every test has a gateway of its own. */
async function started(t: TestContext, more: More = {}): Promise<Gateway> {
    const name = more.name ?? `tls${++n}`;
    const server = { ...more.server, tls: { ...files(own), ...more.tls } };
    const gateway = await startGateway(
        { config: { server, servers: { it: { cmd: control.command({ name }) } } }, args: more.args },
        t,
    );
    gateway.tls = { ca: ca() };
    return gateway;
}

const options = (gateway: Gateway): tls.ConnectionOptions => ({ host: "127.0.0.1", port: gateway.port, ca: ca() });

/** The connection, or why there is none. In TLS 1.3 a server refuses after the client is done: it has to say something. */
async function connect(gateway: Gateway, more: tls.ConnectionOptions = {}): Promise<tls.TLSSocket | string> {
    const socket = tls.connect({ ...options(gateway), ...more });
    const answered = new Promise<tls.TLSSocket | string>((resolve) => {
        socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
        socket.on("close", () => resolve("closed"));
        socket.on("data", () => resolve(socket));
        socket.on("secureConnect", () => socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    });
    return within(answered, "the handshake ends");
}

async function letsIn(gateway: Gateway, more: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
    const socket = await connect(gateway, more);
    if (typeof socket === "string") assert.fail(`refused: ${socket}`);
    return socket;
}

async function refuses(gateway: Gateway, more: tls.ConnectionOptions, code: RegExp): Promise<void> {
    const socket = await connect(gateway, more);
    if (typeof socket !== "string") {
        socket.destroy();
        assert.fail("it was let in");
    }
    assert.match(socket, code);
}

/** What a client says first. */
async function hello(): Promise<Buffer> {
    const server = net.createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = tls.connect({ host: "127.0.0.1", port: (server.address() as net.AddressInfo).port });
    client.on("error", () => {});
    const [socket] = (await once(server, "connection")) as [net.Socket];
    const [bytes] = (await once(socket, "data")) as [Buffer];
    socket.destroy();
    client.destroy();
    server.close();
    return bytes;
}

const failures = (gateway: Gateway) =>
    gateway.log.items.filter((entry) => entry.message === "closed connections whose TLS handshake failed");

describe("who is let in", { concurrency: 2 }, () => {
    test("TLS 1.2 and 1.3, http/1.1 or nothing by ALPN; nothing else", async (t) => {
        const gateway = await started(t);
        for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
            const socket = await letsIn(gateway, { minVersion: version, maxVersion: version });
            assert.equal(socket.getProtocol(), version);
            assert.equal(socket.authorized, true);
            socket.destroy();
        }
        const http1 = await letsIn(gateway, { ALPNProtocols: ["h2", "http/1.1"] });
        assert.equal(http1.alpnProtocol, "http/1.1");
        http1.destroy();
        await refuses(gateway, { ALPNProtocols: ["h2"] }, /NO_APPLICATION_PROTOCOL/);
        const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
        await refuses(gateway, old, /PROTOCOL_VERSION/);
        const weak = { maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-SHA:AES128-SHA" } as const;
        await refuses(gateway, weak, /HANDSHAKE_FAILURE/);
        await served(gateway, "it__echo");
        const session = await openSession(gateway);
        assert.equal(text(await session.call("it__echo", { text: "over TLS" })), "over TLS");
    });

    test("min_version 1.3", async (t) => {
        const gateway = await started(t, { tls: { min_version: "1.3" } });
        await refuses(gateway, { maxVersion: "TLSv1.2" }, /PROTOCOL_VERSION/);
        (await letsIn(gateway)).destroy();
    });

    test("a session is never taken up again", async (t) => {
        const gateway = await started(t);
        for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
            const first = await letsIn(gateway, { maxVersion: version });
            const session = first.getSession();
            first.destroy();
            const second = await letsIn(gateway, { maxVersion: version, session });
            assert.equal(second.isSessionReused(), false);
            second.destroy();
        }
    });

    for (const require_client_certificate of [true, false]) {
        test(`certificates of clients, ${require_client_certificate ? "required" : "as they like"}`, async (t) => {
            const gateway = await started(t, { tls: { client_ca: authority.file, require_client_certificate } });
            const stranger = new Authority();
            for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
                const maxVersion = version;
                (await letsIn(gateway, { maxVersion, ...authority.sign("email:a@b.test") })).destroy();
                const refused = /ALERT|ECONNRESET|EPIPE|closed/;
                await refuses(gateway, { maxVersion, ...authority.sign("email:a@b.test", true) }, refused);
                await refuses(gateway, { maxVersion, ...stranger.sign("email:a@b.test") }, refused);
                if (require_client_certificate) await refuses(gateway, { maxVersion }, refused);
                else (await letsIn(gateway, { maxVersion })).destroy();
            }
            await gateway.waitForLog((entry) => entry.reason === "the certificate has expired");
            if (require_client_certificate)
                await gateway.waitForLog((entry) => entry.reason === "the client showed no certificate");
        });
    }

    test("an authority of clients that is taken away takes their connections with it", async (t) => {
        const clients = join(folder, `clients-${++n}.pem`);
        const other = new Authority();
        writeFileSync(clients, ca() + readFileSync(other.file, "utf8"));
        const gateway = await started(t, { tls: { client_ca: clients } });
        const body = JSON.stringify(initialize("2025-06-18"));
        const head = ["POST /mcp HTTP/1.1", "Host: localhost", "Content-Type: application/json"];
        head.push("Accept: application/json, text/event-stream", `Content-Length: ${body.length}`);
        const ask = async (socket: tls.TLSSocket): Promise<string> => {
            const answered = new Promise<string>((resolve) => {
                socket.removeAllListeners("data").once("data", (bytes: Buffer) => resolve(bytes.toString().slice(9, 12)));
                socket.once("close", () => resolve("closed"));
            });
            socket.write(`${head.join("\r\n")}\r\n\r\n${body}`);
            return within(answered, "an answer, or the end");
        };
        const stays = await letsIn(gateway, authority.sign("email:a@b.test"));
        const goes = await letsIn(gateway, other.sign("email:a@b.test"));
        const plain = await letsIn(gateway);
        assert.deepEqual([await ask(stays), await ask(goes), await ask(plain)], ["200", "200", "401"]);
        writeFileSync(`${clients}.new`, ca());
        renameSync(`${clients}.new`, clients);
        await gateway.waitForLog((entry) => String(entry.message).startsWith("another certificate is served"));
        assert.equal(await ask(goes), "closed", "it was let in by the authority that is gone");
        assert.deepEqual([await ask(stays), await ask(plain)], ["200", "401"], "the others stay");
        for (const socket of [stays, plain]) socket.destroy();
    });
});

describe("who speaks something else", { concurrency: 2 }, () => {
    const request = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n";

    test("HTTP in the clear is told so, also when it drips or goes on and on", async (t) => {
        const gateway = await started(t);
        for (const bytes of ["G", request, request + "x".repeat(300_000)]) {
            const raw = new Raw(gateway.port);
            raw.socket.write(bytes);
            await until(() => raw.bytes.toString().includes("https://"), "an answer");
            assert.match(raw.bytes.toString(), /^HTTP\/1\.1 400 Bad Request\r\n[^]*Connection: close/);
            raw.socket.end();
            await within(raw.closed, "the connection is closed");
        }
        assert.ok(!gateway.tail().includes("authenticate"), "no request was looked at");
    });

    test("garbage is closed, and does not fill the log", async (t) => {
        const gateway = await started(t, { args: ["--log", "info"] });
        const before = gateway.log.items.length;
        const began = performance.now();
        for (let i = 0; i < 200; i++) {
            const raw = new Raw(gateway.port);
            raw.socket.write(Buffer.from([0x16, 3, 1, 0, 5, i, 1, 2, 3, 4]));
            raw.socket.end();
            await within(raw.closed, "garbage is closed");
        }
        for (let i = 0; i < 200; i++) {
            const raw = new Raw(gateway.port); /* and says nothing */
            await once(raw.socket, "connect");
            raw.end();
        }
        const seconds = (performance.now() - began) / 1000;
        await until(() => failures(gateway).reduce((sum, { connections }) => sum + Number(connections), 0) === 200, "all");
        const lines = gateway.log.items.slice(before).filter((entry) => entry.module === "tls" || "connections" in entry);
        assert.ok(lines.length <= 2 * (seconds + 2), `${lines.length} lines in ${seconds} s`);
        (await letsIn(gateway)).destroy();
    });
});

describe("slow and many", { concurrency: 2 }, () => {
    test("a handshake has header_timeout, however it drips, and holds nobody else up", { timeout: 60_000 }, async (t) => {
        const gateway = await started(t, { server: { limits: { header_timeout: "1s" } } });
        const bytes = await hello();
        const began = performance.now();
        const slow = Array.from({ length: 30 }, () => new Raw(gateway.port));
        const timers = slow.map((raw, i) => {
            let sent = 0;
            return setInterval(() => {
                if (i % 3 !== 0 && !raw.socket.destroyed) raw.socket.write(bytes.subarray(sent, ++sent));
                if (i % 3 === 2) sent += 20;
            }, 50);
        });
        t.after(() => timers.forEach((timer) => clearInterval(timer)));
        for (let i = 0; i < 10; i++) assert.equal((await send(gateway, { method: "GET", path: "/health" })).status, 200);
        await Promise.all(slow.map((raw) => within(raw.closed, "a slow one is closed")));
        const took = performance.now() - began;
        assert.ok(took >= 900, `${took} ms`);
        await until(() => failures(gateway).reduce((sum, { connections }) => sum + Number(connections), 0) === 30, "all");
        for (const raw of slow) assert.ok(!raw.bytes.toString("latin1").includes("HTTP"));
    });

    test("a crowd gets in, and those inside are served meanwhile", { timeout: 60_000 }, async (t) => {
        const gateway = await started(t);
        await served(gateway, "it__echo");
        const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: ca() });
        t.after(() => agent.destroy());
        const one = () =>
            new Promise<number>((resolve, reject) => {
                const asked = https.get({ host: "127.0.0.1", port: gateway.port, path: "/health", agent }, (answer) => {
                    answer.resume();
                    answer.on("end", () => resolve(answer.statusCode!));
                });
                asked.on("error", reject);
            });
        assert.equal(await one(), 200);
        const crowd = Array.from({ length: 300 }, () => letsIn(gateway));
        let isOver = false;
        const all = Promise.all(crowd).finally(() => (isOver = true));
        let answered = 0;
        while (!isOver) {
            assert.equal(await within(one(), "an answer beside the crowd"), 200);
            answered++;
        }
        for (const socket of await all) socket.destroy();
        assert.ok(answered > 2, `${answered} answers`);
    });
});

describe("what travels", { concurrency: 2 }, () => {
    test("a large answer to a client that reads late", { timeout: 60_000 }, async (t) => {
        const gateway = await started(t, { server: { max_request_body: "8 MiB" } });
        await served(gateway, "it__echo");
        const session = await openSession(gateway);
        const long = "0123456789abcdef".repeat(400_000);
        const body = JSON.stringify({
            jsonrpc: "2.0",
            id: 7,
            method: "tools/call",
            params: { name: "it__echo", arguments: { text: long } },
        });
        const asked = https.request({
            ...options(gateway),
            method: "POST",
            path: "/mcp",
            agent: false,
            headers: {
                Authorization: `Bearer ${gateway.token}`,
                "Content-Type": "application/json",
                Accept: "application/json, text/event-stream",
                "Content-Length": Buffer.byteLength(body),
                ...session.headers,
            },
        });
        asked.end(body);
        const [answer] = (await within(once(asked, "response"), "the head")) as [import("node:http").IncomingMessage];
        /* Nothing is read while others are served. */
        for (let i = 0; i < 20; i++) assert.ok((await session.call("it__echo", { i })).result);
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        await within(once(answer, "end"), "the end");
        const whole = Buffer.concat(chunks).toString();
        assert.ok(whole.includes(long), `${whole.length} bytes came`);
    });

    test("events: progress before an answer, a stream that stays open, comments", { timeout: 60_000 }, async (t) => {
        const gateway = await started(t, { server: { limits: { keepalive: "1s" } } });
        await served(gateway, "it__progress");
        const session = await openSession(gateway);
        const listening = await session.stream();
        const answer = await session.send({
            body: {
                jsonrpc: "2.0",
                id: 1,
                method: "tools/call",
                params: { name: "it__progress", arguments: { steps: 5 }, _meta: { progressToken: "p" } },
            },
        });
        assert.equal(answer.messages.filter((message) => message.method === "notifications/progress").length, 5);
        assert.equal(answer.messages.at(-1)!.id, 1);
        await until(() => listening.comments.length > 1, "comments on the open stream");
        listening.close();
    });
});

describe("the end, and changes", { concurrency: 2 }, () => {
    test("half a handshake does not hold the drain up; a call that runs is answered", { timeout: 60_000 }, async (t) => {
        const gateway = await started(t, { server: { limits: { header_timeout: "60s" }, shutdown_timeout: "40s" }, name: "drains" });
        await served(gateway, "it__hold");
        const fixture = await control.started("drains");
        const session = await openSession(gateway);
        const call = session.call("it__hold");
        await fixture.events.waitFor((event) => event.event === "held");
        const bytes = await hello();
        const halves = [0, 1, 5, 100].map((length) => {
            const raw = new Raw(gateway.port);
            if (length !== 0) raw.socket.write(bytes.subarray(0, length));
            return raw;
        });
        assert.equal((await send(gateway, { method: "GET", path: "/health" })).status, 200); /* they are in */
        const began = performance.now();
        gateway.process.kill("SIGTERM");
        for (const raw of halves) await within(raw.closed, "half a handshake is closed");
        fixture.do({ do: "release" });
        assert.ok((await within(call, "the answer of the call that ran")).result);
        await within(gateway.exited, "the gateway ends");
        assert.ok(performance.now() - began < 20_000);
    });

    test("another certificate is for connections that come; the open ones go on", { timeout: 60_000 }, async (t) => {
        const here = files(own);
        const gateway = await started(t, { tls: { ...here } });
        const old = await letsIn(gateway);
        const serial = old.getPeerCertificate().serialNumber;
        const next = authority.sign("DNS:localhost,IP:127.0.0.1");
        writeFileSync(`${here.key}.new`, next.key, { mode: 0o600 });
        writeFileSync(`${here.certificate}.new`, next.cert);
        renameSync(`${here.key}.new`, here.key);
        renameSync(`${here.certificate}.new`, here.certificate);
        await until(async () => {
            const socket = await letsIn(gateway);
            const now = socket.getPeerCertificate().serialNumber;
            socket.destroy();
            return now !== serial;
        }, "the new certificate is served");
        for (let i = 0; i < 4; i++) {
            /* on every worker, a moment later at the most */
            await until(async () => {
                const socket = await letsIn(gateway);
                const now = socket.getPeerCertificate().serialNumber;
                socket.destroy();
                return now !== serial;
            }, "the new certificate is served");
        }
        const answered = once(old, "data");
        old.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        const [bytes] = (await within(answered, "the old connection goes on")) as [Buffer];
        assert.match(bytes.toString(), /^HTTP\/1\.1 200/);
        assert.equal(old.getPeerCertificate().serialNumber, serial);
        old.destroy();
    });
});

describe("the listener for health checks", { concurrency: 2 }, () => {
    for (const isTls of [true, false]) {
        test(`has the health paths and no others${isTls ? ", over TLS" : ""}; the main one has them no more`, async (t) => {
            const server: { [key: string]: Value } = { health: { listen: "127.0.0.1:0", path: "/live" } };
            if (isTls) server.tls = files(own);
            const gateway = await startGateway({ config: { server, servers: { it: { cmd: ["true"] } } } }, t);
            gateway.tls = isTls ? { ca: ca() } : undefined;
            const entry = await gateway.waitForLog((item) => item.health_address !== undefined);
            const port = Number(String(entry.health_address).split(":")[1]);
            const health = { port, token: gateway.token, tls: gateway.tls };
            const get = (target: typeof health, path: string) => send(target, { method: "GET", path });
            assert.equal((await get(health, "/live")).status, 200);
            assert.equal((await get(health, "/ready")).status, 200);
            for (const path of ["/health", "/mcp", "/mcp/it", "/", "/metrics", "/.well-known/oauth-protected-resource"])
                assert.equal((await get(health, path)).status, 404, path);
            assert.equal((await send(health, { body: { jsonrpc: "2.0", id: 1, method: "ping" } })).status, 404);
            const preflight = { Origin: "https://a.test", "Access-Control-Request-Method": "POST" };
            assert.equal((await send(health, { method: "OPTIONS", headers: preflight })).status, 404);
            const main = { ...health, port: gateway.port };
            assert.equal((await get(main, "/live")).status, 404);
            assert.equal((await get(main, "/ready")).status, 404);
            if (!isTls) return;
            const raw = new Raw(port);
            raw.socket.end("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
            await within(raw.closed, "closed");
            assert.match(raw.bytes.toString(), /^HTTP\/1\.1 400/);
        });
    }

    test("an address that is taken ends the start, and is named", async (t) => {
        const server = net.createServer();
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
        t.after(() => server.close());
        const listen = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
        const gateway = launchGateway({ config: { server: { health: { listen } }, servers: { it: { cmd: ["true"] } } } });
        t.after(() => gateway.abandon());
        const { code } = await within(gateway.exited, "the gateway ends");
        assert.equal(code, 1);
        assert.match(gateway.tail(), new RegExp(`cannot listen on ${listen}: Address already in use`));
    });
});
