"""One chaotic run: a server and a sender in processes of their own, and what is done to them."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from _chaos_check import Outcome
from _chaos_keys import KEYS, make_keys
from _chaos_plan import CAN_STOP, Event, Plan
from _chaos_processes import Process, Processes, free_port

from stormlive.output import RUN_FILE
from stormlive.output.ome_tiff import read_image

sys.path.append(str(Path(__file__).parents[1] / "tests" / "stream"))
from cable import Cable

_LOOK_S = 0.01
_ON_LINK = ("connection cut", "connection stalled")
# What no fault may lead to; a full disk is told of at length.
_ALARMING = ("could not be handled", "thread failed", "the engine failed", "a view could not be made")


class ChaoticRun:
    """Carries out a plan in `folder`, which keeps plan, logs and results; `carry_out` returns what came of it."""

    def __init__(self, plan: Plan, folder: Path, timeout_s: float) -> None:
        self._plan = plan
        self._folder = folder
        self._timeout_s = timeout_s
        self._out = folder / "runs"
        self._outcome = Outcome()
        self._processes = Processes(folder)
        self._server: Process | None = None
        self._sender: Process | None = None
        self._link: Cable | None = None
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._port = 0

    def carry_out(self) -> Outcome:
        """Run it, under a watch that ends everything when it takes too long."""
        self._out.mkdir(parents=True)
        if self._plan.keys:
            make_keys(self._folder / KEYS)
        (self._folder / "plan.json").write_text(self._plan.to_json())
        began = time.monotonic()
        watch = threading.Timer(self._timeout_s, self._give_up)
        watch.start()
        try:
            self._course()
        except Exception as error:
            if not self._outcome.hung:
                self._outcome.problems.append(f"{type(error).__name__}: {error}")
        finally:
            watch.cancel()
            self._processes.end()
            if self._link is not None:
                self._link.close()
        self._outcome.seconds = time.monotonic() - began
        return self._outcome

    def _course(self) -> None:
        plan = self._plan
        if plan.full_disk == "files":
            (self._out / "full-disk").touch()
        self._port = free_port()
        address = f"tcp://127.0.0.1:{self._port}"
        self._start_server()
        if self._server is None or self._server.stdout is None or not self._server.stdout.readline():
            raise RuntimeError(f"the server did not start: {self._processes.last_line('server')}")
        if any(event.kind in _ON_LINK for event in plan.events):
            self._link = Cable(address)
            address = self._link.address
        self._sender = self._processes.start("_chaos_sender.py", "plan.json", address, self._folder, log="sender")
        for kind in ("viewers", "garbage"):
            crowds = [event for event in plan.events if event.kind.startswith(kind)]
            if crowds:
                self._invite(kind, crowds[0])
        self._follow()
        self._conclude()

    def _invite(self, kind: str, event: Event) -> None:
        """Have strangers at the ports, and kill them in the middle."""
        arguments = ("plan.json", f"tcp://127.0.0.1:{self._port}", self._folder, kind)
        crowd = self._processes.start("_chaos_crowd.py", *arguments, log=f"{kind}-crowd")
        self._due.append((event.at_s + event.seconds, crowd.kill))

    def _follow(self) -> None:
        """Let things happen in their time until the sender has ended."""
        sender, began = self._sender, None
        if sender is None:
            raise RuntimeError("there is no sender")
        for event in self._plan.events:
            if event.kind.split()[0] not in ("viewers", "garbage"):
                self._due += self._doings(event)
        self._due.sort(key=lambda doing: doing[0])
        while sender.poll() is None or self._server is None:
            if began is None and (self._folder / "begun").exists():
                began = time.monotonic()
            # A killed server is started again whatever became of the sender: there may be files to write.
            now = self._due[0][0] if sender.poll() is not None and self._due else time.monotonic() - (began or 1e18)
            while self._due and self._due[0][0] <= now:
                self._due.pop(0)[1]()
                self._due.sort(key=lambda doing: doing[0])
            self._check_server()
            time.sleep(_LOOK_S)
        if CAN_STOP and self._server is not None:
            self._server.send_signal(signal.SIGCONT)
        if sender.returncode and "sender killed" not in self._plan.kinds:
            raise RuntimeError(
                f"the sender failed with status {sender.returncode}: {self._processes.last_line('sender')}"
            )

    def _doings(self, event: Event) -> list[tuple[float, Callable[[], None]]]:
        """Return what an event does, and what undoes it, with their times."""
        until = event.at_s + event.seconds
        match event.kind:
            case "server killed":
                return [(event.at_s, self._kill_server), (until, self._start_server)]
            case "server stopped":
                return self._suspension(event, lambda: self._server)
            case "sender stopped":
                return self._suspension(event, lambda: self._sender)
            case "sender killed":
                return [(event.at_s, lambda: self._kill_sender(event.at_s))]
            case "connection cut":
                return [(event.at_s, lambda: self._link.cut() if self._link else None)]
            case "connection stalled":
                return [
                    (event.at_s, lambda: self._link.stall() if self._link else None),
                    (until, lambda: self._link.mend() if self._link else None),
                ]
        raise ValueError(f"nobody knows how to do {event.kind}")

    def _suspension(self, event: Event, whom: Callable[[], Process | None]) -> list[tuple[float, Callable[[], None]]]:
        def tell(number: int) -> None:
            process = whom()
            if process is not None:
                process.send_signal(number)

        return [
            (event.at_s, lambda: tell(signal.SIGSTOP)),
            (event.at_s + event.seconds, lambda: tell(signal.SIGCONT)),
        ]

    def _kill_server(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _start_server(self) -> None:
        """Start the server, or start it again, on the same port and folder."""
        if self._server is None:
            arguments = ("plan.json", self._port, self._out)
            self._server = self._processes.start("_chaos_server.py", *arguments, log="server", tells=True)

    def _kill_sender(self, at_s: float) -> None:
        """Kill the sender, once the server has something of it."""
        if self._sender is not None and (self._folder / "live").exists():
            self._sender.kill()
        else:
            later = at_s + 2 * _LOOK_S
            self._due.append((later, lambda: self._kill_sender(later)))

    def _conclude(self) -> None:
        """See the run closed, stop the server, and collect what there is."""
        run = (self._folder / "begun").read_text()
        (self._out / "full-disk").unlink(missing_ok=True)
        report = self._folder / "report.json"
        if report.exists():
            self._outcome.report = json.loads(report.read_text())
        if self._plan.full_disk == "files" and not self._records(run):
            # As promised: the disk was full, and the next server writes the files.
            self._stop_server()
            self._start_server()
        while not self._records(run) and (self._outcome.report is None or self._outcome.report["folder"] is None):
            self._check_server()
            time.sleep(_LOOK_S)
        self._stop_server()
        folders = self._records(run)
        self._outcome.records = [json.loads((folder / RUN_FILE).read_text()) for folder in folders]
        if len(folders) == 1:
            for canvas in self._outcome.records[0]["canvases"]:
                (file,) = (name for name in canvas["files"] if name.startswith("superres"))
                route = tuple((axis, place) for axis, place in canvas["axes"])
                self._outcome.canvases[route] = read_image(folders[0] / file)[0]
            left = [path.name for path in folders[0].glob("checkpoint/*")]
            if left:
                self._outcome.problems.append(f"checkpoints were left: {left}")
        for log in ("server", "sender"):
            text = (self._folder / f"{log}.log").read_text(errors="replace")
            alarming = _ALARMING if self._plan.full_disk else (*_ALARMING, "Traceback")
            self._outcome.problems += [f"the {log}'s log has {what!r}" for what in alarming if what in text]

    def _records(self, run: str) -> list[Path]:
        found = []
        for path in sorted(self._out.glob(f"*/{RUN_FILE}")):
            if json.loads(path.read_text())["run"] == run:
                found.append(path.parent)
        return found

    def _check_server(self) -> None:
        if self._server is not None and self._server.poll() is not None:
            raise RuntimeError(f"the server ended by itself with status {self._server.returncode}")

    def _stop_server(self) -> None:
        """Stop the server in order."""
        if self._server is None or self._server.stdin is None:
            return
        server, self._server = self._server, None
        server.stdin.close()
        if server.wait() != 0:
            self._outcome.problems.append(f"the server ended with status {server.returncode}")

    def _give_up(self) -> None:
        self._outcome.hung = True
        self._outcome.problems.append(f"it took more than {self._timeout_s:g} s and was ended")
        self._processes.kill()
