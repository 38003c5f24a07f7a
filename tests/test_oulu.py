"""The OULU-NPU reader on a miniature with real names, videos, annotation and list files, and on all its names."""

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import datasets
from input_pipeline.prepare import faces, prepare, records
from tests.conftest import listed_table
from tests.video_files import cut_before, oulu_tree, shown, write_video

oulu = datasets.get("oulu")
EYES = "30,40,50,40"  # 20 pixels apart
BOX = (18.0, 17.6, 44.0, 56.0)  # 2.2 x 2.8 times that


def write(path, length=24, eyes=None):
    """A video, and for each frame a line with `eyes`."""
    write_video(path, length)
    if eyes is not None:
        path.with_suffix(".txt").write_text("".join(f"{number},{eyes}\r\n" for number in range(length)))


@pytest.fixture
def raw(tmp_path):
    """Both forms of names; a short video; annotations of every frame, zeros, and no file; other files about."""
    root = tmp_path / "raw"
    write(root / "Train_files/1_1_01_1.avi", 24, EYES)
    write(root / "Train_files/6_2_20_2.avi", 3, EYES)
    write(root / "Dev_files/3_3_21_4.avi", 24)
    write(root / "Dev_files/3_3_35_5.avi", 24, "0,0,0,0")
    write(root / "Test_files/02C48.avi", 24, EYES)  # 11336
    write(root / "Test_files/0cf95.avi", 24, EYES)  # 53141
    (root / "Test_files/readme.txt").write_text("no video")
    (root / "Test_files/._02C48.avi").write_bytes(b"what a Mac leaves in archives")
    return root


@pytest.fixture
def protocol_1(raw):
    """Its three list files, in the forms that copies have: CRLF and LF, suffixes, blanks, hexadecimal names."""
    root = raw / "Protocols/Protocol_1"
    root.mkdir(parents=True)
    (root / "Train.txt").write_bytes(b"+1,1_1_01_1\r\n-1,6_2_20_2\r\n\r\n-2,4_1_07_5\r\n")
    (root / "Dev.txt").write_bytes(b"1,2_1_22_1.avi\n-1,3_3_21_4.avi\n")
    (root / "Test.txt").write_bytes(b"+1,02C48\r\n-1, 5_1_41_3")
    return root


def read(raw, **options):
    return {presentation.video: presentation for presentation in oulu.read(str(raw), **options)}


@pytest.mark.parametrize(
    ("stem", "fields", "name"),
    [
        ("1_3_36_1", (1, 3, 36, 1), "1_3_36_1"),
        ("6_2_05_5", (6, 2, 5, 5), "6_2_05_5"),
        ("02C48", (1, 3, 36, 1), "1_3_36_1"),  # 11336
        ("0fa6b", (6, 1, 7, 4), "6_1_07_4"),  # 64107
        ("0FF4B", (6, 3, 55, 5), "6_3_55_5"),  # 65355
    ],
)
def test_names_are_read_in_both_forms(stem, fields, name):
    assert oulu.parse_stem(stem) == fields
    assert str(oulu.parse_stem(stem)) == name


@pytest.mark.parametrize(
    "stem", ["7_1_01_1", "1_4_01_1", "1_1_00_1", "1_1_56_1", "1_1_01_6", "1_1_1_1", "1_1_01_1b", "11336", "02B5C", ""]
)
def test_other_names_are_refused(stem):
    with pytest.raises(ValueError, match=f"'{stem}' is no OULU-NPU video: expected phone_session_user_access .* 02C48"):
        oulu.parse_stem(stem)


def test_a_name_says_split_species_subject_session_phone_and_medium(raw):
    presentations = read(raw, frames=1)
    assert list(presentations) == ["1_1_01_1", "6_2_20_2", "3_3_21_4", "3_3_35_5", "1_3_36_1", "5_1_41_3"]
    fields = ("split", "species", "label", "subject", "session", "sensor", "medium")
    assert [tuple(getattr(presentation, field) for field in fields) for presentation in presentations.values()] == [
        ("train", "live", 1, "01", "1", "1", ""),
        ("train", "print1", 0, "20", "2", "6", "1"),
        ("dev", "replay1", 0, "21", "3", "3", "1"),
        ("dev", "replay2", 0, "35", "3", "3", "2"),
        ("test", "live", 1, "36", "3", "1", ""),
        ("test", "print2", 0, "41", "1", "5", "2"),
    ]
    assert {(p.dataset, p.lists, p.frames) for p in presentations.values()} == {("oulu", "", 1)}
    assert presentations["5_1_41_3"].path == "Test_files/0cf95.avi"


def test_frames_are_evenly_spaced_and_decoded_exactly_in_any_process(raw):
    for video, presentation in read(raw).items():
        frames = list(pickle.loads(pickle.dumps(presentation.load))())
        expected = [0, 1, 2] if video == "6_2_20_2" else [1, 4, 7, 10, 13, 16, 19, 22]
        assert [frame.number for frame in frames] == expected
        assert [shown(frame.image) for frame in frames] == expected
        assert {(frame.image.shape, frame.image.dtype) for frame in frames} == {((96, 64, 3), np.dtype(np.uint8))}


def test_boxes_come_from_the_eyes(raw):
    boxes = {video: next(presentation.load()).box for video, presentation in read(raw, frames=1).items()}
    assert boxes.pop("3_3_21_4") is boxes.pop("3_3_35_5") is None  # no file, zeros
    for box in boxes.values():
        assert box == pytest.approx(BOX)
    assert oulu.face_box((50, 40, 30, 40)) == pytest.approx(BOX)  # whichever eye is called the right one
    x, y, width, height = oulu.face_box((100, 200, 160, 280))  # a tilted head
    assert (width, height) == pytest.approx((220, 280))
    assert (130 - x, 240 - y) == pytest.approx((width / 2, 0.4 * height))


def test_the_nearest_usable_line_gives_the_box(raw):
    lines = [
        "frame,x,y,x,y",
        "0,0,0,0,0",
        "5,30,40,50,40",
        "9,10,40,0,0",
        "10,33,33,33,33",
        "11,1,2,3",
        "",
        "12,a,b,c,d",
    ]
    lines += ["14,nan,40,50,40", "15,30,60,50,60", "x"]
    annotation = raw / "Train_files/1_1_01_1.txt"
    annotation.write_text("\n".join(lines))
    assert oulu.read_eyes(annotation) == {5: (30, 40, 50, 40), 15: (30, 60, 50, 60)}
    tops = {frame.number: frame.box[1] for frame in read(raw, frames=12)["1_1_01_1"].load()}
    assert list(tops) == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]
    assert list(tops.values()) == pytest.approx([17.6] * 5 + [37.6] * 7)


def test_an_annotation_more_than_half_a_second_away_is_not_used(raw):
    (raw / "Train_files/1_1_01_1.txt").write_text("3,30,40,50,40\n")
    boxes = {frame.number: frame.box for frame in read(raw, frames=24)["1_1_01_1"].load()}
    assert [number for number, box in boxes.items() if box is None] == [19, 20, 21, 22, 23]


def test_a_video_cut_off_keeps_the_frames_before_the_cut(raw):
    cut_before(raw / "Train_files/1_1_01_1.avi", 12)
    frames = read(raw)["1_1_01_1"].load()
    assert [shown(next(frames).image) for _ in range(4)] == [1, 4, 7, 10]
    with pytest.raises(ValueError, match=r"1_1_01_1\.avi: frame 12 of 24 cannot be decoded; .* copy it again"):
        next(frames)


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_a_file_that_is_no_video_is_read_only_when_it_is_loaded(raw, content):
    (raw / "Dev_files/3_3_21_4.avi").write_bytes(content)
    with pytest.raises(ValueError, match=r"3_3_21_4\.avi: cannot be opened as a video"):
        next(read(raw)["3_3_21_4"].load())


def test_lists_name_the_split_under_each_protocol_and_absent_videos(raw, protocol_1):
    fold = raw / "Protocols/Protocol_3"
    fold.mkdir()
    (fold / "Train_2.txt").write_text("+1,1_1_01_1\n")
    (fold / "Dev_2.txt").write_text("")
    (fold / "Test_2.txt").write_text("-2,2_1_40_4\n")
    presentations = read(raw)
    assert {video: (p.split, p.lists) for video, p in presentations.items()} == {
        "1_1_01_1": ("train", "1=train;3.2=train"),
        "4_1_07_5": ("train", "1=train"),
        "6_2_20_2": ("train", "1=train"),
        "2_1_22_1": ("dev", "1=dev"),
        "3_3_21_4": ("dev", "1=dev"),
        "3_3_35_5": ("dev", ""),
        "1_3_36_1": ("test", "1=test"),
        "5_1_41_3": ("test", "1=test"),
        "2_1_40_4": ("test", "3.2=test"),
    }
    with pytest.raises(FileNotFoundError, match=r"Train_files/4_1_07_5\.avi"):
        next(presentations["4_1_07_5"].load())
    assert presentations["2_1_40_4"].species == "replay1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"+1 1_1_01_1", r"'\+1 1_1_01_1'; expected a line such as"),
        (b"0,1_1_01_1", r"'0,1_1_01_1'; expected a line such as"),
        (b"+1,1_1_01_1,extra", "; expected a line such as"),
        (b"+1,9_1_01_1", "'9_1_01_1' is no OULU-NPU video"),
        (b"-1,1_1_02_1", r"contradicts access 1 \(live\)"),
        (b"+1,1_1_02_4", r"contradicts access 4 \(replay1\)"),
        (b"+1,1_1_01_1", "1_1_01_1 is also in the train list of protocol 1"),
    ],
)
def test_a_wrong_line_of_a_list_is_named(raw, protocol_1, line, message):
    (protocol_1 / "Dev.txt").write_bytes(b"-1,3_3_21_4\r\n\r\n" + line + b"\r\n")
    with pytest.raises(ValueError, match=rf"Protocol_1/Dev\.txt, line 3: .*{message}"):
        oulu.read(str(raw))


def test_a_protocol_needs_all_its_lists(raw, protocol_1):
    (protocol_1 / "Dev.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"Protocol_1/Dev\.txt is missing; protocol 1 needs all three"):
        oulu.read(str(raw))
    protocol_1.rename(raw / "Protocols/P1")
    with pytest.raises(FileNotFoundError, match=r"no video lists in .*Protocols; remove it, or expected\nRAW/"):
        oulu.read(str(raw))


def test_wrong_trees_and_names_are_refused(raw):
    with pytest.raises(ValueError, match="oulu: frames=0; expected a whole number, 1 or more"):
        oulu.read(str(raw), frames=0)
    (raw / "Train_files/holiday.avi").touch()
    with pytest.raises(ValueError, match=r"Train_files/holiday\.avi: 'holiday' is no OULU-NPU video"):
        oulu.read(str(raw))
    (raw / "Train_files/holiday.avi").rename(raw / "Test_files/1_3_36_1.avi")
    with pytest.raises(ValueError, match=r"02C48\.avi and .*1_3_36_1\.avi are both video 1_3_36_1: remove one"):
        oulu.read(str(raw))
    (raw / "Dev_files").rename(raw / "dev")
    with pytest.raises(NotADirectoryError, match=r"Dev_files is missing; expected\nRAW/\n  Train_files/1_1_01_1\.avi"):
        oulu.read(str(raw))
    (raw / "Dev_files").mkdir()
    with pytest.raises(ValueError, match=r"no \.avi files in .*Dev_files; expected\nRAW/"):
        oulu.read(str(raw))


def test_all_4950_videos_are_read_by_their_names(tmp_path):
    table = listed_table(oulu.read(str(oulu_tree(tmp_path))))
    counts = table.groupby(["split", "label"]).size().to_dict()
    assert counts == {  # 6 phones x 3 sessions x 20, 15, 20 users, once live and four attacks
        ("train", 1): 360,
        ("train", 0): 1440,
        ("dev", 1): 270,
        ("dev", 0): 1080,
        ("test", 1): 360,
        ("test", 0): 1440,
    }
    assert table["video"].nunique() == 4950
    assert table["subject"].nunique() == 55
    assert table["species"].value_counts().to_dict() == dict.fromkeys(oulu.SPECIES.values(), 990)


def test_preparation_uses_the_annotated_boxes_and_counts_what_is_wrong(raw, protocol_1, tmp_path, monkeypatch):
    (raw / "Dev_files/3_3_21_4.txt").write_text(
        "0,0,40,20,40\n0,5,40,25,40\n"
    )  # the face leaves the frame: 15 - 22 < 0
    cut_before(raw / "Test_files/02C48.avi", 12)
    monkeypatch.setattr(faces, "detect", lambda images: [None] * len(images))  # asked for 3_3_35_5 alone
    settings = {"raw_dir": str(raw), "data_dir": str(tmp_path / "data"), "size": 32, "options": {"frames": 2}}
    prepared = prepare.prepare("oulu", max_corrupt=1.0, **settings)
    table = prepared.table
    assert list(zip(table["video"], table["frame"], table["label"], table["found"], strict=True)) == [
        ("1_1_01_1", 6, 1, True),
        ("1_1_01_1", 18, 1, True),
        ("6_2_20_2", 0, 0, True),
        ("6_2_20_2", 2, 0, True),
        ("3_3_21_4", 6, 0, True),  # the annotated frame 0 is too far from frame 18
        ("3_3_21_4", 18, 0, False),
        ("3_3_35_5", 6, 0, False),
        ("3_3_35_5", 18, 0, False),
        ("1_3_36_1", 6, 1, True),
        ("5_1_41_3", 6, 0, True),
        ("5_1_41_3", 18, 0, True),
    ]
    assert table["species"].unique().tolist() == ["live", "print1", "replay1", "replay2", "print2"]
    assert set(table["detector"][table["found"]]) == {"annotation"}
    assert table["lists"][0] == "1=train"
    with open(f"{prepared.builder_dir}/summary.json") as file:
        summary = json.load(file)
    expected = {
        "videos": 6,
        "frames": 11,
        "faces_not_found": 3,
        "corrupt_files": 1,
        "absent_files": 2,  # 4_1_07_5 and 2_1_22_1
        "boxes_clamped": 1,
        "boxes_unusable": 0,
    }
    assert {name: summary[name] for name in expected} == expected
    missing = prepared.missing
    assert dict(zip(missing["video"], zip(missing["reason"], missing["lists"], strict=True), strict=True)) == {
        "4_1_07_5": ("absent", "1=train"),
        "2_1_22_1": ("absent", "1=dev"),
        "1_3_36_1": ("corrupt", "1=test"),
    }
    assert missing.dtypes[table.columns.drop([*records.PLACE])].equals(table.dtypes.drop([*records.PLACE]))
    example = next(iter(tf.data.TFRecordDataset(prepared.files)))
    record = records.features().deserialize_example(example)
    assert record["bbox"].numpy() == pytest.approx(BOX)
    assert record["image"].shape == (32, 32, 3)
    assert shown(record["image"].numpy()) == 6
