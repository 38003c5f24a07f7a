"""KDFAS at the largest size: ViT-H/14 teacher -> ViT-L/16 student, otherwise as kdfas_pod.

    python main.py --config=configs/kdfas_huge.py --mode=plan --topology=v5e:16x16      (no pod needed)
    python main.py --config=configs/kdfas_huge.py:raw_dir=gs://bucket/OULU-NPU           (on the pod)

Parameters, gradients and optimiser state are sharded over `fsdp`. Layers are compiled as a loop, and the backward pass
recomputes their activations except the outputs of dense layers, as 16 chips of v5e require (docs/scaling.md).
Cost: see --mode=plan. Expect: unknown, as it has not been trained; tests check its names and shapes.
"""

from configs import common
from configs.teachers import kdfas_huge as teacher


def get_config(argument: str = ""):
    """Arguments: as in kdfas_oulu."""
    config = teacher.get_config(argument)
    config.name = "kdfas_huge"
    config.model.variant = "L/16"
    common.distilled(config, teacher.get_config(argument))
    # Our own choice: eighths of 24 and of 32 blocks.
    config.terms.covariance.stages = tuple((3 * part, 4 * part) for part in range(1, 9))
    return config
