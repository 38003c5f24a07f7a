"""MTAKD for two CPU cores, on simulated people and attacks; needs no data and no downloads.

    python main.py --config=configs/mtkd_demo.py
    python main.py --config=configs/ablation.py:base=mtkd_demo,seeds=5
    python main.py --config=configs/mtkd_demo.py:data=nuaa,raw_dir=/path/to/NUAA       (attacks on real faces)

One MobileFaceNet recognises people and rejects attacks. Its two teachers, an IResNet of 0.6 M parameters and a ViT of
2.8 M, are trained first where they are missing. Recognition images (160 people) have no live/attack label, attacks have
no identity, and live faces of the attack set have both. With NUAA as the attack set its subjects 1-5 train, 6 is dev
and 7-8 are test; the other people to recognise are simulated.
Cost: rendering 7,350 images and training the teachers, once, then about three minutes on two cores.
"""

from configs import common
from configs.teachers import recognition_demo, vit_demo

VARIANTS = common.MTAKD_VARIANTS
PEOPLE = 200
USERS = {"simulated": 20, "nuaa": 5}  # training people of the attack set, whose live faces have identities, too
SUBJECTS = {"train": "1-5", "dev": "6", "test": "7-8"}  # NUAA's


def get_config(argument: str = ""):
    """Arguments: data (simulated, nuaa), raw_dir, protocol (of simulated: official, 1, 2, 3.1-3.6, 4.1-4.6)."""
    args = common.parse(argument, data="simulated", raw_dir="", protocol="official")
    if args.data not in USERS:
        raise ValueError(f"config argument data={args.data!r}: expected one of {', '.join(USERS)}")
    recognition, spoof = recognition_demo.get_config(f"identities={PEOPLE}"), vit_demo.get_config()
    classes = recognition.model.classes + USERS[args.data]
    recognition.name, spoof.name = "teacher_mtkd_recognition", "teacher_mtkd_spoof"
    spoof.train.update({"epochs": 12.0, "eval_epochs": 3.0})
    spoof.optim.warmup_epochs = 2.0
    recognition.model.classes = classes

    config = common.base("mtkd_demo")
    config.model = {"name": "mobilefacenet", "variant": "original", "width": 16, "image_size": 64, "embedding": 128}
    config.model.update({"classes": classes, "live_head": True, "dtype": "float32"})
    config.data.dataset = f"simulated_identity+{args.data}"
    config.data.raw_dir = args.raw_dir
    config.data.options = {"identities": PEOPLE, "pictures": 12, "size": 64}
    config.data.protocol = "subjects" if args.data == "nuaa" else args.protocol
    config.data.subjects = SUBJECTS if args.data == "nuaa" else {}
    config.data.record_size = 64
    config.data.image_size = 64
    config.data.augment.update({"crop": 0.8, "colour": 0.2, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
    config.data.augment.randaugment.ops = 0
    config.train = {"batch_size": 96, "epochs": 8.0, "eval_epochs": 4.0}
    config.optim.update({"lr": 16e-3, "warmup_epochs": 1.0})
    config.eval.batch_size = 60
    return common.two_tasks(config, recognition, spoof, spoof_stages=((2, 2), (3, 4), (4, 6)))
