"""Readers of raw data sets, one module each; imports `sources`, `simulate` and `schema`.

`datasets.get("nuaa").read(raw_dir)` lists a data set. A reader has
    read(raw_dir, **options) -> Iterable[Presentation]   reads folders and list files, but opens no video or image
    EXPECTED_TREE: str                                   the raw layout, for error messages
and, where `raw_dir` is a file instead of a folder,
    files(raw_dir) -> list[str]                          the files that it names, absolute or relative to it
and, where it reads the sets of a user rather than one published set,
    ANY_RAW_DIR = True                                   the records' folder names the raw data (`prepare.builder_dir`)
A reader without EXPECTED_TREE needs no raw data (simulated faces): `read(**options)`. It has a
    VERSION: str                                         suffix of the records' folder, changed when its images change
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

# Name -> module, imported on first use, because the renderer imports JAX.
READERS = {
    name: f"input_pipeline.datasets.{name}"
    for name in (
        "camera",
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
        "simulated_wild",
        "siw",
    )
}


def get(name: str) -> ModuleType:
    """Returns the reader registered under `name`; ValueError, with the known names, for an unknown one."""
    if name not in READERS:
        raise ValueError(f"unknown data set '{name}'; known: {', '.join(sorted(READERS))}")
    return importlib.import_module(READERS[name])


def options(reader: ModuleType) -> list[str]:
    """Returns the names of a reader's options."""
    return list(option_types(reader))


def option_types(reader: ModuleType) -> dict[str, Any]:
    """Returns the options of a reader with their type annotations: {'size': int}."""
    parameters = inspect.signature(reader.read).parameters.values()
    return {p.name: p.annotation for p in parameters if p.name != "raw_dir"}


def check(reader: ModuleType, name: str, raw_dir: str, given: Mapping) -> None:
    """Raises an error, with its remedy, where `reader` cannot read `raw_dir` with the `given` options.

    ValueError for an unknown option, FileNotFoundError for raw data that are missing or not given.
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
