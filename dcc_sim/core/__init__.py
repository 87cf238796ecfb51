"""The DCC's logic, without I/O: time is an argument, effects come out, state lies behind a port."""
