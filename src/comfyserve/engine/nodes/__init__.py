"""The node classes: one module for each kind, what they declare in `spec`, all of them in `registry`."""
