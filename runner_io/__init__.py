"""What the runners of gateways and simulator share: state files, HTTP servers with limits."""
