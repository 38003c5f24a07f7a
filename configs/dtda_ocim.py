"""DTDA: a ResNet-18 with two face teachers under the domain adversarial attack, leaving one domain out.

    python main.py --config=configs/dtda_ocim.py:protocol=OCI-M,raw_dir=/path/{dataset}
    python main.py --config=configs/dtda_ocim.py:protocol=all,raw_dir=/path/{dataset}      (four targets and their mean)
    python main.py --config=configs/dtda_ocim.py:protocol=OCI-M,data=simulated         (a rehearsal, no data needed)

E_d is trained first, on the sources. Each face teacher is a finished run or published weights, given as arguments
(perceptual=iresnet18.pth,generative=200000-D.ckpt); without them they are trained by configs/teachers/recognition.py
and editor.py, which need other data (--config.teachers.perceptual.config.data.raw_dir=...). Switches:
--config.daa.steps=0, --config.terms.perceptual.weight=0, --config.terms.generative.weight=0; for domain-adversarial
training, --config.terms.adversary.weight=1 instead of the attack. From ImageNet: --config.init=resnet18.pth.
Stated by the paper [S]: ResNet-18, both teachers, the attack. Our own choice [C]: every number here.
Expect: unknown; SA-FAS and SSDG-R, of this size, have an average HTER of 7.83 and 11.28 %. Not run here, because the
data sets are not public. The same system for two cores is configs/dtda_demo.py.
"""

import os

from configs import common
from configs.teachers import domains, editor, editor_demo, recognition, recognition_demo

VARIANTS = common.DTDA_VARIANTS
PUBLISHED = {"name": "stargan_discriminator", "classes": 5, "image_size": 128, "dtype": "float32"}


def get_config(argument: str = ""):
    """Arguments: as in teachers/domains.py; perceptual, generative (a finished run, or published weights)."""
    parts = [part for part in argument.split(",") if part]
    given = [part for part in parts if part.partition("=")[0] in ("perceptual", "generative")]
    args = common.parse(",".join(given), perceptual="", generative="")
    classifier, config = (domains.get_config(",".join(part for part in parts if part not in given)) for _ in range(2))
    config.name = "dtda_ocim"
    config.model.classes = 2
    config.terms.ce.smoothing = 0.1
    config.data.target = "label"
    config.data.balance = "domain+label"
    simulated = config.data.dataset == "simulated"
    perceptual = recognition_demo.get_config() if simulated else recognition.get_config("variant=18")
    generative = editor_demo.get_config() if simulated else editor.get_config()
    pairs = editor_demo.STAGES if simulated else editor.STAGES
    common.dual_teachers(config, classifier, perceptual, generative, pairs)
    config.teachers.perceptual.checkpoint, config.teachers.generative.checkpoint = args.perceptual, args.generative
    if os.path.isfile(args.generative):  # the published discriminator is a separate file
        config.teachers.generative.config.model = PUBLISHED
    return config
