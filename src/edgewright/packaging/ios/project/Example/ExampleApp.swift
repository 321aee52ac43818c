// An app that tests itself first, then reads pictures. Add it to an iOS app of Xcode; README.md says how.
import EdgewrightCore
import EdgewrightModel
import PhotosUI
import SwiftUI

@main
struct ExampleApp: App {
    var body: some Scene { WindowGroup { ExampleView() } }
}

struct ExampleView: View {
    @State private var state = "Testing…"
    @State private var engine: Engine?
    @State private var conditions: Conditions?
    @State private var chosen: PhotosPickerItem?

    var body: some View {
        VStack(spacing: 20) {
            Text(state)
            if engine != nil { PhotosPicker("Picture", selection: $chosen, matching: .images) }
        }
        .padding()
        .task { await start() }
        .onChange(of: chosen) { _ in Task { await readPicture() } }
    }

    private func start() async {
        do {
            let bundle = Bundle.main, contract = Parameters.contract
            guard let golden = bundle.url(forResource: "golden", withExtension: nil),
                  let model = bundle.url(forResource: Parameters.model, withExtension: "mlmodelc") else {
                throw EngineError.missing("the model or the golden vectors")
            }
            let opened = try await Engine(package: model, contract: contract), vectors = try Golden(folder: golden)
            let inputs = try contract.image.map { try vectors.checkInputs($0) } ?? (0, 0)
            let results = try await opened.choose(vectors, cool: Conditions.areLimited)
            let placement = try await opened.readPlacement()
            let lines = results.map { "\($0.units): \($0.equal ? "equal" : "different") \($0.milliseconds) ms \($0.error)" }
            state = (["\(inputs.different) of \(inputs.pictures) inputs differ", "\(placement)"] + lines).joined(separator: "\n")
            conditions = Conditions { if Conditions.areCritical { opened.close() } }
            if inputs.different == 0 { engine = opened }
        } catch { state = "\(error)" }
    }

    private func readPicture() async {
        do {
            guard let data = try await chosen?.loadTransferable(type: Data.self), let picture = UIImage(data: data)?.cgImage,
                  let frame = Frame(picture), let engine else { return }
            state = "\(try await engine.read(frame))"
        } catch { state = "\(error)" }
    }
}

extension Frame {
    /// The pixels of an image, red, green, blue and one byte that is not used.
    init?(_ image: CGImage) {
        var bytes = [UInt8](repeating: 0, count: image.width * image.height * 4)
        let drawn = bytes.withUnsafeMutableBytes { pixels -> Bool in
            guard let context = CGContext(
                data: pixels.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                bytesPerRow: image.width * 4, space: CGColorSpaceCreateDeviceRGB(),
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue) else { return false }
            context.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
            return true
        }
        guard drawn else { return nil }
        self.init(width: image.width, height: image.height, format: .rgba, bytes: bytes)
    }
}
