// Signatures of Core ML that the generated code uses, as Apple's documentation gives them: for type checks, not to run.
@_exported import Foundation

public enum MLComputeUnits: Int, Sendable { case cpuOnly = 0, cpuAndGPU = 1, all = 2, cpuAndNeuralEngine = 3 }
public enum MLMultiArrayDataType: Int { case double = 65600, float32 = 65568, float16 = 65552, int32 = 131104 }

open class MLModelConfiguration: NSObject {
    open var computeUnits: MLComputeUnits = .all
}

open class MLMultiArray: NSObject {
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {}
    open var shape: [NSNumber] { [] }
    open var count: Int { 0 }
    open subscript(_ index: Int) -> NSNumber { get { 0 } set {} }
}

open class MLFeatureValue: NSObject {
    public convenience init(multiArray value: MLMultiArray) { self.init() }
    open var multiArrayValue: MLMultiArray? { nil }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    public init(dictionary: [String: Any]) throws {}
    open var featureNames: Set<String> { [] }
    open func featureValue(for featureName: String) -> MLFeatureValue? { nil }
}

open class MLModel: NSObject, @unchecked Sendable {
    public class func compileModel(at url: URL) async throws -> URL { url }
    public class func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLModel { MLModel() }
    open func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider { fatalError() }
}

public class MLCPUComputeDevice: NSObject {}
public class MLGPUComputeDevice: NSObject {}
public class MLNeuralEngineComputeDevice: NSObject {}
public enum MLComputeDevice {
    case cpu(MLCPUComputeDevice), gpu(MLGPUComputeDevice), neuralEngine(MLNeuralEngineComputeDevice)
}

public enum MLModelStructure {
    public struct NeuralNetwork {}
    public struct Pipeline {}
    public struct Program {
        public struct Operation {}
        public struct Block { public let operations: [Operation] }
        public struct Function { public let block: Block }
        public let functions: [String: Function]
    }
    case neuralNetwork(NeuralNetwork), program(Program), pipeline(Pipeline), unsupported
}

public class MLComputePlan {
    public struct DeviceUsage { public let supported: [MLComputeDevice], preferred: MLComputeDevice }
    public let modelStructure = MLModelStructure.unsupported
    public class func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLComputePlan { fatalError() }
    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? { nil }
}
