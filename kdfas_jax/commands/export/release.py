"""Makes the model that the package ships (`runs.released`) from a finished run; called by launch/release.sh.

    python -m kdfas_jax.commands.export.release records ARGUMENTS FOLDER [--data_dir=data]
    python -m kdfas_jax.commands.export.release write RUN FOLDER [--formats=onnx,onnx_int8] [--card=docs/released.md]

`records` prepares the records of configs/released.py with these ARGUMENTS. Where FOLDER holds a released model of the
same data, the digests of both records must agree. `write` replaces the model in FOLDER by that of RUN. Where the two
are the same run, made twice, their figures must agree, too.
"""

import argparse
import importlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import safetensors.numpy
from flax import traverse_util

from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.commands import evaluate, provenance
from kdfas_jax.commands.export import card, export
from kdfas_jax.commands.predict import predict
from kdfas_jax.metrics import amounts
from kdfas_jax.parallel import sharding
from kdfas_jax.runs import files, identity, origin, released, workdir
from kdfas_jax.training import teachers

# Largest difference of a figure on test between two runs of the same seeds [C]: none on one machine, where training is
# bit-identical; other processors round otherwise.
AGREE = {"auc": 0.01, "acer": 0.03}
GOLDEN = 8  # test crops that are shipped with their scores [C]


def check_records(config, folder: str) -> str:
    """Prepares the records of `config` and returns their digest.

    ValueError where `folder` holds a released model of the same data whose records have another digest.
    """
    found = pipeline.open_data(config.data, targets.get(config.data.target)).fingerprint
    earlier = _earlier(folder, "config.json")
    if not earlier or _data(earlier["config"]) != _data(identity.plain(config)):
        return found
    if earlier["data_fingerprint"] != found:
        raise ValueError(
            f"the records have the digest {found[:12]}, those of the released model in {folder} had "
            f"{earlier['data_fingerprint'][:12]}: expected the same; remove {folder} to release a model of other data"
        )
    return found


def write(run: str, folder: str, formats: Sequence[str]) -> str:
    """Makes the released model in `folder` from the finished `run`; returns the text of its card.

    ValueError where the run is not finished, where `folder` holds a released model of the same run with other figures,
    and as of `export.export`. After an error `folder` is as it was.
    """
    teachers.check_finished("RUN", run)
    note, results = workdir.read(run), _portable(workdir.evaluated(run))
    _check_agreement(results, _earlier(folder, "eval/results.json"), folder)
    config = ml_collections.ConfigDict(note["config"])
    table = evaluate.open_data(config, run).table
    splits = amounts.counted(table)
    results["statement"] = released.statement(results, splits["train"]["people"])
    note = note | {"command": ["launch/release.sh"], "config": results["config"]}
    temporary = f"{folder.rstrip('/')}.tmp{os.getpid()}"
    try:
        bundle = export.export(run, formats, temporary)
        bundle["files"] |= {released.WEIGHTS: _weights(run, os.path.join(temporary, released.WEIGHTS))}
        bundle["trained_on"]["caution"] = results["statement"]
        bundle |= {"records": note["data_fingerprint"], "card": released.CARD}
        text = card.text(results, bundle, splits, card.elsewhere(run))
        seen = provenance.coded(provenance.seen_by(run))
        for name, content in (
            (released.BUNDLE, bundle),
            ("config.json", note),
            ("provenance.json", {"examples": seen, "teachers": {}, "init": {}}),
            ("eval/results.json", results),
        ):
            files.write_atomically(os.path.join(temporary, name), json.dumps(content, indent=2))
        files.write_atomically(os.path.join(temporary, released.CARD), text)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return text


def golden(run: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns `GOLDEN` test crops of `run`, uint8 [n, s, s, 3], and their P(live), float32 [n], for later tests.

    ValueError where the run was tested on faces of real people, which must not be shipped.
    """
    config = ml_collections.ConfigDict(workdir.read(run)["config"])
    if not origin.simulated(config.data.dataset.split("+")):
        raise ValueError(
            f"{run} was tested on {config.data.dataset}; expected simulated faces to ship: leave --golden out"
        )
    data = evaluate.open_data(config, run)
    images = np.round(255 * export.crops_of(data, "test", config.data, GOLDEN)[0]).astype(np.uint8)
    score = predict.model(run, GOLDEN, cropped=True).score
    return images, np.array([read[0] for read in score(list(images))], np.float32)


def _weights(run: str, path: str) -> dict[str, Any]:
    """Writes the deployed variables of `run`, fp32, to the safetensors file `path`; returns its entry in the bundle."""
    loaded = teachers.load(run, sharding.make_mesh({"data": -1, "fsdp": 1}))
    flat = traverse_util.flatten_dict(jax.device_get(loaded.variables), sep="/")
    safetensors.numpy.save_file(flat, path)
    return {"format": "safetensors", "bytes": os.path.getsize(path), "sha256": export.sha256(path)}


def _portable(results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `results` without paths of the machine that made them."""
    taught = {name: of | {"run": os.path.basename(of["run"])} for name, of in results["teachers"].items()}
    return {**results, "teachers": taught, "config": _without_places(results["config"])}


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    there = {
        name: of | {"config": _without_places(of["config"]), "checkpoint": os.path.basename(of["checkpoint"])}
        for name, of in config.get("teachers", {}).items()
    }
    data = {**config["data"], "data_dir": "data", "raw_dir": ""}
    return {**config, "teachers": there, "control": os.path.basename(config["control"]), "data": data}


def _earlier(folder: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    return json.loads(files.read_text(path)) if files.exists(path) else {}


def _data(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides about the records: the data set, its options and the crop."""
    names = ("dataset", "options", "record_size", "scale", "align")
    return {name: config["data"][name] for name in names}


def _check_agreement(results: Mapping[str, Any], earlier: Mapping[str, Any], folder: str) -> None:
    if not earlier or identity.identity(results["config"]) != identity.identity(earlier["config"]):
        return
    for name, bound in AGREE.items():
        found, before = results["test"][name], earlier["test"][name]
        if abs(found - before) > bound:
            raise ValueError(
                f"{name} on test is {found:.4f}; the same run, released in {folder}, had {before:.4f}: expected at "
                f"most {bound} apart. Nothing was written; remove {folder} to release the new one"
            )


def main(argv: Sequence[str]) -> None:
    """The command line; ends with exit code 1 and one line for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m kdfas_jax.commands.export.release", description=__doc__)
    parser.add_argument("step", choices=("records", "write"))
    parser.add_argument("what", metavar="ARGUMENTS|RUN")
    parser.add_argument("folder")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--formats", default="onnx,onnx_int8")
    parser.add_argument("--card", default="", help="a second place for the model card")
    parser.add_argument("--golden", default="", help="an .npz file for simulated test crops and their scores")
    flags = parser.parse_args(argv)
    try:
        if flags.step == "records":
            config = importlib.import_module("configs.released").get_config(flags.what)
            config.data.data_dir = flags.data_dir
            print(f"digest of the records: {check_records(config, flags.folder)}")
            return
        text = write(flags.what, flags.folder, flags.formats.split(","))
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from error
    if flags.card:
        Path(flags.card).write_text(text, encoding="utf-8")
    if flags.golden:
        images, scores = golden(flags.what)
        np.savez_compressed(flags.golden, images=images, scores=scores)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
