"""Writes down every octet of a run, so that other tools can check each one.

From the journals of the three daemons: every GBCS message (``NNNN-….hex``), every DUIS message
(``NNNN-….xml``) and every carrier payload (``NNNN-….txt``), numbered in the order in which they
happened; ``index.json`` with what is known of each; the OpenADR messages as they were sent
(``openadr/N-NAME.xml``); and the run's certificates and keys.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.journal import read_journal
from lab.openadr_messages import StoryMessage

_SUFFIX = {"gbcs": ".hex", "duis": ".xml", "carrier": ".txt"}
_CARRIER = {"down": "ecs46a", "up": "ecs200"}


def merged_events(journals: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the events of several journals in order of time."""
    events = [event for path in journals for event in read_journal(path)]
    events.sort(key=lambda event: float(event["t"]))
    return events


def check_trace_folder(folder: Path) -> None:
    """Refuse a folder that a trace cannot have for itself.

    Raises:
        LabError: there is something in it already, or it cannot be read.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise LabError(
                f"{folder}: not empty, and a trace has a folder of its own: name another, "
                "or remove this one"
            )
    except OSError as error:
        raise LabError(f"{folder}: cannot be the trace's folder: {error.strerror}") from None


def write_trace(
    events: list[dict[str, Any]], messages: Sequence[StoryMessage], pki: Path, folder: Path
) -> int:
    """Write a trace; returns the number of messages written.

    Args:
        events: what the journals hold, in order.
        messages: the OpenADR messages, in order.
        pki: the folder that `smtunnel pki init` made; certificates and all keys are copied.
        folder: where to; must be empty or not exist.

    Raises:
        LabError: the folder is not empty or cannot be written.
    """
    check_trace_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = [
            _write_event(number, event, folder)
            for number, event in enumerate((e for e in events if e["event"] in _SUFFIX), start=1)
        ]
        (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        (folder / "openadr").mkdir()
        for number, message in enumerate(messages, start=1):
            (folder / "openadr" / f"{number}-{message.name}.xml").write_bytes(message.octets)
        _copy_keys(pki, folder / "keys")
    except OSError as error:
        raise LabError(f"{folder}: cannot write the trace: {error}") from None
    return len(index)


def _write_event(number: int, event: dict[str, Any], folder: Path) -> dict[str, Any]:
    kind = event["event"]
    if kind == "gbcs":
        name, content = str(event["hop"]), str(event["octets"]).upper().encode() + b"\n"
    elif kind == "duis":
        name = f"{event['direction']}-{event['kind']}"
        content = bytes.fromhex(event["xml"])
    else:
        carrier = _CARRIER[event["direction"]]
        name = f"{event['direction']}-{carrier}-fragment-{event['index']}"
        content = str(event["payload"]).encode() + b"\n"
    path = folder / (f"{number:04d}-{kind}-{_file_name(name)}" + _SUFFIX[kind])
    path.write_bytes(content)
    facts = {k: v for k, v in event.items() if k not in ("octets", "xml", "payload")}
    return {"file": path.name} | facts


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _copy_keys(pki: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for path in sorted(p for p in pki.rglob("*") if p.suffix in (".pem", ".key")):
        shutil.copy(path, folder / path.name)  # keeps 0600 where it was 0600
