"""Shared by the tests: a tiny data set of real files, and a tiny config that trains on it in seconds."""

import collections
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Programs that one test has compiled, the others and the processes that they start find.
OWN_CACHE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if OWN_CACHE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="kdfas_jax_xla")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Most programs run for less time than they take to compile, and LLVM's optimisations are much of the latter.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax  # noqa: E402
import numpy as np  # noqa: E402  (JAX reads the environment when it is imported)
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails: where every extra is installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome, report.longrepr = "failed", f"{item.nodeid} skips under --no-skips: {report.longrepr}"
    return report


def pytest_unconfigure():
    if OWN_CACHE:  # not in workers, which inherit it
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Files with the most slow tests first, so that none of the workers is left with one of them at the end."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.path], str(item.path)))  # stable within a file


@pytest.fixture(scope="session")
def faces_dir(tmp_path_factory):
    """A folder data set: {split}/{live,spoof/print}/*.png, attacks brighter than live faces, 8 subjects a split."""
    root = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        for species, shade in (("live", 90), ("spoof/print", 150)):
            for subject in range(8):
                folder = root / split / species / f"{split}{subject}"
                folder.mkdir(parents=True)
                for frame in range(3):
                    pixels = rng.normal(shade, 40, (24, 24, 3)).clip(0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{frame}.png")
    return root


@pytest.fixture(scope="session")
def tiny_config(faces_dir, tmp_path_factory):
    """The argument of --config for the tiny data set; its records are made here, with a stand-in for the detector."""
    from input_pipeline.prepare import faces, parts, prepare

    data_dir = tmp_path_factory.mktemp("records")
    face = faces.Face((0.0, 0.0, 24.0, 24.0), parts.UNKNOWN_LANDMARKS, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces, "detect", lambda images: [face for _ in images])
        prepare.prepare("folder", raw_dir=str(faces_dir), data_dir=str(data_dir), size=24, options={"subject_level": 1})
    return f"tests/tiny.py:raw_dir={faces_dir},data_dir={data_dir}"


@pytest.fixture(scope="session")
def rendered_dir(tmp_path_factory):
    """A data_dir that all workers share: what one test renders, the others find; `prepare` lets them wait for it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "rendered"


@pytest.fixture
def tiny(tiny_config):
    """The tiny config itself."""
    sys.path.insert(0, str(ROOT))
    from tests import tiny as module

    return module.get_config(tiny_config.partition(":")[2])


@contextlib.contextmanager
def leaving_pages_out():
    """Runs with an empty page: its plots take seconds, and other tests look at them."""
    from kdfas_jax import targets

    with pytest.MonkeyPatch.context() as patch:
        for name, target in targets.TARGETS.items():
            patch.setitem(targets.TARGETS, name, dataclasses.replace(target, page=lambda results, shown: ""))
        yield


@pytest.fixture
def without_pages():
    with leaving_pages_out():
        yield


@pytest.fixture
def parsed(monkeypatch):
    """parsed(*arguments) -> the config of that command line, resolved."""
    from absl import flags as absl_flags

    from kdfas_jax.commands.cli import cli

    monkeypatch.chdir(ROOT)

    def parse(*arguments):
        for name in [name for name in absl_flags.FLAGS if name.startswith("config.")]:
            delattr(absl_flags.FLAGS, name)  # the overrides of the parsing before
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        if unexpected := cli.parse_flags(sys.argv)[1:]:
            raise ValueError(f"unexpected argument {unexpected[0]!r}")  # as `cli.main` says
        return cli.CONFIG.value.copy_and_resolve_references()

    yield parse
    absl_flags.FLAGS.unparse_flags()


@pytest.fixture(scope="session")
def run_main():
    """run_main(*flags, check=True) -> the finished process of `python main.py` on CPU, text captured."""

    def run(*flags, check=True, **kwargs):
        command = [sys.executable, str(ROOT / "main.py"), *map(str, flags)]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, **kwargs)
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    return run


def drawn(std, make):
    """The tree that make() would return: kernels normal with deviation `std`, integers 0, other numbers 1.

    NumPy draws it, which takes less time than to compile the initialisation of a model.
    """
    rng = np.random.default_rng(1)

    def draw(leaf):
        if leaf.ndim > 1:
            return std * rng.standard_normal(leaf.shape, np.float32)
        return np.full(leaf.shape, jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating), leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(make))


def listed_table(presentations):
    """One row a presentation with its columns: what protocols need, before any video is opened."""
    return pd.DataFrame([presentation.columns() for presentation in presentations])


def prepared_at(dataset, *, data_dir, raw_dir="", options=None, **crop):
    """The finished records of these settings; None where there are none."""
    from input_pipeline.prepare import parts, prepare, records

    return records.load(prepare.builder_dir(dataset, data_dir, parts.Crop(**crop), options or {}, raw_dir), raw_dir)


def saved_items(folder, step):
    """Returns {item: tree of NumPy arrays} of a step in FOLDER/checkpoints, as Orbax alone reads them; no `meta`."""
    import jax
    import orbax.checkpoint.experimental.v1 as orbax_v1

    saved = Path(folder) / "checkpoints" / str(step)
    found = orbax_v1.checkpointables_metadata(saved).metadata
    trees = {name: tree for name, tree in found.items() if name != "meta"}
    layout = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), trees)
    return orbax_v1.load_checkpointables(saved, layout)
