/* A gateway before HTTP fixtures, and clients of both eras of it. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";

import { startHttp, type HttpFixture, type HttpOptions } from "../fixtures/http-server.ts";
import { cardea } from "./cli.ts";
import type { RpcMessage } from "./control.ts";
import {
    startGateway,
    type Config,
    type Gateway,
    type GatewayOptions,
    type ServerConfig,
    type Value,
} from "./gateway.ts";
import { openSession, text } from "./http.ts";
import { ModernClient } from "./modern.ts";
import { until } from "./wait.ts";

export interface UpstreamStatus {
    name: string;
    state: string;
    error?: string;
    tools: string[];
    n_tools?: number;
    breaker: "closed" | "open" | "half-open";
    /** in a row */
    failures: number;
    retry_ms: number;
    in_flight: number;
}

/** What `cardea status` says of the upstreams. */
export async function status(gateway: Gateway): Promise<Map<string, UpstreamStatus>> {
    const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
    assert.equal(run.code, 0, run.stderr);
    const answer = JSON.parse(run.stdout) as { status: { upstreams: UpstreamStatus[] } };
    return new Map(answer.status.upstreams.map((each) => [each.name, each]));
}

/** Waits until the upstream is down, and says why. */
export async function downReason(gateway: Gateway, name: string): Promise<string> {
    let last: UpstreamStatus | undefined;
    return until(
        async () => {
            last = (await status(gateway)).get(name);
            return last?.state !== "ready" && last?.error !== undefined && last.error !== "" ? last.error : false;
        },
        () => `${name} is down, not ${JSON.stringify(last)}`,
    );
}

export interface Served {
    fixture: HttpFixture;
    gateway: Gateway;
}

/** A gateway with one upstream, `http`, which is this fixture; and more, if wanted. */
export async function serve(
    t: TestContext | undefined,
    options: HttpOptions = {},
    server: { [key: string]: Value } = {},
    more: { config?: Partial<Config>; servers?: { [name: string]: ServerConfig } } & Omit<
        Partial<GatewayOptions>,
        "config"
    > = {},
): Promise<Served> {
    const fixture = await startHttp(options, t);
    const { config, servers, ...rest } = more;
    const gateway = await startGateway(
        { config: { ...config, servers: { http: { url: fixture.url, ...server }, ...servers } }, ...rest },
        t,
    );
    return { fixture, gateway };
}

export type Request = (method: string, params?: { [key: string]: unknown }) => Promise<RpcMessage>;

/** A client of that era, at /mcp/NAME. */
export async function client(gateway: Gateway, era: "legacy" | "modern", name = "http"): Promise<Request> {
    if (era === "modern") {
        const modern = new ModernClient(gateway, `/mcp/${name}`);
        return (method, params) => modern.request(method, params);
    }
    const session = await openSession(gateway, `/mcp/${name}`);
    return (method, params) => session.request(method, params);
}

export const call = (request: Request, name: string, args: object = {}): Promise<RpcMessage> =>
    request("tools/call", { name, arguments: args });

/** The text of a call that worked. */
export async function said(answer: RpcMessage | Promise<RpcMessage>): Promise<string> {
    const message = await answer;
    assert.equal(message.error, undefined, JSON.stringify(message));
    assert.notEqual(message.result!.isError, true, JSON.stringify(message));
    return text(message);
}

/** What a call says that did not work: a result with isError, for that is how tools are refused. */
export async function refusal(answer: RpcMessage | Promise<RpcMessage>): Promise<string> {
    const message = await answer;
    assert.equal(message.error, undefined, JSON.stringify(message).slice(0, 600));
    assert.equal(message.result!.isError, true, JSON.stringify(message).slice(0, 600));
    return text(message);
}
