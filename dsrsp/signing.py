"""The supplier's digital signature, wherever its key lives, and never a wrong one."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from dsrsp.errors import SigningFailed
from gbcs.crypto import verify_signature
from gbcs.errors import SignatureInvalid
from gbcs.messages import PreCommand, SignedPreCommand
from gbcs.ports import Signer


class PreCommandSigner(Protocol):
    """Signs pre-commands as the supplier; may take its time, and does not hold up others."""

    async def sign(self, pre_command: PreCommand) -> bytes:
        """Return the signature of a pre-command: raw r || s, 64 octets.

        Raises:
            dsrsp.errors.SignerUnavailable: not now; the same may be asked again.
            dsrsp.errors.SigningRefused: it will not sign this.
            dsrsp.errors.SigningFailed: what it gave is no signature.
        """
        ...


class LocalSigner:
    """Signs with a key that is held here.

    Args:
        signer: has the key.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    async def sign(self, pre_command: PreCommand) -> bytes:
        """Return the signature of a pre-command."""
        return self._signer.sign(pre_command.signed_part())


class CheckedSigner:
    """Lets no signature through that the supplier's certificate does not prove.

    Args:
        signer: who signs.
        public_key: of the certificate that the DCC has.
    """

    def __init__(self, signer: PreCommandSigner, public_key: ec.EllipticCurvePublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    async def sign(self, pre_command: PreCommand) -> bytes:
        """Return the signature of a pre-command; see PreCommandSigner.

        Raises:
            SigningFailed: also when the signature does not hold.
        """
        signature = await self._signer.sign(pre_command)
        try:
            verify_signature(self._public_key, signature, pre_command.signed_part())
        except SignatureInvalid as error:
            raise SigningFailed(
                f"the signer's signature is not of our certificate's key: {error}: compare the "
                "key that it uses with the supplier's digital-signature certificate"
            ) from None
        return signature


async def signed(pre_command: PreCommand, signer: PreCommandSigner) -> SignedPreCommand:
    """Sign a pre-command."""
    return SignedPreCommand(pre_command, await signer.sign(pre_command))
