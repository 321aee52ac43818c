// ONNX Runtime through its C API. -DRUNTIME_INCLUDE takes the vendor's header, against which the numbers are checked.
#include "app.hpp"
#include "onnxruntime_c.h"
#include "parameters.hpp"
#ifdef VENDOR_HEADER
#include <cstddef>
#include <onnxruntime_c_api.h>
#define SAME(NUMBER, NAME) static_assert(offsetof(OrtApi, NAME) == NUMBER * sizeof(void*), #NAME)
SAME(ORT_GET_ERROR_MESSAGE, GetErrorMessage);
SAME(ORT_CREATE_SESSION, CreateSession);
SAME(ORT_RUN, Run);
SAME(ORT_SET_EXECUTION_MODE, SetSessionExecutionMode);
SAME(ORT_DISABLE_ARENA, DisableCpuMemArena);
SAME(ORT_SET_OPTIMIZATION_LEVEL, SetSessionGraphOptimizationLevel);
SAME(ORT_SET_INTRA_OP_THREADS, SetIntraOpNumThreads);
SAME(ORT_CREATE_TENSOR_WITH_DATA, CreateTensorWithDataAsOrtValue);
SAME(ORT_CREATE_CPU_MEMORY_INFO, CreateCpuMemoryInfo);
SAME(ORT_RELEASE_SESSION_OPTIONS, ReleaseSessionOptions);
SAME(ORT_ADD_CONFIG_ENTRY, AddSessionConfigEntry);
static_assert(ORT_FLOAT == int{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT} && ORT_UINT64 == int{ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64});
#endif

namespace edgewright {
namespace {

using Handle = void*;  // each of the library's opaque types

const Handle* get_table() {
#ifdef VENDOR_HEADER
  static const auto* table = reinterpret_cast<const Handle*>(::OrtGetApiBase()->GetApi(ORT_API_VERSION_USED));
#else
  static const auto* table = static_cast<const Handle*>(OrtGetApiBase()->get_api(ORT_API_VERSION_USED));
#endif
  if (table == nullptr) throw std::runtime_error("ONNX Runtime " + describe_runtime() + " is older than 1.17");
  return table;
}

template <typename Result, typename... Arguments>
Result call_raw(int number, Arguments... arguments) {
  return reinterpret_cast<Result (*)(Arguments...)>(get_table()[number])(arguments...);
}

template <typename... Arguments>
void call(int number, Arguments... arguments) {
  const Handle status = call_raw<Handle>(number, arguments...);
  if (status == nullptr) return;
  const std::string why = call_raw<const char*>(ORT_GET_ERROR_MESSAGE, static_cast<const void*>(status));
  call_raw<void>(ORT_RELEASE_STATUS, status);
  throw std::runtime_error("ONNX Runtime: " + why);
}

int find_type(Type type) {
  switch (type) {
    case Type::float32: return ORT_FLOAT;
    case Type::float16: return ORT_FLOAT16;
    case Type::float64: return ORT_DOUBLE;
    case Type::uint8: return ORT_UINT8;
    case Type::int8: return ORT_INT8;
    case Type::uint16: return ORT_UINT16;
    case Type::int16: return ORT_INT16;
    case Type::uint32: return ORT_UINT32;
    case Type::int32: return ORT_INT32;
    case Type::uint64: return ORT_UINT64;
    case Type::int64: return ORT_INT64;
    case Type::bool8: return ORT_BOOL;
  }
  return 0;
}

// Inputs and outputs are bound once; the runtime reads and writes the engine's own memory.
class OrtEngine final : public Engine {
 public:
  explicit OrtEngine(const std::string& model) {
    call(ORT_CREATE_ENV, 3, "app", &env_);  // 3: errors only
    call(ORT_DISABLE_TELEMETRY_EVENTS, static_cast<const void*>(env_));
    Handle options = nullptr;
    call(ORT_CREATE_SESSION_OPTIONS, &options);
    call(ORT_SET_INTRA_OP_THREADS, options, kThreads);
    call(ORT_SET_INTER_OP_THREADS, options, kInterOpThreads);
    call(ORT_SET_EXECUTION_MODE, options, static_cast<int>(kParallel));
    call(ORT_SET_OPTIMIZATION_LEVEL, options, kOptimizationLevel);
    if (!kArena) call(ORT_DISABLE_ARENA, options);
    call(ORT_ADD_CONFIG_ENTRY, options, "session.intra_op.allow_spinning", kSpinning ? "1" : "0");
    try {
      call(ORT_CREATE_SESSION, static_cast<const void*>(env_), model.c_str(), static_cast<const void*>(options), &session_);
    } catch (...) {
      call_raw<void>(ORT_RELEASE_SESSION_OPTIONS, options);
      release();
      throw;
    }
    call_raw<void>(ORT_RELEASE_SESSION_OPTIONS, options);
    call(ORT_CREATE_CPU_MEMORY_INFO, 1, 0, &memory_);  // 1: an arena's memory, 0: the default type
    for (const TensorInfo& one : kInputs) bind(one, input_names_, inputs_);
    for (const TensorInfo& one : kOutputs) bind(one, output_names_, outputs_);
  }
  ~OrtEngine() override { release(); }

  void* input(size_t number) override { return memories_[number].data(); }
  const void* output(size_t number) override { return memories_[kInputs.size() + number].data(); }
  void run() override {
    call(ORT_RUN, session_, static_cast<const void*>(nullptr), input_names_.data(),
         static_cast<const Handle*>(inputs_.data()), inputs_.size(), output_names_.data(), output_names_.size(),
         outputs_.data());
  }

 private:
  void bind(const TensorInfo& one, std::vector<const char*>& names, std::vector<Handle>& values) {
    memories_.emplace_back(one.bytes());
    Handle value = nullptr;
    call(ORT_CREATE_TENSOR_WITH_DATA, static_cast<const void*>(memory_), static_cast<void*>(memories_.back().data()),
         one.bytes(), one.shape.data(), one.shape.size(), find_type(one.type), &value);
    names.push_back(one.name);
    values.push_back(value);
  }
  void release() {
    for (const Handle one : inputs_) call_raw<void>(ORT_RELEASE_VALUE, one);
    for (const Handle one : outputs_) call_raw<void>(ORT_RELEASE_VALUE, one);
    if (memory_) call_raw<void>(ORT_RELEASE_MEMORY_INFO, memory_);
    if (session_) call_raw<void>(ORT_RELEASE_SESSION, session_);
    if (env_) call_raw<void>(ORT_RELEASE_ENV, env_);
  }

  Handle env_ = nullptr, session_ = nullptr, memory_ = nullptr;
  std::vector<std::vector<uint8_t>> memories_;
  std::vector<const char*> input_names_, output_names_;
  std::vector<Handle> inputs_, outputs_;
};

}  // namespace

std::string describe_runtime() {
#ifdef VENDOR_HEADER
  return std::string("ONNX Runtime ") + ::OrtGetApiBase()->GetVersionString();
#else
  return std::string("ONNX Runtime ") + OrtGetApiBase()->get_version();
#endif
}

std::unique_ptr<Engine> open_engine(const std::string& model) { return std::make_unique<OrtEngine>(model); }

}  // namespace edgewright
