"""The benchmark measures what it says; how fast a machine is, no test asserts. 30 s, 10 without the slow ones."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from configs import kdfas_oulu
from kdfas_jax import models
from kdfas_jax.commands.benchmark import benchmark, input_rate, loop_rate
from kdfas_jax.models.published import weights
from kdfas_jax.objective.weighted_sum import Objective
from kdfas_jax.performance import pytorch_baseline, step_rate
from kdfas_jax.training import step
from tests.conftest import ROOT
from tests.tiny import get_config

# A process in which none of these can be imported.
WITHOUT_DATA = """
import importlib.util, sys

ABSENT, known = ("tensorflow", "tensorflow_datasets", "clu"), importlib.util.find_spec

class Absent:
    def find_spec(self, name, *_):
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
importlib.util.find_spec = lambda name, *package: None if name in ABSENT else known(name, *package)
import main
from kdfas_jax.commands.benchmark import benchmark

benchmark.SECONDS = 0
main.run()
"""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(input_rate, "ROUNDS", 2)
    monkeypatch.setattr(input_rate, "SECONDS", 0.05)
    monkeypatch.setattr(input_rate, "ROWS", 20_000)
    monkeypatch.setattr(loop_rate, "SECONDS", 0.0)
    monkeypatch.setattr(step_rate, "MATMUL", {"": 64})


@pytest.fixture(scope="module")
def made(tiny_config):
    return step_rate.Step(get_config(tiny_config.partition(":")[2]))


def is_spread(figure: dict[str, float]) -> bool:
    return 0 < figure["low"] <= figure["median"] <= figure["high"]


def test_a_step_trains_on_its_images(made):
    losses = [float(made.run()["loss"]) for _ in range(3)]
    assert np.isfinite(losses).all()
    assert len(set(losses)) == 3


def test_the_figures_of_a_step_are_consistent(tiny, made):
    result = step_rate.measure(tiny, made, None, rounds=2, seconds=0.02)
    for name in ("images_per_second", "cpu_seconds", "flops_per_second", "matmul", "matmul_share"):
        assert is_spread(result[name])
    assert result["compile_seconds"] > 0
    assert result["peak_memory"]["bytes"] > 2**20
    assert result["flops"] == pytest.approx(result["analytic_flops"], rel=0.3)  # norms are much of so small a model
    speeds = np.array([result[name]["median"] for name in ("flops_per_second", "images_per_second")])
    assert speeds[0] / speeds[1] == pytest.approx(result["analytic_flops"] / tiny.train.batch_size)
    assert f"{result['matmul_share']['median']:.3f} (" in "\n".join(step_rate.lines(result))


@pytest.mark.slow
def test_the_figures_of_a_loop_are_consistent(tiny, made):
    result = loop_rate.measure(tiny, made, rounds=1, seconds=0.02)
    assert result["steps"] == 60
    assert result["every"] == 15  # 5 epochs of 48 examples in batches of 16
    for name in ("step", "between", "blocked_seconds"):
        assert is_spread(result[name])
    assert result["ratio"] == pytest.approx(result["images_per_second"] / result["step"]["median"])
    assert result["images_per_second"] <= result["between"]["median"]
    assert 0 < result["blocked_share"] < 1
    assert f"{result['ratio']:.3f} of the bare step" in "\n".join(loop_rate.lines(result))


def test_a_loop_is_timed_without_what_is_compiled_in_it():
    windows = [2.0, 30.0, 2.0, 7.0, 2.0]  # an evaluation in every second one; the first of them compiles
    between, evaluation = loop_rate.timing(list(np.cumsum([100.0, *windows])), apart=2)
    assert between == [2.0, 2.0, 2.0]
    assert evaluation == 5.0


@pytest.mark.slow
def test_the_step_needs_neither_tensorflow_nor_data(tmp_path):
    flags = ["--config=tests/tiny.py", "--mode=benchmark", "--parts=step", f"--output={tmp_path}/a.json"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DATA, *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("tiny: batch 16, 16 px, float32")
    written = json.loads((tmp_path / "a.json").read_text())
    assert set(written) & set(benchmark.PARTS) == {"step"}


@pytest.mark.parametrize(
    ("parts", "baseline", "message"),
    [(["steps"], "", "--parts=steps: expected some of step"), (["input"], "pytorch", "expected step in --parts=input")],
)
def test_a_wrong_part_is_named(tiny, parts, baseline, message):
    with pytest.raises(ValueError, match=message):
        benchmark.benchmark(tiny, parts, baseline)


def test_the_input_of_less_than_a_batch_is_refused(tiny):
    tiny.train.batch_size = 1000
    with pytest.raises(ValueError, match=r"config\.train\.batch_size=1000: only 48 training examples"):
        input_rate.measure(tiny)


def test_the_figures_of_the_input_are_consistent(tiny):
    result = input_rate.measure(tiny)
    assert set(result["images_per_second"]) == {"decode", "test", "train"}
    assert min(result["images_per_second"].values()) > 0
    for name in ("test", "train"):
        low, high = result["ratio_range"][name]
        assert low <= result["ratio"][name] <= high
    assert list(result["milliseconds"]) == ["read", "decode", "augment", "mix", "python"]
    assert min(result["milliseconds"].values()) > 0
    shown = "\n".join(input_rate.lines(result))
    assert f"{result['ratio']['train']:.3f} of decoding" in shown
    assert f"exceeds {1e3 / result['milliseconds']['python']:.0f} images/s" in shown


def test_an_input_rate_counts_images_a_second(monkeypatch):
    clock = iter(np.arange(100) * 0.01)
    monkeypatch.setattr(input_rate.time, "perf_counter", lambda: next(clock))
    rate = input_rate.rate_of(iter(range(1000)), batch=10)
    assert rate == pytest.approx(800.0, rel=0.3)  # 4 or 5 batches in 0.05 s


def test_the_baseline_is_told_the_configs_own_step():
    config = kdfas_oulu.get_config("data=simulated")
    config.train.batch_size = 8
    spec = pytorch_baseline.spec(config, compiled=False)
    assert (spec["student"]["width"], spec["teacher"]["width"], spec["teacher"]["depth"]) == (384, 768, 12)
    assert (spec["batch_size"], spec["student"]["dtype"]) == (8, "bfloat16")
    assert (spec["terms"]["kl"]["temperature"], spec["terms"]["ce"]["weight"]) == (3.0, 0.3)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("terms.covariance.form", "gram"),
        ("terms.covariance.lift", 8),
        ("terms.kl.weight", 0.0),
        ("model.gelu", "tanh"),
        ("optim.clip_norm", 1.0),
        ("daa.classifier", "spoof"),
    ],
)
def test_a_step_that_the_baseline_cannot_follow_is_refused(path, value):
    config = kdfas_oulu.get_config("data=simulated")
    with config.unlocked():
        config.update_from_flattened_dict({path: value})
    with pytest.raises(ValueError, match="--baseline"):
        pytorch_baseline.spec(config, compiled=False)


def test_a_baseline_that_is_not_installed_is_an_error_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("raise ModuleNotFoundError(\"No module named 'timm'\")")  # hides one that is
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"No module named .*pip install -r requirements-pytorch\.txt"):
        pytorch_baseline.Baseline({})


def test_pytorch_has_the_same_loss_for_the_same_weights(tmp_path):
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    pytest.importorskip("timm")
    from kdfas_jax.performance import pytorch_worker

    config = kdfas_oulu.get_config("data=simulated")
    config.data.image_size = 32
    for model, width in ((config.model, 24), (config.teachers.spoof.config.model, 32)):
        model.update({"dtype": "float32", "patch": 8, "width": width, "depth": 2, "heads": 2, "mean": (0.4, 0.5, 0.6)})
    config.terms.covariance.stages = ((1, 2), (2, 1))
    spec = pytorch_baseline.spec(config, compiled=False)
    theirs, ours = {}, {}
    torch.manual_seed(0)
    for name, model in (("student", config.model), ("teacher", config.teachers.spoof.config.model)):
        theirs[name] = pytorch_worker.vit(spec[name], 32)
        for parameter in theirs[name].parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        safetensors.save_file(theirs[name].state_dict(), tmp_path / f"{name}.safetensors")
        module = models.create(model)
        fresh = step.init_variables(module, 32, 0)
        ours[name] = module, weights.load(tmp_path / f"{name}.safetensors", module, fresh)[0]
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (6, 32, 32, 3), np.uint8), rng.dirichlet((1, 1), 6).astype(np.float32)

    outputs = {name: module.apply(w, step.images_of({"image": images}))[1] for name, (module, w) in ours.items()}
    expected, _ = Objective(config.terms, config.teachers)(
        outputs["student"], {"spoof": outputs["teacher"]}, {"label": labels}
    )
    train_step = pytorch_worker.make_step(spec, theirs["student"], theirs["teacher"])
    found = train_step(torch.from_numpy(images), torch.from_numpy(labels))
    assert found.item() == pytest.approx(float(expected), rel=1e-4)
    assert train_step(torch.from_numpy(images), torch.from_numpy(labels)).item() != found.item()  # it has learnt
