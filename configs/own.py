"""A detector for your own pictures, on two CPU cores; docs/own-data.md is the walkthrough.

    python main.py --config=configs/own.py:raw_dir=RAW
    python main.py --config=configs/own.py:raw_dir=RAW.csv
    python main.py --config=configs/own.py:raw_dir=RAW --config.init=runs/kdfas_demo

RAW is RAW/{train,dev,test}/{live,spoof/SPECIES}/**, or a table with the columns path,label,split and others
(docs/datasets.md). Without dev, a fifth of the training subjects become dev. The model is the student of kdfas_demo, or
the wider ViT of teachers/vit_demo.py from 5,000 training images on, and the number of steps follows the number of
images, all [C]. There is no teacher. Cost: two to five minutes for a thousand images, half of it the detection of
faces.
"""

import contextlib
from collections import Counter

from configs import common
from configs.teachers import vit_demo
from input_pipeline import datasets

STEPS = 600  # at least, and at least `EPOCHS` epochs
EPOCHS = 10
LARGE = 5000  # training images from which the wider model is used
PEAK = 5e-4  # learning rate after the warm-up, at any batch size


def get_config(argument: str = ""):
    """Arguments: raw_dir (a folder or a .csv file), subject_level (the folder that names the person, see `folder`)."""
    args = common.parse(argument, raw_dir="", subject_level=0)
    config = vit_demo.get_config()
    config.name = "own"
    config.data.dataset = "csv" if args.raw_dir.endswith(".csv") else "folder"
    config.data.options = {"subject_level": args.subject_level} if args.subject_level else {}
    config.data.raw_dir = args.raw_dir
    config.data.protocol = "official"
    config.data.dev_share = 0.2
    config.data.augment.colour = 0.3
    images = training_images(config.data)
    if images < LARGE:
        config.model.update(vit_demo.SMALL)
    batch_size = next(size for size, least in ((64, LARGE), (32, 320), (16, 0)) if images >= least)
    epochs = max(float(EPOCHS), STEPS / max(1, images // batch_size))
    config.train = {"batch_size": batch_size, "epochs": epochs, "eval_epochs": epochs / 10}
    config.optim.update({"lr": PEAK * 512 / batch_size, "warmup_epochs": epochs / 10})
    return config


def training_images(data) -> int:
    """Returns the number of training images and frames that `data` (config.data) lists; 0 where it cannot be read.

    The preparation reports why it cannot. ValueError where there are pictures, but none to train on.
    """
    listed = []
    with contextlib.suppress(OSError, ValueError):
        listed = datasets.get(data.dataset).read(data.raw_dir, **data.options)
    images = Counter()
    for presentation in listed:
        images[presentation.split] += presentation.frames
    if listed and not images["train"]:
        expected = "a column split" if data.dataset == "csv" else "RAW/{train,dev,test}/{live,spoof/SPECIES}/"
        raise ValueError(
            f"config argument raw_dir={data.raw_dir}: found {len(listed)} pictures or videos, but none in the split "
            f"train; expected {expected} with train"
        )
    return images["train"]
