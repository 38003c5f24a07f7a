"""A face recogniser for two CPU cores, on simulated people; needs no data and no downloads.

    python main.py --config=configs/teachers/recognition_demo.py
    python main.py --mode=verify --workdir=runs/recognition_demo --raw_dir=/path/to/orl

An IResNet of 0.6 M parameters, ArcFace on 160 people; dev and test are pairs of images of 20 further people each.
Cost: two and a half minutes on two busy cores, half a minute of them rendering 2,400 images, once. Seed 0, 2026-11-27:
AUC 0.966 on the test people, 0.936 on ORL, where raw pixels give 0.904.
"""

import itertools

from configs import common
from input_pipeline.schema import PERSON_SPLITS


def get_config(argument: str = ""):
    """Arguments: identities (eight in ten train)."""
    args = common.parse(argument, identities=200)
    splits = itertools.islice(itertools.cycle(PERSON_SPLITS), args.identities)
    config = recogniser("recognition_demo", classes=sum(split == "train" for split in splits))
    config.model.update({"variant": "18", "width": 16, "blocks": (1, 1, 1, 1), "embedding": 128})
    # Our own choice for few people and steps; the paper's scale and margin are for thousands of both.
    config.terms.arcface.update({"s": 32.0, "m": 0.3})
    config.data.dataset = "simulated_identity"
    config.data.options = {"identities": args.identities, "pictures": 12, "size": 64}
    config.data.record_size = 64
    config.data.image_size = 64
    config.data.augment.update({"crop": 0.8, "colour": 0.2})
    config.train = {"batch_size": 64, "epochs": 12.0, "eval_epochs": 3.0}
    config.optim.update({"lr": 8e-3, "warmup_epochs": 2.0})  # 1e-3 at a batch of 64
    config.eval.batch_size = 60
    return config


def recogniser(name: str, classes: int):
    """Returns the part that both recognition configs share: ArcFace on `classes` people, with mirroring only [S]."""
    config = common.base(name)
    config.model = {"name": "iresnet", "variant": "50", "classes": classes, "dtype": "float32"}
    config.terms = {"arcface": {"kind": "arcface", "weight": 1.0, "s": 64.0, "m": 0.5}}
    config.data.target = "identity"
    config.data.protocol = "official"
    config.data.augment.update({"crop": 1.0, "flip": True, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
    config.data.augment.randaugment.ops = 0
    return config
