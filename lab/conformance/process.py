"""The program under test: started, asked line by line, never trusted to answer."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO, Final

from lab.errors import VectorError

MAX_REQUEST_CHARS: Final = 16_384
"""The longest line that a program is sent, its line feed included."""

MAX_ANSWER_CHARS: Final = 1_048_576
"""The longest line that a program may answer."""

_MAX_SAID: Final = 2000
_READ_OCTETS: Final = 65_536
_CLOSE_S: Final = 1.0


class TargetFailed(Exception):
    """The program crashed, did not answer in time, or broke the rules of the conversation."""


class Target:
    """A program that is started when first asked, and again after it failed."""

    def __init__(self, command: Sequence[str], *, timeout_s: float) -> None:
        """Prepare, without starting anything.

        Args:
            command: the program and its arguments.
            timeout_s: how long it may take to answer one line, in seconds.
        """
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._received = b""
        self._number = 0
        self.starts = 0

    @classmethod
    def of_command_line(cls, text: str, *, timeout_s: float) -> Target:
        """Make a target from a command as typed; no shell is involved.

        Raises:
            ValueError: a quotation mark is not closed, or there is no program.
        """
        command = shlex.split(text)
        if not command:
            raise ValueError("there is no program")
        return cls(command, timeout_s=timeout_s)

    def ask(self, request: str) -> list[str]:
        """Send one request and wait for its answer.

        Returns:
            The answer's words behind the number.

        Raises:
            TargetFailed: there is none; the program has been ended.
            VectorError: the request is too long for a line.
        """
        try:
            return self._ask(request)
        except TargetFailed:
            # It had its time, or is beyond talking to.
            self.close(patience_s=0)
            raise

    def _ask(self, request: str) -> list[str]:
        process = self._process or self._start()
        self._number += 1
        line = f"{self._number} {request}\n".encode("ascii")
        if len(line) > MAX_REQUEST_CHARS:
            raise VectorError(
                f"a vector needs a line of {len(line)} characters, more than {MAX_REQUEST_CHARS}"
            )
        deadline = time.monotonic() + self._timeout_s
        self._send(process, line, deadline)
        answer = self._read_line(process, deadline)
        try:
            words = answer.decode("ascii").split(" ")
        except UnicodeDecodeError:
            raise TargetFailed(f"the answer is not ASCII: {answer[:80]!r}") from None
        if words[0] != str(self._number) or len(words) < 2:
            raise TargetFailed(
                f"the answer to line {self._number} must begin with {self._number} and a word, "
                f"but is {answer[:80].decode('ascii')!r}"
            )
        return words[1:]

    def _start(self) -> subprocess.Popen[bytes]:
        self._said = b""
        self._received = b""
        self._number = 0
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A session of its own, so that whatever it starts ends with it.
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise TargetFailed(f"cannot start {self._command[0]}: {error.strerror}") from None
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
        self._process = process
        self.starts += 1
        return process

    def _send(self, process: subprocess.Popen[bytes], line: bytes, deadline: float) -> None:
        stream = process.stdin
        while stream is not None and line:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [stream], [], left)[1]:
                raise TargetFailed(f"it did not read its input for {self._timeout_s:g} s")
            try:
                line = line[os.write(stream.fileno(), line) :]
            except BrokenPipeError:
                raise TargetFailed(self._how_it_ended(process)) from None

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        stdout, stderr = process.stdout, process.stderr
        parts = [self._received]
        size = len(self._received)
        while stdout is not None and b"\n" not in parts[-1]:
            left = deadline - time.monotonic()
            readable = select.select([stdout, *_open(stderr)], [], [], left)[0] if left > 0 else []
            if not readable:
                raise TargetFailed(f"no answer within {self._timeout_s:g} s{self._complaint()}")
            if stderr in readable:
                self._listen(stderr)
            if stdout not in readable:
                continue
            octets = os.read(stdout.fileno(), _READ_OCTETS)
            if not octets:
                raise TargetFailed(self._how_it_ended(process))
            parts.append(octets)
            size += len(octets)
            if size > MAX_ANSWER_CHARS:
                raise TargetFailed(f"an answer of more than {MAX_ANSWER_CHARS} characters")
        line, _, self._received = b"".join(parts).partition(b"\n")
        if self._received:
            raise TargetFailed("it answered more than one line to one line")
        return line.removesuffix(b"\r")

    def _listen(self, stderr: IO[bytes] | None) -> None:
        """Keep the beginning of what it says on standard error; that tells the cause."""
        if stderr is None or stderr.closed:
            return
        with contextlib.suppress(BlockingIOError):
            while octets := os.read(stderr.fileno(), _READ_OCTETS):
                self._said = (self._said + octets)[:_MAX_SAID]
            # Its end: not to be selected any more.
            stderr.close()

    def _complaint(self) -> str:
        said = self._said.decode("utf-8", "replace").strip()
        return f": {said}" if said else ""

    def _how_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        try:
            code = process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            return "it closed its standard input or output"
        self._listen(process.stderr)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"it ended with {how}{self._complaint()}"

    def close(self, *, patience_s: float = _CLOSE_S) -> None:
        """End the program; it is started again when it is asked again.

        Args:
            patience_s: how long it may take to end by itself, in seconds.
        """
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _open(stream: IO[bytes] | None) -> list[IO[bytes]]:
    return [] if stream is None or stream.closed else [stream]
