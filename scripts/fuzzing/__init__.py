"""Every decoder that takes octets from outside, and inputs that try to break it."""
