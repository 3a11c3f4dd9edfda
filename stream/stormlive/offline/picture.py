"""A picture that is to be made offline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stormlive_sim.routes import Route

if TYPE_CHECKING:
    from stormlive_sim.recording import Recording


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One of the pictures that were asked for.

    Attributes
    ----------
    movie : Recording
        What it is made of.
    paths : sequence of Path
        Where that lies.
    route : Route
        Which of a recording's channels, positions or z.
    output : Path
        The image to be written.
    table : Path or None
        Of localizations.
    overwrite : bool
        Whether it may replace files of these names.
    """

    movie: "Recording"
    paths: Sequence[Path]
    route: Route
    output: Path
    table: Path | None
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """Where its unfinished sum is kept."""
        return self.output.with_name(self.output.name + ".unfinished")

    @property
    def marker(self) -> Path:
        """What says that an earlier run has written its files, of which other pictures were to follow."""
        return self.folder / "written"
