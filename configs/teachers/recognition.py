"""The perceptual teacher: IResNet-50 with ArcFace on aligned faces of 112 px (Deng et al., CVPR 2019).

    python main.py --config=configs/teachers/recognition.py:raw_dir=/path/to/CASIA-WebFace,classes=8461
    python main.py --mode=verify --workdir=RUN --raw_dir=/path/to/lfw --pairs=/path/to/lfw/pairs.txt

Reads one folder per person. People are split 80/10/10 into train, dev and test in the order of their names [C: our own
choice]; `classes` is the number of training people (an error states the right number).
Stated by the paper [S]: 112 px aligned crops, random mirroring, s = 64, m = 0.5, batch 512, 32,000 steps on
CASIA-WebFace (0.49 M images of 10,575 people), SGD with momentum. Our own choice [C]: AdamW, the trainer's only
optimiser. Cost: 32,000 steps are 0.6 EFLOP, an estimated 4 hours of one H100-class GPU at 50 TFLOP/s. Not run here,
because the data set is not public.
"""

from configs import common
from configs.teachers import recognition_demo


def get_config(argument: str = ""):
    """Arguments: raw_dir, classes (training people), variant (18, 50, 100)."""
    args = common.parse(argument, raw_dir="", classes=8461, variant="50")
    config = recognition_demo.recogniser("recognition", classes=args.classes)
    config.model.variant = args.variant
    config.data.dataset = "identity"
    config.data.raw_dir = args.raw_dir
    config.data.align = True
    config.data.scale = 1.0
    config.data.record_size = 112
    config.data.image_size = 112
    config.train = {"batch_size": 512, "epochs": 42.0, "eval_epochs": 2.0}  # 32,000 steps of 0.39 M training images
    config.optim.update({"lr": 1e-3, "warmup_epochs": 1.0})
    return config
