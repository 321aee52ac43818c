"""A server for models: the Open Inference Protocol, version 2, over HTTP and gRPC."""
