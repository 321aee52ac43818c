// Sizes, types, quantization and layout of inputs and outputs.
#include <cmath>
#include <cstring>
#include <limits>

#include "app.hpp"

namespace edgewright {
namespace {

template <typename T>
T load(const void* data, size_t at) {
  T value;
  std::memcpy(&value, static_cast<const uint8_t*>(data) + at * sizeof(T), sizeof(T));
  return value;
}

float from_half(uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const float sign = half & 0x8000 ? -1.0F : 1.0F;
  if (exponent == 31) return mantissa ? std::numeric_limits<float>::quiet_NaN() : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1.0F + mantissa / 1024.0F, exponent - 15) : std::ldexp(mantissa / 1024.0F, -14));
}

template <typename T>
void save(void* data, size_t at, double value) {
  const T stored = static_cast<T>(value);
  std::memcpy(static_cast<uint8_t*>(data) + at * sizeof(T), &stored, sizeof(T));
}

void write_element(Type type, void* data, size_t at, double value) {
  switch (type) {
    case Type::float32: return save<float>(data, at, value);
    case Type::float64: return save<double>(data, at, value);
    case Type::uint8: return save<uint8_t>(data, at, value);
    case Type::int8: return save<int8_t>(data, at, value);
    case Type::uint16: return save<uint16_t>(data, at, value);
    case Type::int16: return save<int16_t>(data, at, value);
    case Type::uint32: return save<uint32_t>(data, at, value);
    case Type::int32: return save<int32_t>(data, at, value);
    case Type::uint64: return save<uint64_t>(data, at, value);
    case Type::int64: return save<int64_t>(data, at, value);
    case Type::bool8: return save<uint8_t>(data, at, value != 0);
    case Type::float16: throw std::runtime_error("half precision is not written by this project");
  }
}

void find_limits(Type type, float& low, float& high) {
  const bool is_signed = type == Type::int8 || type == Type::int16 || type == Type::int32;
  const int bits = static_cast<int>(size_of(type)) * 8;
  low = is_signed ? -std::ldexp(1.0F, bits - 1) : 0.0F;
  high = std::ldexp(1.0F, is_signed ? bits - 1 : bits) - 1.0F;
}

}  // namespace

size_t size_of(Type type) {
  switch (type) {
    case Type::uint8: case Type::int8: case Type::bool8: return 1;
    case Type::float16: case Type::uint16: case Type::int16: return 2;
    case Type::float32: case Type::uint32: case Type::int32: return 4;
    default: return 8;
  }
}

size_t TensorInfo::count() const {
  size_t product = 1;
  for (const int64_t size : shape) product *= static_cast<size_t>(size);
  return product;
}

size_t TensorInfo::bytes() const { return count() * size_of(type); }

double read_element(Type type, const void* data, size_t at) {
  switch (type) {
    case Type::float32: return load<float>(data, at);
    case Type::float64: return load<double>(data, at);
    case Type::float16: return from_half(load<uint16_t>(data, at));
    case Type::uint8: case Type::bool8: return load<uint8_t>(data, at);
    case Type::int8: return load<int8_t>(data, at);
    case Type::uint16: return load<uint16_t>(data, at);
    case Type::int16: return load<int16_t>(data, at);
    case Type::uint32: return load<uint32_t>(data, at);
    case Type::int32: return load<int32_t>(data, at);
    case Type::uint64: return static_cast<double>(load<uint64_t>(data, at));
    case Type::int64: return static_cast<double>(load<int64_t>(data, at));
  }
  return 0;
}

void store(const TensorInfo& tensor, const void* values, void* stored) {
  if (tensor.type == tensor.source_type) {
    std::memcpy(stored, values, tensor.bytes());
    return;
  }
  float low = 0, high = 0;
  if (tensor.scale > 0) find_limits(tensor.type, low, high);
  for (size_t i = 0, count = tensor.count(); i < count; i++) {
    const double value = read_element(tensor.source_type, values, i);
    if (tensor.scale == 0) {
      write_element(tensor.type, stored, i, value);
      continue;
    }
    const float steps = std::nearbyint(static_cast<float>(value) / tensor.scale) + static_cast<float>(tensor.zero_point);
    write_element(tensor.type, stored, i, steps < low ? low : steps > high ? high : steps);
  }
}

void read_output(const TensorInfo& tensor, const void* stored, std::vector<double>& values) {
  const size_t rank = tensor.axes.size(), count = tensor.count();
  std::vector<size_t> step(rank, 1);  // of each of the source's axes, in elements of the source
  for (size_t axis = rank; axis-- > 1;) step[axis - 1] = step[axis] * static_cast<size_t>(tensor.source_shape[axis]);
  std::vector<int64_t> place(rank, 0);
  values.resize(count);
  for (size_t i = 0; i < count; i++) {
    double value = read_element(tensor.type, stored, i);
    if (tensor.scale > 0) value = (static_cast<float>(value) - static_cast<float>(tensor.zero_point)) * tensor.scale;
    size_t to = 0;
    for (size_t axis = 0; axis < rank; axis++) to += static_cast<size_t>(place[axis]) * step[tensor.axes[axis]];
    values[to] = value;
    for (size_t axis = rank; axis-- > 0;) {
      if (++place[axis] < tensor.source_shape[tensor.axes[axis]]) break;
      place[axis] = 0;
    }
  }
}

}  // namespace edgewright
