"""What the server publishes about its runs."""

from msgspec import UNSET

from stormlive.server.protocols import Engine
from stormlive.server.run import Run
from stormlive.server.verdicts import judgement_of, overall
from stormlive.server.watch import MOST_JUDGED
from stormlive.wire.text import one_line
from stormlive.wire.viewing import Status


def idle_status(engine: Engine) -> Status:
    """Return the status of a server that has had no run yet."""
    return Status(state="idle", model=one_line(engine.model_name), device=one_line(engine.device))


def run_status(run: Run, engine: Engine, *, silent: bool) -> Status:
    """Return the status of a run; under the lock of `Runs`."""
    p50, p99 = run.latency_ms()
    camera_per_s = run.camera_per_s()
    canvases = run.canvases
    reconstruction = None if canvases is None else canvases.first.reconstruction
    judgement = (
        None if canvases is None else overall([judgement_of(canvases, one) for one in canvases.all[:MOST_JUDGED]])
    )
    return Status(
        state="silent" if silent and run.takes_frames else run.state,
        model=one_line(engine.model_name if reconstruction is None else reconstruction.model_name),
        device=one_line(engine.device),
        run=run.start.run,
        name=run.start.name,
        exit_status=None if run.final is None else run.final.exit_status,
        received=run.received,
        live=run.ledger.live.count(),
        replayed=run.ledger.replayed.count(),
        durable=run.durable.count(),
        dropped=sum(run.ledger.missing_counts().values()),
        expected=run.start.expected,
        frames_per_s=run.frames_per_s(),
        backlog=len(run.queue) + len(run.references) + run.held.count(),
        latency_p50_ms=p50,
        latency_p99_ms=p99,
        shape=run.start.shape,
        upsampling=None if reconstruction is None else reconstruction.upsampling,
        pixel_size_nm=run.start.calibration.pixel_size_nm,
        notice=run.notices[-1] if run.notices else "",
        lane=run.owner.lane,
        canvases=(canvases and canvases.names) or UNSET,
        judgement=judgement or UNSET,
        camera_per_s=UNSET if camera_per_s is None else camera_per_s,
        region=run.region or UNSET,
    )
