/*
 * The same check on a server itself, through /mcp/NAME and through /mcp. What the gateway gives must be what the
 * server gives, where /mcp puts NAME__ before the names of tools and prompts.
 */
import assert from "node:assert/strict";
import { after, before } from "node:test";

import { connectDirect, connectGateway, type Peer, type PeerOptions } from "./clients.ts";
import { startGateway, type Gateway, type ServerConfig, type StdioConfig } from "./gateway.ts";
import { served } from "./http.ts";
import { Recording } from "./wait.ts";

export interface Side extends Peer {
    /** how the server's tool or prompt is called here */
    named(name: string): string;
    /** the server's own name, or undefined when it belongs to another upstream */
    own(name: string): string | undefined;
    kind: "direct" | "one upstream" | "all upstreams";
}

type Named = { name: string };

/** The entries of a merged list that belong to this upstream, under their own names. */
export function ours<T extends Named>(side: Side, items: T[]): T[] {
    return items.flatMap((item) => {
        const name = side.own(item.name);
        return name === undefined ? [] : [{ ...item, name }];
    });
}

export interface Parity {
    gateway: () => Gateway;
    /** Runs the check on all three; every answer must equal the direct one. Returns that. */
    same<T>(check: (side: Side) => Promise<T>, options?: PeerOptions): Promise<T>;
}

/** `tool` is one of the server's; `others` are fixtures that serve beside it. */
export function parity(
    name: string,
    tool: string,
    server: StdioConfig | (() => StdioConfig),
    others: () => { [name: string]: ServerConfig },
): Parity {
    let gateway: Gateway | undefined;
    const beside: { [name: string]: ServerConfig } = {};
    const definition = () => (typeof server === "function" ? server() : server);
    const onlyDirect = process.env.CARDEA_TEST_DIRECT === "1"; // proves the checks themselves: no gateway anywhere

    before(async () => {
        if (onlyDirect) return;
        Object.assign(beside, others());
        gateway = await startGateway({ config: { servers: { [name]: definition(), ...beside } } });
        await served(gateway, `${name}__${tool}`, ...Object.keys(beside).map((other) => `${other}__echo`));
    });
    after(async () => {
        await Promise.all([...direct.values()].map(async (peer) => (await peer).close()));
        await gateway?.stop();
    });

    // Starting and ending a real server takes long, so there is one direct connection for all checks of a kind.
    const direct = new Map<string, Promise<Peer>>();
    const directly = (options: PeerOptions): Promise<Peer> => {
        const key = JSON.stringify(options);
        if (!direct.has(key)) direct.set(key, connectDirect(definition(), options));
        return direct.get(key)!;
    };
    const through = (prefix: string, options: PeerOptions) =>
        connectGateway(gateway!, prefix === "" ? name : undefined, options);

    const open = async (kind: Side["kind"], options: PeerOptions): Promise<Side> => {
        const prefix = kind === "all upstreams" ? `${name}__` : "";
        const peer = await (kind === "direct" ? directly(options) : through(prefix, options));
        peer.notifications = new Recording("notification to the client");
        peer.wire = new Recording("message to the client");
        return {
            ...peer,
            close: kind === "direct" ? async () => {} : peer.close,
            notifications: peer.notifications,
            wire: peer.wire,
            kind,
            named: (item) => prefix + item,
            own: (item) => (item.startsWith(prefix) ? item.slice(prefix.length) : undefined),
        };
    };

    return {
        gateway: () => gateway!,
        async same(check, options = {}) {
            const kinds: Side["kind"][] = ["direct", "one upstream", "all upstreams"];
            const answers = [];
            for (const kind of onlyDirect ? (["direct", "direct"] as const) : kinds) {
                const side = await open(kind, options);
                try {
                    answers.push(await check(side));
                } catch (error) {
                    throw new Error(`${kind}: ${error instanceof Error ? error.stack : String(error)}`, {
                        cause: error,
                    });
                } finally {
                    await side.close();
                }
            }
            for (const [index, answer] of answers.entries()) {
                assert.deepStrictEqual(answer, answers[0], `${kinds[index]} differs from direct`);
            }
            return answers[0]!;
        },
    };
}

/** A server from node_modules. */
export function packaged(name: string, ...args: string[]): string[] {
    const file = new URL(`../node_modules/@modelcontextprotocol/${name}/dist/index.js`, import.meta.url);
    return [process.execPath, file.pathname, ...args];
}
