// From the outputs to what an app shows, by the rules of the task.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "app.hpp"
#include "parameters.hpp"

namespace edgewright {
namespace {

using Values = std::vector<double>;

std::vector<int> sort_down(const Values& scores, size_t from) {
  std::vector<int> order(scores.size() - from);
  std::iota(order.begin(), order.end(), static_cast<int>(from));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
  return order;
}

Answer classify(Values scores) {
  if (kAnswer.softmax) {
    const double most = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& one : scores) sum += one = std::exp(one - most);
    for (double& one : scores) one /= sum;
  }
  Answer answer;
  const size_t first = std::min(static_cast<size_t>(kAnswer.first_class), scores.size());
  for (const int one : sort_down(scores, first)) {
    if (answer.best.size() == static_cast<size_t>(kAnswer.most)) break;
    answer.best.push_back({one - static_cast<int>(first), scores[one], 0, 0, 0, 0});
  }
  return answer;
}

// Rows and columns of a matrix of the last two axes, perhaps stored transposed.
struct Table {
  const Values& values;
  size_t rows, columns;
  bool transposed;
  double operator()(size_t row, size_t column) const {
    return transposed ? values[column * rows + row] : values[row * columns + column];
  }
};

Table make_table(const Values& values, int output, bool transposed) {
  const auto& shape = kOutputs[output].source_shape;
  const size_t rank = shape.size();
  size_t columns = rank > 1 ? static_cast<size_t>(shape[rank - 1]) : 1;
  size_t rows = values.size() / columns;
  if (transposed) std::swap(rows, columns);
  return {values, rows, columns, transposed};
}

void set_corners(Scored& box, double a, double b, double c, double d) {
  double x = 1, y = 1;
  if (kAnswer.normalized) x = kAnswer.width, y = kAnswer.height;
  switch (kAnswer.format) {
    case BoxFormat::xyxy: box.left = a, box.top = b, box.right = c, box.bottom = d; break;
    case BoxFormat::yxyx: box.left = b, box.top = a, box.right = d, box.bottom = c; break;
    case BoxFormat::xywh: box.left = a, box.top = b, box.right = a + c, box.bottom = b + d; break;
    case BoxFormat::cxcywh: box.left = a - c / 2, box.top = b - d / 2, box.right = a + c / 2, box.bottom = b + d / 2;
  }
  box.left *= x, box.right *= x, box.top *= y, box.bottom *= y;
}

double overlap(const Scored& a, const Scored& b) {
  const auto area = [](double width, double height) { return std::max(width, 0.0) * std::max(height, 0.0); };
  const double shared = area(std::min(a.right, b.right) - std::max(a.left, b.left),
                             std::min(a.bottom, b.bottom) - std::max(a.top, b.top));
  const double both = area(a.right - a.left, a.bottom - a.top) + area(b.right - b.left, b.bottom - b.top) - shared;
  return both > 0 ? shared / both : 0;
}

std::vector<Scored> suppress(std::vector<Scored> boxes) {
  std::stable_sort(boxes.begin(), boxes.end(), [](const Scored& a, const Scored& b) { return a.score > b.score; });
  std::vector<Scored> kept;
  for (const Scored& box : boxes) {
    if (kept.size() == static_cast<size_t>(kAnswer.most)) break;
    const bool covered = kAnswer.nms_iou < 1 && std::any_of(kept.begin(), kept.end(), [&](const Scored& other) {
      return other.index == box.index && overlap(other, box) > kAnswer.nms_iou;
    });
    if (!covered) kept.push_back(box);
  }
  return kept;
}

Answer detect(const std::vector<Values>& outputs) {
  const Table boxes = make_table(outputs[kAnswer.output], kAnswer.output, kAnswer.columns);
  const bool own = kAnswer.scores >= 0;  // an output of its own has the scores
  Table scores = own ? make_table(outputs[kAnswer.scores], kAnswer.scores, false) : boxes;
  if (own && scores.rows != boxes.rows && scores.columns == boxes.rows) {
    std::swap(scores.rows, scores.columns);
    scores.transposed = true;
  }
  const size_t first = own ? 0 : kAnswer.objectness ? 5 : 4;
  if (boxes.columns < 4 || scores.rows != boxes.rows || scores.columns <= first)
    throw std::runtime_error("the outputs are not boxes with scores");
  std::vector<Scored> found;
  for (size_t row = 0; row < boxes.rows; row++) {
    Scored box{0, -INFINITY, 0, 0, 0, 0};
    const double factor = kAnswer.objectness && !own ? boxes(row, 4) : 1;
    for (size_t column = first; column < scores.columns; column++) {
      const double score = scores(row, column) * factor;
      if (score > box.score) box.score = score, box.index = static_cast<int>(column - first);
      if (kAnswer.classes >= 0) break;  // one score per row
    }
    if (kAnswer.classes >= 0) box.index = static_cast<int>(std::nearbyint(outputs[kAnswer.classes][row]));
    if (!(box.score >= kAnswer.score_threshold)) continue;
    set_corners(box, boxes(row, 0), boxes(row, 1), boxes(row, 2), boxes(row, 3));
    found.push_back(box);
  }
  return {suppress(std::move(found)), {}};
}

Answer embed(Values values) {
  double sum = 0;
  for (const double one : values) sum += one * one;
  if (kAnswer.normalize && sum > 0)
    for (double& one : values) one /= std::sqrt(sum);
  return {{}, std::move(values)};
}

// The best tokens after the last position.
Answer predict(const Values& values) {
  const size_t vocabulary = static_cast<size_t>(kOutputs[kAnswer.output].source_shape.back());
  return classify(Values(values.end() - static_cast<ptrdiff_t>(vocabulary), values.end()));
}

}  // namespace

Answer make_answer(const std::vector<Values>& outputs) {
  switch (kAnswer.kind) {
    case AnswerKind::classification: return classify(outputs[kAnswer.output]);
    case AnswerKind::boxes: return detect(outputs);
    case AnswerKind::embedding: return embed(outputs[kAnswer.output]);
    case AnswerKind::next_token: return predict(outputs[kAnswer.output]);
    default: return {{}, outputs[kAnswer.output]};
  }
}

}  // namespace edgewright
