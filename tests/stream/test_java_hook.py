"""The hook as Pycro-Manager's Java backend calls it: its own Python side, fed with what the bridge delivers."""

import copy
import queue
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from pycromanager.acquisition import java_backend_acquisitions as java
from pycromanager.acquisition.acquisition_superclass import Acquisition

import fake_engine as fake
from served import Closed
from stormlive.acquire.hook import StreamHook
from stormlive.server.loop import Server

SHAPE = (24, 32)


class JavaSide:
    """Takes the place of the two sockets to Java; the messages are those that pyjavaz decodes."""

    def __init__(self, images: np.ndarray, pixel_type: str) -> None:
        self.waiting: list[dict] = [message(i, image, pixel_type) for i, image in enumerate(images)]
        self.waiting.append({"special": "finished"})
        self.sent: list[dict] = []
        self.given = copy.deepcopy(self.waiting)

    def receive(self, timeout: int, suppress_debug_message: bool) -> dict | None:
        return self.waiting.pop(0)

    def send(self, answer: dict, suppress_debug_message: bool = False) -> None:
        self.sent.append(answer)

    def close(self) -> None:
        pass


def message(i: int, image: np.ndarray, pixel_type: str) -> dict:
    """Return what Java sends for a frame: a flat array of bytes and the tags of a TaggedImage."""
    kind = {1: "byte-array", 2: "short-array"}[image.dtype.itemsize]
    tags = {
        "Axes": {"time": i},
        "Height": image.shape[0],
        "Width": image.shape[1],
        "PixelType": pixel_type,
        "BitDepth": 16,
        "ROI": "0-0-32-24",
        "Binning": "1",
        "Camera": "Camera",
        "Core-Camera": "Camera",
        "Exposure": 10.0,
        "ElapsedTime-ms": 1.5 * i,
        "PixelSize_um": 0.1,
        "Time": "2026-11-21 15:00:00.000000",
        "ReceivedTime": "2026-11-21 15:00:00 +0000",
    }
    return {"metadata": tags, "pixels": {"type": kind, "value": image.tobytes()}}


def drive(hook: StreamHook, side: JavaSide, monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Run pycromanager's own processor thread over the messages; return what it aborted with."""
    aborted: list[BaseException] = []
    acquisition = SimpleNamespace(abort=aborted.append, _event_queue=queue.Queue())
    acquisition._call_image_process_fn = Acquisition._call_image_process_fn.__get__(acquisition)
    for name in ("PushSocket", "PullSocket"):
        monkeypatch.setattr(java, name, lambda *_, **__: side)
    thread = threading.Thread(
        target=java._run_image_processor,
        args=(acquisition, 1, 2, threading.Event(), hook, acquisition._event_queue, False),
    )
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return aborted


@pytest.mark.parametrize(("dtype", "pixel_type"), [(np.uint8, "GRAY8"), (np.uint16, "GRAY16")])
def test_a_thousand_frames_go_back_to_java_as_they_came_and_are_all_live(
    dtype: type, pixel_type: str, server: Server, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.random.default_rng(0).integers(90, 250, (1000, *SHAPE)).astype(dtype)
    side = JavaSide(frames, pixel_type)
    hook = StreamHook(server.address, calibration=fake.CALIBRATION, outbox_mb=16)
    assert drive(hook, side, monkeypatch) == []
    report = hook.close()
    assert hook.error is None
    assert report.offered == report.live.count() == 1000, report.sentence
    np.testing.assert_array_equal(closed.runs[0][1].canvas, fake.direct_canvas(frames))
    # One answer for each frame, in order, before the next is taken: Java waits for it to save the frame.
    assert [answer["pixels"] for answer in side.sent[:-1]] == [image.tobytes() for image in frames]
    assert [answer["metadata"] for answer in side.sent[:-1]] == [given["metadata"] for given in side.given[:-1]]
    assert side.sent[-1] == {"special": "finished"}


def test_colour_and_a_missing_server_do_not_disturb_java(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 250, (3, SHAPE[0], SHAPE[1] * 4)).astype(np.uint8)
    side = JavaSide(frames, "RGB32")
    for given in side.waiting[:-1]:
        given["metadata"]["Width"] = SHAPE[1]
    hook = StreamHook("tcp://127.0.0.1:9", calibration=fake.CALIBRATION, outbox_mb=1)
    assert drive(hook, side, monkeypatch) == []
    report = hook.close(timeout_s=0.1)
    (reason,) = report.missing
    assert reason.startswith("not a 2-D image")
    colours = [np.frombuffer(answer["pixels"], np.uint8).reshape(*SHAPE, 4)[..., :3] for answer in side.sent[:-1]]
    assert np.array_equal(colours, frames.reshape(3, *SHAPE, 4)[..., :3])
