from edgewright.runtimes.litert.writer.graph import Graph


def quantise(graph: Graph) -> None:
    pass
