"""The package as it is installed: what it contains, and the command `kdfas` from another directory."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_packages

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("kdfas_jax", "input_pipeline", "configs")


def test_every_file_below_the_packages_is_installed():
    """Folders of code are packages, and files that are no code are package data."""
    setting = PROJECT["tool"]["setuptools"]
    found = find_packages(str(ROOT), include=setting["packages"]["find"]["include"])
    named = [(ROOT / name.replace(".", "/"), file) for name, of in setting["package-data"].items() for file in of]
    data = {folder / file for folder, file in named if not file.startswith("weights/")}
    data |= {path for folder, file in named if file.startswith("weights/") for path in folder.glob(file)}  # may be none
    files = [path for top in PACKAGES for path in (ROOT / top).rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    assert {path.parent for path in files if path.suffix == ".py"} == {ROOT / name.replace(".", "/") for name in found}
    assert {path for path in files if path.suffix != ".py"} == data


def test_the_scorers_requirements_are_among_those_of_the_package():
    """In the same ranges; numpy comes with JAX there."""

    def listed(name):
        lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
        return {line for line in lines if line}

    others = listed("requirements.txt") | listed("requirements-onnx.txt")
    assert listed("requirements-scorer.txt") - others == {"numpy>=1.26"}


def pins(name):
    """{package: version} of a lock file."""
    lines = (line.partition("==") for line in (ROOT / name).read_text().splitlines() if not line.startswith("#"))
    return {canonicalize_name(package): version for package, _, version in lines}


def test_the_lock_of_every_extra_extends_that_of_the_tests_and_has_each_extra():
    every = pins("requirements-ci-lock.txt")
    assert pins("requirements-lock.txt").items() <= every.items()
    for path in ROOT.glob("requirements*.txt"):
        if path.stem.endswith(("lock", "cuda")):  # CUDA builds need a GPU's machine
            continue
        for line in path.read_text().splitlines():
            line = line.partition("#")[0].strip()
            if line and not line.startswith("-r"):
                wanted = Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate():
                    assert wanted.specifier.contains(every[canonicalize_name(wanted.name)]), (path.name, line)


@pytest.mark.slow
def test_the_installed_command_works_in_another_directory(tmp_path):
    """Built as pip builds it, installed without its dependencies, which the tests' environment has."""
    tree, installed = tmp_path / "tree", tmp_path / "installed"
    ignore = shutil.ignore_patterns("__pycache__")
    for top in PACKAGES:
        shutil.copytree(ROOT / top, tree / top, ignore=ignore)
    for path in (*ROOT.glob("requirements*.txt"), *map(ROOT.joinpath, ("pyproject.toml", "setup.py"))):
        shutil.copy(path, tree)
    shutil.copy(ROOT / "README.md", tree)
    shutil.copy(ROOT / "LICENSE", tree)
    here = int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77  # else pip fetches it
    flags = ["--quiet", "--no-deps", "--disable-pip-version-check", *["--no-build-isolation"] * here]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, "--target", installed, tree], check=True)

    def call(*command):
        environment = {**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = call(sys.executable, "-c", f"import {', '.join(PACKAGES)}; print(kdfas_jax.__file__, configs.__file__)")
    assert done.stdout.count(str(installed)) == 2, done.stderr
    kdfas = str(installed / "bin" / "kdfas")
    done = call(kdfas, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: kdfas [MODE]" in done.stdout
    done = call(kdfas, "train", "--config=configs/kdfas_oulu.py:protocl=1")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("error: config argument 'protocl=1' is unknown; known arguments")
    assert (installed / "input_pipeline" / "simulate" / "people" / "head.npz").exists()
    version = next(installed.glob("kdfas_jax-*.dist-info")).name
    assert version == f"kdfas_jax-{PROJECT['project']['version']}.dist-info"
