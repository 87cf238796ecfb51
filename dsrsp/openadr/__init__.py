"""The DSRSP's OpenADR face: for each CEM a VEN to any unmodified VTN, behind the gateway."""

from dsrsp.openadr.config import OpenAdrConfig
from dsrsp.openadr.vens import OpenAdrVens

__all__ = ["OpenAdrConfig", "OpenAdrVens"]
