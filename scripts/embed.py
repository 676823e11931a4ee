#!/usr/bin/env python3
"""Files into a table of C: embed.py OUT.c HEADER TYPE TABLE FILE...; each row is {name, bytes, length}."""

import sys
from pathlib import Path


def main(out, header, kind, table, *files):
    lines = [f'#include "{header}"', ""]
    rows = []
    for i, file in enumerate(files):
        data = Path(file).read_bytes()
        assert data, f"{file} is empty"
        lines.append(f"static const char bytes_{i}[] = {{")
        for at in range(0, len(data), 16):
            lines.append("    " + ", ".join(f"'\\x{byte:02x}'" for byte in data[at:at + 16]) + ",")
        lines += ["};", ""]
        rows.append(f'    {{"{Path(file).name}", {{bytes_{i}, sizeof bytes_{i}}}}},')
    lines += [f"const struct {kind} {table}[] = {{", *rows, "};", f"const size_t n_{table} = {len(files)};", ""]
    Path(out).write_text("\n".join(lines))


main(*sys.argv[1:])
