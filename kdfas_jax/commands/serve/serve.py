"""Serves a trained model on this machine: a page for pictures, videos and the camera, and a JSON endpoint.

    python main.py --mode=serve --workdir=RUN [--port=8000] [--host=127.0.0.1]
    python main.py --mode=serve --bundle=RUN/export

Nothing is loaded from elsewhere, and nothing of an upload is kept (docs/serve.md).
"""

import os
import socket
import warnings

from kdfas_jax.commands.predict.scorer import Scorer

OPEN_CONNECTIONS = 64
LEAVE_SECONDS = 5  # for requests that are open when the server ends


def serve(folder: str, bundle: str, host: str, port: int) -> None:
    """Serves the run in `folder`, or the exported `bundle` where it is not '', until SIGINT or SIGTERM.

    Prints the address when it is ready. Raises ModuleNotFoundError without Starlette and uvicorn, OSError where
    `host` and `port` cannot be bound, before the model is loaded, and the errors of `Scorer` and `Scorer.from_run`.
    """
    try:
        import uvicorn

        from kdfas_jax.commands.serve import app
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing: pip install -r requirements-serve.txt") from error
    listening = _bound(host, port)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the caution, which the page shows
            scorer = Scorer(bundle) if bundle else Scorer.from_run(folder, batch=1)
    except Exception:
        listening.close()
        raise
    config = uvicorn.Config(
        app.make(scorer, host),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=OPEN_CONNECTIONS,
        timeout_graceful_shutdown=LEAVE_SECONDS,
        ws="none",
    )
    address, port = listening.getsockname()[:2]
    name = f"[{address}]" if ":" in address else address
    print(f"{bundle or folder} is served at http://{name}:{port}/ (Ctrl-C ends it)", flush=True)
    if caution := scorer.card["trained_on"]["caution"]:
        print(f"caution: {caution}", flush=True)
    uvicorn.Server(config).run([listening])


def _bound(host: str, port: int) -> socket.socket:
    """Returns a socket that listens at the address; OSError with the flags."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(os.name == "posix"))
        found.bind((host, port))
        found.listen(OPEN_CONNECTIONS)  # so that the address that is printed answers
    except OSError as error:
        found.close()
        raise OSError(
            f"--host={host} --port={port}: cannot be bound ({error.strerror or error}); give another --port, or 0 for "
            "any that is free"
        ) from error
    return found
