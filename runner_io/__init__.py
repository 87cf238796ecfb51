"""What the runners of gateways and simulator share: nothing of the field, only this machine."""
