// Read boxes with Answers.swift: answers CASES prints, for each case, a line of `index score left top right bottom`.
import Foundation

let text = String(decoding: FileManager.default.contents(atPath: CommandLine.arguments[1])!, as: UTF8.self)
for line in text.split(separator: "\n") {
    let w = line.split(separator: " ").map(String.init)
    func name(_ at: Int) -> String { w[at] == "-" ? "" : w[at] }
    let p = BoxParameters(
        outputs: (name(0), name(1), name(2)), format: .init(rawValue: w[3])!, normalized: w[4] == "1", columns: w[5] == "1",
        objectness: w[6] == "1", threshold: Double(w[7])!, overlap: Double(w[8])!, most: Int(w[9])!)
    var outputs: [String: Output] = [:]
    for one in w[10...] {
        let parts = one.split(separator: ":").map { $0.split(separator: ",").map(String.init) }
        outputs[parts[0][0]] = Output(shape: parts[1].map { Int($0)! }, values: parts[2].map { Double($0)! })
    }
    let found = p.read(outputs, [], height: 64, width: 96)
    print(found.map { ([Double($0.index), $0.score] + $0.corners).map { "\($0)" }.joined(separator: " ") }.joined(separator: ";"))
}
