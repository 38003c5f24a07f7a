"""The OULU-NPU reader on a miniature with real names, videos and annotation files. Runs in 1 s."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from input_pipeline import datasets, faces, prepare

oulu = datasets.get("oulu")
EYES = "30,40,50,40"  # 20 pixels apart
BOX = (18.0, 17.6, 44.0, 56.0)


def colour(number):
    """What frame `number` shows: red is told from blue, and each frame from its neighbours."""
    return np.array([200 - 7 * number, 60, 5 * number], np.uint8)


def shown(frame):
    """The number of the frame whose colour this one shows all over."""
    frame = frame.astype(int)
    assert np.ptp(frame, axis=(0, 1)).max() <= 3  # JPEG
    return min(range(24), key=lambda number: np.abs(frame[0, 0] - colour(number)).max())


def write_video(path, length, eyes=None):
    """`length` frames of 64 x 96 pixels, each of its own colour, and a line with `eyes` for each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 96))
    for number in range(length):
        writer.write(np.full((96, 64, 3), colour(number)[::-1], np.uint8))
    writer.release()
    if eyes is not None:
        path.with_suffix(".txt").write_text("".join(f"{number},{eyes}\r\n" for number in range(length)))


@pytest.fixture
def raw(tmp_path):
    """Both forms of names; a short video; annotations of every frame, zeros, and no file; other files about."""
    root = tmp_path / "raw"
    write_video(root / "Train_files/1_1_01_1.avi", 24, EYES)
    write_video(root / "Train_files/6_2_20_2.avi", 3, EYES)
    write_video(root / "Dev_files/3_3_21_4.avi", 24)
    write_video(root / "Dev_files/3_3_35_5.avi", 24, "0,0,0,0")
    write_video(root / "Test_files/02C48.avi", 24, EYES)  # 11336
    write_video(root / "Test_files/0cf95.avi", 24, EYES)  # 53141
    (root / "Test_files/readme.txt").write_text("no video")
    return root


def cut_before(path, number):
    """Cuts the video off where frame `number` begins."""
    content = path.read_bytes()
    position = content.index(b"movi")
    for _ in range(number + 1):
        position = content.index(b"00dc", position + 1)
    path.write_bytes(content[:position])


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
def test_names_in_both_forms(stem, fields, name):
    assert oulu.parse_stem(stem) == fields
    assert str(oulu.parse_stem(stem)) == name


@pytest.mark.parametrize(
    "stem", ["7_1_01_1", "1_4_01_1", "1_1_00_1", "1_1_56_1", "1_1_01_6", "1_1_1_1", "1_1_01_1b", "11336", "02B5C", ""]
)
def test_other_names_are_refused(stem):
    with pytest.raises(ValueError, match=f"'{stem}' is no OULU-NPU video: expected phone_session_user_access .* 02C48"):
        oulu.parse_stem(stem)


def test_what_the_names_say(raw):
    samples = {sample.video: sample for sample in oulu.read(str(raw), frames=1)}
    assert list(samples) == ["1_1_01_1", "6_2_20_2", "3_3_21_4", "3_3_35_5", "1_3_36_1", "5_1_41_3"]
    fields = ("split", "species", "label", "subject", "session", "sensor", "medium")
    assert [tuple(getattr(sample, field) for field in fields) for sample in samples.values()] == [
        ("train", "live", 1, "01", "1", "1", ""),
        ("train", "print1", 0, "20", "2", "6", "1"),
        ("dev", "replay1", 0, "21", "3", "3", "1"),
        ("dev", "replay2", 0, "35", "3", "3", "2"),
        ("test", "live", 1, "36", "3", "1", ""),
        ("test", "print2", 0, "41", "1", "5", "2"),
    ]
    assert {sample.dataset for sample in samples.values()} == {"oulu"}
    assert samples["5_1_41_3"].key == "Test_files/0cf95.avi/12"


def test_frames_are_evenly_spaced_and_decoded_exactly(raw):
    samples = list(oulu.read(str(raw)))
    assert oulu.count(str(raw)) == len(samples) == len({sample.key for sample in samples}) == 5 * 8 + 3
    assert [s.frame for s in samples if s.video == "1_1_01_1"] == [1, 4, 7, 10, 13, 16, 19, 22]
    assert [s.frame for s in samples if s.video == "6_2_20_2"] == [0, 1, 2]
    for sample in reversed(samples):  # out of order: slower, the same frames
        frame = sample.load()
        assert frame.shape == (96, 64, 3)
        assert frame.dtype == np.uint8
        assert shown(frame) == sample.frame


def test_each_video_is_decoded_once(raw, monkeypatch):
    samples = list(oulu.read(str(raw)))
    opened, video_capture = [], cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda path, *a: opened.append(path) or video_capture(path, *a))
    for sample in samples:
        sample.load()
    assert len(opened) == len(set(opened)) == 6


def test_boxes_come_from_the_eyes(raw):
    boxes = {sample.video: sample.box for sample in oulu.read(str(raw), frames=1)}
    assert boxes.pop("3_3_21_4") is boxes.pop("3_3_35_5") is None  # no file, zeros
    for box in boxes.values():
        assert box == pytest.approx(BOX)
    assert oulu.face_box((50, 40, 30, 40)) == pytest.approx(BOX)  # whichever eye is called the right one
    x, y, width, height = oulu.face_box((100, 200, 160, 280))  # a tilted head
    assert (width, height) == pytest.approx((220, 280))
    assert (130 - x, 240 - y) == pytest.approx((width / 2, 0.4 * height))


def test_the_nearest_usable_line_counts(raw):
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
    tops = {s.frame: s.box[1] for s in oulu.read(str(raw), frames=12) if s.video == "1_1_01_1"}
    assert list(tops) == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]
    assert list(tops.values()) == pytest.approx([17.6] * 5 + [37.6] * 7)


def test_nearest_prefers_the_earlier_of_two(raw):
    (raw / "Train_files/1_1_01_1.txt").write_text("14,30,60,50,60\n10,30,40,50,40\n")
    assert next(oulu.read(str(raw), frames=1)).box == pytest.approx(BOX)


def test_a_video_cut_off_lacks_its_last_frames(raw):
    cut_before(raw / "Train_files/1_1_01_1.avi", 12)
    samples = [sample for sample in oulu.read(str(raw)) if sample.video == "1_1_01_1"]
    assert [shown(sample.load()) for sample in samples[:4]] == [1, 4, 7, 10]
    for sample in samples[4:]:
        with pytest.raises(
            ValueError, match=rf"1_1_01_1\.avi: frame {sample.frame} cannot be decoded; .* copy it anew"
        ):
            sample.load()


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_a_video_that_cannot_be_opened_is_counted(raw, content):
    (raw / "Dev_files/3_3_21_4.avi").write_bytes(content)
    samples = [sample for sample in oulu.read(str(raw), frames=2) if sample.split == "dev"]
    assert oulu.count(str(raw), frames=2) == 12
    assert [sample.frame for sample in samples] == [0, 1, 6, 18]
    with pytest.raises(ValueError, match=r"3_3_21_4\.avi: frame 0 cannot be decoded"):
        samples[0].load()


def test_wrong_trees(raw):
    with pytest.raises(ValueError, match="frames >= 1, got frames=0"):
        oulu.count(str(raw), frames=0)
    (raw / "Train_files/holiday.avi").touch()
    with pytest.raises(ValueError, match=r"Train_files/holiday\.avi: 'holiday' is no OULU-NPU video"):
        oulu.count(str(raw))
    (raw / "Train_files/holiday.avi").rename(raw / "Test_files/1_3_36_1.avi")
    with pytest.raises(ValueError, match=r"1_3_36_1\.avi and .*02C48\.avi are both video 1_3_36_1: remove one"):
        oulu.count(str(raw))
    (raw / "Dev_files").rename(raw / "dev")
    with pytest.raises(NotADirectoryError, match=r"Dev_files is missing; expected\nRAW/\n  Train_files/1_1_01_1\.avi"):
        next(oulu.read(str(raw)))
    (raw / "Dev_files").mkdir()
    with pytest.raises(ValueError, match=r"no \.avi files in .*Dev_files; expected\nRAW/"):
        oulu.count(str(raw))


def test_prepared_with_the_annotated_boxes(raw, tmp_path, monkeypatch):
    for name in ("3_3_21_4", "3_3_35_5"):
        (raw / f"Dev_files/{name}.txt").write_text(f"0,{EYES}\n")
    monkeypatch.setattr(faces, "detect", lambda images: [pytest.fail("all are annotated") for _ in images])
    settings = {"raw_dir": str(raw), "data_dir": str(tmp_path / "data"), "size": 32, "options": {"frames": 2}}
    prepared = prepare.prepare("oulu", **settings)
    table = prepared.table
    assert table["video"].tolist()[::2] == ["1_1_01_1", "6_2_20_2", "3_3_21_4", "3_3_35_5", "1_3_36_1", "5_1_41_3"]
    assert table["frame"].tolist() == [6, 18, 0, 2, *[6, 18] * 4]
    assert table["label"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert set(table["detector"]) == {"annotation"}
    for serialized, number in zip(tf.data.TFRecordDataset(prepared.files), table["frame"], strict=True):
        box = tf.io.parse_single_example(serialized, {"bbox": tf.io.FixedLenFeature([4], tf.float32)})["bbox"]
        assert box.numpy() == pytest.approx(BOX)
        crop = tf.io.decode_jpeg(prepared.parse(serialized)["image"]).numpy()
        assert crop.shape == (32, 32, 3)
        assert shown(crop) == number
