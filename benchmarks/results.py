"""The file that the benchmarks write, each its own section."""

import os
import platform
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import odoo.release

FILE = Path(__file__).with_name("RESULTS.md")
HEADER = """\
# Benchmarks

Each section was written by one command, which measures all of its alternatives in
turn, on one machine and in one run. Compare figures within a section; others depend on
the machine.
"""


def write(section_title: str, text: str, *facts: str) -> None:
    """Replace a section of the file, or add it; the others stay as they are.

    :param section_title: also names the section in its markers
    :param text: Markdown below the heading and the facts of the machine
    :param facts: what else was measured on, such as "Redis 8.0.2"
    """
    begin, end = (
        f"<!-- {mark} of {section_title} -->" for mark in ("beginning", "end")
    )
    lines = [begin, f"## {section_title}", _facts(facts), text.strip(), end]
    section = "\n\n".join(lines)
    content = FILE.read_text() if FILE.exists() else HEADER
    old = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if old.search(content):
        content = old.sub(lambda _match: section, content)
    else:
        content = f"{content.rstrip()}\n\n{section}\n"
    FILE.write_text(content)


def table(header: list[str], rows: list[list]) -> str:
    """Return a Markdown table; all columns but the first are aligned right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _facts(others):
    name = Path(sys.argv[0]).stem.removeprefix("bench_")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = [
        f"`scripts/bench {name}`",
        f"{datetime.now(timezone.utc):%Y-%m-%d}",
        f"{_processor()}, {len(os.sched_getaffinity(0))} CPUs, {memory:.0f} GiB",
        f"Python {platform.python_version()}",
        f"Odoo {odoo.release.version}",
        *others,
    ]
    return " · ".join(facts)


def _processor():
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
