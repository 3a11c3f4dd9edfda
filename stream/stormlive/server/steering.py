"""Who may say, while a run goes on, in which region its frames are computed: its owner, or anybody if so allowed."""

import hmac
import logging

from msgspec import UNSET

from stormlive.server.runs import Runs
from stormlive.wire.messages import Error, Start
from stormlive.wire.region import computed_region, token_digest
from stormlive.wire.viewing import Steer, Steered
from stormlive_sim.errors import InputError

MOST_REGIONS = 64
"""Of a run: each has its ranges in the account."""

_log = logging.getLogger(__name__)


class Steering:
    """Answers STEER; in the IO thread.

    Parameters
    ----------
    open_to_all
        Whether all viewers may, or only those who have the token of which the run's START has the digest.
    """

    def __init__(self, runs: Runs, *, open_to_all: bool) -> None:
        self._runs = runs
        self._open_to_all = open_to_all

    def answer(self, steer: Steer) -> Steered | Error:
        """Have the frames that the engine takes from now on computed in another region."""
        run = self._runs.taking(steer.run)
        if run is None:
            return _refusal(steer, "no-run", "there is no such run here, or it takes no more frames")
        if not (self._open_to_all or _is_owner(run.start, steer.token)):
            return _refusal(
                steer,
                "refused",
                "this server lets only the program that runs the acquisition choose what is computed; "
                "`stormlive serve --steer` lets all who look",
            )
        try:
            region = computed_region(steer.region, run.start.shape)
        except InputError as error:
            return _refusal(steer, "bad-region", str(error))
        with self._runs.lock:
            if region not in run.ledger.regions and len(run.ledger.regions) >= MOST_REGIONS:
                return _refusal(steer, "bad-region", f"a run has at most {MOST_REGIONS} regions, one after the other")
            run.region = region
        _log.info("run %s: computed in %s", run.start.name, region or "the whole frame")
        return Steered(request=steer.request, run=steer.run, region=region)


def _is_owner(start: Start, token: bytes) -> bool:
    return start.steer is not UNSET and bool(token) and hmac.compare_digest(token_digest(token), start.steer)


def _refusal(steer: Steer, code: str, message: str) -> Error:
    return Error(code=code, fatal=False, message=message, request=steer.request)
