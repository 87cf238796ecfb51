"""The CEM's OpenADR face: a VTN to any unmodified VEN, in front of the gateway."""

from cem.openadr.config import OpenAdrConfig
from cem.openadr.server import PATH, OpenAdrVtn

__all__ = ["PATH", "OpenAdrConfig", "OpenAdrVtn"]
