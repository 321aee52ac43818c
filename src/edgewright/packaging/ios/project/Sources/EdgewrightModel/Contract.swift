// What an app must know about a model; `Parameters.swift` has the generated values.
import EdgewrightCore

/// One input or output as Core ML exchanges it: axis i is the source's axis axes[i].
public struct Tensor: Sendable {
    public let name, source: String
    public let shape, sourceShape, axes: [Int]

    public init(name: String, source: String, shape: [Int], sourceShape: [Int], axes: [Int]) {
        (self.name, self.source, self.shape) = (name, source, shape)
        (self.sourceShape, self.axes) = (sourceShape, axes)
    }

    /// Return an output in the order of the source model.
    public func toSource(_ output: Output) -> Output {
        let moved = axes.map { sourceShape[$0] }
        if axes == Array(axes.indices) { return Output(shape: sourceShape, values: output.values) }
        func step(_ shape: [Int], _ axis: Int) -> Int { shape[(axis + 1)...].reduce(1, *) }
        var values = output.values
        for to in values.indices {
            let places = sourceShape.indices.map { to / step(sourceShape, $0) % sourceShape[$0] }
            values[to] = output.values[axes.indices.reduce(0) { $0 + places[axes[$1]] * step(moved, $1) }]
        }
        return Output(shape: sourceShape, values: values)
    }
}

/// The input that a picture becomes.
public struct ImageTensor: Sendable {
    public let name: String
    public let parameters: ImageParameters

    public init(name: String, parameters: ImageParameters) { (self.name, self.parameters) = (name, parameters) }
}

public struct Contract: Sendable {
    public let sha256: String
    public let inputs, outputs: [Tensor]
    public let image: ImageTensor?
    public let answer: AnswerParameters
    public let labels: [String]

    public init(
        sha256: String, inputs: [Tensor], outputs: [Tensor], image: ImageTensor?, answer: AnswerParameters, labels: [String]
    ) {
        (self.sha256, self.inputs, self.outputs) = (sha256, inputs, outputs)
        (self.image, self.answer, self.labels) = (image, answer, labels)
    }
}
