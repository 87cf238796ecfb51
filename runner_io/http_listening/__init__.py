"""HTTP servers that strangers may reach: how many connections, how long, how much, who.

aiohttp speaks HTTP; what it leaves open is settled here: a limit of connections that one who opens
thousands cannot use to shut out others, a time for each step, a few log lines for what is refused,
and no port that other machines reach without a way to tell who calls.
"""

from runner_io.http_listening.addresses import (
    ListeningError,
    StrangersCouldSpeak,
    listen_reason,
    server_tls,
    split_address,
)
from runner_io.http_listening.bodies import fingerprint, read_some
from runner_io.http_listening.logs import quiet_logger
from runner_io.http_listening.openadr import read_payload
from runner_io.http_listening.server import LimitedServer, Limits, write

__all__ = [
    "LimitedServer",
    "Limits",
    "ListeningError",
    "StrangersCouldSpeak",
    "fingerprint",
    "listen_reason",
    "quiet_logger",
    "read_payload",
    "read_some",
    "server_tls",
    "split_address",
    "write",
]
