// Frames of a V4L2 camera (Linux): NV12, or YUYV, which every USB camera has.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "edgewright_preprocess.h"

namespace edgewright {

class Camera {
 public:
  // Throws std::runtime_error: no camera, or none of both formats.
  Camera(const std::string& device, int width, int height);
  ~Camera();
  Camera(const Camera&) = delete;
  Camera& operator=(const Camera&) = delete;
  // Wait for the next frame. Its memory is valid until the next call.
  ewp_frame read();

 private:
  void request_format(int width, int height);
  void map_buffers();
  void release();

  struct Mapped {
    void* memory;
    size_t bytes;
  };
  std::string device_;
  int file_ = -1, width_ = 0, height_ = 0, stride_ = 0, last_ = -1;
  bool packed_ = false;  // YUYV
  std::vector<Mapped> buffers_;
  std::vector<uint8_t> planes_;
};

}  // namespace edgewright
