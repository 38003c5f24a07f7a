"""Every command in the documents and in launch/demo.sh has flags, modes, configs and keys that exist. 3 s."""

import re
import shlex

import pytest

from input_pipeline.prepare import prepare
from tests.test_documents import DOCUMENTS, ROOT

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads configs by it
STARTS = re.compile(r"python main\.py|python -m input_pipeline\.prepare|kdfas |(sbatch |\./)?launch/\w+\.(sh|sbatch)")
# Beginnings of lines that cannot be parsed as they are -> why.
LEFT_OUT = {
    "python main.py --config=configs/mtkd_celeba_spoof.py:raw_dir=/path/{dataset},people=N": "N is a number of people",
    "python -m input_pipeline.prepare --dataset=NAME": "NAME is a data set",
    "python main.py --mode=benchmark --config=FILE": "FILE is a config",
}
# Launchers whose arguments are all main.py's, or those behind a word.
WHOLE = ("launch/run.sh", "launch/demo.sh", "launch/slurm.sbatch")
BEHIND = {"launch/local_cluster.sh": "--", "launch/tpu_vm.sh": "run"}


def commands():
    """(document, line) of each command in a block: lines that are fenced or indented by four spaces, joined at \\."""
    for document in (*DOCUMENTS, ROOT / "launch" / "demo.sh"):
        fenced, block = document.suffix == ".sh", []
        for line in document.read_text().replace('"$@"', "").splitlines():
            if line.lstrip().startswith("```"):
                fenced = not fenced
            block.append(line.strip() if fenced or line.startswith("    ") else "")
        for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(block)).splitlines():
            if STARTS.match(line):
                yield document.name, line


COMMANDS = list(commands())


def flags_of(line):
    """The flags of main.py in a command, and the launcher that gets them, '' for main.py itself."""
    words = shlex.split(re.sub(r"\[(.*?)\]", "", line), comments=True)  # optional parts in brackets
    words = words[1:] if words[0] == "sbatch" else words
    launcher = words[0].removeprefix("./")
    if launcher.startswith("launch/"):
        if launcher in BEHIND:
            words = words[words.index(BEHIND[launcher]) :] if BEHIND[launcher] in words else []
        return (words[1:] if launcher in (*WHOLE, *BEHIND) else []), launcher
    return words[1 if words[0] == "kdfas" else 2 :], ""


def test_blocks_have_commands():
    assert len(COMMANDS) > 60
    assert {"README.md", "evaluation.md", "own-data.md", "results.md", "demo.sh"} <= {
        document for document, _ in COMMANDS
    }
    assert all(any(line.startswith(left_out) for _, line in COMMANDS) for left_out in LEFT_OUT)


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=[f"{name}:{line[:60]}" for name, line in COMMANDS])
def test_a_documented_command_can_be_parsed(document, line, parsed):
    if line.startswith(tuple(LEFT_OUT)):
        return
    if line.startswith("python -m input_pipeline.prepare"):
        flags = prepare.flag_parser().parse_args(shlex.split(line, comments=True)[3:])
        prepare.datasets.get(flags.dataset)
        return
    arguments, launcher = flags_of(line)
    assert not launcher or (ROOT / launcher).stat().st_mode & 0o111, f"{launcher} cannot be executed"
    parsed(*arguments)


@pytest.mark.parametrize(
    "line",
    [
        "python main.py --wrkdir=x",
        "kdfas predct --workdir=x",
        "python main.py --mode=evaluate",
        "launch/run.sh --config=configs/kdfas_demos.py",
        "python main.py --config=configs/kdfas_demo.py:protocl=1",
        "launch/local_cluster.sh 4 -- --config=configs/kdfas_demo.py --config.optim.lrate=1",
    ],
)
def test_a_wrong_command_would_be_found(line, parsed):
    with pytest.raises((ValueError, OSError)):
        parsed(*flags_of(line)[0])
