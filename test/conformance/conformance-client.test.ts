/*
 * The official conformance suite for clients, with a gateway between our client and the scenario's server: what arrives
 * there is how the gateway speaks to servers. Of the scenarios about authorization these are for a client that has
 * credentials of its own; the others want to see a person's browser (the authorization code grant, with registration),
 * which the gateway does not do toward servers.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { excusedForClients } from "./excused.ts";
import { explain, runClientScenario, type Revision } from "./lib/suite.ts";

describe("the conformance suite for clients", { concurrency: 2 }, () => {
    const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));
    const node = [process.execPath, "--disable-warning=ExperimentalWarning"];
    const scenarios: { [scenario: string]: Revision[] } = {
        initialize: ["2025-11-25"],
        tools_call: ["2025-11-25", "2026-07-28"],
        "sse-retry": ["2025-11-25"],
        "request-metadata": ["2026-07-28"],
        "http-standard-headers": ["2026-07-28"],
        "http-custom-headers": ["2026-07-28"],
        "http-invalid-tool-headers": ["2026-07-28"],
        "json-schema-ref-no-deref": ["2026-07-28"],
        "json-schema-2020-12-preservation": ["2025-11-25", "2026-07-28"],
        "elicitation-sep1034-client-defaults": ["2025-11-25"],
        "sep-2322-client-request-state": ["2026-07-28"],
        "auth/client-credentials-jwt": ["2025-11-25", "2026-07-28"],
        "auth/client-credentials-basic": ["2025-11-25", "2026-07-28"],
        "auth/resource-mismatch": ["2026-07-28"],
        "auth/metadata-issuer-mismatch": ["2026-07-28"],
    };

    for (const [scenario, revisions] of Object.entries(scenarios)) {
        for (const revision of revisions) {
            const excuse = excusedForClients[scenario];
            test(`${scenario}, ${revision}${excuse === undefined ? "" : " (excused)"}`, async (t) => {
                const run = await runClientScenario(scenario, revision, [...node, file("through.ts")]);
                assert.doesNotMatch(run.said, /a sanitizer complained|the gateway ended with/);
                if (excuse === undefined && run.passed) return;
                // Somebody is wrong: our client, or the gateway.
                const alone = await runClientScenario(scenario, revision, [...node, file("client.ts")]);
                assert.ok(
                    alone.passed,
                    `our client fails without the gateway:\n${explain(alone.checks)}\n${alone.said}`,
                );
                if (excuse !== undefined) {
                    t.diagnostic(`excused: ${excuse}`);
                    assert.ok(!run.passed, "it passes: remove it from the table in excused.ts");
                } else {
                    const bad = run.checks.filter((check) => ["FAILURE", "WARNING"].includes(check.status));
                    assert.fail(`\n${explain(bad)}\n${run.said.slice(-6000)}`);
                }
            });
        }
    }
});
