"""The registry and the readers, on miniature trees with the data sets' real names. Runs in about 1 s."""

import numpy as np
import pytest
from PIL import Image

from input_pipeline import datasets


def write_image(path, colour=(10, 200, 30), size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


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
    return tmp_path


def test_nuaa_reads_lists_and_disk(nuaa):
    reader = datasets.get("nuaa")
    samples = {sample.key: sample for sample in reader.read(str(nuaa))}
    assert reader.count(str(nuaa)) == len(samples) == 6
    assert {key: (s.split, s.species, s.label, s.subject, s.session) for key, s in samples.items()} == {
        "ClientRaw/0001/0001_00_00_01_0.jpg": ("train", "live", 1, "0001", "01"),
        "ClientRaw/0001/0001_00_00_01_109.jpg": ("", "live", 1, "0001", "01"),
        "ClientRaw/0001/0001_00_00_01_5.jpg": ("train", "live", 1, "0001", "01"),
        "ClientRaw/0002/0002_01_05_03_10.jpg": ("test", "live", 1, "0002", "03"),
        "ImposterRaw/0001/0001_00_00_01_0.jpg": ("train", "print", 0, "0001", "01"),  # in both lists: not tested on
        "ImposterRaw/0002/0002_01_00_02_7.jpg": ("test", "print", 0, "0002", "02"),
    }
    assert len({sample.video for sample in samples.values()}) == 6
    assert samples["ClientRaw/0002/0002_01_05_03_10.jpg"].load().shape == (6, 8, 3)
    with pytest.raises(FileNotFoundError):
        samples["ClientRaw/0001/0001_00_00_01_5.jpg"].load()


@pytest.mark.parametrize("missing", ["client_test_raw.txt", "ImposterRaw"])
def test_nuaa_wrong_tree(nuaa, missing):
    (nuaa / missing).rename(nuaa / "elsewhere")
    with pytest.raises(OSError, match=rf"{missing} is missing; expected\nRAW/\n  ClientRaw"):
        datasets.get("nuaa").count(str(nuaa))


def test_folder_species_and_subjects(tmp_path):
    for path in ("live/anna/1.jpg", "live/2.PNG", "spoof/3.jpg", "spoof/print/anna/4.jpg", "spoof/readme.txt"):
        if path.endswith("txt"):
            (tmp_path / path).write_text("no image")
        else:
            write_image(tmp_path / path)
    reader = datasets.get("folder")
    samples = list(reader.read(str(tmp_path), name="office"))
    assert reader.count(str(tmp_path)) == 4
    assert [(s.key, s.species, s.label, s.split) for s in samples] == [
        ("live/2.PNG", "live", 1, ""),
        ("live/anna/1.jpg", "live", 1, ""),
        ("spoof/3.jpg", "attack", 0, ""),
        ("spoof/print/anna/4.jpg", "print", 0, ""),
    ]
    assert {s.domain for s in samples} == {"office"}
    assert [s.subject for s in samples] == [s.key for s in samples]
    with pytest.raises(ValueError, match=r"2\.PNG: subject_level=1, but 0 folders lie below live/"):
        list(reader.read(str(tmp_path), subject_level=1))


def test_folder_with_splits_and_subject_folders(tmp_path):
    for path in (
        "train/live/anna/1.jpg",
        "train/spoof/anna/1.jpg",
        "test/live/ben/1.jpg",
        "test/spoof/replay/ben/1.jpg",
    ):
        write_image(tmp_path / path)
    samples = list(datasets.get("folder").read(str(tmp_path), subject_level=1))
    assert [(s.split, s.species, s.subject) for s in samples] == [
        ("train", "live", "anna"),
        ("train", "attack", "anna"),
        ("test", "live", "ben"),
        ("test", "replay", "ben"),
    ]


def test_folder_wrong_tree(tmp_path):
    write_image(tmp_path / "live" / "1.jpg")
    with pytest.raises(ValueError, match=r"no images below both live/ and spoof/; expected\nRAW/"):
        datasets.get("folder").count(str(tmp_path))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'nua'; known: folder, nuaa, oulu, simulated"):
        datasets.get("nua")
    with pytest.raises(ValueError, match=r"'folder' has no option \['nmae'\]; known: name, subject_level"):
        datasets.check(datasets.get("folder"), "folder", "", {"nmae": "x"})


@pytest.mark.parametrize(("raw_dir", "said"), [("", "no raw directory was given"), ("/not/there", "no such directory")])
def test_missing_raw_directory(raw_dir, said):
    with pytest.raises(NotADirectoryError, match=rf"(?s){said}.*ClientRaw.*prepare --dataset=nuaa --raw_dir=RAW"):
        datasets.check(datasets.get("nuaa"), "nuaa", raw_dir, {})


def test_load_image_is_upright_rgb(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: shown upright, the picture is 6 wide and 8 high
    Image.new("L", (8, 6), 77).save(tmp_path / "grey.jpg", exif=exif)
    image = datasets.load_image(tmp_path / "grey.jpg")
    assert image.shape == (8, 6, 3)
    assert image.dtype == np.uint8
    assert (image == 77).all()


@pytest.mark.parametrize("damage", [b"", b"no image at all", "truncated"])
def test_load_image_refuses_corrupt_files(tmp_path, damage):
    path = tmp_path / "bad.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500] if damage == "truncated" else damage)
    with pytest.raises(ValueError, match=r"bad\.jpg: not a readable image"):
        datasets.load_image(path)
