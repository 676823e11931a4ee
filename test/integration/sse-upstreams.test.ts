/*
 * Upstreams over HTTP+SSE, the transport of 2024-11-05: the real SDK's server and the reference server, found or
 * configured; how their endpoint is taken, what happens when streams end, and servers that mean harm.
 */
import assert from "node:assert/strict";
import { after, before, describe, test, type TestContext } from "node:test";

import { legacyOnly, startHttp, type EventStream, type Exchange, type HttpFixture } from "./fixtures/http-server.ts";
import { startGateway, type Gateway } from "./lib/gateway.ts";
import { call, client, downReason, refusal, said, serve, status } from "./lib/upstreams.ts";
import { until } from "./lib/wait.ts";

const sse = { transport: "sse", ...legacyOnly("2025-03-26") } as const;

describe("smoke", () => {
    for (const protocol of ["sse", "auto"]) {
        test(`list and call, ${protocol}`, async (t) => {
            const { fixture, gateway } = await serve(t, sse, { protocol });
            for (const era of ["legacy", "modern"] as const) {
                const request = await client(gateway, era);
                assert.equal(await said(call(request, "echo", { text: era })), era);
            }
            assert.deepEqual(fixture.complaints, []);
        });
    }
});
