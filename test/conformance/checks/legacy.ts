/* Our own checks of what a client of 2025-11-25 sees. */
import assert from "node:assert/strict";

import { LEGACY, LegacySession, text } from "../lib/wire.ts";
import {
    arrivesEarly,
    assertKeywords,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    refusesHosts,
    useAll,
    withClient,
    type OwnCheck,
} from "./common.ts";

export const legacy: OwnCheck[] = [
    {
        name: "only a Host and an Origin of ours are let in",
        era: "legacy",
        run: (endpoint) => refusesHosts(endpoint, LegacySession.initialize(), {}),
    },
    {
        name: "a session lives from initialize to DELETE, and no other id is one",
        era: "legacy",
        async run(endpoint) {
            const session = await LegacySession.open(endpoint);
            assert.equal(session.initialized.result?.protocolVersion, LEGACY);
            const ping = { jsonrpc: "2.0", id: 1, method: "ping" };
            const none = await session.send(ping, { "Mcp-Session-Id": undefined });
            assert.equal(none.status, 400);
            const unknown = await session.send(ping, { "Mcp-Session-Id": "no-such-session" });
            assert.equal(unknown.status, 404);
            const version = await session.send(ping, { "MCP-Protocol-Version": "1999-01-01" });
            assert.equal(version.status, 400);
            assert.deepEqual((await session.ask("ping")).result, {});
            assert.ok([200, 204].includes((await session.end()).status));
            assert.equal((await session.send(ping)).status, 404);
        },
    },
    {
        name: "ids come back as they were sent",
        era: "legacy",
        async run(endpoint) {
            const session = await LegacySession.open(endpoint);
            for (const id of [0, 7, "0", "seven", -1, 9007199254740991]) {
                assert.equal(text(await session.call("test_echo", { id }, id)), JSON.stringify({ id }));
                assert.deepEqual((await session.ask("ping", {}, id)).result, {});
            }
        },
    },
    {
        name: "progress has the client's token, and arrives while the call runs",
        era: "legacy",
        async run(endpoint) {
            const session = await LegacySession.open(endpoint);
            for (const progressToken of ["mine", 77]) {
                const id = `held ${progressToken}`;
                const params = { name: "test_hold", arguments: {}, _meta: { progressToken } };
                const stream = await session.stream("tools/call", params, id);
                await arrivesEarly(stream, progressToken);
                await session.send({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: id } });
            }
        },
    },
    {
        name: "errors have code and id",
        era: "legacy",
        async run(endpoint) {
            const session = await LegacySession.open(endpoint);
            const method = await session.send({ jsonrpc: "2.0", id: 5, method: "no/such/method" });
            assert.equal(method.messages.at(-1)?.id, 5);
            assert.equal(method.messages.at(-1)?.error?.code, METHOD_NOT_FOUND);
            const prompt = await session.ask("prompts/get", { name: "no_such_prompt" }, "p");
            assert.equal(prompt.error?.code, INVALID_PARAMS);
            const tool = await session.call("no_such_tool", {}, "t");
            assert.ok(tool.error?.code === INVALID_PARAMS || tool.result?.isError === true, JSON.stringify(tool));
        },
    },
    {
        name: "schemas are listed with every keyword",
        era: "legacy",
        async run(endpoint) {
            assertKeywords(await (await LegacySession.open(endpoint)).ask("tools/list"));
        },
    },
    {
        name: "nothing of the modern revision is in answers",
        era: "legacy",
        async run(endpoint) {
            const session = await LegacySession.open(endpoint);
            for (const [method, params] of [
                ["tools/list", {}],
                ["resources/read", { uri: "test://static-text" }],
                ["tools/call", { name: "test_simple_text" }],
            ] as const) {
                const { result } = await session.ask(method, params);
                for (const key of ["resultType", "ttlMs", "cacheScope"])
                    assert.ok(!(key in result!), `${method}: ${key}`);
                assert.ok(!JSON.stringify(result!._meta ?? {}).includes("io.modelcontextprotocol/"), method);
            }
        },
    },
    {
        name: "log messages come from the level on that the session set",
        era: "legacy",
        async run(endpoint) {
            for (const [level, expected] of [
                ["info", 3],
                ["error", 0],
            ] as const) {
                const session = await LegacySession.open(endpoint);
                assert.deepEqual((await session.ask("logging/setLevel", { level })).result, {});
                const stream = await session.stream("tools/call", { name: "test_tool_with_logging" }, "logged");
                await stream.messages.waitFor((message) => message.id === "logged");
                const logged = stream.messages.items.filter((message) => message.method === "notifications/message");
                assert.equal(logged.length, expected, level);
            }
        },
    },
    {
        name: "a client of the SDK 2.x",
        era: "legacy",
        run: (endpoint) => withClient(endpoint, "legacy", (client) => useAll(client, endpoint.signal)),
    },
    {
        name: "the server asks for a form and for a sample while it works",
        era: "legacy",
        needs: "requests of the server",
        run: (endpoint) =>
            withClient(
                endpoint,
                "legacy",
                async (client) => {
                    client.setRequestHandler("elicitation/create", () => ({
                        action: "accept",
                        content: { name: "Ada" },
                    }));
                    client.setRequestHandler("sampling/createMessage", () => ({
                        model: "m",
                        role: "assistant",
                        content: { type: "text", text: "Paris" },
                    }));
                    const call = async (name: string) =>
                        JSON.stringify((await client.callTool({ name }, { signal: endpoint.signal })).content);
                    assert.match(await call("test_input_required_result_elicitation"), /Hello, Ada!/);
                    assert.match(await call("test_input_required_result_sampling"), /Paris/);
                },
                { capabilities: { elicitation: {}, sampling: {} } },
            ),
    },
];
