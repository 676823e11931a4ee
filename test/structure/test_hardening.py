#!/usr/bin/env python3
"""The hardening of the release binary, read from the binary: what the compiler was asked for is not proof."""

import platform
import re
import subprocess

import structure

BINARY = structure.RELEASE / "cardea"


def readelf(*options, binary=BINARY):
    return subprocess.run(["readelf", "-W", *options, str(binary)], capture_output=True, text=True,
                          check=True).stdout


def wants(option, pattern, what, binary=BINARY):
    return [] if re.search(pattern, readelf(option, binary=binary), re.M) else [f"{binary}: {what}"]


def is_pie():
    return (wants("-h", r"Type:\s+DYN", "is not position independent")
            + wants("-d", r"FLAGS_1.*\bPIE\b", "has no PIE flag"))


def is_relro():
    return wants("-l", r"^\s+GNU_RELRO\b", "has no RELRO segment")


def binds_now():
    return wants("-d", r"FLAGS.*\bBIND_NOW\b|FLAGS_1.*\bNOW\b", "binds lazily")


def stack_is_not_executable():
    match = re.search(r"^\s+GNU_STACK(?:\s+0x\w+){5}\s+(\S+)", readelf("-l"), re.M)
    if not match:
        return ["has no GNU_STACK header, so its stack is executable"]
    return ["the stack is executable"] if "E" in match.group(1) else []


def no_segment_is_writable_and_executable():
    return [line.strip() for line in readelf("-l").splitlines() if re.match(r"\s+LOAD\b.*\bRWE\b", line)]


def stack_protector():
    return wants("--dyn-syms", r"__stack_chk_fail", "does not use the stack protector")


def fortified():
    chk = re.findall(r"\b(__\w+_chk)\b", readelf("--dyn-syms"))
    chk = set(chk) - {"__stack_chk_fail"}
    return [] if len(chk) >= 3 else [f"uses next to no fortified functions: {sorted(chk)}"]


def no_search_path():
    return [line.strip() for line in readelf("-d").splitlines() if re.search(r"\((RPATH|RUNPATH)\)", line)]


def control_flow_protection():
    """Read from our objects: the start files of Debian 12's C library carry no mark, so no program linked there does."""
    if platform.machine() != "x86_64":
        return []
    return [complaint for path in structure.objects()
            for complaint in wants("-n", r"x86 feature:.*\bIBT\b.*\bSHSTK\b", "has no CET (IBT and SHSTK)", path)]


def no_sanitizer():
    return [line.strip() for line in readelf("-d").splitlines() if re.search(r"NEEDED.*lib[a-z]+san\b", line)]


def the_checks_can_fail():
    """An object file is none of this: the same questions must be answered with no."""
    some_object = structure.objects()[0]
    return [f"{what} would pass on anything"
            for option, pattern, what in (("-h", r"Type:\s+DYN", "pie"), ("-l", r"^\s+GNU_RELRO\b", "relro"),
                                          ("-d", r"BIND_NOW", "bind now"))
            if not wants(option, pattern, what, binary=some_object)]


structure.run_tests([
    ("the binary is position independent", is_pie),
    ("relocations are read-only", is_relro),
    ("symbols are bound at start", binds_now),
    ("the stack is not executable", stack_is_not_executable),
    ("no segment is writable and executable", no_segment_is_writable_and_executable),
    ("the stack protector is on", stack_protector),
    ("library calls are fortified", fortified),
    ("no library search path is built in", no_search_path),
    ("control flow protection is on", control_flow_protection),
    ("no sanitizer is linked in", no_sanitizer),
    ("the checks can fail", the_checks_can_fail),
])
