"""Train, distil, evaluate, predict, export, plan: `python main.py --config=FILE`; see `python main.py --help`."""

from kdfas_jax.commands.cli.cli import run

if __name__ == "__main__":
    run()
