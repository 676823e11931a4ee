/*
 * Clients without an SDK, one for each revision and each transport: Streamable HTTP, HTTP+SSE, and stdio through
 * `cardea connect`. They declare all that a server can ask for, and answer it in the way of their era.
 */
import { CAPABILITIES_KEY, CLIENT_KEY, LEVEL_KEY, MODERN, VERSION_KEY } from "../fixtures/brain.ts";
import type { Caller, CallOptions, Place } from "./callers.ts";
import type { RpcMessage } from "./control.ts";
import { initialize, send, stream, type Target } from "./http.ts";
import { encodeField } from "./modern.ts";
import { openSse } from "./sse.ts";
import { StdioClient } from "./stdio-client.ts";
import { Recording, within } from "./wait.ts";

export const DECLARED = { sampling: {}, elicitation: {}, roots: {} };
export const ANSWERS: { [method: string]: object } = {
    "elicitation/create": { action: "accept", content: { name: "Ann" } },
    "sampling/createMessage": { role: "assistant", model: "none", content: { type: "text", text: "hello" } },
    "roots/list": { roots: [{ uri: "file:///tmp/ann" }] },
};

export type Transport = "http" | "sse" | "stdio";
type Params = { [key: string]: unknown };

/** What carries the messages of one client, and all that came. */
interface Link {
    wire: Recording<RpcMessage>;
    /** The end of `signal` hangs up, where there is something to hang up. */
    send(message: RpcMessage, signal?: AbortSignal): Promise<void>;
    close(): Promise<void>;
}

export const targetOf = (place: Place): { target: Target; path: string } => {
    const { port, pathname } = new URL(place.url);
    return {
        target: { port: Number(port), token: (place.headers.Authorization ?? "").replace("Bearer ", "") },
        path: pathname,
    };
};

/** Everything that is pushed to one is pushed to the other. */
function feed(from: Recording<RpcMessage>, to: Recording<RpcMessage>): void {
    for (const item of from.items) to.push(item);
    const push = from.push.bind(from);
    from.push = (item) => {
        push(item);
        to.push(item);
    };
}

/** Header fields of a request of 2026-07-28, the mirrored arguments of the tool "mirror" among them. */
function modernFields(message: RpcMessage): { [name: string]: string } {
    const params = (message.params ?? {}) as Params;
    const method = message.method!;
    const name = { "tools/call": params.name, "prompts/get": params.name, "resources/read": params.uri }[method];
    const fields: { [name: string]: string } = { "MCP-Protocol-Version": MODERN, "Mcp-Method": method };
    if (name !== undefined) fields["Mcp-Name"] = encodeField(String(name));
    if (method !== "tools/call" || !String(params.name).endsWith("mirror")) return fields;
    const args = (params.arguments ?? {}) as { region?: string; count?: number; deep?: { flag?: boolean } };
    if (args.region !== undefined) fields["Mcp-Param-Region"] = encodeField(args.region);
    if (args.count !== undefined) fields["Mcp-Param-Count"] = String(args.count);
    if (args.deep?.flag !== undefined) fields["Mcp-Param-Flag"] = String(args.deep.flag);
    return fields;
}

async function overHttp(place: Place, version: string, wire: Recording<RpcMessage>, declared: object): Promise<Link> {
    const { target, path } = targetOf(place);
    const isModern = version === MODERN;
    let fields: { [name: string]: string } = {};
    const post = async (message: RpcMessage, signal?: AbortSignal) => {
        const headers = isModern ? modernFields(message) : fields;
        if (message.method === undefined || message.id === undefined) {
            await send(target, { path, body: message, headers });
            return;
        }
        const { messages } = await stream(target, { method: "POST", path, body: message, headers, signal });
        feed(messages, wire);
    };
    if (isModern) return { wire, send: post, close: async () => {} };
    const opened = await send(target, { path, body: initialize(version, declared as Params) });
    wire.push(opened.messages.at(-1)!);
    fields = { "Mcp-Session-Id": String(opened.headers["mcp-session-id"]), "MCP-Protocol-Version": version };
    await post({ jsonrpc: "2.0", method: "notifications/initialized" });
    const listening = await stream(target, { method: "GET", path, headers: fields });
    feed(listening.messages, wire);
    return {
        wire,
        send: post,
        close: async () => {
            listening.close();
            await send(target, { method: "DELETE", path, headers: fields });
        },
    };
}

async function overSse(place: Place, version: string, wire: Recording<RpcMessage>, declared: object): Promise<Link> {
    const { target, path } = targetOf(place);
    const session = await openSse(target, `${path}/sse`);
    feed(session.messages, wire);
    const post = async (message: RpcMessage) => {
        const { status, text } = await session.post(message);
        if (status !== 202) throw new Error(`a message got ${status} ${text}`);
    };
    await post(initialize(version, declared as Params));
    await wire.waitFor((message) => message.id === "init");
    await post({ jsonrpc: "2.0", method: "notifications/initialized" });
    return { wire, send: post, close: async () => session.close() };
}

async function overStdio(place: Place, version: string, wire: Recording<RpcMessage>, declared: object): Promise<Link> {
    const { target } = targetOf(place);
    const client = new StdioClient(["connect", place.url], { ...process.env, CARDEA_TOKEN: String(target.token) });
    feed(client.messages, wire);
    const write = async (message: RpcMessage) => client.write(message);
    if (version !== MODERN) {
        await write(initialize(version, declared as Params));
        await wire.waitFor((message) => message.id === "init");
        await write({ jsonrpc: "2.0", method: "notifications/initialized" });
    }
    return { wire, send: write, close: async () => void (await client.close()) };
}

const LINKS = { http: overHttp, sse: overSse, stdio: overStdio };

/** A modern client answers by calling again, as often as it is asked. */
async function withAnswers(run: (params: Params) => Promise<RpcMessage>, params: Params): Promise<RpcMessage> {
    for (let round = 0, more = {}; round < 5; round++) {
        const answer = await run({ ...params, ...more });
        if (answer.result?.resultType !== "input_required") return answer;
        const { inputRequests, requestState } = answer.result as {
            inputRequests?: { [key: string]: { method: string } };
            requestState?: string;
        };
        const inputResponses = Object.fromEntries(
            Object.entries(inputRequests ?? {}).map(([key, { method }]) => [key, ANSWERS[method]]),
        );
        more = { inputResponses, ...(requestState === undefined ? {} : { requestState }) };
    }
    throw new Error("asked again and again");
}

function callerOn(link: Link, version: string, negotiated: string, transport: Transport, declared: object): Caller {
    const { wire } = link;
    const isModern = version === MODERN;
    const push = wire.push.bind(wire);
    wire.push = (message) => {
        push(message);
        if (message.method === undefined || message.id === undefined) return;
        const result = message.method === "ping" ? {} : ANSWERS[message.method];
        void link.send({ jsonrpc: "2.0", id: message.id, ...(result ? { result } : { error: { code: -32601, message: "no" } }) });
    };
    let level: string | undefined;
    let next = 0;
    const once = async (method: string, params: Params, options: CallOptions): Promise<RpcMessage> => {
        const id = ++next;
        const from = wire.items.length;
        const meta: Params = { ...(params._meta as object | undefined) };
        if (options.progress) meta.progressToken = `token-${id}`;
        if (isModern) {
            meta[VERSION_KEY] = MODERN;
            meta[CAPABILITIES_KEY] ??= declared;
            meta[CLIENT_KEY] ??= { name: "raw-modern", version: "1" };
            if (level !== undefined) meta[LEVEL_KEY] = level;
        }
        const hangUp = new AbortController();
        const cancelled = new Promise<never>((_, reject) =>
            options.signal?.addEventListener("abort", () => {
                const tell: RpcMessage = { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: id } };
                // Over HTTP a modern client hangs up; all others say it.
                const told = isModern && transport === "http" ? Promise.resolve() : link.send(tell);
                void told.finally(() => hangUp.abort());
                reject(new Error("cancelled"));
            }),
        );
        cancelled.catch(() => {});
        const body: RpcMessage = { jsonrpc: "2.0", id, method, params };
        if (Object.keys(meta).length > 0) body.params = { ...params, _meta: meta };
        const sent = link.send(body, hangUp.signal).catch((error: Error) => {
            if (!hangUp.signal.aborted) throw error;
        });
        const answer = wire.waitFor((item) => item.id === id && item.method === undefined, from);
        answer.catch(() => {});
        await Promise.race([sent, cancelled]);
        return Promise.race([answer, cancelled]);
    };
    return {
        version: negotiated,
        isModern,
        wire,
        request: (method, params = {}, options = {}) =>
            isModern && declared === DECLARED ? withAnswers((each) => once(method, each, options), params) : once(method, params, options),
        setLevel: async (wanted) => {
            level = wanted;
            if (!isModern) await once("logging/setLevel", { level: wanted }, {});
        },
        close: () => link.close(),
    };
}

export async function openRaw(
    place: Place,
    version: string,
    transport: Transport,
    declared: object = DECLARED,
): Promise<Caller> {
    const wire = new Recording<RpcMessage>(`message to a client of ${version} on ${transport}`);
    const opening = LINKS[transport](place, version, wire, declared);
    const link = await within(opening, `a client of ${version} on ${transport} connects`);
    const begun = wire.items.find((item) => item.id === "init")?.result as { protocolVersion: string } | undefined;
    return callerOn(link, version, begun?.protocolVersion ?? version, transport, declared);
}

/** Every revision on every transport that it can be spoken on. */
export const RAW_CLIENTS: { name: string; version: string; transport: Transport }[] = [
    ...["2025-03-26", "2025-06-18", "2025-11-25", MODERN].map((version) => ({ version, transport: "http" as const })),
    ...["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"].map((version) => ({ version, transport: "sse" as const })),
    ...["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", MODERN].map((version) => ({
        version,
        transport: "stdio" as const,
    })),
].map((client) => ({ name: `${client.version} on ${client.transport}`, ...client }));
