/* The gateway seen from outside: what it and its children take. */
import { readdirSync, readFileSync } from "node:fs";

import { cardea } from "../integration/lib/cli.ts";
import type { Gateway } from "../integration/lib/gateway.ts";
import { descriptors, unlessRoot } from "../integration/lib/proc.ts";

export interface Sample {
    /** in bytes */
    rss: number;
    anonymous: number;
    peak: number;
    /** undefined where only root sees them */
    descriptors: number | undefined;
    threads: number;
    /** without the spawner, which is always there */
    children: number;
    sessions: number;
    held: number;
}

/** Pids of living descendants, each with its command line. */
export function descendants(pid: number): Map<number, string> {
    const parents = new Map<number, number>();
    for (const name of readdirSync("/proc")) {
        if (!/^\d+$/.test(name)) continue;
        try {
            const stat = readFileSync(`/proc/${name}/stat`, "utf8");
            const rest = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
            if (rest[0] !== "Z") parents.set(Number(name), Number(rest[1]));
        } catch {
            // it has ended in between
        }
    }
    const found = new Map<number, string>();
    for (let from = [pid]; from.length > 0;) {
        from = [...parents].filter(([, parent]) => from.includes(parent)).map(([child]) => child);
        for (const each of from) {
            try {
                found.set(each, readFileSync(`/proc/${each}/cmdline`, "utf8").replaceAll("\0", " ").trim());
            } catch {
                // likewise
            }
        }
    }
    return found;
}

export async function sample(gateway: Gateway): Promise<Sample> {
    const run = await cardea(["status", "--json", "--data-dir", gateway.dataDir]);
    if (run.code !== 0) throw new Error(`cardea status: ${run.code} ${run.stderr}`);
    const { held, sessions } = (JSON.parse(run.stdout) as { status: { held: number; sessions: number } }).status;
    const text = readFileSync(`/proc/${gateway.pid}/status`, "utf8");
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)![1]);
    return {
        rss: kib("VmRSS") * 1024,
        anonymous: kib("RssAnon") * 1024,
        peak: kib("VmHWM") * 1024,
        descriptors: unlessRoot === false ? descriptors(gateway) : undefined,
        threads: kib("Threads"),
        children: [...descendants(gateway.pid).values()].filter((command) => command.includes("soak_child")).length,
        sessions,
        held,
    };
}

const mib = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;

export const show = (it: Sample): string =>
    `RSS ${mib(it.rss)} (anonymous ${mib(it.anonymous)}), ${it.descriptors ?? "?"} descriptors, ${it.threads} threads, ` +
    `${it.children} children, ${it.sessions} sessions, ${mib(it.held)} held`;
