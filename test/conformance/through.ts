/*
 * The command that the suite's client scenarios run to see the gateway as a client: `node through.ts URL`. A gateway
 * with that server behind it, and client.ts in front; what arrives at the scenario's server is the gateway's doing.
 */
import { startGatewayTo } from "./lib/gateway.ts";

const gateway = await startGatewayTo({ scenario: process.argv[2]! });
process.argv[2] = `http://localhost:${gateway.port}/mcp/scenario`;
try {
    await import("./client.ts"); // runs to its end
} finally {
    await gateway.stop();
}
