import CoreImage
@preconcurrency import CoreML
@preconcurrency import CoreVideo
import Foundation
import os

/// A pixel buffer that is handed to a `Veca`, which runs elsewhere.
///
/// Swift can't know that nobody writes to a camera's buffer after its delegate has returned, so code in Swift 6 mode
/// may not send the buffer itself. Wrapping it is the promise: until the prediction has returned, nobody writes to it.
///
///     func captureOutput(_: AVCaptureOutput, didOutput sample: CMSampleBuffer, from _: AVCaptureConnection) {
///         guard let buffer = CMSampleBufferGetImageBuffer(sample) else { return }
///         let frame = Frame(buffer)
///         Task { show(try await veca.predict(frame)) }
///     }
public struct Frame: @unchecked Sendable {
    public let pixelBuffer: CVPixelBuffer

    public init(_ pixelBuffer: CVPixelBuffer) {
        self.pixelBuffer = pixelBuffer
    }
}

/// What the model says of one frame. Outputs that were not exported are nil.
public struct Prediction: Sendable {
    /// The feature of the whole image, `[1, width]`.
    public let cls: MLShapedArray<Float>?
    /// One feature per patch, row by row, `[1, patches, width]`.
    public let dense: MLShapedArray<Float>?
    /// Class scores before softmax, `[1, classes]`.
    public let logits: MLShapedArray<Float>?
    /// The most likely class of a classifier.
    public let label: String?
    /// The class of every square of pixels, `[1, rows, columns]`.
    public let segmentation: MLShapedArray<Float>?
    /// Class scores of every patch, `[1, classes, rows, columns]`.
    public let segmentationLogits: MLShapedArray<Float>?
    /// Metres, for every square of pixels, `[1, rows, columns]`.
    public let depth: MLShapedArray<Float>?

    init(_ features: MLFeatureProvider) {
        func array(_ name: String) -> MLShapedArray<Float>? {
            features.featureValue(for: name)?.multiArrayValue.map { MLShapedArray(converting: $0) }
        }
        cls = array("cls")
        dense = array("dense")
        logits = array("logits")
        label = features.featureValue(for: "label")?.stringValue
        segmentation = array("segmentation")
        segmentationLogits = array("segmentation_logits")
        depth = array("depth")
    }
}

public enum VecaError: Error {
    /// No variant has this core count, or this image size.
    case unknownVariant(coreCount: Int, known: [Int])
    /// The model is not among the package's resources.
    case missingModel(String)
    /// A pixel buffer of the model's size could not be made.
    case pixelBuffer(CVReturn)
    /// A frame that was said to be prepared is not 32BGRA of this size.
    case notPrepared(width: Int, height: Int)
}

/// A vision transformer whose number of core tokens can change while it runs.
///
///     let veca = try await Veca(coreCount: 32)
///     let prediction = try await veca.predict(pixelBuffer)
///
/// One variant is in memory at a time, and two while the core count changes.
public actor Veca {
    /// The core counts in this package, fewest first.
    public static let coreCounts = Set(Variant.all.map(\.coreCount)).sorted()

    /// Width and height of the image that the model takes.
    public nonisolated let inputSize: (width: Int, height: Int)

    /// The core count of the variant that is loaded.
    public var coreCount: Int { variant.coreCount }

    private let computeUnits: MLComputeUnits
    private let preparer: FramePreparer
    private lazy var context = CIContext(options: [.workingColorSpace: NSNull()])
    private var variant: Variant
    private var model: MLModel
    private var wanted: Int
    private var changes = 0

    /// Loads a variant. The first load on a device takes longest: the system then prepares the model for it.
    public init(
        coreCount: Int = Variant.defaultCoreCount,
        imageSize: (width: Int, height: Int) = (Variant.all[0].width, Variant.all[0].height),
        computeUnits: MLComputeUnits = .all
    ) async throws {
        let variant = try Variant.find(coreCount: coreCount, width: imageSize.width, height: imageSize.height)
        self.model = try await variant.load(computeUnits)
        self.variant = variant
        self.inputSize = imageSize
        self.preparer = FramePreparer(width: imageSize.width, height: imageSize.height)
        self.wanted = coreCount
        self.computeUnits = computeUnits
    }

    /// Runs the model on a camera frame of any size, which is brought to the model's size as in calibration: to the
    /// bit in 32BGRA, which others become first.
    public func predict(_ frame: CVPixelBuffer) async throws -> Prediction {
        try await predict(fitted: try preparer.prepared(try inBGRA(frame)))
    }

    private func inBGRA(_ frame: CVPixelBuffer) throws -> CVPixelBuffer {
        if CVPixelBufferGetPixelFormatType(frame) == kCVPixelFormatType_32BGRA { return frame }
        let image = CIImage(cvPixelBuffer: frame)
        let made = try Self.pixelBuffer(CVPixelBufferGetWidth(frame), CVPixelBufferGetHeight(frame))
        context.render(image, to: made, bounds: image.extent, colorSpace: nil)
        return made
    }

    /// Runs the model on a frame that has been brought to the model's size already: 32BGRA of just that size.
    public func predict(prepared frame: Frame) async throws -> Prediction {
        guard variant.isFitting(frame.pixelBuffer) else {
            throw VecaError.notPrepared(width: variant.width, height: variant.height)
        }
        return try await predict(fitted: frame.pixelBuffer)
    }

    private func predict(fitted: CVPixelBuffer) async throws -> Prediction {
        let image = MLFeatureValue(pixelBuffer: fitted)
        let input = try MLDictionaryFeatureProvider(dictionary: ["image": image])
        return Prediction(try await model.prediction(from: input))
    }

    /// Runs the model on a camera frame that another thread hands over.
    public func predict(_ frame: Frame) async throws -> Prediction {
        try await predict(frame.pixelBuffer)
    }

    /// A frame of the model's size with nothing in it, to measure with.
    nonisolated func blankFrame() throws -> Frame { Frame(try Self.pixelBuffer(inputSize.width, inputSize.height)) }

    static func pixelBuffer(_ width: Int, _ height: Int) throws -> CVPixelBuffer {
        var made: CVPixelBuffer?
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey: [String: Any]()] as CFDictionary
        let status = CVPixelBufferCreate(nil, width, height, kCVPixelFormatType_32BGRA, attributes, &made)
        guard let buffer = made else { throw VecaError.pixelBuffer(status) }
        return buffer
    }

    /// Changes the number of core tokens. Frames keep running on the old variant until the new one is loaded.
    ///
    /// Of calls that overlap the last one decides; the earlier ones then return without a change.
    public func use(coreCount: Int) async throws {
        let next = try Variant.find(coreCount: coreCount, width: variant.width, height: variant.height)
        wanted = coreCount
        try await change(to: next)
    }

    /// Runs fewer cores while the device is hot, and comes back when it has cooled down, until the task is cancelled.
    public nonisolated func followThermalState() -> Task<Void, Never> {
        Task { [weak self] in
            let changes = NotificationCenter.default.notifications(named: ProcessInfo.thermalStateDidChangeNotification)
            await self?.adapt(to: ProcessInfo.processInfo.thermalState)
            for await _ in changes {
                guard let self else { return }
                await self.adapt(to: ProcessInfo.processInfo.thermalState)
            }
        }
    }

    /// What to run in a thermal state: the next fewer cores when it is serious, the fewest when it is critical.
    static func coreCount(for state: ProcessInfo.ThermalState, wanted: Int) -> Int {
        CoreControl.coreCount(for: state, wanted: wanted, among: coreCounts)
    }

    private func adapt(to state: ProcessInfo.ThermalState) async {
        do {
            let coreCount = Self.coreCount(for: state, wanted: wanted)
            try await change(to: try Variant.find(coreCount: coreCount, width: variant.width, height: variant.height))
        } catch {
            let stay = "staying at \(variant.coreCount) cores: \(error)"
            Logger(subsystem: "Veca", category: "thermal").error("\(stay, privacy: .public)")
        }
    }

    private func change(to next: Variant) async throws {
        changes += 1
        let change = changes
        guard next.coreCount != variant.coreCount else { return }
        let loaded = try await next.load(computeUnits)
        // A later change may have begun meanwhile, and even ended.
        guard change == changes else { return }
        (model, variant) = (loaded, next)
    }
}

extension Variant {
    static func find(coreCount: Int, width: Int, height: Int) throws -> Variant {
        guard let found = all.first(where: { ($0.coreCount, $0.width, $0.height) == (coreCount, width, height) }) else {
            throw VecaError.unknownVariant(coreCount: coreCount, known: Veca.coreCounts)
        }
        return found
    }

    /// Whether the model takes a pixel buffer as it is.
    func isFitting(_ frame: CVPixelBuffer) -> Bool {
        CVPixelBufferGetPixelFormatType(frame) == kCVPixelFormatType_32BGRA
            && CVPixelBufferGetWidth(frame) == width && CVPixelBufferGetHeight(frame) == height
    }

    func load(_ computeUnits: MLComputeUnits) async throws -> MLModel {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        if let function, #available(iOS 18.0, macOS 15.0, *) {
            configuration.functionName = function
        }
        return try await MLModel.load(contentsOf: try await compiled(), configuration: configuration)
    }

    /// The compiled model. It is kept in one place: the system finds what it prepared for the Neural Engine by it.
    private func compiled() async throws -> URL {
        if let built = Bundle.module.url(forResource: package, withExtension: "mlmodelc") { return built }
        guard let source = Bundle.module.url(forResource: package, withExtension: "mlpackage") else {
            throw VecaError.missingModel(package)
        }
        let files = FileManager.default
        let caches = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        let kept = caches.appendingPathComponent("\(package)-\(digest).mlmodelc")
        if files.fileExists(atPath: kept.path) { return kept }
        let fresh = try await MLModel.compileModel(at: source)
        defer { try? files.removeItem(at: fresh) }  // there only where it was not moved
        do {
            try files.moveItem(at: fresh, to: kept)
        } catch where files.fileExists(atPath: kept.path) {
            // Another load was faster.
        }
        return kept
    }
}
