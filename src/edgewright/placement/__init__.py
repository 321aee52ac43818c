"""Which unit of a device runs which operator: pure functions on cost profiles."""
