"""Damaged files of a run: every flipped bit of a checkpoint is found, and the message names the file."""

import os
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdfas_jax.report import runs as report_runs
from kdfas_jax.runs import workdir
from kdfas_jax.training import checkpoint, digests, journal, step, teachers
from kdfas_jax.training.experiment import Experiment

PARAMS = {"layer": {"kernel": np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)}}


def state(number: int, scale: float = 1.0) -> step.TrainState:
    params = jax.tree.map(lambda leaf: scale * leaf, PARAMS)
    return step.TrainState(jnp.int32(number), params, batch_stats={}, term_params={}, opt_state=(params,))


def abstract():
    return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state(0)))


def read(folder: str):
    """What a reading verb does: the variables of the best step."""
    with checkpoint.open_finished(folder) as checkpoints:
        return checkpoints.restore_variables(checkpoints.best(), abstract().variables)


def resume(folder: str):
    """What training does: the last intact step, its state and its note."""
    with checkpoint.Checkpoints(folder) as checkpoints:
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
            ),
            abstract(),
        )
        return checkpoints.restore(checkpoints.latest(), shapes), checkpoints.meta(checkpoints.latest())


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run's folder with the steps 1 to 4, of which 1, the best on dev, and the last two are kept."""
    folder = tmp_path_factory.mktemp("saved")
    with checkpoint.Checkpoints(str(folder)) as checkpoints:
        for number, selection in ((1, 0.9), (2, 0.7), (3, 0.5), (4, None)):
            checkpoints.save(state(number, number), selection, {"step": number})
    return folder


@pytest.fixture
def run(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "run"))


def test_every_kept_step_has_digests_and_nothing_else_is_left(saved):
    assert sorted(os.listdir(saved / "checkpoints")) == ["1", "3", "4"]
    for number in ("1", "3", "4"):
        folder = saved / "checkpoints" / number
        listed = [line.split("  ")[1] for line in (folder / digests.NAME).read_text().splitlines()]
        assert [folder / name for name in listed] == [path for path in files(folder) if path.name != digests.NAME]
    np.testing.assert_array_equal(read(str(saved))["params"]["layer"]["kernel"], PARAMS["layer"]["kernel"])


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_of_the_step_that_is_read_is_named(run, seed):
    rng = random.Random(seed)
    path = rng.choice(files(run / "checkpoints" / "1"))
    flip(path, rng)
    with pytest.raises(ValueError, match=r"remove .*/checkpoints/1 to use another step") as error:
        read(str(run))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value) or path.name == digests.NAME


def test_training_goes_on_from_the_step_before_a_damaged_one(run, caplog):
    flip(path := next((run / "checkpoints" / "4" / "params" / "d").iterdir()), random.Random(0))
    found, note = resume(str(run))
    assert (int(found.step), note) == (3, {"step": 3})
    np.testing.assert_array_equal(found.params["layer"]["kernel"], np.float32(3) * PARAMS["layer"]["kernel"])
    (warning,) = caplog.messages
    assert f"{path} is damaged" in warning
    assert sorted(os.listdir(run / "checkpoints")) == ["1", "3", "4.damaged"]
    with checkpoint.Checkpoints(str(run)) as checkpoints:
        checkpoints.save(state(4), None, {"step": 4})  # again
    assert int(resume(str(run))[0].step) == 4


def test_training_stops_where_no_step_is_intact(run):
    for number in (1, 3, 4):
        (run / "checkpoints" / str(number) / "meta" / "metadata").write_text("")
    with pytest.raises(ValueError, match=r"4/meta/metadata is damaged.*remove .*checkpoints to train from the start"):
        resume(str(run))
    assert sorted(os.listdir(run / "checkpoints")) == ["1", "3", "4"]


def test_a_damaged_figure_of_an_older_step_chooses_no_other(run):
    path = run / "checkpoints" / "1" / "metrics" / "metrics"
    path.write_text(path.read_text().replace("0.9", "0.1"))
    for use in (read, resume):
        with pytest.raises(ValueError, match=r"1/metrics/metrics is damaged.*remove .*/1 to use another step"):
            use(str(run))


@pytest.mark.parametrize("harm", ["cut", "lost", "added"])
def test_cut_lost_and_added_files_are_named(run, harm):
    path = run / "checkpoints" / "1" / digests.NAME
    if harm == "cut":  # at the end of a line
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    elif harm == "lost":
        next((path.parent / "params" / "d").iterdir()).unlink()
    else:
        (path.parent / "params" / "d" / "more").touch()
    with pytest.raises(ValueError, match=r"/checkpoints/1/.* is (not listed|missing)"):
        read(str(run))


def test_a_step_without_digests_is_read_with_a_warning(run, caplog):
    (run / "checkpoints" / "1" / digests.NAME).unlink()
    read(str(run))
    (warning,) = caplog.messages
    assert warning.endswith("checkpoints/1 has no digests.sha256: it is read without a check for damage")
    (run / "checkpoints" / "4" / digests.NAME).unlink()
    (run / "checkpoints" / "4" / "meta" / "metadata").write_text("")
    with pytest.raises(ValueError, match=r"checkpoints/4/meta is damaged .*; remove .*/4 to use another step"):
        resume(str(run))


@pytest.mark.parametrize("text", ["", '{"config": {"na', "\x00" * 40])
def test_an_empty_or_cut_json_file_of_a_run_is_named(tmp_path, text, tiny):
    folder = str(tmp_path)
    (tmp_path / "eval").mkdir()
    for path in (tmp_path / "config.json", tmp_path / "eval" / "results.json"):
        path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is empty or damaged \(.*\); copy it from .*another --workdir"):
        workdir.read(folder)
    again = (
        rf"results\.json is empty or damaged \(.*\); make it again by: python main\.py --mode=eval --workdir={folder}"
    )
    uses = (lambda: workdir.results(tiny, folder), lambda: teachers.finished(folder), lambda: report_runs.read(folder))
    for use in uses:
        with pytest.raises(ValueError, match=again):
            use()


def opened(folder, start, kept):
    made = Experiment(None, 0, None, None, 0, steps=40, schedule=lambda _: 0.1)
    return journal.Journal(str(folder), made, start=start, kept=kept)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """The folder of a journal of 20 steps, and what a checkpoint keeps of it."""
    folder = tmp_path_factory.mktemp("logged")
    with opened(folder, 0, {}) as run:
        for number in range(20):
            run.step(number, {"loss": np.float32(1)}, np.arange(1))
        run.settle()
        run.dev(20, {"auc": 0.5, "selection": 0.1})
        return folder, run.keep()


def test_a_whole_metrics_csv_is_gone_on_with(logged, tmp_path):
    folder, kept = logged
    assert kept == {"unwritten": [], "rows": 6}
    shutil.copy(folder / "metrics.csv", tmp_path)
    with open(tmp_path / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("30,loss,1\n30,lea")  # after the checkpoint, and torn by a kill
    with opened(tmp_path, 20, kept) as run:
        assert run.keep() == kept
    assert (tmp_path / "metrics.csv").read_text() == (folder / "metrics.csv").read_text()
    assert len(journal.read(str(tmp_path))) == 6


@pytest.mark.parametrize("keep", [0, 10, 40, -1, -25])
def test_an_empty_or_cut_metrics_csv_is_named(logged, tmp_path, keep):
    folder, kept = logged
    (tmp_path / "metrics.csv").write_text((folder / "metrics.csv").read_text()[:keep])
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: it has \d rows up to step 20, .* noted 6; remove"):
        opened(tmp_path, 20, kept)
    with pytest.raises(ValueError, match=r"metrics\.csv is empty or truncated"):
        journal.read(str(tmp_path))
