"""Projects that run a model in an app, generated from an artifact and its task.

- `contract`: `AppContract`, all that an app must know; it is written into each project as `edgewright-app.json`.
- `golden`: the golden vectors, `golden/manifest.json`: pictures, inputs and outputs that the app must reproduce.
- `targets`: the table of targets. A target is a package `packaging/NAME` with the function of `TargetModule`:
  `generate(contract, golden) -> TargetFiles`. It returns the project's own files; it writes nothing.
- `project`: writes a project into a folder. Files that the user changed stay as they are.

Each project has, besides the target's own files: `edgewright-app.json` (the contract), `golden/` and `model/` (the
artifact's files under their names). `edgewright-files.json` lists all generated files with their hashes.
"""
