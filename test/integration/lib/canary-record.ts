/* Reads what test/hostile/canary_shim.c wrote down: every peer of a process, with what it said and what was heard. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const HEADER = 32, FRAME = 16;
const OPENED = 1, HEARD = 2, SAID = 3;

/** A connection, a pipe, a file; as long as its descriptor was open. */
export interface Peer {
    /** as the shim says it: "connect tcp 127.0.0.1:8080", "tls client up.example RANDOM", "stderr" */
    text: string;
    /** what the gateway read from it, and what it wrote to it */
    heard: Buffer;
    said: Buffer;
}

export interface Record {
    peers: Peer[];
    bytes: number;
    /** bytes for which there was no room */
    lost: number;
}

function contents(file: string): Buffer {
    const fd = openSync(file, "r");
    try {
        const head = Buffer.alloc(HEADER);
        readSync(fd, head, 0, HEADER, 0);
        if (head.toString("latin1", 0, 7) !== "CANARY1") throw new Error(`${file} is no record of the canary`);
        // Beyond the end of the frames the file is a hole.
        const size = Math.min(Number(head.readBigUInt64LE(8)), fstatSync(fd).size);
        const bytes = Buffer.alloc(size);
        for (let at = 0; at < size; ) {
            const n = readSync(fd, bytes, at, size - at, at);
            if (n === 0) break;
            at += n;
        }
        return bytes;
    } finally {
        closeSync(fd);
    }
}

export function readRecord(file: string): Record {
    const bytes = contents(file);
    const open = new Map<number, { text: string; heard: Buffer[]; said: Buffer[] }>();
    let total = 0;
    for (let at = HEADER; at + FRAME <= bytes.length; ) {
        const size = bytes.readUInt32LE(at), kind = bytes.readUInt32LE(at + 4);
        const id = bytes.readUInt32LE(at + 8), len = bytes.readUInt32LE(at + 12);
        if (size < FRAME + len || at + size > bytes.length) break; // the process was killed in between
        const payload = bytes.subarray(at + FRAME, at + FRAME + len);
        at += size;
        if (kind === OPENED) {
            open.set(id, { text: payload.toString(), heard: [], said: [] });
            continue;
        }
        const peer = open.get(id) ?? { text: "unknown", heard: [], said: [] };
        open.set(id, peer);
        total += len;
        if (kind === HEARD) peer.heard.push(payload);
        else if (kind === SAID) peer.said.push(payload);
        else throw new Error(`a frame of kind ${kind} in ${file}`);
    }
    const peers = [...open.values()].map(({ text, heard, said }) => ({
        text,
        heard: Buffer.concat(heard),
        said: Buffer.concat(said),
    }));
    return { peers, bytes: total, lost: Number(bytes.readBigUInt64LE(16)) };
}

/** A record as the shim writes it, made by hand: for tests of the checker. */
export function writeRecord(peers: { text: string; heard?: string | Buffer; said?: string | Buffer }[]): Buffer {
    const frames: Buffer[] = [];
    const frame = (kind: number, id: number, payload: Buffer) => {
        const bytes = Buffer.alloc(Math.ceil((FRAME + payload.length) / 8) * 8);
        [bytes.length, kind, id, payload.length].forEach((value, n) => bytes.writeUInt32LE(value, 4 * n));
        payload.copy(bytes, FRAME);
        frames.push(bytes);
    };
    peers.forEach((peer, n) => {
        frame(OPENED, n + 2, Buffer.from(peer.text));
        if (peer.heard !== undefined) frame(HEARD, n + 2, Buffer.from(peer.heard));
        if (peer.said !== undefined) frame(SAID, n + 2, Buffer.from(peer.said));
    });
    const head = Buffer.alloc(HEADER);
    head.write("CANARY1", "latin1");
    const all = Buffer.concat([head, ...frames]);
    all.writeBigUInt64LE(BigInt(all.length), 8);
    return all;
}

/** One message of HTTP/1.1. */
export interface Message {
    line: string;
    fields: [name: string, value: string][];
    body: Buffer;
}

function dechunk(bytes: Buffer, from: number): { body: Buffer; end: number } | undefined {
    const pieces: Buffer[] = [];
    for (let at = from; ; ) {
        const eol = bytes.indexOf("\r\n", at, "latin1");
        const size = eol < 0 ? NaN : parseInt(bytes.toString("latin1", at, eol), 16);
        if (Number.isNaN(size)) return eol < 0 ? { body: Buffer.concat(pieces), end: bytes.length } : undefined;
        if (size === 0) {
            const end = bytes.indexOf("\r\n", eol + 2, "latin1");
            return { body: Buffer.concat(pieces), end: end < 0 ? bytes.length : end + 2 };
        }
        pieces.push(bytes.subarray(eol + 2, eol + 2 + size));
        at = eol + 2 + size + 2;
        if (at > bytes.length) return { body: Buffer.concat(pieces), end: bytes.length };
    }
}

/** The messages in a stream, until one that cannot be read: whoever sends those is wrong on purpose. */
export function messages(bytes: Buffer): Message[] {
    const found: Message[] = [];
    for (let at = 0; at < bytes.length; ) {
        const blank = bytes.indexOf("\r\n\r\n", at, "latin1");
        const end = blank < 0 ? bytes.length : blank;
        const [line = "", ...rest] = bytes.toString("latin1", at, end).split("\r\n");
        if (!/\bHTTP\/1\.[01]\b/.test(line)) return found;
        const fields = rest.map((each): [string, string] => {
            const colon = each.indexOf(":");
            return [each.slice(0, Math.max(colon, 0)).toLowerCase(), each.slice(colon + 1).trim()];
        });
        const field = (name: string) => fields.find(([key]) => key === name)?.[1];
        const from = Math.min(end + 4, bytes.length);
        const length = Number(field("content-length") ?? 0);
        const status = / ([1-5]\d\d)\b/.exec(line)?.[1];
        const isBare = status !== undefined && line.startsWith("HTTP/") && (status[0] === "1" || status === "204" || status === "304");
        if (isBare) {
            found.push({ line, fields, body: Buffer.alloc(0) });
            at = from;
        } else if (/chunked/i.test(field("transfer-encoding") ?? "")) {
            const chunked = dechunk(bytes, from);
            found.push({ line, fields, body: chunked?.body ?? bytes.subarray(from) });
            if (chunked === undefined) return found;
            at = chunked.end;
        } else if (status !== undefined && line.startsWith("HTTP/") && field("content-length") === undefined) {
            found.push({ line, fields, body: bytes.subarray(from) }); // to the end of the connection
            return found;
        } else {
            if (!(length >= 0)) return found;
            found.push({ line, fields, body: bytes.subarray(from, from + length) });
            at = from + length;
        }
    }
    return found;
}
