"""The CEM's gateway: device side of GBCS and the CEM end of the tunnel."""
