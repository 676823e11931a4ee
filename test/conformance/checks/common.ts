/* What the checks of both eras share. */
import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport, type ClientOptions, type Progress } from "@modelcontextprotocol/client";

import { post, type Endpoint, type Rpc, type Stream } from "../lib/wire.ts";

/** What not every way to a server serves yet. */
export type Need = "requests of the server" | "subscriptions";

export interface OwnCheck {
    name: string;
    era: "legacy" | "modern";
    needs?: Need;
    run(endpoint: Endpoint): Promise<void>;
}

export const MISMATCH = -32020;
export const MISSING_CAPABILITY = -32021;
export const UNSUPPORTED_VERSION = -32022;
export const METHOD_NOT_FOUND = -32601;
export const INVALID_PARAMS = -32602;

export const origin = (endpoint: Endpoint, host = "127.0.0.1") => `http://${host}:${endpoint.port}`;
export const evil = "evil.example.com";

/** Real clients are asked with the same patience as requests by hand. */
export async function withClient(
    endpoint: Endpoint,
    mode: "legacy" | "auto" | { pin: string },
    use: (client: Client, transport: StreamableHTTPClientTransport) => Promise<void>,
    options: ClientOptions = {},
): Promise<void> {
    const client = new Client({ name: "own-checks", version: "1" }, { ...options, versionNegotiation: { mode } });
    const transport = new StreamableHTTPClientTransport(new URL(`${origin(endpoint, "localhost")}${endpoint.path}`), {
        requestInit: { signal: endpoint.signal },
    });
    try {
        await client.connect(transport, { signal: endpoint.signal });
        await use(client, transport);
        if (client.getProtocolEra() === "legacy") await transport.terminateSession();
    } finally {
        await client.close();
    }
}

/** What any client does. */
export async function useAll(client: Client, signal: AbortSignal): Promise<void> {
    const options = { signal };
    const { tools } = await client.listTools(undefined, options);
    assert.ok(tools.some((tool) => tool.name === "test_simple_text"));
    const simple = await client.callTool({ name: "test_simple_text" }, options);
    assert.deepEqual(simple.content, [{ type: "text", text: "This is a simple text response for testing." }]);
    const progress: Progress[] = [];
    const onprogress = (item: Progress) => progress.push(item);
    await client.callTool({ name: "test_tool_with_progress", arguments: {} }, { ...options, onprogress });
    assert.deepEqual(
        progress.slice(0, 2).map((item) => [item.progress, item.total]),
        [
            [0, 100],
            [50, 100],
        ],
    );
    const args = { region: "Zürich", priority: 42, urgent: true, note: "plain" };
    const mirrored = await client.callTool({ name: "test_x_mcp_header", arguments: args }, options);
    assert.deepEqual(mirrored.content, [{ type: "text", text: JSON.stringify(args) }]);
    const { prompts } = await client.listPrompts(undefined, options);
    assert.ok(prompts.some((prompt) => prompt.name === "test_simple_prompt"));
    const prompt = await client.getPrompt(
        { name: "test_prompt_with_arguments", arguments: { arg1: "a", arg2: "b" } },
        options,
    );
    assert.match(JSON.stringify(prompt.messages), /arg1='a', arg2='b'/);
    const read = await client.readResource({ uri: "test://template/7/data" }, options);
    assert.match(JSON.stringify(read.contents), /Data for ID: 7/);
    const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" } as const;
    const { completion } = await client.complete({ ref, argument: { name: "arg1", value: "par" } }, options);
    assert.deepEqual(completion.values, ["paris", "park", "party"]);
    const failed = await client.callTool({ name: "test_error_handling" }, options);
    assert.equal(failed.isError, true);
    await assert.rejects(client.readResource({ uri: "test://nothing" }, options), { code: INVALID_PARAMS });
}

export const isProgress = (token: string | number) => (message: Rpc) =>
    message.method === "notifications/progress" && message.params?.progressToken === token;

/** A call that reports progress and then holds: its progress must arrive while it does. */
export async function arrivesEarly(stream: Stream, token: string | number): Promise<void> {
    try {
        assert.equal(stream.status, 200);
        const { params } = await stream.messages.waitFor(isProgress(token));
        assert.equal(params?.progress, 1);
    } finally {
        stream.close();
    }
}

export function assertKeywords(message: Rpc): void {
    const tools = message.result?.tools as { name: string; inputSchema: { [key: string]: unknown } }[];
    const schema = tools.find((tool) => tool.name === "json_schema_2020_12_tool")?.inputSchema;
    assert.equal(schema?.$schema, "https://json-schema.org/draft/2020-12/schema");
    assert.equal((schema.$defs as { address: { $anchor?: string } }).address.$anchor, "addressDef");
    for (const key of ["allOf", "if", "then", "else", "additionalProperties"]) assert.ok(key in schema, key);
}

export async function refusesHosts(
    endpoint: Endpoint,
    body: unknown,
    headers: { [name: string]: string },
): Promise<void> {
    const cases: [status: number, headers: { [name: string]: string }][] = [
        [200, {}],
        [200, { Host: `localhost:${endpoint.port}` }],
        [200, { Origin: origin(endpoint, "localhost") }],
        [403, { Host: evil }],
        [403, { Host: `${evil}:${endpoint.port}` }],
        [403, { Origin: `http://${evil}` }],
        [403, { Host: evil, Origin: `http://${evil}` }],
    ];
    for (const [status, more] of cases) {
        const answer = await post(endpoint, body, { ...headers, ...more });
        assert.equal(answer.status, status, JSON.stringify(more));
    }
}
