/* Clients that nobody here wrote: mcp-remote and the official inspector's command line. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

import { startGateway, type Gateway } from "./lib/gateway.ts";
import { served } from "./lib/http.ts";
import { packaged } from "./lib/parity.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { within } from "./lib/wait.ts";

const program = (path: string) => fileURLToPath(new URL(`./node_modules/${path}`, import.meta.url));

describe("clients", () => {
    let gateway: Gateway;
    const home = temporaryFolder();
    before(async () => {
        const files = temporaryFolder();
        gateway = await startGateway({
            config: {
                servers: {
                    everything: { cmd: packaged("server-everything") },
                    files: { cmd: packaged("server-filesystem", files) },
                },
            },
        });
        await served(gateway, "everything__echo", "files__read_file");
    });
    after(async () => {
        await gateway?.stop();
        removeFolder(home);
    });

    const environment = () => ({
        PATH: process.env.PATH!,
        HOME: home,
        MCP_REMOTE_CONFIG_DIR: home,
        MCP_INSPECTOR_SECRET_STORE: "memory",
    });

    describe("mcp-remote", () => {
        const remote = async (url: string, token: string, run: (client: Client) => Promise<void>) => {
            const args = [url, "--allow-http", "--transport", "http-only", "--header", "Authorization:${AUTH}"];
            const client = new Client({ name: "behind-mcp-remote", version: "1" });
            const transport = new StdioClientTransport({
                command: process.execPath,
                args: [program("mcp-remote/dist/proxy.js"), ...args],
                env: { ...environment(), AUTH: `Bearer ${token}` },
                stderr: "ignore",
            });
            await within(client.connect(transport), "mcp-remote connects");
            try {
                await run(client);
            } finally {
                await client.close();
            }
        };

        test("a client that knows only stdio reaches all upstreams", async () => {
            await remote(gateway.url, gateway.token, async (client) => {
                const { tools } = await client.listTools();
                assert.ok(tools.some((tool) => tool.name === "everything__echo"));
                assert.ok(tools.some((tool) => tool.name === "files__read_text_file"));
                const answer = await client.callTool({
                    name: "everything__echo",
                    arguments: { message: "through two" },
                });
                assert.deepEqual(answer.content, [{ type: "text", text: "Echo: through two" }]);
                const prompt = await client.getPrompt({ name: "everything__args-prompt", arguments: { city: "Rome" } });
                assert.match(JSON.stringify(prompt), /Rome/);
                const { contents } = await client.readResource({ uri: "demo://resource/dynamic/text/3" });
                assert.match(JSON.stringify(contents), /Resource 3/);
                const progress: number[] = [];
                await client.callTool(
                    { name: "everything__trigger-long-running-operation", arguments: { duration: 0.3, steps: 3 } },
                    undefined,
                    {
                        onprogress: (item) => progress.push(item.progress),
                    },
                );
                assert.deepEqual(progress.slice(0, 2), [1, 2]);
            });
        });

        test("and one upstream by its own names", async () => {
            await remote(`${gateway.url}/everything`, gateway.token, async (client) => {
                const answer = await client.callTool({ name: "get-sum", arguments: { a: 2, b: 3 } });
                assert.match(JSON.stringify(answer.content), /is 5/);
            });
        });
    });

    describe("the inspector's command line", () => {
        const inspect = async (args: string[], token = gateway.token) => {
            const child = spawn(
                process.execPath,
                [
                    program("@modelcontextprotocol/inspector/clients/launcher/build/index.js"),
                    ...[
                        "--cli",
                        gateway.url,
                        "--transport",
                        "http",
                        "--header",
                        `Authorization: Bearer ${token}`,
                        ...args,
                    ],
                ],
                { env: environment(), stdio: ["ignore", "pipe", "pipe"] },
            );
            let [stdout, stderr] = ["", ""];
            child.stdout.on("data", (chunk) => (stdout += chunk));
            child.stderr.on("data", (chunk) => (stderr += chunk));
            const code = await within(
                new Promise<number | null>((resolve) => child.once("close", resolve)),
                () => `the inspector ends; ${stdout} ${stderr}`,
            );
            return { code, stdout, stderr };
        };
        const good = async (...args: string[]) => {
            const { code, stdout, stderr } = await inspect(args);
            assert.equal(code, 0, stdout + stderr);
            return JSON.parse(stdout);
        };

        test("tools/list", async () => {
            const { tools } = await good("--method", "tools/list");
            assert.ok(tools.some((tool: { name: string }) => tool.name === "everything__echo"));
            assert.ok(tools.some((tool: { name: string }) => tool.name === "files__write_file"));
        });

        test("tools/call", async () => {
            const answer = await good(
                "--method",
                "tools/call",
                "--tool-name",
                "everything__echo",
                "--tool-arg",
                "message=hi",
            );
            assert.deepEqual(answer.content, [{ type: "text", text: "Echo: hi" }]);
        });

        test("prompts and resources", async () => {
            const { prompts } = await good("--method", "prompts/list");
            assert.ok(prompts.some((prompt: { name: string }) => prompt.name === "everything__simple-prompt"));
            const { resources } = await good("--method", "resources/list");
            assert.ok(resources.some((resource: { uri: string }) => resource.uri.startsWith("demo://")));
            const { resourceTemplates } = await good("--method", "resources/templates/list");
            assert.equal(resourceTemplates.length, 2);
        });

        test("a wrong token is refused", async () => {
            const { code, stdout } = await inspect(["--method", "tools/list"], "wrong");
            assert.notEqual(code, 0);
            assert.ok(!stdout.includes("everything__echo"));
        });
    });
});
