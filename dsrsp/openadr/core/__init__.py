"""The protocol logic of the DSRSP's OpenADR face: no I/O, no clock."""
