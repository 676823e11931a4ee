"""What was measured, for people: each figure beside its goal."""

import platform
import re
import subprocess
from pathlib import Path

from peers import Failed

BEGIN, END = "<!-- made by `scripts/bench --record`: begin -->", "<!-- end -->"


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def verdict(value, goal, at_least=False):
    if goal is None or value is None:
        return ""
    return "ok" if (value >= goal if at_least else value <= goal) else "missed"


def table(head, rows):
    """Markdown, which reads well in a terminal too when the columns are even."""
    cells = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))) + " |" for row in cells]
    rule = "| " + " | ".join("-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def first_line(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().split("\n")[0]


def machine(nginx):
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": info.count("processor\t:") or 1,
        "memory_gib": round(int(memory.group(1)) / 1048576) if memory else None,
        "kernel": platform.release(),
        "nginx": first_line([nginx, "-v"]).removeprefix("nginx version: "),
        "wrk": first_line(["wrk", "-v"]).split(" Copyright")[0],
        "compiler": first_line(["gcc", "--version"]),
    }


def calls_table(cases):
    rows = []
    for case in cases:
        one, other = case["cardea"], case.get("nginx") or {}
        rows.append([case["name"], number(other.get("cpu_us")), number(one["cpu_us"]), number(case.get("cpu_ratio")),
                     f"<= {case['goal']}" if case.get("goal") else "", verdict(case.get("cpu_ratio"), case.get("goal")),
                     number(other.get("rate")), number(one["rate"]), number(other.get("p50")), number(one["p50"]),
                     number(other.get("p99")), number(one["p99"])])
    return table(["call", "nginx us", "Cardea us", "ratio", "goal", "", "nginx calls/s", "Cardea calls/s", "nginx p50 us",
                  "Cardea p50 us", "nginx p99 us", "Cardea p99 us"], rows)


def half_table(cases):
    rows = [[case["name"], number(half["rate"]), number(half["nginx"]["p50"]), number(half["cardea"]["p50"]),
             number(half["nginx"]["p99"]), number(half["cardea"]["p99"]), number(half["ratio"]),
             f"<= {half['goal']}" if half["goal"] else "", verdict(half["ratio"], half["goal"])]
            for case in cases if (half := case.get("half"))]
    return table(["at half load", "calls/s", "nginx p50 us", "Cardea p50 us", "nginx p99 us", "Cardea p99 us", "ratio of p99",
                  "goal", ""], rows) if rows else ""


def figures_table(figures):
    return table(["what", "figure", "goal", ""], [
        [one["name"], f"{number(one['value'])} {one['unit']}".strip(),
         f"{'>=' if one.get('at_least') else '<='} {number(one['goal'])} {one['unit']}".strip() if one["goal"] else "",
         verdict(one["value"], one["goal"], one.get("at_least", False))] for one in figures])


def missed(result):
    names = [case["name"] for case in result["cases"] if verdict(case.get("cpu_ratio"), case.get("goal")) == "missed"]
    names += [f"{case['name']} at half load" for case in result["cases"]
              if case.get("half") and verdict(case["half"]["ratio"], case["half"]["goal"]) == "missed"]
    return names + [one["name"] for one in result["figures"]
                    if verdict(one["value"], one["goal"], one.get("at_least", False)) == "missed"]


def text(result):
    facts = result["machine"]
    parts = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, Linux {facts['kernel']}; {facts['nginx']}, "
        f"{facts['wrk']}, {facts['compiler']}. {result['date']}, {result['version']}, `{result['command']}`: "
        f"{result['rounds']} rounds of {result['seconds']} s; "
        f"load of the machine {result['load'][0]:.1f} before and {result['load'][1]:.1f} after."]
    if result["cases"]:
        parts += ["CPU time for one call (us: microseconds), calls in a second and times as wrk sees them, with as many calls "
                  "at once as it has connections:", calls_table(result["cases"])]
    if half := half_table(result["cases"]):
        parts += ["At a constant rate of half of what the slower one can do, counted from when a call was due:", half]
    if result["figures"]:
        parts.append(figures_table(result["figures"]))
    names = missed(result)
    parts.append(f"Missed: {'; '.join(names)}." if names else "No goal was missed.")
    return "\n\n".join(parts)


def record(path, result):
    old = path.read_text()
    if BEGIN not in old or END not in old[old.index(BEGIN):]:
        raise Failed(f"{path} lacks the lines {BEGIN} and {END}")
    before, rest = old.split(BEGIN, 1)
    body = text(result) + "\n\nThe configuration of nginx in that run:\n\n```nginx\n" + result["nginx_config"] + "```"
    path.write_text(before + BEGIN + "\n\n" + body + "\n\n" + END + rest.split(END, 1)[1])
