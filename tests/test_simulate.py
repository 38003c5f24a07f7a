"""The renderer: parameters free of the label, one picture for one name, faces that a detector finds.

About 10 s on two idle cores; the slow ones, which render (one compilation a size), another 90 s.
"""

import pickle

import jax
import numpy as np
import pytest

from input_pipeline.datasets import simulated
from input_pipeline.schema import LIVE
from input_pipeline.select import protocols
from input_pipeline.simulate import noise, render, scene
from input_pipeline.simulate.capture import camera, instruments
from tests.conftest import listed_table


def parameters(*numbers, domain=0):
    """The parameters of as many images as there are users, always: one program takes seconds to compile."""
    rows = [np.broadcast_to(np.int32(number), scene.USERS) for number in numbers]
    return jax.device_get(scene.draw_parameters(rows, scene.seed_of_domain(0, domain), domain))


@pytest.fixture(scope="module")
def drawn():
    """Parameters of all live and print1, replay1 videos of one phone and session: arrays [3, users]."""
    return [parameters(np.arange(1, scene.USERS + 1), 2, 1, access, 0) for access in (1, 2, 4)]


@pytest.mark.parametrize("group", ["now", "camera", "light"])
def test_nuisances_of_live_and_attack_share_one_distribution(drawn, group):
    live, *attacks = (p[group] for p in drawn)
    for name in live:
        a = np.asarray(live[name])
        for attack in attacks:
            b = np.asarray(attack[name])
            assert not np.array_equal(a, b)  # drawn afresh for each video
            error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b)) + 1e-6
            assert np.all(np.abs(a.mean(0) - b.mean(0)) < 4.5 * error), name


@pytest.mark.slow
def test_face_and_room_of_a_picture_share_its_light(monkeypatch):
    """Of attacks as of live faces: a room in another light than the face before it would tell one from the other."""
    rooms, heads, lit = scene.render_rooms, scene.render_heads, []
    monkeypatch.setattr(scene, "render_rooms", lambda keys, light, size: lit.append(light) or rooms(keys, light, size))
    monkeypatch.setattr(
        scene, "render_heads", lambda who, p, light, *rest: lit.append(light) or heads(who, p, light, *rest)
    )
    scene.render(1, 1, 1, [1, 2, 4], size=32)
    (live_room, live_head, room, head, around) = lit
    for one, other in ((live_room, live_head), (room, head)):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    assert (np.asarray(around["behind"]) != np.asarray(room["behind"])).all()  # past the instrument it is the camera's


def test_identity_belongs_to_the_user_alone():
    videos = (7, 1, 1, 1, 0), (7, 4, 3, 5, 9), (8, 1, 1, 1, 0)
    first, again, other = (parameters(*numbers)["who"] for numbers in videos)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for name in ("seed", "tone", "lip_red"):  # paint
        assert not np.any(first[name] == other[name]), name
    assert np.mean(first["build"] == other["build"]) < 0.1


def test_the_source_of_a_print_stands_still_and_of_a_replay_moves():
    (printed, later), (replayed, moved) = (
        [parameters(3, 1, 1, access, frame)["now"] for frame in (0, 5)] for access in (2, 4)
    )
    assert printed["yaw"][0] == later["yaw"][0]
    assert replayed["yaw"][0] != moved["yaw"][0]
    assert printed["shift_x"][0] != later["shift_x"][0]  # the phone moves in front of either


def test_instrument_families_differ():
    draw = jax.jit(jax.vmap(lambda *kind: instruments.draw_instrument(noise.fold(0, 1), *kind)))
    tools = draw(np.array([False, False, True, True]), np.array([1, 2, 1, 2]))
    assert len(np.unique(tools["lines"])) == 4
    assert tools["replay"].tolist() == [0, 0, 1, 1]


def test_white_noise_has_zero_mean_and_unit_variance():
    values = np.asarray(jax.jit(lambda: noise.white(noise.fold(0, 3), (200, 200)))())
    np.testing.assert_allclose([values.mean(), values.std()], [0.0, 1.0], atol=0.02)
    assert abs(np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]) < 0.02


def test_compression_keeps_flat_areas_and_loses_more_when_coarser():
    image = np.random.default_rng(0).uniform(0.3, 0.7, (36, 44, 3)).astype(np.float32)
    compress = jax.jit(camera.compress)
    errors = [float(np.abs(np.asarray(compress(image, step)) - image).mean()) for step in (1e-4, 0.02, 0.1)]
    assert errors[0] < 1e-3 < errors[1] < errors[2]
    flat = np.full_like(image, 0.5)
    np.testing.assert_allclose(compress(flat, 0.01), flat, atol=2e-3)


def test_blur_keeps_the_level_at_the_border():
    blur = jax.jit(lambda sigma: camera.gaussian(sigma, 24))(2.0)
    np.testing.assert_allclose(np.asarray(blur).sum(1), 1.0, rtol=1e-5)


def test_the_set_has_the_shape_of_oulu():
    presentations = list(simulated.read())
    assert len(presentations) == len({p.video for p in presentations}) == 55 * 6 * 3 * 5
    live = {split: sum(p.label for p in presentations if p.split == split) for split in ("train", "dev", "test")}
    assert live == {"train": 20 * 18, "dev": 15 * 18, "test": 20 * 18}
    assert {(p.species, p.medium) for p in presentations} == {
        (LIVE, ""), ("print1", "1"), ("print2", "2"), ("replay1", "1"), ("replay2", "2")
    }  # fmt: skip
    first = presentations[0]
    assert (first.video, first.subject, first.sensor, first.session, first.cropped, first.frames) == (
        "1_1_01_1",
        "01",
        "1",
        "1",
        True,
        1,
    )


def test_options_choose_videos_and_their_length():
    options = {"users": (1, 36), "phones": [2], "sessions": (1, 3), "frames": 3}
    presentations = list(simulated.read(**options))
    assert [p.video for p in presentations[4:7]] == ["2_1_01_5", "2_3_01_1", "2_3_01_2"]
    assert (len(presentations), {p.frames for p in presentations}) == (20, {3})


def test_further_people_train():
    """More of them than OULU-NPU has: users from 56 on, in the reader and in its protocols."""
    videos = listed_table(list(simulated.read(users=(20, 21, 36, 56, 300), phones=(1,), sessions=(1, 3))))
    for protocol in ("1", "official"):
        roles = videos["subject"].groupby(protocols.assign(videos, protocol)).unique()
        assert set(roles["train"]) == {"20", "56", "300"}
        assert (set(roles["dev"]), set(roles["test"])) == ({"21"}, {"36"})


@pytest.mark.parametrize("frames", [1, 3, 8, 11])
def test_a_video_has_its_own_frames_wherever_it_is_loaded(monkeypatch, frames):
    """A renderer that writes its numbers into the picture; videos are loaded in another order, elsewhere."""

    def render(*numbers, size, seed, cue, domain):
        return np.stack(np.broadcast_arrays(*numbers), 1)

    monkeypatch.setattr(scene, "render", render)
    simulated.render_chunk.cache_clear()
    presentations = list(simulated.read(users=(4, 9), phones=(2,), sessions=(3,), frames=frames))
    for presentation in pickle.loads(pickle.dumps(presentations[::-1])):
        phone, session, user, access = (int(number) for number in presentation.video.split("_"))
        shown = [(frame.number, *frame.image) for frame in presentation.load()]
        assert shown == [(number, user, phone, session, access, number) for number in range(frames)]
    assert simulated.render_chunk.cache_info().currsize <= 2
    simulated.render_chunk.cache_clear()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"users": (0,)}, "users"),
        ({"users": (1000,)}, "users"),
        ({"phones": (7,)}, "phones"),
        ({"frames": 0}, "frames"),
        ({"size": 8}, "size"),
        ({"cue": 2.0}, "cue"),
        ({"domains": ("simulated-siw",)}, "unknown domain 'simulated-siw'"),
        ({"domains": ()}, "domains"),
    ],
)
def test_an_option_out_of_range_is_named(options, name):
    with pytest.raises(ValueError, match=name):
        list(simulated.read(**options))


def test_domains_have_people_of_their_own_and_fit_the_protocol():
    names = scene.domains.DOMAINS[1:]
    presentations = list(simulated.read(users=(1, 21, 36), phones=(1,), sessions=(1,), domains=names))
    assert len({p.video for p in presentations}) == len(presentations) == 4 * 15
    assert len({p.subject for p in presentations}) == 12
    rows = listed_table(presentations).assign(frame=0)
    assert set(rows["species"][rows["domain"] == "simulated-casia"]) == {LIVE, "print1", "cut", "replay1", "replay2"}
    roles = protocols.assign(rows, "ocim:OCI-M")
    assert set(rows["domain"][roles == "train"]) == set(names) - {"simulated-msu"}
    assert set(rows["domain"][roles == "test"]) == {"simulated-msu"}
    people = [parameters(7, 1, 1, 1, 0, domain=domain)["who"]["tone"][0] for domain in range(5)]
    assert len({float(tone) for tone in people}) == 5


def test_attributes_say_what_is_drawn():
    users = np.arange(1, scene.USERS + 1)
    labels = scene.attributes(users)
    assert all(set(np.unique(values)) <= {0, 1} for values in labels.values())
    colours = sum(labels[name] for name in ("Bald", "Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair"))
    np.testing.assert_array_equal(colours, 1)
    assert not np.any(labels["Mustache"] & (1 - labels["Male"]))
    for name in ("Eyeglasses", "Male", "Young", "Black_Hair", "No_Beard", "Bangs"):
        assert 0.05 < labels[name].mean() < 0.95, name
    again = scene.attributes(users, 4, 3, 5, 9)
    changing = {name for name in labels if not np.array_equal(labels[name], again[name])}
    assert changing == {"Mouth_Slightly_Open", "Smiling"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "rows", "columns"),
    [
        ("glasses", (0.5, 0.95), (16, 32), (11, 53)),  # around the eyes
        ("grey", (0.0, 1.0), (0, 30), (11, 53)),  # hair and brows
        ("beard", (0.0, 1.0), (39, 56), (19, 45)),
        ("smile", (-0.3, 1.0), (32, 51), (16, 48)),
    ],
)
def test_an_attribute_changes_its_part_of_the_picture(name, value, rows, columns):
    """Of eight men straight ahead at 64 px: most of the change lies where it should."""
    p = scene.draw_parameters(
        [np.arange(1, 9, dtype=np.int32), *([np.ones(8, np.int32)] * 3), np.zeros(8, np.int32)], 0, 0
    )
    p["now"] |= dict.fromkeys(("yaw", "pitch", "roll", "shift_x", "shift_y"), np.zeros(8, np.float32))
    p["now"]["zoom"] = np.ones(8, np.float32)
    p["who"] |= {"masculine": np.ones(8, np.float32), "hair_style": np.full(8, 0.4, np.float32)}
    room = scene.render_rooms(p["room"], p["light"], 64)

    def head(new):
        part = "now" if name in p["now"] else "who"
        changed = p | {part: p[part] | {name: np.full(8, new, np.float32)}}
        return np.asarray(scene.render_heads(changed["who"], changed, p["light"], room, 64))

    change = np.abs(head(value[1]) - head(value[0])).mean((0, 3))
    assert change[slice(*rows), slice(*columns)].sum() > 0.6 * change.sum() > 0


def test_render_names_a_number_out_of_range():
    with pytest.raises(ValueError, match=r"user must be in 1\.\.999"):
        render(1000, 1, 1, 1)


@pytest.mark.slow
def test_pictures_depend_on_their_name_and_seed_alone():
    access = np.arange(1, 6)
    together = render(3, 2, 1, access, size=32)
    alone = np.concatenate([render(3, 2, 1, a, size=32) for a in access[::-1]])[::-1]
    np.testing.assert_array_equal(together, alone)
    assert (together.shape, together.dtype) == ((5, 32, 32, 3), np.uint8)
    assert np.abs(render(3, 2, 1, access, size=32, seed=1).astype(int) - together).mean() > 5
    presentations = simulated.read(size=32, users=(3,), phones=(2,), sessions=(1,))
    np.testing.assert_array_equal([frame.image for p in presentations for frame in p.load()], together)


@pytest.mark.slow
def test_without_cue_an_attack_is_a_face_before_the_phone():
    """With the full cue prints lose their black; without any they keep that of live faces, and their contrast."""
    users = np.arange(1, 41)
    bare, full = (render(users, 1, 1, 3, size=32, cue=cue).mean(-1) for cue in (0.0, 1.0))
    live = render(users, 1, 1, 1, size=32).mean(-1)
    black = [np.percentile(x, 1, axis=(1, 2)).mean() for x in (bare, full, live)]
    assert black[1] > 1.2 * black[0]
    assert abs(black[2] / black[0] - 1.0) < 0.15
    assert abs(live.std((1, 2)).mean() / bare.std((1, 2)).mean() - 1.0) < 0.1


@pytest.mark.slow
def test_a_detector_finds_the_faces():
    mtcnn = pytest.importorskip("mtcnn")
    users = np.arange(1, 21)
    images = render(users, users % 6 + 1, users % 3 + 1, 1, size=64)
    detector = mtcnn.MTCNN()
    found = [bool(detector.detect_faces(np.pad(image, ((16, 16), (16, 16), (0, 0)), mode="edge"))) for image in images]
    assert np.mean(found) >= 0.9
