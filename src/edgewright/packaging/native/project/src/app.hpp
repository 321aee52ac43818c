// The pipeline of an app: picture -> model inputs -> runtime -> outputs -> answer. C++17, no library but the runtime's.
//
// These files are the same in every project; `parameters.hpp` has all that belongs to one model.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgewright_preprocess.h"

namespace edgewright {

enum class Type { float32, float16, float64, uint8, int8, uint16, int16, uint32, int32, uint64, int64, bool8 };
enum class Alpha { drop, white, black };

// One input or output, as the runtime exchanges it. The source model's axis `axes[i]` is axis `i` here, before sizes of
// 1 are dropped. `scale` is 0 without quantization: real = scale * (stored - zero_point).
struct TensorInfo {
  const char* name;
  const char* source;
  Type type;
  Type source_type;
  std::vector<int64_t> shape;
  std::vector<int64_t> source_shape;
  std::vector<int> axes;
  float scale;
  int zero_point;

  size_t count() const;
  size_t bytes() const;
};

size_t size_of(Type type);

// Decoded pixels: 1 channel is gray, 3 are RGB, 4 are RGB and alpha. `orientation` is EXIF's tag, 1 to 8.
struct Picture {
  int width = 0, height = 0, channels = 3, orientation = 1;
  std::vector<uint8_t> pixels;
};

// Makes the model input of pictures. Frames of one size need no memory after the first one.
class Preprocessor {
 public:
  Preprocessor(const ewp_params& params, Alpha alpha);
  ~Preprocessor();
  Preprocessor(const Preprocessor&) = delete;
  Preprocessor& operator=(const Preprocessor&) = delete;
  // Write the input in the type of the task. Throws std::runtime_error for a size that the task rejects.
  void run(const Picture& picture, void* output);
  // The same for a camera's frame, which is upright and has no alpha.
  void run(const ewp_frame& frame, void* output);

 private:
  ewp_params params_;
  Alpha alpha_;
  ewp_plan* plan_ = nullptr;
  int32_t width_ = 0, height_ = 0;
  std::vector<uint8_t> upright_;
};

// A loaded model. Inputs and outputs are numbered as in parameters.hpp; their memory belongs to the engine.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual void* input(size_t number) = 0;
  virtual const void* output(size_t number) = 0;
  virtual void run() = 0;
};

// In engine_*.cpp. Throws std::runtime_error: the model does not load, or the library has another version.
std::unique_ptr<Engine> open_engine(const std::string& model);
std::string describe_runtime();

// Store values of the task's type in the artifact's type: divided by the scale in float32, rounded half to even, clipped.
void store(const TensorInfo& tensor, const void* values, void* stored);
// Return an output as real numbers in the layout of the source model.
void read_output(const TensorInfo& tensor, const void* stored, std::vector<double>& values);
double read_element(Type type, const void* data, size_t at);

enum class AnswerKind { classification, boxes, embedding, regression, next_token };
enum class BoxFormat { xyxy, yxyx, xywh, cxcywh };
// The task's output, as docs/task.md describes it. `output`, `scores` and `classes` are numbers of outputs; -1: none.
struct AnswerInfo {
  AnswerKind kind;
  int output = 0, scores = -1, classes = -1;
  bool softmax = false, normalize = false, normalized = false, columns = false, objectness = false;
  int first_class = 0, most = 1;
  BoxFormat format = BoxFormat::xyxy;
  double score_threshold = 0, nms_iou = 1;
  double width = 0, height = 0;  // of the model's input image
};

// What an app shows. Which fields are filled depends on the task.
struct Scored {
  int index;
  double score;
  double left, top, right, bottom;  // of a box, in pixels of the model's input
};
struct Answer {
  std::vector<Scored> best;     // classes, boxes or tokens, the best first
  std::vector<double> numbers;  // of a regression or an embedding
};
// `outputs` are real numbers in the order of kOutputs.
Answer make_answer(const std::vector<std::vector<double>>& outputs);

}  // namespace edgewright
