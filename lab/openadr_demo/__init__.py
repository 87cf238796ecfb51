"""A small VTN and a small VEN made with openleadr, with a simulated charger: for tests and demo.

Neither knows of the tunnel. What openleadr does wrong is worked around here, in the applications.
"""

from lab.openadr_demo.charger import Charger
from lab.openadr_demo.happenings import Exchanged, Exchanges, Happenings
from lab.openadr_demo.ven import DemoVen
from lab.openadr_demo.vtn import DemoVtn, ReportWish

__all__ = [
    "Charger",
    "DemoVen",
    "DemoVtn",
    "Exchanged",
    "Exchanges",
    "Happenings",
    "ReportWish",
]
