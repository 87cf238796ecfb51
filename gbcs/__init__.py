"""GB smart-metering formats: GBCS messages, signatures and MACs, SMKI certificates, DUIS XML. No I/O."""
