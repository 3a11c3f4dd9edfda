"""The record of a picture that is made offline: what run.json is to a live run, beside the picture."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from stormlive.offline.judging import sampled
from stormlive.offline.picture import Picture
from stormlive.output.judgement import judgement_record
from stormlive.output.manifest import (
    CanvasRecord,
    FileRecord,
    RouteRecord,
    RunRecord,
    installed_versions,
    write_record,
)
from stormlive.ranges import Ranges
from stormlive.server.finish import camera_record, model_record
from stormlive.server.ledger import Ledger
from stormlive.server.reconstruction import Reconstruction
from stormlive.wire.calibration import Calibration
from stormlive.wire.fields import Region
from stormlive.wire.viewing import Judgement


def write_offline_record(
    path: Path,
    picture: Picture,
    reconstruction: Reconstruction,
    calibration: Calibration,
    *,
    files: Sequence[Path],
    device: str,
    started_at: datetime,
    seconds: float | None,
    region: Region | None,
    judgement: Judgement | None,
) -> None:
    """Write how a picture came about.

    Parameters
    ----------
    reconstruction
        Holds all frames of the picture's movie.
    files
        Of the picture; those beside the record are named in it.
    device
        What computed, for people.
    seconds
        For how long; None where other pictures were made meanwhile.
    region
        In which alone frames were computed.
    """
    movie, n_frames = picture.movie, len(picture.movie)
    shape, u = (movie.shape[1], movie.shape[2]), reconstruction.upsampling
    ledger = Ledger()
    ledger.replayed = Ranges([(0, n_frames - 1)])
    ledger.regions[region] = ledger.replayed
    ledger.close(n_frames)
    there = [file for file in files if file != path and file.parent == path.parent]
    total = float(reconstruction.canvas().sum())
    names = [file.name for file in there]
    record = RunRecord(
        summary=ledger.sentence(),
        exit_status="ok",
        started_at=started_at,
        camera=camera_record(calibration, shape, movie.dtype.name),
        model=model_record(reconstruction),
        device=device,
        frames={**ledger.as_dict(), "judged": 0 if judgement is None else sum(map(len, sampled(n_frames)))},
        timings_s={"duration": seconds, "frames_per_s": n_frames / seconds if seconds else None},
        latency_ms={},
        canvas=CanvasRecord(
            shape=(shape[0] * u, shape[1] * u), upsampling=u, pixel_size_nm=calibration.pixel_size_nm / u, sum=total
        ),
        canvases=[RouteRecord(axes=list(picture.route), frames=n_frames, sum=total, files=names)],
        judgement=None if judgement is None else judgement_record([judgement], []),
        versions=installed_versions(),
        files=[FileRecord(name=file.name, bytes=file.stat().st_size) for file in there],
    )
    write_record(path, record)
