/*
 * `cardea explain`: what would come of a call, and why; with and without a gateway that runs. What it says is what that
 * then does.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";

import { startControl, type Control } from "./lib/control.ts";
import { cardea, prepared } from "./lib/cli.ts";
import { edit } from "./lib/edit.ts";
import { startGateway, type Config } from "./lib/gateway.ts";
import { openSession } from "./lib/http.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";

interface Explanation {
    name: string;
    user?: string;
    groups: string[];
    groups_are_known: boolean;
    gateway_runs: boolean;
    edit_mode: boolean;
    verdict: "allowed" | "unknown" | "locked" | "refused";
    rule?: string;
    access: "read" | "write";
    limits: string[];
    steps: string[];
}

const FILE = `
[server.client_identification]
enabled = true
client_id.http_header = "x-client"
group_id.http_header = "x-group"
[server.client_identification.validation]
group_values = ["dev", "ops"]
[server.rate_limits]
global = { limit = 1000, interval = "1s" }
[mcp.servers.db]
cmd = ["true"]
deny = ["ops"]
[mcp.servers.db.rate_limits]
limit = 100
interval = "1m"
[mcp.servers.db.rate_limits.per_user]
limit = 10
interval = "1m"
[mcp.servers.db.rate_limits.per_user.groups.dev]
limit = 50
interval = "1m"
[mcp.servers.db.tools."a b"]
access = "read"
arguments.n = { max = 3 }
`;

async function explain(args: string[], from: string[]): Promise<Explanation> {
    const run = await cardea(["explain", "--json", ...args, ...from]);
    assert.equal(run.signal, null);
    const said = JSON.parse(run.stdout) as Explanation;
    assert.equal(run.code, said.verdict === "allowed" ? 0 : 1, run.stderr);
    return said;
}

describe("cardea explain", () => {
    let folder: string, from: string[];
    before(() => void (from = prepared((folder = temporaryFolder()), FILE)));
    after(() => removeFolder(folder));

    test("names each step, rule and limit", async () => {
        const said = await explain(["--as", "ann", "--group", "dev", "db__a b", '{"n":3}'], from);
        assert.equal(said.verdict, "allowed");
        assert.equal(said.user, "ann");
        assert.deepEqual(said.groups, ["dev"]);
        assert.equal(said.gateway_runs, false);
        assert.equal(said.access, "read");
        assert.deepEqual(said.limits, [
            "server.rate_limits.global allows 1000 requests in 1s",
            "mcp.servers.db.rate_limits allows 100 calls in 1m",
            "mcp.servers.db.rate_limits.per_user.groups.dev allows 50 calls in 1m",
        ]);
        const text = await cardea(["explain", "--as", "ann", "--group", "dev", "db__a b", '{"n":3}', ...from]);
        assert.equal(text.code, 0, text.stderr);
        assert.match(text.stdout, /^access: read, mcp\.servers\.db\.tools\."a b"\.access = "read"$/m);
        assert.match(text.stdout, /^counts for: mcp\.servers\.db\.rate_limits\.per_user\.groups\.dev allows 50/m);
        assert.match(text.stdout, /\nresult: allowed\n$/);
    });

    test("says what stands against it", async () => {
        for (const [args, verdict, rule, step] of [
            [["--group", "ops", "db__a b"], "unknown", "mcp.servers.db.deny", /caller is in it/],
            [["db__a b"], "unknown", "mcp.servers.db.deny", /groups are not known/],
            [["--group", "dev", "--group", "x", "db__a b"], "unknown", "mcp.servers.db.deny", /x is not in .*group_values/],
            [["--group", "dev", "db__a b", '{"n":4}'], "refused", undefined, /arguments\.n\.max; use at most 3/],
            [["--group", "dev", "db__a b", '{"N":1}'], "refused", undefined, /second spelling/],
            [["--group", "dev", "db__put"], "locked", "security.edit_mode", /cardea edit on/],
            [["--group", "dev", "--kind", "prompt", "db__put"], "allowed", undefined, /as every prompt/],
            [["--group", "dev", "gone__put"], "unknown", undefined, /no mcp\.servers\.gone/],
        ] as [string[], string, string | undefined, RegExp][]) {
            const said = await explain(args, from);
            assert.equal(said.verdict, verdict, args.join(" "));
            assert.equal(said.rule, rule, args.join(" "));
            assert.match(said.steps.join("\n"), step);
        }
    });

    test("refuses what it cannot understand", async () => {
        for (const args of [["put"], ["--kind", "verb", "db__put"], ["db__put", "[]"], ["db__put", "{"], []]) {
            const run = await cardea(["explain", ...args, ...from]);
            assert.equal(run.code, 2, args.join(" "));
            assert.equal(run.stdout, "");
            assert.match(run.stderr, /usage: cardea explain/);
        }
        const run = await cardea(["explain", "db__put", "-c", join(folder, "gone.toml")]);
        assert.equal(run.code, 78, run.stderr);
    });
});

describe("cardea explain beside a gateway that runs", () => {
    let control: Control;
    before(async () => void (control = await startControl()));
    after(() => control.close());

    test("goes by its edit mode and by what it has seen", async (t) => {
        const tool = (name: string, annotations?: object) => ({ name, inputSchema: { type: "object" }, annotations });
        const tools = [tool("look", { readOnlyHint: true }), tool("change"), tool("odd % name", { readOnlyHint: true })];
        const config: Config = {
            security: { trust_annotations: true, hide_denied: false },
            servers: { it: { cmd: control.command({ name: "explained", tools }) } },
        };
        const gateway = await startGateway({ config }, t);
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "it");
        const session = await openSession(gateway);
        await session.request("tools/list");
        const at = ["-c", join(gateway.folder, "cardea.toml"), "--data-dir", gateway.dataDir];
        const verdicts = async () => {
            const said = await Promise.all(tools.map(({ name }) => explain([`it__${name}`], at)));
            assert.ok(said.every(({ gateway_runs }) => gateway_runs));
            return said.map(({ verdict }) => verdict).join(" ");
        };
        const locked = async () =>
            ((await session.call("it__change")).result as { isError?: boolean } | undefined)?.isError === true;
        assert.equal(await verdicts(), "allowed locked allowed");
        assert.equal(await locked(), true);
        await edit(gateway, "on", "--minutes", "5", "--reason", "a test");
        assert.equal(await verdicts(), "allowed allowed allowed");
        await edit(gateway, "off");
        assert.equal(await verdicts(), "allowed locked allowed");
        assert.equal(await locked(), true);
    });
});
