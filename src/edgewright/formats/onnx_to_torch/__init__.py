"""An ONNX model as a torch network, for runtimes whose compilers read only torch programs.

`read.py` reads the nodes and constants, `rewrite.py` fuses operators that exporters expanded,
`build.py` runs the graph once and folds constants, `network.py` has the result: a module whose
`forward` calls one small module for each node, so that an exported program reports which node each of its operators
came from. `operators/` is the table of supported operators.

All of it needs torch, so only functions that run in a worker import it.
"""
