"""What a run is to be: the form that its user fills in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PySide6.QtCore import QStandardPaths, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QPushButton, QVBoxLayout, QWidget

from stormlive.acquire.request import MICROTUBULES, Microscope, Movie, RunRequest, Simulated, Source
from stormlive.viewer.fields import Field, NumberField, PathField, RegionField
from stormlive.viewer.form_rows import choice, group
from stormlive.wire.calibration import CALIBRATION_LIMITS, Calibration
from stormlive.wire.run_name import check_run_name
from stormlive_sim.errors import InputError

_SIMULATED, _MOVIE, _MICROSCOPE = _SOURCES = ("Simulated camera", "Movie file", "Micro-Manager")
_SAMPLES = {"Microtubules": MICROTUBULES, "All that real data has": "everything"}
_OWN = "a file…"
_SIZES = {"64 × 64 pixels": (64, 64), "128 × 128 pixels": (128, 128), "256 × 256 pixels": (256, 256)}
_MOST_FRAMES = 10_000_000
# Of a real camera nothing can be supposed: what it is, its user says once.
_AT_FIRST = {
    _SIMULATED: {"Frames": "1000", "Exposure": "30", "Pixel size": "100", "Baseline": "100", "Photons/ADU": "0.5"},
    _MOVIE: {},
    _MICROSCOPE: {"Frames": "10000"},
}


class AcquisitionForm(QWidget):
    """Fields for a `RunRequest`; each kind of camera has numbers of its own.

    Parameters
    ----------
    models : sequence of str
        To choose from, the usual one first.
    """

    edited = Signal()

    def __init__(self, models: Sequence[str]) -> None:
        super().__init__()
        self.source = choice(*_SOURCES)
        self.sample = choice(*_SAMPLES, _OWN)
        self.scene = PathField("Scene", kinds="Scenes (*.toml)", expected="a scene file (.toml)")
        self.sensor = choice(*_SIZES)
        self.movie = PathField(
            "Movie", kinds="Movies (*.tif *.tiff)", expected="a recorded movie (TIFF, or the folder of an NDTiff)"
        )
        self.config = PathField(
            "Configuration", kinds="Configurations (*.cfg)", expected="a Micro-Manager configuration file (.cfg)"
        )
        self.mm_dir = PathField(
            "Adapters", kinds="", expected="the folder of your Micro-Manager", optional="only the DemoCamera"
        )
        self.box = QPushButton("from box")
        self.box.setToolTip("Take the box that is drawn in the picture (Region, G).")
        self.frames = NumberField("Frames", "frames", 1, _MOST_FRAMES, whole=True, empty="the whole movie")
        self.exposure = _number("Exposure", "ms", "exposure_ms")
        self.region = RegionField("ROI", self.box)
        self.pixel_size = _number("Pixel size", "nm", "pixel_size_nm", "Camera pixel in the sample.")
        self.baseline = _number("Baseline", "ADU", "baseline_adu", "What the camera reads in the dark.")
        self.gain = _number(
            "Photons/ADU",
            "per ADU",
            "photons_per_adu",
            "Electrons per ADU / (EM gain × quantum efficiency); the camera's certificate has them.",
        )
        self.model = choice(*models, _OWN)
        self.model_file = PathField("Model file", kinds="Models (*.safetensors)", expected="a model (.safetensors)")
        self.folder = PathField("Save to", kinds="", expected="a folder for the runs", new=True)
        self.name = Field("Name")
        self.name.setToolTip("Of the run's own folder; the next run gets a number behind it.")
        self.raw = QCheckBox("save the raw data too")
        self.raw.setToolTip("As NDTiff. Without it, frames that the server could not take are lost.")
        self.until_converged = QCheckBox("end when more frames hardly help")
        self._own = (self.frames, self.exposure, self.region, self.pixel_size, self.baseline, self.gain)
        self._texts = {source: dict(texts) for source, texts in _AT_FIRST.items()}
        self._shown = _SIMULATED
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 2, 6, 2)
        column.setSpacing(4)
        self._camera = group(
            column,
            "Camera",
            ("Source", self.source),
            ("Sample", self.sample),
            self.scene,
            ("Sensor", self.sensor),
            self.movie,
            self.config,
            self.mm_dir,
            self.frames,
            self.exposure,
            self.region,
        )
        group(column, "Calibration", self.pixel_size, self.baseline, self.gain)
        self._files = group(
            column,
            "Picture and files",
            ("Model", self.model),
            self.model_file,
            self.folder,
            self.name,
            self.raw,
            self.until_converged,
        )
        column.addStretch()
        self.fill({})
        for box in self._choices().values():
            box.currentTextChanged.connect(self._arrange)
            box.activated.connect(self.edited)
        for field in (*self._own, *self._lines()):
            field.line.textEdited.connect(self.edited)

    def request(self) -> RunRequest:
        """Return what is asked for.

        Raises
        ------
        InputError
            When a field is wrong, which is then marked.
        """
        source, frames = self._source(), self.frames.value()
        if frames is None and not isinstance(source, Movie):
            raise self.frames.refused("say how many")
        calibration = Calibration(
            exposure_ms=_given(self.exposure),
            pixel_size_nm=_given(self.pixel_size),
            baseline_adu=_given(self.baseline),
            photons_per_adu=_given(self.gain),
        )
        own_model = self.model.currentText() == _OWN
        model = str(self.model_file.value()) if own_model else self.model.currentText()
        region, folder = self.region.value(), self.folder.value()
        assert folder is not None
        try:
            name = check_run_name(self.name.text)
        except InputError as error:
            raise self.name.refused(str(error)) from None
        return RunRequest(
            source=source,
            calibration=calibration,
            n_frames=None if frames is None else int(frames),
            roi=region,
            model=model,
            out=_unused(folder / name),
            save_raw=self.raw.isChecked(),
            stop_when_converged=self.until_converged.isChecked(),
        )

    def _source(self) -> Source:
        kind = self.source.currentText()
        if kind == _MOVIE:
            movie = self.movie.value()
            assert movie is not None
            return Movie(path=movie)
        if kind == _MICROSCOPE:
            config = self.config.value()
            assert config is not None
            return Microscope(config=config, mm_dir=self.mm_dir.value())
        sample = self.sample.currentText()
        scene = str(self.scene.value()) if sample == _OWN else _SAMPLES[sample]
        return Simulated(shape=_SIZES[self.sensor.currentText()], scene=scene)

    # What is remembered

    def texts(self) -> dict[str, str]:
        """Return all that was filled in."""
        self._keep()
        own = {f"{source}/{name}": text for source, texts in self._texts.items() for name, text in texts.items()}
        choices = {name: box.currentText() for name, box in self._choices().items()}
        lines = {field.name: field.text for field in self._lines()}
        ticks = {name: str(tick.isChecked()) for name, tick in self._ticks().items()}
        return {**own, **choices, **lines, **ticks}

    def fill(self, texts: Mapping[str, str]) -> None:
        """Fill in what `texts` has, and the rest as in the beginning."""
        for source in _SOURCES:
            for own in self._own:
                at_first = _AT_FIRST[source].get(own.name, "")
                self._texts[source][own.name] = texts.get(f"{source}/{own.name}", at_first)
        remembered = texts.get("Source", "")
        # Before it is chosen: nothing of what stands in the fields now is to be kept.
        self._shown = remembered if remembered in _SOURCES else _SIMULATED
        for name, box in self._choices().items():
            box.setCurrentText(texts.get(name, box.itemText(0)))
        documents = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
        usual = {self.folder.name: str(Path(documents) / "stormlive"), self.name.name: "run"}
        for field in self._lines():
            field.text = texts.get(field.name, usual.get(field.name, ""))
        for name, tick in self._ticks().items():
            tick.setChecked(texts.get(name, str(tick is self.raw)) == "True")
        self._load()
        self._arrange()

    def _choices(self) -> dict[str, QComboBox]:
        return {"Source": self.source, "Sample": self.sample, "Sensor": self.sensor, "Model": self.model}

    def _ticks(self) -> dict[str, QCheckBox]:
        return {"raw": self.raw, "converged": self.until_converged}

    def _lines(self) -> tuple[Field, ...]:
        return self.scene, self.movie, self.config, self.mm_dir, self.model_file, self.folder, self.name

    def _keep(self) -> None:
        self._texts[self._shown] = {field.name: field.text for field in self._own}

    def _load(self) -> None:
        self._shown = self.source.currentText()
        for field in self._own:
            field.text = self._texts[self._shown][field.name]

    def _arrange(self) -> None:
        """Show the fields that matter for what was chosen."""
        kind = self.source.currentText()
        if kind != self._shown:
            self._keep()
            self._load()
        simulated = kind == _SIMULATED
        for field, shown in (
            (self.sample, simulated),
            (self.sensor, simulated),
            (self.scene, simulated and self.sample.currentText() == _OWN),
            (self.movie, kind == _MOVIE),
            (self.config, kind == _MICROSCOPE),
            (self.mm_dir, kind == _MICROSCOPE),
        ):
            self._camera.setRowVisible(field, shown)
        self._files.setRowVisible(self.model_file, self.model.currentText() == _OWN)
        self.frames.line.setPlaceholderText("the whole movie" if kind == _MOVIE else "")


def _number(name: str, unit: str, field: str, hint: str = "") -> NumberField:
    low, high, _ = CALIBRATION_LIMITS[field]
    return NumberField(name, unit, low, high, hint=hint)


def _given(field: NumberField) -> float:
    number = field.value()
    assert number is not None
    return number


def _unused(folder: Path) -> Path:
    """Return a folder that is not there yet: name, name-2, name-3."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free
