// golden FOLDER MODEL: run the golden vectors, print one JSON line, and exit with 0 if all are equal, else 1.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "app.hpp"
#include "json.hpp"
#include "parameters.hpp"

namespace edgewright {
namespace {

struct Outcome {
  bool equal = true, inputs_bitwise = true;
  double max_abs = 0, microseconds = 0;
  size_t samples = 0, pictures = 0;
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string read_tensor(const std::string& folder, const std::string& name, const TensorInfo& tensor) {
  std::string data = read_file(folder + "/" + name);
  if (data.size() != tensor.bytes()) throw std::runtime_error(name + " does not have the size of " + tensor.name);
  return data;
}

void prepare(Preprocessor& preprocessor, const std::string& folder, const Json& sample, Engine& engine, Outcome& outcome) {
  std::vector<uint8_t> prepared;
  for (size_t i = 0; i < kInputs.size(); i++) {
    const TensorInfo& tensor = kInputs[i];
    const std::string wanted = read_tensor(folder, sample["inputs"][tensor.name].text, tensor);
    if (static_cast<int>(i) != kImageInput || sample["picture"].kind != Json::Kind::text) {
      std::memcpy(engine.input(i), wanted.data(), wanted.size());
      continue;
    }
    const std::string pixels = read_file(folder + "/" + sample["picture"].text);
    Picture picture{sample["width"].integer(), sample["height"].integer(), sample["channels"].integer(),
                    sample["orientation"].integer(), {pixels.begin(), pixels.end()}};
    prepared.resize(tensor.count() * size_of(tensor.source_type));
    preprocessor.run(picture, prepared.data());
    store(tensor, prepared.data(), engine.input(i));
    if (std::memcmp(engine.input(i), wanted.data(), wanted.size()) != 0) outcome.inputs_bitwise = outcome.equal = false;
    outcome.pictures++;
  }
}

void compare(const std::string& folder, const Json& manifest, const Json& sample, Engine& engine, Outcome& outcome) {
  for (size_t i = 0; i < kOutputs.size(); i++) {
    const TensorInfo& tensor = kOutputs[i];
    const std::string wanted = read_tensor(folder, sample["outputs"][tensor.name].text, tensor);
    const double tolerance = manifest["tolerance"][tensor.name].number;
    for (size_t at = 0; at < tensor.count(); at++) {
      const double a = read_element(tensor.type, wanted.data(), at), b = read_element(tensor.type, engine.output(i), at);
      if (a == b || (std::isnan(a) && std::isnan(b))) continue;
      const double difference = std::fabs(a - b);
      outcome.max_abs = std::isfinite(difference) ? std::max(outcome.max_abs, difference) : INFINITY;
      if (!(difference <= tolerance)) outcome.equal = false;
    }
  }
}

Outcome run(const std::string& folder, const std::string& model) {
  const std::string text = read_file(folder + "/manifest.json");
  const Json manifest = JsonReader(text).read();
  if (manifest["sha256"].text != kModelHash) throw std::runtime_error("the golden vectors are of another artifact");
  const auto engine = open_engine(model);
  Preprocessor preprocessor(kPreprocessing, kAlpha);
  Outcome outcome;
  for (const Json& sample : manifest["samples"].items) {
    prepare(preprocessor, folder, sample, *engine, outcome);
    const auto began = std::chrono::steady_clock::now();
    engine->run();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    outcome.microseconds += took.count();
    compare(folder, manifest, sample, *engine, outcome);
    outcome.samples++;
  }
  if (outcome.samples == 0) throw std::runtime_error("there are no golden vectors");
  return outcome;
}

const char* word(bool value) { return value ? "true" : "false"; }

}  // namespace
}  // namespace edgewright

int main(int count, char** words) {
  using namespace edgewright;
  if (count != 3) {
    std::fprintf(stderr, "usage: golden FOLDER MODEL\n");
    return 2;
  }
  try {
    const Outcome o = run(words[1], words[2]);
    char worst[32] = "null";  // JSON has no infinity
    if (std::isfinite(o.max_abs)) std::snprintf(worst, sizeof worst, "%.9g", o.max_abs);
    std::printf("{\"equal\":%s,\"inputs_bitwise\":%s,\"max_abs\":%s,\"samples\":%zu,\"pictures\":%zu,"
                "\"mean_us\":%.1f,\"runtime\":\"%s\",\"sha256\":\"%s\"}\n",
                word(o.equal), word(o.inputs_bitwise), worst, o.samples, o.pictures, o.microseconds / o.samples,
                describe_runtime().c_str(), kModelHash);
    return o.equal ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "golden: %s\n", error.what());
    std::printf("{\"equal\":false,\"inputs_bitwise\":false,\"max_abs\":null}\n");
    return 1;
  }
}
