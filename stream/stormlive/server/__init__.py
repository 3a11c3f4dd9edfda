"""The server: takes frames off the wire, reconstructs them in batches, answers viewers."""
