"""Every way in which frames arrive: each is accounted for, and the live picture is the offline one.

One server process with its network takes the runs one after the other; each way is a process of its own, driven as its
users drive it (_ways.py). What became of the frames is what the server's run.json says. "difference" is the greatest
between the server's canvas and that of the same engine over the raw frames, in order and in other batches, relative to
the greatest of the canvas; "of one frame" is what the frame in the middle adds to it, which the difference would be if
that one were lost or doubled.

Exit status 1 when a frame is not in the picture exactly once, or a difference exceeds 1e-4: float32 sums of the same
increments in other batches differ by 2e-5.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from _report import report
from _rig import blinking_movie, livenet_server
from _ways import MOVIE, WAYS
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stormlive.output.manifest import RunRecord, read_record
from stormlive.ranges import Ranges
from stormlive.server.engine import Engine
from stormlive.wire.calibration import Calibration
from stormlive_sim.recording import Recording, write_movie

SCRIPT = Path(__file__).with_name("_ways.py")
SIDE = 64
BLOCK = 32
TOLERANCE = 1e-4
PATIENCE_S = 300


def drive(way: str, folder: Path, address: str, n: int) -> dict[str, Any]:
    """Run a way in a process of its own; return what it says, or what went wrong."""
    command = [sys.executable, str(SCRIPT), way, str(folder), address, str(n)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return {"trouble": f"hung for {PATIENCE_S} s"}
    if done.returncode != 0:
        return {"trouble": f"exit status {done.returncode}: {done.stderr.strip()[-2000:]}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def raw_frames(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    with Recording.open(path) as recording:
        return np.concatenate([block for _, block in recording.blocks(BLOCK)])


def difference(model: str, record: RunRecord, canvas: np.ndarray, frames: np.ndarray) -> tuple[float, float]:
    """Return the greatest difference to the offline canvas and the greatest that one frame adds, relative to it."""
    # The runtime that a machine is fastest with rounds in its own way: "cpu (torch)" is the device cpu:torch.
    engine = Engine(model, record.device.replace(" (", ":").rstrip(")"))
    camera = record.camera
    calibration = Calibration(
        pixel_size_nm=camera.pixel_size_nm,
        baseline_adu=camera.baseline_adu,
        photons_per_adu=camera.photons_per_adu,
        exposure_ms=camera.exposure_ms,
    )
    whole, one = (engine.open(camera.frame_shape, calibration) for _ in range(2))
    for first in range(0, len(frames), BLOCK):
        whole.add(frames[first : first + BLOCK])
    one.add(frames[len(frames) // 2 :][:1])
    offline = whole.canvas()
    most = float(offline.max())
    return float(np.abs(canvas - offline).max()) / most, float(one.canvas().max()) / most


def row_of(way: str, answer: dict[str, Any], folder: Path | None, model: str, n: int) -> dict[str, Any]:
    """Return the table's row; `folder` is the run's, on the server."""
    row: dict[str, Any] = {"way": way, "frames": 0, "live": 0, "replayed": 0, "missing": 0}
    if folder is None or "trouble" in answer:
        return {**row, "difference": None, "of one frame": None, "device": "", "frames/s": None, "good": False}
    record = read_record(folder)
    account = record.frames
    live, replayed = Ranges(account["live"]), Ranges(account["replayed"])
    missing = [Ranges(spans) for spans in account["missing"].values()]
    row["frames"], row["live"], row["replayed"] = account["frames"], live.count(), replayed.count()
    row["missing"] = sum(ranges.count() for ranges in missing)
    frames = raw_frames(Path(answer["raw"]))
    canvas = tifffile.imread(folder / "superres.ome.tif")
    row["difference"], row["of one frame"] = difference(model, record, canvas, frames)
    row["device"] = record.device
    row["frames/s"] = record.timings_s["frames_per_s"]
    row["good"] = (
        len(frames) == row["frames"] == answer.get("offered", n) == n
        and row["live"] + row["replayed"] == live.union(replayed).count() == n
        and record.exit_status == "ok"
        and row["difference"] <= TOLERANCE < row["of one frame"]
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--model", default="small")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    movie = blinking_movie(options.frames, SIDE)
    rows, troubles = list[dict[str, Any]](), dict[str, str]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as place, Progress(*columns) as bar:
        task = bar.add_task("", total=len(options.ways))
        out = Path(place) / "runs"
        with livenet_server(out, options.model) as server:
            for way in options.ways:
                bar.update(task, description=way)
                folder = Path(place) / way
                folder.mkdir()
                write_movie(folder / MOVIE, movie, pixel_size_nm=100)
                before = {record.parent for record in out.glob("*/run.json")}
                answer = drive(way, folder, server.address, options.frames)
                new = [record.parent for record in out.glob("*/run.json") if record.parent not in before]
                if "trouble" in answer or len(new) != 1:
                    troubles[way] = answer.get("trouble", f"left {len(new)} runs")
                rows.append(row_of(way, answer, new[0] if len(new) == 1 else None, options.model, options.frames))
                bar.advance(task)
    report("ways_in", rows, {**vars(options), "side": SIDE, "tolerance": TOLERANCE, "troubles": troubles})
    for way, trouble in troubles.items():
        print(f"{way}: {trouble}")
    if not all(row["good"] for row in rows):
        raise SystemExit("frames are missing, or a picture differs")


if __name__ == "__main__":
    main()
