/*
 * The client that the suite's client scenarios run: `node client.ts URL`, with the scenario's name, the revision and
 * what else it is to know in the environment. Made with the SDK 2.x; does what the scenario's description asks for.
 */
import {
    Client,
    ClientCredentialsProvider,
    PrivateKeyJwtProvider,
    StreamableHTTPClientTransport,
    type CallToolRequest,
    type OAuthClientProvider,
} from "@modelcontextprotocol/client";

const scenario = process.env.MCP_CONFORMANCE_SCENARIO ?? "";
const revision = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION ?? "2025-11-25";
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}") as {
    toolCalls?: CallToolRequest["params"][];
    client_id?: string;
    client_secret?: string;
    private_key_pem?: string;
    signing_algorithm?: string;
    /** through.ts has given them to the gateway */
    isOfGateway?: boolean;
};

const listAndCall = async (client: Client) => {
    await client.listTools();
    await client.callTool({ name: "test-tool", arguments: {} });
};

const scenarios: { [name: string]: (client: Client) => Promise<unknown> } = {
    initialize: (client) => client.listTools(),
    tools_call: async (client) => {
        await client.listTools();
        await client.callTool({ name: "add_numbers", arguments: { a: 5, b: 3 } });
    },
    "sse-retry": async (client) => {
        await client.listTools();
        await client.callTool({ name: "test_reconnection", arguments: {} });
    },
    "request-metadata": (client) => client.listTools(),
    "http-standard-headers": async (client) => {
        for (const { name } of (await client.listTools()).tools) await client.callTool({ name, arguments: {} });
        for (const { uri } of (await client.listResources()).resources) await client.readResource({ uri });
        for (const { name } of (await client.listPrompts()).prompts) await client.getPrompt({ name });
    },
    "http-custom-headers": async (client) => {
        await client.listTools();
        for (const call of context.toolCalls ?? []) await client.callTool(call);
    },
    "http-invalid-tool-headers": async (client) => {
        for (const { name } of (await client.listTools()).tools) {
            await client.callTool({ name, arguments: { region: "us-east1" } });
        }
    },
    "json-schema-ref-no-deref": (client) => client.listTools(),
    "json-schema-2020-12-preservation": async (client) => {
        const { tools } = await client.listTools();
        const schema = tools.find((tool) => tool.name === "json_schema_2020_12_tool")?.inputSchema;
        await client.callTool({ name: "json_schema_echo", arguments: { schema } });
    },
    "elicitation-sep1034-client-defaults": async (client) => {
        await client.listTools();
        await client.callTool({ name: "test_client_elicitation_defaults", arguments: {} });
    },
    "sep-2322-client-request-state": async (client) => {
        await client.listTools();
        for (const name of ["echo_state", "unrelated", "no_state", "no_result_type"]) {
            // The last one answers as a modern server must not; the check is on what the client sent.
            await client.callTool({ name: `test_mrtr_${name}`, arguments: {} }).catch(() => {});
        }
    },
    "auth/client-credentials-jwt": listAndCall,
    "auth/client-credentials-basic": listAndCall,
    // What the server says about itself must not be believed, so there is nothing to call.
    "auth/resource-mismatch": listAndCall,
    "auth/metadata-issuer-mismatch": listAndCall,
};

/** What it proves itself with where no gateway does that. */
function provider(): OAuthClientProvider | undefined {
    const { client_id: clientId = "a client", client_secret: clientSecret = "a secret", isOfGateway } = context;
    const { private_key_pem: privateKey, signing_algorithm: algorithm = "ES256" } = context;
    if (!scenario.startsWith("auth/") || isOfGateway === true) return undefined;
    return privateKey === undefined
        ? new ClientCredentialsProvider({ clientId, clientSecret })
        : new PrivateKeyJwtProvider({ clientId, privateKey, algorithm });
}

const run = scenarios[scenario];
if (run === undefined) throw new Error(`the scenario ${scenario} is not known here`);
const asks = scenario.startsWith("elicitation-") || scenario.startsWith("sep-2322-");
const client = new Client(
    { name: "cardea-conformance-client", version: "1.0.0" },
    {
        capabilities: asks ? { elicitation: { form: { applyDefaults: true } } } : {},
        versionNegotiation: { mode: revision >= "2026-07-28" ? { pin: revision } : "legacy" },
    },
);
if (asks) {
    client.setRequestHandler("elicitation/create", ({ params }) => {
        const { requestedSchema } = params as { requestedSchema?: { properties?: object } };
        // The defaults that the first scenario wants are the SDK's to fill in.
        const content: { [name: string]: boolean } = {};
        if ("confirmed" in (requestedSchema?.properties ?? {})) content.confirmed = true;
        return { action: "accept", content };
    });
}
const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]!), { authProvider: provider() });
await client.connect(transport);
await run(client);
if (revision < "2026-07-28") await transport.terminateSession().catch(() => {});
await client.close();
