"""CelebA-Spoof: a miniature with real names, JPEG and PNG files, boxes and lists, and its preparation."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipeline.datasets import celeba_spoof
from input_pipeline.prepare import faces, prepare, records
from input_pipeline.select import protocols
from tests.conftest import listed_table

FACE = faces.Face((10.0, 10.0, 40.0, 40.0), np.zeros((5, 2), np.float32), 0.99)
SIZE = (112, 448)  # width, height: boxes are to be halved across and doubled down

# Image -> what its _BB.txt holds (None: there is none), of those that are on disk.
BOXES = {
    "Data/train/1001/live/000001.jpg": "56 40 112 60 0.9988\n",
    "Data/train/1001/live/000002.jpg": "56 40 112 60 0.9971\n",
    "Data/train/1001/spoof/497045.png": "20 30 100 80 0.9999",
    "Data/train/1001/spoof/497046.jpg": "",
    "Data/train/3329/spoof/004046.jpg": "-40 30 100 80 0.98\n",  # 60 of its 100 lie inside
    "Data/train/3329/spoof/004047.jpg": "100 100 -30 20 0.2\n",
    "Data/train/3329/spoof/004048.jpg": "-200 -200 700 700 0.5\n",  # a tenth of it lies inside
    "Data/train/3329/live/004049.jpg": None,
    "Data/test/5028/live/494405.png": "not a box\n",
    "Data/test/5028/spoof/494406.png": "60 60 100 100 0.99 \n",
    "Data/test/5028/spoof/494407.png": None,
}
# [40:44] of the lists: type, light, environment, attack.
INTRA = {
    "train": {
        "Data/train/1001/live/000001.jpg": [0, 0, 0, 0],
        "Data/train/1001/live/000002.jpg": [9, 1, 2, 1],  # an attack among the live ones
        "Data/train/1001/spoof/497045.png": [3, 1, 1, 1],
        "Data/train/1001/spoof/497046.jpg": [4, 2, 1, 1],
        "Data/train/3329/spoof/004046.jpg": [5, 3, 2, 1],
        "Data/train/3329/spoof/004047.jpg": [7, 4, 1, 1],
        "Data/train/3329/spoof/004048.jpg": [10, 1, 2, 1],
        "Data/train/3329/spoof/999999.jpg": [8, 1, 1, 1],  # absent
    },
    "test": {
        "Data/test/5028/live/494405.png": [0, 0, 0, 0],
        "Data/test/5028/spoof/494406.png": [6, 1, 1, 1],
    },
}
HIGH = "protocol2/test_on_high_quality_device"


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    """Finds FACE everywhere, so that the boxes tell for which images it was asked."""
    monkeypatch.setattr(faces, "detect", lambda images: [FACE for _ in images])


@pytest.fixture
def raw(tmp_path):
    """All the miniature but its lists; files that are no images lie about."""
    root = tmp_path / "raw"
    for i, (image, box) in enumerate(BOXES.items()):
        path = root / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (20 * i, 90, 90)).save(path)
        if box is not None:
            path.with_name(f"{path.stem}_BB.txt").write_text(box)
    (root / "Data/train/1001/live/._000001.jpg").write_bytes(b"what a Mac leaves in archives")
    (root / "Data/train/.DS_Store").write_bytes(b"no subject")
    (root / "Data/train_2/9/live").mkdir(parents=True)
    (root / "Data/train_2/9/live/000001.jpg").write_bytes(b"left in the release by mistake")
    return root


@pytest.fixture
def listed(raw):
    """With its lists; protocol 1 and one of the three of protocol 2 in part."""
    write_list(raw, "intra_test", "train", INTRA["train"])
    write_list(raw, "intra_test", "test", INTRA["test"])
    first, second = list(INTRA["train"].items())[0::2][:2]
    write_list(raw, "protocol1", "train", dict([first]))
    write_list(raw, "protocol1", "test", dict([second]))
    write_list(raw, HIGH, "test", dict([first]))
    (raw / "metas/intra_test/train_label.txt").write_text("not read")
    return raw


def write_list(raw, protocol, split, entries):
    path = raw / "metas" / protocol / f"{split}_label.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({image: [0] * 40 + last for image, last in entries.items()}))
    return path


def read(raw):
    return {presentation.path: presentation for presentation in celeba_spoof.read(str(raw))}


def columns(presentations, *names):
    return {path: tuple(getattr(p, name) for name in names) for path, p in presentations.items()}


def test_lists_say_what_an_image_shows(listed):
    presentations = read(listed)
    assert columns(presentations, "species", "label", "medium", "light", "environment", "split", "subject") == {
        "Data/test/5028/live/494405.png": ("live", 1, "", "", "", "test", "5028"),
        "Data/test/5028/spoof/494406.png": ("cut", 0, "region_mask", "normal", "indoor", "test", "5028"),
        "Data/test/5028/spoof/494407.png": ("attack", 0, "", "", "", "test", "5028"),  # in no list
        "Data/train/1001/live/000001.jpg": ("live", 1, "", "", "", "train", "1001"),
        "Data/train/1001/live/000002.jpg": ("replay", 0, "phone", "normal", "outdoor", "train", "1001"),
        "Data/train/1001/spoof/497045.png": ("print", 0, "a4", "normal", "indoor", "train", "1001"),
        "Data/train/1001/spoof/497046.jpg": ("cut", 0, "face_mask", "strong", "indoor", "train", "1001"),
        "Data/train/3329/live/004049.jpg": ("live", 1, "", "", "", "train", "3329"),  # in no list
        "Data/train/3329/spoof/004046.jpg": ("cut", 0, "upper_body_mask", "back", "outdoor", "train", "3329"),
        "Data/train/3329/spoof/004047.jpg": ("replay", 0, "pc", "dark", "indoor", "train", "3329"),
        "Data/train/3329/spoof/004048.jpg": ("mask", 0, "3d_mask", "normal", "outdoor", "train", "3329"),
        "Data/train/3329/spoof/999999.jpg": ("replay", 0, "pad", "normal", "indoor", "train", "3329"),  # absent
    }
    assert {path: p.video for path, p in presentations.items()} == {path: path[5:] for path in presentations}
    assert {(p.dataset, p.frames) for p in presentations.values()} == {("celeba_spoof", 1)}


def test_every_type_has_its_species_and_medium(raw):
    names = [f"Data/train/1001/spoof/{number:06d}.jpg" for number in range(11)]
    write_list(raw, "intra_test", "train", {name: [kind, 1, 1, 1] for kind, name in enumerate(names)})
    said = columns(read(raw), "species", "medium")
    assert [said[name] for name in names] == [
        ("attack", ""),  # an attack whose type the list leaves open
        ("print", "photo"),
        ("print", "poster"),
        ("print", "a4"),
        ("cut", "face_mask"),
        ("cut", "upper_body_mask"),
        ("cut", "region_mask"),
        ("replay", "pc"),
        ("replay", "pad"),
        ("replay", "phone"),
        ("mask", "3d_mask"),
    ]


def test_without_lists_the_folders_decide(raw):
    said = columns(read(raw), "species", "medium", "lists", "split")
    assert said == {
        image: ("live" if "/live/" in image else "attack", "", "", "train" if "/train/" in image else "test")
        for image in BOXES
    }


def test_lists_of_every_protocol_are_kept(listed):
    table = listed_table(read(listed).values())
    lists = table.set_index("video")["lists"].to_dict()
    assert lists["train/1001/live/000001.jpg"] == (
        "intra_test=train;protocol1=train;protocol2.test_on_high_quality_device=test"
    )
    assert lists["train/1001/spoof/497045.png"] == "intra_test=train;protocol1=test"
    assert lists["test/5028/spoof/494406.png"] == "intra_test=test"
    assert lists["test/5028/spoof/494407.png"] == ""
    roles = protocols.assign(table, "celeba_spoof:protocol2.test_on_high_quality_device")
    assert table["video"][roles == "test"].tolist() == ["train/1001/live/000001.jpg"]
    assert (roles == "train").sum() == 0
    assert (protocols.assign(table, "celeba_spoof:intra_test") == "train").sum() == 8


def test_boxes_are_scaled_by_each_side_of_the_image(listed):
    boxes = {path: next(p.load()).box for path, p in read(listed).items() if "999999" not in path}
    assert boxes["Data/train/1001/live/000001.jpg"] == (28, 80, 56, 120)
    assert boxes["Data/train/3329/spoof/004046.jpg"] == (-20, 60, 50, 160)
    assert boxes["Data/train/3329/spoof/004047.jpg"] == (50, 200, -15, 40)
    assert boxes["Data/train/3329/spoof/004048.jpg"] == (-100, -400, 350, 1400)
    assert boxes["Data/train/3329/live/004049.jpg"] is None
    assert all(map(math.isnan, boxes["Data/train/1001/spoof/497046.jpg"]))  # an empty file
    assert all(map(math.isnan, boxes["Data/test/5028/live/494405.png"]))


def test_a_listed_image_that_is_absent_is_told_when_it_is_loaded(listed):
    with pytest.raises(FileNotFoundError, match=r"999999\.jpg"):
        next(read(listed)["Data/train/3329/spoof/999999.jpg"].load())


def test_reading_opens_no_image_and_no_box_file(listed, monkeypatch):
    expected = columns(read(listed), "video", "species", "split", "lists")
    for path in (listed / "Data").rglob("*.*"):
        path.write_bytes(b"nobody looks into it")
    monkeypatch.setattr(celeba_spoof, "read_box", None)
    assert columns(read(listed), "video", "species", "split", "lists") == expected


def test_loading_survives_the_way_to_another_process(listed):
    presentation = read(listed)["Data/train/1001/live/000001.jpg"]
    (frame,) = pickle.loads(pickle.dumps(presentation)).load()
    assert (frame.number, frame.image.shape, frame.box) == (0, (448, 112, 3), (28, 80, 56, 120))


@pytest.mark.parametrize(
    ("image", "last"),
    [
        ("Data/train/1001/live/000001.jpg", [11, 1, 1, 1]),
        ("Data/train/1001/live/000001.jpg", [-1, 1, 1, 1]),
        ("Data/train/1001/live/000001.jpg", [1, 5, 1, 1]),
        ("Data/train/1001/live/000001.jpg", [1, 1, 3, 1]),
        ("Data/train/1001/live/000001.jpg", [1, 1, 1, 2]),
        ("Data/train/1001/live/000001.jpg", [1, 1, 1]),
        ("Data/train/1001/live/000001.jpg", [0, 1, 1, 1, 1]),
    ],
)
def test_integers_of_a_list_that_mean_nothing_are_named(raw, image, last):
    path = write_list(raw, "intra_test", "train", {"Data/train/1001/live/000002.jpg": [0, 0, 0, 0], image: last})
    with pytest.raises(
        ValueError, match=rf"{path}: {image}: .*; expected 44 integers, the last four a spoof type 0-10"
    ):
        read(raw)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"Data/train/1001/live/0000', r"not readable as JSON \(.*\); copy it again"),
        (b"\xff\xfe\xff", r"not readable as JSON \(.*\); copy it again"),
        (b"[1, 2]", r"expected one JSON object"),
        (b'{"train/1001/live/000001.jpg": []}', r"'train/1001/live/000001\.jpg' is no image such as Data/train/123"),
        (
            b'{"Data/train/1001/live/000001.jpg": "live"}',
            r"Data/train/1001/live/000001\.jpg: live; expected 44 integers",
        ),
    ],
)
def test_a_list_that_is_none_is_named(raw, content, message):
    path = write_list(raw, "protocol1", "test", {})
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"metas/protocol1/test_label\.json: {message}"):
        read(raw)


def test_lists_that_contradict_each_other_are_named(listed):
    image = "Data/train/1001/live/000001.jpg"
    write_list(listed, "protocol1", "train", {image: [1, 1, 1, 1]})
    with pytest.raises(ValueError, match=rf"protocol1/train_label\.json: {image} is print here, live in another list"):
        read(listed)
    write_list(listed, "protocol1", "train", {image: [0, 0, 0, 0]})
    write_list(listed, "protocol1", "test", {image: [0, 0, 0, 0]})
    with pytest.raises(
        ValueError, match=rf"protocol1/test_label\.json: {image} is also in train_label\.json of this folder"
    ):
        read(listed)


def test_a_wrong_tree_shows_the_expected_one(raw):
    (raw / "Data/test").rename(raw / "test")
    with pytest.raises(NotADirectoryError, match=r"Data/test is missing; expected\nRAW/\n  Data/train/123/live"):
        read(raw)


def test_a_tree_without_images_shows_the_expected_one(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "Data" / split / "1/live").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no \.jpg or \.png files in .*Data; expected\nRAW/\n  Data/train/123/live"):
        read(tmp_path)


def test_preparation_counts_the_boxes_that_are_wrong(listed, tmp_path):
    (listed / "Data/test/5028/spoof/494407.png").write_bytes(b"broken")
    made = prepare.prepare(
        "celeba_spoof", raw_dir=str(listed), data_dir=str(tmp_path / "data"), size=32, max_corrupt=1.0
    )
    summary = json.loads(Path(made.builder_dir, "summary.json").read_text())
    names = ("videos", "frames", "faces_not_found", "corrupt_files", "absent_files", "boxes_clamped", "boxes_unusable")
    assert {name: summary[name] for name in names} == {
        "videos": 10,
        "frames": 10,
        "faces_not_found": 0,
        "corrupt_files": 1,
        "absent_files": 1,
        "boxes_clamped": 1,  # beyond the left side
        "boxes_unusable": 4,  # empty, no numbers, negative, oversized
    }
    table = made.table.set_index("video")
    assert table["detector"].to_dict() == {
        "test/5028/live/494405.png": "mtcnn",
        "test/5028/spoof/494406.png": "annotation",
        "train/1001/live/000001.jpg": "annotation",
        "train/1001/live/000002.jpg": "annotation",
        "train/1001/spoof/497045.png": "annotation",
        "train/1001/spoof/497046.jpg": "mtcnn",
        "train/3329/live/004049.jpg": "mtcnn",
        "train/3329/spoof/004046.jpg": "annotation",
        "train/3329/spoof/004047.jpg": "mtcnn",
        "train/3329/spoof/004048.jpg": "mtcnn",
    }
    read_record = records.features().deserialize_example
    stored = [read_record(example)["bbox"].numpy().tolist() for example in tf.data.TFRecordDataset(made.files)]
    boxes = dict(zip(table.index, stored, strict=True))
    assert boxes["train/1001/live/000001.jpg"] == [28, 80, 56, 120]
    assert boxes["train/3329/spoof/004046.jpg"] == [0, 60, 30, 160]
    assert boxes["train/3329/spoof/004047.jpg"] == list(FACE.box)
    assert table["light"].value_counts().to_dict() == {"normal": 4, "": 3, "strong": 1, "back": 1, "dark": 1}
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 1,
        ("test", 1): 1,
        ("train", 0): 6,
        ("train", 1): 2,
    }
