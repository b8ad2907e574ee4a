// A stand-in for Core ML on Linux, a test double: the part of its interface that a veca-edge Swift package uses, with
// the signatures, defaults, async overloads and (non-)Sendable types of the iOS 18 / macOS 15 SDK.
// Predictions are made by veca-edge's own executor of saved packages: VECA_STAND_IN_EXECUTOR names the program that
// is started as `executor MODEL [FUNCTION]` and speaks the protocol of executor.py.
// What begins with an underscore is not Core ML's; tests use it.
@_exported import CoreVideo

public enum MLComputeUnits: Int, Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }
public enum MLMultiArrayDataType: Int, Sendable { case double, float32, float16, int32 }

public class MLModelConfiguration: NSObject {
    public var computeUnits: MLComputeUnits = .all
    @available(macOS 15.0, iOS 18.0, *)
    public var functionName: String? {
        get { _functionName }
        set { _functionName = newValue }
    }
    var _functionName: String?
}
public class MLPredictionOptions: NSObject {}

public class MLMultiArray: NSObject {
    public let shape: [NSNumber]
    public let dataType = MLMultiArrayDataType.float32
    let scalars: [Float]
    init(shape: [Int], scalars: [Float]) {
        self.shape = shape.map { NSNumber(value: $0) }
        self.scalars = scalars
    }
}

public class MLFeatureValue: NSObject {
    let image: CVPixelBuffer?, array: MLMultiArray?, string: String?
    init(image: CVPixelBuffer? = nil, array: MLMultiArray? = nil, string: String? = nil) {
        (self.image, self.array, self.string) = (image, array, string)
    }
    public convenience init(pixelBuffer value: CVPixelBuffer) { self.init(image: value) }
    public convenience init(string value: String) { self.init(string: Optional(value)) }
    public var multiArrayValue: MLMultiArray? { array }
    public var imageBufferValue: CVPixelBuffer? { image }
    public var stringValue: String { string ?? "" }
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    public let dictionary: [String: MLFeatureValue]
    public init(dictionary: [String: Any]) throws {
        self.dictionary = dictionary.mapValues { $0 as! MLFeatureValue }
    }
    public var featureNames: Set<String> { Set(dictionary.keys) }
    public func featureValue(for featureName: String) -> MLFeatureValue? { dictionary[featureName] }
}

public protocol MLShapedArrayScalar { static func _from(_ value: Float) -> Self }
extension Float: MLShapedArrayScalar { public static func _from(_ value: Float) -> Float { value } }

public protocol MLShapedArrayProtocol<Scalar> {
    associatedtype Scalar: MLShapedArrayScalar
    var shape: [Int] { get }
    var scalars: [Scalar] { get set }
    init(converting multiArray: MLMultiArray)
}

public struct MLShapedArray<Scalar>: MLShapedArrayProtocol, @unchecked Sendable where Scalar: MLShapedArrayScalar {
    public let shape: [Int]
    public var scalars: [Scalar]
    public init(converting multiArray: MLMultiArray) {
        shape = multiArray.shape.map(\.intValue)
        scalars = multiArray.scalars.map(Scalar._from)
    }
}

public struct MLStandInError: Error, CustomStringConvertible { public let description: String }

/// Not Sendable: MLModel.h does not say so, and Apple's documentation lists no such conformance.
public class MLModel: NSObject {
    nonisolated(unsafe) public static var _willLoad: (@Sendable (_ function: String?) async -> Void)?
    nonisolated(unsafe) public static var _didCompile: (@Sendable () async -> Void)?

    private let executor: Executor
    init(_ executor: Executor) { self.executor = executor }

    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel {
        guard url.pathExtension == "mlmodelc" else {
            throw MLStandInError(description: "\(url.lastPathComponent) is not a compiled model")
        }
        let function = configuration._functionName
        await _willLoad?(function)
        return MLModel(try Executor(url, function))
    }

    /// "Compiled" is a copy in a temporary place, which the caller moves, as Core ML's is.
    public class func compileModel(at url: URL) async throws -> URL {
        let name = "\(url.deletingPathExtension().lastPathComponent)_\(UUID().uuidString).mlmodelc"
        let made = FileManager.default.temporaryDirectory.appendingPathComponent(name)
        try FileManager.default.copyItem(at: url, to: made)
        await _didCompile?()
        return made
    }

    public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        try prediction(from: input, options: MLPredictionOptions())
    }

    public func prediction(from input: any MLFeatureProvider, options: MLPredictionOptions) throws -> any MLFeatureProvider {
        guard let frame = input.featureValue(for: "image")?.imageBufferValue else {
            throw MLStandInError(description: "no image among \(input.featureNames)")
        }
        return try MLDictionaryFeatureProvider(dictionary: try executor.predict(frame))
    }

    @available(macOS 14.0, iOS 17.0, *)
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        guard let frame = input.featureValue(for: "image")?.imageBufferValue else {
            throw MLStandInError(description: "no image among \(input.featureNames)")
        }
        return try MLDictionaryFeatureProvider(dictionary: try executor.predict(frame))
    }
}

/// One Python process per loaded model, from its first frame on: a line of JSON describes what follows, both ways.
final class Executor {
    private struct Hello: Decodable { let width: Int, height: Int }
    private struct Output: Decodable { let name: String, shape: [Int]?, text: String? }
    private let process = Process(), requests = Pipe(), replies = Pipe()
    private let lock = NSLock()
    private var size: Hello?

    init(_ url: URL, _ function: String?) throws {
        guard let executor = ProcessInfo.processInfo.environment["VECA_STAND_IN_EXECUTOR"] else {
            throw MLStandInError(description: "VECA_STAND_IN_EXECUTOR is not set")
        }
        process.executableURL = URL(fileURLWithPath: executor)
        process.arguments = [url.path] + (function.map { [$0] } ?? [])
        process.standardInput = requests
        process.standardOutput = replies
    }

    private func started() throws -> Hello {
        if let size { return size }
        try process.run()
        let made = try Self.line(replies, Hello.self)
        size = made
        return made
    }

    deinit { try? requests.fileHandleForWriting.close() }

    func predict(_ frame: CVPixelBuffer) throws -> [String: MLFeatureValue] {
        lock.lock()
        defer { lock.unlock() }
        let (width, height) = (try started().width, try started().height)
        guard (CVPixelBufferGetWidth(frame), CVPixelBufferGetHeight(frame)) == (width, height) else {
            throw MLStandInError(description: "the model takes \(width)x\(height)")
        }
        let stride = CVPixelBufferGetBytesPerRow(frame)
        var rgb = [UInt8]()
        rgb.reserveCapacity(width * height * 3)
        for y in 0..<height {
            for x in 0..<width {
                let at = frame._base.assumingMemoryBound(to: UInt8.self) + y * stride + x * 4
                rgb += [at[2], at[1], at[0]]
            }
        }
        try requests.fileHandleForWriting.write(contentsOf: Data(rgb))
        var values: [String: MLFeatureValue] = [:]
        for output in try Self.line(replies, [Output].self) {
            if let text = output.text { values[output.name] = MLFeatureValue(string: text) }
            guard let shape = output.shape else { continue }
            let bytes = try Self.read(replies, shape.reduce(1, *) * 4)
            let scalars = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            values[output.name] = MLFeatureValue(array: MLMultiArray(shape: shape, scalars: scalars))
        }
        return values
    }

    private static func read(_ pipe: Pipe, _ count: Int) throws -> Data {
        var made = Data()
        while made.count < count {
            guard let more = try pipe.fileHandleForReading.read(upToCount: count - made.count), !more.isEmpty else {
                throw MLStandInError(description: "the executor ended")
            }
            made += more
        }
        return made
    }

    private static func line<T: Decodable>(_ pipe: Pipe, _ type: T.Type) throws -> T {
        var text = Data()
        while true {
            let byte = try read(pipe, 1)
            if byte[byte.startIndex] == 10 { break }
            text += byte
        }
        return try JSONDecoder().decode(type, from: text)
    }
}
