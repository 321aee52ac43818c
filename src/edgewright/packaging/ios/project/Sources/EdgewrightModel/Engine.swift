// The model in Core ML, on the fastest compute units that reproduce the golden vectors.
#if canImport(CoreML)
import CoreML
import EdgewrightCore
import Foundation

public enum EngineError: Error {
    case missing(String)
    case notEqual([UnitResult])
}

/// The result of the golden vectors on some compute units.
public struct UnitResult: Sendable {
    public let units: String
    public let equal: Bool
    /// Largest absolute difference of each output.
    public let worst: [String: Double]
    public let milliseconds: Double
    public let error: String
}

/// A model in Core ML. All its work runs on a queue of its own; `close` frees its memory.
public final class Engine: @unchecked Sendable {
    public static let order: [(name: String, units: MLComputeUnits)] = [
        ("all", .all), ("cpuAndNeuralEngine", .cpuAndNeuralEngine), ("cpuAndGPU", .cpuAndGPU), ("cpuOnly", .cpuOnly),
    ]

    private let contract: Contract
    private let compiled: URL
    private let queue = DispatchQueue(label: "edgewright.engine", qos: .userInitiated)
    private let preprocessor: Preprocessor?
    private var model: MLModel?
    private var units = MLComputeUnits.cpuOnly
    private var monitor = Monitor()

    /// Compile a model, once: the result stays in the caches folder under the model's hash.
    public init(package: URL, contract: Contract) async throws {
        self.contract = contract
        preprocessor = contract.image.map { Preprocessor($0.parameters) }
        let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask)[0]
        let kept = caches.appendingPathComponent("edgewright-\(contract.sha256.prefix(16)).mlmodelc")
        if package.pathExtension == "mlmodelc" {
            compiled = package
        } else {
            if !FileManager.default.fileExists(atPath: kept.path) {
                let fresh = try await MLModel.compileModel(at: package)
                try FileManager.default.moveItem(at: fresh, to: kept)
            }
            compiled = kept
        }
    }

    /// Use the fastest units that reproduce the golden vectors, and return the results of all. Throws without any.
    /// In low-power mode or when hot, `cool` tries only the CPU and the Neural Engine.
    public func choose(_ golden: Golden, cool: Bool = false) async throws -> [UnitResult] {
        var results: [UnitResult] = []
        let tried = cool ? Engine.order.filter { $0.name.hasPrefix("cpuAndNeural") || $0.name == "cpuOnly" } : Engine.order
        for (name, units) in tried {
            do {
                try await open(units)
                results.append(try await test(golden, name))
            } catch {
                results.append(UnitResult(units: name, equal: false, worst: [:], milliseconds: .infinity, error: "\(error)"))
            }
        }
        let fastest = results.filter(\.equal).min { $0.milliseconds < $1.milliseconds }
        guard let fastest, let chosen = tried.first(where: { $0.name == fastest.units }) else {
            close()
            throw EngineError.notEqual(results)
        }
        try await open(chosen.units)
        return results
    }

    private func open(_ units: MLComputeUnits) async throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        let opened = try await MLModel.load(contentsOf: compiled, configuration: configuration)
        queue.sync { (model, self.units) = (opened, units) }
    }

    private func test(_ golden: Golden, _ name: String) async throws -> UnitResult {
        var worst: [String: Double] = [:], times: [Double] = []
        for sample in golden.samples {
            let began = DispatchTime.now().uptimeNanoseconds, got = try await predict(sample.inputs)
            times.append(Double(DispatchTime.now().uptimeNanoseconds - began) / 1e6)
            for (output, wanted) in sample.outputs {
                let apart = Golden.compare(got[output]?.values ?? [], wanted)
                worst[output] = max(worst[output] ?? 0, apart)
            }
        }
        let equal = worst.allSatisfy { $0.value <= golden.tolerance[$0.key] ?? 0 }
        return UnitResult(units: name, equal: equal, worst: worst, milliseconds: times.sorted()[times.count / 2], error: "")
    }

    /// Free the model's memory; `choose` opens it again.
    public func close() { queue.sync { model = nil } }

    /// Run the model on inputs by their names in the artifact, off the main thread.
    public func predict(_ inputs: [String: [Float]]) async throws -> [String: Output] {
        try await withCheckedThrowingContinuation { done in
            queue.async { done.resume(with: Result { try self.run(inputs) }) }
        }
    }

    private func run(_ inputs: [String: [Float]]) throws -> [String: Output] {
        guard let model else { throw EngineError.missing("the model is not open") }
        var features: [String: Any] = [:]
        for tensor in contract.inputs {
            guard let values = inputs[tensor.name] else { throw EngineError.missing(tensor.name) }
            let array = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: .float32)
            for (i, value) in values.enumerated() { array[i] = NSNumber(value: value) }
            features[tensor.name] = MLFeatureValue(multiArray: array)
        }
        let results = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: features))
        var outputs: [String: Output] = [:]
        for tensor in contract.outputs {
            guard let array = results.featureValue(for: tensor.name)?.multiArrayValue else { throw EngineError.missing(tensor.name) }
            let values = (0..<array.count).map { array[$0].doubleValue }
            outputs[tensor.name] = Output(shape: array.shape.map(\.intValue), values: values)
        }
        return outputs
    }

    /// Return what a picture shows, and the latency so far.
    public func read(_ frame: Frame) async throws -> (answer: Answer, monitor: Monitor) {
        try await withCheckedThrowingContinuation { done in
            queue.async { done.resume(with: Result { try self.readNow(frame) }) }
        }
    }

    private func readNow(_ frame: Frame) throws -> (answer: Answer, monitor: Monitor) {
        guard let image = contract.image, let preprocessor else { throw EngineError.missing("an image input") }
        var marks = [DispatchTime.now().uptimeNanoseconds]
        func mark() { marks.append(DispatchTime.now().uptimeNanoseconds) }
        let values = try preprocessor.run(frame) { Float($0) }
        mark()
        let outputs = try run([image.name: values])
        mark()
        let named = Dictionary(uniqueKeysWithValues: contract.outputs.map { ($0.source, $0.toSource(outputs[$0.name]!)) })
        let answer = contract.answer.read(named, contract.labels, image: preprocessor)
        mark()
        let names = ["preprocess", "inference", "postprocess"]
        monitor.add(Dictionary(uniqueKeysWithValues: zip(names, zip(marks, marks.dropFirst()).map { Double($1 - $0) / 1e6 })))
        return (answer, monitor)
    }

    /// Return how many operations each compute device is preferred for; empty before iOS 17.4 and macOS 14.4.
    public func readPlacement() async throws -> [String: Int] {
        guard #available(iOS 17.4, macOS 14.4, *) else { return [:] }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        let plan = try await MLComputePlan.load(contentsOf: compiled, configuration: configuration)
        guard case .program(let program) = plan.modelStructure, let main = program.functions["main"] else { return [:] }
        var found: [String: Int] = [:]
        for operation in main.block.operations {
            guard let device = plan.deviceUsage(for: operation)?.preferred else { continue }
            switch device {
            case .cpu: found["CPU", default: 0] += 1
            case .gpu: found["GPU", default: 0] += 1
            case .neuralEngine: found["Neural Engine", default: 0] += 1
            @unknown default: found["other", default: 0] += 1
            }
        }
        return found
    }
}
#endif
