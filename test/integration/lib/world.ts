/*
 * Random configurations of who may do what, and a second opinion on them: the rules of docs/ACCESS.md once more, written
 * down without looking at how the gateway does it.
 */
import type { BrainOptions } from "../fixtures/brain.ts";
import type { Config, Value } from "./gateway.ts";
import { jwt, oauth, Tokens } from "./principals.ts";
import { random } from "./random.ts";

export const SERVERS = ["s0", "s1", "s2"];
const GROUPS = ["g0", "g1", "g2"];

interface Rules {
    allow?: string[];
    deny?: string[];
    access?: "read" | "write";
}

export interface World {
    seed: number;
    groupValues: string[] | undefined;
    security: { edit_mode: boolean; hide_denied: boolean; trust_annotations: boolean; whitelist: string[] };
    servers: { [name: string]: Rules & { tools: { [name: string]: Rules } } };
}

export interface Principal {
    name: string;
    token: string;
    groups: string[];
    /** all of them, and not only a part; false when there are none */
    groupsAreKnown: boolean;
}

export const TOOLS: { name: string; annotations?: { [hint: string]: boolean } }[] = [
    { name: "t0" },
    { name: "t1", annotations: { readOnlyHint: true } },
    { name: "t2", annotations: { readOnlyHint: false } },
    { name: "t3", annotations: { destructiveHint: false, idempotentHint: true } },
    { name: "t4", annotations: { readOnlyHint: true, destructiveHint: true } },
];

/** What a server of the world says. */
export const brainOf = (name: string): BrainOptions => ({
    name,
    tools: TOOLS.map((tool) => ({ ...tool, description: `Of ${name}`, inputSchema: { type: "object" } })),
    prompts: [{ name: "p0", arguments: [{ name: "what" }] }],
    resources: [{ uri: `${name}://one`, name: "one" }],
    resourceTemplates: [{ uriTemplate: `${name}://thing/{id}`, name: "thing" }],
    instructions: `This is about ${name}.`,
});

type Die = (below: number) => number;

const some = (die: Die, of: string[]): string[] => of.filter(() => die(2) === 0);

function rules(die: Die, groups: string[]): Rules {
    const found: Rules = {};
    if (die(2) === 0) found.allow = some(die, groups);
    if (die(3) === 0) found.deny = die(3) === 0 ? some(die, groups) : [groups[die(groups.length)]!];
    if (die(2) === 0) found.access = die(2) === 0 ? "read" : "write";
    return found;
}

export function worldOf(seed: number): World {
    const die = random(seed);
    const groupValues = die(2) === 0 ? GROUPS : undefined;
    const groups = groupValues ?? [...GROUPS, "alien"];
    const servers: World["servers"] = {};
    for (const name of SERVERS) {
        const tools: { [name: string]: Rules } = {};
        for (const tool of TOOLS) if (die(2) === 0) tools[tool.name] = rules(die, groups);
        servers[name] = { ...rules(die, groups), tools };
    }
    const all = SERVERS.flatMap((server) => TOOLS.map((tool) => `${server}__${tool.name}`));
    const security = {
        edit_mode: die(2) === 0,
        hide_denied: die(2) === 0,
        trust_annotations: die(2) === 0,
        whitelist: die(2) === 0 ? [] : some(die, all),
    };
    return { seed, groupValues, security, servers };
}

export const configOf = (world: World, urls: { [name: string]: string }, tokens: Tokens): Config => ({
    server: {
        auth: { tokens: tokens.table },
        oauth,
        client_identification: {
            enabled: true,
            group_id: { jwt_claim: "groups" },
            ...(world.groupValues === undefined ? {} : { validation: { group_values: world.groupValues } }),
        },
    },
    security: world.security,
    servers: Object.fromEntries(
        Object.entries(world.servers).map(([name, { tools, ...own }]) => [
            name,
            { url: urls[name]!, ...own, tools: tools as unknown as Value } as never,
        ]),
    ),
});

export const worldTokens = (): Tokens =>
    new Tokens({ none: undefined, empty: [], a: ["g0"], ab: ["g0", "g1"], c: ["g2"], all: GROUPS });

/** Who may ask in this world: every kind of credential, with groups of every kind. */
export function principalsOf(world: World, tokens: Tokens, local: string): Principal[] {
    const hasAll = (groups: string[]) => groups.every((group) => world.groupValues?.includes(group) ?? true);
    const found: Principal[] = [{ name: "local", token: local, groups: [], groupsAreKnown: false }];
    const add = (name: string, token: string, groups: string[], isMalformed = false) =>
        found.push({
            name,
            token,
            groups: isMalformed ? [] : groups.filter((group) => hasAll([group])),
            groupsAreKnown: groups.length !== 0 && !isMalformed && hasAll(groups),
        });
    for (const [name, token] of Object.entries(tokens.value)) {
        add(`token ${name}`, token, ((tokens.table[name] as { groups?: string[] }).groups ?? []) as string[]);
    }
    add("JWT without groups", jwt({ sub: "j0" }), []);
    add("JWT with one group", jwt({ sub: "j1", groups: "g1" }), ["g1"]);
    add("JWT with an array", jwt({ sub: "j2", groups: ["g2", "g0", "g2"] }), ["g2", "g0"]);
    add("JWT with an empty array", jwt({ sub: "j7", groups: [] }), []);
    add("JWT with a number among them", jwt({ sub: "j3", groups: ["g0", 5] }), ["g0"], true);
    add("JWT with an object", jwt({ sub: "j4", groups: { g0: true } }), ["g0"], true);
    add("JWT with a stranger", jwt({ sub: "j5", groups: ["alien", "g0"] }), ["alien", "g0"]);
    // Where a stranger is all there is, the request is refused before anything is decided.
    if (world.groupValues === undefined) add("JWT with a stranger alone", jwt({ sub: "j6", groups: "alien" }), ["alien"]);
    return found;
}

export type Verdict = "allowed" | "unknown" | "locked";

const passes = (caller: Principal, allow: string[] | undefined, deny: string[]): boolean => {
    if (deny.length !== 0 && (!caller.groupsAreKnown || caller.groups.some((group) => deny.includes(group)))) return false;
    return allow === undefined || caller.groups.some((group) => allow.includes(group));
};

/** Prompts, resources and templates, and whether the server itself may be used. */
export const maySee = (world: World, caller: Principal, server: string): boolean =>
    passes(caller, world.servers[server]!.allow, world.servers[server]!.deny ?? []);

export function verdictOf(world: World, caller: Principal, server: string, tool: string): Verdict {
    const { servers, security } = world;
    const { allow, deny = [], access, tools } = servers[server]!;
    const own = tools[tool] ?? {};
    if (!passes(caller, own.allow ?? allow, [...deny, ...(own.deny ?? [])])) return "unknown";
    const hint = TOOLS.find((each) => each.name === tool)!.annotations?.readOnlyHint === true;
    const isRead = (own.access ?? access ?? (security.trust_annotations && hint ? "read" : "write")) === "read";
    if (isRead) return "allowed";
    if (!security.edit_mode) return "locked";
    return security.whitelist.length === 0 || security.whitelist.includes(`${server}__${tool}`) ? "allowed" : "locked";
}

/** There is something of the server that the caller may know of. */
export const mayKnow = (world: World, caller: Principal, server: string): boolean =>
    maySee(world, caller, server) || TOOLS.some((tool) => verdictOf(world, caller, server, tool.name) !== "unknown");

/** The rules of a world in a few lines, for whoever reads a failure. */
export const describeWorld = (world: World): string =>
    [
        `seed ${world.seed}, group_values ${JSON.stringify(world.groupValues)}, ${JSON.stringify(world.security)}`,
        ...Object.entries(world.servers).map(([name, each]) => `${name}: ${JSON.stringify(each)}`),
    ].join("\n");
