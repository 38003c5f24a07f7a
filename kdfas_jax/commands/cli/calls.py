"""A parsed command line, and what the modes share: checks of what they would ignore, devices, and output."""

import json
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from kdfas_jax.commands.cli import flags


class Call(NamedTuple):
    """A parsed command line: the config that --config names, with the overrides `changes` {'optim.lr': 0.04} applied,
    and the folder of the run."""

    config: ml_collections.ConfigDict
    workdir: str
    changes: Mapping[str, Any]


def options() -> dict[str, Any]:
    """Returns --options as a dict; ValueError where it is no JSON."""
    try:
        return json.loads(flags.OPTIONS.value)
    except ValueError as error:
        raise ValueError(f"--options={flags.OPTIONS.value}: expected JSON ({error})") from error


def read_a_run(call: Call, mode: str) -> None:
    """Prepares a mode that reads the run in --workdir; ValueError for overrides that it would ignore."""
    refuse_what_is_ignored(call, mode)
    keep_tensorflow_off_the_accelerator()


def or_released(call: Call) -> Call:
    """Returns `call` with the folder of the released model where the command line names no run and no config."""
    if flags.WORKDIR.value or names_a_config():
        return call
    from kdfas_jax.runs import released

    return call._replace(workdir=released.folder())


def names_a_config() -> bool:
    """Whether the command line names a config."""
    return any(argument.startswith("--config=") for argument in sys.argv)


def refuse_what_is_ignored(call: Call, mode: str) -> None:
    """ValueError for overrides, or a --config of another run, which a mode that reads a run would ignore."""
    from kdfas_jax.runs import overrides

    named = flags.WORKDIR.value and names_a_config()
    overrides.check(call.workdir, mode, call.config if named else None, call.changes)


def keep_tensorflow_off_the_accelerator() -> None:
    """Leaves the accelerator to JAX; the input pipeline runs on the host."""
    from input_pipeline.sources import imports

    imports.tensorflow().config.set_visible_devices([], "GPU")


def leave_at_sigterm() -> None:
    """Lets SIGTERM save the state of a training and end it."""
    import jax

    from kdfas_jax.parallel import preemption

    if jax.process_count() == 1:  # several have JAX's handler, by which they agree on the step to save and leave at
        preemption.install()


def print_results(folder: str, results: Mapping[str, Any]) -> None:
    """Prints where threshold and checkpoint of a run come from, and its figures."""
    from kdfas_jax.report import summary

    print(f"{folder}: {summary.selection_note(results)}")
    print(summary.markdown({results["config"]["name"]: summary.row(results)}, corner="test, % (AUC as a fraction)"))


def write_json(result: Mapping[str, Any]) -> None:
    """Writes `result` to --output, where it is given."""
    write(json.dumps(result, indent=2))


def write(text: str) -> None:
    """Writes `text` to --output, where it is given."""
    from kdfas_jax.runs import files

    if flags.OUTPUT.value:
        files.write_atomically(flags.OUTPUT.value, text)
