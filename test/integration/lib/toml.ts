/*
 * Enough of TOML to find the credentials in a configuration of a test. What it cannot read it leaves out: some of these
 * configurations are wrong on purpose.
 */
export type TomlValue = string | number | boolean | TomlValue[] | TomlTable;
export interface TomlTable {
    [key: string]: TomlValue;
}

const emptyTable = (): TomlTable => Object.create(null) as TomlTable; // without __proto__

class Reader {
    at = 0;
    readonly text: string;

    constructor(text: string) {
        this.text = text;
    }

    take(pattern: RegExp): string | undefined {
        const sticky = new RegExp(pattern.source, "y");
        sticky.lastIndex = this.at;
        const found = sticky.exec(this.text);
        if (found === null) return undefined;
        this.at += found[0].length;
        return found[0];
    }

    /** Spaces; with `lines` also ends of lines and comments. */
    skip(lines = false): void {
        this.take(lines ? /(?:[ \t\r\n]|#[^\n]*)*/ : /[ \t]*/);
    }

    need(pattern: RegExp): string {
        const found = this.take(pattern);
        if (found === undefined) throw new SyntaxError(`not ${String(pattern)} at ${this.text.slice(this.at, this.at + 20)}`);
        return found;
    }

    string(): string | undefined {
        const long = this.take(/"""(?:[^\\]|\\[^])*?"{3,5}|'''[^]*?'{3,5}/);
        if (long !== undefined) {
            const inner = long.slice(3, -3).replace(/^\r?\n/, "");
            return long.startsWith("'") ? inner : unescape(inner.replace(/\\[ \t]*\r?\n\s*/g, ""));
        }
        const short = this.take(/"(?:[^"\\\n]|\\.)*"|'[^'\n]*'/);
        if (short === undefined) return undefined;
        return short.startsWith("'") ? short.slice(1, -1) : unescape(short.slice(1, -1));
    }

    key(): string[] {
        const parts: string[] = [];
        do {
            this.skip();
            parts.push(this.string() ?? this.need(/[A-Za-z0-9_-]+/));
            this.skip();
        } while (this.take(/\./) !== undefined);
        return parts;
    }

    value(): TomlValue {
        const string = this.string();
        if (string !== undefined) return string;
        if (this.take(/\[/) !== undefined) {
            const items: TomlValue[] = [];
            for (this.skip(true); this.take(/\]/) === undefined; this.skip(true)) {
                items.push(this.value());
                this.skip(true);
                if (this.take(/,/) === undefined) {
                    this.need(/\]/);
                    break;
                }
            }
            return items;
        }
        if (this.take(/\{/) !== undefined) {
            const table = emptyTable();
            for (this.skip(true); this.take(/\}/) === undefined; this.skip(true)) {
                this.pair(table);
                this.skip(true);
                if (this.take(/,/) === undefined) {
                    this.need(/\}/);
                    break;
                }
            }
            return table;
        }
        const word = this.need(/[^\s,\]}#]+/);
        if (word === "true" || word === "false") return word === "true";
        const number = Number(word.replaceAll("_", ""));
        return Number.isNaN(number) ? word : number;
    }

    pair(into: TomlTable): void {
        const key = this.key();
        this.need(/=/);
        this.skip();
        const value = this.value();
        inside(into, key.slice(0, -1))[key.at(-1)!] = value;
    }
}

function unescape(text: string): string {
    const known: { [letter: string]: string } = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f", e: "\x1b" };
    return text.replace(/\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))/g, (_, short: string, long: string, letter: string) =>
        letter === undefined ? String.fromCodePoint(Math.min(parseInt(short ?? long, 16), 0x10ffff)) : (known[letter] ?? letter),
    );
}

/** The table at that path; of an array of tables its last one. */
function inside(table: TomlTable, path: string[]): TomlTable {
    for (const key of path) {
        if (!Object.hasOwn(table, key)) table[key] = emptyTable();
        const next = table[key]!;
        const last = Array.isArray(next) ? next.at(-1) : next;
        if (typeof last !== "object" || Array.isArray(last)) throw new SyntaxError(`${key} is no table`);
        table = last;
    }
    return table;
}

export function parseToml(text: string): TomlTable {
    const root = emptyTable();
    const reader = new Reader(text);
    let table = root;
    for (reader.skip(true); reader.at < text.length; reader.skip(true)) {
        try {
            if (reader.take(/\[\[/) !== undefined) {
                const path = reader.key();
                const parent = inside(root, path.slice(0, -1)), name = path.at(-1)!;
                if (!Array.isArray(parent[name])) parent[name] = [];
                (parent[name] as TomlValue[]).push((table = emptyTable()));
                reader.need(/\]\]/);
            } else if (reader.take(/\[/) !== undefined) {
                table = inside(root, reader.key());
                reader.need(/\]/);
            } else {
                reader.pair(table);
            }
        } catch (error) {
            if (!(error instanceof SyntaxError)) throw error;
        }
        reader.take(/[^\n]*/); // the rest of the line: a comment, or what could not be read
    }
    return root;
}
