"""The server's side of browsers as devices: pairing, sessions, and the relay of worker messages."""
