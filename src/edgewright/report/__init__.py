"""What people look at, without a server: charts, numbers."""
