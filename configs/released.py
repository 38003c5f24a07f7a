"""The model that the package ships: a light student, distilled from three wider zero_real on simulated faces alone.

    launch/release.sh                                            # records, teachers, student, export, model card
    python main.py --config=configs/released.py                  # teachers and student
    python main.py --config=configs/ablation.py:base=released,seeds=5

The student is a ResNet-18 of width 12 (0.39 M parameters, 1.6 MB as ONNX). Its teachers are configs/zero_real.py at
width 32 (2.8 M parameters), of three seeds, who teach the mean of their logits; the class tokens are the first one's.
Their outputs are stored once for each of `views` views. The student learns from labels and truth maps as well.
"""

from configs import common, zero_real

# Name -> changes of the config (configs/ablation.py).
VARIANTS = {
    "none": {"terms": common.LABELS, "data": {"views": 0}},
    "kl": {"terms": {"covariance": common.OFF}},
    "kdfas": {},  # the unchanged config
}


def get_config(argument: str = ""):
    """Arguments: those of zero_real and the student's width; the teachers' number, width and steps; views."""
    args = common.parse(
        argument, people=2000, size=112, width=12, steps=5000, teachers=3, teacher_width=32, teacher_steps=5000, views=4
    )
    config = _zero_real(args, args.width, args.steps)
    config.name = "released"

    def teacher():
        return _zero_real(args, args.teacher_width, args.teacher_steps)

    common.distilled(config, teacher())
    common.ensemble(config, args.teachers, teacher)
    config.terms.covariance.form = "cka"  # which compares stages of different widths
    config.data.views = args.views
    for name in config.teachers:
        config.teachers[name].cache = ("logits", "class_tokens") if name == "spoof" else ("logits",)
    return config


def _zero_real(args, width: int, steps: int):
    config = zero_real.get_config(f"people={args.people},size={args.size},steps={steps}")
    config.model.width = width
    return config
