"""Memory that a hook shares with a server on the same machine, so that pixels need not pass through a socket.

Nobody else can open it, it has no name that could outlive its processes, and it cannot be cut short under the server's
hands. On Linux it is a sealed file without a name (``memfd``), which the server opens through ``/proc``; on Windows a
named section. Other systems have no memory of which all of that holds: there frames go over TCP.
"""

import ctypes
import errno
import logging
import mmap
import os
import re
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from stormlive.wire.codec import ProtocolError
from stormlive.wire.frame import WIRE_DTYPES, Frame
from stormlive.wire.messages import NONCE_BYTES, FrameHeader, SegmentOffer
from stormlive.wire.text import one_line

_log = logging.getLogger(__name__)

# In front of the frames: the nonce, and what keeps them aligned.
HEAD_BYTES = 64
MAX_SEGMENT_BYTES = HEAD_BYTES + 64 * 2**30
_LABEL = "stormlive"
# Linux's numbers; not every build of Python has names for them.
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW = 1, 2, 4
_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2


if sys.platform == "linux":
    import fcntl

    # Mapped at once: a frame's pages would else fault one by one while it is copied.
    _MAP_ALL = mmap.MAP_SHARED | mmap.MAP_POPULATE

    def _make(nbytes: int) -> tuple[mmap.mmap, str, int]:
        # Linux would not refuse: it would end other processes to make room, since a file's memory is nobody's.
        if nbytes > _available_bytes():
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        descriptor = _memory_file()
        try:
            # All of it now: memory that is promised and not there would end the process when it is touched.
            os.posix_fallocate(descriptor, 0, nbytes)
            fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEAL_SEAL | _SEAL_SHRINK | _SEAL_GROW)
            return mmap.mmap(descriptor, nbytes, flags=_MAP_ALL), f"/proc/{os.getpid()}/fd/{descriptor}", descriptor
        except BaseException:
            os.close(descriptor)
            raise

    def _available_bytes() -> int:
        """Return the memory that can be had without taking anybody's; 0 where Linux does not tell."""
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)

    def _memory_file() -> int:
        """Return the descriptor of a new file that lives in memory, has no name and can be sealed."""
        if hasattr(os, "memfd_create"):
            return os.memfd_create(_LABEL, _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
        # Builds of Python for old systems leave it out; the C library at hand may have it.
        create = getattr(ctypes.CDLL(None, use_errno=True), "memfd_create", None)
        descriptor = -1 if create is None else int(create(_LABEL.encode(), _MFD_CLOEXEC | _MFD_ALLOW_SEALING))
        if descriptor < 0:
            number = errno.ENOSYS if create is None else ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return descriptor

    def _see(offer: SegmentOffer) -> mmap.mmap:
        if not re.fullmatch(r"/proc/[1-9][0-9]{0,9}/fd/[0-9]{1,9}", offer.name):
            raise ValueError("its name is none of ours")
        # To open anything else, a device for example, might have effects.
        if not os.readlink(offer.name).startswith(f"/memfd:{_LABEL}"):  # noqa: PTH115 - it is no path that exists
            raise ValueError("its name is that of something else here")
        descriptor = os.open(offer.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise ValueError("it is another user's")
            # To read where a file has been cut short would end the process.
            if not fcntl.fcntl(descriptor, _F_GET_SEALS) & _SEAL_SHRINK:
                raise ValueError("it could be cut short")
            # Reading a hole would fill it with memory of this process.
            if os.fstat(descriptor).st_blocks * 512 < offer.nbytes:
                raise ValueError(f"not all of its {offer.nbytes} bytes are there")
            return mmap.mmap(descriptor, offer.nbytes, flags=_MAP_ALL, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)

elif sys.platform == "win32":

    def _make(nbytes: int) -> tuple[mmap.mmap, str, int]:
        # What SharedMemory does too, but that complains at exit about arrays that still look at it.
        name = f"{_LABEL}-{os.urandom(16).hex()}"
        return mmap.mmap(-1, nbytes, tagname=name), name, -1

    def _see(offer: SegmentOffer) -> mmap.mmap:
        from multiprocessing.shared_memory import SharedMemory

        if not re.fullmatch(rf"{_LABEL}-[0-9a-f]{{32}}", offer.name):
            raise ValueError("its name is none of ours")
        # To map a name that nobody has would make it: this does not, and keeps it alive meanwhile.
        existing = SharedMemory(offer.name)
        try:
            if existing.size < offer.nbytes:
                raise ValueError(f"it has {existing.size} bytes, not {offer.nbytes}")
            return mmap.mmap(-1, offer.nbytes, tagname=offer.name, access=mmap.ACCESS_READ)
        finally:
            existing.close()

else:

    def _make(nbytes: int) -> tuple[mmap.mmap, str, int]:
        raise OSError(errno.ENOSYS, f"{sys.platform} has no memory that can be shared safely")

    def _see(offer: SegmentOffer) -> mmap.mmap:
        raise OSError(errno.ENOSYS, f"{sys.platform} has no memory that can be shared safely")


class OwnSegment:
    """Memory of this process that a server on this machine may read.

    Attributes
    ----------
    memory
        Its bytes behind the head, (capacity_bytes,) of zeros.

    Raises
    ------
    OSError
        The system has no such memory, or not so much of it.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._map, self._name, descriptor = _make(HEAD_BYTES + capacity_bytes)
        if descriptor >= 0:
            weakref.finalize(self, os.close, descriptor)
        self.memory: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, offset=HEAD_BYTES)
        self.renew()

    def renew(self) -> None:
        """Take back all that was sent: who attached before finds another nonce, and lets go what it reads."""
        self._map[:NONCE_BYTES] = os.urandom(NONCE_BYTES)

    def offer(self) -> SegmentOffer:
        """Return what a server needs in order to attach."""
        return SegmentOffer(name=self._name, nbytes=len(self._map), nonce=self._map[:NONCE_BYTES])


class PeerSegment:
    """A sender's memory, seen by the server; read only.

    Raises
    ------
    OSError or ValueError
        It is not there: the sender is on another machine, in another container or another user's.
    """

    def __init__(self, offer: SegmentOffer) -> None:
        if not HEAD_BYTES < offer.nbytes <= MAX_SEGMENT_BYTES:
            raise ValueError(f"it would have {offer.nbytes} bytes, at most {MAX_SEGMENT_BYTES} are taken")
        self._map, self._nonce = _see(offer), offer.nonce
        if not self.is_intact():
            raise ValueError("it is another one")

    def is_intact(self) -> bool:
        """Return whether the sender has not taken back what it sent; to be asked after pixels were copied."""
        return self._map[:NONCE_BYTES] == self._nonce

    def frame(self, header: FrameHeader) -> Frame:
        """Return a frame whose pixels are where they lie, not copied; ProtocolError when that is outside."""
        at = header.at
        if at is UNSET or not HEAD_BYTES <= at <= len(self._map) - header.nbytes:
            raise ProtocolError(f"a frame of {header.nbytes} bytes at {at} is not within the shared memory")
        rows, columns = header.shape
        flat: NDArray[Any] = np.frombuffer(self._map, WIRE_DTYPES[header.dtype], rows * columns, at)
        return Frame(
            run=header.run,
            seq=header.seq,
            t_ns=header.t_ns,
            axes=header.axes,
            pixels=flat.reshape(rows, columns),
            replay=header.replay,
            intact=self.is_intact,
        )


def share(capacity_bytes: int) -> OwnSegment | None:
    """Return memory for a sender; None where the system does not have it."""
    try:
        return OwnSegment(capacity_bytes)
    except OSError as error:
        _log.info("no memory that can be shared, frames go over TCP: %s", error)
        return None


def attach(offer: SegmentOffer) -> PeerSegment | None:
    """Return a sender's memory; None where the server cannot have it."""
    try:
        return PeerSegment(offer)
    except (OSError, ValueError) as error:
        _log.info("the memory of a sender cannot be shared, its frames come over TCP: %s", one_line(error))
        return None
