import XCTest

@testable import Veca

/// Replays the golden vectors: what veca-edge does beside the model, in `Vectors/vectors.json` and its arrays.
final class GoldenVectorsTests: XCTestCase {
    private struct Values: Decodable {
        let file: String, type: String
        let shape: [Int]
    }

    private struct Way: Decodable {
        let resize: String
        let cropRatio: Double
        let interpolation: String
        let padding: [Int]
        let frame: [Int], size: [Int]
    }

    private struct Geometry: Decodable { let cut: [Double], laid: [Double] }
    private struct Pixels: Decodable { let pixels: Values, expected: Values }
    private struct Map: Decodable { let values: Values, expected: Values, tolerance: Float }
    private struct Masks: Decodable {
        let frame: Values, labels: Values, expected: Values
        let colours: [[UInt32]], tolerance: Int
    }
    private struct Depth: Decodable {
        let frame: Values, metres: Values, expected: Values
        let rangeIsGiven: Bool
        let near: Float, far: Float, rangeTolerance: Float
        let tolerance: Int
    }
    private struct Pca: Decodable {
        let features: Values, mean: Values, axes: Values, expected: Values
        let low: [Float], high: [Float]
        let tolerance: Float, basisTolerance: Float
    }
    private struct Classes: Decodable { let logits: [Float], best: [[Double]], tolerance: Double }
    private struct Trace: Decodable {
        let name: String
        let expectedMs: [[Double]], frames: [[Double]]
        let budgetMs: Double?, frameBudgetMs: Double?
        let coreCount: Int
    }
    private struct Governors: Decodable { let rules: [String: Double], traces: [Trace] }
    /// One entry that is read as two things.
    private struct Both<A: Decodable, B: Decodable>: Decodable {
        let a: A, b: B
        init(from decoder: any Decoder) throws { (a, b) = (try A(from: decoder), try B(from: decoder)) }
    }
    private struct Index: Decodable {
        let geometry: [Both<Way, Geometry>]
        let preprocessing: [Both<Way, Pixels>]
        let maps: [Both<Way, Map>]
        let masks: [Masks]
        let depth: [Depth]
        let pca: [Pca]
        let classes: [Classes]
        let governor: Governors
    }

    private static let resizes: [String: Resize] = [
        "crop": .crop, "short-side": .shortSide, "letterbox": .letterbox, "stretch": .stretch,
    ]

    func testFramesGoWhereCalibrationPutThem() throws {
        let cases = try index().geometry
        XCTAssertGreaterThan(cases.count, 100)
        for each in cases {
            let found = FrameGeometry(frame: cgSize(each.a.frame), input: cgSize(each.a.size), try preparation(each.a))
            XCTAssertEqual(FrameGeometry(cut: rect(each.b.cut), laid: rect(each.b.laid)), found, "\(each)")
        }
    }

    func testPixelsAreThoseOfCalibration() throws {
        let cases = try index().preprocessing
        XCTAssertFalse(cases.isEmpty)
        for each in cases {
            let (width, height) = (each.a.frame[1], each.a.frame[0])
            let frame = try GoldenTests.pixelBuffer(try bytes(each.b.pixels), width, height)
            let preparer = FramePreparer(width: each.a.size[1], height: each.a.size[0], try preparation(each.a))
            for _ in 0..<2 {  // with new tables, and with those that it kept
                let found = try XCTUnwrap(Picture(Frame(try preparer.prepared(frame))))
                XCTAssertEqual([found.height, found.width], each.a.size)
                assertEqual(try bytes(each.b.expected), found.rgb, 0)
            }
        }
    }

    func testMapsLieOnTheFrame() throws {
        for each in try index().maps {
            let shape = each.b.values.shape
            let map = FrameMap(
                frame: (each.a.frame[1], each.a.frame[0]), input: (each.a.size[1], each.a.size[0]),
                rows: shape[0], columns: shape[1], try preparation(each.a))
            if each.b.values.type == "f32" {
                let found = map.values(try floats(each.b.values), channels: shape.count > 2 ? shape[2] : 1)
                assertEqual(try floats(each.b.expected), found, each.b.tolerance, "\(each)")
            } else {
                XCTAssertEqual(try labels(each.b.expected), map.labels(try labels(each.b.values)), "\(each)")
            }
        }
    }

    func testMasksAreTinted() throws {
        for each in try index().masks {
            let palette = each.colours.map { $0.reduce(0) { $0 << 8 | $1 } }
            let found = Overlay.masks(try bytes(each.frame), try labels(each.labels), palette: palette)
            assertEqual(try bytes(each.expected), found, each.tolerance)
        }
    }

    func testDepthIsTinted() throws {
        for each in try index().depth {
            let metres = try floats(each.metres)
            var range = DepthRange(near: each.near, far: each.far)
            if !each.rangeIsGiven {
                range = try XCTUnwrap(DepthRange(of: metres))
                XCTAssertEqual(range.near, each.near, accuracy: each.rangeTolerance)
                XCTAssertEqual(range.far, each.far, accuracy: each.rangeTolerance)
            }
            let painted = Overlay.depth(try bytes(each.frame), metres, range: range)
            assertEqual(try bytes(each.expected), painted, each.tolerance)
        }
    }

    func testPatchesHaveTheirColours() throws {
        for each in try index().pca {
            let (features, mean, axes) = (try floats(each.features), try floats(each.mean), try floats(each.axes))
            let columns = (0..<3).map { c in mean.indices.map { axes[$0 * 3 + c] } }
            let given = PatchBasis(mean: mean, axes: columns, low: each.low, high: each.high)
            assertEqual(try floats(each.expected), given.colours(features), each.tolerance, "given axes")
            let found = PatchBasis(of: features, width: mean.count)
            assertEqual(mean, found.mean, each.basisTolerance, "mean")
            for c in 0..<3 {
                assertEqual(columns[c], found.axes[c], each.basisTolerance, "axis \(c)")
                XCTAssertEqual(each.low[c], found.low[c], accuracy: 100 * each.basisTolerance)
                XCTAssertEqual(each.high[c], found.high[c], accuracy: 100 * each.basisTolerance)
            }
        }
    }

    func testLikelyClassesAreNamed() throws {
        for each in try index().classes {
            let found = LikelyClass.top(each.logits, labels: [])
            XCTAssertEqual(found.map(\.name), each.best.map { String(Int($0[0])) })
            for (a, b) in zip(found, each.best) { XCTAssertEqual(a.share, b[1], accuracy: each.tolerance) }
        }
    }

    func testTheGovernorChoosesAsRecorded() throws {
        let governors = try index().governor
        let (rules, said) = (Rules(), governors.rules)
        let ours = [
            "interval": rules.interval, "burst": Double(rules.burst), "burst_misses": Double(rules.burstMisses),
            "window": Double(rules.window), "miss_share": rules.missShare, "least": Double(rules.least),
            "room": rules.room, "probation": rules.probation, "backoff": rules.backoff,
            "longest_backoff": rules.longestBackoff, "relief": rules.relief, "usual": rules.usual,
        ]
        XCTAssertEqual(ours, said)
        XCTAssertFalse(governors.traces.isEmpty)
        for trace in governors.traces {
            let expected = Dictionary(uniqueKeysWithValues: trace.expectedMs.map { (Int($0[0]), $0[1]) })
            var governor = Governor(
                expected: expected, budget: trace.budgetMs ?? .infinity, coreCount: trace.coreCount,
                frameBudget: trace.frameBudgetMs ?? .infinity)
            for (i, frame) in trace.frames.enumerated() {
                let next = governor.observe(at: Int(frame[0]), latency: frame[1], now: frame[2], before: frame[4])
                XCTAssertEqual(next, Int(frame[3]), "\(trace.name), frame \(i)")
            }
        }
    }

    func testHeatTakesCoresAndABudgetMoves() {
        var control = CoreControl(coreCounts: [8, 16, 32], coreCount: 32)
        control.heat = .serious
        XCTAssertEqual(control.coreCount, 16)
        control.heat = .critical
        XCTAssertEqual(control.coreCount, 8)
        control.followsHeat = false
        XCTAssertEqual(control.coreCount, 32)
        control.choose(.budget(18))
        for i in 0..<20 { control.observe(at: 32, latency: 28, now: Double(i) / 10) }
        XCTAssertEqual(control.coreCount, 32, "nobody has said yet what the others take")
        control.expect([8: 16, 16: 20, 32: 28])
        for i in 0..<20 { control.observe(at: control.coreCount, latency: 28, now: Double(i) / 10) }
        XCTAssertEqual(control.coreCount, 8)
        control.choose(.fixed(16))
        XCTAssertEqual(control.coreCount, 16)
    }

    func testABudgetIsHeldWhileItIsHot() {
        let takes = [8: 16.0, 16: 20.0, 32: 28.0]
        var control = CoreControl(coreCounts: [8, 16, 32], coreCount: 32)
        control.expect(takes)
        control.choose(.budget(33))
        for i in 0..<20 {
            control.observe(at: control.coreCount, latency: takes[control.coreCount]!, now: Double(i) / 10)
        }
        XCTAssertEqual(control.coreCount, 32)
        control.heat = .serious
        XCTAssertEqual(control.coreCount, 16)
        for i in 20..<80 {
            control.observe(at: control.coreCount, latency: 1.8 * takes[control.coreCount]!, now: Double(i) / 10)
        }
        XCTAssertEqual(control.coreCount, 8, "16 cores take 36 ms of 33 now, 8 take 29")
        control.heat = .nominal
        for i in 80..<4000 {
            control.observe(at: control.coreCount, latency: takes[control.coreCount]!, now: Double(i) / 10)
        }
        XCTAssertEqual(control.coreCount, 32)
    }

    // MARK: reading

    private func index() throws -> Index { try JSONDecoder().decode(Index.self, from: try data("vectors.json")) }

    private func data(_ file: String) throws -> Data {
        let folder = try XCTUnwrap(Bundle.module.url(forResource: "Vectors", withExtension: nil))
        return try Data(contentsOf: folder.appendingPathComponent(file))
    }

    private func bytes(_ values: Values) throws -> [UInt8] { [UInt8](try data(values.file)) }

    private func floats(_ values: Values) throws -> [Float] {
        try data(values.file).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }

    /// Labels of either type, with -1 for no class.
    private func labels(_ values: Values) throws -> [Int32] {
        if values.type == "u8" { return try bytes(values).map { $0 == 255 ? -1 : Int32($0) } }
        return try data(values.file).withUnsafeBytes { Array($0.bindMemory(to: Int32.self)) }
    }

    private func preparation(_ way: Way) throws -> Preparation {
        let padding = (red: way.padding[0], green: way.padding[1], blue: way.padding[2])
        let resize = try XCTUnwrap(Self.resizes[way.resize])
        // Of maps it says how their cells are joined.
        let interpolation: Interpolation = way.interpolation == "bicubic-antialiased" ? .bicubic : .halved
        return Preparation(
            resize: resize, cropRatio: CGFloat(way.cropRatio), interpolation: interpolation, padding: padding)
    }

    private func cgSize(_ size: [Int]) -> CGSize { CGSize(width: CGFloat(size[1]), height: CGFloat(size[0])) }

    private func rect(_ box: [Double]) -> CGRect {
        CGRect(x: CGFloat(box[0]), y: CGFloat(box[1]), width: CGFloat(box[2]), height: CGFloat(box[3]))
    }

    private func assertEqual(_ expected: [UInt8], _ found: [UInt8], _ tolerance: Int, line: UInt = #line) {
        XCTAssertEqual(expected.count, found.count, line: line)
        let worst = zip(expected, found).map { abs(Int($0) - Int($1)) }.max() ?? 0
        XCTAssertLessThanOrEqual(worst, tolerance, line: line)
    }

    private func assertEqual(
        _ expected: [Float], _ found: [Float], _ tolerance: Float, _ about: String, line: UInt = #line
    ) {
        XCTAssertEqual(expected.count, found.count, about, line: line)
        for (a, b) in zip(expected, found) where !(a.isNaN && b.isNaN) {
            XCTAssertEqual(a, b, accuracy: tolerance, about, line: line)
        }
    }
}
