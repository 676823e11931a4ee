/* `cardea serve --stdio`: one client on standard input and output, and nothing that listens. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

import { cardea, prepared } from "./lib/cli.ts";
import { startControl, type Control } from "./lib/control.ts";
import { binary, type Config } from "./lib/gateway.ts";
import { text } from "./lib/http.ts";
import { packaged } from "./lib/parity.ts";
import { StdioClient } from "./lib/stdio-client.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";
import { until, within } from "./lib/wait.ts";

/** Sockets of the process that wait for somebody to connect by TCP. */
function listening(pid: number): string[] {
    const inodes = new Set(
        readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
            try {
                return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
            } catch {
                return [];
            }
        }),
    );
    return ["tcp", "tcp6"].flatMap((table) =>
        readFileSync(`/proc/${pid}/net/${table}`, "utf8")
            .split("\n")
            .map((line) => line.trim().split(/\s+/))
            .filter((columns) => columns[3] === "0A" && inodes.has(`socket:[${columns[9]}]`))
            .map((columns) => columns[1]!),
    );
}

describe("cardea serve --stdio", () => {
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    after(async () => {
        await control.close();
    });

    const options = (t: TestContext, config: Partial<Config> = {}): string[] => {
        const folder = temporaryFolder();
        t.after(() => removeFolder(folder));
        const servers = { one: { cmd: control.command({ name: "one" }) } };
        return ["serve", "--stdio", ...prepared(folder, { servers, ...config })];
    };

    test("the SDK's client: tools, calls, progress", async (t) => {
        const client = new Client({ name: "stdio", version: "1" });
        const args = options(t, { servers: { all: { cmd: packaged("server-everything") } } });
        const env = process.env as Record<string, string>;
        const transport = new StdioClientTransport({ command: binary(), args, env, stderr: "ignore" });
        await within(client.connect(transport), "the client connects");
        try {
            await until(async () => (await client.listTools()).tools.some((tool) => tool.name === "all__echo"), "tools");
            const answer = await client.callTool({ name: "all__echo", arguments: { message: "inside" } });
            assert.deepEqual(answer.content, [{ type: "text", text: "Echo: inside" }]);
        } finally {
            await client.close();
        }
    });

    test("both eras; nothing listens; it ends with its input, and with 0", async (t) => {
        const client = new StdioClient(options(t, { server: { tls: { names: ["localhost"] }, listen_address: "0.0.0.0:1" } }));
        await client.initialize();
        assert.equal(text(await client.call("one__echo", { text: "legacy" })), "legacy");
        const params = { name: "one__echo", arguments: { text: "modern" } };
        assert.equal(text(await client.modern("tools/call", params)), "modern");
        assert.deepEqual(listening(client.process.pid!), []);
        assert.deepEqual(await client.close(), { code: 0, signal: null });
    });

    test("the same phases: what is locked, what is too often, what is recorded", async (t) => {
        const args = options(t, {
            security: {},
            server: { csrf: { enabled: true } },
            servers: { one: { cmd: control.command({ name: "one" }), tools: { echo: { access: "read" } } } },
        });
        const client = new StdioClient(args);
        await client.initialize();
        assert.equal(text(await client.call("one__echo", { text: "reads" })), "reads");
        const refused = await client.call("one__crash");
        assert.equal(refused.result?.isError, true);
        assert.match(text(refused), /edit mode/i);
        assert.equal((await client.close()).code, 0);
        const dataDir = args[args.indexOf("--data-dir") + 1]!;
        // The index may have ended before the trail: nobody fills it now.
        assert.equal((await cardea(["audit", "reindex", "--dir", join(dataDir, "audit")])).code, 0);
        const run = await cardea(["audit", "list", "--dir", join(dataDir, "audit")]);
        assert.match(run.stdout, /one__crash|crash/);
        assert.match(run.stdout, /local/);
    });

    test("what a client is answered that has closed its side, and files in the place of pipes", async (t) => {
        const lines = [
            { jsonrpc: "2.0", id: 1, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "p", version: "1" } } },
            { jsonrpc: "2.0", method: "notifications/initialized" },
            { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "one__echo", arguments: { text: "last" } } },
        ];
        const run = await cardea(options(t), { input: lines.map((line) => `${JSON.stringify(line)}\n`).join("") });
        assert.equal(run.code, 0, run.stderr);
        const messages = run.stdout.trim().split("\n").map((line) => JSON.parse(line) as { id?: number });
        assert.deepEqual(messages.filter((message) => message.id !== undefined).map((message) => message.id), [1, 2]);
        const empty = await cardea(options(t)); // /dev/null
        assert.equal(empty.code, 0, empty.stderr);
        assert.equal(empty.stdout, "");
    });

    test("SIGTERM ends it, too, and its servers with it", async (t) => {
        const client = new StdioClient(options(t));
        await client.initialize();
        const { pid } = JSON.parse(text(await client.call("one__whoami"))) as { pid: number };
        const fixture = await control.starts.waitFor((process) => process.start.pid === pid);
        client.process.kill("SIGTERM");
        assert.deepEqual(await within(client.exited, "it ends"), { code: 0, signal: null });
        await fixture.isGone();
    });

    test("a second one in the same data directory is told what to do", async (t) => {
        const args = options(t);
        const client = new StdioClient(args);
        await client.initialize();
        const run = await cardea(args, { input: "" });
        assert.equal(run.code, 1);
        assert.equal(run.stdout, "");
        assert.match(run.stderr, /--data-dir/);
        const lost = await cardea(["connect", "--data-dir", args[args.indexOf("--data-dir") + 1]!], { input: "" });
        assert.match(lost.stderr, /cannot be reached by others/);
        await client.close();
    });
});
