"""Preparation: records against their table, settings, damage, interruption. The detector is a stand-in. 40 s."""

import dataclasses
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from input_pipeline import datasets, schema
from input_pipeline.prepare import faces, parts, prepare, records, sheet
from tests.conftest import prepared_at
from tests.video_files import write_video

BOX = (4.0, 2.0, 10.0, 12.0)
LANDMARKS = np.arange(10, dtype=np.float32).reshape(5, 2)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    """Finds a face, always in the same place, in every frame but black ones."""
    face = faces.Face(BOX, LANDMARKS, 0.99)
    monkeypatch.setattr(faces, "detect", lambda images: [face if image.any() else None for image in images])


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "FRAMES", 9)


@pytest.fixture
def raw(tmp_path) -> Path:
    """120 live and spoof images of 24 x 20 pixels, each of its own grey; two are black."""
    root = tmp_path / "raw"
    for i in range(120):
        path = root / ("live" if i % 3 else "spoof/print") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20), (i * 2, 255 - i, 7) if i not in (10, 33) else (0, 0, 0)).save(path)
    return root


def run(raw, tmp_path, **settings) -> records.Prepared:
    return prepare.prepare("folder", raw_dir=str(raw), data_dir=str(tmp_path / "data"), **({"size": 32} | settings))


def summary(prepared) -> dict:
    return json.loads(Path(prepared.builder_dir, "summary.json").read_text())


def contents(prepared) -> dict[str, bytes]:
    """Every file of the records, without the summaries, which say how long it took."""
    paths = Path(prepared.builder_dir).iterdir()
    return {path.name: path.read_bytes() for path in paths if not path.name.startswith("summary")}


def leftovers(tmp_path) -> list[str]:
    return sorted(
        str(p.relative_to(tmp_path)) for p in (tmp_path / "data").rglob("*") if p.is_file() and p.name != ".lock"
    )


@pytest.fixture
def reader(monkeypatch):
    """Registers a data set 'made' that yields the given presentations."""

    def register(presentations: list[schema.Presentation]) -> None:
        module = types.ModuleType("made_reader")
        module.read = lambda: iter(presentations)
        monkeypatch.setitem(sys.modules, "made_reader", module)
        monkeypatch.setitem(datasets.READERS, "made", "made_reader")

    return register


def presentation(name: str, box=None, frames=1, error=None, **fields) -> schema.Presentation:
    def load():
        for number in range(frames):
            yield schema.Frame(number, np.full((40, 60, 3), 90, np.uint8), box)
        if error:
            raise error

    defaults = {"dataset": "made", "subject": "1", "video": name, "species": "live", "load": load, "frames": frames}
    return schema.Presentation(path=name, **(defaults | fields))


def test_records_follow_the_table(raw, tmp_path, small_parts):
    prepared = run(raw, tmp_path)
    table = prepared.table
    assert len(prepared.files) == 14
    assert list(table.columns) == [*schema.COLUMNS, "file", "offset", "length", "crc32"]
    serialized = list(tf.data.TFRecordDataset(prepared.files).as_numpy_iterator())
    assert len(serialized) == len(table) == 120
    reader = records.Reader(prepared.files, table)
    images = reader.images(range(120))
    for number, (row, record) in enumerate(zip(table.to_dict("records"), serialized, strict=True)):
        assert reader.read(number) == record
        assert zlib.crc32(record) == row["crc32"]
        decoded = tf.io.decode_jpeg(images[number]).numpy()
        assert decoded.shape == ((32, 32, 3) if row["found"] else (8, 8, 3))
        tone = int(Path(row["video"]).stem)
        if row["found"]:  # quality 95: a flat colour survives to within 2
            assert np.abs(decoded.astype(int) - (tone * 2, 255 - tone, 7)).max() <= 2
        features = tf.train.Example.FromString(record).features.feature
        stored = {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items()}
        for name, kind in schema.COLUMNS.items():
            value = stored[name][0].decode() if kind is str else stored[name][0]
            assert value == (pytest.approx(row[name]) if kind is float else row[name])
        assert stored["bbox"] == (list(BOX) if row["found"] else [0] * 4)
        np.testing.assert_array_equal(stored["landmarks"], LANDMARKS.ravel() if row["found"] else [np.nan] * 10)


@pytest.mark.filterwarnings("ignore:label:DeprecationWarning")  # TFDS asks protobuf the old way
def test_the_records_are_a_tfds_data_set(raw, tmp_path, small_parts):
    prepared = run(raw, tmp_path)
    builder = tfds.builder_from_directory(prepared.builder_dir)
    assert builder.info.splits["records"].num_examples == 120
    examples = tfds.as_numpy(builder.as_dataset(split="records[50:60]"))
    assert [example["video"].decode() for example in examples] == prepared.table["video"][50:60].tolist()


def test_table_and_summary(raw, tmp_path):
    prepared = run(raw, tmp_path)
    table = prepared.table
    assert table[~table["found"]]["video"].tolist() == ["live/010.png", "spoof/print/033.png"]
    assert table["species"].value_counts().to_dict() == {"live": 80, "print": 40}
    assert table["label"].sum() == 80
    assert (table["session"] == "").all()  # not NaN
    assert set(table["detector"]) == {"mtcnn"}
    assert set(table["scale"]) == {1.3}
    counted = {name: summary(prepared)[name] for name in ("videos", *parts.COUNTS)}
    assert counted == {"videos": 120, "frames": 120, "faces_not_found": 2} | dict.fromkeys(parts.COUNTS[2:], 0)
    text = Path(prepared.builder_dir, "summary.txt").read_text()
    assert "faces not found  2" in text
    assert "live         80      80         79" in text


def test_load_finds_exactly_these_settings(raw, tmp_path):
    where = {"data_dir": str(tmp_path / "data"), "size": 32}
    assert prepared_at("folder", **where) is None
    prepared = run(raw, tmp_path)
    for found in (prepared_at("folder", **where), prepared_at("folder", raw_dir=str(raw), **where)):
        assert (found.files, found.fingerprint) == (prepared.files, prepared.fingerprint)
        pd.testing.assert_frame_equal(found.table, prepared.table)
    for other in ({"scale": 1.5}, {"align": True}, {"boxes": "mtcnn"}, {"options": {"name": "office"}}, {"size": 224}):
        assert prepared_at("folder", **where | other) is None
    assert prepared_at("folder", raw_dir="elsewhere", **where) is None
    with pytest.raises(ValueError, match="unknown data set"):
        prepared_at("foldr", **where)


@pytest.mark.parametrize("dataset", ["folder", "csv"])
def test_several_sets_of_a_user_share_a_data_dir(dataset, raw, tmp_path):
    """Each set has a folder of records; the records of an earlier version, which do not name it, are still found."""
    table = raw / "table.csv"
    table.write_text("path,label\nlive/001.png,live\nspoof/print/030.png,attack\n")
    first = raw if dataset == "folder" else table
    second = shutil.copytree(raw, tmp_path / "other") / first.relative_to(raw)
    where = {"data_dir": str(tmp_path / "data"), "size": 32}
    made = [prepare.prepare(dataset, raw_dir=str(of), **where) for of in (first, second)]
    assert [summary(of)["raw_dir"] for of in made] == [str(first), str(second)]
    with pytest.raises(ValueError, match=rf"has 2 sets '{dataset}' .*choose it by raw_dir"):
        prepared_at(dataset, **where)
    old = tmp_path / "data/face_crops" / f"{dataset}-32px-1.3x"
    Path(made[0].builder_dir).parent.rename(old)
    (old.with_name(f"{dataset}-32px-1.3x-rawempty") / "1.1.0").mkdir(parents=True)
    for of, expected in ((first, str(old / "1.1.0")), (second, made[1].builder_dir)):
        assert prepare.prepare(dataset, raw_dir=str(of), **where).builder_dir == expected


def test_finished_records_are_not_made_again(raw, tmp_path, monkeypatch):
    fingerprint = run(raw, tmp_path).fingerprint
    monkeypatch.setattr(faces, "detect", None)
    assert run(raw, tmp_path).fingerprint == fingerprint


def test_fingerprint_is_the_contents(raw, tmp_path):
    first = run(raw, tmp_path / "a").fingerprint
    assert run(raw, tmp_path / "b").fingerprint == first
    Image.new("RGB", (24, 20), (9, 9, 9)).save(raw / "live" / "001.png")
    assert run(raw, tmp_path / "c").fingerprint != first


def test_names_with_a_carriage_return_are_read_back(tmp_path):
    """macOS leaves files named `Icon\\r`; those are no images, but folders and images may be named so, too."""
    for name in ("live/Icon\r/1.png", "live/photo\rforged.png", "spoof/Icon\r/2.png", "spoof/print/\r.png"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20), (9, 9, 9)).save(tmp_path / "raw" / name)
    (tmp_path / "raw" / "live" / "Icon\r" / "Icon\r").touch()
    prepared = run(tmp_path / "raw", tmp_path)
    assert sorted(prepared.table["video"]) == [
        "live/Icon\r/1.png",
        "live/photo\rforged.png",
        "spoof/Icon\r/2.png",
        "spoof/print/\r.png",
    ]
    assert set(prepared.table["species"]) == {"live", "Icon\r", "print"}
    assert len(records.Reader(prepared.files, prepared.table).images(range(4))) == 4


def test_options_get_records_of_their_own(raw, tmp_path):
    plain, named = run(raw, tmp_path), run(raw, tmp_path, options={"name": "office"})
    assert plain.builder_dir != named.builder_dir
    assert set(plain.table["domain"]) == {"folder"}
    assert set(named.table["domain"]) == {"office"}


def test_one_corrupt_file_in_a_hundred_is_skipped_and_reported(raw, tmp_path):
    (raw / "live" / "001.png").write_bytes(b"broken")
    prepared = run(raw, tmp_path)
    assert len(prepared.table) == 119
    assert "live/001.png" not in set(prepared.table["video"])
    assert summary(prepared)["corrupt_files"] == 1
    assert summary(prepared)["corrupt"][0].startswith("live/001.png: ")
    assert "skipped live/001.png: " in Path(prepared.builder_dir, "summary.txt").read_text()


def test_more_corrupt_files_are_an_error(raw, tmp_path):
    for name in ("001", "119"):
        (raw / "live" / f"{name}.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"(?s)more than 1% of its 120 files are corrupt.*live/001.png.*live/119.png"):
        run(raw, tmp_path)
    assert leftovers(tmp_path) == []
    assert len(run(raw, tmp_path, max_corrupt=0.02).table) == 118


def test_parts_are_cut_between_presentations_and_bounded_in_number(monkeypatch):
    monkeypatch.setattr(parts, "FRAMES", 8)
    many = [presentation(str(i), frames=3) for i in range(100)]
    groups = parts.split(many)
    assert [p for group in groups for p in group] == many
    assert {len(group) for group in groups[:-1]} <= {2, 3}
    monkeypatch.setattr(parts, "MOST_FILES", 5)
    assert [len(group) for group in parts.split(many)] == [20] * 5


@pytest.mark.slow
def test_workers_and_beam_write_the_same_bytes(tmp_path, small_parts):
    """Annotated videos need no detector, which other processes would not have replaced."""
    for phone, (split, user) in itertools.product((1, 2, 3), (("Train", 1), ("Dev", 21), ("Test", 36))):
        path = tmp_path / "raw" / f"{split}_files" / f"{phone}_1_{user:02d}_1.avi"
        write_video(path)
        path.with_suffix(".txt").write_text("10,20,40,44,40\n")
    made = {
        way: prepare.prepare("oulu", raw_dir=str(tmp_path / "raw"), data_dir=str(tmp_path / way), size=32, **how)
        for way, how in {"one": {}, "two": {"workers": 2}, "beam": {"beam": ["--runner=DirectRunner"]}}.items()
    }
    assert len(made["one"].files) == 8
    assert contents(made["one"]) == contents(made["two"]) == contents(made["beam"])


def test_interrupted_preparation_goes_on_where_it_was(raw, tmp_path, small_parts, monkeypatch):
    whole = contents(run(raw, tmp_path / "whole"))
    find, seen = faces.detect, []

    def detect(images, stop=45):
        seen.extend(images)
        if len(seen) == stop:
            raise KeyboardInterrupt
        return find(images)

    monkeypatch.setattr(faces, "detect", detect)
    with pytest.raises(KeyboardInterrupt):
        run(raw, tmp_path)
    assert prepared_at("folder", data_dir=str(tmp_path / "data"), size=32) is None
    seen.clear()
    monkeypatch.setattr(faces, "detect", functools.partial(detect, stop=None))
    assert contents(run(raw, tmp_path)) == whole
    assert len(seen) == 120 - 36  # four parts of nine were finished, the fifth was not


KILLED = """
import sys, time
from input_pipeline.prepare import faces, parts, prepare
from tests.test_prepare import BOX, LANDMARKS
def detect(images):
    time.sleep(0.02)
    return [faces.Face(BOX, LANDMARKS, 0.99) if image.any() else None for image in images]
faces.detect, parts.FRAMES = detect, 9
prepare.prepare("folder", raw_dir=sys.argv[1], data_dir=sys.argv[2], size=32)
"""


@pytest.mark.slow
def test_a_killed_preparation_doubles_and_loses_nothing(raw, tmp_path, small_parts):
    whole = contents(run(raw, tmp_path / "whole"))
    data = tmp_path / "data"
    command = [sys.executable, "-c", KILLED, str(raw), str(data)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for finished in (3, 7):
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            while len(list(data.rglob("parts/*.json"))) < finished:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    assert prepared_at("folder", data_dir=str(data), size=32) is None
    assert contents(run(raw, tmp_path)) == whole


def test_changed_raw_data_start_the_unfinished_anew(raw, tmp_path, small_parts, monkeypatch, capsys):
    def stop(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(records, "write_tfds_metadata", stop)
        with pytest.raises(OSError, match="disk full"):
            run(raw, tmp_path)
    (raw / "live" / "001.png").unlink()
    assert len(run(raw, tmp_path).table) == 119
    assert "have changed" in capsys.readouterr().err


def test_a_second_process_waits_for_the_first(raw, tmp_path, small_parts, capfd):
    command = [sys.executable, "-c", KILLED, str(raw), str(tmp_path / "data")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        while not list((tmp_path / "data").rglob("parts/*.json")):
            assert process.poll() is None
            time.sleep(0.01)
        prepared = run(raw, tmp_path)
        assert process.wait() == 0
    assert "waiting for it" in capfd.readouterr().err
    assert len(prepared.table) == 120


def test_damage_to_finished_records_is_located(raw, tmp_path, small_parts):
    prepared = run(raw, tmp_path)
    file = Path(prepared.files[3])
    whole = bytearray(file.read_bytes())
    row = prepared.table.index[prepared.table["file"] == 3][4]
    whole[prepared.table["offset"][row] + 40] ^= 255
    file.write_bytes(whole)
    reader = records.Reader(prepared.files, prepared.table)
    reader.images(range(row))
    with pytest.raises(
        ValueError, match=rf"00003-of-00014: the record at byte {prepared.table['offset'][row]} is damaged"
    ):
        reader.images([row])
    file.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"is damaged; delete .* and prepare again"):
        records.Reader(prepared.files, prepared.table).images([row])
    file.unlink()
    with pytest.raises(ValueError, match="only 13 of its 14 record files exist; delete it and prepare again"):
        prepared_at("folder", data_dir=str(tmp_path / "data"), size=32)


def test_where_boxes_come_from(reader, tmp_path):
    boxes = {"inside": (10, 10, 20, 20), "beyond": (50, 10, 18, 20), "empty": (10, 10, 0, 20), "gone": (np.nan,) * 4}
    boxes |= {"negative": (-40, -30, 30, 20), "none": None}
    crops = [presentation(f"s{i}", cropped=True, split="train") for i in range(5)]
    reader([*crops, *(presentation(name, box) for name, box in boxes.items())])
    prepared = prepare.prepare("made", data_dir=str(tmp_path / "data"), size=32)
    detectors = prepared.table.set_index("video")["detector"].to_dict()
    assert {name: detectors[name] for name in ("s0", *boxes)} == {
        "s0": "render", "inside": "annotation", "beyond": "annotation",
        "empty": "mtcnn", "gone": "mtcnn", "negative": "mtcnn", "none": "mtcnn",
    }  # fmt: skip
    assert prepared.table.set_index("video").loc[["s0", "inside"], "scale"].tolist() == [1.0, 1.3]
    assert (summary(prepared)["boxes_clamped"], summary(prepared)["boxes_unusable"]) == (1, 3)
    detected = prepare.prepare("made", data_dir=str(tmp_path / "data"), size=32, boxes="mtcnn")
    assert detected.table["detector"].value_counts().to_dict() == {"mtcnn": 6, "render": 5}


def test_aligned_crops_come_from_the_landmarks(reader, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(faces, "align", lambda image, landmarks, scale, size: seen.append((landmarks, scale)) or image)
    reader([presentation("annotated", (10, 10, 20, 20))])
    prepared = prepare.prepare("made", data_dir=str(tmp_path / "data"), size=32, scale=1.0, align=True)
    assert prepared.table["detector"].tolist() == ["mtcnn"]
    np.testing.assert_array_equal(seen[0][0], LANDMARKS)
    assert seen[0][1] == 1.0


def test_frames_before_the_damage_are_kept(reader, tmp_path):
    reader(
        [presentation("cut", frames=3, error=ValueError("cut.avi: frame 3 cannot be decoded")), presentation("whole")]
    )
    prepared = prepare.prepare("made", data_dir=str(tmp_path / "data"), size=32, max_corrupt=0.5)
    assert prepared.table["video"].tolist() == ["cut"] * 3 + ["whole"]
    assert summary(prepared)["corrupt"] == ["cut: cut.avi: frame 3 cannot be decoded"]


def test_absent_files_are_counted_but_a_copy_without_files_is_an_error(reader, tmp_path):
    absent = presentation("listed", error=FileNotFoundError("listed.jpg"), frames=0)
    reader([absent, presentation("there", cropped=True)])
    prepared = prepare.prepare("made", data_dir=str(tmp_path / "data"))
    assert prepared.table["video"].tolist() == ["there"]
    assert summary(prepared)["absent_files"] == 1
    reader([absent])
    with pytest.raises(ValueError, match="none of the data set's files exists"):
        prepare.prepare("made", data_dir=str(tmp_path / "other"))
    assert not list((tmp_path / "other").rglob("*.tfrecord*"))


@pytest.mark.filterwarnings("ignore:label:DeprecationWarning")
def test_a_part_without_records_is_a_file_without_records(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "FRAMES", 1)
    reader([presentation("a"), presentation("gone", error=FileNotFoundError("gone"), frames=1), presentation("b")])
    made = dataclasses.replace(presentation("gone"), load=functools.partial(iter, ()))
    reader([presentation("a"), presentation("b"), made])
    prepared = prepare.prepare("made", data_dir=str(tmp_path / "data"), size=32)
    assert len(prepared.files) == 3
    assert prepared.table["file"].tolist() == [0, 1]
    assert len(list(tfds.builder_from_directory(prepared.builder_dir).as_dataset(split="records"))) == 2


def test_command_line(raw, tmp_path, capsys):
    arguments = ["--dataset=folder", f"--raw_dir={raw}", f"--data_dir={tmp_path / 'data'}", "--size=32"]
    prepare.main([*arguments, "--option=name=office", "--option", "subject_level=0"])
    out = capsys.readouterr().out
    assert out.startswith("120 records in ")
    assert "faces not found  2" in out
    options = {"name": "office", "subject_level": 0}
    assert prepared_at("folder", data_dir=str(tmp_path / "data"), size=32, options=options)


def test_a_sheet_shows_live_faces_on_the_left_and_attacks_on_the_right(raw, tmp_path, capsys):
    arguments = ["--dataset=folder", f"--raw_dir={raw}", f"--data_dir={tmp_path / 'data'}", "--size=32"]
    prepare.main([*arguments, f"--sheet={tmp_path / 'sheet.png'}"])
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'sheet.png'}: 64 live, 39 print\n")
    picture = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    side, tile = sheet.SIDE * sheet.TILE, sheet.TILE
    assert picture.shape == (side, 2 * side + sheet.GAP, 3)
    red = picture[
        tile // 2 :: tile, [*range(tile // 2, side, tile), *range(side + sheet.GAP + tile // 2, 2 * side, tile)], 0
    ]
    live, attacks = red[:, : sheet.SIDE].ravel(), red[:, sheet.SIDE :].ravel()
    spoof = [image for image in range(0, 120, 3) if image != 33]  # which is black: no face is found
    rest = [image for image in range(120) if image % 3 and image != 10]
    shown = [rest[i] for i in np.linspace(0, 78, 64).astype(int)]
    np.testing.assert_allclose(attacks[:39], 2 * np.array(spoof), atol=2)  # the red of image i is 2 i
    np.testing.assert_allclose(live, 2 * np.array(shown), atol=2)
    assert (picture[-tile:, -tile:] == 255).all()  # fewer attacks than places


def test_a_sheet_has_equal_shares_of_the_species_and_leaves_out_what_has_no_face():
    names = ["live"] * 200 + ["print"] * 300 + ["replay"] * 40 + ["mask"] * 5
    table = pd.DataFrame({"species": names, "subject": "a", "video": np.arange(len(names)).astype(str), "found": True})
    table.loc[:9, "found"] = False
    live, attacks = sheet.chosen(table)
    assert len(live) == 64
    assert live.min() == 10
    shown = table["species"].iloc[attacks].value_counts()
    assert shown.to_dict() == {"print": 22, "replay": 21, "mask": 5}


def test_a_sheet_needs_live_faces_and_attacks(raw, tmp_path):
    prepared = run(raw, tmp_path)
    live = dataclasses.replace(prepared, table=prepared.table[prepared.table["label"] == 1])
    with pytest.raises(ValueError, match="has no live faces and attacks to show"):
        sheet.write(str(tmp_path / "sheet.png"), live)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=nuaa", "--raw_dir=/not/there"], r"(?s)error: data set 'nuaa': no such directory.*ClientRaw"),
        (["--dataset=nua"], "error: unknown data set 'nua'; known: "),
        (["--dataset=folder", "--option=nmae=x"], "error: data set 'folder' has no option"),
        (["--dataset=folder", "--size=0"], "error: size and scale must be positive, got size=0"),
        (
            ["--dataset=folder", "--sheet=sheet.gif"],
            "error: --sheet=sheet.gif: expected a name that ends in .jpg or .png",
        ),
        (["--dataset=folder", "--boxes=hog"], "error: boxes must be 'annotation' or 'mtcnn', got 'hog'"),
    ],
)
def test_command_line_errors(arguments, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        prepare.main([*arguments, f"--data_dir={tmp_path / 'data'}"])
    assert not (tmp_path / "data").exists()
