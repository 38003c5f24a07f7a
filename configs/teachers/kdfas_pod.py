"""The spoof teacher of kdfas_pod: ViT-L/16.

python main.py --config=configs/teachers/kdfas_pod.py:raw_dir=/path/to/OULU-NPU
"""

from configs.teachers import kdfas_oulu


def get_config(argument: str = ""):
    """Arguments: as in kdfas_oulu."""
    config = kdfas_oulu.get_config(argument)
    config.name = "teacher_kdfas_pod"
    config.model.variant = "L/16"
    config.train.batch_size = 1024
    config.eval.batch_size = 1024
    return config
