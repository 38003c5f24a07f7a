"""A config that trains in seconds, on records that the tests have made: `tests/tiny.py:raw_dir=RAW,data_dir=DATA`."""

from configs import common


def get_config(argument: str = ""):
    """A student of width 16 with a teacher of width 32. Arguments: raw_dir, data_dir."""
    args = common.parse(argument, raw_dir="", data_dir="")
    return common.distilled(alone(args, "tiny", 16), alone(args, "tiny_teacher", 32))


def alone(args, name: str, width: int):
    """A ViT of `width` on the tiny data."""
    config = common.base(name)
    config.model = {"name": "vit", "patch": 8, "width": width, "depth": 2, "heads": 2, "classes": 2, "dtype": "float32"}
    config.data.dataset = "folder"
    config.data.options = {"subject_level": 1}
    config.data.raw_dir = args.raw_dir
    config.data.data_dir = args.data_dir
    config.data.record_size = 24
    config.data.image_size = 16
    config.data.protocol = "official"
    config.data.augment.update({"colour": 0.2})
    config.data.augment.randaugment.ops = 1
    config.train = {"batch_size": 16, "epochs": 40.0, "eval_epochs": 5.0}
    config.optim.update({"lr": 4e-2})
    config.eval.batch_size = 20
    config.eval.stability = 0  # half a second of each evaluation; tests of it set it
    return config
