@preconcurrency import CoreML
import CoreImage
import XCTest

@testable import Veca

/// What the golden tests can't show, because it takes stand-ins that wait and look: only for Linux.
final class StandInTests: XCTestCase {
    override func tearDown() {
        MLModel._willLoad = nil
        MLModel._didCompile = nil
    }

    func testOfOverlappingUsesTheLastDecides() async throws {
        let counts = Veca.coreCounts
        for last in [counts[2], counts[0]] {
            let veca = try await Veca(coreCount: counts[0])
            let begun = AsyncStream<Void>.makeStream(), allowed = AsyncStream<Void>.makeStream()
            MLModel._willLoad = { function in
                guard function == "cores_\(counts[1])" else { return }
                begun.continuation.finish()
                for await _ in allowed.stream {}
            }
            async let slow: Void = veca.use(coreCount: counts[1])
            for await _ in begun.stream {}
            try await veca.use(coreCount: last)
            allowed.continuation.finish()
            try await slow
            let loaded = await veca.coreCount
            XCTAssertEqual(loaded, last)
        }
    }

    func testTwoFirstLoadsLeaveNoTemporaryModel() async throws {
        let files = FileManager.default
        let caches = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        for model in try compiledModels(caches) { try files.removeItem(at: caches.appendingPathComponent(model)) }
        let both = AsyncStream<Void>.makeStream()
        let compiled = Counter()
        MLModel._didCompile = {
            if await compiled.next() == 2 { both.continuation.finish() }
            for await _ in both.stream {}
        }
        async let one = Veca()
        async let other = Veca()
        _ = try await (one, other)
        XCTAssertEqual(try compiledModels(caches).count, 1)
        XCTAssertEqual(try compiledModels(files.temporaryDirectory), [])
    }

    func testTheEdgesOfAFittedFrameKeepTheirColour() throws {
        let variant = Variant.all[0]
        for (width, height) in [(variant.width * 3, variant.height * 3), (640, 480), (480, 640), (101, 67)] {
            let grey = [UInt8](repeating: 200, count: width * height * 3)
            let fitted = try variant.fitted(try GoldenTests.pixelBuffer(grey, width, height), CIContext())
            XCTAssertEqual(CVPixelBufferGetWidth(fitted), variant.width)
            XCTAssertEqual(CVPixelBufferGetHeight(fitted), variant.height)
            let base = try XCTUnwrap(CVPixelBufferGetBaseAddress(fitted)).assumingMemoryBound(to: UInt8.self)
            for y in 0..<variant.height {
                for x in 0..<variant.width {
                    XCTAssertEqual(base[y * CVPixelBufferGetBytesPerRow(fitted) + x * 4], 200, "\(width)x\(height): \(x), \(y)")
                }
            }
        }
    }

    /// `geometries.json` is what veca-edge does with the same frames.
    func testFramesGoWhereCalibrationPutThem() throws {
        struct Case: Decodable {
            let resize: String
            let ratio: Double
            let frame, input: [Double]
            /// Left, top, width and height of the scaled frame in the input; for `crop`, of its box.
            let laid: [Double]
            /// The input's left, top, right and bottom edge in the frame.
            let seen: [Double]
        }
        let kinds: [String: Resize] = ["crop": .crop, "short-side": .shortSide, "letterbox": .letterbox, "stretch": .stretch]
        let folder = try XCTUnwrap(Bundle.module.url(forResource: "Golden", withExtension: nil))
        let data = try Data(contentsOf: folder.appendingPathComponent("geometries.json"))
        let cases = try JSONDecoder().decode([Case].self, from: data)
        XCTAssertGreaterThan(cases.count, 100)
        for each in cases {
            let geometry = FrameGeometry(
                frame: CGSize(width: each.frame[1], height: each.frame[0]),
                input: CGSize(width: each.input[1], height: each.input[0]),
                Preparation(resize: try XCTUnwrap(kinds[each.resize]), cropRatio: each.ratio))
            let (x, y) = (geometry.scaleX, geometry.scaleY)
            let seen = [
                -geometry.left / x, -geometry.top / y,
                (each.input[1] - geometry.left) / x, (each.input[0] - geometry.top) / y,
            ]
            // `crop` cuts whole pixels of the frame, and Core Image whole ones of the scaled frame.
            let within = each.resize == "crop" ? 1 + 1 / min(x, y) : 1e-6
            for (a, b) in zip(seen, each.seen) { XCTAssertEqual(a, b, accuracy: within, "\(each): \(seen)") }
            if each.resize != "crop" {
                XCTAssertEqual([geometry.left, geometry.top, geometry.width, geometry.height], each.laid)
            }
        }
    }

    func testALetterboxedFrameHasPaddingBesideIt() throws {
        let variant = Variant.all[0]
        let (width, height) = (variant.width * 4, variant.height)
        let grey = [UInt8](repeating: 200, count: width * height * 3)
        let letterbox = Preparation(resize: .letterbox, padding: (124, 116, 104))
        let fitted = try variant.fitted(try GoldenTests.pixelBuffer(grey, width, height), CIContext(), letterbox)
        let base = try XCTUnwrap(CVPixelBufferGetBaseAddress(fitted)).assumingMemoryBound(to: UInt8.self)
        let rows = (0..<variant.height).map { y -> [UInt8] in
            (0..<3).map { base[y * CVPixelBufferGetBytesPerRow(fitted) + 4 + $0] }
        }
        let seen = variant.height / 4, top = (variant.height - seen) / 2
        for (y, row) in rows.enumerated() {
            XCTAssertEqual(row, y >= top && y < top + seen ? [200, 200, 200] : [104, 116, 124], "row \(y)")
        }
    }

    func testAnUnpreparedFrameIsRefused() async throws {
        let veca = try await Veca()
        let frame = try GoldenTests.pixelBuffer([UInt8](repeating: 128, count: 640 * 480 * 3), 640, 480)
        do {
            _ = try await veca.predict(prepared: Frame(frame))
            XCTFail("a frame of 640 x 480 was taken")
        } catch VecaError.notPrepared(let width, let height) {
            XCTAssertEqual([width, height], [Variant.all[0].width, Variant.all[0].height])
        }
    }

    private func compiledModels(_ folder: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".mlmodelc") }
    }
}

private actor Counter {
    private var count = 0
    func next() -> Int {
        count += 1
        return count
    }
}
