"""The receiving side of the tunnel protocol for small devices: fragments in, checked message out.

One file for MicroPython 1.21 or newer, which also runs on Python; nothing else is needed. Copy it,
freeze it, or compile it with mpy-cross. specs/tunnel-protocol.md specifies what it does, README.md
beside this file says what memory it takes.

It has an inflater of its own, since MicroPython's deflate cannot do what the protocol asks for: it
refuses preset dictionaries, takes its whole window at once however short the message is, cannot
wait in the middle for the next fragment, and answers a reference to before the start of the
message with what happens to lie in memory.

Names of errors are those of the specification.
"""

from array import array
from binascii import a2b_base64, b2a_base64, crc32
from collections import namedtuple

ECS46A = (110, True)
"""A carrier: its capacity, and whether it is printable. This one is down, DSRSP to CEM."""
ECS200 = (1062, True)
"""Up, CEM to DSRSP."""

NONE, ZLIB, RESERVED, CONTROL = range(4)
"""What a header can say of compression."""

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_HEADER_CHARS = 4
_HEADER_OCTETS = 3


class TunnelError(Exception):
    """Root of all errors here: what came from outside is wrong."""


class NotAFragment(TunnelError):
    """The payload cannot be a fragment."""


class UnsupportedCompression(TunnelError):
    """The header names a compression that does not exist, or the other kind of message."""


class UnknownDictionary(TunnelError):
    """The stream needs a preset dictionary that is not here."""

    def __init__(self, dictionary_id: int) -> None:
        super().__init__(f"the preset dictionary {dictionary_id:08x} is not known here")
        self.dictionary_id = dictionary_id


class WindowTooLarge(TunnelError):
    """The stream needs a larger window than there is memory for."""

    def __init__(self, asked: int, window_bits: int) -> None:
        super().__init__(f"a window of {asked} bits is asked, at most are {window_bits}")
        self.window_bits = window_bits


class Base64Error(TunnelError):
    """The joined text is not canonical base64."""


class ZlibError(TunnelError):
    """The octets are not exactly one whole zlib stream."""


class FragmentConflict(TunnelError):
    """Fragments of one message contradict each other."""


class LimitExceeded(TunnelError):
    """The message is larger than allowed."""


Header = namedtuple("Header", "originator compression encoding last index tunnel_message_id")
"""The fields of a header, each a number."""


def parse_header(octets: bytes) -> Header:
    """Split the three octets of a header: every value has a meaning."""
    control = octets[0] >> 3
    index = (octets[0] & 7) << 8 | octets[1]
    return Header(control >> 4, control >> 2 & 3, control >> 1 & 1, control & 1, index, octets[2])


def parse_header_text(text: bytes) -> Header:
    """Read a header as it stands on a printable carrier: four base64 characters, no padding."""
    if len(text) != _HEADER_CHARS or b"=" in text:
        raise NotAFragment("a header has four base64 characters")
    _check_alphabet(text)
    return parse_header(a2b_base64(text))


def _check_alphabet(text: bytes) -> None:
    # a2b_base64 passes over what it does not know.
    for character in text:
        if character not in _ALPHABET:
            raise NotAFragment(f"character {character} is not of the base64 alphabet")


def parse_payload(payload: bytes, carrier: tuple = ECS46A) -> tuple:
    """Read one payload as far as it can be judged alone.

    Args:
        payload: what one carrier message carried.
        carrier: ECS46A, ECS200, or another capacity and whether it is printable.

    Returns:
        The header and the body.

    Raises:
        NotAFragment: it is none; perhaps it is somebody's real label.
    """
    capacity, printable = carrier
    if len(payload) > capacity:
        raise NotAFragment("longer than the carrier")
    if printable:
        header = parse_header_text(payload[:_HEADER_CHARS])
        body = payload[_HEADER_CHARS:]
        _check_alphabet(body)
    elif len(payload) < _HEADER_OCTETS:
        raise NotAFragment("too short for a header")
    else:
        header = parse_header(payload)
        body = payload[_HEADER_OCTETS:]
    if header.encoding != printable:
        raise NotAFragment("the encoding is not that of the carrier")
    if header.compression == NONE:
        if header.index or not header.last:
            raise NotAFragment("an uncompressed message has one fragment")
    elif not body:
        raise NotAFragment("the body is empty")
    return header, body


def join_labels(labels: list) -> bytes | None:
    """Join the labels of an ECS46a command to the payload they carry.

    Args:
        labels: pairs of number and text, as the command has them.

    Returns:
        The payload, or None: these are somebody's own labels.
    """
    if not 1 <= len(labels) <= 5:
        return None
    payload = b""
    for place, (number, text) in enumerate(labels):
        full = len(text) == 22 or (place == len(labels) - 1 and 1 <= len(text) < 22)
        if number != place + 1 or not full:
            return None
        payload += text
    for character in payload:
        if not 32 <= character <= 126:
            return None
    return payload


def adler32(octets: bytes, value: int = 1) -> int:
    """Compute the Adler-32 of RFC 1950; of a preset dictionary it is the DICTID.

    Args:
        octets: what is added.
        value: the Adler-32 of what was before.
    """
    low, high = value & 0xFFFF, value >> 16
    view = memoryview(octets)
    # So few at once that no sum outgrows the small integers of a 32-bit machine.
    for start in range(0, len(octets), 512):
        for octet in view[start : start + 512]:
            low += octet
            high += low
        low %= 65521
        high %= 65521
    return high << 16 | low


# The octets that a step can need at most, so that it never has to wait in the middle. In bits, the
# head of a block with both its codes has up to 3 + 14 + 19 * 3 + 316 * 7, that of a stored block
# 3 + 7 + 32, a length with its distance 15 + 5 + 15 + 13.
_HEAD_OCTETS = 6
_BLOCK_OCTETS = 286
_COPY_OCTETS = 6
_TRAILER_OCTETS = 4

_PAGE_BITS = 9
_PAGE = 1 << _PAGE_BITS

_CODE_LENGTHS = b"\x10\x11\x12\x00\x08\x07\x09\x06\x0a\x05\x0b\x04\x0c\x03\x0d\x02\x0e\x01\x0f"
"""The order in which a block's head gives the lengths of the code that codes the codes."""


class Inflater:
    """Inflates one zlib stream as it comes. After an error it must not be used again.

    The message leaves in pages of 512 octets. Those that are within the window stay here too, the
    same objects, so a page that is kept outside takes no memory twice. A window takes only what
    the message fills of it.
    """

    def __init__(self, write, max_octets: int, window_bits: int, dictionaries: dict) -> None:
        """Begin with nothing.

        Args:
            write: is called with each page, which nobody may change; the last one may be shorter.
            max_octets: the largest message.
            window_bits: base-two logarithm of the largest window, 9 to 15.
            dictionaries: DICTID to a preset dictionary; indexed only, so it can stay in flash.
        """
        self.octets = 0
        """How much of the message is inflated."""
        self._write = write
        self._max_octets = max_octets
        self._window_bits = window_bits
        self._dictionaries = dictionaries
        self._dictionary = b""
        self._window = 0
        self._pages = []
        self._page = None
        self._adler = 1
        self._input = b""
        self._at = 0
        # Bits that are read but not used, the next one lowest; always fewer than eight.
        self._bits_held = self._bit_count = 0
        self._last_block = False
        self._stored = 0
        self._literals = self._distances = None
        self._step = self._head
        self._needs = _HEAD_OCTETS

    def feed(self, octets: bytes, final: bool = False) -> None:
        """Inflate the next octets of the stream.

        Args:
            octets: of any number.
            final: True when the stream has no more.

        Raises:
            ZlibError, UnknownDictionary, WindowTooLarge, LimitExceeded.
        """
        self._input = self._input[self._at :] + octets
        self._at = 0
        while self._step and (final or len(self._input) - self._at >= self._needs):
            self._step()
        if self._step is None and self._at < len(self._input):
            raise ZlibError("something follows the end of the stream")

    def _go(self, step, needs: int) -> None:
        self._step = step
        self._needs = needs

    def _octet(self) -> int:
        at = self._at
        if at >= len(self._input):
            raise ZlibError("the stream is cut short")
        self._at = at + 1
        return self._input[at]

    def _number(self) -> int:
        # Four octets, highest first.
        value = 0
        for _ in range(4):
            value = value << 8 | self._octet()
        return value

    def _bits(self, count: int) -> int:
        value = self._bits_held
        held = self._bit_count
        while held < count:
            value |= self._octet() << held
            held += 8
        self._bits_held = value >> count
        self._bit_count = held - count
        return value & (1 << count) - 1

    def _head(self) -> None:
        cmf, flg = self._octet(), self._octet()
        bits = (cmf >> 4) + 8
        if cmf & 15 != 8 or bits > 15 or (cmf << 8 | flg) % 31:
            raise ZlibError("no zlib stream")
        if bits > self._window_bits:
            raise WindowTooLarge(bits, self._window_bits)
        if flg & 32:
            dictionary_id = self._number()
            if dictionary_id not in self._dictionaries:
                raise UnknownDictionary(dictionary_id)
            self._dictionary = self._dictionaries[dictionary_id]
        self._window = 1 << bits
        # A ring: as many pages as a window can touch, the one that is being filled included. Not
        # more than the message can fill; "one more" would be an error before it is written.
        pages = min(self._window, self._max_octets + _PAGE - 1) >> _PAGE_BITS
        self._pages = [None] * (pages + 1)
        self._go(self._block, _BLOCK_OCTETS)

    def _block(self) -> None:
        self._last_block = self._bits(1)
        kind = self._bits(2)
        if kind == 0:
            self._bits_held = self._bit_count = 0
            self._stored = self._octet() | self._octet() << 8
            if self._stored ^ 0xFFFF != self._octet() | self._octet() << 8:
                raise ZlibError("the length of a stored block is wrong")
            self._go(self._copy_stored, 1)
            return
        if kind == 1:
            lengths = b"\x08" * 144 + b"\x09" * 112 + b"\x07" * 24 + b"\x08" * 8
            self._literals = _code(lengths)
            self._distances = _code(b"\x05" * 32)
        elif kind == 2:
            self._read_codes()
        else:
            raise ZlibError("a block is of the reserved kind")
        self._go(self._inflate, _COPY_OCTETS)

    def _read_codes(self) -> None:
        literals = self._bits(5) + 257
        distances = self._bits(5) + 1
        count = self._bits(4) + 4
        if literals > 286 or distances > 30:
            raise ZlibError("a block has too many codes")
        lengths = bytearray(19)
        for symbol in _CODE_LENGTHS[:count]:
            lengths[symbol] = self._bits(3)
        code = _code(lengths)
        lengths = bytearray(literals + distances)
        place = 0
        while place < len(lengths):
            symbol = self._symbol(code)
            repeat = 1
            if symbol == 16:
                if not place:
                    raise ZlibError("a code begins with a repetition")
                symbol = lengths[place - 1]
                repeat = self._bits(2) + 3
            elif symbol > 16:
                repeat = self._bits(3) + 3 if symbol == 17 else self._bits(7) + 11
                symbol = 0
            if place + repeat > len(lengths):
                raise ZlibError("a block has too many codes")
            for _ in range(repeat):
                lengths[place] = symbol
                place += 1
        if not lengths[256]:
            raise ZlibError("a block has no code for its end")
        self._literals = _code(lengths[:literals], True)
        self._distances = _code(lengths[literals:], True)

    def _symbol(self, code: tuple) -> int:
        # Canonical codes of one length are numbers in a row: "first" is the lowest of this length.
        counts, symbols = code
        value = first = index = 0
        bits = self._bits_held
        held = self._bit_count
        for length in range(1, 16):
            if not held:
                bits = self._octet()
                held = 8
            value |= bits & 1
            bits >>= 1
            held -= 1
            count = counts[length]
            if value - first < count:
                self._bits_held = bits
                self._bit_count = held
                return symbols[index + value - first]
            index += count
            first = first + count << 1
            value <<= 1
        raise ZlibError("no such code")

    def _inflate(self) -> None:
        symbol = self._symbol(self._literals)
        if symbol < 256:
            self._put(symbol)
        elif symbol == 256:
            self._end_block()
        else:
            self._copy(symbol - 257)

    def _copy(self, symbol: int) -> None:
        # RFC 1951 section 3.2.5: four symbols for each number of extra bits, two for distances.
        if symbol < 8:
            length = symbol + 3
        elif symbol < 28:
            extra = (symbol >> 2) - 1
            length = ((symbol & 3 | 4) << extra) + 3 + self._bits(extra)
        elif symbol == 28:
            length = 258
        else:
            raise ZlibError("no such length")
        symbol = self._symbol(self._distances)
        if symbol < 4:
            distance = symbol + 1
        elif symbol < 30:
            extra = (symbol >> 1) - 1
            distance = ((symbol & 1 | 2) << extra) + 1 + self._bits(extra)
        else:
            raise ZlibError("no such distance")
        source = self.octets - distance
        if distance > self._window or source + len(self._dictionary) < 0:
            raise ZlibError("a reference to before the window or the start")
        pages = self._pages
        for at in range(source, source + length):
            # What is before the message is the dictionary's end, as a negative index says it.
            if at < 0:
                self._put(self._dictionary[at])
            else:
                self._put(pages[(at >> _PAGE_BITS) % len(pages)][at & _PAGE - 1])

    def _copy_stored(self) -> None:
        if self._stored:
            for _ in range(min(self._stored, max(1, len(self._input) - self._at))):
                self._put(self._octet())
                self._stored -= 1
        else:
            self._end_block()

    def _end_block(self) -> None:
        if not self._last_block:
            self._go(self._block, _BLOCK_OCTETS)
            return
        self._literals = self._distances = None
        self._go(self._trailer, _TRAILER_OCTETS)

    def _put(self, octet: int) -> None:
        octets = self.octets
        place = octets & _PAGE - 1
        if octets == self._max_octets:
            raise LimitExceeded(f"the message is longer than {octets} octets")
        if not place:
            # A new one each time: the one before may be in somebody's hands.
            self._page = bytearray(_PAGE)
            self._pages[(octets >> _PAGE_BITS) % len(self._pages)] = self._page
        self._page[place] = octet
        self.octets = octets + 1
        if place == _PAGE - 1:
            self._give(self._page)

    def _give(self, page) -> None:
        self._adler = adler32(page, self._adler)
        self._write(page)

    def _trailer(self) -> None:
        self._bits_held = self._bit_count = 0
        rest = self.octets & _PAGE - 1
        if rest:
            self._give(memoryview(self._page)[:rest])
        if self._number() != self._adler:
            raise ZlibError("the Adler-32 is wrong")
        self._pages = []
        self._go(None, 0)


def _code(lengths: bytes, may_be_single: bool = False) -> tuple:
    """Make a canonical Huffman code of the lengths of its symbols' codes.

    Args:
        lengths: bits of each symbol's code, 0 for none.
        may_be_single: a code of one symbol with one bit, or of none at all, is allowed.

    Returns:
        How many codes there are of each length, and the symbols in the order of their codes.

    Raises:
        ZlibError: no code has such lengths, or codes are left over.
    """
    counts = array("H", bytes(32))
    for length in lengths:
        counts[length] += 1
    none, counts[0] = counts[0], 0
    left = 1
    starts = array("H", bytes(32))
    for length in range(1, 16):
        left = (left << 1) - counts[length]
        if left < 0:
            raise ZlibError("a code has too many symbols")
        starts[length] = starts[length - 1] + counts[length - 1]
    used = len(lengths) - none
    if left and not (may_be_single and used == counts[1]):
        raise ZlibError("a code has too few symbols")
    symbols = array("H", bytes(2 * used))
    for symbol, length in enumerate(lengths):
        if length:
            symbols[starts[length]] = symbol
            starts[length] += 1
    return counts, symbols


class MessageDecoder:
    """Takes the fragments of one message, in any order, each any number of times.

    It knows nothing of peers, counters or time: its caller makes sure that only fragments of one
    message come here (section 6 of the specification). After an error it must not be used again.

    Bodies that stand in order are decoded and dropped at once; the others wait, as text. So no part
    of a message is ever held twice.
    """

    def __init__(
        self,
        write,
        max_octets: int = 65536,
        window_bits: int = 15,
        dictionaries: dict | None = None,
        max_waiting: int = 100000,
    ) -> None:
        """Begin with no fragment.

        Args:
            write: is called with each piece of the message in order; such as a list's append, or a
                file's write. Nothing of it counts before add() has said that the message is whole.
            max_octets: the largest message.
            window_bits: base-two logarithm of the largest zlib window, 9 to 15: what the
                capabilities of this end say.
            dictionaries: DICTID to a preset dictionary's octets.
            max_waiting: the most that bodies may take until it is their turn, in octets.
        """
        self._write = write
        self._max_octets = max_octets
        self._inflater = Inflater(write, max_octets, window_bits, dictionaries or {})
        self._max_waiting = max_waiting
        # Of each index: 0 while it is missing; below _next the CRC-32 of its body, which is gone;
        # else where it stands in _waiting: number of the page, from 1, and place in it. In pieces,
        # made when they are needed: what grows in one leaves holes in the heap.
        self._known = [None] * 32
        self._highest = -1
        self._next = 0
        # Pages of bodies that wait, two octets of length before each.
        self._waiting = []
        self._waiting_count = 0
        self._waiting_octets = 0
        self._page_room = 0
        self._body_octets = 0
        self._kind = None
        self._last = None
        # Characters that wait for the rest of their group of four.
        self._carry = b""
        self._padded = False

    def add(self, header: Header, body: bytes) -> bool:
        """Take one fragment, as parse_payload returns it.

        Returns:
            True when the message is whole, checked, and all of it has been written.

        Raises:
            UnsupportedCompression, FragmentConflict, Base64Error, ZlibError, UnknownDictionary,
            WindowTooLarge, LimitExceeded: the message is to be rejected.
        """
        if header.compression in (RESERVED, CONTROL):
            raise UnsupportedCompression(f"compression {header.compression} is no data message")
        if self._kind is None:
            self._kind = header[:3]
        elif self._kind != header[:3]:
            raise FragmentConflict("originator, compression or encoding differ")
        index = header.index
        known = self._get(index)
        if known:
            self._compare(index, known, body, header.last)
        else:
            self._check_last(index, header.last)
            self._body_octets += len(body)
            if self._body_octets > _body_bound(self._max_octets):
                raise LimitExceeded("longer than any stream of a message within the limit")
            self._keep(index, body)
        return self._next - 1 == self._last

    def _get(self, index: int) -> int:
        piece = self._known[index >> 6]
        return piece[index & 63] if piece else 0

    def _set(self, index: int, value: int) -> None:
        if not self._known[index >> 6]:
            self._known[index >> 6] = array("I", bytes(4 * 64))
        self._known[index >> 6][index & 63] = value

    def _compare(self, index: int, known: int, body: bytes, last: int) -> None:
        same = known == _check(body) if index < self._next else self._body(known) == body
        if not same or bool(last) != (index == self._last):
            raise FragmentConflict(f"fragment {index} came twice with different content")

    def _check_last(self, index: int, last: int) -> None:
        if last:
            if self._last is not None or index < self._highest:
                raise FragmentConflict("two fragments are the last, or it is not")
            self._last = index
        elif self._last is not None and index > self._last:
            raise FragmentConflict("a fragment follows the last")
        self._highest = max(index, self._highest)

    def _body(self, known: int) -> bytes:
        page = self._waiting[(known >> 16) - 1]
        at = known & 0xFFFF
        return page[at + 2 : at + 2 + (page[at] << 8 | page[at + 1])]

    def _wait(self, index: int, body: bytes) -> None:
        size = len(body) + 2
        if size > self._page_room:
            self._page_room = max(size, _PAGE)
            self._waiting_octets += self._page_room
            if self._waiting_octets > self._max_waiting:
                raise LimitExceeded("too much waits for missing fragments")
            self._waiting.append(bytearray(self._page_room))
        page = self._waiting[-1]
        at = len(page) - self._page_room
        page[at] = len(body) >> 8
        page[at + 1] = len(body) & 255
        page[at + 2 : at + size] = body
        self._page_room -= size
        self._waiting_count += 1
        self._set(index, len(self._waiting) << 16 | at)

    def _keep(self, index: int, body: bytes) -> None:
        if index != self._next:
            self._wait(index, body)
            return
        self._decode(index, body)
        while self._waiting_count:
            known = self._get(self._next)
            if not known:
                return
            self._waiting_count -= 1
            self._decode(self._next, self._body(known))
        self._waiting = []
        self._waiting_octets = self._page_room = 0

    def _decode(self, index: int, body: bytes) -> None:
        self._set(index, _check(body))
        self._next = index + 1
        final = index == self._last
        compression, encoding = self._kind[1:]
        if encoding:
            body = self._decode_base64(body, final)
        if compression == ZLIB:
            self._inflater.feed(body, final)
        elif len(body) > self._max_octets:
            raise LimitExceeded(f"the message is longer than {self._max_octets} octets")
        else:
            self._write(body)

    def _decode_base64(self, body: bytes, final: bool) -> bytes:
        # The alphabet is checked already (parse_payload); here it is about groups and padding.
        if self._padded:
            raise Base64Error("characters follow the padding")
        text = self._carry + body
        whole = len(text) & ~3
        self._carry = text[whole:]
        text = text[:whole]
        if final and self._carry:
            raise Base64Error("the text ends within a group of four")
        padding = text.find(b"=")
        if padding < 0:
            return a2b_base64(text)
        self._padded = True
        try:
            tail = a2b_base64(text[-4:])
        except ValueError:
            tail = b""
        # Only what an encoder writes: the padding, and no bits behind the end.
        if padding < whole - 4 or b2a_base64(tail)[:-1] != text[-4:]:
            raise Base64Error("the text does not end as an encoder ends it")
        return a2b_base64(text[:-4]) + tail


def _check(body: bytes) -> int:
    # To know a body again, not to trust it; 0 stands for "missing".
    return crc32(body) or 1


def _body_bound(octets: int) -> int:
    """Return the most that all bodies of a message may hold (section 8 of the specification)."""
    stream = octets + (octets + 7 >> 3) + (octets + 63 >> 6) + 11
    return (stream + 2) // 3 * 4
