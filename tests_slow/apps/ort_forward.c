// Lets ONNX Runtime's Java binding 1.17 use another libonnxruntime.so, named by REAL_ORT: the C interface is versioned,
// and newer libraries have that of 1.17.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void* find(const char* name) {
  void* library = dlopen(getenv("REAL_ORT"), RTLD_NOW | RTLD_LOCAL);
  void* found = library ? dlsym(library, name) : NULL;
  if (!found) {
    fprintf(stderr, "%s\n", dlerror());
    abort();
  }
  return found;
}

const void* OrtGetApiBase(void) { return ((const void* (*)(void))find("OrtGetApiBase"))(); }

void* OrtSessionOptionsAppendExecutionProvider_CPU(void* options, int arena) {
  return ((void* (*)(void*, int))find("OrtSessionOptionsAppendExecutionProvider_CPU"))(options, arena);
}
