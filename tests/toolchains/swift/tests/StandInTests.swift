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

    /// Where pixels go, and their channels. The stand-in for Core Image blurs more than it has to, by up to 12 levels on
    /// average (swapped channels are 28 or more), and blurs frames that are enlarged so much that they say nothing.
    func testFittedFramesAreThoseOfCalibration() throws {
        struct Pixels: Decodable { let file: String }
        struct Case: Decodable {
            let resize: String
            let cropRatio: Double
            let padding: [Double]
            let frame: [Int], size: [Int]
            let pixels: Pixels, expected: Pixels
        }
        struct Index: Decodable { let preprocessing: [Case] }
        let kinds: [String: Resize] = ["crop": .crop, "short-side": .shortSide, "letterbox": .letterbox, "stretch": .stretch]
        let folder = try XCTUnwrap(Bundle.module.url(forResource: "Vectors", withExtension: nil))
        let read = { (file: String) in try Data(contentsOf: folder.appendingPathComponent(file)) }
        let variant = Variant.all[0]
        let cases = try JSONDecoder().decode(Index.self, from: try read("vectors.json")).preprocessing
            .filter { $0.size == [variant.height, variant.width] && $0.frame[0] * $0.frame[1] < 40_000 }
            .filter { $0.frame[0] >= variant.height && $0.frame[1] >= variant.width }
        XCTAssertGreaterThan(cases.count, 10)
        for each in cases {
            let (frame, expected) = ([UInt8](try read(each.pixels.file)), [UInt8](try read(each.expected.file)))
            let padding = (red: CGFloat(each.padding[0]), green: CGFloat(each.padding[1]), blue: CGFloat(each.padding[2]))
            let how = Preparation(
                resize: try XCTUnwrap(kinds[each.resize]), cropRatio: CGFloat(each.cropRatio), padding: padding)
            let buffer = try GoldenTests.pixelBuffer(frame, each.frame[1], each.frame[0])
            let fitted = Frame(try variant.fitted(buffer, CIContext(), how))
            let found = try XCTUnwrap(Picture(fitted)).rgb
            let off = zip(found, expected).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) } / expected.count
            XCTAssertLessThanOrEqual(off, 12, "\(each.resize) \(each.cropRatio) of \(each.frame)")
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
