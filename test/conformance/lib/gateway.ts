/* A gateway that lets anybody in, with servers over HTTP behind it. */
import { startGateway, type Config, type Gateway, type Value } from "../../integration/lib/gateway.ts";

export interface Options {
    /** of every server */
    auth?: { [key: string]: Value };
    security?: Config["security"];
    /** false: one of them may never be ready */
    isServed?: false;
}

/** Resolves when it has listed what every one of them has: until then its answers may be incomplete. */
export async function startGatewayTo(urls: { [name: string]: string }, options: Options = {}): Promise<Gateway> {
    const { auth, security, isServed } = options;
    const servers = Object.fromEntries(
        Object.entries(urls).map(([name, url]) => [name, { url, ...(auth === undefined ? {} : { auth }) }]),
    );
    const gateway = await startGateway({ config: { server: { auth: { anonymous: true } }, security, servers } });
    try {
        for (const name of isServed === false ? [] : Object.keys(servers)) {
            await gateway.waitForLog((entry) => entry.message === "ready" && entry.upstream === name);
        }
    } catch (error) {
        gateway.abandon();
        throw error;
    }
    return gateway;
}
