from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest

from lab.cli.app import run
from lab.tunnel_cost import cost_down, cost_up
from smtunnel import Compression, FragmentHeader, Originator

NOISE = random.Random(3).randbytes(1000)


class Shell:
    """Runs one command after another, as a shell's pipe would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]):
        self._monkeypatch = monkeypatch
        self._capture = capfdbinary

    def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(list(arguments))
        out, err = self._capture.readouterr()
        return code, out, err.decode()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Shell:
    return Shell(monkeypatch, capfdbinary)


@pytest.fixture
def noise_file(tmp_path: Path) -> str:
    path = tmp_path / "noise.bin"
    path.write_bytes(NOISE)
    return str(path)


@pytest.mark.parametrize(("carrier", "longest"), [("ecs46a", 110), ("ecs200", 1062)])
@pytest.mark.parametrize("compression", ["auto", "zlib", "dictionary", "none"])
def test_what_encode_prints_decode_reads_in_any_order(
    shell: Shell, noise_file: str, carrier: str, longest: int, compression: str
) -> None:
    code, out, err = shell(
        "encode", noise_file, "--carrier", carrier, "--compression", compression, "--id", "9"
    )
    assert (code, err) == (0, "")
    lines = out.decode().splitlines()
    assert max(map(len, lines)) == longest
    mixed = lines + lines[:2]
    random.Random(4).shuffle(mixed)
    code, out, err = shell("decode", stdin="\n\n".join(mixed).encode() + b"\r\n")
    assert (code, out, err) == (0, NOISE, "")


def test_encode_reads_standard_input(shell: Shell) -> None:
    assert shell("encode", "-", "--carrier", "ecs46a", "--id", "7", stdin=b"hello") == (
        0,
        b"GAAHaGVsbG8=\n",
        "",
    )
    _, out, _ = shell("encode", "-", "--carrier", "ecs200", stdin=b"hello")
    assert out == b"mAAAaGVsbG8=\n"


def test_encode_compact_sends_the_equal_message_in_fewer_fragments(shell: Shell) -> None:
    message = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<a:oadrPoll xmlns:a="http://openadr.org/oadr-2.0b/2012/07"\n'
        b'            xmlns:b="http://docs.oasis-open.org/ns/energyinterop/201110"\n'
        b'            b:schemaVersion="2.0b">\n    <b:venID>ven 17</b:venID>\n</a:oadrPoll>\n'
    )
    lines: dict[str, bytes] = {}
    for options in ("--compression zlib", "--compression dictionary", "--compact"):
        code, lines[options], _ = shell(
            "encode", "-", "--carrier", "ecs46a", *options.split(), stdin=message
        )
        assert code == 0
    counts = [out.count(b"\n") for out in lines.values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    assert shell("decode", stdin=lines["--compression dictionary"])[1] == message
    arrived = shell("decode", stdin=lines["--compact"])[1]
    assert arrived == (
        b'<oadr:oadrPoll xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07"'
        b' xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110"'
        b' ei:schemaVersion="2.0b"><ei:venID>ven 17</ei:venID></oadr:oadrPoll>'
    )


def test_the_dictionary_is_named(shell: Shell) -> None:
    text = b'<oadrPayload xmlns="http://openadr.org/oadr-2.0b/2012/07">'
    lines = shell("encode", "-", "--carrier", "ecs46a", stdin=text)[1]
    out = shell("inspect", lines.decode().splitlines()[0])[1].decode()
    assert "needs preset dictionary 1 (DICTID 1D9B0BCE)" in out
    report = json.loads(shell("cost", "-", "--json", stdin=text)[1])
    assert report["down"]["compression"] == "zlib, dictionary 1"


def test_decode_lists_what_is_missing(shell: Shell, noise_file: str) -> None:
    lines = shell("encode", noise_file, "--carrier", "ecs46a")[1].splitlines()
    kept = [line for index, line in enumerate(lines) if index not in (0, 3, 4, 5)]
    code, out, err = shell("decode", stdin=b"\n".join(kept))
    assert (code, out) == (1, b"")
    assert f"{len(kept)} of {len(lines)} fragments are here; missing: 0, 3-5" in err
    code, out, err = shell("decode", stdin=b"\n".join(lines[:-1]))
    assert (code, out) == (1, b"")
    assert f"missing: {len(lines) - 1} and perhaps more: the last fragment is not here" in err


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (b"", "no fragments"),
        (b"GAAHaGVsbG8=\nStorage heater", "line 2 is not a fragment: character 8 is ' '"),
        (b"GAAH\xff\xfe", "line 1 is not a fragment"),
        (b"GAAHaGVsbG8=\nGAAHaGVsbG9=", "line 2 does not fit the lines before it"),
        (b"GAAHaGVsbG9=", "do not make a message"),
        (b"OAAAAAAA", "do not make a message"),
        (b"GAAHaGVsbG8=\nGAAIaGVsbG8=", "2 messages (dsrsp 7, dsrsp 8)"),
        (b"WAAAAAAA", "reserved for a later version"),
        (b"eAAAAAAA", "control record"),
        (b"GAAH" + b"A" * 1059, "more than the 1062"),
    ],
)
def test_decode_says_what_is_wrong(shell: Shell, lines: bytes, what: str) -> None:
    code, out, err = shell("decode", stdin=lines)
    assert (code, out) == (3, b"")
    assert what in err


def test_decode_chooses_one_of_several_messages(shell: Shell) -> None:
    lines = b"GAAHaGVsbG8=\nGAAIYWJj\nmAAIZGVm\n"
    assert shell("decode", "--id", "7", stdin=lines)[:2] == (0, b"hello")
    assert shell("decode", "--id", "8", "--originator", "cem", stdin=lines)[:2] == (0, b"def")
    assert shell("decode", "--id", "8", "--carrier", "ecs46a", stdin=lines)[0] == 3


@pytest.mark.parametrize("command", ["encode", "decode", "cost"])
def test_a_file_that_is_not_there(shell: Shell, command: str) -> None:
    extra = ["--carrier", "ecs46a"] if command == "encode" else []
    code, _, err = shell(command, "/nowhere/event.xml", *extra)
    assert code == 3
    assert "cannot read /nowhere/event.xml: No such file" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "-"],
        ["encode", "-", "--carrier", "pigeon"],
        ["encode", "-", "--carrier", "ecs46a", "--id", "256"],
        ["cost"],
    ],
)
def test_wrong_usage_is_exit_code_2(shell: Shell, arguments: list[str]) -> None:
    assert shell(*arguments)[0] == 2


def test_inspect_explains_every_field(shell: Shell, noise_file: str) -> None:
    lines = shell("encode", noise_file, "--carrier", "ecs46a", "--id", "9")[1].splitlines()
    code, out, _ = shell("inspect", "-", stdin=lines[-1])
    text = out.decode()
    assert code == 0
    assert "\x1b" not in text
    assert "|23|22 21|20|19|18 17 16 15 14 13 12 11 10  9  8| 7  6  5  4  3  2  1  0|" in text
    for meaning in ("DSRSP", "zlib", "base64", f"the message has {len(lines)}", "9: groups"):
        assert meaning in text
    code, out, _ = shell("inspect", lines[0].decode(), "--json")
    report = json.loads(out)
    assert code == 0
    assert {
        "originator": "dsrsp",
        "compression": "zlib",
        "last": False,
        "index": 0,
        "tunnel_message_id": 9,
        "body_chars": 106,
        "carrier": "ecs46a",
    }.items() <= report.items()
    assert [len(label) for label in report["labels"]] == [22] * 5
    assert "zlib header 78 DA: window of 32768 octets" in report["body_notes"][1]


def test_inspect_decodes_a_message_of_one_fragment(shell: Shell) -> None:
    report = json.loads(shell("inspect", "GAAHaGVsbG8=", "--json")[1])
    assert (report["message_octets"], bytes.fromhex(report["message_hex"])) == (5, b"hello")
    assert "text 'hello'" in shell("inspect", "GAAHaGVsbG8=")[1].decode()
    assert "does not decode" in shell("inspect", "OAAHaGVsbG8=")[1].decode()


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        (Compression.RESERVED, "reserved for a later version: receivers refuse the message"),
        (Compression.CONTROL, "ignores control records"),
    ],
)
def test_inspect_names_what_this_version_does_not_do(
    shell: Shell, compression: Compression, words: str
) -> None:
    header = FragmentHeader(Originator.DSRSP, compression, True, True, 0, 0)
    code, out, _ = shell("inspect", header.encode() + "AAAA")
    assert code == 0
    assert words in out.decode()


@pytest.mark.parametrize("stdin", [b"", b"GAAHaGVsbG8=\nGAAHaGVsbG8=\n", b"Storage heater"])
def test_inspect_takes_one_fragment(shell: Shell, stdin: bytes) -> None:
    assert shell("inspect", "-", stdin=stdin)[0] == 3


def test_cost_counts_real_messages(shell: Shell, noise_file: str) -> None:
    code, out, _ = shell("cost", noise_file, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["message_octets"] == 1000
    down, up = report["down"], report["up"]
    full = down["fragments"] - 1
    assert down["commands"] == down["fragments"] == -(-(down["text_chars"]) // 110)
    assert down["duis_requests"] == 2 * down["commands"]
    # A full ECS46a has 305 octets, its response 123; the last is smaller.
    assert 305 * full < down["sm_wan_octets_down"] <= 305 * (full + 1)
    assert 123 * full < down["sm_wan_octets_up"] <= 123 * (full + 1)
    assert down["sm_wan_octets"] == down["sm_wan_octets_down"] + down["sm_wan_octets_up"]
    assert (up["fragments"], up["alerts"], up["duis_requests"]) == (2, 2, 0)
    assert up["sm_wan_octets_up"] > 1200
    text = shell("cost", noise_file)[1].decode()
    assert "DUIS requests" in text
    assert "\x1b" not in text


def test_cost_of_full_and_of_small_fragments() -> None:
    # 78 octets make one fragment of 4 + 104 characters: five labels, the last of 20.
    assert cost_down(NOISE[:78]).sm_wan_octets_down == 303
    assert cost_down(NOISE[:78]).sm_wan_octets_up == 123
    # 12 octets make 4 + 16 characters, one label; a label of 22 would make 167 octets.
    assert cost_down(NOISE[:12], "none").sm_wan_octets_down == 165
    assert cost_up(NOISE[:792], "none").sm_wan_octets_up == 1200 - 1062 + 4 + 1056


def test_a_message_that_is_too_large_is_bad_input(shell: Shell) -> None:
    code, _, err = shell("encode", "-", "--carrier", "ecs46a", stdin=bytes(65537))
    assert code == 3
    assert "65537 octets" in err


@pytest.mark.parametrize("command", ["encode", "decode", "inspect", "cost"])
def test_help_teaches_with_examples(shell: Shell, command: str) -> None:
    code, out, _ = shell(command, "--help")
    assert code == 0
    assert f"  smtunnel {command}" in out.decode() or f"| smtunnel {command}" in out.decode()
