"""The server: routes, access, connections, assets."""
