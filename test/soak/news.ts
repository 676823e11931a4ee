/*
 * What a client hears unasked: updates of resources, and that lists changed. Everything must belong to who hears it. Of a
 * server that nothing disturbs each update must come, though not each by itself: the last one stands for those before.
 */
import { SUBSCRIPTION_KEY } from "../integration/fixtures/brain.ts";
import type { RpcMessage } from "../integration/lib/control.ts";
import { summary, type Books, type Trace } from "./books.ts";
import { pause } from "./random.ts";

/** Of each server. */
export const RESOURCES = 8;
export const uriOf = (server: string, n: number): string => `soak://${server}/${n}`;
/** in `_meta` of an update: the how manieth of its resource it is */
export const NUMBER_KEY = "cardea.test/number";

export const LISTS = ["tools", "prompts", "resources"];
export const changed = (list: string): string => `notifications/${list}/list_changed`;

/** A server of the soak's own process. */
export interface Teller {
    /** how often this resource was updated */
    told(uri: string): number;
}

interface Heard {
    /** undefined where a part of what it tells may get lost */
    calm: Teller | undefined;
    /** the last that came */
    last: number;
    /** what does not have to come any more */
    floor: number;
    isOwed: boolean;
}

export class Hearing {
    readonly trace: Trace;
    /** methods of notifications without a resource */
    readonly lists: Set<string>;
    readonly #books: Books;
    readonly #id: string | number | undefined;
    readonly #heard = new Map<string, Heard>();

    /** `id`: that of a listen; a session has none. */
    constructor(books: Books, trace: Trace, id?: string | number) {
        this.#books = books;
        this.trace = trace;
        this.#id = id;
        const methods = ["notifications/message", ...LISTS.map(changed)];
        this.lists = new Set(id === undefined ? methods : []);
    }

    /** It will be asked for: from now on it may come. */
    expect(uri: string, calm: Teller | undefined): void {
        this.#heard.set(uri, this.#heard.get(uri) ?? { calm, last: 0, floor: 0, isOwed: false });
    }

    /** The gateway has said that it tells of this resource: from now on it must. */
    owe(uri: string): void {
        const heard = this.#heard.get(uri)!;
        heard.isOwed = heard.calm !== undefined;
        heard.floor = heard.calm?.told(uri) ?? 0;
    }

    release(uri: string): void {
        this.#heard.get(uri)!.isOwed = false;
    }

    take(message: RpcMessage): void {
        const { method, params } = message as { method: string; params?: { uri?: string; _meta?: object } };
        const meta = (params?._meta ?? {}) as { [key: string]: unknown };
        const wrong = (what: string) => this.#books.violation(`${what}: ${summary(message)}`, this.trace);
        this.#books.news++;
        this.trace.note(`told: ${summary(message)}`);
        if (message.id !== undefined) return wrong("a request where none belongs");
        if (meta[SUBSCRIPTION_KEY] !== this.#id) return wrong(`told with another id than ${this.#id}`);
        if (method !== "notifications/resources/updated")
            return this.lists.has(method) ? undefined : wrong("told what was not asked for");
        const heard = this.#heard.get(params?.uri ?? "");
        if (heard === undefined) return wrong("told of a resource that was not asked for");
        const number = meta[NUMBER_KEY] as number | undefined;
        // Without a number it is the gateway's own: what was missed is not known.
        if (number === undefined) heard.floor = heard.calm?.told(params!.uri!) ?? 0;
        else if (number <= heard.last) return wrong(`told after number ${heard.last}`);
        else heard.last = number;
        return undefined;
    }

    /** Whether everything that has been told by now comes in that time; a violation otherwise. */
    async catchUp(limitMs: number): Promise<void> {
        const owed = [...this.#heard].filter(([, { isOwed }]) => isOwed);
        const wanted = owed.map(([uri, heard]) => ({ uri, heard, number: heard.calm!.told(uri) }));
        const isLate = () => wanted.find(({ heard, number }) => Math.max(heard.last, heard.floor) < number);
        for (const end = performance.now() + limitMs; isLate() !== undefined;) {
            if (performance.now() > end) {
                const { uri, heard, number } = isLate()!;
                this.#books.violation(`update ${number} of ${uri} did not come; the last was ${heard.last}`, this.trace);
                return;
            }
            await pause(20);
        }
    }
}
