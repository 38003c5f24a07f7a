"""MTAKD on real faces: one MobileFaceNet of 2 M parameters instead of an IResNet-50 and a ViT-B/16.

    python main.py --config=configs/mtkd_celeba_spoof.py:raw_dir=/path/{dataset},people=N

Reads an identity folder (`/path/identity`: CASIA-WebFace or another, as in configs/teachers/recognition.py) for
recognition and CelebA-Spoof (`/path/celeba_spoof`) for detection; the live faces of CelebA-Spoof have both labels. All
images are crops of 112 px aligned to ArcFace's template. `people` is the number of training people in both sets
together; an error states the right number. A tenth of CelebA-Spoof's training subjects is dev, as the set has none.
The teachers are trained first, or are finished runs or published weights (recognition=iresnet50.pth, spoof=RUN).
Stated by the paper [S]: two teachers, one student of 3 % of their size. Our own choice [C]: every network and number.
Cost: not run here, as CelebA-Spoof may not be redistributed. The same system for two cores is configs/mtkd_demo.py.
"""

from configs import common
from configs.teachers import kdfas_oulu
from configs.teachers import recognition as recogniser

VARIANTS = common.MTAKD_VARIANTS
CASIA_WEBFACE, CELEBA_SPOOF = 8461, 7373  # training people: eight of ten; nine tenths of 8,192 [I: inferred]


def get_config(argument: str = ""):
    """Arguments: raw_dir, people, recognition, spoof (a finished run, or published weights)."""
    args = common.parse(argument, raw_dir="", people=CASIA_WEBFACE + CELEBA_SPOOF, recognition="", spoof="")
    recognition = recogniser.get_config(f"classes={args.people}")
    spoof = kdfas_oulu.get_config()
    recognition.name, spoof.name = "teacher_mtkd_recognition", "teacher_mtkd_spoof"
    spoof.train = {"batch_size": 512, "epochs": 20.0, "eval_epochs": 2.0}
    spoof.optim.warmup_epochs = 2.0

    config = recogniser.get_config(f"classes={args.people},raw_dir={args.raw_dir}")
    config.name = "mtkd_celeba_spoof"
    config.model = {"name": "mobilefacenet", "variant": "mbf", "classes": args.people, "live_head": True}
    config.model.dtype = "bfloat16"
    config.data.dataset = "identity+celeba_spoof"
    config.data.dev_share = 0.1
    config.data.augment.update({"crop": 0.9, "colour": 0.2})
    common.two_tasks(config, recognition, spoof, spoof_stages=((2, 4), (3, 8), (4, 12)))
    config.teachers.recognition.checkpoint, config.teachers.spoof.checkpoint = args.recognition, args.spoof
    return config
