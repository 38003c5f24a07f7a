"""Decoding and augmentation: pure in the seed, each operation against what it is defined to do. 1 s."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from configs import common
from input_pipeline.prepare import faces
from input_pipeline.stream import ops, views

OFF = {"crop": 1.0, "flip": False, "degrade": 0.0, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}  # tones are by default
FULL = {"crop": 0.5, "flip": True, "exposure": 1.0, "colour": 0.3, "degrade": 0.5, "erasing": 1.0}


def augmentation(operations=0, **changes):
    augment = common.base("test").data.augment
    augment.update(OFF | changes)
    augment.randaugment.ops = operations
    return ops.Augmentation(augment)


@pytest.fixture
def image():
    """A picture of 48 x 48 pixels with texture, in which every corner differs."""
    ramp = np.linspace(30, 225, 48)
    channels = [ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, 0.5 * (ramp[:, None] + ramp[::-1])]
    grain = np.random.default_rng(0).normal(0, 8, (48, 48, 3))
    return (np.stack(channels, -1) + grain).clip(5, 250).round().astype(np.uint8)


def test_decoding_is_tensorflows(image):
    encoded = faces.encode(cv2.resize(image, (64, 64)))
    reference = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy().astype(int)
    assert np.abs(faces.decode(encoded, 64).astype(int) - reference).max() <= 1
    halves = reference.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(faces.decode(encoded, 32) - halves).max() <= 1.1
    assert faces.decode(encoded, 100).shape == (100, 100, 3)
    with pytest.raises(ValueError, match="not a JPEG"):
        faces.decode(b"no image", 32)


def test_views_are_a_function_of_the_seed(image):
    view = augmentation(2, **FULL).view
    one, again, other = (view(image, ops.generator(0, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (one.shape, one.dtype) == (image.shape, np.uint8)


def test_everything_off_leaves_the_image_alone(image):
    np.testing.assert_array_equal(augmentation().view(image, ops.generator(0)), image)


def test_a_flip_is_a_mirror_image_half_of_the_time(image):
    views = [augmentation(flip=True).view(image, ops.generator(n)) for n in range(200)]
    mirrored = [np.array_equal(view, image[:, ::-1]) for view in views]
    assert all(flipped or np.array_equal(view, image) for flipped, view in zip(mirrored, views, strict=True))
    assert 70 < sum(mirrored) < 130


def test_crops_have_the_stated_area_and_aspect_and_stay_inside():
    for n in range(300):
        left, top, width, height = ops.random_crop(0.25, 480, ops.generator(n))
        assert 0 <= left <= left + width <= 480
        assert 0 <= top <= top + height <= 480
        assert 0.24 <= width * height / 480**2 <= 1
        assert 0.74 <= width / height <= 1.35


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cut_and_a_warp_show_the_same(image, mirrored):
    box = (5, 3, 30, 40)
    warped = ops.warp(image, ops.map_to_box(box, mirrored, 48)).astype(int)
    inner = np.s_[2:-2, 2:-2]  # a resize repeats the border of the box, a warp looks beyond it
    assert np.abs(ops.cut_out(image, box, mirrored).astype(int) - warped)[inner].max() <= 3
    np.testing.assert_array_equal(ops.cut_out(image, (0, 0, 48, 48), mirrored), image[:, ::-1] if mirrored else image)


@pytest.mark.parametrize("seed", range(6))
def test_a_jittered_box_shows_what_a_box_moved_by_hand_shows(image, seed):
    """The shift is a share of the crop's side, so the view by hand is that of a face box as large as the crop."""
    rng = ops.generator(seed)
    seen = image[:, ::-1] if rng.random() < 0.5 else image
    size, (x, y) = 1.25 ** rng.uniform(-1, 1), 0.1 * rng.uniform(-1, 1, 2)
    view = augmentation(flip=True, box={"scale": 0.25, "shift": 0.1}).view(image, ops.generator(seed)).astype(int)
    expected = views.moved(np.ascontiguousarray(seen), 1.0, size=size, x=x, y=y)
    assert np.abs(view - expected).max() <= 1  # a mirror image rounds the other way


def test_a_jittered_box_repeats_the_edge_and_an_unmoved_one_draws_nothing(image):
    """Grey, which a shear leaves beyond the border, would tell the network that the box was moved."""
    white = np.full_like(image, 255)
    for seed in range(20):
        assert (augmentation(box={"scale": 0.5, "shift": 0.3}).view(white, ops.generator(seed)) == 255).all()
    rng = ops.generator(0)
    augmentation(box={"scale": 0.0, "shift": 0.0}).view(image, rng)
    assert rng.bit_generator.state == ops.generator(0).bit_generator.state


def test_colour_jitter_moves_the_mean_within_its_range(image):
    means = [augmentation(colour=0.4).view(image, ops.generator(n)).mean() / image.mean() for n in range(100)]
    assert 0.75 < min(means) < 0.9
    assert 1.1 < max(means) < 1.25
    np.testing.assert_array_equal(augmentation(colour=1e-6).view(image, ops.generator(1)), image)


def test_exposure_doubles_light_a_stop_and_burns_highlights_out():
    tones = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    np.testing.assert_array_equal(ops.expose(0.0)(tones), tones)
    brighter, darker = ops.expose(1.0)(tones), ops.expose(-1.0)(tones)
    light = (np.array([20, brighter[0, 20, 0], darker[0, 20, 0]]) / 255) ** 2.2  # far below the curve's shoulder
    np.testing.assert_allclose(light / light[0], [1.0, 2.0, 0.5], rtol=0.1)
    assert (np.diff(brighter[0, :, 0].astype(int)) >= 0).all()
    assert (brighter[0, 230:] == 255).all()
    assert darker[0, 255, 0] < 230


def test_exposure_goes_both_ways(image):
    means = [augmentation(exposure=1.5).view(image, ops.generator(n)).mean() / image.mean() for n in range(100)]
    assert min(means) < 0.75
    assert max(means) > 1.25


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.7])
@pytest.mark.parametrize(
    ("ours", "pillow"),
    [
        (ops.brightness, ImageEnhance.Brightness),
        (ops.saturation, ImageEnhance.Color),
        (ops.contrast, ImageEnhance.Contrast),
        (ops.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_tones_are_pillows(image, ours, pillow, factor):
    reference = np.asarray(pillow(Image.fromarray(image)).enhance(factor)).astype(int)
    inner = np.s_[1:-1, 1:-1]  # Pillow leaves the border unsharpened
    assert np.abs(ours(factor)(image).astype(int) - reference)[inner].max() <= 3


def test_tables_are_pillows(image):
    picture = Image.fromarray(image)
    np.testing.assert_array_equal(ops.solarize(0.5)(image), np.asarray(ImageOps.solarize(picture, 128)))
    np.testing.assert_array_equal(ops.posterize(0.75)(image), np.asarray(ImageOps.posterize(picture, 5)))
    assert np.abs(ops.autocontrast(image).astype(int) - np.asarray(ImageOps.autocontrast(picture))).max() <= 1
    np.testing.assert_array_equal(ops.autocontrast(np.full_like(image, 9)), 9)
    assert np.abs(ops.equalize(image).astype(int) - np.asarray(ImageOps.equalize(picture))).mean() < 3


@pytest.mark.parametrize("number", range(len(ops.OPERATIONS)))
@pytest.mark.parametrize("level", [0.9, -0.9])
def test_every_operation_changes_the_image(image, number, level):
    drawn = ops.OPERATIONS[number](level, len(image))
    changed = drawn(image) if callable(drawn) else ops.warp(image, drawn)
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert np.abs(changed.astype(int) - image).mean() > 0.2


def test_randaugment_draws_each_operation_and_leaves_half_out(monkeypatch, image):
    drawn = []
    monkeypatch.setattr(
        ops, "OPERATIONS", [lambda level, _, n=n: drawn.append((n, level)) or np.eye(3) for n in range(5)]
    )
    for seed in range(400):
        augmentation(2).view(image, ops.generator(seed))
    assert 330 < len(drawn) < 470
    assert {n for n, _ in drawn} == set(range(5))
    levels = np.array([level for _, level in drawn])
    assert 0.85 < np.abs(levels).mean() < 0.93
    assert abs(np.sign(levels).mean()) < 0.2


@pytest.mark.parametrize("degrade", ops.DEGRADATIONS)
def test_every_degradation_loses_detail_or_adds_some_but_keeps_colours(image, degrade):
    for n in range(20):
        changed = degrade(image, ops.generator(n))
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        assert np.abs(changed.mean((0, 1)) - image.mean((0, 1))).max() < 2
    assert np.abs(changed.astype(int) - image).mean() > 0.5


def test_degradations_come_as_often_as_asked(image, monkeypatch):
    seen = []
    monkeypatch.setattr(ops, "DEGRADATIONS", [lambda image, _, n=n: seen.append(n) or image for n in range(4)])
    for seed in range(200):
        augmentation(degrade=0.25).view(image, ops.generator(seed))
    assert all(30 < seen.count(n) < 75 for n in range(4))


def test_erasing_covers_the_stated_share():
    black = np.full((64, 64, 3), 255, np.uint8)
    shares = [(augmentation(erasing=1.0).view(black, ops.generator(n)) < 255).any(-1).mean() for n in range(60)]
    assert min(shares) > 0.01
    assert max(shares) < 0.34
    assert max(shares) - min(shares) > 0.2
    erased = [(augmentation(erasing=0.25).view(black, ops.generator(n)) < 255).any() for n in range(200)]
    assert 25 < sum(erased) < 80


@pytest.mark.parametrize("changes", [{"mixup": 0.8}, {"cutmix": 1.0}])
@pytest.mark.parametrize("count", [8, 7])
def test_mixing_matches_labels_and_images(changes, count):
    """Live images are white, attacks black: a mixed image's brightness is its label."""
    labels = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 1, 0, 1][:count]]
    images = np.repeat(labels[:, 1], 16 * 16 * 3).reshape(count, 16, 16, 3).astype(np.uint8) * 255
    pure = images.copy()
    soft = augmentation(**changes).mix(images, labels, ops.generator(2))
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(images.mean((1, 2, 3)) / 255, soft[:, 1], atol=0.005)
    assert np.abs(soft - labels).max() > 0.05
    if count == 7:
        np.testing.assert_array_equal(images[6], pure[6])
        np.testing.assert_array_equal(soft[6], labels[6])
    pieces = [pure[:4].copy(), pure[4:].copy()]
    for piece in pieces:
        augmentation(**changes).mix(piece, labels[: len(piece)], ops.generator(2))
    np.testing.assert_array_equal(np.concatenate(pieces), images)


def test_both_kinds_of_mixing_take_turns():
    chosen = set()
    for n in range(30):
        images = np.stack([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)])
        augmentation(mixup=0.8, cutmix=1.0).mix(images, np.eye(2, dtype=np.float32), ops.generator(n))
        chosen.add("cutmix" if set(np.unique(images[0])) <= {0, 200} else "mixup")
    assert chosen == {"mixup", "cutmix"}


def test_a_truth_map_is_seen_as_its_image_is():
    """The map of an image that is smooth is the image at the map's size, before and after."""
    line = np.linspace(-1, 1, 64)
    bump = np.exp(-((line - 0.2) ** 2 + (line[:, None] + 0.3) ** 2) / 0.3)
    image = np.repeat((255 * bump).astype(np.uint8)[..., None], 3, 2)
    truth = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)
    moving = augmentation(crop=0.5, flip=True, box={"scale": 0.25, "shift": 0.1})
    for seed in range(20):
        seen, moved = moving.views(image, truth, ops.generator(seed))
        expected = cv2.resize(seen, (16, 16), interpolation=cv2.INTER_AREA)
        assert np.abs(moved.astype(int) - expected).mean() < 3
    assert moving.views(image, None, ops.generator(0))[1] is None
    np.testing.assert_array_equal(moving.views(image, truth, ops.generator(1))[0], moving.view(image, ops.generator(1)))
