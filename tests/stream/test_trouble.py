import time
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from fake_engine import CALIBRATION
from stormlive.server.run import Owner, Run
from stormlive.viewer.history import History
from stormlive.viewer.numbers import rounded
from stormlive.viewer.trouble import trouble, waits_for
from stormlive.wire.flow import Credit
from stormlive.wire.frame import Frame
from stormlive.wire.messages import Start
from stormlive.wire.viewing import MAX_CANVASES, Judgement, Status

FIRST, SECOND = UUID(int=1), UUID(int=2)


def status(**fields: Any) -> Status:  # noqa: ANN401
    return Status(**{"state": "running", "model": "livenet", "device": "cpu", "run": FIRST, **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, None),
        ({"camera_per_s": 100.0, "frames_per_s": 99.0, "backlog": 30}, None),
        ({"camera_per_s": 100.0, "frames_per_s": 50.0, "backlog": 20}, None),  # a batch that has just come
        (
            {"camera_per_s": 100.0, "frames_per_s": 50.0, "backlog": 500},
            "2.0× slower than the camera: a ROI of 50 % of the pixels would keep up; what waits",
        ),
        ({"camera_per_s": 100.0, "frames_per_s": 10.0, "backlog": 500}, "10.0× slower than the camera: a ROI of 10 %"),
        ({"camera_per_s": 100.0, "frames_per_s": 10.0, "backlog": 500, "state": "finished"}, None),
        ({"frames_per_s": 10.0, "backlog": 500}, None),  # nobody knows the camera's rate
        ({"camera_per_s": 1e20, "frames_per_s": 0.0, "backlog": 500}, None),
        ({"state": "silent"}, "no sign of the acquisition"),
        ({"dropped": 1}, "1 frame is not in the picture"),
        ({"dropped": 7}, "7 frames are not in the picture"),
        ({"dropped": 7, "notice": "the disk is full"}, "the disk is full"),
        ({"state": "finished", "exit_status": "sender lost"}, "ended early: sender lost"),
        ({"state": "finished", "exit_status": "ok"}, None),
        ({"judgement": Judgement(gauge="red", sentence="too dense")}, "too dense"),
        ({"judgement": Judgement(gauge="amber", sentence="dense")}, None),
    ],
)
def test_what_is_wrong_is_said_and_nothing_else(fields: dict[str, Any], said: str | None) -> None:
    sentence = trouble(status(**fields))
    assert (sentence is None) if said is None else (said in (sentence or ""))
    assert "--model" not in (sentence or ""), "a model that may not take this camera"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"live": 1}, ""),
        ({"replayed": 1}, ""),
        ({"state": "opening"}, "The run cell begins: the server makes its canvas."),
        ({}, "The run cell has begun; its first frame has not come yet."),
        ({"received": 1}, "its first frame has come.\nThe first ones are being computed"),
        ({"received": 7}, "7 frames have come."),
        (
            {"received": 7, "dropped": 7},
            "7 frames have come, and 7 did not.\nThe first ones are being computed, or wait",
        ),
        ({"received": 7, "state": "finished"}, "ended without a frame in the picture"),
    ],
)
def test_what_a_run_without_a_picture_waits_for(fields: dict[str, Any], said: str) -> None:
    sentence = waits_for(status(name="cell", **fields))
    assert said in sentence
    assert bool(sentence) is bool(said)


@pytest.mark.parametrize(
    ("value", "span", "told"),
    [
        (-0.0123456, 10.0, "0"),
        (-12.3456, 80.0, "-12"),
        (3.07, 3.07, "3.1"),
        (0.123456, 0.5, "0.12"),
        (-0.0001234, 0.0003, "0"),
        (45_678.0, 45_678.0, "45.7k"),
        (5.0, 0.0, "5"),
    ],
)
def test_axes_tell_as_many_digits_as_can_be_seen(value: float, span: float, told: str) -> None:
    assert rounded(value, span) == told


def test_a_history_has_each_judgement_once_and_what_is_known_of_it() -> None:
    history = History()
    for frames, frc in ((100, None), (200, 80.0), (200, 80.0), (300, 70.0)):
        history.add(FIRST, Judgement(frames=frames, frc_nm=frc, drift_nm=(frames / 10, -1.0)))
    x, y = history.curve("", "frc_nm")
    assert (x.tolist(), y.tolist()) == ([200, 300], [80, 70])
    assert history.curve("", "drift_nm", 0)[1].tolist() == [10, 20, 30]
    history.add(FIRST, None)  # between two judgements
    assert len(history.curve("", "drift_nm", 1)[0]) == 3
    history.add(SECOND, Judgement(frames=1, frc_nm=90.0))
    assert history.curve("", "frc_nm")[1].tolist() == [90]
    # Who looks at another canvas finds both as they were.
    history.add(SECOND, Judgement(frames=1, canvas="channel-B", frc_nm=60.0))
    history.add(SECOND, Judgement(frames=2, frc_nm=80.0))
    assert history.curve("channel-B", "frc_nm")[1].tolist() == [60]
    assert history.curve("", "frc_nm")[1].tolist() == [90, 80]
    for number in range(1000):
        history.add(SECOND, Judgement(frames=1, canvas=str(number)))
    assert len(history._points) <= MAX_CANVASES + 1, "whatever a server calls its canvases"


def test_a_history_of_a_long_run_stays_small_and_keeps_its_ends() -> None:
    history = History()
    for frames in range(1, 20_001):
        history.add(FIRST, Judgement(frames=frames, frc_nm=float(frames)))
    x, y = history.curve("", "frc_nm")
    assert len(x) <= 2000
    assert (x[0], x[-1]) == (1, 20_000)
    assert (np.diff(x) > 0).all()
    assert (x == y).all()


def test_the_cameras_rate_is_that_of_the_frames_times_and_ends_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Start(run=uuid4(), name="r", dtype="uint16", shape=(2, 2), calibration=CALIBRATION)
    run = Run(start, Owner(peer=b"", credit=Credit(0)), 1)
    assert run.camera_per_s() is None
    now = time.perf_counter_ns()

    def frame(seq: int, t_ns: int, *, replay: bool = False) -> Frame:
        return Frame(run=start.run, seq=seq, t_ns=t_ns, pixels=np.zeros((2, 2), np.uint16), replay=replay)

    for seq in range(0, 1000, 3):  # two of three frames were lost
        run.note_offered(frame(seq, now + seq * 10_000_000))
    run.note_offered(frame(1, now + 10**12, replay=True))
    assert run.camera_per_s() == pytest.approx(100)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: now + 20 * 10**9)
    assert run.camera_per_s() is None
    run.queue.append(frame(2, now))
    assert run.camera_per_s() == pytest.approx(100), "it waits for room and cannot be heard"
    run.enter("finished")
    assert run.camera_per_s() is None


@pytest.mark.parametrize("times", [(5, 5), (7, 5), (-(2**62), 2**62)])
def test_times_that_make_no_sense_are_no_rate(times: tuple[int, int]) -> None:
    start = Start(run=uuid4(), name="r", dtype="uint16", shape=(2, 2), calibration=CALIBRATION)
    run = Run(start, Owner(peer=b"", credit=Credit(0)), 1)
    for seq, t_ns in enumerate(times):
        run.note_offered(Frame(run=start.run, seq=seq, t_ns=t_ns, pixels=np.zeros((2, 2), np.uint16)))
    rate = run.camera_per_s()
    assert rate is None or 0 < rate < 1e9
