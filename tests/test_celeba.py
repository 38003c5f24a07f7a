"""CelebA: a miniature in both layouts of the release, its lists, and its preparation."""

import pickle

import numpy as np
import pytest
from PIL import Image

from input_pipeline.datasets import celeba
from input_pipeline.prepare import faces, prepare
from input_pipeline.prepare.faces import decode
from input_pipeline.prepare.records import Reader

NAMES = [f"{number:06d}.jpg" for number in (1, 2, 3, 4)]
ATTRIBUTES = """\
4
Male Smiling Young
000001.jpg -1  1  1
000002.jpg  1 -1  1
000003.jpg -1 -1 -1
000004.jpg  1  1 -1
"""
PARTITION = "000001.jpg 0\n000002.jpg 0\n000003.jpg 1\n000004.jpg 2\n"
IDENTITIES = "000001.jpg 2880\n000002.jpg 17\n000003.jpg 2880\n000004.jpg 3\n"


def write(root, images="img_align_celeba", anno=".", evaluation=".", identities=True):
    for folder in (images, anno, evaluation):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(NAMES):
        pixels = np.full((218, 178, 3), (250, 0, 0), np.uint8)
        pixels[20:198] = 60 * place  # what the centre square holds
        Image.fromarray(pixels).save(root / images / name, quality=95)
    (root / anno / "list_attr_celeba.txt").write_text(ATTRIBUTES)
    (root / evaluation / "list_eval_partition.txt").write_text(PARTITION)
    if identities:
        (root / anno / "identity_CelebA.txt").write_text(IDENTITIES)
    return root


@pytest.fixture
def raw(tmp_path):
    return write(tmp_path / "raw")


def test_the_lists_say_who_it_is_which_split_and_which_attributes(raw):
    read = celeba.read(str(raw))
    assert [(p.video, p.subject, p.split, p.attributes) for p in read] == [
        ("000001.jpg", "2880", "train", "Male=0;Smiling=1;Young=1"),
        ("000002.jpg", "17", "train", "Male=1;Smiling=0;Young=1"),
        ("000003.jpg", "2880", "dev", "Male=0;Smiling=0;Young=0"),
        ("000004.jpg", "3", "test", "Male=1;Smiling=1;Young=0"),
    ]
    assert {(p.label, p.dataset, p.cropped) for p in read} == {(-1, "celeba", True)}


def test_the_folders_of_the_release_are_understood_and_identities_may_be_absent(raw, tmp_path):
    release = write(tmp_path / "release", "Img/img_align_celeba", "Anno", "Eval")
    assert [p.columns() for p in celeba.read(str(release))] == [p.columns() for p in celeba.read(str(raw))]
    (release / "Anno/identity_CelebA.txt").unlink()
    assert [p.subject for p in celeba.read(str(release))] == NAMES


@pytest.mark.parametrize("crop", [178, 100])
def test_a_crop_is_the_centre_of_the_image(raw, crop):
    presentation = celeba.read(str(raw), crop=crop)[2]
    (frame,) = pickle.loads(pickle.dumps(presentation)).load()
    assert frame.image.shape == (crop, crop, 3)
    assert np.abs(frame.image[4:-4].astype(int) - 120).max() < 12  # red above and below is cut away; JPEG rings
    with Image.open(raw / "img_align_celeba/000003.jpg") as image:
        top, left = 109 - crop // 2, 89 - crop // 2
        np.testing.assert_array_equal(frame.image, np.asarray(image)[top : top + crop, left : left + crop])


def test_preparation_keeps_the_attributes_and_asks_no_detector(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "detect", lambda images: [1 / 0 for _ in images])
    (raw / "img_align_celeba/000004.jpg").unlink()
    made = prepare.prepare("celeba", raw_dir=str(raw), data_dir=str(tmp_path / "data"), size=32)
    assert made.table["attributes"].tolist()[1:] == ["Male=1;Smiling=0;Young=1", "Male=0;Smiling=0;Young=0"]
    assert made.table["found"].all()
    image = decode(Reader(made.files, made.table).images([1])[0], 32)
    assert np.abs(image.astype(int) - 60).max() < 12


def test_images_of_another_size_are_named(raw):
    Image.new("RGB", (178, 100)).save(raw / "img_align_celeba/000001.jpg")
    with pytest.raises(ValueError, match=r"000001\.jpg: 178x100 px; expected 178x218"):
        list(celeba.read(str(raw))[0].load())


def test_a_wrong_tree_shows_the_expected_one(raw):
    (raw / "list_eval_partition.txt").unlink()
    with pytest.raises(ValueError, match=r"no list_eval_partition\.txt in .*Eval; expected\nRAW/\n  img_align_celeba"):
        celeba.read(str(raw))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list_attr_celeba.txt", "5\nMale\n000001.jpg 1\n", r"line 1: '5'; expected the number of images, 1"),
        ("list_attr_celeba.txt", "", r"line 1: ''; expected the number of images, 0"),
        ("list_attr_celeba.txt", "1\nMale\n000001.jpg 2\n", r"line 3: '000001.jpg 2'; expected an image and 1 values"),
        ("list_attr_celeba.txt", "1\nMale\n000009.jpg 1\n", r"says nothing of 000009\.jpg; expected 0, 1 or 2"),
        ("list_eval_partition.txt", PARTITION.replace("3.jpg 1", "3.jpg 7"), r"says 7 of 000003\.jpg"),
        ("list_eval_partition.txt", "000001.jpg 0\n\n", r"line 2: expected an image and a number"),
    ],
)
def test_a_damaged_list_is_named(raw, name, text, message):
    (raw / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        celeba.read(str(raw))


@pytest.mark.parametrize("crop", [0, 179, "178"])
def test_a_crop_out_of_range_is_refused(raw, crop):
    with pytest.raises(ValueError, match=r"celeba: crop=.*; expected a whole number in 1\.\.178"):
        celeba.read(str(raw), crop=crop)
