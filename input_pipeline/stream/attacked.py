"""Training batches in which some live crops have become simulated attacks (`simulate.attack`)."""

from collections.abc import Iterator

import numpy as np

from input_pipeline.stream import ops

SEEDED = 3  # what a generator is seeded for, beside the run's seed; the pipeline has 0 to 2
ATTACK, LIVE = np.eye(2, dtype=np.float32)


def with_attacks(
    batches: Iterator[dict[str, np.ndarray]], config, *, seed: int, start: int, first: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """The batches from step `start` on, as `config` (data.attack) says:

    - `probability`: of a live crop to be printed or displayed, and photographed again; its label becomes attack. Rows
      that mixup or cutmix have mixed are not live crops.
    - `recapture`: of every other crop, live or attack, to be taken through the same cameras without an instrument,
      label as it was: else the camera that follows a simulated instrument would tell the label.
    What becomes of a row depends on the seed, the step and its place in the batch of all hosts alone, so that an
    example drawn twice does not become the same attack twice. `first` is the place of this host's first row.
    """
    if not (config.probability or config.recapture):
        yield from batches
        return
    from input_pipeline.simulate.capture import attack  # JAX's compiler: seconds, for those who ask for attacks

    for step, batch in enumerate(batches, start):
        places = range(first, first + len(batch["index"]))
        draws = [ops.generator(seed, SEEDED, step, place).integers(1 << 32, size=3) for place in places]
        keys, *chances = np.array(draws).T
        attacked = (batch["label"] == LIVE).all(1) & (chances[0] < config.probability * (1 << 32))
        recaptured = ~attacked & (chances[1] < config.recapture * (1 << 32))
        images, labels = batch["image"].copy(), batch["label"].copy()
        images[attacked] = attack.simulate_attack(images[attacked], keys[attacked])
        labels[attacked] = ATTACK
        if "identity" in batch:
            batch = batch | {"identity": np.where(attacked, -1, batch["identity"])}
        images[recaptured] = attack.recapture(images[recaptured], keys[recaptured])
        yield batch | {"image": images, "label": labels}
