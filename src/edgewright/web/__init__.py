"""Web pages and reports of the store. The entry point is `server.app.make_app`."""
