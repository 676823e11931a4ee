#!/usr/bin/env python3
"""No mutable globals: the objects of the release build hold no writable data of ours, read from their symbols."""

import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import structure

# object's module -> symbol -> why it is there
ALLOWED = {
    "base": {
        "fail_after": "test support: the n-th allocation fails; thread-local",
        "asked": "test support: counts allocations; thread-local",
        "reserve": "memory that a thread keeps back for what must not fail; thread-local",
        "has_reserve": "whether it is to have one; thread-local",
    },
}
WRITABLE = (".data", ".bss", ".tdata", ".tbss", "*COM*")
SYMBOL = re.compile(r"^[0-9a-f]{16} .{7} (\S+)\t([0-9a-f]{16}) (?:\.hidden )?(\S+)$")


def writable_symbols(objects):
    """{module: {symbol: section}}; of a static local the name without the number that the compiler adds."""
    found = defaultdict(dict)
    done = subprocess.run(["objdump", "-t", *map(str, objects)], capture_output=True, text=True, check=True)
    module = ""
    for line in done.stdout.splitlines():
        if "file format" in line:
            # .../libMODULE.a.p/NAME.o, or cardea.p/NAME.o for cli/
            module = Path(line.split(":")[0]).parent.name.removeprefix("lib").removesuffix(".p").removesuffix(".a")
        elif match := SYMBOL.match(line):
            section, size, name = match.groups()
            if name.startswith("DW.ref."):
                continue  # where C++ finds the type of what is thrown; the compiler's own
            if section.startswith(WRITABLE) and not section.startswith(".data.rel.ro") and int(size, 16) > 0:
                found[module][name.split(".")[0]] = section
    return found


OBJECTS = structure.objects()


def there_are_objects():
    return [] if OBJECTS else [f"no objects under {structure.RELEASE}"]


def no_mutable_globals():
    return [f"{module}: {name} in {section} is a mutable global"
            for module, symbols in writable_symbols(OBJECTS).items() for name, section in symbols.items()
            if name not in ALLOWED.get(module, {})]


def the_allowed_ones_are_there():
    found = writable_symbols(OBJECTS)
    return [f"{name} of {module} is not there any more: strike its row"
            for module, symbols in ALLOWED.items() for name in symbols if name not in found[module]]


def the_check_finds_every_kind():
    text = """static int plain; static int given = 3; static _Thread_local int local; int common;
              static const char *const table[] = {"a", "b"}; static const char *names[] = {"c"};
              int *f(int i) { static int inner = 1; inner++; local++; given++; return i ? &plain : i > 1 ? &given : &inner; }
              const char *g(int i) { names[0]++; return i ? table[i] : names[i]; }"""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cc", "-O1", "-fPIE", "-fno-common", "-c", "-x", "c", "-o", f"{folder}/a.o", "-"],
                       input=text, text=True, check=True)
        found = set().union(*writable_symbols([f"{folder}/a.o"]).values())
    expected = {"plain", "given", "local", "common", "names", "inner"}
    return [] if found == expected else [f"found {sorted(found)}, expected {sorted(expected)}"]


structure.run_tests([
    ("the release objects are there", there_are_objects),
    ("no mutable globals", no_mutable_globals),
    ("the allowed ones are there", the_allowed_ones_are_there),
    ("the check finds every kind", the_check_finds_every_kind),
])
