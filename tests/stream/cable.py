"""A network between sender and server that can be cut and can stall: for tests, and for the chaos benchmark."""

import contextlib
import socket
import struct
import sys
import threading

_LINGER = "hh" if sys.platform == "win32" else "ii"


class Cable:
    """Carries TCP connections to a server: a `cut` ends them without a word, after a `stall` nothing gets through."""

    def __init__(self, address: str) -> None:
        self._to = int(address.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._through = threading.Event()
        self._through.set()
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection; new ones are carried."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                # What was under way is gone: a reset, not an end in order.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(_LINGER, 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            end.close()

    def stall(self) -> None:
        """Carry nothing until `mend`; both sides believe that they are connected."""
        self._through.clear()

    def mend(self) -> None:
        """Carry again, first what had come in meanwhile."""
        self._through.set()

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                self._through.wait()
                try:
                    theirs = socket.create_connection(("127.0.0.1", self._to), 5)
                except OSError:
                    ours.close()
                    continue
                theirs.settimeout(None)
                with self._lock:
                    self._ends += [ours, theirs]
                for source, target in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._through.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
