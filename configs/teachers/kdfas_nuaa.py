"""The spoof teacher of kdfas_nuaa: a ResNet-18 of width 16, 0.70 M parameters, or ViT-B/16.

python main.py --config=configs/teachers/kdfas_nuaa.py:raw_dir=/path/to/NUAA
"""

from configs import common

SIZES = ("small", "paper")


def get_config(argument: str = ""):
    """Arguments: raw_dir, size (small, paper), protocol (subjects, official)."""
    args = common.parse(argument, raw_dir="", size="small", protocol="subjects")
    if args.size not in SIZES:
        raise ValueError(f"config argument size={args.size!r}: expected one of {', '.join(SIZES)}")
    config = common.base("teacher_kdfas_nuaa")
    config.data.dataset = "nuaa"
    config.data.raw_dir = args.raw_dir
    config.data.protocol = args.protocol
    config.data.subjects = {"train": "1-5", "dev": "6", "test": "7-8"}
    if args.size == "paper":
        config.model.update({"variant": "B/16", "dtype": "bfloat16"})
    else:
        config.model = {"name": "resnet", "variant": "18", "width": 16, "classes": 2, "dtype": "float32"}
        config.data.record_size = 112
        config.data.image_size = 96
        config.data.augment.update({"colour": 0.3, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
        config.data.augment.randaugment.ops = 0
        config.train = {"batch_size": 64, "epochs": 8.0, "eval_epochs": 2.0}
        config.optim.update({"lr": 8e-3, "warmup_epochs": 0.8, "ema": 0.995})
        config.eval.batch_size = 64
    return config
