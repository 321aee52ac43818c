// Orientation, transparency and the task's rules. edgewright_preprocess.c does the rest.
#include <cmath>
#include <cstring>

#include "app.hpp"

namespace edgewright {
namespace {

const uint8_t* at(const Picture& p, int x, int y) {
  return p.pixels.data() + (static_cast<size_t>(y) * p.width + x) * p.channels;
}

// Where the upright pixel (x, y) is in the stored picture.
void find_source(const Picture& p, int x, int y, int& from_x, int& from_y) {
  const int last_x = p.width - 1, last_y = p.height - 1;
  switch (p.orientation) {
    case 2: from_x = last_x - x, from_y = y; break;
    case 3: from_x = last_x - x, from_y = last_y - y; break;
    case 4: from_x = x, from_y = last_y - y; break;
    case 5: from_x = y, from_y = x; break;
    case 6: from_x = y, from_y = last_y - x; break;
    case 7: from_x = last_x - y, from_y = last_y - x; break;
    case 8: from_x = last_x - y, from_y = x; break;
    default: from_x = x, from_y = y;
  }
}

// One channel over a background, in the integer arithmetic of Pillow's alpha_composite.
uint8_t blend(uint32_t value, uint32_t alpha, uint32_t ground) {
  if (alpha == 0) return static_cast<uint8_t>(ground);
  const uint32_t sum = value * (alpha * 128) + ground * (255 * 128 - alpha * 128) + (0x80 << 7);
  return static_cast<uint8_t>((((sum >> 8) + sum) >> 8) >> 7);
}

const char* explain(int status) {
  switch (status) {
    case EWP_BAD_PARAMS: return "the parameters are not valid";
    case EWP_BAD_FRAME: return "the picture is not valid";
    case EWP_SIZE: return "the picture has another size than the model's input, and the task does not crop";
    case EWP_LIMIT: return "the picture has too many pixels";
    default: return "there is not enough memory";
  }
}

void check(int status) {
  if (status != EWP_OK) throw std::runtime_error(std::string("preprocessing: ") + explain(status));
}

}  // namespace

Preprocessor::Preprocessor(const ewp_params& params, Alpha alpha) : params_(params), alpha_(alpha) {}
Preprocessor::~Preprocessor() { ewp_free(plan_); }

void Preprocessor::run(const ewp_frame& frame, void* output) {
  if (plan_ == nullptr || frame.width != width_ || frame.height != height_) {
    ewp_free(plan_);
    plan_ = nullptr;
    check(ewp_new(&params_, frame.width, frame.height, &plan_));
    width_ = frame.width, height_ = frame.height;
  }
  check(ewp_run(plan_, &frame, output));
}

void Preprocessor::run(const Picture& p, void* output) {
  if (p.width < 1 || p.height < 1 || (p.channels != 1 && p.channels != 3 && p.channels != 4) ||
      p.pixels.size() != static_cast<size_t>(p.width) * p.height * p.channels)
    throw std::runtime_error("preprocessing: the picture is not valid");
  const bool swapped = p.orientation >= 5 && p.orientation <= 8;
  const bool blended = p.channels == 4 && alpha_ != Alpha::drop;
  ewp_frame frame{};
  frame.width = swapped ? p.height : p.width, frame.height = swapped ? p.width : p.height;
  int channels = p.channels;
  const uint8_t* pixels = p.pixels.data();
  if (blended || (p.orientation >= 2 && p.orientation <= 8)) {
    channels = blended ? 3 : p.channels;
    upright_.resize(static_cast<size_t>(p.width) * p.height * channels);
    uint8_t* to = upright_.data();
    const uint32_t ground = alpha_ == Alpha::white ? 255 : 0;
    for (int y = 0; y < frame.height; y++)
      for (int x = 0; x < frame.width; x++, to += channels) {
        int from_x, from_y;
        find_source(p, x, y, from_x, from_y);
        const uint8_t* from = at(p, from_x, from_y);
        for (int c = 0; c < channels; c++) to[c] = blended ? blend(from[c], from[3], ground) : from[c];
      }
    pixels = upright_.data();
  }
  frame.format = channels == 1 ? EWP_FRAME_GRAY : channels == 3 ? EWP_FRAME_RGB : EWP_FRAME_RGBA;
  frame.plane[0] = pixels;
  frame.stride[0] = static_cast<ptrdiff_t>(frame.width) * channels;
  run(frame, output);
}

}  // namespace edgewright
