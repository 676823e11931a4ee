/*
 * Chance that can be had again: the same seed makes every actor choose the same things in the same order. What they meet
 * is decided by the clock too, so a seed repeats the load, not each event.
 */
export class Random {
    #state: number;

    constructor(seed: number, name: string) {
        this.#state = seed >>> 0;
        for (const each of name) this.#state = (Math.imul(this.#state, 31) + each.codePointAt(0)!) >>> 0;
    }

    /** in [0, 1) */
    next(): number {
        // mulberry32: a counter, stirred
        this.#state = (this.#state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    }

    /** a whole number, both ends included */
    int(from: number, to: number): number {
        return from + Math.floor(this.next() * (to - from + 1));
    }

    chance(probability: number): boolean {
        return this.next() < probability;
    }

    pick<T>(items: readonly T[]): T {
        return items[this.int(0, items.length - 1)]!;
    }

    /** one of the names, each as likely as its number says */
    weighted<K extends string>(weights: Record<K, number>): K {
        const entries = Object.entries(weights) as [K, number][];
        let left = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
        for (const [name, weight] of entries) if ((left -= weight) < 0) return name;
        return entries.at(-1)![0];
    }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
