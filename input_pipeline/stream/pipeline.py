"""Streams of batches from prepared records, on tf.data.

A batch is a pure function of (seed, step): records are read by their place in the files, so any step is reached at
once, in any order of examples, and a host reads and decodes only its own rows. Training runs as long as it is asked
to; a test shows every example once, padded and masked so that every host runs the same number of steps.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from input_pipeline import datasets
from input_pipeline.prepare import prepare, records
from input_pipeline.select import protocols, roles
from input_pipeline.stream import attacked, ops
from input_pipeline.stream import pieces as stream

BOTH = roles.BOTH
# What `config.data.target` may ask for -> numbers of a class that batches carry, of the `classes` of these names.
TARGETS = {
    "label": ("domain",),
    "identity": ("identity",),
    BOTH: ("domain", "identity"),
    "domain": (),
    "attributes": (),
}
ORDER, VIEW, MIX = range(3)  # what a generator is seeded for, beside the run's seed


class Data(NamedTuple):
    """Prepared sets under a protocol. `table` has the rows of all, with a column `role` (train, dev, test or '') and
    `file` counting through `files`; `sources` names the domains of each role (`protocols.sources`); `attributes` are
    those that target 'attributes' asks for, in the order of its labels; `missing` has the files without (all of) their
    records, as of `records.Prepared`, with the role that they would have, or is None where records do not say."""

    table: pd.DataFrame
    files: Sequence[str]
    fingerprint: str  # of every example's metadata and image
    sources: dict[str, list[str]]
    attributes: tuple[str, ...] = ()
    missing: pd.DataFrame | None = None

    def count(self, role: str) -> int:
        """Examples of a role that have a face."""
        return int(self.has_face(role).sum())

    @property
    def threshold_role(self) -> str:
        """Where the threshold comes from: dev, or train where the protocol has no dev."""
        return "dev" if self.count("dev") else "train"

    def non_responses(self, role: str) -> int:
        """Videos of a role in which no frame has a face: they get no score, and are reported."""
        rows = self.table[self.table["role"] == role]
        return int((~rows.groupby(["dataset", "video"])["found"].any()).sum())

    def missing_files(self, role: str) -> dict[str, int]:
        """Files of a role that are 'absent', or 'corrupt', in whole or from some frame on; {} where nobody knows."""
        if self.missing is None:
            return {}
        reasons = self.missing["reason"][self.missing["role"] == role]
        return {reason: int((reasons == reason).sum()) for reason in ("absent", "corrupt")}

    def has_face(self, role: str) -> np.ndarray:
        """Which rows of the table have a role and a face, bool [n]."""
        return ((self.table["role"] == role) & self.table["found"]).to_numpy()


def open_data(config) -> Data:
    """The data sets of `config` (config.data) under its protocol, prepared first where their raw data is at hand.

    Errors as of `gather`; ValueError where the protocol selects nothing to train on or to test, or leaves a run that is
    to tell live from attack without one of the two to train on, for an unknown `config.target`, and for
    `config.attributes` that the data do not know, where they are the target. `config.domain_by` names the column that
    says which domain an example is from, once the protocol has chosen: the sessions or cameras of one set may be
    domains.

    Attacks are nobody: target 'identity' leaves them out. Where a target of people joins sets of both kinds, images
    whose liveness nobody knows have the splits of recognition, and the protocol assigns the others.
    """
    if config.target not in TARGETS:
        raise ValueError(f"config.data.target={config.target!r} is unknown; known: {', '.join(TARGETS)}")
    everything = gather(config)
    table = everything.table
    assigned, missing = roles.assigned(table, config), everything.missing
    if missing is not None and len(missing):  # which are not to change the roles of the others
        both = roles.assigned(pd.concat([table, missing], ignore_index=True), config)
        missing = missing.assign(role=both[len(table) :].to_numpy())
    data = everything._replace(
        table=table.assign(role=assigned, domain=roles.domains(table, config.domain_by)),
        sources=protocols.sources(table, assigned, tuple(config.extra_sources)),
        attributes=tuple(config.attributes) if config.target == "attributes" else (),
        missing=missing,
    )
    for role in ("train", "test"):
        if not data.count(role):
            raise ValueError(
                f"config.data.protocol={config.protocol!r} selects no {role} example with a face from "
                f"{config.dataset} ({len(table)} examples)"
            )
    if config.target == "attributes":
        _check_attributes(data)
    if "label" in config.target:
        _check_liveness(data, config)
    return data


def gather(config) -> Data:
    """All examples of the data sets of `config` (config.data), prepared first where need be, without roles.

    `config.dataset` may name several, joined by +; `{dataset}` in `config.raw_dir` stands for each name, and an option
    goes to every reader that has it. FileNotFoundError with the expected tree and the command where there is no data;
    ValueError for an unknown option, or a `raw_dir` that cannot be that of several sets.
    """
    prepared = _prepared(config)
    offsets = np.cumsum([0, *(len(p.files) for p in prepared)])
    table = pd.concat(
        [p.table.assign(file=p.table["file"] + offset) for p, offset in zip(prepared, offsets, strict=False)],
        ignore_index=True,
    )
    fingerprint = hashlib.sha256("".join(p.fingerprint for p in prepared).encode()).hexdigest()
    known = all(p.missing is not None for p in prepared)
    missing = pd.concat([p.missing for p in prepared], ignore_index=True).assign(role="") if known else None
    return Data(table.assign(role=""), [file for p in prepared for file in p.files], fingerprint, {}, missing=missing)


def _check_liveness(data: Data, config) -> None:
    """ValueError unless there are live faces and attacks to train on; `config.attack` may make the attacks of those."""
    found = set(data.table["label"][data.has_face("train")])
    for name, label, made in (("live face", 1, 0.0), ("attack", 0, config.attack.probability)):
        if label not in found and not made:
            raise ValueError(
                f"config.data.train_species={tuple(config.train_species)} and "
                f"config.data.protocol={config.protocol!r} leave no {name} to train on; expected both live faces and "
                "attacks, for which config.data.attack.probability may stand in"
            )


def _check_attributes(data: Data) -> None:
    """ValueError where the wanted attributes are unknown here, or a training example has no value of one."""
    pieces = set(";".join(data.table["attributes"].unique()).split(";")) - {""}
    known = sorted({piece.partition("=")[0] for piece in pieces})
    if not data.attributes or not set(data.attributes) <= set(known):
        raise ValueError(
            f"config.data.attributes={data.attributes}: expected names of attributes that the data know: "
            f"{', '.join(known) or 'none'}"
        )
    train = data.has_face("train")
    without = train & np.isnan(attributes(data)).any(axis=1)
    if without.any():
        sets = ", ".join(data.table["dataset"][without].unique())
        raise ValueError(
            f"config.data.attributes={data.attributes}: {without.sum()} of {train.sum()} training examples have no "
            f"value of one of them (from {sets}); take that set out of config.data.dataset, or that name out of these"
        )


def attributes(data: Data) -> np.ndarray:
    """The values of `data.attributes` of each row of `data.table`: float32 [n, k], 0 or 1, NaN where nobody says."""
    column = data.table["attributes"]
    values = [column.str.extract(f"(?:^|;){name}=([01])", expand=False) for name in data.attributes]
    return np.stack(values, axis=1).astype(np.float32)


def labels(data: Data, target: str) -> tuple[list[str], Callable[[np.ndarray], np.ndarray]]:
    """What a target asks for -> (names [k], rows of `data.table` int [b] -> their labels float32 [b, k]).

    'attributes': each of the names is 1, 0 or NaN. 'identity': no labels, [b, 0]. Others: 1 for the own one of
    `classes` (of 'label' for `BOTH`), zeros for a row of none.
    """
    if target == "attributes":
        values = attributes(data)
        return list(data.attributes), lambda rows: values[rows]
    if target == "identity":  # as numbers of a class: all people times all rows would be larger than the images
        return classes(data, target)[0], lambda rows: np.zeros((len(rows), 0), np.float32)
    names, own = classes(data, target.partition("+")[0])
    # Row by row: all images times all people would not fit into memory.
    return names, lambda rows: np.equal.outer(own[rows], np.arange(len(names))).astype(np.float32)


def classes(data: Data, target: str) -> tuple[list[str], np.ndarray]:
    """What a target tells apart -> (names of the classes in order, int [n]: the class of each row of `data.table`).

    'label': attack, live. 'identity', 'domain': the people ('set/subject'), the domains of the training rows, sorted.
    A row of no such class has -1; so has an attack for 'identity'.
    """
    if target == "label":
        return ["attack", "live"], data.table["label"].to_numpy()
    if target == "domain":
        of = data.table["domain"]
    else:
        of = (data.table["dataset"] + "/" + data.table["subject"]).mask(data.table["label"] == 0)
    names = sorted(of[data.has_face("train")].dropna().unique())
    return names, pd.Index(names).get_indexer(of)


def check_classes(data: Data, target: str, number: int, key: str = "config.model.classes") -> None:
    """ValueError, naming both numbers, unless `number`, which `key` sets, is that of the `labels` of `target`."""
    wanted = len(labels(data, "identity" if target == BOTH else target)[0])
    if number != wanted:
        raise ValueError(
            f"{key}={number}, but target {target!r} has {wanted} classes in the training data; set it to {wanted}"
        )


def _prepared(config) -> list[records.Prepared]:
    readers = {name: datasets.get(name) for name in config.dataset.split("+")}
    raw = [name for name, reader in readers.items() if hasattr(reader, "EXPECTED_TREE")]
    if len(raw) > 1 and config.raw_dir and "{dataset}" not in config.raw_dir:
        raise ValueError(
            f"config.data.raw_dir={config.raw_dir!r} for {'+'.join(raw)}: write {{dataset}} for the name of each set"
        )
    known = {name: datasets.options(reader) for name, reader in readers.items()}
    if unknown := [option for option in config.options if not any(option in options for options in known.values())]:
        raise ValueError(f"config.data.options: {config.dataset} has no option {unknown}; known: {known}")
    return [
        prepare.prepare(
            name,
            raw_dir=config.raw_dir.replace("{dataset}", name) if name in raw else "",
            data_dir=config.data_dir,
            options={option: value for option, value in dict(config.options).items() if option in known[name]},
            size=config.record_size,
            scale=config.scale,
            align=config.align,
        )
        for name in readers
    ]


def train_batches(
    data: Data, config, *, batch_size: int, seed: int, start: int, steps: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
    """Steps `start` .. `steps` of the training stream; `shard` = (host, hosts).

    Yields this host's rows: image uint8 [b, h, w, 3], index int64 [b], label float32 [b, k] (`labels` of
    `config.target`; soft where mixed; none for 'identity') and what `TARGETS` names, domain and identity, int32 [b]
    (numbers of `classes`; -1 for none; mixing leaves them). Every epoch is a new order of the training examples, its
    remainder dropped; `config.balance` names columns of the table, such as 'domain+label', of whose combinations each
    gets the same share of every epoch. Augmentation is seeded by the draw, its place in the epoch's order, so that an
    example drawn twice in an epoch is seen in two views. The hosts' rows together are the batch of a single host, as
    long as each has an even number of them.
    """
    if "label" not in config.target and (config.attack.probability or config.attack.recapture):
        raise ValueError(f"config.data.attack makes attacks for target 'label', not {config.target!r}; set it to zero")
    if "identity" in config.target and (config.augment.mixup or config.augment.cutmix):
        raise ValueError(f"config.data.augment: target {config.target!r} mixes no people; set mixup and cutmix to 0")
    groups = _groups(data, config.balance)
    per_epoch = data.count("train") // batch_size
    reader, augmentation = records.Reader(data.files, data.table), ops.Augmentation(config.augment)
    _, labels_of = labels(data, config.target)
    numbers = {name: classes(data, name)[1].astype(np.int32) for name in TARGETS[config.target]}

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return epoch_order(groups, per_epoch * batch_size, ops.generator(seed, ORDER, epoch))

    def piece(step: int, first: int, last: int) -> tuple[np.ndarray, ...]:
        epoch, number = divmod(step, per_epoch)
        draw = number * batch_size + first  # counted through the epoch
        rows = order(epoch)[draw : draw + last - first]
        images = np.stack(
            [
                augmentation.view(ops.decode(image, config.image_size), ops.generator(seed, VIEW, epoch, place))
                for place, image in enumerate(reader.images(rows), draw)
            ]
        )
        return images, augmentation.mix(images, labels_of(rows), ops.generator(seed, MIX, step)), rows

    made = stream.batches(piece, (start, steps), batch_size, shard, "label")
    made = ({**batch, **{name: of[batch["index"]] for name, of in numbers.items()}} for batch in made)
    if config.target == "identity":
        return ({name: value for name, value in batch.items() if name != "label"} for batch in made)
    host, hosts = shard
    first = host * (batch_size // hosts)
    return attacked.with_attacks(made, config.attack, seed=seed, start=start, first=first)


def test_batches(
    data: Data, role: str, config, *, batch_size: int, shard: tuple[int, int]
) -> Iterator[dict[str, np.ndarray]]:
    """Every example of a role that has a face, once, without augmentation; `shard` = (host, hosts).

    Yields image uint8 [b, h, w, 3], index int64 [b] and mask float32 [b]: 0 marks a row that only pads.
    """
    wanted = np.flatnonzero(data.has_face(role))
    steps = -(-len(wanted) // batch_size)
    reader = records.Reader(data.files, data.table)

    def piece(step: int, first: int, last: int) -> tuple[np.ndarray, ...]:
        rows = wanted[step * batch_size + first : step * batch_size + last]
        images = np.zeros((last - first, config.image_size, config.image_size, 3), np.uint8)
        for place, image in enumerate(reader.images(rows)):
            images[place] = ops.decode(image, config.image_size)
        padding = (0, last - first - len(rows))
        return images, np.pad(np.ones(len(rows), np.float32), padding), np.pad(rows, padding)

    return stream.batches(piece, (0, steps), batch_size, shard, "mask")


def epoch_order(groups: Sequence[np.ndarray], length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` examples (int64) in drawn order, as many of each group, to within one.

    groups: the examples of each. A group gives whole permutations of itself and a part of one more, so no example
    is drawn twice before all of its group were drawn once.
    """
    shares = np.diff(np.arange(len(groups) + 1) * length // len(groups))
    drawn = []
    for group, share in zip(groups, rng.permutation(shares), strict=True):
        rounds = -(-share // len(group))
        drawn += [np.concatenate([rng.permutation(group) for _ in range(rounds)] or [group])[:share]]
    return rng.permutation(np.concatenate(drawn))


def _groups(data: Data, balance: str) -> list[np.ndarray]:
    rows = np.flatnonzero(data.has_face("train"))
    if not balance:
        return [rows]
    columns = balance.split("+")
    if unknown := [name for name in columns if name not in data.table.columns]:
        raise ValueError(
            f"config.data.balance={balance!r}: no column {unknown}; known: {', '.join(data.table.columns)}"
        )
    return [rows[members] for members in data.table.iloc[rows].groupby(columns).indices.values()]
