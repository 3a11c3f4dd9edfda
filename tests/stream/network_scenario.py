"""A run over a network that is cut, in a network namespace of its own: ``network_scenario.py LANE CUT_S``; prints JSON.

Exit status 77 where the system permits no such namespace.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import time

import numpy as np

import fake_engine as fake
from served import Closed, make_hook, movie, soon
from stormlive.acquire import connection, sender
from stormlive.server.loop import Server

NOT_PERMITTED = 77
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def enter_namespace() -> bool:
    """Give this process a network of its own, with a loopback that is down; False where that is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Who is not root may be it in a namespace of users: then the process must have one thread as yet.
    return libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0


def set_loopback(*, up: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        found = fcntl.ioctl(handle, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack_from("16sH", found)[1]
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


def main(lane: str, cut_s: float) -> dict[str, object]:
    connection.CONNECT_S, sender.LONGEST_PAUSE_S = 0.5, 0.4
    closed, frames = Closed(), movie(300)
    with Server(fake.FakeEngine(0.001), finish=closed, bind="tcp://127.0.0.1:*", heartbeat_s=0.2) as server:
        hook = make_hook(server.address, lane=lane)
        for frame in frames[:100]:
            hook(frame)
        soon(lambda: hook.progress.live > 10)
        set_loopback(up=False)
        for frame in frames[100:200]:
            hook(frame)
        soon(lambda: not hook.progress.connected)
        before = hook.progress.live
        time.sleep(cut_s)  # the cut is what is tested
        during = hook.progress.live
        set_loopback(up=True)
        for frame in frames[200:]:
            hook(frame)
        report = hook.close(20)
    ((run, canvas),) = closed.runs
    return {
        "cut": during == before < 200,
        "sentence": report.sentence,
        "in the picture": report.live.count() + report.replayed.count(),
        "missing": sum(ranges.count() for ranges in report.missing.values()),
        "agreed": run.ledger.live == report.live and run.ledger.replayed == report.replayed,
        "equal": bool(np.array_equal(canvas.canvas, fake.direct_canvas(frames))),
        "exit": run.exit_status,
    }


if __name__ == "__main__":
    if not enter_namespace():
        print(os.strerror(ctypes.get_errno()), flush=True)
        sys.exit(NOT_PERMITTED)
    set_loopback(up=True)
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))), flush=True)
