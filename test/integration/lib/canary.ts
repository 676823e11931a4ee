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

import { credentialsOf, type Credential, type Surroundings } from "./canary-credentials.ts";
import { placesOf, talksOf, type Place, type Talk } from "./canary-places.ts";
import { messages, readRecord, type Record } from "./canary-record.ts";
import { needlesOf, Search } from "./canary-search.ts";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../../build-asan", import.meta.url));
export const SHIM = join(BUILD, "test", "hostile", "libcanary_shim.so");

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

/** Where the console hands a session's secrets, and a new token, to the browser that they are for. */
const HANDED_OVER = /(__Host-cardea-session=[\w-]{22}\.|"csrf_token":"|X-CSRF-Token: |"token":")[\w-]+/g;

export const EXCEPTIONS: Exception[] = [
    {
        why: "the console gives a session's cookie and CSRF token, and a token that was made, to whoever asked for it",
        is: ({ place, credential }) =>
            place.kind === "client" &&
            !place.bytes.toString("latin1").replaceAll(HANDED_OVER, "").includes(credential.value),
    },
    {
        why: "the file in which the gateway keeps its token: tests show tokens that are that one and a little more",
        is: ({ place }) => place.kind === "file" && place.path!.endsWith("/token"),
    },
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

/** 60 bytes on each side, without any credential. */
function around(place: Place, at: number, len: number, found: Credential, all: Credential[]): string {
    // The hit may be a part of it, or of a form of it: the rest must not be shown either.
    const room = 60 + 2 * found.value.length;
    const text = place.bytes.toString("latin1", Math.max(0, at - room), at + len + room);
    const forms = all.flatMap((each) => needlesOf(each).map((needle) => needle.bytes.toString("latin1")));
    let clean = text;
    for (const form of forms.sort((a, b) => b.length - a.length)) clean = clean.replaceAll(form, `\0${form.slice(0, 4)}...\x01`);
    const first = clean.indexOf(`\0`);
    const last = clean.indexOf("\x01", first) + 1;
    const shown = clean.slice(Math.max(0, first - 60), last + 60);
    return JSON.stringify(shown).slice(1, -1).replaceAll("\\u0000", ">>>").replaceAll("\\u0001", "<<<");
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
                around: around(place, at, needle.bytes.length, credential, credentials),
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
const total = { processes: 0, bytes: 0, credentials: 0, cut: 0 };
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
        return result.leaks;
    }
}

/** For a gateway that is to be started: undefined where nothing is written down. */
export const watch = (prefix: string, env: NodeJS.ProcessEnv, dataDir: string): Canary | undefined =>
    process.env.CARDEA_TEST_CANARY === "0" ? undefined : new Canary(prefix, env, dataDir);

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
