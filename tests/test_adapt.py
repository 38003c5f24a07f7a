"""--mode=adapt: the user's pictures in splits, simulated attacks, the run that results, and what is refused. 15 s."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from input_pipeline.datasets import camera
from input_pipeline.prepare import crops, faces, parts
from input_pipeline.select import protocols
from input_pipeline.simulate.capture import attack
from kdfas_jax import targets
from kdfas_jax.commands import evaluate
from kdfas_jax.commands.adapt import adapt, measured, pictures
from kdfas_jax.commands.cli import calls, verbs
from kdfas_jax.parallel import sharding
from kdfas_jax.report import made
from kdfas_jax.runs import files, workdir
from kdfas_jax.training import teachers
from tests.test_released import run  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads configs by it
RECIPE = crops.Recipe(1.3, False, 24, 16)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """Finds no face in a black picture; a simulated attack is brighter by its kind, a recaptured crop darker."""

    def detect(images):
        box = [(0.0, 0.0, float(image.shape[1]), float(image.shape[0])) for image in images]
        found = [faces.Face(of, parts.UNKNOWN_LANDMARKS, 1.0) for of in box]
        return [face if image.any() else None for image, face in zip(images, found, strict=True)]

    def changed(images, keys, by):
        noise = [np.random.default_rng(int(key)).integers(0, 20, images[0].shape) for key in keys]
        return np.clip(images + np.array(noise) + by, 0, 255).astype(np.uint8)

    def simulate(images, keys, kinds):
        return changed(images, keys, 50 + 5 * np.asarray(kinds)[:, None, None, None])

    monkeypatch.setattr(faces, "detect", detect)
    monkeypatch.setattr(attack, "simulate_attack", simulate)
    monkeypatch.setattr(attack, "recapture", lambda images, keys: changed(images, keys, -20))


def taken(folder, number, shade=90, name="{}.png", seed=0):
    """`number` pictures of 24 px, as those of `faces_dir`."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        path = Path(folder, name.format(i))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.normal(shade, 40, (24, 24, 3)).clip(1, 255).astype(np.uint8)).save(path)
    return str(folder)


def test_pictures_are_divided_and_each_held_out_one_has_its_attacks(tmp_path):
    folder, root = taken(tmp_path / "mine", 20, name="{:02}.png"), tmp_path / "camera"
    found = pictures.find(folder, RECIPE, 30)
    counts = pictures.write(found, str(root), train=True, seed=0)
    each = {"simulated_print": 4, "simulated_replay": 4}
    assert counts == {
        split: {"live": live, **{name: of * number for name, of in each.items()}}
        for split, live, number in (("train", 40, 10), ("dev", 5, 5), ("test", 5, 5))
    }
    table = pd.DataFrame([of.columns() for of in camera.read(str(root))])
    assert table.groupby(["split", "species"]).size().to_dict() == {
        (split, species): n for split, of in counts.items() for species, n in of.items()
    }
    assert (table.groupby("subject")["split"].nunique() == 1).all()
    assert set(table["dataset"]) == {"camera"}
    again = pictures.write(pictures.find(folder, RECIPE, 30), str(root), train=True, seed=0)
    assert again == counts
    with pytest.raises(ValueError, match=r"camera holds other pictures than --input gives now: give another --output"):
        pictures.write(found._replace(live=found.live[1:]), str(root), train=True, seed=0)


def test_people_stay_in_one_split_and_real_attacks_join(tmp_path):
    for person in "abcde":
        taken(tmp_path / "mine" / "live" / person, 3, seed=ord(person))
        taken(tmp_path / "mine" / "spoof" / "mask" / person, 2, 150, seed=ord(person))
    found = pictures.find(str(tmp_path / "mine"), RECIPE, 30)
    assert (len(found.live), len(found.attacks)) == (15, 10)
    counts = pictures.write(found, str(tmp_path / "camera"), train=True, seed=0)
    assert {split: of["mask"] for split, of in counts.items()} == {"train": 6, "dev": 2, "test": 2}
    table = pd.DataFrame([of.columns() for of in camera.read(str(tmp_path / "camera"))])
    assert table.groupby("split")["subject"].unique().map(sorted).to_dict() == {
        "train": ["a", "b", "c"],
        "dev": ["d"],
        "test": ["e"],
    }


@pytest.mark.parametrize(
    ("live", "spoof", "black", "message"),
    [
        (4, 0, 0, r"found 4 live faces in 4 pictures or frames; expected 10 or more, better 30"),
        (0, 0, 12, r"found 0 live faces in 12 pictures or frames; expected 10 or more"),
        (0, 6, 0, r"found 0 live faces in 0 pictures or frames, and 6 attacks; expected 10 or more"),
    ],
)
def test_too_few_faces_none_and_attacks_alone_are_refused(tmp_path, live, spoof, black, message):
    (tmp_path / "mine").mkdir()
    taken(tmp_path / "mine" / "live", live)
    taken(tmp_path / "mine" / "spoof", spoof, 150)
    for number in range(black):
        Image.new("RGB", (24, 24)).save(tmp_path / "mine" / f"black{number}.png")
    with pytest.raises(ValueError, match=message):
        pictures.find(str(tmp_path / "mine"), RECIPE, 30)


def test_the_protocol_judges_the_camera_alone():
    rows = [(of, split, label) for of in ("camera", "folder") for split in protocols.SPLITS for label in (0, 1)]
    table = pd.DataFrame(rows, columns=["dataset", "split", "label"]).assign(domain="", subject="1", video=range(12))
    roles = protocols.assign(table, "camera:official")
    own = table["dataset"] == "camera"
    assert roles[own].tolist() == table["split"][own].tolist()
    assert roles[~own].tolist() == ["train", "train", "dev", "dev", "", ""]
    assert protocols.folds("camera:1") == ("camera:1",)
    with pytest.raises(ValueError, match="unknown protocol 'x'"):
        protocols.folds("camera:x")


def test_beside_a_camera_at_most_512_videos_of_dev_are_kept_evenly():
    """600 videos of two frames each; a video is kept with all of its frames."""
    table = pd.DataFrame({"video": np.repeat(np.arange(600), 2), "dataset": "folder", "split": "dev", "label": 1})
    roles = protocols.assign(table.assign(domain="", subject="1"), "camera:official")
    kept = table["video"][roles == "dev"]
    assert (roles.isin(["dev", ""])).all()
    assert len(kept) == 2 * kept.nunique() == 1024
    assert kept.diff().max() == 2


def test_a_run_is_adapted_without_forgetting_and_its_page_shows_both(run, tmp_path, monkeypatch, caplog):  # noqa: F811
    """Twelve steps of a tiny model; the camera's pictures are darker than the old data's."""
    pages = []
    page = dataclasses.replace(targets.LABEL, page=lambda results, shown: pages.append(results) or "")
    monkeypatch.setitem(targets.TARGETS, "label", page)
    folder, output = taken(tmp_path / "mine", 24, 60), str(tmp_path / "new")
    results = adapt.adapt(run, folder, output, steps=12)
    assert "has the live pictures of 1 people, a folder each; expected 4 or more" in caplog.text
    assert results["finished"]
    assert results["steps"] == {"trained": 12, "total": 12}
    assert results["config"]["data"]["dataset"] == "camera+folder"
    both = ["camera", "folder"]
    assert results["sources"] == {"train": both, "dev": both, "test": ["camera"], "extra": []}
    assert results["threshold"]["source"] == "EER, data sets weighing alike, of dev of camera, folder"
    assert results["init"]["run"] == run
    assert results["init"]["overlap"] == "none"
    adapted = results["adapted"]
    assert adapted["pictures"]["test"] == {"live": 6, "simulated_print": 24, "simulated_replay": 24}
    assert list(adapted["rows"]) == ["before", "new threshold", "after"]
    after, test = adapted["rows"]["after"], results["test"]
    assert after["threshold"] == results["threshold"]["value"]
    assert after["bpcer"]["errors"] == round(6 * test["bpcer"])
    assert after["bpcer"]["of"] == 6
    assert after["auc"] == pytest.approx(test["auc"])
    old = workdir.evaluated(run)
    assert adapted["rows"]["before"]["threshold"] == old["threshold"]["value"]
    assert adapted["rehearsal"]["auc_before"] == pytest.approx(old["dev"]["auc"])
    assert adapted["rehearsal"]["pictures"] == 48
    assert "| after " in measured.table(results)
    assert pages[0]["adapted"] == adapted
    section = made.adapted(adapted)
    assert [row[0] for row in section.parts[0].rows] == ["before", "new threshold", "after"]
    assert evaluate.evaluate_run(output)["adapted"] == adapted
    assert os.path.realpath(f"{output}/raw/folder") == old["config"]["data"]["raw_dir"]
    shutil.rmtree(tmp_path / "mine")
    with pytest.raises(ValueError, match="holds other pictures"):
        adapt.adapt(run, taken(tmp_path / "mine", 24, 61, seed=5), output, steps=12)


def test_the_cheap_form_keeps_the_weights(run, tmp_path, without_pages, parsed, monkeypatch, capsys):  # noqa: F811
    folder, output = taken(tmp_path / "mine", 13, 60), str(tmp_path / "new")
    run = shutil.copytree(run, tmp_path / "old")
    note = json.loads((run / "config.json").read_text())
    note["config"]["eval"]["threshold"] = "accept90"  # by which the new run does not decide
    (run / "config.json").write_text(json.dumps(note))
    parsed("--mode=adapt", f"--input={folder}", f"--workdir={run}", f"--output={output}", "--threshold_only")
    monkeypatch.setattr(calls, "leave_at_sigterm", lambda: None)
    verbs.adapt(verbs.Call(None, str(run), {}))
    assert capsys.readouterr().out.endswith(f"{output}/report/index.html\n")
    results = workdir.evaluated(output)
    assert results["finished"]
    assert list(results["adapted"]["rows"]) == ["before", "new threshold"]
    assert results["threshold"]["source"] == "EER of dev of camera"
    assert results["adapted"]["rows"]["new threshold"]["threshold"] == results["threshold"]["value"]
    assert results["adapted"]["pictures"]["train"]["live"] == 1
    assert "rehearsal" not in results["adapted"]
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1})
    theirs, ours = (teachers.load(str(of), mesh).variables for of in (run, output))
    np.testing.assert_array_equal(theirs["params"]["head"]["kernel"], ours["params"]["head"]["kernel"])
    assert json.loads(files.read_text(f"{output}/adapted.json"))["threshold_only"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mode=adapt"], r"^--mode=adapt needs --input=FOLDER"),
        (["--mode=adapt", "--input=a", "--steps=1,2"], r"^--steps=1,2: --mode=adapt expects one number"),
    ],
)
def test_wrong_flags_are_refused(parsed, flags, message):
    parsed(*flags)
    with pytest.raises(ValueError, match=message):
        verbs.adapt(verbs.Call(None, "runs/x", {}))
