"""Reads TAP (the Test Anything Protocol), with the nesting by four spaces that node writes."""

import re
from dataclasses import dataclass, field

RESULT = re.compile(r"^( *)(ok|not ok)\b(?: +\d+)?(?: +-)? *(.*)$")
DIRECTIVE = re.compile(r"(?<!\\)# *(skip|todo)\b.*$", re.I)
PLAN = re.compile(r"^1\.\.(\d+)")


@dataclass
class Outcome:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)  # one text for each failed one

    def fail(self, why):
        self.failed += 1
        self.failures.append(why)

    def count(self):
        return self.passed + self.failed + self.skipped


def read(text):
    """Of nested results the innermost count, and a group only when it failed though nothing in it did. A result
    marked TODO has failed. What a test said (lines with #) before its failure, and the YAML after, goes with it."""
    outcome = Outcome()
    at_top, plan = 0, None
    nested = {}  # indentation -> how many of the results there failed, until the group above them is met
    said, yaml_indent, explains_failure = [], None, False
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip(" "))
        word = line.strip()
        if yaml_indent is not None:
            if explains_failure:
                outcome.failures[-1] += "\n" + line
            if word == "..." and indent == yaml_indent:
                yaml_indent = None
        elif word == "---" and indent > 0:
            yaml_indent = indent
        elif match := RESULT.match(line):
            is_ok, name = match.group(2) == "ok", DIRECTIVE.sub("", match.group(3)).strip()
            directive = DIRECTIVE.search(match.group(3))
            directive = directive.group(1).lower() if directive else ""
            at_top += indent == 0
            inner = [nested.pop(depth) for depth in list(nested) if depth > indent]
            nested[indent] = nested.get(indent, 0) + (not is_ok)
            explains_failure = False
            if inner and (is_ok or any(inner)):
                pass
            elif directive == "skip":
                outcome.skipped += 1
            elif is_ok and not directive:
                outcome.passed += 1
            else:
                outcome.fail("\n".join([name or "(without a name)", *said]))
                explains_failure = True
            said = []
        elif match := PLAN.match(line):
            plan = int(match.group(1))
        elif word.lower().startswith("bail out!"):
            outcome.fail(word)
        elif word.startswith("#") and not word.startswith("# Subtest"):
            said.append(line)
    if plan is not None and plan != at_top:
        outcome.fail("\n".join([f"planned {plan} tests, ran {at_top}", *said]))
    return outcome
