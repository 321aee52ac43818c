"""The pages: what the record holds, in a browser or as files for a colleague. `app.make_app` is the way in."""
