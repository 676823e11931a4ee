/* Every credential that a gateway came to know, and where it may be. */
import { createPrivateKey } from "node:crypto";

import { messages, type Message } from "./canary-record.ts";
import { authorityOf, isSame, type Authority, type Place, type Talk } from "./canary-places.ts";
import { parseToml, type TomlTable, type TomlValue } from "./toml.ts";

/** What is shorter may be anything. */
export const LEAST = 12;

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

/** What {{ secret.NAME }} stands for, as tests have put it into a store. */
export const secretValues = new Map<string, string>();

/** {{ env.NAME }} and {{ secret.NAME }} as the gateway replaces them. */
function expand(text: string, env: NodeJS.ProcessEnv): string {
    const known = text.replace(/\{\{\s*secret\.([\w.-]+)\s*\}\}/g, (_, name: string) => secretValues.get(name) ?? "");
    return known.replace(/\{\{\s*env\.(\w+)\s*(?:\|\s*default\(\s*["']([^"']*)["']\s*\)\s*)?\}\}/g, (_, name: string, other?: string) =>
        env[name] ?? other ?? "",
    );
}

const fieldsOf = (message: Message, name: string): string[] =>
    message.fields.filter(([key]) => key === name).map(([, value]) => value);

/** "Bearer x" is a credential as a whole, and x is one; of "Basic x" also what x says. */
function parts(name: string, value: string): string[] {
    // Of the console's the first half is the session's id, which is shown in lists.
    if (/cookie/i.test(name)) {
        return value.split(/;\s*/).map((each) =>
            each.slice(each.indexOf("=") + 1).replace(/^[\w-]{22}\.(?=[\w-]{43}$)/, ""),
        );
    }
    const scheme = /^([A-Za-z][\w-]*) +(\S+)$/.exec(value);
    if (scheme === null) return [value];
    const found = [scheme[2]!];
    if (/^basic$/i.test(scheme[1]!)) {
        const plain = Buffer.from(scheme[2]!, "base64").toString("latin1");
        if (/^[\x20-\x7e]+$/.test(plain)) found.push(plain, plain.slice(plain.indexOf(":") + 1));
    }
    return found;
}

export const isJwt = (value: string): boolean => /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/.test(value);

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
    #mays = new Map<string, Set<Credential["may"]>>();

    /** The same value may be two things, and then be where either may be. */
    add(value: string, what: string, may: Credential["may"]): void {
        if (value.length < LEAST) return;
        const mays = this.#mays.get(value) ?? new Set();
        mays.add(may);
        this.#mays.set(value, mays);
        if (!this.found.has(value)) this.found.set(value, { value, what, may: (place) => [...mays].some((each) => each(place)) });
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
    const byName = new Map<string, Credential["may"]>(), seen = new Set<string>();
    for (const talk of talks) {
        if (talk.kind !== "client") continue;
        for (const message of messages(talk.heard)) {
            for (const [name, value] of message.fields) {
                if (!SECRET_NAME.test(name)) continue;
                if (!byName.has(name)) byName.set(name, passedOn(name, generations));
                for (const part of parts(name, value)) {
                    if (seen.has(`${name}:${part}`)) continue;
                    seen.add(`${name}:${part}`);
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

/** What of a private key in PEM is secret, by lines; the public key is in it too, and in certificates. */
function secretLines(pem: string): string[] {
    const lines = pem.split(/\s*\n/).filter((line) => /^[\w+/=]+$/.test(line));
    try {
        const secret = Buffer.from(createPrivateKey(pem).export({ format: "jwk" }).d!, "base64url");
        const at = Buffer.from(lines.join(""), "base64").indexOf(secret);
        let [from, to] = [Math.ceil((at * 8) / 6), Math.floor(((at + secret.length) * 8) / 6)];
        return lines.map((line) => {
            const piece = line.slice(Math.max(from, 0), Math.max(to, 0));
            [from, to] = [from - line.length, to - line.length];
            return piece;
        });
    } catch {
        return []; // no key, or one that is encrypted
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
        for (const [pem] of text.matchAll(/-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*-----END [A-Z ]*PRIVATE KEY-----/g))
            for (const piece of secretLines(pem)) into.add(piece, `the private key ${path}`, itself);
    }
}

const withoutQuery = (url: TomlValue | undefined): string | undefined => (typeof url === "string" ? url.replace(/\?.*/, "") : undefined);

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
            const resource = form.get("resource");
            const named = sources.filter(({ server }) => (server.auth.resource ?? withoutQuery(server.table.url)) === resource);
            const servers = named.length > 0 ? named : resource === null ? sources : [];
            const owner = servers.length > 0 ? servers.map(({ server }) => server.at) : [authorityOf(resource)];
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
    const ids = (bytes: Buffer) => messages(bytes).flatMap((message) => fieldsOf(message, "mcp-session-id"));
    for (const talk of talks) {
        if (talk.kind !== "server") continue;
        for (const id of ids(talk.heard)) into.add(id, "Mcp-Session-Id of a server", toAny([talk.authority]));
    }
    const ofServers = new Set(into.found.keys());
    const may = (place: Place) => place.kind === "client";
    for (const talk of talks) {
        if (talk.kind !== "client") continue;
        for (const id of ids(talk.said)) {
            const random = id.replace(/^[A-Za-z0-9]{1,16}\./, ""); // before it is server.instance, which is no secret
            if (!ofServers.has(id)) into.add(random, "Mcp-Session-Id of a client", may);
        }
    }
}

export interface Surroundings {
    env?: NodeJS.ProcessEnv;
    /** beside what is in the record: arguments, outputs of commands */
    places?: Place[];
}

export function credentialsOf(talks: Talk[], { env = {} }: Surroundings): Credential[] {
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
