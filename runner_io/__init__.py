"""What the runners of gateways and simulator share: disk and HTTP, nothing of tunnel or field."""
