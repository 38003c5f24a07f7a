"""Links lead somewhere, every folder is described, and the path of a batch names files that exist. 0 s."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(document: pathlib.Path) -> set[str]:
    """The names by which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document):
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_path_of_a_batch_names_at_most_five_files_in_order():
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## One batch")[1].split("\n## ")[0]
    steps = re.findall(r"^\d\. `([^`]+)`(?:, `(\w+)`)?", section, re.M)
    assert 1 < len(steps) <= 5
    for file, name in steps:
        defined = {getattr(node, "name", "") for node in ast.parse((ROOT / file).read_text()).body}
        assert not name or name in defined, (file, name)


def test_every_folder_of_the_tree_is_in_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for package in ("kdfas_jax", "input_pipeline"):
        for folder in (path.parent.name for path in (ROOT / package).glob("*/__init__.py")):
            assert f"| `{folder}/` |" in text, f"{package}/{folder}"
