// rules FILE: run the preprocessing of many parameter blocks and pictures, and write the inputs to standard output.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "app.hpp"

int main(int count, char** words) {
  std::FILE* file = count == 2 ? std::fopen(words[1], "rb") : nullptr;
  if (!file) return 2;
  ewp_params params;
  int32_t head[5];  // alpha, width, height, channels, orientation
  while (std::fread(&params, sizeof params, 1, file) == 1) {
    if (std::fread(head, sizeof head, 1, file) != 1) return 2;
    edgewright::Picture picture{head[1], head[2], head[3], head[4], {}};
    picture.pixels.resize(static_cast<size_t>(head[1]) * head[2] * head[3]);
    if (std::fread(picture.pixels.data(), picture.pixels.size(), 1, file) != 1) return 2;
    std::vector<uint8_t> output(ewp_output_bytes(&params));
    edgewright::Preprocessor(params, static_cast<edgewright::Alpha>(head[0])).run(picture, output.data());
    std::fwrite(output.data(), output.size(), 1, stdout);
  }
  return 0;
}
