"""Measures the heap that the MicroPython decoder needs: writes the table of its README.

    python scripts/measure_micropython_heap.py

Each figure is the smallest heap, in whole KiB, in which a real MicroPython decodes the message.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from smtunnel import ECS46A, Compression, FragmentHeader, Originator
from smtunnel.dictionary_1 import DICTIONARY_1
from smtunnel.fragments import cut_stream

SPECS = Path(__file__).resolve().parent.parent / "specs"
PROGRAMS = Path(sys.executable).parent
SMALLEST_KIB, LARGEST_KIB = 8, 256
SHORT_OCTETS = 2048

# Runs on MicroPython: payloads from a file, one a line, as a device takes them from its commands.
# What is before the decoder is what any program on the device has.
PROGRAM = """
import gc, io, smtunnel_decode as tunnel
pages = []
file = open({output!r}, "wb")
dictionaries = {dictionaries}
decoder = tunnel.MessageDecoder({write}, dictionaries=dictionaries)
for line in open({payloads!r}, "rb"):
    whole = decoder.add(*tunnel.parse_payload(line[:-1]))
    gc.collect()
file.close()
print(whole)
"""
DICTIONARY_IN_HEAP = '{{{id}: open({path!r}, "rb").read()}}'


def payloads_of(message: bytes, window_bits: int, dictionary: bytes | None) -> tuple[str, ...]:
    """Compress and cut a message for ECS46a."""
    if dictionary is None:
        compressor = zlib.compressobj(9, zlib.DEFLATED, window_bits)
    else:
        compressor = zlib.compressobj(9, zlib.DEFLATED, window_bits, zdict=dictionary)
    stream = compressor.compress(message) + compressor.flush()
    header = FragmentHeader(Originator.DSRSP, Compression.ZLIB, True, False, 0, 0)
    return cut_stream(stream, carrier=ECS46A, header=header, message_octets=len(message)).payloads


def smallest(works: Callable[[int], bool]) -> int:
    """Search for the smallest number of KiB that works."""
    low, high = SMALLEST_KIB, LARGEST_KIB
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle + 1, high)
    return low


class Bench:
    """A folder with the compiled decoder."""

    def __init__(self, folder: Path) -> None:
        """Compile."""
        self._folder = folder
        source = SPECS / "micropython" / "smtunnel_decode.py"
        compiled = folder / "smtunnel_decode.mpy"
        subprocess.run([PROGRAMS / "mpy-cross", "-o", compiled, source], check=True)

    def _runs(self, program: str, kib: int, expected: str) -> bool:
        done = subprocess.run(
            [PROGRAMS / "micropython", "-X", f"heapsize={kib}k", "-c", program],
            env={"MICROPYPATH": str(self._folder)},
            capture_output=True,
            check=False,
            text=True,
        )
        return done.stdout.strip() == expected

    def code_kib(self) -> int:
        """Measure what the code alone needs."""
        return smallest(lambda kib: self._runs("import smtunnel_decode\nprint(1)", kib, "1"))

    def message_kib(
        self,
        message: bytes,
        window_bits: int,
        *,
        in_memory: bool = False,
        dictionary: bytes | None = None,
        reverse: bool = False,
    ) -> int:
        """Measure what code, decoder and message need together."""
        payloads = payloads_of(message, window_bits, dictionary)
        lines = "".join(f"{payload}\n" for payload in (payloads[::-1] if reverse else payloads))
        (self._folder / "payloads").write_text(lines)
        dictionaries = "None"
        if dictionary is not None:
            path = self._folder / "dictionary"
            path.write_bytes(dictionary)
            dictionaries = DICTIONARY_IN_HEAP.format(id=zlib.adler32(dictionary), path=str(path))
        output = self._folder / "message"
        program = PROGRAM.format(
            output=str(output),
            payloads=str(self._folder / "payloads"),
            dictionaries=dictionaries,
            write="pages.append" if in_memory else "file.write",
        )
        kib = smallest(lambda kib: self._runs(program, kib, "True"))
        if not self._runs(program, kib, "True") or output.read_bytes() not in (message, b""):
            raise SystemExit(f"a message of {len(message)} octets is not decoded at all")
        return kib


def text_of(octets: int) -> bytes:
    """Make text that compresses as XML does, the same each time."""
    rng = random.Random(1)  # noqa: S311
    pieces = [DICTIONARY_1[i : i + 40] for i in range(0, len(DICTIONARY_1), 40)]
    text = b""
    while len(text) < octets:
        text += rng.choice(pieces) + b"%06d" % rng.randrange(10**6)
    return text[:octets]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        print(f"The code alone, loaded from its .mpy: {bench.code_kib()} KiB.\n")
        print("| window bits | 2 KiB, to a file | 2 KiB, kept | more than the window, to a file |")
        print("|---|---|---|---|")
        for bits in range(9, 16):
            short, full = text_of(SHORT_OCTETS), text_of((1 << bits) + 2 * SHORT_OCTETS)
            figures = (
                bench.message_kib(short, bits),
                bench.message_kib(short, bits, in_memory=True),
                bench.message_kib(full, bits),
            )
            print(f"| {bits} | {' | '.join(map(str, figures))} |")
        short = text_of(SHORT_OCTETS)
        print(f"\nAll fragments in reverse order: {bench.message_kib(short, 15, reverse=True)}.")
        held = bench.message_kib(short, 15, dictionary=DICTIONARY_1)
        print(f"The dictionary of {len(DICTIONARY_1)} octets in the heap: {held}.")


if __name__ == "__main__":
    main()
