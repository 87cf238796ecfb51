"""The DCC and what lies behind it: gateway services, checks, SM WAN, devices. Blind to payload."""
