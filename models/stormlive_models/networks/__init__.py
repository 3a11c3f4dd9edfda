"""The networks: the 2018 Deep-STORM network exactly, and livenet, the fast one used live."""
