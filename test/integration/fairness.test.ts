/*
 * server.limits.max_in_flight: so many calls of one principal run at once, the others wait for their turn, unread; and
 * whoever has many waiting does not make another client wait for them.
 */
import assert from "node:assert/strict";
import net from "node:net";
import { describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, startHttp, type Exchange, type HttpFixture } from "./fixtures/http-server.ts";
import { cardea } from "./lib/cli.ts";
import { startControl, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type ServerConfig, type Value } from "./lib/gateway.ts";
import { openSession, served, text, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { until, within } from "./lib/wait.ts";

const ERAS = ["legacy", "modern"] as const;

const started = (
    t: TestContext,
    limits: { [key: string]: Value },
    servers: { [name: string]: ServerConfig },
    server: { [key: string]: Value } = {},
) => startGateway({ config: { server: { ...server, limits }, servers } }, t);

/** A server whose calls end when they are told to, in the order in which they came. */
interface Gate {
    fixture: HttpFixture;
    args: { text: string };
    inside: Exchange[];
    /** how many have come so far */
    readonly came: number;
    comes(n: number): Promise<void>;
    release(): void;
    open(): void;
}

async function gate(t: TestContext, options = modernOnly as object): Promise<Gate> {
    const fixture = await startHttp(options, t);
    const inside: Exchange[] = [];
    let came = 0;
    let isOpen = false;
    const args = fixture.act((exchange) => {
        came++;
        if (isOpen) exchange.json(exchange.answer("done"));
        else inside.push(exchange);
    });
    const release = () => {
        const exchange = inside.shift()!;
        exchange.json(exchange.answer("done"));
    };
    return {
        fixture,
        args,
        inside,
        get came() {
            return came;
        },
        comes: (n) =>
            until(
                () => came >= n,
                () => `${came} of ${n} calls have come`,
            ).then(() => {}),
        release,
        open: () => {
            isOpen = true;
            while (inside.length > 0) release();
        },
    };
}

/** So many calls wait for their turn. */
async function waiting(gateway: Gateway, n: number): Promise<void> {
    let last: number | undefined;
    await until(
        async () => {
            const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
            last = (JSON.parse(run.stdout) as { status: { waiting: number } }).status.waiting;
            return last === n;
        },
        () => `${n} calls wait, not ${last}`,
    );
}

/** A request of somebody else went there and back, several times: who was to come has come. */
async function settles(gateway: Gateway): Promise<void> {
    const session = await openSession(gateway);
    for (let i = 0; i < 20; i++) assert.deepEqual((await session.request("ping")).result, {});
    await session.end();
}

const busy = (message: RpcMessage, ...words: string[]) => {
    const said = message.error !== undefined ? message.error.message : text(message);
    if (message.error === undefined) assert.equal(message.result!.isError, true);
    else assert.equal(message.error.code, 429);
    for (const word of words) assert.ok(said.includes(word), `${word} in: ${said}`);
};

describe("as many calls as a principal may have", { concurrency: 4 }, () => {
    for (const era of ERAS) {
        test(`${era}: one past the limit waits, and is next`, async (t) => {
            const door = await gate(t, era === "legacy" ? legacyOnly() : modernOnly);
            const gateway = await started(t, { max_in_flight: 3 }, { http: { url: door.fixture.url } });
            await served(gateway, "http__echo");
            const session = await openSession(gateway, "/mcp/http");
            const modern = new ModernClient(gateway, "/mcp/http");
            const call = () => (era === "legacy" ? session.call("echo", door.args) : modern.call("echo", door.args));
            const calls = [call(), call(), call()];
            await until(() => door.came === 3, "three run");
            calls.push(call());
            await settles(gateway);
            assert.equal(door.came, 3);
            door.release();
            await until(() => door.came === 4, "the fourth runs");
            door.open();
            for (const each of calls) assert.equal(text(await each), "done");
        });

        test(`${era}: what needs no server is not held up`, async (t) => {
            const door = await gate(t);
            const gateway = await started(t, { max_in_flight: 1 }, { http: { url: door.fixture.url } });
            await served(gateway, "http__echo");
            const session = await openSession(gateway);
            const modern = new ModernClient(gateway);
            const calls = [session.call("http__echo", door.args), session.call("http__echo", door.args)];
            await door.comes(1);
            if (era === "legacy") {
                assert.deepEqual((await session.request("ping")).result, {});
                assert.ok((await session.request("tools/list")).result);
                assert.equal((await session.notify("notifications/initialized")).status, 202);
                await (await openSession(gateway)).end();
            } else {
                assert.ok((await modern.request("tools/list")).result);
                assert.ok((await modern.request("server/discover")).result);
            }
            assert.equal(door.came, 1);
            door.open();
            for (const each of calls) assert.equal(text(await each), "done");
        });

        test(`${era}: who waits for too long is told limit and value`, async (t) => {
            const door = await gate(t);
            const limits = { max_in_flight: 2, max_wait: "500ms" };
            const gateway = await started(t, limits, { http: { url: door.fixture.url } });
            await served(gateway, "http__echo");
            const session = await openSession(gateway, "/mcp/http");
            const modern = new ModernClient(gateway, "/mcp/http");
            const ask = (method: string, params: { [key: string]: unknown }) =>
                era === "legacy" ? session.request(method, params) : modern.request(method, params);
            const call = () => ask("tools/call", { name: "echo", arguments: door.args });
            const calls = [call(), call()];
            await door.comes(2);
            const words = ["2", "server.limits.max_in_flight", "500", "server.limits.max_wait"];
            busy(await call(), ...words);
            busy(await ask("resources/read", { uri: "test://one" }), ...words);
            busy(await ask("prompts/get", { name: "greet" }), ...words);
            busy(await ask("completion/complete", { ref: { type: "ref/prompt", name: "greet" } }), ...words);
            assert.equal(door.came, 2);
            door.open();
            for (const each of calls) assert.equal(text(await each), "done");
            assert.equal(text(await call()), "done");
        });
    }

    test("what waits can be cancelled, and so can what it waits for", async (t) => {
        const door = await gate(t);
        const gateway = await started(t, { max_in_flight: 1 }, { http: { url: door.fixture.url } });
        await served(gateway, "http__echo");
        const session = await openSession(gateway);
        const call = (id: string) =>
            session.stream({
                method: "POST",
                body: {
                    jsonrpc: "2.0",
                    id,
                    method: "tools/call",
                    params: { name: "http__echo", arguments: door.args },
                },
            });
        const first = call("first");
        await door.comes(1);
        const second = call("second");
        const third = call("third");
        await waiting(gateway, 2);
        await session.notify("notifications/cancelled", { requestId: "second" });
        await (
            await within(second, "the second has an end")
        ).ended;
        assert.equal(door.came, 1);
        await session.notify("notifications/cancelled", { requestId: "first" });
        await (
            await within(first, "the first has an end")
        ).ended;
        await door.comes(2);
        door.open();
        const answer = await (await third).messages.waitFor((message) => message.id === "third");
        assert.equal(text(answer), "done");
    });

    test("a modern client that hangs up waits no more; a legacy one keeps its place", async (t) => {
        const door = await gate(t);
        const gateway = await started(t, { max_in_flight: 1 }, { http: { url: door.fixture.url } });
        await served(gateway, "http__echo");
        const session = await openSession(gateway, "/mcp/http");
        const modern = new ModernClient(gateway, "/mcp/http");
        const first = session.call("echo", door.args);
        await door.comes(1);
        const leaves = [new AbortController(), new AbortController()];
        const gone = modern.ask("tools/call", { name: "echo", arguments: door.args }, { signal: leaves[0]!.signal });
        gone.catch(() => {});
        await waiting(gateway, 1);
        leaves[0]!.abort();
        await waiting(gateway, 0);
        const body = { jsonrpc: "2.0", id: "x", method: "tools/call", params: { name: "echo", arguments: door.args } };
        session.send({ body, signal: leaves[1]!.signal }).catch(() => {});
        await waiting(gateway, 1);
        leaves[1]!.abort();
        await settles(gateway);
        door.release();
        assert.equal(text(await first), "done");
        await door.comes(2);
        door.open();
        assert.equal(text(await session.call("echo", door.args)), "done");
        assert.equal(door.came, 3);
    });

    test("what waits ends with its session", async (t) => {
        const door = await gate(t);
        const gateway = await started(t, { max_in_flight: 1 }, { http: { url: door.fixture.url } });
        await served(gateway, "http__echo");
        const [one, other] = [await openSession(gateway), await openSession(gateway)];
        const first = one.call("http__echo", door.args);
        await door.comes(1);
        const second = other.stream({
            method: "POST",
            body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "http__echo", arguments: door.args } },
        });
        await waiting(gateway, 1);
        await other.end();
        await (
            await within(second, "it has an end")
        ).ended;
        door.open();
        assert.equal(text(await first), "done");
        assert.equal(door.came, 1);
    });

    test("each request of a batch counts", async (t) => {
        const door = await gate(t);
        const gateway = await started(t, { max_in_flight: 2 }, { http: { url: door.fixture.url } });
        await served(gateway, "http__echo");
        const session = await openSession(gateway, "/mcp", "2025-03-26");
        const params = { name: "http__echo", arguments: door.args };
        const ids = [1, 2, 3, 4, 5];
        const answer = session.send({
            body: ids.map((id) => ({ jsonrpc: "2.0", id, method: "tools/call", params })),
        });
        await door.comes(2);
        await settles(gateway);
        assert.equal(door.came, 2);
        for (let n = 3; n <= 5; n++) {
            door.release();
            await door.comes(n);
            assert.equal(door.inside.length, 2);
        }
        door.open();
        const { messages } = await answer;
        assert.deepEqual(messages.map(({ id }) => Number(id)).sort(), ids);
    });

    test("the connection of what waits is not read, and goes on afterwards", async (t) => {
        const door = await gate(t);
        const gateway = await started(t, { max_in_flight: 1 }, { http: { url: door.fixture.url } });
        await served(gateway, "http__echo");
        const modern = new ModernClient(gateway, "/mcp/http");
        const first = modern.call("echo", door.args);
        await door.comes(1);
        const { headers, body } = modern.outgoing("tools/call", { name: "echo", arguments: door.args });
        const content = JSON.stringify(body);
        const fields = {
            Host: "localhost",
            Authorization: `Bearer ${gateway.token}`,
            Accept: "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": String(content.length),
            ...headers,
        };
        const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
        const socket = net.connect({ host: "127.0.0.1", port: gateway.port });
        socket.write(`POST /mcp/http HTTP/1.1\r\n${lines.join("")}\r\n${content}`);
        await waiting(gateway, 1);
        /* More than the gateway would take of what is pipelined, and more than the kernel takes for it. */
        const health = `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(8000)}\r\n\r\n`;
        const PIPELINED = 4000;
        let isWritten = false;
        for (let i = 0; i < PIPELINED; i++) socket.write(health, () => (isWritten = i === PIPELINED - 1));
        await settles(gateway);
        assert.ok(!isWritten);
        let answers = 0;
        socket.on("data", (chunk) => (answers += chunk.toString("latin1").split("HTTP/1.1 200").length - 1));
        door.open();
        assert.equal(text(await first), "done");
        await until(
            () => answers >= PIPELINED,
            () => `${answers} of ${PIPELINED + 1} answers came`,
            60_000,
        );
        socket.destroy();
    });

    test("turns: a client with one call is not behind a hundred of another", async (t) => {
        const door = await gate(t);
        const gateway = await started(t, { max_in_flight: 1 }, { http: { url: door.fixture.url } });
        await served(gateway, "http__echo");
        const order: string[] = [];
        const note = (name: string, run: Promise<RpcMessage>) => run.then(() => order.push(name));
        const sessions: Session[] = [await openSession(gateway), await openSession(gateway)];
        const modern = [
            new ModernClient(gateway, "/mcp", {
                meta: { "io.modelcontextprotocol/clientInfo": { name: "a", version: "1" } },
            }),
            new ModernClient(gateway, "/mcp", {
                meta: { "io.modelcontextprotocol/clientInfo": { name: "b", version: "1" } },
            }),
        ];
        const all = [note("begin", sessions[0]!.call("http__echo", door.args))];
        await door.comes(1);
        const crowd = 100;
        for (let i = 0; i < crowd; i++) {
            all.push(note("crowd", sessions[0]!.call("http__echo", door.args)));
            all.push(note("crowd", modern[0]!.call("http__echo", door.args)));
        }
        await waiting(gateway, 2 * crowd);
        /* Each of the crowd's flows has a turn before. */
        for (let i = 0; i < 2; i++) {
            door.release();
            await door.comes(2 + i);
        }
        all.push(note("session", sessions[1]!.call("http__echo", door.args)));
        all.push(note("modern", modern[1]!.call("http__echo", door.args)));
        await waiting(gateway, 2 * crowd);
        for (let i = 0; i < 6; i++) {
            door.release();
            await door.comes(4 + i);
        }
        door.open();
        await within(Promise.all(all), "all are answered", 60_000);
        assert.equal(order.length, 2 * crowd + 3);
        for (const name of ["session", "modern"]) {
            const place = order.indexOf(name);
            assert.ok(place >= 0 && place <= 8, `${name} was answered as number ${place}`);
        }
    });

    test("a child's callers, and calls of two principals' kinds, on two workers: nothing is lost", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const gateway = await started(
            t,
            { max_in_flight: 4 },
            { one: { cmd: control.command({ name: "one" }) } },
            { workers: 2 },
        );
        await served(gateway, "one__echo");
        const session = await openSession(gateway);
        const modern = new ModernClient(gateway);
        const calls: Promise<RpcMessage>[] = [];
        for (let i = 0; i < 300; i++) {
            const args = { text: `call ${i}` };
            calls.push(i % 2 === 0 ? session.call("one__echo", args) : modern.call("one__echo", args));
        }
        const answers = await within(Promise.all(calls), "all are answered", 60_000);
        for (const [i, answer] of answers.entries()) assert.equal(text(answer), `call ${i}`);
    });
});
