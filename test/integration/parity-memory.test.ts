/* What the reference server "memory" gives directly, it gives through the gateway. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";

import { startControl, type Control } from "./lib/control.ts";
import { ours, packaged, parity } from "./lib/parity.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";

describe("memory", () => {
    const folder = temporaryFolder();
    const file = join(folder, "graph.jsonl");
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    const server = { cmd: packaged("server-memory"), env: { MEMORY_FILE_PATH: file } };
    const { same } = parity("memory", "read_graph", server, () => ({
        other: { cmd: control.command({ name: "other" }) },
    }));
    after(async () => {
        await control.close();
        removeFolder(folder);
    });

    /** The calls in order, on an empty graph. */
    const sequence = (...calls: [name: string, args: Record<string, unknown>][]) =>
        same(async ({ client, named }) => {
            rmSync(file, { force: true });
            const answers = [];
            for (const [name, args] of calls)
                answers.push(await client.callTool({ name: named(name), arguments: args }));
            return answers;
        });

    const entities = [
        { name: "Ada", entityType: "person", observations: ["wrote notes", "zählt 😀"] },
        { name: "Engine", entityType: "machine", observations: [] },
    ];
    const relations = [{ from: "Ada", to: "Engine", relationType: "programs" }];

    test("tools/list, with output schemas", async () => {
        const tools = await same(async (side) => {
            const { tools: listed, ...rest } = await side.client.listTools();
            return { tools: ours(side, listed), ...rest };
        });
        assert.equal(tools.tools.length, 9);
        assert.ok(tools.tools.every((tool) => tool.outputSchema !== undefined));
    });

    test("resources/list and read", async () => {
        const uri = "memory://knowledge-graph";
        const answer = await same(async ({ client }) => {
            rmSync(file, { force: true });
            return { list: await client.listResources(), graph: await client.readResource({ uri }) };
        });
        assert.equal(answer.list.resources[0]!.uri, uri);
    });

    test("an empty graph", async () => {
        const [graph] = await sequence(["read_graph", {}]);
        assert.deepEqual(graph!.structuredContent, { entities: [], relations: [] });
    });

    test("create, search, open, delete", async () => {
        const answers = await sequence(
            ["create_entities", { entities }],
            ["create_relations", { relations }],
            ["create_relations", { relations }],
            ["add_observations", { observations: [{ entityName: "Engine", contents: ["brass"] }] }],
            ["search_nodes", { query: "brass" }],
            ["open_nodes", { names: ["Ada"] }],
            ["delete_observations", { deletions: [{ entityName: "Ada", observations: ["wrote notes"] }] }],
            ["delete_relations", { relations }],
            ["delete_entities", { entityNames: ["Engine"] }],
            ["read_graph", {}],
        );
        assert.deepEqual(answers.at(-1)!.structuredContent, {
            entities: [{ name: "Ada", entityType: "person", observations: ["zählt 😀"] }],
            relations: [],
        });
    });

    test("errors are the server's own", async () => {
        const answers = await sequence(
            ["add_observations", { observations: [{ entityName: "Nobody", contents: ["x"] }] }],
            ["create_entities", { entities: "none" }],
            ["search_nodes", {}],
        );
        assert.ok(answers.every((answer) => answer.isError === true));
        assert.match(JSON.stringify(answers[0]), /Nobody not found/);
    });

    test("what one session wrote another reads, for the server keeps it", async () => {
        rmSync(file, { force: true });
        let first = true;
        await same(async ({ client, named }) => {
            if (first) await client.callTool({ name: named("create_entities"), arguments: { entities } });
            first = false;
            return client.callTool({ name: named("read_graph"), arguments: {} });
        });
    });
});
