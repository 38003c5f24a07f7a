"""People in real light: the environment maps, and scenes that are made with them.

The slow ones render: 90 s, of which two compilations take 50; test_released.py may have made one of them.
"""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.datasets.simulated_wild import SCENE
from input_pipeline.prepare import faces
from input_pipeline.simulate.capture import light
from input_pipeline.simulate.devices import masks
from input_pipeline.simulate.wild import environments, stage
from input_pipeline.simulate.wild.environments import Environment

INDICES = range(len(environments.NAMES))


def unit(*shape, seed=0):
    found = np.random.default_rng(seed).normal(size=(*shape, 3))
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def test_splits_share_no_light():
    every = [name for names in environments.SPLITS.values() for name in names]
    assert sorted(every) == sorted(environments.NAMES)


@pytest.mark.parametrize("index", INDICES, ids=environments.NAMES)
def test_irradiance_is_the_integral_of_the_map(index):
    """By 32,768 directions of the whole map, lamps included; nine harmonics and two lamps are within 5 %."""
    place = Environment(index, 0.7)
    radiance = cv2.resize(environments.radiance_maps()[index], (256, 128), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    directions = place.turned(environments.map_directions(128, 256)).reshape(-1, 3)
    solid = np.repeat(environments.solid_angles(128, 256), 256)
    normals = unit(8)
    expected = (np.maximum(normals @ directions.T, 0) * solid) @ radiance / np.pi * place.gain
    assert np.abs(place.irradiance(normals) - expected).max() <= 0.05 * expected.max()


def test_maps_keep_their_range():
    ranges = [level.max() / np.median(level) for level in environments.radiance_maps().mean(-1)]
    assert max(ranges) > 50_000  # the sun
    levels = np.array([0.1, 1.0, 1000.0, 2.6e5])
    assert environments.decode(environments.encode(levels)) == pytest.approx(levels, rel=0.04)


def test_a_card_that_faces_the_camera_is_one_unless_the_place_is_far_brighter():
    """Where it is, the background is limited: a camera meters the face."""
    rng = np.random.default_rng(0)
    cards = [environments.draw(rng, "train").irradiance(np.array([0.0, 0.0, 1.0])).mean() for _ in range(60)]
    assert np.median(cards) == pytest.approx(1.0, abs=0.01)
    assert max(cards) <= 1.01


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_view_is_what_a_mirror_without_blur_shows(mirrored):
    place = Environment(3, 2.0, mirrored)
    view = place.view(9, 9, 0.9)
    ahead = environments.camera_directions(9, 9, 0.9, 0, 0)
    coarse = place.reflection(ahead, 0.0)  # of the map at half the size
    assert np.corrcoef(np.log(view + 1e-3).ravel(), np.log(coarse + 1e-3).ravel())[0, 1] > 0.8


def test_a_turned_place_turns_its_light():
    normals = unit(16)
    quarter = np.stack([normals[:, 2], normals[:, 1], -normals[:, 0]], -1)  # what a quarter turn makes of them
    before, after = Environment(5, 0.3), Environment(5, 0.3 + np.pi / 2)
    ratio = after.irradiance(quarter) / before.irradiance(normals)
    np.testing.assert_allclose(ratio, np.full_like(ratio, ratio.mean()), rtol=0.05)  # but for the camera's exposure


def test_harmonics_are_orthonormal():
    """Over the sphere, for NumPy and for the device alike."""
    directions = environments.map_directions(128, 256).reshape(-1, 3)
    solid = np.repeat(environments.solid_angles(128, 256), 256)
    for values in (light.harmonics(directions), np.asarray(light.harmonics(jnp.asarray(directions)))):
        np.testing.assert_allclose((values.T * solid) @ values, np.eye(9), atol=1e-3)


def test_front_and_back_light_are_as_frequent():
    """For live faces and for the rooms of attacks alike, as `draw` makes both."""
    rng = np.random.default_rng(0)
    front, back = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    places = [environments.draw(rng, "train") for _ in range(300)]
    stops = np.log2([of.irradiance(front).mean() / of.irradiance(back).mean() for of in places])
    assert abs(np.median(stops)) < 0.4
    assert np.percentile(stops, 90) > 1
    assert np.percentile(stops, 10) < -1


@pytest.fixture(scope="module")
def shots():
    """At the size of simulated_wild, so that one compilation serves the tests of both."""
    return stage.shoot(list(range(1, 33)), list(range(32)), size=SCENE)


@pytest.mark.slow
def test_scenes_are_those_of_their_user_and_key_in_any_batch(shots):
    again, other = stage.shoot([4, 4], [3, 5], size=SCENE)
    np.testing.assert_array_equal(again.light, shots[3].light)
    assert not np.array_equal(other.light, again.light)


@pytest.mark.slow
def test_a_change_changes_its_factor_alone():
    plain, glasses, same = (
        stage.shoot([73], [72000], size=SCENE, split="test", changes=changes)[0]
        for changes in ({"glasses": 0.0}, {"glasses": 1.0}, {"glasses": 0.0})
    )
    np.testing.assert_array_equal(plain.light, same.light)
    np.testing.assert_array_equal(plain.landmarks, glasses.landmarks)
    changed = np.abs(plain.light - glasses.light).max(-1) > 1e-3
    assert 0 < changed.mean() < 0.3
    rows = np.flatnonzero(changed.any(1))
    top, height = plain.box[1], plain.box[3]
    assert top < rows.min() < rows.max() < top + 0.8 * height  # around the eyes
    with pytest.raises(ValueError, match="'hat' is no part of a person"):
        stage.shoot([73], [72000], size=SCENE, changes={"hat": 1.0})


@pytest.mark.slow
def test_scenes_have_people_light_and_depth(shots):
    for shot in shots:
        assert np.isfinite(shot.light).all()
        assert shot.light.min() >= 0
        x, y, w, h = shot.box
        middle = shot.depth[int(y + 0.3 * h) : int(y + 0.7 * h), int(x + 0.3 * w) : int(x + 0.7 * w)]
        assert 0.5 < np.median(middle) < 0.9  # the face
        assert shot.depth.max() > 1.5  # the room
        assert 0.1 < shot.cover.mean() < 0.9
        assert not shot.instrument.any()
        assert shot.landmarks[0, 0] < shot.landmarks[1, 0]
        assert (shot.landmarks[3:, 1] > shot.landmarks[:2, 1].max()).all()


@pytest.mark.slow
def test_the_detector_finds_the_faces_where_the_scene_says_they_are(shots):
    """At least 31 of 32."""
    pictures = []
    for shot in shots:
        x, y, w, h = (int(value) for value in shot.box)
        level = np.median(shot.light[y : y + h, x : x + w].mean(-1))
        pictures.append((255 * np.clip(0.25 * shot.light / level, 0, 1) ** (1 / 2.2)).astype(np.uint8))
    found = 0
    for shot, face in zip(shots, faces.detect(pictures), strict=True):
        if face is not None:
            centre = np.array(face.box[:2]) + np.array(face.box[2:]) / 2
            found += np.abs(centre - (np.array(shot.box[:2]) + np.array(shot.box[2:]) / 2)).max() < 0.25 * shot.box[3]
    assert found >= 31


@pytest.mark.slow
def test_a_mask_covers_the_face_but_not_the_eyes_and_changes_nothing_else():
    values = masks.mask(0).values | {"mouth": 0.0}
    lit = [values | {"light": light} for light in (0.9, 1.3)]
    other, covered = stage.shoot([5, 5], [9, 9], size=96, masks=lit)
    x, y, w, h = (round(a) for a in covered.box)
    assert covered.instrument[y + h // 3 : y + 2 * h // 3, x + w // 4 : x + 3 * w // 4].mean() > 0.6
    at = covered.landmarks.round().astype(int)
    assert all(covered.instrument[row, column] < 0.2 for column, row in at[:2])
    assert covered.instrument[at[2][1], at[2][0]] > 0.9
    free = covered.instrument == 0
    assert np.abs(covered.light - other.light)[free].max() < 0.05  # but for light that the mask scatters
    assert (covered.light > other.light)[covered.instrument > 0.9].mean() > 0.9


def test_attributes_are_of_the_person_and_the_moment():
    first, second = stage.attributes([5, 6], [9, 9]), stage.attributes([5, 6], [10, 10])
    steady = set(first[0]) - {"Smiling", "Mouth_Slightly_Open"}
    assert all(a[name] == b[name] for a, b in zip(first, second, strict=True) for name in steady)
    assert set(first[0].values()) <= {0, 1}
    assert "Dark_Skin" in first[0]
