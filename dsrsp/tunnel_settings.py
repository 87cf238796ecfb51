"""How the tunnel's end is set up by the gateway's settings."""

from __future__ import annotations

import math
from typing import Final

from dsrsp.config import DsrspConfig
from smtunnel import Limits
from smtunnel.policy import Confirmation, SendPolicy
from smtunnel.receipts import ReceiptSettings
from smtunnel.records import ReceiptPolicy

_CONTROL_ATTEMPTS: Final = 4
_POLICIES: Final = {
    "each": ReceiptPolicy.EACH,
    "batched": ReceiptPolicy.BATCHED,
    "off": ReceiptPolicy.OFF,
}


def send_policy(config: DsrspConfig) -> SendPolicy:
    """Return how messages are sent down."""
    return SendPolicy(
        confirmation=Confirmation.RESULTS,
        fragments_in_flight=config.fragments_in_flight,
        fragments_in_flight_total=config.fragments_in_flight_total,
        messages_in_flight=config.messages_in_flight,
        fragments_per_window=config.fragments_per_window,
        window_s=config.window_s,
        attempts_per_fragment=config.fragment_attempts,
        control_attempts=min(_CONTROL_ATTEMPTS, config.fragment_attempts),
        retry_first_s=config.fragment_retry_first_s,
        retry_max_s=config.fragment_retry_max_s,
        # Each request has deadlines of its own, and always tells its end.
        result_timeout_s=math.inf,
        reason_grace_s=config.reason_grace_s,
        message_lifetime_s=config.message_lifetime_s,
        use_route_2b=config.use_route_2b,
        fallback_after_s=config.fallback_after_s,
        receipt_timeout_2b_s=config.receipt_timeout_2b_s,
        attempts_2b=config.attempts_2b,
        messages_in_flight_2b=config.messages_in_flight_2b,
    )


def receive_limits(config: DsrspConfig) -> Limits:
    """Return the bounds on what is held of incomplete messages."""
    return Limits(
        message_octets=config.max_message_octets,
        replay_window=config.replay_window,
        message_lifetime_s=config.message_lifetime_s,
    )


def receipt_settings(config: DsrspConfig) -> ReceiptSettings:
    """Return when messages from CEMs are confirmed."""
    return ReceiptSettings(
        policy=_POLICIES[config.receipts],
        batch_s=config.receipt_batch_s,
        missing_after_s=config.missing_after_s,
        early_s=config.receipt_early_s,
    )
