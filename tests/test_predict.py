"""Scoring a person's own files: against the evaluation, hostile files, and the command itself. 15 s, 30 s with slow."""

import json
import os
import struct
import sys
import zlib
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from input_pipeline import tables
from input_pipeline.prepare import faces, mtcnn, parts
from input_pipeline.sources import inputs, media
from input_pipeline.stream import pipeline
from kdfas_jax import Scorer, targets
from kdfas_jax.commands import evaluate
from kdfas_jax.commands.cli import flags, verbs
from kdfas_jax.commands.predict import annotated, predict
from kdfas_jax.runs import workdir
from kdfas_jax.training import checkpoint, experiment, step
from tests import tiny as tiny_module
from tests.conftest import leaving_pages_out
from tests.test_faces import draw_face
from tests.video_files import cut_before, write_video

ODD = 'a,"b"\n#\udce9.jpg'  # a comma, quotes, a new line, and a byte that is no UTF-8


def face_of(image):
    height, width = image.shape[:2]
    return faces.Face((0.0, 0.0, float(width), float(height)), parts.UNKNOWN_LANDMARKS, 1.0)


@pytest.fixture
def detector(monkeypatch):
    """Finds no face in a black image, ten in one 100 pixels high, and one, as large as the image, in all others."""

    def detect_all(images):
        return [[face_of(image)] * (0 if not image.any() else 10 if len(image) == 100 else 1) for image in images]

    monkeypatch.setattr(faces, "detect_all", detect_all)


@pytest.fixture(scope="session")
def run(tiny_config, tmp_path_factory):
    """The folder of an evaluated run: random parameters, not trained."""
    folder = str(tmp_path_factory.mktemp("runs") / "tiny")
    args = tiny_module.common.parse(tiny_config.partition(":")[2], raw_dir="", data_dir="")
    config = tiny_module.alone(args, "tiny", 16)
    made = experiment.of_config(config, 48)
    state = jax.jit(lambda: step.init(made))()
    rng = np.random.default_rng(0)
    state = state.replace(params=jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape), state.params))
    workdir.claim(config, folder, pipeline.open_data(config.data, targets.get(config.data.target)).fingerprint)
    with checkpoint.Checkpoints(folder) as checkpoints:
        checkpoints.save(state.replace(step=jax.numpy.asarray(1)), 1.0, {})
    with leaving_pages_out():
        evaluate.evaluate(config, folder)
    return folder


def test_scores_are_those_of_the_evaluation(run, detector, faces_dir, tmp_path):
    """The same files, cropped, stored and decoded the same way; decisions by the run's threshold."""
    found = predict.predict(
        run, [str(faces_dir / "test"), str(faces_dir / "dev")], str(tmp_path / "scores.csv"), batch=7
    )
    evaluated = pd.read_csv(os.path.join(run, "eval", "scores.csv"))
    mine = found.table.assign(video=[os.path.relpath(name, faces_dir) for name in found.table["input"]])
    both = mine.merge(evaluated, on="video", suffixes=("", "_evaluated"))
    assert len(both) == len(mine) == len(evaluated) == 96
    np.testing.assert_allclose(both["score"], both["score_evaluated"], atol=1e-6)
    assert both["score"].std() > 1e-3
    with open(os.path.join(run, "eval", "results.json"), encoding="utf-8") as file:
        threshold = json.load(file)["threshold"]["value"]
    assert ((both["decision"] == "live") == (both["score"] >= threshold)).all()
    assert set(both["decision"]) == {"live", "attack"}
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)[["input", "frame", "score", "decision"]],
        found.table[["input", "frame", "score", "decision"]],
        check_dtype=False,
    )
    assert "96 faces in 96 inputs" in found.summary()


def test_the_scorer_gives_the_scores_decisions_and_flags_of_predict(run, detector, faces_dir, tmp_path):
    images = sorted(map(str, (faces_dir / "test").rglob("*.png")))
    table = predict.predict(run, images, str(tmp_path / "scores.csv")).table
    scored = Scorer.from_run(run)(images)
    assert [len(own) for own in scored] == [1] * len(table)
    np.testing.assert_allclose([own[0].score for own in scored], table["score"], atol=1e-6)
    assert [own[0].decision for own in scored] == table["decision"].tolist()
    assert ["+".join(own[0].flags) for own in scored] == table["flags"].tolist()
    assert table.columns.tolist() == [*predict.COLUMNS, "flags"]
    assert table["flags"].str.contains("edge").all()  # the box is the whole picture


def test_crops_are_taken_as_they_are(run, monkeypatch, faces_dir, tmp_path):
    """Without detection, and without the scale: of the whole picture."""
    monkeypatch.setattr(faces, "detect_all", None)
    image = str(next(iter(sorted((faces_dir / "test").rglob("*.png")))))
    found = predict.predict(run, [image], str(tmp_path / "scores.csv"), cropped=True)
    assert found.table.loc[0, ["x", "y", "w", "h"]].tolist() == [0, 0, 24, 24]
    assert found.scored == 1
    assert found.detecting < found.seconds


def test_annotated_copies(run, detector, tmp_path):
    """A box around each face, in the colour of the decision; the input stays as it is."""
    Image.new("RGB", (160, 120), (90, 90, 90)).save(tmp_path / "grey.png")
    before = (tmp_path / "grey.png").read_bytes()
    found = predict.predict(
        run, [str(tmp_path / "grey.png")], str(tmp_path / "scores.csv"), annotate=str(tmp_path / "copies")
    )
    copy = np.asarray(Image.open(tmp_path / "copies" / "000000-grey.png.jpg")).astype(int)
    assert copy.shape == (120, 160, 3)
    assert np.abs(copy[60, 0] - annotated.COLOURS[found.table.loc[0, "decision"]]).max() < 40
    assert np.abs(copy[100, 80] - 90).max() < 10
    assert (tmp_path / "grey.png").read_bytes() == before
    assert os.listdir(tmp_path / "copies") == ["000000-grey.png.jpg"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output": "file/scores.csv"}, "file/scores.csv cannot be written"),
        ({"output": "folder"}, "folder is no file"),
        ({"annotate": "file/copies"}, "--annotate=.*file/copies: cannot be written"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_scored(run, tmp_path, monkeypatch, options, words):
    monkeypatch.setattr(predict, "crop_scorer", None)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    options = {"output": "scores.csv"} | options
    with pytest.raises((OSError, ValueError), match=words):
        predict.predict(run, ["x.jpg"], **{name: str(tmp_path / path) for name, path in options.items()})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_what_was_scored_before_a_kill_is_kept_and_the_last_table_stays(run, detector, tmp_path, monkeypatch):
    """Rows are in OUTPUT.partial-PID as soon as they are known; OUTPUT is what the last whole call left."""
    for number in range(5):
        picture(seed=number).save(tmp_path / f"{number}.png")
    output, detect_all, seen = tmp_path / "scores.csv", faces.detect_all, []
    output.write_text("last")

    def killed(images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return detect_all(images)

    monkeypatch.setattr(faces, "detect_all", killed)
    images = [str(path) for path in sorted(tmp_path.glob("*.png"))]
    with pytest.raises(KeyboardInterrupt):
        predict.predict(run, images, str(output), batch=2)
    assert output.read_text() == "last"
    partial = tmp_path / f"scores.csv.partial-{os.getpid()}"
    kept = pd.read_csv(partial, keep_default_na=False)
    assert [os.path.basename(name) for name in kept["input"]] == ["0.png", "1.png", "2.png", "3.png"]
    whole = predict.predict(run, images, str(output), batch=2)
    assert not partial.exists()
    assert output.read_text() == tables.to_csv(whole.table)
    pd.testing.assert_frame_equal(pd.read_csv(output, keep_default_na=False)[:4], kept, check_dtype=False)


def test_one_pictures_failure_is_one_row(run, tmp_path, monkeypatch):
    """A picture that takes the detector's memory costs no other its row; a copy that JPEG cannot hold, no score.

    What the call itself writes below an input is no input.
    """

    def detect(images):
        if any(len(image) == 70 for image in images):
            raise MemoryError
        return [[face_of(image[:, :10])] for image in images]

    monkeypatch.setattr(faces, "detect_all", detect)
    picture().save(tmp_path / "a.png")
    picture(height=70).save(tmp_path / "b.png")
    Image.new("RGB", (70_000, 10), (90, 90, 90)).save(tmp_path / "c.png")
    output, copies = tmp_path / "out" / "scores.csv", tmp_path / "out" / "copies"
    found = predict.predict(run, [str(tmp_path)], str(output), annotate=str(copies))
    table = found.table.assign(name=found.table["input"].map(os.path.basename))
    assert table["name"].tolist() == ["a.png", "b.png", "c.png", "c.png"]
    assert table["score"].notna().tolist() == [True, False, True, False]
    assert table["error"].tolist()[:3] == ["", "MemoryError", ""]
    assert table["error"][3].startswith("annotated copy not written: 70000 x 10 pixels")
    assert sorted(os.listdir(copies)) == ["000000-a.png.jpg", "000001-b.png.jpg"]
    assert "1 unreadable inputs, 1 annotated copies not written" in found.summary()
    assert len(pd.read_csv(output)) == 4


def test_reasons_are_on_stderr_and_a_call_that_scores_nothing_leaves_the_last_table(run, detector, tmp_path, capsys):
    """One line each, in which a name forges no other; the table begins with the first errors all the same."""
    black, forged = tmp_path / "black.png", tmp_path / "a\nb.jpg"
    Image.new("RGB", (64, 48)).save(black)
    forged.write_text("no image")
    output = tmp_path / "scores.csv"
    output.write_text("last")
    found = predict.predict(run, [str(black), str(forged)], str(output))
    notes = [
        line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith(str(tmp_path))
    ]
    assert notes[0] == f"{black}: {predict.NO_FACE}"
    assert notes[1].startswith(f"{tmp_path}/a\\nb.jpg: not a readable image")
    assert len(notes) == 2
    assert (found.scored, len(found.table)) == (0, 2)
    assert "0 faces in 2 inputs: 0 live, 0 attack at the threshold" in found.summary()
    assert output.read_text() == "last"
    picture().save(tmp_path / "good.png")
    predict.predict(run, [str(black), str(tmp_path / "good.png")], str(output), batch=1)
    assert pd.read_csv(output)["error"].tolist()[0] == predict.NO_FACE
    assert sorted(path.name for path in tmp_path.iterdir() if "scores" in path.name) == ["scores.csv"]


def test_inputs_are_checked_before_a_library_of_tensors_is_imported(tmp_path, monkeypatch):
    """Neither the config of the run nor the reference nor any library is looked at before the paths."""
    monkeypatch.setitem(sys.modules, "kdfas_jax.commands.predict.predict", None)  # an import of it fails
    (tmp_path / "there.jpg").touch()
    call = verbs.Call(None, str(tmp_path / "no run"), {})
    for given, missing in (
        ({"input": ["there.jpg", "none.jpg"]}, r"none\.jpg"),
        ({"input": ["there.jpg"], "reference": "me.jpg"}, r"me\.jpg"),
    ):
        values = {"input": [], "batch": [], "reference": "", "workdir": ""} | given
        holder = {name.upper(): SimpleNamespace(name=name, value=value) for name, value in values.items()}
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name, flag in holder.items():
                patch.setattr(flags, name, flag)
            with pytest.raises(FileNotFoundError, match=rf"^{missing} does not exist; expected images, videos"):
                verbs.predict(call)
    inputs.check(["webcam:0", str(tmp_path)])


def test_a_photograph_given_as_a_face_crop_is_warned_of(run, tmp_path):
    picture(48, 48).save(tmp_path / "crop.png")
    picture(48, 64).save(tmp_path / "photograph.png")
    images = [str(tmp_path / name) for name in ("crop.png", "photograph.png")]
    found = predict.predict(run, images, str(tmp_path / "scores.csv"), cropped=True)
    assert found.table["flags"].str.contains("oblong").tolist() == [False, True]
    assert "warning: 1 pictures are far from square, so probably no face crops: leave --cropped out" in found.summary()


def claimed(folder, config):
    """A run's folder that has a config alone."""
    workdir.claim(config, str(folder), "none")
    return str(folder)


def test_a_run_that_was_not_evaluated_names_the_command(tiny, tmp_path):
    folder = claimed(tmp_path / "run", tiny)
    with pytest.raises(FileNotFoundError, match=rf"results\.json does not exist.*--mode=eval --workdir={folder}"):
        predict.predict(folder, ["x.jpg"], str(tmp_path / "scores.csv"))
    assert not (tmp_path / "scores.csv").exists()


def test_a_run_of_folds_asks_for_one_of_them(tiny, tmp_path):
    tiny.data.protocol = "siw:2"
    folder = claimed(tmp_path / "run", tiny)
    with pytest.raises(ValueError, match=rf"4 folds.*--workdir={folder}/siw-2\.1"):
        predict.predict(folder, ["x.jpg"], str(tmp_path / "scores.csv"))


def test_a_run_of_another_target_is_refused(tiny, tmp_path):
    tiny.data.target = "identity"
    with pytest.raises(ValueError, match=r"target='identity'; expected a run of 'label' or 'label\+identity'"):
        predict.predict(claimed(tmp_path / "run", tiny), ["x.jpg"], str(tmp_path / "scores.csv"))


# Hostile files: name -> (how it is written, rows with a score, rows with an error, words of that).


def picture(height=48, width=64, seed=0):
    small = np.random.default_rng(seed).integers(30, 226, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height))


def saved(mode="RGB", height=48, **options):
    return lambda path: picture(height).convert(mode).save(path, **options)


def bomb(path, side=30_000):
    """A PNG of 100 bytes that says it has 900 million pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    checked = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(checked))


def truncated(path):
    saved(format="JPEG")(path)
    path.write_bytes(path.read_bytes()[:-200])


def sixteen_bits(path):
    Image.fromarray((np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)).save(path)


def film(path):
    pictures = [picture(seed=seed) for seed in range(20)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(path, exif=exif)


def named(name, write):
    """A file that is not what its suffix says."""

    def make(path):
        write(path.with_name(name))
        path.with_name(name).rename(path)

    return make


def cut_video(path):
    write_video(path)
    cut_before(path, 20)


HOSTILE = {
    "good.jpg": (saved(), 1, 0, ""),
    "truncated.jpg": (truncated, 0, 1, "truncated"),
    "empty.png": (lambda path: path.touch(), 0, 1, "of no format among"),
    "jpeg.png": (saved(format="JPEG"), 1, 0, ""),
    "jpeg.txt": (saved(format="JPEG"), 1, 0, ""),
    "text.jpg": (lambda path: path.write_text("#EXTM3U\n/etc/passwd\n" * 9), 0, 1, "of no format among"),
    "video.jpg": (named("video.avi", write_video), 8, 0, ""),
    "cut.avi": (cut_video, 7, 1, "cannot be decoded"),
    "noise.mp4": (lambda path: path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(range(256))), 0, 1, "cannot be opened"),
    "odd\udce9.avi": (named("odd.avi", write_video), 0, 1, "rename it"),
    "cmyk.jpg": (saved("CMYK"), 1, 0, ""),
    "sixteen.png": (sixteen_bits, 1, 0, ""),
    "float.tif": (saved("F"), 0, 1, "32 bits"),
    "palette.png": (saved("P", transparency=b"\0\x80"), 1, 0, ""),
    "alpha.webp": (saved("RGBA"), 1, 0, ""),
    "film.gif": (film, 8, 0, ""),
    "film.webp": (film, 8, 0, ""),
    "turned.jpg": (turned, 1, 0, ""),
    "bomb.png": (bomb, 0, 1, "exceeds limit"),
    "black.png": (lambda path: Image.new("RGB", (64, 48)).save(path), 0, 1, predict.NO_FACE),
    "ten.png": (saved(height=100), 10, 0, ""),
    "pixel.png": (lambda path: Image.new("RGB", (1, 1), (9, 9, 9)).save(path), 1, 0, ""),
    "dangling.jpg": (lambda path: path.symlink_to("nowhere"), 0, 1, "no such file"),
    "pipe.jpg": (os.mkfifo, 0, 1, "not a regular file"),
    ODD: (named("plain.jpg", saved()), 1, 0, ""),
}


SEVERAL = ("video.jpg", "cut.avi", "film.gif", "film.webp")  # of more frames than one


def test_two_hundred_hostile_files(run, detector, tmp_path):
    """Each has its rows, in order, in a folder that holds itself; the CSV reads back as it was written."""
    root = tmp_path / "hostile"
    for number in range(8):
        folder = root / f"{number}"
        folder.mkdir(parents=True)
        for name, (write, *_) in HOSTILE.items():
            write(folder / name)
    (root / "0" / "loop").symlink_to(root)
    found = predict.predict(run, [str(root)], str(tmp_path / "scores.csv"), annotate=str(tmp_path / "copies"))
    table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False, na_values={"score": [""]})
    assert table["input"].nunique() == 8 * len(HOSTILE) == 200
    assert found.inputs == 200
    for name, (_, scored, errors, words) in HOSTILE.items():
        written = name.replace("\udce9", "\\xe9")
        rows = table[table["input"].str.endswith(f"/{written}")]
        scored += name in SEVERAL  # and a row of the whole
        assert rows["score"].notna().sum() == 8 * scored, name
        assert (rows["error"] != "").sum() == 8 * errors, name
        assert rows["error"][rows["error"] != ""].str.contains(words, regex=False).all(), rows["error"].tolist()
        assert rows["decision"].isin(["live", "attack"]).sum() == 8 * scored
    whole, cut = (
        table[table["input"].str.endswith(f"/0/{name}")]["frame"].tolist() for name in ("video.jpg", "cut.avi")
    )
    assert cut == [*whole[:7], "", ""]  # the error, and the mean of seven
    assert whole[8:] == [""]
    upright = table[table["input"].str.endswith("turned.jpg")]
    assert (upright["w"].astype(float) == 48).all()
    assert "8 images or frames without a face" in found.summary()
    assert len(os.listdir(tmp_path / "copies")) == found.frames


def test_a_name_forges_no_row_and_runs_in_no_spreadsheet(run, detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "=1+1\rforged.jpg,0,0,0,9,9,1.0,live,\r"
    saved(format="PNG")(name)
    found = predict.predict(run, [name])
    assert found.table["input"].tolist() == [name]
    table = pd.read_csv("scores.csv")
    assert table["input"].tolist() == [f"'{name}"]
    assert table["score"][0] == pytest.approx(found.table["score"][0])


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    image = media.load_image(tmp_path / "grey.png")
    np.testing.assert_array_equal(image, np.repeat((values // 256)[..., None], 3, axis=2))


def test_an_animated_image_is_taken_as_a_video(tmp_path):
    film(tmp_path / "film.webp")
    numbers = [frame.number for frame in media.image_frames(tmp_path / "film.webp", 4)]
    assert numbers == [2, 7, 12, 17]
    for frame in media.image_frames(tmp_path / "film.webp", 4):
        assert np.abs(frame.image.astype(int) - np.asarray(picture(seed=frame.number))).mean() < 12
    first = media.load_image(tmp_path / "film.webp")
    assert np.abs(first.astype(int) - np.asarray(picture(seed=0))).mean() < 12


def gif(path, side=9_400, frames=200):
    """A GIF of 23 bytes a frame: pixels of one corner change on a canvas of `side` x `side`."""

    def frame(number):
        pixel = 4 | (number % 2) << 3 | 5 << 6  # LZW: clear, the pixel, end; three bits each
        place = struct.pack("<BHHHHB", 0x2C, number, number, 1, 1, 0)
        return b"\x21\xf9\x04\x05\0\0\0\0" + place + bytes([2, 2, pixel & 255, pixel >> 8, 0])

    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0xF0, 0, 0) + bytes([10, 10, 10, 90, 90, 90])
    path.write_bytes(head + b"".join(map(frame, range(frames))) + b";")


def test_an_input_that_takes_too_long_to_decode_is_refused_at_once(monkeypatch, tmp_path):
    """5 kB that were 18 billion pixels, and more than a minute; frames after the last that is taken do not count."""
    gif(tmp_path / "huge.gif")
    ((frame, error),) = inputs.frames_of(inputs.find([str(tmp_path / "huge.gif")])[0])
    assert frame is None
    assert "188 frames of 9400 x 9400 pixels" in error
    gif(tmp_path / "small.gif", side=10, frames=20)
    write_video(tmp_path / "video.avi")
    for name, limit, needed, last in (
        ("small.gif", "ANIMATION_PIXELS", 11 * 100, "11 frames of 10 x 10"),
        ("video.avi", "VIDEO_PIXELS", 13 * 64 * 96, "13 frames of 64 x 96"),
    ):
        (source,) = inputs.find([str(tmp_path / name)], 1)
        monkeypatch.setattr(media, limit, needed)
        assert [error for _, error in inputs.frames_of(source)] == [""]
        monkeypatch.setattr(media, limit, needed - 1)
        ((frame, error),) = inputs.frames_of(source)
        assert frame is None
        assert last in error
        assert "scale it down or shorten it" in error


def test_inputs_are_found_below_folders_once_and_in_order(tmp_path):
    for name in ("b/2.jpg", "b/10.jpg", "a.jpg", ".hidden/x.jpg", "b/._2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "empty").mkdir()
    found = [source.name for source in inputs.find([str(tmp_path), "webcam:1", str(tmp_path / "empty"), "none.jpg"])]
    below = [str(tmp_path / name) for name in ("a.jpg", "b/10.jpg", "b/2.jpg")]
    assert found == [*below, "webcam:1", str(tmp_path / "empty"), "none.jpg"]
    reasons = [list(inputs.frames_of(source))[-1][1] for source in inputs.find([str(tmp_path / "empty"), "none.jpg"])]
    assert reasons == ["the folder contains no file", "no such file"]


@pytest.mark.parametrize(("name", "words"), [("webcam:front", "expected the number"), ("webcam:97", "no image")])
def test_a_webcam_that_is_not_there(name, words):
    (frame, error), *_ = inputs.frames_of(inputs.find([name])[0])
    assert frame is None
    assert words in error


def test_a_webcam_gives_frames(monkeypatch):
    class Camera:
        def __init__(self, number):
            assert number == 3
            self.read_so_far = 0

        def read(self):
            self.read_so_far += 1
            return True, np.full((4, 6, 3), (self.read_so_far, 0, 0), np.uint8)

        def release(self):
            pass

    monkeypatch.setattr(inputs.cv2, "VideoCapture", Camera)
    frames = [frame for frame, _ in inputs.frames_of(inputs.find(["webcam:3"], 2)[0])]
    assert [frame.number for frame in frames] == [inputs.STRIDE, 2 * inputs.STRIDE]
    assert [frame.image[0, 0].tolist() for frame in frames] == [[0, 0, inputs.STRIDE], [0, 0, 2 * inputs.STRIDE]]


@pytest.mark.parametrize(
    ("head", "is_video"),
    [
        (b"RIFF\0\0\0\0AVI LIST", True),
        (b"\0\0\0\x20ftypmp42", True),
        (b"\0\0\0\x14ftypqt  ", True),
        (b"\x1aE\xdf\xa3", True),
        (b"\0\0\0\x18ftypheic", False),
        (b"\0\0\0\x18ftypmif1", False),
        (b"\0\0\0\x18ftypavif", False),
        (b"RIFF\0\0\0\0WEBPVP8 ", False),
        (b"#EXTM3U\n", False),
    ],
)
def test_a_video_is_told_by_its_first_bytes(head, is_video):
    assert bool(inputs.VIDEO.match(head)) == is_video


def test_a_ribbon_is_not_blown_up(monkeypatch):
    """1 x 20,000 pixels at a shorter side of 160 would be 9 GB."""
    monkeypatch.setattr(mtcnn, "detect", None)
    assert faces.detect_all([np.ones((1, 20_000, 3), np.uint8)]) == [[]]


def test_large_frames_are_looked_at_in_smaller_groups(monkeypatch):
    monkeypatch.setattr(predict, "PIXELS", 100)

    def looked(side):
        return predict.Looked("x", media.Frame(0, np.zeros((side, side, 3), np.uint8)), "")

    stream = [looked(side) for side in (5, 5, 5, 20, 1, 1, 1, 1, 1)] + [predict.Looked("y", None, "broken")]
    assert [len(group) for group in predict.grouped(stream, 5)] == [4, 5, 1]


@pytest.mark.slow
def test_the_command_on_drawn_faces(run, run_main, tmp_path):
    """MTCNN finds both of two faces, the larger first; what cannot be read costs nobody else his row."""
    image = np.full((480, 320, 3), (120, 130, 140), np.uint8)
    draw_face(image, 10, 10, 120)
    draw_face(image, 100, 200, 200)
    Image.fromarray(image).save(tmp_path / "two.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    output = tmp_path / "out" / "scores.csv"
    done = run_main("--mode=predict", f"--workdir={run}", f"--input={tmp_path}", f"--output={output}")
    assert "2 faces in 2 inputs" in done.stdout
    assert "1 unreadable" in done.stdout
    table = pd.read_csv(output)
    assert table.columns.tolist() == [*predict.COLUMNS, "flags"]
    assert [os.path.basename(name) for name in table["input"]] == ["broken.jpg", "two.png", "two.png"]
    assert table["w"][1] > table["w"][2] > 40
    refused = run_main(
        "--mode=predict", f"--workdir={run}", f"--input={tmp_path / 'broken.jpg'}", f"--output={output}", check=False
    )
    assert refused.returncode == 1
    assert "no face could be scored" in refused.stderr
    assert "broken.jpg: not a readable image" in refused.stderr
    pd.testing.assert_frame_equal(pd.read_csv(output), table)


def test_the_command_without_an_input(run_main, tmp_path):
    done = run_main("--mode=predict", f"--workdir={tmp_path}", check=False)
    assert done.returncode == 1
    assert "--mode=predict needs --input=PATH" in done.stderr


def test_a_video_has_a_row_of_its_own_with_the_mean_of_its_frames(run, detector, tmp_path):
    """Ten faces in a frame of 100 pixels: the largest, which comes first, counts; a picture has no such row."""
    frames = [picture(seed=seed) for seed in range(20)]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], duration=40)
    picture(100).save(tmp_path / "group.png")
    still = [Image.new("RGB", (64, 48)), picture(seed=1)]
    still[0].save(tmp_path / "still.webp", save_all=True, append_images=still[1:], duration=40, lossless=True)
    names = [str(tmp_path / name) for name in ("film.webp", "film.webp", "group.png", "still.webp")]
    found = predict.predict(run, names, str(tmp_path / "scores.csv"), frames=5, batch=3)
    table = found.table
    whole = table[table["frame"].isna()]
    assert [os.path.basename(name) for name in whole["input"]] == ["film.webp", "film.webp", "still.webp"]
    assert whole.index.tolist() == [5, 11, 24]  # after the rows of their frames
    for place in (5, 11):
        assert table["score"][place] == pytest.approx(table["score"][place - 5 : place].mean())
    threshold = found.threshold["value"]
    assert whole["decision"].tolist() == ["live" if score >= threshold else "attack" for score in whole["score"]]
    assert table["score"][24] == table["score"][23]  # the other frame has no face
    assert whole["x"].isna().all()
    assert found.scored == 5 + 5 + 10 + 1
    assert "21 faces in 4 inputs" in found.summary()
    live = (whole["decision"] == "live").sum()
    assert f"3 videos, by the mean of their frames: {live} live, {3 - live} attack" in found.summary()
    kept = pd.read_csv(tmp_path / "scores.csv")
    assert len(kept) == len(table)
