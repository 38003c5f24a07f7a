"""Simulated attacks: figures free of the label, pictures that depend on crop and key alone, moire that sampling makes.

About 15 s on two busy cores, mostly compilation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.simulate.capture import attack, camera, instruments, structure

SIZE = 32


@pytest.fixture(scope="module")
def crops():
    """Twenty smooth colourful pictures [20, 32, 32, 3]."""
    at = np.linspace(0, 3, SIZE)
    phases = np.random.default_rng(0).uniform(0, 6, (20, 3, 2))
    waves = np.sin(at[:, None, None] + phases[:, None, None, :, 0]) * np.cos(at[:, None] + phases[:, None, None, :, 1])
    return np.uint8(120 + 90 * waves)


KEYS = np.arange(20)


@pytest.fixture(scope="module")
def attacks(crops):
    return attack.simulate_attack(crops, KEYS)


def test_attacks_are_crops_of_the_same_shape_that_follow_their_keys(crops, attacks):
    assert (attacks.shape, attacks.dtype) == (crops.shape, np.uint8)
    np.testing.assert_array_equal(attack.simulate_attack(crops, KEYS), attacks)
    other = attack.simulate_attack(crops, KEYS + 100)
    assert (np.abs(other.astype(int) - attacks).mean((1, 2, 3)) > 1).all()


def test_how_crops_are_batched_changes_nothing(crops, attacks):
    order = np.random.default_rng(1).permutation(20)
    parts = [attack.simulate_attack(crops[rows], KEYS[rows]) for rows in np.split(order, [3, 12])]
    np.testing.assert_array_equal(np.concatenate(parts), attacks[order])
    both = [
        attack.recapture(crops, KEYS),
        np.concatenate([attack.recapture(crops[i : i + 5], KEYS[i : i + 5]) for i in range(0, 20, 5)]),
    ]
    np.testing.assert_array_equal(*both)
    assert attack.simulate_attack(crops[:0], KEYS[:0]).shape == (0, SIZE, SIZE, 3)


def test_species_are_the_keys_own_or_those_asked_for(crops, attacks):
    kinds = np.asarray(jax.jit(attack.species)(np.arange(2000)))
    assert set(kinds) == {0, 1}
    assert abs(kinds.mean() - 0.5) < 0.05
    np.testing.assert_array_equal(attack.simulate_attack(crops, KEYS, kinds[:20]), attacks)
    changed = attack.simulate_attack(crops, KEYS, 1 - kinds[:20])
    assert (np.abs(changed.astype(int) - attacks).mean((1, 2, 3)) > 0.5).all()


def test_the_camera_is_drawn_alike_with_and_without_an_instrument(crops):
    """One key, one camera: its figures carry no label."""
    images, keys = crops[: attack.CHUNK].astype(np.float32) / 255.0, np.arange(attack.CHUNK, dtype=np.uint32)
    with_one = attack.light_of_attacks(images, keys, np.zeros_like(keys))[1]
    without = attack.light_of_recaptures(images, keys)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), with_one, without)


def test_levels_and_colours_of_attacks_are_those_of_live_pictures(crops, attacks):
    """On the mean: exposure and white balance treat both alike."""
    live = attack.recapture(crops, KEYS).mean((1, 2)) / 255.0
    attacked = attacks.mean((1, 2)) / 255.0
    assert np.abs(live.mean(0) - attacked.mean(0)).max() < 0.12
    tints = [x[:, 0] - x[:, 2] for x in (live, attacked)]
    assert abs(tints[0].mean() - tints[1].mean()) < 0.1


def test_the_light_of_a_black_crop_is_finite():
    black, keys = np.zeros((attack.CHUNK, SIZE, SIZE, 3), np.float32), np.arange(attack.CHUNK, dtype=np.uint32)
    assert np.isfinite(attack.light_of_attacks(black, keys, keys % 2)[0]).all()
    assert np.isfinite(attack.light_of_recaptures(black, keys)[0]).all()


def test_a_fifth_of_all_pictures_are_taken_by_an_ideal_camera():
    capture = jax.jit(jax.vmap(lambda key: attack.capture(key, 0.2)))
    figures, amount = jax.device_get(capture(np.arange(2000, dtype=np.uint32)))
    ideal = amount == 0
    assert abs(ideal.mean() - 0.2) < 0.05
    assert (figures["noise"][ideal] == 0).all()
    np.testing.assert_allclose(figures["brightness"][ideal], 0.2, rtol=1e-5)


def test_an_ideal_camera_gives_the_crop_back(crops):
    """Without instrument, framing, light and automatic contrast: within a few grey levels."""
    figures = {name: np.float32(attack.IDEAL.get(name, 0.0)) for name in attack.CAMERA}

    @jax.jit
    def again(image):
        light = attack.light_of(image)
        seen = figures | {"brightness": camera.metered(light), "levels": 0.0}
        return camera.photograph(camera.enlarge(light, 2 * SIZE), seen, np.uint32(0), SIZE)

    for crop in crops[:3] / 255.0:
        assert np.abs(np.asarray(again(crop.astype(np.float32))) - crop)[2:-2, 2:-2].mean() < 0.012


KEY = np.uint32(1)


def neutral_tool(replay):
    """An instrument without weaknesses."""
    ones = {"zoom": 1.0, "white": 1.0, "gamut": 1.0, "tone": 1.0, "cast_r": 1.0, "cast_b": 1.0, "shine_size": 0.5}
    names = jax.eval_shape(lambda key: instruments.draw_instrument(key, False, 1), KEY)
    zero = {name: np.float32(ones.get(name, 0.0)) for name in names}
    far = {"edge": 9.0, "corner": 9.0, "hand": -1.0, "finger_size": 0.1}
    return zero | {name: np.float32(x) for name, x in far.items()} | {"replay": np.float32(replay), "seed": KEY}


def test_a_display_of_no_strength_shows_the_picture(crops):
    light = {"key": np.zeros(3), "ambient": np.ones(3), "direction": np.array([0.0, 0.0, 1.0])}
    light, tool = jax.tree.map(np.float32, light), neutral_tool(replay=1)

    @jax.jit
    def shown_and_wanted(crop):
        shown = instruments.present(crop, tool, light, jnp.zeros((SIZE, SIZE, 3)), 2 * SIZE)
        return shown, 0.9 * camera.decode(camera.enlarge(crop, 2 * SIZE))

    for crop in crops[:3] / np.float32(255):
        shown, wanted = jax.device_get(shown_and_wanted(crop))
        assert np.abs(shown - wanted)[2:-2, 2:-2].mean() < 0.01


border = jax.jit(instruments.border)


@pytest.mark.parametrize(("replay", "frame"), [(0, 0.8), (1, 0.02)])
def test_past_its_edges_an_instrument_ends_and_the_room_begins(replay, frame):
    """Along a row the picture, a margin of paper or a bezel, then the room; a finger lies over all of them."""
    count = 40
    picture, room, light = (np.full((count, count, 3), level, np.float32) for level in (0.4, 0.2, 1.0))
    line = (np.arange(count, dtype=np.float32) + 0.5) * (2.0 / count) - 1.0
    u, v = np.meshgrid(line, line)
    tool = neutral_tool(replay) | {"edge": 0.3, "margin": 0.3, "side": 0.0, "hand_reach": -0.5, "hand_tone": 5.0}
    row = np.asarray(border(picture, tool, light, u, v, room))[count // 2, :, 0]
    np.testing.assert_allclose(row[[5, 20, 28, 37]], [0.4, 0.4, frame, 0.2], rtol=1e-5)
    finger = jax.tree.map(np.float32, {"hand": 0.2, "finger_size": 0.3, "fingers": 1.0})
    held = np.asarray(border(picture, tool | finger, light, u, v, room))
    dark = np.abs(held[count // 2, 16:, 0] - 0.1).max()  # the darkest skin, whatever is below it
    assert dark < 0.1
    np.testing.assert_allclose(held[2, :5, 0], 0.4, rtol=1e-2)  # away from it nothing changes


def test_inks_print_greys_and_keep_the_order_of_colours():
    @jax.jit
    def printed(colours):
        nowhere = jnp.zeros(colours.shape[:2])
        return structure.halftone(structure.separate(colours), nowhere, nowhere, {"screen": 0.0}, 1.0, 1.0)

    levels = np.linspace(0.05, 0.95, 8, dtype=np.float32)
    colours = np.concatenate([np.tile(levels[:, None], (1, 3)), [[0.8, 0.2, 0.2]]]).astype(np.float32)[:, None]
    greys, red = np.split(np.asarray(printed(colours))[:, 0], [8])
    assert (np.diff(greys.mean(-1)) > 0).all()
    assert np.ptp(greys, axis=-1).max() < 0.12
    assert red[0, 0] > 2 * red[0, 1]


@jax.jit
def low_waves(frequency, lens):
    """Deviation, in waves longer than eight pixels, of a grey display before a Bayer sensor of 64 x 64 pixels.

    `frequency`: display pixels a sensor pixel.
    """
    at = (np.arange(128) + 0.5) / 64 - 1.0
    u, v = np.meshgrid(at, at)
    grid = structure.subpixels(u, v, {"screen": 0.8}, 32.0 * frequency, 1 / 64)
    seen = camera.demosaic(camera.through_lens(grid, lens), camera.bayer(64))
    return seen.reshape(8, 8, 8, 8, 3).mean((1, 3)).std()


def test_moire_appears_where_the_structure_meets_the_sampling():
    meeting = low_waves(0.53, 0.3)  # every second pixel sees red: beats of 33 pixels
    assert meeting > 0.05
    assert low_waves(0.37, 0.3) < 0.3 * meeting  # far from it
    assert low_waves(0.53, 1.0) < 0.2 * meeting  # gone in a blurred picture


def test_a_lens_keeps_the_level():
    seen = jax.jit(camera.through_lens)(np.full((16, 16, 3), 0.4, np.float32), 0.7)
    np.testing.assert_allclose(seen, 0.4, rtol=1e-5)


def test_demosaicing_gives_smooth_colours_back():
    ramp = np.linspace(0.2, 0.8, 24, dtype=np.float32)
    image = np.stack([ramp[:, None] * np.ones(24), ramp * np.ones((24, 1)), np.full((24, 24), 0.5)], -1)
    again = jax.jit(lambda image: camera.demosaic(image, camera.bayer(24)))(image)
    np.testing.assert_allclose(again[1:-1, 1:-1], image[1:-1, 1:-1], atol=1e-3)


def test_a_tone_curve_is_undone_by_its_inverse():
    code = np.linspace(0.0, 1.0, 11, dtype=np.float32)
    contrast, shoulder, unshoulder = map(jax.jit, (camera.contrast, camera.shoulder, camera.unshoulder))
    np.testing.assert_allclose(contrast(contrast(code, 1.3), 1 / 1.3), code, atol=1e-5)
    np.testing.assert_allclose(shoulder(unshoulder(code)), code, atol=1e-5)


def test_eyes_show_through_a_cut_out():
    paper, behind = (np.full((4, 4, 3), level, np.float32) for level in (0.6, 0.2))
    holes = np.pad(np.ones((2, 2), np.float32), 1)
    mask = jax.jit(instruments.cut_out)(paper, behind, holes)
    np.testing.assert_allclose(mask[0], 0.6, rtol=1e-6)
    assert 0.05 < mask[1, 1, 0] < 0.2  # in the shade of the paper


@pytest.mark.parametrize(
    ("images", "keys", "message"),
    [
        (np.zeros((2, 64, 64, 3), np.float32), [0, 1], "uint8"),
        (np.zeros((2, 64, 32, 3), np.uint8), [0, 1], "uint8"),
        (np.zeros((2, 16, 16, 3), np.uint8), [0, 1], "at least 32"),
        (np.zeros((2, 64, 64, 3), np.uint8), [0], "a key for each"),
    ],
)
def test_wrong_arguments_are_named(images, keys, message):
    for function in (attack.simulate_attack, attack.recapture):
        with pytest.raises(ValueError, match=message):
            function(images, np.array(keys))


@pytest.mark.parametrize("present", [attack.simulate_attack, attack.recapture])
def test_how_many_crops_there_are_compiles_nothing_anew(crops, attacks, present, caplog):
    present(crops[:1], KEYS[:1])
    with jax.log_compiles():
        for number in (2, 7, 13):
            present(crops[:number], KEYS[:number])
    assert [record.message for record in caplog.records if "Compiling" in record.message] == []
