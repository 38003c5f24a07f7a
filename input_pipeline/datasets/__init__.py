"""The registry of readers, one module a data set: `datasets.get("nuaa").read(raw_dir)`.

A reader has
    read(raw_dir, **options) -> Iterable[Presentation]   it lists folders and list files, and opens no video or image
    EXPECTED_TREE: str                                   the raw layout, for error messages
and, where `raw_dir` is no folder but a file,
    files(raw_dir) -> list[str]                          the further files that it names, absolute or relative to it
A reader without EXPECTED_TREE needs no raw data (the rendered faces): `read(**options)`; it has a
    VERSION: str                                         a suffix of its records' folder, new with every new picture
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

# Name -> module, imported on first use: the renderer brings JAX along.
READERS = {
    name: f"input_pipeline.datasets.{name}"
    for name in (
        "casia",
        "celeba",
        "celeba_spoof",
        "csv",
        "folder",
        "identity",
        "msu",
        "nuaa",
        "oulu",
        "replay",
        "simulated",
        "simulated_identity",
        "siw",
    )
}


def get(name: str) -> ModuleType:
    """The reader registered under `name`; ValueError lists the known names for another one."""
    if name not in READERS:
        raise ValueError(f"unknown data set '{name}'; known: {', '.join(sorted(READERS))}")
    return importlib.import_module(READERS[name])


def options(reader: ModuleType) -> list[str]:
    """The names of a reader's options."""
    return list(option_types(reader))


def option_types(reader: ModuleType) -> dict[str, Any]:
    """The options of a reader with their type annotations: {'size': int}."""
    parameters = inspect.signature(reader.read).parameters.values()
    return {p.name: p.annotation for p in parameters if p.name != "raw_dir"}


def check(reader: ModuleType, name: str, raw_dir: str, given: Mapping) -> None:
    """Raises, with what would mend it, where `reader` cannot read `raw_dir` with the `given` options.

    ValueError for an unknown option, FileNotFoundError for raw data that is missing or not given.
    """
    if unknown := sorted(set(given) - set(options(reader))):
        raise ValueError(f"data set '{name}' has no option {unknown}; known: {', '.join(options(reader)) or 'none'}")
    tree = getattr(reader, "EXPECTED_TREE", "")
    if tree and not (raw_dir and Path(raw_dir).exists()):
        wrong = f"no such directory: {raw_dir}" if raw_dir else "no raw directory was given"
        raise FileNotFoundError(
            f"data set '{name}': {wrong}. It must look like\n{tree}\nThen run: "
            f"python -m input_pipeline.prepare --dataset={name} --raw_dir=RAW"
        )
