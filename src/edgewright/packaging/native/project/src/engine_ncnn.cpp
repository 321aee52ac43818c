// ncnn through its C API. The model is NAME.param with NAME.bin beside it; all values are float32.
#include <cstdlib>
#include <cstring>

#include "app.hpp"
#include "parameters.hpp"
#ifdef VENDOR_HEADER
#include <ncnn/c_api.h>
#else
#include "ncnn_c.h"
#endif

namespace edgewright {
namespace {

class NcnnEngine final : public Engine {
 public:
  explicit NcnnEngine(const std::string& model) : net_(ncnn_net_create()) {
    ncnn_option_set_num_threads(ncnn_net_get_option(net_), kThreads);
    const size_t dot = model.rfind('.');
    if (dot == std::string::npos || ncnn_net_load_param(net_, model.c_str()) != 0 ||
        ncnn_net_load_model(net_, (model.substr(0, dot) + ".bin").c_str()) != 0) {
      ncnn_net_destroy(net_);
      throw std::runtime_error("ncnn cannot load " + model);
    }
    for (const TensorInfo& one : kInputs) inputs_.emplace_back(one.bytes());
    for (const TensorInfo& one : kOutputs) outputs_.emplace_back(one.bytes());
  }
  ~NcnnEngine() override { ncnn_net_destroy(net_); }

  void* input(size_t number) override { return inputs_[number].data(); }
  const void* output(size_t number) override { return outputs_[number].data(); }
  void run() override {
    const ncnn_extractor_t extractor = ncnn_extractor_create(net_);
    bool ok = true;
    for (size_t i = 0; ok && i < kInputs.size(); i++) ok = feed(extractor, i);
    for (size_t i = 0; ok && i < kOutputs.size(); i++) ok = fetch(extractor, i);
    ncnn_extractor_destroy(extractor);
    if (!ok) throw std::runtime_error("ncnn: the inference failed, or an output has another size");
  }

 private:
  // A mat may have a gap after each channel, so channels are copied one by one.
  bool feed(ncnn_extractor_t extractor, size_t number) {
    const auto& shape = kInputs[number].shape;
    const auto size = [&](size_t back) { return static_cast<int>(shape[shape.size() - back]); };
    const ncnn_mat_t mat = shape.size() == 3   ? ncnn_mat_create_3d(size(1), size(2), size(3), nullptr)
                           : shape.size() == 2 ? ncnn_mat_create_2d(size(1), size(2), nullptr)
                                               : ncnn_mat_create_1d(size(1), nullptr);
    const size_t channels = shape.size() == 3 ? static_cast<size_t>(shape[0]) : 1, bytes = inputs_[number].size() / channels;
    for (size_t c = 0; c < channels; c++)
      std::memcpy(get_channel(mat, c), inputs_[number].data() + c * bytes, bytes);
    const bool ok = ncnn_extractor_input(extractor, kInputs[number].name, mat) == 0;
    ncnn_mat_destroy(mat);
    return ok;
  }

  bool fetch(ncnn_extractor_t extractor, size_t number) {
    ncnn_mat_t mat{};
    if (ncnn_extractor_extract(extractor, kOutputs[number].name, &mat) != 0) return false;
    const auto size = [](int value) { return static_cast<size_t>(value > 0 ? value : 1); };
    const size_t channels = ncnn_mat_get_dims(mat) == 3 ? size(ncnn_mat_get_c(mat)) : 1;
    const size_t bytes = size(ncnn_mat_get_w(mat)) * size(ncnn_mat_get_h(mat)) * sizeof(float);
    const bool fits = channels * bytes == outputs_[number].size();
    for (size_t c = 0; fits && c < channels; c++)
      std::memcpy(outputs_[number].data() + c * bytes, get_channel(mat, c), bytes);
    ncnn_mat_destroy(mat);
    return fits;
  }

  static void* get_channel(ncnn_mat_t mat, size_t number) {
    return ncnn_mat_get_dims(mat) == 3 ? ncnn_mat_get_channel_data(mat, static_cast<int>(number)) : ncnn_mat_get_data(mat);
  }

  ncnn_net_t net_;
  std::vector<std::vector<uint8_t>> inputs_, outputs_;
};

}  // namespace

std::string describe_runtime() { return std::string("ncnn ") + ncnn_version(); }

std::unique_ptr<Engine> open_engine(const std::string& model) { return std::make_unique<NcnnEngine>(model); }

}  // namespace edgewright
