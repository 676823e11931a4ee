#!/usr/bin/env python3
"""The runner's reading of TAP: a runner that counts wrong makes every other test worthless."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "structure"))
import structure
import tap

# name: (text, passed, failed, skipped, a word of the failures)
CASES = {
    "flat": ("1..2\nok 1 - a\nok 2 - b\n", 2, 0, 0, ""),
    "failure with what was said before": ("1..2\nok 1 - a\n# x.c:3: CHECK\nnot ok 2 - b\n", 1, 1, 0, "x.c:3"),
    "fewer than planned": ("1..3\nok 1 - a\nok 2 - b\n", 2, 1, 0, "planned 3 tests, ran 2"),
    "skipped": ("1..1\nok 1 - a # SKIP no network\n", 0, 0, 1, ""),
    "todo is a failure": ("1..1\nnot ok 1 - a # TODO later\n", 0, 1, 0, "a"),
    "done todo is a failure as well": ("1..1\nok 1 - a # todo\n", 0, 1, 0, "a"),
    "bail out": ("1..2\nok 1 - a\nBail out! no memory\n", 1, 2, 0, "no memory"),
    "nested: the innermost count": (
        "# Subtest: g\n    # Subtest: a\n    ok 1 - a\n    # Subtest: b\n    ok 2 - b\n    1..2\nok 1 - g\n1..1\n", 2, 0, 0, ""),
    "nested: a failure counts once": (
        "    ok 1 - a\n    not ok 2 - b\n      ---\n      error: 'boom'\n      ...\n    1..2\nnot ok 1 - g\n1..1\n",
        1, 1, 0, "boom"),
    "nested: a group that fails by itself": ("    ok 1 - a\n    1..1\nnot ok 1 - g\n1..1\n", 1, 1, 0, "g"),
    "two groups do not mix": (
        "    not ok 1 - a\nnot ok 1 - g\n    ok 1 - c\nnot ok 2 - h\n1..2\n", 1, 2, 0, "h"),
    "results inside YAML are text": ("ok 1 - a\n  ---\n  stack: |-\n  not ok 2 - b\n  ok 3 - c\n  ...\n1..1\n", 1, 0, 0, ""),
    "escaped directive": ("1..1\nok 1 - takes \\# SKIP as text\n", 1, 0, 0, ""),
    "a word that begins with ok": ("okay 1\n1..0\n", 0, 0, 0, ""),
    "nothing": ("", 0, 0, 0, ""),
}


def reads(text, passed, failed, skipped, word):
    def test():
        outcome = tap.read(text)
        actual, expected = (outcome.passed, outcome.failed, outcome.skipped), (passed, failed, skipped)
        complaints = [f"counted {actual}, expected {expected}"] if actual != expected else []
        if word not in "\n".join(outcome.failures):
            complaints.append(f"the failures do not say {word!r}: {outcome.failures}")
        return complaints
    return test


structure.run_tests([(name, reads(*case)) for name, case in CASES.items()])
