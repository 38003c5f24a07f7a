"""The spoof teacher of kdfas_oulu: ViT-B/16 on OULU-NPU.

    python main.py --config=configs/teachers/kdfas_oulu.py:protocol=1,raw_dir=/path/to/OULU-NPU

kdfas_oulu trains it where it is missing. It starts from scratch or from published ImageNet weights:
--config.init=deit_base_patch16_224.pth with DeiT's --config.model.mean and .std (HaTFAS starts from DeiT-B).
Recipe: DeiT as stated by HaTFAS (KDFAS in docs/methods.md); crops of at least 0.8 of the area are our own choice [C].
"""

from configs import common
from input_pipeline import datasets

RENDERED = {"frames": 1, "size": 224}  # options of the simulated set; real sets use the defaults of their readers


def get_config(argument: str = ""):
    """Arguments: protocol (1, 2, 3, 3.1, ..., ocim:OCI-M), data (sets joined by +), raw_dir."""
    args = common.parse(argument, protocol="1", data="oulu", raw_dir="")
    for name in args.data.split("+"):
        datasets.get(name)
    config = common.base("teacher_kdfas_oulu")
    config.model.variant = "B/16"
    config.model.dtype = "bfloat16"
    config.data.dataset = args.data
    config.data.raw_dir = args.raw_dir
    config.data.protocol = args.protocol
    if args.data == "simulated":
        config.data.options = RENDERED
    return config
