/*
 * What happens to the servers while they are called: to all but the calm ones. The resources of all of them are updated
 * meanwhile, and at the end.
 */
import type { Gateway } from "../integration/lib/gateway.ts";
import { RESOURCES, uriOf } from "./news.ts";
import { pause, type Random } from "./random.ts";
import type { SoakServer } from "./servers.ts";
import { descendants } from "./watch.ts";

const TROUBLES = {
    kill: 30,
    freeze: 10,
    "server stops": 15,
    "server freezes": 10,
    "connections reset": 15,
    "sessions forgotten": 15,
    "lists change": 10,
    "streams end": 15,
};

export class Trouble {
    readonly counts = new Map<string, number>();
    readonly #gateway: Gateway;
    readonly #all: SoakServer[];
    /** those that trouble comes to */
    readonly #servers: SoakServer[];
    readonly #random: Random;
    readonly #running = new Set<Promise<void>>();

    constructor(gateway: Gateway, servers: SoakServer[], random: Random) {
        this.#gateway = gateway;
        this.#all = servers;
        this.#servers = servers.filter(({ name }) => !name.startsWith("calm"));
        this.#random = random;
    }

    /** Until the load is over; then everything is well again. */
    async run(isOver: () => boolean): Promise<void> {
        const updating = this.#update(isOver);
        while (!isOver()) {
            await pause(this.#random.int(100, 1500));
            const done = this.#cause();
            this.#running.add(done);
            void done.finally(() => this.#running.delete(done));
        }
        await Promise.all([...this.#running, updating]);
        for (const server of this.#servers) {
            for (let tries = 0; !(await server.start()); tries++) {
                if (tries > 100) throw new Error(`the port of ${server.name} is not free`);
                await pause(100);
            }
        }
    }

    async #update(isOver: () => boolean): Promise<void> {
        while (!isOver()) {
            const server = this.#random.pick(this.#all);
            server.touch(uriOf(server.name, this.#random.int(0, RESOURCES - 1)));
            await pause(this.#random.int(0, 100));
        }
    }

    #count(what: string): void {
        this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
    }

    async #cause(): Promise<void> {
        const what = this.#random.weighted(TROUBLES);
        const server = this.#random.pick(this.#servers);
        const ms = this.#random.int(50, 4000);
        if (what === "kill" || what === "freeze") {
            const victims = [...descendants(this.#gateway.pid)].filter(([, line]) => /soak_child \w+ wild \w+$/.test(line));
            if (victims.length === 0) return;
            const [pid] = this.#random.pick(victims);
            this.#count(what);
            signal(pid, what === "kill" ? "SIGKILL" : "SIGSTOP");
            if (what === "kill") return;
            await pause(ms);
            if (descendants(this.#gateway.pid).has(pid)) signal(pid, "SIGCONT");
            return;
        }
        this.#count(what);
        if (what === "server stops") {
            await server.stop();
            await pause(ms / 2);
            await server.start();
        } else if (what === "server freezes") {
            server.isFrozen = true;
            await pause(ms);
            server.isFrozen = false;
        } else if (what === "connections reset") server.reset();
        else if (what === "sessions forgotten") server.forget();
        else if (what === "streams end") server.endStreams();
        else server.announce();
    }
}

function signal(pid: number, name: NodeJS.Signals): void {
    try {
        process.kill(pid, name);
    } catch {
        // it has ended by itself
    }
}
