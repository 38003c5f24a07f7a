"""Streams of batches from prepared records, on tf.data.

A batch is a pure function of (seed, step): records are read by their place in the files, so any step is reached at
once, in any order of examples, and a host reads and decodes only its own rows. Training runs for any number of
steps; a test shows every example once, padded and masked so that every host runs the same number of steps.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from input_pipeline import datasets
from input_pipeline.prepare import faces, prepare, records
from input_pipeline.select import protocols, roles
from input_pipeline.select.examples import Data
from input_pipeline.select.target import Target
from input_pipeline.stream import attacked, ops, training_views, unlabelled, workers
from input_pipeline.stream import pieces as stream

ORDER, VIEW, MIX = range(3)  # what a generator is seeded for, beside the run's seed
VIEWS = 0x71E3  # seeds the views that all runs share


def open_data(config, target: Target) -> Data:
    """Opens the data sets of `config` (config.data) for `target`, prepared first where their raw data are at hand.

    `config.domain_by` names the column that holds an example's domain once the protocol has chosen: the sessions or
    cameras of one set may be domains. Raises the errors of `gather`, and ValueError where the protocol selects nothing
    to train on or to test, or where the data cannot train the target (`Target.check`).
    """
    everything = gather(config)
    table = everything.table
    assigned, missing = roles.assigned(table, config, target), everything.missing
    if missing is not None and len(missing):  # missing files must not change the roles of the others
        both = roles.assigned(pd.concat([table, missing], ignore_index=True), config, target)
        missing = missing.assign(role=both[len(table) :].to_numpy())
    data = everything._replace(
        table=table.assign(role=assigned, domain=roles.domains(table, config.domain_by)),
        sources=protocols.sources(table, assigned, tuple(config.extra_sources)),
        attributes=tuple(config.get("attributes", ())),  # which older runs lack
        missing=missing,
    )
    for role in ("train", "test"):
        if not data.count(role):
            raise ValueError(
                f"config.data.protocol={config.protocol!r} selects no {role} example with a face from "
                f"{config.dataset} ({len(table)} examples)"
            )
    target.check(data, config)
    return data


def with_unlabelled(data: Data, config) -> Data:
    """`data` and the images of `config.unlabelled` (config.data), where it names any (`unlabelled.added`)."""
    return unlabelled.added(data, config, gather)


def gather(config) -> Data:
    """All examples of the data sets of `config` (config.data), prepared first where need be, without roles.

    `config.dataset` may name several, joined by +; `{dataset}` in `config.raw_dir` stands for each name, and an option
    goes to every reader that has it. FileNotFoundError with the expected tree and the command where there is no data;
    ValueError for an unknown option, or a `raw_dir` that cannot be that of several sets.
    """
    prepared = prepared_sets(config)
    offsets = np.cumsum([0, *(len(p.files) for p in prepared)])
    table = pd.concat(
        [p.table.assign(file=p.table["file"] + offset) for p, offset in zip(prepared, offsets, strict=False)],
        ignore_index=True,
    )
    fingerprint = hashlib.sha256("".join(p.fingerprint for p in prepared).encode()).hexdigest()
    known = all(p.missing is not None for p in prepared)
    missing = pd.concat([p.missing for p in prepared], ignore_index=True).assign(role="") if known else None
    return Data(table.assign(role=""), [file for p in prepared for file in p.files], fingerprint, {}, missing=missing)


def prepared_sets(config) -> list[records.Prepared]:
    """Returns the records of each data set of `config` (config.data), prepared where need be; raises as `gather`."""
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
    data: Data,
    config,
    target: Target,
    *,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Returns steps `start` .. `steps` of the training stream; `shard` = (host, hosts).

    Yields this host's rows: image uint8 [b, h, w, 3], index int64 [b], label float32 [b, k] (`target.labels`, soft
    where mixed; no label where k = 0) and `target.columns`, int32 [b], which mixing leaves as they are; with
    `config.truth` also truth uint8 [b, m, m, 3], the truth maps of the same views. Every epoch is a new order of the
    training examples, its remainder dropped; `config.balance` names columns of the table, such as 'domain+label', of
    whose combinations each gets the same share of every epoch. Rows of the role unlabelled, where there are any, make
    up the share `config.unlabelled.share` of every epoch, whose length is that of the training examples. Augmentation
    is seeded by the draw, its place in the epoch's order, so that an example drawn twice in an epoch is seen in two
    views; with `config.views` n, epoch e shows view e mod n of each example, whatever the seed. The hosts' rows
    together are the batch of a single host where each host has an even number of rows. With `config.workers` so many
    processes decode and augment (`workers`), else threads; the batches are the same. Simulated attacks are made in
    threads, ahead of the consumer (`attacked`).
    """
    _check_augmentation(config, target)
    groups, free = _groups(data, config.balance), data.rows("unlabelled")
    per_epoch = data.count("train") // batch_size
    reader, augmentation = records.Reader(data.files, data.table), ops.Augmentation(config.augment)
    labels_of, columns = target.labels(data), target.columns(data)
    attack = attacked.simulator(config, seed)
    with_truth, views = config.get("truth", False), config.get("views", 0)  # which older runs lack

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        length, rng = per_epoch * batch_size, ops.generator(seed, ORDER, epoch)
        number = round(config.unlabelled.share * length) if len(free) else 0
        own = epoch_order(groups, length - number, rng)
        return rng.permutation(np.concatenate([own, epoch_order([free], number, rng)])) if number else own

    def piece(view: Callable[..., dict[str, np.ndarray]], step: int, first: int, last: int) -> dict[str, np.ndarray]:
        epoch, number = divmod(step, per_epoch)
        draw = number * batch_size + first  # counted through the epoch
        rows = order(epoch)[draw : draw + last - first]
        seeds = [(VIEWS, row, epoch % views) if views else (seed, VIEW, epoch, draw + i) for i, row in enumerate(rows)]
        seen = view(rows, seeds)
        images = seen["image"]
        labels = augmentation.mix(images, labels_of(rows), ops.generator(seed, MIX, step))
        return attack(seen | joined(images, labels, rows), step, first)

    def joined(images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        label = {"label": labels} if labels.shape[1] else {}
        return {"image": images, **label, "index": rows, **{name: of[rows] for name, of in columns.items()}}

    nothing = np.zeros(0, np.int64)
    unseen = {"image": np.zeros((0, config.image_size, config.image_size, 3), np.uint8)}
    if with_truth:
        ((first,),) = reader.examples(data.rows("train")[:1], "truth")
        unseen["truth"] = faces.decode_map(first)[None][:0]
    empty = unseen | joined(unseen["image"], labels_of(nothing), nothing)
    processes = config.get("workers", 0)  # which older runs lack
    view = functools.partial(training_views.of_rows, reader, augmentation, config.image_size, with_truth)

    def made() -> Iterator[dict[str, np.ndarray]]:
        with workers.processes(view, unseen, stream.PIECE, processes) as views_of:
            complete, calls = functools.partial(piece, views_of), 2 * processes  # while one is viewed, another is mixed
            yield from stream.batches(complete, empty, (start, steps), batch_size, shard, calls=calls)

    return made()


def _check_augmentation(config, target: Target) -> None:
    """Raises ValueError where `config` (config.data) attacks or mixes rows whose target does not allow it."""
    if not target.attackable and (config.attack.probability or config.attack.recapture):
        raise ValueError(f"config.data.attack makes attacks for target 'label', not {target.name!r}; set it to zero")
    if config.get("truth", False) and (
        config.attack.probability or config.attack.recapture or config.augment.mixup or config.augment.cutmix
    ):
        raise ValueError("config.data.truth: a map is of one picture as it is; set mixup, cutmix and attack to 0")
    if not target.mixable and (config.augment.mixup or config.augment.cutmix):
        raise ValueError(f"config.data.augment: target {target.name!r} mixes no people; set mixup and cutmix to 0")


Seen = Callable[[bytes, int], np.ndarray]  # (stored crop, its row of the table) -> image of the model's size


def test_batches(
    data: Data,
    rows: np.ndarray,
    config,
    *,
    batch_size: int,
    shard: tuple[int, int],
    seen: Seen | None = None,  # noqa: PT028 (this is no test)
) -> Iterator[dict[str, np.ndarray]]:
    """Returns the examples `rows` of `data.table`, each once; `shard` = (host, hosts).

    seen: what becomes of a stored crop, such as `training_view` and `moved`; None resizes it without augmentation.
    Yields image uint8 [b, h, w, 3], index int64 [b] and mask float32 [b]: 0 marks a row that only pads.
    """
    steps = -(-len(rows) // batch_size)
    reader = records.Reader(data.files, data.table)
    size = (config.image_size, config.image_size, 3)
    seen = seen or (lambda encoded, row: faces.decode(encoded, config.image_size))

    def piece(step: int, first: int, last: int) -> dict[str, np.ndarray]:
        index = rows[step * batch_size + first : step * batch_size + last]
        images = np.zeros((last - first, *size), np.uint8)
        for place, image in enumerate(reader.images(index)):
            images[place] = seen(image, index[place])
        padding = (0, last - first - len(index))
        mask = np.pad(np.ones(len(index), np.float32), padding)
        return {"image": images, "mask": mask, "index": np.pad(index, padding)}

    empty = {"image": np.zeros((0, *size), np.uint8), "mask": np.zeros(0, np.float32), "index": np.zeros(0, np.int64)}
    return stream.batches(piece, empty, (0, steps), batch_size, shard)


def training_view(config, number: int) -> Seen:
    """The view of this number of each example that training with `config.views` (config.data) shows."""
    augmentation = ops.Augmentation(config.augment)

    def seen(encoded: bytes, row: int) -> np.ndarray:
        return augmentation.view(faces.decode(encoded, config.image_size), ops.generator(VIEWS, row, number))

    return seen


def moved(data: Data, config, view: Callable[[np.ndarray, float], np.ndarray]) -> Seen:
    """What `view` (`views.VIEWS`) makes of each stored crop, and of the scale at which it was cut, before resizing."""
    scales = data.table["scale"].to_numpy()

    def seen(encoded: bytes, row: int) -> np.ndarray:
        return faces.resize(view(faces.decode(encoded, config.record_size), scales[row]), config.image_size)

    return seen


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
    rows = data.rows("train")
    if not balance:
        return [rows]
    columns = balance.split("+")
    if unknown := [name for name in columns if name not in data.table.columns]:
        raise ValueError(
            f"config.data.balance={balance!r}: no column {unknown}; known: {', '.join(data.table.columns)}"
        )
    return [rows[members] for members in data.table.iloc[rows].groupby(columns).indices.values()]
