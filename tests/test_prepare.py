"""Preparation: records against their table, settings, damage, interruption. The detector is a stand-in: 15 s."""

import json
import re
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline import datasets, faces, prepare, schema

BOX = (4.0, 2.0, 10.0, 12.0)
LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    """Finds a face, always in the same place, in every frame but black ones."""
    face = faces.Face(BOX, LANDMARKS, 0.99)
    monkeypatch.setattr(faces, "detect", lambda images: [face if image.any() else None for image in images])


@pytest.fixture
def raw(tmp_path) -> Path:
    """120 live and spoof images of 24 x 20 pixels, each of its own grey; two are black."""
    root = tmp_path / "raw"
    for i in range(120):
        path = root / ("live" if i % 3 else "spoof/print") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20), (i * 2, 255 - i, 7) if i not in (10, 33) else (0, 0, 0)).save(path)
    return root


def run(raw, tmp_path, **settings) -> prepare.Prepared:
    return prepare.prepare("folder", raw_dir=str(raw), data_dir=str(tmp_path / "data"), size=32, **settings)


def leftovers(tmp_path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "data").rglob("*") if path.is_file())


@pytest.fixture
def reader(monkeypatch):
    """Registers a data set 'made' that yields the given samples."""

    def register(samples: list[schema.Sample]) -> None:
        module = types.ModuleType("made_reader")
        module.read, module.count = lambda: iter(samples), lambda: len(samples)
        monkeypatch.setitem(sys.modules, "made_reader", module)
        monkeypatch.setitem(datasets.READERS, "made", "made_reader")

    return register


def sample(key: str, **fields) -> schema.Sample:
    frame = np.full((40, 60, 3), 90, np.uint8)
    defaults = {"dataset": "made", "subject": "1", "video": key, "species": "live", "load": lambda: frame}
    return schema.Sample(key=key, **(defaults | fields))


def test_records_follow_the_table(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "FRAMES_PER_FILE", 9)
    prepared = run(raw, tmp_path)
    table = prepared.table
    assert len(prepared.files) == 13  # in whose order, too, the index runs
    assert list(table.columns) == [*schema.COLUMNS, "crc32"]
    assert table["index"].tolist() == list(range(120))
    serialized = list(tf.data.TFRecordDataset(prepared.files).as_numpy_iterator())
    assert len(serialized) == 120
    for row, record in zip(table.to_dict("records"), serialized, strict=True):
        parsed = prepare.Prepared.parse(record)
        image = parsed["image"].numpy()
        assert parsed["index"].numpy() == row["index"]
        assert zlib.crc32(image) == row["crc32"]
        decoded = tf.io.decode_jpeg(image).numpy()
        assert decoded.shape == ((32, 32, 3) if row["found"] else (8, 8, 3))
        number = int(Path(row["video"]).stem)
        if row["found"]:  # quality 95: a flat colour survives to within 2
            assert np.abs(decoded.astype(int) - (number * 2, 255 - number, 7)).max() <= 2
        features = tf.train.Example.FromString(record).features.feature
        stored = {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items()}
        for name, kind in schema.COLUMNS.items():
            value = stored[name][0].decode() if kind is str else stored[name][0]
            assert value == (pytest.approx(row[name]) if kind is float else row[name])
        assert stored["bbox"] == (list(BOX) if row["found"] else [0] * 4)
        np.testing.assert_array_equal(stored["landmarks"], LANDMARKS.ravel() if row["found"] else [np.nan] * 10)


def test_table_and_summary(raw, tmp_path):
    prepared = run(raw, tmp_path)
    table = prepared.table
    assert table[~table["found"]]["video"].tolist() == ["live/010.png", "spoof/print/033.png"]
    assert table["species"].value_counts().to_dict() == {"live": 80, "print": 40}
    assert table["label"].sum() == 80
    assert (table["session"] == "").all()  # not NaN
    assert set(table["detector"]) == {"mtcnn"}
    assert set(table["scale"]) == {1.3}
    summary = json.loads(Path(prepared.builder_dir, "summary.json").read_text())
    assert {key: summary[key] for key in ("frames", "faces_not_found", "corrupt", "absent", "boxes_clamped")} == {
        "frames": 120,
        "faces_not_found": 2,
        "corrupt": 0,
        "absent": 0,
        "boxes_clamped": 0,
    }
    assert summary["seconds"] > 0


def test_load_finds_exactly_these_settings(raw, tmp_path):
    where = {"data_dir": str(tmp_path / "data"), "size": 32}
    assert prepare.load("folder", **where) is None
    prepared = run(raw, tmp_path)
    for found in (prepare.load("folder", **where), prepare.load("folder", raw_dir=str(raw), **where)):
        assert (found.files, found.fingerprint) == (prepared.files, prepared.fingerprint)
        pd.testing.assert_frame_equal(found.table, prepared.table)
    assert prepare.load("folder", **where, scale=1.5) is None
    assert prepare.load("folder", **where, options={"name": "office"}) is None
    assert prepare.load("folder", data_dir=where["data_dir"]) is None
    with pytest.raises(ValueError, match=r"were made from .*raw, not from elsewhere"):
        prepare.load("folder", raw_dir="elsewhere", **where)
    with pytest.raises(ValueError, match="unknown data set"):
        prepare.load("foldr", **where)


def test_finished_records_are_not_made_again(raw, tmp_path, monkeypatch):
    fingerprint = run(raw, tmp_path).fingerprint
    monkeypatch.setattr(faces, "detect", None)
    assert run(raw, tmp_path).fingerprint == fingerprint


def test_fingerprint_is_the_contents(raw, tmp_path):
    first = run(raw, tmp_path / "a").fingerprint
    assert run(raw, tmp_path / "b").fingerprint == first
    Image.new("RGB", (24, 20), (9, 9, 9)).save(raw / "live" / "001.png")
    assert run(raw, tmp_path / "c").fingerprint != first


def test_options_get_records_of_their_own(raw, tmp_path):
    plain, named = run(raw, tmp_path), run(raw, tmp_path, options={"name": "office"})
    assert plain.builder_dir != named.builder_dir
    assert set(plain.table["domain"]) == {"folder"}
    assert set(named.table["domain"]) == {"office"}


def test_one_corrupt_file_in_a_hundred_is_skipped_and_reported(raw, tmp_path, capsys):
    (raw / "live" / "001.png").write_bytes(b"broken")
    prepared = run(raw, tmp_path)
    assert prepared.table["index"].tolist() == list(range(119))
    assert "live/001.png" not in set(prepared.table["video"])
    summary = json.loads(Path(prepared.builder_dir, "summary.json").read_text())
    assert summary["corrupt"] == 1
    assert summary["corrupt_frames"][0].startswith("live/001.png: ")
    assert "skipped live/001.png" in capsys.readouterr().err


def test_more_corrupt_files_are_an_error(raw, tmp_path):
    for name in ("001", "119"):
        (raw / "live" / f"{name}.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"(?s)more than 1% of its 120 frames are corrupt.*live/001.png.*live/119.png"):
        run(raw, tmp_path)
    assert leftovers(tmp_path) == []


def test_interrupted_preparation_leaves_nothing(raw, tmp_path, monkeypatch):
    calls = iter([1, 2, 3])

    def detect(images):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return [None] * len(images)

    monkeypatch.setattr(faces, "detect", detect)
    with pytest.raises(KeyboardInterrupt):
        run(raw, tmp_path)
    assert leftovers(tmp_path) == []


def test_killed_preparation_is_started_anew(raw, tmp_path):
    prepared = run(raw, tmp_path)
    directory = Path(prepared.builder_dir)
    complete = leftovers(tmp_path)
    Path(prepared.files[-1]).rename(tmp_path / "away")
    assert prepare.load("folder", data_dir=str(tmp_path / "data"), size=32) is None  # a record file is missing
    (tmp_path / "away").rename(prepared.files[-1])
    (directory / "metadata.csv").unlink()  # killed before the last file was written
    stale = directory.parent / "incomplete.ABCDEF_1.0.0" / "face_crops-records.tfrecord-00000-of-00001"
    stale.parent.mkdir()
    stale.write_bytes(b"half a record")
    assert prepare.load("folder", data_dir=str(tmp_path / "data"), size=32) is None
    assert run(raw, tmp_path).fingerprint == prepared.fingerprint
    assert leftovers(tmp_path) == complete


def test_damage_to_finished_records_is_located(raw, tmp_path):
    prepared = run(raw, tmp_path)
    assert prepare.describe_corruption(prepared).endswith("every record is as it was prepared")
    file = Path(prepared.files[0])
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    file.write_bytes(damaged)
    assert re.search(
        r"tfrecord-00000-of-00001: damaged at record \d+; delete .*", prepare.describe_corruption(prepared)
    )
    file.write_bytes(whole)
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(file)) as writer:  # intact records, two of them exchanged
        for record in [*records[:5], records[6], records[5], *records[7:]]:
            writer.write(record)
    assert "record 5 is not the one that metadata.csv lists" in prepare.describe_corruption(prepared)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records[:-1]:
            writer.write(record)
    assert "fewer records than metadata.csv lists" in prepare.describe_corruption(prepared)


def test_annotated_and_rendered_frames_need_no_detector(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "detect", lambda images: [None] * len(images))
    many = [sample(f"s{i}", cropped=True, split="train") for i in range(200)]
    boxes = {"inside": (10, 10, 20, 20), "beyond": (50, 10, 18, 20), "empty": (10, 10, 0, 20)}
    reader([*many, *(sample(name, box=box) for name, box in boxes.items())])
    prepared = prepare.prepare("made", data_dir=str(tmp_path / "data"), size=32)
    table = prepared.table.set_index("video")
    assert table["found"].all()
    assert table.loc["s0", ["detector", "scale"]].tolist() == ["render", 1.0]
    assert table.loc["inside", ["detector", "scale"]].tolist() == ["annotation", 1.3]
    assert "empty" not in table.index
    summary = json.loads(Path(prepared.builder_dir, "summary.json").read_text())
    assert (summary["boxes_clamped"], summary["corrupt"]) == (1, 1)


def test_absent_frames_are_counted_but_a_copy_without_frames_is_an_error(reader, tmp_path):
    def absent():
        raise FileNotFoundError("listed.jpg")

    reader([sample("listed", load=absent), sample("there", cropped=True)])
    prepared = prepare.prepare("made", data_dir=str(tmp_path / "data"))
    assert prepared.table["video"].tolist() == ["there"]
    assert json.loads(Path(prepared.builder_dir, "summary.json").read_text())["absent"] == 1
    reader([sample("listed", load=absent)])
    with pytest.raises(ValueError, match="only 0 of its 1 frames exist"):
        prepare.prepare("made", data_dir=str(tmp_path / "other"))


def test_command_line(raw, tmp_path, capsys):
    arguments = ["--dataset=folder", f"--raw_dir={raw}", f"--data_dir={tmp_path / 'data'}", "--size=32"]
    prepare.main([*arguments, "--option=name=office", "--option", "subject_level=0"])
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("120 records in ")
    assert out[1:] == ["  attack: 40 frames, 39 with a face", "  bona fide: 80 frames, 79 with a face"]
    options = {"name": "office", "subject_level": 0}
    assert prepare.load("folder", data_dir=str(tmp_path / "data"), size=32, options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=nuaa", "--raw_dir=/not/there"], r"(?s)error: data set 'nuaa': no such directory.*ClientRaw"),
        (["--dataset=nua"], "error: unknown data set 'nua'; known: "),
        (["--dataset=folder", "--option=nmae=x"], "error: data set 'folder' has no option"),
        (["--dataset=folder", "--size=0"], "error: size and scale must be positive, got size=0"),
    ],
)
def test_command_line_errors(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        prepare.main([*arguments, f"--data_dir={tmp_path / 'data'}"])
    assert not (tmp_path / "data").exists()
