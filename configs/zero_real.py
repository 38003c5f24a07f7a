"""No real image at all: trained, selected and calibrated on simulated_wild.

    python main.py --config=configs/zero_real.py
    python main.py --mode=eval --workdir=runs/zero_real --on=folder:RAW          # on real pictures
    python main.py --config=configs/ablation.py:base=zero_real,seeds=1,steps=1500    # what each part gives

A ResNet-18 of width 16 (0.70 M parameters) at 96 px with instance norms in half of its channels and averaged weights,
which averages the logits of three central crops of a face and of their mirror images. Beside the labels it learns
depth, instrument and outline from the renderer's truth maps (term `truth`). Dev and test have places, cameras,
instruments and people that training never saw; the run decides by the threshold that turns one in ten live faces of
dev away. docs/simulator.md has the figures and the log of looks at real faces.
Cost on two idle cores: rendering once, 14 minutes, then 25 minutes of training.
"""

from configs import common

AUGMENT = {"crop": 0.7, "colour": 0.2, "exposure": 0.5, "degrade": 0.0, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}
ZOOMS = (1.0, 0.82, 0.65)  # central crops of 2.2, 1.8 and 1.4 face boxes, within the margins of training's pictures

# Name -> changes of the config (configs/ablation.py): what each part of the recipe gives.
VARIANTS = {
    "recipe": {},  # the unchanged config
    "no_truth": {"terms": {"truth": common.OFF}, "data": {"truth": False}},
    "batch_norm": {"model": {"network": {"instance": False}}},
    "px64": {"model": {"size": 64}},
    "px128": {"model": {"size": 128}},
    "last_weights": {"optim": {"ema": 0.0}},
    "one_crop": {"model": {"zooms": (1.0,), "mirrored": False}},
    "width24": {"model": {"network": {"width": 24}}},
}


def get_config(argument: str = ""):
    """Arguments: people (a multiple of 80; eight of ten train), size (px), steps, masked.

    masked: share of the groups of people to train on who have masks, one in five of their attacks; with 1 fewer masks
    pass and more photographs (docs/simulator.md).
    """
    args = common.parse(argument, people=2000, size=96, steps=4000, masked=0.4)
    config = common.base("zero_real")
    network = {"name": "resnet", "variant": "18", "width": 16, "classes": 2, "dtype": "float32", "instance": True}
    config.model = {"name": "crops", "network": network, "size": args.size, "zooms": ZOOMS, "mirrored": True}
    config.data.dataset = "simulated_wild"
    options = {"size": 128, "people": args.people, "shots": 1, "margin": (1.5, 2.2), "masked": args.masked}
    config.data.options = options
    config.data.scale = 2.2
    config.data.protocol = "official"
    config.data.record_size = 128
    config.data.image_size = 128
    config.data.augment.update(AUGMENT)
    config.data.augment.randaugment.ops = 0
    config.data.balance = "label"
    config.data.truth = True
    config.terms.truth = {"kind": "truth", "weight": 1.0, "stage": 3}
    config.train.batch_size = 64
    images = args.people * 8 // 10 * 8  # one scene of eight pictures a person
    config.train.epochs = args.steps / (images // 64)
    config.train.eval_epochs = config.train.epochs / 4
    config.optim.update({"lr": 8e-3, "warmup_epochs": config.train.epochs / 10, "ema": 0.995})
    config.eval.update({"batch_size": 64, "threshold": "accept90"})
    return config
