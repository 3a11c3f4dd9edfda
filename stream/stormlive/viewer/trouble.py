"""What is wrong with a run, or has still to come, in a plain sentence."""

from stormlive.wire.viewing import Status

# The engine's batches make the backlog go up and down by a quarter of a second's frames.
_BACKLOG_S = 1.0
_SLOWER = 1.2


def trouble(status: Status) -> str | None:
    """Return the one sentence that matters most; None where nothing is wrong."""
    if status.notice:
        return status.notice
    if status.exit_status not in (None, "ok"):
        return f"the run ended early: {status.exit_status}"
    if status.state == "silent":
        return "no sign of the acquisition: its program hangs or has ended; the run is closed if it stays away"
    slower = slowness(status)
    if slower is not None:
        share = max(1.0, 100 / slower)
        # No other model: which of them take this camera, the viewer does not know.
        return (
            f"the engine is {slower:.1f}× slower than the camera: a ROI of {share:.0f} % of the pixels would keep up; "
            "what waits is added when the camera stops"
        )
    if status.dropped and status.state != "backfill":
        frames = "1 frame is" if status.dropped == 1 else f"{status.dropped} frames are"
        return f"{frames} not in the picture (so far); the raw data is not touched by that"
    judgement = status.judgement
    if judgement and judgement.gauge == "red":
        return judgement.sentence
    return None


def waits_for(status: Status) -> str:
    """Return what has to come before a run has a picture; empty where it has one."""
    if status.live + status.replayed:
        return ""
    if status.state == "opening":
        return f"The run {status.name} begins: the server makes its canvas."
    if status.state in ("finishing", "finished"):
        return f"The run {status.name} has ended without a frame in the picture."
    if status.received:
        come = "its first frame has come" if status.received == 1 else f"{status.received} frames have come"
        # The status does not tell whether the model looks at neighbours; without gaps these come at once.
        if status.dropped:
            return (
                f"The run {status.name} has begun, {come}, and {status.dropped} did not.\nThe first ones are being "
                "computed, or wait until those beside them come or the run ends, if the network looks at these too."
            )
        return (
            f"The run {status.name} has begun, and {come}.\nThe first ones are being computed; that may take some "
            "seconds, while the network is made ready for frames of this size."
        )
    return f"The run {status.name} has begun; its first frame has not come yet."


def slowness(status: Status) -> float | None:
    """Return by how much the engine is slower than the camera; None where it keeps up or nobody knows."""
    camera = status.camera_per_s
    if not camera or status.state != "running" or status.frames_per_s <= 0:
        return None
    ratio = camera / status.frames_per_s
    return ratio if ratio > _SLOWER and status.backlog > _BACKLOG_S * camera else None
