"""What the engine's thread is asked to do."""

from dataclasses import dataclass

from stormlive.ranges import Ranges
from stormlive.server.run import Ending, Owner, Reference, Run
from stormlive.wire.frame import Frame
from stormlive.wire.viewing import View


@dataclass(frozen=True, kw_only=True)
class OpenJob:
    """Make a canvas for a run."""

    run: Run


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """Add frames to a run's canvas, those that came and those that are to be read from its dataset."""

    run: Run
    owner: Owner
    frames: list[Frame]
    references: list[Reference]


@dataclass(frozen=True, kw_only=True)
class KeepJob:
    """Make a checkpoint of a run."""

    run: Run


@dataclass(frozen=True, kw_only=True)
class ReportJob:
    """Ask a run's sender for frames."""

    run: Run
    owner: Owner
    missing: Ranges


@dataclass(frozen=True, kw_only=True)
class HeldJob:
    """Compute some frames that waited for others."""

    run: Run


@dataclass(frozen=True, kw_only=True)
class SettleJob:
    """Let frames not wait any more for others, which will not come."""

    run: Run


@dataclass(frozen=True, kw_only=True)
class FinishJob:
    """Close a run."""

    run: Run
    ending: Ending


@dataclass(frozen=True, kw_only=True)
class ViewJob:
    """Answer a viewer."""

    viewer: bytes
    view: View
    run: Run | None


Job = OpenJob | BatchJob | KeepJob | ReportJob | HeldJob | SettleJob | FinishJob | ViewJob
