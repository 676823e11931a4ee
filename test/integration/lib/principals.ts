/* Callers of the gateway with groups: tokens of the configuration, and HS256 tokens of an issuer. */
import { createHash, createHmac, randomBytes } from "node:crypto";

import type { Gateway, Value } from "./gateway.ts";

const SECRET = "a secret that is long enough for HS256";
const ISSUER = "https://id.example";
const RESOURCE = "https://gw.example";

export const newToken = (): string => `cardea_${randomBytes(32).toString("base64url")}`;
export const hashOf = (token: string): string => `sha256:${createHash("sha256").update(token).digest("hex")}`;

/** For [server.oauth]: takes what jwt() makes. */
export const oauth = { secret: SECRET, expected_issuer: ISSUER, protected_resource: { resource: RESOURCE } };

export function jwt(claims: object): string {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const payload = { iss: ISSUER, aud: RESOURCE, iat: now, exp: now + 3600, ...claims };
    const signed = `${part({ alg: "HS256", typ: "at+jwt" })}.${part(payload)}`;
    return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

/** Tokens of the configuration, by name. */
export class Tokens {
    readonly value: { [name: string]: string } = {};
    readonly table: { [name: string]: Value } = {};

    /** `groups` by name; undefined: none */
    constructor(groups: { [name: string]: string[] | undefined }) {
        for (const [name, each] of Object.entries(groups)) {
            const token = newToken();
            this.value[name] = token;
            this.table[name] = { hash: hashOf(token), ...(each === undefined ? {} : { groups: each }) };
        }
    }

    /** The gateway, for who has this token. */
    as(gateway: Gateway, name: string): Gateway {
        return as(gateway, this.value[name]!);
    }
}

/** The gateway for a caller with this token. */
export const as = (gateway: Gateway, token: string): Gateway => ({ port: gateway.port, token }) as Gateway;
