/*
 * The PROXY protocol, version 2: whose header is believed, and what is then known of the client. What a header may look
 * like is in test/unit/http/test_proxy_protocol.c.
 *
 * The trusted proxy of these tests is 127.0.0.2; everybody else comes from 127.0.0.1. Whose address a request has is
 * read in the log, where refusals name it.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import tls from "node:tls";

import { startGateway, type Gateway, type LogEntry, type Value } from "./lib/gateway.ts";
import { parseResponses } from "./lib/http.ts";
import { Raw } from "./lib/raw.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { Authority } from "./lib/tls.ts";
import { until, within } from "./lib/wait.ts";

const PROXY = "127.0.0.2";
const STRANGER = "127.0.0.1";
const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");

/** An address in network order. */
function address(source: string): Buffer {
    if (net.isIPv4(source)) return Buffer.from(source.split(".").map(Number));
    const [head, tail] = source.split("::").map((part) => part.split(":").filter((group) => group !== ""));
    const groups = [...head!, ...Array<string>(8 - head!.length - tail!.length).fill("0"), ...tail!];
    return Buffer.from(groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff]));
}

/** A header of version 2 that says that the connection is of `source`; undefined: of the proxy itself. */
function header(source: string | undefined, more: Buffer = Buffer.alloc(0)): Buffer {
    const from = source === undefined ? Buffer.alloc(0) : address(source);
    const body =
        source === undefined ? more : Buffer.concat([from, Buffer.alloc(from.length, 1), Buffer.from([4, 1, 1, 187]), more]);
    const family = source === undefined ? 0 : net.isIPv4(source) ? 0x11 : 0x21;
    const head = Buffer.from([source === undefined ? 0x20 : 0x21, family, body.length >> 8, body.length & 0xff]);
    return Buffer.concat([SIGNATURE, head, body]);
}

/** Refused for want of a token: the log then names the client. */
const request = (fields = "") => `GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${fields}\r\n`;
const HEALTH = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

async function started(t: TestContext, server: { [key: string]: Value } = {}): Promise<Gateway> {
    const own = { proxy_protocol: true, trusted_proxies: [PROXY], ...server };
    return startGateway({ config: { server: own, servers: { it: { cmd: ["true"] } } } }, t);
}

const refusals = (gateway: Gateway): LogEntry[] => gateway.log.items.filter((entry) => entry.status === 401);

/** The client's address to the gateway, of a request on such a connection. */
async function client(gateway: Gateway, from: string, bytes: (Buffer | string)[], fields = ""): Promise<string> {
    const before = refusals(gateway).length;
    const raw = new Raw(gateway.port, from);
    for (const part of [...bytes, request(fields)]) {
        raw.socket.write(part);
        await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => raw.bytes.length > 0 || raw.socket.destroyed, "an answer");
    const status = parseResponses(raw.bytes)[0]?.status;
    raw.end();
    assert.equal(status, 401, `it was answered with ${status}`);
    await until(() => refusals(gateway).length > before, "the log tells");
    return String(refusals(gateway).at(-1)!.client);
}

/** Closed, and not a word said. */
async function isClosed(raw: Raw): Promise<void> {
    await within(raw.closed, "the gateway closes");
    assert.equal(raw.bytes.toString("latin1"), "");
}

const COMPLAINT = /did not begin with a PROXY header/;

describe("of a trusted proxy", { concurrency: 2 }, () => {
    test("the header says whose the connection is", async (t) => {
        const gateway = await started(t);
        assert.equal(await client(gateway, PROXY, [header("203.0.113.9")]), "203.0.113.9");
        assert.equal(await client(gateway, PROXY, [header("2001:db8::7")]), "2001:db8::7");
        assert.equal(await client(gateway, PROXY, [header("::ffff:cb00:7109")]), "203.0.113.9");
        const tlv = Buffer.from([4, 0, 4, 0, 0, 0, 0, 5, 0, 2, 65, 66]);
        assert.equal(await client(gateway, PROXY, [header("203.0.113.9", tlv)]), "203.0.113.9");
    });

    test("LOCAL, and families without addresses: the connection is the proxy's own", async (t) => {
        const gateway = await started(t);
        assert.equal(await client(gateway, PROXY, [header(undefined)]), PROXY);
        const unix = Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x31, 0, 216]), Buffer.alloc(216, 65)]);
        assert.equal(await client(gateway, PROXY, [unix]), PROXY);
        assert.equal(await client(gateway, PROXY, [Buffer.concat([SIGNATURE, Buffer.from([0x21, 0, 0, 0])])]), PROXY);
    });

    test("it may come in pieces, or together with the request, or with two", async (t) => {
        const gateway = await started(t);
        const bytes = header("203.0.113.9");
        assert.equal(await client(gateway, PROXY, [...bytes].map((byte) => Buffer.from([byte]))), "203.0.113.9");
        for (let cut = 1; cut < bytes.length; cut += 5) {
            const parts = [bytes.subarray(0, cut), bytes.subarray(cut)];
            assert.equal(await client(gateway, PROXY, parts), "203.0.113.9");
        }
        const raw = new Raw(gateway.port, PROXY);
        raw.socket.write(Buffer.concat([bytes, Buffer.from(HEALTH + HEALTH + request())]));
        await until(() => parseResponses(raw.bytes).length === 3, "three answers");
        assert.deepEqual(
            parseResponses(raw.bytes).map(({ status }) => status),
            [200, 200, 401],
        );
        raw.end();
    });

    test("without it, or with another one, the connection is closed, and the log says so now and then", async (t) => {
        const gateway = await started(t);
        const complaints = () => gateway.log.items.filter((entry) => COMPLAINT.test(String(entry.message)));
        const bytes = header("203.0.113.9");
        const changed = (at: number, byte: number) => {
            const copy = Buffer.from(bytes);
            copy[at] = byte;
            return copy;
        };
        const bad = [
            Buffer.from(HEALTH),
            Buffer.from("PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n" + HEALTH),
            changed(12, 0x11),
            changed(12, 0x22),
            changed(13, 0x12),
            changed(15, 11),
            Buffer.concat([SIGNATURE, Buffer.from([0x21, 0x11, 0xff, 0xff])]),
            Buffer.from([0x16, 3, 1, 2, 0, 1]),
        ];
        for (let round = 0; round < 5; round++) {
            for (const one of bad) {
                const raw = new Raw(gateway.port, PROXY);
                raw.socket.write(one);
                await isClosed(raw);
            }
        }
        const sum = () => complaints().reduce((total, { connections }) => total + Number(connections), 0);
        await until(() => sum() === 5 * bad.length, "all are counted");
        assert.ok(complaints().length < bad.length, `${complaints().length} lines`);
        assert.equal(refusals(gateway).length, 0);
    });

    test("it has header_timeout", async (t) => {
        const gateway = await started(t, { limits: { header_timeout: "500ms" } });
        const silent = new Raw(gateway.port, PROXY);
        const half = new Raw(gateway.port, PROXY);
        half.socket.write(header("203.0.113.9").subarray(0, 20));
        await isClosed(silent);
        await isClosed(half);
        assert.equal(await client(gateway, STRANGER, []), STRANGER);
    });

    test("a second one is no request", async (t) => {
        const gateway = await started(t);
        const raw = new Raw(gateway.port, PROXY);
        raw.socket.write(Buffer.concat([header("203.0.113.9"), header("127.0.0.1"), Buffer.from(HEALTH)]));
        assert.equal((await raw.answers())[0]?.status, 400);
    });
});

describe("of others", { concurrency: 2 }, () => {
    test("strangers are served without, and what they write of themselves is no header", async (t) => {
        const gateway = await started(t);
        assert.equal(await client(gateway, STRANGER, []), STRANGER);
        const raw = new Raw(gateway.port, STRANGER);
        raw.socket.write(Buffer.concat([header("127.0.0.2"), Buffer.from(HEALTH)]));
        assert.equal((await raw.answers())[0]?.status, 400);
        const text = new Raw(gateway.port, STRANGER);
        text.socket.write("PROXY TCP4 127.0.0.2 10.0.0.1 1 2\r\n" + HEALTH);
        assert.equal((await text.answers())[0]?.status, 400);
    });

    test("where it is not switched on nobody has one", async (t) => {
        const gateway = await started(t, { proxy_protocol: false });
        assert.equal(await client(gateway, PROXY, []), PROXY);
        const raw = new Raw(gateway.port, PROXY);
        raw.socket.write(Buffer.concat([header("203.0.113.9"), Buffer.from(HEALTH)]));
        assert.equal((await raw.answers())[0]?.status, 400);
    });

    test("header fields count of a trusted proxy that speaks HTTP, not of the clients behind a balancer", async (t) => {
        const gateway = await started(t, {
            client_ip: { x_forwarded_for: true },
            trusted_proxies: [PROXY, "203.0.113.50"],
        });
        const spoofed = "X-Forwarded-For: 127.0.0.1\r\n";
        assert.equal(await client(gateway, PROXY, [header("198.51.100.1")], spoofed), "198.51.100.1");
        assert.equal(await client(gateway, STRANGER, [], spoofed.replace("127.0.0.1", "192.0.2.1")), STRANGER);
        const told = "X-Forwarded-For: 192.0.2.77\r\n";
        assert.equal(await client(gateway, PROXY, [header("203.0.113.50")], told), "192.0.2.77");
    });

    test("the local token is for this machine: not for those whom a balancer brings", async (t) => {
        const gateway = await started(t);
        const token = `Authorization: Bearer ${gateway.token}\r\n`;
        assert.equal(await client(gateway, PROXY, [header("203.0.113.9")], token), "203.0.113.9");
    });
});

describe("who counts", { concurrency: 2 }, () => {
    test("connections are the source's: each has its own share, and gives it back", async (t) => {
        const gateway = await started(t, { limits: { max_connections_per_address: 2 } });
        const open = async (source: string) => {
            const raw = new Raw(gateway.port, PROXY);
            raw.socket.write(Buffer.concat([header(source), Buffer.from(HEALTH)]));
            await until(() => raw.bytes.length > 0 || raw.socket.destroyed, "an answer, or the end");
            return raw;
        };
        const first = [await open("203.0.113.1"), await open("203.0.113.1")];
        for (const raw of first) assert.equal(parseResponses(raw.bytes)[0]?.status, 200);
        await isClosed(await open("203.0.113.1"));
        const other = await open("203.0.113.2");
        assert.equal(parseResponses(other.bytes)[0]?.status, 200);
        first[0]!.end();
        await until(async () => {
            const again = await open("203.0.113.1");
            first.push(again);
            return again.bytes.length > 0;
        }, "there is room again");
        for (const raw of [...first, other]) raw.end();
        /* Nothing is left of them: the balancer itself is not counted, and neither is anybody twice. */
        for (let i = 0; i < 20; i++) {
            await until(async () => {
                const raw = await open("203.0.113.3");
                raw.end();
                return raw.bytes.length > 0;
            }, "each finds room");
        }
    });
});

describe("with TLS behind it", { concurrency: 2 }, () => {
    let folder: string;
    let ca: string;
    let files: { certificate: string; key: string };
    before(() => {
        folder = temporaryFolder();
        const authority = new Authority();
        const own = authority.sign("DNS:localhost,IP:127.0.0.1");
        files = { certificate: join(folder, "own.pem"), key: join(folder, "own.key") };
        writeFileSync(files.certificate, own.cert);
        writeFileSync(files.key, own.key, { mode: 0o600 });
        ca = readFileSync(authority.file, "utf8");
    });
    after(() => removeFolder(folder));

    for (const how of ["before it", "with it in one segment", "byte by byte"]) {
        test(`the header comes ${how}`, async (t) => {
            const gateway = await started(t, { tls: files });
            const socket = net.connect({ host: "127.0.0.1", port: gateway.port, localAddress: PROXY });
            await once(socket, "connect");
            const bytes = header("203.0.113.9");
            if (how === "with it in one segment") socket.cork();
            if (how === "byte by byte") for (const byte of bytes) socket.write(Buffer.from([byte]));
            else socket.write(bytes);
            const secure = tls.connect({ socket, ca, servername: "localhost" });
            if (how === "with it in one segment") setImmediate(() => socket.uncork());
            await within(once(secure, "secureConnect"), "the handshake");
            let got = "";
            secure.on("data", (chunk: Buffer) => (got += chunk.toString()));
            secure.write(request());
            await until(() => got.includes("401"), "an answer");
            await until(() => refusals(gateway).length > 0, "the log tells");
            assert.equal(refusals(gateway)[0]!.client, "203.0.113.9");
            secure.destroy();
        });
    }

    test("neither stands in for the other", async (t) => {
        const gateway = await started(t, { tls: files, health: { listen: "127.0.0.1:0" } });
        const bare = new Raw(gateway.port, PROXY);
        bare.socket.write(Buffer.from([0x16, 3, 1, 2, 0, 1]));
        await isClosed(bare);
        const clear = new Raw(gateway.port, PROXY);
        clear.socket.write(Buffer.concat([header("203.0.113.9"), Buffer.from(HEALTH)]));
        await until(() => clear.bytes.toString().includes("https://"), "it is told that TLS is spoken here");
        clear.end();
        const stranger = new Raw(gateway.port, STRANGER);
        stranger.socket.write(header("203.0.113.9"));
        stranger.socket.end();
        await within(stranger.closed, "closed");
        assert.ok(!stranger.bytes.toString("latin1").includes("HTTP"));
        /* Health checks are the balancer's own: without a header. */
        const entry = await gateway.waitForLog((item) => item.health_address !== undefined);
        const port = Number(String(entry.health_address).split(":")[1]);
        const socket = tls.connect({ host: "127.0.0.1", port, localAddress: PROXY, ca } as tls.ConnectionOptions);
        await within(once(socket, "secureConnect"), "the handshake");
        socket.write(HEALTH);
        const [answer] = (await within(once(socket, "data"), "an answer")) as [Buffer];
        assert.match(answer.toString(), /^HTTP\/1\.1 200/);
        socket.destroy();
    });
});
