/* A gateway that lets anybody in, with servers over HTTP behind it. */
import { startGateway, type Gateway } from "../../integration/lib/gateway.ts";

/** Resolves when it has listed what every one of them has: until then its answers may be incomplete. */
export async function startGatewayTo(urls: { [name: string]: string }): Promise<Gateway> {
    const servers = Object.fromEntries(Object.entries(urls).map(([name, url]) => [name, { url }]));
    const gateway = await startGateway({ config: { server: { auth: { anonymous: true } }, servers } });
    try {
        for (const name of Object.keys(servers)) {
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
        }
    } catch (error) {
        gateway.abandon();
        throw error;
    }
    return gateway;
}
