/* JSON Web Tokens: made, and taken as a resource server has to take them (RFC 9068 section 4), by node:crypto alone. */
import { createPrivateKey, createPublicKey, sign, verify, type JsonWebKeyInput } from "node:crypto";

export interface Claims {
    [name: string]: unknown;
}

export interface Jwk {
    [name: string]: unknown;
    kid: string;
}

const DIGESTS: { [alg: string]: string | null } = { RS256: "sha256", ES256: "sha256", EdDSA: null };

const input = (jwk: Jwk) => ({ key: jwk, format: "jwk" }) as unknown as JsonWebKeyInput;
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const value = (text: string) => JSON.parse(Buffer.from(text, "base64url").toString()) as Claims;

export function signJwt(key: Jwk, claims: Claims, header: object = { typ: "at+jwt" }): string {
    const signed = `${part({ alg: key.alg, kid: key.kid, ...header })}.${part(claims)}`;
    const by = { key: createPrivateKey(input(key)), dsaEncoding: "ieee-p1363" as const };
    return `${signed}.${sign(DIGESTS[String(key.alg)]!, Buffer.from(signed), by).toString("base64url")}`;
}

export interface Wanted {
    keys: Jwk[];
    issuer: string;
    /** one of them */
    audience: string[];
}

/** What the token says. Throws when it is not to be taken, and says why. */
export function verifyJwt(token: string, wanted: Wanted): Claims {
    const [head, body, signature, ...more] = token.split(".");
    if (signature === undefined || more.length !== 0) throw new Error("it is no JWT");
    const { alg, kid, typ } = value(head!);
    const key = wanted.keys.find((each) => each.kid === kid);
    if (key === undefined) throw new Error(`there is no key ${String(kid)}`);
    if (typ !== "at+jwt") throw new Error(`it is no access token, but ${String(typ)}`);
    if (alg !== key.alg || !(String(alg) in DIGESTS)) throw new Error(`${String(alg)} is not for this key`);
    const by = { key: createPublicKey(input(key)), dsaEncoding: "ieee-p1363" as const };
    const isSigned = verify(
        DIGESTS[String(alg)]!,
        Buffer.from(`${head}.${body}`),
        by,
        Buffer.from(signature, "base64url"),
    );
    if (!isSigned) throw new Error("its signature is wrong");
    const claims = value(body!);
    const audience = [claims.aud].flat() as string[];
    if (claims.iss !== wanted.issuer) throw new Error(`it is of ${String(claims.iss)}`);
    if (!audience.some((each) => wanted.audience.includes(each))) throw new Error(`it is for ${String(claims.aud)}`);
    if (typeof claims.exp !== "number" || claims.exp * 1000 <= Date.now()) throw new Error("it has ended");
    return claims;
}
