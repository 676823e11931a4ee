/* What the reference servers cannot show: a server that tells what it received, and answers in unusual ways. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Notification } from "@modelcontextprotocol/sdk/types.js";

import { connectGateway, failure, progressOf, type Peer } from "./lib/clients.ts";
import { startControl, type Control, type FixtureProcess } from "./lib/control.ts";
import { openSession, serving, text } from "./lib/http.ts";
import { parity, type Side } from "./lib/parity.ts";

describe("fixture", () => {
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    const options = {
        name: "fixture",
        instructions: "Use with care.",
        prompts: [{ name: "review", description: "a prompt", arguments: [{ name: "what", required: true }] }],
        resources: [{ uri: "test://one", name: "one" }],
        resourceTemplates: [{ uriTemplate: "test://thing/{id}", name: "thing" }],
    };
    const { same, gateway } = parity(
        "fixture",
        "echo",
        () => ({ cmd: control.command(options) }),
        () => ({ other: { cmd: control.command({ name: "other" }) } }),
    );
    after(async () => {
        await control.close();
    });

    /** The process that serves this side. */
    const process = async (side: Side): Promise<FixtureProcess> => {
        const answer = await side.client.callTool({ name: side.named("whoami") });
        const { pid } = JSON.parse((answer.content as { text: string }[])[0]!.text) as { pid: number };
        const found = control.starts.items.findLast((item) => item.name === "fixture" && item.start.pid === pid);
        assert.ok(found !== undefined, `no fixture with pid ${pid}`);
        await found.sync();
        return found;
    };

    test("a result is passed on as it is", async () => {
        const answer = await same(async ({ client, named }) => client.callTool({ name: named("fail"), arguments: {} }));
        assert.deepEqual(answer, { content: [{ type: "text", text: "it failed" }], isError: true });
    });

    test("an error is passed on with code, message and data", async () => {
        const error = await same(async ({ client, named }) =>
            failure(client.callTool({ name: named("refuse"), arguments: {} })),
        );
        assert.deepEqual(error, {
            code: -32007,
            message: "MCP error -32007: refused by the fixture",
            data: { why: ["a", 1] },
        });
    });

    test("a tool, prompt and completion get the name that the server gave them", async () => {
        await same(async (side) => {
            const server = await process(side);
            const from = server.events.items.length;
            await side.client.callTool({ name: side.named("echo"), arguments: { text: "x" } });
            await side.client.getPrompt({ name: side.named("review"), arguments: { what: "it" } });
            await side.client.complete({
                ref: { type: "ref/prompt", name: side.named("review") },
                argument: { name: "what", value: "i" },
            });
            await side.client.readResource({ uri: "test://thing/4" });
            await server.sync();
            const received = server.events.items
                .slice(from)
                .flatMap(({ message }) => (message?.method === undefined ? [] : [message]));
            return received.map(({ method, params }) => ({ method, params: { ...params, _meta: undefined } }));
        });
    });

    test("progress: numbers, messages and totals as sent, under the client's token", async () => {
        const progress = await same(async ({ client, named, wire }) => {
            await client.callTool({ name: named("progress"), arguments: { steps: 3 } }, undefined, {
                onprogress: () => {},
            });
            return [...progressOf(wire.items).values()];
        });
        assert.deepEqual(progress, [
            [
                { progress: 1, message: "step 1" },
                { progress: 2, message: "step 2" },
                { progress: 3, message: "step 3", total: 3 },
            ],
        ]);
    });

    test("no progress where none was asked for", async () => {
        await same(async ({ client, named, wire }) => {
            await client.callTool({ name: named("progress"), arguments: { steps: 3 } });
            assert.equal(progressOf(wire.items).size, 0);
        });
    });

    const logged = (items: Notification[], mark: string) =>
        items
            .filter((item) => item.method === "notifications/message")
            .map((item) => item.params as { level: string; data: { mark: string } })
            .filter((params) => params.data.mark === mark);

    for (const level of ["debug", "warning", "emergency"] as const) {
        test(`log messages from ${level} on, and none below`, async () => {
            const mark = `mark-${level}`;
            const messages = await same(async ({ client, named, notifications }) => {
                await client.setLoggingLevel(level);
                await client.callTool({ name: named("log"), arguments: { text: mark } });
                await notifications.waitFor((item) => logged([item], mark)[0]?.level === "emergency");
                return logged(notifications.items, mark);
            });
            const levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
            assert.deepEqual(
                messages.map((item) => item.level),
                levels.slice(levels.indexOf(level)),
            );
        });
    }

    test("two sessions on one child each have their own log level", async (t) => {
        if (gateway() === undefined) return t.skip("needs the gateway");
        const quiet = await connectGateway(gateway(), "fixture");
        const loud = await connectGateway(gateway(), "fixture");
        await quiet.client.setLoggingLevel("alert");
        await loud.client.setLoggingLevel("debug");
        const emergency = (peer: Peer, mark: string) =>
            peer.notifications.waitFor((item) => logged([item], mark)[0]?.level === "emergency");
        await quiet.client.callTool({ name: "log", arguments: { text: "by quiet" } });
        await emergency(quiet, "by quiet");
        await loud.client.callTool({ name: "log", arguments: { text: "by loud" } });
        await emergency(loud, "by loud");
        assert.deepEqual(
            logged(quiet.notifications.items, "by quiet").map((item) => item.level),
            ["alert", "emergency"],
        );
        assert.equal(logged(loud.notifications.items, "by loud").length, 8);
        assert.ok(
            logged(quiet.notifications.items, "by loud").every((item) => ["alert", "emergency"].includes(item.level)),
        );
        await Promise.all([quiet.close(), loud.close()]);
    });

    test("a cancelled call is cancelled at the server, under the id that the server knows", async () => {
        await same(async (side) => {
            const server = await process(side);
            const from = server.events.items.length;
            const abort = new AbortController();
            const call = side.client.callTool({ name: side.named("hold"), arguments: {} }, undefined, {
                signal: abort.signal,
            });
            const rejected = assert.rejects(call, /changed my mind/);
            const held = await server.events.waitFor((event) => event.event === "held", from);
            abort.abort("changed my mind");
            await rejected;
            const cancelled = await server.events.waitFor(
                (event) => event.message?.method === "notifications/cancelled",
                from,
            );
            assert.equal(cancelled.message!.params!.requestId, held.id);
            // a late answer goes nowhere and breaks nothing
            const before = side.wire.items.length;
            server.do({ do: "release" });
            await side.client.callTool({ name: side.named("echo"), arguments: { text: "still here" } });
            if (side.kind !== "direct") assert.ok(!JSON.stringify(side.wire.items.slice(before)).includes("released"));
            return { reason: cancelled.message!.params!.reason };
        });
    });

    test("the client's timeout cancels at the server", async () => {
        await same(async (side) => {
            const server = await process(side);
            const from = server.events.items.length;
            const call = side.client.callTool({ name: side.named("hold"), arguments: {} }, undefined, { timeout: 50 });
            assert.equal((await failure(call)).code, -32001);
            const cancelled = await server.events.waitFor(
                (event) => event.message?.method === "notifications/cancelled",
                from,
            );
            const held = await server.events.waitFor((event) => event.event === "held", from);
            assert.equal(cancelled.message!.params!.requestId, held.id);
            server.do({ do: "release" });
        });
    });

    test("a call cancelled in one session leaves another's of the same id alone", async (t) => {
        if (gateway() === undefined) return t.skip("needs the gateway");
        const [one, two] = [await openSession(gateway(), "/mcp/fixture"), await openSession(gateway(), "/mcp/fixture")];
        const server = await serving(control, one);
        const from = server.events.items.length;
        const hold = { jsonrpc: "2.0", id: 77, method: "tools/call", params: { name: "hold", arguments: {} } };
        const held = async (n: number) => {
            let seen = 0;
            return (await server.events.waitFor((event) => event.event === "held" && ++seen === n, from)).id;
        };
        const first = one.send({ body: hold });
        const id = await held(1);
        const second = two.send({ body: hold });
        assert.notEqual(await held(2), id, "each call has an id of its own at the server");
        assert.equal((await one.notify("notifications/cancelled", { requestId: 77 })).status, 202);
        const cancelled = await server.events.waitFor(
            (event) => event.message?.method === "notifications/cancelled",
            from,
        );
        assert.equal(cancelled.message!.params!.requestId, id);
        server.do({ do: "release" });
        assert.equal(text((await second).messages.at(-1)!), "released");
        assert.ok(!(await first).text.includes("released"), "no answer after the cancellation");
        await two.end();
        await one.end();
    });

    test("ids come back as they were sent", async (t) => {
        if (gateway() === undefined) return t.skip("needs the gateway");
        const session = await openSession(gateway());
        for (const id of [0, "", "0", -1, 9007199254740991, 'ü \u0000 " 😀', "x".repeat(200)]) {
            assert.equal(text(await session.call("fixture__echo", { text: `id ${id}` }, id)), `id ${id}`);
        }
        const both = await Promise.all([
            session.call("fixture__echo", { text: "number" }, 5),
            session.call("fixture__echo", { text: "string" }, "5"),
        ]);
        assert.deepEqual(both.map(text), ["number", "string"]);
        await session.end();
    });

    test("what the gateway does not read passes byte for byte", async (t) => {
        if (gateway() === undefined) return t.skip("needs the gateway");
        const session = await openSession(gateway(), "/mcp/fixture");
        const args =
            '{"z":1.0,"a":1e400,"n":123456789012345678901234567890,"s":"\\u00fc\\/","e":[],"o":{},"deep":[[[{"b":null}]]]}';
        const answer = await session.send({
            body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"raw","arguments":${args}}}`,
        });
        assert.equal(answer.status, 200);
        assert.ok(text(answer.messages.at(-1)!).includes(args), text(answer.messages.at(-1)!));
        await session.end();
    });

    test("requests of the server come to the client, which refuses them by itself", async (t) => {
        if (gateway() === undefined) return t.skip("needs the gateway");
        const peer = await connectGateway(gateway(), undefined, {
            capabilities: { sampling: {}, elicitation: {}, roots: {} },
        });
        for (const method of ["sampling/createMessage", "elicitation/create", "roots/list", "no/such"]) {
            const answer = await peer.client.callTool({ name: "fixture__ask", arguments: { method, params: {} } });
            const { error } = JSON.parse((answer.content as { text: string }[])[0]!.text) as {
                error?: { code: number };
            };
            assert.equal(error?.code, -32601, method);
        }
        const pong = await peer.client.callTool({ name: "fixture__ask", arguments: { method: "ping" } });
        assert.deepEqual(JSON.parse((pong.content as { text: string }[])[0]!.text), { result: {} });
        await peer.close();
    });

    test("the server is told of what its caller can do, and of nothing that the gateway does not serve", async (t) => {
        if (gateway() === undefined) return t.skip("needs the gateway");
        for (const item of control.starts.items) await item.sync();
        const ours = control.starts.items.flatMap((item) => item.received("initialize")).filter(
            (message) => (message.params!.clientInfo as { name: string }).name !== "cardea-tests",
        );
        // The client that can do all three has a server of its own; the others can do nothing.
        const told = ours.map(({ params }) => JSON.stringify(params!.capabilities));
        const all = JSON.stringify({ sampling: {}, elicitation: { form: {} }, roots: {} });
        assert.deepEqual([...new Set(told)].sort(), ["{}", all].sort());
    });
});
