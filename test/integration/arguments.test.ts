/*
 * Rules about the arguments of a tool: each rule with what keeps to it and what does not, as raw JSON, because the ways to
 * write the same value differently are the ways around a rule. In both eras, in batches, and with the header fields that
 * repeat arguments.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { legacyOnly, startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import type { RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway, type Value } from "./lib/gateway.ts";
import { openSession, send, text, type Session } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { refusal } from "./lib/upstreams.ts";

interface Case {
    name: string;
    rule: { [key: string]: Value };
    /** of the argument x, as raw JSON; "" is none at all */
    passes: string[];
    refused: string[];
}

const list = (n: number, of: string) => `[${Array<string>(n).fill(of).join()}]`;

const CASES: Case[] = [
    {
        name: "allow",
        rule: { allow: ["a", "b", 3, 2.5, true] },
        passes: ['"a"', '"\\u0061"', "3", "3.0", "3e0", "30e-1", "2.5", "25e-1", "true", '["a","b",3]', '[["a"],[[3]]]'],
        refused: ['"c"', '"A"', '"a "', '""', '"3"', '"true"', "4", "-3", "false", '["a","c"]', '[["a",["c"]]]'].concat(
            ['{"a":"a"}', '[{"a":"a"}]', '"a\\u0000"', "null", ""],
        ),
    },
    { name: "an empty allow", rule: { allow: [] }, passes: [], refused: ['"a"', "1", "true", "null", ""] },
    {
        name: "deny",
        rule: { deny: ["rm", 7, true] },
        passes: ['"ls"', '"rmdir"', '"RM"', "8", "false", "null", "", '["ls",8]'],
        refused: ['"rm"', '"\\u0072m"', "7", "7.0", "70e-1", '"7"', '["ls","rm"]', "[[7]]", "true", '"true"'].concat(
            ['{"cmd":"rm"}', '{"cmd":"ls"}', '[{"cmd":"ls"}]'],
        ),
    },
    {
        name: "pattern",
        rule: { pattern: "[a-zäß]+\\.txt" },
        passes: ['"a.txt"', '"\\u0061.txt"', '"äß.txt"', '"\\u00e4.txt"', '["a.txt","b.txt"]'],
        refused: ['"a.txt\\n"', '"\\na.txt"', '"x\\na.txt"', '"../a.txt"', '"a.txt.exe"', '"A.txt"', '"atxt"', '""'].concat(
            ['"a.txt\\u0000"', "5", "true", '{"x":"a.txt"}', '["a.txt","b"]', "null", ""],
        ),
    },
    {
        name: "a pattern for numbers",
        rule: { pattern: "[0-9]{1,3}|true" },
        passes: ["5", '"5"', "123", "true"],
        refused: ["1234", "-5", "false", '"5 "'],
    },
    {
        name: "alternatives of a pattern are anchored, both",
        rule: { pattern: "get|list" },
        passes: ['"get"', '"list"'],
        refused: ['"getall"', '"xlist"', '"get\\nlist"'],
    },
    {
        name: "an optional pattern",
        rule: { pattern: "[a-z]+", optional: true },
        passes: ['"a"', "null", ""],
        refused: ['"A"', "1"],
    },
    {
        name: "max",
        rule: { max: 100 },
        passes: ["100", "100.0", "-5", "0", '"100"', '"abc"', `"${"x".repeat(100)}"`, `"${"ä".repeat(100)}"`].concat(
            [`"${"\\u00e4".repeat(100)}"`, list(100, "1"), "[1,[2,3]]", "true", "null", ""],
        ),
        refused: ["101", "100.5", "1e3", "1e400", '"101"', '" 101 "', '"+101"', '"1e3"', '"0x65"', "[101]", '[["101"]]'].concat(
            [`"${"x".repeat(101)}"`, list(101, "1"), '{"a":1}', "[{}]"],
        ),
    },
    {
        name: "several keys, each of which has to be kept",
        rule: { pattern: "[0-9]+", max: 50, deny: [13] },
        passes: ["12", '"12"', "50"],
        refused: ["13", '"13"', "51", '"51"', '"a"', "null", ""],
    },
    {
        name: "a pattern that cannot be decided in time",
        rule: { pattern: "(a+)+b" },
        passes: ['"aaab"'],
        refused: [`"${"a".repeat(5000)}"`],
    },
];

/** The eras, and the endpoints. */
interface Way {
    title: string;
    send(gateway: Gateway, session: Session, tool: string, args: string): Promise<RpcMessage>;
}

const WAYS: Way[] = ["/mcp", "/mcp/http"].flatMap((path): Way[] => {
    const of = (tool: string) => (path === "/mcp" ? `http__${tool}` : tool);
    const put = (body: object, args: string) => JSON.stringify(body).replace('"@@"', () => args);
    return [
        {
            title: `modern ${path}`,
            async send(gateway, _session, tool, args) {
                const client = new ModernClient(gateway, path);
                const outgoing = client.outgoing("tools/call", { name: of(tool), arguments: "@@" });
                return (await send(gateway, { ...outgoing, body: put(outgoing.body as object, args) })).messages.at(-1)!;
            },
        },
        {
            title: `legacy ${path}`,
            async send(gateway, session, tool, args) {
                const body = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: of(tool), arguments: "@@" } };
                const target = path === "/mcp" ? session : await openSession(gateway, path);
                return (await target.send({ body: put(body, args) })).messages.at(-1)!;
            },
        },
    ];
});

const object = { type: "object" };

describe("rules about arguments", () => {
    let fixture: HttpFixture;
    let gateway: Gateway;
    let session: Session;
    /** the tool of each case */
    const toolOf = (n: number) => `case-${n}`;
    const reached = (from: number) => fixture.received("tools/call", from).length;

    before(async () => {
        const ofCases = CASES.map((_each, n) => ({ name: toolOf(n), inputSchema: object }));
        const region = { properties: { region: { type: "string", "x-mcp-header": "Region" } } };
        fixture = await startHttp({
            ...legacyOnly(),
            tools: [...ofCases, { name: "free", inputSchema: object }, { name: "kelvin", inputSchema: object }, { name: "mirror", inputSchema: { ...object, ...region } }],
            on: (exchange) => {
                const { method, params } = exchange.message;
                if (method === "tools/call") exchange.json(exchange.answer(JSON.stringify(params!.arguments ?? null)));
                return method === "tools/call";
            },
        });
        const tools: { [name: string]: Value } = {
            kelvin: { arguments: { k: { deny: ["no"] } } },
            mirror: { arguments: { region: { allow: ["eu"] } } },
        };
        for (const [n, each] of CASES.entries()) tools[toolOf(n)] = { arguments: { x: each.rule } };
        gateway = await startGateway({ config: { servers: { http: { url: fixture.url, tools } } } });
        await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === "http");
        session = await openSession(gateway);
    });
    after(async () => {
        await gateway?.stop();
        await fixture.close();
    });

    for (const [n, { name, passes, refused }] of CASES.entries()) {
        for (const way of WAYS) {
            test(`${name}: ${way.title}`, async () => {
                const argumentsOf = (value: string) => (value === "" ? '{"y":1}' : `{"y":1,"x":${value}}`);
                const shown = (value: string) => (value.length > 80 ? `${value.slice(0, 80)}...` : value);
                for (const value of passes) {
                    const answer = await way.send(gateway, session, toolOf(n), argumentsOf(value));
                    assert.equal(answer.error, undefined, `x = ${shown(value)}: ${JSON.stringify(answer)}`);
                    assert.notEqual(answer.result!.isError, true, `x = ${shown(value)}: ${JSON.stringify(answer)}`);
                }
                const from = fixture.requests.items.length;
                for (const value of refused) {
                    const answer = await way.send(gateway, session, toolOf(n), argumentsOf(value));
                    assert.equal(answer.result?.isError, true, `x = ${shown(value)}: ${JSON.stringify(answer).slice(0, 400)}`);
                    const why = text(answer);
                    assert.ok(why.includes(`mcp.servers.http.tools.${toolOf(n)}.arguments.x`), `x = ${shown(value)}: ${why}`);
                }
                assert.equal(reached(from), 0, "what is refused does not leave");
            });
        }
    }

    test("no arguments at all are none of them", async () => {
        const allow = toolOf(0);
        const deny = toolOf(2);
        for (const way of WAYS) {
            assert.equal((await way.send(gateway, session, allow, "{}")).result?.isError, true);
            assert.equal(text(await way.send(gateway, session, deny, "{}")), "{}");
        }
        for (const params of [{ name: `http__${allow}` }, { name: `http__${allow}`, arguments: {} }]) {
            await refusal(session.request("tools/call", params));
        }
        assert.equal(text(await session.request("tools/call", { name: `http__${deny}` })), "null");
        // Not an object: whoever refuses it, it is refused.
        const from = fixture.requests.items.length;
        for (const args of ["[]", '[{"x":"rm"}]', '"x"', '"{\\"x\\":\\"rm\\"}"', "5", "true"]) {
            for (const way of WAYS) {
                const { result, error } = await way.send(gateway, session, deny, args);
                assert.ok(error !== undefined || result?.isError === true, `${way.title} ${args}: ${JSON.stringify(result)}`);
            }
        }
        assert.equal(reached(from), 0);
    });

    test("another spelling of the name is no way around", async () => {
        const deny = toolOf(2);
        const from = fixture.requests.items.length;
        for (const args of [
            '{"\\u0078":"rm"}',
            '{"X":"rm"}',
            '{"X":"ls"}',
            '{"x":"ls","X":"rm"}',
            '{"x":"ls","x":"rm"}',
            '{"x":"rm","x":"ls"}',
            '{"x":"ls","\\u0078":"rm"}',
        ]) {
            for (const way of WAYS) {
                const { result, error } = await way.send(gateway, session, deny, args);
                assert.ok(error !== undefined || result?.isError === true, `${way.title} ${args}: ${JSON.stringify(result)}`);
            }
        }
        for (const args of ['{"\u212a":"yes"}', '{"\\u212A":"yes"}', '{"K":"yes"}']) {
            const { result, error } = await WAYS[0]!.send(gateway, session, "kelvin", args);
            assert.ok(error !== undefined || result?.isError === true, `${args}: ${JSON.stringify(result)}`);
        }
        assert.equal(reached(from), 0);
    });

    test("only what stands directly in the arguments, and only of that tool", async () => {
        for (const way of WAYS) {
            assert.equal(text(await way.send(gateway, session, toolOf(2), '{"o":{"x":"rm"},"xx":"rm"}')), '{"o":{"x":"rm"},"xx":"rm"}');
            assert.equal(text(await way.send(gateway, session, "free", '{"x":"rm"}')), '{"x":"rm"}');
        }
    });

    test("numbers, spaces and the order of keys arrive as they were written", async () => {
        const way = WAYS.find(({ title }) => title === "legacy /mcp")!;
        const args = '{ "y" : 1.50e1, "x":  12345678901234567890 , "a": [ ] }';
        const from = fixture.requests.items.length;
        await way.send(gateway, session, toolOf(2), args);
        const [request] = fixture.received("tools/call", from);
        assert.ok(request!.body.includes(args), request!.body);
    });

    test("the reason names argument, rule and cure, and never the value", async () => {
        for (const [n, value] of [
            [0, "very-secret-value"],
            [3, "VERY-SECRET-VALUE"],
        ] as const) {
            const why = await refusal(session.call(`http__${toolOf(n)}`, { x: value }));
            assert.doesNotMatch(why, /secret/i);
            assert.match(why, /arguments\.x/);
            assert.match(why, n === 0 ? /allow/ : /pattern/);
            const log = gateway.log.items.map((entry) => JSON.stringify(entry)).join("\n");
            assert.ok(!log.includes(value), "nor does the log");
        }
    });

    test("in a batch each call is judged by itself", async () => {
        const old = await openSession(gateway, "/mcp", "2025-03-26");
        const from = fixture.requests.items.length;
        const call = (id: number, tool: number, x: unknown) => ({
            jsonrpc: "2.0",
            id,
            method: "tools/call",
            params: { name: `http__${toolOf(tool)}`, arguments: { x } },
        });
        const { messages } = await old.send({ body: [call(1, 2, "ls"), call(2, 2, "rm"), call(3, 0, "a"), call(4, 0, "z")] });
        const byId = new Map(messages.map((message) => [message.id, message]));
        assert.equal(byId.size, 4, JSON.stringify(messages));
        const isRefused = [1, 2, 3, 4].map((id) => byId.get(id)!.result!.isError === true);
        assert.deepEqual(isRefused, [false, true, false, true]);
        assert.equal(reached(from), 2);
    });

    test("a header field that repeats an argument changes nothing", async () => {
        const client = new ModernClient(gateway);
        const ask = (args: object, field?: string) =>
            client.call("http__mirror", args as { [key: string]: unknown }, {
                headers: field === undefined ? {} : { "Mcp-Param-Region": field },
            });
        assert.equal(text(await ask({ region: "eu" }, "eu")), '{"region":"eu"}');
        const from = fixture.requests.items.length;
        for (const [args, field] of [
            [{ region: "us" }, "us"],
            [{ region: "us" }, "eu"],
            [{}, undefined],
            [{}, "eu"],
            [{ region: null }, "eu"],
            [{ Region: "us" }, "eu"],
        ] as [object, string | undefined][]) {
            const { result, error } = await ask(args, field);
            assert.ok(error !== undefined || result?.isError === true, `${JSON.stringify(args)}, ${field}: ${JSON.stringify(result)}`);
        }
        assert.equal(reached(from), 0);
    });

    test("arguments of prompts and resources are not meant", async () => {
        const { error } = await session.request("prompts/get", { name: "http__review", arguments: { x: "rm" } });
        assert.equal(error, undefined);
    });
});
