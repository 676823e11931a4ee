/*
 * What is wrong in the Nexus Dashboard MCP server about who may do what, each as a test of its own: the numbers are those of
 * the list of weaknesses in the study of its source, of which these are the ones about access and read-only.
 */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { edit } from "./lib/edit.ts";
import { startGateway, type Gateway, type GatewayOptions, type Value } from "./lib/gateway.ts";
import { openSession, send } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { Tokens } from "./lib/principals.ts";
import { refusal, said } from "./lib/upstreams.ts";

type Table = { [key: string]: Value };

describe("dashboard", () => {
    let fixture: HttpFixture;
    let tokens: Tokens;
    before(async () => {
        const tools = ["list_vlans", "create_vlan", "delete_vlan"].map((name) => ({ name, inputSchema: { type: "object" } }));
        fixture = await startHttp({
            tools,
            on: (exchange) => {
                if (exchange.message.method !== "tools/call") return false;
                exchange.json(exchange.answer(`did ${exchange.message.params!.name as string}`));
                return true;
            },
        });
        tokens = new Tokens({ admin: ["admins"], operator: ["operators"], nobody: undefined });
    });
    after(() => fixture.close());

    async function start(
        t: TestContext,
        security: Table,
        servers: { [name: string]: Table },
        more: Partial<GatewayOptions> = {},
    ): Promise<Gateway> {
        const { url } = fixture;
        const named = Object.entries(servers).map(([name, own]) => [name, { url, share: "all", ...own }]);
        const config = { security, server: { auth: { tokens: tokens.table } }, servers: Object.fromEntries(named) };
        const gateway = await startGateway({ ...more, config }, t);
        for (const name of Object.keys(servers)) {
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
        }
        return gateway;
    }
    const who = (gateway: Gateway, name: string, path = "/mcp") => new ModernClient(tokens.as(gateway, name), path);
    const listed = async (client: ModernClient): Promise<string[]> =>
        ((await client.request("tools/list")).result!.tools as { name: string }[]).map(({ name }) => name).sort();
    const vlans: Table = { tools: { list_vlans: { access: "read" } } };

    test("1: anybody on the network can switch edit mode on", async (t) => {
        const gateway = await start(t, {}, { dc: vlans });
        const body = { edit_mode: true, command: "edit", set: "on" };
        for (const path of ["/edit", "/api/security/edit-mode", "/mcp/edit", "/admin/edit", "/ready", "/health"]) {
            for (const token of [false, gateway.token] as const) {
                for (const method of ["POST", "PUT"]) {
                    const { status } = await send(gateway, { method, path, token, body });
                    assert.ok(status >= 400 && status < 500, `${method} ${path}: ${status}`);
                }
            }
        }
        await refusal(who(gateway, "admin").call("dc__create_vlan"));
        const socket = statSync(join(gateway.dataDir, "control.sock"));
        assert.equal(socket.mode & 0o777, 0o600, "the switch is for the owner of the gateway");
        assert.equal(statSync(gateway.dataDir).mode & 0o077, 0);
    });

    test("2: the whitelist is stored, shown and never read", async (t) => {
        const gateway = await start(t, { edit_mode: true, whitelist: ["dc__create_vlan"] }, { dc: vlans });
        const client = who(gateway, "admin");
        assert.deepEqual(await listed(client), ["dc__create_vlan", "dc__list_vlans"]);
        assert.equal(await said(client.call("dc__create_vlan")), "did create_vlan");
        assert.match(await refusal(client.call("dc__delete_vlan")), /whitelist/);
        const session = await openSession(tokens.as(gateway, "admin"), "/mcp/dc");
        assert.match(await refusal(session.call("delete_vlan")), /whitelist/);
    });

    test("3: whoever has edit mode on has it on for everybody", async (t) => {
        const writes = { allow: ["admins"] };
        const gateway = await start(t, { edit_mode: true }, {
            dc: { tools: { list_vlans: { access: "read" }, create_vlan: writes, delete_vlan: writes } },
        });
        assert.equal(await said(who(gateway, "admin").call("dc__delete_vlan")), "did delete_vlan");
        for (const name of ["operator", "nobody"]) {
            const client = who(gateway, name);
            assert.deepEqual(await listed(client), ["dc__list_vlans"]);
            assert.equal((await client.call("dc__delete_vlan")).error?.code, -32602);
        }
    });

    test("4: any user gives itself access", async (t) => {
        const gateway = await start(t, { edit_mode: true }, { dc: { allow: ["admins"] }, lab: {} });
        const client = who(gateway, "operator");
        const claims = { groups: ["admins"], group: "admins", allow: ["operators"] };
        const names = new ModernClient(client.target, "/mcp", {
            meta: { ...claims, user: "admin" },
            headers: { "X-Groups": "admins", "X-Group-Id": "admins", "X-Client-Id": "admin", "X-User": "admin" },
        });
        for (const args of [{}, claims]) assert.equal((await names.call("dc__list_vlans", args)).error?.code, -32602);
        assert.ok((await listed(names)).every((name) => name.startsWith("lab__")));
    });

    test("5: access to a cluster is checked only when the model names it, and then another one is used", async (t) => {
        const gateway = await start(t, { edit_mode: true }, { dc: { allow: ["admins"] }, lab: {} });
        const client = who(gateway, "operator");
        const from = fixture.requests.items.length;
        for (const args of [{}, { cluster: "lab" }, { cluster_name: "lab", clusterName: "lab" }, { server: "lab" }]) {
            assert.equal((await client.call("dc__list_vlans", args)).error?.code, -32602);
            assert.equal((await client.call("list_vlans", args)).error?.code, -32602, "nor is there one by default");
        }
        assert.deepEqual(fixture.received("tools/call", from), []);
        // Who names another one in its arguments is still asking the one that it called.
        await said(client.call("lab__list_vlans", { cluster: "dc" }));
        assert.equal((await who(gateway, "operator", "/mcp/dc").ask("tools/list")).status, 404);
    });

    test("5: a user without a cluster is given the first one", async (t) => {
        const gateway = await start(t, { edit_mode: true }, { dc: { allow: ["admins"] }, lab: { allow: ["operators"] } });
        const client = who(gateway, "nobody");
        assert.deepEqual(await listed(client), []);
        for (const name of ["dc__list_vlans", "lab__list_vlans", "list_vlans"]) {
            assert.equal((await client.call(name)).error?.code, -32602);
        }
        assert.ok((await listed(who(gateway, "operator"))).every((name) => name.startsWith("lab__")));
        assert.ok((await listed(who(gateway, "admin"))).every((name) => name.startsWith("dc__")), "the second is as good as the first");
    });

    test("9: the token of the environment may do everything", async (t) => {
        const token = "0123456789abcdef".repeat(4);
        const env = { ...process.env, MCP_API_TOKEN: token };
        const gateway = await start(t, {}, { dc: { ...vlans, allow: ["admins"] }, lab: vlans, old: { deny: ["guests"] } }, { env });
        const client = new ModernClient({ port: gateway.port, token });
        assert.deepEqual(await listed(client), ["lab__list_vlans"]);
        assert.equal((await client.call("dc__list_vlans")).error?.code, -32602);
        assert.equal((await client.call("old__list_vlans")).error?.code, -32602, "its groups are not known");
        assert.match(await refusal(client.call("lab__create_vlan")), /edit mode/);
    });

    test("10: edit mode is off half a minute after it was switched off, process by process", async (t) => {
        const gateway = await start(t, {}, { dc: vlans });
        const client = who(gateway, "admin");
        const session = await openSession(tokens.as(gateway, "admin"));
        for (let round = 0; round < 3; round++) {
            await edit(gateway, "on", "--minutes", "5", "--reason", "a test");
            await said(session.call("dc__create_vlan"));
            const from = fixture.requests.items.length;
            await edit(gateway, "off");
            // Every one is a connection of its own: they are spread over the workers.
            const answers = await Promise.all(Array.from({ length: 30 }, () => client.call("dc__create_vlan")));
            assert.ok(answers.every(({ result }) => result!.isError === true));
            await refusal(session.call("dc__create_vlan"));
            assert.deepEqual(fixture.received("tools/call", from), []);
        }
    });
});
