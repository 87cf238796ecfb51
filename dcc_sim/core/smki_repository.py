"""The SMKI repository: gives out the certificates that the simulator has."""

from __future__ import annotations

from dcc_sim.core.effects import Severity
from dcc_sim.core.keys import Keys
from dcc_sim.core.state import State, certificate_name, utc
from gbcs.certificates import Certificate, CertificateKind
from gbcs.errors import CertificateError
from gbcs.smki_repository import (
    CertificateStatus,
    build_data_response,
    build_search_response,
    parse_untrusted_data_request,
    parse_untrusted_search_request,
)

_FOUND_BY_SEARCH = (CertificateKind.ORGANISATION, CertificateKind.DEVICE)


class SmkiRepository:
    """Answers the two requests.

    A search finds certificates of organisations and devices; by serial number every certificate
    can be had, also those of authorities and of XML signing.

    Args:
        state: knows what is revoked.
        keys: has the certificates.
    """

    def __init__(self, state: State, keys: Keys) -> None:
        self._state = state
        self._keystore = keys.keystore

    def search_untrusted(self, octets: bytes, now: float) -> bytes:
        """Answer a CertificateSearchRequest.

        Raises:
            gbcs.errors.SmkiRepositoryFormatError: it is none.
        """
        asked = parse_untrusted_search_request(octets)
        try:
            found = self._keystore.certificates_of(asked.entity_id)
        except CertificateError as error:
            self._state.note(Severity.ERROR, f"cannot give out certificates: {error}")
            found = []
        return build_search_response(
            (one, self.status(one, now)) for one in found if one.kind in _FOUND_BY_SEARCH
        )

    def retrieve_untrusted(self, octets: bytes) -> bytes:
        """Answer a CertificateDataRequest.

        Raises:
            gbcs.errors.SmkiRepositoryFormatError: it is none.
        """
        asked = parse_untrusted_data_request(octets)
        return build_data_response(self._keystore.by_serial(asked.serial))

    def status(self, certificate: Certificate, now: float) -> CertificateStatus:
        """Say where a certificate is in its life."""
        if certificate_name(certificate) in self._state.revoked:
            return CertificateStatus.REVOKED
        if not certificate.not_before <= utc(now) <= certificate.not_after:
            return CertificateStatus.EXPIRED
        return CertificateStatus.IN_USE
