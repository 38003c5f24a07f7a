"""Real videos in the containers of the data sets, miniatures of the sets, and full-size trees of empty files.

A miniature (`casia_miniature`, ...) holds short videos under real names, with their annotation. A tree (`oulu_tree`,
...) holds every name of a set, by rule from its description, with the lists that its reader needs. Both return `root`.
"""

import itertools
import struct

import cv2
import numpy as np

SIZE = (64, 96)  # width, height
LENGTH = 24
# The subjects of MSU-MFSD's own lists.
MSU_TRAIN = (2, 3, 5, 6, 7, 8, 9, 11, 12, 21, 22, 34, 53, 54, 55)
MSU_TEST = (1, 13, 14, 23, 24, 26, 28, 29, 30, 32, 33, 35, 36, 37, 39, 42, 48, 49, 50, 51)


def colour(number):
    """What the upper half of frame `number` shows: red is told from blue, and each frame from its neighbours."""
    return np.array([220 - 9 * number, 60, 10 * number], np.uint8)


def shown(image):
    """The number of the frame that `image`, or a crop of it, shows; it must be upright: its lower part is black."""
    quarter = len(image) // 4
    assert image[-quarter:].max() < 30
    upper = image[:quarter].reshape(-1, 3).astype(int)
    assert np.ptp(upper, axis=0).max() <= 6  # compression
    distances = [np.abs(upper.mean(0) - colour(number)).max() for number in range(LENGTH)]
    assert min(distances) < 5  # of 10 between neighbours
    return int(np.argmin(distances))


def write_video(path, length=LENGTH, upside_down=False):
    """A video of `length` frames, MJPEG in .avi, MPEG-4 in .mov and .mp4.

    upside_down: as a phone held so records it: turned pictures, and a matrix in the file that says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter_fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, 30, SIZE)
    assert writer.isOpened()
    for number in range(length):
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        image[: SIZE[1] // 2] = colour(number)[::-1]
        writer.write(np.rot90(image, 2).copy() if upside_down else image)
    writer.release()
    if upside_down:
        content = bytearray(path.read_bytes())
        matrix = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2: in version 0, 40 bytes lie between them
        half_turn = (-1 << 16, 0, 0, 0, -1 << 16, 0, SIZE[0] << 16, SIZE[1] << 16, 1 << 30)
        content[matrix : matrix + 36] = struct.pack(">9i", *half_turn)
        path.write_bytes(content)


def cut_before(path, number):
    """Cuts an .avi video off where frame `number` begins."""
    content = path.read_bytes()
    position = content.index(b"movi")
    for _ in range(number + 1):
        position = content.index(b"00dc", position + 1)
    path.write_bytes(content[:position])


# Video -> what its face file holds; None for no such file.
REPLAY = {
    "train/real/client001_session01_webcam_authenticate_controlled_1": "0 20 10 30 40\n1 21 11 31 41\n",
    "train/attack/fixed/attack_print_client001_session01_highdef_photo_controlled": "0 0 0 0 0\n1 -3 10 30 40\n",
    "train/attack/hand/attack_print_client001_session01_highdef_photo_controlled": None,
    "devel/real/client016_session01_webcam_authenticate_adverse_2": "0 0 0 0 0\r\n1 0 0 0 0\r\n",
    "devel/attack/fixed/attack_mobile_client016_session01_mobile_video_adverse": "",
    "devel/attack/hand/attack_mobile_client016_session01_mobile_photo_controlled": "0 20 10 30 40\n",
    "test/real/client009_session01_webcam_authenticate_controlled_2": "0 20 10 30 40\n",
    "test/attack/fixed/attack_highdef_client009_session01_highdef_photo_adverse": "0 200 10 30 40\n",
    "test/attack/hand/attack_highdef_client009_session01_highdef_video_controlled": "0 20 10 30 40\n",
}
MSU = {
    "real/real_client001_android_SD_scene01.mp4": "0,20,10,50,50,30,20,40,20\n1,22,12,50,50,30,20,40,20\n",
    "real/real_client001_laptop_SD_scene01.mov": "0, 20, 10, 50, 50, 30, 20, 40, 20\n",
    "real/real_client003_android_SD_scene01.mp4": "0,20,10,50,50,30,20,40,20\n",
    "attack/attack_client001_android_SD_ipad_video_scene01.mp4": "0,20,10,50,50,nobody,knows\n",
    "attack/attack_client002_android_SD_iphone_video_scene01.mp4": "0,20,10,50,50,30,20,40,20\n",
    "attack/attack_client055_laptop_SD_printed_photo_scene01.mov": None,
    "attack/attack_client099_laptop_SD_printed_photo_scene01.mov": "0,50,50,20,10,30,20,40,20\n",
}
SIW = {
    "Train/live/003/003-1-1-1-1.mov": "20 10 50 50\n22 12 50 50\n",
    "Train/live/003/003-2-1-2-2.mp4": "0 0 0 0\n-4,10,50,50\n",
    "Train/spoof/003/003-1-2-2-1.mov": "nothing\n20 10 50 50\n",
    "Train/spoof/005/005-2-3-4-2.mp4": "0 0 0 0\n0 0 0 0\n",
    "Test/live/001/001-1-1-1-1.mov": None,
    "Test/spoof/001/001-1-3-1-1.mov": "20 10 50 50\n",
}


def casia_miniature(root):
    """The twelve clips of a subject, another person under the same number, and a face file that is not the set's."""
    for clip in (*range(1, 9), "HR_1", "HR_2", "HR_3", "HR_4"):
        write_video(root / f"train_release/1/{clip}.avi", 3)
    write_video(root / "test_release/1/1.avi")
    (root / "train_release/1/1.face").write_text("0 1 2 30 40\n")
    return root


def replay_miniature(root):
    """A video in each folder; boxes, some wrong, some missing; the enrollment set beside."""
    for name, content in REPLAY.items():
        _annotated(root / f"{name}.mov", root / f"face-locations/{name}.face", content)
    write_video(root / "enroll/train/client001_session01_webcam_enroll_controlled_1.mov", 2)
    return root


def msu_miniature(root):
    """Both devices and all instruments, one phone held upside down; subject 99 is in no list."""
    for name, content in MSU.items():
        path = root / "scene01" / name
        _annotated(path, path.with_suffix(".face"), content, upside_down="003" in name)
    (root / "train_sub_list.txt").write_bytes(b"02\r\n3\r\n55\r\n\r\n")
    (root / "test_sub_list.txt").write_bytes(b"01\n13")
    return root


def siw_miniature(root):
    """Both sensors, live faces, a print and two displays; boxes with spaces and commas, zeros, none."""
    for name, content in SIW.items():
        path = root / name
        _annotated(path, path.with_suffix(".face"), content)
    return root


def _annotated(path, face, content, upside_down=False):
    """A video of two frames and its face file."""
    write_video(path, 2, upside_down)
    if content is not None:
        face.parent.mkdir(parents=True, exist_ok=True)
        face.write_bytes(content.encode())


def oulu_tree(root):
    """OULU-NPU: 55 users x 6 phones x 3 sessions x 5 accesses, users 1-20 train, 21-35 dev, 36-55 test; no lists."""
    names = []
    for phone, session, user, access in itertools.product(range(1, 7), range(1, 4), range(1, 56), range(1, 6)):
        folder = "Train_files" if user <= 20 else "Dev_files" if user <= 35 else "Test_files"
        names.append(f"{folder}/{phone}_{session}_{user:02d}_{access}.avi")
    return _touch(root, names)


def casia_tree(root):
    """CASIA-FASD: 20 and 30 subjects x 12 clips."""
    clips = (*range(1, 9), "HR_1", "HR_2", "HR_3", "HR_4")
    train = [f"train_release/{subject}/{clip}.avi" for subject in range(1, 21) for clip in clips]
    test = [f"test_release/{subject}/{clip}.avi" for subject in range(1, 31) for clip in clips]
    return _touch(root, train + test)


def replay_tree(root):
    """Replay-Attack: 15, 15 and 20 clients; 4 live videos a client, and 10 attacks on each of two supports."""
    instruments = (
        ("print", "highdef_photo"),
        ("mobile", "mobile_photo"),
        ("mobile", "mobile_video"),
        ("highdef", "highdef_photo"),
        ("highdef", "highdef_video"),
    )
    names = []
    for split, clients in (("train", range(1, 16)), ("devel", range(16, 31)), ("test", range(31, 51))):
        for client, light in itertools.product(clients, ("controlled", "adverse")):
            person = f"client{client:03d}_session01"
            names += [f"{split}/real/{person}_webcam_authenticate_{light}_{take}.mov" for take in (1, 2)]
            for support, (instrument, content) in itertools.product(("fixed", "hand"), instruments):
                names.append(f"{split}/attack/{support}/attack_{instrument}_{person}_{content}_{light}.mov")
    return _touch(root, names)


def msu_tree(root):
    """MSU-MFSD: 35 subjects x 2 devices x 4 presentations, and the two lists of subjects."""
    names = []
    devices = (("android", "mp4"), ("laptop", "mov"))
    for subject, (device, suffix) in itertools.product(MSU_TRAIN + MSU_TEST, devices):
        stem = f"client{subject:03d}_{device}_SD"
        names.append(f"scene01/real/real_{stem}_scene01.{suffix}")
        for instrument in ("ipad_video", "iphone_video", "printed_photo"):
            names.append(f"scene01/attack/attack_{stem}_{instrument}_scene01.{suffix}")
    _touch(root, names)
    for split, subjects in (("train", MSU_TRAIN), ("test", MSU_TEST)):
        (root / f"{split}_sub_list.txt").write_text("\n".join(f"{subject:02d}" for subject in subjects))
    return root


def siw_tree(root):
    """In the shape of SiW: subjects 001-075 test, 076-165 train; of each 4 live videos, 2 prints and 4 replays."""
    kinds = [("live", 1, medium, sensor) for medium in (1, 2) for sensor in (1, 2)]
    kinds += [("spoof", 2, medium, 1) for medium in (1, 2)]
    kinds += [("spoof", 3, medium, 2) for medium in (1, 2, 3, 4)]
    names = []
    for subject, (folder, kind, medium, sensor) in itertools.product(range(1, 166), kinds):
        split, suffix = "Test" if subject <= 75 else "Train", "mov" if sensor == 1 else "mp4"
        names.append(f"{split}/{folder}/{subject:03d}/{subject:03d}-{sensor}-{kind}-{medium}-1.{suffix}")
    return _touch(root, names)


def _touch(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root
