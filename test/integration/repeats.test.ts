/*
 * What is sent to a server again when its answer was lost, and what never is. What arrives is counted at the server.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { legacyOnly, modernOnly, type Exchange } from "./fixtures/http-server.ts";
import { startControl, type Control, type FixtureOptions } from "./lib/control.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { openSession } from "./lib/http.ts";
import { ModernClient } from "./lib/modern.ts";
import { call, client, refusal, said, serve, status, type Request } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

const PATIENT = { failure_threshold: 3, cooldown: "1h" };

const brief = async (gateway: Gateway, name = "http") => (await status(gateway)).get(name)!;

/** The first call that is answered, while the upstream may still be starting. */
const answered = (request: Request, name: string, args: object = {}) =>
    until(async () => {
        const answer = await call(request, name, args);
        return answer.result !== undefined && answer.result.isError !== true ? answer : false;
    }, `${name} is answered`);

const ANSWERS: { [what: string]: (exchange: Exchange) => void } = {
    "HTTP 500": (exchange) => exchange.text(500, "text/plain", "sorry"),
    "no JSON": (exchange) => exchange.text(200, "application/json", "{nonsense"),
    "no HTTP": (exchange) => {
        exchange.raw("SSH-2.0-OpenSSH_9.2\r\n\r\n");
        exchange.close();
    },
    "accepted, and no more": (exchange) => exchange.empty(202),
    "a redirect": (exchange) => exchange.empty(302, { Location: "http://elsewhere.example.com/" }),
    "none in time": () => {},
};

describe("what an HTTP server may get twice", { concurrency: 3 }, () => {
    const REPEATABLE: [string, { [key: string]: unknown }][] = [
        ["resources/read", { uri: "test://one" }],
        ["prompts/get", { name: "review", arguments: { what: "x" } }],
        ["completion/complete", { ref: { type: "ref/prompt", name: "review" }, argument: { name: "what", value: "" } }],
    ];
    for (const [method, params] of REPEATABLE) {
        for (const [era, only] of [
            ["legacy", legacyOnly()],
            ["modern", modernOnly],
        ] as const) {
            test(`${method}, ${era}: whose connection broke, once more; and once only`, async (t) => {
                let n_broken = 1;
                const { fixture, gateway } = await serve(
                    t,
                    {
                        ...only,
                        on: (exchange) => {
                            if (exchange.message.method !== method || n_broken-- <= 0) return false;
                            exchange.reset();
                            return true;
                        },
                    },
                    PATIENT,
                );
                const request = await client(gateway, era);
                await said(call(request, "echo", { text: "up" }));
                const first = await request(method, params);
                assert.equal(first.error, undefined, JSON.stringify(first));
                assert.equal(fixture.received(method).length, 2);
                assert.equal((await brief(gateway)).failures, 0, "it was answered in the end");
                n_broken = 100;
                const second = await request(method, params);
                assert.equal(second.error?.code, 503, JSON.stringify(second));
                assert.equal(fixture.received(method).length, 4);
                assert.equal((await brief(gateway)).failures, 1, "one call, one failure");
            });
        }
    }

    for (const [what, fail] of Object.entries(ANSWERS)) {
        test(`not when the server has answered: ${what}`, async (t) => {
            const { fixture, gateway } = await serve(
                t,
                {
                    ...modernOnly,
                    on: (exchange) => {
                        if (exchange.message.method !== "resources/read") return false;
                        fail(exchange);
                        return true;
                    },
                },
                { ...PATIENT, timeout: "500ms" },
            );
            const request = await client(gateway, "modern");
            await said(call(request, "echo", { text: "up" }));
            const answer = await request("resources/read", { uri: "test://one" });
            assert.notEqual(answer.error, undefined, JSON.stringify(answer));
            assert.equal(fixture.received("resources/read").length, 1);
        });
    }

    test("never a tool, on whatever connection, whatever it says of itself", async (t) => {
        const annotations = { readOnlyHint: true, idempotentHint: true };
        const tools = [{ name: "echo", inputSchema: { type: "object" }, annotations }];
        const { fixture, gateway } = await serve(t, { ...modernOnly, tools }, { failure_threshold: 0 });
        const request = await client(gateway, "modern");
        await said(call(request, "echo", { text: "on a kept connection" }));
        const args = fixture.act((exchange) => exchange.reset());
        for (let n = 1; n <= 4; n++) {
            assert.match(await refusal(call(request, "echo", args)), /may have been carried out/);
            assert.equal(fixture.calls(args).length, n);
        }
    });

    test("not when its caller has heard of progress", async (t) => {
        const { fixture, gateway } = await serve(t, {
            ...modernOnly,
            on: (exchange) => {
                if (exchange.message.method !== "prompts/get") return false;
                const { progressToken } = exchange.message.params!._meta as { progressToken: number };
                const stream = exchange.sse();
                const params = { progressToken, progress: 1 };
                stream.event({ jsonrpc: "2.0", method: "notifications/progress", params });
                setImmediate(() => exchange.close());
                return true;
            },
        });
        const modern = new ModernClient(gateway, "/mcp/http");
        await said(modern.call("echo", { text: "up" }));
        const answer = await modern.request("prompts/get", { name: "review" }, { meta: { progressToken: "mine" } });
        assert.equal(answer.error?.code, 503);
        assert.equal(fixture.received("prompts/get").length, 1);
    });

    test("within the time of the call, not twice that time", async (t) => {
        let arrived = 0;
        const { fixture, gateway } = await serve(
            t,
            {
                ...modernOnly,
                on: (exchange) => {
                    if (exchange.message.method !== "resources/read") return false;
                    if (++arrived === 1) setTimeout(() => exchange.reset(), 1500);
                    return true;
                },
            },
            { timeout: "2s" },
        );
        const request = await client(gateway, "modern");
        await said(call(request, "echo", { text: "up" }));
        const began = performance.now();
        const answer = await request("resources/read", { uri: "test://one" });
        const took = performance.now() - began;
        assert.equal(answer.error?.code, 504, JSON.stringify(answer));
        assert.equal(fixture.received("resources/read").length, 2);
        assert.ok(took < 3200, `${took} ms`);
    });
});

describe("a request in flight when the process ends", { concurrency: 2 }, () => {
    let control: Control;
    before(async () => void (control = await startControl()));
    after(() => control.close());

    const one = async (t: TestContext, options: Omit<FixtureOptions, "control">) => {
        const config = { servers: { one: { cmd: control.command(options), failure_threshold: 3 } } };
        const gateway = await startGateway({ config }, t);
        const session = await openSession(gateway, "/mcp/one");
        const request: Request = (method, params) => session.request(method, params);
        await answered(request, "echo", { text: "up" });
        return { gateway, request, process: await control.started(options.name) };
    };

    test("that can be repeated is sent once more, to the next process", async (t) => {
        const resources = [{ uri: "test://one", name: "one" }];
        const { gateway, request, process } = await one(t, { name: "again", resources });
        await process.set({ mute: ["resources/read", "prompts/get", "completion/complete"] });
        const reading = request("resources/read", { uri: "test://one" });
        await process.receives((message) => message.method === "resources/read");
        process.do({ do: "exit", code: 1 });
        const answer = await reading;
        assert.equal(answer.error, undefined, JSON.stringify(answer));
        const second = await control.started("again", 2);
        await second.sync();
        assert.equal(process.received("resources/read").length, 1);
        assert.equal(second.received("resources/read").length, 1);
        assert.equal((await brief(gateway, "one")).in_flight, 0);
    });

    test("but not twice", async (t) => {
        const resources = [{ uri: "test://one", name: "one" }];
        const options = { name: "never", resources, mute: ["resources/read"] };
        const { request, process } = await one(t, options);
        const reading = request("resources/read", { uri: "test://one" });
        await process.receives((message) => message.method === "resources/read");
        process.do({ do: "exit", code: 1 });
        const second = await control.started("never", 2);
        await second.receives((message) => message.method === "resources/read");
        second.do({ do: "exit", code: 1 });
        const answer = await reading;
        assert.equal(answer.error?.code, 503, JSON.stringify(answer));
        await answered(request, "echo", { text: "up" });
        const third = await control.started("never", 3);
        await third.sync();
        assert.equal(third.received("resources/read").length, 0);
    });

    test("and a tool is never called again, also one that says that it only reads", async (t) => {
        const tools = ["echo", "hold"].map((name) => ({
            name,
            inputSchema: { type: "object" },
            annotations: { readOnlyHint: true, idempotentHint: true },
        }));
        const { request, process } = await one(t, { name: "tool", tools });
        const holding = call(request, "hold");
        await process.events.waitFor((event) => event.event === "held");
        process.do({ do: "exit", code: 1 });
        assert.match(await refusal(holding), /may have been carried out/);
        await answered(request, "echo", { text: "up" });
        const second = await control.started("tool", 2);
        await second.sync();
        const names = second.received("tools/call").map((message) => message.params!.name);
        assert.ok(!names.includes("hold"), String(names));
    });
});
