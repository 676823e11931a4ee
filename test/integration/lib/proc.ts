/* The gateway seen from the outside, through /proc. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

import type { Gateway } from "./gateway.ts";

/**
 * For tests that count descriptors, as their option `skip`. The gateway lets itself not be traced or dumped, and so what
 * /proc tells of its descriptors and its environment is for root alone.
 */
export const unlessRoot: string | false = process.getuid!() !== 0 && "only root sees the descriptors of the gateway";

/** All that the gateway holds: what its limit is about. */
export const allDescriptors = (gateway: Gateway): number => readdirSync(`/proc/${gateway.pid}/fd`).length;

/** Descriptors that the gateway holds, but those of its audit trail: the index opens files as it needs them. */
export function descriptors(gateway: Gateway): number {
    const folder = `/proc/${gateway.pid}/fd`;
    const isOfTrail = (name: string): boolean => {
        try {
            const link = readlinkSync(`${folder}/${name}`);
            // Who follows it watches its folder from some moment on.
            return link.startsWith(`${gateway.dataDir}/audit/`) || link === "anon_inode:inotify";
        } catch {
            return false; // closed since
        }
    };
    return readdirSync(folder).filter((name) => !isOfTrail(name)).length;
}

/** Descendants of a process, by the parents that /proc names. */
export function descendants(pid: number): number[] {
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
    const found: number[] = [];
    for (let from = [pid]; from.length > 0; ) {
        from = [...parents].filter(([, parent]) => from.includes(parent)).map(([child]) => child);
        found.push(...from);
    }
    return found;
}
