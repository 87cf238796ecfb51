"""What `smtunnel demo --messages --keep` leaves is enough to tell each message's journey."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def smtunnel(*arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", "lab", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_each_message_of_the_demo_is_explained(tmp_path: Path) -> None:
    run = tmp_path / "run"
    smtunnel("demo", "--messages", "--keep", str(run))
    known = json.loads(smtunnel("explain", "--folder", str(run), "--format", "json"))
    messages = [message for message in known if message["state"] != "control"]
    assert len(messages) == 7
    for message in messages:
        ref = f"{message['component']}:{message['ref']}"
        journey = json.loads(smtunnel("explain", "--folder", str(run), ref, "--format", "json"))
        assert journey["arrived_s"] > 0
        assert journey["device"] == "02-53-4D-54-00-00-00-01"
        crossed = [s for s in journey["steps"] if s["kind"] == "network"]
        down = journey["direction"] == "down"
        # Down a command and its response for each fragment, up an alert.
        assert len(crossed) == journey["fragments_total"] * (2 if down else 1)
        assert all(step["octets"] > 0 for step in crossed)
        posts = [step for step in journey["steps"] if step["kind"] == "post"]
        assert len(posts) == journey["fragments_total"] * (1 if down else 2)
        assert not any(step["failed"] for step in journey["steps"])
