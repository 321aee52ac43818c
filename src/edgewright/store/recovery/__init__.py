"""What survives a killed process and a full disk."""
