/* Certificates for a test: an authority of its own and what it signs. */
import { execFileSync } from "node:child_process";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { temporaryFolder } from "./temp.ts";

export interface Certificate {
    key: string;
    cert: string;
}

export class Authority {
    readonly folder = temporaryFolder();
    #n = 0;

    constructor() {
        writeFileSync(this.#path("ca.cnf"), CA_CONFIG);
        for (const [name, text] of [
            ["index.txt", ""],
            ["index.txt.attr", "unique_subject = no\n"],
            ["serial", "01\n"],
        ] as const) {
            writeFileSync(this.#path(name), text);
        }
        const more = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
        this.#openssl("req", "-x509", ...NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests", ...more);
    }

    /** For SSL_CERT_FILE. */
    get file(): string {
        return this.#path("ca.pem");
    }

    /** For SSL_CERT_DIR: a folder of certificates by hash. */
    directory(): string {
        const folder = temporaryFolder();
        const hash = this.#openssl("x509", "-in", "ca.pem", "-noout", "-hash").trim();
        symlinkSync(this.file, join(folder, `${hash}.0`));
        return folder;
    }

    /** `names` as in subjectAltName: "DNS:host" or "IP:127.0.0.1". */
    sign(names: string, isExpired = false): Certificate {
        const name = `leaf-${++this.#n}`;
        this.#openssl("req", ...NEW_KEY, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", "/CN=leaf");
        writeFileSync(this.#path(`${name}.ext`), `subjectAltName=${names}\n`);
        const until = isExpired ? ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"] : ["-days", "2"];
        const files = ["-in", `${name}.csr`, "-out", `${name}.pem`, "-extfile", `${name}.ext`];
        this.#openssl("ca", "-batch", "-notext", "-config", "ca.cnf", ...until, ...files);
        const read = (suffix: string) => readFileSync(this.#path(`${name}.${suffix}`), "utf8");
        return { key: read("key"), cert: read("pem") };
    }

    #path(name: string): string {
        return join(this.folder, name);
    }

    #openssl(...args: string[]): string {
        return execFileSync("openssl", args, { cwd: this.folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    }
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

const CA_CONFIG = `[ca]
default_ca = here
[here]
database = index.txt
serial = serial
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
[any]
commonName = supplied
`;
