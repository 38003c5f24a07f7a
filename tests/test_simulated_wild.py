"""The data set simulated_wild: cameras, encoders, instruments, framing and truth maps, on a plain field for a scene."""

import itertools
import types

import numpy as np
import pandas as pd
import pytest

from input_pipeline import datasets
from input_pipeline.datasets import simulated_wild
from input_pipeline.select import protocols
from input_pipeline.simulate.devices import (
    cameras,
    encoders,
    framing,
    masks,
    optics,
    papers,
    pictures,
    present,
    screens,
)
from tests.conftest import listed_table

SIDE = 108
OPTIONS = {"size": 64, "margin": (1.2, 1.5)}


class Room:
    """A room whose light comes from above, and whose far wall is grey."""

    name = "grey"

    def irradiance(self, normal):
        return np.repeat(0.8 - 0.2 * normal[..., 1:2] + 0.2 * normal[..., 2:3] - 0.0, 3, -1)

    def reflection(self, direction, level):
        return np.full((*direction.shape[:-1], 3), 0.5 + 0.1 * level)


def field(seed=0, level=1.0):
    """A scene: a bright oval with two dark eyes before a wall."""
    y, x = np.mgrid[:SIDE, :SIDE] / 40.0 - SIDE / 80.0
    cover = (np.hypot(x / 0.35, y / 0.5) < 1.0).astype(np.float32)
    light = 0.25 + 0.05 * np.random.default_rng(seed).random((SIDE, SIDE, 3)) + 0.25 * cover[..., None]
    for at in (-0.15, 0.15):
        light[np.hypot(x - at, y + 0.1) < 0.05] = 0.03
    depth = np.where(cover > 0, 0.7 - 0.1 * np.sqrt(np.clip(1 - (x / 0.35) ** 2 - (y / 0.5) ** 2, 0, 1)), 3.0)
    marks = SIDE / 2 + 40.0 * np.array([[-0.15, -0.1], [0.15, -0.1], [0, 0.05], [-0.1, 0.2], [0.1, 0.2]])
    box = (SIDE / 2 - 14.0, SIDE / 2 - 20.0, 28.0, 40.0)
    maps = {"depth": depth.astype(np.float32), "cover": cover, "instrument": np.zeros_like(cover)}
    maps["room"] = np.full((SIDE, SIDE, 3), 0.4, np.float32)
    light = (level * light).astype(np.float32)
    return types.SimpleNamespace(light=light, box=box, landmarks=marks.astype(np.float32), environment=Room(), **maps)


def attack(species, number, *, size=64):
    rng, options = optics.generator(3, number), OPTIONS | {"size": size, "source": cameras.camera(2)}
    tool = pictures.instrument(species, number)
    return pictures.shown(field(), field(1), tool, cameras.camera(number), rng, cut=species == "cut", **options)


def test_the_same_draws_give_the_same_bytes():
    for species in ("print", "replay", "cut"):
        for number in range(4):
            first, second = attack(species, number), attack(species, number)
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.truth, second.truth)
            assert first.image.shape == (64, 64, 3)
            assert first.image.dtype == np.uint8
            assert first.image.std() > 3


def test_a_live_face_has_relief_and_an_attack_is_a_plane():
    for number in range(6):
        live = pictures.direct(field(), cameras.camera(number), optics.generator(4, number), **OPTIONS).truth
        assert live[..., 1].max() == 0
        assert live[6:10, 6:10, 0].mean() > 100
        assert live[0, 0, 0] == 0
        shown = attack("replay", number).truth
        covered = shown[..., 1] > 250
        assert covered.mean() > 0.25
        assert shown[covered][:, 0].std() < 60


def test_the_outline_of_an_instrument_is_where_its_share_changes():
    frame = framing.draw_frame(optics.generator(1), 200.0, (1.5, 1.5), 64)
    share = np.zeros_like(frame.grid[0])
    share[:, : share.shape[1] // 2] = 1.0
    maps = framing.truth(np.zeros_like(share), share, frame)
    assert (maps[..., 0] == 128).all()
    assert maps[:, 5, 1].min() == 255
    assert maps[:, 12, 1].max() == 0
    assert maps[:, 6:10, 2].max() > 100
    assert maps[:, :5, 2].max() == maps[:, 12:, 2].max() == 0


def test_exposure_follows_the_light():
    for number in range(6):
        dark, light = (
            pictures.direct(field(level=level), cameras.camera(number), optics.generator(5, number), **OPTIONS).image
            for level in (0.05, 4.0)
        )
        assert abs(dark.mean() - light.mean()) < 12


def test_instruments_and_cameras_of_the_splits_are_disjoint_and_many():
    every = ((papers.paper, papers.PER_SPLIT), (screens.screen, screens.PER_SPLIT), (masks.mask, masks.PER_SPLIT))
    for of, per_split in (*every, (cameras.camera, cameras.PER_SPLIT)):
        names = {split: {of(number).name for number in numbers} for split, numbers in per_split.items()}
        assert all(not a & b for a, b in itertools.combinations(names.values(), 2))
        assert sum(map(len, names.values())) >= 600
    kinds = {split: {papers.paper(n).kind for n in numbers} for split, numbers in papers.PER_SPLIT.items()}
    assert kinds["train"] == kinds["dev"] == kinds["test"] == set(papers.KINDS)


def test_sub_pixels_are_seen_only_where_the_sensor_resolves_them():
    near, far = (
        framing.Frame(80, (0,) * 4, 0.05, (0, 0), 0.0, 1.0),
        framing.Frame(60, (0,) * 4, 1.3, (0, 0), 0.0, 1.0),
    )
    for number in (0, 1):  # an LCD and an OLED
        seen, blurred = (
            np.std(screens.subpixels(screens.screen(number), *frame.grid, present.contrast_left(frame)))
            for frame in (near, far)
        )
        assert seen > 0.2
        assert blurred < 0.06


def test_encoders_keep_the_shape_and_most_of_the_picture():
    image = (255 * optics.srgb(field().light)).astype(np.uint8)[:97]
    for name in encoders.STEPS:
        out = encoders.STEPS[name](image, optics.generator(6))
        assert out.shape == image.shape
        assert np.abs(out.astype(float) - image).mean() < 14, name
    np.testing.assert_array_equal(
        encoders.encoded(image, optics.generator(7)), encoders.encoded(image, optics.generator(7))
    )


@pytest.fixture
def plain_scenes(monkeypatch):
    calls = []

    def shoot(users, keys, *, split, **_):
        calls.append(split)
        return [field(int(user)) for user in users]

    monkeypatch.setattr(simulated_wild.stage, "shoot", shoot)
    simulated_wild.render_scenes.cache_clear()
    yield calls
    simulated_wild.render_scenes.cache_clear()


def test_the_splits_share_no_person_camera_or_instrument(plain_scenes):
    table = listed_table(list(datasets.get("simulated_wild").read(people=160, shots=1)))
    roles = protocols.assign(table, "official")
    assert set(roles) == {"train", "dev", "test"}
    for column in ("subject", "sensor", "medium", "session"):
        values = [set(table[column][roles == role]) - {""} for role in ("train", "dev", "test")]
        assert all(not a & b for a, b in itertools.combinations(values, 2)), column
    assert abs((table["species"] == "live").mean() - 3 / 8) < 0.01
    assert not plain_scenes  # listing renders nothing
    attacks = table[table["species"] != "live"]
    assert (attacks["species"].value_counts(normalize=True) > 0.04).reindex(["print", "replay", "cut", "mask"]).all()
    kinds = attacks[attacks["species"] == "mask"]["medium"].str.replace(r"\d+", "", regex=True)
    assert set(kinds) <= set(masks.KINDS)
    assert (table.groupby("subject")["attributes"].nunique() == 1).all()
    assert 0.2 < table["attributes"].str.contains("Male=1").mean() < 0.8


def test_more_masks_to_train_on_leave_dev_and_test_as_they_are():
    few, many = (listed_table(list(simulated_wild.read(people=160, shots=1, masked=share))) for share in (0.4, 1.0))
    for split in ("dev", "test"):
        pd.testing.assert_frame_equal(few[few["split"] == split], many[many["split"] == split])
    few, many = ((of["split"].eq("train") & of["species"].eq("mask")).sum() for of in (few, many))
    assert many > 2 * few > 0


def test_bytes_depend_on_neither_order_nor_neighbours(plain_scenes):
    options = {"size": 48, "people": 8, "shots": 1}
    rows = list(simulated_wild.read(**options))
    forward = [next(iter(row.load())) for row in rows[:8]]
    simulated_wild.render_scenes.cache_clear()
    backward = [next(iter(row.load())) for row in list(simulated_wild.read(**options))[7::-1]][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.truth, other.truth)
    assert forward[0].truth.shape == (16, 16, 3)
    assert plain_scenes == ["train", "train"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"people": 12}, "multiples of 8, got 12"),
        ({"size": 16}, "size >= 32"),
        ({"live": 0, "attacks": 0}, "not both 0"),
        ({"margin": (0.5, 1.3)}, "within 1 to 2.7"),
        ({"masked": 1.5}, "masked=1.5; expected a share"),
    ],
)
def test_options_out_of_range(options, said):
    with pytest.raises(ValueError, match=said):
        next(iter(simulated_wild.read(**options)))
