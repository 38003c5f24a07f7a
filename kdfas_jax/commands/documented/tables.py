"""Measures the tables of the documents and writes them in their places.

    ./launch/results.sh                              # every table that this machine can measure, the longest last
    ./launch/results.sh --only=demo,light            # some of them
    ./launch/results.sh --raw NUAA=/path/to/NUAA     # also the tables that need NUAA
    ./launch/results.sh --list

A table has a header with its commands, seeds, the commit of the code, the day and the machine. A second call resumes:
a table that today's code has measured is written again without being measured.
"""

import argparse
import datetime
import itertools
import os
import platform
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence

import psutil

from kdfas_jax.commands.documented.catalogue import CATALOGUE, Table
from kdfas_jax.runs import files

CODE = ("configs", "input_pipeline", "kdfas_jax", "main.py", "requirements-lock.txt")  # what a figure depends on
NOT_MEASURED = "not measured"  # the list of such tables, in `LISTED_IN`
LISTED_IN = "docs/results.md"


def measure(table: Table, root: str, commit: str, raw: Mapping[str, str] | None = None) -> str:
    """Runs the commands of `table` below `root` and returns its text: the header and what the last command printed.

    raw: data set -> its folder; it has those that the table needs.

    The text is kept in RUNS/tables/NAME.md, and a second call returns it. RuntimeError for a command that fails;
    ValueError where the last one prints no table, or a warning.
    """
    runs = os.path.join("runs", "results", commit)
    kept = os.path.join(root, runs, "tables", f"{table.name}.md")
    if os.path.exists(kept):
        with open(kept, encoding="utf-8") as file:
            return file.read()
    places = {"RUNS": runs, **{f"RAW_{name}": shlex.quote((raw or {})[name]) for name in table.raw}}
    for command in (_at(line, places) for line in table.commands):
        done = subprocess.run(["bash", "-c", command], cwd=root, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode} of: {command}")
    printed = done.stdout.splitlines()
    groups = itertools.groupby(printed, lambda line: line.startswith("|"))
    found = ["\n".join(rows) for is_table, rows in groups if is_table]
    if warnings := [line for line in printed if line.startswith("warning:")]:  # runs that cannot be compared
        raise ValueError(f"{warnings[0]} ({command})")
    if not found:
        raise ValueError(f"found no Markdown table in what this command prints: {command}")
    text = "\n\n".join([header(table, commit), *found])
    files.write_atomically(kept, text)
    return text


def header(table: Table, commit: str) -> str:
    """Returns the commands as a block, and a line with seeds, commit, day and machine."""
    block = "\n".join(f"    {_shown(command, table)}" for command in table.commands)
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {memory:.0f} GiB of memory"
    facts = f"Seeds: {table.seeds}. Commit {commit}, {datetime.date.today()}, {machine}."
    return f"{block}\n\n{facts}"


def _shown(command: str, table: Table) -> str:
    return _at(command, {"RUNS": "runs", **{f"RAW_{name}": f"/path/to/{name}" for name in table.raw}})


def _at(command: str, places: Mapping[str, str]) -> str:
    """`command` with each key of `places` replaced by its value."""
    return re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], command)


def place(text: str, name: str, document: str) -> None:
    """Puts `text` between the two marks of the table `name` in the file `document`; ValueError where it lacks them."""
    start, end = f"<!-- table {name} -->\n", f"<!-- end of table {name} -->"
    with open(document, encoding="utf-8") as file:
        before, found, rest = file.read().partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{document} has no place for a table; expected the lines {start.strip()} and {end}")
    files.write_atomically(document, f"{before}{start}\n{text}\n\n{end}{after}")


def not_measured(tables: Sequence[Table]) -> str:
    """Returns the list of the tables that need what this machine lacks, with their commands."""
    lines = []
    for table in (table for table in tables if table.needs):
        item = f"- {table.name}, needs {table.needs}: `{_shown('; '.join(table.commands), table)}`"
        lines.append(textwrap.fill(item, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    return "\n".join(lines)


def code_commit(root: str) -> str:
    """Returns the short name of the last commit that changed code; ValueError where code has uncommitted changes."""
    if changed := _git(root, "status", "--porcelain", "--", *CODE):
        raise ValueError(f"found uncommitted changes ({changed.splitlines()[0].split()[-1]}, ...); commit them first")
    return _git(root, "log", "-1", "--format=%h", "--", *CODE)


def _git(root: str, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def write(
    names: Sequence[str], root: str, catalogue: Sequence[Table] = CATALOGUE, raw: Mapping[str, str] | None = None
) -> list[str]:
    """Measures and places the tables `names`, all if empty; prints a line each, returns the names of those that failed.

    raw: data set -> its folder. A table of another real set keeps its place and is printed as left out. ValueError for
    an unknown name, for an unknown data set, for a folder that is not there, and for a named table without its folder.
    """
    known, raw = {table.name: table for table in catalogue}, raw or {}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--only={unknown[0]}: unknown table; known: {', '.join(known)}")
    _check_raw(raw, catalogue)
    if lacking := [name for name in names if set(known[name].raw) - set(raw)]:
        of = _flags(known[lacking[0]], raw)
        raise ValueError(f"--only={lacking[0]}: expected the folder of its real faces, {of}")
    commit, failed = code_commit(root), []
    place(not_measured(catalogue), NOT_MEASURED, os.path.join(root, LISTED_IN))
    for table in sorted(catalogue, key=lambda table: table.hours):
        if table.needs or (names and table.name not in names):
            continue
        if set(table.raw) - set(raw):
            print(f"left out {table.name} {_flags(table, raw)} measures it", flush=True)
            continue
        started = time.monotonic()
        try:
            text = measure(table, root, commit, raw)
            place(text, table.name, os.path.join(root, table.document))
        except (RuntimeError, ValueError) as error:
            failed.append(table.name)
            print(f"FAIL {table.name} {error}", flush=True)
        else:
            print(f"ok {table.name} {time.monotonic() - started:.0f}", flush=True)
    return failed


def _flags(table: Table, raw: Mapping[str, str]) -> str:
    """The flags --raw for the data sets that `table` needs and `raw` lacks."""
    return " ".join(f"--raw {name}=/path/to/{name}" for name in table.raw if name not in raw)


def _check_raw(raw: Mapping[str, str], catalogue: Sequence[Table]) -> None:
    known = sorted({name for table in catalogue for name in table.raw})
    for name, folder in raw.items():
        if name not in known:
            raise ValueError(f"--raw {name}=...: no table is of this data set; expected one of {', '.join(known)}")
        if not os.path.isdir(folder):
            raise ValueError(f"--raw {name}={folder}: no such folder; expected that of the raw data set")


def _pair(text: str) -> tuple[str, str]:
    name, found, folder = text.partition("=")
    if not (name and found and folder):
        raise ValueError(f"--raw {text}: expected NAME=FOLDER, such as NUAA=/path/to/NUAA")
    return name, os.path.abspath(folder)


def main() -> None:
    """Exit code 1 where a table failed, or with one line for a wrong call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of tables, joined by commas")
    parser.add_argument(
        "--raw", action="append", default=[], metavar="NAME=FOLDER", help="a real data set and its folder; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="print each table's name, document, hours and needs")
    given = parser.parse_args()
    if given.list:
        for table in CATALOGUE:
            needs = table.needs or " ".join(f"--raw {name}=FOLDER" for name in table.raw)
            print(table.name, table.document, f"{table.hours:g} h", needs and f"needs {needs}")
        return
    try:
        raw = dict(_pair(text) for text in given.raw)
        failed = write(list(filter(None, given.only.split(","))), os.getcwd(), raw=raw)
    except ValueError as error:
        sys.exit(f"error: {error}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
