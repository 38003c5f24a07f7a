"""CASIA-FASD, Replay-Attack, MSU-MFSD and SiW: miniatures with real names, videos and annotation, and all names."""

import pickle

import pytest

from input_pipeline import datasets
from input_pipeline.sources import annotations
from tests import video_files
from tests.conftest import listed_table
from tests.video_files import REPLAY, cut_before, shown, write_video


@pytest.fixture
def casia(tmp_path):
    return video_files.casia_miniature(tmp_path / "raw")


@pytest.fixture
def replay(tmp_path):
    return video_files.replay_miniature(tmp_path / "raw")


@pytest.fixture
def msu(tmp_path):
    return video_files.msu_miniature(tmp_path / "raw")


@pytest.fixture
def siw(tmp_path):
    return video_files.siw_miniature(tmp_path / "raw")


def read(name, raw, **options):
    return {presentation.video: presentation for presentation in datasets.get(name).read(str(raw), **options)}


def columns(presentations, *names):
    return {video: tuple(getattr(p, name) for name in names) for video, p in presentations.items()}


def boxes(presentations):
    return {video: [frame.box for frame in presentation.load()] for video, presentation in presentations.items()}


def split_and_label(table):
    return table.groupby(["split", "label"]).size().to_dict()


def test_casia_clips_say_species_and_camera(casia):
    presentations = read("casia", casia)
    assert columns(presentations, "species", "label", "sensor", "split", "subject") == {
        "train/1/1": ("live", 1, "normal", "train", "train/1"),
        "train/1/2": ("live", 1, "low", "train", "train/1"),
        "train/1/HR_1": ("live", 1, "high", "train", "train/1"),
        "train/1/3": ("print", 0, "normal", "train", "train/1"),
        "train/1/4": ("print", 0, "low", "train", "train/1"),
        "train/1/HR_2": ("print", 0, "high", "train", "train/1"),
        "train/1/5": ("cut", 0, "normal", "train", "train/1"),
        "train/1/6": ("cut", 0, "low", "train", "train/1"),
        "train/1/HR_3": ("cut", 0, "high", "train", "train/1"),
        "train/1/7": ("replay", 0, "normal", "train", "train/1"),
        "train/1/8": ("replay", 0, "low", "train", "train/1"),
        "train/1/HR_4": ("replay", 0, "high", "train", "train/1"),
        "test/1/1": ("live", 1, "normal", "test", "test/1"),  # another person
    }
    assert {(p.dataset, p.frames, p.path) for p in read("casia", casia, frames=3).values() if p.split == "test"} == {
        ("casia", 3, "test_release/1/1.avi")
    }


def test_casia_has_no_boxes(casia):
    assert {box for listed in boxes(read("casia", casia, frames=1)).values() for box in listed} == {None}


def test_replay_names_say_all_columns(replay):
    presentations = read("replay", replay)
    said = columns(presentations, "species", "label", "split", "subject", "medium", "light", "support")
    assert list(said) == list(REPLAY)
    assert list(said.values()) == [
        ("live", 1, "train", "001", "", "controlled", ""),
        ("print", 0, "train", "001", "print_photo", "controlled", "fixed"),
        ("print", 0, "train", "001", "print_photo", "controlled", "hand"),
        ("live", 1, "dev", "016", "", "adverse", ""),
        ("replay", 0, "dev", "016", "mobile_video", "adverse", "fixed"),
        ("replay", 0, "dev", "016", "mobile_photo", "controlled", "hand"),
        ("live", 1, "test", "009", "", "controlled", ""),
        ("replay", 0, "test", "009", "highdef_photo", "adverse", "fixed"),
        ("replay", 0, "test", "009", "highdef_video", "controlled", "hand"),
    ]
    assert {(p.dataset, p.session) for p in presentations.values()} == {("replay", "01")}


def test_replay_boxes_lie_in_face_locations(replay):
    found = list(boxes(read("replay", replay)).values())
    near = (20, 10, 30, 40)  # one frame away
    assert found == [
        [near, (21, 11, 31, 41)],
        [(-3, 10, 30, 40)] * 2,  # zeros are no face; the negative box is left to the preparation to judge
        [None, None],  # no file
        [None, None],  # zeros alone
        [None, None],  # an empty file
        [near, near],
        [near, near],
        [(200, 10, 30, 40)] * 2,
        [near, near],
    ]


def test_msu_names_say_device_and_instrument_and_lists_the_split(msu):
    presentations = read("msu", msu)
    assert list(columns(presentations, "species", "label", "split", "subject", "sensor", "medium").items()) == [
        ("real_client001_android_SD_scene01", ("live", 1, "test", "001", "android", "")),
        ("real_client001_laptop_SD_scene01", ("live", 1, "test", "001", "laptop", "")),
        ("real_client003_android_SD_scene01", ("live", 1, "train", "003", "android", "")),
        ("attack_client001_android_SD_ipad_video_scene01", ("replay", 0, "test", "001", "android", "ipad")),
        ("attack_client002_android_SD_iphone_video_scene01", ("replay", 0, "train", "002", "android", "iphone")),
        ("attack_client055_laptop_SD_printed_photo_scene01", ("print", 0, "train", "055", "laptop", "printed_photo")),
        ("attack_client099_laptop_SD_printed_photo_scene01", ("print", 0, "", "099", "laptop", "printed_photo")),
    ]
    assert presentations["real_client001_laptop_SD_scene01"].path == "scene01/real/real_client001_laptop_SD_scene01.mov"
    assert {p.dataset for p in presentations.values()} == {"msu"}


def test_msu_corners_become_boxes(msu):
    found = boxes(read("msu", msu))
    face = (20, 10, 30, 40)
    assert found == {
        "real_client001_android_SD_scene01": [face, (22, 12, 28, 38)],
        "real_client001_laptop_SD_scene01": [face, face],
        "real_client003_android_SD_scene01": [None, None],  # turned
        "attack_client001_android_SD_ipad_video_scene01": [face, face],
        "attack_client002_android_SD_iphone_video_scene01": [face, face],
        "attack_client055_laptop_SD_printed_photo_scene01": [None, None],
        "attack_client099_laptop_SD_printed_photo_scene01": [(50, 50, -30, -40)] * 2,
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_upside_down_video_comes_out_upright_and_without_its_boxes(msu, suffix):
    path = msu / f"scene01/real/real_client053_android_SD_scene01{suffix}"
    write_video(path, upside_down=True)
    path.with_suffix(".face").write_text("".join(f"{number},20,10,50,50\n" for number in range(24)))
    frames = list(read("msu", msu)[path.stem].load())
    assert [shown(frame.image) for frame in frames] == [1, 4, 7, 10, 13, 16, 19, 22]
    assert {frame.box for frame in frames} == {None}
    write_video(path)  # the same, held upright
    frames = list(read("msu", msu)[path.stem].load())
    assert [shown(frame.image) for frame in frames] == [1, 4, 7, 10, 13, 16, 19, 22]
    assert {frame.box for frame in frames} == {(20, 10, 30, 40)}


@pytest.mark.parametrize("file", ["train_sub_list.txt", "test_sub_list.txt"])
def test_msu_needs_both_lists(msu, file):
    (msu / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"the list .*{file} is missing; expected\nRAW/\n  scene01/real"):
        datasets.get("msu").read(str(msu))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"01\r\nclient02\r\n", r"line 2: 'client02' is no subject's number"),
        (b"01\n\n2\n", r"line 3: subject 2 is also in train_sub_list\.txt"),
    ],
)
def test_msu_names_a_wrong_line_of_a_list(msu, content, message):
    (msu / "test_sub_list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"test_sub_list\.txt, {message}"):
        datasets.get("msu").read(str(msu))


def test_siw_names_say_all_columns(siw):
    presentations = read("siw", siw)
    assert columns(presentations, "species", "label", "split", "subject", "sensor", "medium", "session") == {
        "003-1-1-1-1": ("live", 1, "train", "003", "1", "", "1"),
        "003-2-1-2-2": ("live", 1, "train", "003", "2", "", "2"),
        "003-1-2-2-1": ("print", 0, "train", "003", "1", "2", "1"),
        "005-2-3-4-2": ("replay", 0, "train", "005", "2", "4", "2"),
        "001-1-1-1-1": ("live", 1, "test", "001", "1", "", "1"),
        "001-1-3-1-1": ("replay", 0, "test", "001", "1", "1", "1"),
    }
    assert presentations["005-2-3-4-2"].path == "Train/spoof/005/005-2-3-4-2.mp4"
    assert {p.dataset for p in presentations.values()} == {"siw"}


@pytest.mark.parametrize("face", ["153-2-1-1-1.face", "153-2-1-1-1.m.face"])
def test_siw_takes_the_live_test_videos_that_the_release_names_with_a_further_m(siw, face):
    """Sixteen of subjects 153, 154, 158 and 161, in the release's own lists '153-2-1-1-1.m'."""
    folder = siw / "Test/live/153"
    video_files.write_video(folder / "153-2-1-1-1.m.mov", 2)
    (folder / face).write_text("20 10 50 50\n")
    presentations = read("siw", siw)
    assert columns(presentations, "species", "split", "subject", "sensor", "session")["153-2-1-1-1"] == (
        "live", "test", "153", "2", "1",
    )  # fmt: skip
    assert presentations["153-2-1-1-1"].path == "Test/live/153/153-2-1-1-1.m.mov"
    assert boxes(presentations)["153-2-1-1-1"] == [(20, 10, 30, 40)] * 2
    (folder / "153-2-1-1-1.mov").touch()
    with pytest.raises(ValueError, match=r"are both video 153-2-1-1-1: remove one of them"):
        datasets.get("siw").read(str(siw))


def test_siw_boxes_are_counted_by_lines(siw):
    face = (20, 10, 30, 40)
    assert boxes(read("siw", siw)) == {
        "003-1-1-1-1": [face, (22, 12, 28, 38)],
        "003-2-1-2-2": [(-4, 10, 54, 40)] * 2,  # of frame 1; zeros are no face
        "003-1-2-2-1": [face, face],  # of frame 1, the second line
        "005-2-3-4-2": [None, None],
        "001-1-1-1-1": [None, None],
        "001-1-3-1-1": [face, face],
    }


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("Train/live/003/003-1-2-1-1.mov", "the name says print, the folder live; move it"),
        ("Test/spoof/001/001-1-1-1-2.mov", "the name says live, the folder spoof; move it"),
        ("Train/live/003/005-1-1-1-1.mov", "is no SiW video: expected a name such as Train/live/003/003-1-1-1-1"),
    ],
)
def test_siw_refuses_videos_in_the_wrong_folder(siw, file, message):
    (siw / file).touch()
    with pytest.raises(ValueError, match=f"{file}.*{message}"):
        datasets.get("siw").read(str(siw))


def test_a_face_file_keeps_the_number_of_each_line(tmp_path):
    path = tmp_path / "x.face"
    path.write_text("left top right bottom\n\n0 0 0 0\n1 2 11 22\n1.5, 2, 11\n1.5, 2, 11, 22, eyes\n")
    assert annotations.read_boxes(path, numbered=False, corners=True) == {3: (1, 2, 10, 20), 5: (1.5, 2, 9.5, 20)}
    path.write_text("frame x y w h\n7 0 0 0 0\n8 0 0 30 40\n2 -1 -2 30 40\n3 1 2 30")
    assert annotations.read_boxes(path) == {8: (0, 0, 30, 40), 2: (-1, -2, 30, 40)}
    assert annotations.read_boxes(tmp_path / "absent.face") == {}


def test_a_video_cut_off_keeps_the_frames_before_the_cut(casia):
    cut_before(casia / "test_release/1/1.avi", 12)
    frames = read("casia", casia)["test/1/1"].load()
    assert [shown(next(frames).image) for _ in range(4)] == [1, 4, 7, 10]
    with pytest.raises(ValueError, match=r"test_release/1/1\.avi: frame 12 of 24 cannot be decoded"):
        next(frames)


def test_a_cut_off_file_whose_index_lay_at_its_end_is_named(msu):
    path = msu / "scene01/real/real_client001_laptop_SD_scene01.mov"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=rf"{path.name}: cannot be opened as a video; copy it again"):
        next(read("msu", msu)[path.stem].load())


@pytest.mark.parametrize("name", ["casia", "replay", "msu", "siw"])
def test_loading_survives_the_way_to_another_process(request, name):
    raw = request.getfixturevalue(name)
    for presentation in read(name, raw, frames=1).values():
        (frame,) = pickle.loads(pickle.dumps(presentation)).load()
        assert shown(frame.image) == frame.number


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("casia", "train_release/1/1.avi", "train_release/1/1.AVI"),
        (
            "msu",
            "scene01/real/real_client001_android_SD_scene01.mp4",
            "scene01/real/real_client001_android_SD_scene01.mov",
        ),
        ("siw", "Train/live/003/003-1-1-1-1.mov", "Train/live/003/003-1-1-1-1.mp4"),
        ("siw", "Train/live/003/003-1-1-1-1.mov", "Test/live/003/003-1-1-1-1.mov"),
    ],
)
def test_two_files_of_one_video_are_refused(request, name, first, second):
    raw = request.getfixturevalue(name)
    (raw / second).parent.mkdir(exist_ok=True)
    (raw / second).touch()
    with pytest.raises(ValueError, match=r"are both video .*: remove one of them") as error:
        datasets.get(name).read(str(raw))
    assert first in str(error.value)
    assert second in str(error.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("casia", "train_release/1/9.avi"),
        ("casia", "train_release/01/1.avi"),
        ("casia", "test_release/31/1.avi"),
        ("casia", "train_release/1/copy/1.avi"),
        ("replay", "train/real/client001_session01_webcam_enroll_controlled_1.mov"),
        ("replay", "train/real/attack_print_client001_session01_highdef_photo_controlled.mov"),
        ("replay", "test/attack/hand/attack_mask_client001_session01_highdef_photo_controlled.mov"),
        ("msu", "scene01/real/attack_client001_android_SD_ipad_video_scene01.mp4"),
        ("msu", "scene01/attack/attack_client001_android_HD_ipad_video_scene01.mp4"),
        ("siw", "Train/live/003/003-1-4-1-1.mov"),
        ("siw", "Train/live/3/3-1-1-1-1.mov"),
    ],
)
def test_names_that_do_not_parse_are_refused(request, name, file):
    raw = request.getfixturevalue(name)
    (raw / file).parent.mkdir(exist_ok=True)
    (raw / file).touch()
    with pytest.raises(ValueError, match=rf"{file} is no [-A-Za-z]+ video: expected a name such as [A-Za-z_0-9]+/"):
        datasets.get(name).read(str(raw))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("casia", "test_release"), ("replay", "devel/attack/hand"), ("msu", "scene01/attack"), ("siw", "Test/live")],
)
def test_a_missing_or_an_empty_folder_shows_the_expected_tree(request, name, folder):
    raw, reader = request.getfixturevalue(name), datasets.get(name)
    (raw / folder).rename(raw / "elsewhere")
    with pytest.raises(NotADirectoryError, match=rf"{folder} is missing; expected\nRAW/\n  [a-zA-Z]"):
        reader.read(str(raw))
    (raw / folder).mkdir()
    (raw / folder / "._hidden.mov").touch()
    with pytest.raises(ValueError, match=rf"no \.[a-z4. o]+ files in .*{folder}; expected\nRAW/\n  [a-zA-Z]"):
        reader.read(str(raw))


@pytest.mark.parametrize("name", ["casia", "replay", "msu", "siw"])
def test_frames_is_the_only_option(tmp_path, name):
    assert datasets.options(datasets.get(name)) == ["frames"]
    with pytest.raises(ValueError, match=rf"{name}: frames=0; expected a whole number, 1 or more"):
        datasets.get(name).read(str(tmp_path), frames=0)


@pytest.mark.parametrize(
    ("name", "counts", "subjects", "species"),
    [
        (
            "casia",
            {("train", 1): 60, ("train", 0): 180, ("test", 1): 90, ("test", 0): 270},
            50,
            {"live": 150, "print": 150, "cut": 150, "replay": 150},
        ),
        (
            "replay",
            {("train", 1): 60, ("train", 0): 300, ("dev", 1): 60, ("dev", 0): 300, ("test", 1): 80, ("test", 0): 400},
            50,
            {"live": 200, "print": 200, "replay": 800},
        ),
        (
            "msu",
            {("train", 1): 30, ("train", 0): 90, ("test", 1): 40, ("test", 0): 120},
            35,
            {"live": 70, "print": 70, "replay": 140},
        ),
        (
            "siw",
            {("train", 1): 360, ("train", 0): 540, ("test", 1): 300, ("test", 0): 450},
            165,
            {"live": 660, "print": 330, "replay": 660},
        ),
    ],
)
def test_all_videos_of_a_set_are_read_by_their_names(tmp_path, name, counts, subjects, species):
    tree = getattr(video_files, f"{name}_tree")(tmp_path)
    table = listed_table(datasets.get(name).read(str(tree)))
    assert split_and_label(table) == counts
    assert table["video"].nunique() == len(table) == sum(counts.values())
    assert table["subject"].nunique() == subjects
    assert table["species"].value_counts().to_dict() == species
