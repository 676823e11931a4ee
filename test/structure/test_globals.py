#!/usr/bin/env python3
"""No mutable globals: the objects of the release build hold no writable data of ours, read from their symbols."""

import subprocess
from collections import defaultdict

import structure

# object's module -> symbol -> why it is there
ALLOWED = {
    "base": {
        "fail_after": "test support: the n-th allocation fails; thread-local",
        "alloc_count": "test support: counts allocations; thread-local",
    },
}
WRITABLE = (".data", ".bss", ".tdata", ".tbss", "*COM*")


def writable_symbols(objects):
    """{module: {symbol: section}}"""
    found = defaultdict(dict)
    done = subprocess.run(["objdump", "-t", *map(str, objects)], capture_output=True, text=True, check=True)
    module = ""
    for line in done.stdout.splitlines():
        if ": " in line and "file format" in line:
            module = line.split("/lib")[1].split(".a.p/")[0] if "/lib" in line else "cli"
            continue
        words = line.split()
        # VALUE FLAGS... SECTION SIZE NAME
        if len(words) < 4 or not line[17:24].strip().endswith(("O",)) and "*COM*" not in words:
            continue
        section, name = words[-3], words[-1]
        if section.startswith(".data.rel.ro") or not section.startswith(WRITABLE):
            continue
        found[module][name.split(".")[0]] = section
    return found


OBJECTS = sorted((structure.RELEASE / "src").rglob("*.c.o"))


def there_are_objects():
    return [] if OBJECTS else [f"no objects under {structure.RELEASE}/src"]


def no_mutable_globals():
    return [f"{module}: {name} in {section} is a mutable global"
            for module, symbols in writable_symbols(OBJECTS).items() for name, section in symbols.items()
            if name not in ALLOWED.get(module, {}) and not name.startswith(("__asan", "__odr"))]


def the_check_finds_what_is_there():
    found = writable_symbols(OBJECTS)
    return [f"{name} of {module} is not found any more: strike its row, or mend the check"
            for module, symbols in ALLOWED.items() for name in symbols if name not in found[module]]


structure.run_tests([
    ("the release objects are there", there_are_objects),
    ("no mutable globals", no_mutable_globals),
    ("the allowed ones are found", the_check_finds_what_is_there),
])
