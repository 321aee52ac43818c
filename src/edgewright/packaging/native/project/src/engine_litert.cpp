// LiteRT 2 through its C API.
#include <cstdlib>
#include <cstring>

#include "app.hpp"
#include "litert_c.h"
#include "parameters.hpp"

namespace edgewright {
namespace {

void check(LiteRtStatus status, const char* what) {
  if (status != 0) throw std::runtime_error(std::string("LiteRT: ") + what + " failed with status " + std::to_string(status));
}

int find_type(Type type) {
  switch (type) {
    case Type::float32: return LITERT_FLOAT32;
    case Type::float16: return LITERT_FLOAT16;
    case Type::float64: return LITERT_FLOAT64;
    case Type::uint8: return LITERT_UINT8;
    case Type::int8: return LITERT_INT8;
    case Type::uint16: return LITERT_UINT16;
    case Type::int16: return LITERT_INT16;
    case Type::uint32: return LITERT_UINT32;
    case Type::int32: return LITERT_INT32;
    case Type::uint64: return LITERT_UINT64;
    case Type::int64: return LITERT_INT64;
    case Type::bool8: return LITERT_BOOL;
  }
  return 0;
}

class LiteRtEngine final : public Engine {
 public:
  explicit LiteRtEngine(const std::string& model) {
    try {
      load(model);
    } catch (...) {
      release();
      throw;
    }
  }
  ~LiteRtEngine() override { release(); }

  void* input(size_t number) override { return inputs_[number].data(); }
  const void* output(size_t number) override { return outputs_[number].data(); }
  void run() override {
    for (size_t i = 0; i < kInputs.size(); i++)
      copy(buffers_[input_places_[i]], inputs_[i].data(), nullptr, kInputs[i].bytes());
    LiteRtTensorBuffer* outputs = buffers_.data() + kInputs.size();
    check(LiteRtRunCompiledModel(compiled_, 0, kInputs.size(), buffers_.data(), kOutputs.size(), outputs), "the inference");
    for (size_t i = 0; i < kOutputs.size(); i++)
      copy(outputs[output_places_[i]], nullptr, outputs_[i].data(), kOutputs[i].bytes());
  }

 private:
  void load(const std::string& model) {
    check(LiteRtCreateEnvironment(0, nullptr, &environment_), "the environment");
    check(LiteRtCreateModelFromFile(environment_, model.c_str(), &model_), ("reading " + model).c_str());
    read_signature();
    LiteRtOptions options{};
    check(LiteRtCreateOptions(&options), "the options");
    LiteRtStatus status = LiteRtSetOptionsHardwareAccelerators(options, LITERT_ON_CPU);
    if (status == 0) status = set_threads(options);
    if (status == 0) status = LiteRtCreateCompiledModel(environment_, model_, options, &compiled_);
    LiteRtDestroyOptions(options);
    check(status, ("compiling " + model).c_str());
    buffers_.resize(kInputs.size() + kOutputs.size());
    for (size_t i = 0; i < kInputs.size(); i++) add(kInputs[i], inputs_, buffers_[input_places_[i]]);
    for (size_t i = 0; i < kOutputs.size(); i++) add(kOutputs[i], outputs_, buffers_[kInputs.size() + output_places_[i]]);
  }

  // Find the place of each input and output in the model's signature: by name, else in their order.
  void read_signature() {
    LiteRtSignature signature{};
    size_t inputs = 0, outputs = 0;
    check(LiteRtGetModelSignature(model_, 0, &signature), "the signature");
    check(LiteRtGetNumSignatureInputs(signature, &inputs), "the signature");
    check(LiteRtGetNumSignatureOutputs(signature, &outputs), "the signature");
    input_places_ = place(kInputs, inputs, [&](size_t i, const char** name) {
      return LiteRtGetSignatureInputName(signature, i, name);
    });
    output_places_ = place(kOutputs, outputs, [&](size_t i, const char** name) {
      return LiteRtGetSignatureOutputName(signature, i, name);
    });
  }

  template <typename Find>
  static std::vector<size_t> place(const std::vector<TensorInfo>& tensors, size_t count, Find find) {
    if (count != tensors.size()) throw std::runtime_error("the model has other inputs or outputs than parameters.hpp");
    std::vector<size_t> by_name(count, count), in_order(count);
    for (size_t i = 0; i < count; i++) {
      const char* name = nullptr;
      check(find(i, &name), "the signature");
      in_order[i] = i;
      for (size_t k = 0; k < count; k++)
        if (std::strcmp(tensors[k].name, name) == 0) by_name[k] = i;
    }
    for (const size_t one : by_name)
      if (one == count) return in_order;
    return by_name;
  }

  static LiteRtStatus set_threads(LiteRtOptions options) {
    const std::string text = "num_threads = " + std::to_string(kThreads) + "\n";
    LiteRtOpaqueOptions made{};
    const LiteRtStatus status = LiteRtCreateOpaqueOptions("xnnpack", ::strdup(text.c_str()), std::free, &made);
    return status ? status : LiteRtAddOpaqueOptions(options, made);
  }

  void add(const TensorInfo& one, std::vector<std::vector<uint8_t>>& memories, LiteRtTensorBuffer& buffer) {
    memories.emplace_back(one.bytes());
    LiteRtRankedTensorType type{};
    type.element_type = find_type(one.type);
    type.layout.rank = static_cast<unsigned int>(one.shape.size());
    for (size_t i = 0; i < one.shape.size() && i < 8; i++) type.layout.dimensions[i] = static_cast<int32_t>(one.shape[i]);
    check(LiteRtCreateManagedTensorBuffer(environment_, LITERT_HOST_MEMORY, &type, one.bytes(), &buffer), one.name);
  }

  static void copy(LiteRtTensorBuffer buffer, const void* from, void* to, size_t bytes) {
    void* memory = nullptr;
    check(LiteRtLockTensorBuffer(buffer, &memory, from ? LITERT_LOCK_WRITE : LITERT_LOCK_READ), "locking a buffer");
    std::memcpy(from ? memory : to, from ? from : memory, bytes);
    check(LiteRtUnlockTensorBuffer(buffer), "unlocking a buffer");
  }

  void release() {
    for (const LiteRtTensorBuffer one : buffers_)
      if (one) LiteRtDestroyTensorBuffer(one);
    if (compiled_) LiteRtDestroyCompiledModel(compiled_);
    if (model_) LiteRtDestroyModel(model_);
    if (environment_) LiteRtDestroyEnvironment(environment_);
  }

  LiteRtEnvironment environment_{};
  LiteRtModel model_{};
  LiteRtCompiledModel compiled_{};
  std::vector<std::vector<uint8_t>> inputs_, outputs_;
  std::vector<LiteRtTensorBuffer> buffers_;  // in the order of the signature, the inputs first
  std::vector<size_t> input_places_, output_places_;
};

}  // namespace

std::string describe_runtime() { return "LiteRT"; }

std::unique_ptr<Engine> open_engine(const std::string& model) { return std::make_unique<LiteRtEngine>(model); }

}  // namespace edgewright
