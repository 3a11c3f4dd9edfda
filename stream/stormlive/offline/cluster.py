"""The Dask cluster that does the work: worker processes of this machine, or one that is there."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_S = 10
_WORKERS_S = 30


@contextmanager
def local_cluster(workers: int) -> Iterator["Client"]:
    """Start `workers` processes of one thread each on this machine, and stop them in the end.

    Dask's processes run whatever they are sent. On a machine with other users the loopback is no protection, so they
    know each other by certificates that are made for this cluster, and serve no web pages.
    """
    _require_dask()
    import dask
    from distributed import Client, LocalCluster

    # A worker that is lost is started again and its work done again; what a task raises is raised here.
    silenced = logging.getLogger("distributed")
    silenced.setLevel(logging.CRITICAL)
    # The canvases bound the memory, and `Engine.open` looks at what is free: a second guard would only kill.
    with (
        dask.config.set({"distributed.scheduler.http.routes": []}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            security=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
            preload=["stormlive.offline.part"],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def existing_cluster(address: str) -> Iterator["Client"]:
    """Connect to the scheduler at `address`, which has at least one worker.

    Raises
    ------
    InputError
        When there is none, or it has no workers, or stormlive is not installed there.
    """
    _require_dask()
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, and give the "
            "tcp://HOST:PORT that it prints to --scheduler"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError as error:
            raise InputError(
                f"the Dask scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`"
            ) from error
        # Modules are found by what every Python has, since nothing of ours can be asked for there.
        found: dict[str, object] = client.run(find_spec, "stormlive")
        found[f"scheduler {address}"] = client.run_on_scheduler(find_spec, "stormlive")
        if lacking := [place for place, spec in found.items() if spec is None]:
            raise InputError(f"there is no stormlive at {', '.join(lacking)}; install the same version there")
        yield client


def _require_dask() -> None:
    try:
        import cryptography  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError(f"--workers and --scheduler need Dask ({error}): pip install 'stormlive[dask]'") from error
