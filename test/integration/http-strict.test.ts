/* The gate on the level of bytes: names, origins, tokens, framing. STYLE.md, "Strict HTTP/1.1"; RFC 9112. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { startControl, type Control, type FixtureProcess } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import {
    exchange,
    initialize,
    openSession,
    parseResponses,
    send,
    served,
    serving,
    text,
    type Session,
} from "./lib/http.ts";

describe("http", () => {
    let control: Control;
    let gateway: Gateway;
    let session: Session;
    let server: FixtureProcess;
    before(async () => {
        control = await startControl();
        gateway = await startGateway({
            config: {
                server: { hosts: ["gate.example.com"] },
                servers: { one: { cmd: control.command({ name: "one" }) } },
            },
        });
        await served(gateway, "one__echo");
        session = await openSession(gateway, "/mcp/one");
        server = await serving(control, session);
    });
    after(async () => {
        await gateway?.stop();
        await control.close();
    });

    const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
    const post = (headers: Record<string, string | undefined>, token?: string | false) =>
        send(gateway, { path: "/mcp/one", headers: { ...session.headers, ...headers }, body: ping, token });

    test("Host: ours and no other", async () => {
        const { port } = gateway;
        for (const host of [
            `127.0.0.1:${port}`,
            `localhost:${port}`,
            `LOCALHOST:${port}`,
            `[::1]:${port}`,
            "gate.example.com",
            `gate.example.com:${port}`,
        ]) {
            assert.equal((await post({ Host: host })).status, 200, host);
        }
        for (const host of [
            `evil.example.com`,
            `evil.example.com:${port}`,
            `127.0.0.1.evil.example.com:${port}`,
            `localhost.evil.example.com`,
            `xlocalhost:${port}`,
            `sub.gate.example.com`,
            `127.0.0.2:${port}`,
            `0.0.0.0:${port}`,
            `169.254.169.254`,
        ]) {
            assert.equal((await post({ Host: host })).status, 403, host);
        }
        for (const host of [
            `localhost:${port}@evil.example.com`,
            "localhost:99999",
            "localhost:x",
            "local host",
            "gate.example.com.gate.example.com.",
            "localhost/",
            "a,b",
        ]) {
            const { status } = await post({ Host: host });
            assert.ok(status === 400 || status === 403, `${JSON.stringify(host)}: ${status}`);
        }
    });

    test("Origin: none or ours; null and all others are 403", async () => {
        const { port } = gateway;
        for (const origin of [undefined, `http://127.0.0.1:${port}`, `http://localhost:${port}`]) {
            assert.equal((await post({ Origin: origin })).status, 200, String(origin));
        }
        for (const origin of [
            "null",
            "http://evil.example.com",
            `http://127.0.0.1.evil.example.com:${port}`,
            `http://localhost.evil.example.com:${port}`,
            `http://localhost:${port}@evil.example.com`,
            `http://evil.example.com:${port}`,
            "file://",
            "chrome-extension://abcdefgh",
            "",
            "*",
            `http://localhost:${port}, http://evil.example.com`,
            `http://localhost:${port}/path`,
        ]) {
            const answer = await post({ Origin: origin });
            assert.ok(
                answer.status === 403 || (answer.status === 400 && origin !== "null"),
                `${origin}: ${answer.status}`,
            );
        }
        for (const method of ["GET", "DELETE"]) {
            const answer = await send(gateway, {
                path: "/mcp/one",
                method,
                headers: { ...session.headers, Origin: "http://evil.example.com" },
            });
            assert.equal(answer.status, 403, method);
        }
        assert.equal((await post({ Origin: "null" }, false)).status === 200, false);
        assert.equal((await post({})).status, 200, "the session lives on");
    });

    test("no header lets a page of another origin read an answer", async () => {
        const answer = await post({ Origin: `http://localhost:${gateway.port}` });
        assert.notEqual(answer.headers["access-control-allow-origin"], "*");
        const preflight = await send(gateway, {
            method: "OPTIONS",
            path: "/mcp",
            token: false,
            headers: { Origin: "http://evil.example.com", "Access-Control-Request-Method": "POST" },
        });
        assert.ok(preflight.status >= 400, String(preflight.status));
        assert.equal(preflight.headers["access-control-allow-origin"], undefined);
    });

    test("the token: missing, wrong, misplaced", async () => {
        const { token } = gateway;
        const open = (headers: Record<string, string | string[]>, path = "/mcp") =>
            send(gateway, { path, token: false, headers, body: initialize("2025-11-25") });
        for (const authorization of [
            undefined,
            "",
            "Bearer",
            "Bearer ",
            `Bearer ${token}x`,
            `Bearer ${token.slice(1)}`,
            `Bearer ${token.toUpperCase()}${token.toLowerCase()}`,
            `Basic ${Buffer.from(`token:${token}`).toString("base64")}`,
            token,
            `Bearer ${token} ${token}`,
            `Bearer ${token},`,
        ]) {
            const answer = await open(authorization === undefined ? {} : { Authorization: authorization });
            assert.equal(answer.status, 401, String(authorization).replaceAll(token, "TOKEN"));
            assert.match(String(answer.headers["www-authenticate"]), /^Bearer\b/);
            assert.ok(!answer.text.includes(token));
            assert.equal(answer.headers["mcp-session-id"], undefined);
        }
        const both = await open({ Authorization: [`Bearer ${token}`, "Bearer other"] });
        assert.ok(both.status === 400 || both.status === 401, String(both.status));
        for (const path of [`/mcp?access_token=${token}`, `/mcp?token=${token}`]) {
            const { status } = await open({}, path);
            assert.ok(status === 401 || status === 400, String(status));
        }
        assert.equal(
            (await open({ Authorization: `bearer ${token}` })).status,
            200,
            "RFC 9110 11.1: the scheme has no case",
        );
        // Not even what does not exist is told to a stranger.
        for (const path of ["/mcp/one", "/mcp/nobody"]) assert.equal((await open({}, path)).status, 401, path);
    });

    test("/health and /ready: for everybody, by any name, and saying no more than that", async () => {
        for (const path of ["/health", "/ready"]) {
            for (const headers of [
                {},
                { Host: "evil.example.com" },
                { Origin: "null" },
                { Origin: "http://evil.example.com" },
            ]) {
                const answer = await send(gateway, {
                    method: "GET",
                    path,
                    token: false,
                    headers: { Accept: undefined, ...headers },
                });
                assert.equal(answer.status, 200, `${path} ${JSON.stringify(headers)}: ${answer.text}`);
                assert.ok(answer.text.length < 64, answer.text);
                assert.doesNotMatch(answer.text, /one|fixture|0\.1\.0|node/);
            }
        }
        const answer = await send(gateway, { method: "POST", path: "/health", token: false, body: "" });
        assert.ok([401, 404, 405].includes(answer.status), String(answer.status));
    });

    test("limits: 413, 414, 431", async () => {
        const authorization = `Host: localhost\r\nAuthorization: Bearer ${gateway.token}\r\n`;
        const [long] = await exchange(gateway.port, `POST /mcp?${"x".repeat(9000)} HTTP/1.1\r\n${authorization}\r\n`);
        assert.equal(long!.status, 414);
        const [fat] = await exchange(
            gateway.port,
            `POST /mcp HTTP/1.1\r\n${authorization}${`X-Fill: ${"x".repeat(1000)}\r\n`.repeat(40)}\r\n`,
        );
        assert.equal(fat!.status, 431);
        const [many] = await exchange(
            gateway.port,
            `POST /mcp HTTP/1.1\r\n${authorization}${"X: y\r\n".repeat(200)}\r\n`,
        );
        assert.equal(many!.status, 431);
        const json = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";
        const [big] = await exchange(
            gateway.port,
            `POST /mcp HTTP/1.1\r\n${authorization}${json}Content-Length: 4194305\r\n\r\n`,
        );
        assert.equal(big!.status, 413);
        const chunk = `100000\r\n${"x".repeat(0x100000)}\r\n`;
        const [chunked] = await exchange(
            gateway.port,
            `POST /mcp HTTP/1.1\r\n${authorization}${json}Transfer-Encoding: chunked\r\n\r\n${chunk.repeat(5)}0\r\n\r\n`,
        );
        assert.equal(chunked!.status, 413);
        const body = `${ping.slice(0, -1)},"params":{"fill":"${"x".repeat(4194304 - ping.length - 21)}"}}`;
        const whole = await send(gateway, { path: "/mcp/one", headers: session.headers, body });
        assert.equal(whole.status, 200, `${Buffer.byteLength(body)} bytes: ${whole.text}`);
    });

    /** A call whose text says that it should never have arrived. */
    const marked = (mark: string) =>
        JSON.stringify({
            jsonrpc: "2.0",
            id: 1,
            method: "tools/call",
            params: { name: "echo", arguments: { text: mark } },
        });
    const head = (extra = "") =>
        `Host: localhost\r\nAuthorization: Bearer ${gateway.token}\r\nMcp-Session-Id: ${session.id}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n${extra}`;
    const smuggled = (mark: string) => {
        const body = marked(mark);
        return `POST /mcp/one HTTP/1.1\r\n${head()}Content-Length: ${body.length}\r\n\r\n${body}`;
    };
    /** What each case says about the body's length, and how that body is sent; a hidden request follows it. */
    const framings: {
        name: string;
        line?: string;
        fields: (length: number) => string;
        body?: (body: string) => string;
        without?: string;
    }[] = [
        {
            name: "length and chunked",
            fields: (n) => `Content-Length: ${n}\r\nTransfer-Encoding: chunked\r\n`,
            body: () => "0\r\n\r\n",
        },
        {
            name: "chunked and length",
            fields: () => "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            body: () => "0\r\n\r\n",
        },
        { name: "two lengths", fields: (n) => `Content-Length: ${n}\r\nContent-Length: 0\r\n` },
        { name: "two equal lengths", fields: (n) => `Content-Length: ${n}\r\nContent-Length: ${n}\r\n` },
        { name: "a list of lengths", fields: (n) => `Content-Length: ${n}, ${n}\r\n` },
        { name: "a signed length", fields: (n) => `Content-Length: +${n}\r\n` },
        { name: "a negative length", fields: () => "Content-Length: -1\r\n" },
        { name: "a hexadecimal length", fields: (n) => `Content-Length: 0x${n.toString(16)}\r\n` },
        { name: "an empty length", fields: () => "Content-Length: \r\n" },
        { name: "a length with a space inside", fields: () => "Content-Length: 1 0\r\n" },
        { name: "an overflowing length", fields: () => "Content-Length: 18446744073709551617\r\n" },
        { name: "space before the colon", fields: (n) => `Content-Length : ${n}\r\n` },
        {
            name: "space before the colon of the coding",
            fields: (n) => `Transfer-Encoding : chunked\r\nContent-Length: ${n}\r\n`,
        },
        { name: "tab before the colon", fields: (n) => `Content-Length\t: ${n}\r\n` },
        { name: "folded field", fields: (n) => `X-A: b\r\n Content-Length: 0\r\nContent-Length: ${n}\r\n` },
        { name: "folded coding", fields: () => "Transfer-Encoding:\r\n chunked\r\n", body: () => "0\r\n\r\n" },
        { name: "bare LF after a field", fields: (n) => `Content-Length: ${n}\nX-A: b\r\n` },
        { name: "bare CR in a field", fields: (n) => `X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: ${n}\r\n` },
        { name: "NUL in a field", fields: (n) => `X-A: b\0c\r\nContent-Length: ${n}\r\n` },
        { name: "a control byte in a name", fields: (n) => `X\x01A: b\r\nContent-Length: ${n}\r\n` },
        { name: "a byte above ASCII", fields: (n) => `X-A: \u00ff\r\nContent-Length: ${n}\r\n` },
        { name: "a field without a name", fields: (n) => `: b\r\nContent-Length: ${n}\r\n` },
        { name: "a line without a colon", fields: (n) => `X-A\r\nContent-Length: ${n}\r\n` },
        {
            name: "chunked is not last",
            fields: () => "Transfer-Encoding: chunked, identity\r\n",
            body: () => "0\r\n\r\n",
        },
        { name: "gzip, chunked", fields: () => "Transfer-Encoding: gzip, chunked\r\n", body: () => "0\r\n\r\n" },
        {
            name: "chunked twice",
            fields: () => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            body: () => "0\r\n\r\n",
        },
        { name: "xchunked", fields: () => "Transfer-Encoding: xchunked\r\n", body: () => "0\r\n\r\n" },
        { name: "quoted chunked", fields: () => 'Transfer-Encoding: "chunked"\r\n', body: () => "0\r\n\r\n" },
        {
            name: "chunked with a vertical tab",
            fields: () => "Transfer-Encoding: \x0bchunked\r\n",
            body: () => "0\r\n\r\n",
        },
        {
            name: "a chunk size with 0x",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `0x${b.length.toString(16)}\r\n${b}\r\n0\r\n\r\n`,
        },
        {
            name: "a signed chunk size",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `+${b.length.toString(16)}\r\n${b}\r\n0\r\n\r\n`,
        },
        {
            name: "an overflowing chunk size",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `1000000000000${b.length.toString(16)}ffff\r\n${b}\r\n0\r\n\r\n`,
        },
        {
            name: "a chunk line that ends in LF",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `${b.length.toString(16)}\n${b}\r\n0\r\n\r\n`,
        },
        {
            name: "a chunk longer than it says",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `${(b.length - 2).toString(16)}\r\n${b}\r\n0\r\n\r\n`,
        },
        {
            name: "a negative chunk",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `-1\r\n${b}\r\n0\r\n\r\n`,
        },
        {
            name: "an empty chunk line",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `\r\n${b}\r\n0\r\n\r\n`,
        },
        {
            name: "framing in a trailer",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `${b.length.toString(16)}\r\n${b}\r\n0\r\nContent-Length: 5\r\n\r\n`,
        },
        {
            name: "a token in a trailer",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: (b) => `${b.length.toString(16)}\r\n${b}\r\n0\r\nAuthorization: Bearer x\r\n\r\n`,
        },
        {
            name: "chunked in HTTP/1.0",
            line: "POST /mcp/one HTTP/1.0",
            fields: () => "Transfer-Encoding: chunked\r\n",
            body: () => "0\r\n\r\n",
        },
        { name: "no Host", without: "Host: localhost\r\n", fields: (n) => `Content-Length: ${n}\r\n` },
        { name: "an empty Host", without: "Host: localhost\r\n", fields: (n) => `Host: \r\nContent-Length: ${n}\r\n` },
        { name: "two Hosts", fields: (n) => `Host: localhost\r\nContent-Length: ${n}\r\n` },
        { name: "another version", line: "POST /mcp/one HTTP/3.7", fields: (n) => `Content-Length: ${n}\r\n` },
        { name: "no version", line: "POST /mcp/one", fields: (n) => `Content-Length: ${n}\r\n` },
        { name: "a lower case version", line: "POST /mcp/one http/1.1", fields: (n) => `Content-Length: ${n}\r\n` },
        {
            name: "two spaces in the first line",
            line: "POST  /mcp/one HTTP/1.1",
            fields: (n) => `Content-Length: ${n}\r\n`,
        },
        { name: "a tab in the first line", line: "POST\t/mcp/one HTTP/1.1", fields: (n) => `Content-Length: ${n}\r\n` },
        { name: "space after the version", line: "POST /mcp/one HTTP/1.1 ", fields: (n) => `Content-Length: ${n}\r\n` },
        {
            name: "absolute form for another host",
            line: "POST http://evil.example.com/mcp/one HTTP/1.1",
            fields: (n) => `Content-Length: ${n}\r\n`,
        },
        {
            name: "a method with a bad byte",
            line: "PO(ST /mcp/one HTTP/1.1",
            fields: (n) => `Content-Length: ${n}\r\n`,
        },
        {
            name: "space before the first field",
            line: "POST /mcp/one HTTP/1.1\r\n X-A: b",
            fields: (n) => `Content-Length: ${n}\r\n`,
        },
    ];
    for (const [index, { name, line, fields, body, without }] of framings.entries()) {
        test(`framing: ${name}`, async () => {
            const mark = `smuggled-${index}`;
            const from = server.events.items.length;
            const carried = marked(mark);
            const block = head(fields(carried.length)).replace(without ?? "", "");
            const bytes = `${line ?? "POST /mcp/one HTTP/1.1"}\r\n${block}\r\n${(body ?? ((b) => b))(carried)}${smuggled(mark)}`;
            const answers = await exchange(gateway.port, Buffer.from(bytes, "latin1"));
            const statuses = answers.map((answer) => answer.status);
            const foreign = name.startsWith("absolute") || name === "an empty Host";
            const allowed = name.includes("version") ? [400, 505] : foreign ? [400, 403, 421] : [400, 501];
            assert.equal(answers.length, 1, `one answer and then the end, got ${statuses.join(" ")}`);
            assert.ok(allowed.includes(statuses[0]!), `got ${statuses[0]}`);
            assert.equal(text(await session.call("echo", { text: "barrier" })), "barrier");
            await server.sync();
            const leaked = server.events.items.slice(from).filter((event) => JSON.stringify(event).includes(mark));
            assert.deepEqual(leaked, [], "nothing of it reached the server");
        });
    }

    test("a pipeline of good requests is answered in order", async () => {
        const one = (id: number, last = false) => {
            const body = JSON.stringify({
                jsonrpc: "2.0",
                id,
                method: "tools/call",
                params: { name: "echo", arguments: { text: `n${id}` } },
            });
            return `POST /mcp/one HTTP/1.1\r\n${head(last ? "Connection: close\r\n" : "")}Content-Length: ${body.length}\r\n\r\n${body}`;
        };
        const answers = await exchange(gateway.port, one(1) + one(2) + one(3, true));
        assert.deepEqual(
            answers.map((answer) => answer.status),
            [200, 200, 200],
        );
        for (const [index, answer] of answers.entries()) assert.ok(answer.body.includes(`n${index + 1}`), answer.body);
    });

    test("a chunked body is read whole, however it is cut, with extensions and trailers that mean nothing", async () => {
        const body = marked("chunked");
        const pieces = [...body].map((byte) => `1;a=b\r\n${byte}\r\n`).join("");
        const [answer] = await exchange(
            gateway.port,
            `POST /mcp/one HTTP/1.1\r\n${head("Connection: close\r\n")}Transfer-Encoding: Chunked\r\n\r\n${pieces}0\r\nX-Sum: 1\r\n\r\n`,
        );
        assert.equal(answer!.status, 200);
        assert.ok(answer!.body.includes("chunked"));
    });

    test("absolute form for us is ours", async () => {
        const body = marked("absolute");
        const host = `127.0.0.1:${gateway.port}`;
        const [answer] = await exchange(
            gateway.port,
            `POST http://${host}/mcp/one HTTP/1.1\r\n${head("Connection: close\r\n").replace("localhost", host)}Content-Length: ${body.length}\r\n\r\n${body}`,
        );
        assert.equal(answer!.status, 200);
    });

    test("Expect: 100-continue is answered before the body", async () => {
        const body = marked("continued");
        const answers = await exchange(
            gateway.port,
            `POST /mcp/one HTTP/1.1\r\n${head("Connection: close\r\nExpect: 100-continue\r\n")}Content-Length: ${body.length}\r\n\r\n${body}`,
        );
        const statuses = answers.map((answer) => answer.status);
        assert.equal(statuses.at(-1), 200, statuses.join(" "));
        assert.ok(
            statuses.slice(0, -1).every((status) => status === 100),
            statuses.join(" "),
        );
    });

    test("the reader of answers reads what it should", () => {
        const wire =
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        const answers = parseResponses(Buffer.from(wire));
        assert.deepEqual(
            answers.map(({ status, body }) => [status, body]),
            [
                [200, "hi"],
                [404, "abc"],
            ],
        );
    });
});
