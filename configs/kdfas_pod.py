"""KDFAS at scale: ViT-L/16 teacher -> ViT-B/16 student, batch 1024 over a pod slice.

    python main.py --config=configs/kdfas_pod.py --mode=plan --topology=v5e:16x16      (no pod needed)
    python main.py --config=configs/kdfas_pod.py:raw_dir=gs://bucket/OULU-NPU           (on the pod)

Parameters are replicated on every chip and layers are compiled one by one. This moves a fifth of the bytes of
--config.mesh.fsdp=4, and uses half of the memory of a loop over the layers (docs/scaling.md).
Cost: a minute and a half to compile, once; see --mode=plan. Expect: unknown, as it has not been trained; tests check
its names and shapes.
"""

from configs import common
from configs.teachers import kdfas_pod as teacher


def get_config(argument: str = ""):
    """Arguments: as in kdfas_oulu."""
    config = teacher.get_config(argument)
    config.name = "kdfas_pod"
    config.model.variant = "B/16"
    common.distilled(config, teacher.get_config(argument))
    # Our own choice of 12 of 24 blocks.
    config.terms.covariance.stages = tuple((block, 2 * block) for block in range(1, 13))
    return config
