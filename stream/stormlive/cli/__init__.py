"""The command line: one module per command; torch and Qt are imported only by the command that needs them."""
