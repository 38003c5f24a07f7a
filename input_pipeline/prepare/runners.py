"""Runners that write the parts of a data set: local processes or Apache Beam. They yield each part when finished."""

import concurrent.futures
import multiprocessing
from collections.abc import Iterator, Sequence

from input_pipeline.prepare import parts

POLL = 0.5  # seconds between two checks for parts that Beam has finished


def with_workers(pending: Sequence[parts.Part], workers: int) -> Iterator[parts.Part]:
    """Writes parts in `workers` local processes, or in this process for 1. Raises OSError where a worker died."""
    if workers <= 1 or len(pending) <= 1:
        for part in pending:
            parts.write(part)
            yield part
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of TensorFlow's threads
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(pending)), context) as pool:
        futures = {pool.submit(parts.write, part): part for part in pending}
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                yield futures[future]
        except concurrent.futures.process.BrokenProcessPool as error:
            raise OSError(
                "a worker died, perhaps for lack of memory; finished parts are kept: run again with fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def with_beam(pending: Sequence[parts.Part], arguments: Sequence[str]) -> Iterator[parts.Part]:
    """Writes parts in an Apache Beam pipeline with these arguments, such as ['--runner=DirectRunner'].

    The workers of the pipeline must see the same folders. Raises ValueError where Beam is not installed.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError("--runner needs Apache Beam: pip install -r requirements-beam.txt") from error

    def run() -> None:
        with apache_beam.Pipeline(options=PipelineOptions(list(arguments))) as pipeline:
            _ = pipeline | apache_beam.Create(pending) | apache_beam.Reshuffle() | apache_beam.Map(parts.write)

    with concurrent.futures.ThreadPoolExecutor(1) as background:
        running, waiting = background.submit(run), list(pending)
        while waiting:
            ended = bool(concurrent.futures.wait([running], POLL).done)
            yield from (part for part in waiting if part.finished)
            waiting = [part for part in waiting if not part.finished]
            if ended:
                break
        running.result()
