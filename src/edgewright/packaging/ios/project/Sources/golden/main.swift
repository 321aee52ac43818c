// golden GOLDEN [MODEL]: check preprocessing, and with Core ML the outputs, by the golden vectors. One line of JSON;
// exit code 0 if all is equal, else 1.
import EdgewrightModel
import Foundation

let arguments = CommandLine.arguments
guard arguments.count > 1 else {
    FileHandle.standardError.write(Data("golden GOLDEN [MODEL.mlpackage]\n".utf8))
    exit(2)
}
do {
    let golden = try Golden(folder: URL(fileURLWithPath: arguments[1])), contract = Parameters.contract
    guard golden.sha256 == contract.sha256 else { throw CocoaError(.fileReadCorruptFile) }
    let (pictures, different) = try contract.image.map { try golden.checkInputs($0) } ?? (0, 0)
    var equal = different == 0, units = "null"
    #if canImport(CoreML)
    if arguments.count > 2 {
        let engine = try await Engine(package: URL(fileURLWithPath: arguments[2]), contract: contract)
        let results = try await engine.choose(golden)
        let placement = try await engine.readPlacement().map { "\"\($0.key)\":\($0.value)" }.sorted()
        units = "[" + results.map { "{\"units\":\"\($0.units)\",\"equal\":\($0.equal),\"ms\":\($0.milliseconds.isFinite ? String($0.milliseconds) : "null")}" }
            .joined(separator: ",") + "],\"placement\":{" + placement.joined(separator: ",") + "}"
        equal = equal && results.contains { $0.equal }
    }
    #endif
    print("{\"equal\":\(equal),\"inputs_bitwise\":\(different == 0),\"pictures\":\(pictures),\"units\":\(units)}")
    exit(equal ? 0 : 1)
} catch {
    FileHandle.standardError.write(Data("the golden vectors cannot be checked: \(error)\n".utf8))
    exit(1)
}
