"""The protocol logic of the CEM's OpenADR face: no I/O, no clock."""
