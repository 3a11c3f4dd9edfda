"""The camera that plays a recorded movie; whoever acquires with it alone needs no torch."""

from functools import partial
from pathlib import Path

from stormlive_sim.camera import Camera, MovieCamera
from stormlive_sim.recording import Recording


def movie_camera(path: Path) -> partial[Camera]:
    """Return what builds a camera that plays a recorded movie."""
    return partial(_movie, path)


def _movie(path: Path) -> Camera:
    return MovieCamera(Recording.open(path))
