"""An ONNX model as a torch network, for the runtimes whose compilers read torch programs alone.

`read.py` gives the nodes and constants, `rewrite.py` puts operators in the place of what exporters expanded,
`build.py` runs the graph once and folds what does not depend on the inputs, `network.py` is the result: a module whose
`forward` calls one small module for each node, so that an exported program reports which node each of its operators
came from. `operators/` is the literal table of what is known.

All of it needs torch, so only functions that run in a worker import it.
"""
