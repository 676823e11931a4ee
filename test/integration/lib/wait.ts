/* Waiting for events with a deadline; nothing here sleeps for a fixed time and hopes. */

/** How long anything may take on a loaded machine with a sanitizer build. */
export const PATIENCE_MS = Number(process.env.CARDEA_TEST_PATIENCE_MS ?? 20_000);

/** The promise's value, or an error that says what was awaited. */
export async function within<T>(promise: Promise<T>, what: string | (() => string), ms = PATIENCE_MS): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
            reject(new Error(`not within ${ms} ms: ${typeof what === "string" ? what : what()}`));
        }, ms);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

/** Asks again until the answer is neither undefined nor false; for states that announce themselves to nobody. */
export async function until<T>(
    ask: () => T | Promise<T>,
    what: string | (() => string),
    ms = PATIENCE_MS,
): Promise<Exclude<T, undefined | false>> {
    const end = performance.now() + ms;
    for (;;) {
        const answer = await ask();
        if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>;
        if (performance.now() > end) {
            throw new Error(`not within ${ms} ms: ${typeof what === "string" ? what : what()}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

/** Everything that happened, in order, and a way to wait for what has not happened yet. */
export class Recording<T> {
    readonly items: T[] = [];
    #watchers = new Set<() => void>();
    #ended: string | undefined;
    #what: string;

    constructor(what: string) {
        this.#what = what;
    }

    push(item: T): void {
        this.items.push(item);
        for (const watcher of [...this.#watchers]) watcher();
    }

    /** Nothing more will come: whoever waits is told so. */
    end(why: string): void {
        this.#ended = why;
        for (const watcher of [...this.#watchers]) watcher();
    }

    /** The first item from `from` on that satisfies the predicate. */
    async waitFor<S extends T>(predicate: (item: T) => item is S, from?: number, ms?: number): Promise<S>;
    async waitFor(predicate: (item: T) => boolean, from?: number, ms?: number): Promise<T>;
    async waitFor(predicate: (item: T) => boolean, from = 0, ms = PATIENCE_MS): Promise<T> {
        let watcher: (() => void) | undefined;
        const found = new Promise<T>((resolve, reject) => {
            let next = from;
            watcher = () => {
                for (; next < this.items.length; next++) {
                    if (predicate(this.items[next]!)) {
                        resolve(this.items[next]!);
                        return;
                    }
                }
                if (this.#ended !== undefined) reject(new Error(`${this.#what}: ${this.#ended}; ${this.#tail()}`));
            };
            this.#watchers.add(watcher);
            watcher();
        });
        try {
            return await within(found, () => `${this.#what}; ${this.#tail()}`, ms);
        } finally {
            this.#watchers.delete(watcher!);
        }
    }

    #tail(): string {
        return `the last of ${this.items.length}:\n${this.items
            .slice(-12)
            .map((item) => `  ${JSON.stringify(item)?.slice(0, 400)}`)
            .join("\n")}`;
    }
}
