"""Crops on numbered pixels, and MTCNN on a drawn face. 2 s."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from input_pipeline.prepare import faces


@pytest.fixture
def frame():
    """[60, 80, 3]: red is the column, green the row."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(80)[None, :], np.arange(60)[:, None]
    return image


def test_crop_is_the_square_around_the_box(frame):
    crop = faces.crop(frame, (30, 20, 10, 20), scale=1.5, size=30)  # centre (35, 30), side 30: no resampling
    np.testing.assert_array_equal(crop, frame[15:45, 20:50])


def test_a_square_that_leaves_the_frame_is_moved_inside(frame):
    np.testing.assert_array_equal(faces.crop(frame, (0, 0, 20, 20), scale=2.0, size=40), frame[:40, :40])
    np.testing.assert_array_equal(faces.crop(frame, (60, 40, 20, 20), scale=2.0, size=40), frame[20:, 40:])


def test_a_square_larger_than_the_frame_repeats_the_edge(frame):
    crop = faces.crop(frame, (10, 0, 60, 60), scale=1.2, size=72)  # columns 4..75, rows -6..65 of 60
    np.testing.assert_array_equal(crop[:, :, 0], np.arange(4, 76)[None, :].repeat(72, 0))
    np.testing.assert_array_equal(crop[:, :, 1], np.clip(np.arange(-6, 66), 0, 59)[:, None].repeat(72, 1))


def test_crop_averages_when_it_shrinks():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    crop = faces.crop(board, (0, 0, 64, 64), scale=1.0, size=16)
    assert crop.shape == (16, 16, 3)
    assert np.abs(crop.astype(int) - 127.5).max() <= 1  # picking pixels would give 0 or 255


def test_crop_enlarges(frame):
    crop = faces.crop(frame, (30, 20, 10, 10), scale=1.0, size=40)
    assert crop.shape == (40, 40, 3)
    assert abs(crop[..., 0].mean() - 34.5) < 0.2


def test_crop_clamps_the_box_first(frame):
    np.testing.assert_array_equal(
        faces.crop(frame, (-5, -5, 25, 25), size=32), faces.crop(frame, (0, 0, 20, 20), size=32)
    )
    assert faces.clamp((-5, 50, 25, 15), 60, 80) == (0, 50, 20, 10)
    assert faces.clamp((1.5, 2, 3, 4), 60, 80) == (1.5, 2, 3, 4)


@pytest.mark.parametrize(
    "box",
    [(5, 5, 0, 10), (5, 5, 10, -1), (5, 5, np.nan, 10), (5, 5, np.inf, 10), (200, 5, 10, 10), (-40, -40, 200, 200)],
)
def test_bad_boxes_are_errors(frame, box):
    with pytest.raises(ValueError, match="face box"):
        faces.crop(frame, box)


def test_encode_keeps_colour(frame):
    encoded = faces.encode(np.full((16, 16, 3), (250, 20, 20), np.uint8))
    image = Image.open(io.BytesIO(encoded))
    assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # chroma at full resolution
    assert np.abs(np.asarray(image).astype(int) - (250, 20, 20)).max() <= 4


def draw_face(frame: np.ndarray, left: int, top: int, side: int) -> None:
    """Draws a portrait that MTCNN takes for a face into a square of `frame`; the head is half as wide."""
    image = np.full((400, 400, 3), (120, 130, 140), np.uint8)
    hair, skin, shadow = (60, 40, 30), (225, 180, 150), (180, 130, 105)
    cv2.ellipse(image, (200, 190), (135, 175), 0, 0, 360, hair, -1)
    cv2.ellipse(image, (200, 215), (115, 155), 0, 0, 360, skin, -1)
    for x in (150, 250):
        cv2.ellipse(image, (x, 180), (24, 11), 0, 0, 360, (250, 250, 250), -1)
        cv2.circle(image, (x, 180), 10, (50, 30, 20), -1)
        cv2.ellipse(image, (x, 160), (32, 10), 0, 180, 360, hair, 7)
    cv2.ellipse(image, (200, 245), (20, 12), 0, 0, 180, shadow, 5)
    cv2.line(image, (193, 185), (186, 240), shadow, 5)
    cv2.ellipse(image, (200, 300), (45, 15), 0, 0, 360, (185, 80, 80), -1)
    cv2.line(image, (158, 299), (242, 299), (110, 40, 40), 3)
    frame[top : top + side, left : left + side] = faces.resize(cv2.GaussianBlur(image, (0, 0), 4), side)


def test_detect():
    one = np.full((240, 320, 3), (120, 130, 140), np.uint8)
    draw_face(one, 80, 40, 160)
    two = np.full((480, 320, 3), (120, 130, 140), np.uint8)
    draw_face(two, 10, 10, 90)
    draw_face(two, 100, 200, 200)
    small = np.full((960, 720, 3), (120, 130, 140), np.uint8)  # needs the second look, at a finer scale
    draw_face(small, 200, 500, 64)
    empty = np.full((240, 320, 3), 128, np.uint8)

    found = faces.detect([one, empty, two, small, one])
    assert found[1] is None
    for face, (left, top, side) in ((found[0], (80, 40, 160)), (found[2], (100, 200, 200)), (found[3], (200, 500, 64))):
        assert face.confidence >= faces.CONFIDENCE
        x, y, w, h = face.box
        assert abs(x + w / 2 - (left + side / 2)) < 0.08 * side
        assert abs(y + h / 2 - (top + side / 2)) < 0.12 * side
        assert 0.4 * side < w < h < side
        expected = np.array([(150, 180), (250, 180), (200, 245), (158, 300), (242, 300)]) * side / 400 + (left, top)
        assert np.abs(face.landmarks - expected).max() < 0.08 * side  # left eye, right eye, nose, mouth corners
    assert found[4].box == pytest.approx(found[0].box, abs=0.01)


def test_detect_nothing():
    assert faces.detect([]) == []
    assert faces.detect([np.zeros((50, 40, 3), np.uint8)] * 2) == [None, None]


@pytest.mark.parametrize(("size", "most"), [((300, 2400), 4), ((1080, 1920), faces.BATCH), ((480, 480), faces.BATCH)])
def test_the_detector_sees_a_bounded_number_of_pixels_at_once(monkeypatch, size, most):
    """Strips are 3,840 px long where their shorter side is 480: sixteen of them took 5 GB."""
    seen = []

    def detect_at(images, side):
        seen.append((len(images), side))
        return [[] for _ in images]

    monkeypatch.setattr(faces, "detect_at", detect_at)
    frame = np.zeros((*size, 3), np.uint8)
    assert faces.detect_all([frame] * 48) == [[]] * 48
    at_480 = [number for number, side in seen if side == 480]
    assert sum(at_480) == 48
    assert max(at_480) <= most
    assert most < faces.BATCH or set(at_480) == {faces.BATCH}


def test_align_puts_landmarks_on_the_template():
    """Dots painted at the template's places, turned and zoomed, come back to where ArcFace expects them."""
    angle, zoom = np.deg2rad(25), 3.0
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = ((faces.TEMPLATE - 56) @ turn.T + (250, 220)).astype(np.float32)
    image = np.zeros((480, 500, 3), np.uint8)
    for x, y in landmarks:
        cv2.circle(image, (round(float(x)), round(float(y))), 6, (255, 255, 255), -1)
    for scale, size in ((1.0, 112), (1.3, 224)):
        aligned = faces.align(image, landmarks, scale, size)
        assert aligned.shape == (size, size, 3)
        expected = ((faces.TEMPLATE - 56) / (112 * scale) + 0.5) * size
        count, _, _, centres = cv2.connectedComponentsWithStats((aligned[..., 0] > 100).astype(np.uint8))
        assert count == 6
        distances = np.linalg.norm(centres[1:, None] - expected, axis=-1)
        assert distances.min(0).max() < 1.5


def test_align_averages_where_it_shrinks():
    board = (np.indices((800, 800)).sum(0) % 2 * 255).astype(np.uint8)
    landmarks = (faces.TEMPLATE * 7).astype(np.float32)
    aligned = faces.align(np.repeat(board[..., None], 3, 2), landmarks, 1.0, 112)
    assert np.abs(aligned.astype(int) - 127).max() < 60
