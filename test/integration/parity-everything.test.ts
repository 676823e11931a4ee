/* What the reference server "everything" gives directly, it gives through the gateway. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ResultSchema as anything } from "@modelcontextprotocol/sdk/types.js";

import { failure, progressOf } from "./lib/clients.ts";
import { startControl, type Control } from "./lib/control.ts";
import { ours, packaged, parity, type Side } from "./lib/parity.ts";
import { until } from "./lib/wait.ts";

/** The server writes the time of day into what it makes up. */
function timeless<T>(value: T): T {
    const text = (item: string) => item.replace(/created at .*$/, "created at TIME");
    return JSON.parse(JSON.stringify(value), (key, item: unknown) => {
        if (key === "text") return text(item as string);
        if (key === "blob") return text(Buffer.from(item as string, "base64").toString("utf8"));
        return item;
    }) as T;
}

describe("everything", () => {
    let control: Control;
    before(async () => {
        control = await startControl();
    });
    const { same } = parity("everything", "echo", { cmd: packaged("server-everything") }, () => ({
        "a-other": { cmd: control.command({ name: "other", prompts: [{ name: "simple-prompt" }] }) },
    }));
    after(async () => {
        await control.close();
    });

    const call = (name: string, args?: Record<string, unknown>) =>
        same(async ({ client, named }) => timeless(await client.callTool({ name: named(name), arguments: args })));

    test("the capabilities that are served", async () => {
        await same(async ({ client }) => {
            const capabilities = client.getServerCapabilities()!;
            return {
                tools: capabilities.tools,
                prompts: capabilities.prompts,
                resources: capabilities.resources,
                logging: capabilities.logging,
                completions: capabilities.completions,
                tasks: capabilities.tasks,
            };
        });
    });

    test("ping", async () => {
        await same(async ({ client }) => client.ping());
    });

    test("tools/list", async () => {
        const tools = await same(async (side) => {
            const { tools: listed, ...rest } = await side.client.listTools();
            return { tools: ours(side, listed), ...rest };
        });
        assert.ok(tools.tools.length >= 10);
        assert.ok(
            tools.tools.some((tool) => tool.name === "get-structured-content" && tool.outputSchema !== undefined),
        );
    });

    test("prompts/list", async () => {
        const prompts = await same(async (side) => {
            const { prompts: listed, ...rest } = await side.client.listPrompts();
            return { prompts: ours(side, listed), ...rest };
        });
        assert.ok(prompts.prompts.length >= 4);
    });

    test("resources/list and resources/templates/list", async () => {
        const answer = await same(async ({ client }) => {
            const { resources, ...rest } = await client.listResources();
            // what another check registered for its session is not part of this
            const lasting = resources.filter((resource) => !resource.uri.startsWith("demo://resource/session/"));
            return { resources: lasting, rest, templates: await client.listResourceTemplates() };
        });
        assert.ok(answer.resources.length >= 5);
        assert.equal(answer.templates.resourceTemplates.length, 2);
    });

    test("a merged list has the other upstream's entries too, in the order of the file", async () => {
        await same(async ({ client, kind }) => {
            if (kind !== "all upstreams") return;
            const names = (await client.listTools()).tools.map((tool) => tool.name);
            assert.ok(names.includes("a-other__echo"));
            assert.deepEqual(
                names,
                (await client.listTools()).tools.map((tool) => tool.name),
            );
            const upstreams = names.map((name) => name.split("__")[0]);
            assert.deepEqual([...new Set(upstreams)], ["everything", "a-other"]);
            assert.ok(
                upstreams.lastIndexOf("everything") < upstreams.indexOf("a-other"),
                "an upstream's tools stand together",
            );
            const prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
            assert.ok(prompts.includes("a-other__simple-prompt") && prompts.includes("everything__simple-prompt"));
        });
    });

    const calls: { name: string; args?: Record<string, unknown>; expect?: (answer: any) => void }[] = [
        { name: "echo", args: { message: "hi" }, expect: (answer) => assert.equal(answer.content[0].text, "Echo: hi") },
        { name: "echo", args: { message: '\u0000\u001f "\\/ \u2028 ü 漢字 😀 </script>' } },
        {
            name: "get-sum",
            args: { a: 1.5, b: -40 },
            expect: (answer) => assert.match(answer.content[0].text, /-38\.5/),
        },
        {
            name: "get-tiny-image",
            expect: (answer) => assert.ok(answer.content.some((item: any) => item.type === "image")),
        },
        { name: "get-annotated-message", args: { messageType: "error", includeImage: true } },
        { name: "get-annotated-message", args: { messageType: "success" } },
        { name: "get-annotated-message", args: { messageType: "debug", includeImage: false } },
        { name: "get-resource-links", args: { count: 4 } },
        { name: "get-resource-links", args: {} },
        { name: "get-resource-reference", args: { resourceType: "Text", resourceId: 7 } },
        { name: "get-resource-reference", args: { resourceType: "Blob", resourceId: 8 } },
        {
            name: "get-structured-content",
            args: { location: "Chicago" },
            expect: (answer) => assert.equal(answer.structuredContent.temperature, 36),
        },
        {
            name: "gzip-file-as-resource",
            args: { name: "a.gz", data: "data:text/plain,hello", outputType: "resource" },
            expect: (answer) => assert.equal(answer.content[0].type, "resource"),
        },
        // wrong arguments are the tool's own error
        { name: "get-sum", args: { a: "one" }, expect: (answer) => assert.equal(answer.isError, true) },
        { name: "get-sum", expect: (answer) => assert.equal(answer.isError, true) },
        { name: "get-resource-links", args: { count: 99 }, expect: (answer) => assert.equal(answer.isError, true) },
        {
            name: "get-resource-reference",
            args: { resourceType: "Text", resourceId: -1 },
            expect: (answer) => assert.equal(answer.isError, true),
        },
    ];
    for (const { name, args, expect } of calls) {
        test(`tools/call ${name} ${JSON.stringify(args)?.slice(0, 60)}`, async () => {
            const answer = await call(name, args);
            expect?.(answer);
        });
    }

    test("progress arrives, in order, before the answer", async () => {
        const answer = await same(async ({ client, named, wire }) => {
            const params = { name: named("trigger-long-running-operation"), arguments: { duration: 0.2, steps: 4 } };
            const result = await client.callTool(params, undefined, { onprogress: () => {} });
            return { result, progress: [...progressOf(wire.items).values()] };
        });
        const expected = [1, 2, 3, 4].map((progress) => ({ progress, total: 4 }));
        assert.deepEqual(answer.progress, [expected]);
    });

    test("many calls at once keep their progress and answers apart", async () => {
        await same(async ({ client, named, wire }) => {
            const one = async (steps: number) => {
                const params = { name: named("trigger-long-running-operation"), arguments: { duration: 0.1, steps } };
                const result = await client.callTool(params, undefined, { onprogress: () => {} });
                assert.match(JSON.stringify(result), new RegExp(`Steps: ${steps}\\.`));
            };
            await Promise.all(Array.from({ length: 20 }, (_, index) => one(index + 1)));
            const progress = [...progressOf(wire.items).values()];
            assert.equal(progress.length, 20);
            for (const items of progress) {
                const steps = items[0]!.total as number;
                assert.deepEqual(
                    items,
                    Array.from({ length: steps }, (_, index) => ({ progress: index + 1, total: steps })),
                );
            }
            return new Set(progress.map((items) => items.length));
        });
    });

    test("log messages arrive once a level is set", async () => {
        await same(async ({ client, named, notifications }) => {
            await client.setLoggingLevel("debug");
            const toggle = () => client.callTool({ name: named("toggle-simulated-logging"), arguments: {} });
            await toggle();
            const { params } = await notifications.waitFor((item) => item.method === "notifications/message");
            assert.match(String(params?.level), /^(debug|info|notice|warning|error|critical|alert|emergency)$/);
            assert.match(String(params?.data), /level.message/i);
            await toggle();
            return Object.keys(params ?? {}).sort();
        });
    });

    test("an unknown logging level is refused", async () => {
        await same(async ({ client, kind }) => {
            const request = client.request(
                { method: "logging/setLevel", params: { level: "loud" as "debug" } },
                anything,
            );
            const { code } = await failure(request);
            // the server says -32603 where the specification wants -32602
            if (kind !== "direct") assert.equal(code, -32602);
        });
    });

    test("completion/complete", async () => {
        const complete = (side: Side, prompt: string, name: string, value: string, context?: Record<string, string>) =>
            side.client.complete({
                ref: { type: "ref/prompt", name: side.named(prompt) },
                argument: { name, value },
                ...(context === undefined ? {} : { context: { arguments: context } }),
            });
        const answers = await same(async (side) => [
            await complete(side, "completable-prompt", "department", ""),
            await complete(side, "completable-prompt", "department", "S"),
            await complete(side, "completable-prompt", "name", "", { department: "Sales" }),
            await complete(side, "completable-prompt", "name", "Z", { department: "Sales" }),
            await complete(side, "resource-prompt", "resourceType", "B"),
            await side.client.complete({
                ref: { type: "ref/resource", uri: "demo://resource/dynamic/text/{resourceId}" },
                argument: { name: "resourceId", value: "3" },
            }),
        ]);
        assert.deepEqual(answers[1]!.completion.values, ["Sales", "Support"]);
        assert.deepEqual(answers[2]!.completion.values, ["David", "Eve", "Frank"]);
        assert.deepEqual(answers[5]!.completion.values, ["3"]);
    });

    test("completion of what does not exist", async () => {
        const codes = await same(async (side) => [
            (
                await failure(
                    side.client.complete({
                        ref: { type: "ref/prompt", name: side.named("nobody") },
                        argument: { name: "a", value: "" },
                    }),
                )
            ).code,
        ]);
        assert.deepEqual(codes, [-32602]);
    });

    const gets: { name: string; args?: Record<string, string> }[] = [
        { name: "simple-prompt" },
        { name: "args-prompt", args: { city: "Zürich" } },
        { name: "args-prompt", args: { city: "Rome", state: "Lazio" } },
        { name: "completable-prompt", args: { department: "Sales", name: "Eve" } },
        { name: "resource-prompt", args: { resourceType: "Text", resourceId: "2" } },
        { name: "resource-prompt", args: { resourceType: "Blob", resourceId: "2" } },
    ];
    for (const { name, args } of gets) {
        test(`prompts/get ${name} ${JSON.stringify(args) ?? ""}`, async () => {
            const answer = await same(async ({ client, named }) =>
                timeless(await client.getPrompt({ name: named(name), arguments: args })),
            );
            assert.ok(answer.messages.length > 0);
        });
    }

    test("prompts/get with wrong arguments gives the server's own error", async () => {
        const errors = await same(async ({ client, named }) => [
            await failure(client.getPrompt({ name: named("args-prompt"), arguments: {} })),
            await failure(
                client.getPrompt({
                    name: named("resource-prompt"),
                    arguments: { resourceType: "Text", resourceId: "x" },
                }),
            ),
        ]);
        assert.equal(errors[0]!.code, -32602);
    });

    test("prompts/get of an unknown prompt", async () => {
        const error = await same(async ({ client, named }) => ({
            code: (await failure(client.getPrompt({ name: named("nobody") }))).code,
        }));
        assert.equal(error.code, -32602);
    });

    for (const uri of [
        "demo://resource/static/document/features.md",
        "demo://resource/dynamic/text/5",
        "demo://resource/dynamic/blob/6",
    ]) {
        test(`resources/read ${uri}`, async () => {
            const answer = await same(async ({ client }) => timeless(await client.readResource({ uri })));
            assert.equal(answer.contents[0]!.uri, uri);
        });
    }

    test("resources/read of what a template matches but the server refuses", async () => {
        await same(async ({ client }) => failure(client.readResource({ uri: "demo://resource/dynamic/text/none" })));
    });

    test("resources/read of what nobody has", async () => {
        await same(async ({ client, kind }) => {
            const { code } = await failure(client.readResource({ uri: "nowhere://at/all" }));
            assert.ok(code === -32602 || code === -32002, `${kind}: code ${code}`);
        });
    });

    test("a resource that appears while the session lasts is announced, listed and read", async () => {
        await same(async ({ client, named, notifications, kind }) => {
            const name = `${kind.replaceAll(" ", "-")}.gz`;
            const uri = `demo://resource/session/${name}`;
            const link = await client.callTool({
                name: named("gzip-file-as-resource"),
                arguments: { name, data: "data:text/plain,hello", outputType: "resourceLink" },
            });
            assert.equal((link.content as { type: string; uri: string }[])[0]!.uri, uri);
            await notifications.waitFor((item) => item.method === "notifications/resources/list_changed");
            await until(
                async () => (await client.listResources()).resources.some((resource) => resource.uri === uri),
                `${uri} is listed`,
            );
            const { contents } = await client.readResource({ uri });
            return contents.map(({ uri: _, ...rest }) => rest);
        });
    });

    test("resources/subscribe and resources/unsubscribe", async () => {
        const uri = "demo://resource/dynamic/text/1";
        await same(async ({ client }) => client.subscribeResource({ uri }));
        await same(async ({ client }) => client.unsubscribeResource({ uri }));
    });

    test("what this version does not serve is refused and the session lives on", async () => {
        await same(async ({ client, kind }) => {
            if (kind === "direct") return;
            assert.equal(
                (await failure(client.request({ method: "no/such/method", params: {} }, anything))).code,
                -32601,
            );
            await client.ping();
        });
    });
});
