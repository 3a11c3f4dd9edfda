"""The wire between acquisition, server and viewers: frames, messages, sockets."""
