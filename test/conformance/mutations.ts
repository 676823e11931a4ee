/*
 * What proxies that do not know MCP well do to it. `visible` is where table 4.6 of our notes, measured with the
 * conformance suite, says that it shows: our own checks of that revision must notice it, too.
 */
import type { Fields, Mutation } from "./lib/proxy.ts";
import { KEY, type Rpc } from "./lib/wire.ts";

const without = (pattern: RegExp) => (fields: Fields) => fields.filter(([name]) => !pattern.test(name));

/** Deletes these keys wherever they are. */
function strip(value: unknown, keys: string[]): void {
    if (typeof value !== "object" || value === null) return;
    for (const key of keys) delete (value as { [key: string]: unknown })[key];
    for (const inner of Object.values(value)) strip(inner, keys);
}

/** As a proxy does that makes the envelope itself: what the client left out, it puts in. */
const envelope = (capabilities: object) => (message: Rpc) => {
    const _meta = message.params?._meta as { [key: string]: unknown } | undefined;
    // A legacy request has no envelope, and gets none.
    if (_meta === undefined || !Object.keys(_meta).some((key) => key.startsWith("io.modelcontextprotocol/"))) return;
    _meta[KEY.capabilities] = capabilities;
};

export const ALL_CAPABILITIES = { sampling: {}, elicitation: { form: {}, url: {} }, roots: {} };

export const transparent: Mutation = { name: "changes nothing", visible: "none" };

export const mutations: Mutation[] = [
    {
        name: "rewrites Host",
        visible: "both",
        requestFields: (fields, { target }) =>
            fields.map(([name, value]) => [name, /^host$/i.test(name) ? `127.0.0.1:${target}` : value]),
    },
    {
        name: "rewrites Host and drops Origin",
        visible: "both",
        requestFields: (fields, { target }) =>
            without(/^origin$/i)(fields).map(([name, value]) => [
                name,
                /^host$/i.test(name) ? `127.0.0.1:${target}` : value,
            ]),
    },
    {
        name: "drops the Mcp-* fields of requests that it does not know",
        visible: "2026-07-28",
        requestFields: without(/^mcp-(?!session-id$|protocol-version$)/i),
    },
    { name: "drops Mcp-Param-*", visible: "2026-07-28", requestFields: without(/^mcp-param-/i) },
    {
        name: "drops MCP-Protocol-Version",
        visible: "2026-07-28",
        requestFields: without(/^mcp-protocol-version$/i),
    },
    {
        name: "drops params._meta",
        visible: "both",
        requestMessage: (message) => {
            delete message.params?._meta;
        },
    },
    { name: "says that no client can anything", visible: "2026-07-28", requestMessage: envelope({}) },
    {
        name: "says that every client can everything",
        visible: "2026-07-28",
        requestMessage: envelope(ALL_CAPABILITIES),
    },
    {
        name: "drops params that an older schema does not have",
        visible: "2026-07-28",
        requestMessage: (message) => {
            delete message.params?.inputResponses;
            delete message.params?.requestState;
        },
    },
    {
        name: "makes 200 of 4xx",
        visible: "both",
        status: (status) => (status >= 400 && status < 500 ? 200 : status),
    },
    {
        name: "drops Mcp-Session-Id of responses",
        visible: "2025-11-25",
        responseFields: without(/^mcp-session-id$/i),
    },
    { name: "holds a stream back until its end", visible: "both", buffer: true },
    {
        name: "strips resultType",
        visible: "2026-07-28",
        responseMessage: ({ result }) => strip(result, ["resultType"]),
    },
    {
        name: "strips ttlMs and cacheScope",
        visible: "2026-07-28",
        responseMessage: ({ result }) => strip(result, ["ttlMs", "cacheScope"]),
    },
    {
        name: "strips $schema and $anchor",
        visible: "both",
        responseMessage: ({ result }) => strip(result, ["$schema", "$anchor"]),
    },
    {
        name: "strips id and retry of events, and Last-Event-ID",
        visible: "none",
        requestFields: without(/^last-event-id$/i),
        event: (event) => event.filter(([name]) => name !== "id" && name !== "retry"),
    },
    {
        name: "makes -32603 of -3202x",
        visible: "2026-07-28",
        responseMessage: ({ error }) => {
            if (error !== undefined && error.code <= -32020 && error.code >= -32029) error.code = -32603;
        },
    },
    {
        name: "drops error.data",
        visible: "2026-07-28",
        responseMessage: ({ error }) => {
            delete error?.data;
        },
    },
    {
        name: "answers errors with the id null",
        visible: "2026-07-28",
        responseMessage: (message) => {
            if (message.error !== undefined) message.id = null;
        },
    },
    {
        name: "makes strings of ids, and does not make them numbers again",
        visible: "both",
        requestMessage: (message) => {
            if (message.id !== undefined) message.id = String(message.id);
        },
    },
    { name: "takes 100 ms longer", visible: "none", delayMs: 100 },
];
