"""Rules of the project's own code that ruff does not check. 2 s."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PRIVATE = re.compile(r"_[A-Za-z]\w*")
IN_TEXT = re.compile(r"(?<=\w)(?<!self)(?<!cls)\.(_[A-Za-z]\w*)")  # in a path to patch, or in a script that a test runs
PUBLIC = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}  # of a NamedTuple, documented
BY_NAME = {"delattr", "getattr", "hasattr", "setattr", "object"}  # functions that take an attribute's name


def private_members(source: str) -> list[str]:
    """Returns 'line: name' for each private member of another object or module that `source` names.

    It is an attribute of anything but `self` and `cls`, an imported name or module, or a name in a string, as of
    `monkeypatch.setattr`. Names within the file itself are its own.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        ):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in BY_NAME:
            names = [of.value for of in node.args[1:2] if isinstance(of, ast.Constant) and isinstance(of.value, str)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = IN_TEXT.findall(node.value)
        found += [f"{node.lineno}: {name}" for name in names if PRIVATE.fullmatch(name) and name not in PUBLIC]
    return found


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_tests_use_what_is_public(path):
    """A test of a private name fails when the code behind a public one is rearranged; what needs a test is public."""
    assert private_members(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "module.{}(1)",
        "package.module.Class().{}",
        "from package.module import public, {}",
        "import package.{}",
        "from package.{} import public",
        "monkeypatch.setattr(module, '{}', 1)",
        "monkeypatch.delattr(module.Class, '{}')",
        "monkeypatch.setattr('package.module.{}', 1)",
        "patch.object(module, '{}')",
        "SCRIPT = 'module.{}(1)'",
    ],
)
def test_a_private_member_would_be_found(source):
    assert private_members(source.format("_hidden")) == ["1: _hidden"]
    assert private_members(source.format("hidden")) == []


def test_what_is_public_or_of_the_file_itself_is_no_private_member():
    assert private_members("row._replace(x=1), row._asdict(), self._kept, _own(1), module.__name__, '_suffix'") == []
