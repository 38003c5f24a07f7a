"""One function for each mode of the command line: it reads the flags, runs the command and prints the result.

`MODES` maps names to functions; the first line of a function's docstring is the mode's line in `--help`. Modules are
imported where they are needed, as TensorFlow takes seconds, after errors in flags.
"""

import os
from collections.abc import Callable

from kdfas_jax.commands.cli import calls, flags
from kdfas_jax.commands.cli.calls import Call


def train(call: Call) -> None:
    """Train the teachers that are missing and the student of --config, and evaluate it; an ablation: all its runs."""
    study = "variants" in call.config
    calls.keep_tensorflow_off_the_accelerator()
    from kdfas_jax.commands import ablation
    from kdfas_jax.commands import train as training

    calls.leave_at_sigterm()
    if study:
        print(ablation.ablate(call.config, call.workdir))
        return
    calls.print_results(call.workdir, training.train(call.config, call.workdir))


def evaluate(call: Call) -> None:
    """Evaluate the run in --workdir again or on other data (--on), or compare the evaluated runs in --runs."""
    if flags.RUNS.value:
        if flags.ON.value:
            raise ValueError(f"--on={flags.ON.value} and --runs: expected one of them; --on measures one --workdir")
        from kdfas_jax.report import comparison

        output = flags.OUTPUT.value or "runs/comparison"
        print(f"{comparison.compare(flags.RUNS.value, output)}\n{output}/index.html")
        return
    if flags.ON.value:
        _evaluate_on(call)
        return
    study = "variants" in call.config
    if not study:
        calls.refuse_what_is_ignored(call, "eval")
    calls.keep_tensorflow_off_the_accelerator()
    from kdfas_jax.commands import ablation
    from kdfas_jax.commands import evaluate as evaluation

    calls.leave_at_sigterm()
    if study:
        print(ablation.ablate(call.config, call.workdir, missing=False))
        return
    calls.print_results(call.workdir, evaluation.evaluate_run(call.workdir, call.changes))


def _evaluate_on(call: Call) -> None:
    options = calls.options()
    call = calls.or_released(call)
    calls.read_a_run(call, "eval")
    from kdfas_jax.commands import elsewhere
    from kdfas_jax.report import summary

    results, output = elsewhere.evaluate_on(
        call.workdir, flags.ON.value, options, changes=call.changes, output=flags.OUTPUT.value
    )
    print(f"{call.workdir}: {summary.selection_note(results)}\n{elsewhere.table(results)}\n{output}/index.html")


def predict(call: Call) -> None:
    """Score the images and videos of --input with the run in --workdir, or with the released model."""
    if not flags.INPUT.value:
        raise ValueError("--mode=predict needs --input=PATH[,PATH...]: images, videos, folders of them, or webcam:0")
    batch = flags.numbers(flags.BATCH, (16,))
    if len(batch) > 1:
        raise ValueError(f"--batch={','.join(flags.BATCH.value)}: --mode=predict expects one number")
    from input_pipeline.sources import inputs

    inputs.check([*flags.INPUT.value, *filter(None, [flags.REFERENCE.value])])
    call = calls.or_released(call)
    calls.refuse_what_is_ignored(call, "predict")
    from kdfas_jax.commands.predict import predict as prediction

    output = flags.OUTPUT.value or "scores.csv"
    predicted = prediction.predict(
        call.workdir,
        flags.INPUT.value,
        output,
        frames=flags.FRAMES.value,
        batch=batch[0],
        cropped=flags.CROPPED.value,
        annotate=flags.ANNOTATE.value,
        reference=flags.REFERENCE.value,
    )
    print(predicted.summary())
    if not predicted.scored:
        raise ValueError(f"no face could be scored, for the reasons above; {output} was not written")
    print(output)


def export(call: Call) -> None:
    """Write the model of the run in --workdir as files of --format, which run without this project."""
    calls.read_a_run(call, "export")
    from kdfas_jax.commands.export import export as exports

    output = flags.OUTPUT.value or os.path.join(call.workdir, "export")
    print(f"{exports.table(exports.export(call.workdir, flags.FORMAT.value, output))}\n{output}")


def adapt(call: Call) -> None:
    """Adapt --workdir, or the released model, to a camera, of which --input has some 30 live pictures; see --output."""
    if len(flags.INPUT.value) != 1:
        raise ValueError("--mode=adapt needs --input=FOLDER: one folder of live pictures of a camera, or one video")
    steps = flags.numbers(flags.STEPS, (300,))
    if len(steps) > 1:
        raise ValueError(f"--steps={','.join(flags.STEPS.value)}: --mode=adapt expects one number")
    call = calls.or_released(call)
    calls.read_a_run(call, "adapt")
    from kdfas_jax.commands.adapt import adapt as adapting
    from kdfas_jax.commands.adapt import measured

    calls.leave_at_sigterm()
    output = flags.OUTPUT.value or adapting.default_output(call.workdir)
    frames = flags.FRAMES.value if flags.FRAMES.present else adapting.FRAMES
    results = adapting.adapt(
        call.workdir,
        flags.INPUT.value[0],
        output,
        steps=steps[0],
        threshold_only=flags.THRESHOLD_ONLY.value,
        frames=frames,
    )
    print(f"{measured.table(results)}\n{output}/report/index.html")


def serve(call: Call) -> None:
    """Open a local page that scores pictures, videos, the camera: with --workdir, --bundle or the released model."""
    if not flags.BUNDLE.value:
        call = calls.or_released(call)
        calls.read_a_run(call, "serve")
    from kdfas_jax.commands.serve import serve as serving

    serving.serve(call.workdir, flags.BUNDLE.value, flags.HOST.value, flags.PORT.value)


def selftest(call: Call) -> None:
    """Write a capture plan to --output; with --input, score what was captured against laboratories' requirements."""
    from kdfas_jax.commands.selftest import plan

    if not flags.INPUT.value:
        folder = flags.OUTPUT.value or "selftest"
        planned = plan.table(flags.LEVEL.value, flags.SUBJECTS.value, flags.SPECIES.value)
        plan.write(folder, planned, flags.LEVEL.value)
        print(f"{plan.NOTE}\n{len(planned)} presentations: {folder}/plan.csv, to print: {folder}/plan.html")
        return
    if len(flags.INPUT.value) > 1:
        raise ValueError(f"--input={','.join(flags.INPUT.value)}: expected one folder, that of plan.csv")
    call = calls.or_released(call)
    calls.read_a_run(call, "selftest")
    from kdfas_jax.commands.selftest import page, score
    from kdfas_jax.runs import released

    output = flags.OUTPUT.value or os.path.join(released.beside(call.workdir), "selftest")
    print(page.text(score.selftest(call.workdir, flags.INPUT.value[0], output, call.changes)))
    print(f"{output}/index.html")


def counterfactual(call: Call) -> None:
    """Show how the score of rendered live people moves when one factor (skin, glasses, pose, camera, ...) changes."""
    call = calls.or_released(call)
    calls.read_a_run(call, "counterfactual")
    from kdfas_jax.commands.robustness import counterfactual as robustness
    from kdfas_jax.report.sections import counterfactual as section
    from kdfas_jax.runs import released

    output = flags.OUTPUT.value or os.path.join(released.beside(call.workdir), "counterfactual")
    print(section.text(robustness.card(call.workdir, output)))
    print(f"{output}/index.html")


def verify(call: Call) -> None:
    """Measure the recogniser in --workdir on the people of another data set, beside raw pixels."""
    options = calls.options()
    calls.read_a_run(call, "verify")
    from kdfas_jax.commands import verify as verification

    figures = verification.verify(
        call.workdir,
        dataset=flags.DATASET.value,
        raw_dir=flags.RAW_DIR.value,
        options=options,
        listed=flags.PAIRS.value,
    )
    calls.write_json(figures)
    print(verification.table(figures))


def confuse(call: Call) -> None:
    """Measure the domain classifier in --workdir on clean images and under the domain adversarial attack."""
    steps, eps = flags.numbers(flags.STEPS, (1, 3, 5)), flags.numbers(flags.EPS, (2.0, 4.0, 8.0), float)
    calls.read_a_run(call, "confuse")
    from kdfas_jax.commands import confuse as confusion

    found = confusion.confuse(call.workdir, steps=steps, eps=eps)
    calls.write(found.to_csv(index=False))
    print(confusion.table(found))


def edit(call: Call) -> None:
    """Draw what the attribute editor (StarGAN) in --workdir makes of test faces."""
    calls.read_a_run(call, "edit")
    from kdfas_jax.commands import edit as editing

    print(editing.write(call.workdir, flags.OUTPUT.value or "edits.jpg", flags.FACES.value))


def join(call: Call) -> None:
    """Make one run in --output of the two teachers of the two-task run in --workdir, and evaluate it."""
    if not flags.OUTPUT.value:
        raise ValueError("--mode=join needs --output=FOLDER: the folder of the new run")
    calls.read_a_run(call, "join")
    from kdfas_jax.commands import join as joining

    calls.print_results(flags.OUTPUT.value, joining.join(call.workdir, flags.OUTPUT.value))


def probe(call: Call) -> None:
    """Fit a linear and a k-NN classifier on the frozen features of the model of --config, and evaluate both."""
    calls.keep_tensorflow_off_the_accelerator()
    from kdfas_jax.commands.probe import probe as probing
    from kdfas_jax.report import summary

    results, knn = probing.probe(call.config, call.workdir)
    calls.print_results(call.workdir, results)
    print(summary.markdown({"k-NN": summary.row({**results, **knn})}, corner="test, % (AUC as a fraction)"))


def plan(call: Call) -> None:
    """Compile the step of --config for --topology; print its memory, FLOPs and collectives. Needs no data."""
    from kdfas_jax.performance import plan as planning

    sweep = flags.SWEEP_BATCH.value
    made, shown = (planning.largest_batch, planning.sweep_table) if sweep else (planning.plan, planning.table)
    result = made(call.config, flags.TOPOLOGY.value)
    calls.write_json(result)
    print(shown(result))


def benchmark(call: Call) -> None:
    """Measure how fast --config trains on this machine: its step, its loop, its input."""
    from kdfas_jax.commands.benchmark import benchmark as benchmarks

    if set(flags.PARTS.value) & set(benchmarks.WITH_DATA):
        calls.keep_tensorflow_off_the_accelerator()
    result = benchmarks.benchmark(call.config, flags.PARTS.value, flags.BASELINE.value)
    calls.write_json(result)
    print(benchmarks.table(result))


def speed(call: Call) -> None:
    """Measure how many images a second the model of --config scores on this machine. Needs no data."""
    sizes = flags.numbers(flags.BATCH, (1, 32))
    from kdfas_jax.performance import speed as rates

    for line in rates.lines(call.config, sizes):
        print(line, flush=True)


MODES: dict[str, Callable[[Call], None]] = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "export": export,
    "adapt": adapt,
    "serve": serve,
    "selftest": selftest,
    "counterfactual": counterfactual,
    "verify": verify,
    "confuse": confuse,
    "edit": edit,
    "join": join,
    "probe": probe,
    "plan": plan,
    "benchmark": benchmark,
    "speed": speed,
}
