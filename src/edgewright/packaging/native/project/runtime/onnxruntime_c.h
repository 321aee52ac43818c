/* The part of ONNX Runtime's C API that this project calls. Its functions are a table whose order never changes: a new
 * version only appends. Numbers and signatures are those of the API's documentation; version 17 has all of them. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ORT_API_VERSION_USED = 17 };
enum { ORT_LEVEL_DISABLE = 0, ORT_LEVEL_BASIC = 1, ORT_LEVEL_EXTENDED = 2, ORT_LEVEL_ALL = 99 };
enum {
    ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_UINT16 = 4, ORT_INT16 = 5, ORT_INT32 = 6, ORT_INT64 = 7,
    ORT_BOOL = 9, ORT_FLOAT16 = 10, ORT_DOUBLE = 11, ORT_UINT32 = 12, ORT_UINT64 = 13
};
enum {
    ORT_GET_ERROR_MESSAGE = 2, ORT_CREATE_ENV = 3, ORT_DISABLE_TELEMETRY_EVENTS = 6, ORT_CREATE_SESSION = 7, ORT_RUN = 9,
    ORT_CREATE_SESSION_OPTIONS = 10, ORT_SET_EXECUTION_MODE = 13, ORT_DISABLE_ARENA = 19,
    ORT_SET_OPTIMIZATION_LEVEL = 23, ORT_SET_INTRA_OP_THREADS = 24, ORT_SET_INTER_OP_THREADS = 25, ORT_CREATE_TENSOR_WITH_DATA = 49,
    ORT_CREATE_CPU_MEMORY_INFO = 69, ORT_RELEASE_ENV = 92, ORT_RELEASE_STATUS = 93, ORT_RELEASE_MEMORY_INFO = 94,
    ORT_RELEASE_SESSION = 95, ORT_RELEASE_VALUE = 96, ORT_RELEASE_SESSION_OPTIONS = 100, ORT_ADD_CONFIG_ENTRY = 130
};

#ifndef VENDOR_HEADER
typedef struct {
    const void *(*get_api)(uint32_t version); /* null if the library is older; else an array of pointers to functions */
    const char *(*get_version)(void);
} ort_api_base;

const ort_api_base *OrtGetApiBase(void);
#endif

#ifdef __cplusplus
}
#endif
