// Postprocessing of a task: outputs of the source model -> what an app shows.

#if canImport(Darwin)
import Darwin
#else
import Glibc
#endif

public struct FoundClass: Equatable, Sendable {
    public let index: Int
    public let label: String
    public let score: Double
}

public struct FoundBox: Equatable, Sendable {
    public let index: Int
    public let label: String
    public let score: Double
    /// Left, top, right and bottom.
    public var corners: [Double]
}

/// One output in the order of the source model.
public struct Output: Sendable {
    public var shape: [Int]
    public var values: [Double]

    public init(shape: [Int], values: [Double]) { (self.shape, self.values) = (shape, values) }

    /// Rows of the last two axes.
    func rows(columns: Bool) -> [[Double]] {
        let (count, wide) = shape.count > 1 ? (shape[shape.count - 2], shape[shape.count - 1]) : (values.count, 1)
        if columns { return (0..<wide).map { i in (0..<count).map { values[$0 * wide + i] } } }
        return (0..<count).map { Array(values[($0 * wide)..<(($0 + 1) * wide)]) }
    }
}

public struct ClassificationParameters: Sendable {
    public var output: String
    public var softmax: Bool
    public var top, firstClass: Int

    public init(output: String, softmax: Bool, top: Int, firstClass: Int) {
        (self.output, self.softmax, self.top, self.firstClass) = (output, softmax, top, firstClass)
    }
}

public struct BoxParameters: Sendable {
    public enum Format: String, Sendable { case xyxy, yxyx, xywh, cxcywh }
    /// Names of outputs; empty without one.
    public var boxes, scores, classes: String
    public var format: Format
    public var normalized, columns, objectness: Bool
    public var threshold, overlap: Double
    public var most: Int

    public init(
        outputs: (boxes: String, scores: String, classes: String), format: Format, normalized: Bool, columns: Bool,
        objectness: Bool, threshold: Double, overlap: Double, most: Int
    ) {
        (boxes, scores, classes, self.format) = (outputs.boxes, outputs.scores, outputs.classes, format)
        (self.normalized, self.columns, self.objectness) = (normalized, columns, objectness)
        (self.threshold, self.overlap, self.most) = (threshold, overlap, most)
    }
}

/// What the outputs of a model mean.
public enum AnswerParameters: Sendable {
    case classification(ClassificationParameters)
    case regression(output: String, unit: String)
    case embedding(output: String, normalize: Bool)
    case boxes(BoxParameters)
}

public enum Answer: Equatable, Sendable {
    case classes([FoundClass])
    case values([Double], unit: String)
    case vector([Double])
    case boxes([FoundBox])
}

/// The shares of scores, the largest score subtracted.
public func computeShares(_ scores: [Double]) -> [Double] {
    let top = scores.max() ?? 0, powers = scores.map { exp($0 - top) }, sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
}

/// The positions of the largest values, of equal ones the first; NaN last.
public func findTop(_ values: [Double], _ count: Int) -> [Int] {
    func key(_ i: Int) -> Double { values[i].isNaN ? -Double.infinity : values[i] }
    let sorted = values.indices.sorted { key($0) == key($1) ? $0 < $1 : key($0) > key($1) }
    return Array(sorted.prefix(count))
}

extension ClassificationParameters {
    func read(_ output: Output, _ labels: [String]) -> [FoundClass] {
        var scores = Array(output.values.dropFirst(firstClass))
        if scores.count == 1 { // that of the second of two classes
            let share = softmax ? 1 / (1 + exp(-scores[0])) : scores[0]
            scores = [1 - share, share]
        } else if softmax {
            scores = computeShares(scores)
        }
        return findTop(scores, top).map { FoundClass(index: $0, label: name($0, labels), score: scores[$0]) }
    }
}

private func name(_ index: Int, _ labels: [String]) -> String {
    labels.indices.contains(index) ? labels[index] : String(index)
}

extension BoxParameters {
    /// Boxes in pixels of the model's input, highest score first, after non-maximum suppression per class.
    public func read(_ outputs: [String: Output], _ labels: [String], height: Int, width: Int) -> [FoundBox] {
        let rows = outputs[boxes]!.rows(columns: columns), table = readScores(rows, outputs)
        let known = classes.isEmpty ? nil : outputs[classes]!.values
        let (x, y) = normalized ? (Double(width), Double(height)) : (1, 1)
        var found: [FoundBox] = []
        for (row, scores) in zip(rows.indices, table) {
            let best = known == nil ? findTop(scores, 1)[0] : 0
            if !(scores[best] >= threshold) { continue }
            let corners = toCorners(rows[row]), index = known.map { Int($0[row].rounded(.toNearestOrEven)) } ?? best
            let scaled = [corners[0] * x, corners[1] * y, corners[2] * x, corners[3] * y]
            found.append(FoundBox(index: index, label: name(index, labels), score: scores[best], corners: scaled))
        }
        let order = found.indices.sorted { found[$0].score == found[$1].score ? $0 < $1 : found[$0].score > found[$1].score }
        return suppress(order.map { found[$0] })
    }

    private func readScores(_ rows: [[Double]], _ outputs: [String: Output]) -> [[Double]] {
        if !scores.isEmpty {
            let table = outputs[scores]!.rows(columns: false)
            return table.count != rows.count && table.first?.count == rows.count ? outputs[scores]!.rows(columns: true) : table
        }
        return rows.map { row in objectness ? row.dropFirst(5).map { $0 * row[4] } : Array(row.dropFirst(4)) }
    }

    private func toCorners(_ row: [Double]) -> [Double] {
        let (a, b, c, d) = (row[0], row[1], row[2], row[3])
        switch format {
        case .xyxy: return [a, b, c, d]
        case .yxyx: return [b, a, d, c]
        case .xywh: return [a, b, a + c, b + d]
        case .cxcywh: return [a - c / 2, b - d / 2, a + c / 2, b + d / 2]
        }
    }

    private func suppress(_ found: [FoundBox]) -> [FoundBox] {
        if overlap >= 1 { return Array(found.prefix(most)) }
        var kept: [FoundBox] = []
        for box in found where kept.count < most {
            if kept.allSatisfy({ $0.index != box.index || computeOverlap($0.corners, box.corners) <= overlap }) { kept.append(box) }
        }
        return kept
    }
}

private func computeOverlap(_ a: [Double], _ b: [Double]) -> Double {
    let wide = max(0, min(a[2], b[2]) - max(a[0], b[0])), high = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    func area(_ box: [Double]) -> Double { max(0, box[2] - box[0]) * max(0, box[3] - box[1]) }
    let union = area(a) + area(b) - wide * high
    return union > 0 ? wide * high / union : 0
}

extension Placement {
    /// From pixels of the model's input to those of the upright picture.
    public func toPicture(_ corners: [Double], width w: Int, height h: Int) -> [Double] {
        corners.enumerated().map { i, value in
            let across = i % 2 == 0, size = Double(across ? w : h), resized = Double(across ? width : height)
            return min(max((value + Double(across ? left : top)) * size / resized, 0), size)
        }
    }
}

extension AnswerParameters {
    /// `outputs`: by the source's names. `image`: the preprocessor of the picture, for boxes.
    public func read(_ outputs: [String: Output], _ labels: [String], image: Preprocessor?) -> Answer {
        switch self {
        case .classification(let p): return .classes(p.read(outputs[p.output]!, labels))
        case .regression(let output, let unit): return .values(outputs[output]!.values, unit: unit)
        case .embedding(let output, let normalize):
            let values = outputs[output]!.values
            let norm = normalize ? values.reduce(0) { $0 + $1 * $1 }.squareRoot() : 1
            return .vector(values.map { norm > 0 ? $0 / norm : 0 })
        case .boxes(let p):
            let size = image.map { ($0.parameters.height, $0.parameters.width) } ?? (1, 1)
            var found = p.read(outputs, labels, height: size.0, width: size.1)
            if let at = image?.placement, let upright = image?.uprightSize {
                for i in found.indices {
                    found[i].corners = at.toPicture(found[i].corners, width: upright.width, height: upright.height)
                }
            }
            return .boxes(found)
        }
    }
}

/// Latency by phase of the last inferences.
public struct Monitor: Sendable {
    private var phases: [String: [Double]] = [:]
    public private(set) var count = 0

    public init() {}

    /// Add the milliseconds of one inference by phase.
    public mutating func add(_ times: [String: Double]) {
        count += 1
        for (phase, time) in times { phases[phase] = (phases[phase] ?? []).suffix(199) + [time] }
    }

    /// The median and the 95 % quantile of a phase; nil before the first inference.
    public func read(_ phase: String) -> (median: Double, p95: Double)? {
        guard let sorted = phases[phase]?.sorted(), !sorted.isEmpty else { return nil }
        return (sorted[sorted.count / 2], sorted[min(sorted.count - 1, sorted.count * 95 / 100)])
    }
}
