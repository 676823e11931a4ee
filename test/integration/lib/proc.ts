/* The gateway seen from the outside, through /proc. */
import { readdirSync } from "node:fs";

import type { Gateway } from "./gateway.ts";

/**
 * For tests that count descriptors, as their option `skip`. The gateway lets itself not be traced or dumped, and so what
 * /proc tells of its descriptors and its environment is for root alone.
 */
export const unlessRoot: string | false = process.getuid!() !== 0 && "only root sees the descriptors of the gateway";

/** Descriptors that the gateway holds. */
export const descriptors = (gateway: Gateway): number => readdirSync(`/proc/${gateway.pid}/fd`).length;
