"""From a fragment to a signed ECS200 alert."""

from __future__ import annotations

from cem.core.admission import Identities
from cem.errors import AlertError
from cem.ports import BuiltAlert
from gbcs.crypto import sign_alert
from gbcs.date_time import GbcsDateTime
from gbcs.entity_id import EntityId
from gbcs.errors import GbcsError
from gbcs.messages import Alert
from gbcs.ports import Signer
from smtunnel.send_events import Transmit


class AlertBuilder:
    """Builds the alerts of one device.

    Args:
        identities: who the alerts are from and for.
        signer: the device's digital-signature key.
    """

    __slots__ = ("_identities", "_signer")

    def __init__(self, identities: Identities, signer: Signer) -> None:
        self._identities = identities
        self._signer = signer

    def build(self, transmit: Transmit, now: float) -> BuiltAlert:
        """Build and sign the alert that carries a fragment.

        Args:
            transmit: the fragment, for whom, and under which Originator Counter.
            now: the date-time of the alert, seconds since 1970.

        Raises:
            AlertError: now is no date, or the payload does not fit.

        Source: GBCS use case ECS200; the load controller is the supplementary remote party.
        """
        # On this carrier payloads are text.
        payload = str(transmit.payload)
        try:
            alert = Alert(
                originator_id=self._identities.device_id,
                target_id=EntityId(transmit.peer),
                originator_counter=transmit.originator_counter,
                text=payload,
                date_time=GbcsDateTime.from_timestamp(now),
                supplementary_remote_party_id=self._identities.load_controller_id,
            )
            octets = sign_alert(alert, self._signer).to_bytes()
        except GbcsError as error:
            raise AlertError(
                f"alert {transmit.originator_counter} cannot be built: {error}"
            ) from None
        return BuiltAlert(
            transmit.originator_counter,
            transmit.ref,
            transmit.index,
            transmit.attempt,
            transmit.peer,
            payload,
            octets,
        )
