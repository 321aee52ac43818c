"""Models of devices: figures that are calculated, not measured. No input or output."""
