"""What lint asks of the sources that no tool asks: sizes, refused functions, the include graph, and the like. Every
check is a function from a file to its findings, so that test/lint can show each one firing."""

import re
from dataclasses import dataclass
from functools import cached_property

from floors import EXEMPT_IN_PROTOCOL, MAY_INCLUDE, NOT_IN_PROTOCOL, PROTOCOL

FILE_WANTED, FILE_REFUSED = 500, 1200
FUNCTION_WANTED, FUNCTION_REFUSED = 60, 120
COMPLEXITY_WANTED, COMPLEXITY_REFUSED = 20, 40

REFUSED = {
    name: why
    for names, why in {
        "strcpy strcat strncpy strncat stpcpy sprintf vsprintf gets": "writes without knowing the room; use a buf",
        "sscanf atoi atol atoll atof": "reads numbers without checking; use slice_parse_*",
        "strtok alloca strdupa": "refused; see STYLE in CONTRIBUTING.md",
        "system popen": "a command built from a string; children come from the spawner",
        "rand srand random drand48 mktemp tmpnam tempnam": "guessable; use random_bytes() or mkstemp()",
        "setjmp longjmp": "leaves a function without its clean-up",
    }.items()
    for name in names.split()
}
# Only in the modules that wrap them.
WRAPPED = {
    name: (modules, why)
    for names, modules, why in [
        ("malloc calloc realloc free strdup strndup asprintf vasprintf reallocarray", {"base", "io"}, "use base/mem.h"),
        ("close", {"base", "io"}, "descriptors belong to io/; use fd_close() or its clean-up"),
        ("fork vfork clone execve execvp execv posix_spawn uv_spawn", {"io"}, "children come from the spawner"),
        ("getenv setenv putenv unsetenv", {"cli", "client", "config", "io", "upstream"}, "the environment is read at the border"),
    ]
    for name in names.split()
}
# The time of day jumps: it is for people to read, and nothing waits by it.
WALL_CLOCK = re.compile(r"\b(?:CLOCK_REALTIME\w*|clock_wall_ms\s*\(|(?<![.>])(?:time|ftime|gettimeofday|timespec_get)\s*\()")
WALL_CLOCK_READERS = ("src/base/clock.c", "src/base/include/base/clock.h", "src/base/log.c", "src/gateway/exchange.c",
                      "src/gateway/authn.c", "src/gateway/edit.c", "src/gateway/request_state.c", "src/config/auth.c", "src/gateway/token.c", "src/oauth/source.c", "src/oauth/token.c",
                      "src/cli/audit_query.c", "src/cli/certs.c", "src/cli/serving_admin.c", "src/cli/serving_tls.c", "src/pki/watch.c",
                      "src/store/sqlite.c", "src/admin/answer.c", "src/admin/api.c", "src/admin/connection.c",
                      "src/admin/trail.c", "src/vault/files.c")
SLEEPS = ("sleep", "usleep", "nanosleep", "clock_nanosleep")
MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
ABOUT_MARKS = ("scripts/lint_source.py", "scripts/tap.py", "test/lint/", "CONTRIBUTING.md")
EXTENSIONS = ("src/base/include/base/compiler.h", "src/base/include/base/checked.h")
POLLING = "test/integration/lib/wait.ts"  # the one place that waits between two looks, with a deadline


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    text: str
    is_note: bool = False

    def __str__(self):
        return f"{self.path}:{self.line}: {'note' if self.is_note else 'error'}: {self.text}"


class Source:
    """One file; `path` is relative to the top folder."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.lines = text.splitlines()

    @property
    def is_header(self):
        return self.path.endswith(".h")

    @property
    def is_c(self):
        return self.path.endswith((".c", ".h", ".cpp"))

    @property
    def module(self):
        """Of src/; "" elsewhere."""
        parts = self.path.split("/")
        return parts[1] if parts[0] == "src" and len(parts) > 2 else ""

    @cached_property
    def code(self):
        """The lines without what comments and strings say; as many and as long as the real ones."""
        pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)

        def blank(match):
            found = match.group()
            inner = re.sub(r"[^\n]", " ", found)
            return found[0] + inner[1:-1] + found[-1] if found[0] in "\"'" else inner

        return pattern.sub(blank, self.text).splitlines()

    @cached_property
    def functions(self):
        """(name, first line, last line) of each function body, relying on the layout of clang-format: a body ends
        with a brace in the first column, and its head begins with a word there."""
        found, start = [], None
        for number, line in enumerate(self.code, 1):
            if start is None:
                if re.match(r"[A-Za-z_]", line) and not line.rstrip().endswith(";"):
                    start, head = number, ""
                    if re.match(r"(typedef|enum|union|namespace|extern \" *\")\b", line) or "=" in line:
                        start = None
            if start is not None:
                head += line + "\n"
                if line.startswith("}"):
                    match = re.search(r"(\w+)\s*\([^{;]*\)[^{;=]*\{", head)
                    if match and not re.match(r"struct \w+ \{", head):
                        found.append((match.group(1), start, number))
                    start = None
                elif line.rstrip().endswith(";") and "{" not in head:
                    start = None
        return found


def check_text(source):
    for number, line in enumerate(source.lines, 1):
        if line != line.rstrip():
            yield Finding(source.path, number, "white space at the end of the line")
        if "\t" in line and not source.path.endswith("Makefile"):
            yield Finding(source.path, number, "a tab")
        if MARKS.search(line) and not source.path.startswith(ABOUT_MARKS):
            yield Finding(source.path, number, "a mark of unfinished work: do it, or open an issue")
    if source.text and not source.text.endswith("\n"):
        yield Finding(source.path, len(source.lines), "no newline at the end of the file")


def check_sizes(source):
    if not source.is_c:
        return
    if len(source.lines) > FILE_WANTED:
        yield Finding(source.path, 1, f"{len(source.lines)} lines (wanted {FILE_WANTED}, refused past {FILE_REFUSED})",
                      len(source.lines) <= FILE_REFUSED)
    for name, first, last in source.functions:
        size = last - first + 1
        if size > FUNCTION_WANTED:
            yield Finding(source.path, first, f"{name}() has {size} lines (wanted {FUNCTION_WANTED}, refused past "
                          f"{FUNCTION_REFUSED})", size <= FUNCTION_REFUSED)
        body = "\n".join(source.code[first - 1:last])
        complexity = 1 + len(re.findall(r"\b(?:if|for|while|case)\b|&&|\|\||\?", body))
        if complexity > COMPLEXITY_WANTED:
            yield Finding(source.path, first, f"{name}() has complexity {complexity} (wanted {COMPLEXITY_WANTED}, "
                          f"refused past {COMPLEXITY_REFUSED})", complexity <= COMPLEXITY_REFUSED)


CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")


def check_functions(source):
    if not source.is_c:
        return
    for number, line in enumerate(source.code, 1):
        for match in CALL.finditer(line):
            name = match.group(1)
            if name in REFUSED:
                yield Finding(source.path, number, f"{name}(): {REFUSED[name]}")
            elif source.module and name in WRAPPED and source.module not in WRAPPED[name][0]:
                yield Finding(source.path, number, f"{name}(): {WRAPPED[name][1]}")
            elif name in SLEEPS:
                yield Finding(source.path, number, f"{name}(): wait for what is to happen, not for a time")
        if source.module and WALL_CLOCK.search(line) and source.path not in WALL_CLOCK_READERS:
            yield Finding(source.path, number, "the time of day jumps; use io_loop_now() or clock_monotonic_ms()")
        if re.search(r"__attribute__|__builtin_|__extension__|__typeof__", line):
            if source.path not in EXTENSIONS and not source.path.endswith(".cpp"):
                yield Finding(source.path, number, "a compiler extension: give it a name in base/compiler.h")


PROTOTYPE = re.compile(r"(?!static\b|typedef\b|return\b|_Static_assert|static_assert)"
                       r"(?:struct |enum |union |const |unsigned )*\w+[\s*]+(\w+)\s*\([^=]*\)[^;{=]*;")
PROTOTYPES_OF_OTHERS = {"LLVMFuzzerTestOneInput"}  # which libFuzzer wants, and gives no header for


def check_prototypes(source):
    """A prototype in a .c file gets around the floors: it needs no header. Those of static functions are fine."""
    if not source.path.endswith(".c"):
        return
    bodies = [(first, last) for _, first, last in source.functions]
    statement, start = "", 0
    for number, line in enumerate(source.code, 1):
        if any(first <= number <= last for first, last in bodies) or line.startswith("#"):
            statement = ""
            continue
        if not statement and not re.match(r"[A-Za-z_]", line):
            continue
        start = start if statement else number
        statement += line + " "
        if ";" in line or "{" in line or "=" in line:
            if re.match(r"extern\b(?! *\" *\" *\{)", statement):
                yield Finding(source.path, start, "extern in a source file: include the header")
            elif (match := PROTOTYPE.match(statement)) and match.group(1) not in PROTOTYPES_OF_OTHERS:
                yield Finding(source.path, start, f"the prototype of {match.group(1)}() outside of a header")
            statement = ""


def includes_of(source):
    """(line, name, is it in quotes) of each #include"""
    for number, line in enumerate(source.lines, 1):
        if match := re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line):
            yield number, match.group(2), match.group(1) == '"'


def check_includes(source):
    if not source.is_c:
        return
    for number, name, quoted in includes_of(source):
        if ".." in name.split("/"):
            yield Finding(source.path, number, f'"{name}" climbs out of its folder and around the floors')
        if not source.module:
            continue
        exempt = (source.module, name) in EXEMPT_IN_PROTOCOL
        if source.module in PROTOCOL and name in NOT_IN_PROTOCOL and not exempt:
            yield Finding(source.path, number, f"{name}: protocol code has no descriptors, clocks, threads or log")
        other = name.split("/")[0]
        if quoted and "/" in name and other in MAY_INCLUDE and other != source.module:
            if other not in MAY_INCLUDE.get(source.module, set()):
                yield Finding(source.path, number, f"{source.module}/ may not include {name} (scripts/floors.py)")
    if source.module and source.module not in MAY_INCLUDE:
        yield Finding(source.path, 1, f"{source.module}/ has no row in scripts/floors.py")
    if source.is_header and "#pragma once" not in source.lines:
        yield Finding(source.path, 1, "a header without #pragma once")


def check_tests(source):
    """Integration tests wait for events."""
    if not (source.path.startswith("test/") and source.path.endswith(".ts")) or source.path == POLLING:
        return
    for number, line in enumerate(source.lines, 1):
        if re.search(r"timers/promises|\bsleep\(|\bdelay\(|await new Promise\(\(?\w*\)? => setTimeout", line):
            yield Finding(source.path, number, "sleeps: wait for what is to happen, with a deadline")
        if re.search(r"\.only\(|only: *true", line):
            yield Finding(source.path, number, "keeps the other tests from running")


CHECKS = (check_text, check_sizes, check_functions, check_prototypes, check_includes, check_tests)


def check(source):
    return [finding for each in CHECKS for finding in each(source)]


def include_graph(sources):
    """{module: {module it includes: how often}} of src/"""
    graph = {module: {} for module in MAY_INCLUDE}
    for source in sources:
        for _, name, quoted in includes_of(source) if source.is_c and source.module else ():
            other = name.split("/")[0]
            if quoted and other in MAY_INCLUDE and other != source.module:
                row = graph.setdefault(source.module, {})
                row[other] = row.get(other, 0) + 1
    return graph
