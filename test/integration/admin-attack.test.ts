/* The API of the console, attacked: bytes that no client library sends, bodies without end, clients without haste. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { TLSSocket } from "node:tls";

import { COOKIE, PASSWORD, startAdmin, type Admin, type Browser } from "./lib/admin.ts";
import { within } from "./lib/wait.ts";

let admin: Admin;
let root: Browser;

before(async () => {
    admin = await startAdmin({ users: [{ name: "root", roles: ["administrator"] }, { name: "vic", roles: ["viewer"] }] });
    root = await admin.login("root");
});
after(async () => {
    admin.close();
    await admin.gateway.stop();
});

const head = (line: string, ...fields: string[]): string =>
    [line, `Host: ${admin.host}`, ...fields, "", ""].join("\r\n");
const own = (): string => `Cookie: ${COOKIE}=${root.cookie}`;
const statuses = (text: string): number[] => [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]));

describe("smuggling", () => {
    const inner = "GET /api/v1/users HTTP/1.1\r\nHost: x\r\n\r\n";
    const cases: { name: string; bytes: () => string }[] = [
        { name: "two lengths", bytes: () => head("POST /api/v1/login HTTP/1.1", "Content-Length: 0",
            `Content-Length: ${inner.length}`) + inner },
        { name: "length and chunks", bytes: () => head("POST /api/v1/login HTTP/1.1", "Content-Length: 4",
            "Transfer-Encoding: chunked") + `0\r\n\r\n${inner}` },
        { name: "another coding", bytes: () => head("POST /api/v1/login HTTP/1.1", "Transfer-Encoding: chunked, identity")
            + `0\r\n\r\n${inner}` },
        { name: "a space before the colon", bytes: () => head("POST /api/v1/login HTTP/1.1", "Content-Length : 5") + inner },
        { name: "a bare LF", bytes: () => `GET /api/v1/users HTTP/1.1\nHost: ${admin.host}\n\n` },
        { name: "two hosts", bytes: () => head("GET /api/v1/users HTTP/1.1", "Host: evil.example") },
        { name: "no host", bytes: () => "GET /api/v1/users HTTP/1.1\r\n\r\n" },
        { name: "folded", bytes: () => head("GET /api/v1/users HTTP/1.1", "X-A: b\r\n c") },
        { name: "HTTP/2", bytes: () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" },
    ];
    for (const { name, bytes } of cases) {
        test(name, async () => {
            const answers = statuses(await admin.talk(bytes()));
            assert.equal(answers.length, 1, name);
            assert.ok([400, 501, 505].includes(answers[0]!), `${name}: ${answers[0]}`);
        });
    }

    test("a body where there is none is not a request", async () => {
        const text = await admin.talk(head("GET /api/v1/users HTTP/1.1", own(), `Content-Length: ${inner.length}`) + inner);
        assert.deepEqual(statuses(text), [400]);
    });

    test("the body of somebody whom nobody knows is not read", async () => {
        const body = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
        const text = await admin.talk(head("POST /api/v1/users HTTP/1.1", "Content-Type: application/json",
            `Content-Length: ${body.length}`) + body);
        assert.deepEqual(statuses(text), [401]);
    });

    test("pipelined requests are answered one by one, each as who it is", async () => {
        const text = await admin.talk(head("GET /api/v1/session HTTP/1.1", own()) +
            head("GET /api/v1/session HTTP/1.1") + head("GET /api/v1/session HTTP/1.1", own(), "Connection: close"));
        assert.deepEqual(statuses(text), [200, 401, 200]);
    });
});

describe("paths", () => {
    for (const path of [
        "/api/v1//users", "//api/v1/users", "/api/v1/users/", "/api/v1/./users", "/api/v1/openapi.json/../users",
        "/api/v1/%75sers", "/api/v1/users;x", "/api/v1/users%2f", "/api/v1/openapi.json%2f..%2fusers", "/API/v1/users",
        "/api/v1/users/%2e%2e", "/api/v1/users/..%2froles", "/api/v1/users/a%5cb", "/api/v1/users/%ff", "/", "/etc/passwd",
    ]) {
        test(path, async () => {
            const text = await admin.talk(head(`GET ${path} HTTP/1.1`, own(), "Connection: close"));
            assert.ok([400, 404].includes(statuses(text)[0]!), text);
        });
    }

    test("the absolute form for another host", async () => {
        const text = await admin.talk(head("GET https://evil.example/api/v1/users HTTP/1.1", own(), "Connection: close"));
        assert.ok([400, 421].includes(statuses(text)[0]!), text);
    });

    test("the method is the one of the line", async () => {
        const { json } = await root.ask("POST", "/api/v1/users", { body: { name: "stays" } });
        const overriding = { "x-http-method-override": "DELETE", "x-method-override": "DELETE", "if-match": "*" };
        await root.ask("GET", `/api/v1/users/${json.id}`, { headers: overriding });
        await root.ask("PATCH", `/api/v1/users/${json.id}`, { body: {}, headers: overriding });
        assert.equal((await root.ask("GET", `/api/v1/users/${json.id}?_method=DELETE`)).status, 400);
        assert.equal((await root.get(`/api/v1/users/${json.id}`)).status, 200);
    });
});

describe("what is too much", () => {
    test("a body of more than a mebibyte, said and not said", async () => {
        const type = "Content-Type: application/json";
        const more = [own(), `X-CSRF-Token: ${root.csrf}`, type];
        const said = await admin.talk(head("POST /api/v1/users HTTP/1.1", ...more, `Content-Length: ${2 << 20}`));
        assert.deepEqual(statuses(said), [413]);
        const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
        const unsaid = await admin.talk(head("POST /api/v1/users HTTP/1.1", ...more, "Transfer-Encoding: chunked")
            + chunk.repeat(17));
        assert.deepEqual(statuses(unsaid), [413]);
        const login = await admin.talk(head("POST /api/v1/login HTTP/1.1", type, `Content-Length: ${17 << 10}`));
        assert.deepEqual(statuses(login), [413]);
    });

    test("a head", async () => {
        const text = await admin.talk(head("GET /api/v1/users HTTP/1.1", `X-Long: ${"x".repeat(20000)}`));
        assert.deepEqual(statuses(text), [431]);
    });

    test("deep, wide and doubled JSON", async () => {
        const ask = (raw: string) => root.ask("POST", "/api/v1/users", { raw });
        for (const raw of [
            "[".repeat(1000), `${"[".repeat(40)}${"]".repeat(40)}`, '{"name":"a","name":"b"}', '{"name":"a"} x', "{", "",
            '{"name":"\\ud800"}', `{${Array.from({ length: 2000 }, (_, i) => `"k${i}":1`).join(",")}}`,
            '{"n\\u0061me":"a","name":"b"}',
        ]) {
            const answer = await ask(raw);
            assert.ok([400, 415].includes(answer.status), `${raw.slice(0, 40)}: ${answer.status} ${answer.text}`);
        }
    });

    test("members that nobody asked for", async () => {
        for (const body of [{ name: "x", id: "y" }, { name: "x", is_system: true }, { name: "x", "__proto__": {} , version: 1 }]) {
            const answer = await root.ask("POST", "/api/v1/users", { body });
            assert.equal(answer.status, 422, answer.text);
        }
    });

    test("connections of one address, and they are let go", async () => {
        const sockets: TLSSocket[] = [];
        let refused = 0;
        for (let i = 0; i < 80; i++) {
            try {
                sockets.push(await admin.raw());
            } catch {
                refused++;
            }
        }
        assert.ok(refused >= 80 - 64, `${refused} were refused`);
        const closed = sockets.map((socket) => new Promise((resolve) => socket.once("close", resolve)));
        for (const socket of sockets) socket.on("error", () => undefined).end();
        await within(Promise.all(closed), "they are closed");
        assert.equal((await root.get("/api/v1/session")).status, 200);
    });
});

describe("clients without haste", () => {
    test("a head that drips is cut off", async () => {
        const socket = await admin.raw();
        let text = "";
        socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk)).on("error", () => undefined);
        const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
        socket.write("GET /api/v1/session HTTP/1.1\r\nX-A: ");
        const dripping = setInterval(() => socket.write("a"), 500);
        try {
            await within(ended, "the connection is closed", 30_000);
        } finally {
            clearInterval(dripping);
        }
        assert.deepEqual(statuses(text), [408]);
    });

    test("who speaks in the clear is told so", async () => {
        const { connect } = await import("node:net");
        const socket = connect(admin.port, "127.0.0.1");
        let text = "";
        const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
        socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        await within(ended, "the connection is closed");
        assert.match(text, /^HTTP\/1\.1 400 [\s\S]*HTTPS/);
    });
});

describe("guessing", () => {
    test("a name that there is not takes as long as one that there is", async () => {
        const time = async (name: string): Promise<number> => {
            const began = performance.now();
            const body = JSON.stringify({ name, password: "wrong wrong wrong" });
            await admin.ask("POST", "/api/v1/login", { "content-type": "application/json" }, body);
            return performance.now() - began;
        };
        const known: number[] = [], unknown: number[] = [];
        for (let i = 0; i < 3; i++) {
            known.push(await time("vic"));
            unknown.push(await time(`no-such-${i}`));
        }
        const [a, b] = [Math.min(...known), Math.min(...unknown)];
        assert.ok(a > 5 && b > 5 && a / b < 2 && b / a < 2, `${a} ms and ${b} ms`);
    });

    test("has to wait after some failures, and does not lock the session that is open", async () => {
        const vic = await admin.login("vic");
        let answer = await admin.ask("POST", "/api/v1/login", { "content-type": "application/json" },
            JSON.stringify({ name: "vic", password: "wrong wrong wrong" }));
        for (let i = 0; i < 12 && answer.status === 401; i++) {
            answer = await admin.ask("POST", "/api/v1/login", { "content-type": "application/json" },
                JSON.stringify({ name: "vic", password: `wrong wrong wrong ${i}` }));
        }
        assert.equal(answer.status, 429, answer.text);
        assert.ok(Number(answer.headers["retry-after"]) >= 1);
        const right = await admin.ask("POST", "/api/v1/login", { "content-type": "application/json" },
            JSON.stringify({ name: "vic", password: PASSWORD }));
        assert.equal(right.status, 429);
        assert.equal((await vic.get("/api/v1/session")).status, 200);
    });

    test("many logins at once: some are told to come again, and the rest of the API answers", async () => {
        const tries = Array.from({ length: 30 }, (_, i) =>
            admin.ask("POST", "/api/v1/login", { "content-type": "application/json" },
                JSON.stringify({ name: `crowd-${i}`, password: "wrong wrong wrong" })));
        assert.equal((await root.get("/api/v1/session")).status, 200);
        for (const answer of await Promise.all(tries)) {
            assert.ok([401, 429, 503].includes(answer.status), String(answer.status));
        }
    });
});
