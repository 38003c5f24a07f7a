"""The spoof teacher of kdfas_huge: ViT-H/14.

python main.py --config=configs/teachers/kdfas_huge.py:raw_dir=/path/to/OULU-NPU
"""

from configs.teachers import kdfas_pod


def get_config(argument: str = ""):
    """Arguments: as in kdfas_oulu."""
    config = kdfas_pod.get_config(argument)
    config.name = "teacher_kdfas_huge"
    config.model.variant = "H/14"
    config.model.unroll = False
    config.model.remat = "dots"
    config.mesh.fsdp = 4
    return config
