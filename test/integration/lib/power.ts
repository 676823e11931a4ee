/*
 * A disk that is slow, full or broken, and a power failure: the other half of ../hostile/sync_shim.c, whose head says
 * what it keeps.
 */
import assert from "node:assert/strict";
import {
    closeSync,
    copyFileSync,
    existsSync,
    ftruncateSync,
    linkSync,
    mkdirSync,
    openSync,
    readdirSync,
    readFileSync,
    readSync,
    renameSync,
    rmSync,
    statSync,
    writeSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../../build-asan", import.meta.url));
const SHIM = join(BUILD, "test", "hostile", "libsync_shim.so");

export const EIO = 5, ENOSPC = 28, EROFS = 30;

const FIELDS = [
    "sync_delay_us",
    "sync_errno",
    "sync_left",
    "write_errno",
    "write_left",
    "open_errno",
    "is_fake",
    "is_traced",
    "n_syncs",
    "n_failed_syncs",
    "n_failed_writes",
] as const;
type Field = (typeof FIELDS)[number];
type Settings = { [field in Field]?: number };

const FILES_MAX = 4096, EVENT = 64;
const KINDS = ["none", "synced", "upstream", "client"] as const;

export interface DiskEvent {
    kind: (typeof KINDS)[number];
    ns: bigint;
    inode: bigint;
    size: number;
    mark: string;
}

interface Kept {
    durable: number;
    lostFrom: number;
    lostTo: number;
}

/** What of a file may be there when the power comes back, beside what was synced. */
const LEFT = ["nothing", "a part", "zeros", "a part, then zeros", "all"] as const;

export class Disk {
    /** the directory that it is about; it need not exist yet */
    readonly dir: string;
    readonly folder: string;
    readonly #control: string;
    #runs = 0;

    /** `folder`: of the same file system as `dir`, and not below it */
    constructor(dir: string, folder: string, settings: Settings = {}) {
        if (!existsSync(SHIM)) throw new Error(`no shim at ${SHIM}: build it, or set CARDEA_BUILD_DIR`);
        this.dir = dir;
        this.folder = folder;
        mkdirSync(folder, { recursive: true });
        this.#control = join(folder, "control");
        closeSync(openSync(this.#control, "w"));
        const fd = openSync(this.#control, "r+");
        ftruncateSync(fd, FIELDS.length * 8);
        closeSync(fd);
        this.set(settings);
    }

    get #record(): string {
        return join(this.folder, `run-${this.#runs}`);
    }

    /** For the next process that is to work on this disk; what was recorded of the one before is gone. */
    env(base: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
        rmSync(this.#record, { recursive: true, force: true });
        this.#runs++;
        mkdirSync(this.#record);
        return {
            ...base,
            SYNC_SHIM_DIR: this.dir,
            SYNC_SHIM_CONTROL: this.#control,
            SYNC_SHIM_RECORD: this.#record,
            LD_PRELOAD: base.LD_PRELOAD === undefined ? SHIM : `${SHIM}:${base.LD_PRELOAD}`,
            ASAN_OPTIONS: `${base.ASAN_OPTIONS ?? ""}:verify_asan_link_order=0`,
        };
    }

    set(settings: Settings): void {
        const fd = openSync(this.#control, "r+");
        for (const [name, value] of Object.entries(settings)) {
            const bytes = Buffer.alloc(8);
            bytes.writeBigInt64LE(BigInt(value));
            writeSync(fd, bytes, 0, 8, FIELDS.indexOf(name as Field) * 8);
        }
        closeSync(fd);
    }

    get(name: Field): number {
        return Number(readFileSync(this.#control).readBigInt64LE(FIELDS.indexOf(name) * 8));
    }

    /** Nothing is wrong with it any more. */
    mend(): void {
        this.set({ sync_delay_us: 0, sync_errno: 0, sync_left: 0, write_errno: 0, write_left: 0, open_errno: 0 });
    }

    /** What was synced and sent by the last process, in order. */
    trace(): DiskEvent[] {
        const fd = openSync(join(this.#record, "trace"), "r");
        const head = Buffer.alloc(EVENT);
        readSync(fd, head, 0, EVENT, 0);
        const n = Number(head.readBigUInt64LE(0));
        const bytes = Buffer.alloc(n * EVENT);
        assert.equal(readSync(fd, bytes, 0, bytes.length, EVENT), bytes.length, "the trace is whole");
        closeSync(fd);
        return Array.from({ length: n }, (_, i) => {
            const event = bytes.subarray(i * EVENT, (i + 1) * EVENT);
            const mark = event.subarray(24, 56);
            return {
                kind: KINDS[Number(event.readBigUInt64LE(56))]!,
                ns: event.readBigUInt64LE(0),
                inode: event.readBigUInt64LE(8),
                size: Number(event.readBigUInt64LE(16)),
                mark: mark.subarray(0, mark.indexOf(0)).toString("latin1"),
            };
        });
    }

    #files(): Map<string, Kept> {
        const bytes = readFileSync(join(this.#record, "files"));
        const kept = new Map<string, Kept>();
        for (let at = 0; at < FILES_MAX * 32; at += 32) {
            const inode = bytes.readBigUInt64LE(at);
            if (inode === 0n) continue;
            const [durable, lostFrom, lostTo] = [8, 16, 24].map((each) => Number(bytes.readBigUInt64LE(at + each)));
            kept.set(String(inode), { durable: durable!, lostFrom: lostFrom!, lostTo: lostTo! });
        }
        return kept;
    }

    /** The names that were durable: name to inode. */
    #listing(): Map<string, string> {
        const lines = readFileSync(join(this.#record, "listing"), "utf8").split("\n").filter((line) => line !== "");
        return new Map(lines.map((line) => [line.slice(line.indexOf(" ") + 1), line.slice(0, line.indexOf(" "))]));
    }

    /**
     * The power fails, after kill -9: the directory gets into one of the states that a file system may leave it in. Says
     * what was done. `strict`: all that may be lost is.
     */
    fail(random: (below: number) => number, strict = false): string[] {
        const done: string[] = [];
        // Without a list the process had not begun to touch anything.
        if (!existsSync(this.dir) || !existsSync(join(this.#record, "listing"))) return done;
        const maybe = () => strict || random(2) === 0;
        const files = this.#files(), durable = this.#listing();
        const inodeAt = (path: string) => String(statSync(path, { bigint: true }).ino);
        const now = new Map(readdirSync(this.dir).map((name) => [name, inodeAt(join(this.dir, name))]));
        // Names that were never synced are gone; one that was renamed has its old name again.
        for (const [name, inode] of now) {
            if (durable.get(name) === inode || !statSync(join(this.dir, name)).isFile() || !maybe()) continue;
            const old = [...durable].find(([, each]) => each === inode)?.[0];
            if (old !== undefined && !now.has(old)) {
                renameSync(join(this.dir, name), join(this.dir, old));
                done.push(`${name} is ${old} again`);
            } else {
                rmSync(join(this.dir, name));
                done.push(`${name} is gone`);
            }
        }
        for (const [name, inode] of durable) {
            const path = join(this.dir, name), kept = join(this.#record, "gone", inode);
            if (existsSync(path) || !existsSync(kept) || !maybe()) continue;
            linkSync(kept, path);
            done.push(`${name} is there again`);
        }
        for (const name of readdirSync(this.dir)) {
            const path = join(this.dir, name);
            if (!statSync(path).isFile() || name.startsWith("index.")) continue; // which proves nothing
            const change = this.#cut(path, files.get(inodeAt(path)) ?? { durable: 0, lostFrom: 0, lostTo: 0 }, random, strict);
            if (change !== undefined) done.push(`${name}: ${change}`);
        }
        return done;
    }

    #cut(path: string, kept: Kept, random: (below: number) => number, strict: boolean): string | undefined {
        const size = statSync(path).size;
        const [lostFrom, lostTo] = [kept.lostFrom, Math.min(kept.lostTo, size)];
        if (size <= kept.durable && lostTo <= lostFrom) return undefined;
        // Other names of the file are not to change with it.
        copyFileSync(path, `${path}.~`);
        renameSync(`${path}.~`, path);
        const fd = openSync(path, "r+");
        const said: string[] = [];
        try {
            if (lostTo > lostFrom) {
                writeSync(fd, Buffer.alloc(lostTo - lostFrom), 0, lostTo - lostFrom, lostFrom);
                said.push(`zeros from ${lostFrom} to ${lostTo}, which a failed sync has lost`);
            }
            if (size > kept.durable) {
                const left = strict ? "nothing" : LEFT[random(LEFT.length)]!;
                const beyond = size - kept.durable;
                const part = kept.durable + (left.startsWith("a part") ? random(beyond) : 0);
                if (left === "nothing" || left === "a part") ftruncateSync(fd, part);
                else if (left !== "all") writeSync(fd, Buffer.alloc(size - part), 0, size - part, part);
                said.push(`of ${beyond} bytes behind ${kept.durable}: ${left}`);
            }
        } finally {
            closeSync(fd);
        }
        return said.join("; ");
    }
}
