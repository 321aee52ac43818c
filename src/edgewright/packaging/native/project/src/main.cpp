// NAME MODEL FILE.ppm|FILE.pgm|/dev/videoN ...: print one JSON line for each picture or frame.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "app.hpp"
#include "parameters.hpp"
#ifdef __linux__
#include "camera.hpp"
#endif

namespace edgewright {
namespace {

volatile std::sig_atomic_t stopped = 0;

class App {
 public:
  explicit App(const std::string& model) : engine_(open_engine(model)), preprocessor_(kPreprocessing, kAlpha) {
    if (kImageInput < 0 || kInputs.size() != 1)
      throw std::runtime_error("this program shows models with one image input; use App's parts for others");
    prepared_.resize(kInputs[0].count() * size_of(kInputs[0].source_type));
    values_.resize(kOutputs.size());
  }

  template <typename Image>
  Answer run(const Image& image) {
    preprocessor_.run(image, prepared_.data());
    store(kInputs[0], prepared_.data(), engine_->input(0));
    engine_->run();
    for (size_t i = 0; i < kOutputs.size(); i++) read_output(kOutputs[i], engine_->output(i), values_[i]);
    return make_answer(values_);
  }

 private:
  std::unique_ptr<Engine> engine_;
  Preprocessor preprocessor_;
  std::vector<uint8_t> prepared_;
  std::vector<std::vector<double>> values_;
};

// A binary PPM (color) or PGM (gray) with 8 bits.
Picture read_picture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int most = 0;
  Picture picture;
  const auto skip = [&] {
    while (file >> std::ws && file.peek() == '#') file.ignore(1 << 16, '\n');
  };
  file >> kind;
  for (int* one : {&picture.width, &picture.height, &most}) {
    skip();
    file >> *one;
  }
  file.get();
  picture.channels = kind == "P5" ? 1 : 3;
  if (!file || (kind != "P5" && kind != "P6") || most != 255 || picture.width < 1 || picture.height < 1)
    throw std::runtime_error(path + " is not a binary PPM or PGM file with 8 bits");
  picture.pixels.assign(std::istreambuf_iterator<char>(file), {});
  picture.pixels.resize(static_cast<size_t>(picture.width) * picture.height * picture.channels);
  return picture;
}

void print_text(const std::string& text) {
  std::putchar('"');
  for (const char one : text) {
    if (one == '"' || one == '\\') std::putchar('\\');
    if (static_cast<unsigned char>(one) < 0x20) std::printf("\\u%04x", one);
    else std::putchar(one);
  }
  std::putchar('"');
}

void print_answer(const std::string& source, const Answer& answer, double microseconds) {
  std::printf("{\"source\":");
  print_text(source);
  std::printf(",\"best\":[");
  for (size_t i = 0; i < answer.best.size(); i++) {
    const Scored& one = answer.best[i];
    std::printf("%s{\"index\":%d,\"label\":", i ? "," : "", one.index);
    print_text(static_cast<size_t>(one.index) < kLabels.size() ? kLabels[static_cast<size_t>(one.index)] : "");
    std::printf(",\"score\":%.9g", one.score);
    if (kAnswer.kind == AnswerKind::boxes)
      std::printf(",\"box\":[%.9g,%.9g,%.9g,%.9g]", one.left, one.top, one.right, one.bottom);
    std::printf("}");
  }
  std::printf("],\"numbers\":[");
  for (size_t i = 0; i < answer.numbers.size(); i++) std::printf("%s%.9g", i ? "," : "", answer.numbers[i]);
  std::printf("],\"microseconds\":%.0f}\n", microseconds);
  std::fflush(stdout);
}

template <typename Image>
void show(App& app, const std::string& source, const Image& image) {
  const auto began = std::chrono::steady_clock::now();
  const Answer answer = app.run(image);
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
  print_answer(source, answer, took.count());
}

void watch(App& app, const std::string& device) {
#ifdef __linux__
  Camera camera(device, 1280, 720);
  while (!stopped) show(app, device, camera.read());
#else
  (void)app;
  throw std::runtime_error(device + ": cameras are read on Linux only");
#endif
}

}  // namespace
}  // namespace edgewright

int main(int count, char** words) {
  using namespace edgewright;
  if (count < 3) {
    std::fprintf(stderr, "usage: %s MODEL FILE.ppm|FILE.pgm|/dev/videoN ...\n", words[0]);
    return 2;
  }
  std::signal(SIGINT, [](int) { stopped = 1; });
  std::signal(SIGTERM, [](int) { stopped = 1; });
  try {
    App app(words[1]);
    for (int i = 2; i < count && !stopped; i++) {
      const std::string source = words[i];
      if (source.rfind("/dev/", 0) == 0) watch(app, source);
      else show(app, source, read_picture(source));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", words[0], error.what());
    return 1;
  }
  return 0;
}
