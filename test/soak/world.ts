/* What the soak's clients share: the servers that there are, and what may be asked of them. */
import type { Target } from "../integration/lib/http.ts";
import type { Left } from "./asks.ts";
import type { Books, Call, Wish } from "./books.ts";
import { RESOURCES, type Teller } from "./news.ts";
import type { Random } from "./random.ts";
import type { Era } from "./servers.ts";
import type { WireRequest } from "./wire.ts";

export interface Upstream {
    name: string;
    isCalm: boolean;
    era: Era;
    /** a process or a session of its own for each session, so nothing for clients without one */
    isPerSession?: boolean;
    /** its questions may be those of another session's call, so it may be told that nobody can be asked */
    isShared?: boolean;
}

export interface World {
    target: Target;
    books: Books;
    upstreams: Upstream[];
    /** servers of the soak's own process */
    tellers: Map<string, Teller>;
    /** calls of clients without a session that were asked, and have not come back */
    left: Left[];
    /** those, and what else may wait for such a client: fewer than the gateway lets one principal have */
    asking: Set<Call>;
    /** how long an answer may take */
    limitMs: number;
    isOver: () => boolean;
}

const HARMLESS = { ok: 40, slow: 12, progress: 12, big: 6, flood: 2, log: 3, fail: 3, refuse: 3, changed: 1, touch: 4 };
const HARMFUL = { hang: 3, crash: 2, "crash-half": 2, stderr: 2, garbage: 2, stray: 3, twice: 3, drip: 4, strange: 2, "end-listens": 1 };
export const MIB = 1024 * 1024;

export function wish(random: Random, isCalm: boolean, canAsk = false): Omit<Wish, "nonce"> {
    const what = random.weighted<string>({ ...HARMLESS, ...(isCalm ? {} : HARMFUL), ...(canAsk ? { ask: 20 } : {}) });
    switch (what) {
        case "touch":
            return { do: what, n: random.int(0, RESOURCES - 1), ms: 0 };
        case "slow":
            return { do: what, n: 0, ms: random.int(1, 400) };
        case "progress":
            return { do: what, n: random.int(1, 10), ms: random.int(1, 40) };
        case "big":
            return { do: what, n: random.chance(0.15) ? random.int(MIB, 5 * MIB) : random.int(1, MIB / 8), ms: 0 };
        case "flood":
        case "stderr":
            return { do: what, n: random.int(100, 3000), ms: 0 };
        case "log":
            return { do: what, n: random.int(1, 200), ms: 0 };
        case "drip":
            return { do: what, n: 0, ms: random.int(1, 10) };
        default:
            return { do: what, n: 0, ms: 0 };
    }
}

/** How a client of its era says things. */
export interface Speaker {
    name: string;
    isModern: boolean;
    /** it can be asked */
    canAsk: boolean;
    /** of the one upstream at whose path it is, undefined when it sees all */
    upstream?: Upstream;
    nextId(): number;
    request(method: string, params: { [key: string]: unknown }, id: string | number | undefined): WireRequest;
    /** what a client with a session says to a question */
    reply(id: string | number, result: object): WireRequest;
}

export async function late<T>(promise: Promise<T>, ms: number): Promise<T | "late"> {
    let timer: NodeJS.Timeout | undefined;
    try {
        return await Promise.race([
            promise,
            new Promise<"late">((resolve) => (timer = setTimeout(resolve, ms, "late"))),
        ]);
    } finally {
        clearTimeout(timer);
    }
}

export function choose(world: World, random: Random, speaker: { upstream?: Upstream; isModern: boolean }): Upstream {
    if (speaker.upstream !== undefined) return speaker.upstream;
    const fit = world.upstreams.filter((each) => !(speaker.isModern && each.isPerSession));
    const isCalm = random.chance(0.4);
    return random.pick(fit.filter((each) => each.isCalm === isCalm));
}

export const toolOf = (speaker: { upstream?: Upstream }, upstream: Upstream) =>
    speaker.upstream === undefined ? `${upstream.name}__t` : "t";
