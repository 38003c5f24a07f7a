"""Train, distil, evaluate, predict, export, plan: `python main.py --config=FILE`; kdfas_jax has the logic."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from kdfas_jax.parallel import distributed, preemption
from kdfas_jax.runs import overrides

DEFAULT_CONFIG = "--config=configs/kdfas_demo.py"
CONFIG = config_flags.DEFINE_config_file("config", None, "FILE[:ARGUMENTS], one of configs/; kdfas_demo by default.")
WORKDIR = flags.DEFINE_string("workdir", "", "The run's folder; runs/<config>[-<arguments>] by default.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict", "export", "plan", "benchmark"], "What to do.")
SWEEP_BATCH = flags.DEFINE_bool("sweep_batch", False, "plan: find the largest batch that fits the devices' memory.")
TOPOLOGY = flags.DEFINE_string("topology", "cpu:8", "plan: the devices to compile for, cpu:N or v5e:16x16.")
RUNS = flags.DEFINE_list("runs", [], "eval: folders of evaluated runs, to be compared in one table and one page.")
OUTPUT = flags.DEFINE_string(
    "output",
    "",
    "plan, benchmark: a JSON file; predict: scores.csv; export: a folder, WORKDIR/export if none; eval --runs: a "
    "folder, runs/comparison if none.",
)
INPUT = flags.DEFINE_list("input", [], "predict: images, videos, folders of them, webcam:0.")
FRAMES = flags.DEFINE_integer("frames", 8, "predict: how many of a video, evenly spaced.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 16, "predict: images looked at together.", lower_bound=1)
CROPPED = flags.DEFINE_bool("cropped", False, "predict: the images are face crops already.")
ANNOTATE = flags.DEFINE_string("annotate", "", "predict: a folder for copies of the images with boxes and scores.")
REFERENCE = flags.DEFINE_string("reference", "", "predict: a picture of the person that faces are compared with.")
FORMAT = flags.DEFINE_list("format", ["onnx"], "export: some of stablehlo, tflite, onnx, onnx_int8.")
PARTS = flags.DEFINE_list("parts", ["step", "loop", "input"], "benchmark: some of these; step needs no TensorFlow.")
BASELINE = flags.DEFINE_enum(
    "baseline", "", ["", "pytorch", "pytorch_compile"], "benchmark: what the step is held against."
)
COORDINATOR = flags.DEFINE_string("coordinator", "", "host:port of process 0, for several processes by hand.")
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes, with --coordinator; 1: alone, under any launcher.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, with --coordinator.")
INITIALIZATION_TIMEOUT = flags.DEFINE_integer(
    "initialization_timeout", 300, "Seconds that processes wait for each other at the start.", lower_bound=1
)


def default_workdir(config_file: str, changes: Mapping[str, Any] | None = None) -> str:
    """'configs/kdfas_oulu.py:protocol=4.2', {'seed': 1} -> 'runs/kdfas_oulu-protocol=4.2-seed=1'."""
    path, _, arguments = config_file.partition(":")
    name = os.path.splitext(os.path.basename(path))[0]
    name = f"{name}-{arguments}".rstrip("-").replace("/", "_")
    return os.path.join("runs", name + overrides.suffix(changes or {}))


def main(argv: list[str]) -> None:
    """Sets the process up, then hands over to the verb."""
    if len(argv) > 1:
        raise ValueError(f"unexpected argument {argv[1]!r}; flags are --config=FILE --workdir=DIR --mode=MODE")
    config, changes = CONFIG.value, config_flags.get_override_values(flags.FLAGS["config"])
    workdir = WORKDIR.value or default_workdir(flags.FLAGS["config"].config_filename, changes)
    _start_jax()
    if MODE.value == "eval" and RUNS.value:
        print(_compare())
        return
    if MODE.value == "plan":
        print(_plan(config))
        return
    if MODE.value == "benchmark":
        print(_benchmark(config))
        return
    if MODE.value == "predict" and not INPUT.value:
        raise ValueError("--mode=predict needs --input=PATH[,PATH...]: images, videos, folders of them, or webcam:0")
    if MODE.value in overrides.HONOURED and "variants" not in config:
        named = any(argument.startswith("--config=") for argument in sys.argv) and WORKDIR.value
        overrides.check(workdir, MODE.value, config if named else None, changes)
    _keep_tensorflow_off_the_accelerator()
    from kdfas_jax.commands import ablation, evaluate, train  # TensorFlow takes seconds: after quick errors
    from kdfas_jax.report import summary  # TensorFlow takes seconds: after quick errors

    if MODE.value == "predict":
        _predict(workdir)
        return
    if MODE.value == "export":
        print(_export(workdir))
        return
    if jax.process_count() == 1:  # several have jax's own handler, by which they agree on the step to save and leave at
        preemption.install()
    if "variants" in config:
        print(ablation.ablate(config, workdir, missing=MODE.value == "train"))
        return
    results = train.train(config, workdir) if MODE.value == "train" else evaluate.evaluate_run(workdir, changes)
    print(f"{workdir}: {summary.selection_note(results)}")
    print(summary.markdown({results["config"]["name"]: summary.row(results)}, corner="test, % (AUC as a fraction)"))


def _start_jax() -> None:
    if MODE.value == "plan" and TOPOLOGY.value.startswith("cpu:"):
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", int(TOPOLOGY.value.removeprefix("cpu:")))
    distributed.start(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, INITIALIZATION_TIMEOUT.value)
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/kdfas_jax/xla"))


def _keep_tensorflow_off_the_accelerator() -> None:
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the input pipeline runs on the host; the accelerator is JAX's


def _benchmark(config) -> str:
    from kdfas_jax.performance import benchmark

    if set(PARTS.value) & set(benchmark.WITH_DATA):
        _keep_tensorflow_off_the_accelerator()
    result = benchmark.benchmark(config, PARTS.value, BASELINE.value)
    _output(result)
    return benchmark.table(result)


def _plan(config) -> str:
    from kdfas_jax.performance import plan

    made, shown = (plan.largest_batch, plan.sweep_table) if SWEEP_BATCH.value else (plan.plan, plan.table)
    result = made(config, TOPOLOGY.value)
    _output(result)
    return shown(result)


def _predict(folder: str) -> None:
    from kdfas_jax.commands.predict import predict

    output = OUTPUT.value or "scores.csv"
    options = {"frames": FRAMES.value, "batch": BATCH.value, "cropped": CROPPED.value, "annotate": ANNOTATE.value}
    predicted = predict.predict(folder, INPUT.value, output, reference=REFERENCE.value, **options)
    print(f"{predicted.summary()}\n{output}")
    if not predicted.scored:
        raise ValueError(f"no face could be scored; the column error of {output} says why")


def _export(folder: str) -> str:
    from kdfas_jax.commands.export import export

    output = OUTPUT.value or os.path.join(folder, "export")
    return f"{export.table(export.export(folder, FORMAT.value, output))}\n{output}"


def _compare() -> str:
    from kdfas_jax.report import comparison as report_compare

    output = OUTPUT.value or "runs/comparison"
    return f"{report_compare.compare(RUNS.value, output)}\n{output}/index.html"


def _output(result: dict) -> None:
    from kdfas_jax.runs import workdir

    if OUTPUT.value:
        workdir.write_atomically(OUTPUT.value, json.dumps(result, indent=2))


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parsing, with the reason alone where a flag, a config argument or a config key is wrong (ValueError)."""
    chosen = [argument for argument in argv if argument.startswith("--config=")]
    if not chosen:
        argv = [argv[0], DEFAULT_CONFIG, *argv[1:]]
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:  # a config file's own error comes as a whole traceback: its last line says it
        raise ValueError(str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")) from error
    except (AttributeError, KeyError) as error:  # all that ml_collections says of an unknown key is its name
        config = flags.FLAGS["config"].parser.parse((chosen or [DEFAULT_CONFIG])[-1].partition("=")[2])
        for argument in argv:
            node = config
            for key in argument.partition("=")[0].split(".")[1:] if argument.startswith("--config.") else ():
                if key not in node:
                    raise ValueError(f"{argument}: no key {key!r} there; known: {', '.join(node.keys())}") from error
                node = node[key]
        raise


def run() -> None:
    """`main` with errors as one line and exit code 1; --verbosity=1 shows where they came from."""
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
        if "--verbosity=1" in sys.argv:
            traceback.print_exc()
        print(f"error: {str(error) or repr(error)}", file=sys.stderr)
        distributed.leave(1)


if __name__ == "__main__":
    run()
