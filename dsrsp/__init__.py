"""The DSRSP's gateway: DCC adaptor (DUIS client, signing, correlation) and the DSRSP end of the tunnel."""
