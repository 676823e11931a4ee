/* Clocks of one process that jump when the test wants it: ../hostile/clock_shim.c in front of libc. */
import fs from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BUILD = process.env.CARDEA_BUILD_DIR ?? fileURLToPath(new URL("../../../build-asan", import.meta.url));
const SHIM = join(BUILD, "test", "hostile", "libclock_shim.so");

export class Clocks {
    readonly file: string;
    #fd: number;

    constructor(folder: string) {
        this.file = join(folder, "clocks");
        this.#fd = fs.openSync(this.file, "w+");
        fs.writeSync(this.#fd, Buffer.alloc(16));
    }

    /** What is added to the time of day, and to the monotonic clocks, in nanoseconds. */
    set(wall: bigint, monotonic: bigint): void {
        const bytes = Buffer.alloc(16);
        bytes.writeBigInt64LE(wall, 0);
        bytes.writeBigInt64LE(monotonic, 8);
        fs.writeSync(this.#fd, bytes, 0, 16, 0);
    }

    /** For the gateway. */
    get env(): NodeJS.ProcessEnv {
        const asan = `${process.env.ASAN_OPTIONS ?? ""}:verify_asan_link_order=0`;
        return { ...process.env, LD_PRELOAD: SHIM, CLOCK_SHIM: this.file, ASAN_OPTIONS: asan };
    }

    close(): void {
        fs.closeSync(this.#fd);
    }
}
