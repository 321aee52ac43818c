// Golden vectors: pictures, and the inputs and outputs that follow from them.
import EdgewrightCore
import Foundation

public struct Golden: Sendable {
    public struct Sample: Sendable {
        public let frame: Frame?
        public let inputs: [String: [Float]]
        public let outputs: [String: [Double]]
    }

    public let sha256: String
    public let tolerance: [String: Double]
    public let samples: [Sample]

    private struct Manifest: Decodable {
        struct Tensor: Decodable { let dtype: String }
        struct Sample: Decodable {
            let picture: String?
            let width, height, channels, orientation: Int
            let inputs, outputs: [String: String]
        }
        let sha256: String
        let inputs, outputs: [String: Tensor]
        let tolerance: [String: Double]
        let samples: [Sample]
    }

    /// Read the folder `golden` of the project.
    public init(folder: URL) throws {
        func read(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: folder.appendingPathComponent(name))) }
        let manifest = try JSONDecoder().decode(Manifest.self, from: Data(try read("manifest.json")))
        (sha256, tolerance) = (manifest.sha256, manifest.tolerance)
        samples = try manifest.samples.map { one in
            let frame = try one.picture.map {
                Frame(width: one.width, height: one.height, format: Frame.Format(rawValue: one.channels)!,
                      orientation: one.orientation, bytes: try read($0))
            }
            let inputs = try one.inputs.mapValues { toFloats(try read($0)) }
            return Sample(frame: frame, inputs: inputs, outputs: try one.outputs.mapValues { toFloats(try read($0)).map(Double.init) })
        }
    }

    /// The largest absolute difference; infinity if sizes differ, or one value is not a number.
    public static func compare(_ a: [Double], _ b: [Double]) -> Double {
        if a.count != b.count { return .infinity }
        return zip(a, b).reduce(0) { worst, pair in
            let (x, y) = pair, same = x == y || (x.isNaN && y.isNaN), apart = abs(x - y)
            return max(worst, same ? 0 : apart.isNaN ? .infinity : apart)
        }
    }

    /// Return the number of pictures, and of those whose input differs from the golden one in any bit.
    public func checkInputs(_ image: ImageTensor) throws -> (pictures: Int, different: Int) {
        let preprocessor = Preprocessor(image.parameters), drawn = samples.filter { $0.frame != nil }
        let different = try drawn.filter { sample in
            let got = try preprocessor.run(sample.frame!) { Float($0) }
            return got.map(\.bitPattern) != sample.inputs[image.name]?.map(\.bitPattern)
        }
        return (drawn.count, different.count)
    }
}

/// Little-endian bytes -> float32.
private func toFloats(_ bytes: [UInt8]) -> [Float] {
    stride(from: 0, to: bytes.count - 3, by: 4).map { at in
        Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[at + $1]) << (8 * $1) })
    }
}
