/* The part of LiteRT 2's C API that this project calls, and the sizes of the structs that it passes. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int LiteRtStatus; /* 0: ok */
typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT *LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;
typedef struct {
    unsigned int rank : 7;
    unsigned int has_strides : 1;
    int32_t dimensions[8];
    uint32_t strides[8];
} LiteRtLayout;
typedef struct {
    int element_type;
    LiteRtLayout layout;
} LiteRtRankedTensorType;

enum { LITERT_ON_CPU = 1, LITERT_HOST_MEMORY = 1, LITERT_LOCK_READ = 0, LITERT_LOCK_WRITE = 1 };
enum {
    LITERT_FLOAT32 = 1, LITERT_INT32 = 2, LITERT_UINT8 = 3, LITERT_INT64 = 4, LITERT_BOOL = 6, LITERT_INT16 = 7,
    LITERT_INT8 = 9, LITERT_FLOAT16 = 10, LITERT_FLOAT64 = 11, LITERT_UINT64 = 13, LITERT_UINT32 = 16,
    LITERT_UINT16 = 17
};

LiteRtStatus LiteRtCreateEnvironment(int count, const void *options, LiteRtEnvironment *environment);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);
LiteRtStatus LiteRtCreateModelFromFile(LiteRtEnvironment environment, const char *path, LiteRtModel *model);
void LiteRtDestroyModel(LiteRtModel model);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel model, size_t number, LiteRtSignature *signature);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetSignatureInputName(LiteRtSignature signature, size_t number, const char **name);
LiteRtStatus LiteRtGetSignatureOutputName(LiteRtSignature signature, size_t number, const char **name);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions *options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int units);
LiteRtStatus LiteRtCreateOpaqueOptions(const char *name, void *data, void (*release)(void *), LiteRtOpaqueOptions *made);
LiteRtStatus LiteRtAddOpaqueOptions(LiteRtOptions options, LiteRtOpaqueOptions added);
void LiteRtDestroyOptions(LiteRtOptions options);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
                                       LiteRtCompiledModel *compiled);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled);
LiteRtStatus LiteRtCreateManagedTensorBuffer(LiteRtEnvironment environment, int kind, const LiteRtRankedTensorType *type,
                                             size_t bytes, LiteRtTensorBuffer *buffer);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void **memory, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel compiled, size_t signature, size_t input_count,
                                    LiteRtTensorBuffer *inputs, size_t output_count, LiteRtTensorBuffer *outputs);

#ifdef __cplusplus
}
static_assert(sizeof(LiteRtLayout) == 68 && sizeof(LiteRtRankedTensorType) == 72, "the layout of LiteRT 2");
#endif
