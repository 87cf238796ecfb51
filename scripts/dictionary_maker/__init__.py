"""How the preset dictionaries of the tunnel are made: messages, styles, selection.

Used by scripts/build_dictionary.py only. Nothing here depends on the clock, on chance or on what
a zlib library makes of the octets, so that everyone gets the same dictionary.
"""
