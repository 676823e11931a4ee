/* Our own checks of what a client of 2026-07-28 sees. */
import assert from "node:assert/strict";

import { ask, KEY, listen, MODERN, text, type Endpoint, type Rpc } from "../lib/wire.ts";
import { ALL_CAPABILITIES } from "../mutations.ts";
import {
    arrivesEarly,
    assertKeywords,
    INVALID_PARAMS,
    isProgress,
    METHOD_NOT_FOUND,
    MISMATCH,
    MISSING_CAPABILITY,
    refusesHosts,
    UNSUPPORTED_VERSION,
    useAll,
    withClient,
    type OwnCheck,
} from "./common.ts";

/** A refusal before anything was dispatched: a status, a code, and the request's own id. */
async function isRefused(
    endpoint: Endpoint,
    status: number,
    code: number,
    ...request: Parameters<typeof ask> extends [Endpoint, ...infer Rest] ? Rest : never
): Promise<Rpc["error"]> {
    const answer = await ask(endpoint, ...request);
    const what = JSON.stringify(request);
    assert.equal(answer.message.error?.code, code, what);
    assert.equal(answer.status, status, what);
    return answer.message.error;
}

async function resultOf(endpoint: Endpoint, method: string, params?: object, meta?: object): Promise<Rpc["result"]> {
    const { status, message } = await ask(endpoint, method, { ...params }, { meta: { ...meta } });
    assert.equal(status, 200, method);
    assert.ok(message.result !== undefined, `${method}: ${JSON.stringify(message.error)}`);
    return message.result;
}

const call = (name: string, args: object = {}) => ({ name, arguments: args });
const REGION = { region: "Hello" };
const mirrors = (region: string | undefined) => ({ headers: { "Mcp-Param-Region": region } });

export const modern: OwnCheck[] = [
    {
        name: "only a Host and an Origin of ours are let in",
        era: "modern",
        run: (endpoint) =>
            refusesHosts(
                endpoint,
                {
                    jsonrpc: "2.0",
                    id: 1,
                    method: "server/discover",
                    params: { _meta: { [KEY.version]: MODERN, [KEY.capabilities]: {} } },
                },
                { "MCP-Protocol-Version": MODERN, "Mcp-Method": "server/discover" },
            ),
    },
    {
        name: "server/discover tells versions, capabilities and who answers",
        era: "modern",
        async run(endpoint) {
            const result = await resultOf(endpoint, "server/discover");
            assert.ok((result!.supportedVersions as string[]).includes(MODERN));
            const capabilities = result!.capabilities as { [name: string]: unknown };
            for (const name of ["tools", "prompts", "resources", "completions"]) assert.ok(name in capabilities, name);
            const server = (result!._meta as { [key: string]: { name?: string; version?: string } })[KEY.server];
            assert.ok(typeof server?.name === "string" && typeof server.version === "string");
        },
    },
    {
        name: "an envelope without version or capabilities is refused, one without the client's name is not",
        era: "modern",
        async run(endpoint) {
            for (const key of [KEY.version, KEY.capabilities]) {
                const meta = { [key]: undefined };
                await isRefused(endpoint, 400, INVALID_PARAMS, "server/discover", {}, { meta });
                await isRefused(endpoint, 400, INVALID_PARAMS, "tools/call", call("test_echo"), { meta });
            }
            await resultOf(endpoint, "server/discover", {}, { [KEY.client]: undefined });
        },
    },
    {
        name: "standard header fields have to be there and to agree with the body",
        era: "modern",
        async run(endpoint) {
            const echo = ["tools/call", call("test_echo")] as const;
            for (const headers of [
                { "Mcp-Method": undefined },
                { "Mcp-Method": "TOOLS/CALL" },
                { "Mcp-Method": "prompts/get" },
                { "Mcp-Name": undefined },
                { "Mcp-Name": "test_request" },
                { "MCP-Protocol-Version": "v999.0.0" },
            ]) {
                await isRefused(endpoint, 400, MISMATCH, ...echo, { headers });
            }
            for (const headers of [{ "mcp-name": "  test_echo  " }, { "Mcp-Name": "=?base64?dGVzdF9lY2hv?=" }]) {
                const { status } = await ask(endpoint, ...echo, { headers: { "Mcp-Name": undefined, ...headers } });
                assert.equal(status, 200, JSON.stringify(headers));
            }
        },
    },
    {
        name: "a request without MCP-Protocol-Version is refused",
        era: "modern",
        run: async (endpoint) => {
            const headers = { "MCP-Protocol-Version": undefined };
            await isRefused(endpoint, 400, MISMATCH, "tools/list", {}, { headers });
        },
    },
    {
        name: "mirrored arguments have to be there and to agree",
        era: "modern",
        async run(endpoint) {
            const tool = ["tools/call", call("test_x_mcp_header", REGION)] as const;
            for (const region of [undefined, "hello", "=?base64?SGVsbG8?=", "=?base64?SGVs!!!bG8=?="]) {
                await isRefused(endpoint, 400, MISMATCH, ...tool, mirrors(region));
            }
            for (const region of ["Hello", "=?base64?SGVsbG8=?="]) {
                const { status, message } = await ask(endpoint, ...tool, mirrors(region));
                assert.equal(status, 200, region);
                assert.equal(text(message), JSON.stringify(REGION));
            }
        },
    },
    {
        name: "an unsupported version is refused with those that are not",
        era: "modern",
        async run(endpoint) {
            const version = "v999.0.0";
            const error = await isRefused(
                endpoint,
                400,
                UNSUPPORTED_VERSION,
                "server/discover",
                {},
                {
                    meta: { [KEY.version]: version },
                    headers: { "MCP-Protocol-Version": version },
                },
            );
            const { supported, requested } = error!.data as { supported: string[]; requested: string };
            assert.deepEqual([supported, requested], [[MODERN], version]);
        },
    },
    {
        name: "methods that are unknown or gone are not found",
        era: "modern",
        async run(endpoint) {
            for (const method of ["no/such", "initialize", "ping", "logging/setLevel", "resources/subscribe"]) {
                await isRefused(endpoint, 404, METHOD_NOT_FOUND, method, { uri: "test://x", level: "info" });
            }
        },
    },
    {
        name: "ids come back as they were sent, with errors, too",
        era: "modern",
        async run(endpoint) {
            for (const id of [0, 7, "0", "seven", -1, 9007199254740991]) {
                const { message } = await ask(endpoint, "tools/call", call("test_echo", { id }), { id });
                assert.equal(text(message), JSON.stringify({ id }));
                await isRefused(endpoint, 404, METHOD_NOT_FOUND, "no/such", {}, { id });
            }
        },
    },
    {
        name: "every result says that it is complete",
        era: "modern",
        async run(endpoint) {
            for (const [method, params] of [
                ["server/discover", {}],
                ["tools/list", {}],
                ["tools/call", call("test_simple_text")],
                ["prompts/get", { name: "test_simple_prompt" }],
                ["resources/read", { uri: "test://static-text" }],
            ] as const) {
                assert.equal((await resultOf(endpoint, method, params))?.resultType, "complete", method);
            }
        },
    },
    {
        name: "results that may be cached say for how long and for whom",
        era: "modern",
        async run(endpoint) {
            for (const [method, params] of [
                ["server/discover", {}],
                ["tools/list", {}],
                ["prompts/list", {}],
                ["resources/list", {}],
                ["resources/templates/list", {}],
                ["resources/read", { uri: "test://static-text" }],
            ] as const) {
                const { ttlMs, cacheScope } = (await resultOf(endpoint, method, params))!;
                assert.ok(Number.isInteger(ttlMs) && (ttlMs as number) >= 0, `${method}: ${ttlMs}`);
                assert.ok(cacheScope === "public" || cacheScope === "private", `${method}: ${cacheScope}`);
            }
        },
    },
    {
        name: "schemas are listed with every keyword, in the same order each time",
        era: "modern",
        async run(endpoint) {
            const [first, second] = [await ask(endpoint, "tools/list"), await ask(endpoint, "tools/list")];
            assertKeywords(first.message);
            const names = (message: Rpc) => (message.result!.tools as { name: string }[]).map((tool) => tool.name);
            assert.deepEqual(names(second.message), names(first.message));
        },
    },
    {
        name: "a resource that is not there is named in the error",
        era: "modern",
        async run(endpoint) {
            const uri = "test://nothing";
            const { status, message } = await ask(endpoint, "resources/read", { uri });
            assert.equal(status, 200);
            assert.equal(message.error?.code, INVALID_PARAMS);
            assert.equal((message.error.data as { uri?: string } | undefined)?.uri, uri);
        },
    },
    {
        name: "progress has the client's token, and arrives while the call runs",
        era: "modern",
        async run(endpoint) {
            for (const progressToken of ["mine", 77]) {
                const meta = { progressToken };
                await arrivesEarly(await listen(endpoint, "tools/call", call("test_hold"), { meta }), progressToken);
            }
        },
    },
    {
        name: "who hangs up has cancelled",
        era: "modern",
        async run(endpoint) {
            const key = `hang-up ${Math.random()}`;
            const state = async () => text((await ask(endpoint, "tools/call", call("test_held", { key }))).message);
            const stream = await listen(endpoint, "tools/call", call("test_hold", { key }), {
                meta: { progressToken: 1 },
            });
            await stream.messages.waitFor(isProgress(1));
            assert.equal(await state(), "held");
            stream.close();
            // Nobody announces it; the check's own deadline ends the wait.
            while ((await state()) !== "cancelled") endpoint.signal.throwIfAborted();
        },
    },
    {
        name: "log messages come when the request asks for them, and only then",
        era: "modern",
        async run(endpoint) {
            for (const [level, expected] of [
                [undefined, 0],
                ["info", 1],
                ["error", 0],
            ] as const) {
                const meta = { [KEY.level]: level };
                const { messages } = await ask(endpoint, "tools/call", call("test_logging_tool"), { meta });
                const logged = messages.filter((message) => message.method === "notifications/message");
                assert.equal(logged.length, expected, String(level));
            }
        },
    },
    {
        name: "keys in _meta that are not the protocol's reach the server",
        era: "modern",
        async run(endpoint) {
            const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            const meta = { traceparent, "com.example/key": { a: [1, "two"] } };
            const { message } = await ask(endpoint, "tools/call", call("test_request"), { meta });
            const seen = (JSON.parse(text(message)) as { meta: { [key: string]: unknown } }).meta;
            assert.deepEqual(seen["com.example/key"], meta["com.example/key"]);
        },
    },
    {
        name: "a client of the SDK 2.x, set to 2026-07-28",
        era: "modern",
        run: (endpoint) =>
            withClient(endpoint, { pin: MODERN }, async (client) => {
                await useAll(client, endpoint.signal);
                assert.equal(client.getNegotiatedProtocolVersion(), MODERN);
            }),
    },
    {
        name: "a client of the SDK 2.x that finds out finds 2026-07-28",
        era: "modern",
        run: (endpoint) =>
            withClient(endpoint, "auto", async (client) => {
                assert.equal(client.getNegotiatedProtocolVersion(), MODERN);
                await useAll(client, endpoint.signal);
            }),
    },
    {
        name: "a capability that the client lacks is named",
        era: "modern",
        needs: "requests of the server",
        async run(endpoint) {
            const tool = ["tools/call", call("test_missing_capability")] as const;
            const error = await isRefused(endpoint, 400, MISSING_CAPABILITY, ...tool);
            assert.deepEqual(error?.data, { requiredCapabilities: { sampling: {} } });
        },
    },
    {
        name: "the server hears of the capabilities that the client has, and of no other",
        era: "modern",
        needs: "requests of the server",
        async run(endpoint) {
            for (const capabilities of [{ sampling: {} }, { elicitation: {} }, ALL_CAPABILITIES]) {
                const meta = { [KEY.capabilities]: capabilities };
                const tool = call("test_input_required_result_capabilities");
                const asked = (await resultOf(endpoint, "tools/call", tool, meta))!.inputRequests as {
                    [key: string]: { method: string };
                };
                const kinds = new Set(Object.values(asked ?? {}).map(({ method }) => method.split("/")[0]));
                assert.deepEqual(kinds, new Set(Object.keys(capabilities)));
            }
        },
    },
    {
        name: "what the server asks is answered in a second round, with the state that it sent",
        era: "modern",
        needs: "requests of the server",
        async run(endpoint) {
            const meta = { [KEY.capabilities]: { elicitation: {} } };
            const tool = call("test_input_required_result_request_state");
            const first = (await resultOf(endpoint, "tools/call", tool, meta))!;
            assert.equal(first.resultType, "input_required");
            const { requestState } = first;
            const inputResponses = { confirm: { action: "accept", content: { ok: true } } };
            const second = await ask(endpoint, "tools/call", { ...tool, inputResponses, requestState }, { meta });
            assert.match(text(second.message), /state-ok/);
            const tampered = { ...tool, inputResponses, requestState: `${String(requestState)}x` };
            const third = await ask(endpoint, "tools/call", tampered, { meta });
            assert.equal(third.message.error?.code, INVALID_PARAMS);
        },
    },
    {
        name: "who listens hears of a change, under its own id, and of nothing else",
        era: "modern",
        needs: "subscriptions",
        async run(endpoint) {
            const id = "my subscription";
            const notifications = { promptsListChanged: true };
            const stream = await listen(endpoint, "subscriptions/listen", { notifications }, { id });
            try {
                const acknowledged = await stream.messages.waitFor(() => true);
                assert.equal(acknowledged.method, "notifications/subscriptions/acknowledged");
                await ask(endpoint, "tools/call", call("test_trigger_tool_change"));
                await ask(endpoint, "tools/call", call("test_trigger_prompt_change"));
                await stream.messages.waitFor((item) => item.method === "notifications/prompts/list_changed");
                for (const { method, params } of stream.messages.items) {
                    assert.notEqual(method, "notifications/tools/list_changed");
                    assert.equal((params?._meta as { [key: string]: unknown })[KEY.subscription], id);
                }
            } finally {
                stream.close();
            }
        },
    },
];
