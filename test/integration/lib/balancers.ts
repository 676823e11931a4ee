/* The proxies of examples/scaling, as they stand there but for addresses and places, before gateways of a test. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

import type { Gateway } from "./gateway.ts";
import type { Target } from "./http.ts";
import { freePort } from "./ports.ts";
import { removeFolder, temporaryFolder } from "./temp.ts";
import { Authority } from "./tls.ts";
import { until, within } from "./wait.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
/** How clients call it, in all of the examples. */
export const NAME = "gw.example.com";
export const BALANCERS = ["nginx", "HAProxy"] as const;
export type Kind = (typeof BALANCERS)[number];

/** A file of examples/scaling with these parts exchanged; each has to be there. */
export function example(file: string, parts: { [part: string]: string }): string {
    let text = readFileSync(join(ROOT, "examples", "scaling", file), "utf8");
    for (const [part, by] of Object.entries(parts)) {
        if (!text.includes(part)) throw new Error(`examples/scaling/${file} has no ${part}`);
        text = text.replaceAll(part, by);
    }
    return text;
}

function program(kind: Kind): string {
    const name = kind === "nginx" ? "nginx" : "haproxy";
    const folders = [join(ROOT, "build", "tools", name, "usr", "sbin"), ...(process.env.PATH ?? "").split(":"), "/usr/sbin"];
    const folder = folders.find((item) => existsSync(join(item, name)));
    if (folder === undefined) throw new Error(`there is no ${name}: scripts/setup test`);
    return join(folder, name);
}

export class Balancer implements Target {
    readonly kind: Kind;
    readonly port: number;
    readonly tls: { ca: string; servername: string };
    /** of a user; set by the test */
    token = "";
    readonly #folder = temporaryFolder();
    readonly #authority = new Authority();
    #child: ChildProcess | undefined;
    #said = "";

    private constructor(kind: Kind, port: number) {
        this.kind = kind;
        this.port = port;
        this.tls = { ca: readFileSync(this.#authority.file, "utf8"), servername: NAME };
    }

    /** Before two gateways, which are called a and b. */
    static async start(kind: Kind, gateways: Gateway[], t: TestContext): Promise<Balancer> {
        const balancer = new Balancer(kind, await freePort());
        t.after(() => balancer.#stop());
        const authorities = gateways.map((gateway) => readFileSync(join(gateway.dataDir, "tls", "ca.pem"), "utf8"));
        const own = balancer.#authority.sign(`DNS:${NAME}`);
        const ca = balancer.#write("ca.pem", authorities.join(""));
        const cert = balancer.#write("own.pem", kind === "nginx" ? own.cert : own.cert + own.key);
        const places = { "10.0.0.11:8000": gateways[0]!.host, "10.0.0.12:8000": gateways[1]!.host };
        await balancer.#run(
            kind === "nginx"
                ? balancer.#nginx(
                      example("nginx.conf", {
                          ...places,
                          "listen 443": `listen 127.0.0.1:${balancer.port}`,
                          "/etc/nginx/gw.example.com.pem": cert,
                          "/etc/nginx/gw.example.com.key": balancer.#write("own.key", own.key),
                          "/etc/nginx/cardea-ca.pem": ca,
                      }),
                  )
                : balancer.#haproxy(
                      example("haproxy.cfg", {
                          ...places,
                          "bind :443": `bind 127.0.0.1:${balancer.port}`,
                          "/etc/haproxy/gw.example.com.pem": cert,
                          "/etc/haproxy/cardea-ca.pem": ca,
                      }),
                  ),
        );
        return balancer;
    }

    /** What it wrote to its standard error. */
    get said(): string {
        return this.#said;
    }

    #write(name: string, text: string): string {
        const path = join(this.#folder, name);
        writeFileSync(path, text, { mode: 0o600 });
        return path;
    }

    /** The example is for a folder of files that Debian's nginx.conf includes. */
    #nginx(text: string): string[] {
        const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        for (const name of temporary) mkdirSync(join(this.#folder, name));
        const main = `daemon off; pid ${this.#folder}/pid; error_log stderr warn; worker_processes 2; user root;
events { worker_connections 1024; }
http {
    access_log off;
    ${temporary.map((name) => `${name}_temp_path ${this.#folder}/${name};`).join(" ")}
    include ${this.#write("cardea.conf", text)};
}
`;
        return ["-p", this.#folder, "-e", "stderr", "-c", this.#write("nginx.conf", main)];
    }

    #haproxy(text: string): string[] {
        return ["-db", "-f", this.#write("haproxy.cfg", text)];
    }

    async #run(args: string[]): Promise<void> {
        const child = spawn(program(this.kind), args, { stdio: ["ignore", "ignore", "pipe"] });
        this.#child = child;
        child.once("error", (error) => (this.#said += String(error)));
        child.stderr!.setEncoding("utf8").on("data", (chunk: string) => (this.#said += chunk));
        await until(
            () => this.#listens(),
            () => `${this.kind} listens; it said: ${this.#said}`,
        );
    }

    #listens(): Promise<boolean> {
        if (this.#child!.exitCode !== null) throw new Error(`${this.kind} ended: ${this.#said}`);
        return new Promise((resolve) => {
            const socket = net.connect({ host: "127.0.0.1", port: this.port });
            socket.once("error", () => resolve(false));
            socket.once("connect", () => {
                socket.destroy();
                resolve(true);
            });
        });
    }

    async #stop(): Promise<void> {
        const child = this.#child;
        if (child !== undefined && child.exitCode === null && child.signalCode === null) {
            const gone = new Promise((resolve) => child.once("exit", resolve));
            child.kill("SIGTERM"); // at once, of either
            await within(gone, `${this.kind} ends`);
        }
        removeFolder(this.#folder);
    }
}

/** fetch() as the official SDK wants it, on kept connections to this place whatever the URL says. */
export function fetchVia(target: Balancer, agent: https.Agent): typeof fetch {
    return async (input, init) => {
        const asked = new Request(input, init);
        const body = asked.body === null ? undefined : Buffer.from(await asked.arrayBuffer());
        const headers: Record<string, string> = { ...Object.fromEntries(asked.headers), host: NAME };
        if (body !== undefined) headers["content-length"] = String(body.length);
        const { pathname, search } = new URL(asked.url);
        return new Promise<Response>((resolve, reject) => {
            const request = https.request(
                { host: "127.0.0.1", port: target.port, servername: NAME, agent, path: pathname + search, method: asked.method, headers, signal: asked.signal },
                (answer) => {
                    const status = answer.statusCode!;
                    const fields = Object.entries(answer.headers).map(([name, value]): [string, string] => [name, String(value)]);
                    const isEmpty = status === 204 || status === 304;
                    if (isEmpty) answer.resume();
                    const stream = isEmpty ? null : (Readable.toWeb(answer) as ReadableStream<Uint8Array>);
                    resolve(new Response(stream, { status, headers: fields }));
                },
            );
            request.once("error", reject);
            request.end(body);
        });
    };
}
