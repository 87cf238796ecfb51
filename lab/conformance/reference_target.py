"""The program that the runner asks, over smtunnel: ``smtunnel conformance-target``.

It shows that the vectors can be passed, and how little such a program is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from lab.conformance.cases import hexadecimal, read_hexadecimal
from lab.conformance.reference import carrier_of, parse_octets
from lab.conformance.reference_control import control_build, control_parse
from lab.conformance.reference_session import ReferenceSession
from lab.conformance.runner import PROTOCOL
from lab.conformance.vectors import KINDS
from smtunnel import (
    Compression,
    CompressionChoice,
    FragmentHeader,
    MessageAssembly,
    Originator,
    TunnelError,
    UnknownDictionary,
    encode_message,
    labels_to_payload,
    parse_untrusted_header,
    payload_to_labels,
)
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.fragments import cut_stream

_CHOICES: Final[dict[str, CompressionChoice]] = {"auto": "auto", "zlib": "zlib", "none": "none"}


def _text(word: str) -> str:
    return read_hexadecimal(word).decode("latin-1")


def _words(header: FragmentHeader) -> list[str]:
    fields = (
        header.originator,
        header.compression,
        header.base64,
        header.last,
        header.index,
        header.tunnel_message_id,
    )
    return [str(int(field)) for field in fields]


class ReferenceTarget:
    """Answers requests, one after another; remembers the message that is being decoded."""

    def __init__(self) -> None:
        """Begin with no message."""
        self._assembly: MessageAssembly | None = None
        self._carrier = carrier_of("t110")
        self._session = ReferenceSession(["t110", "0", "65536", "15", "8", "2", "60", "64"])
        self._answers: dict[str, Callable[[Sequence[str]], list[str]]] = {
            "hello": self._hello,
            "header-unpack": self._header_unpack,
            "header-pack": self._header_pack,
            "payload-parse": self._payload_parse,
            "labels-join": self._labels_join,
            "labels-split": self._labels_split,
            "cut": self._cut,
            "encode": self._encode,
            "decode": self._decode,
            "fragment": self._fragment,
            "control-parse": control_parse,
            "control-build": control_build,
            "session": self._begin_session,
            "receive": lambda words: self._session.receive(words),
            "time": lambda words: self._session.time(words),
            "restart": lambda words: self._session.restart(words),
        }

    def answer(self, line: str) -> str:
        """Answer one line."""
        number, kind, *words = line.split(" ")
        try:
            answer = self._answers[kind](words)
        except UnknownDictionary as error:
            answer = ["error", "UnknownDictionary", f"{error.dictionary_id:08x}"]
        except TunnelError as error:
            answer = ["error", type(error).__name__]
        return " ".join([number, *answer])

    def _hello(self, words: Sequence[str]) -> list[str]:
        dictionaries = ",".join(f"{dictionary_id:08x}" for dictionary_id in DICTIONARIES)
        claims = [f"kinds={','.join(KINDS)}", f"dictionaries={dictionaries}"]
        return ["ok", str(PROTOCOL), "smtunnel-python", *claims]

    def _header_unpack(self, words: Sequence[str]) -> list[str]:
        return ["ok", *_words(parse_untrusted_header(_text(words[0])))]

    def _header_pack(self, words: Sequence[str]) -> list[str]:
        originator, compression, encoding, last, index, message_id = map(int, words)
        header = FragmentHeader(
            Originator(originator),
            Compression(compression),
            bool(encoding),
            bool(last),
            index,
            message_id,
        )
        return ["ok", header.to_bytes().hex(), header.encode().encode().hex()]

    def _payload_parse(self, words: Sequence[str]) -> list[str]:
        fragment = parse_octets(carrier_of(words[0]), read_hexadecimal(words[1]))
        return ["ok", *_words(fragment.header), hexadecimal(fragment.body)]

    def _labels_join(self, words: Sequence[str]) -> list[str]:
        pairs = [word.split(":") for word in words]
        payload = labels_to_payload([(int(number), _text(text)) for number, text in pairs])
        return ["none"] if payload is None else ["ok", hexadecimal(payload.encode("latin-1"))]

    def _labels_split(self, words: Sequence[str]) -> list[str]:
        labels = payload_to_labels(_text(words[0]))
        return ["ok", *(f"{number}:{hexadecimal(text.encode())}" for number, text in labels)]

    def _cut(self, words: Sequence[str]) -> list[str]:
        carrier = carrier_of(words[0])
        header = FragmentHeader(
            Originator(int(words[1])),
            Compression(int(words[2])),
            carrier.printable,
            last=False,
            index=0,
            tunnel_message_id=int(words[3]),
        )
        stream = read_hexadecimal(words[4])
        cut = cut_stream(stream, carrier=carrier, header=header, message_octets=len(stream))
        return ["ok", *_payload_words(cut.payloads or cut.octet_payloads)]

    def _encode(self, words: Sequence[str]) -> list[str]:
        encoded = encode_message(
            read_hexadecimal(words[5]),
            carrier=carrier_of(words[0]),
            originator=Originator(int(words[1])),
            tunnel_message_id=int(words[2]),
            compression=_CHOICES[words[3]],
            window_bits=int(words[4]),
        )
        return ["ok", *_payload_words(encoded.payloads or encoded.octet_payloads)]

    def _decode(self, words: Sequence[str]) -> list[str]:
        self._carrier = carrier_of(words[0])
        self._assembly = MessageAssembly(
            max_message_octets=int(words[1]), window_bits=int(words[2])
        )
        return ["ok"]

    def _fragment(self, words: Sequence[str]) -> list[str]:
        assembly = self._assembly or MessageAssembly()
        assembly.add(parse_octets(self._carrier, read_hexadecimal(words[0])))
        return ["message", hexadecimal(assembly.decode())] if assembly.complete else ["more"]

    def _begin_session(self, words: Sequence[str]) -> list[str]:
        self._session = ReferenceSession(words)
        return ["ok"]


def _payload_words(payloads: Iterable[str | bytes]) -> list[str]:
    return [
        hexadecimal(payload.encode("ascii") if isinstance(payload, str) else payload)
        for payload in payloads
    ]
