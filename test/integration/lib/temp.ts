/* Folders that go away with the test process, however it ends. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folders = new Set<string>();

export function temporaryFolder(): string {
    const folder = mkdtempSync(join(tmpdir(), "cardea-test-"));
    folders.add(folder);
    return folder;
}

export function removeFolder(folder: string): void {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    folders.delete(folder);
}

process.on("exit", () => {
    for (const folder of folders) removeFolder(folder);
});
// The runner ends a test file that takes too long with SIGTERM: leave through the handlers of "exit".
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.once(signal, () => process.exit(1));
