/*
 * The list of weaknesses that a study of the Nexus Dashboard MCP server's source found, by number: those that have a test
 * here, and those of parts that are still to come.
 */
import { test, type TestContext } from "node:test";

export const N_DEFECTS = 40;

/** Not tested yet, because there is nothing yet that could have them. */
export const LATER: Record<number, string> = {
    6: "paths of REST operations: there are no upstreams of OpenAPI documents yet, so no path is built from arguments",
    21: "parameters by $ref: OpenAPI documents",
    22: "operations of one name in two documents: OpenAPI documents",
    23: "names that are cut and then not found: names of operations come with OpenAPI documents",
    24: "bodies, parameters and media types of operations: OpenAPI documents",
    25: "methods that say nothing of what an operation does: OpenAPI documents (tools of MCP are classified by tool)",
    28: "guidance that only stdio serves: guidance of one's own comes with the console",
    29: "workflows that nothing runs: there are none yet",
    31: "metrics: telemetry comes later; numbers of the gateway are in /api/v1/statistics",
    38: "profiles with a greatest number of tools: there are none yet; roles and tokens bound what is listed",
};

/** "defect 7: answers go to everybody" */
export function defect(number: number, what: string, fn: (t: TestContext) => void | Promise<void>): void;
export function defect(number: number, what: string, options: { timeout: number }, fn: (t: TestContext) => void | Promise<void>): void;
export function defect(number: number, what: string, ...rest: unknown[]): void {
    if (number < 1 || number > N_DEFECTS || number in LATER) throw new Error(`defect ${number} is not one of those that are tested`);
    const [options, fn] = rest.length === 1 ? [{}, rest[0]] : rest;
    void test(`defect ${number}: ${what}`, options as object, fn as (t: TestContext) => void | Promise<void>);
}
