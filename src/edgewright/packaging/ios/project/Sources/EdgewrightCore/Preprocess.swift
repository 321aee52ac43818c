// Image preprocessing of a task: pixels -> model input, bit-identical to `edgewright evaluate`.

#if canImport(Darwin)
import Darwin
#else
import Glibc
#endif

/// An 8-bit picture, rows from the top.
public struct Frame: Sendable {
    public enum Format: Int, Sendable {
        case gray = 1, rgb = 3, rgba = 4
        /// Of a camera: blue, green, red, alpha.
        case bgra = -4
        var bytes: Int { abs(rawValue) }
    }

    public var width, height: Int
    public var format: Format
    /// EXIF's tag, 1 to 8, which is not applied yet.
    public var orientation: Int
    /// Without gaps between rows.
    public var bytes: [UInt8]

    public init(width: Int, height: Int, format: Format, orientation: Int = 1, bytes: [UInt8]) {
        (self.width, self.height, self.format) = (width, height, format)
        (self.orientation, self.bytes) = (orientation, bytes)
    }
}

/// The fields of an image input in task.toml.
public struct ImageParameters: Sendable {
    public enum Resize: String, Sendable { case shorter, exact, pad, none }
    public enum Interpolation: String, Sendable { case nearest, bilinear, bicubic, lanczos, box, hamming }
    public enum Alpha: String, Sendable { case drop, white, black }
    public enum Color: String, Sendable { case rgb, bgr, gray }

    public var height, width: Int
    public var resize: Resize
    /// Height and width of `resize_to`; 0 without it. `shorter` uses the height.
    public var resizeHeight, resizeWidth: Int
    public var crop: Bool
    public var interpolation: Interpolation
    public var antialias: Bool
    public var padValue: Int
    public var padCenter: Bool
    public var alpha: Alpha
    public var color: Color
    /// Per channel in the order of `color`: (v * scale - mean) / std.
    public var scale, mean, std: [Double]
    /// Channels before rows (NCHW), or after columns (NHWC).
    public var planar: Bool
    /// Pillow 13 and newer: the rows first if the height shrinks by over twice as many pixels as the width.
    public var rowsFirstIfTall: Bool

    public var channels: Int { color == .gray ? 1 : 3 }

    public init(
        size: (height: Int, width: Int), resize: Resize, resizeTo: (height: Int, width: Int), crop: Bool,
        interpolation: Interpolation, antialias: Bool, pad: (value: Int, center: Bool), alpha: Alpha, color: Color,
        scale: [Double], mean: [Double], std: [Double], planar: Bool, rowsFirstIfTall: Bool
    ) {
        (height, width, self.resize) = (size.height, size.width, resize)
        (resizeHeight, resizeWidth, self.crop) = (resizeTo.height, resizeTo.width, crop)
        (self.interpolation, self.antialias, padValue, padCenter) = (interpolation, antialias, pad.value, pad.center)
        (self.alpha, self.color, self.scale, self.mean, self.std) = (alpha, color, scale, mean, std)
        (self.planar, self.rowsFirstIfTall) = (planar, rowsFirstIfTall)
    }
}

public enum PreprocessError: Error, Equatable {
    /// The picture has another size and the task does not resize it.
    case size(width: Int, height: Int)
    /// More than 89,478,485 pixels.
    case tooLarge
}

/// The resized picture, and the corner of the model input in it; negative values are padding.
public struct Placement: Equatable, Sendable {
    public var width, height, left, top: Int
}

private let mostPixels = 89_478_485
private let weightBits = 22
private let half = 1 << (weightBits - 1)

private func even(_ value: Double) -> Double { value.rounded(.toNearestOrEven) }

extension ImageParameters {
    private func resized(_ w: Int, _ h: Int) -> (Int, Int) {
        switch resize {
        case .none: return (w, h)
        case .exact: return resizeHeight > 0 ? (resizeWidth, resizeHeight) : (width, height)
        case .pad:
            let ratio = min(Double(height) / Double(h), Double(width) / Double(w))
            return (max(1, Int(even(Double(w) * ratio))), max(1, Int(even(Double(h) * ratio))))
        case .shorter:
            let side = resizeHeight > 0 ? resizeHeight : min(height, width)
            if w <= h { return (side, Int(Double(side * h) / Double(w))) }
            return (Int(Double(side * w) / Double(h)), side)
        }
    }

    private func cropStart(_ have: Int, _ want: Int) -> Int {
        have >= want ? Int(even(Double(have - want) / 2)) : -((want - have) / 2)
    }

    public func place(width w: Int, height h: Int) throws -> Placement {
        let (toWidth, toHeight) = resized(w, h)
        if max(w * h, toWidth * toHeight) > mostPixels { throw PreprocessError.tooLarge }
        var found = Placement(width: toWidth, height: toHeight, left: 0, top: 0)
        if resize == .pad {
            if padCenter { (found.left, found.top) = (-((width - toWidth) / 2), -((height - toHeight) / 2)) }
        } else if toWidth != width || toHeight != height {
            if !crop || (resize == .none && (toWidth < width || toHeight < height)) {
                throw PreprocessError.size(width: w, height: h)
            }
            (found.left, found.top) = (cropStart(toWidth, width), cropStart(toHeight, height))
        }
        return found
    }
}

/// Source positions and weights of each output position along one axis.
private struct Axis {
    var most = 1
    var first: [Int] = [], count: [Int] = []
    var fixed: [Int] = []
    var real: [Float] = []
    /// Of neighbors: `most` clipped positions; nearest: one, -1 past the end.
    var source: [Int] = []
}

private func cubic(_ value: Double, _ a: Double) -> Double {
    let x = abs(value)
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
}

private func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * Double.pi) / (x * Double.pi) }

extension ImageParameters.Interpolation {
    fileprivate var support: Double {
        switch self {
        case .nearest: return 0
        case .bilinear, .hamming: return 1
        case .bicubic: return 2
        case .lanczos: return 3
        case .box: return 0.5
        }
    }

    fileprivate func weight(_ x: Double) -> Double {
        switch self {
        case .nearest: return 0
        case .bilinear: return abs(x) < 1 ? 1 - abs(x) : 0
        case .bicubic: return cubic(x, -0.5)
        case .lanczos: return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0
        case .box: return x > -0.5 && x <= 0.5 ? 1 : 0
        case .hamming:
            let size = abs(x)
            if size == 0 { return 1 }
            return size >= 1 ? 0 : sin(size * Double.pi) / (size * Double.pi) * (0.54 + 0.46 * cos(size * Double.pi))
        }
    }
}

extension ImageParameters {
    /// Pillow's filters widen with the reduction; their weights have the sum 1 and are stored as 22-bit integers.
    fileprivate func filterAxis(_ have: Int, _ size: Int, _ start: Int, _ count: Int) -> Axis {
        let scale = Double(have) / Double(size), widened = max(scale, 1)
        let support = interpolation.support * widened, inverse = 1 / widened
        var axis = Axis(most: Int(support.rounded(.up)) * 2 + 1)
        axis.fixed = [Int](repeating: 0, count: count * axis.most)
        var row = [Double](repeating: 0, count: axis.most)
        for i in 0..<count {
            let center = (Double(start + i) + 0.5) * scale
            let from = max(Int(center - support + 0.5), 0), to = min(Int(center + support + 0.5), have)
            var sum = 0.0
            for k in 0..<max(0, to - from) {
                row[k] = interpolation.weight((Double(k + from) - center + 0.5) * inverse)
                sum += row[k]
            }
            for k in 0..<max(0, to - from) {
                let weight = (sum != 0 ? row[k] / sum : row[k]) * Double(1 << weightBits)
                axis.fixed[i * axis.most + k] = Int(weight < 0 ? weight - 0.5 : weight + 0.5)
            }
            axis.first.append(from)
            axis.count.append(to - from)
        }
        return axis
    }

    /// Two or four neighbors: half-pixel centers, repeated edges, weights in float32.
    fileprivate func neighborAxis(_ have: Int, _ size: Int, _ start: Int, _ count: Int) -> Axis {
        let four = interpolation == .bicubic, scale = Double(have) / Double(size), a = -0.75
        var axis = Axis(most: four ? 4 : 2)
        func near(_ x: Double) -> Double { ((a + 2) * x - (a + 3)) * x * x + 1 }
        func far(_ x: Double) -> Double { ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
        for i in 0..<count {
            var at = (Double(start + i) + 0.5) * scale - 0.5
            if !four { at = max(at, 0) }
            let floored = at.rounded(.down), t = at - floored
            let weights = four ? [far(t + 1), near(t), near(1 - t), far(2 - t)] : [1 - t, t]
            axis.real += weights.map { Float($0) }
            for k in 0..<axis.most { axis.source.append(min(max(Int(floored) + k - (four ? 1 : 0), 0), have - 1)) }
        }
        return axis
    }

    /// Nearest: positions summed up from half a step, as Pillow does.
    fileprivate func nearestAxis(_ have: Int, _ size: Int, _ start: Int, _ count: Int) -> Axis {
        let step = Double(have) / Double(size)
        var at = step * 0.5, axis = Axis()
        for i in 0..<(start + count) {
            if i >= start { axis.source.append(at < Double(have) ? Int(at) : -1) }
            at += step
        }
        return axis
    }
}

private func toByte(_ sum: Int) -> UInt8 { UInt8(min(max(sum >> weightBits, 0), 255)) }

/// What depends on the size of the frame: the part of the model input that the picture covers, and the weights.
private struct Plan {
    let width, height: Int
    let at: Placement
    let x0, y0, left, top, wide, high: Int
    var x: Axis?, y: Axis?
    var rowsFirst = false

    init(_ p: ImageParameters, _ width: Int, _ height: Int) throws {
        (self.width, self.height) = (width, height)
        at = try p.place(width: width, height: height)
        (x0, y0, left, top) = (max(0, -at.left), max(0, -at.top), max(0, at.left), max(0, at.top))
        wide = max(0, min(at.width - left, p.width - x0))
        high = max(0, min(at.height - top, p.height - y0))
        if (at.width == width && at.height == height) || wide == 0 || high == 0 { return }
        if p.interpolation == .nearest {
            x = p.nearestAxis(width, at.width, left, wide)
            y = p.nearestAxis(height, at.height, top, high)
        } else if !p.antialias {
            x = p.neighborAxis(width, at.width, left, wide)
            y = p.neighborAxis(height, at.height, top, high)
        } else { // a pass that keeps the size is left out
            if at.width != width { x = p.filterAxis(width, at.width, left, wide) }
            if at.height != height { y = p.filterAxis(height, at.height, top, high) }
            let shorter = height - at.height, narrower = width - at.width
            rowsFirst = p.rowsFirstIfTall && x != nil && shorter > 0 && shorter > 2 * narrower
        }
    }

    func run(_ p: ImageParameters, _ pixels: [UInt8], _ c: Int) -> [UInt8] {
        guard let first = x ?? y else { return cut(pixels, c, left, top, wide, high) }
        if p.interpolation == .nearest { return nearest(pixels, c, first, y!) }
        if !p.antialias { return neighbors(pixels, c, first, y!) }
        if rowsFirst { return columns(rows(pixels, width * c, y!, 0), width, high, x!, c) }
        var (from, count) = (top, high)
        if let y {
            from = y.first.min()!
            count = zip(y.first, y.count).map { $0 + $1 }.max()! - from
        }
        let part = x == nil ? cut(pixels, c, left, from, wide, count) : cut(pixels, c, 0, from, width, count)
        let passed = x.map { columns(part, width, count, $0, c) } ?? part
        return y.map { rows(passed, wide * c, $0, from) } ?? passed
    }

    private func cut(_ pixels: [UInt8], _ c: Int, _ x: Int, _ y: Int, _ w: Int, _ h: Int) -> [UInt8] {
        if x == 0, y == 0, w == width, h == height { return pixels }
        var out: [UInt8] = []
        out.reserveCapacity(w * h * c)
        for line in y..<(y + h) {
            let at = (line * width + x) * c
            out += pixels[at..<(at + w * c)]
        }
        return out
    }

    private func columns(_ pixels: [UInt8], _ width: Int, _ rows: Int, _ axis: Axis, _ c: Int) -> [UInt8] {
        let count = axis.first.count
        var out = [UInt8](repeating: 0, count: rows * count * c)
        pixels.withUnsafeBufferPointer { from in
            for y in 0..<rows {
                for x in 0..<count {
                    for k in 0..<c {
                        var sum = half, at = (y * width + axis.first[x]) * c + k
                        for tap in 0..<axis.count[x] {
                            sum += Int(from[at]) * axis.fixed[x * axis.most + tap]
                            at += c
                        }
                        out[(y * count + x) * c + k] = toByte(sum)
                    }
                }
            }
        }
        return out
    }

    /// `skipped` is the number of source rows that `pixels` lacks at its top.
    private func rows(_ pixels: [UInt8], _ cells: Int, _ axis: Axis, _ skipped: Int) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: axis.first.count * cells), sums = [Int](repeating: 0, count: cells)
        pixels.withUnsafeBufferPointer { from in
            for y in axis.first.indices {
                for i in 0..<cells { sums[i] = half }
                for tap in 0..<axis.count[y] {
                    let at = (axis.first[y] + tap - skipped) * cells, weight = axis.fixed[y * axis.most + tap]
                    for i in 0..<cells { sums[i] += Int(from[at + i]) * weight }
                }
                for i in 0..<cells { out[y * cells + i] = toByte(sums[i]) }
            }
        }
        return out
    }

    /// Rows first, sums in float32 in the order of the neighbors, then columns; rounded half to even once.
    private func neighbors(_ pixels: [UInt8], _ c: Int, _ x: Axis, _ y: Axis) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: high * wide * c), row = [Float](repeating: 0, count: width * c)
        for line in 0..<high {
            for i in row.indices { row[i] = 0 }
            for k in 0..<y.most {
                let from = y.source[line * y.most + k] * width * c, weight = y.real[line * y.most + k]
                for i in row.indices {
                    let product = Float(pixels[from + i]) * weight
                    row[i] += product
                }
            }
            for i in 0..<wide {
                for channel in 0..<c {
                    var sum: Float = 0
                    for k in 0..<x.most {
                        let product = row[x.source[i * x.most + k] * c + channel] * x.real[i * x.most + k]
                        sum += product
                    }
                    out[(line * wide + i) * c + channel] = UInt8(min(max(sum.rounded(.toNearestOrEven), 0), 255))
                }
            }
        }
        return out
    }

    private func nearest(_ pixels: [UInt8], _ c: Int, _ x: Axis, _ y: Axis) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: high * wide * c)
        for line in 0..<high where y.source[line] >= 0 {
            for i in 0..<wide where x.source[i] >= 0 {
                for k in 0..<c { out[(line * wide + i) * c + k] = pixels[(y.source[line] * width + x.source[i]) * c + k] }
            }
        }
        return out
    }
}

/// Preprocessing by the parameters of a task. One of them serves frames of any size, for one thread at a time.
public final class Preprocessor {
    public let parameters: ImageParameters
    private var plan: Plan?
    private let table: [[Double]]

    public init(_ parameters: ImageParameters) {
        self.parameters = parameters
        table = (0..<parameters.channels).map { k in
            (0..<256).map { (Double($0) * parameters.scale[k] - parameters.mean[k]) / parameters.std[k] }
        }
    }

    /// Where the last picture is in the model input.
    public var placement: Placement? { plan?.at }

    /// The width and height of the last picture, upright.
    public var uprightSize: (width: Int, height: Int)? { plan.map { ($0.width, $0.height) } }

    /// Return the model input as values of a type. `store` converts a real value, once for each of 256 gray levels.
    public func run<Value>(_ frame: Frame, store: (Double) -> Value) throws -> [Value] {
        let (width, height, pixels) = upright(frame, parameters)
        if plan?.width != width || plan?.height != height { plan = try Plan(parameters, width, height) }
        return write(plan!, plan!.run(parameters, pixels, parameters.channels), table.map { $0.map(store) })
    }

    private func write<Value>(_ plan: Plan, _ image: [UInt8], _ table: [[Value]]) -> [Value] {
        let p = parameters, c = p.channels, step = p.planar ? 1 : c
        var out = [Value](repeating: table[0][0], count: p.height * p.width * c)
        for k in 0..<c {
            let base = p.planar ? k * p.height * p.width : k, from = p.color == .bgr ? 2 - k : k
            let fill = table[k][p.resize == .pad ? p.padValue : 0]
            for i in 0..<(p.height * p.width) { out[base + i * step] = fill }
            for y in 0..<plan.high {
                var to = base + ((plan.y0 + y) * p.width + plan.x0) * step, at = y * plan.wide * c + from
                for _ in 0..<plan.wide {
                    out[to] = table[k][Int(image[at])]
                    to += step
                    at += c
                }
            }
        }
        return out
    }
}

// Pixels

private func upright(_ frame: Frame, _ p: ImageParameters) -> (Int, Int, [UInt8]) {
    let pixels = colors(frame, p), c = p.channels, w = frame.width, h = frame.height
    if frame.orientation == 1 { return (w, h, pixels) }
    let turned = frame.orientation > 4, width = turned ? h : w, height = turned ? w : h
    let mirrorX = [2, 3, 7, 8].contains(frame.orientation), mirrorY = [3, 4, 6, 7].contains(frame.orientation)
    var out = [UInt8](repeating: 0, count: pixels.count), to = 0
    for y in 0..<height {
        for x in 0..<width {
            let across = turned ? y : x, down = turned ? x : y
            let from = ((mirrorY ? h - 1 - down : down) * w + (mirrorX ? w - 1 - across : across)) * c
            for k in 0..<c {
                out[to] = pixels[from + k]
                to += 1
            }
        }
    }
    return (width, height, out)
}

private func colors(_ frame: Frame, _ p: ImageParameters) -> [UInt8] {
    let c = p.channels, step = frame.format.bytes, bytes = frame.bytes
    if frame.format.rawValue == c { return bytes }
    let (red, green, blue) = frame.format == .bgra ? (2, 1, 0) : step == 1 ? (0, 0, 0) : (0, 1, 2)
    var out = [UInt8](repeating: 0, count: frame.width * frame.height * c)
    for i in 0..<(frame.width * frame.height) {
        var pixel = (Int(bytes[i * step + red]), Int(bytes[i * step + green]), Int(bytes[i * step + blue]))
        if step == 4, p.alpha != .drop {
            let alpha = Int(bytes[4 * i + 3]), ground = p.alpha == .white ? 255 : 0
            pixel = (blend(pixel.0, ground, alpha), blend(pixel.1, ground, alpha), blend(pixel.2, ground, alpha))
        }
        if c == 1 { // ITU-R 601 luma
            out[i] = UInt8((pixel.0 * 19595 + pixel.1 * 38470 + pixel.2 * 7471 + 0x8000) >> 16)
        } else {
            (out[3 * i], out[3 * i + 1], out[3 * i + 2]) = (UInt8(pixel.0), UInt8(pixel.1), UInt8(pixel.2))
        }
    }
    return out
}

/// Pillow's alpha_composite on an opaque ground: 7 more bits, division by 255 by shifts.
private func blend(_ value: Int, _ ground: Int, _ alpha: Int) -> Int {
    if alpha == 0 { return ground }
    let sum = value * alpha * 128 + ground * (255 - alpha) * 128 + (0x80 << 7)
    return (((sum >> 8) + sum) >> 8) >> 7
}
