"""What a person sees who gives wrong input: one line that says what was expected, exit code 1, nothing written."""

import json

import pytest

from kdfas_jax.commands.cli import cli
from kdfas_jax.parallel import distributed

pytestmark = pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections loads configs by it


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--config=configs/kdfas_demo.py:protocl=1"],
            "'protocl=1' is unknown; known arguments with their defaults: protocol=1",
        ),
        (["--config=configs/kdfas_oulu.py:data=oulo"], "unknown data set 'oulo'; known: camera, casia, "),
        (["--config=configs/ablation.py:variants=none+all"], "'all' is unknown; known: none, kl, cross"),
        (["--config.optim.learning=1"], "no key 'learning' there; known: accumulate, b1, b2, clip_norm, "),
        (["--config.train.batch_size=many"], "many"),
        (["surplus"], "unexpected argument 'surplus'"),
        (["--mode=eval", "--workdir=no/run"], "config.json does not exist; expected a run made by: python main.py"),
        (["--mode=eval", "--runs=a,b"], "a/eval/results.json does not exist; make it by: python main.py"),
        (["--mode=eval", "--runs=a"], "two or more"),
        (["--mode=plan", "--topology=v9z:2x2"], "Expected cpu:N, or a TPU slice"),
    ],
)
def test_wrong_flags(parsed, flags, message, monkeypatch):
    monkeypatch.setattr(distributed, "start", lambda *_: None)  # earlier tests of this process have used devices

    def main():
        parsed(*flags)
        cli.main(["main.py"])

    with pytest.raises((ValueError, FileNotFoundError)) as error:
        main()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.terms.kl.weight=-1", "config.terms.kl.weight=-1.0: expected a finite number, 0 (off) or more"),
        ("--config=configs/none.py", "configs/none.py does not exist; expected the path of a config, or one of "),
    ],
    ids=["found by the mode", "found before it"],
)
def test_an_error_is_one_line_with_exit_code_1_and_writes_nothing(run_main, tmp_path, flag, message):
    done = run_main(flag, f"--workdir={tmp_path / 'run'}", check=False)
    assert (done.returncode, done.stderr.count("error: ")) == (1, 1)
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert message in done.stderr.splitlines()[-1], done.stderr[-1000:]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_missing_data_directory_shows_the_tree_and_the_command(run_main, tmp_path):
    done = run_main("--config=configs/kdfas_nuaa.py:raw_dir=/no/such", f"--workdir={tmp_path / 'run'}", check=False)
    assert done.returncode == 1
    assert "/no/such" in done.stderr
    assert "ImposterRaw" in done.stderr
    assert "python -m input_pipeline.prepare --dataset=nuaa" in done.stderr
    assert not (tmp_path / "run").exists()


def test_default_workdirs():
    assert cli.default_workdir("configs/kdfas_demo.py") == "runs/kdfas_demo"
    assert cli.default_workdir("configs/kdfas_oulu.py:protocol=4.2") == "runs/kdfas_oulu-protocol=4.2"
    changed = cli.default_workdir("configs/kdfas_demo.py", {"optim.lr": 0.04, "report.faces": True})
    assert changed == "runs/kdfas_demo-optim.lr=0.04"
    long = cli.default_workdir("configs/kdfas_nuaa.py:raw_dir=/data/NUAA")
    assert "/" not in long.removeprefix("runs/")


@pytest.mark.slow
def test_plan_writes_the_contract(run_main, tmp_path, tiny_config):
    """The tiny step for 8 devices: its keys, and FLOPs near the analytic count."""
    output = tmp_path / "plan.json"
    done = run_main(f"--config={tiny_config}", "--mode=plan", "--topology=cpu:8", f"--output={output}")
    assert "FLOPs" in done.stdout
    plan = json.loads(output.read_text())
    assert {"params", "per_device", "analytic_flops", "flops_ratio", "collectives", "fits"} < set(plan)
    assert set(plan["per_device"]) == {"argument_bytes", "temp_bytes", "flops"}
    assert plan["collectives"]["all-reduce"] > 0
    assert plan["fits"]
    assert plan["gradient_bytes"] > 0
