"""What make_tunnel_vectors.py is made of: one module for each vector file.

Nothing here imports smtunnel: the expected results are this package's own reading of the
specification, so that the library is tested against them like any other implementation.
"""
