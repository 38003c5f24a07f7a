"""A ViT of 2.8 M parameters on simulated faces of 64 px: mtkd_demo's spoof teacher, and the base of small students.

python main.py --config=configs/teachers/vit_demo.py
"""

from configs import common

SMALL = {"width": 96, "heads": 3}  # fields of the 0.76 M students


def get_config(argument: str = ""):
    """Arguments: protocol (1, 2, 3.1-3.6, 4.1-4.6)."""
    args = common.parse(argument, protocol="1")
    config = common.base("teacher_vit_demo")
    config.model = {"name": "vit", "patch": 16, "width": 192, "depth": 6, "heads": 3, "classes": 2}
    config.model.update({"stem": (24, 48, 96), "dtype": "float32", "unroll": True})
    config.data.options = {"frames": 1, "size": 64, "users": tuple(range(1, 116))}  # 80 people to train on
    config.data.record_size = 64
    config.data.image_size = 64
    config.data.protocol = args.protocol
    config.data.augment.update({"erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
    config.data.augment.randaugment.ops = 0
    config.train = {"batch_size": 60, "epochs": 6.0, "eval_epochs": 1.5}
    config.optim.update({"lr": 4e-3, "warmup_epochs": 1.0})
    config.eval.batch_size = 60
    return config
