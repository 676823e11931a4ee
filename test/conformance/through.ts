/*
 * The command that the suite's client scenarios run to see the gateway as a client: `node through.ts URL`. A gateway
 * with that server behind it, and client.ts in front; what arrives at the scenario's server is the gateway's doing. In
 * scenarios about authorization the credentials are the gateway's, and the client in front has none.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { removeFolder, temporaryFolder } from "../integration/lib/temp.ts";
import { startGatewayTo, type Options } from "./lib/gateway.ts";

const scenario = process.env.MCP_CONFORMANCE_SCENARIO ?? "";
const folder = temporaryFolder();

/** The gateway's own credentials, shown to whomever the scenario's server names as its authorization server. */
function options(): Options {
    const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}") as { [name: string]: string };
    const { client_id = "a client", client_secret = "a secret", private_key_pem } = context;
    const key = join(folder, "client.pem");
    if (private_key_pem !== undefined) writeFileSync(key, private_key_pem, { mode: 0o600 });
    const proof: { [key: string]: string } =
        private_key_pem === undefined ? { client_secret } : { client_key_path: key };
    process.env.MCP_CONFORMANCE_CONTEXT = JSON.stringify({ isOfGateway: true });
    return {
        auth: { type: "client_credentials", client_id, ...proof },
        // The suite's authorization servers are on other ports of this machine.
        security: { edit_mode: true, allow_networks: ["127.0.0.0/8", "::1/128"] },
        ...(scenario.startsWith("auth/client-credentials-") ? {} : { isServed: false }),
    };
}

const gateway = await startGatewayTo({ scenario: process.argv[2]! }, scenario.startsWith("auth/") ? options() : {});
process.argv[2] = `http://localhost:${gateway.port}/mcp/scenario`;
try {
    await import("./client.ts"); // runs to its end
} finally {
    await gateway.stop();
    removeFolder(folder);
}
