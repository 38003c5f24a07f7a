"""KDFAS as published: ViT-B/16 teacher -> ViT-S/16 student on OULU-NPU, 224 px, the DeiT recipe (docs/methods.md).

    python main.py --config=configs/kdfas_oulu.py:protocol=1,raw_dir=/path/to/OULU-NPU
    python main.py --config=configs/kdfas_oulu.py:protocol=1,data=simulated      (a rehearsal, no data needed)
    python main.py --config=configs/kdfas_oulu.py:protocol=4,raw_dir=/path/to/OULU-NPU     (six folds, mean, deviation)
    python main.py --config=configs/kdfas_oulu.py:protocol=ocim:OCI-M,data=oulu+casia+replay+msu,raw_dir=/path/{dataset}

Trains the teacher first where it is missing (configs/teachers/kdfas_oulu.py), then distils and evaluates.
Cost: 300 epochs of each; an epoch of protocol 1 is 9,600 frames at 63 GFLOP, forward and backward, per frame, so about
0.18 EFLOP for the student: an hour of one H100-class GPU at 50 TFLOP/s, weeks of a laptop CPU (use kdfas_demo there).
Expect: the published ACER of this family (HaTFAS, ViT-Ti student) is 0.25 / 1.43 / 1.39 / 5.75 % on protocols 1 to 4,
starting from ImageNet weights. Not run here, because the data set is not public.
"""

from configs import common
from configs.teachers import kdfas_oulu as teacher


def get_config(argument: str = ""):
    """Arguments: protocol (1, 2, 3, 3.1, ..., ocim:OCI-M), data (sets joined by +), raw_dir."""
    config = teacher.get_config(argument)
    config.name = "kdfas_oulu"
    config.model.variant = "S/16"
    return common.distilled(config, teacher.get_config(argument))
