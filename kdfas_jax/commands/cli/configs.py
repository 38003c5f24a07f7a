"""--config=FILE and --config.KEY=VALUE: where the file is found, and which keys an override may set.

A config lists every key but the options of its models and of the data sets' readers: it presets some, and the code has
defaults for the others. An override may set each of them, and the type is the one that the code declares.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping

import ml_collections
from absl import flags
from ml_collections import config_dict, config_flags
from ml_collections.config_flags import config_flags as implementation

DEFAULT = "configs/kdfas_demo.py"
OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", re.DOTALL)
TYPES = (bool, int, float, str)  # an option of another type takes any literal
SHARED = ("__init__", "common")  # modules of configs/ that are no configs


def define(name: str, text: str) -> flags.FlagHolder:
    """Defines the flag --`name`, whose overrides may set optional keys."""
    holder = config_flags.DEFINE_config_file(name, None, text)
    flags.FLAGS[name].parser = _Parser(name)
    return holder


def names() -> list[str]:
    """The paths of the configs of this project: 'configs/kdfas_oulu.py', 'configs/teachers/domains.py', ..."""
    folders = {"configs": _installed(), "configs/teachers": os.path.join(_installed(), "teachers")}
    found = [os.path.join(prefix, file) for prefix, folder in folders.items() for file in os.listdir(folder)]
    return sorted(
        path for path in found if path.endswith(".py") and os.path.basename(path).removesuffix(".py") not in SHARED
    )


def located(argument: str) -> str:
    """FILE[:ARGUMENTS] with the path of the installed config where there is no configs/... below this directory."""
    path, colon, arguments = argument.partition(":")
    if path.startswith("configs/") and not os.path.exists(path):
        installed = os.path.join(_installed(), path.removeprefix("configs/"))
        path = installed if os.path.exists(installed) else path
    return f"{path}{colon}{arguments}"


def _installed() -> str:
    (folder,) = importlib.util.find_spec("configs").submodule_search_locations
    return folder


class _Parser(implementation.ConfigFileFlagParser):
    """Loads a config and prepares it for the overrides of the command line."""

    def parse(self, path: str) -> ml_collections.ConfigDict:
        file = located(path).partition(":")[0]
        if not os.path.isfile(file):
            raise ValueError(f"{file} does not exist; expected the path of a config, or one of {', '.join(names())}")
        config = super().parse(located(path))
        with config.unlocked():
            prepare(config, overrides(sys.argv))
        return config


def overrides(argv: list[str]) -> dict[str, str | None]:
    """The overrides of a command line: {'data.options.size': '64'}; None for a value that is not behind =."""
    found = filter(None, map(OVERRIDE.fullmatch, argv))
    return {match[1]: match[2] for match in found}


def prepare(config: ml_collections.ConfigDict, given: Mapping[str, str | None]) -> None:
    """Makes the keys of the overrides `given` settable in `config`, which they leave unset.

    An override of data.dataset drops the preset options of data sets that it does not choose. ValueError for an unknown
    key, or an option that no chosen reader has; it lists the known ones.
    """
    _choose_datasets(config, given)
    for key in given:
        node = config
        for number, name in enumerate(parts := key.split(".")):
            if not isinstance(node, ml_collections.ConfigDict):
                break  # an override within a value: an error of ml_collections
            if name not in node:
                kinds, last = _optional(config, parts[:number]), number == len(parts) - 1
                if name not in kinds or not (last or _group(kinds[name])):
                    known = ", ".join(dict.fromkeys((*node.keys(), *kinds)))
                    raise ValueError(f"--config.{key}: no key {name!r} there; known: {known or 'none'}")
                node[name] = config_dict.placeholder(_kind(kinds[name])) if last else {}
            node = node.get(name)


def _choose_datasets(config: ml_collections.ConfigDict, given: Mapping[str, str | None]) -> None:
    """Sets the data sets that the overrides choose, and drops the preset options of the data sets that they replace."""
    before = {key: of.data.dataset for key, of in _configs(config)}
    for key, of in _configs(config):
        if name := given.get(f"{key}data.dataset"):
            _reader_options(name)  # ValueError for an unknown data set
            of.data.dataset = name  # a teacher that reads the same data follows
    for key, of in _configs(config):
        if of.data.dataset != before[key]:
            kept = set(of.data.dataset.split("+")) & set(before[key].split("+"))
            for option in set(of.data.options) - set(_reader_options("+".join(kept))):
                del of.data.options[option]


def _reader_options(dataset: str) -> dict[str, type]:
    """The options of the readers of `dataset`, names joined by +, with their types."""
    from input_pipeline import datasets

    readers = [datasets.get(name) for name in dataset.split("+") if name]
    return {name: of for reader in readers for name, of in datasets.option_types(reader).items()}


def _configs(config: ml_collections.ConfigDict, key: str = "") -> Iterator[tuple[str, ml_collections.ConfigDict]]:
    """(key with a dot behind it, config) of a run's config and its teachers', or of an ablation's base and its."""
    if "base" in config:
        yield from _configs(config.base, f"{key}base.")
        return
    if "data" in config:
        yield key, config
    for name, teacher in config.get("teachers", {}).items():
        yield from _configs(teacher.config, f"{key}teachers.{name}.config.")


def _optional(config: ml_collections.ConfigDict, above: list[str]) -> dict[str, type]:
    """The keys that may be set below the key `above`, with their types."""
    from kdfas_jax import models

    path = ".".join(above)
    for key, of in _configs(config):
        if path == f"{key}model":
            return models.options(of.model)
        if above[:-1] and ".".join(above[:-1]) == f"{key}model":  # a key of a mapping, as model.lora.rank
            return _group(models.options(of.model).get(above[-1]))
        if path == f"{key}data.options":
            return _reader_options(of.data.dataset)
    return {}


def _group(annotation) -> dict[str, type]:
    """The keys of an option that is a mapping, such as a ViT's `lora`, with their types; {} for other options."""
    return annotation.__annotations__ if hasattr(annotation, "_fields") else {}


def _kind(annotation) -> type:
    return annotation if annotation in TYPES else object
