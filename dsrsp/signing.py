"""The supplier's digital signature, wherever its key lives, and never a wrong one."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from dsrsp.errors import SigningFailed
from gbcs.crypto import verify_signature
from gbcs.errors import SignatureInvalid
from gbcs.messages import PreCommand, SignedPreCommand
from gbcs.ports import Signer
from gbcs.route_2b import Route2bMessage
from gbcs.route_2b_transcript import Transcript

Signable: TypeAlias = PreCommand | Route2bMessage | Transcript
"""All that the supplier's key signs: commands to meters, messages of route 2b, and in the
handshake of route 2b the DSRSP's proof of who it is."""


def signed_part(what: Signable) -> bytes:
    """Return the octets that the supplier's signature covers."""
    return what.server_octets() if isinstance(what, Transcript) else what.signed_part()


class SupplierSigner(Protocol):
    """Signs as the supplier; may take its time, and does not hold up others."""

    async def sign(self, what: Signable) -> bytes:
        """Return the signature of `signed_part`: raw r || s, 64 octets.

        Raises:
            dsrsp.errors.SignerUnavailable: not now; the same may be asked again.
            dsrsp.errors.SigningRefused: it will not sign this.
            dsrsp.errors.SigningFailed: what it gave is no signature.
        """
        ...


class LocalSigner:
    """Signs with a key that is held here, at once: whoever awaits it is not put off.

    Args:
        signer: has the key.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def sign(self, what: Signable) -> bytes:
        """Return the signature."""
        return self._signer.sign(signed_part(what))


class CheckedSigner:
    """Lets no signature through that the supplier's certificate does not prove.

    Args:
        signer: who signs.
        public_key: of the supplier's certificate: the one that the DCC and the CEMs have.
    """

    def __init__(self, signer: SupplierSigner, public_key: ec.EllipticCurvePublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    async def sign(self, what: Signable) -> bytes:
        """Return the signature; see SupplierSigner.

        Raises:
            SigningFailed: also when the signature does not hold.
        """
        signature = await self._signer.sign(what)
        try:
            verify_signature(self._public_key, signature, signed_part(what))
        except SignatureInvalid as error:
            raise SigningFailed(
                f"the signer's signature is not of our certificate's key: {error}: compare the "
                "key that it uses with the supplier's digital-signature certificate"
            ) from None
        return signature


async def signed(pre_command: PreCommand, signer: SupplierSigner) -> SignedPreCommand:
    """Sign a pre-command."""
    return SignedPreCommand(pre_command, await signer.sign(pre_command))
