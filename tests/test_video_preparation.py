"""The video sets from files to records: labels, boxes and counts. Real videos; the detector is a stand-in.

It finds FACE everywhere, so that the boxes tell for which frames it was asked.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.prepare import faces, prepare, records
from tests import video_files
from tests.video_files import REPLAY, cut_before

FACE = faces.Face((10.0, 10.0, 40.0, 40.0), np.zeros((5, 2), np.float32), 0.99)


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr(faces, "detect", lambda images: [FACE for _ in images])


def prepared(name, raw, tmp_path):
    """The prepared records with two frames a video, and the counts of the summary that are not zero."""
    settings = {"raw_dir": str(raw), "data_dir": str(tmp_path / "data"), "size": 32, "options": {"frames": 2}}
    made = prepare.prepare(name, max_corrupt=1.0, **settings)
    summary = json.loads(Path(made.builder_dir, "summary.json").read_text())
    names = ("videos", "frames", "faces_not_found", "corrupt_files", "absent_files", "boxes_clamped", "boxes_unusable")
    return made, {name: summary[name] for name in names if summary[name]}


def stored_boxes(made):
    """The boxes in the record files, in the order of the table."""
    read_record = records.features().deserialize_example
    return [tuple(read_record(example)["bbox"].numpy().tolist()) for example in tf.data.TFRecordDataset(made.files)]


def split_and_label(table):
    return table.groupby(["split", "label"]).size().to_dict()


def test_casia_is_prepared_by_the_detector_alone(tmp_path):
    casia = video_files.casia_miniature(tmp_path / "raw")
    (casia / "train_release/1/8.avi").write_bytes(b"no video")
    cut_before(casia / "test_release/1/1.avi", 12)
    made, counts = prepared("casia", casia, tmp_path)
    assert counts == {"videos": 12, "frames": 11 * 2 + 1, "corrupt_files": 2}
    assert set(made.table["detector"]) == {"mtcnn"}
    assert split_and_label(made.table) == {("train", 0): 16, ("train", 1): 6, ("test", 1): 1}
    assert made.table["species"].value_counts().to_dict() == {"live": 7, "print": 6, "cut": 6, "replay": 4}


def test_replay_is_prepared_with_its_boxes_and_the_detector_where_they_are_wrong(tmp_path):
    replay = video_files.replay_miniature(tmp_path / "raw")
    made, counts = prepared("replay", replay, tmp_path)
    assert counts == {
        "videos": 9,
        "frames": 18,
        "boxes_clamped": 2,  # the negative one
        "boxes_unusable": 2,  # the one outside
    }
    assert made.table["video"].tolist()[::2] == list(REPLAY)
    detected = made.table["video"][made.table["detector"] == "mtcnn"].unique()
    assert detected.tolist() == [list(REPLAY)[i] for i in (2, 3, 4, 7)]
    found = stored_boxes(made)
    assert found[:4] == [(20, 10, 30, 40), (21, 11, 31, 41), (0, 10, 27, 40), (0, 10, 27, 40)]
    assert found[4] == FACE.box
    assert split_and_label(made.table) == {
        ("train", 1): 2,
        ("train", 0): 4,
        ("dev", 1): 2,
        ("dev", 0): 4,
        ("test", 1): 2,
        ("test", 0): 4,
    }
    assert made.table["species"].value_counts().to_dict() == {"live": 6, "print": 4, "replay": 8}


def test_msu_is_prepared_with_its_boxes_but_those_of_turned_videos(tmp_path):
    msu = video_files.msu_miniature(tmp_path / "raw")
    made, counts = prepared("msu", msu, tmp_path)
    assert counts == {
        "videos": 7,
        "frames": 14,
        "boxes_unusable": 2,  # right of left, below top
    }
    table = made.table.drop_duplicates("video").set_index("video")
    assert table["detector"].to_dict() == {
        "real_client001_android_SD_scene01": "annotation",
        "real_client001_laptop_SD_scene01": "annotation",
        "real_client003_android_SD_scene01": "mtcnn",
        "attack_client001_android_SD_ipad_video_scene01": "annotation",
        "attack_client002_android_SD_iphone_video_scene01": "annotation",
        "attack_client055_laptop_SD_printed_photo_scene01": "mtcnn",
        "attack_client099_laptop_SD_printed_photo_scene01": "mtcnn",
    }
    assert split_and_label(table) == {("train", 1): 1, ("train", 0): 2, ("test", 1): 2, ("test", 0): 1, ("", 0): 1}
    assert table["species"].value_counts().to_dict() == {"live": 3, "print": 2, "replay": 2}


def test_siw_is_prepared_with_its_boxes(tmp_path):
    siw = video_files.siw_miniature(tmp_path / "raw")
    made, counts = prepared("siw", siw, tmp_path)
    assert counts == {"videos": 6, "frames": 12, "boxes_clamped": 2}
    table = made.table.drop_duplicates("video").set_index("video")
    assert table["detector"].value_counts().to_dict() == {"annotation": 4, "mtcnn": 2}
    assert split_and_label(table) == {("train", 1): 2, ("train", 0): 2, ("test", 1): 1, ("test", 0): 1}
    assert table["species"].value_counts().to_dict() == {"live": 3, "print": 1, "replay": 2}
    assert table.loc["005-2-3-4-2", "medium"] == "4"
