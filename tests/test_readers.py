"""The registry, image files, and the readers of NUAA, own folders, own tables and identities, on miniature trees."""

import pickle

import numpy as np
import pytest
from PIL import Image

from input_pipeline import datasets
from input_pipeline.sources import media
from tests.video_files import shown, write_video


def write_image(path, colour=(10, 200, 30), size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def read(dataset, raw, **options):
    return {presentation.video: presentation for presentation in datasets.get(dataset).read(str(raw), **options)}


def columns(presentations, *names):
    return {video: tuple(getattr(p, name) for name in names) for video, p in presentations.items()}


@pytest.fixture
def nuaa(tmp_path):
    """Two subjects; one list per separator; one absent file; one image in no list; a name under both kinds."""
    for name in ("0001_00_00_01_0", "0001_00_00_01_109", "0002_01_05_03_10"):
        write_image(tmp_path / "ClientRaw" / name[:4] / f"{name}.jpg")
    for name in ("0001_00_00_01_0", "0002_01_00_02_7"):
        write_image(tmp_path / "ImposterRaw" / name[:4] / f"{name}.jpg")
    lists = {
        "client_train": b"0001/0001_00_00_01_0.jpg\r\n0001/0001_00_00_01_5.jpg\r\n",
        "client_test": b"0002\\0002_01_05_03_10.jpg\r\n\r\n",
        "imposter_train": b"0001\\0001_00_00_01_0.jpg\r\n",
        "imposter_test": b"0001/0001_00_00_01_0.jpg\n0002/0002_01_00_02_7.jpg",
    }
    for name, content in lists.items():
        (tmp_path / f"{name}_raw.txt").write_bytes(content)
    (tmp_path / "ClientRaw" / "0001" / "Thumbs.db").write_bytes(b"not an image")
    (tmp_path / "ClientRaw/0001/._0001_00_00_01_0.jpg").write_bytes(b"what a Mac leaves in archives")
    return tmp_path


def test_nuaa_frames_come_from_the_lists_and_the_disk(nuaa):
    presentations = read("nuaa", nuaa)
    assert columns(presentations, "split", "species", "label", "subject", "session") == {
        "client/0001_00_00_01_0": ("train", "live", 1, "0001", "01"),
        "client/0001_00_00_01_109": ("", "live", 1, "0001", "01"),
        "client/0001_00_00_01_5": ("train", "live", 1, "0001", "01"),
        "client/0002_01_05_03_10": ("test", "live", 1, "0002", "03"),
        "imposter/0001_00_00_01_0": ("train", "print", 0, "0001", "01"),  # in both lists: not tested on
        "imposter/0002_01_00_02_7": ("test", "print", 0, "0002", "02"),
    }
    assert presentations["client/0002_01_05_03_10"].path == "ClientRaw/0002/0002_01_05_03_10.jpg"
    assert {(p.dataset, p.frames) for p in presentations.values()} == {("nuaa", 1)}


def test_a_frame_that_nuaa_lists_but_lacks_is_absent_when_it_is_loaded(nuaa):
    presentations = read("nuaa", nuaa)
    (frame,) = presentations["client/0002_01_05_03_10"].load()
    assert (frame.number, frame.image.shape, frame.box) == (0, (6, 8, 3), None)
    with pytest.raises(FileNotFoundError):
        next(presentations["client/0001_00_00_01_5"].load())


@pytest.mark.parametrize("missing", ["client_test_raw.txt", "ImposterRaw"])
def test_a_missing_part_of_nuaa_shows_the_expected_tree(nuaa, missing):
    (nuaa / missing).rename(nuaa / "elsewhere")
    with pytest.raises(OSError, match=rf"{missing} is missing; expected\nRAW/\n  ClientRaw"):
        datasets.get("nuaa").read(str(nuaa))


def test_a_wrong_line_of_a_nuaa_list_is_named(nuaa):
    (nuaa / "client_test_raw.txt").write_bytes(b"0002\\0002_01_05_03_10.jpg\r\n\r\n0002_01_05_03_11.jpg\r\n")
    with pytest.raises(
        ValueError, match=r"client_test_raw\.txt, line 3: '0002_01_05_03_11\.jpg'; expected a frame such as"
    ):
        datasets.get("nuaa").read(str(nuaa))


@pytest.fixture
def folder(tmp_path):
    """Images and a video, some in folders of species and of people, and files that are neither."""
    for path in ("live/anna/1.jpg", "live/2.PNG", "spoof/3.jpg", "spoof/print/anna/4.jpg"):
        write_image(tmp_path / path)
    write_video(tmp_path / "spoof/replay/5.mp4")
    (tmp_path / "spoof/readme.txt").write_text("no image")
    (tmp_path / "spoof/._3.jpg").write_bytes(b"what a Mac leaves in archives")
    return tmp_path


def test_a_folder_says_species_and_file_names_the_rest(folder):
    presentations = read("folder", folder, name="office")
    assert columns(presentations, "species", "label", "split", "subject", "frames") == {
        "live/2.PNG": ("live", 1, "", "live/2.PNG", 1),
        "live/anna/1.jpg": ("live", 1, "", "live/anna/1.jpg", 1),
        "spoof/3.jpg": ("attack", 0, "", "spoof/3.jpg", 1),
        "spoof/print/anna/4.jpg": ("print", 0, "", "spoof/print/anna/4.jpg", 1),
        "spoof/replay/5.mp4": ("replay", 0, "", "spoof/replay/5.mp4", 8),
    }
    assert {(p.dataset, p.domain) for p in presentations.values()} == {("folder", "office")}


def test_a_video_in_a_folder_gives_frames_and_an_image_one(folder):
    presentations = read("folder", folder, frames=3)
    frames = list(presentations["spoof/replay/5.mp4"].load())
    assert [frame.number for frame in frames] == [shown(frame.image) for frame in frames] == [4, 12, 20]
    (frame,) = presentations["live/2.PNG"].load()
    assert (frame.image == (10, 200, 30)).all()
    with pytest.raises(ValueError, match="folder: frames=0; expected a whole number, 1 or more"):
        datasets.get("folder").read(str(folder), frames=0)


def test_a_folder_may_have_splits_and_folders_of_people(tmp_path):
    for path in (
        "train/live/anna/1.jpg",
        "train/spoof/anna/1.jpg",
        "test/live/ben/1.jpg",
        "test/spoof/replay/ben/1.jpg",
        "test/spoof/ben/mask/1.jpg",
    ):
        write_image(tmp_path / path)
    assert columns(read("folder", tmp_path, subject_level=1), "split", "species", "subject") == {
        "train/live/anna/1.jpg": ("train", "live", "anna"),
        "train/spoof/anna/1.jpg": ("train", "attack", "anna"),
        "test/live/ben/1.jpg": ("test", "live", "ben"),
        "test/spoof/ben/mask/1.jpg": ("test", "ben", "mask"),  # the level is counted from the file
        "test/spoof/replay/ben/1.jpg": ("test", "replay", "ben"),
    }


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (1, r"2\.PNG: subject_level=1, but it lies 0 folders below live/"),
        (-1, r"subject_level=-1; expected a whole number, 0 or more"),
        ("1", r"subject_level='1'; expected a whole number, 0 or more"),
    ],
)
def test_a_subject_level_that_does_not_fit_the_folder_is_refused(folder, level, message):
    with pytest.raises(ValueError, match=message):
        datasets.get("folder").read(str(folder), subject_level=level)


def test_a_folder_without_attacks_shows_the_expected_tree(tmp_path):
    write_image(tmp_path / "live" / "1.jpg")
    with pytest.raises(ValueError, match=r"no images or videos below both live/ and spoof/; expected\nRAW/"):
        datasets.get("folder").read(str(tmp_path))


def table(tmp_path, *lines, encoding="utf-8"):
    path = tmp_path / "own.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


@pytest.fixture
def csv(tmp_path):
    """Images, a video and two groups of images, with every column; absolute and relative paths, blanks, a comma."""
    for i, name in enumerate(("1.jpg", "a/2.png", "a/3.png", "a/4.png", "x, y.jpg")):
        write_image(tmp_path / "faces" / name, (40 * i, 0, 0))
    write_video(tmp_path / "faces/clip.MOV")
    return table(
        tmp_path,
        "path, label, species, subject, video, domain, split\r",
        f"{tmp_path / 'faces/1.jpg'},1,,anna,,,train",
        "faces/a/2.png,spoof,print,ben,b,lab,test",
        "faces/clip.MOV,Attack,replay,,,,",
        "",
        "faces/a/3.png,fake,print,ben,b,lab,test",
        '"faces/x, y.jpg",bonafide,live,,,,dev',
        "faces/gone.jpg,0,,,,,",
        "faces/a/4.png,0,print,ben,b,lab,test",
        encoding="utf-8-sig",
    )


def test_rows_of_a_table_say_what_is_known_of_a_file(tmp_path, csv):
    one = str(tmp_path / "faces/1.jpg")
    presentations = read("csv", csv, name="mine")
    said = columns(presentations, "path", "species", "label", "subject", "domain", "split", "frames")
    assert list(said.items()) == [
        (one, (one, "live", 1, "anna", "mine", "train", 1)),
        ("b", ("faces/a/2.png", "print", 0, "ben", "lab", "test", 3)),
        ("faces/clip.MOV", ("faces/clip.MOV", "replay", 0, "faces/clip.MOV", "mine", "", 8)),
        ("faces/x, y.jpg", ("faces/x, y.jpg", "live", 1, "faces/x, y.jpg", "mine", "dev", 1)),
        ("faces/gone.jpg", ("faces/gone.jpg", "attack", 0, "faces/gone.jpg", "mine", "", 1)),
    ]
    assert presentations["b"].columns()["dataset"] == "csv"


def test_a_table_may_name_the_groups_of_a_file(tmp_path):
    lines = "path,label,session,light,attributes", "1.jpg,1,2,dark,Male=1;Age=60-69", "2.jpg,0,,,"
    assert columns(read("csv", table(tmp_path, *lines)), "session", "light", "attributes", "medium") == {
        "1.jpg": ("2", "dark", "Male=1;Age=60-69", ""),
        "2.jpg": ("", "", "", ""),
    }


def test_rows_of_one_video_are_its_frames_in_the_order_of_the_table(csv):
    presentations = read("csv", csv)
    frames = [(frame.number, frame.image[0, 0, 0]) for frame in presentations["b"].load()]
    assert frames == [(0, 40), (1, 80), (2, 120)]
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        next(presentations["faces/gone.jpg"].load())


def test_evenly_spaced_frames_are_taken_of_a_long_video_in_a_table(csv):
    presentations = read("csv", csv, frames=2)
    assert [frame.number for frame in presentations["b"].load()] == [0, 2]
    assert presentations["b"].frames == 2
    assert [shown(frame.image) for frame in presentations["faces/clip.MOV"].load()] == [6, 18]


def test_two_columns_are_enough_for_a_table(tmp_path):
    presentations = read("csv", table(tmp_path, "label,path", "live,1.jpg", "attack,2.jpg"))
    assert columns(presentations, "species", "subject", "split", "domain") == {
        "1.jpg": ("live", "1.jpg", "", ""),
        "2.jpg": ("attack", "2.jpg", "", ""),
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,lable", "1.jpg,1"], r"line 1: unknown columns \['lable'\]; known: path, label, species, subject, vid"),
        (["path;label", "1.jpg;1"], r"line 1: unknown columns \['path;label'\]"),
        (["path,species", "1.jpg,print"], r"line 1: found columns path,species; expected path, label"),
        (["path,label,label", "1.jpg,1,1"], r"line 1: found columns path,label,label; expected path, label"),
        ([], r"line 1: found columns ; expected path, label"),
        (["path,label"], r"no row below the header; expected\nRAW\.csv"),
        (["path,label", "1.jpg,1", "2.jpg"], r"line 3: found 1 fields, expected 2 as in the header"),
        (
            ["path,label", "1, a.jpg,1"],
            r"line 2: found 3 fields, expected 2 as in the header; quote a field that contains",
        ),
        (["path,label", '"1".jpg,1'], r"line 2: .*; correct it"),
        (["path,label", "1.jpg,yes"], r"line 2: the label must be one of 1, live, real, bonafide, 0, attack, spoof"),
        (["path,label", "", "1.gif,1"], r"line 3: '1\.gif' is not an image or video; known suffixes: \.avi, \.bmp"),
        (["path,label", ",1"], r"line 2: '' is not an image or video"),
        (["path,label,split", "1.jpg,1,val"], r"line 2: split 'val'; expected train, dev, test or nothing"),
        (["path,label,species", "1.jpg,1,print"], r"line 2: species 'print' contradicts the label; correct one"),
        (["path,label,species", "1.jpg,0,live"], r"line 2: species 'live' contradicts the label; correct one"),
        (["path,label,attributes", "1.jpg,1,Male"], r"line 2: attributes 'Male'; expected NAME=VALUE;NAME=VALUE or no"),
        (["path,label", "1.jpg,1", "2.jpg,1", "1.jpg,1"], r"line 4: 1\.jpg is also on line 2; remove one of them"),
        (
            ["path,label,video", "1.jpg,1,a", "2.jpg,0,a"],
            r"line 3: a frame of video 'a' differs from line 2 in species",
        ),
        (
            ["path,label,video,subject,split", "1.jpg,1,a,x,dev", "2.jpg,1,b,x,dev", "3.jpg,1,a,y,test"],
            r"line 4: a frame of video 'a' differs from line 2 in subject, split; make them agree",
        ),
        (["path,label,video", "1.mp4,1,a", "2.jpg,1,a"], r"line 3: video 'a' is also on line 2; a video file takes"),
        (["path,label,video", "1.jpg,1,a", "2.mp4,1,a"], r"line 3: video 'a' is also on line 2; a video file takes"),
    ],
)
def test_a_wrong_row_of_a_table_is_named(tmp_path, lines, message):
    with pytest.raises(ValueError, match=rf"own\.csv(, |: ){message}"):
        datasets.get("csv").read(str(table(tmp_path, *lines)))


def test_a_table_must_be_a_file_in_utf_8(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a file; give the table itself .*\nRAW\.csv"):
        datasets.get("csv").read(str(tmp_path))
    path = table(tmp_path, "path,label", "Zoë.jpg,1", encoding="latin-1")
    with pytest.raises(ValueError, match=r"own\.csv, after line \d: not UTF-8; save it as UTF-8"):
        datasets.get("csv").read(str(path))


def test_identities_are_folders_of_faces_that_are_neither_live_nor_attacks(tmp_path):
    for path in ("Aaron_Eckhart/Aaron_Eckhart_0001.jpg", "Zico/Zico_0002.jpg", "Zico/Zico_0001.jpg", "s1/1.pgm"):
        write_image(tmp_path / path)
    write_image(tmp_path / "cover.jpg")
    write_image(tmp_path / "Zico/older/1.jpg")
    (tmp_path / "Zico/._Zico_0001.jpg").write_bytes(b"what a Mac leaves in archives")
    presentations = read("identity", tmp_path, name="lfw")
    assert columns(presentations, "subject", "species", "label", "split", "domain") == {
        "Aaron_Eckhart/Aaron_Eckhart_0001.jpg": ("Aaron_Eckhart", "", -1, "", "lfw"),
        "Zico/Zico_0001.jpg": ("Zico", "", -1, "", "lfw"),
        "Zico/Zico_0002.jpg": ("Zico", "", -1, "", "lfw"),
        "s1/1.pgm": ("s1", "", -1, "", "lfw"),
    }
    (frame,) = presentations["s1/1.pgm"].load()
    assert frame.image.shape == (6, 8, 3)


def test_one_identity_is_too_few(tmp_path):
    write_image(tmp_path / "s1/1.png")
    write_image(tmp_path / "s1/2.png")
    with pytest.raises(ValueError, match=r"images of fewer than two identities; expected\nRAW/\n  Aaron_Eckhart"):
        datasets.get("identity").read(str(tmp_path))


def test_every_load_survives_the_way_to_another_process(nuaa, csv):
    presentations = [*read("nuaa", nuaa).values(), *read("csv", csv).values()]
    for presentation in presentations:
        if "gone" not in presentation.path and "01_5" not in presentation.path:
            frames = list(pickle.loads(pickle.dumps(presentation)).load())
            assert len(frames) == presentation.frames


def test_unknown_names_list_the_known_ones():
    sets = "camera, casia, celeba, celeba_spoof, csv, folder, identity, msu, nuaa, oulu, replay"
    known = f"{sets}, simulated, simulated_identity, simulated_wild, siw"
    with pytest.raises(ValueError, match=f"unknown data set 'nua'; known: {known}"):
        datasets.get("nua")
    with pytest.raises(ValueError, match=r"'folder' has no option \['nmae'\]; known: name, subject_level, frames"):
        datasets.check(datasets.get("folder"), "folder", "", {"nmae": "x"})


@pytest.mark.parametrize("name", sorted(datasets.READERS))
def test_every_registered_reader_reads(name):
    reader = datasets.get(name)
    assert callable(reader.read)
    assert hasattr(reader, "EXPECTED_TREE") == (not name.startswith("simulated"))
    assert hasattr(reader, "EXPECTED_TREE") != hasattr(reader, "VERSION")


@pytest.mark.parametrize(("raw_dir", "said"), [("", "no raw directory was given"), ("/not/there", "no such directory")])
def test_a_missing_raw_directory_shows_the_tree_and_the_command(raw_dir, said):
    with pytest.raises(FileNotFoundError, match=rf"(?s){said}.*ClientRaw.*prepare --dataset=nuaa --raw_dir=RAW"):
        datasets.check(datasets.get("nuaa"), "nuaa", raw_dir, {})


def test_an_image_is_loaded_upright_and_as_rgb(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: shown upright, the picture is 6 wide and 8 high
    Image.new("L", (8, 6), 77).save(tmp_path / "grey.jpg", exif=exif)
    image = media.load_image(tmp_path / "grey.jpg")
    assert image.shape == (8, 6, 3)
    assert image.dtype == np.uint8
    assert (image == 77).all()


@pytest.mark.parametrize("damage", [b"", b"no image at all", "truncated"])
@pytest.mark.parametrize("name", ["bad.jpg", "bad.png"])
def test_a_corrupt_image_is_refused_by_name(tmp_path, name, damage):
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500] if damage == "truncated" else damage)
    with pytest.raises(ValueError, match=rf"{name}: not a readable image"):
        media.load_image(path)


def test_an_absent_image_is_told_from_a_corrupt_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        media.load_image(tmp_path / "absent.jpg")
