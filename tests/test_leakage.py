"""What plain numbers tell of the label: not enough to tell attacks by them. One minute and a half.

`wild` and test_released.py render the same pictures, and the first of them renders them for both. docs/simulator.md has
the figures.
"""

import numpy as np
import pytest

from kdfas_jax.commands.documented import leakage

LIMIT, WILD_LIMIT = 0.90, 0.85


def test_numbers_are_those_of_a_picture_one_can_count():
    images = np.full((2, 64, 64, 3), 51, np.uint8)
    images[1, :32] = 255
    found = leakage.numbers(images)
    assert {name: values.shape[1] for name, values in found.items()} == {
        "rings and colours": 34,
        "rings": 28,
        "colours": 6,
        "level": 2,
        "contrast": 2,
        "face / background": 1,
        "burnt, black": 2,
    }
    np.testing.assert_allclose(found["level"], [[0.2, 0.2], [0.6, 0.6]])
    np.testing.assert_allclose(found["contrast"], [[0, 0], [0.4, 0.4]], atol=1e-12)
    np.testing.assert_allclose(found["colours"][1], [0.6] * 3 + [0.4] * 3)
    np.testing.assert_allclose(found["burnt, black"] ** 2, [[0, 0], [0.5, 0]], atol=1e-12)
    np.testing.assert_allclose(found["face / background"], 0, atol=1e-12)


def test_a_label_that_the_level_tells_is_found():
    rng = np.random.default_rng(0)
    species = np.array(["live", "print"] * 40)
    shade = np.where(species == "live", 140, 100)[:, None, None, None]
    images = rng.normal(shade, 20, (80, 64, 64, 3)).clip(0, 255).astype(np.uint8)
    pictures = leakage.Pictures(images, species)
    found = leakage.leakage(pictures, pictures, ("print",))
    assert found["level"] == 1.0
    assert found["face / background"] < 0.8
    assert leakage.brightness(pictures) > 0.8


@pytest.fixture(scope="module")
def sets():
    return leakage.simulated()


@pytest.mark.slow
@pytest.mark.parametrize("kinds", leakage.KINDS["simulated"])
def test_plain_numbers_hardly_tell_attacks(sets, kinds):
    assert max(leakage.leakage(*sets, kinds).values()) <= LIMIT


@pytest.fixture(scope="module")
def wild(rendered_dir):
    return leakage.simulated_wild(str(rendered_dir))


@pytest.mark.slow
@pytest.mark.parametrize("kinds", leakage.KINDS["simulated_wild"])
def test_plain_numbers_hardly_tell_attacks_in_the_wild(wild, kinds):
    assert max(leakage.leakage(*wild, kinds).values()) <= WILD_LIMIT


@pytest.mark.slow
def test_brightness_does_not_tell_attacks_in_the_wild(wild):
    assert abs(leakage.brightness(*wild)) <= 0.15
