"""The argument parser, the default config and the building blocks that configs share.

A config is the default tree with other values. [C] marks our own choices.
"""

from collections.abc import Callable
from typing import Any

import ml_collections


def parse(argument: str, **defaults: Any) -> ml_collections.ConfigDict:
    """Parses `"protocol=4.2,data=simulated"`: returns the defaults with these values, each of its default's type.

    Raises ValueError for an unknown argument, listing the known ones, and for a value of another type.
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
    """Returns the default config with every key that the code reads."""
    config = ml_collections.ConfigDict()
    config.name = name
    config.seed = 0  # seeds the order of batches and, with the run's role, parameters and steps (`step.seed_of`)
    # Where training starts: published weights (.pth, .safetensors or .npz), the folder of a finished run, or released,
    # the model that the package ships.
    config.init = ""
    config.init_allow_overlap = False  # as `allow_overlap` of a teacher, for a run that `init` names
    config.model = {"name": "vit", "variant": "S/16", "classes": 2, "dtype": "float32", "unroll": True, "remat": "none"}
    # Settings of published weights: gelu exact (timm, DeiT) or tanh (augreg); DeiT uses ImageNet's mean and std,
    # (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).
    config.model.update({"gelu": "exact", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    # NAME = {config, checkpoint, allow_overlap, cache}; `cache` names the outputs, such as logits, that are computed
    # once for each view and kept in the data folder (training/outputs.py). allow_overlap accepts a teacher that has
    # seen, or may have seen, data on which the student is judged: results.json and the page then say so.
    config.teachers = ml_collections.ConfigDict()
    config.terms = {"ce": {"kind": "cross_entropy", "weight": 1.0, "smoothing": 0.1}}
    config.mesh = {"data": -1, "fsdp": 1}
    # The attack on the input: `classifier` names the teacher that classifies domains, or is student for adversarial
    # training, with target confuse; "" switches it off.
    config.daa = {"classifier": "", "steps": 5, "eps": 8 / 255, "step_size": 6 / 255, "decay": 0.5}
    config.daa.target = "uniform"

    data = config.data = ml_collections.ConfigDict()
    data.dataset = "simulated"  # several are joined by +
    data.options = ml_collections.ConfigDict()  # options of the data sets' readers
    data.raw_dir = ""  # raw data, needed until the records exist; {dataset} stands for the name of each set
    data.data_dir = "data"  # folder of the records
    data.target = "label"  # the prediction target: label (live or attack), identity, label+identity, domain, attributes
    data.domain_by = "domain"  # the column that defines domains: domain, session, sensor, ...
    data.attributes = ()  # attributes of target attributes, such as ("Male", "Young"), in the order of the labels
    data.record_size = 224  # px of the stored crops
    data.scale = 1.3  # crop side / longer side of the face box
    data.align = False  # fit MTCNN's landmarks to ArcFace's template instead
    data.image_size = 224  # px of the models' input
    data.protocol = "1"
    data.subjects = ml_collections.ConfigDict()  # {train, dev, test}: subject ranges of protocol `subjects`
    data.extra_sources = ()  # extra training domains of a cross-domain protocol, listed in results.json
    data.train_species = ()  # species to train on, () for all: the others are unseen until dev and test
    data.dev_share = 0.0  # share of the training subjects held out as dev where the protocol has none
    data.truth = False  # batches carry the truth maps of rendered pictures, which a term of kind `truth` reads
    data.views = 0  # epoch e shows view e mod n of each image, the same for every seed; 0: new views in every epoch
    # Further images without labels, on which only the teachers' terms count: their data set, its options and raw data,
    # and their share of every batch. Left out where no teacher is read; cross-entropy needs `where` label beside them.
    data.unlabelled = {"dataset": "", "options": ml_collections.ConfigDict(), "raw_dir": "", "share": 0.5}
    data.balance = ""  # columns such as domain+label, whose combinations get equal shares of every epoch
    # Worker processes of each host that decode and augment training images; 0: threads, which Python's lock limits to
    # a few thousand images a second (docs/speed.md). The batches are the same.
    data.workers = 0
    data.augment = {
        "crop": 0.8,
        "box": {"scale": 0.0, "shift": 0.0},
        "flip": True,
        "exposure": 0.0,
        "colour": 0.0,
        "randaugment": {"ops": 2, "magnitude": 9},
        "degrade": 0.0,
        "erasing": 0.25,
        "mixup": 0.8,
        "cutmix": 1.0,
    }

    # Probabilities that a live crop becomes a simulated attack, and that any other crop is recaptured (attacked.py).
    data.attack = {"probability": 0.0, "recapture": 0.0}

    # The DeiT recipe (KDFAS in docs/methods.md); lr is per 512 examples.
    config.train = {"batch_size": 128, "epochs": 300.0, "eval_epochs": 10.0}
    config.optim = {
        "lr": 5e-4,
        "min_lr": 1e-5,
        "warmup_epochs": 5.0,
        "weight_decay": 0.05,
        "b1": 0.9,
        "b2": 0.999,
        "clip_norm": 0.0,
        "ema": 0.0,  # decay of the averaged parameters, which are then evaluated and exported; 0 keeps no average
        "accumulate": 1,  # gradient-accumulation steps: parts of a batch whose gradients are averaged, for less memory
        # Fine-tuning of a ViT: each block's learning rate is `layer_decay` times that of the next one, and the first
        # `freeze_blocks` blocks and the embedding before them are not trained.
        "layer_decay": 1.0,
        "freeze_blocks": 0,
        "every": {},  # update interval per parameter group, in steps: {a name in the path of the parameters: n}
    }
    config.control = ""  # a finished run of the same student on labels alone, beside which the teacher's figures stand
    # Test images on which each evaluation measures how many decisions flip in other views of them (stability) and under
    # a white-box attack (whitebox); 0 for none.
    # threshold: the operating point of dev (`metrics.OPERATING_POINTS`) that the run decides by.
    config.eval = {"batch_size": 128, "threshold": "eer", "stability": 192, "whitebox": 0}
    config.report = {"faces": False}  # also show real people's faces on the page, and heat maps
    return config


def teacher_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the options of a teacher (config.teachers.NAME) that its own `config` trains; no outputs are stored."""
    return {"config": config, "checkpoint": "", "allow_overlap": False, "cache": ()}


def distilled(config: ml_collections.ConfigDict, teacher: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Adds a spoof teacher and the KDFAS terms to `config`: L = (1 - a) CE + a tau^2 KL + beta F, a = 0.7, tau = 3.

    The teacher shares the data settings and the seed: an override of the student's applies to both. It learns from
    labels alone, in new views each epoch.
    """
    teacher.data = _shared(config.data)
    teacher.seed = config.get_ref("seed")
    config.teachers.spoof = teacher_options(teacher)
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
        "lift": 0,  # channels of a dense layer that the student's tokens pass in training alone; 0 for none
        "momentum": 0.0,  # of a running mean, over batches, of the map C of `cross` and `regression`; 0 for none
    }
    return config


def ensemble(config: ml_collections.ConfigDict, members: int, teacher: Callable) -> ml_collections.ConfigDict:
    """Lets `members` teachers, `teacher()` with other seeds, teach the mean of their logits to a `distilled` config.

    The class tokens remain those of the first, `spoof`.
    """
    names = ["spoof", *(f"spoof{number}" for number in range(2, members + 1))]
    for number, name in enumerate(names[1:], 1):
        member = teacher()
        member.data = config.teachers.spoof.config.data
        member.seed = config.get_ref("seed") + 100 * number
        config.teachers[name] = teacher_options(member)
    config.terms.kl.teacher = "+".join(names)
    return config


def _shared(data: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The data settings of a teacher: references to the student's, but for what students alone have."""
    own = ml_collections.ConfigDict()
    for key, value in data.items():
        if key not in ("views", "unlabelled"):
            own[key] = value if isinstance(value, ml_collections.ConfigDict) else data.get_ref(key)
    own.views, own.unlabelled = 0, base("").data.unlabelled
    return own


def _same_data(config: ml_collections.ConfigDict, teacher: ml_collections.ConfigDict) -> None:
    """Lets `teacher` read the same images as `config`, for another target: an override applies to both."""
    crop = ("record_size", "scale", "align", "image_size")
    for key in ("dataset", "raw_dir", "protocol", "extra_sources", "train_species", "dev_share", "domain_by", *crop):
        teacher.data[key] = config.data.get_ref(key)
    teacher.data.options, teacher.data.subjects = config.data.options, config.data.subjects


def attacked(config: ml_collections.ConfigDict, domains: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Adds the domain classifier E_d and the domain adversarial attack to `config` (DTDA in docs/methods.md).

    The student and all teachers see the attacked images x_adv instead of the batch's. E_d shares the data settings and
    the seed of `config`: an override of the student's applies to both.
    """
    _same_data(config, domains)
    domains.seed = config.get_ref("seed")
    domains.data.data_dir = config.data.get_ref("data_dir")
    config.teachers.domains = teacher_options(domains)
    config.daa.classifier = "domains"
    return config


def dual_teachers(
    config: ml_collections.ConfigDict,
    domains: ml_collections.ConfigDict,
    perceptual: ml_collections.ConfigDict,
    generative: ml_collections.ConfigDict,
    generative_stages: tuple[tuple[int, int], ...],
) -> ml_collections.ConfigDict:
    """Adds DTDA's face teachers and the domain adversarial attack to `config` (DTDA in docs/methods.md); DAT is off.

    L = CE + l_p align(student, perceptual) + l_g align(student, generative), all on x_adv, l_p = l_g = 1 [C]. The face
    teachers are trained on other data than the student, in the same data folder.
    """
    attacked(config, domains)
    stages = {"perceptual": tuple((stage, stage) for stage in range(1, 5)), "generative": generative_stages}
    for name, teacher in (("perceptual", perceptual), ("generative", generative)):
        teacher.data.data_dir = config.data.get_ref("data_dir")
        config.teachers[name] = teacher_options(teacher)
        config.terms[name] = {"kind": "align", "weight": 1.0, "teacher": name, "stages": stages[name]}
    config.terms.adversary = {"kind": "domain_adversary", "weight": 0.0, "domains": domains.model.classes}
    return config


OFF = {"weight": 0.0}
# KDFAS without its teacher: cross-entropy at full weight, which it otherwise shares with KL.
LABELS = {"ce": {"weight": 1.0}, "kl": OFF, "covariance": OFF}
# KDFAS and the attack, each with and without the other: name -> changes of the config (configs/ablation.py).
KDFAS_DAA_VARIANTS = {
    "none": {"terms": LABELS, "daa": {"steps": 0}},
    "daa": {"terms": LABELS},
    "kdfas": {"daa": {"steps": 0}},
    "kdfas_daa": {},  # the unchanged base config
}

# DTDA, its parts and its baselines: name -> changes of the config (configs/ablation.py).
PLAIN = {"terms": {"perceptual": OFF, "generative": OFF}}
DTDA_VARIANTS = {
    "erm": {**PLAIN, "daa": {"steps": 0}},
    "dat": {"terms": {**PLAIN["terms"], "adversary": {"weight": 1.0}}, "daa": {"steps": 0}},
    "daa": PLAIN,
    "perceptual": {"terms": {"generative": OFF}},
    "generative": {"terms": {"perceptual": OFF}},
    "dtda": {},  # the unchanged base config
}


def two_tasks(
    config: ml_collections.ConfigDict,
    recognition: ml_collections.ConfigDict,
    spoof: ml_collections.ConfigDict,
    spoof_stages: tuple[tuple[int, int], ...],
) -> ml_collections.ConfigDict:
    """Turns `config`, whose model has both heads, into MTAKD's student of two teachers (MTAKD in docs/methods.md).

    L = 0.3 ArcFace + CE + 2 tau^2 KL(spoof) + 10 (1 - cosine of embeddings) + (align(recognition) + align(spoof)) / 2,
    tau = 3; all weights are [C], from a few trials on mtkd_demo whose test results were seen. Recognition terms count
    examples with an identity, detection terms examples with a live/attack label. The teachers read the same images, for
    other targets and with other seeds.
    """
    for name, teacher in (("recognition", recognition), ("spoof", spoof)):
        _same_data(config, teacher)
        teacher.data.data_dir = config.data.get_ref("data_dir")
        config.teachers[name] = teacher_options(teacher)
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


# MTAKD and its terms: name -> changes of the config (configs/ablation.py).
NO_OUTPUTS, NO_STAGES = {"kl": OFF, "embedding": OFF}, {"align_recognition": OFF, "align_spoof": OFF}
MTAKD_VARIANTS = {
    "alone": {"terms": {**NO_OUTPUTS, **NO_STAGES}},
    "kl": {"terms": {"embedding": OFF, **NO_STAGES}},
    "align": {"terms": NO_OUTPUTS},
    "mtakd": {},  # the unchanged base config
}
