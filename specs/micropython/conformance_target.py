"""The program that `smtunnel conformance` asks, over smtunnel_decode.py.

    micropython -X heapsize=64k -m conformance_target WINDOW_BITS DICTIONARY...

WINDOW_BITS is the largest window that the heap has room for, 9 to 15; each DICTIONARY is the file
of a preset dictionary. Each message is written into a file, as a device does into its flash, and
read from there for the answer: so the heap holds the decoder alone.

README.md tells how to compile it first, specs/vectors/README.md what the lines are.
"""

import gc
import os
import sys
from binascii import hexlify, unhexlify

from smtunnel_decode import (
    MessageDecoder,
    TunnelError,
    UnknownDictionary,
    adler32,
    join_labels,
    parse_header_text,
    parse_payload,
)

KINDS = ("header-unpack", "payload-parse", "labels-join", "decode")


def octets_of(word: str) -> bytes:
    """Read octets as the lines have them: hexadecimal, a minus sign for none."""
    return b"" if word == "-" else unhexlify(word)


def word_of(octets: bytes) -> str:
    """Write octets as one word."""
    return hexlify(octets).decode() or "-"


def carrier_of(word: str) -> tuple:
    """Read a carrier: "t" or "o", and its capacity."""
    return int(word[1:]), word[0] == "t"


def words_of(header) -> str:
    """Write the fields of a header."""
    return " ".join([str(field) for field in header])


class FileDictionary:
    """A preset dictionary that stays in its file, as one that is frozen stays in flash."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")
        self._size = self._file.seek(0, 2)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> int:
        self._file.seek(place, 2 if place < 0 else 0)
        return self._file.read(1)[0]

    def dictionary_id(self) -> int:
        """Compute the DICTID."""
        value = 1
        self._file.seek(0)
        while piece := self._file.read(512):
            value = adler32(piece, value)
        return value


class PageFile:
    """Keeps the pages of a message in a file that nobody else sees."""

    def __init__(self) -> None:
        folder = os.getenv("TMPDIR") or "/tmp"
        name = f"{folder}/smtunnel-{word_of(os.urandom(8))}"
        self._file = open(name, "w+b")
        os.remove(name)

    def clear(self) -> None:
        """Forget all pages."""
        self._file.seek(0)
        self._size = 0

    def append(self, page: bytes) -> None:
        """Add a page."""
        self._size += self._file.write(page)

    def __iter__(self):
        self._file.seek(0)
        for start in range(0, self._size, 512):
            yield self._file.read(min(512, self._size - start))


class Target:
    """Answers requests, one after another; remembers the message that is being decoded."""

    def __init__(self, window_bits: int, dictionaries: dict) -> None:
        self._window_bits = window_bits
        self._dictionaries = dictionaries
        self._pages = PageFile()
        self._carrier = None
        self._decoder = None

    def answer(self, number: str, kind: str, *words: str) -> None:
        """Write the answer to one request; a message is never one string."""
        pages = ()
        try:
            text = self._text(kind, words)
            if text == "message":
                pages = self._pages
        except UnknownDictionary as error:
            text = f"error UnknownDictionary {error.dictionary_id:08x}"
        except TunnelError as error:
            text = "error " + type(error).__name__
        write = sys.stdout.write
        write(number + " " + text)
        separator = " "
        for page in pages:
            write(separator + hexlify(page).decode())
            separator = ""
        # An empty message has no page.
        write(" -\n" if text == "message" and separator else "\n")

    def _text(self, kind: str, words: tuple) -> str:
        if kind == "fragment":
            whole = self._decoder.add(*parse_payload(octets_of(words[0]), self._carrier))
            return "message" if whole else "more"
        if kind == "decode":
            self._carrier = carrier_of(words[0])
            # Before the next decoder is made.
            self._decoder = None
            self._pages.clear()
            gc.collect()
            window_bits = min(int(words[2]), self._window_bits)
            self._decoder = MessageDecoder(
                self._pages.append, int(words[1]), window_bits, self._dictionaries
            )
            return "ok"
        if kind == "header-unpack":
            return "ok " + words_of(parse_header_text(octets_of(words[0])))
        if kind == "payload-parse":
            header, body = parse_payload(octets_of(words[1]), carrier_of(words[0]))
            return f"ok {words_of(header)} {word_of(body)}"
        if kind == "labels-join":
            pairs = [word.split(":") for word in words]
            payload = join_labels([(int(number), octets_of(text)) for number, text in pairs])
            return "none" if payload is None else "ok " + word_of(payload)
        known = ",".join([f"{key:08x}" for key in self._dictionaries])
        kinds = ",".join(KINDS)
        return (
            f"ok 1 smtunnel-micropython kinds={kinds} window={self._window_bits} "
            f"dictionaries={known}"
        )


def main() -> None:
    """Answer until there are no more requests."""
    files = [FileDictionary(path) for path in sys.argv[2:]]
    target = Target(int(sys.argv[1]), {file.dictionary_id(): file for file in files})
    while line := sys.stdin.readline():
        target.answer(*line.rstrip("\n").split(" "))
        # A device has the time too: fragments are seconds apart.
        gc.collect()


main()
