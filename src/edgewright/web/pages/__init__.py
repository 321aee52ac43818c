"""Pages of the server, one module per page or section."""
