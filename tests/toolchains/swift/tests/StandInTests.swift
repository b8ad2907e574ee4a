@preconcurrency import CoreML
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

    /// The stand-in for Core Image knows one other format.
    func testAFrameInAnotherFormatAnswersAsIn32BGRA() async throws {
        let (veca, size) = (try await Veca(), 64)
        let rgb = (0..<size * size * 3).map { UInt8($0 % 251) }
        let wanted = try await veca.predict(Frame(try GoldenTests.pixelBuffer(rgb, size, size)))
        var made: CVPixelBuffer?
        CVPixelBufferCreate(nil, size, size, kCVPixelFormatType_32RGBA, nil, &made)
        let other = try XCTUnwrap(made)
        let base = try XCTUnwrap(CVPixelBufferGetBaseAddress(other)).assumingMemoryBound(to: UInt8.self)
        for (i, value) in rgb.enumerated() {
            base[i / 3 / size * CVPixelBufferGetBytesPerRow(other) + i / 3 % size * 4 + i % 3] = value
        }
        let found = try await veca.predict(Frame(other))
        XCTAssertEqual(found.dense?.scalars ?? found.cls?.scalars, wanted.dense?.scalars ?? wanted.cls?.scalars)
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
