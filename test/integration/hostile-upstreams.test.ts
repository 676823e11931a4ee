/* Upstreams that mean harm: nothing that they do may hurt the gateway, another upstream or another call. */
import assert from "node:assert/strict";
import { describe, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import { startGateway, type Gateway, type ServerConfig } from "./lib/gateway.ts";
import { openSession, served, text, type Session } from "./lib/http.ts";
import { until } from "./lib/wait.ts";

const HOSTILE = fileURLToPath(new URL("./fixtures/hostile.ts", import.meta.url));

const hostile = (mode: string, more: Partial<ServerConfig> = {}): ServerConfig => ({
    cmd: [process.execPath, HOSTILE, mode],
    ...more,
});

/** A gateway with this upstream and an honest one, "good". */
async function start(t: TestContext, mode: string, more: Partial<ServerConfig> = {}): Promise<Gateway> {
    return startGateway({ config: { servers: { bad: hostile(mode, more), good: hostile("spaced") } } }, t);
}

/** The gateway and the other upstream serve as before. */
async function isWell(gateway: Gateway): Promise<void> {
    const session = await openSession(gateway);
    await until(async () => {
        const { result } = await session.call("good__echo");
        return result !== undefined && result.isError !== true;
    }, "the honest upstream answers");
    await session.end();
}

const answers = (session: Session, name: string, args: Record<string, unknown> = {}) =>
    until(async () => {
        const answer = await session.call(name, args);
        return answer.result !== undefined && answer.result.isError !== true ? answer : false;
    }, `${name} is answered`);

describe("hostile upstreams", () => {
    test("a call that waited for its upstream's first start is made once", async (t) => {
        // The first start may take 2 s. The call comes before it is over and takes longer than what is left of it.
        const gateway = await start(t, "late", { startup_timeout: "3s" });
        const session = await openSession(gateway, "/mcp/bad");
        const from = gateway.log.items.length;
        assert.match(text(await session.call("slow")), /^slow \d+$/);
        const unasked = gateway.log.items.slice(from).filter((entry) => entry.message === "answered nobody");
        assert.deepEqual(unasked, []);
        assert.match(text(await session.call("slow")), /^slow \d+$/);
        await isWell(gateway);
    });

    test("definitions of more than 64 MiB: the list is cut, what is in it can be called", async (t) => {
        const gateway = await start(t, "heavy", { startup_timeout: "60s" });
        const session = await openSession(gateway, "/mcp/bad");
        await gateway.waitForLog((entry) => entry.message === "a list could not be read");
        const answered = await answers(session, "tool-1", { text: "first page" });
        assert.equal(text(answered), "first page");
        let last = 0;
        let cursor: unknown;
        do {
            const { result } = await session.request("tools/list", cursor === undefined ? {} : { cursor });
            last += (result!.tools as unknown[]).length;
            cursor = result!.nextCursor;
        } while (cursor !== undefined);
        assert.equal(text(await session.call(`tool-${last - 1}`, { text: "last" })), "last");
        await isWell(gateway);
    });

    test("a list of rubble: the log names some of it, the good item is served", async (t) => {
        const gateway = await start(t, "rubble");
        const session = await openSession(gateway, "/mcp/bad");
        assert.equal(text(await answers(session, "echo", { text: "there" })), "there");
        const told = gateway.log.items.filter((entry) => /^left an item out/.test(entry.message ?? ""));
        assert.ok(told.length > 0 && told.length <= 100, `${told.length} lines`);
        assert.ok(gateway.log.items.some((entry) => /^left out more items/.test(entry.message ?? "")));
    });

    for (const [mode, tool] of [
        ["deaf", "stop-reading"],
        ["mute", "stop-writing"],
    ] as const) {
        test(`${mode}: one that closed one of its pipes is ended and started again`, async (t) => {
            const gateway = await start(t, mode, { shutdown_timeout: "200ms" });
            const session = await openSession(gateway, "/mcp/bad");
            assert.equal(text(await answers(session, "echo", { text: "before" })), "before");
            await session.call(tool);
            assert.equal(text(await answers(session, "echo", { text: "after" })), "after");
            await isWell(gateway);
        });
    }

    test("instructions that grow sixfold when escaped: initialize is whole", async (t) => {
        const servers = { one: hostile("bell"), two: hostile("bell"), three: hostile("bell"), good: hostile("spaced") };
        const gateway = await startGateway({ config: { servers } }, t);
        await served(gateway, "one__echo", "two__echo", "three__echo", "good__echo");
        const session = await openSession(gateway);
        assert.equal((session.initialized.result!.serverInfo as { name: string }).name, "cardea");
        await session.end();
    });

    test("a list that is said to have changed and does not come: the old one stays, the next change is heard", async (t) => {
        const gateway = await start(t, "forgetful", { startup_timeout: "1s" });
        const session = await openSession(gateway, "/mcp/bad");
        await answers(session, "echo");
        const late = (entry: { message?: string }) => /^did not list again/.test(entry.message ?? "");
        for (let n = 0; n < 2; n++) {
            const from = gateway.log.items.length;
            assert.equal(text(await session.call("forget")), "forgot");
            await gateway.waitForLog(late, from);
        }
        assert.equal(text(await session.call("echo", { text: "still" })), "still");
        const { result } = await session.request("tools/list");
        assert.deepEqual(
            (result!.tools as { name: string }[]).map((tool) => tool.name),
            ["echo", "forget"],
        );
    });

    test("restless: lists that change while they are listed hold up nobody", async (t) => {
        const gateway = await start(t, "restless");
        const session = await openSession(gateway, "/mcp/bad");
        assert.equal(text(await answers(session, "echo", { text: "calm" })), "calm");
        for (let n = 0; n < 50; n++) assert.equal(text(await session.call("echo", { text: `${n}` })), `${n}`);
        await isWell(gateway);
    });

    test("endless: a line without an end ends its process; its calls fail, the next ones are served", async (t) => {
        const gateway = await start(t, "endless");
        const session = await openSession(gateway, "/mcp/bad");
        await answers(session, "echo");
        const flooded = await session.call("flood");
        assert.equal(flooded.result!.isError, true);
        const down = await gateway.waitForLog((entry) => entry.message === "is down" && entry.upstream === "bad");
        assert.match(String(down.reason), /longer than max_message, 10485760/);
        assert.equal(text(await answers(session, "echo", { text: "again" })), "again");
        await isWell(gateway);
    });

    test("nagging: requests to the gateway are refused, as many as come, and its call is answered", async (t) => {
        const gateway = await start(t, "nagging");
        const session = await openSession(gateway, "/mcp/bad");
        await answers(session, "echo");
        const asking = session.call("flood");
        await isWell(gateway);
        const answer = await asking;
        assert.ok(answer.result !== undefined || answer.error !== undefined);
        assert.equal(text(await answers(session, "echo", { text: "again" })), "again");
    });

    test("chatty: progress for unknown tokens goes to nobody, and other calls are answered", async (t) => {
        const gateway = await start(t, "chatty");
        const other = await openSession(gateway, "/mcp/bad");
        const session = await openSession(gateway, "/mcp/bad");
        await answers(session, "echo");
        const silent = other.send({
            body: { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "echo", arguments: { text: "e" } } },
        });
        const loud = await session.send({
            body: {
                jsonrpc: "2.0",
                id: 1,
                method: "tools/call",
                params: { name: "flood", _meta: { progressToken: "mine" } },
            },
        });
        const told = loud.messages.filter((message) => message.method === "notifications/progress");
        assert.deepEqual(told, [], "none of the tokens was that of the call");
        assert.equal(text(loud.messages.at(-1)!), "told");
        const answer = await silent;
        assert.ok(answer.messages.every((message) => message.method !== "notifications/progress"));
        await isWell(gateway);
    });

    test("chatty: what everybody shares logs to the operator, and not more than he can read", async (t) => {
        const gateway = await start(t, "chatty", { share: "all" });
        const session = await openSession(gateway, "/mcp/bad");
        assert.equal(text(await answers(session, "flood")), "told");
        const told = gateway.log.items.filter((entry) => entry.message === "log" && entry.upstream === "bad");
        assert.ok(told.length >= 50 && told.length < 2000, `${told.length} of 20,000`);
    });

    test("liar: answers to what was never asked, twice, and of the wrong type", async (t) => {
        const gateway = await start(t, "liar");
        const session = await openSession(gateway, "/mcp/bad");
        await answers(session, "echo");
        for (let n = 0; n < 5; n++) assert.equal(text(await session.call("lie")), "the truth");
        assert.equal(text(await session.call("echo", { text: "after" })), "after");
        const other = await openSession(gateway);
        assert.equal(text(await answers(other, "good__echo")), "spaced");
    });

    test("line ends of the other kind between tokens", async (t) => {
        const gateway = await start(t, "spaced");
        const session = await openSession(gateway, "/mcp/bad");
        assert.equal(text(await answers(session, "echo")), "spaced");
        const streamed = await session.send({
            body: { jsonrpc: "2.0", id: 9, method: "tools/call", params: { name: "echo", arguments: {} } },
        });
        assert.equal(text(streamed.messages.at(-1)!), "spaced");
    });

    test("big: an answer just below the limit arrives whole, one above it ends the process", async (t) => {
        const gateway = await start(t, "big");
        const session = await openSession(gateway, "/mcp/bad");
        const whole = 10 * 1024 * 1024 - 1024;
        const answer = await answers(session, "big", { bytes: whole });
        assert.equal(text(answer).length, whole);
        const tooLong = await session.call("big", { bytes: whole + 2048 });
        assert.equal(tooLong.result!.isError, true);
        assert.equal(text(await answers(session, "big", { bytes: 3 })), "xxx");
        await isWell(gateway);
    });

    test("forking: what it left behind does not keep its place", async (t) => {
        const gateway = await start(t, "forking");
        const session = await openSession(gateway, "/mcp/bad");
        await answers(session, "echo");
        const left = await session.call("leave");
        assert.equal(left.result!.isError, true);
        assert.equal(text(await answers(session, "echo", { text: "again" })), "again");
    });

    test("where max_request_body was raised a longer message arrives, also while the upstream starts", async (t) => {
        const config = { server: { max_request_body: "16MiB" }, servers: { bad: hostile("late") } };
        const gateway = await startGateway({ config }, t);
        const session = await openSession(gateway, "/mcp/bad");
        const long = "x".repeat(6 * 1024 * 1024);
        assert.equal(text(await answers(session, "echo", { text: long })).length, long.length);
    });
});
