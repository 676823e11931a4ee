#!/usr/bin/env python3
"""Each check of scripts/lint_source.py fires on what it is for, and is silent on what looks like it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "structure"))
import structure
from lint_source import Source, check, include_graph


def function(lines, body="    x();\n"):
    return f"static int f(int a) {{\n{body * lines}}}\n"


# name: (path, text, a word of the finding or None for none at all, is it a note)
CASES = {
    "clean code": ("src/json/a.c", '#include "json/reader.h"\n\nstatic int f(void);\n', None, False),
    "trailing white space": ("README.md", "a \n", "white space", False),
    "tab": ("src/json/a.c", "\tint a;\n", "a tab", False),
    "tabs of the Makefile": ("Makefile", "a:\n\techo\n", None, False),
    "no newline at the end": ("README.md", "a", "no newline", False),
    "mark": ("src/json/a.c", "/* TODO: more */\n", "unfinished", False),
    "mark inside a word": ("src/json/a.c", "int TODOS;\n", None, False),
    "long file": ("src/json/a.c", "int a;\n" * 501, "501 lines", True),
    "too long file": ("src/json/a.c", "int a;\n" * 1201, "1201 lines", False),
    "function of 60": ("src/json/a.c", function(58), None, False),
    "function of 61": ("src/json/a.c", function(59), "61 lines", True),
    "function of 120": ("src/json/a.c", function(118), "120 lines", True),
    "function of 121": ("src/json/a.c", function(119), "121 lines", False),
    "two short functions": ("src/json/a.c", function(50) + function(50), None, False),
    "a table is no function": ("src/json/a.c", "static const struct row rows[] = {\n" + "    {ROW(a)},\n" * 130 + "};\n", None, False),
    "head over two lines": (
        "src/json/a.c", "int f(int a,\n      int b) {\n" + "    x();\n" * 60 + "}\n", "63 lines", True),
    "complexity 20": ("src/json/a.c", function(19, "    if (a)\n        x();\n"), None, False),
    "complexity 21": ("src/json/a.c", function(20, "    if (a)\n        x();\n"), "complexity 21", True),
    "complexity 41": ("src/json/a.c", function(20, "    if (a && b)\n        x();\n"), "complexity 41", False),
    "refused function": ("src/json/a.c", "static int n = atoi(a);\n", "atoi()", False),
    "refused function in a test": ("test/unit/a.c", "int n = sprintf(a, b);\n", "sprintf()", False),
    "refused name in a comment": ("src/json/a.c", "/* not strcpy(a, b) */\n// nor strcat(a)\n", None, False),
    "refused name in a string": ("src/json/a.c", 'static const char a[] = "gets(\\"x\\")";\n', None, False),
    "member of that name": ("src/json/a.c", "static int n = a->system(b) + c.system(d);\n", None, False),
    "longer name": ("src/json/a.c", "static int n = slice_atoi(b);\n", None, False),
    "malloc above the floor": ("src/json/a.c", "static void *p = malloc(3);\n", "malloc()", False),
    "malloc in base": ("src/base/a.c", "static void *p = malloc(3);\n", None, False),
    "close above io": ("src/gateway/a.c", "static int n = close(3);\n", "close()", False),
    "fork outside of io": ("src/upstream/a.c", "static int n = fork();\n", "fork()", False),
    "time of day": ("src/io/a.c", "static long n = time(NULL);\n", "time of day", False),
    "time of day by its clock": ("src/io/a.c", "static int n = clock_gettime(CLOCK_REALTIME, &t);\n", "time of day", False),
    "time of day by its function": ("src/upstream/a.c", "static long n = clock_wall_ms();\n", "time of day", False),
    "time of day in the log": ("src/base/log.c", "static long n = clock_wall_ms();\n", None, False),
    "time that does not jump": ("src/io/a.c", "static int n = clock_gettime(CLOCK_MONOTONIC, &t);\n", None, False),
    "a longer name with time": ("src/io/a.c", "static int n = read_time(3) + a->time(4);\n", None, False),
    "sleep in a test": ("test/unit/a.c", "static int n = usleep(3);\n", "usleep()", False),
    "extension": ("src/json/a.c", "int a __attribute__((unused));\n", "extension", False),
    "extern in a source": ("src/json/a.c", "extern int http_parse(int a);\n", "extern", False),
    "prototype in a source": ("src/json/a.c", "int http_parse(int a,\n               int b);\n", "http_parse()", False),
    "prototype with a struct": ("src/json/a.c", "struct slice *http_parse(int a) MUST_CHECK;\n", "http_parse()", False),
    "static prototype": ("src/json/a.c", "static int http_parse(int a);\n", None, False),
    "prototype in a header": ("src/json/a.h", "#pragma once\nint json_parse(int a);\n", None, False),
    "typedef of a function": ("src/json/a.c", "typedef int json_fn(int a);\n", None, False),
    "call in a body": ("src/json/a.c", "static int f(void) {\n    return http_parse(1);\n}\n", None, False),
    "climbing include": ("src/json/a.c", '#include "../http/include/http/uri.h"\n', "climbs", False),
    "include from beside": ("src/json/a.c", '#include "http/uri.h"\n', "may not include", False),
    "include from above": ("src/base/a.c", '#include "json/reader.h"\n', "may not include", False),
    "include from below": ("src/gateway/a.c", '#include "json/reader.h"\n', None, False),
    "module without a row": ("src/newcomer/a.c", "int a;\n", "no row", False),
    "descriptors in protocol code": ("src/http/a.c", "#include <unistd.h>\n", "protocol code", False),
    "descriptors in io": ("src/io/a.c", "#include <unistd.h>\n", None, False),
    "header without a guard": ("src/json/a.h", "int json_parse(int a);\n", "#pragma once", False),
    "sleep in an integration test": ("test/integration/a.test.ts", 'import t from "timers/promises";\n', "sleeps", False),
    "a test that silences the others": ("test/integration/a.test.ts", 'test.only("x");\n', "keeps", False),
}


def case(path, text, word, is_note):
    def test():
        findings = check(Source(path, text))
        if word is None:
            return [f"found {finding}" for finding in findings]
        if len(findings) != 1 or word not in findings[0].text or findings[0].is_note != is_note:
            return [f"expected one {'note' if is_note else 'error'} about {word!r}, found {findings}"]
        return []
    return test


def graph():
    sources = [Source("src/http/a.c", '#include "base/buf.h"\n#include "http/uri.h"\n#include "base/map.h"\n')]
    found = include_graph(sources)["http"]
    return [] if found == {"base": 2} else [f"the graph has {found}"]


structure.run_tests([(name, case(*row)) for name, row in CASES.items()] + [("the include graph", graph)])
