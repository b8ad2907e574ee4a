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
