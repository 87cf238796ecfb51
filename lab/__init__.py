"""Where the parts are put together: command line, demo, the view of a message's whole journey."""
