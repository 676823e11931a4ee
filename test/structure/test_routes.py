#!/usr/bin/env python3
"""A route that does not say who may, or what is recorded, does not compile; nor does one that changes something and
records nothing."""

import structure

FLAGS = structure.module_flags()["admin"]
HEAD = '#include "route.h"\nextern const struct api_route rows[];\nconst struct api_route rows[] = {'
TAIL = "};\n"

FINE = [
    ("a row that reads", 'ROUTE(GET, "/x", USERS_READ, NONE_READ, .summary = "x")'),
    ("a row that changes", 'ROUTE(POST, "/x", USERS_WRITE, USER, .summary = "x")'),
    ("a row for anybody", 'ROUTE(POST, "/x", PUBLIC, LOGIN, .summary = "x")'),
]
FORBIDDEN = [
    ("no permission", 'ROUTE(GET, "/x", , NONE_READ, .summary = "x")'),
    ("no audit class", 'ROUTE(GET, "/x", USERS_READ, , .summary = "x")'),
    ("neither", 'ROUTE(GET, "/x", .summary = "x")'),
    ("an audit class left out", 'ROUTE(GET, "/x", USERS_READ, .summary = "x", .status = 204)'),
    ("a permission left out", 'ROUTE(GET, "/x", NONE_READ, .summary = "x", .status = 204)'),
    ("both in the other's place", 'ROUTE(GET, "/x", NONE_READ, USERS_READ, .summary = "x")'),
    ("a permission that there is not", 'ROUTE(GET, "/x", EVERYTHING, NONE_READ, .summary = "x")'),
    ("a number", 'ROUTE(GET, "/x", 0, 0, .summary = "x")'),
    ("a change without a record", 'ROUTE(POST, "/x", USERS_WRITE, NONE_READ, .summary = "x")'),
    ("a deletion without a record", 'ROUTE(DELETE, "/x", USERS_WRITE, NONE_READ, .summary = "x")'),
]


def compiles(row):
    def test():
        fine, said = structure.compiles(FLAGS, HEAD + row + TAIL)
        return [] if fine else [said]
    return test


def does_not(row):
    def test():
        fine, _ = structure.compiles(FLAGS, HEAD + row + TAIL)
        return [f"it compiles: {row}"] if fine else []
    return test


def no_other_rows():
    """Rows are written with the macro alone."""
    text = (structure.ROOT / "src" / "admin" / "routes.c").read_text()
    return ["routes.c has a row without ROUTE()"] if ".pattern" in text.split("};")[0] else []


structure.run_tests(
    [(name, compiles(row)) for name, row in FINE]
    + [(name, does_not(row)) for name, row in FORBIDDEN]
    + [("rows are written with the macro", no_other_rows)]
)
