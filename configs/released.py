"""The model that the package ships: a light student, distilled from three zero_real on simulated faces alone.

    launch/release.sh                                            # records, teachers, student, export, model card
    python main.py --config=configs/released.py                  # teachers and student
    python main.py --config=configs/ablation.py:base=released,seeds=5

The student is a ResNet-18 of width 12 (0.40 M parameters, 1.8 MB as ONNX) that averages three crops of a face. Its
teachers are configs/zero_real.py (0.70 M) of three seeds, who teach the mean of their logits; the class tokens are the
first one's. Their outputs are stored once for each of eight views of an image. The student learns from labels and truth
maps as well. Cost on two idle cores: three times half an hour for the teachers, half an hour for the student.
"""

from configs import common, zero_real

WIDTH, TEACHERS, VIEWS = 12, 3, 8

# Name -> changes of the config (configs/ablation.py).
VARIANTS = {
    "none": {"terms": common.LABELS, "data": {"views": 0}},
    "kl": {"terms": {"covariance": common.OFF}},
    "kdfas": {},  # the unchanged config
}


def get_config(argument: str = ""):
    """Arguments: people, size and steps (configs/zero_real.py), which hold for the student and its teachers."""
    config = zero_real.get_config(argument)
    config.name = "released"
    config.model.network.width = WIDTH
    config.model.mirrored = False  # half the time of a decision

    def teacher():
        return zero_real.get_config(argument)

    common.distilled(config, teacher())
    common.ensemble(config, TEACHERS, teacher)
    config.terms.covariance.form = "cka"  # which compares stages of different widths
    config.data.views = VIEWS
    for name in config.teachers:
        config.teachers[name].cache = ("logits", "class_tokens") if name == "spoof" else ("logits",)
    return config
