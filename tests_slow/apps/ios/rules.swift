// Compare Preprocess.swift with the reference: rules CASES PIXELS INPUTS prints the numbers of the cases that differ.
import Foundation

func numbers(_ text: Substring) -> [Double] { text.split(separator: ",").map { Double($0)! } }
let files = CommandLine.arguments.dropFirst().map { FileManager.default.contents(atPath: $0)! }
let pixels = [UInt8](files[1]), inputs = [UInt8](files[2])
var read = 0, wanted = 0, different: [Int] = []
for (index, line) in String(decoding: files[0], as: UTF8.self).split(separator: "\n").enumerated() {
    let w = line.split(separator: " ")
    func int(_ at: Int) -> Int { Int(w[at])! }
    let p = ImageParameters(
        size: (int(5), int(6)), resize: .init(rawValue: String(w[7]))!, resizeTo: (int(8), int(9)), crop: int(10) == 1,
        interpolation: .init(rawValue: String(w[11]))!, antialias: int(12) == 1, pad: (int(13), int(14) == 1),
        alpha: .init(rawValue: String(w[15]))!, color: .init(rawValue: String(w[16]))!,
        scale: numbers(w[17]), mean: numbers(w[18]), std: numbers(w[19]), planar: int(20) == 1, rowsFirstIfTall: int(21) == 1)
    let count = int(0) * int(1) * int(2)
    let frame = Frame(width: int(0), height: int(1), format: .init(rawValue: int(2))!, orientation: int(3),
                      bytes: Array(pixels[read..<(read + count)]))
    let want = Array(inputs[wanted..<(wanted + int(4))])
    (read, wanted) = (read + count, wanted + int(4))
    do {
        let got = try Preprocessor(p).run(frame) { Float($0) }
        if got.withUnsafeBytes({ Array($0) }) != want { different.append(index) }
    } catch is PreprocessError {
        if !want.isEmpty { different.append(index) }
    }
}
print(different)
