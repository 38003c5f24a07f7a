"""Entry point of the command `python -m input_pipeline.prepare`."""

from input_pipeline.prepare.prepare import main

main()
