"""The tunnel protocol: OpenADR messages in fragments. Standard library only, no I/O, no clock."""
