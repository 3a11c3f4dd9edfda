"""The sender of a chaotic run, as a script: frames come in the plan's way, and the account goes to ``report.json``.

    python _chaos_sender.py PLAN ADDRESS FOLDER

``begun`` in the folder holds the run's UUID once a frame was offered; ``live`` is there once frames are in the picture.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _chaos_inside import disturb_sender
from _chaos_keys import keys_of
from _chaos_plan import CALIBRATION, Plan
from numpy.typing import NDArray

from stormlive.acquire import connection, sender
from stormlive.acquire.acquisition import AcquisitionSettings
from stormlive.acquire.hook import StreamHook
from stormlive.acquire.report import HookReport
from stormlive.acquire.saved import image_saved
from stormlive.acquire.stream import FrameStream

PATIENCE_S = 60.0
# The outbox begins each frame at a multiple of this.
_ALIGNMENT = 64
Movie = NDArray[np.uint16]


class MovieCamera:
    """Plays the plan's frames."""

    bit_depth = 16

    def __init__(self, movie: Movie) -> None:
        self._movie = movie
        self.shape = movie.shape[1:]
        self.n_frames = len(movie)

    def render(self, frame: int, x: int, y: int, w: int, h: int, binning: int, exposure_ms: float, out: Movie) -> None:
        """Copy a frame."""
        np.copyto(out, self._movie[frame, y : y + h, x : x + w])


def make_hook(plan: Plan, address: str, folder: Path, dataset: Path | None = None) -> StreamHook:
    mode = "latest" if plan.way == "latest" else "block" if plan.way == "stream" else "account"
    slot = -(-plan.frame_bytes // _ALIGNMENT) * _ALIGNMENT
    hook = StreamHook(
        address,
        calibration=CALIBRATION,
        name=plan.name,
        outbox_mb=plan.outbox_frames * slot / 2**20,
        spool_mb=plan.spool_frames * plan.frame_bytes / 2**20,
        spool_folder=folder,
        mode=mode,
        expected=plan.n,
        dataset=None if dataset is None else str(dataset.absolute()),
        keys=keys_of("sender", folder),
        lane=plan.lane,
    )
    threading.Thread(target=tell, args=(hook, folder), daemon=True).start()
    return hook


def tell(hook: StreamHook, folder: Path) -> None:
    """Leave the marks that tell how far the run is."""
    part = folder / "begun.part"
    part.write_text(str(hook.run))
    while not hook.progress.offered:
        time.sleep(0.002)
    part.replace(folder / "begun")
    while not hook.progress.live:
        time.sleep(0.01)
    (folder / "live").touch()


def pace(plan: Plan, hook: StreamHook, offer: Callable[[int], None]) -> None:
    """Offer the frames at the camera's pace, or as soon as there is room."""
    began = time.perf_counter()
    for number in range(plan.n):
        while plan.patient and not hook.has_room:
            time.sleep(0.002)
        time.sleep(max(0.0, began + plan.seconds * number / plan.n - time.perf_counter()))
        offer(number)


def by_hook(plan: Plan, address: str, folder: Path, movie: Movie) -> HookReport:
    hook = make_hook(plan, address, folder)
    pace(plan, hook, lambda number: expect_pair(hook, movie[number], {"Axes": plan.axes(number)}))
    return hook.close(PATIENCE_S)


def by_stream(plan: Plan, address: str, folder: Path, movie: Movie) -> HookReport:
    live = FrameStream(make_hook(plan, address, folder), patience_s=PATIENCE_S)
    pace(plan, live.hook, lambda number: live.send(movie[number], plan.axes(number)))
    return live.hook.close(PATIENCE_S)


def by_dataset(plan: Plan, address: str, folder: Path, movie: Movie) -> HookReport:
    """Offer frames, or only say which they are, beside a program that saves them as NDTiff."""
    from ndstorage import NDTiffDataset

    dataset = NDTiffDataset(str(folder), name="raw", writable=True)
    dataset.initialize({})
    hook = make_hook(plan, address, folder, Path(dataset.path))
    saved = image_saved(hook)

    def offer(number: int) -> None:
        axes = plan.axes(number)
        if plan.way == "hook with dataset":
            expect_pair(hook, movie[number], {"Axes": axes})
        dataset.put_image(axes, movie[number], {})
        if plan.way == "refer":
            saved(axes, dataset)

    pace(plan, hook, offer)
    dataset.finish()
    report = hook.close(PATIENCE_S)
    dataset.close()
    return report


def by_acquisition(plan: Plan, address: str, folder: Path, movie: Movie) -> HookReport:
    """Acquire through Pycro-Manager: the hook is its ``image_process_fn``."""
    if plan.channels > 1:
        # Pycro-Manager adds the number; the hook is made before the folder is there.
        dataset = folder / "raw_1"
        return by_events(plan, address, folder, movie, lambda hook: {"image_process_fn": hook}, dataset)
    from stormlive.acquire.micromanager import acquire

    hooks: list[StreamHook] = []

    def hook_for(dataset: Path | None) -> StreamHook:
        hooks.append(make_hook(plan, address, folder, dataset))
        return hooks[0]

    result = acquire(_settings(plan, folder, movie), make_hook=hook_for)
    if (result.seen, result.saved) != (plan.n, plan.n):
        raise RuntimeError(f"the acquisition was disturbed: {result}")
    return hooks[0].close(PATIENCE_S)


def by_saved(plan: Plan, address: str, folder: Path, movie: Movie) -> HookReport:
    """Acquire through Pycro-Manager: the hook is told of frames by ``image_saved_fn``."""
    return by_events(plan, address, folder, movie, lambda hook: {"image_saved_fn": image_saved(hook)})


def by_events(
    plan: Plan,
    address: str,
    folder: Path,
    movie: Movie,
    functions: Callable[[StreamHook], dict[str, Any]],
    dataset: Path | None = None,
) -> HookReport:
    """Acquire as a script of Pycro-Manager's does, with events of its own."""
    from pycromanager import Acquisition

    from stormlive.acquire.core import open_core

    with open_core(_settings(plan, folder, movie)):
        hook = make_hook(plan, address, folder, dataset)
        with Acquisition(directory=str(folder), name="raw", show_display=False, **functions(hook)) as acquisition:
            acquisition.acquire([{"axes": plan.axes(number)} for number in range(plan.n)])
        return hook.close(PATIENCE_S)


def _settings(plan: Plan, folder: Path, movie: Movie) -> AcquisitionSettings:
    exposure_ms = 1000 * plan.seconds / plan.n
    return AcquisitionSettings(n_frames=plan.n, exposure_ms=exposure_ms, camera=lambda: MovieCamera(movie), out=folder)


def expect_pair(hook: StreamHook, image: Movie, metadata: dict[str, Any]) -> None:
    pair = hook(image, metadata)
    if pair[0] is not image or pair[1] is not metadata:
        raise RuntimeError("the hook did not return the pair that it was given")


SENDERS = {
    "hook": by_hook,
    "latest": by_hook,
    "stream": by_stream,
    "hook with dataset": by_dataset,
    "refer": by_dataset,
    "acquisition": by_acquisition,
    "acquisition saved": by_saved,
}


def main() -> None:
    plan, address, folder = Plan.read(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(levelname)s %(name)s: %(message)s")
    # So that a run takes seconds; nobody is asked to believe that shorter pauses are kinder.
    connection.CONNECT_S, sender.LONGEST_PAUSE_S = 0.5, 0.5
    disturb_sender(plan)
    report = SENDERS[plan.way](plan, address, folder, plan.movie())
    answer = {
        "run": str(report.run),
        "offered": report.offered,
        "live": report.live.to_list(),
        "replayed": report.replayed.to_list(),
        "missing": {reason: ranges.to_list() for reason, ranges in report.missing.items()},
        "folder": report.folder,
        "failed": report.failed,
        "sentence": report.sentence,
    }
    (folder / "report.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
