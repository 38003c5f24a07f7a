"""The command line of `main.py` and of the installed command `kdfas`."""

import logging
import os
import sys
import textwrap
import traceback
from collections.abc import Mapping
from typing import Any

from absl import app
from absl import flags as absl_flags
from absl import logging as absl_logging
from ml_collections import config_flags

from kdfas_jax.commands.cli import configs, flags, verbs

CONFIG = configs.define("config", "FILE[:ARGUMENTS], one of configs/; kdfas_demo by default.")
MODE = absl_flags.DEFINE_enum("mode", "train", list(verbs.MODES), "What to do; a first argument MODE means the same.")
WIDTH = 100  # columns of the help
HELP = ("-h", "-help", "--help")


def default_workdir(config_file: str, changes: Mapping[str, Any] | None = None) -> str:
    """'configs/kdfas_oulu.py:protocol=4.2', {'seed': 1} -> 'runs/kdfas_oulu-protocol=4.2-seed=1'."""
    from kdfas_jax.runs import overrides

    path, _, arguments = config_file.partition(":")
    name = os.path.splitext(os.path.basename(path))[0]
    name = f"{name}-{arguments}".rstrip("-").replace("/", "_")
    return os.path.join("runs", name + overrides.suffix(changes or {}))


def main(argv: list[str]) -> None:
    """Starts JAX, then calls the verb of --mode."""
    if len(argv) > 1:
        raise ValueError(f"unexpected argument {argv[1]!r}; flags are --config=FILE --workdir=DIR --mode=MODE")
    config, changes = CONFIG.value, config_flags.get_override_values(absl_flags.FLAGS["config"])
    workdir = flags.WORKDIR.value or default_workdir(absl_flags.FLAGS["config"].config_filename, changes)
    _start_jax()
    verbs.MODES[MODE.value](verbs.Call(config, workdir, changes))


def _start_jax() -> None:
    import jax

    from kdfas_jax.parallel import distributed

    if MODE.value == "plan" and flags.TOPOLOGY.value.startswith("cpu:"):
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", int(flags.TOPOLOGY.value.removeprefix("cpu:")))
    distributed.start(
        flags.COORDINATOR.value, flags.NUM_PROCESSES.value, flags.PROCESS_ID.value, flags.INITIALIZATION_TIMEOUT.value
    )
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/kdfas_jax/xla"))


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parsing of a command line whose first argument may be a mode and which may lack --config.

    ValueError with the reason alone where a flag, a config argument or a config key is wrong.
    """
    program, *arguments = argv
    if arguments and arguments[0] in verbs.MODES:
        arguments[0] = f"--mode={arguments[0]}"
    chosen = [argument for argument in arguments if argument.startswith("--config=")]
    if not chosen:
        arguments = [f"--config={configs.DEFAULT}", *arguments]
    try:
        return absl_flags.FLAGS([program, *arguments])
    except absl_flags.Error as error:  # a config file's error comes as a whole traceback: its last line says it
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
        raise ValueError(reason.removeprefix(f"flag {(chosen or arguments)[0]}: ")) from error


def usage() -> str:
    """Returns the help: the modes, the flags and the configs."""
    modes = {name: verb.__doc__.splitlines()[0] for name, verb in verbs.MODES.items()}
    defined = [*absl_flags.FLAGS.get_flags_for_module(flags.__name__), absl_flags.FLAGS["config"]]
    texts = {f"--{flag.name}": flag.help for flag in sorted(defined, key=lambda flag: flag.name)}
    listed = textwrap.fill(" ".join(configs.names()), WIDTH - 2, break_on_hyphens=False)
    return f"""usage: kdfas [MODE] [--config=FILE[:ARGUMENTS]] [--config.KEY=VALUE ...] [--workdir=DIR] [FLAGS]
       python main.py [--mode=MODE] ...

Face anti-spoofing by distillation. Without a MODE: train.

modes
{_listed(modes, 18)}

flags, and the modes that read them
{_listed(texts, 27)}

configs
{textwrap.indent(listed, "  ")}"""


def _listed(rows: Mapping[str, str], indent: int) -> str:
    """One paragraph a row, whose text begins at the column `indent`."""
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=f"  {name} ".ljust(indent), subsequent_indent=" " * indent)
        for name, text in rows.items()
    )


def run() -> None:
    """`main` with errors as one line and exit code 1; --verbosity=1 shows where they came from."""
    if any(argument in HELP for argument in sys.argv[1:]):
        print(usage())
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as launch/setup.sh does
    absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax and clu report every phase of every save at INFO
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("kdfas_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        app.run(main, flags_parser=parse_flags)
    except Exception as error:
        from kdfas_jax.parallel import distributed

        if "--verbosity=1" in sys.argv:
            traceback.print_exc()
        print(f"error: {str(error) or repr(error)}", file=sys.stderr)
        distributed.leave(1)
