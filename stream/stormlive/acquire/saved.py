"""Pycro-Manager's ``image_saved_fn``: no pixels are handed over, the server reads them from the dataset."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from stormlive.acquire.hook import StreamHook

Saved: TypeAlias = Callable[[Mapping[str, int | str], Any], None]


def image_saved(hook: StreamHook) -> Saved:
    """Return the ``image_saved_fn`` of an acquisition that saves NDTiff, on either backend.

    It costs the acquisition next to nothing, so it suits high rates and the Java backend's bridge; the server must
    see the dataset's folder. Like the hook it never waits and never raises: pycromanager would lose its thread. Close
    the hook when the acquisition has ended.
    """

    def take(axes: Mapping[str, int | str], dataset: Any) -> None:  # noqa: ANN401 - pycromanager has no types
        hook.refer(axes, dataset=getattr(dataset, "path", None), read=lambda: dataset.read_image(**axes))

    return take
