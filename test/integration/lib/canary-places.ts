/* Whom a gateway talked to, and the places where it could have left a credential. */
import type { Peer, Record } from "./canary-record.ts";

/** A server as a connection to it looks from here. */
export interface Authority {
    hosts: string[];
    port: number;
}

const isLoopback = (host: string): boolean => /^(127\.[\d.]+|localhost|\[?::1\]?|\[?::ffff:127\.[\d.]+\]?)\.?$/i.test(host);

export function isSame(a: Authority, b: Authority): boolean {
    if (a.port !== b.port) return false;
    return a.hosts.some((host) => b.hosts.some((other) => host === other || (isLoopback(host) && isLoopback(other))));
}

export function authorityOf(url: unknown): Authority | undefined {
    if (typeof url !== "string" || !URL.canParse(url)) return undefined;
    const parsed = new URL(url);
    const usual = parsed.protocol === "https:" || parsed.protocol === "rediss:" ? 443 : parsed.protocol === "redis:" ? 6379 : 80;
    return { hosts: [parsed.hostname.toLowerCase()], port: Number(parsed.port || usual) };
}

function hostAndPort(text: string): Authority {
    const colon = text.lastIndexOf(":");
    return { hosts: [text.slice(0, colon).toLowerCase()], port: Number(text.slice(colon + 1)) };
}

/* --- the places --- */

export type PlaceKind = "server" | "child" | "client" | "control" | "log" | "file" | "argument" | "command";

export interface Place {
    kind: PlaceKind;
    /** for people: "to 127.0.0.1:8080 (TLS)" */
    name: string;
    bytes: Buffer;
    /** of kind "server" */
    authority?: Authority;
    path?: string;
}

/** A way through a record: what was said to and heard from whom, in clear. */
export interface Talk {
    kind: "server" | "client" | "child" | "other";
    name: string;
    authority?: Authority;
    said: Buffer;
    heard: Buffer;
}

/** The inside of a tunnel through a proxy, when there is one: where the first request and its answer end. */
function tunnel(peer: Peer): { target: Authority; said: number; heard: number } | undefined {
    const head = peer.said.toString("latin1", 0, 2048);
    const target = /^CONNECT (\S+) HTTP\/1\.1\r\n/.exec(head)?.[1];
    const [said, heard] = [peer.said.indexOf("\r\n\r\n"), peer.heard.indexOf("\r\n\r\n")];
    if (target === undefined || said < 0 || heard < 0) return undefined;
    return { target: hostAndPort(target), said: said + 4, heard: heard + 4 };
}

function outward(peer: Peer, all: Peer[], onWire: Set<Peer>): Talk[] {
    const address = peer.text.split(" ")[2]!;
    const through = tunnel(peer);
    const talk = (name: string, authority: Authority, said: Buffer, heard: Buffer): Talk => ({
        kind: "server",
        name: `to ${name}`,
        authority,
        said,
        heard,
    });
    const direct = hostAndPort(address);
    const far = through === undefined ? direct : through.target;
    const farName = through === undefined ? address : `${far.hosts[0]}:${far.port} through the proxy ${address}`;
    // Found by the random of its ClientHello, which is in clear on the wire.
    const inside = all.find((each) => {
        const [protocol, side, , random] = each.text.split(" ");
        if (protocol !== "tls" || side !== "client") return false;
        return peer.said.subarray(0, 8192).includes(Buffer.from(random!, "hex"));
    });
    const talks: Talk[] = [];
    if (through !== undefined) {
        talks.push(talk(`the proxy ${address}`, direct, peer.said.subarray(0, through.said), peer.heard.subarray(0, through.heard)));
        talks.push(talk(farName, far, peer.said.subarray(through.said), peer.heard.subarray(through.heard)));
    } else {
        talks.push(talk(farName, direct, peer.said, peer.heard));
    }
    if (inside !== undefined) {
        onWire.add(inside);
        const name = inside.text.split(" ")[2]!;
        const authority = { hosts: [...far.hosts, ...(name === "-" ? [] : [name.toLowerCase()])], port: far.port };
        talks.push(talk(`${farName} (TLS)`, authority, inside.said, inside.heard));
    }
    return talks;
}

export function talksOf(record: Record): Talk[] {
    const talks: Talk[] = [];
    const tls = record.peers.filter((peer) => peer.text.startsWith("tls "));
    const onWire = new Set<Peer>();
    for (const peer of record.peers) {
        const [verb, what = ""] = peer.text.split(" ");
        const talk = (kind: Talk["kind"], name: string): Talk => ({ kind, name, said: peer.said, heard: peer.heard });
        if (verb === "connect" && what !== "unix") talks.push(...outward(peer, tls, onWire));
        else if (verb === "accept" && what !== "unix") talks.push(talk("client", `to the client ${peer.text.split(" ")[2]}`));
        else if (verb === "tls" && what === "server") talks.push(talk("client", "to a client (TLS)"));
        else if (verb === "tls") continue; // comes with its connection, above
        else if (verb === "pipe") talks.push(talk("child", "to a child's stdin"));
        else talks.push(talk("other", peer.text));
    }
    const lost = tls.find((peer) => peer.text.startsWith("tls client") && !onWire.has(peer));
    if (lost !== undefined && record.lost === 0) throw new Error(`the canary does not see the connection of: ${lost.text}`);
    return talks;
}

export function placesOf(talks: Talk[]): Place[] {
    const places: Place[] = [];
    for (const talk of talks) {
        if (talk.said.length === 0) continue;
        const place = { name: talk.name, bytes: talk.said };
        if (talk.kind === "server") places.push({ kind: "server", ...place, authority: talk.authority! });
        else if (talk.kind !== "other") places.push({ kind: talk.kind, ...place });
        else if (/^std(out|err)$/.test(talk.name)) places.push({ kind: "log", ...place });
        else if (talk.name.startsWith("file ")) places.push({ kind: "file", ...place, path: talk.name.slice(5) });
        else places.push({ kind: "control", ...place });
    }
    return places;
}
