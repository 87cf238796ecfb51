"""The SMKI repository: gives out the certificates that the simulator has."""

from __future__ import annotations

from dcc_sim.core.keys import Keys
from dcc_sim.core.state import State, certificate_name, utc
from gbcs.certificates import Certificate, CertificateKind
from gbcs.entity_id import EntityId
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
        self._by_entity: dict[EntityId, list[Certificate]] = {}
        self._by_serial: dict[int, Certificate] = {}
        for certificate in keys.keystore.certificates():
            self._by_serial.setdefault(certificate.serial, certificate)
            if certificate.kind in _FOUND_BY_SEARCH and certificate.entity_id is not None:
                self._by_entity.setdefault(certificate.entity_id, []).append(certificate)

    def search_untrusted(self, octets: bytes, now: float) -> bytes:
        """Answer a CertificateSearchRequest.

        Raises:
            gbcs.errors.SmkiRepositoryFormatError: it is none.
        """
        asked = parse_untrusted_search_request(octets)
        found = self._by_entity.get(asked.entity_id, [])
        return build_search_response((one, self.status(one, now)) for one in found)

    def retrieve_untrusted(self, octets: bytes) -> bytes:
        """Answer a CertificateDataRequest.

        Raises:
            gbcs.errors.SmkiRepositoryFormatError: it is none.
        """
        return build_data_response(self._by_serial.get(parse_untrusted_data_request(octets).serial))

    def status(self, certificate: Certificate, now: float) -> CertificateStatus:
        """Say where a certificate is in its life."""
        if certificate_name(certificate) in self._state.revoked:
            return CertificateStatus.REVOKED
        if not certificate.not_before <= utc(now) <= certificate.not_after:
            return CertificateStatus.EXPIRED
        return CertificateStatus.IN_USE
