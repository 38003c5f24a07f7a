"""A foundation tower with LoRA -> ViT-S/16 -> a ResNet of 0.70 M parameters, leaving one domain of OCIM out.

    python main.py --config=configs/foundation_ocim.py:weights=model.safetensors,raw_dir=/path/{dataset}
    python main.py --config=configs/foundation_ocim.py:tower=clip-B/16,weights=ViT-B-16.pt,raw_dir=/path/{dataset}
    python main.py --config=configs/foundation_ocim.py:data=simulated,protocol=1     (a rehearsal, no data needed)
    python main.py --mode=export --workdir=runs/foundation_ocim --format=tflite,onnx

Trains what is missing, in this order: adapters, norms and head of the tower (configs/teachers/foundation.py), the
ViT-S/16 from the tower, and the light student from the ViT-S/16; then evaluates. With light=False the ViT-S/16 is the
student. docs/foundation.md says which file to get. The terms are those of KDFAS; covariance matches the class tokens of
the tower's blocks, evenly spaced where it has more than twelve, or the pooled token of a SigLIP with the last one; the
light student's last two stages are aligned with class tokens [C]. All weights and epochs are [C].
Cost: an estimated two hours of one H100-class GPU at DINOv2-B/14. Expect: unknown; not run here, as neither the data
sets nor the weights can be had.
"""

from configs import common
from configs.teachers import foundation
from kdfas_jax import models

BLOCKS = 12  # of the ViT-S/16
LIGHT = {"name": "resnet", "variant": "18", "width": 16, "classes": 2, "dtype": "float32"}
ALIGNED = ((3, 8), (4, 12))  # stage of the light student, block of the ViT-S/16


def get_config(argument: str = ""):
    """Arguments: as in teachers/foundation.py; light (False: the ViT-S/16 is the student)."""
    parts = [part for part in argument.split(",") if part]
    own = [part for part in parts if part.startswith("light=")]
    args, rest = common.parse(",".join(own), light=True), ",".join(part for part in parts if part not in own)
    data = ",".join(part for part in parts if part.partition("=")[0] in foundation.ARGUMENTS)
    tower, student = foundation.get_config(rest), _student("foundation_student", data)
    student.model.update({"variant": "S/16", "dtype": "bfloat16"})
    common.distilled(student, tower)
    student.terms.covariance.stages = _stages(tower.model)
    for of in ("patches", "features"):  # off: `--config.terms.patches.weight=0.5` with light=False
        student.terms[of] = {"kind": "align", "weight": 0.0, "teacher": "spoof", "of": of}
    if not args.light:
        student.name = "foundation_ocim"
        return student
    config = _student("foundation_ocim", data)
    config.model = LIGHT
    common.distilled(config, student)
    tower.data, tower.seed = config.data, config.get_ref("seed")
    del config.terms.covariance
    config.terms.align = {"kind": "align", "weight": 0.5, "teacher": "spoof", "stages": ALIGNED}
    return config


def _student(name, data):
    """A student's config on the data of `data`, with the recipe of kdfas_oulu but for its length."""
    config = foundation.get_config(data)
    fresh = common.base(name)
    config.name, config.init, config.model, config.optim = name, "", fresh.model, fresh.optim
    config.train.epochs, config.train.eval_epochs = 100.0, 5.0
    return config


def _stages(model):
    """Pairs (block of the ViT-S/16, block of the tower) for the covariance."""
    tower = models.create(model)
    if tower.pool == "attention":  # one pooled token
        return ((BLOCKS, 1),)
    return tuple((block, block * tower.depth // BLOCKS) for block in range(1, BLOCKS + 1))
