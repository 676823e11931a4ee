/* Finds credentials in bytes, in all the forms that they may take. */
import { isJwt, LEAST, type Credential } from "./canary-credentials.ts";

export interface Needle {
    bytes: Buffer;
    how: string;
    credential: Credential;
}

/** In base64 it looks in one of three ways, by what is before it; the ends depend on the neighbours and are left out. */
function base64Forms(value: string): string[] {
    const forms: string[] = [];
    for (let shift = 0; shift < 3; shift++) {
        const text = Buffer.concat([Buffer.alloc(shift), Buffer.from(value, "latin1")]).toString("base64");
        const whole = text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + value.length) * 8) / 6));
        forms.push(whole, whole.replaceAll("+", "-").replaceAll("/", "_"));
    }
    return forms;
}

export function needlesOf(credential: Credential): Needle[] {
    const { value } = credential;
    const forms = new Map<string, string>([[value, "as it is"]]);
    const add = (how: string, ...texts: string[]) => {
        for (const text of texts) if (text.length >= LEAST && !forms.has(text)) forms.set(text, how);
    };
    if (isJwt(value)) add("its signature", value.split(".")[2]!);
    else if (value.length >= 24) add("the end of it", value.slice(-16));
    if (!isJwt(value) && value.length >= 40) add("the beginning of it", value.slice(0, 20));
    add("percent-encoded", encodeURIComponent(value), encodeURIComponent(value).replaceAll("%20", "+"));
    add("in JSON", JSON.stringify(value).slice(1, -1), JSON.stringify(value).slice(1, -1).replaceAll("/", "\\/"));
    add("in base64", ...base64Forms(value));
    return [...forms].map(([text, how]) => ({ bytes: Buffer.from(text, "latin1"), how, credential }));
}

/* Many needles in much hay: all are found in one pass, by a rolling hash of their last WINDOW bytes. */
const WINDOW = 8, BASE = 0x01000193;
let TOP = 1;
for (let n = 0; n < WINDOW; n++) TOP = Math.imul(TOP, BASE);

export class Search {
    #byHash = new Map<number, Needle[]>();
    #isThere = new Uint8Array(1 << 16);

    constructor(credentials: Credential[]) {
        for (const credential of credentials) {
            for (const needle of needlesOf(credential)) {
                let hash = 0;
                for (const byte of needle.bytes.subarray(-WINDOW)) hash = (Math.imul(hash, BASE) + byte) | 0;
                const known = this.#byHash.get(hash);
                if (known === undefined) this.#byHash.set(hash, [needle]);
                else known.push(needle);
                this.#isThere[(hash ^ (hash >>> 16)) & 0xffff] = 1;
            }
        }
    }

    *in(hay: Buffer): Generator<{ needle: Needle; at: number }> {
        const isThere = this.#isThere;
        let hash = 0;
        for (let at = 0; at < hay.length; at++) {
            hash = (Math.imul(hash, BASE) + hay[at]!) | 0;
            if (at >= WINDOW) hash = (hash - Math.imul(TOP, hay[at - WINDOW]!)) | 0;
            if (isThere[(hash ^ (hash >>> 16)) & 0xffff] === 0) continue;
            for (const needle of this.#byHash.get(hash) ?? []) {
                const from = at + 1 - needle.bytes.length;
                if (from >= 0 && needle.bytes.compare(hay, from, at + 1) === 0) yield { needle, at: from };
            }
        }
    }
}
