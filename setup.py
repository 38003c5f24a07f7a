"""The dependencies of the package, from the requirements files; the rest is in pyproject.toml."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def requirements(path: Path) -> list[str]:
    """Returns the requirements in a file and in the files that it names by -r, without comments."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found += requirements(ROOT / line.removeprefix("-r ").strip())
        elif line:
            found.append(line)
    return found


files = {path.stem.removeprefix("requirements-"): path for path in ROOT.glob("requirements-*.txt")}
setup(
    install_requires=requirements(ROOT / "requirements.txt"),
    extras_require={name: requirements(path) for name, path in sorted(files.items()) if not name.endswith("lock")},
)
