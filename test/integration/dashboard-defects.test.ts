/*
 * What is wrong in the Nexus Dashboard MCP server on the way of a call, each as a test of its own: who may call what, whom
 * answers reach, what is spoken. The numbers are those of the study of its source (lib/defects.ts); what is about its
 * console, its store and its trail is in dashboard-defects-console.test.ts.
 */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, type TestContext } from "node:test";

import { startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { defect } from "./lib/defects.ts";
import { edit } from "./lib/edit.ts";
import { startGateway, type Gateway, type GatewayOptions, type Value } from "./lib/gateway.ts";
import { initialize, openSession, send } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { Tokens } from "./lib/principals.ts";
import { Authority } from "./lib/tls.ts";
import { downReason, refusal, said } from "./lib/upstreams.ts";

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

    defect(1, "anybody on the network can switch edit mode on", async (t) => {
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

    defect(2, "the whitelist is stored, shown and never read", async (t) => {
        const gateway = await start(t, { edit_mode: true, whitelist: ["dc__create_vlan"] }, { dc: vlans });
        const client = who(gateway, "admin");
        assert.deepEqual(await listed(client), ["dc__create_vlan", "dc__list_vlans"]);
        assert.equal(await said(client.call("dc__create_vlan")), "did create_vlan");
        assert.match(await refusal(client.call("dc__delete_vlan")), /whitelist/);
        const session = await openSession(tokens.as(gateway, "admin"), "/mcp/dc");
        assert.match(await refusal(session.call("delete_vlan")), /whitelist/);
    });

    defect(3, "whoever has edit mode on has it on for everybody", async (t) => {
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

    defect(4, "any user gives itself access", async (t) => {
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

    defect(5, "access to a cluster is checked only when the model names it, and then another one is used", async (t) => {
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

    defect(5, "a user without a cluster is given the first one", async (t) => {
        const gateway = await start(t, { edit_mode: true }, { dc: { allow: ["admins"] }, lab: { allow: ["operators"] } });
        const client = who(gateway, "nobody");
        assert.deepEqual(await listed(client), []);
        for (const name of ["dc__list_vlans", "lab__list_vlans", "list_vlans"]) {
            assert.equal((await client.call(name)).error?.code, -32602);
        }
        assert.ok((await listed(who(gateway, "operator"))).every((name) => name.startsWith("lab__")));
        assert.ok((await listed(who(gateway, "admin"))).every((name) => name.startsWith("dc__")), "the second is as good as the first");
    });

    defect(9, "the token of the environment may do everything", async (t) => {
        const token = "0123456789abcdef".repeat(4);
        const env = { ...process.env, MCP_API_TOKEN: token };
        const gateway = await start(t, {}, { dc: { ...vlans, allow: ["admins"] }, lab: vlans, old: { deny: ["guests"] } }, { env });
        const client = new ModernClient({ port: gateway.port, token });
        assert.deepEqual(await listed(client), ["lab__list_vlans"]);
        assert.equal((await client.call("dc__list_vlans")).error?.code, -32602);
        assert.equal((await client.call("old__list_vlans")).error?.code, -32602, "its groups are not known");
        assert.match(await refusal(client.call("lab__create_vlan")), /edit mode/);
    });

    defect(10, "edit mode is off half a minute after it was switched off, process by process", async (t) => {
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

    defect(7, "an answer goes to everybody who listens", async (t) => {
        const gateway = await start(t, { edit_mode: true }, { dc: vlans });
        const sessions = [];
        for (const name of ["admin", "operator"]) sessions.push(await openSession(tokens.as(gateway, name)));
        const streams = await Promise.all(sessions.map((session) => session.stream()));
        assert.deepEqual(streams.map(({ status }) => status), [200, 200]);
        const marks = await Promise.all(sessions.map(async (session, i) => {
            const answer = await session.call("dc__list_vlans", { mark: `of ${i}` }, `request-${i}`);
            return answer.id;
        }));
        assert.deepEqual(marks, ["request-0", "request-1"]);
        // Somebody else's session is none, whoever knows its id.
        const stolen = await sessions[0]!.send({ token: tokens.value.operator!, body: { jsonrpc: "2.0", id: 1, method: "tools/list" } });
        assert.equal(stolen.status, 404, stolen.text);
        for (const stream of streams) {
            assert.ok(stream.messages.items.every((message) => message.id === undefined), JSON.stringify(stream.messages.items));
            stream.close();
        }
    });

    defect(14, "the certificate of a server is not looked at", async (t) => {
        const own = new Authority();
        const secure = await startHttp({ name: "secure", tls: own.sign("IP:127.0.0.1") }, t);
        const servers = { bare: { url: secure.url }, told: { url: secure.url, tls: { ca_bundle: own.file } } };
        const gateway = await startGateway({ config: { servers } }, t);
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "told");
        assert.match(await downReason(gateway, "bare"), /certificate/);
    });

    defect(26, "a write that fails is sent again, and again", async (t) => {
        let n = 0;
        const broken = await startHttp({
            tools: [{ name: "create_vlan", inputSchema: { type: "object" } }],
            on: (exchange) => {
                if (exchange.message.method !== "tools/call") return false;
                n++;
                exchange.socket.destroy();
                return true;
            },
        }, t);
        const gateway = await startGateway({ config: { servers: { dc: { url: broken.url, share: "all" } } } }, t);
        await gateway.waitForLog((entry) => entry.message === "ready");
        const answer = await new ModernClient(gateway).call("dc__create_vlan");
        assert.ok(answer.error !== undefined || answer.result!.isError === true, JSON.stringify(answer));
        assert.equal(n, 1);
    });

    defect(27, "one revision, whatever the client says; words of its own for ping, notifications and refusals", async (t) => {
        const gateway = await start(t, {}, { dc: vlans });
        for (const [asked, answered] of [["2025-03-26", "2025-03-26"], ["2025-06-18", "2025-06-18"], ["2025-11-25", "2025-11-25"], ["1999-01-01", "2025-11-25"]] as const) {
            const { messages } = await send(gateway, { body: initialize(asked) });
            assert.equal(messages[0]!.result!.protocolVersion, answered, JSON.stringify(messages));
        }
        const session = await openSession(gateway);
        assert.deepEqual((await session.request("ping")).result, {});
        assert.equal((await session.notify("notifications/roots/list_changed")).status, 202);
        const refused = await session.call("dc__create_vlan");
        assert.equal(refused.result!.isError, true, "what a model may not do it is told as the result of its call");
        const unknown = await session.call("dc__no_such_tool");
        assert.equal(unknown.error!.code, -32602);
    });

    defect(32, "nothing is limited", async (t) => {
        const config = { server: { rate_limits: { per_ip: { limit: 3, interval: "1h" } } }, servers: { dc: { url: fixture.url } } };
        const gateway = await startGateway({ config }, t);
        const statuses: number[] = [];
        for (let i = 0; i < 6; i++) statuses.push((await new ModernClient(gateway).ask("server/discover")).status);
        assert.deepEqual(statuses, [200, 200, 200, 429, 429, 429]);
    });
});
