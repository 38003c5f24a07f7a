"""Runs and records on object storage (gs://), spoken to as TensorFlow, TensorStore and Orbax speak to Google's."""

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from input_pipeline.prepare import prepare, records
from kdfas_jax.runs import files
from kdfas_jax.training.checkpoint import Checkpoints
from tests import object_storage
from tests.conftest import prepared_at

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"size": 24, "options": {"subject_level": 1}}  # of the records of `tiny_config`
# Goes on with the run `there` in the bucket, does the same work `here` on a disk, then the other verbs, in one process.
REST = """
import copy, sys
import ml_collections
from kdfas_jax.commands import ablation, evaluate, train
from kdfas_jax.commands.export import export
from kdfas_jax.commands.predict import predict
from kdfas_jax.report import comparison as report_compare
from kdfas_jax.runs import workdir
from kdfas_jax.training import teachers
there, here, faces = sys.argv[1:]
config = ml_collections.ConfigDict(workdir.read(there)["config"])
train.train(config, there)
again = copy.deepcopy(config)
again.teachers.spoof.checkpoint = teacher = teachers.home(config.teachers.spoof, there)
train.train(again, f"{here}/run")

evaluate.evaluate_run(there)
assert predict.predict(there, [faces], f"{there}/scores.csv", cropped=True).scored == 24
export.export(there, ["stablehlo"], f"{here}/export")
try:
    export.export(there, ["stablehlo"], f"{there}/export")
except ValueError as error:
    print(error)
report_compare.compare([there, teacher], "gs://bucket/comparison")
study = ml_collections.ConfigDict({"base": config, "names": ("tiny",), "variants": {"tiny": {}}, "seeds": (0, 1)})
print(ablation.ablate(study, "gs://bucket/runs"))
"""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The storage, which this process and those that it starts know as Google's."""
    with object_storage.serve(tmp_path_factory.mktemp("storage")) as storage, pytest.MonkeyPatch.context() as patch:
        for name, value in storage.environment.items():
            patch.setenv(name, value)
        yield storage


@pytest.fixture
def copied(bucket, tiny):
    """The data_dir of the tiny records in the bucket."""
    copy(bucket, Path(tiny.data.data_dir), "data")
    return "gs://bucket/data"


def copy(bucket, folder: Path, name: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())


def test_files_are_written_read_and_found(bucket):
    path = "gs://bucket/files/run/eval/results.json"
    assert not files.exists(path)
    assert files.names("gs://bucket/files/run") == []
    files.write_atomically(path, "{}\n")
    assert bucket.objects["files/run/eval/results.json"] == b"{}\n"
    files.append(path, "ä")
    assert files.read_text(path) == "{}\nä"
    assert files.is_file(path)
    assert not files.is_file("gs://bucket/files/run")
    assert files.names("gs://bucket/files/run") == ["eval"]
    assert files.names("gs://bucket/files/run/eval") == ["results.json"]
    assert files.absolute("gs://bucket/files/run/") == "gs://bucket/files/run"
    with files.local(path) as copy:
        assert Path(copy).read_text() == "{}\nä"
    assert not Path(copy).exists()
    with pytest.raises(FileNotFoundError), files.local("gs://bucket/files/none.npz"):
        pass


def test_a_growing_file_appears_in_the_bucket_at_the_end(bucket):
    bucket.put("out/scores.csv", b"last")
    with files.growing("gs://bucket/out/scores.csv") as add:
        add("a\n")
        add("b\r\n")
        assert bucket.objects["out/scores.csv"] == b"last"
    assert bucket.under("out") == ["out/scores.csv"]
    assert bucket.objects["out/scores.csv"] == b"a\nb\r\n"


def test_a_folder_is_listed_beyond_the_first_page(bucket):
    for number in range(1100):
        bucket.put(f"pages/{number:04d}/file", b"")
    assert len(files.names("gs://bucket/pages")) == 1100


def test_records_are_read_as_on_a_disk_and_copied_once(bucket, copied, tiny):
    here = prepared_at("folder", data_dir=tiny.data.data_dir, **SETTINGS)
    there = prepare.prepare("folder", raw_dir=tiny.data.raw_dir, data_dir=copied, **SETTINGS)
    assert there.fingerprint == here.fingerprint
    pd.testing.assert_frame_equal(there.table, here.table)
    readers = [records.Reader(prepared.files, prepared.table) for prepared in (here, there, there)]
    for file in there.files:
        bucket.remove(file.removeprefix("gs://bucket/"))  # it was read before, and is not asked for again
    readers.append(records.Reader(there.files, there.table))
    rows = np.random.default_rng(0).permutation(len(here.table))
    images = [reader.images(rows) for reader in readers]
    assert images[0] == images[1] == images[2] == images[3]


def test_records_that_are_not_there_are_prepared_elsewhere(bucket, tiny):
    with pytest.raises(ValueError, match=r"no records in gs://bucket/none/.*: prepare them on a local disk"):
        prepare.prepare("folder", raw_dir=tiny.data.raw_dir, data_dir="gs://bucket/none", **SETTINGS)
    assert not bucket.under("none")


def test_what_orbax_lacks_is_named(bucket, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(ImportError, match=r"gs://bucket/lacking/checkpoints: pip install -r requirements-gcs\.txt"):
        Checkpoints("gs://bucket/lacking")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("google.cloud.storage"), reason="Orbax needs google-cloud-storage")
def test_a_run_goes_on_in_the_bucket_and_ends_as_on_a_disk(bucket, copied, tmp_path, tiny_config, faces_dir):
    """Stopped by SIGTERM, mostly between two rows of metrics.csv."""
    there, epochs = "runs/tiny-seed0", ("train.epochs=12.0", "teachers.spoof.config.train.epochs=6.0")
    flags = [f"--config.{key}" for key in (*epochs, f"data.data_dir={copied}")]
    command = [sys.executable, "main.py", f"--config={tiny_config}", f"--workdir=gs://bucket/{there}", *flags]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    while b"dev_auc" not in bucket.objects.get(f"{there}/metrics.csv", b""):
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=100)[1]
    assert process.returncode == 0, errors[-2000:]
    assert re.search(rf"SIGTERM: saved step \d+ of 36 in gs://bucket/{there}/checkpoints;", errors)

    bucket.put("runs/tiny-seed1/nonfinite-step3-host0.json", b"{}")  # one that diverged, in the ablation
    command = [sys.executable, "-c", REST, f"gs://bucket/{there}", str(tmp_path), str(faces_dir / "test" / "live")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("metrics.csv", "eval/scores.csv"):
        assert bucket.objects[f"{there}/{name}"] == (tmp_path / "run" / name).read_bytes()
    steps = {name.split("/")[3] for name in bucket.under(f"{there}/checkpoints/") if name.count("/") > 3}
    assert steps == {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert bucket.objects[f"{there}/scores.csv"].startswith(b"input,frame,")
    assert {path.name for path in (tmp_path / "export").iterdir()} == {"bundle.json", "model.stablehlo"}
    assert "export is on object storage; expected a folder of this machine: give --output=DIR" in done.stdout
    assert b"Comparison of 2 runs" in bucket.objects["comparison/index.html"]
    runs = pd.read_csv(io.BytesIO(bucket.objects["runs/runs.csv"]))
    assert runs.groupby("variant").agg({"seed": list, "auc": "count"}).T.to_dict("list") == {
        "teacher spoof": [[0], 1],
        "tiny": [[0, 1], 1],
    }
    assert bucket.objects["runs/table.md"].decode().endswith(f"{done.stdout.partition('DIR')[2].strip()}\n")
    assert not (ROOT / "gs:").exists()
