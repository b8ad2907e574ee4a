@preconcurrency import CoreML
@preconcurrency import CoreVideo
import XCTest

@testable import Veca

/// Replays the golden frames on this device and compares with what the float32 model answered.
final class GoldenTests: XCTestCase {
    struct Golden: Decodable {
        struct Output: Decodable {
            let file: String
            let width: Int
        }

        let coreCount: Int
        let width: Int
        let height: Int
        let frames: String
        let frameCount: Int
        /// The patches whose features `dense` holds.
        let patches: [Int]
        let outputs: [String: Output]
        /// How alike the exporting machine's outputs were, the mean cosine or the task's own measure, less some room
        /// for this device's rounding.
        let minimumCosine: Double
    }

    func testEveryVariantAnswersAsTheModelDid() async throws {
        let every = try JSONDecoder().decode([Golden].self, from: try data("golden.json"))
        XCTAssertFalse(every.isEmpty)
        for golden in every {
            let veca = try await Veca(coreCount: golden.coreCount, imageSize: (golden.width, golden.height))
            let pixels = [UInt8](try data(golden.frames))
            let frameSize = golden.width * golden.height * 3
            var alike: [String: [Double]] = [:]
            for frame in 0..<golden.frameCount {
                let start = frame * frameSize
                let buffer = try Self.pixelBuffer(Array(pixels[start..<start + frameSize]), golden.width, golden.height)
                let prediction = try await veca.predict(prepared: Frame(buffer))
                for (name, output) in golden.outputs {
                    let expected = try floats(output.file)
                    let rows = name == "dense" ? golden.patches : [0]
                    let values = try XCTUnwrap(array(name, prediction)).scalars
                    for (place, row) in rows.enumerated() {
                        let at = (frame * rows.count + place) * output.width
                        let wanted = expected[at..<at + output.width]
                        let made = values[row * output.width..<(row + 1) * output.width]
                        alike[name, default: []].append(likeness(name, Array(made), Array(wanted)))
                    }
                }
            }
            for (name, values) in alike {
                let mean = values.reduce(0, +) / Double(values.count)
                XCTAssertGreaterThanOrEqual(mean, golden.minimumCosine, "\(name) at \(golden.coreCount) cores")
            }
        }
    }

    func testHeatLowersTheCoreCount() {
        let most = Veca.coreCounts.last!
        XCTAssertEqual(Veca.coreCount(for: .nominal, wanted: most), most)
        XCTAssertEqual(Veca.coreCount(for: .critical, wanted: most), Veca.coreCounts.first!)
        XCTAssertLessThanOrEqual(Veca.coreCount(for: .serious, wanted: most), most)
    }

    func testAFrameOfAnotherSizeIsFitted() async throws {
        let veca = try await Veca()
        let frame = try Self.pixelBuffer([UInt8](repeating: 128, count: 640 * 480 * 3), 640, 480)
        let prediction = try await veca.predict(Frame(frame))
        let outputs = ["cls", "dense", "logits", "segmentation", "segmentation_logits", "depth"]
        XCTAssertTrue(outputs.contains { array($0, prediction) != nil })
    }

    private func array(_ name: String, _ prediction: Prediction) -> MLShapedArray<Float>? {
        switch name {
        case "cls": return prediction.cls
        case "dense": return prediction.dense
        case "segmentation": return prediction.segmentation
        case "segmentation_logits": return prediction.segmentationLogits
        case "depth": return prediction.depth
        default: return prediction.logits
        }
    }

    private func data(_ file: String) throws -> Data {
        let folder = try XCTUnwrap(Bundle.module.url(forResource: "Golden", withExtension: nil))
        return try Data(contentsOf: folder.appendingPathComponent(file))
    }

    private func floats(_ file: String) throws -> [Float] {
        try data(file).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }

    /// The share of equal labels, 1 less the mean relative difference of depth, or the cosine of vectors.
    private func likeness(_ name: String, _ made: [Float], _ wanted: [Float]) -> Double {
        let pairs = zip(made, wanted)
        switch name {
        case "segmentation":
            return Double(pairs.filter { $0 == $1 }.count) / Double(wanted.count)
        case "depth":
            let differences = pairs.map { Double(abs($0 - $1)) / max(Double(abs($1)), 1e-6) }
            return 1 - differences.reduce(0, +) / Double(wanted.count)
        default:
            return cosine(made, wanted)
        }
    }

    private func cosine(_ a: [Float], _ b: [Float]) -> Double {
        func dot(_ x: [Float], _ y: [Float]) -> Double { zip(x, y).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
        return dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
    }

    /// RGB bytes, row by row, as a BGRA pixel buffer.
    static func pixelBuffer(_ rgb: [UInt8], _ width: Int, _ height: Int) throws -> CVPixelBuffer {
        var made: CVPixelBuffer?
        CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, nil, &made)
        let buffer = try XCTUnwrap(made)
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        let base = try XCTUnwrap(CVPixelBufferGetBaseAddress(buffer)).assumingMemoryBound(to: UInt8.self)
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        for y in 0..<height {
            for x in 0..<width {
                let source = (y * width + x) * 3
                let target = y * stride + x * 4
                base[target] = rgb[source + 2]
                base[target + 1] = rgb[source + 1]
                base[target + 2] = rgb[source]
                base[target + 3] = 255
            }
        }
        return buffer
    }
}
