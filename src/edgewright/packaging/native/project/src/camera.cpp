#include "camera.hpp"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace edgewright {
namespace {

constexpr unsigned kBuffers = 4;

int ask(int file, unsigned long request, void* value) {
  int result;
  do result = ioctl(file, request, value);
  while (result == -1 && errno == EINTR);
  return result;
}

[[noreturn]] void fail(const std::string& device, const char* what) {
  throw std::runtime_error(device + ": " + what + ": " + std::strerror(errno));
}

v4l2_buffer make_buffer(unsigned number) {
  v4l2_buffer buffer{};
  buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  buffer.memory = V4L2_MEMORY_MMAP;
  buffer.index = number;
  return buffer;
}

}  // namespace

Camera::Camera(const std::string& device, int width, int height) : device_(device) {
  file_ = open(device.c_str(), O_RDWR | O_CLOEXEC);
  if (file_ < 0) fail(device_, "cannot be opened");
  try {
    request_format(width, height);
    map_buffers();
  } catch (...) {
    release();
    throw;
  }
}

Camera::~Camera() { release(); }

void Camera::request_format(int width, int height) {
  for (const uint32_t wanted : {V4L2_PIX_FMT_NV12, V4L2_PIX_FMT_YUYV}) {
    v4l2_format format{};
    format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    format.fmt.pix.width = static_cast<uint32_t>(width), format.fmt.pix.height = static_cast<uint32_t>(height);
    format.fmt.pix.pixelformat = wanted;
    if (ask(file_, VIDIOC_S_FMT, &format) == -1 || format.fmt.pix.pixelformat != wanted) continue;
    packed_ = wanted == V4L2_PIX_FMT_YUYV;
    width_ = static_cast<int>(format.fmt.pix.width), height_ = static_cast<int>(format.fmt.pix.height);
    stride_ = static_cast<int>(format.fmt.pix.bytesperline);
    if (stride_ == 0) stride_ = packed_ ? 2 * width_ : width_;
    return;
  }
  throw std::runtime_error(device_ + ": the camera has neither NV12 nor YUYV");
}

void Camera::map_buffers() {
  v4l2_requestbuffers request{};
  request.count = kBuffers, request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, request.memory = V4L2_MEMORY_MMAP;
  if (ask(file_, VIDIOC_REQBUFS, &request) == -1) fail(device_, "no buffers");
  for (unsigned number = 0; number < request.count; number++) {
    v4l2_buffer buffer = make_buffer(number);
    if (ask(file_, VIDIOC_QUERYBUF, &buffer) == -1) fail(device_, "no buffer");
    void* memory = mmap(nullptr, buffer.length, PROT_READ | PROT_WRITE, MAP_SHARED, file_, buffer.m.offset);
    if (memory == MAP_FAILED) fail(device_, "a buffer cannot be mapped");
    buffers_.push_back({memory, buffer.length});
    if (ask(file_, VIDIOC_QBUF, &buffer) == -1) fail(device_, "a buffer cannot be queued");
  }
  int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  if (ask(file_, VIDIOC_STREAMON, &type) == -1) fail(device_, "cannot start");
}

ewp_frame Camera::read() {
  if (last_ >= 0) {
    v4l2_buffer used = make_buffer(static_cast<unsigned>(last_));
    if (ask(file_, VIDIOC_QBUF, &used) == -1) fail(device_, "a buffer cannot be queued");
  }
  v4l2_buffer buffer = make_buffer(0);
  if (ask(file_, VIDIOC_DQBUF, &buffer) == -1) fail(device_, "no frame");
  last_ = static_cast<int>(buffer.index);
  const auto* data = static_cast<const uint8_t*>(buffers_[buffer.index].memory);
  const size_t lines = static_cast<size_t>(height_) * static_cast<size_t>(stride_);
  if (buffers_[buffer.index].bytes < (packed_ ? lines : lines + lines / 2))
    throw std::runtime_error(device_ + ": a frame is too short");
  ewp_frame frame{};
  frame.width = width_, frame.height = height_;
  if (!packed_) {
    frame.format = EWP_FRAME_NV12;
    frame.plane[0] = data, frame.plane[1] = data + lines;
    frame.stride[0] = frame.stride[1] = stride_;
    return frame;
  }
  // Two pixels of a row are Y U Y V. Planes have the chroma of even rows.
  const int half = width_ / 2;
  planes_.resize(static_cast<size_t>(width_) * height_ + 2 * static_cast<size_t>(half) * ((height_ + 1) / 2));
  uint8_t* luma = planes_.data();
  uint8_t* u = luma + static_cast<size_t>(width_) * height_;
  uint8_t* v = u + static_cast<size_t>(half) * ((height_ + 1) / 2);
  frame.format = EWP_FRAME_I420;
  frame.plane[0] = luma, frame.plane[1] = u, frame.plane[2] = v;
  frame.stride[0] = width_, frame.stride[1] = frame.stride[2] = half;
  for (int y = 0; y < height_; y++, data += stride_)
    for (int x = 0; x < half; x++) {
      *luma++ = data[4 * x], *luma++ = data[4 * x + 2];
      if (y % 2 == 0) *u++ = data[4 * x + 1], *v++ = data[4 * x + 3];
    }
  return frame;
}

void Camera::release() {
  if (file_ < 0) return;
  int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  ask(file_, VIDIOC_STREAMOFF, &type);
  for (const Mapped& one : buffers_) munmap(one.memory, one.bytes);
  close(file_);
}

}  // namespace edgewright
