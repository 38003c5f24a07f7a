"""`launch/results.sh`: each table has its place, its commands exist, and a measured one is written once. 3 s."""

import importlib
import re
import shlex
import subprocess

import pytest

from kdfas_jax.commands.documented import tables
from kdfas_jax.commands.documented.catalogue import CATALOGUE, Table
from tests.test_documented_commands import flags_of
from tests.test_documents import DOCUMENTS, ROOT

LISTED = "<!-- table not measured -->\nold\n<!-- end of table not measured -->\n"
PLACES = "before\n<!-- table {0} -->\n| old |\n<!-- end of table {0} -->\nafter\n"
SHORT = Table("short", "docs/results.md", ("echo once >> log", "printf 'noise\\n| a |\\n|---|\\n| 1 |\\n'"), "0", 0.1)
LONG = Table("long", "docs/results.md", ("echo long >> log", "printf '| b |\\n\\n| c |\\n'"), "0 to 4", 2.0)
LACKING = Table("lacking", "docs/results.md", ("train --workdir=RUNS/x",), "0", 1.0, needs="a TPU")


def test_each_table_has_one_place_and_each_place_a_table():
    measured = {(table.name, table.document) for table in CATALOGUE if not table.needs}
    places = {
        (name, str(document.relative_to(ROOT)))
        for document in DOCUMENTS
        for name in re.findall(r"^<!-- table (.+) -->$", document.read_text(), re.M)
    }
    assert places == measured | {(tables.NOT_MEASURED, tables.LISTED_IN)}
    assert len({table.name for table in CATALOGUE}) == len(CATALOGUE)
    for document in {table.document for table in CATALOGUE}:
        text = (ROOT / document).read_text()
        assert text.count("<!-- table ") == text.count("<!-- end of table ")


COMMANDS = [command for table in CATALOGUE for command in table.commands]


@pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads configs by it
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:70])
def test_the_commands_can_be_parsed(command, parsed):
    words = shlex.split(command)
    if words[:2] == ["python", "-m"]:
        importlib.import_module(words[2]).flag_parser().parse_args(words[3:])
        return
    assert words[:2] == ["python", "main.py"]
    parsed(*flags_of(command)[0])


@pytest.fixture
def project(tmp_path):
    """A repository with code and a document with places for `SHORT`, `LONG` and the list."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "main.py").write_text("")
    (tmp_path / "docs" / "results.md").write_text(LISTED + PLACES.format("short") + PLACES.format("long"))
    for arguments in (["init"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-m", "a"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_tables_are_measured_once_the_longest_last(project, capsys):
    assert tables.write([], str(project), [LONG, LACKING, SHORT]) == []
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["ok", "short"], ["ok", "long"]]
    text = (project / "docs" / "results.md").read_text()
    commit = tables.code_commit(str(project))
    assert "| old |" not in text
    assert "- lacking, needs a TPU: `train --workdir=runs/x`" in text
    assert "    echo once >> log\n    printf " in text
    assert re.search(rf"^Seeds: 0 to 4\. Commit {commit}, 20..-..-.., \d+ cores, ", text, re.M)
    assert "\n\n| a |\n|---|\n| 1 |\n\n<!-- end of table short -->\nafter\n" in text
    assert "\n\n| b |\n\n| c |\n\n<!-- end of table long -->" in text  # two tables stay two
    assert "noise\n" not in text.replace("'noise\\n", "")

    (project / "docs" / "results.md").write_text(LISTED + PLACES.format("short") + PLACES.format("long"))
    tables.write(["short"], str(project), [LONG, LACKING, SHORT])
    assert "| 1 |" in (project / "docs" / "results.md").read_text()
    assert (project / "log").read_text() == "once\nlong\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 3", "exit code 3 of: exit 3"),
        ("echo none", "found no Markdown table in what this command prints: echo none"),
        ("printf 'warning: other data\\n| a |\\n'", "warning: other data"),
    ],
)
def test_a_table_that_fails_leaves_its_place_and_the_others_are_measured(project, capsys, command, reason):
    assert tables.write([], str(project), [SHORT._replace(commands=(command,)), LONG]) == ["short"]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"FAIL short {reason}")
    assert second.startswith("ok long ")
    assert PLACES.format("short") in (project / "docs" / "results.md").read_text()


def test_what_cannot_be_measured_is_refused(project):
    with pytest.raises(ValueError, match="--only=shrt: unknown table; known: short, long"):
        tables.write(["shrt"], str(project), [SHORT, LONG])
    with pytest.raises(ValueError, match=r"results\.md has no place for a table; expected the lines <!-- table x -->"):
        tables.place("", "x", str(project / "docs" / "results.md"))
    (project / "main.py").write_text("changed")
    with pytest.raises(ValueError, match=r"found uncommitted changes \(main\.py, \.\.\.\); commit them first"):
        tables.write([], str(project), [SHORT])


REAL = Table("short", "docs/results.md", ("ls RAW_NUAA > log", "printf '| a |\\n'"), "0", 0.1, raw=("NUAA",))


def test_real_faces_are_read_where_the_caller_says(project, tmp_path, capsys):
    (tmp_path / "re al").mkdir()
    (tmp_path / "re al" / "client").touch()
    assert tables.write([], str(project), [REAL, LONG]) == []
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "left out short --raw NUAA=/path/to/NUAA measures it"
    assert printed[1].startswith("ok long ")
    assert "| old |" in (project / "docs" / "results.md").read_text()  # it keeps what is there
    assert tables.write(["short"], str(project), [REAL, LONG], {"NUAA": str(tmp_path / "re al")}) == []
    assert (project / "log").read_text() == "client\n"
    text = (project / "docs" / "results.md").read_text()
    assert "    ls /path/to/NUAA > log\n" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("names", "raw", "message"),
    [
        (["short"], {}, "--only=short: expected the folder of its real faces, --raw NUAA=/path/to/NUAA"),
        ([], {"ORL": "/"}, "--raw ORL=...: no table is of this data set; expected one of NUAA"),
        ([], {"NUAA": "/no/such"}, "--raw NUAA=/no/such: no such folder; expected that of the raw data set"),
    ],
)
def test_a_wrong_folder_of_real_faces_is_an_error_before_anything_is_measured(project, names, raw, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tables.write(names, str(project), [REAL, LONG], raw)
    assert not (project / "log").exists()


@pytest.mark.parametrize("given", ["NUAA", "=/x", "NUAA="])
def test_raw_without_a_name_or_a_folder_is_an_error(given, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tables", "--raw", given])
    with pytest.raises(SystemExit, match=re.escape(f"error: --raw {given}: expected NAME=FOLDER")):
        tables.main()
