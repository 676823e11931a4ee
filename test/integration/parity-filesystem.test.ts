/* What the reference server "filesystem" gives directly, it gives through the gateway. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";

import { startControl, type Control } from "./lib/control.ts";
import { ours, packaged, parity } from "./lib/parity.ts";
import { removeFolder, temporaryFolder } from "./lib/temp.ts";

const LARGE = Array.from(
    { length: 36_000 },
    (_, index) => `line ${index}: "quoted" \\ tab\t ü 漢字 😀 ${"x".repeat(20)}`,
).join("\n");
const PNG = Buffer.from(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "base64",
);

describe("filesystem", () => {
    const root = temporaryFolder();
    let control: Control;

    /** The same files before every check. */
    const reset = () => {
        for (const name of ["made", "moved.txt"]) rmSync(join(root, name), { recursive: true, force: true });
        mkdirSync(join(root, "folder", "inner"), { recursive: true });
        writeFileSync(join(root, "a.txt"), "one\ntwo\nthree\nfour\n");
        writeFileSync(join(root, "folder", "b.txt"), "b in a folder");
        writeFileSync(join(root, "folder", "inner", "c.md"), "# c\n");
        writeFileSync(join(root, "large.txt"), LARGE);
        writeFileSync(join(root, "dot.png"), PNG);
    };

    before(async () => {
        control = await startControl();
        reset();
    });
    const { same } = parity("filesystem", "read_file", { cmd: packaged("server-filesystem", root) }, () => ({
        other: { cmd: control.command({ name: "other" }) },
    }));
    after(async () => {
        await control.close();
        removeFolder(root);
    });

    const call = (name: string, args: Record<string, unknown>) =>
        same(async ({ client, named }) => {
            reset();
            return client.callTool({ name: named(name), arguments: args });
        });
    const text = (answer: unknown) => (answer as { content: { text: string }[] }).content[0]!.text;

    test("tools/list", async () => {
        const tools = await same(async (side) => {
            const { tools: listed, ...rest } = await side.client.listTools();
            return { tools: ours(side, listed), ...rest };
        });
        assert.ok(tools.tools.length >= 12);
        assert.ok(tools.tools.every((tool) => tool.annotations !== undefined));
    });

    const path = (name: string) => join(root, name);
    const calls: { name: string; args: Record<string, unknown>; expect?: RegExp; wrong?: true }[] = [
        { name: "list_allowed_directories", args: {}, expect: /cardea-test-/ },
        { name: "read_text_file", args: { path: path("a.txt") }, expect: /^one\ntwo\nthree\nfour\n$/ },
        { name: "read_file", args: { path: path("a.txt") }, expect: /^one/ },
        { name: "read_text_file", args: { path: path("a.txt"), head: 2 }, expect: /^one\ntwo$/ },
        { name: "read_text_file", args: { path: path("a.txt"), tail: 2 }, expect: /four/ },
        { name: "read_text_file", args: { path: path("a.txt"), head: 1, tail: 1 }, wrong: true },
        {
            name: "read_multiple_files",
            args: { paths: [path("a.txt"), path("none"), path("folder/b.txt")] },
            expect: /b in a folder/,
        },
        { name: "list_directory", args: { path: path("folder") }, expect: /\[FILE\] b\.txt/ },
        { name: "list_directory_with_sizes", args: { path: root, sortBy: "size" }, expect: /large\.txt/ },
        { name: "directory_tree", args: { path: root }, expect: /"inner"/ },
        { name: "search_files", args: { path: root, pattern: "**/*.md" }, expect: /c\.md/ },
        { name: "write_file", args: { path: path("moved.txt"), content: "new" }, expect: /moved\.txt/ },
        {
            name: "edit_file",
            args: { path: path("a.txt"), edits: [{ oldText: "two", newText: "zwei" }], dryRun: true },
            expect: /\+zwei/,
        },
        { name: "edit_file", args: { path: path("a.txt"), edits: [{ oldText: "absent", newText: "x" }] }, wrong: true },
        { name: "create_directory", args: { path: path("made/deep") }, expect: /made/ },
        { name: "move_file", args: { source: path("a.txt"), destination: path("moved.txt") }, expect: /moved\.txt/ },
        // the server's own refusals
        { name: "read_text_file", args: { path: path("none") }, wrong: true },
        { name: "read_text_file", args: { path: "/etc/passwd" }, wrong: true, expect: /denied/i },
        { name: "read_text_file", args: { path: join(root, "..", "..", "etc", "passwd") }, wrong: true },
        { name: "read_text_file", args: {}, wrong: true },
    ];
    for (const { name, args, expect, wrong } of calls) {
        test(`${name} ${JSON.stringify(args).replaceAll(root, "")}`, async () => {
            const answer = await call(name, args);
            assert.equal(answer.isError ?? false, wrong ?? false, text(answer));
            if (expect !== undefined) assert.match(text(answer), expect);
        });
    }

    test("get_file_info", async () => {
        const answer = await same(async ({ client, named }) => {
            const result = await client.callTool({
                name: named("get_file_info"),
                arguments: { path: path("folder/b.txt") },
            });
            const still = (value: string) => value.replace(/^(created|modified|accessed): .*$/gm, "$1: TIME");
            return JSON.parse(JSON.stringify(result), (key, value) =>
                key === "text" || (key === "content" && typeof value === "string") ? still(value) : value,
            );
        });
        assert.match(text(answer), /size: 13/);
    });

    test("an image arrives byte for byte", async () => {
        const answer = await call("read_media_file", { path: path("dot.png") });
        assert.equal((answer.content as { data: string }[])[0]!.data, PNG.toString("base64"));
    });

    test("a file of more than 2 MiB arrives byte for byte", async () => {
        const answer = await call("read_text_file", { path: path("large.txt") });
        assert.ok(Buffer.byteLength(LARGE) > 2 * 1024 * 1024, String(Buffer.byteLength(LARGE)));
        assert.ok(text(answer) === LARGE);
    });

    test("2 MiB written and read back are the same", async () => {
        const content = LARGE.slice(0, 1_700_000);
        const answer = await same(async ({ client, named }) => {
            reset();
            await client.callTool({ name: named("write_file"), arguments: { path: path("moved.txt"), content } });
            return client.callTool({ name: named("read_text_file"), arguments: { path: path("moved.txt") } });
        });
        assert.ok(text(answer) === content);
    });

    test("a hundred calls at once", async () => {
        await same(async ({ client, named }) => {
            const one = (index: number) =>
                client.callTool({
                    name: named("read_text_file"),
                    arguments: { path: path("a.txt"), head: (index % 4) + 1 },
                });
            return Promise.all(Array.from({ length: 100 }, (_, index) => one(index)));
        });
    });
});
