"""``stormlive simulate``: a movie with its truth."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from numpy.typing import NDArray

from stormlive.cli import options
from stormlive.cli.terminal import frame_progress, note
from stormlive.wire.text import counted
from stormlive_sim.errors import InputError

if TYPE_CHECKING:
    from stormlive_sim.scene_file import SceneFile

# Where in a scene each option has its place; structure and camera stand for a whole section.
_PLACES = {
    "frames": ("movie", "frames"),
    "size": ("movie", "size"),
    "exposure_ms": ("movie", "exposure_ms"),
    "seed": ("movie", "seed"),
    "pixel_size_nm": ("optics", "pixel_size_nm"),
    "psf_sigma_nm": ("optics", "psf_sigma_nm"),
    "density": ("emitters", "density_per_um2"),
    "photons": ("emitters", "photons"),
    "background": ("background", "photons"),
    "baseline_adu": ("camera", "baseline_adu"),
    "photons_per_adu": ("camera", "photons_per_adu"),
}


def simulate(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MOVIE.tif", help="The movie, 16-bit TIFF.")],
    truth: Annotated[
        Path,
        typer.Option(
            "--truth",
            metavar="TRUTH.csv",
            help="Every emitter of every frame, where the camera saw it (ThunderSTORM table).",
        ),
    ],
    drift_table: Annotated[
        Path | None,
        typer.Option("--drift-table", metavar="DRIFT.csv", help="Also write how far the sample has drifted, in nm."),
    ] = None,
    overwrite: options.Overwrite = False,
    scene: Annotated[
        str,
        typer.Option(
            "--scene",
            metavar="NAME|SCENE.toml",
            help="A scene with every knob that real data has: a file, or 'everything', which ships and explains each. "
            "Other options that are given overrule it.",
        ),
    ] = "",
    frames: Annotated[
        int, typer.Option("--frames", min=1, max=10_000_000, metavar="N", help="Number of frames.")
    ] = 1000,
    size: Annotated[str, typer.Option("--size", metavar="WIDTHxHEIGHT", help="Frame size in pixels.")] = "64x64",
    structure: Annotated[
        Literal["microtubules", "bundles", "rings", "clusters", "uniform"],
        typer.Option(
            "--structure",
            metavar="NAME",
            help="Where the emitters sit: on microtubules, bundles (of filaments), rings or clusters, or uniform.",
        ),
    ] = "microtubules",
    density: Annotated[
        float,
        typer.Option("--density", min=0, max=50, metavar="N", help="Emitters per µm² that are on at any moment."),
    ] = 1.0,
    photons: Annotated[
        float,
        typer.Option(
            "--photons",
            min=1,
            max=1_000_000,
            metavar="PHOTONS",
            help="Mean light of an emitter that is on a whole frame.",
        ),
    ] = 1500.0,
    background: Annotated[
        float,
        typer.Option(
            "--background", min=0, max=100_000, metavar="PHOTONS", help="Background light per camera pixel and frame."
        ),
    ] = 20.0,
    psf_sigma_nm: Annotated[
        float,
        typer.Option(
            "--psf-sigma-nm",
            min=20,
            max=1000,
            metavar="NM",
            help="Width of an emitter's spot, in nm: the standard deviation of a Gaussian, its full width at half "
            "maximum / 2.35.",
        ),
    ] = 115.0,
    camera: Annotated[
        Literal["emccd", "scmos"],
        typer.Option(
            "--camera", metavar="emccd|scmos", help="Kind of noise: emccd multiplies electrons, scmos has read noise."
        ),
    ] = "emccd",
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="The same number gives the same movie.")] = 0,
    pixel_size_nm: options.PixelSize = options.DEFAULT_PIXEL_SIZE_NM,
    baseline_adu: options.Baseline = options.DEFAULT_BASELINE_ADU,
    photons_per_adu: options.PhotonsPerAdu = options.DEFAULT_PHOTONS_PER_ADU,
    exposure_ms: options.Exposure = options.DEFAULT_EXPOSURE_MS,
) -> None:
    """Simulate a blinking sample under a camera: a movie, and the truth to judge a reconstruction by.

    With [bold]--scene[/bold] everything comes from the scene, except what other options say:
    [bold]stormlive simulate -o movie.tif --truth truth.csv --scene everything --frames 200[/bold].
    """
    from stormlive_sim.drift import write_drift
    from stormlive_sim.movie import Scene
    from stormlive_sim.recording import write_movie
    from stormlive_sim.scene_file import SceneFile, find_scene, read_scene
    from stormlive_sim.thunderstorm import table_writer

    if output.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{output} is to be the movie, a 16-bit TIFF: give a name that ends in .tif")
    files = [path for path in (output, truth, drift_table) if path is not None]
    if len({path.absolute() for path in files}) < len(files):
        raise InputError(
            f"movie and tables would share a file: {', '.join(map(str, files))}; give them names of their own"
        )
    for path in files:
        options.check_can_write(path)
    options.refuse_existing(files, overwrite=overwrite)
    if scene:
        file = find_scene(scene)
        given = {n for n in _PLACES.keys() | {"structure", "camera"} if _is_given(context, n)}
        asked = _overruled(read_scene(file), {name: context.params[name] for name in given})
        note(f"scene {file}")
    else:
        asked = _overruled(SceneFile(), context.params)
    frames, exposure_ms = asked.movie.frames, asked.movie.exposure_ms
    sample = Scene(asked.settings())
    # Both at once: the truth of a long movie does not fit in memory.
    with frame_progress() as bar, table_writer(truth, sigma_nm=asked.optics.psf_sigma_nm) as table:
        task = bar.add_task("simulating", total=frames, rate="")

        def images() -> Iterator[NDArray[Any]]:
            for image, emitters in sample.frames(frames, exposure_ms):
                table.append(emitters)
                bar.advance(task)
                yield image.numpy()

        pixel_size_nm = asked.optics.pixel_size_nm
        write_movie(output, images(), pixel_size_nm=pixel_size_nm, exposure_ms=exposure_ms, n_frames=frames)
    if drift_table is not None:
        write_drift(drift_table, (sample.drift_nm(frame, exposure_ms) for frame in range(frames)))
    note(f"{counted(frames, 'frame')}: {output}; {counted(table.n, 'emitter')}: {truth}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _overruled(scene: "SceneFile", given: Mapping[str, Any]) -> "SceneFile":
    """Return the scene with what the options say."""
    from msgspec.structs import asdict, replace

    from stormlive_sim.scene_file import CAMERAS
    from stormlive_sim.structure_kinds import STRUCTURES

    if "structure" in given:
        scene = replace(scene, structure=(STRUCTURES[given["structure"]](),))
    if "camera" in given and not isinstance(scene.camera, CAMERAS[given["camera"]]):
        # Another kind of camera: noise and gain are that kind's own, the rest stays.
        kept = {k: v for k, v in asdict(scene.camera).items() if k not in ("em_gain", "read_noise_e")}
        scene = replace(scene, camera=CAMERAS[given["camera"]](**kept))
    for option, (section, key) in _PLACES.items():
        if option in given:
            value = options.image_size(given[option])[::-1] if option == "size" else given[option]
            scene = replace(scene, **{section: replace(getattr(scene, section), **{key: value})})
    return scene
