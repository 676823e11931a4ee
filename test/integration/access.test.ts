/*
 * Who may know of what: random configurations and callers, and for each of them the one rule that makes lists honest:
 * what is not listed cannot be called, and what cannot be called is not listed. lib/world.ts says what should be.
 *
 * CARDEA_TEST_SEEDS says how many configurations, CARDEA_TEST_SEED which one is the first.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { legacyOnly, startHttp, type HttpFixture } from "./fixtures/http-server.ts";
import { startControl, type RpcMessage } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession, send, type Answer, type Session, type Stream } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { as, Tokens } from "./lib/principals.ts";
import { random } from "./lib/random.ts";
import { reload } from "./lib/reload.ts";
import { until } from "./lib/wait.ts";
import {
    brainOf,
    configOf,
    describeWorld,
    mayKnow,
    maySee,
    principalsOf,
    SERVERS,
    TOOLS,
    verdictOf,
    worldOf,
    worldTokens,
    type Principal,
    type World,
} from "./lib/world.ts";

const FIRST = Number(process.env.CARDEA_TEST_SEED ?? 1);
const N = Number(process.env.CARDEA_TEST_SEEDS ?? 4);
const CALLERS = 6;
const ERAS = ["legacy", "modern"] as const;

/** What of an answer may not tell one name from another, in one text. Names are to have the same length. */
function trace(answer: Answer, name: string): string {
    const { date: _date, ...headers } = answer.headers;
    return JSON.stringify([answer.status, headers, answer.text]).replaceAll(name, "NAME");
}

/** One endpoint, for one caller, in one era. */
interface Place {
    ask(method: string, params?: { [key: string]: unknown }): Promise<Answer>;
}

async function openPlace(gateway: Gateway, caller: Principal, path: string, era: string): Promise<Place & { end(): Promise<void> }> {
    if (era === "modern") {
        const client = new ModernClient(as(gateway, caller.token), path, { id: 7 });
        return { ask: (method, params) => client.ask(method, params), end: async () => {} };
    }
    const session: Session = await openSession(as(gateway, caller.token), path);
    return {
        ask: (method, params = {}) => session.send({ body: { jsonrpc: "2.0", id: 7, method, params } }),
        end: async () => void (await session.end()),
    };
}

const last = (answer: Answer): RpcMessage => answer.messages.at(-1) ?? {};

async function list(place: Place, kind: string, key: string): Promise<{ [key: string]: string }[]> {
    const found: { [key: string]: string }[] = [];
    let cursor: unknown;
    do {
        const answer = await place.ask(kind, cursor === undefined ? {} : { cursor });
        const { result } = last(answer);
        assert.ok(result !== undefined, `${kind} got ${answer.status} ${answer.text.slice(0, 300)}`);
        found.push(...(result[key] as { [key: string]: string }[]));
        cursor = result.nextCursor;
    } while (cursor !== undefined);
    return found;
}

describe("who may know of what", () => {
    const fixtures: { [name: string]: HttpFixture } = {};
    const urls: { [name: string]: string } = {};
    before(async () => {
        for (const name of SERVERS) {
            const own = brainOf(name);
            // t0..t4 are not tools of the brain: each of them says who it is
            const on = (exchange: { message: RpcMessage; answer(text: string): object; json(value: unknown): void }) => {
                const { method, params } = exchange.message;
                if (method !== "tools/call") return false;
                exchange.json(exchange.answer(`${name} ${params!.name as string}`));
                return true;
            };
            const revisions = name === "s1" ? legacyOnly() : {};
            fixtures[name] = await startHttp({ ...own, ...revisions, on: on as never });
            urls[name] = fixtures[name]!.url;
        }
    });
    after(async () => {
        for (const fixture of Object.values(fixtures)) await fixture.close();
    });

    for (let seed = FIRST; seed < FIRST + N; seed++) {
        test(`not listed if and only if not callable: seed ${seed}`, { timeout: 300_000 }, async (t) => {
            const tokens = worldTokens();
            const first = worldOf(2 * seed);
            const gateway = await startGateway({ config: configOf(first, urls, tokens), args: ["--log", "info"] }, t);
            await check(gateway, first, tokens);
            const second = worldOf(2 * seed + 1);
            await reload(gateway, configOf(second, urls, tokens));
            await check(gateway, second, tokens);
            for (const fixture of Object.values(fixtures)) assert.deepEqual(fixture.complaints.splice(0), []);
        });
    }

    test("a change of what one may not know of is not told", async (t) => {
        const control = await startControl();
        t.after(() => control.close());
        const tokens = new Tokens({ inside: ["g0"], outside: ["g1"] });
        const tools = (n: number) => Array.from({ length: n }, (_, i) => ({ name: `t${i}`, inputSchema: { type: "object" } }));
        const server = (name: string) => ({ cmd: control.command({ name, tools: tools(1) }), share: "all" });
        const config = {
            server: { auth: { tokens: tokens.table } },
            servers: { hidden: { ...server("hidden"), allow: ["g0"] }, open: server("open") },
        };
        const gateway = await startGateway({ config }, t);
        for (const name of ["hidden", "open"]) {
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
        }
        const streams: Stream[] = [];
        for (const name of ["inside", "outside"]) streams.push(await (await openSession(tokens.as(gateway, name))).stream());
        const told = (i: number) =>
            streams[i]!.messages.items.filter(({ method }) => method === "notifications/tools/list_changed").length;
        const change = async (name: string) => {
            const fixture = await control.started(name);
            await fixture.set({ tools: tools(2) });
            fixture.notify("notifications/tools/list_changed");
        };
        await change("hidden");
        await until(() => told(0) === 1, "who may know of it is told");
        await change("open");
        await until(() => told(0) === 2 && told(1) >= 1, "both are told of the other one");
        assert.equal(told(1), 1, "and who may not know was not told of the first");
        for (const stream of streams) stream.close();
    });

    async function check(gateway: Gateway, world: World, tokens: ReturnType<typeof worldTokens>): Promise<void> {
        const die = random(world.seed + 1000);
        const all = principalsOf(world, tokens, gateway.token);
        const callers = Array.from({ length: CALLERS }, () => all.splice(die(all.length), 1)[0]!);
        const problems: string[] = [];
        for (const caller of callers) {
            const mine: string[] = [];
            try {
                await checkWhole(gateway, world, caller, (problem) => mine.push(problem));
                for (const path of ["/mcp", ...SERVERS.map((server) => `/mcp/${server}`)]) {
                    for (const era of ERAS) {
                        await checkPlace(gateway, world, caller, path, era, (problem) => mine.push(`${era} ${path}: ${problem}`));
                    }
                }
            } catch (error) {
                mine.push(String(error));
            }
            const groups = `${JSON.stringify(caller.groups)}${caller.groupsAreKnown ? "" : ", not all known"}`;
            problems.push(...mine.map((problem) => `${caller.name} (${groups}): ${problem}`));
        }
        assert.equal(problems.length, 0, `${problems.slice(0, 12).join("\n")}\nof ${problems.length}; ${describeWorld(world)}`);
    }

    /** What is not of one endpoint: /ready, and endpoints that are not there. */
    async function checkWhole(gateway: Gateway, world: World, caller: Principal, wrong: (problem: string) => void) {
        const target = as(gateway, caller.token);
        const known = SERVERS.filter((server) => mayKnow(world, caller, server));
        const ready = await send(target, { method: "GET", path: "/ready" });
        const names = (JSON.parse(ready.text) as { upstreams: { name: string }[] }).upstreams.map((each) => each.name);
        if (names.join() !== known.join()) wrong(`/ready names [${names}], and may name [${known}]`);
        const body = { jsonrpc: "2.0", id: 7, method: "tools/list", params: {} };
        const discover = new ModernClient(target, "/mcp/NAME", { id: 7 }).outgoing("server/discover");
        for (const server of SERVERS) {
            for (const [title, outgoing] of Object.entries({
                GET: { method: "GET" },
                DELETE: { method: "DELETE" },
                POST: { body },
                modern: discover,
                "without a token": { body, token: false as const },
                "a session of its own making": { body, headers: { "Mcp-Session-Id": "0".repeat(32) } },
            })) {
                if (title === "without a token" || !known.includes(server)) {
                    const there = trace(await send(target, { ...outgoing, path: `/mcp/${server}` }), server);
                    const nowhere = trace(await send(target, { ...outgoing, path: "/mcp/zz" }), "zz");
                    if (there !== nowhere) wrong(`${title} /mcp/${server}: ${there}\n    and /mcp/zz: ${nowhere}`);
                    if (title !== "without a token" && !there.startsWith("[404")) wrong(`${title} /mcp/${server}: ${there}`);
                }
            }
        }
    }

    async function checkPlace(
        gateway: Gateway,
        world: World,
        caller: Principal,
        path: string,
        era: string,
        wrong: (problem: string) => void,
    ): Promise<void> {
        const only = path.split("/")[2];
        const servers = only === undefined ? SERVERS : [only];
        if (only !== undefined && !mayKnow(world, caller, only)) return;
        const place = await openPlace(gateway, caller, path, era);
        const called = (server: string, name: string) => (only === undefined ? `${server}__${name}` : name);
        const tools = servers.flatMap((server) =>
            TOOLS.map(({ name }) => ({ server, name, verdict: verdictOf(world, caller, server, name) })),
        );
        const seen = servers.filter((server) => maySee(world, caller, server));

        const isListed = (verdict: string) => verdict === "allowed" || (verdict === "locked" && !world.security.hide_denied);
        const expected: [string, string, string, string[]][] = [
            [
                "tools/list",
                "tools",
                "name",
                tools.filter((tool) => isListed(tool.verdict)).map((tool) => called(tool.server, tool.name)),
            ],
            ["prompts/list", "prompts", "name", seen.map((server) => called(server, "p0"))],
            ["resources/list", "resources", "uri", seen.map((server) => `${server}://one`)],
            ["resources/templates/list", "resourceTemplates", "uriTemplate", seen.map((server) => `${server}://thing/{id}`)],
        ];
        for (const [method, key, member, wanted] of expected) {
            let items: { [key: string]: string }[] = [];
            const listed = () => items.map((item) => item[member]!).sort();
            const strangers = () => listed().filter((name) => !wanted.includes(name));
            // What is the caller's own may still be starting; what is not may never be there.
            await until(
                async () => {
                    items = await list(place, method, key);
                    return strangers().length !== 0 || listed().length === wanted.length;
                },
                () => `${method} at ${path} has [${wanted}], not [${listed()}]`,
            );
            if (strangers().length !== 0) wrong(`${method} has [${strangers()}] too many`);
            else if (listed().join() !== [...wanted].sort().join()) wrong(`${method} has [${listed()}], not [${wanted}]`);
            if (method === "tools/list") {
                for (const tool of tools) {
                    const item = items.find((each) => each.name === called(tool.server, tool.name));
                    const says = item !== undefined && JSON.stringify(item).includes("[locked]");
                    if (item !== undefined && says !== (tool.verdict === "locked")) {
                        wrong(`${tool.server} ${tool.name} is ${tool.verdict}, and listed as ${JSON.stringify(item)}`);
                    }
                }
            }
        }

        /** Answered as something that does not exist, here and on a server that does not. */
        const isUnknown = async (method: string, params: (name: string) => object, name: string, others: string[]) => {
            const there = trace(await place.ask(method, params(name) as never), name);
            for (const other of others) {
                const nowhere = trace(await place.ask(method, params(other) as never), other);
                if (there !== nowhere) wrong(`${method} of ${name}: ${there}\n    and of ${other}: ${nowhere}`);
            }
            return there;
        };

        for (const { server, name, verdict } of tools) {
            const tool = called(server, name);
            const params = (of: string) => ({ name: of, arguments: {} });
            if (verdict === "unknown") {
                const others = only === undefined ? [`${server}__x9`, "z0__t1"] : ["x9"];
                const there = await isUnknown("tools/call", params, tool, others);
                if (!there.includes("-32602")) wrong(`a call of ${tool} has no -32602: ${there}`);
                continue;
            }
            const answer = last(await place.ask("tools/call", params(tool)));
            const said = JSON.stringify(answer);
            const content = answer.result?.content as { text?: string }[] | undefined;
            const itSays = content?.[0]?.text ?? "";
            if (verdict === "allowed") {
                if (answer.result?.isError === true || itSays !== `${server} ${name}`) wrong(`a call of ${tool}: ${said}`);
            } else if (answer.result?.isError !== true || !/edit mode|whitelist/.test(itSays) || itSays === `${server} ${name}`) {
                wrong(`a call of ${tool}, which is locked: ${said}`);
            }
        }
        for (const server of servers) {
            const prompt = called(server, "p0");
            const completion = (ref: object) => ({ ref, argument: { name: "what", value: "w" } });
            const kinds: [string, string, (name: string) => object, string[]][] = [
                ["prompts/get", prompt, (name) => ({ name }), only === undefined ? [`${server}__x9`, "z0__p0"] : ["x9"]],
                ["resources/read", `${server}://one`, (uri) => ({ uri }), ["z0://one", `${server}://oxe`]],
                ["resources/read", `${server}://thing/7`, (uri) => ({ uri }), ["z0://thing/7"]],
                [
                    "completion/complete",
                    prompt,
                    (name) => completion({ type: "ref/prompt", name }),
                    only === undefined ? ["z0__p0"] : ["x9"],
                ],
                [
                    "completion/complete",
                    `${server}://thing/{id}`,
                    (uri) => completion({ type: "ref/resource", uri }),
                    ["z0://thing/{id}"],
                ],
            ];
            for (const [method, name, params, others] of kinds) {
                if (maySee(world, caller, server)) {
                    const answer = last(await place.ask(method, params(name) as never));
                    if (answer.result === undefined) wrong(`${method} of ${name}: ${JSON.stringify(answer)}`);
                } else await isUnknown(method, params, name, others);
            }
        }

        // What a server says of itself is for those who may know of it.
        const about =
            era === "modern"
                ? (await place.ask("server/discover")).text
                : (await send(as(gateway, caller.token), {
                      path,
                      body: {
                          jsonrpc: "2.0",
                          id: 7,
                          method: "initialize",
                          params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "x", version: "1" } },
                      },
                  })).text;
        for (const server of SERVERS) {
            const isTold = new RegExp(`\\b${server}\\b`).test(about);
            if (isTold && !(servers.includes(server) && mayKnow(world, caller, server))) wrong(`${server} is told of: ${about}`);
            if (!isTold && servers.includes(server) && maySee(world, caller, server)) wrong(`nothing of ${server}: ${about}`);
        }
        await place.end();
    }
});
