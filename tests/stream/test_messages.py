import contextlib
from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stormlive.ranges import Ranges
from stormlive.server.ledger import Ledger
from stormlive.wire.calibration import Calibration
from stormlive.wire.codec import (
    MAX_HEADER_BYTES,
    ProtocolError,
    check_version,
    decode,
    encode,
    frame_header,
    frame_of,
    span_groups,
    unpack,
)
from stormlive.wire.fields import MAX_SPANS
from stormlive.wire.frame import WIRE_DTYPES, Frame
from stormlive.wire.messages import (
    MAX_FINAL_SPANS,
    Credit,
    Drop,
    End,
    Error,
    Final,
    FrameHeader,
    Hello,
    Message,
    Ping,
    Pong,
    Refer,
    Report,
    SegmentOffer,
    Start,
    Welcome,
)
from stormlive.wire.text import MAX_TEXT, check_path, one_line
from stormlive.wire.viewing import MAX_CANVASES, Judgement, Status, Steer, Steered, View, Viewed
from stormlive_sim.errors import InputError

RUN = UUID("12345678-1234-5678-1234-567812345678")
CAL = Calibration(pixel_size_nm=100, baseline_adu=100, photons_per_adu=0.5, exposure_ms=10)

# What stormlive-1 looks like on the wire. A change here is a new protocol version.
GOLDEN: list[tuple[Message, str]] = [
    (
        Hello(version="stormlive-1", run=RUN),
        "84a474797065a568656c6c6fa776657273696f6eab73746f726d6c6976652d31a4726f6c65a673656e646572a372756e"
        "d92431323334353637382d313233342d353637382d313233342d353637383132333435363738",
    ),
    (
        Welcome(
            version="stormlive-1",
            epoch="e1",
            credit_bytes=67108864,
            max_frame_bytes=67108864,
            heartbeat_ms=1000,
            clock_ns=123456789,
            model="livenet",
            model_pixel_size_nm=100.0,
            view_port=5558,
            status_port=5559,
            have=((0, 119),),
        ),
        "8ca474797065a777656c636f6d65a776657273696f6eab73746f726d6c6976652d31a565706f6368a26531ac63726564"
        "69745f6279746573ce04000000af6d61785f6672616d655f6279746573ce04000000ac6865617274626561745f6d73cd"
        "03e8a8636c6f636b5f6e73ce075bcd15a56d6f64656ca76c6976656e6574b36d6f64656c5f706978656c5f73697a655f"
        "6e6dcb4059000000000000a9766965775f706f7274cd15b6ab7374617475735f706f7274cd15b7a46861766591920077",
    ),
    (
        Start(run=RUN, name="cell 1", dtype="uint16", shape=(64, 128), calibration=CAL, expected=361),
        "89a474797065a57374617274a372756ed92431323334353637382d313233342d353637382d313233342d353637383132"
        "333435363738a46e616d65a663656c6c2031a56474797065a675696e743136a573686170659240cc80ab63616c696272"
        "6174696f6e84ad706978656c5f73697a655f6e6dcb4059000000000000ac626173656c696e655f616475cb4059000000"
        "000000af70686f746f6e735f7065725f616475cb3fe0000000000000ab6578706f737572655f6d73cb40240000000000"
        "00a86578706563746564cd0169a764617461736574c0a46d6f6465a76163636f756e74",
    ),
    (
        FrameHeader(
            run=RUN,
            seq=7,
            t_ns=-5,
            dtype="uint16",
            shape=(64, 128),
            nbytes=16384,
            axes={"time": 7, "channel": "561"},
            replay=True,
        ),
        "89a474797065a56672616d65a372756ed92431323334353637382d313233342d353637382d313233342d353637383132"
        "333435363738a373657107a4745f6e73fba56474797065a675696e743136a573686170659240cc80a66e6279746573cd"
        "4000a46178657382a474696d6507a76368616e6e656ca3353631a67265706c6179c3",
    ),
    (
        Refer(run=RUN, seq=7, axes=({"time": 7}, {"time": 8})),
        "85a474797065a57265666572a372756ed92431323334353637382d313233342d353637382d313233342d353637383132"
        "333435363738a373657107a4617865739281a474696d650781a474696d6508a67265706c6179c2",
    ),
    (
        Credit(bytes=16384, live=((0, 119), (130, 130)), replayed=((125, 125),), durable=((0, 63),)),
        "85a474797065a6637265646974a56279746573cd4000a46c6976659292007792cc82cc82a87265706c6179656491927d"
        "7da764757261626c659192003f",
    ),
    (
        Drop(run=RUN, ranges=((120, 129),), reason="outbox full"),
        "84a474797065a464726f70a372756ed92431323334353637382d313233342d353637382d313233342d35363738313233"
        "3435363738a672616e676573919278cc81a6726561736f6eab6f7574626f782066756c6c",
    ),
    (
        End(run=RUN, n=361, exit_status="ok"),
        "84a474797065a3656e64a372756ed92431323334353637382d313233342d353637382d313233342d3536373831323334"
        "35363738a16ecd0169ab657869745f737461747573a26f6b",
    ),
    (
        Report(run=RUN, missing=((120, 129),), by_dataset=True),
        "84a474797065a67265706f7274a372756ed92431323334353637382d313233342d353637382d313233342d3536373831"
        "32333435363738a76d697373696e67919278cc81aa62795f64617461736574c3",
    ),
    (
        Final(
            run=RUN,
            frames=361,
            live=341,
            replayed=10,
            missing={"outbox full": 10},
            exit_status="ok",
            sentence="s",
            folder="/data/cell 1",
            live_ranges=((0, 119), (140, 360)),
            replayed_ranges=((130, 139),),
        ),
        "8ca474797065a566696e616ca372756ed92431323334353637382d313233342d353637382d313233342d353637383132"
        "333435363738a66672616d6573cd0169a46c697665cd0155a87265706c617965640aa76d697373696e6781ab6f757462"
        "6f782066756c6c0aab657869745f737461747573a26f6ba873656e74656e6365a173a6666f6c646572ac2f646174612f"
        "63656c6c2031a56572726f72c0ab6c6976655f72616e6765739292007792cc8ccd0168af7265706c617965645f72616e"
        "6765739192cc82cc8b",
    ),
    (Ping(clock_ns=1), "82a474797065a470696e67a8636c6f636b5f6e7301"),
    (Pong(ping_ns=1, clock_ns=2), "83a474797065a4706f6e67a770696e675f6e7301a8636c6f636b5f6e7302"),
    (
        Error(code="version", fatal=True, message="m"),
        "85a474797065a56572726f72a4636f6465a776657273696f6ea5666174616cc3a76d657373616765a16da772657175657374c0",
    ),
    (
        View(request=3, level=1, x=2, y=3, w=4, h=5),
        "89a474797065a476696577a77265717565737403a372756ec0a770696374757265a663616e766173a56c6576656c01a1"
        "7802a17903a17704a16805",
    ),
    (
        Viewed(request=3, run=RUN, picture="canvas", level=1, x=2, y=3, w=4, h=5, nbytes=80, live=351),
        "8ba474797065a6766965776564a77265717565737403a372756ed92431323334353637382d313233342d353637382d31"
        "3233342d353637383132333435363738a770696374757265a663616e766173a56c6576656c01a17802a17903a17704a1"
        "6805a66e627974657350a46c697665cd015f",
    ),
    (
        Steer(request=4, run=RUN, region=(8, 16, 32, 64), token=b"\x01\x02"),
        "85a474797065a57374656572a77265717565737404a372756ed92431323334353637382d313233342d353637382d3132"
        "33342d353637383132333435363738a6726567696f6e9408102040a5746f6b656ec4020102",
    ),
    (
        Steered(request=4, run=RUN, region=None),
        "84a474797065a773746565726564a77265717565737404a372756ed92431323334353637382d313233342d353637382d"
        "313233342d353637383132333435363738a6726567696f6ec0",
    ),
    (
        Status(
            state="running",
            model="livenet",
            device="cpu",
            run=RUN,
            name="cell 1",
            received=5,
            live=4,
            frames_per_s=99.5,
            backlog=1,
            shape=(64, 128),
            upsampling=8,
            pixel_size_nm=100.0,
        ),
        "de0015a474797065a6737461747573a57374617465a772756e6e696e67a56d6f64656ca76c6976656e6574a664657669"
        "6365a3637075a372756ed92431323334353637382d313233342d353637382d313233342d353637383132333435363738"
        "a46e616d65a663656c6c2031ab657869745f737461747573c0a8726563656976656405a46c69766504a87265706c6179"
        "656400a764757261626c6500a764726f7070656400a86578706563746564c0ac6672616d65735f7065725f73cb4058e0"
        "0000000000a76261636b6c6f6701ae6c6174656e63795f7035305f6d73c0ae6c6174656e63795f7039395f6d73c0a573"
        "686170659240cc80aa757073616d706c696e6708ad706978656c5f73697a655f6e6dcb4059000000000000a66e6f7469"
        "6365a0",
    ),
]
NAMES = [type(message).__name__ for message, _ in GOLDEN]

# The same messages where they have fields that the first clients and servers of version 1 do not know.
GOLDEN_LATER: list[tuple[Message, str]] = [
    (
        Hello(
            version="stormlive-1",
            run=RUN,
            segment=SegmentOffer(name="/proc/4242/fd/7", nbytes=268435520, nonce=bytes(range(16))),
        ),
        "85a474797065a568656c6c6fa776657273696f6eab73746f726d6c6976652d31a4726f6c65a673656e646572a372756e"
        "d92431323334353637382d313233342d353637382d313233342d353637383132333435363738a77365676d656e7483a4"
        "6e616d65af2f70726f632f343234322f66642f37a66e6279746573ce10000040a56e6f6e6365c4100001020304050607"
        "08090a0b0c0d0e0f",
    ),
    (
        Welcome(
            version="stormlive-1",
            epoch="e1",
            credit_bytes=67108864,
            max_frame_bytes=67108864,
            heartbeat_ms=1000,
            clock_ns=123456789,
            model="livenet",
            model_pixel_size_nm=100.0,
            view_port=5558,
            status_port=5559,
            lane="shm",
        ),
        "8ca474797065a777656c636f6d65a776657273696f6eab73746f726d6c6976652d31a565706f6368a26531ac63726564"
        "69745f6279746573ce04000000af6d61785f6672616d655f6279746573ce04000000ac6865617274626561745f6d73cd"
        "03e8a8636c6f636b5f6e73ce075bcd15a56d6f64656ca76c6976656e6574b36d6f64656c5f706978656c5f73697a655f"
        "6e6dcb4059000000000000a9766965775f706f7274cd15b6ab7374617475735f706f7274cd15b7a46c616e65a373686d",
    ),
    (
        FrameHeader(run=RUN, seq=7, t_ns=-5, dtype="uint16", shape=(64, 128), nbytes=16384, at=64),
        "8aa474797065a56672616d65a372756ed92431323334353637382d313233342d353637382d313233342d353637383132"
        "333435363738a373657107a4745f6e73fba56474797065a675696e743136a573686170659240cc80a66e6279746573cd"
        "4000a46178657380a67265706c6179c2a2617440",
    ),
    (
        Status(state="running", model="livenet", device="cpu", lane="shm"),
        "de0016a474797065a6737461747573a57374617465a772756e6e696e67a56d6f64656ca76c6976656e6574a664657669"
        "6365a3637075a372756ec0a46e616d65a0ab657869745f737461747573c0a8726563656976656400a46c69766500a872"
        "65706c6179656400a764757261626c6500a764726f7070656400a86578706563746564c0ac6672616d65735f7065725f"
        "73cb0000000000000000a76261636b6c6f6700ae6c6174656e63795f7035305f6d73c0ae6c6174656e63795f7039395f"
        "6d73c0a57368617065c0aa757073616d706c696e67c0ad706978656c5f73697a655f6e6dc0a66e6f74696365a0a46c61"
        "6e65a373686d",
    ),
    (
        View(request=3, canvas="z-1"),
        "8aa474797065a476696577a77265717565737403a372756ec0a770696374757265a663616e766173a56c6576656c00a1"
        "7800a17900a177ce7fffffffa168ce7fffffffa663616e766173a37a2d31",
    ),
    (
        Viewed(request=3, run=RUN, picture="last", level=0, x=0, y=0, w=1, h=2, nbytes=8, live=351, canvas="z-1"),
        "8ca474797065a6766965776564a77265717565737403a372756ed92431323334353637382d313233342d353637382d31"
        "3233342d353637383132333435363738a770696374757265a46c617374a56c6576656c00a17800a17900a17701a16802"
        "a66e627974657308a46c697665cd015fa663616e766173a37a2d31",
    ),
    (
        View(request=3, accept="zlib"),
        "8aa474797065a476696577a77265717565737403a372756ec0a770696374757265a663616e766173a56c6576656c00a1"
        "7800a17900a177ce7fffffffa168ce7fffffffa6616363657074a47a6c6962",
    ),
    (
        Viewed(request=3, run=RUN, picture="last", level=0, x=0, y=0, w=1, h=2, nbytes=8, live=351, coding="zlib"),
        "8ca474797065a6766965776564a77265717565737403a372756ed92431323334353637382d313233342d353637382d31"
        "3233342d353637383132333435363738a770696374757265a46c617374a56c6576656c00a17800a17900a17701a16802"
        "a66e627974657308a46c697665cd015fa6636f64696e67a47a6c6962",
    ),
    (
        View(request=3, contrast=True),
        "8aa474797065a476696577a77265717565737403a372756ec0a770696374757265a663616e766173a56c6576656c00a1"
        "7800a17900a177ce7fffffffa168ce7fffffffa8636f6e7472617374c3",
    ),
    (
        Viewed(
            request=3,
            run=RUN,
            picture="last",
            level=0,
            x=0,
            y=0,
            w=1,
            h=2,
            nbytes=8,
            live=351,
            contrast=tuple((0.0, n / 2) for n in range(1, 11)),
        ),
        "8ca474797065a6766965776564a77265717565737403a372756ed92431323334353637382d313233342d353637382d31"
        "3233342d353637383132333435363738a770696374757265a46c617374a56c6576656c00a17800a17900a17701a16802"
        "a66e627974657308a46c697665cd015fa8636f6e74726173749a92cb0000000000000000cb3fe000000000000092cb00"
        "00000000000000cb3ff000000000000092cb0000000000000000cb3ff800000000000092cb0000000000000000cb4000"
        "00000000000092cb0000000000000000cb400400000000000092cb0000000000000000cb400800000000000092cb0000"
        "000000000000cb400c00000000000092cb0000000000000000cb401000000000000092cb0000000000000000cb401200"
        "000000000092cb0000000000000000cb4014000000000000",
    ),
    (
        Viewed(
            request=3,
            run=RUN,
            picture="last",
            level=0,
            x=0,
            y=0,
            w=1,
            h=2,
            nbytes=8,
            live=351,
            canvas="z-1",
            judgement=Judgement(frames=350, canvas="z-1", gauge="green", rsp=0.5),
        ),
        "8da474797065a6766965776564a77265717565737403a372756ed92431323334353637382d313233342d353637382d31"
        "3233342d353637383132333435363738a770696374757265a46c617374a56c6576656c00a17800a17900a17701a16802"
        "a66e627974657308a46c697665cd015fa663616e766173a37a2d31a96a756467656d656e7484a66672616d6573cd015e"
        "a663616e766173a37a2d31a56761756765a5677265656ea3727370cb3fe0000000000000",
    ),
    (
        Status(state="running", model="livenet", device="cpu", region=(8, 16, 32, 64)),
        "de0016a474797065a6737461747573a57374617465a772756e6e696e67a56d6f64656ca76c6976656e6574a664657669"
        "6365a3637075a372756ec0a46e616d65a0ab657869745f737461747573c0a8726563656976656400a46c69766500a872"
        "65706c6179656400a764757261626c6500a764726f7070656400a86578706563746564c0ac6672616d65735f7065725f"
        "73cb0000000000000000a76261636b6c6f6700ae6c6174656e63795f7035305f6d73c0ae6c6174656e63795f7039395f"
        "6d73c0a57368617065c0aa757073616d706c696e67c0ad706978656c5f73697a655f6e6dc0a66e6f74696365a0a67265"
        "67696f6e9408102040",
    ),
    (
        Status(state="running", model="livenet", device="cpu", canvases=("z-0", "z-1")),
        "de0016a474797065a6737461747573a57374617465a772756e6e696e67a56d6f64656ca76c6976656e6574a664657669"
        "6365a3637075a372756ec0a46e616d65a0ab657869745f737461747573c0a8726563656976656400a46c69766500a872"
        "65706c6179656400a764757261626c6500a764726f7070656400a86578706563746564c0ac6672616d65735f7065725f"
        "73cb0000000000000000a76261636b6c6f6700ae6c6174656e63795f7035305f6d73c0ae6c6174656e63795f7039395f"
        "6d73c0a57368617065c0aa757073616d706c696e67c0ad706978656c5f73697a655f6e6dc0a66e6f74696365a0a86361"
        "6e766173657392a37a2d30a37a2d31",
    ),
    (
        Status(
            state="running",
            model="livenet",
            device="cpu",
            judgement=Judgement(frames=900, gauge="red", rsp=0.5, converged=False, drift_nm=(12.5, -1.0)),
        ),
        "de0016a474797065a6737461747573a57374617465a772756e6e696e67a56d6f64656ca76c6976656e6574a664657669"
        "6365a3637075a372756ec0a46e616d65a0ab657869745f737461747573c0a8726563656976656400a46c69766500a872"
        "65706c6179656400a764757261626c6500a764726f7070656400a86578706563746564c0ac6672616d65735f7065725f"
        "73cb0000000000000000a76261636b6c6f6700ae6c6174656e63795f7035305f6d73c0ae6c6174656e63795f7039395f"
        "6d73c0a57368617065c0aa757073616d706c696e67c0ad706978656c5f73697a655f6e6dc0a66e6f74696365a0a96a75"
        "6467656d656e7485a66672616d6573cd0384a56761756765a3726564a3727370cb3fe0000000000000a9636f6e766572"
        "676564c2a864726966745f6e6d92cb4029000000000000cbbff0000000000000",
    ),
]


@pytest.mark.parametrize(("message", "data"), [*GOLDEN, *GOLDEN_LATER])
def test_golden_bytes(message: Message, data: str) -> None:
    assert encode(message).hex() == data
    assert decode(bytes.fromhex(data)) == message


def test_every_message_has_golden_bytes() -> None:
    assert sorted(NAMES) == sorted(kind.__name__ for kind in Message.__args__)


def test_the_names_of_all_canvases_fit_one_status() -> None:
    no_numbers = ("frames", "canvas", "gauge", "sentence", "calibration", "converged", "drift_nm")
    most = dict.fromkeys(("received", "live", "replayed", "durable", "dropped", "expected", "backlog"), 2**48 - 1)
    status = Status(
        state="finishing",
        model="ä" * 150,
        device="ä" * 150,
        run=RUN,
        name="ä" * 100,
        exit_status="ä" * 150,
        notice="ä" * 150,
        shape=(65_536, 65_536),
        region=(65_535, 65_535, 65_536, 65_536),
        lane="shm",
        canvases=tuple("ä" * 30 + f"{number:04}" for number in range(MAX_CANVASES)),
        judgement=Judgement(
            **{name: 1 / 3 for name in Judgement.__struct_fields__ if name not in no_numbers},
            frames=2**48 - 1,
            canvas="ä" * 32,
            gauge="unknown",
            sentence="ä" * 150,
            calibration="ä" * 150,
            converged=True,
            drift_nm=(1 / 3, -1 / 3),
        ),
        **most,
    )
    assert decode(encode(status)) == status
    for too_much in (("z",) * (MAX_CANVASES + 1), ("z" * 65,)):
        with pytest.raises(ProtocolError):
            decode(changed(status, canvases=too_much))
    assert decode(changed(View(request=1), canvas=None)).canvas is None


@pytest.mark.parametrize("pair", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf")), (0.0,), (0.0, "1")])
def test_a_contrast_that_is_none_is_a_protocol_error(pair: tuple) -> None:
    viewed = Viewed(request=3, run=RUN, picture="last", level=0, x=0, y=0, w=1, h=2, nbytes=8, live=351)
    good = [(0.0, 1.0)] * 9
    assert decode(changed(viewed, contrast=[*good, (0.0, 2.0)])).contrast[9] == (0.0, 2.0)
    for contrast in ([*good, pair], good, [*good, *good]):
        with pytest.raises(ProtocolError):
            decode(changed(viewed, contrast=contrast))


@pytest.mark.parametrize(("message", "data"), [*GOLDEN, *GOLDEN_LATER])
def test_unknown_keys_are_ignored(message: Message, data: str) -> None:
    fields = msgspec.msgpack.decode(bytes.fromhex(data))
    later = msgspec.msgpack.encode({**fields, "invented_in_1_7": {"a": [1, 2, {"b": None}]}})
    assert decode(later) == message


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(b"\x91" * 8000)
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x81\xa4type\xdb\xff\xff\xff\xff")
@example(b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * 8000)
@example(b"\x81\xa1\xff\x01")
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    trouble = ""
    try:
        decode(data)
    except ProtocolError as error:
        trouble = str(error)
    assert "\n" not in trouble
    assert len(trouble.encode()) <= MAX_TEXT


@settings(max_examples=400)
@given(
    st.sampled_from([*GOLDEN, *GOLDEN_LATER]), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6)
)
def test_damaged_messages_are_messages_or_protocol_errors(
    golden: tuple[Message, str], damage: list[tuple[int, int]]
) -> None:
    data = bytearray.fromhex(golden[1])
    for at, byte in damage:
        data[at % len(data)] = byte
    try:
        message = decode(data)
    except ProtocolError:
        return
    assert decode(encode(message)) == message


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=400)
@given(st.sampled_from([*GOLDEN, *GOLDEN_LATER]), st.data())
def test_wrong_content_is_a_protocol_error(golden: tuple[Message, str], data: st.DataObject) -> None:
    fields = msgspec.msgpack.decode(bytes.fromhex(golden[1]))
    key = data.draw(st.sampled_from(sorted(fields)))
    fields[key] = data.draw(plain)
    with contextlib.suppress(ProtocolError):
        decode(msgspec.msgpack.encode(fields))


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([*(bytes.fromhex(data) for _, data in [*GOLDEN, *GOLDEN_LATER]), b"", bytes(16384)]), max_size=4
    )
)
def test_any_parts_are_a_message_or_a_protocol_error(parts: list[bytes]) -> None:
    try:
        message, pixels = unpack(parts)
    except ProtocolError:
        return
    assert (pixels is not None) == isinstance(message, FrameHeader | Viewed)


def changed(message: Message, **fields: object) -> bytes:
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(encode(message)), **fields})


HEADER = FrameHeader(run=RUN, seq=7, t_ns=0, dtype="uint16", shape=(64, 128), nbytes=16384)


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [64, 128, 1]},
        {"shape": [8192]},
        {"shape": [0, 128]},
        {"shape": [-64, -128]},
        {"shape": [2**40, 2**40]},
        {"shape": [128, 128]},
        {"dtype": "uint32"},
        {"dtype": ">u2"},
        {"dtype": "object"},
        {"dtype": "float32"},
        {"nbytes": 16383},
        {"nbytes": 2**62},
        {"seq": -1},
        {"seq": 2**48},
        {"run": "latest"},
        {"axes": {str(n): n for n in range(17)}},
        {"axes": {"time": [1]}},
        {"axes": {"x" * 65: 1}},
        {"type": "pickle"},
        {"at": -1},
        {"at": 2**40},
        {"at": None},
        {"at": "0"},
    ],
)
def test_frame_limits(fields: dict[str, object]) -> None:
    decode(changed(HEADER))
    with pytest.raises(ProtocolError):
        decode(changed(HEADER, **fields))


@pytest.mark.parametrize(
    "fields",
    [{"name": "x" * 65}, {"name": 1}, {"nbytes": -1}, {"nbytes": 2**40}, {"nonce": bytes(15)}, {"nonce": "x" * 16}],
)
def test_limits_of_shared_memory(fields: dict[str, object]) -> None:
    segment = {"name": "/proc/1/fd/1", "nbytes": 4096, "nonce": bytes(16)}
    decode(changed(Hello(version="stormlive-1"), segment=segment))
    with pytest.raises(ProtocolError):
        decode(changed(Hello(version="stormlive-1"), segment={**segment, **fields}))


@pytest.mark.parametrize("spans", [[[0, 0]] * (MAX_SPANS + 1), [[5, 4]], [[0]], [[0, 2**48]], [[-1, 0]]])
def test_range_limits(spans: list[list[int]]) -> None:
    with pytest.raises(ProtocolError):
        decode(changed(Credit(bytes=0), live=spans))
    with pytest.raises(ProtocolError):
        decode(changed(Drop(run=RUN, ranges=(), reason="r"), ranges=spans))


def test_header_limit_holds_both_ways() -> None:
    with pytest.raises(ProtocolError, match="header"):
        decode(changed(Ping(clock_ns=1), padding="x" * MAX_HEADER_BYTES))
    with pytest.raises(ProtocolError, match="header"):
        encode(Error(code="c", fatal=True, message="x" * MAX_HEADER_BYTES))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [encode(HEADER)],
        [encode(HEADER), bytes(16383)],
        [encode(HEADER), bytes(16385)],
        [encode(HEADER), bytes(16384), b""],
        [encode(Ping(clock_ns=1)), b""],
    ],
)
def test_part_limits(parts: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        unpack(parts)


def test_the_most_ranges_fit_one_header_and_groups_lose_nothing() -> None:
    ranges = Ranges((2**47 + 3 * n, 2**47 + 3 * n + 1) for n in range(3 * MAX_SPANS + 5))
    groups = span_groups(ranges)
    for group in groups:
        encode(Drop(run=RUN, ranges=group, reason="x" * MAX_TEXT))
    assert Ranges(span for group in groups for span in group) == ranges


def test_the_longest_final_fits_one_header() -> None:
    long = one_line("µ" * 5000)
    missing = {one_line(f"{n}" + "µ" * 500, 120): 2**47 for n in range(9)}
    encode(
        Final(
            run=RUN,
            frames=2**47,
            live=2**47,
            missing=missing,
            exit_status=long,
            sentence=one_line("µ" * 5000, 1000),
            folder=check_path("µ" * 500),
            error=long,
        )
    )


@pytest.mark.parametrize("version", ["stormlive-1", "stormlive-1.4"])
def test_our_versions(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["stormlive-2", "stormlive-10", "stormlive-2.1", "", "karabo-1", "stormlive-1\n"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_version(version)
    assert caught.value.code == "version"


def test_a_greeting_of_the_future_is_told_apart_from_garbage() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(msgspec.msgpack.encode({"type": "hello", "version": "stormlive-2", "role": {"now": "a map"}}))
    assert caught.value.code == "version"
    with pytest.raises(ProtocolError) as caught:
        decode(msgspec.msgpack.encode({"type": "hello", "version": "stormlive-1", "role": {"now": "a map"}}))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", name) for name in ("..", "a/b", "CON", "a" * 101, None)),
        ("calibration", {**msgspec.to_builtins(CAL), "exposure_ms": -1}),
        ("calibration", {**msgspec.to_builtins(CAL), "pixel_size_nm": "100"}),
    ],
)
def test_what_start_may_not_hold_is_a_protocol_error(field: str, value: object) -> None:
    with pytest.raises(ProtocolError):
        decode(changed(GOLDEN[2][0], **{field: value}))


@pytest.mark.parametrize("dtype", WIRE_DTYPES.values(), ids=WIRE_DTYPES)
def test_frames_travel_unchanged(dtype: np.dtype) -> None:
    pixels = np.arange(6).reshape(2, 3).astype(dtype)
    frame = Frame(run=RUN, seq=3, t_ns=5, axes={"time": 3}, pixels=pixels)
    message, data = unpack([encode(frame_header(frame)), pixels.tobytes()])
    assert isinstance(message, FrameHeader)
    assert data is not None
    back = frame_of(message, data)
    assert (back.run, back.seq, back.t_ns, back.axes) == (RUN, 3, 5, {"time": 3})
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, pixels)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 3, 3), "u1"), np.zeros((0, 3), "u1"), np.zeros((2, 2), ">u2"), np.zeros((2, 2), "i4")],
)
def test_frames_that_the_wire_does_not_carry(pixels: np.ndarray) -> None:
    with pytest.raises(InputError):
        Frame(run=RUN, seq=0, t_ns=0, pixels=pixels)


def test_the_longest_messages_of_a_server_fit_a_header() -> None:
    far = 2**48 - 2 * MAX_SPANS
    spans = tuple((far + 2 * n, far + 2 * n) for n in range(MAX_SPANS))
    ledger = Ledger()
    for first, _ in spans[: MAX_FINAL_SPANS + 1]:
        ledger.add(first)
        ledger.add(first - 2 * MAX_SPANS, replay=True)
    for n in range(20):
        ledger.add_missing(Ranges([(n, n)]), f"{n}" + "µ" * 200)
    assert ledger.final(RUN, "ok", None).live_ranges == ()
    ledger.live.discard(spans[0][0])
    ledger.replayed.discard(spans[0][0] - 2 * MAX_SPANS)
    final = ledger.final(RUN, "x" * 1000, "y" * 5000, "z" * MAX_TEXT)
    assert len(final.live_ranges) == len(final.replayed_ranges) == MAX_FINAL_SPANS
    half = len(spans) // 2
    texts = dict.fromkeys(("version", "epoch", "model"), "v" * MAX_TEXT)
    longest = [
        final,
        Report(run=RUN, missing=spans),
        Credit(bytes=2**39, live=spans[: half // 2], replayed=spans[half // 2 : half], durable=spans[:half]),
        msgspec.structs.replace(next(m for m, _ in GOLDEN if isinstance(m, Welcome)), have=spans, **texts),
        Drop(run=RUN, ranges=spans, reason="r" * MAX_TEXT),
    ]
    for message in longest:
        assert decode(encode(message)) == message
    axes = {f"{n}" + "a" * 60: "b" * 64 for n in range(3)}
    assert encode(Refer(run=RUN, seq=0, axes=({"time": 2**61, "channel": "c" * 60, "z": 1, "position": 2},) * 32))
    with pytest.raises(ProtocolError, match="a header at most"):
        encode(Refer(run=RUN, seq=0, axes=(axes,) * 32))
