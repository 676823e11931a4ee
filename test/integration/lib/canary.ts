/*
 * The canary: no credential is where it does not belong. Everything that a gateway of the tests reads and writes is written
 * down (test/hostile/canary_shim.c); when it has ended, this looks through it.
 *
 *   credentials   what clients showed, what the configuration, the environment and the files have, tokens that issuers gave,
 *                 sessions of servers: each with where it may go (`credentialsOf`)
 *   places        what was sent to each server, issuer, child and client, the log, files, arguments (`placesOf`)
 *
 * A credential is looked for as it is, percent-encoded, in JSON, in base64, and by a large part of it. What may be where it
 * is found in spite of all is in the table EXCEPTIONS, with the reason.
 */
import { appendFileSync, existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { messages, readRecord, type Message, type Peer, type Record } from "./canary-record.ts";
import { parseToml, type TomlTable, type TomlValue } from "./toml.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../../build-asan", import.meta.url));
export const SHIM = join(BUILD, "test", "hostile", "libcanary_shim.so");

/** What is shorter may be anything. */
const LEAST = 12;

/* --- who is reached where --- */

/** A server as a connection to it looks from here. */
export interface Authority {
    hosts: string[];
    port: number;
}

const isLoopback = (host: string): boolean => /^(127\.[\d.]+|localhost|\[?::1\]?|\[?::ffff:127\.[\d.]+\]?)\.?$/i.test(host);

function isSame(a: Authority, b: Authority): boolean {
    if (a.port !== b.port) return false;
    return a.hosts.some((host) => b.hosts.some((other) => host === other || (isLoopback(host) && isLoopback(other))));
}

function authorityOf(url: unknown): Authority | undefined {
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
interface Talk {
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

function outward(peer: Peer, all: Peer[]): Talk[] {
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
        const name = inside.text.split(" ")[2]!;
        const authority = { hosts: [...far.hosts, ...(name === "-" ? [] : [name.toLowerCase()])], port: far.port };
        talks.push(talk(`${farName} (TLS)`, authority, inside.said, inside.heard));
    }
    return talks;
}

function talksOf(record: Record): Talk[] {
    const talks: Talk[] = [];
    const tls = record.peers.filter((peer) => peer.text.startsWith("tls "));
    for (const peer of record.peers) {
        const [verb, what = ""] = peer.text.split(" ");
        const talk = (kind: Talk["kind"], name: string): Talk => ({ kind, name, said: peer.said, heard: peer.heard });
        if (verb === "connect" && what !== "unix") talks.push(...outward(peer, tls));
        else if (verb === "accept" && what !== "unix") talks.push(talk("client", `to the client ${peer.text.split(" ")[2]}`));
        else if (verb === "tls" && what === "server") talks.push(talk("client", "to a client (TLS)"));
        else if (verb === "pipe") talks.push(talk("child", "to a child's stdin"));
        else talks.push(talk("other", peer.text));
    }
    return talks;
}

function placesOf(talks: Talk[]): Place[] {
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

/* --- the credentials --- */

export interface Credential {
    value: string;
    /** for people: "Authorization of a client" */
    what: string;
    /** whether it may be in that place; the search asks for each hit */
    may(place: Place): boolean;
}

const nowhere = (): boolean => false;
const toAny = (authorities: (Authority | undefined)[]) => (place: Place) =>
    place.kind === "server" && authorities.some((each) => each !== undefined && isSame(each, place.authority!));

const SECRET_NAME = /auth|token|api-?_?key|secret|cookie|credential|passw|private-?_?key|dpop/i;

interface Rule {
    rule: string;
    name: string;
    value?: string;
    default?: string;
}

/** What this is about in one [mcp.servers.NAME], of one generation of the configuration. */
interface Server {
    name: string;
    at: Authority | undefined;
    auth: TomlTable;
    rules: Rule[];
    table: TomlTable;
}

const table = (value: TomlValue | undefined): TomlTable =>
    typeof value === "object" && !Array.isArray(value) ? value : {};
const rules = (value: TomlValue | undefined): Rule[] =>
    (Array.isArray(value) ? value : []).filter((each) => typeof table(each).name === "string") as unknown as Rule[];

function serversOf(config: TomlTable): Server[] {
    const mcp = table(config.mcp);
    return Object.entries(table(mcp.servers)).map(([name, value]) => {
        const server = table(value);
        return {
            name,
            at: authorityOf(server.url),
            auth: table(server.auth),
            rules: [...rules(mcp.headers), ...rules(server.headers)],
            table: server,
        };
    });
}

/** Every string in it, with the names of the keys on the way. */
function* strings(value: TomlValue, path: string[] = []): Generator<[string[], string]> {
    if (typeof value === "string") yield [path, value];
    else if (Array.isArray(value)) for (const each of value) yield* strings(each, path);
    else if (typeof value === "object") for (const [key, each] of Object.entries(value)) yield* strings(each, [...path, key]);
}

/** {{ env.NAME }} as the gateway replaces it. */
function expand(text: string, env: NodeJS.ProcessEnv): string {
    return text.replace(/\{\{\s*env\.(\w+)\s*(?:\|\s*default\(\s*["']([^"']*)["']\s*\)\s*)?\}\}/g, (_, name: string, other?: string) =>
        env[name] ?? other ?? "",
    );
}

const fieldsOf = (message: Message, name: string): string[] =>
    message.fields.filter(([key]) => key === name).map(([, value]) => value);

/** "Bearer x" is a credential as a whole, and x is one; of "Basic x" also what x says. */
function parts(name: string, value: string): string[] {
    if (/cookie/i.test(name)) return value.split(/;\s*/).map((each) => each.slice(each.indexOf("=") + 1));
    const scheme = /^([A-Za-z][\w-]*) +(\S+)$/.exec(value);
    if (scheme === null) return [value];
    const found = [scheme[2]!];
    if (/^basic$/i.test(scheme[1]!)) {
        const plain = Buffer.from(scheme[2]!, "base64").toString("latin1");
        found.push(plain, plain.slice(plain.indexOf(":") + 1));
    }
    return found;
}

const isJwt = (value: string): boolean => /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/.test(value);

/** Where the tokens of a server are got: as configured, or as metadata told that the gateway was given. */
function tokenEndpoints(server: Server, servers: Server[], talks: Talk[], config: TomlTable): Authority[] {
    const issuers: (Authority | undefined)[] = [authorityOf(server.auth.issuer)];
    const told = (from: (Authority | undefined)[], key: RegExp): Authority[] =>
        talks
            .filter((talk) => talk.kind === "server" && from.some((each) => each !== undefined && isSame(each, talk.authority!)))
            .flatMap((talk) => [...talk.heard.toString("latin1").matchAll(key)])
            .flatMap(([, urls]) => [...urls!.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, url]) => authorityOf(url!.replaceAll("\\/", "/"))))
            .filter((each) => each !== undefined);
    if (server.auth.issuer === undefined && server.auth.type === "exchange") {
        const oauth = table(table(config.server).oauth);
        issuers.push(authorityOf(oauth.issuer), ...rules(oauth.issuers).map(() => undefined));
        for (const each of Array.isArray(oauth.issuers) ? oauth.issuers : []) issuers.push(authorityOf(table(each).issuer));
    } else if (server.auth.issuer === undefined) {
        issuers.push(...told([server.at], /"authorization_servers"\s*:\s*\[([^\]]*)\]/g));
    }
    const configured = authorityOf(server.auth.token_endpoint);
    if (configured !== undefined) return [configured];
    return told(issuers, /"token_endpoint"\s*:\s*("(?:[^"\\]|\\.)*")/g);
}

/** What one generation of the configuration says. */
interface Generation {
    config: TomlTable;
    servers: Server[];
}

class Collection {
    readonly found = new Map<string, Credential>();

    /** The same value may be two things, and then be where either may be. */
    add(value: string, what: string, may: Credential["may"]): void {
        if (value.length < LEAST) return;
        const known = this.found.get(value);
        if (known === undefined) this.found.set(value, { value, what, may });
        else if (known.may !== may) {
            const before = known.may;
            known.may = (place) => before(place) || may(place);
        }
    }
}

/** Headers that a rule of some server passes on, and to whom. */
function passedOn(name: string, generations: Generation[]): (place: Place) => boolean {
    const to = generations
        .flatMap(({ servers }) => servers)
        .filter(({ rules }) => rules.some((rule) => /^(forward|rename_duplicate)$/.test(rule.rule) && rule.name.toLowerCase() === name));
    return to.length === 0 ? nowhere : toAny(to.map(({ at }) => at));
}

function fromClients(into: Collection, talks: Talk[], generations: Generation[]): void {
    const servers = generations.flatMap(({ config, servers }) => servers.map((server) => ({ server, servers, config })));
    const forwards = toAny(servers.filter(({ server }) => server.auth.type === "forward").map(({ server }) => server.at));
    const exchanges = servers
        .filter(({ server }) => server.auth.type === "exchange")
        .flatMap(({ server, servers, config }) => tokenEndpoints(server, servers, talks, config));
    const mayByOauth = (value: string) => {
        const isSubject = toAny(exchanges), only = new RegExp(`(^|[&\\r\\n])(?!subject_token=)[\\w-]+=[^&]*${value.slice(-16)}`);
        return (place: Place) => forwards(place) || (isSubject(place) && !only.test(place.bytes.toString("latin1")));
    };
    const byName = new Map<string, Credential["may"]>();
    for (const talk of talks) {
        if (talk.kind !== "client") continue;
        for (const message of messages(talk.heard)) {
            for (const [name, value] of message.fields) {
                if (!SECRET_NAME.test(name)) continue;
                if (!byName.has(name)) byName.set(name, passedOn(name, generations));
                for (const part of parts(name, value)) {
                    if (into.found.get(part)?.what.startsWith(`${name} of a client`)) continue;
                    into.add(part, `${name} of a client`, byName.get(name)!);
                    if (name === "authorization" && isJwt(part)) into.add(part, "token of a client", mayByOauth(part));
                }
            }
        }
    }
}

function fromConfiguration(into: Collection, talks: Talk[], generations: Generation[]): void {
    for (const { config, servers } of generations) {
        for (const server of servers) {
            const own = toAny([server.at]), of = `mcp.servers.${server.name}`;
            const secret = (key: string, value: TomlValue | undefined, may: Credential["may"]) => {
                if (typeof value === "string") into.add(value, `${of}.${key}`, may);
            };
            secret("auth.token", server.auth.token, own);
            secret("auth.client_secret", server.auth.client_secret, toAny(tokenEndpoints(server, servers, talks, config)));
            for (const rule of server.rules) {
                const isSecret = SECRET_NAME.test(rule.name) || /^[\w+/=.-]{24,}$/.test(rule.value ?? "");
                for (const value of [rule.value, rule.default])
                    if (isSecret && typeof value === "string") for (const part of parts(rule.name, value)) secret(`headers ${rule.name}`, part, own);
            }
            for (const [name, value] of Object.entries(table(server.table.env)))
                if (SECRET_NAME.test(name)) secret(`env.${name}`, value, nowhere);
        }
        for (const [path, text] of strings(config)) {
            const url = /^\w+:\/\//.test(text) && URL.canParse(text) ? new URL(text) : undefined;
            if (url !== undefined && url.password !== "") {
                const to = authorityOf(text), password = decodeURIComponent(url.password);
                into.add(password, path.join("."), toAny([to]));
                into.add(`${decodeURIComponent(url.username)}:${password}`, path.join("."), toAny([to]));
            }
            if (path[0] !== "mcp" && /^(secret|password)$/.test(path.at(-1)!)) into.add(text, path.join("."), nowhere);
        }
    }
}

/** What the environment has for the gateway itself. */
function fromEnvironment(into: Collection, env: NodeJS.ProcessEnv): void {
    if (env.MCP_API_TOKEN !== undefined) into.add(env.MCP_API_TOKEN, "MCP_API_TOKEN", nowhere);
    for (const [name, value] of Object.entries(env)) {
        if (!/_proxy$/i.test(name) || value === undefined || !URL.canParse(value)) continue;
        const { username, password } = new URL(value);
        into.add(decodeURIComponent(password), name, toAny([authorityOf(value)]));
        into.add(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`, name, toAny([authorityOf(value)]));
    }
}

/** The local token, and private keys. */
function fromFiles(into: Collection, talks: Talk[]): void {
    for (const talk of talks) {
        if (!talk.name.startsWith("file ")) continue;
        const path = talk.name.slice(5);
        const text = (talk.heard.length > 0 ? talk.heard : talk.said).toString("latin1");
        const itself = (place: Place) => place.kind === "file" && place.path === path;
        if (path.endsWith("/token")) into.add(text.trim(), "the local token", itself);
        for (const [, body] of text.matchAll(/-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([^-]*)-----END/g))
            for (const line of body!.trim().split(/\s+/).slice(1, 4)) into.add(line, `the private key ${path}`, itself);
    }
}

/** Tokens that an authorization server gave, and what the gateway signed to get them. */
function fromIssuers(into: Collection, talks: Talk[], generations: Generation[]): void {
    const servers = generations.flatMap(({ config, servers }) => servers.map((server) => ({ server, servers, config })));
    for (const talk of talks) {
        if (talk.kind !== "server" || !talk.heard.includes('"access_token"')) continue;
        const requests = messages(talk.said);
        const answers = messages(talk.heard).filter(({ line }) => !/ 1\d\d\b/.test(line));
        const sources = servers.filter(({ server, servers, config }) =>
            tokenEndpoints(server, servers, talks, config).some((each) => isSame(each, talk.authority!)),
        );
        answers.forEach((answer, n) => {
            const form = new URLSearchParams(requests[n]?.body.toString("latin1") ?? "");
            const resource = authorityOf(form.get("resource"));
            const owner = resource === undefined ? sources.map(({ server }) => server.at) : [resource];
            for (const [, key, value] of answer.body.toString("latin1").matchAll(/"(access_token|refresh_token|id_token)"\s*:\s*"([^"]+)"/g))
                into.add(value!, `${key} that ${talk.name.slice(3)} gave`, key === "access_token" ? toAny(owner) : nowhere);
        });
    }
    for (const talk of talks) {
        if (talk.kind !== "server") continue;
        for (const [, assertion] of talk.said.toString("latin1").matchAll(/[&\r\n]client_assertion=([\w.-]+)/g))
            into.add(assertion!, "client_assertion", toAny([talk.authority]));
    }
}

/** A server's session belongs to the gateway; a session of the gateway to its client. */
function fromSessions(into: Collection, talks: Talk[]): void {
    for (const talk of talks) {
        if (talk.kind === "server") {
            for (const message of messages(talk.heard))
                for (const id of fieldsOf(message, "mcp-session-id")) into.add(id, "Mcp-Session-Id of a server", toAny([talk.authority]));
        } else if (talk.kind === "client") {
            for (const message of messages(talk.said))
                for (const id of fieldsOf(message, "mcp-session-id")) into.add(id, "Mcp-Session-Id of a client", (place) => place.kind === "client");
        }
    }
}

export interface Surroundings {
    env?: NodeJS.ProcessEnv;
    /** beside what is in the record: arguments, outputs of commands */
    places?: Place[];
}

function credentialsOf(talks: Talk[], { env = {} }: Surroundings): Credential[] {
    const generations = talks
        .filter((talk) => /^file .*\.toml$/.test(talk.name) && talk.heard.length > 0)
        .map((talk): Generation => {
            const config = parseToml(expand(talk.heard.toString(), env));
            return { config, servers: serversOf(config) };
        });
    const found = new Collection();
    fromConfiguration(found, talks, generations);
    fromEnvironment(found, env);
    fromFiles(found, talks);
    fromIssuers(found, talks, generations);
    fromClients(found, talks, generations);
    fromSessions(found, talks);
    return [...found.found.values()];
}

/* --- the search --- */

interface Needle {
    bytes: Buffer;
    how: string;
    credential: Credential;
}

/** In base64 it looks in one of three ways, by what is before it; the ends depend on the neighbours and are left out. */
function base64Forms(value: string): string[] {
    const forms: string[] = [];
    for (let shift = 0; shift < 3; shift++) {
        const text = Buffer.concat([Buffer.alloc(shift), Buffer.from(value, "latin1")]).toString("base64");
        const whole = text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + value.length) * 8) / 6));
        forms.push(whole, whole.replaceAll("+", "-").replaceAll("/", "_"));
    }
    return forms;
}

function needlesOf(credential: Credential): Needle[] {
    const { value } = credential;
    const forms = new Map<string, string>([[value, "as it is"]]);
    const add = (how: string, ...texts: string[]) => {
        for (const text of texts) if (text.length >= LEAST && !forms.has(text)) forms.set(text, how);
    };
    if (isJwt(value)) add("its signature", value.split(".")[2]!);
    else if (value.length >= 24) add("the end of it", value.slice(-16));
    if (!isJwt(value) && value.length >= 40) add("the beginning of it", value.slice(0, 20));
    add("percent-encoded", encodeURIComponent(value), encodeURIComponent(value).replaceAll("%20", "+"));
    add("in JSON", JSON.stringify(value).slice(1, -1), JSON.stringify(value).slice(1, -1).replaceAll("/", "\\/"));
    add("in base64", ...base64Forms(value));
    return [...forms].map(([text, how]) => ({ bytes: Buffer.from(text, "latin1"), how, credential }));
}

/* Many needles in much hay: all are found in one pass, by a rolling hash of their last WINDOW bytes. */
const WINDOW = 8, BASE = 0x01000193;
let TOP = 1;
for (let n = 0; n < WINDOW; n++) TOP = Math.imul(TOP, BASE);

class Search {
    #byHash = new Map<number, Needle[]>();
    #isThere = new Uint8Array(1 << 16);

    constructor(credentials: Credential[]) {
        for (const credential of credentials) {
            for (const needle of needlesOf(credential)) {
                let hash = 0;
                for (const byte of needle.bytes.subarray(-WINDOW)) hash = (Math.imul(hash, BASE) + byte) | 0;
                const known = this.#byHash.get(hash);
                if (known === undefined) this.#byHash.set(hash, [needle]);
                else known.push(needle);
                this.#isThere[(hash ^ (hash >>> 16)) & 0xffff] = 1;
            }
        }
    }

    *in(hay: Buffer): Generator<{ needle: Needle; at: number }> {
        const isThere = this.#isThere;
        let hash = 0;
        for (let at = 0; at < hay.length; at++) {
            hash = (Math.imul(hash, BASE) + hay[at]!) | 0;
            if (at >= WINDOW) hash = (hash - Math.imul(TOP, hay[at - WINDOW]!)) | 0;
            if (isThere[(hash ^ (hash >>> 16)) & 0xffff] === 0) continue;
            for (const needle of this.#byHash.get(hash) ?? []) {
                const from = at + 1 - needle.bytes.length;
                if (from >= 0 && needle.bytes.compare(hay, from, at + 1) === 0) yield { needle, at: from };
            }
        }
    }
}

/** What a hit may be in spite of all, and why. */
interface Exception {
    why: string;
    is(hit: { credential: Credential; place: Place; heard: Heard }): boolean;
}

/** What servers and children said: for what goes back to a client or into the log because they put it there. */
class Heard {
    #talks: Talk[];
    constructor(talks: Talk[]) {
        this.#talks = talks;
    }

    /** in a body, not in a header */
    inABody(value: string): boolean {
        const bytes = Buffer.from(value, "latin1");
        return this.#talks.some((talk) => {
            if (talk.kind === "child") return talk.heard.includes(bytes);
            if (talk.kind !== "server" || !talk.heard.includes(bytes)) return false;
            return messages(talk.heard).some(({ body }) => body.includes(bytes));
        });
    }

    /** in what a client sent as a message */
    inARequest(value: string): boolean {
        const bytes = Buffer.from(value, "latin1");
        return this.#talks.some((talk) => talk.kind === "client" && messages(talk.heard).some(({ body }) => body.includes(bytes)));
    }
}

export const EXCEPTIONS: Exception[] = [
    {
        why: "a server put it into what it answered, and it goes to the client as every answer does",
        is: ({ place, heard, credential }) => place.kind === "client" && heard.inABody(credential.value),
    },
    {
        why: "a client put it into a message of its own, too, and that goes where the message goes",
        is: ({ place, heard, credential }) => /^(server|child|client)$/.test(place.kind) && heard.inARequest(credential.value),
    },
];

export interface Leak {
    credential: string;
    how: string;
    place: string;
    /** the bytes around, in which the credential is no more than its first four characters */
    around: string;
}

export interface Result {
    leaks: Leak[];
    bytes: number;
    lost: number;
    credentials: number;
    places: number;
}

/** 60 bytes around it, without any credential. */
function around(place: Place, at: number, len: number, all: Credential[]): string {
    const before = place.bytes.toString("latin1", Math.max(0, at - 60), at);
    const after = place.bytes.toString("latin1", at + len, at + len + 60);
    const shown = place.bytes.toString("latin1", at, at + 4);
    const clean = (text: string) => {
        for (const { value } of all) text = text.replaceAll(value, `${value.slice(0, 4)}...`);
        return JSON.stringify(text).slice(1, -1);
    };
    return `${clean(before)}>>>${shown}...<<<${clean(after)}`;
}

export function examine(record: Record, surroundings: Surroundings = {}): Result {
    const talks = talksOf(record);
    const places = [...placesOf(talks), ...(surroundings.places ?? [])];
    const credentials = credentialsOf(talks, surroundings);
    const search = new Search(credentials), heard = new Heard(talks);
    const leaks = new Map<string, Leak>();
    for (const place of places) {
        for (const { needle, at } of search.in(place.bytes)) {
            const { credential } = needle;
            const key = `${credential.value}\n${place.kind}\n${place.name}`;
            if (leaks.has(key) || credential.may(place)) continue;
            if (EXCEPTIONS.some((each) => each.is({ credential, place, heard }))) continue;
            leaks.set(key, {
                credential: `${credential.what} (${credential.value.slice(0, 4)}..., ${credential.value.length} characters)`,
                how: needle.how,
                place: place.name,
                around: around(place, at, needle.bytes.length, credentials),
            });
        }
    }
    return {
        leaks: [...leaks.values()],
        bytes: record.bytes,
        lost: record.lost,
        credentials: credentials.length,
        places: places.length,
    };
}

export function report(leaks: Leak[]): string {
    const lines = leaks.slice(0, 20).map((leak) => `  ${leak.credential}\n    ${leak.place}, ${leak.how}: ${leak.around}`);
    const more = leaks.length > 20 ? [`  and ${leaks.length - 20} more`] : [];
    return [`credentials where they do not belong (${leaks.length}):`, ...lines, ...more].join("\n");
}

/* --- of a gateway that runs --- */

/** What one test file looked at. */
const total = { processes: 0, bytes: 0, credentials: 0, cut: 0, notWatched: 0, leaks: 0 };
const unread = new Set<Canary>();
/** What commands said, for the gateway on whose data directory they worked. */
const outputs = new Map<string, Place[]>();

const after = (args: string[], name: string): string | undefined => args[args.indexOf(name) + 1 || args.length];

/** What a command printed has none of the credentials that it could read; of a running gateway's more is known at its end. */
export function checkCommand(args: string[], env: NodeJS.ProcessEnv, text: string): void {
    if (args[0] === "token") return; // whose work it is to print one
    const place: Place = { kind: "command", name: `output of cardea ${args[0]}`, bytes: Buffer.from(text) };
    const dataDir = after(args, "--data-dir");
    if (dataDir !== undefined) outputs.set(dataDir, [...(outputs.get(dataDir) ?? []), place]);
    const files = [...args.filter((arg) => arg.endsWith(".toml")), ...(dataDir === undefined ? [] : [join(dataDir, "token")])];
    const peers = files
        .filter((file) => existsSync(file) && statSync(file).isFile())
        .map((file) => ({ text: `file ${file}`, heard: readFileSync(file), said: Buffer.alloc(0) }));
    const { leaks } = examine({ peers, bytes: 0, lost: 0 }, { env, places: [place] });
    if (leaks.length > 0) throw new Error(report(leaks));
}

export class Canary {
    #prefix: string;
    #env: NodeJS.ProcessEnv;
    #dataDir: string;
    #places: Place[] = [];
    #file: string | undefined;

    /** `prefix`: where the record is to be, in a folder that lives as long as the gateway */
    constructor(prefix: string, env: NodeJS.ProcessEnv, dataDir: string) {
        this.#prefix = prefix;
        this.#env = env;
        this.#dataDir = dataDir;
        if (!existsSync(SHIM)) throw new Error(`no canary at ${SHIM}: build it, or set CARDEA_BUILD_DIR`);
    }

    /** The environment of a process that is to be written down. */
    get env(): NodeJS.ProcessEnv {
        const { LD_PRELOAD, ASAN_OPTIONS } = this.#env;
        return {
            ...this.#env,
            CANARY_RECORD: this.#prefix,
            LD_PRELOAD: LD_PRELOAD === undefined ? SHIM : `${SHIM}:${LD_PRELOAD}`,
            ASAN_OPTIONS: `${ASAN_OPTIONS ?? ""}:verify_asan_link_order=0`,
        };
    }

    started(pid: number): void {
        this.#file = `${this.#prefix}.${pid}`;
        unread.add(this);
    }

    /** While it runs: what everybody on the machine sees of it, and of what the kernel keeps of its start. */
    look(pid: number): void {
        for (const name of ["cmdline", "environ"]) {
            try {
                const bytes = readFileSync(`/proc/${pid}/${name}`);
                if (name === "environ" && !bytes.includes("MCP_API_TOKEN")) continue;
                this.#places.push({ kind: "argument", name: `/proc/PID/${name}`, bytes });
            } catch {
                // it has ended
            }
        }
    }

    record(): Record {
        return readRecord(this.#file!);
    }

    /** What is known so far. */
    examine(): Result {
        const places = [...this.#places, ...(outputs.get(this.#dataDir) ?? [])];
        return examine(this.record(), { env: this.#env, places });
    }

    /** When it has ended: what must not have been. */
    end(): Leak[] {
        if (!unread.delete(this) || this.#file === undefined || !existsSync(this.#file)) return [];
        const result = this.examine();
        rmSync(this.#file, { force: true });
        total.processes++;
        total.bytes += result.bytes;
        total.credentials += result.credentials;
        total.cut += result.lost > 0 ? 1 : 0;
        total.leaks += result.leaks.length;
        return result.leaks;
    }
}

process.on("exit", () => {
    // Gateways that nobody stopped.
    const left = [...unread].flatMap((canary) => canary.end());
    if (left.length > 0) {
        process.stderr.write(`${report(left)}\n`);
        process.exitCode = 1;
    }
    if (total.processes > 0 && process.env.CARDEA_CANARY_LOG !== undefined)
        appendFileSync(process.env.CARDEA_CANARY_LOG, `${JSON.stringify(total)}\n`);
});
