"""Reading of an ONNX model into the writer's graph, with static shapes."""
