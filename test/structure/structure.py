"""What the tests of the project's shape share: TAP on stdout, and the commands that compile each module."""

import json
import os
import shlex
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CARDEA_BUILD_DIR", ROOT / "build-asan")).resolve()
RELEASE = Path(os.environ.get("CARDEA_RELEASE_DIR", ROOT / "build")).resolve()
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True


def run_tests(tests):
    """tests: [(name, function)]; a function returns a list of complaints, empty when all is well."""
    def complaints_of(function):
        try:
            return function()
        except Exception:  # of one test: the others still run
            return [traceback.format_exc()]

    print(f"1..{len(tests)}", flush=True)
    failed = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(complaints_of, [function for _, function in tests])
        for number, ((name, _), complaints) in enumerate(zip(tests, results), 1):
            for line in complaints:
                print("#", line.replace("\n", "\n# "))
            print(f"{'not ok' if complaints else 'ok'} {number} - {name}", flush=True)
            failed = failed or bool(complaints)
    sys.exit(1 if failed else 0)


def compile_commands():
    """{file: [argument, ...]} of the C files of src/, without the input and the output."""
    commands = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        path = (Path(entry["directory"]) / entry["file"]).resolve()
        if path.suffix != ".c" or not path.is_relative_to(ROOT / "src"):
            continue
        words = shlex.split(entry["command"])
        kept, skip = [], False
        for word in words:
            if skip:
                skip = False
            elif word in ("-o", "-MF", "-MQ"):
                skip = True
            elif word not in ("-c", "-MD", "-Werror", entry["file"]):
                kept.append(word)
        commands[path] = kept
    return commands


def module_of(path):
    return Path(path).relative_to(ROOT / "src").parts[0]


def module_flags():
    """{module: [argument, ...]}: what one of its C files is compiled with."""
    flags = {}
    for path, command in sorted(compile_commands().items()):
        flags.setdefault(module_of(path), command)
    return flags


def compiles(flags, text):
    """(does the text compile as a C file?, what the compiler said)"""
    done = subprocess.run([*flags, "-fsyntax-only", "-x", "c", "-"], cwd=BUILD, input=text, text=True,
                          capture_output=True, timeout=120)
    return done.returncode == 0, done.stderr


def objects():
    """The objects that the release binary is linked from."""
    return sorted([*(RELEASE / "src").rglob("*.o"), *(RELEASE / "cardea.p").glob("*.o")])


def public_headers():
    """{module: ["module/name.h", ...]}"""
    headers = {}
    for path in sorted((ROOT / "src").glob("*/include/*/*.h")):
        headers.setdefault(module_of(path), []).append("/".join(path.parts[-2:]))
    return headers
