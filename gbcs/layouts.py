"""How the GBCS messages lie in octets: one declaration, three uses.

Each layout is declared once, with construct, and used as

- a compiled builder and reader for the hot path. The compiled reader checks
  little; its caller must check that building the result again gives the very
  octets that were read (``gbcs.messages`` does);
- a strict reader that checks every octet and tells where and why a message
  is malformed;
- the table of parts, with offsets, that the inspection shows.

This is the only module that imports construct.

Source: GBCS 4.3, Grouping Header, MAC Header, use cases ECS46a and ECS200.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from itertools import pairwise
from typing import Any

import construct as c

from gbcs.errors import FormatError

CLASS_DATA_OBIS_PREFIX = bytes.fromhex("0001 00005E2C00")
"""Class 1 (Data) and the first five octets of OBIS 0-0:94.44.0.x."""

FIRST_LABEL_OBIS = 0x0B
MAX_LABELS = 5
MAX_LABEL_CHARS = 22
SIGNATURE_OCTETS = 64
MAC_OCTETS = 12
DATE_TIME_OCTETS = 12
MAC_HEADER_START = bytes.fromhex("DD000000000000")
PRINTABLE = "printable ASCII, 20 to 7E"
SECURITY_HEADER = bytes.fromhex("1100000000")
OTHER_INFORMATION_OCTETS = (2, 10, 18, 26)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message as it was read.

    ``title`` names it for people, ``name`` is its name in the layout (None for
    constants), ``offset`` and ``octets`` say where it stands and what stands
    there, ``value`` is what was read.
    """

    title: str
    name: str | None
    offset: int
    octets: bytes
    value: Any


@dataclass(slots=True)
class Reading:
    """A strict reading: the parts so far, and which part is being read."""

    octets: bytes
    parts: list[Part] = field(default_factory=list)
    values: Mapping[str, Any] = field(default_factory=dict)
    title: str = "message"
    offset: int = 0

    def end_of(self, name: str) -> int:
        """Return the offset just after the named part."""
        part = self.part(name)
        return part.offset + len(part.octets)

    def part(self, name: str) -> Part:
        """Return the last part of that name."""
        return next(part for part in reversed(self.parts) if part.name == name)


class _Part(c.Subconstruct):  # type: ignore[misc]
    """A part with a title, and a test of its value in the strict reading.

    The compiled forms leave title and test out and cost nothing.
    """

    def __init__(
        self,
        title: str,
        subcon: Any,
        test: Callable[[Any], bool] | None = None,
        expected: str = "",
        name: str | None = None,
    ) -> None:
        super().__init__(subcon)
        self.title, self.test, self.expected, self.part_name = title, test, expected, name

    def _parse(self, stream: BytesIO, context: Any, path: str) -> Any:
        reading: Reading = context._params.reading
        start = stream.tell()
        reading.title, reading.offset = self.title, start
        value = self.subcon._parsereport(stream, context, path)
        octets = reading.octets[start : stream.tell()]
        if self.test is not None and not self.test(value):
            raise c.ValidationError(f"found {octets.hex(' ').upper()}, expected {self.expected}")
        reading.parts.append(Part(self.title, self.part_name, start, octets, value))
        return value

    def _emitparse(self, code: Any) -> Any:
        return self.subcon._compileparse(code)

    def _emitbuild(self, code: Any) -> Any:
        return self.subcon._compilebuild(code)


class _Constant(_Part):
    """A part that always holds the same octets."""

    def __init__(self, title: str, octets: bytes) -> None:
        super().__init__(title, c.Const(octets))
        self._strict = _Part(
            title, c.Bytes(len(octets)), lambda v: v == octets, octets.hex(" ").upper()
        )

    def _parse(self, stream: BytesIO, context: Any, path: str) -> Any:
        return self._strict._parse(stream, context, path)

    def _emitparse(self, code: Any) -> str:
        return f"io.read({self._strict.subcon.length})"


class _Around(c.Subconstruct):  # type: ignore[misc]
    """One value with constants around it: a value in lists, not a structure, and so faster."""

    def __init__(self, before: list[Any], subcon: Any, after: list[Any]) -> None:
        super().__init__(subcon)
        self.before, self.after = before, after

    def _parse(self, stream: BytesIO, context: Any, path: str) -> Any:
        for constant in self.before:
            constant._parsereport(stream, context, path)
        value = self.subcon._parsereport(stream, context, path)
        for constant in self.after:
            constant._parsereport(stream, context, path)
        return value

    def _emitparse(self, code: Any) -> str:
        parts = [part._compileparse(code) for part in (*self.before, self.subcon, *self.after)]
        return f"({', '.join(parts)},)[{len(self.before)}]"

    def _emitbuild(self, code: Any) -> str:
        parts = [part._compilebuild(code) for part in (*self.before, self.subcon, *self.after)]
        return f"({', '.join(parts)},)[{len(self.before)}]"


class _Record(c.Struct):  # type: ignore[misc]
    """A structure that compiles to lean code: plain dictionaries, no construct contexts.

    Its compiled forms cannot nest and know no reading; the strict reading is construct's own.
    """

    def _emitparse(self, code: Any) -> str:
        lines = [
            f"this[{part.name!r}] = {part._compileparse(code)}"
            if part.name
            else part._compileparse(code)
            for part in self.subcons
        ]
        name = f"parse_record_{code.allocateId()}"
        body = "".join(f"    {line}\n" for line in lines)
        code.append(f"def {name}(io):\n    this = {{}}\n{body}    return this\n")
        return f"{name}(io)"

    def _emitbuild(self, code: Any) -> str:
        lines = [
            f"obj = this[{part.name!r}]; {part._compilebuild(code)}"
            if part.name
            else part._compilebuild(code)
            for part in self.subcons
        ]
        name = f"build_record_{code.allocateId()}"
        body = "".join(f"    {line}\n" for line in lines)
        code.append(f"def {name}(this, io):\n{body}    return this\n")
        return f"{name}(obj, io)"


class _List(c.Array):  # type: ignore[misc]
    """A list that compiles to a list comprehension."""

    def _emitparse(self, code: Any) -> str:
        return f"[{self.subcon._compileparse(code)} for _ in range({self.count})]"

    def _emitbuild(self, code: Any) -> str:
        return f"[{self.subcon._compilebuild(code)} for obj in obj]"


class _ShortString(c.Construct):  # type: ignore[misc]
    """A string of 1 to ``most`` printable characters after its length in one octet."""

    def __init__(self, title: str, most: int) -> None:
        super().__init__()
        self._length = _Part(
            f"{title} length", c.Int8ub, lambda v: 1 <= v <= most, f"01 to {most:02X}"
        )
        self._title = title

    def _parse(self, stream: BytesIO, context: Any, path: str) -> bytes:
        length = self._length._parse(stream, context, path)
        text = _Part(f"{self._title} text", c.Bytes(length), is_printable, PRINTABLE, "text")
        octets: bytes = text._parse(stream, context, path)
        return octets

    def _emitparse(self, code: Any) -> str:
        return f"io.read({self._length._compileparse(code)})"

    def _emitbuild(self, code: Any) -> str:
        return "(io.write(bytes((len(obj),)) + obj), obj)[1]"


class _Agree(c.Construct):  # type: ignore[misc]
    """A check across parts, in the strict reading only; takes no octets.

    ``test`` gets the values read so far (the reading under ``_params``) and the
    offset; it returns what is wrong, or None.
    """

    def __init__(self, blame: str | None, test: Callable[[Any, int], str | None]) -> None:
        super().__init__()
        self.flagbuildnone = True
        self.blame, self.test = blame, test

    def _parse(self, stream: BytesIO, context: Any, path: str) -> None:
        reading: Reading = context._params.reading
        wrong = self.test(context, stream.tell())
        if wrong is None:
            return
        reading.title, reading.offset = "end of message", stream.tell()
        if self.blame is not None:
            part = reading.part(self.blame)
            reading.title, reading.offset = part.title, part.offset
        raise c.ValidationError(wrong)

    def _emitparse(self, code: Any) -> str:
        return "None"

    def _emitbuild(self, code: Any) -> str:
        return "None"


class _Length(c.Construct):  # type: ignore[misc]
    """An A-XDR length: one octet below 128, else 81 xx, else 82 xx xx; shortest form only."""

    def _parse(self, stream: BytesIO, context: Any, path: str) -> int:
        first: int = c.stream_read(stream, 1, path)[0]
        if first < 0x80:
            return first
        if first not in (0x81, 0x82):
            raise c.ValidationError(f"found {first:02X}, expected a length: 00 to 7F, 81 or 82")
        octets = c.stream_read(stream, first - 0x80, path)
        length = int.from_bytes(octets, "big")
        if octet_count_of_length(length) != len(octets) + 1:
            raise c.ValidationError(f"length {length} is not in its shortest form")
        return length

    def _build(self, obj: int, stream: BytesIO, context: Any, path: str) -> int:
        stream.write(length_octets(obj))
        return obj

    def _emitparse(self, code: Any) -> str:
        code.append(
            "def read_length(io):\n"
            "    first = io.read(1)[0]\n"
            # Longer ones do not exist: octets that claim one are not what building gives again.
            "    count = min(first - 0x80, 2)\n"
            "    return first if count < 0 else int.from_bytes(io.read(count), 'big')\n"
        )
        return "read_length(io)"

    def _emitbuild(self, code: Any) -> str:
        code.append("from gbcs.layouts import length_octets")
        return "io.write(length_octets(obj))"


def length_octets(length: int) -> bytes:
    """Return an A-XDR length (0 to 65535) in its shortest form.

    Source: IEC 61334-6 (A-XDR).
    """
    if length < 0x80:
        return bytes((length,))
    if length < 0x100:
        return bytes((0x81, length))
    return b"\x82" + length.to_bytes(2, "big")


def octet_count_of_length(length: int) -> int:
    """Return how many octets the A-XDR length takes: 1, 2 or 3."""
    return 1 if length < 0x80 else 2 if length < 0x100 else 3


def _named(
    name: str,
    title: str,
    subcon: Any,
    test: Callable[[Any], bool] | None = None,
    expected: str = "",
) -> Any:
    return name / _Part(title, subcon, test, expected, name)


def _constant(title: str, octets: bytes) -> Any:
    return _Constant(title, octets)


def is_printable(octets: bytes) -> bool:
    """Tell whether all octets are printable ASCII, blank to tilde."""
    return is_printable_text(octets.decode("latin-1"))


def is_printable_text(text: str) -> bool:
    """Tell whether all characters are printable ASCII, blank to tilde."""
    return text.isascii() and text.isprintable()


def _grouping_header(
    cra_flag: int | None, message_code: int | None, other_information: tuple[int, ...]
) -> list[Any]:
    """Return the parts up to the content length; None lets any value pass."""
    has = {
        count: c.this.other_information_length >= count for count in OTHER_INFORMATION_OCTETS[1:]
    }
    parts = [
        _constant("general-signing tag", b"\xdf"),
        _constant("transaction id length", b"\x09"),
        _named(
            "cra_flag",
            "CRA flag",
            c.Int8ub,
            lambda v: cra_flag in (None, v),
            f"{cra_flag or 0:02X}",
        ),
        _named("originator_counter", "originator counter", c.Int64ub),
        _constant("originator length", b"\x08"),
        _named("originator_id", "originator", c.Bytes(8)),
        _constant("recipient length", b"\x08"),
        _named("target_id", "recipient", c.Bytes(8)),
        _constant("date-time, empty", b"\x00"),
        _named(
            "other_information_length",
            "other information length",
            _Length(),
            lambda v: v in other_information,
            " or ".join(f"{count:02X}" for count in other_information),
        ),
        _named(
            "message_code",
            "message code",
            c.Int16ub,
            lambda v: message_code in (None, v),
            f"{message_code or 0:04X}",
        ),
    ]
    if max(other_information) > OTHER_INFORMATION_OCTETS[0]:
        parts += [
            "supplementary_remote_party_id"
            / c.If(
                has[10],
                _Part(
                    "supplementary remote party",
                    c.Bytes(8),
                    name="supplementary_remote_party_id",
                ),
            ),
            "supplementary_remote_party_counter"
            / c.If(
                has[18],
                _Part(
                    "supplementary remote party counter",
                    c.Int64ub,
                    name="supplementary_remote_party_counter",
                ),
            ),
            "supplementary_originator_counter"
            / c.If(
                has[26],
                _Part(
                    "supplementary originator counter",
                    c.Int64ub,
                    name="supplementary_originator_counter",
                ),
            ),
        ]
    return [*parts, _named("content_length", "content length", _Length())]


def _invoke_id(first: bytes, last: bytes) -> list[Any]:
    def agree(values: Any, offset: int) -> str | None:
        expected = values.originator_counter & 0xFFFFFF
        if values.invoke_id == expected:
            return None
        return f"found {values.invoke_id:06X}, expected {expected:06X} as in the counter's low end"

    return [
        _constant("service tag and priority", first),
        _named("invoke_id", "invoke id", c.Int24ub),
        _Agree("invoke_id", agree),
        _constant("empty fields" if len(last) > 1 else "date-time, empty", last),
    ]


def _count(name: str, title: str) -> Any:
    return _named(name, title, c.Int8ub, lambda v: 1 <= v <= MAX_LABELS, f"01 to {MAX_LABELS:02X}")


def _same_count(other: str, name: str, title: str) -> list[Any]:
    def agree(values: Any, offset: int) -> str | None:
        if values[name] == values[other]:
            return None
        return f"found {values[name]}, expected {values[other]} as in the first list"

    return [_count(name, title), _Agree(name, agree)]


def _indices_rise(values: Any, offset: int) -> str | None:
    if all(one < next_ for one, next_ in pairwise(values.specifications)):
        return None
    return "labels out of order or named twice: their indices must rise"


def _content_ends(values: Any, offset: int) -> str | None:
    found = offset - values._params.reading.end_of("content_length")
    if values.content_length == found:
        return None
    return f"says {values.content_length} octets, but the content has {found}"


def _ciphered_ends(values: Any, offset: int) -> str | None:
    found = offset - values._params.reading.end_of("ciphered_length")
    if values.ciphered_length == found:
        return None
    return f"says {values.ciphered_length} octets, but {found} follow"


def _message_ends(values: Any, offset: int) -> str | None:
    left = len(values._params.reading.octets) - offset
    return None if left == 0 else f"{left} octets too many"


_LABEL_LAST = FIRST_LABEL_OBIS + MAX_LABELS - 1

_SET_LABEL = _Around(
    [_constant("set class 1, 0-0:94.44.0", b"\x02" + CLASS_DATA_OBIS_PREFIX)],
    _Part(
        "OBIS end",
        c.Int8ub,
        lambda v: FIRST_LABEL_OBIS <= v <= _LABEL_LAST,
        f"{FIRST_LABEL_OBIS:02X} to {_LABEL_LAST:02X}",
        "obis_e",
    ),
    [_constant("attribute", b"\x02")],
)

_LABEL_TEXT = _Around(
    [_constant("visible-string tag", b"\x0a")], _ShortString("label", MAX_LABEL_CHARS), []
)

_ECS46A_CONTENT = [
    *_invoke_id(b"\xd9\x20", b"\x00"),
    _count("specification_count", "number of labels to set"),
    "specifications" / _List(c.this.specification_count, _SET_LABEL),
    _Agree("specification_count", _indices_rise),
    *_same_count("specification_count", "text_count", "number of texts"),
    "texts" / _List(c.this.text_count, _LABEL_TEXT),
]

_ECS46A_RESULTS = [
    *_invoke_id(b"\xda\x20", b"\x00\x00"),
    _count("null_count", "number of data"),
    "nulls" / _List(c.this.null_count, _constant("null data", b"\x00")),
    *_same_count("null_count", "result_count", "number of results"),
    "results"
    / _List(
        c.this.result_count,
        _Around(
            [_constant("set", b"\x02")],
            _Part("data-access-result", c.Int8ub, name="result"),
            [],
        ),
    ),
]

_ECS200_CONTENT = [
    *_invoke_id(b"\x0f\x20", b"\x00"),
    _constant("structure of three", b"\x02\x03"),
    _constant("long-unsigned tag", b"\x12"),
    _named("alert_code", "alert code", c.Int16ub),
    _constant("octet-string of twelve", b"\x09\x0c"),
    _named("date_time", "date-time", c.Bytes(DATE_TIME_OCTETS)),
    _constant("utf8-string tag", b"\x0c"),
    _named("text_length", "text length", _Length()),
    _named("text", "text", c.Bytes(c.this.text_length), is_printable, PRINTABLE),
]

_CONTENT_END = _Agree("content_length", _content_ends)
_END = _Agree(None, _message_ends)

_SIGNED = [
    _constant("signature length", b"\x40"),
    _named("signature", "signature r || s", c.Bytes(SIGNATURE_OCTETS)),
]

_MAYBE_SIGNED = [
    _named(
        "signature_length",
        "signature length",
        c.Int8ub,
        lambda v: v in (0, SIGNATURE_OCTETS),
        "40, or 00 when unsigned",
    ),
    "signature"
    / c.If(
        c.this.signature_length > 0,
        _Part("signature r || s", c.Bytes(SIGNATURE_OCTETS), name="signature"),
    ),
]

_MAC_HEADER = [
    _constant("general-ciphering tag", MAC_HEADER_START[:1]),
    _constant("six empty fields", MAC_HEADER_START[1:]),
    _named("ciphered_length", "length of what follows", _Length()),
    _constant("security header", SECURITY_HEADER),
]


class Layout:
    """The layout of one kind of message.

    Args:
        head: what stands before the signed part, if anything.
        body: the grouping header and the content.
        tail: signature and MAC, if any.
    """

    def __init__(self, *, body: list[Any], head: list[Any] | None = None, tail: list[Any]) -> None:
        self._body = _Record(*body)
        self._whole = _Record(*(head or []), *body, *tail)

    @cached_property
    def _compiled_body(self) -> Any:
        return self._body.compile()

    @cached_property
    def _compiled(self) -> Any:
        return self._whole.compile()

    def build_body(self, values: Mapping[str, Any]) -> bytes:
        """Build grouping header and content from values that the caller has checked."""
        # Without construct's own way in, which prepares a context that records do not use.
        stream = BytesIO()
        self._compiled_body.buildfunc(values, stream, None)
        return stream.getvalue()

    def read_unchecked(self, octets: bytes) -> Mapping[str, Any] | None:
        """Read fast, checking little; None when it cannot be read at all.

        The caller must compare what building the result gives with the octets.
        """
        try:
            values: Mapping[str, Any] = self._compiled.parsefunc(BytesIO(octets), None)
        except (c.ConstructError, struct.error, ValueError, IndexError):
            return None
        return values

    def read_strictly(self, octets: bytes) -> Reading:
        """Read and check every octet.

        Raises:
            FormatError: with offset and part.
        """
        reading = Reading(octets)
        try:
            reading.values = self._whole.parse(octets, reading=reading)
        except c.StreamError:
            raise FormatError(
                f"the message ends too early: {len(octets)} octets",
                offset=reading.offset,
                field=reading.title,
            ) from None
        except c.ConstructError as error:
            raise FormatError(str(error), offset=reading.offset, field=reading.title) from None
        return reading


_COMMAND = (1, 0x0053, (2,))
_RESPONSE = (2, 0x0053, (2,))
_ALERT = (3, 0x0123, OTHER_INFORMATION_OCTETS)

_ECS46A_BODY = [*_grouping_header(*_COMMAND), *_ECS46A_CONTENT]


GROUPING_HEADER = Layout(body=_grouping_header(None, None, OTHER_INFORMATION_OCTETS), tail=[])
PRE_COMMAND = Layout(body=_ECS46A_BODY, tail=[_CONTENT_END, _END])
SIGNED_PRE_COMMAND = Layout(body=_ECS46A_BODY, tail=[_CONTENT_END, *_SIGNED, _END])
COMMAND = Layout(
    head=_MAC_HEADER,
    body=_ECS46A_BODY,
    tail=[
        _CONTENT_END,
        *_SIGNED,
        _named("mac", "MAC", c.Bytes(MAC_OCTETS)),
        _Agree("ciphered_length", _ciphered_ends),
        _END,
    ],
)
RESPONSE = Layout(
    body=[*_grouping_header(*_RESPONSE), *_ECS46A_RESULTS],
    tail=[_CONTENT_END, *_MAYBE_SIGNED, _END],
)
ALERT = Layout(
    body=[*_grouping_header(*_ALERT), *_ECS200_CONTENT],
    tail=[_CONTENT_END, *_MAYBE_SIGNED, _END],
)
