/* A custom operator: one C function that computes its outputs from its inputs. */
#ifndef EDGEWRIGHT_OPERATOR_H
#define EDGEWRIGHT_OPERATOR_H

#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EW_EXPORT __declspec(dllexport)
#else
#define EW_EXPORT __attribute__((visibility("default")))
#endif

/* Types of elements, by ONNX's numbers. */
enum { EW_FLOAT32 = 1, EW_UINT8 = 2, EW_INT8 = 3, EW_INT32 = 6, EW_INT64 = 7, EW_BOOL = 9, EW_FLOAT64 = 11 };

/* A tensor in row order. Inputs must not be written; outputs have their memory and shape already. */
typedef struct {
    void *data;
    const int64_t *shape; /* `rank` sizes */
    int32_t rank;
    int32_t type;
} ew_tensor;

/* The node's attributes, or the defaults of the description. */
typedef struct {
    const char *const *names;
    const double *values;
    int32_t count;
} ew_attributes;

/* Returns 0, or any other number for a failure. Several threads may call it at once. */
typedef int (*ew_kernel)(const ew_attributes *attributes, const ew_tensor *inputs, ew_tensor *outputs);

#define EW_KERNEL(name) \
    EW_EXPORT int name(const ew_attributes *attributes, const ew_tensor *inputs, ew_tensor *outputs)

static inline double ew_attribute(const ew_attributes *attributes, const char *name) {
    for (int32_t i = 0; i < attributes->count; i++)
        if (!strcmp(attributes->names[i], name)) return attributes->values[i];
    return 0.0;
}

/* The number of elements of a tensor. */
static inline int64_t ew_count(const ew_tensor *tensor) {
    int64_t count = 1;
    for (int32_t i = 0; i < tensor->rank; i++) count *= tensor->shape[i];
    return count;
}

#endif
