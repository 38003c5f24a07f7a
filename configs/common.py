"""What every config shares: the argument parser and the default tree. A config is this tree with other values."""

from typing import Any

import ml_collections


def parse(argument: str, **defaults: Any) -> ml_collections.ConfigDict:
    """`"protocol=4.2,data=simulated"` -> the defaults with those values, each in its default's type.

    ValueError lists the known arguments for an unknown one, and names the type for a value that does not fit.
    """
    values = dict(defaults)
    for part in filter(None, argument.split(",")):
        name, separator, text = part.partition("=")
        if name not in defaults or not separator:
            known = ", ".join(f"{key}={value}" for key, value in defaults.items())
            raise ValueError(f"config argument {part!r} is unknown; known arguments with their defaults: {known}")
        kind = type(defaults[name])
        try:
            values[name] = (
                {"True": True, "False": False, "true": True, "false": False}[text] if kind is bool else kind(text)
            )
        except (ValueError, KeyError):
            raise ValueError(f"config argument {name}={text!r}: expected {kind.__name__}") from None
    return ml_collections.ConfigDict(values)


def base(name: str) -> ml_collections.ConfigDict:
    """The default tree: every key that the code reads."""
    config = ml_collections.ConfigDict()
    config.name = name
    config.seed = 0  # of the order of batches and, with the run's role, of its parameters and steps (step.seed_of)
    config.init = ""  # published weights to start from: .pth, .safetensors or .npz
    config.model = {"name": "vit", "variant": "S/16", "classes": 2, "dtype": "float32", "unroll": True, "remat": "none"}
    # What published weights were trained with: gelu exact (timm, DeiT) or tanh (augreg); DeiT's mean and std are
    # ImageNet's, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).
    config.model.update({"gelu": "exact", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    # NAME = {config, checkpoint, allow_overlap}; allow_overlap lets a teacher teach that has seen what the student is
    # judged on, or may have: results.json and the page then say so.
    config.teachers = ml_collections.ConfigDict()
    config.terms = {"ce": {"kind": "cross_entropy", "weight": 1.0, "smoothing": 0.1}}
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    # The domain adversarial attack: `classifier` is the teacher that knows the domains, "" for none.
    config.daa = {"classifier": "", "steps": 5, "eps": 8 / 255, "step_size": 6 / 255, "decay": 0.5}
    config.daa.target = "uniform"

    data = config.data = ml_collections.ConfigDict()
    data.dataset = "simulated"  # several are joined by +
    data.options = ml_collections.ConfigDict()  # of the data sets' readers
    data.raw_dir = ""  # the raw data, where the records are not made yet; {dataset} stands for the name of each set
    data.data_dir = "data"  # where records are kept
    data.target = "label"  # what a label says: live or attack; identity: who; domain: from where; attributes: which
    data.domain_by = "domain"  # the column that tells domains apart: domain, session, sensor, ...
    data.attributes = ()  # that target attributes asks for, such as ("Male", "Young"), in the order of the labels
    data.record_size = 224  # px of the stored crops
    data.scale = 1.3  # crop side / longer side of the face box
    data.align = False  # fit MTCNN's landmarks to ArcFace's template instead
    data.image_size = 224  # px that the models see
    data.protocol = "1"
    data.subjects = ml_collections.ConfigDict()  # {train, dev, test} ranges of protocol `subjects`
    data.extra_sources = ()  # domains beside those that a cross-domain protocol names; results carry them
    data.train_species = ()  # train on these alone, () on all: the others are unseen until dev and test
    data.dev_share = 0.0  # share of the training subjects held out as dev where the protocol has none
    data.balance = ""  # columns such as domain+label, whose combinations get equal shares of every epoch
    data.augment = {
        "crop": 0.8,
        "flip": True,
        "exposure": 0.0,
        "colour": 0.0,
        "randaugment": {"ops": 2, "magnitude": 9},
        "degrade": 0.0,
        "erasing": 0.25,
        "mixup": 0.8,
        "cutmix": 1.0,
    }

    data.attack = {"probability": 0.0, "recapture": 0.0}  # live crops that become simulated attacks (attacked.py)

    # The DeiT recipe (METHODS section 1); lr is per 512 examples.
    config.train = {"batch_size": 128, "epochs": 300.0, "eval_epochs": 10.0}
    config.optim = {
        "lr": 5e-4,
        "min_lr": 1e-5,
        "warmup_epochs": 5.0,
        "weight_decay": 0.05,
        "b1": 0.9,
        "b2": 0.999,
        "clip_norm": 0.0,
        "ema": 0.0,  # decay of the averaged parameters, which are then evaluated and exported; 0 keeps none
        "accumulate": 1,  # parts of a batch, one after another, whose gradients are averaged: less memory
        "every": {},  # {a name in the path of parameters: n}: those are updated in every n-th step alone
    }
    config.eval = {"batch_size": 128}
    config.report = {"faces": False}  # show the faces of the worst errors in the page: of real people only when asked
    return config


def distilled(config: ml_collections.ConfigDict, teacher: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Gives `config` a spoof teacher and the KDFAS terms, L = (1 - a) CE + a tau^2 KL + beta F, a = 0.7, tau = 3.

    The teacher reads the same data settings and seed: an override of the student's holds for both.
    """
    teacher.data = config.data
    teacher.seed = config.get_ref("seed")
    config.teachers.spoof = {"config": teacher, "checkpoint": "", "allow_overlap": False}
    config.terms.ce.weight = 0.3
    config.terms.kl = {"kind": "kl", "weight": 0.7, "teacher": "spoof", "temperature": 3.0}
    config.terms.covariance = {
        "kind": "covariance",
        "weight": 1.0,
        "teacher": "spoof",
        "form": "cross",
        "centre": False,
        "scale": "none",
        "stages": (),
    }
    return config


def _same_data(config: ml_collections.ConfigDict, teacher: ml_collections.ConfigDict) -> None:
    """Lets `teacher` read the images that `config` does, for a target of its own: an override holds for both."""
    crop = ("record_size", "scale", "align", "image_size")
    for key in ("dataset", "raw_dir", "protocol", "dev_share", "domain_by", *crop):
        teacher.data[key] = config.data.get_ref(key)
    teacher.data.options, teacher.data.subjects = config.data.options, config.data.subjects


def attacked(config: ml_collections.ConfigDict, domains: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Gives `config` the domain classifier E_d and its domain adversarial attack (METHODS section 2).

    The student and all teachers see the attacked images x_adv in place of the batch's. E_d reads the data settings and
    the seed of `config`: an override of the student's holds for both.
    """
    _same_data(config, domains)
    domains.seed = config.get_ref("seed")
    domains.data.data_dir = config.data.get_ref("data_dir")
    config.teachers.domains = {"config": domains, "checkpoint": "", "allow_overlap": False}
    config.daa.classifier = "domains"
    return config


def dual_teachers(
    config: ml_collections.ConfigDict,
    domains: ml_collections.ConfigDict,
    perceptual: ml_collections.ConfigDict,
    generative: ml_collections.ConfigDict,
    generative_stages: tuple[tuple[int, int], ...],
) -> ml_collections.ConfigDict:
    """Gives `config` DTDA's face teachers and the domain adversarial attack by E_d (METHODS section 2); DAT is off.

    L = CE + l_p align(student, perceptual) + l_g align(student, generative), all on x_adv, l_p = l_g = 1 [C]. The face
    teachers know other data than the student; they share its folder.
    """
    attacked(config, domains)
    stages = {"perceptual": tuple((stage, stage) for stage in range(1, 5)), "generative": generative_stages}
    for name, teacher in (("perceptual", perceptual), ("generative", generative)):
        teacher.data.data_dir = config.data.get_ref("data_dir")
        config.teachers[name] = {"config": teacher, "checkpoint": "", "allow_overlap": False}
        config.terms[name] = {"kind": "align", "weight": 1.0, "teacher": name, "stages": stages[name]}
    config.terms.adversary = {"kind": "domain_adversary", "weight": 0.0, "domains": domains.model.classes}
    return config


OFF = {"weight": 0.0}
# KDFAS without its teacher: labels at full weight, where KL shares it otherwise.
LABELS = {"ce": {"weight": 1.0}, "kl": OFF, "covariance": OFF}
# KDFAS and the attack, each with and without the other: name -> what changes in the config (configs/ablation.py).
KDFAS_DAA_VARIANTS = {
    "none": {"terms": LABELS, "daa": {"steps": 0}},
    "daa": {"terms": LABELS},
    "kdfas": {"daa": {"steps": 0}},
    "kdfas_daa": {},  # the base config as it is
}

# DTDA, what it is made of, and what it claims to beat: name -> what changes in the config (configs/ablation.py).
PLAIN = {"terms": {"perceptual": OFF, "generative": OFF}}
DTDA_VARIANTS = {
    "erm": {**PLAIN, "daa": {"steps": 0}},
    "dat": {"terms": {**PLAIN["terms"], "adversary": {"weight": 1.0}}, "daa": {"steps": 0}},
    "daa": PLAIN,
    "perceptual": {"terms": {"generative": OFF}},
    "generative": {"terms": {"perceptual": OFF}},
    "dtda": {},  # the base config as it is
}


def two_tasks(
    config: ml_collections.ConfigDict,
    recognition: ml_collections.ConfigDict,
    spoof: ml_collections.ConfigDict,
    spoof_stages: tuple[tuple[int, int], ...],
) -> ml_collections.ConfigDict:
    """Makes `config`, whose model has both heads, MTAKD's student of a recogniser and a spoof teacher (METHODS 3).

    L = 0.3 ArcFace + CE + 2 tau^2 KL(spoof) + 10 (1 - cosine of embeddings) + (align(recognition) + align(spoof)) / 2,
    tau = 3; all weights [C], from a few tries on mtkd_demo, whose test was seen. Terms of who it is count examples with
    an identity, those of live or attack examples with that label. The teachers read the same images, each for its own
    target, and have seeds of their own.
    """
    for name, teacher in (("recognition", recognition), ("spoof", spoof)):
        _same_data(config, teacher)
        teacher.data.data_dir = config.data.get_ref("data_dir")
        config.teachers[name] = {"config": teacher, "checkpoint": "", "allow_overlap": False}
    margin = {name: recognition.terms.arcface[name] for name in ("s", "m")}
    stages = {"recognition": tuple((stage, stage) for stage in range(1, 5)), "spoof": spoof_stages}
    config.data.target = "label+identity"
    config.data.balance = "dataset+label"
    config.terms = {
        "arcface": {"kind": "arcface", "weight": 0.3, "where": "identity", **margin},
        "ce": {"kind": "cross_entropy", "weight": 1.0, "smoothing": 0.1, "where": "label"},
        "kl": {"kind": "kl", "weight": 2.0, "teacher": "spoof", "temperature": 3.0, "where": "label"},
        "embedding": {"kind": "embedding", "weight": 10.0, "teacher": "recognition", "where": "identity"},
    }
    for teacher, where in (("recognition", "identity"), ("spoof", "label")):
        term = {"kind": "align", "weight": 0.5, "teacher": teacher, "stages": stages[teacher], "where": where}
        config.terms[f"align_{teacher}"] = term
    return config


# MTAKD's student and what its terms bring: name -> what changes in the config (configs/ablation.py).
NO_OUTPUTS, NO_STAGES = {"kl": OFF, "embedding": OFF}, {"align_recognition": OFF, "align_spoof": OFF}
MTAKD_VARIANTS = {
    "alone": {"terms": {**NO_OUTPUTS, **NO_STAGES}},
    "kl": {"terms": {"embedding": OFF, **NO_STAGES}},
    "align": {"terms": NO_OUTPUTS},
    "mtakd": {},  # the base config as it is
}
