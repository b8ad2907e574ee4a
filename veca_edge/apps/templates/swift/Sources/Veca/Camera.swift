@preconcurrency import AVFoundation

public enum CameraError: Error {
    /// The device has no camera at its back, or another app holds it.
    case missing
    /// The camera gives no frames in 32BGRA.
    case unsuitable
}

/// The frames of the camera at the back, upright; those that come while one is looked at are dropped.
public actor Camera {
    /// The newest frame, again and again, for one reader.
    public nonisolated let frames: AsyncStream<Frame>

    private let session = AVCaptureSession()
    private let receiver: Receiver
    private let queue = DispatchQueue(label: "Veca.Camera")
    private var isConfigured = false

    public init() {
        let (frames, arrived) = AsyncStream.makeStream(of: Frame.self, bufferingPolicy: .bufferingNewest(1))
        self.frames = frames
        receiver = Receiver(arrived)
    }

    /// Asks the user, the first time. False is no: frames then never come.
    public static func isAllowed() async -> Bool { await AVCaptureDevice.requestAccess(for: .video) }

    public func start() throws {
        if !isConfigured { try configure() }
        isConfigured = true
        session.startRunning()
    }

    public func stop() { session.stopRunning() }

    private func configure() throws {
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back) else {
            throw CameraError.missing
        }
        let (input, output) = (try AVCaptureDeviceInput(device: device), AVCaptureVideoDataOutput())
        session.beginConfiguration()
        defer { session.commitConfiguration() }
        session.sessionPreset = .vga640x480
        output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(receiver, queue: queue)
        guard session.canAddInput(input), session.canAddOutput(output) else { throw CameraError.unsuitable }
        session.addInput(input)
        session.addOutput(output)
        if let connection = output.connection(with: .video), connection.isVideoRotationAngleSupported(90) {
            connection.videoRotationAngle = 90
        }
    }
}

private final class Receiver: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate, Sendable {
    private let arrived: AsyncStream<Frame>.Continuation

    init(_ arrived: AsyncStream<Frame>.Continuation) { self.arrived = arrived }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        if let buffer = CMSampleBufferGetImageBuffer(sampleBuffer) { arrived.yield(Frame(buffer)) }
    }
}
