"""Records that no longer fit: changed raw files, damage of every file, earlier versions, files that are missing."""

import contextlib
import dataclasses
import functools
import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from configs import common
from input_pipeline.datasets import folder
from input_pipeline.prepare import faces, parts, prepare, records
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import confuse, edit, evaluate
from kdfas_jax.runs import workdir
from kdfas_jax.targets.label import score_videos
from tests.conftest import prepared_at

ROLES = ("dev", "test")
FACE = faces.Face((4.0, 2.0, 10.0, 12.0), np.zeros((5, 2), np.float32), 0.99)


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr(faces, "detect", lambda images: [FACE for _ in images])
    monkeypatch.setattr(parts, "FRAMES", 4)


@pytest.fixture
def raw(tmp_path) -> Path:
    """Twelve images, live and print, and a table that names two of them."""
    root = tmp_path / "raw"
    for i in range(12):
        path = root / ("live" if i % 2 else "spoof/print") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20), (i * 20, 255 - i, 7)).save(path)
    (root / "table.csv").write_text("path,label\nlive/01.png,live\nspoof/print/00.png,attack\n")
    return root


def run(raw, tmp_path, name="folder", **settings):
    settings = {"size": 16, "data_dir": str(tmp_path / "data")} | settings
    return prepare.prepare(name, raw_dir=str(raw), **settings)


def summary(prepared) -> dict:
    return json.loads(Path(prepared.builder_dir, "summary.json").read_text())


def with_truth(read):
    """`read` of a reader whose frames are crops with a truth map that tells their number."""

    def frames(load):
        for frame in load():
            yield dataclasses.replace(frame, truth=np.full((16, 16, 3), frame.image[0, 0], np.uint8))

    def truthful(*arguments, **options):
        for one in read(*arguments, **options):
            yield dataclasses.replace(one, cropped=True, truth=True, load=functools.partial(frames, one.load))

    return truthful


@pytest.mark.parametrize("processes", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_truth_maps_travel_from_the_reader_to_the_batch(raw, tmp_path, monkeypatch, processes):
    monkeypatch.setattr(folder, "read", with_truth(folder.read))
    prepared = run(raw, tmp_path)
    stored = records.Reader(prepared.files, prepared.table).examples(range(12), "image", "truth")
    maps = [faces.decode_map(truth) for _, truth in stored]
    assert {int(of[0, 0, 0]) for of in maps} == {20 * i for i in range(12)}

    config = common.base("test").data
    config.update({"image_size": 16, "record_size": 16, "truth": True, "workers": processes})
    config.augment.update({"mixup": 0.0, "cutmix": 0.0, "erasing": 0.0, "crop": 1.0})
    config.augment.randaugment.ops = 0
    data = Data(prepared.table.assign(role="train"), prepared.files, "", {})
    batches = pipeline.train_batches(data, config, targets.LABEL, batch_size=4, seed=0, start=0, steps=2)
    for batch in batches:
        np.testing.assert_allclose(batch["truth"][:, 8, 8].astype(int), batch["image"][:, 8, 8], atol=2)
    config.augment.mixup = 0.5
    with pytest.raises(ValueError, match="a map is of one picture"):
        next(pipeline.train_batches(data, config, targets.LABEL, batch_size=4, seed=0, start=0, steps=2))


def test_records_without_truth_maps_say_so(raw, tmp_path):
    prepared = run(raw, tmp_path)
    with pytest.raises(ValueError, match=r"config\.data\.truth=True: these records have no truth maps"):
        records.Reader(prepared.files, prepared.table).examples([0], "image", "truth")


def test_new_removed_and_changed_raw_files_are_noticed(raw, tmp_path):
    first = run(raw, tmp_path)
    assert run(raw, tmp_path).fingerprint == first.fingerprint
    for name in ("._01.png", ".DS_Store", "live/Icon\r", ".Trashes/x.png", "__MACOSX/live/01.png"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).touch()
    assert run(raw, tmp_path).fingerprint == first.fingerprint
    for number in range(12, 16):
        shutil.copy(raw / "live/01.png", raw / f"live/{number}.png")
    (raw / "spoof/print/00.png").unlink()
    status = os.stat(raw / "live/03.png")
    os.utime(raw / "live/03.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (raw / "live/05.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"raw files in .*raw .* 4 new .live/12.png, live/13.png, live/14.png, \.\.\."
    ) as error:
        run(raw, tmp_path)
    assert "1 removed (spoof/print/00.png), 1 changed (live/05.png), 1 of another date, but the same size (live/03" in (
        str(error.value)
    )
    assert "--changed=again" in str(error.value)
    assert prepared_at("folder", data_dir=str(tmp_path / "data"), size=16).fingerprint == first.fingerprint


def test_changed_raw_files_make_new_records_or_are_accepted_where_that_is_asked_for(raw, tmp_path):
    first = run(raw, tmp_path)
    (raw / "live/01.png").unlink()
    assert run(raw, tmp_path, changed="keep").fingerprint == first.fingerprint
    assert run(raw, tmp_path).fingerprint == first.fingerprint
    shutil.copy(raw / "live/03.png", raw / "live/13.png")
    again = run(raw, tmp_path, changed="again")
    assert len(again.table) == 12
    assert "live/13.png" in set(again.table["video"])
    assert run(raw, tmp_path, changed="again").fingerprint == again.fingerprint
    assert sorted(path.name for path in Path(again.builder_dir).parent.iterdir()) == [".lock", "1.1.0"]
    with pytest.raises(ValueError, match="changed='ask'; expected error, again or keep"):
        run(raw, tmp_path, changed="ask")


def test_a_table_is_compared_with_the_files_that_it_names(raw, tmp_path):
    first = run(raw / "table.csv", tmp_path, "csv")
    (raw / "live/11.png").unlink()  # of which the table says nothing
    assert run(raw / "table.csv", tmp_path, "csv").fingerprint == first.fingerprint
    Image.new("RGB", (24, 20)).save(raw / "live/01.png")
    with pytest.raises(ValueError, match=r"1 changed \(live/01.png\)"):
        run(raw / "table.csv", tmp_path, "csv")


def test_records_inside_the_raw_directory_are_no_raw_files(raw):
    first = run(raw, raw)
    assert run(raw, raw).fingerprint == first.fingerprint


def test_a_file_that_changes_under_its_name_starts_the_unfinished_anew(raw, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(records, "write_tfds_metadata", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            run(raw, tmp_path)
    Image.new("RGB", (24, 20)).save(raw / "live/01.png")
    prepared = run(raw, tmp_path)
    assert "have changed" in capsys.readouterr().err
    assert prepared.fingerprint == run(raw, tmp_path / "other").fingerprint


def as_earlier_version(prepared, **changed) -> None:
    """Makes records such as versions without a listing of raw files and without digests wrote."""
    directory = Path(prepared.builder_dir)
    kept = {name: value for name, value in summary(prepared).items() if name not in records.LATER}
    (directory / "summary.json").write_text(json.dumps(kept | changed))
    (directory / "raw_files.json.gz").unlink()


def test_records_of_an_earlier_version_load_with_one_line(raw, tmp_path, capsys):
    first = run(raw, tmp_path)
    as_earlier_version(first)
    capsys.readouterr()
    (raw / "live/01.png").unlink()
    found = [run(raw, tmp_path) for _ in range(2)]
    assert {prepared.fingerprint for prepared in found} == {first.fingerprint}
    (line,) = capsys.readouterr().err.splitlines()
    assert "were made by an earlier version: changed raw files and damage cannot be detected" in line


def test_an_unreadable_test_file_reaches_the_evaluation(tiny, faces_dir, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(faces_dir, raw)
    (raw / "test/live/test3/1.png").write_bytes(b"broken")
    tiny.data.update({"raw_dir": str(raw), "data_dir": str(tmp_path / "data")})
    data = pipeline.open_data(tiny.data, targets.get(tiny.data.target))
    assert data.missing_files("test") == {"absent": 0, "corrupt": 1}
    assert data.missing_files("dev") == {"absent": 0, "corrupt": 0}
    scored = {role: score_videos(pd.DataFrame({0: 0.5}, data.table.index[data.has_face(role)]), data) for role in ROLES}
    results = targets.LABEL.results(scored, data)
    assert results["test"]["missing"] == {"absent": 0, "corrupt": 1}
    assert results["test"]["counts"]["videos"] == 47


@pytest.mark.parametrize(
    ("verb", "changes"),
    [
        (evaluate.evaluate_run, {}),
        (confuse.confuse, {"data.target": "domain"}),
        (edit.edit, {"model.name": "stargan"}),
    ],
)
def test_a_run_is_not_judged_on_other_data_than_its_own(tiny, tmp_path, verb, changes):
    tiny.update_from_flattened_dict(changes)
    workdir.claim(tiny, str(tmp_path), fingerprint="0123456789abcdef")
    with pytest.raises(ValueError, match=r"have changed since the run was trained .data_fingerprint 0123456789ab "):
        verb(str(tmp_path))


def swap_rows(lines):
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


@pytest.mark.parametrize("change", [lambda lines: lines[:-2], swap_rows], ids=["cut", "swapped"])
def test_a_table_that_was_cut_or_reordered_is_refused(raw, tmp_path, change):
    prepared = run(raw, tmp_path)
    path = Path(prepared.builder_dir, "metadata.csv")
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=r"metadata.csv is damaged.*: delete .*1.1.0 and prepare again"):
        run(raw, tmp_path)


def test_records_without_a_summary_are_refused_before_anything_is_made(raw, tmp_path, monkeypatch):
    prepared = run(raw, tmp_path)
    Path(prepared.builder_dir, "summary.json").unlink()
    monkeypatch.setattr(faces, "detect", None)
    with pytest.raises(ValueError, match=r"summary.json is missing.*: delete .*1.1.0 and prepare again"):
        run(raw, tmp_path)
    shutil.rmtree(prepared.builder_dir)
    Path(prepared.builder_dir).mkdir()  # an empty folder holds nothing to protect
    monkeypatch.undo()


def read_everything(directory: Path, raw: Path) -> None:
    """As a run reads records: the table, then every image; ValueError for damage."""
    prepared = prepare.prepare("folder", raw_dir=str(raw), data_dir=str(directory.parents[2]), size=16)
    records.Reader(prepared.files, prepared.table).images(range(len(prepared.table)))


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def flips(prepared, raw, number: int, seed: int) -> dict[str, list[tuple[str, int]]]:
    """Flips `number` bits, one at a time and as many in every file -> {what becomes of it: [(file, bit)]}.

    What frames a record in its file, a length and two checksums, is read by TFDS alone, not by `records.Reader`.
    """
    rng, directory = np.random.default_rng(seed), Path(prepared.builder_dir)
    paths, found = sorted(directory.iterdir()), {"refused": [], "refused by TFDS": [], "silent": []}
    for turn in range(number):
        path = paths[turn % len(paths)]
        bit = int(rng.integers(8 * path.stat().st_size))
        flip(path, bit)
        with contextlib.ExitStack() as undo:
            undo.callback(flip, path, bit)
            found[_judged(directory, raw, prepared)].append((path.name, bit))
    return found


def _judged(directory: Path, raw: Path, prepared) -> str:
    try:
        read_everything(directory, raw)
    except ValueError as error:
        return "refused" if "delete" in str(error) and len(str(error).splitlines()) == 1 else f"unclear: {error}"
    try:
        list(tf.data.TFRecordDataset(prepared.files))
    except tf.errors.DataLossError:
        return "refused by TFDS"
    return "silent"


def test_no_flipped_bit_is_silent(raw, tmp_path):
    prepared = run(raw, tmp_path)
    assert _judged(Path(prepared.builder_dir), raw, prepared) == "silent"  # whole
    found = flips(prepared, raw, 40, seed=0)
    assert found["silent"] == []
    framed = records.HEADER + records.FOOTER
    assert all("tfrecord" in name for name, _ in found["refused by TFDS"])
    assert len(found["refused by TFDS"]) <= 40 * framed / prepared.table["length"].min()


def test_the_listing_is_small_and_the_same_for_the_same_files(raw, tmp_path):
    one, other = (Path(run(raw, tmp_path / name).builder_dir, "raw_files.json.gz") for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    assert len(json.loads(gzip.decompress(one.read_bytes()))) == 13
